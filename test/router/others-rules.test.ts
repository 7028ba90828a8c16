// Rules of others that are hard to read: ours are known from them, and what cannot be read is refused before anything is changed.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { atVerification, recordTools } from '../lab/tools.ts';

for (const iptables of ['nft', 'legacy'] as const)
  describe(`beside others' rules, iptables-${iptables}`, { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab({ iptables });
      await lab.configure(elastic.config);
    });
    after(() => lab?.close());
    const rule = (...args: string[]) => lab.router.run(['iptables', '-w', ...args], { check: true });
    const save = async () => (await lab.router.run(['iptables-save'])).stdout.replace(/^#.*$|\[\d+:\d+\]/gm, '');
    const result = async () => JSON.parse((await lab.kylin('reload', '--json')).stdout).result;

    it('a comment that looks like the end of a table is a comment', async () => {
      await rule('-A', 'FORWARD', '-m', 'comment', '--comment', 'a "b\\" c\nCOMMIT\n*nat\n:X - [0:0]', '-j', 'ACCEPT');
      await rule('-t', 'nat', '-A', 'PREROUTING', '-m', 'comment', '--comment', 'end\\', '-j', 'ACCEPT');
      assert.equal(await result(), 'changed');
      const rules = await save();
      for (let run = 0; run < 3; run++) assert.equal(await result(), 'unchanged');
      assert.equal(await save(), rules);
    });

    it('a chain whose name only begins as ours do is not ours, and keeps its jump', async () => {
      await rule('-N', 'KYLIN-VRRP');
      await rule('-A', 'KYLIN-VRRP', '-p', 'vrrp', '-j', 'ACCEPT');
      await rule('-A', 'INPUT', '-j', 'KYLIN-VRRP');
      await rule('-t', 'nat', '-N', 'KYLIN-VR');
      await rule('-t', 'nat', '-A', 'POSTROUTING', '-j', 'KYLIN-VR');
      const rules = await save();
      assert.equal(await result(), 'unchanged');
      assert.equal(await save(), rules);
    });

    it('names of chains, links and lists may have quotes in them', async () => {
      for (const name of ['a"b', '"c', 'd"', '"']) {
        await rule('-t', 'nat', '-N', name);
        await rule('-t', 'nat', '-A', name, '-s', '192.0.2.9', '-j', 'RETURN');
        await rule('-t', 'nat', '-I', 'PREROUTING', '-j', name);
      }
      await rule('-I', 'FORWARD', '-i', 'x"', '-m', 'comment', '--comment', '"', '-j', 'RETURN');
      await rule('-I', 'FORWARD', '-o', '"y', '-j', 'RETURN');
      await rule('-I', 'FORWARD', '-m', 'recent', '--set', '--name', '"z', '--mask', '255.255.255.255', '--rsource');
      const rules = await save();
      for (let run = 0; run < 3; run++) assert.equal(await result(), 'unchanged');
      assert.equal(await save(), rules);
    });

    it('if_list: [] takes ours away, and leaves those', async () => {
      await lab.configure('if_list: []\n');
      assert.equal(await result(), 'changed');
      const rules = await save();
      assert.doesNotMatch(rules, /KYLIN-VR-/);
      assert.match(rules, /^-A INPUT -j KYLIN-VRRP$/m);
      assert.match(rules, /^-A POSTROUTING -j KYLIN-VR$/m);
      assert.match(rules, /^COMMIT$\n\*nat\n:X/m);
    });
  });

/** Everything of ours goes but what is said, each time. */
async function takenDownBut(lab: Lab, said: string[]): Promise<void> {
  await lab.configure('if_list: []\n');
  for (const result of ['changed', 'unchanged']) {
    const { status, stdout } = await lab.kylin('reload', '--json');
    const report = JSON.parse(stdout);
    assert.deepEqual([status, report.result], [0, result], stdout);
    assert.deepEqual(
      report.warnings.map(({ message }: { message: string }) => message),
      said,
    );
  }
}

