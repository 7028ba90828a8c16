// Whatever lies among the profiles or where the configuration should be: `start` ends, in bounded time and memory, and the last good
// configuration is in force. A configuration is text that is made to be expensive, of any size up to the largest and beyond.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const SEED = Number(process.env.KYLIN_VR_SEED ?? Date.now() % 1_000_000);
const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const GOOD = `if_list:\n  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }\n`;
const MIB = 1024 * 1024;

const KINDS: [kind: string, make: string][] = [
  ['a folder', 'mkdir "$0"; touch "$0/in-it"'],
  ['a FIFO', 'mkfifo "$0"'],
  ['a socket', `perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1)' "$0"`],
  ['/dev/zero', 'mknod "$0" c 1 5'],
  ['a link in a ring', 'ln -s "$0" "$0"'],
  ['a link to /dev/zero', 'ln -s /dev/zero "$0"'],
  ['a link to /dev/null', 'ln -s /dev/null "$0"'],
  ['a link to nothing', 'ln -s /nowhere/at/all "$0"'],
  ['a file of 600 MB', 'truncate -s 600M "$0"'],
];

const FOLDERS = {
  ifcfg: '/etc/sysconfig/network-scripts',
  keyfile: '/etc/NetworkManager/system-connections',
} as const;

const TOO_MANY =
  /kylin-vr\.yaml:1:400001: must not have more than 400000 commas, brackets, colons, dashes, quoted texts and lines together, has more from here on/;

/** Pieces that a YAML parser makes much of, again and again, after a beginning. */
const expensive = fc
  .record({
    start: fc.constantFrom('', '[', '{', 'if_list: [', 'if_list:\n', 'eip_list:\n', 'if_list: {', '"', "'", '- ', '# '),
    piece: fc.oneof(
      fc.constantFrom(
        ...[
          ',',
          '[',
          ']',
          '{',
          '}',
          '"',
          "'",
          '""',
          '[],',
          '{},',
          '{a: b},',
          '- ',
          '? ',
          ': ',
          'a: ',
          'a: b: ',
          '&a ',
          '*a,',
          '* ',
        ],
        ...['!a ', '%a\n', '\n', ' \n', '#\n', '|\n', '---\n', 'a: b\n', '- a\n', '- a: b\n', '- eip: 1\n', '\t', '\0'],
      ),
      fc.string({ minLength: 1, maxLength: 6 }),
    ),
    size: fc.constantFrom(0.2 * MIB, MIB, 2 * MIB, 2 * MIB + 1),
  })
  .map(({ start, piece, size }) => {
    const text = start + piece.repeat(Math.ceil(size / Buffer.byteLength(piece)));
    return { what: `${JSON.stringify(start)} and ${JSON.stringify(piece)}, ${text.length} in all`, text };
  });

