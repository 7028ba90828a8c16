// Whether systemd starts us: read from the links that `systemctl enable` and `mask` make, which needs no process.

import { PATHS } from '../base/paths.ts';
import type { Host } from './host.ts';

const UNIT = 'kylin-vr.service';

/** Where it is enabled there is mostly nothing more to ask, nor to load. */
const USUAL_LINK = `/etc/systemd/system/multi-user.target.wants/${UNIT}`;

/** What an operator has to know where a unit of ours is installed, and does not run; nothing where systemd does not run. */
export async function unitFault(host: Host): Promise<string | undefined> {
  if ((await host.info('/run/systemd/system')) === undefined) return undefined;
  if ((await host.info(`${PATHS.units}/${UNIT}`)) === undefined) return undefined;
  for (const folder of ['/etc/systemd/system', '/run/systemd/system'])
    if ((await host.readLink(`${folder}/${UNIT}`)) === '/dev/null') {
      const { comes, cure } = await nextBoot(host);
      return `${UNIT} is masked, so ${comes}, and no NIC that comes is served: systemctl unmask ${UNIT}, then systemctl enable --now ${UNIT}${cure}`;
    }
  if ((await host.info(USUAL_LINK)) !== undefined) return undefined;
  const [{ enablingLinks }, { payload }] = [await import('../installation/tree.ts'), await import('./payload.ts')];
  const links = enablingLinks({ [UNIT]: payload[`systemd/${UNIT}`] });
  for (const { path } of links) if ((await host.info(path)) !== undefined) return undefined;
  const { comes, cure } = await nextBoot(host);
  return `${UNIT} is disabled, so ${comes}: systemctl enable --now ${UNIT}${cure}`;
}

/** Our profiles are files of NetworkManager's or initscripts', which bring addresses up with nobody there to guard them. */
async function nextBoot(host: Host): Promise<{ comes: string; cure: string }> {
  const { readProfiles, splitFiles } = await import('./profile-files.ts');
  if (splitFiles(await readProfiles(host)).ours.length === 0)
    return { comes: 'nothing comes back after a boot', cure: '' };
  return {
    comes:
      'after a boot our profiles bring up addresses, with nothing translated, and this machine itself answering on them',
    cure: '; or kylin-vr uninstall, which takes the profiles away',
  };
}
