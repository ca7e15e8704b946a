"""Ramps: shares that move from one provider to another between two dates, and the step back when the newcomer does badly. Pure.

A ramp is linear: halfway in time is halfway between the shares. It lags behind its dates by what was stepped back, which is all
the state there is (`State`; text for the spool that is never refused). A newcomer is a provider whose share of the mail rises. Its
last answers are watched (`Watch`): where too many of them refuse or defer, the ramp goes back by some days of its progress and stays
there for as long, then goes on. For the first half of that time nobody is judged, because answers about what was sent before still
come in. It never goes back before its begin, and is left alone once it has been over for as long.

How it fails: a ramp that cannot be followed (no time, negative shares, shares that sum to nothing at an end) raises ValueError
when it is made; the configuration has said so before.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

Sticky = Literal["recipient", "message", "sender"]
"""What a share is made of: mail with the same recipient, message or sender goes the same way."""

Weights = tuple[tuple[str, float], ...]
"""Providers with numbers that say how their shares stand to each other, in the order of the file."""

LAST = 1000
"""Messages whose answers are looked at, at the most."""

_DAY = 86400.0
_ROUNDING = 1e-9  # what parts of messages, added and taken away again, may differ by


@dataclass(frozen=True, slots=True)
class StepBack:
    """When a ramp steps back, and how far.

    `refused` and `deferred` are the shares (0 to 1) of a newcomer's answers that must be passed, `least` the messages that must have
    been answered before it is judged, `by` the seconds of progress that are taken back.
    """

    refused: float = 0.05
    deferred: float = 0.2
    least: int = 50
    by: float = 2 * _DAY


@dataclass(frozen=True, slots=True)
class Ramp:
    """A ramp from `start` (Unix seconds), `over` so many seconds; `shares` are provider, first and last weight."""

    start: float
    over: float
    shares: tuple[tuple[str, float, float], ...]
    step_back: StepBack | None = StepBack()
    sticky: Sticky = "recipient"

    def __post_init__(self) -> None:
        firsts, lasts = [first for _, first, _ in self.shares], [last for *_, last in self.shares]
        if not (math.isfinite(self.start) and 0 < self.over < math.inf):
            raise ValueError("a ramp has a begin and takes some time")
        if not all(0 <= weight < math.inf for weight in firsts + lasts):
            raise ValueError("a weight is a number, and not below 0")
        if not (sum(firsts) > 0 and sum(lasts) > 0):
            raise ValueError("the weights of a ramp sum to nothing at one of its ends")

    @property
    def newcomers(self) -> tuple[str, ...]:
        """The providers whose share of the mail rises."""
        firsts, lasts = sum(first for _, first, _ in self.shares), sum(last for *_, last in self.shares)
        return tuple(name for name, first, last in self.shares if last / lasts > first / firsts)


@dataclass(frozen=True, slots=True)
class State:
    """Where a ramp stands: the seconds by which it is `behind` its dates, and until when it stays where it is (Unix seconds).

    `begin` is that of the ramp it was said of: for a ramp with another begin, because somebody gave it other dates, it counts for
    nothing. None is any.
    """

    behind: float = 0.0
    held_until: float = 0.0
    begin: float | None = None

    def text(self) -> str:
        """For the spool; `of` reads it."""
        return f"{self.behind!r} {self.held_until!r}" + ("" if self.begin is None else f" {self.begin!r}")


def of(text: str) -> State:
    """A state from its text. Never raises: what is none is the state of a ramp that never stepped back."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        return State()
    if len(numbers) not in (2, 3) or not all(map(math.isfinite, numbers)) or numbers[0] < 0:
        return State()
    return State(*numbers)


def _elapsed(ramp: Ramp, state: State, now: float) -> float:
    """Seconds of the ramp that are behind it, beyond its ends too: negative before it began."""
    if state.begin not in (None, ramp.start):
        return now - ramp.start
    return max(now, state.held_until) - ramp.start - state.behind


def progress(ramp: Ramp, state: State, now: float) -> float:
    """Seconds of the ramp that are behind it, from 0 to `over`."""
    return min(max(_elapsed(ramp, state, now), 0.0), ramp.over)


