#!/bin/bash
# `npm test`: builds, then runs every test, each file in a process of its own. Left out is what has a runner of its own:
# test/ifcfg needs a NetworkManager that is built first, test/system whole machines.
# usage: npm test [-- FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."
. test/prepare.sh
. packaging/prepare.sh
need qemu-ga qemu-guest-agent
need lintian lintian
need rpmlint rpmlint
need groff groff-base
need ovs-vsctl openvswitch-switch
need ethtool ethtool
need firewalld firewalld
need ufw ufw
need keepalived keepalived
need script bsdutils
install_missing
# Before the tests, so that none of them sees it appear.
bash test/lab/networkmanager-install.sh
echo 'Building dist/kylin-vr.js.'
npm run --silent build
if [ $# -gt 0 ]; then
  run_tests 2 "$@"
  exit
fi
mapfile -t files < <(find test -name '*.test.ts' -not -path 'test/ifcfg/*' -not -path 'test/system/*' | sort)
if [ -z "${KYLIN_VR_LATEST:-}" ]; then
  run_tests 2 "${files[@]}"
  exit
fi
# By that second (of CI's clock) the last ones have to begin.
last='^test/(bench|hostile|install|lock|packages|push|reliability|upgrade)/'
status=0
mapfile -t first < <(printf '%s\n' "${files[@]}" | grep -Ev "$last")
mapfile -t rest < <(printf '%s\n' "${files[@]}" | grep -E "$last")
run_tests 2 "${first[@]}" || status=$?
if [ "$(date +%s)" -lt "$KYLIN_VR_LATEST" ]; then
  run_tests 2 "${rest[@]}" || status=$?
else
  echo "Not run, since this machine is too slow: ${rest[*]}" >&2
fi
exit "$status"
