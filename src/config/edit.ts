// The file's text + what `kylin-vr eip add …` asks for → the new text, proved: read again it says just what was asked for.

import { isDeepStrictEqual } from 'node:util';
import { AgentError, EXIT } from '../errors.ts';
import type { Config } from './config.ts';
import { type NamedEntry, NOUNS } from './entries.ts';
import { editList, type Written } from './list-text.ts';
import type { NounName } from './nouns.ts';
import { type ParsedConfig, parseConfig } from './parse.ts';

export type EditRequest = { noun: NounName; verb: 'add' | 'remove'; args: readonly string[] };

/** `text` is as it was where there was nothing to do; `parsed` is what the new text says, which may be invalid. */
export type Edited = { text: string; added: string[]; removed: string[]; parsed: ParsedConfig };

/**
 * `config` is what `text` says. Adding what is there and removing what is not is no error.
 * Throws UsageError for an argument that says nothing, AgentError (65) where the entry is there with another value or the
 * text is written in a way that cannot be edited.
 */
export function editConfig(text: string, config: Config, { noun, verb, args }: EditRequest): Edited {
  const { list, entriesOf } = NOUNS[noun];
  const present = entriesOf(config);
  const add = verb === 'add' ? newEntries(noun, present, args) : [];
  const remove = verb === 'remove' ? indicesOf(present, args) : [];
  const added = add.map(({ entry }) => entry.text);
  const removed = remove.map((n) => present[n]?.text ?? '');
  if (add.length + remove.length === 0) return { text, added, removed, parsed: { ok: true, config, warnings: [] } };

  const edited = editList(text, { list, remove: new Set(remove), add: add.map(({ written }) => written) });
  const parsed = parseConfig(edited ?? '');
  const wanted = [...present.filter((_, n) => !remove.includes(n)).map((entry) => entry.text), ...added];
  if (edited === undefined || (parsed.ok && !says(parsed.config, noun, wanted, config)))
    throw new AgentError(
      `${list} is written in a way that kylin-vr cannot edit (anchors, or entries that share a line): ` +
        'edit the file by hand, then run kylin-vr reload',
      EXIT.config,
    );
  return { text: edited, added, removed, parsed };
}

function newEntries(noun: NounName, present: readonly NamedEntry[], args: readonly string[]) {
  const known = new Map(present.map(({ key, text }) => [key, text]));
  return args.flatMap((argument): { written: Written; entry: NamedEntry }[] => {
    const wanted = NOUNS[noun].read(argument);
    const { key, text } = wanted.entry;
    const there = known.get(key);
    if (there === text) return [];
    if (there !== undefined)
      throw new AgentError(
        `${text}: the file has ${there} already: run kylin-vr ${noun} remove ${key} first`,
        EXIT.config,
      );
    known.set(key, text);
    return [wanted];
  });
}

function indicesOf(present: readonly NamedEntry[], args: readonly string[]): number[] {
  const names = new Set(args.flatMap((argument) => [argument, argument.toLowerCase()]));
  return [...present.keys()].filter((n) => present[n]?.names.some((name) => names.has(name)));
}

/** Whether the list has these entries, and everything else is as it was. */
function says(config: Config, noun: NounName, wanted: readonly string[], before: Config): boolean {
  const { entriesOf } = NOUNS[noun];
  const others = Object.values(NOUNS).filter((other) => other !== NOUNS[noun]);
  const texts = (entries: readonly NamedEntry[]) => entries.map(({ text }) => text);
  return (
    isDeepStrictEqual(texts(entriesOf(config)), wanted) &&
    others.every((other) => isDeepStrictEqual(texts(other.entriesOf(config)), texts(other.entriesOf(before)))) &&
    isDeepStrictEqual(config.snats, before.snats)
  );
}
