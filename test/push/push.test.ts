// `push` through the real guest agent: qemu-ga in the router's namespace, the hypervisor host outside of it. Through libvirt it is
// in test/system/push.test.ts: libvirt lets nobody talk to the agent of a machine that has not booted.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAbandoned } from '../../src/push/leftover.ts';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import type { RunResult } from '../lab/namespace.ts';
import { networkOf } from '../lab/state.ts';

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const GUEST_BIN = '/run/guest-bin';

const nics = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
`;
const one = `${nics}eip_list:\n  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }\n`;
const two = `${one}  - { eip: 203.0.113.51, vm-ip: 10.10.1.12 }\n`;

describe('push', { concurrency: false }, () => {
  let lab: Lab;
  let folder: string;
  let agent: ChildProcess;
  const socket = () => join(folder, 'agent');

  before(async () => {
    lab = await createLab();
    folder = await mkdtemp(join(tmpdir(), 'kylin-vr-push-'));
    await guestProgram('');
    agent = await startAgent(lab, socket());
  });
  after(async () => {
    await lab?.close();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  /** `first`: shell code that the guest's kylin-vr runs before it is itself. */
  const guestProgram = (first: string) =>
    lab.router.write(
      `${GUEST_BIN}/kylin-vr`,
      `#!/bin/sh\n${first}\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`,
      0o755,
    );

  async function push(yaml: string, ...args: string[]): Promise<RunResult> {
    const file = join(folder, 'new.yaml');
    await writeFile(file, yaml);
    const to = args.includes('--socket') ? [] : ['--socket', socket()];
    return lab.host('out').run([process.execPath, PROGRAM, 'push', ...to, ...args, file]);
  }

  const inGuest = (path: string) => lab.router.read(path);
  const leftovers = async () => (await lab.router.run(['ls', '-A', '/etc/kylin-vr'])).stdout.trim().split('\n');

  it('puts the file there, reloads, and shows what the guest did', async () => {
    await lab.configure(nics);
    assert.equal((await lab.kylin('reload')).status, 0);
    const { status, stdout, stderr } = await push(one);
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^\+ address 203\.0\.113\.50\/32 on eth0$/m);
    assert.match(stdout, /agent: changed, \d+ steps in \d+ ms\n$/);
    assert.equal(await inGuest(CONFIG), one);
    assert.equal((await lab.router.run(['stat', '-c', '%a %u', CONFIG])).stdout, '600 0\n');
    assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
    const status2 = JSON.parse((await lab.kylin('status', '--json')).stdout) as {
      inSync: boolean;
      lastRun: { trigger: string };
    };
    assert.deepEqual([status2.inSync, status2.lastRun.trigger], [true, 'agent']);
  });

  it('of the same file changes nothing', async () => {
    const { status, stdout } = await push(one);
    assert.deepEqual([status, /unchanged, 0 steps/.test(stdout)], [0, true]);
  });

  it('--dry-run shows the plan of the guest and leaves it alone', async () => {
    const before = await networkOf(lab.router);
    const { status, stdout } = await push(two, '--dry-run');
    assert.equal(status, 0);
    assert.match(stdout, /^\+ address 203\.0\.113\.51\/32 on eth0$/m);
    assert.match(stdout, /would be changed/);
    assert.equal(await inGuest(CONFIG), one);
    assert.equal(await networkOf(lab.router), before);
    assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
  });

  it('--json gives the report of each guest', async () => {
    const { status, stdout } = await push(two, '--json');
    const { guests } = JSON.parse(stdout) as {
      guests: { name: string; exitStatus: number; report: { result: string; steps: { kind: string }[] } }[];
    };
    assert.equal(status, 0);
    assert.deepEqual(
      guests.map(({ name, exitStatus, report }) => [name, exitStatus, report.result]),
      [[socket(), 0, 'changed']],
    );
    assert.ok(guests[0]?.report.steps.some(({ kind }) => kind === 'add-address'));
  });

  it('of a file of several pieces arrives whole', async () => {
    const many = `${one}${Array.from(
      { length: 4000 },
      (_, n) => `  - { eip: 198.18.${n >> 8}.${n & 255}, vm-ip: 10.10.1.${(n % 200) + 2} }\n`,
    ).join('')}`;
    assert.ok(many.length > 3 * 48 * 1024);
    const { status } = await push(many, '--dry-run');
    assert.equal(status, 0);
    assert.equal((await push(one)).status, 0);
  });

  it('of an invalid file ends 65 with the place, before any guest is asked', async () => {
    const { status, stdout, stderr } = await push(one.replace('prefix: 24', 'prefix: 33'), '--socket', '/nowhere');
    assert.deepEqual([status, stdout], [65, '']);
    assert.match(stderr, /new\.yaml:2:\d+: if_list\[0\]\.prefix: must be a whole number from 1 to 32, is 33/);
  });

  it('of a file that the kylin-vr in the guest refuses leaves the guest alone', async () => {
    await guestProgram(
      `[ "$1" = check ] && { echo '{"valid":false,"errors":[{"message":"of the guest"}]}'; exit 65; }`,
    );
    const { status, stdout, stderr } = await push(two);
    await guestProgram('');
    assert.equal(status, 65);
    assert.match(stderr, /agent: error: of the guest/);
    assert.match(stdout, /agent: failed/);
    assert.equal(await inGuest(CONFIG), one);
    assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
  });

  it('names files as they are known here: what was pushed, and its place in the guest', async (t) => {
    t.after(() => guestProgram(''));
    const placed = '"line":2,"column":5,"endColumn":6,"path":"if_list[0]","message":"of the guest"';
    for (const file of ['', '"file":"\'"$4"\'",']) {
      await guestProgram(
        `[ "$1" = check ] && { echo '{"valid":false,"errors":[{${file}${placed}},{"message":"'"$4"': is a folder"}]}'; exit 65; }`,
      );
      const { stderr } = await push(two);
      assert.match(stderr, /^\S+agent: error: \S+new\.yaml:2:5: if_list\[0\]: of the guest$/m);
      assert.match(stderr, /^\S+agent: error: \/etc\/kylin-vr\/kylin-vr\.yaml: is a folder$/m);
      assert.doesNotMatch(stderr, /\.push-/);
    }
    await guestProgram(
      `[ "$1" = reload ] && { echo '{"result":"failed","steps":[],"errors":[{${placed}}]}'; exit 65; }`,
    );
    const { stderr } = await push(one);
    assert.match(stderr, /^\S+agent: error: \/etc\/kylin-vr\/kylin-vr\.yaml:2:5: if_list\[0\]: of the guest$/m);
  });

  it('ends as the reload in the guest ended', async () => {
    await guestProgram(
      `[ "$1" = reload ] && { echo '{"result":"rolled-back","steps":[],"errors":[{"message":"not as it should be"}]}'; exit 69; }`,
    );
    const { status, stdout, stderr } = await push(one);
    await guestProgram('');
    assert.equal(status, 69);
    assert.match(stderr, /agent: error: not as it should be/);
    assert.match(stdout, /agent: rolled-back/);
  });

  it('shows what a kylin-vr said that did not answer in JSON', async () => {
    await guestProgram('echo "no such module" >&2; exit 1');
    const { status, stderr } = await push(one);
    await guestProgram('');
    assert.equal(status, 1);
    assert.match(
      stderr,
      /kylin-vr ended 1 in the guest without a report; run kylin-vr status there; it said: no such module$/m,
    );
    assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
  });

  it('says what went wrong in the guest, and what to do', async () => {
    const failsWith = async (message: RegExp, ...args: string[]) => {
      const { status, stderr } = await push(one, ...args);
      assert.equal(status, 69, stderr);
      assert.match(stderr, message);
    };
    const other = (name: string, script: string) =>
      lab.router.write(`${GUEST_BIN}/${name}`, `#!/bin/sh\n${script}\n`, 0o755);
    const away = (name: string) => lab.router.run(['rm', `${GUEST_BIN}/${name}`], { check: true });
    await failsWith(
      /No such file or directory: install kylin-vr in the guest, or say with --config where its file is$/m,
      '--config',
      '/nowhere/x.yaml',
    );
    await other('sha256sum', "echo '0000000000000000000000000000000000000000000000000000000000000000  x'");
    await failsWith(
      /\.yaml arrived damaged in the guest \(SHA-256 0{64}, sent was [0-9a-f]{64}\): the guest's own file is as it was; push again$/m,
    );
    await other('sha256sum', 'echo no >&2; exit 3');
    await failsWith(
      /sha256sum \S+ ended 3 in the guest: no; the guest's own file is as it was: mend that there, and push again$/m,
    );
    await away('sha256sum');
    await other('mv', 'echo no >&2; exit 3');
    await failsWith(
      /mv -fT \S+ \S+ ended 3 in the guest: no; the guest's own file is as it was: mend that there, and push again$/m,
    );
    await away('mv');
    await other('install', 'exit 3');
    await failsWith(/error: install ended 3: install kylin-vr in the guest, or say with --config where its file is$/m);
    await away('install');
    await guestProgram('kill -9 $$');
    await failsWith(/kylin-vr was ended by signal 9 in the guest: see dmesg there, then push again$/m);
    await guestProgram('sleep 3');
    await failsWith(
      /kylin-vr check .* has not ended after 1 s in the guest: it goes on there, see kylin-vr status in the guest$/m,
      '--timeout',
      '1',
    );
    await away('kylin-vr');
    await failsWith(/kylin-vr cannot be run in the guest: .*; install it there, and push again$/m);
    await guestProgram('');
    assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
  });

  it('keeps what it writes from everybody but root, from its first byte on', async () => {
    await guestProgram(`[ "$1" = check ] && stat -c '%a %u' /etc/kylin-vr/.push-* > /run/seen`);
    await lab.router.write(
      `${GUEST_BIN}/sha256sum`,
      `#!/bin/sh\nstat -c '%a %u' "$1" > /run/proved\nexec /usr/bin/sha256sum "$@"\n`,
      0o755,
    );
    const { status } = await push(one);
    await guestProgram('');
    await lab.router.run(['rm', `${GUEST_BIN}/sha256sum`], { check: true });
    assert.deepEqual([status, await inGuest('/run/proved'), await inGuest('/run/seen')], [0, '600 0\n', '600 0\n']);
  });

  describe('that was killed', () => {
    /** Kills a push while the guest's kylin-vr checks; gives the file's name. */
    async function killedPush(): Promise<string> {
      await guestProgram('[ "$1" = check ] && sleep 2');
      const file = join(folder, 'new.yaml');
      await writeFile(file, two);
      const child = lab.host('out').spawn([process.execPath, PROGRAM, 'push', '--socket', socket(), file]);
      const ended = new Promise((resolve) => child.on('exit', resolve));
      let name: string | undefined;
      while (name === undefined) {
        assert.equal(child.exitCode, null);
        await sleep(20);
        name = (await leftovers()).find((each) => each.startsWith('.push-'));
      }
      child.kill('SIGKILL');
      await ended;
      await guestProgram('');
      // On a socket, not on virtio, it ends by itself where a client leaves an answer unread: which it may have done or not.
      const gone = new Promise((resolve) => agent.on('exit', resolve));
      if (agent.exitCode === null && agent.kill()) await gone;
      agent = await startAgent(lab, socket());
      return name;
    }

    it('leaves a file that the next push takes away', async () => {
      const name = await killedPush();
      assert.match(name, /^\.push-[0-9a-f]{16}-[0-9a-f]{8}\.yaml$/);
      assert.deepEqual(await leftovers(), [name, 'kylin-vr.yaml']);
      assert.equal((await push(one)).status, 0);
      assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
    });

    it('leaves a file that a run in the guest takes away, an hour later', async () => {
      const name = await killedPush();
      const old = `.push-${'0'.repeat(8)}.yaml`;
      await lab.router.write(`/etc/kylin-vr/${old}`, 'of 1.0');
      await lab.router.write('/etc/kylin-vr/.push-mine.yaml', 'of somebody');
      assert.equal((await lab.kylin('reload')).status, 0);
      assert.deepEqual((await leftovers()).sort(), [name, old, '.push-mine.yaml', 'kylin-vr.yaml'].sort());
      const paths = [name, old, '.push-mine.yaml'].map((each) => `/etc/kylin-vr/${each}`);
      await lab.router.run(['touch', '-d', '2 hours ago', ...paths], { check: true });
      assert.equal((await lab.kylin('reload')).status, 0);
      assert.deepEqual(await leftovers(), ['.push-mine.yaml', 'kylin-vr.yaml']);
      await lab.router.run(['rm', '/etc/kylin-vr/.push-mine.yaml'], { check: true });
    });
  });

  it('leaves alone what another push is writing', async (t) => {
    const proxy = await startProxy(join(folder, 'other'), socket(), 'guest-file-flush', 'wait a second');
    t.after(() => proxy.close());
    const file = join(folder, 'other.yaml');
    await writeFile(file, one);
    const child = lab.host('out').spawn([process.execPath, PROGRAM, 'push', '--socket', proxy.path, file]);
    const ended = new Promise((resolve) => child.on('exit', resolve));
    await asked(proxy, child);
    // The agent serves one at a time: what another push of this host would do is done beside it.
    const [name = ''] = (await leftovers()).filter((each) => each.startsWith('.push-'));
    assert.equal(isAbandoned()(name), false);
    assert.equal(await ended, 0);
    assert.equal(isAbandoned()(name), true);
  });

  it('on a terminal shows what it is doing, and erases it', async () => {
    await guestProgram('sleep 0.5');
    const file = join(folder, 'new.yaml');
    await writeFile(file, one);
    const command = `${process.execPath} ${PROGRAM} push --socket ${socket()} ${file}`;
    const { stdout } = await lab.host('out').run(['script', '-qec', command, '/dev/null'], { env: { TERM: 'xterm' } });
    await guestProgram('');
    const shown = stdout.split('\r\u001b[K');
    assert.ok(shown.includes(`${socket()}: checking in the guest`) && shown.includes(`${socket()}: reloading`), stdout);
    assert.match(shown.at(-1) ?? '', /^\S+agent: \S*unchanged\S*, 0 steps in \d+ ms\r\n$/);
  });

  it('on a terminal shows how far a file is that takes its time', async (t) => {
    const proxy = await startProxy(join(folder, 'long'), socket(), 'guest-file-write', 'wait a second');
    t.after(() => proxy.close());
    const file = join(folder, 'new.yaml');
    await writeFile(file, `${one}${'# a comment of no importance\n'.repeat(2000)}`);
    const command = `${process.execPath} ${PROGRAM} push --dry-run --socket ${proxy.path} ${file}`;
    const { stdout } = await lab.host('out').run(['script', '-qec', command, '/dev/null'], { env: { TERM: 'xterm' } });
    const shown = stdout.split('\r\u001b[K');
    for (const text of [1, 2].map((n) => `${proxy.path}: writing, piece ${n} of 2`))
      assert.ok(shown.includes(text), `${text} in ${stdout}`);
  });

  it('without a guest is wrong usage', async () => {
    const { status, stderr } = await lab.host('out').run([process.execPath, PROGRAM, 'push', 'x.yaml']);
    assert.equal(status, 64);
    assert.match(stderr, /push needs a guest: --domain NAME \(libvirt\) or --socket PATH/);
  });

  it('to a socket where nobody listens says what to look at', async () => {
    const { status, stderr } = await push(one, '--socket', join(folder, 'nobody'));
    assert.equal(status, 69);
    assert.match(
      stderr,
      /^\S+: error: the guest agent at .*nobody does not answer \(connect ENOENT.*\): is the VM running, does qemu-guest-agent run in the guest, and does nothing else hold the socket\?$/m,
    );
  });

  it('to several guests goes to all, and ends as the first that failed', async () => {
    const { status, stdout } = await push(one, '--socket', socket(), '--socket', join(folder, 'nobody'));
    assert.equal(status, 69);
    assert.match(stdout, /agent: unchanged, 0 steps in \d+ ms\n.*nobody: failed, 0 steps in \d+ ms\n$/);
  });

  it('to an agent that forbids the calls names the setting', async () => {
    const closed = join(folder, 'closed');
    await startAgent(lab, closed, '-b', 'guest-exec,guest-exec-status');
    const { status, stderr } = await push(one, '--socket', closed);
    assert.equal(status, 69);
    assert.match(
      stderr,
      /the guest agent \(\S+\) refuses guest-exec, guest-exec-status: run kylin-vr install in the guest, or take them out of the agent's block list \(BLACKLIST_RPC, --block-rpcs\) or put them on its allow list \(--allow-rpcs\) in \/etc\/sysconfig\/qemu-ga or \/etc\/qemu\/qemu-ga\.conf, and restart qemu-guest-agent$/m,
    );
  });

  describe('with an agent', () => {
    let proxy: Proxy;
    afterEach(() => proxy.close());

    /** Files that are open in the agent, beside its own. */
    const isClosed = () => assert.equal(proxy.seen('guest-file-open'), proxy.seen('guest-file-close'));

    it('that does not answer a write: an end in bounded time, the handle closed, the file as it was', async () => {
      proxy = await startProxy(join(folder, 'slow'), socket(), 'guest-file-write', 'swallow the answer once');
      const { status, stderr } = await push(two, '--socket', proxy.path, '--timeout', '2');
      assert.equal(status, 69);
      assert.match(stderr, /does not answer \(no answer to guest-file-write in 2 s\)/);
      isClosed();
      assert.equal(await inGuest(CONFIG), one);
      assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
    });

    it('that somebody else has left in the middle of a question', async () => {
      const other = connect(socket());
      other.write('{"execute": "guest-file-op');
      await sleep(200);
      other.destroy();
      proxy = await startProxy(join(folder, 'half'), socket(), 'none', 'swallow the answer once');
      assert.equal((await push(one, '--socket', proxy.path)).status, 0);
    });

    it('Ctrl-C in the middle of the file: the handle is closed, the file as it was', async () => {
      proxy = await startProxy(join(folder, 'paused'), socket(), 'guest-file-write', 'wait a second');
      const file = join(folder, 'new.yaml');
      await writeFile(file, `${two}${'# a comment of no importance\n'.repeat(5000)}`);
      const child = lab.host('out').spawn([process.execPath, PROGRAM, 'push', '--socket', proxy.path, file]);
      const ended = new Promise((resolve) => child.on('exit', (status, signal) => resolve(status ?? signal)));
      let stderr = '';
      child.stderr?.on('data', (piece) => {
        stderr += String(piece);
      });
      await asked(proxy, child);
      child.kill('SIGINT');
      assert.equal(await ended, 69);
      assert.match(stderr, /SIGINT: stopping; what is open in the guests is closed first/);
      assert.match(
        stderr,
        /stopped by SIGINT; a reload that has begun in the guest goes on there: kylin-vr status in the guest tells how it ends\n/,
      );
      isClosed();
      assert.equal(await inGuest(CONFIG), one);
      assert.deepEqual(await leftovers(), ['kylin-vr.yaml']);
    });
  });
});

