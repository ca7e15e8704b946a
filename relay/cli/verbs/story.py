"""`relay log`: the story of a message, and the log as it is written."""

from __future__ import annotations

import sys
from typing import Any

from relay.cli import exits, show
from relay.cli.verbs import common
from relay.cli.verbs.common import Options


def stories(options: Options) -> int:
    """The story of every message a term finds."""
    found = common.admin(options).get("/api/v1/log", {"term": options.term})
    told: Any = found["stories"]
    if common.as_json(options):
        for story in told:
            common.print_json(story)
    elif not told:
        print(
            f"relay: nothing is known about {options.term}: not a queue id, Message-ID, address or remote id of the history",
            file=sys.stderr,
        )
    for number, story in enumerate(told if not common.as_json(options) else ()):
        if number:
            print()
        common.lines(show.story(story, story["steps"], common.paint(), _named_by(options.term.strip().lower())))
    if found["more"]:
        print("there are more; search for something rarer", file=sys.stderr)
    return exits.OK if told else exits.NO_INPUT


def _named_by(term: str) -> show.Chosen:
    """Whether a recipient is who was asked about, by his address or a provider's id."""
    bare = term.removeprefix("<").removesuffix(">")
    return lambda recipient: bare in (recipient["address"].lower(), recipient["remote_id"].lower().strip("<>"))


def tail(options: Options) -> int:
    """The log as it is written, until Ctrl-C or until the daemon ends."""
    term = (options.held or "").lower()
    try:
        for event in common.admin(options).follow("/api/v1/log/tail"):
            line = str(event.pop("line", ""))
            if term and not any(term in str(value).lower() for value in (line, *event.values())):
                continue
            if common.as_json(options):
                common.print_json(event)
            else:
                print(line)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return exits.OK
    print("relay: the daemon has ended", file=sys.stderr)
    return exits.OK
