// The tree of a file -> Config, or everything that is wrong with it, in file order.

import type * as z from 'zod/mini';
import type { KnownEntries } from './accepted.ts';
import { NOTHING } from './config.ts';
import type { Field, Mapping, SourceDocument, Value } from './document.ts';
import { configOf, type Draft, type Entry } from './draft.ts';
import type { ParsedConfig } from './issue.ts';
import { byPlace, type Issue, quoted } from './issue.ts';
import { nearest } from './nearest.ts';
import { RULES } from './rules.ts';
import {
  type EntrySchema,
  eipSchema,
  fileSchema,
  forwardSchema,
  fromUplinkSchema,
  type ListName,
  nicSchema,
  pciRescanSchema,
  routeSchema,
  type SettingName,
  SPELLINGS,
  snatSchema,
} from './schema.ts';
import { typedIn } from './typed.ts';

export function interpret(document: SourceDocument, known?: KnownEntries): ParsedConfig {
  const draft = readDraft(document, known);
  const { errors, warnings } = document;
  const notes: Issue[] = [];
  const found = { errors, warnings, notes };
  if (draft !== undefined) {
    for (const { severity, needsWhole, find } of RULES) {
      if (!needsWhole || draft.whole) for (const issue of find(draft)) found[severity].push(issue);
    }
  }
  for (const issues of Object.values(found)) issues.sort(byPlace);
  return draft === undefined || errors.length > 0
    ? { ok: false, errors, warnings }
    : { ok: true, config: configOf(draft), warnings, notes };
}

/** Every entry that its schema accepts; what is wrong with the others goes to the document's issues. */
function readDraft(document: SourceDocument, known?: KnownEntries): Draft | undefined {
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
    fromUplink: readSetting(document, fields, 'from-uplink', fromUplinkSchema) ?? NOTHING.fromUplink,
    ...(readSetting(document, fields, 'pci-rescan', pciRescanSchema) === false && { pciRescan: false }),
    whole: nics?.whole === true && routes?.whole !== false,
    at: (list) => place(fields.get(list)?.value ?? root, list),
  };
}

const KEYS = Object.keys(fileSchema.shape);

function reportUnknownKeys({ place, errors }: SourceDocument, fields: Map<string, Field>): void {
  for (const [name, { key }] of fields) {
    if (!KEYS.includes(name)) errors.push({ ...place(key, quoted(name)), message: unknownKey(name, KEYS) });
  }
}

const MERGE = 'is a merge key, which kylin-vr does not know: write its keys themselves';

function unknownKey(name: string, known: readonly string[]): string {
  const typed = typedIn(name);
  if (typed !== undefined) return `is an unknown key: ${typed.message}`;
  if (name === '<<') return MERGE;
  const meant = nearest(name, known);
  return meant === undefined
    ? `is an unknown key, known are ${known.join(', ')}`
    : `is an unknown key, did you mean ${meant}`;
}

/** A key that is no list. Undefined where the file does not have it, or what it says is refused. */
function readSetting<T>(
  { text, place, errors }: SourceDocument,
  fields: Map<string, Field>,
  name: SettingName,
  schema: z.ZodMiniType<T>,
): T | undefined {
  const value = fields.get(name)?.value;
  if (value === undefined) return undefined;
  const result = schema.safeParse(plainOf(value));
  for (const { message } of result.error?.issues ?? [])
    errors.push({ ...place(value, name), message: `${message}, ${is(value, text)}` });
  return result.data;
}

/** Undefined: the file has no such list. `whole`: every entry was accepted. */
function readList<T>(
  document: SourceDocument,
  fields: Map<string, Field>,
  name: ListName,
  schema: EntrySchema<T>,
  known?: KnownEntries,
): { entries: Entry<T>[]; whole: boolean } | undefined {
  const { text, place, errors } = document;
  const list = fields.get(name)?.value;
  if (list === undefined) return undefined;
  if (list.kind !== 'list') {
    const cure = list.kind === 'scalar' && list.value === null ? `: write ${name}: []` : '';
    if (!isNowhere(list)) errors.push({ ...place(list, name), message: `must be a list, ${is(list, text)}${cure}` });
    return { entries: [], whole: false };
  }
  const before = known && ((item: Mapping) => known(name, text.slice(item.start, item.end)) as T | undefined);
  const entries = list.items.map((item, n) => readEntry(document, item, `${name}[${n}]`, schema, before));
  const accepted = entries.filter((entry) => entry !== undefined);
  return { entries: accepted, whole: accepted.length === entries.length };
}

