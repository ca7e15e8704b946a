"""How the log words things: what others said made fit for a line, times, delays; and the one way a record is written.

`msg` of a record is the text that follows `relay/smtpd[812]: `, `program` the word after `relay/`, and `fields` the same facts
by name. Whatever a client or a provider said is stripped of control characters and capped in the text; in the fields it
stays as it came, for every form writes them safely.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

LOGGER = "relay"
LONGEST = 1000  # characters kept of one text that came from outside


def clean(text: str) -> str:
    """One printable line of bounded length: what is not printable becomes `?`."""
    text = cut(text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def cut(text: str) -> str:
    """At most `LONGEST` characters; between two words where it can, so that no part of an address is left behind."""
    if len(text) <= LONGEST:
        return text
    end = max(text.rfind(" ", LONGEST - 100, LONGEST - 3), 0) or LONGEST - 3
    return text[:end] + "..."


def address(text: str) -> str:
    """An address as it stands between `<` and `>`; a quoted local part cannot close the bracket."""
    text = clean(text)
    if ">" in text or "<" in text:
        text = text.replace("<", "?").replace(">", "?")
    return text


_HUNDREDTHS = tuple(f"{number / 100:g}" for number in range(100))  # formatting floats is the dearest part of a line
_TENTHS = tuple(f"{number / 10:g}" for number in range(100))


def seconds(value: float) -> str:
    """Seconds as Postfix prints a delay: two significant digits, at most two decimals."""
    if value < 0.995:
        return _HUNDREDTHS[max(0, int(value * 100 + 0.5))]
    return _TENTHS[int(value * 10 + 0.5)] if value < 9.95 else str(int(value + 0.5))


def clock(when: float) -> str:
    """Hours, minutes and seconds of the local day."""
    parts = time.localtime(when)
    return f"{parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d}"


def rfc3339(when: float) -> str:
    """Date and time in UTC, to the millisecond."""
    parts = time.gmtime(when)
    day = f"{parts.tm_year}-{parts.tm_mon:02d}-{parts.tm_mday:02d}"
    return f"{day}T{parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d}.{int(when % 1 * 1000):03d}Z"


def several(recipients: Sequence[str]) -> str:
    """The first ten of them."""
    more = f" and {len(recipients) - 10} more" if len(recipients) > 10 else ""
    return ", ".join(f"to=<{address(recipient)}>" for recipient in recipients[:10]) + more


def recipients_wait(count: int) -> str:
    """So many."""
    return f"{count} recipient waits" if count == 1 else f"{count} recipients wait"


class Writer:
    """Writes records: each is one line of the log. Times are Unix seconds, delays are seconds."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER)

    def _write(self, level: int, program: str, text: str, fields: dict[str, object]) -> None:
        # Not logger.log(): looking up the calling frame costs more than all the rest of the line.
        record = logging.LogRecord(self._logger.name, level, "", 0, text, None, None)
        record.program = program
        record.fields = fields
        self._logger.handle(record)

    def _write_if(self, level: int, program: str, text: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._write(level, program, text, dict(fields))
