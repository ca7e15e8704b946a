"""What transports share."""

from __future__ import annotations

import pytest

from relay.transports import net


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_host(host: str) -> None:
    """The loopback addresses, and the one name that is never looked up elsewhere."""
    assert net.is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.",
        "localhost.localdomain",
        "ip6-localhost",
        "localhost.example",
        "[::1]",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "2130706433",
        "127.1",
    ],
)
def test_not_surely_this_host(host: str) -> None:
    """A name that has to be looked up, or a form that is no plain address, may lead anywhere."""
    assert not net.is_loopback(host)