it('a chain of ours that an element of a map leads to stays, empty, and is said; all else of ours goes', async (t) => {
  const lab = await createLab();
  t.after(() => lab.close());
  await lab.configure(elastic.config);
  assert.equal((await lab.kylin('reload')).status, 0);
  const script = `add map ip filter theirs { type ipv4_addr : verdict ; }
    add element ip filter theirs { 198.51.100.1 : jump KYLIN-VR-FORWARD-TO }\n`;
  await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
  await takenDownBut(lab, [
    'the chain KYLIN-VR-FORWARD-TO stays in filter, empty: an element of the foreign map theirs leads to it; take that away',
  ]);
  const { stdout } = await lab.router.run(['iptables-save']);
  assert.deepEqual(
    stdout.split('\n').filter((line) => line.includes('KYLIN-VR-')),
    [':KYLIN-VR-FORWARD-TO - [0:0]'],
  );
});

it('a chain of ours that a map without a name leads to stays, empty, and is said', async (t) => {
  const lab = await createLab();
  t.after(() => lab.close());
  await lab.configure(elastic.config);
  assert.equal((await lab.kylin('reload')).status, 0);
  const script = `insert rule ip nat PREROUTING ip saddr vmap { 192.0.2.7 : jump KYLIN-VR-DNAT }
    insert rule ip filter FORWARD ip saddr vmap { 192.0.2.7 : goto KYLIN-VR-FORWARD-TO, 192.0.2.8 : drop }\n`;
  await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
  assert.equal(JSON.parse((await lab.kylin('reload', '--json')).stdout).result, 'unchanged');
  await takenDownBut(lab, [
    'the chain KYLIN-VR-FORWARD-TO stays in filter, empty: a rule of the foreign chain FORWARD leads to it; take that away',
    'the chain KYLIN-VR-DNAT stays in nat, empty: a rule of the foreign chain PREROUTING leads to it; take that away',
  ]);
});

