#!/bin/bash
# A Debian 12 tree with netplan and ifupdown2, which would change the machine if they were installed on it. Once: it stays in the
# cache folder. Prints the folder that it is in; progress goes to standard error.
# usage: bash test/bench/others-tree.sh
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C DEBIAN_FRONTEND=noninteractive

place=${KYLIN_VR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kylin-vr}/bench
tree=$place/others-bookworm
if [ ! -d "$tree" ]; then
  command -v mmdebstrap > /dev/null || bash "$(dirname "$0")/../apt-install.sh" mmdebstrap
  mkdir -p "$place"
  exec 9> "$tree.lock"
  flock 9
fi
if [ ! -d "$tree" ]; then
  echo 'Making a Debian tree with netplan and ifupdown2: two minutes, once.' >&2
  rm -rf --one-file-system -- "$tree.work"
  apt-get indextargets \
    --format "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
    'Created-By: Packages' 'Origin: Debian' | sort -u |
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
      mmdebstrap --quiet --variant=minbase --include=netplan.io,ifupdown2,iproute2,python3 bookworm "$tree.work" - > "$tree.log" 2>&1 9>&- ||
    { tail -n 20 "$tree.log" >&2; exit 1; }
  mv "$tree.work" "$tree"
fi
echo "$tree"
