"""Every change to the spool's tables. Runs in the writer thread, inside a transaction that the writer opens and commits.

A method takes all operations of its kind in the batch and returns one result for each, in order; a result that is an
exception fails that operation alone. What may only happen once the transaction is durable goes into `after`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from relay.errors import CorruptEntry
from relay.model import Entry, State
from relay.spool import filters, ids, rows
from relay.spool.fresh import Fresh
from relay.spool.operations import (
    Accept,
    Alter,
    Begin,
    Chunk,
    Claim,
    Finish,
    Operation,
    Purge,
    Record,
    Reschedule,
    Reserve,
    SetAside,
    Shrink,
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
    "route = iif(attempts = 0, ?, route) WHERE entry = ? AND address = ? AND due IS NOT NULL"
)
TOLD = f"UPDATE recipient SET told = 1 WHERE entry = ? AND address = ? AND (state IN {rows.OPEN_STATES}) = ?"
# A recipient that failed while its sender was being warned of the delay is to be told of that, too: hence the last condition.
POSTPONE = "UPDATE recipient SET due = ?, next_attempt = ?, waits = NULL WHERE entry = ? AND address = ? AND due IS NOT NULL"
_NOT_DUE = "UPDATE recipient SET due = NULL, waits = NULL WHERE entry = ?"
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
        self.kinds: dict[type, Callable[[Sequence[Any]], Sequence[Result]]] = {
            Accept: self.accept,
            Begin: self.begin,
            Record: self.record,
            Finish: self.finish,
            Reschedule: self.reschedule,
            Alter: self.alter,
            Wake: self.wake,
            SetAside: self.set_aside,
            Purge: self.purge,
            Shrink: self.shrink,
            Reserve: self.reserve,
            Trial: self.trial,
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
            due = self._db.execute(
                "SELECT DISTINCT due, entry FROM recipient INDEXED BY recipient_due WHERE due <= ? ORDER BY due, entry LIMIT ?",
                (operation.now, wanted),
            ).fetchall()
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
        stored = read_entries(self._db, [number for number in numbers if number not in fresh], leased=now)
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

    def record(self, operations: Sequence[Record]) -> Sequence[Result]:
        """Store outcomes and close their attempts."""
        self._db.executemany(RECORD, [row for operation in operations for row in operation.updates])
        self._db.executemany(_STEP, [row for operation in operations for row in operation.steps])
        closed = [(operation.attempt, operation.entry) for operation in operations if operation.attempt]
        self._db.executemany("DELETE FROM attempt WHERE n = ? AND entry = ?", closed)
        still_open = self._still_open([operation.entry for operation in operations])
        for operation in operations:
            self._fresh.forget([operation.entry])
            if operation.entry in self._corrupt:  # set aside during the attempt
                self._db.execute(_NOT_DUE, (operation.entry,))
        return [operation.entry not in still_open for operation in operations]

    def finish(self, operations: Sequence[Finish]) -> Sequence[Result]:
        """Move entries into the history, unless a recipient is open or a notice about it is due."""
        ripe = self._ripe([operation.entry for operation in operations])
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

    def _ripe(self, numbers: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for some in _slices(numbers, 200):
            marks = ",".join("?" * len(some))
            sql = (
                f"SELECT id FROM entry e WHERE id IN ({marks}) AND finished IS NULL AND NOT EXISTS (SELECT 1 FROM recipient r "
                f"WHERE r.entry = e.id AND (r.state IN {rows.OPEN_STATES} OR {rows.UNTOLD}))"
            )
            found.update(number for (number,) in self._db.execute(sql, some))
        return found

    def _still_open(self, numbers: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for some in _slices(numbers, 200):
            marks = ",".join("?" * len(some))
            sql = f"SELECT DISTINCT entry FROM recipient WHERE entry IN ({marks}) AND state IN {rows.OPEN_STATES}"
            found.update(number for (number,) in self._db.execute(sql, some))
        return found

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
        return [self._alter(operation) for operation in operations]

    def _alter(self, operation: Alter) -> Chunk:
        condition = filters.where(operation.what, operation.now)
        cursor = self._db.execute(
            f"SELECT r.entry, r.address, {_ELIGIBLE[operation.verb]} FROM {filters.FROM} "
            f"WHERE r.entry > ? AND {condition.text} ORDER BY r.entry",
            (*_eligible_values(operation), operation.after, *condition.values),
        )
        found, following = _whole_entries(cursor, operation.limit)
        entries = list(dict.fromkeys(number for number, _, _ in found))
        chosen = [(number, address) for number, address, eligible in found if eligible]
        if operation.what.state == "corrupt" and operation.verb != "delete":
            self._restore(entries)
        self._db.executemany(_ALTER[operation.verb], [(*_alter_values(operation), *key) for key in chosen])
        if operation.verb == "reroute":
            via = json.dumps(list(operation.via), ensure_ascii=False)
            self._db.executemany("UPDATE entry SET via = ? WHERE id = ?", [(via, number) for number in {number for number, _ in chosen}])
        elif operation.verb == "delete":
            self._deleted(chosen, entries, operation.now)
        return Chunk(len(chosen), following)

    def _restore(self, numbers: Sequence[int]) -> None:
        # An admin who names corrupt entries takes them, whole, back into the queue.
        again = [(number,) for number in numbers]
        self._db.executemany("DELETE FROM corrupt WHERE entry = ?", again)
        self._db.executemany("UPDATE recipient SET due = next_attempt WHERE entry = ? AND state = 'queued'", again)
        self.after.append(partial(self._corrupt.difference_update, numbers))

    def _deleted(self, chosen: Sequence[tuple[int, str]], entries: Sequence[int], now: float) -> None:
        self._db.executemany(
            _STEP,
            [(number, now, address, "", "", 0, "", "", "deleted by an admin", "relay", "", State.DELETED) for number, address in chosen],
        )
        still_open = self._still_open(entries)
        # No bounce can be made of an entry set aside, so none is waited for; with an open recipient it stays where it is.
        aside = [number for number in entries if number in self._corrupt and number not in still_open]
        self._restore(aside)
        done = sorted(self._ripe(entries).union(aside))
        self._db.executemany("UPDATE entry SET finished = coalesce(finished, ?), body = 0 WHERE id = ?", [(now, number) for number in done])
        self._drop_bodies(done)
        self._fresh.forget(done)

    def wake(self, operations: Sequence[Wake]) -> Sequence[Result]:
        """Make waiting recipients due, oldest first; with all keys, one key after the other."""
        return [self._wake(operation) for operation in operations]

    def _wake(self, operation: Wake) -> int:
        condition, key = ("waits = ?", (operation.key,)) if operation.key is not None else ("waits IS NOT NULL", ())
        found = self._db.execute(  # in the order of the index: a chunk costs the same, however many wait
            f"SELECT entry FROM recipient INDEXED BY recipient_waits WHERE {condition} AND due IS NOT NULL ORDER BY waits, entry LIMIT ?",
            (*key, operation.limit),
        ).fetchall()
        return self._db.executemany(
            f"UPDATE recipient SET due = ?, next_attempt = ?, waits = NULL WHERE {condition} AND due IS NOT NULL AND entry = ?",
            [(operation.now, operation.now, *key, number) for number in dict.fromkeys(number for (number,) in found)],
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


_UNLEASED = "r.state = 'queued' AND (r.due IS NULL OR r.due = r.next_attempt OR r.due <= ?)"
_ELIGIBLE = {
    "hold": _UNLEASED,
    "release": "r.state = 'held'",
    "retry": _UNLEASED,
    "reroute": f"(r.state = 'held' OR {_UNLEASED}) AND (? OR NOT r.maybe_relayed)",
    "delete": f"r.state = 'held' OR ({_UNLEASED})",
}
_NOW_DUE = "UPDATE recipient SET state = 'queued', due = ?1, next_attempt = ?1, waits = NULL WHERE entry = ?2 AND address = ?3"
_ALTER = {
    "hold": "UPDATE recipient SET state = 'held', due = NULL, waits = NULL WHERE entry = ? AND address = ?",
    "release": _NOW_DUE,
    "retry": _NOW_DUE,
    "reroute": "UPDATE recipient SET due = iif(state = 'queued', ?1, NULL), next_attempt = ?1, waits = NULL, since = 0.0, "
    "route = '', maybe_relayed = 0 WHERE entry = ?2 AND address = ?3",
    "delete": "UPDATE recipient SET state = 'deleted', due = NULL, waits = NULL WHERE entry = ? AND address = ?",
}


def _eligible_values(operation: Alter) -> tuple[Any, ...]:
    if operation.verb == "release":
        return ()
    if operation.verb == "reroute":
        return (operation.now, operation.even_if_maybe_sent)
    return (operation.now,)


def _alter_values(operation: Alter) -> tuple[Any, ...]:
    return (operation.now,) if operation.verb in ("release", "retry", "reroute") else ()


def _whole_entries(rows: sqlite3.Cursor, limit: int) -> tuple[list[Any], int | None]:
    """At least `limit` of the rows, if there are so many, with all of their last entry; and that entry where more follow."""
    found: list[Any] = []
    with contextlib.closing(rows):  # before anything is changed
        for row in rows:
            if len(found) >= limit and row[0] != found[-1][0]:
                return found, found[-1][0]
            found.append(row)
    return found, None


def _slices(numbers: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def read_entries(db: sqlite3.Connection, numbers: Sequence[int], leased: float | None = None) -> dict[int, Entry | CorruptEntry]:
    """The entries with these numbers; one that cannot be read is the CorruptEntry that says why, one not there is missing."""
    found: dict[int, Entry | CorruptEntry] = {}
    for some in _slices(numbers, 200):
        marks = ",".join("?" * len(some))
        recipients: dict[int, list[Any]] = {}
        for row in db.execute(f"SELECT {rows.RECIPIENT} FROM recipient WHERE entry IN ({marks})", some):
            recipients.setdefault(row[0], []).append(row)
        for row in db.execute(f"SELECT {rows.ENTRY} FROM entry WHERE id IN ({marks})", some):
            try:
                found[row[0]] = rows.entry(row, recipients.get(row[0], []), leased)
            except CorruptEntry as error:
                found[row[0]] = error
    return found
