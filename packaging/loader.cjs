// Loads the program, which is in chunks that are loaded when they are needed. In dist/kylin-vr.js, one file to carry, it follows
// this loader in a comment; packages put it beside the loader, where Node need not read over it at each start. Compiling it takes
// longer than starting Node does. Node 20 keeps no compiled code of its own accord, and module.enableCompileCache of later ones keeps
// what is compiled as a file is loaded, which is hardly a function. So this keeps V8's code cache, of every function. docs/speed.md
// says what that saves.
//
// HOW THE CODE CACHE IS MADE
//   A program that is alone:   root's `kylin-vr reload`, `start` and `install` make it where there is none that fits, in
//                              /var/cache/kylin-vr (saveCode below, called by src/main.ts at the end of the run).
//   A package with its own     `NODE kylin-vr.js --save-code-cache FOLDER`, with the Node that the package brings and the
//   Node:                      file as it is packed; what is then in FOLDER is packed beside kylin-vr.js, owned by root.
// It is for one build, one Node and one kind of CPU: the first two are in its name, the rest V8 looks at, and refuses it. It
// is taken only from a folder of root's that nobody else can write, since it is as good as the program. It is written whole
// (fsync, then rename): a power cut leaves the old one or the new one.
//
// HOW IT PROVES ITSELF
//   V8 of Node 20 does not verify its own checksum: of zero bytes in it V8 dies (SIGSEGV, SIGILL), in each run again. So
//   everything is in the file twice, and what is not the same twice is not shown to V8: to compare is quicker than every sum. And
//   a run of root's units has a mark in /run from before V8 sees the code until it ends: where the mark is there and its process is
//   not, this code is not taken any more.

const fs = require('node:fs');
const { basename, dirname, join } = require('node:path');
const { Script } = require('node:vm');

// By the build: its hash, where the packs are, which chunk is in which, and how many lines of the one file come before them.
const { id, length, packs, chunks, linesBefore } = KYLIN_VR_PROGRAM;

const CACHE_FOLDER = '/var/cache/kylin-vr';
const NAME = `code-${id}-${process.version}-${process.arch}.bin`;
const RUN_FOLDER = '/run/kylin-vr';
/** Which process runs by the code of which folder; or which code broke a run. */
const markOf = (folder) => `${RUN_FOLDER}/code-in-use${folder === CACHE_FOLDER ? '' : '-beside'}`;
/** There: the code could not be kept. It is tried again after an hour. */
const UNSAVED = `${RUN_FOLDER}/code-unsaved`;
const TRY_AGAIN_MS = 3_600_000;
/** That of 40 packs has 2,000 bytes. */
const LONGEST_INDEX = 65_536;
const PIECE = 32_768;

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

/** A cache file is, twice: the length of its index as eight characters, the index, the code of each pack. */
function openCache(folder) {
  try {
    const stat = fs.lstatSync(folder);
    if (!stat.isDirectory() || !isRoots(stat)) return undefined;
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
    const file = fs.openSync(join(folder, NAME), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const found = fs.fstatSync(file);
    if (!found.isFile() || !isRoots(found)) return undefined;
    const half = found.size / 2;
    const size = Number(readTwice(file, half, 0, 8).toString());
    if (!(size <= LONGEST_INDEX)) return undefined;
    const index = JSON.parse(readTwice(file, half, 8, size).toString());
    const which = `${NAME} ${found.ino} ${found.mtimeMs}`;
    return mayUse(which, markOf(folder)) ? { file, half, start: 8 + size, index } : undefined;
  } catch {
    return undefined;
  }
}

function readTwice(file, half, offset, size) {
  const bytes = readAt(file, offset, size);
  // In pieces: memory that is new to the process takes longer than to read and to compare.
  const again = Buffer.allocUnsafe(Math.min(size, PIECE));
  for (let at = 0; at < size; at += PIECE) {
    const piece = again.subarray(0, Math.min(PIECE, size - at));
    fs.readSync(file, piece, 0, piece.length, half + offset + at);
    if (!piece.equals(bytes.subarray(at, at + piece.length))) throw new Error(`${NAME}: is damaged`);
  }
  return bytes;
}

/** Whether a run has this number: it may be another process by now. */
function isOfUs(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(basename(__filename));
  } catch {
    return false;
  }
}

/** Leaves the mark. False: a run with this code did not come to its end. */
function mayUse(which, mark) {
  const [, , command] = process.argv;
  if (process.geteuid() !== 0 || (command !== 'start' && command !== 'reload')) return true;
  try {
    const left = fs.lstatSync(mark, { throwIfNoEntry: false });
    const [state, ...of] = left?.isFile() && left.size < 1000 ? fs.readFileSync(mark, 'latin1').split(' ') : [];
    if (of.join(' ') === which) {
      // Another run is under way.
      if (isOfUs(state)) return true;
      if (state !== 'broken') quietly(() => leave(mark, `broken ${which}`));
      return false;
    }
    leave(mark, `${process.pid} ${which}`);
  } catch {
    return true;
  }
  process.on('exit', () => quietly(() => fs.unlinkSync(mark)));
  return true;
}

