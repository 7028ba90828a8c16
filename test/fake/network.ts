// The kernel's network in memory, for IPv4: links, addresses, routes and settings, as `ip` changes and prints them. What the kernel does
// by itself it does, too: routes come and go with addresses and links, and secondary addresses with their first one.

import { ipv4 } from '../../src/base/ipv4.ts';
import { NotKnown, Refused } from './refused.ts';

export type Link = {
  index: number;
  device: string;
  mac: string;
  mtu: number;
  up: boolean;
  /** Has been up: it has a queue since. */
  used: boolean;
  loopback?: true;
};

type Address = {
  device: string;
  local: string;
  prefix: number;
  scope: string;
  secondary: boolean;
  proto?: string;
};

type RouteEntry = {
  table: 'main' | 'local';
  type: 'unicast' | 'local' | 'broadcast';
  /** `default`, `10.0.0.0/8`, `10.0.0.1`. */
  dest: string;
  via?: string;
  device: string;
  proto: string;
  scope: string;
  metric: number;
  source?: string;
};

export type Neighbour = { dst: string; device: string; mac: string; state: 'PERMANENT' | 'NOARP' };

/** Of each link, and of `all` and `default`: what a new network namespace has. */
const SETTINGS: Readonly<Record<string, string>> = {
  accept_redirects: '1',
  arp_announce: '0',
  arp_ignore: '0',
  arp_notify: '0',
  forwarding: '0',
  promote_secondaries: '0',
  rp_filter: '0',
  send_redirects: '1',
};

const IPV6_SETTINGS: Readonly<Record<string, string>> = { accept_ra: '1', disable_ipv6: '0', forwarding: '0' };

/** In iproute2's rt_protos, and for the others the number. */
const PROTOCOLS: Readonly<Record<string, string>> = { '2': 'kernel', '3': 'boot', '4': 'static', '16': 'dhcp' };

/** As batches say them, which are given numbers. */
const SCOPES: Readonly<Record<string, string>> = { '0': 'global', '253': 'link', '254': 'host' };

const FOREVER = 4294967295;

export class Network {
  links: Link[] = [];
  addresses: Address[] = [];
  routes: RouteEntry[] = [];
  neighbours: Neighbour[] = [];
  readonly settings = new Map<string, string>();
  /** Settings of links that somebody has made; of one that has had an address all of them count as such. */
  #made = new Set<string>();
  #numbers = 0;

