// Flows that a helper of the kernel expected: FTP's data, whose ports no rule names. They stay while their mapping does, and go with it.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { on } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, createLab, type HostName, type Lab } from '../lab/lab.ts';
import { allIsRight, configOf, entries, type Mapping, reload, shown } from './lab.ts';

const { far, v, w, x } = ADDRESSES;
const [E, NEAR, OF_X] = ['203.0.113.50', '203.0.113.60', '203.0.113.52'];

const PATIENCE_MS = 20_000;

/** Passive, or by a port of the client; what comes on the data connection goes back on it. */
const SERVER = `
const net = require('node:net');
const words = (address, port) => [...address.split('.'), port >> 8, port & 255].join();
const echo = (socket) => socket.on('error', () => {}).pipe(socket);
net.createServer((control) => {
  control.on('error', () => {}).write('220 ready\\r\\n');
  control.on('data', (line) => {
    const given = /^PORT (.*)\\r/.exec(line);
    if (given) {
      const numbers = given[1].split(',').map(Number);
      echo(net.connect({ host: numbers.slice(0, 4).join('.'), port: numbers[4] * 256 + numbers[5], localPort: 20 }));
      control.write('200 so be it\\r\\n');
    } else if (/^USER/.test(line)) control.write('331 who else\\r\\n');
    else {
      const data = net.createServer(echo).listen(0, '0.0.0.0', () =>
        control.write('227 Entering Passive Mode (' + words(control.localAddress, data.address().port) + ')\\r\\n'));
    }
  });
}).listen(21, '0.0.0.0', () => console.log('ready'));`;

/** Says `data` when there is a data connection, and `yes` or `no` to each line: whether it carries. */
const CLIENT = `
const net = require('node:net');
const [, to, way] = process.argv;
const words = (address, port) => [...address.split('.'), port >> 8, port & 255].join();
const control = net.connect(21, to).on('error', () => {});
let answered = () => {};
const have = (data) => {
  data.on('error', () => answered('no')).on('data', () => answered('yes'));
  process.stdin.on('data', () => {
    const timer = setTimeout(() => answered('no'), 3000);
    answered = (word) => { clearTimeout(timer); answered = () => {}; console.log(word); };
    data.write('?');
  });
  console.log('data');
};
control.on('data', (line) => {
  const passive = /^227 .*\\((.*)\\)/.exec(line);
  if (passive) {
    const numbers = passive[1].split(',').map(Number);
    const data = net.connect(numbers[4] * 256 + numbers[5], numbers.slice(0, 4).join('.'), () => have(data));
    data.once('error', () => {});
  } else if (/^220/.test(line)) control.write('USER me\\r\\n'); // The helper heeds what follows a whole line.
  else if (/^331/.test(line)) {
    if (way === 'passive') control.write('PASV\\r\\n');
    else {
      const listener = net.createServer(have).listen(0, '0.0.0.0', () =>
        control.write('PORT ' + words(control.localAddress, listener.address().port) + '\\r\\n'));
    }
  }
});`;

const CASES: {
  what: string;
  from: HostName;
  to: string;
  way: 'passive' | 'active';
  mapping: Mapping;
  gone: Mapping;
}[] = [
  {
    what: 'passive, to an elastic IP',
    from: 'far',
    to: E,
    way: 'passive',
    mapping: { eips: { [E]: v } },
    gone: { eips: { [E]: w } },
  },
  {
    what: 'active, to an elastic IP',
    from: 'far',
    to: E,
    way: 'active',
    mapping: { eips: { [E]: v } },
    gone: {},
  },
  {
    what: 'passive, to a forward',
    from: 'far',
    to: NEAR,
    way: 'passive',
    mapping: { forwards: { [`${NEAR} tcp 21`]: `${w} 21` } },
    gone: { forwards: { [`${NEAR} tcp 21`]: `${v} 21` } },
  },
  {
    what: 'active, to a forward',
    from: 'far',
    to: NEAR,
    way: 'active',
    mapping: { forwards: { [`${NEAR} tcp 21`]: `${w} 21` } },
    gone: {},
  },
  {
    what: 'active, of a VM with an elastic IP',
    from: 'v',
    to: far,
    way: 'active',
    mapping: { eips: { [E]: v } },
    gone: { eips: { [E]: w } },
  },
  {
    what: 'active, of a VM that leaves as the uplink',
    from: 'w',
    to: far,
    way: 'active',
    mapping: {},
    gone: { eips: { [E]: w } },
  },
  {
    what: 'active, of a VM in a subnet that leaves as an address',
    from: 'w',
    to: far,
    way: 'active',
    mapping: { rest: 'snat_list:\n  - { source: 10.10.1.0/24, to: 203.0.113.40 }\n' },
    gone: { rest: 'snat_list:\n  - { source: 10.10.1.0/24, to: 203.0.113.41 }\n' },
  },
  {
    what: 'passive, between VMs by an elastic IP',
    from: 'x',
    to: E,
    way: 'passive',
    mapping: { eips: { [E]: v } },
    gone: {},
  },
];

for (const iptables of ['nft', 'legacy'] as const)
  describe(`FTP with the kernel's helper: ${iptables}`, { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab({ iptables });
      await lab.router.run(['sh', '-ec', 'iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp'], {
        check: true,
      });
      for (const host of ['far', 'v', 'w'] as const)
        await heard(lab.host(host).spawn([process.execPath, '-e', SERVER]))().then((line) =>
          assert.equal(line, 'ready'),
        );
    });
    after(() => lab?.close());

    for (const { what, from, to, way, mapping, gone } of CASES)
      it(`${what}: the data goes on while the mapping is there, and ends with it`, async (t) => {
        await reload(lab, configOf(mapping));
        await lab.router.run(['conntrack', '-F']);
        const client = lab.host(from).spawn([process.execPath, '-e', CLIENT, to, way]);
        t.after(() => client.kill());
        const next = heard(client);
        const ask = () => {
          (client.stdin as Writable).write('?\n');
          return next();
        };
        assert.equal(await next(), 'data');
        assert.equal(await ask(), 'yes');
        const table = async () =>
          (await entries(lab, '-p', 'tcp', '--state', 'ESTABLISHED')).map((flow) => `${flow.id} ${shown(flow)}`).sort();
        const known = await table();
        assert.equal(known.length, 2, known.join('\n'));
        const { stdout } = await lab.router.run(['conntrack', '-L', '-u', 'EXPECTED', '-p', 'tcp']);
        assert.equal(stdout.split('\n').length, 2, stdout);

        // Something else changes, twice.
        for (const vm of [x, undefined]) {
          await reload(
            lab,
            configOf({ ...mapping, eips: { ...mapping.eips, ...(vm && from !== 'x' && { [OF_X]: vm }) } }),
          );
          await allIsRight(lab);
        }
        assert.deepEqual(await table(), known);
        assert.equal(await ask(), 'yes');

        await reload(lab, configOf(gone));
        const ids = new Set(known.map((line) => line.split(' ')[0]));
        assert.deepEqual((await entries(lab, '-p', 'tcp')).filter(({ id }) => ids.has(`${id}`)).map(shown), []);
        assert.equal(await ask(), 'no');
        await allIsRight(lab);
      });
  });

/** Its lines, one after the other. */
function heard(child: ChildProcess): () => Promise<string> {
  const lines = on(createInterface({ input: child.stdout as Readable }), 'line');
  child.stderr?.on('data', (data) => process.stderr.write(data));
  return async () => (await Promise.race([lines.next(), sleep(PATIENCE_MS, { value: ['nothing'] })])).value[0];
}
