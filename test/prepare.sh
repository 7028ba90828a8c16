# Sourced by what runs on a fresh machine (Debian with Node 20, as root): installs what is missing, and says so.
# shellcheck shell=bash

export PATH="$PATH:/usr/sbin:/sbin"
# Costs every start of Node 85 ms, and is of no use here.
unset NODE_EXTRA_CA_CERTS

if [ "$(id -u)" != 0 ]; then
  echo 'This makes network namespaces: run it as root.' >&2
  exit 77
fi

# need COMMAND PACKAGE: what apt has to install.
missing=()
need() { command -v "$1" > /dev/null || missing+=("$2"); }

install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  bash test/apt-install.sh "${missing[@]}"
  missing=()
}

need ip iproute2
need iptables iptables
need conntrack conntrack
need arping iputils-arping
need ping iputils-ping
need tcpdump tcpdump
need nft nftables
need perl perl-base
need sysctl procps
need nsenter util-linux
need setpriv util-linux
install_missing

sh packaging/modules.sh

# run_tests CONCURRENCY FILE...: each file in a process of its own. What hangs fails after 30 minutes, so that the rest is run.
run_tests() {
  local concurrency=$1
  shift
  # Packages of a test may bring another C library than the pinned one, which a mirror does not keep for good.
  KYLIN_VR_UNPINNED=1 node --import tsx --test --test-concurrency="$concurrency" --test-timeout=1800000 \
    --test-reporter=./test/reporter.js --test-reporter-destination=stdout "$@"
}
