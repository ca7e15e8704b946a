"""SMTP as a server speaks it, as a pure state machine: octets in, replies and events out.

It knows no sockets, clocks or spools. The listener feeds it what the client sent and obeys the events it gets back:
`bytes` are to be sent; `Mail`, `Data` and `End` ask for a verdict, given with `answer`, and until then nothing more of the
client's input is looked at. The same input in other pieces gives the same events, except that input sent before it was
due (RFC 2920 §3.1) can only be noticed when it arrives together with what it should have waited for.

Promises, for any input: no exception; every reply is a valid reply line (RFC 5321 §4.2); only CR LF . CR LF ends a
message (RFC 5321 §4.1.1.4); no control character, encoded word or unchecked octet gets into an envelope; memory stays
bounded by `Limits`. RFC 5321, 1870, 2034, 2920, 3461, 6152, 6531.

AUTH and STARTTLS are not offered. Their places: `_extensions` names them, a method `_auth` or `_starttls` in `_VERBS`
gives an event that asks for a verdict as `Mail` does, and `_mail_from` asks whether the client is authenticated.
"""

from __future__ import annotations

from relay.smtp_protocol.conversation import Conversation
from relay.smtp_protocol.data import DataDecoder
from relay.smtp_protocol.events import Chunk, Close, Data, Dropped, End, Event, Limits, Mail, Refused

__all__ = ["Chunk", "Close", "Conversation", "Data", "DataDecoder", "Dropped", "End", "Event", "Limits", "Mail", "Refused"]
