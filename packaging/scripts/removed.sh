#!/bin/sh
# When the files are gone: %postun of the rpm ($1: how many stayed), postrm of the deb, where purge takes the rest too.
set -e
case "$1" in 0 | remove | purge) ;; *) exit 0 ;; esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
rm -rf /var/cache/kylin-vr
# The other flavour is here, and the rest is its.
if [ -e /usr/bin/kylin-vr ]; then exit 0; fi
if [ "$1" = purge ]; then rm -rf /etc/kylin-vr /var/lib/kylin-vr /var/log/kylin-vr; fi
