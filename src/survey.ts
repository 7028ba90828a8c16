// Host, Config → what the configuration wants of this machine, what is there, and the steps between. Changes nothing.
// `plan`, `status` and `reload` all stand on this, so that what `plan` shows is what `reload` does.

import type { Config } from './config/config.ts';
import { ifcfgRenderer } from './dialects/ifcfg.ts';
import { keyfileRenderer } from './dialects/keyfile.ts';
import { noRenderer, type Renderer } from './dialects/renderer.ts';
import { MANAGER_FOLDER, unmanagedFiles } from './dialects/unmanaged.ts';
import { CommandError, UsageError } from './errors.ts';
import { FIREWALLD_POLICY } from './installation/tree.ts';
import type { Host } from './machine/host.ts';
import { askManaged, canAsk } from './machine/networkmanager.ts';
import {
  devicesByMac,
  type Machine,
  type Owned,
  observe,
  observeManaged,
  readMachine,
  readOwned,
} from './machine/observe.ts';
import { bindBridges, bridgesOf, type Waiting } from './network/bridges.ts';
import { type Abilities, desiredAddresses, desiredState } from './network/desired.ts';
import { type BoundNic, bindNics, carrierOf, type NicBinding } from './network/nics.ts';
import { movedKey, type Observation } from './network/observation.ts';
import { planSteps } from './network/plan.ts';
import { isShiftedRange } from './network/ports.ts';
import {
  addressKey,
  type BridgeType,
  bridgeKey,
  chainKey,
  compare,
  hostPart,
  type NetworkState,
  type Port,
} from './network/state.ts';
import type { Step } from './network/step.ts';

export type Survey = {
  machine: Machine;
  binding: NicBinding;
  /** NICs whose bridge has to wait for Open vSwitch. */
  waiting: Waiting[];
  /** False: NICs are left to what brings them up at boot. */
  whole: boolean;
  /** What of it is ours once it is there. */
  owned: Owned;
  desired: NetworkState;
  observation: Observation;
  /** Empty: in sync. */
  steps: Step[];
  /** What works against the configuration, or is not there yet. */
  warnings: string[];
};

/**
 * `boot`: before the network is up. Where something else brings NICs up from files (NetworkManager, initscripts), links,
 * addresses and routes are left to it, and it is not asked anything.
 */
export type Scope = 'boot' | 'whole';

export async function survey(
  host: Host,
  config: Config,
  renderer: Renderer,
  scope: Scope,
  /** Nothing has been changed yet: addresses that are not as on our record are news, and may be NetworkManager's to bring. */
  isFirst = false,
): Promise<Survey> {
  const record = readOwned(host);
  const asksNow = isFirst && scope === 'whole' && (await canAsk(host)) && hasNews(config, await record);
  // It answers while the rest is read and planned.
  let asked = asksNow ? askManaged(host) : undefined;
  const machine = await readMachine(
    host,
    config.nics.some(({ bridge }) => bridge?.type === 'ovs'),
    record,
  );
  const { binding, waiting } = bindBridges(bindNics(config.nics, machine.links), machine, recordedPorts(machine));
  const abilities = { shiftedRanges: await mapsShiftedRanges(host, config, machine) };
  const wanted = await withUnmanaged(
    host,
    renderer,
    withMtus(desiredOf(config, binding, renderer, abilities), binding, machine.owned),
  );
  let observation = await observe(host, machine, binding.bound, wanted, renderer);
  const leaveNics = scope === 'boot' && (await bringsUpNics(host, renderer));
  const desired = leaveNics ? withoutNics(wanted, observation.state) : wanted;
  let steps = planSteps(desired, observation);
  // A run that changes nothing calls no nmcli.
  if (!leaveNics && steps.some(isAboutNic) && (await canAsk(host))) asked ??= askManaged(host);
  if (asked !== undefined) {
    observation = await observeManaged(host, machine, observation, asked);
    if (observation.managers.size > 0) steps = planSteps(desired, observation);
  }
  const warnings = [
    ...nicWarnings(binding),
    ...waiting.map(({ reason }) => reason),
    ...portWarnings(machine, binding, wanted),
    ...bridgeWarnings(wanted, observation),
    ...blockWarnings(observation, binding),
    ...heldWarnings(desired, observation),
    ...(await firewalldWarnings(host, binding)),
    ...(await initscriptsWarnings(host, renderer, wanted)),
  ];
  const ours = ownedBy(wanted, binding, machine, steps);
  const owned = leaveNics ? union(machine.owned, ours) : ours;
  return { machine, binding, waiting, owned, whole: !leaveNics, desired, observation, steps, warnings };
}

