"""Postmark as others speak to it: what we make of a message is what django-anymail and postmarker make of it.

Both take a message as an app builds it, so the standard library reads ours for them (tests/django_mail.py). Compared is the meaning
(`meaning`): mailboxes, not how they are quoted; text without regard to line ends; of a header field its decoded value, of several
of one name the first; of a file its content, name and type. What differs all the same stands in a table with its reason, and
nothing else may. Limits: neither takes a message apart; postmarker knows no Headers and reads files only as base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from email.header import decode_header, make_header
from email.utils import getaddresses
from typing import Any

import pytest
from postmarker.core import PostmarkClient  # type: ignore[import-untyped] # it has no types

from relay.errors import CannotCarry
from relay.transports.postmark.request import together
from tests.django_mail import Anymail, Refused, as_django, no_proxy
from tests.messages import Sample, ours
from tests.transports.test_postmark import QUEUE_ID, mail, requests

LISTS = ("From", "To", "Cc", "Bcc", "ReplyTo")


def meaning(body: Mapping[str, Any]) -> dict[str, object]:
    """What a request of Postmark's API says, however it is spelt; what is not said is left out."""
    found: dict[str, object] = {name: getaddresses([body.get(name) or ""]) for name in LISTS}
    found |= {name: re.sub(r"\r\n?", "\n", body.get(name) or "").strip() for name in ("Subject", "TextBody", "HtmlBody")}
    headers: dict[str, str] = {}
    for one in body.get("Headers") or ():
        value = " ".join(str(make_header(decode_header(one["Value"]))).split())
        if value and QUEUE_ID not in value:  # the Message-ID that a message without one gets from us
            headers.setdefault(one["Name"].lower(), value)
    found["Headers"] = headers
    found["Attachments"] = [
        (one["Name"], base64.b64decode(one["Content"]), re.sub(r'["\s]', "", one["ContentType"]).lower(), one.get("ContentID", ""))
        for one in body.get("Attachments") or ()
    ]
    return {name: value for name, value in found.items() if value}


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> set[str]:
    """The fields whose meaning differs."""
    one, other = meaning(mine), meaning(theirs)
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.fixture(scope="module")
def anymail() -> Iterator[Anymail]:
    """One server for all."""
    with Anymail() as it:
        yield it


@pytest.fixture(scope="module")
def postmarker(anymail: Anymail) -> Iterator[PostmarkClient]:
    """postmarker at the same server."""
    client = PostmarkClient(server_token="canary-postmarker", root_api_url=f"{anymail.url}/")
    with no_proxy():
        yield client
    client.session.close()


