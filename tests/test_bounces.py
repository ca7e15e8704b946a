"""What senders are told: scenarios over the real spool and delivery. Every notice is read back by the standard library and by
flufl.bounce, which tells mailing lists what bounced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any, cast

import pytest
from flufl.bounce import all_failures, scan_message

from relay.errors import CorruptEntry, SpoolError
from relay.model import Entry, Job, Notify, Outcome, Recipient, State, Verdict, line_key
from relay.routing import Match
from relay.spool.base import Filter, Recorded
from relay.transports.base import Transport
from relay.transports.smtp import Smtp, SmtpSettings
from tests.fakes import Answer, FakeTransport, Script, always, outcome
from tests.servers import SmtpServer
from tests.test_delivery import BOB, CAROL, SENDER, START, Stage, refusing

DAY = 86400.0
HOUR = 3600.0
POSTMASTER = "postmaster@example.com"
DAVE = "dave@example.net"
SAID = "550 5.1.1 no such user here"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    it.settings = replace(it.settings, keep_bodies=True)
    await it.open()
    yield it
    await it.real.close()


def only(verdict: Verdict, reply: str = "", **more: Any) -> Script:
    """Applications' mail ends like this; notices are relayed."""
    return lambda job, address: outcome(Verdict.OK) if job.bounce else outcome(verdict, reply, **more)


def asking(address: str, *notify: Notify, orcpt: str = "") -> Recipient:
    return Recipient(address, frozenset(notify), orcpt)


@dataclass(frozen=True)
class Notice:
    """A notice as it was stored, read by the standard library and by flufl.bounce."""

    entry: Entry
    parsed: EmailMessage
    temporary: set[str]
    permanent: set[str]

    @property
    def to(self) -> str:
        """The one recipient of its envelope."""
        [recipient] = self.entry.envelope.recipients
        return recipient.address

    @property
    def words(self) -> str:
        """The part for people, with single spaces."""
        part = self.parts[0] if self.parts else self.parsed
        return " ".join(part.get_content().split())

    @property
    def parts(self) -> list[EmailMessage]:
        return cast(list[EmailMessage], self.parsed.get_payload()) if self.parsed.is_multipart() else []

    @property
    def fields(self) -> list[dict[str, str]]:
        """The blocks of message/delivery-status: of the message, then of each recipient."""
        blocks = cast(list[Message], self.parts[1].get_payload())
        return [{name: " ".join(value.split()) for name, value in block.items()} for block in blocks]


def read(entry: Entry, data: bytes) -> Notice:
    """Parse a notice and hold it to what holds for all of them."""
    parsed = BytesParser(policy=policy.default).parsebytes(data)
    assert all(part.defects == [] for part in parsed.walk())
    assert data.isascii()
    assert ("", True) == (entry.envelope.reverse_path, entry.bounce)
    assert "auto-replied" == parsed["Auto-Submitted"]
    assert "Mail Delivery System <mailer-daemon@relay.test>" == parsed["From"]
    kinds = [part.get_content_type() for part in parsed.iter_parts()] if parsed.is_multipart() else []
    assert kinds[:2] == (["text/plain", "message/delivery-status"] if kinds else [])
    plain = message_from_bytes(data)
    temporary, permanent = all_failures(plain)
    assert scan_message(plain) == permanent
    return Notice(entry, parsed, set(map(bytes.decode, temporary)), set(map(bytes.decode, permanent)))


async def notices(stage: Stage) -> list[Notice]:
    """Every notice in the spool, oldest first."""
    found = [*await stage.real.find(Filter(), 1000), *await stage.real.find(Filter(state="finished"), 1000)]
    ours = sorted((entry for entry in found if entry.bounce), key=lambda entry: entry.queue_id)
    return [read(entry, await (await stage.real.message(entry.queue_id)).read()) for entry in ours]


async def the_notice(stage: Stage) -> Notice:
    [one] = await notices(stage)
    return one


# Each scope.


async def test_a_recipient_that_a_server_refuses(stage: Stage, tmp_path: Path) -> None:
    """Over real SMTP: one of two is refused; the bounce goes out by the same server, with its very words."""

    def refuse(line: bytes) -> str:
        return SAID if BOB.encode() in line else "250 2.1.5 ok"

    async with SmtpServer({"rcpt": refuse}) as server:
        smtp = Smtp(SmtpSettings("ses", server.host, server.port, "relay.test", tls="none", idle=0.1))
        cast(dict[str, Transport], stage.transports)["ses"] = smtp
        stage.route("ses")
        async with stage.running():
            queue_id = await stage.submit(BOB, CAROL)
            await stage.events.wait("removed", 2)
        await smtp.aclose()
        first, second = server.mails
    assert ([b"<%s>" % CAROL.encode()], [b"<%s>" % SENDER.encode()]) == (first.rcpts, second.rcpts)
    assert second.mail.startswith(b"<>")
    notice = await the_notice(stage)
    assert second.message == await (await stage.real.message(notice.entry.queue_id)).read()
    assert ({BOB}, set()) == (notice.permanent, notice.temporary)
    message, bob = notice.fields
    assert ("dns; relay.test", queue_id) == (message["Reporting-MTA"], message["X-Relay-Queue-Id"])
    assert ("failed", "5.1.1", f"smtp; {SAID}", "dns; 127.0.0.1") == tuple(
        bob[name] for name in ("Action", "Status", "Diagnostic-Code", "Remote-MTA")
    )
    assert "There is no such mailbox: check the address." in notice.words
    assert State.RELAYED == (await stage.state(queue_id, CAROL)).state


