"""Real and broken mail through the whole: in by SMTP, out by SMTP, every octet the same outside the listed edits.

Our samples (tests/messages.py), and what the environment variable RELAY_CORPUS names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path

import pytest

from relay import header, mime, reencoding
from relay.edits import REMOVED, is_control
from tests.e2e.processes import host
from tests.messages import ours
from tests.servers import SmtpServer

pytestmark = pytest.mark.e2e

CORPUS = os.environ.get("RELAY_CORPUS")
LONGEST = 998  # octets without CRLF; what is longer is encoded anew where that is allowed


def messages() -> list[bytes]:
    """Our samples, and the messages of the corpus as their files have them. One that asks for a template goes by no SMTP, and one
    that asks for a contact list of Amazon SES by nobody else's."""
    files = sorted(Path(CORPUS).rglob("*.eml")) if CORPUS else []
    ours_ = [sample.data for sample in ours() if not re.search(rb"(?mi)^X-(Relay-Template|SES-List-Management-Options):", sample.data)]
    return [*ours_, *(path.read_bytes() for path in files)]


def normal(raw: bytes) -> bytes:
    """Line ends as the standard library's smtplib puts them right."""
    return re.sub(rb"\r\n|\n|\r(?!\n)", b"\r\n", raw)


def expected(raw: bytes) -> tuple[list[bytes], bytes]:
    """The fields that stay and the octets behind the header block, as they should arrive."""
    whole = normal(raw)
    if max(map(len, whole.split(b"\r\n"))) > LONGEST:
        with contextlib.suppress(mime.MimeError):  # signed, or beyond a limit: it goes as it is
            whole = reencoding.to_seven_bit(whole, eight_bit=False)
    return kept(whole)


def kept(message: bytes) -> tuple[list[bytes], bytes]:
    """Fields and rest of a message, without the fields that our edits take away."""
    block, _ = header.split(message)
    fields = [field for name, field in header.fields(block) if name not in REMOVED and not is_control(name)]
    rest = message[len(block) :]
    return fields, rest.removeprefix(b"\r\n")


async def submit(port: int, number: int, raw: bytes) -> str:
    """Hand a message in octet by octet as it is, dots doubled as smtplib does; returns the last reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def say(octets: bytes) -> bytes:
        writer.write(octets)
        async with asyncio.timeout(20):
            while (line := await reader.readline())[3:4] == b"-":
                pass
        return line

    try:
        await say(b"")
        for command in (b"EHLO app", b"MAIL FROM:<app@example.com>", b"RCPT TO:<n%d@example.net>" % number, b"DATA"):
            await say(command + b"\r\n")
        stuffed = re.sub(rb"(?m)^\.", b"..", raw)
        return (await say(stuffed + (b"" if raw.endswith(b"\r\n") else b"\r\n") + b".\r\n")).decode()
    finally:
        writer.close()


async def test_the_corpus_arrives_as_it_was(tmp_path: Path) -> None:
    """Every message is accepted and relayed once, byte for byte outside the edits."""
    corpus = messages()
    assert corpus
    async with SmtpServer() as server, host(tmp_path) as here:
        here.configure(f"{{smarthost: {{type: smtp, host: 127.0.0.1, port: {server.port}, tls: none}}}}", "hostname: localhost\n")
        daemon = await here.serve()
        port = await daemon.port()
        replies = [await submit(port, number, raw) for number, raw in enumerate(corpus)]
        assert [] == [reply for reply in replies if not reply.startswith("250 2.0.0 Ok: queued as ")]
        await daemon.drained(len(corpus))
        assert not [line for line in daemon.lines if "panic" in line or "status=bounced" in line]
    arrived = {mail.rcpts[0].decode(): mail.message for mail in server.mails}
    assert len(corpus) == len(server.mails) == len(arrived)
    different = []
    for number, raw in enumerate(corpus):
        whole = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
        got = arrived[f"<n{number}@example.net>"]
        fields, rest = expected(whole)
        got_fields, got_rest = kept(got)
        ours = [field for field in got_fields if field not in fields]
        if (
            rest != got_rest
            or fields != [field for field in got_fields if field in fields]
            or not ours[0].startswith(b"Received: from app")
        ):
            different.append(number)
    assert [] == different
