// As parse.ts, for the way of a run: yaml is loaded only for a file that is not plainly written (13 ms).

import { type Accepted, knownFrom, type Spans, spansOf } from './accepted.ts';
import { interpret, type ParsedConfig } from './interpret.ts';
import { readPlain } from './plain.ts';

export async function loadConfig(input: Uint8Array | string): Promise<ParsedConfig> {
  return (await loadChanged(input, undefined)).parsed;
}

/** The same; entries that are as in the last good file are taken from there. Gives `spans` where the file is plainly written. */
export async function loadChanged(
  input: Uint8Array | string,
  last: Accepted | undefined,
): Promise<{ parsed: ParsedConfig; spans?: Spans }> {
  const plain = readPlain(input);
  if (plain !== undefined) return { parsed: interpret(plain, last && knownFrom(last)), spans: spansOf(plain.root) };
  const { readDocument } = await import('./document.ts');
  return { parsed: interpret(readDocument(input)) };
}
