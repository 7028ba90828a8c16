// What the tests ask of a run: what they do not name is as an operator's reload has it.

import { PATHS } from '../../src/base/paths.ts';
import type { RunRequest } from '../../src/run/request.ts';

type Common = 'trigger' | 'configPath';
type Part<Request> = Request extends RunRequest
  ? Omit<Request, Common | (Request['command'] extends 'reload' ? 'command' : never)> &
      Partial<Pick<Request, Common>> &
      (Request['command'] extends 'reload' ? { command?: 'reload' } : unknown)
  : never;
export type Asked = Part<RunRequest>;

export const requestOf = (asked: Asked = {}): RunRequest => {
  const common = { trigger: 'operator', configPath: PATHS.config } as const;
  return asked.command === undefined ? { ...common, ...asked, command: 'reload' } : { ...common, ...asked };
};
