// What there is to know of each kind of step, in one table: what carries it out, how it is said, and what those ask who look at steps that
// are done or still to do. A kind is complete, or this does not compile. Pure.

import { count } from '../base/count.ts';
import { type Foreign, foreignText } from './foreign.ts';
import type { Address, Bridge, Port, Route, SubnetRoute } from './state.ts';
import type { Step, StepKind, StepOf } from './step.ts';

/** What carries steps out: machine/apply.ts has each. */
export type Tool =
  | 'sysctl'
  | 'files'
  | 'ip'
  /** Goes on where a line fails. */
  | 'ip-force'
  | 'ovs'
  | 'iptables'
  /** The one of the backend that is not in use. */
  | 'other-iptables'
  | 'nft'
  | 'networkmanager'
  /** NetworkManager's own configuration. */
  | 'nmcli'
  /** What others had, in their words. */
  | 'put-back'
  | 'solicitation'
  | 'arping'
  | 'conntrack';

type YesOrNo<S extends Step> = boolean | ((step: S) => boolean);

type Traits<S extends Step> = {
  /** What the man page says. */
  manual: string;
  /** The line that an operator reads in `plan`, in the result and in the log. */
  line: (step: S) => string;
  by: Tool | ((step: S) => Tool);
  /** The link that it is about. */
  link: (step: S) => string | undefined;
  /** NetworkManager, where it manages the link, carries it out, or has to know of it. */
  manager: 'carries-out' | 'knows' | 'nothing';
  /** A NIC is in error as long as it is to be done on the NIC, or on its bridge. */
  faults: boolean;
  /** A NIC, an EIP or a network may be out of reach as long as it is to be done: reach.ts says which. */
  bars: boolean;
  /** It may bring a way for packets about, or take one, be it by what others do then. */
  mayLead: boolean;
  /** Others may lose by it what they have on NICs of ours beside addresses. */
  mayTake: YesOrNo<S>;
  /** What others entered is between a NIC and its bridge then. */
  parts: boolean;
  /** A part of our packet filter: an operator reads what such steps do together (spoken.ts). */
  filters: boolean;
  /** It takes away what flows went by. */
  endsFlows: YesOrNo<S>;
  /** What it brings may have gone along with what other steps take back: then it is done once more. */
  goesAlong: YesOrNo<S>;
};

const none = () => undefined;
const device = (step: { device: string }) => step.device;
const deviceOfAddress = ({ address }: { address: Address }) => address.device;
const deviceOfRoute = ({ route }: { route: Route | SubnetRoute }) => route.device;
const deviceOfForeign = ({ foreign }: { foreign: Foreign }) => foreign.device;
const nameOfBridge = ({ bridge }: { bridge: Bridge }) => bridge.name;
const deviceOfPort = ({ port }: { port: Port }) => port.device;

type ByManager = { by?: 'networkmanager' };
const ipOrManager = ({ by }: ByManager): 'ip' | 'networkmanager' => by ?? 'ip';
const isByManager = ({ by }: ByManager) => by !== undefined;

// What several kinds have in common, each of it whole: nothing is so because nobody said otherwise.

const ofNoLink = {
  link: none,
  manager: 'nothing',
  faults: false,
  bars: false,
  mayLead: true,
  mayTake: true,
  parts: false,
  filters: false,
  endsFlows: false,
  goesAlong: false,
} as const;

const ofFile = { ...ofNoLink, by: 'files', manager: 'knows' } as const;

const ofLink = {
  by: 'ip',
  link: device,
  manager: 'nothing',
  faults: true,
  bars: false,
  mayLead: true,
  mayTake: true,
  parts: false,
  filters: false,
  endsFlows: false,
  goesAlong: false,
} as const;

const ofBridge = {
  ...ofLink,
  by: ({ bridge }: { bridge: Bridge }) => (bridge.type === 'ovs' ? 'ovs' : 'ip'),
  link: nameOfBridge,
} as const;

const ofPort = {
  ...ofLink,
  by: ({ port }: { port: Port }) => (port.type === 'ovs' ? 'ovs' : 'ip'),
  link: deviceOfPort,
  parts: true,
} as const;

