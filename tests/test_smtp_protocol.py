"""The SMTP state machine by itself: dialogues, any octets in any pieces, and a slow decoder that is obviously right."""

from __future__ import annotations

import base64
import re
from fnmatch import fnmatchcase
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.model import Envelope, Facts, Notify, Recipient
from relay.smtp_protocol import (
    Chunk,
    Close,
    Conversation,
    Credentials,
    Data,
    DataDecoder,
    Dropped,
    End,
    Event,
    Limits,
    Mail,
    Policy,
    Refused,
    StartTls,
)
from tests import dialogs

HOST = "mail.example.net"
REPLY = re.compile(rb"(?:(\d{3})-[ -~]*\r\n)*(\d{3}) [ -~]*\r\n")
OPEN = Policy()
SYNCHRONIZATION = b"554 5.5.0 protocol synchronization"


def verdict(event: Event) -> str:
    if isinstance(event, End):
        return "250 2.0.0 Ok: queued as 1"
    if isinstance(event, Credentials) and (event.username, event.password) != (dialogs.USER, dialogs.PASSWORD):
        return "535 5.7.8 wrong name or password"
    return ""


class Player:
    """A listener that says yes to everything but wrong passwords, and keeps all events."""

    def __init__(self, max_size: int = 40_000_000, policy: Policy = OPEN, **limits: int) -> None:
        self.core = Conversation(HOST, Limits(**limits), max_size, policy)
        self.events: list[Event] = []
        self.obey(self.core.start())

    def obey(self, events: list[Event]) -> None:
        while events:
            self.events += events
            events = self.core.answer(verdict(events[-1])) if self.core.asks else []

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


def in_transaction(max_size: int = 40_000_000, **limits: int) -> Player:
    return Player(max_size, OPEN, **limits).send(b"EHLO x\r\n", b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


# Dialogues.


PLAYED = [
    (name, whole)
    for name in dialogs.NAMES
    for whole in (True, False)
    if name != "loop"  # that check is the listener's
    if whole or name not in ("out_of_step", "starttls_injection")  # octet by octet nothing is early
]


@pytest.mark.parametrize(("name", "whole"), PLAYED)
def test_dialogues(name: str, whole: bool) -> None:
    """Every dialogue goes as written, also when each octet comes alone."""
    dialog = dialogs.read(name)
    player, seen = Player(policy=dialog.policy, **dialog.limits), 0
    for step in dialog.steps:
        if step.tls:
            continue
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
    """A time-out or shutdown is 421; after the end nothing more is said, whatever comes, and the end stays the end."""
    player = Player()
    assert [b"421 4.4.2 time-out\r\n", Close("slow")] == player.core.give_up("421 4.4.2 time-out", "slow")
    assert [Close("")] == player.core.give_up("421 4.3.2 again", "")
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


# Logins and TLS.


GOOD = base64.b64encode(f"\0{dialogs.USER}\0{dialogs.PASSWORD}".encode())
REMOTE = Policy("optional", logins=True)


def test_logins_in_clear_are_for_clients_of_this_host() -> None:
    """Others hear 538 and see no AUTH, until TLS is on."""
    player = Player(policy=REMOTE).send(b"EHLO x\r\n", b"AUTH PLAIN " + GOOD + b"\r\n")
    assert b"AUTH" not in player.said
    assert player.said.endswith(b"538 5.7.11 logins only under TLS: switch TLS on in the client\r\n")
    assert [] == player.of(Credentials)
    player.send(b"STARTTLS\r\n", b"EHLO x\r\n")
    assert player.said.endswith(b"250 AUTH PLAIN LOGIN\r\n")
    player.send(b"AUTH PLAIN " + GOOD + b"\r\n")
    assert dialogs.USER == player.core.username


def test_implicit_tls_needs_no_starttls() -> None:
    """It is on before the first octet: AUTH is offered, STARTTLS is not."""
    player = Player(policy=Policy("implicit", logins=True)).send(b"EHLO x\r\n")
    assert b"STARTTLS" not in player.said
    assert b"AUTH PLAIN LOGIN" in player.said
    assert player.send(b"STARTTLS\r\n").said.endswith(b"503 5.5.1 TLS is on already\r\n")


def test_starttls_forgets_what_came_before() -> None:
    """Name, login and transaction; nothing that waits unread counts either (RFC 3207 §4.2)."""
    core = Conversation(HOST, Limits(), 1000, Policy("optional", logins=True, local=True))
    for line in (b"EHLO x\r\n", b"AUTH PLAIN " + GOOD + b"\r\n", b"MAIL FROM:<a@b.example>\r\n"):
        core.receive(line)
        if core.asks:
            core.answer()
    assert (dialogs.USER, True, "x") == (core.username, core.in_transaction, core.helo)
    assert [StartTls()] == core.receive(b"STARTTLS\r\n")
    core.receive(b"MAIL FROM:<evil@b.example>\r\n")
    assert [b"220 2.0.0 ready for TLS\r\n"] == core.answer()
    assert ("", False, "", "") == (core.username, core.in_transaction, core.helo, core.asks)


def test_tls_that_cannot_begin_leaves_the_session_as_it_was() -> None:
    """454, and the client may go on in clear where that is allowed."""
    core = Conversation(HOST, Limits(), 1000, REMOTE)
    core.receive(b"EHLO x\r\n")
    core.receive(b"STARTTLS\r\n")
    assert b"454 4.7.0 not now\r\n" == core.answer("454 4.7.0 not now")[0]
    assert ("x", "") == (core.helo, core.asks)


def test_a_login_may_be_refused_for_a_while() -> None:
    """Only 535 counts as a failed login; 421 ends the session."""
    core = Conversation(HOST, Limits(max_logins=1), 1000, Policy("off", logins=True, local=True))
    core.receive(b"EHLO x\r\n")
    core.receive(b"AUTH PLAIN " + GOOD + b"\r\n")
    core.answer("454 4.7.0 not now")
    assert ("", 0) == (core.username, core.failed_logins)
    core.receive(b"AUTH PLAIN " + GOOD + b"\r\n")
    refused = Refused("AUTH", "421 4.7.0 enough", None, ())
    assert [b"421 4.7.0 enough\r\n", refused, Close("")] == core.answer("421 4.7.0 enough")


def test_a_password_is_in_no_repr() -> None:
    """Events may be printed."""
    assert "Credentials(mechanism='PLAIN', username='app')" == repr(Credentials("PLAIN", "app", "not-a-real-password"))


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"])
def test_a_proxy_header_from_a_stranger_is_named(header: bytes) -> None:
    """It comes before the greeting; the log then says what to mend."""
    core = Conversation(HOST, Limits(), 1000)
    core.start(early=True)
    assert [b"554 5.5.0 a PROXY header, and this peer is not in the listener's proxy list\r\n"] == core.receive(header)[:1]


# Any octets.

POLICIES = st.builds(Policy, st.sampled_from(["off", "optional", "required", "implicit"]), logins=st.booleans(), local=st.booleans())
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
        b"AUTH PLAIN\r\n",
        b"AUTH PLAIN " + GOOD + b"\r\n",
        b"AUTH PLAIN AGFwcAB3cm9uZw==\r\n",
        b"auth login\r\n",
        b"AUTH LOGIN YXBw\r\n",
        GOOD + b"\r\n",
        b"*\r\n",
        b"=\r\n",
        b"STARTTLS\r\n",
        b"PROXY UNKNOWN\r\n",
    ]
)
OCTETS = st.one_of(
    st.lists(WORDS, max_size=25).map(b"".join), st.lists(st.one_of(WORDS, st.binary(max_size=8)), max_size=25).map(b"".join), st.binary()
)
CUTS = st.lists(st.integers(0, 2000), max_size=8)
SMALL = {"max_size": 30, "max_command": 50, "max_recipients": 2, "max_errors": 4, "max_junk": 3, "max_auth": 70, "max_logins": 2}


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


