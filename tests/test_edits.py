"""The edits: what changes in a header block on the way out, and that nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import edits, header
from relay.model import Client, Edit, EditKind, Envelope, Recipient

NOW = 1795200000.0
LOCAL = Client("local", "127.0.0.1", 40000, "localhost", "app.example.com")
ONE = Envelope("app@example.com", (Recipient("a@example.net"),))
TWO = Envelope("app@example.com", (Recipient("a@example.net"), Recipient("b@example.net")))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Dates are written in local time; here that is UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def decide(block: bytes, *, client: Client = LOCAL, envelope: Envelope = ONE, ended: bool = True) -> tuple[Edit, ...]:
    """`edits.decide` with the rest fixed."""
    return edits.decide(
        block, queue_id="687E7641C64007", hostname="relay.example.com", client=client, envelope=envelope, arrived=NOW, ended=ended
    )


def received(client: Client, envelope: Envelope = ONE) -> str:
    """The Received field with the rest fixed."""
    return edits.received(queue_id="687E7641C64007", hostname="relay.example.com", client=client, envelope=envelope, arrived=NOW)


def test_received_says_who_handed_in_what_and_when() -> None:
    """RFC 5321 §4.4, one recipient."""
    expected = (
        "Received: from app.example.com (localhost [127.0.0.1])\r\n"
        "\tby relay.example.com (relay) with ESMTP id 687E7641C64007\r\n"
        "\tfor <a@example.net>;\r\n"
        "\tFri, 20 Nov 2026 18:40:00 +0000\r\n"
    )
    assert expected == received(LOCAL)


@pytest.mark.parametrize(
    ("client", "source"),
    [
        (Client("local", "::1", name="localhost", helo="x"), "from x (localhost [IPv6:::1])"),
        (Client("sendmail", "unix", helo="x"), "from x (unix socket)"),
        (Client("local", "127.0.0.1"), "from unknown (unknown [127.0.0.1])"),
        (Client("local", "127.0.0.1", helo="[127.0.0.1]"), "from [127.0.0.1] (unknown [127.0.0.1])"),
        (Client("local", "127.0.0.1", helo="a;b(c)\r\nd é"), "from a?b?c???d?? (unknown [127.0.0.1])"),
        (Client("local", "127.0.0.1", helo="h" * 300), f"from {'h' * 255} (unknown [127.0.0.1])"),
    ],
)
def test_received_names_the_client(client: Client, source: str) -> None:
    """Address families, unix sockets, and a HELO name that cannot break out of the field."""
    assert f"Received: {source}" == received(client).split("\r\n")[0]


def test_received_says_how_the_client_came() -> None:
    """TLS in Postfix's words, a login by RFC 3848's letter; the name of the login stays here."""
    client = replace(LOCAL, protocol="ESMTPSA", username="app1", tls="TLSv1.3 TLS_AES_256_GCM_SHA384")
    assert received(client).startswith(
        "Received: from app.example.com (localhost [127.0.0.1])\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        "\tby relay.example.com (relay) with ESMTPSA id 687E7641C64007\r\n"
    )
    assert "app1" not in received(client)


def test_received_names_no_recipient_of_several() -> None:
    """With more than one recipient, naming one would show a Bcc."""
    assert "for <" not in received(LOCAL, TWO)


def test_a_complete_header_gets_received_only() -> None:
    """Date and Message-ID that are there stay."""
    decided = decide(b"Date: x\r\nMessage-ID: <a@b>\r\nTo: a@example.net\r\n")
    assert [edit.kind for edit in decided] == [EditKind.PREPEND]


def test_date_and_message_id_are_added_where_missing() -> None:
    """At the end of the block, with the time of arrival and the queue id."""
    expected = "Date: Fri, 20 Nov 2026 18:40:00 +0000\r\nMessage-ID: <687E7641C64007@relay.example.com>\r\n"
    assert Edit(EditKind.APPEND, expected) == decide(b"Subject: x\r\n")[-1]


def test_a_body_without_an_empty_line_before_it_gets_one() -> None:
    """Its first line is text; it must not pass for a field or a continuation of ours."""
    assert decide(b"Date: x\r\nMessage-ID: <a@b>\r\n", ended=False)[-1] == Edit(EditKind.APPEND, "\r\n")


def test_a_torn_block_loses_its_hidden_fields_and_shows_ours() -> None:
    """The line that is no field stays where it is; what we add stands above it, where readers still look."""
    block = b"From: a@b\r\ntorn\r\nBcc: x@y\r\nTo: c@d\r\n"
    decided = decide(block)
    left = edits.apply(block, decided)
    assert left.endswith(b"\r\nFrom: a@b\r\ntorn\r\nTo: c@d\r\n")
    assert (True, True) == (b"\r\nDate: " in left, b"\r\nMessage-ID: <687E7641C64007@" in left)
    assert [EditKind.PREPEND, EditKind.REMOVE] == [edit.kind for edit in decided]


def test_strip_only_takes_away() -> None:
    """What no recipient may see goes, also below a line that is no field; nothing is added."""
    changes = [Edit(EditKind.PREPEND, "Received: x\r\n"), Edit(EditKind.REMOVE, "bcc"), Edit(EditKind.APPEND, "\r\n")]
    assert edits.strip(b"A: 1\r\ntorn\r\nBcc: c\r\n\td\r\nB: 2\r\n", changes) == b"A: 1\r\ntorn\r\nB: 2\r\n"


def test_what_no_recipient_may_see_is_removed() -> None:
    """Bcc in both forms, Return-Path, Delivered-To, the control headers of every dialect, and an mbox line."""
    block = (
        b"From app Mon Jan 1\r\nBCC: x@y\r\nResent-Bcc: x@y\r\nReturn-Path: <x@y>\r\nDelivered-To: x@y\r\n"
        b"X-PM-Tag: a\r\n b\r\nX-SES-Foo: a\r\n"
        b"X-MT-Category: a\r\nX-Relay-Tag: a\r\nX-Other: stays\r\nDate: x\r\nMessage-Id: <a@b>\r\nFrom: a@b\r\n"
    )
    left = edits.apply(block, decide(block)[1:])
    assert left == b"X-Other: stays\r\nDate: x\r\nMessage-Id: <a@b>\r\nFrom: a@b\r\n"


def test_a_from_field_with_a_space_before_its_colon_stays() -> None:
    """It is a From field in obsolete syntax, no mbox line."""
    block = b"From : a@b\r\nDate: x\r\nMessage-Id: <a@b>\r\nBcc: c@d\r\n"
    assert edits.apply(block, decide(block)[1:]).startswith(b"From : a@b\r\n")


def test_apply_without_edits_changes_nothing() -> None:
    """Not even in a block that is no block."""
    assert edits.apply(b"anything\n", ()) == b"anything\n"


@pytest.mark.parametrize(("data", "body"), [(b" starts with a space\r\n", b" starts with a space\r\n"), (b"\r\n text\r\n", b" text\r\n")])
def test_a_body_without_header_stays_a_body(data: bytes, body: bytes) -> None:
    """A message without any field keeps its first line out of ours, and gets no second empty line."""
    block, offset = header.split(data)
    decided = decide(block, ended=offset > len(block))
    sent = edits.apply(block, decided) + data[len(block) :]
    parsed = message_from_bytes(sent)
    assert parsed.keys() == ["Received", "Date", "Message-ID"]
    assert sent.endswith(b"\r\n\r\n" + body)
    assert parsed["Message-ID"] == "<687E7641C64007@relay.example.com>"


names = st.sampled_from(["Bcc", "To", "From", "from ", "Date", "Message-ID", "X-PM-Tag", "X-RELAY-a", "Subject", "x"])
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=10)
fields = st.builds(
    lambda name, value, fold: f"{name}: {value}{fold}\r\n".encode(), names, values, st.sampled_from(["", "\r\n x", "\r\n\t"])
)


@given(
    st.lists(fields, max_size=6).map(b"".join),
    st.text(max_size=20),
    st.sampled_from([ONE, TWO]),
    st.floats(0, 4e9),
)
def test_only_what_an_edit_names_changes(block: bytes, helo: str, envelope: Envelope, arrived: float) -> None:
    """Kept fields stay byte for byte and in order; what we add is whole fields; nothing hidden is left."""
    client = Client("local", "127.0.0.1", helo=helo)
    decided = edits.decide(
        block, queue_id="687E7641C64007", hostname="relay.example.com", client=client, envelope=envelope, arrived=arrived
    )
    after = edits.apply(block, decided)
    added = [edit.text for edit in decided if edit.kind is not EditKind.REMOVE]
    kept = [field for name, field in header.fields(block) if not edits.is_control(name) and name not in edits.REMOVED]
    assert after == added[0].encode() + b"".join(kept) + "".join(added[1:]).encode()
    assert after == b"".join(field for _, field in header.fields(after))
    assert {"received", "date", "message-id"} <= {name for name, _ in header.fields(after)}


@given(st.floats(0, 4e9))
def test_dates_are_parsed_back(arrived: float) -> None:
    """The date in Received is the second of arrival (rounded to a microsecond first)."""
    text = edits.received(queue_id="1", hostname="h", client=LOCAL, envelope=ONE, arrived=arrived)
    assert 0 <= arrived + 1e-6 - parsedate_to_datetime(text.rpartition(";")[2].strip()).timestamp() < 1 + 1e-6
