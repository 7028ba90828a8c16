// Loaded into the program under test (`node --require`): the kernel has no process left for the commands that /mnt/refused names,
// a regular expression. It is libuv's answer that is replaced, since root has no limit of its own; as where fork fails, the
// pipes to the child are there.
'use strict';

const { readFileSync } = require('node:fs');

const UV_EAGAIN = -11;
const refused = new RegExp(readFileSync('/mnt/refused', 'utf8').trim());
const { Process } = process.binding('process_wrap');
const { spawn } = Process.prototype;
/** A shell starts what is in its script. */
const commandsOf = ([command, option, script = '', ...more]) =>
  command === 'sh' && option === '-c' ? script.split(/[&;] /) : [[command, option, script, ...more].join(' ')];
Process.prototype.spawn = function (options) {
  if (!commandsOf(options.args).some((command) => refused.test(command))) return spawn.call(this, options);
  spawn.call(this, { ...options, file: '/nowhere' });
  return UV_EAGAIN;
};
