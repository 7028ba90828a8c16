// Hot plug without systemd and udev: the mark of the udev rule, and what the path unit starts for it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from './lab.ts';

/** What the udev rule leaves. */
export const MARK = '/run/kylin-vr/reload';

/** What kylin-vr-reload.service runs, with the program under test. */
export function reloadScript(): string {
  const unit = readFileSync(join(import.meta.dirname, '../../systemd/kylin-vr-reload.service'), 'utf8');
  const script = /^ExecStart=\/bin\/sh -c '([^']*)'/m
    .exec(unit)?.[1]
    ?.replaceAll('\\\n', '')
    .replaceAll('$$', '$')
    .replaceAll('/usr/bin/kylin-vr', `${process.execPath} ${PROGRAM}`);
  assert.ok(script !== undefined);
  return script;
}