describe('rules that iptables-save cannot print', { concurrency: true }, () => {
  // For the first two iptables-nft-save 1.8.9 ends 3: "Parsing nftables rule failed".
  for (const [table, chain, rule] of [
    ['nat', 'PREROUTING', 'ip dscp 10 return'],
    ['mangle', 'FORWARD', 'meta mark set 5'],
    ['filter', 'FORWARD', 'tcp option maxseg size set 1300'],
  ] as const)
    it(`are named, and nothing is changed; taking everything down works: ${table}, ${rule}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
      const nft = (...words: string[]) => lab.router.run(['nft', ...words], { check: true });
      const listed = async () => (await nft('list', 'ruleset')).stdout.replace(/packets \d+ bytes \d+/g, '');
      await nft(`insert rule ip ${table} ${chain} ${rule}`);
      const before = await listed();
      for (const args of [['reload'], ['plan'], ['status']]) {
        const { status, stderr } = await lab.kylin(...args);
        assert.equal(status, 69, args.join(' '));
        assert.match(
          stderr,
          new RegExp(
            `cannot read the table ${table}, into which somebody put rules that only nft can say \\(.+\\): put`,
          ),
        );
      }
      assert.equal(await listed(), before);
      await lab.configure('if_list: []\n');
      const { status, stderr } = await lab.kylin('reload');
      assert.equal(status, 0, stderr);
      assert.doesNotMatch(await listed(), /KYLIN-VR-/);
      await nft(`flush chain ip ${table} ${chain}`);
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
    });
});

describe('in a table that only nft can read if_list: [] takes ours away, and nothing of others', {
  concurrency: true,
}, () => {
  const CASES: [what: string, theirs: string, left: RegExp, warning: string][] = [
    [
      'an element of a map leads to a chain of ours',
      `add map ip nat theirs { type ipv4_addr : verdict ; }
       add element ip nat theirs { 192.0.2.7 : jump KYLIN-VR-DNAT }`,
      /192\.0\.2\.7 : jump KYLIN-VR-DNAT/,
      'an element of the foreign map theirs leads to it; take that away',
    ],
    [
      'a rule of a chain of theirs does',
      `add chain ip nat theirs
       add rule ip nat theirs ip saddr 192.0.2.7 counter jump KYLIN-VR-DNAT`,
      /chain theirs \{\n\s+ip saddr 192\.0\.2\.7 counter jump KYLIN-VR-DNAT/,
      'a rule of the foreign chain theirs leads to it; take that away',
    ],
    [
      'a map without a name does',
      `add chain ip nat theirs
       add rule ip nat theirs ip saddr vmap { 192.0.2.7 : jump KYLIN-VR-DNAT, 192.0.2.9 : accept }`,
      /ip saddr vmap \{ 192\.0\.2\.7 : jump KYLIN-VR-DNAT/,
      'a rule of the foreign chain theirs leads to it; take that away',
    ],
    [
      'a rule of a built-in chain does that asks what ours never ask',
      'insert rule ip nat PREROUTING ip saddr 192.0.2.7 jump KYLIN-VR-DNAT',
      /ip saddr 192\.0\.2\.7 jump KYLIN-VR-DNAT/,
      'a rule of the foreign chain PREROUTING leads to it; take that away',
    ],
  ];
  for (const [what, theirs, left, warning] of CASES)
    it(`${what}: the chain stays, empty, and is said`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
      const script = `${theirs}\nadd rule ip nat PREROUTING dnat to ip daddr map { 192.0.2.9 : 192.0.2.8 }\n`;
      await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
      await lab.configure('if_list: []\n');
      for (const result of ['changed', 'unchanged']) {
        const { status, stdout } = await lab.kylin('reload', '--json');
        const report = JSON.parse(stdout);
        assert.deepEqual([status, report.result], [0, result], stdout);
        assert.deepEqual(
          report.warnings.map(({ message }: { message: string }) => message),
          [`the chain KYLIN-VR-DNAT stays in nat, empty: ${warning}`],
        );
      }
      const rules = (await lab.router.run(['nft', 'list', 'ruleset'])).stdout.replace(/ packets \d+ bytes \d+/g, '');
      assert.match(rules, left);
      assert.deepEqual(rules.match(/chain KYLIN-VR-\S+ \{\n\t\}/g), ['chain KYLIN-VR-DNAT {\n\t}']);
      assert.equal(rules.match(/KYLIN-VR-/g)?.length, 2);
      const { stdout } = await lab.router.run(['ip', '-4', '-o', 'address', 'show', 'eth0']);
      assert.equal(stdout, '');
    });
});

it('without nft a rule that iptables-save prints empty is shown so', async (t) => {
  const lab = await createLab();
  t.after(() => lab.close());
  await lab.configure(elastic.config);
  assert.equal((await lab.kylin('reload')).status, 0);
  const rule = 'insert rule ip nat PREROUTING ip daddr vmap { 192.0.2.7 : accept }';
  await lab.router.run(['nft', rule], { check: true });
  await recordTools(lab.router);
  await lab.router.run(['rm', '/usr/sbin/nft'], { check: true });
  assert.match((await lab.kylin('status')).stdout, /nat PREROUTING +rule +\(a rule that only nft can show\)/);
});

describe('if_list: [] that fails beside a table that only nft can read', { concurrency: true }, () => {
  const CASES = [
    ['nft', 'case "$*" in "-f -") exit 1 ;; esac', 'rolled-back', /^$/],
    [
      'ip',
      atVerification("echo 'made to fail' >&2; exit 4"),
      'failed',
      /^our chains in nat are gone, and iptables cannot write them as long as others have rules there that only nft can say$/,
    ],
  ] as const;
  for (const [tool, script, result, warning] of CASES)
    it(`gives the addresses back, and says what cannot come back: ${result}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
      const addresses = async () => (await lab.router.run(['ip', '-4', '-o', 'address', 'show'])).stdout;
      const before = await addresses();
      const rule = 'add rule ip nat PREROUTING dnat to ip daddr map { 192.0.2.9 : 192.0.2.8 }';
      await lab.router.run(['nft', rule], { check: true });
      const tools = await recordTools(lab.router);
      await tools.before(tool, script);
      await lab.configure('if_list: []\n');
      const { status, stdout } = await lab.kylin('reload', '--json');
      const report = JSON.parse(stdout);
      assert.deepEqual([status, report.result], [69, result], stdout);
      assert.match(report.warnings.map(({ message }: { message: string }) => message).join(), warning);
      assert.equal(await addresses(), before);
      await tools.before(tool);
      assert.equal((await lab.kylin('reload')).status, 0);
      assert.doesNotMatch((await lab.router.run(['nft', 'list', 'ruleset'])).stdout, /KYLIN-VR-/);
    });
});