async def test_a_message_that_is_refused(stage: Stage) -> None:
    """All recipients are told of in one bounce."""
    stage.provider("ses", only(Verdict.PERM_MSG, "552 5.3.4 too big"))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("removed", 2)
    notice = await the_notice(stage)
    assert ({BOB, CAROL}, "Undelivered mail returned to sender") == (notice.permanent, notice.parsed["Subject"])
    assert [{"queue_id": queue_id, "event": "bounced_to", "bounce_id": notice.entry.queue_id, "sender": SENDER}] == stage.events.found(
        "bounced_to"
    )


async def test_a_misconfigured_identity_bounces_nothing_before_the_time_is_over(stage: Stage) -> None:
    """Then the bounce names it, and what would mend it."""
    ses = stage.provider(
        "ses", only(Verdict.CONFIG, "400 domain not verified", mend="verify example.com"), identities=["domain=example.com"]
    )
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.submit(BOB, sender="")
        await stage.waiting("ses domain=example.com", 2)
        stage.pass_time(4 * DAY)
        await stage.events.wait("attempt", 3)
        assert [] == await notices(stage)
        await stage.waiting("ses domain=example.com", 2)
        ses.identities = []  # so that the bounce may leave
        stage.pass_time(DAY + 1)
        await stage.events.wait("removed", 3)
    notice = await the_notice(stage)
    assert ({BOB}, "4.4.7") == (notice.permanent, notice.fields[1]["Status"])
    assert "400 domain not verified" in notice.words


async def test_a_paused_provider_bounces_nothing_before_the_time_is_over(stage: Stage) -> None:
    """Mail that waited for it is told what it waited for, also mail that was never attempted."""
    ses = stage.provider("ses", always(Verdict.PAUSE, reply="535 5.7.8 bad key", mend="mend the key"), concurrency=1)
    stage.route("ses")
    async with stage.running():
        ids = [await stage.submit(address) for address in (BOB, CAROL, DAVE)]
        await stage.waiting("ses", 3)
        stage.pass_time(5 * DAY - 100)
        await stage.events.wait("attempt", 2)
        await stage.waiting("ses", 3)
        assert [] == await notices(stage)
        stage.pass_time(101)
        await stage.events.wait("bounced_to", 3)
        ses.script = always(Verdict.OK)
        stage.delivery.hurry()
        await stage.events.wait("removed", 6)
    found = await notices(stage)
    assert [{BOB}, {CAROL}, {DAVE}] == sorted((notice.permanent for notice in found), key=min)
    assert {"4.4.7"} == {notice.fields[1]["Status"] for notice in found}
    assert all("For the administrator of relay.test: mend the key" in notice.words for notice in found)
    never = next(notice for notice in found if "Last-Attempt-Date" not in notice.fields[1])
    assert "It waited for provider ses: 535 5.7.8 bad key" in never.words
    assert "X-Relay; provider ses: 535 5.7.8 bad key" == never.fields[1]["Diagnostic-Code"]
    said = [str(line["reply"]) for queue_id in ids for line in stage.events.found("attempt", queue_id=queue_id, status="bounced")]
    assert any("it was never attempted; it waited for provider ses: 535 5.7.8 bad key" in reply for reply in said)


# Expiry.


async def test_expiry_gives_the_last_answer(stage: Stage) -> None:
    """Tried until the time is over: 4.4.7, the number of attempts, the server's last word and when it was heard."""
    stage.settings = replace(stage.settings, expire=100.0)
    stage.provider("ses", only(Verdict.RETRY, "451 4.7.1 come back later"))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt", 1)
        stage.pass_time(60)
        await stage.events.wait("attempt", 2)
        stage.pass_time(40)
        await stage.events.wait("removed", 2)
    notice = await the_notice(stage)
    assert {BOB} == notice.permanent
    assert ("4.4.7", "smtp; 451 4.7.1 come back later") == (notice.fields[1]["Status"], notice.fields[1]["Diagnostic-Code"])
    assert "Fri, 15 Jan 2027 08:01:40 +0000" == notice.fields[1]["Last-Attempt-Date"]
    assert "Not delivered within 1 minute 40 seconds (2 attempts). It will not be tried again." in notice.words


async def test_expiry_of_what_may_have_been_delivered(stage: Stage) -> None:
    """The bounce does not claim that the mail was not delivered."""
    stage.provider("ses", only(Verdict.UNKNOWN, "no answer after the message was sent"))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.pass_time(5 * DAY + 1)
        await stage.events.wait("removed", 2)
    assert "so it may have been delivered. Ask the recipient before you send it again." in (await the_notice(stage)).words


async def test_what_is_held_neither_expires_nor_is_warned_of(stage: Stage) -> None:
    """It is the admin's."""
    stage.settings = replace(stage.settings, delay_warning=4 * HOUR)
    stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    async with stage.running():
        held = await stage.submit(BOB)
        await stage.events.wait("attempt")
        await stage.real.hold(Filter(), stage.clock())
        await stage.submit(CAROL)
        await stage.events.wait("attempt", recipient=CAROL)
        stage.pass_time(4 * HOUR + 60)
        await stage.events.wait("delay_told")
        stage.pass_time(10 * DAY)
        await stage.events.wait("bounced_to")
    assert State.HELD == (await stage.state(held, BOB)).state
    assert [{CAROL}, {CAROL}] == [notice.permanent | notice.temporary for notice in await notices(stage)]


# Delay.


