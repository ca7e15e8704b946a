"""`relay provider pause` and `relay provider resume`: what an admin decides about a provider, whatever it answers."""

from __future__ import annotations

import urllib.parse
from typing import Any

from relay.cli import door, exits
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options
from relay.log import clean


def pause(options: Options) -> int:
    """Leave a provider alone until it is resumed."""
    name = options.name
    answer, found = _asked(options, "pause", {"why": options.why} if options.why else {})
    print(f"{name} {'is' if answer['changed'] else 'was already'} {clean(found['reason'])}; {_wait(found['waiting'])} for it")
    if found["active"]:
        print(f"{_attempts(found['active'])} under way, which end as they began")
    print("new mail goes to the next provider of its route, or waits where there is none")
    print(f"to move what waits: relay queue reroute --provider {name} --via NAME")
    print(f"to end the pause: relay provider resume {name}")
    return exits.OK


def resume(options: Options) -> int:
    """Use a provider again, whoever paused it."""
    name = options.name
    answer, found = _asked(options, "resume", {})
    print(f"{name} resumed: what waits for it goes" if answer["changed"] else f"{name} was not paused")
    if found["reason"]:  # a message has met the same trouble again
        print(f"    it is {found['state']}: {clean(found['reason'])}")
    return exits.OK


def _asked(options: Options, verb: str, values: dict[str, object]) -> tuple[door.Json, Any]:
    """The answer, and how the provider stands after it."""
    try:
        answer = common.admin(options).post(f"/api/v1/providers/{urllib.parse.quote(options.name, safe='')}/{verb}", values)
    except door.Refused as refused:
        if refused.code == exits.NO_INPUT:  # a name that was typed wrong
            raise Stop(exits.USAGE, str(refused)) from refused
        raise
    return answer, answer["provider"]


def _wait(count: int) -> str:
    return f"{count} recipient waits" if count == 1 else f"{count} recipients wait"


def _attempts(count: int) -> str:
    return f"{count} attempt{' is' if count == 1 else 's are'}"
