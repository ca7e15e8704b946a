"""The one door to HTTP: one request in, a complete answer or one exception out.

Promises: certificate and host name are checked; no proxy, trust or login comes from the environment; no redirect is
followed; nothing is sent twice; an answer is at most 1 MiB, undecoded; the whole exchange ends within `timeout`.
HttpTrouble says how far it came, because that decides whether the message may have been taken: before the last piece
of the body was handed over (`connect`, `tls`, `send`) it surely was not; after that (`answer`) nobody knows. Unless the
status line was read and refuses the request (4xx): that is an answer, though the rest of it be cut, late or too large.
Texts of exceptions and logs hold no header, body, path or query, and so no secret.

Built on httpx's transport, one for each request under way: the shared pool of httpx costs 3.6 times the CPU at
20 requests at once (docs/decisions/004-outbound.md). RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx

from relay.transports import net
from relay.transports.bodies import Body

MAX_ANSWER = 1024 * 1024
_PIECE = 64 * 1024
_KEEP_ALIVE = 15.0  # seconds; well under the idle limits of common front ends, so that a reused connection is seldom stale
_FIELD_VALUE = re.compile(r"[\x20-\x7e\t]*")
_SECONDS = re.compile(r"[0-9]{1,9}")
_MAX_DATE = 100  # characters
_MAX_RETRY_AFTER = 86400.0  # seconds
_OF_ANY_SERVER = frozenset({"content-type", "date", "retry-after", "x-request-id"})  # header fields that blame nobody

Stage = Literal["connect", "tls", "send", "answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, or the refusal that an incomplete one is. Header names are in lower case; `connect_s` ends where the
    body begins to leave."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    remote: str
    connect_s: float
    send_s: float

    def date(self) -> float | None:
        """When the remote says it answered, in Unix seconds."""
        return _date(self.headers.get("date", ""))

    def retry_after(self) -> float | None:
        """Seconds from now, at most a day; a date counts from the answer's own Date (RFC 9110 §10.2.3)."""
        value = self.headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(value):
            return min(float(value), _MAX_RETRY_AFTER)
        until, now = _date(value), self.date()
        return None if until is None or now is None else min(max(until - now, 0.0), _MAX_RETRY_AFTER)


def _date(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value[:_MAX_DATE])
        return moment.timestamp() if moment.tzinfo else None  # without a zone it would be read in ours
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class HttpTrouble(Exception):
    """No complete answer. `text` is one printable line without secrets; at stage `answer` the request may have been taken."""

    def __init__(self, stage: Stage, text: str, remote: str) -> None:
        self.stage: Stage = stage
        self.text = text
        self.remote = remote
        super().__init__(text)