  constructor() {
    for (const name of ['all', 'default']) this.#addSettings(name);
    this.settings.set('net/ipv4/ip_forward', '0');
    this.links.push({
      ...{ index: ++this.#numbers, device: 'lo', mac: '00:00:00:00:00:00', mtu: 65536, up: false, used: false },
      loopback: true,
    });
    this.#addSettings('lo');
    this.#change(['link', 'set', 'lo', 'up']);
    this.#change('address add 127.0.0.1/8 dev lo scope host'.split(' '));
  }

  takeFrom(other: Network): void {
    [this.links, this.addresses, this.routes, this.neighbours] = structuredClone([
      other.links,
      other.addresses,
      other.routes,
      other.neighbours,
    ]);
    this.settings.clear();
    for (const [key, value] of other.settings) this.settings.set(key, value);
    this.#made = new Set(other.#made);
    this.#numbers = other.#numbers;
  }

  /** As a hypervisor does it. */
  plug(device: string, mac: string): void {
    this.links.push({ index: ++this.#numbers, device, mac, mtu: 1500, up: false, used: false });
    this.#addSettings(device);
  }

  unplug(device: string): void {
    this.#link(device);
    this.links = this.links.filter((link) => link.device !== device);
    this.addresses = this.addresses.filter((address) => address.device !== device);
    this.routes = this.routes.filter((route) => route.device !== device);
    this.neighbours = this.neighbours.filter((neighbour) => neighbour.device !== device);
    for (const key of this.settings.keys()) if (key.includes(`/conf/${device}/`)) this.settings.delete(key);
  }

  #addSettings(name: string): void {
    for (const [family, settings] of [
      ['ipv4', SETTINGS],
      ['ipv6', IPV6_SETTINGS],
    ] as const)
      for (const [setting, value] of Object.entries(settings))
        this.settings.set(
          `net/${family}/conf/${name}/${setting}`,
          this.settings.get(`net/${family}/conf/default/${setting}`) ?? value,
        );
  }

  /** `key` is one of those that are there. */
  set(key: string, value: string): void {
    this.settings.set(key, value);
    this.#made.add(key);
    const [, setting] = /^net\/ipv4\/conf\/default\/(\w+)$/.exec(key) ?? [];
    if (setting !== undefined && setting !== 'forwarding') this.#followDefault(setting, value);
    if (key !== 'net/ipv4/ip_forward' && key !== 'net/ipv4/conf/all/forwarding') return;
    this.settings.set('net/ipv4/ip_forward', value);
    for (const each of this.settings.keys())
      if (/^net\/ipv4\/conf\/[^/]+\/forwarding$/.test(each)) this.settings.set(each, value);
  }

  /** Links take it over where nobody has said otherwise (devinet_copy_dflt_conf). */
  #followDefault(setting: string, value: string): void {
    for (const { device } of this.links) {
      const own = `net/ipv4/conf/${device}/${setting}`;
      if (!this.#made.has(own)) this.settings.set(own, value);
    }
  }

  /** One line of `ip -batch`, or the words of one command. Gives what it prints. */
  ask(words: readonly string[], { json = false, oneline = false, family = '' } = {}): string {
    const [object, verb, ...rest] = words;
    if (object === 'route' && verb === 'get') return `${JSON.stringify([this.#led(rest.join(' '))])}\n`;
    if (verb !== 'show') {
      this.#change(words);
      return '';
    }
    const asked = [...(family === '' ? [] : [`-${family}`]), object, ...rest].join(' ');
    switch (asked) {
      case 'address':
        if (json) return `${JSON.stringify(this.links.map((link) => this.#described(link, true)))}\n`;
        break;
      case '-4 address':
        if (oneline) return this.addresses.map((address) => `${this.#inWords(address)}\n`).join('');
        break;
      case 'link':
        if (json) return `${JSON.stringify(this.links.map((link) => this.#described(link, false)))}\n`;
        break;
      case 'route table main':
        if (json) return `${JSON.stringify(this.#inOrder('main').map(routeAsJson))}\n`;
        break;
      case '-4 route table all':
        if (oneline) return [...this.#inOrder('main'), ...this.#inOrder('local')].map(routeInWords).join('');
        break;
      case '-6 route table all':
        // The kernel makes some by itself, which nobody is told of (scene.ts).
        if (oneline) return '';
        break;
      case '-4 route table local':
      case 'route table local':
        return this.#inOrder('local').map(localInWords).join('');
      case 'neighbour nud permanent nud noarp':
        if (json) return `${JSON.stringify(this.neighbours.map(neighbourAsJson))}\n`;
        break;
      case 'neighbour proxy':
        if (json) return '[]\n';
        break;
      case 'rule':
      case '-4 rule':
      case '-6 rule':
        return ['0:\tfrom all lookup local', '32766:\tfrom all lookup main', '32767:\tfrom all lookup default']
          .filter((line) => family !== '6' || !line.includes('default'))
          .map((line) => `${line}\n`)
          .join('');
    }
    throw new NotKnown(`ip ${asked} show${json ? ', as JSON' : ''}${oneline ? ', on one line' : ''}`);
  }

  #change(words: readonly string[]): void {
    const line = words.join(' ');
    const [object, verb] = words;
    if (object === 'link' && verb === 'set') this.#setLink(line);
    else if (object === 'address') this.#changeAddress(line);
    else if (object === 'route') this.#changeRoute(line);
    else if (object === 'neighbour') this.#changeNeighbour(line);
    else throw new NotKnown(`ip ${line}`);
  }

  /** Where a packet from elsewhere is led to. */
  #led(asked: string): object {
    const [, to, from, iif] = /^(\S+) from (\S+) iif (\S+)$/.exec(asked) ?? [];
    if (to === undefined || from === undefined || iif === undefined || !this.#isOn(iif, 'forwarding'))
      throw new NotKnown(`ip route get ${asked}, or on a link that forwards nothing`);
    const [way] = this.routes
      .filter(({ dest, type }) => holds(dest, to) && type !== 'broadcast')
      .sort(
        (one, other) =>
          Number(one.table === 'main') - Number(other.table === 'main') ||
          prefixOf(other.dest) - prefixOf(one.dest) ||
          one.metric - other.metric,
      );
    if (way === undefined) throw new Refused(2, 'RTNETLINK answers: Network is unreachable');
    if (way.type === 'local') return { type: 'local', dst: to, from, dev: 'lo', flags: [], cache: ['local'], iif };
    const { via, device } = way;
    const isBack =
      device === iif && this.addresses.some((each) => each.device === iif && isWithOne(each, from, each.prefix));
    const cache = isBack && this.#isOn(iif, 'send_redirects', 'all') ? ['redirect'] : [];
    return { dst: to, from, ...(via !== undefined && { gateway: via }), dev: device, flags: [], cache, iif };
  }

  /** On the link, or on that one. */
  #isOn = (device: string, setting: string, ...others: string[]): boolean =>
    [device, ...others].some((name) => this.settings.get(`net/ipv4/conf/${name}/${setting}`) === '1');

  #setLink(line: string): void {
    const [, device = '', what, value] = /^link set (?:dev )?(\S+) (up|down|mtu|address)(?: (\S+))?$/.exec(line) ?? [];
    if (what === undefined) throw new NotKnown(`ip ${line}`);
    const link = this.#link(device);
    const before = this.#fromKernel(device);
    if (what === 'address') {
      link.mac = value ?? '';
    } else if (what === 'mtu') {
      if (Number(value) < 68 || Number(value) > 65535) throw new Refused(2, 'Error: mtu greater than device maximum.');
      link.mtu = Number(value);
    } else {
      link.up = what === 'up';
      link.used ||= link.up;
      // What is the machine's own stays, on whatever link.
      if (!link.up) this.routes = this.routes.filter((route) => route.device !== device || route.type === 'local');
      this.#follow(device, before);
    }
  }

  #changeAddress(line: string): void {
    const [, verb, spec = '', options = ''] = /^address (replace|add|delete) (\S+)(?: (.*))?$/.exec(line) ?? [];
    if (verb === undefined) throw new NotKnown(`ip ${line}`);
    const { dev: device = '', proto, scope = 'global', ...more } = optionsIn(options);
    if (Object.keys(more).some((option) => !['brd', 'label', 'valid_lft', 'preferred_lft'].includes(option)))
      throw new NotKnown(`ip ${line}`);
    this.#link(device);
    const [local = '', prefix = '32'] = spec.split('/');
    const on = this.addresses.filter((address) => address.device === device);
    const found = on.find((address) => address.local === local && address.prefix === Number(prefix));
    const before = this.#fromKernel(device);
    if (verb === 'delete') {
      if (found === undefined) throw new Refused(2, 'RTNETLINK answers: Cannot assign requested address');
      this.#remove(found);
      this.#follow(device, before);
      this.#forget(found.local);
      if (on.length === 1) this.routes = this.routes.filter((route) => route.device !== device);
      return;
    }
    if (found !== undefined) {
      if (verb === 'add') throw new Refused(2, 'RTNETLINK answers: File exists');
      return;
    }
    const secondary = on.some((address) => isFirstOf(address, { device, local, prefix: Number(prefix) }));
    const added = {
      ...{ device, local, prefix: Number(prefix), scope: SCOPES[scope] ?? scope, secondary },
      ...(proto !== undefined && { proto }),
    };
    const rest = this.addresses.filter((address) => address.device !== device);
    const first = on.filter((address) => !address.secondary);
    const others = on.filter((address) => address.secondary);
    for (const key of this.settings.keys()) if (key.startsWith(`net/ipv4/conf/${device}/`)) this.#made.add(key);
    this.addresses = [...rest, ...(secondary ? [...on, added] : [...first, added, ...others])];
    this.#follow(device, before);
  }