function quietly(work) {
  try {
    work();
  } catch {}
}

/** In a folder of root's, in place of what is there, and through no link. */
function leave(path, text) {
  const folder = fs.lstatSync(RUN_FOLDER, { throwIfNoEntry: false });
  // Before the first run since boot there is none.
  if (folder === undefined) fs.mkdirSync(RUN_FOLDER, { mode: 0o700 });
  else if (!folder.isDirectory() || !isRoots(folder)) throw new Error(`${RUN_FOLDER}: is no folder of root's`);
  if (fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined) fs.rmSync(path, { recursive: true });
  fs.writeFileSync(path, text, { flag: 'wx', mode: 0o600 });
}

const BEFORE = '/* PROGRAM\n';
const AFTER = '*/\n';
const { programFile, program, start, isBeside } = openProgram();
const cache = openCache(dirname(__filename)) ?? openCache(CACHE_FOLDER);
const compiled = new Map();
const loaded = new Map();
let isDamaged = false;

function codeOf(name) {
  try {
    const code = cache?.index[name];
    return code && readTwice(cache.file, cache.half, cache.start + code.offset, code.size);
  } catch {
    isDamaged = true;
    return undefined;
  }
}

/** A pack: an object with a function for each of its chunks. */
function compiledFrom(name, cachedData) {
  const { offset, size, line } = packs[name];
  const source = readAt(program, start + offset, size)
    .latin1Slice()
    .replaceAll('*KYLIN_VR_END/', '*/');
  return new Script(source, {
    filename: programFile,
    // Lines as in that file, for stack traces and the source map.
    lineOffset: isBeside ? line : linesBefore + line,
    cachedData,
  });
}

function compile(name) {
  const script = compiledFrom(name, codeOf(name));
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

/** Where there is no room the attempt takes as long as a run, once a minute. */
function triesToSave() {
  const failed = fs.lstatSync(UNSAVED, { throwIfNoEntry: false });
  return failed === undefined || Math.abs(Date.now() - failed.mtimeMs) > TRY_AGAIN_MS;
}

/** Code of other builds, what killed or failed runs left half-written, and what is no file. */
function isLeftOver(folder, name) {
  if (!name.startsWith('code-')) return false;
  const [, pid] = /\.bin\.(\d+)$/.exec(name) ?? [];
  if (pid !== undefined) return Number(pid) === process.pid || !fs.existsSync(`/proc/${pid}`);
  return !name.startsWith(`code-${id}-`) || !fs.lstatSync(join(folder, name)).isFile();
}

/** Of every function, whether or not one was called: V8 compiles most of them when they are, and keeps none that was not. */
function wholeCodeOf(name) {
  const { setFlagsFromString } = require('node:v8');
  // While the code is made, what says how it is made must be as it is where the code is taken.
  setFlagsFromString('--no-lazy');
  const script = compiledFrom(name);
  setFlagsFromString('--lazy');
  return script.createCachedData();
}

/** Keeps the code of all packs for the next run. Where that cannot be, the next run is slower: no matter. */
function saveCode(folder = CACHE_FOLDER) {
  const temporary = join(folder, `${NAME}.${process.pid}`);
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o755 });
    if (!isRoots(fs.lstatSync(folder))) return;
    for (const name of fs.readdirSync(folder))
      if (isLeftOver(folder, name)) fs.rmSync(join(folder, name), { recursive: true, force: true });
    const index = {};
    const code = [];
    let offset = 0;
    for (const name of Object.keys(packs)) {
      const data = wholeCodeOf(name);
      index[name] = { offset, size: data.length };
      code.push(data);
      offset += data.length;
    }
    const head = JSON.stringify(index);
    const once = [Buffer.from(String(head.length).padStart(8) + head), ...code];
    const file = fs.openSync(temporary, 'wx', 0o644);
    try {
      fs.writeFileSync(file, Buffer.concat([...once, ...once]));
      fs.fsyncSync(file);
    } finally {
      fs.closeSync(file);
    }
    fs.renameSync(temporary, join(folder, NAME));
    if (fs.lstatSync(UNSAVED, { throwIfNoEntry: false }) !== undefined) fs.rmSync(UNSAVED, { recursive: true });
  } catch {
    quietly(() => fs.rmSync(temporary, { force: true }));
    if (folder === CACHE_FOLDER) quietly(() => leave(UNSAVED, ''));
  }
}

const bundle = {
  id,
  text,
  triesToSave,
  isFromCache: () =>
    cache !== undefined && !isDamaged && [...compiled.values()].every(({ script }) => !script.cachedDataRejected),
  saveCode,
};
load('main.js');
