"""Every message of ours and of the corpus, in each form of SendEmail, against Amazon's own model of the API."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import directives, edits, header
from relay.errors import CannotCarry
from relay.model import Client, Envelope, Recipient
from relay.transports.sesv2.options import Account
from relay.transports.sesv2.payload import Payload
from relay.transports.sesv2.raw import Source, Terms
from relay.transports.sesv2.request import Form, payload
from tests.jobs import MemoryMessage
from tests.messages import ours
from tests.sesv2_model import faults
from tests.test_mime import MESSAGE_LIKE, corpus, stored

MIB = 1024 * 1024
FORMS: tuple[Form, ...] = ("raw", "simple", "simple or raw", "lossless")
SAMPLES = {sample.name: sample for sample in ours()}


def requests(
    data: bytes, recipients: tuple[str, ...], form: Form, *, template: str = "", warn: bool = True, member: bool = False
) -> tuple[Payload, ...]:
    """The requests for a message that the listener took; `template` is asked for beside what the message itself asks."""
    if template:
        data = f"X-Relay-Template: {template}\r\nX-Relay-Template-Model: {{}}\r\n".encode() + data
    message = MemoryMessage(data)
    changes = edits.decide(
        message.header,
        queue_id="687E7641C64007",
        hostname="relay.example.com",
        client=Client("local", "127.0.0.1", name="localhost", helo="app"),
        envelope=Envelope("app@example.com", tuple(map(Recipient, recipients))),
        arrived=1_795_197_421.0,
        ended=header.cut(data)[1] > len(message.header),
    )
    return payload(
        Source(data, message.header, message.facts, changes),
        recipients,
        asked=directives.read(message.header, directives.DIALECTS, own="ses"),
        account=Account("transactional", "arn:aws:ses:eu-west-1:1:identity/example.com", "tenant-1", {"broadcast": "news"}),
        queue_id="687E7641C64007",
        form=form,
        terms=Terms(40 * MIB, from_member=member, on_loss="warn" if warn else "refuse"),
    )


def hold(data: bytes, recipients: tuple[str, ...], form: Form, **more: Any) -> None:
    """A message becomes requests that the model has nothing against, with each recipient in one, or is refused with reasons."""
    try:
        found = requests(data, recipients, form, **more)
    except CannotCarry as error:
        assert all(error.reasons)  # noqa: PT017 - there is more to say than that it is raised
        return
    assert sorted(recipients) == sorted(one for request in found for one in request.recipients)
    for request in found[:3]:
        if not request.refusal:
            assert [] == faults(request.body().whole())


@pytest.mark.parametrize("name", SAMPLES)
def test_ours(name: str) -> None:
    """Each of our messages, in each form, with and without FromEmailAddress, and by each kind of template."""
    sample = SAMPLES[name]
    for form in FORMS:
        for warn in (True, False):
            hold(sample.data, sample.recipients, form, warn=warn, member=warn)
    for template in ("welcome", "inline", "arn:aws:ses:eu-west-1:1:template/welcome"):
        hold(sample.data, sample.recipients, "raw", template=template)


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail(path: Path) -> None:
    """Real mail in each form, and by a template made of itself."""
    data = stored(path.read_bytes())
    for form in FORMS:
        hold(data, ("b@example.net",), form, member=True)
    hold(data, ("b@example.net",), "raw", template="inline")


@given(MESSAGE_LIKE, st.sampled_from(FORMS), st.booleans())
def test_anything(data: bytes, form: Form, warn: bool) -> None:
    """Whatever a message is made of."""
    hold(b"From: a@example.com\r\n" + data + b"\r\n", ("b@example.net", '"q q"@x.example', "c@[192.0.2.1]"), form, warn=warn, member=warn)


TAKEN = json.loads(requests(SAMPLES["nested"].data, ("ann@example.net",), "simple")[0].body().whole())
BROKEN: dict[str, Callable[[Any], object]] = {
    "two forms": lambda body: body["Content"].update(Raw={"Data": ""}),
    "no form": lambda body: body["Content"].clear(),
    "51 recipients": lambda body: body["Destination"].update(ToAddresses=["a@example.net"] * 51),
    "nobody": lambda body: body["Destination"].update(ToAddresses=[]),
    "an unknown member": lambda body: body.update(Surprise=1),
    "a disallowed field": lambda body: body["Content"]["Simple"].update(Headers=[{"Name": "Message-ID", "Value": "x"}]),
    "sixteen fields": lambda body: body["Content"]["Simple"].update(Headers=[{"Name": "X", "Value": "x"}] * 16),
    "a value that is not ASCII": lambda body: body["Content"]["Simple"].update(Headers=[{"Name": "X", "Value": "ü"}]),
    "an empty value": lambda body: body["Content"]["Simple"].update(Headers=[{"Name": "X", "Value": ""}]),
    "half base64": lambda body: body["Content"]["Simple"]["Attachments"][0].update(RawContent="a"),
    "a long Content-ID": lambda body: body["Content"]["Simple"]["Attachments"][0].update(ContentId="x" * 79),
    "a file in 7 bits": lambda body: body["Content"]["Simple"]["Attachments"][0].update(ContentTransferEncoding="SEVEN_BIT"),
    "another disposition": lambda body: body["Content"]["Simple"]["Attachments"][0].update(ContentDisposition="inline"),
    "a text in ASCII": lambda body: body["Content"]["Simple"]["Subject"].pop("Charset"),
    "no body": lambda body: body["Content"]["Simple"].pop("Body"),
    "no sender": lambda body: body.pop("FromEmailAddress"),
    "a name that is not ASCII": lambda body: body.update(FromEmailAddress="Ü <a@example.com>"),
    "a tag with a space": lambda body: body.update(EmailTags=[{"Name": "a b", "Value": "c"}]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_model_finds_it(what: str) -> None:
    """What these tests trust finds each kind of fault in a request that has none."""
    broken = copy.deepcopy(TAKEN)
    assert [] == faults(json.dumps(broken).encode())
    BROKEN[what](broken)
    assert faults(json.dumps(broken).encode())
