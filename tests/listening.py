"""A listener at work with a spool in memory, and a client that speaks octets, for the listener's tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay import sockets
from relay.listener import Handler, Limits, Listeners, ListenerSettings
from relay.metrics import Metrics
from tests import dialogs
from tests.fakes import MemorySpool, RecordingEvents
from tests.servers import ca_file, server_tls

HOST = "mail.example.net"
NOW = 1_800_000_000.0
ENVELOPE = b"EHLO app\r\n", b"MAIL FROM:<app@example.com>\r\n", b"RCPT TO:<a@example.net>\r\n", b"DATA\r\n"


class Client:
    """A client that speaks octets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> str:
        return (await asyncio.wait_for(self.reader.readline(), 10)).decode().removesuffix("\r\n")

    async def reply(self) -> str:
        """The last line of the next reply; "" when the server has closed."""
        while (line := await self.line())[3:4] == "-":
            pass
        return line

    async def say(self, octets: bytes) -> str:
        self.writer.write(octets)
        return await self.reply()

    async def begin(self) -> None:
        """Up to 354."""
        await self.reply()
        for command in ENVELOPE:
            reply = await self.say(command)
        assert reply.startswith("354")

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass
class Running:
    """Listeners at work and what they know."""

    listeners: Listeners
    spool: MemorySpool
    events: RecordingEvents
    metrics: Metrics
    address: str
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        if sockets.is_unix(self.address):
            client = Client(*await asyncio.open_unix_connection(self.address.removeprefix(sockets.UNIX)))
        else:
            client = Client(*await asyncio.open_connection(*sockets.parse(self.address)))
        self.clients.append(client)
        return client

    def metric(self, start: str) -> list[str]:
        return [line for line in self.metrics.render()[0].decode().splitlines() if line.startswith(start)]


class Keyring:
    """A certificate that can be replaced."""

    def __init__(self) -> None:
        self.context = server_tls()


class Users:
    """The user of the dialogues, known by the name; `checks` counts, `trouble` is raised."""

    def __init__(self) -> None:
        self.checks = 0
        self.trouble: Exception | None = None

    async def verify(self, name: str, password: str) -> str | None:
        self.checks += 1
        if self.trouble:
            raise self.trouble
        return name if (name, password) == (dialogs.USER, dialogs.PASSWORD) else None

    def identity(self, name: str) -> str:
        return name


def trust(directory: Path) -> ssl.SSLContext:
    """A client that trusts the test authority."""
    return ssl.create_default_context(cafile=ca_file(directory))


@contextlib.asynccontextmanager
async def listening(
    address: str = "127.0.0.1:0",
    max_size: int = 40_000_000,
    handler: Handler | None = None,
    more: Mapping[str, Any] | None = None,
    adopted: Mapping[str, socket.socket] | None = None,
    **limits: float,
) -> AsyncIterator[Running]:
    """A listener called `local`; `more` are further settings of it."""
    spool, events, metrics = MemorySpool(), RecordingEvents(), Metrics()
    listeners = Listeners(
        [ListenerSettings("local", address, max_size, **(more or {}))],
        spool=spool,  # type: ignore[arg-type] # only what a listener needs
        hostname=HOST,
        events=events,
        metrics=metrics,
        clock=lambda: NOW,
        limits=Limits(**limits),  # type: ignore[arg-type]
        handler=handler,
        adopted=adopted,
    )
    await listeners.start()
    running = Running(listeners, spool, events, metrics, listeners.addresses[0][1])
    try:
        yield running
    finally:
        for client in running.clients:
            await client.leave()
        await listeners.stop(5)
