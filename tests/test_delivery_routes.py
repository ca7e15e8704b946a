"""Delivery by rules: splits, ramps, guards, rewriting, budgets, an admin's word. Over a real spool and scripted transports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay import edits
from relay.budgets import Allowance, Quota, Rate
from relay.delivery import Delivery
from relay.model import Job, Outcome, Recipient, State, Verdict
from relay.ramps import Ramp, StepBack
from relay.rewriting import Rewriting
from relay.routing import Guard, Match, Split, pick
from relay.spool.base import Filter
from tests.fakes import FakeTransport, always, outcome
from tests.test_delivery import BOB, CAROL, SENDER, START, Stage, in_turn, stage

__all__ = ["stage"]  # the fixture

DAY = 86400.0


async def bounced(delivery: Delivery, what: Filter, why: str = "") -> int:
    """How many recipients an admin gave up."""
    return sum([one.recipients async for chunk in delivery.bounce(what, why) for one in chunk])


# Splits and ramps.


async def test_a_split_sends_each_recipient_its_own_way(stage: Stage) -> None:
    """One message, two providers, each recipient by the one that its address draws."""
    split = Split((("ses", 1.0), ("mailtrap", 1.0)))
    people = [f"user{n}@example.net" for n in range(20)]
    ses, mailtrap = stage.provider("ses"), stage.provider("mailtrap")
    stage.route("ses", "mailtrap", split=split)
    async with stage.running():
        await stage.submit(*people)
        await stage.events.wait("removed")
    expected = {name: {one for one in people if pick(split, one) == name} for name in ("ses", "mailtrap")}
    assert expected == {"ses": {one for seen in ses.seen for one in seen}, "mailtrap": {one for seen in mailtrap.seen for one in seen}}
    assert all(expected.values())


async def test_the_fallback_of_a_split_takes_what_the_chosen_one_cannot(stage: Stage) -> None:
    """The other providers of the split get nothing that they were not chosen for."""
    other = stage.provider("other")
    stage.provider("chosen", always(Verdict.PAUSE))
    last = stage.provider("last")
    stage.route("chosen", "other", "last", split=Split((("chosen", 1.0), ("other", 0.0))), fallback=("last",))
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed")
    assert ([], [(BOB,)]) == (other.seen, last.seen)


def newcomer(**more: float) -> Ramp:
    return Ramp(START - DAY, 10 * DAY, (("old", 0.0, 0.0), ("new", 1.0, 2.0)), StepBack(least=5, **more))


async def test_a_ramp_steps_back_when_its_newcomer_refuses_and_stays_so_after_a_restart(stage: Stage) -> None:
    """The log says it once, the postmaster hears of it, and the next start goes on from there."""
    stage.provider("new", always(Verdict.PERM_RCPT))
    stage.provider("old")
    ramp = Ramp(START - 5 * DAY, 10 * DAY, (("old", 1.0, 0.0), ("new", 1.0, 1.0)), StepBack(least=5))
    stage.route("old", "new", ramp=ramp)
    stage.settings = replace(stage.settings, alerts=True, postmaster="postmaster@example.com")
    async with stage.running() as delivery:
        people = [f"user{n}@example.net" for n in range(40)]
        for person in people:
            await stage.submit(person, sender="")
        line = await stage.events.wait("stepped_back", route="default")
        [status] = delivery.ramps()
        assert (4 * DAY, START + 2 * DAY) == (status.behind, status.held_until)
        await stage.events.wait("alerted")
    assert "refused" in str(line)
    assert {"ramp default"} == set(await stage.real.kept())
    async with stage.running() as delivery:
        [again] = delivery.ramps()
    assert (status.behind, status.held_until) == (again.behind, again.held_until)


# The staging guard.


async def test_a_redirect_takes_the_recipients_place_on_the_wire_and_nowhere_else(stage: Stage) -> None:
    """One transaction to the redirect address, To rewritten, and the outcome belongs to each recipient."""
    ses = stage.provider("ses")
    stage.route("ses", guard=Guard(redirect="qa@example.com"))
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("removed", queue_id=queue_id)
    [job] = ses.attempts
    assert (Recipient("qa@example.com"),) == job.recipients
    block = edits.apply(job.message.header, job.edits)
    assert b"To: qa@example.com\r\n" in block
    assert b"X-Original-Recipient: bob@example.net, carol@example.org\r\n" in block
    assert [State.RELAYED, State.RELAYED] == [(await stage.state(queue_id, one)).state for one in (BOB, CAROL)]
    told = stage.events.found("attempt", queue_id=queue_id)
    assert [BOB, CAROL] == [line["recipient"] for line in told]


async def test_a_redirect_that_is_refused_is_the_recipients_failure(stage: Stage) -> None:
    """The bounce names the recipient, not the redirect address."""
    stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PERM_RCPT))
    stage.route("ses", guard=Guard(redirect="qa@example.com", allow=(SENDER,)))
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
    [(_, parsed)] = await stage.bounces()
    assert f"Final-Recipient: rfc822; {BOB}" in parsed.as_string()


async def test_a_guard_lets_some_go_and_bounces_the_others(stage: Stage) -> None:
    """5.7.1, without an attempt."""
    ses = stage.provider("ses")
    stage.route("ses", guard=Guard(allow=("*@example.net", SENDER)))
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("removed", 2)
    assert [(BOB,), (SENDER,)] == ses.seen
    state = await stage.state(queue_id, CAROL)
    assert (State.FAILED, "5.7.1", 0) == (state.state, state.status, state.attempts)


async def test_a_guard_captures_what_it_does_not_let_go(stage: Stage) -> None:
    """Neither the route's provider nor a failover ever sees it."""
    ses, hole = stage.provider("ses"), stage.provider("hole")
    stage.route("ses", guard=Guard(allow=("*@example.net",), capture="hole"))
    async with stage.running():
        await stage.submit(BOB, CAROL)
        await stage.events.wait("removed")
    assert ([(BOB,)], [(CAROL,)]) == (ses.seen, hole.seen)


