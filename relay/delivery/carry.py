"""One group's way: to the first provider that may be used and can carry it, the attempt, and its consequences.

Promises: a slot of the provider is held while jobs are built and attempted, so that what lies in memory is bounded; an
attempt is begun in the spool before its first byte, and recorded before anything follows from it; a maybe-relayed
recipient is given to nobody but its provider; what a full line cannot take waits in the spool and goes first later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from relay import pauses, verdicts
from relay.delivery import lines
from relay.delivery.attempts import Attempts
from relay.delivery.batches import Batches, Turn
from relay.delivery.closing import EXPIRED, OURSELVES, Closing
from relay.delivery.lanes import Group, Lane, Made, Rider, Search, lane_for
from relay.delivery.lines import Lines
from relay.errors import CannotCarry
from relay.log import Events
from relay.metrics import Metrics
from relay.model import IN_LINE, Job, Kind, Outcome, State, Verdict
from relay.spool.base import Recorded, Spool
from relay.transports.base import Transport

LATE = 3600.0
"""Seconds that an entry waits for a provider whose trouble began after the entry's time was over."""
CLOSE = 10.0
"""Seconds that a transport which is used no more may take to close its connections."""


class Carrier:
    """Takes groups on their way. `due_at` is told of times at which something falls due, `free` of leases that have ended."""

    def __init__(
        self,
        *,
        spool: Spool,
        transports: Mapping[str, Transport],
        closing: Closing,
        expire: float,
        random: Callable[[], float],
        due_at: Callable[[float], None],
        free: Callable[[Group, Iterable[str]], None],
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self._batches: dict[Lane, Batches] = {}
        self.standing = pauses.Standing(random)
        self.recording: set[int] = set()  # attempts whose outcome is known and being recorded
        self.stopping = False
        self.table = 0  # counts the tables of routes: what an earlier one chose, and is not begun, is chosen again
        self._closers: set[asyncio.Task[None]] = set()
        self._spool = spool
        self._closing = closing
        self._expire = expire
        self._due_at = due_at
        self._free = free
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self.attempts = Attempts(
            spool=spool,
            standing=self.standing,
            may_not_begin=self._may_not_begin,
            events=events,
            clock=clock,
        )
        self.lines = Lines(spool=spool, insist=closing.insist, due_at=due_at, clock=clock)
        for name, transport in transports.items():
            self._open(transport, name)

    def configure(self, transports: Mapping[str, Transport], expire: float, *, rerouted: bool) -> Sequence[pauses.Pause]:
        """Use other transports from now on; returns the pauses that are known no longer. A provider whose transport is the same object
        goes on as if nothing had happened.

        What is under way ends with the transport it began with, which is closed after the last one; who stands in its line
        chooses again, and with `rerouted` who stands in any. What was known of a changed provider (its pause, what it cannot
        carry) is known no longer.
        """
        self._expire = expire
        self.table += rerouted
        kept = {name for name, lane in self.lanes.items() if transports.get(name) is lane.transport}
        retired = [lane for name, lane in self.lanes.items() if name not in kept]
        forgotten = [pause for name in self.lanes.keys() - kept for pause in self.standing.forget(name)]
        self.attempts.keep(kept)
        lanes, self.lanes = self.lanes, {}
        for name, transport in transports.items():
            if name in kept:
                self.lanes[name] = lanes[name]
            else:
                self._open(transport, name)
        for lane in retired:
            lane.retired = True
            if batches := self._batches.get(lane):
                batches.hurry()
            self._close_unused(lane)
        return forgotten

    def _open(self, transport: Transport, name: str) -> None:
        lane = self.lanes[name] = lane_for(transport)
        if transport.batching.jobs > 1:
            self._batches[lane] = Batches(
                lane,
                prepare=lambda seat: self._prepared(seat.group, name, lane, seat.search),
                attempt=lambda riders: self._attempt_together(riders, name, lane),
            )

    def stop(self) -> None:
        """Begin nothing new from now on."""
        self.stopping = True
        for batches in self._batches.values():
            batches.hurry()

    def more_is_due(self, more: bool) -> None:
        """Whether the spool had something due when it was asked last."""
        for batches in self._batches.values():
            batches.more_is_due(more)

    def _close_unused(self, lane: Lane) -> None:
        """Close the transport of a lane that nobody is on and nobody will be. Nobody waits for it: a server that does not answer
        our farewell must hold up neither a message nor a reload."""
        if lane.retired and not lane.line:
            self._batches.pop(lane, None)
            task = asyncio.create_task(self._close(lane.transport))
            self._closers.add(task)
            task.add_done_callback(self._closers.discard)

    async def _close(self, transport: Transport) -> None:
        try:
            async with asyncio.timeout(CLOSE):
                await transport.aclose()
        except Exception as error:  # nothing of a message depends on it
            self._events.bug(f"closing the transport of {transport.provider}", error)

    async def cut_off(self) -> None:
        """Give up every request with several messages. Nobody is there any more who would record what came of it."""
        await asyncio.gather(*(batches.close() for batches in self._batches.values()))

    async def closed(self) -> None:
        """Until the transports that are used no more are closed, or given up."""
        await asyncio.gather(*self._closers)

    async def carry(self, group: Group) -> None:
        """Take the first provider of the order that may be used and can carry the group; wait, hold or fail where none is."""
        entry = group.entry
        if why := self._nobody(group):
            await self._closing.hold(entry, group.states, why)
            return
        search = Search()
        for name in group.order:
            before = len(search.refusals)
            if await self._try_provider(group, name, search):
                return
            if group.table != self.table:
                await self._choose_again(group, group.addresses)
                return
            if len(search.refusals) > before and name != group.order[-1]:
                self._events.passed_over(entry.queue_id, name, str(search.refusals[-1][1]))
        if search.blocked:
            await self._wait(group, search.blocked.key, search.blocked.since)
        elif group.pinned:
            why = "; ".join(str(refusal) for _, refusal in search.refusals)
            await self._closing.hold(
                entry, group.states, f"may have been delivered by {group.order[0]}, which cannot carry it any more: {why}"
            )
        else:
            await self._refuse(group, search.refusals)

    def _nobody(self, group: Group) -> str:
        """Why there is nobody to ask, which is a matter of set-up and never of the message; "" where there is somebody."""
        if not group.order:
            return "no route matches: add a last route without match"
        if any(name in self.lanes for name in group.order):
            return ""
        if group.pinned:
            name = group.order[0]
            return f"may have been delivered by {name}, which is not configured any more: configure {name} until it is sent, or delete it"
        return f"none of its providers is configured any more: {', '.join(group.order)}"

    async def _try_provider(self, group: Group, name: str, search: Search) -> bool:
        """Whether the group found its place with this provider: attempted, or waiting for it."""
        lane = self.lanes.get(name)
        if lane is None:
            search.refusals.append((name, CannotCarry([f"no provider named {name} is configured"], "5.3.5")))
            return False
        if known := dict(group.refused).get(name):
            search.refusals.append((name, known))
            return False
        pause = self.standing.blocked(name, self._clock())
        if pause is None:
            return await self._join(group, name, lane, search)
        search.blocked = search.blocked or pause
        if pause.quiet:  # throttled: what is meant for it waits, it never fails over
            await self._wait(group, pause.key, pause.since)
        return pause.quiet

    async def _join(self, group: Group, name: str, lane: Lane, search: Search) -> bool:
        """Stand in the provider's line. A full line is waited for in the spool, and who waits there goes first."""
        if not self.lines.enter(lane, group):
            await self._wait(group, lines.key(name), self._clock())
            return True
        try:
            return await self._take(group, name, lane, search)
        finally:
            lane.line -= 1
            self._close_unused(lane)
            if not self.stopping:
                await self.lines.call_after(name, lane)

    async def _take(self, group: Group, name: str, lane: Lane, search: Search) -> bool:
        """In a batch, or alone."""
        batches = self._batches.get(lane)
        heard: Made | Turn | None
        if batches and batches.may_ride(group):
            heard = await batches.ride(group, search)
            if isinstance(heard, Made):
                await self._settle(group, name, heard)
                return True
        else:
            heard = Turn.ALONE
        if heard is Turn.ALONE:
            heard = await self._take_alone(group, name, lane, search)
        if heard is Turn.AGAIN:
            await self._choose_again(group, group.addresses)
        return heard is not Turn.PASSED

    async def _take_alone(self, group: Group, name: str, lane: Lane, search: Search) -> Turn | None:
        """With a slot of the provider: build the jobs, and attempt them one after the other. None when each was seen to."""
        made: Made | None = None
        async with lane.slots:
            parts = await self._prepared(group, name, lane, search)
            if isinstance(parts, Turn):
                return parts
            for number, part in enumerate(parts, start=1):
                made = await self.attempts.alone(Rider(group, part), name, lane)
                if made is None:
                    await self._choose_again(group, tuple(recipient.address for recipient in part.recipients))
                elif number < len(parts):
                    await self._settle(group, name, made)
        if made:
            await self._settle(group, name, made)
        return None

    async def _attempt_together(self, riders: Sequence[Rider], name: str, lane: Lane) -> Sequence[Made | BaseException | None]:
        """One attempt. Its outcomes are known from here on, though each is recorded by its own group: a drain that loses its patience
        in between does not take them for attempts under way."""
        found = await self.attempts.make(riders, name, lane)
        self.recording.update(one.begun.attempt for one in found if isinstance(one, Made))
        return found

    async def _prepared(self, group: Group, name: str, lane: Lane, search: Search) -> Sequence[Job] | Turn:
        """What the group would send by this provider; or PASSED with the reason in `search`, or AGAIN where it may not begin."""
        if self._may_not_begin(group, lane) or self.standing.blocked(name, self._clock()):
            return Turn.AGAIN
        try:
            parts = await lane.transport.prepare(await self._job(group))
        except CannotCarry as refusal:
            search.refusals.append((name, refusal))
            return Turn.PASSED
        pause = self.standing.blocked(name, self._clock(), lane.transport.identity(parts[0]))
        if pause is not None and pause.identity:
            search.blocked = search.blocked or pause
            return Turn.PASSED
        return parts

    def _may_not_begin(self, group: Group, lane: Lane) -> bool:
        """Whether a drain or a reload came before the attempt."""
        return self.stopping or lane.retired or group.table != self.table

    async def _job(self, group: Group) -> Job:
        entry = group.entry
        return Job(
            queue_id=entry.queue_id,
            envelope=entry.envelope,
            recipients=tuple(state.recipient for state in group.states),
            edits=entry.edits,
            message=await self._spool.message(entry.queue_id),
            arrived=entry.arrived,
            bounce=entry.bounce,
            listener=entry.client.listener,
        )

    async def _choose_again(self, group: Group, addresses: Sequence[str]) -> None:
        await self._spool.postpone(group.entry.queue_id, addresses, self._clock())
        self._free(group, addresses)

    async def _settle(self, group: Group, name: str, made: Made) -> None:
        """Record first; then log, count, tell, bounce and finish."""
        entry, now, begun = group.entry, self._clock(), made.begun
        recorded = self._closing.judge(entry, group.states, name, made.outcomes, now, at_once=made.refused)
        self.recording.add(begun.attempt)
        try:
            record = partial(self._spool.record, entry.queue_id, begun.attempt, recorded, name, group.route.name, now)
            closed = await self._closing.insist(record)
        finally:
            self.recording.discard(begun.attempt)
        group.begun = None
        self._free(group, recorded)
        for address, one in recorded.items():
            self._tell_log(group, name, address, one, begun.started, now)
            if one.state is State.QUEUED:
                self._due_at(one.next_attempt)
        for change in made.changes:
            await self._tell_change(change)
        await self._closing.close(entry, group.route, recorded, closed, last=made.outcomes)
        if made.corrupt:
            raise made.corrupt

    def _tell_log(self, group: Group, name: str, address: str, one: Recorded, began: float, now: float) -> None:
        entry, outcome = group.entry, one.outcome
        next_attempt: float | None = None
        next_provider = name
        if one.state is State.QUEUED:
            next_attempt = one.next_attempt
            pause = self.standing.blocked(name, now, (outcome.identity,) if outcome.identity else ())
            passed_by = bool(self.attempts.refused(entry.queue_id, address, (name,)))
            if passed_by or verdicts.CONSEQUENCES[outcome.verdict].fail_over is verdicts.FailOver.AT_ONCE:
                others = (other for other in group.order if other != name and not self.standing.blocked(other, now))
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
        word = "expired" if outcome.status == EXPIRED else verdicts.CONSEQUENCES[outcome.verdict].log
        self._metrics.recipient(name, group.route.name, word)
        if outcome.kind is Kind.RELAYED:
            self._metrics.duration(name, max(now - began, 0.0))

    async def _tell_change(self, change: pauses.Change) -> None:
        """Loud and once: a provider is not used any more, or is back."""
        pause = change.pause
        if change.paused and not any(pause is one for one in self.standing.all()):
            return  # it ended, or a reload forgot it, while the outcome was recorded
        lane = self.lanes.get(pause.provider)
        waiting = (lane.line if lane else 0) + await self._closing.insist(lambda: self._spool.waiting(pause.key))
        if not change.paused:
            if lane:
                self._metrics.provider_up(pause.provider, True)
            self._events.resumed(pause.key, waiting)
            # What waits for another paused provider may go by this one now; what waits for a throttled one never left it.
            await self._closing.insist(lambda: self._spool.wake(pause.key if pause.quiet else None, self._clock()))
            return
        self._due_at(pause.until)
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

    async def _wait(self, group: Group, key: str, began: float) -> None:
        """Wait in the spool for what `began` to be in the way then, at the longest until the entry's time is over.

        An entry whose time ran out while nobody looked (a long stop, a clock that stepped) still gets a fair chance.
        """
        until = expires = group.entry.arrived + self._expire
        if began >= expires:
            until = began + LATE
        if self._clock() >= until:
            await self._closing.expire(group.entry, group.states, key)
            return
        provider, queue_id = group.order[0], group.entry.queue_id
        await self._closing.insist(lambda: self._spool.wait(queue_id, group.addresses, key, until, provider, group.route.name))
        self._free(group, group.addresses)
        if not any(pause.key == key for pause in self.standing.all()) and not self._crowded(key):
            # The pause ended while we wrote: nobody else would wake these.
            await self._closing.insist(lambda: self._spool.wake(key, self._clock()))

    def waits_for(self, key: str) -> Outcome:
        """What recipients with this key wait for, as a finding of our own in words fit for a notice."""
        for pause in self.standing.all():
            if pause.key == key:
                why = pause.outcome
                return Outcome(Verdict.RETRY, why.status, f"provider {key}: {why.reply}", OURSELVES, own=True, mend=why.mend)
        return Outcome(Verdict.RETRY, "4.3.2", f"its turn with provider {key.removesuffix(IN_LINE)}", OURSELVES, own=True)

    def _crowded(self, key: str) -> bool:
        return any(lane.crowded and lines.key(name) == key for name, lane in self.lanes.items())

    async def _refuse(self, group: Group, refusals: Sequence[tuple[str, CannotCarry]]) -> None:
        """No provider of the route can carry it: it fails, and the bounce names each reason."""
        text = "no provider of the route can carry this message: " + "; ".join(f"{name}: {refusal}" for name, refusal in refusals)
        status = refusals[0][1].status if refusals else "5.3.5"
        outcome = Outcome(Verdict.PERM_MSG, status, text, OURSELVES, own=True)
        reasons = [f"{name}: {reason}" for name, refusal in refusals for reason in refusal.reasons]
        await self._closing.fail(group.entry, group.route, dict.fromkeys(group.addresses, outcome), reasons)
