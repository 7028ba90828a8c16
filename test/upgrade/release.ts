// A release of kylin-vr as it was: built from its commit, once, below the folder for what takes long.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, '../..');
const CACHE = join(homedir(), '.cache/kylin-vr/releases');

/** The last commit of 1.0. */
export const RELEASE_1_0 = 'd278b7443a81f00352a260ec49c2324a0ea32a73';

/** Gives the path of its program. */
export async function builtRelease(commit: string): Promise<string> {
  const folder = join(CACHE, commit);
  const program = join(folder, 'dist/kylin-vr.js');
  if (existsSync(program)) return program;
  mkdirSync(CACHE, { recursive: true });
  // In a folder of its own first: another run may build the same.
  const making = mkdtempSync(join(CACHE, 'making-'));
  try {
    await run('sh', ['-ec', 'git -C "$1" archive "$2" | tar -x -C "$3"', 'sh', ROOT, commit, making]);
    // What it depends on is pinned, and the same.
    symlinkSync(join(ROOT, 'node_modules'), join(making, 'node_modules'));
    await run('npm', ['run', '--silent', 'build'], { cwd: making });
    if (!existsSync(folder)) renameSync(making, folder);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  return program;
}
