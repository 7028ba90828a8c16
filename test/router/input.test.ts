// Input that is wrong, incomplete or not to be trusted changes nothing, and the answer says what is wrong and where.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';

/** As in the field, with the lab's MACs. */
const FIELD = `if_list:
   - ipaddr: 10.90.3.37
     prefix: 24
     mac: 52:54:84:00:08:46
     gateway: 10.90.3.1
   - ipaddr: 192.168.100.254
     prefix: 24
     mac: 52:54:84:11:00:04
eip_list:
  - eip: 10.90.2.189
    vm-ip: 192.168.100.203
  - eip: 10.90.2.250
    vm-ip: 192.168.100.190
  - eip: 10.90.3.21
    vm-ip: 192.168.100.31
port_forward_list:
  - eip: 10.90.2.254
    protocal: tcp
    port: 80
    end_port: 82
    vm-port: 80
    vm-ip: 192.168.100.190
`;
const CHANGED = FIELD.replace('10.90.2.250', '10.90.2.251');
const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';

const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${'bcdefgh'
  .split('')
  .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[index]}`).join(', ')}]\n`)
  .join('')}if_list: *h\n`;

const nic = (line: string) => `if_list:\n  - { ${line} }\n`;
const BAD: [what: string, text: string, first: string][] = [
  ['an empty file', '', `${CONFIG}: is empty: needs at least if_list, and if_list: [] to take everything down`],
  [
    'a comment only',
    '# if_list: []\n',
    '1:1: holds nothing but comments: needs at least if_list, and if_list: [] to take everything down',
  ],
  ['spaces only', ' \n\n  \n', '1:1: is empty: needs at least if_list, and if_list: [] to take everything down'],
  ['a list', '[]\n', '1:1: must be a mapping with the key if_list, is a list'],
  ['a word', 'hello\n', '1:1: must be a mapping with the key if_list, is hello'],
  ['null', 'null\n', '1:1: must be a mapping with the key if_list, is null'],
  ['two documents', `${FIELD}---\n${FIELD}`, '23:1: must be one document: remove this --- and the rest'],
  ['a tab', FIELD.replace('     prefix: 24', '\tprefix: 24'), '3:1: must be indented with spaces, not with tabs'],
  ['a bracket left open', 'if_list: [\n', '2:1: needs a ] before this that closes the ['],
  ['a key twice', `${FIELD}if_list: []\n`, '23:1: if_list: is already given on line 1'],
  [
    'a key of ours misspelt',
    FIELD.replace('eip_list', 'eip_lists'),
    '9:1: eip_lists: is an unknown key, did you mean eip_list',
  ],
  ['no if_list', 'eip_list: []\n', '1:1: needs if_list'],
  ['a list that is null', 'if_list:\n', '1:9: if_list: must be a list, is empty: write if_list: []'],
  ['a list that is a map', 'if_list: {}\n', '1:10: if_list: must be a list, is a mapping'],
  [
    'a NIC that is a word',
    'if_list: [eth0]\n',
    '1:11: if_list[0]: must be a mapping with the keys ipaddr, prefix, …; is eth0',
  ],
  [
    'a prefix of 33',
    FIELD.replace('prefix: 24', 'prefix: 33'),
    '3:14: if_list[0].prefix: must be a whole number from 1 to 32, is 33',
  ],
  [
    'an address with a letter',
    FIELD.replace('10.90.3.37', '10.90.3.x'),
    '2:14: if_list[0].ipaddr: must be an IPv4 address, is 10.90.3.x',
  ],
  [
    'a MAC of digits only, as YAML 1.1 would read it',
    FIELD.replace('52:54:84:00:08:46', '10:20:30:40:50'),
    '4:11: if_list[0].mac: must be a MAC address, six pairs of hex digits with colons, is 10:20:30:40:50',
  ],
  [
    'a gateway elsewhere',
    FIELD.replace('gateway: 10.90.3.1', 'gateway: 10.91.3.1'),
    "5:15: if_list[0].gateway: must be in the NIC's network 10.90.3.0/24, is 10.91.3.1",
  ],
  [
    'an EIP twice',
    FIELD.replace('10.90.2.250', '10.90.2.189'),
    '12:10: eip_list[1].eip: 10.90.2.189 is already used by eip_list[0].eip on line 10',
  ],
  [
    'a command as an address',
    nic("ipaddr: '$(touch /run/pwned)', prefix: 24, mac: 52:54:84:00:08:46"),
    "2:15: if_list[0].ipaddr: must be an IPv4 address, is '$(touch /run/pwned)'",
  ],
  [
    'a command as a prefix',
    nic("ipaddr: 10.90.3.37, prefix: '24; touch /run/pwned', mac: 52:54:84:00:08:46"),
    "2:35: if_list[0].prefix: must be a whole number from 1 to 32, is '24; touch /run/pwned'",
  ],
  [
    'an address with a line break',
    nic('ipaddr: "10.90.3.37\\ntouch /run/pwned", prefix: 24, mac: 52:54:84:00:08:46'),
    '2:15: if_list[0].ipaddr: must be an IPv4 address, is "10.90.3.37\\ntouch /run/pwned"',
  ],
  [
    'an alias bomb',
    bomb,
    '1:1: a: is an unknown key, known are if_list, eip_list, port_forward_list, route_list, snat_list, from-uplink, pci-rescan',
  ],
  [
    '__proto__',
    `${FIELD}__proto__: { if_list: [] }\n`,
    '23:1: __proto__: is an unknown key, known are if_list, eip_list, port_forward_list, route_list, snat_list, from-uplink, pci-rescan',
  ],
];

describe('bad input', { concurrency: true }, () => {
  describe('of every kind', { concurrency: false }, () => {
    let lab: Lab;
    let network: string;
    let files: string;
    before(async () => {
      lab = await createLab({ networkScripts: true });
      await lab.configure(FIELD);
      assert.equal((await lab.kylin('reload')).status, 0);
      [network, files] = [await networkOf(lab.router), await filesOf(lab)];
    });
    after(() => lab?.close());

    async function refused(): Promise<Issue[]> {
      const { status, stdout, stderr } = await lab.kylin('reload', '--json');
      const { result, steps, errors } = JSON.parse(stdout);
      assert.deepEqual({ status, result, steps }, { status: 65, result: 'failed', steps: [] }, stderr);
      assert.equal(await networkOf(lab.router), network);
      assert.equal(await filesOf(lab), files);
      assert.equal(await lab.router.read('/run/pwned'), undefined);
      return errors;
    }

    for (const [what, text, first] of BAD)
      it(what, async () => {
        await lab.configure(text);
        assert.equal((await refused()).map(inWords)[0], first);
      });

    it('a binary file', async () => {
      await lab.router.run(['sh', '-c', `printf 'if_list:\\377\\376\\000\\001 []\\n' > ${CONFIG}`], { check: true });
      const words = 'must be text in UTF-8, is not from here on';
      assert.deepEqual((await refused()).map(inWords), [`1:9: ${words}`]);
    });

    it('no file', async () => {
      await lab.router.run(['rm', CONFIG], { check: true });
      assert.deepEqual(await refused(), [
        { message: `${CONFIG}: does not exist: write it, or give another with --config` },
      ]);
    });

    it('the answer shows the place, the rule, the line and a caret', async () => {
      await lab.configure(FIELD.replace('prefix: 24', 'prefix: 33'));
      const { stderr, status } = await lab.kylin('reload');
      assert.equal(status, 65);
      assert.equal(
        stderr,
        `error: ${CONFIG}:3:14: if_list[0].prefix: must be a whole number from 1 to 32, is 33\n  3 |      prefix: 33\n    |              ^^\n`,
      );
    });

    it('a file cut off anywhere is refused, or is a whole configuration', async () => {
      const taken: number[] = [];
      for (let length = 1; length < FIELD.length; length += 17) {
        await lab.configure(FIELD.slice(0, length));
        if ((await lab.kylin('check')).status === 0) taken.push(length);
        else await refused();
      }
      const ends = taken.map((length) => FIELD.slice(0, length).trimEnd().split('\n').at(-1));
      // Half a file can be valid, and half an address one: why automatic runs wait until a file has come to rest.
      assert.deepEqual(ends, ['     gateway: 10.90.3.1', '    vm-ip: 192.168.100.3']);
    });
  });

  describe('while the machine runs by itself', { concurrency: false }, () => {
    let lab: Lab;
    let network: string;
    before(async () => {
      // Without profiles start brings the NICs up itself, whether this machine has NetworkManager or not.
      lab = await createLab();
    });
    after(() => lab?.close());

    it('start with a bad file and without a last good one changes nothing', async () => {
      await lab.configure('if_list:\n');
      const none = await networkOf(lab.router);
      const { status, stdout } = await lab.kylin('start', '--json');
      const { result, warnings } = JSON.parse(stdout);
      assert.deepEqual(
        { status, result, warnings },
        {
          status: 65,
          result: 'failed',
          warnings: [{ message: 'there is no last good configuration: files and NICs stay as they are' }],
        },
      );
      assert.equal(await networkOf(lab.router), none);
    });

    it('start with a bad file brings up the last good one, says so and ends 65', async () => {
      await lab.configure(FIELD);
      assert.equal((await lab.kylin('reload')).status, 0);
      network = await networkOf(lab.router);
      await lab.configure('');
      await wipe(lab);
      const { status, stdout } = await lab.kylin('start', '--json');
      const { errors, warnings } = JSON.parse(stdout);
      assert.deepEqual([status, errors.length], [65, 1]);
      assert.deepEqual(warnings, [{ message: 'the last good configuration stays in force' }]);
      assert.equal(await networkOf(lab.router), network);
    });

    /** Without the place and the excerpt, and without what took its time. */
    const inLog = (line: string): string =>
      (JSON.parse(line) as { msg: string }).msg.replace(/^\/[^ ]* /, '').replace(/\n.*|, \d+ steps in \d+ ms/s, '');

    it('so it does with a file of nothing but mistakes, of which the first hundred are shown and logged', async () => {
      await lab.configure(`if_list: [${'1, '.repeat(150_000)}]\n`);
      await wipe(lab);
      const { status, stderr } = await lab.kylin('--log-format', 'json', 'start');
      assert.equal(status, 65);
      assert.equal(await networkOf(lab.router), network);
      const logged = (await lab.router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '';
      for (const text of [stderr, logged])
        assert.deepEqual(
          text
            .trim()
            .split('\n')
            .slice(-103)
            .filter((_, n) => n === 0 || n > 98)
            .map((line) => inLog(line)),
          [
            'if_list[0]: must be a mapping with the keys ipaddr, prefix, …; is 1',
            'if_list[99]: must be a mapping with the keys ipaddr, prefix, …; is 1',
            'and 149900 more: kylin-vr check --json has them all',
            'the last good configuration stays in force',
            'start: failed',
          ],
        );
      for (const command of [['plan'], ['status'], ['eip', 'list'], ['log', '-n', '1']]) {
        const shown = await lab.kylin(...command);
        assert.match(
          `${shown.stdout}${shown.stderr}`,
          /^ *error: and 149900 more: kylin-vr check --json has them all$/m,
          command.join(' '),
        );
      }
    });

    for (const trigger of ['udev', 'timer'])
      it(`a run by ${trigger} with a bad file repairs the last good one and ends 65`, async () => {
        await wipe(lab);
        const { status } = await lab.kylin('reload', '--trigger', trigger);
        assert.equal(status, 65);
        assert.equal(await networkOf(lab.router), network);
      });

    it('an explicit reload with a bad file repairs nothing', async () => {
      await wipe(lab);
      const wiped = await networkOf(lab.router);
      const { status } = await lab.kylin('reload');
      assert.equal(status, 65);
      assert.equal(await networkOf(lab.router), wiped);
    });

    it('a file that is still being written is no order for an automatic run, and one for an explicit reload', async () => {
      const writer = lab.router.spawn([
        'sh',
        '-c',
        `n=100; while :; do n=$((n + 1)); sed "s/10.90.2.250/10.90.2.$n/" /run/whole > /run/next; cat /run/next > ${CONFIG}; sleep 1.1; done`,
      ]);
      await lab.router.write('/run/whole', FIELD);
      try {
        const { status, stdout } = await lab.kylin('reload', '--trigger', 'udev', '--json');
        assert.deepEqual(
          [status, JSON.parse(stdout).warnings],
          [
            0,
            [
              { message: `${CONFIG} is being written: left for the next run` },
              { message: 'the last good configuration stays in force' },
            ],
          ],
        );
        assert.equal(await networkOf(lab.router), network);
      } finally {
        writer.kill();
      }
      await lab.configure(CHANGED);
      assert.equal((await lab.kylin('reload')).status, 0);
      assert.match(await networkOf(lab.router), /eth0 inet 10\.90\.2\.251\/32/);
    });

    it('an automatic run takes a new file that has come to rest', async () => {
      await lab.configure(FIELD);
      assert.equal((await lab.kylin('reload', '--trigger', 'udev')).status, 0);
      assert.equal(await networkOf(lab.router), network);
    });
  });

  describe('by owner and mode', { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab();
      await lab.configure(FIELD);
      assert.equal((await lab.kylin('reload')).status, 0);
    });
    after(() => lab?.close());

    const own = 'chown 0:0 /etc/kylin-vr $F; chmod 0700 /etc/kylin-vr; chmod 0600 $F';
    const REFUSED: [what: string, script: string, message: string][] = [
      ["another user's file", 'chown 1000 $F', `belongs to uid 1000: it must be root's (chown root ${CONFIG})`],
      [
        "another user's folder",
        'chown 1000 /etc/kylin-vr',
        "is in a folder of uid 1000: it must be root's (chown root /etc/kylin-vr)",
      ],
      [
        'a folder that others write',
        'chmod 0777 /etc/kylin-vr',
        'is in a folder that others can write: chmod 0700 /etc/kylin-vr',
      ],
      [
        'a file that others write, in a folder that they can enter',
        'chmod 0755 /etc/kylin-vr; chmod 0666 $F',
        `can be written by others than root: chmod 0600 ${CONFIG}`,
      ],
      [
        'a symbolic link',
        'mv $F /run/elsewhere; ln -s /run/elsewhere $F',
        'is a symbolic link: put the file itself there',
      ],
      [
        'a folder',
        'mv $F /run/elsewhere; mkdir $F',
        'is a folder: remove it and write a file there, or give another with --config',
      ],
    ];
    for (const [what, script, message] of REFUSED)
      it(`${what} is refused`, async () => {
        await lab.configure(CHANGED);
        await shell(lab, `F=${CONFIG}; ${own}; ${script}`);
        for (const command of ['reload', 'plan', 'status']) {
          const { status, stdout } = await lab.kylin(command, '--json');
          assert.deepEqual([status, JSON.parse(stdout).errors], [65, [{ message: `${CONFIG}: ${message}` }]]);
        }
        assert.doesNotMatch(await networkOf(lab.router), /10\.90\.2\.251/);
        await shell(lab, `F=${CONFIG}; rm -rf $F; chown 0 /etc/kylin-vr; chmod 0700 /etc/kylin-vr`);
      });

    it('the mode that the guest agent gives new files is tightened where nobody else can come, and said', async () => {
      await lab.configure(FIELD);
      await shell(lab, `chmod 0666 ${CONFIG}`);
      const { status, stdout } = await lab.kylin('reload', '--json');
      assert.deepEqual(
        [status, JSON.parse(stdout).warnings],
        [0, [{ message: `${CONFIG}: mode 0666 is too open, tightened to 0600` }]],
      );
      assert.equal(await shell(lab, `stat -c %a ${CONFIG}`), '600\n');
    });

    it('plan and status only say it', async () => {
      await shell(lab, `chmod 0666 ${CONFIG}`);
      for (const command of ['plan', 'status']) {
        const { status, stdout } = await lab.kylin(command, '--json');
        assert.deepEqual(
          [status, JSON.parse(stdout).warnings],
          [0, [{ message: `${CONFIG}: mode 0666 is too open, reload tightens it to 0600` }]],
        );
      }
      assert.equal(await shell(lab, `stat -c %a ${CONFIG}`), '666\n');
    });
  });
});

type Issue = { message: string; line?: number; column?: number; path?: string };

const inWords = ({ message, line, column, path }: Issue): string =>
  `${line === undefined ? '' : `${line}:${column}: `}${path === undefined ? '' : `${path}: `}${message}`;

/** Everything that outlives a run, except what each run writes: the last run and the log. */
const filesOf = (lab: Lab) =>
  shell(lab, 'find /etc/sysconfig /var/lib/kylin-vr -type f -printf "%p %m %T@ %i\\n" | sort');

/** As an operator who stops at nothing, or a reboot. */
const wipe = (lab: Lab) =>
  shell(
    lab,
    `
    for table in filter nat; do iptables -t $table -F; iptables -t $table -X; done
    ip address flush dev eth0; ip link set eth1 down; rm -f /etc/sysconfig/network-scripts/*`,
  );

async function shell(lab: Lab, script: string): Promise<string> {
  return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
}
