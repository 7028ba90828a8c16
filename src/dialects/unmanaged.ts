// The devices that NetworkManager is to leave alone: a drop-in of its configuration. Pure.

import { FILE_MARK, type File } from '../network/state.ts';

/** Where NetworkManager is installed. */
export const MANAGER_FOLDER = '/etc/NetworkManager';

/** Do not change: an upgrade would leave the old one behind. */
export const UNMANAGED_PATH = `${MANAGER_FOLDER}/conf.d/90-kylin-vr-bridges.conf`;

/**
 * NICs that are ports, and their bridges: NetworkManager would set up a port as a NIC of its own. None where there are none.
 * `returning`: what it is to have again; named until it has.
 */
export function unmanagedFiles(devices: readonly string[], returning: readonly string[] = []): File[] {
  if (devices.length + returning.length === 0) return [];
  const lines = [
    `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.`,
    ...(devices.length === 0 ? [] : ['[keyfile]', `unmanaged-devices+=${devices.map(matching).join(';')}`]),
    ...returning.map((device) => `# ${matching(device)} is NetworkManager's again`),
  ];
  return [{ path: UNMANAGED_PATH, content: `${lines.join('\n')}\n`, mode: 0o644 }];
}

const matching = (device: string): string => `interface-name:=${device}`;

/** The devices that such a file names. */
export const unmanagedIn = (content: string): string[] =>
  [...content.matchAll(/interface-name:=([^;\s]+)/g)].map(([, device = '']) => device);

/** What NetworkManager leaves alone when it has read this file, too; `specs`: what it was before. */
export function unmanagedAfter(specs: readonly string[], content: string): readonly string[] {
  let found = specs;
  let section = '';
  for (const line of content.split('\n')) {
    section = /^[ \t]*\[(.+)\]/.exec(line)?.[1] ?? section;
    const [, how, value = ''] = /^[ \t]*unmanaged-devices([+-]?)[ \t]*=(.*)$/.exec(line) ?? [];
    if (section !== 'keyfile' || how === undefined) continue;
    const named = value
      .split(/[,;]/)
      .map((spec) => spec.trim())
      .filter((spec) => spec !== '');
    if (how === '+') found = [...found, ...named];
    else if (how === '-') found = found.filter((spec) => !named.includes(spec));
    else found = named;
  }
  return found;
}

/** What our file says of them. */
export const specsOf = (devices: readonly string[]): string[] => devices.map(matching);

/** Whether one of them is for such a device, as far as can be told. `except:` is stronger than all others. */
export function isUnmanagedBy(specs: readonly string[], { device, mac }: { device: string; mac?: string }): boolean {
  const fits = (spec: string, isDriver: boolean): boolean => {
    const [, kind, value = ''] = /^(?:(interface-name|mac|type|driver):)?(.*)$/.exec(spec) ?? [];
    if (kind === 'mac') return value.toLowerCase() === mac;
    if (kind === 'type') return /^(ethernet|veth|bridge|tun|generic|ovs-)/.test(value);
    if (kind === 'driver') return isDriver;
    return value.startsWith('=') ? value.slice(1) === device : globOf(value).test(device);
  };
  const excepted = specs.flatMap((spec) => (spec.startsWith(EXCEPT) ? [spec.slice(EXCEPT.length)] : []));
  return (
    specs.some((spec) => !spec.startsWith(EXCEPT) && fits(spec, true)) && !excepted.some((spec) => fits(spec, false))
  );
}

const EXCEPT = 'except:';

/** A ~ in front says no more than that it is one. */
const globOf = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .replace(/^~/, '')
      .replace(/[\\^$.|+(){}[\]]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')}$`,
  );
