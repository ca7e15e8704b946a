"""The SMTP transport against scripted servers: what goes over the wire, and what becomes of each recipient."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from pathlib import Path
from typing import Any, cast

import pytest

from relay import header
from relay.edits import decide
from relay.errors import CorruptEntry, SpoolError
from relay.model import Client, Edit, EditKind, Envelope, Job, Outcome, Recipient, Verdict
from relay.transports.conversation import Connection
from relay.transports.smtp import Smtp, SmtpSettings
from tests.jobs import HELLO, MemoryMessage, job
from tests.servers import Act, Answer, SmtpServer, Trickle, ca_file, server_tls

ID = "687E7641C64007"
PLAIN = ("SIZE 50000000", "8BITMIME")  # no PIPELINING
BOTH = pytest.mark.parametrize("extensions", [("PIPELINING", *PLAIN), PLAIN], ids=["pipelined", "one by one"])


@asynccontextmanager
async def talking(server: SmtpServer, **more: Any) -> AsyncIterator[Smtp]:
    """A transport that speaks to `server`, with short deadlines."""
    async with server:
        given: dict[str, Any] = {"tls": "none", "timeout": 5.0, "dot_timeout": 5.0, **more}
        transport = Smtp(SmtpSettings("smarthost", server.host, server.port, "relay.test", **given))
        try:
            yield transport
        finally:
            await transport.aclose()


async def send(transport: Smtp, one: Job | None = None) -> dict[str, Outcome]:
    """Prepare and attempt; returns recipient -> outcome."""
    found: dict[str, Outcome] = {}
    for part in await transport.prepare(one or job()):
        outcomes = await transport.attempt([part])
        assert set(outcomes) == {(part.queue_id, recipient.address) for recipient in part.recipients}
        found |= {address: outcome for (_, address), outcome in outcomes.items()}
    return found


async def only(transport: Smtp, one: Job | None = None) -> Outcome:
    """The outcome for a job with one recipient."""
    [outcome] = (await send(transport, one)).values()
    return outcome


def per_recipient(answers: Mapping[str, Answer]) -> Callable[[bytes], Answer]:
    """A script for RCPT: an answer for each address, 250 for the others."""
    return lambda line: next((answer for address, answer in answers.items() if f"<{address}>".encode() in line), "250 2.1.5 ok")


# What goes over the wire.


@BOTH
async def test_message_and_envelope_on_the_wire(extensions: tuple[str, ...]) -> None:
    """Envelope and message arrive octet for octet, apart from the edits."""
    edits = (Edit(EditKind.PREPEND, "Received: by test\r\n"), Edit(EditKind.REMOVE, "subject"), Edit(EditKind.APPEND, "Date: x\r\n"))
    server = SmtpServer(extensions=extensions)
    async with talking(server) as transport:
        outcome = await only(transport, job("A@Example.NET", edits=edits, sender=""))
    expected = b"Received: by test\r\nFrom: <app@example.com>\r\nTo: <a@example.net>\r\nDate: x\r\n\r\n.leading dot\r\nbye\r\n"
    [mail] = server.mails
    assert (mail.mail, mail.rcpts, mail.message) == (b"<> SIZE=%d" % len(expected), [b"<A@Example.NET>"], expected)
    assert (outcome.verdict, outcome.status, outcome.reply) == (Verdict.OK, "2.0.0", "250 2.0.0 Ok: queued as T1")
    assert (outcome.remote, outcome.remote_id, outcome.own) == (f"127.0.0.1[127.0.0.1]:{server.port}", "T1", False)
    assert outcome.send_s > 0
    assert server.lines[:4] == [b"EHLO relay.test", b"MAIL FROM:" + mail.mail, b"RCPT TO:<A@Example.NET>", b"DATA"]


async def test_large_message_streams() -> None:
    """A large message in many chunks, with dots where chunks meet, arrives octet for octet."""
    line = b"." + b"y" * 61 + b"\r\n"
    data = HELLO[: HELLO.index(b"\r\n\r\n") + 4] + line * (40 * 1024)
    server = SmtpServer()
    async with talking(server) as transport:
        assert (await only(transport, job(data=data))).verdict is Verdict.OK
    assert server.mails[0].message == data


async def test_header_block_longer_than_a_chunk() -> None:
    """A header block that fills more than one chunk of the stored message leaves once, and so does the body."""
    block = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 90) for number in range(3000))
    data = block + b"\r\n" + b"text\r\n" * 1000
    server = SmtpServer()
    async with talking(server) as transport:
        one = job(data=data)
        assert len(one.message.header) > 256 * 1024
        assert (await only(transport, one)).verdict is Verdict.OK
    assert server.mails[0].message == data


async def test_message_without_last_line_end_or_body() -> None:
    """A message that is only a header block, or lacks its last CRLF, still ends where it should."""
    server = SmtpServer()
    async with talking(server) as transport:
        for data in (b"Subject: x\r\n", b"Subject: x\r\n\r\n", b"Subject: x\r\n\r\nno end"):
            assert (await only(transport, job(data=data))).verdict is Verdict.OK
    assert [mail.message for mail in server.mails] == [b"Subject: x\r\n", b"Subject: x\r\n\r\n", b"Subject: x\r\n\r\nno end\r\n"]


@pytest.mark.parametrize(
    ("extensions", "parameters", "to"),
    [
        (
            ("DSN", "8BITMIME", "SIZE"),
            b" SIZE=%d BODY=8BITMIME RET=HDRS ENVID=e+2B1",
            b"<a@example.net> NOTIFY=NEVER ORCPT=rfc822;b@x.test",
        ),
        (("8BITMIME",), b" BODY=8BITMIME", b"<a@example.net>"),
    ],
)
async def test_parameters_only_when_offered(extensions: tuple[str, ...], parameters: bytes, to: bytes) -> None:
    """SIZE, BODY and the DSN parameters go out only to a server that offered them."""
    recipient = Recipient("a@example.net", frozenset({"NEVER"}), "rfc822;b@x.test")  # type: ignore[arg-type]
    data = HELLO + b"caf\xc3\xa9\r\n"
    server = SmtpServer(extensions=extensions)
    async with talking(server) as transport:
        await only(transport, job(recipient, data=data, ret="HDRS", envid="e+1"))
    expected = parameters % len(data) if b"%" in parameters else parameters
    assert (server.mails[0].mail, server.mails[0].rcpts) == (b"<app@example.com>" + expected, [to])


async def test_eight_bit_without_8bitmime() -> None:
    """An 8-bit message is re-encoded for a server that lacks 8BITMIME; its text stays the same."""
    server = SmtpServer(extensions=("PIPELINING",))
    data = b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\xc3\xa9\r\n"
    async with talking(server) as transport:
        assert (await only(transport, job(data=data))).verdict is Verdict.OK
    assert server.mails[0].message.isascii()
    assert message_from_bytes(server.mails[0].message).get_payload(decode=True) == b"caf\xc3\xa9\r\n"


async def test_signed_eight_bit_without_8bitmime() -> None:
    """A signed 8-bit message cannot be re-encoded: refused with the reason, nothing is sent, the connection is kept."""
    data = (
        b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=b\r\n\r\n--b\r\n'
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\xc3\xa9\r\n--b\r\n"
        b"Content-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
    )
    server = SmtpServer(extensions=())
    async with talking(server) as transport:
        outcome = await only(transport, job(data=data))
        assert (outcome.verdict, outcome.status, outcome.own) == (Verdict.PERM_MSG, "5.6.3", True)
        assert "8BITMIME" in outcome.reply
        assert (await only(transport)).verdict is Verdict.OK
    assert (len(server.mails), server.connections) == (1, 1)


async def test_long_lines() -> None:
    """Lines over 998 octets are re-encoded, unless the message is signed: then they go as they are."""
    text = b"Subject: x\r\n\r\n" + b"z" * 2000 + b"\r\n"
    signed = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + b"z" * 2000 + b"\r\n--b\r\n\r\nx\r\n--b--\r\n"
    server = SmtpServer()
    async with talking(server) as transport:
        for data in (text, signed, text * 200):
            assert (await only(transport, job(data=data))).verdict is Verdict.OK
    assert max(map(len, server.mails[0].message.split(b"\r\n"))) <= 998
    assert server.mails[1].message == signed


async def test_smtputf8() -> None:
    """A message that needs SMTPUTF8 goes with it where it is offered, and is refused by ourselves where it is not."""
    server = SmtpServer(extensions=("SMTPUTF8", "8BITMIME"))
    async with talking(server) as transport:
        assert (await only(transport, job("é@example.net"))).verdict is Verdict.OK
    assert (server.mails[0].mail, server.mails[0].rcpts) == (b"<app@example.com> SMTPUTF8", ["<é@example.net>".encode()])
    async with talking(SmtpServer()) as transport:
        outcome = await only(transport, job("é@example.net"))
    assert (outcome.verdict, outcome.status, outcome.own) == (Verdict.PERM_MSG, "5.6.7", True)


async def test_an_international_domain_without_smtputf8() -> None:
    """A domain has a form that every server takes, so only a local part that is not ASCII needs SMTPUTF8."""
    one = job("a@ex\u00e4mple.net", Recipient("b@example.net"), sender="app@ex\u00e4mple.com")
    server = SmtpServer()
    async with talking(server) as transport:
        found = await send(transport, one)
        assert (await only(transport, job("a@-\u00e4-.net"))).status == "5.6.7"
    assert {"a@ex\u00e4mple.net": Verdict.OK, "b@example.net": Verdict.OK} == {
        address: outcome.verdict for address, outcome in found.items()
    }
    assert b"<app@xn--exmple-cua.com>" in server.mails[0].mail
    assert [b"<a@xn--exmple-cua.net>", b"<b@example.net>"] == server.mails[0].rcpts


async def test_larger_than_announced_size() -> None:
    """A message over the announced SIZE is refused by ourselves; the server never hears of it."""
    server = SmtpServer(extensions=("SIZE 50", "PIPELINING"))
    async with talking(server) as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.status, outcome.own) == (Verdict.PERM_MSG, "5.3.4", True)
    assert outcome.reply == f"the message has {len(HELLO)} octets; the server takes 50"
    assert not any(line.startswith(b"MAIL") for line in server.lines)


async def test_many_recipients_are_split() -> None:
    """More recipients than one transaction may have go in several; each gets the message once."""
    server = SmtpServer()
    addresses = [f"r{number}@example.net" for number in range(250)]
    async with talking(server) as transport:
        outcomes = await send(transport, job(*addresses))
    assert list(outcomes) == addresses
    assert [len(mail.rcpts) for mail in server.mails] == [100, 100, 50]
    assert [address for mail in server.mails for address in mail.rcpts] == [f"<{address}>".encode() for address in addresses]


@BOTH
async def test_pipelining_only_when_offered(extensions: tuple[str, ...]) -> None:
    """With PIPELINING everything up to DATA is sent before MAIL is answered; without it nothing behind MAIL is."""
    connection: list[asyncio.StreamReader] = []

    class Watched(SmtpServer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection.append(reader)
            await super()._serve(reader, writer)

    behind: list[bytes] = []

    def look(line: bytes) -> Answer:
        behind.append(bytes(connection[0]._buffer))  # type: ignore[attr-defined]
        return "250 2.1.0 ok"

    async with talking(Watched({"mail": look}, extensions=extensions)) as transport:
        assert (await only(transport)).verdict is Verdict.OK
    assert behind == [b"RCPT TO:<a@example.net>\r\nDATA\r\n" if "PIPELINING" in extensions else b""]


# Replies.


@BOTH
async def test_one_recipient_refused(extensions: tuple[str, ...]) -> None:
    """A recipient refused with 550 is failed, one with 450 deferred, and the others are still relayed."""
    script = {"rcpt": per_recipient({"b@x.test": "550 5.1.1 unknown\x1b[31m user", "c@x.test": "450 4.2.0 greylisted"})}
    server = SmtpServer(script, extensions=extensions)
    async with talking(server) as transport:
        outcomes = await send(transport, job("a@x.test", "b@x.test", "c@x.test", "d@x.test"))
        assert (await only(transport)).verdict is Verdict.OK
    assert [outcome.verdict for outcome in outcomes.values()] == [Verdict.OK, Verdict.PERM_RCPT, Verdict.RETRY, Verdict.OK]
    assert (outcomes["b@x.test"].reply, outcomes["b@x.test"].status) == ("550 5.1.1 unknown [31m user", "5.1.1")
    assert server.mails[0].rcpts == [b"<a@x.test>", b"<d@x.test>"]
    assert server.connections == 1


@BOTH
@pytest.mark.parametrize("data", ["554 5.5.1 no valid recipients", "354 go ahead"])
async def test_every_recipient_refused(extensions: tuple[str, ...], data: str) -> None:
    """When nobody is accepted nothing is delivered, even by a server that asks for the message all the same."""
    server = SmtpServer({"rcpt": "550 5.1.1 unknown", "data": data}, extensions=extensions)
    async with talking(server) as transport:
        outcomes = await send(transport, job("a@x.test", "b@x.test"))
        assert [outcome.verdict for outcome in outcomes.values()] == [Verdict.PERM_RCPT] * 2
        server.script = {}
        assert (await only(transport)).verdict is Verdict.OK
    assert [mail.message for mail in server.mails if mail.rcpts] == [HELLO]
    assert all(mail.message == b"" for mail in server.mails if not mail.rcpts)
    assert server.connections == 1


@BOTH
@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("550 5.7.1 no", Verdict.PERM_MSG),
        ("451 4.3.0 later", Verdict.RETRY),
        ("530 5.7.0 log in first", Verdict.PAUSE),
        ("421 4.7.0 too busy", Verdict.THROTTLE),
    ],
)
async def test_mail_refused(extensions: tuple[str, ...], reply: str, verdict: Verdict) -> None:
    """A refusal of MAIL is every recipient's, and the message stays here."""
    server = SmtpServer({"mail": reply}, extensions=extensions)
    async with talking(server) as transport:
        outcomes = await send(transport, job("a@x.test", "b@x.test"))
        assert [(outcome.verdict, outcome.reply) for outcome in outcomes.values()] == [(verdict, reply)] * 2
        server.script = {}
        assert (await only(transport)).verdict is Verdict.OK
    assert len(server.mails) == 1


