"""Alerts: what the postmaster reads, how an alert is stored and leaves, and that there are never many of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.alerts import SPACING, Alert, Alerts, AlertSettings, exhausted, is_alert, letter, paused, resumed, stepped_back
from relay.errors import SpoolError
from relay.model import Entry
from relay.routing import Match, Route
from relay.spool.base import Filter
from relay.spool.sqlite import SqliteSpool
from tests.e2e.processes import host, send
from tests.fakes import RecordingEvents
from tests.servers import SmtpServer
from tests.spools import NOW, Clock, accept, open_sqlite

POSTMASTER = "postmaster@example.com"
SETTINGS = AlertSettings(POSTMASTER, "mailer-daemon@mx.example.com", "mx.example.com")
ROUTES = (Route("outside", ("b",), Match(to=("*@example.net",))), Route("inside", ("a", "b"), Match(to=("*@example.com",))))
PAUSED = paused("a", "", "403 AccountSuspended", "ask a's support", NOW - 60, 214)
BACK = resumed("a", "", NOW - 60, 214)


def read(data: bytes) -> EmailMessage:
    """A message as Python's library reads it."""
    found = message_from_bytes(data, policy=policy.SMTP)
    assert isinstance(found, EmailMessage)
    assert [] == found.defects
    return found


def words(data: bytes) -> str:
    """The text of an alert, with one space between words."""
    return " ".join(read(data).get_content().split())