@given(OCTETS, CUTS, POLICIES)
@settings(max_examples=600)
def test_any_octets_get_valid_replies(data: bytes, cuts: list[int], policy: Policy) -> None:
    """Never an exception, never a malformed reply line, nothing after the end, and no password anywhere."""
    player = Player(policy=policy, **SMALL).send(*pieces(data, cuts))
    assert dialogs.PASSWORD not in repr(player.events)
    for event in player.events:
        if isinstance(event, bytes):
            assert REPLY.fullmatch(event)
            assert max(map(len, event.splitlines())) <= 510
    closed = [index for index, event in enumerate(player.events) if isinstance(event, Close)]
    assert closed in ([], [len(player.events) - 1])


@given(OCTETS, CUTS, POLICIES)
@settings(max_examples=600)
@example(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + b"x" * 29 + b"\r\n.\r\nNOOP\r\n", [70], OPEN)
def test_the_pieces_do_not_matter(data: bytes, cuts: list[int], policy: Policy) -> None:
    """Octet by octet gives the same events as any other cut, except where something came too early."""
    player = Player(policy=policy, **SMALL).send(*pieces(data, cuts))
    if SYNCHRONIZATION in player.said:
        return
    assert joined(Player(policy=policy, **SMALL).send(*[bytes([octet]) for octet in data]).events) == joined(player.events)


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


@given(OCTETS, CUTS, POLICIES)
@settings(max_examples=600)
def test_no_mail_before_what_the_policy_asks_for(data: bytes, cuts: list[int], policy: Policy) -> None:
    """Nothing opens a transaction before TLS where that is required, nor before a login where there are users; and no login
    is looked at in clear, except from this host."""
    player = Player(policy=policy, **SMALL).send(*pieces(data, cuts))
    secure, logged_in = policy.tls == "implicit", False
    for event, following in pairwise([*player.events, b""]):
        if isinstance(event, StartTls):
            secure, logged_in = True, False
        elif isinstance(event, Credentials):
            assert policy.logins
            assert secure or (policy.local and policy.tls != "required")
            logged_in = isinstance(following, bytes) and following.startswith(b"235")
        elif isinstance(event, Mail):
            assert secure or policy.tls != "required"
            assert logged_in or not policy.logins


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
