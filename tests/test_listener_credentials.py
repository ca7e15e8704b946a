"""Old credentials at a listener: an app keeps the login of the provider it leaves, and nobody sees a name that is a secret."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import shutil
import smtplib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay import edits, users, views
from relay.log import Events
from relay.log.formatters import JsonFormatter, TextFormatter
from tests.listening import Running, listening

TOKEN = "8e5d2f1a-0c3b-4e7f-9a1b-2c3d4e5f6071"  # of the form of Postmark's server tokens
DOC = Path(__file__).parent.parent / "docs" / "listeners.md"


@dataclass(frozen=True)
class Login:
    """What an app has of its old provider, and by what relay knows it."""

    name: str
    password: str
    identity: str | None
    known: str


LOGINS = {
    "apikey": Login("apikey", "SG.fake-key_0123", "shop", "shop"),
    "api": Login("api", "0123456789abcdef0123456789abcdef", "news", "news"),
    "api without an identity": Login("api", "0123456789abcdef0123456789abcdef", None, "api"),
    "an access key": Login("AKIAFAKEFAKEFAKEFAKE", "BFakeSmtpPassword+/0123456789fakefakefakefake", "clinic", "clinic"),
    "an access key without an identity": Login("AKIAFAKEFAKEFAKEFAKE", "BFakeSmtpPassword", None, "AKIAFAKEFAKEFAKEFAKE"),
    "a server token": Login(TOKEN, TOKEN, "shop", "shop"),
    "a server token without an identity": Login(TOKEN, TOKEN, None, users.shown(TOKEN)),
    "an address": Login("smtp@mta.example", "fake-token-0123456789", "mta", "mta"),
    "beyond ASCII": Login("büro", "pässwörd", "Büro 7", "Büro 7"),
}


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


# How clients log in: the lines that they send, and what they hear between them.
FORMS: dict[str, Callable[[str, str], list[bytes]]] = {
    "PLAIN, initial response": lambda name, password: [b"AUTH PLAIN " + b64(f"\0{name}\0{password}")],
    "PLAIN, with itself as actor": lambda name, password: [b"AUTH PLAIN " + b64(f"{name}\0{name}\0{password}")],
    "PLAIN, asked": lambda name, password: [b"AUTH PLAIN", b64(f"\0{name}\0{password}")],
    "LOGIN, asked": lambda name, password: [b"AUTH LOGIN", b64(name), b64(password)],
    "LOGIN, initial response": lambda name, password: [b"auth login " + b64(name), b64(password)],
}


@contextlib.asynccontextmanager
async def apps(path: Path, **more: object) -> AsyncIterator[Running]:
    """A listener on loopback with this users file."""
    async with listening(more={"users": users.Users(path), **more}, login_delay=0.001) as running:
        yield running


async def say(running: Running, lines: list[bytes], sender: str = "app@example.com") -> list[str]:
    """The last replies to a login, and to a mail after it."""
    client = await running.connect()
    await client.reply()
    await client.say(b"EHLO app\r\n")
    for line in lines:
        reply = await client.say(line + b"\r\n")
    replies = [reply]
    for command in (f"MAIL FROM:<{sender}>", "RCPT TO:<a@example.net>", "DATA", "Subject: x\r\n\r\nhello\r\n."):
        replies.append(await client.say(command.encode() + b"\r\n"))
        if replies[-1][0] not in "23":
            break
    await client.leave()
    return replies


def everything(running: Running) -> str:
    """All that is written of it anywhere: log lines and fields, the header that leaves, what `queue show` prints, metrics."""
    said = [json.dumps(running.events.lines, default=str, ensure_ascii=False), *running.events.texts, *running.metric("")]
    for entry in running.spool.entries:
        said += [
            edits.apply(entry.header, entry.edits).decode(),
            json.dumps(views.details(entry, 0.0, {}), ensure_ascii=False),
            repr(entry),
        ]
    return "\n".join(said)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("login", LOGINS)
async def test_the_old_login_still_works(tmp_path: Path, login: str, form: str) -> None:
    """By every form of AUTH; the user is known by the identity, and name and password are nowhere where they are secrets."""
    found = LOGINS[login]
    users.set_password(path := tmp_path / "users", found.name, found.password, found.identity)
    async with apps(path) as running:
        replies = await say(running, FORMS[form](found.name, found.password))
        assert ["235", "250", "250", "354", "250"] == [reply[:3] for reply in replies]
        (entry,) = running.spool.entries
        assert (found.known, "ESMTPA") == (entry.client.username, entry.client.protocol)
        (line,) = running.events.found("accepted")
        assert found.known == line["sasl_username"]
        assert any(text.endswith(f"sasl_username={found.known}") for text in running.events.texts)
        written = everything(running)
        assert f'"username": "{found.known}"' in written  # as `queue show` has it
        assert found.password not in written
        assert found.name not in written or found.known == found.name or found.name in ("api", "apikey")


@pytest.mark.parametrize("known", [True, False], ids=["wrong password", "nobody"])
@pytest.mark.parametrize("form", FORMS)
async def test_a_failed_login_shows_no_secret(tmp_path: Path, form: str, known: bool) -> None:
    """Neither of one who is there nor of one who is not."""
    users.set_password(path := tmp_path / "users", TOKEN if known else "app1", "fake", "shop")
    async with apps(path) as running:
        assert ["535 5.7.8 wrong name or password", "530 5.7.0 log in first"] == [
            reply if reply.startswith("535") else f"{reply[:9]} log in first" for reply in await say(running, FORMS[form](TOKEN, TOKEN))
        ]
        (line,) = running.events.found("login_failed")
        assert ("shop" if known else users.shown(TOKEN)) == line["sasl_username"]
        assert TOKEN not in everything(running)


async def test_formatted_lines_show_no_secret(tmp_path: Path) -> None:
    """As text and as JSON, in the lines as they are printed."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.getLogger("relay.test.credentials")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(Keep())
    users.set_password(path := tmp_path / "users", TOKEN, TOKEN, "shop")
    async with apps(path) as running:
        running.listeners._shared.events = Events(logger)  # the real one in the place of the recording
        await say(running, FORMS["LOGIN, asked"](TOKEN, "wrong"))
        await say(running, FORMS["PLAIN, initial response"](TOKEN, TOKEN))
    for formatter in (TextFormatter(host="h", journal=False), JsonFormatter()):
        lines = [formatter.format(record) for record in records]
        assert 2 == sum("shop" in line for line in lines)
        assert TOKEN not in "\n".join(lines)


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("mechanism", ["plain", "login"])
async def test_smtplib_logs_in(tmp_path: Path, login: str, mechanism: str) -> None:
    """Python's client, which most apps of that language are."""
    found = LOGINS[login]
    users.set_password(path := tmp_path / "users", found.name, found.password, found.identity)

    def send(host: str, port: int) -> None:
        with smtplib.SMTP(host, port, timeout=15) as client:
            client.ehlo()
            client.user, client.password = found.name, found.password
            try:
                client.auth(mechanism, getattr(client, f"auth_{mechanism}"))
            except UnicodeEncodeError:  # it knows names in ASCII alone
                assert not (found.name + found.password).isascii()
                return
            client.sendmail("app@example.com", ["a@example.net"], b"Subject: x\r\n\r\nhello\r\n")

    async with apps(path) as running:
        host, _, port = running.address.rpartition(":")
        await asyncio.to_thread(send, host, int(port))
        if found.name.isascii():
            assert [found.known] == [entry.client.username for entry in running.spool.entries]


