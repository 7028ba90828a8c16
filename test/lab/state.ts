// The network of a router as text: equal texts are equal networks, and a difference is one that a network engineer can read.

import type { Router } from './lab.ts';

/** The legacy tables are looked at only where they are there: looking would make them. */
const SCRIPT = `
  echo '# addresses'
  /bin/ip -4 -o address show scope global | sed -E 's/^[0-9]+: //; s/ +/ /g; s/\\\\.*//' | sort
  echo '# routes'
  /bin/ip -4 route show table all | grep -v -e '^local 127' -e '^broadcast' | sed 's/ *$//' | sort
  echo '# files'
  for file in /etc/sysconfig/network-scripts/* /etc/NetworkManager/system-connections/*; do
    [ ! -e "$file" ] || { stat -c '%A %U %n' "$file"; sed 's/^/  /' "$file"; }
  done
  echo '# rules nft'
  xtables-nft-multi iptables-save
  echo '# rules legacy'
  ! grep -q . /proc/net/ip_tables_names || xtables-legacy-multi iptables-save`;

/** Chains of ours in which the first rule that matches decides. */
const ORDERED = [
  'POSTROUTING',
  'OUTBOUND',
  'OUTBOUND-OTHER',
  'HAIRPIN',
  'HAIRPIN-SOURCE',
  'GUARD',
  'BOUNCE',
  'ENTERING',
  'LEAVING',
  'UPLINK',
  'NOWHERE',
  'UNTRANSLATED',
].map((name) => `KYLIN-VR-${name}`);

/** Addresses, routes, profiles, and the packet filter's rules and chains, without counters. */
export async function networkOf(router: Router): Promise<string> {
  const { stdout } = await router.run(['sh', '-c', SCRIPT], { check: true });
  const [start = '', nft = '', legacy = ''] = stdout.split(/^# rules.*\n/m);
  return [start, ...rulesOf(nft, 'nft'), ...rulesOf(legacy, 'legacy'), ''].join('\n');
}

/**
 * Without what plain `ip` and NetworkManager do differently: who made a route, how an address is set, the profiles, and the
 * metric of the route to an uplink's own network.
 */
export const onEveryPath = (network: string): string =>
  network
    .replace(/ brd \S+| noprefixroute| proto (?:175|static)|(?<= scope link .*) metric \d+/g, '')
    .replace(/^(?:-rw| {2}).*\n/gm, '');

/**
 * The rules of our chains in which each packet matches one at most stand in the order in which they were made: sorted here.
 * Built-in chains without a rule are left out: whether they are there depends on who looked.
 */
function rulesOf(save: string, backend: string): string[] {
  const rules: string[] = [];
  let table = '';
  for (const line of save.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    if (!/^(-A|:KYLIN-VR|:\S+ DROP)/.test(line)) continue;
    rules.push(`${backend} ${table} ${line.replace(/ \[\d+:\d+\]/, '').trimEnd()}`);
  }
  const isOrdered = (rule: string) =>
    !/ -A KYLIN-VR-/.test(rule) || ORDERED.some((name) => rule.includes(` -A ${name} `));
  // Array.sort is stable: what compares equal keeps its order.
  return rules.sort((a, b) => {
    const [one, other] = isOrdered(a) && isOrdered(b) ? [chainOf(a), chainOf(b)] : [a, b];
    return one < other ? -1 : one > other ? 1 : 0;
  });
}

const chainOf = (rule: string) => rule.split(' ').slice(0, 4).join(' ');

/** Files of ours and of the network whose content, mode or time changed since `markFiles`. */
export async function filesTouched(router: Router): Promise<string[]> {
  const places =
    '/etc/kylin-vr /etc/sysconfig /etc/sysctl.d /var/lib/kylin-vr /var/cache/kylin-vr /var/log/kylin-vr /run';
  const { stdout } = await router.run([
    'sh',
    '-c',
    `find ${places} ! -path /run/mark -newercm /run/mark 2> /dev/null | sort`,
  ]);
  return stdout.trimEnd().split('\n');
}

/** The sleeps are longer than the kernel's clock for files is coarse. */
export async function markFiles(router: Router): Promise<void> {
  await router.run(['sh', '-ec', 'sleep 0.01; touch /run/mark; sleep 0.01'], { check: true });
}
