"""The journal's own protocol: one datagram per entry, with the facts as fields (systemd.io/JOURNAL_NATIVE_PROTOCOL).

`journalctl -o short` shows the entries as syslog lines, and `journalctl RELAY_QUEUE_ID=…` finds them by a fact. Sending never
waits and never raises: `write` tells that the entry is lost, because the journal is not there or has not kept up.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from relay.log.formatters import capped, fields_of, priority, program_and_text
from relay.log.words import clean

SOCKET = "/run/systemd/journal/socket"
MAIL = 2  # the facility, syslog(3)
BUFFER = 8 * 1024 * 1024  # octets asked for as send buffer, as sd_journal_send(3) does; the kernel may give less

_TEXTS_OF_LINES = {"traceback", "problems"}
_NAMES: dict[str, str] = {}  # of facts, as the journal wants them: making them anew costs more than all the rest
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def available(path: str) -> bool:
    """Whether the journal's socket is there."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def entry(record: logging.LogRecord, pid: int, blot: Callable[[str], str]) -> bytes:
    """The datagram of a record: MESSAGE and what syslog would know, then each fact as RELAY_*.

    The recipients of one entry are one field each, so that each of them is found; other lists are one text.
    """
    program, text = program_and_text(record)
    single = [f"PRIORITY={priority(record)}\nSYSLOG_FACILITY={MAIL}\nSYSLOG_IDENTIFIER=relay/{program}\nSYSLOG_PID={pid}\n"]
    several = []  # fields of several lines, seldom
    if "\n" in text:
        several.append(("MESSAGE", text))
    else:
        single.append(f"MESSAGE={text}\n")
    for key, value in fields_of(record).items():
        name = _NAMES.get(key) or _NAMES.setdefault(key, f"RELAY_{key.upper()}")
        if isinstance(value, str):
            single.append(f"{name}={clean(value)}\n")
        elif key in _TEXTS_OF_LINES:
            several.append((name, "\n".join(_items(value))))
        elif key == "recipients":
            single += [f"{name}={item}\n" for item in _items(value)]
        elif isinstance(value, list):
            single.append(f"{name}={'/'.join(_items(value))}\n")
        elif isinstance(value, bool):
            single.append(f"{name}={'true' if value else 'false'}\n")
        elif value is not None:
            single.append(f"{name}={value}\n")
    return blot("".join(single)).encode("utf-8", "backslashreplace") + b"".join(
        [_with_length(name, blot(value)) for name, value in several]
    )


def _items(value: Any) -> list[str]:
    return [clean(str(item)) for item in capped(value)]


def _with_length(name: str, value: str) -> bytes:
    """A value of several lines: its name on a line, its length as 64 bit, little-endian, then itself."""
    data = value.encode("utf-8", "backslashreplace")
    return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


class Journal:
    """Sends records to the journal whose socket is `path`; `blot` takes secrets out of every value."""

    def __init__(self, path: str, blot: Callable[[str], str]) -> None:
        self._path = path
        self._blot = blot
        self._pid = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def write(self, record: logging.LogRecord) -> int:
        """How many entries are lost: 0 or 1."""
        data = entry(record, self._pid, self._blot)
        try:
            # Not connected once: a journal that was started anew is another socket of the same name.
            self._socket.sendto(data, _FLAGS, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                return 1
            return 0 if self._send_as_file(data) else 1
        return 0

    def lines(self, record: logging.LogRecord) -> int:
        """How many entries a record makes."""
        return 1

    def close(self) -> None:
        """Close our end."""
        self._socket.close()

    def _send_as_file(self, data: bytes) -> bool:
        """An entry too long for a datagram goes as a sealed file in memory, in an empty datagram."""
        try:
            with open(os.memfd_create("relay-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
                file.write(data)
                file.flush()
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                rights = array.array("i", [file.fileno()])
                self._socket.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _FLAGS, self._path)
        except OSError:
            return False
        return True
