"""The SMTP state machine by itself: dialogues, any octets in any pieces, and a slow decoder that is obviously right."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.model import Envelope, Facts, Notify, Recipient
from relay.smtp_protocol import Chunk, Close, Conversation, Data, DataDecoder, Dropped, End, Event, Limits, Mail, Refused
from tests import dialogs

HOST = "mail.example.net"
REPLY = re.compile(rb"(?:(\d{3})-[ -~]*\r\n)*(\d{3}) [ -~]*\r\n")
SYNCHRONIZATION = b"554 5.5.0 protocol synchronization"


class Player:
    """A listener that says yes to everything and keeps all events."""

    def __init__(self, max_size: int = 40_000_000, **limits: int) -> None:
        self.core = Conversation(HOST, Limits(**limits), max_size)
        self.events: list[Event] = []
        self.obey(self.core.start())

    def obey(self, events: list[Event]) -> None:
        while events:
            self.events += events
            events = self.core.answer("250 2.0.0 Ok: queued as 1" if self.core.asks == "END-OF-MESSAGE" else "") if self.core.asks else []

    def send(self, *pieces: bytes) -> Player:
        for piece in pieces:
            self.obey(self.core.receive(piece))
        return self

    @property
    def said(self) -> bytes:
        return b"".join(event for event in self.events if isinstance(event, bytes))

    @property
    def message(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Chunk))

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def in_transaction(**limits: int) -> Player:
    return Player(**limits).send(b"EHLO x\r\n", b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


# Dialogues.


PLAYED = [
    (name, whole)
    for name in dialogs.NAMES
    for whole in (True, False)
    if name != "loop"  # that check is the listener's
    if whole or name != "out_of_step"  # octet by octet nothing is early
]


@pytest.mark.parametrize(("name", "whole"), PLAYED)
def test_dialogues(name: str, whole: bool) -> None:
    """Every dialogue goes as written, also when each octet comes alone."""
    dialog = dialogs.read(name)
    player, seen = Player(**dialog.limits), 0
    for step in dialog.steps:
        if step.send:
            player.send(*([step.send] if whole else [bytes([octet]) for octet in step.send]))
            continue
        lines = player.said.decode().splitlines()
        if step.expect:
            assert fnmatchcase(lines[seen], step.expect), f"{lines[seen]!r} is not like {step.expect!r}"
            seen += 1
        else:
            assert isinstance(player.events[-1], Close)
    assert seen == len(player.said.decode().splitlines())


# What the events hold.


def test_an_envelope_holds_what_was_said() -> None:
    """Parameters are decoded and kept; a recipient named twice stays once, with what was said first."""
    player = Player().send(
        b"EHLO x\r\n",
        b"MAIL FROM:<a@example.com> SIZE=5 RET=hdrs ENVID=job+2B1 SMTPUTF8\r\n"
        b"RCPT TO:<b@Example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Btag@example.net\r\n"
        b"RCPT TO:<b@example.net>\r\nRCPT TO:<B@example.net>\r\nDATA\r\n",
    )
    first = Recipient("b@Example.net", frozenset({Notify.SUCCESS, Notify.DELAY}), "rfc822;old+tag@example.net")
    expected = Envelope("a@example.com", (first, Recipient("B@example.net")), ret="HDRS", envid="job+1", smtputf8=True)
    assert [Mail("a@example.com", 5)] == player.of(Mail)
    assert [Data(expected)] == player.of(Data)


def test_facts_are_those_of_the_stored_message() -> None:
    """Size, longest line and eight-bit octets are counted after line ends and dots are put right."""
    player = in_transaction().send(b"DATA\r\n", b"..\r\nab\ncd\xe9\r", b"\r\n", b".\r\n")
    assert b".\r\nab\r\ncd\xe9\r\n\r\n" == player.message
    assert [End(Facts(size=14, eight_bit=True, longest_line=3))] == player.of(End)


def test_a_refusal_names_the_command_for_the_log() -> None:
    """The recipient of a refused RCPT is shown as it was written; a refused message shows all its recipients."""
    player = in_transaction(max_size=1).send(b"RCPT TO:<bad one@example.net>\r\n", b"DATA\r\nx\r\n.\r\n"[:6], b"x\r\n.\r\n")
    assert [
        Refused("RCPT", "553 5.1.3 bad recipient address syntax", "a@example.com", ("bad one@example.net",)),
        Refused("END-OF-MESSAGE", "552 5.3.4 message size exceeds 1 octets", "a@example.com", ("b@example.net",)),
    ] == player.of(Refused)


def test_nothing_is_looked_at_while_a_verdict_is_due() -> None:
    """Input that comes during a commit waits for its answer."""
    core = Conversation(HOST, Limits(), 1000)
    core.receive(b"EHLO x\r\n")
    assert [Mail("a@b.example", 0)] == core.receive(b"MAIL FROM:<a@b.example>\r\nRSET\r\n")
    assert [] == core.receive(b"NOOP\r\n")
    assert "MAIL" == core.asks
    assert [b"250 2.1.0 Ok\r\n", b"250 2.0.0 Ok\r\n", b"250 2.0.0 Ok\r\n"] == core.answer()


def test_a_verdict_may_be_a_refusal() -> None:
    """A refused MAIL opens no transaction, a refused DATA keeps it, a refused message ends it; 421 closes."""
    core = Conversation(HOST, Limits(), 1000)
    core.receive(b"EHLO x\r\n")
    core.receive(b"MAIL FROM:<a@b.example>\r\n")
    core.answer("452 4.3.1 full")
    assert not core.in_transaction
    core.receive(b"MAIL FROM:<a@b.example>\r\n")
    core.answer()
    core.receive(b"RCPT TO:<a@b.example>\r\nDATA\r\n")
    core.answer("452 4.3.1 full")
    assert core.in_transaction
    core.receive(b"DATA\r\n")
    core.answer()
    core.receive(b".\r\n")
    said = core.answer("451 4.3.0 no\r\n250 forged")
    assert b"451 4.3.0 no??250 forged\r\n" == said[0]
    assert not core.in_transaction
    core.receive(b"MAIL FROM:<a@b.example>\r\n")
    refused = Refused("MAIL", "421 4.3.2 later", "a@b.example", ())
    assert [b"421 4.3.2 later\r\n", refused, Close("")] == core.answer("421 4.3.2 later")


def test_a_message_can_be_dropped_on_its_way() -> None:
    """What follows is swallowed, and the reason given stays the first one."""
    player = in_transaction(max_size=100).send(b"DATA\r\n", b"one\r\n")
    player.core.drop("452 4.3.1 full")
    player.core.drop("451 4.3.0 again")
    player.send(b"x" * 1000, b"\r\n.\r\n")
    assert b"one" == player.message
    assert player.said.endswith(b"452 4.3.1 full\r\n")
    player.core.drop("452 4.3.1 no message is on its way")
    assert not player.core.in_transaction


def test_a_breach_is_told_at_once_and_answered_at_the_end() -> None:
    """The spool can forget the message although the client goes on sending."""
    player = in_transaction(max_size=100).send(b"DATA\r\n", b"x" * 101)
    assert [Dropped()] == player.of(Dropped)
    assert player.core.receiving
    said = player.said
    player.send(*[b"y" * 100] * 100)
    assert said == player.said
    assert player.send(b"\r\n.\r\n").said.endswith(b"552 5.3.4 message size exceeds 100 octets\r\n")


def test_giving_up_says_so_once() -> None:
    """A time-out or shutdown is 421; after the end nothing more is said, whatever comes."""
    player = Player()
    assert [b"421 4.4.2 time-out\r\n", Close("slow")] == player.core.give_up("421 4.4.2 time-out", "slow")
    assert [] == player.core.give_up("421 4.3.2 again", "")
    assert [] == player.core.receive(b"EHLO x\r\n")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"EHLO x\r\n", [SYNCHRONIZATION + b": input before the greeting\r\n"]),
        (b"\x16\x03\x01", []),
    ],
)
def test_input_before_the_greeting_gets_none(octets: bytes, expected: list[bytes]) -> None:
    """No SMTP client speaks first."""
    core = Conversation(HOST, Limits(), 1000)
    assert [] == core.start(early=True)
    events = core.receive(octets)
    assert expected == [event for event in events if isinstance(event, bytes)]
    assert isinstance(events[-1], Close)


# Any octets.

WORDS = st.sampled_from(
    [
        b"EHLO x\r\n",
        b"HELO x\r\n",
        b"mail FROM:<a@b.example>\r\n",
        b"MAIL FROM:<> SIZE=10 RET=FULL\r\n",
        b"MAIL FROM:<\xc3\xa9@b.example> SMTPUTF8\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"RCPT TO:<e@f.example> NOTIFY=NEVER\r\n",
        b"DATA\r\n",
        b"DATA\n",
        b"Subject: x\r\n",
        b"..x\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"\n.\n",
        b"RSET\r\n",
        b"NOOP\n",
        b"QUIT\r\n",
        b"XYZZY\r\n",
        b"\r\n",
        b"\x00\r\n",
        b"NOOP " + b"n" * 60 + b"\r\n",
        b"AUTH\r\n",
    ]
)
OCTETS = st.one_of(
    st.lists(WORDS, max_size=25).map(b"".join), st.lists(st.one_of(WORDS, st.binary(max_size=8)), max_size=25).map(b"".join), st.binary()
)
CUTS = st.lists(st.integers(0, 2000), max_size=8)
SMALL = {"max_size": 30, "max_command": 50, "max_recipients": 2, "max_errors": 4, "max_junk": 3}


def joined(events: list[Event]) -> list[Event]:
    """Events with the pieces of each message put together; those of a message that was dropped are left out."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, Chunk) and found and isinstance(found[-1], Chunk):
            found[-1] = Chunk(found[-1].data + event.data)
        elif isinstance(event, Dropped) and found and isinstance(found[-1], Chunk):
            found[-1] = event
        else:
            found.append(event)
    return found


