// A neighbour that answers for our addresses already: nobody is asked, on any path, whatever NetworkManager's default is.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { NICS } from '../lab/lab.ts';
import { createLabOn, NAME_OF, type Path } from '../lab/path.ts';

const nics = (own: string) => `if_list:
  - { ipaddr: ${own}, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
`;
const EIPS = ['203.0.113.50', '203.0.113.51'];
const eips = EIPS.map((eip, n) => `  - { eip: ${eip}, vm-ip: 10.10.1.1${n} }\n`).join('');

export function conflicts(path: Path): void {
  it(`${NAME_OF[path]}: neighbours that have an EIP and the NIC's own address delay nothing and stop nothing`, async () => {
    const lab = await createLabOn(path, { manager: { configuration: '[connection]\nipv4.dad-timeout=15000\n' } });
    try {
      const taken = ['203.0.113.37', '203.0.113.38', '203.0.113.51'];
      for (const address of taken)
        await lab.host('out').run(['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0'], { check: true });
      // The first of all, an EIP more, another address of the NIC's own.
      for (const [config, wanted] of [
        [nics('203.0.113.37'), ['203.0.113.37/24']],
        [`${nics('203.0.113.37')}eip_list:\n${eips}`, ['203.0.113.37/24', ...EIPS.map((eip) => `${eip}/32`)]],
        [nics('203.0.113.38'), ['203.0.113.38/24']],
      ] as const) {
        await lab.configure(config);
        const { status, stdout } = await lab.kylin('reload', '--json');
        const { durationMs, warnings, errors } = JSON.parse(stdout);
        assert.deepEqual([status, warnings, errors], [0, [], []]);
        assert.ok(durationMs < 12_000, `${durationMs} ms`);
        const shown = await lab.router.run(['ip', '-4', '-o', 'address', 'show', 'dev', 'eth0'], { check: true });
        assert.deepEqual([...shown.stdout.matchAll(/ inet (\S+)/g)].map(([, spec]) => spec).sort(), wanted);
      }
    } finally {
      await lab.close();
    }
  });
}
