// What is refused for characters of input methods: one error for each line that has one, which names it, and none of what follows from it.

import { byPlace, type Issue, type ParsedConfig, type Place } from './issue.ts';
import { locator } from './position.ts';
import { allTyped, type Mistyped } from './typed.ts';

type Refused = ParsedConfig & { ok: false };

/** `parse` tells what would be wrong with the text if it had what belongs there. */
export function blameTyped(text: string, refused: Refused, parse: (text: string) => ParsedConfig): Refused {
  const typed = allTyped(text);
  if (typed.length === 0) return refused;
  const place = locator(text);
  // Of several in a line the first one.
  const first = new Map<number, Place & Issue>();
  for (const { at, message } of typed.toReversed()) {
    const where = place({ start: at, end: at + 1 });
    first.set(where.line, { ...where, message });
  }
  let kept = refused.errors;
  for (const repaired of repairs(text, typed)) {
    const parsed = parse(repaired);
    const left = new Set(parsed.ok ? [] : parsed.errors.map(identity));
    const those = refused.errors.filter((issue) => left.has(identity(issue)));
    if (those.length < kept.length) kept = those;
    if (parsed.ok) break;
  }
  if (kept === refused.errors) return refused;
  const named = Array.from(
    first,
    ([line, issue]): Issue =>
      refused.errors.find((said) => said.line === line && said.message.includes(issue.message)) ?? issue,
  );
  return {
    ok: false,
    errors: [...new Set([...named, ...kept])].sort(byPlace),
    warnings: refused.warnings.filter(({ line = 0 }) => !first.has(line)),
  };
}

const identity = ({ line, path, message }: Issue): string => `${line} ${path} ${message}`;

/** The likeliest first. What was typed may stand for something, for twice as much (a wide space), or for nothing. */
function* repairs(text: string, typed: readonly Mistyped[]): Iterable<string> {
  const put = (instead: (each: Mistyped) => string) => replaced(text, typed, instead);
  yield put(({ instead }) => instead);
  if (typed.some(isWide)) yield put((each) => (isWide(each) ? '  ' : each.instead));
  yield put(() => '');
}

const isWide = ({ char }: Mistyped): boolean => char === '\u3000';

function replaced(text: string, typed: readonly Mistyped[], instead: (each: Mistyped) => string): string {
  let [at, result] = [0, ''];
  for (const each of typed) {
    result += text.slice(at, each.at) + instead(each);
    at = each.at + each.char.length;
  }
  return result + text.slice(at);
}