/**
 * Whether the configuration wants other addresses than it did when we last put them there, on NICs that were there then; on a bridge
 * or not.
 */
function hasNews(config: Config, { addresses }: Owned): boolean {
  const seen = new Set(addresses.map(({ mac }) => mac));
  const nics = config.nics.flatMap(({ bridge: _, ...nic }) => (seen.has(nic.mac) ? [{ ...nic, device: nic.mac }] : []));
  const wanted = desiredAddresses(config, nics).map(addressKey);
  const recorded = new Set(addresses.map(({ mac, spec }) => addressKey({ device: mac, spec })));
  return wanted.length !== recorded.size || wanted.some((key) => !recorded.has(key));
}

/** Computed once a run, as long as the NICs are the same: at 1,000 EIPs it takes what a third of starting Node takes. */
const known = new WeakMap<Config, { asked: string; desired: NetworkState }>();

function desiredOf(config: Config, binding: NicBinding, renderer: Renderer, abilities: Abilities): NetworkState {
  const asked = JSON.stringify([binding, renderer.name, abilities]);
  const before = known.get(config);
  if (before?.asked === asked) return before.desired;
  const desired = desiredState(config, binding, renderer, abilities);
  known.set(config, { asked, desired });
  return desired;
}

/** Whether NetworkManager or initscripts brings NICs up at boot from the files that we render. */
async function bringsUpNics(host: Host, renderer: Renderer): Promise<boolean> {
  if (renderer.folder === undefined) return false;
  if ((await host.which('NetworkManager')) !== undefined) return true;
  return renderer.name === 'ifcfg' && (await host.info(`${renderer.folder}/ifup-eth`)) !== undefined;
}

async function withUnmanaged(host: Host, renderer: Renderer, wanted: NetworkState): Promise<NetworkState> {
  if (wanted.released.length === 0 || renderer.name === 'none') return wanted;
  if ((await host.info(MANAGER_FOLDER)) === undefined) return wanted;
  return { ...wanted, files: [...wanted.files, ...unmanagedFiles(wanted.released)] };
}

/** Bridges, and what is on them, are in no profile: nobody else brings them up. */
function withoutNics(desired: NetworkState, observed: NetworkState): NetworkState {
  const bridged = new Set(desired.released);
  const isBridged = ({ device }: { device: string }) => bridged.has(device);
  const mixed = <T extends { device: string }>(wanted: readonly T[], found: readonly T[]) => [
    ...wanted.filter(isBridged),
    ...found.filter((item) => !isBridged(item)),
  ];
  return {
    ...desired,
    links: desired.links.filter(isBridged),
    addresses: mixed(desired.addresses, observed.addresses),
    routes: mixed(desired.routes, observed.routes),
  };
}

/** A NIC whose MTU is no longer named has the one that it had before. */
function withMtus(desired: NetworkState, { bound }: NicBinding, { mtus }: Owned): NetworkState {
  const before = new Map(
    bound.flatMap(({ device, mac }) => mtus.flatMap(({ mac: of, was }) => (of === mac ? [[device, was]] : []))),
  );
  return {
    ...desired,
    links: desired.links.map((link) => {
      const mtu = link.mtu ?? before.get(link.device);
      return mtu === undefined ? link : { ...link, mtu };
    }),
  };
}

/** Whether NetworkManager, where it manages the NIC, has to carry the step out, or has to know of it. */
function isAboutNic({ kind }: Step): boolean {
  return /^((add|remove)-(address|route)|add-subnet-route|(write|remove|back-up)-file)$/.test(kind);
}

/** What may be ours while one state of things gives way to another. */
export function union(a: Owned, b: Owned): Owned {
  const merge = <T>(one: readonly T[], other: readonly T[]): T[] => [
    ...new Map([...one, ...other].map((item) => [JSON.stringify(item), item])).values(),
  ];
  return {
    addresses: merge(a.addresses, b.addresses),
    routes: merge(a.routes, b.routes),
    mtus: merge(a.mtus, b.mtus),
    bridges: merge(a.bridges, b.bridges),
    ports: merge(a.ports, b.ports),
    moved: merge(a.moved, b.moved),
  };
}

