import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { editConfig } from '../../src/config/edit.ts';
import { NOUNS } from '../../src/config/entries.ts';
import type { NounName } from '../../src/config/nouns.ts';
import { parseConfig } from '../../src/config/parse.ts';

const PATH = '/etc/kylin-vr/kylin-vr.yaml';
const FILE = `# the router of tenant 7
from-uplink: drop
if_list:   # two NICs
   - ipaddr: 203.0.113.37
     prefix: "24"
     mac: 52:54:84:00:08:46   # public
     gateway: 203.0.113.1

   # the web tier
   - mac: 52:54:84:11:00:AA
     ipaddr: 192.168.100.254
     prefix: 24
eip_list: # one each
- eip: 198.51.100.1
  vm_ip: 192.168.100.1 # www
# the database
- {eip: 198.51.100.2, vm_ip: 192.168.100.2}

port_forward_list:
  -
    eip: 198.51.100.9
    protocal: tcp
    port: 80
    vm-port: 8080
    vm-ip: 192.168.100.9
route_list: []   # none yet
`;

function edit(text: string, noun: NounName, verb: 'add' | 'remove', ...args: string[]): string {
  const parsed = parseConfig(text);
  assert.ok(parsed.ok);
  return editConfig(PATH, text, parsed.config, { noun, verb, args }).text;
}

/** The lines that differ, as a diff shows them. */
function changes(before: string, after: string): string[] {
  const [old, now] = [before.split('\n'), after.split('\n')];
  const start = old.findIndex((line, n) => line !== now[n]);
  if (start === -1) return [];
  let end = 0;
  while (old.length - end > start && now.length - end > start && old.at(-1 - end) === now.at(-1 - end)) end++;
  return [
    ...old.slice(start, old.length - end).map((line) => `- ${line}`),
    ...now.slice(start, now.length - end).map((line) => `+ ${line}`),
  ];
}

