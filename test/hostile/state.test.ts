// Every file that we keep, with every wrong value in it, of every wrong kind: no command ends by an internal error or hangs, the network is
// as the configuration says, and what was damaged is put aside and said. The same for what lies among the profiles and in the log.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const SEED = Number(process.env.KYLIN_VR_SEED ?? Date.now() % 1_000_000);

const nic = (n: number) => `  - { ipaddr: 10.10.1.${n}, prefix: 24, mac: '${NICS.a.mac}' }\n`;
const FIRST = `if_list:\n${nic(254)}`;
const SECOND = `if_list:\n${nic(253)}`;

const LIB = '/var/lib/kylin-vr';
const RUN = '/run/kylin-vr';
/** Those whose loss an operator has to know of. */
const RECORDS = [`${LIB}/owned.json`, `${LIB}/pending.json`];
const LEFT = `${RUN}/left.json`;
const LEFT_OVER = '{"boot":"another","addresses":[{"device":"eth1","spec":"10.10.1.254/24"}]}';
const HINTS = ['last-run.json', 'parsed.json', 'quiet', 'flows.json', 'foreign.json', 'invalid'].map(
  (name) => `${RUN}/${name}`,
);

const LAST_GOOD =
  /^warning: (the last good configuration stays in force|\S+ is missing or damaged: \S+, the newest one that is whole, is in force)$/m;

const KINDS: [kind: string, make: string][] = [
  ['a folder', 'mkdir "$0"; touch "$0/in-it"'],
  ['a FIFO', 'mkfifo "$0"'],
  ['a device without an end', 'mknod "$0" c 1 5'],
  ['a link in a ring', 'ln -s "$0" "$0"'],
  ['a link to a device', 'ln -s /dev/zero "$0"'],
  ['600 MB', 'truncate -s 600M "$0"'],
];

const LOOKS = ['ip', '-json', '-details', '-b', '-'];

/** What no run asks: it has no end, or changes something. */
const ODD_QUESTIONS: [kind: string, questions: unknown[]][] = [
  ['a read without an end', [['read', '/proc/kmsg']]],
  ['a read without an end, by another path', [['read', '/run/../proc/kmsg']]],
  ['a sysctl that is none', [['sysctl', 'net/../../kmsg']]],
  ['a command that waits', [['run', ['sleep', '1000']]]],
  ['a command that prints for ever', [['run', ['yes']]]],
  ['a command that is none', [['run', null]]],
  ['a command that changes something', [['run', ['touch', '/run/made']]]],
  ['a word of a command that changes something', [['run', ['ip', 'link', 'add', 'made', 'type', 'dummy']]]],
  ['input that changes something', [['run', LOOKS, { input: 'address show\nlink add made type dummy\n' }]]],
  ['a command that follows', [['run', ['ip', 'monitor']]]],
  ['more time than a command has', [['run', ['iptables-save'], { timeoutMs: 1e9 }]]],
  ['more commands than a run asks', Array.from({ length: 3000 }, (_, n) => ['run', ['iptables-save', '-t', `t${n}`]])],
  ['a question many times', Array.from({ length: 100_000 }, () => ['read', '/etc/hostname'])],
  ['a call that writes', [['remove', '/etc/hostname']]],
];

/** JSON that is whole and wrong: another value in place of one of those that are there, or of all. */
function wrongValues(text: string): fc.Arbitrary<string> {
  const right: unknown = JSON.parse(text);
  const paths = pathsIn(right);
  const value = fc.oneof(
    fc.constantFrom<unknown>(null, {}, [], 5, '', true, [null], [5], { length: 5 }, -1, 1e300, '\u001b[2J'),
    fc.jsonValue({ maxDepth: 2 }),
  );
  return fc
    .tuple(fc.constantFrom(...paths), value)
    .map(([path, wrong]) => JSON.stringify(replaced(right, path, wrong)));
}

function pathsIn(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  const below =
    typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, each]) => pathsIn(each, [...path, key]))
      : [];
  return [path, ...below];
}

function replaced(value: unknown, [key, ...rest]: readonly string[], wrong: unknown): unknown {
  if (key === undefined) return wrong;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  (copy as Record<string, unknown>)[key] = replaced((copy as Record<string, unknown>)[key], rest, wrong);
  return copy;
}