async def test_a_delay_is_told_once(stage: Stage) -> None:
    """After the set time, about who is still queued; neither a later deferral nor a restart repeats it; the bounce follows."""
    stage.settings = replace(stage.settings, delay_warning=4 * HOUR)
    stage.provider(
        "ses",
        lambda job, address: outcome(Verdict.OK) if job.bounce or address == CAROL else outcome(Verdict.RETRY, "450 4.2.0 greylisted"),
    )
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB, CAROL)
        await stage.events.wait("attempt", 2)
        stage.pass_time(4 * HOUR - 1)
        await stage.events.wait("attempt", 2, recipient=BOB)
        assert [] == await notices(stage)
        stage.pass_time(61)
        await stage.events.wait("removed")
        notice = await the_notice(stage)
        assert [{"queue_id": queue_id, "event": "delay_told", "notice_id": notice.entry.queue_id, "sender": SENDER}] == stage.events.found(
            "delay_told"
        )
        assert (await stage.state(queue_id, BOB)).told
    assert ({BOB}, set()) == (notice.temporary, notice.permanent)
    assert ("delayed", "4.3.0", "Wed, 20 Jan 2027 08:00:00 +0000") == tuple(
        notice.fields[1][name] for name in ("Action", "Status", "Will-Retry-Until")
    )
    assert "has not yet been delivered to this recipient: <bob@example.net> It is being tried until Wed, 20 Jan 2027" in notice.words
    await stage.real.close()
    await stage.open()
    async with stage.running():
        stage.pass_time(6 * HOUR)
        await stage.events.wait("attempt", 3, recipient=BOB)
        stage.pass_time(HOUR)
        await stage.events.wait("attempt", 4, recipient=BOB)
        assert 1 == len(await notices(stage))
        stage.pass_time(5 * DAY)
        await stage.events.wait("bounced_to", queue_id=queue_id)
    assert [{BOB}, {BOB}] == [notice.temporary | notice.permanent for notice in await notices(stage)]


async def test_a_delay_by_a_paused_provider_is_told_without_an_attempt(stage: Stage) -> None:
    """What waits is not woken for it, and no attempt is counted; the warning leaves when the provider is back, or by `bounce.via`."""
    ses = stage.provider("ses", always(Verdict.PAUSE, reply="535 5.7.8 bad key", mend="mend the key"), concurrency=1)
    other = stage.provider("other")
    stage.route("ses")
    stage.settings = replace(stage.settings, delay_warning=HOUR, bounce_via="other")
    async with stage.running():
        await stage.submit(CAROL)
        await stage.submit(CAROL)
        await stage.waiting("ses", 2)
        queue_id = await stage.submit(BOB)
        await stage.waiting("ses", 3)
        ses.gate.clear()  # the probe of the pause hangs: nothing else is attempted
        stage.pass_time(HOUR + 60)
        await stage.events.wait("delay_told", queue_id=queue_id)
        await other.reached(1)
        state = await stage.state(queue_id, BOB)
        ses.gate.set()
        await stage.events.wait("removed", 3)
    assert (0, "ses", True) == (state.attempts, state.waits, state.told)
    notice = next(notice for notice in await notices(stage) if BOB in notice.words)
    assert ({BOB}, ("other",)) == (notice.temporary, notice.entry.via)
    assert "It waits for provider ses: 535 5.7.8 bad key" in notice.words
    assert ("4.3.5", "X-Relay; provider ses: 535 5.7.8 bad key") == (notice.fields[1]["Status"], notice.fields[1]["Diagnostic-Code"])


async def test_a_delay_by_a_full_line_is_told(stage: Stage) -> None:
    """Room in a provider's line is nobody's trouble but ours."""
    ses = stage.provider("ses", concurrency=1)
    stage.provider("other")
    stage.route("ses")
    stage.settings = replace(stage.settings, delay_warning=HOUR, bounce_via="other")
    ses.gate.clear()
    async with stage.running():
        await asyncio.gather(*(stage.submit(BOB) for _ in range(260)))
        await stage.waiting(line_key("ses", "default"), 10)
        stage.pass_time(HOUR + 60)
        await stage.events.wait("delay_told")
        ses.gate.set()
    assert "It waits for its turn with provider ses" in (await notices(stage))[0].words


@pytest.mark.parametrize(
    ("delay", "recipient", "sender"),
    [
        (0.0, Recipient(BOB), SENDER),
        (HOUR, asking(BOB, Notify.NEVER), SENDER),
        (HOUR, asking(BOB, Notify.SUCCESS, Notify.FAILURE), SENDER),
        (HOUR, Recipient(BOB), ""),
    ],
    ids=["off", "never", "not asked for", "null sender"],
)
async def test_who_wants_no_warning_gets_none(stage: Stage, delay: float, recipient: Recipient, sender: str) -> None:
    """Where it is off, where NOTIFY has no DELAY, where there is nobody to tell; another mail of that age is warned of."""
    stage.settings = replace(stage.settings, delay_warning=delay)
    stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(recipient, sender=sender)
        await stage.submit(CAROL)
        await stage.events.wait("attempt", 2)
        stage.pass_time(2 * HOUR)
        await stage.events.wait("attempt", 4)
        if delay:
            await stage.events.wait("delay_told")
    assert [] == stage.events.found("delay_told", queue_id=queue_id)


async def test_a_bounce_of_ours_that_is_late_is_not_warned_of(stage: Stage) -> None:
    """Nobody waits for it."""
    stage.settings = replace(stage.settings, delay_warning=HOUR, postmaster=POSTMASTER)
    stage.provider("ses", lambda job, address: outcome(Verdict.RETRY if job.bounce or address == CAROL else Verdict.PERM_RCPT))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        late = await stage.submit(CAROL)
        await stage.events.wait("attempt", 3)
        stage.pass_time(2 * HOUR)
        await stage.events.wait("delay_told")
    assert [late] == [line["queue_id"] for line in stage.events.found("delay_told")]


async def test_a_warning_that_a_crash_prevented_comes_after_the_start(stage: Stage) -> None:
    """A minute after it, so that what goes out at once is not warned of."""
    stage.settings = replace(stage.settings, delay_warning=HOUR)
    ses = stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    async with stage.running():
        late, quick = await stage.submit(BOB), await stage.submit(CAROL)
        await stage.events.wait("attempt", 2)
    await stage.real.close()
    await stage.open()
    stage.clock.now += DAY
    ses.script = lambda job, address: outcome(Verdict.RETRY if address == BOB else Verdict.OK)
    async with stage.running():
        await stage.events.wait("removed", queue_id=quick)
        await stage.events.wait("attempt", 2, recipient=BOB)
        assert [] == stage.events.found("delay_told")
        stage.pass_time(60)
        await stage.events.wait("delay_told", queue_id=late)
        await stage.events.wait("removed", 2)
    assert 1 == len(await notices(stage))


