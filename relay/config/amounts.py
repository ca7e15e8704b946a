"""The kinds of values that say how much and when: rates, budgets, weights, shares, percentages, dates. Pure.

Reading one fails with `values.mistake(text, mend)`, as in relay/config/values.py. What is written here can be read again.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from relay import budgets
from relay.config import values

LONGEST_WINDOW = 86400.0
SHORTEST_WINDOW = 0.1
_MOST = 10**9
_RATE = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,6})?) ?/ ?([0-9]{1,6}(?:\.[0-9]{1,3})?)? ?([A-Za-z]+)")
_NO_UNIT = re.compile(r"[0-9]{1,10}(?:/[0-9]{1,6})?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT_OF = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "hr": "h", "day": "d"}
_HOW_RATE = "write 14/s, 150/10s, 600/m or 1000/h"
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_SHARES = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?\.\. ?([0-9]{1,9}(?:\.[0-9]{1,6})?)")
_OTHER_SHARES = re.compile(r"([0-9]{1,9})%? ?(?:-|->|to|\.\.\.|…|,|:) ?([0-9]{1,9})%?")
_FIGURE = re.compile(r"([0-9]{1,3}(?:[_,' ][0-9]{3})+|[0-9]{1,12}(?:\.[0-9]{1,6})?(?:e[0-9])?) ?([kKmM]?)(?: ?/ ?[a-z]+)?")
_THOUSANDS = {"": 1, "k": 1000, "m": 1000000}
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?) ?(.*))?", re.I)
_OTHER_DATE = re.compile(r"([0-9]{1,2})([./])([0-9]{1,2})[./]([0-9]{4})")
_OTHER_ORDER = re.compile(r"([0-9]{4})([-./]?)([0-9]{1,2})\2([0-9]{1,2})")
_HOW_DATE = "write 2026-12-01, or 2026-12-01 08:00"
_UTC = frozenset({"", "z", "utc", "+00:00", "+0000"})


def rate(value: Any) -> budgets.Rate:
    """So many in a window: `14/s`, `150/10s`, `600/m`, `1000/h`."""
    if isinstance(value, budgets.Rate):
        return value
    written = values.text(value)
    match = _RATE.fullmatch(written)
    if not match:
        mend = f'did you mean "{written}{"s" if "/" in written else "/s"}"?' if _NO_UNIT.fullmatch(written) else _HOW_RATE
        raise values.mistake(f'"{written}" is not a rate', mend)
    count, times, unit = float(match[1]), float(match[2] or 1), match[3]
    short = unit if unit in _UNITS else _UNIT_OF.get(unit.lower().rstrip("s") or "s", unit.lower())
    if unit not in _UNITS:
        mend = f'did you mean "{match[1]}/{match[2] or ""}{short}"?' if short in _UNITS else _HOW_RATE
        raise values.mistake(f'"{unit}" is not a unit of time here (ms, s, m, h, d)', mend)
    window = times * _UNITS[unit]
    if not count:
        raise values.mistake(f'"{written}" lets nothing through', "write off for no limit; to send nothing: relay provider pause")
    if not SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
        longer = "for more than a day there are daily and monthly" if window else _HOW_RATE
        raise values.mistake(
            f'"{written}" has no window between 100ms and 1d', longer if window > LONGEST_WINDOW or not window else _HOW_RATE
        )
    if count != int(count):
        raise values.mistake(f'"{written}": no part of a message can be sent', _whole(count, window))
    if count > _MOST:
        raise values.mistake(f"{int(count)} is more than {_MOST}, which is no limit", "write off")
    return budgets.Rate(int(count), window)


def _whole(count: float, window: float) -> str:
    """The same rate in whole messages, where a small multiple of its window gives them."""
    for times in range(2, 101):
        number = round(count * times, 6)
        if number == int(number) and window * times <= LONGEST_WINDOW:
            return f'did you mean "{written_rate(budgets.Rate(int(number), window * times))}"?'
    return _HOW_RATE


def written_rate(rate: budgets.Rate) -> str:
    """A rate as an admin writes it."""
    seconds = round(rate.seconds, 3)
    unit = next((unit for unit in ("d", "h", "m", "s") if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0), "")
    if not unit:
        unit = "ms" if seconds < 1 else "s"
    times = f"{seconds / _UNITS[unit]:.3f}".rstrip("0").rstrip(".")
    return f"{rate.count}/{'' if times == '1' else times}{unit}"


def budget(value: Any) -> int:
    """How much in a day or a month: a whole number, at least 1."""
    if isinstance(value, str) and not re.fullmatch("[0-9]+", value):
        raise values.mistake(f'"{value}" is not a whole number', _figure(value))
    if value in (0, "0"):
        raise values.mistake("0 lets nothing through", "write off for no limit; to send nothing: relay provider pause")
    return values.whole_number(1, 10**12)(value)


def _figure(written: str) -> str:
    """What a number that is written for people may mean."""
    match = _FIGURE.fullmatch(written)
    found = float(re.sub("[_,' ]", "", match[1])) * _THOUSANDS[(match[2] or "").lower()] if match else 0.0
    return f"did you mean {found:.0f}?" if found >= 1 and found == int(found) else "write its digits alone: 50000"


def _number(value: Any, what: str, example: str) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise values.mistake(f"expected {what}, not {values.kind_of(value)}", example)
    written = str(value)
    if written.startswith("-") and _NUMBER.fullmatch(written[1:]):
        raise values.mistake(f"{written} is less than nothing", "0 is the least")
    if _PERCENT.fullmatch(written):
        raise values.mistake(f'"{written}" is not {what}', f"did you mean {written.rstrip('% ')}?")
    if not _NUMBER.fullmatch(written):
        raise values.mistake(f'"{written}" is not {what}', example)
    return float(written)


def weight(value: Any) -> float:
    """A share of a split: a number, at least 0. Only the ratios count."""
    return _number(value, "a weight", "write a number, such as 80; only the ratios count")


def shares(value: Any) -> tuple[float, float]:
    """A provider's share at the beginning and at the end of a ramp: `100..0`."""
    if isinstance(value, tuple):
        return float(value[0]), float(value[1])
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        raise values.mistake(f"{value} is one share, and a ramp leads from one to another", f"did you mean {value}..{value}?")
    if isinstance(value, list) and len(value) == 2 and all(isinstance(one, int) and one >= 0 for one in value):
        raise values.mistake("expected a pair of shares, not a list", f"did you mean {value[0]}..{value[1]}?")
    written = values.text(value)
    if not (match := _SHARES.fullmatch(written.replace("%", ""))):
        other = _OTHER_SHARES.fullmatch(written)
        mend = "0 is the least" if "-" in written else "write 100..0 or 0..100"
        raise values.mistake(f'"{written}" is not a pair of shares', f"did you mean {other[1]}..{other[2]}?" if other else mend)
    if "%" in written:
        raise values.mistake(f'"{written}" is not a pair of shares', f"did you mean {written.replace('%', '')}?")
    return float(match[1]), float(match[2])


