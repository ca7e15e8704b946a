"""Delivery under a changed configuration: what is under way ends as it began, what waits chooses again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from relay.delivery import fleet
from relay.errors import CannotCarry
from relay.model import Job, State, Verdict
from tests.fakes import FakeTransport, always, outcome
from tests.test_delivery import BOB, CAROL, Stage, in_turn


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


async def reload(stage: Stage) -> None:
    """Give delivery what the stage holds now."""
    await stage.delivery.configure(stage.transports, stage.routes, stage.settings)


async def test_an_attempt_under_way_ends_with_the_transport_it_began_with(stage: Stage) -> None:
    """The changed provider's old transport is closed after its last attempt; new mail goes by the new one."""
    old = stage.provider("ses")
    old.gate.clear()
    stage.route("ses")
    async with stage.running():
        first = await stage.submit(BOB)
        await old.reached(1)
        new = stage.provider("ses")
        await reload(stage)
        second = await stage.submit(CAROL)
        await stage.events.wait("removed", queue_id=second)
        assert not old.closed
        old.gate.set()
        await stage.events.wait("removed", queue_id=first)
    assert ([(BOB,)], [(CAROL,)]) == (old.seen, new.seen)
    assert (True, False) == (old.closed, new.closed)


async def test_who_stands_in_line_chooses_again(stage: Stage) -> None:
    """Only what has a slot of the old transport uses it."""
    old = stage.provider("ses", concurrency=1)
    old.gate.clear()
    stage.route("ses")
    async with stage.running():
        ids = [await stage.submit(BOB) for _ in range(4)]
        await old.reached(1)
        new = stage.provider("ses")
        await reload(stage)
        old.gate.set()
        for queue_id in ids:
            await stage.events.wait("removed", queue_id=queue_id)
    assert (1, 3) == (len(old.attempts), len(new.attempts))
    assert old.closed


async def test_a_provider_that_did_not_change_keeps_its_transport(stage: Stage) -> None:
    """The same object stays in use and open."""
    ses = stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        stage.provider("other")
        await reload(stage)
        await stage.submit(BOB)
        await stage.events.wait("removed")
        assert not ses.closed
    assert [(BOB,)] == ses.seen


async def test_a_mended_provider_is_used_at_once(stage: Stage) -> None:
    """The pause of the old credentials goes with them, and what waited for it goes out."""
    stage.provider("ses", always(Verdict.PAUSE))
    stage.route("ses")
    async with stage.running():
        await stage.submit(CAROL)
        queue_id = await stage.submit(BOB)
        await stage.events.wait("paused")
        await stage.waiting("ses", 2)
        new = stage.provider("ses")
        await reload(stage)
        await stage.events.wait("removed", queue_id=queue_id)
        [status] = await stage.delivery.providers()
    assert ({(BOB,), (CAROL,)}, "up") == (set(new.seen), status.state)


async def test_a_reload_probes_a_paused_provider_that_did_not_change(stage: Stage) -> None:
    """What was mended at the provider's side needs no waiting."""
    ses = stage.provider("ses", in_turn(outcome(Verdict.PAUSE), outcome(Verdict.PAUSE), outcome(Verdict.OK)))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.waiting("ses", 2)
        await reload(stage)
        await stage.events.wait("resumed")
        await stage.events.wait("removed", queue_id=queue_id)
        await stage.events.wait("removed", 2)
    assert [(BOB,)] * 4 == ses.seen


async def test_an_outcome_of_the_old_transport_pauses_nothing(stage: Stage) -> None:
    """A refusal of the old key says nothing about the new one."""
    old = stage.provider("ses", always(Verdict.PAUSE))
    old.gate.clear()
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await old.reached(1)
        new = stage.provider("ses")
        await reload(stage)
        old.gate.set()
        await stage.events.wait("removed", queue_id=queue_id)
        assert [] == stage.events.found("paused")
    assert ([(BOB,)], [(BOB,)]) == (old.seen, new.seen)


async def test_mail_pinned_to_a_provider_that_is_gone_is_held(stage: Stage) -> None:
    """A maybe-relayed recipient goes to nobody else; the others follow the new routes."""
    stage.provider("ses", lambda job, address: outcome(Verdict.UNKNOWN if address == BOB else Verdict.RETRY), split=True)
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("attempt", count=2)
        stage.transports = {}
        stage.routes = []
        other = stage.provider("other")
        stage.route("other")
        await reload(stage)
        stage.pass_time(61)
        await stage.events.wait("held")
        await stage.events.wait("attempt", provider="other")
        assert State.HELD == (await stage.state(queue_id, BOB)).state
    assert [(CAROL,)] == other.seen


async def test_what_a_changed_provider_could_not_carry_is_asked_again(stage: Stage) -> None:
    """A finding about the old transport does not outlive it."""
    own = outcome(Verdict.PERM_MSG, "8BITMIME is not offered")
    stage.provider("first", lambda job, address: replace(own, own=True, remote="relay"))
    stage.provider("second", in_turn(outcome(Verdict.RETRY), outcome(Verdict.OK)))
    stage.route("first", "second", patience=0.0)
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt", provider="second")
        new = stage.provider("first")
        await reload(stage)
        stage.pass_time(301)
        await stage.events.wait("removed", queue_id=queue_id)
    assert [(BOB,)] == new.seen


async def test_shorter_times_hold_for_what_is_queued(stage: Stage) -> None:
    """`expire` is judged as it is configured now."""
    stage.provider("ses", always(Verdict.RETRY))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.settings = replace(stage.settings, expire=120.0)
        await reload(stage)
        stage.pass_time(121)
        await stage.events.wait("expired", queue_id=queue_id)


