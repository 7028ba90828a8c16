#!/bin/sh
# Before the files come: %pre of the rpm ($1: how many there will be), preinst of the deb ($1: install or upgrade).
# Leaves a mark for after.sh where there is something to set up. An upgrade has nothing: whoever disabled us has his reasons.
set -e
state=/var/lib/kylin-vr

# The file of 1.0 goes with the other old files: what an operator has added to it is for after.sh.
settings=/usr/lib/sysctl.d/90-kylin-vr.conf
if [ -f "$settings" ] && [ ! -L "$settings" ]; then
  [ -d "$state" ] || mkdir -m 0700 "$state"
  cp -p --remove-destination "$settings" "$state/sysctl.conf.kept"
fi

new=
case "$1" in 1 | install) new=yes ;; esac
# 0.1 had no program of this name.
[ -e /usr/bin/kylin-vr ] || new=yes
[ -n "$new" ] || exit 0

[ -d "$state" ] || mkdir -m 0700 "$state"
# Links in the place of our files are replaced, not followed.
[ ! -L "$state/to-install" ] || rm -f "$state/to-install"
[ -e "$state/to-install" ] || : > "$state/to-install"
if [ -e /usr/bin/kylin-vr ]; then
  # The other flavour is here, and goes: this one takes over what is at work.
  if [ -d /run/systemd/system ] && systemctl --quiet is-active kylin-vr.service; then echo --now > "$state/to-install"; fi
elif [ -e /etc/kylin-vr/kylin-vr.yaml ]; then
  # 0.1 owned it like any other file, and takes it along when it goes, which is after our files have come.
  cp -p --remove-destination /etc/kylin-vr/kylin-vr.yaml "$state/kylin-vr.yaml.kept"
fi
