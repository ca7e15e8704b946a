"""The contract of relay/spool/base.py, over every implementation. A new one needs one line in IMPLEMENTATIONS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import CorruptEntry, SpoolError
from relay.model import Entry, Notify, Outcome, Recipient, RecipientState, State, Verdict
from relay.spool.base import Changed, Filter, Recorded, Spool
from tests.spools import (
    BODY,
    CLIENT,
    EDITS,
    FAILED,
    HEADER,
    NOW,
    RELAYED,
    RICH,
    Clock,
    accept,
    attempt,
    deferred,
    envelope,
    leased,
    open_sqlite,
    outcome,
)

IMPLEMENTATIONS: dict[str, Callable[[Path, Clock], Awaitable[Spool]]] = {"sqlite": open_sqlite}
LARGE = HEADER + b"\r\n" + bytes(range(32, 127)) * 20_000  # 1.9 MB


class Place:
    """A spool and the means to open it again."""

    def __init__(self, directory: Path, opener: Callable[[Path, Clock], Awaitable[Spool]]) -> None:
        self.clock = Clock()
        self._directory = directory
        self._opener = opener
        self.spool: Spool

    async def open(self) -> Spool:
        self.spool = await self._opener(self._directory, self.clock)
        return self.spool

    async def reopen(self) -> Spool:
        await self.spool.close()
        return await self.open()


@pytest.fixture(params=IMPLEMENTATIONS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path, IMPLEMENTATIONS[request.param])
    await place.open()
    yield place
    await place.spool.close()


@pytest.fixture
def spool(place: Place) -> Spool:
    return place.spool


async def get(spool: Spool, queue_id: str) -> Entry:
    found = await spool.entry(queue_id)
    assert found is not None
    return found


async def states(spool: Spool, queue_id: str) -> dict[str, RecipientState]:
    return {state.recipient.address: state for state in (await get(spool, queue_id)).recipients}


# Accepting


async def test_a_committed_entry_is_read_back_as_it_was(spool: Spool) -> None:
    """Envelope, DSN parameters, edits and facts come back exactly, recipients in their order."""
    entry = await accept(spool, mail=RICH, via=("x", "y"), route="patients")
    assert RICH == entry.envelope
    assert EDITS == entry.edits
    assert CLIENT == entry.client
    assert (("x", "y"), {"patients"}) == (entry.via, {state.route for state in entry.recipients})
    assert entry == await get(spool, entry.queue_id)
    assert [entry] == list(await spool.claim(NOW, 10, 60))


async def test_a_committed_entry_survives_a_restart(place: Place) -> None:
    """What commit returned is there after closing and opening, byte for byte."""
    small = await accept(place.spool)
    large = await accept(place.spool, header=HEADER, body=LARGE[len(HEADER) :])
    spool = await place.reopen()
    assert small == await get(spool, small.queue_id)
    assert HEADER + BODY == await (await spool.message(small.queue_id)).read()
    assert LARGE == await (await spool.message(large.queue_id)).read()


@pytest.mark.parametrize("size", [len(HEADER) + 2, 65_536, 262_144, 262_145, 1_048_576, 3_000_001])
async def test_a_message_of_any_size_is_read_back_byte_for_byte(place: Place, size: int) -> None:
    """Whether fresh or read back, whole or in chunks of at most 256 KiB."""
    body = (b"\r\n" + b"0123456789abcdef" * (size // 16 + 1))[: size - len(HEADER)]
    entry = await accept(place.spool, body=body)
    for again in (False, True):
        spool = await place.reopen() if again else place.spool
        message = await spool.message(entry.queue_id)
        assert HEADER == message.header
        assert entry.facts == message.facts
        assert HEADER + body == await message.read()
        chunks = [chunk async for chunk in message.chunks()]
        assert HEADER + body == b"".join(chunks)
        assert max(len(chunk) for chunk in chunks) <= 262_144


async def test_a_message_without_body_or_header_is_stored(spool: Spool) -> None:
    """The smallest messages there are."""
    for header, body in ((HEADER, b""), (b"", b"\r\nno header\r\n"), (b"", b"")):
        entry = await accept(spool, header=header, body=body)
        message = await spool.message(entry.queue_id)
        assert header + body == await message.read()
        assert header + body == b"".join([chunk async for chunk in message.chunks()])


async def test_queue_ids_rise_and_are_fourteen_upper_case_hex_digits(spool: Spool) -> None:
    """Also when the clock stands still or steps back."""
    ids = [spool.incoming(now).queue_id for now in [NOW] * 600 + [NOW - 86_400] * 600 + [NOW + 1]]
    assert sorted(set(ids)) == ids
    assert {14} == {len(queue_id) for queue_id in ids}
    assert set("".join(ids)) <= set("0123456789ABCDEF")
    assert round(NOW * 1000) == int(ids[0], 16) >> 14


async def test_queue_ids_are_never_used_again(place: Place) -> None:
    """Not after an abort, not after a restart with a clock that went back."""
    aborted = place.spool.incoming(NOW)
    await aborted.abort()
    place.clock.now = NOW - 1_000_000
    spool = await place.reopen()
    assert spool.incoming(NOW - 1_000_000).queue_id > aborted.queue_id


async def test_an_aborted_message_leaves_nothing(place: Place) -> None:
    """Small or large."""
    for octets in (HEADER + BODY, LARGE):
        incoming = place.spool.incoming(NOW)
        incoming.write(octets)
        assert len(octets) == incoming.size
        await incoming.drain()
        await incoming.abort()
    spool = await place.reopen()
    assert (await spool.find(Filter(), 10), None) == ([], await spool.next_due())


async def test_a_commit_that_contradicts_itself_is_refused(spool: Spool) -> None:
    """Facts that do not count the octets, or a header block that is not the message's, store nothing."""
    entry = await accept(spool)
    for header, extra in ((HEADER, b"more"), (b"X-Other: 1\r\n", b"")):
        incoming = spool.incoming(NOW)
        incoming.write(HEADER + BODY + extra)
        with pytest.raises(SpoolError, match=incoming.queue_id):
            await incoming.commit(
                arrived=NOW, client=CLIENT, envelope=envelope(), facts=entry.facts, header=header, message_id="", edits=()
            )
    assert [entry.queue_id] == [found.queue_id for found in await spool.find(Filter(), 10)]


async def test_twenty_producers_lose_and_double_nothing(place: Place) -> None:
    """Every id that commit returned is there once after a restart, and no other."""

    async def produce(producer: int) -> list[str]:
        return [(await accept(place.spool, f"{producer}-{n}@example.net")).queue_id for n in range(20)]

    accepted = [queue_id for ids in await asyncio.gather(*(produce(n) for n in range(20))) for queue_id in ids]
    assert 400 == len(set(accepted))
    spool = await place.reopen()
    assert sorted(accepted) == [entry.queue_id for entry in await spool.find(Filter(), 1000)]


async def test_the_wake_call_comes_with_every_commit(spool: Spool) -> None:
    """Delivery hears of what is due at once."""
    calls: list[int] = []
    spool.on_due(lambda: calls.append(1))
    entry = await accept(spool)
    assert calls
    calls.clear()
    await spool.claim(NOW, 1, 60)
    await spool.wait(entry.queue_id, ["a@example.net"], "provider=x", NOW + 100)
    assert not calls
    await spool.wake("provider=x", NOW)
    assert calls


# Claims and leases


