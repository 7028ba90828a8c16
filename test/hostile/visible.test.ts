// Whatever stands in a field that comes from elsewhere, root's terminal gets text: files, names, rules, logs, tools and guests.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { shownJson, shownLines, visible, wrapped } from '../../src/base/visible.ts';
import { push } from '../../src/commands/push.ts';
import { inProcess, inProcessContext } from '../cli/program.ts';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { startGuest } from './agent.ts';
import { assertVisible, faultOf } from './terminal.ts';

const SEED = Number(process.env.KYLIN_VR_SEED ?? Date.now() % 2 ** 31);

/** What each of them would do: colour, title, clear, return, reverse, isolate, hide, break a line, and look like something else. */
const EVIL = [
  '\u001b[31m',
  '\u001b]0;title\u0007',
  '\u009b2J',
  '\r',
  '\b',
  '\u007f',
  '\u202e',
  '\u2066',
  '\u200b',
  '\u2028',
  '\ufeff',
  '\u{e0041}',
  '\u00a0',
  'ｅｔｈ０',
  '\ud800',
] as const;
const evil = fc
  .array(fc.oneof(fc.constantFrom(...EVIL), fc.string({ maxLength: 4 }), fc.string({ unit: 'binary', maxLength: 4 })), {
    minLength: 1,
    maxLength: 6,
  })
  .map((parts) => parts.join(''));