describe('rules of ours in the backend that is not in use any more', { concurrency: true }, () => {
  const switched = async (lab: Lab) => {
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
    const script = `for tool in iptables iptables-save iptables-restore; do
      ln -sfn /usr/sbin/$(echo $tool | sed s/tables/tables-legacy/) /etc/alternatives/$tool
    done`;
    await lab.router.run(['sh', '-ec', script], { check: true });
  };
  const listed = async (lab: Lab) => (await lab.router.run(['nft', 'list', 'ruleset'])).stdout;

  for (const rule of [
    'nat PREROUTING dnat to ip daddr map { 192.0.2.9 : 192.0.2.8 }',
    'mangle FORWARD meta mark set 5',
  ])
    it(`go, where only nft can read their table too: ${rule}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await switched(lab);
      await lab.router.run(['nft', `add rule ip ${rule}`], { check: true });
      for (const result of ['changed', 'unchanged']) {
        const { status, stdout } = await lab.kylin('reload', '--json');
        assert.deepEqual([status, JSON.parse(stdout).result], [0, result], stdout);
      }
      assert.doesNotMatch(await listed(lab), /KYLIN-VR-/);
      assert.match((await lab.router.run(['iptables-legacy-save'])).stdout, /KYLIN-VR-/);
      assert.match((await lab.kylin('status')).stdout, /^in sync$/m);
    });

  it('are said where there is no nft', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await switched(lab);
    await lab.router.run(['nft', 'add rule ip nat PREROUTING dnat to ip daddr map { 192.0.2.9 : 192.0.2.8 }'], {
      check: true,
    });
    await recordTools(lab.router);
    await lab.router.run(['rm', '/usr/sbin/nft'], { check: true });
    const { status, stdout } = await lab.kylin('reload', '--json');
    assert.deepEqual(
      [status, ...JSON.parse(stdout).warnings.map(({ message }: { message: string }) => message)],
      [
        0,
        'the other iptables backend cannot read its table nat, where rules of ours may be left: install nft, which can (nftables)',
      ],
    );
  });

  it('a map of others without a name stays, with the chain that it leads to', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await switched(lab);
    const rule = 'insert rule ip filter FORWARD ip saddr vmap { 192.0.2.7 : jump KYLIN-VR-FORWARD }';
    await lab.router.run(['nft', rule], { check: true });
    assert.equal((await lab.kylin('reload')).status, 0);
    const rules = await listed(lab);
    assert.match(rules, /ip saddr vmap \{ 192\.0\.2\.7 : jump KYLIN-VR-FORWARD \}/);
    assert.deepEqual(rules.match(/chain KYLIN-VR-\S+/g), ['chain KYLIN-VR-FORWARD']);
  });
});

describe('a jump of others to a chain of ours, of which iptables-save prints only half', { concurrency: true }, () => {
  const CASES = [
    ['insert', 'nat PREROUTING', 'ip saddr @theirs', 'KYLIN-VR-DNAT', 'unchanged'],
    ['add', 'nat PREROUTING', 'tcp dport 80 ip saddr @theirs', 'KYLIN-VR-DNAT', 'unchanged'],
    ['insert', 'filter INPUT', 'ip saddr @theirs', 'KYLIN-VR-INPUT', 'changed'],
    // Ours is to be the last: it goes behind, and is the second of two that iptables takes for the same.
    ['add', 'filter FORWARD', 'ip saddr @theirs', 'KYLIN-VR-FORWARD', 'changed'],
  ] as const;
  it('stays, and so does every other rule, where the chain is changed between the two looks at it', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
    const tools = await recordTools(lab.router);
    const nft = (input: string) => lab.router.run(['/mnt/real/nft', '-f', '-'], { input, check: true });
    await nft(`add set ip filter theirs { type ipv4_addr ; }
      insert rule ip filter FORWARD ip saddr 192.0.2.77 counter accept
      add rule ip filter FORWARD ip saddr @theirs jump KYLIN-VR-FORWARD
      add rule ip filter FORWARD ip saddr 192.0.2.79 counter accept\n`);
    // As many rules as before, all but one in another place.
    await tools.before(
      'nft',
      `case "$*" in '-j list chain ip filter FORWARD') [ -e /run/once ] || { : > /run/once
        h=$($real -a list chain ip filter FORWARD | sed -n 's/.*192.0.2.77.*handle //p')
        $real "delete rule ip filter FORWARD handle $h; add rule ip filter FORWARD ip saddr 192.0.2.78 counter accept"; } ;; esac`,
    );
    // It may be taken back: what was planned is not what is there.
    const { stdout } = await lab.kylin('reload', '--json');
    await tools.before('nft');
    const there = (await lab.router.run(['/mnt/real/nft', 'list', 'chain', 'ip', 'filter', 'FORWARD'])).stdout;
    for (const rule of [/192\.0\.2\.78 /, /192\.0\.2\.79 /]) assert.match(there, rule, stdout);
    assert.match(there, /ip saddr @theirs/, stdout);
    assert.equal((await lab.kylin('reload')).status, 0);
    assert.equal((await lab.kylin('plan')).stdout, 'in sync\n');
  });

  for (const [how, hook, asks, target, result] of CASES)
    it(`stays, whatever becomes of ours: ${how} rule ${hook} ${asks}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
      const rule = `${asks} jump ${target}`;
      const script = `add set ip ${hook.split(' ')[0]} theirs { type ipv4_addr ; }\n${how} rule ip ${hook} ${rule}\n`;
      await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
      const jumps = async () =>
        (await lab.router.run(['nft', 'list', 'chain', 'ip', ...hook.split(' ')], { check: true })).stdout
          .replace(/counter packets \d+ bytes \d+ /g, '')
          .split('\n')
          .map((line) => line.trim())
          .filter((line) => line.endsWith(` jump ${target}`) || line === `jump ${target}`);
      const isTheirs = (line: string) => line === rule;
      for (const expected of [result, 'unchanged']) {
        const { status, stdout } = await lab.kylin('reload', '--json');
        assert.deepEqual([status, JSON.parse(stdout).result], [0, expected], stdout);
        const there = await jumps();
        assert.deepEqual([there.length, there.filter(isTheirs).length], [2, 1], there.join('; '));
      }
      assert.match((await lab.kylin('status')).stdout, /^in sync$/m);

      await lab.configure('if_list: []\n');
      const { status, stdout } = await lab.kylin('reload', '--json');
      assert.equal(status, 0, stdout);
      assert.ok(stdout.includes(`the chain ${target} stays in ${hook.split(' ')[0]}, empty`), stdout);
      assert.deepEqual(await jumps(), [rule]);
      const saved = (await lab.router.run(['nft', 'list', 'ruleset'])).stdout;
      assert.deepEqual(saved.match(/chain KYLIN-VR-\S+/g), [`chain ${target}`]);
      assert.equal((await lab.kylin('reload')).status, 0);

      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
      assert.deepEqual((await jumps()).filter(isTheirs), [rule]);
    });

  it('stays where the change that made ours is taken back', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload', '--confirm-within', '600')).status, 0);
    const script = `add set ip nat theirs { type ipv4_addr ; }
      insert rule ip nat PREROUTING ip saddr @theirs jump KYLIN-VR-DNAT`;
    await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
    const { status, stderr } = await lab.kylin('rollback');
    assert.equal(status, 0, stderr);
    const rules = (await lab.router.run(['nft', 'list', 'ruleset'])).stdout;
    assert.deepEqual(
      rules.match(/.*(jump|chain) KYLIN-VR-.*/g)?.map((line) => line.trim()),
      ['chain KYLIN-VR-DNAT {', 'ip saddr @theirs jump KYLIN-VR-DNAT'],
    );
  });
});

