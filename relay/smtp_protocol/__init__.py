"""SMTP as a server speaks it, as a pure state machine: octets in, replies and events out.

It knows no sockets, clocks, certificates or spools. The listener feeds it what the client sent and obeys the events it gets
back: `bytes` are to be sent; `StartTls`, `Credentials`, `Mail`, `Data` and `End` ask for a verdict, given with `answer`, and
until then nothing more of the client's input is looked at. The same input in other pieces gives the same events, except that
input sent before it was due (RFC 2920 §3.1) can only be noticed when it arrives together with what it should have waited for.

Promises, for any input: no exception; every reply is a valid reply line (RFC 5321 §4.2); only CR LF . CR LF ends a
message (RFC 5321 §4.1.1.4); no control character, encoded word or unchecked octet gets into an envelope; nothing that was
said in clear counts after STARTTLS (RFC 3207 §4.2); a password stands in its `Credentials` and nowhere else; memory stays
bounded by `Limits`. RFC 5321, 1870, 2034, 2920, 3207, 3461, 4616, 4954, 6152, 6531.
"""

from __future__ import annotations

from relay.smtp_protocol.conversation import Conversation
from relay.smtp_protocol.data import DataDecoder
from relay.smtp_protocol.events import (
    Chunk,
    Close,
    Credentials,
    Data,
    Dropped,
    End,
    Event,
    Limits,
    Mail,
    Policy,
    Refused,
    StartTls,
    TlsMode,
)

__all__ = [
    "Chunk",
    "Close",
    "Conversation",
    "Credentials",
    "Data",
    "DataDecoder",
    "Dropped",
    "End",
    "Event",
    "Limits",
    "Mail",
    "Policy",
    "Refused",
    "StartTls",
    "TlsMode",
]
