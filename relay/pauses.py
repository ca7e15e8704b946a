"""Which providers and identities are in use, paused or being probed. A pure state machine: the clock's reading is an
argument, changes are returned as values.

A pause begins with findings about the provider or one of its identities. One message alone never begins it, for the trouble may
be the message's own: the first finding leaves only that message alone (a pause of the identity `message=QUEUEID`), the same
finding for another message, with no better answer in between, pauses the provider or the identity for everybody. A provider that
asks to slow down, or a used-up quota, is believed at once. Requests that nobody answers are a finding too, for the messages that
were not handed over yet.
Nothing is attempted until a pause has run out; then exactly one waiting message goes as a probe, and its outcome ends the
pause or prolongs it. Only a probe ends a pause: an attempt that was under way when the pause began says nothing new. An admin's
pause ends by an admin's word. Pauses live in memory, but for the admin's: a restart tries again at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relay import schedule
from relay.model import Outcome, Verdict

REMIND = 30.0
"""Seconds after which another waiting message is called as a probe when the last one called never came."""
_LONGEST = schedule.LONGEST_RETRY_AFTER * (1 + schedule.JITTER)
_MESSAGE = "message="
_SILENT = "it takes messages and does not answer: look at the provider's status page, and whether timeout is long enough"
_OURSELVES = "relay"  # who speaks in an outcome that is no fault of the remote


@dataclass(slots=True)
class Pause:
    """One provider (or one identity of it) that is left alone. Times are Unix seconds; `until` is infinite where only an admin
    ends it."""

    key: str
    provider: str
    identity: str
    outcome: Outcome
    since: float
    until: float
    failures: int = 1
    probed: bool = False  # a probe is under way
    call: float = 0.0  # when to call a waiting message as a probe
    firm: bool = False  # `until` is known for sure (a quota, an admin), however far away

    def rests(self, now: float) -> bool:
        """Whether the pause has not run out. One that ends beyond any pause there can be was set by a clock that stepped back."""
        return now < self.until and (self.firm or self.until <= now + _LONGEST)

    @property
    def quiet(self) -> bool:
        """A throttled provider is working as documented: worth a line, not an alarm."""
        return self.outcome.verdict is Verdict.THROTTLE

    @property
    def message(self) -> str:
        """The queue id of the only message that is left alone; "" where it is everybody's."""
        return self.identity.removeprefix(_MESSAGE) if self.identity.startswith(_MESSAGE) else ""

    @property
    def by_admin(self) -> bool:
        """Whether an admin made it."""
        return self.until == math.inf


@dataclass(frozen=True, slots=True)
class Change:
    """A pause that began (`paused`) or ended."""

    pause: Pause
    paused: bool


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one attempt; `probes` are the pauses that this attempt decides, `keys` all that it says something about."""

    provider: str
    probes: tuple[Pause, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _First:
    """A finding that one message has met so far."""

    message: str
    verdict: Verdict


def key(provider: str, identity: str = "") -> str:
    """The name of a pause, under which recipients wait for its end."""
    return f"{provider} {identity}" if identity else provider


def of_message(queue_id: str) -> str:
    """The identity under which one message alone is kept from a provider."""
    return _MESSAGE + queue_id


def _by_key(provider: str, outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The first finding about the provider, and about each identity of it. That nobody answered counts only where nothing
    else was found."""
    found: dict[str, Outcome] = {}
    silent: Outcome | None = None
    for outcome in outcomes:
        if outcome.verdict in (Verdict.PAUSE, Verdict.THROTTLE):
            found.setdefault(key(provider), outcome)
        elif outcome.verdict is Verdict.CONFIG:
            found.setdefault(key(provider, outcome.identity), outcome)
        elif outcome.verdict is Verdict.UNKNOWN and outcome.remote != _OURSELVES:
            silent = outcome if outcome.mend else replace(outcome, mend=_SILENT)
    if silent and not found:
        found[key(provider)] = silent
    return found


