// A run that finds the machine just as the last one with nothing to do found it asks the same, and plans nothing. Whatever is
// different then, it sees.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab } from '../lab/lab.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { recordTools } from '../lab/tools.ts';

const QUIET = '/run/kylin-vr/quiet';

/** Each with the step that mends it. */
const DRIFTS: readonly [name: string, script: string, step: RegExp][] = [
  ['an EIP is gone', `ip address delete ${EIPS.v}/32 dev eth0`, /^\+ address 203/m],
  ['a link is down', 'ip link set eth1 down', /eth1/m],
  ['the default route is gone', 'ip route delete default', /^\+ route default/m],
  ['a rule is gone', 'iptables -t nat -D KYLIN-VR-OUTBOUND 1', /KYLIN-VR-OUTBOUND/m],
  ['a rule is there twice', 'iptables -t nat -A KYLIN-VR-OUTBOUND -j KYLIN-VR-SOURCE', /KYLIN-VR-OUTBOUND/m],
  ['nat was flushed', 'iptables -t nat -F', /KYLIN-VR-DNAT/m],
  ['a jump is not the first any more', 'iptables -I INPUT -j ACCEPT', /INPUT/m],
  ['a sysctl is another', 'echo 0 > /proc/sys/net/ipv4/ip_forward', /ip_forward/m],
  [
    'a chain of ours stands in the other backend',
    'iptables-legacy -t nat -N KYLIN-VR-DNAT',
    /iptables-legacy-restore/m,
  ],
  [
    'our record of addresses names one more',
    `sed -i 's/"addresses":\\[/&{"mac":"52:54:84:00:08:46","spec":"203.0.113.77\\/32"},/' /var/lib/kylin-vr/owned.json; ip address add 203.0.113.77/32 dev eth0`,
    /^- address 203.0.113.77/m,
  ],
];

describe('a run that finds what the last one with nothing to do found', { concurrency: false }, () => {
  let lab: Lab;
  const run = async (script: string) => (await lab.router.run(['sh', '-ec', script], { check: true })).stdout.trim();
  const reload = async (...options: string[]) => {
    const { stdout, stderr } = await lab.kylin('reload', '--json', ...options);
    const { result, steps, warnings } = JSON.parse(stdout);
    assert.ok(['unchanged', 'changed'].includes(result), stdout + stderr);
    return { result, steps: steps.map(({ text }: { text: string }) => text).join('\n'), warnings };
  };
  const remembered = () => run(`stat -c '%Y.%Z %i' ${QUIET}`);
  /** Until a run finds what the one before it found: the addresses of a NIC that has just come up are tentative for two seconds. */
  const settle = async () => {
    await run('for n in $(seq 100); do [ -n "$(ip -6 -o address show tentative)" ] || break; sleep 0.1; done');
    for (let tries = 0; tries < 20; tries++) {
      const kept = await run(`cat ${QUIET} 2> /dev/null || true`);
      assert.ok((await reload()).result === 'unchanged' || tries === 0);
      if (kept !== '' && kept === (await run(`cat ${QUIET}`))) return;
      await sleep(200);
    }
    assert.fail(`${QUIET} does not settle`);
  };

  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    await settle();
    assert.equal(await run(`stat -c '%a %u' ${QUIET}`), '600 0');
  });
  after(() => lab.close());

  it('reads, side by side, and neither plans nor writes', async () => {
    const tools = await recordTools(lab.router);
    await settle();
    await tools.taken();
    const kept = await remembered();
    assert.equal((await reload()).result, 'unchanged');
    assert.deepEqual((await tools.taken()).map(({ command }) => command).sort(), [
      'ip -json -details -b -',
      'iptables-save',
    ]);
    assert.equal(await remembered(), kept);
  });

  it('is not disturbed by counters', async () => {
    const kept = await remembered();
    await run('ping -c 1 -W 1 203.0.113.1 || true');
    assert.equal((await reload()).result, 'unchanged');
    assert.equal(await remembered(), kept);
  });

  for (const [name, script, step] of DRIFTS)
    it(`mends it when ${name}`, async () => {
      await settle();
      await run(script);
      const { result, steps } = await reload();
      assert.equal(result, 'changed');
      assert.match(steps, step);
      assert.equal((await reload()).result, 'unchanged');
      await run('iptables -D INPUT -j ACCEPT 2> /dev/null || true');
    });

  it('warns as the last one did', async () => {
    await lab.configure(
      `${elastic.config}  # a comment\n`.replace(
        'if_list:',
        'if_list:\n  - {ipaddr: 10.9.9.1, prefix: 24, mac: "52:54:84:99:99:99"}',
      ),
    );
    await settle();
    const [one, other] = [await reload(), await reload()];
    assert.match(JSON.stringify(one.warnings), /52:54:84:99:99:99 is not there yet/);
    assert.deepEqual(other.warnings, one.warnings);
    await lab.configure(elastic.config);
    await settle();
  });

  it('is believed by nobody when others could have written it, nor when it is broken', async () => {
    for (const spoil of [`chmod 666 ${QUIET}`, `echo '{' > ${QUIET}`, `echo '{}' > ${QUIET}`]) {
      await run(`${spoil}; iptables -t nat -F KYLIN-VR-OUTBOUND`);
      assert.match((await reload()).steps, /KYLIN-VR-OUTBOUND/);
      await settle();
    }
  });

  it('is another one with another renderer', async () => {
    await settle();
    assert.match((await reload('--renderer', 'keyfile')).steps, /^\+ file /m);
    await reload();
  });
});

it('is remembered among profiles, initscripts and rules of others as well', async (t) => {
  const lab = await createLab({ networkScripts: true });
  t.after(() => lab.close());
  const run = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
  await run(`
    touch /etc/sysconfig/network-scripts/ifup-eth
    mkdir -p /run/network /etc/network/interfaces.d; echo eth1=eth1 > /run/network/ifstate
    echo 'iface eth1 inet manual' > /etc/network/interfaces.d/eth1
    iptables-nft -N OTHERS
    nft add set ip filter blocked '{ type ipv4_addr; }'; nft add rule ip filter OTHERS ip saddr @blocked drop
    iptables-legacy -t nat -N OTHERS`);
  await lab.configure(elastic.config);
  for (let tries = 0; tries < 4; tries++) {
    assert.equal((await lab.kylin('reload')).status, 0);
    await sleep(1000);
  }
  const { stdout } = await run(`head -n 1 ${QUIET}`);
  for (const asked of ['interfaces.d/eth1', 'ifcfg-eth1', 'iptables-legacy-save', 'list\\",\\"chain'])
    assert.ok(stdout.includes(asked), `${asked}: ${stdout}`);
});
