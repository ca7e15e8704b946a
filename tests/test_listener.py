"""The listener over real sockets: dialogues, order of commit and reply, faults of the spool and of clients, limits, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import smtplib
import socket
import struct
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP

from relay import sockets
from relay.errors import SpoolError, SpoolFull, Unavailable
from relay.listener import ClientSession, Limits, Listeners, ListenerSettings, MessageEnvelope
from relay.listener.shared import Shared
from relay.metrics import Metrics
from relay.model import EditKind
from relay.spool.base import Health
from tests import dialogs
from tests.fakes import MemorySpool, RecordingEvents
from tests.listening import ENVELOPE, HOST, NOW, Client, Keyring, Running, Users, listening, trust

# What a client sees.


@pytest.mark.parametrize("name", dialogs.NAMES)
@pytest.mark.parametrize("family", ["127.0.0.1:0", "unix"])
async def test_dialogues(name: str, family: str, tmp_path: Path) -> None:
    """Every dialogue goes as written over TCP and over a unix socket."""
    dialog = dialogs.read(name)
    address = f"unix:{tmp_path}/smtp.sock" if family == "unix" else family
    users = Users() if dialog.policy.logins else None
    more = {"tls": dialog.policy.tls, "certificate": Keyring(), "users": users}
    async with listening(address, more=more, **{"login_delay": 0.001, **dialog.limits}) as running:  # type: ignore[arg-type]
        client = await running.connect()
        await dialogs.play(dialog.steps, client.reader, client.writer, trust(tmp_path))
        assert dialogs.PASSWORD not in repr(running.events.lines)


async def test_several_listeners_at_once(tmp_path: Path) -> None:
    """IPv4, IPv6 and a unix socket, each with its name in the log and in the message's client."""
    spool, events = MemorySpool(), RecordingEvents()
    names = {"four": "127.0.0.1:0", "six": "[::1]:0", "unix": f"unix:{tmp_path}/smtp.sock"}
    settings = [ListenerSettings(name, address) for name, address in names.items()]
    listeners = Listeners(settings, spool=spool, hostname=HOST, events=events, metrics=Metrics(), clock=lambda: NOW)  # type: ignore[arg-type]
    await listeners.start()
    assert list(names) == [name for name, _ in listeners.addresses]
    for _, address in listeners.addresses:
        client = await Running(listeners, spool, events, Metrics(), address).connect()
        await client.begin()
        assert (await client.say(b".\r\n")).startswith("250")
        await client.leave()
    assert [("four", "127.0.0.1", "localhost"), ("six", "::1", "localhost"), ("unix", "unix", "localhost")] == [
        (entry.client.listener, entry.client.address, entry.client.name) for entry in spool.entries
    ]
    await listeners.stop(5)
    assert [] == listeners.addresses
    assert not (tmp_path / "smtp.sock").exists()


async def test_what_is_stored() -> None:
    """The octets with line ends put right, the header block, the edits, the Message-ID and the facts."""
    async with listening() as running:
        client = await running.connect()
        await client.begin()
        reply = await client.say(b"Subject: x\nBcc: c@example.net\r\n\r\n..dot\r\n.\r\n")
        (entry,) = running.spool.entries
        assert f"250 2.0.0 Ok: queued as {entry.queue_id}" == reply
        assert b"Subject: x\r\nBcc: c@example.net\r\n\r\n.dot\r\n" == running.spool.messages[entry.queue_id]
        assert b"Subject: x\r\nBcc: c@example.net\r\n" == entry.header
        assert f"<{entry.queue_id}@{HOST}>" == entry.message_id
        assert ("app@example.com", ["a@example.net"]) == (entry.envelope.reverse_path, [r.address for r in entry.envelope.recipients])
        assert (40, NOW, "ESMTP", "app") == (entry.facts.size, entry.arrived, entry.client.protocol, entry.client.helo)
        assert [EditKind.PREPEND, EditKind.REMOVE, EditKind.APPEND] == [edit.kind for edit in entry.edits]
        assert ["accepted", "message_id", "queued"] == [line["event"] for line in running.events.lines]
        assert ['relay_messages_received_total{listener="local"} 1.0'] == running.metric("relay_messages_received_total{")


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: x\r\nMessage-ID:\r\n <a@b>\r\n\r\n" + b"y" * 60_000 + b"\r\n",
        b"no header at all\r\nnor an empty line\r\n",
        b"\r\nonly a body\r\n",
        b"Subject: x\r\n",
        b"",
        b"X: " + b"long " * 13_000 + b"\r\n\r\nbody\xff\x00\r\n",
    ],
)
@pytest.mark.parametrize("step", [1 << 20, 1000])
async def test_messages_are_stored_octet_by_octet(raw: bytes, step: int) -> None:
    """Whatever the header block looks like and however the client cuts it."""
    async with listening() as running:
        client = await running.connect()
        await client.begin()
        for start in range(0, len(raw), step):
            client.writer.write(raw[start : start + step])
            await client.writer.drain()
        assert (await client.say(b".\r\n")).startswith("250")
        (entry,) = running.spool.entries
        assert raw == running.spool.messages[entry.queue_id]
        assert raw.startswith(entry.header)
        assert len(raw) == entry.facts.size


