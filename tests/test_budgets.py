"""What a provider may be sent: never too much in any window, nearly all of it under demand, and nobody waits long behind a burst."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import schedule
from relay.budgets import Allowance, Budget, Quota, Rate, Spent, Take, Usage
from relay.budgets.windows import Window

NOW = 1_795_197_421.0  # 2026-11-20 15:17:01 UTC
DAY = 86400.0
DECEMBER = 1_796_083_200.0


def most_in(left: Sequence[tuple[float, int]], seconds: float) -> int:
    """The most that left in any window of so many seconds, its end left out."""
    inside: deque[tuple[float, int]] = deque()
    most = total = 0
    for at, amount in sorted(left):
        inside.append((at, amount))
        total += amount
        while inside[0][0] <= at - seconds:
            total -= inside.popleft()[1]
        most = max(most, total)
    return most


@dataclass
class Host:
    """A host with a budget: `real` is the time that nobody sets, the clock is `ahead` of it. What left is noted in real time."""

    allowance: Allowance
    steady: bool = True
    real: float = NOW
    ahead: float = 0.0
    left: list[tuple[float, int]] = field(default_factory=list)
    rows: Counter[tuple[str, float]] = field(default_factory=Counter)
    takes: list[Take] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budget = Budget("a", self.allowance)

    @property
    def clock(self) -> float:
        """What the host's clock says, and the budget is told."""
        now = self.real + self.ahead
        if self.steady:
            self.budget.stepped(now - self.real)
        return now

    def take(self, amount: int) -> bool:
        """Take so much if there is room."""
        if self.budget.wait(self.clock, amount) > 0:
            return False
        self.takes.append(self.budget.take(self.clock, amount))
        return True

    def begin(self, late: float = 0.0) -> None:
        """All that was taken leaves, some time after its rows were made."""
        for take in self.takes:
            held = take.held
            for row in self.budget.begun(take, self.clock):
                self.rows[row.budget, row.slot] += row.amount
            self.real += late
            self.budget.leaves(take, self.clock)
            self.left.append((self.real, held))
        self.takes = []

    def demand(self, seconds: float, amounts: Callable[[], int] = lambda: 1, late: Callable[[], float] = lambda: 0.0) -> list[float]:
        """Endless demand for so long; returns how long each had to wait."""
        waits: list[float] = []
        end = self.real + seconds
        while self.real < end:
            amount, began = amounts(), self.real
            while wait := self.budget.wait(self.clock, amount):
                self.real += min(wait, end + 1 - began) + late()
                if self.real >= end:
                    return waits
            waits.append(self.real - began)
            self.take(amount)
            self.begin()
        return waits

    def do(self, what: str, share: float, number: int, seconds: float) -> None:
        """Something that happens, by its name."""
        match what:
            case "demand":
                chance = random.Random(number)
                self.demand(share * seconds * 4, lambda: chance.choice((1, 1, number)))
            case "take":
                self.take(number)
            case "begin":
                self.begin()
            case "late":
                self.begin(late=share * 0.2)
            case "give back":
                for take in self.takes:
                    self.budget.give_back(take)
                self.takes = []
            case "throttled":
                self.budget.throttled(self.clock, None)
            case _:
                self.disturb(what, share * 10 ** (number % 7))

    def disturb(self, what: str, by: float) -> None:
        """Something that should make no difference, by its name."""
        match what:
            case "restart":
                self.restart()
            case "reload":
                self.reload()
            case "back":
                self.ahead -= by
            case "forward" if self.steady:
                self.ahead += by

    def restart(self) -> None:
        """The process is killed; what is taken and not begun never leaves."""
        self.budget, self.takes = Budget("a", self.allowance), []
        now = self.clock
        self.budget.load([Spent(budget, slot, amount) for (budget, slot), amount in self.rows.items()], now)

    def reload(self) -> None:
        """The configuration is read again."""
        budget = Budget("a", self.allowance)
        budget.keep(self.budget)
        self.budget = budget


def limited(*rates: Rate, **more: int) -> Allowance:
    """An allowance of these rates."""
    return Allowance(rates=rates, **more)  # type: ignore[arg-type] # the keywords are daily and monthly


