"""Amazon SES beside anymail: for the same content its request and ours mean the same, and what differs is listed with its reason.

anymail's raw form is built by Django from the content, not from the message; ours is the message. Both, and our messages taken
apart, are read into one normal form: mailboxes as (name, address), texts with LF and without white space at their ends, files as
(name, type, octets, Content-ID), other header fields decoded, with white space as one space. Recipients are compared as the set
of addresses of the envelope. Fields that SES writes itself (Date, Message-ID, MIME-Version), trace fields and control headers are
left out; a message inside is compared by its octets.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any, cast

import pytest

from relay import header, mime
from relay.errors import CannotCarry
from tests.django_mail import Anymail, Refused
from tests.messages import ALL, ANN, BY_NAME
from tests.transports.test_ses import requests

_CHARSET = "anymail's side is read by the standard library, which takes the label of a charset at its word"
_MADE_UP = "we give a name to a file that has none"
_INNER = "Django writes the message inside anew, with LF"
# Where ours, as it is or taken apart, differs from anymail's, and why.
DIFFERENCES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("raw", "attached-message"): ("files", _INNER),
    ("raw", "duplicate-headers"): ("fields", "Django holds one field of a name; we hand over all that SES takes"),
    ("simple", "windows-1252"): ("text", _CHARSET),
    ("simple", "shift-jis"): ("text", _CHARSET),
    ("simple", "gb2312"): ("text", _CHARSET),
    ("simple", "wrong-charset"): ("text", _CHARSET),
    ("simple", "no-charset"): ("text", _CHARSET),
    ("simple", "html-charset"): ("html", "the HTML goes as UTF-8, so we correct what it says of itself"),
    ("simple", "several-html"): ("files", _MADE_UP),
    ("simple", "apple-inline"): ("files", _MADE_UP),
    ("simple", "attached-message"): ("files", f"{_INNER}; {_MADE_UP}"),
    ("simple", "flowed"): ("text", "we unfold format=flowed, because the API has no place to say that a text is"),
    ("simple", "duplicate-headers"): ("fields", "Django holds one field of a name; we hand over all that SES takes"),
    ("simple", "no-name"): ("files", _MADE_UP),
}
# What one of the two refuses, and which.
NOT_COMPARED: Mapping[str, tuple[type[Exception] | tuple[type[Exception], ...], str]] = {
    "unknown-charset": (LookupError, "the standard library knows no such charset"),
    "report": (AttributeError, "the standard library does not read the parts of a message/delivery-status"),
    "several-from": (Refused, "anymail takes one author"),
    "blocked-exe": (CannotCarry, "SES takes no such file"),
    "blocked-js": (CannotCarry, "SES takes no such file"),
}
TEMPLATED = {"template-controls"}  # below

_LEFT_OUT = re.compile(
    r"date|message-id|mime-version|received|return-path|delivered-to|dkim-signature|authentication-results|domainkey-signature"
    r"|resent-bcc|bcc|from|to|cc|reply-to|subject|sender|content-.*|arc-.*|x-google-.*|x-(?:pm|ses|mt|relay)-.*"
)


def _mailboxes(*values: str) -> list[tuple[str, str]]:
    return sorted((header.text(name.encode()), address) for name, address in getaddresses(values) if address)


def _text(text: str | None) -> str:
    return "\n".join(line.rstrip() for line in (text or "").replace("\r\n", "\n").strip().split("\n"))


def _value(value: str) -> str:
    return " ".join(header.text(value.encode()).split())


def of_mime(data: bytes) -> dict[str, Any]:
    """The normal form of a whole message."""
    message = message_from_bytes(data, policy=policy.default)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    tree = mime.parse(data)
    bodies = [part for part in (text, html) if part is not None]
    files = [] if not message.is_multipart() and bodies else [_file(part, tree) for part in _leaves(message) if part not in bodies]
    return {
        "from": _mailboxes(*map(str, message.get_all("from", []))),
        "reply-to": _mailboxes(*map(str, message.get_all("reply-to", []))),
        "subject": _value(str(message["subject"] or "")),
        "text": _text(text.get_content() if text else ""),
        "html": _text(html.get_content() if html else ""),
        "files": sorted(files, key=repr),
        "fields": sorted((name.lower(), _value(str(value))) for name, value in message.items() if not _LEFT_OUT.fullmatch(name.lower())),
    }


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for child in part.iter_parts():
            yield from _leaves(cast(EmailMessage, child))
    else:
        yield part


def _file(part: EmailMessage, tree: mime.Part) -> tuple[str, str, bytes, str]:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):  # a message inside
        inner = next(one for one in tree.walk() if one.content_type == part.get_content_type())
        content = inner.decoded()
    name = mime.safe_name(part.get_filename("") or "")
    return name, part.get_content_type(), content, str(part.get("content-id", "")).strip("<> ")


def of_simple(body: Mapping[str, Any]) -> dict[str, Any]:
    """The normal form of a message that was taken apart."""
    simple = body["Content"]["Simple"]
    bodies = simple["Body"]
    return {
        "from": _mailboxes(body["FromEmailAddress"]),
        "reply-to": _mailboxes(*body.get("ReplyToAddresses", [])),
        "subject": _value(simple["Subject"]["Data"]),
        "text": _text(bodies.get("Text", {}).get("Data")),
        "html": _text(bodies.get("Html", {}).get("Data")),
        "files": sorted(
            (
                (file["FileName"], file["ContentType"].partition(";")[0], base64.b64decode(file["RawContent"]), file.get("ContentId", ""))
                for file in simple.get("Attachments", [])
            ),
            key=repr,
        ),
        "fields": sorted((field["Name"].lower(), _value(field["Value"])) for field in simple.get("Headers", [])),
    }


def of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The normal form of a request."""
    found = of_simple(body) if "Simple" in body["Content"] else of_mime(base64.b64decode(body["Content"]["Raw"]["Data"]))
    people = {address.lower() for boxes in body["Destination"].values() for _, address in getaddresses(boxes)}
    return {**found, "recipients": people}


