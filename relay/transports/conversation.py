"""An open SMTP connection and the transactions on it: MAIL, RCPT…, DATA, message, dot.

Promises: everything up to DATA goes in one write where the server offers PIPELINING; a message streams with flat
memory; each reply has a deadline; the final dot is handed over only when a recipient was accepted and the server asked
for the message. A transaction ends with a stage and a finding for each recipient; Trouble says that the connection
broke (or spoke nonsense) before the server answered MAIL. What a finding means is decided in relay/transports/smtp/judging.py.
RFC 5321 §4.1.1, §4.5.3.2; RFC 2920 §3.1.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from relay.model import Verdict
from relay.transports import esmtp, net

CLOSING = 421
SMALL = 64 * 1024  # a message up to this leaves in one write
_PIECE = 256 * 1024
_MIN_RATE = 4096  # octets per second that a server must take
_READ = 4096


@dataclass(frozen=True, slots=True)
class Lost:
    """What is found where no reply was: a connection refused, cut, silent or garbled."""

    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Our own finding that this server cannot have the message."""

    verdict: Verdict
    status: str
    text: str


Finding = esmtp.Reply | Lost | Refused
Found = list[tuple[str, Finding]]
"""For each recipient, in order: the stage at which its way ended, and what was found there."""


class Trouble(Exception):
    """The conversation ended at `stage`, for all recipients alike. Never leaves the SMTP transport."""

    def __init__(self, stage: str, finding: Finding) -> None:
        self.stage = stage
        self.finding = finding
        super().__init__(stage)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction says: ready-made commands, the edited header block, and the rest of the message."""

    mail: bytes
    rcpts: Sequence[bytes]
    header: bytes
    body: AsyncIterator[bytes] | bytes
    size: int


class Connection(asyncio.BufferedProtocol):
    """A connection that is greeted, encrypted and logged in as it should be.

    Deadlines in seconds: `timeout` for each reply and each pause in sending, `dot_timeout` for the reply to the final dot.
    """

    def __init__(
        self, transport: asyncio.Transport, remote: str, extensions: esmtp.Extensions, *, timeout: float, dot_timeout: float
    ) -> None:
        self.remote = remote
        self.extensions = extensions
        self.messages = 0
        self.opened = self.released = time.monotonic()
        self.usable = True
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._timeout = timeout
        self._dot_timeout = dot_timeout
        self._transport = transport
        self._buffer = memoryview(bytearray(_READ))  # asyncio's TLS slices it, and must not get a copy
        self._reader = esmtp.Replies()
        self._replies: deque[esmtp.Reply] = deque()
        self._lost = ""
        self._paused = False
        self._busy = False
        self._dirty = False  # the server may still be in a transaction
        self._waiter: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    # What the event loop calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._busy:
            self.abort("the server spoke unasked")
            return
        try:
            self._replies.extend(self._reader.feed(bytes(self._buffer[:nbytes])))
        except esmtp.Garbled as error:
            self.abort(f"garbled reply: {error}")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or (f"connection lost: {net.reason(exc)}" if exc else "connection closed by the server")
        self.usable = False
        self._wake()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # What the pool calls.

    def begin(self) -> None:
        """Start a transaction: from now on the server may speak."""
        self._busy = True
        self.messages += 1

    def end(self) -> None:
        """The transaction is over; a reply that comes now would be taken for somebody else's."""
        self._busy = False
        self.released = time.monotonic()
        if self._replies:
            self.abort("the server spoke unasked")

    def abort(self, why: str) -> None:
        """Close at once; what has not left yet never does."""
        self._lost = self._lost or why
        self.usable = False
        self._transport.abort()

    def quit(self) -> None:
        """Take leave without waiting for the answer."""
        if not self._lost:
            self._busy, self.usable, self._lost = True, False, "closed"
            self._transport.write(b"QUIT\r\n")
            self._transport.close()

    # The transaction.

    async def transact(self, what: Transaction) -> Found:
        """Carry out one transaction. Raises Trouble when the server never answered MAIL as SMTP has it."""
        pipelined = "pipelining" in self.extensions
        reset = b"RSET\r\n" if self._dirty else b""
        self._dirty = True
        if pipelined:
            self._write("mail", b"".join((reset, what.mail, *what.rcpts, b"DATA\r\n")))
        elif reset:
            self._write("mail", reset)
        if reset and (await self._reply("mail")).code >= 400:
            raise Trouble("mail", Lost("RSET was refused"))
        if not pipelined:
            self._write("mail", what.mail)
        mail = await self._reply("mail")
        if mail.code >= 400:
            if pipelined and mail.code != CLOSING:
                await self._skip(len(what.rcpts))
            return [("mail", mail)] * len(what.rcpts)
        refused: dict[int, Finding] = {}
        try:
            stage, finding = await self._after_mail(what, pipelined, refused)
        except Trouble as trouble:
            self.abort("")
            stage, finding = trouble.stage, trouble.finding
        return [("rcpt", refused[at]) if at in refused else (stage, finding) for at in range(len(what.rcpts))]

    async def _after_mail(self, what: Transaction, pipelined: bool, refused: dict[int, Finding]) -> tuple[str, Finding]:
        """RCPT, DATA, message; fills `refused`, and returns what became of all other recipients."""
        reply = None
        for at, command in enumerate(what.rcpts):
            if not pipelined:
                self._write("rcpt", command)
            reply = await self._reply("rcpt")
            if reply.code == CLOSING:
                return "rcpt", reply
            if reply.code >= 400:
                refused[at] = reply
        nobody = len(refused) == len(what.rcpts)
        if not pipelined:
            if nobody and reply:
                return "rcpt", reply
            self._write("data", b"DATA\r\n")
        reply = await self._reply("data")
        if reply.code >= 400:
            return "data", reply
        if nobody:  # RFC 2920 §3.1: end the message that is for nobody; whatever comes back, nobody gets it
            self._write("dot", b".\r\n")
        else:
            await self._send(what)
        reply = await self._reply("dot")
        self._dirty = False
        return "dot", reply

    async def _send(self, what: Transaction) -> None:
        """The message and the final dot. Until the dot is written any loss is a loss at `data`."""
        stuffer = esmtp.Stuffer()
        if isinstance(what.body, bytes) and what.size <= SMALL:
            self._write("data", stuffer.feed(what.header + what.body) + stuffer.end())
            return
        deadline = self._loop.time() + self._timeout + what.size / _MIN_RATE
        self._write("data", stuffer.feed(what.header))
        async for piece in _pieces(what.body):
            self._write("data", stuffer.feed(piece))
            await self._drain(deadline)
        self._write("data", stuffer.end())

    async def _skip(self, rcpts: int) -> None:
        """Read the replies to what was pipelined behind a refused MAIL. A server that wants the message all the same is left."""
        try:
            for _ in range(rcpts):
                await self._reply("rcpt")
            if (await self._reply("data")).code < 400:
                self.abort("DATA without MAIL")
        except Trouble:
            self.abort("")

    def _write(self, stage: str, data: bytes) -> None:
        if self._lost:
            raise Trouble(stage, Lost(self._lost))
        self._transport.write(data)

    async def _drain(self, deadline: float) -> None:
        """Wait until the server took most of the message so far. What it says before the dot ends the transaction."""
        deadline = min(deadline, self._loop.time() + self._timeout)
        while self._paused and not (self._lost or self._replies):
            await self._wait(deadline, "the server takes the message too slowly")
        if self._replies:
            reply = self._take()
            raise Trouble("data", reply if reply.code >= 400 else Lost(f"reply before the end of the message: {reply.code} {reply.text}"))
        if self._lost:
            raise Trouble("data", Lost(self._lost))

    async def _reply(self, stage: str) -> esmtp.Reply:
        """The next reply; Trouble when none comes, or one that cannot stand here."""
        seconds = self._dot_timeout if stage == "dot" else self._timeout
        deadline = self._loop.time() + seconds
        while not self._replies:
            if self._lost:
                raise Trouble(stage, Lost(self._lost))
            await self._wait(deadline, f"no reply within {seconds:g} s")
        reply = self._take()
        if reply.code < 400 and reply.code // 100 != (3 if stage == "data" else 2):
            raise Trouble(stage, Lost(f"unexpected reply: {reply.code} {reply.text}"))
        return reply

    def _take(self) -> esmtp.Reply:
        reply = self._replies.popleft()
        if reply.code == CLOSING:
            self.usable = False
        return reply

    async def _wait(self, deadline: float, why: str) -> None:
        """Wait until something happens; at `deadline` (of the loop's clock) the connection is cut for `why`."""
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._expire, why)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _expire(self, why: str) -> None:
        self.abort(why)
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


async def _pieces(body: AsyncIterator[bytes] | bytes) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), _PIECE):
            yield body[start : start + _PIECE]
        return
    async for piece in body:
        yield piece
