// What input methods and word processors put in the place of ASCII, by its name.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseConfig } from '../../src/config/parse.ts';
import { typedIn, typedInCode } from '../../src/config/typed.ts';

for (const [char, message] of [
  ['\u00a0', 'has a no-break space (U+00A0) in the place of a space'],
  ['\u200b', 'has a space of no width (U+200B) in the place of a space'],
  ['\u2003', 'has a space of another width (U+2003) in the place of a space'],
  ['\ufeff', 'has a byte order mark (U+FEFF) in the place of a space'],
  ['\u2060', 'has a character that nobody sees (U+2060) in the place of nothing'],
  ['\u200d', 'has a joiner of no width (U+200D) in the place of nothing'],
  ['\u2028', 'has a line separator (U+2028) in the place of a new line'],
  ['\u2029', 'has a paragraph separator (U+2029) in the place of a new line'],
  ['\ufe30', 'has an upright colon (U+FE30) in the place of : and a space'],
  ['\ufe55', 'has a small colon (U+FE55) in the place of : and a space'],
  ['\uff61', 'has a half-width full stop (U+FF61) in the place of a dot'],
  ['\u3000', 'has a full-width space (U+3000) in the place of a space'],
  ['\u3001', 'has an enumeration comma (U+3001) in the place of a comma'],
  ['\u3002', 'has an ideographic full stop (U+3002) in the place of a dot'],
  ['\u3010', 'has a lenticular bracket (U+3010) in the place of ['],
  ['\u2014', 'has a long dash (U+2014) in the place of -'],
  ['\u201c', 'has a typographic quotation mark (U+201C) in the place of " or \''],
  ['\uff1a', 'has a full-width colon (U+FF1A) in the place of : and a space'],
  ['\uff03', 'has a full-width hash sign (U+FF03) in the place of #'],
  ['\uff10', 'has a full-width 0 (U+FF10) in the place of 0'],
] as const)
  it(message, () => assert.deepEqual(typedIn(`eip${char}x`), { at: 3, message }));

it('a key with one is named with it', () => {
  const parsed = parseConfig('if_list: []\nfrom\uff0duplink: drop\n');
  assert.deepEqual(
    [...(parsed.ok ? [] : parsed.errors), ...parsed.warnings].map(({ message }) => message),
    ['is an unknown key: has a full-width dash (U+FF0D) in the place of -'],
  );
});

it('not in comments and quotes', () => {
  assert.equal(typedInCode('a: "，" # ：\nb: \'。\' #、\n'), undefined);
  assert.equal(typedInCode('a: 1 # ok\nb： 2\n')?.at, 11);
  assert.equal(typedIn('中文'), undefined);
});
