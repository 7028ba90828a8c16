// What one would use instead: netplan and ifupdown2 for the addresses, a flat list of rules that is written anew. For comparison:
// they do a part of the work only (netplan's `generate` puts nothing into the kernel).

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { NICS } from '../lab/lab.ts';
import { ratios, rounds, spreadOf } from './measure.ts';
import { BARE_NODE, configOf, createBench, kylinVr, ONE_MORE, type Pair, pairsOf } from './router.ts';
import { type Outcome, type Sizes, shown, spreadText } from './table.ts';

const DEVICE = NICS.public.device;

const netplan = (pairs: readonly Pair[]): string =>
  `network:\n  version: 2\n  renderer: NetworkManager\n  ethernets:\n    ${DEVICE}:\n      addresses:\n${pairs
    .map(({ eip }) => `        - ${eip}/32\n`)
    .join('')}`;

const interfaces = (pairs: readonly Pair[]): string =>
  `auto ${DEVICE}\niface ${DEVICE} inet static\n${pairs.map(({ eip }) => `    address ${eip}/32\n`).join('')}`;

const rules = (pairs: readonly Pair[]): string =>
  `*nat\n:FLAT-IN - [0:0]\n:FLAT-OUT - [0:0]\n${pairs
    .map(
      ({ eip, vmIp }) =>
        `-A FLAT-IN -d ${eip}/32 -j DNAT --to-destination ${vmIp}\n-A FLAT-OUT -s ${vmIp}/32 -o ${DEVICE} -j SNAT --to-source ${eip}\n`,
    )
    .join('')}COMMIT\n`;

export async function measureOthers({ rounds: many, divisor }: Sizes): Promise<Outcome[]> {
  const eips = Math.ceil(1000 / divisor);
  const pairs = pairsOf(eips);
  const more = [...pairs, ONE_MORE];
  const tree = execFileSync('bash', [join(import.meta.dirname, 'others-tree.sh')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
  const [ours, theirs] = await Promise.all([createBench(), createBench()]);
  try {
    await ours.lab.configure(configOf(pairs));
    for (let run = 0; run < 2; run++) await ours.time(kylinVr('reload'));
    // The tree, with an /etc and a /run of the router's own, and its /proc and /sys.
    const place = '/run/others';
    const setup = `
      mkdir -p ${place} /run/over/upper /run/over/work
      mount -t overlay overlay -o lowerdir=${tree},upperdir=/run/over/upper,workdir=/run/over/work ${place}
      for top in proc sys dev; do mount --rbind /$top ${place}/$top; done
      mkdir -p ${place}/run/network
      rm -f ${place}/etc/netplan/* ${place}/etc/network/interfaces.d/*`;
    await theirs.router.run(['sh', '-ec', setup], { check: true });
    const inTree = (...argv: string[]) => theirs.time(['chroot', place, ...argv]);
    const write = (path: string, text: string) => theirs.router.write(`${place}${path}`, text, 0o600);
    const ifreload = async (list: readonly Pair[]) => {
      await write('/etc/network/interfaces', interfaces(list));
      return (await inTree('ifreload', '-a')).ms;
    };
    await ifreload(pairs);
    const taken = await rounds(Math.max(2, Math.round(many / 3)), {
      node: async () => (await ours.time(BARE_NODE)).ms,
      'kylin-vr reload, nothing to do': async () => (await ours.time(kylinVr('reload'))).ms,
      'ifupdown2, nothing to do (addresses only)': () => ifreload(pairs),
      'ifupdown2, one address more (addresses only)': async () => {
        const ms = await ifreload(more);
        await ifreload(pairs);
        return ms;
      },
      'netplan generate (addresses only, files only)': async () => {
        await write('/etc/netplan/bench.yaml', netplan(pairs));
        return (await inTree('netplan', 'generate')).ms;
      },
      'flat list, written anew (rules only)': async () =>
        (await theirs.time(['iptables-restore', '--noflush'], { input: rules(more) })).ms,
    });
    const { node, ...rest } = taken;
    return Object.entries(rest).map(([work, values]) => {
      const spread = spreadOf(ratios(values, node));
      return {
        row: 'others',
        work: `${eips} EIPs: ${work}`,
        goal: '',
        measured: `${shown(spread.median)} × node`,
        spread: spreadText(spread),
        data: { ratio: spread, values },
      };
    });
  } finally {
    await Promise.all([ours.close(), theirs.close()]);
  }
}
