// What `ip rule show` and `ip route show table local` print, and whether what they say concerns a flow. Pure.

import { contains, type Network, parseCidr, parseIpv4 } from '../base/ipv4.ts';
import type { Flow } from '../network/flow.ts';

/** A rule that is not one of the three that every machine has; `from`, `to` where they are all that it asks for. */
export type PolicyRule = { words: readonly string[] };

const OF_EVERY_MACHINE =
  /^(0:\s+from all lookup local|32766:\s+from all lookup main|32767:\s+from all lookup default)\s*$/;

/** Those of l3mdev are about links that are in a VRF: no NIC of ours is. */
export const foreignRules = (text: string): PolicyRule[] =>
  text
    .split('\n')
    .filter((line) => line.trim() !== '' && !OF_EVERY_MACHINE.test(line) && !/\bl3mdev/.test(line))
    .map((line) => ({
      words: line
        .replace(/^\d+:\s+/, '')
        .trim()
        .split(/\s+/),
    }));

/** Marks and devices are not to be seen in a flow: then it may. */
export function mayMatch({ words }: PolicyRule, { source, replySource }: Flow): boolean {
  // Of `not` all the rest is turned round.
  if (words[0] === 'not') return true;
  return isIn(words, 'from', source) && isIn(words, 'to', replySource);
}

function isIn(words: readonly string[], word: string, address: string): boolean {
  const at = words.indexOf(word);
  const value = at === -1 ? 'all' : words[at + 1];
  if (value === undefined || value === 'all') return true;
  const network = parseCidr(value.includes('/') ? value : `${value}/32`);
  const number = parseIpv4(address);
  return network === undefined || number === undefined || contains(network, number);
}

/** What the machine takes for itself: its addresses of every scope, broadcast addresses, networks that somebody made local. */
export const localNetworks = (text: string): Network[] =>
  text.split('\n').flatMap((line) => {
    const [, dest = ''] = /^(?:local|broadcast|anycast) (\S+)/.exec(line) ?? [];
    return parseCidr(dest.includes('/') ? dest : `${dest}/32`) ?? [];
  });
