"""Notices: golden messages, parsed back with the standard library, and hostile input that stays inside its place."""

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
WAITS = Outcome(Verdict.RETRY, "4.7.8", "provider ses: 535 5.7.8 authentication failed", "relay", own=True, mend="mend the key of ses")
LATER = Outcome(Verdict.RETRY, "4.2.0", "450 4.2.0 greylisted, come back later", "mail.example.net[192.0.2.1]:587")
TAKEN = Outcome(Verdict.OK, "2.0.0", "250 2.0.0 Ok: queued as 4F1", "mail.example.net[192.0.2.1]:587")
C = Recipient("jürgen+x@bücher.example", orcpt="utf-8;jürgen+x@bücher.example")


def entry(*recipients: Recipient, header: bytes = HEADER, attempts: int = 0, **envelope: str | bool) -> Entry:
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


def notice(about: Entry, *reports: dsn.Report, report: bool = True, now: float = NOW, to: str = "", whole: bytes = b"") -> bytes:
    """`dsn.notice` with the rest fixed."""
    return dsn.notice(
        entry=about,
        reports=reports,
        to=to or about.envelope.reverse_path,
        sender="mailer-daemon@example.com",
        hostname="relay.example.com",
        notice_id="687E7641C64008",
        now=now,
        retry_until=ARRIVED + 5 * 86400,
        whole=whole,
        report=report,
    )


def parse(data: bytes) -> EmailMessage:
    """The notice as the standard library reads it, without a defect of its own (a returned message may have any)."""
    message = BytesParser(policy=policy.default).parsebytes(data)
    assert all(part.defects == [] for part in (message, *message.iter_parts()))
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


CASES: dict[str, tuple[Entry, tuple[dsn.Report, ...]]] = {
    "refused": (entry(A, B, envid="order 66", ret="FULL"), (dsn.Report(A, REFUSED, attempted=NOW - 1),)),
    "expired": (
        entry(A, B, attempts=31),
        (dsn.Report(A, PAUSED, expired=True), dsn.Report(B, LOST, expired=True, maybe_relayed=True)),
    ),
    "cannot-carry": (
        entry(B),
        (dsn.Report(B, CANNOT, reasons=("postmark: multipart/signed cannot be rebuilt", "smarthost: larger than 10 MB")),),
    ),
    "waited": (
        entry(A, B, attempts=0),
        (
            dsn.Report(A, WAITS, expired=True, waits_for=WAITS.reply),
            dsn.Report(B, replace(LATER, mend="mend the key of ses"), expired=True, waits_for=WAITS.reply, attempted=NOW - 3600),
        ),
    ),
    "delayed": (
        entry(A, B, attempts=3),
        (
            dsn.Report(A, LATER, dsn.Action.DELAYED, attempted=NOW - 60),
            dsn.Report(B, WAITS, dsn.Action.DELAYED, waits_for=WAITS.reply, maybe_relayed=True),
        ),
    ),
    "relayed": (entry(C, smtputf8=True), (dsn.Report(C, TAKEN, dsn.Action.RELAYED, attempted=NOW),)),
    "mixed": (
        entry(A, B, C),
        (dsn.Report(A, REFUSED), dsn.Report(B, TAKEN, dsn.Action.RELAYED), dsn.Report(C, LATER, dsn.Action.DELAYED)),
    ),
    "double-bounce": (
        replace(entry(A), bounce=True, envelope=Envelope("", (A,)), header=b"From: x\r\nSubject: Undelivered mail returned to sender\r\n"),
        (dsn.Report(A, REFUSED, attempted=NOW),),
    ),
    "own-finding": (entry(A), (dsn.Report(A, replace(CANNOT, reply="8-bit text in a signed part, and the next hop takes only 7-bit")),)),
}


@pytest.mark.parametrize("report", [True, False], ids=["report", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, report: bool) -> None:
    """The bounce is, byte for byte, the one in data/bounces."""
    about, failures = CASES[name]
    data = notice(about, *failures, report=report, to="postmaster@example.com" if about.bounce else "")
    check_wire(data)
    parse(data)
    assert (BOUNCES / f"{name}-{'report' if report else 'plain'}.eml").read_bytes() == data


def test_a_report_has_the_three_parts_of_rfc_6522() -> None:
    """A part for people, one for programs, the original's header block as it left."""
    message = parse(notice(*CASES["refused"][:1], *CASES["refused"][1]))
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
    message = parse(notice(*CASES["refused"][:1], *CASES["refused"][1]))
    assert message["To"] == "app@example.com"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<687E7641C64008@relay.example.com>"
    assert message["In-Reply-To"] == "<abc@web1>"


def test_delivery_status_of_a_refusal() -> None:
    """The fields of RFC 3464 for a recipient that a mail server refused."""
    about, failures = CASES["refused"]
    message_fields, recipient_fields = statuses(parse(notice(about, *failures)))
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
        "Last-Attempt-Date": "Wed, 25 Nov 2026 18:41:29 +0000",
    }


