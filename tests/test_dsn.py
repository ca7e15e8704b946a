"""Bounces: golden messages, parsed back with the standard library, and hostile input that stays inside its place."""

from __future__ import annotations

from dataclasses import replace
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import dsn
from relay.model import Client, Edit, EditKind, Entry, Envelope, Facts, Notify, Outcome, Recipient, RecipientState, State, Verdict

BOUNCES = Path(__file__).parent / "data" / "bounces"
ARRIVED = 1795200000.0  # 2026-11-20 18:40:00 UTC
NOW = ARRIVED + 5 * 86400 + 90

A = Recipient("a@example.net", orcpt="rfc822;a+tag@example.net")
B = Recipient('"b b"@example.org')
HEADER = (
    b"From: App <app@example.com>\r\nTo: a@example.net, b@example.org\r\nSubject: =?utf-8?q?Caf=C3=A9?= report\r\n"
    b"Bcc: hidden@example.com\r\nX-PM-Tag: secret\r\nMessage-ID: <abc@web1>\r\n"
)
RECEIVED = "Received: from app (localhost [127.0.0.1])\r\n\tby relay.example.com (relay) with ESMTP id 687E7641C64007;\r\n\tx\r\n"
EDITS = (Edit(EditKind.PREPEND, RECEIVED), Edit(EditKind.REMOVE, "bcc"), Edit(EditKind.REMOVE, "x-pm-tag"))

REFUSED = Outcome(
    Verdict.PERM_RCPT,
    "5.1.1",
    "550 5.1.1 <a@example.net>: Recipient address rejected: User unknown in virtual mailbox table; see https://example.net/help",
    "mail.example.net[192.0.2.1]:587",
)
API = Outcome(Verdict.PERM_RCPT, "5.1.1", "422 406 InactiveRecipient: …inactive", "api.postmarkapp.com[192.0.2.9]:443")
PAUSED = Outcome(
    Verdict.PAUSE, "4.7.8", "535 5.7.8 authentication failed", "smtp.example.net[192.0.2.2]:587", mend="mend the password of smarthost"
)
LOST = Outcome(Verdict.UNKNOWN, "4.4.2", "no answer after the message was sent", "mail.example.net[192.0.2.1]:587", own=True)
CANNOT = Outcome(Verdict.PERM_MSG, "5.6.3", "no provider can carry this message", "relay", own=True)


def entry(*recipients: Recipient, header: bytes = HEADER, attempts: int = 0, **envelope: str) -> Entry:
    """An accepted message to these recipients."""
    return Entry(
        queue_id="687E7641C64007",
        arrived=ARRIVED,
        client=Client("local", "127.0.0.1"),
        envelope=Envelope("app@example.com", recipients, **envelope),  # type: ignore[arg-type]
        facts=Facts(len(header), False, 80),
        header=header,
        message_id="<abc@web1>",
        edits=EDITS,
        recipients=tuple(RecipientState(recipient, State.FAILED, attempts=attempts) for recipient in recipients),
    )


def bounce(about: Entry, *failures: dsn.Failure, report: bool = True, now: float = NOW, hostname: str = "relay.example.com") -> bytes:
    """`dsn.bounce` with the rest fixed."""
    return dsn.bounce(
        entry=about,
        failures=failures,
        sender="mailer-daemon@example.com",
        hostname=hostname,
        bounce_id="687E7641C64008",
        now=now,
        report=report,
    )


def parse(data: bytes) -> EmailMessage:
    """The bounce as the standard library reads it, without a defect anywhere."""
    message = BytesParser(policy=policy.default).parsebytes(data)
    assert all(part.defects == [] for part in message.walk())
    return message


def check_wire(data: bytes) -> None:
    """7-bit, CRLF only, no NUL, no line over 998 octets."""
    assert data.isascii()
    assert b"\0" not in data
    lines = data.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 998


def statuses(message: EmailMessage) -> list[dict[str, str]]:
    """The field blocks of message/delivery-status."""
    blocks = cast(list[Message], message.get_payload())[1].get_payload()
    return [{name: " ".join(value.split()) for name, value in block.items()} for block in cast(list[Message], blocks)]


CASES: dict[str, tuple[Entry, tuple[dsn.Failure, ...]]] = {
    "refused": (entry(A, B, envid="order 66", ret="FULL"), (dsn.Failure(A, REFUSED),)),
    "expired": (
        entry(A, B, attempts=31),
        (dsn.Failure(A, PAUSED, expired=True), dsn.Failure(B, LOST, expired=True, maybe_relayed=True)),
    ),
    "cannot-carry": (
        entry(B),
        (dsn.Failure(B, CANNOT, reasons=("postmark: multipart/signed cannot be rebuilt", "smarthost: larger than 10 MB")),),
    ),
    "own-finding": (entry(A), (dsn.Failure(A, replace(CANNOT, reply="8-bit text in a signed part, and the next hop takes only 7-bit")),)),
}


