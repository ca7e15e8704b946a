"""One provider by two ways: which mail goes which way, and what the trouble of one way does to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.spool.base import Filter
from relay.transports import auto
from relay.transports.auto import Auto
from relay.transports.base import Batching, Check, Preview, Share, Transport
from tests.fakes import FakeTransport, Script, always, outcome
from tests.jobs import HELLO, job
from tests.servers import SmtpServer
from tests.test_delivery import BOB, CAROL, Stage, in_turn
from tests.transports.test_contract import SIGNED, auto_by_smtp

CALENDAR = "calendar@example.com"
INVITATION = b"From: <calendar@example.com>\r\n\r\nMeeting at ten\r\n"
WHY = "an invitation would become a file"
DAVE = "dave@example.net"


MANY = "would have a request each"


class Api(FakeTransport):
    """Carries no mail from the calendar, and that to four and more less well than SMTP would."""

    def prefers(self, job: Job) -> str:
        return MANY if len(job.envelope.recipients) > 3 else ""

    async def prepare(self, job: Job) -> Sequence[Job]:
        if CALENDAR.encode() in job.message.header:
            raise CannotCarry([WHY], "5.6.3")
        return await super().prepare(job)

    async def preview(self, job: Job) -> Sequence[Preview]:
        found = await super().preview(job)
        return [replace(one, losses=(Loss("cosmetic", "the colour"),)) for one in found]


def both(script: Script | None = None, smtp: Script | None = None, **more: Any) -> tuple[Auto, Api, FakeTransport]:
    """A provider by both ways; what begins with `api_` or `smtp_` is for one of them."""
    ours = {way: {key.removeprefix(f"{way}_"): value for key, value in more.items() if key.startswith(way)} for way in ("api", "smtp")}
    api = Api("mt", script, **{"carries_reports": False, "identities": ["domain=example.com"], **ours["api"]})
    door = FakeTransport("mt", smtp, **ours["smtp"])
    return Auto(api, door), api, door


def invitation(*recipients: str, **more: Any) -> Job:
    """A job that the API does not carry."""
    return job(*recipients or (BOB,), data=INVITATION, sender=CALENDAR, **more)


async def carried(transport: Auto, whole: Job) -> dict[str, Outcome]:
    """Prepare and attempt a job; the outcome of each recipient."""
    found: dict[str, Outcome] = {}
    for one in await transport.prepare(whole):
        outcomes = await transport.attempt([one])
        assert {(one.queue_id, recipient.address) for recipient in one.recipients} == outcomes.keys()
        found |= {address: outcome for (_, address), outcome in outcomes.items()}
    assert {recipient.address for recipient in whole.recipients} == found.keys()
    return found


# Which way.


async def test_the_api_carries_what_it_can() -> None:
    """Mail that loses nothing grave goes by the API, under its identities and in its batches."""
    transport, api, door = both(api_batching=Batching(500, 1000, 0.2), api_concurrency=3, smtp_concurrency=9)
    (one,) = await transport.prepare(job(BOB, CAROL))
    assert ["domain=example.com"] == list(transport.identity(one))
    assert Share("same", len(HELLO)) == transport.share(one)
    assert ("mt", Batching(500, 1000, 0.2), 3, True) == (
        transport.provider,
        transport.batching,
        transport.concurrency,
        transport.carries_reports,
    )
    assert {Verdict.OK} == {outcome.verdict for outcome in (await transport.attempt([one])).values()}
    assert ([(BOB, CAROL)], []) == (api.seen, door.seen)


async def test_what_the_api_cannot_carry_goes_by_smtp() -> None:
    """Alone and never in a batch, under an identity of its own beside the door's."""
    transport, api, door = both(api_batching=Batching(500, 1000, 0.2), smtp_identities=["domain=example.com"])
    (one,) = await transport.prepare(invitation(BOB, CAROL))
    assert ["mode=smtp", "domain=example.com"] == list(transport.identity(one))
    assert transport.share(one) is None
    assert {BOB, CAROL} == (await carried(transport, invitation(BOB, CAROL))).keys()
    assert ([], [(BOB, CAROL)]) == (api.seen, door.seen)