/** A line of JSON, and texts of the lengths that it says: of the configuration, and of what flows are held against, JSON. */
function wrongMemories(text: string): fc.Arbitrary<string> {
  const end = text.indexOf('\n');
  const [head, rest] = [text.slice(0, end), text.slice(end + 1)];
  const { configLength, modelLength } = JSON.parse(head) as { configLength: number; modelLength: number };
  const modelEnd = configLength + modelLength;
  const model = wrongValues(rest.slice(configLength, modelEnd)).map((wrong) =>
    [
      JSON.stringify({ ...JSON.parse(head), modelLength: wrong.length }),
      `\n${rest.slice(0, configLength)}${wrong}${rest.slice(modelEnd)}`,
    ].join(''),
  );
  const cut = fc
    .tuple(fc.nat(text.length), fc.nat(200), fc.string())
    .map(([at, length, instead]) => text.slice(0, at) + instead + text.slice(at + length));
  return fc.oneof(
    wrongValues(head).map((wrong) => `${wrong}\n${rest}`),
    model,
    cut,
  );
}

describe(`files of ours that are damaged (seed ${SEED})`, { concurrency: false }, () => {
  let lab: Lab;
  const shell = async (script: string, ...args: string[]) => {
    const { status, stdout, stderr } = await lab.router.run(['sh', '-ec', script, ...args]);
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };
  /** Ends by itself, soon, and not as a fault of the program. */
  const kylin = async (...args: string[]) => {
    const { status, stdout, stderr } = await lab.router.run(
      [process.execPath, '--max-old-space-size=512', PROGRAM, ...args],
      { timeoutMs: 20_000 },
    );
    assert.ok([0, 2, 64, 65, 69].includes(status), `${args.join(' ')}: ${status}\n${stdout}${stderr}`);
    assert.doesNotMatch(stdout + stderr, /internal error/);
    return { status, text: stdout + stderr };
  };
  const isReached = async (address = '10.10.1.254') =>
    assert.ok((await shell('ip -br -4 address show dev eth1')).includes(`${address}/24`), 'the network is not there');
  before(async () => {
    lab = await createLab();
    for (const config of [SECOND, FIRST]) {
      await lab.configure(config);
      assert.equal((await lab.kylin('reload')).status, 0);
    }
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  for (const path of [...RECORDS, `${LIB}/last-good.yaml`, `${LIB}/refused`, LEFT, ...HINTS])
    for (const [kind, make] of KINDS)
      it(`${path} as ${kind}: start brings the router up`, async () => {
        await shell('rm -rf "$0"; '.concat(make), path);
        await kylin('status');
        await shell('ip address flush dev eth1');
        const { status, text } = await kylin('start');
        assert.equal(status, 0, text);
        // What is a file is put aside where its content is asked for.
        if (kind !== '600 MB')
          assert.match(text, /\S+ is damaged, and put aside as \S+\.damaged(\.\d+)?: (it is no file)$/m);
        await isReached();
        assert.equal((await kylin('reload')).status, 0);
        await shell('rm -rf "$0".damaged*', path);
      });

  for (const path of [LIB, `${LIB}/history`, `${LIB}/backup`, RUN, ...['lock', 'dead'].map((name) => `${RUN}/${name}`)])
    for (const [kind, make] of [['a file', 'echo of > "$0"'], ...KINDS] as const)
      it(`${path} as ${kind}: start brings the router up`, async () => {
        await shell(`cp -a ${LIB} /var/lib/saved; rm -rf "$0"; ${make}`, path);
        await kylin('status');
        await shell('ip address flush dev eth1; iptables-save | grep -q KYLIN-VR; iptables -F; iptables -t nat -F');
        const { status, text } = await kylin('start');
        assert.equal(status, 0, text);
        if (path.startsWith(LIB) && kind !== 'a folder')
          assert.match(text, /\S+ is damaged, and put aside as \S+\.damaged: it is no folder, nor leads to one$/m);
        await isReached();
        assert.equal((await kylin('reload')).status, 0);
        await shell(`rm -rf ${LIB}* "$0".damaged*; mv /var/lib/saved ${LIB}`, path);
      });

  it('a record folder that is a link to a folder stays so', async () => {
    await shell('mv "$0" /var/lib/elsewhere; ln -s elsewhere "$0"', LIB);
    const { status, text } = await kylin('reload');
    assert.deepEqual([status, text.includes('damaged')], [0, false], text);
    await shell('rm "$0"; mv /var/lib/elsewhere "$0"', LIB);
  });

  for (const path of [`${LIB}/owned.json`, LEFT, ...HINTS.filter((each) => each.endsWith('.json'))])
    it(`${path} with any wrong value: no internal error, and the next run is as ever`, async () => {
      const right = (await lab.router.read(path)) ?? (path === LEFT ? LEFT_OVER : '{"clean":true}');
      await fc.assert(
        fc.asyncProperty(wrongValues(right), async (text) => {
          await lab.router.write(path, text, 0o600);
          for (const command of [['status'], ['reload'], ['reload', '--trigger', 'boot']] as const) {
            const { status } = await kylin(...command);
            assert.equal(status, 0, text);
          }
          await isReached();
        }),
        { seed: SEED, numRuns: 6, endOnFailure: true },
      );
      await shell('rm -rf "$0".damaged*', path);
    });

  it('what is remembered of a run with nothing to do, with any wrong value or piece: as ever', async () => {
    const path = `${RUN}/quiet`;
    await lab.configure(FIRST);
    // A run that is asked for looks at the flows, where there are any.
    await shell('conntrack -I -p udp -s 10.10.1.9 -d 192.0.2.9 --sport 1 --dport 2 -t 3600');
    await shell('rm -rf "$0"', path);
    assert.equal((await kylin('reload')).status, 0);
    const right = (await lab.router.read(path)) ?? '';
    await fc.assert(
      fc.asyncProperty(wrongMemories(right), async (text) => {
        for (const command of [['reload'], ['reload', '--trigger', 'timer']] as const) {
          await shell('ip address flush dev eth1');
          await lab.router.write(path, text, 0o600);
          assert.equal((await kylin(...command)).status, 0, text);
          await isReached();
        }
      }),
      { seed: SEED, numRuns: 30, endOnFailure: true },
    );
    await lab.router.write(path, right, 0o600);
    await shell('conntrack -D -p udp -s 10.10.1.9');
  });

  for (const [kind, questions] of ODD_QUESTIONS)
    it(`what is remembered of a run with nothing to do, with ${kind}: nothing of it is asked`, async () => {
      const path = `${RUN}/quiet`;
      await lab.configure(FIRST);
      await shell('rm -rf "$0"', path);
      for (let tries = 0; tries < 2; tries++) assert.equal((await kylin('reload')).status, 0);
      const [head = '', ...texts] = ((await lab.router.read(path)) ?? '').split('\n');
      const memory = JSON.parse(head);
      assert.ok(memory.questions.length > 5);
      const more = questions.map((question) => [JSON.stringify(question), 0]);
      const spoilt = JSON.stringify({ ...memory, questions: [...more, ...memory.questions] });
      await shell('ip address flush dev eth1; ip link delete made 2> /dev/null || true');
      await lab.router.write(path, [spoilt, ...texts].join('\n'), 0o600);
      const begun = performance.now();
      assert.equal((await kylin('reload')).status, 0);
      assert.ok(performance.now() - begun < 20_000);
      await isReached();
      assert.equal(await shell('ls -d /run/made /sys/class/net/made 2> /dev/null || true'), '');
    });

  it('owned.json that is damaged is put aside, with what that means', async () => {
    await lab.router.write(`${LIB}/owned.json`, '[]', 0o600);
    const { status, text } = await kylin('reload');
    assert.equal(status, 0);
    assert.match(
      text,
      /owned\.json is damaged, and put aside as \S+owned\.json\.damaged: addresses and routes of ours on NICs that left the file stay$/m,
    );
    assert.equal(await shell(`cat ${LIB}/owned.json.damaged`), '[]');
    assert.doesNotMatch((await kylin('reload')).text, /damaged/);
  });

  for (const text of ['{}', '[]', 'null', '5', '{"state":{"files":5}}', 'no JSON'])
    it(`checkpoint.json as ${text}, with a change whose time is over: the last good configuration comes up`, async () => {
      await shell(`rm -f ${LIB}/*.damaged`);
      await lab.configure(SECOND);
      assert.equal((await lab.kylin('reload', '--confirm-within', '600')).status, 0);
      await lab.router.write(`${LIB}/checkpoint.json`, text, 0o600);
      await shell(`sed -i 's/"phase":"waiting"/"phase":"applying"/' ${LIB}/pending.json`);
      const { status, text: said } = await kylin('start');
      assert.equal(status, 0, said);
      assert.match(
        said,
        /checkpoint\.json is damaged, and put aside as \S+: what the change found is not known any more$/m,
      );
      await isReached();
      assert.equal(await shell(`ls ${LIB} | grep -c pending || true`), '0');
      await lab.configure(FIRST);
      assert.equal((await kylin('reload')).status, 0);
    });

  it('pending.json that is damaged is put aside, with what that means', async () => {
    await lab.router.write(`${LIB}/pending.json`, '{}', 0o600);
    const { text } = await kylin('reload');
    assert.match(
      text,
      /pending\.json is damaged, and put aside as \S+: whether a change waits for its confirmation is not known$/m,
    );
    await shell(`rm ${LIB}/pending.json.damaged`);
  });

  it('what is damaged and cannot be put aside is said', async () => {
    await shell(
      `rm -f ${LIB}/refused; mkdir ${LIB}/refused; mount --bind ${LIB} ${LIB}; mount -o remount,bind,ro ${LIB}`,
    );
    const { text } = await kylin('reload');
    assert.match(text, /refused is damaged \(it is no file\), and in the way: putting \S+ aside: EROFS: /);
    await shell(`umount ${LIB}; rmdir ${LIB}/refused`);
  });

  it('pending.json with any wrong value: no internal error, and a reload is possible', async () => {
    const waiting = JSON.stringify({
      ...{
        run: '01234567',
        time: '2026-01-01T00:00:00.000Z',
        trigger: 'operator',
        hash: 'a'.repeat(64),
        phase: 'waiting',
      },
      ...{ seconds: 600, boot: await shell('cat /proc/sys/kernel/random/boot_id'), deadline: 1 },
    });
    await fc.assert(
      fc.asyncProperty(wrongValues(waiting), async (text) => {
        await lab.router.write(`${LIB}/pending.json`, text, 0o600);
        for (const command of ['status', 'start', 'reload']) await kylin(command);
        assert.equal((await kylin('reload')).status, 0, text);
        await isReached();
      }),
      { seed: SEED, numRuns: 8, endOnFailure: true },
    );
    await shell(`rm -f ${LIB}/*.damaged*`);
  });

  it('last-good.yaml that is damaged: what it was comes from the history', async () => {
    await lab.configure('if_list: nonsense\n');
    for (const damage of [
      `printf nonsense > ${LIB}/last-good.yaml`,
      `rm ${LIB}/last-good.yaml; mkfifo ${LIB}/last-good.yaml`,
    ]) {
      await shell(`${damage}; ip address flush dev eth1`);
      const { text } = await kylin('start');
      await isReached();
      assert.match(text, LAST_GOOD);
    }
    await lab.configure(FIRST);
    assert.equal((await kylin('reload')).status, 0);
  });

  it('entries of the history that are no files are none', async () => {
    for (const [n, make] of KINDS.map(([, each]) => each).entries())
      await shell(make, `${LIB}/history/00009${n}-20260101T000000Z-operator-0123456${n}.yaml`);
    assert.equal((await kylin('rollback', '--list')).status, 0);
    await lab.configure(SECOND);
    assert.equal((await kylin('reload')).status, 0);
    await isReached('10.10.1.253');
    await lab.configure(FIRST);
    assert.equal((await kylin('reload')).status, 0);
    assert.equal((await kylin('rollback')).status, 0);
    await isReached('10.10.1.253');
    await shell(`rm -rf ${LIB}/history/*-0123456?.yaml`);
    assert.equal((await kylin('reload')).status, 0);
  });

  it('a log with any wrong value in its lines, and a log that is no file: no internal error', async () => {
    const path = '/var/log/kylin-vr/kylin-vr.log';
    const line =
      (await lab.router.read(path))
        ?.trim()
        .split('\n')
        .findLast((each) => each.includes('"steps"')) ?? '';
    await fc.assert(
      fc.asyncProperty(fc.array(wrongValues(line), { minLength: 20, maxLength: 20 }), async (lines) => {
        await lab.router.write(path, `${lines.join('\n')}\n`, 0o640);
        for (const command of [['log'], ['log', '--json'], ['status']] as const)
          assert.equal((await kylin(...command)).status, 0);
      }),
      { seed: SEED, numRuns: 5, endOnFailure: true },
    );
    for (const [, make] of KINDS) {
      await shell(`rm -rf "$0"; ${make}`, path);
      assert.equal((await kylin('log')).status, 0);
      assert.equal((await kylin('reload')).status, 0);
    }
    await shell('rm -rf "$0"', path);
  });
});
