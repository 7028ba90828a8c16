// A machine in memory, at the interface Host: a guest whose NICs are there and down, with iproute2, iptables-nft and conntrack, and
// with NetworkManager where that is asked for. What it is asked and does not know it throws; same-as-kernel.test.ts holds it against the real one.

import { CommandError, HostError, UnsupportedError } from '../../src/base/errors.ts';
import type { Host, RunOptions } from '../../src/machine/host.ts';
import { errno, Files } from './files.ts';
import { Flows } from './flows.ts';
import { BUS, MANAGER_TOOLS, Manager } from './manager.ts';
import { type Backend, Netfilter } from './netfilter.ts';
import { Network } from './network.ts';
import { Killed, NotKnown, Refused } from './refused.ts';

type Argv = readonly [string, ...string[]];

/** Something that the program asks of the machine. */
export type Call = {
  method: Exclude<keyof Host, 'inside'>;
  args: readonly unknown[];
  /** For people: `run ip -batch -`, `write /etc/…`. */
  what: string;
  /** Whether the machine may be another one afterwards. */
  changes: boolean;
};

/** Of a Debian 12, where it finds them. */
const TOOLS: Readonly<Record<string, string>> = {
  ip: '/usr/bin/ip',
  'iptables-nft-save': '/usr/sbin/xtables-nft-multi',
  nft: '/usr/sbin/nft',
  conntrack: '/usr/sbin/conntrack',
  arping: '/usr/bin/arping',
  perl: '/usr/bin/perl',
};

const ABSENT = [
  'nmcli',
  'NetworkManager',
  'busctl',
  'ovs-vsctl',
  'iptables-legacy-save',
  'python3',
  'python2',
  'python',
];

const CONNTRACKS = ['net/netfilter/nf_conntrack_tcp_be_liberal', 'net/netfilter/nf_conntrack_count'] as const;

const CHANGING: readonly Call['method'][] = [
  ...['write', 'setMode', 'link', 'makeFolder', 'removeFolder', 'move', 'copy', 'putAside', 'remove'],
  ...['setSysctl', 'launch'],
] as Call['method'][];

export const NICS = [
  { device: 'eth0', mac: '52:54:84:00:08:46' },
  { device: 'eth1', mac: '52:54:84:11:00:04' },
  { device: 'eth2', mac: '52:54:84:11:00:05' },
] as const;

export class Machine {
  readonly files = new Files();
  network = new Network();
  netfilter: Netfilter;
  readonly flows = new Flows();
  readonly manager: Manager | undefined;
  readonly tools = new Map(Object.entries(TOOLS));
  boot = 1;
  /** Seconds. */
  uptime = 1000;
  /** Commands that were started and left to themselves. */
  launched: string[][] = [];
  /** What it was asked and does not know: also where the program has survived that. */
  readonly notKnown: string[] = [];
  /** Are called before each call, and before each line of a batch; where one throws, that is how the call ends. */
  before: ((call: Call) => void) | undefined;
  beforeLine: ((line: string) => void) | undefined;
  /** Is called once the program is killed. */
  onKilled: (() => void) | undefined;
  readonly #nics: readonly { device: string; mac: string }[];

  constructor(nics: readonly { device: string; mac: string }[] = NICS, iptables: Backend = 'nft', isManaged = false) {
    this.#nics = nics;
    this.netfilter = new Netfilter(iptables);
    for (const tool of ['iptables-save', 'iptables-restore'])
      this.tools.set(tool, `/usr/sbin/xtables-${iptables}-multi`);
    for (const { device, mac } of nics) this.network.plug(device, mac);
    this.#loadConntrack();
    for (const folder of ['/etc', '/run', '/var/lib', '/var/log']) this.files.putFolder(folder);
    if (!isManaged) return;
    for (const [tool, path] of Object.entries(MANAGER_TOOLS)) this.tools.set(tool, path);
    this.manager = new Manager(this.files, this.network);
  }

