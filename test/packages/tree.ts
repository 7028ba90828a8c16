// A tree to install packages in: this machine's own files with everything that is written in memory, in mounts of its own.

import type { TestContext } from 'node:test';
import { createNamespace, type RunResult } from '../lab/namespace.ts';

const ROOT = '/mnt/root';

/** No systemd runs in it, and nothing of ours is there that this machine may have. */
const SETUP = `
  mount --make-rprivate /
  mount -t tmpfs tmpfs /mnt
  mkdir /mnt/upper /mnt/work ${ROOT}
  mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work ${ROOT}
  for folder in run tmp; do mount -t tmpfs tmpfs ${ROOT}/$folder; done
  for folder in proc sys dev; do mount --rbind /$folder ${ROOT}/$folder; done
  rm -rf ${ROOT}/var/lib/rpm ${ROOT}/etc/kylin-vr ${ROOT}/var/*/kylin-vr
`;

const RUN = { timeoutMs: 120_000 };

export type Tree = {
  /** In the tree, as chroot. */
  run(...argv: string[]): Promise<RunResult>;
  /** From outside, on the tree; throws when it fails. Gives all that it printed. */
  rpm(...args: string[]): Promise<string>;
  dpkg(...args: string[]): Promise<string>;
  /** Undefined where there is none. */
  read(path: string): Promise<string | undefined>;
  write(path: string, text: string, mode?: string): Promise<void>;
  /** Everything of ours in it: mode, path, and where a link leads. */
  ours(): Promise<string[]>;
};

export async function createTree(t: TestContext): Promise<Tree> {
  const namespace = await createNamespace(SETUP);
  t.after(() => namespace.end());
  const run: Tree['run'] = (...argv) => namespace.run(['chroot', ROOT, ...argv], RUN);
  const onTree = async (...argv: string[]) => {
    const { stdout, stderr } = await namespace.run(argv, { ...RUN, check: true });
    return stdout + stderr;
  };
  return {
    run,
    // Debian's rpm is for the trees of other systems, and wants to be told that this is one.
    rpm: (...args) => onTree('rpm', '--root', ROOT, '--force-debian', ...args),
    dpkg: (...args) => onTree('dpkg', `--root=${ROOT}`, ...args),
    async read(path) {
      const { status, stdout } = await run('cat', path);
      return status === 0 ? stdout : undefined;
    },
    async write(path, text, mode = '0644') {
      const script = 'install -D -m "$1" /dev/null "$2" && cat > "$2"';
      await namespace.run(['chroot', ROOT, 'sh', '-ec', script, 'sh', mode, path], { input: text, check: true });
    },
    async ours() {
      const shared = ['/etc', '/usr/bin', '/usr/lib', '/usr/local/bin', '/usr/share'];
      const own = ['/var/lib/kylin-vr', '/var/log/kylin-vr', '/var/cache/kylin-vr'];
      const { stdout } = await run('find', ...shared, ...own, '-path', '*kylin-vr*', '-printf', '%M %p %l\n');
      return [...new Set(stdout.split('\n').map((line) => line.trim()))].filter((line) => line !== '').sort(byPath);
    },
  };
}

const byPath = (a: string, b: string) => (a.replace(/^\S+ /, '') < b.replace(/^\S+ /, '') ? -1 : 1);