describe('a chain of theirs that has the name of one that is needed', { concurrency: true }, () => {
  const CASES = [
    ['nat', 'PREROUTING', '', 'it has no hook'],
    ['filter', 'FORWARD', 'type filter hook forward priority 10;', 'its hook is forward, its priority 10'],
    ['nat', 'KYLIN-VR-DNAT', 'type nat hook prerouting priority 100;', 'its hook is prerouting, its priority 100'],
  ] as const;
  for (const [table, name, hook, how] of CASES)
    it(`is refused with its cause, and its cure works: ${table} ${name}, ${how}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      const script = `add table ip ${table}\nadd chain ip ${table} ${name} ${hook === '' ? '' : `{ ${hook} }`}\n`;
      await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
      const listed = async () => (await lab.router.run(['nft', 'list', 'ruleset'])).stdout;
      const before = await listed();
      await lab.configure(elastic.config);
      const said =
        `nothing was changed: the chain ${name} in the table ip ${table} is somebody's, and not what iptables needs by that name (${how}): ` +
        `give it another one (nft rename chain ip ${table} ${name} NAME), then run kylin-vr reload`;
      for (const args of [['plan'], ['reload'], ['status']]) {
        const { status, stderr } = await lab.kylin(...args);
        assert.equal(status, 69, args.join(' '));
        assert.ok(stderr.includes(said), stderr);
        assert.equal(await listed(), before);
      }
      await lab.router.run(['nft', 'rename', 'chain', 'ip', table, name, 'theirs'], { check: true });
      assert.equal((await lab.kylin('reload')).status, 0);
      assert.match((await lab.kylin('status')).stdout, /^in sync$/m);
    });
});

