// A guest's QEMU agent, as the hypervisor host reaches it: through libvirt, or by the socket of its virtio port.
// One question at a time; the protocol is one JSON object a line (qemu, docs/interop/qemu-ga-ref).

import { randomInt } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { AgentError, CommandError, EXIT } from '../errors.ts';
import type { Host } from './host.ts';

/** Where a guest is reached: a libvirt domain, or a socket's path. */
export type Target = { domain: string } | { socket: string };

export const nameOf = (target: Target): string => ('domain' in target ? target.domain : target.socket);

export type AgentChannel = {
  /** Gives what the command returns. Throws GuestAgentError where the agent refuses it, AgentError where nobody answers. */
  call(command: string, args?: object): Promise<unknown>;
  close(): void;
};

/** The agent answered, with an error. */
export class GuestAgentError extends AgentError {
  override name = 'GuestAgentError';
  constructor(command: string, description: string) {
    super(`${command}: ${description}`, EXIT.failed);
  }
}

type Reply = { return?: unknown; error?: { desc?: string } };

export async function openChannel(host: Host, target: Target, timeoutMs: number): Promise<AgentChannel> {
  return 'domain' in target ? virshChannel(host, target.domain, timeoutMs) : socketChannel(target.socket, timeoutMs);
}

function virshChannel(host: Host, domain: string, timeoutMs: number): AgentChannel {
  const seconds = Math.ceil(timeoutMs / 1000);
  return {
    async call(command, args) {
      const asked = question(command, args).trimEnd();
      const argv = [
        'virsh',
        'qemu-agent-command',
        '--timeout',
        String(seconds),
        '--domain',
        domain,
        '--cmd',
        asked,
      ] as const;
      try {
        // libvirt bounds the wait for the agent itself; ours is for a libvirt that hangs.
        const { stdout } = await host.run(argv, { timeoutMs: timeoutMs + 5000 });
        return answerOf(command, JSON.parse(stdout) as Reply);
      } catch (error) {
        if (error instanceof CommandError) throw virshFailure(command, domain, error);
        throw error;
      }
    },
    close() {},
  };
}

/** virsh has one status for everything; its words say whether the agent refused or was not reached (test/system/push.test.ts). */
function virshFailure(command: string, domain: string, error: CommandError): AgentError {
  const words = error.stderr.trim().replace(/^error: /, '');
  const refused = /unable to execute QEMU agent command '[^']*': (.*)/s.exec(words)?.[1];
  if (refused !== undefined) return new GuestAgentError(command, refused);
  return new AgentError(
    `the guest agent of ${domain} is not reached (${words || error.message}): is the domain running, has it the channel ` +
      'org.qemu.guest_agent.0, and does qemu-guest-agent run in the guest?',
    EXIT.failed,
    { cause: error },
  );
}

async function socketChannel(path: string, timeoutMs: number): Promise<AgentChannel> {
  const silent = (cause: unknown) =>
    new AgentError(
      `the guest agent at ${path} does not answer (${cause instanceof Error ? cause.message : cause}): is the VM running, ` +
        'does qemu-guest-agent run in the guest, and does nothing else hold the socket?',
      EXIT.failed,
    );
  const socket = await connected(path).catch((error: unknown) => {
    throw silent(error);
  });
  const lines = lineReader(socket);
  const ask = async (command: string, question: string, fits: (reply: Reply) => boolean): Promise<Reply> => {
    socket.write(question, 'latin1');
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const line = await lines.next(deadline - Date.now());
      if (line === undefined) throw silent(`no answer to ${command} in ${timeoutMs / 1000} s`);
      const reply = parseReply(line);
      if (reply !== undefined && fits(reply)) return reply;
    }
  };
  // Answers to questions that somebody gave up may still be on their way: 0xFF makes the agent drop what it has half read, and
  // our number tells its answer from theirs.
  let inStep = false;
  const getInStep = async () => {
    const id = randomInt(2 ** 31);
    await ask(
      'guest-sync-delimited',
      `\u00ff${question('guest-sync-delimited', { id })}`,
      (reply) => reply.return === id,
    );
    inStep = true;
  };
  return {
    async call(command, args) {
      if (!inStep) await getInStep();
      inStep = false;
      const reply = await ask(command, question(command, args), () => true);
      inStep = true;
      return answerOf(command, reply);
    },
    close: () => socket.destroy(),
  };
}

/** In ASCII, so that no byte is 0xFF but the one that is meant. */
function question(command: string, args?: object): string {
  const json = JSON.stringify({ execute: command, ...(args && { arguments: args }) });
  return `${json.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      // From here on a broken connection shows as a missing answer.
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** Lines as they come; undefined when none comes in time, or none can come any more. */
function lineReader(socket: Socket): { next(timeoutMs: number): Promise<string | undefined> } {
  const waiting: string[] = [];
  let rest = '';
  let ended = false;
  let wake = () => {};
  socket.setEncoding('utf8');
  socket.on('data', (piece: string) => {
    const parts = (rest + piece).split('\n');
    rest = parts.pop() ?? '';
    waiting.push(...parts);
    wake();
  });
  socket.on('close', () => {
    ended = true;
    wake();
  });
  return {
    async next(timeoutMs) {
      const deadline = Date.now() + timeoutMs;
      // Half a line wakes, too.
      while (waiting.length === 0 && !ended && Date.now() < deadline)
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, deadline - Date.now());
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      return waiting.shift();
    },
  };
}

/** guest-sync-delimited puts 0xFF before its answer, which as UTF-8 is U+FFFD. */
function parseReply(line: string): Reply | undefined {
  try {
    return JSON.parse(line.replace(/^[^{]*/, '')) as Reply;
  } catch {
    return undefined;
  }
}

function answerOf(command: string, reply: Reply): unknown {
  if (reply.error !== undefined) throw new GuestAgentError(command, reply.error.desc ?? 'refused');
  return reply.return;
}