const ofAddress = { ...ofLink, by: ipOrManager, link: deviceOfAddress, manager: 'carries-out' } as const;

const ofRoute = { ...ofAddress, link: deviceOfRoute } as const;

/** Of others. */
const ofForeign = { ...ofLink, link: deviceOfForeign, faults: false } as const;

const ofManager = { ...ofLink, by: 'networkmanager', faults: false } as const;

const ofRules = { ...ofNoLink, by: 'iptables', mayLead: false, mayTake: false, filters: true } as const;

export const KINDS = {
  'set-sysctl': {
    ...ofNoLink,
    manual: 'a kernel setting',
    line: ({ key, was, value }) => `~ ${key.replaceAll('/', '.')} ${was === '' ? 'unset' : was} → ${value}`,
    by: 'sysctl',
    bars: true,
    mayLead: false,
    mayTake: false,
  },
  'write-file': {
    ...ofFile,
    manual: 'a profile of a NIC',
    line: ({ was, file }) => `${was === 'absent' ? '+' : '~'} file ${file.path}`,
    mayTake: false,
  },
  'remove-file': {
    ...ofFile,
    manual: 'a profile of ours goes',
    line: ({ path }) => `- file ${path}`,
  },
  'back-up-file': {
    ...ofFile,
    manual: 'a foreign profile that claims our NIC is put aside; its zone and DNS go into ours',
    line: ({ path, reason, to }) => `- file ${path} (${reason}), kept as ${to}`,
  },
  'set-link-up': {
    ...ofLink,
    manual: 'a link comes up',
    line: (step) => `~ link ${step.device} up`,
    mayTake: false,
  },
  'set-link-down': {
    ...ofLink,
    manual: 'a link goes down',
    line: (step) => `~ link ${step.device} down`,
  },
  'set-mtu': {
    ...ofLink,
    manual: "a link's MTU",
    line: (step) => `~ link ${step.device} mtu ${step.was} → ${step.mtu}`,
  },
  'add-bridge': {
    ...ofBridge,
    manual: 'a bridge that NICs become ports of',
    line: ({ bridge }) => `+ bridge ${bridgeText(bridge)}`,
    bars: true,
  },
  'remove-bridge': {
    ...ofBridge,
    manual: 'a bridge that we made, and that nothing else is on, goes',
    line: ({ bridge }) => `- bridge ${bridgeText(bridge)}`,
  },
  'add-port': {
    ...ofPort,
    manual: 'a NIC becomes a port of a bridge',
    line: ({ port }) => `+ ${port.device} becomes a port of ${bridgeText({ name: port.bridge, type: port.type })}`,
    bars: true,
  },
  'remove-port': {
    ...ofPort,
    manual: 'a NIC is no port of a bridge any more',
    line: ({ port }) => `- ${port.device} is no port of ${bridgeText({ name: port.bridge, type: port.type })} any more`,
  },
  'remove-port-route': {
    ...ofForeign,
    manual: 'a foreign route that would lead to a port and not to its bridge goes',
    line: (step) => `- route ${step.dest} on ${step.device} (foreign; the network is behind its bridge)`,
    link: device,
  },
  'move-foreign': {
    ...ofForeign,
    manual: 'a global IPv6 address, a foreign route or an entered neighbour goes with its NIC',
    line: ({ foreign, to, there }) =>
      there ? `- ${foreignText(foreign)} (foreign; ${to} has it)` : `~ ${foreignText(foreign)} moves to ${to}`,
    parts: true,
  },
  'remove-advertised': {
    ...ofForeign,
    manual: 'an IPv6 route that a router advertises goes from a port, or a bridge, that hears none any more',
    line: ({ foreign, to }) => `- ${foreignText(foreign)} (advertised; ${to} hears it anew)`,
    by: 'ip-force',
  },
  'ask-routers': {
    ...ofNoLink,
    manual: 'routers are asked to advertise, where a link begins to hear them',
    line: (step) => `! routers asked on ${step.device} what they advertise`,
    by: 'solicitation',
    link: device,
  },
  'add-address': {
    ...ofAddress,
    manual: 'an address',
    line: ({ address }) => `+ address ${address.spec} on ${address.device}`,
    bars: true,
    mayTake: isByManager,
    goesAlong: ({ address }) => address.foreign === true,
  },
  'remove-address': {
    ...ofAddress,
    manual: 'an address goes',
    line: ({ address, foreign }) => `- address ${address.spec} on ${address.device}${foreign ? ' (foreign)' : ''}`,
    endsFlows: ({ foreign }) => !foreign,
  },
  'add-route': {
    ...ofRoute,
    manual: 'a route',
    line: ({ route }) => `+ route ${routeText(route)}`,
    bars: true,
    mayTake: isByManager,
    goesAlong: true,
  },
  'remove-route': {
    ...ofRoute,
    manual: 'a route goes',
    line: ({ route }) => `- route ${routeText(route)}`,
  },
  'add-subnet-route': {
    ...ofRoute,
    manual: 'the route to the network of an address, where somebody took it away',
    line: ({ route }) => `+ route ${route.dest} on ${route.device}`,
    bars: true,
    mayTake: isByManager,
  },
  'load-configuration': {
    ...ofManager,
    manual: 'NetworkManager reads its configuration, of which a file is ours',
    line: () => '~ configuration read by NetworkManager',
    by: 'nmcli',
    link: none,
  },
  'load-profiles': {
    ...ofManager,
    manual: 'NetworkManager reads profiles',
    line: ({ paths }) => `~ profiles read by NetworkManager${paths.length === 0 ? '' : `: ${paths.join(', ')}`}`,
    link: none,
  },
  'apply-profile': {
    ...ofManager,
    manual: 'NetworkManager brings a device in line with its profile',
    line: (step) => `~ profile of ${step.device} ${step.active ? 'reapplied' : 'activated'} by NetworkManager`,
  },
  'forget-profiles': {
    ...ofManager,
    manual: 'NetworkManager forgets profiles that are gone',
    line: ({ paths }) => `- profiles forgotten by NetworkManager: ${paths.join(', ')}`,
    link: none,
  },
  'release-device': {
    ...ofManager,
    manual: 'NetworkManager leaves a bridge, or a NIC that becomes a port, alone',
    line: (step) => `~ ${step.device} left alone by NetworkManager`,
  },
  'return-device': {
    ...ofManager,
    manual: 'NetworkManager has a NIC again that is no port any more',
    line: (step) => `~ ${step.device} managed by NetworkManager again`,
  },
  'put-back': {
    ...ofForeign,
    manual: 'a foreign address or route that a killed run lost is put back',
    line: ({ foreign }) => `+ ${foreignText(foreign)} (foreign, put back)`,
    by: 'put-back',
    mayLead: false,
  },
  'add-chain': {
    ...ofRules,
    manual: 'a chain of iptables',
    line: ({ chain }) => `+ chain ${chain.name} in ${chain.table} (${count(chain.rules.length, 'rule')})`,
  },
  'replace-chain': {
    ...ofRules,
    manual: 'a chain of iptables, anew',
    line: ({ chain }) => `~ chain ${chain.name} in ${chain.table} (${count(chain.rules.length, 'rule')})`,
  },
  'edit-chain': {
    ...ofRules,
    manual: 'some rules of a chain',
    line: ({ name, table, remove, add }) =>
      `~ chain ${name} in ${table}: ${[...remove.map((rule) => `- ${rule}`), ...add.map((rule) => `+ ${rule}`)].join(', ')}`,
    endsFlows: ({ remove }) => remove.length > 0,
  },
  'remove-chain': {
    ...ofRules,
    manual: 'a chain goes',
    line: ({ name, table }) => `- chain ${name} in ${table}`,
    endsFlows: true,
  },
  'add-jump': {
    ...ofRules,
    manual: 'the jump to a chain of ours',
    line: ({ jump }) => `+ jump in ${jump.table} ${jump.hook}: ${jump.rule}`,
  },
  'remove-jump': {
    ...ofRules,
    manual: 'a jump goes',
    line: ({ jump }) => `- jump in ${jump.table} ${jump.hook}: ${jump.rule}`,
    by: ({ handle }) => (handle === undefined ? 'iptables' : 'nft'),
  },
  'remove-stray-rules': {
    ...ofRules,
    manual: 'our chains in the iptables backend that is not in use',
    line: ({ stray }) => `- our chains in the other iptables backend (${stray.restore})`,
    by: 'other-iptables',
    mayTake: true,
    filters: false,
  },
  'remove-unreadable-rules': {
    ...ofRules,
    manual: 'our chains in a table that iptables cannot read',
    line: ({ unreadable }) => `- our chains in ${unreadable.table}, by nft`,
    by: 'nft',
    mayTake: true,
    filters: false,
  },
  'cut-flows': {
    ...ofNoLink,
    manual: 'established flows that the file translates otherwise now',
    line: (step) => `- ${count(step.count, 'established flow')} of ${step.of}`,
    by: 'conntrack',
  },
  'announce-addresses': {
    ...ofNoLink,
    manual: 'gratuitous ARP for addresses that are new, or that initscripts brought up at boot',
    line: (step) =>
      step.addresses.length > 4
        ? `! announce ${step.addresses.length} addresses on ${step.device}`
        : `! announce ${step.addresses.join(', ')} on ${step.device}`,
    by: 'arping',
    link: device,
    mayTake: false,
    goesAlong: true,
  },
} as const satisfies { readonly [Kind in StepKind]: Traits<StepOf<Kind>> };

