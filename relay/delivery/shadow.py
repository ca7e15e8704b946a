"""Shadows: a route's messages built for a second provider while the first one delivers, to see what a move would cost.

Promises: nothing of a message leaves, unless the shadow is named as a sandbox, which delivers to nobody; a shadow says nothing
about the message itself: it is not in the spool, never fails over, never pauses anybody, and no outcome waits for it; each
recipient of a message is tried once, however often the first provider is asked again (of the last `REMEMBERED` of them, since
the start). What would be refused or lost is one log line; everything is counted.

How it fails: what cannot be tried in time is dropped, counted and told in the log, at most once a minute. Nothing raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from relay.errors import CannotCarry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Job, Kind, Outcome, Scope
from relay.routing import Route
from relay.transports.base import Preview, Transport

WAIT = 5.0
"""Seconds at most for which an entry that is through with its provider waits for its shadow; its body goes after that."""
AT_ONCE = 20
"""Messages that are built for shadows at one time; others wait for their turn."""
LINE = 1000
"""Messages under way and waiting; more are dropped."""
LARGE = 1024 * 1024
"""Octets of a message from which on only one is built at a time, so that memory stays flat."""
REMEMBERED = 50_000
"""Recipients of messages known to have been tried."""
REST = 60.0
"""Seconds for which a shadow is left alone that did not end in time; and between two lines about what was dropped."""


@dataclass(slots=True)
class Shadowed:
    """What the shadow of one route has shown since the start, in messages. `example` is the last finding, with its queue id."""

    route: str
    provider: str
    carried: int = 0
    lossy: int = 0
    refused: int = 0
    failed: int = 0  # sent to its sandbox, which did not take them; or not to be built at all
    example: str = ""


@dataclass(slots=True)
class _Trial:
    """One message on its way to be tried. `sent`: its sandbox may have got it."""

    job: Job
    route: str
    provider: str
    sent: bool = False


@dataclass(slots=True)
class _Dropped:
    """What was not tried with one provider."""

    untold: int = 0
    told: float = 0.0
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of one message."""

    refused: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    answer: str = ""  # what its sandbox said
    taken: bool = True

    @property
    def result(self) -> str:
        """One of `metrics.SHADOW_RESULTS`."""
        if self.refused:
            return "refused"
        if not self.taken:
            return "failed"
        return "lossy" if self.losses else "carried"

    @property
    def example(self) -> str:
        """What there is to tell, "" where nothing is."""
        return "; ".join(self.refused) or ("" if self.taken else self.answer) or "; ".join(self.losses)


