// The kernel's own table, in namespaces: what is read of it, and that just the entries go that are to go, whichever way it is done.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { deleteFlowOptions, parseFlows } from '../../src/dialects/conntrack.ts';
import type { Deleted } from '../../src/machine/flows.ts';
import type { Flow } from '../../src/network/flow.ts';
import { createNamespace, type Namespace } from '../lab/namespace.ts';
import type { Task } from './worker.ts';

const WORKER = join(import.meta.dirname, 'worker.ts');
const TSX = fileURLToPath(import.meta.resolve('tsx'));

const made: Namespace[] = [];
async function namespace(setup = ''): Promise<Namespace> {
  const space = await createNamespace(`mount --make-rprivate /\nmount -t tmpfs tmpfs /mnt\n${setup}`);
  made.push(space);
  return space;
}
after(() => Promise.all(made.map((space) => space.end())));

const work = (space: Namespace, task: Task) =>
  space.run([process.execPath, '--import', TSX, WORKER], { input: JSON.stringify(task) });

async function cut(space: Namespace, task: Extract<Task, { flows: unknown }>): Promise<Deleted> {
  const { status, stdout, stderr } = await work(space, task);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

/** Commands and options for the tool, one a line: what it reads from a file is a batch. */
const conntrack = (space: Namespace, lines: readonly string[]) =>
  space.run(['sh', '-ec', 'cat > /mnt/batch; conntrack -R /mnt/batch'], {
    input: lines.map((line) => `${line}\n`).join(''),
    check: true,
  });

async function table(space: Namespace): Promise<Flow[]> {
  const { stdout } = await space.run(['conntrack', '-L', '-o', 'id'], { check: true });
  return parseFlows(stdout);
}

/** An entry as a test tells it from others. */
const show = (flow: Flow): string =>
  `${flow.zoned ? 'in a zone ' : ''}${flow.protocolNumber} ${flow.source} ${flow.sourcePort ?? flow.icmp?.id ?? flow.greKeys?.source ?? ''}`;
const shown = (flows: readonly Flow[]): string[] => flows.map(show).sort();

/** Between two hosts, one entry of each protocol that the tool can make. */
const eachProtocol = (source: string): string[] => {
  const hosts = `-s ${source} -d 198.51.100.7 -t 3600`;
  return [
    `-I -p udp ${hosts} --sport 5000 --dport 53`,
    `-I -p tcp ${hosts} --sport 5000 --dport 80 --state ESTABLISHED`,
    `-I -p sctp ${hosts} --sport 5000 --dport 36412 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2`,
    `-I -p udplite ${hosts} --sport 5000 --dport 53`,
    `-I -p icmp ${hosts} --icmp-type 8 --icmp-code 0 --icmp-id 77`,
    `-I -p gre ${hosts} --srckey 0x11 --dstkey 0x22`,
    `-I -p 50 ${hosts}`,
  ];
};

const [GOES, STAYS] = ['192.0.2.1', '192.0.2.2'];
const UDP = `-p udp -s ${GOES} -d 198.51.100.7 --sport 5000 --dport 53`;

const hide = (...commands: string[]): string =>
  commands.map((name) => `f=$(command -v ${name}) && mount --bind /dev/null "$(readlink -f "$f")" || true\n`).join('');
const PYTHONS = ['python3', 'python2', 'python'];

const WAYS: [string, string, Deleted][] = [
  ['perl', '', { left: 0, by: 'netlink' }],
  ['python', hide('perl'), { left: 0, by: 'netlink' }],
  ['conntrack', hide('perl', ...PYTHONS), { left: 0, by: 'conntrack', because: 'neither perl nor python is there' }],
  [
    'conntrack where perl is broken',
    'echo "#!/bin/sh\necho no >&2; exit 3" > /mnt/perl; chmod +x /mnt/perl; mount --bind /mnt/perl /usr/bin/perl',
    { left: 0, by: 'conntrack', because: 'perl ended with 3: no' },
  ],
  [
    'perl with SELinux, through pipes',
    'mount -t tmpfs tmpfs /sys/fs; mkdir /sys/fs/selinux; echo 1 > /sys/fs/selinux/enforce',
    { left: 0, by: 'netlink' },
  ],
];

for (const [way, hidden, expected] of WAYS)
  describe(`flows are deleted by ${way}`, () => {
    const start = () => namespace(hidden);

    it('just those, of whatever protocol', async () => {
      const space = await start();
      await conntrack(space, [...eachProtocol(GOES), ...eachProtocol(STAYS)]);
      const all = await table(space);
      assert.equal(all.length, 14);
      const flows = all.filter(({ source }) => source === GOES);
      assert.deepEqual(await cut(space, { flows, deadlineMs: 30_000 }), expected);
      assert.deepEqual(shown(await table(space)), shown(all.filter(({ source }) => source === STAYS)));
    });

    it('not those of another zone', async () => {
      const space = await start();
      await conntrack(space, [
        `-I ${UDP} -t 3600`,
        `-I ${UDP} -t 3600 -w 5`,
        `-I ${UDP} -t 3600 -r 198.51.100.7 -q ${STAYS} --reply-port-src 53 --reply-port-dst 5000 --orig-zone 7`,
      ]);
      const all = await table(space);
      assert.deepEqual(await cut(space, { flows: all, deadlineMs: 30_000 }), expected);
      assert.deepEqual(shown(await table(space)), shown(all.filter(({ zoned }) => zoned)));
    });

    for (const [what, first, second] of [
      ['is translated otherwise', `-s ${GOES} -d 198.51.100.7 -r 10.0.0.1`, `-s ${GOES} -d 198.51.100.7 -r 10.0.0.2`],
      ['was sent elsewhere', `-s ${GOES} -d 198.51.100.7 -r 10.0.0.1`, `-s ${GOES} -d 198.51.100.8 -r 10.0.0.1`],
    ] as const)
      it(`not one that has come in place of another and ${what}`, async () => {
        const space = await start();
        const entry = (hosts: string) =>
          `-I -p udp ${hosts} -q ${GOES} --sport 5000 --dport 53 --reply-port-src 53 --reply-port-dst 5000 -t 3600`;
        await conntrack(space, [entry(first)]);
        const before = await table(space);
        await space.run(['conntrack', '-D', '-s', GOES], { check: true });
        await conntrack(space, [entry(second)]);
        const now = await table(space);
        assert.equal(now.length, 1);
        assert.deepEqual(await cut(space, { flows: before, deadlineMs: 30_000 }), expected);
        assert.deepEqual(await table(space), now);
      });

    it('where some are gone by then, the others', async () => {
      const space = await start();
      await conntrack(space, [...eachProtocol(GOES), ...eachProtocol(STAYS)]);
      const flows = await table(space);
      await space.run(['conntrack', '-D', '-s', STAYS], { check: true });
      assert.deepEqual(await cut(space, { flows, deadlineMs: 30_000 }), expected);
      assert.deepEqual(await table(space), []);
    });

    it('a thousand of 20,000, those of a port in one call where calls are needed', async () => {
      const space = await start();
      await conntrack(
        space,
        Array.from(
          { length: 20_000 },
          (_, n) =>
            `-I -p udp -s 192.0.${n >> 8}.${n & 255} -d 198.51.100.7 --sport 5000 --dport ${1 + (n % 20)} -t 3600`,
        ),
      );
      const all = await table(space);
      assert.equal(all.length, 20_000);
      const flows = all.filter(({ destinationPort }) => destinationPort === 7);
      const groups = [{ options: ['-p', 'udp', '--dport', '7'], flows }];
      assert.equal(flows.length, 1000);
      assert.deepEqual(await cut(space, { flows, groups, deadlineMs: 30_000 }), expected);
      const rest = await table(space);
      assert.equal(rest.length, 19_000);
      assert.ok(rest.every(({ destinationPort }) => destinationPort !== 7));
    });

    it('none where there is no time, and that is said', async () => {
      const space = await start();
      await conntrack(space, eachProtocol(GOES));
      const flows = await table(space);
      const { left } = await cut(space, { flows, deadlineMs: 0 });
      assert.equal(left, 7);
      assert.deepEqual(shown(await table(space)), shown(flows));
    });
  });

describe('where perl is there and deletes nothing, conntrack does', () => {
  const perl = (words: string) => `
    cp /usr/bin/perl /mnt/real
    printf '#!/bin/sh\\nexec %s\\n' '${words}' > /mnt/perl
    chmod +x /mnt/perl
    mount --bind /mnt/perl /usr/bin/perl`;
  const CASES: [string, string, string][] = [
    [
      'without the right to',
      'setpriv --bounding-set=-net_admin --inh-caps=-net_admin /mnt/real "$@"',
      'the kernel refused it: error 1',
    ],
    ['and says nothing', 'cat > /dev/null', 'the kernel did not answer'],
  ];
  for (const [what, words, because] of CASES)
    it(what, async () => {
      const space = await namespace(perl(words));
      await conntrack(space, [...eachProtocol(GOES), ...eachProtocol(STAYS)]);
      const flows = (await table(space)).filter(({ source }) => source === GOES);
      assert.deepEqual(await cut(space, { flows, deadlineMs: 30_000 }), { left: 0, by: 'conntrack', because });
      assert.equal((await table(space)).length, 7);
    });
});

describe('the table of flows', () => {
  const tool = (script: string) =>
    `printf '#!/bin/sh\\n%s\\n' ${script} > /mnt/it; chmod +x /mnt/it; mount --bind /mnt/it /usr/sbin/conntrack`;

  it('is read entry by entry, those of other zones too, and no IPv6', async () => {
    const space = await namespace();
    await conntrack(space, [
      ...eachProtocol(GOES),
      `-I ${UDP} -t 3600 -w 5`,
      '-I -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1 --dport 2 -t 3600',
    ]);
    const { stdout } = await work(space, { read: true });
    const flows: Flow[] = JSON.parse(stdout);
    const byId = (a: Flow, b: Flow) => (a.id ?? 0) - (b.id ?? 0);
    assert.equal(flows.length, 8);
    assert.deepEqual(flows.sort(byId), (await table(space)).sort(byId));
  });

  it('may be empty', async () => {
    const { status, stdout } = await work(await namespace(), { read: true });
    assert.deepEqual([status, stdout], [0, '[]\n']);
  });

  const FAILURES: [string, string, RegExp][] = [
    ['that cannot be read for want of the tool is said', hide('conntrack'), /^conntrack.* install conntrack |EACCES/],
    [
      'that is not understood is said',
      tool("'echo entries: 7'"),
      /^conntrack -L printed .*: entries: 7 \(please report/,
    ],
    ['that the tool fails at is said', tool("'echo oh >&2; exit 4'"), /^conntrack -L .*: status 4: oh$/m],
  ];
  for (const [name, setup, message] of FAILURES)
    it(name, async () => {
      const { status, stderr } = await work(await namespace(setup), { read: true });
      assert.equal(status, 69, stderr);
      assert.match(stderr, message);
    });
});

it('an entry by its options alone is the same entry', async () => {
  const space = await namespace();
  await conntrack(space, [...eachProtocol(GOES), ...eachProtocol(STAYS)]);
  for (const flow of await table(space)) {
    const { stdout } = await space.run(['conntrack', '-L', ...deleteFlowOptions(flow)], { check: true });
    assert.deepEqual(shown(parseFlows(stdout)), [show(flow)]);
  }
});
