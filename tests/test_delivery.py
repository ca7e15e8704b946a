"""Delivery over a real spool and scripted transports: the order rules, and what follows from every outcome."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message as Parsed
from pathlib import Path
from typing import Any

import pytest

from relay.budgets import Allowance
from relay.delivery import Delivery, DeliverySettings
from relay.errors import CorruptEntry, SpoolError
from relay.metrics import Metrics
from relay.model import Client, Entry, Envelope, Facts, Job, Notify, Outcome, Recipient, RecipientState, State, Verdict, line_key
from relay.routing import Match, Route
from relay.spool.base import Begun, Filter, Recorded
from relay.spool.sqlite import SqliteSpool
from tests.fakes import Answer, FakeTransport, RecordingEvents, Script, always, outcome

SENDER = "app@example.com"
BOB, CAROL = "bob@example.net", "carol@example.org"
START = 1_800_000_000.0
RETRY = (60.0, 300.0)


class Clock:
    """Unix time that moves only when told."""

    def __init__(self) -> None:
        self.now = START
        self.running = False  # let it run as time does

    def __call__(self) -> float:
        return time.time() if self.running else self.now


class SpoolProxy:
    """The real spool, with a journal of its calls and faults that can be planted."""

    def __init__(self, spool: SqliteSpool, journal: list[str]) -> None:
        self._spool = spool
        self._journal = journal
        self.faults: dict[str, list[Exception]] = {}
        self.answers: dict[str, Any] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self._news = asyncio.Event()

    async def called(self, name: str, count: int) -> None:
        """Until a call has been made so often."""
        async with asyncio.timeout(10):
            while self._journal.count(name) < count:
                self._news.clear()
                await self._news.wait()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._spool, name)
        if name == "incoming":
            return lambda now: IncomingProxy(real(now), self._journal)
        if name in self.answers:
            return self.answers[name]
        if name not in ("begin", "record", "finish", "message", "claim", "postpone", "wait", "renew", "entry", "waiting"):
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            if name in self.gates:
                self._journal.append(f"{name} waits")
                self._news.set()
                await self.gates[name].wait()
            answer = await real(*args, **kwargs)
            self._journal.append(name)
            self._news.set()
            return answer

        return call


class IncomingProxy:
    def __init__(self, incoming: Any, journal: list[str]) -> None:
        self._incoming = incoming
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._incoming, name)

    async def commit(self, **facts: Any) -> Entry:
        entry: Entry = await self._incoming.commit(**facts)
        self._journal.append("commit")
        return entry


class Stage:
    """One daemon's sending half on a spool that outlives it."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.journal: list[str] = []
        self.events = RecordingEvents(self.journal)
        self.metrics = Metrics()
        self.directory = directory
        self.transports: dict[str, FakeTransport] = {}
        self.routes: list[Route] = []
        self.allowances: dict[str, Allowance] = {}
        self.settings = DeliverySettings(RETRY, 5 * 86400.0, "mailer-daemon@relay.test", "relay.test", keep_bodies=True)

    async def open(self) -> None:
        self.real = SqliteSpool(self.directory, clock=self.clock)
        await self.real.open()
        self.spool = SpoolProxy(self.real, self.journal)

    def provider(self, name: str, script: Script | None = None, **more: Any) -> FakeTransport:
        self.transports[name] = FakeTransport(name, script, journal=self.journal, **more)
        return self.transports[name]

    def route(self, *via: str, **more: Any) -> None:
        self.routes.append(Route(more.pop("name", "default"), via, **more))

    async def submit(self, *recipients: str | Recipient, sender: str = SENDER, ret: str = "", envid: str = "", **more: Any) -> str:
        """Store a message as the listener does; its queue id."""
        head = f"From: {sender}\r\nSubject: hello\r\nMessage-ID: <1@app>\r\n".encode()
        body = head + b"\r\nhello\r\n"
        incoming = self.real.incoming(self.clock())
        incoming.write(body)
        entry = await incoming.commit(
            arrived=self.clock(),
            client=Client("local", "127.0.0.1", 4000, "localhost", "web1"),
            envelope=Envelope(sender, tuple(r if isinstance(r, Recipient) else Recipient(r) for r in recipients), ret, envid),
            facts=Facts(len(body), False, 30),
            header=head,
            message_id="<1@app>",
            edits=(),
            **more,
        )
        return entry.queue_id

    @asynccontextmanager
    async def running(self, random: Callable[[], float] = lambda: 0.5) -> AsyncIterator[Delivery]:
        """The delivery, started, and drained at the end."""
        delivery = Delivery(
            spool=self.spool,
            transports=self.transports,
            routes=self.routes,
            settings=self.settings,
            allowances=self.allowances,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
            random=random,
        )
        await delivery.start()
        self.delivery = delivery
        try:
            yield delivery
        finally:
            await delivery.drain(5)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.delivery.wake()

    async def waiting(self, key: str, count: int) -> None:
        """Until so many recipients wait for `key`."""
        async with asyncio.timeout(10):
            while await self.real.waiting(key) < count:
                pass

    async def state(self, queue_id: str, address: str) -> RecipientState:
        entry = await self.real.entry(queue_id)
        assert entry is not None
        return next(state for state in entry.recipients if state.recipient.address == address)

    async def bounces(self) -> list[tuple[Entry, Parsed]]:
        """The bounces in the spool, parsed."""
        found = []
        for entry in [*await self.real.find(Filter(), 100), *await self.real.find(Filter(state="finished"), 100)]:
            if entry.bounce:
                found.append((entry, message_from_bytes(await (await self.real.message(entry.queue_id)).read())))
        return found


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


def refusing(*addresses: str, verdict: Verdict = Verdict.PERM_RCPT) -> Script:
    """550 for these recipients, 250 for the others."""
    return lambda job, address: outcome(verdict if address in addresses else Verdict.OK)


