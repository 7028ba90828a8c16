// What 0.1 and 1.0 put into sysctl.d, whose files others read again on a machine at work: it goes, and nothing else.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { digest } from '../../src/installation/plan.ts';
import { COMMENT, OLD_SETTINGS, OURS, withoutOldSettings } from '../../src/installation/settings.ts';
import { contentOf, FILES } from '../../src/installation/tree.ts';
import { type Files, imageOf, program, put, run, SETTINGS_OF_1_0, snapshot } from './image.ts';

const BELOW_USR = '/usr/lib/sysctl.d/90-kylin-vr.conf';
const IN_ETC = '/etc/sysctl.d/90-kylin-vr.conf';
const OF_0_1 = '/etc/sysctl.d/kylin-vr.conf';
const SETTINGS = SETTINGS_OF_1_0.replace(/^#.*\n/gm, '');
const RECORD = '/var/lib/kylin-vr/installed.json';

describe('the text without the old settings', () => {
  const theirs = '# mine\nnet.ipv4.ip_forward = 0\nnet.ipv6.conf.eth0.disable_ipv6 = 1\nnet.core.somaxconn = 4096\n';
  for (const [name, text, left] of [
    ['of 1.0', SETTINGS_OF_1_0, ''],
    ['of 0.1', SETTINGS, ''],
    ['without spaces, with the line ends of another system', SETTINGS.replaceAll(' ', '').replaceAll('\n', '\r\n'), ''],
    ['with lines of an operator around', `${theirs}${SETTINGS_OF_1_0}${theirs}`, `${theirs}${theirs}`],
    [
      'of which he has changed some',
      SETTINGS_OF_1_0.replace('default.disable_ipv6 = 1', 'default.disable_ipv6 = 0'),
      'net.ipv6.conf.default.disable_ipv6 = 0\n',
    ],
    ['that is his alone', theirs, theirs],
    ['that is empty', '', ''],
    ['that is blank', '\n', '\n'],
    ['with ours in a comment', `#${SETTINGS}`, '#net.ipv4.ip_forward = 1\n'],
  ] as const)
    it(name, () => assert.equal(withoutOldSettings(text), left));

  it('a package takes out the same', () => {
    const script = readFileSync(join(import.meta.dirname, '../../packaging/scripts/after.sh'), 'utf8');
    for (const { source } of [OURS, COMMENT]) assert.ok(script.includes(`'${source}'`), source);
  });
});

describe('install', () => {
  it('puts nothing into sysctl.d', async (t) => {
    const root = imageOf(t);
    await run(['install', '--root', root], { program });
    assert.equal(existsSync(join(root, '/usr/lib/sysctl.d')), false);
    assert.deepEqual(
      FILES.filter(({ path }) => path.includes('sysctl')),
      [],
    );
  });

  it('takes the file of 1.0 away, and uninstall does not bring it back', async (t) => {
    const root = await installedBy1_0(t);
    const { stdout, stderr } = await run(['install', '--root', root], { program });
    assert.ok(
      stdout.includes(`- file ${BELOW_USR} (kylin-vr start sets ip_forward and disable_ipv6)\n`),
      stdout + stderr,
    );
    assert.equal(existsSync(join(root, BELOW_USR)), false);
    assert.match((await run(['install', '--root', root], { program })).stdout, /^install: unchanged/);
    const ended = await run(['uninstall', '--root', root]);
    assert.doesNotMatch(ended.stderr, /sysctl\.d/);
    assert.equal(existsSync(join(root, BELOW_USR)), false);
  });

  it('one that was edited keeps the lines of the operator, also when we go', async (t) => {
    const root = await installedBy1_0(t);
    put(root, BELOW_USR, { content: `${SETTINGS_OF_1_0}# mine: \xe9\nvm.swappiness = 10\n`, mode: 0o600 });
    const { stdout } = await run(['install', '--root', root], { program });
    assert.ok(stdout.includes(`~ file ${BELOW_USR} (kylin-vr start sets ip_forward and disable_ipv6)\n`), stdout);
    const left = `-0600 ${BELOW_USR} ${JSON.stringify('# mine: \xe9\nvm.swappiness = 10\n')}`;
    assert.ok(snapshot(root).includes(left));
    assert.match((await run(['install', '--root', root], { program })).stdout, /^install: unchanged/);
    const ended = await run(['uninstall', '--root', root]);
    assert.doesNotMatch(ended.stdout + ended.stderr, /sysctl\.d/);
    assert.ok(snapshot(root).includes(left));
  });

  it('so do copies of it in /etc, and the file of 0.1; what is none of ours is not touched', async (t) => {
    const theirs = 'net.ipv6.conf.all.disable_ipv6 = 0\n';
    const root = imageOf(t, {
      [IN_ETC]: theirs + SETTINGS_OF_1_0,
      [OF_0_1]: SETTINGS + theirs,
      '/etc/sysctl.d/99-sysctl.conf': SETTINGS,
    });
    await run(['install', '--root', root], { program });
    for (const [path, text] of [
      [IN_ETC, theirs],
      [OF_0_1, theirs],
      ['/etc/sysctl.d/99-sysctl.conf', SETTINGS],
    ] as const)
      assert.equal(readFileSync(join(root, path), 'utf8'), text, path);

    const masked = imageOf(t, { '/etc/sysctl.d/other.conf': '' });
    symlinkSync('/dev/null', join(masked, IN_ETC));
    const { stdout, stderr } = await run(['install', '--root', masked], { program });
    assert.doesNotMatch(stdout + stderr, /sysctl\.d/);
  });
});

/** With a record as 1.0 left it. */
async function installedBy1_0(t: TestContext, files: Files = {}): Promise<string> {
  const root = imageOf(t, files);
  await run(['install', '--root', root], { program });
  put(root, BELOW_USR, SETTINGS_OF_1_0);
  const { changes } = JSON.parse(readFileSync(join(root, RECORD), 'utf8'));
  const left = digest({ kind: 'file', content: contentOf(SETTINGS_OF_1_0), mode: 0o644 });
  changes.push({ path: BELOW_USR, before: { kind: 'absent' }, left });
  put(root, RECORD, { content: JSON.stringify({ changes }), mode: 0o600 });
  return root;
}

it('every old place is one that a record may name', async (t) => {
  for (const path of OLD_SETTINGS) {
    const root = imageOf(t, {
      [RECORD]: JSON.stringify({ changes: [{ path, before: { kind: 'absent' }, left: '0'.repeat(64) }] }),
    });
    assert.equal((await run(['install', '--root', root], { program })).status, 0, path);
  }
});
