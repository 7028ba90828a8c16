// A renderer turns the desired state of the NICs into persistent files of one format. Pure.

import { sha1Of } from '../base/hash.ts';
import type { BoundNic } from './nics.ts';
import type { FoundKeys, ProfileKeys } from './profile-keys.ts';
import { type Address, FILE_MARK, type File, type Route } from './state.ts';

export type Rendering = {
  nics: readonly BoundNic[];
  addresses: readonly Address[];
  routes: readonly Route[];
  /** What the profile of a device says beside. */
  keys: ReadonlyMap<string, ProfileKeys>;
};

/** The mark is a comment: older NetworkManagers refuse a section that they do not know. */
export const PROFILE_HEADER = `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload, but for zone and DNS.`;

/** As NetworkManager reads it, which knows neither comments nor ARPUPDATE: profiles of 1.0, where they are others, say the same to it. */
export const asManagerReads = (content: string): string => content.replace(/^(#.*|ARPUPDATE\d*=no)\n/gm, '');

/** Of a profile that is activated by hand alone. */
export const NOT_AT_BOOT = -1000;

/** Which NIC a profile is for, as far as it says. Lower-case MAC. */
export type ProfileClaim = { mac?: string; device?: string };

/** Profiles of one format that are read in one folder. */
export type ProfileFolder = {
  folder: string | undefined;
  /** Whether a file of that name in the folder is read as a profile, or as a part of one. */
  isProfile(fileName: string): boolean;
  /** The NIC that a profile is for; undefined where it is for none in particular. */
  claim(fileName: string, content: string): ProfileClaim | undefined;
  /** By its UUID: NetworkManager drops our mark when it writes a profile. */
  isOurs(content: string): boolean;
  keys(content: string): FoundKeys;
  /** Of several for one NIC the one with the highest is activated at boot. */
  priority(content: string): number;
};

/** Its files are in `folder`; undefined where it has none. */
export type Renderer = ProfileFolder & {
  name: 'ifcfg' | 'keyfile' | 'none';
  /** Deterministic; every file starts with FILE_MARK. */
  render(rendering: Rendering): File[];
  /** What of them its profiles can have. */
  keepable?(found: FoundKeys): FoundKeys;
  /** The file that a NIC of that name would have, where nobody would read it. */
  passesOver?(device: string): string | undefined;
};

/**
 * The UUID of a NIC's profile in every format: a version 5 UUID (RFC 9562) of its MAC.
 * Do not change: NetworkManager knows the profile by it.
 */
export function profileUuid(mac: string): string {
  const bytes = sha1Of(`kylin-vr ${mac}`).subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x50;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

export const noRenderer: Renderer = {
  name: 'none',
  folder: undefined,
  render: () => [],
  isProfile: () => false,
  claim: () => undefined,
  isOurs: () => false,
  keys: () => ({ keys: {}, left: [] }),
  priority: () => 0,
};
