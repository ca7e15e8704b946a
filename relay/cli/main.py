"""From what was typed to an exit code. No traceback reaches a user, unless RELAY_DEBUG is set."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

from relay.cli import exits, parser
from relay.errors import ConfigError, RelayError

VERBS = {
    "serve": "service.serve",
    "reload": "service.reload",
    "status": "service.status",
    "check": "configuration.check",
    "config show": "configuration.show",
    "config schema": "configuration.schema",
    "test": "trial.send",
    "queue": "queue.listing",
    "queue list": "queue.listing",
    "queue show": "queue.one",
    "queue retry": "queue.retry",
    "queue hold": "queue.hold",
    "queue release": "queue.release",
    "queue reroute": "queue.reroute",
    "queue bounce": "queue.bounce",
    "queue delete": "queue.delete",
    "log": "story.stories",
    "log tail": "story.tail",
    "convert": "convert.convert",
    "explain": "explain.explain",
    "split": "split.split",
    "provider list": "provider.listing",
    "provider test": "provider.test",
    "provider pause": "pausing.pause",
    "provider resume": "pausing.resume",
    "passwd": "passwords.passwd",
    "smtp-password": "passwords.smtp_password",
    "version": "about.version",
    "help": "about.help_",
}
"""What is typed -> module and function in relay.cli.verbs; a module is imported when its verb is typed, so that each starts fast."""


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What only a write fails with; standard output is all that a command writes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    _have_streams()
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
        _drop_output()  # `relay queue | head`: nobody reads on
        return exits.OK
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except EOFError:
        print("relay: no answer; nothing was done", file=sys.stderr)
        return exits.USAGE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            _drop_output()
            print(f"relay: cannot write the output: {error.strerror}", file=sys.stderr)
            return exits.OUTPUT
        if "RELAY_DEBUG" in os.environ:
            raise
        print(f"relay: bug: {type(error).__name__}: {error}\nRELAY_DEBUG=1 in the environment shows where.", file=sys.stderr)
        return exits.BUG


def _have_streams() -> None:
    """Let standard streams that were closed lead nowhere, so that no file or socket opened later gets their numbers; and let
    characters that the terminal's encoding lacks be shown escaped."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 # open for as long as we run
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what could not be written nowhere; Python would complain once more when it flushes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _run(arguments: Sequence[str]) -> int:
    for argument in arguments:
        if not _is_text(argument):
            raise exits.Stop(exits.USAGE, f"an argument is not valid UTF-8: {argument!r}")
    options = parser.parsed(arguments)
    if options.verb is None:
        parser.parser().print_help()
        return exits.USAGE
    return _verb(parser.typed(options), options)


def _verb(typed: str, options: argparse.Namespace) -> int:
    module, _, name = VERBS[typed].partition(".")
    code = getattr(importlib.import_module(f"relay.cli.verbs.{module}"), name)(options)
    assert isinstance(code, int)
    return code


def _is_text(argument: str) -> bool:
    """Whether Python could decode it; what it could not, it keeps as lone surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
