"""A look at a server: what each check finds, and that no mail is sent for it."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.transports import presets
from relay.transports.base import ALONE, Check
from relay.transports.smtp import Smtp, SmtpSettings, by_preset
from tests.jobs import job
from tests.servers import Act, SmtpServer, ca_file, server_tls

SECRET = "canary-password"
NOT_REACHED = "not reached"


@asynccontextmanager
async def looked_at(server: SmtpServer, **more: Any) -> AsyncIterator[dict[str, Check]]:
    """What a probe of this server found, by the name of the check; nobody ever says MAIL."""
    async with server:
        given: dict[str, Any] = {"tls": "none", "timeout": 5.0, **more}
        transport = Smtp(SmtpSettings("p", "localhost", server.port, "relay.test", **given))
        found = await transport.probe()
        await transport.aclose()
        yield {check.what: check for check in found}
    assert ["connect", "tls", "login", "extensions"] == [check.what for check in found]
    assert not any(line.upper().startswith((b"MAIL", b"RCPT", b"DATA")) for line in server.lines)
    assert SECRET not in repr(found)


def secured(context: ssl.SSLContext, tls: str) -> SmtpServer:
    """A server that speaks TLS in this way."""
    users = {"relay": SECRET}
    return SmtpServer(users=users, implicit=context) if tls == "implicit" else SmtpServer(users=users, starttls=context)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_all_is_well(tmp_path: Path, tls: str) -> None:
    """Connection, certificate, login and extensions are each told, and leave is taken."""
    server = secured(server_tls(), tls)
    async with looked_at(server, tls=tls, ca_file=ca_file(tmp_path), username="relay", password=SECRET) as found:
        assert [True] * 4 == [check.ok for check in found.values()]
        assert f"localhost[127.0.0.1]:{server.port}" == found["connect"].text
        assert found["tls"].text.startswith("TLSv1.3, the certificate is valid for ")
        assert "accepted" == found["login"].text
        assert "8BITMIME, AUTH PLAIN LOGIN, ENHANCEDSTATUSCODES, PIPELINING, SIZE 50000000" == found["extensions"].text
        assert {""} == {check.mend for check in found.values()}
    assert b"QUIT" == server.lines[-1]


async def test_neither_tls_nor_login() -> None:
    """Where none is configured there is nothing to tell; a server that knows only HELO has no extensions."""
    async with looked_at(SmtpServer({"ehlo": "502 5.5.1 what?"})) as found:
        assert [True, None, None, True] == [check.ok for check in found.values()]
        assert ["not used: tls is none", "none is configured", "none"] == [found[what].text for what in ("tls", "login", "extensions")]


async def test_wrong_password(tmp_path: Path) -> None:
    """A refused login says what the server said, and what to mend; what came before was as it should be."""
    server = SmtpServer({"auth": f"535 5.7.8 no, not {SECRET}"}, users={"relay": "x"}, starttls=server_tls())
    async with looked_at(server, tls="starttls", ca_file=ca_file(tmp_path), username="relay", password=SECRET) as found:
        assert [True, True, False, None] == [check.ok for check in found.values()]
        assert "535 5.7.8 no, not [password]" == found["login"].text
        assert found["login"].mend.startswith("correct username and password")
        assert NOT_REACHED == found["extensions"].text


@pytest.mark.parametrize(
    ("reply", "ok", "mend"),
    [
        ("535 5.7.8 Too many connections per account", None, "try again later: "),
        ("535 5.7.0 Invalid login or password", False, "check the token"),
        ("535 5.7.0 Monthly messages limit reached", False, "the plan's number of messages is used up"),
    ],
)
async def test_a_providers_own_words(tmp_path: Path, reply: str, ok: bool | None, mend: str) -> None:
    """Replies are read as in sending: too many connections tell nothing about the token."""
    server = SmtpServer({"auth": reply}, users={"api": "x"}, starttls=server_tls())
    async with server:
        preset = presets.mailtrap("bulk", SECRET)
        settings = by_preset(preset, provider="p", hostname="h", host="localhost", port=server.port, ca_file=ca_file(tmp_path))
        [login] = [check for check in await Smtp(settings).probe() if check.what == "login"]
    assert (ok, reply) == (login.ok, login.text)
    assert login.mend.startswith(mend)


async def test_no_starttls() -> None:
    """Nothing is said in clear to a server that offers no STARTTLS."""
    server = SmtpServer(users={"relay": SECRET}, auth_in_clear=True)
    async with looked_at(server, tls="starttls", username="relay", password=SECRET) as found:
        assert [True, False, None, None] == [check.ok for check in found.values()]
        assert "STARTTLS is not offered; nothing was sent in clear" == found["tls"].text
        assert found["tls"].mend.startswith("the server must offer STARTTLS")
    assert not any(line.startswith(b"AUTH") for line in server.lines)


def expired(directory: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate that has ended, and the authority to trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ended = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority.issue_cert("localhost", not_before=ended - datetime.timedelta(days=9), not_after=ended).configure_cert(context)
    path = directory / "other.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_certificates(tmp_path: Path, tls: str) -> None:
    """A certificate that has ended, is another host's or nobody's we trust is told as such."""
    context, trusted = expired(tmp_path)
    for made, ca, text in (
        (context, trusted, "certificate has expired"),
        (server_tls("other.example"), ca_file(tmp_path), "Hostname mismatch"),
        (server_tls(), None, "unable to get local issuer certificate"),
    ):
        server = secured(made, tls)
        async with looked_at(server, tls=tls, ca_file=ca, username="relay", password=SECRET) as found:
            assert [True, False, None, None] == [check.ok for check in found.values()]
            assert text in found["tls"].text
            assert found["tls"].mend.startswith("the certificate must be valid and name the host")


async def test_a_silent_server() -> None:
    """A server that does not greet is left at the deadline."""
    async with looked_at(SmtpServer({"greeting": Act.HANG}), timeout=0.2) as found:
        assert [False, None, None, None] == [check.ok for check in found.values()]
        assert "timed out" in found["connect"].text
        assert found["connect"].mend.startswith("check host and port")


async def test_a_server_that_refuses_us() -> None:
    """A greeting that refuses us is the connection's finding; one that says it is busy tells nothing."""
    async with looked_at(SmtpServer({"greeting": "554 5.7.1 go away"})) as found:
        assert (False, NOT_REACHED) == (found["connect"].ok, found["tls"].text)
        assert "554 5.7.1 go away" in found["connect"].text
    async with looked_at(SmtpServer({"greeting": "421 4.7.0 too busy"})) as found:
        assert (None, True) == (found["connect"].ok, found["connect"].mend.startswith("try again later: "))


async def test_nobody_there() -> None:
    """A port where nobody listens is named."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    [connect, *others] = await Smtp(SmtpSettings("p", "127.0.0.1", port, "h", tls="none")).probe()
    assert (False, f"127.0.0.1:{port}: cannot connect: Connection refused (connect)") == (connect.ok, connect.text)
    assert {None} == {check.ok for check in others}


async def test_a_server_that_does_not_take_leave() -> None:
    """What was found counts, however the server ends the conversation."""
    async with looked_at(SmtpServer({"quit": Act.CUT})) as found:
        assert found["connect"].ok


async def test_a_cancelled_probe_leaves_no_connection() -> None:
    """A probe that is given up closes its connection."""
    connected = asyncio.Event()

    def hang(_: bytes) -> Act:
        connected.set()
        return Act.HANG

    async with SmtpServer({"greeting": hang}) as server:
        task = asyncio.create_task(Smtp(SmtpSettings("p", "localhost", server.port, "h", tls="none")).probe())
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_no_batches() -> None:
    """Each job has a transaction of its own."""
    transport = Smtp(SmtpSettings("p", "localhost", 25, "h", tls="none"))
    assert (ALONE, None) == (transport.batching, transport.share(job()))
