"""Failed logins, counted by address and time."""

from __future__ import annotations

import pytest

from relay.listener import logins
from relay.listener.logins import FailedLogins


def test_so_many_failures_shut_an_address_out_for_the_window() -> None:
    """The window begins with the first failure; when it ends all is forgotten."""
    failed = FailedLogins(2, 60.0)
    assert not failed.too_many("192.0.2.1", 100.0)
    failed.add("192.0.2.1", 100.0)
    assert not failed.too_many("192.0.2.1", 100.0)
    failed.add("192.0.2.1", 150.0)
    assert failed.too_many("192.0.2.1", 159.9)
    assert not failed.too_many("192.0.2.2", 159.9)
    assert not failed.too_many("192.0.2.1", 160.0)
    failed.add("192.0.2.1", 160.0)
    assert not failed.too_many("192.0.2.1", 160.0)


def test_a_whole_network_of_one_host_counts_as_one() -> None:
    """IPv6 hosts have a /64 to guess from."""
    failed = FailedLogins(2, 60.0)
    failed.add("2001:db8::1", 0.0)
    failed.add("2001:db8::ffff:2", 0.0)
    assert failed.too_many("2001:db8::3", 0.0)
    assert not failed.too_many("2001:db8:0:1::3", 0.0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address whose window began first is forgotten first."""
    monkeypatch.setattr(logins, "_MOST", 2)
    failed = FailedLogins(1, 60.0)
    for number in range(3):
        failed.add(f"192.0.2.{number}", float(number))
    assert [False, True, True] == [failed.too_many(f"192.0.2.{number}", 3.0) for number in range(3)]
