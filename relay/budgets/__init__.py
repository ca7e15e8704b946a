"""How much a provider lets us send, and how much of that is used. Pure: the clock's reading is an argument.

Promises of a rate of L in W seconds: in no window of W do more than L leave, whatever the demand, restarts and clock steps
between; a burst of half of L leaves at once, and behind it the rest is spread, so that under demand without end nobody waits much
longer than 2 W / L for the next; all of L is used then. W is widened by a margin for jitter on the way (at most 3 %). `daily` is
any 24 hours, `monthly` the calendar month in UTC; both are limits without a pace.

What was spent is told as rows to be stored before a request leaves, one for each slot of time; `load` counts a row at the end of
its slot. What the account says of itself (`asked`) and what a provider's throttling teaches (`throttled`) narrow the budget; the
learned pace comes back, and is forgotten.

How it fails: time that a clock steps back is taken for time that did not pass: what was spent keeps its age. A clock that stands
still closes a used budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.budgets.records import LEARNED, Allowance, Count, Quota, Rate, Spent, Usage
from relay.budgets.windows import DAY, MINUTE, NEAR, Day, Learned, Month, Traffic, Window

_SAME = 2.0  # seconds within which further throttlings tell of requests that were under way at the first
_LONGEST = 3600.0  # seconds of a Retry-After that are believed
_STEPPED = 0.01  # seconds by which two clocks may differ from one reading to the next without one of them having been set
_LATE = 0.005  # seconds
_UNORDERED = 1.0  # seconds by which readings of one clock may come in another order than they were taken


@dataclass(slots=True, eq=False)
class Take:
    """A part of `budget` in somebody's hand: `held` is not begun yet, `begun` left at `at` the last time something did."""

    budget: Budget
    held: int
    taken: float
    before: float  # when the take before it was made
    begun: int = 0
    at: float = 0.0


