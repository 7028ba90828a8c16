// The command line of kylin-vr.py 0.1 → ours. Its callers (units, udev rules, control planes) are still out there. Pure.

const COMMANDS: ReadonlyMap<string, string> = new Map([
  ['init', 'start'],
  ['subnet', 'start'],
  ['reload', 'reload'],
]);

/** `--start`, `--reload`, `-c init`, `-c subnet`, `-c reload [-d DEV]`; anything else comes back as it was. */
export function translateLegacyArgs(args: readonly string[]): string[] {
  const translated: string[] = [];
  let legacy = false;
  for (let index = 0; index < args.length; index++) {
    const [arg = '', next = ''] = args.slice(index, index + 2);
    const command = COMMANDS.get(next);
    if (arg === '--') return [...translated, ...args.slice(index)];
    if (arg === '--start' || arg === '--reload') translated.push(arg.slice(2));
    else if (arg === '-c' && command !== undefined) {
      translated.push(command);
      legacy = true;
      index++;
    } else if (arg === '-d' && legacy) {
      // Only 0.1's udev rule named a device; which one it is makes no difference.
      translated.push('--trigger', 'udev');
      index++;
    } else translated.push(arg);
  }
  return translated;
}
