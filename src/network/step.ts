// A step: one smallest change, as data. What there is to know of each kind stands in kinds.ts; how it is carried out is apply.ts's.

import type { Foreign } from './foreign.ts';
import type { Stray, Unreadable } from './observation.ts';
import type { Address, Bridge, Chain, File, Jump, Port, Route, SubnetRoute, Sysctl, TableName } from './state.ts';

export type Step =
  /** `late`, here and below: when all else is done, and flows are cut. */
  | ({ kind: 'set-sysctl'; was: string; late?: true } & Sysctl)
  | { kind: 'write-file'; file: File; was: 'absent' | 'different' }
  | { kind: 'remove-file'; path: string }
  /** `replaced`: by ours, in the step that writes it; until then it stays. */
  | { kind: 'back-up-file'; path: string; to: string; reason: string; replaced?: true }
  | { kind: 'set-link-up'; device: string }
  | { kind: 'set-link-down'; device: string }
  | { kind: 'set-mtu'; device: string; mtu: number; was: number }
  | { kind: 'add-bridge'; bridge: Bridge }
  | { kind: 'remove-bridge'; bridge: Bridge }
  /** Addresses on the NIC itself do not work from then on. */
  | { kind: 'add-port'; port: Port }
  | { kind: 'remove-port'; port: Port }
  /** The route to the network of an address that stays on a port: it would draw that network's packets to the port. */
  | { kind: 'remove-port-route'; device: string; dest: string }
  | MoveStep
  /** A route of an advertisement, on a link that hears none any more; `to`: where it is made anew. */
  | { kind: 'remove-advertised'; foreign: Foreign; to: string }
  /** `like`: the port in whose stead it hears. */
  | { kind: 'ask-routers'; device: string; like?: string }
  /** `by`: NetworkManager does it when the profile is applied, not `ip`. */
  | { kind: 'add-address'; address: Address; by?: 'networkmanager' }
  | { kind: 'remove-address'; address: Address; foreign: boolean; by?: 'networkmanager' }
  | { kind: 'add-route'; route: Route; by?: 'networkmanager' }
  | { kind: 'remove-route'; route: Route; by?: 'networkmanager' }
  /** The route to the network of an address that is there. */
  | { kind: 'add-subnet-route'; route: SubnetRoute; by?: 'networkmanager' }
  /** Makes NetworkManager read its own configuration anew, not the profiles. */
  | { kind: 'load-configuration' }
  /** Makes NetworkManager read these files, or notice that they are gone; all of its files where none is named. */
  | { kind: 'load-profiles'; paths: readonly string[]; keep?: readonly Foreign[] }
  /**
   * Makes NetworkManager bring the device in line with the profile. `active`: it is active there already; `preserves`: and
   * NetworkManager may leave what it did not bring where it is; `standing`: none is, and addresses are there all the same.
   * `keep`, here and above: what is foreign and has to be there afterwards as before.
   */
  | {
      kind: 'apply-profile';
      device: string;
      uuid: string;
      active: boolean;
      preserves?: true;
      standing?: true;
      keep?: readonly Foreign[];
    }
  /** Makes NetworkManager forget profiles whose files are gone; a device on which one is active is let go. */
  | { kind: 'forget-profiles'; paths: readonly string[] }
  /** NetworkManager leaves a device alone, with all that is on it. */
  | { kind: 'release-device'; device: string }
  /** NetworkManager has a device again, which is set up as its profile says. */
  | { kind: 'return-device'; device: string; uuid: string; keep?: readonly Foreign[] }
  /** What is foreign, and was lost when a run was killed, or with IPv6. */
  | { kind: 'put-back'; foreign: Foreign }
  | { kind: 'add-chain'; chain: Chain }
  /** The whole chain anew. */
  | { kind: 'replace-chain'; chain: Chain; late?: true }
  /** Some rules of a chain in which order means nothing. */
  | {
      kind: 'edit-chain';
      table: TableName;
      name: string;
      remove: readonly string[];
      add: readonly string[];
      late?: true;
    }
  | { kind: 'remove-chain'; table: TableName; name: string; late?: true }
  | { kind: 'add-jump'; jump: Jump }
  /** `handle`: nft's, where iptables would take another one for it. */
  | { kind: 'remove-jump'; jump: Jump; handle?: number; late?: true }
  /** Our chains in the iptables backend that is not in use. */
  | { kind: 'remove-stray-rules'; stray: Stray }
  /** Ours in a table that iptables cannot read. */
  | { kind: 'remove-unreadable-rules'; unreadable: Unreadable }
  /** Entries of conntrack that the file would translate otherwise: found when all else is done, so in no plan of it. */
  | { kind: 'cut-flows'; of: string; count: number }
  /** Gratuitous ARP: neighbours learn the addresses at once. `mac`: undefined where it may be another by then. */
  | { kind: 'announce-addresses'; device: string; mac?: string; addresses: readonly string[] };

/** A global IPv6 address, a route in any table, or a neighbour that somebody entered, that goes with the NIC's addresses. */
export type MoveStep = {
  kind: 'move-foreign';
  foreign: Foreign;
  to: string;
  /** Of an IPv6 route: it is there, too, already. */
  there?: true;
  /** Of an IPv6 route: nothing leads to its gateway there yet. */
  onlink?: true;
  /**
   * Of an IPv4 route, or a neighbour. `there`: as it is then; `isThere`: it is, or one of ours that does its work; `endsByItself`: the old one goes with
   * the last address; `isTold`: its source or gateway tells whose it is.
   */
  way?: { from: string; there: Foreign; isThere: boolean; endsByItself: boolean; isTold: boolean };
};

export type StepKind = Step['kind'];

export type StepOf<Kind extends StepKind> = Extract<Step, { kind: Kind }>;

export type LateStep = Extract<Step, { late?: true }>;

export const asLate = (step: LateStep): LateStep => ({ ...step, late: true });

/** What waits until all else is done. */
export const isLate = (step: Step): boolean => 'late' in step && step.late === true;

/** Whether anything can be taken of a chain of ours. */
export const canShrink = ({ rules, heldBy }: Chain): boolean => heldBy === undefined || rules.length > 0;

/** The step that takes a chain of ours away, or as much of it as the kernel lets go. */
export const chainRemoval = ({ table, name, heldBy }: Pick<Chain, 'table' | 'name' | 'heldBy'>) =>
  heldBy === undefined
    ? ({ kind: 'remove-chain', table, name } as const)
    : ({ kind: 'replace-chain', chain: { table, name, rules: [], ordered: true } } as const);
