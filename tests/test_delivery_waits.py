"""What waits is woken, by somebody, in fair turns; and what is taken of slots, leases and budgets comes back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay import routing
from relay.budgets import Allowance, Quota, Rate
from relay.delivery import lanes, loop
from relay.errors import SpoolError
from relay.model import Entry, Job, Outcome, State, Verdict, line_key
from relay.routing import Guard, Match, Route
from relay.transports.base import Batching, Share
from tests.fakes import FakeTransport, outcome
from tests.test_delivery import BOB, CAROL, Stage, in_turn, stage

__all__ = ["stage"]  # the fixture

DAY = 86400.0


# Fair turns.


@pytest.mark.parametrize("restarted", [False, True])
async def test_after_an_outage_no_route_waits_behind_all_of_another_s(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """Two hundred of one route and then two of another waited for the provider: the two are among the first that go."""
    monkeypatch.setattr(lanes, "LANE", 10)
    monkeypatch.setattr(loop, "CLAIM", 3)
    ses = stage.provider("ses", concurrency=1)
    stage.route("ses", name="bulk", match=Match(to=(BOB,)), priority="low")
    stage.route("ses")
    async with stage.running() as delivery:
        await delivery.pause("ses", "")
        for _ in range(200):
            await stage.submit(BOB)
        for _ in range(2):
            await stage.submit(CAROL)
        await stage.waiting("ses", 202)
        if not restarted:
            await delivery.resume("ses")
            await stage.events.wait("removed", 202)
    if restarted:
        await stage.real.keep("paused ses", "")
        async with stage.running():
            await stage.events.wait("removed", 202)
    places = [number for number, seen in enumerate(ses.seen) if seen == (CAROL,)]
    assert max(places) < 30


async def test_new_mail_does_not_stand_behind_what_an_admin_released(stage: Stage) -> None:
    """Of what is due the newest has its part of every claim."""
    stage.provider("ses")
    stage.route("ses")
    for _ in range(900):
        await stage.submit(BOB)
    queue_id = await stage.submit(CAROL)
    async with stage.running():
        await stage.events.wait("removed", queue_id=queue_id)
        assert len(stage.events.found("removed")) < 600
        await stage.events.wait("removed", 901)


# Everybody is woken.


@pytest.mark.parametrize("verdict", [Verdict.PAUSE, Verdict.UNKNOWN])
async def test_what_waited_for_a_throttling_that_ends_in_other_trouble_is_not_forgotten(stage: Stage, verdict: Verdict) -> None:
    """One message alone met the other trouble: nobody else waits for anything any more."""
    stage.provider("ses", in_turn(outcome(Verdict.THROTTLE), outcome(verdict), outcome(Verdict.OK)), concurrency=1)
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("throttled")
        for _ in range(5):
            await stage.submit(CAROL)
        await stage.waiting("ses", 6)
        stage.pass_time(2)
        await stage.events.wait("removed", 5)


async def test_one_message_alone_cannot_prolong_a_pause_for_ever(stage: Stage) -> None:
    """The oldest that waits is refused with whatever it is; another one is the next probe, and finds the provider well."""
    poison = ""

    def script(job: Job, address: str) -> Outcome:
        return outcome(Verdict.PAUSE if not poison or job.queue_id == poison else Verdict.OK)

    ses = stage.provider("ses", script, concurrency=1)
    stage.route("ses")
    async with stage.running():
        first = await stage.submit(BOB)
        await stage.events.wait("suspected")
        for _ in range(3):
            await stage.submit(CAROL)
        await stage.events.wait("paused")
        poison = first
        for attempts in (3, 4):
            await stage.waiting("ses", 4)
            stage.pass_time(400)
            await ses.reached(attempts)
        await stage.events.wait("removed", 3)


async def test_a_silent_probe_does_not_say_that_a_provider_is_back(stage: Stage) -> None:
    """It refused connections, and now it takes them and says nothing: the others are not handed over one after the other."""
    answers = [Verdict.PAUSE]
    first = stage.provider("first", lambda job, address: outcome(answers[0]), concurrency=1)
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        for _ in range(2):
            await stage.submit(BOB)
        await stage.events.wait("removed", 2)
        assert 2 == len(first.attempts)
        answers[0] = Verdict.UNKNOWN
        stage.pass_time(20)
        for _ in range(5):
            await stage.submit(CAROL)
        await stage.events.wait("removed", 6)
    assert (3, 6) == (len(first.attempts), len(second.attempts))
    assert [] == stage.events.found("resumed")


@pytest.mark.parametrize("gone", [False, True])
async def test_who_waits_in_the_line_of_a_route_or_provider_that_a_reload_takes_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """Nobody stands in such a line any more who would call them."""
    monkeypatch.setattr(lanes, "LANE", 4)
    ses = stage.provider("ses", concurrency=1)
    ses.gate.clear()
    stage.route("ses", name="before")
    async with stage.running() as delivery:
        for _ in range(60):
            await stage.submit(BOB)
        await stage.waiting(line_key("ses", "before"), 56)
        other = stage.provider("other")
        if gone:
            del stage.transports["ses"]
        stage.routes = [Route("after", ("other",) if gone else ("ses",))]
        await delivery.configure(stage.transports, stage.routes, stage.settings)
        ses.gate.set()
        await stage.events.wait("removed", 60)
        assert not delivery._carrier.lines._strays
    assert len(other.attempts) == (59 if gone else 0)


async def test_two_providers_that_are_both_full_are_waited_for_quietly(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail that spills from one to the other does not go round between them."""
    monkeypatch.setattr(lanes, "LANE", 3)
    first, second = stage.provider("first", concurrency=1), stage.provider("second", concurrency=1)
    first.gate.clear()
    second.gate.clear()
    stage.route("first", "second", spills=True)
    async with stage.running():
        for _ in range(40):
            await stage.submit(BOB)
        await stage.waiting(line_key("second", "default"), 34)
        before = stage.journal.count("claim")
        for _ in range(20):
            await stage.real.counts()
        assert stage.journal.count("claim") - before < 5
        first.gate.set()
        second.gate.set()
        await stage.events.wait("removed", 40)


