"""Lines on a stream: files and terminals are simply written to, pipes and sockets only when that needs no waiting."""

from __future__ import annotations

import logging
import os
import select
import stat
from collections.abc import Callable
from typing import IO


class Pipe:
    """Writes lines to a pipe or a socket, each only when that needs no waiting.

    A pipe that poll(2) calls writable takes PIPE_BUF octets at once (pipe(7)); a socket takes more than that.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._torn = False  # the last line written lacks its end

    def write(self, text: str) -> int:
        """How many lines of `text` could not be written."""
        data, sent = b"\n" * self._torn + text.encode("utf-8", "backslashreplace") + b"\n", 0
        while sent < len(data):
            piece = _piece(data, sent)
            written = self._put(piece)
            sent += written
            if written < len(piece):
                return min(text.count("\n") + 1, data.count(b"\n", sent))
        return 0

    def _put(self, piece: bytes) -> int:
        """How many octets were written."""
        if not self._poll.poll(0):
            return 0
        try:
            written = os.write(self._fd, piece)
        except OSError:  # nobody will ever read it, or somebody else filled it just now
            return 0
        self._torn = not piece[:written].endswith(b"\n")
        return written


def _piece(data: bytes, start: int) -> bytes:
    """What of `data` is written next, from `start` on: as many whole lines as a pipe takes at once, or a part of a longer line."""
    most = start + select.PIPE_BUF
    end = len(data) if len(data) <= most else data.rfind(b"\n", start, most) + 1 or most
    return data[start:end]


def pipe_of(stream: IO[str]) -> Pipe | None:
    """The pipe or socket that `stream` writes to, if it does."""
    try:
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):  # not a file (io.UnsupportedOperation is both), or closed
        return None
    return Pipe(fd) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


class Lines:
    """Writes records as lines to `stream`, by `pipe` where it is one; `blot` takes secrets out of every line."""

    def __init__(self, stream: IO[str], formatter: logging.Formatter, blot: Callable[[str], str], pipe: Pipe | None) -> None:
        self.stream = stream
        self.pipe = pipe
        self._formatter = formatter
        self._blot = blot

    def write(self, record: logging.LogRecord) -> int:
        """How many lines are lost. Raises what writing to a file raises."""
        text = self._text(record)
        if self.pipe is not None:
            return self.pipe.write(text)
        self.stream.write(text + "\n")
        self.stream.flush()
        return 0

    def lines(self, record: logging.LogRecord) -> int:
        """How many lines a record makes."""
        return self._text(record).count("\n") + 1

    def close(self) -> None:
        """Nothing: the stream is not ours."""

    def _text(self, record: logging.LogRecord) -> str:
        return self._blot(self._formatter.format(record))
