// Whatever an image has made NetworkManager's default for connections: our profiles are what they are.

import assert from 'node:assert/strict';
import { before, describe } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { createManagedLab, type ManagedLab, NAME_OF, type PathLabOptions } from '../lab/path.ts';
import { FOREIGN, KEYFILES, keyfile, watchKernel } from '../lab/profiles.ts';
import { networkOf } from '../lab/state.ts';
import { createTraffic } from '../lab/traffic.ts';
import { builtRelease, RELEASE_1_0 } from '../upgrade/release.ts';
import { eip, nics } from './change.ts';
import { inLabsOn } from './in-lab.ts';
import { inSync, kylin, reboot, reload, shell } from './managed.ts';

const FOLDER = '/etc/NetworkManager/conf.d';
const OURS = `${FOLDER}/zz-kylin-vr.conf`;
const withEips = (...eips: string[]) =>
  `${nics}eip_list:\n${eips.map((address) => eip(address, ADDRESSES.v)).join('')}`;
const two = withEips('203.0.113.50', '203.0.113.51');
const three = withEips('203.0.113.50', '203.0.113.51', '203.0.113.52');
const RANDOM = '[connection]\nethernet.cloned-mac-address=random\n';

/** Each by itself ends a profile of ours that says nothing of it. */
const FATAL = [
  'ethernet.cloned-mac-address=random',
  'ethernet.cloned-mac-address=stable',
  'ethernet.cloned-mac-address=52:54:00:00:00:01',
  'ipv4.route-table=100',
];

/** What our profiles say themselves, or what is nothing to them. */
const OTHERS = [
  'ethernet.wake-on-lan=0',
  'ipv4.dad-timeout=3000',
  'ipv4.route-metric=700',
  'ipv4.required-timeout=20000',
  'ipv4.dns-priority=-50',
  'ipv6.route-metric=700',
  'ipv6.route-table=100',
  'ipv6.ip6-privacy=2',
  'ipv6.addr-gen-mode=1',
  'ipv6.required-timeout=20000',
  'connection.lldp=1',
  'connection.mdns=2',
  'connection.llmnr=2',
  'connection.auth-retries=1',
  'connection.autoconnect-slaves=1',
  'connection.stable-id=$' + '{RANDOM}',
  'connection.mptcp-flags=0x2',
];