class Desk:
    """Alerts over a real spool, with a clock that moves only when told."""

    def __init__(self, spool: SqliteSpool, clock: Clock) -> None:
        self.spool = spool
        self.clock = clock
        self.events = RecordingEvents()
        self.alerts = self.made()

    def made(self, settings: AlertSettings = SETTINGS, routes: Sequence[Route] = ROUTES) -> Alerts:
        return Alerts(spool=self.spool, settings=settings, routes=routes, events=self.events, clock=self.clock)

    async def stored(self) -> list[Entry]:
        """What is in the queue."""
        return [entry for one in await self.spool.find(Filter(), 100) if (entry := await self.spool.entry(one.queue_id))]

    async def letters(self) -> list[EmailMessage]:
        """The alerts in the queue."""
        return [read(await (await self.spool.message(entry.queue_id)).read()) for entry in await self.stored()]

    async def subjects(self) -> list[str]:
        """What they are about."""
        return [str(one["Subject"]).removeprefix("Postmaster notice: ") for one in await self.letters()]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Alerts that can be asked for, in an empty spool."""
    clock = Clock()
    spool = await open_sqlite(tmp_path, clock)
    desk = Desk(spool, clock)
    yield desk
    await desk.alerts.close()
    await spool.close()


async def test_an_alert_is_an_entry_of_our_own(desk: Desk) -> None:
    """Null reverse-path, marked as a bounce, by the route that takes mail for the postmaster, logged once."""
    await desk.alerts.changed(PAUSED)
    [entry] = await desk.stored()
    assert ("", [POSTMASTER], True) == (entry.envelope.reverse_path, [one.address for one in entry.envelope.recipients], entry.bounce)
    assert (("a", "b"), "inside") == (entry.via, entry.recipients[0].route)
    assert is_alert(entry)
    assert [entry.queue_id] == [one.queue_id for one in await desk.spool.claim(NOW, 10, 60)]  # it is due at once
    [line] = desk.events.lines
    assert {"queue_id": entry.queue_id, "event": "alerted", "recipient": POSTMASTER, "provider": "a"} == line


async def test_a_provider_for_all_notices_carries_alerts_too(desk: Desk) -> None:
    """As bounce.via says."""
    await desk.made(replace(SETTINGS, via="b")).changed(PAUSED)
    assert [("b",)] == [entry.via for entry in await desk.stored()]


async def test_the_letter(desk: Desk) -> None:
    """What, since when, how many wait, what was said, what helps, and what to type."""
    await desk.alerts.changed(PAUSED)
    [found] = await desk.letters()
    assert ("Mail Delivery System <mailer-daemon@mx.example.com>", POSTMASTER) == (found["From"], found["To"])
    assert ("Postmaster notice: provider a is paused", "auto-generated") == (found["Subject"], found["Auto-Submitted"])
    [entry] = await desk.stored()
    assert entry.message_id == found["Message-ID"] == f"<alert-{entry.queue_id}@mx.example.com>"
    assert found.get_content().replace("\r\n", "\n") == (
        "This is the mail relay at mx.example.com.\n\n"
        "Provider a is not used since Mon, 21 Sep 2026 14:12:20 +0000. 214\n"
        "recipients wait for it; other mail goes by another provider of its\nroute.\n\n"
        "Why:\n\n"
        "    403 AccountSuspended\n\n"
        "To mend it: ask a's support. One message that waits is tried every few\n"
        "minutes; when it goes, all go. To look, and to try now:\n\n"
        "    relay status\n    relay provider test a\n    relay queue retry\n"
    )


def test_the_document_shows_one() -> None:
    """docs/bounces.md has an alert as it is read."""
    mend = "check the token (36 characters): server tokens are under Servers > API Tokens, an account token does not work here"
    alert = paused("postmark", "", "401 10 BadToken: Bad or missing API token.", mend, 1795197422.0, 214)
    found = read(letter(alert, replace(SETTINGS, hostname="relay.example.com"), "1", NOW))
    text = f"Subject: {found['Subject']}\n\n{found.get_content()}".replace("\r\n", "\n")
    assert text in (Path(__file__).parent.parent / "docs" / "bounces.md").read_text()


KINDS: list[tuple[Alert, str, str]] = [
    (BACK, "provider a is back", "Provider a is used again. It was not since Mon, 21 Sep 2026 14:12:20 +0000. 214 recipients wait for it"),
    (paused("a", "domain=x.example", "422", "", NOW, 1), "provider a is partly paused", "is not used for domain=x.example since"),
    (resumed("a", "domain=x.example", NOW, 0), "provider a is wholly back", "Provider a is used again for domain=x.example."),
    (exhausted("a", "daily", NOW, 1), "provider a has used up a quota", "room again at Mon, 21 Sep 2026 14:13:20 +0000. 1 recipient"),
    (exhausted("a", "monthly", None, 0), "provider a has used up a quota", "When it has room again is not known."),
    (stepped_back("bulk", "a refused 6 of 60", "a 60 %", "a 45 %"), "route bulk stepped back", "from a 60 % to a 45 %. It waits there"),
]  # fmt: skip


@pytest.mark.parametrize(("alert", "subject", "text"), KINDS)
def test_every_kind_has_its_words(alert: Alert, subject: str, text: str) -> None:
    """Subject and text of each."""
    data = letter(alert, SETTINGS, "1", NOW)
    assert f"Postmaster notice: {subject}" == read(data)["Subject"]
    assert text in words(data)
    assert all(command in words(data) for command in alert.commands)


def test_nothing_of_a_message_is_in_it() -> None:
    """Addresses that a provider quotes are masked, what it says is cut and printable."""
    said = "422 The From address bob@shop.example\r\nSubject: \x1b[2J is not confirmed. " + "x" * 5000
    found = words(letter(paused("a", "address=bob@shop.example", said, "ask bob@shop.example", NOW, 1), SETTINGS, "1", NOW))
    assert "bob" not in found
    assert "*@shop.example" in found
    assert "\x1b" not in found
    assert 1500 > len(found)


@given(st.text(max_size=600), st.text(max_size=60))
def test_whatever_is_said_stays_in_its_place(said: str, identity: str) -> None:
    """No text makes a field, or a line that a mail server refuses."""
    data = letter(paused("a", identity, said, said, NOW, 1), SETTINGS, "1", NOW)
    fields = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    assert fields == read(data).keys()
    assert data.isascii()
    assert 998 >= max(map(len, data.split(b"\r\n")))
    assert b"\n" not in data.replace(b"\r\n", b"")


async def test_at_most_one_of_a_kind_in_an_hour(desk: Desk) -> None:
    """Each kind and each provider for itself; the next one says how many were left out."""
    for _ in range(3):
        await desk.alerts.changed(PAUSED)
        await desk.alerts.changed(BACK)
    await desk.alerts.changed(replace(PAUSED, about="provider b"))
    assert ["provider a is paused", "provider a is back", "provider b is paused"] == await desk.subjects()
    desk.clock.now += SPACING
    await desk.alerts.changed(PAUSED)
    assert "4 changes of this kind were not told" in " ".join((await desk.letters())[-1].get_content().split())


async def test_how_it_stayed_is_told_when_the_hour_is_over(desk: Desk) -> None:
    """A provider that was paused again within the hour, and stayed so, is not forgotten; one that came back as told is not told twice."""
    desk.alerts = Alerts(spool=desk.spool, settings=SETTINGS, routes=ROUTES, events=desk.events, clock=desk.clock, spacing=0.05)
    for alert in (PAUSED, BACK, PAUSED, BACK):  # ends as it was told
        await desk.alerts.changed(alert)
    for about in ("provider b", "provider c"):
        for alert in (PAUSED, BACK, PAUSED):
            await desk.alerts.changed(replace(alert, about=about))
    desk.clock.now += 0.1
    await desk.events.wait("alerted", 8)
    assert ["provider b is paused", "provider c is paused"] == sorted((await desk.subjects())[-2:])
    assert "not told" not in (await desk.letters())[-1].get_content()


async def test_an_alert_causes_no_alert(desk: Desk) -> None:
    """What the attempt of an alert showed is in the log only; what that of a bounce showed is told."""
    await desk.alerts.changed(PAUSED)
    [alert] = await desk.stored()
    await desk.alerts.changed(replace(PAUSED, about="provider b"), cause=alert)
    assert 1 == len(await desk.stored())
    bounce = await accept(desk.spool, "x@example.com", sender="", answers=alert.queue_id)
    assert not is_alert(bounce)
    await desk.alerts.changed(replace(PAUSED, about="provider b"), cause=bounce)
    assert "provider b is paused" == (await desk.subjects())[-1]


async def test_nobody_to_tell(desk: Desk) -> None:
    """Without a postmaster, or with alerts off, nothing is stored; a reload changes that."""
    desk.alerts = desk.made(replace(SETTINGS, to=""))
    await desk.alerts.changed(PAUSED)
    assert [] == await desk.stored()
    desk.alerts.configure(SETTINGS, ROUTES)
    await desk.alerts.changed(PAUSED)
    assert ["provider a is paused"] == await desk.subjects()


async def test_no_way_to_the_postmaster(desk: Desk) -> None:
    """Said in the log, and nothing is left in the spool."""
    await desk.made(routes=ROUTES[:1]).changed(PAUSED)
    assert [] == await desk.stored()
    text = "warning: no alert on provider a: no route takes mail for postmaster@example.com; add a last route without match"
    assert [text] == desk.events.texts


async def test_a_spool_that_cannot_take_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, and the next one is not held back by it; an error of ours is told as one."""

    def refuse(now: float) -> None:
        raise error

    for error in (SpoolError("disk full"), ValueError("no")):
        with monkeypatch.context() as patch:
            patch.setattr(desk.spool, "incoming", refuse)
            await desk.alerts.changed(PAUSED)
        if isinstance(error, SpoolError):
            assert ["warning: no alert on provider a: disk full"] == desk.events.texts
            await desk.alerts.changed(PAUSED)
            assert "1 change of this kind was not told" in " ".join((await desk.letters())[0].get_content().split())
            desk.clock.now += SPACING
    assert "an alert on provider a" == desk.events.found("bug")[0]["text"]


