// The file -> Config, or everything that is wrong with it, in file order. Throws on no input.

import { readDocument } from './document.ts';
import { interpret, type ParsedConfig } from './interpret.ts';
import { readPlain } from './plain.ts';

export type { ParsedConfig } from './interpret.ts';

export function parseConfig(input: Uint8Array | string): ParsedConfig {
  return interpret(readPlain(input) ?? readDocument(input));
}
