// A machine as plans see it, in memory: carries out steps as the kernel would and throws where the kernel would refuse.

import { ipv4, networkOf } from '../../src/base/ipv4.ts';
import type { FirewallStep } from '../../src/dialects/iptables.ts';
import { toolOf } from '../../src/network/kinds.ts';
import type { ObservedLink } from '../../src/network/nics.ts';
import type { Observation } from '../../src/network/observation.ts';
import {
  type Address,
  addressKey,
  CHAIN_PREFIX,
  emptyState,
  type File,
  isOurFile,
  type NetworkState,
  type Route,
  routeKey,
  type TableName,
} from '../../src/network/state.ts';
import type { Step, StepKind, StepOf } from '../../src/network/step.ts';

export const emptyObservation: Observation = {
  links: [],
  state: emptyState,
  hooks: [],
  owned: new Set(),
  ownedRoutes: new Set(),
  claims: [],
  managers: new Map(),
  strays: [],
  unreadable: [],
  onManaged: [],
  adopted: new Set(),
  kept: new Set(),
  lost: [],
  emptied: new Set(),
  portRoutes: [],
  cutOff: [],
  onBridges: [],
  moved: new Set(),
  hearing: new Set(),
};

export const isFirewallStep = (step: Step): step is FirewallStep => toolOf(step) === 'iptables';

const HOOKS = {
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
} as const;

export class Machine {
  readonly links = new Map<string, ObservedLink>();
  readonly sysctls = new Map<string, string>();
  readonly files = new Map<string, File>();
  addresses: Address[] = [];
  routes: Route[] = [];
  /** Keys: `filter FORWARD`. Built-in chains and ours; foreign ones play no part. */
  readonly chains = new Map<string, string[]>();
  /** Addresses recorded as ours; grows before a plan is carried out. */
  owned = new Set<string>();
  /** From the first rule on that needs it. */
  #hasConntrack = false;

  constructor(links: readonly ObservedLink[]) {
    for (const link of links) this.links.set(link.device, { ...link });
    for (const table of ['mangle', 'filter', 'nat'] as const)
      for (const hook of HOOKS[table]) this.chains.set(`${table} ${hook}`, []);
  }

  rules(key: string): string[] {
    return this.chains.get(key) ?? refuse(`no chain ${key}`);
  }

  /** Empty where the kernel has no such setting: those of conntrack come with it. */
  sysctl(key: string): string {
    return isConntracks(key) && !this.#hasConntrack ? '' : (this.sysctls.get(key) ?? '0');
  }

  observe(desired: NetworkState): Observation {
    const devices = new Set(desired.links.map(({ device }) => device));
    const tables = [...this.chains].map(([key, rules]) => {
      const [table = '', name = ''] = key.split(' ');
      return { table: table as TableName, name, rules: [...rules] };
    });
    const files = [...this.files.values()];
    return {
      ...emptyObservation,
      links: [...this.links.values()],
      state: {
        ...emptyState,
        sysctls: desired.sysctls.map(({ key }) => ({ key, value: this.sysctl(key) })),
        links: [...this.links.values()]
          .filter(({ device }) => devices.has(device))
          .map(({ device, up, mtu }) => ({ device, up, mtu })),
        addresses: this.addresses.filter(
          (address) => devices.has(address.device) || this.owned.has(addressKey(address)),
        ),
        routes: this.routes,
        chains: tables
          .filter(({ name }) => name.startsWith(CHAIN_PREFIX))
          .map((chain) => ({ ...chain, ordered: true })),
        jumps: [],
        files: files.filter(({ content }) => isOurFile(content)),
        profiles: [],
      },
      hooks: tables
        .filter(({ name }) => !name.startsWith(CHAIN_PREFIX))
        .map(({ table, name, rules }) => ({ table, hook: name, rules })),
      owned: this.owned,
      ownedRoutes: new Set(),
      managers: new Map(),
      claims: files
        .filter(
          ({ path, content }) => !isOurFile(content) && devices.has(/^\/etc\/.*ifcfg-(.+)$/.exec(path)?.[1] ?? ''),
        )
        .map((file) => ({ ...file, to: `/backup${file.path}`, reason: 'foreign' })),
      strays: [],
      onManaged: [],
      adopted: new Set(),
      lost: [],
    };
  }

  /** As `iptables-restore` and `ip -batch` take it: the rules of neighbouring steps are one change. */
  carryOut(steps: readonly Step[], afterEach: (step: Step) => void = () => {}): void {
    for (const [index, step] of steps.entries()) {
      this.#change(step.kind, step);
      const next = steps[index + 1];
      if (!isFirewallStep(step) || next === undefined || !isFirewallStep(next)) {
        this.#checkJumps();
        this.#hasConntrack ||= this.#needsConntrack();
        afterEach(step);
      }
    }
  }

