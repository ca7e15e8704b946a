"""Failed logins, counted for each address over a window of time, so that nobody can guess for long."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

_MOST = 10_000  # addresses remembered; beyond that the oldest go


class FailedLogins:
    """`most` failures within `window` seconds from the first one shut an address out until the window ends."""

    def __init__(self, most: int, window: float) -> None:
        self._most = most
        self._window = window
        self._seen: dict[str, tuple[float, int]] = {}  # whose -> (when the window ends, failures), oldest window first

    def add(self, address: str, now: float) -> None:
        """Count a failure at `now` (seconds of any clock that never goes back)."""
        whose = _whose(address)
        ends, count = self._seen.get(whose, (0.0, 0))
        if now < ends:
            self._seen[whose] = ends, count + 1
            return
        self._seen.pop(whose, None)
        self._seen[whose] = now + self._window, 1
        if len(self._seen) > _MOST:
            del self._seen[next(iter(self._seen))]

    def too_many(self, address: str, now: float) -> bool:
        """Whether no login from `address` is looked at now."""
        if not self._seen:
            return False
        ends, count = self._seen.get(_whose(address), (0.0, 0))
        return count >= self._most and now < ends


def _whose(address: str) -> str:
    """One host may have a whole /64 of IPv6 addresses to guess from (RFC 4291 §2.5.4)."""
    return address if ip_address(address).version == 4 else str(ip_network((address, 64), strict=False))