async def test_who_waits_without_an_attempt_is_found_by_the_provider_waited_for(spool: Spool) -> None:
    """Provider and route are noted where there was none; those of a recipient that was attempted stay."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    await attempt(spool, entry.queue_id, {"b@example.net": deferred(NOW)}, provider="first")
    await spool.wait(entry.queue_id, ["a@example.net", "b@example.net"], "second", NOW + 100, "second", "default")
    states = (await get(spool, entry.queue_id)).recipients
    assert [("second", "default"), ("first", states[1].route)] == [(state.provider, state.route) for state in states]
    assert [0, 1] == [state.attempts for state in states]
    assert 1 == await spool.count(Filter(provider="second", now=NOW))


async def test_claim_returns_the_oldest_due_first_and_not_more_than_asked(spool: Spool) -> None:
    """Order is by the time due, not by arrival."""
    first, second, third = [(await accept(spool, now=NOW + n)).queue_id for n in (0, 1, 2)]
    await spool.claim(NOW + 5, 10, 60)
    for queue_id, until in ((first, NOW + 30), (second, NOW + 10), (third, NOW + 20)):
        await spool.postpone(queue_id, ["a@example.net"], until)
    assert [] == list(await spool.claim(NOW + 9, 10, 60))
    assert NOW + 10 == await spool.next_due()
    assert [second, third] == [entry.queue_id for entry in await spool.claim(NOW + 40, 2, 60)]
    assert [first] == [entry.queue_id for entry in await spool.claim(NOW + 40, 2, 60)]


async def test_claim_fills_up_beside_entries_with_many_recipients(spool: Spool) -> None:
    """A limit counts entries, however many recipients each has."""
    many = [f"{n}@example.net" for n in range(300)]
    accepted = [(await accept(spool, *many)).queue_id for _ in range(3)]
    assert accepted == [entry.queue_id for entry in await spool.claim(NOW, 3, 60)]


async def test_a_leased_recipient_is_not_claimed_again_before_its_lease_ends(spool: Spool) -> None:
    """A renewed lease ends later."""
    entry = await accept(spool)
    assert 1 == len(await spool.claim(NOW, 10, 60))
    assert [] == list(await spool.claim(NOW + 59, 10, 60))
    await spool.renew(entry.queue_id, ["a@example.net"], NOW + 100)
    assert [] == list(await spool.claim(NOW + 99, 10, 60))
    assert NOW + 100 == await spool.next_due()
    assert ["a@example.net"] == [address for found in await spool.claim(NOW + 100, 10, 60) for address in leased(found, NOW + 100)]


async def test_renew_revives_no_lease(spool: Spool) -> None:
    """A lease that record ended is not taken up again."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 10)})
    await spool.renew(entry.queue_id, ["a@example.net"], NOW + 500)
    assert 1 == len(await spool.claim(NOW + 10, 1, 60))


async def test_each_claim_shows_only_its_own_recipients_as_due(spool: Spool) -> None:
    """While one recipient is under way, another that falls due is claimed without it."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    await spool.claim(NOW, 10, 600)
    await spool.postpone(entry.queue_id, ["b@example.net"], NOW + 10)
    (second,) = await spool.claim(NOW + 10, 10, 600)
    assert ("b@example.net",) == leased(second, NOW + 10)
    assert 2 == len(second.recipients)


async def test_a_lease_does_not_survive_a_restart(place: Place) -> None:
    """Whoever held it is gone."""
    await accept(place.spool)
    assert 1 == len(await place.spool.claim(NOW, 10, 86_400))
    spool = await place.reopen()
    assert 1 == len(await spool.claim(NOW, 10, 86_400))


@pytest.mark.parametrize("claim_first", [False, True])
async def test_a_claim_sees_the_outcomes_that_are_stored_with_it(spool: Spool, claim_first: bool) -> None:
    """The lease had run out; the record and the next claim are asked for at once: what is relayed is not claimed again."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    number = await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    record = spool.record(entry.queue_id, number, {"a@example.net": RELAYED}, "p", "r", NOW + 61)
    claim = spool.claim(NOW + 61, 10, 60)
    calls: list[Awaitable[object]] = [claim, record] if claim_first else [record, claim]
    results = await asyncio.gather(*calls)
    assert ([[], True] if claim_first else [True, []]) == results


# Attempts


async def test_a_relayed_entry_goes_into_the_history(spool: Spool) -> None:
    """record says that none is open; finish takes the body; entry and history stay."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    assert await attempt(spool, entry.queue_id, {"a@example.net": RELAYED}, now=NOW + 1)
    assert [entry.queue_id] == list(await spool.unclosed())
    await spool.finish(entry.queue_id, NOW + 2, keep_body=False)
    assert [] == list(await spool.unclosed())
    found = await get(spool, entry.queue_id)
    assert (NOW + 2, HEADER) == (found.finished, found.header)
    assert (State.RELAYED, 1, "smarthost", "default") == tuple(
        getattr(found.recipients[0], name) for name in ("state", "attempts", "provider", "route")
    )
    (step,) = await spool.history(entry.queue_id)
    assert (NOW + 1, "a@example.net", "OK", "2.0.0", "250 2.0.0 Ok", "r-1", State.RELAYED) == (
        step.time,
        step.recipient,
        step.verdict,
        step.status,
        step.reply,
        step.remote_id,
        step.state,
    )
    with pytest.raises(SpoolError):
        await spool.message(entry.queue_id)


@pytest.mark.parametrize("body", [BODY, LARGE])
async def test_a_kept_body_stays_until_it_is_purged(place: Place, body: bytes) -> None:
    """keep_body keeps it readable, also after a restart; purge takes it and leaves the history."""
    entry = await accept(place.spool, body=body)
    await attempt(place.spool, entry.queue_id, {"a@example.net": RELAYED})
    await place.spool.finish(entry.queue_id, NOW, keep_body=True)
    spool = await place.reopen()
    assert HEADER + body == await (await spool.message(entry.queue_id)).read()
    assert 0 == await spool.purge(0, NOW)
    assert HEADER + body == await (await spool.message(entry.queue_id)).read()
    assert 0 == await spool.purge(0, NOW + 1)
    with pytest.raises(SpoolError):
        await spool.message(entry.queue_id)
    assert 1 == len(await spool.history(entry.queue_id))


async def test_finish_leaves_an_entry_with_an_open_recipient(spool: Spool) -> None:
    """It stays in the queue, and finishing twice does no harm: only one call ends the entry."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    assert not await attempt(spool, entry.queue_id, {"a@example.net": RELAYED})
    assert not await spool.finish(entry.queue_id, NOW, keep_body=False)
    assert await attempt(spool, entry.queue_id, {"b@example.net": FAILED})
    assert not await spool.finish(entry.queue_id, NOW, keep_body=False)
    await accept(spool, "app@example.com", answers=entry.queue_id, told=["b@example.net"])
    assert [True, False] == [await spool.finish(entry.queue_id, at, keep_body=False) for at in (NOW, NOW + 5)]
    assert NOW == (await get(spool, entry.queue_id)).finished


async def test_attempt_numbers_rise_also_over_a_restart(place: Place) -> None:
    """No number is used twice."""
    entry = await accept(place.spool)
    first = await place.spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    await place.spool.record(entry.queue_id, first, {"a@example.net": deferred(NOW)}, "p", "r", NOW)
    spool = await place.reopen()
    assert await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW) > first > 0


async def test_an_attempt_without_outcome_is_found_after_a_restart(place: Place) -> None:
    """Only from before this start, and only until it is recorded."""
    entry = await accept(place.spool, "a@example.net", "b@example.net", "c@example.net")
    number = await place.spool.begin(entry.queue_id, ["a@example.net", "b@example.net"], "p", "r", NOW + 1)
    spool = await place.reopen()
    (begun,) = await spool.unfinished()
    assert (number, entry.queue_id, "p", "r", ("a@example.net", "b@example.net"), NOW + 1) == (
        begun.attempt,
        begun.queue_id,
        begun.provider,
        begun.route,
        begun.recipients,
        begun.started,
    )
    await spool.begin(entry.queue_id, ["c@example.net"], "p", "r", NOW)
    assert [begun] == list(await spool.unfinished())
    await spool.record(entry.queue_id, number, {"b@example.net": deferred(NOW, Verdict.UNKNOWN)}, "p", "r", NOW)
    assert [] == list(await spool.unfinished())


async def test_an_attempt_is_unfinished_for_its_open_recipients_only(place: Place) -> None:
    """What an admin deleted before recovery is not reported, at no start; purge takes what is left of it."""
    entry = await accept(place.spool, "a@example.net", "b@example.net")
    other = await accept(place.spool)
    await place.spool.begin(entry.queue_id, ["a@example.net", "b@example.net"], "p", "r", NOW)
    await place.spool.begin(other.queue_id, ["a@example.net"], "p", "r", NOW)
    spool = await place.reopen()
    assert 2 == await spool.delete(Filter(recipient="a@*"), NOW)
    assert [(entry.queue_id, ("b@example.net",))] == [(begun.queue_id, begun.recipients) for begun in await spool.unfinished()]
    assert 1 == await spool.delete(Filter(recipient="b@*"), NOW)
    for again in (False, True):
        spool = await place.reopen() if again else place.spool
        assert [] == list(await spool.unfinished())
    assert 2 == await spool.purge(NOW + 1, NOW)


