"""What can be typed: verbs, options, and help that teaches."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

from relay.cli.exits import USAGE, Stop

STATES = ("active", "deferred", "hold", "corrupt", "finished")
FILTERS = ("id", "provider", "route", "from", "to", "state", "older")

_HELP = """\
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

Before a mail is sent (no daemon, no secret needed):
  relay convert mail.eml --provider postmark   the requests it would become
  relay explain mail.eml                       its route, and what would be done

More of any command:
  relay help provider test          the same as: relay provider test --help
"""
_EXITS = """\
exit codes: 0 ok, 64 usage, 65 bad input, 66 no such file or entry,
69 not available, 70 bug, 74 cannot write the output, 75 try later,
77 permission, 78 configuration"""
_SERVE = """\
Run the daemon in the foreground; its log goes to standard error. SIGTERM
drains and ends it, SIGHUP reads the configuration again, as relay reload does.

  relay serve --dev            without a configuration; nothing leaves this host
  relay serve -c relay.yaml    by one; relay check relay.yaml finds its mistakes"""
_LOG = """\
The story of every message that TERM finds: a queue id (or how it begins),
Message-ID, address or remote id. With `tail` instead the log of the running
daemon as it is written, until Ctrl-C; with a TERM behind it only the lines
that hold it.

  relay log ann@example.net
  relay log tail
  relay log tail postmark --json"""
_CONVERT = """\
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
_EXPLAIN = """\
Which route takes each recipient and why the ones before it do not, which
providers may carry the mail in which order and what each would do, what is
changed on the way, and whether the listener would take it. Nothing is sent and
nothing needs to run.

  relay explain mail.eml
  relay explain mail.eml --listener lan --client 10.1.2.3
  relay explain --header "List-Id: <x>" --from a@x.example --to b@y.example"""
_RELOAD = """\
Have the running daemon read its configuration again. Connections and attempts
under way go on. Where the new configuration has mistakes each is printed with
its place, the exit code is 78, and the old one stays in force."""
_PROVIDER = """\
The providers of the configuration.

  relay provider list                how each is spoken to, and who uses it
  relay provider test                could each be used now? No mail is sent
  relay provider test ses postmark   only these"""
_PROVIDER_LIST = """\
Each provider of the configuration: by its API, by SMTP or both ways (mode:
auto), where that is and under which TLS, how much goes at once, the routes that
use it, and where the daemon runs whether it is up, paused, throttled, or partly
paused: for one domain, stream, template or door.

  relay provider list
  relay provider list ses postmark
  relay provider list --json | jq -r 'select(.state == "paused") | .name'"""
_PROVIDER_TEST = """\
Whether each provider could be used now: connection, certificate, login and
account, with what to do about it where it could not. It logs in and sends no
mail. The daemon need not run; the secrets must be within reach.

  relay provider test
  relay provider test ses postmark
  sudo CREDENTIALS_DIRECTORY=/etc/relay/credentials relay provider test

exit code 0: no check failed; 69: one did; 75: one took longer than a minute"""
_PASSWD = """\
Set the password of a user of a listener (listen.auth), or take the user away
with --delete. The password is asked twice at a terminal; --stdin reads it from
standard input. The running daemon sees the change by itself.

  relay passwd app1                     the only users file of the configuration
  relay passwd app1 --listener lan      the users file of that listener
  relay passwd app1 --users ./users     any file; made when it is missing"""
_SMTP_PASSWORD = """\
The password for the SMTP door of Amazon SES, derived from a secret access key:
alone on standard output, for other programs (relay itself derives it without
being told). Without --region the secret is that of the provider P in the
configuration; with it, it is read from standard input.

  relay smtp-password ses
  relay smtp-password --region eu-west-1 < secret"""
_ABOUT_HELP = """\
The help of a command, or without one that of relay itself.

  relay help provider test      the same as: relay provider test --help"""
