// Contents → a folder with them, as the packers want it; and the packers' commands.

import { spawnSync } from 'node:child_process';
import { chmodSync, lutimesSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export type Content =
  | { kind: 'file'; path: string; mode: number; bytes: Uint8Array }
  | { kind: 'link'; path: string; target: string }
  | { kind: 'folder'; path: string; mode: number };

/** Everything with its mode and at one time, whatever the umask and the clock are. */
export function stage(root: string, contents: readonly Content[], epoch: number): void {
  mkdirSync(root, { recursive: true });
  for (const content of contents) {
    const place = join(root, content.path);
    makeFolders(root, dirname(content.path));
    if (content.kind === 'link') symlinkSync(content.target, place);
    else if (content.kind === 'file') writeFileSync(place, content.bytes);
    else mkdirSync(place, { recursive: true });
    if (content.kind !== 'link') chmodSync(place, content.mode);
  }
  chmodSync(root, 0o755);
  for (const path of ['', ...(readdirSync(root, { recursive: true }) as string[])])
    lutimesSync(join(root, path), epoch, epoch);
}

function makeFolders(root: string, path: string): void {
  if (path === '/') return;
  makeFolders(root, dirname(path));
  try {
    mkdirSync(join(root, path));
    chmodSync(join(root, path), 0o755);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Gives what it printed; throws with what it said when it fails. */
export function run(command: string, args: readonly string[], env: Record<string, string> = {}, cwd = '.'): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C', ...env },
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: status ${status}\n${stdout}${stderr}`);
  return stdout;
}

export const file = (path: string, mode: number, content: string | Uint8Array): Content => ({
  kind: 'file',
  path,
  mode,
  bytes: typeof content === 'string' ? Buffer.from(content) : content,
});
