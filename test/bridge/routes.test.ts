import { describe } from 'node:test';
import { LINUX } from './linux.ts';
import { OVS } from './ovs.ts';
import { routesGo } from './routes.ts';

for (const kind of [LINUX, OVS]) describe(`the uplink on a bridge: ${kind.type}`, () => routesGo(kind));
