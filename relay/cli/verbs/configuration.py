"""`relay check` and `relay config`: what a configuration says."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from relay.cli import door, exits
from relay.cli import show as shown
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options


def check(options: Options) -> int:
    """Check a configuration file, and run its tests."""
    from relay import config
    from relay.errors import ConfigError

    now = time.time()

    path = door.config_file(options.file or getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name one: relay check FILE")
    found: config.Config | None = None
    problems: tuple[str, ...] = ()
    try:
        found = config.load(path, environ=os.environ, inside_service=False, tests_at=now)
    except ConfigError as error:
        problems = error.problems
    warnings = found.warnings if found else ()
    if common.as_json(options):
        for level, texts in (("error", problems), ("warning", warnings)):
            for text in texts:
                common.print_json({"level": level, "text": text})
    elif problems or found is None:
        print("\n\n".join(problems), file=sys.stderr)
    else:
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        count = f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
        common.lines([f"{path}: {f'{count}, refused by --strict' if warnings and options.strict else 'ok'}", *_summary(found, now)])
    return exits.CONFIG if problems or (warnings and options.strict) else exits.OK


def _summary(found: Any, now: float) -> Iterable[str]:
    """Listeners, providers, routes and tests of a good configuration."""
    yield from shown.columns([("  listen", listener.name, listener.address) for listener in found.listen])
    yield from shown.columns([("  provider", name, provider.type, _how(provider)) for name, provider in found.providers.items()])
    yield from shown.columns([("  route", route.name, "; ".join(_ways(route, now))) for route in found.route_table()])
    if found.tests:
        yield f"  tests  {len(found.tests)} passed"


def _ways(route: Any, now: float) -> Iterator[str]:
    """How a route's mail goes, today where that changes."""
    from relay import ramps, routing

    split = routing.settled(route, {}, now).split
    first = f"{'ramp' if route.ramp else 'split'} by {split.sticky}: {ramps.shares(split.weights)}" if split else ""
    behind = f", then {', '.join(route.fallback)}" if route.fallback else ""
    yield f"{first}{behind}" if first else "via " + ", ".join(route.via)
    if guard := route.guard:
        instead = f"to {guard.redirect}" if guard.redirect else f"to {guard.capture}" if guard.capture else "refused"
        yield f"staging guard: only {', '.join(guard.allow)}, others {instead}" if guard.allow else f"staging guard: all mail {instead}"
    if route.shadow:
        yield f"shadow {route.shadow}"


def _how(provider: Any) -> str:
    """By which doors a provider is spoken to, and why not by the other one; "" of one that keeps mail."""
    from relay.config import doors_of, why_no_smtp

    doors, why = " and ".join(f"by {door.upper()}" for door in doors_of(provider)), why_no_smtp(provider)
    return f"{doors}; no SMTP: {why}" if why else doors


def show(options: Options) -> int:
    """The configuration as it holds."""
    from relay import config

    print(config.show(_loaded(options)), end="")
    return exits.OK


def schema(options: Options) -> int:
    """The JSON Schema of the configuration."""
    from relay import config

    print(json.dumps(config.schema(), indent=2))
    return exits.OK


def _loaded(options: Options) -> Any:
    from relay import config

    if directory := common.development(options):
        return config.dev(directory)
    path = door.config_file(getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name one: relay config show -c FILE")
    return config.load(path, environ=os.environ, inside_service=False, for_sending=False)