async def test_a_bounce_on_a_guarded_route_is_guarded_too(stage: Stage) -> None:
    """The staging copy's sender is a person as well."""
    ses = stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PERM_RCPT))
    stage.route("ses", guard=Guard(allow=("*@example.net",), redirect="qa@example.com"))
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
    assert [(BOB,), ("qa@example.com",)] == ses.seen


# Senders.


async def test_a_sender_is_rewritten_on_the_way_out_and_the_entry_keeps_what_the_app_said(stage: Stage) -> None:
    """Reverse-path and From by the same rules; a bounce goes to the address that can get it."""
    ses = stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PERM_RCPT))
    stage.route("ses", match=Match(from_=("root@*",)))
    stage.route("ses", name="rest")
    stage.settings = replace(stage.settings, rewriting=Rewriting((("root@*", "alerts@example.com"),)))
    async with stage.running():
        queue_id = await stage.submit(BOB, sender="root@web1")
        await stage.events.wait("removed", 2)
    job = ses.attempts[0]
    assert "alerts@example.com" == job.envelope.reverse_path
    assert b"From: alerts@example.com\r\n" in edits.apply(job.message.header, job.edits)
    assert ("alerts@example.com",) == ses.seen[1]
    entry = await stage.real.entry(queue_id)
    assert entry is not None
    assert ("root@web1", "default") == (entry.envelope.reverse_path, entry.recipients[0].route)


# Circuits.


async def test_one_message_that_meets_a_refusal_goes_on_alone(stage: Stage) -> None:
    """It moves to the next provider; the others never notice."""
    poison = ""

    def script(job: Job, address: str) -> Outcome:
        return outcome(Verdict.PAUSE if job.queue_id == poison else Verdict.OK)

    first, second = stage.provider("first", script), stage.provider("second")
    stage.route("first", "second")
    async with stage.running() as delivery:
        incoming = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=incoming)
        first.gate.clear()
        poison = await stage.submit(BOB)
        await first.reached(2)
        first.gate.set()
        await stage.events.wait("removed", queue_id=poison)
        await stage.submit(CAROL)
        await stage.events.wait("removed", 3)
        assert ["up", "up"] == [one.state for one in await delivery.providers()]
    assert ([(BOB,), (BOB,), (CAROL,)], [(BOB,)]) == (first.seen, second.seen)
    assert 1 == len(stage.events.found("suspected", queue_id=poison))
    assert [] == stage.events.found("paused")


