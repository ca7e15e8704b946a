"""What can go wrong with a provider, and providers to which it happens: real local servers that note what they take."""

from __future__ import annotations

import asyncio
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
    size: int = SMALL
    count: int = 150


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
        # An API that is silent after it got the whole request may have taken it: that mail stays.
        Trouble(
            "hanging",
            {stage: Act.HANG for stage in ("greeting", "mail", "data")},
            dict.fromkeys(("postmark", "mailtrap"), Act.HANG),
            {"smtp": True, "postmark": False, "mailtrap": False},
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
        Trouble("cut after the body", {"dot": Act.CUT}, dict.fromkeys(("postmark", "mailtrap"), Act.CUT), NO, takes=True, count=40),
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

    def __init__(self, name: str, noted: list[Noted]) -> None:
        self.name = name
        self.noted = noted
        self.trouble: Trouble | None = None
        self.failures = 0
        self.first_failure = 0.0
        self.news = asyncio.Event()

    @property
    @abstractmethod
    def server(self) -> SmtpServer | HttpServer:
        """The server."""

    @property
    @abstractmethod
    def config(self) -> str:
        """The provider in relay.yaml."""

    async def fall(self, trouble: Trouble) -> None:
        """Into trouble."""
        self.failures, self.first_failure = 0, 0.0
        self.trouble = trouble
        if trouble.kills:
            await self.server.__aexit__()
            self.failed()

    async def mend(self) -> None:
        """Out of it, on the same port."""
        trouble, self.trouble = self.trouble, None
        if trouble and trouble.kills:
            await self.server.__aenter__()

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


class BySmtp(Side):
    """A smarthost."""

    _USUAL: Mapping[str, str] = {"greeting": "220 sink.example ESMTP", "mail": "250 2.1.0 ok", "data": "354 go ahead"}

    def __init__(self, name: str, noted: list[Noted]) -> None:
        super().__init__(name, noted)
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
        # A gap in which a kill leaves the outcome unknown.
        return Trickle(b"250 2.0.0 taken\r\n", 0.001) if stage == "dot" else self._USUAL[stage]


class ByApi(Side):
    """An account with an API."""

    def __init__(self, name: str, noted: list[Noted], kind: str) -> None:
        super().__init__(name, noted)
        self._kind = kind
        self._account: apis.Account = apis.Postmark(TOKEN) if kind == "postmark" else apis.Mailtrap(TOKEN)
        self._server = HttpServer(self._answer)

    @property
    def server(self) -> HttpServer:
        """Plain HTTP."""
        return self._server

    @property
    def config(self) -> str:
        """One message in a request, so that what becomes of each is told by itself."""
        return f'{{type: {self._kind}, mode: api, token: {TOKEN}, base_url: "{self._server.url}", batch: {{max: 1}}, timeout: {TIMEOUT}}}'

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
        said = self._account(request)
        taken = self._account.taken.pop()
        answer = self.trouble.api.get(self._kind) if self.trouble and self.troubled(taken.subject) else None
        if answer is None or (self.trouble and self.trouble.takes):
            self.take(taken.subject, taken.queue_id)
        if answer is not None:
            self.failed()
            return answer
        assert isinstance(said, Response)
        return Trickle(said.encode(), 0.0001)