async def test_message_wanted_although_mail_was_refused() -> None:
    """A server that refuses MAIL and still says 354 gets no dot: the connection is dropped, nothing is delivered."""
    server = SmtpServer({"mail": "550 5.7.1 no", "rcpt": "250 ok", "data": "354 go"})
    async with talking(server) as transport:
        assert (await only(transport)).verdict is Verdict.PERM_MSG
    assert server.mails == []


async def test_cut_behind_a_refused_mail() -> None:
    """A cut behind a refused MAIL changes nothing about the refusal."""
    server = SmtpServer({"mail": "550 5.7.1 no", "rcpt": Act.CUT})
    async with talking(server) as transport:
        assert (await only(transport)).verdict is Verdict.PERM_MSG


@BOTH
async def test_closing_in_the_middle_of_recipients(extensions: tuple[str, ...]) -> None:
    """421 to a RCPT defers all that were not refused before it: nobody got the message."""
    script = {"rcpt": per_recipient({"a@x.test": "550 5.1.1 no", "c@x.test": "421 4.3.2 closing"})}
    server = SmtpServer(script, extensions=extensions)
    async with talking(server) as transport:
        outcomes = await send(transport, job("a@x.test", "b@x.test", "c@x.test", "d@x.test"))
    assert [outcome.verdict for outcome in outcomes.values()] == [Verdict.PERM_RCPT, *[Verdict.THROTTLE] * 3]
    assert server.mails == []


