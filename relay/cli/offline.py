"""The admin calls over the spool of a daemon that is down: read-only, in this process.

Imported only when needed: it brings Starlette and SQLite with it.
"""

from __future__ import annotations

import os
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from relay import __version__, sockets
from relay.admin import Api, Context, ProviderView
from relay.cli.exits import PERMISSION, Stop
from relay.errors import SpoolError
from relay.log import Events
from relay.model import Entry
from relay.model import Message as StoredMessage
from relay.spool.base import Counts, Filter, Step
from relay.spool.reader import Reader

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]


async def answer(spool: Path, method: str, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
    """(HTTP status, body) of one call over the spool in directory `spool`. Raises Stop or SpoolError when it cannot be opened."""
    with _opened(spool) as reader:
        context = Context(
            version=__version__,
            hostname=sockets.hostname(),
            spool_path=str(spool),
            clock=time.time,
            refusing=lambda: "the daemon is not running",
            providers=_no_providers,
        )
        return await _ask(Api(context, _Awaitable(reader), spool=None, events=Events()).app, method, path, query)


def _opened(spool: Path) -> Reader:
    try:
        return Reader(spool)
    except SpoolError as error:
        if not spool.is_dir() or os.access(spool, os.W_OK):
            raise
        text = f"{error}. Reading a spool makes a file beside it, and {spool} cannot be written here: use sudo, or copy the directory"
        raise Stop(PERMISSION, f"{text} to where you may write and name the copy in queue.spool") from error


async def _no_providers() -> Sequence[ProviderView]:
    return ()


class _Awaitable:
    """The blocking reader in the form the API takes; nothing else waits in this process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def entry(self, queue_id: str) -> Entry | None:
        return self._reader.entry(queue_id)

    async def message(self, queue_id: str) -> StoredMessage:
        return self._reader.message(queue_id)

    async def find(self, what: Filter, limit: int, after: str = "") -> Sequence[Entry]:
        return self._reader.find(what, limit, what.now, after)

    async def resolve(self, prefix: str) -> Sequence[str]:
        return self._reader.resolve(prefix)

    async def search(self, term: str, limit: int) -> Sequence[str]:
        return self._reader.search(term, limit)

    async def history(self, queue_id: str) -> Sequence[Step]:
        return self._reader.history(queue_id)

    async def counts(self) -> Counts:
        return self._reader.counts(time.time())

    async def corrupt(self) -> Sequence[tuple[str, str]]:
        return self._reader.corrupt()


async def _ask(app: Application, method: str, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
    """One request to an ASGI application, without a socket."""
    status, body = 500, b""

    async def receive() -> Event:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Event) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    scope: Event = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urllib.parse.urlencode(query).encode(),
        "headers": [],
        "client": None,
        "server": ("offline", None),
    }
    await app(scope, receive, send)
    return status, body
