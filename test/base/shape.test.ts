// What fits a shape comes back as it is, and what does not is named by the keys and indices that lead to it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  anything,
  array,
  boolean,
  each,
  either,
  like,
  number,
  object,
  oneOf,
  optional,
  type Shape,
  ShapeError,
  string,
  whole,
} from '../../src/base/shape.ts';

const nic = object({ name: string, mtu: optional(number), addresses: array(object({ prefix: whole(0, 32) })) });

function faultOf(shape: Shape<unknown>, value: unknown): { fault: string; path: readonly (string | number)[] } {
  try {
    shape(value);
  } catch (error) {
    assert.ok(error instanceof ShapeError);
    return { fault: error.fault, path: error.path };
  }
  return assert.fail('it fits');
}

describe('a shape gives back the same value', () => {
  for (const [what, shape, value] of [
    ['a string', string, ''],
    ['a number', number, Number.NaN],
    ['a boolean', boolean, false],
    ['anything', anything, null],
    ['what may be missing, and is', optional(string), undefined],
    ['what may be missing, and is there', optional(string), 'a'],
    ['an empty array', array(string), []],
    [
      'an object with keys that nobody asked for',
      nic,
      { name: 'eth0', addresses: [{ prefix: 24, more: 1 }], else: {} },
    ],
    ['one of some values', oneOf('a', 1, true), 1],
    ['the least whole number', whole(1, 32), 1],
    ['the greatest whole number', whole(1, 32), 32],
    ['a string of a form', like(/^[a-z]+$/), 'eth'],
    ['the second of two shapes', either(number, string), 'a'],
    ['an object with any keys', each(number), { a: 1, b: 2 }],
    ['an object without keys', each(number), {}],
  ] as const)
    it(what, () => assert.equal((shape as Shape<unknown>)(value), value));
});

describe('a shape refuses', () => {
  for (const [what, shape, value, fault, path] of [
    ['a number where a string is', string, 1, 'must be a string', []],
    ['null, which is no value', optional(string), null, 'must be a string', []],
    ['an object for an array', array(string), { length: 0 }, 'must be an array', []],
    ['an item, by its index', array(string), ['a', 'b', 3], 'must be a string', [2]],
    ['an array for an object', object({}), [], 'must be an object', []],
    ['null for an object', object({}), null, 'must be an object', []],
    ['a key that is missing', nic, { addresses: [] }, 'must be a string', ['name']],
    [
      'what is wrong deep inside',
      nic,
      { name: 'a', addresses: [{ prefix: 24 }, { prefix: 33 }] },
      'must be a whole number from 0 to 32',
      ['addresses', 1, 'prefix'],
    ],
    ['a value that is none of these', oneOf('a', 'b'), 'c', 'must be one of a, b', []],
    ['a number as text, where it is to be one', oneOf(1, 2), '1', 'must be one of 1, 2', []],
    ['a fraction', whole(1, 32), 1.5, 'must be a whole number from 1 to 32', []],
    ['a number that is too small', whole(1, 32), 0, 'must be a whole number from 1 to 32', []],
    ['text of another form', like(/^[a-z]+$/), 'eth0', 'must be /^[a-z]+$/', []],
    ['what is neither of two, in the words of the second', either(number, string), true, 'must be a string', []],
    ['a value under any key', each(each(number)), { a: { b: 1 }, c: { d: '1' } }, 'must be a number', ['c', 'd']],
    ['an array where keys are', each(number), [], 'must be an object', []],
  ] as const)
    it(what, () => assert.deepEqual(faultOf(shape as Shape<unknown>, value), { fault, path }));
});

it('its message has the way to the value', () => {
  assert.throws(() => nic({ name: 'a', addresses: [{}] }), {
    message: 'addresses.0.prefix: must be a whole number from 0 to 32',
  });
});

it('what a shape throws by itself is no fault of the value', () => {
  const broken: Shape<string> = () => {
    throw new TypeError('a bug');
  };
  assert.throws(() => either(broken, string)('a'), TypeError);
  assert.throws(() => array(broken)(['a']), TypeError);
});
