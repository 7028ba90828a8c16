#!/bin/bash
# `npm run bench`: builds, then measures (bench.ts says what). As root; installs what is missing, and says so.
# usage: npm run bench [-- [--quick] [--rounds N] [--json FILE] [--save] NAME...]
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/prepare.sh
bash test/lab/networkmanager-install.sh
npm run --silent build
exec node --import tsx test/bench/bench.ts "$@"
