"""Senders rewritten and mail redirected, as edits: what stands in the header that leaves, read by the standard library."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Sequence
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import address, edits, header
from relay.model import Client, Edit, EditKind, Envelope, Recipient
from relay.rewriting import Rewriting, guarded, redirected

ALERTS, SHOP = "alerts@example.com", "orders@shop.example.com"
RULES = Rewriting((("root@*", ALERTS), ("*@old.example.net", SHOP), ("*@*.old.example.net", ALERTS), ("www-data@old.example.net", ALERTS)))
TRACE = Edit(EditKind.PREPEND, "Received: from app\r\n")


def leaves(block: bytes, changes: Sequence[Edit]) -> Message:
    """The header as a reader of mail sees it."""
    octets = edits.apply(block, changes)
    assert octets.count(b"\r\n") == octets.count(b"\n")
    return email.message_from_bytes(octets + b"\r\n", policy=email.policy.compat32)


def rewritten(field: str | bytes, name: str = "From") -> Message:
    """The header of a message with this one field, rewritten."""
    block = name.encode() + b": " + (field.encode() if isinstance(field, str) else field) + b"\r\n"
    return leaves(block, RULES.edits(block, [TRACE]))


def people(message: Message, name: str = "From") -> list[tuple[str, str]]:
    """(display name, address) of each mailbox, the name as it is shown."""
    return [(str(make_header(decode_header(shown))), one) for shown, one in getaddresses(message.get_all(name, []))]


# The reverse-path.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("root@web1", ALERTS),
        ("ROOT@Web1.Internal", ALERTS),
        ('"root"@web1', ALERTS),  # the same mailbox
        ("x@old.example.net", SHOP),
        ("www-data@old.example.net", SHOP),  # by the first rule that fits
        ("www-data@a.old.example.net", ALERTS),
        ("app@example.com", "app@example.com"),
        ("notroot@web1", "notroot@web1"),
        ("", ""),
    ],
)
def test_the_reverse_path(path: str, expected: str) -> None:
    """The first rule that fits says what takes its place; the null one stays."""
    assert expected == RULES.reverse_path(path)


def test_a_rule_for_everybody_leaves_the_null_path() -> None:
    """A bounce must stay one."""
    assert "" == Rewriting((("*", ALERTS),)).reverse_path("")


def test_the_reverse_path_is_kept_in_a_field() -> None:
    """Where it is rewritten, and only there."""
    block = b"From: app@example.com\r\n"
    message = leaves(block, RULES.edits(block, (), "root@web1"))
    assert "<root@web1>" == message["X-Original-Return-Path"]
    assert "app@example.com" == message["From"]
    assert (TRACE,) == RULES.edits(block, [TRACE], "app@example.com")
    assert (TRACE,) == RULES.edits(block, [TRACE], "")


# From and Sender.


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("root@web1", [("", ALERTS)]),
        ("<root@web1>", [("", ALERTS)]),
        ("root (Cron Daemon)", [("Cron Daemon", ALERTS)]),
        ("root", [("", ALERTS)]),
        ("Cron Daemon <root>", [("Cron Daemon", ALERTS)]),
        ("root@web1 (Cron Daemon)", [("Cron Daemon", ALERTS)]),
        ("Cron Daemon <root@web1> (a comment)", [("Cron Daemon", ALERTS)]),
        ('"Daemon, the \\"Cron\\"" <root@web1>', [('Daemon, the "Cron"', ALERTS)]),
        ("=?iso-8859-1?q?J=F6rg?= =?utf-8?b?IE3DvGxsZXI=?= <root@web1>", [("Jörg Müller", ALERTS)]),
        ("Jörg <root@web1>", [("Jörg", ALERTS)]),
        ("Jörg <root@web1>".encode("latin-1"), [("Jörg", ALERTS)]),
        ("Cron\r\n Daemon\r\n\t<root@web1>", [("Cron Daemon", ALERTS)]),
        ("Ann <a@example.com>, root@web1, Bob <b@old.example.net>", [("Ann", "a@example.com"), ("", ALERTS), ("Bob", SHOP)]),
        ("Team: Ann <a@example.com>, root@web1;, c@example.com", [("Ann", "a@example.com"), ("", ALERTS), ("", "c@example.com")]),
        ("root@web1, Cron <root@web2>", [("", ALERTS)]),  # nobody stands there twice
        ("root@web1, x@büro.example", [("", ALERTS), ("", "x@xn--bro-hoa.example")]),
        ('root@web1, x@a"b, "<y>@z" <jörg@example.net>', [("", ALERTS)]),  # what nobody could read is only kept
        ("root@web1, jörg@example.net", [("", ALERTS)]),
        ("Cron <root@web1", [("Cron", ALERTS)]),
        ('"Cron <root@web1>', [('"Cron', ALERTS)]),
        ("root@web1\0\x1b[31m", [("[31m", ALERTS)]),
        ("Cron\x7f Daemon\0 <root@web1>", [("Cron Daemon", ALERTS)]),
        ('"=?utf-8?q?x=2C_other=40example=2Enet?=" <root@web1>', [("x, other@example.net", ALERTS)]),
        ("=?utf-8?q?x=0D=0ABcc=3A_evil=40example=2Enet?= <root@web1>", [("x Bcc: evil@example.net", ALERTS)]),
        ("=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?= <root@web1>", [("=?utf-8?q?x?=", ALERTS)]),
    ],
)
def test_from(field: str | bytes, expected: list[tuple[str, str]]) -> None:
    """The address changes, the name stays, others stay."""
    message = rewritten(field)
    assert expected == people(message)
    assert ["Received", "From", "X-Original-From"] == list(message)
    assert str(message["From"]).isascii()


@pytest.mark.parametrize("field", ["app@example.com", "", "Group:;", "notroot", "Root Beer", "a@example.com (root@web1)", b"\xff\xfe"])
def test_a_from_that_fits_no_rule_stays_byte_for_byte(field: str | bytes) -> None:
    """Then the edits are those that were decided when the message came in."""
    block = b"From: " + (field.encode() if isinstance(field, str) else field) + b"\r\n"
    assert (TRACE,) == RULES.edits(block, [TRACE])
    assert (TRACE,) == Rewriting().edits(b"From: root@web1\r\n", [TRACE], "root@web1")


def test_sender_follows_the_same_rules() -> None:
    """A provider checks it like From."""
    message = rewritten("Cron <root@web1>", "Sender")
    assert [("Cron", ALERTS)] == people(message, "Sender")
    assert "Cron <root@web1>" == message["X-Original-Sender"]


def test_several_from_fields_become_one() -> None:
    """No provider takes two."""
    block = b"From: root@web1\r\nSubject: x\r\nFROM: Ann <a@example.com>\r\n"
    message = leaves(block, RULES.edits(block, ()))
    assert 1 == len(message.get_all("From", []))
    assert [("", ALERTS), ("Ann", "a@example.com")] == people(message)
    assert "root@web1, Ann <a@example.com>" == message["X-Original-From"]


def test_what_the_app_kept_itself_stays() -> None:
    """A mailing list has a field of that name: ours stands above it."""
    block = b"X-Original-From: list@example.org\r\nFrom: root@web1\r\n"
    assert ["root@web1", "list@example.org"] == leaves(block, RULES.edits(block, ())).get_all("X-Original-From")


def test_a_header_block_without_an_end_keeps_its_body_apart() -> None:
    """The edits of such a message bring the empty line: what we add stands above it."""
    block = b"From: root@web1\r\n"
    client, envelope = Client("local", "127.0.0.1"), Envelope("root@web1", (Recipient("a@example.net"),))
    decided = edits.decide(block, queue_id="687E7641C64007", hostname="h", client=client, envelope=envelope, arrived=0.0, ended=False)
    whole = edits.apply(block, RULES.edits(block, decided)) + b"the body\r\n"
    message = email.message_from_bytes(whole, policy=email.policy.compat32)
    assert [("", ALERTS)] == people(message)
    assert "the body\r\n" == message.get_payload()


# Redirected.


def test_redirected() -> None:
    """To is the one address, and nothing else that is delivered to is left; what stood there is kept."""
    block = (
        b"To: Ann <ann@example.net>,\r\n\tbob@example.net\r\nSubject: x\r\nCc: J\xf6rg <cat@example.net>\r\nBcc: dan@example.net\r\n"
        b"Resent-To: eve@example.net\r\nresent-cc: fay@example.net\r\nResent-Bcc: gus@example.net\r\nTO: hal@example.net\r\n"
    )
    message = leaves(block, redirected(block, [TRACE], "qa@example.com", ["ann@example.net", "dan@example.net"]))
    assert ["qa@example.com"] == message.get_all("To")
    assert ["Received", "To", "X-Original-To", "X-Original-Cc", "X-Original-Resent-To", "X-Original-Resent-Cc"] == list(message)[:6]
    assert ["X-Original-Recipient", "Subject"] == list(message)[6:]
    assert "Ann <ann@example.net>, bob@example.net, hal@example.net" == str(message["X-Original-To"]).replace("\r\n", "")
    assert "Jörg <cat@example.net>" == str(make_header(decode_header(message["X-Original-Cc"])))
    assert "ann@example.net, dan@example.net" == message["X-Original-Recipient"]


def test_guarded() -> None:
    """No field is left by which a mail server or a provider would deliver to others than the envelope names; nothing else changes."""
    block = (
        b'X-SMTPAPI : {"to": ["a@example.net"]}\r\nx-mc-bccaddress: b@example.net\r\nX-MSYS-API:\r\n {"bcc": []}\r\nTo: c@example.net\r\n'
    )
    assert b"To: c@example.net\r\n" == edits.apply(block, guarded(block, ()))
    assert (TRACE,) == guarded(b"To: c@example.net\r\n", [TRACE])
    assert b"" == edits.apply(b"Apparently-To: a@example.net\r\n", guarded(b"Apparently-To: a@example.net\r\n", ()))


def test_many_recipients_are_counted() -> None:
    """A header has to stay of a size that providers take."""
    many = [f"user{number}@example.net" for number in range(1000)]
    block = b"To: " + b", ".join(one.encode() for one in many * 10) + b"\r\n"
    octets = edits.apply(block, redirected(block, (), "qa@example.com", many))
    assert b" user99@example.net, and 900 more\r\n" in octets
    assert b"characters more)" in octets
    assert 20_000 > len(octets)


def test_rewritten_and_redirected() -> None:
    """Both at once, in either order of the fields."""
    block = b"From: root@web1\r\nTo: ann@example.net\r\n"
    message = leaves(block, redirected(block, RULES.edits(block, ()), "qa@example.com", ["ann@example.net"]))
    assert [("", ALERTS)] == people(message)
    assert [("", "qa@example.com")] == people(message, "To")


# Any block at all.

PIECES = st.sampled_from(
    [
        *(b"From: ", b"from:", b"Sender: ", b"To: ", b"Cc:", b"From root Fri Nov 20\r\n"),
        *(b"root@web1", b"x@old.example.net", b"a@b", b"root", b"[192.0.2.1]", b"x" * 300, b"@"),
        *(b"<", b">", b'"', b"\\", b"(", b")", b",", b":", b";", b" ", b"\t", b"\r\n", b"\r\n "),
        *(b"=?utf-8?q?=0D=0A?=", b"=?utf-8?b?", b"?=", b"=?iso-2022-jp?b?GyRCRnwbKEI=?="),
        *(b"\xc3\xb6", b"\xf6", b"\0", b"\x7f", "\u2028".encode()),
    ]
)
BLOCKS = st.lists(PIECES | st.binary(max_size=8).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")), max_size=40).map(
    lambda pieces: header.split(b"".join(pieces) + b"\r\n\r\n")[0]
)
OURS = {"from", "sender", "to", "x-original-from", "x-original-sender", "x-original-return-path", "x-original-recipient"}
OURS |= {"x-original-to", "x-original-cc"}


def made(before: Sequence[Edit], after: Sequence[Edit]) -> list[bytes]:
    """The lines that an edit brought."""
    new = after[len(before) :]
    assert tuple(before) == tuple(after[: len(before)])
    return [line for edit in new if edit.kind is not EditKind.REMOVE for line in edit.text.encode("ascii").split(b"\r\n")[:-1]]


@given(BLOCKS, st.sampled_from(["", "root@web1", "app@example.com", "x@old.example.net"]))
def test_any_block_is_rewritten_safely(block: bytes, path: str) -> None:
    """Nothing is raised; only fields of ours come, in ASCII, without bare CR and LF and lines that are too long; a From that was
    rewritten names only addresses that rules give or that a strict reader takes, and no other field changes."""
    found = RULES.edits(block, [TRACE], path)
    lines = made([TRACE], found)
    assert all(len(line) <= header.MAX_LINE and b"\r" not in line and b"\n" not in line for line in lines)
    names = {line.partition(b":")[0].decode().lower() for line in lines if not line.startswith(b" ")}
    assert names <= OURS
    assert all(line.strip() for line in lines)
    after = edits.apply(block, found)
    for name in ("from", "sender"):
        if name in names:
            (value,) = header.values(after, name)
            boxes = getaddresses([value.decode("ascii")])
            assert {ALERTS, SHOP} & {one for _, one in boxes}
            assert all(address.valid(one) for _, one in boxes)
            assert not any(RULES.reverse_path(one) != one for _, one in boxes)
        else:
            assert header.values(block, name) == header.values(after, name)
    others = [whole for name, whole in header.fields(block) if name not in ("from", "sender")]
    assert all(whole in after for whole in others)


@given(BLOCKS)
def test_any_block_is_redirected_safely(block: bytes) -> None:
    """One To with the one address; no Cc, no Bcc; the rest stays, From too."""
    found = redirected(block, [TRACE], "qa@example.com", ["a@example.net"])
    lines = made([TRACE], found)
    assert all(len(line) <= header.MAX_LINE and line.strip() and b"\r" not in line and b"\n" not in line for line in lines)
    after = edits.apply(block, found)
    assert [b"qa@example.com"] == header.values(after, "to")
    assert not {"cc", "bcc", "resent-to", "resent-cc", "resent-bcc"} & {name for name, _ in header.fields(after)}
    assert header.values(block, "from") == header.values(after, "from")


@given(st.text(max_size=400))
def test_any_display_name_stays(name: str) -> None:
    """As it is shown: without what is no character, and with single spaces."""
    block = f"From: {email.header.Header(name, 'utf-8').encode(linesep=chr(13) + chr(10))} <root@web1>\r\n".encode()
    found = leaves(block, RULES.edits(block, ()))
    expected = " ".join(header.text(name.encode("utf-8", "replace")).split())
    ((shown, one),) = people(found)
    assert ALERTS == one
    if not any(len(word) > 200 for word in expected.split()):
        assert expected == " ".join(shown.split())
