"""The lanes of all providers: opened, put in the place of others by a reload, closed when the last one has left.

Promises: a provider whose transport is the same object goes on as if nothing had happened, and what was spent of its budget stays
spent whatever a reload changes. Nobody waits for a transport to close: a server that does not answer our farewell must hold up
neither a message nor a reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.budgets import Allowance, Budget
from relay.delivery.batches import Batches
from relay.delivery.gate import Gate, Pass
from relay.delivery.lanes import Lane, Made, Rider, room_for
from relay.delivery.seats import Seat, Turn
from relay.log import Events
from relay.model import Job
from relay.transports.base import Transport

CLOSE = 10.0
"""Seconds that a transport which is used no more may take to close its connections."""

Prepare = Callable[[str, Lane, Seat], Awaitable[Sequence[Job] | Turn]]
Attempt = Callable[[str, Lane, Sequence[Rider], Pass], Awaitable[Sequence[Made | BaseException | None]]]


@dataclass(slots=True)
class Fleet:
    """The lanes by provider. `prepare` and `attempt` are what their batches are given."""

    prepare: Prepare
    attempt: Attempt
    events: Events
    clock: Callable[[], float]
    steady: Callable[[], float] | None = None
    lanes: dict[str, Lane] = field(default_factory=dict)
    _budgets: dict[str, Budget] = field(default_factory=dict)
    _batches: dict[Lane, Batches] = field(default_factory=dict)
    _closers: set[asyncio.Task[None]] = field(default_factory=set)

    def configure(self, transports: Mapping[str, Transport], allowances: Mapping[str, Allowance]) -> set[str]:
        """Use these transports from now on; returns the providers that go on as they were.

        What is under way ends with the transport it began with, which is closed after the last one.
        """
        kept = {name for name, lane in self.lanes.items() if transports.get(name) is lane.transport}
        before, self.lanes = self.lanes, {}
        self._allow({name: allowances.get(name, Allowance()) for name in transports})
        for name, transport in transports.items():
            budget = self._budgets[allowances.get(name, Allowance()).shared_with or name]
            lane = self.lanes[name] = before[name] if name in kept else self._opened(name, transport, budget)
            lane.budget = lane.gate.budget = budget
            lane.gate.look()
        for name, lane in before.items():
            if name not in kept:
                lane.retired = True
                lane.gate.shut()
                if batches := self._batches.get(lane):
                    batches.hurry()
                self.close_unused(lane)
        return kept

    def _opened(self, name: str, transport: Transport, budget: Budget) -> Lane:
        lane = Lane(transport, Gate(transport.concurrency, budget, self.clock, self.steady), budget, room_for(transport))
        if transport.batching.jobs > 1:
            self._batches[lane] = Batches(
                lane,
                prepare=lambda seat: self.prepare(name, lane, seat),
                attempt=lambda riders, turn: self.attempt(name, lane, riders, turn),
            )
        return lane

    def _allow(self, allowances: Mapping[str, Allowance]) -> None:
        """A budget for each provider that has one of its own."""
        before, self._budgets = self._budgets, {}
        for name, allowance in allowances.items():
            known = before.get(name)
            if allowance.shared_with:
                continue
            if known and known.allowance == allowance:
                self._budgets[name] = known
                continue
            budget = self._budgets[name] = Budget(name, allowance)
            if known:
                budget.keep(known)

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """Every budget, by the provider whose own it is."""
        return self._budgets

    def batches(self, lane: Lane) -> Batches | None:
        """Those of a lane whose transport takes several messages at once."""
        return self._batches.get(lane)

    def shut(self) -> None:
        """Who waits for a turn chooses again."""
        for lane in self.lanes.values():
            lane.gate.shut()

    def hurry(self) -> None:
        """Gather no longer: nothing new comes."""
        for batches in self._batches.values():
            batches.hurry()

    def more_is_due(self, more: bool) -> None:
        """Whether the spool had something due when it was asked last."""
        for batches in self._batches.values():
            batches.more_is_due(more)

    def close_unused(self, lane: Lane) -> None:
        """Close the transport of a lane that nobody is on and nobody will be."""
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
            self.events.bug(f"closing the transport of {transport.provider}", error)

    async def cut_off(self) -> None:
        """Give up every request with several messages. Nobody is there any more who would record what came of it."""
        await asyncio.gather(*(batches.close() for batches in self._batches.values()))

    async def closed(self) -> None:
        """Until the transports that are used no more are closed, or given up."""
        await asyncio.gather(*self._closers)
