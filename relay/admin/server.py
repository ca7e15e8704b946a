"""Serving the admin calls on unix sockets and on loopback, and keeping web pages out.

- A POST says application/json, so that no web page can send one without the browser asking us first.
- On TCP the Host header must be one of our addresses (DNS rebinding) and an Origin must be ours (CSRF). There is no
  login: who can open a connection on this host may use it. The unix socket is for its owner and group.
- No answer is cached, sniffed for another type, or framed.
- Every address has its own bound on connections and each request a deadline, so that whoever floods one address, or
  opens connections and says nothing, neither keeps the admin out of the others nor uses up the daemon's open files.

Fails with Unavailable when an address is not to be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay import sockets
from relay.admin.api import Api
from relay.admin.requests import error_response

MOST = 50  # connections at a time to one address; what comes beyond them is closed at once
PATIENCE = 10.0  # seconds that a connection may take to send the next whole request
_ACCEPTED = 16  # connections accepted in one go: until they are looked at they are open files
_BACKLOG = 128  # connections that wait in the kernel to be accepted


class Guard:
    """Lets through only what came from an admin, not from a web page in an admin's browser."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        """`hosts` are the values of a Host header that mean us, on TCP."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["content-security-policy"] = "default-src 'none'; frame-ancestors 'none'"
                headers["cache-control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        app = error_response(*refusal) if refusal else self._app
        await app(scope, receive, marked)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        over_tcp = scope["server"][1] is not None
        if over_tcp and headers.get("host", "").lower() not in self._hosts:
            return 403, "host: this is not an address of the admin API"
        origin = headers.get("origin")
        if origin is not None and not (over_tcp and origin.lower().removeprefix("http://") in self._hosts):
            return 403, "origin: pages of other sites may not use the admin API"
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "a POST says Content-Type: application/json"
        return None


class _Connection(H11Protocol):
    """One connection to the admin API, closed when its address has too many or when it keeps us waiting."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as H11Protocol has it
        super().connection_made(transport)
        # `server` is the address we listen on.
        if sum(isinstance(other, _Connection) and other.server == self.server for other in self.connections) > MOST:
            self.connections.discard(self)
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def _watch(self) -> None:
        """The deadline runs from the time a request can begin until all of it is here, however it dribbles in."""
        waiting = self.cycle is None or self.cycle.more_body or self.cycle.response_complete
        if not waiting or self.transport.is_closing():
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(PATIENCE, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """uvicorn without signals of its own (the daemon has them) and without its ten wake-ups a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_BACKLOG)
        self.up.set()

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections:
            await super().shutdown(sockets)
        for server in self.servers:  # without connections uvicorn would only wait for a tenth of a second
            server.close()


class Admin:
    """Serves an Api on unix sockets and loopback TCP."""

    def __init__(self, listen: Sequence[str], api: Api) -> None:
        self._listen = listen
        self._api = api
        self._sockets: list[socket.socket] = []
        self.addresses: Sequence[str] = ()
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; `addresses` then holds the real ports. Raises Unavailable; then nothing is left open."""
        try:
            for where in self._listen:
                self._sockets.append(sockets.bind(where))
            self.addresses = [sockets.show(sock) for sock in self._sockets]
            self._server = _Server(_uvicorn(Guard(self._api.app, _hosts(self.addresses))))
            self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="admin")
            up = asyncio.create_task(self._server.up.wait())
            await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                up.cancel()
                await self._task
        except BaseException:
            self._remove_names()
            for sock in self._sockets:
                sock.close()
            raise

    async def stop(self) -> None:
        """Take no new connection and answer what is under way."""
        if self._server is not None and self._task is not None and not self._task.done():
            self._remove_names()
            self._api.end()
            self._server.stop.set()
            await self._task
            await self._api.ended()

    def _remove_names(self) -> None:
        for sock in self._sockets:
            name = sock.getsockname()
            if isinstance(name, str):
                sockets.remove(name)


def _hosts(addresses: Sequence[str]) -> frozenset[str]:
    """The values of a Host header that mean one of these addresses."""
    tcp = [address for address in addresses if not sockets.is_unix(address)]
    return frozenset({*tcp, *(f"localhost:{address.rpartition(':')[2]}" for address in tcp)})


def _uvicorn(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=_ACCEPTED,
        timeout_keep_alive=int(PATIENCE),
        timeout_graceful_shutdown=5,
    )