class Shadows:
    """The shadows of one daemon. `transport_of` gives the transport of a configured provider; `sandboxes` are those that may really
    be sent to. `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        transport_of: Callable[[str], Transport | None],
        routes: Sequence[Route],
        sandboxes: Collection[str],
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._transport_of = transport_of
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._under_way: dict[asyncio.Task[None], _Trial] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._large_turn = asyncio.Semaphore(1)
        self._tried: dict[tuple[str, str, str], None] = {}  # queue id, recipient, provider; in order
        self._dropped: dict[str, _Dropped] = {}
        self._totals: dict[tuple[str, str], Shadowed] = {}
        self.configure(routes, sandboxes)

    def configure(self, routes: Sequence[Route], sandboxes: Collection[str]) -> None:
        """Go by these from now on. What was counted stays for as long as its route has that shadow."""
        keys = [(route.name, route.shadow) for route in routes if route.shadow]
        self._totals = {key: self._totals.get(key) or Shadowed(*key) for key in keys}
        self._sandboxes = frozenset(sandboxes)

    @property
    def totals(self) -> Sequence[Shadowed]:
        """One for each route with a shadow, in order."""
        return tuple(replace(one) for one in self._totals.values())

    def begin(self, job: Job, route: Route) -> asyncio.Task[None] | None:
        """Begin to try the job, not prepared for anybody yet, with the route's shadow. None where there is none, or nothing new to
        try. The task never raises; hand it to `end`, or cancel it where the message goes no further for now."""
        transport = self._transport_of(route.shadow) if route.shadow else None
        if transport is None:
            return None
        fresh = tuple(one for one in job.recipients if (job.queue_id, one.address, route.shadow) not in self._tried)
        if not fresh:
            return None
        if len(self._under_way) >= LINE or self._rests(route.shadow):
            self._drop(route.shadow)
            return None
        trial = _Trial(replace(job, recipients=fresh, plan=None), route.name, route.shadow)
        self._remember(trial)
        task = asyncio.create_task(self._try(trial, transport))
        self._under_way[task] = trial
        task.add_done_callback(self._ended)
        return task

    async def end(self, task: asyncio.Task[None] | None) -> None:
        """Wait for a task of `begin` for at most `WAIT` seconds, then give it up: the message's body is about to go. Never raises."""
        if task is None:
            return
        try:
            await asyncio.wait({task}, timeout=WAIT)
            if trial := self._under_way.get(task):
                self._of(trial.provider).rests_until = self._clock() + REST
                self._drop(trial.provider)
        finally:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What was cancelled before anything of it left may be tried again, with the message's next attempt."""
        trial = self._under_way.pop(task)
        if task.cancelled() and not trial.sent:
            for key in _keys(trial):
                self._tried.pop(key, None)

    async def _try(self, trial: _Trial, transport: Transport) -> None:
        try:
            async with self._turn:
                if self._rests(trial.provider):
                    self._drop(trial.provider)
                    return
                if trial.job.message.facts.size < LARGE:
                    found = await self._find(trial, transport)
                else:
                    async with self._large_turn:
                        found = await self._find(trial, transport)
            self._tell(trial, found)
        except SpoolError:  # the first provider's attempt meets it too, and says so
            pass
        except Exception as error:
            self._bug(trial, transport, error)

    async def _find(self, trial: _Trial, transport: Transport) -> _Found:
        outcomes: list[Outcome] = []
        try:
            losses = _losses(await transport.preview(trial.job))
            if trial.provider not in self._sandboxes:
                return _Found(losses=losses)
            for part in await transport.prepare(trial.job):
                if not self._may_send(trial, transport):
                    break
                trial.sent = True
                outcomes += (await transport.attempt([part])).values()
                if any(outcome.scope is Scope.PROVIDER for outcome in outcomes):
                    break
        except CannotCarry as refusal:
            return _Found(refused=refusal.reasons)
        taken = all(outcome.kind is Kind.RELAYED for outcome in outcomes)
        return _Found(losses=losses, answer="; ".join(dict.fromkeys(outcome.reply for outcome in outcomes)), taken=taken)

    def _may_send(self, trial: _Trial, transport: Transport) -> bool:
        """Whether the transport is that of a sandbox; one that a reload replaced may have been none, whatever has its name now."""
        return trial.provider in self._sandboxes and self._transport_of(trial.provider) is transport

    def _tell(self, trial: _Trial, found: _Found) -> None:
        queue_id, provider = trial.job.queue_id, trial.provider
        if found.refused or found.losses:
            self._events.shadowed(queue_id, provider, trial.route, found.refused, found.losses)
        if found.answer:
            self._events.shadow_answered(queue_id, provider, found.answer, found.taken)
        self._count(trial, found.result, found.example)

    def _bug(self, trial: _Trial, transport: Transport, error: Exception) -> None:
        """A transport that a reload closed meanwhile may fail as it likes; otherwise it is an error of ours."""
        if self._transport_of(trial.provider) is transport:
            self._events.bug(f"{trial.job.queue_id}: the shadow {trial.provider}", error)
            self._count(trial, "failed", type(error).__name__)

    def _count(self, trial: _Trial, result: str, example: str) -> None:
        self._metrics.shadow(trial.provider, trial.route, result)
        total = self._totals.get((trial.route, trial.provider))
        if total is None:  # a reload took it away meanwhile
            return
        setattr(total, result, getattr(total, result) + 1)
        if example:
            total.example = f"{trial.job.queue_id}: {example}"

    def _remember(self, trial: _Trial) -> None:
        self._tried.update(dict.fromkeys(_keys(trial)))
        while len(self._tried) > REMEMBERED:
            del self._tried[next(iter(self._tried))]

    def _of(self, provider: str) -> _Dropped:
        return self._dropped.setdefault(provider, _Dropped())

    def _rests(self, provider: str) -> bool:
        dropped = self._dropped.get(provider)
        now = self._clock()
        return dropped is not None and now < dropped.rests_until <= now + REST  # one that ends later was set by a clock that stepped back

    def _drop(self, provider: str) -> None:
        dropped, now = self._of(provider), self._clock()
        dropped.untold += 1
        if not dropped.told <= now < dropped.told + REST:  # nor after a clock that stepped back
            self._events.shadows_dropped(provider, dropped.untold)
            dropped.untold, dropped.told = 0, now


def _keys(trial: _Trial) -> list[tuple[str, str, str]]:
    return [(trial.job.queue_id, recipient.address, trial.provider) for recipient in trial.job.recipients]


def _losses(previews: Sequence[Preview]) -> tuple[str, ...]:
    """Every loss of a message, once; the hard ones first."""
    losses = [loss for preview in previews for loss in preview.losses]
    return tuple(dict.fromkeys(loss.what for loss in sorted(losses, key=lambda loss: loss.grade != "hard")))
