// What SECURITY.md promises: no shell, a fixed environment, nothing that others can write or lead astray, nothing that means
// something to the shell that sources our files.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/parse.ts';
import { ifcfgRenderer } from '../../src/dialects/ifcfg.ts';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { desired } from '../network/fixtures.ts';

const config = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
`;

const SOURCES = resolve(import.meta.dirname, '../../src');
const sources = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(SOURCES, name), 'utf8') }));

describe('the source', () => {
  it('starts processes in three places, none of them with a shell', () => {
    const starting = sources.filter(({ text }) => /from '(node:child_process|execa)'|import\('execa'\)/.test(text));
    assert.deepEqual(starting.map(({ name }) => name).sort(), [
      'machine/command.ts',
      'machine/journal.ts',
      'machine/linux-host.ts',
    ]);
    for (const { name, text } of sources) {
      assert.doesNotMatch(
        text,
        /\bshell: (?:true|['"`])|\bexecSync\b|\bexecaCommand\b|\bfork\(|child_process'\)/,
        name,
      );
      assert.doesNotMatch(text, /\b(run|launch|execa|spawn)\(\s*\[?\s*'(\/\S*\/)?(ba|da|z)?sh'/, name);
    }
  });

  it('calls no eval', () => {
    for (const { name, text } of sources) assert.doesNotMatch(text, /\beval\(|new Function\(|node:vm/, name);
  });
});

