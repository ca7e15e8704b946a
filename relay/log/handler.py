"""Where the records go: one handler at the root logger, set up at the start and again at every reload.

The handler masks addresses, blots out secrets, counts the lines that nobody reads, and hands every line to `Tail` as well.
Setting it up again changes the handler that is there: no line is written twice or falls between two handlers, and what
was counted as missing is still told.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Protocol

from relay import sockets
from relay.log import journald
from relay.log.events import Events
from relay.log.formatters import JsonFormatter, TailFormatter, TextFormatter, missing
from relay.log.lines import Lines, pipe_of
from relay.log.masks import Mask
from relay.log.tail import Tail
from relay.log.words import LOGGER

NOISY = ("httpx", "httpcore", "mail.log", "uvicorn", "uvicorn.access", "uvicorn.error", "asyncio", "aiosmtplib")
SHORTEST_SECRET = 6  # a shorter "secret" would blot out ordinary words
UNREAD = "nobody read the log"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Sink(Protocol):
    """Where lines end."""

    def write(self, record: logging.LogRecord) -> int:
        """Write a record without waiting; returns how many of its lines are lost."""

    def lines(self, record: logging.LogRecord) -> int:
        """How many lines a record makes."""

    def close(self) -> None:
        """Give back what the sink opened."""


class Handler(logging.Handler):
    """The one handler. `sink` is None until the first setup."""

    def __init__(self) -> None:
        super().__init__()
        self.tail = Tail()
        self.sink: Sink | None = None
        self._mask: Mask | None = None
        self._blot: Callable[[str], str] = str
        self._missing = 0  # lines, since the log last said so

    def change(self, sink: Sink, mask: Mask | None, blot: Callable[[str], str], host: str) -> None:
        """Go on with other settings, between two lines."""
        formatter = TailFormatter(host=host)
        self.acquire()
        try:
            before, self.sink = self.sink, sink
            self._mask, self._blot, self.tail.formatter = mask, blot, formatter
        finally:
            self.release()
        if before is not None:
            before.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; never raises, never waits."""
        sink = self.sink
        if sink is None:
            return
        try:
            if self._mask is not None:
                record = self._mask.record(record)
            if self.tail.listening:
                self.tail.put(self._blot(self.tail.formatter.format(record)))
            if self._missing and not sink.write(missing(self._missing, UNREAD)):
                self._missing = 0
            self._missing += sink.lines(record) if self._missing else sink.write(record)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not stop the mail, and there is nowhere left to say so."""

    def close(self) -> None:
        """At the end of the process."""
        if self.sink is not None:
            self.sink.close()
        super().close()


class Secrets:
    """Blots configured secrets out of a text; too short ones are left, as they would blot out ordinary words."""

    def __init__(self, secrets: Iterable[str]) -> None:
        plain = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        escaped = {json.dumps(secret)[1:-1] for secret in plain}
        self._secrets = tuple(sorted(plain | escaped, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[secret]")
        return text


def under_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether `stream` is connected to the journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file (io.UnsupportedOperation is both), or closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def setup(
    *,
    stream: IO[str],
    environ: Mapping[str, str],
    level: str = "info",
    form: str = "auto",
    hostname: str = "",
    secrets: Iterable[str] = (),
    mask: str = "none",
    journal: str = journald.SOCKET,
) -> Tail:
    """Send our lines, and the libraries' warnings, to `stream` or the journal; returns the tail, the same one every time.

    Called again, it changes what the first call set up. `level` is debug, info, warning or error; `form` is auto, text,
    json or journald: auto is journald where `stream` is connected to the journal and its socket `journal` is there, and
    else text. `mask` is none, local or full. `secrets` are blotted out of every line. Asked for a journal that is not
    there, it writes text and a warning.
    """
    root = logging.getLogger()
    handler = next((each for each in root.handlers if isinstance(each, Handler)), None) or Handler()
    host = (hostname or sockets.hostname()).partition(".")[0]
    blot, ours, there = Secrets(secrets), under_journal(stream, environ), journald.available(journal)
    sink: Sink
    if there and (form == "journald" or (form == "auto" and ours)):
        sink = journald.Journal(journal, blot)
    else:
        formatter = JsonFormatter() if form == "json" else TextFormatter(host=host, journal=ours)
        old = handler.sink
        pipe = old.pipe if isinstance(old, Lines) and old.stream is stream else pipe_of(stream)  # it remembers a torn line
        sink = Lines(stream, formatter, blot, pipe)
    handler.change(sink, None if mask == "none" else Mask(mask, blot), blot, host)
    if handler not in root.handlers:
        root.addHandler(handler)
    logging.getLogger(LOGGER).setLevel(_LEVELS[level])
    for name in NOISY:  # some of them log whole requests, with their query, at INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    if form == "journald" and not there:
        Events().warning(f"log.format is journald, but there is no journal at {journal}: the log goes to standard error as text")
    return handler.tail