@BOTH
@pytest.mark.parametrize(
    ("stage", "reply", "verdict"),
    [
        ("data", "554 5.6.0 no", Verdict.PERM_MSG),
        ("data", "451 4.3.0 later", Verdict.RETRY),
        ("data", "250 what message?", Verdict.RETRY),
        ("dot", "554 5.7.1 spam", Verdict.PERM_MSG),
        ("dot", "451 4.3.0 later", Verdict.RETRY),
        ("dot", "251 will forward", Verdict.OK),
        ("dot", "354 go on", Verdict.UNKNOWN),
        ("dot", b"rubbish\r\n", Verdict.UNKNOWN),
        ("rcpt", b"rubbish\r\n", Verdict.RETRY),
        ("rcpt", "354 no", Verdict.RETRY),
        ("mail", b"25 ok\r\n", Verdict.RETRY),
        ("rcpt", "252 cannot verify", Verdict.OK),
    ],
)
async def test_replies_by_stage(extensions: tuple[str, ...], stage: str, reply: Answer, verdict: Verdict) -> None:
    """Replies are judged by stage and first digit; what is no reply is a lost connection at that stage."""
    server = SmtpServer({stage: reply}, extensions=extensions)
    async with talking(server) as transport:
        assert (await only(transport)).verdict is verdict


