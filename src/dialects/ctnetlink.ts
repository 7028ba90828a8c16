import type { Flow } from '../network/flow.ts';

// Messages to the kernel's table of flows (ctnetlink, linux/netfilter/nfnetlink_conntrack.h), and its answers. Pure.
// Lengths, types and errors are in the machine's own byte order, which is little-endian on all we run on; values are big-endian.

const NLMSG_ERROR = 2;
/** Subsystem ctnetlink (1), message IPCTNL_MSG_CT_DELETE (2). */
const DELETE = 0x0102;
/** NLM_F_REQUEST, NLM_F_ACK: an answer also where all is well. */
const FLAGS = 0x0005;
const AF_INET = 2;
const NESTED = 0x8000;

const CTA_TUPLE_REPLY = 2;
const CTA_ID = 12;
const CTA_TUPLE = { ip: 1, protocol: 2 };
const CTA_IP = { source: 1, destination: 2 };
const CTA_PROTO = { number: 1, source: 2, destination: 3, icmpId: 4, icmpType: 5, icmpCode: 6 };

/** Answers by number (errno): done, and no such entry. */
export const DONE = 0;
export const ENOENT = 2;

/**
 * Deletes just this entry of the default zone. The kernel finds it by what its replies look like, without a walk through the table, and
 * compares the id, which is made of the original direction: both have to be those of the flow. (By the original direction and the id it
 * would also take an entry that is translated otherwise, if that has come in the very place of this one.)
 */
export function deleteMessage(flow: Flow, sequence: number): number[] {
  const tuple = attribute(CTA_TUPLE_REPLY | NESTED, [
    ...attribute(CTA_TUPLE.ip | NESTED, [
      ...attribute(CTA_IP.source, addressBytes(flow.replySource)),
      ...attribute(CTA_IP.destination, addressBytes(flow.replyDestination)),
    ]),
    ...attribute(CTA_TUPLE.protocol | NESTED, [
      ...attribute(CTA_PROTO.number, [flow.protocolNumber]),
      ...protocolAttributes(flow),
    ]),
  ]);
  const body = [AF_INET, 0, 0, 0, ...tuple, ...(flow.id === undefined ? [] : attribute(CTA_ID, big32(flow.id)))];
  return [
    ...little32(16 + body.length),
    ...little16(DELETE),
    ...little16(FLAGS),
    ...little32(sequence),
    ...little32(0),
    ...body,
  ];
}

/** Of the replies. GRE's keys go where others have ports. */
function protocolAttributes({
  replyIcmp: icmp,
  replyGreKeys: greKeys,
  replySourcePort: sourcePort,
  replyDestinationPort: destinationPort,
}: Flow): number[] {
  if (icmp !== undefined)
    return [
      ...attribute(CTA_PROTO.icmpId, big16(icmp.id)),
      ...attribute(CTA_PROTO.icmpType, [icmp.type]),
      ...attribute(CTA_PROTO.icmpCode, [icmp.code]),
    ];
  const source = greKeys?.source ?? sourcePort;
  const destination = greKeys?.destination ?? destinationPort;
  if (source === undefined || destination === undefined) return [];
  return [...attribute(CTA_PROTO.source, big16(source)), ...attribute(CTA_PROTO.destination, big16(destination))];
}

/** Its length does not count what fills it up to a multiple of four. */
const attribute = (type: number, value: readonly number[]): number[] => [
  ...little16(4 + value.length),
  ...little16(type),
  ...value,
  ...[0, 0, 0].slice(0, -value.length & 3),
];

const addressBytes = (address: string): number[] => address.split('.').map(Number);
const little16 = (n: number): number[] => [n & 255, (n >> 8) & 255];
const little32 = (n: number): number[] => [n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >> 24) & 255];
const big16 = (n: number): number[] => little16(n).reverse();
const big32 = (n: number): number[] => little32(n).reverse();

/** What the kernel said of each message, by its sequence; what is cut off, or no such answer, is passed over. */
export function parseAnswers(bytes: Uint8Array): Map<number, number> {
  const answers = new Map<number, number>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 20 <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < 20) break;
    if (view.getUint16(at + 4, true) === NLMSG_ERROR)
      answers.set(view.getUint32(at + 8, true), Math.abs(view.getInt32(at + 16, true)));
    at += (length + 3) & ~3;
  }
  return answers;
}
