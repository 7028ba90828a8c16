// What one host of the lab does with its network: listens, sends, keeps streams, counts a flow. Run by plain node in the
// host's namespace, as `node agent.mjs NAME`. In: {id, call, with} a line; out: {id, value} or {id, error}, in any order.

import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const [, , me] = process.argv;
const streams = new Map();
const flows = new Map();

const calls = { listenTcp, listenUdp, probeTcp, probeUdp, openStream, askStream, closeStream, startFlow, stopFlow };

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { id, call, with: given } = JSON.parse(line);
    const answer = await calls[call](given).then(
      (value) => ({ id, value }),
      (error) => ({ id, error: error.message }),
    );
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  })
  // The lab has gone.
  .on('close', () => process.exit());

/** Tells who connects as whom, then echoes. */
async function listenTcp({ port }) {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.write(`${JSON.stringify({ by: me, port, seenSource: socket.remoteAddress })}\n`);
    socket.pipe(socket);
  });
  await once(server.listen(port, '0.0.0.0'), 'listening');
}

/** Answers each datagram with who sent it, and with its own text. */
async function listenUdp({ port }) {
  const socket = dgram.createSocket('udp4').on('error', () => {});
  socket.on('message', (message, { address, port: from }) => {
    socket.send(JSON.stringify({ by: me, port, seenSource: address, text: `${message}` }), from, address);
  });
  socket.bind(port, '0.0.0.0');
  await once(socket, 'listening');
}

async function probeTcp(given) {
  const { socket, answer } = await dial(given);
  socket?.destroy();
  return answer;
}

async function dial({ to, port, timeoutMs }) {
  const socket = net.connect({ host: to, port });
  try {
    const lines = createInterface({ input: socket });
    // readline repeats the socket's errors (Node 20).
    lines.on('error', () => {});
    const [line] = await Promise.race([
      once(lines, 'line'),
      once(socket, 'close').then(() => Promise.reject(new Error('closed'))),
      timeout(timeoutMs),
    ]);
    return { socket, lines, answer: { reached: true, ...JSON.parse(line), answeredFrom: to } };
  } catch (error) {
    socket.on('error', () => {}).destroy();
    return { answer: { reached: false, why: reason(error) } };
  }
}

/** Not connected: an answer that comes from another address than the one asked must be seen, too. */
async function probeUdp({ to, port, timeoutMs }) {
  const socket = dgram.createSocket('udp4');
  try {
    socket.send('probe', port, to);
    const [message, { address }] = await Promise.race([once(socket, 'message'), timeout(timeoutMs)]);
    const { text: _, ...answer } = JSON.parse(message);
    return { reached: true, ...answer, answeredFrom: address };
  } catch (error) {
    return { reached: false, why: reason(error) };
  } finally {
    socket.close();
  }
}

async function openStream(given) {
  const { socket, lines, answer } = await dial(given);
  if (socket !== undefined) streams.set(given.stream, { socket, lines });
  return answer;
}

/** Whether the stream still carries data, there and back. */
async function askStream({ stream, timeoutMs }) {
  const { socket, lines } = streams.get(stream);
  if (socket.destroyed) return false;
  const question = `${process.hrtime.bigint()}`;
  const asked = new AbortController();
  const { signal } = asked;
  socket.write(`${question}\n`);
  const echo = async () => {
    for (;;) if ((await once(lines, 'line', { signal }))[0] === question) return true;
  };
  const end = once(socket, 'close', { signal }).then(() => false);
  // What is not waited for any more must not listen on: a stream may be asked a thousand times.
  return Promise.race([echo(), end, sleep(timeoutMs, false, { signal })])
    .catch(() => false)
    .finally(() => asked.abort());
}

async function closeStream({ stream }) {
  streams.get(stream).socket.destroy();
}

async function startFlow({ flow, to, port, perSecond }) {
  const socket = dgram.createSocket('udp4').on('error', () => {});
  const answered = new Set();
  const sources = new Set();
  const from = performance.now();
  let sent = 0;
  let lastBy;
  socket.on('message', (message) => {
    const { text, by, seenSource } = JSON.parse(message);
    answered.add(Number(text));
    sources.add(seenSource);
    lastBy = by;
  });
  const ticking = setInterval(() => {
    const due = Math.floor(((performance.now() - from) / 1000) * perSecond);
    for (; sent < due; sent++) socket.send(`${sent}`, port, to, () => {});
  }, 1);
  flows.set(flow, async () => {
    clearInterval(ticking);
    // On a busy machine the last answers take their time.
    for (let waited = 0; waited < 5000 && answered.size < sent; waited += 20) await sleep(20);
    socket.close();
    return { sent, answered: [...answered], sources: [...sources], lastBy };
  });
}

async function stopFlow({ flow }) {
  return flows.get(flow)();
}

const timeout = (ms) => sleep(ms).then(() => Promise.reject(new Error('timeout')));

const reason = (error) => ({ ECONNREFUSED: 'refused', ECONNRESET: 'reset' })[error.code] ?? error.code ?? error.message;
