// Killed at any instant: no half file is left to be read, the next run converges, nothing foreign is lost, and nothing stays
// locked. Instants are those of a traced run (kill-hook.cjs) and random ones.
//
//   KYLIN_VR_KILLS=200  so many instead of 20
//   KYLIN_VR_SEED=7     the same ones again

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { numbers } from '../lab/random.ts';
import { networkOf } from '../lab/state.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { buildVariant } from './variant.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const CONFIGS = {
  one: `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
  - { eip: 198.51.100.7, vm-ip: 10.10.1.12 }
`,
  other: `if_list:
  - { ipaddr: 203.0.113.38, prefix: 24, mac: '${U}', gateway: 203.0.113.1, mtu: 1400 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }
eip_list:
  - { eip: 203.0.113.51, vm-ip: 10.10.2.21 }
  - { eip: 198.51.100.7, vm-ip: 10.10.2.22 }
port_forward_list:
  - { eip: 203.0.113.60, protocal: tcp, port: 8080, vm-port: 80, vm-ip: 10.10.1.12 }
route_list:
  - { dest: 172.24.0.0/16, via: 10.10.2.9 }
`,
} as const;
type Name = keyof typeof CONFIGS;
const NAMES = ['one', 'other'] as const;
const otherThan = (name: Name): Name => (name === 'one' ? 'other' : 'one');

const KILLS = Number(process.env.KYLIN_VR_KILLS ?? 20);
const SEED = Number(process.env.KYLIN_VR_SEED ?? randomInt(1e6));
const NEXT_WITHIN_MS: Record<Path, number> = { ip: 10_000, keyfile: 30_000, ifcfg: 30_000 };

/** Commands that change something; NetworkManager's calls that only ask are not among them. */
const WRITES =
  /^run (ip -batch|ip link set|iptables\S*-restore --noflush|conntrack -D|nmcli (connection|device) (load|reload|reapply)|nmcli --wait|busctl .*(LoadConnections|Reapply))/;

/** One way to be killed, on the way from one configuration to the other. */
type Kill = {
  /** An instant of the trace, or milliseconds after the start. */
  at: string | number;
  nth?: number;
  whom: 'node' | 'all';
  /** What is asked for afterwards. */
  next: 'same' | 'back';
};

/** When something happened in a run, what, and for the which time. */
type Instant = { ms: number; what: string; nth: number };

type Result = { killed: boolean; between: boolean; what: string; nextMs: number; complaints: string[] };

const FOREIGN = `
  ip link add br-op type bridge; ip address add 192.0.2.129/25 dev br-op; ip link set br-op up
  ip route add 198.51.100.0/24 via 192.0.2.200 dev br-op proto static metric 50
  ip route add default via 192.0.2.200 dev br-op table 100
  ip rule add from 192.0.2.129 table 100
  iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
  iptables -I FORWARD 1 -s 10.10.1.99/32 -j DROP; iptables -A INPUT -p tcp --dport 22 -j ACCEPT
  iptables -t mangle -A PREROUTING -i eth1 -j MARK --set-mark 7`;

/** A foreign profile of a NIC of ours: each run puts it aside, whole. */
const IFCFG = {
  file: '/etc/sysconfig/network-scripts/ifcfg-foreign',
  content: `DEVICE=eth1\nONBOOT=no\n# ${'by hand '.repeat(600)}\n`,
};
const KEYFILE = {
  file: '/etc/NetworkManager/system-connections/foreign.nmconnection',
  content: `[connection]\nid=foreign\ntype=ethernet\ninterface-name=eth1\nautoconnect=false\n# ${'by hand '.repeat(600)}\n`,
};
const CLAIMS: Record<Path, typeof IFCFG> = { ip: IFCFG, ifcfg: IFCFG, keyfile: KEYFILE };

/** In the middle of its work each writing command says so, and takes its time. */
const slowly = (seconds: number) =>
  `case "$*" in *-batch*) cat > /mnt/given; n=$(wc -l < /mnt/given); head -n $((n / 2)) /mnt/given | /bin/ip -batch -; echo > /mnt/inside; sleep ${seconds}; tail -n +$((n / 2 + 1)) /mnt/given | /bin/ip -batch -; exit ;; *--noflush*|*reapply*) echo > /mnt/inside; sleep ${seconds} ;; esac`;

