# Whole IPv4 packets out of a host of the lab as they are given, and those that come to it. Run in the host's namespace. In:
# `send N PACKET` (hexadecimal) or `watch N PROTOCOL`, a line; out: `done N` or `failed N WHY`, and `came SECONDS PACKET` for
# what is watched, before the host's own kernel drops or answers it. Perl-base is enough.
use strict;
use warnings;

my ($PF_INET, $PF_PACKET, $SOCK_DGRAM, $SOCK_RAW, $IPPROTO_RAW, $ETH_P_IP) = (2, 17, 2, 3, 255, 0x0800);
my ($SOL_SOCKET, $SO_RCVBUFFORCE, $SIOCGSTAMP, $MSG_DONTWAIT, $PACKET_HOST) = (1, 33, 0x8906, 0x40, 0);

socket(my $out, $PF_INET, $SOCK_RAW, $IPPROTO_RAW) or die "socket: $!";
socket(my $in, $PF_PACKET, $SOCK_DGRAM, 0) or die "socket: $!";
setsockopt($in, $SOL_SOCKET, $SO_RCVBUFFORCE, pack('i', 16 << 20)) or die "buffer: $!";
ioctl($in, $SIOCGSTAMP, my $unused = "\0" x 16);
bind($in, pack('S n i x12', $PF_PACKET, $ETH_P_IP, 0)) or die "bind: $!";

my %watched;
my $input = '';

$| = 1;
while (1) {
  vec(my $ready = '', fileno(STDIN), 1) = 1;
  vec($ready, fileno($in), 1) = 1;
  select($ready, undef, undef, undef);
  receive();
  next unless vec($ready, fileno(STDIN), 1);
  sysread(STDIN, $input, 65536, length $input) or exit;
  my $end = rindex $input, "\n";
  next if $end < 0;
  my $lines = substr $input, 0, $end + 1, '';
  for (split /\n/, $lines) {
    my ($word, $number, $what) = split / /;
    if ($word eq 'watch') { $watched{$what} = 1 }
    else {
      my $packet = pack 'H*', $what;
      my $to = pack 'S n a4 x8', $PF_INET, 0, substr $packet, 16, 4;
      unless (defined send($out, $packet, 0, $to)) { print "failed $number $!\n"; next }
    }
    print "done $number\n";
  }
}

sub receive {
  for (1 .. 10_000) {
    my $from = recv($in, my $packet, 65535, $MSG_DONTWAIT);
    last unless defined $from;
    next unless unpack('x10 C', $from) == $PACKET_HOST && $watched{ord substr $packet, 9, 1};
    ioctl($in, $SIOCGSTAMP, my $time = "\0" x 16);
    printf "came %d.%06d %s\n", unpack('qq', $time), unpack('H*', $packet);
  }
}
