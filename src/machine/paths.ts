// Where things are on the guest. Do not change: an upgrade would leave the old ones behind.

export const PATHS = {
  config: '/etc/kylin-vr/kylin-vr.yaml',
  run: '/run/kylin-vr',
  lib: '/var/lib/kylin-vr',
  /** The last configuration that was applied well. */
  lastGood: '/var/lib/kylin-vr/last-good.yaml',
  /** Addresses that we put on NICs, JSON. */
  owned: '/var/lib/kylin-vr/owned.json',
  /** Hash of the configuration that was rolled back, so that automatic runs do not apply it again. */
  refused: '/var/lib/kylin-vr/refused',
  backup: '/var/lib/kylin-vr/backup',
  /** What `install` changed, and how it was before. */
  installed: '/var/lib/kylin-vr/installed.json',
  log: '/var/log/kylin-vr/kylin-vr.log',
} as const;