RATES = [Rate(14, 1), Rate(150, 10), Rate(1, 1), Rate(2, 1), Rate(3, 0.5), Rate(600, 60), Rate(1000, 3600), Rate(900, 1), Rate(1, 60)]
STEPS = st.tuples(
    st.sampled_from(
        ["demand", "demand", "take", "take", "begin", "late", "give back", "restart", "reload", "back", "forward", "throttled"]
    ),
    st.floats(0, 1),
    st.integers(1, 20),
)


@pytest.mark.parametrize("steady", [True, False])
@settings(max_examples=60, deadline=None)
@given(rates=st.lists(st.sampled_from(RATES), min_size=1, max_size=2, unique=True), steps=st.lists(STEPS, max_size=25))
def test_never_over_in_any_window(steady: bool, rates: list[Rate], steps: list[tuple[str, float, int]]) -> None:
    """Whatever comes: bursts, large amounts, what is taken and begun later, restarts, reloads, and steps of the clock."""
    host = Host(limited(*rates), steady=steady)
    longest = max(rate.seconds for rate in rates)
    for what, share, number in steps:
        host.do(what, share, number, min(rate.seconds for rate in rates))
        host.real += share * longest / 10
    host.begin()
    assert [] == [rate for rate in rates if most_in(host.left, rate.seconds) > rate.count]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["take", "wait", "restart", "back"]), st.floats(0, 1), st.integers(1, 400)), max_size=60))
def test_never_over_in_any_24_hours(steps: list[tuple[str, float, int]]) -> None:
    """A daily quota holds over restarts and a clock that goes back, and what is used up is a matter of less than a day."""
    host = Host(limited(daily=1000))
    for what, share, number in steps:
        match what:
            case "take":
                for _ in range(1000 // number + 1):
                    host.take(number)
                    host.begin()
                    host.real += share * 60
            case "wait":
                host.real += share * DAY
            case "restart":
                host.restart()
            case "back":
                host.ahead -= share * 7200
        assert host.budget.wait(host.clock, 1000) <= DAY + 180
    assert most_in(host.left, DAY) <= 1000


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 400), seconds=st.sampled_from([0.5, 1.0, 7.0, 10.0, 60.0, 3600.0]), seed=st.integers(0, 9))
def test_nearly_all_is_used_under_demand(count: int, seconds: float, seed: int) -> None:
    """95 of 100 in each window from the first on, which begins with a burst of half; timers that are a little late do not sum up."""
    chance = random.Random(seed)
    host = Host(limited(Rate(count, seconds)))
    span = seconds * 1.03
    host.demand(3 * span, late=lambda: chance.random() * min(0.002, seconds / 500))
    for number in range(3):
        inside = sum(1 for at, _ in host.left if number * span <= at - NOW < (number + 1) * span)
        assert inside >= math.floor(0.95 * count)


def test_small_amounts_use_it_too() -> None:
    """Where what is taken at once is small beside the limit, its size makes no difference."""
    chance = random.Random(1)
    host = Host(limited(Rate(150, 10)))
    host.demand(100, lambda: chance.randint(1, 5))
    assert sum(amount for at, amount in host.left if at >= NOW + 10) >= 0.93 * 9 * 150


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    history=st.lists(st.tuples(st.floats(0, 1.2), st.integers(1, 200)), max_size=8),
    restarts=st.booleans(),
)
def test_nobody_waits_long_behind_a_burst(rate: Rate, history: list[tuple[float, int]], restarts: bool) -> None:
    """Whatever left before, under endless demand the next may go after at most about 2 W / L."""
    host = Host(limited(rate))
    for pause, burst in history:
        host.real += pause * rate.seconds
        for _ in range(burst):
            if not host.take(1):
                break
            host.begin()
    waits = host.demand(1.5 * rate.seconds)
    assert max(waits, default=0.0) <= 2.06 * rate.seconds / rate.count + rate.seconds / 100


def test_the_shape_of_a_burst() -> None:
    """Half at once, the other half over the rest of the window; then evenly."""
    host = Host(limited(Rate(10, 10)))
    host.demand(31)
    times = [round(at - NOW, 2) for at, _ in host.left]
    assert [0.0] * 5 == times[:5]
    gaps = [round(after - before, 2) for before, after in itertools.pairwise(times[4:])]
    assert pytest.approx([2 * 10.1 / 12] * 5, abs=0.01) == gaps[:5]
    assert {1.01} == set(gaps[-8:])


