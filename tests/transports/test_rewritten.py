"""A rewritten sender and a redirected recipient are what leaves, by every provider and each of its ways.

What a provider would read is taken from the previews: the sender wherever it has one (From, FromEmailAddress, MAIL FROM), the
recipients wherever it delivers to (To, Cc, Bcc, Destination, RCPT TO).
"""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import address
from relay.errors import CannotCarry
from relay.model import Envelope, Job, Recipient
from relay.rewriting import Rewriting, redirected
from relay.transports.auto import Auto
from relay.transports.base import Transport
from relay.transports.capture import Capture, CaptureSettings
from relay.transports.smtp import Smtp
from relay.transports.smtp.message import BEST, Plan, transaction
from tests.jobs import MemoryMessage, accepted
from tests.transports import test_mapping

ALERTS, QA, OLD = "alerts@example.com", "qa@example.com", "web1.internal"
RULES = Rewriting((("root@*", ALERTS),))
TO, CC, BCC = "ann@example.net", "bob@example.net", "cat@example.net"
EVERYBODY = (TO, CC, BCC)
LETTER = (
    f"From: Cron Daemon <root@{OLD}>\r\nSender: root@{OLD}\r\nTo: Ann <{TO}>\r\nCc: {CC}\r\nBcc: {BCC}\r\nSubject: nightly\r\n"
    "Date: Fri, 20 Nov 2026 17:57:01 +0000\r\nMessage-ID: <one@web1.internal>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nDone: grün.\r\n"
).encode()
TRANSPORTS: Mapping[str, Transport] = {
    **test_mapping.TRANSPORTS,
    "capture": Capture(CaptureSettings("one", Path("/nowhere"))),
    "postmark, auto": Auto(test_mapping.TRANSPORTS["postmark"], test_mapping.TRANSPORTS["postmark by SMTP"]),  # type: ignore[arg-type] # both are what it takes
}


def job(data: bytes, *, sender: str, rewrite: bool = True, redirect: bool = False, recipients: Sequence[str] = EVERYBODY) -> Job:
    """The message as delivery hands it to a transport. The envelope keeps all whom the message was accepted for."""
    stored = accepted(data, recipients, test_mapping.QUEUE_ID)
    rules = RULES if rewrite else Rewriting()
    changes = rules.edits(stored["block"], stored["changes"], sender)
    everybody = tuple(map(Recipient, recipients))
    envelope = Envelope(rules.reverse_path(sender), everybody)
    if redirect:
        changes = redirected(stored["block"], changes, QA, recipients)
        everybody = (Recipient(QA),)
    return Job(stored["queue_id"], envelope, everybody, changes, MemoryMessage(data), listener="open")


@dataclass(frozen=True)
class Leaving:
    """What a provider reads of a request: `senders` and `reaches` are addresses, `texts` everything else but the X-Original fields."""

    senders: tuple[str, ...]
    reaches: tuple[str, ...]
    texts: tuple[str, ...]
    originals: Mapping[str, str]


def listed(*values: str) -> tuple[str, ...]:
    return tuple(one for _, one in getaddresses(list(values)) if one)


