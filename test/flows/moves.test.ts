// An elastic IP or a forward comes, moves, or goes, while everybody sends to it and never stops: what is sent after the reload goes
// where the file says, and nobody else loses a packet.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Protocol } from '../lab/ipv4.ts';
import { ADDRESSES, type HostName, type Lab } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { type Arrival, type Arrivals, createRaw, type Raw, type RawFlow } from '../lab/raw.ts';
import { allIsRight, configOf, entries, type Mapping, reload } from './lab.ts';

const { far, out, router: uplink, v, y } = ADDRESSES;
/** Of a block that the gateway routes to us: packets for it come whether it is there or not. */
const [E, F] = ['198.51.100.40', '198.51.100.41'];
/** Stays: y's own, and the forward on it that keeps its address there. */
const [OF_Y, NEAR] = ['203.0.113.52', '203.0.113.60'];
const STAYS: Mapping = { eips: { [OF_Y]: y }, forwards: { [`${NEAR} tcp 9`]: `${y} 9` } };
const PORT = 7000;
const VM_PORT = 7100;

const VMS = ['v', 'w', 'x', 'y'] as const;
type Vm = (typeof VMS)[number];

const PROTOCOLS = ['udp', 'tcp', 'icmp', 'sctp', 'gre', 'esp', 'ipip'] as const satisfies Protocol[];
/** Those without ports are one flow for each pair of addresses: of all that leave as the uplink one can send each of them. */
const SENDERS: Partial<Record<HostName, readonly Protocol[]>> = {
  far: PROTOCOLS,
  out: PROTOCOLS,
  y: PROTOCOLS,
  v: ['udp', 'tcp', 'icmp', 'sctp', 'gre'],
  w: ['udp', 'tcp', 'icmp', 'sctp'],
  x: ['udp', 'tcp', 'icmp', 'sctp', 'esp'],
  router: ['udp', 'tcp', 'icmp', 'sctp', 'ipip'],
};

/** Not an answer, and not what a kernel says of one that comes too late. */
const isQuestion = ({ protocol, flags, text }: Arrival): boolean =>
  flags === (QUESTIONS[protocol] ?? '') && !text.startsWith('{');
const QUESTIONS: Partial<Record<Protocol, string>> = { icmp: '8/0', tcp: 'S', sctp: 'INIT' };

type Sent = { from: HostName; protocol: Protocol; to: string; id: number; began: number; flow: RawFlow };

/** What may still have been under way when the reload returned. */
const GRACE_MS = 250;
const WATCHED_MS = 500;
const PATIENCE_MS = 20_000;

for (const path of ['ip', 'keyfile'] as const)
  describe(`what is mapped moves under everybody's packets: ${NAME_OF[path]}`, { concurrency: true }, () => {
    for (const iptables of backendsOf(path)) describe(iptables, { concurrency: false }, () => moves(path, iptables));
  });

