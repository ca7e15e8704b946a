"""Which providers and identities are in use, paused or being probed. A pure state machine: the clock's reading is an
argument, changes are returned as values.

A pause begins with an outcome of provider or identity scope. Nothing is attempted until it has run out; then exactly
one waiting message goes as a probe, and its outcome ends the pause or prolongs it. Only a probe ends a pause: an
attempt that was under way when the pause began says nothing new. Pauses live in memory: a restart tries again at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from relay import schedule
from relay.model import Outcome, Verdict

REMIND = 30.0
"""Seconds after which another waiting message is called as a probe when the last one called never came."""
_LONGEST = schedule.LONGEST_RETRY_AFTER * (1 + schedule.JITTER)


@dataclass(slots=True)
class Pause:
    """One provider (or one identity of it) that is left alone. Times are Unix seconds."""

    key: str
    provider: str
    identity: str
    outcome: Outcome
    since: float
    until: float
    failures: int = 1
    probed: bool = False  # a probe is under way
    call: float = 0.0  # when to call a waiting message as a probe

    def rests(self, now: float) -> bool:
        """Whether the pause has not run out. One that ends beyond any pause there can be was set by a clock that stepped back."""
        return now < self.until <= now + _LONGEST

    @property
    def quiet(self) -> bool:
        """A throttled provider is working as documented: worth a line, not an alarm."""
        return self.outcome.verdict is Verdict.THROTTLE


@dataclass(frozen=True, slots=True)
class Change:
    """A pause that began (`paused`) or ended."""

    pause: Pause
    paused: bool


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one attempt; `probes` are the pauses that this attempt decides."""

    provider: str
    probes: tuple[Pause, ...] = ()


def key(provider: str, identity: str = "") -> str:
    """The name of a pause, under which recipients wait for its end."""
    return f"{provider} {identity}" if identity else provider


def _by_key(provider: str, outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The first finding about the provider, and about each identity of it."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.verdict in (Verdict.PAUSE, Verdict.THROTTLE):
            found.setdefault(key(provider), outcome)
        elif outcome.verdict is Verdict.CONFIG:
            found.setdefault(key(provider, outcome.identity), outcome)
    return found


class Standing:
    """The standing of every provider and identity."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """`chance` gives numbers in [0, 1) for the jitter."""
        self._chance = chance
        self._pauses: dict[str, Pause] = {}

    def all(self) -> Sequence[Pause]:
        """Every pause in force."""
        return tuple(self._pauses.values())

    def blocked(self, provider: str, now: float, identities: Iterable[str] = ()) -> Pause | None:
        """The pause that forbids an attempt now, if one does."""
        for pause in self._of(provider, identities):
            if pause.probed or pause.rests(now):
                return pause
        return None

    def admit(self, provider: str, now: float, identities: Iterable[str]) -> Pass | None:
        """Leave for one attempt, or None while a pause forbids it. Every Pass must come back by `settle` or `abandon`."""
        probes = tuple(self._of(provider, identities))
        if any(pause.probed or pause.rests(now) for pause in probes):
            return None
        for pause in probes:
            pause.probed = True
        return Pass(provider, probes)

    def abandon(self, leave: Pass) -> None:
        """The attempt was not made: the next one may be the probe."""
        for pause in leave.probes:
            pause.probed = False

    def settle(self, leave: Pass, outcomes: Iterable[Outcome], now: float) -> Sequence[Change]:
        """Draw the consequences of an attempt; returns what changed, to be told loudly and once."""
        found = _by_key(leave.provider, outcomes)
        changes = []
        for probe in leave.probes:
            probe.probed = False
            if self._pauses.get(probe.key) is not probe:
                continue  # a worse finding took its place meanwhile
            outcome = found.get(probe.key)
            if outcome is not None and outcome.verdict is probe.outcome.verdict:
                self._prolong(probe, outcome, now)
            elif outcome is not None or key(leave.provider) not in found:
                # Over, or of another kind from now on. An attempt that failed on the provider says nothing about the identity.
                del self._pauses[probe.key]
                if outcome is None or not probe.quiet:
                    changes.append(Change(probe, paused=False))
        for name, outcome in found.items():
            known = self._pauses.get(name)
            if known is None or (known.quiet and outcome.verdict is Verdict.PAUSE):
                changes.append(Change(self._begin(name, leave.provider, outcome, now), paused=True))
        return changes

    def calls(self, now: float) -> Sequence[Pause]:
        """Pauses that have run out and want a probe; each is returned again only after `REMIND` seconds."""
        due = [
            pause for pause in self._pauses.values() if not pause.probed and not pause.rests(now) and not now < pause.call <= now + REMIND
        ]
        for pause in due:
            pause.call = now + REMIND
        return due

    def forget(self, provider: str) -> Sequence[Pause]:
        """The provider is configured anew, or gone: nothing is known of it. Returns the pauses that this ended."""
        forgotten = [pause for pause in self._pauses.values() if pause.provider == provider]
        for pause in forgotten:
            del self._pauses[pause.key]
        return forgotten

    def hurry(self, now: float) -> None:
        """Let every pause be decided by the next message that comes, an admin wishes it."""
        for pause in self._pauses.values():
            pause.until, pause.call = min(pause.until, now), 0.0

    def next_call(self) -> float | None:
        """When `calls` will next have something to return."""
        return min((max(pause.until, pause.call) for pause in self._pauses.values() if not pause.probed), default=None)

    def _of(self, provider: str, identities: Iterable[str]) -> Iterable[Pause]:
        names = [key(provider), *(key(provider, identity) for identity in identities)]
        return [self._pauses[name] for name in names if name in self._pauses]

    def _begin(self, name: str, provider: str, outcome: Outcome, now: float) -> Pause:
        pause = Pause(name, provider, outcome.identity if outcome.verdict is Verdict.CONFIG else "", outcome, now, now)
        self._prolong(pause, outcome, now, failures=1)
        self._pauses[name] = pause
        return pause

    def _prolong(self, pause: Pause, outcome: Outcome, now: float, failures: int | None = None) -> None:
        pause.failures = failures if failures is not None else pause.failures + 1
        pause.outcome = outcome
        steps = schedule.THROTTLE_STEPS if outcome.verdict is Verdict.THROTTLE else schedule.PAUSE_STEPS
        pause.until = now + schedule.pause(steps, pause.failures, self._chance(), outcome.retry_after)
        pause.call = 0.0
