"""SMTP to one configured server: a smarthost, or a provider's SMTP door.

Promises: certificates are checked and AUTH never leaves in clear beyond this host; connections are kept and used again;
every recipient gets exactly one outcome, judged by the reply's first digit and the stage (relay/verdicts.py). Fails
only with Outcomes: until the final dot is handed over the message is surely not taken; after it, without a reply,
nobody knows (UNKNOWN). Where the message cannot be read, SpoolError comes out, and the connection is cut before the dot.
A kept connection that is dead before it answered MAIL is replaced once, silently.

aiosmtplib connects, greets, starts TLS and logs in. From MAIL on relay/transports/conversation.py speaks, because the
library parses addresses again, does not keep the stage, has no PIPELINING and sends a message as one buffer
(docs/decisions/004-outbound.md). RFC 5321, 3207 (STARTTLS), 4954 (AUTH).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import aiosmtplib

from relay import edits, header, mime, verdicts
from relay.model import Edit, Job, Message, Outcome, Verdict
from relay.transports import esmtp, net
from relay.transports.base import Outcomes
from relay.transports.conversation import CLOSING, SMALL, Connection, Finding, Found, Lost, Refused, Transaction, Trouble

_MAX_AGE = 300.0  # seconds one connection is used at most; providers ask to reconnect regularly
_CLOSE_TIMEOUT = 2.0
_MAX_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1
_THREAD = 256 * 1024  # a message from this size on is re-encoded in a thread
_OTHER_MECHANISM = frozenset({500, 501, 502, 504, 534})  # replies to AUTH PLAIN after which LOGIN is worth a try
_NO_EHLO = frozenset({500, 502, 504})

_STATUS = {"connect": "4.4.1", "tls": "4.7.5"}
_MENDS = {
    "connect": "check host and port in the configuration, and that the server is up",
    "tls": "the certificate must be valid and name the host; set ca_file where a private authority signed it",
    "starttls": "the server must offer STARTTLS; where it speaks TLS from the start, set tls: implicit",
    "auth": "correct username and password in the configuration, then restart relay",
}
_MEND = "read the server's reply: it refuses this host or account, not the message"


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach the server. Times are seconds: `timeout` for opening a connection, for each reply and for each pause in
    sending, `dot_timeout` for the reply to the final dot, `idle` until a kept connection is closed. `max_recipients` bounds
    one transaction, `max_messages` one connection.
    """

    provider: str
    host: str
    port: int
    hostname: str  # what we call ourselves in EHLO
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str | None = None
    timeout: float = 60.0
    dot_timeout: float = 600.0  # RFC 5321 §4.5.3.2.6
    concurrency: int = 10
    max_recipients: int = 100
    max_messages: int = 100
    idle: float = 10.0

    def __post_init__(self) -> None:
        if self.tls == "none" and self.username and not net.is_loopback(self.host):
            raise ValueError("credentials without TLS may only go to this host itself")


class _Stale(Exception):
    """A kept connection that was dead before it answered MAIL."""


class _Client(aiosmtplib.SMTP):
    """The library's client, without CRAM-MD5, and with the stage."""

    AUTH_METHODS = ("plain", "login")
    stage = "connect"  # what is under way: its exceptions do not say


def outcome(stage: str, finding: Finding, remote: str, connect_s: float = 0.0, send_s: float = 0.0) -> Outcome:
    """The outcome for a recipient whose way ended at `stage` with `finding`."""
    identifier = ""
    if isinstance(finding, Refused):
        verdict, status, text = finding.verdict, finding.status, finding.text
    elif isinstance(finding, Lost):
        verdict = verdicts.lost(stage)
        status, text = _STATUS.get(stage, "4.4.2"), f"{finding.text} ({stage})"
    else:
        verdict = verdicts.smtp(stage, finding.code, finding.text)
        status, text = verdicts.status(verdict, finding.text), f"{finding.code} {finding.text}"
        identifier = esmtp.remote_id(finding.text) if verdict is Verdict.OK else ""
    return Outcome(
        verdict,
        status,
        net.one_line(text),
        remote,
        own=not isinstance(finding, esmtp.Reply),
        remote_id=identifier,
        connect_s=connect_s,
        send_s=send_s,
        mend=_MENDS.get(stage, _MEND) if verdict is Verdict.PAUSE else "",
    )


