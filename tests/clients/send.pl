# HOST PORT WAY USER PASSWORD CA FROM TO < message
use strict;
use warnings;
use Net::SMTP;
use Authen::SASL;
my ($host, $port, $way, $user, $password, $ca, $from, $to) = @ARGV;
binmode STDIN;
my $message = do { local $/; <STDIN> };
my %tls = (SSL_ca_file => $ca, SSL_verifycn_name => $host);
my $smtp = Net::SMTP->new($host, Port => $port, Timeout => 15, Hello => "perl.example", SSL => $way eq "implicit" ? 1 : 0, %tls)
    or die "cannot connect: $@\n";
if ($way eq "starttls" or $way eq "login") { $smtp->starttls(%tls) or die "STARTTLS: " . $smtp->message; }
if ($way ne "plain") {
    my $sasl = Authen::SASL->new(mechanism => $way eq "login" ? "LOGIN" : "PLAIN", callback => { user => $user, authname => $user, pass => $password });
    $smtp->auth($sasl) or die "AUTH: " . $smtp->message;
}
$smtp->mail($from) or die $smtp->message;
$smtp->to($to) or die $smtp->message;
$smtp->data or die $smtp->message;
$message =~ s/\r\n/\n/g;
$smtp->datasend($message) or die $smtp->message;
$smtp->dataend or die $smtp->message;
$smtp->quit;
