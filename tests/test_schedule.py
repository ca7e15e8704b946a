"""The schedule: pure functions of time and chance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import schedule

STEPS = (60.0, 300.0, 900.0)


@pytest.mark.parametrize(("count", "expected"), [(0, 60.0), (1, 60.0), (2, 300.0), (3, 900.0), (4, 900.0), (99, 900.0)])
def test_the_last_step_repeats(count: int, expected: float) -> None:
    """Each failure takes the next step, and the last step repeats."""
    assert expected == schedule.delay(STEPS, count, 0.5)


@given(st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_share(count: int, chance: float) -> None:
    """Jitter moves a delay by a tenth at most."""
    middle = schedule.delay(STEPS, count, 0.5)
    assert middle * 0.9 <= schedule.delay(STEPS, count, chance) <= middle * 1.1


@given(st.floats(0, 1e9), st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.floats(0, 1e9))
def test_an_attempt_is_never_in_the_past_nor_after_expiry(now: float, attempts: int, chance: float, expires: float) -> None:
    """The next attempt lies between now and the end of the entry's time."""
    assert now <= schedule.next_attempt(now, STEPS, attempts, chance, expires) <= max(now, expires)


@pytest.mark.parametrize(("asked", "expected"), [(None, 1.0), (0.0, 1.0), (-5.0, 1.0), (7.0, 7.0), (90000.0, 3600.0)])
def test_retry_after_is_honoured_up_to_an_hour(asked: float | None, expected: float) -> None:
    """What the provider asked for counts; nonsense is bounded, and nought does not mean at once."""
    assert expected == schedule.pause(schedule.THROTTLE_STEPS, 1, 0.5, asked)
