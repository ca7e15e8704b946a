"""Mailtrap: golden requests, limits, and the class against real local servers. Its replies: test_mailtrap_replies.py."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import directives, header
from relay.errors import CannotCarry
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Batching, Share
from relay.transports.http import Http
from relay.transports.mailtrap import Mailtrap, MailtrapSettings, Payload, payload, together
from relay.transports.mailtrap.request import MAX_REQUEST, MAX_SHARING
from tests.jobs import accepted, job
from tests.servers import Act, HttpServer, Request, Response
from tests.test_mime import MESSAGE_LIKE, corpus, stored

DATA = Path(__file__).parent.parent / "data"
TOKEN = "canary-0123456789"
QUEUE_ID = "687E7641C64007"
UUID = "b81aabcd-1a1e-41cf-91b6-eca0254b3d96"
SETTINGS = MailtrapSettings("mailtrap", TOKEN, controls={"local": directives.DIALECTS})
SANDBOX: dict[str, Any] = {"stream": "sandbox", "sandbox_id": "4015"}
TAKEN = Response(200, b'{"success":true,"message_ids":["0c7fd939-02cf-11ed-88c2-0a58a9feac02"]}')

# Golden cases: message, recipients, settings.
CASES: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "plain": ("plain", ["ops@example.net"], {}),
    "invoice": ("invoice", ["ann@example.net", "bob@example.org", "cc@example.net", "hidden@example.net"], {}),
    "invoice-to-one-of-them": ("invoice", ["cc@example.net"], {"streams": {"billing": "bulk"}}),
    "invoice-controls-not-obeyed": ("invoice", ["ann@example.net"], {"controls": {"local": ()}}),
    "invoice-to-a-sandbox": ("invoice", ["ann@example.net"], {**SANDBOX, "streams": {"billing": "bulk"}}),
    "undisclosed": ("latin1", ["one@example.net", "two@example.net"], {"stream": "bulk"}),
    "php": ("php", ["info@example.net"], {}),
    "scanner": ("scanner", ["desk@example.net"], {}),
    "template-refused": ("template", ["customer@example.net"], {}),
    "forward": ("forward", ["b@example.net"], {}),
    "bounce": ("bounce", ["app@example.com"], {}),
    "invite-refused": ("invite", ["team@example.net"], {}),
    "invite-warned": ("invite", ["team@example.net"], {"on_loss": "warn"}),
    "signed-refused": ("signed", ["b@example.net"], {}),
    "signed-warned": ("signed", ["b@example.net"], {"on_loss": "warn"}),
    "blocked": ("blocked", ["b@example.net"], {}),
}


def requests(data: bytes, recipients: Sequence[str], *, apart: bool = False, **settings: Any) -> tuple[Payload, ...]:
    """The requests for a message accepted from the listener `local` for these recipients."""
    told = accepted(data, recipients, QUEUE_ID)
    return payload(data, settings=dataclasses.replace(SETTINGS, **settings), **told, apart=apart)


def loaded(request: Payload) -> dict[str, Any]:
    """A request's JSON, whose octets are as many as it says."""
    whole = request.body().whole()
    assert len(whole) == request.body().size
    found: dict[str, Any] = json.loads(whole)
    return found


def built(data: bytes, *recipients: str, **settings: Any) -> dict[str, Any]:
    """The JSON of the only request for a message."""
    (request,) = requests(data, recipients or ["b@example.net"], **settings)
    return loaded(request)


def losses(data: bytes, *recipients: str, **settings: Any) -> list[str]:
    """What a message loses, but for the losses that are common to all."""
    found = requests(data, recipients or ["b@example.net"], **settings)[0].losses
    return [loss.what for loss in found if loss.grade == "cosmetic"]


def mail(fields: str, body: str = "text\n") -> bytes:
    """A message with CRLF line ends; From, To and Subject are added where there are none."""
    for field in ("Subject: x", "To: b@example.net", "From: a@example.com"):
        if not f"\n{fields}".count(f"\n{field.partition(' ')[0]}"):
            fields = f"{field}\n{fields}"
    return f"{fields}\n{body}".replace("\n", "\r\n").encode()


def golden(name: str) -> dict[str, Any]:
    """What a golden case comes to, in the form of its file."""
    message, recipients, settings = CASES[name]
    try:
        found = requests((DATA / "messages" / f"{message}.eml").read_bytes(), recipients, **settings)
    except CannotCarry as error:
        return {"cannot carry": list(error.reasons), "status": error.status}
    return {
        "requests": [{"path": request.path, "kind": request.kind, "body": loaded(request)} for request in found],
        "identities": list(found[0].identities),
        "losses": [[loss.grade, loss.what] for loss in found[0].losses],
    }


