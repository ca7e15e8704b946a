"""What an admin does to many recipients: hold, release, retry, reroute, bounce, delete. Runs in the writer thread, inside its transaction.

One chunk at a time: the next entries of the queue by their ids, and of these the recipients that the filter means. So no chunk looks
at more than a window of the queue, whatever the filter, and all chunks together look at each entry once. A chunk is a handful of
statements, whatever it changes, for each step of a statement gives the interpreter to other threads and has to get it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from relay.model import State
from relay.spool import filters, ids, rows
from relay.spool.base import Changed
from relay.spool.operations import Alter, Chunk

_MOST = 2**63 - 1

_CHOSEN = """
CREATE TEMP TABLE chosen (               -- the recipients that a chunk is about
    entry INTEGER NOT NULL,
    address TEXT NOT NULL,
    may INTEGER NOT NULL,                -- the verb changes it
    pinned INTEGER NOT NULL,             -- it would, but for a provider that may have taken it
    PRIMARY KEY (entry, address)
) WITHOUT ROWID
"""
_ENDED = "CREATE TEMP TABLE ended (entry INTEGER PRIMARY KEY)"  # entries that a chunk ends

_UNLEASED = "(r.due IS NULL OR r.due = r.next_attempt OR r.due <= ?1)"
_ELIGIBLE = {
    "hold": f"r.state = 'queued' AND {_UNLEASED}",
    "release": "r.state = 'held'",
    "retry": f"r.state = 'queued' AND {_UNLEASED}",
    "reroute": f"r.state IN {rows.OPEN_STATES}",
    "bounce": f"r.state = 'held' OR (r.state = 'queued' AND {_UNLEASED})",
    "delete": f"r.state = 'held' OR (r.state = 'queued' AND {_UNLEASED})",
}
_NOW_DUE = "state = 'queued', due = ?1, next_attempt = ?1, waits = NULL"
_SET = {
    "hold": "state = 'held', due = NULL, waits = NULL",
    "release": _NOW_DUE,
    "retry": _NOW_DUE,
    # A lease stays: who holds it ends it, and the way after that is the new one.
    "reroute": f"due = iif({_UNLEASED}, iif(state = 'queued', ?1, NULL), due), next_attempt = iif({_UNLEASED}, ?1, next_attempt), "
    "waits = NULL, since = 0.0, route = '', maybe_relayed = 0, via = ?2",
    "bounce": "state = 'failed', due = NULL, waits = NULL, told = 0, verdict = ?3, status = ?4, reply = ?5, remote = ?6, remote_id = ?7",
    "delete": "state = 'deleted', due = NULL, waits = NULL",
}


class Altering:
    """`corrupt` holds the entries set aside, `after` what is done once the transaction is durable; `remove_files` and `forget` hear
    of entries that have ended: of those whose octets lie in a file, and of all."""

    def __init__(
        self,
        db: sqlite3.Connection,
        corrupt: set[int],
        after: list[Callable[[], None]],
        remove_files: Callable[[Sequence[int]], None],
        forget: Callable[[Iterable[int]], None],
    ) -> None:
        self._db = db
        self._corrupt = corrupt
        self._after = after
        self._remove_files = remove_files
        self._forget = forget
        db.execute(_CHOSEN)
        db.execute(_ENDED)

    def alter(self, operation: Alter) -> Chunk:
        """Change one chunk."""
        last, more = self._choose(operation)
        if last is None:
            return Chunk([], None)
        changed = self._changed()
        if operation.what.state == "corrupt" and operation.verb != "delete":
            self._restore([number for number, *_ in changed], "chosen")
        via = rows.via(operation.via) if operation.via else ""
        self._db.execute(
            f"UPDATE recipient AS r SET {_SET[operation.verb]} "
            "WHERE ?2 || ?7 IS NOT NULL AND (r.entry, r.address) IN (SELECT entry, address FROM chosen WHERE may)",
            (operation.now, via, *operation.said),
        )
        addresses = self._given_up(operation) if operation.verb == "bounce" else {}
        ended = self._deleted(operation.now) if operation.verb == "delete" else frozenset()
        found = [Changed(ids.text(number), count, number in ended, pinned, addresses.get(number, ())) for number, count, pinned in changed]
        return Chunk([one for one in found if one.recipients or one.ended or one.pinned], last if more else None)

    def _choose(self, operation: Alter) -> tuple[int | None, bool]:
        """Fill the table `chosen` with about `limit` recipients; returns the last entry that was looked at (None: there is none), and
        whether there may be more behind it."""
        what = operation.what
        low, high = (ids.prefix_range(what.queue_id) or (1, 0)) if what.queue_id else (0, _MOST)
        aside = what.state == "corrupt"
        entries = "entry AS id FROM corrupt" if aside else "id FROM entry INDEXED BY entry_open"
        last, seen = self._db.execute(
            f"SELECT max(id), count(*) FROM (SELECT {entries} WHERE {'1' if aside else 'finished IS NULL'} AND id > ? AND id <= ? "
            "ORDER BY id LIMIT ?)",
            (max(operation.after, low - 1), high, operation.window),
        ).fetchone()
        if last is None:
            return None, False
        condition = filters.where(what, operation.now)
        eligible = f"({_ELIGIBLE[operation.verb]})"
        choose = (
            f"INSERT OR IGNORE INTO chosen SELECT r.entry, r.address, {eligible} AND (?2 OR NOT r.maybe_relayed), "
            f"{eligible} AND r.maybe_relayed AND NOT ?2 FROM {filters.FROM} "
            f"WHERE e.id > ?3 AND e.id <= ?4 AND {condition.text} ORDER BY e.id LIMIT ?"
        )
        sure = operation.verb != "reroute" or operation.even_if_maybe_sent
        self._db.execute("DELETE FROM chosen")
        count = self._db.execute(choose, (operation.now, sure, operation.after, last, *condition.values, operation.limit)).rowcount
        if count < operation.limit:
            return last, seen == operation.window
        (last,) = self._db.execute("SELECT max(entry) FROM chosen").fetchone()
        self._db.execute(choose, (operation.now, sure, last - 1, last, *condition.values, -1))  # the rest of the last entry
        return last, True

    def _changed(self) -> list[tuple[int, int, int]]:
        """(entry, recipients that are changed, recipients that stay pinned) of the entries in `chosen`, by entry."""
        (text,) = self._db.execute(  # one row: see above
            "SELECT group_concat(entry || ' ' || n || ' ' || pinned, ';') FROM "
            "(SELECT entry, sum(may) AS n, sum(pinned) AS pinned FROM chosen GROUP BY entry)"
        ).fetchone()
        found = (part.split() for part in (text or "").split(";") if part)
        return sorted((int(number), int(count), int(pinned)) for number, count, pinned in found)

    def _restore(self, numbers: Sequence[int], table: str) -> None:
        # An admin who names corrupt entries takes them, whole, back into the queue.
        self._db.execute(f"DELETE FROM corrupt WHERE entry IN (SELECT entry FROM {table})")
        self._db.execute(f"UPDATE recipient SET due = next_attempt WHERE state = 'queued' AND entry IN (SELECT entry FROM {table})")
        self._after.append(partial(self._corrupt.difference_update, numbers))

    def _given_up(self, operation: Alter) -> Mapping[int, tuple[str, ...]]:
        """Note it in the history; returns the recipients by entry, in the order of its envelope."""
        self._db.execute(
            f"INSERT INTO step ({rows.STEP}) SELECT c.entry, ?1, c.address, r.provider, r.route, 0, r.verdict, r.status, r.reply, "
            "r.remote, r.remote_id, r.state FROM chosen c JOIN recipient r ON r.entry = c.entry AND r.address = c.address WHERE c.may",
            (operation.now,),
        )
        (text,) = self._db.execute(  # one row: see above; an address holds no line end
            "SELECT group_concat(entry || ' ' || address, char(10)) FROM (SELECT c.entry, c.address FROM chosen c "
            "JOIN recipient r ON r.entry = c.entry AND r.address = c.address WHERE c.may ORDER BY c.entry, r.n)"
        ).fetchone()
        found: dict[int, list[str]] = {}
        for line in text.split("\n") if text else ():
            number, _, address = line.partition(" ")
            found.setdefault(int(number), []).append(address)
        return {number: tuple(addresses) for number, addresses in found.items()}

    def _deleted(self, now: float) -> frozenset[int]:
        """Note it in the history, and finish entries that are left without an open recipient; returns these."""
        self._db.execute(
            f"INSERT INTO step ({rows.STEP}) SELECT entry, ?, address, '', '', 0, '', '', 'deleted by an admin', 'relay', '', ? "
            "FROM chosen WHERE may",
            (now, State.DELETED.value),
        )
        # No bounce can be made of an entry set aside, so none is waited for; with an open recipient it stays where it is.
        over = "SELECT DISTINCT c.entry FROM chosen c WHERE NOT EXISTS (SELECT 1 FROM recipient r WHERE r.entry = c.entry AND %s)"
        self._db.execute("DELETE FROM ended")
        self._db.execute(f"INSERT INTO ended {over % f'r.state IN {rows.OPEN_STATES}'} AND c.entry IN (SELECT entry FROM corrupt)")
        if aside := self._ended():
            self._restore(list(aside), "ended")
        self._db.execute(f"INSERT OR IGNORE INTO ended {over % f'(r.state IN {rows.OPEN_STATES} OR {rows.UNTOLD})'}")
        (files,) = self._db.execute(
            f"SELECT group_concat(id, ' ') FROM entry WHERE id IN (SELECT entry FROM ended) AND body = {rows.IN_FILE}"
        ).fetchone()
        self._db.execute("UPDATE entry SET finished = coalesce(finished, ?), body = 0 WHERE id IN (SELECT entry FROM ended)", (now,))
        self._db.execute("DELETE FROM body WHERE entry IN (SELECT entry FROM ended)")
        ended = self._ended()
        self._forget(ended)
        if files:
            self._after.append(partial(self._remove_files, [int(number) for number in files.split()]))
        return ended

    def _ended(self) -> frozenset[int]:
        (text,) = self._db.execute("SELECT group_concat(entry, ' ') FROM ended").fetchone()
        return frozenset(map(int, (text or "").split()))