def test_delivery_status_of_a_delay() -> None:
    """Temporary, with the time until which it is tried; what relay waits for is no word of a mail server."""
    about, reports = CASES["delayed"]
    _, first, second = statuses(parse(notice(about, *reports)))
    assert ("delayed", "4.2.0", "smtp; 450 4.2.0 greylisted, come back later") == (
        first["Action"],
        first["Status"],
        first["Diagnostic-Code"],
    )
    assert "Wed, 25 Nov 2026 18:40:00 +0000" == first["Will-Retry-Until"]
    assert ("delayed", "4.7.8", f"X-Relay; {WAITS.reply}") == (second["Action"], second["Status"], second["Diagnostic-Code"])
    assert not {"Remote-MTA", "Last-Attempt-Date"} & second.keys()


def test_delivery_status_of_a_success() -> None:
    """Relayed, not delivered: that, the next system alone knows. A UTF-8 address has a type of its own (RFC 6533 §3)."""
    about, reports = CASES["relayed"]
    assert {
        "Original-Recipient": "utf-8; j\\x{FC}rgen\\x{2B}x@b\\x{FC}cher.example",
        "Final-Recipient": "utf-8; j\\x{FC}rgen\\x{2B}x@b\\x{FC}cher.example",
        "Action": "relayed",
        "Status": "2.0.0",
        "Remote-MTA": "dns; mail.example.net",
        "Last-Attempt-Date": "Wed, 25 Nov 2026 18:41:30 +0000",
    } == statuses(parse(notice(about, *reports)))[1]


@pytest.mark.parametrize(
    ("name", "to", "subject"),
    [
        ("refused", "", "Undelivered mail returned to sender"),
        ("delayed", "", "Delayed mail (still being retried)"),
        ("relayed", "", "Mail relayed (delivery report)"),
        ("mixed", "", "Undelivered mail returned to sender"),
        ("refused", "pm@example.com", "Postmaster notice: undelivered mail"),
        ("delayed", "pm@example.com", "Postmaster notice: delayed mail (still being retried)"),
        ("double-bounce", "pm@example.com", "Postmaster notice: undeliverable bounce"),
    ],
)
def test_the_subject_tells_the_worst(name: str, to: str, subject: str) -> None:
    """And whether a postmaster reads it."""
    about, reports = CASES[name]
    assert subject == parse(notice(about, *reports, to=to))["Subject"]


BODY = b"\r\nThe text.\r\n"


def returned(data: bytes) -> EmailMessage:
    """The third part of a report."""
    return cast(list[EmailMessage], parse(data).get_payload())[2]


@pytest.mark.parametrize(
    ("body", "same"),
    [(BODY, True), ("\r\nGrüße\r\n".encode(), False), (b"\r\n" + b"x" * 2000 + b"\r\n", False)],
)
def test_a_whole_message_comes_back_as_it_left(body: bytes, same: bool) -> None:
    """With the edits applied; written in 7 bits where it was not."""
    about = entry(A, ret="FULL")
    data = notice(about, dsn.Report(A, REFUSED), whole=HEADER + body)
    check_wire(data)
    part = returned(data)
    assert ("message/rfc822", "7bit") == (part.get_content_type(), part["Content-Transfer-Encoding"])
    [inner] = cast(list[EmailMessage], part.get_payload())
    assert RECEIVED.splitlines()[0].partition(": ")[2] in inner["Received"]
    assert inner["Bcc"] is None
    assert (RECEIVED.encode() + HEADER.replace(b"Bcc: hidden@example.com\r\nX-PM-Tag: secret\r\n", b"") + body in data) is same
    assert body.strip() == cast(bytes, inner.get_payload(decode=True)).strip()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Subject: Grüße\r\n".encode(), BODY),
        (HEADER, b"\r\na\0b\r\n"),
        (b"Content-Type: multipart/signed; boundary=b\r\n", "\r\n--b\r\n\r\nü\r\n--b--\r\n".encode()),
    ],
)
def test_what_cannot_be_written_in_seven_bits_comes_back_as_its_header(header: bytes, body: bytes) -> None:
    """A message/rfc822 part takes no encoding of its own (RFC 2046 §5.2.1)."""
    data = notice(entry(A, header=header, ret="FULL"), dsn.Report(A, REFUSED), whole=header + body)
    check_wire(data)
    assert "text/rfc822-headers" == returned(data).get_content_type()