  #change<Kind extends StepKind>(kind: Kind, step: StepOf<Kind>): void {
    this.#changes[kind](step);
  }

  /** What there is none of here cannot be changed. */
  readonly #changes: { readonly [Kind in StepKind]: (step: StepOf<Kind>) => void } = {
    'set-sysctl': ({ key, value }) => {
      if (this.sysctl(key) === '') refuse(`no setting ${key}`);
      this.sysctls.set(key, value);
    },
    'write-file': ({ file }) => {
      this.files.set(file.path, file);
    },
    'remove-file': ({ path }) => {
      if (!this.files.delete(path)) refuse(`no file ${path}`);
    },
    'back-up-file': ({ path, to }) => {
      const file = this.files.get(path) ?? refuse(`no file ${path}`);
      this.files.delete(path);
      this.files.set(to, { ...file, path: to });
    },
    'set-link-up': ({ device }) => {
      this.#link(device).up = true;
    },
    'set-link-down': ({ device }) => {
      this.#link(device).up = false;
    },
    'set-mtu': ({ device, mtu }) => {
      this.#link(device).mtu = mtu;
    },
    'add-bridge': unknown,
    'remove-bridge': unknown,
    'add-port': unknown,
    'remove-port': unknown,
    'remove-port-route': unknown,
    'move-foreign': unknown,
    'remove-advertised': unknown,
    'ask-routers': unknown,
    'add-address': ({ address }) => {
      this.#link(address.device);
      this.addresses = [...this.addresses.filter((each) => addressKey(each) !== addressKey(address)), address];
    },
    'remove-address': ({ address }) => this.#removeAddress(address),
    'add-route': ({ route }) => {
      const { via, device } = route;
      if (!this.#reaches(device, via)) refuse(`gateway ${via} is not reachable by ${device}`);
      this.routes = [route, ...this.routes.filter((each) => routeKey(each) !== routeKey(route))];
    },
    'remove-route': ({ route }) => {
      const rest = this.routes.filter((each) => routeKey(each) !== routeKey(route));
      if (rest.length === this.routes.length) refuse(`no route ${routeKey(route)}`);
      this.routes = rest;
    },
    'add-subnet-route': unknown,
    'load-configuration': unknown,
    'load-profiles': unknown,
    'apply-profile': unknown,
    'forget-profiles': unknown,
    'release-device': unknown,
    'return-device': unknown,
    'put-back': unknown,
    'add-chain': ({ chain }) => {
      this.chains.set(`${chain.table} ${chain.name}`, [...chain.rules]);
    },
    'replace-chain': ({ chain }) => {
      this.chains.set(`${chain.table} ${chain.name}`, [...chain.rules]);
    },
    'edit-chain': ({ table, name, remove, add }) => {
      const rules = this.rules(`${table} ${name}`);
      for (const rule of remove) removeFirst(rules, rule);
      rules.push(...add);
    },
    'remove-chain': ({ table, name }) => {
      if (!this.chains.delete(`${table} ${name}`)) refuse(`no chain ${name}`);
    },
    'add-jump': ({ jump }) => {
      const rules = this.rules(`${jump.table} ${jump.hook}`);
      if (jump.place === 'last') rules.push(jump.rule);
      else rules.unshift(jump.rule);
    },
    'remove-jump': ({ jump }) => removeFirst(this.rules(`${jump.table} ${jump.hook}`), jump.rule),
    'remove-stray-rules': unknown,
    'remove-unreadable-rules': unknown,
    'cut-flows': unknown,
    'announce-addresses': ({ device }) => {
      this.#link(device);
    },
  };

  /** A device that loses its last address loses its routes. */
  #removeAddress(gone: Address): void {
    const rest = this.addresses.filter((address) => addressKey(address) !== addressKey(gone));
    if (rest.length === this.addresses.length) refuse(`no address ${addressKey(gone)}`);
    this.addresses = rest;
    if (!rest.some(({ device }) => device === gone.device))
      this.routes = this.routes.filter(({ device }) => device !== gone.device);
  }

  #reaches(device: string, gateway: string): boolean {
    return this.addresses.some(({ device: on, spec }) => {
      const [address = '', prefix] = spec.split('/');
      return (
        on === device && networkOf(ipv4(address), Number(prefix)).base === networkOf(ipv4(gateway), Number(prefix)).base
      );
    });
  }

  #link(device: string): ObservedLink {
    return this.links.get(device) ?? refuse(`no device ${device}`);
  }

  #needsConntrack(): boolean {
    return [...this.chains].some(
      ([key, rules]) =>
        (key.startsWith('nat ') && rules.length > 0) || rules.some((rule) => rule.includes('-m conntrack')),
    );
  }

  #checkJumps(): void {
    for (const [key, rules] of this.chains) {
      const [table] = key.split(' ', 1);
      for (const rule of rules) {
        const target = /(?:^| )-j (KYLIN-VR[^ "]*)$/.exec(rule)?.[1];
        if (target !== undefined && !this.chains.has(`${table} ${target}`))
          refuse(`${key} jumps to ${target}, which is not there`);
      }
    }
  }
}

const isConntracks = (key: string): boolean => key.startsWith('net/netfilter/');

const unknown = ({ kind }: Step): never => refuse(`it knows no ${kind}`);

/** What `iptables -D` does. */
function removeFirst(rules: string[], rule: string): void {
  const index = rules.indexOf(rule);
  if (index === -1) refuse(`no rule ${rule}`);
  rules.splice(index, 1);
}

function refuse(reason: string): never {
  throw new Error(`the machine refuses: ${reason}`);
}
