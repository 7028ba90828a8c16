// Loads the program, which is in chunks that are loaded when they are needed. In dist/kylin-vr.js, one file to carry, it follows
// this loader in a comment; packages put it beside the loader, where Node need not read over it at each start (3.5 ms of 27).
// Compiling a megabyte of JavaScript takes longer than starting Node does (50 ms against 35), and Node 20 keeps no compiled code
// of its own accord (module.enableCompileCache came with 22). So this does: V8's code cache, made after a run that went through
// most of the program. With all of it in one chunk that leaves 12 ms, in chunks 5.
//
// HOW THE CODE CACHE IS MADE
//   A program that is alone:   root's `kylin-vr reload`, `start` and `install` make it where there is none that fits, in
//                              /var/cache/kylin-vr (saveCode below, called by src/main.ts at the end of the run).
//   A package with its own     `NODE kylin-vr.js --save-code-cache FOLDER`, with the Node that the package brings and the
//   Node:                      file as it is packed; what is then in FOLDER is packed beside kylin-vr.js, owned by root.
// It is for one build, one Node and one kind of CPU: the first two are in its name, the rest V8 looks at, and refuses it. It
// is taken only from a folder of root's that nobody else can write, since it is as good as the program: V8 of Node 20 does not
// verify its own checksum. It is written whole (fsync, then rename): a power cut leaves the old one or the new one.

const fs = require('node:fs');
const { basename, dirname, join } = require('node:path');
const { Script } = require('node:vm');

// By the build: its hash, where the packs are, which chunk is in which, and how many lines of the one file come before them.
const { id, length, packs, chunks, linesBefore } = KYLIN_VR_PROGRAM;

const CACHE_FOLDER = '/var/cache/kylin-vr';
const NAME = `code-${id}-${process.version}-${process.arch}.bin`;

function readAt(file, offset, size) {
  const bytes = Buffer.allocUnsafe(size);
  if (fs.readSync(file, bytes, 0, size, offset) !== size) throw new Error(`${programFile}: is cut off`);
  return bytes;
}

/** A file beside this one is taken only where this one has no program: others may write where somebody has put it (/tmp). */
function openProgram() {
  const own = fs.openSync(__filename, 'r');
  const { size } = fs.fstatSync(own);
  if (size > length)
    return { programFile: __filename, program: own, start: size - AFTER.length - length, isBeside: false };
  fs.closeSync(own);
  const beside = join(dirname(__filename), `chunks-${id}.js`);
  return { programFile: beside, program: fs.openSync(beside, 'r'), start: 0, isBeside: true };
}

/** As one file, to put elsewhere. */
function text() {
  const own = fs.readFileSync(__filename, 'latin1');
  return isBeside ? own + BEFORE + readAt(program, 0, length).latin1Slice() + AFTER : own;
}

const isRoots = (stat) => stat.uid === 0 && (stat.mode & 0o022) === 0;

/** A cache file is: the length of its index as eight characters, the index, the code of each pack. */
function openCache(folder) {
  try {
    const stat = fs.lstatSync(folder);
    if (!stat.isDirectory() || !isRoots(stat)) return undefined;
    const file = fs.openSync(join(folder, NAME), fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
    if (!isRoots(fs.fstatSync(file))) return undefined;
    const size = Number(readAt(file, 0, 8).toString());
    const index = JSON.parse(readAt(file, 8, size).toString());
    return { file, start: 8 + size, index };
  } catch {
    return undefined;
  }
}

const BEFORE = '/* PROGRAM\n';
const AFTER = '*/\n';
const { programFile, program, start, isBeside } = openProgram();
const cache = openCache(dirname(__filename)) ?? openCache(CACHE_FOLDER);
const compiled = new Map();
const loaded = new Map();

function codeOf(name) {
  const code = cache?.index[name];
  try {
    return code && readAt(cache.file, cache.start + code.offset, code.size);
  } catch {
    return undefined;
  }
}

/** A pack: an object with a function for each of its chunks. */
function compile(name) {
  const { offset, size, line } = packs[name];
  const source = readAt(program, start + offset, size)
    .latin1Slice()
    .replaceAll('*KYLIN_VR_END/', '*/');
  const script = new Script(`({${source}})`, {
    filename: programFile,
    // Lines as in that file, for stack traces and the source map.
    lineOffset: isBeside ? line : linesBefore + line,
    cachedData: codeOf(name),
  });
  const pack = { script, functions: script.runInThisContext() };
  compiled.set(name, pack);
  return pack;
}

function load(name) {
  const known = loaded.get(name);
  if (known !== undefined) return known.exports;
  const pack = compiled.get(chunks[name]) ?? compile(chunks[name]);
  const module = { exports: {} };
  loaded.set(name, module);
  pack.functions[name](module.exports, requireFrom, module, __filename, __dirname, bundle);
  return module.exports;
}

const requireFrom = (wanted) => (wanted.startsWith('./') ? load(basename(wanted)) : require(wanted));

/** Keeps the code that has been compiled until now, for the next run. Where that cannot be, the next run is slower: no matter. */
function saveCode(folder = CACHE_FOLDER) {
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o755 });
    if (!isRoots(fs.lstatSync(folder))) return;
    for (const name of fs.readdirSync(folder))
      if (name.startsWith('code-') && !name.startsWith(`code-${id}-`)) fs.rmSync(join(folder, name));
    const index = {};
    const code = [];
    let offset = 0;
    for (const [name, { script }] of compiled) {
      const data = script.createCachedData();
      index[name] = { offset, size: data.length };
      code.push(data);
      offset += data.length;
    }
    const head = JSON.stringify(index);
    const temporary = join(folder, `${NAME}.${process.pid}`);
    const file = fs.openSync(temporary, 'wx', 0o644);
    fs.writeFileSync(file, Buffer.concat([Buffer.from(String(head.length).padStart(8) + head), ...code]));
    fs.fsyncSync(file);
    fs.closeSync(file);
    fs.renameSync(temporary, join(folder, NAME));
  } catch {}
}

const bundle = {
  id,
  text,
  isFromCache: () => cache !== undefined && [...compiled.values()].every(({ script }) => !script.cachedDataRejected),
  saveCode,
};
load('main.js');
