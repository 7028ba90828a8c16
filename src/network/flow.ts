// An entry of the kernel's table of flows. Pure.

/** Addresses and ports are those of the original direction, and, named so, those of the replies. */
export type Flow = {
  /** As the tool names it; one that it has no name for is `unknown`. */
  protocol: string;
  protocolNumber: number;
  source: string;
  destination: string;
  sourcePort?: number;
  destinationPort?: number;
  replySource: string;
  replyDestination: string;
  replySourcePort?: number;
  replyDestinationPort?: number;
  icmp?: Icmp;
  replyIcmp?: Icmp;
  greKeys?: GreKeys;
  replyGreKeys?: GreKeys;
  /** Of TCP, SCTP and DCCP. */
  state?: string;
  unreplied: boolean;
  assured: boolean;
  mark: number;
  /** In a zone other than the default one, be it in one direction only: somebody else's. */
  zoned: boolean;
  /**
   * With `-o id`: made of the entry's place in memory and (Linux 5.1) its original direction. A later entry has the same where it has the
   * same of both, which happens at once: by the id alone it cannot be told from one that was translated otherwise.
   */
  id?: number;
};

type Icmp = { type: number; code: number; id: number };
type GreKeys = { source: number; destination: number };

/** Entries that have these values, whatever else they are. */
export type FlowSelector = Partial<Omit<Flow, 'unreplied' | 'assured' | 'mark' | 'zoned' | 'id' | 'state'>>;

/** Protocol, and both directions: an entry with the same says the same. */
export const flowKey = (flow: Flow): string =>
  [
    flow.protocolNumber,
    flow.source,
    flow.destination,
    flow.sourcePort ?? flow.greKeys?.source ?? (flow.icmp && `${flow.icmp.type}/${flow.icmp.code}`),
    flow.destinationPort ?? flow.greKeys?.destination ?? flow.icmp?.id,
    flow.replySource,
    flow.replyDestination,
    flow.replySourcePort ?? flow.replyGreKeys?.source,
    flow.replyDestinationPort ?? flow.replyGreKeys?.destination ?? flow.replyIcmp?.id,
  ].join(' ');
