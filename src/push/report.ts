// What a guest's kylin-vr says of a run, read as what anybody may have written. Text in, report or nothing out.

import * as z from 'zod/mini';
import { type Bounds, parseBounded } from '../base/bounded-json.ts';
import { shortened } from '../dialects/guest-agent.ts';

/** What fits into an answer of the agent is at most a report of 70,000 EIPs: 90,000 steps, of three values each. */
const BOUNDS: Bounds = { depth: 16, values: 400_000 };

/** No message of ours comes near it. */
const LONGEST_TEXT = 16_384;
const toLength = z.transform((words: string) => shortened(words, LONGEST_TEXT));
const text = z.pipe(z.string(), toLength);
const word = text.check(z.regex(/^[a-z][a-z-]{0,39}$/));
const count = z.number().check(z.minimum(0), z.maximum(Number.MAX_SAFE_INTEGER));

/** The first mistake is enough: a million of them have more words than the stack holds. */
const list = <T>(item: z.ZodMiniType<T>) =>
  z.pipe(
    z._default(z.array(z.unknown()), []),
    z.transform((items, { issues }) => {
      const read: T[] = [];
      for (const each of items) {
        const { success, data } = item.safeParse(each);
        if (!success) {
          issues.push({ code: 'custom', input: each });
          return z.NEVER;
        }
        read.push(data);
      }
      return read;
    }),
  );

const issue = z.object({
  file: z.exactOptional(text),
  message: text,
  line: z.exactOptional(count),
  column: z.exactOptional(count),
  endColumn: z.exactOptional(count),
  path: z.exactOptional(text),
});

/** A step begins as all steps do: no guest's line can be taken for another guest's result. */
const step = z.object({ kind: word, text: z.pipe(z.string().check(z.regex(/^[-+~!] /)), toLength) });

const common = {
  id: z.exactOptional(text),
  command: z.exactOptional(text),
  trigger: z.exactOptional(text),
  time: z.exactOptional(text),
  steps: list(step),
  warnings: list(issue),
  errors: list(issue),
  durationMs: z.exactOptional(count),
  coalesced: z.exactOptional(z.boolean()),
  pending: z.exactOptional(z.object({ secondsLeft: count, deadline: text })),
  advice: z.exactOptional(text),
};

/** Of `reload --json` and `plan --json`; `check --json` says `valid` and has no result. */
const report = z.object({ ...common, result: word });
const verdict = z.object({ ...common, valid: z.boolean() });

export type GuestReport = z.infer<typeof report>;

/** Undefined where it is no such report. */
export function readReport(stdout: string): GuestReport | undefined {
  const value = parseBounded(stdout, BOUNDS);
  const read = report.safeParse(value);
  if (read.success) return read.data;
  const checked = verdict.safeParse(value);
  if (!checked.success) return undefined;
  const { valid, ...rest } = checked.data;
  return { ...rest, result: valid ? 'unchanged' : 'failed' };
}
