// `explain`: what happens to a packet, in words; with --live also whether the kernel agrees. Touches nothing.

import { count } from '../base/count.ts';
import { CommandError, EXIT, type ExitStatus, UsageError } from '../base/errors.ts';
import { parseIpv4 } from '../base/ipv4.ts';
import { shown } from '../base/visible.ts';
import type { Nic } from '../config/config.ts';
import { ofFile } from '../config/issue.ts';
import { loadConfig } from '../config/load.ts';
import { parseFlows } from '../dialects/conntrack.ts';
import { parsePrinted } from '../dialects/json.ts';
import { readAnyones, readTrusted } from '../machine/config-file.ts';
import { waysInForce } from '../machine/flow-record.ts';
import type { Host } from '../machine/host.ts';
import { findStops } from '../machine/obstacles.ts';
import { type Explanation, explain as explainPacket, type Packet } from '../network/explain.ts';
import { faultyNics, ipLinkOf } from '../network/nics.ts';
import { chooseRenderer, type Survey, survey } from '../run/survey.ts';
import { type Context, type GlobalOptions, needRoot, painter, printJson, refuseFile } from './context.ts';

export type ExplainOptions = GlobalOptions & { from: string; to: string; live: boolean };

/** What the kernel says to it. */
type Live = { agrees: boolean; lines: { text: string; agrees: boolean }[] };

export async function explain(context: Context, options: ExplainOptions): Promise<ExitStatus> {
  if (options.live) needRoot(context, 'explain --live');
  const packet = packetOf(options);
  const host = context.host();
  const file = await (options.live ? readTrusted(host, options.config, 'look') : readAnyones(host, options.config));
  if ('errors' in file) return refuseFile(context, options, file);
  const parsed = ofFile(options.config, await loadConfig(file.bytes));
  if (!parsed.ok) return refuseFile(context, options, { ...parsed, bytes: file.bytes });
  const { config } = parsed;
  // Without --live the file may be of another machine: its NICs are named as they are there.
  const found = options.live
    ? await survey(host, {
        config,
        renderer: await chooseRenderer(host, options.renderer),
        scope: 'whole',
        ways: await waysInForce(host),
      })
    : undefined;
  const bound = found?.binding.bound ?? [];
  const deviceOf = (mac: string | undefined) => bound.filter((nic) => nic.mac === mac).map(ipLinkOf)[0];
  const nameOf = (nic: Nic) => {
    const [device, label] = [
      deviceOf(nic.mac),
      nic.name ?? `${nic.gateway === undefined ? 'subnet' : 'uplink'} ${nic.mac}`,
    ];
    return device === undefined ? label : `${device} (${label})`;
  };
  const explanation = explainPacket(config, packet, nameOf);
  const live = found && (await ask(host, packet, explanation, deviceOf, found));
  if (options.json) printJson(context, { packet, ...explanation, ...(live !== undefined && { live }) });
  else {
    const paint = painter(context);
    for (const line of explanation.lines) context.stdout(shown`${line}\n`);
    for (const { text, agrees } of live?.lines ?? [])
      context.stdout(shown`${agrees ? paint('agrees', 'green') : paint('differs', 'red')}: ${text}\n`);
  }
  return live?.agrees === false ? EXIT.notInSync : EXIT.ok;
}

function packetOf({ from, to }: ExplainOptions): Packet {
  const [, address = '', port, protocol = port === undefined ? 'icmp' : 'tcp'] =
    /^([\d.]+)(?::(\d+))?(?:\/(tcp|udp|icmp))?$/.exec(to) ?? [];
  for (const [option, text] of [
    ['--from', from],
    ['--to', address],
  ] as const)
    if (parseIpv4(text) === undefined)
      throw new UsageError(`${option} must be an IPv4 address${option === '--to' ? ', or ADDRESS:PORT/PROTOCOL' : ''}`);
  if (port === undefined) {
    if (protocol !== 'icmp') throw new UsageError(`--to needs a port for ${protocol}: ${address}:80/${protocol}`);
    return { from, to: address, protocol: 'icmp' };
  }
  const number = Number(port);
  if (number < 1 || number > 65535 || protocol === 'icmp')
    throw new UsageError('--to must have a port from 1 to 65535, of tcp or udp');
  return { from, to: address, protocol: protocol === 'udp' ? 'udp' : 'tcp', port: number };
}

