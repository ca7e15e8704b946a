"""What `make bench` writes; the measurements themselves are for it to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import queue
from bench.large import PROVIDERS, YAML, Found, message, row
from bench.rows import BEGIN, END, PERFORMANCE_MD, Row, figures, insert
from relay import config, mime

HUNDRED = [float(number) for number in range(1, 101)]


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


def test_the_large_message() -> None:
    """Its attachment has the size that was asked for, and it is as it would be stored."""
    data = message(1000)
    (_, file) = mime.parse(data).parts
    assert (1000, "large.pdf") == (len(file.decoded()), file.filename)
    assert b"\n" not in data.replace(b"\r\n", b"")


def test_a_missed_goal_is_named() -> None:
    """Medians, but for the loop, whose best round counts: other load only makes it worse."""
    good, bad = Found(1.0, 1.0, 10.0, 5.0, 50.0, 5.0), Found(3.0, 3.0, 90.0, 5.0, 300.0, 5.0)
    assert row("ses, raw", [good, good, bad]).endswith("   ok")
    assert row("ses, raw", [good, bad, bad]).endswith("missed: memory, CPU")
    assert row("ses, raw", [bad]).endswith("missed: memory, block, CPU")


def test_every_provider_is_measured(tmp_path: Path) -> None:
    """The configurations are valid, and every REST API is among them."""
    path = tmp_path / "relay.yaml"
    for _, provider in PROVIDERS.values():
        path.write_text(YAML.format(directory=tmp_path, port=2525, provider=provider.format(port=9)))
        path.chmod(0o600)
        assert ["bench"] == list(config.load(path, environ={}).providers)
    assert {"", "ses", "postmark", "mailtrap", "paubox", "lowcodeapi"} == {shape for shape, _ in PROVIDERS.values()}


def test_what_a_command_to_a_long_queue_came_to() -> None:
    """Counts that do not add up and goals that were missed are named; the 99th of a hundred answers is below the slowest."""
    assert [50.0, 99.0, 100.0, 0.0] == [
        queue.percentile(values, share) for values, share in ((HUNDRED, 0.49), (HUNDRED, 0.98), (HUNDRED, 1.0), ((), 0.5))
    ]
    found = queue.Found("hold", 90, 10, 1.0, HUNDRED)
    assert "| hold | 90 + 10 under way | right | 1.0 | 100 | 51 | 100 | 100 | ok |" == found.row(100)
    assert "| hold | 90 + 10 under way | WRONG, not 101 | 1.0 | 100 | 51 | 100 | 100 | ok |" == found.row(101)
    slow = queue.Found("hold", 100, 0, 15.1, [101.0])
    assert slow.row(100).endswith("| missed: seconds, p99 |")