class Budget:
    """What one provider may be sent, in one count. `name` is the provider's; its ledger rows begin with it.

    The order of calls: `wait` is 0, `take`, then `begun` and `leaves`, or `give_back`. Times are Unix seconds.
    """

    def __init__(self, name: str, allowance: Allowance) -> None:
        self.name = name
        self.allowance = allowance
        self._traffic = Traffic()
        self._windows: dict[float, Window] = {}
        self._allow(None)
        self._day = Day(allowance.daily)
        self._month = Month(allowance.monthly)
        self._learned: Learned | None = None
        self._quota: Quota | None = None
        self._held = 0
        self._last = -math.inf
        self._due = -math.inf  # when what was waited for last might be taken
        self._now = -math.inf
        self._ahead: float | None = None

    def amount(self, requests: int, messages: int, recipients: int) -> int:
        """What these are in the budget's count."""
        return {"requests": requests, "messages": messages, "recipients": recipients}[self.allowance.count]

    @property
    def most(self) -> int | None:
        """The largest amount that fits at all; None where nothing limits it."""
        limits = [window.rate.count for window in self._windows.values()]
        limits += [limit for limit in (self._day.limit, self._month.limit) if limit is not None]
        return min(limits, default=None)

    def wait(self, now: float, amount: int = 1) -> float:
        """Seconds until so much may be taken: 0 now, infinite for what never fits."""
        if (most := self.most) is not None and amount > most:
            return math.inf
        if amount <= 0:
            return 0.0
        now = self._tick(now)
        due = max((window.free(now, amount, self._held, self._last) for window in self._windows.values()), default=now)
        quotas = (self._day.free(now, amount, self._held), self._month.free(now, amount, self._held))
        due = max((due, *(free for free in quotas if free > now)))
        if self._learned and (pace := self._pace(now)):
            due = max(due, min(self._last + amount / pace, self._learned.over))
        self._due = due
        return due - now if due - now > NEAR else 0.0

    def room(self, now: float, most: int) -> int:
        """The largest amount up to `most` that may be taken now."""
        if self.wait(now, most) == 0.0:
            return max(most, 0)
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.wait(now, middle) == 0.0 else (low, middle)
        return low

    def take(self, now: float, amount: int) -> Take:
        """Take so much; `wait` was 0. It counts from now on, until it is given back."""
        now = self._tick(now)
        # Who comes a little late, because a timer did, does not make all others late.
        taken = Take(self, amount, min(now, max(self._due, now - _LATE)), self._last)
        self._held += amount
        self._last = taken.taken
        return taken

    def add(self, take: Take, now: float, amount: int) -> None:
        """Take so much more; `wait` was 0."""
        take.held += amount
        self._held += amount
        self._last = self._tick(now)

    def begun(self, take: Take, now: float, amount: int | None = None) -> Sequence[Spent]:
        """A request is about to leave with so much of what is held (all of it by default): counted from now. The rows are to be
        stored first; a request that leaves much later than this is told by `leaves`."""
        now = self._tick(now)
        amount = take.held if amount is None else min(amount, take.held)
        if amount <= 0:
            return ()
        take.held -= amount
        take.begun, take.at = amount, now
        self._held -= amount
        for window in self._memories():
            window.expire(now)
            window.add(now, amount)
        self._day.add(now, amount)
        month = self._month.begin(now)
        self._month.add(month, amount)
        rows = [Spent(f"{self.name} rate {window.rate.seconds:g}", window.row(now), amount) for window in self._windows.values()]
        if self._day.limit is not None or self.allowance.ask_daily:
            rows.append(Spent(f"{self.name} daily", math.ceil(now / MINUTE) * MINUTE, amount))
        if self._month.limit is not None:
            rows.append(Spent(f"{self.name} monthly", month, amount))
        return rows

    def leaves(self, take: Take, now: float, late: float | None = None) -> None:
        """What was begun last leaves only now, or left `late` seconds after that was said: so it is counted from then."""
        now = self._tick(now)
        at = now if late is None else min(take.at + late, now)
        if take.begun and at > take.at:
            for window in self._memories():
                window.move(take.at, at, take.begun)
            take.at = at

    def unsent(self, take: Take) -> None:
        """What was begun last did not leave: there was no connection. It is room in the rates again. (Its rows stay, and so does what
        it took of a day or month: too little may leave for that, never too much.)"""
        for window in self._memories():
            window.expire(self._now)
            window.drop(take.at, take.begun)
        take.begun = 0

    def give_back(self, take: Take, amount: int | None = None) -> None:
        """So much of what is held (all of it by default) will not leave."""
        amount = take.held if amount is None else min(amount, take.held)
        take.held -= amount
        self._held -= amount
        if not take.held and not take.begun and self._last == take.taken:
            self._last = take.before

    def throttled(self, now: float, retry_after: float | None, *, resumes: float = 0.0, refused: int = 1) -> None:
        """The provider wants less, and `refused` so much: from now on no more than it took when that was fastest. After
        `retry_after` seconds, and not before `resumes` (Unix seconds), the pace comes back. (That nothing goes until then is the
        matter of whoever pauses the provider.) Traffic too thin to tell teaches nothing."""
        now = self._tick(now)
        self._traffic.refuse(now, refused)
        known = self._pace(now)
        fell, bounds = now, self._learned.bounds(now) if self._learned and known else None
        if self._learned and now < self._learned.fell + _SAME:
            fell, bounds = self._learned.fell, self._learned.known
        if (seen := self._traffic.taken(fell, bounds)) is None:
            if self._learned is None or bounds is None:
                self._learned = None
                return
            seen = self._learned.seen
        resumes = min(max(now + (retry_after or 0.0), resumes), now + _LONGEST)
        self._learned = Learned(min(seen, self._fastest), bounds, fell, resumes)

    def asked(self, quota: Quota, now: float) -> None:
        """What the account says; in force where the allowance asks for it, until it says something else."""
        now = self._tick(now)
        self._agreed(quota)
        if self.allowance.ask_daily:
            self._day.expire(now)
            self._day.elsewhere, self._day.told = max(quota.used - self._day.used, 0), now

    def stepped(self, ahead: float) -> None:
        """How far the clock is ahead of one that nobody sets. Where that changes the clock was set, and no time passed with it."""
        if self._ahead is not None and abs(by := ahead - self._ahead) > _STEPPED:
            self._shift(by)
            self._now += by
        self._ahead = ahead

    def load(self, rows: Iterable[Spent], now: float) -> None:
        """Count what was stored before this process began; rows of other budgets are left alone."""
        now = self._tick(now)
        ours = [Spent(*row) for row in rows if row[0].startswith(f"{self.name} ")]
        monthly = f"{self.name} monthly"
        # Nothing left later than now: what says so was written by a clock that was ahead. The rest was perhaps not.
        late = {row: row.slot - self._latest(row.budget, now) for row in ours if row.budget != monthly}
        ahead = max(late.values(), default=0.0)
        ours = sorted((row._replace(slot=row.slot - ahead) if late.get(row, 0.0) > 0 else row for row in ours), key=lambda row: row.slot)
        windows = {f"{self.name} rate {window.rate.seconds:g}": window for window in self._windows.values()}
        finest = min((row.budget for row in ours if " rate " in row.budget), key=_seconds, default="")
        for row in ours:
            if row.budget == monthly:
                self._month.add(row.slot, row.amount)
                continue
            self._last = max(self._last, min(row.slot, now))
            if row.budget == f"{self.name} daily":
                self._day.add(row.slot, row.amount)
            elif row.budget in windows:
                windows[row.budget].add(row.slot, row.amount)
            if row.budget == finest:  # for the rate that the account will be asked for
                self._traffic.left.add(row.slot, row.amount)

    def stale(self, now: float) -> Mapping[str, float]:
        """By budget, the slot before which rows count no more."""
        found = {f"{self.name} rate {seconds:g}": now - 2 * window.span for seconds, window in self._windows.items()}
        return found | {f"{self.name} daily": now - DAY - MINUTE, f"{self.name} monthly": self._month.begin(now) - 1}

    def keep(self, other: Budget) -> None:
        """After a reload: what `other` knows to be spent stays spent. From now on `other` is this budget under a second name, so
        that what was taken of it comes back to this one."""
        assert other is not self
        other._day.limit, other._month.limit = self._day.limit, self._month.limit
        if not self.allowance.ask_daily:
            other._day.elsewhere = 0
        for mine in self._windows.values():
            mine.remember(other._memories())
        self._traffic, self._day, self._month = other._traffic, other._day, other._month
        self._learned, self._ahead = other._learned, other._ahead
        self._held, self._last, self._now = other._held, other._last, other._now
        if other._quota:
            self._agreed(other._quota)
        other.__dict__ = self.__dict__

    def exhausted(self, now: float, amount: int = 1) -> tuple[float, str] | None:
        """Whether a quota (daily, monthly) has no room for so much: until when, and one phrase. None where there is room, and for
        what would never fit."""
        if self._day.limit is None and self._month.limit is None:
            return None  # as for most
        if (most := self.most) is not None and amount > most:
            return None
        now = self._tick(now)
        return max((one for one in self._quotas(now, amount) if one[0] > now), default=None)

    def shown(self, now: float) -> Sequence[Usage]:
        """Every limit, and what of it is used."""
        now = self._tick(now)
        day, month, held, count = self._day, self._month, self._held, self.allowance.count
        found = []
        for _, window in sorted(self._windows.items()):
            until = window.free(now, 1, held, self._last)
            used, most = window.used + held, window.rate.count
            found.append(Usage(str(window.rate), used, most, until if used >= most else None, count))
        for what, limit, used, until in (
            ("daily", day.limit, day.total(now) + held, day.free(now, 1, 0)),
            ("monthly", month.limit, month.used(now) + held, month.free(now, 1, 0)),
        ):
            if limit is not None:
                found.append(Usage(what, used, limit, until if until > now else None, count))
        if pace := self._pace(now):
            self._traffic.left.expire(now)
            found.append(Usage("learned", self._traffic.left.used, max(round(pace * LEARNED), 1), None, count))
        return found

    def _allow(self, asked: float | None) -> None:
        """The windows of the configured rates and of the asked one, a second's; of two for the same time the smaller one counts."""
        rates = list(self.allowance.rates)
        if self.allowance.ask_rate and asked is not None and asked > 0:
            rates.append(Rate(int(asked), 1.0) if asked >= 1 else Rate(1, 1 / asked))
        windows: dict[float, Window] = {}
        for rate in sorted(rates, reverse=True):
            window = self._windows.get(rate.seconds)
            if window is None:
                window = Window(rate)
                window.remember(self._memories())
            window.rate = rate
            windows[rate.seconds] = window
        self._windows = windows

    def _agreed(self, quota: Quota) -> None:
        """The limits that the account states."""
        self._quota = quota
        if self.allowance.ask_rate:
            self._allow(quota.rate)
        if self.allowance.ask_daily:
            self._day.limit = _least(self.allowance.daily, quota.daily)

    def _memories(self) -> Sequence[Window]:
        return (self._traffic.left, *self._windows.values())

    def _tick(self, now: float) -> float:
        """The time by which everything is counted. It never goes back by itself: where the clock did, so does what was spent."""
        if now < self._now - _UNORDERED:
            self._shift(now - self._now)
            self._now = now
        self._now = max(now, self._now)
        return self._now

    def _shift(self, by: float) -> None:
        """All that was spent was so much later. Of months only the calendar counts."""
        self._traffic.shift(by)
        for window in self._windows.values():
            window.shift(by)
        self._day.shift(by)
        self._last += by
        self._due += by
        if self._learned:
            self._learned.shift(by)

    @property
    def _fastest(self) -> float:
        """The slowest of the rates, a second."""
        return min((window.rate.count / window.rate.seconds for window in self._windows.values()), default=math.inf)

    def _pace(self, now: float) -> float | None:
        """The learned pace in force; one that came back to the configured rate, or is old, is forgotten."""
        if self._learned is None:
            return None
        pace = self._learned.at(now)
        if now >= self._learned.over or pace >= self._fastest:
            self._learned = None
            return None
        return pace

    def _quotas(self, now: float, amount: int) -> Iterator[tuple[float, str]]:
        """When each quota has room for so much, and a phrase on it. What is in hands may be given back, and is left out."""
        day, month, count = self._day, self._month, self.allowance.count
        if day.limit is not None:
            yield day.free(now, amount, 0), f"{day.total(now):,} of {day.limit:,} {count} in 24 hours"
        if month.limit is not None:
            yield month.free(now, amount, 0), f"{month.used(now):,} of {month.limit:,} {count} this month"

    def _latest(self, budget: str, now: float) -> float:
        """The latest slot that a row made by `now` may have."""
        if budget.startswith(f"{self.name} rate "):
            window = Window(Rate(1, _seconds(budget)))
            return now + window.late + window.slot
        return now + MINUTE


def _least(*limits: int | None) -> int | None:
    """The smallest limit that is one: an account may say -1 for none."""
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)


def _seconds(budget: str) -> float:
    """The W of the rate that a row is of; 1 for what no one could have written."""
    try:
        return max(float(budget.rpartition(" ")[2]), 0.01)
    except ValueError:
        return 1.0


__all__ = ["LEARNED", "Allowance", "Budget", "Count", "Quota", "Rate", "Spent", "Take", "Usage"]
