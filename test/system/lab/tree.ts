// The Debian tree of the system tests, and a writable copy of it for one machine.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { LabHost, Nic, Router } from '../../lab/lab.ts';
import { createNamespace } from '../../lab/namespace.ts';

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
  /** What `packLayer` made: it is in the tree from the start. */
  layer?: () => Promise<string>;
  /** Anything else, in the mounts of the router, where the machine's files are below `root`. */
  prepare?: (router: Router, root: string) => Promise<void>;
};

export async function prepareTree(router: Router, { files = {}, layer, prepare }: Preparation): Promise<void> {
  await copyTree(router, await debianTree(), await layer?.());
  for (const [path, text] of Object.entries(files)) await router.write(`${ROOT}${path}`, text);
  await prepare?.(router, ROOT);
}

/**
 * Makes both. They are in memory and in the router's own mounts: nothing of them is left when it ends, however it ends.
 */
async function copyTree(router: LabHost, tree: string, layer = ''): Promise<void> {
  const argv = ['sh', '-ec', COPY, 'sh', tree, layer];
  await router.run(argv, { check: true });
}

/** What overlayfs itself keeps of a folder is in its attributes. */
const TAR = "tar --xattrs --xattrs-include='trusted.overlay.*' -C /mnt/upper";
const COPY = `
  mount -t tmpfs -o size=6G tmpfs /mnt
  mkdir /mnt/upper /mnt/work ${ROOT} ${SIDE}
  [ -z "$2" ] || ${TAR} -xf "$2"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" ${ROOT}`;

/** Keeps in an archive what these commands change in the tree, which is at ROOT for them. */
export async function packLayer(archive: string, commands: readonly (readonly string[])[]): Promise<void> {
  const namespace = await createNamespace('mount --make-rprivate /');
  try {
    const run = (...argv: string[]) => namespace.run(argv, { check: true, timeoutMs: 120_000 });
    await run('sh', '-ec', `${COPY}\nmount --rbind /proc ${ROOT}/proc`, 'sh', await debianTree(), '');
    for (const command of commands) await run(...command);
    await run('umount', '--recursive', ROOT);
    await run('sh', '-ec', `${TAR} -cf "$1" .`, 'sh', archive);
  } finally {
    await namespace.end();
  }
}

/** The same path as the test sees it. */
export const outside = (router: LabHost, path: string) => `/proc/${router.pid}/root${path}`;