  /** The next one of the same network takes the place of the first, where the kernel is told so; else they all go. */
  #remove(gone: Address): void {
    this.addresses = this.addresses.filter((address) => address !== gone);
    if (gone.secondary) return;
    const isIts = (address: Address) =>
      address.secondary && address.device === gone.device && isWithOne(gone, address.local, address.prefix);
    const promotes = this.#isOn(gone.device, 'promote_secondaries', 'all');
    const next = this.addresses.find(isIts);
    if (next === undefined) return;
    if (!promotes) {
      const lost = this.addresses.filter(isIts);
      this.addresses = this.addresses.filter((address) => !isIts(address));
      for (const { local } of lost) this.#forget(local);
      return;
    }
    const last = this.addresses.findLastIndex((address) => address.device === gone.device && !address.secondary);
    const rest = this.addresses.filter((address) => address !== next);
    const at = last === -1 ? rest.findIndex(({ device }) => device === gone.device) : last + 1;
    this.addresses = rest.toSpliced(at === -1 ? rest.length : at, 0, { ...next, secondary: false });
  }

  /** Routes that an address was the source of go with it. */
  #forget(local: string): void {
    if (this.addresses.some((address) => address.local === local)) return;
    this.routes = this.routes.filter((route) => route.source !== local);
  }

  #changeRoute(line: string): void {
    const [, verb, type = 'unicast', word = '', options = ''] =
      /^route (prepend|append|add|replace|delete) (?:(unicast|local|broadcast) )?(\S+)(?: (.*))?$/.exec(line) ?? [];
    if (verb === undefined || type !== 'unicast') throw new NotKnown(`ip ${line}`);
    const { via, dev: device = '', proto = 'boot', metric = '0', src, scope, ...more } = optionsIn(options);
    if (Object.keys(more).length > 0) throw new NotKnown(`ip ${line}`);
    const route: RouteEntry = {
      table: 'main',
      type: 'unicast',
      dest: word === '0.0.0.0/0' ? 'default' : word.replace(/\/32$/, ''),
      ...(via !== undefined && { via }),
      device,
      proto: PROTOCOLS[proto] ?? proto,
      scope: scope === undefined ? (via === undefined ? 'link' : 'global') : (SCOPES[scope] ?? scope),
      metric: Number(metric),
      ...(src !== undefined && { source: src }),
    };
    if (verb === 'delete') {
      this.#deleteRoute(route, options);
      return;
    }
    this.#check(route);
    const alike = this.routes.filter((each) => placeOf(each) === placeOf(route));
    if (verb === 'add' && alike.length > 0) throw new Refused(2, 'RTNETLINK answers: File exists');
    if (alike.some((each) => JSON.stringify(each) === JSON.stringify(route))) {
      if (verb === 'replace') return;
      throw new Refused(2, 'RTNETLINK answers: File exists');
    }
    const [first] = alike;
    const last = alike.at(-1);
    if (first === undefined || last === undefined) this.routes.push(route);
    else if (verb === 'append') this.routes.splice(this.routes.indexOf(last) + 1, 0, route);
    else this.routes.splice(this.routes.indexOf(first), verb === 'replace' ? 1 : 0, route);
  }

  #deleteRoute(route: RouteEntry, options: string): void {
    const given = optionsIn(options);
    const found = this.routes.find(
      (each) =>
        each.table === 'main' &&
        each.dest === route.dest &&
        (given.via === undefined || each.via === route.via) &&
        (given.dev === undefined || each.device === route.device) &&
        (given.proto === undefined || each.proto === route.proto) &&
        (given.metric === undefined || each.metric === route.metric) &&
        (given.src === undefined || each.source === route.source) &&
        (given.scope === undefined || each.scope === route.scope),
    );
    if (found === undefined) throw new Refused(2, 'RTNETLINK answers: No such process');
    this.routes = this.routes.filter((each) => each !== found);
  }

  #check({ device, via, source }: RouteEntry): void {
    if (!this.#link(device).up) throw new Refused(2, 'Error: Device for nexthop is not up.');
    if (source !== undefined && !this.addresses.some(({ local }) => local === source))
      throw new Refused(2, 'Error: Invalid prefsrc address.');
    if (via === undefined) return;
    const way = this.routes
      .filter(({ table, dest }) => table === 'main' && holds(dest, via))
      .sort((one, other) => prefixOf(other.dest) - prefixOf(one.dest))
      .find((route) => route.device === device);
    if (way === undefined || way.via !== undefined) throw new Refused(2, 'Error: Nexthop has invalid gateway.');
  }

  #changeNeighbour(line: string): void {
    const [, verb, dst = '', options = ''] = /^neighbour (replace|add|delete) (\S+) (.*)$/.exec(line) ?? [];
    const { lladdr, dev: device = '', nud = 'permanent', ...more } = optionsIn(options);
    if (verb === undefined || nud !== 'permanent' || Object.keys(more).length > 0) throw new NotKnown(`ip ${line}`);
    this.#link(device);
    this.neighbours = this.neighbours.filter((each) => each.dst !== dst || each.device !== device);
    if (verb !== 'delete') this.neighbours.push({ dst, device, mac: lladdr ?? '', state: 'PERMANENT' });
  }

  #link(device: string): Link {
    const link = this.links.find((each) => each.device === device);
    if (link === undefined) throw new Refused(1, `Cannot find device "${device}"`);
    return link;
  }

  /** The routes that the kernel makes for the addresses of a link as it is. */
  #fromKernel(device: string): RouteEntry[] {
    const link = this.#link(device);
    return this.addresses
      .filter((address) => address.device === device)
      .flatMap(({ local, prefix, secondary, scope }): RouteEntry[] => {
        const first = secondary ? this.addresses.find((each) => isFirstOf(each, { device, local, prefix })) : undefined;
        const made = { device, proto: 'kernel', metric: 0, source: first?.local ?? local };
        const own: RouteEntry = { table: 'local', type: 'local', dest: local, scope: 'host', ...made };
        const base = { table: 'local', type: 'broadcast', scope: 'link', ...made } as const;
        const network = networkText(local, prefix);
        if (link.loopback) return [{ ...own, dest: network }, own, { ...base, dest: lastOf(local, prefix) }];
        if (!link.up || secondary || prefix === 32) return [own];
        const subnet: RouteEntry = { table: 'main', type: 'unicast', dest: network, scope: 'link', ...made };
        return [
          own,
          { ...subnet, scope: scope === 'global' ? 'link' : scope },
          ...(prefix < 31 ? [{ ...base, dest: lastOf(local, prefix) }] : []),
        ];
      });
  }

  /** What somebody took away of them before stays away. */
  #follow(device: string, before: readonly RouteEntry[]): void {
    const keyOf = (route: RouteEntry) => JSON.stringify(route);
    const after = this.#fromKernel(device);
    const [was, is] = [new Set(before.map(keyOf)), new Set(after.map(keyOf))];
    this.routes = this.routes.filter((route) => !was.has(keyOf(route)) || is.has(keyOf(route)));
    const there = new Set(this.routes.map(keyOf));
    this.routes.push(...after.filter((route) => !was.has(keyOf(route)) && !there.has(keyOf(route))));
  }

  /** By destination, the longer prefix first; of one destination by metric, and then as they came. */
  #inOrder(table: RouteEntry['table']): RouteEntry[] {
    return this.routes
      .filter((route) => route.table === table)
      .sort(
        (one, other) =>
          baseOf(one.dest) - baseOf(other.dest) ||
          prefixOf(other.dest) - prefixOf(one.dest) ||
          one.metric - other.metric,
      );
  }

  #described(link: Link, withAddresses: boolean): object {
    const { index, device, mac, mtu, up, used, loopback } = link;
    const kind = loopback
      ? { flags: ['LOOPBACK'], type: 'loopback', broadcast: mac, state: 'UNKNOWN', queues: 1 }
      : { flags: ['BROADCAST', 'MULTICAST'], type: 'ether', broadcast: 'ff:ff:ff:ff:ff:ff', state: 'UP', queues: 2 };
    const sizes = { gso_max_size: 65536, gso_max_segs: 65535, tso_max_size: 524280, tso_max_segs: 65535 };
    return {
      ifindex: index,
      ifname: device,
      flags: [...kind.flags, ...(up ? ['UP', 'LOWER_UP'] : [])],
      mtu,
      qdisc: used ? 'noqueue' : 'noop',
      operstate: up ? kind.state : 'DOWN',
      ...(!withAddresses && { linkmode: 'DEFAULT' }),
      ...{ group: 'default', txqlen: 1000, link_type: kind.type, address: mac, broadcast: kind.broadcast },
      ...(withAddresses && {
        ...{ promiscuity: 0, allmulti: 0, min_mtu: loopback ? 0 : 68, max_mtu: loopback ? 0 : 65535 },
        ...(!loopback && { linkinfo: { info_kind: 'veth' } }),
        ...{ num_tx_queues: kind.queues, num_rx_queues: kind.queues, ...sizes, gro_max_size: 65536 },
        addr_info: this.addresses.filter((address) => address.device === device).map(addressAsJson),
      }),
    };
  }

  #inWords({ device, local, prefix, scope, secondary }: Address): string {
    const number = this.#link(device).index;
    return `${number}: ${device}    inet ${local}/${prefix} scope ${scope}${secondary ? ' secondary' : ''} ${device}\\       valid_lft forever preferred_lft forever`;
  }
}

