import { describe } from 'node:test';
import { KINDS } from './kinds.ts';
import { routesGo } from './routes.ts';

for (const kind of Object.values(KINDS)) describe(`the uplink on a bridge: ${kind.type}`, () => routesGo(kind));
