// What rpm and deb both say and run.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Flavour } from './contents.ts';

export type Script = 'before' | 'after' | 'remove' | 'removed';

export const script = (name: Script): string =>
  readFileSync(join(import.meta.dirname, 'scripts', `${name}.sh`), 'utf8');

const WHAT = [
  'Inside the guest it brings links, addresses, routes, elastic IPs (1:1 NAT),',
  'port forwards and source NAT in line with /etc/kylin-vr/kylin-vr.yaml: it',
  'changes only what differs, verifies what it did, and takes it back when that',
  'fails. It replaces kylin-vr.py 0.1 in place.',
];

export const DESCRIPTIONS: Readonly<Record<Flavour, { summary: string; paragraphs: string[][] }>> = {
  'kylin-vr': {
    summary: 'makes a VM the VPC router that one YAML file describes',
    paragraphs: [WHAT],
  },
  'kylin-vr-standalone': {
    summary: 'makes a VM a VPC router, with a Node runtime of its own',
    paragraphs: [
      WHAT,
      [
        'This package brings Node in /usr/lib/kylin-vr, for systems whose',
        'repositories have none that is new enough; nothing else sees it.',
      ],
    ],
  },
};
