"""One client's connection below its conversation: socket, PROXY header, TLS, when to read, and how to close.

What comes from the socket passes a PROXY header where one is due, then TLS where it is on, then the conversation, which the
subclass holds. TLS is pumped here rather than by asyncio's layer, so that one deadline, one buffer and one way to close
serve both. Nothing is said in clear where TLS is due. Never raises; what goes wrong is one line in the log.
"""

from __future__ import annotations

import asyncio
import math
import select
from abc import abstractmethod
from typing import cast

from relay.listener import proxy
from relay.listener.handler import ClientSession
from relay.listener.settings import ListenerSettings, proxied
from relay.listener.shared import Shared
from relay.listener.tls import Tls, TlsError

_CROWDED = "421 4.7.0 too many connections; try again later"
_IMPLICIT = "set the client to implicit TLS (SSL/TLS), or to a listener with STARTTLS"
_NOT_IMPLICIT = f"plain SMTP, but this listener has TLS from the first octet on: {_IMPLICIT}"
_UNPROXIED = "and this peer is in the listener's proxy list"
_TLS_HANDSHAKE = 0x16  # the first octet of a TLS ClientHello (RFC 8446 §5.1)


class Channel(asyncio.BufferedProtocol):
    """One client of the listener with `settings`, as octets. `deadline` is in loop time."""

    def __init__(self, shared: Shared, settings: ListenerSettings) -> None:
        self.deadline = math.inf
        self._shared = shared
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(self._loop, settings.name)
        self._transport: asyncio.Transport  # from connection_made on
        self._header: bytes | None = None  # what has come of a PROXY header, while one is due
        self._tls: Tls | None = None
        self._mute = False  # nothing can be said: TLS has not begun
        self._joined = False
        self._counted = ""  # the address whose limit this connection counts for
        self._closing = False
        self._half_closed = False  # the client has finished sending
        self._reading = True
        self._clogged = False  # the client does not read our replies

    # What the conversation does.

    @abstractmethod
    def expire(self) -> None:
        """The deadline has passed."""

    @abstractmethod
    def wind_up(self) -> None:
        """Say 421 and close, unless a message is on its way in."""

    @abstractmethod
    def cut(self) -> None:
        """Close at once."""

    @abstractmethod
    def _greet(self, *, early: bool) -> None:
        """The client is there and can be spoken to. `early`: it has sent something already."""

    @abstractmethod
    def _take(self, data: bytes) -> None:
        """The client said `data`. May raise: that is a bug, and `_fail` follows."""

    @abstractmethod
    def _fail(self) -> None:
        """Something of our own broke: end the session."""

    @abstractmethod
    def _know(self) -> ClientSession:
        """The session with what the client has said of itself so far."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop what was under way: a message coming in, a login being checked."""

    @property
    @abstractmethod
    def _owes(self) -> bool:
        """Whether the client waits for a verdict."""

    @property
    @abstractmethod
    def _busy(self) -> bool:
        """Whether nothing more can be taken from the client now."""

    @property
    @abstractmethod
    def _interrupted(self) -> bool:
        """Whether a message is on its way in, which cannot be completed when the connection is lost now."""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse one connection too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._session.met(transport.get_extra_info("peername"))
        self._mute = self._settings.tls == "implicit"
        has_header = proxied(self._settings, self._session.ip)
        if not self._join(exempt=has_header):
            return
        self._set_deadline(self._shared.limits.command_timeout)
        if has_header:
            self._header = b""
        else:
            self._begin(early=not self._mute and _readable(transport.get_extra_info("socket").fileno()))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio reads into."""
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The client has sent something."""
        if self._closing:
            return
        try:
            self._receive(self._shared.buffer[:nbytes].tobytes())
        except Exception as error:
            self._shared.events.bug("a client's input could not be handled", error, "smtpd")
            self._fail()
        self._flow()

    def eof_received(self) -> bool:
        """The client has finished sending. True keeps our side open: it may wait for the reply to its message."""
        self._half_closed = True
        return self._owes and not self._closing

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
        if not self._closing:
            self._warn_of_loss()
        self._closing = True
        self.deadline = math.inf
        self._forget()
        self._leave()

    # From the socket to the conversation.

    def _begin(self, *, early: bool) -> None:
        """The client is known: greet it, or wait for its TLS hello. `early`: it has sent something already."""
        if not self._mute:
            self._greet(early=early)
            return
        try:
            self._start_tls(self._new_tls())
        except Exception as error:
            self._shared.events.bug("TLS could not begin", error, "smtpd")
            self._close("")

    def _receive(self, data: bytes) -> None:
        if self._header is not None:
            data = self._take_header(self._header + data)
        if data and self._tls and not self._closing:
            data = self._decrypt(self._tls, data)
        if data and not self._closing:
            self._take(data)
        if self._tls and self._tls.ended and not self._closing and not self.eof_received():
            self._hang_up()

    def _take_header(self, data: bytes) -> bytes:
        """Take a PROXY header; returns what follows it."""
        try:
            found = proxy.read(data)
        except proxy.ProxyError as error:
            self._close(f"{error}, {_UNPROXIED}")
            return b""
        if not found:
            self._header = data
            return b""
        self._header = None
        rest = data[found.size :]
        if found.source:
            self._leave()
            self._session.met(found.source)
            if not self._join(exempt=False):
                return b""
        self._begin(early=bool(rest))
        return rest

    def _new_tls(self) -> Tls:
        """TLS with the certificate that is in use now."""
        assert self._settings.certificate is not None, "the settings say so"
        return Tls(self._settings.certificate.context)

    def _start_tls(self, tls: Tls) -> None:
        """What comes next is a handshake."""
        self._tls, self._mute = tls, True
        self._set_deadline(self._shared.limits.handshake_timeout)

    def _decrypt(self, tls: Tls, data: bytes) -> bytes:
        if not tls.begun and data[0] != _TLS_HANDSHAKE:
            self._close(_NOT_IMPLICIT if self._settings.tls == "implicit" else "no TLS hello after STARTTLS")
            return b""
        try:
            plain = tls.receive(data)
        except TlsError as error:
            self._transport.write(tls.pending())
            self._close(f"{'TLS' if tls.ready else 'TLS handshake'} failed: {error}")
            return b""
        if pending := tls.pending():
            self._transport.write(pending)
        if self._mute and tls.ready:
            self._mute = False
            self._session.secured(tls.name, tls.object)
            self._set_deadline(self._shared.limits.command_timeout)
            if self._settings.tls == "implicit":
                self._greet(early=bool(plain))
        return plain

    # From the conversation to the socket.

    def _write(self, data: bytes) -> None:
        if not self._mute:
            self._transport.write(self._tls.send(data) if self._tls else data)

    def _overdue(self) -> str:
        """What was due before the conversation and has not come, or ""."""
        if self._header is not None:
            return f"no PROXY header came, {_UNPROXIED}"
        if self._mute:
            return f"no TLS handshake came: {_IMPLICIT}" if self._settings.tls == "implicit" else "no TLS handshake came after STARTTLS"
        return ""

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds

    def _flow(self) -> None:
        """Read from the client, or do not."""
        if self._transport.is_closing():
            return
        wanted = self._closing or not (self._clogged or self._busy)
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _close(self, why: str, *, agreed: bool = False) -> None:
        """Close after the last reply. Unless that was agreed on in clear (QUIT), what the client still sends is read and dropped
        for a while: to close with unread input would destroy the reply on its way, and under TLS the client answers our end."""
        if why:
            self._warn(why)
        self._forget()
        self._closing = True
        if (agreed and not self._tls) or self._half_closed or not self._transport.can_write_eof():
            self._hang_up()
        else:
            self._set_deadline(self._shared.limits.linger)
            self._say_end()
            try:
                self._transport.write_eof()
            except OSError:  # the client has gone already
                self._transport.abort()
            self._flow()

    def _hang_up(self) -> None:
        """Close after the last reply, and take nothing more. The client has `linger` to read what is written already."""
        if not self._closing:
            self._warn_of_loss()
        self._closing = True  # also because nothing can be said under TLS once we have ended it
        self._set_deadline(self._shared.limits.linger)
        self._say_end()
        self._transport.close()

    def _say_end(self) -> None:
        if self._tls and self._tls.ready:
            self._transport.write(self._tls.finish())

    # What all connections share.

    def _join(self, *, exempt: bool) -> bool:
        """Be counted; `exempt`: not for this client's address. False: there are too many."""
        self._counted = "" if exempt or self._session.local else self._session.address
        self._joined = self._shared.join(self, self._counted, exempt=not self._counted)
        if not self._joined:
            self._shared.metrics.rejected(self._session.listener, _CROWDED[:9])
            self._closing = True
            self._write(f"{_CROWDED}\r\n".encode())
            self._transport.close()
        return self._joined

    def _leave(self) -> None:
        if self._joined:
            self._joined = False
            self._shared.leave(self, self._counted, exempt=not self._counted)

    def _warn_of_loss(self) -> None:
        """The client left: say so where something was not finished."""
        if self._interrupted:
            self._warn("connection lost in the middle of a message")
        elif self._tls and self._tls.begun and not self._tls.ready:
            self._warn("connection lost in the TLS handshake: does the client trust this listener's certificate?")

    def _warn(self, text: str) -> None:
        client = self._know().client
        self._shared.events.warning(f"{text} (client={client.name}[{client.address}], listener {client.listener})", "smtpd")


def _readable(fileno: int) -> bool:
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
