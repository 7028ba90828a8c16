// Of the guests' reports as much as there is memory for: the largest are cut first, those of whoever says little never. Pure.

import type { GuestReport } from './report.ts';

/**
 * Characters that all reports of a push may take as JSON. One of 40,000 EIPs, 50,000 steps, takes nine million; of as many as it
 * has guests each has its share for sure, so 48 hostile ones leave 5,000 steps to an honest one, and all that they do not take.
 */
export const MOST_KEPT = 48 * 2 ** 20;

export type Kept = {
  report: GuestReport;
  /** Before anything was left out. */
  whole: { steps: number; issues: number };
  cost: number;
};

export function kept(report: GuestReport): Kept {
  const { steps, warnings, errors } = report;
  return { report, whole: { steps: steps.length, issues: warnings.length + errors.length }, cost: costOf(report) };
}

/** What of them fits, in their order; some are not there yet. */
export function fitted<T extends { kept: Kept }>(all: readonly (T | undefined)[], most = MOST_KEPT): (T | undefined)[] {
  const share = shareOf(
    all.flatMap((one) => one?.kept.cost ?? []),
    most,
  );
  return all.map((one) => (one === undefined || one.kept.cost <= share ? one : { ...one, kept: cut(one.kept, share) }));
}

/** The report, with what it lacks. */
export function told({ report, whole }: Kept): GuestReport & { stepsLeftOut?: number } {
  const steps = whole.steps - report.steps.length;
  const issues = whole.issues - report.warnings.length - report.errors.length;
  if (steps + issues === 0) return report;
  const message =
    `${steps} of ${whole.steps} steps, and ${issues} of ${whole.issues} warnings and errors of this guest are left out: there is ` +
    'no room for more in one push; kylin-vr status in the guest shows what is in force';
  return { ...report, warnings: [{ message }, ...report.warnings], ...(steps > 0 && { stepsLeftOut: steps }) };
}

/** What each may take, so that all fit, and those that take less leave the rest to the others. */
function shareOf(costs: readonly number[], most: number): number {
  let left = most;
  let many = costs.length;
  for (const cost of costs.toSorted((a, b) => a - b)) {
    if (cost * many > left) return Math.floor(left / many);
    left -= cost;
    many--;
  }
  return Number.POSITIVE_INFINITY;
}

/** Errors say most, and steps least. */
function cut({ report, whole, cost }: Kept, share: number): Kept {
  const [steps, warnings, errors] = [[...report.steps], [...report.warnings], [...report.errors]];
  let left = cost;
  for (const list of [steps, warnings, errors])
    while (left > share && list.length > 0) left -= IN_LIST + costOf(list.pop());
  return { report: { ...report, steps, warnings, errors }, whole, cost: left };
}

/** Name or indent, and what else it takes in memory. */
const IN_LIST = 20;

/** Of a value as JSON, at the least. */
function costOf(value: unknown): number {
  if (typeof value === 'string') return costOfText(value);
  if (typeof value !== 'object' || value === null) return 20;
  let cost = 40;
  for (const key in value) cost += IN_LIST + costOf((value as Record<string, unknown>)[key]);
  return cost;
}

/** What is not ASCII may be an escape. */
function costOfText(text: string): number {
  let cost = text.length;
  for (let n = 0; n < text.length; n++) {
    const code = text.charCodeAt(n);
    if (code < 0x20 || code > 0x7e) cost += 5;
    else if (code === 0x22 || code === 0x5c) cost++;
  }
  return cost;
}