const bridgeText = ({ name, type }: Bridge): string => `${name} (${type === 'ovs' ? 'Open vSwitch' : 'Linux bridge'})`;

function routeText({ dest, via, device, metric }: Route): string {
  return `${dest} via ${via} on ${device}${metric === 0 ? '' : ` metric ${metric}`}`;
}

type Kinds = typeof KINDS;

type ToolsOf<Kind extends StepKind> = Kinds[Kind]['by'] extends infer By
  ? By extends (step: never) => infer Given
    ? Given
    : By
  : never;

/** Steps that a tool may have to carry out. */
export type StepBy<T extends Tool> = {
  [Kind in StepKind]: [Extract<ToolsOf<Kind>, T>] extends [never] ? never : StepOf<Kind>;
}[StepKind];

/** Steps of the kinds of which the table says so. */
export type StepWith<Name extends keyof Traits<Step>, Value> = {
  [Kind in StepKind]: Kinds[Kind][Name] extends Value ? StepOf<Kind> : never;
}[StepKind];

/** Steps that change our packet filter. */
export type FilterStep = StepWith<'filters', true>;

const TRAITS: { readonly [Kind in StepKind]: Traits<StepOf<Kind>> } = KINDS;

// `kind` beside the step: by it the compiler knows that what the table has is for this step.

