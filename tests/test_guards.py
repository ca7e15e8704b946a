"""Attacks on staging guards, doors and secrets: a real daemon, and providers that keep everything they get."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import signal
import smtplib
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from relay import users
from tests import apis
from tests.e2e.processes import DEADLINE, Daemon, Host, host, send
from tests.servers import Act, Answer, HttpServer, Request, Response, SmtpServer, ca_file, server_tls

pytestmark = pytest.mark.e2e

SECRET, KEY_ID = "not-a-real-secret-0000", "AKIAFAKEFAKEFAKE0000"
QA, APP, BOB = "qa@guard.example", "app@example.com", "bob@example.net"
MAIL = b"From: App <app@example.com>\r\nTo: Bob <bob@example.net>\r\nSubject: hello\r\n\r\nThe text.\r\n"
GUARD = f"via: first, redirect: {QA}"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


def configure(here: Host, servers: Mapping[str, SmtpServer], routes: str, more: str = "") -> None:
    """Smarthosts and routes. What is deferred waits for long, so that the test decides when it is tried."""
    sections = (f"{name}: {{type: smtp, host: 127.0.0.1, port: {server.port}, tls: none}}" for name, server in servers.items())
    here.configure(f"{{{', '.join(sections)}}}", f"routes: [{routes}]\n{more}")
    here.config.write_text(here.config.read_text().replace("min_free: 1MB,", "min_free: 1MB, retry: [1h],"))


async def reload(here: Host, daemon: Daemon) -> None:
    """Go on with the configuration as it is written now."""
    printed = await here.relay("reload")
    assert (0, "") == (printed.code, printed.err)


def reached(*servers: SmtpServer) -> list[tuple[bytes, ...]]:
    """Who got each mail that a server took."""
    return [tuple(line.split(b">")[0].lstrip(b"<") for line in mail.rcpts) for server in servers for mail in server.mails if mail.accepted]


def subject(message: bytes) -> str:
    """The subject of a mail."""
    return str(message_from_bytes(message, policy=policy.default)["Subject"])


async def hand_in(port: int, *recipients: str, sender: str = APP, options: Sequence[str] = ()) -> None:
    """Hand in a mail with options for each recipient."""

    def run() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            client.ehlo()
            assert 250 == client.mail(sender)[0]
            assert [250] * len(recipients) == [client.rcpt(one, list(options))[0] for one in recipients]
            assert 250 == client.data(MAIL)[0]

    await asyncio.to_thread(run)


# Whatever relay makes itself, and whatever an admin does.


async def test_notices_keep_to_the_guard_of_their_route(here: Host) -> None:
    """Success, bounce, bounce of the bounce and warning of a delay: to sender and postmaster goes what the guard lets go."""
    notices = "bounce: {postmaster: pm@example.com, via: second, delay_warning: 1s}\n"
    async with SmtpServer() as first, SmtpServer() as second:
        configure(here, {"first": first, "second": second}, f"{{name: staging, {GUARD}}}", notices)
        daemon = await here.serve()
        port = await daemon.port()
        await hand_in(port, BOB, options=["NOTIFY=SUCCESS"])
        await daemon.lines_with(": removed", 2)
        first.script["rcpt"] = lambda line: "550 5.1.1 no such user"
        refusals = ["550 5.1.1 no such user", "250 ok"]
        second.script["rcpt"] = lambda line: refusals.pop(0)
        await hand_in(port, BOB)
        await daemon.lines_with(": removed", 5)
        first.script["rcpt"] = lambda line: "450 4.2.1 later"
        await hand_in(port, BOB)
        del second.script["rcpt"]
        await daemon.line("sender delay notification")
        await daemon.lines_with(": removed", 6)
    assert {(QA.encode(),)} == set(reached(first, second))
    assert [
        "Mail relayed (delivery report)",
        "Postmaster notice: undeliverable bounce",
        "Delayed mail (still being retried)",
    ] == [subject(mail.message) for mail in second.mails if mail.accepted]


async def test_an_alert_keeps_to_the_guard(here: Host) -> None:
    """The postmaster of a staging copy is a person too."""
    async with SmtpServer({"ehlo": "554 5.7.1 your host is blocked"}) as first, SmtpServer() as second:
        routes = f"{{name: app, match: {{from: '*@example.com'}}, via: first}}, {{name: rest, via: second, redirect: {QA}}}"
        configure(here, {"first": first, "second": second}, routes, "bounce: {postmaster: pm@example.org, alerts: true}\n")
        daemon = await here.serve()
        port = await daemon.port()
        for _ in range(2):
            await hand_in(port, BOB)
        await daemon.line(f"to=<{QA}>, orig_to=<pm@example.org>.*status=sent")
    assert [(QA.encode(),)] == reached(second)
    assert "Postmaster notice: provider first is paused" == subject(second.mails[0].message)


async def test_an_admin_reroutes_and_tests_behind_the_guard(here: Host) -> None:
    """Another provider, and the same few who get mail; held and released mail too."""
    async with SmtpServer({"rcpt": "450 4.2.1 later"}) as first, SmtpServer() as second:
        configure(here, {"first": first, "second": second}, f"{{name: staging, {GUARD}}}")
        daemon = await here.serve()
        await hand_in(await daemon.port(), BOB, "carol@example.org")
        await daemon.line("status=deferred")
        assert 0 == (await here.relay("test", "dan@example.net", "--via", "second")).code
        for act in (("hold", "--all"), ("reroute", "--via", "second", "--all", "--yes"), ("release", "--all")):
            printed = await here.relay("queue", *act)
            assert (0, "") == (printed.code, printed.err)
        await daemon.lines_with("status=sent", 3)
    assert ([], [(QA.encode(),)] * 2) == (reached(first), reached(second))


# Reloads.


async def test_a_bounce_keeps_its_guard_where_the_route_has_another_name(here: Host) -> None:
    """It is queued under a name that is gone; the guard is still there."""
    answers: dict[str, Answer] = {"rcpt": "550 5.1.1 no such user", "mail": "250 ok"}

    def mail(line: bytes) -> Answer:
        return "450 4.0.0 later" if b"<>" in line else "250 ok"

    async with SmtpServer({**answers, "mail": mail}) as first:
        configure(here, {"first": first}, f"{{name: staging, {GUARD}}}")
        daemon = await here.serve()
        await hand_in(await daemon.port(), BOB)
        await daemon.line("status=deferred")
        first.script.clear()
        configure(here, {"first": first}, f"{{name: stage, {GUARD}}}")
        await reload(here, daemon)
        await here.relay("queue", "retry")
        await daemon.line("status=sent")
    assert [(QA.encode(),)] == reached(first)


@pytest.mark.parametrize(
    ("before", "after", "got"),
    [
        ("{name: default, via: first}", f"{{name: staging, match: {{from: '*@example.com'}}, {GUARD}}}, {{name: default, via: first}}", QA),
        (f"{{name: staging, {GUARD}}}", f"{{name: stage, {GUARD}}}", QA),
        (f"{{name: staging, {GUARD}}}", f"{{name: staging, match: {{from: x@y.z}}, {GUARD}}}, {{name: all, via: first}}", QA),
        (
            f"{{name: a, match: {{from: '*@example.com'}}, {GUARD}}}, {{name: default, via: first}}",
            f"{{name: default, match: {{from: '*@example.com'}}, {GUARD}}}, {{name: a, via: first}}",
            QA,
        ),
        (f"{{name: staging, {GUARD}}}", "{name: staging, via: first}", BOB),  # taken out by its admin
    ],
    ids=["guard added", "renamed", "match changed", "names swapped", "guard gone"],
)
async def test_what_may_have_been_delivered_keeps_a_guard_through_a_reload(here: Host, before: str, after: str, got: str) -> None:
    """Of the route by which it was tried and the one that takes it today, the one that stops the recipient."""
    async with SmtpServer({"dot": Act.CUT}) as first:
        configure(here, {"first": first}, before)
        daemon = await here.serve()
        await hand_in(await daemon.port(), BOB)
        await daemon.line("status=deferred .*may be delivered twice")
        first.script.clear()
        configure(here, {"first": first}, after)
        await reload(here, daemon)
        await here.relay("queue", "retry")
        await daemon.line("status=sent")
    assert [(got.encode(),)] == reached(first)


# What providers read.


@dataclass(frozen=True)
class Kind:
    """How a provider is configured, and what stands in its place."""

    settings: str
    account: Callable[[], apis.Account]


KINDS = {
    "ses": Kind(
        f"region: eu-west-1, access_key_id: {KEY_ID}, secret_access_key: {SECRET}, limits: {{rate: 1000/s}}", lambda: apis.Ses(KEY_ID)
    ),
    "mailtrap": Kind(f"token: {SECRET}, on_loss: warn", lambda: apis.Mailtrap(SECRET)),
    "postmark": Kind(f"token: {SECRET}, on_loss: warn", lambda: apis.Postmark(SECRET)),
    "paubox": Kind(f"api_key: {SECRET}, on_loss: warn", lambda: apis.Paubox(SECRET)),
    "lowcodeapi": Kind(f"token: at_{SECRET}, on_loss: warn, limits: {{rate: 1000/s}}", lambda: apis.LowCode(f"at_{SECRET}")),
}
ORDERS = (
    b"From: App <app@example.com>\r\nTo: Bob <bob@example.net>, dev@guard.example\r\nCc: carol@example.org\r\nBcc: eve@example.net\r\n"
    b"Resent-To: res@example.net\r\nResent-Bcc: rb@example.net\r\nApparently-To: app@example.net\r\nSubject: hello\r\n"
    b'X-SMTPAPI: {"to": ["smtpapi@example.net"]}\r\nX-MSYS-API: {"bcc": [{"address": "msys@example.net"}]}\r\n'
    b"X-MC-BccAddress: mc@example.net\r\nX-PM-Bcc: pm@example.net\r\nX-MT-Bcc: mt@example.net\r\nX-SES-Bcc: ses@example.net\r\n"
    b"\r\nThe text.\r\n"
)
ORDERED = re.compile(rb"(smtpapi|msys|mc|pm|mt|ses|app|rb)@example\.net")
MANY = [f"user{number}@example.net" for number in range(300)]


def sent(server: HttpServer) -> bytes:
    """All that was posted, with what is in base64."""
    bodies = [request.body for request in server.requests if request.method == "POST"]
    raws = re.findall(rb'"Data": ?"([A-Za-z0-9+/=]{100,})"', b"".join(bodies))
    return b"".join([*bodies, *map(base64.b64decode, raws)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("redirect", [f", redirect: {QA}", ""])
async def test_an_api_is_told_of_nobody_behind_the_guard(here: Host, kind: str, redirect: str) -> None:
    """Neither by its fields nor by those of the message that are orders; whoever is in To, Cc and the envelope."""
    account = KINDS[kind].account()
    async with HttpServer(account) as server:
        path = "/v1/clinic" if kind == "paubox" else ""
        here.configure(
            f'{{first: {{type: {kind}, base_url: "{server.url}{path}", {KINDS[kind].settings}}}}}',
            f'routes: [{{name: staging, via: first, allow_recipients: ["*@guard.example"]{redirect}}}]\n',
        )
        daemon = await here.serve()
        await send(await daemon.port(), ORDERS, [BOB, "dev@guard.example", "carol@example.org", "eve@example.net", *MANY])
        await daemon.line(": removed")
    everybody = {one for taken in account.taken if taken.subject == "hello" or b"Subject: hello" in taken.raw for one in taken.recipients}
    assert {"dev@guard.example", *([QA] if redirect else [])} == everybody
    assert {one for taken in account.taken for one in taken.recipients} <= {"dev@guard.example", QA}
    assert [] == ORDERED.findall(sent(server))


SIGNED = (
    b"From: App <app@example.com>\r\nTo: Bob <bob@example.net>\r\nSubject: hello\r\nMIME-Version: 1.0\r\nX-PM-Bcc: pm@example.net\r\n"
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nThe text.\r\n--b\r\n"
    b"Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nMAA=\r\n--b--\r\n"
)


async def test_both_doors_of_a_provider_are_guarded(here: Host, tmp_path: Path) -> None:
    """What its API cannot carry whole goes by SMTP, and to the same few."""
    account = apis.Postmark(SECRET)
    async with HttpServer(account) as server, SmtpServer(starttls=server_tls(), users={SECRET: SECRET}) as door:
        where = f'base_url: "{server.url}", host: localhost, port: {door.port}, ca_file: {ca_file(tmp_path)}'
        here.configure(f"{{first: {{type: postmark, token: {SECRET}, {where}}}}}", f"routes: [{{name: staging, {GUARD}}}]\n")
        daemon = await here.serve()
        port = await daemon.port()
        for mail in (MAIL, SIGNED):
            await send(port, mail, [BOB, "carol@example.org"])
        await daemon.lines_with(": removed", 2)
    assert [(QA,)] == [taken.recipients for taken in account.taken]
    assert [(QA.encode(),)] == reached(door)
    assert QA == message_from_bytes(door.mails[0].message)["To"]


async def test_a_shadow_sees_no_more_than_the_route(here: Host) -> None:
    """A sandbox gets the mail as it is redirected; one that would deliver is not even connected to."""
    account = apis.Mailtrap(SECRET)
    async with HttpServer(account) as sandbox, HttpServer() as live, SmtpServer() as first:
        shared = f"type: mailtrap, token: {SECRET}"
        here.configure(
            f"{{first: {{type: smtp, host: 127.0.0.1, port: {first.port}, tls: none}}, "
            f'tried: {{{shared}, stream: sandbox, sandbox_id: "1", base_url: "{sandbox.url}"}}, '
            f'built: {{type: paubox, api_key: {SECRET}, base_url: "{live.url}/v1/clinic"}}}}',
            f"routes: [{{name: a, match: {{from: 'a@*'}}, {GUARD}, shadow: tried}}, {{name: b, {GUARD}, shadow: built}}]\n",
        )
        daemon = await here.serve()
        port = await daemon.port()
        for sender in ("a@example.com", "b@example.com"):
            await send(port, MAIL, [BOB], sender)
        await daemon.lines_with(": removed", 2)
        assert [(QA,)] == [taken.recipients for taken in account.taken]
        assert [(QA.encode(),)] * 2 == reached(first)
        assert (0, []) == (live.connections, live.requests)


async def test_a_crash_in_the_middle_keeps_the_guard(here: Host) -> None:
    """Killed while the provider has the message: it is tried again there, and goes where it went before."""
    taken = asyncio.Event()

    def dot(line: bytes) -> Answer:
        taken.set()
        return Act.HANG

    async with SmtpServer({"dot": dot}) as first:
        configure(here, {"first": first}, f"{{name: staging, {GUARD}}}")
        daemon = await here.serve()
        await hand_in(await daemon.port(), BOB)
        async with asyncio.timeout(DEADLINE):
            await taken.wait()
        await daemon.end(signal.SIGKILL)
        first.script.clear()
        daemon = await here.serve()
        await daemon.line("may be delivered twice")
        await here.relay("queue", "retry")
        await daemon.line("status=sent")
    assert [(QA.encode(),)] == reached(first)


async def test_a_smarthost_gets_no_orders_either(here: Host) -> None:
    """By SMTP, to whom it may go and to the redirect address."""
    async with SmtpServer() as first:
        configure(here, {"first": first}, f'{{name: staging, {GUARD}, allow_recipients: ["*@guard.example"]}}')
        daemon = await here.serve()
        await send(await daemon.port(), ORDERS, [BOB, "dev@guard.example", *MANY])
        await daemon.line(": removed")
    assert [(b"dev@guard.example",), (QA.encode(),)] == sorted(reached(first))
    assert [[], []] == [ORDERED.findall(mail.message) for mail in first.mails]


async def test_two_mails_of_one_message_to_one_address_do_not_share_a_request(here: Host) -> None:
    """Bob's is redirected to an address that gets its own copy too: the refusal of one is not the other's."""

    def says(request: Request) -> Response | None:
        redirected = b"X-Original-Recipient" in request.body
        return account.refused(400, "'to' address is suppressed") if redirected else None

    account = apis.Mailtrap(SECRET)
    account.says = says
    async with HttpServer(account) as server:
        here.configure(
            f'{{first: {{type: mailtrap, token: {SECRET}, base_url: "{server.url}"}}}}',
            f'routes: [{{name: staging, via: first, redirect: {QA}, allow_recipients: ["{QA}", "{APP}"]}}]\n',
        )
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, [BOB, QA])
        await daemon.lines_with(": removed", 2)
    said = {
        to: what
        for line in daemon.lines
        if (found := re.search(r"to=<(\S+)>, relay.* status=(\w+)", line))
        for to, what in [found.groups()]
    }
    assert {BOB: "bounced", QA: "sent", APP: "sent"} == said


@pytest.mark.parametrize(
    ("recipient", "goes"),
    [
        ("dev@GUARD.example", True),
        ('"dev"@guard.example', True),
        ('"x@evil.example"@guard.example', True),
        ("dev@guard.example.evil.example", False),
        ("dev@notguard.example", False),
        ("guard.example@evil.example", False),
        ('"dev@guard.example"@evil.example', False),
        ("dev%guard.example@evil.example", False),
        ("dev@[192.0.2.1]", False),
        ("dev@sub.guard.example", False),
    ],
)
async def test_odd_recipients_do_not_get_past_a_guard(here: Host, recipient: str, goes: bool) -> None:
    """However they are written: those of the domain get mail, nobody else does."""
    async with SmtpServer() as first:
        configure(here, {"first": first}, '{name: staging, via: first, allow_recipients: ["*@guard.example", "app@example.com"]}')
        daemon = await here.serve()
        await hand_in(await daemon.port(), recipient)
        await daemon.line(": removed")
        await daemon.line("status=sent")
    assert [(recipient.encode() if goes else APP.encode(),)] == reached(first)


@pytest.mark.parametrize(
    "recipient",
    ["dev@guard.example.", "dev@guard.example@evil.example", "<@guard.example:bob@evil.example>", "dev@guard.example\u3002evil.example"],
)
async def test_what_is_no_address_is_refused(here: Host, recipient: str) -> None:
    """So that no server behind relay can read it otherwise than the guard did."""
    async with SmtpServer() as first:
        configure(here, {"first": first}, f"{{name: staging, {GUARD}}}")
        daemon = await here.serve()
        port = await daemon.port()

        def run() -> int:
            with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
                client.ehlo()
                client.docmd(f"MAIL FROM:<{APP}> SMTPUTF8")
                client.send(f"RCPT TO:<{recipient.strip('<>')}>\r\n".encode())
                return client.getreply()[0]

        assert 5 == await asyncio.to_thread(run) // 100


# Capture.


async def test_what_is_captured_is_nobody_else_s_to_read(here: Host) -> None:
    """Directory 0700 or narrower, files 0600, and no provider of the route sees anything."""
    async with SmtpServer() as first:
        here.configure(
            f"{{first: {{type: smtp, host: 127.0.0.1, port: {first.port}, tls: none}}, capture: {{type: capture}}}}",
            'routes: [{name: staging, via: first, capture: capture, allow_recipients: ["*@guard.example"]}]\n',
        )
        daemon = await here.serve()
        await hand_in(await daemon.port(), BOB, "dev@guard.example", options=["NOTIFY=SUCCESS,FAILURE"])
        await daemon.lines_with(": removed", 2)
    assert [(b"dev@guard.example",)] == reached(first)
    found = [here.capture, *here.capture.rglob("*")]
    assert 3 <= len(found)
    assert [] == [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]


# Secrets.

TOKEN = "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"  # a login's name, as Postmark's is


async def test_no_secret_shows_anywhere(here: Host) -> None:
    """Not where a provider quotes it, nor the name of a login that is a token: log, status, queue, alerts, metrics, what leaves."""
    secrets = {"first": "canary-first-0000", "second": "canary-second-0000", "password": "canary-password-0000"}
    file = here.directory / "users"
    users.set_password(file, TOKEN, secrets["password"])

    def quoting(request: Request) -> Response:
        told = {name: value for name, value in request.headers.items() if name in ("authorization", "x-postmark-server-token")}
        return Response(401, json.dumps({"ErrorCode": 10, "Message": f"{told} \x1b[31m of {BOB}", "errors": [f"{told} of {BOB}"]}).encode())

    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(HttpServer(quoting)) for _ in range(2)]
        third = await stack.enter_async_context(SmtpServer())
        here.configure(
            f'{{first: {{type: postmark, token: {secrets["first"]}, base_url: "{first.url}"}}, '
            f'second: {{type: mailtrap, token: {secrets["second"]}, base_url: "{second.url}"}}, '
            f"third: {{type: smtp, host: 127.0.0.1, port: {third.port}, tls: none}}}}",
            'routes: [{name: api, match: {user: "token-*"}, via: [first, second], shadow: third}, {name: rest, via: third}]\n'
            'senders: {users: {"' + users.shown(TOKEN) + '": "*@example.com"}}\n'
            "bounce: {postmaster: pm@example.com, alerts: true}\nlog: {mask: local}\n",
        )
        here.config.write_text(here.config.read_text().replace("name: local, ", f"name: local, auth: {file}, "))
        daemon = await here.serve()
        port = await daemon.port()

        def run(sender: str, password: str) -> str:
            try:
                with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
                    client.login(TOKEN, password)
                    client.sendmail(sender, [BOB], MAIL)
            except smtplib.SMTPResponseException as error:
                return str(error)
            return ""

        replies = [
            await asyncio.to_thread(run, sender, password)
            for sender, password in (
                (APP, secrets["password"]),
                (APP, secrets["password"]),
                ("x@evil.example", secrets["password"]),
                (APP, "no"),
            )
        ]
        await daemon.lines_with("postmaster alert", 2)
        await daemon.lines_with("relay/third.*status=sent", 2)
        await daemon.line("authentication failed")
        [queued, *_] = (await here.relay("queue", "list", "--json")).objects
        message = here.directory / "mail.eml"
        message.write_bytes(MAIL)
        commands = [
            ("status",), ("status", "--json"), ("queue", "list"), ("queue", "list", "--json"), ("queue", "show", queued["queue_id"]),
            ("queue", "show", queued["queue_id"], "--json"), ("log", queued["queue_id"]), ("provider", "test"), ("check",),
                ("config", "show"),
            ("explain", str(message), "--user", TOKEN), ("explain", str(message), "--user", TOKEN, "--json"),
        ]  # fmt: skip
        printed = [(await here.relay(*command)) for command in commands]
        metrics = await asyncio.to_thread(asked, here.directory / "admin.sock", "/metrics")
        assert 0 == (await here.relay("queue", "bounce", "--all", "--yes", "--why", "no more")).code
        shown = [*replies, *daemon.lines, *(one.text + one.err for one in printed), metrics]
        left = [mail.message.decode() for mail in third.mails]
    assert ["", ""] == replies[:2]
    assert "550" in replies[2]
    assert "535" in replies[3]
    assert "route api" in printed[-2].text
    assert 2 <= len(left)
    for text in (*shown, *left):
        assert [] == [secret for secret in (*secrets.values(), TOKEN) if secret in text]
        assert "\x1b" not in text
    assert [] == [line for line in daemon.lines if BOB in line]
    assert [] == [text for text in left if BOB in text]


def asked(path: Path, what: str) -> str:
    """The answer of the admin API to a GET."""
    connection = http.client.HTTPConnection("relay", timeout=DEADLINE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", what)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("why", ["a\r\nFinal-Recipient: rfc822; x@y.z", "\x1b[2J", "a\u2028b", "x" * 400])
async def test_an_admin_s_reason_is_one_printable_line(here: Host, why: str) -> None:
    """It stands in bounces, log and status: what could be more than a reason there is refused."""
    async with SmtpServer({"rcpt": "450 4.2.1 later"}) as first:
        configure(here, {"first": first}, "{name: all, via: first}")
        daemon = await here.serve()
        await hand_in(await daemon.port(), BOB)
        await daemon.line("status=deferred")
        printed = [
            await here.relay("queue", "bounce", "--all", "--yes", "--why", why),
            await here.relay("provider", "pause", "first", "--why", why),
        ]
        left: list[Any] = (await here.relay("queue", "list", "--json")).objects
    assert [64, 64] == [one.code for one in printed]
    assert not [one for one in printed if why in one.err]
    assert 1 == len(left)
