"""What all connections share: the rooms they speak to, the counters behind the limits, and work that must not end with them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Protocol

from relay.listener.logins import FailedLogins
from relay.log import Events
from relay.metrics import Metrics
from relay.smtp_protocol import Limits
from relay.spool.base import Spool

_READ = 128 * 1024  # octets per read; asyncio's own 256 KiB per read would be allocated anew each time
_WARN_EVERY = 60.0  # seconds between two log lines about refused connections


class Member(Protocol):
    """A connection as the others see it. `deadline` is in loop time."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed."""

    def wind_up(self) -> None:
        """Say 421 and close, unless a message is on its way in."""

    def cut(self) -> None:
        """Close at once, whatever is left unsaid."""


class Shared:
    """One for all listeners. `clock` gives Unix seconds; `in_flight` counts octets of messages that are not committed yet."""

    def __init__(
        self, *, spool: Spool, hostname: str, events: Events, metrics: Metrics, clock: Callable[[], float], limits: Limits
    ) -> None:
        self.spool = spool
        self.hostname = hostname
        self.events = events
        self.metrics = metrics
        self.clock = clock
        self.limits = limits
        self.max_connections = limits.max_connections
        self.buffer = memoryview(bytearray(_READ))  # one for all: a read is handled before the next one begins
        self.in_flight = 0
        self.failed_logins = FailedLogins(limits.max_logins_per_client, limits.login_window)
        self.stopping = False
        self.members: set[Member] = set()
        self._per_client: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned = -math.inf
        self._left = asyncio.Event()

    def join(self, member: Member, address: str, *, exempt: bool) -> bool:
        """Count a new connection in; False when there are too many. `exempt`: not limited per client."""
        full = len(self.members) >= self.max_connections
        if full or (not exempt and self._per_client[address] >= self.limits.max_connections_per_client):
            self._warn_crowded("" if full else f" from [{address}]")
            return False
        self.members.add(member)
        if not exempt:
            self._per_client[address] += 1
        return True

    def leave(self, member: Member, address: str, *, exempt: bool) -> None:
        """Count a connection out."""
        self.members.discard(member)
        if not exempt:
            self._per_client[address] -= 1
            if not self._per_client[address]:
                del self._per_client[address]
        self._left.set()

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run `work` to its end, whatever becomes of the connection that asked for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def quiet(self, *, tasks: bool) -> None:
        """Wait until no connection is left, and with `tasks` no work either."""
        while self.members or (tasks and self._tasks):
            self._left.clear()
            await self._left.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._left.set()

    def _warn_crowded(self, whom: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned >= _WARN_EVERY:
            self._warned = now
            self.events.warning(f"too many connections{whom}: more are refused", "smtpd")
