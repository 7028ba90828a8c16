// Random changes of one router, one after the other, while traffic flows that none of them concerns: nothing of it is lost,
// nothing foreign is lost, and the network depends on the configuration alone, not on the way that led there.
//
// After each change its exit status is looked at; after each 20 the flows are counted, and the plan, what is foreign, the
// processes and the folders are looked at; after each 100 the network is compared with that of a new router.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FILE, isPending, LAST_GOOD, shell, until } from '../confirm/router.ts';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { namespaceOf, processesIn, type RunResult } from '../lab/namespace.ts';
import { numbers } from '../lab/random.ts';
import { networkOf } from '../lab/state.ts';
import { createTraffic, type DatagramCount, type Flow, type FlowCount, type Traffic } from '../lab/traffic.ts';
import { FIRST, KEPT, type Net, nextMove, pick, textOf } from './walk.ts';

export type SoakOptions = { changes: number; seed: number; say: (line: string) => void };
export type Soaked = { sent: number; lost: number; killed: number };

const LOOK_EVERY = 20;
const COMPARE_EVERY = 100;
const PER_SECOND = 100;
const BEGUN_MS = 500;
/** How often each way of a change is taken. */
const WAYS = {
  byFile: 8,
  byCommand: 5,
  killed: 3,
  rolledBack: 2,
  confirmed: 2,
  unconfirmed: 1,
  lapsed: 0.3,
  plugged: 2,
  flushed: 1,
  invalid: 1,
  crowded: 0.5,
  again: 1,
} as const;
type Way = keyof typeof WAYS;

/** The median run of the last hundred changes takes so much more than that of the first at most. */
const FLAT = 1.2;
const MOST_KIB = { run: 64, lib: 128 };
/** Logrotate bounds the file on a guest; here it is what a change adds. */
const MOST_LOG_BYTES = 8192;
const LOG = '/var/log/kylin-vr/kylin-vr.log';
const MEMORY = '/run/soak-memory';
/** Rollbacks lead to the last ten; killed runs in between leave texts of their own. */
const TEXTS_KEPT = 200;

const FOREIGN_NAT = `
  iptables -t nat -N DOCKER 2> /dev/null || true
  iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
  iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -o br-op -j MASQUERADE`;
const FOREIGN = `
  ip link add br-op type bridge; ip address add 192.0.2.129/25 dev br-op; ip link set br-op up
  ip route add 198.18.0.0/15 via 192.0.2.200 dev br-op proto static metric 50
  ip route add default via 192.0.2.200 dev br-op table 100
  ip rule add from 192.0.2.129 table 100
  ip neigh add 192.0.2.201 lladdr 02:00:00:00:00:01 dev br-op
  iptables -I FORWARD 1 -s 10.10.1.99/32 -j DROP; iptables -A INPUT -p tcp --dport 22 -j ACCEPT
  iptables -t mangle -A PREROUTING -i eth1 -j MARK --set-mark 7
  printf 'DEVICE=eth9\\n' > /etc/sysconfig/network-scripts/ifcfg-eth9${FOREIGN_NAT}`;
const READ_FOREIGN = `
  ip -o -4 address show dev br-op; ip -4 route show table all | grep br-op | sort; ip rule; ip neigh show dev br-op nud permanent
  cat /etc/sysconfig/network-scripts/ifcfg-eth9
  for table in filter nat mangle; do iptables-save -t $table | grep ^-A | grep -v KYLIN-VR; done`;

export async function soak({ changes, seed, say }: SoakOptions): Promise<Soaked> {
  const lab = await createLab({ networkScripts: true });
  const done: string[] = [];
  try {
    return await walk(lab, { changes, random: numbers(seed), say, done });
  } catch (cause) {
    const last = done.map((what, index) => `${index + 1}. ${what}`).slice(-LOOK_EVERY);
    const why = cause instanceof Error ? cause.message : `${cause}`;
    throw new Error(`change ${done.length}: ${why}\nthe last changes:\n${last.join('\n')}`, { cause });
  } finally {
    await lab.close();
  }
}

