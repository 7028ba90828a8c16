// Which questions a run may ask the machine again because a file says that the last one did: those that look, and that end. The file
// may be damaged, and then a question with one word changed may never be answered (`/proc/kmsg`, `sleep`), or change something. Pure.

import { MOST_READ } from '../regular-file.ts';
import { FIRST } from './early.ts';

/** Files that are read, listed or looked at. */
const FOLDERS = ['/etc/', '/run/', '/var/lib/kylin-vr/', '/lib/', '/usr/lib/', '/usr/local/lib/'];

/** The kernel's own, which have no size. */
const KERNELS = [
  '/proc/modules',
  '/proc/net/ip_tables_names',
  '/proc/sys/kernel/random/boot_id',
  '/proc/1/root/proc/sys/kernel/random/boot_id',
];

/** Or the name of a process. */
const isKernels = (path: string): boolean => KERNELS.includes(path) || /^\/proc\/\d+\/comm$/.test(path);

/** Of every run: no pattern is made ready for them, which takes longer than all the rest of this. */
const ALWAYS = new Set(FIRST.map((question) => JSON.stringify(question)));

/** Commands, with one space between their words. */
const COMMANDS = [
  /^ip( -[46]| -j| -json| -details| -oneline)* (address|link|neighbour|nexthop|route|rule) show( [\w.:/-]+)*$/,
  /^iptables(-legacy|-nft)?-save( -t \w+)?$/,
  /^nft( -[ajt])* list (chain|chains|maps|table|tables)( [\w.-]+)*$/,
  /^ovs-vsctl --timeout=\d --format=json --columns=[\w,]+ list Bridge( -- --columns=[\w,]+ list (Port|Interface|Mirror))+$/,
  /^ovs-appctl --timeout=\d -t \/run\/openvswitch\/ovs-vswitchd\.\d+\.ctl version$/,
  /^nmcli --terse (--fields [\w,-]+ device status|--get-values RUNNING general)$/,
];

/** Those that read what is asked, each with what that may be. */
const FED: readonly [command: RegExp, input: RegExp][] = [
  [/^ip( -j| -json| -details)* (-b|-batch) -$/, /^((address|neighbour|route) show( [\w.:/-]+)*\n)+$/],
  [
    /^iptables-restore --test --noflush$/,
    /^\*(mangle|nat)\n:KYLIN-VR-PROBE - \[0:0\]\n-A KYLIN-VR-PROBE [^\n]+\nCOMMIT\n$/,
  ],
];

/** Each is a process; a machine of ours asks three. */
const MOST_COMMANDS = 256;
/** Mostly files: two for each profile. */
const MOST_QUESTIONS = 50_000;
const LONGEST_WAIT_MS = 60_000;

/** Of parsed JSON. Nothing is asked twice: a file may be large. */
export function areQuestions(questions: readonly unknown[]): boolean {
  const commands = questions.filter((question) => Array.isArray(question) && question[0] === 'run');
  const others = questions.flatMap((question) =>
    Array.isArray(question) && question[0] !== 'run' ? [`${question[0]} ${question[1]}`] : [],
  );
  return (
    questions.length <= MOST_QUESTIONS &&
    commands.length <= MOST_COMMANDS &&
    new Set(others).size === others.length &&
    questions.every(isQuestion)
  );
}

function isQuestion(question: unknown): boolean {
  if (!Array.isArray(question)) return false;
  const [name, about, options, ...more] = question as unknown[];
  if (more.length > 0) return false;
  if (name === 'run') return ALWAYS.has(JSON.stringify(question.slice(1))) || isCommand(about, options);
  if (typeof about !== 'string' || (options !== undefined && name !== 'read')) return false;
  if (name === 'which') return /^[\w.-]+$/.test(about);
  if (name === 'sysctl') return about.startsWith('net/') && isPlain(about);
  if (name === 'read') return (isOurs(about) || isKernels(about)) && isReading(options);
  return (name === 'list' || name === 'info' || name === 'readLink') && isOurs(about);
}

function isCommand(argv: unknown, options: unknown): boolean {
  if (!Array.isArray(argv) || !argv.every((word) => typeof word === 'string' && /^\S+$/.test(word))) return false;
  const { input, timeoutMs = LONGEST_WAIT_MS, accept = [], ...more } = fieldsOf(options);
  if (Object.keys(more).length > 0 || !Array.isArray(accept) || !accept.every(Number.isInteger)) return false;
  if (!isWithin(LONGEST_WAIT_MS, timeoutMs)) return false;
  const command = argv.join(' ');
  if (input === undefined) return COMMANDS.some((known) => known.test(command));
  return typeof input === 'string' && FED.some(([known, fed]) => known.test(command) && fed.test(input));
}

function isReading(options: unknown): boolean {
  const { most = MOST_READ, orNothing = true, ...more } = fieldsOf(options);
  return Object.keys(more).length === 0 && isWithin(MOST_READ, most) && orNothing === true;
}

/** Of what is no object one that nobody knows. */
const fieldsOf = (options: unknown): Record<string, unknown> =>
  typeof options === 'object' && options !== null ? { ...options } : options === undefined ? {} : { options };

const isWithin = (most: number, value: unknown): boolean =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= most;

const isOurs = (path: string): boolean => FOLDERS.some((folder) => path.startsWith(folder)) && isPlain(path);

/** Without parts that lead elsewhere, or are empty. */
function isPlain(path: string): boolean {
  const parts = path.startsWith('/') ? `${path}/` : `/${path}/`;
  return !['//', '/./', '/../'].some((odd) => parts.includes(odd));
}
