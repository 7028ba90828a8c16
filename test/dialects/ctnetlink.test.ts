import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseFlow } from '../../src/dialects/conntrack.ts';
import { deleteMessage, parseAnswers } from '../../src/dialects/ctnetlink.ts';
import type { Flow } from '../../src/network/flow.ts';

const bytes = (text: string): number[] => [...Buffer.from(text.replace(/[^0-9a-f]/g, ''), 'hex')];
const hex = (message: readonly number[]): string => Buffer.from(message).toString('hex');

const ADDRESSES = '1400 0180  0800 0100 c0a80002  0800 0200 c0000201';
const HOSTS = 'src=192.0.2.1 dst=198.51.100.7';
const BACK = 'src=192.168.0.2 dst=192.0.2.1';
const PORTS = 'sport=5000 dport=53';
const AS_PORTS = '0600 0200 0035 0000  0600 0300 1388 0000';

const flowOf = (line: string): Flow => parseFlow(line) ?? assert.fail(line);

describe('a message that deletes a flow', () => {
  const CASES: [string, string, string][] = [
    [
      'has addresses and ports of its replies, its protocol and its id',
      `udp 17 29 ${HOSTS} ${PORTS} ${BACK} sport=53 dport=5000 mark=0 use=1 id=4294967041`,
      `50000000 0201 0500 07000000 00000000  02 00 0000  3400 0280 ${ADDRESSES} 1c00 0280  0500 0100 11 000000 ${AS_PORTS}  0800 0c00 ffffff01`,
    ],
    [
      'has no id where none is known',
      `sctp 132 29 ESTABLISHED ${HOSTS} ${PORTS} ${BACK} sport=53 dport=5000 mark=0 use=1`,
      `48000000 0201 0500 07000000 00000000  02 00 0000  3400 0280 ${ADDRESSES} 1c00 0280  0500 0100 84 000000 ${AS_PORTS}`,
    ],
    [
      'has type, code and id of ICMP',
      `icmp 1 29 ${HOSTS} type=8 code=0 id=258 ${BACK} type=0 code=0 id=772 mark=0 use=1 id=1`,
      `58000000 0201 0500 07000000 00000000  02 00 0000  3c00 0280 ${ADDRESSES} 2400 0280  0500 0100 01 000000  0600 0400 0304 0000  0500 0500 00 000000  0500 0600 00 000000  0800 0c00 00000001`,
    ],
    [
      'has the keys of GRE as ports',
      `gre 47 29 ${HOSTS} srckey=0x1388 dstkey=0x35 ${BACK} srckey=0x35 dstkey=0x1388 mark=0 use=1 id=1`,
      `50000000 0201 0500 07000000 00000000  02 00 0000  3400 0280 ${ADDRESSES} 1c00 0280  0500 0100 2f 000000 ${AS_PORTS}  0800 0c00 00000001`,
    ],
    [
      'has no more than the number of a protocol without ports',
      `unknown 50 29 ${HOSTS} ${BACK} mark=0 use=1 id=1`,
      `40000000 0201 0500 07000000 00000000  02 00 0000  2400 0280 ${ADDRESSES} 0c00 0280  0500 0100 32 000000  0800 0c00 00000001`,
    ],
  ];
  for (const [name, line, expected] of CASES)
    it(name, () => {
      assert.equal(hex(deleteMessage(flowOf(line), 7)), hex(bytes(expected)));
    });
});

describe('what the kernel answers', () => {
  const answer = (sequence: string, errno: string, rest = '') =>
    `${rest === '' ? '24' : '28'}000000 0200 0001 ${sequence}000000 00000000 ${errno} 54000000 0201 0500 ${sequence}000000 00000000 ${rest}`;

  it('says of each message whether it was done', () => {
    const all = `${answer('00', '00000000')} ${answer('01', 'feffffff', '02000000')} ${answer('02', 'ffffffff')}`;
    assert.deepEqual(
      parseAnswers(Uint8Array.from(bytes(all))),
      new Map([
        [0, 0],
        [1, 2],
        [2, 1],
      ]),
    );
  });

  it('is nothing where it is another message', () => {
    const other = answer('00', '00000000').replace('0200 0001', '0001 0000');
    assert.deepEqual(parseAnswers(Uint8Array.from(bytes(`${other} ${answer('05', '00000000')}`))), new Map([[5, 0]]));
  });

  for (const [name, text] of [
    ['nothing', ''],
    ['cut off', answer('00', '00000000').slice(0, 40)],
    ['of no length', '00'.repeat(40)],
  ] as const)
    it(`is none where it is ${name}`, () => {
      assert.deepEqual(parseAnswers(Uint8Array.from(bytes(text))), new Map());
    });
});
