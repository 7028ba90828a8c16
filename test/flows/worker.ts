// A process in a namespace that reads the table of flows, or deletes some of it, as a run of kylin-vr does; prints what came of it.

import { text } from 'node:stream/consumers';
import { AgentError } from '../../src/base/errors.ts';
import { type CutGroup, deleteFlows, readFlows } from '../../src/machine/flows.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';
import type { Flow } from '../../src/network/flow.ts';

export type Task = { read: true } | { flows: readonly Flow[]; groups?: readonly CutGroup[]; deadlineMs: number };

async function main(task: Task): Promise<unknown> {
  const host = linuxHost();
  if (!('read' in task)) return deleteFlows(host, task.flows, task);
  const flows: Flow[] = [];
  await readFlows(host, (flow) => flows.push(flow));
  return flows;
}

main(JSON.parse(await text(process.stdin))).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    if (!(error instanceof AgentError)) throw error;
    console.error(error.message);
    process.exitCode = error.status;
  },
);
