// Files below the folder of an image, whoever made that and whatever he does there meanwhile: nothing outside is read, written,
// made or removed. The same operations as the host's (host.ts), with paths as they are in the image.
//
// HOW
//   A path is walked name by name. Each folder is opened by its name in the one before, which is openat(2): Node has it as
//   /proc/self/fd/N/NAME. O_NOFOLLOW: the kernel follows no symbolic link on the way. A link is read here, and its names are walked
//   like those of the path; its "/" is the image's root, and from there ".." goes no higher. What is done in the end is done to a
//   name without a slash in an open folder, by calls that follow no link at their end. So folders and links that are swapped
//   meanwhile decide which folder of the image it is, and nothing else (test/hostile/root.test.ts).
//   Not chroot(2) or a mount namespace: Node and this program would have to be in the image, and be trusted there.
//   What is mounted below the folder is of the image, but for file systems of the kernel's own: to read one of their files may take
//   what is in it from the host (/proc/kmsg), to make a folder there may change the host (cgroups).

import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  type Stats,
  statfsSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { HostError, NotNowError, UsageError } from '../base/errors.ts';
import { infoOf, temporaryName } from './files.ts';
import { type Files, LARGEST_FILE } from './host.ts';
import { tolerate } from './process.ts';

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** open(2), which Node does not name: the file is found, and not opened. A device or a FIFO learns nothing of it. */
const O_PATH = 0o10000000;
const FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

/** Names on one way, those of links with them. Each folder on it is open, and a process has at least 1,024 files. */
const LONGEST_WAY = 200;

/** A name in an open folder. */
type OpenName = { folder: number; name: string };

const at = ({ folder, name }: OpenName): string => `/proc/self/fd/${folder}/${name}`;

export function filesInside(root: string): Files {
  const top = openTop(root);

  /** Gives undefined where a folder on the way is not there. `follow`: a link at the end is walked too. */
  function inside<T>(
    doing: string,
    path: string,
    work: (place: OpenName) => T,
    { follow = false, make = false } = {},
  ): T | undefined {
    const opened: number[] = [];
    try {
      const place = walk(path, opened, follow, make);
      return place && work(place);
    } catch (cause) {
      throw cause instanceof NotNowError ? cause : new HostError(`${doing} ${join(root, path)}`, cause);
    } finally {
      for (const folder of opened) closeSync(folder);
    }
  }

  function walk(path: string, opened: number[], follow: boolean, make: boolean): OpenName | undefined {
    const ahead = namesOf(path);
    for (let names = 0; names < LONGEST_WAY; names++) {
      const folder = opened.at(-1) ?? top;
      const name = ahead.shift();
      if (name === undefined) return { folder, name: '.' };
      if (name === '..') {
        closeLast(opened);
        continue;
      }
      const place = { folder, name };
      const isLast = ahead.length === 0;
      if (isLast && !follow) return place;
      const target = linkAt(place);
      if (target !== undefined) {
        if (target.startsWith('/')) while (opened.length > 0) closeLast(opened);
        ahead.unshift(...namesOf(target));
      } else if (isLast) return place;
      else {
        const next = openFolder(place, make);
        if (next === undefined) return undefined;
        opened.push(next);
        if (isKernels(next)) throw new NotNowError(kernelsOwn(join(root, path)));
      }
    }
    throw new NotNowError(`${join(root, path)} leads in a circle, or through more than ${LONGEST_WAY} folders`);
  }

  const files: Files = {
    async read(path) {
      const bytes = await files.readBytes(path);
      return bytes && Buffer.from(bytes).toString('utf8');
    },

    async readBytes(path) {
      return inside('reading', path, (place) => readRegular(place, join(root, path)), { follow: true });
    },

    async info(path) {
      const found = inside('reading', path, (place) => lstatSync(at(place), { throwIfNoEntry: false }), {
        follow: path.endsWith('/'),
      });
      return found && infoOf(found);
    },

    async readLink(path) {
      return inside('reading', path, linkAt);
    },

    async write(path, content, mode) {
      const write = (place: OpenName) =>
        inPlace(place, (temporary) => {
          const file = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
          try {
            writeFileSync(file, content);
            makeRoots(file, mode);
            fsyncSync(file);
          } finally {
            closeSync(file);
          }
        });
      inside('writing', path, write, { make: true });
      return true;
    },

    async link(path, target) {
      const link = (place: OpenName) =>
        inPlace(place, (temporary) => {
          symlinkSync(target, temporary);
          lchownSync(temporary, 0, 0);
        });
      inside('linking', path, link, { make: true });
    },

    async makeFolder(path, mode) {
      const make = (place: OpenName) => {
        mkdirSync(at(place), 0o700);
        closeSync(openMade(place, mode));
        fsyncSync(place.folder);
      };
      inside('making the folder', path, make, { make: true });
    },

    async setMode(path, mode) {
      const set = (place: OpenName) => {
        const there = openSync(at(place), FOLDER);
        try {
          fchmodSync(there, mode);
        } finally {
          closeSync(there);
        }
      };
      inside('setting the mode of', path, set);
    },

    async removeFolder(path) {
      const remove = (place: OpenName) => {
        try {
          rmdirSync(at(place));
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          if (code === 'ENOTEMPTY' || code === 'EEXIST') return false;
          if (code !== 'ENOENT') throw error;
        }
        fsyncSync(place.folder);
        return true;
      };
      return inside('removing the folder', path, remove) ?? true;
    },

    async remove(path) {
      const remove = (place: OpenName) => {
        const gone = tolerate(['ENOENT'], () => {
          unlinkSync(at(place));
          return true;
        });
        if (gone) fsyncSync(place.folder);
        return gone === true;
      };
      return inside('removing', path, remove) ?? false;
    },
  };
  return files;
}

