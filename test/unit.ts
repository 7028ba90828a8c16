// `npm run test:unit`: what needs neither root nor a build, in this one process: the pure modules, and whole runs on the machine in
// memory. Quick, to be run after each change: of properties and of faults it tries a part, `npm test` all.

import { readdirSync } from 'node:fs';
import fc from 'fast-check';

const FOLDERS = ['base', 'config', 'network', 'dialects', 'run', 'fake'];
/** They ask the kernel. */
const LEFT_OUT = [
  'dialects/iptables-real.test.ts',
  'dialects/ip-text-real.test.ts',
  'fake/same-as-kernel.test.ts',
  'fake/same-as-manager.test.ts',
];
const OTHERS = [
  'cli/legacy-args.test.ts',
  'docs/architecture.test.ts',
  'docs/fields.test.ts',
  'docs/readme.test.ts',
  'flows/lines.test.ts',
  'install/plan.test.ts',
  'install/qemu-ga.test.ts',
];

/** Of properties that say no other number (quick.ts). */
fc.configureGlobal({ numRuns: 3 });
process.env.KYLIN_VR_UNIT = '1';
const files = FOLDERS.flatMap((folder) =>
  readdirSync(`${import.meta.dirname}/${folder}`).map((name) => `${folder}/${name}`),
).filter((file) => file.endsWith('.test.ts') && !LEFT_OUT.includes(file));
for (const file of [...files, ...OTHERS]) await import(`./${file}`);
