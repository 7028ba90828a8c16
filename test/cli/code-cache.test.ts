// V8's code cache (packaging/loader.cjs): made, taken, and not taken from where others could have put something.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { PROGRAM } from './program.ts';

/** Says how often compiled code was handed to V8, and how often V8 took it. */
const HOOK = `const vm = require('node:vm'); const seen = { given: 0, taken: 0 };
vm.Script = class extends vm.Script { constructor(source, options) { super(source, options);
  if (options?.cachedData) { seen.given++; if (!this.cachedDataRejected) seen.taken++; } } };
process.on('exit', () => console.error(JSON.stringify(seen)));`;

type Copy = {
  folder: string;
  file: string;
  save: () => void;
  code: () => string[];
  use: () => { given: number; taken: number };
};

/** The program in a folder of its own, as a package that brings its Node has it. */
function copyOf(t: TestContext): Copy {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-code-'));
  t.after(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  for (const name of ['kylin-vr.js', 'package.json']) copyFileSync(join(dirname(PROGRAM), name), join(folder, name));
  const file = join(folder, 'kylin-vr.js');
  const hook = join(folder, 'hook.cjs');
  writeFileSync(hook, HOOK);
  const node = (...args: string[]) => {
    const { status, stderr, stdout } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      env: { PATH: '/usr/bin:/bin' },
    });
    assert.equal(status, 0, stderr);
    return { stdout, stderr };
  };
  return {
    folder,
    file,
    save: () => void node(file, '--save-code-cache', folder),
    code: () => readdirSync(folder).filter((name) => name.startsWith('code-')),
    use: () => JSON.parse(node('--require', hook, file, '--version').stderr.trim()),
  };
}

describe('the code cache beside the program', () => {
  it('is made for this Node, and taken', (t) => {
    const { save, code, use } = copyOf(t);
    assert.deepEqual(use(), { given: 0, taken: 0 });
    save();
    assert.match(code().join(), new RegExp(`^code-[0-9a-f]{16}-${process.version}-${process.arch}\\.bin$`));
    const { given, taken } = use();
    assert.ok(given > 1);
    assert.equal(taken, given);
  });

  it('of another build is removed when a new one is made', (t) => {
    const { folder, save, code } = copyOf(t);
    writeFileSync(join(folder, 'code-0123456789abcdef-v20.0.0-x64.bin'), 'old');
    save();
    assert.equal(code().length, 1);
  });

  const spoilt: [string, (file: string, folder: string) => void][] = [
    ['that others can write', (file) => chmodSync(file, 0o666)],
    ["that is not root's", (file) => chownSync(file, 65534, 65534)],
    ['in a folder that others can write', (_, folder) => chmodSync(folder, 0o777)],
    ["in a folder that is not root's", (_, folder) => chownSync(folder, 65534, 65534)],
    ['that is cut off in its index', (file) => truncateSync(file, 100)],
    ['that is empty', (file) => truncateSync(file, 0)],
  ];
  for (const [what, spoil] of spoilt)
    it(`${what} is not taken`, (t) => {
      const { folder, save, code, use } = copyOf(t);
      save();
      spoil(join(folder, code()[0] ?? ''), folder);
      assert.deepEqual(use(), { given: 0, taken: 0 });
    });

  it('that is cut off in its code does no harm', (t) => {
    const { folder, save, code, use } = copyOf(t);
    save();
    const file = join(folder, code()[0] ?? '');
    truncateSync(file, 30_000);
    const { given, taken } = use();
    assert.ok(taken <= given);
  });
});

it('a file beside the one-file program is not taken for its chunks', (t) => {
  const { folder, use } = copyOf(t);
  const id = /\bid: "([0-9a-f]{16})"/.exec(readFileSync(PROGRAM, 'latin1'))?.[1];
  assert.ok(id !== undefined && existsSync(join(dirname(PROGRAM), `packaged/chunks-${id}.js`)));
  writeFileSync(join(folder, `chunks-${id}.js`), 'process.exit(3)');
  assert.deepEqual(use(), { given: 0, taken: 0 });
});
