// What `ip` prints by name → by number, for its batches: from 4.11 to 6.1 it takes a name of a protocol or scope that stands behind
// a number, and that it looked up before, for that number. Pure.

/** As the kernel numbers them, and as iproute2 and FRR name them. */
const PROTOCOLS: Readonly<Record<string, number>> = {
  unspec: 0,
  redirect: 1,
  kernel: 2,
  boot: 3,
  static: 4,
  gated: 8,
  ra: 9,
  mrt: 10,
  zebra: 11,
  bird: 12,
  dnrouted: 13,
  xorp: 14,
  ntk: 15,
  dhcp: 16,
  mrouted: 17,
  keepalived: 18,
  babel: 42,
  openr: 99,
  bgp: 186,
  isis: 187,
  ospf: 188,
  rip: 189,
  ripng: 190,
  nhrp: 191,
  eigrp: 192,
  ldp: 193,
  sharp: 194,
  pbr: 195,
  zstatic: 196,
  openfabric: 197,
  srte: 198,
};

const SCOPES: Readonly<Record<string, number>> = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 };

/** Lines of a batch with numbers alone; undefined: one has a name that only this machine knows. A device may be called so as well. */
export function byNumbers(lines: string): string | undefined {
  let isKnown = true;
  const numbered = lines.replace(/^(route|neighbour) .*$/gm, (line) =>
    line.replace(/(?<! (?:dev|table)) (proto|protocol|scope) (\S+)/g, (words, key: string, name: string) => {
      if (/^\d+$/.test(name)) return words;
      const number = (key === 'scope' ? SCOPES : PROTOCOLS)[name];
      isKnown &&= number !== undefined;
      return ` ${key} ${number}`;
    }),
  );
  return isKnown ? numbered : undefined;
}
