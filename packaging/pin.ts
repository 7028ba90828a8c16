// `npm run pin`: raises what the standalone packages bring to the newest there is, in packaging/pinned.json: Node of the release
// line that is named there, by npm, and Debian's C library, by apt.

import { readFileSync, writeFileSync } from 'node:fs';
import { PINNED, type Pinned } from './runtime.ts';
import { run } from './stage.ts';

const pinned = JSON.parse(readFileSync(PINNED, 'utf8')) as Pinned;
const view = (...args: string[]): unknown => JSON.parse(run('npm', ['view', '--json', ...args]));

const { node, libraries } = pinned;
const names = Object.values(node.packages).map(({ name }) => name);
const published = names.map((name) => view(name, 'versions') as string[]);
const [first = [], ...others] = published;
const version = first
  .filter((each) => each.startsWith(`${node.line}.`) && others.every((versions) => versions.includes(each)))
  .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
  .at(-1);
if (version === undefined) throw new Error(`${names.join(', ')}: none has a version ${node.line}`);
node.version = version;
for (const each of Object.values(node.packages))
  each.integrity = view(`${each.name}@${version}`, 'dist.integrity') as string;

run('apt-get', ['update']);
for (const each of libraries) {
  const text = run('apt-cache', ['show', '--no-all-versions', `${each.package}:amd64`]);
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1];
  const [, source, ofSource] = /^(\S+)(?: \((.*)\))?$/.exec(field('Source') ?? each.package) ?? [];
  const [newest, sha256] = [field('Version'), field('SHA256')];
  if (newest === undefined || sha256 === undefined || source === undefined)
    throw new Error(`${each.package}: apt knows none`);
  Object.assign(each, { version: newest, sha256, source, sourceVersion: ofSource ?? newest });
}
writeFileSync(PINNED, `${JSON.stringify(pinned, undefined, 2)}\n`);
console.log(`Node ${version}${libraries.map((each) => `, ${each.package} ${each.version}`).join('')}`);
