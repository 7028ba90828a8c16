// The man pages, in the language of man(7): commands and options from their definitions, the keys of the file from its schema,
// and what neither of them says written here. Pure.

import type { Command, Option } from 'commander';
import * as z from 'zod/mini';
import { EXIT } from '../src/base/errors.ts';
import { PATHS } from '../src/base/paths.ts';
import { STATUS_WORDS } from '../src/base/statuses.ts';
import { createProgram } from '../src/cli.ts';
import type { Context } from '../src/commands/context.ts';
import { fileSchema, SPELLINGS } from '../src/config/schema.ts';
import { DEFAULTS_PATH } from '../src/dialects/defaults.ts';
import { KINDS } from '../src/network/kinds.ts';

const FIELDS: readonly [string, string][] = [
  ['result', 'Of start, reload and plan: unchanged, changed, rolled-back or failed.'],
  ['steps', 'An array, one object for each step, with kind and text.'],
  [
    'warnings, errors',
    'Arrays of objects with message, and where they are known file, line, column, endColumn and path.',
  ],
  ['durationMs', 'How long it took.'],
  ['trigger', 'Who asked: boot, udev, timer, operator or agent.'],
  ['valid', 'Of check: whether the file may be applied.'],
  ['notes', 'Of check: as warnings; what a file that was written for an older version means now. Nothing to mend.'],
  ['inSync', 'Of status: whether a reload would do nothing. A NIC that is not there yet alone leaves it true.'],
  [
    'nics, eips, forwards, sources',
    'Of status: arrays, each entry with state: active, pending or error. EIPs, forwards and sources have broken, where there is any: on which part of the way rules of ours are missing, or others. A NIC has mac and device, and kept, where there is any: zone, dns, dnsSearch, dnsOptions and dnsPriority of its profile.',
  ],
  [
    'foreign',
    'Of status: an array of what is not ours on NICs of the file and in nat, each with kind (address, route or rule), device or chain, text, and goes: whether a reload removes it.',
  ],
  [
    'staleFlows',
    'Of status: an array of flows that conntrack goes on translating as the file does not say any more, by of, the address or network that they are of, and count. A reload cuts them.',
  ],
  ['lastRun', 'Of status: time, trigger, result and error of the last run.'],
];

const FILES: readonly [string, string][] = [
  [PATHS.config, 'The configuration: kylin\\-vr.yaml(5). Written by the operator or the hypervisor host.'],
  [PATHS.run, 'The lock, the mark that a NIC came or went, the last run.'],
  [PATHS.lastGood, 'The last configuration that was applied well; in force while the file is wrong.'],
  [DEFAULTS_PATH, 'What NetworkManager takes for NICs of the file, in place of the defaults of others: their own MAC.'],
  [PATHS.backup, 'Foreign profiles that claimed our NICs.'],
  [PATHS.log, 'The log, JSON lines; the journal has it too.'],
  ['/var/cache/kylin-vr', 'Compiled code, where the package brings none.'],
];

export type ManPage = { name: string; section: number; text: string };

/** `date`: of the package, as YYYY-MM-DD. */
export function manPages(version: string, date: string): ManPage[] {
  const program = createProgram({ stdout: () => {}, stderr: () => {} } as unknown as Context, () => {});
  const header = (name: string, section: number) =>
    `.TH ${name.toUpperCase()} ${section} "${date}" "kylin\\-vr ${version}" "System Administration"\n.nh\n.ad l\n`;
  return [
    { name: 'kylin-vr', section: 8, text: header('kylin\\-vr', 8) + commandPage(program) },
    { name: 'kylin-vr.yaml', section: 5, text: header('kylin\\-vr.yaml', 5) + filePage() },
  ];
}