def trouble(stage: str, error: Exception) -> Trouble:
    """What an exception of aiosmtplib, asyncio or ssl means, raised at `stage` (connect, tls, ehlo, starttls, auth)."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        stage = "greeting" if stage == "connect" else stage
        if error.code // 100 in (4, 5):
            return Trouble(stage, esmtp.Reply(error.code, error.message.replace("\n", " ")))
        return Trouble(stage, Lost("garbled reply"))
    ours = isinstance(error, ValueError) and not isinstance(error, OSError)  # a failed certificate is both
    why = "host or hostname cannot be used" if ours else net.reason(error)
    if why.startswith(("certificate", "TLS")):
        stage = "tls"
    return Trouble(stage, Lost(f"cannot connect: {why}" if stage in ("connect", "tls") else why))


class Smtp:
    """The transport. At most `concurrency` connections are kept between attempts."""

    max_batch = 1
    carries_reports = True

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._closing: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def provider(self) -> str:
        """The provider's configured name."""
        return self._settings.provider

    @property
    def concurrency(self) -> int:
        """How many attempts may be under way at once."""
        return self._settings.concurrency

    async def prepare(self, job: Job) -> Sequence[Job]:
        """Split into transactions of at most `max_recipients`. What the server can take is known only once it is asked."""
        size = self._settings.max_recipients
        return [replace(job, recipients=job.recipients[at : at + size]) for at in range(0, len(job.recipients), size)]

    def identity(self, job: Job) -> Sequence[str]:
        """None: an SMTP reply does not tell a bad identity from a bad account."""
        return ()

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """One transaction for each job."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job in jobs:
            outcomes.update(await self._attempt(job))
        return outcomes

    async def aclose(self) -> None:
        """Take leave on every idle connection; wait a moment, then cut what is left."""
        if self._sweeper:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._quit(self._idle.pop())
        if closing := {connection.closed: connection for connection in self._closing}:
            _, late = await asyncio.wait(closing, timeout=_CLOSE_TIMEOUT)
            for future in late:
                closing[future].abort("")

    async def _attempt(self, job: Job) -> dict[tuple[str, str], Outcome]:
        started = opened = time.monotonic()
        remote = net.remote(self._settings.host, None, self._settings.port)
        found: Found | None = None
        try:
            if connection := self._reuse():
                remote = connection.remote
                with contextlib.suppress(_Stale):
                    found = await self._use(connection, job)
            if found is None:
                connection = await self._open()
                remote, opened = connection.remote, time.monotonic()
                found = await self._use(connection, job)
        except Trouble as error:
            found = [(error.stage, error.finding)] * len(job.recipients)
        connect_s, send_s = opened - started, time.monotonic() - opened
        return {
            (job.queue_id, recipient.address): outcome(stage, self._without_secrets(finding), remote, connect_s, send_s)
            for recipient, (stage, finding) in zip(job.recipients, found, strict=True)
        }

    # The pool.

    def _reuse(self) -> Connection | None:
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.released < self._settings.idle and now - connection.opened < _MAX_AGE:
                return connection
            self._quit(connection)
        return None

    def _keep(self, connection: Connection) -> None:
        connection.end()
        if not connection.usable or connection.messages >= self._settings.max_messages or len(self._idle) >= self.concurrency:
            self._quit(connection)
            return
        self._idle.append(connection)
        if not self._sweeper:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle too long; the oldest stand first."""
        limit = time.monotonic() - self._settings.idle
        while self._idle and self._idle[0].released <= limit:
            self._quit(self._idle.pop(0))
        again = asyncio.get_running_loop().call_later(self._settings.idle, self._sweep) if self._idle else None
        self._sweeper = again

    def _quit(self, connection: Connection) -> None:
        if not connection.closed.done():
            self._closing.add(connection)
            connection.closed.add_done_callback(lambda _: self._closing.discard(connection))
            connection.quit()

    # Opening.

    async def _open(self) -> Connection:
        """A connection on which MAIL can be said. Raises Trouble."""
        settings = self._settings
        client = _Client(
            hostname=settings.host,
            port=settings.port,
            local_hostname=settings.hostname,
            timeout=settings.timeout,
            use_tls=settings.tls == "implicit",
            start_tls=False,
        )
        try:
            async with asyncio.timeout(settings.timeout):
                await self._greet(client)
                if settings.username:
                    await self._login(client)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            _drop(client)
            raise trouble(client.stage, error) from error
        except BaseException:
            _drop(client)
            raise
        transport = cast(asyncio.Transport, client.transport)
        remote = net.remote(settings.host, transport.get_extra_info("peername"), settings.port)
        extensions = dict(client.esmtp_extensions)
        return Connection(transport, remote, extensions, timeout=settings.timeout, dot_timeout=settings.dot_timeout)

    async def _greet(self, client: _Client) -> None:
        """Connect, EHLO, and TLS as configured."""
        settings = self._settings
        if settings.tls != "none":
            try:
                client.tls_context = net.tls_context(settings.ca_file)
            except OSError as error:
                raise Trouble("tls", Lost(f"cannot use ca_file: {net.reason(error)}")) from error
        await client.connect()
        client.stage = "ehlo"
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in _NO_EHLO or settings.tls == "starttls" or settings.username:
                raise
            await client.helo()
        if settings.tls == "starttls":
            client.stage = "starttls"
            if not client.supports_extension("starttls"):
                raise Trouble("starttls", Refused(Verdict.PAUSE, "4.7.10", "STARTTLS is not offered; nothing was sent in clear"))
            await client.starttls()
            await client.ehlo()

    async def _login(self, client: _Client) -> None:
        client.stage = "auth"
        name, password = self._settings.username.encode(), self._settings.password.encode()
        offered = client.supported_auth_methods
        if not offered:
            raise Trouble("auth", Refused(Verdict.PAUSE, "4.7.5", "neither AUTH PLAIN nor AUTH LOGIN is offered"))
        if "plain" in offered:
            try:
                await client.auth_plain(name, password)
            except aiosmtplib.SMTPAuthenticationError as error:
                if error.code not in _OTHER_MECHANISM or "login" not in offered:
                    raise
            else:
                return
        await client.auth_login(name, password)

    def _without_secrets(self, finding: Finding) -> Finding:
        """A server may quote what it was sent, at any stage."""
        name, password = self._settings.username.encode(), self._settings.password.encode()
        if not password:
            return finding
        text = finding.text
        for secret in (b64encode(b"\0%s\0%s" % (name, password)), b64encode(password), password):
            text = text.replace(secret.decode(), "[password]")
        return finding if text == finding.text else replace(finding, text=text)

    # One transaction.

    async def _use(self, connection: Connection, job: Job) -> Found:
        """One transaction on an open connection. Raises Trouble, or _Stale when the connection had been dead before."""
        fresh = connection.messages == 0
        connection.begin()
        try:
            found = await connection.transact(await _transaction(job, connection.extensions))
        except Trouble as error:
            if isinstance(error.finding, Refused):
                self._keep(connection)
                raise
            connection.abort("")
            raise error if fresh else _Stale from error
        except BaseException:
            connection.abort("")
            raise
        self._keep(connection)
        stage, finding = found[0]
        if not fresh and stage == "mail" and isinstance(finding, esmtp.Reply) and finding.code == CLOSING:
            raise _Stale
        return found


