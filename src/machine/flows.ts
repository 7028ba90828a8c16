// The kernel's table of flows: read as a stream, since it may have a million entries, and given entries of it deleted in bulk.

import { AgentError, CommandError, UnsupportedError } from '../base/errors.ts';
import { deleteFlowOptions, parseFlow } from '../dialects/conntrack.ts';
import { DONE, deleteMessage, ENOENT, parseAnswers } from '../dialects/ctnetlink.ts';
import { type Flow, flowKey } from '../network/flow.ts';
import type { Host } from './host.ts';

export type FlowReading = {
  /** Options of `conntrack -L` that choose entries. */
  only?: readonly string[];
  timeoutMs?: number;
};

/** Hands on each IPv4 entry, those of other zones too. */
export async function readFlows(
  host: Host,
  onFlow: (flow: Flow) => void,
  { only = [], ...options }: FlowReading = {},
): Promise<void> {
  let understood = false;
  let strange: string | undefined;
  await host.stream(
    ['conntrack', '-L', '-f', 'ipv4', '-o', 'id', ...only],
    (line) => {
      const flow = parseFlow(line);
      if (flow === undefined) {
        if (line.trim() !== '') strange ??= line;
        return;
      }
      understood = true;
      onFlow(flow);
    },
    options,
  );
  if (strange !== undefined && !understood)
    throw new UnsupportedError(
      `conntrack -L printed something that is not understood: ${strange.trim().slice(0, 100)} (please report it, with conntrack --version)`,
    );
}

/** Flows that one call of conntrack -D can take together. */
export type CutGroup = { options: readonly string[]; flows: readonly Flow[] };

export type DeleteOptions = {
  /** Milliseconds from now; what is not deleted by then is left. */
  deadlineMs: number;
  /** Of all the flows; used only where the kernel cannot be spoken to. Without them each flow is a call of its own. */
  groups?: readonly CutGroup[];
};

export type Deleted = {
  /** How many may be there still, since time ran out. */
  left: number;
  by: 'netlink' | 'conntrack';
  /** Why not by netlink. */
  because?: string;
};

/**
 * Deletes just these entries; those that are gone are no failure, those of other zones are left alone.
 *
 * By netlink, since conntrack -D reads the whole table at each call, and so for each line of conntrack -R: 990 of them with
 * 20,000 entries in the table take 55 s. A message to the kernel takes microseconds, and names the entry by its id too, which -D
 * cannot. Node has no such socket, perl and python have.
 */
export async function deleteFlows(
  host: Host,
  flows: readonly Flow[],
  { deadlineMs, groups }: DeleteOptions,
): Promise<Deleted> {
  const end = performance.now() + deadlineMs;
  const wanted = flows.filter(({ zoned }) => !zoned);
  if (wanted.length === 0) return { left: 0, by: 'netlink' };
  const { refused, left, because } = await deleteByNetlink(host, wanted, end);
  if (because === undefined) return { left, by: 'netlink' };
  return { left: await deleteByConntrack(host, refused, groups ?? refused.map(alone), end), by: 'conntrack', because };
}

const alone = (flow: Flow): CutGroup => ({ options: deleteFlowOptions(flow), flows: [flow] });

/** So many take 0.1 s: time is looked at between. */
const MOST_AT_ONCE = 5_000;

/** With `because`, what is `refused` is for somebody else. */
async function deleteByNetlink(
  host: Host,
  flows: readonly Flow[],
  end: number,
): Promise<{ refused: readonly Flow[]; left: number; because?: string }> {
  const pipe = await netlinkPipe(host);
  if (pipe === undefined) return { refused: flows, left: 0, because: 'neither perl nor python is there' };
  for (let from = 0; from < flows.length; from += MOST_AT_ONCE) {
    const some = flows.slice(from, from + MOST_AT_ONCE);
    const timeoutMs = Math.ceil(end - performance.now());
    if (timeoutMs <= 0) return { refused: [], left: flows.length - from };
    const input = some.map((flow, n) => String.fromCharCode(...deleteMessage(flow, n))).join('');
    let answers: Map<number, number>;
    try {
      const { stdout } = await host.run(pipe, { input, encoding: 'latin1', timeoutMs });
      answers = parseAnswers(Buffer.from(stdout, 'latin1'));
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      if (performance.now() >= end) return { refused: [], left: flows.length - from };
      return { refused: flows.slice(from), left: 0, because: causeOf(error) };
    }
    const refused = some.filter((_, n) => ![DONE, ENOENT].includes(answers.get(n) ?? -1));
    if (refused.length > 0) {
      const [number] = [...answers.values()].filter((answer) => ![DONE, ENOENT].includes(answer));
      const because = number === undefined ? 'the kernel did not answer' : `the kernel refused it: error ${number}`;
      return { refused: [...refused, ...flows.slice(from + MOST_AT_ONCE)], left: 0, because };
    }
  }
  return { refused: [], left: 0 };
}

