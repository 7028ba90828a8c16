// What stands in for initscripts, which Debian does not have.

/** `ifup-eth DEVICE`: reads a file as ifup-eth of initscripts 10 does (expand_config), and brings up and announces what is in it. */
export const IFUP_ETH = `#!/bin/bash
. "/etc/sysconfig/network-scripts/ifcfg-$1"
ip link set dev "$DEVICE" up
for idx in '' {0..255}; do
  ipaddr=IPADDR$idx prefix=PREFIX$idx arpupdate=ARPUPDATE$idx
  if [ -z "\${!ipaddr}" ]; then
    [ -n "$idx" ] && [ "$idx" -ge 2 ] && break
    continue
  fi
  ip address add "\${!ipaddr}/\${!prefix}" brd + dev "$DEVICE" label "$DEVICE"
  case \${!arpupdate,,} in
    n | no | f | false | off | 0) ;;
    *) arping -q -A -c 1 -w 3 -I "$DEVICE" "\${!ipaddr}" ;;
  esac
done
[ -z "$GATEWAY" ] || ip route replace default via "$GATEWAY" dev "$DEVICE"
`;
export const IFUP = '/etc/sysconfig/network-scripts/ifup-eth';

/** `ifup-post DEVICE`: what that of initscripts 10 does with DNS1 to DNS3 and ZONE. */
export const IFUP_POST = `#!/bin/bash
. "/etc/sysconfig/network-scripts/ifcfg-$1"
case \${PEERDNS,,} in
  n | no | f | false | off | 0) ;;
  *) for server in $DNS1 $DNS2 $DNS3; do echo "nameserver $server"; done > /etc/resolv.conf ;;
esac
dbus-send --print-reply --system --dest=org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 \
  org.fedoraproject.FirewallD1.zone.changeZoneOfInterface string:"$ZONE" string:"$DEVICE" > /dev/null
`;
