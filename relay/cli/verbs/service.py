"""`relay serve`, `relay status` and `relay reload`: the daemon as a whole."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from relay.cli import door, exits, show
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options


def serve(options: Options) -> int:
    """Run the daemon until it is told to stop."""
    from relay import daemon

    if directory := common.development(options):
        return daemon.development(directory, _typed(directory))
    path = door.config_file(getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(
            exits.NO_INPUT,
            f"there is no configuration: {door.CONFIG_FILE} does not exist.\n"
            "To try relay without one: relay serve --dev\nTo write one: see relay.yaml.example, then relay check FILE",
        )
    return daemon.configured(path)


def status(options: Options) -> int:
    """Whether mail is accepted, the providers, the queue in numbers."""
    shown = common.admin(options).get("/api/v1/status")
    if common.as_json(options):
        common.print_json(shown)
    else:
        common.lines(show.status(shown, time.time(), common.paint()))
    return exits.OK if shown["running"] else exits.UNAVAILABLE


def reload(options: Options) -> int:
    """Have the daemon read its configuration again."""
    try:
        text = str(common.admin(options).post("/api/v1/reload", {})["reloaded"])
    except door.Refused as refused:
        if not refused.problems:
            raise
        print("\n\n".join(refused.problems), file=sys.stderr)
        raise Stop(exits.CONFIG, str(refused)) from refused
    print("reloaded" + (f": {text}" if text else ""))
    return exits.OK


def _typed(directory: Path) -> str:
    """How the other verbs are typed to reach the development set-up in `directory`."""
    program = Path(sys.argv[0])
    if program.name != "relay":
        command = f"{shlex.quote(sys.executable)} -m relay"
    else:
        command = shlex.quote(str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program))
    if directory != door.development_directory(os.environ):
        return f"{command} --dev --directory {shlex.quote(str(directory))}"
    return f"{command} --dev" if door.config_file(None, os.environ) else command