def test_a_whole_message_comes_back_in_plain_text_too() -> None:
    """Behind what the relay says, line by line."""
    about = entry(A, ret="FULL")
    text = parse(notice(about, dsn.Report(A, REFUSED), whole=HEADER + BODY, report=False)).get_content()
    assert "The whole message:\r\n\r\nReceived:" in text
    assert text.endswith("Message-ID: <abc@web1>\r\n\r\nThe text.\r\n")
    assert "hidden@example.com" not in text


@pytest.mark.parametrize(
    ("ret", "size", "bounce", "action", "expected"),
    [
        ("FULL", dsn.MAX_WHOLE, False, dsn.Action.FAILED, True),
        ("FULL", dsn.MAX_WHOLE + 1, False, dsn.Action.FAILED, False),
        ("HDRS", 10, False, dsn.Action.FAILED, False),
        ("", 10, False, dsn.Action.FAILED, False),
        ("FULL", 10, False, dsn.Action.DELAYED, False),
        ("FULL", 10, False, dsn.Action.RELAYED, False),
        ("", 10, True, dsn.Action.FAILED, True),
    ],
)
def test_when_the_whole_message_comes_back(ret: str, size: int, bounce: bool, action: dsn.Action, expected: bool) -> None:
    """When it was asked for, about a failure (RFC 3461 §4.3), and it is small; a bounce of ours always."""
    about = replace(entry(A, ret=ret), facts=Facts(size, False, 80), bounce=bounce)
    outcome = {dsn.Action.FAILED: REFUSED, dsn.Action.DELAYED: LATER, dsn.Action.RELAYED: TAKEN}[action]
    assert expected is dsn.returns_whole(about, [dsn.Report(A, outcome, action)])


def test_a_postmaster_reads_whose_message_it_was() -> None:
    """It is not the postmaster's own."""
    about, reports = CASES["refused"]
    text = parse(notice(about, *reports, to="pm@example.com", report=False)).get_content()
    assert "The message from <app@example.com> could not be delivered to this recipient:" in text
    assert "The header of the message:" in text


def test_a_sender_reads_what_to_do() -> None:
    """Where the status says it."""
    text = parse(notice(entry(A), dsn.Report(A, REFUSED), report=False)).get_content()
    assert "  There is no such mailbox: check the address.\r\n" in text


def test_expired_is_4_4_7() -> None:
    """Whatever the last answer was, the reason is time."""
    about, failures = CASES["expired"]
    _, *recipients = statuses(parse(notice(about, *failures)))
    assert [block["Status"] for block in recipients] == ["4.4.7", "4.4.7"]
    assert [block["Final-Recipient"] for block in recipients] == ["rfc822; a@example.net", 'rfc822; "b b"@example.org']


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (REFUSED, "smtp; 550 5.1.1"),
        (API, "X-Relay; 422 406"),
        (replace(REFUSED, remote="capture[/var/lib/relay]"), "X-Relay; 550 5.1.1"),
        (CANNOT, "X-Relay; no provider"),
        (replace(REFUSED, reply="connection refused"), "X-Relay; connection refused"),
    ],
)
def test_diagnostic_type_is_smtp_only_for_a_mail_server(outcome: Outcome, expected: str) -> None:
    """What an API or relay itself said is not called SMTP."""
    block = statuses(parse(notice(entry(A), dsn.Report(A, outcome))))[1]
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
    assert statuses(parse(notice(entry(who), dsn.Report(who, REFUSED))))[1].get("Original-Recipient") == expected


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 seconds"), (61, "1 minute 1 second"), (5400, "1 hour 30 minutes"), (2 * 86400 + 5, "2 days 5 seconds")]
)
def test_expired_says_how_long(seconds: float, words: str) -> None:
    """In the two largest units."""
    data = notice(entry(A, attempts=1), dsn.Report(A, PAUSED, expired=True), now=ARRIVED + seconds, report=False)
    assert f"Not delivered within {words} (1 attempt)." in parse(data).get_content()


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        (frozenset[Notify](), "FAILURE DELAY"),
        (frozenset({Notify.FAILURE, Notify.DELAY}), "FAILURE DELAY"),
        (frozenset({Notify.NEVER}), ""),
        (frozenset({Notify.SUCCESS, Notify.DELAY}), "DELAY SUCCESS"),
    ],
)
def test_notify_decides(notify: frozenset[Notify], expected: str) -> None:
    """A sender hears of what was asked for; without NOTIFY of failures and delays (RFC 3461 §4.1)."""
    about = [Notify.FAILURE, Notify.DELAY, Notify.SUCCESS]
    assert expected.split() == [what for what in about if dsn.wanted(entry(A), replace(A, notify=notify), what)]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Auto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n", False),
        (b"Auto-Submitted: auto-replied (bounce)\r\nFrom: Mail Delivery System <m@example.com>\r\n", False),
        (b"Auto-Submitted: auto-replied\r\nFrom: Tickets <t@example.com>\r\n", True),
        (b"Auto-Submitted: auto-generated\r\nFrom: Mail Delivery System <m@example.com>\r\n", True),
        (b"From: Mail Delivery System <m@example.com>\r\n", True),
    ],
)
def test_a_notice_that_comes_back_in_causes_none(header: bytes, expected: bool) -> None:
    """Whatever sender it has by then; what applications send by themselves is bounced as any mail."""
    assert expected is dsn.wanted(entry(A, header=header), A)


