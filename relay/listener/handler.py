"""aiosmtpd's surface: the session, the envelope and the handler hook under which the listener works.

A handler is any object with aiosmtpd's coroutine `handle_DATA(server, session, envelope)`, which returns the reply to the
final dot; ours commits the message to the spool. Two things differ from aiosmtpd. `envelope.intake` holds the message, whose
octets are on their way into the spool already, instead of `content`; and the null reverse-path is `""`, not `<>`.
Other hooks of aiosmtpd are not called: syntax, limits and order are the conversation's (relay/smtp_protocol).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiosmtpd.smtp import Envelope as SmtpEnvelope
from aiosmtpd.smtp import Session

from relay.listener.intake import Intake
from relay.model import Client, Envelope, Facts


class ClientSession(Session):
    """aiosmtpd's session, with the listener's name and a peer that is an address or `unix`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: str) -> None:
        super().__init__(loop)
        self.listener = listener
        self.address, self.port = "unix", 0
        self.local = True

    def met(self, peer: object) -> None:
        """Take down who is on the other side: what `get_extra_info("peername")` says."""
        if isinstance(peer, tuple):
            self.address, self.port = peer[:2]
            self.peer = f"{self.address}:{self.port}"
            self.local = self.address == "::1" or self.address.startswith("127.")

    @property
    def client(self) -> Client:
        """The client as the spool and the log know it."""
        return Client(
            listener=self.listener,
            address=self.address,
            port=self.port,
            name="localhost" if self.local else "unknown",
            helo=self.host_name or "",
            protocol="ESMTP" if self.extended_smtp else "SMTP",
        )


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
