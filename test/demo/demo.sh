#!/bin/bash
# The demonstration, on a machine that has nothing but Node 20 and root: installs what is missing, builds, shows.
# usage: npm run demo [-- --iptables nft|legacy]
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/prepare.sh
echo 'Building dist/kylin-vr.js.'
npm run --silent build
exec node --import tsx test/demo/demo.ts "$@"