@given(OCTETS, CUTS)
@settings(max_examples=400)
def test_any_octets_get_valid_replies(data: bytes, cuts: list[int]) -> None:
    """Never an exception, never a malformed reply line, nothing after the end, and no more input kept than a line."""
    player = Player(**SMALL).send(*pieces(data, cuts))
    for event in player.events:
        if isinstance(event, bytes):
            assert REPLY.fullmatch(event)
            assert max(map(len, event.splitlines())) <= 510
    closed = [index for index, event in enumerate(player.events) if isinstance(event, Close)]
    assert closed in ([], [len(player.events) - 1])


@given(OCTETS, CUTS)
@settings(max_examples=400)
@example(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + b"x" * 29 + b"\r\n.\r\nNOOP\r\n", [70])
def test_the_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    """Octet by octet gives the same events as any other cut, except where something came too early."""
    player = Player(**SMALL).send(*pieces(data, cuts))
    if SYNCHRONIZATION in player.said:
        return
    assert joined(Player(**SMALL).send(*[bytes([octet]) for octet in data]).events) == joined(player.events)


def test_a_flood_without_line_ends_is_not_kept() -> None:
    """A command line that never ends costs one refusal and no memory; a message without line ends likewise."""
    player = Player().send(*[b"x" * 65536] * 50)
    assert 1 == player.said.count(b"500 5.5.2 line too long")
    assert b"" == player.core._input
    player = in_transaction(max_line=1000).send(b"DATA\r\n", *[b"x" * 65536] * 50)
    assert b"" == player.core._input
    assert b"" == player.message
    assert player.send(b"\r\n.\r\n").said.endswith(b"500 5.5.2 line too long: more than 1000 octets\r\n")


