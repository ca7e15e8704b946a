"""The week of docs/migration.md, lived: its files and its commands as they stand there, with an app that changed its host only."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import smtplib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from relay import users
from tests import apis
from tests.e2e.processes import DEADLINE, Daemon, Host, host
from tests.servers import HttpServer, Response

pytestmark = pytest.mark.e2e

WEEK = (Path(__file__).parents[2] / "docs/migration.md").read_text().split("\n## ")[1]
KEY, OLD_PASSWORD = "AKIAIOSFODNN7EXAMPLE", "not-a-real-smtp-password"
TOKEN = "fake-mailtrap-token"
SHOP = "orders@shop.example.com"


def days() -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    """Each step: its heading, and its blocks as (language, text)."""
    for step in WEEK.split("\n### ")[1:]:
        yield step.partition("\n")[0], re.findall(r"(?ms)^```(yaml|sh)\n(.*?)^```$", step)


DAYS = dict(days())


class Week:
    """A host on which the week is lived. `ses` and `mailtrap` are the accounts."""

    def __init__(self, here: Host, ses: HttpServer, mailtrap: HttpServer) -> None:
        self.here, self.urls = here, {"ses": ses.url, "mailtrap": mailtrap.url}
        self.daemon: Daemon
        self.port = 0
        self.said = ""  # by the commands of the last day
        self.sections = {
            "queue": f'queue: {{spool: "{here.directory}/spool", min_free: 1MB}}\n',
            "admin": f'admin: {{listen: "unix:{here.directory}/admin.sock"}}\n',
        }

    async def live(self, day: str) -> None:
        """Do what the document says of a day, in its order; every command ends well."""
        self.said = ""
        for language, text in DAYS[day]:
            if language == "yaml":
                self._write(text)
                continue
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if words[0] == "relay":
                    await self._run(words[1:])

    def _write(self, text: str) -> None:
        """Put sections in the place of those of the same name; the rest of the file is as the commands left it."""
        if self.here.config.exists():
            self.sections |= _sections(self.here.config.read_text())
        for name, url in self.urls.items():
            text = text.replace(f"  {name}: {{", f'  {name}: {{base_url: "{url}", ')
        text = text.replace("/etc/relay/users", f"{self.here.directory}/users").replace("127.0.0.1:2525", "127.0.0.1:0")
        for name, secret in (("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", "fake-secret"), ("MAILTRAP_TOKEN", TOKEN)):
            text = text.replace(f"${{env:{name}}}", secret)
        self.sections |= _sections(text)
        self.here.config.write_text("".join(self.sections.values()))
        self.here.config.chmod(0o600)

    async def _run(self, words: Sequence[str]) -> None:
        if words[0] == "passwd":  # which asks at a terminal
            identity = words[-1] if "--identity" in words else ""
            users.set_password(self.here.directory / "users", words[1], OLD_PASSWORD, **({"identity": identity} if identity else {}))
            return
        if words[0] == "serve":
            self.daemon = await self.here.serve()
            self.port = await self.daemon.port()
            await self.send("ann@example.net")
            await self.here.drained()
            return
        asks = ["--yes"] if words[0] == "split" or words[:2] == ["queue", "reroute"] else []
        printed = await self.here.relay(*words, *asks)
        assert 0 == printed.code, f"{words}: {printed.text}{printed.err}"
        self.said += printed.text + printed.err

    async def send(self, *recipients: str, sender: str = SHOP, user: str = KEY, fields: str = "") -> None:
        """As the app does."""

        def run() -> None:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=DEADLINE) as client:
                client.login(user, OLD_PASSWORD)
                for to in recipients:
                    client.sendmail(sender, [to], f"From: {sender}\r\nTo: {to}\r\nSubject: x\r\n{fields}\r\nhi\r\n".encode())

        await asyncio.to_thread(run)


def _sections(text: str) -> dict[str, str]:
    """A configuration's top-level sections, by name."""
    return {re.split("[: ]", part)[0]: part for part in re.split(r"(?m)^(?=[a-z])", text) if part}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


async def test_the_week(here: Host) -> None:
    """Each day's mail goes where the document says, nothing is lost, nothing arrives twice, and no command fails."""
    ses, mailtrap = apis.Ses(KEY), apis.Mailtrap(TOKEN)
    many = [f"u{number}@example.net" for number in range(100)]

    def went() -> tuple[list[str], list[str]]:
        found = [sorted(one for mail in account.taken for one in mail.recipients) for account in (ses, mailtrap)]
        ses.taken, mailtrap.taken = [], []
        return found[0], found[1]

    async with HttpServer(ses) as first, HttpServer(mailtrap) as second:
        week = Week(here, first, second)
        await week.live("Day 1: relay in between")
        assert (["ann@example.net"], []) == went()
        assert "from <orders@shop.example.com>" in week.said
        await week.daemon.line("sasl_username=shop")
        await week.send("you@example.com", sender="root@web1")
        await here.drained()
        [mail] = ses.taken
        assert b"From: alerts@example.com\r\n" in mail.raw
        ses.taken = []

        await week.live("Day 2: look without sending")
        await week.send("ann@example.net", fields="X-SES-CONFIGURATION-SET: unknown\r\n")
        await week.daemon.line("mailtrap would lose: the configuration set 'unknown'")
        await here.drained()
        assert (["ann@example.net"], []) == went()

        await week.live("Day 3: real mail, to yourselves")
        assert "<qa@example.com> gets it instead" in week.said
        await week.send("ann@example.net", "me@example.com", user="staging")
        await week.send("ann@example.net")
        await here.drained()
        assert (["ann@example.net"], ["me@example.com", "qa@example.com"]) == went()

        await week.live("Day 4: a twentieth")
        await week.send(*many)
        await here.drained()
        old, few = went()
        assert sorted(many) == sorted(old + few)
        assert 1 <= len(few) <= 15

        await week.live("Day 5: half")
        await week.send(*many)
        await here.drained()
        old, more = went()
        assert sorted(many) == sorted(old + more)
        assert set(few) < set(more)

        await week.live("Day 7: all, and the end of SES")
        await week.send(*many[:20])
        await here.drained()
        assert ([], sorted(many[:20])) == went()

        mailtrap.says = lambda request: Response(401, json.dumps({"success": False, "errors": ["Unauthorized"]}).encode())
        await week.send(*many[:20])
        await week.daemon.line("provider mailtrap paused")
        await here.drained()
        assert (sorted([*many[:20], "postmaster@example.com"]), []) == went()
        mailtrap.says = lambda request: None

        await week.live("A bad day")
        assert "mailtrap is paused by an admin: outage, ticket 812" in week.said
        assert "mailtrap resumed" in week.said
        await week.send("ann@example.net")
        await here.drained()
        assert ([], ["ann@example.net", "postmaster@example.com"]) == went()  # who is told that it is back
        assert not [line for line in week.daemon.lines if "status=bounced" in line]
