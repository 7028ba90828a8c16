// The uplink of a whole machine on a bridge of the kernel's Open vSwitch: what routers advertise goes along, there and back; onto one
// that nothing passes through it does not go.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESS, advertise, PREFIX } from '../bridge/advertised.ts';
import { bridged } from '../bridge/moves.ts';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { CONFIG, createPromises, installed } from './guest.ts';
import type { Machine } from './lab/machine.ts';
import { withVm } from './lab/vm.ts';
import { withOvs } from './ovs.ts';

const NIC = NICS.public.device;
const PLAIN = elastic.config;
const ON_BRIDGE = bridged(PLAIN, 'ovs');
/** Without KVM a run takes ten seconds and more. */
const IN_VM_MS = 300_000;
/** Seconds, of all that is advertised, and between two that nobody asked for. */
const LIFETIME = 40;
const EVERY = 10;

const run = (machine: Machine, script: string) =>
  machine.run(['sh', '-ec', script], { check: true, timeoutMs: IN_VM_MS });

async function reload(machine: Machine, config: string) {
  await machine.agent.write(CONFIG, config);
  const argv = ['kylin-vr', 'reload', '--json', '--lock-timeout', `${IN_VM_MS / 1000}`];
  for (let tries = 1; ; tries++) {
    const { status, stdout, stderr } = await machine.run(argv, { timeoutMs: IN_VM_MS });
    const said = stdout + stderr;
    // On a busy CPU nmcli may take longer than it is given.
    if (tries < 3 && / no end after \d+ s, killed\)/.test(said)) continue;
    return { status, said };
  }
}

async function heardOn(device: string, machine: Machine): Promise<string> {
  const { stdout } = await run(
    machine,
    `ip -6 -o address show dev ${device} scope global | awk '{ print $4 }'
     ip -6 route show dev ${device} | grep -Eo '^(${PREFIX}/64|default via fe80::[^ ]+ proto ra)' || true`,
  );
  const { status } = await machine.lab.host('out').run(['ping', '-c', '1', '-W', '3', ADDRESS]);
  return [...stdout.trim().split('\n'), status === 0 ? 'answers' : 'is silent'].join(', ');
}

const isHeard = (device: string, machine: Machine) =>
  eventually(
    () => heardOn(device, machine),
    new RegExp(`^${ADDRESS}/64, ${PREFIX}/64, default via fe80::\\S+ proto ra, answers$`),
    IN_VM_MS,
  );

async function goesThereAndBack(machine: Machine, t: TestContext): Promise<void> {
  await advertise(machine.lab, t, { lifetime: LIFETIME, every: EVERY });
  const conf = `net.ipv6.conf.${NIC}`;
  await run(machine, `sysctl -qw net.ipv6.conf.all.forwarding=1 ${conf}.accept_ra=2 ${conf}.disable_ipv6=0`);
  await isHeard(NIC, machine);
  for (const [config, device, other] of [
    [ON_BRIDGE, 'br-ex', NIC],
    [PLAIN, NIC, 'br-ex'],
  ] as const) {
    const { status, said } = await reload(machine, config);
    assert.equal(status, 0, said);
    await isHeard(device, machine);
    // All of it would have gone by now, but for the next ones.
    await sleep(LIFETIME * 1000);
    await isHeard(device, machine);
    const left = `(ip -6 -o address show scope global; ip -6 route show) | grep -E ' ${other} ' || true`;
    assert.doesNotMatch((await run(machine, left)).stdout, new RegExp(` proto ra|${PREFIX}`));
    t.diagnostic(`what is advertised is heard on ${device}`);
  }
}

/** What makes a bridge that nothing passes through. */
const CLOSED = {
  'fail_mode=secure without flows': 'set-fail-mode br-ex secure',
  'the tag of another VLAN': 'set port br-ex tag=100',
};

async function isTakenBack(machine: Machine, reaches: () => Promise<string>, t: TestContext): Promise<void> {
  const placed = async () =>
    (
      await run(
        machine,
        `ip -4 -o address | awk '$4 == "${ADDRESSES.router}/24" { print "address on", $2 }'
         ip -o link show dev ${NIC} | grep -o 'master [^ ]*' || true
         ovs-vsctl --timeout=60 list-ports br-ex`,
      )
    ).stdout.trim();
  for (const [what, close] of Object.entries(CLOSED)) {
    await run(machine, `ovs-vsctl --timeout=60 add-br br-ex -- ${close}`);
    const { status, said } = await reload(machine, ON_BRIDGE);
    assert.equal(status, 69, said);
    assert.match(said, /"result": ?"rolled-back"/, what);
    assert.match(said, new RegExp(`the gateway ${ADDRESSES.out} answered by ARP before, and does not on br-ex within`));
    assert.equal(await placed(), `address on ${NIC}`, what);
    await eventually(reaches, 'v', IN_VM_MS);
    await run(machine, 'ovs-vsctl --timeout=60 del-br br-ex');
    t.diagnostic(`the move onto a bridge with ${what} is taken back`);
  }
  const { status, said } = await reload(machine, PLAIN);
  assert.equal(status, 0, said);
}

test("onto a bridge of the kernel's Open vSwitch what a router advertises goes along, there and back; a closed one gets nothing", async (t) => {
  await withVm({ nics: [NICS.public, NICS.a], ...withOvs(installed(PLAIN)) }, async (machine) => {
    const { traffic } = await createPromises(machine, { ownNamespace: false });
    const reaches = async () => {
      const answer = await traffic.probe({ from: 'out', to: EIPS.v, port: 80, transport: 'tcp', timeoutMs: 3000 });
      return answer.reached ? answer.by : answer.why;
    };
    await eventually(reaches, 'v', IN_VM_MS);
    await goesThereAndBack(machine, t);
    await eventually(reaches, 'v', IN_VM_MS);
    await isTakenBack(machine, reaches, t);
  });
});
