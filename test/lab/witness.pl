# What passes the router's uplinks, seen from outside: packets that leave from or to a network inside, and packets that come
# in and leave again as they came. Run in the namespace of the wires, as `perl witness.pl FIRST`: a port of the router is
# watched when its index is FIRST or more. In, a line each: `inside 10.0.0.0 255.0.0.0`, `sync N`. Out: `leak KIND SECONDS
# INDEX FRAME` (hexadecimal), and `synced N UNSEEN` when all that had passed before is told. Perl-base is enough.
use strict;
use warnings;

my $first = $ARGV[0];
my ($LENGTH, $KEPT, $KEPT_SECONDS) = (128, 20_000, 5);
my ($PF_PACKET, $SOCK_RAW, $ETH_P_ALL, $MSG_DONTWAIT, $PACKET_OUTGOING) = (17, 3, 0x0003, 0x40, 4);
my ($SOL_SOCKET, $SO_ATTACH_FILTER, $SO_RCVBUFFORCE, $SOL_PACKET, $PACKET_STATISTICS) = (1, 26, 33, 263, 6);
my $SIOCGSTAMP = 0x8906;

# IPv4 on such a port, the beginning of it. 0xfffff000 and on are the kernel's own: protocol, index of the device.
my $filter = join '', map { pack 'SCCL', @$_ } [0x20, 0, 0, 0xfffff000], [0x15, 0, 3, 0x0800],
  [0x20, 0, 0, 0xfffff008], [0x35, 0, 1, $first], [0x06, 0, 0, $LENGTH], [0x06, 0, 0, 0];

socket(my $wire, $PF_PACKET, $SOCK_RAW, 0) or die "socket: $!";
setsockopt($wire, $SOL_SOCKET, $SO_ATTACH_FILTER, pack('S x![P] P', length($filter) / 8, $filter)) or die "filter: $!";
setsockopt($wire, $SOL_SOCKET, $SO_RCVBUFFORCE, pack('i', 64 << 20)) or die "buffer: $!";
# From the first question on the kernel keeps the times.
ioctl($wire, $SIOCGSTAMP, my $unused = "\0" x 16);
bind($wire, pack('S n i x12', $PF_PACKET, $ETH_P_ALL, 0)) or die "bind: $!";

my @inside;
# What came in, by all of it that a router leaves as it is; the younger half and the older, so that it ends.
my ($young, $old, $turned) = ({}, {}, time);
my $unseen = 0;
my $input = '';

$| = 1;
print "ready\n";
while (1) {
  vec(my $ready = '', fileno(STDIN), 1) = 1;
  vec($ready, fileno($wire), 1) = 1;
  select($ready, undef, undef, undef);
  look();
  next unless vec($ready, fileno(STDIN), 1);
  sysread(STDIN, $input, 4096, length $input) or exit;
  while ($input =~ s/^(\S+) (.*)\n//) {
    if ($1 eq 'inside') { push @inside, [map { unpack 'N', pack 'C4', split /\./ } split / /, $2] }
    else {
      my $number = $2;
      look();
      # Reading it sets it to 0.
      $unseen += (unpack 'LL', getsockopt($wire, $SOL_PACKET, $PACKET_STATISTICS))[1];
      print "synced $number $unseen\n";
    }
  }
}

sub look {
  for (my $frames = 0; $frames < 200_000; $frames++) {
    my $from = recv($wire, my $frame, $LENGTH, $MSG_DONTWAIT);
    last unless defined $from;
    my ($index, $type) = unpack 'x4 i x2 C', $from;
    my ($length, $same, $ttl, $protocol, $ends) = unpack 'x16 a2 a4 C C x2 a8', $frame;
    my $payload = substr $frame, 14 + 4 * (ord(substr $frame, 14, 1) & 15), 16;
    my $key = "$length$same$protocol$ends" . substr($payload, 0, 16);
    if ($type == $PACKET_OUTGOING) {
      ($old, $young, $turned) = ($young, {}, time) if keys %$young >= $KEPT || time > $turned + $KEPT_SECONDS;
      $young->{$key} = $ttl;
      next;
    }
    my ($source, $destination) = unpack 'NN', $ends;
    for (@inside) {
      my ($network, $mask) = @$_;
      tell_of('source', $index, $frame) if ($source & $mask) == $network;
      tell_of('destination', $index, $frame) if ($destination & $mask) == $network;
    }
    my $before = $young->{$key} // $old->{$key};
    tell_of('bounced', $index, $frame) if defined $before && $before > $ttl;
  }
}

sub tell_of {
  my ($kind, $index, $frame) = @_;
  ioctl($wire, $SIOCGSTAMP, my $time = "\0" x 16);
  printf "leak %s %d.%06d %d %s\n", $kind, unpack('qq', $time), $index, unpack('H*', $frame);
}
