// Options for the conntrack tool, and the table that it prints. Pure.

import type { FlowFilter } from '../network/flows.ts';

/** The original direction of a flow, and the addresses of its replies. */
export type Flow = {
  protocol: string;
  source: string;
  destination: string;
  sourcePort?: number;
  destinationPort?: number;
  replySource: string;
  replyDestination: string;
};

/** Options of `conntrack -D` for a filter; for one with a range of ports see `deleteFlowOptions`: the tool takes one port. */
export function deleteOptions(filter: FlowFilter): string[] {
  return [
    ...option('-s', filter.originalSource),
    ...option('-d', filter.originalDestination),
    ...option('-r', filter.replySource),
    ...option('-q', filter.replyDestination),
    ...option('-p', filter.protocol),
    ...option('--dport', filter.ports?.from.toString()),
  ];
}

/** Options of `conntrack -D` for just this flow. */
export function deleteFlowOptions(flow: Flow): string[] {
  return [
    ...option('-p', flow.protocol),
    ...option('-s', flow.source),
    ...option('-d', flow.destination),
    ...option('--sport', flow.sourcePort?.toString()),
    ...option('--dport', flow.destinationPort?.toString()),
  ];
}

const option = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [name, value]);

/** Reads `conntrack -L`; lines of another form are passed over. */
export function parseFlows(text: string): Flow[] {
  return text.split('\n').flatMap((line): Flow[] => {
    const [protocol] = line.split(' ', 1);
    const values = (name: string) => [...line.matchAll(new RegExp(`\\b${name}=(\\S+)`, 'g'))].map((match) => match[1]);
    const [source, replySource] = values('src');
    const [destination, replyDestination] = values('dst');
    const [sourcePort] = values('sport');
    const [destinationPort] = values('dport');
    if (!protocol || !source || !destination || !replySource || !replyDestination) return [];
    return [
      {
        protocol,
        source,
        destination,
        replySource,
        replyDestination,
        ...(sourcePort !== undefined && { sourcePort: Number(sourcePort) }),
        ...(destinationPort !== undefined && { destinationPort: Number(destinationPort) }),
      },
    ];
  });
}

export function matches(filter: FlowFilter, flow: Flow): boolean {
  const { ports } = filter;
  return (
    (filter.originalSource ?? flow.source) === flow.source &&
    (filter.originalDestination ?? flow.destination) === flow.destination &&
    (filter.replySource ?? flow.replySource) === flow.replySource &&
    (filter.replyDestination ?? flow.replyDestination) === flow.replyDestination &&
    (filter.protocol ?? flow.protocol) === flow.protocol &&
    (ports === undefined || inRange(flow.destinationPort, ports))
  );
}

const inRange = (port: number | undefined, { from, to }: { from: number; to: number }): boolean =>
  port !== undefined && from <= port && port <= to;