@pytest.mark.parametrize("outcomes", [{}, {"a@example.net": RELAYED}])
async def test_a_record_closes_its_attempt_for_every_recipient(place: Place, outcomes: dict[str, Recorded]) -> None:
    """Also with outcomes for fewer, or none; an attempt of another number is left alone."""
    entry = await accept(place.spool, "a@example.net", "b@example.net")
    number = await place.spool.begin(entry.queue_id, ["a@example.net", "b@example.net"], "p", "r", NOW)
    other = await place.spool.begin(entry.queue_id, ["b@example.net"], "p", "r", NOW)
    spool = await place.reopen()
    assert not await spool.record(entry.queue_id, number, outcomes, "p", "r", NOW)
    assert [other] == [begun.attempt for begun in await spool.unfinished()]


async def test_a_record_of_nothing_says_whether_a_recipient_is_open(spool: Spool) -> None:
    """It changes nothing."""
    entry = await accept(spool)
    before = await get(spool, entry.queue_id)
    number = await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    assert not await spool.record(entry.queue_id, number, {}, "p", "r", NOW)
    assert (before, []) == (await get(spool, entry.queue_id), list(await spool.history(entry.queue_id)))
    await spool.delete(Filter(), NOW)
    assert await spool.record(entry.queue_id, number, {}, "p", "r", NOW)


async def test_a_deferred_recipient_falls_due_again(spool: Spool) -> None:
    """What record stored is what entry shows."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    await spool.claim(NOW, 1, 600)
    outcomes = {"a@example.net": deferred(NOW + 60, since=NOW), "b@example.net": deferred(NOW + 90, waits="provider=p")}
    assert not await attempt(spool, entry.queue_id, outcomes)
    found = await states(spool, entry.queue_id)
    a, b = found["a@example.net"], found["b@example.net"]
    assert (State.QUEUED, 1, NOW + 60, NOW, Verdict.RETRY, "4.4.2", "451 4.4.2 later", "") == (
        a.state,
        a.attempts,
        a.next_attempt,
        a.since,
        a.verdict,
        a.status,
        a.reply,
        a.waits,
    )
    assert ("provider=p", 1) == (b.waits, await spool.waiting("provider=p"))
    (again,) = await spool.claim(NOW + 60, 1, 600)
    assert ("a@example.net",) == leased(again, NOW + 60)


async def test_a_decision_without_attempt_counts_none(spool: Spool) -> None:
    """Attempt 0 leaves a step and the provider last attempted; the attempts stay."""
    entry = await accept(spool)
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW, Verdict.UNKNOWN)}, provider="first")
    await spool.record(entry.queue_id, 0, {"a@example.net": deferred(NOW + 5)}, "second", "r", NOW + 1)
    found = (await states(spool, entry.queue_id))["a@example.net"]
    assert (1, "first", True) == (found.attempts, found.provider, found.maybe_relayed)
    assert [1, 0] == [min(step.attempt, 1) for step in await spool.history(entry.queue_id)]


async def test_a_decision_names_the_provider_of_a_recipient_that_is_not_pinned(spool: Spool) -> None:
    """It replaces the provider when it names one, and keeps it when it names none."""
    entry = await accept(spool)
    await spool.record(entry.queue_id, 0, {"a@example.net": deferred(NOW)}, "p", "r", NOW)
    assert ("p", "r") == (lambda s: (s.provider, s.route))((await states(spool, entry.queue_id))["a@example.net"])
    await spool.record(entry.queue_id, 0, {"a@example.net": deferred(NOW)}, "", "", NOW)
    assert ("p", "r") == (lambda s: (s.provider, s.route))((await states(spool, entry.queue_id))["a@example.net"])


async def test_maybe_relayed_stays_until_the_recipient_is_relayed(spool: Spool) -> None:
    """An unknown outcome is not forgotten by a later deferral, nor in the history of a failed one."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    both = ("a@example.net", "b@example.net")
    await attempt(spool, entry.queue_id, dict.fromkeys(both, deferred(NOW, Verdict.UNKNOWN)))
    await attempt(spool, entry.queue_id, dict.fromkeys(both, deferred(NOW, Verdict.RETRY)))
    assert [True, True] == [state.maybe_relayed for state in (await states(spool, entry.queue_id)).values()]
    await attempt(spool, entry.queue_id, {"a@example.net": RELAYED, "b@example.net": FAILED})
    assert [False, True] == [state.maybe_relayed for state in (await states(spool, entry.queue_id)).values()]


async def test_a_reply_that_is_no_valid_text_is_stored_all_the_same(spool: Spool) -> None:
    """Half a surrogate pair in what a peer said does not cost us the outcome."""
    entry = await accept(spool)
    recorded = Recorded(outcome(reply="250 \udcff ok ü"), State.RELAYED)
    await attempt(spool, entry.queue_id, {"a@example.net": recorded})
    assert "250 ? ok ü" == (await states(spool, entry.queue_id))["a@example.net"].reply


async def test_a_failed_recipient_is_untold_until_a_bounce_is_committed(place: Place) -> None:
    """The bounce marks it in its own transaction; one recorded as told needs none."""
    entry = await accept(place.spool, "a@example.net", "b@example.net", "c@example.net")
    quiet = replace(FAILED, told=True)
    outcomes = {"a@example.net": FAILED, "b@example.net": quiet, "c@example.net": FAILED}
    assert await attempt(place.spool, entry.queue_id, outcomes)
    spool = await place.reopen()
    assert [entry.queue_id] == list(await spool.untold())
    bounce = await accept(spool, "app@example.com", sender="", answers=entry.queue_id, told=("a@example.net", "c@example.net"))
    assert bounce.bounce
    assert [] == list(await spool.untold())
    assert {True} == {state.told for state in (await states(spool, entry.queue_id)).values()}


async def test_a_success_that_is_to_be_told_keeps_the_entry_until_it_is(place: Place) -> None:
    """Only where NOTIFY asks for it and it is not recorded as told; `told` says that nothing is due after all."""
    asking = frozenset({Notify.SUCCESS, Notify.FAILURE})
    entry = await accept(place.spool, Recipient("a@example.net", asking), Recipient("b@example.net", asking), "c@example.net")
    quiet = replace(RELAYED, told=True)
    assert await attempt(place.spool, entry.queue_id, {"a@example.net": RELAYED, "b@example.net": quiet, "c@example.net": RELAYED})
    spool = await place.reopen()
    assert [entry.queue_id] == list(await spool.untold())
    assert not await spool.finish(entry.queue_id, NOW, keep_body=False)
    await spool.told(entry.queue_id, ["a@example.net"])
    assert [] == list(await spool.untold())
    assert await spool.finish(entry.queue_id, NOW, keep_body=False)


async def test_late_are_those_that_were_deferred_or_wait_and_whose_sender_was_not_warned(place: Place) -> None:
    """By arrival; not what nobody tried yet, what is held or final, a null reverse-path, a bounce, or a corrupt entry."""
    spool = place.spool
    accepted = [await accept(spool, "a@example.net", "b@example.net", now=NOW + n) for n in range(9)]
    nobody = await accept(spool, now=NOW, sender="")
    bounce = await accept(spool, now=NOW, answers=accepted[8].queue_id)
    names = [entry.queue_id for entry in accepted]
    for queue_id in (names[0], names[3], names[4], names[6], names[7], nobody.queue_id, bounce.queue_id):
        await attempt(spool, queue_id, {"a@example.net": deferred(NOW + 900)}, now=NOW + 10)
    await spool.wait(names[1], ["b@example.net"], "p", NOW + 900)  # names[2] was never tried
    await spool.hold(Filter(queue_id=names[3]), NOW + 10)
    await attempt(spool, names[4], {"a@example.net": RELAYED}, now=NOW + 11)
    await spool.set_aside(names[6], "why", NOW)
    assert names[:2] == list(await spool.late(NOW + 7, 10))
    assert [*names[:2], names[7]] == list(await spool.late(NOW + 8, 10))
    assert ([names[0]], [names[1]]) == (list(await spool.late(NOW + 8, 1)), list(await spool.late(NOW + 8, 1, names[0])))
    await accept(spool, "app@example.com", sender="", answers=names[0], told=["a@example.net"], warns=True)
    for again in (False, True):
        spool = await place.reopen() if again else spool
        assert [names[1], names[7]] == list(await spool.late(NOW + 8, 10))


