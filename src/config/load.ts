// As parse.ts, for the way of a run: yaml is loaded only for a file that is not plainly written.

import { type Accepted, knownFrom, type Spans, spansOf } from './accepted.ts';
import { interpret } from './interpret.ts';
import type { ParsedConfig } from './issue.ts';
import { readPlain } from './plain.ts';
import { typedInCode } from './typed.ts';

export async function loadConfig(input: Uint8Array | string): Promise<ParsedConfig> {
  return (await loadChanged(input, undefined)).parsed;
}

/** The same; entries that are as in the last good file are taken from there. Gives `spans` where the file is plainly written. */
export async function loadChanged(
  input: Uint8Array | string,
  last: Accepted | undefined,
): Promise<{ parsed: ParsedConfig; spans?: Spans }> {
  const plain = readPlain(input);
  if (plain !== undefined) {
    const parsed = interpret(plain, last && knownFrom(last));
    if (parsed.ok || typedInCode(plain.text) === undefined) return { parsed, spans: spansOf(plain.root) };
  }
  const { parseConfig } = await import('./parse.ts');
  return { parsed: parseConfig(input) };
}