const addressAsJson = ({ device, local, prefix, scope, secondary, proto }: Address): object => ({
  ...{ family: 'inet', local, prefixlen: prefix, scope },
  ...(secondary && { secondary }),
  ...(proto !== undefined && { protocol: proto }),
  ...{ label: device, valid_life_time: FOREVER, preferred_life_time: FOREVER },
});

const routeAsJson = ({ type, dest, via, device, proto, scope, source, metric }: RouteEntry): object => ({
  ...{ type, dst: dest },
  ...(via !== undefined && { gateway: via }),
  ...{ dev: device, protocol: proto, scope },
  ...(source !== undefined && { prefsrc: source }),
  ...(metric !== 0 && { metric }),
  flags: [],
});

const routeInWords = ({ table, type, dest, via, device, proto, scope, source, metric }: RouteEntry): string =>
  `${type} ${dest}${via === undefined ? '' : ` via ${via}`} dev ${device} table ${table} proto ${proto} scope ${scope}` +
  `${source === undefined ? '' : ` src ${source}`}${metric === 0 ? '' : ` metric ${metric}`} \n`;

const localInWords = ({ type, dest, device, proto, scope, source }: RouteEntry): string =>
  `${type} ${dest} dev ${device} proto ${proto} scope ${scope} src ${source} \n`;