async def test_a_provider_that_does_not_answer_gets_no_more_than_two_messages(stage: Stage) -> None:
    """Those stay with it; all others, surely not taken, go to the next provider."""
    first = stage.provider("first", always(Verdict.UNKNOWN), concurrency=1)
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        ids = [await stage.submit(BOB) for _ in range(6)]
        await stage.events.wait("removed", 4)
        pinned = [queue_id for queue_id in ids if (await stage.state(queue_id, BOB)).maybe_relayed]
    assert 2 == len(pinned)
    assert set(pinned) == {job.queue_id for job in first.attempts}
    assert 4 == len(second.attempts)
    assert 1 == len(stage.events.found("paused", provider="first"))


async def test_an_admin_s_pause_outlives_a_restart_and_a_reload(stage: Stage) -> None:
    """Mail moves on along its route, or waits; resumed, it goes at once."""
    ses = stage.provider("ses")
    stage.route("ses")
    async with stage.running() as delivery:
        await delivery.pause("ses", "maintenance")
        queue_id = await stage.submit(BOB)
        await stage.waiting("ses", 1)
    async with stage.running() as delivery:
        await delivery.configure(stage.transports, stage.routes, stage.settings)
        [status] = await delivery.providers()
        assert ("paused", "maintenance", True) == (status.state, status.reason, status.by_admin)
        assert [] == ses.seen
        await delivery.resume("ses")
        await stage.events.wait("removed", queue_id=queue_id)
    assert {} == await stage.real.kept()


async def test_an_admin_s_pause_frees_who_stands_in_the_line(stage: Stage) -> None:
    """They go to the next provider at once, however long the attempts under way take; those end as they began."""
    first, second = stage.provider("first", concurrency=1), stage.provider("second")
    stage.route("first", "second")
    first.gate.clear()
    async with stage.running() as delivery:
        ids = [await stage.submit(BOB) for _ in range(3)]
        await first.reached(1)
        await delivery.pause("first", "")
        await stage.events.wait("removed", 2)
        [status, _] = await delivery.providers()
        assert ("paused", 1, 0) == (status.state, status.active, status.waiting)
        first.gate.set()
        await stage.events.wait("removed", 3)
    assert (ids[:1], set(ids[1:])) == ([job.queue_id for job in first.attempts], {job.queue_id for job in second.attempts})


async def test_a_pause_that_is_said_again_is_the_same_pause(stage: Stage) -> None:
    """Without a reason nothing changes; another reason takes the place of the first."""
    stage.provider("ses")
    stage.route("ses")
    async with stage.running() as delivery:
        await delivery.pause("ses", "outage")
        [before] = await delivery.providers()
        stage.pass_time(60)
        await delivery.pause("ses", "")
        await delivery.pause("ses", "outage")
        assert [before] == await delivery.providers()
        assert 1 == len(stage.events.found("paused_by_admin"))
        await delivery.pause("ses", "ticket 812")
        [after] = await delivery.providers()
    assert ("ticket 812", before.since) == (after.reason, after.since)
    assert {"paused ses": "ticket 812"} == await stage.real.kept()


# Budgets.


