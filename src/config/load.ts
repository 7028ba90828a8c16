// As parse.ts, for the way of a run: yaml is loaded only for a file that is not plainly written (13 ms).

import { interpret, type ParsedConfig } from './interpret.ts';
import { readPlain } from './plain.ts';

export async function loadConfig(input: Uint8Array | string): Promise<ParsedConfig> {
  const plain = readPlain(input);
  if (plain !== undefined) return interpret(plain);
  const { readDocument } = await import('./document.ts');
  return interpret(readDocument(input));
}
