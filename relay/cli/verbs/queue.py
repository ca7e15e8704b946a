"""`relay queue`: see and change what waits."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

from relay.cli import exits, parser, show
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options

SHOWN = 100  # entries unless told otherwise


def listing(options: Options) -> int:
    """What waits, and why."""
    limit = getattr(options, "limit", None)
    if limit is not None and limit < 1:
        raise Stop(exits.USAGE, "--limit wants a number from 1")
    found = iter(common.admin(options).entries(parser.filters(options)))
    if common.as_json(options):
        for entry in itertools.islice(found, limit):
            common.print_json(entry)
        return exits.OK
    shown = list(itertools.islice(found, limit or SHOWN))
    if not shown:
        print("nothing in the queue" + (" matches" if parser.filters(options) else ""))
        return exits.OK
    common.lines(show.queue(shown, time.time(), common.paint()))
    if next(found, None) is not None:
        print(f"the first {len(shown)} entries; for more: --limit N, or --json for all")
    return exits.OK


def one(options: Options) -> int:
    """One entry: its story, its attempts, its headers or the message itself."""
    path = f"/api/v1/queue/{_quoted(options.id)}"
    admin = common.admin(options)
    if options.raw or options.headers:
        data = admin.get_bytes(f"{path}/{'raw' if options.raw else 'headers'}")
        sys.stdout.buffer.write(show.octets(data, sys.stdout.isatty()))
        sys.stdout.flush()
        return exits.OK
    steps: Any = admin.get(f"{path}/timeline")["steps"]
    if options.timeline:
        if common.as_json(options):
            for step in steps:
                common.print_json(step)
        else:
            common.lines(show.timeline(steps, common.paint()))
        return exits.OK
    entry = admin.get(path)
    if common.as_json(options):
        common.print_json({**entry, "steps": steps})
    else:
        common.lines(show.story(entry, steps, common.paint()))
    return exits.OK


def retry(options: Options) -> int:
    """Make recipients due now."""
    chosen = _chosen(options)
    admin = common.admin(options)
    count = sum(_number(admin.post("/api/v1/queue/retry", dict(values))) for values in chosen)
    print(f"{_recipients(count)} due now")
    return exits.OK


def hold(options: Options) -> int:
    """Leave recipients alone until they are released."""
    print(f"{_recipients(_do_to_some(options, 'hold'))} held")
    return exits.OK


def release(options: Options) -> int:
    """Send held recipients on their way again."""
    print(f"{_recipients(_do_to_some(options, 'release'))} released")
    return exits.OK


def _do_to_some(options: Options, verb: str) -> int:
    """Have the daemon do it to what was named; returns to how many recipients."""
    chosen = _some(options)
    admin = common.admin(options)
    return sum(_number(admin.post(f"/api/v1/queue/{verb}", dict(values))) for values in chosen)


def delete(options: Options) -> int:
    """Take recipients out of the queue, after asking."""
    chosen = _some(options)
    admin = common.admin(options)
    count = sum(_number(admin.post("/api/v1/queue/delete", {**values, "dry_run": True})) for values in chosen)
    if count and not options.yes:
        _ask(f"delete {_recipients(count)}? Nobody is told, no bounce is sent. [y/N] ")
    done = sum(_number(admin.post("/api/v1/queue/delete", dict(values))) for values in chosen)
    print(f"{_recipients(done)} deleted" + (f"; {count - done} under way just now" if done < count else ""))
    return exits.OK


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise Stop(exits.USAGE, "this cannot be undone: answer at a terminal, or say --yes")
    if input(question).strip().lower() not in ("y", "yes"):
        raise Stop(exits.OK, "nothing was done")


def _chosen(options: Options) -> list[dict[str, str]]:
    """The filters to act on: one for each id that was named, or one for all."""
    given = parser.filters(options)
    if not options.ids:
        return [given]
    if "id" in given:
        raise Stop(exits.USAGE, "give the ids one way: as arguments or by --id")
    return [{**given, "id": queue_id} for queue_id in dict.fromkeys(options.ids)]


def _some(options: Options) -> list[dict[str, str]]:
    """The same, where to name nothing is not to mean everything."""
    chosen = _chosen(options)
    if chosen == [{}] and not options.all:
        raise Stop(exits.USAGE, "say which: ids, filters, or --all")
    return chosen


def _number(answer: dict[str, object]) -> int:
    count = answer["recipients"]
    assert isinstance(count, int)
    return count


def _recipients(count: int) -> str:
    return f"{count} recipient{'' if count == 1 else 's'}"


def _quoted(queue_id: str) -> str:
    if not queue_id.isalnum() or not queue_id.isascii():
        raise Stop(exits.USAGE, f"{queue_id!r} is not a queue id")
    return queue_id
