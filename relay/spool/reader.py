"""Everything that is read from the spool without changing it, over a connection of its own that can only read.

The daemon uses it in a thread beside the writer. The command line uses it directly while no daemon runs. Plain,
blocking calls; each sees what was durable when it began. Raises SpoolError; CorruptEntry for one entry that cannot be
read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relay.errors import CorruptEntry, SpoolError
from relay.model import Entry, Facts, line_key
from relay.spool import database, entries, files, filters, ids, rows
from relay.spool.base import Begun, Counts, Filter, Step
from relay.spool.stored import Stored

_PAGE = 500


class Reader:
    """The spool in `directory`, read-only. `now` arguments are Unix seconds and decide what counts as active."""

    def __init__(self, directory: Path) -> None:
        try:
            if not (directory / database.FILE).exists():
                raise SpoolError(f"there is no spool in {directory}")
            self._db = database.connect(directory, read_only=True)
        except (sqlite3.Error, OSError) as error:
            raise database.spool_error(error) from error
        self._bodies = files.Bodies(directory)
        try:
            self._ledger = database.check_version(self._db) >= database.LEDGER
        except (sqlite3.Error, SpoolError) as error:
            self._db.close()
            raise database.spool_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise database.spool_error(error) from error

    def entry(self, queue_id: str) -> Entry | None:
        """One entry, open or in the history."""
        number = ids.number(queue_id)
        if why := self._all("SELECT why FROM corrupt WHERE entry = ?", (number,)):
            raise CorruptEntry(ids.text(number), why[0][0])
        found = self._entries([number]).get(number)
        if isinstance(found, CorruptEntry):
            raise found
        return found

    def _entries(self, numbers: Sequence[int]) -> dict[int, Entry | CorruptEntry]:
        try:
            return entries.read(self._db, numbers, columns=rows.RECIPIENT if self._ledger else rows.OLD_RECIPIENT)
        except sqlite3.Error as error:
            raise database.spool_error(error) from error

    def message(self, queue_id: str) -> Stored:
        """The stored octets; those of a corrupt entry too, as far as they can be had."""
        number = ids.number(queue_id)
        found = self._all(
            "SELECT e.size, e.eight_bit, e.longest_line, e.body, e.header, b.data "
            "FROM entry e LEFT JOIN body b ON b.entry = e.id WHERE e.id = ?",
            (number,),
        )
        if not found:
            raise SpoolError(f"{queue_id} is not in the spool")
        size, eight_bit, longest_line, where, header, data = found[0]
        facts = Facts(size, bool(eight_bit), longest_line)
        if where == rows.GONE:
            raise SpoolError(f"the message of {queue_id} is no longer kept")
        if where == rows.IN_FILE:
            return Stored(header, facts, path=self._check_file(number, size))
        if data is None or len(header) + len(data) != size:
            have = "missing" if data is None else f"{len(header) + len(data)} octets"
            raise CorruptEntry(ids.text(number), f"its body is {have} instead of {size} octets")
        return Stored(header, facts, body=data)

    def _check_file(self, number: int, size: int) -> Path:
        try:
            fd = self._bodies.open(number)
        except OSError as error:
            raise CorruptEntry(ids.text(number), f"its body file cannot be opened: {error.strerror}") from error
        try:
            found = os.fstat(fd).st_size
        finally:
            os.close(fd)
        if found != size:
            raise CorruptEntry(ids.text(number), f"its body file has {found} instead of {size} octets")
        return self._bodies.path(number)

    def find(self, what: Filter, limit: int, now: float, after: str = "") -> Sequence[Entry]:
        """Entries with a matching recipient, by queue id, after the id `after`; one that cannot be read is left out."""
        condition = filters.where(what, now)
        start = ids.number(after) if after else -1
        numbers = [
            number
            for (number,) in self._all(
                f"SELECT DISTINCT e.id FROM {filters.FROM} WHERE e.id > ? AND {condition.text} ORDER BY e.id LIMIT ?",
                (start, *condition.values, limit),
            )
        ]
        return self._readable(numbers)

    def readable(self, queue_ids: Sequence[str]) -> Sequence[Entry]:
        """These entries; one that cannot be read, or is set aside, is left out."""
        aside = {number for (number,) in self._all("SELECT entry FROM corrupt")}
        return self._readable([number for number in map(ids.number, queue_ids) if number not in aside])

    def _readable(self, numbers: Sequence[int]) -> Sequence[Entry]:
        return [entry for entry in self._entries(numbers).values() if isinstance(entry, Entry)]

    def count(self, what: Filter, now: float) -> int:
        """How many recipients a filter means."""
        condition = filters.where(what, now)
        return int(self._all(f"SELECT count(*) FROM {filters.FROM} WHERE {condition.text}", condition.values)[0][0])

    def resolve(self, prefix: str) -> Sequence[str]:
        """Queue ids that begin with `prefix` (at most 10)."""
        low, high = ids.prefix_range(prefix) or (1, 0)
        return [
            ids.text(number) for (number,) in self._all("SELECT id FROM entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 10", (low, high))
        ]

    def search(self, term: str, limit: int) -> Sequence[str]:
        """Ids by queue id prefix, Message-ID, recipient, sender or remote id, each with or without its brackets; newest first."""
        if not term:
            return []
        low, high = ids.prefix_range(term) or (1, 0)
        bare = term[1:-1] if term.startswith("<") and term.endswith(">") else term
        found = self._all(
            "SELECT id FROM (SELECT id FROM entry WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?5) "
            "UNION SELECT id FROM entry WHERE message_id IN (?3, ?4) AND message_id <> '' "
            "UNION SELECT id FROM entry WHERE sender = ?3 COLLATE NOCASE "
            "UNION SELECT entry FROM recipient WHERE address = ?3 COLLATE NOCASE "
            "UNION SELECT entry FROM step WHERE remote_id IN (?3, ?4) AND remote_id <> '' "
            "ORDER BY id DESC LIMIT ?5",
            (low, high, bare, f"<{bare}>", limit),
        )
        return [ids.text(number) for (number,) in found]

    def history(self, queue_id: str) -> Sequence[Step]:
        """Every outcome of an entry, in order of time."""
        return self.histories([queue_id])[queue_id]

    def histories(self, queue_ids: Sequence[str]) -> Mapping[str, Sequence[Step]]:
        """The same of several entries."""
        numbers = {queue_id: ids.number(queue_id) for queue_id in queue_ids}
        steps: dict[int, list[Step]] = {number: [] for number in numbers.values()}
        for some in _pages([*steps]):
            marks = ",".join("?" * len(some))
            for row in self._all(f"SELECT {rows.STEP} FROM step WHERE entry IN ({marks}) ORDER BY time, id", some):
                steps[row[0]].append(rows.step(row))
        return {queue_id: steps[number] for queue_id, number in numbers.items()}

    def corrupt(self) -> Sequence[tuple[str, str]]:
        """(queue id, why) of the entries set aside."""
        return [(ids.text(number), why) for number, why in self._all("SELECT entry, why FROM corrupt ORDER BY entry")]

    def counts(self, now: float) -> Counts:
        """The queue in numbers."""
        found = self._all(
            f"SELECT CASE WHEN r.state = 'held' THEN 'hold' WHEN {filters.NOT_YET} THEN 'deferred' ELSE 'active' END AS word, "
            f"r.provider, count(*), min(e.arrived) FROM {filters.FROM} WHERE {filters.OPEN} GROUP BY word, r.provider",
            (now,),
        )
        oldest: dict[str, float] = {}
        for word, _, _, arrived in found:
            oldest[word] = min(arrived, oldest.get(word, arrived))
        entries = self._all(f"SELECT count(*) FROM entry e WHERE e.finished IS NULL AND {filters.SANE}")[0][0]
        corrupt = self._all("SELECT count(*) FROM corrupt")[0][0]
        return Counts(entries, {(word, provider): number for word, provider, number, _ in found}, oldest, corrupt)

    def next_due(self) -> float | None:
        """When the next recipient falls due, or None."""
        due: float | None = self._all("SELECT min(due) FROM recipient WHERE due IS NOT NULL")[0][0]
        return due

    def waiting(self, key: str) -> int:
        """How many recipients wait for `key`."""
        return int(self._all("SELECT count(*) FROM recipient WHERE waits = ?", (key,))[0][0])

    def waited_for(self) -> list[str]:
        """The providers that anybody waits for."""
        found: list[str] = []
        while key := self._waited_after(f"{found[-1]}!" if found else ""):
            found.append(key.partition(" ")[0])
        return found

    def lines(self) -> list[str]:
        """The keys of all lines (`line_key`) in which anybody waits. A look-up for each, however many wait."""
        found: list[str] = []
        after = ""
        while key := self._waited_after(after):
            line = line_key(key.partition(" ")[0], "")
            if key.startswith(line):
                found.append(key)
                after = key
            else:
                after = line[:-1] if key < line else f"{line.partition(' ')[0]}!"
        return found

    def _waited_after(self, key: str) -> str | None:
        found: str | None = self._all("SELECT min(waits) FROM recipient WHERE waits > ?", (key,))[0][0]
        return found

    def spent(self) -> Sequence[tuple[str, float, int]]:
        """The ledger, by budget and slot."""
        return self._all("SELECT budget, slot, amount FROM spent ORDER BY budget, slot") if self._ledger else []

    def kept(self) -> Mapping[str, str]:
        """Every value that is kept."""
        return dict(self._all("SELECT key, value FROM kept")) if self._ledger else {}

    def unfinished(self, before: int) -> Sequence[Begun]:
        """Attempts without an outcome, up to the attempt number `before`, each with those of its recipients that are open."""
        attempts: dict[int, list[Any]] = {}
        sql = (
            "SELECT a.n, a.address, a.entry, a.provider, a.route, a.started FROM attempt a "
            f"JOIN recipient r ON r.entry = a.entry AND r.address = a.address AND r.state IN {rows.OPEN_STATES} "
            "WHERE a.n <= ? AND a.entry NOT IN (SELECT entry FROM corrupt) ORDER BY a.n, a.address"
        )
        for row in self._all(sql, (before,)):
            attempts.setdefault(row[0], []).append(row)
        return [
            Begun(number, ids.text(found[0][2]), found[0][3], found[0][4], tuple(row[1] for row in found), found[0][5])
            for number, found in attempts.items()
        ]

    def unclosed(self) -> Sequence[str]:
        """Entries with no open recipient that are not finished."""
        found = self._all(
            f"SELECT e.id FROM entry e WHERE e.finished IS NULL AND {filters.SANE} "
            f"AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.entry = e.id AND r.state IN {rows.OPEN_STATES}) ORDER BY e.id"
        )
        return [ids.text(number) for (number,) in found]

    def untold(self) -> Sequence[str]:
        """Entries in the queue with a recipient of whose end the sender is to be told, and was not."""
        found = self._all(
            f"SELECT DISTINCT e.id FROM {filters.FROM} WHERE e.finished IS NULL AND {filters.SANE} AND {rows.UNTOLD} ORDER BY e.id"
        )
        return [ids.text(number) for (number,) in found]

    def late(self, arrived_before: float, limit: int, after: str, below: int) -> Sequence[str]:
        """Entries with ids lower than `below` that arrived before, with a recipient that is deferred or waits and whose sender was
        not warned, but may be."""
        start = ids.number(after) if after else -1
        found = self._all(
            "SELECT DISTINCT r.entry FROM recipient r INDEXED BY recipient_late JOIN entry e ON e.id = r.entry "
            f"WHERE {rows.LATE} AND {rows.WARNED} AND r.entry > ? AND r.entry < ? AND e.arrived < ? AND e.sender <> '' AND NOT e.bounce "
            f"AND {filters.SANE} ORDER BY r.entry LIMIT ?",
            (start, below, arrived_before, limit),
        )
        return [ids.text(number) for (number,) in found]

    def broken_files(self) -> Sequence[tuple[int, str]]:
        """Entries of the queue whose body file is not as it should be, and why."""
        broken = []
        for number, size in self._all(f"SELECT id, size FROM entry e WHERE finished IS NULL AND body = {rows.IN_FILE} AND {filters.SANE}"):
            try:
                self._check_file(number, size)
            except CorruptEntry as error:
                broken.append((number, error.why))
        return broken

    def without_file(self, numbers: Sequence[int]) -> Sequence[int]:
        """Those of `numbers` whose entry has no file: left over from a crash."""
        named = {number for number in numbers if self._all(f"SELECT 1 FROM entry WHERE id = ? AND body = {rows.IN_FILE}", (number,))}
        return [number for number in numbers if number not in named]


def _pages(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), _PAGE):
        yield numbers[start : start + _PAGE]
