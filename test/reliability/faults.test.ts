// What breaks around a reload, each made to break for real: it ends in bounded time, says what is wrong and what to do, and
// the network is the old one or the new one. When the fault is gone the next reload does the rest.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { createLabOn } from '../lab/path.ts';
import { networkOf } from '../lab/state.ts';
import { recordTools, type Tool, type Tools } from '../lab/tools.ts';
import { buildVariant } from './variant.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const one = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
`;
const other = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }
eip_list:
  - { eip: 203.0.113.51, vm-ip: 10.10.2.21 }
  - { eip: 198.51.100.20, vm-ip: 10.10.1.12 }
route_list:
  - { dest: 172.24.0.0/16, via: 10.10.2.9 }
`;

type Ended = {
  status: number;
  result: string;
  /** Errors and warnings, in their order. */
  said: string;
  /** Which network it left. */
  network: 'old' | 'new' | 'neither';
  tookMs: number;
};

const CONFIGS = { one, other } as const;
type Name = keyof typeof CONFIGS;

/** A laboratory whose router is asked for one configuration and the other in turn. */
class Bench {
  lab!: Lab;
  tools!: Tools;
  #now: Name = 'one';
  readonly #networks = new Map<Name, string>();
  readonly #path: 'ip' | 'keyfile';

  constructor(iptables: 'nft' | 'legacy' = 'nft', path: 'ip' | 'keyfile' = 'ip') {
    this.#path = path;
    before(async () => {
      this.lab = await createLabOn(path, { iptables });
      this.tools = await recordTools(this.lab.router);
      // An empty table is not read.
      const flow = '-p udp -s 192.0.2.1 --sport 1 -d 192.0.2.2 --dport 2 -r 192.0.2.2 -q 192.0.2.1 -t 86400';
      await this.shell(`conntrack -I ${flow} --reply-port-src 2 --reply-port-dst 1`);
      for (const name of ['one', 'other', 'one'] as const) await this.settle(name);
    });
    after(() => this.lab?.close());
  }

