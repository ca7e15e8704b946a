"""Answers of the daemon as lines for people."""

from __future__ import annotations

import sys

import pytest

from relay.cli import show
from tests.commands import Relay
from tests.served import NOW

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


PLAIN = show.Paint(False)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (10_234, "10.2 kB"),
        (99_949, "99.9 kB"),
        (999_600, "1.0 MB"),
        (25_000_000, "25.0 MB"),
        (10**15, "1000 TB"),
    ],
)
def test_sizes(octets: int | None, expected: str) -> None:
    """Three digits and a unit."""
    assert expected == show.size(octets)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-5, "0s"), (35, "35s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (90_000, "1d")]
)
def test_ages(seconds: int, expected: str) -> None:
    """One number and one unit."""
    assert expected == show.age("2026-11-20T17:57:01.250Z", NOW + seconds)


def test_what_is_unknown_is_a_question_mark() -> None:
    """A corrupt entry has neither time nor size."""
    assert ("?", "?", "<>") == (show.age(None, NOW), show.local(None), show.address(None))


def test_colour_only_where_it_is_wanted() -> None:
    """A state word has its colour on a terminal, padded to its column."""
    assert ("\033[31mpaused   \033[0m", "paused   ", "word") == (
        show.Paint(True)("paused", 9),
        PLAIN("paused", 9),
        show.Paint(True)("word"),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("two  words", ["two  words"]),
        ("  one two  three four", ["  one two", "    three", "    four"]),
        ("  averyveryverylongword x", ["  averyveryverylongword", "    x"]),
        ("\033[32msent    \033[0m x y", ["\033[32msent    \033[0m x", "  y"]),
    ],
)
def test_long_lines_are_wrapped_at_words(line: str, expected: list[str]) -> None:
    """With a hanging indent; colours take no room, and a word is never cut."""
    assert expected == list(show.wrapped(line, 10))


async def test_only_a_terminal_gets_wrapped_lines(monkeypatch: pytest.MonkeyPatch, relay: Relay) -> None:
    """Programs that read a pipe find every fact on one line."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    await relay.served.store("a@example.net")
    piped = (await relay("log", "one@web1")).out
    assert max(map(len, piped.splitlines())) > 40
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = (await relay("log", "one@web1")).out
    assert max(map(len, shown.splitlines())) <= 40
    assert piped.split() == shown.split()


def test_a_terminal_gets_no_control_characters() -> None:
    """Stored mail is shown, not obeyed; a pipe gets the octets as they are."""
    data = b"Subject: \x1b[2Jx\r\n\r\nbody\xff\x07\r\n"
    assert data == show.octets(data, False)
    assert "Subject: ?[2Jx\n\nbody\ufffd?\n".encode() == show.octets(data, True)


def test_a_story_shows_what_is_special() -> None:
    """Who logged in, bounces, fixed providers, a first attempt that is still to come, decisions of our own, the end."""
    entry = {
        "queue_id": "687E7641C64007",
        "arrival_time": "2026-11-20T17:57:01.250Z",
        "client": {"name": "\x1b]0;x", "address": "unix", "listener": "local", "username": "sh\x07op"},
        "sender": "",
        "message_size": 10,
        "message_id": "",
        "bounce": True,
        "via": ["ses"],
        "finished_time": "2026-11-20T17:57:02.250Z",
        "recipients": [
            {"address": "a", "state": "queued", "attempts": 0, "delay_reason": "", "expires": None, "via": ["ses"]},
            {"address": "b", "state": "held", "attempts": 0, "delay_reason": "x", "expires": None, "via": ["ses"]},
        ],
    }
    step = {"recipient": "b", "route": "", "provider": "", "verdict": "RETRY", "state": "held", "time": entry["finished_time"]}
    steps = [{**step, "remote": "relay", "reply": "held by an admin", "status": "4.0.0", "remote_id": ""}]
    assert [
        "687E7641C64007  accepted 2026-11-20 17:57:01 from ?]0;x[unix], listener local, logged in as sh?op",
        "  from <>, 10 B, message-id none",
        "  made by relay itself: a notice or an alert",
        "  to <a>: waits for its first attempt",
        "  to <b>: held",
        "    2026-11-20 17:57:02  held      relay",
        "        held by an admin (dsn 4.0.0)",
        "  finished 2026-11-20 17:57:02",
    ] == list(show.story(entry, steps, PLAIN))
    assert "  fixed to ses, whatever the routes say" in list(show.story({**entry, "bounce": False}, steps, PLAIN))