async def test_what_spills_waits_for_the_provider_that_is_back_first(stage: Stage) -> None:
    """The first one is throttled for a moment, the second has used up its day."""
    first = stage.provider("first", in_turn(outcome(Verdict.THROTTLE), outcome(Verdict.OK)))
    second = stage.provider("second")
    stage.route("second", name="second", match=Match(to=(CAROL,)))
    stage.route("first", "second", spills=True)
    stage.allowances = {"second": Allowance(daily=1)}
    async with stage.running():
        await stage.submit(CAROL)
        await stage.events.wait("removed")
        await stage.submit(BOB)
        await stage.events.wait("exhausted")
        await stage.waiting("first", 1)
        stage.pass_time(2)
        await stage.events.wait("removed", 2)
    assert (2, 1) == (len(first.attempts), len(second.attempts))


async def test_a_reload_that_raises_a_quota_frees_what_waited_for_it(stage: Stage) -> None:
    """Not the next day."""
    ses = stage.provider("ses")
    stage.route("ses")
    stage.allowances = {"ses": Allowance(daily=1)}
    async with stage.running() as delivery:
        await stage.submit(BOB)
        await stage.events.wait("removed")
        await stage.submit(BOB)
        await stage.waiting("ses", 1)
        await delivery.configure(stage.transports, stage.routes, stage.settings, {"ses": Allowance(daily=2)})
        await stage.events.wait("removed", 2)
    assert 2 == len(ses.attempts)
    assert 1 == len(stage.events.found("replenished"))


async def test_an_account_that_allows_more_frees_what_waited_for_it(stage: Stage) -> None:
    """And what it said last holds after a restart, before it is asked again."""
    ses = stage.provider("ses", allows=Quota(None, 1, 0))
    stage.route("ses")
    stage.allowances = {"ses": Allowance(ask_daily=True)}
    async with stage.running() as delivery:
        await stage.events.wait("quota_read")
        await stage.submit(BOB)
        await stage.events.wait("removed")
        await stage.submit(BOB)
        await stage.waiting("ses", 1)
        ses.allows = Quota(None, 3, 1)
        delivery._quotas.look()
        await stage.events.wait("removed", 2)
    ses.allows = "the key may not ask"
    async with stage.running():
        assert 3 == stage.delivery._carrier.lanes["ses"].budget.most
        await stage.events.wait("quota_unread", text="the key may not ask")


