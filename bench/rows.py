"""What was measured, as rows of a table, and the place in docs/performance.md where the table goes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PERFORMANCE_MD = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
_HEADER = ["what", "unit", "Postfix", "relay", "relay is better by", "goal"]


@dataclass
class Row:
    """One measured thing: the values of each system, and whether more is better. `goal` is the least ratio wanted."""

    what: str
    unit: str
    more_is_better: bool = False
    goal: float | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, system: str, value: float) -> None:
        """One more value of a system."""
        self.values.setdefault(system, []).append(value)

    def ratio(self) -> float | None:
        """How many times better relay's median is than Postfix's; None when one of them was not measured."""
        if len(self.values) < 2:
            return None
        ours, theirs = (statistics.median(self.values[name]) for name in ("relay", "postfix"))
        return ours / theirs if self.more_is_better else theirs / ours

    def cells(self) -> list[str]:
        """The row of the table."""
        ratio = self.ratio()
        goal = "" if self.goal is None else f"≥ {self.goal}"
        spreads = [_spread(self.values.get(name, [])) for name in ("postfix", "relay")]
        return [self.what, self.unit, *spreads, "-" if ratio is None else f"{ratio:.2f}", goal]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    digits = 0 if min(values) >= 100 else 2
    median, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 else f"{median} [{low}..{high}]"


def figures(rows: Sequence[Row], machine: str, rounds: int) -> str:
    """The machine and the table, as Markdown."""
    table = [_HEADER, ["---"] * len(_HEADER), *(row.cells() for row in rows)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"{machine}; {rounds} round{'' if rounds == 1 else 's'}.\n\n{lines}\n"


def insert(text: str, found: str) -> str:
    """`text` with what stands between the markers replaced. Raises ValueError where a marker is missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PERFORMANCE_MD} lacks a marker: {BEGIN if not begin else END}")
    return f"{head}{BEGIN}\n\n{found}\n{END}{tail}"
