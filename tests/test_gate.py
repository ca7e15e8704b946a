"""The gate of a provider: slots and budget shared fairly, and whole again whatever happens to who waits."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.budgets import Allowance, Budget, Quota, Rate
from relay.delivery.gate import Gate, GateShut, Pass

NOW = 1_795_197_421.0


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is simulated: where nothing is ready, the next timer is. It counts how often a timer woke it."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.wakes = 0

    def time(self) -> float:
        return self.passed

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override] # its types are of no use here
        self.wakes += 1
        return super().call_at(when, callback, *args, context=context)

    def _run_once(self) -> None:
        inside = cast(Any, self)
        if not inside._ready and inside._scheduled:
            self.passed = max(self.passed, inside._scheduled[0].when())
        inside_run = cast(Any, super())
        inside_run._run_once()


def simulated(work: Callable[[], Any]) -> Loop:
    """Run a coroutine in simulated time."""
    loop = Loop()
    try:
        loop.run_until_complete(asyncio.wait_for(work(), 10**7))
    finally:
        loop.close()
    return loop


def wall() -> float:
    """Unix seconds in simulated time."""
    return NOW + asyncio.get_running_loop().time()


def gate(slots: int, *rates: Rate, **more: Any) -> Gate:
    """A gate with a budget of these rates."""
    return Gate(slots, Budget("a", Allowance(rates=rates, **more)), wall)


async def settle() -> None:
    """Until everything that is ready has run."""
    for _ in range(20):
        await asyncio.sleep(0)


def used(which: Gate) -> int:
    """What of its only limit is used."""
    assert which.budget is not None
    return which.budget.shown(wall())[0].used


class Demand:
    """Flows of endless demand: `had` counts what each was let in for, `waits` how long each let-in took."""

    def __init__(self, which: Gate, hold: float = 0.01) -> None:
        self.gate = which
        self.hold = hold
        self.had: Counter[str] = Counter()
        self.waits: dict[str, list[float]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, flow: str, weight: int = 4, *, workers: int = 30, amount: int = 1, pause: float = 0.0) -> None:
        """So many wait at any time; with `pause` each comes again only after so many seconds."""
        for _ in range(workers):
            self._tasks.append(asyncio.create_task(self._work(flow, weight, amount, pause)))

    async def _work(self, flow: str, weight: int, amount: int, pause: float) -> None:
        while True:
            came = wall()
            turn = await self.gate.enter(flow, weight, amount)
            self.waits.setdefault(flow, []).append(wall() - came)
            self.gate.begun(turn)
            self.had[flow] += amount
            await asyncio.sleep(self.hold)
            self.gate.leave(turn)
            await asyncio.sleep(pause)

    async def end(self) -> None:
        """Cancel everybody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def test_slots_are_shared_by_weight() -> None:
    """16 : 4 : 1 of a busy provider, and nobody starves."""

    async def work() -> None:
        demand = Demand(Gate(5, None, wall))
        for flow, weight in (("high", 16), ("normal", 4), ("low", 1)):
            demand.begin(flow, weight)
        await asyncio.sleep(21)
        await demand.end()
        total = sum(demand.had.values())
        assert total >= 10_000
        assert pytest.approx([16 / 21, 4 / 21, 1 / 21], abs=0.01) == [demand.had[flow] / total for flow in ("high", "normal", "low")]

    simulated(work)


def test_a_budget_is_shared_by_weight_and_amount() -> None:
    """What a flow takes of the budget is its share, however much it takes at a time."""

    async def work() -> None:
        demand = Demand(gate(20, Rate(150, 10)))
        demand.begin("few", 4)
        demand.begin("many", 4, amount=5)
        demand.begin("low", 1)
        await asyncio.sleep(600)
        await demand.end()
        total = sum(demand.had.values())
        assert total >= 0.95 * 9000
        assert pytest.approx([4 / 9, 4 / 9, 1 / 9], abs=0.02) == [demand.had[flow] / total for flow in ("few", "many", "low")]

    simulated(work)


@pytest.mark.parametrize("rate", [Rate(14, 1), Rate(150, 10), Rate(600, 60), Rate(100, 3600)])
def test_a_newcomer_does_not_wait_behind_a_burst(rate: Rate) -> None:
    """With another flow's endless demand: at most two times W / L, from the burst on."""

    async def work() -> None:
        demand = Demand(gate(20, rate), hold=0.001)
        demand.begin("burst", workers=500)
        demand.begin("trickle", workers=1, pause=rate.seconds / 7.3)
        await asyncio.sleep(4 * rate.seconds)
        await demand.end()
        assert len(demand.waits["trickle"]) >= 20
        assert max(demand.waits["trickle"]) <= 4.1 * rate.seconds / rate.count
        assert sorted(demand.waits["trickle"])[10] <= 2.1 * rate.seconds / rate.count

    simulated(work)