def in_turn(*answers: Answer) -> Script:
    """One answer per call, the last one for ever."""
    left = list(answers)
    return lambda job, address: left.pop(0) if len(left) > 1 else left[0]


# The order rules.


async def test_an_attempt_is_begun_before_it_is_made_and_recorded_before_anything_follows(stage: Stage) -> None:
    """begin, attempt, record, then the log line, then the end."""
    stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=queue_id)
    order = [step for step in stage.journal if step not in ("claim", "message")]
    assert ["begin", "attempt ses", "record", "log attempt", "finish", "log removed"] == order


async def test_a_bounce_is_stored_before_the_original_is_finished(stage: Stage) -> None:
    """record, then the bounce's commit, then finish of the original."""
    stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PERM_MSG))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=queue_id)
    order = [step for step in stage.journal if step in ("record", "commit", "finish")]
    assert ["record", "commit", "finish"] == order[:3]


async def test_an_outcome_that_cannot_be_recorded_is_recorded_later(stage: Stage) -> None:
    """A spool in trouble is asked again; the message is sent once, and the trouble is told once."""
    ses = stage.provider("ses")
    stage.route("ses")
    stage.spool.faults["record"] = [SpoolError("disk I/O error")]
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=queue_id)
    assert [(BOB,)] == ses.seen
    assert 1 == len(stage.events.found("spool_trouble"))
    assert 1 == len(stage.events.found("spool_recovered"))


async def test_an_attempt_that_cannot_be_begun_is_not_made(stage: Stage) -> None:
    """Without a durable begin no byte goes out."""
    ses = stage.provider("ses")
    stage.route("ses")
    stage.spool.faults["begin"] = [SpoolError("disk I/O error")]
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("spool_trouble")
        assert [] == ses.seen
        await stage.spool.called("postpone", 1)
        stage.pass_time(6)
        await stage.events.wait("removed")
    assert [(BOB,)] == ses.seen
    assert ["spool_trouble", "spool_recovered"] == [line["event"] for line in stage.events.lines if "spool" in str(line["event"])]


# What follows from each verdict.


async def test_a_refused_recipient_is_bounced_and_the_others_are_relayed(stage: Stage) -> None:
    """A 550 for one recipient gives one bounce to the sender, by the route of the original."""
    ses = stage.provider("ses", refusing(BOB))
    stage.provider("other")
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("removed", count=2)
    assert State.FAILED == (await stage.state(queue_id, BOB)).state
    assert State.RELAYED == (await stage.state(queue_id, CAROL)).state
    [(entry, parsed)] = await stage.bounces()
    assert ("", (SENDER,), ("ses",)) == (entry.envelope.reverse_path, tuple(r.address for r in entry.envelope.recipients), entry.via)
    assert BOB in parsed.as_string()
    assert "multipart/report" == parsed.get_content_type()
    assert [(BOB, CAROL), (SENDER,)] == ses.seen
    assert [] == stage.transports["other"].seen


@pytest.mark.parametrize("verdict", [Verdict.PERM_RCPT, Verdict.PERM_MSG])
async def test_a_permanent_refusal_never_fails_over(stage: Stage, verdict: Verdict) -> None:
    """A 550 from the first provider is bounced; the second is not asked."""
    stage.provider("first", lambda job, address: outcome(Verdict.OK if job.bounce else verdict))
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", count=2)
    assert [] == second.seen
    assert [] == stage.events.found("paused")


@pytest.mark.parametrize(
    ("sender", "recipient"),
    [
        ("", Recipient(BOB)),
        (SENDER, Recipient(BOB, notify=frozenset({Notify.NEVER}))),
        (SENDER, Recipient(BOB, notify=frozenset({Notify.DELAY}))),
    ],
)
async def test_what_wants_no_bounce_gets_none(stage: Stage, sender: str, recipient: Recipient) -> None:
    """A null reverse-path and NOTIFY without FAILURE end in the log."""
    stage.provider("ses", always(Verdict.PERM_MSG))
    stage.route("ses")
    async with stage.running():
        await stage.submit(recipient, sender=sender)
        await stage.events.wait("removed")
    assert [] == await stage.bounces()
    assert [] == list(await stage.real.untold())


async def test_a_bounce_that_fails_makes_no_bounce(stage: Stage) -> None:
    """The bounce of a bounce does not exist."""
    stage.provider("ses", always(Verdict.PERM_MSG))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", count=2)
    assert 1 == len(await stage.bounces())


async def test_on_a_route_that_carries_no_reports_the_bounce_is_plain_text(stage: Stage) -> None:
    """An API that would take a report apart gets a text."""
    stage.provider("api", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PERM_MSG), carries_reports=False)
    stage.route("api")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", count=2)
    [(_, parsed)] = await stage.bounces()
    assert "text/plain" == parsed.get_content_type()


async def test_a_temporary_refusal_is_tried_again_by_the_schedule(stage: Stage) -> None:
    """RETRY waits the first step, then the second, with the same provider."""
    ses = stage.provider("ses", in_turn(outcome(Verdict.RETRY), outcome(Verdict.RETRY), outcome(Verdict.OK)))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt", 1, status="deferred")
        first = await stage.state(queue_id, BOB)
        assert (1, START + 60, State.QUEUED) == (first.attempts, first.next_attempt, first.state)
        stage.pass_time(60)
        await stage.events.wait("attempt", 2, status="deferred")
        assert START + 60 + 300 == (await stage.state(queue_id, BOB)).next_attempt
        stage.pass_time(300)
        await stage.events.wait("removed")
    assert 3 == len(ses.attempts)
    assert [] == stage.events.found("paused")


