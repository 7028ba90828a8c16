// The QEMU guest agent's protocol, one JSON object a line (qemu, docs/interop/qemu-ga-ref): questions → text, text → answers.
// Whoever is root in a guest writes the answers: none counts that is not as its schema says. Pure.

import * as z from 'zod/mini';
import { type Bounds, parseBounded } from '../base/bounded-json.ts';

/** Bytes of one answer. A reload of 10,000 EIPs reports 1.7 MB; libvirt takes 10 MiB. */
export const LONGEST_ANSWER = 16 * 1024 * 1024;

/** An agent has some sixty commands to tell of; nothing else that it says has more than ten values. */
const BOUNDS: Bounds = { depth: 8, values: 5000 };

const short = z.string().check(z.maxLength(200));
const nothing = z.object({});

/** What each command returns. */
const ANSWERS = {
  'guest-info': z.object({
    version: short,
    supported_commands: z.optional(z.array(z.object({ name: short, enabled: z.boolean() }))),
  }),
  'guest-file-open': z.int(),
  'guest-file-write': z.object({ count: z.int() }),
  'guest-file-flush': nothing,
  'guest-file-close': nothing,
  'guest-exec': z.object({ pid: z.int() }),
  'guest-exec-status': z.object({
    exited: z.boolean(),
    exitcode: z.optional(z.int()),
    signal: z.optional(z.int()),
    'out-data': z.optional(z.string()),
    'err-data': z.optional(z.string()),
  }),
  'guest-sync-delimited': z.int(),
} as const;

export type AgentCommand = keyof typeof ANSWERS;
export type AgentAnswer<C extends AgentCommand> = z.infer<(typeof ANSWERS)[C]>;

/** What came: an answer, the agent's own words why there is none, or neither. */
export type Reply<C extends AgentCommand> = { answer: AgentAnswer<C> } | { refused: string } | 'no answer';

const refusal = z.object({ error: z.object({ desc: z.optional(z.string()) }) });
const success = z.object({ return: z.unknown() });

export function readReply<C extends AgentCommand>(command: C, text: string): Reply<C> {
  // guest-sync-delimited puts 0xFF before its answer, which as UTF-8 is U+FFFD: before that stands what nobody wants any more.
  const said = command === 'guest-sync-delimited' ? text.slice(text.lastIndexOf('\ufffd') + 1) : text;
  const reply = parseBounded(said, BOUNDS);
  const refused = refusal.safeParse(reply);
  if (refused.success) return { refused: brief(refused.data.error.desc ?? 'refused') };
  const succeeded = success.safeParse(reply);
  if (!succeeded.success) return 'no answer';
  const answer = ANSWERS[command].safeParse(succeeded.data.return);
  return answer.success ? { answer: answer.data as AgentAnswer<C> } : 'no answer';
}

/** A line. In ASCII, so that no byte is 0xFF but the one that is meant. */
export function question(command: AgentCommand, args?: object): string {
  const json = JSON.stringify({ execute: command, ...(args && { arguments: args }) });
  return `${json.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}

/** Characters of what a guest says that go into a message. */
const LONGEST_QUOTE = 2000;

/** A guest's words, not more of them than somebody reads. */
export const brief = (words: string): string => shortened(words.trim(), LONGEST_QUOTE);

/** A copy: what is cut from a text by itself keeps all of that text in memory. */
export function shortened(text: string, length: number): string {
  if (text.length <= length) return text;
  return `${Buffer.from(text.slice(0, length)).toString()}…`;
}
