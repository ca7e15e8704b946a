"""Reload under load: a hundred SIGHUPs, good and bad files mixed, and a certificate that is replaced meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import smtplib
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from relay import users
from tests.e2e.processes import Daemon, Host, host

pytestmark = pytest.mark.e2e

HANGUPS = 100
CLIENTS = 6
DONE, REFUSED = r": reloaded: (?!certificate of|users of)", r": reload refused, "  # a renewed certificate is noticed without a signal too
USER, PASSWORD = "app1", "not-a-real-password"


class Load(threading.Thread):
    """A client that sends mail after mail on connections of its own until told to stop."""

    def __init__(self, number: int, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.port = port
        self.context = context
        self.accepted: list[str] = []
        self.certificates: set[bytes] = set()
        self.error: Exception | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        """Twenty mails to a connection."""
        try:
            while not self.enough.is_set():
                with smtplib.SMTP("localhost", self.port, timeout=30) as client:
                    if self.context:
                        client.starttls(context=self.context)
                        assert isinstance(client.sock, ssl.SSLSocket)
                        self.certificates.add(client.sock.getpeercert(binary_form=True) or b"")
                        client.login(USER, PASSWORD)
                    for _ in range(20):
                        to = f"c{self.number}.{len(self.accepted)}@example.net"
                        client.sendmail("app@example.com", [to], b"Subject: load\r\n\r\nhello\r\n")
                        self.accepted.append(to)
        except Exception as error:
            self.error = error


def write(path: Path, text: str) -> None:
    """Replace a file as an admin's editor does."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.chmod(0o600)
    draft.replace(path)


def issue(authority: trustme.CA, directory: Path) -> None:
    """A fresh certificate for the listener, by the same authority."""
    pem = authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes().decode()
    write(directory / "tls.pem", pem)


def configuration(directory: Path, round_: int) -> str:
    """A good file; every round changes something of a provider, of a route and of the log."""
    tls = f'tls: required, cert: "{directory}/tls.pem", key: "{directory}/tls.pem", auth: "{directory}/users"'
    return (
        "listen:\n"
        f'  - {{name: local, address: "127.0.0.1:0", max_size: {30 + round_ % 5}MB}}\n'
        f'  - {{name: lan, address: "127.0.0.1:0", {tls}}}\n'
        f'providers: {{capture: {{directory: "{directory}/kept"}}, spare: {{type: capture, directory: "{directory}/spare{round_ % 3}"}}}}\n'
        f"routes: [{{name: default, via: [capture, spare], patience: {10 + round_}m}}]\n"
        f'queue: {{spool: "{directory}/spool", min_free: 1MB}}\n'
        f'admin: {{listen: "unix:{directory}/admin.sock"}}\n'
        f"log: {{mask: {'local' if round_ % 2 else 'none'}}}\n"
    )


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with a TLS listener and a user."""
    async with host(tmp_path) as result:
        write(tmp_path / "users", f"{USER}:{users.hashed(PASSWORD, salt=b'sixteen octets..')}\n")
        yield result


async def hang_up(daemon: Daemon, count: int) -> None:
    """Send SIGHUP and wait for its answer, the `count`th."""
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.lines_with(f"{DONE}|{REFUSED}", count)


async def test_a_hundred_reloads_under_load_drop_and_lose_nothing(here: Host) -> None:
    """Every client's every mail is taken and captured once; bad files change nothing; the new certificate is shown to new connections."""
    authority = trustme.CA()
    issue(authority, here.directory)
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    write(here.config, configuration(here.directory, 0))
    daemon = await here.serve()
    found = await daemon.line(r"ready: mail at local 127\.0\.0\.1:(\d+), lan 127\.0\.0\.1:(\d+)")
    clients = [Load(n, int(found[1 + n % 2]), context if n % 2 else None) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    held = smtplib.SMTP("localhost", int(found[2]), timeout=30)
    await asyncio.to_thread(held.starttls, context=context)
    bad = ["providers: {", "providers: {capture: {}, capture: {}}", "listen: [{name: x, address: nowhere}]", "queue: {spool: /elsewhere}"]
    for number in range(1, HANGUPS + 1):
        if number % 3 == 0:
            write(here.config, bad[number // 3 % len(bad)] + "\n")
        else:
            write(here.config, configuration(here.directory, number))
        if number % 10 == 0:
            issue(authority, here.directory)
        await hang_up(daemon, number)
    assert (250, b"2.0.0 Ok") == await asyncio.to_thread(held.noop)  # a session from before all of it
    held.close()
    for client in clients:
        client.enough.set()
    for client in clients:
        await asyncio.to_thread(client.join)
    accepted = [to for client in clients for to in client.accepted]
    assert [None] * CLIENTS == [client.error for client in clients]
    assert 0 == await daemon.end()  # drains: what is under way ends, what waits stays in the spool
    write(here.config, configuration(here.directory, 0))
    again = await here.serve()
    await again.line("ready: ")
    await here.drained()
    captured = Counter(to for file in here.directory.glob("kept/*.json") for to in json.loads(file.read_text())["recipients"])
    assert dict.fromkeys(accepted, 1) == captured
    assert len(accepted) > HANGUPS
    assert 2 <= len({certificate for client in clients for certificate in client.certificates})
    told = [sum(re.search(pattern, line) is not None for line in daemon.lines) for pattern in (REFUSED, DONE)]
    assert [HANGUPS // 3, HANGUPS - HANGUPS // 3] == told
