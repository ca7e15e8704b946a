"""The loop of the sending half: takes due entries from the spool, finds their provider, makes the attempts.

Promises, each held by a test: an attempt is begun in the spool before its first byte goes out; its outcome is recorded
before anything else follows from it; a bounce is stored before the original is finished; a maybe-relayed recipient
stays with its provider; a credential, quota or account problem pauses the provider and bounces nothing.
Delivery knows the transports' contract but no transport, and meets the listener only at the spool.

How it fails: what a remote does is an outcome. A spool that cannot write is asked again until it can: an outcome that
is not recorded yet is never forgotten while the process lives. An exception that escapes a transport is our bug: the
recipients are deferred as maybe-relayed, the traceback is logged, everything else goes on.
The table of what follows from an outcome: docs/verdicts.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relay import pauses, routing, verdicts
from relay.delivery.closing import OURSELVES, SPOOL_RETRY, Closing, DeliverySettings
from relay.errors import CannotCarry, CorruptEntry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Entry, Job, Kind, Outcome, RecipientState, State, Verdict
from relay.spool.base import Recorded, Spool
from relay.transports.base import Transport

WINDOW = 1000
"""Groups of recipients (an entry's, with one route) under way in memory at once."""
CLAIM = 200
"""Entries taken from the spool at once."""
REFUSALS = 10_000
"""Findings kept in memory that a provider, once asked, turned out not to be able to carry a message."""
LANE = 250
"""Groups that may stand in line for one provider; more wait in the spool, so that a slow provider never fills the window."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """A provider as `relay status` shows it. `state`: up | paused | throttled; times are Unix seconds."""

    name: str
    state: str
    reason: str
    since: float
    until: float
    waiting: int
    active: int


@dataclass(slots=True)
class _Lane:
    """The way to one provider: its transport, and who is on it."""

    transport: Transport
    slots: asyncio.Semaphore
    line: int = 0  # groups in line or under way
    active: int = 0  # attempts under way
    crowded: bool = False  # some wait in the spool for room in the line


@dataclass(frozen=True, slots=True)
class _Group:
    """Recipients of one entry that go the same way."""

    entry: Entry
    route: routing.Route
    order: tuple[str, ...]
    states: list[RecipientState]
    pinned: bool  # maybe relayed by the only provider of the order

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(state.recipient.address for state in self.states)


@dataclass(slots=True)
class _Search:
    """What was found while looking for a provider for a group."""

    blocked: pauses.Pause | None = None
    refusals: list[tuple[str, CannotCarry]] = field(default_factory=list)


class Delivery:
    """The sending half of one daemon."""

    def __init__(
        self,
        *,
        spool: Spool,
        transports: Mapping[str, Transport],
        routes: Sequence[routing.Route],
        settings: DeliverySettings,
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`clock` gives Unix seconds, `random` numbers in [0, 1)."""
        self._spool = spool
        self._lanes = {name: _Lane(transport, asyncio.Semaphore(transport.concurrency)) for name, transport in transports.items()}
        self._routes = tuple(routes)
        self._settings = settings
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._closing = Closing(
            spool=spool,
            routes=routes,
            settings=settings,
            reports=self._carry_reports,
            events=events,
            metrics=metrics,
            clock=clock,
            random=random,
        )
        self._standing = pauses.Standing(random)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[tuple[str, str], None] = {}
        self._refusals: dict[tuple[str, str], CannotCarry] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    # Life.

    async def start(self) -> None:
        """Settle what a crash left behind, then deliver until `drain`."""
        self._spool.on_due(self._wake.set)
        await self._closing.recover()
        await self._spool.wake(None, self._clock())
        for name in self._lanes:
            self._metrics.provider_up(name, True)
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_leases())]

    def wake(self) -> None:
        """Look for due entries now."""
        self._wake.set()

    def hurry(self) -> None:
        """Probe every paused provider with the next message that waits, now."""
        self._standing.hurry(self._clock())
        self._wake.set()

    async def drain(self, grace: float) -> None:
        """Begin nothing new; let attempts under way end within `grace` seconds. What is cut off is UNKNOWN at the next start."""
        self._stopping = True
        self._wake.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in (*self._tasks, *self._loops):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._loops, return_exceptions=True)

    async def providers(self) -> list[ProviderStatus]:
        """Every provider with its standing."""
        found = []
        for name, lane in self._lanes.items():
            mine = [pause for pause in self._standing.all() if pause.provider == name]
            waiting = sum([await self._spool.waiting(pause.key) for pause in mine])
            worst = min(mine, key=lambda pause: (bool(pause.identity), pause.quiet), default=None)
            state, reason, since, until = "up", "", 0.0, 0.0
            if worst:
                state = "throttled" if worst.quiet else "paused"
                reason = f"{worst.identity}: {worst.outcome.reply}" if worst.identity else worst.outcome.reply
                since, until = worst.since, worst.until
            found.append(ProviderStatus(name, state, reason, since, until, waiting, lane.active))
        return found

    # The loop.

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            room = WINDOW - len(self._tasks)
            claimed: Sequence[Entry] = ()
            try:
                await self._call_probes()
                if room > 0:
                    claimed = await self._spool.claim(self._clock(), min(room, CLAIM), self._settings.lease)
                for entry in claimed:
                    self._dispatch(entry)
                timeout = 0.0 if claimed else await self._idle_time(room)
                self._closing.recovered()
            except SpoolError as error:
                self._closing.spool_trouble(error)
                timeout = SPOOL_RETRY[-1]
            except Exception as error:  # the loop must outlive our own mistakes
                self._events.bug("delivery", error)
                timeout = SPOOL_RETRY[-1]
            if timeout > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()

    async def _idle_time(self, room: int) -> float:
        """Seconds until something falls due (a minute at the longest; a finished task or a commit wakes earlier)."""
        now = self._clock()
        times = [now + 60.0]
        if room > 0 and (due := await self._spool.next_due()) is not None:
            times.append(due)
        if (call := self._standing.next_call()) is not None:
            times.append(call)
        return max(min(times) - now, 0.01)

    async def _call_probes(self) -> None:
        """A pause that has run out is decided by one waiting message."""
        now = self._clock()
        for pause in self._standing.calls(now):
            await self._spool.wake(pause.key, now, 1)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease / 3)
            by_entry: dict[str, list[str]] = {}
            for queue_id, address in self._under_way:
                by_entry.setdefault(queue_id, []).append(address)
            for queue_id, addresses in by_entry.items():
                with contextlib.suppress(SpoolError):  # a lease lasts through two missed renewals
                    await self._spool.renew(queue_id, addresses, self._clock() + self._settings.lease)

    # Finding the way.

    def _dispatch(self, entry: Entry) -> None:
        """Split a claimed entry's due recipients by the way they go, and send each group on its way."""
        now = self._clock()
        states = [s for s in entry.open if s.state is State.QUEUED and s.next_attempt <= now]
        states = [s for s in states if (entry.queue_id, s.recipient.address) not in self._under_way]
        if not states:
            return
        if now >= entry.arrived + self._settings.expire:
            self._spawn(self._closing.expire(entry, states), entry, states)
            return
        ways: dict[tuple[str, tuple[str, ...], bool], _Group] = {}
        unrouted = []
        for state in states:
            route = routing.choose(self._routes, entry, state.recipient.address)
            if route is None:
                unrouted.append(state)
            else:
                order = routing.order(route, state, now)
                way = (route.name, order, state.maybe_relayed)
                ways.setdefault(way, _Group(entry, route, order, [], state.maybe_relayed)).states.append(state)
        if unrouted:
            self._spawn(self._closing.hold(entry, unrouted, "no route matches: add a last route without match"), entry, unrouted)
        for group in ways.values():
            self._spawn(self._carry(group), entry, group.states)

    def _spawn(self, work: Coroutine[object, object, None], entry: Entry, states: Sequence[RecipientState]) -> None:
        keys = [(entry.queue_id, state.recipient.address) for state in states]
        self._under_way.update(dict.fromkeys(keys))
        task = asyncio.create_task(self._guarded(work, entry.queue_id))
        self._tasks.add(task)

        def done(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._free(entry.queue_id, [address for _, address in keys])
            if len(self._tasks) == WINDOW - CLAIM or (self._stopping and not self._tasks):
                self._wake.set()

        task.add_done_callback(done)

    def _free(self, queue_id: str, addresses: Iterable[str]) -> None:
        """No longer under way. Called as soon as the spool has ended the lease, so that the next claim may have them."""
        for address in addresses:
            self._under_way.pop((queue_id, address), None)

    async def _guarded(self, work: Coroutine[object, object, None], queue_id: str) -> None:
        try:
            await work
        except CorruptEntry as error:
            await self._closing.set_aside(CorruptEntry(queue_id, error.why))
        except SpoolError as error:  # the lease ends by itself and the entry is claimed again
            self._closing.spool_trouble(error)
        except Exception as error:
            self._events.bug(f"{queue_id}: delivery", error)

    async def _carry(self, group: _Group) -> None:
        """Take the first provider of the order that may be used and can carry the group; wait, hold or fail where none is."""
        if group.pinned and group.order[0] not in self._lanes:
            name = group.order[0]
            await self._closing.hold(group.entry, group.states, f"may have been delivered by {name}, which is not configured any more")
            return
        message = await self._spool.message(group.entry.queue_id)
        entry = group.entry
        job = Job(
            queue_id=entry.queue_id,
            envelope=entry.envelope,
            recipients=tuple(state.recipient for state in group.states),
            edits=entry.edits,
            message=message,
            arrived=entry.arrived,
            bounce=entry.bounce,
            listener=entry.client.listener,
        )
        search = _Search()
        for name in group.order:
            if await self._try_provider(group, job, name, search):
                return
        if search.blocked:
            await self._wait(group, search.blocked.key)
        elif group.pinned:
            why = "; ".join(str(refusal) for _, refusal in search.refusals)
            await self._closing.hold(
                entry, group.states, f"may have been delivered by {group.order[0]}, which cannot carry it any more: {why}"
            )
        else:
            await self._refuse(group, search.refusals)

    async def _try_provider(self, group: _Group, job: Job, name: str, search: _Search) -> bool:
        """Whether the group found its place with this provider: attempted, or waiting for it."""
        lane = self._lanes.get(name)
        if lane is None:
            search.refusals.append((name, CannotCarry([f"no provider named {name} is configured"], "5.3.5")))
            return False
        pause = self._standing.blocked(name, self._clock())
        if pause is None:
            if lane.line >= LANE:
                lane.crowded = True
                await self._wait(group, _line(name))
                return True
            lane.line += 1
            try:
                return await self._take(group, job, name, lane, search)
            finally:
                lane.line -= 1
                if lane.crowded and lane.line < LANE // 2:
                    lane.crowded = await self._closing.insist(lambda: self._spool.wake(_line(name), self._clock(), LANE)) > 0
        search.blocked = search.blocked or pause
        if pause.quiet:  # throttled: what is meant for it waits, it never fails over
            await self._wait(group, pause.key)
        return pause.quiet

    async def _take(self, group: _Group, job: Job, name: str, lane: _Lane, search: _Search) -> bool:
        try:
            if known := self._refusals.get((job.queue_id, name)):
                raise known
            parts = await lane.transport.prepare(job)
        except CannotCarry as refusal:
            search.refusals.append((name, refusal))
            return False
        pause = self._standing.blocked(name, self._clock(), lane.transport.identity(parts[0]))
        if pause is not None and pause.identity:
            search.blocked = search.blocked or pause
            return False
        if len(parts) == 1:
            await self._attempt(group, parts[0], name, lane)
        else:
            await asyncio.gather(*(self._attempt(group, part, name, lane) for part in parts))
        return True

    # The attempt.

    async def _attempt(self, group: _Group, job: Job, name: str, lane: _Lane) -> None:
        """One transaction or request, from its place in the line to all its consequences."""
        addresses = tuple(recipient.address for recipient in job.recipients)
        async with lane.slots:
            leave = None if self._stopping else self._standing.admit(name, self._clock(), lane.transport.identity(job))
            if leave is None:  # paused meanwhile, or draining: choose again
                await self._spool.postpone(job.queue_id, addresses, self._clock())
                self._free(job.queue_id, addresses)
                return
            lane.active += 1
            try:
                number = await self._spool.begin(job.queue_id, addresses, name, group.route.name, self._clock())
                began = self._clock()
                outcomes = await self._ask(lane.transport, job)
            except BaseException:
                self._standing.abandon(leave)
                raise
            finally:
                lane.active -= 1
            # Known before the slot is free, so that the next in line does not run into the same wall.
            changes = self._standing.settle(leave, outcomes.values(), self._clock())
        refusal = _cannot_carry(outcomes.values())
        if refusal:
            self._remember(job.queue_id, name, refusal)
            outcomes = {address: _for_the_next(outcome) for address, outcome in outcomes.items()}
        await self._settle(group, name, number, outcomes, began, at_once=refusal is not None)
        for change in changes:
            await self._tell_change(change)

    async def _ask(self, transport: Transport, job: Job) -> Mapping[str, Outcome]:
        """The outcome of each recipient, whatever the transport does."""
        try:
            answers = await transport.attempt([job])
        except Exception as error:
            self._events.bug(f"{job.queue_id}: transport of {transport.provider}", error)
            answers = {}
        ours = {address: outcome for (queue_id, address), outcome in answers.items() if queue_id == job.queue_id}
        expected = {recipient.address for recipient in job.recipients}
        if ours.keys() != expected:
            if answers:
                wrong = KeyError(*sorted(ours.keys() ^ expected))
                self._events.bug(f"{job.queue_id}: {transport.provider} gave outcomes for other recipients", wrong)
            silent = Outcome(Verdict.UNKNOWN, "4.3.0", "internal error during the attempt", OURSELVES, own=True)
            ours = {address: ours.get(address, silent) for address in expected}
        return ours

    def _remember(self, queue_id: str, name: str, refusal: CannotCarry) -> None:
        """What was found out by asking need not be asked again: the next claim passes this provider by."""
        self._refusals[queue_id, name] = refusal
        if len(self._refusals) > REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    async def _settle(self, group: _Group, name: str, number: int, outcomes: Mapping[str, Outcome], began: float, *, at_once: bool) -> None:
        """Record first; then log, count, bounce and finish. `at_once`: what is deferred is due at once."""
        entry, now = group.entry, self._clock()
        by_address = {state.recipient.address: state for state in group.states}
        recorded = {address: self._closing.judge(entry, by_address[address], name, outcome, now) for address, outcome in outcomes.items()}
        if at_once:
            recorded = {address: replace(one, next_attempt=now) for address, one in recorded.items()}
        queue_id = entry.queue_id
        closed = await self._closing.insist(lambda: self._spool.record(queue_id, number, recorded, name, group.route.name, now))
        self._free(queue_id, recorded)
        for address, one in recorded.items():
            self._tell_log(group, name, address, one, began, now)
        await self._closing.close(entry, group.route, recorded, closed)

    def _tell_log(self, group: _Group, name: str, address: str, one: Recorded, began: float, now: float) -> None:
        entry, outcome = group.entry, one.outcome
        next_attempt: float | None = None
        next_provider = name
        if one.state is State.QUEUED:
            next_attempt = one.next_attempt
            pause = self._standing.blocked(name, now)
            passed_by = (entry.queue_id, name) in self._refusals
            if passed_by or verdicts.CONSEQUENCES[outcome.verdict].fail_over is verdicts.FailOver.AT_ONCE:
                others = (other for other in group.order if other != name and not self._standing.blocked(other, now))
                next_provider = next(others, name)
            if next_provider == name and pause is not None:
                next_attempt = pause.until
        waited = max(began - max(entry.arrived, 0.0), 0.0)
        self._events.attempt(
            entry.queue_id,
            address,
            outcome,
            provider=name,
            route=group.route.name,
            delay=max(now - entry.arrived, 0.0),
            delays=(0.0, waited, outcome.connect_s, outcome.send_s),
            next_attempt=next_attempt,
            next_provider=next_provider,
            held=one.state is State.HELD,
        )
        self._metrics.recipient(name, group.route.name, verdicts.CONSEQUENCES[outcome.verdict].log)
        if outcome.kind is Kind.RELAYED:
            self._metrics.duration(name, max(now - began, 0.0))

    async def _tell_change(self, change: pauses.Change) -> None:
        """Loud and once: a provider is not used any more, or is back."""
        pause = change.pause
        waiting = self._lanes[pause.provider].line + await self._closing.insist(lambda: self._spool.waiting(pause.key))
        if not change.paused:
            self._metrics.provider_up(pause.provider, True)
            self._events.resumed(pause.key, waiting)
            await self._closing.insist(lambda: self._spool.wake(None, self._clock()))
            return
        outcome = pause.outcome
        if pause.quiet:
            self._events.throttled(pause.provider, outcome.reply, pause.until - self._clock())
            return
        if pause.identity:
            self._events.identity_paused(pause.provider, pause.identity, outcome.reply, waiting, outcome.mend)
            return
        self._metrics.provider_up(pause.provider, False)
        self._events.paused(pause.provider, outcome.reply, waiting, outcome.mend, pause.until)

    # Without an attempt.

    async def _wait(self, group: _Group, key: str) -> None:
        until = group.entry.arrived + self._settings.expire
        await self._closing.insist(lambda: self._spool.wait(group.entry.queue_id, group.addresses, key, until))
        self._free(group.entry.queue_id, group.addresses)
        if not any(pause.key == key for pause in self._standing.all()) and not self._crowded(key):
            # The pause ended while we wrote: nobody else would wake these.
            await self._closing.insist(lambda: self._spool.wake(key, self._clock()))

    def _carry_reports(self, via: Sequence[str]) -> bool:
        return any(self._lanes[name].transport.carries_reports for name in via if name in self._lanes)

    def _crowded(self, key: str) -> bool:
        return any(lane.crowded and lane.line > 0 and _line(name) == key for name, lane in self._lanes.items())

    async def _refuse(self, group: _Group, refusals: Sequence[tuple[str, CannotCarry]]) -> None:
        """No provider of the route can carry it: it fails, and the bounce names each reason."""
        text = "no provider of the route can carry this message: " + "; ".join(f"{name}: {refusal}" for name, refusal in refusals)
        status = refusals[0][1].status if refusals else "5.3.5"
        outcome = Outcome(Verdict.PERM_MSG, status, text, OURSELVES, own=True)
        reasons = [f"{name}: {reason}" for name, refusal in refusals for reason in refusal.reasons]
        await self._closing.fail(group.entry, group.route, dict.fromkeys(group.addresses, outcome), reasons)


def _cannot_carry(outcomes: Iterable[Outcome]) -> CannotCarry | None:
    """The refusal in outcomes that are all a transport's own finding about the message, made before anything was sent."""
    found = list(outcomes)
    if all(outcome.own and outcome.verdict is Verdict.PERM_MSG for outcome in found):
        return CannotCarry([found[0].reply], found[0].status)
    return None


def _for_the_next(outcome: Outcome) -> Outcome:
    """A finding of our own is no refusal by a remote: the next provider of the route may carry it."""
    return replace(outcome, verdict=Verdict.RETRY, status="4" + outcome.status[1:])


def _line(provider: str) -> str:
    """The key under which recipients wait for room in a provider's line."""
    return pauses.key(provider, "line")
