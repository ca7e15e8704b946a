"""What verbs share: the way to the daemon, and how they print."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from relay.cli import door, exits, show
from relay.cli.exits import Stop

Options = argparse.Namespace


def admin(options: Options) -> door.Admin:
    """The way to the daemon that is meant, or to its spool."""
    directory = development(options)
    path = None if directory else door.config_file(getattr(options, "config", None), os.environ)
    if path is not None:
        return _configured(path, getattr(options, "config", None))
    usual = door.development_directory(os.environ)
    start = "relay serve --dev" if directory else "relay serve -c FILE, or relay serve --dev"
    if directory and directory != usual:
        start += f" --directory {shlex.quote(str(directory))}"
    directory = directory or usual
    return door.admin(door.Where((f"unix:{directory / 'admin.sock'}",), directory / "spool", start))


def _configured(path: Path, given: str | None) -> door.Admin:
    """The daemon that a configuration leads to. While the file has mistakes, the one that may still run by what it said before."""
    from relay.config.reach import reach
    from relay.errors import ConfigError

    try:
        listen, spool = reach(path, environ=os.environ)
    except ConfigError as error:
        running = door.Live(door.USUAL_ADMIN)
        if error.exit_code != exits.CONFIG or not running.reachable():
            raise
        print(f"relay: {path} has mistakes (relay check {path}); asking the daemon at {door.USUAL_ADMIN}", file=sys.stderr)
        return door.Admin(running)
    return door.admin(door.Where(listen, spool, f"relay serve -c {shlex.quote(given)}" if given else "relay serve"))


def development(options: Options) -> Path | None:
    """The directory of the development set-up, when that is what is meant."""
    directory, config = getattr(options, "directory", None), getattr(options, "config", None)
    if getattr(options, "dev", False):
        if config:
            raise Stop(exits.USAGE, f"--dev and -c {config} exclude each other: --dev runs without a configuration")
        return Path(directory).absolute() if directory else door.development_directory(os.environ)
    if directory:
        raise Stop(exits.USAGE, "--directory goes with --dev; a configuration names its own (queue.spool)")
    return None


def as_json(options: Options) -> bool:
    """Whether JSON is wanted."""
    return getattr(options, "json", False)


def paint() -> show.Paint:
    """Colours on a terminal, unless NO_COLOR says no (no-color.org)."""
    return show.Paint(sys.stdout.isatty() and "NO_COLOR" not in os.environ)


def print_json(value: object) -> None:
    """One JSON value on a line of its own."""
    print(json.dumps(value))


def lines(texts: Iterable[str]) -> None:
    """Print lines; on a terminal each is wrapped to its width."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        texts = itertools.chain.from_iterable(show.wrapped(text, width) for text in texts)
    for text in texts:
        print(text)