function commandPage(program: Command): string {
  const commands = leaves(program);
  return [
    section('NAME', 'kylin\\-vr \\- makes a machine the VPC router that one YAML file describes\n'),
    section('SYNOPSIS', `.B kylin\\-vr\n.RI [ options ]\n.I command\n.RI [ arguments ]\n`),
    section(
      'DESCRIPTION',
      `Inside the guest,
.B kylin\\-vr
brings links, addresses, routes, elastic IPs (1:1 NAT), port forwards and source NAT in line with
.BR kylin\\-vr.yaml (5).
It changes only what differs, verifies what it did, and takes it back when that fails. It is one process that does its work and
exits. At boot
.I kylin\\-vr.service
runs it; a NIC that comes or goes, and a timer, start
.IR kylin\\-vr\\-reload.service .
`,
    ),
    section('COMMANDS', commands.map(commandEntry).join('')),
    section(
      'OPTIONS',
      program.options
        .filter(({ hidden }) => !hidden)
        .map(optionEntry)
        .join(''),
    ),
    section(
      'EXIT STATUS',
      entries(Object.entries(EXIT).map(([name, status]) => [String(status), statusText(name as keyof typeof EXIT)])),
    ),
    section(
      'JSON',
      `With \\-\\-json each command prints one object. Fields that others may rely on:\n${entries(FIELDS)}`,
    ),
    section(
      'STEPS',
      `The kinds of a step:\n${entries(Object.entries(KINDS).map(([kind, { manual }]) => [kind, manual]))}`,
    ),
    section('FILES', entries(FILES, 'I')),
    section('ENVIRONMENT', entries([['NO_COLOR', 'Where it is set and not empty, no colours on a terminal.']])),
    section(
      'FLOWS',
      `NAT rules are asked for the first packet of a flow only; from then on its entry in conntrack decides. After a change, and at each
.B reload
that somebody asks for, all entries are held against the file, and those that it would translate otherwise are cut, of any protocol, established or not,
in both directions. So an elastic IP or a forward works at once for who sent to it before. A VM that gets an elastic IP of its own, or loses it, does
not keep its flows: those that left by another address begin anew, also UDP that never pauses. Left alone are entries in other zones, what NAT rules
or rules of policy routing of somebody else may have decided, what a helper (FTP, SIP) expects as long as its mapping stands, and established TCP
connections of the router itself: of those a warning tells. A run by itself (udev, timer) that finds the rules as they were does not read the table;
.B status
does.
`,
    ),
    section(
      'NOTES',
      `The old callers' options
.BR \\-\\-start ,
.BR \\-\\-reload ,
.B \\-c init
and
.B \\-c reload
.RB [ \\-d
.IR device ]
work, also through
.I /usr/bin/kylin\\-vr.py
and
.IR /usr/local/bin/kylin\\-vr.py .
`,
    ),
    section(
      'SEE ALSO',
      `.BR kylin\\-vr.yaml (5),
.BR ip (8),
.BR iptables (8),
.BR systemctl (1)
.PP
The manual is
.I docs/manual.md
in the package's folder of documents; in Chinese it is
.IR docs/manual.zh\\-CN.md .
`,
    ),
  ].join('');
}

const statusText = (name: keyof typeof EXIT): string =>
  `${STATUS_WORDS[name].replaceAll('`', '').replace(/^./, (first) => first.toUpperCase())}.`;

/** Commands that do something; a group of commands only leads to them. */
function leaves(command: Command, path: readonly string[] = []): { path: string; command: Command }[] {
  return command.commands.flatMap((child) => {
    const there = [...path, child.name()];
    return child.commands.length > 0 ? leaves(child, there) : [{ path: there.join(' '), command: child }];
  });
}

function commandEntry({ path, command }: { path: string; command: Command }): string {
  const options = command.options.filter(({ hidden }) => !hidden);
  const argumentsOf = command.registeredArguments.map((argument) => {
    const name = `\\fI${escaped(argument.name())}\\fR${argument.variadic ? ' ...' : ''}`;
    return argument.required ? name : `[${name}]`;
  });
  const head = [
    `\\fB${escaped(path)}\\fR`,
    ...argumentsOf,
    ...options.map((option) => (option.mandatory ? flagsOf(option) : `[${flagsOf(option)}]`)),
  ].join(' ');
  const body = [
    paragraph(command.description()),
    ...options.map((option) => `.RS\n${optionEntry(option)}.RE\n`),
    ...command.registeredArguments
      .filter(({ description }) => description !== '')
      .map((argument) => `.RS\n.TP\n.I ${escaped(argument.name())}\n${paragraph(argument.description)}.RE\n`),
  ];
  return `.TP\n${head}\n${body.join('')}`;
}

