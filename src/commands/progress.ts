// What is being done, on one line of a terminal, while it takes long; erased when it is done. Nothing where standard error is
// no terminal.

import { count } from '../base/count.ts';
import { own, type Shown, shown, visible } from '../base/visible.ts';
import type { Host } from '../machine/host.ts';
import type { Context } from './context.ts';

export type ProgressLine = {
  /** Somebody sees it. */
  live: boolean;
  show: (what: string) => void;
  /** A line that stays. */
  say: (text: string) => void;
  end: () => void;
};

/** What is over before that was not waited for. */
const SHOWN_AFTER_MS = 300;
/** Longer, it would be wrapped, and erased in part. */
const WIDTH = 78;
const ERASE: Shown = own('\r\u001b[K');

export function progressLine({ terminal, stderr }: Context): ProgressLine {
  const say = (text: string) => stderr(shown`${text}\n`);
  if (!terminal || process.env.TERM === 'dumb') return { live: false, show: () => {}, say, end: () => {} };
  let what: string | undefined;
  let due = false;
  let drawn = false;
  const draw = () => {
    if (!due || what === undefined) return;
    const seen = [...visible(what)];
    stderr(shown`${ERASE}${seen.length > WIDTH ? `${seen.slice(0, WIDTH - 1).join('')}…` : seen.join('')}`);
    drawn = true;
  };
  const erase = () => {
    if (drawn) stderr(ERASE);
    drawn = false;
  };
  let timer: NodeJS.Timeout | undefined;
  return {
    live: true,
    show(text) {
      what = text;
      timer ??= setTimeout(() => {
        due = true;
        draw();
      }, SHOWN_AFTER_MS).unref();
      draw();
    },
    say(text) {
      erase();
      say(text);
    },
    end() {
      clearTimeout(timer);
      [timer, due, what] = [undefined, false, undefined];
      erase();
    },
  };
}

/** The same machine; each command that it runs and each file that it writes is shown. */
export function watched(host: Host, { live, show }: ProgressLine): Host {
  if (!live) return host;
  return {
    ...host,
    run(argv, options) {
      const lines = options?.input?.trimEnd().split('\n').length;
      show(`${argv.join(' ')}${lines === undefined ? '' : ` (${count(lines, 'line')})`}`);
      return host.run(argv, options);
    },
    write(path, ...rest) {
      show(`writing ${path}`);
      return host.write(path, ...rest);
    },
  };
}
