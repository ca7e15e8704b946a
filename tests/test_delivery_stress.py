"""Delivery at its worst, by chance: batches, every verdict, reloads, a spool that fails now and then, and stops in the midst of it.

Whatever comes, each message ends once, nobody is attempted twice at a time, and what a provider took twice was excused before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from relay.budgets import Allowance, Count, Rate
from relay.delivery import Delivery, closing, loop
from relay.errors import SpoolError
from relay.model import Job, Outcome, State, Verdict
from relay.routing import Match, Route, Split
from relay.spool.base import Filter
from relay.transports.base import ALONE, Batching, Share
from tests.fakes import FakeTransport, outcome
from tests.test_delivery import BOB, CAROL, Stage

SEEDS = range(int(os.environ.get("RELAY_STRESS_SEEDS", "4")))
LIVES, STEPS = 3, 40
NAMES = ("batches", "singles")
FAULTS = ("begin", "record", "postpone", "wait", "claim", "message", "finish")
VERDICTS = {Verdict.OK: 60, Verdict.UNKNOWN: 5, Verdict.PERM_RCPT: 5, Verdict.PERM_MSG: 5, Verdict.RETRY: 12} | dict.fromkeys(
    (Verdict.THROTTLE, Verdict.PAUSE, Verdict.CONFIG), 2
)


@dataclass
class Ledger:
    """What the remotes saw. The keys are (queue id, address)."""

    chance: random.Random
    calm: bool = False
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    excused: set[tuple[str, str]] = field(default_factory=set)  # an attempt had no answer
    under_way: Counter[tuple[str, str]] = field(default_factory=Counter)
    at_once: set[tuple[str, str]] = field(default_factory=set)  # attempted twice at a time


class Wild(FakeTransport):
    """A provider that does anything."""

    def __init__(self, name: str, ledger: Ledger, batching: Batching) -> None:
        chance = ledger.chance
        super().__init__(name, batching=batching, concurrency=chance.choice((1, 3)), split=chance.random() < 0.2)
        if batching.jobs > 1:
            self.shares = lambda job: Share(job.queue_id[-1], 300)
        self.identities = ("domain=example.com",)
        self.ledger = ledger

    async def attempt(self, jobs: Sequence[Job]) -> Mapping[tuple[str, str], Outcome]:
        ledger, chance = self.ledger, self.ledger.chance
        keys = [(job.queue_id, recipient.address) for job in jobs for recipient in job.recipients]
        ledger.under_way.update(keys)
        ledger.at_once |= {key for key in keys if ledger.under_way[key] > 1}
        try:
            found = {key: self._one() for key in keys}
            ledger.taken.update(
                key for key in keys if found[key].verdict is Verdict.OK or (found[key].maybe_relayed and chance.random() < 0.5)
            )
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            if not ledger.calm and chance.random() < 0.03:
                raise RuntimeError("a bug")
        except BaseException:
            ledger.excused.update(keys)
            raise
        finally:
            ledger.under_way.subtract(keys)
        ledger.excused |= {key for key in keys if found[key].maybe_relayed}
        return found

    def _one(self) -> Outcome:
        chance = self.ledger.chance
        if self.ledger.calm:
            return outcome(Verdict.OK)
        (verdict,) = chance.choices(list(VERDICTS), list(VERDICTS.values()))
        found = outcome(verdict)
        return replace(found, own=True) if verdict is Verdict.PERM_MSG and chance.random() < 0.5 else found


def configured(stage: Stage, ledger: Ledger) -> None:
    """Some or all of it anew."""
    chance = ledger.chance
    for name in ("batches", "singles"):
        if name not in stage.transports or chance.random() < 0.4:
            jobs = chance.choice((2, 5, 50)) if name == "batches" else 1
            batching = Batching(jobs, chance.choice((1000, 100_000)), chance.choice((0.0, 0.01))) if jobs > 1 else ALONE
            stage.transports = {**stage.transports, name: Wild(name, ledger, batching)}
    if len(stage.transports) == 2 and chance.random() < 0.15:  # gone until the next time
        del stage.transports[chance.choice(NAMES)]
    stage.routes = [route(chance, chance.choice(("bob", "robert")), Match(to=(BOB,))), route(chance, "default", Match())]


def route(chance: random.Random, name: str, match: Match) -> Route:
    """Any way by the two."""
    first, second = chance.sample(("batches", "singles"), 2)
    split = Split(((first, 2.0), (second, 1.0)), chance.choice(("recipient", "message"))) if chance.random() < 0.3 else None
    return Route(
        name,
        (first, second),
        match,
        patience=chance.choice((0.0, 900.0)),
        split=split,
        fallback=(second, first) if split else (),
        priority=chance.choice(("high", "normal", "low")),
        spills=chance.random() < 0.3,
        shadow=chance.choice(("", "", *NAMES)),
    )


def allowances(chance: random.Random) -> dict[str, Allowance]:
    """Often none."""
    if chance.random() < 0.5:
        return {}
    counts: list[Count] = ["requests", "messages", "recipients"]
    found = {
        name: Allowance((Rate(chance.choice((1, 5, 50)), 10.0),), chance.choice((None, 30)), None, chance.choice(counts)) for name in NAMES
    }
    return found if chance.random() < 0.5 else {NAMES[0]: found[NAMES[0]]}


async def one_step(stage: Stage, delivery: Delivery, ledger: Ledger, ids: list[str]) -> None:
    """Anything that may happen."""
    chance = ledger.chance
    match chance.randrange(9):
        case 0 | 1 | 2:
            some = [(BOB,), (CAROL,), (BOB, CAROL)]
            ids += await asyncio.gather(*(stage.submit(*chance.choice(some)) for _ in range(chance.randrange(1, 12))))
        case 3 | 4:
            stage.pass_time(chance.choice((1.0, 70.0, 2000.0)))
        case 5:
            configured(stage, ledger)
            await delivery.configure(stage.transports, stage.routes, stage.settings, allowances(chance))
        case 6:
            stage.spool.faults.setdefault(chance.choice(FAULTS), []).append(SpoolError("disk I/O error"))
        case 7:
            await an_admin(stage, delivery, ledger)
        case _:
            delivery.hurry()
    for _ in range(chance.randrange(40)):
        await asyncio.sleep(0)
    if chance.random() < 0.5:
        await stage.real.counts()  # time for the spool


async def an_admin(stage: Stage, delivery: Delivery, ledger: Ledger) -> None:
    """Says anything that may be said."""
    chance, some = ledger.chance, Filter(recipient=ledger.chance.choice(("", BOB)))
    name = chance.choice(NAMES)
    with contextlib.suppress(SpoolError):  # planted
        match chance.randrange(6):
            case 0:
                await delivery.pause(name, "by chance")
            case 1 | 2:
                await delivery.resume(name)
            case 3:
                await stage.real.reroute(some, (name,) if chance.random() < 0.5 else (), stage.clock(), even_if_maybe_sent=False)
            case 4:
                await stage.real.hold(some, stage.clock())
            case 5:
                await stage.real.release(some, stage.clock())


async def one_life(stage: Stage, ledger: Ledger, ids: list[str]) -> None:
    """Until it is stopped in the midst of everything."""
    configured(stage, ledger)
    async with stage.running(ledger.chance.random) as delivery:
        for _ in range(STEPS):
            await one_step(stage, delivery, ledger, ids)
        await delivery.drain(0)
    stage.spool.faults.clear()
    await stage.real.close()
    await stage.open()


def nothing_is_left(delivery: Delivery) -> None:
    """Neither in the lines nor in the slots nor among the probes."""
    carrier = delivery._carrier
    for lane in carrier.lanes.values():
        assert (0, 0, 0, 0, 0) == (lane.line, lane.active, lane.gate._inside, lane.gate.waiting, lane.budget._held)
    assert [] == [seat for batches in carrier.fleet._batches.values() for seat in batches._seats.take(1)]
    assert [] == [pause for pause in carrier.standing.all() if pause.probed]
    assert ({}, set()) == (delivery._under_way, carrier.recording)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(120)
async def test_whatever_comes_every_message_ends_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Three lives with faults, each cut off, then a calm one in which everything must come to its end."""
    monkeypatch.setattr(closing, "SPOOL_RETRY", (0.0,))
    monkeypatch.setattr(loop, "SPOOL_RETRY", (0.0,))
    monkeypatch.setattr(loop, "CLAIM", 20)
    monkeypatch.setattr("relay.delivery.lanes.LANE", 10)
    stage, ledger = Stage(tmp_path / "spool"), Ledger(random.Random(seed))
    ids: list[str] = []
    stage.settings = replace(stage.settings, expire=1e9)
    await stage.open()
    for _ in range(LIVES):
        await one_life(stage, ledger, ids)
    ledger.calm = True
    while len(stage.transports) < len(NAMES):
        configured(stage, ledger)
    async with stage.running() as delivery:
        for name in NAMES:
            await delivery.resume(name)
        while await stage.real.find(Filter(), 1):
            await stage.real.release(Filter(), stage.clock())  # one that may have been relayed by whom could not carry it any more
            stage.pass_time(3600)
            for _ in range(50):
                await stage.real.counts()
        await asyncio.gather(*delivery._tasks)
        nothing_is_left(delivery)
    await the_books_are_balanced(stage, ledger, ids)
    await stage.real.close()


async def the_books_are_balanced(stage: Stage, ledger: Ledger, ids: Sequence[str]) -> None:
    """Relayed is what was taken; failed what was not; and twice only what was excused."""
    assert set() == ledger.at_once
    assert [] == list(await stage.real.unfinished())
    for line in stage.events.found("maybe_twice"):
        ledger.excused |= {(str(line["queue_id"]), address) for address in cast(list[str], line["recipients"])}
    twice = {key for key, count in ledger.taken.items() if count > 1}
    assert twice <= ledger.excused
    for queue_id in ids:
        entry = await stage.real.entry(queue_id)
        assert entry is not None
        for state in entry.recipients:
            key = (queue_id, state.recipient.address)
            assert state.state in (State.RELAYED, State.FAILED)
            if key not in ledger.excused:
                assert (state.state is State.RELAYED) == (ledger.taken[key] == 1)