async def test_after_the_route_s_patience_the_next_provider_is_tried(stage: Stage) -> None:
    """A provider that keeps deferring keeps the message for the route's patience only."""
    first = stage.provider("first", always(Verdict.RETRY))
    second = stage.provider("second")
    stage.route("first", "second", patience=200.0)
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt", 1, status="deferred")
        stage.pass_time(60)
        await stage.events.wait("attempt", 2, status="deferred")
        assert [] == second.seen
        stage.pass_time(300)
        await stage.events.wait("removed")
    assert 2 == len(first.attempts)
    assert [(BOB,)] == second.seen


async def test_a_pause_moves_mail_to_the_next_provider_and_is_told_once(stage: Stage) -> None:
    """PAUSE: the message and those after it go to the second provider at once; one loud line; nothing bounces."""
    first = stage.provider("first", always(Verdict.PAUSE, mend="mend the key"))
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        for _ in range(10):
            await stage.submit(BOB)
        await stage.events.wait("removed", 10)
        status = {one.name: one.state for one in await stage.delivery.providers()}
    assert 10 == len(second.attempts)
    assert len(first.attempts) <= first.concurrency
    assert 1 == len(stage.events.found("paused", provider="first", mend="mend the key"))
    assert {"first": "paused", "second": "up"} == status
    assert [] == await stage.bounces()


async def test_with_no_other_provider_mail_waits_and_a_probe_brings_it_back(stage: Stage) -> None:
    """A wrong credential bounces nothing; once a probe succeeds everything goes out."""
    ses = stage.provider("ses", always(Verdict.PAUSE), concurrency=1)
    stage.route("ses")
    async with stage.running():
        ids = [await stage.submit(BOB) for _ in range(20)]
        await stage.events.wait("paused")
        await stage.waiting("ses", 20)
        assert 2 == len(ses.attempts)
        stage.pass_time(16)
        await stage.events.wait("attempt", 3, status="deferred")
        assert 3 == len(ses.attempts)
        ses.script = always(Verdict.OK)
        await stage.waiting("ses", 20)
        stage.pass_time(31)
        await stage.events.wait("removed", 20)
    assert 1 == len(stage.events.found("paused"))
    assert 1 == len(stage.events.found("resumed"))
    assert 23 == len(ses.attempts)
    assert {State.RELAYED} == {(await stage.state(queue_id, BOB)).state for queue_id in ids}


async def test_an_admin_s_retry_probes_a_paused_provider_at_once(stage: Stage) -> None:
    """Whoever mended the credential does not wait for the pause to run out."""
    ses = stage.provider("ses", always(Verdict.PAUSE), concurrency=1)
    stage.route("ses")
    async with stage.running() as delivery:
        for _ in range(3):
            await stage.submit(BOB)
        await stage.waiting("ses", 3)
        ses.script = always(Verdict.OK)
        delivery.hurry()
        await stage.events.wait("removed", 3)
    assert 5 == len(ses.attempts)


async def test_a_throttled_provider_is_waited_for_not_left(stage: Stage) -> None:
    """THROTTLE honours Retry-After and never fails over."""
    first = stage.provider("first", in_turn(outcome(Verdict.THROTTLE, retry_after=7.0), outcome(Verdict.OK)))
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("throttled")
        await stage.waiting("first", 1)
        assert ["throttled", "up"] == [one.state for one in await stage.delivery.providers()]
        stage.pass_time(6)
        assert 1 == len(first.attempts)
        stage.pass_time(2)
        await stage.events.wait("removed")
    assert 2 == len(first.attempts)
    assert [] == second.seen


async def test_a_misconfigured_identity_leaves_the_provider_to_the_others(stage: Stage) -> None:
    """CONFIG pauses one sender domain; the next provider takes that mail, the first one all other."""
    first = stage.provider("first", always(Verdict.CONFIG, mend="verify example.com"), identities=["domain=example.com"])
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
        first.identities, first.script = ["domain=example.org"], always(Verdict.OK)
        await stage.submit(CAROL)
        await stage.events.wait("removed", 3)
        first.identities = ["domain=example.com"]
        await stage.submit(BOB)
        await stage.events.wait("removed", 4)
        reasons = [one.reason for one in await stage.delivery.providers()]
    assert [(BOB,), (BOB,), (CAROL,)] == first.seen
    assert [(BOB,), (BOB,), (BOB,)] == second.seen
    assert 1 == len(stage.events.found("identity_paused", identity="domain=example.com"))
    assert ["domain=example.com: CONFIG said the remote", ""] == reasons


async def test_an_identity_that_the_job_does_not_use_is_an_ordinary_deferral(stage: Stage) -> None:
    """It could not be waited for: the schedule holds instead."""
    ses = stage.provider("ses", always(Verdict.CONFIG), identities=["domain=example.org"])
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
    assert START + 60 == (await stage.state(queue_id, BOB)).next_attempt
    assert 1 == len(ses.attempts)
    assert [] == stage.events.found("identity_paused")


async def test_a_misconfigured_identity_alone_waits(stage: Stage) -> None:
    """With nobody else to take it, mail of the paused identity waits for a probe."""
    answers = in_turn(outcome(Verdict.CONFIG), outcome(Verdict.CONFIG), outcome(Verdict.OK))
    ses = stage.provider("ses", answers, identities=["domain=example.com"])
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.waiting("ses domain=example.com", 2)
        stage.pass_time(20)
        await stage.events.wait("removed", 2)
    assert 4 == len(ses.attempts)


async def test_an_unknown_outcome_stays_with_its_provider(stage: Stage) -> None:
    """A message that may have been taken never goes to another provider, and the log says it may come twice."""
    first = stage.provider("first", in_turn(outcome(Verdict.UNKNOWN), outcome(Verdict.RETRY), outcome(Verdict.OK)))
    second = stage.provider("second")
    stage.route("first", "second", patience=0.0)
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt", 1, maybe_relayed=True)
        assert (await stage.state(queue_id, BOB)).maybe_relayed
        stage.pass_time(61)
        await stage.events.wait("attempt", 2, status="deferred")
        stage.pass_time(301)
        await stage.events.wait("removed")
    assert 3 == len(first.attempts)
    assert [] == second.seen
    assert any("may be delivered twice" in text for text in stage.events.texts)


