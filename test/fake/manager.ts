// NetworkManager in memory, as far as it is used: profiles in keyfiles, devices that it has or leaves alone, and what nmcli and busctl say.
// What it carries out it does at once; that it takes its time is for the real one (test/networkmanager).

import { isUnmanagedBy, unmanagedAfter } from '../../src/dialects/unmanaged.ts';
import type { Files } from './files.ts';
import type { Network } from './network.ts';
import { NotKnown, Refused } from './refused.ts';

const FOLDER = '/etc/NetworkManager/system-connections';
const CONFIGURATION = '/etc/NetworkManager/conf.d';
export const BUS = '/run/dbus/system_bus_socket';
/** Where its tools are, of a Debian 12. */
export const MANAGER_TOOLS = {
  nmcli: '/usr/bin/nmcli',
  busctl: '/usr/bin/busctl',
  NetworkManager: '/usr/sbin/NetworkManager',
} as const;

type Profile = { path: string; uuid: string; mac?: string; device?: string; addresses: string[]; routes: string[] };

/** `profile`: its text as it was applied. Without one, and not external, it waits for a profile. */
type Device = { isLeft: boolean; profile?: Profile; isExternal: boolean };

/** As nmcli ends: where the daemon refuses, and where a profile or a device is not known. */
const REFUSED = 6;
const UNKNOWN = 10;

export class Manager {
  readonly #files: Files;
  #network: Network;
  #profiles = new Map<string, Profile>();
  #devices = new Map<string, Device>();
  #specs: readonly string[] = [];

  constructor(files: Files, network: Network) {
    this.#files = files;
    this.#network = network;
    files.put(BUS, '');
    files.putFolder(FOLDER, 0o700);
    files.putFolder(CONFIGURATION);
    this.start(network);
  }

  /** With the machine, or anew: what is there is found, and what a profile is for gets it. */
  start(network: Network): void {
    this.#network = network;
    this.#devices.clear();
    this.#profiles.clear();
    this.#readConfiguration();
    for (const path of this.#files.below(FOLDER)) this.#load(path);
    for (const { device } of network.links) if (device !== 'lo') this.#find(device);
  }

  takeFrom(other: Manager): void {
    this.#profiles = structuredClone(other.#profiles);
    this.#devices = structuredClone(other.#devices);
    this.#specs = [...other.#specs];
  }

  /** What busctl and nmcli print. */
  answer(argv: readonly string[]): string {
    const words = argv.slice(1).join(' ');
    return argv[0] === 'nmcli' ? this.#nmcli(words) : this.#busctl(words);
  }

  #nmcli(words: string): string {
    const [, device = ''] = /(?:ifname|reapply|device set) (\S+)/.exec(words) ?? [];
    switch (words.replace(/ \/\S+/g, ' FILE').replace(device === '' ? /$^/ : device, 'DEVICE')) {
      case '--terse --fields DEVICE,STATE,CON-UUID device status':
        return [...this.#devices].map(([name, each]) => `${name}:${stateOf(each)}\n`).join('');
      case '--terse --get-values RUNNING general':
        return 'running\n';
      case 'general reload conf':
        this.#readConfiguration();
        return '';
      case 'device set DEVICE managed no':
        this.#known(device).isLeft = true;
        return '';
      case 'device set DEVICE managed yes':
        return this.#find(device);
      case 'device reapply DEVICE':
        return this.#reapply(device);
    }
    const [, uuid] = /^--wait 20 connection up uuid (\S+) ifname \S+$/.exec(words) ?? [];
    if (uuid !== undefined) return this.#activate(device, uuid);
    const [, verb, paths = ''] = /^connection (load|reload)((?: \/\S+)*)$/.exec(words) ?? [];
    if (verb === undefined) throw new NotKnown(`nmcli ${words}`);
    return this.#read(verb === 'load' ? paths.trim().split(' ') : undefined);
  }

  #busctl(words: string): string {
    const [, path, method, given = ''] =
      /^--auto-start=no call org\.freedesktop\.NetworkManager (\S+) \S+ (\S+) ?(.*)$/.exec(words) ?? [];
    switch (method) {
      case 'Reload':
        this.#readConfiguration();
        return '';
      case 'LoadConnections':
        this.#read(given.split(' ').slice(2));
        return 'bas true 0\n';
      case 'GetDeviceByIpIface': {
        const name = given.replace('s ', '');
        this.#known(name);
        return `o "/org/freedesktop/NetworkManager/Devices/${name}"\n`;
      }
      case 'Reapply':
        this.#reapply(path?.replace(/^.*\//, '') ?? '', true);
        return '';
    }
    throw new NotKnown(`busctl ${words}`);
  }

