// The Debian tree of the system tests, and a writable copy of it for one machine.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { LabHost, Nic, Router } from '../../lab/lab.ts';

/** The folder of the tree, which is made first if it is not in the cache. Never to be written to. */
export async function debianTree(): Promise<string> {
  const script = join(import.meta.dirname, 'tree.sh');
  const child = spawn('bash', [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [output, [status]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  if (status !== 0) throw new Error(`${script}: status ${status}`);
  return output.trim();
}

/** Where the writable copy is, in the mounts of the router. */
export const ROOT = '/mnt/root';
/** A folder for sockets and logs beside it. */
export const SIDE = '/mnt/side';

/** What a machine is like before its first boot. */
export type Preparation = {
  /** NICs at the first boot; all of the laboratory's `NICS` when absent. */
  nics?: readonly Nic[];
  files?: Readonly<Record<string, string>>;
  /** Anything else, in the mounts of the router, where the machine's files are below `root`. */
  prepare?: (router: Router, root: string) => Promise<void>;
};

export async function prepareTree(router: Router, { files = {}, prepare }: Preparation): Promise<void> {
  await copyTree(router, await debianTree());
  for (const [path, text] of Object.entries(files)) await router.write(`${ROOT}${path}`, text);
  await prepare?.(router, ROOT);
}

/**
 * Makes both. They are in memory and in the router's own mounts: nothing of them is left when it ends, however it ends.
 */
async function copyTree(router: LabHost, tree: string): Promise<void> {
  const script = `
    mount -t tmpfs -o size=6G tmpfs /mnt
    mkdir /mnt/upper /mnt/work ${ROOT} ${SIDE}
    mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" ${ROOT}`;
  await router.run(['sh', '-ec', script, 'sh', tree], { check: true });
}

/** The same path as the test sees it. */
export const outside = (router: LabHost, path: string) => `/proc/${router.pid}/root${path}`;
