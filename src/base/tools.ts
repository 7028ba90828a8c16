// The tools without which no configuration can be applied, and the packages that have them.

type Packages = { deb: string; rpm: string };

export const TOOLS = {
  ip: { deb: 'iproute2', rpm: 'iproute' },
  'iptables-save': { deb: 'iptables', rpm: 'iptables' },
  'iptables-restore': { deb: 'iptables', rpm: 'iptables' },
  conntrack: { deb: 'conntrack', rpm: 'conntrack-tools' },
  arping: { deb: 'iputils-arping', rpm: 'iputils' },
} as const satisfies Readonly<Record<string, Packages>>;

export type Tool = keyof typeof TOOLS;

export const isTool = (command: string): command is Tool => Object.hasOwn(TOOLS, command);

/** As an operator is told what to install. */
export function packageOf(tool: Tool): string {
  const { deb, rpm }: Packages = TOOLS[tool];
  return deb === rpm ? deb : `${deb} (${rpm} on RPM systems)`;
}

/** Each once. */
export const packagesOf = (system: keyof Packages): string[] => [
  ...new Set(Object.values(TOOLS).map((packages: Packages) => packages[system])),
];
