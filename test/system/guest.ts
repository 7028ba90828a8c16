// A guest with kylin-vr, and whether its network does what a configuration promises.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Router } from '../lab/lab.ts';
import { listen, observe, type Row, type Scenario } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import type { Machine } from './lab/machine.ts';
import { type Preparation, packLayer, ROOT } from './lab/tree.ts';

export const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const AT_ONCE = 12;

/** Where `npm run test:system` has put the packages. */
const { KYLIN_VR_PACKAGES } = process.env;

export function debOf(flavour: 'kylin-vr' | 'kylin-vr-standalone'): string {
  const names = KYLIN_VR_PACKAGES === undefined ? [] : readdirSync(KYLIN_VR_PACKAGES);
  const name = names.find((each) => each.startsWith(`${flavour}_`) && each.endsWith('.deb'));
  if (name === undefined) throw new Error(`no deb of ${flavour}: run this with npm run test:system`);
  return join(KYLIN_VR_PACKAGES ?? '', name);
}

let layer: Promise<string> | undefined;

/** The tree with the standalone deb in it, and no other Node. Made once: unpacking takes longer than a container's boot. */
function withDeb(): Promise<string> {
  const make = async () => {
    const archive = join(KYLIN_VR_PACKAGES ?? '', `layer-${process.pid}.tar`);
    await packLayer(archive, [
      ['rm', '-r', `${ROOT}/opt/node`, `${ROOT}/usr/local/bin/node`],
      ['dpkg', `--root=${ROOT}`, '--install', debOf('kylin-vr-standalone')],
    ]);
    return archive;
  };
  layer ??= make();
  return layer;
}

/** An image with the package installed, and that configuration. */
export const installed = (config: string, ...options: string[]): Pick<Preparation, 'layer' | 'prepare'> => ({
  layer: withDeb,
  async prepare(router: Router, root: string) {
    if (options.length > 0) await router.run(['chroot', root, 'kylin-vr', 'install', ...options], { check: true });
    await router.write(`${root}${CONFIG}`, config, 0o600);
  },
});

/**
 * From now on, until the power goes or `mend`, this comes first when the machine runs the tool: shell, in which "$@" is what the
 * tool is given.
 */
export async function disturb(machine: Machine, tool: string, script: string): Promise<{ mend(): Promise<void> }> {
  const [copy, stub] = [`/root/${basename(tool)}-itself`, `/root/${basename(tool)}-disturbed`];
  await machine.run(['cp', '--preserve', '--remove-destination', tool, copy], { check: true });
  await machine.write(stub, `#!/bin/sh\n${script}\nexec ${copy} "$@"\n`, 0o755);
  await machine.run(['mount', '--bind', stub, tool], { check: true });
  return {
    mend: async () => {
      await machine.run(['umount', tool], { check: true });
    },
  };
}

export type Promises = {
  traffic: Traffic;
  /** The rows that are not as promised, one a line; nothing when all are. */
  broken(scenario: Scenario): Promise<string>;
};

/** Of a VM the router's own namespace is not the laboratory's: rows that begin or end in it are left out. */
export async function createPromises(machine: Machine, { ownNamespace = true } = {}): Promise<Promises> {
  const traffic = createTraffic(machine.lab);
  await listen(traffic);
  const isSeen = ({ from, expected }: Row) =>
    ownNamespace || !(from === 'router' || expected.startsWith('router:') || expected.endsWith('by the router'));
  return {
    traffic,
    async broken({ promises }) {
      const rows = promises.flatMap((promise) => promise.rows).filter(isSeen);
      const lines: string[] = [];
      for (let at = 0; at < rows.length; at += AT_ONCE) {
        const some = rows.slice(at, at + AT_ONCE);
        const saw = await Promise.all(some.map((row) => observe(traffic, row)));
        for (const [index, row] of some.entries()) {
          if (saw[index] === row.expected) continue;
          const port = row.protocol === 'icmp' ? '' : `:${row.port}`;
          lines.push(`${row.protocol} ${row.from} → ${row.to}${port}: ${row.expected}; saw ${saw[index]}`);
        }
      }
      return lines.join('\n');
    },
  };
}

export const failedUnits = async (machine: Machine) =>
  (await machine.run(['systemctl', 'list-units', '--state=failed', '--no-legend', '--plain'])).stdout;

/** What every boot must be like, whatever the configuration is. */
export async function bootWasClean(machine: Machine): Promise<void> {
  assert.equal(await failedUnits(machine), '');
  assert.doesNotMatch(await machine.journal('-b'), /ordering cycle/i);
  const done = await monotonic(machine, 'kylin-vr.service', 'ExecMainExitTimestampMonotonic');
  const manager = await monotonic(machine, 'NetworkManager.service', 'ExecMainStartTimestampMonotonic');
  assert.ok(done > 0 && done <= manager, `start ended at ${done} µs, NetworkManager began at ${manager} µs`);
}

export async function monotonic(machine: Machine, unit: string, property: string): Promise<number> {
  const { stdout } = await machine.run(['systemctl', 'show', '--value', `--property=${property}`, unit]);
  return Number(stdout);
}