async def test_late_are_only_those_who_want_to_know(place: Place) -> None:
    """A recipient whose NOTIFY has no DELAY would be found again and again."""
    spool, names = place.spool, []
    for words in ((), (Notify.DELAY, Notify.FAILURE), (Notify.FAILURE, Notify.SUCCESS), (Notify.NEVER,)):
        entry = await accept(spool, Recipient("a@example.net", frozenset(words)))
        await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 900)})
        names.append(entry.queue_id)
    assert names[:2] == list(await spool.late(NOW + 1, 10))


async def test_a_clock_that_stepped_back_hides_nothing(place: Place) -> None:
    """Ids run ahead of the clock then, perhaps by years; what is late is found and what is old is purged all the same."""
    spool = place.spool
    place.clock.now = NOW + 1e8
    await accept(spool, now=NOW + 1e8)
    place.clock.now = NOW
    for again in (False, True):
        spool = await place.reopen() if again else spool
        late, old = await accept(spool, "a@example.net"), await accept(spool, "a@example.net")
        await attempt(spool, late.queue_id, {"a@example.net": deferred(NOW + 900)})
        await attempt(spool, old.queue_id, {"a@example.net": RELAYED})
        assert await spool.finish(old.queue_id, NOW, keep_body=False)
        assert [late.queue_id] == list(await spool.late(NOW + 1, 10))
        assert 1 == await spool.purge(NOW + 1, NOW + 1)
        assert 1 == await spool.delete(Filter(queue_id=late.queue_id), NOW + 2000)


async def test_the_mark_of_a_warning_lasts_until_the_end_and_says_nothing_of_it(spool: Spool) -> None:
    """A later deferral keeps it, a hold too; a failure is to be told all the same, also one that came before the warning was stored."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    both = ("a@example.net", "b@example.net")
    await attempt(spool, entry.queue_id, dict.fromkeys(both, deferred(NOW)))
    await attempt(spool, entry.queue_id, {"b@example.net": FAILED})
    await accept(spool, "app@example.com", sender="", answers=entry.queue_id, told=both, warns=True)
    assert [True, False] == [state.told for state in (await states(spool, entry.queue_id)).values()]
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 9)})
    await spool.hold(Filter(recipient="a@*"), NOW)
    await spool.release(Filter(recipient="a@*"), NOW)
    await spool.wait(entry.queue_id, ["a@example.net"], "p", NOW + 99)
    assert (True, []) == ((await states(spool, entry.queue_id))["a@example.net"].told, list(await spool.late(NOW + 1, 10)))
    assert [entry.queue_id] == list(await spool.untold())
    await spool.told(entry.queue_id, ["b@example.net"])
    await attempt(spool, entry.queue_id, {"a@example.net": FAILED})
    assert [entry.queue_id] == list(await spool.untold())
    await accept(spool, "app@example.com", sender="", answers=entry.queue_id, told=["a@example.net"])
    assert [] == list(await spool.untold())


# Waiting for a paused provider


async def test_waiting_recipients_are_woken_oldest_first(spool: Spool) -> None:
    """One to probe with, then all; only those of the key."""
    accepted = [(await accept(spool, now=NOW + n)).queue_id for n in range(3)]
    other = (await accept(spool, "o@example.net", now=NOW + 4)).queue_id
    await spool.claim(NOW + 5, 10, 60)
    for queue_id in accepted:
        await spool.wait(queue_id, ["a@example.net"], "provider=p", NOW + 1000)
    await spool.wait(other, ["o@example.net"], "identity=q", NOW + 1000)
    assert 3 == await spool.waiting("provider=p")
    assert 1 == await spool.wake("provider=p", NOW + 10, limit=1)
    assert accepted[:1] == [entry.queue_id for entry in await spool.claim(NOW + 10, 10, 60)]
    assert 2 == await spool.wake("provider=p", NOW + 10)
    assert accepted[1:] == [entry.queue_id for entry in await spool.claim(NOW + 10, 10, 60)]
    assert (0, 1) == (await spool.waiting("provider=p"), await spool.wake(None, NOW + 11))
    assert [other] == [entry.queue_id for entry in await spool.claim(NOW + 11, 10, 60)]


async def test_a_wait_ends_by_itself_at_its_time(spool: Spool) -> None:
    """Then the recipient is claimed and waits for nothing."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    await spool.wait(entry.queue_id, ["a@example.net"], "provider=p", NOW + 100)
    assert [] == list(await spool.claim(NOW + 99, 1, 60))
    (claimed,) = await spool.claim(NOW + 100, 1, 60)
    assert ("", 0) == (claimed.recipients[0].waits, await spool.waiting("provider=p"))


async def test_the_newest_is_woken_where_it_is_asked_for(spool: Spool) -> None:
    """So that not always the same one is the probe."""
    accepted = [(await accept(spool, now=NOW + n)).queue_id for n in range(3)]
    await spool.claim(NOW + 5, 10, 60)
    for queue_id in accepted:
        await spool.wait(queue_id, ["a@example.net"], "p", NOW + 1000)
    assert 1 == await spool.wake("p", NOW + 10, limit=1, newest=True)
    assert accepted[-1:] == [entry.queue_id for entry in await spool.claim(NOW + 10, 10, 60)]


LINED_UP = ["p", "p domain=example.com", "p message=0A", "p line old", "p2", "q line news"]


@pytest.mark.parametrize(
    ("key", "left"), [("p", LINED_UP[1:3] + LINED_UP[4:5]), ("p domain=example.com", ["p", "p message=0A", "p2"]), (None, [])]
)
async def test_what_waited_is_lined_up_by_its_route(spool: Spool, key: str | None, left: list[str]) -> None:
    """Under the provider it waited for; who waits for its turn already stays where it is, as does what waits for another key."""
    for n, waits in enumerate(LINED_UP):
        entry = await accept(spool, *(f"{one}@example.net" for one in range(300)), now=NOW + n)
        await spool.wait(entry.queue_id, [f"{one}@example.net" for one in range(300)], waits, NOW + 999, "p", f"r{n % 2}")
    moved = [waits for waits in (LINED_UP[:3] + LINED_UP[4:5]) if waits not in left]
    lines = {f"{waits.partition(' ')[0]} line r{LINED_UP.index(waits) % 2}" for waits in moved}
    assert sorted({*lines, "p line old", "q line news"}) == list(await spool.line_up(key))
    assert [300] * len(left) == [await spool.waiting(waits) for waits in left]
    assert [0] * len(moved) == [await spool.waiting(waits) for waits in moved]
    assert 300 * len(moved) == sum([await spool.waiting(line) for line in lines])
    assert [] == list(await spool.claim(NOW + 998, 10, 60))


async def test_of_more_than_a_claim_takes_the_newest_has_its_part(spool: Spool) -> None:
    """New mail does not stand behind all that fell due before; nobody is claimed twice."""
    accepted = [(await accept(spool, now=NOW + n)).queue_id for n in range(12)]
    claimed = [entry.queue_id for entry in await spool.claim(NOW + 20, 8, 60)]
    assert accepted[:6] + accepted[:-3:-1] == claimed
    assert accepted[6:10] == [entry.queue_id for entry in await spool.claim(NOW + 20, 8, 60)]