def _drop(client: _Client) -> None:
    transport = client.transport
    client.close()
    if transport:
        cast(asyncio.Transport, transport).abort()


async def _transaction(job: Job, extensions: esmtp.Extensions) -> Transaction:
    """What to say to a server with these extensions. Raises Trouble with Refused when they do not suffice."""
    message, facts = job.message, job.message.facts
    utf8 = esmtp.needs_smtputf8(job.envelope, job.recipients, message.header)
    if utf8 and "smtputf8" not in extensions:
        raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.6.7", "the message needs SMTPUTF8, which the server does not offer"))
    block, eight_bit = message.header, facts.eight_bit
    length = facts.size - len(block)
    body: AsyncIterator[bytes] | bytes | None = None
    must = eight_bit and "8bitmime" not in extensions
    if (must or facts.longest_line > _MAX_LINE) and (converted := await _seven_bit(job, must)):
        block, body = converted
        eight_bit = eight_bit and not (block.isascii() and body.isascii())
        length = len(body)
    block = edits.apply(block, job.edits)
    size = len(block) + length
    limit = esmtp.size_limit(extensions)
    if limit and size > limit:
        raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.3.4", f"the message has {size} octets; the server takes {limit}"))
    if body is None:
        skip = len(message.header)
        body = (await message.read())[skip:] if size <= SMALL else _after(message, skip)
    mail = esmtp.mail(job.envelope, extensions, size=size, eight_bit=eight_bit, utf8=utf8)
    return Transaction(mail, [esmtp.rcpt(recipient, extensions) for recipient in job.recipients], block, body, size)


async def _seven_bit(job: Job, must: bool) -> tuple[bytes, bytes] | None:
    """Header block and rest of the message with lines of 998 octets, and 7 bits where it `must`; None when it goes as it is:
    there is nothing to do, or it may not be touched."""
    data = await job.message.read()
    try:
        convert = functools.partial(_convert, data, job.message.header, job.edits, must)
        return await asyncio.to_thread(convert) if len(data) > _THREAD else convert()
    except mime.MimeError as error:
        if must:
            raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.6.3", f"8BITMIME is not offered, and {error}")) from error
        return None


def _convert(data: bytes, stored: bytes, changes: Sequence[Edit], must: bool) -> tuple[bytes, bytes] | None:
    """Header block and rest, re-encoded; None when nothing changes. What no recipient may see is out before that: in a torn
    header block it would become text."""
    shown = edits.strip(stored, changes) + data[len(stored) :]
    converted = mime.to_seven_bit(shown, eight_bit=must)
    if converted is shown:
        return None
    block, body = header.split(converted)
    ended = data.startswith(b"\r\n", len(stored))
    return block, converted[len(block) if ended else body :]  # where no empty line was, the edits bring one


async def _after(message: Message, skip: int) -> AsyncIterator[bytes]:
    """The message's octets after the first `skip`."""
    async for chunk in message.chunks():
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))