# Senders of a user.

MAY_NOT = "may not send as this address: correct it in the client, or add it to senders.users"
SENDERS = {"sender_users": {"shop": ("*@shop.example.com",), "Büro 7": ("x@example.com",)}, "senders": ("*@example.com", "*@*.example.com")}


@pytest.mark.parametrize(
    ("identity", "sender", "expected"),
    [
        ("shop", "orders@shop.example.com", "250"),
        ("shop", "Orders@SHOP.example.com", "250"),
        ("shop", "", "250"),  # a bounce
        ("shop", "app@example.com", f"550 5.7.1 shop {MAY_NOT}"),
        ("shop", "app@shop.example.com.example.net", "550 5.7.1 this sender address is not among those that may be used here"),
        ("Büro 7", "app@example.com", f"550 5.7.1 this user {MAY_NOT}"),
        ("other", "app@example.com", "250"),
        ("other", "app@example.net", "550 5.7.1 this sender address is not among those that may be used here"),
        (None, "app@example.com", "250"),  # the name that logs in is not the identity
    ],
)
async def test_a_user_may_send_as_these_only(tmp_path: Path, identity: str | None, sender: str, expected: str) -> None:
    """Who is named, by identity; the others as the listener has it."""
    users.set_password(path := tmp_path / "users", "apikey", "fake", identity)
    async with apps(path, **SENDERS) as running:
        replies = await say(running, FORMS["PLAIN, initial response"]("apikey", "fake"), sender)
        assert expected == (replies[-1][:3] if expected == "250" else replies[-1])
        assert (expected != "250") == bool(running.events.found("rejected", stage="MAIL"))


async def test_without_a_login_the_users_senders_are_nobodys() -> None:
    """A listener without users asks the list of all."""
    async with listening(more=SENDERS) as running:
        replies = await say(running, [b"NOOP"])
        assert "250" == replies[-1][:3]


# As docs/listeners.md shows it.


def shown(begin: str) -> str:
    """The block of the document that begins so."""
    return next(str(block) for block in re.findall(r"```\w*\n(.*?)```", DOC.read_text(), re.DOTALL) if block.startswith(begin))


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_the_example_of_the_document_runs(tmp_path: Path, mechanism: str) -> None:
    """The app changes its host and nothing else: the commands as they stand there, with another path and port."""
    environ = {**os.environ, "OLD_TOKEN": TOKEN, "PYTHON": sys.executable}
    command = 'relay() { "$PYTHON" -m relay "$@"; }\n'

    async def run(script: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command + script, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        assert 0 == process.returncode, said.decode()
        return said.decode()

    path = tmp_path / "users"
    printed = await run(shown("printf '%s").replace("/etc/relay/users", str(path)))
    assert f"{path}: shop added\n" == printed
    async with apps(path, sender_users={"shop": ("*@shop.example.com",)}) as running:
        script = shown("swaks --server 127.0.0.1").replace("127.0.0.1:2525", running.address).replace("--auth PLAIN", f"--auth {mechanism}")
        await run(script)
        (line,) = running.events.found("accepted")
        assert "shop" == line["sasl_username"]
        assert TOKEN not in everything(running)
        example = shown("relay/smtpd[812]: 687E7641C64007: client=localhost")
        assert example.rstrip().partition("client=")[2] == running.events.texts[0].partition("client=")[2]
