// What the program prints to a person: run on a terminal of its own, with colours. And the one place that says what of it
// is not the same in each run.

import { createHash } from 'node:crypto';
import { PROGRAM, type Router } from '../lab/lab.ts';

/** What was typed, and what came: both streams as they mix on a screen, ANSI colours included. */
export type Screen = { prompt: '$' | '#'; command: string; output: string };

const BIN = '/run/bin';
export const PATH = `${BIN}:/usr/sbin:/usr/bin:/sbin:/bin`;

/** From now on `kylin-vr` is a command there, as on a guest. */
export const putProgram = (router: Router): Promise<void> =>
  router.write(`${BIN}/kylin-vr`, `#!/bin/sh\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`, 0o755);

/** Types a line at a terminal, in /run; `#` is root's prompt. Throws when it does not end with that status. */
export async function type(
  router: Router,
  command: string,
  { prompt = '#', status = 0 }: { prompt?: Screen['prompt']; status?: number } = {},
): Promise<Screen> {
  const terminal = ['script', '--quiet', '--return', '--echo', 'never', '--log-out', '/dev/null', '--command'];
  const ended = await router.run([...terminal, `cd /run; ${command}`], { env: { PATH, TERM: 'xterm-256color' } });
  if (ended.status !== status) throw new Error(`${command}: status ${ended.status}, not ${status}\n${ended.stdout}`);
  return { prompt, command, output: ended.stdout.replaceAll('\r\n', '\n').replace(ERASED, '') };
}

/** As in a document: without colours, and the same in each run. */
export const plain = (screens: readonly Screen[]): string =>
  steady(screens.map(({ prompt, command, output }) => `${prompt} ${command}\n${uncoloured(output)}`).join(''));

/** A line of progress, which a slow machine shows until it is erased. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: ANSI commands begin with one
const ERASED = /[^\n]*\r\u001b\[K/g;

// biome-ignore lint/suspicious/noControlCharactersInRegex: ANSI colours begin with one
const uncoloured = (text: string): string => text.replace(/\u001b\[[\d;]*m/g, '');

/** The day of all captures. */
const NOON = Date.parse('2026-05-01T12:00:00.000Z');

/**
 * What changes from run to run is made constant, and nothing else is touched:
 * - times: the earliest of the text is noon of the first of May, the next one is a minute later, and so on;
 * - durations are 150 ms, counted-down seconds 60 s;
 * - the ids of runs and of processes are numbered, in the order in which they come;
 * - long base64, which has such things in it, is cut.
 */
export function steady(text: string): string {
  const times = [...new Set(text.match(TIME)?.map((time) => Date.parse(time)))].sort((a, b) => a - b);
  const runs = numbered((n) => createHash('sha256').update(`run ${n}`).digest('hex').slice(0, 8));
  const pids = numbered((n) => `${4000 + n}`);
  return text
    .replace(TIME, (time) => {
      const constant = new Date(NOON + times.indexOf(Date.parse(time)) * 60_000).toISOString();
      return time.includes('.') ? constant : constant.replace('.000', '');
    })
    .replace(/\b\d+ ms\b/g, '150 ms')
    .replace(/(?<="durationMs": )\d+/g, '150')
    .replace(/(?<=taken back in )\d+ s/g, '60 s')
    .replace(/(?<=\brun |"id": ")[\da-f]{8}\b/g, runs)
    .replace(/(?<="pid": ?)\d+/g, pids)
    .replace(/"[\w+/]{40,}=*"/g, (base64) => `${base64.slice(0, 13)}…"`);
}

const TIME = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z/g;

function numbered(name: (n: number) => string): (found: string) => string {
  const found: string[] = [];
  return (each) => {
    if (!found.includes(each)) found.push(each);
    return name(found.indexOf(each) + 1);
  };
}
