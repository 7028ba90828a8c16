import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { closeCalls, NEEDED_CALLS, openCalls } from '../../src/dialects/qemu-ga.ts';

const ALL = [...NEEDED_CALLS];
const FILE_CALLS = ALL.filter((call) => call.startsWith('guest-file-'));

const HEAD = `# This is a systemd environment file, not a shell script.
# It provides settings for "/lib/systemd/system/qemu-guest-agent.service".

# Comma-separated blacklist of RPCs to disable, or empty list to enable all.
#
# You can get the list of RPC commands using "qemu-ga --blacklist='?'".
# There should be no spaces between commas and commands in the blacklist.
`;
const TAIL = `
# Fsfreeze hook script specification.
#
# FSFREEZE_HOOK_PATHNAME=/dev/null           : disables the feature.
#
# FSFREEZE_HOOK_PATHNAME=/path/to/executable : enables the feature with the
# specified binary or shell script.
#
# FSFREEZE_HOOK_PATHNAME=                    : enables the feature with the
# default value (invoke "qemu-ga --help" to interrogate).
FSFREEZE_HOOK_PATHNAME=/etc/qemu-ga/fsfreeze-hook
`;
const BLOCKED =
  'guest-file-open,guest-file-close,guest-file-read,guest-file-write,guest-file-seek,guest-file-flush,guest-exec,guest-exec-status';
const ALLOWED =
  'guest-sync-delimited,guest-sync,guest-ping,guest-get-time,guest-set-time,guest-info,guest-shutdown,' +
  'guest-fsfreeze-status,guest-fsfreeze-freeze,guest-fsfreeze-freeze-list,guest-fsfreeze-thaw,guest-fstrim,' +
  'guest-network-get-interfaces,guest-get-vcpus,guest-set-vcpus,guest-get-fsinfo,guest-set-user-password,guest-get-osinfo';
const EL9_HEAD = `# This is a systemd environment file, not a shell script.
# FILTER_RPC_ARGS="--block-rpcs=guest-exec,guest-exec-status"
`;

const samples: { name: string; before: string; after: string; opened: readonly string[] }[] = [
  {
    name: 'EL 7 and 8: a block-list of exactly what we need',
    before: `${HEAD}BLACKLIST_RPC=${BLOCKED}\n${TAIL}`,
    after: `${HEAD}BLACKLIST_RPC=\n${TAIL}`,
    opened: ALL,
  },
  {
    name: 'EL 8: other calls that are blocked stay blocked',
    before: `${HEAD}BLACKLIST_RPC=guest-set-user-password,${BLOCKED},guest-shutdown\n${TAIL}`,
    after: `${HEAD}BLACKLIST_RPC=guest-set-user-password,guest-shutdown\n${TAIL}`,
    opened: ALL,
  },
  {
    name: 'a call whose name begins like ours is another call',
    before: 'BLACKLIST_RPC=guest-exec-other,guest-exec\n',
    after: 'BLACKLIST_RPC=guest-exec-other\n',
    opened: ['guest-exec'],
  },
  {
    name: 'quotes stay',
    before: 'BLACKLIST_RPC="guest-exec,guest-ping"\nBLOCK_RPCS=\'guest-exec\'\n',
    after: 'BLACKLIST_RPC="guest-ping"\nBLOCK_RPCS=\'\'\n',
    opened: ['guest-exec'],
  },
  {
    name: 'an old one with spaces',
    before: 'BLACKLIST_RPC="guest-file-open guest-ping guest-file-flush guest-info"\n',
    after: 'BLACKLIST_RPC="guest-ping guest-info"\n',
    opened: ['guest-file-open', 'guest-file-flush'],
  },
  {
    name: 'EL 9, earlier: BLOCK_RPCS',
    before: `BLOCK_RPCS=${BLOCKED}\n`,
    after: 'BLOCK_RPCS=\n',
    opened: ALL,
  },
  {
    name: 'EL 9 and 10: an allow-list; the comment that names guest-exec is no list',
    before: `${EL9_HEAD}FILTER_RPC_ARGS="--allow-rpcs=${ALLOWED}"\n${TAIL}`,
    after: `${EL9_HEAD}FILTER_RPC_ARGS="--allow-rpcs=${ALLOWED},${ALL.join(',')}"\n${TAIL}`,
    opened: ALL,
  },
  {
    name: 'EL 10: an allow-list that has some of them',
    before: `FILTER_RPC_ARGS="--allow-rpcs=guest-ping,guest-exec,guest-file-open"\n`,
    after: `FILTER_RPC_ARGS="--allow-rpcs=guest-ping,guest-exec,guest-file-open,${ALL.filter((call) => call !== 'guest-exec' && call !== 'guest-file-open').join(',')}"\n`,
    opened: ALL.filter((call) => call !== 'guest-exec' && call !== 'guest-file-open'),
  },
  {
    name: 'openSUSE: a block-list as an option',
    before: 'FILTER_RPC_ARGS="--block-rpcs=guest-exec,guest-exec-status"\n',
    after: 'FILTER_RPC_ARGS="--block-rpcs="\n',
    opened: ['guest-exec', 'guest-exec-status'],
  },
  {
    name: 'both kinds of options in one line, other options between them',
    before: `DAEMON_ARGS="--verbose --block-rpcs=${FILE_CALLS.join(',')} -l /var/log/qga.log --blacklist guest-exec,guest-ping"\n`,
    after: 'DAEMON_ARGS="--verbose --block-rpcs= -l /var/log/qga.log --blacklist guest-ping"\n',
    opened: [...FILE_CALLS, 'guest-exec'],
  },
  {
    name: 'Debian: the short option',
    before: 'DAEMON_ARGS="-b guest-exec,guest-info -v"\n',
    after: 'DAEMON_ARGS="-b guest-info -v"\n',
    opened: ['guest-exec'],
  },
  {
    name: 'qemu-ga.conf',
    before:
      '[general]\nverbose = 1\nblock-rpcs = guest-exec,guest-info\n# blacklist = guest-exec\nallow-rpcs=guest-ping\n',
    after: `[general]\nverbose = 1\nblock-rpcs = guest-info\n# blacklist = guest-exec\nallow-rpcs=guest-ping,${ALL.join(',')}\n`,
    opened: ALL,
  },
  {
    name: 'carriage returns, and no newline at the end',
    before: 'A=1\r\nBLACKLIST_RPC=guest-exec,guest-ping\r\nB=2',
    after: 'A=1\r\nBLACKLIST_RPC=guest-ping\r\nB=2',
    opened: ['guest-exec'],
  },
];

