// An ip before 4.18 (CentOS 7 has 4.11), which knows no -json: asked in words, and its answers given as the later ones give them.

import { asJson, canBeText, type IpQuestion, inText } from '../dialects/ip-text.ts';
import type { Host } from './host.ts';

type Run = Host['run'];

/** Where the command cannot be said so, it is run as it is, and fails as it does. */
export async function askInWords(run: Run, ...[argv, options = {}]: Parameters<Run>): ReturnType<Run> {
  const { question, isForced } = questionOf(argv, options.input);
  if (!question.lines.every(canBeText)) return run(argv, options);
  const details = question.lines.every((line) => /^(address|link|route show)/.test(line)) ? ['-details'] : [];
  const force = isForced ? ['-force'] : [];
  const lines = inText(question);
  const [line = ''] = lines;
  // Of a batch ip says where it failed, too.
  const answer =
    options.input === undefined && lines.length === 1
      ? await run(['ip', '-oneline', ...details, ...line.split(' ')], options)
      : await run(['ip', '-oneline', ...details, ...force, '-b', '-'], {
          ...options,
          input: `${lines.join('\n')}\n`,
        });
  return { ...answer, stdout: asJson(question, answer.stdout) };
}

function questionOf(argv: readonly string[], input = ''): { question: IpQuestion; isForced: boolean } {
  const start = argv.findIndex((word, n) => n > 0 && !word.startsWith('-'));
  const options = argv.slice(1, start === -1 ? undefined : start);
  const isBatch = options.includes('-b') || options.includes('-batch');
  const family = options.includes('-4') ? '4' : options.includes('-6') ? '6' : undefined;
  const lines = isBatch ? input.split('\n').filter((line) => line !== '') : [argv.slice(start).join(' ')];
  return { question: { lines, ...(family !== undefined && { family }) }, isForced: options.includes('-force') };
}
