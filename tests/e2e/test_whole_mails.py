"""A mail with everything in it, from real clients, over SMTP and over REST: each recipient once, nothing altered, Bcc unseen."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from relay import header
from tests.apis import postmark_messages, postmark_takes
from tests.e2e.processes import Host, host, send
from tests.servers import HttpServer, SmtpServer, ca_file, server_tls

pytestmark = pytest.mark.e2e

TO, CC, BCC = "ann@example.net", "cy@example.org", "boss@example.net"
EVERYBODY = [TO, CC, BCC]
NAME = "Übersicht – März.pdf"
PICTURE = bytes(range(256)) * 40
PAPER = b"%PDF-1.4 not really\r\n.\r\n..\n\x00\xff" * 2000


def mail() -> bytes:
    """Text, HTML with an inline picture, an attachment with a UTF-8 name, and a Bcc field."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Büro <app@example.com>"
    message["To"] = f'"Ann, First" <{TO}>'
    message["Cc"] = CC
    message["Bcc"] = BCC
    message["Subject"] = "Zahlen für März – fertig"
    message["Date"] = "Fri, 20 Nov 2026 17:57:01 +0000"
    message["Message-ID"] = "<whole@web1.example>"
    message["X-PM-Tag"] = "monthly"
    message.set_content("Guten Tag,\r\n\r\n.\r\n..anbei die Zahlen.\r\n")
    message.add_alternative('<p>Guten Tag</p><img src="cid:chart@web1">\r\n', subtype="html")
    html = message.get_payload(1)
    assert isinstance(html, EmailMessage)
    html.add_related(PICTURE, "image", "png", cid="<chart@web1>")
    message.add_attachment(PAPER, "application", "pdf", filename=NAME)
    return message.as_bytes()


def as_it_leaves(stored: bytes) -> tuple[list[bytes], bytes]:
    """The fields that stay, and everything behind the header block."""
    block, _ = header.split(stored)
    gone = {"bcc", "x-pm-tag", "received"}
    return [field for name, field in header.fields(block) if name not in gone], stored[len(block) :]


def attachments(message: bytes) -> dict[str, bytes]:
    """File name (or Content-ID) and decoded octets of each attachment, read by the standard library."""
    found = {}
    for part in message_from_bytes(message).walk():
        if part.get_content_maintype() in ("image", "application"):
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found[part.get_filename() or str(part["Content-ID"])] = content
    return found


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


async def by_smtplib(port: int, message: bytes, recipients: Sequence[str]) -> None:
    """All recipients in one transaction."""
    await send(port, message, list(recipients))


async def one_by_one(port: int, message: bytes, recipients: Sequence[str]) -> None:
    """One transaction for each recipient, each with the whole header: what many apps do."""
    for recipient in recipients:
        await send(port, message, [recipient])


async def by_swaks(port: int, message: bytes, recipients: Sequence[str]) -> None:
    """All recipients in one transaction, by another program."""
    if not shutil.which("swaks"):
        pytest.skip("swaks is not installed: mail from another program was NOT tested")
    arguments = ["--server", f"127.0.0.1:{port}", "--from", "app@example.com", "--to", ",".join(recipients), "--data", "-", "--silent", "2"]
    process = await asyncio.create_subprocess_exec("swaks", *arguments, stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        await process.communicate(message.removesuffix(b"\r\n"))  # swaks ends the last line itself
    assert 0 == process.returncode


CLIENTS = [by_smtplib, by_swaks, one_by_one]


@pytest.mark.parametrize("client", CLIENTS)
async def test_over_smtp_the_message_arrives_as_it_was(here: Host, tmp_path: Path, client: Any) -> None:
    """TLS and a login towards the smarthost; outside the listed edits every octet is the one that came in."""
    message = mail()
    async with SmtpServer(users={"relay": "not-a-real-password"}, starttls=server_tls()) as server:
        login = f'username: relay, password: "not-a-real-password", ca_file: "{ca_file(tmp_path)}"'
        here.configure(f"{{smarthost: {{type: smtp, host: localhost, port: {server.port}, {login}}}}}")
        daemon = await here.serve()
        await client(await daemon.port(), message, EVERYBODY)
        await daemon.drained(len(EVERYBODY))
        got = server.mails
    assert dict.fromkeys(EVERYBODY, 1) == Counter(rcpt.strip(b"<>").decode() for one in got for rcpt in one.rcpts)
    for one in got:
        assert one.encrypted
        assert as_it_leaves(message) == as_it_leaves(one.message)
        assert b"boss" not in one.message or [b"<boss@example.net>"] == one.rcpts  # only in its own Received
        assert b"X-PM-" not in one.message
        assert {NAME: PAPER, "<chart@web1>": PICTURE} == attachments(one.message)


@pytest.mark.parametrize("client", CLIENTS)
async def test_over_rest_nobody_gets_it_twice_and_the_parts_are_whole(here: Host, client: Any) -> None:
    """Who is delivered to comes from the envelope: a full To field in three transactions makes three mails, not nine."""
    async with HttpServer(postmark_takes) as server:
        here.configure(f'{{postmark: {{token: "fake-server-token", base_url: "{server.url}"}}}}')
        daemon = await here.serve()
        await client(await daemon.port(), mail(), EVERYBODY)
        await daemon.drained(len(EVERYBODY))
        got = [message for request in server.requests for message in postmark_messages(request)]
    delivered: Counter[str] = Counter()
    for one in got:
        visible = f"{one.get('To', '')},{one.get('Cc', '')}"
        hidden = one.get("Bcc", "")
        delivered.update(address for address in EVERYBODY for field in (visible, hidden) if address in field)
        assert not (BCC in visible and (TO in visible or CC in visible))
        assert not any(found["Name"].lower() == "bcc" for found in one.get("Headers", []))
        assert "monthly" == one["Tag"]
        assert "Guten Tag,\r\n\r\n.\r\n..anbei die Zahlen.\r\n" == one["TextBody"].replace("\r\n", "\n").replace("\n", "\r\n")
        files = {found["Name"]: base64.b64decode(found["Content"]) for found in one["Attachments"]}
        assert PAPER == files[NAME]
        assert [PICTURE] == [
            base64.b64decode(found["Content"]) for found in one["Attachments"] if found.get("ContentID") == "cid:chart@web1"
        ]
    assert dict.fromkeys(EVERYBODY, 1) == delivered
