import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parsePrinted } from '../../src/dialects/json.ts';

describe('what ip -json prints', () => {
  it('control characters in a name, an alias or a label are characters', () => {
    assert.deepEqual(parsePrinted('[{"ifname":"a\u0001b","ifalias":"x\u001b[31m\\n\\"y\\\\\u007f\u0080"}]\n'), [
      { ifname: 'a\u0001b', ifalias: 'x\u001b[31m\n"y\\\u007f\u0080' },
    ]);
  });

  it("an older ip's \\' is one", () => {
    assert.deepEqual(parsePrinted(`[{"ifname":"it\\'s\\\\"}]`), [{ ifname: "it's\\" }]);
  });

  it('what is no JSON is none', () => {
    for (const text of ['{', '[{}\n[]', 'Option "-json" is unknown', ''])
      assert.throws(() => parsePrinted(text), SyntaxError);
  });
});