export function killed(path: Path): void {
  describe(`killed: ${NAME_OF[path]}`, { concurrency: false }, () => {
    let lab: Lab;
    let tools: Tools;
    let now: Name = 'one';
    const networks = new Map<Name, string>();
    const files = new Map<Name, Map<string, string>>();
    const traces = new Map<Name, Instant[]>();
    /** The fastest run to each: what is killed at random is killed before it ends. */
    const lasting = new Map<Name, number>();
    const random = numbers(SEED);

    before(async () => {
      lab = await createLabOn(path, {
        manager: { configuration: '[keyfile]\nunmanaged-devices=interface-name:br-op\n' },
      });
      tools = await recordTools(lab.router);
      await shell(FOREIGN);
      // Twice round: what the first one finds was not ours.
      for (const name of ['one', 'other', 'one', 'other', 'one'] as const) {
        await prepare(name);
        const { status, instants, stderr } = await run(PROGRAM, {});
        assert.equal(status, 0, stderr);
        networks.set(name, await networkOf(lab.router));
        files.set(name, await filesOf());
        traces.set(name, instants);
        lasting.set(name, Math.min(instants.at(-1)?.ms ?? 0, lasting.get(name) ?? Number.POSITIVE_INFINITY));
      }
    });
    after(() => lab?.close());

    it(`at ${KILLS} instants (seed ${SEED}): the next run converges, and nothing is half or lost`, async (t) => {
      const results: Result[] = [];
      for (const kill of chosen()) results.push(await killOnce(PROGRAM, kill));
      const hits = results.filter(({ killed }) => killed);
      const between = hits.filter(({ between }) => between);
      const longest = Math.max(...results.map(({ nextMs }) => nextMs));
      t.diagnostic(
        `${hits.length} of ${results.length} killed, ${between.length} between the first and the last writing command; ` +
          `the next run took ${Math.round(longest)} ms at most`,
      );
      if (process.env.KYLIN_VR_KILLS !== undefined) for (const { what } of results) t.diagnostic(what);
      else for (const { killed, what } of results) if (!killed) t.diagnostic(`not killed: ${what}`);
      assert.deepEqual(
        results.flatMap(({ complaints }) => complaints),
        [],
      );
      assert.ok(hits.length >= KILLS * 0.9, `${hits.length} of ${KILLS} were killed`);
      assert.ok(
        between.length >= KILLS / 2,
        `${between.length} of ${KILLS} between the first and the last writing command`,
      );
    });

    // What protects is the same on every path.
    if (path !== 'ip') return;

    it('a program that writes files in place is found out', async () => {
      const program = await buildVariant('no rename');
      const half = (traces.get(otherThan(now)) ?? []).filter(({ what }) => /^half \/(etc|var)/.test(what));
      const { complaints } = await killOnce(program, { at: half[0]?.what ?? '', whom: 'node', next: 'same' });
      assert.match(complaints.join('\n'), /is half/);
      await settle();
    });

    it('a program without a lock is found out', async () => {
      const program = await buildVariant('no lock');
      const [command] = writes(traces.get(otherThan(now)) ?? []).filter(({ what }) => what.includes('--noflush'));
      const inside = command?.what.replace('before', 'inside') ?? '';
      let found = '';
      for (let tries = 0; found === '' && tries < 3; tries++) {
        // Longer than the next run takes, or nearly always: what is written after it is what shows.
        const { complaints } = await killOnce(program, { at: inside, whom: 'node', next: 'back' }, 5);
        found = complaints.join('\n');
        await settle();
      }
      assert.match(found, /network|in sync/);
    });

    /** After what a broken program left. */
    async function settle(): Promise<void> {
      await shell('rm -rf /run/kylin-vr; find /etc /var/lib -name "*.kylin-vr-new" -delete');
      await prepare('one');
      assert.equal((await run(PROGRAM, {})).status, 0);
      now = 'one';
    }

    /**
     * Of the instants of both ways: every kind of interrupted command, then by chance, four of five between the first and the
     * last writing command, half-written files first.
     */
    function chosen(): Kill[] {
      const some = <T>(...choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
      const poolsOf = (name: Name) => {
        const instants = traces.get(name) ?? [];
        const halfFirst = (list: readonly Instant[]) => {
          const mixed = shuffled(list);
          const isHalf = ({ what }: Instant) => what.startsWith('half ');
          return [...mixed.filter(isHalf), ...mixed.filter((instant) => !isHalf(instant))];
        };
        const isInside = ({ ms }: Instant) => isBetween(instants, ms);
        const commands = writes(instants).filter(
          ({ what }) => what.includes('--noflush') || /-batch|reapply/.test(what),
        );
        const inside = [...new Set(commands.map(({ what }) => what.replace('before ', 'inside ')))];
        return {
          between: [...inside.map((what) => ({ what, nth: 1 })), ...halfFirst(instants.filter(isInside))],
          around: halfFirst(instants.filter((instant) => !isInside(instant))),
        };
      };
      const pools = { one: poolsOf('one'), other: poolsOf('other') };
      const take = (name: Name, pool: 'between' | 'around'): Pick<Instant, 'what' | 'nth'> | undefined => {
        if (pools[name][pool].length === 0) pools[name] = poolsOf(name);
        return pools[name][pool].shift();
      };
      const kills: Kill[] = [];
      for (let to: Name = otherThan(now); kills.length < KILLS; ) {
        // One of four at random instants, of the others one of five before the first writing command or after the last.
        const at = kills.length % 4 === 3 ? undefined : take(to, kills.length % 5 === 4 ? 'around' : 'between');
        const kill: Kill = {
          at: at?.what ?? random() * 0.9 * (lasting.get(to) ?? 0),
          nth: at?.nth ?? 1,
          whom: some('node', 'all'),
          next: at?.what.startsWith('inside') ? 'back' : some('same', 'back'),
        };
        kills.push(kill);
        if (kill.next === 'same') to = otherThan(to);
      }
      return kills;
    }

    function shuffled<T>(list: readonly T[]): T[] {
      return list
        .map((item) => [random(), item] as const)
        .sort(([a], [b]) => a - b)
        .map(([, item]) => item);
    }

    async function killOnce(program: string, kill: Kill, slowS = 0.6): Promise<Result> {
      const [from, to] = [now, otherThan(now)];
      const inside = typeof kill.at === 'string' && kill.at.startsWith('inside ');
      await prepare(to);
      await slow(inside ? slowS : 0);
      const { instants, status } = await run(program, kill);
      await slow(0);
      const killed = status === null;
      const ms = instants.at(-1)?.ms ?? 0;
      const where =
        typeof kill.at === 'number'
          ? `${Math.round(kill.at)} ms, ${instants.at(-1)?.what}`
          : `${kill.at}, ${kill.nth ?? 1}.`;
      const what = `${from} → ${to}: ${where} (${kill.whom})`;
      const complaints = killed ? await halfFiles() : [];

      const asked = kill.next === 'same' ? to : from;
      await lab.configure(CONFIGS[asked]);
      const started = performance.now();
      const next = await run(program, {});
      const nextMs = performance.now() - started;
      if (next.status !== 0) complaints.push(`the next run ends ${next.status}: ${next.stderr}`);
      if (nextMs > NEXT_WITHIN_MS[path]) complaints.push(`the next run takes ${nextMs} ms`);
      // A child of the killed run that still lives would write now.
      if (inside && kill.whom === 'node') await sleep(slowS * 1000 + 100);
      const { stdout } = await lab.kylin('plan', '--exit-code');
      if (stdout !== 'in sync\n') complaints.push(`not in sync: ${stdout}`);
      const network = await networkOf(lab.router);
      if (network !== networks.get(asked))
        complaints.push(`the network is\n${network}\nand should be\n${networks.get(asked)}`);
      complaints.push(...(await leftovers()));
      now = asked;
      return {
        killed,
        between: isBetween(traces.get(to) ?? [], ms, instants),
        what,
        nextMs,
        complaints: complaints.map((complaint) => `${what}: ${complaint}`),
      };
    }

    async function prepare(name: Name): Promise<void> {
      await lab.configure(CONFIGS[name]);
      await lab.router.write(CLAIMS[path].file, CLAIMS[path].content, 0o600);
    }

    async function slow(seconds: number): Promise<void> {
      const script = seconds > 0 ? slowly(seconds) : undefined;
      for (const tool of ['ip', 'iptables-nft-restore', 'nmcli', 'busctl'] as const) await tools.before(tool, script);
      await shell('rm -f /mnt/inside');
    }

    /** Of one that was killed the status is null. */
    async function run(program: string, { at, nth, whom }: Partial<Kill>) {
      await shell('rm -f /mnt/trace; touch /mnt/trace');
      const order = { trace: '/mnt/trace', whom, ...(typeof at === 'string' && { at, nth }) };
      const child = lab.router.spawn(
        [process.execPath, '--require', join(import.meta.dirname, 'kill-hook.cjs'), program, 'reload'],
        { env: { KYLIN_VR_KILL: JSON.stringify(order) } },
      );
      const ended = once(child, 'exit');
      const stderr = text(child.stderr as Readable);
      child.stdout?.resume();
      if (typeof at === 'number') {
        await Promise.race([sleep(at), ended]);
        if (child.pid !== undefined && child.exitCode === null) killNow(child.pid, whom ?? 'node');
      }
      const [status] = (await ended) as [number | null];
      const trace = (await lab.router.read('/mnt/trace')) ?? '';
      const times = new Map<string, number>();
      const instants = trace.split('\n').flatMap((line): Instant[] => {
        const [, ms, what] = /^(\S+) (.*)$/.exec(line) ?? [];
        if (what === undefined) return [];
        const nth = (times.get(what) ?? 0) + 1;
        times.set(what, nth);
        return [{ ms: Number(ms), what, nth }];
      });
      // Of a killed child the pipes may live on in its own children.
      return { status, instants, stderr: status === null ? '' : await stderr };
    }

    /** What is there now, of what kylin-vr writes: path → content. */
    async function filesOf(): Promise<Map<string, string>> {
      const stdout = await shell(`
        for folder in ${FOLDERS.join(' ')}; do
          [ ! -d $folder ] || find $folder -maxdepth 1 -type f ! -name '*.kylin-vr-new' ! -name '*.new' | sort
        done | while read -r file; do printf '\\001%s\\n' "$file"; cat "$file"; done`);
      return new Map(
        stdout
          .split('\u0001')
          .slice(1)
          .map((part) => {
            const end = part.indexOf('\n');
            return [part.slice(0, end), part.slice(end + 1)];
          }),
      );
    }

    /** Every file has the whole of a content that it had before or was to have. */
    async function halfFiles(): Promise<string[]> {
      const found = await filesOf();
      const complaints = [...found].flatMap(([file, content]) => {
        const known = NAMES.map((name) => files.get(name)?.get(file));
        if (file === CLAIMS[path].file) known.push(CLAIMS[path].content);
        // A mark is written where it is, and half of one is as good as one that says "broken".
        if (file.endsWith('/code-in-use')) return [];
        const whole = /\.json$/.test(file)
          ? isJson(content)
          : file.endsWith('/quiet')
            ? isWholeMemory(content)
            : /last-good|history/.test(file)
              ? (Object.values(CONFIGS) as string[]).includes(content)
              : known.includes(content);
        return whole ? [] : [`${file} is half: ${content}`];
      });
      if (![...found.values()].includes(CLAIMS[path].content)) complaints.push('the foreign profile is lost');
      return complaints;
    }

    async function leftovers(): Promise<string[]> {
      const stdout = await shell(
        `find /etc /var/lib /run -name '*kylin-vr-new*' -o -path '/run/kylin-vr/*' \\( -name '*.new' -o -path '*/lock*' -o -path '*/dead/*' \\)`,
      );
      return stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => `${line} is left`);
    }

    async function shell(script: string): Promise<string> {
      return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
    }
  });
}

