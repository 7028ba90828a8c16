// Whether what answered before a NIC moves, to a bridge or back, answers after it: its gateways, asked by ARP. What the kernel knows of a
// neighbour is no proof: it may have been heard before.

import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError, CommandError, EXIT, UnsupportedError } from '../base/errors.ts';
import { contains, hostPart, ipv4, parseCidr } from '../base/ipv4.ts';
import type { Host } from '../machine/host.ts';
import { type Machine, readLinks } from '../machine/observe.ts';
import { monotonicMs } from '../machine/process.ts';
import { type BoundNic, ipLinkOf, type OnBridge, usedNics } from '../network/nics.ts';
import type { Bridge } from '../network/state.ts';
import type { Step } from '../network/step.ts';
import { indexOf } from './settle.ts';
import type { Survey } from './survey.ts';

/** What leads out by a NIC, and whether it answered; undefined: there was nowhere to ask from. `index`: the kernel's number of the NIC. */
type Gateway = { nic: BoundNic; via: string; index: number | undefined; answered: boolean | undefined };

/** Of a NIC without a gateway, of those that `route_list` names. */
const MOST_ASKED = 8;

/** Where it did not answer before, it is asked so long. */
const BRIEFLY_MS = 2000;
/** Where it did: a switch learns a MAC, a controller of Open vSwitch makes its flows. */
const ANSWERS_MS = 8000;
/** Between two questions, at first and then. */
const SOON_MS = 200;
const LATER_MS = 1000;
/** Of Open vSwitch: what is asked of it may be less than it takes. */
const FORWARD_DELAY_S = 15;

/** Of the NICs that these steps move, or whose address they move. Before anything is changed. */
export async function askGateways(host: Host, first: Survey): Promise<Gateway[]> {
  return Promise.all(
    usedNics(first.binding)
      .filter((nic) => isMoved(nic, first.steps))
      .flatMap((nic) => gatewaysOf(nic, first).map((via) => ({ nic, via })))
      .map(async ({ nic, via }) => ({
        nic,
        via,
        index: indexOf(first.machine.links, nic.device),
        answered: await answersBefore(host, first, nic, via),
      })),
  );
}

const isMoved = (nic: BoundNic, steps: readonly Step[]): boolean =>
  steps.some((step) => {
    if (step.kind === 'add-port' || step.kind === 'remove-port') return step.port.device === nic.device;
    if (step.kind !== 'add-address' || nic.bridge === undefined) return false;
    return step.address.device === nic.bridge.name && step.address.spec === `${nic.ipaddr}/${nic.prefix}`;
  });

function gatewaysOf(nic: BoundNic, { desired }: Survey): string[] {
  if (nic.gateway !== undefined) return [nic.gateway];
  const vias = desired.routes.filter(({ device }) => device === ipLinkOf(nic)).map(({ via }) => via);
  return [...new Set(vias)].slice(0, MOST_ASKED);
}

/** From wherever there is an address of its network: on the NIC, on the bridge that it is a port of, on the one that it is to be. */
async function answersBefore(host: Host, first: Survey, nic: BoundNic, via: string): Promise<boolean | undefined> {
  const { machine, observation } = first;
  const bridges = observation.state.ports.flatMap(({ device, bridge }) => (device === nic.device ? [bridge] : []));
  const places = new Set([nic.device, ...bridges, ipLinkOf(nic)]);
  const questions = machine.addresses
    .filter(({ device, spec }) => places.has(device) && isNeighbour(spec, via))
    .filter(({ device }, n, all) => all.findIndex((each) => each.device === device) === n)
    .map(({ device, spec }) => ({ device, source: hostPart(spec), via }));
  if (questions.length === 0) return undefined;
  const alive = questions.filter(({ device }) => [device, nic.device].every((each) => isAlive(machine.links, each)));
  const answers = await Promise.all(alive.map((question) => asked(host, question, 3)));
  return answers.includes(true);
}

function isNeighbour(spec: string, via: string): boolean {
  const network = parseCidr(spec);
  return network !== undefined && contains(network, ipv4(via));
}

