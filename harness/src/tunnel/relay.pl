# Joins standard input and output with many connections to one server. Either way go frames: a
# length (of all that follows), a kind, the number of a connection, and bytes. The kinds:
#   o  open it (to here only)
#   d  these bytes
#   e  no more bytes in this direction
#   x  it is broken, or given up; the bytes say why
# Perl is in every Debian.
use strict;
use warnings;
use Errno qw(EAGAIN EINTR);
use IO::Select;
use IO::Socket::IP;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my ($host, $port) = @ARGV;
my ($chunk, $waiting_at_most) = (65536, 1 << 20);
my ($reading, $writing) = (IO::Select->new(\*STDIN), IO::Select->new);
my (%socket, %number, %waiting, %ended);
my $in = '';
$SIG{PIPE} = 'IGNORE';

sub send_frame {
    my ($kind, $number, $bytes) = @_;
    my $frame = pack('NaN', 5 + length $bytes, $kind, $number) . $bytes;
    while (length $frame) {
        my $written = syswrite STDOUT, $frame;
        if (defined $written) { substr $frame, 0, $written, '' }
        elsif (!$!{EINTR}) { exit 1 }
    }
}

sub forget {
    my ($number) = @_;
    my $socket = delete $socket{$number} or return;
    $reading->remove($socket);
    $writing->remove($socket);
    delete $number{fileno $socket};
    delete $waiting{$number};
    delete $ended{$number};
    close $socket;
}

sub broken {
    my ($number, $why) = @_;
    forget($number);
    send_frame('x', $number, $why);
}

sub open_to_server {
    my ($number) = @_;
    my $socket = IO::Socket::IP->new(PeerHost => $host, PeerService => $port, Timeout => 10);
    return broken($number, "cannot reach $host:$port: $@") unless $socket;
    $socket->blocking(0);
    $socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
    $socket{$number} = $socket;
    $number{fileno $socket} = $number;
    $waiting{$number} = '';
    $reading->add($socket);
}

sub to_server {
    my ($number) = @_;
    my $socket = $socket{$number};
    while (length $waiting{$number}) {
        my $written = syswrite $socket, $waiting{$number};
        if (defined $written) { substr $waiting{$number}, 0, $written, '' }
        elsif ($!{EAGAIN} || $!{EINTR}) { return $writing->add($socket) }
        else { return broken($number, "cannot send to $host:$port: $!") }
    }
    $writing->remove($socket);
    shutdown $socket, 1 if $ended{$number};
}

sub from_server {
    my ($socket) = @_;
    my $number = $number{fileno $socket};
    my $read = sysread $socket, my ($bytes), $chunk;
    if ($read) { send_frame('d', $number, $bytes) }
    elsif (defined $read) {
        # Its client has nothing to wait for any more, whatever it still had to say.
        forget($number);
        send_frame('e', $number, '');
    }
    elsif (!$!{EAGAIN} && !$!{EINTR}) { broken($number, "cannot read from $host:$port: $!") }
}

sub obey {
    my ($kind, $number, $bytes) = @_;
    if ($kind eq 'o') { open_to_server($number) }
    # What comes for one that has just ended comes too late.
    elsif (!exists $socket{$number}) { }
    elsif ($kind eq 'x') { forget($number) }
    else {
        $waiting{$number} .= $bytes;
        $ended{$number} = 1 if $kind eq 'e';
        to_server($number);
    }
}

sub from_clients {
    my $read = sysread STDIN, $in, $chunk, length $in;
    exit 0 unless $read || !defined $read && $!{EINTR};
    while (length $in >= 4) {
        my $length = unpack 'N', $in;
        last if length $in < 4 + $length;
        my ($kind, $number, $bytes) = unpack 'x4 a N a*', substr $in, 0, 4 + $length;
        substr $in, 0, 4 + $length, '';
        obey($kind, $number, $bytes);
    }
}

while (1) {
    # A server that takes nothing is not to fill this memory.
    my $full = grep { length $_ > $waiting_at_most } values %waiting;
    if ($full) { $reading->remove(\*STDIN) }
    else { $reading->add(\*STDIN) }
    my ($readable, $writable) = IO::Select->select($reading, $writing);
    to_server($_) for grep { defined } map { $number{fileno $_ // -1} } @$writable;
    for my $source (@$readable) {
        if ($source == \*STDIN) { from_clients() }
        elsif (defined fileno $source) { from_server($source) }
    }
}
