// Tools of EL 7, stood in for by today's that answer as they do (what those print: test/dialects/samples, RELIABILITY.md).

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { apply, json, shell, v } from '../confirm/router.ts';
import { createLab } from '../lab/lab.ts';
import { recordTools } from '../lab/tools.ts';
import { nics } from '../scenarios/change.ts';

/** iptables 1.4.21 reads `8080-8082/80` by atoi(3): what is behind the number is dropped in silence. */
const DROPS = `case "$*" in *--noflush*)
  sed -E 's,(--to-destination [0-9.]+:[0-9]+-[0-9]+)/[^ ]*,\\1,' | $real "$@"; exit $? ;; esac`;

const RANGE = `${nics}port_forward_list:
  - { eip: 203.0.113.50, protocal: tcp, port: 80, end_port: 82, vm-port: 8080, vm-ip: ${v} }
`;

describe('iptables 1.4.21', () => {
  for (const backend of ['nft', 'legacy'] as const)
    it(`a shifted range is single ports where the shift is dropped in silence, ${backend}`, async (t) => {
      const lab = await createLab({ iptables: backend });
      t.after(() => lab.close());
      const tools = await recordTools(lab.router);
      await tools.before(`iptables-${backend}-restore`, DROPS);
      await apply(lab, RANGE);
      assert.deepEqual(
        [...(await shell(lab, 'iptables-save -t nat')).matchAll(/--dport (\S+) .*--to-destination (\S+)/g)].map(
          ([, port, to]) => `${port} ${to}`,
        ),
        [`80 ${v}:8080`, `81 ${v}:8081`, `82 ${v}:8082`],
      );
      assert.deepEqual((await json(lab, 'reload')).steps, []);
      // With an iptables that knows them it is one rule again.
      await tools.before(`iptables-${backend}-restore`);
      await apply(lab, RANGE);
      assert.match(await shell(lab, 'iptables-save -t nat'), /--dport 80:82 .*:8080-8082\/80\n/);
    });
});

describe('an installation', () => {
  it('takes iproute2 4.11 and an iptables 1.4.21 that knows --wait', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    const tools = await recordTools(lab.router);
    await tools.before(
      'ip',
      `case "$*" in
        -V) echo 'ip utility, iproute2-ss170501'; exit 0 ;;
        -j*) echo 'Option "-json" is unknown, try "ip -help".' >&2; exit 255 ;; esac`,
    );
    await tools.before(
      'iptables-nft-restore',
      'case "$*" in --version) echo "iptables-restore v1.4.21"; exit 0 ;; esac',
    );
    const { status, stderr } = await lab.kylin('install');
    assert.doesNotMatch(stderr, /too old/);
    assert.ok(status === 0 || /node is not in/.test(stderr), stderr);
  });
});
