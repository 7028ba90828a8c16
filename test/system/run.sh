#!/bin/bash
# `npm run test:system`: builds, then runs the tests on booted machines, one after another.
# usage: npm run test:system [-- FILE...]
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/prepare.sh
. packaging/prepare.sh
need mmdebstrap mmdebstrap
need systemd-nspawn systemd-container
need qemu-system-x86_64 qemu-system-x86
need mke2fs e2fsprogs
need virsh libvirt-clients
need libvirtd libvirt-daemon
need virt-qemu-run libvirt-daemon-driver-qemu
need flock util-linux
need cksum coreutils
install_missing
bash test/system/lab/tree.sh > /dev/null
echo 'Building dist/kylin-vr.js.'
npm run --silent build
KYLIN_VR_PACKAGES=$(mktemp -d)
export KYLIN_VR_PACKAGES
trap 'rm -rf "$KYLIN_VR_PACKAGES"' EXIT
KYLIN_VR_UNPINNED=1 node --import tsx packaging/package.ts --format deb --arch noarch --arch "$(uname -m)" --out "$KYLIN_VR_PACKAGES"
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(find test/system -name '*.test.ts' | sort)
run_tests 1 "${files[@]}"
