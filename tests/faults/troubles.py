"""What can go wrong with a provider, and providers to which it happens: real local servers that note what they take.

A provider dies in one of two manners. Where there is no `gap`, it notes a mail in the moment in which it answers: what it took was
answered. With a `gap` (the worst case) it notes the mail first, and may die before it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests import apis
from tests.servers import Act, Answer, HttpServer, Request, Response, SmtpServer, Trickle

TOKEN = "not-a-real-token"
TIMEOUT = "2s"
SMALL, LARGE = 2_000, 4_400_000  # octets; the sockets of this host do not hold a large one, so that a cut comes before its end
_SUBJECT = re.compile(rb"^Subject: (\S+)\r?$", re.MULTILINE)
_QUEUE_ID = re.compile(rb"\AReceived: .*?\bid ([0-9A-F]{14})", re.DOTALL)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with the first provider. By SMTP: the answer at each stage; by an API: the answer to a request.

    `moves` says whether mail goes to the second provider: True, False, or None where that depends on the moment. `takes`: it takes
    the message all the same. `poison`: only the message of this id is in trouble. `kills`: nobody listens any more.
    """

    name: str
    smtp: Mapping[str, Answer] = field(default_factory=dict)
    api: Mapping[str, Answer | Response] = field(default_factory=dict)  # by kind
    moves: Mapping[str, bool | None] = field(default_factory=dict)  # by kind
    takes: bool = False
    poison: str = ""
    kills: bool = False
    gap: bool = False
    size: int = SMALL
    count: int = 150

    @property
    def doubles(self) -> bool:
        """Whether the provider takes mail and does not say so: then it gets that mail twice."""
        return self.gap or self.takes


def _said(status: int, body: object, **fields: str) -> Response:
    return Response(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in fields.items()})


def _both(status: int, postmark: object, mailtrap: object, **fields: str) -> Mapping[str, Response]:
    return {"postmark": _said(status, postmark, **fields), "mailtrap": _said(status, mailtrap, **fields)}


KINDS = ("smtp", "postmark", "mailtrap")
YES, NO = dict.fromkeys(KINDS, True), dict.fromkeys(KINDS, False)
TROUBLES: Mapping[str, Trouble] = {
    one.name: one
    for one in (
        Trouble("killed", kills=True, moves=YES),
        Trouble("killed before it answers", kills=True, gap=True, moves=YES),
        # An API that is silent after it got the whole request may have taken it: that mail stays. What it was not given moves.
        Trouble(
            "hanging",
            {stage: Act.HANG for stage in ("greeting", "mail", "data")},
            dict.fromkeys(("postmark", "mailtrap"), Act.HANG),
            YES,
        ),
        # Postmark's own 500 leaves open whether it was sent. The others' says no: after the route's patience it may move.
        Trouble(
            "poison",
            {"dot": "451 4.3.0 internal error"},
            _both(500, {"ErrorCode": 101, "Message": "Error ID: 7"}, {"success": False, "errors": ["Internal server error"]}),
            {"smtp": True, "postmark": False, "mailtrap": True},
            poison="during-17",
        ),
        Trouble(
            "401",
            {"mail": "530 5.7.0 Authentication required"},
            _both(401, {"ErrorCode": 10, "Message": "Bad or missing API token."}, {"success": False, "errors": ["Unauthorized"]}),
            YES,
        ),
        Trouble(
            "403",
            {"greeting": "554 5.7.1 no SMTP service here", "mail": "530 5.7.0 no"},
            {"postmark": Response(403, b"<html>403 Forbidden</html>"), "mailtrap": _said(403, {"errors": ["Account is banned"]})},
            YES,
        ),
        Trouble(
            "429",
            {"mail": "421 4.7.0 too many messages"},
            _both(429, {"ErrorCode": 429, "Message": "Rate limit"}, {"success": False, "errors": ["Rate limit exceeded"]}, Retry_After="2"),
            NO,
        ),
        Trouble(
            "503",
            {"dot": "451 4.3.0 later"},
            _both(503, {"ErrorCode": 100, "Message": "Maintenance"}, {"errors": ["Service unavailable"]}),
            YES,
        ),
        Trouble(
            "cut before the body is complete",
            {"data": Act.CUT},
            dict.fromkeys(("postmark", "mailtrap"), Act.EARLY),
            YES,
            size=LARGE,
            count=8,
        ),
        Trouble("cut after the body", {"dot": Act.CUT}, dict.fromkeys(("postmark", "mailtrap"), Act.CUT), YES, takes=True, count=40),
    )
}