@pytest.mark.parametrize("name", CASES)
def test_golden_payloads(name: str) -> None:
    """Each message becomes exactly the requests in its file, or is refused for the reasons there."""
    assert json.loads((DATA / "payloads" / "mailtrap" / f"{name}.json").read_text(encoding="utf-8")) == golden(name)


def test_every_recipient_is_in_one_request() -> None:
    """Up to 1,000 share a request with those the header shows; whom it does not show share further ones."""
    shown = [f"shown{number}@example.net" for number in range(2)]
    hidden = [f"hidden{number}@example.net" for number in range(2001)]
    found = requests(mail(f"To: {shown[0]}\nCc: {shown[1]}\n"), [*hidden, *shown])
    assert [1000, 1000, 3] == [len(request.recipients) for request in found]
    assert sorted([*shown, *hidden]) == sorted(recipient for request in found for recipient in request.recipients)
    assert [{"to", "cc", "bcc"}, {"bcc"}, {"bcc"}] == [set(loaded(request)) & {"to", "cc", "bcc"} for request in found]


def test_recipients_whom_no_field_shows_share_a_request() -> None:
    """By bcc alone, without a loss; one of them alone is its To. Apart, after a refusal, each has a request of his own."""
    both = ["b@example.net", "c@example.net"]
    nobody = mail("To: undisclosed-recipients:;\n")
    (request,) = requests(nobody, both)
    assert [{"email": one} for one in both] == loaded(request)["bcc"]
    assert (set(), ()) == (loaded(request).keys() & {"to", "cc"}, request.losses)
    assert [{"email": "b@example.net"}] == loaded(requests(nobody, both[:1])[0])["to"]
    assert [("b@example.net",), ("c@example.net",)] == [one.recipients for one in requests(nobody, both, apart=True)]
    (request,) = requests(mail("To: list@example.org\n"), both)
    assert ["To and Cc show only the recipients of each request"] == [loss.what for loss in request.losses]


def test_a_contact_list_is_missed() -> None:
    """Without it who unsubscribed would get the mail: a hard loss."""
    data = mail("To: b@example.net\nX-SES-List-Management-Options: friends; topic=news\n")
    with pytest.raises(CannotCarry, match="the contact list 'friends; topic=news' of Amazon SES is left out"):
        requests(data, ["b@example.net"])
    (request,) = requests(data, ["b@example.net"], on_loss="warn")
    assert ["hard"] == [loss.grade for loss in request.losses]


def test_addresses_that_are_not_taken_do_not_spoil_the_others() -> None:
    """A quoted local part has a request of its own, so that its refusal is its own; alone it is refused before sending."""
    odd = '"a b"@example.net'
    found = requests(mail(f"To: {odd}, b@example.net\n"), [odd, "b@example.net", "postmaster", "b@[192.0.2.1]"])
    assert [("b@example.net",), (odd,), ("postmaster",), ("b@[192.0.2.1]",)] == [request.recipients for request in found]
    assert ["", *["Mailtrap takes no recipient address of this form"] * 3] == [request.refusal for request in found]
    with pytest.raises(CannotCarry, match="no recipient address of this form"):
        requests(mail(f"To: {odd}\n"), [odd])


def test_when_smtp_is_the_better_way() -> None:
    """Where To and Cc show more than a request takes; for those whom no field shows bcc is as good."""
    many = [f"user{number}@example.net" for number in range(1001)]
    assert {"To and Cc show 1001 addresses, and Mailtrap takes 1000 in a request"} == {
        request.by_smtp for request in requests(mail(f"To: {', '.join(many)}\n"), many)
    }
    assert {""} == {request.by_smtp for request in requests(mail("To: a@example.net\n"), many)}


