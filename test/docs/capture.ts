// `npm run capture`: runs what the documents show, and writes what it printed into them.

import { captures } from './captures.ts';
import { DOCUMENTS, filled, PICTURE, read, write } from './documents.ts';

const captured = await captures();
for (const name of DOCUMENTS) await keep(name, filled(await read(name), captured));
await keep(PICTURE, captured.picture);

async function keep(name: string, text: string): Promise<void> {
  const before = await read(name).catch(() => undefined);
  if (before !== text) await write(name, text);
  console.log(`${name}: ${before === text ? 'as it was' : 'written'}`);
}