  #known(device: string): Device {
    const found = this.#devices.get(device);
    if (found === undefined) throw new Refused(UNKNOWN, `Error: Device '${device}' not found.`);
    return found;
  }

  /** One that it has again, or for the first time: what is on it stays. */
  #find(name: string): string {
    const link = this.#network.links.find(({ device }) => device === name);
    if (link === undefined) throw new Refused(UNKNOWN, `Error: Device '${name}' not found.`);
    const isLeft = isUnmanagedBy(this.#specs, { device: name, mac: link.mac });
    const profile = isLeft ? undefined : this.#profileFor(name);
    const isExternal = profile === undefined && this.#network.addresses.some(({ device }) => device === name);
    this.#devices.set(name, { isLeft, isExternal, ...(profile && { profile }) });
    if (isLeft) return '';
    if (!link.up) this.#ip(`link set dev ${name} up`);
    for (const setting of ['rp_filter', 'promote_secondaries']) this.#keep(`net/ipv4/conf/${name}/${setting}`);
    if (profile !== undefined) this.#apply(name, profile, true);
    return '';
  }

  /** It writes what is there. */
  #keep(key: string): void {
    this.#network.set(key, this.#network.settings.get(key) ?? '');
  }

  #profileFor(name: string): Profile | undefined {
    const mac = this.#network.links.find(({ device }) => device === name)?.mac;
    return [...this.#profiles.values()].find(
      (each) => each.device === name || (each.mac !== undefined && each.mac === mac),
    );
  }

  /** `paths`: undefined: all that there are. A profile that is new is for a device that waits for one; one that is gone takes all along. */
  #read(paths: readonly string[] = [...new Set([...this.#profiles.keys(), ...this.#files.below(FOLDER)])]): string {
    for (const path of paths) {
      const before = this.#profiles.get(path);
      this.#profiles.delete(path);
      this.#load(path);
      const now = this.#profiles.get(path);
      for (const [name, device] of this.#devices)
        if (before !== undefined && now?.uuid !== before.uuid && device.profile?.uuid === before.uuid)
          this.#letGo(name);
    }
    for (const [name, device] of this.#devices)
      if (!device.isLeft && !device.isExternal && device.profile === undefined && this.#profileFor(name))
        this.#find(name);
    return '';
  }

  #load(path: string): void {
    const text = this.#files.text(path);
    if (text === undefined || !path.endsWith('.nmconnection')) return;
    const of = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1];
    const all = (key: string) =>
      [...text.matchAll(new RegExp(`^${key}\\d+=(.*)$`, 'gm'))].map(([, value = '']) => value);
    const metric = of('route-metric') ?? '0';
    const gateway = of('gateway');
    const [mac, device] = [of('mac-address')?.toLowerCase(), of('interface-name')];
    this.#profiles.set(path, {
      path,
      uuid: of('uuid') ?? '',
      ...(mac !== undefined && { mac }),
      ...(device !== undefined && { device }),
      addresses: all('address'),
      routes: [
        ...(gateway === undefined ? [] : [`default via ${gateway} metric ${metric}`]),
        ...all('route').map((each) => each.replace(/^(\S+?),(\S+?),(\d+)$/, '$1 via $2 metric $3')),
      ],
    });
  }

  #readConfiguration(): void {
    const texts = this.#files.below(CONFIGURATION).map((path) => this.#files.text(path) ?? '');
    this.#specs = texts.reduce<readonly string[]>(unmanagedAfter, []);
    for (const [name, device] of this.#devices) {
      const mac = this.#network.links.find((each) => each.device === name)?.mac ?? '';
      const isLeft = isUnmanagedBy(this.#specs, { device: name, mac });
      // One that it has it would take what is on it; who is let go by hand before keeps that.
      if (isLeft && !device.isLeft) this.#letGo(name);
      device.isLeft ||= isLeft;
    }
  }

  /** The profile as it is in its file now; `preserves`: what is there beside it stays. */
  #reapply(name: string, preserves = false): string {
    const device = this.#known(name);
    const uuid = device.profile?.uuid;
    const profile = [...this.#profiles.values()].find((each) => each.uuid === uuid);
    if (uuid === undefined || device.isLeft || profile === undefined)
      throw new Refused(REFUSED, `Error: Reapplying connection to device '${name}' failed: Device is not activated.`);
    const before = device.profile;
    device.profile = profile;
    this.#apply(name, profile, preserves, before);
    return '';
  }

  /** Every address goes first. */
  #activate(name: string, uuid: string): string {
    const device = this.#known(name);
    const profile = [...this.#profiles.values()].find((each) => each.uuid === uuid);
    if (profile === undefined) throw new Refused(UNKNOWN, `Error: unknown connection '${uuid}'.`);
    this.#letGo(name);
    Object.assign(device, { profile, isLeft: false, isExternal: false });
    this.#apply(name, profile, false);
    return '';
  }

  #letGo(name: string): void {
    delete this.#known(name).profile;
    for (const spec of this.#specsOn(name)) this.#ip(`address delete ${spec} dev ${name}`);
  }

  #apply(name: string, profile: Profile, preserves: boolean, before?: Profile): void {
    for (const spec of profile.addresses) this.#ip(`address replace ${spec} dev ${name}`);
    const isOthers = (spec: string) => preserves && before?.addresses.includes(spec) !== true;
    for (const spec of this.#specsOn(name))
      if (!profile.addresses.includes(spec) && !isOthers(spec)) this.#ip(`address delete ${spec} dev ${name}`);
    const wanted = profile.routes.map((route) => `${route} dev ${name} proto static`);
    const there = this.#network.routes
      .filter((route) => route.device === name && route.proto === 'static')
      .map(({ dest, via, metric }) => `${dest} via ${via} metric ${metric} dev ${name} proto static`);
    for (const route of wanted.filter((each) => !there.includes(each))) this.#ip(`route append ${route}`);
    for (const route of there.filter((each) => !wanted.includes(each))) this.#ip(`route delete ${route}`);
  }

  #specsOn = (name: string): string[] =>
    this.#network.addresses.filter(({ device }) => device === name).map(({ local, prefix }) => `${local}/${prefix}`);

  #ip(line: string): void {
    this.#network.ask(line.split(' '));
  }
}

function stateOf({ isLeft, isExternal, profile }: Device): string {
  if (isLeft) return 'unmanaged:';
  if (isExternal) return 'connected (externally):';
  return profile === undefined ? 'disconnected:' : `connected:${profile.uuid}`;
}
