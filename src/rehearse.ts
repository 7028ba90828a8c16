// A reload of a small router on a machine of paper: nothing is read, nothing is done. It is there to be compiled: what it went
// through is what the code cache holds (packaging/loader.cjs). What is still left out is compiled when it is met, 20 µs a function.

import { runCli } from './cli.ts';
import type { Context } from './commands/context.ts';
import type { Host } from './machine/host.ts';
import { linuxHost, runFed } from './machine/linux-host.ts';
import { createLogger } from './machine/log.ts';
import { run } from './run/reconcile.ts';

const CONFIG = `if_list:
  - ipaddr: 203.0.113.37
    prefix: 24
    mac: 52:54:84:00:08:46
    gateway: 203.0.113.1
  - ipaddr: 10.10.1.254
    prefix: 24
    mac: 52:54:84:11:00:04
eip_list:
  - eip: 203.0.113.50
    vm-ip: 10.10.1.11
port_forward_list:
  - eip: 203.0.113.60
    protocal: tcp
    port: 80
    vm-port: 80
    vm-ip: 10.10.1.12
`;

const LINKS = JSON.stringify(
  ['52:54:84:00:08:46', '52:54:84:11:00:04'].map((address, n) => ({
    ifindex: n + 1,
    ifname: `eth${n}`,
    link_type: 'ether',
    flags: ['UP'],
    mtu: 1500,
    address,
    addr_info: [{ family: 'inet', local: '192.0.2.1', prefixlen: 24, scope: 'global' }],
  })),
);

const paper: Host = {
  run: async ([command, ...args]) => ({
    stdout: command !== 'ip' || !args.includes('-json') ? '' : args.includes('-b') ? `${LINKS}\n[]\n` : '[]',
    status: 0,
  }),
  stream: async () => ({ status: 0 }),
  launch: async () => {},
  which: async (command) => (command === 'nmcli' ? undefined : `/usr/sbin/${command}`),
  read: async () => undefined,
  readBytes: async (path) => (path === '/rehearsal' ? new TextEncoder().encode(CONFIG) : undefined),
  list: async () => [],
  info: async (path) =>
    path === '/rehearsal' || path === '/'
      ? {
          uid: 0,
          gid: 0,
          mode: 0o600,
          directory: path === '/',
          symlink: false,
          regular: path !== '/',
          size: CONFIG.length,
        }
      : undefined,
  write: async () => true,
  setMode: async () => {},
  readLink: async () => undefined,
  link: async () => {},
  makeFolder: async () => {},
  removeFolder: async () => true,
  move: async () => {},
  copy: async () => {},
  putAside: async () => undefined,
  remove: async () => false,
  sysctl: async () => '0',
  setSysctl: async () => {},
  inside: async () => paper,
};

export async function rehearse(): Promise<void> {
  await run(paper, { command: 'reload', trigger: 'operator', configPath: '/rehearsal' });
  // What a machine of paper does without: commands, by files and by pipes, a log, a lock, options; and a file that needs the YAML parser.
  await linuxHost().run(['true'], { input: '' });
  // One that reads its input to the end: after one that does not, what is compiled depends on which of the two ends first.
  await runFed('/bin/cat', [], { env: {}, timeoutMs: 10_000, input: '' });
  const silent = { stdout: () => {}, stderr: () => {} } as unknown as Context;
  await runCli(['--help'], silent);
  const log = await createLogger({ level: 'info', to: 'json', stderr: () => {} });
  log.info({ run: '', warnings: [] }, 'rehearsed');
  await (await import('./config/load.ts')).loadConfig('{ if_list: [{ mac: 52:54:84:00:08:46 }] }');
  await Promise.all([
    import('./commands/reload.ts'),
    import('./commands/check.ts'),
    import('./commands/plan.ts'),
    import('./commands/status.ts'),
  ]);
}