  /** The power goes and comes again. */
  reboot(): void {
    this.network = new Network();
    for (const { device, mac } of this.#nics) this.network.plug(device, mac);
    this.netfilter = new Netfilter(this.netfilter.backend);
    this.flows.lines = [];
    this.files.drop('/run');
    this.files.putFolder('/run');
    this.boot++;
    this.uptime = 5;
    this.launched = [];
    if (this.manager !== undefined) this.files.put(BUS, '');
    this.manager?.start(this.network);
  }

  /** As a laboratory has it from the beginning, and a guest that has just booted does not. */
  #loadConntrack(): void {
    if (!this.network.settings.has(CONNTRACKS[0])) this.network.settings.set(CONNTRACKS[0], '0');
  }

  /** Another one in the same state. */
  copy(): Machine {
    const other = new Machine(this.#nics, this.netfilter.backend, this.manager !== undefined);
    other.files.takeFrom(this.files);
    other.network.takeFrom(this.network);
    other.netfilter.takeFrom(this.netfilter);
    other.flows.lines = [...this.flows.lines];
    if (this.manager !== undefined) other.manager?.takeFrom(this.manager);
    other.tools.clear();
    for (const [command, path] of this.tools) other.tools.set(command, path);
    [other.boot, other.uptime, other.launched] = [this.boot, this.uptime, [...this.launched]];
    return other;
  }

  configure(yaml: string): void {
    this.files.putFolder('/etc/kylin-vr', 0o700);
    this.files.put('/etc/kylin-vr/kylin-vr.yaml', yaml, 0o600);
  }

  /** What one program has of the machine: it ends with that. */
  host(): Host {
    let killed = false;
    const never = new Promise<never>(() => {});
    const calls: Host = {
      run: async (argv, options) => this.#run(argv, options),
      stream: async (argv, onLine, options = {}) => {
        const { stdout, status } = await this.#run(argv, options);
        for (const line of stdout.split('\n').slice(0, -1)) onLine(line);
        return { status };
      },
      launch: async (argv) => this.#launch(argv),
      which: async (command) => this.#which(command),
      read: async (path, options) => (isKernels(path) ? this.#kernelFile(path) : this.files.read(path, options)),
      readBytes: (path, options) => this.files.readBytes(path, options),
      list: (folder) => this.files.list(folder),
      info: (path) => this.files.info(path),
      write: (path, content, mode, gid) => {
        if (gid !== undefined && gid !== 0) throw new NotKnown(`the group ${gid} of ${path}`);
        return this.files.write(path, content, mode);
      },
      setMode: (path, mode) => this.files.setMode(path, mode),
      readLink: (path) => this.files.readLink(path),
      link: (path, target) => this.files.link(path, target),
      makeFolder: (path, mode) => this.files.makeFolder(path, mode),
      removeFolder: (path) => this.files.removeFolder(path),
      move: (from, to) => this.files.move(from, to),
      copy: (from, to) => this.files.copy(from, to),
      putAside: (path) => this.files.putAside(path),
      remove: (path) => this.files.remove(path),
      sysctl: async (key) => this.#sysctl(key),
      setSysctl: async (key, value) => this.#setSysctl(key, value),
      inside: async (root) => {
        throw new NotKnown(`the files inside ${root}`);
      },
    };
    const watched = Object.entries(calls).map(([method, carryOut]) => [
      method,
      async (...args: unknown[]) => {
        if (killed) return never;
        const call = describeCall(method as Call['method'], args);
        try {
          this.before?.(call);
          return await (carryOut as (...args: unknown[]) => Promise<unknown>)(...args);
        } catch (error) {
          if (error instanceof Killed) {
            killed = true;
            this.onKilled?.();
            return never;
          }
          if (error instanceof NotKnown) this.notKnown.push(error.message);
          throw error;
        }
      },
    ]);
    return Object.fromEntries(watched) as Host;
  }

  async #run(argv: Argv, { input, accept = [] }: RunOptions = {}): Promise<{ stdout: string; status: number }> {
    if (!this.tools.has(argv[0])) {
      if (!(argv[0] in TOOLS) && !ABSENT.includes(argv[0]) && !argv[0].startsWith('system'))
        throw new NotKnown(`the command ${argv.join(' ')}`);
      throw new UnsupportedError(`${argv[0]} is not in /usr/sbin:/usr/bin:/sbin:/bin`);
    }
    let stdout = '';
    try {
      for (const part of this.#answer(argv, input)) stdout += part;
      return { stdout, status: 0 };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (accept.includes(error.status)) return { stdout, status: error.status };
      throw new CommandError(argv, error.status, error.message, `status ${error.status}`);
    }
  }

  *#answer(argv: Argv, input: string | undefined): Generator<string> {
    const command = argv.join(' ');
    if (argv[0] === 'ip') return yield* this.#ip(argv.slice(1), input);
    if (argv[0] === 'nmcli' || argv[0] === 'busctl') return yield this.manager?.answer(argv) ?? '';
    if (argv[0] === 'perl' && argv[1] === '-e' && input !== undefined) return yield this.flows.answer(input);
    const [, table, chain] = /^nft -j list chain ip (\S+) (\S+)$/.exec(command) ?? [];
    if (table !== undefined && chain !== undefined) return yield this.netfilter.chainsAsJson({ table, chain });
    const [, of = '', from = '', handle] = /^nft delete rule ip (\S+) (\S+) handle (\d+)$/.exec(command) ?? [];
    if (handle !== undefined) return this.netfilter.deleteRule(of, from, Number(handle));
    const [, counters, , only] = /^iptables-save( -c)?( -t (\S+))?$/.exec(command) ?? [];
    if (command.startsWith('iptables-save') && (command === 'iptables-save' || counters || only))
      return yield this.netfilter.save(this.#date(), { counters: counters !== undefined, ...(only && { only }) });
    switch (command) {
      case 'iptables-nft-save':
        if (this.netfilter.backend === 'legacy') return;
        break;
      case 'iptables-restore --noflush':
      case 'iptables-restore --noflush --wait 30':
        this.netfilter.restore(input ?? '');
        if (this.netfilter.tracks()) this.#loadConntrack();
        return;
      case 'iptables-restore --test --noflush':
        return this.netfilter.restore(input ?? '', true);
      case 'nft -j list chains':
        return yield this.netfilter.chainsAsJson();
      case 'nft -j list tables':
        return yield this.netfilter.tablesAsJson();
      case 'nft list maps':
        return yield this.netfilter.mapsInWords();
      case 'conntrack -L -f ipv4 -o id':
      case 'conntrack -L':
        return yield this.flows.lines.map((line) => `${line}\n`).join('');
      case 'conntrack -L -f ipv4 -u EXPECTED':
        return;
    }
    const [, protocol, ends] = /^conntrack -L -p (\S+) (-s \S+ -d \S+)$/.exec(command) ?? [];
    if (protocol !== undefined && ends !== undefined) return yield this.flows.between(protocol, ends);
    if (command.startsWith('conntrack -I ')) return this.flows.insert(argv.slice(2));
    if (/^systemd-run --quiet --collect --unit=|^systemctl stop \S+\.timer$/.test(command)) {
      this.launched.push([...argv]);
      return;
    }
    throw new NotKnown(`the command ${command}`);
  }

  *#ip(words: readonly string[], input: string | undefined): Generator<string> {
    const isOption = (word: string) => /^-(json|j|details|oneline|batch|b|force|4|6)$/.test(word);
    const from = words.findIndex((word) => !isOption(word));
    const given = words.slice(0, from);
    const has = (...options: string[]) => given.some((word) => options.includes(word));
    const options = {
      ...{ json: has('-json', '-j'), oneline: has('-oneline') },
      family: has('-4') ? '4' : has('-6') ? '6' : '',
    };
    if (!has('-batch', '-b')) return yield this.network.ask(words.slice(from), options);
    if (input === undefined || words.slice(from).join() !== '-') throw new NotKnown(`ip ${words.join(' ')}`);
    let isRefused = false;
    for (const [index, line] of input.split('\n').entries()) {
      if (line === '') continue;
      try {
        this.beforeLine?.(line);
        yield this.network.ask(line.split(' '), options);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (!has('-force')) throw new Refused(1, `${error.message}\nCommand failed -:${index + 1}`);
        isRefused = true;
      }
    }
    if (isRefused) throw new Refused(1, 'Command failed');
  }

  #launch(argv: Argv): void {
    const [, device = '', address = ''] = /^arping -A -q -c 2 -w 3 -I (\S+) (\S+)$/.exec(argv.join(' ')) ?? [];
    if (
      argv[0] === 'arping' &&
      !this.network.addresses.some((each) => each.device === device && each.local === address)
    )
      throw new NotKnown(`the command ${argv.join(' ')}`);
    this.launched.push([...argv]);
  }

