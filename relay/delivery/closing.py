"""The ends of a message: outcomes written down, senders told, entries finished, and what a crash left behind.

Promise: recorded first, then told. A notice is stored, together with the mark that its recipients are told, before the
original is finished; so a crash neither loses nor repeats a bounce, a notice of success or a warning of delay.
The spool is asked until it can: what has happened outside must be written down (`insist`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from relay import dsn, routing, schedule, verdicts
from relay.delivery.notices import Notices
from relay.delivery.settings import DeliverySettings
from relay.delivery.trouble import SpoolTrouble
from relay.errors import CorruptEntry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Entry, Kind, Notify, Outcome, Recipient, RecipientState, State, Verdict
from relay.spool.base import Begun, Recorded, Spool

T = TypeVar("T")

_OF_END = {State.FAILED: Notify.FAILURE, State.RELAYED: Notify.SUCCESS}  # what a sender may hear of

SPOOL_RETRY = (0.5, 1.0, 2.0, 5.0)
"""Seconds between tries when the spool cannot write."""
OURSELVES = "relay"
"""Who speaks in an outcome that is our own finding."""
EXPIRED = "5.4.7"
"""The status of a recipient given up because the time is over; a DSN says 4.4.7 (RFC 3463 §3.5)."""
_PAGE = 50  # entries whose senders are warned at once, so that their notices share a sync


class Closing:
    """Writes down what became of recipients, and draws every consequence that concerns the sender."""

    def __init__(
        self,
        *,
        spool: Spool,
        routes: Sequence[routing.Route],
        settings: DeliverySettings,
        carries_reports: Callable[[str], bool | None],
        waits_for: Callable[[str], Outcome],
        settled: Callable[[routing.Route], routing.Route],
        trouble: SpoolTrouble,
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`carries_reports` says whether a provider carries multipart/report, None where it is not configured; `waits_for` what
        recipients with this key wait for, as an outcome of our own; `settled` gives a route the shares of the moment; `random`
        gives numbers in [0, 1)."""
        self._spool = spool
        self._routes = tuple(routes)
        self._settings = settings
        self._waits_for = waits_for
        self._settled = settled
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._trouble = trouble
        self._notices = Notices(
            spool=spool, settings=settings, carries_reports=carries_reports, insist=self.insist, events=events, clock=clock
        )

    def configure(self, routes: Sequence[routing.Route], settings: DeliverySettings) -> None:
        """Judge by other routes and times from now on."""
        self._routes = tuple(routes)
        self._settings = settings
        self._notices.configure(settings)

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
            return Recorded(outcome, State.RELAYED, told=outcome.notifies or not self._wanted(entry, state.recipient, Notify.SUCCESS))
        if outcome.kind is Kind.FAILED:
            return self._failed(entry, state.recipient, outcome)
        since = state.since if state.provider == provider and state.since else now
        if outcome.maybe_relayed and provider in self._settings.hold_unknown:
            return Recorded(outcome, State.HELD, since=since)
        if at_once or verdicts.CONSEQUENCES[outcome.verdict].pauses is not None:
            return Recorded(outcome, State.QUEUED, now, since=since)
        expires = entry.arrived + self._settings.expire
        if now >= expires:
            return self._failed(entry, state.recipient, self._expired(outcome.reply))
        when = schedule.next_attempt(now, self._settings.retry, state.attempts + 1, chance, expires)
        return Recorded(outcome, State.QUEUED, min(max(when, now + (outcome.retry_after or 0.0)), expires), since=since)

    def _failed(self, entry: Entry, recipient: Recipient, outcome: Outcome) -> Recorded:
        return Recorded(outcome, State.FAILED, told=not self._wanted(entry, recipient, Notify.FAILURE))

    def _wanted(self, entry: Entry, recipient: Recipient, what: Notify) -> bool:
        return self._notices.wanted(entry, recipient, what)

    def ways(self, entry: Entry) -> Callable[[RecipientState], routing.Route | None]:
        """The route of each recipient of an entry, with the shares of the moment. A notice of ours goes by the route of those it is
        about, which its recipient keeps: what must not leave by another door does not, whoever reads the notice and whatever a
        reload changes. So does what may have been relayed: its route's guard stands before it. Where an admin fixed a recipient's
        providers, they take the place of the route's."""
        routes = routing.applicable(self._routes, entry, self._settings.controls)

        def way(state: RecipientState) -> routing.Route | None:
            today = routing.choose(routes, state.recipient.address)
            if entry.bounce:
                found: routing.Route | None = self._notices.way(entry, state, self._routes, today)
            else:
                found = routing.begun(self._routes, state, today)
            if state.via and not (entry.bounce and state.via == entry.via):
                return routing.only(found or routing.Route("", ()), state.via)
            return self._settled(found) if found else None

        return way

    async def hold(self, entry: Entry, states: Sequence[RecipientState], why: str) -> None:
        """Leave recipients to the admin, and say why."""
        outcome = Outcome(Verdict.RETRY, "4.3.5", why, OURSELVES, own=True)
        recorded = {state.recipient.address: Recorded(outcome, State.HELD, since=state.since) for state in states}
        state = states[0]
        await self.insist(lambda: self._spool.record(entry.queue_id, 0, recorded, state.provider, state.route, self._clock()))
        for address in recorded:
            self._events.held(entry.queue_id, address, why)

    async def expire(self, entry: Entry, states: Sequence[RecipientState], key: str) -> None:
        """The time is over and nothing more is tried, because of what these wait for: failed, and who was maybe relayed is told so."""
        waited = self._waits_for(key)
        for route, members in self._by_route(entry, states):
            outcomes = {state.recipient.address: self._expired(state.reply, waited) for state in members}
            await self.fail(entry, route, outcomes, waited=waited)

    async def given_up(self, entry: Entry, addresses: Collection[str], outcome: Outcome) -> None:
        """An admin's decision, recorded already: these failed with this outcome. Log, bounce, finish."""
        now = self._clock()
        for route, members in self._by_route(entry, [state for state in entry.recipients if state.recipient.address in addresses]):
            recorded = {state.recipient.address: self._failed(entry, state.recipient, outcome) for state in members}
            for state in members:
                address, delay = state.recipient.address, max(now - entry.arrived, 0.0)
                self._events.attempt(entry.queue_id, address, outcome, provider=state.provider, route=route.name, delay=delay)
                self._metrics.recipient(state.provider or OURSELVES, route.name, "bounced")
            await self._need_not_be_told(entry, [address for address, one in recorded.items() if one.told])
            await self.close(entry, route, recorded, closed=True)

    async def _need_not_be_told(self, entry: Entry, addresses: Sequence[str]) -> None:
        if addresses:
            await self.insist(lambda: self._spool.told(entry.queue_id, addresses))

    def _expired(self, last: str, waited: Outcome | None = None) -> Outcome:
        said = f"last answer: {last}" if last else "it was never attempted"
        if waited:
            said += f"; it waited for {waited.reply}"
        text = f"delivery time expired after {_days(self._settings.expire)}; {said}"
        return Outcome(Verdict.PERM_MSG, EXPIRED, text, OURSELVES, own=True)

    def _by_route(self, entry: Entry, states: Sequence[RecipientState]) -> list[tuple[routing.Route, list[RecipientState]]]:
        """Recipients by their routes: a bounce leaves by the route of those it is about, and by no other."""
        route_of = self.ways(entry)
        found: dict[tuple[str, tuple[str, ...]], tuple[routing.Route, list[RecipientState]]] = {}
        for state in states:
            route = route_of(state) or routing.Route("", ())
            found.setdefault((route.name, route.via), (route, []))[1].append(state)
        return list(found.values())

    async def fail(
        self,
        entry: Entry,
        route: routing.Route,
        outcomes: Mapping[str, Outcome],
        reasons: Sequence[str] = (),
        waited: Outcome | None = None,
    ) -> None:
        """A decision of our own, without an attempt: record, log, bounce (with each of `reasons`, or what it waited for), finish."""
        now = self._clock()
        before = {state.recipient.address: state for state in entry.recipients}
        recorded = {address: self._failed(entry, before[address].recipient, outcome) for address, outcome in outcomes.items()}
        provider = before[next(iter(outcomes))].provider
        closed = await self.insist(lambda: self._spool.record(entry.queue_id, 0, recorded, provider, route.name, now))
        for address, outcome in outcomes.items():
            delay = max(now - entry.arrived, 0.0)
            self._events.attempt(entry.queue_id, address, outcome, provider=provider, route=route.name, delay=delay)
            self._metrics.recipient(provider or OURSELVES, route.name, "expired" if outcome.status == EXPIRED else "bounced")
        await self.close(entry, route, recorded, closed, reasons, waited=waited)

    async def close(
        self,
        entry: Entry,
        route: routing.Route,
        recorded: Mapping[str, Recorded],
        closed: bool,
        reasons: Sequence[str] = (),
        last: Mapping[str, Outcome] | None = None,
        waited: Outcome | None = None,
    ) -> None:
        """Tell of those that have come to their end, with the `last` answers of what expired; then finish an entry without open ones."""
        before = {state.recipient.address: state for state in entry.recipients}
        reports: list[dsn.Report] = []
        untold: list[dsn.Report] = []
        for address, one in recorded.items():
            if one.state is State.FAILED:
                answer = last.get(address) if last else None
                (untold if one.told else reports).append(_failure(before[address], one.outcome, reasons, answer, waited))
            elif one.state is State.RELAYED and not one.told:
                reports.append(dsn.Report(before[address].recipient, one.outcome, dsn.Action.RELAYED))
        if expired := [address for address, one in recorded.items() if one.outcome.status == EXPIRED]:
            returned = any(report.action is dsn.Action.FAILED for report in reports)
            self._events.expired(entry.queue_id, entry.envelope.reverse_path, expired, returned=returned)
        if entry.bounce and untold:
            self._notices.log_double_bounce(entry, untold)
        if reports:
            await self._notices.send(entry, route, reports)
        if closed or reports:
            await self.finish(entry.queue_id)

    async def finish(self, queue_id: str) -> None:
        """End an entry that has no open recipient; one that waits for a notice about another recipient is ended after that."""
        if await self.insist(lambda: self._spool.finish(queue_id, self._clock(), self._settings.keep_bodies)):
            self._events.removed(queue_id)

    # Beside the attempts.

    async def warn(self, arrived_before: float) -> None:
        """Warn, once, the senders of what arrived before and still waits for delivery."""
        after = ""
        while found := await self._spool.late(arrived_before, _PAGE, after):
            work = (self._set_aside_if_corrupt(queue_id, self._warn(queue_id)) for queue_id in found)
            for queue_id, error in zip(found, await asyncio.gather(*work, return_exceptions=True), strict=True):
                if isinstance(error, Exception):  # a mistake of ours about one message costs no other its warning
                    self._events.bug(f"{queue_id}: warning of a delay", error)
            after = found[-1]

    async def _warn(self, queue_id: str) -> None:
        entry = await self.insist(lambda: self._spool.entry(queue_id))
        if entry is None or entry.arrived + self._settings.expire <= self._clock():
            return  # its time is over, as after a long stop: the end is near, and told then
        late = [state for state in entry.open if state.state is State.QUEUED and not state.told]
        for route, members in self._by_route(entry, [s for s in late if self._wanted(entry, s.recipient, Notify.DELAY)]):
            await self._notices.send(entry, route, [self._delay(state) for state in members])

    def _delay(self, state: RecipientState) -> dsn.Report:
        waits = self._waits_for(state.waits) if state.waits else None
        outcome = _last(state, waits, "4.0.0")
        reply = waits.reply if waits else ""
        return dsn.Report(state.recipient, outcome, dsn.Action.DELAYED, maybe_relayed=state.maybe_relayed, waits_for=reply)

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
        outcomes = dict.fromkeys(begun.recipients, outcome)
        recorded = self.judge(entry, entry.open, begun.provider, outcomes, now)
        closed = await self.insist(lambda: self._spool.record(begun.queue_id, begun.attempt, recorded, begun.provider, begun.route, now))
        if recorded:  # otherwise an admin has deleted them meanwhile
            self._events.maybe_twice(begun.queue_id, list(recorded), begun.provider, why)
        for route, members in self._by_route(entry, [state for state in entry.open if state.recipient.address in recorded]):
            some = {state.recipient.address: recorded[state.recipient.address] for state in members}
            await self.close(entry, route, some, closed, last=outcomes)

    async def _tell_late(self, queue_id: str) -> None:
        """The crash came between the record and its notice."""
        entry = await self._spool.entry(queue_id)
        if entry is None:
            return
        due = [state for state in entry.recipients if not state.told and _ended(state)]
        wanted = [state for state in due if entry.bounce or self._wanted(entry, state.recipient, _OF_END[state.state])]
        await self._need_not_be_told(entry, [state.recipient.address for state in due if state not in wanted])
        for route, members in self._by_route(entry, wanted):
            await self._notices.send(entry, route, [_late_report(state) for state in members])

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


