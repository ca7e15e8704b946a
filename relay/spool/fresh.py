"""What was just accepted, kept in memory so that delivery need not read back what was just written.

Entries are kept from their commit to their first change, messages to the first outcome. The writer thread alone puts,
takes and forgets; the event loop looks messages up. When the room is used up nothing more is taken in: what is claimed
next is the oldest, and that is here.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.model import Entry
from relay.spool.stored import Stored

LIMIT = 32 * 1024 * 1024
_OVERHEAD = 4096  # octets an Entry takes beside its header block, roughly


class Fresh:
    """Bounded by octets."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._used = 0
        self._entries: dict[int, Entry] = {}
        self._messages: dict[int, Stored] = {}

    def put(self, entry: Entry, body: bytes | None) -> None:
        """Remember a new entry."""
        number = int(entry.queue_id, 16)
        cost = _OVERHEAD + entry.facts.size
        if body is None or self._used + cost > self._limit:  # in a file, or no room
            return
        self._entries[number] = entry
        self._messages[number] = Stored(entry.header, entry.facts, body=body)
        self._used += cost

    def take(self, number: int) -> Entry | None:
        """The entry, if nothing changed since it was accepted; forgotten here, because what follows is a change."""
        return self._entries.pop(number, None)

    def message(self, number: int) -> Stored | None:
        """The stored octets, if they are still here."""
        return self._messages.get(number)

    def forget_entry(self, number: int) -> None:
        """The entry changed; its body did not."""
        self._entries.pop(number, None)

    def forget_entries(self) -> None:
        """Any entry may have changed."""
        self._entries.clear()

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop these altogether."""
        for number in numbers:
            self._entries.pop(number, None)
            if found := self._messages.pop(number, None):
                self._used -= _OVERHEAD + found.facts.size