def test_a_large_amount_has_to_fit_once() -> None:
    """What never fits is never waited for; what just fits, until all else has left."""
    budget = Budget("a", limited(Rate(10, 10)))
    assert (10, math.inf, 0.0, 0.0) == (budget.most, budget.wait(NOW, 11), budget.wait(NOW, 10), budget.wait(NOW, 0))
    budget.begun(budget.take(NOW, 10), NOW)
    assert pytest.approx(10.1) == budget.wait(NOW, 10)
    assert (None, 0.0) == (Budget("a", Allowance()).most, Budget("a", Allowance()).wait(NOW, 10**9))


def test_a_large_amount_leaves_room_for_others() -> None:
    """Nothing is taken that would leave the next ones more than 2 W / L apart."""
    budget = Budget("a", limited(Rate(100, 10)))
    budget.begun(budget.take(NOW, 1), NOW)
    assert [0.0, 2.02, 6.06] == [round(budget.wait(NOW, amount), 6) for amount in (49, 60, 80)]


def test_what_is_held_counts_until_it_is_begun() -> None:
    """Who takes and lingers closes the budget for others; what is given back was never taken."""
    budget = Budget("a", limited(Rate(4, 1)))
    takes = [budget.take(NOW, 2), budget.take(NOW, 2)]
    assert budget.wait(NOW + 100) > 0
    budget.give_back(takes[0])
    assert 0.0 == budget.wait(NOW + 100, 2)
    budget.give_back(takes[0])
    budget.begun(takes[1], NOW + 100)
    assert [Usage("4/s", 2, 4, None, "messages")] == budget.shown(NOW + 100)
    assert () == budget.begun(takes[0], NOW + 100)


def test_a_part_leaves_and_the_rest_is_given_back() -> None:
    """A take may leave in parts, each at its own time."""
    budget = Budget("a", limited(Rate(10, 1)))
    take = budget.take(NOW, 4)
    budget.add(take, NOW, 1)
    assert [3, 1] == [sum(row.amount for row in budget.begun(take, NOW + 0.1 * part, amount)) for part, amount in ((1, 3), (2, 1))]
    budget.give_back(take)
    assert 4 == budget.shown(NOW + 0.2)[0].used
    budget.leaves(take, NOW + 0.5)
    assert [4, 1, 0] == [budget.shown(NOW + at)[0].used for at in (1.0, 1.2, 1.6)]


def test_what_leaves_late_counts_from_then() -> None:
    """A connection that took its time to open: never before what was said, nor after now."""
    for late, expected in ((0.3, 1.33), (0.0, 1.03), (9.0, 1.63)):
        budget = Budget("a", limited(Rate(1, 1)))
        take = budget.take(NOW, 1)
        budget.begun(take, NOW)
        budget.leaves(take, NOW + 0.6, late)
        assert pytest.approx(expected) == budget.wait(NOW + 0.6) + 0.6


@pytest.mark.parametrize("rate", RATES)
def test_what_reached_nobody_is_room_again(rate: Rate) -> None:
    """Tries without a connection use nothing of a rate, and those beside them stay counted."""
    host = Host(limited(rate))
    host.take(1)
    host.begin()
    before = host.budget.shown(host.clock)[0].used
    for _ in range(50 if rate.count > 1 else 0):
        assert 0.0 == host.budget.wait(host.clock, 1) or rate.count == 2
        take = host.budget.take(host.clock, 1)
        host.budget.begun(take, host.clock)
        host.budget.unsent(take)
        host.budget.unsent(take)
        host.budget.give_back(take)
    assert before == host.budget.shown(host.clock)[0].used
    host.demand(4 * rate.seconds)
    assert most_in(host.left, rate.seconds) <= rate.count


def test_room() -> None:
    """How much may be taken at once: up to half, and what is wanted at most."""
    budget = Budget("a", limited(Rate(100, 10)))
    budget.take(NOW, 1)
    assert (49, 7, 0, 0) == (budget.room(NOW, 90), budget.room(NOW, 7), budget.room(NOW, 0), budget.room(NOW, -1))
    assert 1000 == Budget("a", Allowance()).room(NOW, 1000)


def test_amounts_are_in_the_budgets_count() -> None:
    """Requests, messages or recipients."""
    found = [Budget("a", Allowance(count=count)).amount(1, 2, 3) for count in ("requests", "messages", "recipients")]
    assert [1, 2, 3] == found