/** The path to it is the operator's word, but for its last name, which who made the image may swap for a link. */
function openTop(root: string): number {
  try {
    const top = openSync(root, FOLDER);
    const [here, machine] = [fstatSync(top), lstatSync('/')];
    if (here.dev !== machine.dev || here.ino !== machine.ino) return top;
    closeSync(top);
  } catch (cause) {
    throw new HostError(`opening ${root}`, cause);
  }
  throw new UsageError(`--root must be the folder of an image, is ${root}: that is this machine`);
}

/** Of /proc, /sys and what is mounted there, as statfs(2) has them: linux/magic.h, fs/configfs/mount.c, net/sunrpc/rpc_pipe.c. */
const KERNELS: ReadonlySet<number> = new Set([
  ...[0x9fa0, 0x62656572, 0x64626720, 0x74726163, 0x73636673, 0xf97cff8c, 0x27e0eb, 0x63677270, 0xcafe4a11],
  ...[0x62656570, 0xde5e81e4, 0x6165676c, 0x1cd1, 0x19800202, 0x42494e4d, 0x65735543, 0x67596969, 0x6e667364],
]);

const isKernels = (opened: number): boolean => KERNELS.has(statfsSync(`/proc/self/fd/${opened}`).type);

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '' && name !== '.');

/** Of an image's root there is no folder above. */
function closeLast(opened: number[]): void {
  const last = opened.pop();
  if (last !== undefined) closeSync(last);
}

/** Where a link leads; undefined for everything else. */
const linkAt = (place: OpenName): string | undefined =>
  tolerate(['EINVAL', 'ENOENT', 'ENOTDIR'], () => readlinkSync(at(place)));

function openFolder(place: OpenName, make: boolean): number | undefined {
  const open = () => tolerate(['ENOENT', 'ENOTDIR', 'ELOOP'], () => openSync(at(place), FOLDER));
  const opened = open();
  if (opened !== undefined || !make) return opened;
  const isNew = tolerate(['EEXIST'], () => {
    mkdirSync(at(place), 0o700);
    return true;
  });
  return isNew ? openMade(place, 0o755) : (open() ?? openSync(at(place), FOLDER));
}

function openMade(place: OpenName, mode: number): number {
  const made = openSync(at(place), FOLDER);
  try {
    makeRoots(made, mode);
    return made;
  } catch (error) {
    closeSync(made);
    throw error;
  }
}

/** In a folder with the set-group-ID bit what is new gets its group, and a folder that bit as well. */
function makeRoots(opened: number, mode: number): void {
  fchownSync(opened, 0, 0);
  fchmodSync(opened, mode);
}

function readRegular(place: OpenName, shown: string): Uint8Array | undefined {
  const found = tolerate(['ENOENT', 'ENOTDIR'], () => openSync(at(place), O_PATH | O_NOFOLLOW));
  if (found === undefined) return undefined;
  try {
    refuseToRead(shown, fstatSync(found));
    if (isKernels(found)) throw new NotNowError(kernelsOwn(shown));
    // The very file that was looked at. O_NONBLOCK: nor does it wait for whoever has a lease on it.
    const file = openSync(`/proc/self/fd/${found}`, O_RDONLY | O_NONBLOCK);
    try {
      return readBounded(file, shown);
    } finally {
      closeSync(file);
    }
  } finally {
    closeSync(found);
  }
}

function readBounded(file: number, shown: string): Uint8Array {
  const { size } = fstatSync(file);
  const parts: Uint8Array[] = [];
  for (let length = 0; length <= LARGEST_FILE; ) {
    const part = Buffer.allocUnsafe(Math.max(65_536, Math.min(size + 1, LARGEST_FILE + 1) - length));
    const read = readSync(file, part);
    if (read === 0) return Buffer.concat(parts);
    parts.push(part.subarray(0, read));
    length += read;
  }
  throw new NotNowError(tooLarge(shown));
}

function refuseToRead(shown: string, found: Stats): void {
  if (!found.isFile()) throw new NotNowError(`${shown} is no regular file: take it away`);
  if (found.size > LARGEST_FILE) throw new NotNowError(tooLarge(shown));
}

const kernelsOwn = (shown: string): string =>
  `${shown} leads into a file system of the kernel's own, which is no part of an image: take away the link or the mount`;

const tooLarge = (shown: string): string => `${shown} is larger than ${LARGEST_FILE / 2 ** 20} MiB: take it away`;

/** Makes something under a name that nobody knows, and then puts it in place of what is there. */
function inPlace(place: OpenName, make: (temporary: string) => void): void {
  const temporary = at({ ...place, name: temporaryName(place.name) });
  try {
    make(temporary);
    renameSync(temporary, at(place));
    fsyncSync(place.folder);
  } catch (error) {
    try {
      unlinkSync(temporary);
    } catch {}
    throw error;
  }
}
