// The tree of a file -> Config, or everything that is wrong with it, in file order.

import type { Known } from './accepted.ts';
import type { Config } from './config.ts';
import type { Field, Mapping, SourceDocument, Value } from './document.ts';
import type { Draft, Entry } from './draft.ts';
import { byPlace, type Issue, quoted } from './issue.ts';
import { nearest } from './nearest.ts';
import { RULES } from './rules.ts';
import {
  type EntrySchema,
  eipSchema,
  fileSchema,
  forwardSchema,
  type ListName,
  nicSchema,
  routeSchema,
  SPELLINGS,
  snatSchema,
} from './schema.ts';

export type ParsedConfig =
  | { ok: true; config: Config; warnings: Issue[] }
  | { ok: false; errors: Issue[]; warnings: Issue[] };

export function interpret(document: SourceDocument, known?: Known): ParsedConfig {
  const draft = readDraft(document, known);
  if (draft !== undefined) {
    for (const { severity, needsWhole, find } of RULES) {
      if (!needsWhole || draft.whole) for (const issue of find(draft)) document[severity].push(issue);
    }
  }
  const errors = document.errors.sort(byPlace);
  const warnings = document.warnings.sort(byPlace);
  return draft === undefined || errors.length > 0
    ? { ok: false, errors, warnings }
    : { ok: true, config: configOf(draft), warnings };
}

function configOf(draft: Draft): Config {
  const values = <T>(entries: readonly Entry<T>[]): T[] => entries.map((entry) => entry.value);
  return {
    nics: values(draft.nics),
    eips: values(draft.eips),
    forwards: values(draft.forwards),
    routes: values(draft.routes),
    snats: draft.snats && values(draft.snats),
  };
}

/** Every entry that its schema accepts; what is wrong with the others goes to the document's issues. */
function readDraft(document: SourceDocument, known?: Known): Draft | undefined {
  const { root, text, place, errors } = document;
  if (root === undefined) return undefined;
  if (root.kind !== 'mapping') {
    errors.push({ ...place(root), message: `must be a mapping with the key if_list, ${is(root, text)}` });
    return undefined;
  }
  const { fields } = root;
  reportUnknownKeys(document, fields);
  if (!fields.has('if_list')) errors.push({ ...place(root), message: 'needs if_list' });

  const nics = readList(document, fields, 'if_list', nicSchema, known);
  const routes = readList(document, fields, 'route_list', routeSchema, known);
  return {
    nics: nics?.entries ?? [],
    eips: readList(document, fields, 'eip_list', eipSchema, known)?.entries ?? [],
    forwards: readList(document, fields, 'port_forward_list', forwardSchema, known)?.entries ?? [],
    routes: routes?.entries ?? [],
    snats: readList(document, fields, 'snat_list', snatSchema, known)?.entries,
    whole: nics?.whole === true && routes?.whole !== false,
    at: (list) => place(fields.get(list)?.value ?? root, list),
  };
}

const LISTS = Object.keys(fileSchema.shape);

function reportUnknownKeys({ place, errors }: SourceDocument, fields: Map<string, Field>): void {
  for (const [name, { key }] of fields) {
    if (!LISTS.includes(name)) errors.push({ ...place(key, quoted(name)), message: unknownKey(name, LISTS) });
  }
}

function unknownKey(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  return meant === undefined
    ? `is an unknown key, known are ${known.join(', ')}`
    : `is an unknown key, did you mean ${meant}`;
}

/** Undefined: the file has no such list. `whole`: every entry was accepted. */
function readList<T>(
  { text, place, errors, warnings }: SourceDocument,
  fields: Map<string, Field>,
  name: ListName,
  schema: EntrySchema<T>,
  known?: Known,
): { entries: Entry<T>[]; whole: boolean } | undefined {
  const list = fields.get(name)?.value;
  if (list === undefined) return undefined;
  if (list.kind !== 'list') {
    const cure = list.kind === 'scalar' && list.value === null ? `: write ${name}: []` : '';
    errors.push({ ...place(list, name), message: `must be a list, ${is(list, text)}${cure}` });
    return { entries: [], whole: false };
  }
  const entries = list.items.map((item, n) => readEntry(item, `${name}[${n}]`));
  const accepted = entries.filter((entry) => entry !== undefined);
  return { entries: accepted, whole: accepted.length === entries.length };

  function readEntry(item: Value, path: string): Entry<T> | undefined {
    if (item.kind !== 'mapping') {
      const message = `must be a mapping with the keys ${schema.keys.slice(0, 2).join(', ')}, …; ${is(item, text)}`;
      errors.push({ ...place(item, path), message });
      return undefined;
    }
    const { written, issues } = foldSpellings(item, path);
    const at = (key?: string) => {
      const field = key === undefined ? undefined : written.get(key);
      return field === undefined ? place(item, path) : place(field.value, `${path}.${field.name ?? key}`);
    };
    const has = (key: string) => written.has(key);
    const before = known?.(name, text.slice(item.start, item.end));
    if (before !== undefined) return { value: before as T, at, has };
    const plain = Object.fromEntries(
      [...written].map(([key, { value }]) => [key, value.kind === 'scalar' ? value.value : value]),
    );
    const result = schema.schema.safeParse(plain);
    for (const refused of result.error?.issues ?? []) {
      const key = String(refused.path[0]);
      const value = written.get(key)?.value;
      const message = value === undefined ? `needs ${key}` : `${refused.message}, ${is(value, text)}`;
      issues.push({ ...at(key), message });
    }
    errors.push(...issues);
    if (!result.success || issues.length > 0) return undefined;
    return { value: result.data, at, has };
  }

  /** The entry's fields by the key they stand for; unknown ones are warned of and left out. */
  function foldSpellings(item: Mapping, path: string): { written: Map<string, Written>; issues: Issue[] } {
    const issues: Issue[] = [];
    // Nearly all entries; without new maps 1,000 EIPs take 4 ms less.
    if (areKeys(item.fields)) return { written: item.fields, issues };
    const written = new Map<string, Written>();
    for (const [name, { key, value }] of item.fields) {
      const keyPlace = () => place(key, `${path}.${quoted(name)}`);
      const meant = SPELLINGS.get(name) ?? name;
      const same = written.get(meant);
      if (!schema.keys.includes(meant)) warnings.push({ ...keyPlace(), message: unknownKey(name, schema.keys) });
      else if (same !== undefined)
        issues.push({
          ...keyPlace(),
          message: `is the same key as ${same.name ?? meant} on line ${place(same.value).line}`,
        });
      else written.set(meant, { name, value });
    }
    return { written, issues };
  }

  function areKeys(fields: Mapping['fields']): boolean {
    for (const name of fields.keys()) if (!schema.keys.includes(name)) return false;
    return true;
  }
}

/** The value of a key; `name` where it is written in another spelling. */
type Written = { name?: string; value: Value };

/** What the file says, as it is written there. */
function is(value: Value, text: string): string {
  if (value.kind !== 'scalar') return `is a ${value.kind}`;
  const source = text.slice(value.start, value.end);
  return source === '' ? 'is empty' : `is ${quoted(source)}`;
}
