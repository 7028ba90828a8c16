# Sourced after test/prepare.sh by what makes packages: installs the distributions' own packers where they are missing.
# shellcheck shell=bash

need dpkg-deb dpkg
need dpkg-shlibdeps dpkg-dev
need rpmbuild rpm
need strip binutils
install_missing
