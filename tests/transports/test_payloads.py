"""What JSON providers are handed of real mail and of every sample: each file octet for octet, each text character for character.

The standard library's parser is the oracle. Whatever a message is made of, preparing it ends in requests or in CannotCarry, and
nothing that would lose something hard is in a request. RELAY_CORPUS names a directory of real mail; without it only ours are read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import edits, fidelity, header, mime
from relay.errors import CannotCarry
from relay.model import Client, Envelope, Job, Recipient
from relay.transports.base import Preview, Transport
from relay.transports.http import Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.rest import Rest
from relay.transports.ses import Ses, SesSettings
from tests import messages
from tests.jobs import MemoryMessage
from tests.test_mime import MESSAGE_LIKE, OUR_WAY, corpus, reason, stored

URL = "http://127.0.0.1:9"  # nothing is sent
QUEUE_ID = "687E7641C64007"
CLIENT = Client(listener="", address="127.0.0.1", name="unknown", helo="app")


def http() -> Http:
    """A door that is never opened."""
    return Http(base_url=URL, timeout=1.0, concurrency=1)


@dataclass(frozen=True)
class Handed:
    """What a request holds of a message; a text of white space alone stands for none."""

    text: str
    html: str
    files: tuple[bytes, ...]


def octets(content: str) -> bytes:
    """Base64 as a strict reader takes it."""
    return base64.b64decode(content, validate=True)


def by_postmark(body: Mapping[str, Any]) -> Handed:
    """Postmark's fields."""
    return Handed(
        body.get("TextBody", ""), body.get("HtmlBody", ""), tuple(octets(file["Content"]) for file in body.get("Attachments", ()))
    )


def by_mailtrap(body: Mapping[str, Any]) -> Handed:
    """Mailtrap's fields."""
    return Handed(body.get("text", ""), body.get("html", ""), tuple(octets(file["content"]) for file in body.get("attachments", ())))


def by_paubox(body: Mapping[str, Any]) -> Handed:
    """Paubox's fields, the HTML in base64."""
    message = body["data"]["message"]
    content = message["content"]
    html = octets(content.get("text/html", "")).decode()
    return Handed(content.get("text/plain", ""), html, tuple(octets(file["content"]) for file in message.get("attachments", ())))


def by_ses(body: Mapping[str, Any]) -> Handed:
    """The fields of SendEmail with simple content."""
    simple = body["Content"]["Simple"]
    text, html = (simple["Body"].get(name, {}).get("Data", "") for name in ("Text", "Html"))
    return Handed(text, html, tuple(octets(file["RawContent"]) for file in simple.get("Attachments", ())))


@dataclass(frozen=True)
class Provider:
    """How a transport of it is made, and how its requests are read."""

    transport: Callable[[], Rest[Any]]
    read: Callable[[Mapping[str, Any]], Handed]


PROVIDERS: Mapping[str, Provider] = {
    "postmark": Provider(lambda: Postmark(PostmarkSettings("one", "00000000-fake", base_url=URL), http()), by_postmark),
    "mailtrap": Provider(
        lambda: Mailtrap(MailtrapSettings("one", "fake", base_url=URL), {"transactional": http(), "bulk": http()}), by_mailtrap
    ),
    "paubox": Provider(lambda: Paubox(PauboxSettings("one", "fake", base_url=URL), http()), by_paubox),
    "ses": Provider(
        lambda: Ses(SesSettings("one", "eu-west-1", "AKIDEXAMPLE", "fake", base_url=URL, content_mode="simple"), http()), by_ses
    ),
    "lowcodeapi": Provider(lambda: LowCode(LowCodeSettings("one", "fake", base_url=URL), http()), by_ses),
}


TRANSPORTS = {name: provider.transport() for name, provider in PROVIDERS.items()}


def mails() -> list[messages.Sample]:
    """Our samples, and the corpus as it would be stored."""
    files = [path for path in corpus() if path.parent != messages.FILES]
    return [*messages.ours(), *(messages.Sample(path.name, "corpus", stored(path.read_bytes())) for path in files)]


MAILS = mails()
TEMPLATES = {"template", "template-controls"}  # subject and bodies are the template's


def job_of(mail: messages.Sample) -> Job:
    """The mail as delivery has it, with the edits of its acceptance."""
    recipients = tuple(map(Recipient, mail.recipients))
    message = MemoryMessage(mail.data)
    envelope = Envelope(mail.reverse_path, recipients)
    block, body = header.cut(mail.data)
    changes = edits.decide(
        block, queue_id=QUEUE_ID, hostname="relay.test", client=CLIENT, envelope=envelope, arrived=0.0, ended=body > len(block)
    )
    return Job(QUEUE_ID, envelope, recipients, changes, message)


