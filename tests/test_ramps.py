"""Ramps: shares between two dates, and the step back when the newcomer does badly."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import ramps
from relay.ramps import Ramp, State, StepBack, SteppedBack, Watch
from relay.routing import Split, pick

Kind = Literal["relayed", "deferred", "failed"]
DAY = 86400.0
BEGIN = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
SHARES = (("ses", 100.0, 0.0), ("mailtrap", 0.0, 100.0))
RAMP = Ramp(BEGIN, 14 * DAY, SHARES)


def noted(watch: Watch, now: float, count: int, *, failed: int = 0, deferred: int = 0, provider: str = "mailtrap") -> list[SteppedBack]:
    """What follows from so many answers, of which the last ones are bad."""
    kinds: list[tuple[Kind, int]] = [("relayed", count - failed - deferred), ("deferred", deferred), ("failed", failed)]
    return [back for kind, many in kinds for _ in range(many) if (back := watch.note(provider, kind, now))]


@pytest.mark.parametrize(
    ("day", "expected"),
    [(-3, (100.0, 0.0)), (0, (100.0, 0.0)), (3.5, (75.0, 25.0)), (7, (50.0, 50.0)), (14, (0.0, 100.0)), (99, (0.0, 100.0))],
)
def test_shares_go_straight_from_the_first_to_the_last(day: float, expected: tuple[float, float]) -> None:
    """Before its begin a ramp stands at the first weights, after its end at the last ones, exactly."""
    assert tuple(zip(("ses", "mailtrap"), expected, strict=True)) == ramps.at(RAMP, State(), BEGIN + day * DAY)


def test_who_is_a_newcomer() -> None:
    """A provider whose share of the mail rises, whatever its weight does."""
    assert ("mailtrap",) == RAMP.newcomers
    assert ("b",) == Ramp(BEGIN, DAY, (("a", 90, 10), ("b", 10, 10), ("c", 0, 0))).newcomers
    assert () == Ramp(BEGIN, DAY, (("a", 1, 10), ("b", 1, 10))).newcomers


@pytest.mark.parametrize(
    ("start", "over", "shares"),
    [
        (math.nan, 1.0, SHARES),
        (0.0, 0.0, SHARES),
        (0.0, -1.0, SHARES),
        (0.0, math.inf, SHARES),
        (0.0, 1.0, (("a", -1.0, 1.0), ("b", 5.0, 5.0))),
        (0.0, 1.0, (("a", math.nan, 1.0),)),
        (0.0, 1.0, (("a", 0.0, 1.0), ("b", 0.0, 1.0))),
        (0.0, 1.0, (("a", 1.0, 0.0),)),
        (0.0, 1.0, ()),
    ],
)
def test_a_ramp_that_cannot_be_followed_is_none(start: float, over: float, shares: tuple[tuple[str, float, float], ...]) -> None:
    """It takes some time, and there is always somebody to send by."""
    with pytest.raises(ValueError, match=r"ramp|weight"):
        Ramp(start, over, shares)


NUMBERS = st.floats(0, 1e12)


@given(st.builds(State, NUMBERS, NUMBERS, st.none() | NUMBERS))
def test_a_state_is_its_text(state: State) -> None:
    """What the spool keeps says the same again."""
    assert state == ramps.of(state.text())


@given(st.text() | st.lists(st.floats().map(repr) | st.sampled_from(["nan", "1e999", "-1", "0x1", "1_0", "٣"]), max_size=4).map(" ".join))
def test_any_text_is_a_state(text: str) -> None:
    """Junk is a ramp that never stepped back; what is read can always be followed."""
    state = ramps.of(text)
    assert 0 <= state.behind < math.inf
    assert state == ramps.of(state.text())
    assert 100 == pytest.approx(sum(weight for _, weight in ramps.at(RAMP, state, BEGIN + DAY)))


@pytest.mark.parametrize("text", ["", "x", "1", "1 2 3 4", "-1 2", "nan 0", "0 inf", "1,2"])
def test_junk_is_the_state_of_a_ramp_that_never_stepped_back(text: str) -> None:
    """Never an error: a ramp goes on by its dates."""
    assert State() == ramps.of(text)


@pytest.mark.parametrize(
    ("part", "expected"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.8, "80 %"), (1 / 3, "33.3 %"), (0.0001, "under 0.1 %"), (0.9999, "over 99.9 %"), (0.999, "99.9 %")],
)
def test_shares_in_words(part: float, expected: str) -> None:
    """Nothing and all are said of nothing and all alone."""
    assert expected == ramps.percent(part)


def test_too_many_refusals_step_back() -> None:
    """The ramp goes back by two days of progress, stays there for two days, then goes on as steeply as before."""
    watch, now = Watch(RAMP), BEGIN + 7 * DAY
    [back] = noted(watch, now, 50, failed=3)
    assert "mailtrap refused 6 % of its last 50 messages, more than 5 %" == back.why
    assert ("ses 50 %, mailtrap 50 %", "ses 64.3 %, mailtrap 35.7 %") == (back.before, back.after)
    assert back.state == watch.state == ramps.of(back.state.text())
    days = [ramps.progress(RAMP, back.state, now + day * DAY) / DAY for day in (0, 1, 2, 3, 9, 11, 12)]
    assert [5, 5, 5, 6, 12, 14, 14] == pytest.approx(days)


def test_too_many_deferrals_step_back() -> None:
    """They have a limit of their own."""
    assert [] == noted(Watch(RAMP), BEGIN + DAY, 50, deferred=10)
    [back] = noted(Watch(RAMP), BEGIN + 7 * DAY, 50, deferred=11)
    assert "mailtrap deferred 22 % of its last 50 messages, more than 20 %" == back.why


@pytest.mark.parametrize(
    ("count", "failed", "provider", "day"),
    [
        (49, 49, "mailtrap", 7),  # too few to judge by
        (100, 5, "mailtrap", 7),  # the limit itself
        (100, 100, "ses", 7),  # whose share falls
        (100, 100, "other", 7),
        (100, 100, "mailtrap", -1),  # has not begun
        (100, 100, "mailtrap", 16.1),  # over for longer than a step
    ],
)
def test_what_steps_nothing_back(count: int, failed: int, provider: str, day: float) -> None:
    """Only a newcomer that passes the limit, while the ramp is under way."""
    watch = Watch(RAMP)
    assert [] == noted(watch, BEGIN + day * DAY, count, failed=failed, provider=provider)
    assert State() == watch.state


def test_a_ramp_without_step_back_goes_by_its_dates() -> None:
    """`step_back: off`."""
    assert [] == noted(Watch(Ramp(BEGIN, 14 * DAY, SHARES, None)), BEGIN + 7 * DAY, 500, failed=500)


def test_it_never_goes_back_before_its_begin() -> None:
    """On the first day it goes back to the begin, and is kept there for as long as the newcomer does badly."""
    watch = Watch(Ramp(BEGIN, 14 * DAY, (("ses", 95, 0), ("mailtrap", 5, 100))))
    first = noted(watch, BEGIN + DAY, 50, failed=50)
    again = noted(watch, BEGIN + 2 * DAY, 50, failed=50)
    assert [1, 1] == [len(first), len(again)]
    assert ("ses 95 %, mailtrap 5 %", "ses 95 %, mailtrap 5 %") == (again[0].before, again[0].after)
    assert [0, 0, 1] == [ramps.progress(watch.ramp, watch.state, BEGIN + day * DAY) / DAY for day in (2, 4, 5)]


def test_after_its_end_it_still_steps_back_for_a_while() -> None:
    """The last share is the one that was tried for the shortest time."""
    watch = Watch(RAMP)
    [back] = noted(watch, BEGIN + 15 * DAY, 50, failed=50)
    assert ("ses 0 %, mailtrap 100 %", "ses 14.3 %, mailtrap 85.7 %") == (back.before, back.after)


def test_other_dates_begin_anew() -> None:
    """Who gives the ramp another begin has said what is to be: what was stepped back before counts no more."""
    watch = Watch(RAMP)
    noted(watch, BEGIN + 7 * DAY, 50, failed=50)
    other = Ramp(BEGIN + DAY, 14 * DAY, SHARES)
    assert 7 * DAY == ramps.progress(other, watch.state, BEGIN + 8 * DAY)
    assert State() == Watch(other, watch.state).state


def test_the_watch_begins_anew_after_a_step_back() -> None:
    """What was said before has had its consequence, and for the first half of its stay nobody is judged."""
    watch = Watch(RAMP)
    noted(watch, BEGIN + 7 * DAY, 50, failed=50)
    assert [] == noted(watch, BEGIN + 7.9 * DAY, 500, failed=500)
    assert [] == noted(watch, BEGIN + 8.1 * DAY, 49, failed=49)
    assert 1 == len(noted(watch, BEGIN + 8.1 * DAY, 1, failed=1))


def test_one_message_counts_once() -> None:
    """A bad message to five hundred steps nothing back, and of one to many each part counts."""
    watch = Watch(RAMP)
    assert [] == noted(watch, BEGIN + 7 * DAY, 60)
    for _ in range(500):
        assert watch.note("mailtrap", "failed", BEGIN + 7 * DAY, 1 / 500) is None
    for _ in range(900):
        assert watch.note("mailtrap", "relayed", BEGIN + 7 * DAY, 0.96) is None
        assert watch.note("mailtrap", "failed", BEGIN + 7 * DAY, 0.04) is None


def test_what_is_old_counts_no_more() -> None:
    """Neither what lies further back than a step, nor what a thousand messages have followed."""
    watch = Watch(Ramp(BEGIN, 14 * DAY, SHARES, StepBack(least=1000, refused=0.1)))
    noted(watch, BEGIN + 1 * DAY, 99, failed=99)
    noted(watch, BEGIN + 1 * DAY, 900)
    assert [] == noted(watch, BEGIN + 3.1 * DAY, 999, failed=999)
    watch = Watch(Ramp(BEGIN, 14 * DAY, SHARES, StepBack(least=1000, refused=0.1)))
    noted(watch, BEGIN + DAY, 100, failed=100)
    noted(watch, BEGIN + DAY, 1000)
    assert [] == noted(watch, BEGIN + DAY, 100, failed=100)
    assert 1 == len(noted(watch, BEGIN + DAY, 1, failed=1))


def test_a_watch_does_not_grow() -> None:
    """However many answers come, and in however small parts."""
    watch, sizes = Watch(RAMP), []
    for number in range(1, 40_001):
        watch.note("mailtrap", "relayed", BEGIN + DAY + number, 1.0 if number <= 20_000 else 0.001)
        if number % 10_000 == 0:
            sizes.append(len(pickle.dumps(watch)))
    assert max(sizes) < 100_000


KINDS: st.SearchStrategy[Kind] = st.sampled_from(["relayed", "relayed", "relayed", "relayed", "deferred", "failed"])


@given(st.lists(st.tuples(KINDS, st.floats(0, 0.6)), max_size=300), st.integers(1, 40), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_a_watch_judges_as_by_hand(answers: list[tuple[Kind, float]], least: int, refused: float, deferred: float) -> None:
    """The same as somebody who keeps every answer and counts anew after each."""
    watch = Watch(Ramp(BEGIN, 14 * DAY, SHARES, StepBack(refused, deferred, least, DAY)))
    kept: list[tuple[float, str]] = []
    now, quiet = BEGIN + DAY, 0.0
    for kind, later in answers:
        now = min(now + later * DAY, BEGIN + 14 * DAY)
        if now < quiet:
            assert watch.note("mailtrap", kind, now) is None
            continue
        kept = [(when, what) for when, what in kept if when >= now - DAY] + [(now, kind)]
        count = Counter(what for _, what in kept)
        bad = count["failed"] > refused * len(kept) + 1e-9 or count["deferred"] > deferred * len(kept) + 1e-9
        back = watch.note("mailtrap", kind, now)
        assert (len(kept) >= least and bad) == (back is not None)
        if back:
            kept, quiet = [], now + DAY / 2


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=30), st.floats(0.1, 5))
def test_a_ramp_only_goes_forward_but_for_its_steps(steps: list[tuple[float, bool]], by: float) -> None:
    """Between two steps back progress never falls; at one it falls by no more than the step; it is never outside the ramp."""
    watch = Watch(Ramp(BEGIN, 14 * DAY, SHARES, StepBack(least=1, by=by * DAY)))
    now, before = BEGIN, 0.0
    for later, bad in steps:
        now += later * DAY
        here = ramps.progress(watch.ramp, watch.state, now)
        assert before <= here + 1e-3 <= before + later * DAY + 1e-2
        back = watch.note("mailtrap", "failed", now) if bad else None
        before = ramps.progress(watch.ramp, watch.state, now)
        assert 0 <= before <= 14 * DAY
        assert pytest.approx(max(here - by * DAY, 0.0) if back else here, abs=1e-3) == before


@given(st.floats(-1, 15), st.floats(0, 15), st.lists(st.text(max_size=20), max_size=20))
def test_recipients_only_move_to_the_newcomer(day: float, later: float, keys: list[str]) -> None:
    """As time goes on, nobody goes back to the provider that is left."""
    early, late = (Split(ramps.at(RAMP, State(), BEGIN + at * DAY)) for at in (day, day + later))
    for key in keys:
        assert (pick(early, key), pick(late, key)) != ("mailtrap", "ses")


def test_a_ramp_over_simulated_days() -> None:
    """A newcomer that refuses every tenth mail on three days is given less, and has all of it in the end. With -s: day by day."""
    watch, steps = Watch(RAMP), []
    print(f"\n{'day':10}  {'shares at midnight':33}  by mailtrap: relayed  refused  what happened")
    for day in range(26):
        answers, happened = Counter[str](), ["mailtrap refuses 10 % today"] if day in (6, 7, 8) else []
        shown = ramps.shares(ramps.at(RAMP, watch.state, BEGIN + day * DAY))
        for number in range(2000):
            now = BEGIN + (day + number / 2000) * DAY
            if "mailtrap" == pick(Split(ramps.at(RAMP, watch.state, now)), f"u{number}@example.net"):
                kind: Kind = "failed" if number % (10 if day in (6, 7, 8) else 200) == 0 else "relayed"
                answers[kind] += 1
                if back := watch.note("mailtrap", kind, now):
                    steps.append((day, back))
                    happened.append(f"stepped back ({back.why}): from {back.before} to {back.after}")
        date = datetime.fromtimestamp(BEGIN + day * DAY, UTC).date()
        print(f"{date}  {shown:33} {answers['relayed']:21}  {answers['failed']:7}  {'; '.join(happened)}")
    assert [6, 7, 8] == [day for day, _ in steps]
    assert "ses 95.7 %, mailtrap 4.3 %" == steps[-1][1].after
    assert (("ses", 0.0), ("mailtrap", 100.0)) == ramps.at(RAMP, watch.state, BEGIN + 26 * DAY)
