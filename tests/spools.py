"""Builders for spool tests: messages, outcomes, and a spool that can be closed, killed and opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.model import Client, Edit, EditKind, Entry, Envelope, Facts, Notify, Outcome, Recipient, State, Verdict
from relay.spool.base import Recorded, Spool
from relay.spool.sqlite import SqliteSpool

NOW = 1_790_000_000.0
HEADER = b"From: App <app@example.com>\r\nTo: a@example.net\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@app>\r\n"
BODY = b"\r\nHello,\r\nworld.\r\n"
CLIENT = Client("local", "127.0.0.1", 40000, "localhost", "app1", "ESMTP", "")
EDITS = (Edit(EditKind.PREPEND, "Received: from app1 (localhost [127.0.0.1])\r\n\tby mx; now\r\n"), Edit(EditKind.REMOVE, "bcc"))


class Clock:
    """A clock that moves only when told."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def open_sqlite(directory: Path, clock: Clock) -> SqliteSpool:
    """The SQLite spool in `directory`."""
    spool = SqliteSpool(directory / "spool", clock=clock)
    await spool.open()
    return spool


def envelope(*recipients: str | Recipient, sender: str = "app@example.com") -> Envelope:
    """An envelope to these recipients."""
    return Envelope(sender, tuple(r if isinstance(r, Recipient) else Recipient(r) for r in recipients or ("a@example.net",)))


RICH = Envelope(
    "",
    (
        Recipient("b@example.net", frozenset({Notify.FAILURE, Notify.DELAY}), "rfc822;B@example.net"),
        Recipient("a@Example.NET", frozenset({Notify.NEVER})),
        Recipient("ü@例え.jp"),
    ),
    ret="HDRS",
    envid="id 1",
    smtputf8=True,
)


async def accept(
    spool: Spool,
    *recipients: str | Recipient,
    now: float = NOW,
    sender: str = "app@example.com",
    header: bytes = HEADER,
    body: bytes = BODY,
    message_id: str = "<1@app>",
    via: Sequence[str] = (),
    route: str = "",
    answers: str = "",
    told: Sequence[str] = (),
    warns: bool = False,
    mail: Envelope | None = None,
) -> Entry:
    """Commit one message."""
    incoming = spool.incoming(now)
    whole = header + body
    for start in range(0, len(whole), 64 * 1024):
        incoming.write(whole[start : start + 64 * 1024])
        await incoming.drain()
    return await incoming.commit(
        arrived=now,
        client=CLIENT,
        envelope=mail or envelope(*recipients, sender=sender),
        facts=Facts(len(whole), eight_bit=False, longest_line=70),
        header=header,
        message_id=message_id,
        edits=EDITS,
        via=via,
        bounce=bool(answers),
        route=route,
        answers=answers,
        told=told,
        warns=warns,
    )


def outcome(verdict: Verdict = Verdict.OK, reply: str = "250 2.0.0 Ok", remote_id: str = "") -> Outcome:
    """An outcome of this class."""
    status = {"OK": "2.0.0", "PERM-RCPT": "5.1.1", "PERM-MSG": "5.6.0"}.get(verdict.value, "4.4.2")
    identity = "domain=example.com" if verdict is Verdict.CONFIG else ""
    return Outcome(verdict, status, reply, "mx.example.net[192.0.2.1]:25", remote_id=remote_id, identity=identity)


RELAYED = Recorded(outcome(remote_id="r-1"), State.RELAYED)
FAILED = Recorded(outcome(Verdict.PERM_RCPT, "550 5.1.1 no such user"), State.FAILED)


def deferred(until: float, verdict: Verdict = Verdict.RETRY, waits: str = "", since: float = 0.0) -> Recorded:
    """A recipient that is tried again at `until`."""
    return Recorded(outcome(verdict, "451 4.4.2 later"), State.QUEUED, next_attempt=until, waits=waits, since=since)


async def attempt(spool: Spool, queue_id: str, outcomes: Mapping[str, Recorded], now: float = NOW, provider: str = "smarthost") -> bool:
    """Begin and record one attempt."""
    number = await spool.begin(queue_id, tuple(outcomes), provider, "default", now)
    return await spool.record(queue_id, number, outcomes, provider, "default", now)


def leased(entry: Entry, now: float) -> tuple[str, ...]:
    """The recipients that a claim at `now` leased, as its contract defines them."""
    return tuple(r.recipient.address for r in entry.recipients if r.state is State.QUEUED and r.next_attempt <= now)
