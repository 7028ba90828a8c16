// QEMU's own protocol: commands one at a time, and events to wait for.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export type Event = { event: string; data?: Record<string, unknown> };

export type Qmp = {
  execute(command: string, given?: object): Promise<unknown>;
  /** The next event of that name, from now on. */
  event(name: string, timeoutMs: number, matches?: (event: Event) => boolean): Promise<Event>;
};

type Message = Partial<Event> & { id?: number; return?: unknown; error?: { desc: string } };

/** Waits until QEMU listens there. */
export async function openQmp(path: string, timeoutMs: number): Promise<Qmp> {
  const socket = await connected(path, Date.now() + timeoutMs);
  const waiting = new Map<number, (message: Message) => void>();
  const listeners = new Set<(event: Event) => void>();
  let broken: Error | undefined;
  let numbers = 0;

  const lines = createInterface({ input: socket });
  // readline repeats the socket's errors (Node 20).
  lines.on('error', () => {});
  lines.on('line', (line) => {
    const message = JSON.parse(line) as Message;
    if (message.event !== undefined) for (const listener of listeners) listener(message as Event);
    if (message.id !== undefined) waiting.get(message.id)?.(message);
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    broken = new Error('QEMU has ended');
    for (const answer of waiting.values()) answer({ error: { desc: broken.message } });
  });

  const execute: Qmp['execute'] = (command, given) =>
    new Promise((resolve, reject) => {
      if (broken !== undefined) return reject(broken);
      const id = ++numbers;
      waiting.set(id, (message) => {
        waiting.delete(id);
        if (message.error === undefined) resolve(message.return);
        else reject(new Error(`QEMU, ${command}: ${message.error.desc}`));
      });
      socket.write(`${JSON.stringify({ execute: command, arguments: given, id })}\n`);
    });
  await execute('qmp_capabilities');
  return {
    execute,
    event: (name, timeoutMs, matches = () => true) =>
      new Promise((resolve, reject) => {
        const listener = (event: Event) => {
          if (event.event !== name || !matches(event)) return;
          done();
          resolve(event);
        };
        const timer = setTimeout(() => {
          done();
          reject(new Error(`QEMU has not said ${name} in ${timeoutMs} ms`));
        }, timeoutMs);
        const done = () => {
          clearTimeout(timer);
          listeners.delete(listener);
        };
        listeners.add(listener);
      }),
  };
}

async function connected(path: string, deadline: number): Promise<Socket> {
  for (;;) {
    const socket = connect(path);
    try {
      await once(socket, 'connect');
      return socket;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(50);
    }
  }
}
