"""What left in a time: in the last seconds (`Window`), 24 hours (`Day`), or this month (`Month`), and a learned pace. Pure.

Each says when there is room for more. Amounts are counted too late rather than too early: memory and stored rows are slots, and
what is in a slot counts at its end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from relay.budgets.records import LEARNED, Rate

DAY = 86400.0
MINUTE = 60.0
NEAR = 1e-6
"""Seconds that are none: what is left of a wait by the rounding of Unix times."""
_GRAINS = 200  # slots of memory in a window
_ROWS = 100  # slots of stored rows in a window
SOON = 1.0
"""Seconds after which to look again whether what is in hands was spent or given back."""
SLOWEST = 1.0
"""The slowest pace that a provider is thought to have, a second."""
FORGET = 30.0
"""Seconds after which a learned pace is forgotten, where nothing new teaches it."""
_FALL = 0.9  # of what was seen: the pace after a throttling
_CAREFUL = 20.0  # seconds until it is as fast again as it was seen to be
_DOUBLE = 3.0  # seconds in which it doubles from then on
_HORIZONS = (1.0, 2.0, 5.0, LEARNED)  # seconds over which it is seen how fast the provider took mail
_TELLING = 5.0  # a second: slower traffic does not tell how fast the provider is


@dataclass(slots=True, eq=False)
class Slot:
    """What left from `first` on; counted at `at`."""

    first: float
    at: float
    amount: int


class Window:
    """What left in the last `span` seconds. Slots are of a 200th of that: so much too late is an amount counted, never too early."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        margin = min(max(0.03, 0.01 * rate.seconds), 0.03 * rate.seconds)
        self.span = rate.seconds + margin
        self.slot = max(rate.seconds / _ROWS, 0.01)  # of stored rows
        self.late = margin  # a request leaves as much after its row was made
        self.used = 0
        self._slots: deque[Slot] = deque()

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def expire(self, now: float) -> None:
        """Forget what left the window."""
        while self._slots and self._slots[0].at + self.span <= now + NEAR:
            self.used -= self._slots.popleft().amount

    def add(self, at: float, amount: int) -> None:
        """So much leaves at `at`, or with the last if that is later."""
        self.used += amount
        if self._slots:
            newest = self._slots[-1]
            at = max(at, newest.at)
            if at - newest.first < self.span / _GRAINS:
                newest.at = at
                newest.amount += amount
                return
        self._slots.append(Slot(at, at, amount))

    def move(self, since: float, at: float, amount: int) -> None:
        """What was said to leave at `since` leaves at `at`."""
        self.drop(since, amount)
        self.add(at, amount)

    def drop(self, since: float, amount: int) -> None:
        """What was said to leave at `since` did not."""
        for slot in reversed(self._slots):
            if slot.first <= since and slot.amount >= amount:
                slot.amount -= amount
                self.used -= amount
                break

    def shift(self, by: float) -> None:
        """Other times for what left."""
        for slot in self._slots:
            slot.first += by
            slot.at += by

    def remember(self, others: Sequence[Window]) -> None:
        """Begin with what others know of this time, of those that reach as far back the shortest."""
        for slot in min(others, key=lambda one: (one.span < self.span, abs(one.span - self.span))):
            self.add(slot.at, slot.amount)

    def row(self, now: float) -> float:
        """The slot of the row for what is about to leave: its end, and not before the request has left."""
        return round(math.ceil((now + self.late) / self.slot) * self.slot, 3)

    def free(self, now: float, amount: int, held: int, last: float) -> float:
        """The time at which `amount` may be taken, when `held` is in hands and the last take was at `last`.

        From every slot on: what there is room for until it leaves the window is spread over the time until then, and nothing is
        taken that would spread it thinner than 2 W / L. Were only the oldest slot looked at, a burst in the middle of the window
        would come to its end with nothing left for the next."""
        self.expire(now)
        most = self.rate.count
        if held + amount > most:
            return now + self.span  # sooner if some is given back
        inside = self.used + held
        if not inside or 2 * (inside + amount) <= most + 1:
            return now
        thinnest = 2 * self.span / most
        last = max(last, self._slots[0].at) if self._slots else last
        newest = (Slot(last, last, held),) if held else ()
        inside, due, span = 0, last, self.span
        for slot in chain(newest, reversed(self._slots)):
            inside += slot.amount
            gone, room = slot.at + span, most - inside
            if amount > room:
                return max(due, gone)
            evenly = last + (gone - last) / (room + 1)
            if evenly > due:
                due = evenly
            if (thick := gone - thinnest * (room - amount + 1)) > due:
                due = thick
        return due


