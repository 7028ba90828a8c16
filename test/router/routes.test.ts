// Whose a route is: ours as long as it is wanted, whatever leads there beside it, and gone when it is not, whoever made it for us.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { apply, json, shell } from '../confirm/router.ts';
import { createLab, type Lab, type LabOptions, NICS } from '../lab/lab.ts';

const [U, A] = [NICS.public.mac, NICS.a.mac];
const uplink = `  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }\n`;
const subnet = `  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }\n`;
const further = 'route_list:\n  - { dest: 172.24.0.0/16, via: 10.10.1.12 }\n';
const config = `if_list:\n${uplink}${subnet}${further}`;

async function routerWith(t: TestContext, options: LabOptions = {}): Promise<Lab> {
  const lab = await createLab(options);
  t.after(() => lab.close());
  await apply(lab, config);
  return lab;
}

const throughGateways = async (lab: Lab) =>
  (await shell(lab, "ip route show | grep ' via ' || true")).replaceAll(' \n', '\n');

const foreignIn = async (lab: Lab) =>
  (await json<{ foreign: { kind: string; text: string }[] }>(lab, 'status')).foreign
    .filter(({ kind }) => kind === 'route')
    .map(({ text }) => text);

/** Routes as ifup-eth and ifup-routes of initscripts make them from our files: by `ip`, without a protocol. */
const IFUP = `
  cd /etc/sysconfig/network-scripts
  ip route flush proto 175
  for file in ifcfg-*; do (
    . ./$file
    [ -z "$GATEWAY" ] || ip route replace default \${METRIC:+metric $METRIC} via $GATEWAY dev $DEVICE
    [ ! -e route-$DEVICE ] || grep -v '^#' route-$DEVICE | while read -r line; do ip route add $line; done
  ) done`;

describe('routes that initscripts made from our files', () => {
  const made = 'default via 203.0.113.1 dev eth0\n172.24.0.0/16 via 10.10.1.12 dev eth1\n';

  for (const [change, text, left] of [
    ['a route leaves the file', config.replace(further, ''), 'default via 203.0.113.1 dev eth0\n'],
    [
      'the uplink has no gateway any more',
      config.replace(', gateway: 203.0.113.1', ''),
      '172.24.0.0/16 via 10.10.1.12 dev eth1\n',
    ],
    [
      'the gateway changes',
      config.replace('gateway: 203.0.113.1', 'gateway: 203.0.113.9'),
      'default via 203.0.113.9 dev eth0 proto 175\n172.24.0.0/16 via 10.10.1.12 dev eth1\n',
    ],
    [
      'its gateway changes',
      config.replace('via: 10.10.1.12', 'via: 10.10.1.11'),
      'default via 203.0.113.1 dev eth0\n172.24.0.0/16 via 10.10.1.11 dev eth1 proto 175\n',
    ],
    ['nothing is wanted any more', 'if_list: []\n', ''],
  ] as const)
    it(`are ours, and go when ${change}; what others made stays, and is shown`, async (t) => {
      const lab = await routerWith(t, { networkScripts: true });
      await shell(lab, IFUP);
      const foreign = 'default via 203.0.113.1 dev eth0 metric 500\n';
      await shell(lab, `ip route add ${foreign}`);
      const [first = '', second = ''] = made.split(/(?<=\n)/);
      assert.equal(await throughGateways(lab), first + foreign + second);
      assert.equal((await json(lab, 'reload')).result, 'unchanged');
      assert.deepEqual(await foreignIn(lab), ['default via 203.0.113.1 proto boot metric 500']);

      await apply(lab, text);
      const lines = left.split(/(?<=\n)/);
      const defaults = lines.filter((line) => line.startsWith('default')).join('');
      const others = lines.filter((line) => !line.startsWith('default')).join('');
      // With the last address of a NIC every route goes that leads by its network.
      const stays = text.includes(U) ? foreign : '';
      assert.equal(await throughGateways(lab), defaults + stays + others);
      assert.equal((await json(lab, 'reload')).result, 'unchanged');
    });

  it('come back with a change that is taken back', async (t) => {
    const lab = await routerWith(t, { networkScripts: true });
    await shell(lab, IFUP);
    await apply(lab, 'if_list: []\n', '--confirm-within', '60');
    assert.equal(await throughGateways(lab), '');
    assert.equal((await json(lab, 'rollback')).status, 0);
    assert.equal(await throughGateways(lab), made);
  });
});

/** With profiles they are what those ask for. */
const AS_PROFILES: ReadonlySet<string> = new Set(['and is the same', 'and was there before ours']);

describe('a route of ours stays where another leads to the same gateway', () => {
  const ours = 'default via 203.0.113.1 dev eth0 proto 175\n172.24.0.0/16 via 10.10.1.12 dev eth1 proto 175\n';

  for (const [what, script, gone] of [
    ['by a worse metric', 'ip route add default via 203.0.113.1 metric 500', 'ip route delete default metric 500'],
    [
      'by a worse metric, made as NetworkManager makes it',
      'ip route add default via 203.0.113.1 proto static metric 100',
      'ip route delete default metric 100',
    ],
    ['and is the same', 'ip route append default via 203.0.113.1 dev eth0', 'ip route delete default proto boot'],
    [
      'and was there before ours',
      'ip route prepend default via 203.0.113.1 dev eth0',
      'ip route delete default proto boot',
    ],
    [
      'to a network of route_list',
      'ip route add 172.24.0.0/16 via 10.10.1.12 metric 7',
      'ip route delete 172.24.0.0/16 metric 7',
    ],
    [
      'by a lease, whose address goes',
      `ip address add 203.0.113.77/24 dev eth0 valid_lft 3600 preferred_lft 3600
       ip route add default via 203.0.113.1 dev eth0 proto dhcp src 203.0.113.77 metric 1024`,
      'true',
    ],
    [
      'by a lease and no worse, whose address goes',
      `ip address add 203.0.113.77/24 dev eth0 valid_lft 3600 preferred_lft 3600
       ip route prepend default via 203.0.113.1 dev eth0 proto dhcp src 203.0.113.77`,
      'true',
    ],
  ] as const)
    for (const networkScripts of AS_PROFILES.has(what) ? [false] : [false, true])
      it(`${what}${networkScripts ? ', with profiles' : ''}`, async (t) => {
        const lab = await routerWith(t, { networkScripts });
        await shell(lab, script);
        const pid = (await shell(lab, 'timeout 60 ip monitor route > /run/routes 2>&1 & echo $!')).trim();
        assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
        assert.equal((await json(lab, 'reload')).result, 'unchanged');
        await shell(lab, `${gone}; kill ${pid}`);
        assert.equal(await throughGateways(lab), ours);
        assert.doesNotMatch(await shell(lab, 'cat /run/routes'), /Deleted .* proto 175/);
      });
});
