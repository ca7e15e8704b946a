"""The ends of a message: outcomes written down, senders told, entries finished, and what a crash left behind.

Promise: recorded first, then told. A bounce is stored, together with the note that its recipients are told, before the
original is finished; so a crash neither loses nor repeats a bounce.
The spool is asked until it can: what has happened outside must be written down (`insist`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from relay import dsn, header, routing, schedule, verdicts
from relay.delivery.trouble import SpoolTrouble
from relay.errors import CorruptEntry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Client, Entry, Envelope, Facts, Kind, Outcome, Recipient, RecipientState, State, Verdict
from relay.spool.base import Begun, Recorded, Spool

T = TypeVar("T")

SPOOL_RETRY = (0.5, 1.0, 2.0, 5.0)
"""Seconds between tries when the spool cannot write."""
OURSELVES = "relay"
"""Who speaks in an outcome that is our own finding."""
EXPIRED = "5.4.7"
"""The status of a recipient given up because the time is over; a DSN says 4.4.7 (RFC 3463 §3.5)."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What delivery is told by the configuration. Times in seconds."""

    retry: tuple[float, ...]
    expire: float
    bounce_from: str
    hostname: str
    keep_bodies: bool = False
    hold_unknown: frozenset[str] = frozenset()  # providers whose unknown outcomes wait for an admin
    lease: float = 600.0  # how long a claim lasts; prolonged while an attempt is under way


