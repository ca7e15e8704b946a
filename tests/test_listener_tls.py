"""TLS, logins, networks, senders and PROXY headers over real sockets, and what a reload changes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import smtplib
import socket
import ssl
import stat
import struct
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from relay import sockets
from relay.errors import Unavailable
from relay.listener import ClientSession, ListenerSettings, MessageEnvelope
from tests import dialogs
from tests.fakes import RecordingEvents
from tests.listening import ENVELOPE, Client, Keyring, Running, Users, listening, trust
from tests.servers import server_tls

MAIL = b"Subject: x\r\n\r\nhello\r\n"
GOOD = base64.b64encode(f"\0{dialogs.USER}\0{dialogs.PASSWORD}".encode())
BAD = base64.b64encode(b"\0app\0wrong")
LOOPBACK = (ip_network("127.0.0.0/8"),)


def proxied(source: str, *, port: int = 4321) -> bytes:
    """A PROXY header, version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {'::1' if ':' in source else '127.0.0.1'} {port} 25\r\n".encode()


def warnings(events: RecordingEvents) -> list[str]:
    """The warnings without the client they name."""
    return [str(line["text"]).partition(" (client=")[0] for line in events.found("warning")]


async def in_thread(running: Running, session: Callable[[str, int], None]) -> None:
    """Run smtplib beside the listener."""
    _, port = sockets.parse(running.address)
    await asyncio.to_thread(session, "localhost", port)


# What mail libraries do.


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("mode", ["required", "implicit"])
async def test_smtplib_logs_in_under_tls(mode: str, mechanism: str, tmp_path: Path) -> None:
    """Both kinds of TLS, both mechanisms; what is stored and logged says so."""
    body = b"Subject: x\r\n\r\n" + (b"y" * 998 + b"\r\n") * 3000

    def session(host: str, port: int) -> None:
        context = trust(tmp_path)
        server = smtplib.SMTP_SSL(host, port, context=context) if mode == "implicit" else smtplib.SMTP(host, port)
        with server:
            if mode != "implicit":
                server.starttls(context=context)
            server.ehlo()
            server.user, server.password = dialogs.USER, dialogs.PASSWORD
            server.auth(mechanism, getattr(server, f"auth_{mechanism.lower()}"))
            server.sendmail("app@example.com", ["a@example.net"], body)

    async with listening(more={"tls": mode, "certificate": Keyring(), "users": Users()}) as running:
        await in_thread(running, session)
        (entry,) = running.spool.entries
        assert body == running.spool.messages[entry.queue_id]
        assert ("ESMTPSA", dialogs.USER) == (entry.client.protocol, entry.client.username)
        version, cipher = entry.client.tls.split()
        assert version == "TLSv1.3"
        assert f"(using TLSv1.3 with cipher {cipher})\r\n\tby mail.example.net (relay) with ESMTPSA id" in entry.edits[0].text
        assert [dialogs.USER] == [line["sasl_username"] for line in running.events.found("accepted")]
        assert dialogs.PASSWORD not in repr(running.events.lines)
        assert [] == warnings(running.events)


