"""Whether the spool can write, said once when it cannot and once when it can again, whoever noticed."""

from __future__ import annotations

from relay.log import Events


class SpoolTrouble:
    """Those who are in trouble with the spool now. The first one is told, and that the last one is out of it."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._who: set[object] = set()

    def begin(self, who: object, text: str) -> None:
        """`who` (any object, compared by identity or value) cannot go on, because of `text`."""
        if not self._who:
            self._events.spool_trouble(text)
        self._who.add(who)

    def end(self, who: object) -> None:
        """`who` can go on; nothing happens where there was no trouble."""
        if who in self._who:
            self._who.remove(who)
            if not self._who:
                self._events.spool_recovered()