class Closing:
    """Writes down what became of recipients, and draws every consequence that concerns the sender."""

    def __init__(
        self,
        *,
        spool: Spool,
        routes: Sequence[routing.Route],
        settings: DeliverySettings,
        reports: Callable[[Sequence[str]], bool],
        trouble: SpoolTrouble,
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`reports` says whether any of these providers carries multipart/report; `random` gives numbers in [0, 1)."""
        self._spool = spool
        self._routes = tuple(routes)
        self._settings = settings
        self._reports = reports
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._trouble = trouble

    def judge(
        self,
        entry: Entry,
        states: Sequence[RecipientState],
        provider: str,
        outcomes: Mapping[str, Outcome],
        now: float,
        *,
        at_once: bool = False,
    ) -> dict[str, Recorded]:
        """What to store for each recipient that has an outcome.

        What was deferred together is tried again together: one mail stays one mail. A pause or misconfiguration is due
        at once (the next claim chooses again), and so is every deferral with `at_once`.
        """
        chance = self._random()
        return {
            state.recipient.address: self._judge(entry, state, provider, outcomes[state.recipient.address], now, chance, at_once)
            for state in states
            if state.recipient.address in outcomes
        }

    def _judge(
        self, entry: Entry, state: RecipientState, provider: str, outcome: Outcome, now: float, chance: float, at_once: bool
    ) -> Recorded:
        if outcome.kind is Kind.RELAYED:
            return Recorded(outcome, State.RELAYED)
        if outcome.kind is Kind.FAILED:
            return Recorded(outcome, State.FAILED, told=not dsn.wanted(entry, state.recipient))
        since = state.since if state.provider == provider and state.since else now
        if outcome.maybe_relayed and provider in self._settings.hold_unknown:
            return Recorded(outcome, State.HELD, since=since)
        if at_once or verdicts.CONSEQUENCES[outcome.verdict].pauses is not None:
            return Recorded(outcome, State.QUEUED, now, since=since)
        expires = entry.arrived + self._settings.expire
        if now >= expires:
            return Recorded(self._expired(outcome.reply), State.FAILED, told=not dsn.wanted(entry, state.recipient))
        when = schedule.next_attempt(now, self._settings.retry, state.attempts + 1, chance, expires)
        return Recorded(outcome, State.QUEUED, min(max(when, now + (outcome.retry_after or 0.0)), expires), since=since)

    async def hold(self, entry: Entry, states: Sequence[RecipientState], why: str) -> None:
        """Leave recipients to the admin, and say why."""
        outcome = Outcome(Verdict.RETRY, "4.3.5", why, OURSELVES, own=True)
        recorded = {state.recipient.address: Recorded(outcome, State.HELD, since=state.since) for state in states}
        state = states[0]
        await self.insist(lambda: self._spool.record(entry.queue_id, 0, recorded, state.provider, state.route, self._clock()))
        for address in recorded:
            self._events.held(entry.queue_id, address, why)

    async def expire(self, entry: Entry, states: Sequence[RecipientState]) -> None:
        """The time is over and nothing more is tried: failed, and a maybe-relayed recipient is told so."""
        for route, members in self._by_route(entry, states):
            await self.fail(entry, route, {state.recipient.address: self._expired(state.reply) for state in members})

    def _expired(self, last: str) -> Outcome:
        said = f"last answer: {last}" if last else "it was never attempted"
        text = f"delivery time expired after {_days(self._settings.expire)}; {said}"
        return Outcome(Verdict.PERM_MSG, EXPIRED, text, OURSELVES, own=True)

    def _by_route(self, entry: Entry, states: Sequence[RecipientState]) -> list[tuple[routing.Route, list[RecipientState]]]:
        """Recipients by their routes: a bounce leaves by the route of those it is about, and by no other."""
        routes = routing.applicable(self._routes, entry)
        found: dict[tuple[str, tuple[str, ...]], tuple[routing.Route, list[RecipientState]]] = {}
        for state in states:
            route = routing.choose(routes, state.recipient.address) or routing.Route("", ())
            found.setdefault((route.name, route.via), (route, []))[1].append(state)
        return list(found.values())

    async def fail(self, entry: Entry, route: routing.Route, outcomes: Mapping[str, Outcome], reasons: Sequence[str] = ()) -> None:
        """A decision of our own, without an attempt: record, log, bounce (with each of `reasons`), finish."""
        now = self._clock()
        before = {state.recipient.address: state for state in entry.recipients}
        recorded = {
            address: Recorded(outcome, State.FAILED, told=not dsn.wanted(entry, before[address].recipient))
            for address, outcome in outcomes.items()
        }
        provider = before[next(iter(outcomes))].provider
        closed = await self.insist(lambda: self._spool.record(entry.queue_id, 0, recorded, provider, route.name, now))
        for address, outcome in outcomes.items():
            delay = max(now - entry.arrived, 0.0)
            self._events.attempt(entry.queue_id, address, outcome, provider=provider, route=route.name, delay=delay)
            self._metrics.recipient(provider or OURSELVES, route.name, "expired" if outcome.status == EXPIRED else "bounced")
        await self.close(entry, route, recorded, closed, reasons)

    async def close(
        self,
        entry: Entry,
        route: routing.Route,
        recorded: Mapping[str, Recorded],
        closed: bool,
        reasons: Sequence[str] = (),
        last: Mapping[str, Outcome] | None = None,
    ) -> None:
        """Bounce what failed and is not told yet, with the `last` answers of what expired; then finish an entry without open ones."""
        before = {state.recipient.address: state for state in entry.recipients}
        failures = [
            _failure(before[address], one.outcome, reasons, last.get(address) if last else None)
            for address, one in recorded.items()
            if one.state is State.FAILED and not one.told
        ]
        if expired := [address for address, one in recorded.items() if one.outcome.status == EXPIRED]:
            self._events.expired(entry.queue_id, entry.envelope.reverse_path, expired, returned=bool(failures))
        if failures:
            await self._bounce(entry, route.via, failures)
        if closed or failures:
            await self.finish(entry.queue_id)

    async def _bounce(self, entry: Entry, via: Sequence[str], failures: Sequence[dsn.Failure]) -> None:
        """Store a bounce; that its recipients are told is part of the same commit."""
        now = self._clock()
        report = not via or self._reports(via)

        async def store() -> str:
            incoming = self._spool.incoming(now)
            text = dsn.bounce(
                entry=entry,
                failures=failures,
                sender=self._settings.bounce_from,
                hostname=self._settings.hostname,
                bounce_id=incoming.queue_id,
                now=now,
                report=report,
            )
            incoming.write(text)
            head, _ = header.split(text)
            await incoming.commit(
                arrived=now,
                client=Client("", "unix", name="relay", helo=self._settings.hostname, protocol="LOCAL"),
                envelope=Envelope("", (Recipient(entry.envelope.reverse_path),)),
                facts=Facts(len(text), not text.isascii(), max(map(len, text.split(b"\r\n")))),
                header=head,
                message_id=f"<{incoming.queue_id}@{self._settings.hostname}>",
                edits=(),
                via=tuple(via),
                bounce=True,
                answers=entry.queue_id,
                told=[failure.recipient.address for failure in failures],
            )
            return incoming.queue_id

        bounce_id = await self.insist(store)
        self._events.bounced_to(entry.queue_id, bounce_id, entry.envelope.reverse_path)

    async def finish(self, queue_id: str) -> None:
        """End an entry that has no open recipient; one that waits for another recipient's bounce is ended after that."""
        if await self.insist(lambda: self._spool.finish(queue_id, self._clock(), self._settings.keep_bodies)):
            self._events.removed(queue_id)

    # After a crash.

    async def recover(self) -> None:
        """Settle what a crash left: attempts without an outcome, bounces that are due, entries that are not finished."""
        for begun in await self._spool.unfinished():
            await self._set_aside_if_corrupt(begun.queue_id, self.cut_off(begun, "relay stopped during the attempt"))
        for queue_id in await self._spool.untold():
            await self._set_aside_if_corrupt(queue_id, self._tell_late(queue_id))
        for queue_id in await self._spool.unclosed():
            await self.finish(queue_id)

    async def set_aside(self, error: CorruptEntry) -> None:
        """An entry that cannot be read is kept apart, and said so; the others go on."""
        self._events.corrupt(error.queue_id, error.why)
        await self.insist(lambda: self._spool.set_aside(error.queue_id, error.why, self._clock()))

    async def _set_aside_if_corrupt(self, queue_id: str, work: Awaitable[None]) -> None:
        try:
            await work
        except CorruptEntry as error:
            await self.set_aside(CorruptEntry(queue_id, error.why))

    async def cut_off(self, begun: Begun, why: str) -> None:
        """An attempt that was begun has no outcome, and will have none: UNKNOWN."""
        entry = await self._spool.entry(begun.queue_id)
        if entry is None:
            return
        outcome = Outcome(Verdict.UNKNOWN, "4.4.2", why, OURSELVES, own=True)
        now = self._clock()
        recorded = self.judge(entry, entry.open, begun.provider, dict.fromkeys(begun.recipients, outcome), now)
        await self.insist(lambda: self._spool.record(begun.queue_id, begun.attempt, recorded, begun.provider, begun.route, now))
        if recorded:  # otherwise an admin has deleted them meanwhile
            self._events.maybe_twice(begun.queue_id, list(recorded), begun.provider, why)

    async def _tell_late(self, queue_id: str) -> None:
        """The crash came between the record and its bounce."""
        entry = await self._spool.entry(queue_id)
        if entry is None:
            return
        failed = [state for state in entry.recipients if state.state is State.FAILED and not state.told]
        for route, members in self._by_route(entry, failed):
            await self._bounce(entry, route.via, [_failure(state, _known(state)) for state in members])

    # The spool's bad days.

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the spool until it can: what has happened outside must be written down."""
        who, tries = object(), 0
        try:
            while True:
                try:
                    return await ask()
                except CorruptEntry:
                    raise
                except SpoolError as error:
                    self._trouble.begin(who, str(error))
                    await asyncio.sleep(SPOOL_RETRY[min(tries, len(SPOOL_RETRY) - 1)])
                    tries += 1
        finally:
            self._trouble.end(who)


def _failure(state: RecipientState, outcome: Outcome, reasons: Sequence[str] = (), last: Outcome | None = None) -> dsn.Failure:
    """What the bounce says of a recipient; of an expired one what was heard last: `last`, or what `state` remembers."""
    expired = outcome.own and outcome.status == EXPIRED
    if expired:
        outcome = last or _last(state)
    maybe_relayed = state.maybe_relayed or outcome.maybe_relayed
    return dsn.Failure(state.recipient, outcome, tuple(reasons), expired=expired, maybe_relayed=maybe_relayed)


def _last(state: RecipientState) -> Outcome:
    """The last answer for a recipient that was deferred until its time was over."""
    if not state.reply or not state.remote:
        return Outcome(Verdict.RETRY, "4.4.7", "no attempt was made", OURSELVES, own=True)
    own = not state.reply[:3].isdigit()  # a remote's reply begins with its code
    return Outcome(Verdict.RETRY, f"4{state.status[1:]}", state.reply, state.remote, own=own)


def _known(state: RecipientState) -> Outcome:
    """The outcome that a failed recipient was stored with."""
    remote = state.remote or OURSELVES
    return Outcome(Verdict.PERM_MSG, state.status, state.reply, remote, own=remote == OURSELVES)


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 86400 else f"{seconds / 3600:g} hours"