@dataclass(slots=True)
class Standing:
    """The standing of every provider and identity. `chance` gives numbers in [0, 1) for the jitter."""

    chance: Callable[[], float]
    _pauses: dict[str, Pause] = field(default_factory=dict)
    _firsts: dict[str, _First] = field(default_factory=dict)

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
        names = tuple(identities)
        probes = tuple(self._of(provider, names))
        if any(pause.probed or pause.rests(now) for pause in probes):
            return None
        for pause in probes:
            pause.probed = True
        return Pass(provider, probes, (key(provider), *(key(provider, name) for name in names)))

    def abandon(self, leave: Pass) -> None:
        """The attempt was not made: the next one may be the probe."""
        for pause in leave.probes:
            pause.probed = False

    def settle(self, leave: Pass, outcomes: Iterable[Outcome], now: float, message: str) -> Sequence[Change]:
        """Draw the consequences of an attempt for `message` (its queue id; that of one of them, where several shared a request
        that nobody answered); returns what changed, to be told loudly and once."""
        found = _by_key(leave.provider, outcomes)
        over = [probe for probe in leave.probes if self._over(probe, found, leave.provider, now)]
        turned = [probe for probe in over if probe.quiet and probe.key in found]
        changes = [Change(probe, paused=False) for probe in over if probe not in turned]
        if key(leave.provider) not in found:
            for name in leave.keys:
                if name not in found:
                    self._firsts.pop(name, None)
        for name, outcome in found.items():
            changes += self._finding(name, leave.provider, outcome, now, message)
        # What waited for a throttling waits on under the same key for what came in its place; else it would wait for nothing.
        changes += [Change(pause, paused=False) for pause in turned if pause.key not in self._pauses]
        return changes

    def _over(self, probe: Pause, found: Mapping[str, Outcome], provider: str, now: float) -> bool:
        """Whether what its probe found ends a pause; otherwise it goes on, or has given way to a worse finding meanwhile."""
        probe.probed = False
        if self._pauses.get(probe.key) is not probe:
            return False
        outcome = next(iter(found.values()), None) if probe.message else found.get(probe.key)
        if outcome is None and key(provider) in found:
            return False  # an attempt that failed on the provider says nothing about the identity
        loud = probe.key == key(provider) and not probe.quiet  # trouble of another kind is no recovery
        if outcome is not None and (outcome.verdict is probe.outcome.verdict or (loud and outcome.verdict is not Verdict.THROTTLE)):
            self._prolong(probe, outcome, now)
            return False
        del self._pauses[probe.key]  # over, or of another kind from now on
        return True

    def _finding(self, name: str, provider: str, outcome: Outcome, now: float, message: str) -> Sequence[Change]:
        """What one more finding begins, where there is no such pause yet, or only a throttle."""
        known = self._pauses.get(name)
        if known is not None and (not known.quiet or outcome.verdict is not Verdict.PAUSE):
            return ()
        if outcome.verdict is Verdict.THROTTLE:
            return (Change(self._begin(name, provider, "", outcome, now), paused=True),)
        first = self._firsts.get(name)
        if first is None or first.message == message or first.verdict is not outcome.verdict:
            self._firsts[name] = _First(message, outcome.verdict)
            alone = key(provider, of_message(message))
            if outcome.verdict is Verdict.UNKNOWN or alone in self._pauses:
                return ()  # who was handed over waits for its retry, and is pinned to the provider
            return (Change(self._begin(alone, provider, of_message(message), outcome, now), paused=True),)
        del self._firsts[name]
        identity = outcome.identity if outcome.verdict is Verdict.CONFIG else ""
        freed = self._free_messages(provider, first.message if identity else "")
        return (Change(self._begin(name, provider, identity, outcome, now), paused=True), *freed)

    def _free_messages(self, provider: str, only: str) -> Sequence[Change]:
        """It was not the message: those that were left alone by themselves (or that one) wait like all others."""
        freed = self._drop(
            lambda pause: pause.provider == provider and not pause.probed and bool(pause.message) and only in ("", pause.message)
        )
        return [Change(pause, paused=False) for pause in freed]

    def exhausted(self, provider: str, outcome: Outcome, now: float, until: float) -> Change | None:
        """A quota of the provider is used up `until` then: believed at once, unless something worse is known already. `outcome`
        is a THROTTLE of our own."""
        known = self._pauses.get(key(provider))
        if known is not None and (not known.quiet or known.rests(now)):
            return None
        pause = self._begin(key(provider), provider, "", outcome, now)
        pause.until, pause.firm = until, True
        return Change(pause, paused=True)

    def replenished(self, provider: str) -> Sequence[Change]:
        """A quota that was used up has room again, sooner than it was said: another limit holds now."""
        quota = self._pauses.get(key(provider))
        if quota is None or not (quota.quiet and quota.firm):
            return ()
        del self._pauses[quota.key]
        return (Change(quota, paused=False),)

    def pause(self, provider: str, outcome: Outcome, now: float) -> Change:
        """An admin wants the provider left alone; `outcome` is a PAUSE of our own that says so."""
        pause = self._begin(key(provider), provider, "", outcome, now)
        pause.until, pause.firm = math.inf, True
        return Change(pause, paused=True)

    def resume(self, provider: str) -> Sequence[Change]:
        """An admin says that the provider is well: nothing is held against it any more."""
        self._forget_firsts(provider)
        return [Change(pause, paused=False) for pause in self._drop(lambda pause: pause.provider == provider)]

    def calls(self, now: float) -> Sequence[Pause]:
        """Pauses that have run out and want a probe; each is returned again only after `REMIND` seconds. One message that does not
        come when it is called has gone another way."""
        self._drop(lambda pause: bool(pause.message) and not pause.probed and 0.0 < pause.call <= now)
        due = [
            pause for pause in self._pauses.values() if not pause.probed and not pause.rests(now) and not now < pause.call <= now + REMIND
        ]
        for pause in due:
            pause.call = now + REMIND
        return due

    def forget(self, provider: str) -> Sequence[Pause]:
        """The provider is configured anew, or gone: nothing is known of it, but that an admin paused it. Returns the pauses that
        this ended."""
        self._forget_firsts(provider)
        return self._drop(lambda pause: pause.provider == provider and not pause.by_admin)

    def hurry(self, now: float) -> None:
        """Let every pause be decided by the next message that comes, an admin wishes it. What an admin or a quota ended stays."""
        for pause in self._pauses.values():
            if not pause.firm:
                pause.until, pause.call = min(pause.until, now), 0.0

    def next_call(self) -> float | None:
        """When `calls` will next have something to return."""
        times = (max(pause.until, pause.call) for pause in self._pauses.values() if not pause.probed and not pause.by_admin)
        return min(times, default=None)

    def _of(self, provider: str, identities: Iterable[str]) -> Iterable[Pause]:
        names = [key(provider), *(key(provider, identity) for identity in identities)]
        return [self._pauses[name] for name in names if name in self._pauses]

    def _drop(self, which: Callable[[Pause], bool]) -> Sequence[Pause]:
        dropped = [pause for pause in self._pauses.values() if which(pause)]
        for pause in dropped:
            del self._pauses[pause.key]
        return dropped

    def _forget_firsts(self, provider: str) -> None:
        self._firsts = {name: first for name, first in self._firsts.items() if name.partition(" ")[0] != provider}

    def _begin(self, name: str, provider: str, identity: str, outcome: Outcome, now: float) -> Pause:
        pause = Pause(name, provider, identity, outcome, now, now)
        self._prolong(pause, outcome, now, failures=1)
        self._pauses[name] = pause
        return pause

    def _prolong(self, pause: Pause, outcome: Outcome, now: float, failures: int | None = None) -> None:
        pause.failures = failures if failures is not None else pause.failures + 1
        pause.outcome = outcome
        pause.firm = False
        steps = schedule.THROTTLE_STEPS if outcome.verdict is Verdict.THROTTLE else schedule.PAUSE_STEPS
        pause.until = now + schedule.pause(steps, pause.failures, self.chance(), outcome.retry_after)
        pause.call = 0.0
