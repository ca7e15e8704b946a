"""Paubox's own client library for Python builds the same request from the same content.

A message is read by the standard library into what an app would hand to Paubox's library (tests/django_mail.py); that builds the
request and sends it to a local server. Both requests are compared after this normalisation: addresses are (name, address with its
domain as A-labels); HTML is decoded; white space in the Subject is single; files are name, type without parameters, and octets; what
is null, empty or the default is left out. The library has no place for custom fields: ours are compared with those of the message.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from email.message import Message
from email.utils import getaddresses
from typing import Any

import idna
import pytest
from paubox import PauboxApiClient  # type: ignore[import-untyped] # it has no types
from paubox.helpers.mail import Mail  # type: ignore[import-untyped] # it has no types

from relay import header
from tests.django_mail import as_django
from tests.messages import Sample, ours
from tests.servers import HttpServer, Request, Response
from tests.transports.test_paubox import KEY, requests

SAMPLES = {f"{sample.name}.eml" if sample.note == "a file" else sample.name: sample for sample in ours()}
ALIAS = "charsets are read as mail programs read them (docs/decisions/003-mime.md); the standard library reads what is declared"
NAMED = "relay gives a part without a name one; an app would have to"
META = "the charset that the HTML names is the one it goes in"
SUBJECT = "Paubox wants a Subject"
TEMPLATE = "a template takes the place of the body; the library has none"
# Message -> what differs, and why. Everything else is equal.
DIFFERENCES: Mapping[str, tuple[set[str], str]] = {
    "windows-1252": ({"text"}, ALIAS),
    "shift-jis": ({"text"}, ALIAS),
    "gb2312": ({"text"}, ALIAS),
    "wrong-charset": ({"text"}, ALIAS),
    "no-charset": ({"text"}, ALIAS),
    "php.eml": ({"text", "reply-to"}, f"{ALIAS}; and a Reply-To that is no address is left out"),
    "latin1.eml": ({"text"}, f"{ALIAS}; and format=flowed is unfolded"),
    "flowed": ({"text"}, "format=flowed is unfolded: nobody would know that it was"),
    "html-charset": ({"html"}, META),
    "invoice.eml": ({"html"}, META),
    "several-html": ({"files"}, NAMED),
    "apple-inline": ({"files"}, NAMED),
    "amp": ({"files"}, NAMED),
    "pgp-encrypted": ({"files"}, NAMED),
    "calendar": ({"files"}, NAMED),
    "no-name": ({"files"}, NAMED),
    "invite.eml": ({"files"}, NAMED),
    "scanner.eml": ({"files"}, NAMED),
    "attached-message": ({"files"}, f"{NAMED}; and the standard library writes a message inside anew"),
    "report": ({"files"}, f"{NAMED}; and the standard library writes the parts of a report anew"),
    "forward.eml": ({"files", "text"}, f"{NAMED}; and the text below the message is a file, because the body is the HTML above it"),
    "name-raw": ({"files"}, "a path is no part of a name"),
    "name-bidi": ({"files"}, "what hides an ending is left out of a name"),
    "odd-names": ({"recipients"}, "white space between encoded words is none (RFC 2047 section 6.2)"),
    "empty-subject": ({"subject"}, SUBJECT),
    "no-subject": ({"subject"}, SUBJECT),
    "several-from": ({"from"}, "Paubox takes one author; a hard loss"),
    "blocked.eml": ({"from", "subject"}, f"Paubox takes one author; and {SUBJECT}"),
    "template-controls": ({"path", "text", "html"}, TEMPLATE),
    "template.eml": ({"path", "text"}, TEMPLATE),
}
UNREAD = {"unknown-charset"}  # the standard library does not take it


def their_mail(sample: Sample, recipients: tuple[str, ...]) -> tuple[Any, Mapping[str, str]]:
    """What an app gives Paubox's library for the message, and its other fields, for which that has no place."""
    message = as_django(sample.data, recipients)
    bodies = {f"text/{message.content_subtype}": message.body, **{kind: content for content, kind in message.alternatives}}
    mail = Mail(
        from_=message.from_email,
        subject=message.subject,
        recipients=message.to,
        content={kind: content for kind, content in bodies.items() if content},
        optional_headers={
            "cc": message.cc,
            "bcc": message.bcc,
            "reply_to": message.reply_to[0] if message.reply_to else None,
            "attachments": list(map(their_file, message.attachments)),
        },
    )
    return mail, message.extra_headers