function ownedBy(wanted: NetworkState, { bound }: NicBinding, machine: Machine, steps: readonly Step[]): Owned {
  const macOf = new Map(bound.flatMap((nic) => [nic.device, carrierOf(nic)].map((device) => [device, nic.mac])));
  const on = (device: string) => (wanted.bridges.some(({ name }) => name === device) ? { on: device } : {});
  const known = new Set(machine.owned.bridges.map(bridgeKey));
  const there = new Set(bridgesOf(machine).map(bridgeKey));
  const silent = machine.ovs !== undefined && 'silent' in machine.ovs;
  /** Of what cannot be seen the record stays. */
  const unseen = <T extends { type: BridgeType }>(items: readonly T[]) =>
    silent ? items.filter(({ type }) => type === 'ovs') : [];
  const mtuOf = (nic: BoundNic) =>
    machine.owned.mtus.find(({ mac }) => mac === nic.mac)?.was ??
    machine.links.find(({ device }) => device === nic.device)?.mtu;
  return {
    addresses: wanted.addresses.map(({ device, spec }) => ({ mac: macOf.get(device) ?? '', spec, ...on(device) })),
    routes: wanted.routes.map(({ device, dest, via }) => ({ mac: macOf.get(device) ?? '', dest, via, ...on(device) })),
    mtus: bound.flatMap((nic) => {
      const was = nic.mtu === undefined ? undefined : mtuOf(nic);
      return was === undefined ? [] : [{ mac: nic.mac, was }];
    }),
    bridges: uniqueBy(bridgeKey, [
      ...wanted.bridges
        .filter((bridge) => known.has(bridgeKey(bridge)) || !there.has(bridgeKey(bridge)))
        .map(({ name, type }) => ({ name, type })),
      ...unseen(machine.owned.bridges),
    ]),
    ports: uniqueBy(JSON.stringify, [
      ...wanted.ports.map(({ device, bridge, type }) => ({ mac: macOf.get(device) ?? '', bridge, type })),
      ...unseen(machine.owned.ports),
    ]),
    moved:
      wanted.ports.length === 0
        ? []
        : uniqueBy(String, [
            ...machine.owned.moved,
            ...steps.flatMap((step) => (step.kind === 'move-foreign' ? [movedKey(step.foreign)] : [])),
          ]),
  };
}

const uniqueBy = <T>(key: (item: T) => string, items: readonly T[]): T[] => [
  ...new Map(items.map((item) => [key(item), item])).values(),
];

function recordedPorts({ owned, links }: Machine): Port[] {
  const deviceOf = devicesByMac(links);
  return owned.ports.map(({ mac, bridge, type }) => ({ device: deviceOf.get(mac) ?? '', bridge, type }));
}

/** Foreign addresses are left where they are. */
function portWarnings({ addresses }: Machine, { bound }: NicBinding, wanted: NetworkState): string[] {
  const bridged = bound.flatMap(({ device, bridge }) => (bridge === undefined ? [] : [{ device, bridge }]));
  const ours = new Set(bridged.length === 0 ? [] : wanted.addresses.map(({ spec }) => hostPart(spec)));
  return bridged.flatMap(({ device, bridge }) =>
    addresses
      .filter((address) => address.device === device && !ours.has(hostPart(address.spec)))
      .map(
        ({ spec }) =>
          `the address ${spec} stays on ${device} and does not work there, on a port of ${bridge.name}: ` +
          `take it away, or move it to ${bridge.name}`,
      ),
  );
}

/** A bridge that is not wanted any more. */
function bridgeWarnings(wanted: NetworkState, { state, emptied }: Observation): string[] {
  return compare(wanted.bridges, state.bridges, bridgeKey).extra.flatMap((bridge) =>
    emptied.has(bridgeKey(bridge))
      ? []
      : [`the bridge ${bridge.name} stays: it has other ports, or addresses that are not ours`],
  );
}

function nicWarnings(binding: NicBinding): string[] {
  return [
    ...binding.pending.map(
      ({ mac, name }) => `NIC ${mac}${name === undefined ? '' : ` (${name})`} is not there yet: pending`,
    ),
    ...binding.broken.map(({ nic, reason }) => `NIC ${nic.mac} is not used: ${reason}`),
  ];
}

