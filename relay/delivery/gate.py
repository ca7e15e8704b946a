"""The gate of a provider: who may make an attempt next, of those who wait for a slot and for room in the budget.

Promises: each flow (a route) has its share by weight, and a flow that has just come waits for no more than one turn of each other
one, however many of theirs wait (start-time fair queueing, Goyal, Vin and Cheng 1996); time in which a flow wanted nothing is no
credit. Who is next is let in when a slot is free and the budget has room for what it wants; nobody passes it by, so that a large
amount is not starved by small ones. Nobody polls: a timer stands for the time at which the budget has room.

How it fails: whoever is cancelled, at any moment, leaves slots and budget as if it had never come. Who could only be let in after a
day's or a month's quota has room again, or never, is let go with GateShut.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.budgets import Budget, Spent, Take

_SOON = 0.001  # seconds: the shortest timer


class GateShut(Exception):
    """Nobody is let in now: choose again."""


@dataclass(slots=True, eq=False)
class Pass:
    """Leave to make attempts with one slot, until `leave`; `take` is its part of the budget."""

    flow: str
    weight: int
    take: Take | None
    here: bool = True


@dataclass(slots=True, eq=False)
class _Waiter:
    amount: int
    weight: int
    let_in: asyncio.Future[Pass]


@dataclass(slots=True, eq=False)
class _Flow:
    """A flow that waits, or had its turn while others did: `spent` is its virtual time; `turn`, whether it is among the turns."""

    name: str
    spent: float = 0.0
    turn: bool = False
    waiters: deque[_Waiter] = field(default_factory=deque)


class Gate:
    """One provider's slots and budget. `clock` gives Unix seconds, for the budget; `steady` seconds that nobody sets (and that go on
    while the host sleeps): where it is given, a step of the clock is not taken for time that passed. `budget` may be another one from
    a moment on; then `look`."""

    def __init__(self, slots: int, budget: Budget | None, clock: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self.slots = slots
        self.budget = budget
        self._clock = clock
        self._steady = steady
        self._inside = 0
        self._flows: dict[str, _Flow] = {}
        self._turns: list[tuple[float, int, _Flow]] = []  # a heap by virtual time; each flow is there at most once
        self._virtual = 0.0  # of who was let in last
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether no slot is free now."""
        return self._inside >= self.slots

    @property
    def waiting(self) -> int:
        """How many wait to be let in."""
        return sum(len(flow.waiters) for flow in self._flows.values())

    async def enter(self, flow: str, weight: int, amount: int) -> Pass:
        """Wait for a slot, and for room for `amount` in the budget. Raises GateShut."""
        waiter = _Waiter(amount, weight, asyncio.get_running_loop().create_future())
        self._stand(flow, waiter)
        self.look()
        try:
            return await waiter.let_in
        except asyncio.CancelledError:
            if waiter.let_in.done() and not waiter.let_in.cancelled() and waiter.let_in.exception() is None:
                self.leave(waiter.let_in.result())
            else:
                self.look()  # the next one may want less
            raise

    def leave(self, pass_: Pass) -> None:
        """The slot is free again; what was taken and not begun is given back. Once is enough."""
        if pass_.here:
            pass_.here = False
            self._inside -= 1
            self.give_back(pass_)

    def begun(self, pass_: Pass, amount: int | None = None) -> Sequence[Spent]:
        """A request with so much of what was taken (all of it by default) is about to leave: the rows to be stored first."""
        if pass_.take is None:
            return ()
        return pass_.take.budget.begun(pass_.take, self._now(), amount)

    def leaves(self, pass_: Pass, late: float | None = None) -> None:
        """What was begun last leaves now, after its rows were stored; or it left `late` seconds after that was said, when a
        connection was open. It is counted from then, for that is when the provider sees it."""
        if pass_.take is not None:
            pass_.take.budget.leaves(pass_.take, self._now(), late)

    def unsent(self, pass_: Pass) -> None:
        """What was begun last did not leave: there was no connection."""
        if self.budget is not None and pass_.take is not None:
            self.budget.unsent(pass_.take)
            self.look()

    def more(self, pass_: Pass, most: int) -> int:
        """Take up to `most` more at once, of what the budget has now; returns how much. It counts for the flow's share."""
        if pass_.take is None:
            return most
        now = self._now()
        amount = pass_.take.budget.room(now, most) if most > 0 else 0
        if amount:
            pass_.take.budget.add(pass_.take, now, amount)
            if flow := self._flows.get(pass_.flow):
                flow.spent += amount / pass_.weight
        return amount

    def give_back(self, pass_: Pass, amount: int | None = None) -> None:
        """So much of what was taken and not begun (all of it by default) will not leave."""
        if pass_.take is not None:
            pass_.take.budget.give_back(pass_.take, amount)
        self.look()

    def shut(self) -> None:
        """Let go everybody who waits now; who comes later may wait."""
        for flow in self._flows.values():
            while flow.waiters:
                _let_go(flow.waiters.popleft())
        self.look()

    def look(self) -> None:
        """Let in whoever may go in now. Wanted after what only others know: the budget is another one, or has been told of a quota."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while not self.busy and (flow := self._next()):
            if self.budget is None:
                self._let_in(flow, None)
                continue
            now, amount = self._now(), flow.waiters[0].amount
            wait = self.budget.wait(now, amount)
            if wait == 0.0:
                self._let_in(flow, self.budget.take(now, amount))
            elif wait == math.inf or self.budget.exhausted(now, amount):
                _let_go(flow.waiters.popleft())
            else:
                self._timer = asyncio.get_running_loop().call_later(max(wait, _SOON), self.look)
                return

    def _stand(self, name: str, waiter: _Waiter) -> None:
        """The last place of its flow. A flow that did not wait begins where who was let in last began: it has no credit."""
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = _Flow(name)
        if not flow.waiters:
            flow.spent = max(flow.spent, self._virtual)
        flow.waiters.append(waiter)
        if not flow.turn:
            flow.turn = True
            heapq.heappush(self._turns, (flow.spent, next(self._order), flow))

    def _next(self) -> _Flow | None:
        """The flow whose turn it is: of those that wait, the one with the least virtual time."""
        while self._turns:
            spent, _, flow = self._turns[0]
            while flow.waiters and flow.waiters[0].let_in.done():  # it was cancelled
                flow.waiters.popleft()
            if not flow.waiters:
                heapq.heappop(self._turns)
                flow.turn = False
            elif spent != flow.spent:
                heapq.heapreplace(self._turns, (flow.spent, next(self._order), flow))
            else:
                return flow
        # Nobody waits. What each had is forgotten: it was taken from nobody.
        self._flows.clear()
        self._virtual = 0.0
        return None

    def _let_in(self, flow: _Flow, take: Take | None) -> None:
        waiter = flow.waiters.popleft()
        self._virtual = flow.spent
        flow.spent += max(waiter.amount, 1) / waiter.weight
        self._inside += 1
        waiter.let_in.set_result(Pass(flow.name, waiter.weight, take))

    def _now(self) -> float:
        """The clock's time, by which the budget counts; the budget is told whether the clock was set."""
        now = self._clock()
        if self._steady and self.budget:
            self.budget.stepped(now - self._steady())
        return now


def _let_go(waiter: _Waiter) -> None:
    if not waiter.let_in.done():
        waiter.let_in.set_exception(GateShut())
