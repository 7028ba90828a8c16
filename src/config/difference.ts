// Two configurations → what one has and the other has not, in the words of the edit commands.

import type { Config } from './config.ts';
import { NOUNS } from './entries.ts';

/** `- eip A=B`, `+ nic …`; nothing where both mean the same. */
export function differences(before: Config, after: Config): string[] {
  const [old, now] = [sayingsOf(before), sayingsOf(after)];
  const [had, has] = [new Set(old), new Set(now)];
  const changes = [
    ...old.filter((saying) => !has.has(saying)).map((saying) => `- ${saying}`),
    ...now.filter((saying) => !had.has(saying)).map((saying) => `+ ${saying}`),
  ];
  const isReordered = changes.length === 0 && old.some((saying, n) => saying !== now[n]);
  return isReordered ? ['~ the order of entries'] : changes;
}

/** All that it says, one saying for each entry and setting. */
function sayingsOf(config: Config): string[] {
  const { snats, fromUplink, pciRescan = true } = config;
  return [
    ...Object.entries(NOUNS).flatMap(([noun, { entriesOf }]) => entriesOf(config).map(({ text }) => `${noun} ${text}`)),
    ...(snats === undefined ? [] : [snats.length === 0 ? 'snat_list: []' : 'snat_list']),
    ...(snats ?? []).map(({ source, to }) => `snat ${source}=${typeof to === 'string' ? to : to.address}`),
    `from-uplink: ${fromUplink}`,
    `pci-rescan: ${pciRescan}`,
  ];
}