_READING = "the standard library's reading"
_NAME = "a file without a name of its own gets one from us"
DIFFERENCES: Mapping[str, tuple[set[str], str]] = {
    "windows-1252": ({"TextBody"}, f"{_READING}: iso-8859-1 is what it says, not what it is"),
    "shift-jis": ({"TextBody"}, f"{_READING}: no characters of cp932"),
    "gb2312": ({"TextBody"}, f"{_READING}: no characters of GBK"),
    "wrong-charset": ({"TextBody"}, f"{_READING}: us-ascii is what it says"),
    "no-charset": ({"TextBody"}, f"{_READING}: 8-bit text without a charset is not guessed"),
    "latin1": ({"TextBody"}, f"{_READING}: windows-1252 and format=flowed"),
    "flowed": ({"TextBody"}, f"{_READING}: format=flowed is not unflowed"),
    "html-charset": ({"HtmlBody"}, "the charset that the HTML names becomes the one it is sent in"),
    "invoice": ({"HtmlBody"}, "the charset that the HTML names becomes the one it is sent in"),
    "several-from": ({"From"}, "Postmark keeps the first: we say which"),
    "forward": (
        {"Attachments", "TextBody"},
        f"{_READING}: a text far behind the HTML is not its other form; a message inside is written anew",
    ),
    "several-html": ({"Attachments"}, _NAME),
    "apple-inline": ({"Attachments"}, _NAME),
    "amp": ({"Attachments"}, f"{_NAME}; anymail gives it a charset"),
    "attached-message": ({"Attachments"}, f"{_NAME}; a message inside is written anew"),
    "pgp-encrypted": ({"Attachments"}, _NAME),
    "calendar": ({"Attachments"}, _NAME),
    "invite": ({"Attachments"}, _NAME),
    "no-name": ({"Attachments"}, _NAME),
    "report": ({"Attachments"}, f"{_NAME}; a report is written anew"),
    "name-raw": ({"Attachments"}, "a path is no part of a name"),
    "scanner": ({"Attachments"}, "a path is no part of a name"),
    "name-bidi": ({"Attachments"}, "a character that turns the reading direction hides an ending"),
    "blocked-js": ({"Attachments"}, "anymail gives it a charset"),
    "template-controls": ({"Subject", "TextBody", "HtmlBody"}, "these come from the template"),
    "template": ({"Subject", "TextBody"}, "these come from the template"),
}
WE_REFUSE = {"blocked-exe", "blocked"}  # files that Postmark does not take
ANYMAIL_REFUSES = {
    "unknown-charset": "the standard library does not know the charset",
    "php": "a Reply-To without an @, and a Subject with a line end",
}
POSTMARKER_REFUSES = {
    **ANYMAIL_REFUSES,
    "empty-body": "it asks for a text or an HTML: from us it is a space",
    "only-file": "the same",
    "scanner": "the same",
    "pgp-encrypted": "the same",
    "smime-encrypted": "the same",
    "attached-message": "it cannot read a multipart message as a file",
    "forward": "it cannot read a multipart message as a file",
}
# What of a message postmarker has a field for, when it is given MIME.
POSTMARKER_KNOWS = {"From", "To", "Cc", "ReplyTo", "Subject", "TextBody", "HtmlBody"}


def ours_of(sample: Sample) -> list[tuple[dict[str, Any], tuple[str, ...]]]:
    """Some of our requests for a sample, and whom each is for."""
    found = [request for request in requests(sample.data, sample.recipients, on_loss="warn") if not request.refusal]
    return [(json.loads(request.body().whole()), request.recipients) for request in (*found[:2], *found[2:][-1:])]


@pytest.mark.parametrize("sample", ours(), ids=lambda sample: sample.name)
def test_anymail_sends_the_same(anymail: Anymail, sample: Sample) -> None:
    """Every message means the same in our request and in anymail's, but for what is in the table."""
    if sample.name in WE_REFUSE:
        with pytest.raises(CannotCarry, match="takes no attachment of type"):
            ours_of(sample)
        return
    for mine, recipients in ours_of(sample):
        if sample.name in ANYMAIL_REFUSES:
            with pytest.raises((*Refused, LookupError)):
                anymail.sent("postmark", sample.data, recipients)
            continue
        theirs = anymail.sent("postmark", sample.data, recipients)
        assert "/email" == theirs.path
        assert DIFFERENCES.get(sample.name, (set(), ""))[0] == differences(mine, json.loads(theirs.body))


@pytest.mark.parametrize("sample", [one for one in ours() if one.name not in WE_REFUSE], ids=lambda sample: sample.name)
def test_postmarker_sends_the_same(anymail: Anymail, postmarker: PostmarkClient, sample: Sample) -> None:
    """The same of what postmarker has fields for, and of the content of files."""
    for mine, recipients in ours_of(sample):
        if sample.name in POSTMARKER_REFUSES:
            with pytest.raises((*Refused, LookupError, AssertionError, TypeError)):
                postmarker.emails.send(message=as_django(sample.data, recipients).message())
            continue
        postmarker.emails.send(message=as_django(sample.data, recipients).message())
        theirs = json.loads(anymail.taken.pop().body)
        expected = DIFFERENCES.get(sample.name, (set(), ""))[0]
        assert expected & POSTMARKER_KNOWS == differences(mine, theirs) & POSTMARKER_KNOWS
        if sample.name not in ("amp", "report"):  # written anew
            assert [one["Content"] for one in mine.get("Attachments", ())] == [
                "".join(one["Content"].split()) for one in theirs["Attachments"]
            ]