function optionEntry(option: Option): string {
  const { description, argChoices, defaultValue } = option;
  const choices = argChoices === undefined ? '' : `: ${argChoices.join(', ')}`;
  const shown =
    [undefined, false].includes(defaultValue) || `${defaultValue}` === '' ? '' : ` (default: ${defaultValue})`;
  return `.TP\n${flagsOf(option)}\n${paragraph(`${description}${choices}${shown}`)}`;
}

/** `--config <file>`: the option bold, its value in italics. */
function flagsOf({ flags }: Option): string {
  return escaped(flags)
    .replace(/(\\-[\w\\-]+)/g, '\\fB$1\\fR')
    .replace(/<([^>]+)>/g, '\\fI$1\\fR');
}

type JsonSchema = {
  type?: string;
  description?: string;
  properties?: Record<string, JsonSchema>;
  items?: JsonSchema;
  required?: string[];
};

function filePage(): string {
  const schema = z.toJSONSchema(fileSchema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  const keysOfFile = Object.entries(schema.properties ?? {});
  const lists = keysOfFile.flatMap(([name, list]) => {
    if (list.items === undefined) return [];
    const { properties = {}, required = [] } = list.items;
    const keys = Object.entries(properties).map(([key, { description = '' }]): [string, string] => [
      key,
      required.includes(key) ? description : `${description} Optional.`,
    ]);
    return `.SS ${escaped(name)}\n${paragraph(list.description ?? '')}${entries(keys)}`;
  });
  const settings = keysOfFile.flatMap(([name, { description = '', items }]): [string, string][] =>
    items === undefined ? [[name, `${description} Optional.`]] : [],
  );
  const spellings = [...SPELLINGS].map(([old, now]): [string, string] => [old, `The same as ${now}.`]);
  return [
    section('NAME', 'kylin\\-vr.yaml \\- the configuration of kylin\\-vr\n'),
    section('SYNOPSIS', `.I ${escaped(PATHS.config)}\n`),
    section(
      'DESCRIPTION',
      `YAML: one mapping of the lists and settings below. A file that is missing, empty or wrong changes nothing;
.I if_list: []
takes down all addresses, routes, rules and profiles of ours; kernel settings stay until the next boot. Every mistake is shown with its line and column by
.BR "kylin\\-vr check" .
The folder has to be root's and closed to others (0700), the file 0600.
`,
    ),
    section('LISTS', lists.join('')),
    section('SETTINGS', entries(settings)),
    section(
      'INSIDE',
      `What is in the network of a NIC without a gateway is inside, and what is behind a
.I route_list
entry whose
.I via
is in such a network: it leaves by the uplink as the hosts of that subnet do, unless
.I snat_list
names it. A
.I dest
that has an elastic IP or the network of a NIC with a gateway in it, or that is wider than a /8, makes nobody inside.
`,
    ),
    section('OTHER SPELLINGS', entries(spellings)),
    section(
      'EXAMPLE',
      `.nf
if_list:
  \\- { ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }
  \\- { ipaddr: 192.168.100.254, prefix: 24, mac: '52:54:84:11:00:04' }
eip_list:
  \\- { eip: 203.0.113.50, vm\\-ip: 192.168.100.190 }
port_forward_list:
  \\- { eip: 203.0.113.60, protocol: tcp, port: 80, vm\\-port: 8080, vm\\-ip: 192.168.100.191 }
.fi
`,
    ),
    section('SEE ALSO', '.BR kylin\\-vr (8)\n'),
  ].join('');
}

const section = (name: string, text: string): string => `.SH ${name}\n${text}`;

const entries = (list: readonly (readonly [string, string])[], font: 'B' | 'I' = 'B'): string =>
  list.map(([name, text]) => `.TP\n.${font} "${escaped(name)}"\n${paragraph(text)}`).join('');

/** A line that began with a dot or a quote would be a request. */
const paragraph = (text: string): string => `${escaped(text).replace(/^(?=[.'])/gm, '\\&')}\n`;

const escaped = (text: string): string => text.replace(/\\(?!-)/g, '\\e').replace(/(?<!\\)-/g, '\\-');
