// What the quick run (unit.ts) leaves to `npm test`.

export const isQuick = process.env.KYLIN_VR_UNIT !== undefined;

/** Of a test that takes seconds, because of a size or because it counts what it has tried. */
export const LONG = { skip: isQuick };

/** Of a property: how often it is tried. */
export const runs = (count: number): { numRuns: number } => ({ numRuns: isQuick ? Math.ceil(count / 60) : count });