describe('an edit of the file', () => {
  const cases: [name: string, noun: NounName, verb: 'add' | 'remove', args: string[], diff: string[]][] = [
    [
      'adds in the indent and the spelling of the list',
      'eip',
      'add',
      ['198.51.100.3=192.168.100.3'],
      ['+ - eip: 198.51.100.3', '+   vm_ip: 192.168.100.3'],
    ],
    [
      'adds several at once',
      'eip',
      'add',
      ['198.51.100.3=192.168.100.3', '198.51.100.1=192.168.100.1', '198.51.100.4=192.168.100.4'],
      ['+ - eip: 198.51.100.3', '+   vm_ip: 192.168.100.3', '+ - eip: 198.51.100.4', '+   vm_ip: 192.168.100.4'],
    ],
    ['adds nothing that is there', 'eip', 'add', ['198.51.100.1=192.168.100.1'], []],
    [
      'removes the lines of an entry',
      'eip',
      'remove',
      ['198.51.100.1'],
      ['- - eip: 198.51.100.1', '-   vm_ip: 192.168.100.1 # www'],
    ],
    [
      'removes the comment directly above with it',
      'eip',
      'remove',
      ['198.51.100.2=192.168.100.2'],
      ['- # the database', '- - {eip: 198.51.100.2, vm_ip: 192.168.100.2}'],
    ],
    ['removes nothing that is not there', 'eip', 'remove', ['198.51.100.77'], []],
    [
      'leaves [] where the last entry goes',
      'forward',
      'remove',
      ['198.51.100.9:80/tcp'],
      [
        '- port_forward_list:',
        '-   -',
        '-     eip: 198.51.100.9',
        '-     protocal: tcp',
        '-     port: 80',
        '-     vm-port: 8080',
        '-     vm-ip: 192.168.100.9',
        '+ port_forward_list: []',
      ],
    ],
    [
      'adds a range',
      'forward',
      'add',
      ['198.51.100.9:5000-5010/udp=192.168.100.9:6000'],
      [
        '+   - eip: 198.51.100.9',
        '+     protocal: udp',
        '+     port: 5000',
        '+     end_port: 5010',
        '+     vm-port: 6000',
        '+     vm-ip: 192.168.100.9',
      ],
    ],
    [
      'makes lines of an empty list in brackets',
      'route',
      'add',
      ['172.16.0.0/16=192.168.100.7'],
      [
        '- route_list: []   # none yet',
        '+ route_list:   # none yet',
        '+    - dest: 172.16.0.0/16',
        '+      via: 192.168.100.7',
      ],
    ],
    [
      'attaches a network',
      'nic',
      'add',
      ['52:54:84:11:00:0B=192.168.200.254/24,mtu=1450,name=true'],
      [
        '+    - ipaddr: 192.168.200.254',
        '+      prefix: 24',
        '+      mac: 52:54:84:11:00:0B',
        '+      mtu: 1450',
        '+      name: "true"',
      ],
    ],
  ];
  for (const [name, noun, verb, args, diff] of cases)
    it(name, () => {
      const after = edit(FILE, noun, verb, ...args);
      assert.deepEqual(changes(FILE, after), diff);
      const crlf = FILE.replaceAll('\n', '\r\n');
      assert.equal(edit(crlf, noun, verb, ...args), after.replaceAll('\n', '\r\n'));
    });

  it('detaches a network by its MAC in any case, or by its address', () => {
    const alone = FILE.slice(0, FILE.indexOf('eip_list'));
    for (const name of ['52:54:84:11:00:aa', '52:54:84:11:00:AA', '192.168.100.254'])
      assert.deepEqual(changes(alone, edit(alone, 'nic', 'remove', name)), [
        '-    # the web tier',
        '-    - mac: 52:54:84:11:00:AA',
        '-      ipaddr: 192.168.100.254',
        '-      prefix: 24',
      ]);
  });

  it('makes a list that is not there', () => {
    const file = 'if_list: []';
    assert.equal(
      edit(file, 'eip', 'add', '198.51.100.3=192.168.100.3'),
      `${file}\neip_list:\n  - eip: 198.51.100.3\n    vm-ip: 192.168.100.3\n`,
    );
  });

  it('makes a list in its place, however the file is written', () => {
    const cases: [before: string, after: string][] = [
      ['{if_list: []}', '{if_list: [], eip_list: [{eip: 198.51.100.3, vm-ip: 10.0.0.3}]}'],
      ['{"if_list": []}\n', '{"if_list": [], "eip_list": [{"eip": "198.51.100.3", "vm-ip": "10.0.0.3"}]}\n'],
      [
        '{"if_list": [], "eip_list": []}',
        '{"if_list": [], "eip_list": [{"eip": "198.51.100.3", "vm-ip": "10.0.0.3"}]}',
      ],
      [
        '{\n  "if_list": []\n}\n',
        '{\n  "if_list": [],\n  "eip_list": [{"eip": "198.51.100.3", "vm-ip": "10.0.0.3"}]\n}\n',
      ],
      [
        '--- # router\n  if_list: []\n... # end\n# more\n',
        '--- # router\n  if_list: []\n  eip_list:\n    - eip: 198.51.100.3\n      vm-ip: 10.0.0.3\n... # end\n# more\n',
      ],
      [
        'if_list: []\neip_list: [ # none yet: 1\n  # no: really\n]\n',
        'if_list: []\neip_list: [ # none yet: 1\n  # no: really\n  {eip: 198.51.100.3, vm-ip: 10.0.0.3}\n]\n',
      ],
    ];
    for (const [before, after] of cases) {
      assert.equal(edit(before, 'eip', 'add', '198.51.100.3=10.0.0.3'), after);
      if (before.includes('eip_list')) assert.equal(edit(after, 'eip', 'remove', '198.51.100.3'), before);
    }
  });

  it('writes a NIC that keeps addresses of others, as list prints it, in any style', () => {
    const nic = '52:54:84:11:00:0b=10.0.0.1/24,mtu=1400,keep-addresses=10.0.0.5/32+10.0.0.6';
    for (const [file, written] of [
      ['if_list: []\n', '    keep-addresses: [10.0.0.5/32, 10.0.0.6]\n'],
      [
        'if_list: [{ipaddr: 10.0.1.1, prefix: 24, mac: 52:54:84:11:00:0c}]\n',
        ', keep-addresses: [10.0.0.5/32, 10.0.0.6]}]\n',
      ],
      [
        '{"if_list": [{"ipaddr": "10.0.1.1", "prefix": 24, "mac": "52:54:84:11:00:0c"}]}\n',
        ', "keep-addresses": ["10.0.0.5/32", "10.0.0.6"]}]}\n',
      ],
    ] as const) {
      const after = edit(file, 'nic', 'add', nic);
      assert.ok(after.endsWith(written), after);
      const parsed = parseConfig(after);
      assert.ok(parsed.ok);
      assert.equal(NOUNS.nic.entriesOf(parsed.config).at(-1)?.text, nic);
      assert.equal(edit(after, 'nic', 'remove', nic), file);
    }
  });

  it('puts an entry behind a comment that is further in, below the last one', () => {
    for (const end of ['\n', '\n\n# the end\n', '']) {
      const file = `if_list: []\neip_list:\n- eip: 198.51.100.1\n  vm-ip: 10.0.0.1\n  # www,\n    # until June${end}`;
      const after = edit(file, 'eip', 'add', '198.51.100.2=10.0.0.2');
      const added = '\n- eip: 198.51.100.2\n  vm-ip: 10.0.0.2\n';
      assert.equal(after, file.replace(/June\n?/, `June${added}`));
    }
  });

  it('takes a comment along that speaks of the entry alone', () => {
    const entry = (n: number) => `  - {eip: 198.51.100.${n}, vm-ip: 10.0.0.${n}}\n`;
    const file = (lines: string) => `if_list: []\neip_list:\n${lines}from-uplink: drop\n`;
    const cases: [name: string, lines: string, remove: number[], left: string][] = [
      [
        'of one',
        `  # a\n${entry(1)}  # b: 1\n  # b: 2\n${entry(2)}  # c\n${entry(3)}`,
        [2],
        `  # a\n${entry(1)}  # c\n${entry(3)}`,
      ],
      ['of the first, where others have their own', `  # a\n${entry(1)}  # b\n${entry(2)}`, [1], `  # b\n${entry(2)}`],
      ['of the last', `${entry(1)}  # b\n${entry(2)}`, [2], entry(1)],
      [
        'of several, of which one stays',
        `${entry(1)}\n  # b, c\n${entry(2)}${entry(3)}`,
        [2],
        `${entry(1)}\n  # b, c\n${entry(3)}`,
      ],
      ['of several, which all go', `${entry(1)}\n  # b, c\n${entry(2)}${entry(3)}`, [2, 3], `${entry(1)}\n`],
      ['below the key', `  # all\n${entry(1)}${entry(2)}`, [1], `  # all\n${entry(2)}`],
      ['with a blank line between', `${entry(1)}  # b\n\n${entry(2)}`, [2], `${entry(1)}  # b\n\n`],
      ['further in', `${entry(1)}    # of a\n${entry(2)}`, [2], `${entry(1)}    # of a\n`],
      ['commented out', `${entry(1)}  # - {eip: old}\n${entry(2)}`, [2], `${entry(1)}  # - {eip: old}\n`],
    ];
    for (const [name, lines, remove, left] of cases) {
      const after = edit(file(lines), 'eip', 'remove', ...remove.map((n) => `198.51.100.${n}`));
      assert.equal(after, file(left), name);
    }
    const flow =
      'if_list: []\neip_list: [\n  # a\n  {eip: 198.51.100.1, vm-ip: 10.0.0.1}, # a\n  # b\n  {eip: 198.51.100.2, vm-ip: 10.0.0.2} # b\n]\n';
    assert.equal(
      edit(flow, 'eip', 'remove', '198.51.100.2'),
      'if_list: []\neip_list: [\n  # a\n  {eip: 198.51.100.1, vm-ip: 10.0.0.1} # a\n]\n',
    );
    // Of the only entry it may be about the list.
    assert.equal(
      edit(file(`  # a\n${entry(1)}`), 'eip', 'remove', '198.51.100.1'),
      file('  # a\n').replace('list:\n  #', 'list: []\n  #'),
    );
  });

  it('edits lists in brackets', () => {
    const file =
      'if_list: []\neip_list: [{eip: 198.51.100.1, vm-ip: 10.0.0.1}, {eip: 198.51.100.2, vm-ip: 10.0.0.2},]\n';
    const added = edit(file, 'eip', 'add', '198.51.100.3=10.0.0.3');
    assert.equal(added, file.replace(',]', ', {eip: 198.51.100.3, vm-ip: 10.0.0.3},]'));
    assert.equal(
      edit(added, 'eip', 'remove', '198.51.100.2', '198.51.100.1'),
      'if_list: []\neip_list: [{eip: 198.51.100.3, vm-ip: 10.0.0.3},]\n',
    );
  });

  it('writes nothing that YAML 1.1 reads as something else than text', () => {
    const octet = fc.integer({ min: 0, max: 99 }).map((n) => String(n).padStart(2, '0'));
    const name = fc.constantFrom('on', 'No', 'y', '1_000', '017', '0b11', '2026-01-02', '1e3');
    fc.assert(
      fc.property(fc.array(octet, { minLength: 5, maxLength: 5 }), name, (octets, label) => {
        const mac = ['52', ...octets].join(':');
        const text = edit('if_list: []', 'nic', 'add', `${mac}=192.168.200.254/24,name=${label}`);
        const old: unknown = parse(text, { version: '1.1' });
        assert.deepEqual(old, { if_list: [{ ipaddr: '192.168.200.254', prefix: 24, mac, name: label }] });
      }),
    );
    assert.match(edit('if_list: []', 'nic', 'add', '52:54:00:12:34:56=192.168.200.254/24'), /mac: "52:54:00:12:34:56"/);
  });

  it('refuses an entry that is there with another value, and says what to do', () => {
    assert.throws(() => edit(FILE, 'eip', 'add', '198.51.100.1=192.168.100.7'), {
      status: 65,
      message: `198.51.100.1=192.168.100.7: ${PATH} has 198.51.100.1=192.168.100.1 already: run kylin-vr eip remove 198.51.100.1 first`,
    });
  });

  it('says of each argument that changes nothing why', () => {
    const file = FILE.replace(
      '\nport_forward_list:',
      '\nport_forward_list:\n  - {eip: 198.51.100.9, protocol: udp, port: 53, end_port: 54, vm-port: 53, vm-ip: 192.168.100.9}',
    );
    const idle = (noun: NounName, verb: 'add' | 'remove', ...args: string[]) => {
      const parsed = parseConfig(file);
      assert.ok(parsed.ok);
      const edited = editConfig(PATH, file, parsed.config, { noun, verb, args });
      assert.equal(edited.text, file);
      return edited.idle;
    };
    assert.deepEqual(idle('eip', 'add', '198.51.100.1=192.168.100.1', '198.51.100.2=192.168.100.2'), [
      '198.51.100.1=192.168.100.1 is in the file already',
      '198.51.100.2=192.168.100.2 is in the file already',
    ]);
    assert.deepEqual(idle('eip', 'remove', '198.51.100.1=192.168.100.7', '198.51.100.77'), [
      '198.51.100.1=192.168.100.7 is not in the file, which has 198.51.100.1=192.168.100.1',
      '198.51.100.77 is not in the file',
    ]);
    assert.deepEqual(
      idle('forward', 'remove', '198.51.100.9:80-82/TCP', '198.51.100.9:53/udp', '198.51.100.9:80/tcp=192.168.100.9'),
      [
        '198.51.100.9:80-82/TCP is not in the file, which has 198.51.100.9:80/tcp=192.168.100.9:8080',
        '198.51.100.9:53/udp is not in the file, which has 198.51.100.9:53-54/udp=192.168.100.9:53',
        '198.51.100.9:80/tcp=192.168.100.9 is not in the file, which has 198.51.100.9:80/tcp=192.168.100.9:8080',
      ],
    );
    assert.deepEqual(idle('nic', 'remove', '52:54:84:00:08:46=203.0.113.37/24', '10.0.0.1'), [
      '52:54:84:00:08:46=203.0.113.37/24 is not in the file, which has 52:54:84:00:08:46=203.0.113.37/24,gateway=203.0.113.1',
      '10.0.0.1 is not in the file',
    ]);
  });

  it('removes a forward whatever the case of its protocol', () => {
    assert.match(edit(FILE, 'forward', 'remove', '198.51.100.9:80-80/TCP'), /port_forward_list: \[\]/);
  });

  it('refuses to remove what nothing can be called', () => {
    const wrong: [NounName, string, string][] = [
      ['eip', 'www', 'www: eip must be an IPv4 address'],
      ['eip', '198.51.100.1=', '198.51.100.1=: eip must be an IPv4 address'],
      [
        'forward',
        '198.51.100.9',
        '198.51.100.9: must be written EIP:PORT[-END]/PROTOCOL, or as kylin-vr forward list prints it',
      ],
      ['forward', '198.51.100.9:80/icmp', '198.51.100.9:80/icmp: protocol must be tcp or udp'],
      ['forward', '198.51.100.9:82-80/tcp', '198.51.100.9:82-80/tcp: end_port must not be less than port 82, is 80'],
      ['nic', 'eth0', 'eth0: ipaddr must be an IPv4 address'],
      ['nic', '52:54', '52:54: mac must be a MAC address, six pairs of hex digits with colons'],
      ['route', '172.16.0.0', '172.16.0.0: dest must be a network, such as 192.0.2.0/24'],
    ];
    for (const [noun, argument, message] of wrong)
      assert.throws(() => edit(FILE, noun, 'remove', argument), { status: 64, message });
  });

  it('refuses two values for one entry', () => {
    assert.throws(() => edit(FILE, 'eip', 'add', '198.51.100.3=192.168.100.3', '198.51.100.3=192.168.100.4'), {
      status: 64,
      message: '198.51.100.3=192.168.100.4: 198.51.100.3=192.168.100.3 is to be added as well: add one of them',
    });
    for (const more of ['ipaddr=9.9.9.9', 'mac=52:54:84:11:00:0c', 'prefix=25', 'mtu=1400,mtu=1500', 'vlan=7'])
      assert.throws(() => edit(FILE, 'nic', 'add', `52:54:84:11:00:0b=10.0.0.1/24,${more}`), { status: 64 }, more);
  });

  it('refuses an argument that says nothing, with the form it takes', () => {
    const wrong: [NounName, string, string][] = [
      ['eip', '198.51.100.1', '198.51.100.1: must be written EIP=VM'],
      ['eip', '198.51.100.999=10.0.0.1', '198.51.100.999=10.0.0.1: eip must be an IPv4 address'],
      ['forward', '198.51.100.1:0/tcp=10.0.0.1', '198.51.100.1:0/tcp=10.0.0.1: port must be a port from 1 to 65535'],
      [
        'nic',
        '52:54:84:00:08:46',
        '52:54:84:00:08:46: must be written MAC=ADDRESS/PREFIX[,gateway=ADDRESS][,mtu=BYTES][,name=NAME]',
      ],
      [
        'forward',
        '198.51.100.1:82-80/tcp=10.0.0.1',
        '198.51.100.1:82-80/tcp=10.0.0.1: end_port must not be less than port 82, is 80',
      ],
      [
        'forward',
        '198.51.100.1:80-82/tcp=10.0.0.1:65535',
        '198.51.100.1:80-82/tcp=10.0.0.1:65535: vm-port must leave room for the range: 65535..65537 ends past 65535',
      ],
      [
        'nic',
        '52:54:84:00:08:46=10.0.1.2/24,gateway=10.0.2.1',
        "52:54:84:00:08:46=10.0.1.2/24,gateway=10.0.2.1: gateway must be in the NIC's network 10.0.1.0/24, is 10.0.2.1",
      ],
      ['route', '10.0.0.1/8=10.0.0.1', '10.0.0.1/8=10.0.0.1: dest must have no host bits: its network is 10.0.0.0/8'],
    ];
    for (const [noun, argument, message] of wrong)
      assert.throws(() => edit('if_list: []', noun, 'add', argument), { status: 64, message });
  });

  it('refuses what it cannot edit without touching more, and says where', () => {
    const cases: [file: string, reason: RegExp][] = [
      [
        'if_list: []\n\neip_list: !!seq\n  - {eip: 198.51.100.1, vm-ip: 10.0.0.1}\n',
        /^\S+\.yaml:3:1: eip_list has an anchor or a tag,/,
      ],
      [
        'if_list: []\neip_list: [\n  &a {eip: 198.51.100.1, vm-ip: 10.0.0.1}]\n',
        /^\S+\.yaml:3:6: eip_list\[0\] has an anchor or a tag before it,/,
      ],
    ];
    for (const [text, reason] of cases)
      assert.throws(
        () => edit(text, 'eip', 'remove', '198.51.100.1'),
        (error: Error) => reason.test(error.message),
      );
    const shared = 'snat_list: &none []\nif_list: []\nroute_list: *none\n';
    assert.throws(
      () => edit(shared, 'route', 'add', '172.16.0.0/16=192.168.100.1'),
      /^AgentError: \S+\.yaml:3:13: route_list is an alias of another list,/,
    );
    const file = 'if_list: []\neip_list: &all\n  - &one {eip: 198.51.100.1, vm-ip: 10.0.0.1}\n';
    assert.throws(() => edit(file, 'eip', 'remove', '198.51.100.1'), {
      status: 65,
      message: `${PATH}:3:3: eip_list[0] has an anchor or a tag before it, which kylin-vr does not edit: edit the file by hand, then run kylin-vr reload`,
    });
  });

  it('gives back, for `add`, what `list` shows', () => {
    const parsed = parseConfig(FILE);
    assert.ok(parsed.ok);
    for (const [noun, { entriesOf, read }] of Object.entries(NOUNS))
      for (const { text } of entriesOf(parsed.config)) assert.equal(read(text).entry.text, text, noun);
  });
});