const isAlive = (links: Machine['links'], device: string): boolean =>
  links.some((link) => link.device === device && link.up && !link.noCarrier);

type GatewayQuestion = { device: string; source: string; via: string };

/** By another arping than that of iputils nothing is learnt. */
async function asked(host: Host, { device, source, via }: GatewayQuestion, seconds: number): Promise<boolean> {
  const tries = String(seconds);
  try {
    const { status } = await host.run(
      ['arping', '-f', '-q', '-c', tries, '-w', tries, '-I', device, '-s', source, via],
      { accept: [1, 2] },
    );
    return status === 0;
  } catch (error) {
    if (error instanceof CommandError || error instanceof UnsupportedError) return false;
    throw error;
  }
}

/**
 * Gives what is to be said; `waited`: it took long, or a NIC is not there any more. `keeps`: nothing is taken back. Throws AgentError where
 * what answered before does not any more.
 */
export async function judge(
  host: Host,
  gateways: readonly Gateway[],
  keeps: boolean,
): Promise<{ said: string[]; waited: boolean }> {
  const since = monotonicMs();
  const found = await Promise.all(
    gateways.map(async (gateway) => ({ gateway, answer: await answerInTime(host, gateway) })),
  );
  const seconds = Math.round((monotonicMs() - since) / 1000);
  const silent = found.flatMap(({ gateway, answer }) => (answer === 'none' ? [gateway] : []));
  const [first] = silent.filter(({ answered }) => answered);
  const cut = first && (await cutOff(host, first, seconds));
  if (cut !== undefined && !keeps) throw new AgentError(cut, EXIT.failed);
  const said = silent.filter(({ answered }) => !answered).map(neverHeard);
  const isGone = found.some(({ answer }) => answer === 'gone');
  return { said: cut === undefined ? said : [cut, ...said], waited: seconds > 0 || isGone };
}

/** `gone`: the NIC is, or another one has its name. */
type GatewayAnswer = 'some' | 'none' | 'gone';

/** The first answer that comes. What is lost on the way is not answered, so that the next question does not wait for the one before. */
async function answerInTime(host: Host, { nic, via, index, answered }: Gateway): Promise<GatewayAnswer> {
  const question = { device: ipLinkOf(nic), source: nic.ipaddr, via };
  const since = monotonicMs();
  const passed = () => monotonicMs() - since;
  const tries: Promise<void>[] = [];
  let answers = false;
  let most = answered ? ANSWERS_MS : BRIEFLY_MS;
  for (let isExtended = !answered; !answers; ) {
    const pause = passed() < BRIEFLY_MS ? SOON_MS : LATER_MS;
    const one = asked(host, question, 1).then((yes) => {
      answers ||= yes;
    });
    tries.push(one);
    await Promise.race([one.then(() => (answers ? undefined : sleep(pause))), sleep(pause)]);
    if (!answers && pause === LATER_MS && indexOf(await readLinks(host), nic.device) !== index) return 'gone';
    if (passed() < most) continue;
    if (isExtended) break;
    isExtended = true;
    most += await delayOf(host, nic.bridge);
  }
  if (!answers) await Promise.all(tries);
  return answers ? 'some' : 'none';
}

/** What a spanning tree takes on a bridge before a port forwards: it listens, and then it learns. */
async function delayOf(host: Host, bridge: Bridge | undefined): Promise<number> {
  if (bridge === undefined) return 0;
  const delay = bridge.type === 'linux' ? await linuxDelay(host, bridge.name) : await ovsDelay(host, bridge.name);
  return 2 * delay * 1000;
}

/** Seconds; 0 without a spanning tree. */
async function linuxDelay(host: Host, name: string): Promise<number> {
  const { stdout } = await host.run(['ip', '-json', '-details', 'link', 'show', 'dev', name], { accept: [1] });
  const state = /"stp_state":\s*([0-9]+)/.exec(stdout)?.[1] ?? '0';
  const delay = /"forward_delay":\s*([0-9]+)/.exec(stdout)?.[1] ?? '0';
  return state === '0' ? 0 : Number(delay) / 100;
}