describe('a run as root', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    tools = await recordTools(lab.router);
  });
  after(() => lab?.close());
  const shell = async (script: string) => (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;

  it('gives its children a fixed PATH and locale, and nothing of its own environment', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
    const seen = 'tr "\\\\0" "\\\\n" < /proc/self/environ > /mnt/environment.${0##*/}';
    const tried = ['ip', 'iptables-nft-restore', 'iptables-nft-save', 'conntrack'] as const;
    for (const tool of tried) await tools.before(tool, seen);
    await shell(
      'mkdir -p /mnt/evil; printf "#!/bin/sh\\necho > /mnt/evil/ran\\n" > /mnt/evil/ip; chmod 755 /mnt/evil/ip',
    );
    await lab.configure(config);
    const hostile = [
      'PATH=/mnt/evil',
      'IFS=x',
      'BASH_ENV=/mnt/evil/ip',
      'ENV=/mnt/evil/ip',
      'XTABLES_LIBDIR=/mnt/evil',
      'SECRET=hush',
    ];
    const { status, stderr } = await lab.router.run(['env', '-i', ...hostile, process.execPath, PROGRAM, 'reload']);
    assert.equal(status, 0, stderr);
    for (const tool of tried) await tools.before(tool);
    const names = (await shell('cat /mnt/environment.* | sed "s/=.*//" | sort -u')).trim().split('\n');
    // PWD and the like are the wrapper's own.
    assert.deepEqual(
      names.filter((name) => !['_', 'OLDPWD', 'PWD', 'SHLVL'].includes(name)),
      ['KYLIN_VR_HOLDER', 'LC_ALL', 'PATH'],
    );
    assert.equal(await shell('cat /mnt/environment.* | grep ^PATH= | sort -u'), 'PATH=/usr/sbin:/usr/bin:/sbin:/bin\n');
    assert.equal(await lab.router.read('/mnt/evil/ran'), undefined);
    assert.doesNotMatch(await shell('cat /var/log/kylin-vr/kylin-vr.log'), /hush|KYLIN_VR_HOLDER/);
  });

  it('leaves nothing that others can write, whatever its umask', async () => {
    await lab.configure(config.replace('.50', '.51'));
    await shell(`umask 0; ${process.execPath} ${PROGRAM} reload`);
    const open = await shell(
      'find /etc/kylin-vr /etc/sysconfig /var/lib/kylin-vr /var/log/kylin-vr /run/kylin-vr ! -type l -perm /022',
    );
    assert.equal(open, '');
    // What the state holds is root's alone; profiles are for initscripts to read.
    assert.equal(await shell('find /var/lib/kylin-vr /run/kylin-vr -perm /077'), '');
  });

  it('follows no symbolic link where it writes: the link is replaced, what it leads to stays', async () => {
    await shell('echo victim > /etc/victim; chmod 600 /etc/victim');
    const places = [
      '/var/lib/kylin-vr/owned.json',
      '/var/lib/kylin-vr/last-good.yaml',
      '/etc/sysconfig/network-scripts/ifcfg-eth1',
      '/run/kylin-vr/last-run.json',
    ];
    for (const place of places) await shell(`ln -sfn /etc/victim ${place}`);
    await lab.configure(config.replace('.50', '.52'));
    const { status, stderr } = await lab.kylin('reload');
    assert.equal(status, 0, stderr);
    assert.equal(await shell('cat /etc/victim; stat -c "%a %h" /etc/victim'), 'victim\n600 1\n');
    for (const place of places) assert.equal(await shell(`stat -c %F ${place}`), 'regular file\n', place);
  });
  it('nor in the place of any file of its own in its own folders', async () => {
    const own = '/run/kylin-vr /var/lib/kylin-vr /var/log/kylin-vr /var/cache/kylin-vr';
    // Each leads to what was there, so that it reads the same; beside each is what a killed run may have left of it.
    await shell(`
      mkdir /run/victims /var/victims
      n=0
      for file in $(find ${own} -type f); do
        n=$((n+1)); case $file in /run/*) victim=/run/victims/$n ;; *) victim=/var/victims/$n ;; esac
        cp "$file" "$victim"; ln -sfn "$victim" "$file"
        cp "$victim" "$victim.new"; ln -sfn "$victim.new" "$file.new"
      done`);
    const sums = () =>
      shell('cd /; sha256sum run/victims/* var/victims/*; stat -c "%n %a %u %h %Y" run/victims/* var/victims/*');
    const untouched = await sums();
    assert.ok(untouched.split('\n').length > 30, untouched);
    for (const octet of ['53', '54']) {
      await lab.configure(config.replace('.50', `.${octet}`));
      const { status, stderr } = await lab.kylin('reload');
      assert.equal(status, 0, stderr);
      assert.match(
        stderr,
        /^kylin-vr: the log \S+ cannot be written: it is a symbolic link, which is not followed: remove it; the run goes on without it$/m,
      );
    }
    assert.equal(await sums(), untouched);
    await shell(`find ${own} -type l -delete`);
  });

  it('nor empties the folder that a link in the place of one of its own leads to', async () => {
    await shell('mkdir /run/precious; echo x > /run/precious/file');
    for (const name of ['dead', 'lock']) {
      await shell(`rm -rf /run/kylin-vr/${name}; ln -s /run/precious /run/kylin-vr/${name}`);
      const { status, stderr } = await lab.kylin('reload');
      assert.equal(status, 0, stderr);
      assert.equal(await shell('ls /run/precious'), 'file\n', name);
    }
    await shell('rm -rf /run/kylin-vr; ln -s /run/precious /run/kylin-vr');
    assert.equal((await lab.kylin('reload')).status, 0);
    assert.equal(await shell('ls /run/precious; stat -c %F /run/kylin-vr'), 'file\ndirectory\n');
  });

  it('logs only into a file and a folder that are root’s alone', async () => {
    const log = '/var/log/kylin-vr/kylin-vr.log';
    const traps: [make: string, said: string, end: string][] = [
      [`rm -f ${log}; mkfifo ${log}`, 'it is no regular file: remove it', `rm ${log}`],
      [`rm -f ${log}; mkdir ${log}`, 'it is no regular file: remove it', `rmdir ${log}`],
      [
        `rm -f ${log}; echo a secret > /var/victim; chmod 0600 /var/victim; ln /var/victim ${log}`,
        `it has 2 names (hard links): remove it`,
        `test "$(cat /var/victim)" = "a secret"; rm ${log}`,
      ],
      [
        `: > /var/victim; ln /var/victim ${log}`,
        `it has 2 names (hard links): remove it`,
        `test "$(stat -c '%a %s' /var/victim)" = "600 0"; rm ${log}`,
      ],
      [
        `: > ${log}; chown 1000 ${log}`,
        `it is not root's: remove it, or chown root ${log}`,
        `test "$(stat -c %s ${log})" = 0; rm ${log}`,
      ],
      ...['0666', '0660', '0602'].map((mode): [string, string, string] => [
        `: > ${log}; chmod ${mode} ${log}`,
        `it can be written by others than root: remove it, or chmod 0640 ${log}`,
        `test "$(stat -c %s ${log})" = 0; rm ${log}`,
      ]),
      [
        'chmod 0770 /var/log/kylin-vr',
        'others than root can write /var/log/kylin-vr: chown root /var/log/kylin-vr && chmod 0750 /var/log/kylin-vr',
        'chmod 0750 /var/log/kylin-vr',
      ],
      [
        'mv /var/log/kylin-vr /var/log/elsewhere; ln -s elsewhere /var/log/kylin-vr',
        '/var/log/kylin-vr is a symbolic link, which is not followed: remove it',
        'rm /var/log/kylin-vr; mv /var/log/elsewhere /var/log/kylin-vr',
      ],
      [
        'mv /var/log/kylin-vr /var/log/elsewhere; echo > /var/log/kylin-vr',
        "EEXIST: file already exists, mkdir '/var/log/kylin-vr'",
        'rm /var/log/kylin-vr; mv /var/log/elsewhere /var/log/kylin-vr',
      ],
    ];
    for (const [make, said, end] of traps) {
      await shell(make);
      const { status, stderr } = await lab.kylin('reload');
      assert.equal(status, 0, stderr);
      assert.ok(
        stderr.includes(`kylin-vr: the log ${log} cannot be written: ${said}; the run goes on without it\n`),
        stderr,
      );
      await shell(end);
    }
    assert.doesNotMatch((await lab.kylin('reload')).stderr, /cannot be written/);
  });
});