async def test_a_used_up_quota_waits_or_spills_and_survives_a_restart(stage: Stage) -> None:
    """The route that waits goes on the next day; the one that spills goes by the next provider at once."""
    ses, other = stage.provider("ses", concurrency=1), stage.provider("other")
    stage.route("ses", "other", name="patient", match=Match(to=(BOB,)))
    stage.route("ses", "other", name="hasty", spills=True)
    stage.allowances = {"ses": Allowance(daily=2)}
    async with stage.running():
        for _ in range(2):
            await stage.submit(BOB)
        await stage.events.wait("removed", 2)
    async with stage.running() as delivery:
        await stage.submit(BOB)
        await stage.waiting("ses", 1)
        await stage.submit(CAROL)
        await stage.events.wait("removed", 3)
        assert ["throttled", "up"] == [one.state for one in await delivery.providers()]
        assert 1 == len(stage.events.found("exhausted"))
        stage.pass_time(DAY + 120)
        await stage.events.wait("removed", 4)
    assert ([(BOB,)] * 3, [(CAROL,)]) == (ses.seen, other.seen)


async def test_a_mail_to_more_recipients_than_fit_a_budget_goes_in_pieces(stage: Stage) -> None:
    """None is larger than the budget, or it would wait for ever."""
    stage.clock.running = True
    ses = stage.provider("ses")
    stage.route("ses")
    stage.allowances = {"ses": Allowance((Rate(4, 0.2),), count="recipients")}
    async with stage.running():
        await stage.submit(*(f"user{n}@example.net" for n in range(10)))
        await stage.events.wait("removed")
    assert [4, 4, 2] == sorted((len(seen) for seen in ses.seen), reverse=True)


@pytest.mark.parametrize("guard", [None, Guard(redirect="qa@example.com")], ids=["nothing limits it", "one address stands for all"])
async def test_a_mail_to_many_stays_one_where_a_budget_counts_recipients(stage: Stage, guard: Guard | None) -> None:
    """It is cut only where it does not fit."""
    ses = stage.provider("ses")
    stage.route("ses", guard=guard)
    stage.allowances = {"ses": Allowance((Rate(3, 0.1),) if guard else (), count="recipients")}
    async with stage.running():
        await stage.submit(*(f"user{n}@example.net" for n in range(10)))
        await stage.events.wait("removed")
    assert [1 if guard else 10] == [len(seen) for seen in ses.seen]


class Asked(FakeTransport):
    """An account that says what it allows."""

    async def quota(self) -> Quota | None:
        return Quota(None, 1, 0)


async def test_what_the_account_allows_is_asked_and_obeyed(stage: Stage) -> None:
    """Once, at the start; the log says what it answered."""
    ses = stage.transports["ses"] = Asked("ses")
    stage.route("ses")
    stage.allowances = {"ses": Allowance(ask_daily=True)}
    async with stage.running():
        await stage.events.wait("quota_read", provider="ses")
        await stage.submit(BOB)
        await stage.events.wait("removed")
        await stage.submit(BOB)
        await stage.waiting("ses", 1)
    assert [(BOB,)] == ses.seen


