// What chains of ours say to a packet. Pure.

import type { TableName } from './state.ts';

/** A packet in one hook. */
export type Passing = {
  from: number;
  to: number;
  /** Of others nothing is told apart. */
  protocol: 'tcp' | 'udp';
  port: number;
  in?: string;
  out?: string;
  /** The router itself sends it. */
  local?: true;
  /** What it was sent to, where that has been translated. */
  askedFor?: number;
};

/** The rule that ends its course. `verdict`: the words behind -j. `packets`: as many went by it; of nat, the first of each connection. */
export type CourseEnd = { verdict: string; packets: number };

/** Undefined: no rule of ours says anything. */
export type Courses = (table: TableName, hook: string, passing: Passing) => CourseEnd | undefined;