describe('edits in a row', () => {
  const eip = fc.integer({ min: 1, max: 12 });
  const styles = [
    '',
    '# head\n',
    'eip_list: []\n',
    'eip_list:\n# c\n- eip: 198.51.100.200 # c\n  vm-ip: 10.0.0.1\n',
    'eip_list: [{eip: 198.51.100.200, vm-ip: 10.0.0.1}]\n',
  ];
  it('end in the set that was asked for, and keep every comment', () =>
    fc.assert(
      fc.property(
        fc.constantFrom(...styles),
        fc.array(
          fc.tuple(
            fc.constantFrom('add' as const, 'remove' as const),
            fc.uniqueArray(eip, { minLength: 1, maxLength: 4 }),
          ),
        ),
        (style, edits) => {
          let text = `${style}if_list: []\n`;
          const there = new Set(text.includes('.200') ? [200] : []);
          for (const [verb, numbers] of edits) {
            text = edit(text, 'eip', verb, ...numbers.map((n) => `198.51.100.${n}=10.0.0.${n}`));
            for (const n of numbers) verb === 'add' ? there.add(n) : there.delete(n);
            const parsed = parseConfig(text);
            assert.ok(parsed.ok);
            assert.deepEqual(
              parsed.config.eips.map((each) => Number(each.eip.split('.')[3])),
              [...there],
            );
          }
          assert.equal(text.includes('# head'), style.includes('# head'));
        },
      ),
    ));
});
