"""How each provider stands, for whoever looks: what pauses it, who waits for it, and what is used of its budget.

Promise: looking changes nothing. How it fails: who waits is counted in the spool, and a spool that cannot be read raises SpoolError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.budgets import Usage
from relay.delivery.lanes import Lane
from relay.model import line_key
from relay.pauses import Standing
from relay.spool.base import Spool


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """A provider as `relay status` shows it. `state`: up | paused | partly (paused for one identity) | throttled; times are Unix
    seconds. `mend` says what an admin can do about a pause, `by_admin` that an admin made it; `suspect` what one message alone has
    met so far. `usage` is what is used of its budget."""

    name: str
    state: str
    reason: str
    mend: str
    since: float
    until: float
    waiting: int
    active: int
    by_admin: bool = False
    suspect: str = ""
    usage: Sequence[Usage] = ()


async def of_providers(lanes: Mapping[str, Lane], standing: Standing, spool: Spool, now: float) -> list[ProviderStatus]:
    """Every provider with its standing at `now`."""
    found = []
    for name, lane in list(lanes.items()):
        of_all = [pause for pause in standing.all() if pause.provider == name]
        mine = [pause for pause in of_all if not pause.message]
        suspect = next((pause.outcome.reply for pause in of_all if pause.message), "")
        keys = [*(pause.key for pause in mine), *(line_key(name, route) for route in lane.lines)]
        waiting = sum([await spool.waiting(key) for key in keys]) + max(lane.line - lane.active, 0)
        worst = min(mine, key=lambda pause: (bool(pause.identity), pause.quiet), default=None)
        state, reason, mend, since, until = "up", "", "", 0.0, 0.0
        if worst:
            state = "throttled" if worst.quiet else "partly" if worst.identity else "paused"
            reason = f"{worst.identity}: {worst.outcome.reply}" if worst.identity else worst.outcome.reply
            mend, since = worst.outcome.mend, worst.since
            until = 0.0 if worst.by_admin else worst.until
        by_admin = worst is not None and worst.by_admin
        usage = lane.budget.shown(now)
        found.append(ProviderStatus(name, state, reason, mend, since, until, waiting, lane.active, by_admin, suspect, usage))
    return found


def used(lanes: Mapping[str, Lane], now: float) -> dict[tuple[str, str], float]:
    """What is used of each budget, as a part of its limit, by provider and what is limited."""
    return {(name, usage.what): usage.used / usage.limit for name, lane in lanes.items() for usage in lane.budget.shown(now) if usage.limit}
