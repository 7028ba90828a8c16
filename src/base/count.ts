// Numbers of things, in words.

/** `1 step`, `2 steps` */
export const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;
