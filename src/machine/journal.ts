// The journal of systemd: each entry a line that a person reads, at its own priority, with fields to search by.

import { spawnSync } from 'node:child_process';
import { fstatSync, readFileSync } from 'node:fs';
import { own, type Shown, shown, visible } from '../base/visible.ts';
import { type Issue, inLine } from '../config/issue.ts';

/** Of syslog(3). A run that changed something is a notice: units keep what systemd itself says (info) out of the journal. */
const PRIORITIES: Readonly<Record<string, number>> = { trace: 7, debug: 7, info: 5, warn: 4, error: 3, fatal: 2 };

/** Whether standard error leads there; a variable that was inherited proves nothing (systemd.exec(5)). */
export function leadsToJournal(): boolean {
  const stream = process.env.JOURNAL_STREAM;
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Lines for standard error under systemd, each at the priority of its level. */
export const atPriority = (level: keyof typeof PRIORITIES, text: Shown): Shown =>
  own(text.shown.replace(/^(?=.)/gm, `<${PRIORITIES[level]}>`));

/**
 * Takes lines of a logger. Node has no datagram sockets of that kind: logger of util-linux sends an entry, and where it cannot the
 * line goes to standard error, without its fields.
 */
export function journalWriter(stderr: (text: Shown) => void): (line: string) => void {
  const fields = ownFields();
  return (line) => {
    const {
      level,
      time: _,
      msg,
      ...rest
    } = JSON.parse(line) as { level: string; msg: string } & Record<string, unknown>;
    // What follows is the line of the file that is wrong.
    const [message = ''] = msg.split('\n');
    const entry = [`MESSAGE=${visible(message)}`, `PRIORITY=${PRIORITIES[level]}`, ...fields, ...fieldsOf(rest)];
    const { status } = spawnSync('logger', ['--journald'], { input: `${entry.join('\n')}\n`, timeout: 10_000 });
    if (status !== 0) stderr(atPriority(level, shown`${message}\n`));
  };
}

/** By the unit `journalctl -u` finds the entry also where logger has ended before the journal asks whose it was. */
function ownFields(): string[] {
  const [, unit] = /\/([^/\n]+\.service)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8')) ?? [];
  return ['SYSLOG_IDENTIFIER=kylin-vr', `SYSLOG_PID=${process.pid}`, ...(unit ? [`OBJECT_SYSTEMD_UNIT=${unit}`] : [])];
}

/** `durationMs: 5` is KYLIN_VR_DURATION_MS=5; `steps` is KYLIN_VR_STEP once for each, in the words of the step or issue. */
export function fieldsOf(values: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(values).flatMap(([key, value]) => {
    const name = `KYLIN_VR_${key.replace(/(?=[A-Z])/g, '_').toUpperCase()}`;
    const each = Array.isArray(value) ? value : [value];
    return each.map((one) => `${Array.isArray(value) ? name.replace(/S$/, '') : name}=${visible(textOf(one))}`);
  });
}

function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if ('message' in value) return inLine(value as Issue);
  return 'text' in value ? String(value.text) : JSON.stringify(value);
}
