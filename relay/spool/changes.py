"""Every change to the spool's tables. Runs in the writer thread, inside a transaction that the writer opens and commits.

A method takes all operations of its kind in the batch and returns one result for each, in order; a result that is an
exception fails that operation alone. What may only happen once the transaction is durable goes into `after`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from relay.errors import CorruptEntry
from relay.model import Entry, line_key
from relay.spool import entries, filters, ids, rows
from relay.spool.altering import Altering
from relay.spool.fresh import Fresh
from relay.spool.operations import (
    Accept,
    Alter,
    Begin,
    Claim,
    Finish,
    ForgetSpent,
    Keep,
    LineUp,
    Operation,
    Purge,
    Record,
    Reschedule,
    Reserve,
    SetAside,
    Shrink,
    Spend,
    Trial,
    Wake,
)

Result = Any  # what the operation's caller gets; an exception is raised to it

RECORD = (
    "UPDATE recipient SET state = iif(state = 'held' AND ? = 'queued', state, ?), due = iif(state = 'held', NULL, ?), "
    "next_attempt = ?, waits = iif(state = 'held', NULL, ?), since = ?, attempts = attempts + ?, told = iif(?, told, ?), "
    "provider = iif(? > maybe_relayed, ?, provider), route = iif(? > maybe_relayed, ?, route), "
    "verdict = ?, status = ?, reply = ?, remote = ?, remote_id = ?, maybe_relayed = (maybe_relayed OR ?) AND ? "
    f"WHERE (state IN {rows.OPEN_STATES} OR ?) AND entry = ? AND address = ?"
)
# An admin may have held or deleted a recipient whose lease had run out. A held one stays held where it would be queued; of
# a deleted one only that it was relayed counts, which is the last condition.
# One that stays open keeps the mark that its sender was warned of the delay; a final one is told of anew.
# Who may replace provider and route: an attempt always (2), a decision of our own that names one unless the recipient is
# pinned (1), one that names none never (0).
RENEW = "UPDATE recipient SET due = ? WHERE entry = ? AND address = ? AND due IS NOT NULL AND due <> next_attempt"
WAIT = (
    "UPDATE recipient SET due = ?, next_attempt = ?, waits = ?, provider = iif(attempts = 0, ?, provider), "
    "route = iif(attempts = 0 OR route = '', ?, route) WHERE entry = ? AND address = ? AND due IS NOT NULL"
)
TOLD = f"UPDATE recipient SET told = 1 WHERE entry = ? AND address = ? AND (state IN {rows.OPEN_STATES}) = ?"
# A recipient that failed while its sender was being warned of the delay is to be told of that, too: hence the last condition.
POSTPONE = "UPDATE recipient SET due = ?, next_attempt = ?, waits = NULL WHERE entry = ? AND address = ? AND due IS NOT NULL"
_DUE = "SELECT DISTINCT due, entry FROM recipient INDEXED BY recipient_due WHERE due <= ?"
_NOT_DUE = "UPDATE recipient SET due = NULL, waits = NULL WHERE entry = ?"
_SPEND = "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (budget, slot) DO UPDATE SET amount = amount + excluded.amount"


_STEP = f"INSERT INTO step ({rows.STEP}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Changes:
    """The statements, and what the writer remembers between two of them."""

    def __init__(self, db: sqlite3.Connection, fresh: Fresh, remove_file: Callable[[int], None]) -> None:
        self._db = db
        self._fresh = fresh
        self._remove_file = remove_file
        self._attempt = int(db.execute("SELECT attempt FROM mark").fetchone()[0])
        self._corrupt = {number for (number,) in db.execute("SELECT entry FROM corrupt")}
        self.after: list[Callable[[], None]] = []
        self._altering = Altering(db, self._corrupt, self.after, self._remove_files, fresh.forget)
        self.kinds: dict[type, Callable[[Sequence[Any]], Sequence[Result]]] = {
            Accept: self.accept,
            Begin: self.begin,
            Spend: self.spend,
            Record: self.record,
            Finish: self.finish,
            Reschedule: self.reschedule,
            Alter: self.alter,
            Wake: self.wake,
            LineUp: self.line_up,
            SetAside: self.set_aside,
            Purge: self.purge,
            Shrink: self.shrink,
            Reserve: self.reserve,
            Trial: self.trial,
            Keep: self.keep,
            ForgetSpent: self.forget_spent,
            Claim: self.claim,
        }

    def apply(self, operations: Sequence[Operation]) -> Sequence[Result]:
        """Carry out operations of one kind."""
        return self.kinds[type(operations[0])](operations)

    def accept(self, operations: Sequence[Accept]) -> Sequence[Result]:
        """Store new entries, due at once."""
        self._insert("entry", [operation.row for operation in operations])
        self._insert("body", [(operation.row[0], operation.body) for operation in operations if operation.body is not None])
        self._insert("recipient", [row for operation in operations for row in operation.recipients])
        if told := [row for operation in operations for row in operation.told]:
            self._db.executemany(TOLD, told)
        for operation in operations:
            self.after.append(partial(self._fresh.put, operation.entry, operation.body))
        return [None] * len(operations)

    def claim(self, operations: Sequence[Claim]) -> Sequence[Result]:
        """Lease what is due."""
        return [self._claim(operation) for operation in operations]

    def _claim(self, operation: Claim) -> list[Entry]:
        claimed: list[Entry] = []
        while (wanted := operation.limit - len(claimed)) > 0:
            due = self._db.execute(f"{_DUE} ORDER BY due, entry LIMIT ?", (operation.now, wanted)).fetchall()
            if len(due) == wanted and (some := wanted // 4):
                due = [*due[:-some], *self._db.execute(f"{_DUE} ORDER BY due DESC, entry DESC LIMIT ?", (operation.now, some))]
            numbers = list(dict.fromkeys(number for _, number in due))
            claimed += self._read(numbers, operation.now)  # before the lease: it tells whose due time has come
            self._db.executemany(
                "UPDATE recipient SET due = ?, waits = NULL WHERE entry = ? AND +due <= ?",
                [(operation.until, number, operation.now) for number in numbers],
            )
            if len(due) < wanted or operation.until <= operation.now:
                break
        return claimed

    def _read(self, numbers: Sequence[int], now: float) -> list[Entry]:
        fresh = {number: entry for number in numbers if (entry := self._fresh.take(number))}
        stored = entries.read(self._db, [number for number in numbers if number not in fresh], leased=now)
        found: list[Entry] = []
        for number in numbers:
            item = fresh.get(number) or stored.get(number) or CorruptEntry(ids.text(number), "its row is missing")
            if isinstance(item, CorruptEntry):
                self._set_aside(number, item.why, now)
            else:
                found.append(item)
        return found

    def begin(self, operations: Sequence[Begin]) -> Sequence[Result]:
        """Store attempts; their numbers rise and are never used again."""
        numbers = range(self._attempt + 1, self._attempt + 1 + len(operations))
        self._attempt += len(operations)
        self._insert("attempt", [(n, *row) for n, operation in zip(numbers, operations, strict=True) for row in operation.rows])
        self._db.execute("UPDATE mark SET attempt = ?", (self._attempt,))
        for operation in operations:
            self._fresh.forget_entry(operation.rows[0][1])
        return numbers

    def spend(self, operations: Sequence[Spend]) -> Sequence[Result]:
        """Add to the ledger."""
        self._db.executemany(_SPEND, [row for operation in operations for row in operation.rows])
        return [None] * len(operations)

    def forget_spent(self, operations: Sequence[ForgetSpent]) -> Sequence[Result]:
        """Forget what no budget counts any more."""
        before = [pair for operation in operations for pair in operation.before.items()]
        self._db.executemany("DELETE FROM spent WHERE budget = ? AND slot < ?", before)
        return [None] * len(operations)

    def keep(self, operations: Sequence[Keep]) -> Sequence[Result]:
        """Keep or remove values."""
        for operation in operations:
            if operation.value:
                self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (operation.key, operation.value))
            else:
                self._db.execute("DELETE FROM kept WHERE key = ?", (operation.key,))
        return [None] * len(operations)

    def record(self, operations: Sequence[Record]) -> Sequence[Result]:
        """Store outcomes and close their attempts."""
        self._db.executemany(RECORD, [row for operation in operations for row in operation.updates])
        self._db.executemany(_STEP, [row for operation in operations for row in operation.steps])
        closed = [(operation.attempt, operation.entry) for operation in operations if operation.attempt]
        self._db.executemany("DELETE FROM attempt WHERE n = ? AND entry = ?", closed)
        still_open = entries.still_open(self._db, [operation.entry for operation in operations])
        for operation in operations:
            self._fresh.forget([operation.entry])
            if operation.entry in self._corrupt:  # set aside during the attempt
                self._db.execute(_NOT_DUE, (operation.entry,))
        return [operation.entry not in still_open for operation in operations]

    def finish(self, operations: Sequence[Finish]) -> Sequence[Result]:
        """Move entries into the history, unless a recipient is open or a notice about it is due."""
        ripe = entries.ripe(self._db, [operation.entry for operation in operations])
        done = [operation for operation in operations if operation.entry in ripe]
        self._db.executemany(
            "UPDATE entry SET finished = ?, body = body * ? WHERE id = ? AND finished IS NULL",
            [(operation.now, operation.keep_body, operation.entry) for operation in done],
        )
        self._drop_bodies([operation.entry for operation in done if not operation.keep_body])
        self._fresh.forget(operation.entry for operation in done)
        # An entry that several operations of one group name is ended by the first of them.
        first = {operation.entry: id(operation) for operation in reversed(done)}
        return [first.get(operation.entry) == id(operation) for operation in operations]

    def _drop_bodies(self, numbers: Sequence[int]) -> None:
        """Remove the stored octets of entries whose row no longer names them; files once this is durable."""
        if numbers:
            self._db.executemany("DELETE FROM body WHERE entry = ?", [(number,) for number in numbers])
            self.after.append(partial(self._remove_files, tuple(numbers)))

    def _remove_files(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._remove_file(number)

    def reschedule(self, operations: Sequence[Reschedule]) -> Sequence[Result]:
        """Renew, postpone, wait and tell."""
        for operation in operations:
            self._db.executemany(operation.sql, operation.rows)
            if operation.sql != RENEW:
                self._fresh.forget([operation.entry])
        return [None] * len(operations)

    def alter(self, operations: Sequence[Alter]) -> Sequence[Result]:
        """Hold, release, retry, reroute or delete a chunk of recipients."""
        self._fresh.forget_entries()
        self.after.append(self._fresh.forget_entries)  # entries accepted in this very transaction too
        return [self._altering.alter(operation) for operation in operations]

    def wake(self, operations: Sequence[Wake]) -> Sequence[Result]:
        """Make waiting recipients due, oldest first; with all keys, one key after the other."""
        return [self._wake(operation) for operation in operations]

    def _wake(self, operation: Wake) -> int:
        condition, key = ("waits = ?1", operation.key) if operation.key is not None else ("waits IS NOT NULL", "")
        return self._db.execute(  # in the order of the index: a chunk costs the same, however many wait
            f"UPDATE recipient SET due = ?2, next_attempt = ?2, waits = NULL WHERE ?1 IS NOT NULL AND +{condition} AND due IS NOT NULL AND "
            f"entry IN (SELECT entry FROM recipient INDEXED BY recipient_waits WHERE {condition} AND due IS NOT NULL "
            f"ORDER BY {'waits DESC, entry DESC' if operation.newest else 'waits, entry'} LIMIT ?3)",
            (key, operation.now, operation.limit),
        ).rowcount

    def line_up(self, operations: Sequence[LineUp]) -> Sequence[Result]:
        """Let recipients wait for the turn of their route."""
        return [self._line_up(operation) for operation in operations]

    def _line_up(self, operation: LineUp) -> int:
        return self._db.execute(
            "UPDATE recipient SET waits = ?1 || route WHERE +waits BETWEEN ?2 AND ?3 AND entry IN "
            "(SELECT entry FROM recipient INDEXED BY recipient_waits WHERE waits BETWEEN ?2 AND ?3 ORDER BY waits, entry LIMIT ?4)",
            (line_key(operation.provider, ""), operation.low, operation.high, operation.limit),
        ).rowcount

    def set_aside(self, operations: Sequence[SetAside]) -> Sequence[Result]:
        """Take entries out of the queue without changing what they hold."""
        for operation in operations:
            self._set_aside(operation.entry, operation.why, operation.now)
        return [None] * len(operations)

    def _set_aside(self, number: int, why: str, now: float) -> None:
        self._db.execute("INSERT OR IGNORE INTO corrupt VALUES (?, ?, ?)", (number, rows.clean(why), now))
        self._db.execute(_NOT_DUE, (number,))
        self._fresh.forget([number])
        self.after.append(partial(self._corrupt.add, number))

    def purge(self, operations: Sequence[Purge]) -> Sequence[Result]:
        """Forget old history and kept bodies, one chunk each."""
        return [self._purge(operation) for operation in operations]

    def _purge(self, operation: Purge) -> tuple[int, int]:
        old = self._db.execute(
            f"SELECT id FROM entry e WHERE id < ? AND finished < ? AND {filters.SANE} ORDER BY id LIMIT ?",
            (operation.below, operation.finished_before, operation.limit),
        ).fetchall()
        for sql in ("DELETE FROM step WHERE entry = ?", "DELETE FROM recipient WHERE entry = ?", "DELETE FROM entry WHERE id = ?"):
            self._db.executemany(sql, old)
        if old:
            self._db.execute("DELETE FROM attempt WHERE entry NOT IN (SELECT id FROM entry)")
        kept = self._db.execute(
            "SELECT id FROM entry WHERE finished IS NOT NULL AND body <> 0 AND finished < ? ORDER BY finished LIMIT ?",
            (operation.bodies_before, operation.limit),
        ).fetchall()
        self._db.executemany("UPDATE entry SET body = 0 WHERE id = ?", kept)
        self._drop_bodies([number for (number,) in old + kept])
        return len(old), len(kept)

    def shrink(self, operations: Sequence[Shrink]) -> Sequence[Result]:
        """Make the file smaller, one chunk each. Pages are kept for reuse up to `spare`, and up to a quarter of the file."""
        return [self._shrink(operation) for operation in operations]

    def _shrink(self, operation: Shrink) -> int:
        free, pages = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        surplus = min(free - max(operation.spare, pages // 4), operation.limit)
        if surplus <= 0:
            return 0
        self._db.execute(f"PRAGMA incremental_vacuum({surplus})").fetchall()
        return int(surplus)

    def reserve(self, operations: Sequence[Reserve]) -> Sequence[Result]:
        """Move the mark of the queue ids."""
        self._db.execute("UPDATE mark SET queue_id = ?", (operations[-1].mark,))
        return [None] * len(operations)

    def trial(self, operations: Sequence[Trial]) -> Sequence[Result]:
        """A real write; SQLite writes no page for a change that changes nothing, so an attempt number is skipped."""
        self._attempt += 1
        self._db.execute("UPDATE mark SET attempt = ?", (self._attempt,))
        return [None] * len(operations)

    def _insert(self, table: str, values: Sequence[tuple[Any, ...]]) -> None:
        if values:
            self._db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(values[0]))})", values)
