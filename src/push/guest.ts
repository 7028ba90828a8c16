// What `push` does in a guest, in the agent's words: a file written and proved, programs run to their end.

import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError, EXIT } from '../base/errors.ts';
import { hashOf } from '../base/hash.ts';
import { brief } from '../dialects/guest-agent.ts';
import { type AgentChannel, GuestAgentError } from '../machine/guest-agent.ts';

/** In base64 64 KiB: virsh takes a question as one argument, of which Linux allows 128 KiB. */
const PIECE = 48 * 1024;
/** A small program has ended after the first. */
const POLL_MS = [10, 20, 40] as const;
const LAST_POLL_MS = 100;

const NEEDED = [
  'guest-file-open',
  'guest-file-write',
  'guest-file-flush',
  'guest-file-close',
  'guest-exec',
  'guest-exec-status',
] as const;

/** Throws where the agent is set up to refuse what a push needs. */
export async function checkAgent(channel: AgentChannel): Promise<void> {
  const info = await channel.call('guest-info');
  const enabled = new Set(info.supported_commands?.filter((command) => command.enabled).map(({ name }) => name));
  const refused = NEEDED.filter((name) => !enabled.has(name));
  if (refused.length === 0) return;
  throw new AgentError(
    `the guest agent (${info.version}) refuses ${refused.join(', ')}: run kylin-vr install in the ` +
      "guest, or take them out of the agent's block list (BLACKLIST_RPC, --block-rpcs) or put them on its allow list " +
      '(--allow-rpcs) in /etc/sysconfig/qemu-ga or /etc/qemu/qemu-ga.conf, and restart qemu-guest-agent',
    EXIT.failed,
  );
}

/**
 * Writes a new file, piece by piece; its handle is closed whatever happens. `onPiece`: before each; may throw. The agent makes files
 * that all may write, and who has one open keeps it: it is made before, as root's alone.
 */
export async function writeGuestFile(
  channel: AgentChannel,
  path: string,
  bytes: Uint8Array,
  timeoutMs: number,
  onPiece: (n: number, all: number) => void,
): Promise<void> {
  const argv = ['install', '-m', '0600', '/dev/null', path];
  const made = await runInGuest(channel, argv, timeoutMs);
  if (made.status !== 0)
    throw new AgentError(
      `${brief(made.stderr) || `install ended ${made.status}`}: install kylin-vr in the guest, or say with --config where its file is`,
      EXIT.failed,
    );
  const handle = await channel.call('guest-file-open', { path, mode: 'w' });
  try {
    const all = Math.ceil(bytes.length / PIECE);
    for (let n = 0; n < all; n++) {
      onPiece(n + 1, all);
      const piece = Buffer.from(bytes.subarray(n * PIECE, (n + 1) * PIECE)).toString('base64');
      await channel.call('guest-file-write', { handle, 'buf-b64': piece });
    }
    await channel.call('guest-file-flush', { handle });
  } catch (error) {
    // What went wrong first is what the operator has to hear of.
    await channel.call('guest-file-close', { handle }).catch(() => {});
    throw error;
  }
  await channel.call('guest-file-close', { handle });
}

export type GuestRun = { status: number; stdout: string; stderr: string };

/** Runs a program of the guest to its end. A status of its own is no error; one that did not end by itself is. `onWait`: may throw. */
export async function runInGuest(
  channel: AgentChannel,
  [path = '', ...args]: readonly string[],
  timeoutMs: number,
  onWait: () => void = () => {},
): Promise<GuestRun> {
  const { pid } = await channel.call('guest-exec', { path, arg: args, 'capture-output': true }).catch((error) => {
    if (error instanceof GuestAgentError)
      throw new AgentError(
        `${path} cannot be run in the guest: ${error.message}; install it there, and push again`,
        EXIT.failed,
        { cause: error },
      );
    throw error;
  });
  const deadline = Date.now() + timeoutMs;
  for (let polls = 0; ; polls++) {
    const state = await channel.call('guest-exec-status', { pid });
    if (state.exited) {
      if (state.exitcode === undefined)
        throw new AgentError(
          `${path} was ended by signal ${state.signal ?? '?'} in the guest: see dmesg there, then push again`,
          EXIT.failed,
        );
      return { status: state.exitcode, stdout: text(state['out-data']), stderr: text(state['err-data']) };
    }
    if (Date.now() > deadline)
      throw new AgentError(
        `${path} ${args.join(' ')} has not ended after ${Math.round(timeoutMs / 1000)} s in the guest: it goes on there, see ` +
          'kylin-vr status in the guest',
        EXIT.failed,
      );
    onWait();
    await sleep(POLL_MS[polls] ?? LAST_POLL_MS);
  }
}

/** Runs a program that has nothing to say but that it failed. */
export async function mustRun(channel: AgentChannel, argv: readonly string[], timeoutMs: number): Promise<string> {
  const ended = await runInGuest(channel, argv, timeoutMs);
  if (ended.status !== 0) throw failed(argv, ended);
  return ended.stdout;
}

export const failed = (argv: readonly string[], { status, stdout, stderr }: GuestRun): AgentError =>
  new AgentError(
    `${argv.join(' ')} ended ${status} in the guest: ${brief(stderr) || brief(stdout)}; the guest's own file is as it was: mend that there, and push again`,
    EXIT.failed,
  );

/** Throws unless the guest has the same bytes. */
export async function proveGuestFile(
  channel: AgentChannel,
  path: string,
  bytes: Uint8Array,
  timeoutMs: number,
): Promise<void> {
  const wanted = hashOf(bytes);
  const found = (await mustRun(channel, ['sha256sum', path], timeoutMs)).slice(0, wanted.length);
  if (found !== wanted)
    throw new AgentError(
      `${path} arrived damaged in the guest (SHA-256 ${found}, sent was ${wanted}): the guest's own file is as it was; push again`,
      EXIT.failed,
    );
}

const text = (base64: string | undefined): string => Buffer.from(base64 ?? '', 'base64').toString();