async def test_long_reply_is_capped_and_cleaned() -> None:
    """A reply of many lines with control characters becomes one printable line of bounded length."""
    noise = "".join(f"550-5.7.1 line {number} \x1b[1m\x07\u2028\r\n" for number in range(200)) + "550 5.7.1 end"
    async with talking(SmtpServer({"rcpt": noise})) as transport:
        outcome = await only(transport)
    assert outcome.reply.startswith("550 5.7.1 line 0 [1m 5.7.1 line 1")
    assert len(outcome.reply) == 1000
    assert outcome.reply.isprintable()


# Cut connections and silence.


@BOTH
@pytest.mark.parametrize("act", [Act.CUT, Act.RESET, Act.HANG])
@pytest.mark.parametrize(
    ("stage", "verdict"),
    [
        ("greeting", Verdict.PAUSE),
        ("ehlo", Verdict.PAUSE),
        ("mail", Verdict.RETRY),
        ("rcpt", Verdict.RETRY),
        ("data", Verdict.RETRY),
        ("dot", Verdict.UNKNOWN),
    ],
)
async def test_lost_by_stage(extensions: tuple[str, ...], act: Act, stage: str, verdict: Verdict) -> None:
    """A cut or a silence before the dot was sent is surely not taken; after it nobody knows."""
    deadline = 0.15 if act is Act.HANG else 5.0
    async with talking(SmtpServer({stage: act}, extensions=extensions), timeout=deadline, dot_timeout=deadline) as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.own) == (verdict, True)
    assert outcome.maybe_relayed is (stage == "dot")


async def test_recipient_refused_before_the_cut() -> None:
    """A recipient that was refused before the connection was lost stays refused; only the others are deferred."""
    script: dict[str, Any] = {"rcpt": per_recipient({"a@x.test": "550 5.1.1 no"}), "dot": Act.CUT}
    async with talking(SmtpServer(script)) as transport:
        outcomes = await send(transport, job("a@x.test", "b@x.test"))
    assert [outcome.verdict for outcome in outcomes.values()] == [Verdict.PERM_RCPT, Verdict.UNKNOWN]


@pytest.mark.parametrize("act", [Act.CUT, Act.RESET])
async def test_cut_in_the_message(act: Act) -> None:
    """A connection cut while a large message leaves is surely not taken."""
    async with talking(SmtpServer({"body": act})) as transport:
        outcome = await only(transport, job(data=HELLO + b"x" * 70 + b"\r\n" * 8_000_000))
    assert outcome.verdict is Verdict.RETRY


