#!/bin/bash
# `npm test`: builds, then runs every test, each file in a process of its own.
# usage: npm test [-- FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."
. test/prepare.sh
echo 'Building dist/kylin-vr.js.'
npm run --silent build
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(find test -name '*.test.ts' | sort)
exec node --import tsx --test --test-concurrency=2 "${files[@]}"