async def test_what_neither_carries_names_both_reasons() -> None:
    """The status is that of the API's reason."""
    transport, _, _ = both(smtp_refuses="the message has 60 MB")
    for asked in (transport.prepare, transport.preview):
        with pytest.raises(CannotCarry) as raised:
            await asked(invitation())
        assert (f"by API: {WHY}", "by SMTP: the message has 60 MB") == raised.value.reasons
        assert "5.6.3" == raised.value.status


async def test_a_recipient_that_the_api_does_not_take_goes_by_smtp() -> None:
    """The others go by the API, which comes first: a pause of the door does not make them wait."""
    transport, api, door = both(api_declines={CAROL: "a quoted local part"})
    parts = await transport.prepare(job(BOB, CAROL, DAVE))
    assert [(BOB, DAVE), (CAROL,)] == [tuple(one.address for one in part.recipients) for part in parts]
    assert {Verdict.OK} == {outcome.verdict for outcome in (await carried(transport, job(BOB, CAROL, DAVE))).values()}
    assert ([(BOB, DAVE)], [(CAROL,)]) == (api.seen, door.seen)


async def test_a_recipient_that_neither_takes_is_refused_alone() -> None:
    """By a finding of our own, so that the next provider is asked; nothing is sent to them. Where all are such, nobody is left."""
    transport, api, door = both(api_declines={CAROL: "a quoted local part"}, smtp_refuses="no such addresses")
    found = await carried(transport, job(BOB, CAROL))
    reasons = "by API: a quoted local part; by SMTP: no such addresses"
    assert (Verdict.OK, Verdict.PERM_MSG) == (found[BOB].verdict, found[CAROL].verdict)
    assert (True, "5.1.3", reasons) == (found[CAROL].own, found[CAROL].status, found[CAROL].reply)
    assert ([(BOB,)], []) == (api.seen, door.seen)
    assert [()] == [tuple(transport.identity(part)) for part in await transport.prepare(job(BOB, CAROL)) if CAROL in str(part.recipients)]
    (shown,) = await transport.preview(job(BOB, CAROL))
    assert (Loss("cosmetic", "the colour"), Loss("hard", f"{CAROL} gets nothing: {reasons}")) == shown.losses
    with pytest.raises(CannotCarry, match=reasons):
        await transport.prepare(job(CAROL))


async def test_what_smtp_carries_better_goes_by_smtp() -> None:
    """With its reason; and by the API where SMTP cannot carry it at all."""
    several = [BOB, CAROL, DAVE, "erin@example.net"]
    transport, api, door = both()
    assert [(tuple(several), MANY)] == [(one.recipients, one.why) for one in await transport.preview(job(*several))]
    assert set(several) == (await carried(transport, job(*several))).keys()
    assert ([], [tuple(several)]) == (api.seen, door.seen)
    transport, api, door = both(smtp_refuses="a template is asked for")
    assert [""] == [one.why for one in await transport.preview(job(*several))]
    assert set(several) == (await carried(transport, job(*several))).keys()
    assert ([tuple(several)], []) == (api.seen, door.seen)


async def test_a_reason_of_both_ways_is_told_once() -> None:
    """Before those of one way."""
    transport, _, _ = both(smtp_refuses=WHY)
    with pytest.raises(CannotCarry) as raised:
        await transport.prepare(invitation())
    assert (WHY,) == raised.value.reasons


async def test_the_way_follows_from_the_message() -> None:
    """Prepared again and again, by this object or the one after a restart, each recipient goes the same way."""
    declines = {CAROL: "a quoted local part"}
    transport = both(api_declines=declines)[0]
    for whole in (job(BOB, CAROL), invitation(BOB, CAROL)):
        first = [(part.recipients, transport.identity(part)) for part in await transport.prepare(whole)]
        for again in (transport, both(always(Verdict.UNKNOWN), always(Verdict.UNKNOWN), api_declines=declines)[0]):
            await carried(again, whole)
            assert first == [(part.recipients, again.identity(part)) for part in await again.prepare(whole)]