def _ended(state: RecipientState) -> bool:
    """Whether a notice is due of what became of a recipient that is not told (see Recorded.told)."""
    return state.state is State.FAILED or (state.state is State.RELAYED and Notify.SUCCESS in state.recipient.notify)


def _late_report(state: RecipientState) -> dsn.Report:
    """What a notice says of a recipient that has come to its end, from what the spool knows of it."""
    own = not state.remote or state.remote == OURSELVES
    verdict = Verdict.PERM_MSG if state.state is State.FAILED else Verdict.OK
    outcome = Outcome(verdict, state.status, state.reply, state.remote or OURSELVES, own=own)
    return _failure(state, outcome) if verdict is Verdict.PERM_MSG else dsn.Report(state.recipient, outcome, dsn.Action.RELAYED)


def _failure(
    state: RecipientState, outcome: Outcome, reasons: Iterable[str] = (), last: Outcome | None = None, waited: Outcome | None = None
) -> dsn.Report:
    """What the bounce says of a recipient; of an expired one what was heard last: `last`, or what `state` remembers."""
    expired = outcome.own and outcome.status == EXPIRED
    if expired:
        outcome = last or _last(state, waited, "4.4.7")
    return dsn.Report(
        state.recipient,
        outcome,
        reasons=tuple(reasons),
        expired=expired,
        maybe_relayed=state.maybe_relayed or outcome.maybe_relayed,
        waits_for=waited.reply if waited else "",
    )


def _last(state: RecipientState, waits: Outcome | None, status: str) -> Outcome:
    """The last answer for a recipient that was deferred, with what would mend what it waits for; else what it waits for."""
    if not state.reply or not state.remote:
        return waits or Outcome(Verdict.RETRY, status, "no attempt was made", OURSELVES, own=True)
    own = not state.reply[:3].isdigit()  # a remote's reply begins with its code
    return Outcome(Verdict.RETRY, f"4{state.status[1:]}", state.reply, state.remote, own=own, mend=waits.mend if waits else "")


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 86400 else f"{seconds / 3600:g} hours"
