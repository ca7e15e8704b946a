"""Tables of docs/migration.md: what one mail becomes with each provider, by REST and by SMTP, made by the transports themselves.

`python -m tests.tables` prints them, `python -m tests.tables --write` puts them where they belong. Nothing is sent.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import email
import email.policy
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from relay import assembly, config, edits
from relay.errors import CannotCarry
from relay.model import Client, Job
from relay.transports.base import Preview
from tests.jobs import job
from tests.messages import BY_NAME

DOCUMENT = Path(__file__).parent.parent / "docs" / "migration.md"
QUEUE_ID = "687E7641C64007"
ARRIVED = 1_800_000_000.0

_CONFIGURATION = """\
hostname: relay.example.com
bounce: {from: mailer-daemon@example.com}
queue: {spool: /var/lib/relay}
providers:
  ses:
    region: eu-west-1
    access_key_id: AKIAFAKEFAKEFAKE0000
    secret_access_key: fake-secret-0000-fake-secret-0000-fake-0
    streams: {broadcasts: newsletters}
  postmark: {token: 00000000-fake-0000, streams: {newsletters: broadcasts}}
  mailtrap: {token: fake-token-0000, streams: {newsletters: bulk}}
  paubox: {username: clinic, api_key: fake-key-0000}
  lowcodeapi: {token: at_fake-0000, streams: {broadcasts: newsletters}}
