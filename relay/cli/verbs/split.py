"""`relay split`: how a route's mail is shared among providers, changed in the configuration file and put in force."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from relay import config, routing
from relay.cli import door, editing, exits
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options
from relay.config import cases
from relay.config.editing import CannotEdit, with_split
from relay.errors import ConfigError

SAMPLE = 10_000  # addresses of which it is told where they go
_WEIGHT = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?")
_STICKY = {"recipient": "recipients", "message": "messages", "sender": "senders"}


def split(options: Options) -> int:
    """Change the file, after asking, and have the daemon read it."""
    weights = _weights(options.weights)
    if common.development(options):
        raise Stop(exits.USAGE, "the development set-up has no configuration file; write one: see relay.yaml.example")
    path = door.config_file(getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name one: relay split -c FILE …")
    original = editing.read(path)
    before = _load(path)
    route = _route(before, options.route)
    for name in weights:
        _known("provider", name, before.providers)
    try:
        text = with_split(original.text, route.name, weights)
    except CannotEdit as error:
        place = f"{path}:{error.line}" if error.line else str(path)
        raise Stop(exits.CONFIG, f"{place}: {error.text}" + (f"\n     = {error.mend}" if error.mend else "")) from error
    data = original.with_text(text)
    if data == original.data:
        print(f"{path}: route {route.name} has this split already; nothing is to be done")
        return exits.OK
    after = _checked(original, data, before.warnings)
    _show(original, text, route, _route(after, route.name), weights)
    _tests(original.name, before, after)
    if not options.yes:
        _ask(path)
    editing.put(original, data)
    print(f"{path}: written")
    return exits.OK if options.no_reload else _reload(after, path)


def _weights(given: Sequence[str]) -> dict[str, str]:
    """Provider -> its weight as it is to be written."""
    found: dict[str, str] = {}
    for word in given:
        name, _, weight = word.rpartition("=")
        if not name or not _WEIGHT.fullmatch(weight):
            raise Stop(exits.USAGE, f"{word!r} is not PROVIDER=WEIGHT: write ses=20, or ses=0.5; weights are relative to each other")
        if name in found:
            raise Stop(exits.USAGE, f"{name} is named twice")
        found[name] = weight
    if not any(map(float, found.values())):
        raise Stop(exits.USAGE, "all weights are 0: nobody would get this route's mail; to stop a provider: relay provider pause NAME")
    return found


def _load(path: Path) -> config.Config:
    """What the file says; secrets are not looked for."""
    return config.load(path, environ=os.environ, inside_service=False, for_sending=False)


def _route(settings: config.Config, name: str) -> routing.Route:
    routes = {route.name: route for route in settings.route_table()}
    _known("route", name, routes)
    return routes[name]


def _known(what: str, name: str, known: Collection[str]) -> None:
    """Raises Stop for a name that there is not."""
    if name not in known:
        near = get_close_matches(name, known, 1)
        mend = f'did you mean "{near[0]}"?' if near else f"configured: {', '.join(known)}"
        raise Stop(exits.USAGE, f'no {what} is named "{name}"; {mend}')


def _checked(original: editing.Original, data: bytes, told: Sequence[str]) -> config.Config:
    """What the new text would say; warnings that were not `told` before are printed. Raises ConfigError, with places in the file as it
    would be."""
    with editing.draft(original, data) as made:
        try:
            found = _load(made)
        except ConfigError as error:
            problems = [problem.replace(str(made), str(original.name)) for problem in error.problems]
            raise ConfigError([*problems, f"{original.name}: not written, because it would have mistakes"], error.exit_code) from error
    old = {_what(warning) for warning in told}
    for warning in found.warnings:
        if _what(warning) not in old:
            print(f"warning: {warning.replace(str(made), str(original.name))}", file=sys.stderr)
    return found


def _tests(name: Path, before: config.Config, after: config.Config) -> None:
    """Tests of the file that fail with the new weights, and did not before: relay check would refuse it."""
    now = time.time()
    failed = {one.index for one in cases.run(before, now)}
    for one in cases.run(after, now):
        if one.index not in failed:
            print(f"warning: {name}: tests.{one.index}.{one.key} fails then: {one.text}", file=sys.stderr)


def _what(warning: str) -> str:
    """A warning without its place, which may be another one now."""
    return warning.partition(": ")[2]


def _show(original: editing.Original, text: str, before: routing.Route, after: routing.Route, weights: Collection[str]) -> None:
    """The difference, and who goes where."""
    lines = editing.difference(str(original.name), original.text, text, weights)
    print("\n".join(lines), end="\n\n")  # not wrapped: each is a line of the file
    common.lines(moves(before, after))


def moves(before: routing.Route, after: routing.Route) -> Iterator[str]:
    """Which share of a sample each provider had and would have, and how much of it goes from which one to which."""
    assert after.split is not None
    names, what = list(dict.fromkeys([*before.via, *after.via])), _STICKY[after.split.sticky]
    had, gets, moved = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for number in range(SAMPLE):
        key = f"user{number}@example.com"
        old = routing.pick(before.split, key) if before.split else before.via[0]
        new = routing.pick(after.split, key)
        had[old] += 1
        gets[new] += 1
        if old != new:
            moved[old, new] += 1
    names = [name for name in names if had[name] or gets[name]]
    width = max(len("provider"), *map(len, names))
    yield f"{'provider':<{width}}  {'before':>7}  {'after':>7}  of {SAMPLE:,} {what}"
    yield from (f"{name:<{width}}  {_share(had[name]):>7}  {_share(gets[name]):>7}" for name in names)
    for (old, new), count in moved.most_common():
        yield f"{_share(count)} of the {what} move from {old} to {new}"
    if not moved:
        yield f"no {what} move"


def _share(count: int) -> str:
    return f"{100 * count / SAMPLE:.1f} %"


def _ask(path: Path) -> None:
    if not sys.stdin.isatty():
        raise Stop(exits.USAGE, f"{path} was not changed: answer at a terminal, or say --yes")
    if input(f"write this to {path}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Stop(exits.OK, "nothing was changed")


def _reload(settings: config.Config, path: Path) -> int:
    """Have the daemon of this configuration read it, where one runs."""
    for address in settings.admin.listen:
        try:
            live = door.Live(address)
            if live.reachable():
                text = str(door.Admin(live).post("/api/v1/reload", {})["reloaded"])
                print("reloaded" + (f": {text}" if text else ""))
                return exits.OK
        except door.Refused as refused:
            if refused.problems:
                print("\n\n".join(refused.problems), file=sys.stderr)
            code = exits.CONFIG if refused.problems else refused.code
            raise Stop(code, f"{path} is changed, but the daemon goes on with the old one: {refused}") from refused
        except Stop as stop:
            raise Stop(stop.code, f"{path} is changed, but not in force yet: {stop}; then: relay reload") from stop
    print(f"the daemon is not running (cannot reach {' or '.join(settings.admin.listen)}): it holds from its next start")
    return exits.OK
