// Steps → the machine, in their order, in bulk: one `ip -batch` and one `iptables-restore` for each run of such steps.
// Gives an Outcome; logs nothing.

import { argumentsOf, batchLine, type IpStep } from '../dialects/iproute.ts';
import { type FirewallStep, renderRestore, renderStrayRemoval } from '../dialects/iptables.ts';
import { isOurJumpIn, renderNftRemoval } from '../dialects/nft.ts';
import { asOvsStep, type OvsStep } from '../dialects/ovs.ts';
import { byNumbers } from '../dialects/route-numbers.ts';
import { UnsupportedError } from '../errors.ts';
import { describe, type Step } from '../network/step.ts';
import { type Answers, askRules } from './early.ts';
import { keepLost, putBack, readNeighbours } from './foreign.ts';
import { askRouters } from './hearing.ts';
import type { Host } from './host.ts';
import { keepingIpv6 } from './ipv6.ts';
import { applyProfiles, loadConfiguration, orphaned } from './networkmanager.ts';
import { readLinks } from './observe.ts';
import { changeOvs } from './ovs.ts';

export type Outcome = {
  done: Step[];
  /** The first steps that failed, and why; those after them were not tried. */
  failed?: { steps: Step[]; error: Error };
  /** What did not work but does not matter for the network's state; complete when `announced` settles. */
  warnings: string[];
  /** What is announced last changes nothing here: who verifies need not wait for it first. Never fails. */
  announced: Promise<unknown>;
  /** The rules as these steps leave them, asked while steps that have nothing to do with rules are carried out. */
  rules?: Answers;
};

/** Seconds that iptables-restore waits for another program's xtables lock. */
const XTABLES_WAIT_S = 30;

export async function applySteps(host: Host, steps: readonly Step[]): Promise<Outcome> {
  const outcome: Outcome = { done: [], warnings: [], announced: Promise.resolve() };
  const batches = inBatches(steps);
  const last = batches.findLastIndex((batch) => !isAnnouncement(batch)) + 1;
  const lastOfRules = batches.findLastIndex((batch) => !leavesRules(batch));
  for (const [n, batch] of batches.slice(0, last).entries()) {
    try {
      await applyBatch(host, batch, outcome.warnings);
      if (n === lastOfRules && batch.by === 'iptables') outcome.rules = askRules(host);
    } catch (error) {
      outcome.failed = { steps: batch.steps, error: error instanceof Error ? error : new Error(String(error)) };
      return outcome;
    }
    for (const step of batch.steps) outcome.done.push(step);
  }
  outcome.announced = Promise.all(batches.slice(last).map((batch) => applyBatch(host, batch, outcome.warnings)));
  for (const { steps } of batches.slice(last)) for (const step of steps) outcome.done.push(step);
  return outcome;
}

/** NetworkManager may tell firewalld. */
const leavesRules = ({ by, steps }: Batch): boolean =>
  by === 'ip' || by === 'ip-alone' || by === 'advertised' || (by === 'one' && LEAVING_RULES.has(steps[0].kind));

const LEAVING_RULES: ReadonlySet<Step['kind']> = new Set([
  'set-sysctl',
  'write-file',
  'remove-file',
  'back-up-file',
  'announce-addresses',
  'ask-routers',
]);

const isAnnouncement = ({ by, steps }: Batch): boolean => by === 'one' && steps[0].kind === 'announce-addresses';

type Batch =
  | { by: 'ip'; steps: IpStep[] }
  | { by: 'ip-alone'; steps: [IpStep]; commands: string[][] }
  | { by: 'ovs'; steps: OvsStep[] }
  | { by: 'iptables'; steps: FirewallStep[] }
  | { by: 'networkmanager'; steps: Step[] }
  | { by: 'advertised'; steps: Advertised[] }
  | { by: 'put-back'; steps: Extract<Step, { kind: 'put-back' }>[] }
  | {
      by: 'one';
      steps: [Exclude<Step, IpStep | FirewallStep | ProfileStep | Advertised | { kind: 'put-back' }> | ByHandle];
    };

type Advertised = Extract<Step, { kind: 'remove-advertised' }>;

