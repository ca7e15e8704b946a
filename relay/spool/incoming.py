"""A message on its way into the spool: a small one stays in memory, a large one streams to a file.

The file is written by a thread, piece by piece while the message comes in; `commit` syncs it and its directory before
the row is committed. Until then a crash leaves at most a file without a row, which goes at the next start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor

from relay.errors import SpoolError
from relay.model import Client, Edit, Entry, Envelope, Facts, RecipientState, State
from relay.spool import database, ids, rows
from relay.spool.files import Bodies
from relay.spool.operations import Accept

LARGE = 256 * 1024  # octets from which a message goes to a file
PENDING = 1024 * 1024  # octets that may wait for the disk before `drain` waits too
_SYNC_EVERY = 8 * 1024 * 1024  # so that the last sync, which the client waits for, is short


class SqliteIncoming:
    """One message. `submit` hands the finished entry to the writer, `threads` run what touches the disk, and `trouble`
    hears of errors there."""

    def __init__(
        self,
        number: int,
        bodies: Bodies,
        threads: Executor,
        submit: Callable[[Accept], Awaitable[None]],
        trouble: Callable[[SpoolError], None],
    ) -> None:
        self._number = number
        self._trouble = trouble
        self._bodies = bodies
        self._threads = threads
        self._submit = submit
        self._chunks: list[bytes] = []
        self._pending = 0
        self._size = 0
        self._file: _File | None = None
        self._job: asyncio.Future[None] | None = None
        self._failed: BaseException | None = None

    @property
    def queue_id(self) -> str:
        """The id this message will have."""
        return ids.text(self._number)

    @property
    def size(self) -> int:
        """Octets written so far."""
        return self._size

    def write(self, chunk: bytes) -> None:
        """Take octets; from LARGE on they go to the file."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._pending += len(chunk)
        if self._pending >= LARGE and self._job is None:
            self._flush()

    def _flush(self) -> None:
        """Let a thread write what is pending; one job at a time, so that the order stays."""
        if self._failed:
            self._chunks, self._pending = [], 0
            return
        if self._file is None:
            self._file = _File(self._bodies, self._number)
        self._job = asyncio.get_running_loop().run_in_executor(self._threads, self._file.write, self._chunks)
        self._chunks, self._pending = [], 0
        self._job.add_done_callback(self._written)

    def _written(self, job: asyncio.Future[None]) -> None:
        self._job = None
        if not job.cancelled():
            self._failed = self._failed or job.exception()
        if self._pending >= LARGE:
            self._flush()

    async def drain(self) -> None:
        """Wait until less than PENDING octets wait for the disk."""
        while self._job is not None and self._pending >= PENDING:
            await asyncio.wait([self._job])

    async def commit(
        self,
        *,
        arrived: float,
        client: Client,
        envelope: Envelope,
        facts: Facts,
        header: bytes,
        message_id: str,
        edits: Sequence[Edit],
        via: Sequence[str] = (),
        bounce: bool = False,
        route: str = "",
        answers: str = "",
        told: Sequence[str] = (),
        warns: bool = False,
    ) -> Entry:
        """Store it. Raises SpoolFull or SpoolError; then nothing of it is left."""
        entry = Entry(
            queue_id=self.queue_id,
            arrived=arrived,
            client=client,
            envelope=envelope,
            facts=facts,
            header=header,
            message_id=message_id,
            edits=tuple(edits),
            recipients=tuple(
                RecipientState(one, State.QUEUED, next_attempt=arrived, route=route, via=tuple(via)) for one in envelope.recipients
            ),
            via=tuple(via),
            bounce=bounce,
        )
        marks = [(ids.number(answers), address, warns) for address in told]
        try:
            body = await self._body(entry)
        except BaseException:
            await self.abort()
            raise
        row = rows.entry_row(entry, rows.IN_FILE if body is None else rows.IN_ROW)
        try:
            await self._submit(Accept(entry, row, rows.recipient_rows(entry), body, marks))
        except SpoolError:  # and not when the caller is cancelled: the row may well be on its way
            await self.abort()
            raise
        return entry

    async def _body(self, entry: Entry) -> bytes | None:
        """What follows the header block, or None when the message lies in its file, synced."""
        if entry.facts.size != self._size:
            raise SpoolError(f"{entry.queue_id} has {self._size} octets, not {entry.facts.size} as its facts say")
        if self._file is None:
            whole = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            if not whole.startswith(entry.header):
                raise SpoolError(f"{entry.queue_id} does not begin with its header block")
            return whole[len(entry.header) :]
        while self._job is not None:
            await asyncio.wait([self._job])
        try:
            if self._failed:
                raise self._failed
            await asyncio.get_running_loop().run_in_executor(self._threads, self._file.complete, self._chunks)
        except OSError as error:
            failure = database.spool_error(error)
            self._trouble(failure)
            raise failure from error
        return None

    async def abort(self) -> None:
        """Forget it."""
        self._chunks, self._pending = [], 0
        while self._job is not None:
            await asyncio.wait([self._job])
        if self._file is not None:
            file, self._file = self._file, None
            await asyncio.get_running_loop().run_in_executor(self._threads, file.discard)


class _File:
    """The file of one message, written in threads, by one at a time."""

    def __init__(self, bodies: Bodies, number: int) -> None:
        self._bodies = bodies
        self._number = number
        self._fd = -1
        self._unsynced = 0

    def write(self, chunks: Sequence[bytes]) -> None:
        if self._fd < 0:
            self._fd = self._bodies.create(self._number)
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._fd, view) :]
            self._unsynced += len(chunk)
        if self._unsynced >= _SYNC_EVERY:
            os.fdatasync(self._fd)
            self._unsynced = 0

    def complete(self, chunks: Sequence[bytes]) -> None:
        """Write the rest; on return all of it is durable."""
        self.write(chunks)
        self._bodies.sync(self._fd)
        self._close()

    def discard(self) -> None:
        self._close()
        self._bodies.remove(self._number)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
