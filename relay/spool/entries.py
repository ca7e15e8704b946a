"""What the tables say of some entries: questions that both threads, or several changes, ask. Reads only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from relay.errors import CorruptEntry
from relay.model import Entry
from relay.spool import rows

_AT_ONCE = 200  # parameters of one statement


def read(
    db: sqlite3.Connection, numbers: Sequence[int], leased: float | None = None, columns: str = rows.RECIPIENT
) -> dict[int, Entry | CorruptEntry]:
    """The entries with these numbers; one that cannot be read is the CorruptEntry that says why, one not there is missing."""
    found: dict[int, Entry | CorruptEntry] = {}
    for some, marks in _slices(numbers):
        recipients: dict[int, list[Any]] = {}
        for row in db.execute(f"SELECT {columns} FROM recipient WHERE entry IN ({marks})", some):
            recipients.setdefault(row[0], []).append(row)
        for row in db.execute(f"SELECT {rows.ENTRY} FROM entry WHERE id IN ({marks})", some):
            try:
                found[row[0]] = rows.entry(row, recipients.get(row[0], []), leased)
            except CorruptEntry as error:
                found[row[0]] = error
    return found


def still_open(db: sqlite3.Connection, numbers: Sequence[int]) -> set[int]:
    """Those with an open recipient."""
    found: set[int] = set()
    for some, marks in _slices(numbers):
        sql = f"SELECT DISTINCT entry FROM recipient WHERE entry IN ({marks}) AND state IN {rows.OPEN_STATES}"
        found.update(number for (number,) in db.execute(sql, some))
    return found


def ripe(db: sqlite3.Connection, numbers: Sequence[int]) -> set[int]:
    """Those in the queue none of whose recipients is open or waits for a notice: they are to be finished."""
    found: set[int] = set()
    for some, marks in _slices(numbers):
        sql = (
            f"SELECT id FROM entry e WHERE id IN ({marks}) AND finished IS NULL AND NOT EXISTS (SELECT 1 FROM recipient r "
            f"WHERE r.entry = e.id AND (r.state IN {rows.OPEN_STATES} OR {rows.UNTOLD}))"
        )
        found.update(number for (number,) in db.execute(sql, some))
    return found


def _slices(numbers: Sequence[int]) -> Iterable[tuple[Sequence[int], str]]:
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        yield some, ",".join("?" * len(some))