@dataclass(frozen=True)
class Noted:
    """A message that reached a provider whole."""

    name: str
    queue_id: str
    provider: str
    when: float


class Side(ABC):
    """One provider: a local server, the trouble it is in, and what it took."""

    def __init__(self, name: str, noted: list[Noted], gap: bool) -> None:
        self.name = name
        self.noted = noted
        self.gap = gap
        self.trouble: Trouble | None = None
        self.failures = 0
        self.first_failure = 0.0
        self.news = asyncio.Event()

    @abstractmethod
    async def begin(self) -> None:
        """Listen, on the same port each time."""

    @abstractmethod
    async def end(self) -> None:
        """Listen no more; what is under way is cut off."""

    @property
    @abstractmethod
    def config(self) -> str:
        """The provider in relay.yaml."""

    async def fall(self, trouble: Trouble) -> None:
        """Into trouble."""
        self.failures, self.first_failure = 0, 0.0
        self.trouble = trouble
        if trouble.kills:
            await self.end()
            self.failed()

    async def mend(self) -> None:
        """Out of it, on the same port."""
        trouble, self.trouble = self.trouble, None
        if trouble and trouble.kills:
            await self.begin()

    def failed(self) -> None:
        """A message, a connection or the whole provider failed."""
        self.failures += 1
        self.first_failure = self.first_failure or time.monotonic()
        self.news.set()

    def take(self, name: str, queue_id: str) -> None:
        """Note a message."""
        self.noted.append(Noted(name, queue_id, self.name, time.monotonic()))
        self.news.set()

    def troubled(self, name: str) -> bool:
        """Whether the message of this id meets the trouble; "" is any."""
        return self.trouble is not None and (not self.trouble.poison or self.trouble.poison == name)


class Local(Side):
    """A server in this process."""

    @property
    @abstractmethod
    def server(self) -> SmtpServer | HttpServer:
        """The server."""

    async def begin(self) -> None:
        """Listen."""
        await self.server.__aenter__()

    async def end(self) -> None:
        """Cut every connection."""
        await self.server.__aexit__()


class BySmtp(Local):
    """A smarthost."""

    _USUAL: Mapping[str, str] = {"greeting": "220 sink.example ESMTP", "mail": "250 2.1.0 ok", "data": "354 go ahead"}

    def __init__(self, name: str, noted: list[Noted], gap: bool) -> None:
        super().__init__(name, noted, gap)
        self._server = SmtpServer({stage: self._stage(stage) for stage in ("greeting", "mail", "data", "dot")})

    @property
    def server(self) -> SmtpServer:
        """Plain SMTP."""
        return self._server

    @property
    def config(self) -> str:
        """Without a login."""
        return f"{{type: smtp, host: 127.0.0.1, port: {self._server.port}, tls: none, timeout: {TIMEOUT}}}"

    def _stage(self, stage: str) -> Callable[[bytes], Answer]:
        return lambda line: self._answer(stage, line)

    def _answer(self, stage: str, line: bytes) -> Answer:
        subject, queue_id = _SUBJECT.search(line), _QUEUE_ID.search(line)
        name = subject[1].decode() if stage == "dot" and subject else ""
        answer = self.trouble.smtp.get(stage) if self.trouble and self.troubled(name) else None
        if stage == "dot" and (answer is None or (self.trouble and self.trouble.takes)):
            self.take(name, queue_id[1].decode() if queue_id else "")
        if answer is not None:
            self.failed()
            return answer
        if stage == "dot":
            return Trickle(b"250 2.0.0 taken\r\n", 0.001) if self.gap else "250 2.0.0 taken"
        return self._USUAL[stage]


