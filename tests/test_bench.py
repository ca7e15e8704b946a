"""What `make bench` writes; the measurements themselves are for it to run."""

from __future__ import annotations

import pytest

from bench.rows import BEGIN, END, PERFORMANCE_MD, Row, figures, insert


def test_rows_become_a_table() -> None:
    """Medians with their spread, and the ratio turned so that above 1 relay is ahead; what was not measured is a dash."""
    speed = Row("4 KB end to end", "messages/s", more_is_better=True, goal=1.5)
    cost, idle = Row("latency", "ms"), Row("idle, RSS", "MiB")
    for theirs, ours in ((300.0, 900.0), (400.0, 1000.0), (800.0, 1100.0)):
        speed.add("postfix", theirs)
        speed.add("relay", ours)
    cost.add("postfix", 1.0)
    cost.add("relay", 2.0)
    idle.add("relay", 54.125)
    assert (
        "a machine; 3 rounds.\n\n"
        "| what | unit | Postfix | relay | relay is better by | goal |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| 4 KB end to end | messages/s | 400 [300..800] | 1000 [900..1100] | 2.50 | ≥ 1.5 |\n"
        "| latency | ms | 1.00 | 2.00 | 0.50 |  |\n"
        "| idle, RSS | MiB | - | 54.12 | - |  |\n"
    ) == figures([speed, cost, idle], "a machine", 3)


def test_only_what_stands_between_the_markers_is_written() -> None:
    """The page has both markers, and words around them that stay."""
    page = PERFORMANCE_MD.read_text()
    written = insert(page, "| new |\n")
    assert f"{BEGIN}\n\n| new |\n\n{END}" in written
    assert (page.partition(BEGIN)[0], page.partition(END)[2]) == (written.partition(BEGIN)[0], written.partition(END)[2])
    assert written == insert(written, "| new |\n")
    for marker in (BEGIN, END):
        with pytest.raises(ValueError, match="lacks a marker"):
            insert(page.replace(marker, ""), "")