async def test_what_is_about_to_be_given_up_is_not_warned_of(stage: Stage) -> None:
    """After a stop longer than `expire` its time is over: it gets another chance, but nobody is told that it is tried until a day past."""
    stage.settings = replace(stage.settings, delay_warning=HOUR)
    stage.provider("ses", only(Verdict.PAUSE))
    other = stage.provider("other")
    stage.route("ses")
    async with stage.running():
        late = await stage.submit(BOB)
        await stage.submit(BOB, sender="")
        await stage.waiting("ses", 2)
    await stage.real.close()
    await stage.open()
    stage.clock.now += 6 * DAY
    stage.settings = replace(stage.settings, bounce_via="other")
    async with stage.running():
        await stage.events.wait("paused", 2)
        await stage.waiting("ses", 2)
        other_mail = await stage.submit(CAROL)
        await stage.waiting("ses", 3)
        stage.pass_time(HOUR + 60)
        await stage.events.wait("delay_told", queue_id=other_mail)
        await stage.events.wait("expired", queue_id=late)
        await stage.events.wait("removed", 4)
    assert [other_mail] == [line["queue_id"] for line in stage.events.found("delay_told")]
    assert 2 == len(other.attempts)


async def test_many_are_warned_of(stage: Stage) -> None:
    """More than a page; each once."""
    stage.settings = replace(stage.settings, delay_warning=2.0)
    stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    async with stage.running():
        ids = await asyncio.gather(*(stage.submit(BOB) for _ in range(120)))
        await stage.events.wait("attempt", 120)
        stage.pass_time(3)
        await stage.events.wait("delay_told", 120)
        stage.pass_time(3)
        await stage.events.wait("removed", 120)
    assert sorted(ids) == sorted(str(line["queue_id"]) for line in stage.events.found("delay_told"))


async def test_trouble_while_warning_costs_no_warning(stage: Stage) -> None:
    """A spool that cannot look is asked at the next look; a mistake of ours, or an entry that cannot be read, costs no other its own."""
    stage.settings = replace(stage.settings, delay_warning=10.0)
    stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    failures = [SpoolError("disk I/O error"), ValueError("a bug of ours")]
    looked = asyncio.Event()

    async def late(arrived_before: float, limit: int, after: str = "") -> Sequence[str]:
        looked.set()
        raise failures.pop(0)

    stage.spool.answers["late"] = late
    async with stage.running():
        bad, broken, good = [await stage.submit(BOB) for _ in range(3)]
        await stage.events.wait("attempt", 3)
        gone = "00000000000001"

        async def entry(queue_id: str) -> Entry | None:
            if queue_id == bad:
                raise ValueError("another bug of ours")
            if queue_id == broken:
                raise CorruptEntry(queue_id, "its rows cannot be read")
            return await stage.real.entry(queue_id)

        stage.spool.answers["entry"] = entry
        stage.pass_time(11)
        await looked.wait()
        stage.pass_time(11)
        await stage.events.wait("bug")

        async def with_one_gone(arrived_before: float, limit: int, after: str = "") -> Sequence[str]:
            return [] if after else [gone, bad, broken, good]

        stage.spool.answers["late"] = with_one_gone
        stage.pass_time(11)
        await stage.events.wait("delay_told", queue_id=good)
        await stage.events.wait("bug", 2)
        await stage.events.wait("corrupt", queue_id=broken)


async def test_a_clock_that_steps_back_looks_for_delays_by_the_new_time(stage: Stage) -> None:
    """A look planned by the old time would not come for days."""
    stage.settings = replace(stage.settings, delay_warning=HOUR)
    stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    stage.clock.now += DAY
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("attempt")
        stage.pass_time(-DAY)
        await stage.events.wait("warning")
        queue_id = await stage.submit(CAROL)
        await stage.events.wait("attempt", recipient=CAROL)
        stage.pass_time(DAY + 2 * HOUR)
        await stage.events.wait("delay_told", queue_id=queue_id)


# NOTIFY.


@pytest.mark.parametrize("verdict", [Verdict.PERM_RCPT, Verdict.OK])
async def test_notify_never(stage: Stage, verdict: Verdict) -> None:
    """The log alone knows."""
    stage.provider("ses", only(verdict))
    stage.route("ses")
    async with stage.running():
        await stage.submit(asking(BOB, Notify.NEVER))
        await stage.events.wait("removed")
    assert [] == await notices(stage)


async def test_notify_delay_only(stage: Stage) -> None:
    """A warning, and then no bounce."""
    stage.settings = replace(stage.settings, delay_warning=HOUR)
    ses = stage.provider("ses", only(Verdict.RETRY))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(asking(BOB, Notify.DELAY))
        await stage.events.wait("attempt")
        stage.pass_time(HOUR + 60)
        await stage.events.wait("removed")
        ses.script = only(Verdict.PERM_RCPT)
        stage.pass_time(HOUR)
        await stage.events.wait("removed", queue_id=queue_id)
    assert {BOB} == (await the_notice(stage)).temporary


