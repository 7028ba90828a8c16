#!/bin/sh
# When everything is in place: %posttrans of the rpm, after the last script of 0.1; postinst of the deb. Changes nothing of the
# running network.
set -e
case "${1-}" in abort-*) exit 0 ;; esac
state=/var/lib/kylin-vr
config=/etc/kylin-vr/kylin-vr.yaml

# Open to others, as 0.1 made it, a file that the guest agent has written new would be refused there.
if [ -d /etc/kylin-vr ] && [ ! -L /etc/kylin-vr ]; then chmod 0700 /etc/kylin-vr; fi

# What start sets at boot, once, was in sysctl.d, where `service network restart` of EL reads it again (src/installation/settings.ts).
old='^\s*net\.(ipv4\.ip_forward|ipv6\.conf\.(all|default)\.disable_ipv6)\s*=\s*1\s*$'
comment='^# (kylin-vr: this machine routes IPv4, and IPv4 only\..*|may be logged in over it\.)\s*$'
own=/etc/sysctl.d/90-kylin-vr.conf
kept=$state/sysctl.conf.kept
# One in /etc was read instead of it.
if [ -e "$own" ] || [ -L "$own" ]; then rm -f "$kept"; fi
for file in "$kept" "$own" /etc/sysctl.d/kylin-vr.conf; do
  if [ ! -f "$file" ] || [ -L "$file" ] || ! grep -Eq "$old|$comment" "$file"; then continue; fi
  sed -E -i -e "/$old/d" -e "/$comment/d" "$file"
  grep -q '[^[:space:]]' "$file" || rm -f "$file"
done
if [ -f "$kept" ] && [ ! -L "$kept" ]; then
  mkdir -p /etc/sysctl.d
  mv -T "$kept" "$own"
  echo "kylin-vr: what was added to /usr/lib/sysctl.d/90-kylin-vr.conf is in $own now"
fi

if [ -e "$state/to-install" ]; then
  # Of 0.1: they would stand in for ours, or run beside it. Not left to `kylin-vr install`, which would bring them back when we
  # go: the program that they run is gone for good.
  rm -f /etc/udev/rules.d/80-kylin-vr.rules
  unit=/etc/systemd/system/kylin-vr.service
  if grep -qs kylin-vr.py "$unit"; then rm -f "$unit"; fi
  if [ -e "$config" ]; then rm -f "$state/kylin-vr.yaml.kept"
  elif [ -e "$state/kylin-vr.yaml.kept" ]; then mv -T "$state/kylin-vr.yaml.kept" "$config"; fi

  options=$(cat "$state/to-install")
  rm -f "$state/to-install"
  # shellcheck disable=SC2086 # none or one
  /usr/bin/kylin-vr install $options ||
    echo 'kylin-vr: warning: it is in place, but not set up; when the cause is gone, run: kylin-vr install' >&2
elif [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # With what else this version is to be started.
  if systemctl --quiet is-enabled kylin-vr.service; then systemctl --quiet enable kylin-vr.service; fi
  systemctl try-restart kylin-vr-reload.path kylin-vr-reload.timer
  if systemctl --quiet is-active kylin-vr.service && systemctl --quiet is-active firewalld.service; then
    systemctl restart kylin-vr-firewalld.service
  fi
fi

said=$(/usr/bin/kylin-vr check 2>&1) || said="warning: the configuration is not valid
$said"
case "$said" in *warning:*) echo "$said" >&2 ;; esac