async def test_server_that_stops_reading() -> None:
    """A server that takes no more octets is left at the deadline."""
    async with talking(SmtpServer({"body": Act.HANG}), timeout=0.3) as transport:
        transport_job = job(data=HELLO + (b"x" * 70 + b"\r\n") * 300_000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.StreamReader, "read", _never)
            outcome = await only(transport, transport_job)
    assert (outcome.verdict, outcome.reply) == (Verdict.RETRY, "the server takes the message too slowly (data)")


async def _never(self: asyncio.StreamReader, n: int = -1) -> bytes:
    """A read that pauses the stream for good."""
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize(
    ("reply", "verdict", "text"),
    [
        ("552 5.3.4 too big\r\n", Verdict.PERM_MSG, "552 5.3.4 too big"),
        ("250 thanks\r\n", Verdict.RETRY, "reply before the end of the message: 250 thanks (data)"),
    ],
)
async def test_reply_before_the_end(reply: str, verdict: Verdict, text: str) -> None:
    """A reply ahead of the final dot ends the transaction without a dot: a refusal counts, a 250 does not."""
    server = SmtpServer({"data": f"354 go\r\n{reply}".encode()})
    async with talking(server) as transport:
        outcome = await only(transport, job(data=HELLO + (b"x" * 70 + b"\r\n") * 100_000))
    assert (outcome.verdict, outcome.reply) == (verdict, text)
    assert server.mails == []


async def test_slow_replies() -> None:
    """Replies that come octet by octet within the deadline are as good as any."""
    script: dict[str, Any] = {"mail": Trickle(b"250-2.1.0 s\r\n250 2.1.0 low\r\n", 0.001), "dot": Trickle(b"250 ok\r\n", 0.001)}
    async with talking(SmtpServer(script)) as transport:
        assert (await only(transport)).verdict is Verdict.OK


@pytest.mark.parametrize(("stage", "verdict"), [("mail", Verdict.RETRY), ("dot", Verdict.UNKNOWN)])
async def test_reply_that_never_ends_in_time(stage: str, verdict: Verdict) -> None:
    """The deadline is for a whole reply, however often an octet of it comes."""
    script = {stage: Trickle(b"250-" + b"x" * 10_000, 0.01)}
    async with talking(SmtpServer(script), timeout=0.15, dot_timeout=0.15) as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (verdict, f"no reply within 0.15 s ({stage})")


async def test_endless_reply() -> None:
    """A reply without end is garbage, not a memory leak."""
    async with talking(SmtpServer({"dot": b"250-" + b"x" * 100_000})) as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (Verdict.UNKNOWN, "garbled reply: reply too long (dot)")


async def test_stored_message_that_cannot_be_read() -> None:
    """A spool error in the middle of a message is not swallowed, and no dot is sent."""

    class Broken(MemoryMessage):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield self.data[: 256 * 1024]
            raise OSError("disk")

    server = SmtpServer()
    async with talking(server) as transport:
        one = job()
        broken = Job(one.queue_id, one.envelope, one.recipients, (), Broken(HELLO + (b"x" * 70 + b"\r\n") * 10_000))
        with pytest.raises(OSError, match="disk"):
            await send(transport, broken)
    assert server.mails == []


# Connections.


async def test_connection_is_reused() -> None:
    """Messages one after the other use one connection, until it has carried `max_messages`."""
    server = SmtpServer()
    async with talking(server, max_messages=3) as transport:
        for _ in range(7):
            assert (await only(transport)).verdict is Verdict.OK
    assert (len(server.mails), server.connections) == (7, 3)
    assert server.lines.count(b"QUIT") == 3


async def test_one_connection_each_at_once() -> None:
    """Attempts at the same time have a connection each, and at most `concurrency` are kept."""
    server = SmtpServer()
    async with talking(server, concurrency=3) as transport:
        await asyncio.gather(*(only(transport) for _ in range(5)))
        assert server.connections == 5
        await asyncio.gather(*(only(transport) for _ in range(3)))
        assert server.connections == 5
        await asyncio.gather(*(only(transport) for _ in range(4)))
    assert server.connections == 6


async def test_idle_connections_are_closed() -> None:
    """A connection that nobody needs is closed after a while, with QUIT."""
    left = asyncio.Event()

    def quitting(line: bytes) -> Answer:
        left.set()
        return "221 bye"

    server = SmtpServer({"quit": quitting})
    async with talking(server, idle=0.05) as transport:
        await only(transport)
        async with asyncio.timeout(5):
            await left.wait()
        assert (await only(transport)).verdict is Verdict.OK
    assert server.connections == 2


@pytest.mark.parametrize("answer", [Act.CUT, Act.RESET, "421 4.4.2 idle for too long"])
@BOTH
async def test_stale_connection_is_replaced(extensions: tuple[str, ...], answer: Answer) -> None:
    """A kept connection that fails before it answers MAIL is replaced once; the failure is no outcome."""
    calls = 0

    def second_fails(line: bytes) -> Answer:
        nonlocal calls
        calls += 1
        return answer if calls == 2 else "250 ok"

    server = SmtpServer({"mail": second_fails}, extensions=extensions)
    async with talking(server) as transport:
        assert (await only(transport)).verdict is Verdict.OK
        assert (await only(transport)).verdict is Verdict.OK
    assert (len(server.mails), server.connections) == (2, 2)