describe('what initscripts source', () => {
  it('means nothing to bash, whatever the values of a configuration that passes', () => {
    const evil = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom(
        '$(touch x)',
        '`touch x`',
        "'; touch x; '",
        '"; touch x; "',
        'a\ntouch x',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
        '${x:=y}',
        'a b',
        '!!',
        '\\',
        '~',
        '*',
        '#',
        'a;b',
        'a&b',
        'a|b',
        '>x',
      ),
    );
    const value = (usual: fc.Arbitrary<string | number>) =>
      fc.oneof({ weight: 15, arbitrary: usual }, { weight: 1, arbitrary: evil });
    const files = fc
      .record({
        ipaddr: value(fc.constant('203.0.113.10')),
        prefix: value(fc.constant(24)),
        mac: value(fc.constant('02:00:00:00:00:01')),
        gateway: value(fc.constant('203.0.113.1')),
        mtu: value(fc.constant(1500)),
        name: fc.oneof(evil, fc.stringMatching(/^[ -~]{1,20}$/), fc.constant('public')),
        dest: value(fc.constant('198.18.5.0/24')),
        eip: value(fc.constant('198.51.100.9')),
      })
      .map(({ dest, eip, ...nic }) =>
        stringify({
          if_list: [nic],
          eip_list: [{ eip, 'vm-ip': '192.0.2.5' }],
          route_list: [{ dest, via: '203.0.113.9' }],
        }),
      );
    const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-source-'));
    try {
      const rendered: string[] = [];
      for (const text of fc.sample(files, 600)) {
        const parsed = parseConfig(text);
        if (!parsed.ok) continue;
        const nics = parsed.config.nics.map((nic) => ({ ...nic, mac: '02:00:00:00:00:01' }));
        const links = [{ device: 'eth0', mac: '02:00:00:00:00:01', ethernet: true, up: true, mtu: 1500 }];
        for (const file of desired({ ...parsed.config, nics }, { renderer: ifcfgRenderer, links }).files)
          if (/ifcfg-/.test(file.path)) rendered.push(file.content);
      }
      assert.ok(rendered.length > 50, `${rendered.length} files`);
      rendered.forEach((content, number) => {
        writeFileSync(join(folder, `${number}`), content);
      });
      // No PATH and no function: all that a file can do but assign is to fail, or to leave something in the folder.
      const script = 'set -eu; for file in [0-9]*; do . "./$file"; done';
      const { status, stderr } = spawnSync('/bin/bash', ['--norc', '-c', script], {
        cwd: folder,
        env: { PATH: '' },
        encoding: 'utf8',
      });
      assert.deepEqual([status, stderr], [0, '']);
      assert.deepEqual(
        readdirSync(folder).filter((name) => !/^\d+$/.test(name)),
        [],
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
