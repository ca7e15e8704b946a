"""The clients that real apps are made of, each over every way it knows into relay: taken, intact, and logged in where it must.

`python -m pytest tests/e2e/test_clients.py -s` prints the matrix at its end. A client that is not installed is skipped and
named. nodemailer is found through NODE_PATH.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import smtplib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from relay import users
from tests.e2e.processes import Daemon, Host, host

pytestmark = pytest.mark.e2e

PROGRAMS = Path(__file__).parent.parent / "clients"
USER, PASSWORD = "app1", "not-a-real-password"
SENDER = "app@example.com"
BODY = "Grüße aus der Buchhaltung\r\n.\r\n..zwei Punkte\r\n=20 kein Umbruch\r\n\tTab und Ende\r\n".encode() + b"0123456789" * 60 + b"\r\n"
HEAD = (
    b"From: App <app@example.com>\r\nSubject: client matrix\r\nMessage-ID: <matrix@web1.example>\r\n"
    b"Date: Fri, 20 Nov 2026 17:57:01 +0000\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
)
PLAIN, STARTTLS, IMPLICIT, LOGIN, UNIX = "plain", "starttls", "implicit", "login", "unix"
WAYS = (PLAIN, STARTTLS, IMPLICIT, LOGIN, UNIX)
PROTOCOL = {PLAIN: "ESMTP", STARTTLS: "ESMTPSA", IMPLICIT: "ESMTPSA", LOGIN: "ESMTPSA", UNIX: "ESMTP"}


@dataclass(frozen=True)
class Door:
    """Where one way leads: `port` is a path for the unix socket. `ca` is a file."""

    way: str
    port: str
    ca: Path
    directory: Path


Client = Callable[[Door, str, bytes], Awaitable[None]]


async def run(*command: str, message: bytes = b"", environ: Mapping[str, str] | None = None) -> None:
    """Run a program to its end; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environ or {})},
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate(message)
    assert 0 == process.returncode, f"{command[0]} exit {process.returncode}: {said.decode('utf-8', 'replace')}"


def arguments(door: Door, to: str) -> list[str]:
    """What the programs of tests/clients take."""
    return ["localhost", door.port, door.way, USER, PASSWORD, str(door.ca), SENDER, to]


async def by_smtplib(door: Door, to: str, message: bytes) -> None:
    """Python's standard library; its login by `auth login` in lower case."""

    def talk() -> None:
        context = ssl.create_default_context(cafile=str(door.ca))
        if door.way == IMPLICIT:
            client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", int(door.port), timeout=15, context=context)
        elif door.way == UNIX:
            client = UnixSmtp(door.port)
        else:
            client = smtplib.SMTP("localhost", int(door.port), timeout=15)
        with client:
            if door.way in (STARTTLS, LOGIN):
                client.starttls(context=context)
            if door.way in (STARTTLS, IMPLICIT):
                client.login(USER, PASSWORD)
            if door.way == LOGIN:
                client.ehlo()
                client.user, client.password = USER, PASSWORD
                client.auth("login", client.auth_login)
            client.sendmail(SENDER, [to], message)

    await asyncio.to_thread(talk)


