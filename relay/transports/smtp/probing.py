"""A look at a server without sending mail: connection, TLS, login and extensions, each with what was found and how to mend it.

The same steps as before a transaction (opening.py), then QUIT; MAIL is never said. What the server did is a Check; nothing is
raised for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Sequence
from typing import cast

import aiosmtplib

from relay.model import Verdict
from relay.transports import net
from relay.transports.base import LATER, Check
from relay.transports.conversation import Trouble
from relay.transports.smtp import opening
from relay.transports.smtp.judging import About, blotted, judged
from relay.transports.smtp.settings import SmtpSettings

_CHECKS = ("connect", "tls", "login", "extensions")
# The check that a trouble at each stage belongs to.
_CHECK_OF = {"connect": "connect", "greeting": "connect", "ehlo": "connect", "starttls": "tls", "tls": "tls", "auth": "login"}
NO_LOGIN, NO_TLS = "none is configured", "not used: tls is none"
"""What is said of a check that the configuration leaves nothing to look at for."""

_QUIT_TIMEOUT = 2.0
_DAY = 86_400


async def probe(settings: SmtpSettings) -> Sequence[Check]:
    """Connect, log in as configured, and take leave."""
    client = opening.client_for(settings)
    try:
        return await _look(client, settings)
    finally:
        opening.drop(client)


async def _look(client: opening.Client, settings: SmtpSettings) -> Sequence[Check]:
    found: dict[str, Check] = {}
    reached = len(_CHECKS)
    try:
        await opening.open_up(client, settings)
    except Trouble as trouble:
        failed = _failed(trouble, settings)
        found[failed.what] = failed
        reached = _CHECKS.index(failed.what)
    found |= {what: _passed(what, client, settings) for what in _CHECKS[:reached]}
    if client.is_connected:
        await _quit(client)
    return [found.get(what) or Check(what, None, "not reached") for what in _CHECKS]


async def _quit(client: opening.Client) -> None:
    """Take leave. The library then closes TLS politely, which waits for the server: nobody does that for us."""
    transport = client.transport
    with contextlib.suppress(aiosmtplib.SMTPException, OSError):
        async with asyncio.timeout(_QUIT_TIMEOUT):
            await client.quit()
    if transport:
        cast(asyncio.Transport, transport).abort()


def _failed(trouble: Trouble, settings: SmtpSettings) -> Check:
    """Where too many are connected just now, say, nothing is told about the login."""
    finding = blotted(trouble.finding, settings.username, settings.password)
    remote = net.remote(settings.host, None, settings.port)
    outcome = judged(settings.dialect, trouble.stage, finding, "", About((), ()), remote)
    where = f"{settings.host}:{settings.port}: " if _CHECK_OF[trouble.stage] == "connect" else ""
    if outcome.verdict is Verdict.THROTTLE:
        return Check(
            _CHECK_OF[trouble.stage], None, where + outcome.reply, f"{LATER}: too many are connected just now, or it asks for less"
        )
    return Check(_CHECK_OF[trouble.stage], False, where + outcome.reply, outcome.mend)


def _passed(what: str, client: aiosmtplib.SMTP, settings: SmtpSettings) -> Check:
    if what == "connect":
        transport = client.transport
        peer = transport.get_extra_info("peername") if transport else None
        return Check(what, True, net.remote(settings.host, peer, settings.port))
    if what == "tls":
        return _tls(client, settings)
    if what == "login":
        return Check(what, True, "accepted") if settings.username else Check(what, None, NO_LOGIN)
    offered = sorted(f"{name} {value}".strip().upper() for name, value in client.esmtp_extensions.items())
    return Check(what, True, net.one_line(", ".join(offered)) or "none")


def _tls(client: aiosmtplib.SMTP, settings: SmtpSettings) -> Check:
    secured = client.transport.get_extra_info("ssl_object") if client.transport else None
    if secured is None or settings.tls == "none":
        return Check("tls", None, NO_TLS)
    left = ssl.cert_time_to_seconds(secured.getpeercert()["notAfter"]) - time.time()  # it was accepted, so it has an end
    days = int(left // _DAY)
    return Check("tls", True, f"{secured.version()}, the certificate is valid for {days} more day{'' if days == 1 else 's'}")
