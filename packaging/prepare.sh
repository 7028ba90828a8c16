# Sourced after test/prepare.sh by what makes packages: installs the distributions' own packers where they are missing, and what
# makes them of Node for another kind of CPU.
# shellcheck shell=bash

need dpkg-deb dpkg
need rpmbuild rpm
need strip binutils
need patchelf patchelf
if [ "$(uname -m)" = x86_64 ]; then
  need aarch64-linux-gnu-strip binutils-aarch64-linux-gnu
  need qemu-aarch64-static qemu-user-static
  [ -e /usr/aarch64-linux-gnu/lib/libstdc++.so.6 ] || missing+=(libstdc++6-arm64-cross)
fi
install_missing
