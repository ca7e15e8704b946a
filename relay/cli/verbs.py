"""What each verb does. Every function returns an exit code or raises Stop; what it prints is made in `show`."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from relay import __version__
from relay.cli import door, exits, parser, show
from relay.cli.exits import Stop
from relay.log import clean

WAIT = 60.0  # seconds that `relay test --wait` waits
POLL = 0.1  # seconds between two looks meanwhile
SHOWN = 100  # entries of `relay queue` unless told otherwise

Options = argparse.Namespace


def version(options: Options) -> int:
    """Print the version."""
    print(f"relay {__version__}")
    return exits.OK


def serve(options: Options) -> int:
    """Run the daemon until it is told to stop."""
    from relay import daemon

    if directory := _development(options):
        return daemon.development(directory, _typed(directory))
    path = door.config_file(getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(
            exits.NO_INPUT,
            f"there is no configuration: {door.CONFIG_FILE} does not exist.\n"
            "To try relay without one: relay serve --dev\nTo write one: see relay.yaml.example, then relay check FILE",
        )
    return daemon.configured(path)


def check(options: Options) -> int:
    """Check a configuration file."""
    from relay import config
    from relay.errors import ConfigError

    path = door.config_file(options.file or getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name one: relay check FILE")
    found: config.Config | None = None
    problems: tuple[str, ...] = ()
    try:
        found = config.load(path, environ=os.environ, inside_service=False)
    except ConfigError as error:
        problems = error.problems
    warnings = found.warnings if found else ()
    if _json(options):
        for level, texts in (("error", problems), ("warning", warnings)):
            for text in texts:
                _print_json({"level": level, "text": text})
    elif problems or found is None:
        print("\n\n".join(problems), file=sys.stderr)
    else:
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        count = f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
        _lines([f"{path}: {f'{count}, refused by --strict' if warnings and options.strict else 'ok'}", *_summary(found)])
    return exits.CONFIG if problems or (warnings and options.strict) else exits.OK


def _summary(found: Any) -> Iterable[str]:
    """Listeners, providers and routes of a good configuration."""
    yield from show.columns([("  listen", listener.name, listener.address) for listener in found.listen])
    yield from show.columns([("  provider", name, provider.type) for name, provider in found.providers.items()])
    yield from show.columns([("  route", route.name, "via " + ", ".join(route.via)) for route in found.route_table()])


def status(options: Options) -> int:
    """Whether mail is accepted, the providers, the queue in numbers."""
    shown = _admin(options).get("/api/v1/status")
    if _json(options):
        _print_json(shown)
    else:
        _lines(show.status(shown, time.time(), _paint()))
    return exits.OK if shown["running"] else exits.UNAVAILABLE


def queue_list(options: Options) -> int:
    """What waits, and why."""
    limit = getattr(options, "limit", None)
    if limit is not None and limit < 1:
        raise Stop(exits.USAGE, "--limit wants a number from 1")
    found = iter(_admin(options).entries(parser.filters(options)))
    if _json(options):
        for entry in itertools.islice(found, limit):
            _print_json(entry)
        return exits.OK
    shown = list(itertools.islice(found, limit or SHOWN))
    if not shown:
        print("nothing in the queue" + (" matches" if parser.filters(options) else ""))
        return exits.OK
    _lines(show.queue(shown, time.time(), _paint()))
    if next(found, None) is not None:
        print(f"the first {len(shown)} entries; for more: --limit N, or --json for all")
    return exits.OK


def queue_show(options: Options) -> int:
    """One entry: its story, its attempts, its headers or the message itself."""
    path = f"/api/v1/queue/{_quoted(options.id)}"
    admin = _admin(options)
    if options.raw or options.headers:
        data = admin.get_bytes(f"{path}/{'raw' if options.raw else 'headers'}")
        sys.stdout.buffer.write(show.octets(data, sys.stdout.isatty()))
        sys.stdout.flush()
        return exits.OK
    steps: Any = admin.get(f"{path}/timeline")["steps"]
    if options.timeline:
        if _json(options):
            for step in steps:
                _print_json(step)
        else:
            _lines(show.timeline(steps, _paint()))
        return exits.OK
    entry = admin.get(path)
    if _json(options):
        _print_json({**entry, "steps": steps})
    else:
        _lines(show.story(entry, steps, _paint()))
    return exits.OK


def queue_retry(options: Options) -> int:
    """Make recipients due now."""
    chosen = _chosen(options)
    admin = _admin(options)
    count = sum(_number(admin.post("/api/v1/queue/retry", dict(values))) for values in chosen)
    print(f"{_recipients(count)} due now")
    return exits.OK


def queue_delete(options: Options) -> int:
    """Take recipients out of the queue, after asking."""
    chosen = _chosen(options)
    if chosen == [{}] and not options.all:
        raise Stop(exits.USAGE, "say which: ids, filters, or --all")
    admin = _admin(options)
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


def log(options: Options) -> int:
    """The story of every message a term finds."""
    found = _admin(options).get("/api/v1/log", {"term": options.term})
    stories: Any = found["stories"]
    if _json(options):
        for story in stories:
            _print_json(story)
    elif not stories:
        print(
            f"relay: nothing is known about {options.term}: not a queue id, Message-ID, address or remote id of the history",
            file=sys.stderr,
        )
    for number, story in enumerate(stories if not _json(options) else ()):
        if number:
            print()
        _lines(show.story(story, story["steps"], _paint()))
    if found["more"]:
        print("there are more; search for something rarer", file=sys.stderr)
    return exits.OK if stories else exits.NO_INPUT


def test(options: Options) -> int:
    """Send a test message, and with --wait see it through."""
    admin, began = _admin(options), time.monotonic()
    values = {"to": options.to, "from": options.sender, "via": options.via}
    queue_id = str(admin.post("/api/v1/test", {key: value for key, value in values.items() if value is not None})["queue_id"])
    print(f"accepted  {queue_id}  {time.monotonic() - began:.2f} s", flush=True)
    if not options.wait:
        print(f"what becomes of it: relay log {queue_id}")
        return exits.OK
    return _await(admin, queue_id, began)


def _await(admin: door.Admin, queue_id: str, began: float) -> int:
    """Print each new outcome of a message to one recipient, until the last one or until patience ends."""
    seen, told = 0, False
    while time.monotonic() - began < WAIT:
        steps: Any = admin.get(f"/api/v1/queue/{queue_id}/timeline")["steps"]
        for step in steps[seen:]:
            word = show.step_word(step)
            print(f"{word:<8}  {step['provider'] or 'relay'}  {time.monotonic() - began:.2f} s  {clean(step['reply'])}", flush=True)
            if word == "sent":
                return exits.OK
            if word in ("bounced", "deleted"):
                return exits.UNAVAILABLE
        seen = len(steps)
        if not seen and not told:
            told = _say_what_it_waits_for(admin, queue_id, began)
        time.sleep(POLL)
    raise Stop(exits.TRY_LATER, f"not sent after {WAIT:.0f} s; it stays in the queue: relay log {queue_id}")


def _say_what_it_waits_for(admin: door.Admin, queue_id: str, began: float) -> bool:
    """Say that a message waits for a provider without having been tried; whether it does."""
    entry: Any = admin.get(f"/api/v1/queue/{queue_id}")
    [recipient] = entry["recipients"]
    if not recipient["waits"]:
        return False
    reason = clean(recipient["delay_reason"]).replace(f"waits for {recipient['waits']}", "paused", 1)
    print(f"{'waits':<8}  {recipient['provider']}  {time.monotonic() - began:.2f} s  {reason}", flush=True)
    return True


# Helpers.


def _admin(options: Options) -> door.Admin:
    directory = _development(options)
    path = None if directory else door.config_file(getattr(options, "config", None), os.environ)
    if path is not None:
        from relay.config.reach import reach

        given = getattr(options, "config", None)
        return door.admin(door.Where(*reach(path, environ=os.environ), f"relay serve -c {shlex.quote(given)}" if given else "relay serve"))
    usual = door.development_directory(os.environ)
    start = "relay serve --dev" if directory else "relay serve -c FILE, or relay serve --dev"
    if directory and directory != usual:
        start += f" --directory {shlex.quote(str(directory))}"
    directory = directory or usual
    return door.admin(door.Where((f"unix:{directory / 'admin.sock'}",), directory / "spool", start))


def _development(options: Options) -> Path | None:
    """The directory of the development set-up, when that is what is meant."""
    directory, config = getattr(options, "directory", None), getattr(options, "config", None)
    if getattr(options, "dev", False):
        if config:
            raise Stop(exits.USAGE, f"--dev and -c {config} exclude each other: --dev runs without a configuration")
        return Path(directory).absolute() if directory else door.development_directory(os.environ)
    if directory:
        raise Stop(exits.USAGE, "--directory goes with --dev; a configuration names its own (queue.spool)")
    return None


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


def _json(options: Options) -> bool:
    return getattr(options, "json", False)


def _paint() -> show.Paint:
    return show.Paint(sys.stdout.isatty() and "NO_COLOR" not in os.environ)


def _print_json(value: object) -> None:
    print(json.dumps(value))


def _lines(lines: Iterable[str]) -> None:
    """Print lines; on a terminal each is wrapped to its width."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = itertools.chain.from_iterable(show.wrapped(line, width) for line in lines)
    for line in lines:
        print(line)


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