_FILTER_HELP = """\
Filters may be combined; all must hold. Addresses and names are patterns:
'*@example.com'."""
_CHOICE = re.compile(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """argparse with exit code 64 and a guess at what was meant."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(*args, **options)  # type: ignore[arg-type] # argparse's own signature, passed through

    def error(self, message: str) -> NoReturn:
        """One or two lines, and exit 64."""
        if match := _CHOICE.search(message):
            known = re.findall(r"[\w-]+", match[2])
            near = difflib.get_close_matches(match[1], known, 1)
            message = f'unknown "{match[1]}"' + (f'; did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}")
        raise Stop(USAGE, f"{message}\nTry: {self.prog} --help")


def parser() -> Parser:
    """The whole command line. `typed` says which verb was chosen."""
    everywhere = _everywhere()
    top = Parser(prog="relay", description=_HELP, epilog=_EXITS, parents=[everywhere])
    top.add_argument("--version", action="store_const", const="version", dest="verb", help="the same as: relay version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    _verb(verbs, "serve", "run the daemon", parents=[everywhere], about=_SERVE)
    _verb(verbs, "reload", "have the daemon read its configuration again", parents=[everywhere], about=_RELOAD)

    check = _verb(
        verbs, "check", "check a configuration: every mistake, with its place and how to mend it", parents=[everywhere, _as_json()]
    )
    check.add_argument("file", nargs="?", metavar="FILE", help="default: -c, $RELAY_CONFIG, /etc/relay/relay.yaml")
    check.add_argument("--strict", action="store_true", help="warnings are errors too (exit 78)")

    shown = _verb(verbs, "config", "the configuration as it holds, and what one may say", parents=[everywhere])
    parts = shown.add_subparsers(dest="part", metavar="VERB", title="verbs", required=True)
    _verb(parts, "show", "the configuration with every default filled in, secrets as [secret]", parents=[everywhere])
    _verb(parts, "schema", "the JSON Schema of the configuration, for editors")

    test = _verb(verbs, "test", "send a test message through the running daemon", parents=[everywhere])
    test.add_argument("to", metavar="TO", help="recipient")
    test.add_argument("--from", dest="sender", metavar="A", help="sender (default: bounce.from of the configuration)")
    test.add_argument("--via", metavar="P", help="the provider to use, whatever the routes say")
    test.add_argument("--wait", action="store_true", help="wait until it is sent or refused, a minute at most")

    _verb(verbs, "status", "accepting mail? providers and queue", parents=[everywhere, _as_json()])
    _queue(verbs, everywhere)

    log = _verb(
        verbs, "log", "the story of a message, or with `tail` the log as it is written", parents=[everywhere, _as_json()], about=_LOG
    )
    log.add_argument("term", metavar="TERM", help="queue id (or how it begins), Message-ID, address or remote id; or: tail")
    log.add_argument("held", nargs="?", metavar="TERM", help="with tail: show only lines that hold this")

    _convert(verbs, everywhere)
    _explain(verbs, everywhere)
    _provider(verbs, everywhere)
    _passwords(verbs, everywhere)
    _verb(verbs, "version", "print the version")
    asked = _verb(verbs, "help", "this help, or that of a command", about=_ABOUT_HELP)
    asked.add_argument("words", nargs="*", metavar="COMMAND", help="queue, say, or: queue delete (default: relay itself)")
    return top


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options that were typed. Raises Stop for a mistake, with the command whose help knows better."""
    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        words = (options.verb, getattr(options, "queue_verb", None), getattr(options, "part", None))
        command = " ".join(["relay", *filter(None, words)])
        raise Stop(USAGE, f"unrecognized arguments: {' '.join(unknown)}\nTry: {command} --help")
    return options


def typed(options: argparse.Namespace) -> str:
    """The verb that was chosen, in full: `queue list`, `log tail`. Raises Stop for what argparse cannot tell."""
    verb: str = options.verb
    if inner := getattr(options, "queue_verb", None) or getattr(options, "part", None):
        return f"{verb} {inner}"
    if verb == "log" and options.term == "tail":
        return "log tail"
    if verb == "log" and options.held is not None:
        raise Stop(USAGE, "one TERM at a time\nTry: relay log --help")
    return verb


def _queue(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    listing = _filters()
    listing.add_argument("--limit", type=int, metavar="N", help="entries shown (default: 100; all with --json)")
    queue = _verb(verbs, "queue", "see and change what waits", parents=[everywhere, _as_json(), listing], epilog=_FILTER_HELP)
    inner = queue.add_subparsers(dest="queue_verb", metavar="VERB", title="verbs (default: list)")
    _verb(inner, "list", "what waits, and why", parents=[everywhere, _as_json(), listing], epilog=_FILTER_HELP)

    show = _verb(inner, "show", "one entry", parents=[everywhere, _as_json()])
    show.add_argument("id", metavar="ID", help="queue id, or how it begins")
    part = show.add_mutually_exclusive_group()
    part.add_argument("--raw", action="store_true", help="the message, byte for byte as it is stored")
    part.add_argument("--headers", action="store_true", help="its header block")
    part.add_argument("--timeline", action="store_true", help="every attempt")

    retry = _verb(inner, "retry", "try again now (all that waits, or what is named)", parents=[everywhere, _filters()], epilog=_FILTER_HELP)
    retry.add_argument("ids", nargs="*", metavar="ID")

    hold = _verb(inner, "hold", "leave it alone until it is released", parents=[everywhere, _filters()], epilog=_FILTER_HELP)
    hold.add_argument("ids", nargs="*", metavar="ID")
    hold.add_argument("--all", action="store_true", help="everything in the queue")

    release = _verb(
        inner,
        "release",
        "send on what is held; what may have been delivered may arrive twice",
        parents=[everywhere, _filters()],
        epilog=_FILTER_HELP,
    )
    release.add_argument("ids", nargs="*", metavar="ID")
    release.add_argument("--all", action="store_true", help="everything that is held")
    release.add_argument("--yes", action="store_true", help="do not ask where it may have been delivered already")

    delete = _verb(
        inner, "delete", "take recipients out of the queue; nobody is told", parents=[everywhere, _filters()], epilog=_FILTER_HELP
    )
    delete.add_argument("ids", nargs="*", metavar="ID")
    delete.add_argument("--all", action="store_true", help="everything in the queue")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def _convert(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    convert = _verb(verbs, "convert", "the requests that a message becomes, without sending them", parents=[everywhere], about=_CONVERT)
    convert.add_argument("file", metavar="FILE", help="the message (.eml); - is standard input")
    convert.add_argument("--provider", required=True, metavar="P", help="a provider of the configuration, or a type of provider")
    convert.add_argument("--mode", choices=("api", "smtp"), help="how it is spoken to (default: as it is configured)")
    _envelope(convert)
    convert.add_argument(
        "--listener", metavar="NAME", help="where it is handed in (default: nowhere; control headers of every dialect are obeyed)"
    )
    form = convert.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object for each request")
    form.add_argument("--curl", action="store_true", help="commands for a shell that send it, secrets as variables")


def _explain(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    explain = _verb(
        verbs, "explain", "which route takes a message, and what would become of it", parents=[everywhere, _as_json()], about=_EXPLAIN
    )
    explain.add_argument("file", nargs="?", metavar="FILE", help="the message (.eml); - is standard input")
    explain.add_argument("--header", action="append", default=[], metavar="H:V", help="a header field, instead of FILE; may be repeated")
    _envelope(explain)
    explain.add_argument("--client", metavar="IP", help="the client's address (default: this host)")
    explain.add_argument("--listener", metavar="NAME", help="where it is handed in (default: the first listener)")


def _provider(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    provider = _verb(verbs, "provider", "the providers: list, or test whether they can be used", parents=[everywhere], about=_PROVIDER)
    parts = provider.add_subparsers(dest="part", metavar="VERB", title="verbs", required=True)
    listing = _verb(parts, "list", "how each is spoken to, and who uses it", parents=[everywhere, _as_json()], about=_PROVIDER_LIST)
    test = _verb(parts, "test", "whether each could be used now; sends no mail", parents=[everywhere, _as_json()], about=_PROVIDER_TEST)
    for verb in (listing, test):
        verb.add_argument("names", nargs="*", metavar="NAME", help="a provider of the configuration (default: all)")


def _envelope(verb: Parser) -> None:
    verb.add_argument("--from", dest="sender", metavar="A", help="reverse-path; <> is the null path (default: the From field)")
    verb.add_argument("--to", action="append", default=[], metavar="B", help="recipient; may be repeated (default: To and Cc)")


def _passwords(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    passwd = _verb(verbs, "passwd", "set the password of a user who logs in", parents=[everywhere], about=_PASSWD)
    passwd.add_argument("name", metavar="NAME", help="user name")
    which = passwd.add_mutually_exclusive_group()
    which.add_argument("--users", metavar="FILE", help="the users file")
    which.add_argument("--listener", metavar="L", help="the listener whose users file is meant")
    how = passwd.add_mutually_exclusive_group()
    how.add_argument("--delete", action="store_true", help="take the user away")
    how.add_argument("--stdin", action="store_true", help="read the password from standard input")

    smtp = _verb(verbs, "smtp-password", "the SMTP password of Amazon SES", parents=[everywhere], about=_SMTP_PASSWORD)
    smtp.add_argument("provider", nargs="?", metavar="P", help="an SES provider of the configuration")
    smtp.add_argument("--region", metavar="REGION", help="AWS region; the secret access key is read from standard input")


def _verb(
    verbs: argparse._SubParsersAction[Parser],
    name: str,
    text: str,
    *,
    parents: Sequence[Parser] = (),
    epilog: str = "",
    about: str = "",
) -> Parser:
    about = about or f"{text[0].upper()}{text[1:]}."
    return verbs.add_parser(name, help=text, description=about, parents=list(parents), epilog=epilog)


# Options that stand before and after a verb have no default: a default after the verb would undo what stood before it.


def _everywhere() -> Parser:
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("-c", dest="config", metavar="FILE", help="configuration (default: $RELAY_CONFIG, /etc/relay/relay.yaml)")
    options.add_argument("--dev", action="store_true", help="the development set-up, whatever configuration there is")
    options.add_argument("--directory", metavar="DIR", help="with --dev: where it keeps everything (default: ~/.local/state/relay-dev)")
    return options


def _as_json() -> Parser:
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("--json", action="store_true", help="one JSON object per line")
    return options


def _filters() -> Parser:
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("filters")
    group.add_argument("--id", metavar="ID", help="queue id, or how it begins")
    group.add_argument("--provider", metavar="NAME")
    group.add_argument("--route", metavar="NAME")
    group.add_argument("--from", metavar="PATTERN", help="reverse-path")
    group.add_argument("--to", metavar="PATTERN", help="recipient")
    group.add_argument("--state", choices=STATES, metavar="STATE", help=", ".join(STATES))
    group.add_argument("--older", type=_age, metavar="TIME", help="in the queue for longer than 30s, 5m, 2h, 5d")
    return options


def _age(text: str) -> str:
    """Whole seconds, as text, of `30s`, `5m`, `2h`, `5d`, `1w`."""
    match = re.fullmatch(r"([0-9]{1,9})(s|m|h|d|w)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write 30s, 5m, 2h or 5d")
    return str(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]])


def filters(options: argparse.Namespace) -> dict[str, str]:
    """The filters that were given, as the API takes them."""
    return {name: str(value) for name in FILTERS if (value := getattr(options, name, None)) is not None}