async def test_an_unknown_outcome_is_held_where_the_provider_says_so(stage: Stage) -> None:
    """`unknown_outcome: hold` leaves the recipient to the admin; released, it goes to the same provider."""
    first = stage.provider("first", in_turn(outcome(Verdict.UNKNOWN), outcome(Verdict.OK)))
    second = stage.provider("second")
    stage.route("first", "second")
    stage.settings = DeliverySettings(RETRY, 5 * 86400.0, "m@relay.test", "relay.test", hold_unknown=frozenset({"first"}))
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt", held=True)
        assert State.HELD == (await stage.state(queue_id, BOB)).state
        stage.pass_time(10 * 86400)
        await stage.real.release(Filter(queue_id=queue_id), stage.clock())
        await stage.events.wait("removed")
    assert (2, []) == (len(first.attempts), second.seen)


async def test_a_pinned_recipient_whose_provider_is_gone_is_held(stage: Stage) -> None:
    """A provider that left the configuration may have delivered: nobody else sends it again."""
    stage.provider("first", always(Verdict.UNKNOWN))
    stage.route("first")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
    del stage.transports["first"]
    stage.routes.clear()
    second = stage.provider("second")
    stage.route("second")
    stage.clock.now += 61
    async with stage.running():
        await stage.events.wait("held", queue_id=queue_id)
    assert [] == second.seen
    assert State.HELD == (await stage.state(queue_id, BOB)).state


async def test_a_pinned_recipient_that_its_provider_cannot_carry_any_more_is_held(stage: Stage) -> None:
    """Neither bounced nor given to another provider."""
    first = stage.provider("first", always(Verdict.UNKNOWN))
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt")
        first.refusal = "it has become too large"
        stage.pass_time(61)
        [line] = await stage.events.wait("held")
    assert "it has become too large" in str(line["reply"])
    assert [] == second.seen


# Our own verdicts.


async def test_what_the_first_provider_cannot_carry_goes_to_the_next(stage: Stage) -> None:
    """Cannot carry moves on along via without an attempt."""
    first = stage.provider("first", refuses="multipart/signed cannot be rebuilt")
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed")
    assert ([], [(BOB,)]) == (first.seen, second.seen)


async def test_what_nobody_can_carry_is_bounced_with_every_reason(stage: Stage) -> None:
    """The bounce names each provider and its reason, one that is not configured too."""
    first = stage.provider("first", refuses="multipart/signed cannot be rebuilt")
    second = stage.provider("second", refuses="larger than 10 MB")
    stage.route("first", "second", "gone")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("bounced_to")
        first.refusal = second.refusal = ""
    [(_, parsed)] = await stage.bounces()
    text = " ".join(parsed.as_string().split())
    for reason in ("multipart/signed cannot be rebuilt", "larger than 10 MB", "no provider named gone is configured"):
        assert reason in text


async def test_what_a_provider_turns_out_not_to_carry_goes_to_the_next(stage: Stage) -> None:
    """A transport's own finding (too large for the SIZE that the server announced, say) is no refusal by the remote."""
    first = stage.provider("first", always(Verdict.PERM_MSG, reply="the server takes 10 octets", own=True))
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed")
    assert ([(BOB,)], [(BOB,)]) == (first.seen, second.seen)
    assert [] == await stage.bounces()


async def test_what_the_only_provider_turns_out_not_to_carry_is_bounced_with_the_reason(stage: Stage) -> None:
    """It is asked once, and the bounce says what was found."""
    own = outcome(Verdict.PERM_MSG, "the server takes 10 octets", own=True)
    first = stage.provider("first", lambda job, address: outcome(Verdict.OK) if job.bounce else own)
    stage.route("first")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=queue_id)
        await stage.events.wait("removed", 2)
    assert [(BOB,), (SENDER,)] == first.seen
    [(_, parsed)] = await stage.bounces()
    assert "the server takes 10 octets" in " ".join(parsed.as_string().split())


async def test_what_cannot_be_carried_to_one_recipient_moves_that_one_only(stage: Stage) -> None:
    """An address that the first provider's API does not know goes by the second; the others stay with the first."""
    own = outcome(Verdict.PERM_MSG, "the API takes no quoted local parts", own=True)
    first = stage.provider("first", lambda job, address: own if address == CAROL else outcome(Verdict.RETRY), split=True)
    second = stage.provider("second")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB, CAROL)
        await stage.events.wait("attempt", 3)
        first.script = always(Verdict.OK)
        stage.pass_time(61)
        await stage.events.wait("removed")
    assert ([(BOB,), (CAROL,), (BOB,)], [(CAROL,)]) == (first.seen, second.seen)


async def test_a_message_that_its_transport_cannot_read_is_set_aside(stage: Stage) -> None:
    """It was not handed over, so it is no unknown outcome; a spool in trouble is asked again by the schedule."""
    stage.provider("ses", in_turn(CorruptEntry("x", "its body is short"), SpoolError("disk I/O error"), outcome(Verdict.OK)))
    stage.route("ses")
    async with stage.running():
        bad = await stage.submit(BOB)
        await stage.events.wait("corrupt", queue_id=bad)
        later = await stage.submit(BOB)
        await stage.events.wait("attempt", queue_id=later, status="deferred", maybe_relayed=False)
        stage.pass_time(61)
        await stage.events.wait("removed", queue_id=later)
    assert [(bad, "its body is short")] == list(await stage.real.corrupt())
    assert [] == stage.events.found("maybe_twice")


async def test_a_paused_provider_that_could_carry_is_waited_for(stage: Stage) -> None:
    """A message that only a paused provider can carry is not bounced."""
    stage.provider("first", always(Verdict.PAUSE))
    stage.provider("second", refuses="no")
    stage.route("first", "second")
    async with stage.running():
        await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.waiting("first", 2)
    assert [] == await stage.bounces()