# What is taken comes back.


async def test_a_mail_to_more_than_is_left_of_a_quota_goes_in_pieces(stage: Stage) -> None:
    """It neither turns round and round nor keeps those waiting for whom there is room."""
    ses = stage.provider("ses")
    stage.route("ses")
    stage.allowances = {"ses": Allowance(daily=6, count="recipients")}
    async with stage.running():
        await stage.submit(*(f"user{n}@example.net" for n in range(4)))
        await stage.events.wait("removed")
        queue_id = await stage.submit(*(f"user{n}@example.net" for n in range(5)))
        await stage.waiting("ses", 3)
        assert stage.journal.count("claim") < 40
        entry = await stage.real.entry(queue_id)
        assert entry is not None
        assert 2 == sum(state.state is State.RELAYED for state in entry.recipients)
        stage.pass_time(DAY + 120)
        await stage.events.wait("removed", 2)
    assert 9 == sum(map(len, ses.seen))


async def test_a_quota_that_a_reload_makes_smaller_than_a_mail_in_line(stage: Stage) -> None:
    """It is cut again instead of being asked for ever."""
    ses = stage.provider("ses", concurrency=1)
    stage.route("ses")
    stage.allowances = {"ses": Allowance((Rate(100, 1.0),), count="recipients")}
    ses.gate.clear()
    async with stage.running() as delivery:
        await stage.submit(BOB)
        await ses.reached(1)
        await stage.submit(*(f"user{n}@example.net" for n in range(4)))
        await stage.spool.called("claim", stage.journal.count("claim") + 1)
        await delivery.configure(stage.transports, stage.routes, stage.settings, {"ses": Allowance(daily=3, count="recipients")})
        ses.gate.set()
        await stage.waiting("ses", 2)
        assert stage.journal.count("claim") < 40
    assert 3 == sum(map(len, ses.seen))


async def test_the_lease_of_a_redirected_recipient_ends_when_its_attempt_may_not_begin(stage: Stage) -> None:
    """An admin's pause came while the message was prepared; resumed, it goes at once and not when the lease has run out."""

    class Pausing(FakeTransport):
        async def prepare(self, job: Job) -> Sequence[Job]:
            if not self.prepared:
                stage.delivery._carrier.standing.pause("ses", outcome(Verdict.PAUSE), stage.clock())
            return await super().prepare(job)

        def identity(self, job: Job) -> Sequence[str]:
            return ()

    stage.transports["ses"] = Pausing("ses")
    stage.route("ses", guard=Guard(redirect="qa@example.com"))
    async with stage.running() as delivery:
        await stage.submit(BOB, CAROL)
        await stage.waiting("ses", 2)
        await delivery.resume("ses")
        await stage.events.wait("removed")


async def test_who_is_sent_away_between_two_parts_leaves_alone_what_the_first_has_deferred(stage: Stage) -> None:
    """It is tried again at its time; the rest chooses again."""

    def script(job: Job, address: str) -> Outcome:
        if ses.split:
            ses.split = False
            ses.gate.clear()  # who comes next stays
            return outcome(Verdict.RETRY)
        return outcome(Verdict.OK)

    ses = stage.provider("ses", script, split=True, concurrency=1)
    stage.route("ses")
    stage.allowances = {"ses": Allowance((Rate(1000, 1.0),), count="requests")}
    ids = [await stage.submit(BOB, CAROL), await stage.submit(BOB)]
    async with stage.running() as delivery:
        await ses.reached(2)
        queue_id = ses.attempts[0].queue_id
        assert 1 == delivery._carrier.lanes["ses"].gate.waiting
        delivery._carrier.lanes["ses"].gate.shut()
        await stage.spool.called("postpone", 1)
        await stage.real.counts()
        first = ses.attempts[0].recipients[0].address
        assert (await stage.state(queue_id, first)).next_attempt > stage.clock()
        ses.gate.set()
        stage.pass_time(DAY)
        await stage.events.wait("removed", len(ids))
    assert 4 == len(ses.attempts)


