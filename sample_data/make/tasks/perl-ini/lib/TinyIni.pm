# SPDX-License-Identifier: Apache-2.0
package TinyIni;

use strict;
use warnings;

=head1 NAME

TinyIni - read INI files into a hash of hashes

=cut

sub parse {
    my ($class, $text) = @_;
    my %config;
    my $section = '';
    for my $line (split /\n/, $text) {
        $line =~ s/[;#].*//;
        $line =~ s/^\s+|\s+$//g;
        next if $line eq '';
        if ($line =~ /^\[(.+)\]$/) {
            $section = $1;
        }
        elsif ($line =~ /^(.+)=(.*)$/) {
            my ($key, $value) = ($1, $2);
            s/^\s+|\s+$//g for $key, $value;
            $value =~ s/^"(.*)"$/$1/;
            $config{$section}{$key} = $value;
        }
        else {
            die "cannot read line: $line\n";
        }
    }
    return \%config;
}

1;
