// Until when Node's releases are mended, as their project has planned it (github.com/nodejs/release). Pure.

/** The last day, by the major version; a version that is not here ended with the year after it came, or is newer than we are. */
const ENDS: Readonly<Record<number, string>> = {
  20: '2026-04-30',
  21: '2024-06-01',
  22: '2027-04-30',
  23: '2025-06-01',
  24: '2028-04-30',
  25: '2026-06-01',
  26: '2029-04-30',
};

/** What is to be said of a Node that nobody mends any more; `version` as process.version has it. */
export function outOfSupport(version: string, now: Date): string | undefined {
  const end = ENDS[Number(/^v(\d+)/.exec(version)?.[1])];
  if (end === undefined || now.toISOString().slice(0, 10) <= end) return undefined;
  return (
    `Node ${version.slice(1)} had its last security release by ${end}: give the guest a later one, or use the package ` +
    'kylin-vr-standalone, which brings its own'
  );
}
