#!/bin/sh
# Before the files go: %preun of the rpm ($1: how many stay), prerm of the deb. As `kylin-vr uninstall`: the configuration
# stays, and the running network too.
set -e
case "$1" in 0 | remove) ;; *) exit 0 ;; esac
state=/var/lib/kylin-vr
# dpkg takes one flavour away before it asks the other: that one is to take over what is at work.
if [ "${2-}" = in-favour ] && [ -d /run/systemd/system ] && systemctl --quiet is-active kylin-vr.service; then
  rm -f "$state/to-install"
  echo --now > "$state/to-install"
fi
/usr/bin/kylin-vr uninstall ||
  echo 'kylin-vr: warning: settings of the guest agent and links to units may have stayed' >&2
if [ -d /run/systemd/system ]; then
  systemctl stop kylin-vr-firewalld.service kylin-vr-reload.path kylin-vr-reload.timer kylin-vr.service || :
fi
