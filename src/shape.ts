// What JSON that tools print, or that we wrote ourselves, has to look like. zod/mini says it as well, but it compiles a
// validator for each shape in each process: 5 ms to load and 7 ms for 1,000 addresses, where this takes one. Pure.

/** Gives the value as it is when it fits; throws ShapeError. */
export type Shape<T> = (value: unknown, path: string) => T;
export type Of<S> = S extends Shape<infer T> ? T : never;

export class ShapeError extends Error {
  override name = 'ShapeError';
}

const primitive =
  <T>(type: 'string' | 'number' | 'boolean'): Shape<T> =>
  (value, path) => {
    if (typeof value !== type) throw new ShapeError(`${path}: must be a ${type}`);
    return value as T;
  };

export const string = primitive<string>('string');
export const number = primitive<number>('number');
export const boolean = primitive<boolean>('boolean');

export const optional =
  <T>(shape: Shape<T>): Shape<T | undefined> =>
  (value, path) =>
    value === undefined ? undefined : shape(value, path);

export const array =
  <T>(item: Shape<T>): Shape<T[]> =>
  (value, path) => {
    if (!Array.isArray(value)) throw new ShapeError(`${path}: must be an array`);
    for (let n = 0; n < value.length; n++) item(value[n], `${path}.${n}`);
    return value;
  };

type Fields = Readonly<Record<string, Shape<unknown>>>;
type Optional<F extends Fields> = { [K in keyof F]: undefined extends Of<F[K]> ? K : never }[keyof F];
type ObjectOf<F extends Fields> = { [K in Exclude<keyof F, Optional<F>>]: Of<F[K]> } & {
  [K in Optional<F>]?: Of<F[K]>;
};

/** Other keys may be there; they are nobody's matter. */
export const object = <F extends Fields>(fields: F): Shape<ObjectOf<F>> => {
  const shapes = Object.entries(fields);
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new ShapeError(`${path}: must be an object`);
    for (const [key, shape] of shapes) shape((value as Record<string, unknown>)[key], `${path}.${key}`);
    return value as ObjectOf<F>;
  };
};
