// A guest with kylin-vr, and whether its network does what a configuration promises.

import { readFile } from 'node:fs/promises';
import { PROGRAM, type Router } from '../lab/lab.ts';
import { listen, observe, type Row, type Scenario } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import type { Machine } from './lab/machine.ts';
import type { Preparation } from './lab/tree.ts';

export const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const AT_ONCE = 12;

/** An image that `kylin-vr install --root` prepared, with that configuration. */
export const installed = (config: string, ...options: string[]): Pick<Preparation, 'prepare'> => ({
  async prepare(router: Router, root: string) {
    await router.run([process.execPath, PROGRAM, 'install', '--root', root, ...options], { check: true });
    await router.write(`${root}${CONFIG}`, config, 0o600);
  },
});

/** As `scp` would: the program alone, to install itself. */
export async function bringProgram(machine: Machine, path: string): Promise<void> {
  await machine.write(path, await readFile(PROGRAM), 0o755);
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