const neighbourAsJson = ({ dst, device, mac, state }: Neighbour): object => ({
  ...{ dst, dev: device, lladdr: mac, state: [state] },
});

/** Each is a word and its value. */
function optionsIn(text: string): Record<string, string> {
  const words = text.split(' ').filter((word) => word !== '');
  const options: Record<string, string> = {};
  for (let at = 0; at < words.length; at += 2) options[words[at] ?? ''] = words[at + 1] ?? '';
  return options;
}

const placeOf = ({ table, dest, metric }: RouteEntry): string => `${table} ${dest} ${metric}`;

const addressOf = (dest: string): string => (dest === 'default' ? '0.0.0.0' : (dest.split('/')[0] ?? ''));

const baseOf = (dest: string): number => ipv4(addressOf(dest));

const prefixOf = (dest: string): number => (dest === 'default' ? 0 : Number(dest.split('/')[1] ?? 32));

const masked = (address: string, prefix: number): number =>
  Math.floor(ipv4(address) / 2 ** (32 - prefix)) * 2 ** (32 - prefix);

const textOf = (address: number): string =>
  [24, 16, 8, 0].map((bits) => Math.floor(address / 2 ** bits) % 256).join('.');

const networkText = (local: string, prefix: number): string => `${textOf(masked(local, prefix))}/${prefix}`;

const lastOf = (local: string, prefix: number): string => textOf(masked(local, prefix) + 2 ** (32 - prefix) - 1);

const holds = (dest: string, address: string): boolean => masked(address, prefixOf(dest)) === baseOf(dest);

const isFirstOf = (each: Address, { device, local, prefix }: Pick<Address, 'device' | 'local' | 'prefix'>): boolean =>
  !each.secondary && each.device === device && isWithOne(each, local, prefix);

const isWithOne = (first: Address, local: string, prefix: number): boolean =>
  first.prefix === prefix && masked(first.local, prefix) === masked(local, prefix);
