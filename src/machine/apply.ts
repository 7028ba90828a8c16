// Steps → the machine, in their order, in bulk: one `ip -batch` and one `iptables-restore` for each run of such steps.
// Gives an Outcome; logs nothing.

import { AgentError, CommandError, UnsupportedError } from '../base/errors.ts';
import { packageOf } from '../base/tools.ts';
import { argumentsOf, batchLine, type IpStep } from '../dialects/iproute.ts';
import { renderRestore, renderStrayRemoval } from '../dialects/iptables.ts';
import { isOurJumpIn, renderNftRemoval } from '../dialects/nft.ts';
import { byNumbers } from '../dialects/route-numbers.ts';
import { describe, type StepBy, type Tool, toolOf } from '../network/kinds.ts';
import type { Step, StepOf } from '../network/step.ts';
import { keepLost, putBack, readNeighbours } from './foreign.ts';
import { askRouters } from './hearing.ts';
import type { Host } from './host.ts';
import { keepingIpv6 } from './ipv6.ts';
import { type Answers, askRules } from './known/early.ts';
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
  const lastOfRules = batches.findLastIndex(({ by }) => !TOOLS[by].leavesRules);
  for (const [n, batch] of batches.slice(0, last).entries()) {
    try {
      outcome.warnings.push(...(await carryOut(host, batch.by, batch.steps)));
      if (n === lastOfRules && batch.by === 'iptables') outcome.rules = askRules(host);
    } catch (error) {
      outcome.failed = { steps: batch.steps, error: error instanceof Error ? error : new Error(String(error)) };
      return outcome;
    }
    for (const step of batch.steps) outcome.done.push(step);
  }
  outcome.announced = Promise.all(
    batches.slice(last).map(async ({ by, steps }) => outcome.warnings.push(...(await carryOut(host, by, steps)))),
  );
  for (const { steps } of batches.slice(last)) for (const step of steps) outcome.done.push(step);
  return outcome;
}

function carryOut<B extends By>(host: Host, by: B, steps: readonly (B extends Tool ? StepBy<B> : IpStep)[]) {
  return TOOLS[by].carryOut(host, steps);
}

const isAnnouncement = ({ by }: Batch): boolean => by === 'arping';

/** `ip-alone`: what no batch can say. */
type By = Tool | 'ip-alone';

type Batch = { by: By; steps: Step[] };

/** Joins neighbouring steps that one command can do. */
function inBatches(steps: readonly Step[]): Batch[] {
  const batches: Batch[] = [];
  for (const step of steps) {
    const by = byOf(step);
    const last = batches.at(-1);
    if (last?.by === by && TOOLS[by].joins) last.steps.push(step);
    else batches.push({ by, steps: [step] });
  }
  return batches;
}

const byOf = (step: Step): By => (isOfIp(step) && asCommands(step) !== undefined ? 'ip-alone' : toolOf(step));

const isOfIp = (step: Step): step is IpStep => toolOf(step) === 'ip';

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

/** Gives warnings. */
type CarryOut<S extends Step> = (host: Host, steps: readonly S[]) => Promise<string[]>;