async def test_mail_that_no_route_matches_is_held(stage: Stage) -> None:
    """It is neither lost nor sent somewhere."""
    stage.provider("ses")
    stage.route("ses", match=Match(to=("*@example.org",)))
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("held", recipient=BOB)
        await stage.events.wait("attempt", recipient=CAROL)
    assert State.HELD == (await stage.state(queue_id, BOB)).state


async def test_recipients_of_different_routes_go_different_ways(stage: Stage) -> None:
    """One message, two routes, two attempts, one end."""
    ses, clinic = stage.provider("ses"), stage.provider("clinic")
    stage.route("clinic", name="patients", match=Match(to=("*@example.org",)))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB, CAROL)
        await stage.events.wait("removed")
    assert ([(BOB,)], [(CAROL,)]) == (ses.seen, clinic.seen)
    assert ["local"] == [job.listener for job in ses.attempts]
    assert 1 == len(stage.events.found("removed"))


async def test_an_entry_rerouted_to_nobody_is_held(stage: Stage) -> None:
    """That its own providers are not configured is a matter of set-up: nothing bounces."""
    ses = stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB, via=("old", "older"))
        [line] = await stage.events.wait("held")
    assert "none of its providers is configured any more: old, older" == line["reply"]
    assert [] == ses.seen


async def test_a_bounce_whose_provider_is_gone_goes_by_its_route(stage: Stage) -> None:
    """A renamed provider does not cost the sender the bounce."""
    ses = stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        await stage.submit(SENDER, sender="", via=("old",), bounce=True, route="default")
        await stage.events.wait("removed")
    assert [(SENDER,)] == ses.seen


# Together.


async def test_recipients_deferred_together_are_tried_again_together(stage: Stage) -> None:
    """One mail to many stays one transaction at its next attempt, whatever the jitter."""
    chances = itertools.cycle([0.1, 0.9, 0.5])
    ses = stage.provider("ses", lambda job, address: outcome(Verdict.RETRY if len(ses.attempts) == 1 else Verdict.OK))
    stage.route("ses")
    async with stage.running(random=lambda: next(chances)):
        await stage.submit(BOB, CAROL, "dan@example.net")
        await stage.events.wait("attempt", 3)
        stage.pass_time(70)
        await stage.events.wait("removed")
    assert [3, 3] == [len(seen) for seen in ses.seen]


async def test_parts_of_a_job_go_one_after_the_other_and_a_failed_one_costs_no_other(stage: Stage) -> None:
    """What was attempted is recorded; what could not be begun is due again soon; nobody gets it twice."""
    ses = stage.provider("ses", split=True)
    stage.route("ses")
    real = stage.spool.begin
    calls = itertools.count()

    async def begin(*facts: Any) -> int:
        if next(calls) == 1:
            raise SpoolError("disk I/O error")
        number: int = await real(*facts)
        return number

    stage.spool.answers["begin"] = begin
    async with stage.running():
        await stage.submit(BOB, CAROL, "dan@example.net")
        await stage.spool.called("postpone", 1)
        stage.pass_time(6)
        await stage.events.wait("removed")
    assert sorted([(BOB,), (CAROL,), ("dan@example.net",)]) == sorted(ses.seen)


async def test_jobs_are_built_only_for_those_who_have_a_slot(stage: Stage) -> None:
    """A long line of large mails does not lie in memory as payloads."""
    ses = stage.provider("ses", concurrency=2)
    stage.route("ses")
    ses.gate.clear()
    async with stage.running():
        await asyncio.gather(*(stage.submit(BOB) for _ in range(30)))
        await ses.reached(2)
        await stage.spool.called("claim", 2)
        assert 2 == ses.prepared
        ses.gate.set()
        await stage.events.wait("removed", 30)


async def test_who_waits_for_a_full_line_is_not_overtaken(stage: Stage) -> None:
    """Later mail queues behind earlier mail, also when the earlier waits in the spool."""
    slow = stage.provider("slow", concurrency=3)
    stage.route("slow")
    slow.gate.clear()
    async with stage.running():
        early = {await stage.submit(BOB) for _ in range(400)}
        await stage.waiting(line_key("slow", "default"), 100)
        late = {await stage.submit(CAROL) for _ in range(60)}
        slow.gate.set()
        await stage.events.wait("removed", 460)
    order = [job.queue_id for job in slow.attempts]
    assert (400, 60, 460) == (len(early), len(late), len(order))
    assert late <= set(order[300:])


# Time.


async def test_a_deferral_wakes_a_loop_that_sleeps_longer(stage: Stage) -> None:
    """On an idle daemon a retry comes when the log said, not at the loop's next look."""
    ses = stage.provider("ses", in_turn(outcome(Verdict.RETRY), outcome(Verdict.OK)))
    stage.route("ses")
    stage.settings = replace(stage.settings, retry=(0.05,))
    stage.clock.running = True
    ses.gate.clear()
    async with stage.running():
        await stage.submit(BOB)
        await ses.reached(1)
        await stage.spool.called("claim", 2)
        ses.gate.set()
        await stage.events.wait("removed")
    assert 2 == len(ses.attempts)


async def test_retry_after_does_not_outlive_the_entry(stage: Stage) -> None:
    """However long a provider asks to wait for one message, the sender is told in time."""
    stage.provider("ses", always(Verdict.RETRY, retry_after=90 * 86400.0))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
    assert START + 5 * 86400 == (await stage.state(queue_id, BOB)).next_attempt