async def test_smtplib_sends_with_crlf_and_with_bare_lf() -> None:
    """smtplib passes bare LF through when given octets, and stuffs dots after it; long lines are no trouble."""
    message = EmailMessage()
    message["Subject"], message["Bcc"] = "x", "c@example.net"
    message.set_content("one\n.two\n" + "z" * 5000 + "\n", cte="8bit")
    bare = b"Subject: y\n\n.one\n..two\n" + b"z" * 5000 + b"\n"

    async with listening() as running:
        host, port = sockets.parse(running.address)

        def send() -> None:
            with smtplib.SMTP(host, port, local_hostname="app", timeout=10) as server:
                server.sendmail("app@example.com", ["a@example.net", "b@example.net"], message.as_string())
                server.sendmail("app@example.com", ["a@example.net"], bare, mail_options=["BODY=8BITMIME"])

        await asyncio.to_thread(send)
        first, second = running.spool.messages.values()
        assert message.as_bytes().replace(b"\n", b"\r\n") == first
        assert bare.replace(b"\n", b"\r\n") + b"\r\n" == second  # smtplib ends it with CRLF once more
        assert 5000 == running.spool.entries[1].facts.longest_line


async def test_a_plain_session_gets_the_codes_of_aiosmtpd() -> None:
    """Everyday commands are answered as another server answers them."""
    commands = [*ENVELOPE[1:], b"NOOP\r\n", ENVELOPE[0], *ENVELOPE[1:3], b"RSET\r\n", *ENVELOPE[2:], b"VRFY a\r\n", b"EXPN a\r\n"]
    commands += [*ENVELOPE[1:], b"Subject: x\r\n\r\n.\r\n", b"QUIT\r\n"]

    async def codes(client: Client) -> list[str]:
        return [(await client.reply())[:3], *[(await client.say(command))[:3] for command in commands]]

    server = await asyncio.get_running_loop().create_server(lambda: SMTP(object()), "127.0.0.1", 0)
    client = Client(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    theirs = await codes(client)
    await client.leave()
    server.close()
    async with listening() as running:
        assert theirs == await codes(await running.connect())


# The order of commit and reply, and clients that do not wait for it.


class Collector:
    """A handler as aiosmtpd has them."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.seen: list[tuple[object, ...]] = []

    async def handle_DATA(self, server: object, session: ClientSession, envelope: MessageEnvelope) -> str:
        self.seen.append((session.host_name, session.extended_smtp, envelope.mail_from, envelope.rcpt_tos, envelope.facts.size))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("250 2.0.0 thrown away", "250 2.0.0 thrown away"), (ValueError("secret"), "451 4.3.0 internal error; try again later")],
)
async def test_another_handler_can_take_the_messages(answer: str | Exception, expected: str) -> None:
    """aiosmtpd's hook gets the session and the envelope and gives the reply; its exception is told to nobody outside."""
    handler = Collector(answer)
    async with listening(handler=handler) as running:
        client = await running.connect()
        await client.begin()
        assert expected == await client.say(b"hello\r\n.\r\n")
    assert [("app", True, "app@example.com", ["a@example.net"], 7)] == handler.seen
    assert [] == running.spool.entries
    assert isinstance(answer, Exception) == bool(running.events.found("bug"))


async def test_250_comes_only_after_the_commit() -> None:
    """While the commit is under way nothing is said, and what the client sends meanwhile waits."""
    async with listening() as running:
        running.spool.gate.clear()
        client = await running.connect()
        await client.begin()
        client.writer.write(b".\r\nNOOP\r\n")
        await running.spool.until(lambda: running.spool.committing == 1)
        client.writer.write(b"NOOP\r\n")
        reply = asyncio.create_task(client.reply())
        await (await running.connect()).reply()
        assert not reply.done()
        assert [] == running.events.found("accepted")
        running.spool.gate.set()
        assert (await reply).startswith("250 2.0.0 Ok: queued")
        assert "250 2.0.0 Ok" == await client.reply()
        assert "250 2.0.0 Ok" == await client.reply()


async def test_a_slow_commit_is_not_timed_out() -> None:
    """Nobody knows yet whether the message is stored, so nothing may be said however long it takes."""
    async with listening(command_timeout=0.02, linger=0.02) as running:
        running.spool.gate.clear()
        client = await running.connect()
        await client.begin()
        client.writer.write(b".\r\n")
        await running.spool.until(lambda: running.spool.committing == 1)
        idle = await running.connect()  # its time-out comes later than the other's would
        await idle.reply()
        assert (await idle.reply()).startswith("421 4.4.2")
        running.spool.gate.set()
        assert (await client.reply()).startswith("250")


@pytest.mark.parametrize("how", ["half-close", "close", "reset"])
async def test_a_client_that_leaves_does_not_end_a_commit(how: str) -> None:
    """The message stays; who only finished sending still gets the reply; who left is named in the log."""
    async with listening() as running:
        running.spool.gate.clear()
        client = await running.connect()
        await client.begin()
        client.writer.write(b".\r\n")
        await running.spool.until(lambda: running.spool.committing == 1)
        if how == "half-close":
            client.writer.write_eof()
        else:
            if how == "reset":
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.close()
        await (await running.connect()).reply()
        running.spool.gate.set()
        await running.spool.until(lambda: len(running.spool.entries) == 1)
        if how == "half-close":
            assert (await client.reply()).startswith("250 2.0.0 Ok: queued")
            assert b"" == await client.rest()
        if how == "reset":
            (line,) = await running.events.wait("warning")
            assert "stored, but the connection ended before the reply" in str(line["text"])


async def test_a_client_that_leaves_a_failed_commit_is_not_worth_a_line() -> None:
    """Nothing was stored, so nothing can be sent twice."""
    async with listening() as running:
        running.spool.failure = SpoolFull("no room")
        running.spool.gate.clear()
        client = await running.connect()
        await client.begin()
        client.writer.write(b".\r\n")
        await running.spool.until(lambda: running.spool.committing == 1)
        await running.listeners.stop(0.01)
        running.spool.gate.set()
        await running.spool.until(lambda: running.spool.open == 0)
        assert [] == running.events.found("warning")


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind() -> None:
    """Half a message is forgotten, and said to be."""
    async with listening() as running:
        client = await running.connect()
        await client.begin()
        client.writer.write(b"half a message")
        client.writer.close()
        await running.events.wait("warning")
        await running.spool.until(lambda: running.spool.open == 0)
        assert [] == running.spool.entries


# The spool in trouble.


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (SpoolFull("no room"), "452 4.3.1 insufficient system storage; try again later"),
        (SpoolError("disk error"), "451 4.3.0 the message could not be stored; try again later"),
        (RuntimeError("secret\r\n250 forged \xff"), "451 4.3.0 internal error; try again later"),
    ],
)
async def test_a_failed_commit_is_temporary_and_tells_no_details(failure: Exception, reply: str) -> None:
    """The client is asked to come again; the session goes on, and so does the spool when it is well."""
    async with listening() as running:
        client = await running.connect()
        running.spool.failure = failure
        await client.begin()
        assert reply == await client.say(b".\r\n")
        running.spool.failure, running.spool.refusal = None, failure
        for command in ENVELOPE[1:3]:
            await client.say(command)
        assert reply == await client.say(ENVELOPE[3])
        running.spool.refusal = None
        assert (await client.say(ENVELOPE[3])).startswith("354")
        assert (await client.say(b".\r\n")).startswith("250")
        assert isinstance(failure, RuntimeError) == bool(running.events.found("bug"))
        assert 2 == len(running.events.found("rejected", reply=reply))


