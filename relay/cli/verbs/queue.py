"""`relay queue`: see and change what waits."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from relay.cli import door, exits, parser, show
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
    common.lines(show.queue(shown, time.time(), common.paint(), _meant(parser.filters(options))))
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
    held = sum(_number(admin.post("/api/v1/queue/release", {**values, "dry_run": True})) for values in _held(chosen))
    print(f"{_recipients(count)} due now" + (f"; {held} {'is' if held == 1 else 'are'} held: {_typed('release', options)}" if held else ""))
    return exits.OK


def hold(options: Options) -> int:
    """Leave recipients alone until they are released."""
    print(f"{_recipients(_do_to_some(options, 'hold'))} held")
    return exits.OK


def release(options: Options) -> int:
    """Send held recipients on their way again, after asking where one of them may have been delivered already."""
    if not options.yes and (maybe := _maybe_relayed(common.admin(options), _held(_some(options)))):
        text = f"{_recipients(maybe)} may have been delivered already, and may then get the mail twice: relay queue list --state hold"
        if not sys.stdin.isatty():
            raise Stop(exits.USAGE, f"{text}\nAnswer at a terminal, or say --yes")
        print(text)
        _ask("release all the same? [y/N] ")
    print(f"{_recipients(_do_to_some(options, 'release'))} released")
    return exits.OK


def _maybe_relayed(admin: door.Admin, chosen: Sequence[Mapping[str, str]]) -> int:
    """How many of the held recipients had an attempt of which nobody knows how it ended."""
    found: dict[tuple[object, str], bool] = {}
    for values in chosen:
        meant = _meant(values)
        if not _number(admin.post("/api/v1/queue/release", {**values, "dry_run": True})):
            continue
        for entry in admin.entries(values):
            recipients: Any = entry["recipients"]
            found |= {(entry["queue_id"], one["address"]): one["maybe_relayed"] for one in recipients if meant(one)}
    return sum(found.values())


def _held(chosen: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """What is held of what is meant; nothing where something else is asked for."""
    return [{**values, "state": "hold"} for values in chosen if values.get("state", "hold") == "hold"]


def _meant(values: Mapping[str, str]) -> show.Chosen:
    """Whether a recipient of an entry is one that the filters mean: an entry has others, too."""
    from relay.routing import matches

    def fits(recipient: Any) -> bool:
        if values.get("state") == "hold" and recipient["state"] != "held":
            return False
        patterns = {"address": values.get("to"), "provider": values.get("provider"), "route": values.get("route")}
        given = ((pattern, recipient[key] or "") for key, pattern in patterns.items() if pattern)
        return all(pattern.lower() == text.lower() or matches(pattern, text) for pattern, text in given)

    return fits


def _typed(verb: str, options: Options) -> str:
    """The command that does it to what was named; where nothing was, the one that shows what it would be."""
    given = parser.filters(options)
    words = [*options.ids, *(word for name, value in given.items() if name != "older" for word in (f"--{name}", value))]
    return shlex.join(["relay", "queue", verb, *words] if words else ["relay", "queue", "list", "--state", "hold"])


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