async def test_of_parts_that_were_refused_the_sender_hears_though_the_next_cannot_begin(stage: Stage) -> None:
    """A shadow puts off what follows from the first part; a spool in trouble at the second one does not drop it."""

    def script(job: Job, address: str) -> Outcome:
        if not job.bounce and len(ses.attempts) == 1:
            stage.spool.faults["begin"] = [SpoolError("disk I/O error")]
        return outcome(Verdict.OK if job.bounce else Verdict.PERM_RCPT)

    ses = stage.provider("ses", script, split=True)
    stage.provider("shadow")
    stage.route("ses", shadow="shadow")
    async with stage.running():
        await stage.submit(BOB, CAROL)
        await stage.events.wait("bounced_to")
        assert 1 == sum(not job.bounce for job in ses.attempts)


async def test_one_mail_that_cannot_be_routed_does_not_hold_up_the_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours about one entry; it is logged, and tried again later."""
    stage.provider("ses")
    stage.route("ses")
    before, mended = routing.applicable, False
    poison = await stage.submit(BOB)
    for _ in range(5):
        await stage.submit(CAROL)

    def applicable(routes: Sequence[Route], entry: Entry, *more: object) -> tuple[Route, ...]:
        if entry.queue_id == poison and not mended:
            raise RuntimeError("a bug")
        return before(routes, entry, *more)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(routing, "applicable", applicable)
    async with stage.running():
        await stage.events.wait("removed", 5)
        await stage.events.wait("bug")
        mended = True
        stage.pass_time(3600)
        await stage.events.wait("removed", 6)


# Batches and budgets.


async def test_a_batch_is_never_begun_with_more_than_was_taken_for_it(stage: Stage) -> None:
    """Whoever came while it waited for its turn does not take the place that was asked for."""
    seen: list[int] = []
    ses = stage.provider("ses", batching=Batching(10, 1_000_000, 0.0), concurrency=1)
    stage.route("ses", name="small", match=Match(to=(BOB,)))
    stage.route("ses")
    stage.allowances = {"ses": Allowance(daily=10, count="recipients")}
    async with stage.running():
        for _ in range(4):
            await stage.submit(BOB)
            await stage.submit(*(f"user{n}@example.net" for n in range(4)))
        await stage.waiting("ses", 1)
        for _ in range(20):
            await stage.real.counts()
        seen = [len(one) for one in ses.seen]
    assert 10 == sum(seen)


async def test_what_a_batch_did_not_take_along_is_not_counted_twice(stage: Stage) -> None:
    """Messages that their transport does not share go alone, and are spent once."""
    ses = stage.provider("ses", batching=Batching(10, 1_000_000, 0.0), share=lambda job: None)
    stage.route("ses")
    stage.allowances = {"ses": Allowance(daily=6)}
    async with stage.running():
        for _ in range(7):
            await stage.submit(BOB)
        await stage.events.wait("removed", 6)
        await stage.waiting("ses", 1)
    assert 6 == len(ses.attempts)


async def test_kinds_that_go_at_once_are_all_counted(stage: Stage) -> None:
    """Each request of a divided batch takes its part of the budget."""
    ses = stage.provider(
        "ses", batching=Batching(10, 1_000_000, 0.0), concurrency=4, share=lambda job: Share(job.recipients[0].address, 100)
    )
    stage.route("ses")
    stage.allowances = {"ses": Allowance(daily=100)}
    for n in range(9):
        await stage.submit(f"user{n % 3}@example.net")
    async with stage.running() as delivery:
        await stage.events.wait("removed", 9)
        [usage] = delivery._carrier.lanes["ses"].budget.shown(stage.clock())
    assert 9 == usage.used
    assert 9 == len(ses.attempts)
