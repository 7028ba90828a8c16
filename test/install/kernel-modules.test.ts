// Which modules of the kernel are missing, by what its modules.dep lists.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Host } from '../../src/machine/host.ts';
import { missingModules } from '../../src/machine/modules.ts';

const OTHERS = ['xt_conntrack', 'xt_addrtype', 'xt_nat'].map((name) => `kernel/net/netfilter/${name}.ko.xz:`);

const hostWith = (lines: readonly string[]) =>
  ({
    sysctl: async () => '3.10.0-1160.el7.x86_64',
    read: async (path: string) => (path.endsWith('/modules.dep') ? `${lines.join('\n')}\n` : undefined),
    which: async () => '/usr/sbin/xtables-multi',
    info: async () => undefined,
  }) as unknown as Host;

test('a kernel before 5.2 has masquerading under its former name', async () => {
  const former = 'kernel/net/ipv4/netfilter/ipt_MASQUERADE.ko.xz:';
  assert.equal(await missingModules(hostWith([...OTHERS, former])), undefined);
});

test('a kernel with neither is said to lack masquerading', async () => {
  assert.match((await missingModules(hostWith(OTHERS))) ?? '', /has no module xt_MASQUERADE,/);
});