def test_rates_are_shown_as_they_are_written() -> None:
    """A unit where there is one."""
    assert ["14/s", "150/10s", "600/m", "1000/h", "3/0.5s"] == [
        str(Rate(*rate)) for rate in ((14, 1.0), (150, 10.0), (600, 60.0), (1000, 3600.0), (3, 0.5))
    ]


# The ledger.


def test_rows_are_few() -> None:
    """A hundred slots in a window at most, a row in 10 ms at the finest, one a minute for a day, one for a month."""
    host = Host(limited(Rate(300, 1), Rate(3000, 60), daily=10**6, monthly=10**7))
    host.demand(6)
    slots = Counter(budget for budget, _ in host.rows)
    assert {"a rate 1", "a rate 60", "a daily", "a monthly"} == set(slots)
    assert (1, 1) == (slots["a monthly"], slots["a daily"])
    assert slots["a rate 60"] <= 12
    assert slots["a rate 1"] <= 601
    assert {len(host.left)} == {sum(amount for (name, _), amount in host.rows.items() if name == budget) for budget in slots}


def test_a_row_counts_at_the_end_of_its_slot() -> None:
    """And not before the request has left."""
    for seconds in (0.5, 1.0, 10.0, 3600.0):
        budget = Budget("a", limited(Rate(10**4, seconds)))
        late = [row.slot - at for at in (NOW + 0.0137 * number for number in range(500)) for row in budget.begun(budget.take(at, 1), at)]
        assert min(late) >= min(0.03, 0.03 * seconds) - 1e-5
        assert max(late) <= 0.02 * seconds + 0.04


def test_rows_that_count_no_more() -> None:
    """What may be forgotten, by budget; what was not forgotten does no harm."""
    host = Host(limited(Rate(14, 1), daily=100, monthly=1000))
    host.demand(10)
    stale = host.budget.stale(host.clock)
    kept = {row: amount for row, amount in host.rows.items() if row[1] >= stale[row[0]]}
    assert len(kept) < len(host.rows)
    before = [usage.used for usage in host.budget.shown(host.clock)]
    host.rows = Counter(kept)
    host.restart()
    after = [usage.used for usage in host.budget.shown(host.clock)]
    assert before[1:] == after[1:]
    assert before[0] <= after[0] <= 14


def test_another_providers_rows_are_left_alone() -> None:
    """Rows are told apart by the provider's whole name, and a row of no known limit is none."""
    budget = Budget("a", limited(Rate(14, 1), daily=100))
    rows = [("ab rate 1", NOW, 5), ("b daily", NOW, 5), ("a rate 7", NOW, 5), ("a rate x", NOW, 5), ("a daily", NOW, 5)]
    budget.load([Spent(*row) for row in rows], NOW)
    assert [0, 5] == [usage.used for usage in budget.shown(NOW)]


def test_rows_of_a_clock_that_was_ahead() -> None:
    """What left hours later than now left just now, and the rest as long before it as it did."""
    host = Host(limited(Rate(100, 3600), daily=1000))
    host.demand(1800)
    host.ahead = -5 * 3600
    host.restart()
    first, second = host.budget.shown(host.clock)
    assert (len(host.left), len(host.left)) == (first.used, second.used)
    host.real += 3800
    assert 0 == host.budget.shown(host.clock)[0].used


def test_memory_is_bounded() -> None:
    """A window of any size is some two hundred slots, a day a slot a minute."""
    window = Window(Rate(10**6, 10))
    for number in range(10_000):
        window.add(NOW + number / 1000, 1)
    assert sum(1 for _ in window) <= 201


# The clock.


def test_a_clock_that_goes_back_changes_nothing() -> None:
    """What was spent keeps its age: the budget is as open as it was, and no longer closed than it was."""
    for steady in (True, False):
        host = Host(limited(Rate(10, 10), daily=20), steady=steady)
        host.demand(10)
        before = [host.budget.wait(host.clock, amount) for amount in (1, 10)]
        for _ in range(3):
            host.ahead -= 7200
            assert pytest.approx(before, abs=1e-3) == [host.budget.wait(host.clock, amount) for amount in (1, 10)]


