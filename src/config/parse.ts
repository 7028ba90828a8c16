// The file -> Config, or everything that is wrong with it, in file order. Throws on no input.

import { blameTyped } from './blame.ts';
import { readDocument } from './document.ts';
import { interpret } from './interpret.ts';
import type { ParsedConfig } from './issue.ts';
import { readPlain } from './plain.ts';

export type { ParsedConfig } from './issue.ts';

export function parseConfig(input: Uint8Array | string): ParsedConfig {
  const document = readPlain(input) ?? readDocument(input);
  const parsed = interpret(document);
  return parsed.ok ? parsed : blameTyped(document.text, parsed, asTyped);
}

const asTyped = (text: string): ParsedConfig => interpret(readPlain(text) ?? readDocument(text));