async def test_server_speaks_while_idle() -> None:
    """A kept connection on which the server says something unasked is not used again."""
    server = SmtpServer({"dot": b"250 ok\r\n421 4.4.2 closing\r\n"})
    async with talking(server) as transport:
        assert (await only(transport)).verdict is Verdict.OK
        assert (await only(transport)).verdict is Verdict.OK
    assert (len(server.mails), server.connections) == (2, 2)


async def test_server_speaks_later_while_idle() -> None:
    """The same when it comes after the transaction was over."""
    loop = asyncio.get_running_loop()
    spoken = asyncio.Event()

    class Chatty(SmtpServer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.script["dot"] = lambda message: self._soon(writer)
            await super()._serve(reader, writer)

        def _soon(self, writer: asyncio.StreamWriter) -> Answer:
            loop.call_later(0.02, writer.write, b"421 4.4.2 closing\r\n")
            loop.call_later(0.04, spoken.set)
            return "250 ok"

    server = Chatty()
    async with talking(server) as transport:
        assert (await only(transport)).verdict is Verdict.OK
        await spoken.wait()
        assert not transport._idle[0].usable
        assert (await only(transport)).verdict is Verdict.OK
    assert server.connections == 2


async def test_refused_reset_replaces_the_connection() -> None:
    """Where RSET is refused after a failed transaction the next one gets a fresh connection."""
    server = SmtpServer({"rset": "502 5.5.1 no", "rcpt": per_recipient({"b@x.test": "550 5.1.1 no"})}, extensions=())
    async with talking(server) as transport:
        assert (await only(transport, job("b@x.test"))).verdict is Verdict.PERM_RCPT
        assert (await only(transport)).verdict is Verdict.OK
    assert server.connections == 2


async def test_refused_connection() -> None:
    """A port where nobody listens pauses the provider and says where to look."""
    async with talking(SmtpServer()) as transport:
        pass
    outcome = await only(transport)
    assert (outcome.verdict, outcome.status, outcome.reply) == (Verdict.PAUSE, "4.4.1", "cannot connect: Connection refused (connect)")
    assert outcome.remote.startswith("127.0.0.1[unknown]:")
    assert outcome.mend


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "..."])
async def test_host_that_cannot_be_found(host: str) -> None:
    """A name that does not resolve, or is none at all, pauses the provider."""
    transport = Smtp(SmtpSettings("smarthost", host, 25, "relay.test", timeout=5.0))
    assert (await only(transport)).verdict is Verdict.PAUSE


async def test_cancelled_attempt_closes_its_connection() -> None:
    """An attempt that is cancelled leaves no open connection behind, at any stage."""
    for stage in ("greeting", "mail", "dot"):
        reached = asyncio.Event()

        def hang(line: bytes, reached: asyncio.Event = reached) -> Answer:
            asyncio.get_running_loop().call_later(0.02, reached.set)
            return Act.HANG

        async with talking(SmtpServer({stage: hang})) as transport:
            task = asyncio.create_task(only(transport))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport._idle == []