class Day:
    """What left in the last 24 hours, by minutes; `elsewhere` is what the account counts beside, until it is asked again."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.used = 0
        self.elsewhere = 0
        self.told = -math.inf
        self._minutes: deque[tuple[float, int]] = deque()

    def add(self, at: float, amount: int) -> None:
        minute = math.ceil(at / MINUTE) * MINUTE
        self.used += amount
        if self._minutes and self._minutes[-1][0] >= minute:
            minute, before = self._minutes.pop()
            amount += before
        self._minutes.append((minute, amount))

    def shift(self, by: float) -> None:
        self._minutes = deque((minute + by, amount) for minute, amount in self._minutes)
        self.told += by

    def expire(self, now: float) -> None:
        """Forget what is older than a day."""
        while self._minutes and self._minutes[0][0] + DAY <= now:
            self.used -= self._minutes.popleft()[1]
        if self.told + DAY <= now:
            self.elsewhere = 0

    def total(self, now: float) -> int:
        """All that counts now."""
        self.expire(now)
        return self.used + self.elsewhere

    def free(self, now: float, amount: int, held: int) -> float:
        """The time at which there is room for so much; soon, where only what is `held` is in the way."""
        missing = self.total(now) + amount - (self.limit or 0)
        if self.limit is None or missing + held <= 0:
            return now
        if missing <= 0:
            return now + SOON
        for minute, left in sorted([*self._minutes, (self.told, self.elsewhere)]):
            missing -= left
            if missing <= 0:
                return minute + DAY
        return now + DAY


class Month:
    """What left in the calendar month of UTC; of the month before too, for a clock that steps back into it."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.months: dict[float, int] = {}
        self._begin, self._end = 0.0, 0.0

    def begin(self, now: float) -> float:
        """When the month of `now` began."""
        if not self._begin <= now < self._end:
            first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            then = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
            self._begin, self._end = first.timestamp(), then.timestamp()
        return self._begin

    def used(self, now: float) -> int:
        return self.months.get(self.begin(now), 0)

    def add(self, begin: float, amount: int) -> None:
        self.months[begin] = self.months.get(begin, 0) + amount
        while len(self.months) > 2:
            del self.months[min(self.months)]

    def free(self, now: float, amount: int, held: int) -> float:
        """The time at which there is room for so much; soon, where only what is `held` is in the way."""
        missing = self.used(now) + amount - (self.limit or 0)
        if self.limit is None or missing + held <= 0:
            return now
        return now + SOON if missing <= 0 else self._end


@dataclass(slots=True)
class Learned:
    """A pace (a second) that a throttling taught when it `fell`, of what was `seen` then. From `since` on it comes back: slowly to
    what was seen, then by doubling."""

    seen: float
    known: tuple[float, float] | None  # what was known when it fell: the least and the most that it may be
    fell: float
    since: float

    def at(self, now: float) -> float:
        """The pace by now."""
        passed = max(now - self.since, 0.0)
        if passed < _CAREFUL:
            return (_FALL + (1 - _FALL) * passed / _CAREFUL) * self.seen
        return self.seen * 2 ** min((passed - _CAREFUL) / _DOUBLE, 64.0)  # that is no limit any more

    def bounds(self, now: float) -> tuple[float, float]:
        """The least and the most that the provider takes, if it refuses something now. It took what was seen if it let the pace come
        back to that."""
        pace = self.at(now)
        return (self.seen if pace >= self.seen else 0.0), pace

    @property
    def over(self) -> float:
        """When it is forgotten."""
        return self.since + FORGET

    def shift(self, by: float) -> None:
        """Other times for what was learned."""
        self.fell += by
        self.since += by


class Traffic:
    """What left in the last LEARNED seconds, and what of it a throttling refused: how fast the provider is."""

    def __init__(self) -> None:
        self.left = Window(Rate(0, LEARNED))
        self._refused = Window(Rate(0, LEARNED))

    def refuse(self, now: float, amount: int) -> None:
        """So much was refused."""
        self._refused.expire(now)
        self._refused.add(now, amount)

    def taken(self, fell: float, known: tuple[float, float] | None) -> float | None:
        """The pace, a second, at which the provider took what left until `fell`, where some time before it was fastest, within
        what is `known`. None where the traffic does not tell: too thin, or, where nothing is known, all of it refused."""
        left = {horizon: _within(self.left, fell - horizon) for horizon in _HORIZONS}
        took = {horizon: left[horizon] - _within(self._refused, fell - horizon) for horizon in _HORIZONS}
        if known is None:
            if max(left[horizon] / horizon for horizon in _HORIZONS) < _TELLING or took[LEARNED] <= 0:
                return None
        elif left[LEARNED] < SLOWEST * LEARNED / 2:
            return None
        least, most = known or (0.0, math.inf)
        return max(min(max(took[horizon] / horizon for horizon in _HORIZONS), most), least, SLOWEST)

    def shift(self, by: float) -> None:
        """Other times for all of it."""
        self.left.shift(by)
        self._refused.shift(by)


def _within(window: Window, since: float) -> int:
    """What is in the window since then."""
    return sum(slot.amount for slot in window if slot.at > since)