describe('opening the calls that the host needs', () => {
  for (const { name, before, after, opened } of samples) {
    it(name, () => assert.deepEqual(openCalls(before), { text: after, opened: [...opened] }));
    it(`${name}: once is enough`, () => assert.deepEqual(openCalls(after), { text: after, opened: [] }));
  }

  const untouched: [string, string][] = [
    ['an empty file', ''],
    ['an empty block-list, which forbids nothing', `${HEAD}BLACKLIST_RPC=\n${TAIL}`],
    ['an empty allow-list, which is none', 'FILTER_RPC_ARGS="--allow-rpcs="\nFILTER_RPC_ARGS=""\n'],
    ['comments', '# BLACKLIST_RPC=guest-exec\n; block-rpcs = guest-exec\n'],
    ['other settings', 'PATHNAME=/usr/bin/guest-exec\nNOTE="guest-exec, --block"\nX--block-rpcs=guest-exec\n'],
    ["Debian's own file", '# Options for the QEMU guest agent\n#DAEMON_ARGS="-l /var/log/qemu-ga.log -v"\n'],
  ];
  for (const [name, text] of untouched)
    it(`leaves alone ${name}`, () => assert.deepEqual(openCalls(text), { text, opened: [] }));
});

describe('closing them again in a file that was edited since', () => {
  const calls = (text: string) => [...text.matchAll(/guest-[a-z-]+/g)].map(([call]) => call).sort();

  for (const { name, before, after } of samples)
    it(`${name}: the same calls are forbidden as before, and the edit stays`, () => {
      const closed = closeCalls(`NEW=1\n${after}`, before);
      assert.ok(closed.startsWith('NEW=1\n'));
      assert.deepEqual(calls(closed), calls(before));
      assert.deepEqual(openCalls(closed).opened, openCalls(before).opened);
    });

  it('a call that the operator blocked himself stays blocked, once', () => {
    const before = 'BLACKLIST_RPC=guest-exec,guest-ping\n';
    assert.equal(
      closeCalls('BLACKLIST_RPC=guest-ping,guest-info,guest-exec\n', before),
      'BLACKLIST_RPC=guest-ping,guest-info,guest-exec\n',
    );
  });
});
