// The files that `install` puts on the guest, by their place in this repository. The build replaces this module by one that
// carries their text, so that the one-file program can install itself; run from the sources it reads them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SOURCES, type Source } from '../installation/sources.ts';

export const payload: Readonly<Record<Source, string>> = Object.fromEntries(
  SOURCES.map((source) => [source, readFileSync(join(import.meta.dirname, '../..', source), 'utf8')]),
) as Record<Source, string>;
