#!/bin/bash
# `npm run test:soak`: builds, then changes a router at random under traffic (soak.ts says what), and kills it at 200 instants
# on each path, ip, keyfile and ifcfg (test/reliability/killed.ts), and at each command of a move to a bridge; and goes from every
# configuration to every other with a sniffer on the uplink (test/scenarios/leaving.ts); and the scenarios on an old ip. Changes by KYLIN_VR_CHANGES too, the seed by KYLIN_VR_SEED.
# usage: npm run test:soak [-- CHANGES]      10,000 when absent: an hour or two
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/prepare.sh
bash test/lab/networkmanager-install.sh
bash test/lab/networkmanager-ifcfg.sh > /dev/null
echo 'Building dist/kylin-vr.js.'
npm run --silent build
node --import tsx test/soak/main.ts "$@"
KYLIN_VR_KILLS=${KYLIN_VR_KILLS:-200} run_tests 1 \
  test/reliability/killed-ip.test.ts test/reliability/killed-keyfile.test.ts test/ifcfg/killed.test.ts \
  test/bridge/networkmanager.test.ts test/ifcfg/bridge.test.ts
KYLIN_VR_WALK=whole run_tests 1 test/flows/leaving.test.ts test/router/transitions.test.ts
# The whole suite of scenarios as on CentOS 7, whose ip knows no -json.
KYLIN_VR_IPROUTE=4.11 run_tests 2 test/router/{arrival,change,conflicts,foreign,traffic,transitions}.test.ts \
  test/networkmanager/{scenarios,reload,keys}.test.ts test/ifcfg/{scenarios,reload,initscripts}.test.ts \
  test/bridge/{linux,advertised}.test.ts