def test_a_clock_that_goes_forward_is_no_time_that_passed() -> None:
    """Where there is a clock that nobody sets beside it; there and back again too."""
    host = Host(limited(Rate(10, 10), daily=20))
    host.demand(10)
    before = host.budget.wait(host.clock, 10)
    for by in (3600, 86400 * 365, -86400 * 365, -3600):
        host.ahead += by
        assert pytest.approx(before, abs=1e-3) == host.budget.wait(host.clock, 10)


def test_readings_in_another_order() -> None:
    """A reading of a moment ago does not make what was spent older."""
    budget = Budget("a", limited(Rate(1, 1)))
    budget.begun(budget.take(NOW, 1), NOW)
    for _ in range(10):
        budget.wait(NOW + 0.5)
        budget.wait(NOW)
    assert pytest.approx(0.53) == budget.wait(NOW + 0.5)


# Quotas.


def test_a_quota_that_is_used_up() -> None:
    """Until when, and one phrase; a large amount may find no room where a small one does."""
    budget = Budget("a", limited(daily=100, monthly=1000))
    budget.begun(budget.take(NOW, 99), NOW)
    assert (None, None) == (budget.exhausted(NOW), budget.exhausted(NOW, 101))
    until = math.ceil(NOW / 60) * 60 + DAY
    assert (until, "99 of 100 messages in 24 hours") == budget.exhausted(NOW, 2)
    take = budget.take(NOW, 1)
    assert None is budget.exhausted(NOW)  # it may be given back
    assert pytest.approx(1.0) == budget.wait(NOW)
    budget.begun(take, NOW)
    assert (until, "100 of 100 messages in 24 hours") == budget.exhausted(NOW)
    assert pytest.approx(until - NOW) == budget.wait(NOW)
    assert [Usage("daily", 100, 100, until, "messages"), Usage("monthly", 100, 1000, None, "messages")] == budget.shown(NOW)


def test_a_month_is_the_calendars() -> None:
    """In UTC, whatever its length; what left in the last one does not count."""
    host = Host(limited(monthly=10))
    assert host.take(10)
    host.begin()
    assert {("a monthly", 1_793_491_200.0): 10} == host.rows
    assert (DECEMBER, "10 of 10 messages this month") == host.budget.exhausted(host.clock)
    assert pytest.approx(DECEMBER - NOW) == host.budget.wait(host.clock)
    host.restart()
    assert not host.take(1)
    host.real = DECEMBER
    assert host.take(10)
    host.begin()
    host.real -= 1
    assert not host.take(1)


def test_what_an_account_says() -> None:
    """Its rate and its day, less what it has counted already; a limit of the configuration holds beside; -1 is none."""
    budget = Budget("a", Allowance(count="recipients", ask_rate=True, ask_daily=True))
    assert (None, ()) == (budget.most, tuple(budget.shown(NOW)))
    budget.begun(budget.take(NOW, 5), NOW)
    budget.asked(Quota(14.0, 200, 150), NOW)
    assert [Usage("14/s", 5, 14, None, "recipients"), Usage("daily", 150, 200, None, "recipients")] == budget.shown(NOW)
    budget.asked(Quota(2.5, 200, 200), NOW + 1)
    assert (NOW + 1 + DAY, "200 of 200 recipients in 24 hours") == (budget.exhausted(NOW + 1) or ())
    assert 2 == budget.most
    budget.asked(Quota(0.5, None, 10**6), NOW + 2)
    assert ["1/2s"] == [usage.what for usage in budget.shown(NOW + 2)]
    both = Budget("a", Allowance(rates=(Rate(10, 1), Rate(100, 60)), daily=100, ask_rate=True, ask_daily=True))
    both.asked(Quota(14.0, 50_000, 0), NOW)
    assert ["10/s", "100/m", "daily"] == [usage.what for usage in both.shown(NOW)]
    both.asked(Quota(5.0, 50, 0), NOW)
    assert [5, 100, 50] == [usage.limit for usage in both.shown(NOW)]
    fixed = Budget("a", limited(Rate(10, 1)))
    fixed.asked(Quota(1.0, 1, 1), NOW)
    assert [Usage("10/s", 0, 10, None, "messages")] == fixed.shown(NOW)


