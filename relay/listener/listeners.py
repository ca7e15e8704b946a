"""The listening sockets: opened, watched for deadlines, and closed so that no message is cut in two."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relay import sockets
from relay.listener.connection import Connection
from relay.listener.handler import Handler, SpoolHandler
from relay.listener.shared import Shared
from relay.log import Events
from relay.metrics import Metrics
from relay.smtp_protocol import Limits
from relay.spool.base import Spool

_SPARE_FILES = 300  # open files kept for the spool, the providers, the admin, and what asyncio accepts in one go
_BACKLOG = 256


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One address to listen on: `127.0.0.1:1025`, `[::1]:25` or `unix:/path`. `max_size` is in octets, as SIZE announces it."""

    name: str
    address: str
    max_size: int = 40_000_000


class Listeners:
    """All listeners of the daemon. `clock` gives Unix seconds; `handler` gets the whole messages, the spool's unless given."""

    def __init__(
        self,
        settings: Sequence[ListenerSettings],
        *,
        spool: Spool,
        hostname: str,
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
        limits: Limits | None = None,
        handler: Handler | None = None,
    ) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._handler = handler or SpoolHandler()
        self._shared = Shared(spool=spool, hostname=hostname, events=events, metrics=metrics, clock=clock, limits=self._limits)
        self._servers: list[tuple[str, str, asyncio.Server]] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen on every address. Raises Unavailable, and then listens on none."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            self._shared.max_connections = max(1, min(self._limits.max_connections, files - _SPARE_FILES))
        try:
            for settings in self._settings:
                await self._listen(settings)
        except BaseException:
            self._close_servers()
            raise
        self._sweep()

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """(name, address) of each listener, with the port really used where port 0 was asked for."""
        return [(name, address) for name, address, _ in self._servers]

    async def stop(self, grace: float) -> None:
        """Take no new connection, close idle ones, and let messages on their way in finish for `grace` seconds."""
        self._shared.stopping = True
        self._close_servers()
        for member in list(self._shared.members):
            member.wind_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._shared.quiet(tasks=True)
        for member in list(self._shared.members):
            member.cut()
        await self._shared.quiet(tasks=False)
        if self._sweeper:
            self._sweeper.cancel()

    async def _listen(self, settings: ListenerSettings) -> None:
        loop = asyncio.get_running_loop()
        # Anybody on the host may hand in mail over a unix socket, as over loopback.
        sock = sockets.bind(settings.address, mode=0o666)
        address = sockets.show(sock)
        connect = partial(Connection, self._shared, self._handler, settings.name, settings.max_size)
        if sockets.is_unix(address):
            server = await loop.create_unix_server(connect, sock=sock, backlog=_BACKLOG)
        else:
            server = await loop.create_server(connect, sock=sock, backlog=_BACKLOG)
        self._servers.append((settings.name, address, server))

    def _close_servers(self) -> None:
        for _, address, server in self._servers:
            server.close()
            if sockets.is_unix(address):
                Path(address.removeprefix(sockets.UNIX)).unlink(missing_ok=True)
        self._servers = []

    def _sweep(self) -> None:
        """End connections whose deadline has passed. One timer for all costs nothing per command."""
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(min(1.0, self._limits.command_timeout / 4, self._limits.linger / 4), self._sweep)
        now = loop.time()
        for member in [member for member in self._shared.members if member.deadline <= now]:
            member.expire()