function lineOf<Kind extends StepKind>(kind: Kind, step: StepOf<Kind>): string {
  return TRAITS[kind].line(step);
}

export const describe = (step: Step): string => lineOf(step.kind, step);

function toolFor<Kind extends StepKind>(kind: Kind, step: StepOf<Kind>): Tool {
  const { by } = TRAITS[kind];
  return typeof by === 'function' ? by(step) : by;
}

export const toolOf = (step: Step): Tool => toolFor(step.kind, step);

function linkFor<Kind extends StepKind>(kind: Kind, step: StepOf<Kind>): string | undefined {
  return TRAITS[kind].link(step);
}

/** The link that it is about. */
export const linkOf = (step: Step): string | undefined => linkFor(step.kind, step);

/** What NetworkManager has to do with it, where it manages the link. */
export const managerOf = ({ kind }: Step) => TRAITS[kind].manager;

type Trait = 'faults' | 'bars' | 'mayLead' | 'mayTake' | 'parts' | 'filters' | 'endsFlows' | 'goesAlong';

function answer<Kind extends StepKind>(trait: Trait, kind: Kind, step: StepOf<Kind>): boolean {
  const said: YesOrNo<StepOf<Kind>> = TRAITS[kind][trait];
  return typeof said === 'function' ? said(step) : said;
}

export const holds = (step: Step, trait: Trait): boolean => answer(trait, step.kind, step);
