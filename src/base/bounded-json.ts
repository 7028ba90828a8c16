// JSON that somebody else wrote: read only where it is neither deep nor of many values. Pure.

export type Bounds = {
  /** Arrays and objects within each other: what walks through a value calls itself for each. */
  depth: number;
  /** An empty object takes three characters of text and fifty bytes of memory. */
  values: number;
};

/** Undefined where it is no JSON, or more than that. */
export function parseBounded(text: string, bounds: Bounds): unknown {
  if (!isWithin(text, bounds)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const codes = [...'"\\,[]{}'].map((character) => character.charCodeAt(0));
const [QUOTE, BACKSLASH, COMMA, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = codes;

function isWithin(text: string, { depth, values }: Bounds): boolean {
  let [level, count, inString] = [0, 0, false];
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (inString) {
      if (character === BACKSLASH) at++;
      else if (character === QUOTE) inString = false;
    } else if (character === QUOTE) inString = true;
    else if (character === OPEN_ARRAY || character === OPEN_OBJECT) {
      if (++level > depth || ++count > values) return false;
    } else if (character === CLOSE_ARRAY || character === CLOSE_OBJECT) level--;
    else if (character === COMMA && ++count > values) return false;
  }
  return true;
}
