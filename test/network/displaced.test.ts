import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseFlow } from '../../src/dialects/conntrack.ts';
import { answersGone, displacedBy, hasOtherPort, hold, nothingHeld } from '../../src/network/displaced.ts';
import { type Flow, flowKey } from '../../src/network/flow.ts';

const [VM, OTHER, PEER] = ['10.0.0.5', '10.0.0.6', '192.0.2.9'];
const [EIP, UPLINK] = ['203.0.113.50', '203.0.113.37'];

/** `ports`: as sent, and as answered. */
function flow(original: [string, string], reply: [string, string], ports: [number, number, number, number]): Flow {
  const [sport, dport, replySport, replyDport] = ports;
  const parsed = parseFlow(
    `udp 17 30 src=${original[0]} dst=${original[1]} sport=${sport} dport=${dport} ` +
      `src=${reply[0]} dst=${reply[1]} sport=${replySport} dport=${replyDport} mark=0 use=1`,
  );
  assert.ok(parsed !== undefined);
  return parsed;
}

const old = flow([VM, PEER], [PEER, UPLINK], [5060, 5060, 5060, 5060]);
const asked = flow([PEER, EIP], [VM, PEER], [5060, 5060, 5060, 51212]);
const answering = flow([VM, PEER], [PEER, EIP], [5060, 5060, 5060, 21557]);
/** Of another VM that leaves as the uplink, too, and began later than `old`. */
const neighbour = flow([OTHER, PEER], [PEER, UPLINK], [5060, 5060, 5060, 1024]);
const shifted = [asked, answering, neighbour];

describe("an entry with a port of the kernel's choice", () => {
  it('is one whose answers go to another port than it was sent from', () => {
    assert.deepEqual([old, ...shifted].map(hasOtherPort), [false, true, true, true]);
  });

  it('gave way to one that is to go where it asked for what would answer it, and so on', () => {
    assert.deepEqual(displacedBy(nothingHeld(), [old], shifted), [asked, answering]);
    assert.deepEqual(displacedBy(nothingHeld(), [], shifted), []);
  });

  it('gave way to one that went already', () => {
    const held = nothingHeld();
    hold(held, [old]);
    held.before = new Set([flowKey(neighbour)]);
    assert.deepEqual(displacedBy(held, [], shifted), [asked, answering]);
  });

  it('gave way to one that was answered as it would be only where it came while that was cut', () => {
    const held = nothingHeld();
    hold(held, [old]);
    assert.deepEqual(displacedBy(held, [], [neighbour]), []);
    held.before = new Set();
    assert.deepEqual(displacedBy(held, [], [neighbour]), [neighbour]);
  });
});

describe('an entry that began with an answer', () => {
  const untranslated = flow([VM, PEER], [PEER, VM], [5060, 5060, 5060, 5060]);
  const late = flow([PEER, VM], [VM, PEER], [5060, 5060, 5060, 5060]);

  it('to what was cut is one of it, where nothing translates it', () => {
    const held = nothingHeld();
    assert.equal(answersGone(held, late), false);
    hold(held, [untranslated]);
    assert.deepEqual(
      [late, asked, untranslated].map((each) => answersGone(held, each)),
      [true, false, false],
    );
  });
});
