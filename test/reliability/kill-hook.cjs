// Loaded into the program under test (`node --require`): writes down every instant at which it is about to change something,
// and kills the process, with or without its children, at the one that is asked for. KYLIN_VR_KILL is JSON:
//   trace   the file that the instants are written to
//   at      the instant, as the trace names it; none: only trace
//   nth     the n-th one of that name
//   whom    `node` alone, or `all`: its children too
'use strict';

const childProcess = require('node:child_process');
const fs = require('node:fs');

const { trace, at, nth = 1, whom } = JSON.parse(process.env.KYLIN_VR_KILL);
const { appendFileSync, existsSync, unlinkSync } = fs;
const children = new Set();
let seen = 0;

/** What is random in a name is not part of the instant's: a temporary file goes by the name that it is to have. */
const named = (path) =>
  String(path)
    .replace(/\.([^/]+)\.[0-9a-f]{8}\.kylin-vr-new$/, '$1')
    .replace(/\d+-\d+-[0-9a-f]{8}-[0-9a-f]{8}/, 'OWNER')
    .replace(/\d{6}-\d+T\d+Z-\w+-[0-9a-f]{8}/, 'ENTRY');

const note = (what) => appendFileSync(trace, `${performance.now().toFixed(1)} ${what}\n`);
const isDue = (what) => what === at && ++seen === nth;

function instant(what) {
  note(what);
  if (isDue(what)) kill();
}

function kill() {
  note('killed');
  if (whom === 'all')
    for (const pid of children)
      try {
        // Each of them is the leader of a group of its own.
        process.kill(-pid, 'SIGKILL');
      } catch {}
  process.kill(process.pid, 'SIGKILL');
}

const isOurs = (path) => /kylin-vr|network-scripts|system-connections|\/proc\/sys/.test(String(path));

/** By descriptor, the files that are being written. */
const written = new Map();
const pathOf = (args) =>
  args.findLast((arg) => typeof arg === 'string' && arg.startsWith('/')) ?? written.get(args[0]) ?? '';

function around(name, before = () => {}) {
  const original = fs[name];
  fs[name] = function (...args) {
    const path = pathOf(args);
    if (!isOurs(path) || (name === 'openSync' && args[1] === 'r')) return original.apply(this, args);
    instant(`before ${name} ${named(path)}`);
    before(...args);
    const done = (result) => {
      if (name === 'openSync') written.set(result, path);
      if (name === 'closeSync') written.delete(args[0]);
      instant(`after ${name} ${named(path)}`);
      return result;
    };
    return done(original.apply(this, args));
  };
}

const { openSync, writeSync } = fs;
for (const name of [
  ...['openSync', 'fchmodSync', 'fsyncSync', 'closeSync', 'renameSync', 'linkSync', 'unlinkSync', 'rmSync'],
  ...['mkdirSync', 'rmdirSync', 'copyFileSync', 'chmodSync', 'symlinkSync'],
])
  around(name);
around('writeFileSync', (file, content) => {
  const path = pathOf([file]);
  note(`half ${named(path)}`);
  if (!isDue(`half ${named(path)}`)) return;
  const bytes = Buffer.from(content);
  writeSync(typeof file === 'number' ? file : openSync(file, 'w'), bytes.subarray(0, bytes.length >> 1));
  kill();
});

const { spawn } = childProcess;
childProcess.spawn = function (file, args, options) {
  const command = [file, ...args].join(' ');
  instant(`before run ${command}`);
  const child = spawn.call(this, file, args, options);
  if (child.pid !== undefined) children.add(child.pid);
  child.once('exit', () => {
    children.delete(child.pid);
    instant(`after run ${command}`);
  });
  // A wrapper in front of the tool says when it is in the middle of its work.
  const timer = setInterval(() => {
    if (!existsSync('/mnt/inside')) return;
    clearInterval(timer);
    unlinkSync('/mnt/inside');
    instant(`inside run ${command}`);
  }, 3);
  timer.unref();
  child.once('exit', () => clearInterval(timer));
  return child;
};
