// What profiles say beside addresses: read from theirs and ours, and written into ours.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { ifcfgRenderer } from '../../src/dialects/ifcfg.ts';
import { keyfileRenderer } from '../../src/dialects/keyfile.ts';
import { keptKeys } from '../../src/machine/kept-keys.ts';
import { keysText, type ProfileKeys } from '../../src/network/profile-keys.ts';
import type { Renderer } from '../../src/network/renderer.ts';
import type { File } from '../../src/network/state.ts';
import { bind, config, desired, UPLINK } from '../network/fixtures.ts';

const ALL: ProfileKeys = {
  zone: 'drop',
  dns: ['192.0.2.53', '192.0.2.54#dns.example'],
  dnsSearch: ['a.example', '~b.example', '~.'],
  dnsOptions: ['ndots:2', 'edns0'],
  dnsPriority: -7,
};

const profile = (renderer: Renderer, keys: ProfileKeys): string =>
  desired(config({ nics: [UPLINK] }), { renderer, keys: new Map([['eth0', keys]]) }).files[0]?.content ?? '';

describe('what a profile keeps', () => {
  for (const renderer of [ifcfgRenderer, keyfileRenderer]) {
    const { name } = renderer;
    it(`${name}: is read as it was written`, () => {
      for (const keys of [ALL, {}, { zone: 'public' }, { dns: ['192.0.2.53'] }, { dnsSearch: ['a.example'] }])
        assert.deepEqual(renderer.keys(profile(renderer, keys)), { keys, left: [] });
    });

    it(`${name}: nothing is in a profile that keeps nothing`, () => {
      const [file] = desired(config({ nics: [UPLINK] }), { renderer }).files;
      assert.equal(file?.content, profile(renderer, {}));
      assert.doesNotMatch(file?.content ?? '', /zone=|^dns|DNS\d|DOMAIN/im);
    });

    it(`${name}: ours is known without its mark, theirs and that of another NIC are not`, () => {
      const unmarked = profile(renderer, ALL).replace(/^#.*\n/, '');
      assert.ok(renderer.isOurs(unmarked));
      assert.equal(renderer.isOurs(unmarked.replace(/uuid=\w/i, 'uuid=0')), false);
      assert.equal(renderer.isOurs(unmarked.replace('02:00:00:00:00:00', '02:00:00:00:00:01')), false);
    });
  }

  it('is shown in one line', () => {
    assert.equal(
      keysText(ALL),
      'zone drop, dns 192.0.2.53 192.0.2.54#dns.example, dns-search a.example ~b.example ~., dns-options ndots:2 edns0, dns-priority -7',
    );
    assert.equal(keysText({}), '');
  });

  it('keyfile: a server of IPv6, with which NetworkManager would refuse it, is left, and said', () => {
    const found = { keys: { dns: ['2001:db8::53', '192.0.2.53', '2001:db8::54'] }, left: ['zone $Z'] };
    assert.deepEqual(keyfileRenderer.keepable?.(found), {
      keys: { dns: ['192.0.2.53'] },
      left: ['zone $Z', 'dns 2001:db8::53 2001:db8::54'],
    });
    assert.deepEqual(keyfileRenderer.keepable?.({ keys: { dns: ['2001:db8::53'] }, left: [] }), {
      keys: {},
      left: ['dns 2001:db8::53'],
    });
  });

  it('ifcfg: a resolver that initscripts are to set up is not said to be left alone', () => {
    assert.match(profile(ifcfgRenderer, { zone: 'drop' }), /^PEERDNS=no$/m);
    assert.doesNotMatch(profile(ifcfgRenderer, { dns: ['192.0.2.53'] }), /PEERDNS/);
  });
});

describe('what is taken from theirs: a keyfile', () => {
  const cases: [string, string, ReturnType<Renderer['keys']>][] = [
    [
      'as NetworkManager writes it',
      '[connection]\nid=x\nzone=work\n[ipv4]\ndns=192.0.2.53;192.0.2.54;\ndns-search=a.example;\ndns-options=rotate;\ndns-priority=50\nmethod=auto\n',
      {
        keys: {
          zone: 'work',
          dns: ['192.0.2.53', '192.0.2.54'],
          dnsSearch: ['a.example'],
          dnsOptions: ['rotate'],
          dnsPriority: 50,
        },
        left: [],
      },
    ],
    [
      'with what it says of IPv6, each once',
      '[ipv4]\ndns=192.0.2.53\ndns-search=a.example\n[ipv6]\ndns=2001:db8::53;\ndns-search=b.example;a.example;\n',
      { keys: { dns: ['192.0.2.53', '2001:db8::53'], dnsSearch: ['a.example', 'b.example'] }, left: [] },
    ],
    ['not of another section', '[user]\nzone=work\n[proxy]\ndns=192.0.2.53\n', { keys: {}, left: [] }],
    ['not in a comment', '[connection]\n#zone=work\n', { keys: {}, left: [] }],
    ['an empty one', '[connection]\nzone=\n[ipv4]\ndns=\ndns=;\n', { keys: {}, left: [] }],
    [
      'what is no zone, server, domain, option or number',
      '[connection]\nzone=a b\n[ipv4]\ndns=192.0.2.256;example;192.0.2.53;\ndns-search=a..;$(x);a.example;\ndns-options=a b;\ndns-priority=much\n',
      {
        keys: { dns: ['192.0.2.53'], dnsSearch: ['a.example'] },
        left: ['zone a b', 'dns 192.0.2.256 example', 'dns-search a.. $(x)', 'dns-options a b', 'dns-priority much'],
      },
    ],
  ];
  for (const [name, text, expected] of cases)
    it(name, () => {
      assert.deepEqual(keyfileRenderer.keys(text), expected);
    });

  it('of a list without end the first ones, in a bounded message', () => {
    const servers = Array.from({ length: 100_000 }, (_, n) => `192.0.${n >> 8}.${n & 255}`);
    const { keys, left } = keyfileRenderer.keys(
      `[connection]\nzone=${'z'.repeat(1_000_000)}\n[ipv4]\ndns=${servers.join(';')}\n`,
    );
    assert.deepEqual(keys, { dns: servers.slice(0, 32) });
    assert.match(left.join('\n'), /^zone z{60}…\ndns 192\.0\.0\.32 192\.0\.0\.33 192\.0\.0\.34 and \d+ more$/);
  });
});

describe('what is taken from theirs: an ifcfg file, which is a shell script', () => {
  const taken = (text: string): ProfileKeys => ifcfgRenderer.keys(text).keys;
  const PLAIN: [text: string, keys: ProfileKeys][] = [
    ['ZONE=work\n', { zone: 'work' }],
    ['ZONE="work"\n', { zone: 'work' }],
    ["ZONE='work' # ours\n", { zone: 'work' }],
    ['ZONE=drop\nZONE=work\n', { zone: 'work' }],
    ['  ZONE=work\n', { zone: 'work' }],
    ['ZONE=\n', {}],
    ['ZONE=work\nZONE=\n', {}],
    ['#ZONE=work\n', {}],
    ['DNS1=192.0.2.53#dns.example\n', { dns: ['192.0.2.53#dns.example'] }],
    ['DOMAIN="a.example b.example"\n', { dnsSearch: ['a.example', 'b.example'] }],
    ['RES_OPTIONS="ndots:2  edns0"\n', { dnsOptions: ['ndots:2', 'edns0'] }],
    ['IPV4_DNS_PRIORITY=-5\n', { dnsPriority: -5 }],
  ];
  for (const [text, keys] of PLAIN)
    it(JSON.stringify(text), () => {
      assert.deepEqual(ifcfgRenderer.keys(text), { keys, left: [] });
      const [value = ''] = Object.values(keys);
      const name = /[A-Z]\w+(?==)/.exec(text)?.[0] ?? '';
      assert.deepEqual(valueIn(text, name).split(/ +/), [value].flat().map(String), 'what bash has');
    });

  it('servers by their number, those of IPv6 too', () => {
    assert.deepEqual(taken('DNS10=192.0.2.10\nDNS2=192.0.2.2\nDNS1=2001:db8::53\n'), {
      dns: ['2001:db8::53', '192.0.2.2', '192.0.2.10'],
    });
  });

  it('with the ends of lines of another system', () => {
    assert.deepEqual(taken('ZONE=work\r\nDNS1="192.0.2.53"\r\n'), { zone: 'work', dns: ['192.0.2.53'] });
  });

  for (const word of [
    '$HOME',
    '$(id)',
    '`id`',
    '"work$X"',
    '"wo\\rk"',
    'wo\\rk',
    'work;id',
    'work&',
    'work|id',
    'work>x',
    '"work',
    "'work",
    '"wo"rk',
    '(work)',
    'work id',
    '~root',
    '{a,b}',
    '-work',
    'wörk',
    'wo\u0000rk',
    'wo\u001brk',
    'wo\u2028rk',
    '"work\u0007"',
  ])
    it(`nothing, where it is ${JSON.stringify(word)}; it is said`, () => {
      for (const [key, name] of [
        ['ZONE', 'zone'],
        ['DNS1', 'dns'],
        ['IPV4_DNS_PRIORITY', 'dns-priority'],
      ]) {
        const { keys, left } = ifcfgRenderer.keys(`ZONE=drop\n${key}=${word}\n`);
        assert.deepEqual(keys, key === 'ZONE' ? {} : { zone: 'drop' });
        assert.equal(left.length, 1);
        assert.ok(left[0]?.startsWith(`${name} `), left[0]);
      }
    });

  it('of a list that is more than plain text nothing', () => {
    assert.deepEqual(ifcfgRenderer.keys('DOMAIN="a.example $(id) b.example"\nRES_OPTIONS=rotate id\n'), {
      keys: {},
      left: ['dns-search "a.example $(id) b.example"', 'dns-options rotate id'],
    });
  });

  it('written into ours, they mean to bash what they say, and run nothing', () => {
    const text = profile(ifcfgRenderer, ALL);
    const said = ['ZONE', 'DNS1', 'DNS2', 'DOMAIN', 'RES_OPTIONS', 'IPV4_DNS_PRIORITY'].map((key) =>
      valueIn(text, key),
    );
    assert.deepEqual(said, [
      'drop',
      '192.0.2.53',
      '192.0.2.54#dns.example',
      'a.example ~b.example ~.',
      'ndots:2 edns0',
      '-7',
    ]);
  });
});

describe('of several profiles for a NIC', () => {
  const FOLDERS = { ifcfg: '/etc/sysconfig/network-scripts', keyfile: '/etc/NetworkManager/system-connections' };
  const ifcfg = (name: string, ...lines: string[]): File => ({
    path: `${FOLDERS.ifcfg}/ifcfg-${name}`,
    content: `${['HWADDR=02:00:00:00:00:00', ...lines].join('\n')}\n`,
    mode: 0o644,
  });
  const keyfile = (name: string, ...lines: string[]): File => ({
    path: `${FOLDERS.keyfile}/${name}.nmconnection`,
    content: `${['[connection]', 'type=ethernet', 'interface-name=eth0', ...lines].join('\n')}\n`,
    mode: 0o600,
  });
  const ours = (renderer: Renderer, keys: ProfileKeys): File =>
    desired(config({ nics: [UPLINK] }), { renderer, keys: new Map([['eth0', keys]]) }).files[0] as File;
  const zoneOf = (files: readonly File[], renderer: Renderer = keyfileRenderer) =>
    keptKeys(files, bind(config({ nics: [UPLINK] })).bound, renderer).keys.get('eth0')?.zone;

  const cases: [string, File[], string | undefined][] = [
    [
      'the one with the highest priority',
      [keyfile('a', 'zone=a'), keyfile('b', 'zone=b', 'autoconnect-priority=5')],
      'b',
    ],
    [
      'not one that nobody activates at boot',
      [keyfile('a', 'zone=a', 'autoconnect=false'), keyfile('b', 'zone=b')],
      'b',
    ],
    [
      'likewise of ifcfg files',
      [ifcfg('a', 'ZONE=a', 'ONBOOT=no'), ifcfg('b', 'ZONE=b'), ifcfg('c', 'ZONE=c', 'AUTOCONNECT_PRIORITY=9')],
      'c',
    ],
    ['the only one that says anything', [ifcfg('a', 'AUTOCONNECT_PRIORITY=9'), keyfile('b', 'zone=b')], 'b'],
    [
      'ours, whatever theirs say',
      [keyfile('a', 'zone=a', 'autoconnect-priority=999'), ours(keyfileRenderer, {})],
      undefined,
    ],
    [
      'of ours the one that we write',
      [ours(ifcfgRenderer, { zone: 'old' }), ours(keyfileRenderer, { zone: 'new' })],
      'new',
    ],
    ['of ours the only one', [ours(ifcfgRenderer, { zone: 'old' })], 'old'],
    ['not one of another NIC', [ifcfg('a', 'ZONE=a', 'HWADDR=02:00:00:00:00:01')], undefined],
    [
      'ours without its mark',
      [
        keyfile('a', 'zone=a'),
        { ...ours(keyfileRenderer, {}), content: ours(keyfileRenderer, { zone: 'new' }).content.replace(/^#.*\n/, '') },
      ],
      'new',
    ],
  ];
  for (const [name, files, zone] of cases)
    it(name, () => {
      assert.equal(zoneOf(files), zone);
      assert.equal(zoneOf(files.toReversed()), zone);
    });
});

/** What bash has in a variable once it has sourced the text. */
function valueIn(text: string, name: string): string {
  const script = `set -e; . <(cat); printf %s "\${!1}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', script, 'bash', name], {
    input: text,
    encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout;
}
