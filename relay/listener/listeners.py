"""The listening sockets: opened, changed at a reload, watched for deadlines, and closed so that no message is cut in two."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from relay import sockets
from relay.listener.connection import Connection
from relay.listener.handler import Handler, SpoolHandler
from relay.listener.settings import ListenerSettings
from relay.listener.shared import Shared
from relay.log import Events
from relay.metrics import Metrics
from relay.smtp_protocol import Limits
from relay.spool.base import Spool

_SPARE_FILES = 300  # open files kept for the spool, the providers, the admin, and what asyncio accepts in one go
_AT_ONCE = 256  # connections accepted in one go
_BACKLOG = 4096  # connections that wait in the kernel; it takes as many as net.core.somaxconn says


class _Open:
    """A listening socket at work. `settings` are those of new connections; `address` is the real one, `kept` says that the
    socket is not ours to remove."""

    def __init__(self, settings: ListenerSettings, sock: socket.socket, kept: bool) -> None:
        self.settings = settings
        self.address = sockets.show(sock)
        self.kept = kept
        self.server: asyncio.Server
        self._sock = sock

    async def accept(self) -> None:
        """Accept from now on. asyncio takes as many connections in one go as it lets wait, so more are let wait afterwards."""
        await self.server.start_serving()
        self._sock.listen(_BACKLOG)


class Listeners:
    """All listeners of the daemon. `clock` gives Unix seconds; `handler` gets the whole messages, the spool's unless given.

    `adopted` are listening sockets that somebody else opened, by listener name or by address: they are listened on instead of
    a socket of our own, and stay open when the listener goes, so that who connects then is served by whoever comes next.
    """

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
        adopted: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self._settings = settings
        self._adopted = adopted or {}
        self._limits = limits or Limits()
        self._handler = handler or SpoolHandler()
        self._shared = Shared(spool=spool, hostname=hostname, events=events, metrics=metrics, clock=clock, limits=self._limits)
        self._open: list[_Open] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen on every address. Raises Unavailable, and then listens on none."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            self._shared.max_connections = max(1, min(self._limits.max_connections, files - _SPARE_FILES))
        await self.configure(self._settings)
        self._sweep()

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """(name, address) of each listener, with the port really used where port 0 was asked for."""
        return [(listener.settings.name, listener.address) for listener in self._open]

    async def configure(self, settings: Sequence[ListenerSettings]) -> None:
        """Listen as `settings` say from now on. Sessions under way go on as they began, whatever becomes of their listener.

        A listener at the same address takes its new settings without a gap. Raises Unavailable, and then nothing has changed.
        """
        if self._shared.stopping:
            return
        gone, new, now = list(self._open), list[_Open](), list[_Open]()
        try:
            for each in settings:
                listener = next((old for old in gone if old.settings.address == each.address), None)
                if listener:
                    gone.remove(listener)
                else:
                    listener = await self._bind(each)
                    new.append(listener)
                now.append(listener)
        except BaseException:
            await self._close(new)
            raise
        self._open = now
        for listener, each in zip(now, settings, strict=True):
            listener.settings = each
        for listener in new:
            if self._shared.stopping:  # `stop` came between two of them, and closes them all
                break
            await listener.accept()
        await self._close(gone)

    async def stop(self, grace: float) -> None:
        """Take no new connection, close idle ones, and let messages on their way in finish for `grace` seconds."""
        self._shared.stopping = True
        gone, self._open = self._open, []
        await self._close(gone)
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

    async def _bind(self, settings: ListenerSettings) -> _Open:
        """A listener that has its address and does not accept yet."""
        adopted = self._adopted.get(settings.name) or self._adopted.get(settings.address)
        # Anybody on the host may hand in mail over a unix socket, as over loopback.
        sock = adopted.dup() if adopted else sockets.bind(settings.address, mode=0o666)
        sock.setblocking(False)
        listener = _Open(settings, sock, adopted is not None)
        loop = asyncio.get_running_loop()
        # Also for unix sockets: asyncio's own way for those removes their names from Python 3.13 on, also of what is adopted.
        listener.server = await loop.create_server(partial(self._connect, listener), sock=sock, backlog=_AT_ONCE, start_serving=False)
        return listener

    def _connect(self, listener: _Open) -> Connection:
        return Connection(self._shared, self._handler, listener.settings)

    async def _close(self, gone: Sequence[_Open]) -> None:
        """Accept nothing more; who is accepted already is served."""
        loop = asyncio.get_running_loop()
        for listener in gone:
            for sock in listener.server.sockets:
                loop.remove_reader(sock.fileno())
        if gone:
            await asyncio.sleep(0)  # a connection accepted in this very moment needs its server once more
        for listener in gone:
            listener.server.close()
            if sockets.is_unix(listener.address) and not listener.kept:
                sockets.remove(listener.address.removeprefix(sockets.UNIX))

    def _sweep(self) -> None:
        """End connections whose deadline has passed. One timer for all costs nothing per command."""
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(min(1.0, self._limits.command_timeout / 4, self._limits.linger / 4), self._sweep)
        now = loop.time()
        for member in [member for member in self._shared.members if member.deadline <= now]:
            member.expire()