async def test_tls_1_2_is_enough_and_1_1_is_not(tmp_path: Path) -> None:
    """An old client gets in with 1.2; with less its admin is told why."""

    def session(host: str, port: int) -> None:
        context = trust(tmp_path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with smtplib.SMTP_SSL(host, port, context=context) as server:
            server.sendmail("app@example.com", ["a@example.net"], MAIL)

    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        await in_thread(running, session)
        (entry,) = running.spool.entries
        assert "ESMTPS" == entry.client.protocol
        assert entry.client.tls.startswith("TLSv1.2 ECDHE-")
        client = await running.connect()
        hello = b"\x03\x02" + b"r" * 32 + b"\0" + b"\0\2\xc0\x13" + b"\1\0"  # RFC 4346 §7.4.1.2
        record = b"\x01" + len(hello).to_bytes(3, "big") + hello
        client.writer.write(b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record)
        assert (await client.rest()).startswith(b"\x15")  # an alert
        assert ["TLS handshake failed: the client has nothing newer than TLS 1.1"] == warnings(running.events)


async def test_a_handler_sees_who_logged_in_as_aiosmtpd_shows_it(tmp_path: Path) -> None:
    """`authenticated`, `auth_data` and `ssl` of the session; the password is nowhere in it."""
    seen: list[dict[str, Any]] = []

    class Collector:
        async def handle_DATA(self, server: object, session: ClientSession, envelope: MessageEnvelope) -> str:
            seen.append(dict(vars(session)))
            return "250 2.0.0 Ok"

    async with listening(handler=Collector(), more={"tls": "optional", "certificate": Keyring(), "users": Users()}) as running:
        client = await running.connect()
        await client.reply()
        await client.say(b"STARTTLS\r\n")
        await client.writer.start_tls(trust(tmp_path), server_hostname="localhost")
        for command in (ENVELOPE[0], b"AUTH PLAIN " + GOOD + b"\r\n", *ENVELOPE[1:], MAIL + b".\r\n"):
            assert (await client.say(command))[:1] in "23"
    (session,) = seen
    assert (True, dialogs.USER, dialogs.USER) == (session["authenticated"], session["auth_data"], session["username"])
    assert {"cipher", "compression", "sslcontext", "ssl_object"} == session["ssl"].keys()
    assert dialogs.PASSWORD not in repr(seen)


# TLS that does not come about.


async def test_nothing_said_in_clear_after_starttls_is_believed() -> None:
    """A command in its own segment behind STARTTLS is no TLS hello (CVE-2011-0411)."""
    async with listening(more={"tls": "optional", "certificate": Keyring()}) as running:
        client = await running.connect()
        await client.reply()
        assert (await client.say(b"STARTTLS\r\n")).startswith("220")
        client.writer.write(b"EHLO evil\r\n")
        assert b"" == await client.rest()
        assert ["no TLS hello after STARTTLS"] == warnings(running.events)


async def test_plain_smtp_where_tls_is_due() -> None:
    """The client sees the end, the admin reads what is wrong."""
    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        client = await running.connect()
        client.writer.write(b"EHLO app\r\n")
        assert b"" == await client.rest()
        (line,) = warnings(running.events)
        assert line.startswith("plain SMTP, but this listener has TLS from the first octet on: set the client to implicit TLS")


@pytest.mark.parametrize("garbage", [b"\x16" + b"\xff" * 100, b"\x16\x03\x01\x00\x05hello"])
async def test_garbage_in_the_handshake_is_one_line(garbage: bytes) -> None:
    """With the reason and without a traceback."""
    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        client = await running.connect()
        client.writer.write(garbage)
        await client.rest()
        (line,) = warnings(running.events)
        assert line.startswith("TLS handshake failed: ")
        assert [] == running.events.found("bug")


async def test_a_client_that_does_not_trust_the_certificate() -> None:
    """The alert it sends is told in words."""

    def session(host: str, port: int) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            smtplib.SMTP_SSL(host, port, context=ssl.create_default_context())

    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        await in_thread(running, session)
        await running.events.wait("warning")
        why = "the client does not know the authority behind this listener's certificate"
        assert [f"TLS handshake failed: {why}"] == warnings(running.events)


@pytest.mark.parametrize(("sent", "told"), [(b"", False), (b"\x16\x03\x01", True)])
async def test_a_connection_lost_in_the_handshake(sent: bytes, told: bool) -> None:
    """A port scanner that says nothing is not worth a line."""
    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        client = await running.connect()
        client.writer.write(sent)
        await client.writer.drain()
        client.writer.write_eof()
        assert b"" == await client.rest()
        lost = "connection lost in the TLS handshake: does the client trust this listener's certificate?"
        assert [lost] * told == warnings(running.events)


@pytest.mark.parametrize("mode", ["implicit", "optional"])
async def test_a_handshake_that_does_not_come_is_not_waited_for(mode: str) -> None:
    """Nothing can be said in clear, so the connection just ends, with a line that says what was due."""
    async with listening(more={"tls": mode, "certificate": Keyring()}, handshake_timeout=0.05, linger=0.05) as running:
        client = await running.connect()
        if mode == "optional":
            await client.reply()
            await client.say(b"STARTTLS\r\n")
        assert b"" == await client.rest()
        (line,) = warnings(running.events)
        assert line.startswith("no TLS handshake came")


async def test_tls_that_breaks_later(tmp_path: Path) -> None:
    """Octets that nobody encrypted end the session with one line."""
    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        host, port = "localhost", sockets.parse(running.address)[1]
        reader, writer = await asyncio.open_connection(host, port, ssl=trust(tmp_path))
        await reader.readline()
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with contextlib.suppress(ssl.SSLError):
            await reader.read()
        await running.events.wait("warning")
        (line,) = warnings(running.events)
        assert line.startswith("TLS failed: ")
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()


async def test_a_certificate_that_cannot_be_had() -> None:
    """An error of ours: the client may go on in clear where it can; where TLS is first there is nothing to say."""

    class Broken:
        @property
        def context(self) -> ssl.SSLContext:
            raise OSError("gone")

    async with listening(more={"tls": "optional", "certificate": Broken()}) as running:
        client = await running.connect()
        await client.reply()
        assert "451 4.3.0 internal error; try again later" == await client.say(b"STARTTLS\r\n")
        assert (await client.say(b"NOOP\r\n")).startswith("250")
        assert 1 == len(running.events.found("bug"))
    async with listening(more={"tls": "implicit", "certificate": Broken()}) as running:
        client = await running.connect()
        assert b"" == await client.rest()
        assert 1 == len(running.events.found("bug"))


class Octets:
    """TLS of a client that decides itself which octets go out together."""

    def __init__(self, sock: socket.socket, host: str, directory: Path) -> None:
        self.incoming, self.outgoing, self.sock = ssl.MemoryBIO(), ssl.MemoryBIO(), sock
        self.tls = trust(directory).wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self._until(self.tls.do_handshake)

    def read(self) -> bytes:
        found: bytes = self._until(lambda: self.tls.read(1000))
        return found

    def flush(self) -> None:
        self.sock.sendall(self.outgoing.read())

    def _until(self, done: Callable[[], Any]) -> Any:
        while True:
            try:
                return done()
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.sock.recv(65536))