async def test_a_full_line_spills_where_the_route_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the line cannot take goes by the next provider instead of waiting in the spool."""
    monkeypatch.setattr("relay.delivery.lanes.LANE", 3)
    slow, other = stage.provider("slow", concurrency=1), stage.provider("other")
    slow.gate.clear()
    stage.route("slow", "other", spills=True)
    async with stage.running():
        for _ in range(8):
            await stage.submit(BOB)
        await stage.events.wait("removed", 5)
        slow.gate.set()
        await stage.events.wait("removed", 8)
    assert (3, 5) == (len(slow.seen), len(other.seen))


async def test_a_burst_on_one_route_stands_in_its_own_line(stage: Stage) -> None:
    """Mail of another route by the same provider goes next, not after the burst."""
    ses = stage.provider("ses", concurrency=1)
    ses.gate.clear()
    stage.route("ses", name="bulk", match=Match(to=(BOB,)), priority="low")
    stage.route("ses")
    async with stage.running():
        for _ in range(300):
            await stage.submit(BOB)
        await ses.reached(1)
        queue_id = await stage.submit(CAROL)
        await stage.spool.called("claim", stage.journal.count("claim") + 1)
        ses.gate.set()
        await stage.events.wait("removed", 301)
    place = [job.queue_id for job in ses.attempts].index(queue_id)
    assert place < 20


# What an admin does to the queue.


async def test_an_admin_gives_up_mail_and_its_senders_are_told(stage: Stage) -> None:
    """Only those that are meant; who is meant by nobody goes on waiting."""
    stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.RETRY))
    stage.route("ses")
    async with stage.running() as delivery:
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("attempt", 2)
        assert 1 == await bounced(delivery, Filter(recipient="*@example.org", now=stage.clock()), "the list is closed")
        await stage.events.wait("removed", 1)
        assert State.QUEUED == (await stage.state(queue_id, BOB)).state
        assert State.FAILED == (await stage.state(queue_id, CAROL)).state
    [(_, parsed)] = await stage.bounces()
    assert "given up by an admin: the list is closed" in " ".join(parsed.as_string().split())


async def test_what_may_have_been_relayed_stays_where_it_is_unless_told(stage: Stage) -> None:
    """A reroute leaves it alone; told otherwise it goes by the new provider."""
    first = stage.provider("first", in_turn(outcome(Verdict.UNKNOWN), outcome(Verdict.OK)))
    second = stage.provider("second")
    stage.route("first")
    async with stage.running() as delivery:
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt", 1, maybe_relayed=True)
        assert 0 == await stage.real.reroute(Filter(), ("second",), stage.clock(), even_if_maybe_sent=False)
        assert 1 == await stage.real.reroute(Filter(), ("second",), stage.clock(), even_if_maybe_sent=True)
        delivery.wake()
        await stage.events.wait("removed", queue_id=queue_id)
    assert ([(BOB,)], [(BOB,)]) == (first.seen, second.seen)


async def test_a_mended_route_applies_to_what_is_queued(stage: Stage) -> None:
    """The route is chosen anew at each attempt."""
    stage.provider("first", always(Verdict.RETRY))
    second = stage.provider("second")
    stage.route("first")
    async with stage.running() as delivery:
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.routes = []
        stage.route("second")
        await delivery.configure(stage.transports, stage.routes, stage.settings)
        stage.pass_time(61)
        await stage.events.wait("removed", queue_id=queue_id)
    assert [(BOB,)] == second.seen


# Beside.


async def test_a_shadow_builds_and_sends_nothing_unless_it_is_a_sandbox(stage: Stage) -> None:
    """Its verdict is counted; the first provider's outcome is the message's."""
    stage.provider("ses")
    refusing, sandbox = stage.provider("refusing", refuses="too large"), stage.provider("sandbox")
    stage.route("ses", name="one", match=Match(to=(BOB,)), shadow="refusing")
    stage.route("ses", shadow="sandbox")
    stage.settings = replace(stage.settings, sandboxes=frozenset({"sandbox"}))
    async with stage.running() as delivery:
        await stage.submit(BOB)
        await stage.submit(CAROL)
        await stage.events.wait("removed", 2)
        totals = [(one.route, one.refused, one.carried) for one in delivery.shadows()]
    assert [("one", 1, 0), ("default", 0, 1)] == totals
    assert ([], [(CAROL,)]) == (refusing.seen, sandbox.seen)


async def test_two_providers_of_one_account_spend_one_budget(stage: Stage) -> None:
    """What one has sent the other may not; each is shown as throttled, and a restart knows it of both."""
    stream, bulk = stage.provider("stream"), stage.provider("bulk")
    stage.route("bulk", name="bulk", match=Match(to=(CAROL,)))
    stage.route("stream")
    stage.allowances = {"stream": Allowance(daily=2), "bulk": Allowance(daily=2, shared_with="stream")}
    async with stage.running():
        await stage.submit(BOB)
        await stage.submit(CAROL)
        await stage.events.wait("removed", 2)
        await stage.submit(CAROL)
        await stage.waiting("bulk", 1)
    async with stage.running():
        await stage.submit(BOB)
        await stage.waiting("stream", 1)
        await stage.waiting("bulk", 1)
        stage.pass_time(DAY + 120)
        await stage.events.wait("removed", 4)
    assert ([(BOB,)] * 2, [(CAROL,)] * 2) == (stream.seen, bulk.seen)