function moves(path: Path, iptables: 'nft' | 'legacy'): void {
  let lab: Lab;
  let raw: Raw;
  const arrivals = new Map<HostName, Arrivals>();

  before(async () => {
    lab = await createLabOn(path, { iptables });
    raw = createRaw(lab);
    await lab.host('out').run(['ip', 'route', 'add', '198.51.100.32/27', 'via', uplink], { check: true });
    await reload(lab, configOf(STAYS));
    for (const host of [...VMS, 'router'] as const) arrivals.set(host, await raw.arrivals(host, ...PROTOCOLS));
    for (const vm of VMS) {
      for (const protocol of ['gre', 'esp', 'ipip'] as const) await raw.answer(vm, protocol);
      for (const protocol of ['udp', 'tcp', 'sctp'] as const)
        for (const port of [PORT, VM_PORT]) await raw.answer(vm, protocol, port);
    }
    for (const host of ['far', 'out'] as const) await raw.answer(host, 'udp', PORT);
  });
  after(() => lab?.close());

  it('an elastic IP: everybody, by every protocol', async () => {
    const sent: Sent[] = [];
    for (const [from, protocols] of Object.entries(SENDERS))
      for (const protocol of protocols) sent.push(await start(from as HostName, protocol, E));
    await journey(sent, (vm) => ({ ...STAYS, eips: { ...STAYS.eips, ...(vm && { [E]: ADDRESSES[vm] }) } }), {
      isEip: true,
    });
  });

  for (const [what, address] of [
    ['an address that comes and goes with it', F],
    ['an address that stays', NEAR],
    ["the uplink's address", uplink],
  ] as const)
    it(`a forward on ${what}`, async () => {
      const sent: Sent[] = [];
      for (const from of Object.keys(SENDERS) as HostName[])
        for (const protocol of ['udp', 'tcp'] as const) sent.push(await start(from, protocol, address));
      const at = (vm: Vm) =>
        Object.fromEntries(
          ['udp', 'tcp'].map((protocol) => [`${address} ${protocol} ${PORT}`, `${ADDRESSES[vm]} ${VM_PORT}`]),
        );
      await journey(sent, (vm) => ({ ...STAYS, forwards: { ...STAYS.forwards, ...(vm && at(vm)) } }), { isEip: false });
    });

  let ids = 20_000;
  async function start(from: HostName, protocol: Protocol, to: string, port = PORT): Promise<Sent> {
    const id = ids++;
    const began = Date.now();
    return {
      from,
      protocol,
      to,
      id,
      began,
      flow: await raw.start(from, { protocol, to, port, sourcePort: id, perSecond: 20 }),
    };
  }

  /** Absent, to v, from v to w in one reload, taken from w, given to x, and absent again. */
  async function journey(sent: Sent[], mapping: (vm?: Vm) => Mapping, { isEip }: { isEip: boolean }): Promise<void> {
    const bystanders = await Promise.all([
      start('far', 'udp', OF_Y),
      start('out', 'udp', OF_Y),
      start('far', 'icmp', OF_Y),
      start('far', 'tcp', OF_Y),
      start('y', 'udp', far),
      start('x', 'udp', v),
      // A VM that gets an EIP leaves as that one from then on.
      ...(isEip ? [] : [start('w', 'udp', far), start('x', 'udp', out)]),
    ]);
    await Promise.all(bystanders.map(({ flow }) => flow.answered(({ received }) => received > 2)));
    const known = await idsOf(bystanders);
    await sleep(WATCHED_MS);
    for (const vm of ['v', 'w', undefined, 'x', undefined] as const) {
      const { warnings } = await reload(lab, configOf(mapping(vm)));
      const returned = Date.now();
      assert.deepEqual(warnings, []);
      const wrong = await Promise.all(sent.map((each) => look(each, returned, vm, isEip)));
      assert.deepEqual(wrong.filter(Boolean), [], `where it is of ${vm ?? 'nobody'}`);
      await allIsRight(lab);
      assert.deepEqual(await idsOf(bystanders), known);
    }
    await Promise.all(sent.map(({ flow }) => flow.stop()));
    for (const { from, protocol, to, flow } of bystanders) {
      const { sent, received, turns, strayed } = await flow.stop(PATIENCE_MS);
      assert.deepEqual(
        { from, protocol, to, received, turns: turns.length, strayed },
        { from, protocol, to, received: sent, turns: 1, strayed: 0 },
      );
    }
  }

  /** Gives what is not as it should be. */
  async function look(each: Sent, returned: number, vm: Vm | undefined, isEip: boolean): Promise<string | undefined> {
    const { from, protocol, to, flow } = each;
    const name = `${protocol} from ${from} to ${to}`;
    // By the kernel's own time, on whatever busy machine.
    const since = returned + GRACE_MS;
    const isLate = (arrival: Arrival) => arrival.at > since && isOf(each, arrival, vm, isEip);
    const late = (at: Vm) => (arrivals.get(at)?.seen() ?? []).filter(isLate);
    if (vm === undefined) await sleep(GRACE_MS + WATCHED_MS);
    else {
      const source = sourceOf(from, vm, isEip, to);
      const { received } = flow.count();
      if ((await arrivals.get(vm)?.first(isLate, PATIENCE_MS)) === undefined) return `${name} does not reach ${vm}`;
      const others = late(vm).filter((arrival) => arrival.source !== source);
      if (others.length > 0) return `${name} comes from ${others[0]?.source}, not ${source}`;
      const isAnswered = async () => {
        if (from === 'router') return answersTo(each, vm, returned);
        if (protocol === 'icmp') return flow.count().received > received;
        return flow.answered((turn) => turn.by === vm && turn.seenSource === source, PATIENCE_MS);
      };
      for (let waited = 0; waited < PATIENCE_MS && !(await isAnswered()); waited += 100) await sleep(100);
      if (!(await isAnswered())) return `${name} is not answered by ${vm}: ${JSON.stringify(flow.count())}`;
    }
    const others = VMS.filter((other) => other !== vm && late(other).length > 0);
    return others.length === 0 ? undefined : `${name} reaches ${others}`;
  }

  /** As the VM gave it. */
  const answersTo = ({ protocol, id }: Sent, vm: Vm, since: number) =>
    arrivals
      .get('router')
      ?.seen()
      .some(
        (arrival) =>
          arrival.at > since &&
          arrival.protocol === protocol &&
          arrival.source === ADDRESSES[vm] &&
          [0, id].includes(arrival.destinationPort),
      ) === true;

  function isOf({ from, protocol, to, id }: Sent, arrival: Arrival, vm: Vm | undefined, isEip: boolean): boolean {
    if (arrival.protocol !== protocol || !isQuestion(arrival)) return false;
    return arrival.sourcePort === 0 ? arrival.source === sourceOf(from, vm, isEip, to) : arrival.sourcePort === id;
  }

  /** As whom the VM sees the sender. */
  function sourceOf(from: HostName, vm: Vm | undefined, isEip: boolean, to: string): string {
    if (from === 'far' || from === 'out') return ADDRESSES[from];
    if (isEip && from === vm) return to;
    return from === 'y' ? OF_Y : uplink;
  }

  async function idsOf(sent: readonly Sent[]): Promise<Record<string, number | undefined>> {
    const table = await entries(lab);
    return Object.fromEntries(
      sent.map(({ from, protocol, to, id }) => [
        `${protocol} from ${from} to ${to}`,
        table.find(
          (flow) =>
            flow.protocol === protocol &&
            flow.source === ADDRESSES[from] &&
            flow.destination === to &&
            (flow.sourcePort ?? flow.icmp?.id) === id,
        )?.id,
      ]),
    );
  }
}
