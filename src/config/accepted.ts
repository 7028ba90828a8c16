// Entries that are written as in the last good file: they mean what they meant then, and their schema is not asked again.
// Only for files that are plainly written (plain.ts):
// there an entry's text says all that it means, as a property test shows (test/config/accepted.test.ts).

import type { Config } from './config.ts';
import type { Mapping } from './document.ts';
import type { ListName } from './schema.ts';

/** Where entries stand in the text of a file: from and to, one after the other. Survives JSON. */
export type Spans = Partial<Record<ListName, number[]>>;

/** A file that was valid and plainly written, and what it meant. */
export type Accepted = { text: string; spans: Spans; config: Config };

/** The value of an entry that is written so in that list; undefined where the last good file has none. */
export type KnownEntries = (list: ListName, written: string) => unknown;

/** Where the Config has what a list says. */
export const PART_OF = {
  if_list: 'nics',
  eip_list: 'eips',
  port_forward_list: 'forwards',
  route_list: 'routes',
  snat_list: 'snats',
} as const satisfies Readonly<Record<ListName, keyof Config>>;

export function spansOf({ fields }: Mapping): Spans {
  return Object.fromEntries(
    [...fields].flatMap(([name, { value }]) =>
      value.kind === 'list' ? [[name, value.items.flatMap(({ start, end }) => [start, end])]] : [],
    ),
  );
}

export function knownFrom({ text, spans, config }: Accepted): KnownEntries {
  const known = new Map<ListName, Map<string, unknown>>();
  for (const [list, offsets] of Object.entries(spans) as [ListName, number[]][]) {
    const values = config[PART_OF[list]] ?? [];
    known.set(list, new Map(values.map((value, n) => [text.slice(offsets[2 * n], offsets[2 * n + 1]), value])));
  }
  return (list, written) => known.get(list)?.get(written);
}
