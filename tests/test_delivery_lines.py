"""The line before a provider: what it cannot take waits in the spool, is called when there is room, and is never forgotten."""

from __future__ import annotations

import asyncio

import pytest

from relay.delivery import lanes, loop
from relay.model import Job, Outcome, Verdict, line_key
from relay.routing import Match
from relay.transports.base import ALONE, Batching
from tests.fakes import always, outcome
from tests.test_delivery import BOB, Stage, stage

__all__ = ["stage"]  # the fixture

BATCHING = Batching(10, 1_000_000, 60.0)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of four."""
    monkeypatch.setattr(lanes, "LANE", 4)
    monkeypatch.setattr(loop, "LANE", 4)


async def queued(stage: Stage, count: int) -> list[str]:
    """So many messages, due before delivery starts."""
    return [await stage.submit(BOB) for _ in range(count)]


@pytest.mark.parametrize("batching", [BATCHING, ALONE])
async def test_who_waits_for_room_waits_once(stage: Stage, batching: Batching) -> None:
    """As many are called as there is room for, though a batch leaves the line all together: nobody is sent back to the spool."""
    stage.provider("mailtrap", batching=batching)
    stage.route("mailtrap")
    await queued(stage, 200)
    async with stage.running():
        await stage.events.wait("removed", count=200)
    assert stage.journal.count("wait") <= 200


@pytest.mark.parametrize("verdict", [Verdict.PAUSE, Verdict.THROTTLE])
async def test_a_pause_while_others_wait_for_room(stage: Stage, verdict: Verdict) -> None:
    """Those who are called find a pause and wait for its end; after it everybody goes."""
    answers = [verdict]
    stage.provider("ses", lambda job, address: outcome(answers[0]), concurrency=1)
    stage.route("ses")
    await queued(stage, 30)
    async with stage.running():
        await stage.waiting("ses", 4)
        answers[0] = Verdict.OK
        stage.pass_time(3600)
        await stage.events.wait("removed", count=30)


async def test_who_waits_for_room_with_a_provider_that_is_paused_goes_by_the_next_one(stage: Stage) -> None:
    """All of them, though nobody of its line is left to call them."""
    stage.provider("first", always(Verdict.PAUSE), concurrency=1)
    second = stage.provider("second")
    stage.route("first", "second")
    await queued(stage, 30)
    async with stage.running():
        await stage.events.wait("removed", count=30)
    assert 30 == len(second.attempts)


async def test_whoever_was_called_and_went_another_way(stage: Stage) -> None:
    """Those who were called are gone; the others are called in their place."""
    ses = stage.provider("ses", concurrency=1)
    ses.gate.clear()
    stage.route("ses")
    await queued(stage, 4)
    async with stage.running() as delivery:
        await ses.reached(1)
        await queued(stage, 6)
        await stage.waiting(line_key("ses", "default"), 6)
        delivery._carrier.lanes["ses"].line_of("default").called = 4  # as if
        ses.gate.set()
        await stage.events.wait("removed", count=10)


async def test_slow_providers_with_long_lines_leave_room_for_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of batches count beyond the window: three providers that do not answer do not stop a fourth."""
    monkeypatch.setattr(loop, "WINDOW", 40)
    stuck = [stage.provider(name, batching=BATCHING) for name in ("one", "two", "three")]
    stage.provider("good")
    for provider in stuck:
        provider.gate.clear()
        stage.route(provider.provider, name=provider.provider, match=Match(from_=(f"{provider.provider}@example.com",)))
    stage.route("good")
    for provider in stuck:
        for _ in range(30):
            await stage.submit(BOB, sender=f"{provider.provider}@example.com")
    async with stage.running():
        for provider in stuck:
            await provider.reached(10)
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=queue_id)
        for provider in stuck:
            provider.gate.set()
        await stage.events.wait("removed", count=91)


async def test_the_probe_does_not_stand_behind_the_others(stage: Stage) -> None:
    """Of a batch the one that decides whether a pause is over is begun before the others are back in the spool."""
    answers = [Verdict.PAUSE]

    def script(job: Job, address: str) -> Outcome:
        return outcome(answers[0])

    stage.provider("mailtrap", script, batching=BATCHING)
    stage.route("mailtrap")
    await queued(stage, 5)
    async with stage.running() as delivery:
        await stage.waiting("mailtrap", 5)
        answers[0] = Verdict.OK
        stage.spool.gates["postpone"] = asyncio.Event()
        delivery._carrier.standing.hurry(stage.clock())
        await stage.real.wake("mailtrap", stage.clock())  # all of them, as an admin's retry does
        await stage.events.wait("resumed")
        stage.spool.gates.pop("postpone").set()
        await stage.events.wait("removed", count=5)
