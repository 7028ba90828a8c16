// The files that a push writes beside a guest's configuration, and which of them nobody writes any more. Their names tell this host
// who writes, and the guest nothing.

import { shortName } from '../base/hash.ts';
import { livingMarks, ownMark } from '../machine/process.ts';

/** For find. */
export const PUSH_NAMES = '.push-*.yaml';
const PUSH_NAME = /^\.push-(?<mark>[0-9a-f]{16})-[0-9a-f]{8}\.yaml$/;

export const newPushName = (): string => `.push-${ownMark()}-${shortName()}.yaml`;

/**
 * Tells names that processes which have ended gave. A push from another host looks like one: it finds its file gone when it moves it,
 * says so, and the guest's own is as it was.
 */
export function isAbandoned(): (name: string) => boolean {
  let living: ReadonlySet<string> | undefined;
  return (name) => {
    const mark = PUSH_NAME.exec(name)?.groups?.mark;
    if (mark === undefined) return false;
    living ??= livingMarks();
    return !living.has(mark);
  };
}
