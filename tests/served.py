"""A real spool with the admin API on it, for the tests of the API and of the command line."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay import header, sockets
from relay.admin import Admin, Api, Context
from relay.budgets import Usage
from relay.log import Tail
from relay.metrics import Metrics
from relay.model import Client, Entry, Envelope, Facts, Outcome, Recipient, State, Verdict
from relay.spool.base import Changed, Filter, Recorded
from relay.spool.sqlite import SqliteSpool
from tests.fakes import RecordingEvents

NOW = 1_795_197_421.25  # 2026-11-20 17:57:01.250 UTC
MAIL = b"From: app@example.com\r\nTo: a@example.net\r\nSubject: hello\r\nMessage-ID: <one@web1>\r\n\r\nThe text.\r\n"
SENT = Recorded(Outcome(Verdict.OK, "2.0.0", "250 ok", "mx.example.net[192.0.2.1]:25", remote_id="remote-1"), State.RELAYED)
DEFERRED = Recorded(Outcome(Verdict.RETRY, "4.2.0", "450 mailbox busy", "mx.example.net[192.0.2.1]:25"), State.QUEUED, NOW + 300, since=NOW)

UNKNOWN = Recorded(Outcome(Verdict.UNKNOWN, "4.4.2", "no answer", "mx[192.0.2.1]:25"), State.HELD)


@dataclass(frozen=True)
class Provider:
    """A provider as the daemon tells of it."""

    name: str
    state: str = "up"
    reason: str = ""
    mend: str = ""
    since: float = 0.0
    until: float = 0.0
    waiting: int = 0
    active: int = 0
    by_admin: bool = False
    suspect: str = ""
    usage: Sequence[Usage] = ()


@dataclass(frozen=True)
class Ramp:
    """A ramp as the daemon tells of it."""

    route: str
    shares: Mapping[str, float]
    until: float = 0.0
    behind: float = 0.0
    held_until: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Shadow:
    """A shadow as the daemon tells of it."""

    route: str
    provider: str
    carried: int = 0
    lossy: int = 0
    refused: int = 0
    failed: int = 0
    example: str = ""


@dataclass
class Served:
    """A spool with the admin API on it, and what the API is told by the daemon."""

    spool: SqliteSpool
    admin: Admin
    journal: RecordingEvents
    unix: str
    port: int
    now: float = NOW
    refusing: str = ""
    providers: list[Provider] = field(default_factory=list)
    ramps: list[Ramp] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    hurried: int = 0
    sandboxes: Collection[str] = ()
    problems: Sequence[str] = ()  # of the configuration, when it is read again
    reloads: int = 0
    log: Tail = field(default_factory=Tail)

    async def pause(self, name: str, why: str) -> None:
        """An admin's pause, as the daemon takes it."""
        self._stand(name, Provider(name, "paused", why, "", self.now, math.inf, by_admin=True))

    async def resume(self, name: str) -> None:
        """Its end."""
        self._stand(name, Provider(name))

    def _stand(self, name: str, provider: Provider) -> None:
        self.providers = [provider if one.name == name else one for one in self.providers]

    def hurry(self) -> None:
        """Probe paused providers: counted."""
        self.hurried += 1

    async def bounce(self, what: Filter, why: str) -> AsyncIterator[Sequence[Changed]]:
        """Give up, as the daemon does, but that nobody is told; one entry at a time."""
        for entry in await self.spool.find(what, 1000):
            outcome = Outcome(Verdict.PERM_MSG, "5.7.0", f"given up by an admin: {why}", "relay", own=True)
            meant = {one.recipient.address: Recorded(outcome, State.FAILED, told=True) for one in entry.open}
            await self.spool.record(entry.queue_id, 0, meant, "", "", self.now)
            yield [Changed(entry.queue_id, len(meant), await self.spool.finish(entry.queue_id, self.now, False))]

    async def store(self, *recipients: str, sender: str = "app@example.com", data: bytes = MAIL) -> Entry:
        """A message as the listener would store it."""
        incoming = self.spool.incoming(self.now)
        incoming.write(data)
        block = header.split(data)[0]
        return await incoming.commit(
            arrived=self.now,
            client=Client("local", "127.0.0.1", 4321, "localhost", "web1"),
            envelope=Envelope(sender, tuple(map(Recipient, recipients))),
            facts=Facts(len(data), False, 78),
            header=block,
            message_id=header.first(block, "message-id").decode(),
            edits=(),
        )

    async def attempt(self, entry: Entry, address: str, recorded: Recorded) -> None:
        """An attempt by `ses` on route `default` and what came of it."""
        await self.spool.claim(self.now, 100, 60)
        number = await self.spool.begin(entry.queue_id, [address], "ses", "default", self.now)
        if await self.spool.record(entry.queue_id, number, {address: recorded}, "ses", "default", self.now):
            await self.spool.finish(entry.queue_id, self.now, False)

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, *, tcp: bool = False
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        """(status, JSON or octets, response) of one request in a thread."""
        return await asyncio.to_thread(self._ask, method, path, body, headers or {}, tcp)

    def _ask(
        self, method: str, path: str, body: object, headers: Mapping[str, str], tcp: bool
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        if not tcp:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(10)
            connection.sock.connect(self.unix)
        try:
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            sent = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**sent, **headers})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content, answer


@contextlib.asynccontextmanager
async def serve(directory: Path, *, with_metrics: bool = True) -> AsyncIterator[Served]:
    """An open spool in `directory`/spool and its API on `directory`/new/admin.sock and a port."""
    spool = SqliteSpool(directory / "spool", clock=lambda: NOW)
    await spool.open()
    await spool.probe(0)
    journal = RecordingEvents()

    async def providers() -> Sequence[Provider]:
        return result.providers

    async def reload() -> Sequence[str]:
        result.reloads += 1
        return result.problems

    context = Context(
        version="0.1.0",
        hostname="relay.example.com",
        spool_path=str(directory / "spool"),
        clock=lambda: result.now,
        refusing=lambda: result.refusing,
        providers=providers,
        listeners=lambda: [("local", "127.0.0.1:1025")],
        test_sender=lambda: "mailer-daemon@relay.example.com",
        pid=812,
        started=NOW - 60,
        reload=reload,
        reloaded=lambda: "provider ses changed",
        tail=lambda: result.log.subscribe(),
        hurry=lambda: result.hurry(),
        pause=lambda name, why: result.pause(name, why),
        resume=lambda name: result.resume(name),
        bounce=lambda what, why: result.bounce(what, why),
        sandboxes=lambda: result.sandboxes,
        ramps=lambda: result.ramps,
        shadows=lambda: result.shadows,
    )
    metrics = Metrics(version="0", listeners=["local"], providers=["ses"]) if with_metrics else None
    unix = str(directory / "new" / "admin.sock")
    admin = Admin([f"unix:{unix}", "127.0.0.1:0"], Api(context, spool, spool=spool, events=journal, metrics=metrics))
    await admin.start()
    result = Served(spool, admin, journal, unix, sockets.parse(admin.addresses[1])[1])
    try:
        yield result
    finally:
        await admin.stop()
        await spool.close()
