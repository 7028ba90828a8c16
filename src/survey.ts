// Host, Config → what the configuration wants of this machine, what is there, and the steps between. Changes nothing.
// `plan`, `status` and `reload` all stand on this, so that what `plan` shows is what `reload` does.

import type { Config } from './config/config.ts';
import { ifcfgRenderer } from './dialects/ifcfg.ts';
import { keyfileRenderer } from './dialects/keyfile.ts';
import { noRenderer, type Renderer } from './dialects/renderer.ts';
import { CommandError, UsageError } from './errors.ts';
import { FIREWALLD_POLICY } from './installation/tree.ts';
import type { Host } from './machine/host.ts';
import { readManagers } from './machine/networkmanager.ts';
import { type Machine, type Owned, observe, readMachine } from './machine/observe.ts';
import { desiredState } from './network/desired.ts';
import { type BoundNic, bindNics, type NicBinding } from './network/nics.ts';
import type { Observation } from './network/observation.ts';
import { planSteps } from './network/plan.ts';
import { isShiftedRange } from './network/ports.ts';
import { chainKey, compare, type NetworkState } from './network/state.ts';
import type { Step } from './network/step.ts';

export type Survey = {
  machine: Machine;
  binding: NicBinding;
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

export async function survey(host: Host, config: Config, renderer: Renderer, scope: Scope): Promise<Survey> {
  const machine = await readMachine(host);
  const binding = bindNics(config.nics, machine.links);
  const abilities = { shiftedRanges: await mapsShiftedRanges(host, config, machine) };
  const wanted = withMtus(desiredState(config, binding, renderer, abilities), binding, machine.owned);
  let observation = await observe(host, machine, binding.bound, wanted, renderer, new Map());
  const leaveNics = scope === 'boot' && (await bringsUpNics(host, renderer));
  const desired = leaveNics ? withoutNics(wanted, observation.state) : wanted;
  let steps = planSteps(desired, observation);
  if (!leaveNics && steps.some(isAboutNic)) {
    // Asked only now: a run that changes nothing calls no nmcli.
    const managers = await readManagers(host);
    if (managers.size > 0) {
      observation = await observe(host, machine, binding.bound, wanted, renderer, managers);
      steps = planSteps(desired, observation);
    }
  }
  const warnings = [
    ...nicWarnings(binding),
    ...blockWarnings(observation, binding),
    ...heldWarnings(desired, observation),
    ...(await firewalldWarnings(host, binding)),
    ...(await initscriptsWarnings(host, renderer, wanted)),
  ];
  const owned = leaveNics ? union(machine.owned, ownedBy(wanted, binding, machine)) : ownedBy(wanted, binding, machine);
  return { machine, binding, owned, whole: !leaveNics, desired, observation, steps, warnings };
}

/** Whether NetworkManager or initscripts brings NICs up at boot from the files that we render. */
async function bringsUpNics(host: Host, renderer: Renderer): Promise<boolean> {
  if (renderer.folder === undefined) return false;
  if ((await host.which('NetworkManager')) !== undefined) return true;
  return renderer.name === 'ifcfg' && (await host.info(`${renderer.folder}/ifup-eth`)) !== undefined;
}

function withoutNics(desired: NetworkState, observed: NetworkState): NetworkState {
  return { ...desired, links: [], addresses: observed.addresses, routes: observed.routes };
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
  return /^((add|remove)-(address|route)|(write|remove|back-up)-file)$/.test(kind);
}

/** What may be ours while one state of things gives way to another. */
export function union(a: Owned, b: Owned): Owned {
  const merge = <T>(one: readonly T[], other: readonly T[]): T[] => [
    ...new Map([...one, ...other].map((item) => [JSON.stringify(item), item])).values(),
  ];
  return { addresses: merge(a.addresses, b.addresses), routes: merge(a.routes, b.routes), mtus: merge(a.mtus, b.mtus) };
}

function ownedBy(wanted: NetworkState, { bound }: NicBinding, machine: Machine): Owned {
  const macOf = new Map(bound.map(({ device, mac }) => [device, mac]));
  const mtuOf = (nic: BoundNic) =>
    machine.owned.mtus.find(({ mac }) => mac === nic.mac)?.was ??
    machine.links.find(({ device }) => device === nic.device)?.mtu;
  return {
    addresses: wanted.addresses.map(({ device, spec }) => ({ mac: macOf.get(device) ?? '', spec })),
    routes: wanted.routes.map(({ device, dest, via }) => ({ mac: macOf.get(device) ?? '', dest, via })),
    mtus: bound.flatMap((nic) => {
      const was = nic.mtu === undefined ? undefined : mtuOf(nic);
      return was === undefined ? [] : [{ mac: nic.mac, was }];
    }),
  };
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
  const names = binding.bound.map(({ device }) => device).join(', ');
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
