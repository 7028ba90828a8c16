// What ifcfg files say beside addresses, on a guest with initscripts and firewalld and without NetworkManager.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { json, ok, shell } from '../confirm/router.ts';
import { IFUP_POST } from '../lab/initscripts.ts';
import { ADDRESSES, createLab, type Lab, PROGRAM } from '../lab/lab.ts';
import { BUS, BUS_CONFIGURATION } from '../lab/networkmanager.ts';
import { IFCFGS } from '../lab/profiles.ts';
import { eip, nics } from '../scenarios/change.ts';

const OURS = `${IFCFGS}/ifcfg-eth0`;
const BACKUP = '/var/lib/kylin-vr/backup';
/** Where ours belongs, as an installer leaves it. */
const THEIRS = `DEVICE=eth0
BOOTPROTO=static
IPADDR=203.0.113.37
PREFIX=24
ZONE="external"
DNS1=203.0.113.2
DNS2='2001:db8::53' # the other one
DOMAIN="a.example b.example"
RES_OPTIONS="$(touch /run/ran)"
`;
const KEPT = { zone: 'external', dns: ['203.0.113.2', '2001:db8::53'], dnsSearch: ['a.example', 'b.example'] };
const config = `${nics}eip_list:\n${eip('203.0.113.50', ADDRESSES.v)}`;

type Seen = { nics: { mac: string; device: string; kept?: object }[]; warnings: { message: string }[] };
const keptOn = async (lab: Lab, device = 'eth0') =>
  (await json<Seen>(lab, 'status')).nics.find((nic) => nic.device === device)?.kept;
const stepsOf = async (lab: Lab) => (await json(lab, 'reload', '--trigger', 'timer')).steps.map(({ text }) => text);

