#!/bin/bash
# Builds NetworkManager with its ifcfg-rh plugin, which Debian's package lacks, from Debian's own source package: the
# daemon and the plugin only, Debian's nmcli talks to them. Once: the result stays in the cache folder.
# Prints the folder that it is in; progress goes to standard error.
# usage: bash test/lab/networkmanager-ifcfg.sh
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C DEBIAN_FRONTEND=noninteractive
here=$(cd "$(dirname "$0")" && pwd)

say() { echo "networkmanager-ifcfg: $(date +%T) $*" >&2; }

bash "$here/networkmanager-install.sh"
package=$(dpkg-query --show --showformat '${Version}' network-manager)
version=${package%%-*} # as upstream names it
cache=${KYLIN_VR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kylin-vr}
prefix=$cache/networkmanager-ifcfg-$version
recipe=$(cksum < "$0")

is_built() { [ "$(cat "$prefix/recipe" 2> /dev/null)" = "$recipe" ]; }
done_already() {
  if is_built; then
    echo "$prefix"
    exit 0
  fi
}
done_already

mkdir -p "$cache"
exec 9> "$prefix.lock"
flock --nonblock 9 || { say 'another build is under way, waiting for it' && flock 9; }
done_already

# The lock is held by every child too: nobody writes here any more, whoever was killed before.
work=$prefix.work
log=$prefix.log
rm -rf "$work"
mkdir -p "$work/tree" "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
tools=
finish() {
  status=$?
  if [ -n "$tools" ]; then
    kill "$tools" 2> /dev/null || true
    wait "$tools" 2> /dev/null || true
  fi
  rm -rf "$work"
  if [ $status != 0 ]; then
    tail -n 30 "$log" >&2
    say "failed: the whole log is $log"
  fi
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
: > "$log"

# One line for each of the machine's own Debian archives: TYPE [options] URI SUITE COMPONENT.
archives() {
  apt-get indextargets --format "$1 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
    'Created-By: Packages' 'Origin: Debian' | sort -u
}
if ! command -v mmdebstrap > /dev/null || [ -z "$(archives deb)" ]; then
  say 'installing mmdebstrap with apt-get'
  apt-get -qq update >> "$log" 2>&1
  apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install mmdebstrap >> "$log" 2>&1
fi
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
archives deb > "$work/apt/binary.list"
archives deb-src > "$work/apt/source.list"

say 'build tools, in a folder of their own'
# Unpacked, not installed: the tools that a build needs run without their packages' scripts, and it takes a third of the time.
mmdebstrap --mode=root --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --format=directory \
  --include=gcc,libc6-dev,meson,ninja-build,pkgconf,python3,perl-base,gettext,xsltproc,patch,xz-utils \
  --include=dash,bash,coreutils,sed,grep,mawk,findutils,diffutils,tar \
  --include=libglib2.0-dev,libndp-dev,libudev-dev,uuid-dev,libdbus-1-dev \
  "$suite" "$work/tree" "$work/apt/binary.list" >> "$log" 2>&1 &
tools=$!

say "source package network-manager $package"
own_apt() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$work/apt/source.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" "$@" >> "$log" 2>&1
}
own_apt update
# The version that is installed may have left the archive; the plugin is the same in its successor.
(cd "$work" && { own_apt source --download-only "network-manager=$package" || own_apt source --download-only network-manager; })
wait "$tools"
tools=

mkdir "$work/tree/src"
mv "$work"/network-manager_*.tar.* "$work/tree/src"

cat > "$work/tree/build.sh" << 'BUILD'
set -e
cd /src
tar -xf network-manager_*.orig.tar.* --strip-components=1
tar -xf network-manager_*.debian.tar.*
while read -r patch; do patch --strip=1 < "debian/patches/$patch"; done < debian/patches/series
meson setup build --prefix="$1" --libdir=lib --sysconfdir=/etc --localstatedir=/var \
  --buildtype=plain -Doptimization=0 -Ddebug=false -Dc_args=-w -Ddist_version="$2" \
  -Difcfg_rh=true -Dconfig_plugins_default=ifcfg-rh,keyfile -Difupdown=false \
  -Dsystemdsystemunitdir=no -Dudev_dir=no -Ddbus_conf_dir="$1/dbus" \
  -Dsession_tracking_consolekit=false -Dsession_tracking=no -Dsuspend_resume=upower -Dsystemd_journal=false \
  -Dpolkit=false -Dselinux=false -Dlibaudit=no -Dlibpsl=false -Dcrypto=null -Dconcheck=false -Debpf=false -Dfirewalld_zone=false \
  -Dwifi=false -Dwext=false -Dppp=false -Dmodem_manager=false -Dovs=false -Dnmcli=false -Dnmtui=false -Dreadline=none -Dqt=false \
  -Dintrospection=false -Dvapi=false -Ddocs=false -Dtests=no -Dmore_asserts=0
ninja -C build src/core/NetworkManager src/core/settings/plugins/ifcfg-rh/libnm-settings-plugin-ifcfg-rh.so
BUILD
say 'compiling'
unshare --mount --pid --fork --kill-child sh -ec '
  mount --bind /dev "$1/dev"
  mount -t proc proc "$1/proc"
  exec chroot "$1" /bin/bash /build.sh "$2" "$3"' sh "$work/tree" "$prefix" "$version" >> "$log" 2>&1

result=$work/result
install -D "$work/tree/src/build/src/core/NetworkManager" "$result/sbin/NetworkManager"
install -D -t "$result/lib/NetworkManager/$version" "$work/tree/src/build/src/core/settings/plugins/ifcfg-rh/libnm-settings-plugin-ifcfg-rh.so"
"$result/sbin/NetworkManager" --version >> "$log" 2>&1
echo "$recipe" > "$result/recipe"
rm -rf "$prefix"
mv "$result" "$prefix"
rm -f "$log"
say "built in $SECONDS s"
echo "$prefix"
