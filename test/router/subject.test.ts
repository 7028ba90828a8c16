// Every error about the configuration names its file, once, whatever is wrong with it, whoever looks at it and wherever it is shown.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, NICS } from '../lab/lab.ts';

const GOOD = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
`;

/** $F is the file and $D its folder. */
type Fault = {
  what: string;
  script: string;
  /** What a command that acts on it says; FILE stands for its path, as it was given. */
  acting: string;
  /** What one that only looks at it says; the same where absent, and `fine` where that minds nothing. */
  looking?: string;
};

const NONE = {
  acting: 'FILE: does not exist: write it, or give another with --config',
  looking: 'FILE: does not exist: ',
};
const FAULTS: Fault[] = [
  { what: 'none there', script: 'rm $F', ...NONE },
  { what: 'no folder for it', script: 'rm -r $D', ...NONE },
  { what: 'a file in the place of its folder', script: 'rm -r $D; echo > $D', ...NONE },
  {
    what: 'a folder',
    script: 'rm $F; mkdir $F',
    acting: 'FILE: is a folder: remove it and write a file there, or give another with --config',
    looking: 'FILE: is a folder, no file: remove it, or put the file there',
  },
  {
    what: 'a FIFO',
    script: 'rm $F; mkfifo $F',
    acting: 'FILE: is a FIFO, a device or a socket: remove it and write a file there',
    looking: 'FILE: is a FIFO, no file: remove it, or put the file there',
  },
  { what: 'too large', script: 'truncate -s 3M $F', acting: 'FILE: must not be larger than 2097152 bytes, is 3145728' },
  {
    what: "another user's",
    script: 'chown 1000 $F',
    acting: "FILE: belongs to uid 1000: it must be root's (chown root FILE)",
    looking: 'fine',
  },
  {
    what: "in another user's folder",
    script: 'chown 1000 $D',
    acting: "FILE: is in a folder of uid 1000: it must be root's (chown root FOLDER)",
    looking: 'fine',
  },
  {
    what: 'in a folder that others write',
    script: 'chmod 0777 $D',
    acting: 'FILE: is in a folder that others can write: chmod 0700 FOLDER',
    looking: 'fine',
  },
  {
    what: 'of mode 0666 where others can come',
    script: 'chmod 0755 $D; chmod 0666 $F',
    acting: 'FILE: can be written by others than root: chmod 0600 FILE',
    looking: 'fine',
  },
  {
    what: 'a link',
    script: 'mv $F /run/elsewhere; ln -s /run/elsewhere $F',
    acting: 'FILE: is a symbolic link: put the file itself there',
    looking: 'fine',
  },
  {
    what: 'a link to itself',
    script: 'rm $F; ln -s $F $F',
    acting: 'FILE: is a symbolic link: put the file itself there',
    looking: 'FILE: is a symbolic link that leads to no file: put the file itself there',
  },
  {
    what: 'on a disk that fails',
    script: 'sleep 600 > /dev/null 2>&1 & echo $! > /run/sleeper; mount --bind /proc/$!/mem $F',
    acting: 'reading FILE: EIO: i/o error, read',
  },
  {
    what: 'empty',
    script: ': > $F',
    acting: 'FILE: is empty: needs at least if_list, and if_list: [] to take everything down',
  },
  {
    what: 'nothing but a comment',
    script: 'echo "# nothing" > $F',
    acting: 'FILE:1:1: holds nothing but comments: needs at least if_list, and if_list: [] to take everything down',
  },
  {
    what: 'not UTF-8',
    script: 'printf "if_list:\\377 []\\n" > $F',
    acting: 'FILE:1:9: must be text in UTF-8, is not from here on',
  },
  {
    what: 'with a NUL',
    script: 'printf "if_list:\\000 []\\n" > $F',
    acting: 'FILE:1:9: must be text, has the control character U+0000',
  },
  {
    what: 'no YAML',
    script: 'echo "if_list: [" > $F',
    acting: 'FILE:2:1: needs a ] before this that closes the [',
  },
  {
    what: 'with a value that cannot be',
    script: `sed -i '2s/prefix: 24/prefix: 33/' $F`,
    acting: 'FILE:2:37: if_list[0].prefix: must be a whole number from 1 to 32, is 33',
  },
];

const TO = ['--from', '10.10.1.11', '--to', '192.0.2.10'];
/** The last is logged, and the last run of `status`. */
const ACTING = [
  ['plan'],
  ['start'],
  ['eip', 'add', '203.0.113.51=10.10.1.12'],
  ['forward', 'remove', '203.0.113.52:80/tcp'],
  ['explain', '--live', ...TO],
  ['reload'],
  ['status'],
];
const LOOKING = [
  ['eip', 'list'],
  ['nic', 'list'],
  ['explain', ...TO],
  ['push', '--socket', '/run/none', 'FILE'],
];

type Issue = { file?: string; line?: number; column?: number; path?: string; message: string };
type Report = { errors: Issue[]; guests?: unknown[]; lastRun?: { error?: string } };

const wordsOf = ({ file, line, column, path, message }: Issue): string =>
  [...(line === undefined ? [] : [`${file}:${line}:${column}`]), ...(path === undefined ? [] : [path]), message].join(
    ': ',
  );

const places: [where: string, path: string, folder: string, chosen: string[]][] = [
  ['the file of every run', '/etc/kylin-vr/kylin-vr.yaml', '/etc/kylin-vr', []],
  ['a file of --config', '/etc/other/vpc.yaml', '/etc/other', ['--config', '/etc/other/vpc.yaml']],
];

describe('what is wrong with a configuration is said of its file', { concurrency: true }, () => {
  for (const [where, path, folder, chosen] of places)
    describe(where, { concurrency: false }, () => {
      let lab: Lab;
      const shell = async (script: string) => {
        const { status, stderr } = await lab.router.run(['sh', '-ec', `F=${path}; D=${folder}; ${script}`]);
        assert.equal(status, 0, stderr);
      };
      before(async () => {
        lab = await createLab();
        await lab.configure(GOOD);
        assert.equal((await lab.kylin('reload')).status, 0);
      });
      after(() => lab?.close());

      const filled = (text: string) => text.replaceAll('FILE', path).replaceAll('FOLDER', folder);

      /** As people read it, and as programs do. */
      async function said(args: readonly string[]): Promise<{ lines: string[]; report: Report }> {
        const command = [...chosen, ...args.map(filled)];
        const { stdout, stderr } = await lab.kylin(...command);
        const lines = `${stderr}${stdout}`
          .split('\n')
          .flatMap((line) => /^(?:error|kylin-vr): (.*)/.exec(line)?.[1] ?? [])
          .filter((line) => !line.endsWith('is as it was'));
        const json = await lab.kylin(...command, '--json');
        return { lines, report: JSON.parse(json.stdout) };
      }

      function isOf(report: Report, line: string): void {
        const [error = { message: '' }, ...more] = report.errors;
        assert.equal(wordsOf(error), line);
        assert.deepEqual(
          more.filter(({ message }) => message !== `${path} is as it was`),
          [],
        );
        assert.equal(error.file, error.line === undefined ? undefined : path);
      }

      for (const { what, script, acting, looking = acting } of FAULTS)
        it(what, async (t) => {
          t.after(() => shell('[ ! -e /run/sleeper ] || { umount $F; kill $(cat /run/sleeper); rm /run/sleeper; }'));
          await shell(`rm -rf $D; mkdir -m 0700 $D; (umask 077; cat > $F) <<'E'\n${GOOD}E\n${script}`);
          const expected = filled(acting);
          for (const args of ACTING) {
            const { lines, report } = await said(args);
            assert.deepEqual(lines, [expected], args.join(' '));
            isOf(report, expected);
            if (args[0] === 'status') assert.equal(report.lastRun?.error, expected);
          }
          const [logged, last] = [await lab.kylin('log', '-n', '1'), await lab.kylin('status', ...chosen)];
          assert.equal(/^ {4}error: (.*)$/m.exec(logged.stdout)?.[1], expected);
          assert.equal(/^last run: .* reload .* in \d+ ms: (.*)$/m.exec(last.stdout)?.[1], expected);
          const [run] = JSON.parse((await lab.kylin('log', '-n', '1', '--json')).stdout).runs;
          isOf(run, expected);

          for (const args of LOOKING) {
            const { lines, report } = await said(args);
            if (looking === 'fine') {
              assert.deepEqual(lines, [], args.join(' '));
              continue;
            }
            assert.equal(lines.length, 1, args.join(' '));
            isOnce(lines[0], filled(looking));
            isOf(report, lines[0] ?? '');
          }
          // Of the file that root acts on, check minds what a reload would.
          const { lines, report } = await said(['check', 'FILE']);
          if (chosen.length > 0 && looking === 'fine') return assert.deepEqual([lines, report.errors], [[], []]);
          assert.equal(lines.length, 1);
          isOnce(lines[0], chosen.length > 0 ? filled(looking) : expected.replace(/: write it,.*/, ': write it, '));
          isOf(report, lines[0] ?? '');
        });

      function isOnce(line = '', start: string): void {
        assert.ok(line.startsWith(start), line);
        assert.equal(line.slice(start.length).includes(path), false, line);
      }

      it('a warning too, also of a run with nothing to do, and of another file that says the same', async () => {
        const odd = GOOD.replace('vm-ip: 10.10.1.11 }', 'vm-ip: 10.10.1.11, nmae: www }');
        const twin = `${folder}/twin.yaml`;
        await shell(
          `rm -rf $D; mkdir -m 0700 $D; (umask 077; cat > $F) <<'E'\n${odd}E\ncp -p $F ${twin}; chmod 0660 $F ${twin}`,
        );
        const unknown = '5:45: eip_list[0].nmae: is an unknown key, known are eip, vm-ip';
        for (const file of [path, path, twin, path]) {
          const { stdout, stderr } = await lab.kylin('--config', file, 'reload', '--json');
          const { warnings } = JSON.parse(stdout) as { warnings: Issue[] };
          const expected = warnings.filter(({ message }) => !/too open/.test(message)).map(wordsOf);
          assert.deepEqual(expected, [`${file}:${unknown}`], stderr);
          for (const { message } of warnings)
            if (/too open/.test(message)) assert.equal(message, `${file}: mode 0660 is too open, tightened to 0600`);
        }
      });

      it('of an edit that would be wrong, or cannot be made', async () => {
        await shell(`rm -rf $D; mkdir -m 0700 $D; (umask 077; cat > $F) <<'E'\n${GOOD}E`);
        for (const [args, line] of [
          [
            ['nic', 'add', '52:54:84:11:00:05=10.10.1.1/24'],
            /^FILE would not be valid: if_list\[2\]\.ipaddr: .*; the file and the network are as they were$/,
          ],
          [['eip', 'add', '203.0.113.50=10.10.1.12'], /^\S+: FILE has \S+ already: run kylin-vr eip remove \S+ first$/],
        ] as const) {
          const { lines, report } = await said(args);
          assert.match((lines[0] ?? '').replaceAll(path, 'FILE'), line);
          assert.deepEqual([lines.length, report.errors.map(wordsOf)], [1, lines]);
        }
        await shell(`sed -i 's/^  - { eip/  - \\&it { eip/' $F`);
        const { lines } = await said(['eip', 'remove', '203.0.113.50']);
        assert.deepEqual(lines, [
          `${path}:5:3: eip_list[0] has an anchor or a tag before it, which kylin-vr does not edit: edit the file by hand, then run kylin-vr reload`,
        ]);
      });
    });
});