@pytest.mark.parametrize("key", ["k", None])
async def test_more_than_a_chunk_is_woken(spool: Spool, key: str | None) -> None:
    """Waking goes on until none is left."""
    many = [f"{n}@example.net" for n in range(400)]
    for n in range(3):
        entry = await accept(spool, *many, now=NOW + n)
        await spool.wait(entry.queue_id, many[n:], "k", NOW + 50)
    assert 1197 == await spool.wake(key, NOW + 9)
    assert 0 == await spool.wake(key, NOW + 9)
    assert 0 == await spool.waiting("k")


@pytest.mark.parametrize("key", ["k", None])
async def test_waking_cuts_no_entry_in_two(spool: Spool, key: str | None) -> None:
    """A limit is rounded up: the recipients of one mail that wait for a key are woken together."""
    many = [f"{n}@example.net" for n in range(100)]
    entries = [await accept(spool, *many, now=NOW + n) for n in range(3)]
    for entry in entries:
        await spool.wait(entry.queue_id, many[1:], "k", NOW + 99)
        await spool.postpone(entry.queue_id, many[:1], NOW + 99)
    assert 99 == await spool.wake(key, NOW + 9, limit=1)
    assert 198 == await spool.wake(key, NOW + 9, limit=150)
    assert [99] * 3 == [len(leased(entry, NOW + 9)) for entry in await spool.claim(NOW + 9, 10, 60)]


# What an admin does


async def test_find_pages_through_the_queue(spool: Spool) -> None:
    """By queue id, after the last one seen."""
    accepted = [(await accept(spool)).queue_id for _ in range(5)]
    first = await spool.find(Filter(), 2)
    rest = await spool.find(Filter(), 10, after=first[-1].queue_id)
    assert accepted == [entry.queue_id for entry in (*first, *rest)]


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (Filter(), "ab"),
        (Filter(sender="APP@*"), "a"),
        (Filter(sender="app@example.com"), "a"),
        (Filter(recipient="*@EXAMPLE.org"), "b"),
        (Filter(recipient="x@[192.0.2.1]"), "b"),
        (Filter(recipient="*.example"), ""),
        (Filter(provider="smart*"), "b"),
        (Filter(route="default", provider="other"), ""),
        (Filter(state="active", now=NOW), "a"),
        (Filter(state="deferred", now=NOW), "b"),
        (Filter(state="hold"), "b"),
        (Filter(state="finished"), "c"),
        (Filter(state="corrupt"), ""),
        (Filter(state="no such state"), ""),
        (Filter(older=50, now=NOW + 60), "a"),
        (Filter(older=100, now=NOW + 60), ""),
        (Filter(queue_id="nonsense"), ""),
    ],
)
async def test_a_filter_means_the_recipients_that_match_every_key(spool: Spool, what: Filter, found: str) -> None:
    """Globs compare without case; states are told apart by recipient."""
    names = {(await accept(spool)).queue_id: "a"}
    b = await accept(spool, "x@example.org", "x@[192.0.2.1]", sender="news@lists.example.com", now=NOW + 55)
    c = await accept(spool)
    names |= {b.queue_id: "b", c.queue_id: "c"}
    await attempt(spool, b.queue_id, {"x@example.org": deferred(NOW + 60)})
    await spool.hold(Filter(recipient="x@[[]*"), NOW + 55)
    await attempt(spool, c.queue_id, {"a@example.net": RELAYED})
    await spool.finish(c.queue_id, NOW, keep_body=False)
    assert list(found) == [names[entry.queue_id] for entry in await spool.find(what, 10)]
    assert bool(found) == bool(await spool.count(what))


async def test_an_id_prefix_finds_and_resolves(spool: Spool) -> None:
    """Upper or lower case."""
    entry = await accept(spool)
    prefix = entry.queue_id[:9].lower()
    assert [entry.queue_id] == list(await spool.resolve(prefix))
    assert [entry.queue_id] == [found.queue_id for found in await spool.find(Filter(queue_id=prefix), 10)]
    assert [] == list(await spool.resolve("ZZ"))
    assert [] == list(await spool.resolve(""))
    assert (await spool.entry("nonsense"), await spool.entry("0" * 14)) == (None, None)
    with pytest.raises(SpoolError):
        await spool.message("0" * 14)


async def test_held_recipients_wait_for_their_release(spool: Spool) -> None:
    """hold leaves leased ones alone; release makes the held ones due."""
    entry = await accept(spool, "a@example.net")
    leased_one = await accept(spool, "b@example.net", now=NOW - 1)
    assert 1 == len(await spool.claim(NOW - 1, 1, 600))
    assert 1 == await spool.hold(Filter(), NOW)
    assert [] == list(await spool.claim(NOW + 1, 10, 60))
    assert State.HELD is (await states(spool, entry.queue_id))["a@example.net"].state
    assert State.QUEUED is (await states(spool, leased_one.queue_id))["b@example.net"].state
    assert 1 == await spool.release(Filter(), NOW + 5)
    assert [entry.queue_id] == [found.queue_id for found in await spool.claim(NOW + 5, 10, 60)]


@pytest.mark.parametrize(
    ("recorded", "state"), [(deferred(NOW + 70, waits="k"), State.HELD), (FAILED, State.FAILED), (RELAYED, State.RELAYED)]
)
async def test_a_recipient_held_in_the_middle_of_an_attempt_stays_held(spool: Spool, recorded: Recorded, state: State) -> None:
    """Its lease had run out. What the attempt says is stored; only a final outcome ends what the admin decided."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    number = await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    assert 1 == await spool.hold(Filter(), NOW + 60)
    assert (state is not State.HELD) == await spool.record(entry.queue_id, number, {"a@example.net": recorded}, "p", "r", NOW + 61)
    found = (await states(spool, entry.queue_id))["a@example.net"]
    assert (state, 1, recorded.outcome.reply, "") == (found.state, found.attempts, found.reply, found.waits)
    assert ([], None) == (list(await spool.claim(NOW + 999, 10, 60)), await spool.next_due())
    assert (state is State.HELD) == await spool.release(Filter(), NOW + 999)


async def test_retry_makes_deferred_and_waiting_recipients_due(spool: Spool) -> None:
    """Held and leased ones stay as they are."""
    entry = await accept(spool, "a@example.net", "b@example.net", "c@example.net")
    await spool.claim(NOW, 1, 600)
    await spool.postpone(entry.queue_id, ["a@example.net"], NOW + 999)
    await spool.wait(entry.queue_id, ["b@example.net"], "k", NOW + 999)
    assert 2 == await spool.retry(Filter(queue_id=entry.queue_id), NOW + 1)
    (claimed,) = await spool.claim(NOW + 1, 10, 60)
    assert ("a@example.net", "b@example.net") == leased(claimed, NOW + 1)
    assert 0 == await spool.waiting("k")


async def test_reroute_fixes_the_providers_and_leaves_pinned_recipients(spool: Spool) -> None:
    """A maybe-relayed recipient moves only when told."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 99), "b@example.net": deferred(NOW + 99, Verdict.UNKNOWN)})
    assert 1 == await spool.reroute(Filter(), ("other",), NOW + 1, even_if_maybe_sent=False)
    (claimed,) = await spool.claim(NOW + 1, 10, 60)
    assert [("other",), ()] == [state.via for state in claimed.recipients]
    assert ("a@example.net",) == leased(claimed, NOW + 1)
    await spool.postpone(entry.queue_id, ["a@example.net"], NOW + 99)
    assert 2 == await spool.reroute(Filter(), ("third",), NOW + 2, even_if_maybe_sent=True)
    found = await get(spool, entry.queue_id)
    assert [(("third",), False)] * 2 == [(state.via, state.maybe_relayed) for state in found.recipients]
    assert () == found.via


async def test_reroute_leaves_held_recipients_held(spool: Spool) -> None:
    """They take the new way when they are released."""
    entry = await accept(spool)
    await spool.hold(Filter(), NOW)
    assert 1 == await spool.reroute(Filter(), ("other",), NOW, even_if_maybe_sent=False)
    found = await get(spool, entry.queue_id)
    assert (("other",), State.HELD) == (found.recipients[0].via, found.recipients[0].state)
    assert [] == list(await spool.claim(NOW, 10, 60))