const TOOLS: {
  readonly [B in By]: {
    joins: boolean;
    /** The rules stay as they are. NetworkManager may tell firewalld. */
    leavesRules: boolean;
    carryOut: CarryOut<B extends Tool ? StepBy<B> : IpStep>;
  };
} = {
  sysctl: {
    joins: false,
    leavesRules: true,
    carryOut: each((host, { key, value }) => host.setSysctl(key, value)),
  },
  files: { joins: false, leavesRules: true, carryOut: each(changeFile) },
  ip: {
    joins: true,
    leavesRules: true,
    carryOut: async (host, steps) =>
      orphaned(
        await keepingIpv6(host, steps, () =>
          host.run(['ip', '-batch', '-'], { input: `${byNumbers(steps.map(batchLine).join('\n'))}\n` }),
        ),
      ),
  },
  'ip-alone': {
    joins: false,
    leavesRules: true,
    carryOut: async (host, steps) =>
      orphaned(
        await keepingIpv6(host, steps, async () => {
          for (const args of steps.flatMap((step) => asCommands(step) ?? [])) await host.run(['ip', ...args]);
        }),
      ),
  },
  'ip-force': {
    joins: true,
    leavesRules: true,
    carryOut: async (host, steps) => {
      const lines = steps.map(({ foreign: { kind, device, words } }) =>
        kind === 'address' ? `address delete ${words.split(' ', 1)[0]} dev ${device}\n` : `route delete ${words}\n`,
      );
      // They go by themselves, too.
      await host.run(['ip', '-6', '-force', '-batch', '-'], { input: lines.join(''), accept: [1, 2] });
      return [];
    },
  },
  ovs: {
    joins: true,
    leavesRules: false,
    carryOut: async (host, steps) => orphaned(await keepingIpv6(host, steps, () => changeOvs(host, steps))),
  },
  iptables: {
    joins: true,
    leavesRules: false,
    carryOut: async (host, steps) => {
      await restore(host, 'iptables-restore', renderRestore(steps));
      return [];
    },
  },
  'other-iptables': {
    joins: false,
    leavesRules: false,
    carryOut: each((host, { stray }) => restore(host, stray.restore, renderStrayRemoval(stray))),
  },
  nft: { joins: false, leavesRules: false, carryOut: each(changeByNft) },
  networkmanager: { joins: true, leavesRules: false, carryOut: applyProfiles },
  nmcli: { joins: false, leavesRules: false, carryOut: each(loadConfiguration) },
  'put-back': {
    joins: true,
    leavesRules: false,
    carryOut: async (host, steps) => {
      const foreign = steps.map((step) => step.foreign);
      return orphaned(await keepLost(host, foreign, await putBack(host, foreign)));
    },
  },
  solicitation: { joins: false, leavesRules: true, carryOut: each<StepBy<'solicitation'>>(askRouters) },
  arping: {
    joins: false,
    leavesRules: true,
    carryOut: async (host, steps) => (await Promise.all(steps.map((step) => announced(host, step)))).flat(),
  },
  // Not by a plan: see stale.ts.
  conntrack: { joins: false, leavesRules: false, carryOut: async () => [] },
};

function each<S extends Step>(carryOut: (host: Host, step: S) => Promise<unknown>): CarryOut<S> {
  return async (host, steps) => {
    for (const step of steps) await carryOut(host, step);
    return [];
  };
}

function changeFile(host: Host, step: StepBy<'files'>): Promise<unknown> {
  switch (step.kind) {
    case 'write-file':
      return host.write(step.file.path, step.file.content, step.file.mode);
    case 'remove-file':
      return host.remove(step.path);
    case 'back-up-file':
      return step.replaced ? host.copy(step.path, step.to) : host.move(step.path, step.to);
  }
}

function changeByNft(host: Host, step: StepBy<'nft'>): Promise<unknown> {
  switch (step.kind) {
    case 'remove-jump':
      return removeByHandle(host, step);
    case 'remove-unreadable-rules':
      return host.run(['nft', '-f', '-'], { input: renderNftRemoval(step.unreadable) });
  }
}

async function removeByHandle(host: Host, { jump, handle }: StepOf<'remove-jump'>): Promise<void> {
  const { table, hook } = jump;
  // Since it was looked up others may have changed the chain: it may be of a rule of theirs by now. The next look has another.
  const { stdout } = await host.run(['nft', '-j', 'list', 'chain', 'ip', table, hook]);
  if (handle === undefined || !isOurJumpIn(stdout, handle)) return;
  await host.run(['nft', 'delete', 'rule', 'ip', table, hook, 'handle', String(handle)]);
}

/** Whatever is wrong: by then the change may be verified. */
function announced(host: Host, step: StepOf<'announce-addresses'>): Promise<string[]> {
  return announce(host, step.device, step.mac, step.addresses).then(
    () => [],
    (error: unknown) => {
      const why = error instanceof Error ? error.message : error;
      return [`${describe(step).slice(2)} failed, neighbours learn it by themselves in a while: ${why}`];
    },
  );
}

async function restore(host: Host, command: string, input: string): Promise<void> {
  try {
    await host.run([command, '--noflush', '--wait', String(XTABLES_WAIT_S)], {
      input,
      timeoutMs: (XTABLES_WAIT_S + 30) * 1000,
    });
  } catch (error) {
    if (!(error instanceof CommandError) || error.exitCode === undefined) throw error;
    const { missingModules } = await import('./modules.ts');
    // What iptables said counts, whatever this can find out.
    const missing = await missingModules(host).catch(() => undefined);
    if (missing === undefined) throw error;
    throw new AgentError(`${missing} (${error.message})`, error.status, { cause: error });
  }
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
    if (arping === undefined) throw new UnsupportedError(`arping is missing: install ${packageOf('arping')}`);
  }
  await Promise.all(
    addresses.map((address) => host.launch(['arping', '-A', '-q', '-c', '2', '-w', '3', '-I', device, address])),
  );
}
