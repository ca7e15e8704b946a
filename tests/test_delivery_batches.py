"""Batches: what is due together for one provider goes in one attempt, and each message still has its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay.errors import SpoolError
from relay.model import Job, Outcome, State, Verdict
from relay.transports.base import Batching, Share
from tests.fakes import FakeTransport, outcome
from tests.test_delivery import BOB, CAROL, Stage, stage

__all__ = ["stage"]  # the fixture

BATCHING = Batching(10, 1_000_000, 60.0)


async def queued(stage: Stage, count: int) -> list[str]:
    """So many messages, due before delivery starts."""
    return [await stage.submit(BOB) for _ in range(count)]


async def test_what_is_due_together_goes_together(stage: Stage) -> None:
    """Messages that wait when delivery starts leave in full requests; nobody waits for others when nothing more is due."""
    batches = stage.provider("mailtrap", batching=BATCHING)
    stage.route("mailtrap")
    ids = await queued(stage, 25)
    async with stage.running():
        await stage.events.wait("removed", count=25)
    assert [10, 10, 5] == sorted(map(len, batches.batches), reverse=True)
    assert sorted(ids) == sorted(queue_id for batch in batches.batches for queue_id in batch)


async def test_a_lone_message_leaves_at_once(stage: Stage) -> None:
    """However long a batch may wait, nobody waits while nothing more is due: the clock of the test stands still."""
    batches = stage.provider("mailtrap", batching=BATCHING)
    stage.route("mailtrap")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed")
    assert [[queue_id]] == batches.batches


async def test_every_message_has_its_own_outcome(stage: Stage) -> None:
    """In one request one message is relayed, one deferred and one refused: each goes its own way."""
    verdicts: dict[str, Verdict] = {}
    batches = stage.provider(
        "mailtrap", lambda job, address: outcome(Verdict.OK if job.bounce else verdicts[job.queue_id]), batching=BATCHING
    )
    stage.route("mailtrap")
    ids = await queued(stage, 3)
    verdicts.update(zip(ids, (Verdict.OK, Verdict.RETRY, Verdict.PERM_MSG), strict=True))
    async with stage.running():
        await stage.events.wait("attempt", count=4)  # the fourth is the bounce
    assert sorted(ids) == sorted(batches.batches[0])
    assert [State.RELAYED, State.QUEUED, State.FAILED] == [(await stage.state(one, BOB)).state for one in ids]


async def test_all_are_begun_before_the_request_and_each_is_recorded(stage: Stage) -> None:
    """The order rules hold for every message of a batch."""
    stage.provider("mailtrap", batching=BATCHING)
    stage.route("mailtrap")
    await queued(stage, 3)
    async with stage.running():
        await stage.events.wait("removed", count=3)
    steps = [step for step in stage.journal if step in ("begin", "attempt mailtrap", "record")]
    assert ["begin"] * 3 + ["attempt mailtrap"] + ["record"] * 3 == steps


async def test_one_that_cannot_be_begun_does_not_go(stage: Stage) -> None:
    """Without a durable begin a message is not part of the request; the others are."""
    batches = stage.provider("mailtrap", batching=BATCHING)
    stage.route("mailtrap")
    await queued(stage, 3)
    stage.spool.faults["begin"] = [SpoolError("disk I/O error")]
    async with stage.running():
        await stage.events.wait("removed", count=2)
        stage.pass_time(6)
        await stage.events.wait("removed", count=3)
    assert [2, 1] == [len(batch) for batch in batches.batches]


async def test_a_message_of_several_requests_goes_alone(stage: Stage) -> None:
    """One whose recipients need requests of their own is attempted one request after the other, beside the batch."""
    batches = stage.provider("mailtrap", batching=BATCHING, declines={CAROL: ""})
    stage.route("mailtrap")
    several = await stage.submit(BOB, CAROL)
    ids = await queued(stage, 2)
    async with stage.running():
        await stage.events.wait("removed", count=3)
    assert sorted([sorted(ids), [several], [several]]) == sorted(sorted(batch) for batch in batches.batches)


async def test_kinds_and_octets_divide_a_batch(stage: Stage) -> None:
    """Requests of two kinds do not mix, and a request holds no more octets than the provider takes."""
    kinds: dict[str, Share] = {}
    batches = stage.provider("mailtrap", batching=Batching(10, 1000, 60.0), share=lambda job: kinds[job.queue_id])
    stage.route("mailtrap")
    ids = await queued(stage, 6)
    shares = [Share("email", 400)] * 3 + [Share("template", 10)] * 2 + [Share("email", 2000)]
    kinds.update(zip(ids, shares, strict=True))
    async with stage.running():
        await stage.events.wait("removed", count=6)
    for batch in batches.batches:
        assert 1 == len({kinds[one].kind for one in batch})
        assert len(batch) == 1 or sum(kinds[one].octets for one in batch) <= 1000


async def test_kinds_go_at_once(stage: Stage) -> None:
    """The requests of one batch stand in one slot behind each other only where no other slot is free."""
    batches = stage.provider("mailtrap", batching=BATCHING, share=lambda job: Share(job.queue_id, 10), concurrency=3)
    batches.gate.clear()
    stage.route("mailtrap")
    await queued(stage, 6)
    async with stage.running():
        await batches.reached(3)
        batches.gate.set()
        await stage.events.wait("removed", count=6)
    assert (3, [1] * 6) == (batches.busiest, [len(batch) for batch in batches.batches])


async def test_what_the_transport_does_not_share_goes_alone(stage: Stage) -> None:
    """A job without a share has an attempt of its own."""
    batches = stage.provider("mailtrap", batching=BATCHING, share=lambda job: None)
    stage.route("mailtrap")
    ids = await queued(stage, 3)
    async with stage.running():
        await stage.events.wait("removed", count=3)
    assert sorted([one] for one in ids) == sorted(batches.batches)


async def test_a_provider_that_cannot_carry_it_is_passed(stage: Stage) -> None:
    """A refusal before the attempt moves on to the next provider of the route, as without batches."""
    stage.provider("mailtrap", refuses="no", batching=BATCHING)
    other = stage.provider("other")
    stage.route("mailtrap", "other")
    await queued(stage, 3)
    async with stage.running():
        await stage.events.wait("removed", count=3)
    assert [(BOB,)] * 3 == other.seen


async def test_a_pause_begins_once_and_is_probed_by_one(stage: Stage) -> None:
    """A refused login pauses the provider once for the whole batch; the probe is one message, and then all go."""
    answers = [Verdict.PAUSE]
    batches = stage.provider("mailtrap", lambda job, address: outcome(answers[0]), batching=BATCHING)
    stage.route("mailtrap")
    await queued(stage, 5)
    async with stage.running():
        await stage.events.wait("paused")
        await stage.waiting("mailtrap", 5)
        answers[0] = Verdict.OK
        stage.pass_time(3600)
        await stage.events.wait("removed", count=5)
    assert 1 == len(stage.events.found("paused"))
    assert 5 == len(batches.batches[0])
    assert 1 == len(batches.batches[1])


async def test_an_exception_in_a_batch_pins_all_of_it(stage: Stage) -> None:
    """A bug of a transport leaves every message of the request maybe relayed, and one line in the log."""

    def broken(job: Job, address: str) -> Outcome:
        raise RuntimeError("a bug")

    stage.provider("mailtrap", broken, batching=BATCHING)
    stage.route("mailtrap")
    ids = await queued(stage, 3)
    async with stage.running():
        await stage.events.wait("attempt", count=3)
    assert [True] * 3 == [(await stage.state(one, BOB)).maybe_relayed for one in ids]
    assert 1 == len(stage.events.found("bug"))


async def test_a_drain_sends_nobody_who_still_gathers(stage: Stage) -> None:
    """Who waits for a slot when relay stops stays in the spool."""
    batches = stage.provider("mailtrap", batching=Batching(2, 1_000_000, 60.0), concurrency=1)
    batches.gate.clear()
    stage.route("mailtrap")
    ids = await queued(stage, 5)
    async with stage.running() as delivery:
        await batches.reached(2)
        asyncio.get_running_loop().call_soon(batches.gate.set)  # when the drain has begun
        await delivery.drain(10)
    assert 1 == len(batches.batches)
    assert sorted([State.RELAYED] * 2 + [State.QUEUED] * 3) == sorted([(await stage.state(one, BOB)).state for one in ids])


async def test_a_drain_that_is_cut_off_leaves_begun_attempts(stage: Stage) -> None:
    """A request that does not end within the grace period is unknown at the next start, for each of its messages."""
    batches = stage.provider("mailtrap", batching=BATCHING)
    batches.gate.clear()
    stage.route("mailtrap")
    ids = await queued(stage, 3)
    async with stage.running() as delivery:
        await batches.reached(3)
        await delivery.drain(0)
    await stage.real.close()
    await stage.open()
    assert sorted(ids) == sorted(begun.queue_id for begun in await stage.real.unfinished())


async def test_a_reload_that_changes_the_provider(stage: Stage) -> None:
    """Who gathers for a provider that changes chooses again and leaves by the new one."""
    old = stage.provider("mailtrap", batching=BATCHING, concurrency=1)
    old.gate.clear()
    stage.route("mailtrap")
    first = await queued(stage, 1)
    async with stage.running() as delivery:
        await old.reached(1)
        later = await queued(stage, 3)
        new = stage.provider("mailtrap", batching=BATCHING)
        await delivery.configure(stage.transports, stage.routes, stage.settings)
        old.gate.set()
        await stage.events.wait("removed", count=4)
    assert [first] == old.batches
    assert sorted(later) == sorted(one for batch in new.batches for one in batch)


async def test_more_than_the_line_holds(stage: Stage) -> None:
    """Beyond two full batches the rest waits in the spool; every message leaves once, in requests that are full or nearly so."""
    batches = stage.provider("mailtrap", batching=BATCHING._replace(jobs=200))
    stage.route("mailtrap")
    ids = await queued(stage, 1100)
    async with stage.running():
        await stage.events.wait("removed", count=1100)
    assert sorted(ids) == sorted(one for batch in batches.batches for one in batch)
    assert len(batches.batches) < 12


async def test_a_bug_before_the_attempt_leaves_no_probe_behind(stage: Stage) -> None:
    """An exception while leave is asked for the second of two gives back the leave of the first, which was to end a pause."""
    answers, asked = [Verdict.PAUSE], [0]

    class Broken(FakeTransport):
        def identity(self, job: Job) -> Sequence[str]:
            asked[0] += 1
            if asked[0] == 8:  # twice to prepare, twice to begin; then the probe
                raise RuntimeError("a bug")
            return ()

    stage.transports["mailtrap"] = Broken("mailtrap", lambda job, address: outcome(answers[0]), batching=BATCHING)
    stage.route("mailtrap")
    await queued(stage, 2)
    async with stage.running() as delivery:
        await stage.waiting("mailtrap", 2)
        answers[0] = Verdict.OK
        delivery._carrier.standing.hurry(stage.clock())
        await stage.real.wake("mailtrap", stage.clock())
        await stage.events.wait("bug", count=2)
        await stage.spool.called("postpone", 2)
        stage.pass_time(61)
        await stage.events.wait("removed", count=2)