# --- the oracle ---

# What calls itself one thing and is read as another (docs/decisions/003-mime.md).
READ_AS = {"iso-8859-1": "cp1252", "us-ascii": "no such charset", "gb2312": "gb18030", "ks_c_5601-1987": "cp949", "shift_jis": "cp932"}
META = re.compile(r"(<meta\b[^>]*?charset\s*=\s*[\"']?)[\w.:-]+", re.I)


def leaves(message: Message) -> Iterator[Message]:
    """The parts without children by the standard library; a message in a message is one."""
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.get_payload():
            assert isinstance(part, Message)
            yield from leaves(part)
    else:
        yield message


def decoded(part: Message) -> str:
    """The text of a part by its declared charset."""
    raw = part.get_payload(decode=True)
    assert isinstance(raw, bytes)
    charset = part.get_content_charset() or "us-ascii"
    charset = READ_AS.get(charset, charset)
    for name, errors in ((charset, "strict"), ("utf-8", "strict"), (charset, "replace")):
        try:
            return raw.decode(name, errors)
        except (LookupError, UnicodeDecodeError):
            continue
    return raw.decode("cp1252", "replace")


def same_text(ours: str, part: Message) -> bool:
    """Whether a text is a part's, but for line ends, a byte order mark, NUL characters and the charset that HTML names itself; of
    format=flowed the words are compared."""
    if part.is_multipart():
        return False
    theirs = decoded(part).replace("\r\n", "\n").removeprefix("\ufeff").replace("\0", "")
    ours, theirs = META.sub(r"\1x", ours).strip("\n"), META.sub(r"\1x", theirs).strip("\n")
    if part.get_param("format", "") in ("flowed", "Flowed"):
        ours, theirs = ("".join(text.replace(">", "").split()) for text in (ours, theirs))
    return ours == theirs or not (ours.strip() or theirs.strip())


def difference(data: bytes, handed: Handed) -> str:
    """What is in the request that is not in the message, or the other way round; "" where they agree."""
    left = list(leaves(message_from_bytes(data)))
    for file in handed.files:
        found = next((part for part in left if is_file(part, file, data)), None)
        if found is None:
            return f"a file of {len(file)} octets that is no part"
        left.remove(found)
    for text in (handed.text, handed.html):
        found = next((part for part in left if same_text(text, part)), None)
        if found is None and text.strip():
            return f"a text that is no part: {text[:60]!r}"
        if found is not None:
            left.remove(found)
    left = [part for part in left if part.get_content_maintype() not in ("text", "multipart") or decoded(part).strip()]
    return f"parts left out: {[part.get_content_type() for part in left]}" if left else ""


def is_file(part: Message, file: bytes, data: bytes) -> bool:
    """Whether a file is this part. Line ends at the end are left out: the library drops one where a multipart is unfinished. A
    message in a message, which the library has only parsed, stands in `data` as it is, or in base64."""
    if part.is_multipart():
        return file in data or base64.b64encode(file) in data.replace(b"\r\n", b"")
    found = part.get_payload(decode=True)
    return isinstance(found, bytes) and found.rstrip(b"\r\n") == file.rstrip(b"\r\n")


def read_otherwise(mail: messages.Sample) -> bool:
    """Whether the standard library reads the structure in another way, for a reason that tests/test_mime.py names."""
    theirs = [part for part in message_from_bytes(mail.data).walk() if not part.is_multipart()]
    return mail.name in OUR_WAY or reason(mail.data, [], theirs) != ""


def same_parts(raw: bytes, mail: messages.Sample) -> bool:
    """Whether a message that goes as it is has the content it came with; it may be encoded anew, but not where it is signed or
    encrypted."""
    block, _ = header.cut(mail.data)
    if any(part.content_type in ("multipart/signed", "multipart/encrypted") for part in mime.parse(mail.data).walk()):
        return raw.endswith(mail.data[len(block) :])
    ours, theirs = (
        [(part.content_type, part.decoded()) for part in mime.parse(one).walk() if not part.parts]
        for one in (raw, edits.strip(block, job_of(mail).edits) + mail.data[len(block) :])
    )
    return ours == theirs


async def requests_for(transport: Transport, mail: messages.Sample) -> Sequence[Preview]:
    """The requests for a mail; none where the provider cannot carry it."""
    with contextlib.suppress(CannotCarry):
        return await transport.preview(job_of(mail))
    return ()


