"""`relay version`. Imports nothing: it must be fast."""

from __future__ import annotations

import argparse

from relay import __version__
from relay.cli import exits


def version(options: argparse.Namespace) -> int:
    """Print the version."""
    print(f"relay {__version__}")
    return exits.OK