async def test_bounces_at_expiry_leave_by_the_routes_of_their_recipients(stage: Stage) -> None:
    """What must not leave by another door does not do so in a bounce either."""
    stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.RETRY))
    stage.provider("clinic", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.RETRY))
    stage.route("clinic", name="patients", match=Match(to=("*@example.org",)))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB, CAROL)
        await stage.events.wait("attempt", 2)
        stage.pass_time(5 * 86400 + 1)
        await stage.events.wait("removed", 3)
    found = {entry.via[0]: parsed.as_string() for entry, parsed in await stage.bounces()}
    assert {"ses", "clinic"} == found.keys()
    assert (False, False) == (CAROL in found["ses"], BOB in found["clinic"])


async def test_a_second_attempt_is_not_forgotten_when_the_first_one_s_task_ends(stage: Stage) -> None:
    """A recipient moved on by a pause stays under way with its new provider until that one has answered."""
    stage.provider("first", always(Verdict.PAUSE))
    second = stage.provider("second")
    stage.route("first", "second")
    second.gate.clear()
    stage.spool.gates["waiting"] = asyncio.Event()
    async with stage.running():
        await stage.submit(BOB)
        await second.reached(1)
        stage.spool.gates["waiting"].set()  # only now the task of the first attempt ends
        await stage.events.wait("suspected")
        claims = stage.journal.count("claim")
        stage.pass_time(601)  # the lease is over, and was not prolonged
        await stage.spool.called("claim", claims + 1)
        assert 1 == len(second.attempts)
        second.gate.set()
        await stage.events.wait("removed")
    assert 1 == len(second.attempts)


async def test_an_expired_recipient_is_bounced_with_its_last_answer(stage: Stage) -> None:
    """At `expire` there is a last attempt; then the sender is told, with its answer."""
    said = ["450 4.2.0 busy", "451 4.7.1 come back later"]
    ses = stage.provider("ses", lambda job, address: outcome(Verdict.OK) if job.bounce else outcome(Verdict.RETRY, said.pop(0)))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.pass_time(5 * 86400 + 1)
        await stage.events.wait("removed", queue_id=queue_id)
        await stage.events.wait("expired", queue_id=queue_id, returned=True)
        await stage.events.wait("removed", 2)
    assert 3 == len(ses.attempts)
    [(_, parsed)] = await stage.bounces()
    assert "451 4.7.1 come back later" in " ".join(parsed.as_string().split())
    assert "4.4.7" in parsed.as_string()


async def test_account_trouble_bounces_only_at_expiry(stage: Stage) -> None:
    """Mail that waits for a paused provider is bounced when its time is over, not before."""
    stage.provider("ses", always(Verdict.PAUSE), concurrency=1)
    stage.route("ses")
    async with stage.running():
        first = await stage.submit(BOB)
        await stage.submit(BOB)
        await stage.waiting("ses", 2)
        stage.pass_time(4 * 86400)
        await stage.events.wait("attempt", 3)
        assert [] == await stage.bounces()
        await stage.waiting("ses", 2)
        stage.pass_time(86401)
        await stage.events.wait("bounced_to", queue_id=first)


async def test_a_maybe_relayed_recipient_is_told_so_at_expiry(stage: Stage) -> None:
    """The bounce does not claim that the mail was not delivered."""
    stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.UNKNOWN))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.pass_time(5 * 86400 + 1)
        await stage.events.wait("removed", queue_id=queue_id)
    [(_, parsed)] = await stage.bounces()
    assert "may have been delivered" in " ".join(parsed.as_string().split())


async def test_after_a_long_stop_everything_gets_another_chance(stage: Stage) -> None:
    """Mail whose time ran out while relay was down is attempted, not bounced unseen."""
    ids = [await stage.submit(BOB) for _ in range(3)]
    stage.clock.now += 10 * 86400
    stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        await stage.events.wait("removed", 3)
    assert {State.RELAYED} == {(await stage.state(queue_id, BOB)).state for queue_id in ids}


async def test_trouble_that_began_after_the_time_was_over_is_waited_out_for_an_hour(stage: Stage) -> None:
    """A network that is not up yet after a long stop bounces nothing at once; trouble that stays does in the end."""
    ids = [await stage.submit(BOB) for _ in range(3)]
    stage.clock.now += 10 * 86400
    ses = stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PAUSE), concurrency=1)
    stage.route("ses")
    async with stage.running():
        await stage.waiting("ses", 3)
        assert [] == stage.events.found("expired")
        stage.pass_time(3600 * 1.2)
        await stage.events.wait("expired", 3)
        ses.script = always(Verdict.OK)
        stage.delivery.hurry()
        await stage.events.wait("removed", 6)
    assert {State.FAILED} == {(await stage.state(queue_id, BOB)).state for queue_id in ids}
    assert 3 == len(await stage.bounces())


async def test_a_clock_that_steps_back_does_not_strand_what_is_queued(stage: Stage) -> None:
    """What was due by the old time is tried now, and the step is told."""
    ses = stage.provider("ses", in_turn(outcome(Verdict.RETRY), outcome(Verdict.OK)))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.pass_time(-10 * 86400)
        await stage.events.wait("removed")
    assert 2 == len(ses.attempts)
    assert "the clock stepped back 864000 s" in str(stage.events.found("warning")[0]["text"])


# Our own faults.


async def test_a_transport_that_raises_defers_and_pauses_nobody(stage: Stage) -> None:
    """An escaped exception is our bug: logged with its traceback, the recipients are deferred as maybe-relayed."""
    ses = stage.provider("ses", in_turn(RuntimeError("oops"), outcome(Verdict.OK)))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt", maybe_relayed=True)
        stage.pass_time(61)
        await stage.events.wait("removed")
    assert 2 == len(ses.attempts)
    assert 1 == len(stage.events.found("bug"))
    assert [] == stage.events.found("paused")


class Confused(FakeTransport):
    """Gives outcomes for others than it was asked for."""

    async def attempt(self, jobs: Sequence[Job]) -> dict[tuple[str, str], Outcome]:
        return {(jobs[0].queue_id, CAROL): outcome(Verdict.OK), ("other", BOB): outcome(Verdict.OK)}


