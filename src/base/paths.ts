// Where things are on the guest. Do not change: an upgrade would leave the old ones behind.

export const PATHS = {
  config: '/etc/kylin-vr/kylin-vr.yaml',
  run: '/run/kylin-vr',
  units: '/usr/lib/systemd/system',
  lib: '/var/lib/kylin-vr',
  /** The last configuration that was applied well. */
  lastGood: '/var/lib/kylin-vr/last-good.yaml',
  /** Addresses that we put on NICs, JSON. */
  owned: '/var/lib/kylin-vr/owned.json',
  /** Hash of the configuration that was rolled back, so that automatic runs do not apply it again. */
  refused: '/var/lib/kylin-vr/refused',
  /** Hash of the file as an edit with --no-reload left it: nothing in it is somebody else's. */
  edited: '/var/lib/kylin-vr/edited',
  /** The configurations that were applied well. */
  history: '/var/lib/kylin-vr/history',
  /** A change that waits for its confirmation, JSON; its configuration; and what it found, JSON. */
  pending: '/var/lib/kylin-vr/pending.json',
  pendingConfig: '/var/lib/kylin-vr/pending.yaml',
  checkpoint: '/var/lib/kylin-vr/checkpoint.json',
  /** What is not ours on NICs that NetworkManager is just changing, JSON. Gone with a reboot, as that is. */
  foreign: '/run/kylin-vr/foreign.json',
  /** Hash of the file that the last automatic run found invalid. */
  invalid: '/run/kylin-vr/invalid',
  backup: '/var/lib/kylin-vr/backup',
  /** Of profiles in /run: it ends with the boot, as they do. */
  backupOfBoot: '/run/kylin-vr/backup',
  /** What the last configuration that was read means, JSON. */
  parsed: '/run/kylin-vr/parsed.json',
  /** What conntrack's entries were held against last, JSON. */
  flows: '/run/kylin-vr/flows.json',
  /** How often addresses of others were removed, JSON. */
  removed: '/run/kylin-vr/removed.json',
  /** MACs of NICs that the PCI bus was looked at for in this boot, JSON. */
  rescanned: '/run/kylin-vr/rescanned.json',
  /** Addresses that start left to initscripts, and that nobody has announced since that boot, JSON. */
  left: '/run/kylin-vr/left.json',
  /** What the last run with nothing to do was told by the machine. */
  quiet: '/run/kylin-vr/quiet',
  /** V8's compiled code of this program (packaging/loader.cjs). */
  codeCache: '/var/cache/kylin-vr',
  /** What `install` changed, and how it was before. */
  installed: '/var/lib/kylin-vr/installed.json',
  /** Of NetworkManager's configuration: dialects/defaults.ts, unmanaged.ts. */
  managerDropIns: '/etc/NetworkManager/conf.d',
  firewalldPolicy: '/etc/firewalld/policies/kylin-vr.xml',
  log: '/var/log/kylin-vr/kylin-vr.log',
} as const;