@pytest.mark.parametrize("passed_on", [False, True])
async def test_notify_success(stage: Stage, passed_on: bool) -> None:
    """Where the next hop does not notify, relay says what it knows: relayed. Where it does, that is its to say."""
    stage.provider("ses", only(Verdict.OK, "250 2.0.0 Ok: queued as 4F1", notifies=passed_on))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(asking(BOB, Notify.SUCCESS, orcpt="rfc822;robert@example.net"), CAROL)
        await stage.events.wait("removed", 1 if passed_on else 2)
    found = await notices(stage)
    assert (0 if passed_on else 1) == len(found)
    assert (await stage.state(queue_id, BOB)).told
    for notice in found:
        assert (set(), set(), "Mail relayed (delivery report)") == (notice.permanent, notice.temporary, notice.parsed["Subject"])
        [_, bob] = notice.fields
        assert ("relayed", "2.0.0", "rfc822; robert@example.net") == tuple(bob[name] for name in ("Action", "Status", "Original-Recipient"))
        assert [notice.entry.queue_id] == [line["notice_id"] for line in stage.events.found("success_told", queue_id=queue_id)]


# What comes back.


@pytest.mark.parametrize("ret", ["FULL", "HDRS", ""])
async def test_ret_full_returns_the_message(stage: Stage, ret: str) -> None:
    """Whole, where it was asked for."""
    stage.provider("ses", only(Verdict.PERM_MSG))
    stage.route("ses")
    async with stage.running():
        queue_id = await stage.submit(BOB, ret=ret, envid="order 66")
        await stage.events.wait("removed", 2)
    notice = await the_notice(stage)
    original = await (await stage.real.message(queue_id)).read()
    if ret == "FULL":
        assert "message/rfc822" == notice.parts[2].get_content_type()
        assert original.decode().replace("\r\n", "\n") == cast(list[EmailMessage], notice.parts[2].get_payload())[0].as_string()
    else:
        assert "text/rfc822-headers" == notice.parts[2].get_content_type()


async def test_a_message_that_is_gone_comes_back_as_its_header(stage: Stage) -> None:
    """RET=FULL is a wish; without history the time of the last attempt is left out, too."""
    stage.provider("ses", only(Verdict.PERM_MSG))
    stage.route("ses")
    unreadable = SpoolError("no longer kept")

    async def history(queue_id: str) -> Sequence[object]:
        raise unreadable

    asked: list[str] = []

    async def message(queue_id: str) -> object:
        asked.append(queue_id)
        if asked.count(queue_id) > 1:
            raise unreadable
        return await stage.real.message(queue_id)

    stage.spool.answers.update(history=history, message=message)
    async with stage.running():
        await stage.submit(BOB, ret="FULL")
        await stage.events.wait("removed", 2)
    notice = await the_notice(stage)
    assert "text/rfc822-headers" == notice.parts[2].get_content_type()
    assert "Last-Attempt-Date" not in notice.fields[1]


async def test_envid_and_orcpt_are_given_back(stage: Stage) -> None:
    """As the client gave them; programs look for what they know (RFC 3461 §6.3)."""
    stage.provider("ses", only(Verdict.PERM_RCPT, SAID))
    stage.route("ses")
    async with stage.running():
        await stage.submit(asking(BOB, Notify.FAILURE, orcpt="rfc822;bob+list@example.com"), envid="QQ 314159")
        await stage.events.wait("removed", 2)
    notice = await the_notice(stage)
    message, bob = notice.fields
    assert ("QQ 314159", "rfc822; bob+list@example.com", f"rfc822; {BOB}") == (
        message["Original-Envelope-Id"],
        bob["Original-Recipient"],
        bob["Final-Recipient"],
    )
    assert {"bob+list@example.com"} == notice.permanent


# Nobody to tell.


@pytest.mark.parametrize("to", ["sender", "postmaster"])
async def test_a_null_sender_is_told_nothing(stage: Stage, to: Any) -> None:
    """Nor is anybody else in its place."""
    stage.settings = replace(stage.settings, bounce_to=to, postmaster=POSTMASTER)
    stage.provider("ses", only(Verdict.PERM_MSG))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB, asking(CAROL, Notify.SUCCESS), sender="")
        await stage.events.wait("removed")
    assert ([], []) == (await notices(stage), list(await stage.real.untold()))


async def test_a_notice_of_ours_that_comes_back_in_is_never_bounced(stage: Stage) -> None:
    """By SMTP, from a forwarder that gave it a sender; other automatic mail is bounced as any."""
    stage.provider("ses", only(Verdict.PERM_RCPT, SAID))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
        notice = await the_notice(stage)
        data = await (await stage.real.message(notice.entry.queue_id)).read()
        for sender in ("", "mailer-daemon@relay.test"):
            head = data[: data.index(b"\r\n\r\n") + 2]
            incoming = stage.real.incoming(stage.clock())
            incoming.write(data)
            await incoming.commit(
                arrived=stage.clock(),
                client=notice.entry.client,
                envelope=replace(notice.entry.envelope, reverse_path=sender),
                facts=notice.entry.facts,
                header=head,
                message_id="",
                edits=(),
            )
            await stage.events.wait("removed", queue_id=incoming.queue_id)
    assert 1 == len(await notices(stage))


# Double bounces.


async def test_a_bounce_that_fails_is_told_to_the_postmaster_once(stage: Stage) -> None:
    """With the whole bounce in it; when that fails as well, the log alone knows."""
    stage.settings = replace(stage.settings, postmaster=POSTMASTER)
    stage.provider("ses", always(Verdict.PERM_RCPT, reply=SAID))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 3)
    bounce, second = await notices(stage)
    assert ([SENDER, POSTMASTER], {BOB}) == ([bounce.to, second.to], bounce.permanent)
    assert f"rfc822; {SENDER}" == second.fields[1]["Final-Recipient"]
    assert "Postmaster notice: undeliverable bounce" == second.parsed["Subject"]
    assert "A notice of this relay could not be delivered to this recipient: <app@example.com>" in second.words
    assert ("message/rfc822", True) == (second.parts[2].get_content_type(), BOB in second.parts[2].as_string())
    told, silent = stage.events.found("double_bounce")
    assert (bounce.entry.queue_id, second.entry.queue_id, [SENDER], SAID) == tuple(
        told[name] for name in ("queue_id", "notice_id", "recipients", "reply")
    )
    assert (second.entry.queue_id, "", [POSTMASTER]) == tuple(silent[name] for name in ("queue_id", "notice_id", "recipients"))
    assert [] == list(await stage.real.untold())