async def test_input_with_the_end_of_the_handshake_is_early(tmp_path: Path) -> None:
    """Inside TLS, too, no client speaks before the greeting."""
    heard: list[bytes] = []

    def session(host: str, port: int) -> None:
        with socket.create_connection((host, port), 10) as sock:
            client = Octets(sock, host, tmp_path)
            client.tls.write(b"EHLO early\r\n")
            client.flush()
            heard.append(client.read())

    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        await in_thread(running, session)
        assert [b"554 5.5.0 protocol synchronization: input before the greeting\r\n"] == heard


@pytest.mark.parametrize("when", ["waiting", "handshaking", "crowded"])
async def test_nothing_is_said_in_clear_where_tls_is_first(when: str) -> None:
    """A shutdown and a crowd end the connection without a word that nobody could read."""
    async with listening(more={"tls": "implicit", "certificate": Keyring()}, max_connections=1, linger=0.05) as running:
        client = await running.connect()
        if when == "handshaking":
            client.writer.write(b"\x16\x03")
        if when == "crowded":
            assert b"" == await (await running.connect()).rest()
        await running.listeners.stop(0.01)
        assert b"" == await client.rest()


async def test_who_finishes_sending_under_tls_still_hears_the_reply(tmp_path: Path) -> None:
    """close_notify in front of a commit is the end of the input only."""
    async with listening(more={"tls": "implicit", "certificate": Keyring()}) as running:
        running.spool.gate.clear()
        heard: list[bytes] = []

        def session(host: str, port: int) -> None:
            with trust(tmp_path).wrap_socket(socket.create_connection((host, port), 10), server_hostname=host) as tls:
                tls.recv(1000)
                tls.sendall(ENVELOPE[0])
                tls.recv(1000)
                tls.sendall(b"".join(ENVELOPE[1:]))
                while not heard or b"354" not in heard[-1]:
                    heard.append(tls.recv(1000))
                tls.sendall(b"hello\r\n.\r\n")
                with contextlib.suppress(OSError):
                    tls.unwrap()

        job = asyncio.create_task(in_thread(running, session))
        await running.spool.until(lambda: running.spool.committing == 1)
        running.spool.gate.set()
        await job
        await running.spool.until(lambda: len(running.spool.entries) == 1)
        assert [] == warnings(running.events)