@pytest.mark.parametrize(
    ("health", "reply"),
    [
        (Health(ok=False, full=True, why="disk full", free=0), "452 4.3.1"),
        (Health(ok=False, full=False, why="read-only", free=9), "451 4.3.0"),
    ],
)
async def test_an_unhealthy_spool_takes_no_transaction(health: Health, reply: str) -> None:
    """MAIL is refused before the client sends anything large; the next one passes once the spool is well."""
    async with listening() as running:
        client = await running.connect()
        await client.reply()
        await client.say(ENVELOPE[0])
        well, running.spool.health_ = running.spool.health_, health
        assert (await client.say(ENVELOPE[1])).startswith(reply)
        running.spool.health_ = well
        assert (await client.say(ENVELOPE[1])).startswith("250")
        assert [f'relay_messages_rejected_total{{listener="local",reason="{reply}"}} 1.0'] == running.metric(
            "relay_messages_rejected_total{"
        )


async def test_a_broken_health_check_is_our_error() -> None:
    """An exception nobody expected is 451, and the traceback is in the log."""
    async with listening() as running:
        client = await running.connect()
        await client.reply()
        await client.say(ENVELOPE[0])
        running.spool.health_ = None  # type: ignore[assignment]
        assert "451 4.3.0 internal error; try again later" == await client.say(ENVELOPE[1])
        assert 1 == len(running.events.found("bug"))


