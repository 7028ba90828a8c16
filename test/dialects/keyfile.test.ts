// The keyfiles of a router with one of everything, compared whole. UPDATE_GOLDEN=1 rewrites them: review the difference as code.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import { keyfileRenderer } from '../../src/dialects/keyfile.ts';
import { isOurFile } from '../../src/network/state.ts';
import { config, desired, link, UPLINK } from '../network/fixtures.ts';
import { FULL_ROUTER } from '../network/full-router.ts';

const GOLDEN = join(import.meta.dirname, 'golden/keyfile');
const { files } = desired(FULL_ROUTER, { renderer: keyfileRenderer });

describe('keyfiles', () => {
  it('are these, and no others', () => {
    if (process.env.UPDATE_GOLDEN) {
      rmSync(GOLDEN, { recursive: true, force: true });
      mkdirSync(GOLDEN, { recursive: true });
      for (const { path, content } of files) writeFileSync(join(GOLDEN, basename(path)), content);
    }
    const golden = readdirSync(GOLDEN)
      .sort()
      .map((name) => [
        `/etc/NetworkManager/system-connections/${name}`,
        readFileSync(join(GOLDEN, name), 'utf8'),
        0o600,
      ]);
    assert.deepEqual(files.map(({ path, content, mode }) => [path, content, mode]).sort(), golden);
  });

  it('are known again as ours, as profiles, and by their NIC', () => {
    for (const { path, content } of files) {
      assert.ok(isOurFile(content));
      assert.ok(keyfileRenderer.isProfile(basename(path)));
      assert.match(keyfileRenderer.claim(basename(path), content)?.mac ?? '', /^02:00:00:00:00:0\d$/);
    }
  });

  it('follow the name of the device, and keep their UUID', () => {
    const nics = [UPLINK];
    const [before] = desired(config({ nics }), { renderer: keyfileRenderer }).files;
    const links = [link('lan0', { mac: UPLINK.mac })];
    const [after] = desired(config({ nics }), { renderer: keyfileRenderer, links }).files;
    assert.equal(after?.path, before?.path.replace('eth0', 'lan0'));
    assert.equal(after?.content, before?.content.replaceAll('eth0', 'lan0'));
  });
});

describe('what a keyfile is for', () => {
  const ETHERNET = '[connection]\ntype=ethernet\n';
  const claims: [string, string, ReturnType<typeof keyfileRenderer.claim>][] = [
    ['its interface-name', `${ETHERNET}interface-name=eth1\n`, { device: 'eth1' }],
    ['its MAC, in lower case', `${ETHERNET}[ethernet]\nmac-address=02:00:00:00:00:AB\n`, { mac: '02:00:00:00:00:ab' }],
    [
      'both, under the old names of the sections',
      '[connection]\ntype = 802-3-ethernet\ninterface-name = eth1\n[802-3-ethernet]\nmac-address = 02:00:00:00:00:ab\n',
      { mac: '02:00:00:00:00:ab', device: 'eth1' },
    ],
    ['none in particular', ETHERNET, undefined],
    ['not one in a comment', `${ETHERNET}#interface-name=eth1\n`, undefined],
    ['not one of another section', `${ETHERNET}[user]\ninterface-name=eth1\n`, undefined],
    ['no NIC: a bridge of that name', '[connection]\ntype=bridge\ninterface-name=eth1\n', undefined],
  ];
  for (const [name, content, expected] of claims)
    it(name, () => {
      assert.deepEqual(keyfileRenderer.claim('x.nmconnection', content), expected);
    });

  const names: [string, boolean][] = [
    ['kylin-vr-eth0.nmconnection', true],
    ['Wired connection 1', true],
    ['eth0.nmconnection.bak', true],
    ['eth0.nmconnection~', false],
    ['.eth0.nmconnection', false],
    ['eth0.nmconnection.A1b2C3', false],
    ['ca.pem', false],
    ['.kylin-vr-eth0.nmconnection.12345678.kylin-vr-new', false],
  ];
  for (const [name, expected] of names)
    it(`${name} is ${expected ? 'read as a profile' : 'not read'}`, () => {
      assert.equal(keyfileRenderer.isProfile(name), expected);
    });
});