/** Without the script. */
const causeOf = (error: AgentError): string =>
  error instanceof CommandError
    ? `${error.argv[0]} ended with ${error.exitCode ?? 'a signal'}: ${error.stderr.trim()}`
    : error.message;

/**
 * Passes messages on to the kernel, each with its length before it (which is how a netlink message begins), and prints the answers.
 * The kernel has answered when it has taken a message: there is never more than one in the socket's buffer.
 * 16 is AF_NETLINK, 3 SOCK_RAW, 12 NETLINK_NETFILTER.
 */
const PERL = `socket(S, 16, 3, 12) or die "socket: $!\\n";
binmode STDIN; binmode STDOUT;
while (read(STDIN, $head, 4) == 4) {
  read(STDIN, $rest, unpack("L", $head) - 4);
  defined syswrite(S, $head . $rest) or die "send: $!\\n";
  defined sysread(S, $answer, 65536) or die "recv: $!\\n";
  print $answer;
}`;

/** For 2 and 3. The first place to look for modules is the current folder, which may be anybody's. */
const PYTHON = `import sys
del sys.path[0]
import socket, struct
kernel = socket.socket(16, 3, 12)
read = getattr(sys.stdin, "buffer", sys.stdin).read
write = getattr(sys.stdout, "buffer", sys.stdout).write
while True:
  head = read(4)
  if len(head) < 4: break
  kernel.send(head + read(struct.unpack("=L", head)[0] - 4))
  write(kernel.recv(65536))`;

const PYTHON_OPTIONS = ['-E', '-s', '-S', '-c', PYTHON];

/** EL 8 may have no other python than its platform's. */
const PLATFORM_PYTHON = '/usr/libexec/platform-python';

/** perl is part of every Debian, python of what has yum or dnf. */
async function netlinkPipe(host: Host): Promise<readonly [string, ...string[]] | undefined> {
  if ((await host.which('perl')) !== undefined) return ['perl', '-e', PERL];
  if ((await host.which('python3')) !== undefined) return ['python3', ...PYTHON_OPTIONS];
  if ((await host.info(PLATFORM_PYTHON)) !== undefined) return [PLATFORM_PYTHON, ...PYTHON_OPTIONS];
  for (const command of ['python2', 'python'])
    if ((await host.which(command)) !== undefined) return [command, ...PYTHON_OPTIONS];
  return undefined;
}

/** An entry that ends while conntrack -D is at it makes it stop: this many times we look again. */
const MOST_ROUNDS = 5;
const CALLS_AT_ONCE = 2;

/** Gives how many are left. An entry that has come in place of one that was wanted, after our look, goes with it. */
async function deleteByConntrack(
  host: Host,
  flows: readonly Flow[],
  groups: readonly CutGroup[],
  end: number,
): Promise<number> {
  const wanted = new Map(flows.map((flow) => [flowKey(flow), flow.id]));
  let left = new Set(wanted.keys());
  try {
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const { there, others } = await lookFor(host, wanted, end);
      left = there;
      const calls = groups.filter((group) => group.flows.some((flow) => there.has(flowKey(flow))));
      if (calls.length === 0) break;
      const zone = others ? DEFAULT_ZONE : [];
      let next = 0;
      const caller = async () => {
        while (next < calls.length && performance.now() < end) {
          const group = calls[next++];
          if (group !== undefined && (await deletes(host, [...zone, ...group.options], end)))
            for (const flow of group.flows) there.delete(flowKey(flow));
        }
      };
      await Promise.all(Array.from({ length: CALLS_AT_ONCE }, caller));
      if (there.size === 0 || performance.now() >= end) break;
    }
  } catch (error) {
    if (!(error instanceof CommandError) || performance.now() < end) throw error;
  }
  return left.size;
}

/** Whether all that matched is gone; status 1 is also that of none. */
async function deletes(host: Host, options: readonly string[], end: number): Promise<boolean> {
  const { status } = await host.run(['conntrack', '-D', '-f', 'ipv4', ...options], {
    accept: [1],
    timeoutMs: timeUntil(end),
  });
  return status === 0;
}

/**
 * Without them -D takes the entries of every zone; with the first alone (1.4.7) also those that have a zone in one direction only.
 * Old ones (libnetfilter_conntrack 1.0.3) find nothing with it, so that it is said only where there are other zones' entries.
 */
const DEFAULT_ZONE = ['-w', '0', '--orig-zone', '0', '--reply-zone', '0'];

/** Which of the wanted ones are there, and whether any entry is in another zone. */
async function lookFor(
  host: Host,
  wanted: ReadonlyMap<string, number | undefined>,
  end: number,
): Promise<{ there: Set<string>; others: boolean }> {
  const there = new Set<string>();
  let others = false;
  await readFlows(
    host,
    (flow) => {
      const key = flowKey(flow);
      if (flow.zoned) others = true;
      else if (wanted.has(key) && (wanted.get(key) ?? flow.id) === flow.id) there.add(key);
    },
    { timeoutMs: timeUntil(end) },
  );
  return { there, others };
}

const timeUntil = (end: number): number => Math.max(1, Math.ceil(end - performance.now()));