class UnixSmtp(smtplib.SMTP):
    """smtplib over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__(timeout=15)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(path)
        self.file = None
        self.getreply()


async def by_swaks(door: Door, to: str, message: bytes) -> None:
    """swaks, which shows admins what a server says."""
    where = ["--socket", door.port] if door.way == UNIX else ["--server", "localhost", "--port", door.port]
    tls = {STARTTLS: ["-tls"], LOGIN: ["-tls"], IMPLICIT: ["-tlsc"]}.get(door.way, [])
    login = [] if door.way in (PLAIN, UNIX) else ["-a", "LOGIN" if door.way == LOGIN else "PLAIN", "-au", USER, "-ap", PASSWORD]
    verify = ["--tls-verify", "--tls-ca-path", str(door.ca)] if tls else []
    options = ["--from", SENDER, "--to", to, "--data", "-", "--silent", "2", "--timeout", "15"]
    await run("swaks", *where, *tls, *verify, *login, *options, message=message.removesuffix(b"\r\n"))


async def by_curl(door: Door, to: str, message: bytes) -> None:
    """curl, as in shell scripts."""
    scheme = "smtps" if door.way == IMPLICIT else "smtp"
    login = (
        []
        if door.way == PLAIN
        else ["--user", f"{USER}:{PASSWORD}", "--login-options", f"AUTH={'LOGIN' if door.way == LOGIN else 'PLAIN'}"]
    )
    tls = [] if door.way == PLAIN else ["--ssl-reqd", "--cacert", str(door.ca)]
    mail = ["--mail-from", SENDER, "--mail-rcpt", to, "--upload-file", "-"]
    await run("curl", "-sS", "--max-time", "15", f"{scheme}://localhost:{door.port}", *tls, *login, *mail, message=message)


def msmtp_settings(door: Door) -> Path:
    """msmtp's configuration for a way."""
    lines = ["defaults", "account default", "host localhost", f"from {SENDER}", "timeout 15"]
    if door.way == UNIX:
        lines += [f"socket {door.port}", "port 25"]
    else:
        lines.append(f"port {door.port}")
    if door.way in (STARTTLS, IMPLICIT, LOGIN):
        lines += ["tls on", f"tls_starttls {'off' if door.way == IMPLICIT else 'on'}", f"tls_trust_file {door.ca}"]
        lines += [f"auth {'login' if door.way == LOGIN else 'plain'}", f"user {USER}", f"password {PASSWORD}"]
    file = door.directory / f"msmtprc-{door.way}"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)
    return file


async def by_msmtp(door: Door, to: str, message: bytes) -> None:
    """msmtp, the sendmail of containers."""
    await run("msmtp", "-C", str(msmtp_settings(door)), "--", to, message=message.replace(b"\r\n", b"\n"))


async def by_php(door: Door, to: str, message: bytes) -> None:
    """PHP's mail(), through msmtp as sendmail."""
    path = f"{shutil.which('msmtp')} -C {msmtp_settings(door)} -t"
    await run("php", "-d", f"sendmail_path={path}", str(PROGRAMS / "send.php"), to, SENDER, message=message)


async def by_ruby(door: Door, to: str, message: bytes) -> None:
    """Ruby's net/smtp."""
    await run("ruby", str(PROGRAMS / "send.rb"), *arguments(door, to), message=message)


async def by_perl(door: Door, to: str, message: bytes) -> None:
    """Perl's Net::SMTP."""
    await run("perl", str(PROGRAMS / "send.pl"), *arguments(door, to), message=message)


async def by_nodemailer(door: Door, to: str, message: bytes) -> None:
    """nodemailer, of Node.js."""
    await run("node", str(PROGRAMS / "send.js"), *arguments(door, to), message=message)


async def by_go(door: Door, to: str, message: bytes) -> None:
    """Go's net/smtp, built once."""
    program = door.directory / "send-go"
    if not program.exists():
        home = {"GOCACHE": str(door.directory / "go-cache"), "GO111MODULE": "off", "HOME": str(door.directory)}
        await run("go", "build", "-o", str(program), str(PROGRAMS / "send.go"), environ=home)
    await run(str(program), *arguments(door, to), message=message)


# Which ways each client knows.
CLIENTS: Mapping[Client, tuple[str, ...]] = {
    by_smtplib: WAYS,
    by_swaks: WAYS,
    by_curl: (PLAIN, STARTTLS, IMPLICIT, LOGIN),
    by_msmtp: WAYS,
    by_php: WAYS,
    by_ruby: (PLAIN, STARTTLS, IMPLICIT, LOGIN),
    by_perl: (PLAIN, STARTTLS, IMPLICIT, LOGIN),
    by_nodemailer: (PLAIN, STARTTLS, IMPLICIT, LOGIN),
    by_go: (PLAIN, STARTTLS, IMPLICIT, UNIX),
}
NEEDS: Mapping[Client, list[str]] = {
    by_smtplib: [],
    by_swaks: ["swaks"],
    by_curl: ["curl"],
    by_msmtp: ["msmtp"],
    by_php: ["php", "msmtp"],
    by_ruby: ["ruby"],
    by_perl: ["perl"],
    by_nodemailer: ["node"],
    by_go: ["go"],
}
PERL_MODULES = ("Authen::SASL", "IO::Socket::SSL")


def name(client: Client) -> str:
    """How the client is called."""
    return getattr(client, "__name__", "").removeprefix("by_")


