import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { editConfig } from '../../src/config/edit.ts';
import { NOUNS } from '../../src/config/entries.ts';
import type { NounName } from '../../src/config/nouns.ts';
import { parseConfig } from '../../src/config/parse.ts';

const FILE = `# the router of tenant 7
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
  return editConfig(text, parsed.config, { noun, verb, args }).text;
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
      'keeps the comment above',
      'eip',
      'remove',
      ['198.51.100.2=192.168.100.2'],
      ['- - {eip: 198.51.100.2, vm_ip: 192.168.100.2}'],
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

  it('edits lists in brackets', () => {
    const file =
      'if_list: []\neip_list: [{eip: 198.51.100.1, vm-ip: 10.0.0.1}, {eip: 198.51.100.2, vm-ip: 10.0.0.2},]\n';
    const added = edit(file, 'eip', 'add', '198.51.100.3=10.0.0.3');
    assert.equal(added, file.replace(',]', ', {eip: 198.51.100.3, vm-ip: 10.0.0.3},]'));
    assert.equal(
      edit(added, 'eip', 'remove', '198.51.100.2', '198.51.100.1'),
      'if_list: []\neip_list: [{eip: 198.51.100.3, vm-ip: 10.0.0.3}]\n',
    );
  });

  it('refuses an entry that is there with another value, and says what to do', () => {
    assert.throws(() => edit(FILE, 'eip', 'add', '198.51.100.1=192.168.100.7'), {
      status: 65,
      message:
        '198.51.100.1=192.168.100.7: the file has 198.51.100.1=192.168.100.1 already: run kylin-vr eip remove 198.51.100.1 first',
    });
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
      ['route', '10.0.0.1/8=10.0.0.1', '10.0.0.1/8=10.0.0.1: dest must have no host bits: its network is 10.0.0.0/8'],
    ];
    for (const [noun, argument, message] of wrong)
      assert.throws(() => edit('if_list: []', noun, 'add', argument), { status: 64, message });
  });

  it('refuses what it cannot edit without touching more', () => {
    const file = 'if_list: []\neip_list: &all\n  - &one {eip: 198.51.100.1, vm-ip: 10.0.0.1}\n';
    assert.throws(() => edit(file, 'eip', 'remove', '198.51.100.1'), {
      status: 65,
      message:
        'eip_list is written in a way that kylin-vr cannot edit (anchors, or entries that share a line): edit the file by hand, then run kylin-vr reload',
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
