// Killed at every command of a move, before or while it is carried out: the next run ends it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { createManagedLab, NAME_OF } from '../lab/path.ts';
import { networkOf, onEveryPath } from '../lab/state.ts';
import { elastic } from '../lab/table.ts';
import { recordTools, type Tool, type Tools } from '../lab/tools.ts';
import { type BridgeType, bridged, reload, shell } from './moves.ts';
import { createOvsLab } from './ovs.ts';
import { ADD_ROUTES } from './routes.ts';

type Kind = {
  name: string;
  createLab(): Promise<Lab>;
  type: BridgeType;
  /** The commands at which it is killed, as patterns of a shell. */
  at: Partial<Record<Tool, string>>;
  /** How many there are on either way. */
  commands: [to: number, back: number];
};

const managed = (path: 'keyfile' | 'ifcfg'): Kind => ({
  name: NAME_OF[path],
  createLab: () => createManagedLab(path),
  type: 'linux',
  at: { nmcli: 'device*set*|connection*load*', busctl: '*Reload*' },
  commands: [3, 5],
});

const KINDS = {
  linux: {
    name: 'a Linux bridge',
    createLab,
    type: 'linux',
    at: { ip: '*-batch*', 'iptables-nft-restore': '--noflush*' },
    commands: [5, 4],
  },
  ovs: {
    name: 'a bridge of Open vSwitch',
    createLab: createOvsLab,
    type: 'ovs',
    at: { 'ovs-vsctl': '*add-*|*del-*' },
    commands: [2, 2],
  },
  keyfile: managed('keyfile'),
  ifcfg: managed('ifcfg'),
} satisfies Record<string, Kind>;

export function killed(which: keyof typeof KINDS): void {
  const { name, type, at, commands, ...kind }: Kind = KINDS[which];
  describe(`killed while the uplink moves: ${name}`, { concurrency: false }, () => {
    let lab: Lab;
    let tools: Tools;
    const [plain, onBridge] = [elastic.config, bridged(elastic.config, type)];
    const found = new Map<string, string>();
    before(async () => {
      lab = await kind.createLab();
      tools = await recordTools(lab.router);
      await reload(lab, plain);
      await shell(lab, ADD_ROUTES);
      await shell(lab, 'sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.accept_ra=2');
      for (const config of [onBridge, plain]) {
        await reload(lab, config);
        found.set(config, await all());
      }
    });
    after(() => lab?.close());

    /** The network, whoever made what, who hears advertisements, and whether NetworkManager has the NIC where it is. */
    async function all(): Promise<string> {
      const state = 'nmcli' in at ? await shell(lab, 'nmcli -t -f DEVICE,STATE device | grep ^eth0:') : '';
      const heard = await shell(
        lab,
        'cd /proc/sys/net/ipv6/conf; grep . eth0/accept_ra br-ex/accept_ra 2> /dev/null || true',
      );
      return state + heard + onEveryPath(await networkOf(lab.router));
    }

    /** At its nth such command kylin-vr is killed; the command is carried out all the same, or not. */
    async function killAt(nth: number, carriedOut: boolean): Promise<void> {
      await shell(lab, 'echo 0 > /run/writes');
      for (const [tool, pattern] of Object.entries(at))
        await tools.before(
          tool as Tool,
          `
      case "$*" in
        ${pattern})
          n=$(($(cat /run/writes) + 1))
          echo $n > /run/writes
          if [ $n = ${nth} ]; then kill -9 $PPID; ${carriedOut ? ':' : 'exit 0'}; fi
      esac`,
        );
    }

    async function letBe(): Promise<void> {
      for (const tool of Object.keys(at)) await tools.before(tool as Tool, undefined);
      // What was running is through.
      await shell(lab, 'sleep 0.3');
    }

    const WAYS: [name: string, from: string, to: string, commands: number][] = [
      ['to the bridge', plain, onBridge, commands[0]],
      ['back', onBridge, plain, commands[1]],
    ];
    // Through NetworkManager, which takes longest, by turns.
    const both = !('nmcli' in at) || process.env.KYLIN_VR_KILLS !== undefined;
    for (const [name, from, to, count] of WAYS)
      for (const carriedOut of [true, false])
        for (let nth = 1; nth <= count; nth++)
          if (both || carriedOut === (nth % 2 === 0))
            it(`${name}, at command ${nth} of ${count}, which is ${carriedOut ? '' : 'not '}carried out`, async () => {
              await reload(lab, from);
              await lab.configure(to);
              await killAt(nth, carriedOut);
              const { status } = await lab.kylin('reload');
              await letBe();
              assert.equal(status, 128 + 9);
              await reload(lab, to);
              assert.equal(await all(), found.get(to));
              assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, to === plain ? 1 : 0);
              assert.equal((await reload(lab, to)).result, 'unchanged');
            });

    it('these were all', async () => {
      for (const [, from, to, count] of WAYS) {
        await reload(lab, from);
        await killAt(0, true);
        await reload(lab, to);
        assert.equal((await shell(lab, 'cat /run/writes')).trim(), `${count}`);
        await letBe();
      }
    });
  });
}
