import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import type { Host } from '../../src/machine/host.ts';
import { payload } from '../../src/machine/payload.ts';
import { kylinVr, PROGRAM, unprivileged } from '../cli/program.ts';
import { FIRST_LINE, type Files, imageOf, listing, PROGRAM_TEXT, program, put, run, snapshot, times } from './image.ts';

/** What a guest has that can run us. */
const TOOLS: Files = Object.fromEntries(
  ['ip', 'iptables-save', 'iptables-restore', 'conntrack', 'arping', 'node'].map((name) => [
    `/usr/bin/${name}`,
    { content: '', mode: 0o755 },
  ]),
);
const BLOCKED =
  '# a comment\nBLACKLIST_RPC=guest-file-open,guest-file-close,guest-file-read,guest-file-write,guest-file-seek,guest-file-flush,guest-exec,guest-exec-status\nFSFREEZE_HOOK_PATHNAME=/etc/qemu-ga/fsfreeze-hook\n';
const EL8: Files = { ...TOOLS, '/etc/sysconfig/qemu-ga': BLOCKED, '/etc/systemd/system/x.service': '[Unit]\n' };
const OLD_CONFIG = '# edited by hand\nif_list: []\n';
const WITH_01: Files = {
  ...EL8,
  '/etc/kylin-vr/kylin-vr.yaml': { content: OLD_CONFIG, mode: 0o600 },
  '/etc/udev/rules.d/80-kylin-vr.rules': 'SUBSYSTEM=="net", ACTION=="add", RUN+="/usr/bin/kylin-vr.py -c reload"\n',
  '/etc/sysctl.d/kylin-vr.conf': 'net.ipv6.conf.all.disable_ipv6 = 1\n',
  '/etc/systemd/system/kylin-vr.service': '[Service]\nExecStart=/usr/bin/kylin-vr.py -c init\n',
  '/usr/lib/systemd/system/kylin-vr.service': '[Service]\nExecStart=/usr/bin/kylin-vr.py -c init\n',
  '/usr/bin/kylin-vr.py': { content: '#!/usr/bin/python2\n# -*- coding: latin-1 -*-\n# \xe9\n', mode: 0o755 },
};
const ROOTS: [string, Files][] = [
  ['an empty image', {}],
  ['an image with the tools', TOOLS],
  ['a guest of EL 8', EL8],
  ['a guest with 0.1', WITH_01],
];

const text = (root: string, path: string) => readFileSync(join(root, path), 'utf8');