for (const [name, networkScripts] of [
  ['ifcfg', true],
  ['keyfile', false],
] as const)
  describe(`what is no profile and no configuration: ${name} (seed ${SEED})`, { concurrency: false }, () => {
    let lab: Lab;
    const shell = async (script: string, ...args: string[]) => {
      const { status, stdout, stderr } = await lab.router.run(['sh', '-ec', script, ...args]);
      assert.equal(status, 0, stderr);
      return stdout.trim();
    };
    /** As on a small router: 512 MiB of heap, and it has to end by itself. */
    const start = (...command: string[]) =>
      lab.router.run([process.execPath, '--max-old-space-size=512', PROGRAM, ...command], { timeoutMs: 50_000 });
    /** Takes the network down as a boot does, and looks what is there after it. */
    const boots = async (statuses: readonly number[], what: string) => {
      await shell('ip address flush dev eth1; iptables -F; iptables -t nat -F');
      let said = '';
      // At boot, initscripts bring up NICs of ifcfg files; here, where none run, what comes after the network does.
      for (const command of [['start'], ['reload', '--trigger', 'boot']]) {
        const { status, stdout, stderr } = await start(...command);
        assert.ok(statuses.includes(status), `${what}: ${status}\n${stdout}${stderr}`);
        assert.doesNotMatch(stdout + stderr, /internal error/);
        said += stdout + stderr;
      }
      assert.match(await shell('ip -br -4 address show dev eth1'), /10\.10\.1\.254\/24/, what);
      assert.match(await shell('iptables-save'), /KYLIN-VR/, what);
      return said;
    };

    const clean = () =>
      shell(`rm -rf ${FOLDERS.ifcfg}/*-old* ${FOLDERS.keyfile}/old.nmconnection ${CONFIG}`).then(() =>
        lab.configure(GOOD),
      );

    before(async () => {
      lab = await createLab({ networkScripts });
      await lab.configure(GOOD);
      assert.equal((await lab.kylin('reload')).status, 0);
    });
    beforeEach(clean);
    after(() => lab?.close());

    for (const [kind, make] of KINDS) {
      it(`${kind} named like a profile is left alone`, async () => {
        for (const each of ['ifcfg-old', 'route-old', 'old.nmconnection']) {
          const folder = each.endsWith('.nmconnection') ? FOLDERS.keyfile : FOLDERS.ifcfg;
          if (folder === FOLDERS.ifcfg && !networkScripts) continue;
          await shell(`mkdir -p "$(dirname "$0")"; ${make}`, `${folder}/${each}`);
        }
        await boots([0], kind);
        assert.equal((await start('plan', '--exit-code')).status, 0);
      });

      it(`${kind} where our profile has to be makes room for it`, async () => {
        const path = networkScripts ? `${FOLDERS.ifcfg}/ifcfg-eth1` : `${FOLDERS.keyfile}/kylin-vr-eth1.nmconnection`;
        await shell(`rm -rf "$0"; ${make}`, path);
        await boots([0], kind);
        assert.match(await shell('head -n 1 "$0"', path), /^# Made by kylin-vr/);
      });

      it(`${kind} in place of the configuration: the last good one comes up, and it is said what is wrong`, async () => {
        await shell(`rm -rf "$0"; ${make}`, CONFIG);
        assert.match(
          await boots([65], kind),
          /is a folder|is a symbolic link|is a FIFO, a device or a socket: remove it and write a file there|must not be larger than \d+ bytes, is 629145600/,
        );
        assert.equal((await start('check')).status, 65);
      });
    }

    it('a mode that is too open and cannot be tightened, in a folder that keeps others out, is a warning', async () => {
      await shell(
        `chmod 0666 ${CONFIG}; mount --bind /etc/kylin-vr /etc/kylin-vr; mount -o remount,bind,ro /etc/kylin-vr`,
      );
      const said = await boots([0], 'read-only');
      assert.match(said, /mode 0666 is too open, and stays so: setting the mode of \S+: EROFS: /);
      await shell('umount /etc/kylin-vr');
    });

    it('where a profile cannot be written, the network is up without it, and it is said', async (t) => {
      const path = networkScripts ? `${FOLDERS.ifcfg}/ifcfg-eth1` : `${FOLDERS.keyfile}/kylin-vr-eth1.nmconnection`;
      t.after(() => shell('umount "$0"; "$1" "$2" reload > /run/said', path, process.execPath, PROGRAM));
      await shell('echo "# of somebody" > /run/other; mount --bind /run/other "$0"', path);
      const said = await boots([69], 'mounted');
      assert.match(said, /EBUSY.*; the network is up without it; mend the cause and run kylin-vr reload/);
    });

    it("where NetworkManager's folder for drop-ins is none, profiles stay for whoever reads them next", async (t) => {
      const folder = '/etc/NetworkManager/conf.d';
      const path = networkScripts ? `${FOLDERS.ifcfg}/ifcfg-eth1` : `${FOLDERS.keyfile}/kylin-vr-eth1.nmconnection`;
      const profile = await shell('cat "$0"', path);
      t.after(() => shell('rm -f "$0"; mkdir "$0"', folder));
      await shell('mkdir -p "$0"; rm -r "$0"; echo > "$0"', folder);
      await boots([69], 'a file in its place');
      assert.equal(await shell('cat "$0"', path), profile);
    });

    it('where no profile can be written, and no record of ours, too', async (t) => {
      const folders = [networkScripts ? FOLDERS.ifcfg : FOLDERS.keyfile, '/var/lib/kylin-vr'];
      const seal = (folder: string) => shell('mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', folder);
      await shell('rm -f "$0"/*eth1*', `${folders[0]}`);
      for (const folder of folders) {
        await seal(folder);
        t.after(() => shell('umount "$0"', folder));
      }
      assert.match(await boots([69], 'read-only'), /EROFS/);
    });

    it('2 MiB of commas are refused at the place where they become too many', async () => {
      await lab.configure(`[${','.repeat(2 * MIB - 1)}`);
      assert.match(await boots([65], 'commas'), TOO_MANY);
    });

    it('of 10,000 mistakes a run reports a hundred, and how many more there are', async () => {
      await lab.configure(`${GOOD}eip_list:\n${'  - { eip: nowhere, vm-ip: 10.10.1.1 }\n'.repeat(10_000)}`);
      const { status, stdout } = await start('reload', '--json');
      const { errors } = JSON.parse(stdout) as { errors: { message: string }[] };
      assert.deepEqual(
        [status, errors.length, errors.at(-1)?.message],
        [65, 101, 'and 9900 more: kylin-vr check --json has them all'],
      );
      const checked = await start('check', '--json');
      assert.equal((JSON.parse(checked.stdout) as { errors: unknown[] }).errors.length, 10_000);
    });

    if (networkScripts)
      it('text that is made to be expensive: the last good one comes up', async () => {
        await fc.assert(
          fc.asyncProperty(expensive, async ({ what, text }) => {
            await lab.configure(text);
            await boots([65], what);
          }),
          { seed: SEED, numRuns: 25, endOnFailure: true },
        );
      });
  });
