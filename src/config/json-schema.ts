// The schema → JSON Schema, for editors and for who checks files elsewhere. Other spellings of keys are in it, as deprecated.

import * as z from 'zod/mini';
import { fileSchema, SPELLINGS } from './schema.ts';

type SchemaValue = Readonly<Record<string, unknown>>;
type EntryObject = { properties: Record<string, SchemaValue>; required?: string[]; allOf?: object[] };
type FileSchema = { properties: Record<string, SchemaValue & { items?: EntryObject }> };

/** JSON Schema, draft 2020-12. What it cannot say (rules between values) `check` says. */
export function jsonSchema(): object {
  const schema = z.toJSONSchema(fileSchema, { io: 'input' }) as unknown as FileSchema;
  nameExamples(schema);
  for (const { items } of Object.values(schema.properties)) {
    if (items === undefined) continue;
    nameExamples(items);
    addSpellings(items);
  }
  return { title: 'kylin-vr.yaml', ...schema, additionalProperties: false };
}

/** zod itself leaves `examples` out where a value is transformed, and so does not say them of numbers in quotes. */
function nameExamples({ properties }: { properties: Record<string, SchemaValue> }): void {
  for (const [key, { example, ...value }] of Object.entries(properties))
    properties[key] = { ...value, ...(example !== undefined && { examples: [example] }) };
}

function addSpellings(entry: EntryObject): void {
  for (const [spelling, key] of SPELLINGS) {
    const meaning = entry.properties[key];
    if (meaning === undefined) continue;
    entry.properties[spelling] = { ...meaning, description: `Another spelling of ${key}.`, deprecated: true };
    if (!entry.required?.includes(key)) continue;
    entry.required = entry.required.filter((name) => name !== key);
    entry.allOf = [...(entry.allOf ?? []), { anyOf: [{ required: [key] }, { required: [spelling] }] }];
  }
}
