"""One client's connection: obeys its Conversation; knows sockets and time, and when to read and to close."""

from __future__ import annotations

import asyncio
import math
import select
from typing import cast

from relay.errors import SpoolError, SpoolFull
from relay.listener.handler import ClientSession, Handler, MessageEnvelope
from relay.listener.intake import BUG, FULL, TROUBLE, Intake
from relay.listener.shared import Shared
from relay.model import Facts
from relay.smtp_protocol import Chunk, Close, Conversation, Data, Dropped, End, Event, Mail, Refused

_STOPPING = "421 4.3.2 shutting down; try again later"
_TIMEOUT = "421 4.4.2 time-out; closing the connection"
_CROWDED = "421 4.7.0 too many connections; try again later"


class Connection(asyncio.BufferedProtocol):
    """One client of the listener `name`; whole messages go to `handler`."""

    def __init__(self, shared: Shared, handler: Handler, name: str, max_size: int) -> None:
        self.deadline = math.inf  # loop time
        self._shared = shared
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(self._loop, name)
        self._core = Conversation(shared.hostname, shared.limits, max_size)
        self._transport: asyncio.Transport  # from connection_made on
        self._joined = False
        self._closing = False
        self._half_closed = False  # the client has finished sending
        self._reading = True
        self._clogged = False  # the client does not read our replies
        self._ahead = False  # the client sent more although it waits for a verdict
        self._intake: Intake | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse one connection too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._session.met(transport.get_extra_info("peername"))
        self._joined = self._shared.join(self, self._session.address, exempt=self._session.local)
        if not self._joined:
            self._shared.metrics.rejected(self._session.listener, _CROWDED[:9])
            self._closing = True
            self._transport.write(f"{_CROWDED}\r\n".encode())
            self._transport.close()
            return
        self._set_deadline(self._shared.limits.command_timeout)
        self._obey(self._core.start(early=_readable(transport.get_extra_info("socket").fileno())))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio reads into."""
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The client has sent something."""
        if self._closing:
            return
        self._ahead = bool(self._core.asks)
        receiving = self._core.receiving
        try:
            events = self._core.receive(self._shared.buffer[:nbytes].tobytes())
            self._put_off(nbytes, receiving=receiving, progress=bool(events))
            self._obey(events)
        except Exception as error:
            self._shared.events.bug("a client's input could not be handled", error, "smtpd")
            self._obey(self._core.give_up(BUG, ""))
        self._flow()

    def eof_received(self) -> bool:
        """The client has finished sending. True keeps our side open: it may wait for the reply to its message."""
        self._half_closed = True
        return bool(self._core.asks) and not self._closing

    def pause_writing(self) -> None:
        """The client does not read: take nothing more from it until it does. Its deadline stays."""
        self._clogged = True
        self._flow()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._clogged = False
        self._flow()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. A message half received is forgotten; a commit goes on."""
        if self._core.receiving and not self._closing:
            self._warn("connection lost in the middle of a message")
        self._closing = True
        self.deadline = math.inf
        self._forget()
        if self._joined:
            self._shared.leave(self, self._session.address, exempt=self._session.local)

    # What all connections are told.

    def expire(self) -> None:
        """The deadline has passed: say so, or, when that was said already, do not wait any longer."""
        if self._closing:
            self.cut()
        else:
            self._obey(self._core.give_up(_TIMEOUT, f"time-out after {self._core.stage}" if self._core.in_transaction else ""))

    def wind_up(self) -> None:
        """Say 421 and close, unless a message is on its way in."""
        if not (self._closing or self._core.receiving or self._core.asks):
            self._obey(self._core.give_up(_STOPPING, ""))

    def cut(self) -> None:
        """Close at once. Who waits for a commit hears nothing, because nobody knows yet what to say."""
        if not (self._closing or self._core.asks):
            self._transport.write(f"{_STOPPING}\r\n".encode())
        self._closing = True
        self._transport.abort()

    # What the conversation wants.

    def _obey(self, events: list[Event]) -> None:
        replies: list[bytes] = []
        close: Close | None = None
        while events:
            follow: list[Event] = []
            for event in events:
                if isinstance(event, bytes):
                    replies.append(event)
                elif isinstance(event, Mail | Data | End):
                    verdict = self._verdict(event)
                    follow = [] if verdict is None else self._core.answer(verdict)
                elif isinstance(event, Close):
                    close = event
                else:
                    self._note(event)
            events = follow
        if replies:
            self._transport.write(b"".join(replies))
        if close:
            self._close(close.why)
        elif self._shared.stopping:
            self.wind_up()

    def _note(self, event: Chunk | Dropped | Refused) -> None:
        if isinstance(event, Dropped):
            self._forget()
        elif isinstance(event, Refused):
            client = self._know().client
            self._shared.events.rejected(client, event.stage, event.reply, event.reverse_path, event.recipients, client.helo)
            self._shared.metrics.rejected(self._session.listener, event.reply[:9])
        elif self._intake and not self._intake.write(event.data, self._flow):
            self._core.drop(FULL)
            self._forget()

    def _verdict(self, event: Mail | Data | End) -> str | None:
        """ "" for yes, a refusal, or None when it comes later."""
        try:
            if isinstance(event, Mail):
                return self._may_begin(event)
            if isinstance(event, Data):
                self._intake = Intake(self._shared, event.envelope)
                self._set_deadline(self._shared.limits.command_timeout)
                return ""
            return self._complete(event.facts)
        except SpoolFull:
            return FULL
        except SpoolError:
            return TROUBLE
        except Exception as error:
            self._shared.events.bug(f"{self._core.stage} could not be handled", error, "smtpd")
            self._forget()
            return BUG

    def _may_begin(self, mail: Mail) -> str:
        if self._shared.stopping:
            return _STOPPING
        health = self._shared.spool.health()
        if health.full or self._shared.in_flight + mail.size > self._shared.limits.bytes_in_flight:
            return FULL
        return "" if health.ok else TROUBLE

    def _complete(self, facts: Facts) -> str | None:
        intake = self._intake
        if intake is None:  # its last octets were too many for all clients together
            return FULL
        if refusal := intake.check():
            self._forget()
            return refusal
        self._intake = None  # from here on it is not ours to forget
        self.deadline = math.inf
        self._know()
        self._shared.spawn(self._commit(MessageEnvelope(intake.envelope, intake, facts)))
        return None

    async def _commit(self, envelope: MessageEnvelope) -> None:
        try:
            reply = await self._handler.handle_DATA(self, self._session, envelope)
        except Exception as error:
            self._shared.events.bug("the handler of a message failed", error, "smtpd")
            reply = BUG
        if self._closing:
            if reply.startswith("2"):
                self._warn(f"{envelope.intake.queue_id}: stored, but the connection ended before the reply: the client may send it again")
            return
        self._set_deadline(self._shared.limits.command_timeout)
        self._ahead = False
        self._obey(self._core.answer(reply))
        if self._half_closed and not self._core.asks:
            self._transport.close()
        self._flow()

    # Reading, waiting, closing.

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds

    def _put_off(self, nbytes: int, *, receiving: bool, progress: bool) -> None:
        """A whole command earns a new deadline; octets of a message only put it off a little (smtpd_min_data_rate)."""
        limits = self._shared.limits
        if receiving:
            self.deadline = min(self._loop.time() + limits.command_timeout, self.deadline + nbytes / limits.min_data_rate)
        elif progress:
            self._set_deadline(limits.command_timeout)

    def _flow(self) -> None:
        """Read from the client, or do not."""
        if self._transport.is_closing():
            return
        full = self._intake is not None and self._intake.draining
        wanted = self._closing or not (self._clogged or full or self._ahead)
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _close(self, why: str) -> None:
        """Close after the last reply. Except after QUIT, what the client still sends is read and dropped for a while: to close
        with unread input would destroy the reply on its way."""
        if why:
            self._warn(why)
        self._forget()
        self._closing = True
        self._set_deadline(self._shared.limits.linger)
        if self._core.stage == "QUIT" or self._half_closed or not self._transport.can_write_eof():
            self._transport.close()
        else:
            try:
                self._transport.write_eof()
            except OSError:  # the client has gone already
                self._transport.abort()
            self._flow()

    def _forget(self) -> None:
        """Drop the message that was on its way in."""
        if self._intake:
            self._shared.spawn(self._intake.abort())
            self._intake = None

    # For the log.

    def _know(self) -> ClientSession:
        """The session with what the client has said of itself so far."""
        self._session.host_name, self._session.extended_smtp = self._core.helo, self._core.esmtp
        return self._session

    def _warn(self, text: str) -> None:
        client = self._know().client
        self._shared.events.warning(f"{text} (client={client.name}[{client.address}], listener {client.listener})", "smtpd")


def _readable(fileno: int) -> bool:
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
