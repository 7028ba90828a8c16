// Whether systemd starts us: read from the links that `systemctl enable` and `mask` make, which needs no process.

import { basename, dirname } from 'node:path';
import { enablingLinks, FILES, UNIT_FOLDER } from '../installation/tree.ts';
import type { Host } from './host.ts';
import { payload } from './payload.ts';

const UNIT = 'kylin-vr.service';

/** What an operator has to know where a unit of ours is installed, and does not run; nothing where systemd does not run. */
export async function unitFault(host: Host): Promise<string | undefined> {
  if ((await host.info('/run/systemd/system')) === undefined) return undefined;
  if ((await host.info(`${UNIT_FOLDER}/${UNIT}`)) === undefined) return undefined;
  for (const folder of ['/etc/systemd/system', '/run/systemd/system'])
    if ((await host.readLink(`${folder}/${UNIT}`)) === '/dev/null')
      return `${UNIT} is masked, so nothing comes back after a boot, and no NIC that comes is served: systemctl unmask ${UNIT}, then systemctl enable --now ${UNIT}`;
  const [unit] = FILES.filter(({ path }) => dirname(path) === UNIT_FOLDER && basename(path) === UNIT);
  const links = unit === undefined ? [] : enablingLinks({ [UNIT]: payload[unit.source] });
  for (const { path } of links) if ((await host.info(path)) !== undefined) return undefined;
  return `${UNIT} is disabled, so nothing comes back after a boot: systemctl enable --now ${UNIT}`;
}
