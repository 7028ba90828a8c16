// A machine as plans see it, in memory: carries out steps as the kernel would and throws where the kernel would refuse.

import type { FirewallStep } from '../../src/dialects/iptables.ts';
import { ipv4, networkOf } from '../../src/network/ipv4.ts';
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
import type { Step } from '../../src/network/step.ts';

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

const FIREWALL: readonly string[] = [
  'add-chain',
  'replace-chain',
  'edit-chain',
  'remove-chain',
  'add-jump',
  'remove-jump',
];
export const isFirewallStep = (step: Step): step is FirewallStep => FIREWALL.includes(step.kind);

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
      if (isFirewallStep(step)) this.#changeRules(step);
      else this.#change(step);
      const next = steps[index + 1];
      if (!isFirewallStep(step) || next === undefined || !isFirewallStep(next)) {
        this.#checkJumps();
        this.#hasConntrack ||= this.#needsConntrack();
        afterEach(step);
      }
    }
  }

  #change(step: Exclude<Step, FirewallStep>): void {
    switch (step.kind) {
      case 'set-sysctl':
        if (this.sysctl(step.key) === '') refuse(`no setting ${step.key}`);
        this.sysctls.set(step.key, step.value);
        return;
      case 'write-file':
        this.files.set(step.file.path, step.file);
        return;
      case 'remove-file':
        if (!this.files.delete(step.path)) refuse(`no file ${step.path}`);
        return;
      case 'back-up-file': {
        const file = this.files.get(step.path) ?? refuse(`no file ${step.path}`);
        this.files.delete(step.path);
        this.files.set(step.to, { ...file, path: step.to });
        return;
      }
      case 'set-link-up':
      case 'set-link-down':
        this.#link(step.device).up = step.kind === 'set-link-up';
        return;
      case 'set-mtu':
        this.#link(step.device).mtu = step.mtu;
        return;
      case 'add-address':
        this.#link(step.address.device);
        this.addresses = [
          ...this.addresses.filter((address) => addressKey(address) !== addressKey(step.address)),
          step.address,
        ];
        return;
      case 'remove-address':
        this.#removeAddress(step.address);
        return;
      case 'add-route': {
        const { via, device } = step.route;
        if (!this.#reaches(device, via)) refuse(`gateway ${via} is not reachable by ${device}`);
        this.routes = [step.route, ...this.routes.filter((route) => routeKey(route) !== routeKey(step.route))];
        return;
      }
      case 'remove-route': {
        const rest = this.routes.filter((route) => routeKey(route) !== routeKey(step.route));
        if (rest.length === this.routes.length) refuse(`no route ${routeKey(step.route)}`);
        this.routes = rest;
        return;
      }
      case 'cut-flows':
      case 'announce-addresses':
      case 'remove-stray-rules':
      case 'put-back':
        return;
    }
  }

  #changeRules(step: FirewallStep): void {
    switch (step.kind) {
      case 'add-chain':
      case 'replace-chain':
        this.chains.set(`${step.chain.table} ${step.chain.name}`, [...step.chain.rules]);
        return;
      case 'edit-chain': {
        const rules = this.rules(`${step.table} ${step.name}`);
        for (const rule of step.remove) removeFirst(rules, rule);
        rules.push(...step.add);
        return;
      }
      case 'remove-chain':
        if (!this.chains.delete(`${step.table} ${step.name}`)) refuse(`no chain ${step.name}`);
        return;
      case 'add-jump': {
        const rules = this.rules(`${step.jump.table} ${step.jump.hook}`);
        if (step.jump.place === 'last') rules.push(step.jump.rule);
        else rules.unshift(step.jump.rule);
        return;
      }
      case 'remove-jump':
        removeFirst(this.rules(`${step.jump.table} ${step.jump.hook}`), step.jump.rule);
    }
  }

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

/** What `iptables -D` does. */
function removeFirst(rules: string[], rule: string): void {
  const index = rules.indexOf(rule);
  if (index === -1) refuse(`no rule ${rule}`);
  rules.splice(index, 1);
}

function refuse(reason: string): never {
  throw new Error(`the machine refuses: ${reason}`);
}
