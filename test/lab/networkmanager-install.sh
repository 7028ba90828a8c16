#!/bin/bash
# Installs Debian's NetworkManager for the laboratory, and the D-Bus daemon; does nothing where they are there already.
# usage: bash test/lab/networkmanager-install.sh
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

missing=()
command -v NetworkManager > /dev/null || missing+=(network-manager)
command -v dbus-daemon > /dev/null || missing+=(dbus-daemon)
command -v busctl > /dev/null || missing+=(systemd)
[ ${#missing[@]} -eq 0 ] || bash "$(dirname "$0")/../apt-install.sh" "${missing[@]}"
