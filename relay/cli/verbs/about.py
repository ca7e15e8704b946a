"""`relay version` and `relay help`. They import next to nothing: they must be fast."""

from __future__ import annotations

import argparse
import contextlib

from relay import __version__
from relay.cli import exits, parser


def version(options: argparse.Namespace) -> int:
    """Print the version."""
    print(f"relay {__version__}")
    return exits.OK


def help_(options: argparse.Namespace) -> int:
    """Print the help of a command; one that there is not is told as if it had been typed."""
    with contextlib.suppress(SystemExit):  # how argparse ends once it has printed the help
        parser.parser().parse_args([*options.words, "--help"])
    return exits.OK