async def test_delete_finishes_entries_left_without_an_open_recipient(spool: Spool) -> None:
    """Others of the entry go on; the history says who did it; a leased recipient is not deleted."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    assert 1 == await spool.delete(Filter(recipient="a@*"), NOW)
    assert (await get(spool, entry.queue_id)).finished is None
    await spool.claim(NOW, 1, 60)
    assert 0 == await spool.delete(Filter(), NOW)
    assert 1 == await spool.delete(Filter(), NOW + 60)
    found = await get(spool, entry.queue_id)
    assert (NOW + 60, {State.DELETED}) == (found.finished, {state.state for state in found.recipients})
    assert ["deleted by an admin"] * 2 == [step.reply for step in await spool.history(entry.queue_id)]
    with pytest.raises(SpoolError):
        await spool.message(entry.queue_id)


async def test_delete_leaves_an_entry_whose_bounce_is_due(spool: Spool) -> None:
    """Nobody has told the sender about its failed recipient yet; after that it is finished as any other."""
    entry = await accept(spool, "a@example.net", "b@example.net", sender="app@example.com")
    await attempt(spool, entry.queue_id, {"a@example.net": FAILED})
    assert 1 == await spool.delete(Filter(), NOW)
    assert [entry.queue_id] == list(await spool.untold())
    assert HEADER + BODY == await (await spool.message(entry.queue_id)).read()
    await accept(spool, "app@example.com", answers=entry.queue_id, told=["a@example.net"])
    assert await spool.finish(entry.queue_id, NOW, keep_body=False)


@pytest.mark.parametrize(("recorded", "state"), [(deferred(NOW + 70), State.DELETED), (FAILED, State.DELETED), (RELAYED, State.RELAYED)])
async def test_a_recipient_deleted_in_the_middle_of_an_attempt_is_not_reopened(spool: Spool, recorded: Recorded, state: State) -> None:
    """Its lease had run out. That it was relayed all the same is told; anything else changes nothing any more."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    number = await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    assert 1 == await spool.delete(Filter(), NOW + 60)
    assert await spool.record(entry.queue_id, number, {"a@example.net": recorded}, "p", "r", NOW + 61)
    assert state is (await states(spool, entry.queue_id))["a@example.net"].state
    assert [] == list(await spool.claim(NOW + 999, 10, 60))
    assert 2 == len(await spool.history(entry.queue_id))


async def test_more_than_a_chunk_is_altered(spool: Spool) -> None:
    """Commits go on between the chunks."""
    entry = await accept(spool, *[f"{n}@example.net" for n in range(1000)])
    other = await accept(spool, *[f"{n}@example.net" for n in range(300)])
    held, accepted = await asyncio.gather(spool.hold(Filter(), NOW), accept(spool, "new@example.org", now=NOW + 1))
    assert held in (1300, 1301)
    assert 1000 == await spool.delete(Filter(queue_id=entry.queue_id), NOW)
    assert 300 <= await spool.release(Filter(), NOW) <= 301
    assert [other.queue_id, accepted.queue_id] == [found.queue_id for found in await spool.claim(NOW + 1, 10, 60)]


async def test_each_tells_of_every_entry_what_became_of_it(spool: Spool) -> None:
    """How many recipients, whether it was ended, and nothing of entries that are as they were."""
    two, left, owed = await accept(spool, "a@example.net", "b@example.net"), await accept(spool, "b@example.net"), await accept(spool)
    both = await accept(spool, "a@example.net", "x@example.net")
    await attempt(spool, both.queue_id, {"x@example.net": FAILED})
    held = [one async for chunk in spool.each("hold", Filter(recipient="a@*"), NOW) for one in chunk]
    assert [Changed(entry.queue_id, 1) for entry in (two, owed, both)] == held
    assert [] == [chunk async for chunk in spool.each("hold", Filter(recipient="a@*"), NOW)]
    gone = [one async for chunk in spool.each("delete", Filter(recipient="a@*"), NOW) for one in chunk]
    assert [Changed(two.queue_id, 1), Changed(owed.queue_id, 1, ended=True), Changed(both.queue_id, 1)] == gone
    gone = [one async for chunk in spool.each("delete", Filter(), NOW) for one in chunk]
    assert [Changed(two.queue_id, 1, ended=True), Changed(left.queue_id, 1, ended=True)] == gone


async def test_a_bounce_records_what_is_given_up_and_finishes_nothing(spool: Spool) -> None:
    """What is held or waits, with the outcome, in the history too; not what is under way. A notice of each is due."""
    under_way, held, two = (
        await accept(spool),
        await accept(spool),
        await accept(spool, "b@example.net", "a@example.net", "x@elsewhere.example"),
    )
    await spool.hold(Filter(queue_id=held.queue_id), NOW)
    await spool.wait(two.queue_id, ("b@example.net",), "ses", NOW + 60, "ses", "default")
    assert [under_way.queue_id] == [entry.queue_id for entry in await spool.claim(NOW, 1, 60)]
    given_up = Outcome(Verdict.PERM_MSG, "5.0.0", "given up", "relay", own=True)
    chunks = [chunk async for chunk in spool.each("bounce", Filter(recipient="*@example.net"), NOW, outcome=given_up)]
    gone = [one for chunk in chunks for one in chunk]
    assert [
        Changed(held.queue_id, 1, addresses=("a@example.net",)),
        Changed(two.queue_id, 2, addresses=("b@example.net", "a@example.net")),
    ] == gone
    b, a, x = (await get(spool, two.queue_id)).recipients
    assert (State.FAILED, State.FAILED, State.QUEUED) == (a.state, b.state, x.state)
    assert ("given up", "relay", "5.0.0", "", False) == (b.reply, b.remote, b.status, b.waits, b.told)
    assert {("b@example.net", "ses", "given up", State.FAILED), ("a@example.net", "", "given up", State.FAILED)} == {
        (step.recipient, step.provider, step.reply, step.state) for step in await spool.history(two.queue_id)
    }
    assert {held.queue_id, two.queue_id} == set(await spool.untold())
    assert [] == [chunk async for chunk in spool.each("bounce", Filter(recipient="*@example.net"), NOW, outcome=given_up)]


async def test_histories_asked_for_together_are_each_their_own(spool: Spool) -> None:
    """Also of what is not there; and who gives up takes the answer from nobody."""
    first, second = await accept(spool), await accept(spool)
    await attempt(spool, first.queue_id, {"a@example.net": RELAYED})
    impatient = asyncio.create_task(spool.history(second.queue_id))
    asked = [asyncio.create_task(spool.history(queue_id)) for queue_id in (first.queue_id, second.queue_id, first.queue_id, "0" * 14)]
    await asyncio.sleep(0)
    impatient.cancel()
    one, none, again, unknown = await asyncio.gather(*asked)
    assert ([State.RELAYED], [], one, []) == ([step.state for step in one], none, again, unknown)


async def test_several_entries_are_read_at_once(spool: Spool) -> None:
    """Those that are there and can be read."""
    first, second, aside = await accept(spool), await accept(spool), await accept(spool)
    await spool.set_aside(aside.queue_id, "why", NOW)
    found = await spool.entries([second.queue_id, first.queue_id, aside.queue_id, "0" * 14, "nothing"])
    assert {first.queue_id, second.queue_id} == {entry.queue_id for entry in found}


async def test_each_tells_of_corrupt_entries_that_are_ended(spool: Spool) -> None:
    """Also of those none of whose recipients is open any more."""
    closed, opened = await accept(spool), await accept(spool)
    await attempt(spool, closed.queue_id, {"a@example.net": RELAYED})
    for entry in (closed, opened):
        await spool.set_aside(entry.queue_id, "why", NOW)
    gone = [one async for chunk in spool.each("delete", Filter(state="corrupt"), NOW) for one in chunk]
    assert [Changed(closed.queue_id, 0, ended=True), Changed(opened.queue_id, 1, ended=True)] == gone


async def test_each_stops_when_nobody_asks_any_more(spool: Spool) -> None:
    """After a chunk, which is done; the rest is as it was."""
    for _ in range(3):
        await accept(spool, *[f"{n}@example.net" for n in range(800)])
    async for chunk in spool.each("hold", Filter(), NOW):
        first = sum(one.recipients for one in chunk)
        break
    assert 0 < first == await spool.count(Filter(state="hold")) < 2400