routes: [{name: all, via: [ses, postmark, mailtrap, paubox, lowcodeapi]}]
"""
TARGETS = (
    ("Amazon SES, REST", "ses", "api"),
    ("Amazon SES, SMTP", "ses", "smtp"),
    ("Postmark, REST", "postmark", "api"),
    ("Postmark, SMTP", "postmark", "smtp"),
    ("Mailtrap, REST", "mailtrap", "api"),
    ("Mailtrap, SMTP", "mailtrap", "smtp"),
    ("Paubox, REST", "paubox", "api"),
    ("Paubox, SMTP", "paubox", "smtp"),
    ("LowCodeAPI", "lowcodeapi", "api"),
)
_CONTROLS = ("x-ses-", "x-pm-", "x-mt-", "x-relay-", "list-")
_MEMBERS = {  # of a request, beside the message itself
    "ses": ("ConfigurationSetName", "EmailTags", "ConfigurationOverrides", "ListManagementOptions", "TenantName"),
    "lowcodeapi": ("ConfigurationSetName", "EmailTags", "ConfigurationOverrides", "ListManagementOptions"),
    "postmark": ("MessageStream", "Tag", "Metadata", "TrackOpens", "TrackLinks"),
    "mailtrap": ("category", "custom_variables"),
}
APPS = {
    "ses": (
        "An application written for Amazon SES",
        "X-SES-CONFIGURATION-SET: newsletters\r\nX-SES-MESSAGE-TAGS: category=welcome, customer=4711\r\n",
    ),
    "postmark": (
        "An application written for Postmark",
        "X-PM-Message-Stream: broadcasts\r\nX-PM-Tag: welcome\r\nX-PM-Metadata-customer: 4711\r\nX-PM-TrackOpens: true\r\n"
        "X-PM-TrackLinks: HtmlOnly\r\n",
    ),
    "mailtrap": (
        "An application written for Mailtrap",
        'X-MT-Category: welcome\r\nX-MT-Custom-Variables: {"customer":"4711"}\r\n',
    ),
}
_LETTER = (
    "From: Shop <app@example.com>\r\nTo: Ann <ann@example.net>\r\nSubject: Welcome\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n"
    "Message-ID: <1@shop.example.com>\r\nList-Unsubscribe: <https://shop.example.com/u/4711>\r\n"
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n{controls}Content-Type: text/html; charset=utf-8\r\n\r\n<p>Hello</p>\r\n"
)


@dataclass(frozen=True)
class Became:
    """What a mail became with one provider: its requests, or the reasons why it is refused."""

    requests: tuple[Preview, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def losses(self) -> list[str]:
        """Of all requests, each once."""
        return list(dict.fromkeys(loss.what for request in self.requests for loss in request.losses))


def configured(directory: Path, more: str = "") -> config.Config:
    """The configuration of all targets."""
    path = directory / "relay.yaml"
    path.write_text(_CONFIGURATION + more)
    path.chmod(0o600)
    return config.load(path, environ={})


def accepted(data: bytes, recipients: Sequence[str], reverse_path: str = "app@example.com") -> Job:
    """The message as delivery would hand it to a transport."""
    found = job(*recipients, data=data, sender=reverse_path, queue_id=QUEUE_ID)
    client = Client("", "127.0.0.1", 4000, "localhost", "shop")
    changes = edits.decide(
        found.message.header, queue_id=QUEUE_ID, hostname="relay.example.com", client=client, envelope=found.envelope, arrived=ARRIVED
    )
    return replace(found, edits=changes, arrived=ARRIVED)


def became(settings: config.Config, name: str, mode: str, what: Job, **keys: object) -> Became:
    """What the provider would be sent, spoken to in this mode; `keys` are others of its configuration."""
    provider = settings.providers[name].model_copy(update={"mode": mode, **keys})

    async def ask() -> Sequence[Preview]:
        transport = assembly.transport_for(name, provider, settings)
        try:
            return await transport.preview(what)
        finally:
            await transport.aclose()

    try:
        return Became(tuple(asyncio.run(ask())))
    except CannotCarry as refusal:
        return Became(refused=refusal.reasons)


def sent_message(preview: Preview) -> EmailMessage | None:
    """The mail in a preview that carries it whole, read by the standard library."""
    if preview.method == "POST":
        raw = json.loads(preview.body).get("Content", {}).get("Raw", {}).get("Data")
        octets = base64.b64decode(raw) if raw else None
    else:
        octets = preview.body
    return email.message_from_bytes(octets, policy=email.policy.default) if octets else None


def controls(name: str, preview: Preview) -> Iterator[str]:
    """What of the application's wishes leaves, as `field: value`."""
    body: dict[str, Any] = json.loads(preview.body) if preview.method == "POST" else {}
    yield from (f"{member}: {_text(body[member])}" for member in _MEMBERS.get(name, ()) if member in body)
    if name == "mailtrap" and body:
        yield f"host: {preview.url.split('/')[2]}"
    if name == "paubox" and body:
        message = body["data"]["message"]
        yield from (f"{field}: {value}" for field, value in message["headers"].items() if field.lower().startswith(_CONTROLS))
    listed = body.get("Headers") or [{"Name": field, "Value": value} for field, value in body.get("headers", {}).items()]
    simple = body.get("Content", {}).get("Simple", {}).get("Headers", [])
    for field in (*listed, *simple):
        if field["Name"].lower().startswith(_CONTROLS):
            yield f"{field['Name']}: {field['Value']}"
    if (message := sent_message(preview)) is not None:
        yield from (f"{field}: {value}" for field, value in message.items() if field.lower().startswith(_CONTROLS))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def cell(lines: Sequence[str], code: bool = True) -> str:
    """Lines as one cell of a Markdown table."""
    escaped = [line.replace("|", "\\|") for line in lines]
    return "<br>".join(f"`{line}`" if code else line for line in escaped) or "–"


def letter(fields: str) -> bytes:
    """A mail with these control fields."""
    return _LETTER.format(controls=fields).encode()


def migration(settings: config.Config) -> Iterator[str]:
    """For each application, what its mail becomes with each provider."""
    for title, fields in APPS.values():
        yield f"### {title}"
        yield ""
        yield from ("```", *fields.strip().split("\r\n"), "```")
        yield ""
        yield from ("| goes to | leaves as | is lost |", "|---|---|---|")
        what = accepted(letter(fields), ["ann@example.net"])
        for label, name, mode in TARGETS:
            found = became(settings, name, mode, what)
            assert len(found.requests) == 1, found
            yield f"| {label} | {cell(list(controls(name, found.requests[0])))} | {cell(found.losses, code=False)} |"
        yield ""