@pytest.mark.parametrize("name", PROVIDERS)
async def test_what_is_handed_over(name: str) -> None:
    """Over all mail: no exception but CannotCarry, each file octet for octet, each text as the standard library reads it."""
    provider = PROVIDERS[name]
    transport = provider.transport()
    different: dict[str, str] = {}
    carried = whole = 0
    for mail in MAILS:
        for request in (await requests_for(transport, mail))[:1]:
            body = json.loads(request.body)
            if "Raw" in body.get("Content", ()):
                whole += 1
                assert same_parts(octets(body["Content"]["Raw"]["Data"]), mail)
            elif mail.name not in TEMPLATES and not read_otherwise(mail):
                carried += 1
                if what := difference(mail.data, provider.read(body)):
                    different[mail.name] = what
    await transport.aclose()
    print(f"{name}: of {len(MAILS)} mails {carried} taken apart, {whole} as they are")
    assert {} == different
    assert carried + whole > len(MAILS) / 2


@pytest.mark.parametrize("name", PROVIDERS)
async def test_nothing_with_a_hard_loss_is_taken_apart(name: str) -> None:
    """Signed, encrypted, calendar, report, two authors: such mail is in no request but as it is."""
    transport = PROVIDERS[name].transport()
    for mail in MAILS:
        for request in await requests_for(transport, mail):
            if "Raw" in json.loads(request.body).get("Content", ()):
                continue
            assert [] == [loss for loss in request.losses if loss.grade == "hard"], mail.name
            assert [] == [loss for loss in fidelity.rebuild(mime.parse(mail.data)).losses if loss.grade == "hard"], mail.name
            assert mail.name not in messages.HARD
    await transport.aclose()


@pytest.mark.parametrize("name", PROVIDERS)
async def test_each_recipient_is_in_one_request(name: str) -> None:
    """Every sample that is carried has each of its recipients in exactly one request, or in a refusal that says why."""
    transport = PROVIDERS[name].transport()
    for mail in messages.ours():
        try:
            jobs = await transport.prepare(job_of(mail))
        except CannotCarry:
            continue
        assert sorted(mail.recipients) == sorted(recipient.address for job in jobs for recipient in job.recipients), mail.name
    await transport.aclose()


FIELDS = st.one_of(
    st.sampled_from(
        [
            b"From: app@example.com",
            b"From: a@b, c@d",
            b"From: =?utf-8?q?=0D=0Ax?= <app@m\xc3\xbcller.example>",
            b"To: ann@example.net",
            b"To: x: ann@example.net, <bob@example.net>;",
            b"Reply-To: \xff <a@b>, c",
            b"Subject: =?utf-8?b?AAAA?= \xed\xa0\x80",
            b"Content-Type: multipart/mixed; boundary=b",
            b"Content-Type: text/html; charset=utf-7",
            b"Content-Transfer-Encoding: base64",
            b'X-MT-Custom-Variables: {"a": "\\ud800", "b": [1]}',
            b"X-PM-Metadata-\xff: x",
            b"X-PM-Metadata-A: \xff",
            b"X-PM-Tag: \xff\x00",
            b"X-SES-MESSAGE-TAGS: a=b, c, =d, e=\xff",
            b"X-SES-CONFIGURATION-SET: a b",
            b"X-Relay-Template: a",
            b'X-Relay-Template-Model: {"\\u0000": "\\ufdd0"}',
            b"List-Unsubscribe: <a>, \xff",
            b"References: <a@b> " + b"x" * 300,
            b"X-Bad Name: x",
            b"X-\x7f: x",
        ]
    ),
    st.binary(max_size=30).map(lambda value: b"X-Any: " + re.sub(rb"[\r\n]", b"", value)),
)


@given(st.lists(FIELDS, max_size=6).map(b"\r\n".join), MESSAGE_LIKE, st.sampled_from(sorted(PROVIDERS)))
def test_any_message(fields: bytes, rest: bytes, name: str) -> None:
    """Whatever a message is made of, it becomes requests that are JSON, each recipient in one of them, or CannotCarry with a reason."""
    mail = messages.Sample("any", "", stored(fields + b"\r\n" + rest), (messages.ANN, messages.BOB))
    transport = TRANSPORTS[name]
    job = job_of(mail)
    try:
        requests = transport.build(mail.data, job, apart=False)
    except CannotCarry as error:
        reasons = error.reasons
        assert all(reasons)
        return
    assert sorted(mail.recipients) == sorted(one for request in requests for one in request.recipients)
    for request in requests:
        body = request.body()
        assert isinstance(json.loads(body.whole()), dict)
        assert body.size == len(body.whole())
