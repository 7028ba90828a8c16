// NetworkManager 1.18, as EL 7 has it, stood in for by today's whose words are made those of the old one.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { createManagedLab } from '../lab/path.ts';
import { watchKernel } from '../lab/profiles.ts';
import { recordTools } from '../lab/tools.ts';
import { inSync, reload, shell } from '../scenarios/managed.ts';

const config = (...eips: string[]) => `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
${eips.map((eip) => `  - { eip: ${eip}, vm-ip: ${ADDRESSES.v} }\n`).join('')}`;

/** What somebody else has set up is `connected` only; `general reload` came with 1.22. */
const NMCLI = `case "$*" in
  *"device status") $real "$@" > /mnt/said; status=$?; sed 's/ (externally)//' /mnt/said; exit $status ;;
  "general reload"*) echo "Error: argument 'reload' not understood. Try passing --help instead." >&2; exit 2 ;;
esac`;

/** The flags of a profile have no EXTERNAL, and Reapply takes none. */
const BUSCTL = `case "$*" in
  *" Reapply "*) echo 'Invalid flags specified' >&2; exit 1 ;;
  *" Flags") $real "$@" > /mnt/said; read -r type flags < /mnt/said; echo "$type $((flags & 7))"; exit 0 ;;
esac`;

describe('NetworkManager 1.18', () => {
  it('a NIC set up by hand is taken over, and no address goes; then it is changed by what the old one knows', async (t) => {
    const lab = await createManagedLab('keyfile');
    t.after(() => lab.close());
    await lab.manager.stop();
    await shell(
      lab,
      'rm -rf /run/NetworkManager; ip link set eth0 up; ip address add 203.0.113.37/24 dev eth0; ip route add default via 203.0.113.1',
    );
    await lab.manager.restart();
    await eventually(() => shell(lab, 'nmcli -t -f DEVICE,STATE device | grep eth0'), 'eth0:connected (externally)\n');
    const tools = await recordTools(lab.router);
    await tools.before('nmcli', NMCLI);
    await tools.before('busctl', BUSCTL);
    assert.equal(await shell(lab, 'nmcli -t -f DEVICE,STATE device status | grep eth0'), 'eth0:connected\n');

    const watch = await watchKernel({ lab, sh: (script) => shell(lab, script) });
    await reload(lab, config('203.0.113.50'));
    const gone = (changes: readonly string[]) => changes.filter((change) => /^- \S+\/\d+$/.test(change));
    assert.deepEqual(gone(await watch.taken(2)), []);
    await inSync(lab);
    const profile = await shell(lab, 'nmcli -g NAME connection show --active');
    assert.match(profile, /^kylin-vr-eth0$/m);

    await reload(lab, config('203.0.113.50', '203.0.113.51'));
    await reload(lab, config('203.0.113.51'));
    assert.deepEqual(gone(await watch.taken(1)), ['- 203.0.113.50/32']);
    await inSync(lab);
  });

  for (const [how, busctl] of [
    ['over D-Bus', BUSCTL],
    ['not at all, where there is no busctl that answers', 'exit 1'],
  ] as const)
    it(`its configuration is read anew ${how}, and no reload fails for want of nmcli’s words`, async (t) => {
      const lab = await createManagedLab('keyfile');
      t.after(() => lab.close());
      const tools = await recordTools(lab.router);
      await tools.before('nmcli', NMCLI);
      await tools.before('busctl', busctl);
      await reload(lab, config('203.0.113.50'));
      const calls = (await tools.taken()).map(({ command }) => command);
      assert.ok(
        calls.some((call) => call.endsWith('org.freedesktop.NetworkManager Reload u 1')),
        calls.join('\n'),
      );
      await inSync(lab);
      await reload(lab, 'if_list: []\n');
    });
});