ODD = ("latin-1", "shift-jis", "gb18030", "utf-7", "three-hundred", "custom-headers", "null-sender")


def oddities(settings: config.Config) -> Iterator[str]:
    """For each odd mail, what happens with each provider."""
    for sample in (BY_NAME[name] for name in ODD):
        yield f"### {sample.note[:1].upper()}{sample.note[1:]}"
        yield ""
        yield from ("| goes to | what happens | is lost |", "|---|---|---|")
        what = accepted(sample.data, sample.recipients, sample.reverse_path)
        for label, name, mode in TARGETS:
            found = became(settings, name, mode, what)
            yield f"| {label} | {cell(list(happens(name, found)), code=False)} | {cell(found.losses, code=False)} |"
        if sample.name == "custom-headers":
            found = became(settings, "ses", "api", what, content_mode="simple")
            what_happens = cell(list(happens("ses", found)), code=False)
            yield f"| Amazon SES, REST, `content_mode: simple` | {what_happens} | {cell(found.losses, code=False)} |"
        yield ""


def happens(name: str, found: Became) -> Iterator[str]:
    """Requests and their recipients, the text that arrives, the sender that the server is told."""
    if found.refused:
        yield f"refused: {'; '.join(found.refused)}"
        return
    first, *rest = found.requests
    verb = "request" if first.method == "POST" else "transaction"
    sizes = [len(request.recipients) for request in found.requests]
    if len(sizes) == 1:
        yield f"one {verb}" + (f" for {sizes[0]}" if sizes[0] > 1 else "")
    else:
        yield f"{len(sizes)} {verb}s, for {', '.join(_runs(sizes))}"
    if first.why:
        yield f"as it is (raw), because {first.why}"
    if first.method == "SMTP" and not rest and first.reverse_path == "mailer-daemon@example.com":
        yield f"`MAIL FROM:<{first.reverse_path}>`"
    yield f"text: {_shown_text(name, first)}"


def _runs(sizes: Sequence[int]) -> Iterator[str]:
    """Equal sizes in a row as one."""
    start = 0
    for at in range(1, len(sizes) + 1):
        if at == len(sizes) or sizes[at] != sizes[start]:
            yield f"{sizes[start]}" + (f" ({at - start} times)" if at - start > 1 else "")
            start = at


def _shown_text(name: str, preview: Preview) -> str:
    """The first line of the text that arrives, and how it is written."""
    if (message := sent_message(preview)) is not None:
        part = message.get_body(("plain", "html")) or message
        charset = part.get_content_charset() or "none"
        return f"as it came ({charset}, {part.get('content-transfer-encoding', '7bit').lower()})"
    body = json.loads(preview.body)
    simple = body.get("Content", {}).get("Simple", {}).get("Body", {}).get("Text", {}).get("Data")
    content = body.get("data", {}).get("message", {}).get("content", {}).get("text/plain")
    text = simple or content or body.get("text") or body.get("TextBody") or "–"
    return f"“{text.strip().splitlines()[0][:30]}” in UTF-8"


def tables(directory: Path) -> dict[str, str]:
    """Every table by the name of its place in the document."""
    settings = configured(directory)
    return {name: "\n".join(made(settings)).strip() for name, made in (("migration", migration), ("oddities", oddities))}


def placed(text: str, made: dict[str, str]) -> str:
    """The document with its tables. Raises ValueError where a marker is missing."""
    for name, table in made.items():
        begin, end = f"<!-- {name}: made by python -m tests.tables --write -->", f"<!-- end of {name} -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{DOCUMENT} lacks a marker: {begin if not found else end}")
        text = f"{head}{begin}\n\n{table}\n\n{end}{tail}"
    return text


def main() -> int:
    """Print the tables, or write them into the document."""
    parser = argparse.ArgumentParser(prog="tests.tables", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        made = tables(Path(directory))
    if options.write:
        DOCUMENT.write_text(placed(DOCUMENT.read_text(), made))
    else:
        print("\n\n".join(made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