  #which(command: string): string | undefined {
    const path = this.tools.get(command);
    if (path === undefined && !(command in TOOLS) && !ABSENT.includes(command))
      throw new NotKnown(`whether ${command} is there`);
    return path;
  }

  #kernelFile(path: string): string | undefined {
    switch (path) {
      case '/proc/uptime':
        return `${this.uptime.toFixed(2)} 0.00\n`;
      case '/proc/sys/kernel/random/boot_id':
        return `00000000-0000-4000-8000-${`${this.boot}`.padStart(12, '0')}\n`;
      case '/proc/1/root/proc/sys/kernel/random/boot_id':
        return undefined;
      case '/proc/net/ip_tables_names':
        return this.netfilter.backend === 'nft'
          ? ''
          : this.netfilter
              .names()
              .map((name) => `${name}\n`)
              .join('');
      // What the kernel has is built into it.
      case '/proc/modules':
        return '';
      default:
        throw new NotKnown(`the file ${path}`);
    }
  }

  #sysctl(key: string): string | undefined {
    const value = this.network.settings.get(key);
    if (value !== undefined) return value;
    const isConntracks = key.startsWith('net/netfilter/');
    if (isConntracks && !CONNTRACKS.some((each) => each === key)) throw new NotKnown(`the setting ${key}`);
    if (isConntracks) return this.network.settings.has(CONNTRACKS[0]) ? `${this.flows.lines.length}` : undefined;
    const known = [...this.network.settings.keys()].some((each) => each.endsWith(key.replace(/^.*\/conf\/[^/]+/, '')));
    // The latter: what the kernel has is built into it.
    if (known || ['net/bridge/bridge-nf-call-iptables', 'kernel/osrelease'].includes(key)) return undefined;
    throw new NotKnown(`the setting ${key}`);
  }

  #setSysctl(key: string, value: string): void {
    if (this.#sysctl(key) === undefined)
      throw new HostError(
        `setting sysctl ${key.replaceAll('/', '.')} to ${value}`,
        errno('ENOENT', 'no such file or directory'),
      );
    this.network.set(key, value);
  }

  #date = (): string => `Fri May  1 00:${`${Math.floor(this.uptime / 60) % 60}`.padStart(2, '0')}:00 2026`;
}

const isKernels = (path: string): boolean => path.startsWith('/proc/') || path.startsWith('/sys/');

function describeCall(method: Call['method'], args: readonly unknown[]): Call {
  const [first, second] = args;
  const command = Array.isArray(first) ? first.join(' ') : undefined;
  const changes =
    CHANGING.includes(method) ||
    (method === 'run' &&
      /^(ip (-\d )?(-force )?-batch -|ip link set|iptables-restore --noflush|nft delete|perl|conntrack -D|system|nmcli .*(reapply|set|up|load|reload)|busctl .* (Reload|LoadConnections|Reapply) )/.test(
        command ?? '',
      ));
  const about = command ?? (typeof first === 'string' ? first : '');
  const to = method === 'setSysctl' ? ` ${second}` : '';
  return { method, args, what: `${method} ${about}${to}`.slice(0, 200), changes };
}
