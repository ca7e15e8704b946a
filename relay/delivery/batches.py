"""Batches: groups that are due together for one provider, gathered until they fill a request.

Promises: nobody waits longer than the transport's `wait`, and nobody waits for others while nothing more is due in the spool;
a request leaves when it is full, or with those who are there. A slot of the provider is held while a batch is prepared and
attempted, so that what lies in memory is bounded. A message that makes several requests, a large one, and one that the
transport does not share go alone. Seats are given to routes by their shares, and only as many as the provider's budget lets go.

How it fails: whatever happens to a batch, each group hears of it at its seat: what came of the attempt, the spool's error, or
that it has to go alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

from relay.delivery.gate import GateShut, Pass
from relay.delivery.lanes import Group, Lane, Made, Rider, Search
from relay.delivery.seats import Seat, Seats, Turn
from relay.model import Job
from relay.transports.base import Share

LARGE = 256 * 1024
"""Octets from which on a message goes alone: a batch saves it nothing."""
MOST = 2 * 1024 * 1024
"""Octets of one batch, however much the provider takes: a slow line must carry it within the time-out of one request."""
PACE = 0.1
"""Seconds between two requests that are not full, so that a trickle is no storm of requests."""
FLOW = ""
"""The name of all batches together at the provider's gate: no route is called so."""


Prepare = Callable[[Seat], Awaitable[Sequence[Job] | Turn]]
Attempt = Callable[[Sequence[Rider], Pass], Awaitable[Sequence[Made | BaseException | None]]]


@dataclass(slots=True)
class _Place:
    """A turn at the provider's gate, if one is held, and whether a request has used it."""

    turn: Pass | None
    used: bool = False