type Walk = Omit<SoakOptions, 'seed'> & { random: () => number; done: string[] };

async function walk(lab: Lab, { changes, random, say, done }: Walk): Promise<Soaked> {
  const traffic = createTraffic(lab);
  await listen(traffic);
  await shell(lab, FOREIGN);
  let net = FIRST;
  /** What a reload that changes something takes here. */
  let usualMs = 400;
  let plugged = true;
  /** By the text of the file: where a rollback may lead. */
  const nets = new Map<string, Net>();
  const total: Soaked = { sent: 0, lost: 0, killed: 0 };
  const started = performance.now();
  await configure();
  await ok('reload');

  const foreign = await shell(lab, READ_FOREIGN);
  const processes = countProcesses();
  const streams = await Promise.all([
    traffic.openStream({ from: 'out', to: KEPT.x, port: 80 }),
    traffic.openStream({ from: 'far', to: KEPT.forward, port: 8080 }),
  ]);
  let flows = await startFlows(traffic);
  const first = await measure();
  let [before, of] = [first, 0];
  let firstMemory: number | undefined;

  for (let number = 1; number <= changes; number++) {
    await change();
    if (number % LOOK_EVERY !== 0 && number !== changes) continue;
    await look();
    if (number % COMPARE_EVERY !== 0 && number !== changes) continue;
    await compare();
    const now = await measure();
    const logBytes = Math.round((now.logBytes - before.logBytes) / (number - of));
    const seconds = Math.round((performance.now() - started) / 1000);
    say(
      `${number} of ${changes} in ${seconds} s: ${total.sent} packets, ${total.lost} lost; ${total.killed} killed; a run ` +
        `${(now.memoryKib / 1024).toFixed(1)} MiB, ${logBytes} bytes of log a change; /run ${now.run} KiB, /var/lib ${now.lib} KiB`,
    );
    assert.ok(now.run <= MOST_KIB.run && now.lib <= MOST_KIB.lib && logBytes <= MOST_LOG_BYTES, JSON.stringify(now));
    firstMemory ??= now.memoryKib;
    assert.ok(now.memoryKib <= firstMemory * FLAT, `a run took ${firstMemory} KiB, and takes ${now.memoryKib} KiB`);
    [before, of] = [now, number];
  }
  for (const { flow } of flows) await flow.stop();
  return total;

  async function change(): Promise<void> {
    const way = pick(CHOICES, random);
    const made: Record<Way, () => Promise<string>> = {
      async byFile() {
        const what = await move();
        const from = performance.now();
        await ok('reload');
        usualMs = usualMs * 0.8 + (performance.now() - from) * 0.2;
        return what;
      },
      async byCommand() {
        const { what, net: to, args } = nextMove(net, random, true);
        net = to;
        // An elastic IP that goes to another VM is two commands.
        if (args === undefined) await configure();
        await ok(...(args ?? ['reload']));
        return what;
      },
      async killed() {
        const { what, net: to, args } = nextMove(net, random, random() < 0.5);
        net = to;
        if (args === undefined) await configure();
        const command = args ?? (random() < 0.3 ? ['reload', '--confirm-within', '600'] : ['reload']);
        const said = await kill(command, random() * usualMs, random() < 0.5);
        // An edit may have come so far that the file is changed and even in force.
        await remember();
        await configure();
        let next = await kylin('reload');
        if (next.status === 75 && (await isPending(lab))) {
          await ok(random() < 0.5 ? 'confirm' : 'rollback');
          next = await kylin('reload');
        }
        assert.equal(next.status, 0, `after a kill: ${next.stdout}${next.stderr}`);
        return `${what}, ${said}`;
      },
      async rolledBack() {
        const { configurations } = JSON.parse((await ok('rollback', '--list', '--json')).stdout);
        if (configurations.length < 2) return 'nothing to go back to';
        const to = random() < 0.5 ? [] : ['--to', `${1 + Math.floor(random() * configurations.length)}`];
        await ok('rollback', ...to);
        await adopt();
        return to.join(' ');
      },
      async confirmed() {
        const what = await move();
        await ok('reload', '--confirm-within', '600');
        if (await isPending(lab)) await ok('confirm');
        return what;
      },
      async unconfirmed() {
        const what = await move();
        await ok('reload', '--confirm-within', '600');
        if (!(await isPending(lab))) return `${what}: nothing to confirm`;
        await ok('rollback');
        await adopt();
        return what;
      },
      async lapsed() {
        const what = await move();
        await ok('reload', '--confirm-within', '2');
        await until('the change is taken back', async () => !(await isPending(lab)));
        await adopt();
        return what;
      },
      async plugged() {
        await (plugged ? lab.router.unplug(NICS.a) : lab.router.plug(NICS.a));
        plugged = !plugged;
        await ok('reload', '--trigger', 'udev');
        return plugged ? '+ NIC of a' : '- NIC of a';
      },
      async flushed() {
        await shell(lab, `iptables -t nat -F${FOREIGN_NAT}`);
        await ok('reload', '--trigger', 'timer');
        return '';
      },
      async invalid() {
        const text = await lab.router.read(FILE);
        await lab.configure(`${text}eip_list: rubbish\n`);
        assert.equal((await kylin('reload')).status, 65);
        await lab.configure(text ?? '');
        assert.match((await ok('reload')).stdout, /^reload: unchanged/m);
        return '';
      },
      async crowded() {
        const what = await move();
        await Promise.all([ok('reload'), ok('reload'), ok('reload', '--trigger', 'agent')]);
        return what;
      },
      async again() {
        assert.match((await ok('reload')).stdout, /^reload: unchanged/m);
        return '';
      },
    };
    done.push(way);
    done[done.length - 1] = `${way}: ${await made[way]()}`;
    await remember();
  }

  async function look(): Promise<void> {
    const ended = await Promise.all(flows.map(async ({ what, flow }) => ({ what, ...(await flow.stop()) })));
    for (const { sent, lost } of ended) {
      total.sent += sent;
      total.lost += lost;
    }
    const losses = ended.flatMap(({ what, lost, longestGapMs }) =>
      lost > 0 ? [`${what}: ${lost} lost, ${longestGapMs} ms without one`] : [],
    );
    assert.deepEqual(losses, []);
    const sources = ended.flatMap((count) =>
      'sources' in count ? [`${count.lastBy} sees ${count.sources.join(' and ')}`] : [],
    );
    assert.deepEqual(sources, [`far sees ${KEPT.y}`, 'y sees 203.0.113.1']);
    assert.deepEqual(await Promise.all(streams.map((stream) => stream.carries())), [true, true]);
    assert.equal((await kylin('plan')).stdout.replace(/^.*pending\n/gm, ''), 'in sync\n');
    assert.equal(await shell(lab, READ_FOREIGN), foreign);
    await until('the end of all processes', async () => countProcesses() <= processes, 10_000);
    const left = `find /etc /var/lib /run -name '*kylin-vr-new*' -o -path '/run/kylin-vr/*' \\( -name '*.new' -o -path '*/lock*' -o -path '*/dead/*' \\)`;
    assert.equal(await shell(lab, left), '');
    flows = await startFlows(traffic);
  }

  /** A new router knows nothing of the way. */
  async function compare(): Promise<void> {
    const fresh = await createLab({
      networkScripts: true,
      nics: plugged ? Object.values(NICS) : [NICS.public, NICS.b],
    });
    try {
      await shell(fresh, FOREIGN);
      await fresh.configure(textOf(net));
      const { status, stdout, stderr } = await fresh.kylin('reload');
      assert.equal(status, 0, stdout + stderr);
      assert.equal(await networkOf(lab.router), await networkOf(fresh.router));
    } finally {
      await fresh.close();
    }
  }

  async function measure() {
    const script = `
      sort -n ${MEMORY} | sed -n "$(($(wc -l < ${MEMORY}) / 2 + 1))p"; rm -f ${MEMORY}
      du -sk /run/kylin-vr | cut -f 1; du -sk /var/lib/kylin-vr | cut -f 1; stat -c %s ${LOG}`;
    const [memoryKib = 0, run = 0, lib = 0, logBytes = 0] = (await shell(lab, script)).trim().split('\n').map(Number);
    return { memoryKib, run, lib, logBytes };
  }

  /** Another configuration is in the file. */
  async function move(): Promise<string> {
    const { what, net: to } = nextMove(net, random, false);
    net = to;
    await configure();
    return what;
  }

  /** What is in force after a rollback becomes the file's, which changes nothing. */
  async function adopt(): Promise<void> {
    const text = (await lab.router.read(LAST_GOOD)) ?? '';
    const there = nets.get(text);
    assert.ok(there !== undefined, `rolled back to what nobody wrote:\n${text}`);
    net = there;
    await lab.configure(text);
    assert.match((await ok('reload')).stdout, /^reload: unchanged/m);
  }

  async function configure(): Promise<void> {
    await lab.configure(textOf(net));
    await remember();
  }

  /** What a killed run did not change is still there under the name that it had. */
  async function remember(): Promise<void> {
    const text = (await lab.router.read(FILE)) ?? '';
    const there = nets.get(text) ?? net;
    nets.delete(text);
    nets.set(text, there);
    if (nets.size > TEXTS_KEPT) nets.delete(nets.keys().next().value ?? '');
  }

  async function kill(args: readonly string[], afterMs: number, withChildren: boolean): Promise<string> {
    const child = lab.router.spawn([process.execPath, PROGRAM, ...args], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    await Promise.race([sleep(afterMs), ended]);
    const { pid } = child;
    if (pid === undefined || child.exitCode !== null) return 'not killed';
    const children = withChildren ? childrenOf(pid) : [];
    process.kill(pid, 'SIGKILL');
    for (const each of children) end(-each);
    await ended;
    total.killed++;
    return `${args.join(' ')} killed after ${Math.round(afterMs)} ms${withChildren ? ' with its children' : ''}`;
  }

  async function kylin(...args: readonly string[]): Promise<RunResult> {
    return lab.router.run([
      process.execPath,
      '--require',
      join(import.meta.dirname, 'memory-hook.cjs'),
      PROGRAM,
      ...args,
    ]);
  }

  async function ok(...args: readonly string[]): Promise<RunResult> {
    const ended = await kylin(...args);
    assert.equal(ended.status, 0, `${args.join(' ')}: ${ended.stdout}${ended.stderr}`);
    return ended;
  }

  function countProcesses(): number {
    return processesIn(namespaceOf(lab.router.pid) ?? '').length;
  }
}

const CHOICES = (Object.keys(WAYS) as Way[]).flatMap((way) => Array<Way>(WAYS[way] * 10).fill(way));

async function listen(traffic: Traffic): Promise<void> {
  for (const [host, transport, port] of [
    ['far', 'udp', 53],
    ['x', 'tcp', 80],
    ['y', 'udp', 53],
  ] as const)
    await traffic.listen(host, transport, port);
}

/** Of a hundred packets a second each. */
async function startFlows({
  startFlow,
  startPings,
}: Traffic): Promise<{ what: string; flow: Flow<FlowCount | DatagramCount> }[]> {
  const perSecond = PER_SECOND;
  const flows = await Promise.all([
    startPings({ from: 'far', to: KEPT.x, perSecond }).then((flow) => ({ what: "pings to x's EIP", flow })),
    startFlow({ from: 'y', to: '192.0.2.10', port: 53, perSecond }).then((flow) => ({ what: 'y to far', flow })),
    startFlow({ from: 'out', to: KEPT.y, port: 53, perSecond }).then((flow) => ({ what: "out to y's EIP", flow })),
  ]);
  // One whose first packet meets flushed rules is translated by nobody for as long as it goes on: that one is concerned.
  await sleep(BEGUN_MS);
  return flows;
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended, or leads no group yet.
  }
}
