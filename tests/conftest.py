"""Fixtures of several test modules."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.cli import door
from tests.commands import Relay, configuration
from tests.served import serve


@pytest.fixture
def nothing_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration of this host and not its name, a time zone that is the same everywhere."""
    monkeypatch.setattr("socket.gethostname", lambda: "relay.example.com")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    monkeypatch.setattr(door, "CONFIG_FILE", tmp_path / "etc" / "relay.yaml")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
async def relay(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> AsyncIterator[Relay]:
    """The command, with a daemon's API to talk to."""
    async with serve(tmp_path) as served:
        yield Relay(served, configuration(tmp_path, f"unix:{served.unix}"), capsysbinary)
