// Issues as one line each, for tables: `line:column path: message`.

import type { Issue } from '../../src/config/issue.ts';
import { parseConfig } from '../../src/config/parse.ts';

const line = ({ line, column, path, message }: Issue): string =>
  `${line}:${column} ${path === undefined ? '' : `${path}: `}${message}`;

export function errorsOf(input: Uint8Array | string): string[] {
  const parsed = parseConfig(input);
  return parsed.ok ? [] : parsed.errors.map(line);
}

export function notesOf(input: Uint8Array | string): string[] {
  const parsed = parseConfig(input);
  return parsed.ok ? parsed.notes.map(line) : [];
}

export function warningsOf(input: Uint8Array | string): string[] {
  return parseConfig(input).warnings.map(line);
}
