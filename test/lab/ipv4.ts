// IPv4 packets as data and as bytes, whole and with their checksums: what the lab's raw flows are made of.

export type Protocol = 'icmp' | 'ipip' | 'tcp' | 'udp' | 'gre' | 'esp' | 'sctp';

/** What a protocol does not have is 0 or empty. */
export type Packet = {
  protocol: Protocol;
  source: string;
  destination: string;
  /** Of ICMP echoes both are the identifier. */
  sourcePort: number;
  destinationPort: number;
  ttl: number;
  /** Of TCP any of `FSRPAU`; of ICMP type and code, as `8/0`; of SCTP the name of the chunk. */
  flags: string;
  seq: number;
  ack: number;
  window: number;
  /** Of SCTP: what the other side is to call this one by, and what this one calls the other. */
  tag: number;
  peerTag: number;
  text: string;
  /** Instead of a text: the packet that an ICMP error is about. */
  about?: Packet;
};

export const NUMBERS = { icmp: 1, ipip: 4, tcp: 6, udp: 17, gre: 47, esp: 50, sctp: 132 } as const satisfies Record<
  Protocol,
  number
>;
const CHUNKS = ['DATA', 'INIT', 'INIT ACK', 'SACK', 'HEARTBEAT', 'HEARTBEAT ACK', 'ABORT'];
/** For experiments: what an inner packet carries. */
const INNER = 253;
const HEADER = 20;

export function packet(given: Partial<Packet> & Pick<Packet, 'protocol' | 'source' | 'destination'>): Packet {
  const none = { sourcePort: 0, destinationPort: 0, flags: '', seq: 0, ack: 0, tag: 0, peerTag: 0, text: '' };
  return { ...none, ttl: 64, window: 64_000, ...given };
}

/** The kernel fills in the header's own checksum, and an identification. */
export function encode(given: Packet): Buffer {
  const payload = payloadOf(given);
  return Buffer.concat([header(given, NUMBERS[given.protocol], payload.length), payload]);
}

function header({ source, destination, ttl }: Packet, protocol: number, length: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(0x45, 0);
  bytes.writeUInt16BE(HEADER + length, 2);
  bytes.writeUInt8(ttl, 8);
  bytes.writeUInt8(protocol, 9);
  bytes.set(octets(source), 12);
  bytes.set(octets(destination), 16);
  return bytes;
}

function payloadOf(given: Packet): Buffer {
  const text = Buffer.from(given.text);
  switch (given.protocol) {
    case 'udp':
      return withChecksum(
        Buffer.concat([words(given.sourcePort, given.destinationPort, 8 + text.length, 0), text]),
        6,
        {
          pseudo: given,
        },
      );
    case 'tcp':
      return withChecksum(tcp(given, text), 16, { pseudo: given });
    case 'icmp':
      return withChecksum(icmp(given, text), 2);
    case 'sctp':
      return sctp(given, text);
    case 'gre':
      // Version 0, no key. NAT drops one that carries less than 4 bytes.
      return Buffer.concat([words(0, 0x0800), inner(given, text)]);
    case 'esp':
      return Buffer.concat([longs(0x1000, given.seq), text]);
    case 'ipip':
      return inner(given, text);
  }
}

const inner = (given: Packet, text: Buffer) =>
  Buffer.concat([withChecksum(header(given, INNER, text.length), 10), text]);

function tcp({ sourcePort, destinationPort, seq, ack, flags, window }: Packet, text: Buffer): Buffer {
  const bits = [...flags].reduce((sum, flag) => sum | (1 << 'FSRPAU'.indexOf(flag)), 0);
  return Buffer.concat([
    words(sourcePort, destinationPort),
    longs(seq, ack),
    words((5 << 12) | bits, window, 0, 0),
    text,
  ]);
}

/** An error quotes the header and the first 8 bytes, as RFC 792 has it. */
function icmp({ flags, sourcePort, seq, about }: Packet, text: Buffer): Buffer {
  const [type = 0, code = 0] = flags.split('/').map(Number);
  if (about === undefined) return Buffer.concat([words((type << 8) | code, 0, sourcePort, seq & 0xffff), text]);
  const quoted = encode(about).subarray(0, HEADER + 8);
  const head = withChecksum(quoted.subarray(0, HEADER), 10);
  return Buffer.concat([words((type << 8) | code, 0, 0, 0), head, quoted.subarray(HEADER)]);
}