async def test_a_reroute_leaves_the_other_recipients_of_an_entry_alone(place: Place) -> None:
    """Before and after a restart, and whatever is recorded; another reroute replaces it, an empty one takes it back."""
    spool = place.spool
    entry = await accept(spool, "a@example.net", "b@example.net")
    await spool.reroute(Filter(recipient="a@*"), ("x", "y"), NOW, even_if_maybe_sent=False)
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 9), "b@example.net": deferred(NOW + 9)})
    assert [("x", "y"), ()] == [state.via for state in (await get(spool, entry.queue_id)).recipients]
    spool = await place.reopen()
    (claimed,) = await spool.claim(NOW + 9, 1, 60)
    assert [("x", "y"), ()] == [state.via for state in claimed.recipients]
    for via in (("z",), ()):
        await spool.reroute(Filter(recipient="a@*"), via, NOW + 10, even_if_maybe_sent=False)
        assert [via, ()] == [state.via for state in (await get(spool, entry.queue_id)).recipients]


async def test_the_providers_of_an_entry_are_those_of_its_recipients(spool: Spool) -> None:
    """Until one of them is rerouted; taken back, it is as its entry again."""
    entry = await accept(spool, "a@example.net", "b@example.net", via=("x",))
    assert [("x",), ("x",)] == [state.via for state in entry.recipients]
    await spool.reroute(Filter(recipient="a@*"), ("y",), NOW, even_if_maybe_sent=False)
    assert [("y",), ("x",)] == [state.via for state in (await get(spool, entry.queue_id)).recipients]
    await spool.reroute(Filter(), (), NOW, even_if_maybe_sent=False)
    assert [("x",), ("x",)] == [state.via for state in (await get(spool, entry.queue_id)).recipients]