class _Body(httpx.AsyncByteStream):
    """The request's body in pieces. `begun` and `handed_over` tell how far it came: the transport asks for a piece only
    when it has written the one before."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.begun = 0.0
        self.handed_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = time.monotonic()
        held = b""
        for piece in self._pieces():
            if held:
                yield held
            held = piece
        self.handed_over = True
        yield held

    def _pieces(self) -> Iterator[bytes]:
        for part in self._body.pieces():
            for start in range(0, len(part), _PIECE):
                yield part[start : start + _PIECE]


class _Line:
    """One connection, kept alive between requests, and whom it last spoke to."""

    def __init__(self, context: ssl.SSLContext, remote: str) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEP_ALIVE)
        self.transport = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)
        self.remote = remote


class Http:
    """POSTs to one base URL with at most `concurrency` requests under way; `timeout` is seconds for a whole exchange."""

    def __init__(self, *, base_url: str, timeout: float, concurrency: int, ca_file: str | None = None) -> None:
        self._url = httpx.URL(base_url)
        if self._url.scheme != "https" and not (self._url.scheme == "http" and net.is_loopback(self._url.host)):
            raise ValueError("base_url must be https, or http on loopback")
        self._timeout = timeout
        self._ca_file = ca_file
        self._slots = asyncio.Semaphore(concurrency)
        self._idle: list[_Line] = []
        self._answered = ""

    @property
    def remote(self) -> str:
        """`host[unknown]:port`: the other side before a connection told its address."""
        return net.remote(self._url.host, None, self._url.port or (443 if self._url.scheme == "https" else 80))

    @property
    def peer(self) -> str:
        """`host[ip]:port` of the other side that answered last; `remote` where none did."""
        return self._answered or self.remote

    def target(self, path: str) -> tuple[str, str]:
        """(Host field, path) of a request to `path` below the base URL, as they will be sent: what a signature covers."""
        return self._url.netloc.decode("ascii"), (self._url.raw_path.rstrip(b"/") + path.encode("ascii")).decode("ascii")

    async def post(self, path: str, headers: Mapping[str, str], body: bytes | Body) -> Answer:
        """POST `body` to `path` below the base URL. Raises HttpTrouble, and nothing else, for what the network or remote did."""
        return await self._ask("POST", path, headers, Body((body,)) if isinstance(body, bytes) else body)

    async def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """GET `path`, with its query, below the base URL. Raises HttpTrouble as `post` does."""
        return await self._ask("GET", path, headers, None)

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        request = self._request(method, path, headers, body)
        async with self._slots:
            line = self._idle.pop() if self._idle else self._open()
            try:
                answer, whole = await self._exchange(line, request)
            except BaseException:
                await line.transport.aclose()
                raise
            if whole:
                self._idle.append(line)
            else:
                await line.transport.aclose()
            return answer

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().transport.aclose()

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: Body | None) -> httpx.Request:
        if any(not _FIELD_VALUE.fullmatch(value) for value in headers.values()):
            # The library would refuse it as well, but quotes the value, which may be a token.
            raise HttpTrouble("send", "a header value holds characters that HTTP does not allow", self.remote)
        host, target = self.target(path)
        url = self._url.copy_with(raw_path=target.encode("ascii"))
        fields = {
            "Host": host,
            "User-Agent": "relay",
            "Accept-Encoding": "identity",
            **headers,
            **({"Content-Length": str(body.size)} if body else {}),
        }
        # TCP and TLS get half of the time each: the library closes its socket on its own time-outs, not when cancelled by ours.
        timeout = httpx.Timeout(self._timeout, connect=self._timeout / 2).as_dict()
        return httpx.Request(method, url, headers=fields, stream=_Body(body or Body(())), extensions={"timeout": timeout})

    def _open(self) -> _Line:
        try:
            return _Line(net.tls_context(self._ca_file), self.remote)
        except OSError as error:
            raise HttpTrouble("tls", f"cannot use ca_file: {net.reason(error)}", self.remote) from error

    async def _exchange(self, line: _Line, request: httpx.Request) -> tuple[Answer, bool]:
        """The answer, and whether it is complete."""
        started = time.monotonic()
        body = request.stream
        assert isinstance(body, _Body)
        text = bytearray()
        response: httpx.Response | None = None
        trouble: HttpTrouble | None = None
        try:
            async with asyncio.timeout(self._timeout):
                response = await line.transport.handle_async_request(request)
                try:
                    line.remote = self._answered = self._peer(response)
                    await self._read(response, text, line.remote)
                finally:
                    await response.aclose()
        except (HttpTrouble, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            trouble = error if isinstance(error, HttpTrouble) else HttpTrouble(_stage(body, error), _words(body, error), line.remote)
            if response is None or response.status_code // 100 != 4:
                raise trouble from (None if trouble is error else error)
        now = time.monotonic()
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
        if trouble:
            # What there is of it is neither read nor shown: half a text, or a code without its text, might say something else, and
            # half of a token that it quotes would not be known for one.
            text[:] = f"(incomplete: {trouble.text.rpartition(': ')[2]})".encode()
            fields = {name: value for name, value in fields.items() if name in _OF_ANY_SERVER}
        answer = Answer(response.status_code, fields, bytes(text), line.remote, body.begun - started, now - body.begun)
        return answer, trouble is None

    def _peer(self, response: httpx.Response) -> str:
        peer = response.extensions["network_stream"].get_extra_info("server_addr")
        return net.remote(self._url.host, peer, self._url.port or 443)

    async def _read(self, response: httpx.Response, text: bytearray, remote: str) -> None:
        async for piece in response.aiter_raw():
            text += piece
            if len(text) > MAX_ANSWER:
                raise HttpTrouble("answer", f"answer larger than {MAX_ANSWER} octets", remote)


def _stage(body: _Body, error: Exception) -> Stage:
    """How far the request came: told by the body, which knows what it handed over, not by the exception."""
    if body.handed_over:
        return "answer"
    if body.begun or isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.ProtocolError)):
        return "send"
    return "tls" if net.reason(error).startswith(("certificate", "TLS")) else "connect"


def _words(body: _Body, error: Exception) -> str:
    where = {
        "connect": "cannot connect",
        "tls": "cannot connect",
        "send": "connection failed before the request was sent",
        "answer": "no complete answer after the request was sent",
    }
    why = "cut, or not HTTP" if isinstance(error, httpx.ProtocolError) else net.reason(error)
    return f"{where[_stage(body, error)]}: {why}"
