// What `ip -json` prints → values. Pure.

/**
 * ip prints the bytes of names, aliases and labels as they are: control characters too, which JSON does not take. Most runs see none,
 * and pay for none.
 */
export function parsePrinted(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const mended = text.replace(/\\.|(?![\n])\p{Cc}/gsu, escaped);
    if (mended === text) throw error;
    return JSON.parse(mended);
  }
}

/** An older ip escapes ', too, which JSON does not know. */
function escaped(found: string): string {
  if (found.startsWith('\\')) return found === "\\'" ? "'" : found;
  return `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