def their_file(file: Any) -> dict[str, str]:
    """An attachment as the library takes it."""
    if isinstance(file, Message):
        name, kind, content = file.get_filename(""), file.get_content_type(), file.get_payload(decode=True)
    else:
        name, content, kind = file
    assert isinstance(content, bytes)
    return {"fileName": name, "contentType": kind, "content": base64.b64encode(content).decode()}


def normal(message: dict[str, Any]) -> dict[str, Any]:
    """A message of either request, reduced to what it means."""
    headers = message["headers"]
    content = message.get("content") or {}
    html = content.get("text/html")
    found = {
        **{name: addresses(message.get(name) or []) for name in ("recipients", "cc", "bcc")},
        "from": addresses([headers["from"]]),
        "reply-to": addresses([headers.get("reply-to") or ""]),
        "subject": " ".join((headers["subject"] or "").split()),
        "text": body(content.get("text/plain") or ""),
        "html": body(base64.b64decode(html).decode() if html else ""),
        "files": [file(one) for one in message.get("attachments") or []],
        "secure": (message.get("allowNonTLS") or False, message.get("forceSecureNotification") or False),
    }
    return {name: value for name, value in found.items() if value}


def file(attachment: Mapping[str, str]) -> tuple[str, str, bytes]:
    """Name, type and octets."""
    return attachment["fileName"], attachment["contentType"].partition(";")[0], base64.b64decode(attachment["content"])


def body(text: str) -> str:
    """A text or HTML with LF line ends; one of white space is none."""
    return text.replace("\r\n", "\n") if text.strip() else ""


def addresses(values: list[str]) -> list[tuple[str, str]]:
    """(name, address) of each."""
    return [(name, plain(address)) for name, address in getaddresses(values) if address]


def plain(address: str) -> str:
    """The address with its domain as A-labels."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{idna.encode(domain, uts46=True).decode() if not domain.isascii() else domain.lower()}"


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


async def sent(mail: Any) -> Request:
    """The request by which Paubox's library sends it."""
    async with HttpServer([Response(200, b'{"sourceTrackingId":"1","data":"Service OK"}')]) as server:
        client = PauboxApiClient(KEY, host=f"{server.url}/v1/clinic")
        await asyncio.to_thread(client.send, mail.get())
    return server.requests[0]


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - UNREAD))
async def test_the_same_request(name: str) -> None:
    """The same path, login and message, but for the differences of the table."""
    sample = SAMPLES[name]
    different: set[str] = set()
    for request in requests(sample.data, sample.recipients, on_loss="warn")[:3]:
        mail, fields = their_mail(sample, request.recipients)
        theirs = await sent(mail)
        mine = json.loads(request.body().whole())["data"]["message"]
        assert ("POST", f"Token token={KEY}") == (theirs.method, theirs.headers["authorization"])
        one = {**normal(mine), "path": f"/v1/clinic{request.path}"}
        other = {**normal(json.loads(theirs.body)["data"]["message"]), "path": theirs.path}
        different |= {what for what in one | other if one.get(what) != other.get(what)}
        assert custom(fields) == custom(mine["headers"])
    assert DIFFERENCES.get(name, (set(), ""))[0] == different


def custom(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields that Paubox takes besides those it has parameters for, decoded."""
    taken = {name.lower(): " ".join(header.text(value.encode()).split()) for name, value in fields.items() if name.lower() != "x-relay-id"}
    return {name: value for name, value in taken.items() if value and name.startswith(("x-", "list-unsubscribe"))}


def test_every_difference_is_of_a_message() -> None:
    """The table names nothing that is gone."""
    assert set() == (DIFFERENCES.keys() | UNREAD) - SAMPLES.keys()
