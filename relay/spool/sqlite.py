"""The spool on SQLite: the contract of spool/base.py for one daemon on one host.

Writes go to one thread that groups them (writer.py); reads to another, with a connection that can only read
(reader.py); large messages to files (incoming.py); whether the disk is well is known to disk.py. Files and tables, and what a crash
leaves in them: docs/spool.md. What cannot be done is a SpoolError with the mend; what cannot be read of an entry is a CorruptEntry,
and the entry is set aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from relay.errors import CorruptEntry, SpoolError
from relay.model import Entry, Outcome, line_key
from relay.spool import database, files, ids
from relay.spool.base import Begun, Changed, Counts, Filter, Health, Recorded, Step, Verb
from relay.spool.changes import POSTPONE, RENEW, TOLD, WAIT, Changes
from relay.spool.disk import Disk
from relay.spool.fresh import Fresh
from relay.spool.histories import Found, Histories
from relay.spool.incoming import SqliteIncoming
from relay.spool.operations import (
    Accept,
    Alter,
    Begin,
    Chunk,
    Claim,
    Finish,
    ForgetSpent,
    Keep,
    LineUp,
    Operation,
    Purge,
    Reschedule,
    Reserve,
    SetAside,
    Shrink,
    Spend,
    Trial,
    Wake,
)
from relay.spool.outcomes import due, said, written
from relay.spool.reader import Reader
from relay.spool.reserving import Reserving
from relay.spool.stored import Stored
from relay.spool.threads import on
from relay.spool.writer import Writer

CHUNK = 500  # recipients (rounded up to whole entries) changed in one transaction; commits go on in between
REMOVED = 200  # recipients or entries deleted in one transaction: that costs more
WINDOW = 2000  # entries looked at in one transaction for those that a filter means
_FILE_THREADS = 4
_START = -1
_SPARE = 4096  # free pages (16 MiB) that are kept for reuse
_GIVE_BACK = 2000  # pages given back in one transaction
_T = TypeVar("_T")


class SqliteSpool:
    """Open it before anything else, close it last. `clock` gives Unix seconds."""

    def __init__(self, directory: Path, *, clock: Callable[[], float], shard: int = 0) -> None:
        self._clock = clock
        self._shard = shard
        self._fresh = Fresh()
        self._wake: Callable[[], None] = lambda: None
        self._disk = Disk(directory, trial=lambda: self._do(Trial()), well=lambda: self._reserving.look(self._clock()))
        self._histories = Histories(self._begin_histories)

    async def open(self) -> None:
        """Take the directory. Raises SpoolBusy naming the pid that holds it, or SpoolError with the mend."""
        async with contextlib.AsyncExitStack() as held:
            self._threads = held.enter_context(ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="spool-files"))
            self._reading = held.enter_context(ThreadPoolExecutor(1, thread_name_prefix="spool-reader"))
            await on(self._threads, self._disk.take)
            held.callback(self._disk.release)
            await on(self._threads, self._disk.look_around)
            self._writer = Writer(self._disk.directory, self._prepare, self._disk.in_trouble)
            await self._writer.start()
            held.push_async_callback(self._writer.stop)
            self._reserving = Reserving(self._ids, lambda reserve: self._writer.submit(reserve))
            self._reader = await on(self._reading, lambda: Reader(self._disk.directory))
            held.push_async_callback(on, self._reading, self._reader.close)
            await self._inspect_files()
            await self.probe(0)
            self._held = held.pop_all()

    def _prepare(self) -> tuple[sqlite3.Connection, Changes]:
        """Open the file, in the writer's thread."""
        db = database.connect(self._disk.directory)
        try:
            database.migrate(db)
            # Leases end with the process that held them.
            db.execute("UPDATE recipient SET due = next_attempt WHERE due IS NOT NULL AND due <> next_attempt")
            mark, self._last_attempt = db.execute("SELECT queue_id, attempt FROM mark").fetchone()
            newest = db.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()[0]
            self._ids = queue_ids = ids.QueueIds(self._shard, max(mark - 1, newest, 0))
            queue_ids.mark = queue_ids.wanted(self._clock())
            db.execute("UPDATE mark SET queue_id = ?", (queue_ids.mark,))
            files.sync_directory(self._disk.directory)
            return db, Changes(db, self._fresh, self._disk.bodies.remove)
        except BaseException:
            db.close()
            raise

    async def _inspect_files(self) -> None:
        """Set entries aside whose body file is gone or cut, and remove files that a crash left without a row."""
        for number, why in await self._read(Reader.broken_files):
            await self._do(SetAside(number, why, self._clock()))
        names = await on(self._threads, lambda: list(self._disk.bodies.names()))
        for number in await self._read(lambda reader: reader.without_file(names)):
            await on(self._threads, partial(self._disk.bodies.remove, number))

    async def close(self) -> None:
        """Finish what is under way and close."""
        with contextlib.suppress(SpoolError):  # then a minute of ids is skipped
            await self._do(Reserve(self._ids.final))
        await self._held.aclose()

    async def _do(self, operation: Operation) -> Any:
        return await self._writer.submit(operation)

    async def _read(self, query: Callable[[Reader], _T]) -> _T:
        return await on(self._reading, lambda: query(self._reader))

    # Accepting

    def incoming(self, now: float) -> SqliteIncoming:
        """A fresh queue id and a place for the message's octets."""
        self._reserving.look(now)
        return SqliteIncoming(self._ids.take(now), self._disk.bodies, self._threads, self._accept, self._disk.in_trouble)

    async def _accept(self, operation: Accept) -> None:
        await self._writer.submit(operation)
        self._wake()

    def on_due(self, wake: Callable[[], None]) -> None:
        """Call `wake` in the event loop whenever something may have become due at once."""
        self._wake = wake

    # Delivering

    async def claim(self, now: float, limit: int, lease: float) -> Sequence[Entry]:
        """Lease entries that are due."""
        claimed: Sequence[Entry] = await self._writer.submit(Claim(now, limit, now + lease))
        return claimed

    async def renew(self, queue_id: str, recipients: Sequence[str], until: float) -> None:
        """Prolong a lease."""
        number = ids.number(queue_id)
        await self._do(Reschedule(RENEW, [(until, number, address) for address in recipients], number))

    async def next_due(self) -> float | None:
        """When the next recipient falls due."""
        return await self._read(Reader.next_due)

    async def begin(self, queue_id: str, recipients: Sequence[str], provider: str, route: str, now: float) -> int:
        """Store that an attempt starts; returns its number."""
        number = ids.number(queue_id)
        attempt: int = await self._writer.submit(Begin([(address, number, provider, route, now) for address in recipients]))
        return attempt

    async def record(self, queue_id: str, attempt: int, outcomes: Mapping[str, Recorded], provider: str, route: str, now: float) -> bool:
        """Store what became of recipients. True when none is open."""
        number = ids.number(queue_id)
        closed: bool = await self._writer.submit(written(number, attempt, outcomes, provider, route, now))
        if any(when is not None and when <= now for when in map(due, outcomes.values())):
            self._wake()
        return closed

    async def postpone(self, queue_id: str, recipients: Sequence[str], until: float) -> None:
        """End a lease without an attempt."""
        number = ids.number(queue_id)
        await self._reschedule(POSTPONE, [(until, until, number, address) for address in recipients], number, until)

    async def wait(self, queue_id: str, recipients: Sequence[str], key: str, until: float, provider: str = "", route: str = "") -> None:
        """End a lease; the recipients wait for `key`."""
        number = ids.number(queue_id)
        await self._reschedule(WAIT, [(until, until, key, provider, route, number, address) for address in recipients], number, until)

    async def _reschedule(self, sql: str, values: list[tuple[Any, ...]], number: int, until: float) -> None:
        await self._do(Reschedule(sql, values, number))
        if until <= self._clock():
            self._wake()

    async def wake(self, key: str | None, now: float, limit: int | None = None, *, newest: bool = False) -> int:
        """Make waiting recipients due, oldest first."""
        woken = 0
        while limit is None or woken < limit:
            wanted = CHUNK if limit is None else min(CHUNK, limit - woken)
            found: int = await self._do(Wake(key, now, wanted, newest))
            woken += found
            if found:
                self._wake()
            if found < wanted:
                break
        return woken

    async def line_up(self, key: str | None) -> Sequence[str]:
        """Let whoever waits for `key` wait for the turn of its route."""
        providers = await self._read(Reader.waited_for) if key is None else [key.partition(" ")[0]]
        for provider in providers:
            line = line_key(provider, "")  # what begins with it is lined up already
            ranges = [(key, key)] if key else [(provider, line[:-1]), (f"{line[:-1]}!", f"{provider}!")]
            for low, high in ranges:
                while await self._do(LineUp(provider, low, high, CHUNK)) >= CHUNK:
                    pass
        return await self._read(Reader.lines)

    async def waiting(self, key: str) -> int:
        """How many recipients wait for `key`."""
        return await self._read(lambda reader: reader.waiting(key))

    async def finish(self, queue_id: str, now: float, keep_body: bool) -> bool:
        """End an entry none of whose recipients is open or waits for a notice. True when this call ended it."""
        ended: bool = await self._writer.submit(Finish(ids.number(queue_id), now, keep_body))
        return ended

    async def unfinished(self) -> Sequence[Begun]:
        """Attempts begun before this start that have no outcome."""
        return await self._read(lambda reader: reader.unfinished(self._last_attempt))

    async def unclosed(self) -> Sequence[str]:
        """Entries with no open recipient that were not finished."""
        return await self._read(Reader.unclosed)

    async def untold(self) -> Sequence[str]:
        """Entries with a recipient of whose end the sender is to be told, and was not."""
        return await self._read(Reader.untold)

    async def told(self, queue_id: str, recipients: Sequence[str]) -> None:
        """No notice is due for these final recipients."""
        number = ids.number(queue_id)
        await self._do(Reschedule(TOLD, [(number, address, False) for address in recipients], number))

    async def late(self, arrived_before: float, limit: int, after: str = "") -> Sequence[str]:
        """Entries that arrived before and wait for delivery, whose sender was not warned."""
        below = self._ids.above(arrived_before, self._clock())
        return await self._read(lambda reader: reader.late(arrived_before, limit, after, below))

    # Looking

    async def entry(self, queue_id: str) -> Entry | None:
        """One entry, open or in the history."""
        return await self._read_one(queue_id, lambda reader: reader.entry(queue_id))

    async def entries(self, queue_ids: Sequence[str]) -> Sequence[Entry]:
        """These entries, as far as they can be read."""
        return await self._read(lambda reader: reader.readable(queue_ids))

    async def message(self, queue_id: str) -> Stored:
        """The stored octets."""
        if fresh := self._fresh.message(ids.number(queue_id)):
            return fresh
        return await self._read_one(queue_id, lambda reader: reader.message(queue_id))

    async def _read_one(self, queue_id: str, query: Callable[[Reader], _T]) -> _T:
        try:
            return await self._read(query)
        except CorruptEntry as error:
            await self.set_aside(queue_id, error.why, self._clock())
            raise

    async def find(self, what: Filter, limit: int, after: str = "") -> Sequence[Entry]:
        """Entries with a matching recipient, by queue id."""
        return await self._read(lambda reader: reader.find(what, limit, what.now or self._clock(), after))

    async def resolve(self, prefix: str) -> Sequence[str]:
        """Queue ids that begin with `prefix`."""
        return await self._read(lambda reader: reader.resolve(prefix))

    async def search(self, term: str, limit: int) -> Sequence[str]:
        """Ids of entries by queue id prefix, Message-ID, recipient, sender or remote id; newest first."""
        return await self._read(lambda reader: reader.search(term, limit))

    async def history(self, queue_id: str) -> Sequence[Step]:
        """Every outcome of an entry. What one turn of the event loop asks for is read at once."""
        return await self._histories.of(queue_id)

    def _begin_histories(self, queue_ids: Sequence[str]) -> asyncio.Future[Found]:
        return asyncio.get_running_loop().run_in_executor(self._reading, lambda: self._reader.histories(queue_ids))

    async def count(self, what: Filter) -> int:
        """How many recipients a filter means."""
        return await self._read(lambda reader: reader.count(what, what.now or self._clock()))

    async def corrupt(self) -> Sequence[tuple[str, str]]:
        """(queue id, why) of the entries set aside."""
        return await self._read(Reader.corrupt)

    async def counts(self) -> Counts:
        """The queue in numbers."""
        return await self._read(lambda reader: reader.counts(self._clock()))

    # What outlives the process

    async def spend(self, rows: Sequence[tuple[str, float, int]]) -> None:
        """Add to the ledger."""
        if rows:
            await self._writer.submit(Spend(rows))

    async def spent(self) -> Sequence[tuple[str, float, int]]:
        """The ledger, by budget and slot."""
        return await self._read(Reader.spent)

    async def forget_spent(self, before: Mapping[str, float]) -> None:
        """Forget what lies before a time, budget by budget."""
        if before:
            await self._do(ForgetSpent(before))

    async def keep(self, key: str, value: str) -> None:
        """Keep a value; "" removes it."""
        await self._do(Keep(key, value))

    async def kept(self) -> Mapping[str, str]:
        """Every value that is kept."""
        return await self._read(Reader.kept)

    # Administering

    async def each(
        self,
        verb: Verb,
        what: Filter,
        now: float,
        via: Sequence[str] = (),
        even_if_maybe_sent: bool = False,
        outcome: Outcome | None = None,
    ) -> AsyncIterator[Sequence[Changed]]:
        """Do `verb` to the recipients a filter means, chunk by chunk."""
        after: int | None = _START
        limit = REMOVED if verb in ("bounce", "delete") else CHUNK
        words = said(outcome) if outcome else ("", "", "", "", "")
        while after is not None:
            chunk: Chunk = await self._do(Alter(verb, what, now, after, limit, WINDOW, tuple(via), even_if_maybe_sent, words))
            after = chunk.next
            if chunk.changed:
                self._wake()
                yield chunk.changed

    async def _total(self, chunks: AsyncIterator[Sequence[Changed]]) -> int:
        return sum([sum(one.recipients for one in chunk) async for chunk in chunks])

    async def hold(self, what: Filter, now: float) -> int:
        """Hold matching queued recipients that are not leased."""
        return await self._total(self.each("hold", what, now))

    async def release(self, what: Filter, now: float) -> int:
        """Release matching held recipients, due now."""
        return await self._total(self.each("release", what, now))

    async def retry(self, what: Filter, now: float) -> int:
        """Make matching queued recipients due now."""
        return await self._total(self.each("retry", what, now))

    async def reroute(self, what: Filter, via: Sequence[str], now: float, even_if_maybe_sent: bool) -> int:
        """Fix the providers of matching recipients."""
        return await self._total(self.each("reroute", what, now, via, even_if_maybe_sent))

    async def delete(self, what: Filter, now: float) -> int:
        """Delete matching recipients that are not leased."""
        return await self._total(self.each("delete", what, now))

    async def set_aside(self, queue_id: str, why: str, now: float) -> None:
        """Move an entry that cannot be handled to corrupt."""
        await self._do(SetAside(ids.number(queue_id), why, now))

    async def purge(self, finished_before: float, bodies_before: float) -> int:
        """Forget old history and kept bodies; returns the entries gone."""
        gone: int = 0
        while True:
            above = self._ids.above(finished_before, self._clock())
            entries, bodies = await self._do(Purge(finished_before, bodies_before, REMOVED, above))
            gone += entries
            if max(entries, bodies) < REMOVED:
                break
        while await self._do(Shrink(_SPARE, _GIVE_BACK)):
            pass
        return gone

    # The disk

    def health(self) -> Health:
        """Whether mail can be accepted now."""
        return self._disk.health

    async def probe(self, min_free: int) -> Health:
        """Look at the disk and refresh `health`; after an error a test write decides."""
        return await self._disk.probe(min_free, self._threads)