async def test_who_finishes_sending_under_tls_and_does_not_read_is_closed(tmp_path: Path) -> None:
    """After close_notify nothing more is said, also when what was said before is still on its way at a shutdown."""
    adopted = socket.create_server(("127.0.0.1", 0))
    adopted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the accepted ones inherit it
    more = {"tls": "implicit", "certificate": Keyring()}
    with adopted, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def session(host: str, port: int) -> None:
            sock.connect((host, port))
            client = Octets(sock, host, tmp_path)
            client.read()
            for octets in (ENVELOPE[0], ENVELOPE[1]):
                client.tls.write(octets)
                client.flush()
                client.read()
            client.tls.write(ENVELOPE[2] * 3000)  # 42 kB of replies: more than fits
            client.flush()
            client.tls.write(b"END\r\n")
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.unwrap()
            client.flush()

        async with listening(more=more, adopted={"local": adopted}, linger=0.05) as running:
            await in_thread(running, session)
            await running.events.wait("rejected")  # END came, and in the same segment close_notify
            await running.listeners.stop(0.01)
            assert [] == running.events.found("bug")


# Logins.


async def login(running: Running, response: bytes) -> tuple[Client, str]:
    client = await running.connect()
    await client.reply()
    await client.say(ENVELOPE[0])
    return client, await client.say(b"AUTH PLAIN " + response + b"\r\n")


async def test_wrong_logins_are_told_and_end_the_session(tmp_path: Path) -> None:
    """One line each in Postfix's words, growing delays, 421 after the third; a unix socket needs no TLS."""
    async with listening(f"unix:{tmp_path}/s", more={"users": Users()}, login_delay=0.001) as running:
        client, reply = await login(running, BAD)
        assert "535 5.7.8 wrong name or password" == reply
        for _ in range(2):
            assert reply == await client.say(b"AUTH PLAIN " + BAD + b"\r\n")
        assert b"421 4.7.0 too many failed logins\r\n" == await client.rest()
        failed = running.events.found("login_failed")
        assert [("PLAIN", "app", "unix")] * 3 == [(line["mechanism"], line["sasl_username"], line["client"]) for line in failed]
        assert [] == running.events.found("rejected")
        assert ['relay_messages_rejected_total{listener="local",reason="535 5.7.8"} 3.0'] == running.metric(
            "relay_messages_rejected_total{"
        )


async def test_a_delayed_answer_holds_up_nobody_else(tmp_path: Path) -> None:
    """The others go on; the client that waits may leave; a shutdown does not wait for it."""
    async with listening(more={"users": Users()}, login_delay=1000) as running:
        slow, gone = [await running.connect() for _ in range(2)]
        for client in (slow, gone):
            await client.reply()
            await client.say(ENVELOPE[0])
            client.writer.write(b"AUTH PLAIN " + BAD + b"\r\n")
        await running.events.wait("login_failed", 2)
        gone.writer.close()
        other, reply = await login(running, GOOD)
        assert reply.startswith("235")
        other.writer.close()
        await running.listeners.stop(0.01)
        assert "421 4.3.2 shutting down; try again later" == await slow.reply()


async def test_who_leaves_before_a_delayed_answer_hears_nothing() -> None:
    """The answer finds nobody, and breaks nothing."""
    async with listening(more={"users": Users()}, login_delay=0.02) as running:
        gone = await running.connect()
        await gone.reply()
        await gone.say(ENVELOPE[0])
        gone.writer.write(b"AUTH PLAIN " + BAD + b"\r\n")
        await running.events.wait("login_failed")
        gone.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.writer.transport.abort()
        _, reply = await login(running, BAD)  # answered later than the one before it
        assert reply.startswith("535")
        assert [] == running.events.found("bug")


