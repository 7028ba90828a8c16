import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  contains,
  formatIpv4,
  formatNetwork,
  hasHostBits,
  ipv4,
  isUnicast,
  lastOf,
  mask,
  networkOf,
  overlap,
  parseCidr,
  parseIpv4,
  withinAny,
} from '../../src/base/ipv4.ts';

const cidr = (text: string) => parseCidr(text) ?? assert.fail(`${text} is not CIDR`);

describe('IPv4', () => {
  const texts: [string, number | undefined][] = [
    ['0.0.0.0', 0],
    ['192.0.2.1', 0xc0000201],
    ['255.255.255.255', 0xffffffff],
    ['192.0.2.256', undefined],
    ['192.0.2.01', undefined],
    ['192.0.2', undefined],
    ['192.0.2.1.1', undefined],
    ['192.0.2.1 ', undefined],
    ['192.0.2.+1', undefined],
    ['192.0.2.1/24', undefined],
    ['2001:db8::1', undefined],
    ['١٩٢.0.2.1', undefined],
    ['', undefined],
  ];
  for (const [text, value] of texts)
    it(`reads ${JSON.stringify(text)} as ${value === undefined ? 'no address' : value}`, () => {
      assert.equal(parseIpv4(text), value);
    });

  it('throws where a text was thought to be an address', () => {
    assert.throws(() => ipv4('192.0.2.300'), { message: 'not an IPv4 address: 192.0.2.300' });
  });

  it('reads back every address that it prints', () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => parseIpv4(formatIpv4(value)) === value));
  });

  it('prints the same text for every address that it reads', () => {
    fc.assert(fc.property(fc.ipV4(), (text) => formatIpv4(ipv4(text)) === text));
  });
});

describe('networks', () => {
  const masks: [number, string][] = [
    [0, '0.0.0.0'],
    [1, '128.0.0.0'],
    [24, '255.255.255.0'],
    [31, '255.255.255.254'],
    [32, '255.255.255.255'],
  ];
  for (const [prefix, text] of masks)
    it(`/${prefix} is ${text}`, () => {
      assert.equal(formatIpv4(mask(prefix)), text);
    });

  const spans: [string, number, string, string][] = [
    ['203.0.113.77', 24, '203.0.113.0/24', '203.0.113.255'],
    ['203.0.113.77', 26, '203.0.113.64/26', '203.0.113.127'],
    ['203.0.113.77', 32, '203.0.113.77/32', '203.0.113.77'],
    ['203.0.113.77', 0, '0.0.0.0/0', '255.255.255.255'],
    ['128.0.0.1', 1, '128.0.0.0/1', '255.255.255.255'],
  ];
  for (const [address, prefix, network, last] of spans)
    it(`${address}/${prefix} lies in ${network}, which ends at ${last}`, () => {
      const found = networkOf(ipv4(address), prefix);
      assert.deepEqual([formatNetwork(found), formatIpv4(lastOf(found))], [network, last]);
    });

  const cidrs: [string, string | undefined, boolean][] = [
    ['192.0.2.0/24', '192.0.2.0/24', false],
    ['192.0.2.9/24', '192.0.2.0/24', true],
    ['192.0.2.9/32', '192.0.2.9/32', false],
    ['0.0.0.0/0', '0.0.0.0/0', false],
    ['192.0.2.0/33', undefined, false],
    ['192.0.2.0/024', undefined, false],
    ['192.0.2.0', undefined, false],
    ['192.0.2/24', undefined, false],
  ];
  for (const [text, network, hostBits] of cidrs)
    it(`${text} is ${network ?? 'no network'}${hostBits ? ', written with host bits' : ''}`, () => {
      const found = parseCidr(text);
      assert.deepEqual([found && formatNetwork(found), hasHostBits(text)], [network, hostBits]);
    });

  const pairs: [string, string, boolean][] = [
    ['192.0.2.0/24', '192.0.2.128/25', true],
    ['192.0.2.0/25', '192.0.2.128/25', false],
    ['0.0.0.0/0', '255.255.255.255/32', true],
    ['192.0.2.1/32', '192.0.2.1/32', true],
  ];
  for (const [a, b, expected] of pairs)
    it(`${a} and ${b} ${expected ? 'overlap' : 'do not overlap'}, whichever comes first`, () => {
      assert.deepEqual([overlap(cidr(a), cidr(b)), overlap(cidr(b), cidr(a))], [expected, expected]);
    });

  it('holds its own addresses and not those beside it', () => {
    const network = cidr('203.0.113.64/26');
    const inside = ['203.0.113.63', '203.0.113.64', '203.0.113.127', '203.0.113.128'].map((text) =>
      contains(network, ipv4(text)),
    );
    assert.deepEqual(inside, [false, true, true, false]);
  });

  it('asked for many networks at once answers as each of them would', () => {
    const network = fc
      .tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 }))
      .map(([address, prefix]) => networkOf(ipv4(address), prefix));
    fc.assert(
      fc.property(fc.array(network), fc.ipV4(), (networks, address) => {
        assert.equal(
          withinAny(networks)(ipv4(address)),
          networks.some((one) => contains(one, ipv4(address))),
        );
      }),
    );
  });

  const unicast: [string, boolean][] = [
    ['198.51.100.7/32', true],
    ['0.0.0.0/0', true],
    ['1.0.0.0/8', true],
    ['223.255.255.255/32', true],
    ['0.1.2.3/32', false],
    ['127.0.0.0/8', false],
    ['224.0.0.1/32', false],
    ['240.0.0.0/4', false],
    ['255.255.255.255/32', false],
  ];
  for (const [text, expected] of unicast)
    it(`machines ${expected ? 'can' : 'cannot'} have addresses of ${text}`, () => {
      assert.equal(isUnicast(cidr(text)), expected);
    });
});
