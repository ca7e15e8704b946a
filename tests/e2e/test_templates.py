"""Templates of providers for apps that only speak SMTP: two header fields become a request, or a bounce that says why not."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from tests import apis
from tests.apis import Account, Taken
from tests.e2e.processes import Daemon, Host, host, send
from tests.servers import HttpServer, Request, Response, SmtpServer, ca_file, server_tls

pytestmark = pytest.mark.e2e

SECRET, KEY_ID = "not-a-real-secret-0000", "AKIAFAKEFAKEFAKE0000"
UUID = "1a2b3c4d-0000-4000-8000-00000000fa4e"
MODEL = {"order": {"id": 7, "items": ["A", "Ü€"]}, "total": 9.5, "paid": True, "note": None}
PAPER = b"%PDF-1.4 not really\r\n.\r\n..\n\x00\xff" * 40

# Provider -> (its section, the account, what names a template, how a request says so).
APIS: Mapping[str, tuple[str, Callable[[], Account], str, str]] = {
    "ses": (
        f"region: eu-west-1, access_key_id: {KEY_ID}, secret_access_key: {SECRET}",
        lambda: apis.Ses(KEY_ID),
        "order-shipped",
        "TemplateName",
    ),
    "lowcodeapi": (f"token: at_{SECRET}", lambda: apis.LowCode(f"at_{SECRET}"), "order-shipped", "TemplateName"),
    "mailtrap": (f"token: {SECRET}", lambda: apis.Mailtrap(SECRET), UUID, "template_uuid"),
    "postmark": (f"token: {SECRET}", lambda: apis.Postmark(SECRET), "order-shipped", "TemplateAlias"),
    "paubox": (f"api_key: {SECRET}, username: clinic", lambda: apis.Paubox(SECRET), "order-shipped", "template_name"),
}
LOGINS = {"ses": (KEY_ID, SECRET), "mailtrap": ("api", SECRET), "postmark": (SECRET, SECRET), "paubox": ("apikey", SECRET)}


def mail(to: str, template: str, model: object = MODEL) -> bytes:
    """A mail that asks for a template, with a file; its text is not used. The model is folded over lines and 8-bit."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Shop <app@example.com>"
    message["To"] = f"Ann <{to}>"
    message["Subject"] = "not used"
    message["Message-ID"] = "<shipped@web1.example>"
    message.set_content("not used\r\n")
    message.add_attachment(PAPER, "application", "pdf", filename="invoice.pdf")
    said = model if isinstance(model, str) else json.dumps(model, ensure_ascii=False, separators=(",\r\n ", ": "))
    return f"X-Relay-Template: {template}\r\nX-Relay-Template-Model: {said}\r\n".encode() + message.as_bytes()