async def test_without_a_postmaster_a_bounce_that_fails_ends_in_the_log(stage: Stage) -> None:
    """One line; nobody is told."""
    stage.provider("ses", always(Verdict.PERM_RCPT, reply=SAID))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
    bounce = await the_notice(stage)
    assert [(bounce.entry.queue_id, "")] == [(line["queue_id"], line["notice_id"]) for line in stage.events.found("double_bounce")]


async def test_a_bounce_that_cannot_be_carried_is_a_double_bounce(stage: Stage) -> None:
    """The only provider of the route cannot take it."""

    class NoBounces(FakeTransport):
        async def prepare(self, job: Job) -> Sequence[Job]:
            self.refusal = "mail without a sender" if job.bounce else ""
            return await super().prepare(job)

    stage.transports["api"] = NoBounces("api", only(Verdict.PERM_RCPT), carries_reports=False)
    stage.route("api")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
    [line] = stage.events.found("double_bounce")
    assert "no provider of the route can carry this message: api: mail without a sender" == line["reply"]


async def test_a_double_bounce_whose_postmaster_has_left_ends_in_the_log(stage: Stage) -> None:
    """A crash came before the notice, and the new configuration names none."""
    stage.provider("ses", always(Verdict.PERM_RCPT, reply=SAID))
    stage.route("ses")
    bounce = await stage.submit(SENDER, sender="", bounce=True)
    await stage.real.claim(stage.clock(), 10, 600)
    number = await stage.real.begin(bounce, [SENDER], "ses", "default", stage.clock())
    await stage.real.record(bounce, number, {SENDER: Recorded(outcome(Verdict.PERM_RCPT, SAID), State.FAILED)}, "ses", "default", START)
    async with stage.running():
        await stage.events.wait("double_bounce", queue_id=bounce)
        await stage.events.wait("removed", queue_id=bounce)
    assert [] == list(await stage.real.untold())


# The way they leave.


async def test_on_a_route_of_apis_a_notice_is_plain_text(stage: Stage) -> None:
    """An API that would take a report apart gets a text that people and programs can read."""
    stage.settings = replace(stage.settings, delay_warning=HOUR)

    def script(job: Job, address: str) -> Answer:
        if job.bounce:
            return outcome(Verdict.OK)
        return outcome(Verdict.PERM_RCPT, SAID) if address == BOB else outcome(Verdict.RETRY, "450 4.2.0 later")

    stage.provider("api", script, carries_reports=False)
    stage.route("api")
    async with stage.running():
        await stage.submit(BOB, CAROL)
        await stage.events.wait("removed")
        stage.pass_time(HOUR + 60)
        await stage.events.wait("removed", 2)
    bounce, warning = await notices(stage)
    assert ("text/plain", {BOB}, set()) == (bounce.parsed.get_content_type(), bounce.permanent, bounce.temporary)
    assert ("text/plain", {CAROL}, set()) == (warning.parsed.get_content_type(), warning.temporary, warning.permanent)
    assert "The header of the message: From: app@example.com" in bounce.words


CLINIC = Match(from_=("*@clinic.example.com",))


@pytest.mark.parametrize("what", ["failure", "delay", "success", "double bounce"])
async def test_a_notice_leaves_by_the_route_of_its_message_and_by_no_other(stage: Stage, what: str) -> None:
    """What must not leave by another door does not, in whatever notice its header block lies."""
    stage.settings = replace(stage.settings, delay_warning=HOUR, postmaster=POSTMASTER)
    verdict = {"delay": Verdict.RETRY, "success": Verdict.OK}.get(what, Verdict.PERM_RCPT)
    paubox = stage.provider("paubox", only(verdict) if what != "double bounce" else refusing(BOB, "dr@clinic.example.com"))
    other = stage.provider("other")
    stage.route("paubox", name="patients", match=CLINIC)
    stage.route("other")
    async with stage.running():
        await stage.submit(asking(BOB, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY), sender="dr@clinic.example.com")
        await stage.events.wait("attempt")
        if what == "delay":
            stage.pass_time(HOUR + 60)
        await stage.events.wait("removed", {"double bounce": 3, "delay": 1}.get(what, 2))
    assert [] == other.attempts
    assert {("paubox",)} == {notice.entry.via for notice in await notices(stage)}
    assert paubox.attempts[-1].bounce


@pytest.mark.parametrize("to", ["dr@clinic.example.com", POSTMASTER])
@pytest.mark.parametrize("stored", ["paubox", "other"])
async def test_a_notice_leaves_by_its_route_as_it_is_configured_now(stage: Stage, to: str, stored: str) -> None:
    """Its providers got another name, or were taken out of the route: never as mail of nobody, nor as mail of who reads it."""
    paubox, other = stage.provider("paubox-2"), stage.provider("other")
    stage.route("paubox-2", name="patients", match=CLINIC)
    stage.route("other")
    async with stage.running():
        await stage.submit(to, sender="", via=(stored,), bounce=True, route="patients")
        await stage.events.wait("removed")
    assert ([(to,)], []) == (paubox.seen, other.seen)
    assert b'relay_recipients_total{provider="paubox-2",route="patients",status="sent"} 1.0' in stage.metrics.render()[0]