type ByHandle = Extract<Step, { kind: 'remove-jump' }> & { handle: number };

const isByHandle = (step: Step): step is ByHandle => step.kind === 'remove-jump' && step.handle !== undefined;

type ProfileStep = {
  kind: 'load-profiles' | 'apply-profile' | 'forget-profiles' | 'release-device' | 'return-device';
};

/** Joins neighbouring steps that one command can do. */
function inBatches(steps: readonly Step[]): Batch[] {
  const batches: Batch[] = [];
  for (const step of steps) {
    const last = batches.at(-1);
    if ('by' in step && step.by === 'networkmanager') {
      if (last?.by === 'networkmanager') last.steps.push(step);
      else batches.push({ by: 'networkmanager', steps: [step] });
      continue;
    }
    const ovs = asOvsStep(step);
    if (ovs !== undefined) {
      if (last?.by === 'ovs') last.steps.push(ovs);
      else batches.push({ by: 'ovs', steps: [ovs] });
      continue;
    }
    switch (step.kind) {
      case 'set-link-up':
      case 'set-link-down':
      case 'set-mtu':
      case 'add-bridge':
      case 'remove-bridge':
      case 'add-port':
      case 'remove-port':
      case 'remove-port-route':
      case 'move-foreign':
      case 'add-address':
      case 'remove-address':
      case 'add-route':
      case 'remove-route':
      case 'add-subnet-route': {
        const commands = asCommands(step);
        if (commands !== undefined) batches.push({ by: 'ip-alone', steps: [step], commands });
        else if (last?.by === 'ip') last.steps.push(step);
        else batches.push({ by: 'ip', steps: [step] });
        break;
      }
      case 'add-chain':
      case 'replace-chain':
      case 'edit-chain':
      case 'remove-chain':
      case 'add-jump':
      case 'remove-jump':
        if (isByHandle(step)) batches.push({ by: 'one', steps: [step] });
        else if (last?.by === 'iptables') last.steps.push(step);
        else batches.push({ by: 'iptables', steps: [step] });
        break;
      case 'load-profiles':
      case 'apply-profile':
      case 'forget-profiles':
      case 'release-device':
      case 'return-device':
        if (last?.by === 'networkmanager') last.steps.push(step);
        else batches.push({ by: 'networkmanager', steps: [step] });
        break;
      case 'remove-advertised':
        if (last?.by === 'advertised') last.steps.push(step);
        else batches.push({ by: 'advertised', steps: [step] });
        break;
      case 'put-back':
        if (last?.by === 'put-back') last.steps.push(step);
        else batches.push({ by: 'put-back', steps: [step] });
        break;
      default:
        batches.push({ by: 'one', steps: [step] });
    }
  }
  return batches;
}

/** Of what no batch can say. */
function asCommands(step: IpStep): string[][] | undefined {
  const args = argumentsOf(step);
  if (args !== undefined) return [args];
  if (step.kind !== 'move-foreign') return undefined;
  const lines = batchLine(step);
  // One without a gateway would be of IPv4.
  if (step.foreign.kind === 'nexthop' && step.foreign.family === 6) return [['-6', ...lines.split(' ')]];
  return byNumbers(lines) === undefined ? lines.split('\n').map((line) => line.split(' ')) : undefined;
}

async function applyBatch(host: Host, batch: Batch, warnings: string[]): Promise<void> {
  switch (batch.by) {
    case 'ip':
      warnings.push(
        ...orphaned(
          await keepingIpv6(host, batch.steps, () =>
            host.run(['ip', '-batch', '-'], { input: `${byNumbers(batch.steps.map(batchLine).join('\n'))}\n` }),
          ),
        ),
      );
      return;
    case 'ip-alone':
      warnings.push(
        ...orphaned(
          await keepingIpv6(host, batch.steps, async () => {
            for (const args of batch.commands) await host.run(['ip', ...args]);
          }),
        ),
      );
      return;
    case 'ovs':
      warnings.push(...orphaned(await keepingIpv6(host, batch.steps, () => changeOvs(host, batch.steps))));
      return;
    case 'iptables':
      await restore(host, 'iptables-restore', renderRestore(batch.steps));
      return;
    case 'networkmanager':
      warnings.push(...(await applyProfiles(host, batch.steps)));
      return;
    case 'advertised': {
      const lines = batch.steps.map(({ foreign: { kind, device, words } }) =>
        kind === 'address' ? `address delete ${words.split(' ', 1)[0]} dev ${device}\n` : `route delete ${words}\n`,
      );
      // They go by themselves, too.
      await host.run(['ip', '-6', '-force', '-batch', '-'], { input: lines.join(''), accept: [1, 2] });
      return;
    }
    case 'put-back': {
      const foreign = batch.steps.map((step) => step.foreign);
      warnings.push(...orphaned(await keepLost(host, foreign, await putBack(host, foreign))));
      return;
    }
    case 'one':
      return applyOne(host, batch.steps[0], warnings);
  }
}