async def test_an_error_in_the_conversation_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state cannot be trusted any more."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with listening() as running:
        client = await running.connect()
        await client.reply()
        monkeypatch.setattr("relay.smtp_protocol.Conversation.receive", broken)
        assert "451 4.3.0 internal error; try again later" == await client.say(b"NOOP\r\n")
        assert b"" == await client.rest()


async def test_a_message_that_cannot_be_cleared_away_is_only_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hears its refusal all the same."""

    async def failing(self: object) -> None:
        raise SpoolError("disk error")

    monkeypatch.setattr("tests.fakes.MemoryIncoming.abort", failing)
    async with listening(max_received=0) as running:
        client = await running.connect()
        await client.begin()
        assert (await client.say(b"Received: x\r\n\r\n.\r\n")).startswith("554 5.4.6")
        await running.events.wait("warning")


# Limits.


async def test_a_message_waits_while_the_spool_writes() -> None:
    """No more than about a megabyte is taken in ahead of the disk; then the client has to wait."""
    async with listening() as running:
        running.spool.drain_gate.clear()
        client = await running.connect()
        await client.begin()
        body = (b"x" * 998 + b"\r\n") * 20_000
        client.writer.write(body + b".\r\n")
        reply = asyncio.create_task(client.reply())
        await (await running.connect()).reply()
        assert not reply.done()
        running.spool.drain_gate.set()
        assert (await reply).startswith("250")
        assert [body] == list(running.spool.messages.values())


async def test_a_commit_waits_for_a_drain_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the drain fails: the commit says what went wrong."""

    async def failing(self: object) -> None:
        await running.spool.drain_gate.wait()
        raise SpoolError("disk error")

    monkeypatch.setattr("tests.fakes.MemoryIncoming.drain", failing)
    monkeypatch.setattr("relay.listener.intake._DRAIN", 10)
    async with listening() as running:
        running.spool.drain_gate.clear()
        client = await running.connect()
        await client.begin()
        client.writer.write(b"x" * 20 + b"\r\n.\r\n")
        await (await running.connect()).reply()
        assert 0 == running.spool.committing
        running.spool.drain_gate.set()
        assert (await client.reply()).startswith("250")


