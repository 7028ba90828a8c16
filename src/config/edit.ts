// The file's text + what `kylin-vr eip add …` asks for → the new text, proved: read again it says just what was asked for.

import { isDeepStrictEqual } from 'node:util';
import { AgentError, EXIT, UsageError } from '../base/errors.ts';
import { type Accepted, knownFrom, PART_OF, type Spans, spansOf } from './accepted.ts';
import type { Config } from './config.ts';
import { readDocument, type SourceDocument } from './document.ts';
import { type NamedEntry, NOUNS } from './entries.ts';
import { interpret } from './interpret.ts';
import type { ParsedConfig } from './issue.ts';
import { editList, type Obstacle, type Written } from './list-text.ts';
import type { NounName } from './nouns.ts';
import { readPlain } from './plain.ts';

export type EditRequest = { noun: NounName; verb: 'add' | 'remove'; args: readonly string[] };

/**
 * `text` is as it was where there was nothing to do; `parsed` is what the new text says, which may be invalid, with `spans` where it is
 * plainly written; `idle` says of each argument that changes nothing why.
 */
export type Edited = {
  text: string;
  added: string[];
  removed: string[];
  idle: string[];
  parsed: ParsedConfig;
  spans?: Spans;
};

/**
 * `config` is what `text` says, which is that of `file`. Adding what is there and removing what is not is no error.
 * Throws UsageError for an argument that says nothing, AgentError (65) where the entry is there with another value or the
 * text is written in a way that cannot be edited.
 */
export function editConfig(file: string, text: string, config: Config, { noun, verb, args }: EditRequest): Edited {
  const { list, entriesOf } = NOUNS[noun];
  const present = entriesOf(config);
  const change = verb === 'add' ? adding(file, noun, present, args) : removing(noun, present, args);
  const { add, remove, idle } = { ...NO_CHANGE, ...change };
  const added = add.map(({ entry }) => entry.text);
  const removed = [...remove].map((n) => present[n]?.text ?? '');
  if (add.length + remove.size === 0)
    return { text, added, removed, idle, parsed: { ok: true, config, warnings: [], notes: [] } };

  const plain = readPlain(text);
  const source = plain ?? readDocument(text);
  const edited = editList(source, { list, remove, add: add.map(({ written }) => written) });
  if (typeof edited !== 'string') throw notEdited(file, edited, source);
  const whole = text.startsWith('\ufeff') ? `\ufeff${edited}` : edited;
  const { parsed, spans } = interpretEdited(whole, plain && { text, spans: spansOf(plain.root), config });
  const wanted = [...present.filter((_, n) => !remove.has(n)).map((entry) => entry.text), ...added];
  if (parsed.ok && !says(parsed.config, noun, wanted, config)) {
    const { start } = (source.root?.kind === 'mapping' && source.root.fields.get(list)?.key) || { start: 0 };
    throw notEdited(file, { at: start, because: `more than ${list} would change, by an anchor` }, source);
  }
  return { text: whole, added, removed, idle, parsed, ...(spans && { spans }) };
}

/** What the entries that stay mean need not be found out again, where both texts are plainly written. */
function interpretEdited(text: string, before: Accepted | undefined): Pick<Edited, 'parsed' | 'spans'> {
  const plain = readPlain(text);
  if (plain === undefined) return { parsed: interpret(readDocument(text)) };
  return { parsed: interpret(plain, before && knownFrom(before)), spans: spansOf(plain.root) };
}

function notEdited(file: string, { at, because }: Obstacle, { place }: SourceDocument): AgentError {
  const { line, column } = place({ start: at, end: at + 1 });
  return new AgentError(
    `${file}:${line}:${column}: ${because}, which kylin-vr does not edit: edit the file by hand, then run kylin-vr reload`,
    EXIT.config,
  );
}

type Addition = { written: Written; entry: NamedEntry };
type EntryChange = { add: Addition[]; remove: ReadonlySet<number>; idle: string[] };
const NO_CHANGE: EntryChange = { add: [], remove: new Set(), idle: [] };

function adding(
  file: string,
  noun: NounName,
  present: readonly NamedEntry[],
  args: readonly string[],
): Partial<EntryChange> {
  const there = new Map(present.map(({ key, text }) => [key, text]));
  const asked = new Map<string, string>();
  const [add, idle]: [Addition[], string[]] = [[], []];
  for (const argument of args) {
    const wanted = NOUNS[noun].read(argument);
    const { key, text } = wanted.entry;
    const [found, other] = [there.get(key), asked.get(key)];
    if (other !== undefined && other !== text)
      throw new UsageError(`${text}: ${other} is to be added as well: add one of them`);
    if (found !== undefined && found !== text)
      throw new AgentError(
        `${text}: ${file} has ${found} already: run kylin-vr ${noun} remove ${key} first`,
        EXIT.config,
      );
    if (found !== undefined) idle.push(`${text} is in the file already`);
    else if (other === undefined) add.push(wanted);
    asked.set(key, text);
  }
  return { add, idle };
}

function removing(noun: NounName, present: readonly NamedEntry[], args: readonly string[]): Partial<EntryChange> {
  const indices = new Map<string, number[]>();
  for (const [n, { names }] of present.entries())
    for (const name of new Set(names)) indices.set(name, [...(indices.get(name) ?? []), n]);
  const remove = new Set<number>();
  const idle: string[] = [];
  for (const argument of args) {
    const { name, entry } = NOUNS[noun].readName(argument);
    const found = indices.get(name) ?? [];
    for (const n of found) remove.add(n);
    if (found.length > 0) continue;
    const kin = present.find((each) => each.kin === entry.kin);
    idle.push(`${argument} is not in the file${kin === undefined ? '' : `, which has ${kin.text}`}`);
  }
  return { remove, idle };
}

/** Whether the list has these entries, and everything else is as it was. */
function says(config: Config, noun: NounName, wanted: readonly string[], before: Config): boolean {
  const { list, entriesOf } = NOUNS[noun];
  const others = (whole: Config): Config => ({ ...whole, [PART_OF[list]]: [] });
  return (
    isDeepStrictEqual(
      entriesOf(config).map(({ text }) => text),
      wanted,
    ) && isDeepStrictEqual(others(config), others(before))
  );
}
