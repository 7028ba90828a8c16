// What was held against conntrack's entries last, in /run: gone with a reboot, as they are. Of a run that was killed between its
// rules and its cuts it tells the next one that entries are to be looked at, and what was ours before.

import { AgentError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { boolean, object, string } from '../base/shape.ts';
import { isAutomatic, type Trigger } from '../base/trigger.ts';
import type { Former } from '../network/flows.ts';
import type { Ways } from '../network/translation.ts';
import type { Host } from './host.ts';
import { fitting, former } from './kept-shapes.ts';

export type FlowRecord = {
  /** False: rules have changed since, or are just changing. */
  clean: boolean;
  former: Former;
  /** What the rules do. */
  ways: Ways;
};

const record = object({
  clean: boolean,
  former,
  ways: string,
});

/**
 * Undefined: none of ours has changed anything since the boot, or it was a 1.0. A record that is damaged is none of 1.0's, and says
 * nothing: entries are to be looked at.
 */
export async function readFlowRecord(host: Host): Promise<FlowRecord | undefined> {
  const text = await host.read(PATHS.flows, { orNothing: true });
  if (text === undefined) return (await host.info(PATHS.flows)) === undefined ? undefined : NOTHING_KNOWN;
  const known = fitting(record, text);
  return known === undefined ? NOTHING_KNOWN : { ...known, ways: known.ways === 'as in 1.0' ? known.ways : 'today' };
}

const NOTHING_KNOWN: FlowRecord = { clean: false, former: { addresses: [], networks: [] }, ways: 'today' };

/** Of this network namespace; the kernel may not count before conntrack is loaded. */
export const hasNoFlows = async (host: Host): Promise<boolean> =>
  (await host.sysctl('net/netfilter/nf_conntrack_count')) === '0';

/** Gives why it could not be written. */
export async function writeFlowRecord(host: Host, now: FlowRecord): Promise<string | undefined> {
  try {
    await host.write(PATHS.flows, `${JSON.stringify(now)}\n`, 0o600);
    return undefined;
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return error.message;
  }
}

/**
 * What a router that 1.0 set up does, an upgrade alone does not change: not before the next boot, or somebody asks for a reload.
 * Nothing tells of a 1.0 but a last good configuration without a record of ours.
 */
export async function waysFor(host: Host, trigger: Trigger): Promise<Ways> {
  if (trigger === 'boot' || !isAutomatic(trigger)) return 'today';
  return waysInForce(host);
}

export async function waysInForce(host: Host): Promise<Ways> {
  const record = await readFlowRecord(host);
  if (record !== undefined) return record.ways;
  return (await host.info(PATHS.lastGood)) === undefined ? 'today' : 'as in 1.0';
}
