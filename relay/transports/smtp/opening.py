"""Opening an SMTP connection: connect, EHLO, TLS and login, by aiosmtplib, up to the point where MAIL can be said.

Certificates are checked and AUTH never leaves in clear beyond this host. Fails with Trouble, which says how far it came.
RFC 5321 §4.1.1.1, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 4616 (PLAIN), RFC 2195 (CRAM-MD5).
"""

from __future__ import annotations

import asyncio
from typing import cast

import aiosmtplib

from relay.model import Verdict
from relay.transports import esmtp, net
from relay.transports.conversation import Connection, Lost, Refused, Trouble
from relay.transports.smtp.settings import SmtpSettings

MECHANISMS = ("plain", "login", "cram-md5")
"""In the order in which they are tried. Under TLS, PLAIN is the surest; CRAM-MD5 is for servers that have nothing else."""

_OTHER_MECHANISM = frozenset({500, 501, 502, 504, 534})  # replies to AUTH after which another mechanism is worth a try
_NO_EHLO = frozenset({500, 502, 504})
_OURS = {"auth": "this host's OpenSSL refuses MD5, which AUTH CRAM-MD5 takes"}  # what a ValueError at a stage comes from


class Client(aiosmtplib.SMTP):
    """The library's client, with its mechanisms in our order, and with the stage."""

    AUTH_METHODS = MECHANISMS
    stage = "connect"  # what is under way: its exceptions do not say


def trouble(stage: str, error: Exception) -> Trouble:
    """What an exception of aiosmtplib, asyncio or ssl means, raised at `stage` (connect, tls, ehlo, starttls, auth)."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        stage = "greeting" if stage == "connect" else stage
        if error.code // 100 in (4, 5):
            return Trouble(stage, esmtp.Reply(error.code, error.message.replace("\n", " ")))
        return Trouble(stage, Lost("garbled reply"))
    ours = isinstance(error, ValueError) and not isinstance(error, OSError)  # a failed certificate is both
    why = _OURS.get(stage, "host or hostname cannot be used") if ours else net.reason(error)
    if why.startswith(("certificate", "TLS")):
        stage = "tls"
    return Trouble(stage, Lost(f"cannot connect: {why}" if stage in ("connect", "tls") else why))


def client_for(settings: SmtpSettings) -> Client:
    """A client that is not connected yet."""
    return Client(
        hostname=settings.host,
        port=settings.port,
        local_hostname=settings.hostname,
        timeout=settings.timeout,
        use_tls=settings.tls == "implicit",
        start_tls=False,
    )


async def open_up(client: Client, settings: SmtpSettings) -> None:
    """Bring the client to where MAIL can be said. Raises Trouble; the client is left as it is then, for a look at it."""
    try:
        async with asyncio.timeout(settings.timeout):
            await _greet(client, settings)
            if settings.username:
                await _login(client, settings)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise trouble(client.stage, error) from error


async def connection(settings: SmtpSettings) -> Connection:
    """A connection on which MAIL can be said. Raises Trouble."""
    client = client_for(settings)
    try:
        await open_up(client, settings)
    except BaseException:
        drop(client)
        raise
    transport = cast(asyncio.Transport, client.transport)
    remote = net.remote(settings.host, transport.get_extra_info("peername"), settings.port)
    extensions = dict(client.esmtp_extensions)
    return Connection(transport, remote, extensions, timeout=settings.timeout, dot_timeout=settings.dot_timeout)


async def _greet(client: Client, settings: SmtpSettings) -> None:
    """Connect, EHLO, and TLS as configured."""
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


async def _login(client: Client, settings: SmtpSettings) -> None:
    """By the mechanism of the settings, or by the first of ours that is offered; the next one where the server does not know it."""
    client.stage = "auth"
    wanted = MECHANISMS if settings.login == "auto" else (settings.login,)
    usable = [mechanism for mechanism in wanted if mechanism in client.supported_auth_methods]
    if not usable:
        names = [f"AUTH {mechanism.upper()}" for mechanism in wanted]
        nothing = f"none of {', '.join(names)} is" if len(names) > 1 else f"{names[0]} is not"
        raise Trouble("auth", Refused(Verdict.PAUSE, "4.7.5", f"{nothing} offered"))
    log_in = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}
    *others, last = usable
    for mechanism in others:
        try:
            await log_in[mechanism](settings.username.encode(), settings.password.encode())
        except aiosmtplib.SMTPAuthenticationError as error:
            if error.code not in _OTHER_MECHANISM:
                raise
        else:
            return
    await log_in[last](settings.username.encode(), settings.password.encode())


def drop(client: Client) -> None:
    """Cut the client's connection, if it has one."""
    transport = client.transport
    client.close()
    if transport:
        cast(asyncio.Transport, transport).abort()
