// Tools of EL 7, stood in for by today's that answer as they do (what those print: test/dialects/samples, RELIABILITY.md).

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { apply, json, shell, v } from '../confirm/router.ts';
import { createLab } from '../lab/lab.ts';
import { coverUsr, recordTools } from '../lab/tools.ts';
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

describe('EL 10 without kernel-modules-extra', () => {
  /** A kernel that runs, with these modules and no others. */
  const withModules = (names: readonly string[]) => `
    folder=/usr/lib/modules/$(uname -r); mkdir -p $folder /var/lib/rpm; : > $folder/modules.builtin
    printf '%s\\n' ${names.map((name) => `kernel/net/netfilter/${name}.ko.xz:`).join(' ')} > $folder/modules.dep`;
  const ALL = ['nft_compat', 'xt_conntrack', 'xt_addrtype', 'xt_nat', 'xt_MASQUERADE'];
  const SAID =
    /^the kernel that runs has no module nft_compat, xt_addrtype, which iptables needs: install kernel-modules-extra-\S+( \(iptables-restore .*\); the network is as it was before; mend the cause and run kylin-vr reload)?$/;

  it('a reload and a start that fail for it name the module and the package, and so does an installation', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    const tools = await recordTools(lab.router);
    await coverUsr(lab.router);
    await shell(lab, withModules(ALL.filter((name) => !['nft_compat', 'xt_addrtype'].includes(name))));
    const fails = `case "$*" in *--wait*) cat > /dev/null
      echo 'iptables-restore v1.8.11 (nf_tables): ' >&2; echo 'line 3: RULE_APPEND failed (No such file or directory)' >&2; exit 4 ;; esac`;
    await tools.before('iptables-nft-restore', fails);
    await lab.configure(RANGE);
    for (const command of ['reload', 'start']) {
      // A boot does not try again what was refused.
      await shell(lab, 'rm -f /var/lib/kylin-vr/refused');
      const { status, errors } = await json(lab, command);
      assert.equal(status, 69);
      assert.match(errors[0]?.message ?? '', SAID, command);
    }
    await tools.before('iptables-nft-restore');
    const { stderr } = await lab.kylin('install');
    assert.match(stderr.match(/warning: (the kernel .*)/)?.[1] ?? stderr, SAID);

    await shell(lab, 'rmdir /var/lib/rpm');
    assert.match(
      (await lab.kylin('install')).stderr,
      /which iptables needs: install the rest of the modules of \d\S+\n/,
    );

    // With all of them it is iptables that is quoted, and nothing else said.
    await shell(
      lab,
      `printf '%s\n' ${ALL.map((name) => `kernel/${name}.ko:`).join(' ')} > /lib/modules/$(uname -r)/modules.dep`,
    );
    await tools.before('iptables-nft-restore', fails);
    assert.match((await json(lab, 'reload')).errors[0]?.message ?? '', /^iptables-restore /);
  });
});

describe('an installation', () => {
  it('takes iproute2 4.11 and an iptables 1.4.21 that knows --wait', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    const tools = await recordTools(lab.router);
    await coverUsr(lab.router);
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