class Shop:
    """A host with a provider of each kind in one mode: mail to KIND.example.net goes by it."""

    def __init__(self, here: Host) -> None:
        self.here = here
        self.accounts = {kind: make() for kind, (_, make, _, _) in APIS.items()}
        self.doors: dict[str, SmtpServer] = {}

    async def open(self, stack: AsyncExitStack, mode: str) -> Daemon:
        """Start servers and the daemon. The listener `other` obeys nobody."""
        sections = []
        for kind, (section, *_) in APIS.items():
            settings = [f"{kind}: {{{section}"]
            if mode != "smtp":
                url = (await stack.enter_async_context(HttpServer(self.accounts[kind]))).url
                settings.append(f'base_url: "{url}/v1/{{username}}"' if kind == "paubox" else f'base_url: "{url}"')
            if kind in LOGINS and (mode == "smtp" or kind != "ses"):
                door = SmtpServer(users=dict([LOGINS[kind]]), starttls=server_tls())
                self.doors[kind] = await stack.enter_async_context(door)
                settings.append(f"mode: {mode}, host: localhost, port: {door.port}, ca_file: {ca_file(self.here.directory)}")
                settings += [f"smtp_password: {SECRET}"] if kind == "ses" else []
            if mode == "auto" or kind in LOGINS:
                sections.append(f"  {', '.join(settings)}}}\n")
        names = [section.strip().partition(":")[0] for section in sections]
        routes = "".join(f"  - {{name: {name}, match: {{to: '*@{name}.example.net'}}, via: {name}}}\n" for name in names)
        directory = self.here.directory
        self.here.config.write_text(
            "hostname: relay.example.com\n"
            'listen: [{name: local, address: "127.0.0.1:0"}, {name: other, address: "127.0.0.1:0", controls: []}]\n'
            f"providers:\n{''.join(sections)}routes:\n{routes}  - {{name: default, via: postmark}}\n"
            f'queue: {{spool: "{directory}/spool", min_free: 1MB}}\nadmin: {{listen: "unix:{directory}/admin.sock"}}\n'
        )
        self.here.config.chmod(0o600)
        return await self.here.serve()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A host with an empty directory."""
    async with host(tmp_path) as here:
        yield Shop(here)


async def by_smtplib(port: int, message: bytes, recipient: str) -> None:
    """As a Python app does it."""
    await send(port, message, [recipient])


async def by_swaks(port: int, message: bytes, recipient: str) -> None:
    """By another program."""
    if not shutil.which("swaks"):
        pytest.skip("swaks is not installed: templates from another program were NOT tested")
    options = ["--server", f"127.0.0.1:{port}", "--from", "app@example.com", "--to", recipient, "--data", "-", "--silent", "2"]
    process = await asyncio.create_subprocess_exec("swaks", *options, stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        await process.communicate(message.removesuffix(b"\r\n"))  # swaks ends the last line itself
    assert 0 == process.returncode


@pytest.mark.parametrize("client", [by_smtplib, by_swaks])
async def test_a_mail_becomes_a_request_for_a_template(shop: Shop, client: Callable[[int, bytes, str], Awaitable[None]]) -> None:
    """Each provider hears the template's name, the data as the app wrote them, the recipient and the file; nothing goes by SMTP."""
    async with AsyncExitStack() as stack:
        daemon = await shop.open(stack, "auto")
        port = await daemon.port()
        for kind, (_, _, name, _) in APIS.items():
            await client(port, mail(f"ann@{kind}.example.net", name), f"ann@{kind}.example.net")
        await daemon.drained(len(APIS))
    for kind, (_, _, name, field) in APIS.items():
        [taken] = shop.accounts[kind].taken
        assert {field: name, "values": MODEL} == taken.template
        assert ((f"ann@{kind}.example.net",), (PAPER,), "", "") == (taken.recipients, taken.files, taken.text, taken.html)
    assert [] == [one for door in shop.doors.values() for one in door.mails]


async def test_by_smtp_it_is_refused_with_the_reason(shop: Shop) -> None:
    """The mail without its template would be another: each app is told by a bounce, which leaves by the same provider."""
    async with AsyncExitStack() as stack:
        daemon = await shop.open(stack, "smtp")
        port = await daemon.port()
        for kind in LOGINS:
            await send(port, mail(f"ann@{kind}.example.net", APIS[kind][2]), [f"ann@{kind}.example.net"])
        await daemon.drained(len(LOGINS))  # the bounces
    for kind, door in shop.doors.items():
        [bounce] = door.mails
        assert [b"<app@example.com>"] == [rcpt.partition(b" ")[0] for rcpt in bounce.rcpts]
        assert f"{kind}: a template is asked for, and by SMTP the message goes as it is" in text_of(bounce.message)


async def test_neither_way_has_a_place_for_it(shop: Shop) -> None:
    """A template with data that are no JSON object, or in a signed mail, is told with every reason, and never sent without."""
    to = "ann@postmark.example.net"
    plain = mail(to, "order-shipped")
    signed = plain.replace(b"multipart/mixed", b"multipart/signed; protocol=application/pgp-signature; micalg=pgp-sha256")
    async with AsyncExitStack() as stack:
        daemon = await shop.open(stack, "auto")
        port = await daemon.port()
        for message in (mail(to, "order-shipped", "[1, 2]"), signed):
            await send(port, message, [to])
        await daemon.lines_with("status=bounced", 2)
        await daemon.drained(2)
    told = [text_of(one.message) for one in shop.doors["postmark"].mails]
    by_smtp = "- postmark: by SMTP: a template is asked for, and by SMTP the message goes as it is Nothing is reported"
    assert 2 == sum(by_smtp in text for text in told)
    reasons = (
        "- postmark: x-relay-template-model is not a JSON object",
        "- postmark: by API: the signature of multipart/signed would break",
    )
    assert [1, 1] == [sum(reason in text for text in told) for reason in reasons]
    assert [] == shop.accounts["postmark"].taken


