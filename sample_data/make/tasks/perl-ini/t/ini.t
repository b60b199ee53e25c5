# SPDX-License-Identifier: Apache-2.0
use strict;
use warnings;
use Test::More;
use lib 'lib';
use TinyIni;

my $config = TinyIni->parse(<<'END');
; a comment
[server]
host = example.org   ; where it runs
port = 8080
path = "/a;b#c"
query = a=1&b=2
[colours]
red = "#ff0000"
END

is $config->{server}{host}, 'example.org', 'comment after a value';
is $config->{server}{port}, '8080', 'plain value';
is $config->{server}{path}, '/a;b#c', 'no comment within quotes';
is $config->{server}{query}, 'a=1&b=2', 'split at the first equals sign';
is $config->{colours}{red}, '#ff0000', 'a colour';
eval { TinyIni->parse("nonsense\n") };
like $@, qr/cannot read line/, 'bad line';
done_testing;
