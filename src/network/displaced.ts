import { type Flow, flowKey } from './flow.ts';
// Entries that have a port of the kernel's choice because another one, that has to go, held the port that they would have. Their
// addresses are right, and it is the port that the other side goes by (SIP, from 5060 to 5060). Pure.

/** What is to go, or went in this run, and who had given way before. */
export type HeldPorts = {
  /** As they were asked for: whose answers would come so gave way to them. */
  originals: Set<string>;
  /** As they were answered. Only those that came while they were cut gave way for their sake: with an older one that is everyday. */
  replies: Set<string>;
  before: Set<string> | undefined;
};

export const nothingHeld = (): HeldPorts => ({ originals: new Set(), replies: new Set(), before: undefined });

/** Whether the kernel has given it another port than the one that it was sent from. */
export const hasOtherPort = ({ sourcePort, replyDestinationPort }: Flow): boolean =>
  sourcePort !== undefined && replyDestinationPort !== undefined && sourcePort !== replyDestinationPort;

/** Of those that have another port, the ones that gave way to these. */
export function displacedBy(held: HeldPorts, doomed: readonly Flow[], shifted: readonly Flow[]): Flow[] {
  const { replies, before } = held;
  const originals = new Set([...held.originals, ...doomed.map(originalOf)]);
  const gaveWay = (flow: Flow): boolean => {
    const reply = unshiftedReplyOf(flow);
    return originals.has(reply) || (replies.has(reply) && before !== undefined && !before.has(flowKey(flow)));
  };
  const found: Flow[] = [];
  // One that gave way holds, so, the port of the one that answers it.
  for (let left = shifted; ; ) {
    const some = new Set(left.filter(gaveWay));
    if (some.size === 0) return found;
    found.push(...some);
    for (const flow of some) originals.add(originalOf(flow));
    left = left.filter((flow) => !some.has(flow));
  }
}

/**
 * Whether it began, untranslated, with an answer to what was cut. Where both directions look alike (ESP, GRE, UDP from 5060 to 5060)
 * what was asked goes on as the answer of it, with its own source for ever.
 */
export const answersGone = ({ replies }: HeldPorts, flow: Flow): boolean =>
  replies.size > 0 &&
  flow.replySource === flow.destination &&
  flow.replyDestination === flow.source &&
  replies.has(originalOf(flow));

export function hold(held: HeldPorts, gone: readonly Flow[]): void {
  for (const flow of gone) {
    held.originals.add(originalOf(flow));
    held.replies.add(replyOf(flow));
  }
}

const tuple = (...words: (string | number | undefined)[]): string => words.join(' ');

const originalOf = ({ protocolNumber, source, sourcePort, destination, destinationPort }: Flow): string =>
  tuple(protocolNumber, source, sourcePort, destination, destinationPort);

const replyOf = ({
  protocolNumber,
  replySource,
  replySourcePort,
  replyDestination,
  replyDestinationPort,
}: Flow): string => tuple(protocolNumber, replySource, replySourcePort, replyDestination, replyDestinationPort);

/** What would answer it, had it kept its port. */
const unshiftedReplyOf = (flow: Flow): string => replyOf({ ...flow, replyDestinationPort: flow.sourcePort ?? 0 });
