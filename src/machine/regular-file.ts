// A file's bytes, where it is a file and not too large. What is something else is not opened: a FIFO would keep us waiting, a
// device has no end, and some do something when they are opened (a watchdog). The one place where files of others are read.

import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { UnreadableError } from '../base/errors.ts';

/** What is kept of 10,000 EIPs has 10 MB. */
export const MOST_READ = 32 * 1024 * 1024;

/**
 * Undefined where there is none, or a link that leads to none. Throws UnreadableError, and what the system says. Asking first also is
 * the quickest where there is none.
 */
export function readRegular(path: string, most: number = MOST_READ): Buffer | undefined {
  const before = statSync(path, { throwIfNoEntry: false });
  if (before === undefined) return undefined;
  // `check <(make-config)`, `make-config | kylin-vr check /dev/stdin`
  if (before.isFIFO() && isOpened(path))
    return readOpened(path, constants.O_RDONLY, (pipe) => readWhole(path, pipe, 0, most));
  refuseOdd(path, before, most);
  // Not waiting, should it have become a FIFO since.
  return readOpened(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY, (file) => {
    const stat = fstatSync(file);
    refuseOdd(path, stat, most);
    return readWhole(path, file, stat.size, most);
  });
}

/** By the shell, for this process: its other end is somebody who writes now. */
const isOpened = (path: string): boolean => path === '/dev/stdin' || path.startsWith('/dev/fd/');

function readOpened(path: string, flags: number, read: (file: number) => Buffer): Buffer {
  const file = openSync(path, flags);
  try {
    return read(file);
  } finally {
    closeSync(file);
  }
}

/** Of an open file, from its beginning. Its size may be said to be 0 (/proc), and it may grow meanwhile. */
function readWhole(path: string, file: number, size: number, most: number): Buffer {
  // One more than there is: the end shows itself in the same read.
  let bytes = Buffer.allocUnsafe(Math.max(size, 1023) + 1);
  let length = 0;
  for (;;) {
    const read = readSync(file, bytes, length, bytes.length - length, null);
    length += read;
    if (read === 0) return bytes.subarray(0, length);
    if (length > most) throw tooLarge(path, most, length);
    if (length === bytes.length) bytes = Buffer.concat([bytes], bytes.length * 2);
  }
}

function refuseOdd(path: string, stat: Stats, most: number): void {
  if (!stat.isFile()) throw new UnreadableError(path, `is ${kindOf(stat)}, no file: remove it, or put the file there`);
  if (stat.size > most) throw tooLarge(path, most, stat.size);
}

const tooLarge = (path: string, most: number, size: number): UnreadableError =>
  new UnreadableError(path, `must not be larger than ${most} bytes, is ${size}`);

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return 'a folder';
  if (stat.isFIFO()) return 'a FIFO';
  if (stat.isSocket()) return 'a socket';
  return 'a device';
}
