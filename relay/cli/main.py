"""From what was typed to an exit code. No traceback reaches a user, unless RELAY_DEBUG is set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from relay.cli import exits, parser, verbs
from relay.errors import ConfigError, RelayError

VERBS: dict[str, Callable[[verbs.Options], int]] = {
    "serve": verbs.serve,
    "check": verbs.check,
    "test": verbs.test,
    "status": verbs.status,
    "queue": verbs.queue_list,
    "queue list": verbs.queue_list,
    "queue show": verbs.queue_show,
    "queue retry": verbs.queue_retry,
    "queue delete": verbs.queue_delete,
    "log": verbs.log,
    "version": verbs.version,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except exits.Stop as stop:
        if str(stop):
            print(f"relay: {stop}", file=sys.stderr)
        return stop.code
    except RelayError as error:
        print(error if isinstance(error, ConfigError) else f"relay: {error}", file=sys.stderr)
        return exits.of(error)
    except BrokenPipeError:
        # `relay queue | head`: nobody reads on. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except KeyboardInterrupt:
        return 128 + 2
    except Exception as error:
        if "RELAY_DEBUG" in os.environ:
            raise
        print(f"relay: bug: {type(error).__name__}: {error}\nRELAY_DEBUG=1 in the environment shows where.", file=sys.stderr)
        return exits.BUG


def _run(arguments: Sequence[str]) -> int:
    whole = parser.parser()
    options = whole.parse_args(arguments)
    if options.verb is None:
        whole.print_help()
        return exits.USAGE
    verb = options.verb
    if getattr(options, "queue_verb", None):
        verb = f"{verb} {options.queue_verb}"
    return VERBS[verb](options)