async def test_outcomes_of_strangers_are_a_bug_not_a_delivery(stage: Stage) -> None:
    """A recipient without an outcome of its own is UNKNOWN."""
    stage.transports["ses"] = Confused("ses")
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("attempt", recipient=BOB, maybe_relayed=True)
    assert State.QUEUED == (await stage.state(queue_id, BOB)).state
    assert 1 == len(stage.events.found("bug"))


async def test_an_entry_that_cannot_be_read_is_set_aside_and_the_others_go_on(stage: Stage) -> None:
    """A corrupt entry is reported once and kept; the next message is delivered."""
    stage.provider("ses")
    stage.route("ses")
    stage.spool.faults["message"] = [CorruptEntry("x", "body is short")]
    async with stage.running():
        bad = await stage.submit(BOB)
        await stage.events.wait("corrupt", queue_id=bad)
        good = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=good)
    assert [(bad, "body is short")] == list(await stage.real.corrupt())


async def test_the_loop_outlives_a_spool_that_cannot_claim(stage: Stage) -> None:
    """Trouble is told once and delivery goes on by itself."""
    stage.provider("ses")
    stage.route("ses")
    stage.spool.faults["claim"] = [SpoolError("database is locked"), ValueError("a bug of ours")]
    async with stage.running():
        await stage.events.wait("spool_trouble")
        stage.delivery.wake()
        await stage.events.wait("bug")
        await stage.submit(BOB)
        await stage.events.wait("removed")


# Restarts.


async def test_an_attempt_cut_off_by_a_crash_is_unknown(stage: Stage) -> None:
    """A begun attempt without an outcome stays with its provider and the log says it may come twice."""
    queue_id = await stage.submit(BOB)
    await stage.real.claim(stage.clock(), 10, 600)
    await stage.real.begin(queue_id, [BOB], "first", "default", stage.clock())
    await stage.real.close()
    await stage.open()
    first, second = stage.provider("first"), stage.provider("second")
    stage.route("second", "first")
    async with stage.running():
        await stage.events.wait("maybe_twice", queue_id=queue_id)
        stage.pass_time(61)
        await stage.events.wait("removed", queue_id=queue_id)
    assert ([(BOB,)], []) == (first.seen, second.seen)


async def test_a_bounce_that_a_crash_prevented_is_made_at_the_next_start(stage: Stage) -> None:
    """Between the record and its bounce nothing is lost, and the bounce is not repeated."""
    queue_id = await stage.submit(BOB)
    stage.provider("ses", lambda job, address: outcome(Verdict.OK if job.bounce else Verdict.PERM_MSG))
    stage.route("ses")
    await stage.real.claim(stage.clock(), 10, 600)
    number = await stage.real.begin(queue_id, [BOB], "ses", "default", stage.clock())
    failed = Recorded(outcome(Verdict.PERM_MSG), State.FAILED)
    await stage.real.record(queue_id, number, {BOB: failed}, "ses", "default", stage.clock())
    for _ in range(2):
        await stage.real.close()
        await stage.open()
        async with stage.running():
            await stage.events.wait("removed", queue_id=queue_id)
            await stage.events.wait("removed", 2)
    assert 1 == len(await stage.bounces())
    assert 1 == len(stage.events.found("bounced_to"))


async def test_a_corrupt_entry_does_not_stop_the_start(stage: Stage) -> None:
    """An attempt cut off by a crash whose entry cannot be read is set aside; an id that is gone is passed over."""
    queue_id = await stage.submit(BOB)
    await stage.real.begin(queue_id, [BOB], "ses", "default", stage.clock())
    await stage.real.close()
    await stage.open()
    stage.provider("ses")
    stage.route("ses")
    gone = "00000000000001"

    async def unfinished() -> list[Begun]:
        return [Begun(7, gone, "ses", "default", (BOB,), START), *await stage.real.unfinished()]

    async def untold() -> list[str]:
        return [gone]

    stage.spool.answers.update(unfinished=unfinished, untold=untold)
    unread = CorruptEntry(queue_id, "its rows cannot be read")

    async def entry(wanted: str) -> Entry | None:
        if wanted == queue_id:
            raise unread
        return await stage.real.entry(wanted)

    stage.spool.answers["entry"] = entry
    async with stage.running():
        await stage.events.wait("corrupt", queue_id=queue_id)
    assert [queue_id] == [found for found, _ in await stage.real.corrupt()]


async def test_a_lease_is_prolonged_while_an_attempt_lasts(stage: Stage) -> None:
    """A long attempt is not claimed a second time; a spool that cannot renew is asked again."""
    ses = stage.provider("ses")
    stage.route("ses")
    ses.gate.clear()
    stage.settings = replace(stage.settings, lease=0.06)
    stage.spool.faults["renew"] = [SpoolError("busy")]
    async with stage.running():
        await stage.submit(BOB)
        await stage.spool.called("renew", 3)
        ses.gate.set()
        await stage.events.wait("removed")
    assert 1 == len(ses.attempts)


async def test_a_mistake_of_ours_after_an_attempt_leaves_it_unknown(stage: Stage) -> None:
    """An outcome that we dropped is one that nobody knows: pinned, announced, tried again."""
    ses = stage.provider("ses")
    stage.route("ses")
    stage.spool.faults["record"] = [ValueError("a bug of ours")]
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("bug")
        await stage.events.wait("maybe_twice")
        stage.pass_time(61)
        await stage.events.wait("removed")
    assert 2 == len(ses.attempts)


async def test_an_attempt_whose_recipients_were_deleted_is_closed_without_a_word(stage: Stage) -> None:
    """After a crash an admin may delete before delivery starts."""
    queue_id = await stage.submit(BOB)
    await stage.real.begin(queue_id, [BOB], "ses", "default", stage.clock())
    await stage.real.close()
    await stage.open()
    await stage.real.delete(Filter(queue_id=queue_id), stage.clock())
    stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        assert [] == stage.events.found("maybe_twice")
    await stage.real.close()
    await stage.open()
    assert [] == list(await stage.real.unfinished())


