"""How a record becomes a line: text as Postfix writes it, or a JSON object.

A record of `Events` has `program` and `fields`; one of a library has neither, and is told in one line as well. Pure but for
the clock of this host's time zone; formatting raises only what a library's own argument raises when it is written.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

from relay.log.words import LOGGER, LONGEST, clean, cut

MOST = 100  # items kept of one list

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}  # syslog(3)


def priority(record: logging.LogRecord) -> int:
    """The severity as syslog numbers it."""
    return _PRIORITY.get(record.levelno, 5)


def program_and_text(record: logging.LogRecord) -> tuple[str, str]:
    """The word after `relay/`, and the text of the line, or of several lines."""
    program: str | None = getattr(record, "program", None)
    if program is not None:
        return program or "master", record.msg
    text = clean(library_text(record))
    return "master", f"warning: {record.name}: {text}" if record.levelno >= logging.WARNING else f"{record.name}: {text}"


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The facts by name; always with `event`."""
    fields: dict[str, object] | None = getattr(record, "fields", None)
    return {"event": "library", "logger": record.name, "text": library_text(record)} if fields is None else fields


def library_text(record: logging.LogRecord) -> str:
    """What a library logged, with the exception in one phrase: its traceback is not for the admin."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the library's own format
        text = str(record.msg)
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
    return text


def missing(count: int, why: str) -> logging.LogRecord:
    """The warning that so many lines are missing here."""
    text = f"{count} log lines are missing here: {why}"
    record = logging.LogRecord(LOGGER, logging.WARNING, "", 0, f"warning: {text}", None, None)
    record.program = "master"
    record.fields = {"event": "warning", "text": text}
    return record


def capped(value: Any) -> Any:
    """A field's value of bounded size: long texts are cut, of long lists the first items are kept."""
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, list) and len(value) > MOST:
        return [*value[:MOST], f"and {len(value) - MOST} more"]
    return value


class TextFormatter(logging.Formatter):
    """`Nov 20 17:57:01 host relay/smtpd[812]: …`; on a stream that the journal reads, which knows time and host,
    `<6>relay/smtpd[812]: …` (sd-daemon(3))."""

    def __init__(self, *, host: str, journal: bool) -> None:
        super().__init__()
        self._host = host
        self._journal = journal
        self._pid = os.getpid()
        self._stamp = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """The whole line, or lines, without the last line end."""
        program, text = program_and_text(record)
        head = f"{self._before(record)}relay/{program}[{self._pid}]: "
        if "\n" in text:
            text = text.replace("\n", f"\n{head}")
        return head + text

    def _before(self, record: logging.LogRecord) -> str:
        if self._journal:
            return f"<{priority(record)}>"
        second = int(record.created)
        if self._stamp[0] != second:
            parts = time.localtime(second)
            self._stamp = (second, f"{time.strftime('%b', parts)} {parts.tm_mday:2d} {time.strftime('%H:%M:%S', parts)} {self._host} ")
        return self._stamp[1]


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, then the facts of the event."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(", ", ": "), default=str).encode
        self._stamp = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """The object; it holds no line end and no raw control character (JSON escapes them)."""
        whole = self._whole(record)
        line = self._encode(whole)
        if len(line) > 4 * LONGEST:  # seldom: looking at the line once is cheaper than at every field
            line = self._encode({key: value if key == "line" else capped(value) for key, value in whole.items()})
        return line

    def _whole(self, record: logging.LogRecord) -> dict[str, object]:
        second = int(record.created)
        if self._stamp[0] != second:
            self._stamp = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        stamp = f"{self._stamp[1]}.{int(record.msecs):03d}Z"
        return {"time": stamp, "level": record.levelname.lower(), **fields_of(record)}


class TailFormatter(JsonFormatter):
    """The JSON object, and as `line` the text line of the same record."""

    def __init__(self, *, host: str) -> None:
        super().__init__()
        self._text = TextFormatter(host=host, journal=False)

    def _whole(self, record: logging.LogRecord) -> dict[str, object]:
        return {**super()._whole(record), "line": self._text.format(record)}
