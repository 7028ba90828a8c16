// A change of the configuration under traffic: what it does not concern goes on, what it takes away is cut.

import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type HostName, NICS } from './lab.ts';
import { EIPS, elastic, NEAR, OTHER } from './table.ts';
import type { DatagramCount, Flow, FlowCount, Stream, Traffic } from './traffic.ts';

/** One thing to be seen: in the words that were expected, and in those for what was seen. */
export type Check = { what: string; expected: string; saw: string };

const { far, out, v, w } = ADDRESSES;
const ADDED = '203.0.113.51';
const GOES_ON = 'goes on';
const IS_CUT = 'is cut';

/** From `elastic`: v's EIP goes to w, v gets a new one, a range of forwarded ports goes, and a whole EIP. */
const changed = elastic.config
  .replace(`{ eip: ${EIPS.v}, vm-ip: ${v} }`, `{ eip: ${EIPS.v}, vm-ip: ${w} }\n  - { eip: ${ADDED}, vm-ip: ${v} }`)
  .replace(/.*protocal: tcp, port: 7000.*\n/, '')
  .replace(new RegExp(`.*eip: ${OTHER},.*\\n`), '');

/** The lab runs `elastic`, and its hosts listen for it; `reload` makes it run `changed`. */
export async function changeUnderTraffic(
  traffic: Traffic,
  reload: (config: string) => Promise<unknown>,
): Promise<Check[]> {
  const { openStream, startFlow, startPings, probe } = traffic;
  const announcements = await traffic.announcements('out');
  const [stays, leaves, forwarded, moved, outward, shut, gone] = await Promise.all([
    openStream({ from: 'out', to: EIPS.x, port: 80 }),
    openStream({ from: 'y', to: far, port: 80 }),
    openStream({ from: 'out', to: NEAR, port: 8080 }),
    openStream({ from: 'out', to: EIPS.v, port: 80 }),
    openStream({ from: 'v', to: out, port: 80 }),
    openStream({ from: 'out', to: NEAR, port: 7001 }),
    openStream({ from: 'out', to: OTHER, port: 443 }),
  ]);
  const datagrams = await startFlow({ from: 'y', to: far, port: 53, perSecond: 200 });
  const pings = await startPings({ from: 'far', to: EIPS.x, perSecond: 100 });
  const movedDatagrams = await startFlow({ from: 'out', to: EIPS.v, port: 53, perSecond: 100 });

  await reload(changed);
  await sleep(100);

  const saw: [what: string, expected: string, saw: Promise<string>][] = [
    ["a TCP stream from outside to x's EIP", GOES_ON, stateOf(stays, true)],
    ['a TCP stream from y to the outside', GOES_ON, stateOf(leaves, true)],
    ['a TCP stream from outside to a forwarded port', GOES_ON, stateOf(forwarded, true)],
    ['200 datagrams a second from y to the outside', `0 lost, far sees ${EIPS.y}`, lossOf(datagrams)],
    ["100 pings a second from outside to x's EIP", '0 lost', lossOf(pings)],
    ['a TCP stream from outside to the EIP that v had', IS_CUT, stateOf(moved, false)],
    ['a TCP stream from v to the outside, as that EIP', IS_CUT, stateOf(outward, false)],
    ['a TCP stream from outside to a forwarded port that went', IS_CUT, stateOf(shut, false)],
    ['a TCP stream from outside to an EIP that went', IS_CUT, stateOf(gone, false)],
    ['datagrams that go on to the EIP that v had', 'w answers', lastOf(movedDatagrams)],
    ['a new connection from outside to that EIP', `w sees ${out}`, seen('out', EIPS.v)],
    ['a new connection from w to the outside', `out sees ${EIPS.v}`, seen('w', out)],
    ['a new connection from v to the outside', `out sees ${ADDED}`, seen('v', out)],
    [`gratuitous ARP for ${ADDED}`, `heard from ${NICS.public.mac}`, heard()],
  ];
  const checks = await Promise.all(saw.map(async ([what, expected, saw]) => ({ what, expected, saw: await saw })));
  announcements.stop();
  return checks;

  async function seen(from: HostName, to: string): Promise<string> {
    const answer = await probe({ from, to, transport: 'tcp', port: 80 });
    return answer.reached ? `${answer.by} sees ${answer.seenSource}` : answer.why;
  }

  async function heard(): Promise<string> {
    for (let waited = 0; waited < 1000; waited += 50) {
      const found = announcements.heard().find(({ address }) => address === ADDED);
      if (found !== undefined) return `heard from ${found.mac}`;
      await sleep(50);
    }
    return 'not heard';
  }
}

const stateOf = async (stream: Stream, goesOn: boolean) => ((await stream.carries(goesOn)) ? GOES_ON : IS_CUT);
const lastOf = async (flow: Flow<DatagramCount>) => `${(await flow.stop()).lastBy} answers`;

async function lossOf(flow: Flow<FlowCount | DatagramCount>): Promise<string> {
  const count = await flow.stop();
  const seen = 'sources' in count ? `, ${count.lastBy} sees ${count.sources.join(' and ')}` : '';
  return `${count.lost} lost${seen}`;
}
