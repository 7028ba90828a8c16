// Options for the conntrack tool, and the table that it prints. Pure.

import type { Flow, FlowSelector } from '../network/flow.ts';

/** Options of `conntrack -D` for just what has these values; of a flow for just that. */
export function deleteFlowOptions(flow: FlowSelector): string[] {
  return [
    ...option('-p', flow.protocol === 'unknown' ? `${flow.protocolNumber}` : flow.protocol),
    ...option('-s', flow.source),
    ...option('-d', flow.destination),
    ...option('-r', flow.replySource),
    ...option('-q', flow.replyDestination),
    ...option('--sport', flow.sourcePort?.toString()),
    ...option('--dport', flow.destinationPort?.toString()),
    ...option('--reply-port-src', flow.replySourcePort?.toString()),
    ...option('--reply-port-dst', flow.replyDestinationPort?.toString()),
    ...option('--icmp-type', flow.icmp?.type.toString()),
    ...option('--icmp-code', flow.icmp?.code.toString()),
    ...option('--icmp-id', flow.icmp?.id.toString()),
    ...option('--srckey', flow.greKeys?.source.toString()),
    ...option('--dstkey', flow.greKeys?.destination.toString()),
  ];
}

const option = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [name, value]);

/** Reads `conntrack -L`; lines of another form are passed over. */
export const parseFlows = (text: string): Flow[] => text.split('\n').flatMap((line) => parseFlow(line) ?? []);

const [SPACE, EQUALS, COLON, ZERO, NINE, BRACKET] = [0x20, 0x3d, 0x3a, 0x30, 0x39, 0x5b];
const [ICMP, GRE] = [1, 47];

/**
 * One line of `conntrack -L`, with `-o id` or without; undefined where it is something else, an IPv6 entry too. A table may have a
 * million: word by word, with no regular expression, a line takes half a microsecond.
 *
 * `icmp 1 29 src=… dst=… type=8 code=0 id=7 [UNREPLIED] src=… dst=… type=0 code=0 id=7 mark=0 use=1 id=3505733596`: the original
 * direction, then the replies, then what is the entry's. An offloaded one has neither time nor state.
 */
export function parseFlow(line: string): Flow | undefined {
  let protocol = '';
  let protocolNumber = -1;
  let state: string | undefined;
  let direction = 0;
  const addresses = ['', '', '', ''];
  const ports = [-1, -1, -1, -1];
  const icmp = [-1, -1, -1, -1, -1, -1];
  let ofIcmp = false;
  const keys = [-1, -1, -1, -1];
  let [unreplied, assured, zoned] = [false, false, false];
  let [mark, id] = [0, -1];

  for (let at = 0, words = 0; at < line.length; words++) {
    while (line.charCodeAt(at) === SPACE) at++;
    let end = line.indexOf(' ', at);
    if (end === -1) end = line.length;
    if (end === at) break;
    const equals = line.charCodeAt(at) === BRACKET ? -1 : equalsIn(line, at, end);
    if (words === 0) {
      if (equals !== -1) return undefined;
      protocol = line.slice(at, end);
    } else if (words === 1) {
      protocolNumber = decimal(line, at, end);
      if (protocolNumber < 0) return undefined;
    } else if (equals === -1) {
      if (line.startsWith('[UNREPLIED]', at)) unreplied = true;
      else if (line.startsWith('[ASSURED]', at)) assured = true;
      else if (direction === 0 && line.charCodeAt(at) > NINE && line.charCodeAt(at) !== BRACKET)
        state = line.slice(at, end);
    } else {
      const value = equals + 1;
      const ofReply = direction === 2;
      switch (line.slice(at, equals)) {
        case 'src':
          if (++direction > 2 || hasColon(line, value, end)) return undefined;
          addresses[direction === 1 ? 0 : 2] = line.slice(value, end);
          break;
        case 'dst':
          addresses[ofReply ? 3 : 1] = line.slice(value, end);
          break;
        case 'sport':
          ports[ofReply ? 2 : 0] = decimal(line, value, end);
          break;
        case 'dport':
          ports[ofReply ? 3 : 1] = decimal(line, value, end);
          break;
        case 'type':
          ofIcmp = true;
          icmp[ofReply ? 3 : 0] = decimal(line, value, end);
          break;
        case 'code':
          icmp[ofReply ? 4 : 1] = decimal(line, value, end);
          break;
        case 'id':
          // The first one after a type is ICMP's own.
          if (ofIcmp) icmp[ofReply ? 5 : 2] = decimal(line, value, end);
          else id = decimal(line, value, end);
          ofIcmp = false;
          break;
        case 'srckey':
          keys[ofReply ? 2 : 0] = Number(line.slice(value, end));
          break;
        case 'dstkey':
          keys[ofReply ? 3 : 1] = Number(line.slice(value, end));
          break;
        case 'mark':
          mark = decimal(line, value, end);
          break;
        case 'zone':
        case 'zone-orig':
        case 'zone-reply':
          zoned ||= decimal(line, value, end) !== 0;
          break;
      }
    }
    at = end;
  }

  const [source, destination, replySource, replyDestination] = addresses;
  if (!source || !destination || !replySource || !replyDestination) return undefined;
  const [sourcePort = -1, destinationPort = -1, replySourcePort = -1, replyDestinationPort = -1] = ports;
  const flow: Flow = {
    protocol,
    protocolNumber,
    source,
    destination,
    replySource,
    replyDestination,
    unreplied,
    assured,
    mark,
    zoned,
  };
  if (sourcePort >= 0) flow.sourcePort = sourcePort;
  if (destinationPort >= 0) flow.destinationPort = destinationPort;
  if (replySourcePort >= 0) flow.replySourcePort = replySourcePort;
  if (replyDestinationPort >= 0) flow.replyDestinationPort = replyDestinationPort;
  if (protocolNumber === ICMP) {
    const [type = -1, code = -1, icmpId = -1, replyType = -1, replyCode = -1, replyId = -1] = icmp;
    if (type >= 0 && code >= 0 && icmpId >= 0) flow.icmp = { type, code, id: icmpId };
    if (replyType >= 0 && replyCode >= 0 && replyId >= 0)
      flow.replyIcmp = { type: replyType, code: replyCode, id: replyId };
  }
  if (protocolNumber === GRE) {
    const [sourceKey = -1, destinationKey = -1, replySourceKey = -1, replyDestinationKey = -1] = keys;
    if (sourceKey >= 0 && destinationKey >= 0) flow.greKeys = { source: sourceKey, destination: destinationKey };
    if (replySourceKey >= 0 && replyDestinationKey >= 0)
      flow.replyGreKeys = { source: replySourceKey, destination: replyDestinationKey };
  }
  if (state !== undefined) flow.state = state;
  if (id >= 0) flow.id = id;
  return flow;
}

function equalsIn(line: string, from: number, to: number): number {
  for (let at = from; at < to; at++) if (line.charCodeAt(at) === EQUALS) return at;
  return -1;
}

function hasColon(line: string, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (line.charCodeAt(at) === COLON) return true;
  return false;
}

/** -1 where it is no number. */
function decimal(line: string, from: number, to: number): number {
  let number = 0;
  for (let at = from; at < to; at++) {
    const digit = line.charCodeAt(at);
    if (digit < ZERO || digit > NINE) return -1;
    number = number * 10 + digit - ZERO;
  }
  return from === to ? -1 : number;
}
