// What the test runners print: a line for each suite, failures whole and at once, at the end the failures' names again and
// the runner's own counts: the end of a long log says what failed. Plain JavaScript, because Node loads it before tsx.

import { inspect } from 'node:util';

/** @param {AsyncIterable<import('node:test/reporters').TestEvent>} events */
// biome-ignore lint/style/noDefaultExport: how the runner finds a reporter
export default async function* report(events) {
  const names = [];
  const failures = [];
  const counts = [];
  for await (const { type, data } of events) {
    switch (type) {
      case 'test:start':
        names.splice(data.nesting, names.length, data.name);
        break;
      case 'test:pass':
        if (data.nesting === 0) yield `ok ${data.name} (${seconds(data.details)})\n`;
        break;
      case 'test:fail': {
        const { error } = data.details;
        // A suite fails with its tests, which have been said.
        if (error.failureType === 'subtestsFailed') break;
        const name = names.slice(0, data.nesting + 1).join(' › ');
        const failure = `not ok ${name} (${data.file}, ${seconds(data.details)})\n`;
        failures.push(failure);
        yield `${failure}${inspect(error.cause ?? error).replaceAll(/^/gm, '    ')}\n`;
        break;
      }
      case 'test:stdout':
      case 'test:stderr':
        yield data.message;
        break;
      case 'test:diagnostic':
        if (data.file === undefined) counts.push(`# ${data.message}\n`);
        else yield `# ${data.message}\n`;
        break;
    }
  }
  if (failures.length > 0) yield `\nFailed:\n${failures.join('')}\n`;
  yield counts.join('');
}

const seconds = ({ duration_ms }) => `${(duration_ms / 1000).toFixed(1)} s`;
