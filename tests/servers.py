"""Scripted local servers: an SMTP server and an HTTP server that record every octet and misbehave on request.

Both listen on 127.0.0.1, port 0, are async context managers, and answer well unless their script says otherwise.
A scripted answer is a `str` (CRLF is added), `bytes` (sent as they are), an `Act`, a `Trickle`, or a function of what
was received that returns one of these. TLS certificates come from one throw-away authority (`ca_file`, `server_tls`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

import trustme


class Act(Enum):
    """A misbehaviour in place of an answer."""

    CUT = auto()  # close the connection without a word
    RESET = auto()  # the same with RST
    HANG = auto()  # say nothing until the client leaves
    EARLY = auto()  # HTTP only: close before the request body was read
    STALL = auto()  # HTTP only: read nothing of the request body, and say nothing


@dataclass(frozen=True)
class Trickle:
    """An answer sent one octet at a time with a pause in seconds between them."""

    data: bytes
    pause: float


Answer = str | bytes | Act | Trickle


class Gone(Exception):
    """The script ended this connection."""


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


def ca_file(directory: Path) -> str:
    """Write the authority's certificate into `directory`; returns its path, for a client to trust."""
    path = directory / "ca.pem"
    _authority().cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(*names: str) -> ssl.SSLContext:
    """A server context with a certificate for `names` (default: localhost and 127.0.0.1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some builds of Python begin lower
    _authority().issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    return context


class _Server:
    """Listens, runs one task for each connection, and ends them all on exit."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self._context, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(Gone, OSError, EOFError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
        raise NotImplementedError

    async def _say(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(answer, Trickle):
            for octet in answer.data:
                writer.write(bytes([octet]))
                await writer.drain()
                await asyncio.sleep(answer.pause)
        elif isinstance(answer, Act):
            if answer is Act.HANG:
                while await reader.read(1 << 16):
                    pass
            elif answer is Act.RESET:
                writer.transport.abort()
            raise Gone
        else:
            writer.write(answer if isinstance(answer, bytes) else answer.encode() + b"\r\n")
            await writer.drain()


@dataclass
class Mail:
    """One transaction up to its final dot: arguments of MAIL and of the accepted RCPTs as sent, message unstuffed."""

    mail: bytes
    rcpts: list[bytes] = field(default_factory=list)
    message: bytes = b""
    accepted: bool = False
    encrypted: bool = False
    username: str = ""


class SmtpServer(_Server):
    """An SMTP server.

    `script` maps a stage (greeting, ehlo, starttls, auth, mail, rcpt, data, body, dot, rset, quit) to an answer; for
    `body` only an Act makes sense, done after the first octets of the message. `users` maps names to passwords; with it
    AUTH is offered (under TLS only, unless `auth_in_clear`).
    """

    def __init__(
        self,
        script: Mapping[str, Answer | Callable[[bytes], Answer]] | None = None,
        *,
        extensions: Sequence[str] = ("PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES"),
        users: Mapping[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN",
        auth_in_clear: bool = False,
        starttls: ssl.SSLContext | None = None,
        implicit: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(implicit)
        self.script = dict(script or {})
        self.extensions = extensions
        self.users = users or {}
        self.mechanisms = mechanisms
        self.auth_in_clear = auth_in_clear
        self.starttls = starttls
        self.lines: list[bytes] = []  # every command line of every connection, without CRLF
        self.mails: list[Mail] = []  # every transaction that reached its final dot

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Session(self, reader, writer).run()

    def answer(self, stage: str, line: bytes, default: str) -> Answer:
        """What the script says at `stage`, or `default`."""
        scripted = self.script.get(stage, default)
        return scripted(line) if callable(scripted) else scripted


class _Session:
    """One SMTP connection."""

    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.encrypted = writer.get_extra_info("sslcontext") is not None
        self.username = ""
        self.mail: Mail | None = None

    async def run(self) -> None:
        await self.reply("greeting", b"", "220 test.example ESMTP")
        while line := await self.line():
            verb = line.upper().partition(b" ")[0].decode("latin-1").lower()
            await getattr(self, f"on_{verb}", self.on_unknown)(line)

    async def line(self) -> bytes:
        line = await self.reader.readline()
        self.server.lines.append(line.removesuffix(b"\r\n"))
        return line.removesuffix(b"\r\n")

    async def reply(self, stage: str, line: bytes, default: str) -> bool:
        """Answer; returns whether the answer was a positive one."""
        answer = self.server.answer(stage, line, default)
        await self.server._say(answer, self.reader, self.writer)
        text = answer.encode() if isinstance(answer, str) else answer if isinstance(answer, bytes) else default.encode()
        return text[:1] in (b"2", b"3")

    async def on_unknown(self, line: bytes) -> None:
        await self.reply("unknown", line, "502 5.5.2 what?")

    async def on_ehlo(self, line: bytes) -> None:
        offered = list(self.server.extensions)
        if self.server.starttls and not self.encrypted:
            offered.append("STARTTLS")
        if self.server.users and (self.encrypted or self.server.auth_in_clear):
            offered.append(f"AUTH {self.server.mechanisms}")
        lines = ["test.example", *offered]
        await self.reply("ehlo", line, "\r\n".join([*(f"250-{text}" for text in lines[:-1]), f"250 {lines[-1]}"]))

    async def on_helo(self, line: bytes) -> None:
        await self.reply("helo", line, "250 test.example")

    async def on_starttls(self, line: bytes) -> None:
        if await self.reply("starttls", line, "220 2.0.0 go ahead"):
            assert self.server.starttls is not None
            await self.writer.start_tls(self.server.starttls)
            self.encrypted, self.mail = True, None

    async def on_auth(self, line: bytes) -> None:
        if "auth" in self.server.script:
            await self.reply("auth", line, "")
            return
        _, mechanism, *initial = line.split(b" ")
        name, password = await (self.plain(initial) if mechanism.upper() == b"PLAIN" else self.login(initial))
        if self.server.users.get(name) == password:
            self.username = name
            await self.reply("", line, "235 2.7.0 welcome")
        else:
            await self.reply("", line, "535 5.7.8 no such user or wrong password")

    async def plain(self, initial: list[bytes]) -> tuple[str, str]:
        given = initial[0] if initial else await self.challenge("")
        _, name, password = base64.b64decode(given).decode().split("\0")
        return name, password

    async def login(self, initial: list[bytes]) -> tuple[str, str]:
        name = initial[0] if initial else await self.challenge("Username:")
        password = await self.challenge("Password:")
        return base64.b64decode(name).decode(), base64.b64decode(password).decode()

    async def challenge(self, text: str) -> bytes:
        await self.reply("", b"", f"334 {base64.b64encode(text.encode()).decode()}")
        return await self.line()

    async def on_mail(self, line: bytes) -> None:
        if await self.reply("mail", line, "250 2.1.0 ok"):
            self.mail = Mail(line[len("MAIL FROM:") :], encrypted=self.encrypted, username=self.username)

    async def on_rcpt(self, line: bytes) -> None:
        if await self.reply("rcpt", line, "250 2.1.5 ok" if self.mail else "503 5.5.1 MAIL first") and self.mail:
            self.mail.rcpts.append(line[len("RCPT TO:") :])

    async def on_data(self, line: bytes) -> None:
        ready = self.mail is not None and bool(self.mail.rcpts)
        if not await self.reply("data", line, "354 go ahead" if ready else "554 5.5.1 no valid recipients"):
            return
        mail, self.mail = self.mail or Mail(b""), None
        if isinstance(act := self.server.script.get("body"), Act):
            await self.reader.read(100)
            await self.server._say(act, self.reader, self.writer)
        raw = bytearray(b"\r\n")
        while not raw.endswith(b"\r\n.\r\n"):
            raw += await self.reader.readuntil(b"\n")
        mail.message = bytes(raw.replace(b"\r\n..", b"\r\n.")[2:-3])
        self.server.mails.append(mail)
        mail.accepted = await self.reply("dot", mail.message, f"250 2.0.0 Ok: queued as T{len(self.server.mails)}")

    async def on_rset(self, line: bytes) -> None:
        self.mail = None
        await self.reply("rset", line, "250 2.0.0 ok")

    async def on_noop(self, line: bytes) -> None:
        await self.reply("noop", line, "250 2.0.0 ok")

    async def on_quit(self, line: bytes) -> None:
        await self.reply("quit", line, "221 2.0.0 bye")
        raise Gone


@dataclass(frozen=True)
class Request:
    """One HTTP request as received; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """A well-formed HTTP answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The answer as octets."""
        fields = {"Content-Type": "application/json", "Content-Length": str(len(self.body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} X\r\n{head}\r\n".encode() + self.body


HttpAnswer = Response | Answer


class HttpServer(_Server):
    """An HTTP/1.1 server with keep-alive.

    `script` is a function of the request, or a list of answers given in turn (the last one again and again). `bytes` are
    sent as they are and the connection is closed after them: a cut in the middle of an answer.
    """

    def __init__(
        self, script: Callable[[Request], HttpAnswer] | Sequence[HttpAnswer] = (Response(),), *, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(tls)
        self.script = script
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._context else 'http'}://{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *rest = head.decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
            method, path, _ = first.split(" ")
            if not callable(self.script) and self._next() is Act.EARLY:
                self.requests.append(Request(method, path, headers, b""))
                writer.transport.abort()
                raise Gone
            if not callable(self.script) and self._next() is Act.STALL:
                self.requests.append(Request(method, path, headers, b""))
                writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport has it
                await asyncio.Event().wait()
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Request(method, path, headers, body)
            answer = self.script(request) if callable(self.script) else self._next()
            self.requests.append(request)
            await self._say(answer.encode() if isinstance(answer, Response) else answer, reader, writer)
            if isinstance(answer, bytes):
                raise Gone

    def _next(self) -> HttpAnswer:
        assert not callable(self.script)
        return self.script[min(len(self.requests), len(self.script) - 1)]
