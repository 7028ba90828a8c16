// A guest is the host's enemy: `push` to three of them, of which the one in the middle answers anything.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { parseBounded } from '../../src/base/bounded-json.ts';
import { push } from '../../src/commands/push.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';
import { fitted, kept } from '../../src/push/kept.ts';
import { type Pushed, pushTo } from '../../src/push/push.ts';
import { inProcessContext, PROGRAM } from '../cli/program.ts';
import { createLab } from '../lab/lab.ts';
import { recordTools } from '../lab/tools.ts';
import { type Fault, type Guest, type Programs, startGuest } from './agent.ts';

const SEED = Number(process.env.KYLIN_VR_SEED ?? Date.now() % 2 ** 31);
const CONFIG = "if_list:\n  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }\n";

const COMMANDS = [
  'guest-sync-delimited',
  'guest-info',
  'guest-file-open',
  'guest-file-write',
  'guest-file-flush',
  'guest-file-close',
  'guest-exec',
  'guest-exec-status',
] as const;

/** Whatever else comes in this one's place is passed over, until its time is up. */
const isSync = (command: string) => command === 'guest-sync-delimited';

type Ended = { status: number; guests: Pushed[]; hostile: Guest };

describe(`push to a guest that answers anything (seed ${SEED})`, { concurrency: false }, () => {
  let folder: string;
  let file: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kylin-vr-hostile-'));
    file = join(folder, 'new.yaml');
    await writeFile(file, CONFIG);
  });
  after(async () => {
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  let count = 0;

  /** Gives what the report says, once it is sure that the honest guests were served and nothing stays open anywhere. */
  async function pushed(
    how: { fault?: (command: string, n: number) => Fault | undefined; programs?: Programs },
    seconds = 20,
  ): Promise<Ended> {
    const place = join(folder, `${count++}`);
    const hostile = await startGuest(`${place}-hostile`, how);
    const honest = [await startGuest(`${place}-first`, {}), await startGuest(`${place}-last`, {})];
    try {
      const ended = { stdout: '', stderr: '' };
      const context = inProcessContext(ended);
      const socket = [honest[0]?.path ?? '', hostile.path, honest[1]?.path ?? ''];
      const options = {
        config: '/etc/kylin-vr/kylin-vr.yaml',
        json: true,
        lockTimeout: 1,
        logLevel: 'info' as const,
        logFormat: 'text' as const,
        domain: [],
        socket,
        dryRun: false,
        timeout: seconds,
      };
      const status = await push(context, options, file);
      const { guests } = JSON.parse(ended.stdout) as { guests: Pushed[] };
      assert.deepEqual(
        guests.map(({ name }) => name),
        socket,
      );
      for (const one of [guests[0], guests[2]])
        assert.deepEqual([one?.exitStatus, one?.report.result, one?.report.steps.length], [0, 'changed', 1]);
      for (const { report } of guests)
        for (const list of [report.steps, report.warnings, report.errors]) assert.ok(Array.isArray(list));
      assert.doesNotMatch(ended.stdout, /internal error/);
      assert.equal(status, guests[1]?.exitStatus);
      for (const guest of [...honest, hostile]) {
        await settled(guest);
        assert.equal(guest.connections(), 0);
      }
      for (const guest of honest) assert.equal(guest.open(), 0);
      return { status, guests, hostile };
    } finally {
      for (const guest of [...honest, hostile]) await guest.close();
    }
  }

  const failsWith = async (message: RegExp, fault: (command: string, n: number) => Fault | undefined, seconds = 20) => {
    const { guests, hostile } = await pushed({ fault }, seconds);
    const { exitStatus, report } = guests[1] as Pushed;
    assert.deepEqual([exitStatus, report.result, report.steps, report.warnings], [69, 'failed', [], []]);
    assert.match(report.errors[0]?.message ?? '', message);
    assert.equal(report.errors.length, 1);
    return hostile;
  };

  /** A number is for the answer of that command that comes as so many-th. */
  const place = fc.record({ command: fc.constantFrom(...COMMANDS), n: fc.nat(8) });

  const pushedWith = async ({ command, n }: { command: string; n: number }, what: Fault, seconds?: number) => {
    const { hostile } = await pushed(
      { fault: (asked, times) => (asked === command && times === n ? what : undefined) },
      seconds,
    );
    if (what !== 'hang up' && what !== 'flood' && what !== 'lines' && command !== 'guest-file-open')
      assert.equal(hostile.asked('guest-file-close') >= hostile.asked('guest-file-open'), true);
  };

  it('whatever one answer is, the others are served and the report has all', async () => {
    await fc.assert(
      fc.asyncProperty(
        place.filter(({ command }) => !isSync(command)),
        answer,
        (where, what) => pushedWith(where, what),
      ),
      { seed: SEED, numRuns: 300, endOnFailure: true },
    );
  });

  it('whatever all of its answers are, the others are served and the report has all', async () => {
    const answers = fc.array(fc.option(answer, { freq: 3, nil: undefined }), { minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(answers, async (list) => {
        let asked = 0;
        await pushed({ fault: (command) => (isSync(command) ? undefined : list[asked++ % list.length]) }, 3);
      }),
      { seed: SEED, numRuns: 100, endOnFailure: true },
    );
  });

  it('whatever comes in place of an answer, the others are served and the report has all', async () => {
    const cases = fc.sample(fc.tuple(place, noAnswer), { seed: SEED, numRuns: 24 });
    await Promise.all(cases.map(([where, what]) => pushedWith(where, what, 3)));
  });

  it('whatever its programs print, the others are served and the report has all', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('check', 'reload'),
        report,
        fc.integer({ min: -1, max: 256 }),
        async (verb, stdout, status) => {
          await pushed({ programs: (argv) => (argv[1] === verb ? { stdout, status } : undefined) });
        },
      ),
      { seed: SEED, numRuns: 200, endOnFailure: true },
    );
  });

  it('says of an answer of no sense that it is none, and closes the handle', async () => {
    const reply = (value: unknown): Fault => ({ bytes: `${JSON.stringify(value)}\n` });
    for (const [command, value] of [
      ['guest-info', null],
      ['guest-info', {}],
      ['guest-info', { return: null }],
      ['guest-info', { return: { version: 5 } }],
      ['guest-info', { return: { version: '1', supported_commands: 5 } }],
      ['guest-info', { error: null }],
      ['guest-info', { error: { desc: 5 } }],
      ['guest-file-open', { return: null }],
      ['guest-file-open', { return: {} }],
      ['guest-file-write', { return: null }],
      ['guest-exec', { return: null }],
      ['guest-exec', { return: { pid: '1' } }],
      ['guest-exec-status', { return: { exited: 'no' } }],
      ['guest-exec-status', { return: { exited: true, exitcode: 0, 'out-data': 5 } }],
    ] as const) {
      const hostile = await failsWith(
        new RegExp(
          `the guest agent of \\S+ answers ${command} with what is no answer to it: look at what runs in the guest, as qemu-guest-agent$`,
        ),
        (asked) => (asked === command ? reply(value) : undefined),
      );
      assert.equal(hostile.open(), command === 'guest-file-open' ? 1 : 0);
    }
  });

  it('says of one that hangs up that it did, and of one that is silent that it was', async () => {
    const at = (command: string, what: Fault) => (asked: string) => (asked === command ? what : undefined);
    await failsWith(
      /does not answer \(it hung up before it answered guest-file-write\)/,
      at('guest-file-write', 'hang up'),
    );
    await failsWith(/does not answer \(no answer to guest-file-write in 3 s\)/, at('guest-file-write', 'silence'), 3);
  });

  it('stops one that says empty lines for ever, before its answer and in its place', async () => {
    const at = (command: string) => (asked: string) => (asked === command ? ('lines' as const) : undefined);
    await failsWith(
      /does not answer \(no answer to guest-sync-delimited in 3 s\)|says more than 16 MiB/,
      at('guest-sync-delimited'),
      3,
    );
    await failsWith(/answers guest-info with what is no answer to it/, at('guest-info'), 3);
  });

  it('says of one that dies at the reload that the file is in place', async () => {
    let isMoved = false;
    const { guests } = await pushed({
      fault: (command) => (command === 'guest-exec' && isMoved ? 'hang up' : undefined),
      programs: ([program]) => {
        isMoved ||= program === 'mv';
        return undefined;
      },
    });
    assert.match(
      guests[1]?.report.errors[0]?.message ?? '',
      /^\/etc\/kylin-vr\/kylin-vr\.yaml in the guest is the new one: .*hung up before it answered guest-exec\)/,
    );
  });

  it('says of one that dies at the rename that nobody knows', async () => {
    let isMoving = false;
    const { guests } = await pushed({
      programs: ([program]) => {
        isMoving ||= program === 'mv';
        return undefined;
      },
      fault: (command) => (command === 'guest-exec-status' && isMoving ? 'hang up' : undefined),
    });
    assert.match(
      guests[1]?.report.errors[0]?.message ?? '',
      /^whether \/etc\/kylin-vr\/kylin-vr\.yaml in the guest is the new one is not known: .*hung up/,
    );
  });

  it('takes for a report only what is one', async () => {
    for (const stdout of [
      '[1,2]',
      '{}',
      'null',
      '5',
      '"changed"',
      '{"result":5}',
      '{"result":"changed","steps":5}',
      '{"result":"changed","steps":[{"kind":"x","text":"other: changed, 0 steps"}]}',
      '{"result":"changed","durationMs":"5"}',
      '{"result":"changed","warnings":[null]}',
      `{"result":"changed","steps":${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
      // A mistake each, of which no list is made.
      `{"result":"changed","steps":[1${',1'.repeat(900_000)}]}`,
      `{"result":"changed","warnings":[{}${',{}'.repeat(400_000)}]}`,
      `{"valid":true,"errors":[{}${',{}'.repeat(400_000)}]}`,
    ]) {
      const { guests } = await pushed({ programs: (argv) => (argv[1] === 'reload' ? { stdout } : undefined) });
      const { exitStatus, report } = guests[1] as Pushed;
      assert.deepEqual([exitStatus, report.result, report.steps], [69, 'failed', []], stdout);
      assert.match(
        report.errors[0]?.message ?? '',
        /^\/etc\/kylin-vr\/kylin-vr\.yaml in the guest is the new one: kylin-vr ended 0 in the guest without a report; run kylin-vr status there; it said: /,
      );
    }
  });

  it('ends as failed where a guest says so, whatever status it gives', async () => {
    const { status } = await pushed({
      programs: (argv) => (argv[1] === 'reload' ? { stdout: '{"result":"rolled-back"}', status: 0 } : undefined),
    });
    assert.equal(status, 69);
  });

  it('with a mistake of our own ends for that guest alone', async () => {
    const guest = await startGuest(join(folder, 'mistake'), {});
    const order = { file, bytes: Buffer.from(CONFIG), path: '/etc/kylin-vr/kylin-vr.yaml', dryRun: false };
    const mistake = () => {
      throw new TypeError('a mistake');
    };
    const { exitStatus, report } = await pushTo(
      linuxHost(),
      { socket: guest.path },
      { ...order, answerMs: 5000, reloadMs: 5000 },
      { say: mistake, check: () => {} },
    );
    await settled(guest);
    assert.deepEqual([exitStatus, report.result, report.steps, guest.open()], [1, 'failed', [], 0]);
    assert.match(report.errors[0]?.message ?? '', /^internal error, please report it: TypeError: a mistake\n/);
    await guest.close();
  });

  it('stops one that takes each piece of the file for ever', async () => {
    await writeFile(file, CONFIG + '# a comment of no importance\n'.repeat(10_000));
    const { guests } = await pushed(
      { fault: (command) => (command === 'guest-file-write' ? { lateMs: 1000 } : undefined) },
      3,
    );
    await writeFile(file, CONFIG);
    assert.match(
      guests[1]?.report.errors[0]?.message ?? '',
      /the guest agent took \d of 6 pieces of the file in 3 s: the guest's own file is as it was; push again when the guest has less to do, or with a longer --timeout$/,
    );
  });

  it('bounds the memory that endless output takes', async () => {
    const guest = await startGuest(join(folder, 'endless'), {
      fault: (command) => (command === 'guest-exec-status' ? 'flood' : undefined),
    });
    const honest = await startGuest(join(folder, 'honest'), {});
    const usual = await run('--socket', honest.path, file);
    await honest.close();
    const { status, stderr, kib } = await run('--socket', guest.path, file);
    await guest.close();
    assert.deepEqual([usual.status, status], [0, 69]);
    assert.match(
      stderr,
      /: the guest agent at \S+ says more than 16 MiB to guest-exec-status: that is no agent's answer, look at what runs in the guest$/m,
    );
    assert.ok(kib - usual.kib < 64 * 1024, `${kib} KiB, and ${usual.kib} of an honest one`);
  });

  it('shows the whole report of an honest guest of 40,000 EIPs', async () => {
    const text = `+ address 203.0.113.50/32 on eth0 ${'x'.repeat(60)}`;
    const steps = Array.from({ length: 50_000 }, () => ({ kind: 'add-address', text }));
    const stdout = JSON.stringify({ result: 'changed', steps, durationMs: 5 }, null, 2);
    const { guests } = await pushed({ programs: (argv) => (argv[1] === 'reload' ? { stdout } : undefined) });
    assert.equal(guests[1]?.report.steps.length, 50_000);
    assert.deepEqual(guests[1]?.report.warnings, []);
  });

  it('shows the report of an honest guest among 48 that say as much as they can, in bounded memory', async (t) => {
    const report = (value: object) => JSON.stringify({ result: 'changed', durationMs: 1, ...value });
    const letter = (char: string, times: number) => report({ steps: [{ kind: 'x', text: `+ ${char.repeat(times)}` }] });
    const says = [
      letter('a', 11.9e6),
      letter('\u044f', 4.5e6),
      report({ steps: Array.from({ length: 130_000 }, () => ({ kind: 'x', text: '+ of mine' })) }),
      report({ warnings: [{ message: '\u007f'.repeat(11.9e6) }] }),
    ];
    const guests: Guest[] = [];
    for (let n = 0; n < 49; n++) {
      const stdout = n === 24 ? undefined : says[n % says.length];
      const programs: Programs = (argv) => (argv[1] === 'reload' && stdout !== undefined ? { stdout } : undefined);
      guests.push(await startGuest(join(folder, `crowd-${n}`), { programs }));
    }
    const sockets = guests.flatMap(({ path }) => ['--socket', path]);
    const honest = join(folder, 'crowd-24');
    const inText = await run(...sockets, file);
    assert.equal(inText.status, 0, inText.stderr.slice(-1000));
    assert.match(inText.stdout, new RegExp(`^\\+ address\n${honest}: changed, 1 step in 5 ms$`, 'm'));
    assert.match(inText.stdout, /crowd-2: changed, 130000 steps in 1 ms$/m);
    const lacks =
      /crowd-2: warning: \d+ of 130000 steps, and 0 of 0 warnings and errors of this guest are left out: there is no room for more in one push; kylin-vr status in the guest shows what is in force$/m;
    assert.match(inText.stderr, lacks);
    const inJson = await run('--json', ...sockets, file);
    for (const guest of guests) await guest.close();
    assert.equal(inJson.status, 0, inJson.stderr.slice(-1000));
    const { guests: told, errors } = JSON.parse(inJson.stdout.replace(/^peak .*/m, '')) as {
      guests: (Pushed & { report: { stepsLeftOut?: number } })[];
      errors: unknown[];
    };
    assert.deepEqual([told.length, errors], [49, []]);
    assert.deepEqual([told[24]?.name, told[24]?.report.steps.length, told[24]?.report.warnings], [honest, 1, []]);
    const { steps = [], stepsLeftOut = 0 } = told[2]?.report ?? {};
    assert.deepEqual([steps.length + stepsLeftOut, stepsLeftOut > 0], [130_000, true]);
    t.diagnostic(`${inText.kib} KiB in text, ${inJson.kib} in JSON`);
    assert.ok(Math.max(inText.kib, inJson.kib) < 400 * 1024, `${inText.kib} KiB in text, ${inJson.kib} in JSON`);
  });
});

/** `push` as a process of its own, and the memory that it took at most. */
async function run(...args: string[]): Promise<{ status: number; stdout: string; stderr: string; kib: number }> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the program's
  const hook = 'process.on("exit", () => process.stdout.write(`peak ${process.resourceUsage().maxRSS}\\n`))';
  const require = `data:text/javascript,${encodeURIComponent(hook)}`;
  const child = spawn(process.execPath, ['--import', require, PROGRAM, 'push', ...args]);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (piece) => {
    stdout += String(piece);
  });
  child.stderr.on('data', (piece) => {
    stderr += String(piece);
  });
  const [status] = (await once(child, 'close')) as [number];
  return { status, stdout, stderr, kib: Number(/^peak (\d+)$/m.exec(stdout)?.[1]) };
}

describe('the room for reports', () => {
  const cost = fc.integer({ min: 1, max: 400 });
  const guestOf = (steps: number) => {
    const step = { kind: 'x', text: '+ x' };
    return {
      kept: kept({ result: 'changed', steps: Array.from({ length: steps }, () => step), warnings: [], errors: [] }),
    };
  };
  const costOf = (steps: number) => guestOf(steps).kept.cost;

  it('is shared so that whoever takes less than his share is never cut, and all fit', () => {
    fc.assert(
      fc.property(
        fc.array(cost, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 300, max: 20_000 }),
        (list, each) => {
          const most = each * list.length;
          const all = fitted(list.map(guestOf), most);
          const costs = all.map((one) => one?.kept.cost ?? 0);
          assert.ok(costs.reduce((sum, one) => sum + one, 0) <= most);
          list.forEach((steps, n) => {
            const left = all[n]?.kept.report.steps.length ?? 0;
            if (costOf(steps) <= each) assert.equal(left, steps);
            // Of two, who asked for more has no less.
            for (const [m, others] of list.entries())
              if (others <= steps) assert.ok((all[m]?.kept.report.steps.length ?? 0) <= left);
          });
          assert.deepEqual(fitted(all, most), all);
        },
      ),
      { seed: SEED },
    );
  });
});

describe(`push through libvirt to a guest that answers anything (seed ${SEED})`, () => {
  /** Hands a question to the socket that is named as the domain, and prints what comes: more than libvirt would let pass. */
  const virsh = (folder: string) => `#!/usr/bin/perl
    use strict;
    use IO::Socket::UNIX;
    my ($domain, $question) = @ARGV[4, 6];
    my $guest = IO::Socket::UNIX->new("${folder}/$domain") or die "error: failed to get domain '$domain'\n";
    print $guest "$question\n";
    print readline($guest) // die "error: Guest agent is not responding: it hung up\n";
    `;

  it('ends for that guest alone, with a report that has all', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'kylin-vr-hostile-'));
    const lab = await createLab();
    try {
      // It gives the lab an /usr/sbin of its own.
      await recordTools(lab.router);
      await lab.router.write('/usr/sbin/virsh', virsh(folder), 0o755);
      await writeFile(join(folder, 'new.yaml'), CONFIG);
      const order = ['--domain', 'hostile', '--domain', 'honest', '--json', '--timeout', '20'];
      let [fault, programs]: [Fault | undefined, Programs] = [undefined, () => undefined];
      let at: string | undefined;
      const hostile = await startGuest(join(folder, 'hostile'), {
        fault: (command) => (command === at ? fault : undefined),
        programs: (argv) => programs(argv),
      });
      const honest = await startGuest(join(folder, 'honest'), {});
      const pushed = async () => {
        const { stdout } = await lab.kylin('push', ...order, join(folder, 'new.yaml'));
        assert.doesNotMatch(stdout, /internal error/);
        const { guests } = JSON.parse(stdout) as { guests: Pushed[] };
        assert.deepEqual(
          guests.map(({ name }) => name),
          ['hostile', 'honest'],
        );
        for (const { report } of guests)
          for (const list of [report.steps, report.warnings, report.errors]) assert.ok(Array.isArray(list));
        assert.deepEqual([guests[1]?.exitStatus, guests[1]?.report.result, honest.open()], [0, 'changed', 0]);
      };
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...COMMANDS), answer, async (command, what) => {
          [at, fault] = [command, what];
          await pushed();
        }),
        { seed: SEED, numRuns: 20, endOnFailure: true },
      );
      at = undefined;
      await fc.assert(
        fc.asyncProperty(report, async (stdout) => {
          programs = (argv) => (argv[1] === 'reload' ? { stdout } : undefined);
          await pushed();
        }),
        { seed: SEED, numRuns: 10, endOnFailure: true },
      );
      await hostile.close();
      await honest.close();
    } finally {
      await lab.close();
      await rm(folder, { recursive: true });
    }
  });
});

describe('JSON of somebody else', () => {
  it('is read as JSON.parse reads it, or not at all', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.string(),
          fc.json().map((text) => text.slice(1)),
        ),
        (text) => {
          let wanted: unknown;
          try {
            wanted = JSON.parse(text);
          } catch {}
          assert.deepEqual(parseBounded(text, { depth: 1000, values: 100_000 }), wanted);
        },
      ),
      { seed: SEED, numRuns: 1000 },
    );
  });

  it('is bounded in depth and in values', () => {
    const bounds = { depth: 3, values: 5 };
    assert.deepEqual(parseBounded('[[["[[[[,,,,,,\\"[["]]]', bounds), [[['[[[[,,,,,,"[[']]]);
    for (const text of ['[[[[1]]]]', '[1,2,3,4,5,6]', '['.repeat(10_000_000)])
      assert.equal(parseBounded(text, bounds), undefined);
  });
});

/** The end of a connection takes its time to arrive. */
async function settled(guest: Guest): Promise<void> {
  for (let turns = 0; turns < 1000 && guest.connections() > 0; turns++) await new Promise(setImmediate);
}

const anything = fc.anything({ withNullPrototype: false, withBigInt: false, maxDepth: 4 });
const shaped = fc.record(
  {
    exited: fc.oneof(fc.boolean(), anything),
    exitcode: fc.oneof(fc.integer(), anything),
    signal: fc.oneof(fc.integer(), anything),
    pid: fc.oneof(fc.integer(), anything),
    version: fc.oneof(fc.string(), anything),
    supported_commands: fc.oneof(fc.array(fc.record({ name: fc.string(), enabled: fc.boolean() })), anything),
    count: fc.oneof(fc.integer(), anything),
    'out-data': fc.oneof(fc.base64String(), fc.string(), anything),
    'err-data': fc.oneof(fc.base64String(), anything),
  },
  { requiredKeys: [] },
);
const text = (value: unknown): string => {
  // What JSON has no word for is left out.
  try {
    return JSON.stringify(value) ?? 'undefined';
  } catch {
    return '{';
  }
};
const line = fc.oneof(
  fc.oneof(shaped, anything).map((value) => text({ return: value })),
  anything.map((value) => text({ error: value })),
  fc.string({ unit: 'binary' }).map((desc) => text({ error: { class: 'GenericError', desc } })),
  anything.map(text),
  fc.string({ unit: 'binary' }),
  fc
    .constantFrom('[', '{"return":', '{"a":')
    .chain((open) => fc.integer({ min: 1, max: 100_000 }).map((n) => open.repeat(n))),
);
const answer: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 40, arbitrary: line.map((bytes): Fault => ({ bytes: `${bytes}\n` })) },
  { weight: 2, arbitrary: fc.constant<Fault>('hang up') },
);
const noAnswer: fc.Arbitrary<Fault> = fc.oneof(
  line.map((bytes): Fault => ({ bytes })),
  fc.uint8Array({ maxLength: 200 }).map((bytes): Fault => ({ bytes: Buffer.from(bytes) })),
  fc.constantFrom<Fault>('silence', 'hang up', 'flood', 'lines'),
);
const report = fc.oneof(
  fc
    .record(
      {
        result: fc.oneof(fc.constantFrom('changed', 'failed', 'constructor', '__proto__'), anything),
        valid: fc.oneof(fc.boolean(), anything),
        steps: fc.oneof(fc.array(fc.record({ kind: fc.string(), text: fc.string({ unit: 'binary' }) })), anything),
        warnings: fc.oneof(fc.array(fc.record({ message: fc.string({ unit: 'binary' }) })), anything),
        errors: fc.oneof(fc.array(fc.record({ message: fc.string(), line: fc.double() })), anything),
        durationMs: fc.oneof(fc.double(), anything),
      },
      { requiredKeys: [] },
    )
    .map(text),
  anything.map(text),
  fc.string({ unit: 'binary' }),
);