def test_an_asked_rate_holds_over_a_restart() -> None:
    """What left before counts for a rate that is asked for afterwards; what the account counted elsewhere is forgotten in a day."""
    host = Host(Allowance(ask_rate=True, ask_daily=True))
    host.budget.asked(Quota(14.0, 1000, 500), host.clock)
    host.demand(0.5)
    before = host.budget.shown(host.clock)[0].used
    host.restart()
    host.budget.asked(Quota(14.0, 1000, 500), host.clock)
    assert (before, 500) == tuple(usage.used for usage in host.budget.shown(host.clock))
    host.demand(1.0)
    assert most_in(host.left, 1.0) <= 14
    host.real += DAY + 60
    assert 0 == host.budget.shown(host.clock)[1].used


# Throttling.


def paced(budget: Budget, now: float) -> float:
    """The learned pace as shown, a second."""
    return next((usage.limit / 10 for usage in budget.shown(now) if usage.what == "learned"), math.inf)


def busy(host: Host, pace: float, seconds: float) -> None:
    """So much a second leaves for so long."""
    for _ in range(round(pace * seconds)):
        host.take(1)
        host.begin()
        host.real += 1 / pace


def test_a_throttling_teaches_a_pace() -> None:
    """A little below what was taken, whatever was refused beside it; back to that in 20 s, then twice as much every 3 s."""
    host = Host(Allowance())
    busy(host, 20, 10)
    for _ in range(10):
        host.take(1)
        host.begin()
    for _ in range(11):
        host.budget.throttled(host.clock, None)
    assert pytest.approx(18.0, abs=0.2) == paced(host.budget, host.clock)
    host.demand(9.9)
    assert 18 <= sum(1 for at, _ in host.left if at > host.real - 9.9) / 9.9 <= 19
    shown = [paced(host.budget, host.clock + at) for at in (0.1, 10.1, 13.1, 16.1, 20.1)]
    assert pytest.approx([19.0, 20.0, 40.0, 80.0, math.inf], rel=0.02) == shown


@pytest.mark.parametrize("seconds", [1, 2, 5, 10])
def test_a_pace_is_that_of_the_fastest_time_before(seconds: int) -> None:
    """What left in an idle time before says nothing."""
    host = Host(Allowance())
    busy(host, 0.5, 20)
    busy(host, 20, seconds)
    host.budget.throttled(host.clock, None)
    assert pytest.approx(18.0, abs=1.0) == paced(host.budget, host.clock)


def test_what_tells_nothing_teaches_nothing() -> None:
    """Traffic too thin to be too fast, or of which nothing was taken: the burst that comes next is as fast as ever."""
    thin, none = Host(Allowance()), Host(Allowance())
    for _ in range(6):
        busy(thin, 1.0, 3)
        thin.budget.throttled(thin.clock, 1.0)
        assert math.inf == paced(thin.budget, thin.clock)
    for _ in range(10):
        none.take(1)
        none.begin()
    for _ in range(10):
        none.budget.throttled(none.clock, 1.0)
    for host in (thin, none):
        assert math.inf == paced(host.budget, host.clock)
        assert all(host.take(1) for _ in range(150))


def test_a_lower_limit_is_found() -> None:
    """Refused again before the pace was back, the provider takes less than that; never less than one a second is believed."""
    host = Host(Allowance())
    busy(host, 20, 10)
    host.budget.throttled(host.clock, None)
    for _ in range(10):
        host.real += 3
        host.demand(3)
        before = paced(host.budget, host.clock)
        host.budget.throttled(host.clock, None, refused=30)
        assert 0.9 <= paced(host.budget, host.clock) <= max(before, 0.9)
    assert 0.9 == paced(host.budget, host.clock)


def test_a_limit_that_was_passed_is_not_lowered() -> None:
    """Refused when the pace had come back to what was seen: the provider takes that much, whatever it refuses now."""
    host = Host(Allowance())
    busy(host, 20, 10)
    host.budget.throttled(host.clock, None)
    first = paced(host.budget, host.clock)
    host.demand(21.0)
    host.budget.throttled(host.clock, None, refused=100)
    assert first <= paced(host.budget, host.clock) <= 1.1 * first


def test_probes_that_are_refused_are_no_traffic() -> None:
    """However long the provider refuses everything, one by one: the pace is what was learned before."""
    host = Host(Allowance())
    busy(host, 20, 10)
    host.budget.throttled(host.clock, None)
    for _ in range(20):
        host.real += 10
        host.budget.throttled(host.clock, None, resumes=host.clock + 10)
        host.take(1)
        host.begin()
    assert pytest.approx(18.0, abs=0.2) == paced(host.budget, host.clock + 10)


