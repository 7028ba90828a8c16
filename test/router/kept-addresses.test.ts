// Addresses of others on a NIC of ours: those that the file allows stay, and what comes back each time is left after a while, and named.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { apply, json, ok, one, shell, until, warningsOf } from '../confirm/router.ts';
import { createLab, type Lab } from '../lab/lab.ts';

const withKept = (...kept: string[]) =>
  one.replace(/(ipaddr: 10\.10\.1\.254.*?) }/, `$1, keep-addresses: [${kept.join(', ')}] }`);

async function router(t: TestContext, config = one): Promise<Lab> {
  const lab = await createLab();
  t.after(() => lab.close());
  await apply(lab, config);
  return lab;
}

const timer = (lab: Lab) => json(lab, 'reload', '--trigger', 'timer');
const add = (lab: Lab, ...specs: string[]) =>
  shell(lab, specs.map((spec) => `ip address add ${spec} dev eth1`).join('\n'));
const on = async (lab: Lab) =>
  [...(await shell(lab, 'ip -4 -o address show dev eth1')).matchAll(/inet (\S+)/g)].map(([, spec]) => spec);

describe('addresses of others', { concurrency: true }, () => {
  it('that keep-addresses names stay, of the prefix length that it gives or of any, and no other ones', async (t) => {
    const lab = await router(t, withKept('10.0.0.5/32', '10.0.0.6'));
    await add(lab, '10.0.0.5/32', '10.0.0.6/24', '10.0.0.7/32', '10.0.1.5/24');
    const { steps, result } = await timer(lab);
    assert.deepEqual(
      [result, steps.map(({ text }) => text)],
      ['changed', ['- address 10.0.0.7/32 on eth1 (foreign)', '- address 10.0.1.5/24 on eth1 (foreign)']],
    );
    assert.deepEqual(await on(lab), ['10.10.1.254/24', '10.0.0.5/32', '10.0.0.6/24']);
    const { inSync, foreign } = await json<{ inSync: boolean; foreign: { text: string; goes: boolean }[] }>(
      lab,
      'status',
    );
    assert.deepEqual(
      [inSync, foreign.map(({ text, goes }) => `${text} ${goes}`)],
      [true, ['10.0.0.5/32 false', '10.0.0.6/24 false']],
    );
    assert.equal((await timer(lab)).result, 'unchanged');
    // Of another prefix length it is another address.
    await shell(lab, 'ip address del 10.0.0.5/32 dev eth1; ip address add 10.0.0.5/24 dev eth1');
    assert.deepEqual(
      (await timer(lab)).steps.map(({ text }) => text),
      ['- address 10.0.0.5/24 on eth1 (foreign)'],
    );
    await apply(lab, one);
    assert.deepEqual(await on(lab), ['10.10.1.254/24']);
  });

  it('that they allow stay where a change is taken back, and where it is made again', async (t) => {
    const lab = await router(t, withKept('10.0.0.5/32'));
    await add(lab, '10.0.0.5/32');
    for (const command of ['reload', 'rollback', 'reload']) {
      if (command === 'reload') await lab.configure(withKept('10.0.0.5').replace('203.0.113.50', '203.0.113.52'));
      await ok(lab, command);
      assert.deepEqual(await on(lab), ['10.10.1.254/24', '10.0.0.5/32'], command);
    }
  });

  it('that come back each time are left after three removals, named, until they are gone when somebody asks', async (t) => {
    const lab = await router(t);
    const says =
      '10.0.0.5/32 on eth1 has come back after each of 3 removals, and is left there; if it is to stay, give the NIC keep-addresses: ' +
      '[10.0.0.5/32]; else end what puts it there, then ip address del 10.0.0.5/32 dev eth1';
    for (let times = 0; times < 3; times++) {
      await add(lab, '10.0.0.5/32');
      const { result, warnings } = await timer(lab);
      assert.deepEqual([result, warnings, await on(lab)], ['changed', [], ['10.10.1.254/24']]);
    }
    await add(lab, '10.0.0.5/32', '10.0.0.8/32');
    const left = await timer(lab);
    assert.deepEqual(
      [left.steps.map(({ text }) => text), warningsOf(left)],
      [['- address 10.0.0.8/32 on eth1 (foreign)'], [says]],
      'another one goes',
    );
    // plan shows what reload does, whoever asks.
    for (const args of [['plan'], ['reload'], ['reload', '--trigger', 'timer']]) {
      const { steps, ...report } = await json(lab, ...args);
      assert.deepEqual([steps, warningsOf(report as typeof left)], [[], [says]], args.join(' '));
    }
    assert.equal((await lab.kylin('status')).status, 0);
    // What others changed is no reason to fight again, what an operator did is.
    await shell(lab, 'ip address del 10.0.0.5/32 dev eth1');
    assert.equal((await timer(lab)).result, 'unchanged');
    await add(lab, '10.0.0.5/32');
    assert.deepEqual(warningsOf(await timer(lab)), [says]);
    await shell(lab, 'ip address del 10.0.0.5/32 dev eth1');
    await ok(lab, 'reload');
    await add(lab, '10.0.0.5/32');
    assert.equal((await timer(lab)).result, 'changed');
    assert.deepEqual(await on(lab), ['10.10.1.254/24']);
  });

  it('that were left are ours where the file wants them', async (t) => {
    const lab = await router(t);
    for (let times = 0; times < 4; times++) {
      await shell(lab, 'ip address add 203.0.113.77/32 dev eth0');
      await timer(lab);
    }
    assert.match(await shell(lab, 'ip address show dev eth0'), /203\.0\.113\.77/);
    await apply(lab, one.replace('203.0.113.50', '203.0.113.77'));
    assert.match(await shell(lab, 'ip address show dev eth0'), /203\.0\.113\.77/);
    await apply(lab, one);
    assert.doesNotMatch(await shell(lab, 'ip address show dev eth0'), /203\.0\.113\.77/);
  });

  it('of a DHCP client are said to be its', async (t) => {
    const lab = await router(t);
    const lease = 'ip address add 10.10.1.77/24 dev eth1 valid_lft 600 preferred_lft 600';
    const dhcp = "end that client on eth1 (pgrep -a 'dhclient|udhcpc|dhcpcd')";
    await shell(lab, lease);
    assert.deepEqual(warningsOf(await timer(lab)), [
      `10.10.1.77/24 on eth1 is not in the file, and goes: a DHCP client put it there, which flushes the NIC when its lease ends; ${dhcp}`,
    ]);
    for (let times = 0; times < 3; times++) {
      await shell(lab, lease);
      await timer(lab);
    }
    assert.deepEqual(warningsOf(await timer(lab)), [
      '10.10.1.77/24 on eth1 has come back after each of 3 removals, and is left there: a DHCP client put it there, which flushes the ' +
        `NIC when its lease ends; ${dhcp}, then ip address del 10.10.1.77/24 dev eth1`,
    ]);
  });

  it('of a DHCP client that are ours too become ours for good, and the client is named', async (t) => {
    const lab = await router(t);
    await shell(lab, 'ip address change 10.10.1.254/24 dev eth1 valid_lft 600 preferred_lft 600');
    const { steps, warnings } = await timer(lab);
    assert.deepEqual(
      [steps.map(({ text }) => text), warnings.map(({ message }) => message)],
      [
        ['+ address 10.10.1.254/24 on eth1', '! announce 10.10.1.254 on eth1'],
        [
          '10.10.1.254/24 on eth1 is ours, and leased: a DHCP client put it there, which flushes the NIC when its lease ends; ' +
            "end that client on eth1 (pgrep -a 'dhclient|udhcpc|dhcpcd')",
        ],
      ],
    );
    assert.deepEqual(warningsOf(await timer(lab)), []);
    assert.match(await shell(lab, 'ip address show dev eth1'), /10\.10\.1\.254\/24 .*\n +valid_lft forever/);
  });

  it('of the real keepalived: named, left, and allowed', async (t) => {
    const vip = '10.10.1.200/32';
    const lab = await router(t);
    await lab.router.write('/etc/keepalived/keepalived.conf', KEEPALIVED);
    await shell(lab, 'keepalived --dont-fork --log-console > /run/keepalived.log 2>&1 &');
    const isThere = async () => (await on(lab)).includes(vip);
    const cure = `if it is to stay, give the NIC keep-addresses: [${vip}]; else take it out of keepalived.conf`;
    for (let times = 0; times < 3; times++) {
      await until('the VIP', isThere);
      assert.deepEqual(warningsOf(await timer(lab)), [
        `${vip} on eth1 is not in the file, and goes: keepalived runs here; ${cure}`,
      ]);
    }
    await until('the VIP', isThere);
    const { steps, ...left } = await timer(lab);
    assert.deepEqual(
      [steps, warningsOf({ steps, ...left })],
      [
        [],
        [
          `${vip} on eth1 has come back after each of 3 removals, and is left there: keepalived runs here; ${cure}, ` +
            `then ip address del ${vip} dev eth1`,
        ],
      ],
    );
    await lab.configure(withKept(vip));
    const allowed = await json(lab, 'reload');
    assert.deepEqual([allowed.result, allowed.warnings, await isThere()], ['unchanged', [], true]);
  });
});

const KEEPALIVED = `vrrp_instance a {
  state MASTER
  interface eth1
  virtual_router_id 5
  priority 200
  advert_int 1
  virtual_ipaddress { 10.10.1.200/32 }
}
`;