async def missing(client: Client) -> str:
    """What is not installed of what a client needs, or ""."""
    for program in NEEDS[client]:
        if not shutil.which(program):
            return program
    if client is by_nodemailer and await _fails("node", "-e", "require('nodemailer')"):
        return "the Node package nodemailer (npm install nodemailer; NODE_PATH=…/node_modules)"
    for module in PERL_MODULES if client is by_perl else ():
        if await _fails("perl", f"-M{module}", "-e", "1"):
            return f"the Perl module {module}"
    return ""


async def _fails(*command: str) -> bool:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait() != 0


MATRIX: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module", autouse=True)
def matrix() -> Iterator[None]:
    """Print what was found."""
    yield
    print("\n".join(["", f"{'client':<12}" + "".join(f"{way:<10}" for way in WAYS)]), file=sys.stderr)
    for client, found in MATRIX.items():
        print(f"{client:<12}" + "".join(f"{found.get(way, '-'):<10}" for way in WAYS), file=sys.stderr)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with listeners for every way."""
    async with host(tmp_path) as result:
        authority = trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
        (tmp_path / "users").write_text(f"{USER}:{users.hashed(PASSWORD, salt=b'sixteen octets..')}\n")
        for file in ("tls.pem", "users"):
            (tmp_path / file).chmod(0o600)
        secure = f'cert: "{tmp_path}/tls.pem", key: "{tmp_path}/tls.pem", auth: "{tmp_path}/users"'
        result.config.write_text(
            "listen:\n"
            '  - {name: plain, address: "127.0.0.1:0"}\n'
            f'  - {{name: starttls, address: "127.0.0.1:0", tls: required, {secure}}}\n'
            f'  - {{name: implicit, address: "127.0.0.1:0", tls: implicit, {secure}}}\n'
            f'  - {{name: unix, address: "unix:{tmp_path}/smtp.sock"}}\n'
            "providers: {capture: {}}\n"
            f'queue: {{spool: "{tmp_path}/spool", min_free: 1MB}}\n'
            f'admin: {{listen: "unix:{tmp_path}/admin.sock"}}\n'
        )
        result.config.chmod(0o600)
        yield result


async def doors(daemon: Daemon, directory: Path) -> dict[str, Door]:
    """Where each way leads, as the daemon said when it was ready."""
    found = await daemon.line(r"ready: mail at plain 127\.0\.0\.1:(\d+), starttls 127\.0\.0\.1:(\d+), implicit 127\.0\.0\.1:(\d+)")
    ports = {PLAIN: found[1], STARTTLS: found[2], LOGIN: found[2], IMPLICIT: found[3], UNIX: str(directory / "smtp.sock")}
    return {way: Door(way, port, directory / "ca.pem", directory) for way, port in ports.items()}


@pytest.mark.parametrize("client", CLIENTS, ids=name)
async def test_a_client_hands_in_mail_by_every_way_it_knows(here: Host, client: Client) -> None:
    """Each mail is captured with its body byte for byte, over the protocol that its way stands for."""
    found = MATRIX.setdefault(name(client), {})
    if absent := await missing(client):
        found.update(dict.fromkeys(CLIENTS[client], "absent"))
        pytest.skip(f"{absent} is not installed: {name(client)} was NOT tried")
    daemon = await here.serve()
    for way, door in (await doors(daemon, here.directory)).items():
        if way not in CLIENTS[client]:
            continue
        to = f"{name(client)}.{way}@example.net"
        found[way] = "FAILED"
        await client(door, to, HEAD + f"To: {to}\r\n".encode() + b"\r\n" + BODY)
        await daemon.line(f"to=<{to}>.*status=sent")
        found[way] = check(here.capture, to, way)
    assert dict.fromkeys(CLIENTS[client], "ok") == found


def check(capture: Path, to: str, way: str) -> str:
    """What became of the mail to `to`: "ok", or what is wrong with it."""
    for about in capture.glob("*.json"):
        if json.loads(about.read_text())["recipients"] == [to]:
            head, _, body = about.with_suffix(".eml").read_bytes().partition(b"\r\n\r\n")
            if body != BODY:
                return "altered"
            return "ok" if f" with {PROTOCOL[way]} id ".encode() in head and b"Subject: client matrix" in head else "protocol"
    return "lost"