describe('a change is taken back over a table that only nft can read', { concurrency: true }, () => {
  for (const how of ['rollback', 'reload --trigger timer'])
    it(`not before that is gone, with the cause, and no rule comes twice: ${how}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
      const saved = async () =>
        (await lab.router.run(['iptables-save'])).stdout
          .replace(/^#.*$|\[\d+:\d+\]/gm, '')
          .split('\n')
          .toSorted()
          .join('\n');
      const before = await saved();
      await lab.configure(elastic.config.replace('203.0.113.50', '203.0.113.51'));
      assert.equal((await lab.kylin('reload', '--confirm-within', how === 'rollback' ? '600' : '1')).status, 0);
      const nft = (...words: string[]) => lab.router.run(['nft', ...words], { check: true });
      const listed = async () => (await nft('list', 'ruleset')).stdout.replace(/packets \d+ bytes \d+/g, '');
      await nft('add rule ip nat PREROUTING dnat to ip daddr map { 192.0.2.9 : 192.0.2.8 }');
      if (how !== 'rollback') await sleep(1500);
      const there = await listed();
      for (let run = 0; run < 3; run++) {
        const { status, stderr } = await lab.kylin(...how.split(' '));
        assert.equal(status, 69);
        assert.match(stderr, /iptables cannot read the table nat, into which somebody put rules that only nft can say/);
        assert.equal(await listed(), there);
      }
      await lab.router.run(
        [
          'sh',
          '-c',
          "nft -a list chain ip nat PREROUTING | sed -n 's/.*map.*handle //p' | xargs nft delete rule ip nat PREROUTING handle",
        ],
        { check: true },
      );
      assert.equal((await lab.kylin(...how.split(' '))).status, 0);
      assert.equal(await saved(), before);
    });
});

describe('a table that only nft can read', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
    const script = `add map ip nat theirs { type ipv4_addr : ipv4_addr ; }
      add rule ip nat PREROUTING dnat to ip daddr map @theirs`;
    await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
  });
  after(() => lab?.close());
  const listed = async () =>
    (await lab.router.run(['nft', 'list', 'ruleset'])).stdout.replace(/packets \d+ bytes \d+/g, '');

  for (const args of [['reload'], ['reload', '--trigger', 'timer'], ['plan'], ['status']])
    it(`${args.join(' ')} is refused, with the cause, and changes nothing`, async () => {
      const rules = await listed();
      const { status, stdout, stderr } = await lab.kylin(...args);
      assert.equal(status, 69, stdout);
      const said =
        'nothing was changed: iptables cannot read the table nat, into which somebody put rules that only nft can say (dnat to ip daddr map @theirs): ' +
        'put them into a table of their own (nft add table ip NAME), or take them away, then run kylin-vr reload';
      assert.ok(stderr.includes(said), stderr);
      assert.equal(await listed(), rules);
    });

  it('taking everything down works all the same, and leaves what is theirs', async () => {
    await lab.configure('if_list: []\n');
    const { status, stderr } = await lab.kylin('reload');
    assert.equal(status, 0, stderr);
    const rules = await listed();
    assert.doesNotMatch(rules, /KYLIN-VR-/);
    assert.match(rules, /dnat to ip daddr map @theirs/);
  });

  it('one with a map of its own is read as a rule of which nothing is known, and shown so', async () => {
    await lab.router.run(['nft', 'delete', 'table', 'ip', 'nat'], { check: true });
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
    const rule = 'insert rule ip nat PREROUTING ip daddr vmap { 192.0.2.7 : accept }';
    await lab.router.run(['nft', ...rule.split(' ')], { check: true });
    assert.equal(JSON.parse((await lab.kylin('reload', '--json')).stdout).result, 'unchanged');
    assert.match(
      (await lab.kylin('status')).stdout,
      /nat PREROUTING +rule +\(a rule that only nft can show, with handle \d+\) -j NFT/,
    );
    assert.ok((await lab.kylin('status', '--json')).stdout.includes('(a rule that only nft can show, with handle '));
  });

  it('without it everything works again', async () => {
    await lab.router.run(['nft', 'delete', 'table', 'ip', 'nat'], { check: true });
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
    assert.match((await lab.kylin('status')).stdout, /^in sync$/m);
  });

  for (const rule of [
    'masquerade',
    'snat to 192.0.2.1',
    'ct state new accept',
    'log prefix "x"',
    'fib daddr type local accept',
  ])
    it(`the rule is named, whatever it is: ${rule}`, async () => {
      const nft = (...words: string[]) => lab.router.run(['nft', words.join(' ')], { check: true });
      await nft('add chain ip nat theirs');
      await nft('add rule ip nat theirs tcp dport { 1, 2 } accept');
      await nft('add rule ip nat theirs', rule);
      const { status, stderr } = await lab.kylin('plan');
      await nft('delete chain ip nat theirs');
      assert.equal(status, 69);
      assert.ok(stderr.includes(`rules that only nft can say (${rule}): put them`), stderr);
    });
});