async def test_a_clock_that_stepped_back(desk: Desk) -> None:
    """Does not silence alerts for as long as it stepped."""
    await desk.alerts.changed(PAUSED)
    desk.clock.now -= 10 * SPACING
    await desk.alerts.changed(PAUSED)
    assert 2 == len(await desk.stored())


async def test_closing_forgets_what_was_kept_back(desk: Desk) -> None:
    """No timer is left."""
    await desk.alerts.changed(PAUSED)
    await desk.alerts.changed(PAUSED)
    await desk.alerts.close()
    assert not [one for one in asyncio.all_tasks() if one is not asyncio.current_task() and "Alerts" in repr(one)]
    assert 1 == len(await desk.stored())


@pytest.mark.e2e
async def test_an_alert_arrives_by_the_other_provider(tmp_path: Path) -> None:
    """The daemon tells of a provider that is down by one that is up, once."""
    mail = b"From: app@example.com\r\nTo: a@example.net\r\nSubject: hello\r\n\r\nThe text.\r\n"
    async with SmtpServer({"mail": "530 5.7.0 no"}) as first, SmtpServer() as second, host(tmp_path) as here:
        ports = {"first": first.port, "second": second.port}
        pair = ", ".join(f"{name}: {{type: smtp, host: 127.0.0.1, port: {port}, tls: none}}" for name, port in ports.items())
        bounce = f"bounce: {{postmaster: {POSTMASTER}, alerts: true}}\n"
        here.configure(f"{{{pair}}}", f"routes: [{{name: default, via: [first, second]}}]\n{bounce}")
        daemon = await here.serve()
        port = await daemon.port()
        for number in range(3):
            await send(port, mail, [f"r{number}@example.net"])
        await daemon.line("postmaster alert on first")
        await here.drained()
    alerts = [one for one in second.mails if one.mail.startswith(b"<>")]
    assert [[f"<{POSTMASTER}>".encode()]] == [[rcpt.split()[0] for rcpt in one.rcpts] for one in alerts]
    assert "Postmaster notice: provider first is paused" == read(alerts[0].message)["Subject"]
    assert (4, 0) == (len(second.mails), len(first.mails))
