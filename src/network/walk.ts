// What chains of others say to the first packet of a connection between two of our NICs. Only what is certain is a verdict: a rule that
// asks for what is not known here may let it pass. Pure.

export type Probe = {
  in: string;
  out: string;
  protocol: 'tcp' | 'udp' | 'icmp';
  /** It was sent to an EIP, or to a forwarded port. */
  translated: boolean;
};

export type Answer = 'yes' | 'no' | 'maybe';

export type Verdict = 'accept' | 'stop' | 'return' | 'go on' | 'unknown' | { to: string; returns: boolean };

export type WalkRule = { text: string; matches: (probe: Probe) => Answer; verdict: Verdict };

/** A chain that the kernel asks, with those that it leads to. */
export type Walk = { where: string; name: string; drops: boolean; chains: ReadonlyMap<string, readonly WalkRule[]> };

/** `by`: what stops it; `mayPass`: something before that may let it through. */
type End = { fate: 'accept' | 'stop' | 'on'; by?: string; mayPass: boolean };

/** Whether anything in it can: most machines have nothing there. */
export const mayStop = ({ drops, chains }: Walk): boolean =>
  drops || [...chains.values()].some((rules) => rules.some(({ verdict }) => verdict === 'stop'));

/** The rule that stops it for certain, or the policy. */
export function stopOf(walk: Walk, probe: Probe): string | undefined {
  const { fate, by, mayPass } = through(walk, walk.name, probe, new Map());
  if (mayPass || fate === 'accept') return undefined;
  if (fate === 'stop') return by;
  return walk.drops ? 'its policy is drop' : undefined;
}

/** `ends`: of chains that were walked through; of one that leads back to itself nothing is known. */
function through(walk: Walk, name: string, probe: Probe, ends: Map<string, End>): End {
  const known = ends.get(name);
  if (known !== undefined) return known;
  ends.set(name, { fate: 'on', mayPass: true });
  const end = walked(walk, name, probe, ends);
  ends.set(name, end);
  return end;
}

function walked(walk: Walk, name: string, probe: Probe, ends: Map<string, End>): End {
  let mayPass = false;
  let mayReturn = false;
  for (const rule of walk.chains.get(name) ?? []) {
    const answer = rule.matches(probe);
    if (answer === 'no' || rule.verdict === 'go on') continue;
    const end = endOf(walk, rule, name, probe, ends);
    mayPass ||= end.mayPass;
    const isGoto = typeof rule.verdict === 'object' && !rule.verdict.returns;
    if (answer === 'maybe') {
      mayPass ||= end.fate === 'accept';
      mayReturn ||= rule.verdict === 'return' || isGoto;
    } else if (end.fate === 'accept') return { ...end, mayPass: true };
    else if (end.fate === 'stop') return mayReturn ? { fate: 'on', mayPass } : { ...end, mayPass };
    else if (rule.verdict === 'return' || isGoto) break;
  }
  return { fate: 'on', mayPass };
}

function endOf(walk: Walk, { verdict, text }: WalkRule, name: string, probe: Probe, ends: Map<string, End>): End {
  if (typeof verdict === 'object') return through(walk, verdict.to, probe, ends);
  switch (verdict) {
    case 'accept':
      return { fate: 'accept', mayPass: false };
    case 'stop':
      return { fate: 'stop', by: name === walk.name ? text : `${name}: ${text}`, mayPass: false };
    case 'unknown':
      return { fate: 'on', mayPass: true };
    default:
      return { fate: 'on', mayPass: false };
  }
}

export const not = (answer: Answer): Answer => (answer === 'maybe' ? 'maybe' : answer === 'yes' ? 'no' : 'yes');

export const all = (answers: readonly Answer[]): Answer =>
  answers.includes('no') ? 'no' : answers.includes('maybe') ? 'maybe' : 'yes';

/** `eth+` of iptables and `eth*` of nft are every name that begins so. */
export const isDevice = (device: string, names: readonly string[]): Answer =>
  names.some((name) => (/[+*]$/.test(name) ? device.startsWith(name.slice(0, -1)) : device === name)) ? 'yes' : 'no';

/** Of what conntrack says of a packet that is the first of its connection. */
export const isState = ({ translated }: Probe, states: readonly string[]): Answer =>
  states.some((state) => state.toLowerCase() === 'new' || (translated && state.toLowerCase() === 'dnat'))
    ? 'yes'
    : 'no';
