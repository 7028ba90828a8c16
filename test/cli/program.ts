// The command line: the built program as a process (`npm run build` makes it), or in this process.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TestContext } from 'node:test';
import { runCli } from '../../src/cli.ts';
import type { Context } from '../../src/commands/context.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';

export const PROGRAM = resolve(import.meta.dirname, '../../dist/kylin-vr.js');

export type Ended = { status: number | null; stdout: string; stderr: string };

export function kylinVr(...args: string[]): Ended {
  return run(PROGRAM, ...args);
}

/** As a user who is not root, with a copy: the folder of this repository may be closed to others. */
export function unprivileged(...args: string[]): Ended {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-cli-'));
  try {
    chmodSync(folder, 0o755);
    const program = join(folder, 'kylin-vr.js');
    copyFileSync(PROGRAM, program);
    return run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, program, ...args);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Without a process of its own: for what only parses, or only reads a file. */
export async function inProcess(...args: string[]): Promise<Ended> {
  const ended: Ended = { status: null, stdout: '', stderr: '' };
  ended.status = await runCli(args, inProcessContext(ended));
  return ended;
}

/** Of a command that asks for no more than files and sockets; what it prints goes into `ended`. */
export function inProcessContext(ended: Pick<Ended, 'stdout' | 'stderr'>): Context {
  const notAsked = () => {
    throw new Error('asked for more than a file');
  };
  return {
    host: linuxHost,
    stdout: ({ shown }) => {
      ended.stdout += shown;
    },
    stderr: ({ shown }) => {
      ended.stderr += shown;
    },
    isRoot: true,
    terminal: false,
    journal: false,
    colour: false,
    logger: notAsked,
    byGuestAgent: notAsked,
    unbroken: (work) => work(),
  };
}

function run(command: string, ...args: string[]): Ended {
  const env = { PATH: `${process.execPath.replace(/\/node$/, '')}:/usr/sbin:/usr/bin:/sbin:/bin` };
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', env, timeout: 20_000 });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

/** A file of that text, which everybody can read, in a folder that goes with the test. */
export function fileOf(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-cli-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'kylin-vr.yaml');
  writeFileSync(file, text);
  return file;
}