@pytest.mark.parametrize("report", [True, False], ids=["report", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, report: bool) -> None:
    """The bounce is, byte for byte, the one in data/bounces."""
    about, failures = CASES[name]
    data = bounce(about, *failures, report=report)
    check_wire(data)
    parse(data)
    assert (BOUNCES / f"{name}-{'report' if report else 'plain'}.eml").read_bytes() == data


def test_a_report_has_the_three_parts_of_rfc_6522() -> None:
    """A part for people, one for programs, the original's header block as it left."""
    message = parse(bounce(*CASES["refused"][:1], *CASES["refused"][1]))
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    kinds = [part.get_content_type() for part in cast(list[Message], message.get_payload())]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    original = cast(list[EmailMessage], message.get_payload())[2].get_content()
    assert isinstance(original, bytes | str)
    text = original.decode() if isinstance(original, bytes) else original
    assert text.startswith("Received: from app")
    assert "Message-ID: <abc@web1>" in text
    assert "hidden@example.com" not in text
    assert "secret" not in text


def test_the_bounce_says_what_it_is() -> None:
    """To the sender, by a machine, and in the thread of the original."""
    message = parse(bounce(*CASES["refused"][:1], *CASES["refused"][1]))
    assert message["To"] == "app@example.com"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<687E7641C64008@relay.example.com>"
    assert message["In-Reply-To"] == "<abc@web1>"


def test_delivery_status_of_a_refusal() -> None:
    """The fields of RFC 3464 for a recipient that a mail server refused."""
    about, failures = CASES["refused"]
    message_fields, recipient_fields = statuses(parse(bounce(about, *failures)))
    assert message_fields == {
        "Original-Envelope-Id": "order 66",
        "Reporting-MTA": "dns; relay.example.com",
        "X-Relay-Queue-Id": "687E7641C64007",
        "Arrival-Date": "Fri, 20 Nov 2026 18:40:00 +0000",
    }
    assert recipient_fields == {
        "Original-Recipient": "rfc822; a+tag@example.net",
        "Final-Recipient": "rfc822; a@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mail.example.net",
        "Diagnostic-Code": f"smtp; {REFUSED.reply}",
        "Last-Attempt-Date": "Wed, 25 Nov 2026 18:41:30 +0000",
    }


def test_expired_is_4_4_7() -> None:
    """Whatever the last answer was, the reason is time."""
    about, failures = CASES["expired"]
    _, *recipients = statuses(parse(bounce(about, *failures)))
    assert [block["Status"] for block in recipients] == ["4.4.7", "4.4.7"]
    assert [block["Final-Recipient"] for block in recipients] == ["rfc822; a@example.net", 'rfc822; "b b"@example.org']


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (REFUSED, "smtp; 550 5.1.1"),
        (API, "X-Relay; 422 406"),
        (CANNOT, "X-Relay; no provider"),
        (replace(REFUSED, reply="connection refused"), "X-Relay; connection refused"),
    ],
)
def test_diagnostic_type_is_smtp_only_for_a_mail_server(outcome: Outcome, expected: str) -> None:
    """What an API or relay itself said is not called SMTP."""
    block = statuses(parse(bounce(entry(A), dsn.Failure(A, outcome))))[1]
    assert block["Diagnostic-Code"].startswith(expected)


@pytest.mark.parametrize(
    ("orcpt", "expected"),
    [
        ("", None),
        ("rfc822;", None),
        ("no type", None),
        ("r c;x", None),
        ("rfc822;a\r\nb@c", "rfc822; a b@c"),
        ("utf-8;ü\\+@x", "utf-8; \\x{FC}\\x{5C}\\x{2B}@x"),
        ("UTF-8;a b", "UTF-8; a\\x{20}b"),
        ("x400;/é/", "x400; /?/"),
    ],
)
def test_original_recipient(orcpt: str, expected: str | None) -> None:
    """Given back as the client gave it (RFC 3461 §4.2), UTF-8 in its escaped form (RFC 6533 §3)."""
    who = replace(A, orcpt=orcpt)
    assert statuses(parse(bounce(entry(who), dsn.Failure(who, REFUSED))))[1].get("Original-Recipient") == expected


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 seconds"), (61, "1 minute 1 second"), (5400, "1 hour 30 minutes"), (2 * 86400 + 5, "2 days 5 seconds")]
)
def test_expired_says_how_long(seconds: float, words: str) -> None:
    """In the two largest units."""
    data = bounce(entry(A, attempts=1), dsn.Failure(A, PAUSED, expired=True), now=ARRIVED + seconds, report=False)
    assert f"Not delivered within {words} (1 attempt)." in parse(data).get_content()


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        (frozenset[Notify](), True),
        (frozenset({Notify.FAILURE, Notify.DELAY}), True),
        (frozenset({Notify.NEVER}), False),
        (frozenset({Notify.SUCCESS, Notify.DELAY}), False),
    ],
)
def test_notify_decides(notify: frozenset[Notify], expected: bool) -> None:
    """A sender who did not ask about failures hears of none (RFC 3461 §4.1)."""
    assert dsn.wanted(entry(A), replace(A, notify=notify)) is expected


