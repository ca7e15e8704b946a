"""A stored message, read back: the header block from memory, the rest from memory or from its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from io import FileIO
from pathlib import Path

from relay.errors import SpoolError
from relay.model import Facts
from relay.spool.files import PIECE


class Stored:
    """`body` is what follows the header block; a message in a file has `path` instead, and the file holds the header too."""

    def __init__(self, header: bytes, facts: Facts, *, body: bytes = b"", path: Path | None = None) -> None:
        self._header = header
        self._facts = facts
        self._body = body
        self._path = path

    @property
    def header(self) -> bytes:
        """The header block with its last CRLF, without the empty line that ends it."""
        return self._header

    @property
    def facts(self) -> Facts:
        """Size and shape of the whole message."""
        return self._facts

    async def read(self) -> bytes:
        """The whole message, exactly as stored."""
        if self._path is None:
            return self._header + self._body
        return await asyncio.to_thread(self._whole, self._path)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole message in pieces of at most 256 KiB."""
        pieces = self.pieces()
        if self._path is None:
            for piece in pieces:
                yield piece
            return
        while (piece := await asyncio.to_thread(next, pieces, b"")) != b"":
            yield piece

    def pieces(self) -> Iterator[bytes]:
        """As `chunks`, for callers without an event loop."""
        if self._path is None:
            whole = self._header + self._body
            yield from (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))
            return
        with _reading(self._path) as file:
            while piece := file.read(PIECE):
                yield piece

    @staticmethod
    def _whole(path: Path) -> bytes:
        with _reading(path) as file:
            return file.readall()  # in one piece from the start: pieces joined would stand in memory twice


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[FileIO]:
    try:
        with FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
            yield file
    except OSError as error:
        raise SpoolError(f"the message cannot be read: {error.strerror}") from error
