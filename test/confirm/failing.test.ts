// A reload that fails takes back everything: addresses, routes, rules, settings, profiles, whoever they belong to.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { atVerification, recordTools } from '../lab/tools.ts';
import { apply, everything, json, one, other, shell, v, warningsOf } from './router.ts';

describe('a reload that fails', { concurrency: true }, () => {
  for (const [what, before] of [
    ['over a foreign network', ''],
    [
      'over a configuration of ours, which differs in everything',
      one.replace('.37', '.38').replace('10.10.2.254', '10.10.2.253'),
    ],
  ] as const)
    it(`${what}: all is as it was, byte for byte, and that is verified and said`, async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      const tools = await recordTools(lab.router);
      if (before !== '') await apply(lab, before);
      // In the uplink's own network: the operator came in by it.
      else
        await shell(
          lab,
          `
          cd /etc/sysconfig/network-scripts
          printf 'DEVICE=eth0\\nIPADDR=203.0.113.99\\nPREFIX=24\\n' > ifcfg-eth0
          printf 'HWADDR=52:54:84:11:00:04\\n\\tIPADDR=10.10.1.9 # by hand\\n' > ifcfg-lan; chmod 640 ifcfg-lan
          ip link set eth0 up mtu 1400; ip address add 203.0.113.99/24 dev eth0; ip route add default via 203.0.113.1
          ip link set eth1 up; ip address add 10.10.1.9/24 dev eth1; ip route add 172.24.0.0/16 via 10.10.1.11 metric 7
          iptables -t nat -A POSTROUTING -s 10.10.1.0/24 -j MASQUERADE`,
        );
      const found = await everything(lab);
      await lab.configure(other.replace('gateway: 203.0.113.1', 'gateway: 203.0.113.1, mtu: 1300'));
      await tools.before('ip', atVerification("echo 'made to fail' >&2; exit 4"));
      const report = await json(lab, 'reload');
      await tools.before('ip');
      assert.deepEqual([report.status, report.result, warningsOf(report)], [69, 'rolled-back', []]);
      assert.match(
        report.errors[0]?.message ?? '',
        /made to fail; the network is as it was before; mend the cause and run kylin-vr reload$/,
      );
      // What was undone.
      assert.ok(report.steps.some(({ text }) => text === '+ address 203.0.113.51/32 on eth0'));
      assert.equal(await everything(lab), found);
    });

  it('over NICs that were down: they are down again, and nothing is left on them', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const tools = await recordTools(lab.router);
    const all = async () => (await everything(lab)) + (await shell(lab, 'ip -br link | sort'));
    const found = await all();
    await lab.configure(`${other}route_list: [{ dest: 172.24.0.0/16, via: ${v} }]\n`);
    await tools.before('ip', atVerification("echo 'made to fail' >&2; exit 4"));
    const report = await json(lab, 'reload');
    await tools.before('ip');
    assert.deepEqual([report.status, report.result, warningsOf(report)], [69, 'rolled-back', []]);
    assert.equal(await all(), found);
  });

  it('before its first change: what is foreign stays, though the configuration would have it go', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const tools = await recordTools(lab.router);
    await shell(
      lab,
      `
      ip link set eth1 up; ip address add 10.10.1.9/24 dev eth1; ip address add 10.10.1.8/24 dev eth1
      ip route add 172.24.0.0/16 via 10.10.1.11 metric 7`,
    );
    const found = await everything(lab);
    await lab.configure(other);
    await tools.before('ip', '[ -e /mnt/once ] || case "$*" in *-batch*) : > /mnt/once; exit 1 ;; esac');
    const report = await json(lab, 'reload');
    assert.deepEqual([report.status, report.result, warningsOf(report)], [69, 'rolled-back', []]);
    assert.equal(await everything(lab), found);
  });
});