async function applyOne(
  host: Host,
  step: Extract<Batch, { by: 'one' }>['steps'][0],
  warnings: string[],
): Promise<void> {
  switch (step.kind) {
    case 'set-sysctl':
      return host.setSysctl(step.key, step.value);
    case 'write-file':
      await host.write(step.file.path, step.file.content, step.file.mode);
      return;
    case 'remove-file':
      await host.remove(step.path);
      return;
    case 'back-up-file':
      return step.replaced ? host.copy(step.path, step.to) : host.move(step.path, step.to);
    case 'remove-jump': {
      const { table, hook } = step.jump;
      // Since it was looked up others may have changed the chain: it may be of a rule of theirs by now. The next look has another.
      const { stdout } = await host.run(['nft', '-j', 'list', 'chain', 'ip', table, hook]);
      if (!isOurJumpIn(stdout, step.handle)) return;
      await host.run(['nft', 'delete', 'rule', 'ip', table, hook, 'handle', String(step.handle)]);
      return;
    }
    case 'load-configuration':
      return loadConfiguration(host);
    case 'remove-stray-rules':
      return restore(host, step.stray.restore, renderStrayRemoval(step.stray));
    case 'remove-unreadable-rules':
      await host.run(['nft', '-f', '-'], { input: renderNftRemoval(step.unreadable) });
      return;
    case 'cut-flows':
      // Not by a plan: see stale.ts.
      return;
    case 'ask-routers':
      return askRouters(host, step);
    case 'announce-addresses':
      // Whatever it is: by then the change may be verified.
      return announce(host, step.device, step.mac, step.addresses).catch((error: unknown) => {
        const why = error instanceof Error ? error.message : error;
        warnings.push(`${describe(step).slice(2)} failed, neighbours learn it by themselves in a while: ${why}`);
      });
  }
}

async function restore(host: Host, command: string, input: string): Promise<void> {
  await host.run([command, '--noflush', '--wait', String(XTABLES_WAIT_S)], {
    input,
    timeoutMs: (XTABLES_WAIT_S + 30) * 1000,
  });
}

/** Above this many addresses the device's own MAC, set again, announces them all. */
const MOST_ARPINGS = 8;

/**
 * Gratuitous ARP, not waited for: arping takes a second, its frame leaves at once. With arp_notify set, giving a device its
 * own MAC announces all its addresses within milliseconds, but drops its neighbour cache, what somebody entered too: only
 * where there is none of that.
 */
async function announce(
  host: Host,
  device: string,
  known: string | undefined,
  addresses: readonly string[],
): Promise<void> {
  const arping = await host.which('arping');
  if (arping === undefined || addresses.length > MOST_ARPINGS) {
    if ((await readNeighbours(host, new Set([device]))).length === 0) {
      const mac = known ?? (await readLinks(host)).find((link) => link.device === device)?.mac;
      if (mac !== undefined) await host.run(['ip', 'link', 'set', 'dev', device, 'address', mac]);
      return;
    }
    if (arping === undefined)
      throw new UnsupportedError('arping is missing: install iputils-arping (iputils on RPM systems)');
  }
  await Promise.all(
    addresses.map((address) => host.launch(['arping', '-A', '-q', '-c', '2', '-w', '3', '-I', device, address])),
  );
}
