// Hashes of files, and names.

import { crypto } from './builtin.ts';

/** SHA-256, hexadecimal. */
export const hashOf = (bytes: Uint8Array): string => crypto().createHash('sha256').update(bytes).digest('hex');

/** 20 bytes. */
export const sha1Of = (text: string): Buffer => crypto().createHash('sha1').update(text).digest();

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Eight hexadecimal digits that tell two things apart, and guard nothing. */
export const shortName = (): string =>
  Math.floor(Math.random() * 2 ** 32)
    .toString(16)
    .padStart(8, '0');