async def test_a_preview_says_why_smtp_is_taken() -> None:
    """What goes by the API needs no word; what does not has the API's reason."""
    transport, _, _ = both(api_declines={CAROL: "a quoted local part"})
    assert [((BOB,), ""), ((CAROL,), "a quoted local part")] == [
        (one.recipients, one.why) for one in await transport.preview(job(BOB, CAROL))
    ]
    assert [((BOB,), WHY)] == [(one.recipients, one.why) for one in await transport.preview(invitation())]


async def test_several_jobs_go_each_its_way() -> None:
    """Those by the API in one request, the others one after the other."""
    transport, api, door = both(api_batching=Batching(500, 1000, 0.2))
    jobs = [
        *(await transport.prepare(job(BOB, queue_id="A"))),
        *(await transport.prepare(invitation(BOB, queue_id="B"))),
        *(await transport.prepare(job(BOB, queue_id="C"))),
    ]
    assert {("A", BOB), ("B", BOB), ("C", BOB)} == (await transport.attempt(jobs)).keys()
    assert ([["A", "C"]], [["B"]]) == (api.batches, door.batches)


async def test_signed_mail_arrives_octet_for_octet() -> None:
    """By a provider's real halves: its API would take it apart, so that SMTP carries it as it is; other mail goes by the API."""
    async with auto_by_smtp({}, 10.0) as (transport, server):
        for data in (SIGNED, HELLO):
            for part in await transport.prepare(job(BOB, data=data)):
                assert {Verdict.OK} == {outcome.verdict for outcome in (await transport.attempt([part])).values()}
    assert isinstance(server, SmtpServer)
    assert [SIGNED] == [mail.message for mail in server.mails]


@pytest.mark.parametrize(("shown", "by_smtp"), [(50, False), (51, True)])
async def test_mail_to_many_goes_in_few_transactions(shown: int, by_smtp: bool) -> None:
    """By a provider's real halves: more than its API takes, of those whom the header shows, go by SMTP, and so does who is left of them."""
    many = [f"user{number}@example.net" for number in range(shown)]
    whole = job(*many, data=f"From: a@example.com\r\nTo: {', '.join(many)}\r\n\r\ntext\r\n".encode())
    async with auto_by_smtp({}, 10.0) as (transport, _):
        for one in (whole, replace(whole, recipients=whole.recipients[:1])):
            (part,) = await transport.prepare(one)
            assert by_smtp is ("mode=smtp" in transport.identity(part))


# The trouble of one way.


async def test_trouble_of_the_door_is_about_the_door() -> None:
    """A PAUSE of the SMTP half is a CONFIG of its identity, with its mend; one of the API stays what it is."""
    login = outcome(Verdict.PAUSE, "535 5.7.8 no", mend="check the token")
    transport, _, _ = both(lambda job, address: login, lambda job, address: login)
    found = (await carried(transport, invitation()))[BOB]
    assert (Verdict.CONFIG, "mode=smtp", "check the token", login.status) == (found.verdict, found.identity, found.mend, found.status)
    assert login == (await carried(transport, job(BOB)))[BOB]


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("535 5.7.8 Too many connections per account", Verdict.RETRY),
        ("421 4.7.0 try again later", Verdict.RETRY),
        ("421 4.7.0 too many messages on this connection", Verdict.RETRY),
        ("550 5.7.0 Requested action not taken: too many emails per second", Verdict.THROTTLE),
        ("454 Throttling failure: Maximum sending rate exceeded", Verdict.THROTTLE),
    ],
)
async def test_a_throttle_of_the_door_slows_the_api_only_where_it_is_the_accounts(reply: str, verdict: Verdict) -> None:
    """Connections are the door's; messages and rates are the account's. How long to wait is kept."""
    transport, _, _ = both(None, always(Verdict.THROTTLE, reply=reply, retry_after=30.0))
    found = (await carried(transport, invitation()))[BOB]
    assert (verdict, 30.0, reply) == (found.verdict, found.retry_after, found.reply)


