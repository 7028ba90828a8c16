#!/bin/bash
# A Debian 12 tree with systemd, udev, NetworkManager, a guest agent and a kernel, from which the container and the whole
# machine of the system tests are made. Once: the result stays in the cache folder and is never written to again.
# Prints the folder that it is in; progress goes to standard error.
# usage: bash test/system/lab/tree.sh
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C DEBIAN_FRONTEND=noninteractive

suite=bookworm
packages=(
  systemd systemd-sysv udev dbus dbus-bin network-manager firewalld logrotate qemu-guest-agent
  iproute2 iptables nftables ipset conntrack iputils-arping iputils-ping procps kmod
  libstdc++6 # what Node needs
  openvswitch-switch # but for its hooks for ifupdown: NetworkManager's dispatcher would run them
  linux-image-cloud-amd64 initramfs-tools
)

# Nothing that a test needs; the boot without KVM takes half as long without them.
masked=(
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
  logrotate.timer systemd-tmpfiles-clean.timer
  getty@tty1.service getty-static.service console-getty.service serial-getty@ttyS0.service getty.target
  systemd-logind.service systemd-networkd.service systemd-networkd.socket systemd-pstore.service
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount
  modprobe@configfs.service modprobe@drm.service modprobe@fuse.service modprobe@efi_pstore.service
  systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
)

say() { echo "tree: $(date +%T) $*" >&2; }

cache=${KYLIN_VR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kylin-vr}
node=$(node -p process.execPath)
recipe=$({ cat "$0" && node --version; } | cksum | cut -d ' ' -f 1)
place=$cache/laboratory # ours alone: others keep their things in the cache folder too
tree=$place/tree-$recipe

# It gets its name when it is complete.
done_already() {
  if [ -d "$tree" ]; then
    echo "$tree"
    exit 0
  fi
}
done_already

mkdir -p "$place"
exec 9> "$tree.lock"
flock --nonblock 9 || { say 'another one is being made, waiting for it' && flock 9; }
done_already

# The lock is held by every child too: nobody writes here any more, whoever was killed before. What is mounted in it is
# in a namespace of the build's own; should anything be here all the same, it is not followed.
work=$tree.work
log=$tree.log
discard() { rm -rf --one-file-system -- "$work"; }
discard
mkdir "$work"
finish() {
  status=$?
  discard
  if [ $status != 0 ]; then
    tail -n 30 "$log" >&2
    say "failed: the whole log is $log"
  fi
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
: > "$log"

# One line for each of the machine's own Debian archives.
archives() {
  apt-get indextargets \
    --format "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
    'Created-By: Packages' 'Origin: Debian' | sort -u
}
[ -n "$(archives)" ] || apt-get -qq update >> "$log" 2>&1
archives > "$work/sources.list"

say "Debian $suite with ${#packages[@]} packages: two minutes, once"
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
  mmdebstrap --mode=root --variant=minbase --format=directory --skip=cleanup/reproducible \
  --include="$(IFS=,; echo "${packages[*]}")" \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/etc/network/*' \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && printf "MODULES=list\nCOMPRESS=gzip\nFSTYPE=ext4\nRESUME=none\n" > "$1/etc/initramfs-tools/conf.d/laboratory"' \
  --essential-hook='echo 5eed000000000000000000000000cafe > "$1/etc/machine-id"' \
  "$suite" "$work/tree" "$work/sources.list" >> "$log" 2>&1

say 'settings, Node, initrd'
inside() { chroot "$work/tree" "$@" >> "$log" 2>&1; }
install -D "$node" "$work/tree/opt/node/bin/node"
ln -s /opt/node/bin/node "$work/tree/usr/local/bin/node"
inside node --version
echo 5eed000000000000000000000000cafe > "$work/tree/etc/machine-id"
echo router > "$work/tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 router\n' > "$work/tree/etc/hosts"
: > "$work/tree/etc/fstab"
: > "$work/tree/etc/resolv.conf"
inside systemctl mask "${masked[@]}"
inside systemctl disable firewalld.service openvswitch-switch.service
inside systemctl set-default multi-user.target
printf 'virtio_pci\nvirtio_blk\nvirtio_rng\next4\n' >> "$work/tree/etc/initramfs-tools/modules"
printf '#!/bin/sh\n[ "$1" = prereqs ] || echo 1 > /sys/devices/system/cpu/cpu1/online\n' |
  install -m 755 /dev/stdin "$work/tree/etc/initramfs-tools/scripts/init-bottom/second-cpu" # vm.ts, KERNEL
inside update-initramfs -u -k all
ln -sf "$(cd "$work/tree/boot" && echo vmlinuz-*)" "$work/tree/boot/vmlinuz"
ln -sf "$(cd "$work/tree/boot" && echo initrd.img-*)" "$work/tree/boot/initrd"
# Newer than /usr: nothing has to be brought up to date at boot.
touch "$work/tree/etc/.updated" "$work/tree/var/.updated"

mv "$work/tree" "$tree"
rm -f "$log"
say "made in $SECONDS s"
echo "$tree"
