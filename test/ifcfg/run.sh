#!/bin/bash
# `npm run test:ifcfg`: what needs a NetworkManager that reads ifcfg files. The first time it is built, into the cache folder.
# usage: npm run test:ifcfg [-- FILE...]
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/prepare.sh
bash test/lab/networkmanager-ifcfg.sh > /dev/null
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(find test/ifcfg -name '*.test.ts' | sort)
exec bash test/run.sh "${files[@]}"
