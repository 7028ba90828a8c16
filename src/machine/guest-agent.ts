// A guest's QEMU agent, as the hypervisor host reaches it: through libvirt, or by the socket of its virtio port.
// One question at a time. What comes is a guest's, and may be anything: dialects/guest-agent.ts reads it, here it is bounded.

import { randomInt } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { AgentError, CommandError, EXIT } from '../base/errors.ts';
import {
  type AgentAnswer,
  type AgentCommand,
  brief,
  LONGEST_ANSWER,
  question,
  type Reply,
  readReply,
} from '../dialects/guest-agent.ts';
import type { Host } from './host.ts';

/** Where a guest is reached: a libvirt domain, or a socket's path. */
export type Target = { domain: string } | { socket: string };

export const nameOf = (target: Target): string => ('domain' in target ? target.domain : target.socket);

export type AgentChannel = {
  /** Gives what the command returns. Throws GuestAgentError where the agent refuses it, AgentError where nobody answers. */
  call<C extends AgentCommand>(command: C, args?: object): Promise<AgentAnswer<C>>;
  close(): void;
};

/** The agent answered, with an error. */
export class GuestAgentError extends AgentError {
  override name = 'GuestAgentError';
  constructor(command: string, description: string) {
    super(`${command}: ${description}`, EXIT.failed);
  }
}

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
        return answerOf(domain, command, stdout.length > LONGEST_ANSWER ? 'no answer' : readReply(command, stdout));
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
  const words = brief(error.stderr).replace(/^error: /, '');
  const refused = /unable to execute QEMU agent command '[^']*': (.*)/s.exec(words)?.[1];
  if (refused !== undefined) return new GuestAgentError(command, refused);
  // The question is long, and says nothing.
  const how = error.message.slice(error.argv.join(' ').length + 2);
  return new AgentError(
    `the guest agent of ${domain} is not reached (${words || `virsh: ${how}`}): is the domain running, has it the channel ` +
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
  const ask = async <C extends AgentCommand>(
    command: C,
    asked: string,
    fits: (reply: Reply<C>) => boolean,
  ): Promise<Reply<C>> => {
    socket.write(asked, 'latin1');
    const allowance = { deadline: Date.now() + timeoutMs, bytes: LONGEST_ANSWER };
    for (;;) {
      const heard = await lines.next(allowance);
      if ('line' in heard) {
        const reply = readReply(command, heard.line);
        if (fits(reply)) return reply;
        // A million empty lines take no time from the other guests, and no more than is given to this one.
        await turn();
        if (Date.now() < allowance.deadline) continue;
        throw silent(`no answer to ${command} in ${timeoutMs / 1000} s`);
      }
      switch (heard.end) {
        case 'late':
          throw silent(`no answer to ${command} in ${timeoutMs / 1000} s`);
        case 'closed':
          throw silent(`it hung up before it answered ${command}`);
        case 'flood':
          // Whatever else it says is not listened to.
          socket.destroy();
          throw new AgentError(
            `the guest agent at ${path} says more than ${LONGEST_ANSWER >> 20} MiB to ${command}: that is no agent's ` +
              'answer, look at what runs in the guest',
            EXIT.failed,
          );
      }
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
      (reply) => typeof reply === 'object' && 'answer' in reply && reply.answer === id,
    );
    inStep = true;
  };
  return {
    async call(command, args) {
      if (!inStep) await getInStep();
      inStep = false;
      const reply = await ask(command, question(command, args), () => true);
      inStep = true;
      return answerOf(path, command, reply);
    },
    close: () => socket.destroy(),
  };
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

/** For one answer: until when, and how many bytes more. */
type Allowance = { readonly deadline: number; bytes: number };
type LineOrEnd = { line: string } | { end: 'late' | 'closed' | 'flood' };

/** Lines, read as they are asked for: what nobody asks for stays with the kernel, which then makes the guest wait. */
function lineReader(socket: Socket): { next(allowance: Allowance): Promise<LineOrEnd> } {
  let begun: Buffer[] = [];
  let rest: Buffer = Buffer.alloc(0);
  let ended = false;
  let wake = () => {};
  socket.on('readable', () => wake());
  for (const event of ['end', 'close'] as const)
    socket.on(event, () => {
      ended = true;
      wake();
    });
  const moreBefore = (deadline: number) =>
    new Promise<void>((resolve) => {
      // What has arrived while this process was busy is heard before it is called late.
      const timer = setTimeout(() => setImmediate(resolve), deadline - Date.now());
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  return {
    async next(allowance) {
      for (;;) {
        if (rest.length === 0) rest = (socket.read() as Buffer | null) ?? rest;
        if (rest.length === 0) {
          if (ended || socket.destroyed) return { end: 'closed' };
          if (Date.now() >= allowance.deadline) return { end: 'late' };
          await moreBefore(allowance.deadline);
          continue;
        }
        const to = rest.indexOf(LINE_FEED);
        const piece = to === -1 ? rest : rest.subarray(0, to);
        rest = to === -1 ? rest.subarray(rest.length) : rest.subarray(to + 1);
        allowance.bytes -= piece.length + 1;
        if (allowance.bytes < 0) return { end: 'flood' };
        begun.push(piece);
        // One that says a byte at a time would take a hundred of memory for each.
        if (begun.length > MOST_PIECES) begun = [Buffer.concat(begun)];
        if (to === -1) continue;
        const line = Buffer.concat(begun).toString();
        begun = [];
        return { line };
      }
    },
  };
}

const LINE_FEED = 0x0a;
const MOST_PIECES = 1024;

function answerOf<C extends AgentCommand>(name: string, command: C, reply: Reply<C>): AgentAnswer<C> {
  if (reply === 'no answer')
    throw new AgentError(
      `the guest agent of ${name} answers ${command} with what is no answer to it: look at what runs in the guest, as qemu-guest-agent`,
      EXIT.failed,
    );
  if ('refused' in reply) throw new GuestAgentError(command, reply.refused);
  return reply.answer;
}