def test_a_learned_pace_rests_while_it_was_told_to() -> None:
    """Retry-After, and a longer pause, put off the way back, by at most an hour; 30 s later it is forgotten."""
    host = Host(Allowance())
    busy(host, 20, 10)
    for retry_after, resumes, rests in ((10**9, 0.0, 3600), (5.0, host.clock + 60, 60), (None, host.clock + 10**9, 3600)):
        host.budget.throttled(host.clock, retry_after, resumes=resumes)
        assert pytest.approx([18.0, 18.0], abs=0.2) == [paced(host.budget, host.clock), paced(host.budget, host.clock + rests)]
    assert math.inf == paced(host.budget, host.clock + 3631)


def test_a_pace_that_came_back_to_the_rate_is_forgotten() -> None:
    """What is configured is no news; a burst was not the rate."""
    host = Host(limited(Rate(100, 10)))
    assert all(host.take(1) for _ in range(50))
    host.begin()
    host.budget.throttled(host.clock, None)
    assert 9.0 == paced(host.budget, host.clock)
    assert math.inf == paced(host.budget, host.clock + 20)


def test_nobody_waits_longer_than_a_pace_is_known() -> None:
    """Even what counts very much."""
    host = Host(Allowance())
    busy(host, 6, 10)
    host.budget.throttled(host.clock, 5.0)
    assert 34.9 <= host.budget.wait(host.clock, 1000) <= 35.0


@dataclass
class Provider:
    """One that takes `count` in `seconds` and refuses the rest, with Retry-After where `tells`."""

    count: int
    seconds: float
    tells: bool
    taken: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> float | None:
        """None when it takes a message, else the Retry-After; 0 is none."""
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        if len(self.taken) < self.count:
            self.taken.append(now)
            return None
        return math.ceil(self.taken[0] + self.seconds - now) if self.tells else 0.0


@dataclass
class Sawtooth:
    """Ten at a time, paused and probed as a throttled provider is. `demand` is a second; None is without end."""

    provider: Provider
    latency: float
    chance: random.Random
    demand: float | None = None
    budget: Budget = field(default_factory=lambda: Budget("a", Allowance()))
    now: float = NOW
    backlog: float = 0.0
    counted: float = NOW  # until when the demand is in the backlog
    took: list[float] = field(default_factory=list)
    refused: int = 0
    until: float = -math.inf  # of the pause; -inf is none
    failures: int = 0
    probing: bool = False
    flying: list[tuple[float, float, bool]] = field(default_factory=list)  # when it is answered, when it arrives, whether a probe

    def run(self, seconds: float) -> None:
        """For so long."""
        end = self.now + seconds
        while self.now < end:
            self.backlog += (self.now - self.counted) * (self.demand or 0.0)
            self.counted = self.now
            times = [end, *(flight[0] for flight in self.flying[:1])]
            if self.demand is not None and self.backlog < 1:
                times.append(self.now + (1 - self.backlog) / self.demand + 1e-6 if self.demand else end)
            elif len(self.flying) < 10 and not self.probing:
                if (due := max(self.until, self.now + self.budget.wait(self.now))) <= self.now:
                    self._send()
                    continue
                times.append(due)
            self.now = min(times)
            if self.flying and self.flying[0][0] <= self.now:
                self._hear(*self.flying.pop(0)[1:])

    def _send(self) -> None:
        self.budget.begun(self.budget.take(self.now, 1), self.now)
        self.probing = self.until > -math.inf
        latency = self.latency * self.chance.uniform(0.7, 1.3)
        self.flying = sorted([*self.flying, (self.now + latency, self.now + latency / 2, self.probing)])
        self.backlog -= 1

    def _hear(self, arrived: float, probe: bool) -> None:
        retry_after = self.provider.ask(arrived)
        if retry_after is None:
            self.took.append(arrived)
            if probe:
                self.until, self.failures, self.probing = -math.inf, 0, False
            return
        self.refused += 1
        self.backlog += 1
        if probe or self.until == -math.inf:
            self.failures, self.probing = self.failures + 1, False
            self.until = self.now + schedule.pause(schedule.THROTTLE_STEPS, self.failures, self.chance.random(), retry_after or None)
        self.budget.throttled(self.now, retry_after or None, resumes=self.until)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(1, 1), (2, 1), (3, 1), (14, 1), (80, 1), (20, 2), (30, 10), (150, 10)]),
    st.booleans(),
    st.sampled_from([0.02, 0.1, 0.2]),
    st.integers(0, 10**6),
)
def test_a_real_limit_is_used_and_seldom_hit(limit: tuple[int, float], tells: bool, latency: float, seed: int) -> None:
    """Four fifths of what the provider takes at least, under demand without end; few are refused."""
    count, seconds = limit
    saw = Sawtooth(Provider(count, seconds, tells), latency, random.Random(seed))
    saw.run(60)
    saw.took, saw.refused = [], 0
    saw.run(300)
    most = min(count / seconds, 10 / (1.3 * latency)) * 300
    assert len(saw.took) >= 0.8 * most
    assert saw.refused <= 25 + 0.05 * len(saw.took)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 2.5), st.floats(0.3, 1.0), st.integers(1, 300), st.integers(0, 10**6))