@pytest.mark.parametrize("via", [("paubox",), ()])
async def test_a_notice_whose_route_and_providers_are_gone_is_held(stage: Stage, via: tuple[str, ...]) -> None:
    """Nobody can say by which door it may leave but an admin, and whom he names it goes to."""
    other = stage.provider("other")
    stage.route("other")
    async with stage.running():
        queue_id = await stage.submit(POSTMASTER, sender="", via=via, bounce=True, route="patients")
        await stage.events.wait("held", queue_id=queue_id)
        assert [] == other.attempts
        await stage.real.reroute(Filter(queue_id=queue_id), ("other",), stage.clock(), False)
        await stage.real.release(Filter(queue_id=queue_id), stage.clock())
        await stage.events.wait("removed", queue_id=queue_id)
    assert [(POSTMASTER,)] == other.seen


async def test_an_admin_may_reroute_a_notice(stage: Stage) -> None:
    """Then its route counts no more."""
    stage.provider("paubox", always(Verdict.RETRY))
    other = stage.provider("other")
    stage.route("paubox", name="patients", match=CLINIC)
    stage.route("other")
    async with stage.running():
        queue_id = await stage.submit(POSTMASTER, sender="", via=("paubox",), bounce=True, route="patients")
        await stage.events.wait("attempt", provider="paubox")
        await stage.real.reroute(Filter(queue_id=queue_id), ("other",), stage.clock(), False)
        await stage.events.wait("removed", queue_id=queue_id)
    assert [(POSTMASTER,)] == other.seen


async def test_a_notice_of_a_route_that_got_another_name_leaves_by_the_providers_it_was_stored_with(stage: Stage) -> None:
    """They are still configured."""
    paubox = stage.provider("paubox")
    stage.provider("other")
    stage.route("paubox", name="clinic", match=CLINIC)
    stage.route("other")
    async with stage.running():
        await stage.submit(POSTMASTER, sender="", via=("paubox",), bounce=True, route="patients")
        await stage.events.wait("removed")
    assert [(POSTMASTER,)] == paubox.seen


@pytest.mark.parametrize("what", ["bounce to the postmaster", "double bounce", "warning to the postmaster"])
async def test_after_a_reload_that_renames_its_provider_a_notice_to_the_postmaster_leaves_by_its_route(stage: Stage, what: str) -> None:
    """The postmaster is nobody whom the route knows."""
    stage.settings = replace(stage.settings, bounce_to="sender" if what == "double bounce" else "postmaster", postmaster=POSTMASTER)
    stage.settings = replace(stage.settings, delay_warning=HOUR)
    late = what == "warning to the postmaster"

    def script(job: Job, address: str) -> Answer:
        return outcome(Verdict.RETRY if late or address == POSTMASTER else Verdict.PERM_RCPT)

    stage.provider("paubox", script)
    other = stage.provider("other")
    stage.route("paubox", name="patients", match=CLINIC)
    stage.route("other")
    async with stage.running() as delivery:
        await stage.submit(BOB, sender="dr@clinic.example.com")
        await stage.events.wait("attempt")
        if late:
            stage.pass_time(HOUR + 60)
        await stage.events.wait("attempt", recipient=POSTMASTER)
        del stage.transports["paubox"]
        renamed = stage.provider("paubox-2")
        stage.routes[0] = replace(stage.routes[0], via=("paubox-2",))
        await delivery.configure(stage.transports, stage.routes, stage.settings)
        stage.pass_time(HOUR)
        await stage.events.wait("removed", 3 if what == "double bounce" else 2)
    assert [] == other.attempts
    assert (POSTMASTER,) in renamed.seen


@pytest.mark.parametrize("via", ["reports", "gone"])
async def test_bounce_via_carries_all_notices(stage: Stage, via: str) -> None:
    """One that is not configured any more leaves it to the route."""
    stage.settings = replace(stage.settings, bounce_via=via)
    api = stage.provider("api", only(Verdict.PERM_RCPT), carries_reports=False)
    reports = stage.provider("reports")
    stage.route("api")
    async with stage.running():
        await stage.submit(BOB)
        await stage.events.wait("removed", 2)
    notice = await the_notice(stage)
    if via == "reports":
        assert ("multipart/report", ("reports",), [(SENDER,)]) == (notice.parsed.get_content_type(), notice.entry.via, reports.seen)
    else:
        assert ("text/plain", ("api",), [(BOB,), (SENDER,)]) == (notice.parsed.get_content_type(), notice.entry.via, api.seen)


async def test_bounce_to_the_postmaster(stage: Stage) -> None:
    """Every notice goes there instead of the reverse-path, and says whose message it is about; when it fails, the log knows."""
    stage.settings = replace(stage.settings, bounce_to="postmaster", postmaster=POSTMASTER, delay_warning=HOUR)
    answers = {BOB: Verdict.PERM_RCPT, CAROL: Verdict.RETRY, DAVE: Verdict.OK, POSTMASTER: Verdict.OK}
    stage.provider("ses", lambda job, address: outcome(answers[address]))
    stage.route("ses")
    async with stage.running():
        await stage.submit(BOB, CAROL, asking(DAVE, Notify.SUCCESS))
        await stage.events.wait("removed")
        answers[POSTMASTER] = Verdict.PERM_RCPT
        stage.pass_time(HOUR + 60)
        await stage.events.wait("removed", 2)
    mixed, warning = await notices(stage)
    assert [POSTMASTER, POSTMASTER] == [mixed.to, warning.to]
    assert "Postmaster notice: undelivered mail" == mixed.parsed["Subject"]
    assert "The message from <app@example.com> could not be delivered" in mixed.words
    assert [POSTMASTER] == [line["sender"] for line in stage.events.found("delay_told")]
    assert [(warning.entry.queue_id, "")] == [(line["queue_id"], line["notice_id"]) for line in stage.events.found("double_bounce")]