async def test_what_the_server_turns_out_not_to_take_names_both_reasons() -> None:
    """Our own finding once it is asked (no SMTPUTF8, say); its own refusals stand as it said them."""
    ours = Outcome(Verdict.PERM_MSG, "5.6.7", "SMTPUTF8 is not offered", "mx.example.net", own=True)
    transport, _, _ = both(None, lambda job, address: ours)
    assert f"by API: {WHY}; by SMTP: SMTPUTF8 is not offered" == (await carried(transport, invitation()))[BOB].reply
    transport, _, _ = both(None, always(Verdict.PERM_MSG, reply="554 no"))
    assert "554 no" == (await carried(transport, invitation()))[BOB].reply


@pytest.mark.parametrize(("api", "smtp", "connections"), [(10, 10, 5), (10, 3, 3), (5, 10, 2), (1, 10, 1)])
def test_what_goes_by_smtp_leaves_room_for_the_api(api: int, smtp: int, connections: int) -> None:
    """At most half of what may be under way, and no more than the door allows."""
    assert connections == auto.connections(api, smtp)


async def test_no_more_connections_than_the_door_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for one makes room for mail by the API, and is tried later."""
    transport, api, door = both(api_concurrency=10, smtp_concurrency=2)
    monkeypatch.setattr(auto, "LINE", 60.0)
    door.gate.clear()
    (part,) = await transport.prepare(invitation())
    busy = [asyncio.create_task(transport.attempt([part])) for _ in range(3)]
    await door.reached(2)
    assert {Verdict.OK} == {outcome.verdict for outcome in (await carried(transport, job(BOB))).values()}
    monkeypatch.setattr(auto, "LINE", 0.0)
    (late,) = (await transport.attempt([part])).values()
    assert (Verdict.RETRY, True, "all connections by SMTP are busy with other messages") == (late.verdict, late.own, late.reply)
    door.gate.set()
    assert [Verdict.OK] * 3 == [found.verdict for task in busy for found in (await task).values()]
    assert (2, 3, 1) == (door.busiest, len(door.attempts), len(api.attempts))


# Under delivery.


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """One daemon's sending half."""
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


def use(stage: Stage, transport: Transport) -> None:
    """Have the stage send by it."""
    cast("dict[str, Transport]", stage.transports)[transport.provider] = transport


LOGIN_REFUSED = outcome(Verdict.PAUSE, "535 5.7.8 no", mend="check the token")


async def test_mail_by_the_api_goes_on_while_the_door_is_paused(stage: Stage) -> None:
    """A refused SMTP login makes invitations wait and nothing else; when it is mended they go."""
    transport, api, door = both(None, lambda job, address: LOGIN_REFUSED)
    use(stage, transport)
    stage.route("mt")
    async with stage.running():
        ids = [await stage.submit(BOB, sender=CALENDAR) for _ in range(2)]
        await stage.waiting("mt mode=smtp", 2)
        for _ in range(3):
            await stage.submit(CAROL)
        await stage.events.wait("removed", count=3)
        assert ["mt mode=smtp"] * 2 == [(await stage.state(queue_id, BOB)).waits for queue_id in ids]
        assert [("mt", "partly", "mode=smtp: 535 5.7.8 no", "check the token", 2)] == [
            (one.name, one.state, one.reason, one.mend, one.waiting) for one in await stage.delivery.providers()
        ]
        door.script = always(Verdict.OK)
        stage.pass_time(100)
        await stage.events.wait("removed", count=5)
    assert ([(CAROL,)] * 3, [(BOB,)] * 4) == (api.seen, door.seen)
    assert ([1, 0], [1]) == (
        [len(stage.events.found("identity_paused", identity="mode=smtp")), len(stage.events.found("paused"))],
        [len(stage.events.found("resumed"))],
    )


