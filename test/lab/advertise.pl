# Advertises a router and a prefix by a link, as radvd does: at once, again after so many seconds, and when somebody asks. Run in the
# host's namespace. Arguments: the device, a prefix of 64 bits, the lifetime of all of it and the time between two, both in seconds.
# Out: `asked` for each question. On standard input: the end. Perl-base is enough.
use strict;
use warnings;
use Socket qw(AF_INET6 SOCK_RAW inet_pton pack_sockaddr_in6);

my ($device, $prefix, $lifetime, $seconds) = @ARGV;
my ($ICMPV6, $IPV6, $UNICAST_HOPS, $MULTICAST_HOPS, $LOOP, $JOIN_GROUP) = (58, 41, 16, 18, 19, 20);
my ($SOLICITATION, $ADVERTISEMENT, $ON_LINK_AND_AUTONOMOUS) = (133, 134, 0xc0);

socket(my $wire, AF_INET6, SOCK_RAW, $ICMPV6) or die "socket: $!";
my ($index, $address) = (unpack('x16 i', of(0x8933)), unpack('x18 a6', of(0x8927)));
setsockopt($wire, $IPV6, $_, pack('i', 255)) or die "hops: $!" for $UNICAST_HOPS, $MULTICAST_HOPS;
setsockopt($wire, $IPV6, $LOOP, pack('i', 0)) or die "loop: $!";
setsockopt($wire, $IPV6, $JOIN_GROUP, inet_pton(AF_INET6, 'ff02::2') . pack('I', $index)) or die "group: $!";

my $advertisement = join '',
  pack('C C n C C n N N', $ADVERTISEMENT, 0, 0, 64, 0, $lifetime, 0, 0),
  pack('C C a6', 1, 1, $address),
  pack('C C C C N N N a16', 3, 4, 64, $ON_LINK_AND_AUTONOMOUS, $lifetime, $lifetime, 0, inet_pton(AF_INET6, $prefix));
my $everybody = pack_sockaddr_in6(0, inet_pton(AF_INET6, 'ff02::1'), $index);

$| = 1;
my $next = 0;
while (1) {
  if (time >= $next) {
    send $wire, $advertisement, 0, $everybody;
    $next = time + $seconds;
  }
  vec(my $ready = '', fileno($wire), 1) = 1;
  vec($ready, fileno(STDIN), 1) = 1;
  select($ready, undef, undef, $next - time);
  exit if vec($ready, fileno(STDIN), 1);
  next unless vec($ready, fileno($wire), 1);
  recv $wire, my $packet, 1500, 0;
  next unless ord $packet == $SOLICITATION;
  print "asked\n";
  $next = 0;
}

# SIOCGIFINDEX or SIOCGIFHWADDR: /sys shows the devices of another namespace.
sub of {
  ioctl($wire, $_[0], my $request = pack('a16 x24', $device)) or die "$device: $!";
  return $request;
}