async def test_a_message_cut_off_while_the_spool_writes_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cleared away only when nobody writes it any more."""
    monkeypatch.setattr("relay.listener.intake._DRAIN", 10)
    async with listening() as running:
        running.spool.drain_gate.clear()
        client = await running.connect()
        await client.begin()
        client.writer.write(b"x" * 20 + b"\r\n")
        await (await running.connect()).reply()
        await running.listeners.stop(0.01)
        assert 1 == running.spool.open
        running.spool.drain_gate.set()
        await running.spool.until(lambda: running.spool.open == 0)


async def test_octets_in_flight_are_limited_over_all_clients() -> None:
    """A client that would go over is asked to come again: at MAIL by its SIZE, or when its message grows."""
    async with listening(bytes_in_flight=1000) as running:
        first, second = await running.connect(), await running.connect()
        await first.begin()
        await second.begin()
        first.writer.write(b"x" * 600 + b"\r\n")
        second.writer.write(b"y" * 600 + b"\r\n")
        await running.spool.until(lambda: running.spool.open == 1)
        replies = sorted([await first.say(b".\r\n"), await second.say(b".\r\n")])
        assert ["250 2.0.0", "452 4.3.1"] == [reply[:9] for reply in replies]
        assert (await first.say(b"MAIL FROM:<> SIZE=1001\r\n")).startswith("452 4.3.1")
        assert (await first.say(b"MAIL FROM:<> SIZE=1000\r\n")).startswith("250")
        for command in ENVELOPE[2:]:
            await first.say(command)
        assert (await first.say(b"x" * 1001 + b"\r\n.\r\n")).startswith("452 4.3.1")


async def test_a_header_block_beyond_the_limit_is_refused() -> None:
    """Its end must be known, or what must not be seen could hide behind it; a body without header may be long."""
    async with listening(max_header=1000, max_line=200) as running:
        client = await running.connect()
        await client.begin()
        assert (await client.say(b"X: y\r\n" * 200 + b"\r\n.\r\n")).startswith("552 5.3.4 message header")
        for command in ENVELOPE[1:]:
            await client.say(command)
        assert (await client.say(b"no header\r\n" * 200 + b".\r\n")).startswith("250")


async def test_too_many_connections() -> None:
    """One too many hears 421; when somebody leaves there is room again. The log has one line."""
    async with listening(max_connections=1) as running:
        first = await running.connect()
        await first.reply()
        for _ in range(2):
            assert b"421 4.7.0 too many connections; try again later\r\n" == await (await running.connect()).rest()
        assert 1 == len(running.events.found("warning"))
        await first.say(b"QUIT\r\n")
        assert b"" == await first.rest()
        assert (await (await running.connect()).reply()).startswith("220")


@pytest.mark.parametrize(("files", "room"), [(101, False), (resource.RLIM_INFINITY, True)])
async def test_open_files_are_left_for_others(files: int, room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections are allowed, a hundred files stay free."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    async with listening() as running:
        assert (await (await running.connect()).reply()).startswith("220")
        assert room == (await (await running.connect()).reply()).startswith("220")


async def test_connections_of_one_client_are_limited() -> None:
    """Only for clients from elsewhere; all apps of this host share its address."""

    class Member:
        deadline = 0.0

        def expire(self) -> None: ...
        def wind_up(self) -> None: ...
        def cut(self) -> None: ...

    limits, events = Limits(max_connections_per_client=2), RecordingEvents()
    shared = Shared(spool=MemorySpool(), hostname=HOST, events=events, metrics=Metrics(), clock=lambda: NOW, limits=limits)  # type: ignore[arg-type]
    members = [Member() for _ in range(4)]
    assert [True, True, False] == [shared.join(member, "192.0.2.1", exempt=False) for member in members[:3]]
    assert shared.join(members[3], "192.0.2.2", exempt=False)
    assert ["too many connections from [192.0.2.1]: more are refused"] == [line["text"] for line in events.found("warning")]
    for member in members[:2]:
        shared.leave(member, "192.0.2.1", exempt=False)
    assert shared.join(members[2], "192.0.2.1", exempt=False)
    assert all(shared.join(Member(), "127.0.0.1", exempt=True) for _ in range(5))


@pytest.mark.parametrize("sent", [(), (b"EHL",), ENVELOPE[:2], (*ENVELOPE, b"half")])
async def test_an_idle_client_hears_421(sent: tuple[bytes, ...]) -> None:
    """Before its first command, in the middle of one, in a transaction and in a message; the last two are worth a log line."""
    async with listening(command_timeout=0.05, linger=0.05) as running:
        client = await running.connect()
        await client.reply()
        for octets in sent:
            client.writer.write(octets)
            if octets.endswith(b"\r\n"):
                await client.reply()
        assert b"421 4.4.2 time-out; closing the connection\r\n" == await client.rest()
        assert ([f"time-out after {sent[-1 - (len(sent) > 4)][:4].decode()}"] if len(sent) > 1 else []) == [
            str(line["text"]).partition(" (")[0] for line in running.events.found("warning")
        ]


async def test_a_message_that_drips_is_cut_off() -> None:
    """Octets put the deadline off only as fast as the lowest rate allows (slowloris)."""
    async with listening(command_timeout=0.05, min_data_rate=1_000_000, linger=0.05) as running:
        client = await running.connect()
        await client.begin()
        reply = asyncio.create_task(client.reply())
        with contextlib.suppress(ConnectionError):
            while not reply.done():
                client.writer.write(b"x")
                await client.writer.drain()
                await asyncio.wait([reply], timeout=0.002)
        assert (await reply).startswith("421 4.4.2")
        await running.spool.until(lambda: running.spool.open == 0)


async def test_a_client_that_never_reads_is_cut_off() -> None:
    """Replies that nobody takes do not pile up, and the connection ends without its consent."""
    async with listening(command_timeout=0.2, linger=0.05, max_junk=10**9) as running:
        client = await running.connect()
        await client.reply()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]

        async def flood() -> None:
            while True:
                client.writer.write(b"HELP\r\n" * 1000)
                await client.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(), 10)


async def test_a_client_that_reads_again_goes_on() -> None:
    """Many replies at once only make the listener wait."""
    count = 100_000
    async with listening(max_junk=10**9) as running:
        client = await running.connect()
        await client.reply()
        one = await client.say(b"HELP\r\n")
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"HELP\r\n" * count)
        await (await running.connect()).reply()
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert f"{one}\r\n".encode() * count == await asyncio.wait_for(client.reader.readexactly((len(one) + 2) * count), 10)


async def test_what_speaks_first_is_turned_away() -> None:
    """A client whose input is there before the greeting is no SMTP client."""
    async with listening() as running:
        host, port = sockets.parse(running.address)
        with socket.create_connection((host, port)) as sock:  # connected, but the loop has not run yet
            sock.sendall(b"EHLO x\r\n")
            loop = asyncio.get_running_loop()
            sock.setblocking(False)
            assert (await loop.sock_recv(sock, 1000)).startswith(b"554 5.5.0")


async def test_a_tls_hello_is_explained_in_the_log() -> None:
    """The admin reads what is wrong; the client sees the end."""
    async with listening() as running:
        client = await running.connect()
        await client.reply()
        client.writer.write(b"\x16\x03\x01")
        assert b"" == await client.rest()
        (line,) = running.events.found("warning")
        assert "TLS hello, but this listener has no TLS" in str(line["text"])


# Start and stop.


async def test_a_port_that_is_taken_leaves_no_listener_behind(tmp_path: Path) -> None:
    """Start fails as a whole and names who has the port."""
    async with listening() as running:
        settings = [ListenerSettings("unix", f"unix:{tmp_path}/smtp.sock"), ListenerSettings("local", running.address)]
        listeners = Listeners(
            settings,
            spool=MemorySpool(),  # type: ignore[arg-type]
            hostname=HOST,
            events=RecordingEvents(),
            metrics=Metrics(),
            clock=lambda: NOW,
        )
        with pytest.raises(Unavailable, match=running.address) as caught:
            await listeners.start()
        assert 69 == caught.value.exit_code
        assert [] == listeners.addresses
        assert not (tmp_path / "smtp.sock").exists()


async def test_stop_closes_idle_clients_and_lets_messages_finish() -> None:
    """Who waits for a command hears 421; a message on its way in is taken, then 421."""
    async with listening() as running:
        idle, busy, committing = [await running.connect() for _ in range(3)]
        await idle.reply()
        await busy.begin()
        await committing.begin()
        running.spool.gate.clear()
        committing.writer.write(b".\r\n")
        await running.spool.until(lambda: running.spool.committing == 1)
        stopping = asyncio.create_task(running.listeners.stop(10))
        assert "421 4.3.2 shutting down; try again later" == await idle.reply()
        idle.writer.close()
        with pytest.raises(ConnectionRefusedError):
            await running.connect()
        busy.writer.write(b".\r\nMAIL FROM:<>\r\n")
        await running.spool.until(lambda: running.spool.committing == 2)
        running.spool.gate.set()
        for client in (busy, committing):
            assert (await client.reply()).startswith("250 2.0.0 Ok: queued")
            assert (await client.reply()).startswith("421 4.3.2")
            client.writer.close()
        await stopping
        assert 2 == len(running.spool.entries)


async def test_stop_before_start_does_nothing() -> None:
    """A daemon that failed to start stops all the same, and stopping twice is no harm."""
    listeners = Listeners(
        [],
        spool=MemorySpool(),  # type: ignore[arg-type]
        hostname=HOST,
        events=RecordingEvents(),
        metrics=Metrics(),
        clock=lambda: NOW,
    )
    await listeners.stop(1)
    await listeners.start()
    await listeners.stop(1)
    await listeners.stop(1)


async def test_stop_does_not_wait_for_ever() -> None:
    """After the grace a half message hears 421; a commit under way is left without an answer, because there is none."""
    async with listening(linger=0.05) as running:
        busy, committing, piped = [await running.connect() for _ in range(3)]
        for client in (busy, committing, piped):
            await client.begin()
        running.spool.gate.clear()
        committing.writer.write(b".\r\n")
        await running.spool.until(lambda: running.spool.committing == 1)
        await running.listeners.stop(0.01)
        assert b"421 4.3.2 shutting down; try again later\r\n" == await busy.rest()
        assert b"" == await committing.rest()
        running.spool.gate.set()
        await running.spool.until(lambda: len(running.spool.entries) == 1)


# Mail that nobody in this project wrote.


def corpus() -> list[Path]:
    return [path for path in sorted(Path(os.environ["RELAY_CORPUS"]).rglob("*")) if path.is_file() and path.stat().st_size]


@pytest.mark.skipif("RELAY_CORPUS" not in os.environ, reason="RELAY_CORPUS does not name a directory of messages")
async def test_the_corpus_is_stored_octet_by_octet() -> None:
    """Every message is taken, and stored as it was sent, with CRLF at the end of its lines; the header block is its beginning."""
    async with listening(max_received=10**6, max_junk=10**6) as running:
        client = await running.connect()
        await client.begin()
        for path in corpus():
            stored = re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())
            stored += b"" if stored.endswith(b"\r\n") else b"\r\n"
            client.writer.write(re.sub(rb"^\.", b"..", stored, flags=re.MULTILINE))
            reply = await client.say(b".\r\n")
            assert reply.startswith("250"), f"{path}: {reply}"
            entry = running.spool.entries.pop()
            assert stored == running.spool.messages.pop(entry.queue_id), path
            assert stored.startswith(entry.header)
            for command in ENVELOPE[1:]:
                await client.say(command)
        assert not running.events.found("bug")
