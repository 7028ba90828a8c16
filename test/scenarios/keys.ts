// What a profile says beside addresses, with a real NetworkManager and a real firewalld: it is carried over from the profile that ours
// replaces, and what others put into ours stays.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ifcfgRenderer } from '../../src/dialects/ifcfg.ts';
import { keyfileRenderer } from '../../src/dialects/keyfile.ts';
import { apply, json, ok, shell } from '../confirm/router.ts';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { createManagedLab, type ManagedLab, NAME_OF } from '../lab/path.ts';
import { IFCFGS, ifcfg, KEYFILES, keyfile, watchKernel } from '../lab/profiles.ts';
import { recordTools } from '../lab/tools.ts';
import { config, desired, link, UPLINK } from '../network/fixtures.ts';
import { eip } from './change.ts';

const { v } = ADDRESSES;
const nics = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
`;
const one = `${nics}eip_list:\n${eip('203.0.113.50', v)}`;
const two = `${one}${eip('203.0.113.51', v)}`;

const FILES = {
  keyfile: {
    ours: `${KEYFILES}/kylin-vr-eth0.nmconnection`,
    theirs: `${KEYFILES}/image.nmconnection`,
    mode: 0o600,
  },
  ifcfg: { ours: `${IFCFGS}/ifcfg-eth0`, theirs: `${IFCFGS}/ifcfg-image`, mode: 0o644 },
} as const;

/** As an image leaves it. */
const THEIRS = {
  keyfile: keyfile({ name: 'image', addresses: ['203.0.113.37/24'] })
    .replace('[ethernet]', 'zone=external\n[ethernet]')
    .replace('[ipv6]', 'dns=203.0.113.2;203.0.113.3;\ndns-search=image.example;\n[ipv6]')
    .replace('method=ignore', 'method=auto\ndns=2001:db8::53;'),
  ifcfg: ifcfg({
    name: 'image',
    addresses: ['203.0.113.37/24'],
    lines: ['ZONE=external', 'DNS1=203.0.113.2', 'DNS2="203.0.113.3"', "DOMAIN='image.example'"],
  }),
} as const;

const IMAGES = { zone: 'external', dns: ['203.0.113.2', '203.0.113.3'], dnsSearch: ['image.example'] };

export function keys(path: 'keyfile' | 'ifcfg'): void {
  describe(`zone and DNS of profiles: ${NAME_OF[path]}`, { concurrency: false }, () => {
    const { ours, theirs, mode } = FILES[path];
    let lab: ManagedLab;
    before(async () => {
      lab = await createManagedLab(path);
      await firewalld(lab);
    });
    after(() => lab?.close());

    const timer = () => json(lab, 'reload', '--trigger', 'timer');
    const steps = async () => (await timer()).steps.map(({ text }) => text);
    const kept = async () => {
      const { nics } = await json<{ nics: { device: string; kept?: unknown }[] }>(lab, 'status');
      return nics.find(({ device }) => device === 'eth0')?.kept;
    };
    const zone = () => shell(lab, 'firewall-cmd --get-zone-of-interface=eth0 2>&1 || true');
    const asked = () => shell(lab, "nmcli --terse --get-values IP4.DNS device show eth0 | tr -d ' '");
    const rewritten = [
      `~ file ${ours}`,
      `~ profiles read by NetworkManager: ${ours}`,
      '~ profile of eth0 reapplied by NetworkManager',
    ];

    it('are carried over from the profile that ours replaces, work, and are shown; what cannot be is said', async () => {
      await lab.router.write(theirs, THEIRS[path], mode);
      await shell(lab, `nmcli connection load ${theirs}; nmcli connection up image`);
      await eventually(zone, 'external\n');
      await lab.configure(one);
      const { status, warnings } = await json(lab, 'reload');
      assert.equal(status, 0);
      const said = warnings.map(({ message }) => message).filter((message) => message.startsWith(theirs));
      assert.deepEqual(
        said,
        path === 'ifcfg'
          ? []
          : [
              `${theirs} says dns 2001:db8::53, which the profile of eth0 cannot keep: see to it elsewhere where it is needed`,
            ],
      );
      assert.equal(await lab.router.read(theirs), undefined);
      assert.deepEqual(await kept(), IMAGES);
      assert.equal(await zone(), 'external\n');
      assert.equal(await asked(), '203.0.113.2|203.0.113.3\n');
      const { stdout } = await ok(lab, 'status');
      assert.match(
        stdout,
        /^Kept in profiles\n {2}eth0 {2}zone external, dns 203\.0\.113\.2 203\.0\.113\.3, dns-search image\.example$/m,
      );
      assert.deepEqual(await steps(), []);
    });

    it('stay when EIPs come and go', async () => {
      for (const config of [two, one]) {
        await apply(lab, config);
        assert.deepEqual([await kept(), await zone()], [IMAGES, 'external\n']);
      }
    });

    it('a zone that firewall-cmd --permanent gives stays, is no foreign profile, and no address is touched', async () => {
      const tools = await recordTools(lab.router);
      const watch = await watchKernel({ lab, sh: (script) => shell(lab, script) });
      await shell(lab, 'firewall-cmd --permanent --zone=drop --change-interface=eth0');
      await eventually(zone, 'drop\n');
      // NetworkManager writes a file anew, in its own order, a keyfile without our mark.
      assert.deepEqual(await steps(), rewritten);
      assert.deepEqual(await watch.taken(), []);
      assert.deepEqual([await kept(), await zone()], [{ ...IMAGES, zone: 'drop' }, 'drop\n']);
      assert.match((await lab.router.read(ours)) ?? '', /^# Made by kylin-vr/);
      assert.deepEqual(await steps(), []);
      const calls = (await tools.taken()).map(({ command }) => command);
      assert.deepEqual(
        calls.filter((call) => / connection up |foreign/.test(call)),
        [],
      );
      await apply(lab, two);
      assert.equal(await zone(), 'drop\n');
      await apply(lab, one);
    });

    it('what an operator adds with nmcli stays, and what he takes out stays out', async () => {
      await shell(
        lab,
        `nmcli connection modify kylin-vr-eth0 ipv4.dns 203.0.113.4 ipv4.dns-search 'a.example,~b.example' \
           ipv4.dns-options ndots:2,edns0 ipv4.dns-priority -7`,
      );
      await timer();
      const theirsNow = {
        zone: 'drop',
        dns: ['203.0.113.4'],
        dnsSearch: ['a.example', '~b.example'],
        dnsOptions: ['ndots:2', 'edns0'],
        dnsPriority: -7,
      };
      assert.deepEqual(await kept(), theirsNow);
      assert.equal(await asked(), '203.0.113.4\n');
      assert.deepEqual(await steps(), []);
      await shell(
        lab,
        `nmcli connection modify kylin-vr-eth0 connection.zone '' ipv4.dns '' ipv4.dns-search '' ipv4.dns-options '' ipv4.dns-priority 0`,
      );
      await timer();
      assert.equal(await kept(), undefined);
      assert.doesNotMatch((await lab.router.read(ours)) ?? '', /^(zone|dns|DOMAIN|RES_OPTIONS|IPV4_DNS)/im);
      assert.equal(await zone(), 'public\n');
      assert.deepEqual(await steps(), []);
    });

    it('what contradicts the configuration goes, and the zone beside it stays', async () => {
      await shell(
        lab,
        'nmcli connection modify kylin-vr-eth0 connection.zone drop +ipv4.addresses 203.0.113.99/24 ipv4.gateway 203.0.113.9',
      );
      assert.deepEqual(await steps(), rewritten);
      assert.deepEqual(await kept(), { zone: 'drop' });
      assert.doesNotMatch((await lab.router.read(ours)) ?? '', /113\.99|113\.9$/m);
    });

    it('a change that is taken back brings them back, too', async () => {
      await lab.configure(two);
      await ok(lab, 'reload', '--confirm-within', '60');
      await shell(lab, 'nmcli connection modify kylin-vr-eth0 connection.zone ""');
      await ok(lab, 'rollback');
      assert.deepEqual(await kept(), { zone: 'drop' });
      await apply(lab, one);
    });

    it('go into the other format by their meaning', async () => {
      await shell(
        lab,
        'nmcli connection modify kylin-vr-eth0 ipv4.dns 203.0.113.4 ipv4.dns-search a.example,b.example',
      );
      await timer();
      const had = await kept();
      const other = path === 'keyfile' ? 'ifcfg' : 'keyfile';
      await shell(lab, `mkdir -p ${KEYFILES} ${IFCFGS}`);
      // Without NetworkManager, which does not read the other one everywhere.
      await lab.manager.stop();
      await ok(lab, 'reload', '--renderer', other);
      assert.match(
        (await lab.router.read(FILES[other].ours)) ?? '',
        other === 'keyfile'
          ? /^zone=drop$.*^dns=203\.0\.113\.4;\ndns-search=a\.example;b\.example;$/ms
          : /^ZONE=drop\nDNS1=203\.0\.113\.4\nDOMAIN="a\.example b\.example"$/m,
      );
      assert.equal(await lab.router.read(ours), undefined);
      await ok(lab, 'reload', '--renderer', path);
      if (path === 'keyfile') await shell(lab, `rmdir ${IFCFGS}`);
      await lab.manager.restart();
      assert.deepEqual(await kept(), had);
    });

    it('the longest and oddest that is taken NetworkManager reads in our profile', async () => {
      const odd = {
        zone: 'z'.repeat(64),
        dns: Array.from({ length: 32 }, (_, n) => `192.0.2.${n}#${'n'.repeat(253)}`),
        dnsSearch: ['~.', '_x.y', 'a.', `${'a'.repeat(63)}.b`, '~c'],
        dnsOptions: ['nosuch:99999', 'ndots', 'rotate'],
        dnsPriority: -999_999_999,
      };
      const renderer = path === 'keyfile' ? keyfileRenderer : ifcfgRenderer;
      const [file] = desired(config({ nics: [{ ...UPLINK, mac: NICS.b.mac }] }), {
        renderer,
        links: [link('eth2', { mac: NICS.b.mac })],
        keys: new Map([['eth2', odd]]),
      }).files;
      assert.ok(file);
      assert.deepEqual(renderer.keys(file.content), { keys: odd, left: [] });
      await lab.router.write(file.path, file.content, file.mode);
      await shell(lab, `nmcli connection load ${file.path}`);
      const read = await shell(lab, 'nmcli --get-values connection.zone,ipv4.dns connection show kylin-vr-eth2');
      assert.deepEqual(read.trim().split('\n'), [odd.zone, odd.dns.join(',')]);
      await timer();
      assert.equal(await lab.router.read(file.path), undefined);
    });

    it('uninstall takes ours, also where NetworkManager took its mark, and brings back theirs as it was', async () => {
      await shell(lab, 'nmcli connection modify kylin-vr-eth0 connection.zone work');
      await ok(lab, 'uninstall');
      assert.equal(await lab.router.read(ours), undefined);
      assert.equal(await lab.router.read(theirs), THEIRS[path]);
    });
  });
}

async function firewalld(lab: ManagedLab): Promise<void> {
  await shell(
    lab,
    `/usr/sbin/firewalld --nofork --nopid > /run/firewalld.log 2>&1 < /dev/null &
     timeout 60 sh -c 'until firewall-cmd --state; do sleep 0.1; done' > /dev/null 2>&1 || { cat /run/firewalld.log >&2; exit 1; }`,
  );
}
