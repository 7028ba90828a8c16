// A NIC that was plugged and that the kernel has not seen: on aarch64 one that is not behind a PCIe root port appears only when the bus
// is looked at anew. Before a run has the lock, since that takes a while; and only for a reload that somebody asked for.

import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError, CommandError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { readTrusted } from '../machine/config-file.ts';
import type { Host } from '../machine/host.ts';
import { fitting, rescanned } from '../machine/kept-shapes.ts';
import { readConfig } from '../machine/known/parsed.ts';
import { readLinks } from '../machine/observe.ts';
import { monotonicMs } from '../machine/process.ts';
import { bindNics } from '../network/nics.ts';

const RESCAN = '/sys/bus/pci/rescan';
const RESCAN_TIMEOUT_MS = 20_000;
/** The driver's work comes behind it. */
const APPEAR_MS = 3000;
const LOOK_MS = 100;

/** Gives warnings; `looked`: what was known of the machine before is old. Once for each NIC and boot. */
export async function rescan(host: Host, configPath: string): Promise<{ looked: boolean; warnings: string[] }> {
  const nothing = { looked: false, warnings: [] };
  if ((await host.info(RESCAN)) === undefined) return nothing;
  const file = await readTrusted(host, configPath, 'look');
  const parsed = 'bytes' in file ? await readConfig(host, configPath, file.bytes, 'look') : undefined;
  // The run says what is wrong with the file.
  if (!parsed?.ok || parsed.config.pciRescan === false) return nothing;
  const { nics } = parsed.config;
  const missing = async () => bindNics(nics, await readLinks(host)).pending.map(({ mac }) => mac);
  const known = fitting(rescanned, (await host.read(PATHS.rescanned, { orNothing: true })) ?? '[]') ?? [];
  const news = (await missing()).filter((mac) => !known.includes(mac));
  if (news.length === 0) return nothing;
  // Without a place for it the next reload that is asked for looks once more.
  const note = () =>
    host.write(PATHS.rescanned, `${JSON.stringify([...known, ...news])}\n`, 0o600).catch((error: unknown) => {
      if (!(error instanceof AgentError)) throw error;
    });
  try {
    await host.run(['tee', RESCAN], { input: '1\n', timeoutMs: RESCAN_TIMEOUT_MS });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    // One that was refused may be made by another run; one that has no end would hold up each.
    if (error.exitCode === undefined) await note();
    return { looked: false, warnings: [cannotLook(news, error)] };
  }
  await note();
  const since = monotonicMs();
  while (monotonicMs() - since < APPEAR_MS && (await missing()).some((mac) => news.includes(mac))) await sleep(LOOK_MS);
  return { looked: true, warnings: [] };
}

/** As under systemctl reload: the unit's sandbox has /sys read-only. */
const cannotLook = (macs: readonly string[], { stderr, message }: CommandError): string =>
  /read-only|permission denied/i.test(stderr)
    ? `NIC ${macs.join(', ')}: the PCI bus was not looked at anew, since this run may not write ${RESCAN}, as under systemctl reload: kylin-vr reload may`
    : `NIC ${macs.join(', ')}: the PCI bus was not looked at anew (${message})`;
