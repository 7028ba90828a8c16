// A configuration's bytes → Config. What they mean is kept in /run, so that a run reads only the entries that are new, and one with
// nothing new loads neither zod nor yaml.

import { BUNDLE } from '../../base/bundle.ts';
import { AgentError } from '../../base/errors.ts';
import { PATHS } from '../../base/paths.ts';
import { array, each, number, object, optional, string } from '../../base/shape.ts';
import type { Accepted, Spans } from '../../config/accepted.ts';
import { ofFile, type ParsedConfig } from '../../config/issue.ts';
import { readKept } from '../config-file.ts';
import type { Host } from '../host.ts';
import { config, issue } from '../kept-shapes.ts';

type Valid = Extract<ParsedConfig, { ok: true }>;

/** Of one program and the last bytes that it read and found valid, as ISO 8859-1. */
type KeptConfig = Omit<Valid, 'ok'> & { program: string; text: string; spans?: Spans };

const shape = object({
  program: string,
  text: string,
  config,
  warnings: array(issue),
  notes: array(issue),
  spans: optional(each(array(number))),
});

/** Twice: of what is in it nothing else tells whether it is what was read. A hash would have to be loaded. */
const twice = (json: string): string => `[${json},\n${json}]`;

function keptIn(text: string): KeptConfig {
  const length = (text.length - twice('').length) / 2;
  const json = text.slice(1, 1 + length);
  // Put together to be compared, both would be copied.
  const isWhole =
    text.startsWith('[') &&
    text.startsWith(',\n', 1 + length) &&
    text.startsWith(json, 3 + length) &&
    text.endsWith(']');
  return shape(isWhole ? JSON.parse(json) : undefined) as KeptConfig;
}

function acceptedOf({ text, spans, config }: KeptConfig): Accepted | undefined {
  return spans && { text: Buffer.from(text, 'latin1').toString(), spans, config };
}

/** Of the file at `path`. `keep`: for the holder of the lock. */
export async function readConfig(
  host: Host,
  path: string,
  bytes: Uint8Array,
  access: 'keep' | 'look',
): Promise<ParsedConfig> {
  return ofFile(path, await meaningOf(host, bytes, access));
}

async function meaningOf(host: Host, bytes: Uint8Array, access: 'keep' | 'look'): Promise<ParsedConfig> {
  const program = BUNDLE?.id;
  const text = Buffer.from(bytes).toString('latin1');
  const kept = program === undefined ? undefined : await readKept(host, PATHS.parsed, keptIn);
  const last = kept?.program === program ? kept : undefined;
  if (last?.text === text) {
    const { config, warnings, notes } = last;
    // JSON knows no undefined.
    return { ok: true, config: { ...config, snats: config.snats }, warnings, notes };
  }
  const { loadChanged } = await import('../../config/load.ts');
  const { parsed, spans } = await loadChanged(bytes, last && acceptedOf(last));
  if (parsed.ok && access === 'keep') await keepMeaning(host, bytes, parsed, spans);
  return parsed;
}

/** For the holder of the lock: who reads these bytes next need not find out what they mean. */
export async function keepMeaning(
  host: Host,
  bytes: Uint8Array,
  { config, warnings, notes }: Valid,
  spans: Spans | undefined,
): Promise<void> {
  if (BUNDLE === undefined) return;
  const text = Buffer.from(bytes).toString('latin1');
  const kept: KeptConfig = { program: BUNDLE.id, text, config, warnings, notes, ...(spans !== undefined && { spans }) };
  await host.write(PATHS.parsed, twice(JSON.stringify(kept)), 0o600).catch((error: unknown) => {
    // Without it the next run takes longer.
    if (!(error instanceof AgentError)) throw error;
  });
}