  /** Asks for the configuration that is not in force with the fault there, and again without it. */
  async meet(fault: Fault): Promise<Ended> {
    const to = this.#now === 'one' ? 'other' : 'one';
    await this.lab.configure(CONFIGS[to]);
    try {
      await fault.make(this);
      const started = performance.now();
      const node = [process.execPath, ...(fault.hook === undefined ? [] : ['--require', fault.hook])];
      const { program = PROGRAM } = fault;
      const { status, stdout, stderr } = await this.lab.router.run([...node, program, 'reload', '--json']);
      const tookMs = performance.now() - started;
      assert.ok(status !== 1 && !/internal error| {4}at /.test(stderr), stderr);
      if (!fault.onFiles) await fault.end(this);
      const network = await this.network();
      const report = JSON.parse(stdout) as { result: string } & Record<'errors' | 'warnings', { message: string }[]>;
      const said = [...report.errors, ...report.warnings].map(({ message }) => message).join('\n');
      return {
        status,
        result: report.result,
        said: `${said}\n${stderr.replace(/^(?:warning|error): .*\n/gm, '')}`.trim(),
        network:
          network === this.#networks.get(this.#now)
            ? 'old'
            : isNew(network, this.#networks.get(to), said)
              ? 'new'
              : 'neither',
        tookMs,
      };
    } finally {
      await fault.end(this);
      await this.settle(to);
    }
  }

  /** The network is afterwards what it was each time. */
  async settle(name: Name): Promise<void> {
    await this.reload(CONFIGS[name]);
    this.#now = name;
    const network = await this.network();
    const before = this.#networks.get(name);
    if (before === undefined) this.#networks.set(name, network);
    else assert.equal(network, before);
  }

  /** Where nmcli does not work `ip` does the same in other words; NetworkManager gives each activation's routes another metric. */
  async network(): Promise<string> {
    const text = await networkOf(this.lab.router);
    if (this.#path === 'ip') return text;
    return text.replace(/ brd \S+| noprefixroute| proto (?:175|static)|(?<= scope link .*) metric \d+/g, '');
  }

  async reload(config: string): Promise<void> {
    await this.lab.configure(config);
    const { status, stdout, stderr } = await this.lab.kylin('reload');
    assert.equal(status, 0, stdout + stderr);
  }

  async shell(script: string): Promise<string> {
    return (await this.lab.router.run(['sh', '-ec', script], { check: true })).stdout;
  }
}

/** Also with what guards against flows that could not be cut: settle sees that the next run takes that away. */
function isNew(network: string, expected = '', said = ''): boolean {
  if (network === expected) return true;
  if (!said.includes('established flows of before may live on')) return false;
  const [found, wanted] = [network.split('\n'), expected.split('\n')];
  const more = found.filter((line) => !wanted.includes(line));
  return (
    wanted.every((line) => found.includes(line)) &&
    more.every((line) => /-A KYLIN-VR-(UPLINK|NOWHERE|UNTRANSLATED|OUTBOUND|HAIRPIN)\b/.test(line))
  );
}

type Fault = {
  make: (bench: Bench) => Promise<unknown>;
  end: (bench: Bench) => Promise<unknown>;
  program?: string;
  /** What is loaded into it. */
  hook?: string;
  /** Files are looked at while it is there. */
  onFiles?: true;
};

/** The folder on a file system of its own, in which so many pages of 4 KiB are free. */
const full = (folder: string, pages: number): Fault => ({
  make: (bench) =>
    bench.shell(`
      mkdir -p ${folder} /mnt/kept; [ ${folder} = /var/log/kylin-vr ] || cp -a ${folder}/. /mnt/kept
      mount -t tmpfs -o size=256k,mode=700 tmpfs ${folder}; cp -a /mnt/kept/. ${folder}
      dd if=/dev/zero of=${folder}/.filler bs=4096 2> /dev/null || true
      truncate -s -${4096 * pages} ${folder}/.filler`),
  end: (bench) => bench.shell(`! mountpoint -q ${folder} || umount ${folder}; rm -rf /mnt/kept`),
  onFiles: true,
});

const readOnly = (folder: string): Fault => ({
  make: (bench) =>
    bench.shell(`mkdir -p ${folder}; mount --bind ${folder} ${folder}; mount -o remount,bind,ro ${folder}`),
  end: (bench) => bench.shell(`! mountpoint -q ${folder} || umount ${folder}`),
  onFiles: true,
});

const FOLDERS = {
  '/var/lib/kylin-vr': /^(nothing was changed: )?.*\/var\/lib\/kylin-vr/,
  '/run/kylin-vr':
    /^nothing was changed: taking the lock in \/run\/kylin-vr: |^writing \/run\/kylin-vr\/flows\.json: |^keeping the result in \/run\/kylin-vr: /,
  '/etc/sysconfig/network-scripts':
    /^writing \/etc\/sysconfig\/network-scripts\/.*; the network is as it was before; mend the cause/,
  '/var/log/kylin-vr':
    /^kylin-vr: the log \/var\/log\/kylin-vr\/kylin-vr\.log cannot be written: .*; the run goes on without it$/m,
};
const CURES = {
  'read-only': /; make it writable \(findmnt; dmesg tells of a faulty disk\)/,
  full: /; make room there \(df, df -i\)/,
};

describe('no room, or no right, to write', { concurrency: false }, () => {
  const bench = new Bench();
  for (const [folder, words] of Object.entries(FOLDERS)) {
    it(`${folder} is read-only`, async () => {
      const ended = await bench.meet(readOnly(folder));
      assert.match(ended.said, words);
      if (folder.startsWith('/var/log')) assert.deepEqual([ended.status, ended.network], [0, 'new']);
      else {
        assert.deepEqual([ended.status, ended.network], [69, 'old']);
        assert.match(ended.said, CURES['read-only']);
      }
    });

    it(`${folder} is full at every write`, async () => {
      let failed = 0;
      for (let pages = 0; ; pages++) {
        const ended = await bench.meet(full(folder, pages));
        if (ended.said === '') {
          assert.deepEqual([ended.status, ended.network], [0, 'new']);
          break;
        }
        failed++;
        assert.match(ended.said, words, `${pages} pages`);
        assert.notEqual(ended.network, 'neither', `${pages} pages: ${ended.said}`);
        if (folder.startsWith('/var/log')) assert.deepEqual([ended.status, ended.network], [0, 'new']);
        else {
          assert.match(ended.said, CURES.full);
          if (ended.network === 'new')
            assert.match(
              ended.said,
              /^(the network is as the configuration wants it, but that could not be kept: .*; then run kylin-vr reload$|writing .*\/flows\.json: |keeping the result)/m,
            );
        }
        assert.ok(ended.tookMs < 30_000, `${ended.tookMs} ms`);
      }
      assert.ok(failed > 0);
    });
  }
});

/** A tool that fails so at each of its calls, or at those of these words. */
const broken = (tool: Tool, script: string, program?: string): Fault => ({
  make: ({ tools }) => tools.before(tool, script),
  end: ({ tools }) => tools.before(tool),
  ...(program !== undefined && { program }),
});

/** Gone from every folder of the PATH; only ip is in two of them. */
const missing = (name: string): Fault => ({
  make: (bench) =>
    bench.shell(`
      mkdir -p /mnt/bin/upper /mnt/bin/work
      mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=/mnt/bin/upper,workdir=/mnt/bin/work /usr/bin
      rm -f /usr/bin/${name}
      mv /usr/sbin/${name} /mnt/away`),
  end: (bench) =>
    bench.shell(`
      [ ! -e /mnt/away ] && [ ! -L /mnt/away ] || mv /mnt/away /usr/sbin/${name}
      ! mountpoint -q /usr/bin || umount -l /usr/bin
      rm -rf /mnt/bin`),
});

for (const iptables of ['nft', 'legacy'] as const)
  describe(`tools that do not work: ${iptables}`, { concurrency: false }, () => {
    const bench = new Bench(iptables);
    let impatient = '';
    before(async () => {
      impatient = await buildVariant('impatient');
    });
    const restore = `iptables-${iptables}-restore` as const;
    const save = `iptables-${iptables}-save` as const;
    const writing = (words: string, act: string) => `case "$*" in ${words}) ${act} ;; esac`;
    const hang = '{ sleep 100 & wait; }';

    const CASES: [what: string, fault: () => Fault, status: number, network: Ended['network'], said: RegExp][] = [
      [
        'ip is missing',
        () => missing('ip'),
        69,
        'old',
        /^ip is not in \/usr\/sbin.*: install iproute2 \(iproute on RPM systems\)/,
      ],
      [
        'iptables-restore is missing',
        () => missing('iptables-restore'),
        69,
        'old',
        /^iptables-restore is not in .*: install iptables/,
      ],
      [
        'iptables-save is missing',
        () => missing('iptables-save'),
        69,
        'old',
        /^iptables-save is not in .*: install iptables/,
      ],
      [
        'conntrack is missing',
        () => missing('conntrack'),
        0,
        'new',
        /^established flows of before may live on: conntrack is not in .*: install conntrack/,
      ],
      ['ip fails', () => broken('ip', 'echo no >&2; exit 2'), 69, 'old', /^ip -json .*: status 2: no/],
      [
        'ip fails where it writes',
        () => broken('ip', writing('*-batch*', 'echo no >&2; exit 2')),
        69,
        'old',
        /^ip -batch -: status 2: no; the network/,
      ],
      [
        'iptables-save fails',
        () => broken(save, 'echo no >&2; exit 1'),
        69,
        'old',
        /^iptables-save -t .*: status 1: no/,
      ],
      ['ip hangs', () => broken('ip', hang, impatient), 69, 'old', /^ip -json .*: no end after 2 s, killed/],
      [
        'ip hangs where it writes',
        () => broken('ip', writing('*-batch*', hang), impatient),
        69,
        'old',
        /^ip -batch -: no end after 2 s, killed/,
      ],
      [
        'iptables-save hangs',
        () => broken(save, hang, impatient),
        69,
        'old',
        /^iptables-save: no end after 2 s, killed/,
      ],
      [
        'conntrack hangs',
        () => broken('conntrack', hang, impatient),
        0,
        'new',
        /^established flows of before may live on: conntrack -L -f ipv4 -o id: no end after 2 s, killed/,
      ],
      [
        'ip prints rubbish',
        () => broken('ip', 'echo rubbish; exit 0'),
        69,
        'old',
        /^ip printed something that is not understood/,
      ],
      [
        'ip prints half',
        () => broken('ip', writing('*json*-b*', `/bin/ip "$@" | head -c 700; exit 0`)),
        69,
        'old',
        /^ip printed something that is not understood/,
      ],
      [
        'iptables-save prints rubbish',
        () => broken(save, 'echo rubbish; exit 0'),
        69,
        'old',
        /^iptables-save printed something that is not understood: rubbish \(please report it, with iptables --version\)/,
      ],
      [
        'iptables-save prints half',
        () => broken(save, `/usr/sbin/xtables-${iptables}-multi iptables-save "$@" | head -n 6; exit 0`),
        69,
        'old',
        /^iptables-save printed something that is not understood: a table without its COMMIT/,
      ],
      [
        'conntrack prints rubbish',
        () => broken('conntrack', 'echo rubbish; exit 0'),
        0,
        'new',
        /^established flows of before may live on: conntrack -L printed something that is not understood: rubbish \(please report it, with conntrack --version\); they end/,
      ],
      [
        'iptables-restore has no memory',
        () => broken(restore, 'ulimit -v 1000'),
        69,
        'old',
        /^iptables-restore --noflush --wait 30: [\s\S]*; the network is as it was before/,
      ],
      [
        'ip has no memory where it writes',
        () => broken('ip', writing('*-batch*', 'ulimit -v 1000')),
        69,
        'old',
        /^ip -batch -: [\s\S]*; the network is as it was before/,
      ],
      [
        'iptables-restore is killed for lack of memory',
        () => broken(restore, 'kill -9 $$'),
        69,
        'old',
        /^iptables-restore --noflush --wait 30: killed by SIGKILL[\s\S]*; the network is as it was before/,
      ],
    ];
    // What the backends do differently shows itself in the tools of iptables.
    const cases = iptables === 'nft' ? CASES : CASES.filter(([what]) => what.startsWith('iptables'));
    for (const [what, fault, status, network, said] of cases)
      it(`${what}: ends ${status}, with the ${network} network`, async () => {
        const ended = await bench.meet(fault());
        assert.deepEqual([ended.status, ended.network], [status, network], ended.said);
        assert.match(ended.said, said);
        assert.ok(ended.tookMs < 30_000, `${ended.tookMs} ms`);
      });
  });

describe('a process cannot be started', { concurrency: false }, () => {
  const bench = new Bench();
  const refused = (command: string): Fault => ({
    make: ({ lab }) => lab.router.write('/mnt/refused', command),
    end: (there) => there.shell('rm -f /mnt/refused'),
    hook: join(import.meta.dirname, 'fork-hook.cjs'),
  });
  const CASES: [command: string, status: number, network: Ended['network'], said: RegExp][] = [
    ['^ip -json', 69, 'old', /^ip -json .*: did not start: EAGAIN/],
    ['^iptables-save', 69, 'old', /^iptables-save: did not start: EAGAIN/],
    ['^ip -batch', 69, 'old', /^ip -batch -: did not start: EAGAIN; the network is as it was before/],
    ['^iptables-restore --noflush', 69, 'old', /^iptables-restore .*: did not start: EAGAIN; the network is as it was/],
    [
      '^conntrack',
      0,
      'new',
      /^established flows of before may live on: conntrack -L -f ipv4 -o id: did not start: EAGAIN/,
    ],
  ];
  for (const [command, status, network, said] of CASES)
    it(`${command.slice(1)}, for want of processes: ends ${status}, with the ${network} network`, async () => {
      const ended = await bench.meet(refused(command));
      assert.deepEqual([ended.status, ended.network], [status, network], ended.said);
      assert.match(ended.said, said);
    });
});

// Where there is no nmcli nothing can be asked of NetworkManager: its NICs are set up by ip.
// busctl is the shorter way: nmcli goes the longer one.
describe('nmcli or busctl does not work, and NetworkManager does', { concurrency: false }, () => {
  const bench = new Bench('nft', 'keyfile');
  const CASES: [what: string, fault: () => Fault, status: number, network: Ended['network'], said: RegExp][] = [
    ['nmcli is missing', () => missing('nmcli'), 0, 'new', /^$/],
    ['nmcli fails', () => broken('nmcli', 'echo no >&2; exit 1'), 69, 'old', /^nmcli .*: status 1: no/],
    [
      'nmcli prints rubbish',
      () => broken('nmcli', 'echo rubbish; exit 0'),
      69,
      'old',
      /^nmcli printed something that is not understood: rubbish \(please report it, with nmcli --version\)/,
    ],
    ['nmcli prints nothing', () => broken('nmcli', 'exit 0'), 0, 'new', /^$/],
    ['busctl is missing', () => missing('busctl'), 0, 'new', /^$/],
    ['busctl fails', () => broken('busctl', 'echo no >&2; exit 1'), 0, 'new', /^$/],
    ['busctl prints rubbish', () => broken('busctl', 'echo rubbish; exit 0'), 0, 'new', /^$/],
  ];
  for (const [what, fault, status, network, said] of CASES)
    it(`${what}: ends ${status}, with the ${network} network`, async () => {
      const ended = await bench.meet(fault());
      assert.deepEqual([ended.status, ended.network], [status, network], ended.said);
      assert.match(ended.said, said);
    });
});

describe('the machine changes meanwhile', { concurrency: false }, () => {
  const bench = new Bench();
  /** Once, before the tool does what these words say. */
  const once = (tool: Tool, words: string, act: string): Fault => ({
    make: (there) =>
      there.tools.before(tool, `case "$*" in ${words}) [ -e /mnt/once ] || { echo > /mnt/once; ${act}; } ;; esac`),
    end: async (there) => {
      await there.tools.before(tool);
      await there.shell('rm -f /mnt/once');
    },
  });

  it('a script flushes nat before the change is verified: put back', async () => {
    await bench.settle('one');
    const fault = once('ip', '*-batch*', '/usr/sbin/xtables-nft-multi iptables -t nat -F');
    const ended = await bench.meet(fault);
    assert.deepEqual([ended.status, ended.network], [0, 'new'], ended.said);
  });

  it('the configuration is replaced: what was read is applied, the new file by the next run', async () => {
    await bench.settle('one');
    const fault = once('ip', '*-batch*', `printf '%s' "${one.replaceAll('"', '')}" > /etc/kylin-vr/kylin-vr.yaml`);
    const ended = await bench.meet(fault);
    assert.deepEqual([ended.status, ended.result, ended.network], [0, 'changed', 'new'], ended.said);
  });

  it('an address goes that a new route needs: both are there', async () => {
    await bench.settle('one');
    const fault = once('ip', '*-batch*', '/bin/ip address del 10.10.1.254/24 dev eth1');
    await fault.make(bench);
    try {
      await bench.reload(`${one}route_list:\n  - { dest: 172.25.0.0/16, via: 10.10.1.9 }\n`);
      assert.match(await bench.shell('/bin/ip -4 -o address show dev eth1'), /10\.10\.1\.254/);
      assert.match(await bench.shell('/bin/ip route'), /172\.25\.0\.0\/16 via 10\.10\.1\.9/);
    } finally {
      await fault.end(bench);
    }
    await bench.settle('one');
  });

  it('a NIC goes: the rest is applied, and it is pending', async () => {
    await bench.settle('one');
    const fault = once('iptables-nft-restore', '*--noflush*', '/bin/ip link delete eth2');
    const ended = await bench.meet({
      ...fault,
      end: async (there) => {
        await fault.end(there);
        if (!(await there.shell('/bin/ip -br link')).includes('eth2')) await there.lab.router.plug(NICS.b);
      },
    });
    assert.deepEqual([ended.status, ended.said], [0, `NIC ${B} is not there yet: pending`]);
  });

  it('a NIC goes and comes back under its name: the change is completed', async () => {
    await bench.settle('one');
    const fault = once(
      'iptables-nft-restore',
      '*--noflush*',
      '/bin/ip link delete eth2; echo > /mnt/gone; while [ -e /mnt/gone ]; do sleep 0.02; done',
    );
    let waiting = true;
    const plugged = (async () => {
      while (waiting && (await bench.lab.router.read('/mnt/gone')) === undefined) await sleep(20);
      await bench.lab.router.plug(NICS.b);
      await bench.shell('rm -f /mnt/gone');
    })();
    const ended = await bench.meet(fault);
    waiting = false;
    await plugged;
    assert.deepEqual([ended.status, ended.network], [0, 'new'], ended.said);
  });

  it('a foreign rule leads to a chain of ours: it stays, empty, and what holds it is said', async () => {
    await bench.lab.configure(one);
    assert.equal((await bench.lab.kylin('reload')).status, 0);
    await bench.shell(
      'iptables -t nat -N OPERATOR; iptables -t nat -A OPERATOR -d 203.0.113.50 -j KYLIN-VR-D24-203.0.113.0',
    );
    await bench.lab.configure(one.replace(/eip_list[\s\S]*/, ''));
    const { status, stdout } = await bench.lab.kylin('reload', '--json');
    assert.equal(status, 0, stdout);
    assert.match(
      stdout,
      /the chain KYLIN-VR-D24-203\.0\.113\.0 stays in nat, empty: a rule of the foreign chain OPERATOR leads to it; take that away"/,
    );
    assert.equal((await bench.lab.kylin('plan', '--exit-code')).stdout, 'in sync\n');
    assert.equal(await bench.shell('iptables -t nat -S KYLIN-VR-D24-203.0.113.0'), '-N KYLIN-VR-D24-203.0.113.0\n');
    assert.match(await bench.shell('iptables -t nat -S OPERATOR'), /-j KYLIN-VR-D24/);
    await bench.lab.configure(one);
    assert.equal((await bench.lab.kylin('reload')).status, 0);
    assert.match(await bench.shell('iptables -t nat -S KYLIN-VR-D24-203.0.113.0'), /-j KYLIN-VR-D28/);
    await bench.shell('iptables -t nat -F OPERATOR; iptables -t nat -X OPERATOR');
    await bench.lab.configure('if_list: []\n');
    assert.equal((await bench.lab.kylin('reload')).status, 0);
    assert.doesNotMatch(await bench.shell('iptables-save'), /KYLIN/);
  });
});

describe('the xtables lock', { concurrency: false }, () => {
  const bench = new Bench('legacy');
  it('held by another program for 20 s: waited for', async () => {
    const holder = bench.lab.router.spawn(['flock', '/run/xtables.lock', 'sleep', '20']);
    const ended = await bench.meet({ make: () => sleep(300), end: async () => void holder.kill() });
    assert.deepEqual([ended.status, ended.network], [0, 'new'], ended.said);
    assert.ok(ended.tookMs > 15_000 && ended.tookMs < 50_000, `${ended.tookMs} ms`);
  });
});