async function ovsDelay(host: Host, name: string): Promise<number> {
  const words = ['get', 'Bridge', name, 'stp_enable', 'rstp_enable', 'other_config'];
  const { stdout } = await host.run(['ovs-vsctl', '--timeout=5', ...words], { accept: [1, 2] });
  if (!/^true$/m.test(stdout)) return 0;
  const asked = Number(/stp-forward-delay="?(\d+)/.exec(stdout)?.[1] ?? 0);
  return Math.max(asked, FORWARD_DELAY_S);
}

const neverHeard = ({ nic, via, answered }: Gateway): string =>
  `the gateway ${via} does not answer by ARP on ${ipLinkOf(nic)}${answered === undefined ? '' : ', and did not before either'}: ` +
  'whether anything passes is not known';

const cutOff = async (host: Host, { nic, via }: Gateway, seconds: number): Promise<string> =>
  `the gateway ${via} answered by ARP before, and does not on ${ipLinkOf(nic)} within ${seconds} s: look at ${await lookAt(host, nic)}`;

async function lookAt(host: Host, nic: Placed): Promise<string> {
  const { bridge } = nic;
  const tags = bridge?.type === 'ovs' ? await tagsOn(host, bridge.name) : [];
  return `${placesOf(nic)}${tags.length === 0 ? '' : `; ports of it with a tag: ${tags.join(', ')}`}`;
}

/** Ports of a bridge of Open vSwitch, itself included, that have one. */
async function tagsOn(host: Host, name: string): Promise<string[]> {
  const ask = (...words: string[]) => host.run(['ovs-vsctl', '--timeout=5', ...words]);
  try {
    const [ports, printed] = await Promise.all([
      ask('list-ports', name),
      ask('--format=csv', '--no-headings', '--columns=name,tag', 'list', 'Port'),
    ]);
    const own = new Set([name, ...ports.stdout.split('\n')]);
    return printed.stdout.split('\n').flatMap((line) => {
      const [, port, tag] = /^"?([^",]+)"?,(\d+)$/.exec(line) ?? [];
      return port !== undefined && own.has(port) ? [`${port} (${tag})`] : [];
    });
  } catch (error) {
    // It says nothing: that is said elsewhere.
    if (error instanceof CommandError) return [];
    throw error;
  }
}

type Placed = Pick<BoundNic, 'device' | 'bridge'>;

function placesOf({ device, bridge }: Placed): string {
  if (bridge === undefined)
    return `the VLAN of ${device}, rules of others (nft list ruleset) and what the switch lets pass`;
  const { name, type } = bridge;
  return type === 'ovs'
    ? `fail_mode (ovs-vsctl get-fail-mode ${name}), flows (ovs-ofctl dump-flows ${name}), the tag of ${device} and ${name} ` +
        '(ovs-vsctl list Port) and STP (ovs-vsctl list Bridge)'
    : `STP (bridge link), the MAC and the VLANs of ${name} (bridge vlan), rules of others (nft list ruleset) and what the switch lets pass`;
}

/** A gateway of a NIC on a bridge that answers nobody, in a moment when nothing is changed; one that somebody entered need not. */
export async function silentGateways(
  host: Host,
  nics: readonly OnBridge[],
): Promise<{ nic: OnBridge; message: string }[]> {
  const asked = await Promise.all(
    nics.map(async (nic) => ((await isSilent(host, nic)) ? [{ nic, message: await silence(host, nic) }] : [])),
  );
  return asked.flat();
}

const silence = async (host: Host, nic: OnBridge): Promise<string> =>
  `the gateway ${nic.gateway} does not answer by ARP on ${nic.bridge.name}, so that nothing passes: look at ${await lookAt(host, nic)}`;

async function isSilent(host: Host, { ipaddr, gateway: via, bridge }: OnBridge): Promise<boolean> {
  const device = bridge.name;
  if ((await host.which('arping')) === undefined) return false;
  if (await asked(host, { device, source: ipaddr, via }, 2)) return false;
  const { stdout } = await host.run(['ip', '-4', 'neighbour', 'show', 'to', via, 'dev', device, 'nud', 'permanent']);
  return stdout.trim() === '';
}