@pytest.fixture(scope="module")
def anymail() -> Iterator[Anymail]:
    with Anymail() as server:
        yield server


def differing(anymail: Anymail, name: str, mode: str) -> set[str]:
    """Where our request for a sample and anymail's differ."""
    sample = BY_NAME[name]
    theirs = json.loads(anymail.sent("amazon_ses", sample.data, sample.recipients).body)
    found = [json.loads(request.body().whole()) for request in requests(sample.data, sample.recipients, content_mode=mode)]
    ours = of(found[0])
    for further in found[1:]:
        ours["recipients"] |= of(further)["recipients"]
    other = of(theirs)
    return {place for place in ours if ours[place] != other[place]}


@pytest.mark.parametrize("mode", ["raw", "simple"])
@pytest.mark.parametrize("name", [sample.name for sample in ALL if sample.name not in TEMPLATED])
def test_the_same_meaning(anymail: Anymail, name: str, mode: str) -> None:
    """Each message means to SES what anymail's request means, but for what the table says."""
    if name in NOT_COMPARED:
        with pytest.raises(NOT_COMPARED[name][0]):
            differing(anymail, name, mode)
    else:
        place, _ = DIFFERENCES.get((mode, name), ("", ""))
        assert ({place} if place else set()) == differing(anymail, name, mode)


def test_a_template(anymail: Anymail) -> None:
    """anymail sends templates by SendBulkEmail, with one recipient in it; ours by SendEmail say the same of the template, its data,
    sender, recipients and header fields. anymail writes every data with spaces, and repeats its tags as fields."""
    data = (
        b"From: App <app@example.com>\r\nTo: Ann <ann@example.net>\r\nReply-To: help@example.com\r\nSubject: x\r\nX-Two: 2\r\n"
        b'X-Relay-Template: welcome\r\nX-Relay-Template-Model: {"name": "Ann", "order": 7}\r\n\r\nnot used\r\n'
    )
    theirs = anymail.sent(
        "amazon_ses", data, [ANN], template_id="welcome", merge_global_data={"name": "Ann", "order": 7}, body="", subject=""
    )
    bulk = json.loads(theirs.body)
    (request,) = requests(data, [ANN])
    ours = json.loads(request.body().whole())
    template = bulk["DefaultContent"]["Template"]
    (entry,) = bulk["BulkEmailEntries"]
    content = ours["Content"]["Template"]
    assert (template["TemplateName"], json.loads(template["TemplateData"])) == (
        content["TemplateName"],
        json.loads(content["TemplateData"]),
    )
    assert _mailboxes(bulk["FromEmailAddress"]) == _mailboxes(ours["FromEmailAddress"])
    assert _mailboxes(*bulk["ReplyToAddresses"]) == _mailboxes(*ours["ReplyToAddresses"])
    assert _mailboxes(*entry["Destination"]["ToAddresses"]) == _mailboxes(*ours["Destination"]["ToAddresses"])
    assert [field for field in entry.get("ReplacementHeaders", []) if field["Name"] == "X-Two"] == content["Headers"]