async def test_what_the_door_cannot_take_now_goes_to_the_next_provider(stage: Stage) -> None:
    """At once, while mail by the API stays with the first."""
    transport, api, _ = both(None, lambda job, address: LOGIN_REFUSED)
    use(stage, transport)
    other = stage.provider("other")
    stage.route("mt", "other")
    async with stage.running():
        await stage.submit(BOB, sender=CALENDAR)
        await stage.events.wait("removed", count=1)
        await stage.submit(CAROL)
        await stage.events.wait("removed", count=2)
    assert ([(CAROL,)], [(BOB,)]) == (api.seen, other.seen)


async def test_recipients_of_one_mail_by_two_ways(stage: Stage) -> None:
    """While the door is paused those by the API get it; only the other one waits."""
    transport, api, door = both(None, lambda job, address: LOGIN_REFUSED, api_declines={CAROL: "a quoted local part"})
    use(stage, transport)
    stage.route("mt")
    async with stage.running():
        for _ in range(2):
            await stage.submit(CAROL)
        await stage.waiting("mt mode=smtp", 2)
        await stage.submit(BOB, CAROL)
        await stage.waiting("mt mode=smtp", 3)
        door.script = always(Verdict.OK)
        stage.pass_time(100)
        await stage.events.wait("removed", count=3)
    assert [(BOB,)] == api.seen
    assert [(CAROL,)] * 5 == door.seen


async def test_mail_that_may_have_been_taken_goes_the_same_way_again(stage: Stage) -> None:
    """It never changes to the other way of its provider, nor to another provider."""
    transport, api, door = both(None, in_turn(outcome(Verdict.UNKNOWN), outcome(Verdict.OK)))
    use(stage, transport)
    other = stage.provider("other")
    stage.route("mt", "other")
    async with stage.running():
        await stage.submit(BOB, sender=CALENDAR)
        await stage.events.wait("attempt", status="deferred")
        stage.pass_time(200)
        await stage.events.wait("removed")
    assert ([], [(BOB,), (BOB,)], []) == (api.seen, door.seen, other.seen)


async def test_mail_by_the_door_does_not_end_a_pause_of_the_api(stage: Stage) -> None:
    """When an invitation is the one that decides whether the provider can be used again, the API is asked: no alarm ends and begins
    again with each of them."""
    down = outcome(Verdict.PAUSE, "401 no", mend="check the token")
    checks = [Check("connect", True, "there"), Check("login", False, "401 no", "mend it")]
    transport, api, door = both(lambda job, address: down, api_checks=checks)
    use(stage, transport)
    stage.route("mt")
    async with stage.running():
        for _ in range(2):
            await stage.submit(CAROL)
        await stage.waiting("mt", 2)
        queue_id = await stage.submit(BOB, sender=CALENDAR)
        await stage.waiting("mt", 3)
        api.script = always(Verdict.OK)  # nobody may find that out but by the probe
        await stage.real.delete(Filter(recipient=CAROL), stage.clock())
        stage.pass_time(100)
        await stage.events.wait("attempt", queue_id=queue_id)
        assert [["login: 401 no", "mend it"]] == [[one.reason, one.mend] for one in await stage.delivery.providers()]
        assert ([], []) == (stage.events.found("resumed"), door.seen)
        api.checks = [Check("login", True, "welcome")]
        stage.pass_time(1000)
        await stage.events.wait("removed", queue_id=queue_id)
    assert (2, [(BOB,)]) == (api.probed, door.seen)
    assert (1, 1) == (len(stage.events.found("paused")), len(stage.events.found("resumed")))


# The rest of the contract.


async def test_both_ways_are_probed_and_closed() -> None:
    """Each check says of which way it is; one way that cannot be closed leaves the other one closed."""

    class Stuck(Api):
        async def aclose(self) -> None:
            await super().aclose()
            raise OSError("stuck")

    door = FakeTransport("mt", checks=[Check("login", False, "535 no", "check the token")])
    transport = Auto(Stuck("mt"), door)
    assert [Check("API connect", True, "there"), Check("SMTP login", False, "535 no", "check the token")] == await transport.probe()
    with pytest.raises(OSError, match="stuck"):
        await transport.aclose()
    assert door.closed