async def test_a_reroute_reaches_who_is_leased_and_leaves_the_lease(spool: Spool) -> None:
    """No second claim has it before the first is done with it; then it goes by the new way."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    assert 1 == await spool.reroute(Filter(), ("x",), NOW + 1, even_if_maybe_sent=False)
    assert ([], NOW + 60) == (list(await spool.claim(NOW + 59, 1, 60)), await spool.next_due())
    await spool.postpone(entry.queue_id, ["a@example.net"], NOW + 2)
    (claimed,) = await spool.claim(NOW + 2, 1, 60)
    assert [("x",)] == [state.via for state in claimed.recipients]


async def test_each_tells_how_many_stay_pinned(spool: Spool) -> None:
    """Leased or not; told to, they move too."""
    entry = await accept(spool, "a@example.net", "b@example.net", "c@example.net")
    unknown = deferred(NOW + 9, Verdict.UNKNOWN)
    await attempt(spool, entry.queue_id, {"a@example.net": unknown, "b@example.net": unknown, "c@example.net": deferred(NOW + 99)})
    await spool.claim(NOW + 9, 1, 60)
    chunks = [chunk async for chunk in spool.each("reroute", Filter(), NOW + 10, ("x",))]
    assert [[Changed(entry.queue_id, 1, pinned=2)]] == chunks
    assert [(True, ()), (True, ()), (False, ("x",))] == [
        (state.maybe_relayed, state.via) for state in (await get(spool, entry.queue_id)).recipients
    ]
    chunks = [chunk async for chunk in spool.each("reroute", Filter(), NOW + 11, ("x",), even_if_maybe_sent=True)]
    assert [[Changed(entry.queue_id, 3)]] == chunks
    await spool.reroute(Filter(), ("y",), NOW + 12, even_if_maybe_sent=False)
    assert [(False, ("y",))] * 3 == [(state.maybe_relayed, state.via) for state in (await get(spool, entry.queue_id)).recipients]


async def test_who_waits_after_a_reroute_is_found_by_the_new_route(spool: Spool) -> None:
    """The provider is the one last attempted until there is another attempt."""
    entry = await accept(spool)
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 1)}, provider="old")
    await spool.reroute(Filter(), ("new",), NOW + 1, even_if_maybe_sent=False)
    assert 0 == await spool.count(Filter(route="default"))
    await spool.claim(NOW + 1, 1, 60)
    await spool.wait(entry.queue_id, ["a@example.net"], "new line other", NOW + 99, "new", "other")
    assert (1, 1) == (await spool.count(Filter(route="other")), await spool.count(Filter(provider="old")))


async def test_lines_of_one_provider_are_woken_one_by_one(spool: Spool) -> None:
    """A key is the whole key: no other that begins alike."""
    entry = await accept(spool, "a@example.net", "b@example.net", "c@example.net")
    await spool.claim(NOW, 1, 600)
    for address, key in (("a", "ses line news"), ("b", "ses line newsletter"), ("c", "ses")):
        await spool.wait(entry.queue_id, [f"{address}@example.net"], key, NOW + 999)
    assert 1 == await spool.wake("ses line news", NOW + 1)
    (claimed,) = await spool.claim(NOW + 1, 10, 60)
    assert ("a@example.net",) == leased(claimed, NOW + 1)
    assert [0, 1, 1] == [await spool.waiting(key) for key in ("ses line news", "ses line newsletter", "ses")]


async def test_the_null_path_is_a_sender_of_its_own(spool: Spool) -> None:
    """`<>` means it, as people write it."""
    bounce = await accept(spool, sender="")
    await accept(spool)
    assert [bounce.queue_id] == [found.queue_id for found in await spool.find(Filter(sender="<>"), 10)]
    assert [bounce.queue_id] == list(await spool.search("<>", 10))
    assert (1, 2, 0) == tuple([await spool.count(Filter(sender=sender)) for sender in ("<>", "*", "<")])


async def test_search_finds_by_every_name_a_message_has(spool: Spool) -> None:
    """Queue id prefix, Message-ID with and without brackets, recipient, sender, remote id; newest first; history too."""
    first = await accept(spool, "One@example.net", message_id="<m1@app>")
    second = await accept(spool, "two@example.net", sender="Other@example.com", message_id="")
    await attempt(spool, first.queue_id, {"One@example.net": RELAYED})
    await spool.finish(first.queue_id, NOW, keep_body=False)
    for term in (first.queue_id, "<m1@app>", "m1@app", "one@EXAMPLE.net", "app@example.com", "r-1"):
        assert [first.queue_id] == list(await spool.search(term, 10)), term
    assert [second.queue_id, first.queue_id] == list(await spool.search(first.queue_id[:8], 10))
    assert [second.queue_id] == list(await spool.search(first.queue_id[:8], 1))
    assert [second.queue_id] == list(await spool.search("other@example.com", 10))
    for term in ("<one@example.net>", "<app@example.com>", "<r-1>"):
        assert [first.queue_id] == list(await spool.search(term, 10)), term
    bare = await accept(spool, message_id="m3@app", sender="")
    for term in ("<m3@app>", "m3@app"):
        assert [bare.queue_id] == list(await spool.search(term, 10)), term
    assert [] == list(await spool.search("", 10))


async def test_counts_tell_states_providers_and_the_oldest(spool: Spool) -> None:
    """Recipients by (state, provider); entries once."""
    await accept(spool, "a@example.net", "b@example.net", now=NOW - 5)
    deferred_one = await accept(spool, "c@example.net", now=NOW - 3)
    await accept(spool, "d@example.net", now=NOW - 1)
    await attempt(spool, deferred_one.queue_id, {"c@example.net": deferred(NOW + 60)})
    await spool.hold(Filter(recipient="d@*"), NOW)
    counts = await spool.counts()
    assert 3 == counts.entries
    assert {("active", ""): 2, ("deferred", "smarthost"): 1, ("hold", ""): 1} == counts.recipients
    assert {"active": NOW - 5, "deferred": NOW - 3, "hold": NOW - 1} == counts.oldest
    assert 0 == counts.corrupt


async def test_an_entry_set_aside_is_kept_and_reported(place: Place) -> None:
    """It is neither delivered nor found nor purged, also after a restart; its octets can still be had."""
    entry = await accept(place.spool)
    other = await accept(place.spool, now=NOW + 1)
    number = await place.spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    await place.spool.set_aside(entry.queue_id, "breaks the parser", NOW)
    await place.spool.set_aside(entry.queue_id, "again", NOW)
    await place.spool.record(entry.queue_id, number, {"a@example.net": deferred(NOW)}, "p", "r", NOW)
    for again in (False, True):
        spool = await place.reopen() if again else place.spool
        assert [(entry.queue_id, "breaks the parser")] == list(await spool.corrupt())
        assert [other.queue_id] == [found.queue_id for found in await spool.find(Filter(), 10)]
        assert [entry.queue_id] == [found.queue_id for found in await spool.find(Filter(state="corrupt"), 10)]
        assert (1, 1) == ((await spool.counts()).corrupt, (await spool.counts()).entries)
        with pytest.raises(CorruptEntry, match="breaks the parser"):
            await spool.entry(entry.queue_id)
    assert [other.queue_id] == [found.queue_id for found in await spool.claim(NOW + 9, 10, 60)]
    assert HEADER + BODY == await (await spool.message(entry.queue_id)).read()


async def test_an_admin_may_take_a_corrupt_entry_back_or_delete_it(spool: Spool) -> None:
    """By naming the state: retry puts it back into the queue, delete ends it."""
    first, second = await accept(spool), await accept(spool)
    for entry in (first, second):
        await spool.set_aside(entry.queue_id, "why", NOW)
    assert 0 == await spool.retry(Filter(), NOW)
    assert 1 == await spool.retry(Filter(state="corrupt", queue_id=first.queue_id), NOW)
    assert [first.queue_id] == [entry.queue_id for entry in await spool.claim(NOW, 10, 60)]
    assert 1 == await spool.delete(Filter(state="corrupt"), NOW)
    assert ([], NOW) == (list(await spool.corrupt()), (await get(spool, second.queue_id)).finished)
    assert not await attempt(spool, first.queue_id, {"a@example.net": deferred(NOW + 1)})
    assert [first.queue_id] == [entry.queue_id for entry in await spool.claim(NOW + 1, 10, 60)]


async def test_a_corrupt_entry_of_more_than_a_chunk_is_taken_back_whole(place: Place) -> None:
    """No recipient is left behind, whichever were named; those not named fall due at their own time."""
    many = [f"{n}@example.net" for n in range(1200)]
    entries = [await accept(place.spool, *many) for _ in range(2)]
    for entry in entries:
        await place.spool.postpone(entry.queue_id, many, NOW + 50)
        await place.spool.set_aside(entry.queue_id, "why", NOW)
    assert 1200 == await place.spool.retry(Filter(state="corrupt", queue_id=entries[0].queue_id), NOW)
    assert 1 == await place.spool.retry(Filter(state="corrupt", recipient="7@*"), NOW)
    assert [] == list(await place.spool.corrupt())
    spool = await place.reopen()
    assert [1200, 1] == [len(leased(entry, NOW)) for entry in await spool.claim(NOW, 10, 600)]
    assert NOW + 50 == await spool.next_due()
    assert [1199] == [len(leased(entry, NOW + 50)) for entry in await spool.claim(NOW + 50, 10, 600)]


async def test_a_corrupt_entry_of_more_than_a_chunk_is_deleted_whole(spool: Spool) -> None:
    """One with an open recipient left stays set aside; one without is ended, also when a bounce was due."""
    many = [f"{n}@example.net" for n in range(1200)]
    entry, other = await accept(spool, *many), await accept(spool)
    await attempt(spool, other.queue_id, {"a@example.net": FAILED})
    await spool.set_aside(entry.queue_id, "why", NOW)
    await spool.set_aside(other.queue_id, "no bounce can be made", NOW)
    assert 1 == await spool.delete(Filter(state="corrupt", recipient="7@*"), NOW)
    assert [(entry.queue_id, "why"), (other.queue_id, "no bounce can be made")] == list(await spool.corrupt())
    assert ([], None) == (list(await spool.claim(NOW + 9, 10, 60)), await spool.next_due())
    assert 1199 == await spool.delete(Filter(state="corrupt"), NOW + 1)
    assert ([], [], []) == (list(await spool.corrupt()), list(await spool.untold()), list(await spool.find(Filter(), 10)))
    assert {NOW + 1} == {(await get(spool, queue_id)).finished for queue_id in (entry.queue_id, other.queue_id)}


async def test_releasing_what_is_held_of_a_corrupt_entry_strands_nobody(spool: Spool) -> None:
    """The entry is back in the queue with all its recipients."""
    entry = await accept(spool, "a@example.net", "b@example.net")
    await spool.hold(Filter(recipient="a@*"), NOW)
    await spool.postpone(entry.queue_id, ["b@example.net"], NOW + 5)
    await spool.set_aside(entry.queue_id, "why", NOW)
    assert 1 == await spool.release(Filter(state="corrupt"), NOW + 1)
    for now, address in ((NOW + 1, "a@example.net"), (NOW + 5, "b@example.net")):
        (claimed,) = await spool.claim(now, 10, 60)
        assert (address,) == leased(claimed, now)


# What outlives the process


async def test_the_ledger_adds_up_and_survives_a_restart(place: Place) -> None:
    """By budget and slot; several in one call, and the same slot twice in it."""
    spool = place.spool
    await spool.spend([("ses daily", NOW, 3), ("ses rate 10", NOW + 0.5, 1), ("ses daily", NOW, 4)])
    await asyncio.gather(*(spool.spend([("ses daily", NOW, 1), ("a daily", NOW, 1)]) for _ in range(20)))
    await spool.spend([])
    spool = await place.reopen()
    assert [("a daily", NOW, 20), ("ses daily", NOW, 27), ("ses rate 10", NOW + 0.5, 1)] == list(await spool.spent())


async def test_the_ledger_forgets_what_is_asked_only(spool: Spool) -> None:
    """Each budget has its own time; what lies at that time stays."""
    await spool.spend([(budget, NOW + slot, 1) for budget in ("a", "b", "c") for slot in range(3)])
    await spool.forget_spent({"a": NOW + 2, "b": NOW + 1, "none": NOW + 9})
    await spool.forget_spent({})
    left = [("a", NOW + 2), ("b", NOW + 1), ("b", NOW + 2), ("c", NOW), ("c", NOW + 1), ("c", NOW + 2)]
    assert left == [(budget, slot) for budget, slot, _ in await spool.spent()]


async def test_what_is_kept_survives_a_restart(place: Place) -> None:
    """The last value of each key; the empty one removes it."""
    await place.spool.keep("paused ses", "moving to another account: ü")
    await place.spool.keep("ramp default", "1")
    await place.spool.keep("ramp default", "2")
    await place.spool.keep("gone", "x")
    await place.spool.keep("gone", "")
    await place.spool.keep("never there", "")
    spool = await place.reopen()
    assert {"paused ses": "moving to another account: ü", "ramp default": "2"} == await spool.kept()


async def test_purge_forgets_old_history_only(spool: Spool) -> None:
    """More than one chunk; what is in the queue stays, however old."""
    entries = [await accept(spool, now=NOW + n / 1000) for n in range(600)]
    for entry in entries[1:]:
        await attempt(spool, entry.queue_id, {"a@example.net": RELAYED})
    await asyncio.gather(*(spool.finish(entry.queue_id, NOW + n, keep_body=False) for n, entry in enumerate(entries) if n))
    assert 588 == await spool.purge(NOW + 589, NOW)
    assert None is await spool.entry(entries[1].queue_id)
    assert [] == list(await spool.history(entries[1].queue_id))
    assert [] == list(await spool.search(entries[1].queue_id, 1))
    assert 12 == len(await spool.find(Filter(state="finished"), 1000)) + len(await spool.find(Filter(), 1000))


async def test_a_working_spool_is_healthy(spool: Spool) -> None:
    """Until there is less room than asked for."""
    health = spool.health()
    assert (True, False, "") == (health.ok, health.full, health.why)
    assert health.free > 0
    health = await spool.probe(1 << 62)
    assert (False, True) == (health.ok, health.full)
    assert "min_free" in health.why
    assert (await spool.probe(0)).ok
    assert spool.health().ok
