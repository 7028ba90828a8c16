#!/bin/bash
# `npm run capture`: writes the terminal output that the documents show anew, from real runs in a laboratory of namespaces.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/prepare.sh
need qemu-ga qemu-guest-agent
need script bsdutils
install_missing
echo 'Building dist/kylin-vr.js.'
npm run --silent build
exec node --import tsx test/docs/capture.ts
