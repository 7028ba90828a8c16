#!/bin/bash
# Installs Debian's NetworkManager for the laboratory, and the D-Bus daemon; does nothing where they are there already.
# The machine's own NetworkManager never starts from it: it would take over the machine's NICs.
# usage: bash test/lab/networkmanager-install.sh
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

packages() {
  missing=()
  command -v NetworkManager > /dev/null || missing+=(network-manager)
  command -v dbus-daemon > /dev/null || missing+=(dbus-daemon)
  command -v busctl > /dev/null || missing+=(systemd)
}
packages
[ ${#missing[@]} -gt 0 ] || exit 0

# Two test files may want it at once.
exec 9> /tmp/kylin-vr-networkmanager-install.lock
flock 9
packages
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing ${missing[*]} with apt-get." >&2
unit=/etc/systemd/system/NetworkManager.service
if [[ " ${missing[*]} " == *' network-manager '* && ! -e $unit && ! -L $unit ]]; then
  mkdir -p "${unit%/*}"
  ln -s /dev/null "$unit" # masked: not started now, and not at the next boot
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "${missing[@]}" > /dev/null