async def test_recipients_with_mixed_outcomes(stage: Stage) -> None:
    """What ends together is told together, each by its own Action; what is deferred is told when its time has come."""
    stage.settings = replace(stage.settings, delay_warning=HOUR)
    answers = {BOB: Verdict.PERM_RCPT, CAROL: Verdict.RETRY, DAVE: Verdict.OK, SENDER: Verdict.OK}
    stage.provider("ses", lambda job, address: outcome(answers[address]))
    stage.route("ses")
    everything = (Notify.FAILURE, Notify.SUCCESS, Notify.DELAY)
    async with stage.running():
        queue_id = await stage.submit(*(asking(address, *everything) for address in (BOB, CAROL, DAVE)), Recipient("x@example.net"), via=())
        answers["x@example.net"] = Verdict.OK
        await stage.events.wait("removed")
        stage.pass_time(HOUR + 60)
        await stage.events.wait("removed", 2)
        answers[CAROL] = Verdict.OK
        stage.pass_time(HOUR)
        await stage.events.wait("removed", queue_id=queue_id)
        await stage.events.wait("removed", 4)
    first, warning, last = await notices(stage)
    assert {BOB: "failed", DAVE: "relayed"} == {block["Final-Recipient"][8:]: block["Action"] for block in first.fields[1:]}
    assert ({BOB}, {CAROL}) == (first.permanent, warning.temporary)
    assert {CAROL: "relayed"} == {block["Final-Recipient"][8:]: block["Action"] for block in last.fields[1:]}
    assert [1, 1, 2] == [len(stage.events.found(event)) for event in ("bounced_to", "delay_told", "success_told")]


# Crashes.


async def test_a_crash_while_an_admin_gives_up_mail(stage: Stage) -> None:
    """Who failed is told at the next start, once; who wants no notice has none, and neither has what has no sender."""
    stage.provider("ses")
    stage.route("ses")
    await stage.submit(Recipient(BOB), asking(CAROL, Notify.NEVER))
    await stage.submit(BOB, sender="")
    given_up = Outcome(Verdict.PERM_MSG, "5.0.0", "given up by an admin", "relay", own=True)
    async for _ in stage.real.each("bounce", Filter(), stage.clock(), outcome=given_up):
        pass
    for _ in range(2):
        await stage.real.close()
        await stage.open()
        async with stage.running():
            await stage.events.wait("removed", 3)
    [notice] = await notices(stage)
    assert {BOB} == notice.permanent
    assert [] == list(await stage.real.untold())


async def test_a_crash_between_the_record_and_the_notice(stage: Stage) -> None:
    """Failure and success are told at the next start, once, by their routes."""
    stage.provider("ses")
    stage.provider("other")
    stage.route("other", name="carol", match=Match(to=(CAROL,)))
    stage.route("ses")
    everyone = (asking(BOB, Notify.SUCCESS), Recipient(CAROL), asking(DAVE, Notify.FAILURE))
    queue_id = await stage.submit(*everyone)
    await stage.real.claim(stage.clock(), 10, 600)
    number = await stage.real.begin(queue_id, [BOB, CAROL, DAVE], "ses", "default", stage.clock())
    ends = {
        BOB: Recorded(outcome(Verdict.OK, "250 ok"), State.RELAYED),
        CAROL: Recorded(outcome(Verdict.PERM_RCPT, SAID), State.FAILED),
        DAVE: Recorded(outcome(Verdict.OK, "250 ok"), State.RELAYED),
    }
    await stage.real.record(queue_id, number, ends, "ses", "default", stage.clock())
    assert not await stage.real.finish(queue_id, stage.clock(), keep_body=True)
    for _ in range(2):
        await stage.real.close()
        await stage.open()
        async with stage.running():
            await stage.events.wait("removed", 3)
    by_via = {notice.entry.via: notice for notice in await notices(stage)}
    assert {("ses",), ("other",)} == by_via.keys()
    assert ("relayed", {CAROL}) == (by_via["ses",].fields[1]["Action"], by_via["other",].permanent)
    assert 2 == len(await notices(stage))


async def test_an_attempt_cut_off_when_the_time_is_over_is_bounced(stage: Stage) -> None:
    """A mistake of ours in the last attempt, or a crash in it: nobody knows the outcome, and the sender hears just that, once."""
    stage.settings = replace(stage.settings, expire=100.0)
    stage.provider("ses")
    stage.route("ses")
    crashed = await stage.submit(CAROL)
    await stage.real.begin(crashed, [CAROL], "ses", "default", stage.clock())
    await stage.real.close()
    await stage.open()
    stage.clock.now += 100
    failing = await stage.submit(BOB)
    async with stage.running():
        await stage.events.wait("bounced_to", queue_id=crashed)
        await stage.events.wait("attempt", recipient=BOB)
    stage.spool.faults["record"] = [ValueError("a bug of ours")]
    late = await stage.submit(DAVE)
    stage.clock.now += 100
    async with stage.running():
        await stage.events.wait("bounced_to", queue_id=late)
        await stage.events.wait("removed", queue_id=late)
    assert State.RELAYED == (await stage.state(failing, BOB)).state
    found = await notices(stage)
    assert [{CAROL}, {DAVE}] == [notice.permanent for notice in found]
    assert all("so it may have been delivered" in notice.words for notice in found)
    assert [] == list(await stage.real.untold())


async def test_what_fails_while_its_warning_is_stored_is_bounced_all_the_same(stage: Stage) -> None:
    """The mark of the warning is not the mark of the bounce, also when a crash comes between the two."""
    stage.provider("ses")
    stage.route("ses")
    queue_id = await stage.submit(BOB)
    await stage.real.claim(stage.clock(), 10, 600)
    number = await stage.real.begin(queue_id, [BOB], "ses", "default", stage.clock())
    await stage.real.record(queue_id, number, {BOB: Recorded(outcome(Verdict.PERM_RCPT), State.FAILED)}, "ses", "default", stage.clock())
    await stage.submit(SENDER, sender="", bounce=True, answers=queue_id, told=[BOB], warns=True)
    assert [queue_id] == list(await stage.real.untold())
