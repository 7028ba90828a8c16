// The files of this repository that `install` puts on a guest.

export const SOURCES = [
  'systemd/kylin-vr.service',
  'systemd/kylin-vr-reload.service',
  'systemd/kylin-vr-reload.path',
  'systemd/kylin-vr-reload.timer',
  'systemd/kylin-vr-firewalld.service',
  'systemd/kylin-vr-mark.service',
  'udev/90-kylin-vr.rules',
  'packaging/tmpfiles.conf',
  'packaging/networkmanager.conf',
  'packaging/logrotate.conf',
  'packaging/firewalld-policy.xml',
  'packaging/kylin-vr.yaml',
  'packaging/kylin-vr.py',
] as const;

export type Source = (typeof SOURCES)[number];
