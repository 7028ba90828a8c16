// A guest agent in this process: honest, but for one answer, which may be anything.

import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';

/** Instead of an answer: bytes, the answer later, no byte at all, the end of the connection, or bytes or empty lines without end. */
export type Fault = { bytes: Buffer | string } | { lateMs: number } | 'silence' | 'hang up' | 'flood' | 'lines';

export type Guest = {
  path: string;
  /** Of commands that came, those with this name. */
  asked(command: string): number;
  /** Handles that nobody has closed. */
  open(): number;
  /** Connections that nobody has closed. */
  connections(): number;
  /** Programs that were run, with their arguments. */
  ran: string[][];
  close(): Promise<void>;
};

type Question = { execute: string; arguments?: Record<string, unknown> };

/** Of the guest's programs: what they print, or a fault in place of the answer that has it. */
export type Programs = (argv: string[]) => { status?: number; stdout?: string } | undefined;

export async function startGuest(
  path: string,
  {
    fault,
    programs = () => undefined,
  }: { fault?: (command: string, n: number) => Fault | undefined; programs?: Programs },
): Promise<Guest> {
  const questions: string[] = [];
  const sockets = new Set<Socket>();
  const handles = new Set<number>();
  const runs: string[][] = [];
  let written = Buffer.alloc(0);

  const run = (argv: string[]): { status?: number; stdout?: string } => {
    const own = programs(argv);
    if (own !== undefined) return own;
    if (argv[0] === 'sha256sum') return { stdout: `${createHash('sha256').update(written).digest('hex')}  x\n` };
    if (argv[0] !== 'kylin-vr') return {};
    if (argv[1] === 'check') return { stdout: '{"valid":true,"errors":[],"warnings":[],"notes":[]}' };
    return { stdout: '{"result":"changed","steps":[{"kind":"add-address","text":"+ address"}],"durationMs":5}' };
  };
  const answer = ({ execute, arguments: given = {} }: Question): unknown => {
    switch (execute) {
      case 'guest-sync-delimited':
        return given.id;
      case 'guest-info':
        return {
          version: '8.2.0',
          supported_commands: ['open', 'write', 'flush', 'close']
            .map((verb) => `guest-file-${verb}`)
            .concat('guest-exec', 'guest-exec-status')
            .map((name) => ({ name, enabled: true, 'success-response': true })),
        };
      case 'guest-file-open':
        written = Buffer.alloc(0);
        handles.add(1000 + handles.size);
        return 999 + handles.size;
      case 'guest-file-write': {
        const piece = Buffer.from(String(given['buf-b64']), 'base64');
        written = Buffer.concat([written, piece]);
        return { count: piece.length, eof: false };
      }
      case 'guest-file-close':
        handles.delete(Number(given.handle));
        return {};
      case 'guest-exec':
        runs.push([String(given.path), ...(given.arg as string[])]);
        return { pid: runs.length };
      case 'guest-exec-status': {
        const { status = 0, stdout = '' } = run(runs[Number(given.pid) - 1] ?? []);
        return { exited: true, exitcode: status, 'out-data': Buffer.from(stdout).toString('base64') };
      }
      default:
        return {};
    }
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    let rest = '';
    socket.setEncoding('latin1');
    socket.on('data', (piece: string) => {
      const lines = (rest + piece).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const question = JSON.parse(line.replace(/^\xff/, '')) as Question;
        const n = questions.filter((name) => name === question.execute).length;
        questions.push(question.execute);
        // What it does for itself, it does: only what it says is a lie.
        const honest = answer(question);
        const wrong = fault?.(question.execute, n);
        const said = Buffer.from(
          `${question.execute === 'guest-sync-delimited' ? '\xff' : ''}${JSON.stringify({ return: honest })}\n`,
          'latin1',
        );
        if (wrong === undefined) socket.write(said);
        else if (wrong === 'hang up') socket.destroy();
        else if (wrong === 'flood') flood(socket, '[');
        else if (wrong === 'lines') flood(socket, '\n');
        else if (wrong === 'silence') continue;
        else if ('bytes' in wrong) socket.write(wrong.bytes);
        else setTimeout(() => socket.write(said), wrong.lateMs);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    asked: (command) => questions.filter((name) => name === command).length,
    open: () => handles.size,
    connections: () => sockets.size,
    ran: runs,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** For as long as somebody reads. */
function flood(socket: Socket, byte: string): void {
  const piece = Buffer.alloc(65_536, byte);
  const more = (): void => {
    if (!socket.destroyed) socket.write(piece, more);
  };
  more();
}