describe('text from elsewhere', () => {
  it('is printed in one place, which takes nothing else (the compiler sees to that)', () => {
    const sources = join(import.meta.dirname, '../../src');
    const printing = readdirSync(sources, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .filter((name) =>
        /\bconsole\.|process\.(stdout|stderr)\.write|process\[name\]|writeSync\(name/.test(
          readFileSync(join(sources, name), 'utf8'),
        ),
      );
    assert.deepEqual(printing, ['main.ts']);
  });

  it('is made visible, all of it, once for all', () => {
    fc.assert(
      fc.property(evil, (text) => {
        const seen = visible(text);
        assert.equal(faultOf(seen), undefined);
        assert.ok(!seen.includes('\n'));
        assert.equal(visible(seen), seen);
      }),
      { seed: SEED, numRuns: 20_000 },
    );
  });

  it('means the same in JSON, where all of it is visible too', () => {
    fc.assert(
      fc.property(fc.dictionary(evil, evil), (value) => {
        const seen = shownJson(`${JSON.stringify(value, null, 2)}\n`).shown;
        assert.equal(faultOf(seen), undefined);
        assert.deepEqual(JSON.parse(seen), JSON.parse(JSON.stringify(value)));
      }),
      { seed: SEED, numRuns: 5000 },
    );
  });

  it('stays as it is where it is ASCII, and where it is text of any language', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii' }), (text) => assert.equal(visible(text), text)),
      { seed: SEED },
    );
    for (const text of [
      '内网',
      '出口：电信（主用）',
      '注释，“引用”——完。',
      'eth1 内网，备用',
      '日本語　テスト',
      '서울',
      'café',
      'Straße',
      'điện thoại ưu',
      'București',
      'łódź',
      'lǜ',
      'привет, сервер1',
      'Ελλάδα',
      'हिन्दी',
      '→ …',
    ])
      assert.equal(visible(text), text);
  });

  it('is shown by number or picture where it hides, or looks like what it is not', () => {
    for (const [text, seen] of [
      ['a\u001b[31mb', 'a␛[31mb'],
      ['a\nb\tc\u007f', 'a␊b␉c␡'],
      ['a\u0085b', 'a<U+0085>b'],
      ['\u202e7.0.0.1', '<U+202E>7.0.0.1'],
      ['a\u200bb\u2028', 'a<U+200B>b<U+2028>'],
      ['\ud800x', '<U+D800>x'],
      ['\u{e0041}', '<U+E0041>'],
      ['eth\u00a00', 'eth<U+00A0>0'],
      ['ｅｔｈ０', '<U+FF45><U+FF54><U+FF48><U+FF10>'],
      ['eip：1', 'eip<U+FF1A>1'],
      ['10.0.0.1–9', '10.0.0.1<U+2013>9'],
      ['\u0435th0', '<U+0435>th0'],
      ['\u0441\u043e\u0441\u043e', '<U+0441><U+043E><U+0441><U+043E>'],
      ['10.0.0.\u0663', '10.0.0.<U+0663>'],
      ['\u05d0 1 2', '<U+05D0> 1 2'],
      ['\u0301x', '<U+0301>x'],
      ['x\u0301\u0301\u0301\u0301', 'x\u0301\u0301\u0301<U+0301>'],
      ['con\ufb01g', 'con<U+FB01>g'],
      ['𝐞th', '<U+1D41E>th'],
      ['ſeip', '<U+017F>eip'],
      ['ⲟ', '<U+2C9F>'],
    ] as const)
      assert.equal(visible(text), seen);
    assert.equal(shownLines('a\u001b\nb').shown, 'a␛\nb');
  });

  it('is shown by number inside ASCII where Unicode itself takes it for a sign of ASCII, or for one that looks like it', () => {
    // Raised, lowered, in a frame: nobody takes those for what is in them.
    const isDistinct = /[ªº²³¹\u2070\u2074-\u207e\u2080-\u208e\u2460-\u2487\u249c-\u24ff\u{1f10b}-\u{1f1ff}]/u;
    const isShown = (char: string) => visible(`e${char}h`).includes(char);
    const shownAsTheyAre: string[] = [];
    for (let code = 0x80; code < 0x110000; code++) {
      const char = String.fromCodePoint(code);
      const plain = char.normalize('NFKC');
      if (plain === char || /[\ud800-\udfff]/.test(char) || isDistinct.test(char)) continue;
      const isLookalike = [...plain].length === 1 && (/^[ -~]$/.test(plain) || !isShown(plain));
      if (isLookalike && isShown(char)) shownAsTheyAre.push(`${char} U+${code.toString(16)}`);
    }
    assert.deepEqual(shownAsTheyAre, []);
  });

  it('is shown by number inside ASCII where it looks like signs of ASCII, or like nothing', () => {
    const signs = [
      ...['`\u1fef\u1ffd', "'\u1fbd\u055a\u275b\u275c", '"\u2033\u2036\u2057\u275d', ':\ufe13\u16ec', ';\ufe14\u204f'],
      ...['!\ufe15', '?\ufe16', ',\ufe10\u2e32', '[\ufe47', ']\ufe48', '(\u2768\ufe35', ')\u2769', '<\u276e\u27e8'],
      ...['_\ufe4d\ufe4e\ufe4f\ufe33', '|\uffe8\u2503\u2758\u23d0', '/\u2571\u27cb', '\\\u2572\u27cd\u29f9'],
      ...['-\u2501\u2574\u23af\u2e3a', '=\u2550\u2e40', '==\u2a75', '..\u2025', '!!\u203c', '??\u2047', '1.\u2488'],
      ...['ij\u0132\u0133', 'lj\u01c7\u01c8\u01c9', 'nj\u01ca\u01cb\u01cc', 'dz\u01f1\u01f2\u01f3', 'n\u207f\u2099'],
      ...['A\u{1ccd6}', 'Z\u{1ccef}', 'q\u{107a5}', '\u{1d159}\u{16fe4}\u2d7f\u{13441}'],
    ];
    for (const char of signs.flatMap((each) => [...each].filter((part) => part > '~')))
      assert.equal(visible(`e${char}h`), `e<U+${char.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}>h`);
    for (const text of ['内网︓备用', '真的⁇', '二〇二六——⸺', 'm² 5ª nº ① №', 'Ⅱ期']) assert.equal(visible(text), text);
  });

  it('is shown by number in words of nothing but letters that Unicode takes for ones of ASCII, of whatever script', () => {
    // The letters of confusables.txt (UTS #39) whose like is one letter or digit of ASCII, and that are neither Latin nor Chinese.
    const letters = [
      ...['ꙄᒿЗӠ𖼻𑣊𑢯𑢻б𑣕𐓒𑣆𑣌𑢬𑣖ᗅ𖽀𐊠Ьᑲᖯᗷ𐊂𐊡ℂϹ𐊢𐔜ᑯᗞᗪҽⴹ𑢦𑢮𐊆քϜᖴ𑣂𑢢𐊇𐊥𐔥Ԍᕼ𐋏ιͺꙇ𑣃Ϳᒍᛕ𐔘ⵏᛁ𖼨𐊊ᒪ𖼖𑢣𑢲'],
      ...['𐔦Ϻᗰᛖ𐊰ռ𐔓σჿഠဝ𐓪𑣈𑣗ⵔዐଠ𐓂𑢵𐊒𐊫𐔖ϱᑭ𐊕գզⵕг𐒴ᖇ𖼵𑣁Տ𖼺𐊖𖼊𑢼𐊗𐊱𐓶𑣘ሀ𐓎ᑌ𖽂𑢸ѵ𑜆𑣀Ѵⴸᐯꛟ𖼈𑢠𐔝ѡա'],
      ...['𑜊𑜎𑜏ᕁᕽⵝᚷ𐊐𐊴𐔧γℽүყ𑣜ϒ𖽃𑢤𐊲𑣄𑢩'],
    ].flatMap((line) => [...line]);
    const numbered = (char: string) => `<U+${char.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}>`;
    for (const char of letters) {
      assert.equal(visible(`10.0.0.${char}`), `10.0.0.${numbered(char)}`);
      assert.equal(visible(`${char}1${char} x`), `${numbered(char)}1${numbered(char)} x`);
    }
    const error = 'еггог';
    assert.equal(visible(error), [...error].map(numbered).join(''));
    for (const text of ['ᐃᓄᒃᑎᑐᑦ', 'ⵜⴰⵎⴰⵣⵉⵖⵜ', 'አማርኛ', 'ქართული', 'မြန်မာ', 'മലയാളം', 'ଓଡ଼ିଆ', 'сервер1', 'город'])
      assert.equal(visible(text), text);
  });

  it('is wrapped so that a terminal breaks no line, and that none but the first begins at its edge', () => {
    const ofLength = fc.tuple(fc.string({ unit: 'binary', maxLength: 300 }), fc.constantFrom('', '中文，'.repeat(40)));
    fc.assert(
      fc.property(ofLength, fc.nat(200), fc.nat(100), (parts, columns, taken) => {
        const text = parts.join('');
        const [first = '', ...rest] = wrapped(text, columns, taken).shown.split('\n');
        assert.ok(rest.every((line) => /^ {4}./s.test(line)));
        assert.equal(first + rest.map((line) => line.slice(4)).join(''), visible(text));
        if (columns < 20) return;
        assert.ok(columnsOf(first) <= columns - Math.min(taken, columns - 2));
        assert.ok(rest.every((line) => columnsOf(line) <= columns));
      }),
      { seed: SEED },
    );
  });

  it('is shown by number where it runs to the left: every character that Unicode says so of, by Perl and by Node', () => {
    // Unicode 14 in Perl 5.36.
    const perl = spawnSync(
      'perl',
      ['-e', 'for (0..0x10ffff) { print "$_\\n" if !($_ >> 11 == 27) && chr =~ /[\\p{bc=R}\\p{bc=AL}\\p{bc=AN}]/ }'],
      { encoding: 'utf8' },
    );
    const leftward = perl.stdout.trim().split('\n').map(Number);
    assert.ok(leftward.length > 2900, perl.stderr);
    // Node has no bidi classes, but newer scripts. Some may be newer than its Unicode.
    const scripts = SCRIPTS.filter((name) => isScript(name)).map((name) => `\\p{Script=${name}}`);
    assert.ok(scripts.length > 30);
    const script = new RegExp(`[${scripts.join('')}]`, 'u');
    for (let code = 0; code <= 0x10ffff; code++) if (script.test(String.fromCodePoint(code))) leftward.push(code);
    for (const code of leftward) {
      const named = `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
      assert.equal(visible(`a ${String.fromCodePoint(code)} b`), `a ${named} b`);
    }
  });

  it('is the same in pieces: text of any language and of any length, and what is evil in it', () => {
    const part = fc.oneof(
      evil,
      fc.constantFrom(
        '内网，备用',
        'привет, сервер1',
        'e\u0301',
        'हिन्दी',
        '\u0441\u043e\u0441\u043e',
        '“',
        'x\u0430',
        '\u{20000}',
      ),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 20 }), fc.nat(60), (parts, before) => {
        const text = parts.join(' ');
        // What it is in comes to its end anywhere in it.
        const around = `${'y'.repeat(63)} `.repeat(1024).slice(before);
        assert.equal(visible(`${around} ${text}`), `${around} ${visible(text)}`);
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('is shown by number where a word has more letters than a piece, which may have an ASCII letter as well', () => {
    const long = '\u044f'.repeat(100_000);
    assert.equal(visible(long), '<U+044F>'.repeat(100_000));
    assert.equal(visible(`a ${'内'.repeat(100_000)}`), `a ${'内'.repeat(100_000)}`);
    assert.equal(visible(`${'内'.repeat(65_535)}\u{20000}`), `${'内'.repeat(65_535)}\u{20000}`);
  });

  it('may be as long as a guest can make it, in bounded time and memory', () => {
    const script = `
      import { shownJson, visible, wrapped } from ${JSON.stringify(join(import.meta.dirname, '../../src/base/visible.ts'))};
      const json = (text) => shownJson(text).shown;
      for (const [reveal, unit, times, length] of [
        [visible, '\\u044f', 4.5e6, 36e6],
        [visible, '\\u0301', 4.5e6, 36e6],
        [json, '\\u044f', 4.5e6, 27e6],
        [json, '\\x7f', 12e6, 72e6],
        [(text) => wrapped(text, 80).shown, 'a', 12e6, 12e6],
      ])
        if (reveal(unit.repeat(times)).length < length) process.exit(1);
      console.log(process.resourceUsage().maxRSS);`;
    const file = join(mkdtempSync(join(tmpdir(), 'kylin-vr-visible-')), 'long.mts');
    writeFileSync(file, script);
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', file], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    rmSync(dirname(file), { recursive: true });
    assert.equal(status, 0, stderr);
    assert.ok(Number(stdout) < 500 * 1024, `${stdout} KiB`);
  });

  it('takes linear time', () => {
    // Many of what is looked back and ahead for: were it quadratic, this would not end.
    for (const unit of ['x\u0301', '\u0301', '，', '，中', '\u0430', '\u001b', 'ａ', '“'])
      assert.ok(visible(unit.repeat(100_000)).length > 0);
  });
});

/** Those that run to the left. */
const SCRIPTS = (
  'Adlam Arabic Avestan Chorasmian Cypriot Elymaic Garay Hanifi_Rohingya Hatran Hebrew Imperial_Aramaic Inscriptional_Pahlavi ' +
  'Inscriptional_Parthian Kharoshthi Lydian Mandaic Manichaean Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Nabataean Nko ' +
  'Old_Hungarian Old_North_Arabian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Palmyrene Phoenician Psalter_Pahlavi Samaritan ' +
  'Sidetic Sogdian Syriac Thaana Yezidi'
).split(' ');

function isScript(name: string): boolean {
  try {
    return new RegExp(`\\p{Script=${name}}`, 'u') instanceof RegExp;
  } catch {
    return false;
  }
}

/** As many as a terminal may take for it. */
const columnsOf = (text: string): number => [...text].reduce((sum, char) => sum + (char <= '~' ? 1 : 2), 0);

describe(`check (seed ${SEED})`, () => {
  it('shows no file as it is that speaks to the terminal', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-visible-'));
    const file = join(folder, 'evil.yaml');
    const shape = fc.constantFrom<(text: string) => string>(
      (text) => `${text}: 1\n`,
      (text) => `if_list: []\n${JSON.stringify(text)}: 1\n`,
      (text) => `if_list: []\n? "${text}"\n: 1\n`,
      (text) => `if_list: ${text}\n`,
      (text) => `if_list: [${text}]\n`,
      (text) => `if_list: [{ mac: "${text}", ${JSON.stringify(text)}: 1 }]\n`,
      (text) => `if_list: *${text}\n`,
      (text) => `if_list: &${text} []\neip_list: *x${text}\n`,
      (text) => `%${text}\n---\nif_list: []\n`,
      (text) => `%YAML ${text}\n---\nif_list: []\n`,
      (text) => `%TAG ! ${text}\n---\nif_list: !${text} []\n`,
      (text) => `if_list: !!${text} []\n`,
      (text) => `if_list: 7 # ${text}\n`,
      (text) => `if_list: []\nif_list: []\n"${text}": |${text}\n`,
    );
    try {
      await fc.assert(
        fc.asyncProperty(shape, evil, async (make, text) => {
          writeFileSync(file, make(text));
          for (const args of [['check'], ['check', '--json'], ['eip', 'list'], ['eip', 'list', '--json']]) {
            const { stdout, stderr } = await inProcess('--config', file, ...args);
            assertVisible(stdout + stderr, args.join(' '));
          }
        }),
        { seed: SEED, numRuns: 500 },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('shows the Chinese of a file as it is', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-visible-'));
    const file = join(folder, 'kylin-vr.yaml');
    writeFileSync(file, 'if_list: 7 # 内网：主机（一），“备用”\n');
    const { stdout } = await inProcess('--config', file, 'check');
    rmSync(folder, { recursive: true });
    assert.match(stdout, /^ {2}1 \| if_list: 7 # 内网：主机（一），“备用”$/m);
  });

  it('shows no word of the command line as it is', async () => {
    await fc.assert(
      fc.asyncProperty(evil, async (word) => {
        for (const args of [[word], ['check', `--${word}`], ['eip', 'add', word, word, word], ['completion', word]]) {
          const { stdout, stderr } = await inProcess(...args).catch(() => ({ stdout: '', stderr: '' }));
          assertVisible(stdout + stderr, JSON.stringify(args));
        }
      }),
      { seed: SEED, numRuns: 100 },
    );
  });
});

describe(`push (seed ${SEED})`, () => {
  it('shows no word of a guest as it is, and on no line of its own', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-visible-'));
    const file = join(folder, 'new.yaml');
    writeFileSync(file, "if_list:\n  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }\n");
    let said = '';
    let answer: string | undefined;
    const guest = await startGuest(join(folder, 'agent'), {
      programs: (argv) => (argv[1] === 'reload' ? { stdout: said } : undefined),
      fault: (command) => (command === 'guest-file-write' && answer !== undefined ? { bytes: answer } : undefined),
    });
    const issue = evil.map((text) => ({ message: text, path: text }));
    const report = fc.record({
      result: fc.oneof(fc.constant('changed'), evil),
      steps: fc.array(
        fc
          .tuple(evil, fc.nat(200))
          .map(([text, padding]) => ({ kind: 'add-address', text: `+ ${text}${' '.repeat(padding)}\nother: changed` })),
      ),
      warnings: fc.array(issue),
      errors: fc.array(issue),
      advice: evil,
    });
    const columns = 80 + guest.path.length;
    const pushed = async () => {
      const ended = { stdout: '', stderr: '' };
      const options = {
        json: false,
        lockTimeout: 1,
        logLevel: 'info' as const,
        logFormat: 'text' as const,
        domain: [],
        dryRun: false,
        timeout: 20,
      };
      await push(
        { ...inProcessContext(ended), columns: () => columns },
        { ...options, config: '/etc/x.yaml', socket: [guest.path] },
        file,
      );
      assertVisible(ended.stdout + ended.stderr);
      for (const line of `${ended.stdout}${ended.stderr}`.split('\n'))
        assert.ok(
          (columnsOf(line) <= columns && /^$|^\+ | {4}/.test(line)) || line.startsWith(`${guest.path}: `),
          line,
        );
    };
    try {
      await fc.assert(
        fc.asyncProperty(
          fc.oneof(
            report.map((value) => JSON.stringify(value)),
            evil,
          ),
          async (text) => {
            said = text;
            await pushed();
          },
        ),
        { seed: SEED, numRuns: 150 },
      );
      await fc.assert(
        fc.asyncProperty(evil, async (desc) => {
          answer = `${JSON.stringify({ error: { class: 'GenericError', desc } })}\n`;
          await pushed();
        }),
        { seed: SEED, numRuns: 50 },
      );
    } finally {
      await guest.close();
      rmSync(folder, { recursive: true });
    }
  });
});

/** Puts /mnt/evil into the word of what it reads that its first argument counts to, or in its place. */
const CORRUPT = `
  my ($n, $whole) = @ARGV;
  local $/;
  open(my $file, '<', '/mnt/evil');
  my $evil = <$file>;
  my $text = <STDIN>;
  my @words;
  push @words, [$-[0], $+[0]] while $text =~ /(?<=")[^"]*(?=")|[\\w.:\\/-]{2,}/g;
  if (@words) {
    my ($from, $to) = @{$words[$n % @words]};
    substr($text, $whole ? $from : $from + 1, $whole ? $to - $from : 0) = $evil;
  }
  print $text;
`;

describe('a router among names of evil', { concurrency: false }, () => {
  let lab: Lab;
  const config = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
`;
  let tools: Tools;
  before(async () => {
    lab = await createLab();
    tools = await recordTools(lab.router);
    await lab.router.write('/mnt/corrupt', CORRUPT);
    await lab.configure(config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  const shell = async (script: string) =>
    (await lab.router.run(['bash', '--norc', '-ec', script], { check: true })).stdout;
  const SHELL_EVIL = '\\033[31m\\302\\233\\342\\200\\256\\r';

  /** What a command prints into pipes, and on a terminal. */
  async function printed(...args: string[]): Promise<string> {
    const piped = await lab.kylin(...args);
    const words = [process.execPath, PROGRAM, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const { stdout } = await lab.router.run(['script', '-qec', words, '/dev/null'], { env: { TERM: 'xterm' } });
    const text = piped.stdout + piped.stderr + stdout.replaceAll('\r\n', '\n');
    assertVisible(text, args.join(' '));
    return text;
  }

  const COMMANDS = [
    ['status'],
    ['status', '--json'],
    ['status', '--format', 'prometheus'],
    ['plan'],
    ['plan', '--json'],
    ['reload'],
    ['reload', '--json'],
    ['log'],
    ['log', '--json'],
    ['rollback', '--list'],
    ['explain', '--from', '192.0.2.10', '--to', '203.0.113.50', '--live'],
  ];
  const all = async () => {
    let text = '';
    for (const args of COMMANDS) text += await printed(...args);
    return text;
  };

  it('shows foreign chains and the comments of rules', async () => {
    await shell(`
      chain=$(printf 'X\\033[31m\\302\\233\\342\\200\\256')
      iptables-nft -t nat -N "$chain"
      iptables-nft -t nat -I PREROUTING -m comment --comment "$(printf 'c${SHELL_EVIL}')" -s 198.18.0.1 -j "$chain"
      iptables-nft -t nat -A POSTROUTING -s 198.18.0.1 -o "$(printf 'o\\033[31m')" -j ACCEPT`);
    const text = await all();
    assert.ok(text.includes('␛[31m<U+009B><U+202E>'), text);
    await shell('iptables-nft -t nat -F PREROUTING; iptables-nft -t nat -F POSTROUTING');
    await printed('reload');
  });

  it('shows what its state and its log say', async () => {
    const wrong = EVIL.join('x');
    const errors = [{ message: wrong, path: wrong }];
    const run = {
      ...{ id: wrong, run: wrong, time: wrong, command: wrong, trigger: wrong, result: wrong, durationMs: 1 },
      ...{ steps: [`+ ${wrong}\n${wrong}`], warnings: errors, errors, exitStatus: 69 },
    };
    await lab.router.write('/run/kylin-vr/last-run.json', JSON.stringify(run), 0o600);
    await lab.router.write('/var/lib/kylin-vr/refused', `${'0'.repeat(64)}\n${wrong}\n`, 0o600);
    await lab.router.write('/var/log/kylin-vr/kylin-vr.log', `${JSON.stringify(run)}\n`);
    assert.ok((await printed('log')).includes('␛[31m'));
    await all();
  });

  it('logs as escapes what a configuration says', async () => {
    await shell('rm /var/log/kylin-vr/kylin-vr.log');
    await lab.configure(`${config}"${'\\e[31m\\u202e'}": 1\nif_list2: "\u202e\u2028"\n`);
    await all();
    assertVisible((await lab.router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '', 'the log');
    await lab.configure(config);
  });

  it('shows what a tool says of its failure, on one line', async () => {
    await lab.configure(config.replace('.50', '.51'));
    const text = async (said: string) => {
      await tools.before('iptables-nft-restore', `printf '${said}' >&2; exit 1`);
      return await printed('reload');
    };
    assert.match(await text(`${SHELL_EVIL}one\\ntwo\\n`), /status 1: ␛\[31m<U\+009B><U\+202E>␍one; two/);
    await tools.before('iptables-nft-restore');
    await tools.before('ip', `printf '${SHELL_EVIL}'; exit 0`);
    await all();
    await tools.before('ip', `printf '${SHELL_EVIL}' >&2; exit 1`);
    await all();
    await tools.before('ip');
    await lab.configure(config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });

  it('shows what tools print, whatever it is and wherever it stands', async () => {
    await shell(`
      iptables-nft -t nat -I PREROUTING -m comment --comment comment -s 198.18.0.1 -j RETURN
      ip address add 198.18.0.2/24 dev eth1 label eth1:label; ip link set eth1 alias alias
      ip route add 198.18.1.0/24 via 10.10.1.1 proto bird`);
    const tool = fc.constantFrom('ip', 'iptables-nft-save', 'conntrack');
    await fc.assert(
      fc.asyncProperty(tool, fc.nat(), evil, fc.boolean(), fc.boolean(), async (name, n, text, inJson, whole) => {
        const said = inJson ? shownJson(JSON.stringify(text)).shown.slice(1, -1) : text;
        await lab.router.write('/mnt/evil', said);
        await tools.before(name, `$real "$@" | perl /mnt/corrupt ${n} ${whole ? 1 : 0}; exit 0`);
        for (const args of [['status'], ['plan'], ['status', '--json']]) {
          const { stdout, stderr } = await lab.kylin(...args);
          assertVisible(stdout + stderr, args.join(' '));
          assert.doesNotMatch(stdout + stderr, /internal error/);
        }
        await tools.before(name);
      }),
      { seed: SEED, numRuns: 60, endOnFailure: true },
    );
    await shell('iptables-nft -t nat -F PREROUTING; ip address del 198.18.0.2/24 dev eth1; ip route del 198.18.1.0/24');
  });

  it('shows an error that nobody waited for', async () => {
    const mistake = `process.on('newListener', (name) => {
      if (name === 'uncaughtException') setImmediate(() => { throw new Error('\\u001b[31m\\u202e') });
    })`;
    const before = ['--import', `data:text/javascript,${encodeURIComponent(mistake)}`];
    const { status, stderr } = await lab.router.run([process.execPath, ...before, PROGRAM, 'reload']);
    assert.equal(status, 1);
    assert.match(stderr, /^kylin-vr: internal error, please report it:\nError: ␛\[31m<U\+202E>$/m);
    assertVisible(stderr);
  });

  it('shows the names of links', async () => {
    await shell(`ip link add "$(printf 'v\\033[31m')" type veth peer name "$(printf 'w\\302\\233')" || true
      ip link set eth1 alias "$(printf '${SHELL_EVIL}')"`);
    await all();
  });
});