async def test_who_leaves_is_not_checked_and_has_failed(tmp_path: Path) -> None:
    """A login that nobody waits for takes nobody's turn, also at a shutdown; who asks and leaves again and again is shut out."""
    begun, given_up = 0, asyncio.Semaphore(0)

    class Slow:
        async def verify(self, name: str, password: str) -> str | None:
            nonlocal begun
            begun += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                given_up.release()
                raise
            return name

        def identity(self, name: str) -> str:
            return name

    async def attempt(source: str) -> Client:
        client = await running.connect()
        client.writer.write(proxied(source))
        await client.reply()
        await client.say(b"STARTTLS\r\n")
        await client.writer.start_tls(trust(tmp_path), server_hostname="localhost")
        await client.say(ENVELOPE[0])
        client.writer.write(b"AUTH PLAIN " + GOOD + b"\r\n")
        return client

    more = {"users": Slow(), "proxy": LOOPBACK, "tls": "optional", "certificate": Keyring()}
    async with listening(more=more, max_logins_per_client=2) as running:
        for _ in range(2):
            client = await attempt("192.0.2.1")
            while not begun:
                await (await running.connect()).leave()
            begun = 0
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
            await asyncio.wait_for(given_up.acquire(), 10)
        assert (await (await attempt("192.0.2.1")).reply()).startswith("421")
        client = await attempt("192.0.2.2")
        while not begun:
            await (await running.connect()).leave()
        await running.listeners.stop(1000)
        assert "421 4.3.2 shutting down; try again later" == await client.reply()
        await asyncio.wait_for(given_up.acquire(), 10)
        assert [] == running.events.found("bug")


async def test_users_that_cannot_be_asked() -> None:
    """454, so that the client tries again; the session goes on, and the password is not in the log."""
    users = Users()
    async with listening(more={"users": users}) as running:
        users.trouble = OSError("disk")
        client, reply = await login(running, GOOD)
        assert "454 4.7.0 logins cannot be checked now; try again later" == reply
        assert 1 == len(running.events.found("bug"))
        assert dialogs.PASSWORD not in repr(running.events.lines)
        users.trouble = None
        assert (await client.say(b"AUTH PLAIN " + GOOD + b"\r\n")).startswith("235")


async def test_clients_of_this_host_are_not_counted_by_address() -> None:
    """All apps of the host share it; others may not even try in clear."""
    users = Users()
    more = {"users": users, "proxy": LOOPBACK, "tls": "optional", "certificate": Keyring()}
    async with listening(more=more, max_logins_per_client=2, login_delay=0.001) as running:
        for source, replies in (("192.0.2.1", ["538"]), ("127.0.0.9", ["535", "535", "535"])):
            client = await running.connect()
            client.writer.write(proxied(source))
            await client.reply()
            await client.say(ENVELOPE[0])
            assert replies == [(await client.say(b"AUTH PLAIN " + BAD + b"\r\n"))[:3] for _ in replies]
        assert 3 == users.checks


async def test_an_address_that_guesses_is_shut_out(tmp_path: Path) -> None:
    """421 at once; another address is served."""
    users = Users()
    more = {"users": users, "proxy": LOOPBACK, "tls": "optional", "certificate": Keyring()}

    async def attempt(source: str, response: bytes) -> str:
        client = await running.connect()
        client.writer.write(proxied(source))
        await client.reply()
        await client.say(b"STARTTLS\r\n")
        await client.writer.start_tls(trust(tmp_path), server_hostname="localhost")
        await client.say(ENVELOPE[0])
        return await client.say(b"AUTH PLAIN " + response + b"\r\n")

    async with listening(more=more, max_logins_per_client=2, login_delay=0.001) as running:
        assert ["535", "535"] == [(await attempt("192.0.2.1", BAD))[:3] for _ in range(2)]
        assert "421 4.7.0 too many failed logins; try again later" == await attempt("192.0.2.1", GOOD)
        assert "235" == (await attempt("192.0.2.2", GOOD))[:3]
        assert 3 == users.checks
        assert "too many failures from this address" == running.events.found("login_failed")[-1]["text"]