async def test_who_may_not_ask_gets_the_mail_as_it_is(shop: Shop) -> None:
    """A listener without `controls` obeys no such field, and nobody sees it."""
    async with AsyncExitStack() as stack:
        daemon = await shop.open(stack, "auto")
        port = int((await daemon.line(r"other 127\.0\.0\.1:(\d+)"))[1])
        for kind, (_, _, name, _) in APIS.items():
            await send(port, mail(f"ann@{kind}.example.net", name), [f"ann@{kind}.example.net"])
        await daemon.drained(len(APIS))
    for account in shop.accounts.values():
        [taken] = account.taken
        assert {} == taken.template
        assert "not used" == (taken.text or shown(taken)).strip()
        assert b"Template" not in taken.raw


async def test_many_at_once_go_together_each_with_its_data(shop: Shop) -> None:
    """Postmark takes them in one request, beside which mail without a template has its own; each recipient gets his data once."""
    count = 60
    async with AsyncExitStack() as stack:
        daemon = await shop.open(stack, "auto")
        port = await daemon.port()

        def model(number: int) -> dict[str, Any]:
            return {"name": f"r{number}", "rows": [number] * 3}

        await asyncio.gather(
            *(
                send(port, mail(to, "order-shipped" if number % 3 else "welcome", model(number)), [to])
                for number, to in enumerate(f"r{number}@postmark.example.net" for number in range(count))
            )
        )
        await daemon.drained(count)
    taken = shop.accounts["postmark"].taken
    assert {(f"r{number}@postmark.example.net",): 1 for number in range(count)} == Counter(one.recipients for one in taken)
    for one in taken:
        number = int(one.recipients[0].partition("@")[0][1:])
        assert {"TemplateAlias": "order-shipped" if number % 3 else "welcome", "values": model(number)} == one.template
    assert "/email/batchWithTemplates" in {one.path for one in taken}
    assert {"/email/batchWithTemplates", "/email/withTemplate"} >= {one.path for one in taken}
    assert shop.accounts["postmark"].posts < count


async def test_one_that_is_not_there_holds_up_nobody_else(shop: Shop) -> None:
    """Error 1101 bounces nothing: mail for that template waits, the line names it, and once it is made each mail goes out once."""
    made = False

    def missing(request: Request) -> Response | None:
        if made or b"order-shipped" not in request.body:
            return None
        refused = {"ErrorCode": 1101, "Message": "The Template's 'Alias' was not found"}
        return (
            Response(200, json.dumps([refused] * len(json.loads(request.body)["Messages"])).encode())
            if "atch" in request.path
            else (Response(422, json.dumps(refused).encode()))
        )

    account = shop.accounts["postmark"]
    account.says = missing
    to = "ann@postmark.example.net"
    async with AsyncExitStack() as stack:
        daemon = await shop.open(stack, "auto")
        port = await daemon.port()
        for _ in range(2):
            await send(port, mail(to, "order-shipped"), [to])
        line = await daemon.line(r"paused.*order-shipped")
        assert "create the template order-shipped" in line.string
        await send(port, mail(to, "welcome"), [to])
        await send(port, b"From: app@example.com\r\nSubject: plain\r\n\r\nplain\r\n", [to])
        await daemon.lines_with("status=sent", 2)
        assert {"welcome", None} == {taken.template.get("TemplateAlias") for taken in account.taken}
        made = True
        assert 0 == (await shop.here.relay("queue", "retry")).code
        await daemon.drained(4)
    assert {"welcome": 1, "order-shipped": 2, None: 1} == Counter(taken.template.get("TemplateAlias") for taken in account.taken)
    assert not [line for line in daemon.lines if "status=bounced" in line]


def shown(taken: Taken) -> str:
    """The text of a message that came as it is."""
    return text_of(taken.raw)


def text_of(message: bytes) -> str:
    """The first text of a message, white space put right."""
    part = next(part for part in message_from_bytes(message).walk() if part.get_content_type() == "text/plain")
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return " ".join(content.decode().split())
