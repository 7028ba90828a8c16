#!/bin/bash
# `npm test`: builds, then runs every test, each file in a process of its own. Left out is what has a runner of its own:
# test/ifcfg needs a NetworkManager that is built first, test/system whole machines.
# usage: npm test [-- FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."
. test/prepare.sh
. packaging/prepare.sh
need python3 python3-minimal
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
  run_tests 3 "$@"
  exit
fi
mapfile -t files < <(find test -name '*.test.ts' -not -path 'test/ifcfg/*' -not -path 'test/system/*' | sort)
if [ -z "${KYLIN_VR_SINCE:-}" ]; then
  run_tests 3 "${files[@]}"
  exit
fi
# CI, which began in that second: on a slow machine folders that would not begin in time are left out, the longest and last ones.
status=0
part() {
  local minutes=$1 pattern=$2 some
  mapfile -t some < <(printf '%s\n' "${files[@]}" | grep -E "^test/($pattern)/")
  if [ $(($(date +%s) - KYLIN_VR_SINCE)) -lt $((minutes * 60)) ]; then
    run_tests 3 "${some[@]}" || status=$?
  else
    echo "Not run, since this machine is too slow: ${some[*]}" >&2
  fi
}
long='bridge|confirm|flows|networkmanager'
last='bench|hostile|install|lock|packages|push|reliability|upgrade'
others=$(printf '%s\n' "${files[@]}" | cut -d/ -f2 | sort -u | grep -Evx "$long|$last" | paste -sd '|')
part 90 "$others"
part 32 "$long"
part 57 "$last"
exit "$status"