# The message.


def reference(raw: bytes) -> tuple[bytes, bytes]:
    """(message, what follows its end), octet by octet as the rules say it."""
    out, index, start = bytearray(), 0, "line"
    while True:
        if start == "line" and raw.startswith(b".\r\n", index):
            return bytes(out), raw[index + 3 :]
        if (start == "line" and raw[index : index + 1] == b".") or (start == "bare" and raw.startswith(b"..", index)):
            index += 1
        if raw.startswith(b"\r\n", index):
            out += b"\r\n"
            index, start = index + 2, "line"
        elif raw[index] in b"\r\n":
            out += b"\r\n"
            index, start = index + 1, "bare"
        else:
            out.append(raw[index])
            index, start = index + 1, ""


SOUP = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.", b"\xe9", b"\x00"]), max_size=40).map(b"".join)


@given(SOUP, SOUP, CUTS)
@settings(max_examples=1500)
@example(b".\r.\n..\r\r\n..\n", b"", [1, 2, 3])
def test_the_decoder_agrees_with_the_rules(body: bytes, after: bytes, cuts: list[int]) -> None:
    """Any mixture of CR, LF and dots, cut anywhere, gives what the slow decoder gives, and the same facts."""
    raw = body + b"\r\n.\r\n" + after
    message, rest = reference(raw)
    decoder, decoded, end = DataDecoder(10**6, 10**6), b"", None
    todo = pieces(raw, cuts)
    while end is None:
        piece, end = decoder.feed(todo.pop(0))
        decoded += piece
    assert (message, rest) == (decoded, end + b"".join(todo))
    assert (len(message), not message.isascii()) == (decoder.size, decoder.eight_bit)
    assert max(map(len, message.split(b"\r\n"))) == decoder.longest_line


@pytest.mark.parametrize("before", [b"\n", b"\r", b"\r\n", b"\r\r\n"])
@pytest.mark.parametrize("dot", [b".", b"\x00.", b".\x00"])
@pytest.mark.parametrize("after", [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r\n"])
def test_only_the_real_end_ends_a_message(before: bytes, dot: bytes, after: bytes) -> None:
    """None of the sequences of SMTP smuggling ends a message (CVE-2023-51764, CVE-2023-51765, CVE-2024-27305)."""
    decoder = DataDecoder(10**6, 10**6)
    _, end = decoder.feed(b"x" + before + dot + after + b"MAIL FROM:<evil@example.com>")
    assert (before.endswith(b"\r\n") and dot == b"." and after == b"\r\n") == (end is not None)


def test_a_client_that_stuffs_dots_after_bare_line_ends_and_one_that_does_not() -> None:
    """smtplib doubles such a dot, curl leaves it; both mails arrive as they were written."""
    assert b"a\r\n.b\r\n" == reference(b"a\n..b\r\n.\r\n")[0]
    assert b"a\r\n.b\r\n" == reference(b"a\n.b\r\n.\r\n")[0]
    assert b"a\r\n.\r\nb\r\n" == reference(b"a\n.\nb\r\n.\r\n")[0]
