// The files of a router with one of everything, compared whole. UPDATE_GOLDEN=1 rewrites them: review the difference as code.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import { ifcfgRenderer } from '../../src/dialects/ifcfg.ts';
import { isOurFile } from '../../src/network/state.ts';
import { config, desired, UPLINK } from '../network/fixtures.ts';
import { FULL_ROUTER } from '../network/full-router.ts';

const GOLDEN = join(import.meta.dirname, 'golden/ifcfg');
const { files } = desired(FULL_ROUTER, { renderer: ifcfgRenderer });

/** What bash has in these variables once it has sourced the text. */
function sourced(text: string, names: readonly string[]): Record<string, string> {
  const script = `set -eu; . <(cat); for name in ${names.join(' ')}; do echo "$name=\${!name}"; done`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { input: text, encoding: 'utf8' });
  assert.deepEqual([status, stderr], [0, '']);
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split('=')),
  );
}

describe('ifcfg files', () => {
  it('are these, and no others', () => {
    if (process.env.UPDATE_GOLDEN) {
      rmSync(GOLDEN, { recursive: true, force: true });
      mkdirSync(GOLDEN, { recursive: true });
      for (const { path, content } of files) writeFileSync(join(GOLDEN, basename(path)), content);
    }
    const golden = readdirSync(GOLDEN)
      .sort()
      .map((name) => [`/etc/sysconfig/network-scripts/${name}`, readFileSync(join(GOLDEN, name), 'utf8'), 0o644]);
    assert.deepEqual(files.map(({ path, content, mode }) => [path, content, mode]).sort(), golden);
  });

  it('are known again as ours, and as profiles', () => {
    assert.deepEqual(
      files.filter(({ content }) => !isOurFile(content)),
      [],
    );
    assert.deepEqual(
      files.filter(({ path }) => !ifcfgRenderer.isProfile(basename(path))),
      [],
    );
  });

  it('mean to bash, which sources them, what they say', () => {
    for (const { path, content } of files.filter(({ path }) => basename(path).startsWith('ifcfg-'))) {
      const lines = content.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      const said = Object.fromEntries(lines.map((line) => line.split('=')));
      assert.deepEqual(sourced(content, Object.keys(said)), said, path);
    }
  });

  it('run nothing when bash sources them, whatever the label of a NIC', () => {
    const nics = [{ ...UPLINK, name: 'x; echo HACKED >&2' }];
    const [file] = desired(config({ nics }), { renderer: ifcfgRenderer }).files;
    assert.equal(sourced(file?.content ?? '', ['DEVICE']).DEVICE, 'eth0');
  });

  it('count their addresses without a gap: readers stop at the first', () => {
    const uplink = files.find(({ path }) => path.endsWith('ifcfg-eth0'))?.content ?? '';
    const keys = [...uplink.matchAll(/^IPADDR(\d*)=/gm)].map((match) => match[1]);
    assert.deepEqual(keys, ['', '1', '2', '3', '4', '5', '6']);
    for (const key of ['ARPCHECK', 'ARPUPDATE'])
      assert.deepEqual(
        [...uplink.matchAll(new RegExp(`^${key}(\\d*)=no$`, 'gm'))].map((match) => match[1]),
        keys,
      );
  });
});

describe('what ifup-eth of initscripts makes of a file', () => {
  // As it reads it: the file is sourced, then IPADDR1 to IPADDR255 are added, up to the first that is empty.
  const IFUP = `set -u; . <(cat)
    echo "$IPADDR/$PREFIX \${ARPCHECK:-} \${ARPUPDATE:-}"
    for idx in {1..255}; do
      ipaddr=IPADDR$idx prefix=PREFIX$idx arpcheck=ARPCHECK$idx arpupdate=ARPUPDATE$idx
      [ -n "\${!ipaddr:-}" ] || break
      echo "\${!ipaddr}/\${!prefix} \${!arpcheck:-} \${!arpupdate:-}"
    done`;

  it('every address, with its prefix, and none of them probed or announced', () => {
    const eips = Array.from({ length: 300 }, (_, n) => ({ eip: `198.18.${n >> 8}.${n & 255}`, vmIp: '192.0.2.5' }));
    const wanted = desired(config({ eips }), { renderer: ifcfgRenderer });
    for (const { path, content } of wanted.files.filter(({ path }) => basename(path).startsWith('ifcfg-'))) {
      const input = { input: content, encoding: 'utf8' } as const;
      const { stdout, stderr } = spawnSync('bash', ['-c', IFUP], input);
      const device = basename(path).replace('ifcfg-', '');
      const specs = wanted.addresses.filter((address) => address.device === device).map(({ spec }) => `${spec} no no`);
      assert.deepEqual([stdout.trim().split('\n'), stderr], [specs.slice(0, 256), '']);
    }
  });
});

describe('what a profile is for', () => {
  const claims: [string, string, string, ReturnType<typeof ifcfgRenderer.claim>][] = [
    ['its DEVICE', 'ifcfg-office', 'DEVICE=eth1\n', { device: 'eth1' }],
    ['its HWADDR, in lower case', 'ifcfg-office', 'HWADDR="02:00:00:00:00:AB"\n', { mac: '02:00:00:00:00:ab' }],
    [
      'both',
      'ifcfg-x',
      "DEVICE='eth1'\nHWADDR=02:00:00:00:00:ab # ours\n",
      { mac: '02:00:00:00:00:ab', device: 'eth1' },
    ],
    ['the NIC in its name where it names none', 'ifcfg-eth1', 'ONBOOT=yes\n', { device: 'eth1' }],
    ['the NIC in its name where DEVICE is empty', 'ifcfg-eth1', 'DEVICE=\n', { device: 'eth1' }],
    ['the last DEVICE, as the shell has it', 'ifcfg-x', 'DEVICE=eth1\nDEVICE=eth2\n', { device: 'eth2' }],
    ['not one in a comment', 'ifcfg-eth1', '#DEVICE=eth2\n', { device: 'eth1' }],
    ['not one of another key', 'ifcfg-eth1', 'MASTERDEVICE=eth2\n', { device: 'eth1' }],
    ['with the ends of lines of another system', 'ifcfg-x', 'DEVICE=eth1\r\n', { device: 'eth1' }],
    ['an alias: the NIC before the colon', 'ifcfg-eth1:0', 'DEVICE=eth1:0\n', { device: 'eth1' }],
    ['an alias by its name alone', 'ifcfg-eth1:web', 'IPADDR=192.0.2.9\n', { device: 'eth1' }],
    ['routes: the NIC in their name', 'route-eth1', '198.18.0.0/16 via 192.0.2.9\n', { device: 'eth1' }],
  ];
  for (const [name, file, content, expected] of claims)
    it(name, () => {
      assert.deepEqual(ifcfgRenderer.claim(file, content), expected);
    });

  const names: [string, boolean][] = [
    ['ifcfg-eth0', true],
    ['ifcfg-eth0.5', true],
    ['route-eth0', true],
    ['ifup-eth0', false],
    ['route6-eth0', false],
    ['ifcfg-eth0.bak', false],
    ['ifcfg-eth0~', false],
    ['ifcfg-eth0.rpmsave', true],
    ['ifcfg-eth0.RPMNEW', false],
    ['ifcfg-eth0;5f3a9c01', false],
    ['.ifcfg-eth0.12345678.kylin-vr-new', false],
  ];
  for (const [name, expected] of names)
    it(`${name} is ${expected ? 'read as a profile' : 'not read'}`, () => {
      assert.equal(ifcfgRenderer.isProfile(name), expected);
    });
});
