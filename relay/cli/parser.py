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
An SMTP relay bridge: apps hand it mail by SMTP, it stores each message and hands it on to a provider.

Start here, without any account (everything is captured, nothing leaves this host):
  relay serve --dev                 SMTP on 127.0.0.1:1025
  relay test me@example.com --wait  send a first mail
  relay log me@example.com          what became of it

With a configuration (relay.yaml.example names every key):
  relay check relay.yaml            every mistake in one run
  relay serve -c relay.yaml         run it

Every day:
  relay status                      accepting? providers, queue
  relay queue                       what waits, and why
  relay log TERM                    the story of a message: queue id, Message-ID, address or remote id
"""
_EXITS = """\
exit codes: 0 ok, 64 usage, 65 bad input, 66 no such file or entry, 69 not available,
70 bug, 74 cannot write the output, 75 try later, 77 permission, 78 configuration"""
_FILTER_HELP = "Filters may be combined; all must hold. Addresses and names are patterns: '*@example.com'."
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
    """The whole command line. The chosen verb is in `verb` (with `queue_verb` for the queue)."""
    everywhere = _everywhere()
    top = Parser(prog="relay", description=_HELP, epilog=_EXITS, parents=[everywhere])
    top.add_argument("--version", action="store_const", const="version", dest="verb", help="the same as: relay version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    _verb(verbs, "serve", "run the daemon", parents=[everywhere])

    check = _verb(
        verbs, "check", "check a configuration: every mistake, with its place and how to mend it", parents=[everywhere, _as_json()]
    )
    check.add_argument("file", nargs="?", metavar="FILE", help="default: -c, $RELAY_CONFIG, /etc/relay/relay.yaml")
    check.add_argument("--strict", action="store_true", help="warnings are errors too (exit 78)")

    test = _verb(verbs, "test", "send a test message through the running daemon", parents=[everywhere])
    test.add_argument("to", metavar="TO", help="recipient")
    test.add_argument("--from", dest="sender", metavar="A", help="sender (default: bounce.from of the configuration)")
    test.add_argument("--via", metavar="P", help="the provider to use, whatever the routes say")
    test.add_argument("--wait", action="store_true", help="wait until it is sent or refused, a minute at most")

    _verb(verbs, "status", "accepting mail? providers and queue", parents=[everywhere, _as_json()])
    _queue(verbs, everywhere)

    log = _verb(verbs, "log", "the story of a message", parents=[everywhere, _as_json()])
    log.add_argument("term", metavar="TERM", help="queue id (or how it begins), Message-ID, address or remote id")

    _verb(verbs, "version", "print the version")
    return top


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

    delete = _verb(
        inner, "delete", "take recipients out of the queue; nobody is told", parents=[everywhere, _filters()], epilog=_FILTER_HELP
    )
    delete.add_argument("ids", nargs="*", metavar="ID")
    delete.add_argument("--all", action="store_true", help="everything in the queue")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def _verb(verbs: argparse._SubParsersAction[Parser], name: str, text: str, *, parents: Sequence[Parser] = (), epilog: str = "") -> Parser:
    return verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=list(parents), epilog=epilog)


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
