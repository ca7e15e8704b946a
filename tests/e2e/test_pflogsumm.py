"""The log of a real run: counted by pflogsumm, and as JSON in the shape that the schema promises."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import smtplib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.processes import DEADLINE, Host, host
from tests.servers import SmtpServer
from tests.test_log_schema import fits

pytestmark = pytest.mark.e2e

MAIL = b"From: app@example.com\r\nTo: a@example.net\r\nSubject: hello\r\nMessage-ID: <%d@web1>\r\n\r\nThe text.\r\n"
SENT, DEFERRED, BOUNCED, REJECTED = 80, 12, 8, 5


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


def rcpt(line: bytes) -> str:
    """What a provider says to a recipient, by its local part."""
    if b"<deferred" in line:
        return "450 4.2.0 mailbox busy"
    return "550 5.1.1 no such user" if b"<bounced" in line else "250 2.1.5 ok"


RECIPIENTS = [
    *(f"sent{number}@example.net" for number in range(SENT)),
    *(f"deferred{number}@example.net" for number in range(DEFERRED)),
    *(f"bounced{number}@example.net" for number in range(BOUNCED)),
]


def hand_in(port: int) -> None:
    """A hundred mails over one connection, and some recipients whose syntax is wrong."""
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
        for number, recipient in enumerate(RECIPIENTS):
            client.sendmail("app@example.com", [recipient], MAIL % number)
        client.mail("app@example.com")
        for number in range(REJECTED):
            assert 500 <= client.docmd("RCPT", f"TO:<two@@example{number}.net>")[0]


PATTERNS = {
    "text": (r"(\w+): to=<{}>.* status=", "{}: sender non-delivery notification: (\\w+)", "{}: removed"),
    "json": (
        r'"queue_id": "(\w+)", "event": "attempt", "recipient": "{}"',
        r'"queue_id": "{}", "event": "bounced_to", "bounce_id": "(\w+)"',
        '"queue_id": "{}", "event": "removed"',
    ),
}


async def run(here: Host, form: str) -> list[str]:
    """The log of a daemon that took the hundred mails, asked a provider for each, and ended."""
    attempt, bounce, removed = PATTERNS[form]
    async with SmtpServer({"rcpt": rcpt}) as server:
        here.configure(
            f"{{smarthost: {{type: smtp, host: 127.0.0.1, port: {server.port}, tls: none}}}}",
            f"bounce: {{from: mailer-daemon@example.com}}\nlog: {{format: {form}}}\n",
        )
        daemon = await here.serve()
        await asyncio.to_thread(hand_in, int((await daemon.line(r"mail at \w+ 127\.0\.0\.1:(\d+)"))[1]))
        ids = {recipient: (await daemon.line(attempt.format(re.escape(recipient))))[1] for recipient in RECIPIENTS}
        for recipient, queue_id in ids.items():
            if recipient.startswith("bounced"):
                await daemon.line(removed.format((await daemon.line(bounce.format(queue_id)))[1]))
            if not recipient.startswith("deferred"):
                await daemon.line(removed.format(queue_id))
        assert 0 == await daemon.end()
    return daemon.lines


@pytest.mark.skipif(shutil.which("pflogsumm") is None, reason="pflogsumm is not installed")
async def test_pflogsumm_counts_a_hundred_mails(here: Host) -> None:
    """Stock pflogsumm, told only our name. Bounces are delivered, but no client handed them in, as in Postfix's log."""
    lines = await run(here, "text")
    answer = await asyncio.to_thread(
        subprocess.run,
        ["pflogsumm", "--syslog_name=relay"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    found = re.findall(r"^ +(\d+) +(received|delivered|deferred|bounced|rejected|senders|recipients)\b", answer.stdout, re.MULTILINE)
    assert "" == answer.stderr
    assert {
        "received": len(RECIPIENTS),
        "delivered": SENT + BOUNCED,
        "deferred": DEFERRED,
        "bounced": BOUNCED,
        "rejected": REJECTED,
        "senders": 1,
        "recipients": SENT + 1,
    } == {name: int(number) for number, name in found}
    assert "mailbox busy" in answer.stdout
    assert "no such user" in answer.stdout


async def test_the_lines_of_a_run_fit_the_schema(here: Host) -> None:
    """Each line that the daemon writes is one object of the schema, and every event of a mail's life is among them."""
    events = set()
    for line in map(json.loads, await run(here, "json")):
        fits(line)
        events.add(line["event"])
    life = {"accepted", "message_id", "queued", "attempt", "removed", "bounced_to", "rejected"}
    assert life | {"starting", "ready", "stopping", "stopped"} <= events
