"""The listener: takes mail from clients over TCP and unix sockets and hands it to the spool.

Promises: a client hears 250 only after `commit` has returned. Nothing a client does ends a commit that is under way, not
even leaving; the message then stays. Nor does a time-out of ours: a commit that takes long may still succeed, and a
refusal would only make the client send the message again, so the client waits for the truth or leaves when it likes.
An error of our own is 451 with a fixed text. TLS 1.2 is the least, passwords are kept nowhere, and who may send is decided
before anything is stored. A reload changes new connections and drops none. Memory, connections, errors and time are bounded by `Limits`.

What is said, and when, is decided in relay/smtp_protocol. The session, the envelope and the hook that takes a message are
aiosmtpd's (relay/listener/handler.py); why its core is not: docs/decisions/001-listener.md.
Fails with Unavailable when an address is not to be had; later it never raises.
"""

from __future__ import annotations

from relay.listener.handler import ClientSession, Handler, MessageEnvelope
from relay.listener.listeners import Listeners
from relay.listener.settings import Authenticator, Certificate, ListenerSettings, Network
from relay.smtp_protocol import Limits

__all__ = [
    "Authenticator",
    "Certificate",
    "ClientSession",
    "Handler",
    "Limits",
    "ListenerSettings",
    "Listeners",
    "MessageEnvelope",
    "Network",
]