describe('zone and DNS of ifcfg files', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    await lab.router.write(BUS_CONFIGURATION, BUS);
    await lab.router.write('/usr/local/sbin/ifup-post', IFUP_POST, 0o755);
    await shell(
      lab,
      `dbus-daemon --config-file=${BUS_CONFIGURATION} --fork --nopidfile
       /usr/sbin/firewalld --nofork --nopid > /run/firewalld.log 2>&1 < /dev/null &
       timeout 60 sh -c 'until firewall-cmd --state; do sleep 0.1; done' > /dev/null 2>&1 || { cat /run/firewalld.log >&2; exit 1; }`,
    );
  });
  after(() => lab?.close());
  const zone = () => shell(lab, 'firewall-cmd --get-zone-of-interface=eth0 2>&1 || true');

  it('are carried over from the file that ours replaces; what is more than plain text is not, is not run, and is said', async () => {
    await lab.router.write(OURS, THEIRS);
    await lab.configure(config);
    const said = `${OURS} says dns-options "$(touch /run/ran)", which the profile of eth0 cannot keep: see to it elsewhere where it is needed`;
    assert.ok((await json(lab, 'plan')).warnings.some(({ message }) => message === said));
    const { status, warnings } = await json(lab, 'reload');
    assert.equal(status, 0);
    assert.ok(warnings.some(({ message }) => message === said));
    assert.deepEqual(await keptOn(lab), KEPT);
    assert.equal(await lab.router.read(`${BACKUP}/ifcfg-eth0`), THEIRS);
    assert.equal(await lab.router.read('/run/ran'), undefined);
    assert.doesNotMatch((await ok(lab, 'status')).stdout, /cannot keep/);
    assert.deepEqual(await stepsOf(lab), []);
  });

  it('work at boot', async () => {
    await shell(lab, 'bash --norc /usr/local/sbin/ifup-post eth0');
    assert.equal(await zone(), 'external\n');
    assert.equal(await shell(lab, 'cat /etc/resolv.conf'), 'nameserver 203.0.113.2\nnameserver 2001:db8::53\n');
  });

  it('a zone that firewall-cmd --permanent writes into our file stays', async () => {
    await shell(lab, 'firewall-cmd --permanent --zone=drop --change-interface=eth0');
    assert.match((await lab.router.read(OURS)) ?? '', /^ZONE=drop$/m);
    // It writes the file anew, for root's eyes alone.
    assert.deepEqual(await stepsOf(lab), [`~ file ${OURS}`]);
    assert.deepEqual(await keptOn(lab), { ...KEPT, zone: 'drop' });
    assert.deepEqual(await stepsOf(lab), []);
    await shell(lab, 'bash --norc /usr/local/sbin/ifup-post eth0');
    assert.equal(await zone(), 'drop\n');
  });

  it('go with the NIC when it is renamed, and into the other format and back', async () => {
    await shell(lab, 'ip link set eth0 down; ip link set eth0 name wan0; ip link set wan0 up');
    await stepsOf(lab);
    assert.deepEqual(await keptOn(lab, 'wan0'), { ...KEPT, zone: 'drop' });
    await shell(lab, 'ip link set wan0 down; ip link set wan0 name eth0; ip link set eth0 up');
    await stepsOf(lab);
    assert.deepEqual(await keptOn(lab), { ...KEPT, zone: 'drop' });
    await shell(lab, 'mkdir -p -m 700 /etc/NetworkManager/system-connections');
    const { warnings } = await json(lab, 'reload', '--renderer', 'keyfile');
    assert.ok(
      warnings.some(
        ({ message }) =>
          message ===
          `${OURS} says dns 2001:db8::53, which the profile of eth0 cannot keep: see to it elsewhere where it is needed`,
      ),
    );
    await ok(lab, 'reload');
    assert.deepEqual(await keptOn(lab), { ...KEPT, zone: 'drop', dns: ['203.0.113.2'] });
  });

  it('what an operator writes into our file stays, and what he takes out stays out', async () => {
    await shell(lab, `printf '%s\\n' RES_OPTIONS=rotate ZONE=work >> ${OURS}`);
    assert.deepEqual(await stepsOf(lab), [`~ file ${OURS}`]);
    assert.deepEqual(await keptOn(lab), { ...KEPT, zone: 'work', dns: ['203.0.113.2'], dnsOptions: ['rotate'] });
    await shell(lab, `sed -i '/ZONE=\\|DNS1=\\|DOMAIN=\\|RES_OPTIONS=/d' ${OURS}`);
    await stepsOf(lab);
    assert.equal(await keptOn(lab), undefined);
    assert.match((await lab.router.read(OURS)) ?? '', /^PEERDNS=no$/m);
    assert.deepEqual(await stepsOf(lab), []);
  });

  it('of a NIC that is a port, and has no profile, nothing is kept, which is said', async () => {
    await lab.configure('if_list: []\n');
    await ok(lab, 'reload');
    await lab.router.write(OURS, THEIRS.replace(/RES_OPTIONS.*\n/, ''));
    await lab.configure(config.replace('gateway: 203.0.113.1', '$&, bridge: br0, bridge-type: linux'));
    const said =
      `${OURS} says zone external, dns 203.0.113.2 2001:db8::53, dns-search a.example b.example, ` +
      'which the profile of eth0 cannot keep: see to it elsewhere where it is needed';
    assert.ok((await json(lab, 'reload')).warnings.some(({ message }) => message === said));
    assert.equal(await keptOn(lab), undefined);
  });
});

it('a first run that is killed at any instant loses nothing of what it replaces', async (t) => {
  const lab = await createLab({ networkScripts: true });
  t.after(() => lab.close());
  const theirs = THEIRS.replace(/RES_OPTIONS.*\n/, '');
  const fresh = async () => {
    await lab.configure('if_list: []\n');
    await ok(lab, 'reload');
    await shell(lab, `rm -rf ${BACKUP}; rm -f /mnt/trace`);
    await lab.router.write(OURS, theirs);
    await lab.configure(config);
  };
  const run = (order: object) =>
    lab.router.run(
      [process.execPath, '--require', join(import.meta.dirname, '../reliability/kill-hook.cjs'), PROGRAM, 'reload'],
      { env: { KYLIN_VR_KILL: JSON.stringify({ trace: '/mnt/trace', ...order }) } },
    );
  await fresh();
  assert.equal((await run({})).status, 0);
  const trace = ((await lab.router.read('/mnt/trace')) ?? '').split('\n').map((line) => line.replace(/^\S+ /, ''));
  const instants = [...new Set(trace)].filter((what) =>
    /^after (copyFile|rename|unlink)Sync \S*ifcfg-eth0$/.test(what),
  );
  t.diagnostic(`${instants.length} instants`);
  assert.ok(instants.length > 2, instants.join());
  for (const at of instants) {
    await fresh();
    await run({ at, whom: 'node' });
    await ok(lab, 'reload');
    assert.deepEqual(await keptOn(lab), KEPT, at);
    assert.equal(await lab.router.read(`${BACKUP}/ifcfg-eth0`), theirs, at);
  }
});
