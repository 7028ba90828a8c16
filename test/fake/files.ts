// The files of the machine in memory, with modes, folders and links, as the calls of Host see them.

import { basename, dirname, join } from 'node:path';
import { HostError, UnreadableError } from '../../src/base/errors.ts';
import { PATHS } from '../../src/base/paths.ts';
import type { Shape } from '../../src/base/shape.ts';
import { DAMAGED_SUFFIX, type FileInfo, type Host, type ReadOptions } from '../../src/machine/host.ts';
import { fitting, lost, owned, pending } from '../../src/machine/kept-shapes.ts';

type Entry =
  | { kind: 'file'; bytes: Uint8Array; mode: number }
  | { kind: 'folder'; mode: number }
  | { kind: 'link'; target: string };

export type FileCalls = Pick<
  Host,
  | 'read'
  | 'readBytes'
  | 'list'
  | 'info'
  | 'write'
  | 'setMode'
  | 'readLink'
  | 'link'
  | 'makeFolder'
  | 'removeFolder'
  | 'move'
  | 'copy'
  | 'putAside'
  | 'remove'
>;

const RECORDS: Readonly<Record<string, Shape<unknown>>> = {
  [PATHS.owned]: owned,
  [PATHS.pending]: pending,
  [PATHS.foreign]: lost,
};

/** As Node throws what the kernel says. */
export const errno = (code: string, words: string): Error => Object.assign(new Error(`${code}: ${words}`), { code });

const absent = () => errno('ENOENT', 'no such file or directory');

export class Files implements FileCalls {
  readonly entries = new Map<string, Entry>([['/', { kind: 'folder', mode: 0o755 }]]);

  /** For the tests: makes the folders, too. */
  put(path: string, content: string | Uint8Array, mode = 0o644): void {
    this.#makeFolders(dirname(path), 0o755);
    this.entries.set(path, { kind: 'file', bytes: Buffer.from(content), mode });
  }

  putFolder(path: string, mode = 0o755): void {
    this.#makeFolders(dirname(path), 0o755);
    this.entries.set(path, { kind: 'folder', mode });
  }

  takeFrom({ entries }: Files): void {
    this.entries.clear();
    for (const [path, entry] of entries) this.entries.set(path, { ...entry });
  }

  text(path: string): string | undefined {
    const entry = this.entries.get(path);
    return entry?.kind === 'file' ? Buffer.from(entry.bytes).toString() : undefined;
  }

  /** What is below the folder, and itself. */
  below = (folder: string): string[] =>
    [...this.entries.keys()].filter((path) => path === folder || path.startsWith(`${folder}/`)).sort();

  /** Of a folder all that is in it. */
  drop(path: string): void {
    for (const each of this.below(path)) this.entries.delete(each);
  }

  async read(path: string, options?: ReadOptions): Promise<string | undefined> {
    const bytes = await this.readBytes(path, options);
    return bytes && Buffer.from(bytes).toString();
  }

  async readBytes(path: string, { most, orNothing }: ReadOptions = {}): Promise<Uint8Array | undefined> {
    const entry = this.#followed(path);
    if (entry === undefined) return undefined;
    const wrong = entry.kind !== 'file' ? 'is a folder' : entry.bytes.length > (most ?? Infinity) ? 'is too large' : '';
    if (wrong === '' && entry.kind === 'file') return Buffer.from(entry.bytes);
    if (orNothing) return undefined;
    throw new UnreadableError(`reading ${path}`, new Error(wrong));
  }

  async list(folder: string): Promise<string[]> {
    const start = folder === '/' ? '/' : `${folder}/`;
    const within = [...this.entries.keys()].filter((path) => path.startsWith(start) && path !== '/');
    return within
      .map((path) => path.slice(start.length))
      .filter((name) => !name.includes('/'))
      .sort();
  }

