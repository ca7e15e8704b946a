"""The writer: the one thread, with the one connection, that changes the spool.

It takes whatever waits, carries it out in one transaction, and answers all callers at once when the transaction is
durable (group commit). One operation that fails takes no other with it: then each of the batch gets a transaction of
its own.

A COMMIT that fails (its fsync, say) is reported as failed to every caller and never tried again. Its frames may lie in
the WAL all the same, valid, and a crash would bring them back. So the WAL is cut behind what was acknowledged, before
the callers hear of the failure; this connection still knows where that is, one that opened the file anew would believe
the frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, get_args

from relay.errors import SpoolError
from relay.spool import database, files
from relay.spool.changes import Changes
from relay.spool.operations import Accept, Operation, Reserve, Trial

_ORDER = {kind: place for place, kind in enumerate(get_args(Operation))}


@dataclass(slots=True)
class Task:
    """An operation, and who waits for it."""

    operation: Operation
    future: asyncio.Future[Any]


class Writer:
    """`prepare` opens the connection and `trouble` hears of every error of the disk; `trouble` is called in the event loop."""

    def __init__(
        self, directory: Path, prepare: Callable[[], tuple[sqlite3.Connection, Changes]], trouble: Callable[[SpoolError], None]
    ) -> None:
        self._directory = directory
        self._prepare = prepare
        self._trouble = trouble
        self._queue: SimpleQueue[list[Task] | None] = SimpleQueue()
        self._waiting: list[Task] = []
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._committing = False

    async def start(self) -> None:
        """Open the file. Raises what `prepare` raises."""
        self._thread.start()
        await self._ready

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Ask for an operation; the future ends when it is durable. What one turn of the event loop asks for goes over together."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._hand_over)
        self._waiting.append(Task(operation, future))
        return future

    def _hand_over(self) -> None:
        if self._waiting:
            self._queue.put(self._waiting)
            self._waiting = []

    async def stop(self) -> None:
        """Carry out what was asked for, then close the file and end the thread."""
        self._hand_over()
        self._queue.put(None)
        await self._ended
        self._thread.join()

    # From here on: the writer's thread.

    def _run(self) -> None:
        try:
            self._db, self._changes = self._prepare()
        except BaseException as error:
            self._tell(_end, self._ready, database.spool_error(error))
            return
        self._tell(_end, self._ready, None)
        try:
            while tasks := self._next():
                self._carry_out(tasks)
        finally:
            self._db.close()
            self._tell(_end, self._ended, None)

    def _next(self) -> list[Task]:
        """Everything that waits; [] at the end."""
        tasks = self._queue.get() or []
        while tasks and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)
                break
            tasks += more
        return tasks

    def _carry_out(self, tasks: list[Task]) -> None:
        # In the order of the kinds, also one by one and in the answers: nobody hears of a claim before what it already saw.
        tasks = sorted((task for task in tasks if not task.future.cancelled()), key=lambda task: _ORDER[type(task.operation)])
        try:
            results = self._transact([task.operation for task in tasks])
        except Exception as error:
            results = [error] * len(tasks)
        for result in results:
            if isinstance(result, BaseException) and database.is_trouble(result):
                self._tell(self._trouble, database.spool_error(result))
                break
        self._tell(_answer, tasks, results)

    def _transact(self, operations: Sequence[Operation]) -> Sequence[Any]:
        """One result for each operation, an exception where it failed; all that succeeded are durable."""
        try:
            return self._together(operations) if operations else []
        except Exception as error:
            full = database.is_full(error)
            unsure = self._committing and not full
            self._undo(unsure)
            if unsure or (len(operations) == 1 and not (full and self._relieve(operations[0]))):
                return [error] * len(operations)
        return [result for operation in operations for result in self._transact([operation])]

    def _together(self, operations: Sequence[Operation]) -> Sequence[Any]:
        results: list[Any] = []
        self._changes.after.clear()
        self._db.execute("BEGIN IMMEDIATE")
        for _, some in itertools.groupby(operations, type):
            results += self._changes.apply(list(some))
        self._committing = True
        self._db.execute("COMMIT")
        self._committing = False
        for action in self._changes.after:
            action()
        return results

    def _undo(self, unsure: bool) -> None:
        self._committing = False
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if unsure:
            database.cut_wal(self._directory)

    def _relieve(self, operation: Operation) -> bool:
        """On a full disk: make room for what became of mail we have, never for more mail. True when it is worth another try."""
        if isinstance(operation, Accept | Reserve | Trial) or not files.drop_ballast(self._directory):
            return False
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # then the WAL begins anew, in room it has already
        return True

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _end(future: asyncio.Future[None], error: SpoolError | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _answer(tasks: Sequence[Task], results: Sequence[Any]) -> None:
    for task, result in zip(tasks, results, strict=True):
        if task.future.done():
            continue
        if isinstance(result, BaseException):
            error = database.spool_error(result)
            error.__cause__ = result if error is not result else error.__cause__
            task.future.set_exception(error)
        else:
            task.future.set_result(result)