/** A mapping at that path. `before`: what is written so in the last good file, which need not be asked again. */
function readEntry<T>(
  document: SourceDocument,
  item: Value,
  path: string,
  schema: EntrySchema<T>,
  before?: (item: Mapping) => T | undefined,
): Entry<T> | undefined {
  const { text, place, errors } = document;
  if (item.kind !== 'mapping') {
    const message = `must be a mapping with the keys ${schema.keys.slice(0, 2).join(', ')}, …; ${is(item, text)}`;
    if (!isNowhere(item)) errors.push({ ...place(item, path), message });
    return undefined;
  }
  const { written, issues } = foldSpellings(document, item, path, schema.keys);
  const at = (key?: string, index?: number) => {
    const field = key === undefined ? undefined : written.get(key);
    if (field === undefined) return place(item, path);
    const { name = key, value } = field;
    const one = index === undefined ? undefined : itemOf(value, index);
    return one === undefined ? place(value, `${path}.${name}`) : place(one, `${path}.${name}[${index}]`);
  };
  const has = (key: string) => written.has(key);
  const meant = before?.(item);
  if (meant !== undefined) return { value: meant, at, has };
  const result = schema.schema.safeParse(
    Object.fromEntries([...written].map(([key, { value }]) => [key, plainOf(value, schema.lists.includes(key))])),
  );
  for (const refused of result.error?.issues ?? []) {
    const [key, index] = [String(refused.path[0]), refused.path[1] as number | undefined];
    const whole = written.get(key)?.value;
    const value = (index !== undefined && whole && itemOf(whole, index)) || whole;
    // It may come by the merge key, and there is one mistake only.
    if (value === undefined && item.fields.has('<<')) continue;
    if (isNowhere(value)) continue;
    const message = value === undefined ? `needs ${key}` : `${refused.message}, ${is(value, text)}`;
    issues.push({ ...at(key, index), message });
  }
  for (const issue of issues) errors.push(issue);
  if (!result.success || issues.length > 0) return undefined;
  return { value: result.data, at, has };
}

const isNowhere = (value: Value | undefined): boolean => value?.kind === 'scalar' && value.isNowhere === true;

/** The fields of a mapping by the key they stand for; unknown ones are warned of and left out. */
function foldSpellings(
  { place, warnings }: SourceDocument,
  { fields }: Mapping,
  path: string,
  keys: readonly string[],
): { written: Map<string, WrittenValue>; issues: Issue[] } {
  const issues: Issue[] = [];
  // Nearly all entries; new maps would be made for nothing.
  if (areKeys(fields, keys)) return { written: fields, issues };
  const written = new Map<string, WrittenValue>();
  for (const [name, { key, value }] of fields) {
    const keyPlace = () => place(key, `${path}.${quoted(name)}`);
    const meant = SPELLINGS.get(name) ?? name;
    const same = written.get(meant);
    if (name === '<<') issues.push({ ...keyPlace(), message: MERGE });
    // One that is typed wrong is no key of a later version.
    else if (!keys.includes(meant))
      (typedIn(name) === undefined ? warnings : issues).push({ ...keyPlace(), message: unknownKey(name, keys) });
    else if (same !== undefined)
      issues.push({
        ...keyPlace(),
        message: `is the same key as ${same.name ?? meant} on line ${place(same.value).line}`,
      });
    else written.set(meant, { name, value });
  }
  return { written, issues };
}

function areKeys(fields: Mapping['fields'], keys: readonly string[]): boolean {
  for (const name of fields.keys()) if (!keys.includes(name)) return false;
  return true;
}

/** As schemas take it: they accept no mapping for a value, and a list only where one belongs. */
function plainOf(value: Value, isList = false): unknown {
  if (value.kind === 'scalar') return value.value;
  return isList && value.kind === 'list' ? value.items.map((item) => plainOf(item)) : value;
}

const itemOf = (value: Value, index: number): Value | undefined =>
  value.kind === 'list' ? value.items[index] : undefined;

/** The value of a key; `name` where it is written in another spelling. */
type WrittenValue = { name?: string; value: Value };

/** What the file says, as it is written there. */
function is(value: Value, text: string): string {
  if (value.kind !== 'scalar') return `is a ${value.kind}`;
  const source = text.slice(value.start, value.end);
  const typed = typedIn(source);
  return source === '' ? 'is empty' : `is ${quoted(source)}${typed === undefined ? '' : `, which ${typed.message}`}`;
}