  async info(path: string): Promise<FileInfo | undefined> {
    const entry = path.endsWith('/') ? this.#followed(path.slice(0, -1)) : this.entries.get(path);
    if (entry === undefined || (path.endsWith('/') && entry.kind !== 'folder')) return undefined;
    return {
      uid: 0,
      gid: 0,
      mode: entry.kind === 'link' ? 0o777 : entry.mode,
      directory: entry.kind === 'folder',
      symlink: entry.kind === 'link',
      regular: entry.kind === 'file',
      size: entry.kind === 'file' ? entry.bytes.length : entry.kind === 'link' ? entry.target.length : 40,
    };
  }

  async write(path: string, content: string | Uint8Array, mode: number): Promise<boolean> {
    const shape = RECORDS[path];
    // The next run would take one that it refuses for none.
    if (shape !== undefined && fitting(shape, Buffer.from(content).toString()) === undefined)
      throw new Error(`${path} would not be read again: ${content}`);
    const bytes = Buffer.from(content);
    const there = this.entries.get(path);
    if (there?.kind === 'file' && there.mode === mode && bytes.equals(there.bytes)) return false;
    this.#makeFolders(dirname(path), 0o700);
    if (there?.kind === 'folder') await this.putAside(path);
    this.entries.set(path, { kind: 'file', bytes, mode });
    return true;
  }

  async setMode(path: string, mode: number): Promise<void> {
    const entry = this.entries.get(path);
    if (entry === undefined || entry.kind === 'link') throw new HostError(`setting the mode of ${path}`, absent());
    entry.mode = mode;
  }

  async readLink(path: string): Promise<string | undefined> {
    const entry = this.entries.get(path);
    return entry?.kind === 'link' ? entry.target : undefined;
  }

  async link(path: string, target: string): Promise<void> {
    if (!this.entries.has(dirname(path))) throw new HostError(`linking ${path} to ${target}`, absent());
    this.entries.set(path, { kind: 'link', target });
  }

  async makeFolder(path: string, mode: number): Promise<void> {
    const isThere = this.entries.has(path);
    if (isThere || !this.entries.has(dirname(path)))
      throw new HostError(`making the folder ${path}`, isThere ? errno('EEXIST', 'file already exists') : absent());
    this.entries.set(path, { kind: 'folder', mode });
  }

  async removeFolder(path: string): Promise<boolean> {
    if (this.below(path).length > 1) return false;
    this.entries.delete(path);
    return true;
  }

  async copy(from: string, to: string): Promise<void> {
    const entry = this.entries.get(from);
    if (entry?.kind !== 'file') throw new HostError(`copying ${from} to ${to}`, absent());
    this.#makeFolders(dirname(to), 0o700);
    this.entries.set(to, { ...entry });
  }

  async move(from: string, to: string): Promise<void> {
    await this.copy(from, to).catch((error: HostError) => {
      throw new HostError(`moving ${from} to ${to}`, error.cause);
    });
    this.entries.delete(from);
  }

  async putAside(path: string): Promise<string | undefined> {
    if (!this.entries.has(path)) return undefined;
    const name = /^\/(var|run)\//.test(path) ? basename(path) : `.${basename(path)}`;
    const aside = join(dirname(path), `${name}${DAMAGED_SUFFIX}`);
    for (const each of this.below(path)) {
      const entry = this.entries.get(each);
      this.entries.delete(each);
      if (entry !== undefined) this.entries.set(aside + each.slice(path.length), entry);
    }
    return aside;
  }

  async remove(path: string): Promise<boolean> {
    const entry = this.entries.get(path);
    if (entry?.kind === 'folder') return (await this.putAside(path)) !== undefined;
    return this.entries.delete(path);
  }

  #followed(path: string, links = 0): Exclude<Entry, { kind: 'link' }> | undefined {
    const entry = this.entries.get(path);
    if (entry?.kind !== 'link') return entry;
    return links > 40 ? undefined : this.#followed(join(dirname(path), entry.target), links + 1);
  }

  #makeFolders(path: string, mode: number): void {
    if (this.entries.has(path)) return;
    this.#makeFolders(dirname(path), mode);
    this.entries.set(path, { kind: 'folder', mode });
  }
}
