// What is compared runs side by side: one of each in every round, so that whatever else the machine does meets them alike.

export type Spread = { median: number; low: number; high: number };

/** Median and quartiles. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}

/** Each contestant gives what one run of it took; one round more is run first, and not counted. */
export async function rounds<Name extends string>(
  count: number,
  contestants: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contestants) as Name[];
  const taken = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -1; round < count; round++)
    for (const name of names) {
      const value = await contestants[name]();
      if (round >= 0) taken[name].push(value);
    }
  return taken;
}

/** Of the two in each round. */
export const ratios = (values: readonly number[], others: readonly number[]): number[] =>
  values.map((value, n) => value / (others[n] ?? Number.NaN));

export const median = (values: readonly number[]): number => spreadOf(values).median;

export const mediansOf = (taken: Readonly<Record<string, readonly number[]>>): Record<string, number> =>
  Object.fromEntries(Object.entries(taken).map(([name, values]) => [name, median(values)]));