def test_nothing_bounces_to_nobody() -> None:
    """A null reverse-path and a bounce of ours never cause a bounce."""
    assert not dsn.wanted(replace(entry(A), envelope=Envelope("", (A,))), A)
    assert not dsn.wanted(replace(entry(A), bounce=True), A)


def test_a_huge_header_block_is_cut_at_a_line() -> None:
    """At most 64 KiB of it come back."""
    block = b"X-Filler: " + b"\r\n y".join([b"x" * 70] * 2000) + b"\r\n"
    data = notice(entry(A, header=block), dsn.Report(A, REFUSED))
    check_wire(data)
    original = cast(list[EmailMessage], parse(data).get_payload())[2].get_content()
    assert 60_000 < len(original) <= 64 * 1024


def test_a_header_block_of_one_huge_line_is_left_out() -> None:
    """There is no line to cut at."""
    data = notice(entry(A, header=b"X: " + b"x" * 70_000 + b"\r\n"), dsn.Report(A, REFUSED))
    check_wire(data)


def test_a_boundary_in_the_header_block_is_avoided() -> None:
    """A client that guesses the next queue id cannot end our part."""
    block = b"Subject: x\r\n --=_687E7641C64008--\r\n --=_687E7641C64008.1--\r\n"
    message = parse(notice(entry(A, header=block), dsn.Report(A, REFUSED)))
    assert message.get_boundary() == "=_687E7641C64008.2"
    assert len(cast(list[Message], message.get_payload())) == 3


def test_odd_message_ids_and_addresses_stay_out_of_fields() -> None:
    """A Message-ID that is none is no reference; an address that fits no field becomes an empty group."""
    about = replace(entry(A), message_id="<a\r\nBcc: x@y>", envelope=Envelope("é\r\nBcc: x@y", (A,)))
    message = parse(notice(about, dsn.Report(A, REFUSED)))
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
    *("Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date", "Will-Retry-Until"),
}


@given(
    texts=st.tuples(*[HOSTILE] * 7),
    action=st.sampled_from([dsn.Action.FAILED, dsn.Action.DELAYED]),
    whole=st.booleans(),
    header=HEADERS,
    own=st.booleans(),
    expired=st.booleans(),
    maybe=st.booleans(),
    report=st.booleans(),
)
def test_hostile_text_stays_in_its_place(
    texts: tuple[str, ...], action: dsn.Action, whole: bool, header: bytes, own: bool, expired: bool, maybe: bool, report: bool
) -> None:
    """Whatever was said, no field and no part is added, and the octets are fit for any server."""
    reply, remote, mend, address, orcpt, envid, reason = texts
    who = Recipient(address, orcpt=f"rfc822;{orcpt}")
    outcome = Outcome(Verdict.RETRY, "4.0.0", reply or "x", remote or "x", own=own, mend=mend)
    about = entry(who, header=header, envid=envid)
    reasons = (reason,) if reason else ()
    failure = dsn.Report(who, outcome, action, reasons, expired=expired, maybe_relayed=maybe, waits_for=mend, attempted=NOW)
    data = notice(about, failure, report=report, whole=header + b"\r\n" + reply.encode("utf-8", "replace") if whole else b"")
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


@pytest.mark.parametrize("name", ["refused-report", "delayed-plain", "waited-plain", "relayed-report", "double-bounce-plain"])
def test_the_examples_in_the_documents_are_what_is_sent(name: str) -> None:
    """docs/bounces.md shows golden notices whole."""
    document = (Path(__file__).parent.parent / "docs" / "bounces.md").read_text()
    example = (BOUNCES / f"{name}.eml").read_bytes().decode().replace("\r\n", "\n")
    assert f"```\n{example.rstrip()}\n```" in document
