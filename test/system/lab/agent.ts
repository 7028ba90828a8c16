// The host's side of the QEMU guest agent: what a hypervisor's management says to a guest through its socket.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunOptions, RunResult } from '../../lab/namespace.ts';

export type Agent = {
  /** One command of the protocol, as `guest-ping`; gives what it returns. */
  call(command: string, given?: object, timeoutMs?: number): Promise<unknown>;
  /** Waits until the agent answers. */
  ready(timeoutMs: number): Promise<void>;
  read(path: string): Promise<string>;
  /** As the agent does it: a new file gets mode 0666, one that is there keeps its own. */
  write(path: string, content: string | Buffer): Promise<void>;
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
};

const CALL_MS = 30_000;
/** A question may get lost in a reboot. */
const READY_MS = 5000;
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const CHUNK = 512 * 1024;

type Reply = { return?: unknown; error?: { desc: string } };
type Ended = { exited: boolean; exitcode?: number; signal?: number; 'out-data'?: string; 'err-data'?: string };

export const guestAgent = (socket: string): Agent => agentBy(conversation(socket), 50);

/** With calls that go another way; between two questions of the same kind it sleeps so long. */
export function agentBy(call: Agent['call'], pollMs: number): Agent {
  return {
    call,
    async ready(timeoutMs) {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        try {
          await call('guest-ping', undefined, Math.max(1, Math.min(READY_MS, deadline - Date.now())));
          return;
        } catch (error) {
          if (Date.now() >= deadline) throw error;
          await sleep(pollMs);
        }
      }
    },
    async read(path) {
      const handle = await call('guest-file-open', { path, mode: 'r' });
      const chunks: Buffer[] = [];
      for (;;) {
        const part = (await call('guest-file-read', { handle, count: CHUNK })) as { 'buf-b64': string; eof: boolean };
        chunks.push(Buffer.from(part['buf-b64'], 'base64'));
        if (part.eof) break;
      }
      await call('guest-file-close', { handle });
      return Buffer.concat(chunks).toString();
    },
    async write(path, content) {
      const bytes = Buffer.from(content);
      const handle = await call('guest-file-open', { path, mode: 'w' });
      for (let at = 0; at < bytes.length; at += CHUNK)
        await call('guest-file-write', { handle, 'buf-b64': bytes.subarray(at, at + CHUNK).toString('base64') });
      await call('guest-file-close', { handle });
    },
    async run(argv, { input, env = {}, timeoutMs = 60_000, check = false } = {}) {
      const [path, ...arg] = argv;
      const { pid } = (await call('guest-exec', {
        path,
        arg,
        // An empty list would be an empty environment.
        ...(Object.keys(env).length === 0 ? {} : { env: [PATH, ...Object.entries(env).map((pair) => pair.join('='))] }),
        'capture-output': true,
        ...(input === undefined ? {} : { 'input-data': Buffer.from(input).toString('base64') }),
      })) as { pid: number };
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const ended = (await call('guest-exec-status', { pid })) as Ended;
        if (ended.exited) return resultOf(argv, ended, check);
        if (Date.now() > deadline)
          throw new Error(`${argv.join(' ')}: runs for more than ${timeoutMs} ms in the guest`);
        await sleep(pollMs);
      }
    },
  };
}

function resultOf(argv: readonly string[], ended: Ended, check: boolean): RunResult {
  const textOf = (data = '') => Buffer.from(data, 'base64').toString();
  const [stdout, stderr] = [textOf(ended['out-data']), textOf(ended['err-data'])];
  const status = ended.exitcode ?? 128 + (ended.signal ?? 0);
  if (check && status !== 0) throw new Error(`${argv.join(' ')}: status ${status}: ${stderr.trim() || stdout.trim()}`);
  return { status, stdout, stderr };
}

/** One connection, kept as a hypervisor's management keeps it, and one call at a time. */
function conversation(path: string): Agent['call'] {
  let socket: Socket | undefined;
  let heard: (reply: Reply) => void = () => {};
  let turn: Promise<unknown> = Promise.resolve();

  const connected = async () => {
    if (socket !== undefined) return socket;
    const fresh = connect(path);
    await once(fresh, 'connect');
    const lines = createInterface({ input: fresh });
    // readline repeats the socket's errors (Node 20).
    lines.on('error', () => {}).on('line', (line) => heard(JSON.parse(line)));
    fresh
      .on('error', () => {})
      .on('close', () => {
        socket = undefined;
        heard({ error: { desc: 'the connection was closed' } });
      });
    // It does not keep a test alive.
    fresh.unref();
    socket = fresh;
    return fresh;
  };
  const ask = async (
    execute: string,
    given: object | undefined,
    deadline: number,
    answers: (reply: Reply) => boolean,
  ) => {
    const link = await connected();
    const reply = await new Promise<Reply>((resolve) => {
      const timer = setTimeout(() => resolve({ error: { desc: 'no answer' } }), deadline - Date.now());
      heard = (reply) => {
        if (reply.error === undefined && !answers(reply)) return;
        clearTimeout(timer);
        resolve(reply);
      };
      link.write(`${JSON.stringify({ execute, arguments: given })}\n`);
    });
    heard = () => {};
    if (reply.error !== undefined) throw new Error(reply.error.desc);
    return reply.return;
  };
  return (command, given, timeoutMs = CALL_MS) => {
    const call = async () => {
      const deadline = Date.now() + timeoutMs;
      try {
        // What comes before the answer to this belongs to a call that was given up.
        const id = Math.floor(Math.random() * 2 ** 31);
        await ask('guest-sync', { id }, deadline, (reply) => reply.return === id);
        return await ask(command, given, deadline, () => true);
      } catch (error) {
        throw new Error(`guest agent, ${command}, ${timeoutMs} ms: ${(error as Error).message}`);
      }
    };
    const answer = turn.then(call);
    turn = answer.catch(() => {});
    return answer;
  };
}
