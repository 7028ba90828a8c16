// An image in a temporary folder, and install and uninstall in it, in this process.

import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { AgentError } from '../../src/base/errors.ts';
import { runCli } from '../../src/cli.ts';
import type { Context } from '../../src/commands/context.ts';
import type { Host } from '../../src/machine/host.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';

export type Files = Readonly<Record<string, string | { content: string; mode: number }>>;

/** As 1.0 had it below /usr/lib; 0.1 had the settings, in /etc. */
export const SETTINGS_OF_1_0 = `# kylin-vr: this machine routes IPv4, and IPv4 only. Read at boot; disable_ipv6 is never set on a running machine, somebody
# may be logged in over it.
net.ipv4.ip_forward = 1
net.ipv6.conf.all.disable_ipv6 = 1
net.ipv6.conf.default.disable_ipv6 = 1
`;

/** A folder that goes with the test, with these files below it (0644 where none is given). */
export function imageOf(t: TestContext, files: Files = {}): string {
  const root = mkdtempSync(join(tmpdir(), 'kylin-vr-image-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o755);
  for (const [path, file] of Object.entries(files)) put(root, path, file);
  return root;
}

export function put(root: string, path: string, file: Files[string]): void {
  const { content, mode } = typeof file === 'string' ? { content: file, mode: 0o644 } : file;
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content, 'latin1');
  chmodSync(join(root, path), mode);
}

/** Everything below a folder, one line each, as `ls -lR` would: mode, path, and where a link leads. */
export function listing(root: string): string[] {
  return walk(root).map(({ path, mode, target }) => `${mode} ${path}${target === undefined ? '' : ` → ${target}`}`);
}

/** The same with every file's bytes. */
export function snapshot(root: string): string[] {
  return walk(root).map(
    ({ path, mode, target }) =>
      `${mode} ${path} ${target ?? (mode.startsWith('-') ? JSON.stringify(readFileSync(join(root, path), 'latin1')) : '')}`,
  );
}

export function times(root: string): string[] {
  return walk(root).map(({ path }) => `${path} ${lstatSync(join(root, path), { bigint: true }).mtimeNs}`);
}

function walk(root: string, below = ''): { path: string; mode: string; target?: string }[] {
  return readdirSync(join(root, below))
    .sort()
    .flatMap((name) => {
      const path = `${below}/${name}`;
      const stat = lstatSync(join(root, path));
      const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
      if (stat.isSymbolicLink()) return [{ path, mode: 'link', target: readlinkSync(join(root, path)) }];
      if (stat.isDirectory()) return [{ path, mode: `d${mode}` }, ...walk(root, path)];
      return [{ path, mode: `-${mode}` }];
    });
}

export type Ended = { status: number; stdout: string; stderr: string };

/** Stands for the bytes of the program that is to be installed. */
export const program = () => '#!/usr/bin/env node\nthe program\n';
/** As it is installed: root's Node heeds no variable of whoever starts it. */
export const FIRST_LINE =
  // biome-ignore lint/suspicious/noTemplateCurlyInString: env's
  '#!/usr/bin/env -S -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin TERM=${TERM} NO_COLOR=${NO_COLOR} node';
export const PROGRAM_TEXT = `${FIRST_LINE}\nthe program\n`;

export async function run(
  args: readonly string[],
  options: { host?: (host: Host) => Host; program?: () => string } = {},
): Promise<Ended> {
  const ended: Ended = { status: -1, stdout: '', stderr: '' };
  const notAsked = () => {
    throw new Error('asked for more than files');
  };
  const context: Context = {
    host: (environment) => (options.host ?? ((host) => host))(linuxHost(environment)),
    ...(options.program !== undefined && { program: options.program }),
    stdout: ({ shown }) => {
      ended.stdout += shown;
    },
    stderr: ({ shown }) => {
      ended.stderr += shown;
    },
    isRoot: true,
    terminal: false,
    journal: false,
    colour: false,
    logger: notAsked,
    byGuestAgent: notAsked,
    unbroken: notAsked,
  };
  try {
    ended.status = await runCli(args, context);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    ended.status = error.status;
    ended.stderr += `${error.message}\n`;
  }
  return ended;
}
