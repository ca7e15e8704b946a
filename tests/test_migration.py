"""What an app's mail becomes with each provider, by the transports themselves, as docs/migration.md shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tables


def test_the_document_shows_what_the_transports_make(tmp_path: Path) -> None:
    """The tables are those of now; after a change: python -m tests.tables --write."""
    text = tables.DOCUMENT.read_text()
    assert tables.placed(text, tables.tables(tmp_path)) == text


def test_a_document_without_a_marker_is_told() -> None:
    """The tables need a place to go."""
    with pytest.raises(ValueError, match="lacks a marker"):
        tables.placed("# Migration\n", {"migration": ""})


@pytest.mark.parametrize("dialect", tables.APPS)
@pytest.mark.parametrize("target", tables.TARGETS, ids=lambda target: target[0])
def test_nobody_loses_the_way_to_unsubscribe(tmp_path: Path, dialect: str, target: tuple[str, str, str]) -> None:
    """Whatever app and provider: both List-Unsubscribe fields leave, and no recipient sees another vendor's control headers."""
    _, name, mode = target
    fields = tables.APPS[dialect][1]
    found = tables.became(tables.configured(tmp_path), name, mode, tables.accepted(tables.letter(fields), ["ann@example.net"]))
    (request,) = found.requests
    shown = list(tables.controls(name, request))
    assert "List-Unsubscribe: <https://shop.example.com/u/4711>" in shown
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in shown
    own = {"ses": "X-SES-", "postmark": "X-PM-", "mailtrap": "X-MT-"}.get(name, "") if mode == "smtp" else ""
    others = {"X-SES-", "X-PM-", "X-MT-"} - {own}
    assert [] == [line for line in shown if line.startswith(tuple(others))]