def test_what_is_asked_for(anymail: Anymail) -> None:
    """Tag, metadata, tracking and stream by control headers are the fields that anymail's attributes are."""
    asked = "X-PM-Tag: welcome\nX-PM-Metadata-order: 7\nX-PM-TrackOpens: true\nX-PM-TrackLinks: false\nX-PM-Message-Stream: news\n"
    data = mail(f"To: a@example.net\n{asked}")
    theirs = anymail.sent(
        "postmark",
        data,
        ["a@example.net"],
        options={"message_stream": "news"},
        tags=["welcome"],
        metadata={"order": "7"},
        track_opens=True,
        track_clicks=False,
    )
    [request] = requests(data, ["a@example.net"])
    mine = json.loads(request.body().whole())
    assert QUEUE_ID == mine["Metadata"].pop("relay-id")
    fields = ("Tag", "Metadata", "TrackOpens", "TrackLinks", "MessageStream")
    assert {name: mine[name] for name in fields} == {name: json.loads(theirs.body)[name] for name in fields}


@pytest.mark.parametrize(("name", "field"), [("welcome", "TemplateAlias"), (1234, "TemplateId")])
def test_templates(anymail: Anymail, name: object, field: str) -> None:
    """A template goes to the same path, by its id or its alias, with the same model."""
    data = mail(f'To: a@example.net\nX-Relay-Template: {name}\nX-Relay-Template-Model: {{"name": "Ann", "list": [1]}}\n')
    model = {"name": "Ann", "list": [1]}
    theirs = anymail.sent("postmark", data, ["a@example.net"], subject="", body="", template_id=name, merge_global_data=model)
    [request] = requests(data, ["a@example.net"])
    mine, other = json.loads(request.body().whole()), json.loads(theirs.body)
    assert request.path == theirs.path.rstrip("/")
    assert (name, model) == (mine[field], mine["TemplateModel"]) == (other[field], other["TemplateModel"])
    assert set() == differences(mine, other)


def test_a_batch(anymail: Anymail, postmarker: PostmarkClient) -> None:
    """Several messages go to the same path in the same shape, in order, with templates and without."""
    three = [mail(f"To: {name}@example.net\nSubject: to {name}\n") for name in "abc"]
    postmarker.emails.send_batch(*(as_django(data, [f"{name}@example.net"]).message() for name, data in zip("abc", three, strict=True)))
    theirs = anymail.taken.pop()
    path, body = together([requests(data, [f"{name}@example.net"])[0] for name, data in zip("abc", three, strict=True)])
    assert path == theirs.path
    mine, other = json.loads(body.whole()), json.loads(theirs.body)
    assert 3 == len(mine) == len(other)
    assert [set()] * 3 == [differences(one, another) & POSTMARKER_KNOWS for one, another in zip(mine, other, strict=True)]
    postmarker.emails.send_template_batch(
        *({"TemplateAlias": "t", "TemplateModel": {}, "From": "a@example.com", "To": "a@example.net"},) * 2
    )
    theirs = anymail.taken.pop()
    path, body = together(requests(mail("To: a@example.net\nX-Relay-Template: t\n"), ["a@example.net"]) * 2)
    assert path == theirs.path.rstrip("/")
    fields = ("From", "To", "TemplateAlias", "TemplateModel")
    assert [{name: one[name] for name in fields} for one in json.loads(body.whole())["Messages"]] == [
        {name: one[name] for name in fields} for one in json.loads(theirs.body)["Messages"]
    ]