def test_a_newcomer_of_low_priority_is_no_exception() -> None:
    """Its first one goes at once, as its share lets it; only more than that waits."""

    async def work() -> None:
        demand = Demand(gate(20, Rate(14, 1)), hold=0.001)
        demand.begin("high", 16, workers=500)
        await asyncio.sleep(10)
        demand.begin("low", 1, workers=1, pause=5)
        await asyncio.sleep(60)
        await demand.end()
        assert len(demand.waits["low"]) >= 10
        assert max(demand.waits["low"]) <= 2.2 * 1.02 / 14

    simulated(work)


def test_being_idle_is_no_credit() -> None:
    """Who wanted nothing for long has no more than its share afterwards."""

    async def work() -> None:
        demand = Demand(gate(20, Rate(10, 1)))
        demand.begin("a")
        await asyncio.sleep(100)
        demand.begin("b")
        before = demand.had.copy()
        await asyncio.sleep(20)
        await demand.end()
        assert abs((demand.had["a"] - before["a"]) - demand.had["b"]) <= 2

    simulated(work)


def test_a_large_amount_is_not_starved_by_small_ones() -> None:
    """Whose turn it is, nobody passes by."""

    async def work() -> None:
        demand = Demand(gate(20, Rate(20, 1)))
        demand.begin("small")
        await asyncio.sleep(5)
        demand.begin("large", workers=1, amount=15, pause=1)
        await asyncio.sleep(30)
        await demand.end()
        assert demand.had["large"] >= 5 * 15
        assert max(demand.waits["large"]) <= 2.5

    simulated(work)


def test_nobody_polls() -> None:
    """A timer for each that is let in by the budget, and none while slots are what is missing."""

    async def full() -> None:
        which = gate(1, Rate(14, 1))
        turn = await which.enter("a", 4, 1)
        waiting = [asyncio.create_task(which.enter("a", 4, 1)) for _ in range(100)]
        await asyncio.sleep(1000)
        which.shut()
        await asyncio.gather(*waiting, return_exceptions=True)
        which.leave(turn)

    assert simulated(full).wakes <= 4

    async def spent() -> None:
        which = gate(50, Rate(10, 10))

        async def one() -> None:
            which.begun(await which.enter("a", 4, 1))

        await asyncio.gather(*(one() for _ in range(30)))

    assert simulated(spent).wakes <= 60


async def test_a_slot_and_room_are_taken_at_once() -> None:
    """Who need not wait does not; `busy` says whether a slot is free."""
    which = Gate(2, None, lambda: NOW)
    turns = [await which.enter("a", 1, 1) for _ in range(2)]
    assert (True, 0) == (which.busy, which.waiting)
    third = asyncio.create_task(which.enter("b", 1, 1))
    await settle()
    assert 1 == which.waiting
    which.leave(turns[0])
    which.leave(turns[0])
    assert "b" == (await third).flow
    assert which.busy
    assert ((), 7) == (which.begun(turns[1]), which.more(turns[1], 7))


def test_what_is_taken_and_not_begun_is_given_back() -> None:
    """By leaving, by saying so, and in part; more is taken of what the budget has now."""

    async def work() -> None:
        which = gate(5, Rate(10, 1))
        turn = await which.enter("a", 4, 2)
        assert (3, 0, 5) == (which.more(turn, 9), which.more(turn, 0), used(which))
        assert [("a rate 1", 2)] == [(row.budget, row.amount) for row in which.begun(turn, 2)]
        which.give_back(turn, 1)
        assert 4 == used(which)
        which.leaves(turn)
        which.leave(turn)
        assert 2 == used(which)
        await asyncio.sleep(1.1)
        assert 0 == used(which)

    simulated(work)


def test_what_is_given_back_lets_the_next_one_in() -> None:
    """At once, not when the timer comes."""

    async def work() -> None:
        which = gate(5, Rate(1, 3600))
        turn = await which.enter("a", 4, 1)
        other = asyncio.create_task(which.enter("b", 4, 1))
        await asyncio.sleep(1)
        which.leave(turn)
        await other
        assert 1.0 == asyncio.get_running_loop().time()

    simulated(work)


