"""How much and when, as an admin writes it: rates, weights, shares, percentages, dates."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from relay.budgets import Rate
from relay.config import amounts

RATES = {
    "14/s": Rate(14, 1),
    "150/10s": Rate(150, 10),
    "600/m": Rate(600, 60),
    "1000/h": Rate(1000, 3600),
    "50000/d": Rate(50000, 86400),
    "1/100ms": Rate(1, 0.1),
    "14.0 / 1.5 m": Rate(14, 90),
}


@pytest.mark.parametrize("written", RATES)
def test_rates(written: str) -> None:
    """A count, a slash, and a window."""
    assert RATES[written] == amounts.rate(written)


@given(count=st.integers(1, 10**9), millis=st.integers(100, 86_400_000))
def test_rates_are_written_so_that_they_are_read_again(count: int, millis: int) -> None:
    """To the millisecond, in the largest unit that is whole."""
    rate = Rate(count, millis / 1000)
    read = amounts.rate(amounts.written_rate(rate))
    assert rate.count == read.count
    assert pytest.approx(rate.seconds) == read.seconds


@pytest.mark.parametrize(("written", "mend"), [("0.5/s", "1/2s"), ("2.5/m", "5/2m"), ("1.25/10s", "5/40s"), ("0.01/s", "1/100s")])
def test_a_rate_in_parts_is_guessed_in_whole_messages(written: str, mend: str) -> None:
    """The same pace, so that a whole message fits."""
    with pytest.raises(PydanticCustomError) as caught:
        amounts.rate(written)
    assert f'did you mean "{mend}"?' == (caught.value.context or {})["mend"]


@given(first=st.integers(0, 10**8), last=st.integers(0, 10**8), parts=st.sampled_from([1, 2, 10, 1000]))
def test_shares_and_weights_are_written_so_that_they_are_read_again(first: int, last: int, parts: int) -> None:
    """Whole numbers or decimals."""
    pair = (first / parts, last / parts)
    assert pair == amounts.shares(amounts.written_shares(pair))
    assert pair[0] == amounts.weight(amounts.written_number(pair[0]))


@given(permille=st.integers(1, 1000))
def test_percentages_are_written_so_that_they_are_read_again(permille: int) -> None:
    """With their sign."""
    assert pytest.approx(permille / 1000) == amounts.percentage(amounts.written_percentage(permille / 1000))


MOMENTS = {
    "2026-12-01": datetime(2026, 12, 1, tzinfo=UTC),
    "2026-12-01 08:30": datetime(2026, 12, 1, 8, 30, tzinfo=UTC),
    "2026-12-01T08:30:05Z": datetime(2026, 12, 1, 8, 30, 5, tzinfo=UTC),
    "2026-12-01 08:30 UTC": datetime(2026, 12, 1, 8, 30, tzinfo=UTC),
    "2028-02-29t00:00+00:00": datetime(2028, 2, 29, tzinfo=UTC),
}


@pytest.mark.parametrize("written", MOMENTS)
def test_dates(written: str) -> None:
    """A day, or a day and a time in UTC, wherever this host is."""
    assert MOMENTS[written].timestamp() == amounts.moment(written)


@given(seconds=st.integers(0, 4 * 10**9))
def test_dates_are_written_so_that_they_are_read_again(seconds: int) -> None:
    """To the second."""
    assert float(seconds) == amounts.moment(amounts.written_moment(seconds))


@given(text=st.text(alphabet="0123456789.-/%s mhdTZ:+", max_size=14))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    """No reader fails in another way."""
    for read in (amounts.rate, amounts.budget, amounts.weight, amounts.shares, amounts.percentage, amounts.moment):
        with suppress(PydanticCustomError):
            read(text)
