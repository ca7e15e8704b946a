"""aiosmtpd's surface: the session, the envelope and the handler hook under which the listener works.

A handler is any object with aiosmtpd's coroutine `handle_DATA(server, session, envelope)`, which returns the reply to the
final dot; ours commits the message to the spool. Two things differ from aiosmtpd. `envelope.intake` holds the message, whose
octets are on their way into the spool already, instead of `content`; and the null reverse-path is `""`, not `<>`.
Other hooks of aiosmtpd are not called: syntax, limits and order are the conversation's (relay/smtp_protocol).
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from ssl import SSLObject
from typing import Protocol

from aiosmtpd.smtp import Envelope as SmtpEnvelope
from aiosmtpd.smtp import Session

from relay.listener.intake import Intake
from relay.model import Client, Envelope, Facts


@lru_cache(maxsize=1024)
def _ip(text: str) -> IPv4Address | IPv6Address:
    found = ip_address(text.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


class ClientSession(Session):
    """aiosmtpd's session, with the listener's name and a peer that is an address or `unix`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: str) -> None:
        super().__init__(loop)
        self.listener = listener
        self.address, self.port = "unix", 0
        self.ip: IPv4Address | IPv6Address | None = None  # None for a unix socket
        self.local = True
        self.username = ""
        self.tls = ""

    def met(self, peer: object) -> None:
        """Take down who is on the other side: what `get_extra_info("peername")` says, or (address, port) from a proxy.

        An IPv4 client of a socket for both families is shown by its IPv4 address; an IPv6 address without its zone.
        """
        if isinstance(peer, tuple):
            self.ip = _ip(peer[0])
            self.address, self.port = str(self.ip), peer[1]
            self.peer = f"{self.address}:{self.port}"
            self.local = self.ip.is_loopback

    def secured(self, name: str, tls: SSLObject) -> None:
        """TLS is on; `name` is its version and cipher. What was said before is forgotten."""
        self.tls = name
        self.ssl = {"cipher": tls.cipher(), "compression": tls.compression(), "sslcontext": tls.context, "ssl_object": tls}
        self.username, self.authenticated, self.auth_data = "", None, None

    def logged_in(self, username: str) -> None:
        """The client has proved to be whom relay knows by `username`, which is all that `auth_data` holds: neither the name that it
        logged in with nor the password is kept, because either may be a secret."""
        self.username, self.authenticated = username, True
        self.auth_data = username  # type: ignore[assignment] # "can contain anything", says aiosmtpd, and types it as None

    @property
    def client(self) -> Client:
        """The client as the spool and the log know it."""
        return Client(
            listener=self.listener,
            address=self.address,
            port=self.port,
            name="localhost" if self.local else "unknown",
            helo=self.host_name or "",
            protocol=self._protocol(),
            username=self.username,
            tls=self.tls,
        )

    def _protocol(self) -> str:
        """The word of RFC 3848; TLS and logins are extensions, so with either it begins with E."""
        extended = self.extended_smtp or self.tls or self.username
        return ("ESMTP" if extended else "SMTP") + "S" * bool(self.tls) + "A" * bool(self.username)


class MessageEnvelope(SmtpEnvelope):
    """aiosmtpd's envelope of one message, with our own record of it, the facts learned on the way in, and its octets."""

    def __init__(self, mail: Envelope, intake: Intake, facts: Facts) -> None:
        super().__init__()
        self.mail_from = mail.reverse_path
        self.rcpt_tos = [recipient.address for recipient in mail.recipients]
        self.smtp_utf8 = mail.smtputf8
        self.mail = mail
        self.intake = intake
        self.facts = facts


class Handler(Protocol):
    """What is done with a whole message."""

    async def handle_DATA(self, server: object, session: ClientSession, envelope: MessageEnvelope) -> str:
        """The reply to the final dot. Not cancelled when the client leaves; an exception is 451 for the client."""


class SpoolHandler:
    """Stores the message; 250 means that it is durable."""

    async def handle_DATA(self, server: object, session: ClientSession, envelope: MessageEnvelope) -> str:
        """Commit to the spool."""
        return await envelope.intake.commit(session.client, envelope.facts)
