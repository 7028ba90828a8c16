#!/bin/sh
# Before whatever needs them, on a fresh clone: the Node packages of package-lock.json.
set -e
cd "$(dirname "$0")/.."
[ ! -d node_modules ] || exit 0
echo 'Installing the Node packages of package-lock.json.' >&2
npm ci --no-audit --no-fund --loglevel=error >&2
