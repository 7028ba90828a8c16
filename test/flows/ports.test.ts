// SIP's way: from port 5060 to port 5060, both sides by themselves, before there is a mapping and afterwards. Each sees the other by
// the port that it has: an entry of before that holds it makes the kernel take another one.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, createLab, type HostName, type Lab } from '../lab/lab.ts';
import { type Arrivals, createRaw, type Raw, type RawFlow } from '../lab/raw.ts';
import { allIsRight, configOf, entries, reload, shown } from './lab.ts';

const { far, router: uplink, v, w } = ADDRESSES;
const SIP = 5060;
const [ROUTED, NEAR] = ['198.51.100.40', '203.0.113.60'];

type Case = { what: string; asked: string; from?: string; to: string; as: string; others?: HostName[] };

const forwardOf = (address: string, vm: string) => ({ [`${address} udp ${SIP}`]: `${vm} ${SIP}` });
const CASES: Case[] = [
  { what: 'an elastic IP comes', asked: ROUTED, to: configOf({ eips: { [ROUTED]: v } }), as: ROUTED },
  {
    what: 'an elastic IP moves',
    asked: ROUTED,
    from: configOf({ eips: { [ROUTED]: w } }),
    to: configOf({ eips: { [ROUTED]: v } }),
    as: ROUTED,
  },
  {
    what: 'an elastic IP moves from a VM that speaks to him, too',
    asked: ROUTED,
    from: configOf({ eips: { [ROUTED]: w } }),
    to: configOf({ eips: { [ROUTED]: v } }),
    as: ROUTED,
    others: ['w'],
  },
  {
    what: 'an elastic IP comes in place of another',
    asked: ROUTED,
    from: configOf({ eips: { [NEAR]: v } }),
    to: configOf({ eips: { [ROUTED]: v } }),
    as: ROUTED,
  },
  {
    what: "a forward on the uplink's address comes",
    asked: uplink,
    to: configOf({ forwards: forwardOf(uplink, v) }),
    as: uplink,
  },
];

for (const iptables of ['nft', 'legacy'] as const)
  describe(`UDP from 5060 to 5060: ${iptables}`, { concurrency: false }, () => {
    let lab: Lab;
    let raw: Raw;
    const came = new Map<HostName, Arrivals>();
    before(async () => {
      lab = await createLab({ iptables });
      raw = createRaw(lab);
      await lab.host('out').run(['ip', 'route', 'add', '198.51.100.32/27', 'via', uplink], { check: true });
      for (const host of ['far', 'v', 'w'] as const) {
        await raw.silence(host, 'udp', SIP);
        came.set(host, await raw.arrivals(host, 'udp'));
      }
    });
    after(() => lab?.close());

    for (const { what, asked, from = configOf({}), to, as, others = [] } of CASES)
      it(`${what}: each sees the other by its port`, async (t) => {
        await reload(lab, from);
        await lab.router.run(['conntrack', '-F']);
        const flow = (from: HostName, to: string): Promise<RawFlow> =>
          raw.start(from, { protocol: 'udp', to, port: SIP, sourcePort: SIP, perSecond: 100 });
        const flows = [await flow('far', asked), await flow('v', far)];
        for (const other of others) flows.push(await flow(other, far));
        t.after(() => Promise.all(flows.map((each) => each.stop())));
        await sleep(500);
        await reload(lab, to);
        const since = Date.now() + 200;
        const seen = (host: HostName) =>
          [
            ...new Set(
              (came.get(host)?.seen() ?? [])
                .filter(({ at }) => at > since)
                .map(({ source, sourcePort }) => `${source}:${sourcePort}`),
            ),
          ].sort();
        for (
          let waited = 0;
          waited < 20_000 && [seen('v'), seen('far')].some(({ length }) => length === 0);
          waited += 50
        )
          await sleep(50);
        await sleep(500);
        assert.deepEqual(
          { v: seen('v'), far: seen('far') },
          { v: [`${far}:${SIP}`], far: [`${as}:${SIP}`, ...others.map(() => `${uplink}:${SIP}`)].sort() },
          (await entries(lab)).map(shown).join('\n'),
        );
        await allIsRight(lab);
      });
  });