async def test_a_transport_that_cannot_be_closed_stops_nothing(stage: Stage) -> None:
    """It is a line in the log, and the reload is done."""

    class Stuck(FakeTransport):
        async def aclose(self) -> None:
            raise CannotCarry(["stuck"])

    stage.transports["ses"] = Stuck("ses")
    stage.route("ses")
    async with stage.running():
        new = stage.provider("ses")
        await reload(stage)
        await stage.submit(BOB)
        await stage.events.wait("removed")
        assert 1 == len(stage.events.found("bug"))
    assert [(BOB,)] == new.seen


async def test_a_transport_that_does_not_close_holds_up_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the reload nor the message whose attempt was its last; in the end it is given up."""
    monkeypatch.setattr(fleet, "CLOSE", 0.01)

    class Silent(FakeTransport):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    busy = stage.transports["busy"] = Silent("busy")
    busy.gate.clear()
    stage.transports["idle"] = Silent("idle")
    stage.route("busy")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await busy.reached(1)
        stage.provider("idle")
        stage.provider("busy")
        await reload(stage)
        busy.gate.set()
        await stage.events.wait("removed", queue_id=queue_id)
    assert 2 == len(stage.events.found("bug"))


async def test_who_stands_in_line_of_an_unchanged_provider_follows_the_new_routes(stage: Stage) -> None:
    """A door that the route names no more is not used, however long the line before it was; what is begun ends."""
    wrong = stage.provider("wrong", concurrency=1)
    wrong.gate.clear()
    right = stage.provider("right")
    stage.route("wrong")
    async with stage.running():
        ids = [await stage.submit(BOB) for _ in range(4)]
        await wrong.reached(1)
        await stage.spool.called("claim", 1)
        stage.routes = []
        stage.route("right")
        await reload(stage)
        wrong.gate.set()
        for queue_id in ids:
            await stage.events.wait("removed", queue_id=queue_id)
    assert (1, 3) == (len(wrong.attempts), len(right.attempts))
    assert not wrong.closed


async def test_who_looks_for_a_provider_follows_the_new_routes(stage: Stage) -> None:
    """The first one cannot carry it; the second one was taken out of the route meanwhile."""

    class Slow(FakeTransport):
        async def prepare(self, job: Job) -> Sequence[Job]:
            reached.set()
            await go.wait()
            raise CannotCarry(["too large"])

    reached, go = asyncio.Event(), asyncio.Event()
    stage.transports["first"] = Slow("first")
    second, third = stage.provider("second"), stage.provider("third")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await reached.wait()
        stage.routes = []
        stage.route("first", "third")
        await reload(stage)
        go.set()
        await stage.events.wait("removed")
    assert ([], [(BOB,)]) == (second.seen, third.seen)


async def test_a_reload_between_two_requests_of_a_message(stage: Stage) -> None:
    """What the first one said is recorded; the rest goes by the new routes."""
    first = stage.provider("first", split=True)
    first.gate.clear()
    second = stage.provider("second")
    stage.route("first")
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await first.reached(1)
        stage.routes = []
        stage.route("second")
        await reload(stage)
        first.gate.set()
        await stage.events.wait("removed", queue_id=queue_id)
    assert ([(BOB,)], [(CAROL,)]) == (first.seen, second.seen)


async def test_a_pause_that_a_reload_ends_before_it_is_told_is_not_told(stage: Stage) -> None:
    """Its outcome is still being recorded: no alarm, and no metric that stays down, about credentials that are gone."""
    stage.provider("ses", always(Verdict.PAUSE))
    stage.route("ses")
    recording = stage.spool.gates["record"] = asyncio.Event()
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.spool.called("record waits", 1)
        stage.provider("ses")
        await reload(stage)
        recording.set()
        await stage.events.wait("removed", queue_id=queue_id)
        assert [] == stage.events.found("paused")
    assert b'relay_provider_up{provider="ses"} 1.0' in stage.metrics.render()[0]


async def test_a_provider_that_is_gone_before_its_return_is_told_has_no_gauge(stage: Stage) -> None:
    """Its probe succeeded, and was still being recorded when the provider was taken out."""
    stage.provider("ses", in_turn(outcome(Verdict.PAUSE), outcome(Verdict.PAUSE), outcome(Verdict.OK)))
    stage.route("ses")
    async with stage.running() as delivery:
        stage.metrics.configured(listeners=(), providers=("ses",), routes=())
        queue_id = await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.events.wait("paused")
        await stage.waiting("ses", 2)
        recording = stage.spool.gates["record"] = asyncio.Event()
        delivery.hurry()
        await stage.spool.called("record waits", 1)
        stage.transports, stage.routes = {}, []
        stage.provider("other")
        stage.route("other")
        stage.metrics.configured(listeners=(), providers=("other",), routes=())
        await reload(stage)
        recording.set()
        await stage.events.wait("removed", queue_id=queue_id)
    assert b'relay_provider_up{provider="ses"}' not in stage.metrics.render()[0]


async def test_a_pause_that_a_reload_ends_is_told(stage: Stage) -> None:
    """Who watches the log for a pause hears of its end, with how many had waited."""
    stage.provider("ses", always(Verdict.PAUSE))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.events.wait("paused")
        await stage.waiting("ses", 2)
        stage.provider("ses")
        await reload(stage)
        await stage.events.wait("removed", 2)
    assert [("ses", 2)] == [(line["provider"], line["waiting"]) for line in stage.events.found("resumed")]