# Who may send.


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        ("192.0.2.7", "250 2.1.0 Ok"),
        ("::ffff:192.0.2.7", "250 2.1.0 Ok"),
        ("2001:db8::1", "250 2.1.0 Ok"),
        ("198.51.100.1", "550 5.7.1 198.51.100.1 is not in the networks that may send here"),
        ("127.0.0.1", "550 5.7.1 127.0.0.1 is not in the networks that may send here"),
    ],
)
async def test_only_allowed_networks_send(source: str, reply: str) -> None:
    """Refused at MAIL and logged; EHLO and QUIT stay possible for whoever watches."""
    more = {"proxy": LOOPBACK, "allow": (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))}
    async with listening(more=more) as running:
        client = await running.connect()
        client.writer.write(proxied(source))
        assert (await client.reply()).startswith("220")
        assert (await client.say(ENVELOPE[0])).startswith("250")
        assert reply == await client.say(ENVELOPE[1])
        refused = running.events.found("rejected")
        assert [reply][reply.startswith("250") :] == [line["reply"] for line in refused]


async def test_a_unix_socket_has_no_address_to_allow(tmp_path: Path) -> None:
    """Its permissions say who may send."""
    more = {"allow": (ip_network("192.0.2.0/24"),), "proxy": (ip_network("0.0.0.0/0"),)}
    async with listening(f"unix:{tmp_path}/s", more=more) as running:
        client = await running.connect()
        await client.begin()


@pytest.mark.parametrize(
    ("sender", "code"), [("App@Example.COM", "250"), ("", "250"), ("x@elsewhere.example", "550 5.7.1"), ("bounce@example.net", "250")]
)
async def test_only_listed_senders(sender: str, code: str) -> None:
    """Globs without regard to case; the null reverse-path always passes, or bounces would be lost."""
    async with listening(more={"senders": ("*@example.com", "bounce@*")}) as running:
        client = await running.connect()
        await client.reply()
        await client.say(ENVELOPE[0])
        assert (await client.say(f"MAIL FROM:<{sender}>\r\n".encode())).startswith(code)


# PROXY headers.


async def test_a_proxied_client_is_known_by_its_own_address() -> None:
    """In the message, in the log, and for the limits; version 2 likewise, with what follows the addresses skipped."""
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H4s4sHH", 15, bytes([192, 0, 2, 8]), bytes([127, 0, 0, 1]), 999, 25)
    async with listening(more={"proxy": LOOPBACK}, max_connections_per_client=1) as running:
        for header in (proxied("192.0.2.7"), binary + b"\x04\x00\x00"):
            client = await running.connect()
            for octet in header:
                client.writer.write(bytes([octet]))
                await client.writer.drain()
            await client.begin()
            await client.say(MAIL + b".\r\n")
        clients = [entry.client for entry in running.spool.entries]
        assert [("192.0.2.7", 4321, "unknown"), ("192.0.2.8", 999, "unknown")] == [(c.address, c.port, c.name) for c in clients]
        client = await running.connect()
        client.writer.write(proxied("192.0.2.7"))
        assert b"421 4.7.0 too many connections; try again later\r\n" == await client.rest()
        assert ["too many connections from [192.0.2.7]: more are refused"] == warnings(running.events)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"])
async def test_a_proxy_may_speak_for_itself(header: bytes) -> None:
    """Its health checks come from its own address."""
    async with listening(more={"proxy": LOOPBACK}) as running:
        client = await running.connect()
        client.writer.write(header)
        await client.begin()
        await client.say(MAIL + b".\r\n")
        assert "127.0.0.1" == running.spool.entries[0].client.address


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"EHLO app\r\n", "no PROXY header"),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "a PROXY header with a bad address"),
        (b"", "no PROXY header came"),
    ],
)
async def test_a_listed_peer_must_begin_with_the_header(header: bytes, told: str) -> None:
    """Or its client could not be told from the proxy."""
    async with listening(more={"proxy": LOOPBACK}, command_timeout=0.05, linger=0.05) as running:
        client = await running.connect()
        client.writer.write(header)
        assert b"" == await client.rest()
        assert [f"{told}, and this peer is in the listener's proxy list"] == warnings(running.events)


async def test_a_proxied_client_that_speaks_too_early() -> None:
    """What comes in one piece with the header came before the greeting."""
    async with listening(more={"proxy": LOOPBACK}) as running:
        client = await running.connect()
        client.writer.write(proxied("192.0.2.7") + b"EHLO app\r\n")
        assert (await client.reply()).startswith("554 5.5.0")


