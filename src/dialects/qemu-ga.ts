// What qemu-ga's configuration files forbid the host to call, and the edit that opens the calls we need. Pure: text in,
// text out; everything else in the file stays as it is, byte for byte.
//
//   EL 7 and 8    /etc/sysconfig/qemu-ga            BLACKLIST_RPC=guest-file-open,...,guest-exec
//   EL 9          /etc/sysconfig/qemu-ga            BLOCK_RPCS=..., later FILTER_RPC_ARGS="--allow-rpcs=..." (or --block-rpcs)
//   Debian        /etc/default/qemu-guest-agent     DAEMON_ARGS="... --block-rpcs=..." (or --blacklist, -b), as a rule nothing
//   any           /etc/qemu/qemu-ga.conf            block-rpcs = ..., blacklist = ..., allow-rpcs = ...

export const QEMU_GA_FILES = [
  '/etc/sysconfig/qemu-ga',
  '/etc/default/qemu-guest-agent',
  '/etc/qemu/qemu-ga.conf',
  '/etc/qemu-ga/qemu-ga.conf',
] as const;

/** Bytes of one. Distributions ship 1 KiB of comments, and a list of every call there is has 2. */
export const LARGEST_QEMU_GA_FILE = 65_536;

/** What the hypervisor host needs: it writes the configuration, runs kylin-vr, and reads how that ended. */
export const NEEDED_CALLS = [
  'guest-file-open',
  'guest-file-close',
  'guest-file-read',
  'guest-file-write',
  'guest-file-seek',
  'guest-file-flush',
  'guest-exec',
  'guest-exec-status',
] as const;

export type Opening = {
  text: string;
  /** The calls that were forbidden; none: nothing was changed. */
  opened: string[];
};

export function openCalls(text: string): Opening {
  const opened = new Set<string>();
  const edited = editLists(text, ({ allows, names }) => {
    const changed = NEEDED_CALLS.filter((call) => names.includes(call) !== allows);
    for (const call of changed) opened.add(call);
    if (changed.length === 0) return undefined;
    return allows ? [...names, ...changed] : names.filter((name) => !changed.some((call) => call === name));
  });
  return { text: edited, opened: NEEDED_CALLS.filter((call) => opened.has(call)) };
}

/** Takes back what `openCalls` did to `before`, in a file that somebody edited since. */
export function closeCalls(text: string, before: string): string {
  const opened = new Map<string, string[]>();
  editLists(before, ({ key, allows, names }) => {
    opened.set(
      key,
      NEEDED_CALLS.filter((call) => names.includes(call) !== allows),
    );
    return undefined;
  });
  return editLists(text, ({ key, allows, names }) => {
    const changed = opened.get(key);
    if (changed === undefined) return undefined;
    const closed = allows
      ? names.filter((name) => !changed.some((call) => call === name))
      : [...names, ...changed.filter((call) => !names.includes(call))];
    return closed.length === names.length ? undefined : closed;
  });
}

type CommandList = {
  /** Which list it is: the same in every version of a file. */
  key: string;
  /** Whether only what is in it may be called; else what is in it may not. */
  allows: boolean;
  names: string[];
};

const NAMES = '[A-Za-z0-9_-]+(?:[, ]+[A-Za-z0-9_-]+)*';
/** An option anywhere in a value. Its list has no spaces: those end it. */
const OPTION =
  /(?<before>(?:^|[\s"'=])(?<option>--allow-rpcs|--block-rpcs|--blacklist|-a|-b)[ =]?)(?<names>[A-Za-z0-9_,-]*)/g;
const VARIABLE = new RegExp(`^(?<before>\\s*(?:export\\s+)?(?<key>BLACKLIST_RPC|BLOCK_RPCS)=["']?)(?<names>${NAMES})?`);
const INI = new RegExp(`^(?<before>\\s*(?<key>block-rpcs|blacklist|allow-rpcs)\\s*=\\s*)(?<names>${NAMES})?`);
/** A variable that holds options. Its name is in the key of each. */
const OPTIONS = /^\s*(?:export\s+)?(?<key>[A-Z_]{1,64})=/;

/** Calls `edit` for every list that is in force; it gives the new names, or undefined to leave the list alone. */
function editLists(text: string, edit: (list: CommandList) => string[] | undefined): string {
  return text
    .split('\n')
    .map((line) => {
      if (/^\s*([#;]|$)/.test(line)) return line;
      for (const pattern of [VARIABLE, INI]) {
        const found = pattern.exec(line)?.groups;
        if (found !== undefined)
          return line.replace(
            pattern,
            (whole) => whole.slice(0, (found.before ?? '').length) + renew(found.key ?? '', found.names ?? '', edit),
          );
      }
      const variable = OPTIONS.exec(line)?.groups?.key;
      if (variable === undefined) return line;
      return line.replace(OPTION, (...found) => {
        const { before = '', option = '', names = '' } = found.at(-1) as Record<string, string>;
        return before + renew(`${variable} ${option}`, names, edit);
      });
    })
    .join('\n');
}

function renew(key: string, text: string, edit: (list: CommandList) => string[] | undefined): string {
  const names = text.split(/[, ]+/).filter((name) => name !== '');
  const allows = /(^| )(allow-rpcs|--allow-rpcs|-a)$/.test(key);
  // An allow-list without a name is no list.
  if (allows && names.length === 0) return text;
  return edit({ key, allows, names })?.join(text.includes(',') || !text.includes(' ') ? ',' : ' ') ?? text;
}
