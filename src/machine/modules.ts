// Modules of the kernel that our rules need and that are in a package of their own: EL 10 has them in kernel-modules-extra, which
// iptables-nft does not ask for.

import { basename } from 'node:path';
import type { Files, Host } from './host.ts';

/** What our rules need, whichever version of iptables says some of it without a module. */
const OF_RULES = ['xt_conntrack', 'xt_addrtype', 'xt_nat', 'xt_MASQUERADE'];
const OF_NFT = 'nft_compat';
/** What a kernel before 5.2 calls it. */
const FORMER: Readonly<Record<string, string>> = { xt_MASQUERADE: 'ipt_MASQUERADE' };

/** What is missing of them, and where it is; undefined where nothing is, or where modules are not this system's (a container). */
export async function missingModules(host: Host): Promise<string | undefined> {
  const release = (await host.sysctl('kernel/osrelease'))?.trim();
  if (release === undefined || release === '') return undefined;
  const folder = `/lib/modules/${release}`;
  const there = await host.read(`${folder}/modules.dep`, { orNothing: true });
  if (there === undefined) return undefined;
  const builtin = (await host.read(`${folder}/modules.builtin`, { orNothing: true })) ?? '';
  const loaded = (await host.read('/proc/modules', { orNothing: true })) ?? '';
  const known = new Set([
    ...namesIn(there),
    ...namesIn(builtin),
    ...loaded.split('\n').map((line) => line.split(' ')[0]),
  ]);
  const isNft = basename((await host.which('iptables-restore')) ?? '').includes('nft');
  const missing = [...(isNft ? [OF_NFT] : []), ...OF_RULES].filter(
    (name) => !known.has(name) && !known.has(FORMER[name]),
  );
  if (missing.length === 0) return undefined;
  const cure = (await hasRpm(host))
    ? `install kernel-modules-extra-${release}`
    : `install the rest of the modules of ${release}`;
  return `the kernel that runs has no module ${missing.join(', ')}, which iptables needs: ${cure}`;
}

const hasRpm = async (files: Pick<Files, 'info'>): Promise<boolean> =>
  (await files.info('/var/lib/rpm')) !== undefined || (await files.info('/usr/lib/sysimage/rpm')) !== undefined;

/** `kernel/net/netfilter/xt_nat.ko.xz: …`, the name as the kernel has it. */
const namesIn = (text: string): string[] =>
  [...text.matchAll(/^(?:\S*\/)?([\w-]+)\.ko(?:\.\w+)?(?::|$)/gm)].map(([, name = '']) => name.replaceAll('-', '_'));
