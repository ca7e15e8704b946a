"""What `--help` says, beside the options: what a command is for, and examples that can be typed. 80 columns."""

from __future__ import annotations

RELAY = """\
An SMTP relay bridge: apps hand it mail by SMTP, it stores each message and
hands it on to a provider.

Start here, without any account (all mail is captured, none leaves this host):
  relay serve --dev                 SMTP on 127.0.0.1:1025
  relay test me@example.com --wait  send a first mail
  relay log me@example.com          what became of it

With a configuration (relay.yaml.example names every key):
  relay check relay.yaml            every mistake in one run
  relay serve -c relay.yaml         run it

Every day:
  relay status                      accepting? providers, queue
  relay queue                       what waits, and why
  relay log TERM                    the story of a message, by id or address
  relay log tail                    the log as it is written
  relay reload                      a changed configuration, no connection lost
  relay provider list               how each provider is spoken to
  relay provider test               can each provider be used? sends no mail

A provider is down, or must be left:
  relay provider pause NAME         its mail goes to the next of its route
  relay queue reroute --provider NAME --via OTHER   move what waits for it
  relay provider resume NAME        use it again
  relay split ROUTE a=80 b=20       share a route's new mail in another way

Before a mail is sent (no daemon, no secret needed):
  relay convert mail.eml --provider postmark   the requests it would become
  relay explain mail.eml                       its route, and what would be done

More of any command:
  relay help provider test          the same as: relay provider test --help
"""
EXITS = """\
exit codes: 0 ok, 64 usage, 65 bad input, 66 no such file or entry,
69 not available, 70 bug, 74 cannot write the output, 75 try later,
77 permission, 78 configuration"""
SERVE = """\
Run the daemon in the foreground; its log goes to standard error. SIGTERM
drains and ends it, SIGHUP reads the configuration again, as relay reload does.

  relay serve --dev            without a configuration; nothing leaves this host
  relay serve -c relay.yaml    by one; relay check relay.yaml finds its mistakes"""
LOG = """\
The story of every message that TERM finds: a queue id (or how it begins),
Message-ID, address or remote id. With `tail` instead the log of the running
daemon as it is written, until Ctrl-C; with a TERM behind it only the lines
that hold it.

  relay log ann@example.net
  relay log tail
  relay log tail postmark --json"""
CONVERT = """\
What a message becomes on its way to a provider: each request or transaction,
secrets masked, and what is lost on the way. Nothing is sent and nothing needs
to run. The provider is one of the configuration; where that names none so, a
type (postmark, ses, mailtrap, paubox, lowcodeapi) with stand-ins for its
secrets. With mode: auto it is shown by its API, or by SMTP and why. Control
headers of every dialect are obeyed, as on a listener of this host; --listener
shows what is made of mail that comes in there.

  relay convert mail.eml --provider postmark
  relay convert mail.eml --provider postmark --from a@x.example --to b@y.example
  relay convert mail.eml --provider postmark --json | jq .body
  relay convert mail.eml --provider postmark --curl | POSTMARK_TOKEN=… bash -e
  some-app | relay convert - --provider ses --mode smtp

exit code 65: the provider cannot carry it, or FILE is no mail; standard error
says why"""
EXPLAIN = """\
Which route takes each recipient and why the ones before it do not; the choice
of a split, the day of a ramp, the staging guard, the shadow; which providers
may carry the mail in which order, and what each would do; what is changed on
the way, and whether the listener would take it. Nothing is sent and nothing
needs to run; where the daemon runs, it is asked for pauses and what is used of
budgets.

  relay explain mail.eml
  relay explain mail.eml --listener lan --client 10.1.2.3 --user app1
  relay explain --header "List-Id: <x>" --from a@x.example --to b@y.example"""
SPLIT = """\
Change the weights of a route's split in the configuration file, and have the
daemon read it. Each provider of the split is named: the weights are relative,
and 0 is none. One that the split does not have yet is added to it; a route with
a single provider (via) becomes a split. Nothing else in the file changes,
comments and order stay. The difference and the share of recipients that moves
are shown; then it asks. A file with mistakes is never written.

  relay split default postmark=80 ses=20
  relay split default postmark=0 ses=100 --yes

A route with a ramp gets its weights from the date and is left alone."""
RELOAD = """\
Have the running daemon read its configuration again. Connections and attempts
under way go on. Where the new configuration has mistakes each is printed with
its place, the exit code is 78, and the old one stays in force."""
PROVIDER = """\
The providers of the configuration.

  relay provider list                how each is spoken to, and who uses it
  relay provider test                could each be used now? No mail is sent
  relay provider test ses postmark   only these
  relay provider pause ses           leave it alone; its mail goes elsewhere
  relay provider resume ses          use it again"""