/** Returns when this push writes the file. */
async function asked(proxy: Proxy, push: ChildProcess): Promise<void> {
  while (proxy.seen('guest-file-write') === 0) {
    assert.equal(push.exitCode, null);
    await sleep(20);
  }
}

async function startAgent(lab: Lab, path: string, ...args: string[]): Promise<ChildProcess> {
  await rm(path, { force: true });
  const agent = lab.router.spawn(['qemu-ga', '-m', 'unix-listen', '-p', path, '-t', '/run', ...args], {
    env: { PATH: `${GUEST_BIN}:/usr/sbin:/usr/bin:/sbin:/bin` },
    stdio: 'ignore',
  });
  for (let waited = 0; waited < 10_000; waited += 20) {
    if (agent.exitCode !== null) throw new Error(`qemu-ga ended ${agent.exitCode}`);
    if ((await lab.router.run(['test', '-S', path])).status === 0) return agent;
    await sleep(20);
  }
  throw new Error('qemu-ga does not listen');
}

type Proxy = { path: string; seen(command: string): number; close(): void };

/** Between the host and the agent: counts the questions, and is slow or forgetful with one of them. */
async function startProxy(
  path: string,
  agent: string,
  command: string,
  fault: 'swallow the answer once' | 'wait a second',
): Promise<Proxy> {
  const questions: string[] = [];
  const sockets: Socket[] = [];
  let swallow = false;
  let swallowed = false;
  const server: Server = createServer((host) => {
    const guest = connect(agent);
    sockets.push(host, guest);
    for (const socket of [host, guest]) socket.on('error', () => {});
    // A question comes in pieces, of which the first names it; none overtakes another.
    let turn = Promise.resolve();
    host.on('data', (piece) => {
      turn = turn.then(async () => {
        const asked = /"execute":"([\w-]+)"/.exec(piece.toString('latin1'))?.[1] ?? '';
        questions.push(asked);
        if (asked === command && fault === 'wait a second') await sleep(1000);
        if (asked === command && !swallowed) swallow = fault === 'swallow the answer once';
        guest.write(piece);
      });
    });
    guest.on('data', (answer) => {
      if (!swallow) host.write(answer);
      else swallowed = true;
      swallow = false;
    });
    host.on('close', () => guest.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    seen: (asked) => questions.filter((question) => question === asked).length,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
