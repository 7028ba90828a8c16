import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { createProgram } from '../../src/cli.ts';
import { type Context, DEFAULTS } from '../../src/commands/context.ts';
import { inProcess, kylinVr, unprivileged } from './program.ts';

const { version } = JSON.parse(readFileSync(resolve(import.meta.dirname, '../../package.json'), 'utf8')) as {
  version: string;
};
const HINT = '(kylin-vr --help shows the commands and options)';

describe('help and version', () => {
  it('--version prints that of the package', () => {
    assert.deepEqual(kylinVr('--version'), { status: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('--help names every command and option', () => {
    const { status, stdout, stderr } = kylinVr('--help');
    assert.deepEqual([status, stderr], [0, '']);
    const section = (title: string) => new RegExp(`^${title}:\\n((?: .*\\n)+)`, 'm').exec(stdout)?.[1] ?? '';
    const names = (text: string) => [...text.matchAll(/^ {2}(\S+)/gm)].map((match) => match[1]);
    assert.deepEqual(names(section('Commands')), [
      'start',
      'reload',
      'check',
      'plan',
      'status',
      'confirm',
      'rollback',
      'eip',
      'forward',
      'nic',
      'route',
      'push',
      'log',
      'explain',
      'schema',
      'install',
      'uninstall',
      'completion',
      'help',
    ]);
    assert.deepEqual(
      [...section('Options').matchAll(/--[a-z-]+/g)]
        .map(([option]) => option)
        .filter((option) => option !== '--exit-code')
        .sort(),
      [
        '--config',
        '--help',
        '--json',
        '--lock-timeout',
        '--log-format',
        '--log-level',
        '--renderer',
        '--verbose',
        '--version',
      ],
    );
  });

  it('--help has the exit statuses that the code has', () => {
    const table = /^Exit status:\n((?: +\d+ .*\n)+)/m.exec(kylinVr('--help').stdout)?.[1] ?? '';
    const statuses = [...table.matchAll(/^ +(\d+) {2}\S/gm)].map((match) => Number(match[1]));
    assert.deepEqual(statuses, Object.values(EXIT));
  });

  for (const command of ['start', 'reload', 'check', 'plan', 'status', 'confirm', 'rollback', 'install', 'uninstall'])
    it(`${command} --help shows its usage and the options that all share`, async () => {
      const { status, stdout } = await inProcess(command, '--help');
      assert.equal(status, 0);
      assert.match(stdout, new RegExp(`^Usage: kylin-vr ${command} [^]*Global Options:[^]*--config <file>[^]*--json`));
    });
});

describe('a command line without options', () => {
  // src/main.ts reads `start` and `reload` by itself, and with --trigger.
  it('means what commander makes of it', () => {
    const context = { stdout: () => {}, stderr: () => {} } as unknown as Context;
    for (const command of ['start', 'reload']) {
      const program = createProgram(context, () => {});
      const found = program.commands.find((each) => each.name() === command);
      found?.action(() => {});
      program.parse([command], { from: 'user' });
      assert.deepEqual(found?.optsWithGlobals(), DEFAULTS);
    }
  });
});

describe('a command line that is wrong ends 64 and changes nothing', () => {
  const wrong: [string, string[], RegExp][] = [
    ['an unknown command', ['relaod'], /^error: unknown command 'relaod'\n\(Did you mean reload\?\)\n/],
    ['an unknown option', ['--nope'], /^error: unknown option '--nope'\n/],
    [
      'an unknown option of a command',
      ['check', '--stict'],
      /^error: unknown option '--stict'\n\(Did you mean --strict\?\)\n/,
    ],
    [
      'an argument too many',
      ['reload', 'now'],
      /^error: too many arguments for 'reload'\. Expected 0 arguments but got 1\.\n/,
    ],
    ['an option without its value', ['check', '--config'], /^error: option '--config <file>' argument missing\n/],
    [
      'a file without a name',
      ['plan', '--config', ''],
      /^error: option '--config <file>' argument '' is invalid\. must be the path of a file\.\n/,
    ],
    [
      'a file without a name to check',
      ['check', ''],
      /^error: command-argument value '' is invalid for argument 'file'\. must be the path of a file\.\n/,
    ],
    [
      'a time that is no number',
      ['reload', '--lock-timeout', 'soon'],
      /^error: option '--lock-timeout <seconds>' argument 'soon' is invalid\. must be a number of seconds, 86400 at most\.\n/,
    ],
    [
      'a time to confirm that is over at once',
      ['reload', '--confirm-within', '0'],
      /^error: option '--confirm-within <seconds>' argument '0' is invalid\. must be a whole number of seconds from 1 to 86400\.\n/,
    ],
    [
      'a configuration that has no number',
      ['rollback', '--to', '0'],
      /^error: option '--to <number>' argument '0' is invalid\. must be a whole number from 1 up\.\n/,
    ],
    [
      'a number of runs that is none',
      ['log', '-n', 'all'],
      /^error: option '-n, --number <runs>' argument 'all' is invalid\. must be a number of runs\.\n/,
    ],
    [
      'a level that is none',
      ['reload', '--log-level', 'loud'],
      /^error: option '--log-level <level>' argument 'loud' is invalid\. Allowed choices are /,
    ],
    [
      'a renderer that is none',
      ['reload', '--renderer', 'netplan'],
      /^error: option '--renderer <name>' argument 'netplan' is invalid\. Allowed choices are /,
    ],
    [
      'a trigger that is none',
      ['reload', '--trigger', 'me'],
      /^error: option '--trigger <name>' argument 'me' is invalid\. Allowed choices are boot, udev, timer, operator, agent\.\n/,
    ],
    ['a command of 0.1 that is none', ['-c', 'stop'], /^error: unknown option '-c'\n/],
  ];
  for (const [name, args, message] of wrong)
    it(`${name}: ${args.join(' ')}`, async () => {
      const { status, stdout, stderr } = await inProcess(...args);
      assert.deepEqual([status, stdout], [64, '']);
      assert.match(stderr, message);
      assert.ok(stderr.endsWith(`${HINT}\n`), stderr);
    });

  it('has what was typed on the line of its error, line feeds as pictures', () => {
    const typed = "x'\n(Did you mean all-is-well?)\nkylin-vr: all is well";
    const seen = "x'␊(Did you mean all-is-well?)␊kylin-vr: all is well";
    for (const [args, message] of [
      [[typed], `unknown command '${seen}'`],
      [[`--${typed}`], `unknown option '--${seen}'`],
      [['check', '--renderer', typed], `option '--renderer <name>' argument '${seen}' is invalid`],
      [['check', '--lock-timeout', typed], `option '--lock-timeout <seconds>' argument '${seen}' is invalid`],
      [['log', `-n${typed}`], `option '-n, --number <runs>' argument '${seen}' is invalid`],
      [['completion', typed], `command-argument value '${seen}' is invalid for argument 'shell'`],
      [['completion', 'bash', typed], "too many arguments for 'completion'"],
    ] as const) {
      const { status, stdout, stderr } = kylinVr(...args);
      assert.deepEqual([status, stdout], [64, '']);
      const [first, ...rest] = stderr.split('\n');
      assert.ok(first?.startsWith(`error: ${message}`), stderr);
      assert.deepEqual(rest, [HINT, '']);
    }
  });

  it('no arguments: the help, where errors go', () => {
    const { status, stdout, stderr } = kylinVr();
    assert.deepEqual([status, stdout], [64, '']);
    assert.match(stderr, /^Usage: kylin-vr /);
  });
});

describe('without root', () => {
  for (const args of [
    ['start'],
    ['reload'],
    ['plan'],
    ['status'],
    ['confirm'],
    ['rollback'],
    ['--reload'],
    ['-c', 'init'],
  ]) {
    const [command] = { '--reload': ['reload'], '-c': ['start'] }[args[0] ?? ''] ?? args;
    const message = `kylin-vr ${command} needs root: run it as root or with sudo`;

    it(`${args.join(' ')} ends 77 and says so`, () => {
      assert.deepEqual(unprivileged(...args), { status: 77, stdout: '', stderr: `kylin-vr: ${message}\n` });
    });
  }

  it('says so with --json in its object too', () => {
    const { status, stdout } = unprivileged('reload', '--json');
    const errors = [{ message: 'kylin-vr reload needs root: run it as root or with sudo' }];
    assert.equal(status, 77);
    assert.deepEqual(JSON.parse(stdout), { result: 'failed', steps: [], warnings: [], errors, durationMs: 0 });
  });
});