describe('install --root', () => {
  it('puts everything in its place, with its mode, and enables it', async (t) => {
    const root = imageOf(t, TOOLS);
    const { status, stderr } = await run(['install', '--root', root], { program });
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    assert.deepEqual(
      listing(root).filter((line) => !line.startsWith('d') && !Object.keys(TOOLS).some((path) => line.endsWith(path))),
      [
        '-0600 /etc/kylin-vr/kylin-vr.yaml',
        '-0644 /etc/logrotate.d/kylin-vr',
        'link /etc/systemd/system/ferm.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/firewalld.service.wants/kylin-vr-firewalld.service → /usr/lib/systemd/system/kylin-vr-firewalld.service',
        'link /etc/systemd/system/firewalld.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/iptables.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/multi-user.target.wants/kylin-vr.service → /usr/lib/systemd/system/kylin-vr.service',
        'link /etc/systemd/system/netfilter-persistent.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/network.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/networking.service.wants/kylin-vr-mark.service → /usr/lib/systemd/system/kylin-vr-mark.service',
        'link /etc/systemd/system/nftables.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/ovs-vswitchd.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/shorewall.service.wants/kylin-vr-mark.service → /usr/lib/systemd/system/kylin-vr-mark.service',
        'link /etc/systemd/system/systemd-networkd.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/systemd-sysctl.service.wants/kylin-vr-mark.service → /usr/lib/systemd/system/kylin-vr-mark.service',
        'link /etc/systemd/system/tuned.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        'link /etc/systemd/system/ufw.service.wants/kylin-vr-reload.service → /usr/lib/systemd/system/kylin-vr-reload.service',
        '-0755 /usr/bin/kylin-vr',
        '-0755 /usr/bin/kylin-vr.py',
        '-0644 /usr/lib/NetworkManager/conf.d/90-kylin-vr.conf',
        '-0644 /usr/lib/systemd/system/kylin-vr-firewalld.service',
        '-0644 /usr/lib/systemd/system/kylin-vr-mark.service',
        '-0644 /usr/lib/systemd/system/kylin-vr-reload.path',
        '-0644 /usr/lib/systemd/system/kylin-vr-reload.service',
        '-0644 /usr/lib/systemd/system/kylin-vr-reload.timer',
        '-0644 /usr/lib/systemd/system/kylin-vr.service',
        '-0644 /usr/lib/tmpfiles.d/kylin-vr.conf',
        '-0644 /usr/lib/udev/rules.d/90-kylin-vr.rules',
        '-0755 /usr/local/bin/kylin-vr.py',
        '-0600 /var/lib/kylin-vr/installed.json',
      ],
    );
    assert.deepEqual(
      listing(root).filter((line) => line.startsWith('d') && !line.startsWith('d0755')),
      ['d0700 /etc/kylin-vr', 'd0700 /var/lib/kylin-vr'],
    );
    assert.equal(text(root, '/usr/bin/kylin-vr'), PROGRAM_TEXT);
    assert.equal(text(root, '/usr/lib/udev/rules.d/90-kylin-vr.rules'), payload['udev/90-kylin-vr.rules']);
  });

  it('of a package: what it puts into an image runs with the Node that is there; an image with the package has its own', async (t) => {
    const packed = { content: '#!/usr/bin/env -S -i TERM=x /usr/lib/kylin-vr/node\nthe program\n', mode: 0o755 };
    const root = imageOf(t, TOOLS);
    await run(['install', '--root', root], { program: () => packed.content });
    assert.equal(text(root, '/usr/bin/kylin-vr'), PROGRAM_TEXT);

    const { '/usr/bin/node': _, ...withoutNode } = TOOLS;
    for (const [files, said] of [
      [{ '/usr/bin/kylin-vr': packed }, /node is not in/],
      [{ '/usr/bin/kylin-vr': packed, '/usr/lib/kylin-vr/node': '' }, /^$/],
    ] as const) {
      const image = imageOf(t, { ...withoutNode, ...files });
      const { status, stderr } = await run(['install', '--root', image], { program });
      assert.equal(status, 0);
      assert.match(stderr, said);
    }
  });

  it('says each thing that it did on a line', async (t) => {
    const root = imageOf(t, WITH_01);
    const { stdout } = await run(['install', '--root', root], { program });
    const lines = stdout.split('\n');
    for (const line of [
      '+ folder /var/lib/kylin-vr',
      '~ file /usr/lib/systemd/system/kylin-vr.service',
      '+ file /usr/lib/systemd/system/kylin-vr-reload.path',
      '- file /etc/udev/rules.d/80-kylin-vr.rules (of 0.1)',
      '- file /etc/systemd/system/kylin-vr.service (of 0.1)',
      '~ file /etc/sysconfig/qemu-ga (opened for the host: guest-file-open, guest-file-close, guest-file-read, guest-file-write, guest-file-seek, guest-file-flush, guest-exec, guest-exec-status)',
    ])
      assert.ok(lines.includes(line), `${line}\nis not in\n${stdout}`);
    assert.match(
      stdout,
      /^install: changed, \d+ steps in \d+ ms\n(?:note: old clients, .*\n)?kylin-vr takes effect when the image boots$/m,
    );
  });

  it('--json prints one object', async (t) => {
    const root = imageOf(t, TOOLS);
    const { status, stdout, stderr } = await run(['install', '--root', root, '--json'], { program });
    const { steps, durationMs, ...rest } = JSON.parse(stdout) as {
      steps: { kind: string; text: string }[];
      durationMs: number;
    };
    assert.deepEqual(
      { status, stderr, rest },
      { status: 0, stderr: '', rest: { result: 'changed', warnings: [], errors: [] } },
    );
    assert.ok(durationMs >= 0);
    assert.deepEqual(
      steps.find(({ text }) => text.includes('90-kylin-vr.rules')),
      { kind: 'write-file', text: '+ file /usr/lib/udev/rules.d/90-kylin-vr.rules' },
    );
    assert.deepEqual([...new Set(steps.map(({ kind }) => kind))].sort(), ['make-folder', 'make-link', 'write-file']);
  });

  it('makes the links that systemctl enable makes', async (t) => {
    const ours = imageOf(t, TOOLS);
    await run(['install', '--root', ours], { program });
    const theirs = imageOf(t);
    for (const name of [
      'kylin-vr.service',
      'kylin-vr-reload.service',
      'kylin-vr-reload.path',
      'kylin-vr-reload.timer',
      'kylin-vr-firewalld.service',
      'kylin-vr-mark.service',
    ] as const)
      put(theirs, `/usr/lib/systemd/system/${name}`, payload[`systemd/${name}`]);
    const { status, stderr } = spawnSync('systemctl', ['--root', theirs, 'enable', 'kylin-vr.service'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    const links = (root: string) =>
      listing(root)
        .filter((line) => line.startsWith('link'))
        .map((line) => line.replace('→ /lib/', '→ /usr/lib/'));
    assert.deepEqual(links(ours), links(theirs));
  });

  for (const [name, files] of ROOTS) {
    it(`twice is once: ${name}`, async (t) => {
      const root = imageOf(t, files);
      await run(['install', '--root', root], { program });
      const [before, touched] = [snapshot(root), times(root)];
      const { status, stdout } = await run(['install', '--root', root], { program });
      assert.equal(status, 0);
      assert.match(stdout, /^install: unchanged, 0 steps in \d+ ms\n$/);
      assert.deepEqual([snapshot(root), times(root)], [before, touched]);
    });

    it(`uninstall leaves it as it was, byte for byte: ${name}`, async (t) => {
      const root = imageOf(t, files);
      const before = snapshot(root);
      await run(['install', '--root', root], { program });
      assert.notDeepEqual(snapshot(root), before);
      const { status, stdout, stderr } = await run(['uninstall', '--root', root]);
      assert.deepEqual([status, stderr], [0, '']);
      assert.match(stdout, /^uninstall: changed, \d+ steps in \d+ ms$/m);
      assert.deepEqual(snapshot(root), before);
      assert.match((await run(['uninstall', '--root', root])).stdout, /^uninstall: unchanged, 0 steps in \d+ ms\n$/);
    });

    it(`killed after any change, it can be finished or taken back: ${name}`, async (t) => {
      const whole = imageOf(t, files);
      await run(['install', '--root', whole], { program });
      for (let changes = 0; ; changes += 3) {
        const root = imageOf(t, files);
        const before = snapshot(root);
        const killed = await run(['install', '--root', root], { program, host: dyingAfter(changes) }).then(
          () => false,
          () => true,
        );
        if (!killed) break;
        const again = imageOf(t);
        rmSync(again, { recursive: true });
        spawnSync('cp', ['-a', root, again]);
        await run(['install', '--root', again], { program });
        assert.deepEqual(snapshot(again).filter(notTheRecord), snapshot(whole).filter(notTheRecord));
        for (const place of [root, again]) {
          await run(['uninstall', '--root', place]);
          // Its own folder is made before there is a record.
          assert.deepEqual(snapshot(place).filter(notItsFolder(before)), before, `killed after ${changes} changes`);
        }
      }
    });
  }
});

const notTheRecord = (line: string) => !line.includes('/installed.json');
const notItsFolder = (before: readonly string[]) => (line: string) =>
  before.includes(line) || !/^d\d+ \/var(\/lib(\/kylin-vr)?)? $/.test(line);

/** A machine that loses power after so many changes. */
function dyingAfter(changes: number): (host: Host) => Host {
  let left = changes;
  const counted =
    <A extends unknown[], R>(change: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> => {
      if (left-- <= 0) throw new Error('power cut');
      return change(...args);
    };
  return (host) => ({
    ...host,
    inside: async (root) => {
      const files = await host.inside(root);
      return {
        ...files,
        write: counted(files.write),
        link: counted(files.link),
        remove: counted(files.remove),
        makeFolder: counted(files.makeFolder),
      };
    },
  });
}

function fifo(place: string): void {
  assert.equal(spawnSync('mkfifo', [place]).status, 0);
}

function truncated(place: string, size: number): void {
  writeFileSync(place, '');
  truncateSync(place, size);
}

describe('links in an image', () => {
  it('lead where they lead on the guest, absolute ones and those that climb too', async (t) => {
    const root = imageOf(t, TOOLS);
    for (const folder of ['/data/lib', '/data/local', '/etc']) mkdirSync(join(root, folder), { recursive: true });
    symlinkSync('/data/lib', join(root, '/usr/lib'));
    symlinkSync('../../../../data/local', join(root, '/usr/local'));
    symlinkSync('usr/bin', join(root, '/bin'));
    const before = snapshot(root);
    const { status, stderr } = await run(['install', '--root', root], { program });
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    assert.equal(text(root, '/data/lib/udev/rules.d/90-kylin-vr.rules'), payload['udev/90-kylin-vr.rules']);
    assert.equal(text(root, '/data/local/bin/kylin-vr.py'), payload['packaging/kylin-vr.py']);
    assert.match((await run(['install', '--root', root], { program })).stdout, /^install: unchanged, /);
    await run(['uninstall', '--root', root]);
    assert.deepEqual(snapshot(root), before);
  });
});

describe('what is the operator’s', () => {
  it('his configuration is kept by install and uninstall', async (t) => {
    const root = imageOf(t, WITH_01);
    await run(['install', '--root', root], { program });
    assert.equal(text(root, '/etc/kylin-vr/kylin-vr.yaml'), OLD_CONFIG);
    put(root, '/etc/kylin-vr/kylin-vr.yaml', { content: 'if_list: []\n# later\n', mode: 0o600 });
    await run(['uninstall', '--root', root]);
    assert.equal(text(root, '/etc/kylin-vr/kylin-vr.yaml'), 'if_list: []\n# later\n');
  });

  it('so is one that he wrote in place of the template', async (t) => {
    const root = imageOf(t, TOOLS);
    await run(['install', '--root', root], { program });
    put(root, '/etc/kylin-vr/kylin-vr.yaml', { content: OLD_CONFIG, mode: 0o600 });
    const { stderr } = await run(['uninstall', '--root', root]);
    assert.equal(stderr, '');
    assert.equal(text(root, '/etc/kylin-vr/kylin-vr.yaml'), OLD_CONFIG);
  });

  it('a configuration that was lost is not replaced by the template, which would take the network down', async (t) => {
    const root = imageOf(t, { ...TOOLS, '/var/lib/kylin-vr/last-good.yaml': OLD_CONFIG });
    await run(['install', '--root', root], { program });
    assert.equal(existsSync(join(root, '/etc/kylin-vr/kylin-vr.yaml')), false);
  });

  it('an edit of qemu-ga’s settings stays, and the calls are closed all the same', async (t) => {
    const root = imageOf(t, EL8);
    await run(['install', '--root', root], { program });
    put(root, '/etc/sysconfig/qemu-ga', `${text(root, '/etc/sysconfig/qemu-ga')}NEW=1\n`);
    await run(['uninstall', '--root', root]);
    assert.equal(text(root, '/etc/sysconfig/qemu-ga'), `${BLOCKED}NEW=1\n`);
  });

  it('a file of ours that was changed since is left, and said', async (t) => {
    const root = imageOf(t, TOOLS);
    await run(['install', '--root', root], { program });
    put(root, '/etc/logrotate.d/kylin-vr', 'daily\n');
    const { status, stderr } = await run(['uninstall', '--root', root]);
    assert.equal(status, 0);
    assert.equal(
      stderr,
      'warning: /etc/logrotate.d/kylin-vr was changed since it was installed: left as it is, remove it if nobody needs it\n',
    );
    assert.equal(text(root, '/etc/logrotate.d/kylin-vr'), 'daily\n');
  });

  it('a program of a package is left where it is', async (t) => {
    const root = imageOf(t, { ...TOOLS, '/usr/bin/kylin-vr': { content: 'of the package', mode: 0o755 } });
    await run(['install', '--root', root], { program });
    await run(['uninstall', '--root', root]);
    assert.equal(text(root, '/usr/bin/kylin-vr'), 'of the package');
  });

  it('files of a package are left, and uninstall says so; what enables them goes', async (t) => {
    const root = imageOf(t, TOOLS);
    await run(['install', '--root', root], { program });
    rmSync(join(root, '/var/lib/kylin-vr/installed.json'));
    const { stdout, stderr } = await run(['uninstall', '--root', root]);
    assert.match(stdout, /^- link \/etc\/systemd\/system\/multi-user\.target\.wants\/kylin-vr\.service /m);
    assert.match(
      stderr,
      /^warning: there is no record of kylin-vr install: \/usr\/lib\/systemd\/system\/kylin-vr\.service, .* stay, remove the package\n$/,
    );
    assert.ok(existsSync(join(root, '/usr/lib/systemd/system/kylin-vr.service')));
  });

  it('a unit that he masked, or wrote himself, stays, and is said', async (t) => {
    const masked = imageOf(t, EL8);
    symlinkSync('/dev/null', join(masked, '/etc/systemd/system/kylin-vr.service'));
    assert.equal(
      (await run(['install', '--root', masked], { program })).stderr,
      'warning: /etc/systemd/system/kylin-vr.service masks the unit, and nothing starts: remove that link\n',
    );
    const own = imageOf(t, {
      ...TOOLS,
      '/etc/systemd/system/kylin-vr.service': '[Service]\nExecStart=/usr/bin/kylin-vr start\n',
    });
    assert.equal(
      (await run(['install', '--root', own], { program })).stderr,
      'warning: /etc/systemd/system/kylin-vr.service stands in for ours, which has no effect: take it away, or mend it by what is below /usr/lib\n',
    );
  });
});

describe('what install says', () => {
  const warnings = async (root: string, ...args: string[]) =>
    (
      JSON.parse((await run(['install', '--root', root, '--json', ...args], { program: () => '' })).stdout) as {
        warnings: { message: string }[];
      }
    ).warnings.map(({ message }) => message);

  it('names the tools that an image lacks', async (t) => {
    const { '/usr/bin/conntrack': _, '/usr/bin/node': __, ...rest } = TOOLS;
    assert.deepEqual(await warnings(imageOf(t, rest)), [
      'conntrack is missing in the image: install conntrack (conntrack-tools on RPM systems)',
      'in the image node is not in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin, where units look for it: install Node 20, or link it there',
    ]);
  });

  it('says that the sources are no program', async (t) => {
    const { stderr } = await run(['install', '--root', imageOf(t, TOOLS)]);
    assert.match(stderr, /^warning: \S+ is missing: this runs from the sources, npm run build first$/m);
  });

  it('says what SELinux needs where there is a guest agent, and changes nothing of it', async (t) => {
    const selinux = { '/etc/selinux/config': '# SELINUX= can be\nSELINUX=enforcing\n' };
    const agent = { '/usr/bin/qemu-ga': { content: '', mode: 0o755 } };
    const root = imageOf(t, { ...TOOLS, ...selinux, ...agent });
    const [message = '', ...others] = await warnings(root);
    assert.deepEqual(others, []);
    const said = [
      'SELinux confines the guest agent (virt_qemu_ga_t). For the host to write the configuration and run kylin-vr through it:\n',
      "  semanage fcontext -a -t virt_qemu_ga_data_t '/etc/kylin-vr(/.*)?' && restorecon -R /etc/kylin-vr\n",
      '  semanage fcontext -a -t virt_qemu_ga_unconfined_exec_t /usr/bin/kylin-vr && restorecon /usr/bin/kylin-vr\n',
      '  setsebool -P virt_rw_qemu_ga_data on\n',
      '  setsebool -P virt_qemu_ga_run_unconfined on    # where the policy has it: EL 9',
    ];
    assert.equal(message, said.join(''));
    assert.equal(text(root, '/etc/selinux/config'), selinux['/etc/selinux/config']);
    assert.deepEqual(await warnings(imageOf(t, { ...TOOLS, ...selinux })), []);
    assert.deepEqual(
      await warnings(imageOf(t, { ...TOOLS, ...agent, '/etc/selinux/config': 'SELINUX=disabled\n' })),
      [],
    );
  });

  it('with firewalld: how to admit what we forward; with --firewalld it does', async (t) => {
    const firewalld: Files = { ...TOOLS, '/usr/sbin/firewalld': '', '/usr/lib/firewalld/policies/x.xml': '' };
    const root = imageOf(t, firewalld);
    const before = snapshot(root);
    assert.match(
      (await warnings(root)).join(),
      /^firewalld is here, and where it runs nothing is forwarded without a policy: kylin-vr install --firewalld makes one \(\/etc\/firewalld\/policies\/kylin-vr\.xml\)$/,
    );
    assert.deepEqual(await warnings(root, '--firewalld'), []);
    assert.equal(text(root, '/etc/firewalld/policies/kylin-vr.xml'), payload['packaging/firewalld-policy.xml']);
    assert.deepEqual(await warnings(root), []);
    await run(['uninstall', '--root', root]);
    assert.deepEqual(snapshot(root), before);
    assert.deepEqual(await warnings(imageOf(t, TOOLS), '--firewalld'), [
      'firewalld is not here: install it first, or leave --firewalld out',
    ]);
    const old = imageOf(t, { ...TOOLS, '/usr/sbin/firewalld': '' });
    assert.match(
      (await warnings(old, '--firewalld')).join(),
      /^firewalld before 0\.9 has no policies: what this router forwards passes only between NICs of a zone that accepts it: firewall-cmd --permanent --zone=trusted --add-interface=NIC for each, then firewall-cmd --reload$/,
    );
  });
});

it('install closes /etc/kylin-vr, which 0.1 made open to others, and says so once', async (t) => {
  const root = imageOf(t, WITH_01);
  await run(['install', '--root', root], { program });
  chmodSync(join(root, '/etc/kylin-vr'), 0o755);
  const mended = await run(['install', '--root', root], { program });
  assert.match(
    mended.stdout,
    /^~ folder \/etc\/kylin-vr: mode 0755 → 0700\ninstall: changed, 1 step in \d+ ms\n(note: .*\n)?kylin-vr takes effect/,
  );
  assert.equal(statSync(join(root, '/etc/kylin-vr')).mode & 0o777, 0o700);
  assert.match((await run(['install', '--root', root], { program })).stdout, /^install: unchanged/);
});

describe('install and uninstall refuse', () => {
  const refused: [string, string[], RegExp][] = [
    [
      'a root that is no folder',
      ['install', '--root', '/nowhere'],
      /--root must be the folder of an image, is \/nowhere/,
    ],
    [
      'to start what is in an image',
      ['install', '--now', '--root', '/tmp'],
      /--now is for the running system: an image has none\n$/,
    ],
    [
      'to flush the network of an image',
      ['uninstall', '--flush', '--root', '/tmp'],
      /--flush is for the running network: an image has none\n$/,
    ],
  ];
  for (const [name, args, message] of refused)
    it(name, async () => {
      const { status, stderr } = await run(args);
      assert.equal(status, 64);
      assert.match(stderr, message);
    });

  it('an image in which something else is where ours belong, and change nothing in it', async (t) => {
    const traps: [path: string, (place: string) => void, said: string][] = [
      [
        '/usr/lib/udev',
        (place) => symlinkSync('/nowhere', place),
        '/usr/lib/udev is a link to /nowhere, which leads to no folder there: it must be a folder',
      ],
      ['/usr/lib/udev', (place) => writeFileSync(place, ''), '/usr/lib/udev is a file: it must be a folder'],
      ['/usr/bin/kylin-vr.py', (place) => mkdirSync(place), '/usr/bin/kylin-vr.py is a folder: take it away'],
      ['/usr/bin/kylin-vr.py', fifo, '/usr/bin/kylin-vr.py is neither a file, a link nor a folder: take it away'],
      [
        '/usr/bin/kylin-vr.py',
        (place) => truncated(place, 2 ** 40),
        '/usr/bin/kylin-vr.py is larger than 4 MiB: take it away',
      ],
    ];
    for (const [path, trap, said] of traps) {
      const root = imageOf(t, TOOLS);
      mkdirSync(join(root, '/usr/lib'));
      trap(join(root, path));
      const before = listing(root);
      const { status, stdout, stderr } = await run(['install', '--root', root], { program });
      assert.deepEqual(
        { status, stdout, stderr },
        { status: 69, stdout: '', stderr: `nothing was installed in ${root}: ${said}\n` },
      );
      assert.deepEqual(listing(root), before);
    }
  });

  it('to read in an image what is no file of ours, or without end', async (t) => {
    const record = '/var/lib/kylin-vr/installed.json';
    const traps: [path: string, (place: string) => void, said: string][] = [
      [
        record,
        (place) => writeFileSync(place, '{'),
        `${record} is no record of an installation (it is not JSON): remove it`,
      ],
      [
        record,
        (place) => writeFileSync(place, '{"changes":[{"path":"/etc/cron.d/x"}]}'),
        `${record} is no record of an installation (it says what no version of kylin-vr writes): remove it`,
      ],
      [
        record,
        (place) => truncated(place, 2 ** 20 + 1),
        `${record} is no record of an installation (it is larger than 1 MiB): remove it`,
      ],
      [
        record,
        fifo,
        `${record} is no record of an installation (it is neither a file, a link nor a folder): remove it`,
      ],
      [
        record,
        (place) => symlinkSync('/etc/passwd', place),
        `${record} is no record of an installation (it is a link): remove it`,
      ],
      ['/etc/selinux/config', fifo, '/etc/selinux/config is no regular file: take it away'],
      [
        '/usr/bin/kylin-vr',
        (place) => truncated(place, 2 ** 40),
        '/usr/bin/kylin-vr is larger than 4 MiB: take it away',
      ],
      [
        '/usr/sbin',
        (place) => symlinkSync('/usr/sbin', place),
        '/usr/sbin/ip leads in a circle, or through more than 200 folders',
      ],
    ];
    for (const [path, trap, said] of traps) {
      const root = imageOf(t, { ...TOOLS, '/usr/bin/qemu-ga': '' });
      mkdirSync(dirname(join(root, path)), { recursive: true });
      trap(join(root, path));
      const before = listing(root);
      const { status, stderr } = await run(['install', '--root', root], { program });
      assert.deepEqual({ status, stderr }, { status: 69, stderr: `${root}${said}\n` });
      assert.deepEqual(listing(root), before);
    }
  });

  it('to replace what is too large for the record of it', async (t) => {
    const root = imageOf(t, { ...TOOLS, '/usr/bin/kylin-vr.py': 'x'.repeat(2 ** 20) });
    const { status, stderr } = await run(['install', '--root', root], { program });
    assert.deepEqual(
      { status, stderr },
      {
        status: 69,
        stderr: `${root}/var/lib/kylin-vr/installed.json would be larger than 1 MiB with what is there: nothing was installed\n`,
      },
    );
    assert.equal(existsSync(join(root, '/usr/bin/kylin-vr')), false);
  });

  it('an image that is this machine by another name', () => {
    const script = 'mount --bind / /mnt; exec "$@"';
    const args = [
      '--mount',
      'sh',
      '-ec',
      script,
      'sh',
      process.execPath,
      resolve(PROGRAM),
      'install',
      '--root',
      '/mnt',
    ];
    const { status, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
    assert.deepEqual(
      { status, stderr },
      { status: 64, stderr: 'kylin-vr: --root must be the folder of an image, is /mnt: that is this machine\n' },
    );
  });

  it('whoever is not root', () => {
    for (const command of ['install', 'uninstall'])
      assert.deepEqual(unprivileged(command), {
        status: 77,
        stdout: '',
        stderr: `kylin-vr: kylin-vr ${command} needs root: run it as root or with sudo\n`,
      });
  });
});

function asInstalled(built: Buffer): Buffer {
  return Buffer.concat([Buffer.from(FIRST_LINE), built.subarray(built.indexOf('\n'))]);
}

/** Whoever starts a program may set it in the environment, and root's Node would run it: sudo -E, a session that su keeps. */
function hostileNode(folder: string): NodeJS.ProcessEnv {
  const evil = join(folder, 'evil.cjs');
  writeFileSync(evil, `require('node:fs').writeFileSync(${JSON.stringify(join(folder, 'ran'))}, '')`);
  return {
    PATH: process.env.PATH,
    NODE_OPTIONS: `--require=${evil}`,
    NODE_PATH: folder,
    NODE_V8_COVERAGE: join(folder, 'coverage'),
    NODE_REDIRECT_WARNINGS: join(folder, 'warnings'),
    NODE_EXTRA_CA_CERTS: evil,
    NODE_DEBUG: 'module,fs',
    OPENSSL_CONF: evil,
    TERM: '$(touch x) "',
    NO_COLOR: '1 2',
  };
}

describe('the built program', () => {
  it('once installed, starts Node with none of the variables that Node heeds; run by hand, they are Node’s to heed', (t) => {
    assert.ok(FIRST_LINE.length <= 127, 'Linux before 5.1 reads no more');
    const root = imageOf(t, TOOLS);
    const folder = imageOf(t);
    kylinVr('install', '--root', root);
    const options = { env: hostileNode(folder), encoding: 'utf8' } as const;
    const { status, stdout, stderr } = spawnSync(join(root, '/usr/bin/kylin-vr'), ['--version'], options);
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '1.0.0\n', stderr: '' });
    assert.deepEqual(listing(folder), ['-0644 /evil.cjs']);
    const { NODE_OPTIONS } = options.env;
    spawnSync(process.execPath, [PROGRAM, '--version'], { env: { NODE_OPTIONS } });
    assert.ok(listing(folder).includes('-0644 /ran'));
  });

  it('installs itself, and everything from within itself', (t) => {
    const root = imageOf(t, TOOLS);
    const elsewhere = imageOf(t);
    const copy = join(elsewhere, 'kylin-vr');
    put(elsewhere, '/kylin-vr', { content: readFileSync(PROGRAM, 'latin1'), mode: 0o755 });
    chmodSync(copy, 0o755);
    const { status, stderr } = spawnSync(copy, ['install', '--root', root], { encoding: 'utf8' });
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    assert.ok(readFileSync(join(root, '/usr/bin/kylin-vr')).equals(asInstalled(readFileSync(PROGRAM))));
    for (const name of [
      'kylin-vr.service',
      'kylin-vr-reload.service',
      'kylin-vr-reload.path',
      'kylin-vr-firewalld.service',
      'kylin-vr-mark.service',
    ])
      assert.equal(
        text(root, `/usr/lib/systemd/system/${name}`),
        readFileSync(resolve(import.meta.dirname, '../../systemd', name), 'utf8'),
      );
    assert.match(kylinVr('uninstall', '--root', root).stdout, /^uninstall: changed/m);
    assert.deepEqual(snapshot(root), snapshot(imageOf(t, TOOLS)));
  });

  it('as the packages have it, in two files, installs the one file', (t) => {
    const packaged = join(dirname(PROGRAM), 'packaged');
    const root = imageOf(t, TOOLS);
    const { status, stderr } = spawnSync(join(packaged, 'kylin-vr.js'), ['install', '--root', root], {
      encoding: 'utf8',
    });
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    assert.ok(readFileSync(join(root, '/usr/bin/kylin-vr')).equals(asInstalled(readFileSync(PROGRAM))));
  });
});
