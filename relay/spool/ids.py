"""Queue ids: rising, never reused, also when the clock steps back or the daemon is killed.

An id is a number of 56 bits, written as 14 upper-case hex digits: 42 bits of milliseconds since 1970, 6 bits of shard,
8 bits of counter. Ids are given out only below a mark that is already on disk; after a crash the next start begins at
that mark, so ids may be skipped and are never used twice. The mark is moved ahead long before it is reached, so giving
out an id never waits for the disk: at worst its milliseconds lag behind the clock. Pure: the time is an argument.
"""

from __future__ import annotations

from relay.errors import SpoolError

AHEAD = 60_000 << 14  # one minute of ids: what a crash may skip
_DIGITS = 14
_SHARD_BITS, _COUNTER_BITS = 6, 8
_MAX_COUNTER = (1 << _COUNTER_BITS) - 1


def text(number: int) -> str:
    """The id as people see it."""
    return f"{number:014X}"


def number(queue_id: str) -> int:
    """The id as a number; -1, which no entry has, for what is not a queue id."""
    if len(queue_id) != _DIGITS:
        return -1
    span = prefix_range(queue_id)
    return span[0] if span else -1


def prefix_range(prefix: str) -> tuple[int, int] | None:
    """(lowest, highest) number whose text begins with `prefix`, or None when none can."""
    if not 0 < len(prefix) <= _DIGITS or not all(digit in "0123456789ABCDEFabcdef" for digit in prefix):
        return None
    missing = 4 * (_DIGITS - len(prefix))
    low = int(prefix, 16) << missing
    return low, low + (1 << missing) - 1


def at(now: float) -> int:
    """The lowest id of shard 0 for the moment `now`."""
    return max(0, int(now * 1000)) << (_SHARD_BITS + _COUNTER_BITS)


class QueueIds:
    """Gives out ids of one shard. `mark` is the first id that may not be given out yet."""

    def __init__(self, shard: int, start: int) -> None:
        if not 0 <= shard < 1 << _SHARD_BITS:
            raise ValueError("a shard is a number from 0 to 63")
        self._shard = shard << _COUNTER_BITS
        self._last = start  # no id up to and including this one may be given out
        self.mark = start

    def take(self, now: float) -> int:
        """The next id. Raises SpoolError when the mark was reached (a minute without one working write)."""
        fresh = at(now) | self._shard
        if fresh <= self._last or fresh >= self.mark:
            fresh = self._successor()
        if fresh >= self.mark:
            raise SpoolError("no queue ids left: the spool could not be written for a minute")
        self._last = fresh
        return fresh

    def wanted(self, now: float) -> int:
        """The mark to store now, or 0 while the present one is good for more than half of its distance."""
        target = max(at(now), self._last) + AHEAD
        return target if target - self.mark > AHEAD // 2 else 0

    def above(self, moment: float, now: float) -> int:
        """An id above all that were given out before `moment`. An id is at most a minute ahead of the clock that made it, unless
        the clock stepped back: until it has caught up, that is every id."""
        return at(moment) + AHEAD if self._last < at(now) + AHEAD else self._last + 1

    @property
    def final(self) -> int:
        """The mark for an orderly end: nothing is skipped at the next start."""
        return self._last + 1

    def _successor(self) -> int:
        if self._last & _MAX_COUNTER < _MAX_COUNTER and self._last & (((1 << _SHARD_BITS) - 1) << _COUNTER_BITS) == self._shard:
            return self._last + 1
        return ((self._last >> (_SHARD_BITS + _COUNTER_BITS)) + 1) << (_SHARD_BITS + _COUNTER_BITS) | self._shard