async def test_tls_behind_a_proxy(tmp_path: Path) -> None:
    """The header comes before the TLS hello."""
    heard: list[bytes] = []

    def session(host: str, port: int) -> None:
        sock = socket.create_connection((host, port), 10)
        sock.sendall(proxied("2001:db8::9"))
        with trust(tmp_path).wrap_socket(sock, server_hostname=host) as tls:
            heard.append(tls.recv(1000))
            tls.sendall(b"QUIT\r\n")
            heard.append(tls.recv(1000))
            assert b"" == tls.recv(1000)

    async with listening(more={"tls": "implicit", "certificate": Keyring(), "proxy": LOOPBACK}) as running:
        await in_thread(running, session)
        assert [b"220", b"221"] == [line[:3] for line in heard]
        assert [] == warnings(running.events)


# Reload, and sockets of somebody else.


async def test_a_new_certificate_is_for_new_connections(tmp_path: Path) -> None:
    """Sessions under way go on with the old one."""
    keyring = Keyring()
    async with listening(more={"tls": "implicit", "certificate": keyring}) as running:
        _, port = sockets.parse(running.address)

        async def connect() -> tuple[Client, str]:
            client = Client(*await asyncio.open_connection("localhost", port, ssl=trust(tmp_path)))
            running.clients.append(client)
            return client, client.writer.get_extra_info("peercert")["serialNumber"]

        old, first = await connect()
        await old.begin()
        keyring.context = server_tls()
        new, second = await connect()
        assert first != second
        assert (await old.say(MAIL + b".\r\n")).startswith("250")
        await new.begin()
        assert (await new.say(MAIL + b".\r\n")).startswith("250")


async def test_reload_keeps_the_socket_and_changes_new_connections() -> None:
    """A listener at the same address is not closed; sessions go on as they began, even where the listener is gone."""
    async with listening() as running:
        settings = ListenerSettings("local", "127.0.0.1:0")
        before = await running.connect()
        await before.begin()
        await running.listeners.configure([ListenerSettings("renamed", "127.0.0.1:0", senders=("*@elsewhere.example",))])
        assert [("renamed", running.address)] == running.listeners.addresses
        after = await running.connect()
        await after.reply()
        await after.say(ENVELOPE[0])
        assert (await after.say(ENVELOPE[1])).startswith("550 5.7.1")
        assert (await before.say(MAIL + b".\r\n")).startswith("250")
        assert "local" == running.spool.entries[0].client.listener
        await running.listeners.configure([])
        assert [] == running.listeners.addresses
        with pytest.raises(ConnectionRefusedError):
            await running.connect()
        assert (await before.say(ENVELOPE[1])).startswith("250")
        await running.listeners.configure([settings, settings])
        (_, one), (_, two) = running.listeners.addresses
        assert one != two


async def test_a_reload_that_cannot_listen_changes_nothing(tmp_path: Path) -> None:
    """The old listeners stay as they were, and no socket is left behind."""
    async with listening() as running:
        with sockets.bind("127.0.0.1:0") as taken:
            wanted = [
                ListenerSettings("renamed", "127.0.0.1:0"),
                ListenerSettings("new", f"unix:{tmp_path}/new"),
                ListenerSettings("taken", sockets.show(taken)),
            ]
            with pytest.raises(Unavailable, match="cannot listen on"):
                await running.listeners.configure(wanted)
        assert [("local", running.address)] == running.listeners.addresses
        assert not (tmp_path / "new").exists()
        assert (await (await running.connect()).reply()).startswith("220")


async def test_a_reload_after_the_end_does_nothing() -> None:
    """A signal that comes during the shutdown opens no socket."""
    async with listening() as running:
        await running.listeners.stop(1)
        await running.listeners.configure([ListenerSettings("local", "127.0.0.1:0")])
        assert [] == running.listeners.addresses