/** One chunk: INIT and INIT ACK have their 16 fixed bytes, and the text as a parameter that nobody knows. */
function sctp(
  { sourcePort, destinationPort, flags, tag, peerTag, seq, text: { length } }: Packet,
  text: Buffer,
): Buffer {
  const padded = Buffer.alloc((length + 3) & ~3);
  text.copy(padded);
  const fixed = [longs(tag, 65_536), words(1, 1), longs(seq), words(0xc000, 4 + length)];
  const body = flags.startsWith('INIT') ? Buffer.concat([...fixed, padded]) : padded;
  const chunk = Buffer.concat([words(CHUNKS.indexOf(flags) << 8, 4 + body.length), body]);
  const whole = Buffer.concat([words(sourcePort, destinationPort), longs(peerTag, 0), chunk]);
  whole.writeUInt32LE(crc32c(whole), 8);
  return whole;
}

export function decode(bytes: Buffer): Packet {
  const number = bytes.readUInt8(9);
  const protocol = (Object.keys(NUMBERS) as Protocol[]).find((name) => NUMBERS[name] === number);
  if (protocol === undefined) throw new Error(`a packet of protocol ${number}`);
  const given = packet({
    protocol,
    source: bytes.subarray(12, 16).join('.'),
    destination: bytes.subarray(16, 20).join('.'),
    ttl: bytes.readUInt8(8),
  });
  const payload = bytes.subarray(4 * (bytes.readUInt8(0) & 15), bytes.readUInt16BE(2));
  return { ...given, ...payloadIn(protocol, payload) };
}

function payloadIn(protocol: Protocol, payload: Buffer): Partial<Packet> {
  const at = (offset: number) => payload.readUInt16BE(offset);
  const from = (offset: number) => payload.subarray(offset).toString();
  const ports = () => ({ sourcePort: at(0), destinationPort: at(2) });
  switch (protocol) {
    case 'udp':
      return { ...ports(), text: from(8) };
    case 'tcp':
      return {
        ...ports(),
        seq: payload.readUInt32BE(4),
        ack: payload.readUInt32BE(8),
        flags: [...'FSRPAU'].filter((_, bit) => at(12) & (1 << bit)).join(''),
        window: at(14),
        text: from(4 * (at(12) >> 12)),
      };
    case 'icmp': {
      const echo = { sourcePort: at(4), destinationPort: at(4), seq: at(6), text: from(8) };
      const flags = payload.subarray(0, 2).join('/');
      return flags === '8/0' || flags === '0/0' ? { flags, ...echo } : { flags };
    }
    case 'sctp':
      return { ...ports(), peerTag: payload.readUInt32BE(4), ...chunkIn(payload.subarray(12)) };
    case 'gre':
      return { text: from(4 + HEADER) };
    case 'esp':
      return { seq: payload.readUInt32BE(4), text: from(8) };
    case 'ipip':
      return { text: from(HEADER) };
  }
}

function chunkIn(chunk: Buffer): Partial<Packet> {
  const flags = CHUNKS[chunk.readUInt8(0)] ?? '';
  if (!flags.startsWith('INIT')) return { flags };
  const length = chunk.readUInt16BE(22) - 4;
  const [tag, seq] = [chunk.readUInt32BE(4), chunk.readUInt32BE(16)];
  return { flags, tag, seq, text: chunk.subarray(24, 24 + length).toString() };
}

const octets = (address: string) => address.split('.').map(Number);

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, 2 * index);
  return bytes;
}

function longs(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * index);
  return bytes;
}

/** The checksum of the Internet, put where it belongs; of UDP and TCP it is about the addresses, too. */
function withChecksum(bytes: Buffer, offset: number, { pseudo }: { pseudo?: Packet } = {}): Buffer {
  const sum = (of: Uint8Array) => of.reduce((sum, byte, index) => sum + (index % 2 === 0 ? byte << 8 : byte), 0);
  let total = sum(bytes);
  if (pseudo !== undefined) {
    const { source, destination, protocol } = pseudo;
    total += sum(Uint8Array.from([...octets(source), ...octets(destination)])) + NUMBERS[protocol] + bytes.length;
  }
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  const whole = Buffer.from(bytes);
  whole.writeUInt16BE(~total & 0xffff, offset);
  return whole;
}

/** Castagnoli's, that of SCTP. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
