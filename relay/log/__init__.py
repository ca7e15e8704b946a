"""The log: one method for each thing worth telling, one line each, in the shape that Postfix made known.

Text lines read like Postfix's, so that grok patterns and `pflogsumm --syslog_name=relay` understand them; JSON lines and
the journal's entries carry the same facts as fields (docs/logs.md lists every event). Rooms call `Events`; nobody else in
the package formats a log line. `Events()` works without `setup()`: its lines then go where the logger `relay` sends them.

Whatever a client or a provider said is stripped of control characters and capped before it is written; configured
secrets are blotted out of every line, and addresses masked where that is asked for. Logging never raises into the caller
and never waits: a line that cannot be written is dropped. Where the log is a pipe, a socket or the journal and its reader
has stopped reading, lines are dropped until it reads on, and then one line says how many; files and terminals are simply
written to.
"""

from __future__ import annotations

from relay.log.events import Events
from relay.log.formatters import JsonFormatter, TailFormatter, TextFormatter
from relay.log.handler import NOISY, setup, under_journal
from relay.log.journald import SOCKET
from relay.log.tail import Subscription, Tail
from relay.log.words import LOGGER, clean, seconds

__all__ = [
    "LOGGER",
    "NOISY",
    "SOCKET",
    "Events",
    "JsonFormatter",
    "Subscription",
    "Tail",
    "TailFormatter",
    "TextFormatter",
    "clean",
    "seconds",
    "setup",
    "under_journal",
]
