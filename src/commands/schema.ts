// `schema`: JSON Schema of the file.

import { EXIT, type ExitStatus } from '../base/errors.ts';
import { jsonSchema } from '../config/json-schema.ts';
import { type Context, printJson } from './context.ts';

export function schema(context: Context): ExitStatus {
  printJson(context, jsonSchema());
  return EXIT.ok;
}