class ByApi(Local):
    """An account with an API."""

    def __init__(self, name: str, noted: list[Noted], gap: bool, kind: str, batches: bool) -> None:
        super().__init__(name, noted, gap)
        self._kind = kind
        self._batches = batches
        self._account: apis.Account = apis.Postmark(TOKEN) if kind == "postmark" else apis.Mailtrap(TOKEN)
        self._server = HttpServer(self._answer)

    @property
    def server(self) -> HttpServer:
        """Plain HTTP."""
        return self._server

    @property
    def config(self) -> str:
        """Without batches one message in a request, so that what becomes of each is told by itself."""
        return _account(self._kind, self._server.url, self._batches)

    async def fall(self, trouble: Trouble) -> None:
        """A cut in the midst of a request is the server's own affair."""
        await super().fall(trouble)
        if trouble.api.get(self._kind) is Act.EARLY:
            self._server.script = [Act.EARLY]
            self.failed()

    async def mend(self) -> None:
        """Listen to whole requests again."""
        self._server.script = self._answer
        await super().mend()

    def _answer(self, request: Request) -> Answer | Response:
        self._account.taken.clear()
        said = self._account(request)
        troubled = any(self.troubled(taken.subject) for taken in self._account.taken)
        answer = self.trouble.api.get(self._kind) if self.trouble and troubled else None
        if answer is None or (self.trouble and self.trouble.takes):
            for taken in self._account.taken:
                self.take(taken.subject, taken.queue_id)
        if answer is not None:
            self.failed()
            return answer
        assert isinstance(said, Response)
        if not self.gap:
            return said
        return Trickle(said.encode(), 0.0)  # other tasks run after each octet, and one of them kills


class ByProcess(Side):
    """A provider in a process of its own, that is ended by SIGKILL: by SMTP, or as Mailtrap's API."""

    def __init__(self, name: str, noted: list[Noted], gap: bool, kind: str, batches: bool, file: Path) -> None:
        super().__init__(name, noted, gap)
        self._kind = kind
        self._batches = batches
        self._file = file
        self._read = 0
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        file.touch()

    @property
    def config(self) -> str:
        """As its kind is."""
        if self._kind == "smtp":
            return f"{{type: smtp, host: 127.0.0.1, port: {self._port}, tls: none, timeout: {TIMEOUT}}}"
        return _account(self._kind, f"http://127.0.0.1:{self._port}", self._batches)

    async def begin(self) -> None:
        """Start the process."""
        module = {"smtp": "tests.faults.sink", "mailtrap": "tests.faults.mailtrap"}[self._kind]
        arguments = ("-m", module, str(self._file), "0.03" if self.gap else "0", str(self._port))
        self._process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout
        self._port = int(await self._process.stdout.readline())
        self._reader = asyncio.create_task(self._follow())

    async def end(self) -> None:
        """SIGKILL."""
        if self._process and self._reader:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._reader.cancel()
            self._look()

    async def _follow(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(0.01)

    def _look(self) -> None:
        """Take over what the process noted."""
        with self._file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode().splitlines():
            name, queue_id, _ = line.split()
            self.take(name, queue_id)


def _account(kind: str, url: str, batches: bool) -> str:
    """An API's provider in relay.yaml."""
    batch = "" if batches else " batch: {max: 1},"
    return f'{{type: {kind}, mode: api, token: {TOKEN}, base_url: "{url}",{batch} timeout: {TIMEOUT}}}'