class Crowd:
    """Those who come and go at a gate by chance. `begun` counts what left."""

    def __init__(self, which: Gate, chance: random.Random) -> None:
        self.gate = which
        self.chance = chance
        self.begun = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def one(self, flow: str) -> None:
        """Enter, perhaps begin, leave."""
        chance, amount = self.chance, self.chance.randint(1, 3)
        turn = await self.gate.enter(flow, chance.choice((1, 4, 16)), amount)
        try:
            await asyncio.sleep(chance.random() if chance.random() < 0.5 else 0)
            if chance.random() < 0.7:
                self.gate.begun(turn)
                self.begun += amount
                await asyncio.sleep(0)
                self.gate.leaves(turn)
            await asyncio.sleep(chance.random())
        finally:
            self.gate.leave(turn)

    def cancel(self, share: float) -> None:
        """Some of them."""
        for task in self.tasks:
            if self.chance.random() < share:
                task.cancel()

    async def come(self) -> None:
        """One after the other, while others are cancelled and the gate shuts, until all are gone."""
        for _ in range(40):
            self.tasks.append(asyncio.create_task(self.one(self.chance.choice("abc"))))
            self.cancel(0.04)
            if self.chance.random() < 0.1:
                self.gate.shut()
            for _ in range(self.chance.randint(0, 3)):
                await asyncio.sleep(0 if self.chance.random() < 0.7 else self.chance.random())
            self.cancel(0.02)
        found = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert set() == {type(one) for one in found} - {type(None), asyncio.CancelledError, GateShut}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), slots=st.integers(1, 4), limited=st.booleans())
def test_cancellation_leaves_everything_whole(seed: int, slots: int, limited: bool) -> None:
    """Whoever is cancelled at any moment: at the end every slot is free, and of the budget only what left is gone."""

    async def work() -> None:
        which = gate(slots, Rate(12, 10), daily=1000) if limited else Gate(slots, None, wall)
        crowd = Crowd(which, random.Random(seed))
        await crowd.come()
        assert (False, 0) == (which.busy, which.waiting)
        if which.budget:
            assert crowd.begun == which.budget.shown(wall())[1].used
        turns = [await which.enter("z", 1, 1) for _ in range(slots)]
        assert which.busy
        for turn in turns:
            which.leave(turn)

    simulated(work)


async def test_who_waits_is_let_go_by_a_gate_that_shuts() -> None:
    """All at once; who comes later waits as ever."""
    which = Gate(1, None, lambda: NOW)
    turn = await which.enter("a", 1, 1)
    waiting = [asyncio.create_task(which.enter(flow, 1, 1)) for flow in "aab"]
    await settle()
    which.shut()
    assert [GateShut] * 3 == [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)]
    later = asyncio.create_task(which.enter("a", 1, 1))
    await settle()
    which.leave(turn)
    assert isinstance(await later, Pass)


def test_nobody_waits_at_the_gate_for_a_quota() -> None:
    """Nor for what never fits: both are let go, and smaller ones go in."""

    async def work() -> None:
        which = gate(5, Rate(100, 1), daily=10)
        with pytest.raises(GateShut):
            await which.enter("a", 4, 11)
        turn = await which.enter("a", 4, 9)
        which.begun(turn)
        with pytest.raises(GateShut):
            await which.enter("a", 4, 2)
        which.begun(await which.enter("a", 4, 1))
        with pytest.raises(GateShut):
            await which.enter("a", 4, 1)
        assert 0.0 == asyncio.get_running_loop().time()

    simulated(work)


def test_another_budget() -> None:
    """A reload's budget counts from now on, with what was spent of the one before; what others changed is looked at when told."""

    async def work() -> None:
        which = gate(9, Rate(2, 3600))
        first = await which.enter("a", 4, 1)
        waiting = [asyncio.create_task(which.enter("a", 4, 1)) for _ in range(4)]
        await settle()
        budget = Budget("a", Allowance(rates=(Rate(6, 3600),), ask_rate=True))
        assert which.budget is not None
        budget.keep(which.budget)
        which.budget = budget
        which.look()
        await settle()
        assert 3 == sum(task.done() for task in waiting) + 1
        which.begun(first)
        assert 3 == used(which)
        for task in waiting:
            task.cancel()
        budget.asked(Quota(1.0, None, 0), wall())
        which.look()
        await asyncio.gather(*waiting, return_exceptions=True)

    simulated(work)


def test_a_clock_that_is_set_opens_nothing() -> None:
    """With a steady clock beside it, an hour forward is no hour that passed."""

    async def work() -> None:
        ahead = 0.0
        loop = asyncio.get_running_loop()
        which = Gate(9, Budget("a", Allowance(rates=(Rate(1, 60),))), lambda: NOW + ahead + loop.time(), loop.time)
        which.begun(await which.enter("a", 4, 1))
        ahead = 3600.0
        which.leave(await which.enter("a", 4, 1))
        assert 60 <= loop.time() <= 61

    simulated(work)
