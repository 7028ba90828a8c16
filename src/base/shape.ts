// What JSON that tools print, or that we wrote ourselves, has to look like. zod/mini says it as well, but it compiles a
// validator for each shape in each process, which takes longer than all that it then checks. Pure.

/** Gives the value as it is when it fits; throws ShapeError. */
export type Shape<T> = (value: unknown) => T;
export type Of<S> = S extends Shape<infer T> ? T : never;

export class ShapeError extends Error {
  override name = 'ShapeError';
  readonly fault: string;
  /** Keys and indices down to the value. */
  readonly path: readonly (string | number)[];

  constructor(fault: string, path: readonly (string | number)[] = []) {
    super(path.length === 0 ? fault : `${path.join('.')}: ${fault}`);
    this.fault = fault;
    this.path = path;
  }
}

const below = (key: string | number, error: unknown): unknown =>
  error instanceof ShapeError ? new ShapeError(error.fault, [key, ...error.path]) : error;

const primitive =
  <T>(type: 'string' | 'number' | 'boolean'): Shape<T> =>
  (value) => {
    if (typeof value !== type) throw new ShapeError(`must be a ${type}`);
    return value as T;
  };

export const string = primitive<string>('string');
export const number = primitive<number>('number');
export const boolean = primitive<boolean>('boolean');

export const anything: Shape<unknown> = (value) => value;

export const optional =
  <T>(shape: Shape<T>): Shape<T | undefined> =>
  (value) =>
    value === undefined ? undefined : shape(value);

export const array =
  <T>(item: Shape<T>): Shape<T[]> =>
  (value) => {
    if (!Array.isArray(value)) throw new ShapeError('must be an array');
    let n = 0;
    try {
      for (; n < value.length; n++) item(value[n]);
    } catch (error) {
      throw below(n, error);
    }
    return value;
  };

type Fields = Readonly<Record<string, Shape<unknown>>>;
type Optional<F extends Fields> = { [K in keyof F]: undefined extends Of<F[K]> ? K : never }[keyof F];
type ObjectOf<F extends Fields> = { [K in Exclude<keyof F, Optional<F>>]: Of<F[K]> } & {
  [K in Optional<F>]?: Of<F[K]>;
};

/** Other keys may be there; they are nobody's matter. */
export const object = <F extends Fields>(fields: F): Shape<ObjectOf<F>> => {
  const keys = Object.keys(fields);
  return (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ShapeError('must be an object');
    let n = 0;
    try {
      // By index: 1,000 addresses are 8,000 fields, and an iterator makes two objects for each.
      for (; n < keys.length; n++) {
        const key = keys[n] as string;
        fields[key]?.((value as Record<string, unknown>)[key]);
      }
    } catch (error) {
      throw below(keys[n] as string, error);
    }
    return value as ObjectOf<F>;
  };
};

/** One of these values. */
export const oneOf =
  <const T extends readonly (string | number | boolean)[]>(...values: T): Shape<T[number]> =>
  (value) => {
    if (!values.some((each) => each === value)) throw new ShapeError(`must be one of ${values.join(', ')}`);
    return value as T[number];
  };

export const whole =
  (least: number, most: number): Shape<number> =>
  (value) => {
    if (!Number.isInteger(value) || (value as number) < least || (value as number) > most)
      throw new ShapeError(`must be a whole number from ${least} to ${most}`);
    return value as number;
  };

/** A string of this form. */
export const like =
  (pattern: RegExp): Shape<string> =>
  (value) => {
    if (!pattern.test(string(value))) throw new ShapeError(`must be ${pattern}`);
    return value as string;
  };

export const either =
  <A, B>(one: Shape<A>, other: Shape<B>): Shape<A | B> =>
  (value) => {
    try {
      return one(value);
    } catch (error) {
      if (!(error instanceof ShapeError)) throw error;
      return other(value);
    }
  };

/** An object whose keys are anything. */
export const each =
  <T>(item: Shape<T>): Shape<Record<string, T>> =>
  (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ShapeError('must be an object');
    for (const key of Object.keys(value)) {
      try {
        item((value as Record<string, unknown>)[key]);
      } catch (error) {
        throw below(key, error);
      }
    }
    return value as Record<string, T>;
  };
