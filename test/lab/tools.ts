// A recorder in front of the router's tools: what the program under test runs, with what on standard input, and a place to
// make a tool slow or fail. The wrappers lie in an overlay of /usr/sbin, the first folder of the program's fixed PATH.

import type { Router } from './lab.ts';

/** One command: its words, and its standard input where it reads one. */
export type Call = { command: string; input?: string };

export type Tool = keyof typeof REAL;

export type Tools = {
  /** The commands since the last call, in the order in which they began. */
  taken(): Promise<Call[]>;
  /**
   * A shell script that runs before each call of the tool, whose path it has as `$real`; `exit 1` there makes it fail. Without a
   * script: none any more.
   */
  before(tool: Tool, script?: string): Promise<void>;
};

const REAL = {
  ip: '/mnt/real/ip',
  conntrack: '/mnt/real/conntrack',
  nft: '/mnt/real/nft',
  arping: '/usr/bin/arping',
  nmcli: '/usr/bin/nmcli',
  busctl: '/usr/bin/busctl',
  'ovs-vsctl': '/usr/bin/ovs-vsctl',
  'iptables-nft-restore': '/usr/sbin/xtables-nft-multi iptables-restore',
  'iptables-legacy-restore': '/usr/sbin/xtables-legacy-multi iptables-restore',
  'iptables-nft-save': '/usr/sbin/xtables-nft-multi iptables-save',
  'iptables-legacy-save': '/usr/sbin/xtables-legacy-multi iptables-save',
} as const;

const wrapper = (tool: string, real: string) => `#!/bin/sh
echo "$$ \${0##*/} $*" >> /mnt/log
real='${real}'
[ -e /mnt/before/${tool} ] && . /mnt/before/${tool}
case "$*" in
  *-batch*|*--noflush*) cat > /mnt/input/$$; exec $real "$@" < /mnt/input/$$ ;;
esac
exec $real "$@"
`;

/** For who installs there: the machine's own /usr stays as it is. After recordTools. */
export async function coverUsr(router: Router): Promise<void> {
  const script = `for folder in bin lib local share; do
    mkdir -p /mnt/usr/$folder /mnt/usr-work/$folder
    mount -t overlay overlay -o lowerdir=/usr/$folder,upperdir=/mnt/usr/$folder,workdir=/mnt/usr-work/$folder /usr/$folder
  done`;
  await router.run(['sh', '-ec', script], { check: true });
}

export async function recordTools(router: Router): Promise<Tools> {
  const shell = (script: string, input = '') => router.run(['sh', '-ec', script], { input, check: true });
  await shell(`
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/real /mnt/before /mnt/input
    cp /usr/sbin/conntrack /usr/sbin/nft /usr/sbin/ip /mnt/real
    mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/mnt/upper,workdir=/mnt/work /usr/sbin
    rm -f ${Object.keys(REAL)
      .map((tool) => `/usr/sbin/${tool}`)
      .join(' ')}`);
  for (const [tool, real] of Object.entries(REAL)) await router.write(`/usr/sbin/${tool}`, wrapper(tool, real), 0o755);
  return {
    async taken() {
      const { stdout } = await shell(`
        cd /mnt/input
        [ -e /mnt/log ] || exit 0
        mv /mnt/log /mnt/taken
        cat /mnt/taken
        for file in *; do [ ! -e "$file" ] || { echo "=$file"; cat "$file"; }; done
        rm -f /mnt/input/* /mnt/taken`);
      const [log = '', ...inputs] = stdout.split(/^=(?=\d+$)/m);
      const inputOf = new Map(inputs.map((text) => [text.split('\n', 1)[0], text.slice(text.indexOf('\n') + 1)]));
      return log
        .split('\n')
        .slice(0, -1)
        .map((line) => {
          const [, pid = '', command = ''] = /^(\d+) (.*)$/.exec(line) ?? [];
          const input = inputOf.get(pid);
          return { command: command.trim(), ...(input !== undefined && { input }) };
        });
    },
    async before(tool, script) {
      await shell(`rm -f /mnt/before/${tool} /mnt/verified /mnt/since`);
      if (script !== undefined) await router.write(`/mnt/before/${tool}`, script);
    },
  };
}

/**
 * For `before('ip', …)`: what is done in place of the first look after a change. How many looks come before it depends on how busy the
 * machine is: answers of the early one may be thrown away.
 */
export const atVerification = (script: string): string => `[ -e /mnt/since ] || wc -l < /mnt/log > /mnt/since
case "$*" in *json*-b*)
  if [ ! -e /mnt/verified ] && tail -n +$(cat /mnt/since) /mnt/log | grep -v -e --test | grep -q -e ' -batch' -e noflush -e 'nft -f'; then
    : > /mnt/verified; ${script}
  fi ;; esac`;

/** What only looks. */
const READS =
  /^(ip (-\S+ )*((address|link|route|neigh) show\b|-b -)|iptables(-nft|-legacy)?-save\b|iptables-restore --test\b|conntrack -L\b|nft (-\S+ )*list\b)/;

export const writes = (calls: readonly Call[]): string[] =>
  calls.map(({ command }) => command).filter((command) => !READS.test(command));
