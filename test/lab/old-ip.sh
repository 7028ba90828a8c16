#!/bin/sh
# Stands in for `ip` of iproute2 4.11: refuses what that does not know, and prints what the machine's own prints in its words. The lab's
# own commands, which have a home, get that as it is.
[ -z "${HOME:-}" ] || exec /bin/ip "$@"
object=
for word; do
  case "$word" in
    -j | -js | -jso | -json | -p | -pretty | -N | -Numeric)
      echo "Option \"$word\" is unknown, try \"ip -help\"." >&2
      exit 255
      ;;
    -*) ;;
    *) object=${object:-$word} ;;
  esac
done
case "$object" in
  nexthop)
    echo "Object \"$object\" is unknown, try \"ip help\"." >&2
    exit 1
    ;;
esac
# What came later: of links, of addresses, and of routes, whose preference is left out behind several hops; and the spaces at the ends of
# rules and neighbours.
printed=$(
  /bin/ip "$@"
  echo "$?."
)
status=${printed##*
}
printf '%s' "${printed%"$status"}" | sed -E '
  /^[0-9]+: [^ ]+: </s/ (permaddr|allmulti|minmtu|maxmtu|tso_max_size|tso_max_segs|gro_max_size|gso_ipv4_max_size|gro_ipv4_max_size|parentbus|parentdev) [^ ]+//g
  /^[0-9]+: [^ ]+: </s/(promiscuity [0-9]+)  /\1 /
  /^[0-9]+: [^ ]+ +inet/s/ (metric|proto) [^ ]+//g
  s/ (rt_offload|rt_trap|offload_failed)\>//g
  /\\\tnexthop /s/pref [a-z]+//
  /^[0-9]+:\t/{ s/ (ipproto|sport|dport|tun_id) [^ ]+//g; s/ (lookup|suppress_prefixlength) [^ ]+$/& /; }
  /^[0-9a-f.:]+ (dev|lladdr) /{ s/ extern_learn\>//; s/ +$//; s/ proxy$/ &/; }'
exit "${status%.}"