def test_a_burst_after_a_lone_throttling_does_not_crawl(demand: float, share: float, burst: int, seed: int) -> None:
    """The provider was busy with others: it refuses one, then takes a hundred a second."""
    saw = Sawtooth(Provider(0, 1, tells=False), 0.1, random.Random(seed), demand)
    saw.provider.count = 100
    saw.run(30 * share)
    saw.provider.count = 0
    for _ in range(300):
        saw.run(0.0 if saw.refused else 0.1)
    assert 1 == saw.refused
    saw.provider.count, saw.backlog, saw.demand, saw.took = 100, burst, 0.0, []
    saw.run(burst / 60 + 6)
    assert len(saw.took) >= burst


# Reloads.


def test_what_was_spent_stays_spent_when_the_limits_change() -> None:
    """For a window of another length too, as far as there is memory of it; what was taken comes back to the new budget."""
    old = Budget("a", limited(Rate(100, 10), daily=1000))
    takes = [old.take(NOW, 5), old.take(NOW, 4)]
    old.begun(takes[0], NOW)
    old.throttled(NOW + 0.5, None)
    new = Budget("a", limited(Rate(50, 1), Rate(100, 10), Rate(500, 60), daily=500, monthly=600))
    new.keep(old)
    assert [9, 9, 9, 9, 9, 5] == [usage.used for usage in new.shown(NOW + 0.5)]
    assert [50, 100, 500, 500, 600] == [usage.limit for usage in new.shown(NOW + 0.5)][:5]
    old.give_back(takes[1])
    assert new.shown(NOW + 5) == old.shown(NOW + 5)
    assert 5 == new.shown(NOW + 5)[1].used


def test_what_an_account_said_stays_in_force() -> None:
    """A reload need not wait for it to be asked again."""
    old = Budget("a", Allowance(ask_rate=True, ask_daily=True))
    old.asked(Quota(14.0, 1000, 300), NOW)
    new, other = Budget("a", Allowance(monthly=5, ask_rate=True, ask_daily=True)), Budget("a", limited(daily=7))
    new.keep(old)
    assert [("14/s", 0), ("daily", 300), ("monthly", 0)] == [(usage.what, usage.used) for usage in new.shown(NOW)]
    other.keep(new)
    assert [("daily", 0, 7)] == [(usage.what, usage.used, usage.limit) for usage in other.shown(NOW)]


def test_many_flows_at_once_stay_below() -> None:
    """Ten at a time that each take a while before they leave."""
    chance = random.Random(7)
    host = Host(limited(Rate(14, 1)))
    waiting: list[Take] = []

    def leave(some: Iterable[Take]) -> None:
        for take in some:
            host.budget.begun(take, host.clock)
            host.left.append((host.real, take.begun))

    for _ in range(2000):
        host.real += chance.random() * 0.02
        if len(waiting) < 10 and not host.budget.wait(host.clock):
            waiting.append(host.budget.take(host.clock, 1))
        going = [take for take in waiting if chance.random() < 0.1]
        waiting = [take for take in waiting if take not in going]
        leave(going)
    assert most_in(host.left, 1.0) <= 14
    assert len(host.left) > 0.5 * 14 * (host.real - NOW)
