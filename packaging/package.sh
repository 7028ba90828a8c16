#!/bin/bash
# `npm run package`: builds the program, then deb and rpm of both flavours, in dist/packages.
# usage: npm run package [-- [--format deb|rpm] [--arch noarch|x86_64|aarch64]... [--out DIR]]
set -euo pipefail
cd "$(dirname "$0")/.."
. test/prepare.sh
. packaging/prepare.sh
npm run --silent build
exec node --import tsx packaging/package.ts "$@"