/** A foreign rule that stops everything before our accept rules are asked. Foreign rules are never changed. */
function blockWarnings(observation: Observation, binding: NicBinding): string[] {
  const rules = observation.hooks.find(({ table, hook }) => table === 'filter' && hook === 'FORWARD')?.rules ?? [];
  const block = rules.find((rule) => /^-j (DROP|REJECT)\b/.test(rule));
  if (block === undefined || binding.bound.length < 2) return [];
  const names = binding.bound.map(carrierOf).join(', ');
  return [
    `a foreign rule in FORWARD blocks everything (${block}): nothing is forwarded between ${names}; ` +
      'let their traffic through before it, or take it away',
  ];
}

/** The kernel removes no chain that a rule leads to. Foreign rules are never changed. */
function heldWarnings(desired: NetworkState, { state }: Observation): string[] {
  return compare(desired.chains, state.chains, chainKey).extra.flatMap(({ table, name, heldBy }) =>
    heldBy === undefined
      ? []
      : [
          `the chain ${name} stays in ${table}, empty: a rule of the foreign chain ${heldBy} leads to it; take that away`,
        ],
  );
}

/** firewalld rejects what it does not know, with nftables rules of its own that no iptables rule can overrule. */
async function firewalldWarnings(host: Host, binding: NicBinding): Promise<string[]> {
  if (binding.bound.length < 2 || (await host.info('/run/firewalld.pid')) === undefined) return [];
  if ((await host.info(FIREWALLD_POLICY)) !== undefined) return [];
  return [
    'firewalld is running: what is forwarded between our NICs passes only where its zones let it; ' +
      'kylin-vr install --firewalld makes a policy that does',
  ];
}

/** `ifup-eth` counts to 255. */
const INITSCRIPTS_ADDRESSES = 256;

async function initscriptsWarnings(host: Host, renderer: Renderer, wanted: NetworkState): Promise<string[]> {
  if (renderer.name !== 'ifcfg') return [];
  const crowded = wanted.links.filter(
    ({ device }) => wanted.addresses.filter((address) => address.device === device).length > INITSCRIPTS_ADDRESSES,
  );
  if (crowded.length === 0 || (await host.info(`${renderer.folder}/ifup-eth`)) === undefined) return [];
  return crowded.map(
    ({ device }) =>
      `${device} has more than ${INITSCRIPTS_ADDRESSES} addresses: initscripts bring up the first ${INITSCRIPTS_ADDRESSES} ` +
      'of them at boot, the next kylin-vr reload adds the rest',
  );
}

/** The guest's own persistent format, or the one asked for. */
export async function chooseRenderer(host: Host, name: string | undefined): Promise<Renderer> {
  if (name === 'none') return noRenderer;
  if (name === 'ifcfg') return ifcfgRenderer;
  if (name === 'keyfile') return keyfileRenderer;
  if (name !== undefined) throw new UsageError(`--renderer must be ifcfg, keyfile or none, is ${name}`);
  for (const renderer of [ifcfgRenderer, keyfileRenderer]) {
    const folder = renderer.folder === undefined ? undefined : await host.info(renderer.folder);
    if (folder?.directory) return renderer;
  }
  return noRenderer;
}

/** Linux 4.18 and iptables 1.8; asked of the real thing, and only where a configuration needs it and no rule shows it. */
async function mapsShiftedRanges(host: Host, config: Config, machine: Machine): Promise<boolean> {
  if (!config.forwards.some(isShiftedRange)) return true;
  if (machine.rules.ours.some(({ rules }) => rules.some((rule) => /--to-destination \S+\/\d+$/.test(rule))))
    return true;
  const input = [
    '*nat',
    ':KYLIN-VR-PROBE - [0:0]',
    '-A KYLIN-VR-PROBE -p tcp -m tcp --dport 1:2 -j DNAT --to-destination 192.0.2.1:3-4/1',
    'COMMIT\n',
  ].join('\n');
  return host.run(['iptables-restore', '--test', '--noflush'], { input }).then(
    () => true,
    (error: unknown) => {
      if (error instanceof CommandError) return false;
      throw error;
    },
  );
}
