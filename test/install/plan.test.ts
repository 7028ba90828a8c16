// What `install` changes of what is there, and how `uninstall` finds the way back. On trees as data.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type Change,
  digest,
  kindOf,
  obstacleOf,
  planInstall,
  planUninstall,
  type Recorded,
  recordOf,
} from '../../src/installation/plan.ts';
import { ABSENT, type TreeEntry, type Wanted } from '../../src/installation/tree.ts';

const file = (content: string, mode = 0o644): TreeEntry => ({ kind: 'file', content, mode });
const link = (target: string): TreeEntry => ({ kind: 'link', target });
const folder = (mode = 0o755): TreeEntry => ({ kind: 'folder', mode });
const observed = (entries: Readonly<Record<string, TreeEntry>>) => new Map(Object.entries(entries));
const texts = (changes: readonly Change[]) => changes.map((change) => `${kindOf(change)}: ${change.text}`);

const WANTED: Wanted[] = [
  { path: '/etc/k', entry: folder(0o700) },
  { path: '/etc/k/a.conf', entry: file('ours'), reason: 'a reason' },
  { path: '/etc/k/b', entry: link('../a') },
  { path: '/etc/old', entry: ABSENT },
];

describe('install', () => {
  it('makes what is not there, in the order in which it is wanted', () => {
    assert.deepEqual(texts(planInstall(WANTED, observed({}))), [
      'make-folder: + folder /etc/k',
      'write-file: + file /etc/k/a.conf (a reason)',
      'make-link: + link /etc/k/b → ../a',
    ]);
  });

  it('changes nothing where all is as wanted', () => {
    const there = observed({ '/etc/k': folder(0o700), '/etc/k/a.conf': file('ours'), '/etc/k/b': link('../a') });
    assert.deepEqual(planInstall(WANTED, there), []);
  });

  it('changes what is there and is another', () => {
    const there = observed({
      '/etc/k': folder(0o755),
      '/etc/k/a.conf': file('ours', 0o600),
      '/etc/k/b': link('/elsewhere'),
      '/etc/old': file('of 0.1'),
    });
    assert.deepEqual(texts(planInstall(WANTED, there)), [
      'set-mode: ~ folder /etc/k: mode 0755 → 0700',
      'write-file: ~ file /etc/k/a.conf (a reason)',
      'make-link: ~ link /etc/k/b → ../a',
      'remove-file: - file /etc/old',
    ]);
  });

  for (const [wanted, there, changes] of [
    [0o755, 0o700, 0],
    [0o755, 0o777, 0],
    [0o700, 0o500, 0],
    [0o700, 0o701, 1],
    [0o700, 0o740, 1],
  ] as const)
    it(`a folder of ${there.toString(8)} where ${wanted.toString(8)} is wanted ${changes === 0 ? 'serves' : 'is closed'}`, () => {
      const plan = planInstall([{ path: '/d', entry: folder(wanted) }], observed({ '/d': folder(there) }));
      assert.equal(plan.length, changes);
    });
});

describe('what is in the way', () => {
  const change = (from: TreeEntry, to: TreeEntry) => obstacleOf({ path: '/p', from, to, text: '' });
  for (const [what, from, to, said] of [
    ['nothing, where nothing is', ABSENT, file(''), undefined],
    ['nothing, where a file becomes a link', file(''), link('a'), undefined],
    ['nothing, where a folder gets another mode', folder(), folder(0o700), undefined],
    ['a file, for a folder', file(''), folder(), '/p is a file: it must be a folder'],
    [
      'a link, for a folder',
      link('a'),
      folder(),
      '/p is a link to a, which leads to no folder there: it must be a folder',
    ],
    ['a folder, for a file', folder(), file(''), '/p is a folder: take it away'],
    ['a folder, for nothing', folder(), ABSENT, '/p is a folder: take it away'],
    ['what is never read', { kind: 'other', what: 'is a device' }, file(''), '/p is a device: take it away'],
  ] as const)
    it(what, () => assert.equal(change(from, to), said));
});

