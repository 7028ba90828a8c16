// Old clients run `python2 /usr/bin/kylin-vr.py`: without python2 nothing of ours is called, and they are told of no success.

import { PATHS } from '../base/paths.ts';
import type { Files } from './host.ts';

const PYTHON2 = ['/usr/bin/python2', '/bin/python2', '/usr/local/bin/python2'];

/** Why they cannot call, where something is installed; undefined where they can. */
export async function oldClientsHint(files: Pick<Files, 'info'>): Promise<string | undefined> {
  if ((await files.info(PATHS.installed)) === undefined) return undefined;
  for (const path of PYTHON2) if ((await files.info(path)) !== undefined) return undefined;
  return 'old clients, where there are any, cannot call: they run python2 /usr/bin/kylin-vr.py, and there is no /usr/bin/python2: install python2 (Debian 12 and EL 9 have none), or have them run kylin-vr reload; what they write, the timer applies within a minute';
}
