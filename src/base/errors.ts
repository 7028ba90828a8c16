// The failures an operator can act on, each with the exit status that ends the process.
// Anything else that is thrown is a bug: main.ts prints its stack and exits 1.

import { basename } from 'node:path';

/** Exit statuses after sysexits(3); the same for every command, and repeated in the systemd units. */
export const EXIT = {
  ok: 0,
  internal: 1,
  notInSync: 2,
  usage: 64,
  config: 65,
  failed: 69,
  locked: 75,
  notRoot: 77,
} as const;

export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** A failure that is the operator's to mend: a message, an exit status, no stack. */
export class AgentError extends Error {
  override name = 'AgentError';
  readonly status: ExitStatus;

  constructor(message: string, status: ExitStatus, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

/** The command line is wrong, or there is nothing to confirm (64). */
export class UsageError extends AgentError {
  override name = 'UsageError';
  constructor(message: string) {
    super(message, EXIT.usage);
  }
}

/** As the machine is, the command makes no sense now, and nothing was done (69). */
export class NotNowError extends AgentError {
  override name = 'NotNowError';
  constructor(message: string) {
    super(message, EXIT.failed);
  }
}

/** A command ended badly, could not be started, or ran out of time (69). */
export class CommandError extends AgentError {
  override name = 'CommandError';
  readonly argv: readonly string[];
  /** Exit status; undefined when the command did not start or was killed. */
  readonly exitCode: number | undefined;
  readonly stderr: string;

  constructor(
    argv: readonly string[],
    exitCode: number | undefined,
    stderr: string,
    what: string,
    options?: ErrorOptions,
  ) {
    // On one line, as all messages are.
    const words = stderr.trim().replace(/\s*\n\s*/g, '; ');
    super(`${argv.join(' ')}: ${what}${words === '' ? '' : `: ${words}`}`, EXIT.failed, options);
    this.argv = argv;
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** A file or a kernel setting could not be read or written (69), or not by this user (77). */
export class HostError extends AgentError {
  override name = 'HostError';
  constructor(doing: string, cause: unknown) {
    const status = isForRoot(cause) ? EXIT.notRoot : EXIT.failed;
    const why = cause instanceof Error ? withoutPath(cause.message, doing) : cause;
    super(`${doing}: ${why}${cureFor(cause)}`, status, { cause });
  }
}

/** Node's words end with the call and its paths: `EACCES: permission denied, open '/x'`. Where one is named already, once is enough. */
function withoutPath(words: string, doing: string): string {
  return words.replace(/, \w+ '(.*?)'(?: -> '(.*)')?$/s, (whole, ...paths: (string | undefined)[]) =>
    paths.slice(0, 2).some((path) => `${doing} `.includes(` ${path} `)) ? '' : whole,
  );
}

const codeOf = (cause: unknown): unknown => (cause instanceof Error && 'code' in cause ? cause.code : undefined);

const isForRoot = (cause: unknown): boolean => codeOf(cause) === 'EACCES' && process.geteuid?.() !== 0;

function cureFor(cause: unknown): string {
  const code = codeOf(cause);
  if (isForRoot(cause)) return '; run it as root or with sudo';
  if (code === 'ENOSPC' || code === 'EDQUOT') return '; make room there (df, df -i)';
  if (code === 'EROFS') return '; make it writable (findmnt; dmesg tells of a faulty disk)';
  if (code === 'EACCES') return '; root may, unless SELinux keeps it from it (ausearch -m avc)';
  if (code === 'EPERM') return '; forbidden even to root: made immutable (lsattr), or kept from this container';
  return '';
}

/** Where a file should be is something else, or it is too large to be one of its kind (69). */
export class UnreadableError extends HostError {
  override name = 'UnreadableError';
}

/** A tool is missing or too old (69). */
export class UnsupportedError extends AgentError {
  override name = 'UnsupportedError';
  constructor(message: string, options?: ErrorOptions) {
    super(message, EXIT.failed, options);
  }
}

/** Another run holds the lock longer than we may wait (75). */
export class LockedError extends AgentError {
  override name = 'LockedError';
  constructor(message: string) {
    super(message, EXIT.locked);
  }
}

/** The command needs root (77). */
export class NotRootError extends AgentError {
  override name = 'NotRootError';
  constructor(command: string) {
    super(`kylin-vr ${command} needs root: run it as root or with sudo`, EXIT.notRoot);
  }
}

/** The machine is not as it should be after a change, though no step of it failed (69). */
export class VerifyError extends AgentError {
  override name = 'VerifyError';
  constructor(message: string) {
    super(message, EXIT.failed);
  }
}

/**
 * Whether the next try may do it with nothing of the file changed: a full disk, a tool that is missing, was killed or found
 * NetworkManager gone, somebody else who was at work. What `ip` and iptables refuse of a valid file they refuse again.
 */
export function isOfTheMoment(error: Error): boolean {
  if (error instanceof CommandError)
    return error.exitCode === undefined || !/^(ip|iptables)\b/.test(basename(error.argv[0] ?? ''));
  return error instanceof HostError || error instanceof UnsupportedError || error instanceof VerifyError;
}