async def test_mail_waits_for_its_turn_when_much_is_under_way(stage: Stage) -> None:
    """The window bounds what is in memory; when there is room again the rest follows."""
    slow = {name: stage.provider(name, concurrency=1) for name in "abcde"}
    for name, transport in slow.items():
        stage.route(name, name=name, match=Match(to=(f"{name}@*",)))
        transport.gate.clear()
    stage.provider("ses")
    stage.route("ses")
    async with stage.running():
        await asyncio.gather(*(stage.submit(f"{name}@example.net") for name in slow for _ in range(220)))
        last = await stage.submit(BOB)
        for transport in slow.values():
            transport.gate.set()
        await stage.events.wait("removed", 1101)
    assert State.RELAYED == (await stage.state(last, BOB)).state


async def test_a_mistake_of_ours_in_one_message_is_logged_and_the_next_goes_on(stage: Stage) -> None:
    """An exception outside the transport ends that group's turn only."""
    stage.provider("ses")
    stage.route("ses")
    stage.spool.faults["message"] = [ValueError("a bug of ours")]
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("bug")
        good = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=good)


async def test_draining_lets_attempts_end_and_begins_nothing(stage: Stage) -> None:
    """SIGTERM: what is under way is finished, the rest stays in the spool untouched."""
    ses = stage.provider("ses", concurrency=2)
    stage.route("ses")
    ses.gate.clear()
    async with stage.running() as delivery:
        ids = [await stage.submit(BOB) for _ in range(5)]
        await ses.reached(2)
        draining = asyncio.create_task(delivery.drain(10))
        await asyncio.sleep(0)
        ses.gate.set()
        await draining
    states = [await stage.state(queue_id, BOB) for queue_id in ids]
    assert [State.RELAYED, State.RELAYED, State.QUEUED, State.QUEUED, State.QUEUED] == sorted(
        (state.state for state in states), key=lambda state: state is State.QUEUED
    )
    assert [0, 0, 0, 1, 1] == sorted(state.attempts for state in states)
    assert [] == list(await stage.real.unfinished())


async def test_a_known_outcome_is_recorded_though_the_grace_period_is_over(stage: Stage) -> None:
    """A message that the provider took is not sent again because the daemon stopped."""
    stage.provider("ses")
    stage.route("ses")
    stage.spool.gates["record"] = asyncio.Event()
    async with stage.running() as delivery:
        queue_id = await stage.submit(BOB)
        await stage.spool.called("record waits", 1)
        draining = asyncio.create_task(delivery.drain(0))
        await asyncio.wait([draining], timeout=0.05)
        stage.spool.gates["record"].set()
        await draining
    assert State.RELAYED == (await stage.state(queue_id, BOB)).state
    assert [] == list(await stage.real.unfinished())


async def test_what_a_drain_cuts_off_is_unknown_at_the_next_start(stage: Stage) -> None:
    """An attempt longer than the grace period is not forgotten."""
    ses = stage.provider("ses")
    stage.route("ses")
    ses.gate.clear()
    async with stage.running() as delivery:
        queue_id = await stage.submit(BOB)
        await ses.reached(1)
        await delivery.drain(0)
    await stage.real.close()
    await stage.open()
    assert [queue_id] == [begun.queue_id for begun in await stage.real.unfinished()]


# Many.


async def test_concurrency_is_bounded_and_a_long_line_waits_in_the_spool(stage: Stage) -> None:
    """One slow provider has only its own slots busy and a short line in memory; another one is not held up."""
    slow, fast = stage.provider("slow", concurrency=3), stage.provider("fast")
    stage.route("fast", name="fast", match=Match(to=("*@example.org",)))
    stage.route("slow")
    slow.gate.clear()
    async with stage.running():
        await asyncio.gather(*(stage.submit(BOB) for _ in range(400)))
        await stage.waiting(line_key("slow", "default"), 100)
        await stage.submit(CAROL)
        await stage.events.wait("removed", 1)
        assert [(CAROL,)] == fast.seen
        assert 3 == len(slow.attempts)
        slow.gate.set()
        await stage.events.wait("removed", 401)
    assert 3 == slow.busiest
    assert 400 == len(slow.attempts)


# What an admin reads.


async def test_a_provider_that_is_passed_over_is_told(stage: Stage) -> None:
    """The log says which provider could not carry a message and why, before the next one's attempt; the last one's reasons are in
    the bounce."""
    stage.provider("mailtrap", refuses="the request has 12,345,678 octets; Mailtrap takes 10,000,000")
    stage.provider("ses")
    stage.route("mailtrap", "ses")
    async with stage.running():
        queue_id = await stage.submit(BOB)
        await stage.events.wait("removed", queue_id=queue_id)
    told = [str(line["event"]) for line in stage.events.lines if line["event"] in ("passed_over", "attempt")]
    assert ["passed_over", "attempt"] == told
    [line] = stage.events.found("passed_over", queue_id=queue_id, provider="mailtrap")
    assert "the request has 12,345,678 octets; Mailtrap takes 10,000,000" == line["reply"]


async def test_the_next_try_is_after_the_pause_that_the_attempt_began(stage: Stage) -> None:
    """An attempt that pauses an identity waits for the end of that pause, and its line says so."""
    stage.provider("ses", always(Verdict.CONFIG), identities=("domain=example.com",))
    stage.route("ses")
    async with stage.running() as delivery:
        await stage.submit(BOB)
        [line] = await stage.events.wait("attempt")
        [standing] = await delivery.providers()
    assert datetime.fromtimestamp(standing.until, UTC) - datetime.fromisoformat(str(line["next_attempt"])) < timedelta(seconds=1)
