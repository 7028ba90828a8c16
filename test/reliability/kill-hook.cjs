// Loaded into the program under test (`node --require`): writes down every instant at which it is about to change something,
// and kills the process, with or without its children, at the one that is asked for. KYLIN_VR_KILL is JSON:
//   trace   the file that the instants are written to
//   at      the instant, as the trace names it; none: only trace
//   nth     the n-th one of that name
//   whom    `node` alone, or `all`: its children too
'use strict';

const childProcess = require('node:child_process');
const fs = require('node:fs');
const promises = require('node:fs/promises');

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

function around(place, name, before = () => {}) {
  const original = place[name];
  place[name] = function (...args) {
    const path = args.findLast((arg) => typeof arg === 'string' && arg.startsWith('/')) ?? '';
    if (!isOurs(path) || (name === 'open' && args[1] === 'r')) return original.apply(this, args);
    instant(`before ${name} ${named(path)}`);
    before(...args);
    const done = (result) => {
      instant(`after ${name} ${named(path)}`);
      return name === 'open' ? watched(result, named(path)) : result;
    };
    const result = original.apply(this, args);
    return typeof result?.then === 'function' ? result.then(done) : done(result);
  };
}

/** The handle of a file that is being written. */
function watched(file, path) {
  for (const name of ['writeFile', 'chmod', 'sync', 'close']) {
    const original = file[name];
    file[name] = async (...args) => {
      instant(`before ${name} ${path}`);
      if (name === 'writeFile') {
        note(`half ${path}`);
        if (isDue(`half ${path}`)) {
          const bytes = Buffer.from(args[0]);
          await original.call(file, bytes.subarray(0, bytes.length >> 1));
          kill();
        }
      }
      const result = await original.apply(file, args);
      instant(`after ${name} ${path}`);
      return result;
    };
  }
  return file;
}

for (const name of ['open', 'rename', 'mkdir', 'rm', 'copyFile', 'chmod', 'writeFile', 'symlink', 'rmdir'])
  around(promises, name);
for (const name of ['mkdirSync', 'renameSync', 'linkSync', 'rmSync', 'rmdirSync', 'unlinkSync']) around(fs, name);
const { openSync, writeSync } = fs;
around(fs, 'writeFileSync', (path, text) => {
  note(`half ${named(path)}`);
  if (!isDue(`half ${named(path)}`)) return;
  writeSync(openSync(path, 'w'), text.slice(0, text.length >> 1));
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