export function defaults(path: 'keyfile' | 'ifcfg'): void {
  const inLab = inLabsOn(path);
  const among = (configuration: string): PathLabOptions => ({ manager: { configuration } });

  describe(`defaults of an image: ${NAME_OF[path]}`, { concurrency: false }, () => {
    let plain = '';
    const asPlain = async (lab: ManagedLab) => {
      assert.equal(await networkOf(lab.router), plain);
      assert.deepEqual(await macs(lab), OWN_MACS);
      await inSync(lab);
    };
    before(async () => {
      const lab = await createManagedLab(path);
      try {
        await activates(lab);
        plain = await networkOf(lab.router);
      } finally {
        await lab.close();
      }
    });

    for (const [what, section] of [
      ...FATAL.map((line) => [line, `[connection]\n${line}\n`] as const),
      ['all of these, and the end of the search', `[connection-0]\nstop-match=yes\n${FATAL.join('\n')}\n`],
      [`${OTHERS[0]}, and ${OTHERS.length - 1} others`, `[connection]\n${OTHERS.join('\n')}\n`],
    ] as const)
      inLab(
        `${what}: one round, the same network, and in sync; after a reboot, too`,
        async (lab) => {
          await activates(lab);
          await asPlain(lab);
          await reboot(lab);
          await asPlain(lab);
        },
        among(section),
      );

    inLab(
      'ethernet.mtu=1300 holds for a NIC of which the file names none, before and after',
      async (lab) => {
        const mtu = async () => Number(await shell(lab, 'cat /sys/class/net/eth0/mtu'));
        for (const [config, expected] of [
          [two, 1300],
          [two.replace('gateway: 203.0.113.1 ', 'gateway: 203.0.113.1, mtu: 1400 '), 1400],
          [two, 1300],
          [three, 1300],
        ] as const) {
          await reload(lab, config);
          assert.equal(await mtu(), expected);
          await inSync(lab);
        }
      },
      among('[connection]\nethernet.mtu=1300\n'),
    );

    inLab(
      'start writes the file while NetworkManager is at work, and a NIC comes later',
      async (lab) => {
        await lab.router.unplug(NICS.b);
        await lab.configure(two);
        assert.equal((await lab.kylin('start')).status, 0);
        await reload(lab, two);
        await lab.router.plug(NICS.b);
        await reload(lab, two);
        await asPlain(lab);
      },
      among(RANDOM),
    );

    inLab(
      "other NICs have the image's defaults, and all of them where the file names none",
      async (lab) => {
        const without = two.replace(/.*10\.10\.2\.254.*\n/, '');
        assert.notEqual(without, two);
        await reload(lab, without);
        const mac = async () => (await macs(lab)).find((each) => each.startsWith('eth2 ')) ?? '';
        const theirs = keyfile({
          name: 'theirs',
          uuid: FOREIGN,
          mac: NICS.b.mac,
          addresses: ['10.10.2.254/24'],
          gateway: undefined,
        });
        await lab.router.write(`${KEYFILES}/theirs.nmconnection`, theirs, 0o600);
        await shell(lab, `nmcli connection load ${KEYFILES}/theirs.nmconnection`);
        await eventually(() => shell(lab, 'nmcli -t -g GENERAL.CON-UUID device show eth2'), `${FOREIGN}\n`);
        assert.notEqual(await mac(), `eth2 ${NICS.b.mac}`);
        assert.deepEqual((await macs(lab)).slice(0, 2), OWN_MACS.slice(0, 2));
        await reload(lab, 'if_list: []\n');
        assert.equal(await lab.router.read(OURS), undefined);
      },
      among(RANDOM),
    );

    inLab(
      'a file that is read after ours: the error names it, nothing else is tried, and all is as before',
      async (lab) => {
        await activates(lab);
        await lab.router.unplug(NICS.b);
        await reload(lab, two);
        const found = await networkOf(lab.router);
        const theirs = `${FOLDER}/zzz-hardening.conf`;
        await lab.router.write(theirs, '[connection-0]\nmatch-device=*\nethernet.cloned-mac-address = random\n');
        await lab.router.plug(NICS.b);
        const { status, report } = await kylin(lab, two);
        assert.equal(status, 69);
        assert.match(
          report.errors[0]?.message ?? '',
          /^NetworkManager gave eth2 the MAC \S+ in place of its own, 52:54:84:11:00:05, by ethernet\.cloned-mac-address in its configuration \(random in \/etc\/NetworkManager\/conf\.d\/zzz-hardening\.conf, which is read after zz-kylin-vr\.conf\): take that away, run nmcli general reload, then kylin-vr reload; the network is as it was before/,
        );
        assert.equal(report.steps.filter(({ text }) => text.startsWith('~ profile of eth2 ')).length, 1);
        assert.equal(await networkOf(lab.router), found);
        await shell(lab, `rm ${theirs}; nmcli general reload`);
        await reload(lab, two);
        await asPlain(lab);
      },
    );

    inLab(
      'an upgrade of a router at work: nothing is reapplied or activated, no packet lost; the next boot has it',
      async (lab) => {
        const program = await builtRelease(RELEASE_1_0);
        await lab.configure(two);
        await lab.router.run([process.execPath, program, 'reload'], { check: true });
        assert.equal(await lab.router.read(OURS), undefined);
        // Hardened since: at the next activation only it would have been another router.
        await lab.router.write(`${FOLDER}/99-hardening.conf`, RANDOM);
        const watch = await watchKernel({ lab, sh: (script) => shell(lab, script) });
        const pings = await createTraffic(lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });
        const { steps } = JSON.parse((await lab.kylin('reload', '--trigger', 'timer', '--json')).stdout);
        const texts = (steps as { text: string }[]).map(({ text }) => text);
        assert.ok(texts.includes(`+ file ${OURS}`) && texts.includes('~ configuration read by NetworkManager'));
        assert.match(
          (await lab.router.read(OURS)) ?? '',
          /^# Made by kylin-vr from \/etc\/kylin-vr\/kylin-vr\.yaml: edits are lost with the next reload\.\n\[connection-kylin-vr\]$/m,
        );
        assert.deepEqual(
          texts.filter((text) => / (address|profiles?) /.test(text)),
          [],
        );
        assert.equal(JSON.parse((await lab.kylin('status', '--json')).stdout).inSync, true);
        assert.deepEqual(await watch.taken(), []);
        // It goes on being reapplied, as no profile with a key that is new to it would be.
        await reload(lab, three);
        assert.deepEqual(await watch.taken(1), ['+ 203.0.113.52/32']);
        await reload(lab, two);
        assert.deepEqual(await watch.taken(1), ['- 203.0.113.52/32']);
        const { sent, lost } = await pings.stop();
        assert.ok(sent > 100 && lost === 0, `${lost} of ${sent} pings lost`);
        await reboot(lab);
        await asPlain(lab);
      },
    );
  });
}

const OWN_MACS = Object.values(NICS).map(({ device, mac }) => `${device} ${mac}`);

const macs = async (lab: ManagedLab) =>
  [...(await shell(lab, 'ip -br link')).matchAll(/^(eth\d)\S* +\S+ +(\S+)/gm)].map(([, name, mac]) => `${name} ${mac}`);

/** By one round: what is taken back and tried again is activated again. */
async function activates(lab: ManagedLab): Promise<void> {
  const { steps } = await reload(lab, two);
  assert.deepEqual(
    steps.map(({ text }) => text).filter((text) => text.startsWith('~ profile of ')),
    Object.values(NICS).map(({ device }) => `~ profile of ${device} activated by NetworkManager`),
  );
}
