// What 0.1 and 1.0 put into sysctl.d. Whoever reads those files again (`service network restart` of EL) sets it on a machine at
// work: now `start` sets it, once. Pure.

/** Where it is: in the files of 0.1 and of 1.0, and in what an operator puts before the latter. */
export const OLD_SETTINGS = [
  '/etc/sysctl.d/kylin-vr.conf',
  '/etc/sysctl.d/90-kylin-vr.conf',
  '/usr/lib/sysctl.d/90-kylin-vr.conf',
] as const;

/** Without the lines of ours; empty where nothing else is in it. packaging/scripts/after.sh does the same. */
export function withoutOldSettings(text: string): string {
  const lines = text.split('\n');
  const left = lines.filter((line) => !OURS.test(line) && !COMMENT.test(line));
  if (left.length === lines.length) return text;
  return left.some((line) => line.trim() !== '') ? left.join('\n') : '';
}

export const OURS = /^\s*net\.(ipv4\.ip_forward|ipv6\.conf\.(all|default)\.disable_ipv6)\s*=\s*1\s*$/;
export const COMMENT = /^# (kylin-vr: this machine routes IPv4, and IPv4 only\..*|may be logged in over it\.)\s*$/;