def at(ramp: Ramp, state: State, now: float) -> Weights:
    """The weights of the moment."""
    return _weights(ramp, progress(ramp, state, now))


def _weights(ramp: Ramp, gone: float) -> Weights:
    done = gone / ramp.over
    return tuple((name, first * (1 - done) + last * done) for name, first, last in ramp.shares)


def percent(part: float) -> str:
    """A share (0 to 1) for people: in tenths of a percent; what is not all or nothing is not called so."""
    if 0 < part < 0.001:
        return "under 0.1 %"
    return "over 99.9 %" if 0.999 < part < 1 else f"{round(part * 100, 1):g} %"


def shares(weights: Weights) -> str:
    """What share each provider has, in words: `ses 80 %, mailtrap 20 %`."""
    total = sum(weight for _, weight in weights)
    return ", ".join(f"{name} {percent(weight / total)}" for name, weight in weights)


@dataclass(frozen=True, slots=True)
class SteppedBack:
    """A ramp stepped back: its new state, why in one phrase, and the shares before and after in words."""

    state: State
    why: str
    before: str
    after: str


class _Answers:
    """The last answers of one newcomer; as many as a thousand messages make, none older than asked for."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, str, float]] = deque()  # when, what, part of a message
        self._sums = {"relayed": 0.0, "deferred": 0.0, "failed": 0.0}

    def add(self, kind: str, now: float, part: float, oldest: float) -> None:
        self._answers.append((now, kind, part))
        self._sums[kind] += part
        while self._answers[0][0] < oldest or len(self._answers) > 3 * LAST or self.messages > LAST + _ROUNDING:
            _, gone, less = self._answers.popleft()
            self._sums[gone] -= less

    @property
    def messages(self) -> float:
        return sum(self._sums.values())

    def against(self, limits: StepBack) -> str:
        """What is wrong with them, in words; "" where nothing is."""
        if self.messages < limits.least - _ROUNDING:
            return ""
        for kind, word, limit in (("failed", "refused", limits.refused), ("deferred", "deferred", limits.deferred)):
            if self._sums[kind] > limit * self.messages + _ROUNDING:
                part = percent(self._sums[kind] / self.messages)
                return f"{word} {part} of its last {self.messages:,.0f} messages, more than {percent(limit)}"
        return ""


class Watch:
    """Watches the newcomers of one route's ramp. The only thing here that remembers; its memory is bounded."""

    def __init__(self, ramp: Ramp, state: State = State()) -> None:
        self.ramp = ramp
        self.state = state if state.begin in (None, ramp.start) else State()
        self._newcomers = frozenset(ramp.newcomers)
        self._answers: dict[str, _Answers] = {}

    def note(self, provider: str, kind: Literal["relayed", "deferred", "failed"], now: float, part: float = 1.0) -> SteppedBack | None:
        """Take down an answer of a provider; where it is one too many, the ramp has stepped back, and the watch begins anew.

        `part` is the part of its message's recipients that got this answer: a message counts once, however many it goes to, so that
        one bad message to many steps nothing back. What relay found itself is no answer.
        """
        limits = self.ramp.step_back
        if limits is None or provider not in self._newcomers or not self._under_way(limits, now):
            return None
        answers = self._answers.setdefault(provider, _Answers())
        answers.add(kind, now, part, now - limits.by)
        why = answers.against(limits)
        return self._stepped_back(f"{provider} {why}", limits.by, now) if why else None

    def _under_way(self, limits: StepBack, now: float) -> bool:
        """Whether the ramp began, has not been over for long, and did not step back just now."""
        if now < max(self.ramp.start, self.state.held_until - limits.by / 2):
            return False
        return _elapsed(self.ramp, self.state, now) <= self.ramp.over + limits.by

    def _stepped_back(self, why: str, by: float, now: float) -> SteppedBack:
        before = progress(self.ramp, self.state, now)
        after = max(before - by, 0.0)
        self.state = State(now + by - self.ramp.start - after, now + by, self.ramp.start)
        self._answers.clear()
        return SteppedBack(self.state, why, shares(_weights(self.ramp, before)), shares(_weights(self.ramp, after)))