async function ask(
  host: Host,
  packet: Packet,
  explanation: Explanation,
  deviceOf: (mac: string | undefined) => string | undefined,
  found: Survey,
): Promise<Live> {
  const lines: Live['lines'] = [inForce(found)];
  const [enters, leaves] = [deviceOf(explanation.enters), deviceOf(explanation.leaves)];
  if (explanation.leaves !== undefined) lines.push(await routed(host, packet, explanation, enters, leaves));
  if (enters !== undefined && leaves !== undefined) {
    const translated = explanation.to !== packet.to;
    const probe = { in: enters, out: leaves, protocol: packet.protocol, translated };
    const stops = await findStops(host, found, probe, [packet.from, packet.to, explanation.to, explanation.source]);
    lines.push(...stops.map((text) => ({ agrees: false, text })));
  }
  lines.push(...(await tracked(host, packet, explanation)));
  return { agrees: lines.every(({ agrees }) => agrees), lines };
}

function inForce({ steps, binding }: Survey): Live['lines'][number] {
  if (steps.length > 0)
    return {
      agrees: false,
      text: `the file is not in force (${count(steps.length, 'step')} to do): kylin-vr plan shows them`,
    };
  const [faulty] = faultyNics(binding);
  if (faulty !== undefined)
    return { agrees: false, text: `NIC ${faulty.mac} is in error: kylin-vr status says what is wrong with it` };
  return { agrees: true, text: 'what the file says is in force' };
}

type RouteFound = { dev?: string; gateway?: string };

async function routed(
  host: Host,
  { from }: Packet,
  { to, via }: Explanation,
  enters: string | undefined,
  leaves: string | undefined,
): Promise<Live['lines'][number]> {
  const by = enters === undefined ? [] : ['from', from, 'iif', enters];
  try {
    const { stdout } = await host.run(['ip', '-j', 'route', 'get', to, ...by]);
    const [route = {}] = parsePrinted(stdout) as RouteFound[];
    const wordsOf = (dev = '?', gateway?: string) => `by ${dev}${gateway === undefined ? '' : ` to ${gateway}`}`;
    const [way, asked] = [wordsOf(route.dev, route.gateway), wordsOf(leaves, via)];
    const text = `the kernel sends it out ${way}`;
    return { agrees: way === asked, text: way === asked ? text : `${text}, not ${asked}` };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { agrees: false, text: `the kernel does not route it: ${error.stderr.trim()}` };
  }
}

/** Connections of these two that the kernel knows already: whether their NAT is what a new one would get. */
async function tracked(host: Host, packet: Packet, explanation: Explanation): Promise<Live['lines']> {
  const { from, to, protocol, port } = packet;
  const { stdout } = await host.run(['conntrack', '-L', '-p', protocol, '-s', from, '-d', to], { accept: [1] });
  const flows = parseFlows(stdout).filter(
    (flow) => !flow.zoned && (port === undefined || flow.destinationPort === port),
  );
  if (flows.length === 0) return [{ agrees: true, text: 'conntrack knows no such connection now' }];
  const alike = flows.filter(
    (flow) => flow.replySource === explanation.to && flow.replyDestination === explanation.source,
  );
  if (alike.length === flows.length)
    return [{ agrees: true, text: `conntrack knows ${count(flows.length, 'such connection')}, translated so` }];
  const other = flows.find((flow) => !alike.includes(flow));
  return [
    {
      agrees: false,
      text:
        `conntrack knows ${count(flows.length - alike.length, 'connection')} translated otherwise: to ${other?.replySource}, ` +
        `seen as ${other?.replyDestination}`,
    },
  ];
}