def written_number(number: float) -> str:
    """A weight or share as an admin writes it."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def written_shares(pair: tuple[float, float]) -> str:
    """A pair of shares as an admin writes it."""
    return "..".join(map(written_number, pair))


def percentage(value: Any) -> float:
    """A share of all, 0 to 1, from `5%`."""
    if isinstance(value, float):
        return value
    written = values.text(value)
    match = _PERCENT.fullmatch(written)
    if not match:
        plain = _NUMBER.fullmatch(written)
        part = plain and "." in written and float(written) <= 1  # 0.05
        mend = f'did you mean "{written_number(float(written) * 100) if part else written}%"?' if plain else "write 5%"
        raise values.mistake(f'"{written}" is not a percentage', mend)
    if not 0 < float(match[1]) <= 100:
        raise values.mistake(f"{written} is not more than 0% and at most 100%", "write step_back: off to go on whatever happens")
    return float(match[1]) / 100


def written_percentage(share: float) -> str:
    """A share of all as an admin writes it."""
    return f"{written_number(share * 100)}%"


def moment(value: Any) -> float:
    """Unix seconds, from a date or a date and a time in UTC."""
    if isinstance(value, float):
        return value
    written = values.text(value)
    match = _DATE.fullmatch(written)
    if not match:
        raise values.mistake(f'"{written}" is not a date', _dated(written))
    try:
        found = datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}").replace(tzinfo=UTC)
    except ValueError:
        raise values.mistake(f'"{written}" is no day of the calendar, or no time of the day') from None
    if (match[3] or "").lower() not in _UTC:
        raise values.mistake(f'"{written}" is not in UTC', _in_utc(written))
    return found.timestamp()


def _dated(written: str) -> str:
    """What a date in another form may mean. With slashes the month stands first or the day: both are told."""
    if backward := _OTHER_DATE.fullmatch(written):
        first, mark, second, year = int(backward[1]), backward[2], int(backward[3]), backward[4]
        pairs = [(second, first), *([(first, second)] if mark == "/" else [])]
    elif forward := _OTHER_ORDER.fullmatch(written):
        year, pairs = forward[1], [(int(forward[3]), int(forward[4]))]
    else:
        return _HOW_DATE
    found = dict.fromkeys(f"{year}-{month:02}-{day:02}" for month, day in pairs if 1 <= month <= 12 and 1 <= day <= 31)
    return f"did you mean {' or '.join(found)}?" if found else _HOW_DATE


def _in_utc(written: str) -> str:
    try:
        there = datetime.fromisoformat(written)
    except ValueError:
        return "write the time in UTC: 2026-12-01 08:00"
    return f"did you mean {written_moment(there.timestamp())}?" if there.tzinfo else "write the time in UTC: 2026-12-01 08:00"


def written_moment(seconds: float) -> str:
    """A moment as an admin writes it."""
    found = datetime.fromtimestamp(seconds, UTC)
    if (found.hour, found.minute, found.second) == (0, 0, 0):
        return found.strftime("%Y-%m-%d")
    return found.strftime("%Y-%m-%d %H:%M" if not found.second else "%Y-%m-%d %H:%M:%S")