/** As it was recorded: `was`, and then what `install` made of it. */
const recorded = (path: string, was: TreeEntry, made: TreeEntry): Recorded => ({
  path,
  before: was,
  left: digest(made),
});

describe('the record', () => {
  const step = (from: TreeEntry, to: TreeEntry, forGood?: true): Change => ({
    path: '/p',
    from,
    to,
    text: '',
    ...(forGood && { forGood }),
  });

  it('keeps what was there before the first of several changes', () => {
    const first = recordOf([step(file('theirs'), file('1.0'))], []);
    assert.deepEqual(recordOf([step(file('1.0'), file('1.1'))], first), [recorded('/p', file('theirs'), file('1.1'))]);
  });

  it('forgets a path that changed for good', () => {
    const record = [recorded('/p', file('theirs'), file('1.0')), recorded('/q', ABSENT, file('ours'))];
    assert.deepEqual(recordOf([step(file('1.0'), ABSENT, true)], record), [recorded('/q', ABSENT, file('ours'))]);
  });
});

describe('uninstall', () => {
  const back = (record: Recorded[], there: Readonly<Record<string, TreeEntry>>, keep: string[] = []) => {
    const { changes, kept } = planUninstall(record, observed(there), keep);
    return { changes: texts(changes), kept };
  };

  it('takes back the last change first', () => {
    const record = [
      recorded('/d', ABSENT, folder()),
      recorded('/d/a', ABSENT, file('ours')),
      recorded('/old', file('of 0.1'), ABSENT),
    ];
    assert.deepEqual(back(record, { '/d': folder(), '/d/a': file('ours') }), {
      changes: ['write-file: + file /old', 'remove-file: - file /d/a', 'remove-folder: - folder /d'],
      kept: [],
    });
  });

  it('goes back over what install did, whatever was there', () => {
    const before = { '/etc/k': folder(0o755), '/etc/k/a.conf': file('theirs', 0o600), '/etc/old': file('of 0.1') };
    const tree = new Map<string, TreeEntry>(Object.entries(before));
    const changes = planInstall(WANTED, tree);
    for (const { path, to } of changes) tree.set(path, to);
    assert.deepEqual(planInstall(WANTED, tree), []);
    for (const { path, to } of planUninstall(recordOf(changes, []), tree, []).changes) tree.set(path, to);
    assert.deepEqual(Object.fromEntries([...tree].filter(([, { kind }]) => kind !== 'absent')), before);
  });

  it('leaves alone, and says, what was changed since', () => {
    assert.deepEqual(back([recorded('/a', ABSENT, file('ours'))], { '/a': file('edited') }), {
      changes: [],
      kept: ['/a was changed since it was installed: left as it is, remove it if nobody needs it'],
    });
  });

  it('says nothing of what is to be kept anyway, nor of what is as it was', () => {
    const record = [recorded('/a', ABSENT, file('ours')), recorded('/b', file('theirs'), file('ours'))];
    assert.deepEqual(back(record, { '/a': file('edited'), '/b': file('theirs') }, ['/a']), { changes: [], kept: [] });
  });

  it('leaves the mode of a folder that was there, where somebody changed it since', () => {
    const record = [recorded('/d', folder(0o755), folder(0o700))];
    assert.deepEqual(back(record, { '/d': folder(0o750) }), { changes: [], kept: [] });
    assert.deepEqual(back(record, { '/d': folder(0o700) }).changes, ['set-mode: ~ folder /d: mode 0700 → 0755']);
  });

  it('closes the calls of the guest agent that it opened in a file that was edited since', () => {
    const path = '/etc/sysconfig/qemu-ga';
    const record = [recorded(path, file('BLACKLIST_RPC=guest-exec,guest-info\n'), file('BLACKLIST_RPC=guest-info\n'))];
    const now = file('BLACKLIST_RPC=guest-info\nMORE=1\n');
    const { changes, kept } = planUninstall(record, observed({ [path]: now }), []);
    assert.deepEqual(kept, []);
    assert.deepEqual(
      changes.map(({ to }) => to),
      [file('BLACKLIST_RPC=guest-info,guest-exec\nMORE=1\n')],
    );
  });
});
