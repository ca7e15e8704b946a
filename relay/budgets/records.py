"""What is said of a budget: what is allowed, what was spent, what an account says of itself, what is shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

LEARNED = 10.0
"""Seconds over which a pace is seen, and after which a learned one makes its next step up."""

Count = Literal["requests", "messages", "recipients"]


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """At most `count` in any `seconds`."""

    count: int
    seconds: float

    def __str__(self) -> str:
        """As in the configuration: 14/s, 150/10s, 600/m, 1000/h."""
        unit = {1.0: "s", 60.0: "m", 3600.0: "h"}.get(self.seconds) or f"{self.seconds:g}s"
        return f"{self.count}/{unit}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the configuration allows a provider, in `count`; `ask_…` where the account is asked. `shared_with` names the provider
    whose budget it is, where it is another one's."""

    rates: tuple[Rate, ...] = ()
    daily: int | None = None
    monthly: int | None = None
    count: Count = "messages"
    ask_rate: bool = False
    ask_daily: bool = False
    shared_with: str = ""


class Spent(NamedTuple):
    """A row of the ledger: `budget` is "NAME rate 10", "NAME daily" or "NAME monthly"; `slot` the Unix time it is to be counted at
    (of a month its begin); amounts of one budget and slot add up."""

    budget: str
    slot: float
    amount: int


class Quota(NamedTuple):
    """What an account says of itself: `rate` a second, `daily` in any 24 hours (None where it says none), of which `used`."""

    rate: float | None
    daily: int | None
    used: int


@dataclass(frozen=True, slots=True)
class Usage:
    """One limit as shown: `what` is a rate ("150/10s"), "daily", "monthly", or "learned" (the learned pace, in LEARNED seconds).
    `until` is the Unix time at which there is room again, where it is used up."""

    what: str
    used: int
    limit: int
    until: float | None
    count: Count
