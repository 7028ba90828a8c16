#!/bin/bash
# Installs Debian's packages for the tests. No service that comes with them is started, now or at the next boot: a firewall or
# NetworkManager would take over the machine's NICs. `systemctl enable --now NAME` starts one all the same.
# usage: bash test/apt-install.sh PACKAGE...
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"

# Two test files may want it at once.
exec 9< "$0"
flock 9

# What asks before a service is started (invoke-rc.d(8)). One that the machine has stays. Ours holds as long as this runs, also where
# it is left behind by one that was killed.
policy=/usr/sbin/policy-rc.d
mark='# Made by the tests of kylin-vr'
is_ours() { grep -qsF "$mark" "$policy"; }
links() { find /etc/systemd -type l 2> /dev/null | sort; }
before=$(links || true)
finish() {
  ! is_ours || rm -f "$policy"
  # As `systemctl disable` would; an upgrade of the package leaves them away, too (deb-systemd-helper(1p)).
  comm -13 <(echo "$before") <(links) | xargs -r -d '\n' rm -f
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
}
trap finish EXIT
if [ ! -e "$policy" ] || is_ours; then
  printf '#!/bin/sh\n%s\n[ ! -d /proc/%d ] || exit 101\n' "$mark" $$ > "$policy"
  chmod 0755 "$policy"
fi

echo "Installing $* with apt-get." >&2
apt-get -qq update
apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" > /dev/null
