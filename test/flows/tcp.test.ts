// TCP connections in each of their states when what is mapped moves: what either side sends then goes where the file says, and nothing
// of it leaves with a private source.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, createLab, type HostName, type Lab } from '../lab/lab.ts';
import { type Arrivals, createRaw, type Raw } from '../lab/raw.ts';
import { allIsRight, configOf, entries, reload } from './lab.ts';

const { far, router: uplink, v, w } = ADDRESSES;
const [E, F] = ['203.0.113.50', '203.0.113.60'];
const PORT = 7000;
const VM_PORT = 7100;

/** What each side has sent when the connection is in the state that conntrack calls so. */
const STATES = {
  SYN_SENT: ['client S'],
  SYN_RECV: ['client S', 'server SA'],
  ESTABLISHED: ['client S', 'server SA', 'client A'],
  FIN_WAIT: ['client S', 'server SA', 'client A', 'client FA'],
  CLOSE_WAIT: ['client S', 'server SA', 'client A', 'client FA', 'server A'],
  LAST_ACK: ['client S', 'server SA', 'client A', 'client FA', 'server A', 'server FA'],
  TIME_WAIT: ['client S', 'server SA', 'client A', 'client FA', 'server A', 'server FA', 'client A'],
  CLOSE: ['client S', 'server SA', 'client A', 'client RA'],
} as const;
type State = keyof typeof STATES;
const NAMES = Object.keys(STATES) as State[];

/** `asked` and `port`: what the client connects to; `as`: what the server sees, and answers. */
type Connection = {
  client: HostName;
  server: HostName;
  asked: string;
  port: number;
  serverPort: number;
  as: string;
  clientPort: number;
};

const MAPPED = configOf({
  eips: { [E]: v },
  forwards: { [`${F} tcp ${PORT}`]: `${v} ${VM_PORT}` },
});
const AFTER: [what: string, config: string, by: HostName | undefined][] = [
  ['both go to another VM', configOf({ eips: { [E]: w }, forwards: { [`${F} tcp ${PORT}`]: `${w} ${VM_PORT}` } }), 'w'],
  ['both go', configOf({}), undefined],
];

for (const iptables of ['nft', 'legacy'] as const)
  describe(`TCP connections of an elastic IP and of a forward: ${iptables}`, { concurrency: false }, () => {
    let lab: Lab;
    let raw: Raw;
    let ports = 30_000;
    const came = new Map<HostName, Arrivals>();
    before(async () => {
      lab = await createLab({ iptables });
      raw = createRaw(lab);
      for (const host of ['far', 'v', 'w'] as const) {
        await raw.silence(host, 'tcp');
        came.set(host, await raw.arrivals(host, 'tcp'));
      }
    });
    after(() => lab?.close());

    for (const [what, config, by] of AFTER)
      it(`${what}: in every state`, async () => {
        await reload(lab, MAPPED);
        const connections = NAMES.flatMap((state) => {
          const common = { state, client: 'far', server: 'v', as: far, port: PORT } as const;
          return [
            { ...common, asked: E, serverPort: PORT, clientPort: ports++ },
            { ...common, asked: F, serverPort: VM_PORT, clientPort: ports++ },
            { ...common, client: 'v', server: 'far', asked: far, serverPort: PORT, as: E, clientPort: ports++ },
          ] as const;
        });
        for (const connection of connections) await bring(connection, STATES[connection.state]);
        const before = await entries(lab, '-p', 'tcp');
        assert.deepEqual(
          connections.map(({ clientPort }) => before.find(({ sourcePort }) => sourcePort === clientPort)?.state),
          connections.map(({ state }) => state),
        );
        await reload(lab, config);
        const left = await entries(lab, '-p', 'tcp');
        assert.deepEqual(
          left.filter(({ sourcePort = 0 }) => connections.some(({ clientPort }) => clientPort === sourcePort)),
          [],
        );

        const since = Date.now();
        for (const connection of connections) {
          await say(connection, 'server FA', 3000);
          await say(connection, 'client PA', 3000);
          await say(connection, 'server RA', 3000);
          await say(connection, 'server PA', 3000);
        }
        await sleep(300);
        const seen = (host: HostName) =>
          (came.get(host)?.seen() ?? [])
            .filter(({ at }) => at > since)
            .map(({ source, destinationPort, sourcePort }) => ({ source, destinationPort, sourcePort }));
        for (const { client, asked, serverPort, clientPort, state } of connections) {
          const to = (host: HostName) => seen(host).filter(({ sourcePort }) => sourcePort === clientPort);
          const back = (host: HostName) => seen(host).filter(({ destinationPort }) => destinationPort === clientPort);
          const name = `${state} of ${client} to ${asked}`;
          if (client === 'far') {
            assert.deepEqual(
              [to('v'), to('w').map(({ destinationPort }) => destinationPort)],
              [[], by === undefined ? [] : [serverPort]],
              name,
            );
            // What the VM of before still says is not an answer of the EIP any more.
            assert.deepEqual(new Set(back('far').map(({ source }) => source)), new Set([uplink]), name);
          } else {
            assert.deepEqual(
              to('far').map(({ source }) => source),
              [uplink],
              name,
            );
            // As before: to the EIP that it was seen as.
            assert.deepEqual(
              back('v').map(({ destinationPort }) => destinationPort),
              [],
              name,
            );
          }
        }
        await allIsRight(lab);
      });

    async function bring(connection: Connection, segments: readonly string[]): Promise<void> {
      const [client, server] = [1000, 2000];
      let [fromClient, fromServer] = [0, 0];
      for (const segment of segments) {
        const [who, flags = ''] = segment.split(' ');
        await say(
          connection,
          segment,
          who === 'client' ? client + fromClient : server + fromServer,
          who === 'client' ? server + fromServer : client + fromClient,
        );
        const length = /[SF]/.test(flags) ? 1 : 0;
        if (who === 'client') fromClient += length;
        else fromServer += length;
      }
    }

    /** Waits until the router has it. */
    async function say(connection: Connection, segment: string, seq: number, ack = 0): Promise<void> {
      const { client, server, asked, port, serverPort, as, clientPort } = connection;
      const [who, flags = ''] = segment.split(' ');
      await raw.send(
        who === 'client' ? client : server,
        who === 'client'
          ? { protocol: 'tcp', destination: asked, sourcePort: clientPort, destinationPort: port, flags, seq, ack }
          : { protocol: 'tcp', destination: as, sourcePort: serverPort, destinationPort: clientPort, flags, seq, ack },
      );
      await sleep(3);
    }
  });
