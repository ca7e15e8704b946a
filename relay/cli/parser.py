"""What can be typed: verbs, options, and help that teaches."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

from relay.cli import helps
from relay.cli.exits import USAGE, Stop

STATES = ("active", "deferred", "hold", "corrupt", "finished")
FILTERS = ("id", "provider", "route", "from", "to", "state", "older")

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
    top = Parser(prog="relay", description=helps.RELAY, epilog=helps.EXITS, parents=[everywhere])
    top.add_argument("--version", action="store_const", const="version", dest="verb", help="the same as: relay version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    _verb(verbs, "serve", "run the daemon", parents=[everywhere], about=helps.SERVE)
    _verb(verbs, "reload", "have the daemon read its configuration again", parents=[everywhere], about=helps.RELOAD)

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
        verbs, "log", "the story of a message, or with `tail` the log as it is written", parents=[everywhere, _as_json()], about=helps.LOG
    )
    log.add_argument("term", metavar="TERM", help="queue id (or how it begins), Message-ID, address or remote id; or: tail")
    log.add_argument("held", nargs="?", metavar="TERM", help="with tail: show only lines that hold this")

    _convert(verbs, everywhere)
    _explain(verbs, everywhere)
    _split(verbs, everywhere)
    _provider(verbs, everywhere)
    _passwords(verbs, everywhere)
    _verb(verbs, "version", "print the version")
    asked = _verb(verbs, "help", "this help, or that of a command", about=helps.HELP)
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
    of_list = [everywhere, _as_json(), listing]
    queue = _verb(verbs, "queue", "see and change what waits", parents=of_list, about=helps.QUEUE, epilog=helps.FILTERS)
    inner = queue.add_subparsers(dest="queue_verb", metavar="VERB", title="verbs (default: list)")
    _verb(inner, "list", "what waits, and why", parents=of_list, about=helps.QUEUE_LIST, epilog=helps.FILTERS)

    show = _verb(inner, "show", "one entry", parents=[everywhere, _as_json()], about=helps.QUEUE_SHOW)
    show.add_argument("id", metavar="ID", help="queue id, or how it begins")
    part = show.add_mutually_exclusive_group()
    part.add_argument("--raw", action="store_true", help="the message, byte for byte as it is stored")
    part.add_argument("--headers", action="store_true", help="its header block")
    part.add_argument("--timeline", action="store_true", help="every attempt")

    _changing(inner, "retry", "try again now (all that waits, or what is named)", helps.QUEUE_RETRY, everywhere, wants=False)
    _changing(inner, "hold", "leave it alone until it is released", helps.QUEUE_HOLD, everywhere)
    release = _changing(
        inner, "release", "send on what is held; what may have been delivered may arrive twice", helps.QUEUE_RELEASE, everywhere
    )
    release.add_argument("--yes", action="store_true", help="do not ask where it may have been delivered already")

    reroute = _changing(inner, "reroute", "to other providers, whatever the routes say", helps.QUEUE_REROUTE, everywhere)
    where = reroute.add_mutually_exclusive_group(required=True)
    where.add_argument("--via", metavar="P[,P2]", help="the providers, in the order in which they are tried")
    where.add_argument("--by-routes", action="store_true", help="let the routes choose again")
    reroute.add_argument("--even-if-maybe-sent", action="store_true", help="what may have been delivered, too: it may arrive twice")

    bounce = _changing(inner, "bounce", "give up, and tell the senders", helps.QUEUE_BOUNCE, everywhere)
    bounce.add_argument("--why", metavar="TEXT", help="what the senders are told")
    delete = _changing(inner, "delete", "take recipients out of the queue; nobody is told", helps.QUEUE_DELETE, everywhere)
    for verb in (reroute, bounce, delete):
        verb.add_argument("--yes", action="store_true", help="do not ask")


def _changing(
    verbs: argparse._SubParsersAction[Parser], name: str, text: str, about: str, everywhere: Parser, *, wants: bool = True
) -> Parser:
    """A verb that changes what ids or filters name; `wants` that something is named, if only --all."""
    verb = _verb(verbs, name, text, parents=[everywhere, _filters()], about=about, epilog=helps.FILTERS)
    verb.add_argument("ids", nargs="*", metavar="ID")
    if wants:
        verb.add_argument("--all", action="store_true", help=f"everything {'that is held' if name == 'release' else 'in the queue'}")
    return verb


def _convert(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    convert = _verb(
        verbs, "convert", "the requests that a message becomes, without sending them", parents=[everywhere], about=helps.CONVERT
    )
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
        verbs, "explain", "which route takes a message, and what would become of it", parents=[everywhere, _as_json()], about=helps.EXPLAIN
    )
    explain.add_argument("file", nargs="?", metavar="FILE", help="the message (.eml); - is standard input")
    explain.add_argument("--header", action="append", default=[], metavar="H:V", help="a header field, instead of FILE; may be repeated")
    _envelope(explain)
    explain.add_argument("--client", metavar="IP", help="the client's address (default: this host)")
    explain.add_argument("--listener", metavar="NAME", help="where it is handed in (default: the first listener)")
    explain.add_argument("--user", metavar="NAME", help="who is logged in, by the name in the log (default: nobody)")


def _split(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    split = _verb(verbs, "split", "how a route's mail is shared among providers", parents=[everywhere], about=helps.SPLIT)
    split.add_argument("route", metavar="ROUTE", help="a route of the configuration")
    split.add_argument("weights", nargs="+", metavar="PROVIDER=WEIGHT", help="every provider of the split, with its weight")
    split.add_argument("--yes", action="store_true", help="do not ask")
    split.add_argument("--no-reload", action="store_true", help="change the file alone; relay reload makes it hold")


def _provider(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    provider = _verb(verbs, "provider", "the providers: list, test, pause, resume", parents=[everywhere], about=helps.PROVIDER)
    parts = provider.add_subparsers(dest="part", metavar="VERB", title="verbs", required=True)
    listing = _verb(parts, "list", "how each is spoken to, and who uses it", parents=[everywhere, _as_json()], about=helps.PROVIDER_LIST)
    test = _verb(
        parts, "test", "whether each could be used now; sends no mail", parents=[everywhere, _as_json()], about=helps.PROVIDER_TEST
    )
    for verb in (listing, test):
        verb.add_argument("names", nargs="*", metavar="NAME", help="a provider of the configuration (default: all)")
    pause = _verb(parts, "pause", "leave one alone until it is resumed", parents=[everywhere], about=helps.PROVIDER_PAUSE)
    pause.add_argument("name", metavar="NAME", help="a provider of the configuration")
    pause.add_argument("--why", metavar="TEXT", help="the reason, for the log and for who looks later")
    resume = _verb(parts, "resume", "use it again", parents=[everywhere], about=helps.PROVIDER_RESUME)
    resume.add_argument("name", metavar="NAME", help="a provider of the configuration")


def _envelope(verb: Parser) -> None:
    verb.add_argument("--from", dest="sender", metavar="A", help="reverse-path; <> is the null path (default: the From field)")
    verb.add_argument("--to", action="append", default=[], metavar="B", help="recipient; may be repeated (default: To and Cc)")


def _passwords(verbs: argparse._SubParsersAction[Parser], everywhere: Parser) -> None:
    passwd = _verb(verbs, "passwd", "set the password of a user who logs in", parents=[everywhere], about=helps.PASSWD)
    passwd.add_argument("name", metavar="NAME", help="user name; - reads it: at the terminal unseen, or from standard input")
    passwd.add_argument("--identity", metavar="ID", help="by what the log and routes know the user, instead of the name")
    which = passwd.add_mutually_exclusive_group()
    which.add_argument("--users", metavar="FILE", help="the users file")
    which.add_argument("--listener", metavar="L", help="the listener whose users file is meant")
    how = passwd.add_mutually_exclusive_group()
    how.add_argument("--delete", action="store_true", help="take the user away")
    how.add_argument("--stdin", action="store_true", help="read the password from standard input")

    smtp = _verb(verbs, "smtp-password", "the SMTP password of Amazon SES", parents=[everywhere], about=helps.SMTP_PASSWORD)
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
    group.add_argument("--provider", metavar="NAME", help="last tried, or waited for")
    group.add_argument("--route", metavar="NAME", help="by which that was")
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
