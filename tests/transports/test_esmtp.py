"""The pure half of the SMTP client, as tables and properties."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Envelope, Notify, Recipient
from relay.transports import esmtp
from relay.transports.esmtp import Garbled, Replies, Reply, Stuffer

ALL = {"size": "1000", "8bitmime": "", "smtputf8": "", "dsn": "", "pipelining": ""}


def envelope(sender: str = "app@example.com", **more: object) -> Envelope:
    """An envelope with one recipient."""
    return Envelope(sender, (Recipient("a@example.net"),), **more)  # type: ignore[arg-type]


def stuffed(pieces: list[bytes]) -> bytes:
    """What goes out for a message that comes in these pieces."""
    stuffer = Stuffer()
    return b"".join([*map(stuffer.feed, pieces), stuffer.end()])


@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (b"250 ok\r\n", [Reply(250, "ok")]),
        (b"250\r\n", [Reply(250, "")]),
        (b"250 ok\n", [Reply(250, "ok")]),
        (b"250-one\r\n250-two\r\n250 three\r\n", [Reply(250, "one two three")]),
        (b"250 a\r\n550 5.1.1 b\r\n354 c\r\n", [Reply(250, "a"), Reply(550, "5.1.1 b"), Reply(354, "c")]),
        (b"550-5.7.1 no\r\n550 5.7.1 way", []),
        ("250 grün\r\n".encode("latin-1"), [Reply(250, "gr\ufffdn")]),
    ],
)
def test_replies(data: bytes, replies: list[Reply]) -> None:
    """Replies of one or several lines, with CRLF or bare LF; an unfinished one waits."""
    assert Replies().feed(data) == replies


@pytest.mark.parametrize(
    "data", [b"hello\r\n", b"25 ok\r\n", b"150 x\r\n", b"650 x\r\n", b"250ok\r\n", b"\r\n", b"\x00\xff\n", b"2500 x\r\n"]
)
def test_garbage_is_garbled(data: bytes) -> None:
    """What is no reply is said to be none."""
    with pytest.raises(Garbled):
        Replies().feed(data)


@pytest.mark.parametrize("piece", [b"x" * 5000, b"y" * 4000 + b"\r\n250-"])
def test_endless_reply(piece: bytes) -> None:
    """A line or a reply without end is cut off."""
    reader = Replies()
    reader.feed(b"250-")
    fed = 0
    with contextlib.suppress(Garbled):
        while fed < 2 * esmtp.MAX_REPLY:
            reader.feed(piece)
            fed += len(piece)
    assert esmtp.MAX_REPLY - 2 * len(piece) < fed < esmtp.MAX_REPLY + 2 * len(piece)


def test_many_replies_are_not_too_long() -> None:
    """The cap is for one reply, not for a connection."""
    reader = Replies()
    for _ in range(200):
        assert len(reader.feed(b"250 " + b"z" * 1000 + b"\r\n")) == 1


_LINES = st.sampled_from([b"250 ok\r\n", b"250-more\r\n", b"550 5.1.1 no\n", b"354 go\r\n", b"garbage\r\n", b"250"])


@given(st.lists(_LINES, max_size=8), st.integers(1, 9))
def test_replies_do_not_depend_on_cuts(lines: list[bytes], step: int) -> None:
    """However the octets are cut, the same replies come out, or the same refusal."""

    def run(pieces: list[bytes]) -> object:
        reader = Replies()
        try:
            return [reply for piece in pieces for reply in reader.feed(piece)]
        except Garbled:
            return "garbled"

    data = b"".join(lines)
    assert run([data]) == run([data[at : at + step] for at in range(0, len(data), step)])


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b".a\r\n..b\r\nc.d\r\n.\r\n", b"..a\r\n...b\r\nc.d\r\n..\r\n.\r\n"),
        (b"a\r\n\r\n.", b"a\r\n\r\n..\r\n.\r\n"),
    ],
)
def test_stuffing(message: bytes, wire: bytes) -> None:
    """A dot that begins a line is doubled, whatever the chunks; the message ends with CRLF, dot, CRLF."""
    for step in range(1, len(message) + 2):
        assert stuffed([message[at : at + step] for at in range(0, len(message), step)]) == wire


@pytest.mark.parametrize("message", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\nb", b"a\r", b"\n.\r\n", b"a\r\r\n"])
def test_bare_line_ends_never_leave(message: bytes) -> None:
    """A bare CR or LF, the stuff of smuggling, is our bug and never reaches a wire."""
    for step in range(1, len(message) + 1):
        pieces = [message[at : at + step] for at in range(0, len(message), step)]
        with pytest.raises(ValueError, match="bare"):
            stuffed(pieces)


@given(st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\r\n.", b".\r\n"]), max_size=30), st.integers(1, 5))
def test_stuffing_can_be_undone(parts: list[bytes], step: int) -> None:
    """Unstuffing what left gives what was stored, and the only lone dot is the last line."""
    message = b"".join(parts)
    wire = stuffed([message[at : at + step] for at in range(0, len(message), step)])
    lines = wire.split(b"\r\n")
    assert lines.index(b".") == len(lines) - 2
    plain = b"\r\n".join(line.removeprefix(b".") for line in lines[:-2])
    assert plain + b"\r\n" * bool(lines[:-2]) == message + b"\r\n" * bool(message and not message.endswith(b"\r\n"))


@pytest.mark.parametrize(
    ("given_envelope", "extensions", "line"),
    [
        (envelope(), {}, b"MAIL FROM:<app@example.com>"),
        (envelope(""), {}, b"MAIL FROM:<>"),
        (envelope('"a b>"@example.com'), {}, b'MAIL FROM:<"a b>"@example.com>'),
        (envelope(ret="HDRS", envid="a b+c=é"), ALL, b"MAIL FROM:<app@example.com> SIZE=42 BODY=8BITMIME SMTPUTF8 RET=HDRS"),
        (envelope(ret="FULL", envid="a b+c=d"), {"dsn": ""}, b"MAIL FROM:<app@example.com> SMTPUTF8 RET=FULL ENVID=a+20b+2Bc+3Dd"),
        (envelope(ret="x\r\n"), {"dsn": ""}, b"MAIL FROM:<app@example.com> SMTPUTF8"),
    ],
)
def test_mail(given_envelope: Envelope, extensions: dict[str, str], line: bytes) -> None:
    """MAIL carries the stored address and only what was offered and is needed."""
    command = esmtp.mail(given_envelope, extensions, size=42, eight_bit=True, utf8=bool(extensions))
    assert command == line + b"\r\n"


@pytest.mark.parametrize(
    ("recipient", "extensions", "line"),
    [
        (Recipient("A@Example.NET"), ALL, b"RCPT TO:<A@Example.NET>"),
        (Recipient("postmaster"), ALL, b"RCPT TO:<postmaster>"),
        (Recipient("é@example.net"), ALL, "RCPT TO:<é@example.net>".encode()),
        (Recipient("a@b.test", frozenset({Notify.DELAY, Notify.FAILURE})), ALL, b"RCPT TO:<a@b.test> NOTIFY=FAILURE,DELAY"),
        (Recipient("a@b.test", frozenset({Notify.NEVER})), {}, b"RCPT TO:<a@b.test>"),
        (Recipient("a@b.test", orcpt="rfc822;old +x@b.test"), ALL, b"RCPT TO:<a@b.test> ORCPT=rfc822;old+20+2Bx@b.test"),
        (Recipient("a@b.test", orcpt="utf-8;é@b.test"), ALL, b"RCPT TO:<a@b.test>"),
    ],
)
def test_rcpt(recipient: Recipient, extensions: dict[str, str], line: bytes) -> None:
    """RCPT carries the stored address, and DSN parameters only where DSN was offered."""
    assert esmtp.rcpt(recipient, extensions) == line + b"\r\n"


@pytest.mark.parametrize(
    "bad", ["a@b.test>\r\nRCPT TO:<v@z.test", "a@b.test> SIZE=1", "a b@c.test", "é b@c.test", "é>@c.test", "é\x85@c.test", "no-at"]
)
def test_invalid_address_never_leaves(bad: str) -> None:
    """An address that could carry a second command or parameter raises before a single octet is made."""
    with pytest.raises(ValueError, match="address"):
        esmtp.rcpt(Recipient(bad), ALL)


@pytest.mark.parametrize(
    ("sender", "recipient", "declared", "header", "needed"),
    [
        ("a@x.test", "b@x.test", False, b"Subject: x\r\n", False),
        ("a@x.test", "b@x.test", True, b"Subject: x\r\n", False),
        ("a@x.test", "b@x.test", False, b"Subject: \xc3\xa9\r\n", False),
        ("a@x.test", "b@x.test", True, b"Subject: \xc3\xa9\r\n", True),
        ("é@x.test", "b@x.test", False, b"", True),
        ("a@x.test", "é@x.test", False, b"", True),
    ],
)
def test_needs_smtputf8(sender: str, recipient: str, declared: bool, header: bytes, needed: bool) -> None:
    """SMTPUTF8 is needed for non-ASCII addresses, and for UTF-8 headers that were declared."""
    to = (Recipient(recipient),)
    assert esmtp.needs_smtputf8(Envelope(sender, to, smtputf8=declared), to, header) is needed


@pytest.mark.parametrize(
    ("offered", "limit"),
    [
        ({}, 0),
        ({"size": ""}, 0),
        ({"size": "0"}, 0),
        ({"size": "1000"}, 1000),
        ({"size": "²"}, 0),
        ({"size": "-5"}, 0),
        ({"size": "9" * 5000}, 0),
    ],
)
def test_size_limit(offered: dict[str, str], limit: int) -> None:
    """The announced limit, or 0 for none or nonsense."""
    assert esmtp.size_limit(offered) == limit


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("2.0.0 Ok: queued as 4XyZ12abcD", "4XyZ12abcD"),
        ("2.0.0 Ok: queued as <b7bc2f4a-e38e@mailpit>", "b7bc2f4a-e38e@mailpit"),
        ("2.0.0 Ok: queued", ""),
        ("Ok 010201903c8a5b1e-11111111-2222-3333-4444-555555555555-000000", "010201903c8a5b1e-11111111-2222-3333-4444-555555555555-000000"),
        ("OK id=1rABcd-0001aB-2C", "1rABcd-0001aB-2C"),
        ("2.0.0 5AKHx1aB012345 Message accepted for delivery", "5AKHx1aB012345"),
        ("2.6.0 <x@y> [InternalId=12345, Hostname=a.b] 9 bytes in 0.1, 1 KB/sec Queued mail for delivery", "12345"),
        ("2.0.0 OK  1700000000 a1-20020a05600c0000si123 - gsmtp", "a1-20020a05600c0000si123"),
        ("ok 1700000000 qp 4711", "1700000000 qp 4711"),
        ("2.0.0 Ok", ""),
        ("", ""),
    ],
)
def test_remote_id(text: str, identifier: str) -> None:
    """The server's own name for the message, from the replies of common servers."""
    assert esmtp.remote_id(text) == identifier
