// The table of flows of the machine in memory: what conntrack prints of it, and entries taken out as the kernel is asked for it.

import { NotKnown } from './refused.ts';

const TUPLES = [
  ...['-p', '-s', '-d', '-r', '-q'],
  ...['--sport', '--dport', '--reply-port-src', '--reply-port-dst', '-t'],
];

/** As `conntrack -L -o id` prints them. */
export class Flows {
  lines: string[] = [];
  #ids = 1000;

  /** `conntrack -I` with these options, for UDP. */
  insert(options: readonly string[]): void {
    const given = new Map<string, string>();
    for (let at = 0; at < options.length; at += 2) given.set(options[at] ?? '', options[at + 1] ?? '');
    const [protocol, source, destination, from, to, ...ports] = TUPLES.map((option) => given.get(option));
    if (protocol !== 'udp' || given.size !== TUPLES.length) throw new NotKnown(`conntrack -I ${options.join(' ')}`);
    const [sport, dport, replySport, replyDport, timeout] = ports;
    this.lines.push(
      `udp      17 ${timeout} src=${source} dst=${destination} sport=${sport} dport=${dport} [UNREPLIED] ` +
        `src=${from} dst=${to} sport=${replySport} dport=${replyDport} mark=0 use=1 id=${++this.#ids}`,
    );
  }

  /** `ends`: `-s 192.0.2.10 -d 203.0.113.50`, of the original direction. */
  between(protocol: string, ends: string): string {
    const tuple = ends.replace('-s ', ' src=').replace(' -d ', ' dst=');
    const isMeant = (line: string) =>
      line.startsWith(`${protocol} `) && line.slice(0, line.lastIndexOf(' src=')).includes(`${tuple} `);
    return this.lines
      .filter(isMeant)
      .map((line) => `${line}\n`)
      .join('');
  }

  /** Messages of ctnetlink, one behind another, in ISO 8859-1; gives the kernel's answers. */
  answer(messages: string): string {
    const bytes = Buffer.from(messages, 'latin1');
    const answers: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      answers.push(this.#deleted(bytes.subarray(at, at + length)));
      at += length;
    }
    return Buffer.concat(answers).toString('latin1');
  }

  /** An entry is found by what its replies look like, and by its id. */
  #deleted(message: Buffer): Buffer {
    const body = attributesOf(message.subarray(20));
    const tuple = attributesOf(body.get(2));
    const [ip, protocol] = [attributesOf(tuple.get(1)), attributesOf(tuple.get(2))];
    const replies = [
      `src=${[...(ip.get(1) ?? [])].join('.')} dst=${[...(ip.get(2) ?? [])].join('.')}`,
      ...(protocol.has(2) ? [`sport=${protocol.get(2)?.readUInt16BE()} dport=${protocol.get(3)?.readUInt16BE()}`] : []),
    ].join(' ');
    const index = this.lines.findIndex(
      (line) =>
        Number(/^\S+ +(\d+)/.exec(line)?.[1]) === protocol.get(1)?.[0] &&
        line.slice(line.lastIndexOf('src=')).startsWith(`${replies} `) &&
        (!body.has(12) || line.includes(` id=${body.get(12)?.readUInt32BE()}`)),
    );
    if (index !== -1) this.lines.splice(index, 1);
    const answer = Buffer.alloc(36);
    answer.writeUInt32LE(36, 0);
    answer.writeUInt16LE(2, 4);
    answer.writeUInt32LE(message.readUInt32LE(8), 8);
    answer.writeInt32LE(index === -1 ? -2 : 0, 16);
    message.copy(answer, 20, 0, 16);
    return answer;
  }
}

function attributesOf(bytes: Buffer = Buffer.alloc(0)): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}
