// The files that `install` puts on the guest, by their place in this repository. The build replaces this module by one that
// carries their text, so that the one-file program can install itself; run from the sources it reads them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCES = [
  'systemd/kylin-vr.service',
  'systemd/kylin-vr-reload.service',
  'systemd/kylin-vr-reload.path',
  'systemd/kylin-vr-reload.timer',
  'systemd/kylin-vr-firewalld.service',
  'systemd/kylin-vr-mark.service',
  'udev/90-kylin-vr.rules',
  'packaging/tmpfiles.conf',
  'packaging/networkmanager.conf',
  'packaging/logrotate.conf',
  'packaging/firewalld-policy.xml',
  'packaging/kylin-vr.yaml',
  'packaging/kylin-vr.py',
] as const;

export type Source = (typeof SOURCES)[number];

export const payload: Readonly<Record<Source, string>> = Object.fromEntries(
  SOURCES.map((source) => [source, readFileSync(join(import.meta.dirname, '../..', source), 'utf8')]),
) as Record<Source, string>;