def fields(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The texts of header fields, and apart from them what is kept of how they were. Trace fields and ids say where a mail was."""
    aside = ("x-original-", "received", "message-id")
    originals = {name.lower(): value for name, value in pairs if name.lower().startswith("x-original-")}
    return tuple(value for name, value in pairs if not name.lower().startswith(aside)), originals


def of_message(octets: bytes, reverse_path: str, recipients: Sequence[str]) -> Leaving:
    """A message that goes as it is, in the envelope that the door gives it."""
    message = email.message_from_bytes(octets, policy=email.policy.compat32)
    texts, originals = fields([(name, str(value)) for name, value in message.items()])
    senders = [*listed(*map(str, message.get_all("From", []))), *listed(*map(str, message.get_all("Sender", []))), reverse_path]
    shown = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return Leaving(tuple(filter(None, senders)), (*recipients, *listed(*shown)), texts, originals)


def of_ses(body: dict[str, Any]) -> Leaving:
    """SendEmail, in all its forms."""
    reaches = [one for several in body["Destination"].values() for one in several]
    said = [body["FromEmailAddress"]] if "FromEmailAddress" in body else []
    if "Raw" in body["Content"]:
        found = of_message(base64.b64decode(body["Content"]["Raw"]["Data"]), "", listed(*reaches))
        return replace(found, senders=(*listed(*said), *found.senders))
    (content,) = body["Content"].values()
    texts, originals = fields([(one["Name"], one["Value"]) for one in content.get("Headers", ())])
    return Leaving(listed(*said), listed(*reaches), texts, originals)


def of_postmark(body: dict[str, Any]) -> Leaving:
    texts, originals = fields([(one["Name"], one["Value"]) for one in body["Headers"]])
    return Leaving(listed(body["From"]), listed(*(body[name] for name in ("To", "Cc", "Bcc") if name in body)), texts, originals)


def of_mailtrap(body: dict[str, Any]) -> Leaving:
    texts, originals = fields(list(body.get("headers", {}).items()))
    reaches = tuple(one["email"] for name in ("to", "cc", "bcc") for one in body.get(name, ()))
    return Leaving((body["from"]["email"],), reaches, texts, originals)


def of_paubox(body: dict[str, Any]) -> Leaving:
    message = body["data"]["message"]
    headers = dict(message["headers"])
    senders = listed(headers.pop("from"))
    texts, originals = fields(list(headers.items()))
    return Leaving(senders, listed(*(one for name in ("recipients", "cc", "bcc") for one in message.get(name, ()))), texts, originals)


READERS = {"postmark": of_postmark, "mailtrap": of_mailtrap, "paubox": of_paubox, "ses": of_ses, "lowcodeapi": of_ses}


async def leaving(name: str, job: Job) -> list[Leaving]:
    """What leaves, request for request."""
    found = []
    for preview in await TRANSPORTS[name].preview(job):
        if preview.method == "POST":
            found.append(READERS[name.partition(",")[0].split()[0]](json.loads(preview.body)))
        else:
            found.append(of_message(preview.body, preview.reverse_path, preview.recipients))
    return found


def identities(name: str, job: Job) -> Iterator[str]:
    """What the prepared jobs would use of the account."""
    for part in asyncio.run(TRANSPORTS[name].prepare(job)):
        yield from TRANSPORTS[name].identity(part)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_the_rewritten_sender_leaves(name: str) -> None:
    """With the name it had, wherever the provider reads a sender; nothing but what is kept tells of the old one."""
    found = asyncio.run(leaving(name, job(LETTER, sender=f"root@{OLD}")))
    assert found
    for one in found:
        assert {ALERTS} == set(one.senders)
        assert [] == [text for text in one.texts if OLD in text]
        assert f"Cron Daemon <root@{OLD}>" == one.originals["x-original-from"]
        assert f"<root@{OLD}>" == one.originals["x-original-return-path"]


@pytest.mark.parametrize("name", TRANSPORTS)
def test_the_name_is_kept(name: str) -> None:
    """Recipients see who writes."""
    for preview in asyncio.run(TRANSPORTS[name].preview(job(LETTER, sender=f"root@{OLD}"))):
        body = preview.body
        raw = json.loads(body)["Content"].get("Raw") if preview.method == "POST" and b'"Content":{"Raw"' in body else None
        assert b"Cron Daemon" in (base64.b64decode(raw["Data"]) if raw else body)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_identities_follow_the_rewritten_sender(name: str) -> None:
    """A refused domain pauses the one that was sent with, and no other."""
    before = set(identities(name, job(LETTER, sender=f"root@{OLD}", rewrite=False)))
    after = set(identities(name, job(LETTER, sender=f"root@{OLD}")))
    assert {one for one in before if OLD in one} == before - after
    assert {one.replace(OLD, "example.com") for one in before} == after
    assert (name in ("smarthost", "capture")) == (not before - after)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_null_reverse_path_stays_null(name: str) -> None:
    """Where a server takes one; From is rewritten all the same."""
    for one in asyncio.run(leaving(name, job(LETTER, sender=""))):
        assert {ALERTS, "bounces@example.com"} >= set(one.senders)
        assert ALERTS == one.senders[0]


@pytest.mark.parametrize("rewrite", [True, False])
@pytest.mark.parametrize("name", TRANSPORTS)
def test_redirected_mail_reaches_one_mailbox(name: str, rewrite: bool) -> None:
    """No original recipient is anywhere a provider would deliver to, or shown in a field that means so."""
    found = asyncio.run(leaving(name, job(LETTER, sender="app@example.com", rewrite=rewrite, redirect=True)))
    assert 1 == len(found)
    for one in found:
        assert {QA} == set(one.reaches)
        assert [] == [text for text in one.texts for original in EVERYBODY if original in text]
        assert f"Ann <{TO}>" == one.originals["x-original-to"]
        assert CC == one.originals["x-original-cc"]
        assert ", ".join(EVERYBODY) == " ".join(one.originals["x-original-recipient"].split())


@pytest.mark.parametrize("name", TRANSPORTS)
def test_without_a_redirect_the_recipients_are_reached(name: str) -> None:
    """What is read above can see an original recipient."""
    found = asyncio.run(leaving(name, job(LETTER, sender="app@example.com")))
    assert set(EVERYBODY) == {one for each in found for one in each.reaches}


@pytest.mark.parametrize("rewrite", [True, False])
async def test_a_rewritten_sender_needs_no_smtputf8(rewrite: bool) -> None:
    """What made the header other than ASCII is gone with the field; without a rule it is there."""
    data = LETTER.replace(b"Cron Daemon", "Crön".encode())
    found = job(data, sender=f"root@{OLD}", rewrite=rewrite)
    found = replace(found, envelope=replace(found.envelope, smtputf8=True))
    smarthost = TRANSPORTS["smarthost"]
    assert isinstance(smarthost, Smtp)
    (part,) = await smarthost.prepare(found)
    assert isinstance(part.plan, Plan)
    said = await transaction(part, part.plan, smarthost._settings, BEST)
    assert rewrite == (b"SMTPUTF8" not in said.mail)


NAMES = st.sampled_from([*test_mapping.NAMES, "Cron Daemon", "=?utf-8?b?PHJvb3RAd2ViMT4=?="]) | st.text(max_size=20)
BOXES = st.tuples(NAMES, st.sampled_from([f"root@{OLD}", "root@[192.0.2.1]", '"root"@web1', "ROOT@web1", f"root@bücher.{OLD}"]))
FORMS = st.sampled_from(["{name} <{address}>", '"{name}" <{address}>', "{address} ({name})", "{address}", "Group: {name} <{address}>;"])
JUNK = st.sampled_from([b"", b"\r\n", b"\xff", b"\xc3\xb6", b"\0", b"<", b'"', b"(", b",", b" , <evil@example.org>", b"\r\n\tx"])


@st.composite
def authors(draw: st.DrawFn) -> bytes:
    """A From field with an address that a rule fits, more or less well written."""
    found = []
    for name, one in draw(st.lists(BOXES, min_size=1, max_size=3)):
        clean = name.replace("\r", " ").replace("\n", " ")
        found.append(draw(FORMS).format(name=clean, address=one).encode("utf-8", "replace") + draw(JUNK))
    joint = draw(st.sampled_from([b", ", b",\r\n ", b" "]))
    return b"From: " + joint.join(found).replace(b"\r\n\r\n", b"\r\n ").rstrip(b"\r\n") + b"\r\n"


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", TRANSPORTS)
@given(field=authors(), redirect=st.booleans())
def test_any_from_that_fits_leaves_rewritten(name: str, field: bytes, redirect: bool) -> None:
    """However it is written: what leaves has senders that a rule does not fit any more, no field that the app did not write, and the
    recipients it should have; or the provider cannot carry it, and says so."""
    data = field + LETTER.partition(b"\r\n")[2]
    try:
        found = asyncio.run(leaving(name, job(data, sender=f"root@{OLD}", redirect=redirect)))
    except CannotCarry:
        return
    for one in found:
        if "x-original-from" not in one.originals:  # nobody could find the address in it
            continue
        assert one.senders  # not always ours: of several authors an API may keep the first, where losses are taken
        assert all(address.valid(sender) and RULES.reverse_path(sender) == sender for sender in one.senders)
        assert ({QA} if redirect else set(EVERYBODY)) >= set(one.reaches)
