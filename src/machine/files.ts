// Files as they are found, and the names of those that are to become others.

import { readFileSync, type Stats } from 'node:fs';
import { crypto } from '../base/builtin.ts';
import { type FileInfo, TEMPORARY_SUFFIX } from './host.ts';
import { tolerate } from './process.ts';

export const infoOf = (found: Stats): FileInfo => ({
  uid: found.uid,
  gid: found.gid,
  mode: found.mode & 0o7777,
  directory: found.isDirectory(),
  symlink: found.isSymbolicLink(),
  regular: found.isFile(),
  size: found.size,
});

/** Nobody has it yet, and nobody can guess it. */
export const temporaryName = (name: string): string => `.${name}.${secretName()}${TEMPORARY_SUFFIX}`;

const UUID = '/proc/sys/kernel/random/uuid';

/** Eight hexadecimal digits that nobody can guess: the kernel's. Each run that writes needs some, and crypto is slow to load. */
function secretName(): string {
  const uuid = tolerate(['ENOENT'], () => readFileSync(UUID, 'utf8'));
  // `install` in a chroot may have no /proc.
  return uuid?.slice(0, 8) ?? crypto().randomBytes(4).toString('hex');
}