async def test_nodelay() -> None:
    """Small writes leave at once."""
    async with talking(SmtpServer()) as transport:
        await only(transport)
        peer = transport._idle[0]._transport.get_extra_info("socket")
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_server_that_does_not_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing does not wait for long for a connection that does not end: it is cut."""
    monkeypatch.setattr("relay.transports.smtp._CLOSE_TIMEOUT", 0.01)
    monkeypatch.setattr(Connection, "quit", lambda connection: None)
    async with talking(SmtpServer()) as transport:
        assert (await only(transport)).verdict is Verdict.OK
        connection = transport._idle[0]
        await transport.aclose()
        async with asyncio.timeout(5):
            await connection.closed


# TLS and AUTH.


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "CRAM-MD5 LOGIN PLAIN"])
async def test_tls_and_login(tmp_path: Path, tls: str, mechanisms: str) -> None:
    """Over TLS, with PLAIN or LOGIN, the message goes out encrypted and logged in, on reused connections too."""
    context = server_tls()
    given = {"starttls": context} if tls == "starttls" else {"implicit": context}
    server = SmtpServer(users={"relay": "pässword"}, mechanisms=mechanisms, **given)  # type: ignore[arg-type]
    async with talking(server, tls=tls, ca_file=ca_file(tmp_path), username="relay", password="pässword") as transport:
        for data in (HELLO, HELLO + (b"x" * 70 + b"\r\n") * 20_000):
            assert (await only(transport, job(data=data))).verdict is Verdict.OK
    assert [(mail.encrypted, mail.username) for mail in server.mails] == [(True, "relay")] * 2
    assert server.connections == 1


async def test_starttls_not_offered() -> None:
    """A server, or somebody in the path, that does not offer STARTTLS gets neither password nor mail."""
    server = SmtpServer(users={"relay": "canary"}, auth_in_clear=True)
    async with talking(server, tls="starttls", username="relay", password="canary") as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.own) == (Verdict.PAUSE, True)
    assert outcome.reply == "STARTTLS is not offered; nothing was sent in clear"
    assert [line.split(b" ")[0] for line in server.lines if line] == [b"EHLO"]


async def test_starttls_refused(tmp_path: Path) -> None:
    """A refused STARTTLS pauses the provider."""
    server = SmtpServer({"starttls": "454 4.7.0 not now"}, starttls=server_tls())
    async with talking(server, tls="starttls", ca_file=ca_file(tmp_path)) as transport:
        assert (await only(transport)).verdict is Verdict.PAUSE
    assert server.mails == []


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_certificate_is_checked(tmp_path: Path, tls: str) -> None:
    """An unknown authority or a wrong name stops everything before AUTH, and the mend says what to look at."""
    trusted = ca_file(tmp_path)
    for names, ca in (((), None), (("other.example",), trusted)):
        context = server_tls(*names)
        given = {"starttls": context} if tls == "starttls" else {"implicit": context}
        server = SmtpServer(users={"relay": "canary"}, **given)  # type: ignore[arg-type]
        async with talking(server, tls=tls, ca_file=ca, username="relay", password="canary") as transport:
            outcome = await only(transport)
        assert (outcome.verdict, outcome.status) == (Verdict.PAUSE, "4.7.5")
        assert outcome.reply.startswith("cannot connect: certificate not accepted: ")
        assert "ca_file" in outcome.mend
        assert not any(b"AUTH" in line for line in server.lines)


async def test_ca_file_missing(tmp_path: Path) -> None:
    """A ca_file that is not there pauses the provider in plain words."""
    async with talking(SmtpServer(), tls="implicit", ca_file=str(tmp_path / "none.pem")) as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "cannot use ca_file: No such file or directory (tls)")


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN"])
async def test_wrong_password(mechanisms: str) -> None:
    """A refused login pauses the provider, names the mend, and bounces nothing."""
    server = SmtpServer(users={"relay": "right"}, mechanisms=mechanisms, auth_in_clear=True)
    async with talking(server, username="relay", password="canary-wrong") as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.status, outcome.reply) == (Verdict.PAUSE, "4.7.8", "535 5.7.8 no such user or wrong password")
    assert "password" in outcome.mend
    assert "canary" not in repr(outcome)


async def test_refusal_that_quotes_the_password() -> None:
    """A server that quotes what it was sent does not get the password into our logs."""
    server = SmtpServer({"auth": lambda line: f"535 5.7.8 not {line.decode()} or canary"}, users={"relay": "x"}, auth_in_clear=True)
    async with talking(server, username="relay", password="canary") as transport:
        outcome = await only(transport)
    assert outcome.reply == "535 5.7.8 not AUTH PLAIN [password] or [password]"


async def test_auth_not_offered() -> None:
    """Without AUTH, or without a mechanism we speak, the provider is paused."""
    for server in (SmtpServer(), SmtpServer(users={"x": "y"}, mechanisms="GSSAPI", auth_in_clear=True)):
        async with talking(server, username="relay", password="canary") as transport:
            outcome = await only(transport)
        assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "none of AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5 is offered")


async def test_plain_is_advertised_but_unknown() -> None:
    """Where PLAIN turns out not to work LOGIN is tried; after a refused password it is not."""

    def only_login(line: bytes) -> Answer:
        return "504 5.5.4 no such mechanism" if b"PLAIN" in line else "535 5.7.8 no"

    server = SmtpServer({"auth": only_login}, users={"relay": "x"}, auth_in_clear=True)
    async with talking(server, username="relay", password="canary") as transport:
        assert (await only(transport)).reply == "535 5.7.8 no"
        server.script = {"auth": "535 5.7.8 really not"}
        assert (await only(transport)).reply == "535 5.7.8 really not"
    assert [line.split(b" ")[1] for line in server.lines if line.startswith(b"AUTH")] == [b"PLAIN", b"LOGIN", b"PLAIN"]


async def test_old_server_without_ehlo() -> None:
    """A server that knows only HELO is spoken to in plain SMTP; with credentials configured it is not good enough."""
    server = SmtpServer({"ehlo": "502 5.5.1 unknown"})
    async with talking(server) as transport:
        assert (await only(transport)).verdict is Verdict.OK
    assert server.mails[0].mail == b"<app@example.com>"
    async with talking(SmtpServer({"ehlo": "502 5.5.1 unknown"}), username="relay", password="canary") as transport:
        assert (await only(transport)).verdict is Verdict.PAUSE


@pytest.mark.parametrize(
    ("greeting", "verdict"), [("554 5.7.1 go away", Verdict.PAUSE), ("421 4.7.0 too many", Verdict.THROTTLE), (b"hello\r\n", Verdict.PAUSE)]
)
async def test_greeting_refused(greeting: Answer, verdict: Verdict) -> None:
    """A greeting that refuses us concerns the provider, never the message."""
    async with talking(SmtpServer({"greeting": greeting})) as transport:
        assert (await only(transport)).verdict is verdict


def test_credentials_in_clear_are_refused() -> None:
    """Credentials without TLS are only for this host itself; and a password is in no repr."""
    with pytest.raises(ValueError, match="credentials"):
        SmtpSettings("p", "mail.example.net", 25, "relay.test", tls="none", username="u", password="p")
    assert "canary" not in repr(SmtpSettings("p", "localhost", 25, "relay.test", tls="none", username="u", password="canary"))


BLOCK = b"From: a@x.example\r\nTo: b@y.example\r\nDate: d\r\nMessage-ID: <1@x>\r\n"
TORN = BLOCK + b"Subject: first line\r\nof two\r\nBcc: secret@z.example\r\nX-PM-Tag: t\r\n\r\n"


def as_stored(data: bytes) -> Job:
    """A job with the edits that are decided when such a message is accepted."""
    block, body = header.cut(data)
    client = Client("local", "127.0.0.1")
    envelope = Envelope("a@x.example", (Recipient("b@y.example"),))
    edits = decide(block, queue_id=ID, hostname="h", client=client, envelope=envelope, arrived=0.0, ended=body > len(block))
    return job("b@y.example", data=data, edits=edits)


@pytest.mark.parametrize("extensions", [("8BITMIME",), ()])
@pytest.mark.parametrize(
    "text", ["grüße aus dem Haus an der Straße\r\n", "ü" * 600 + "\r\n", "z" * 1200 + "\r\n", "plain\r\n" * 40_000 + "é\r\n"]
)
async def test_a_torn_header_block_hides_what_it_hid(extensions: tuple[str, ...], text: str) -> None:
    """What no recipient may see is gone, re-encoded or not, below a line that is no field too."""
    server = SmtpServer(extensions=extensions)
    async with talking(server) as transport:
        assert (await only(transport, as_stored(TORN + text.encode()))).verdict is Verdict.OK
    message = server.mails[0].message
    arrived = message_from_bytes(message)
    whole = message + cast(bytes, arrived.get_payload(decode=True))
    assert b"secret" not in whole
    assert b"X-PM" not in whole
    assert b"of two" in whole
    assert arrived["Subject"] == "first line"


@pytest.mark.parametrize("extensions", [("8BITMIME",), ()])
@pytest.mark.parametrize("lines", ["grüße\r\nohne Kopf und Leerzeile\r\n", "ü" * 600 + "\r\n"])
async def test_a_body_without_an_empty_line_before_it(extensions: tuple[str, ...], lines: str) -> None:
    """It gets one empty line and no more, re-encoded or not."""
    server = SmtpServer(extensions=extensions)
    async with talking(server) as transport:
        await only(transport, as_stored(BLOCK + lines.encode()))
    assert message_from_bytes(server.mails[0].message).get_payload(decode=True) == lines.encode()


async def test_eight_bit_text_beside_a_long_line() -> None:
    """Where 8BITMIME is offered only the part with the long line is re-encoded."""
    text = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngrüße\r\n".encode()
    long = b"Content-Type: text/html\r\n\r\n" + b"x" * 1200 + b"\r\n"
    server = SmtpServer()
    async with talking(server) as transport:
        await only(
            transport, job(data=b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + text + b"--b\r\n" + long + b"--b--\r\n")
        )
    message = server.mails[0].message
    assert text in message
    assert max(map(len, message.split(b"\r\n"))) <= 998
    assert b"BODY=8BITMIME" in server.mails[0].mail


async def test_a_long_line_that_is_no_text() -> None:
    """A long header field is no reason to touch the parts."""
    data = b"X-Long: " + b"x" * 1200 + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ncaf\xc3\xa9\r\n"
    server = SmtpServer()
    async with talking(server) as transport:
        await only(transport, job(data=data))
    assert server.mails[0].message == data


@dataclass(frozen=True)
class Unreadable(MemoryMessage):
    """A message whose octets cannot be had, or only some."""

    error: SpoolError = field(default_factory=lambda: SpoolError("the disk does not answer"))

    async def read(self) -> bytes:
        raise self.error

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.data[: 256 * 1024]
        raise self.error


@pytest.mark.parametrize("error", [SpoolError("the disk does not answer"), CorruptEntry(ID, "cut short")])
@pytest.mark.parametrize("data", [HELLO, HELLO + b"text\r\n" * 100_000], ids=["small", "large"])
async def test_a_message_that_cannot_be_read(data: bytes, error: SpoolError) -> None:
    """The spool's trouble comes out as it is, and nothing was handed over; the next message goes."""
    server = SmtpServer()
    async with talking(server) as transport:
        given = replace(job(), message=Unreadable(data, error))
        with pytest.raises(SpoolError) as raised:
            await send(transport, given)
        assert raised.value is error
        assert server.mails == []
        assert (await only(transport)).verdict is Verdict.OK