class Batches:
    """The batches of one lane. `prepare` says what a seat's group would send, or why not; `attempt` makes one attempt of riders
    that share a request, and says of each what came of it (None: it may not go now)."""

    def __init__(self, lane: Lane, prepare: Prepare, attempt: Attempt) -> None:
        self._lane = lane
        self._batching = lane.transport.batching
        self._prepare = prepare
        self._attempt = attempt
        self._seats = Seats()
        self._news = asyncio.Event()
        self._idle = True  # nothing more is due in the spool
        self._left = 0.0  # when the last batch left
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._hurried = False

    def may_ride(self, group: Group) -> bool:
        """Whether the group may share a request."""
        return group.entry.facts.size < LARGE

    async def ride(self, group: Group, search: Search) -> Made | Turn:
        """Take a seat, and hear what came of it. Raises SpoolError."""
        seat = Seat(group, search, _now())
        self._seats.add(seat)
        self._news.set()
        if not self._gathering:
            self._gathering = True
            self._spawn(self._gather())
        return await seat.heard

    def more_is_due(self, more: bool) -> None:
        """Whether the spool has just given what was due, or has nothing."""
        self._idle = not more
        if self._idle:
            self._news.set()

    def hurry(self) -> None:
        """Gather no longer: nothing new comes."""
        self._hurried = True
        self._news.set()

    async def close(self) -> None:
        """Give up everything under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gather(self) -> None:
        """Send batches on their way as long as there are seats."""
        gate = self._lane.gate
        try:
            while len(self._seats):
                await self._fill()
                seat = self._seats.next
                first = self._of_request() + self._of_group(seat.group)
                try:
                    turn = await gate.enter(FLOW, self._seats.weight, first)  # more may come meanwhile
                except GateShut:
                    for seat in self._seats.take(len(self._seats)):
                        seat.tell(Turn.AGAIN)
                    return
                wanted = self._of_request() + sum(map(self._of_group, self._seats.groups(self._batching.jobs)))
                have = first + gate.more(turn, max(wanted - first, 0))
                seats = self._seats.take(self._batching.jobs, have - self._of_request(), self._of_group, seat)
                self._left = _now()
                self._spawn(self._carry(seats, _Place(turn)))
        except Exception as error:  # a bug of ours: every group is given back by whoever sees it through
            for seat in self._seats.take(len(self._seats)):
                seat.tell(error)
        finally:
            self._gathering = False

    def _of_request(self) -> int:
        """What one more request takes of the budget, whatever is in it."""
        return self._lane.budget.amount(requests=1, messages=0, recipients=0)

    def _of_group(self, group: Group) -> int:
        """What a group in it takes beside."""
        return self._lane.budget.amount(requests=0, messages=1, recipients=group.heads)

    def _of_riders(self, riders: Sequence[tuple[Seat, Rider]]) -> int:
        return sum(self._of_group(seat.group) for seat, _ in riders)

    async def _fill(self) -> None:
        """Until the request is full, or whoever is there should wait no longer."""
        while (wait := self._worth_waiting()) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _worth_waiting(self) -> float:
        """Seconds for which it pays to wait for others; 0 when the batch should leave."""
        if len(self._seats) >= self._batching.jobs or self._lane.retired or self._hurried:
            return 0.0
        now = _now()
        longest = self._seats.first.taken + self._batching.wait - now
        if not self._idle:
            return longest
        return min(longest, self._left + PACE - now)

    async def _carry(self, seats: Sequence[Seat], place: _Place) -> None:
        """Prepare and attempt what these send. The place that was found for it is given back."""
        most = min(self._batching.octets, MOST)
        kinds: dict[str, list[tuple[Seat, Rider]]] = {}
        octets = 0
        try:
            async for seat, rider, share in self._riders(seats):
                if octets + share.octets > most:
                    await self._leave(kinds, place)
                    octets = 0
                octets += share.octets
                kinds.setdefault(share.kind, []).append((seat, rider))
            await self._leave(kinds, place)
        except Exception as error:  # a bug of ours: every group is given back by whoever sees it through
            for seat in seats:
                seat.tell(error)
        finally:
            if place.turn:
                self._lane.gate.leave(place.turn)

    async def _leave(self, kinds: dict[str, list[tuple[Seat, Rider]]], place: _Place) -> None:
        """One attempt for each kind: several at once where slots are free, so that the mail of many senders does not stand behind
        each other in one slot."""
        while kinds:
            _, riders = kinds.popitem()
            if kinds and not self._lane.gate.busy:
                if place.turn:  # they take their part of the budget anew
                    self._lane.gate.give_back(place.turn, self._of_riders(riders))
                # Not waited for: who holds a slot and waits for another one could wait for ever.
                self._spawn(self._go_beside(riders, _Place(None)))
                await asyncio.sleep(0)  # it takes its slot
            else:
                await self._go(riders, place)

    async def _go_beside(self, riders: Sequence[tuple[Seat, Rider]], place: _Place) -> None:
        """An attempt with a slot of its own."""
        try:
            await self._go(riders, place)
        finally:
            if place.turn:
                self._lane.gate.leave(place.turn)

    async def _go(self, riders: Sequence[tuple[Seat, Rider]], place: _Place) -> None:
        """One attempt, and each hears what came of it."""
        try:
            turn = await self._turn(place, riders)
            made = await self._attempt([rider for _, rider in riders], turn)
        except GateShut:
            for seat, _ in riders:
                seat.tell(Turn.AGAIN)
            return
        except Exception as error:  # a bug of ours: every group is given back by whoever sees it through
            for seat, _ in riders:
                seat.tell(error)
            return
        for (seat, _), one in zip(riders, made, strict=True):
            seat.tell(Turn.AGAIN if one is None else one)

    async def _turn(self, place: _Place, riders: Sequence[tuple[Seat, Rider]]) -> Pass:
        """The turn for one more request: the one that is there, once; each other takes its part of the budget first."""
        if place.turn and (not place.used or not self._of_request()):
            place.used = True
            return place.turn
        if place.turn:
            turn, place.turn = place.turn, None
            self._lane.gate.leave(turn)
        place.turn = await self._lane.gate.enter(FLOW, 1, self._of_request() + self._of_riders(riders))
        place.used = True
        return place.turn

    async def _riders(self, seats: Sequence[Seat]) -> AsyncIterator[tuple[Seat, Rider, Share]]:
        """Those who share a request, prepared one after the other; the others hear what becomes of them. Of two mails of one message to
        one address, as a redirect makes them, one goes alone: what became of which could not be told."""
        riding: set[tuple[str, str]] = set()
        for seat in seats:
            await asyncio.sleep(0)  # others have their turn between two messages
            if seat.heard.done():  # it has left
                continue
            try:
                jobs = await self._prepare(seat)
            except Exception as error:
                seat.tell(error)
                continue
            if isinstance(jobs, Turn):
                seat.tell(jobs)
                continue
            mine = {(jobs[0].queue_id, recipient.address) for recipient in jobs[0].recipients}
            if len(jobs) > 1 or (share := self._lane.transport.share(jobs[0])) is None or not riding.isdisjoint(mine):
                seat.tell(Turn.ALONE)
            else:
                riding |= mine
                yield seat, Rider(seat.group, jobs[0]), share


def _now() -> float:
    return asyncio.get_running_loop().time()
