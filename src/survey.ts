// Host, Config → what the configuration wants of this machine, what is there, and the steps between. Changes nothing.
// `plan`, `status` and `reload` all stand on this, so that what `plan` shows is what `reload` does.

import type { Config } from './config/config.ts';
import { ifcfgRenderer } from './dialects/ifcfg.ts';
import { noRenderer, type Renderer } from './dialects/renderer.ts';
import { CommandError, UsageError } from './errors.ts';
import type { Host } from './machine/host.ts';
import { type Machine, observe, readMachine } from './machine/observe.ts';
import { desiredState } from './network/desired.ts';
import { bindNics, type NicBinding } from './network/nics.ts';
import type { Observation } from './network/observation.ts';
import { planSteps } from './network/plan.ts';
import { isShiftedRange } from './network/ports.ts';
import type { NetworkState } from './network/state.ts';
import type { Step } from './network/step.ts';

export type Survey = {
  machine: Machine;
  binding: NicBinding;
  desired: NetworkState;
  observation: Observation;
  /** Empty: in sync. */
  steps: Step[];
  /** What works against the configuration, or is not there yet. */
  warnings: string[];
};

export async function survey(host: Host, config: Config, renderer: Renderer): Promise<Survey> {
  const machine = await readMachine(host, renderer);
  const binding = bindNics(config.nics, machine.links);
  const abilities = { shiftedRanges: await mapsShiftedRanges(host, config, machine) };
  const desired = desiredState(config, binding, renderer, abilities);
  const observation = await observe(host, machine, binding.bound, desired, renderer);
  const steps = planSteps(desired, observation);
  const warnings = [...nicWarnings(binding), ...blockWarnings(observation, binding)];
  return { machine, binding, desired, observation, steps, warnings };
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

/** The guest's own persistent format, or the one asked for. */
export async function chooseRenderer(host: Host, name: string | undefined): Promise<Renderer> {
  if (name === 'none') return noRenderer;
  if (name === 'ifcfg') return ifcfgRenderer;
  if (name !== undefined) throw new UsageError(`--renderer must be ifcfg or none, is ${name}`);
  const folder = await host.info(ifcfgRenderer.folder ?? '/');
  return folder?.directory ? ifcfgRenderer : noRenderer;
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