const FOLDERS = [
  '/etc/sysconfig/network-scripts',
  '/etc/NetworkManager/system-connections',
  '/run/NetworkManager/system-connections',
  '/var/lib/kylin-vr',
  '/var/lib/kylin-vr/backup',
  '/var/lib/kylin-vr/history',
  '/run/kylin-vr',
  '/run/kylin-vr/backup',
];

const isJson = (content: string): boolean => {
  try {
    JSON.parse(content);
    return true;
  } catch {
    return false;
  }
};

/** src/run/quiet.ts: a line of JSON, and texts of the lengths that it names. */
const isWholeMemory = (content: string): boolean => {
  const end = content.indexOf('\n') + 1;
  if (!isJson(content.slice(0, end))) return false;
  const { configLength, modelLength, questions } = JSON.parse(content.slice(0, end)) as {
    configLength: number;
    modelLength: number;
    questions: [string, number][];
  };
  return content.length - end === questions.reduce((sum, [, length]) => sum + length, configLength + modelLength);
};

const writes = (instants: readonly Instant[]) =>
  instants.filter(({ what }) => what.startsWith('before run') && WRITES.test(what.slice('before '.length)));

/** Whether a run that stood there had begun its first writing command, and not ended the last one that it would have run. */
function isBetween(
  whole: readonly Instant[],
  ms: number,
  instants: readonly Instant[] = whole.filter((instant) => instant.ms <= ms),
): boolean {
  const ended = (list: readonly Instant[]) =>
    list.filter(({ what }) => what.startsWith('after run') && WRITES.test(what.slice('after '.length))).length;
  return writes(instants).length > 0 && ended(instants) < ended(whole);
}

/** From outside, at an instant that nothing chose. */
function killNow(pid: number, whom: Kill['whom']): void {
  const children =
    whom === 'all' ? readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean) : [];
  process.kill(pid, 'SIGKILL');
  for (const child of children)
    try {
      process.kill(-Number(child), 'SIGKILL');
    } catch {}
}