@pytest.mark.parametrize("turns", range(8))
async def test_an_end_in_the_middle_of_a_reload(turns: int) -> None:
    """In whichever turn of the loop it comes, nothing breaks, and nobody listens any more."""
    async with listening() as running:
        with contextlib.ExitStack() as stack:
            addresses = [sockets.show(stack.enter_context(sockets.bind("127.0.0.1:0"))) for _ in range(4)]
        reload = asyncio.create_task(running.listeners.configure([ListenerSettings(address, address) for address in addresses]))
        for _ in range(turns):
            await asyncio.sleep(0)
        await running.listeners.stop(1)
        await reload
        for gone in (*addresses, running.address):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*sockets.parse(gone))


async def test_reloads_under_load_drop_no_connection(tmp_path: Path) -> None:
    """Clients come and go while settings and certificate change again and again: every mail is taken."""
    keyring, context, sent = Keyring(), trust(tmp_path), 0
    async with listening(more={"tls": "optional", "certificate": keyring}) as running:
        done = asyncio.Event()

        async def sending() -> None:
            nonlocal sent
            while not done.is_set():
                client = await running.connect()
                running.clients.remove(client)
                await client.reply()
                assert (await client.say(b"STARTTLS\r\n")).startswith("220")
                await client.writer.start_tls(context, server_hostname="localhost")
                for command in (*ENVELOPE, MAIL + b".\r\n", b"QUIT\r\n"):
                    assert (await client.say(command))[:1] in ("2", "3")
                sent += 1
                await client.leave()

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(sending())
            for number in range(50):
                keyring.context = server_tls()
                await running.listeners.configure(
                    [
                        ListenerSettings(f"local{number}", "127.0.0.1:0", tls="optional", certificate=keyring),
                        *[ListenerSettings("other", f"unix:{tmp_path}/other")] * (number % 2),
                    ]
                )
                await running.spool.until(lambda number=number: len(running.spool.entries) > number)  # type: ignore[misc]
            done.set()
        assert sent == len(running.spool.entries) >= 50
        assert [] == warnings(running.events)


@pytest.mark.parametrize("key", ["local", "127.0.0.1:2525", "unix"])
async def test_an_adopted_socket_is_used_and_left(key: str, tmp_path: Path) -> None:
    """By name or by address; when the listener goes, who connects waits for whoever comes next."""
    address = f"unix:{tmp_path}/adopted" if key == "unix" else "127.0.0.1:2525"
    with sockets.bind(address if key == "unix" else "127.0.0.1:0") as sock:
        sock.listen()
        real = sockets.show(sock)
        for _ in range(2):
            async with listening(address, adopted={address if key == "unix" else key: sock}) as running:
                assert [("local", real)] == running.listeners.addresses
                await (await running.connect()).begin()
                await running.listeners.configure([])
                waiting = await running.connect()
                await running.listeners.configure([ListenerSettings("local", address)])
                assert (await waiting.reply()).startswith("220")
        assert key != "unix" or stat.S_ISSOCK((tmp_path / "adopted").stat().st_mode)


def longest_queue(sock: socket.socket) -> int:
    """How many connections may wait at a listening socket: tcpi_sacked, for such a one (tcp_diag.c of Linux)."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[28:32], sys.byteorder)


async def test_the_queue_of_an_adopted_socket_does_not_shrink() -> None:
    """As many connections may wait through a restart under load as the kernel allows."""
    with sockets.bind("127.0.0.1:0") as sock:
        sock.listen(4096)
        before = longest_queue(sock)
        async with listening(adopted={"local": sock}):
            assert before == longest_queue(sock)


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_accepted_while_its_listener_goes_is_served(turns: int) -> None:
    """In whichever turn of the loop it came: either this listener has it, or it waits for the next one."""
    with sockets.bind("127.0.0.1:0") as sock:
        address = sockets.show(sock)
        async with listening(address, adopted={address: sock}) as running:
            with socket.create_connection(sockets.parse(address), 10) as client:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await running.listeners.configure([])
                await running.listeners.configure([ListenerSettings("local", address)])
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                assert (await asyncio.wait_for(loop.sock_recv(client, 100), 10)).startswith(b"220")


def test_tls_needs_a_certificate() -> None:
    """Settings that could not be kept are not built."""
    with pytest.raises(ValueError, match="listener local: TLS needs a certificate"):
        ListenerSettings("local", "127.0.0.1:0", tls="required")
