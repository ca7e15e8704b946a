"""The seats of those who wait for a batch: taken in the order in which they came within a route, and between routes by their shares.

Pure bookkeeping of one event loop. What became of a group is told to its seat, once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from relay.delivery.lanes import Group, Made, Search


class Turn(Enum):
    """What a group hears that was not attempted."""

    ALONE = "alone"  # it may go, without others
    PASSED = "passed"  # the transport cannot carry it, or an identity is paused: the search says which
    AGAIN = "again"  # it may not go now: it gives itself back to the spool, and chooses again


@dataclass(slots=True, eq=False)
class Seat:
    """A group's place in a batch. `heard` is what came of it."""

    group: Group
    search: Search
    taken: float  # of the loop's clock
    heard: asyncio.Future[Made | Turn] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def tell(self, what: Made | Turn | BaseException) -> None:
        """Say what came of it; who has left does not hear it."""
        if self.heard.done():
            return
        if isinstance(what, BaseException):
            self.heard.set_exception(what)
        else:
            self.heard.set_result(what)


class Seats:
    """Who waits, by route. Each route has had its seats counted by its weight; the one with the least goes first."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[Seat]] = {}
        self._had: dict[str, float] = {}
        self._level = 0.0  # what the route that was served last had: who comes anew begins there

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def add(self, seat: Seat) -> None:
        """Take the last seat of its route."""
        name = seat.group.route.name
        if name not in self._rows:
            self._rows[name] = deque()
            self._had[name] = self._level
        self._rows[name].append(seat)

    @property
    def first(self) -> Seat:
        """The seat that was taken first, of all there are."""
        return min((row[0] for row in self._rows.values()), key=lambda seat: seat.taken)

    @property
    def weight(self) -> int:
        """The share of the heaviest route that is there."""
        return max(row[0].group.weight for row in self._rows.values())

    def groups(self, most: int) -> Iterator[Group]:
        """The groups that are there, at most so many, in no order."""
        return islice((seat.group for row in self._rows.values() for seat in row), most)

    @property
    def next(self) -> Seat:
        """The seat whose turn it is."""
        return self._rows[min(self._rows, key=self._had.__getitem__)][0]

    def take(
        self, most: int, amount: float = float("inf"), of: Callable[[Group], int] = lambda group: 0, first: Seat | None = None
    ) -> list[Seat]:
        """At most so many seats, whose groups together come to at most `amount`; at least one where there is one. `first` is the one
        whose turn it was a while ago: whoever came since goes behind it."""
        found: list[Seat] = []
        while self._rows and len(found) < most:
            name = first.group.route.name if first and not found else min(self._rows, key=self._had.__getitem__)
            seat = self._rows[name][0]
            amount -= of(seat.group)
            if found and amount < 0:
                break
            found.append(seat)
            self._rows[name].popleft()
            self._level = self._had[name]
            self._had[name] += 1 / seat.group.weight
            if not self._rows[name]:
                del self._rows[name], self._had[name]
        return found