def test_nothing_bounces_to_nobody() -> None:
    """A null reverse-path and a bounce of ours never cause a bounce."""
    assert not dsn.wanted(replace(entry(A), envelope=Envelope("", (A,))), A)
    assert not dsn.wanted(replace(entry(A), bounce=True), A)


def test_a_huge_header_block_is_cut_at_a_line() -> None:
    """At most 64 KiB of it come back."""
    block = b"X-Filler: " + b"\r\n y".join([b"x" * 70] * 2000) + b"\r\n"
    data = bounce(entry(A, header=block), dsn.Failure(A, REFUSED))
    check_wire(data)
    original = cast(list[EmailMessage], parse(data).get_payload())[2].get_content()
    assert 60_000 < len(original) <= 64 * 1024


def test_a_header_block_of_one_huge_line_is_left_out() -> None:
    """There is no line to cut at."""
    data = bounce(entry(A, header=b"X: " + b"x" * 70_000 + b"\r\n"), dsn.Failure(A, REFUSED))
    check_wire(data)


def test_a_boundary_in_the_header_block_is_avoided() -> None:
    """A client that guesses the next queue id cannot end our part."""
    block = b"Subject: x\r\n --=_687E7641C64008--\r\n --=_687E7641C64008.1--\r\n"
    message = parse(bounce(entry(A, header=block), dsn.Failure(A, REFUSED)))
    assert message.get_boundary() == "=_687E7641C64008.2"
    assert len(cast(list[Message], message.get_payload())) == 3


def test_odd_message_ids_and_addresses_stay_out_of_fields() -> None:
    """A Message-ID that is none is no reference; an address that fits no field becomes an empty group."""
    about = replace(entry(A), message_id="<a\r\nBcc: x@y>", envelope=Envelope("é\r\nBcc: x@y", (A,)))
    message = parse(bounce(about, dsn.Failure(A, REFUSED)))
    assert message["In-Reply-To"] is None
    assert message["To"] == "Sender:;"
    assert message["Bcc"] is None


PIECES = ["\r\n", "\n", "\r", "\0", " ", "\t", ";", "--", ".", "é", "\ud800", "\u2028", "x" * 1100, "\r\n\r\n"]
PIECES += ["--=_687E7641C64008", "Bcc: x@evil.example"]
HOSTILE = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES)).map("".join))
HEADERS = st.one_of(HOSTILE.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=80)).map(b"Subject: ".__add__)
TOP = {"From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "MIME-Version"}
CONTENT = {"Content-Type", "Content-Transfer-Encoding", "Content-Description"}
FIELDS = {
    *("Original-Envelope-Id", "Reporting-MTA", "X-Relay-Queue-Id", "Arrival-Date", "Original-Recipient", "Final-Recipient"),
    *("Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date"),
}


@given(
    texts=st.tuples(*[HOSTILE] * 7),
    header=HEADERS,
    own=st.booleans(),
    expired=st.booleans(),
    maybe=st.booleans(),
    report=st.booleans(),
)
def test_hostile_text_stays_in_its_place(
    texts: tuple[str, ...], header: bytes, own: bool, expired: bool, maybe: bool, report: bool
) -> None:
    """Whatever was said, no field and no part is added, and the octets are fit for any server."""
    reply, remote, mend, address, orcpt, envid, reason = texts
    who = Recipient(address, orcpt=f"rfc822;{orcpt}")
    outcome = Outcome(Verdict.RETRY, "4.0.0", reply or "x", remote or "x", own=own, mend=mend)
    about = entry(who, header=header, envid=envid)
    failure = dsn.Failure(who, outcome, reasons=(reason,) if reason else (), expired=expired, maybe_relayed=maybe)
    data = bounce(about, failure, report=report)
    check_wire(data)
    message = parse(data)
    assert {name for name in message.keys()} <= TOP | CONTENT  # noqa: SIM118
    parts = cast(list[Message], message.get_payload()) if report else []
    assert len(parts) == (3 if report else 0)
    assert {name for part in parts for name in part.keys()} <= CONTENT  # noqa: SIM118
    if report:
        blocks = statuses(message)
        assert len(blocks) == 2
        assert {name for block in blocks for name in block} <= FIELDS