PROVIDER_LIST = """\
Each provider of the configuration: by its API, by SMTP or both ways (mode:
auto), where that is and under which TLS, how much goes at once, the routes that
use it, and where the daemon runs whether it is up, paused, throttled, or partly
paused: for one domain, stream, template or door; what of its budgets is spent,
its share of a ramp, and what shadow runs found of it.

  relay provider list
  relay provider list ses postmark
  relay provider list --json | jq -r 'select(.state == "paused") | .name'"""
PROVIDER_TEST = """\
Whether each provider could be used now: connection, certificate, login and
account, with what to do about it where it could not. It logs in and sends no
mail. The daemon need not run; the secrets must be within reach.

  relay provider test
  relay provider test ses postmark
  sudo CREDENTIALS_DIRECTORY=/etc/relay/credentials relay provider test

exit code 0: no check failed; 69: one did; 75: one took longer than a minute"""
PROVIDER_PAUSE = """\
Leave a provider alone until it is resumed, also over restarts. Its mail goes to
the next provider of its route, or waits where there is none; nothing bounces
but what expires. Attempts under way end as they began.

  relay provider pause postmark --why "invoice is late, see ticket 812"

then, to move what may only go there: relay queue reroute --help"""
PROVIDER_RESUME = """\
Use a provider again, whether an admin paused it or what it answered: nothing
is held against it any more, and what waits for it goes at once. To try it with
one message first: relay queue retry --provider NAME.

  relay provider resume postmark"""
PASSWD = """\
Set the password of a user of a listener (listen.auth), or take the user away
with --delete. The password is asked twice at a terminal; --stdin reads it from
standard input. The running daemon sees the change by itself.

  relay passwd app1                     the only users file of the configuration
  relay passwd app1 --listener lan      the users file of that listener
  relay passwd app1 --users ./users     any file; made when it is missing
  relay passwd --identity shop -        a name that is a secret itself, such as
                                        a server token: asked for like the
                                        password, and shown nowhere; with
                                        --stdin the first line, the password
                                        the second"""
SMTP_PASSWORD = """\
The password for the SMTP door of Amazon SES, derived from a secret access key:
alone on standard output, for other programs (relay itself derives it without
being told). Without --region the secret is that of the provider P in the
configuration; with it, it is read from standard input.

  relay smtp-password ses
  relay smtp-password --region eu-west-1 < secret"""
HELP = """\
The help of a command, or without one that of relay itself.

  relay help provider test      the same as: relay provider test --help"""
QUEUE = """\
See and change what waits.

  relay queue                              what waits, and why
  relay queue --to '*@example.net' --older 1h
  relay queue retry --provider postmark    try again now
  relay queue hold --from 'shop@*'         leave alone until it is released
  relay queue reroute --provider postmark --via ses     to another provider
  relay queue bounce --older 2d            give up, and tell the senders
  relay queue delete --from 'root@*'       take out, and tell nobody"""
QUEUE_LIST = """\
What waits, and why: for its time, for a paused provider, for its turn at a busy
one, or for you. Of each message ten recipients at most; --json has all.

  relay queue list --provider postmark
  relay queue list --state hold
  relay queue list --json | jq -r .queue_id"""
QUEUE_SHOW = """\
One entry: its story, its attempts, its headers or the message itself.

  relay queue show 687E76
  relay queue show 687E7641C64007 --raw > mail.eml"""
QUEUE_RETRY = """\
Try again now: what is named, or all that waits. A paused provider is probed at
once. What is held stays so, and is counted.

  relay queue retry
  relay queue retry --to '*@example.net'"""
QUEUE_HOLD = """\
Leave recipients alone until they are released; they do not expire meanwhile.

  relay queue hold 687E7641C64007
  relay queue hold --from 'newsletter@*'"""
QUEUE_RELEASE = """\
Send on what is held. What may have been delivered already may arrive twice:
then it asks.

  relay queue release 687E7641C64007
  relay queue release --all --yes"""
QUEUE_REROUTE = """\
Fix the providers of what waits, in the order in which they are tried, whatever
the routes say; it goes at once. It prints the count and asks. What may have
been delivered already stays with its provider; with --even-if-maybe-sent it
goes too, and may arrive twice. --by-routes takes back what was fixed before.

  relay queue reroute --provider postmark --via ses
  relay queue reroute --route newsletter --via ses,mailtrap --yes
  relay queue reroute --all --by-routes

Only what waits is moved: new mail goes by its route (relay provider pause)."""
QUEUE_BOUNCE = """\
Give recipients up: each sender is told by a bounce, with the reason. It prints
the count and asks.

  relay queue bounce 687E7641C64007 --why "the list was sent twice"
  relay queue bounce --to "*@gone.example" --why "that company closed" --yes"""
QUEUE_DELETE = """\
Take recipients out of the queue; nobody is told, no bounce is sent. It prints
the count and asks.

  relay queue delete 687E7641C64007
  relay queue delete --from 'root@*' --older 2d --yes"""
FILTERS = """\
Filters may be combined; all must hold. Addresses and names are patterns:
'*@example.com'."""
