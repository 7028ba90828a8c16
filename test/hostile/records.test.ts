// Records whose JSON is of the right form and says what no version of this program wrote, or that cannot be replaced: no path, unit or
// command line is made of it, and a machine that boots becomes a router all the same.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const nic = (n: number) => `  - { ipaddr: 10.10.1.${n}, prefix: 24, mac: '${NICS.a.mac}' }\n`;
const FIRST = `if_list:\n${nic(254)}`;
const SECOND = `if_list:\n${nic(253)}`;

const LIB = '/var/lib/kylin-vr';
const RUN = '/run/kylin-vr';

describe('records that say what this program never wrote', { concurrency: false }, () => {
  let lab: Lab;
  const shell = async (script: string, ...args: string[]) => {
    const { status, stdout, stderr } = await lab.router.run(['sh', '-ec', script, ...args], { timeoutMs: 120_000 });
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };
  /** Ends by itself, soon, with little memory, and not as a fault of the program. */
  const kylin = async (...args: string[]) => {
    const { status, stdout, stderr } = await lab.router.run(
      [process.execPath, '--max-old-space-size=512', PROGRAM, ...args],
      { timeoutMs: 30_000 },
    );
    assert.ok([0, 2, 64, 65, 69].includes(status), `${args.join(' ')}: ${status}\n${stdout}${stderr}`.slice(0, 5000));
    assert.doesNotMatch(stdout + stderr, /internal error/);
    return { status, text: stdout + stderr };
  };
  const boots = async (expected = 0) => {
    await shell('ip address flush dev eth1; iptables -F; iptables -t nat -F');
    const { status, text } = await kylin('start');
    assert.equal(status, expected, text);
    assert.match(await shell('ip -br -4 address show dev eth1'), /10\.10\.1\.254\/24/, text);
    return text;
  };
  const readRecord = async (name: string) => JSON.parse((await lab.router.read(`${LIB}/${name}.json`)) ?? 'null');
  const writeRecord = (name: string, record: unknown) =>
    lab.router.write(`${LIB}/${name}.json`, JSON.stringify(record), 0o600);
  /** SECOND is in force, and its time is over. */
  const lapsed = async (phase = 'applying', more: object = {}) => {
    await lab.configure(SECOND);
    assert.equal((await kylin('reload', '--confirm-within', '600')).status, 0);
    await writeRecord('pending', { ...(await readRecord('pending')), phase, ...more });
  };
  before(async () => {
    lab = await createLab();
    await lab.configure(FIRST);
    for (let times = 0; times < 2; times++) assert.equal((await kylin('reload')).status, 0);
    await shell(`cp -a ${LIB} /var/saved; cp -a ${RUN} /run/saved`);
  });
  afterEach(async () => {
    await shell(`rm -rf ${LIB} ${RUN}; cp -a /var/saved ${LIB}; cp -a /run/saved ${RUN}`);
    await lab.configure(FIRST);
    assert.equal((await kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  const wrong: [field: string, values: unknown[]][] = [
    ['run', ['/../../../../../etc/evil', 'a\0b', '0'.repeat(1900)]],
    ['time', ['../../../../etc/evil', '2026-01-01T00:00:00.000Z\n']],
    ['hash', [`${'a'.repeat(63)}\n`]],
  ];
  for (const phase of ['confirmed'])
    for (const [field, values] of wrong)
      it(`pending.json, ${phase}, with a ${field} that is none: put aside, and nothing is written by it`, async () => {
        for (const value of values) {
          await lapsed(phase, { [field]: value });
          await lab.configure(FIRST);
          const text = await boots();
          assert.match(text, /pending\.json is damaged, and put aside as \S+: whether a change waits/);
          assert.equal(await shell('ls -A /etc | grep -c evil || true'), '0');
          assert.equal(await shell(`ls ${LIB}/history | wc -l`), '1');
        }
      });

  type Found = { state: Record<string, object[]>; others?: { gone?: object[] } };
  const FOREIGN = { kind: 'address', family: 4, device: 'eth1', words: '192.0.2.7/32 dev eth1' };
  const found: [what: string, add: (found: Found) => void][] = [
    ['a file elsewhere', ({ state }) => state.files?.push({ path: '/etc/evil', content: 'x', mode: 0o600 })],
    [
      'a file elsewhere, by a way out of a folder of profiles',
      ({ state }) =>
        state.files?.push({ path: '/etc/sysconfig/network-scripts/../../evil', content: 'x', mode: 0o600 }),
    ],
    ['a sysctl elsewhere', ({ state }) => state.sysctls?.push({ key: 'net/../../../etc/evil', value: '1' })],
    ['a sysctl of the kernel', ({ state }) => state.sysctls?.push({ key: 'kernel/panic', value: '1' })],
    [
      'an address with a line of its own',
      ({ state }) => state.addresses?.push({ device: 'eth1', spec: '192.0.2.1/24\nlink add evil type dummy\n' }),
    ],
    [
      'a device with a line of its own',
      ({ state }) => state.links?.push({ device: 'a\nlink add evil type dummy', up: true }),
    ],
    [
      'a rule with a line of its own',
      ({ state }) =>
        state.chains?.push({ table: 'nat', name: 'KYLIN-VR-X', rules: ['-j ACCEPT\n:EVIL - [0:0]'], ordered: true }),
    ],
    ['a chain of others', ({ state }) => state.chains?.push({ table: 'nat', name: 'EVIL', rules: [], ordered: true })],
    ['a profile that is an option', ({ state }) => state.profiles?.push({ device: 'eth1', uuid: '--help' })],
    [
      'what is foreign, with a line of its own',
      (checkpoint) => {
        checkpoint.others = { ...checkpoint.others, gone: [{ ...FOREIGN, words: `${FOREIGN.words}\nlink add evil` }] };
      },
    ],
  ];
  for (const [what, add] of found)
    it(`checkpoint.json with ${what}: put aside, and nothing is done by it`, async () => {
      await lapsed();
      const checkpoint = await readRecord('checkpoint');
      add(checkpoint);
      await writeRecord('checkpoint', checkpoint);
      const text = await boots();
      assert.match(
        text,
        /checkpoint\.json is damaged, and put aside as \S+: what the change found is not known any more$/m,
      );
      const seen = await shell('ls -A /etc; ip link; iptables-save');
      assert.doesNotMatch(seen, /evil/i);
    });

  it('owned.json with a device or an address that is none: put aside', async () => {
    const owned = await readRecord('owned');
    for (const each of [{ spec: '192.0.2.1/24\nx' }, { device: '../x' }, { on: '' }]) {
      await writeRecord('owned', { ...owned, addresses: [{ ...owned.addresses[0], ...each }] });
      assert.match(await boots(), /owned\.json is damaged, and put aside/, JSON.stringify(each));
      await shell(`rm -f ${LIB}/*.damaged*`);
    }
  });

  const unfit: [what: string, add: (found: Found) => void][] = [
    [
      'a rule that iptables does not take',
      ({ state }) => state.chains?.push({ table: 'nat', name: 'KYLIN-VR-X', rules: ['-j NOWHERE'], ordered: true }),
    ],
    ['an address that is none', ({ state }) => state.addresses?.push({ device: 'eth1', spec: '999.1.1.1/24' })],
  ];
  for (const [what, add] of unfit)
    it(`checkpoint.json with ${what}, and a change whose time is over: the last good configuration comes up`, async () => {
      await lapsed();
      const checkpoint = await readRecord('checkpoint');
      add(checkpoint);
      await writeRecord('checkpoint', checkpoint);
      const text = await boots(69);
      assert.match(
        text,
        /^error: the change of \S+ \(run [0-9a-f]{8}\) could not be taken back \(the run that applied it was killed\): the network could not be brought back to what it was before; the last good configuration is brought up all the same$/m,
      );
      assert.match(
        text,
        /checkpoint\.json is damaged, and put aside as \S+: what the change found could not be brought back$/m,
      );
      assert.match(text, /the last good configuration stays in force/);
      await boots();
      assert.doesNotMatch(await shell('ip -br address show dev eth1'), /10\.10\.1\.253/);
    });

  it('a change that was confirmed, and a record of it that cannot be removed: the last good configuration comes up', async () => {
    await lapsed('confirmed');
    await lab.configure(FIRST);
    await shell(`cp ${LIB}/pending.json /run/theirs; mount --bind /run/theirs ${LIB}/pending.json`);
    try {
      assert.match(await boots(69), /^error: removing \S+pending\.json: EBUSY.*; the next run tries again$/m);
    } finally {
      await shell(`umount ${LIB}/pending.json`);
    }
  });

  it('a change whose time is over, and a record of it that cannot be removed: the same, and a reload goes on', async () => {
    await lapsed();
    await shell(`cp ${LIB}/pending.json /run/theirs; mount --bind /run/theirs ${LIB}/pending.json`);
    try {
      assert.match(await boots(69), /^error: writing \S+pending\.json: EBUSY.*; the next run tries again$/m);
      await lab.configure(FIRST);
      const { status, text } = await kylin('reload');
      assert.equal(status, 0, text);
      assert.match(text, /^warning: removing \S+pending\.json: EBUSY/m);
    } finally {
      await shell(`umount ${LIB}/pending.json`);
    }
  });

  const lines: [what: string, make: string][] = [
    ['of 300 MiB', 'truncate -s 300M "$0"'],
    ['of 512 MiB', 'truncate -s 512M "$0"'],
    ['of 170 MB of []', `perl -e 'print "["; print "[]," x 1000000 for 1 .. 56; print "[]]"' > "$0"`],
    [
      'of 250 MB of long texts',
      `perl -e 'print "["; print chr(34), "a" x 130, chr(34), "," for 1 .. 1300000; print "[]]"' > "$0"`,
    ],
  ];
  for (const [what, make] of lines)
    it(`checkpoint.json ${what}, and a change whose time is over: the last good configuration comes up`, async () => {
      await lapsed();
      await shell(make, `${LIB}/checkpoint.json`);
      assert.match(await boots(), /checkpoint\.json is damaged, and put aside/);
    });

  for (const [what, make] of [
    ['of many values', `perl -e 'print "["; print "[]," x 10700000; print "[]]"' > "$0"`],
    ['of values in each other', `perl -e 'print "[" x 16000000; print "]" x 16000000' > "$0"`],
    [
      'of many records',
      `perl -e 'print q({"addresses":[); print q({"mac":"","spec":"1"},) x 1300000; print q({}]})' > "$0"`,
    ],
  ] as const)
    it(`records and hints of 31 MiB ${what}: none is read`, async () => {
      for (const path of [
        ...['owned', 'pending', 'installed'].map((name) => `${LIB}/${name}.json`),
        ...['flows', 'foreign', 'removed', 'last-run', 'parsed'].map((name) => `${RUN}/${name}.json`),
        `${RUN}/quiet`,
      ])
        await shell(`rm -f "$0"; (umask 077; ${make})`, path);
      const text = await boots();
      assert.match(text, /owned\.json is damaged/);
      assert.match(text, /pending\.json is damaged/);
    });

  it('300 profiles of 3.9 MiB each: ours are looked at, and what is not is named', async () => {
    const folder = '/etc/NetworkManager/system-connections';
    await shell(
      `mkdir -p "$0"; cd "$0"; printf '[connection]\\nid=x\\ntype=ethernet\\n#' > /run/big; head -c 4000000 /dev/zero | tr '\\0' a >> /run/big; ` +
        'for n in $(seq 300); do ln -s /run/big b$n.nmconnection; done; ' +
        `printf '# Made by kylin-vr\\n[connection]\\nid=x\\n' > kylin-vr-gone.nmconnection`,
      folder,
    );
    // The NIC itself is left to NetworkManager at boot.
    const { status, text } = await kylin('start');
    assert.equal(status, 0, text);
    assert.match(text, /^- file \S+kylin-vr-gone\.nmconnection$/m);
    assert.match(
      text,
      /^warning: (\S+b\d+\.nmconnection, ){2}\S+b\d+\.nmconnection and \d+ more: not looked at, since the profiles before have 32 MiB together; whether one is for a NIC of the file is not known: remove what is no profile$/m,
    );
    await shell('rm -r "$0" /run/big', folder);
  });

  const names = [
    'owned.json',
    'pending.json',
    'pending.yaml',
    'checkpoint.json',
    'last-good.yaml',
    'refused',
    'edited',
  ];
  const hints = ['flows.json', 'foreign.json', 'removed.json', 'invalid', 'parsed.json', 'quiet', 'last-run.json'];
  for (const path of [...names.map((name) => `${LIB}/${name}`), ...hints.map((name) => `${RUN}/${name}`)])
    it(`${path} as a mount point: start and reload say it, and do all else`, async () => {
      await shell('echo theirs > /run/theirs; touch "$0"; mount --bind /run/theirs "$0"', path);
      try {
        // What has to be kept is not, and is tried again.
        const expected = /last-good\.yaml|refused/.test(path) ? 69 : 0;
        const said = await boots(expected);
        await lab.configure(SECOND);
        const { text } = await kylin('reload');
        assert.match(await shell('ip -br -4 address show dev eth1'), /10\.10\.1\.253\/24/, text);
        if (path.endsWith('owned.json'))
          for (const each of [said, text])
            assert.match(
              each,
              /^warning: writing \S+owned\.json: EBUSY.*; addresses and routes of ours stay on a NIC that leaves the file before that is mended$/m,
            );
        assert.equal(await shell('cat /run/theirs'), 'theirs');
      } finally {
        await shell('umount "$0"', path);
      }
    });

  it('a disk that can only be read, at the boot after: the network comes up', async () => {
    await shell(`sed -i 's/"boot":"[^"]*"/"boot":"another"/' ${LIB}/owned.json`);
    await shell('mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', LIB);
    try {
      assert.match(await boots(), /^warning: writing \S+owned\.json: EROFS.*before that is mended$/m);
    } finally {
      await shell('umount "$0"', LIB);
    }
  });
});