@pytest.mark.parametrize(
    ("data", "settings", "reason", "status"),
    [
        (mail("From: nobody\n"), {}, "there is no From address", "5.6.3"),
        (mail("From: jörg@example.com\n"), {}, "From address has a local part that is not ASCII", "5.6.3"),
        (mail("From: <a@[192.0.2.1]>\n"), {}, "From address is not one that Mailtrap takes", "5.6.3"),
        (mail("From: a@example.com, b@example.com\n"), {}, "more than one From address", "5.6.3"),
        (mail("X-Relay-Template: welcome\n"), {}, "'welcome' is not the UUID of a Mailtrap template", "5.6.3"),
        (mail(f"X-Relay-Template: {UUID}\nX-Relay-Template-Model: [1]\n"), {}, "is not a JSON object", "5.6.3"),
        (mail("X: y\n" * 1001), {}, "more than 1000 fields", "5.6.3"),
        (mail("", "x" * 2000), {"max_size": 2000}, r"the request has 2,\d{3} octets after base64; Mailtrap takes 2,000", "5.3.4"),
        (mail("", "é" * (MAX_REQUEST // 2)), {}, "octets after base64; Mailtrap takes 10,000,000", "5.3.4"),
        (
            mail("Content-Type: application/pdf; name=none.pdf\n", ""),
            {},
            "the file none.pdf is left out: Mailtrap takes none that is empty",
            "5.6.3",
        ),
    ],
)
def test_cannot_carry(data: bytes, settings: dict[str, Any], reason: str, status: str) -> None:
    """What Mailtrap would refuse is found before sending, and named."""
    with pytest.raises(CannotCarry, match=reason) as caught:
        requests(data, ["b@example.net"], **settings)
    assert status == caught.value.status


def test_what_may_not_be_empty() -> None:
    """An empty Subject becomes a few words, an empty body a space; an empty text beside an HTML is left out."""
    body = built(mail("Subject:  =?utf-8?q?_?=\n", ""))
    assert ("(no subject)", " ") == (body["subject"], body["text"])
    assert "the Subject is empty: (no subject) takes its place" in losses(mail("Subject:\n"))
    html = built(mail("Content-Type: text/html\n", "<p>x</p>"))
    assert ("<p>x</p>", False) == (html["html"], "text" in html)


def test_an_empty_file_with_a_warning() -> None:
    """Where hard losses are only warned of, the message goes without it."""
    assert "attachments" not in built(mail("Content-Type: application/pdf; name=none.pdf\n", ""), on_loss="warn")


def test_names_stand_beside_addresses() -> None:
    """An address without a name has none, a name is decoded, a domain goes as A-labels and comes back as the envelope has it."""
    data = mail('From: =?utf-8?q?J=C3=B6rg?= <a@bücher.example>\nTo: b@bücher.example\nCc: "C, D" <c@example.net>\n')
    (request,) = requests(data, ["b@bücher.example", "c@example.net"])
    body = loaded(request)
    assert {"email": "a@xn--bcher-kva.example", "name": "Jörg"} == body["from"]
    assert [{"email": "b@xn--bcher-kva.example"}] == body["to"]
    assert [{"email": "c@example.net", "name": "C, D"}] == body["cc"]
    assert ("b@bücher.example", "c@example.net") == request.recipients
    assert "domain=xn--bcher-kva.example" in request.identities


def test_one_reply_to_is_a_parameter_and_several_are_a_field() -> None:
    """In the field names are encoded words, because Mailtrap would encode a value with other characters as a whole."""
    one = built(mail("Reply-To: =?utf-8?q?J=C3=B6rg?= <a@example.com>\n"))
    assert ({"email": "a@example.com", "name": "Jörg"}, "headers" in one) == (one["reply_to"], False)
    two = built(mail('Reply-To: =?utf-8?q?J=C3=B6rg=2C?= <a@example.com>, "B, C" <b@example.com>, nobody\n'))
    assert {"Reply-To": '=?utf-8?b?SsO2cmcs?= <a@example.com>, "B, C" <b@example.com>'} == two["headers"]
    assert "reply_to" not in two
    long = "ö" * 100
    value = built(mail(f"Reply-To: {long} <a@example.com>, b@example.com\n"))["headers"]["Reply-To"]
    assert (f"{long} <a@example.com>, b@example.com", True) == (header.text(value.encode()), "\n" not in value)


def test_one_value_for_each_header() -> None:
    """Fields whose grammar is a list are joined, of others the first is kept and that is told; the same value twice is no loss."""
    fields = "Keywords: a\nkeywords: b\nReferences: <1@x>\nReferences: <2@x>\nX-Note: one\nX-Note: two\nX-Same: s\nX-Same: s\n"
    assert {"Keywords": "a, b", "References": "<1@x> <2@x>", "X-Note": "one", "X-Same": "s"} == built(mail(fields))["headers"]
    assert ["of 2 fields called X-Note only the first is kept"] == losses(mail(fields))


def test_headers_that_are_not_sent() -> None:
    """What Mailtrap has parameters for, or makes itself, is in no header; what would be seen of it is told."""
    fields = (
        "Message-ID: <1@x>\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nSender: s@example.com\nCategory: c\nCustom-Variables: {}\n"
        "MIME-Version: 1.0\nContent-Language: de\nReplyTo: x@example.com\nReceived: x\nDKIM-Signature: v=1\nX-Kept: yes\n"
    )
    assert {"X-Kept": "yes"} == built(mail(fields))["headers"]
    assert [
        "the Sender field is left out",
        *(f"the {name} field is left out: Mailtrap has a parameter for that name" for name in ("Category", "Custom-Variables", "ReplyTo")),
    ] == losses(mail(fields))


def test_headers_go_as_they_stand() -> None:
    """Encoded words stay encoded, other characters are Unicode; an encoded line end stays inside its value."""
    fields = "X-Name: =?utf-8?q?J=C3=B6rg?=\nX-Ort: Köln\nX-Note: =?utf-8?q?a=0d=0aBcc:_evil=40example.com?=\nX-Odd: a\n\tb\x1b\x00c\n"
    assert {
        "X-Name": "=?utf-8?q?J=C3=B6rg?=",
        "X-Ort": "Köln",
        "X-Note": "=?utf-8?q?a=0d=0aBcc:_evil=40example.com?=",
        "X-Odd": "a b c",
    } == built(mail(fields))["headers"]


def test_tag_and_metadata() -> None:
    """The tag is the category, cut to 255 characters; other metadata are custom variables, and ours joins them."""
    body = built(mail("X-SES-Message-Tags: category=c, customer=42\nX-PM-Metadata-Plan: größer\n"))
    assert ("c", {"Plan": "größer", "customer": "42", "relay-id": QUEUE_ID}) == (body["category"], body["custom_variables"])
    long = mail(f"X-MT-Category: {'x' * 256}\n")
    assert ("x" * 255, ["the tag is cut to 255 characters"]) == (built(long)["category"], losses(long))
    assert {"Relay-ID": "mine"} == built(mail("X-Relay-Metadata-Relay-ID: mine\n"))["custom_variables"]


def test_room_for_custom_variables() -> None:
    """Together they have 1,000 octets of JSON: what does not fit is left out and told, the queue id without a word."""
    data = mail(f"X-PM-Metadata-a: {'x' * 900}\nX-PM-Metadata-b: {'y' * 100}\nX-PM-Metadata-c: {'é' * 10}\nX-PM-Metadata-d: {'z' * 20}\n")
    kept = built(data)["custom_variables"]
    assert ["a", "c"] == list(kept)
    assert [f"metadata {key!r} is left out: Mailtrap takes 1,000 octets in all" for key in "bd"] == losses(data)


def test_a_template_brings_its_own_words() -> None:
    """With a template there is neither subject nor body nor category, and the message goes alone."""
    data = mail(f'X-Relay-Template: {UUID}\nX-Relay-Template-Model: {{"n": 1}}\nX-SES-Message-Tags: category=c\nX-Relay-Inline-Css: yes\n')
    (request,) = requests(data, ["b@example.net"])
    body = loaded(request)
    assert {"to", "from", "template_uuid", "template_variables", "custom_variables"} == set(body)
    assert (UUID, {"n": 1}, {"category": "c", "relay-id": QUEUE_ID}) == (
        body["template_uuid"],
        body["template_variables"],
        body["custom_variables"],
    )
    assert ("", f"template={UUID}") == (request.kind, request.identities[-1])
    assert [
        "the tag 'c' is left out: the template has its own category",
        "Mailtrap does not put style sheets into the elements of a template",
    ] == losses(data)
    assert {} == built(mail(f"X-Relay-Template: {UUID}\n"))["template_variables"]


def test_directives_that_mailtrap_has_not() -> None:
    """Each is told, and none of them keeps the mail from going."""
    data = mail("X-PM-TrackOpens: true\nX-PM-TrackLinks: None\nX-SES-Configuration-Set: set\nX-SES-Tenant: t\nX-MT-Odd: x\n")
    found = losses(data)
    assert ["configuration set", "open tracking", "link tracking", "tenant", "x-mt-odd"] == [
        next(word for word in ("configuration set", "open tracking", "link tracking", "tenant", "x-mt-odd") if word in phrase)
        for phrase in found
    ]


@pytest.mark.parametrize(
    ("fields", "settings", "stream"),
    [
        ("", {}, "transactional"),
        ("", {"stream": "bulk"}, "bulk"),
        ("X-PM-Message-Stream: broadcast\n", {}, "bulk"),
        ("X-Relay-Stream: transactional\n", {"stream": "bulk"}, "transactional"),
        ("X-SES-Configuration-Set: news\n", {"streams": {"news": "bulk"}}, "bulk"),
        ("X-PM-Message-Stream: unheard-of\n", {}, "transactional"),
        ("X-Relay-Stream: bulk\n", SANDBOX, "sandbox"),
        ("X-SES-Configuration-Set: news\n", {**SANDBOX, "streams": {"news": "bulk"}}, "sandbox"),
    ],
)
def test_streams(fields: str, settings: dict[str, Any], stream: str) -> None:
    """A mail goes by the stream that it asks for; mail of a sandbox never leaves it."""
    (request,) = requests(mail(fields), ["b@example.net"], **settings)
    assert (stream, f"{stream} example.com") == (request.uses["stream"], request.kind)
    assert ("/api/send/4015" if stream == "sandbox" else "/api/send") == request.path
    of_own = stream == settings.get("stream", "transactional")
    assert ("domain=example.com" if of_own else f"domain=example.com/{stream}") == request.identities[0]


def test_hosts() -> None:
    """A sandbox has one host; otherwise each stream has its own, unless the configuration names one for all."""
    assert ("https://sandbox.api.mailtrap.io",) == dataclasses.replace(SETTINGS, stream="sandbox").urls
    assert ("https://bulk.api.mailtrap.io", "https://send.api.mailtrap.io") == dataclasses.replace(SETTINGS, stream="bulk").urls
    assert ("http://127.0.0.1:1",) == dataclasses.replace(SETTINGS, base_url="http://127.0.0.1:1").urls


def test_files() -> None:
    """A file the HTML shows is inline with its bare Content-ID; a name that is not ASCII may suffer."""
    inner = (
        "--b\nContent-Type: text/html\n\n<img src='cid:l@x'>\n--b\nContent-Type: image/png; name=l.png\nContent-ID: <l@x>\n\nPNG\n"
        "--b\nContent-Type: text/csv; charset=iso-8859-1; name*=utf-8''%C3%BC.csv\nContent-Transfer-Encoding: base64\n\nZm\n9v\n--b--\n"
    )
    data = mail("Content-Type: multipart/related; boundary=b\n", inner)
    picture, table = built(data)["attachments"]
    assert {"filename": "l.png", "type": "image/png", "content": "UE5H", "disposition": "inline", "content_id": "l@x"} == picture
    assert {"filename": "ü.csv", "type": "text/csv; charset=iso-8859-1", "content": "Zm9v", "disposition": "attachment"} == table
    assert ["the name of the file ü.csv may arrive garbled"] == losses(data)


@given(MESSAGE_LIKE, st.sampled_from(["refuse", "warn"]))
def test_anything_maps_or_is_refused(data: bytes, on_loss: str) -> None:
    """Whatever a message is made of, it becomes requests within the limits or is refused with a reason."""
    try:
        found = requests(b"From: a@example.com\r\n" + data + b"\r\n", ["a@example.net", "b@example.net"], on_loss=on_loss)
    except CannotCarry as error:
        assert "" not in error.reasons  # noqa: PT017 # the error is the expected other way
        return
    for request in found:
        body = loaded(request)
        assert {"from", "subject", "custom_variables"} <= set(body)
        assert set(body) & {"to", "bcc"}
        assert body.get("text") or body.get("html")
        assert all(isinstance(value, str) for value in body.get("headers", {}).values())


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail(path: Path) -> None:
    """Every message maps within the limits, or is refused with a reason."""
    try:
        built(stored(path.read_bytes()), "a@example.net", on_loss="warn")
    except CannotCarry as error:
        assert all(error.reasons)  # noqa: PT017 # the error is the expected other way


# --- the class ---


@asynccontextmanager
async def account(server: HttpServer, bulk: HttpServer | None = None, *, seconds: float = 5.0, **settings: Any) -> AsyncIterator[Mailtrap]:
    """A transport whose doors lead to local servers."""
    chosen = dataclasses.replace(SETTINGS, base_url=server.url, **settings)
    urls = {stream: bulk.url if bulk and stream == "bulk" else url for stream, url in chosen.doors.items()}
    doors = {stream: Http(base_url=url, timeout=seconds, concurrency=2) for stream, url in urls.items()}
    transport = Mailtrap(chosen, doors)
    try:
        yield transport
    finally:
        await transport.aclose()


async def attempt(transport: Mailtrap, *given: Job) -> Mapping[tuple[str, str], Outcome]:
    """Prepare jobs, and attempt each by itself."""
    outcomes: dict[tuple[str, str], Outcome] = {}
    for one in given:
        for prepared in await transport.prepare(one):
            outcomes |= await transport.attempt([prepared])
    return outcomes


async def test_one_request_for_each_job() -> None:
    """The request has Mailtrap's login and path; its outcomes name an id for each recipient, and who answered."""
    answer = Response(200, b'{"success":true,"message_ids":["id-1","id-2"]}')
    async with HttpServer([answer]) as server, account(server) as transport:
        outcomes = await attempt(transport, job("b@example.net", "a@example.net"))
    request = server.requests[0]
    assert ("POST", "/api/send", f"Bearer {TOKEN}") == (request.method, request.path, request.headers["authorization"])
    assert ("application/json", "relay") == (request.headers["content-type"], request.headers["user-agent"])
    body = json.loads(request.body)
    assert ([{"email": "a@example.net"}], [{"email": "b@example.net"}]) == (body["to"], body["bcc"])
    remote = f"127.0.0.1[127.0.0.1]:{server.port}"
    assert {"a@example.net": ("id-1", "200 id=id-1", remote), "b@example.net": ("id-2", "200 id=id-2", remote)} == {
        address: (outcome.remote_id, outcome.reply, outcome.remote) for (_, address), outcome in outcomes.items()
    }


async def test_each_stream_has_its_door() -> None:
    """Bulk mail goes by the bulk host, and a sandbox's by the sandbox, whatever it asks for."""
    bulk_mail = job("b@example.net", data=mail("X-PM-Message-Stream: broadcast\n"))
    async with HttpServer([TAKEN]) as server, HttpServer([TAKEN]) as bulk:
        async with account(server, bulk) as transport:
            await attempt(transport, job("b@example.net"), bulk_mail)
        async with account(server, bulk, **SANDBOX) as transport:
            await attempt(transport, bulk_mail)
    assert ["/api/send", "/api/send/4015"] == [request.path for request in server.requests]
    assert ["/api/send"] == [request.path for request in bulk.requests]


async def test_a_batch() -> None:
    """Messages of one kind go in one request, each whole; their results come back in order."""
    results = [
        {"success": True, "message_ids": ["id-0"]},
        {"success": False, "errors": ["'subject' is required"]},
        {"success": True, "message_ids": ["id-2"]},
    ]
    answer = Response(200, json.dumps({"success": True, "responses": results}).encode())
    async with HttpServer([answer]) as server, account(server, batching=Batching(500, 50_000_000, 0.2)) as transport:
        prepared = [(await transport.prepare(job("b@example.net", queue_id=f"Q{number}")))[0] for number in range(3)]
        shares = [transport.share(one) for one in prepared]
        outcomes = await transport.attempt(prepared)
    (request,) = server.requests
    sent = json.loads(request.body)
    assert ("/api/batch", {}, 3) == (request.path, sent["base"], len(sent["requests"]))
    assert [f"Q{number}" for number in range(3)] == [one["custom_variables"]["relay-id"] for one in sent["requests"]]
    assert ["OK id-0", "PERM-MSG ", "OK id-2"] == [
        f"{outcome.verdict} {outcome.remote_id}" for outcome in (outcomes[f"Q{number}", "b@example.net"] for number in range(3))
    ]
    octets = [share.octets for share in shares if share]
    assert [Share("transactional example.com", octets[0])] == [share for share in shares[:1]]
    assert sum(octets) + len(b'{"base":{},"requests":[') + 1 == len(request.body)


def test_the_path_of_a_batch() -> None:
    """A sandbox has its own, a stream too."""
    for settings, path in (({}, "/api/batch"), (SANDBOX, "/api/batch/4015")):
        found = requests(mail(""), ["b@example.net"], **settings)
        assert path == together(found)[0]


async def test_who_goes_alone() -> None:
    """No batch takes a template, many recipients, one whom Mailtrap does not take, or anything where batches are off."""
    many = [f"u{number}@example.net" for number in range(MAX_SHARING + 1)]
    kinds = {
        "template": job("b@example.net", data=mail(f"X-Relay-Template: {UUID}\n")),
        "many": job(*many, data=mail(f"To: {', '.join(many)}\n")),
        "refused": job('"a b"@example.net', "b@example.net"),
    }
    async with HttpServer() as server:
        async with account(server, batching=Batching(500, 50_000_000, 0.2)) as transport:
            prepared = {kind: (await transport.prepare(one))[-1 if kind == "refused" else 0] for kind, one in kinds.items()}
            refused = [one for one in await transport.prepare(kinds["refused"]) if transport.refuses(one)]
            assert [None, None] == [transport.share(prepared["template"]), transport.share(prepared["many"])]
            assert [None] == [transport.share(one) for one in refused]
        async with account(server) as transport:
            assert transport.share((await transport.prepare(job("b@example.net")))[0]) is None


async def test_a_batch_that_is_refused_is_taken_apart() -> None:
    """One message that makes Mailtrap refuse the whole is found, and the others go."""

    def answer(request: Request) -> Response:
        if b"poison" in request.body:
            return Response(400, b'{"success":false,"errors":["\'subject\' is too odd"]}')
        count = len(json.loads(request.body).get("requests", "1"))
        results = [{"success": True, "message_ids": ["id"]}] * count
        return Response(200, json.dumps({"success": True, "responses": results}).encode()) if "batch" in request.path else TAKEN

    async with HttpServer(answer) as server, account(server, batching=Batching(500, 50_000_000, 0.2)) as transport:
        data = {number: mail(f"Subject: {'poison' if number == 5 else 'x'}\n") for number in range(8)}
        prepared = [(await transport.prepare(job("b@example.net", data=data[number], queue_id=f"Q{number}")))[0] for number in data]
        outcomes = await transport.attempt(prepared)
    assert ["Q5"] == [queue_id for (queue_id, _), outcome in outcomes.items() if outcome.verdict is Verdict.PERM_MSG]
    assert {Verdict.OK, Verdict.PERM_MSG} == {outcome.verdict for outcome in outcomes.values()}
    assert ["/api/batch"] * 5 == [request.path for request in server.requests if len(request.path) > 9]


async def test_unauthorized_is_the_domain_first_and_the_token_then() -> None:
    """A second domain that hears 401 makes it the token's fault, until a mail is taken."""
    status = {"a.example": 401, "b.example": 401, "c.example": 200}

    def answer(request: Request) -> Response:
        domain = json.loads(request.body)["from"]["email"].partition("@")[2]
        return TAKEN if status[domain] == 200 else Response(401, b'{"errors":["Unauthorized"]}')

    async with HttpServer(answer) as server, account(server) as transport:

        async def heard(domain: str, fields: str = "") -> str:
            outcomes = await attempt(transport, job("b@example.net", data=mail(f"From: x@{domain}\n{fields}")))
            (outcome,) = outcomes.values()
            return f"{outcome.verdict} {outcome.identity}".strip()

        bulk = "X-Relay-Stream: bulk\n"
        assert ["CONFIG domain=a.example/bulk", "CONFIG domain=b.example/bulk"] == [await heard(f"{one}.example", bulk) for one in "ab"]
        assert ["CONFIG domain=a.example", "CONFIG domain=a.example", "PAUSE", "PAUSE"] == [
            await heard(domain) for domain in ("a.example", "a.example", "b.example", "a.example")
        ]
        assert ["OK", "CONFIG domain=b.example", "PAUSE"] == [await heard(domain) for domain in ("c.example", "b.example", "a.example")]


async def test_a_batch_hears_unauthorized_as_one_message_does() -> None:
    """Whose domain it is comes back for each message, and counts like any other."""
    answer = Response(401, b'{"errors":["Unauthorized"]}')
    async with HttpServer([answer]) as server, account(server, batching=Batching(500, 50_000_000, 0.2)) as transport:
        prepared = [(await transport.prepare(job("b@example.net", queue_id=f"Q{number}")))[0] for number in range(2)]
        outcomes = await transport.attempt(prepared)
        other = await attempt(transport, job("b@example.net", data=mail("From: a@other.example\n")))
    assert {(Verdict.CONFIG, "domain=example.com")} == {(outcome.verdict, outcome.identity) for outcome in outcomes.values()}
    assert {Verdict.PAUSE} == {outcome.verdict for outcome in other.values()}


@pytest.mark.parametrize(
    ("act", "expected"),
    [(Act.CUT, "UNKNOWN 4.4.2"), (Act.RESET, "UNKNOWN 4.4.2"), (b"garbage\r\n\r\n", "UNKNOWN 4.4.2"), (Act.EARLY, "RETRY 4.3.0")],
)
async def test_no_complete_answer(act: Act | bytes, expected: str) -> None:
    """A cut after the request was handed over leaves it unknown whether the message was taken; before that it was not."""
    size = 8_000_000 if act is Act.EARLY else 10
    given = job(data=mail("Content-Type: application/x\n", "x" * (size // 2)))
    async with HttpServer([act]) as server, account(server) as transport:
        (outcome,) = (await attempt(transport, given)).values()
    assert (expected, True) == (f"{outcome.verdict} {outcome.status}", outcome.own)


async def test_a_batch_without_an_answer() -> None:
    """Nobody knows of any of its messages whether it was taken."""
    async with HttpServer([Act.CUT]) as server, account(server, batching=Batching(500, 50_000_000, 0.2)) as transport:
        prepared = [(await transport.prepare(job("b@example.net", queue_id=f"Q{number}")))[0] for number in range(2)]
        outcomes = await transport.attempt(prepared)
    assert [Verdict.UNKNOWN] * 2 == [outcome.verdict for outcome in outcomes.values()]


async def test_a_silent_server() -> None:
    """No answer in time: the message may have been taken."""
    async with HttpServer([Act.HANG]) as server, account(server, seconds=0.2) as transport:
        (outcome,) = (await attempt(transport, job())).values()
    assert Verdict.UNKNOWN is outcome.verdict


async def test_nobody_listens() -> None:
    """A provider that cannot be reached is paused and says what to look at."""
    async with HttpServer() as server:
        pass
    async with account(server) as transport:
        (outcome,) = (await attempt(transport, job())).values()
        (check,) = await transport.probe()
    assert (Verdict.PAUSE, f"check the network and base_url ({server.url})") == (outcome.verdict, outcome.mend)
    assert ("connect", False, outcome.reply, outcome.mend) == (check.what, check.ok, check.text, check.mend)


async def test_a_token_that_is_quoted_back_is_not_repeated() -> None:
    """Whoever answers might quote the token; log and bounce never show it."""
    said = json.dumps({"errors": [f"nobody has the token {TOKEN}"]}).encode()
    async with HttpServer([Response(401, said)]) as server, account(server) as transport:
        (outcome,) = (await attempt(transport, job())).values()
    assert "401 Unauthorized: nobody has the token [token]" == outcome.reply
    assert f"({len(TOKEN)} characters)" in outcome.mend
    assert TOKEN not in repr(outcome) + repr(SETTINGS)


async def test_a_token_that_is_quoted_back_in_json_is_not_repeated() -> None:
    """A token of which JSON writes a character in another way is known in that way too."""
    odd = 'canary"\\0123456789'
    said = json.dumps({"errors": [f"nobody has the token {odd}"]}).encode()
    async with HttpServer([Response(401, said)]) as server, account(server, token=odd) as transport:
        (outcome,) = (await attempt(transport, job())).values()
    assert "401 Unauthorized: nobody has the token [token]" == outcome.reply


async def test_a_preview_is_what_would_be_sent() -> None:
    """Each request as `attempt` sends it, without the token; who is in none of them is named as a hard loss."""
    given = job("b@example.net", '"a b"@example.net', data=mail("To: b@example.net\nX-Relay-Stream: bulk\n"))
    async with HttpServer([TAKEN]) as server, account(server) as transport:
        await attempt(transport, given)
        [shown] = await transport.preview(given)
    [request] = server.requests
    assert (request.method, server.url + request.path, request.body) == (shown.method, shown.url, shown.body)
    assert "Bearer [secret]" == shown.headers["Authorization"]
    assert ("-H", "Authorization: Bearer $MAILTRAP_TOKEN") == shown.login
    assert '"a b"@example.net gets nothing: Mailtrap takes no recipient address of this form' in [
        loss.what for loss in shown.losses if loss.grade == "hard"
    ]
    assert TOKEN not in repr(shown)


@pytest.mark.parametrize(
    ("stream", "url"),
    [
        ({}, "https://send.api.mailtrap.io/api/send"),
        ({"stream": "bulk"}, "https://bulk.api.mailtrap.io/api/send"),
        (SANDBOX, "https://sandbox.api.mailtrap.io/api/send/4015"),
    ],
)
async def test_a_preview_names_the_real_host(stream: dict[str, Any], url: str) -> None:
    """Nothing is connected for it."""
    settings = dataclasses.replace(SETTINGS, **stream)
    transport = Mailtrap(settings, {name: Http(base_url=one, timeout=5, concurrency=1) for name, one in settings.doors.items()})
    assert [url] == [shown.url for shown in await transport.preview(job("b@example.net"))]
    assert ("mailtrap", 10, 1, False) == (transport.provider, transport.concurrency, transport.batching.jobs, transport.carries_reports)


REFUSED_EMPTY = Response(400, b'{"success":false,"errors":["\'from\' is required","\'subject\' is required"]}')


async def test_a_probe_sends_no_mail() -> None:
    """An empty request is refused for its content where the token is taken; streams that the configuration names are asked too."""
    unauthorized = Response(401, b'{"success":false,"errors":["Unauthorized"]}')
    async with HttpServer([REFUSED_EMPTY]) as server, HttpServer([unauthorized]) as bulk:
        async with account(server, bulk, streams={"news": "bulk"}) as transport:
            found = await transport.probe()
        async with account(server, bulk, **SANDBOX) as transport:
            sandbox = await transport.probe()
        async with account(server, bulk) as transport:
            assert ["connect", "login, stream transactional"] == [check.what for check in await transport.probe()]
    assert [("connect", True), ("login, stream transactional", True), ("login, stream bulk", False)] == [
        (check.what, check.ok) for check in found
    ]
    assert found[2].mend.startswith(f"check the token ({len(TOKEN)} characters)")
    assert [True, True] == [check.ok for check in sandbox]
    assert [("/api/send", b"{}"), ("/api/send/4015", b"{}"), ("/api/send", b"{}")] == [
        (request.path, request.body) for request in server.requests
    ]


async def test_a_further_stream_that_cannot_be_reached() -> None:
    """It says nothing against the first."""
    async with HttpServer() as bulk:
        pass
    async with HttpServer([REFUSED_EMPTY]) as server, account(server, bulk, streams={"news": "bulk"}) as transport:
        found = await transport.probe()
    assert [True, True, False] == [check.ok for check in found]
    assert "connect, stream bulk" == found[2].what
