"""Postmark: golden requests, and what a message may hold."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import directives, header
from relay.errors import CannotCarry
from relay.transports.postmark import Payload, PostmarkSettings, payload
from relay.transports.postmark.request import MAX_REQUEST
from tests.jobs import accepted
from tests.test_mime import MESSAGE_LIKE, corpus, stored

DATA = Path(__file__).parent.parent / "data"
TOKEN = "canary-0123456789"
QUEUE_ID = "687E7641C64007"
SETTINGS = PostmarkSettings("postmark", TOKEN, controls={"local": directives.DIALECTS})

# Golden cases: message, recipients, settings.
CASES: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "plain": ("plain", ["ops@example.net"], {}),
    "invoice": ("invoice", ["ann@example.net", "bob@example.org", "cc@example.net", "hidden@example.net"], {}),
    "invoice-to-one-of-them": ("invoice", ["cc@example.net"], {"track_links": "None", "track_opens": False}),
    "invoice-controls-not-obeyed": ("invoice", ["ann@example.net"], {"controls": {"local": ()}}),
    "undisclosed": ("latin1", ["one@example.net", "two@example.net"], {"stream": "broadcast"}),
    "php": ("php", ["info@example.net"], {}),
    "scanner": ("scanner", ["desk@example.net"], {}),
    "template": ("template", ["customer@example.net"], {}),
    "forward": ("forward", ["b@example.net"], {}),
    "bounce": ("bounce", ["app@example.com"], {}),
    "invite-refused": ("invite", ["team@example.net"], {}),
    "invite-warned": ("invite", ["team@example.net"], {"on_loss": "warn"}),
    "signed-refused": ("signed", ["b@example.net"], {}),
    "signed-warned": ("signed", ["b@example.net"], {"on_loss": "warn"}),
    "blocked": ("blocked", ["b@example.net"], {}),
}


def requests(data: bytes, recipients: Sequence[str], **settings: Any) -> tuple[Payload, ...]:
    """The requests for a message accepted from the listener `local` for these recipients."""
    told = accepted(data, recipients, QUEUE_ID)
    return payload(data, settings=dataclasses.replace(SETTINGS, **settings), **told)


def bodies(data: bytes, recipients: Sequence[str], **settings: Any) -> list[dict[str, Any]]:
    """The JSON of each request."""
    return [json.loads(request.body().whole()) for request in requests(data, recipients, **settings)]


def mail(fields: str, body: str = "text\n") -> bytes:
    """A message with CRLF line ends; a From is added where there is none."""
    head = fields if "From:" in fields else f"From: a@example.com\n{fields}"
    return f"{head}\n{body}".replace("\n", "\r\n").encode()


def built(name: str) -> dict[str, Any]:
    """What a golden case comes to, in the form of its file."""
    message, recipients, settings = CASES[name]
    try:
        found = requests((DATA / "messages" / f"{message}.eml").read_bytes(), recipients, **settings)
    except CannotCarry as error:
        return {"cannot carry": list(error.reasons), "status": error.status}
    return {
        "requests": [{"path": request.path, "body": json.loads(request.body().whole())} for request in found],
        "identities": list(found[0].identities),
        "losses": [[loss.grade, loss.what] for loss in found[0].losses],
    }


@pytest.mark.parametrize("name", CASES)
def test_golden_payloads(name: str) -> None:
    """Each message becomes exactly the requests in its file, or is refused for the reasons there."""
    assert json.loads((DATA / "payloads" / "postmark" / f"{name}.json").read_text(encoding="utf-8")) == built(name)


def test_every_recipient_is_in_one_request() -> None:
    """Up to 50 share a request with those the header shows; everybody else has his own."""
    shown = [f"shown{number}@example.net" for number in range(2)]
    hidden = [f"hidden{number}@example.net" for number in range(60)]
    found = requests(mail(f"To: {shown[0]}\nCc: {shown[1]}\n"), [*hidden, *shown])
    assert [50, *[1] * 12] == [len(request.addressed.recipients) for request in found]
    assert sorted([*shown, *hidden]) == sorted(recipient for request in found for recipient in request.addressed.recipients)
    assert all(set(body) & {"To", "Cc", "Bcc"} == {"To"} for body in (json.loads(request.body().whole()) for request in found[1:]))


HIDDEN = [f"hidden{number}@example.net" for number in range(56)]
LISTED = ", ".join(HIDDEN)


@pytest.mark.parametrize(
    ("to", "recipients", "why"),
    [
        (LISTED, HIDDEN, "To and Cc show 56 addresses, and Postmark takes 50 in a request"),
        (LISTED, HIDDEN[:1], "To and Cc show 56 addresses, and Postmark takes 50 in a request"),
        (", ".join(HIDDEN[:50]), HIDDEN[:50], ""),
        (HIDDEN[0], HIDDEN[:55], ""),
        (HIDDEN[0], HIDDEN, "6 recipients whom no field shows would have a request each"),
        ("list@example.org", HIDDEN[:5], ""),
        ("list@example.org", HIDDEN[:6], "6 recipients whom no field shows would have a request each"),
        ("list@example.org", [*HIDDEN[:5], '"a b"@example.net'], ""),
    ],
)
def test_when_smtp_is_the_better_way(to: str, recipients: list[str], why: str) -> None:
    """Where many requests would carry one message, and the more so where people would see only themselves in To."""
    assert {why} == {request.by_smtp for request in requests(mail(f"To: {to}\n"), recipients)}


def test_what_is_left_of_a_message_goes_the_same_way() -> None:
    """Whoever has it already counts."""
    data = mail("To: list@example.org\n")
    found = payload(
        data, block=header.cut(data)[0], queue_id="Q", recipients=HIDDEN[:2], changes=(), settings=SETTINGS, everybody=HIDDEN[:6]
    )
    assert ["6 recipients whom no field shows would have a request each"] * 2 == [request.by_smtp for request in found]


def test_a_contact_list_is_missed() -> None:
    """Without it who unsubscribed would get the mail: refused, unless the configuration takes losses."""
    data = mail("To: b@example.net\nX-SES-List-Management-Options: friends; topic=news\n")
    with pytest.raises(CannotCarry, match="the contact list 'friends; topic=news' of Amazon SES is left out"):
        requests(data, ["b@example.net"])
    (request,) = requests(data, ["b@example.net"], on_loss="warn")
    assert ["hard"] == [loss.grade for loss in request.losses]


def test_addresses_that_postmark_does_not_take_do_not_spoil_the_others() -> None:
    """A quoted local part has a request of its own, so that its refusal is its own; alone it is refused before sending."""
    odd = '"a b"@example.net'
    found = requests(mail(f"To: {odd}, b@example.net\n"), [odd, "b@example.net", "postmaster", "b@ü..example"])
    assert [("b@example.net",), (odd,), ("postmaster",), ("b@ü..example",)] == [request.addressed.recipients for request in found]
    assert ["", *["Postmark takes no recipient address of this form"] * 3] == [request.refusal for request in found]
    with pytest.raises(CannotCarry, match="no recipient address of this form"):
        requests(mail(f"To: {odd}\n"), [odd])


@pytest.mark.parametrize(
    ("data", "settings", "reason", "status"),
    [
        (mail("From: nobody\n"), {}, "there is no From address", "5.6.3"),
        (b"Subject: x\r\n\r\nx", {}, "there is no From address", "5.6.3"),
        (mail("From: jörg@example.com\n"), {}, "From address has a local part that is not ASCII", "5.6.3"),
        (mail("Reply-To: jörg@example.com\n"), {}, "Reply-To address has a local part that is not ASCII", "5.6.3"),
        (mail("From: <a@[192.0.2.1]>\n"), {}, "From address is not one that Postmark takes", "5.6.3"),
        (mail("From: <a@ex ample..com>\n"), {}, "From address is not one that Postmark takes", "5.6.3"),
        (mail(f"From: {'x' * 250} <a@example.com>\n"), {}, "From field has 266 characters; Postmark takes 255", "5.6.3"),
        (mail(f"Subject: {'x' * 1999}😀\n"), {}, "Subject has 2001 characters; Postmark takes 2000", "5.6.3"),
        (mail("X-Relay-Template: t\nX-Relay-Template-Model: [1]\n"), {}, "x-relay-template-model is not a JSON object", "5.6.3"),
        (mail("", "é" * (5 * 512 * 1024 + 1)), {}, "the text body has 5,242,882 octets; Postmark takes 5,242,880", "5.3.4"),
        (
            mail("Content-Type: application/x\nContent-Transfer-Encoding: base64\n", "AAAA\n" * (MAX_REQUEST // 4)),
            {},
            "octets after base64; Postmark takes 10,485,760",
            "5.3.4",
        ),
        (mail("X: y\n" * 1001), {}, "more than 1000 fields", "5.6.3"),
        (mail("From: a@example.com, b@example.com\n"), {"on_loss": "refuse"}, "more than one From address", "5.6.3"),
    ],
)
def test_cannot_carry(data: bytes, settings: dict[str, Any], reason: str, status: str) -> None:
    """What Postmark would refuse is found before sending, and named."""
    with pytest.raises(CannotCarry, match=reason) as caught:
        requests(data, ["b@example.net"], **settings)
    assert status == caught.value.status


def test_all_reasons_are_named() -> None:
    """A bounce tells everything at once."""
    data = mail(f"From: x\nSubject: {'x' * 2001}\nContent-Type: multipart/report; boundary=b\n", "--b\n\nx\n--b--\n")
    with pytest.raises(CannotCarry) as caught:
        requests(data, ["b@example.net"])
    assert ["there is no From address", "the Subject has 2001 characters; Postmark takes 2000"] == list(caught.value.reasons[:2])
    assert "multipart/report" in caught.value.reasons[2]


def test_several_from_addresses_with_a_warning() -> None:
    """Where hard losses are only warned of, the first From address is used."""
    assert "a@example.com" == bodies(mail("From: a@example.com, b@example.com\n"), ["c@example.net"], on_loss="warn")[0]["From"]


def test_no_header_can_be_injected() -> None:
    """An encoded line end in a field stays inside its value."""
    body = bodies(
        mail("X-Note: =?utf-8?q?a=0d=0aBcc:_evil=40example.com?=\nFrom: =?utf-8?q?x=0aTo=3A_y?= <a@example.com>\n"), ["b@example.net"]
    )[0]
    assert {"Name": "X-Note", "Value": "=?utf-8?q?a=0d=0aBcc:_evil=40example.com?="} in body["Headers"]
    assert '"x To: y" <a@example.com>' == body["From"]
    assert {"From", "To", "TextBody", "Headers", "Metadata", "MessageStream"} == set(body)


TORN = mail("From: a@example.com\nTo: b@example.net\nSubject: first line\nof two\nBcc: secret@z.example\nX-PM-Tag: t\n", "grüße\n")


def test_a_torn_header_block_hides_what_it_hid() -> None:
    """What no recipient may see does not become text below a line that is no field; directives there are still obeyed."""
    (request,) = requests(TORN, ["b@example.net"])
    body = json.loads(request.body().whole())
    assert ("t", "first line", "of two\n\ngrüße\n") == (body["Tag"], body["Subject"], body["TextBody"])
    assert b"secret" not in request.body().whole()
    assert b"X-PM" not in request.body().whole()


def test_headers_go_as_they_stand() -> None:
    """An encoded comma does not come to separate addresses, nor does an encoded word end in a URL; nothing is cut."""
    long = " ".join(["<id@example.com>"] * 5000)
    fields = {
        "Disposition-Notification-To": "=?utf-8?q?M=C3=BCller=2C_Anna?= <a@example.com>",
        "List-Unsubscribe": "<https://example.com/u?t=?utf-8?q?a=3D?=&z=1>",
        "References": long,
        "X-Raw": f"ü=?utf-8?q?a?={'é' * 40_000}",
    }
    body = bodies(mail("".join(f"{name}: {value}\n" for name, value in fields.items()) + "X-Odd: a\n\tb\x1b\x00c\n"), ["b@example.net"])[0]
    assert {**fields, "X-Odd": "a b c"} == {one["Name"]: one["Value"] for one in body["Headers"] if one["Name"] != "Message-ID"}


@pytest.mark.parametrize(
    ("listener", "tag"),
    [("local", "t"), ("gone", None), ("", "t")],
)
def test_dialects_of_a_listener(listener: str, tag: str | None) -> None:
    """A listener that is not configured any more obeys no control headers; mail that came by none is our own."""
    data = mail("X-PM-Tag: t\n")
    block = header.cut(data)[0]
    (request,) = payload(
        data, block=block, queue_id=QUEUE_ID, recipients=["b@example.net"], changes=(), settings=SETTINGS, listener=listener
    )
    assert tag == json.loads(request.body().whole()).get("Tag")


def test_an_international_domain_goes_as_postmark_takes_it() -> None:
    """The request holds A-labels."""
    (request,) = requests(mail("To: b@bücher.example\n"), ["b@bücher.example"])
    assert (("b@bücher.example",), "b@xn--bcher-kva.example") == (request.recipients, json.loads(request.body().whole())["To"])


def test_metadata_limits() -> None:
    """Ten keys of 20 characters with values of 80; the app's own keys come first, then ours where there is room."""
    nine = "".join(f"X-PM-Metadata-k{number}: v\n" for number in range(9))
    body = bodies(mail(f"{nine}X-PM-Metadata-{'x' * 21}: v\nX-PM-Metadata-Long: {'y' * 81}\nX-PM-Metadata-late: v\n"), ["b@example.net"])[0]
    assert [*(f"k{number}" for number in range(9)), "Long"] == list(body["Metadata"])
    assert "y" * 80 == body["Metadata"]["Long"]
    assert {"Relay-ID": "mine"} == bodies(mail("X-Relay-Metadata-Relay-ID: mine\n"), ["b@example.net"])[0]["Metadata"]
    assert {"relay-id": QUEUE_ID} == bodies(mail(""), ["b@example.net"])[0]["Metadata"]


@pytest.mark.parametrize(
    ("fields", "stream", "loss"),
    [
        ("", "outbound", ""),
        ("X-PM-Message-Stream: billing\n", "billing", ""),
        ("X-Relay-Stream: news\n", "broadcasts", ""),
        ("X-Relay-Stream: other\n", "other", ""),
        ("X-SES-Configuration-Set: Marketing\n", "broadcasts", ""),
        ("X-SES-Configuration-Set: unknown\n", "outbound", "the configuration set 'unknown' is not one of this provider: see streams"),
    ],
)
def test_streams(fields: str, stream: str, loss: str) -> None:
    """Its own stream goes as it is, another provider's by the settings, else by the stream of the settings with a loss."""
    streams = {"news": "broadcasts", "marketing": "broadcasts"}
    (request,) = requests(mail(fields), ["b@example.net"], streams=streams)
    assert stream == json.loads(request.body().whole())["MessageStream"]
    assert (f"stream={stream}" in request.identities, f"/email {stream}") == (True, request.kind)
    assert loss in [lost.what for lost in request.losses] or not loss


def test_directives_of_others() -> None:
    """What others call a category, message tags and custom variables is Postmark's tag and metadata; what it has no field for is named."""
    (request,) = requests(
        mail('X-SES-Message-Tags: category=welcome, order=7\nX-SES-Source-ARN: arn:x\nX-MT-Custom-Variables: {"run": 3}\nX-SES-New: 1\n'),
        ["b@example.net"],
    )
    body = json.loads(request.body().whole())
    assert ("welcome", {"order": "7", "run": "3", "relay-id": QUEUE_ID}) == (body["Tag"], body["Metadata"])
    assert ["the identity 'arn:x' is left out", "the control header x-ses-new is left out: relay does not know it"] == [
        loss.what for loss in request.losses if "left out" in loss.what
    ]


def test_a_tag_that_is_too_long_is_cut() -> None:
    """It only counts mail: none is refused for it. The limit is in UTF-16 code units."""
    (request,) = requests(mail(f"X-PM-Tag: {'x' * 999}😀y\n"), ["b@example.net"])
    assert "x" * 999 == json.loads(request.body().whole())["Tag"]
    assert "the tag is cut to 1000 characters" in [loss.what for loss in request.losses]


NEVER_IN_HEADERS = (
    *("Return-Path", "X-PM-Rcpt", "From", "Reply-To", "Sender", "Received", "Date", "Content-Type", "Cc", "Bcc", "Subject", "Tag"),
    *("Attachment", "To", "Track-Opens", "Track-Links", "Postmark-Template-Alias", "Message-Stream"),
)


def test_fields_that_never_go_as_headers() -> None:
    """What Postmark's own libraries do not hand over is not among Headers; duplicates of others are."""
    fields = "".join(f"{name}: a@example.com\n" for name in NEVER_IN_HEADERS)
    body = bodies(mail(f"{fields}X-Two: 1\nX-Two: 2\nDKIM-Signature: x\nARC-Seal: x\nX-Google-Y: x\n"), ["b@example.net"])[0]
    assert ["X-Two", "X-Two"] == [one["Name"] for one in body["Headers"] if one["Name"] != "Message-ID"]


def test_a_smaller_limit_of_the_settings() -> None:
    """The size of a request is held against the settings."""
    with pytest.raises(CannotCarry, match=r"octets after base64; Postmark takes 300") as caught:
        requests(mail("", "x" * 300), ["b@example.net"], max_size=300)
    assert "5.3.4" == caught.value.status


def test_reply_to_that_cannot_be_used() -> None:
    """A Reply-To without a usable address is left out; the mail still goes."""
    assert "ReplyTo" not in bodies(mail("Reply-To: nobody, <x@[192.0.2.1]>\n"), ["b@example.net"])[0]


def test_templates_by_number() -> None:
    """A number is a template's id, anything else its alias; the model may be left out."""
    body = bodies(mail("X-Relay-Template: 1234\nSubject: no\n"), ["b@example.net"])[0]
    assert (1234, {}) == (body["TemplateId"], body["TemplateModel"])
    assert not {"TemplateAlias", "Subject", "TextBody", "InlineCss"} & set(body)


@given(MESSAGE_LIKE, st.sampled_from(["refuse", "warn"]))
def test_anything_maps_or_is_refused(data: bytes, on_loss: str) -> None:
    """Whatever a message is made of, it becomes requests within the limits or is refused with a reason."""
    try:
        found = requests(b"From: a@example.com\r\n" + data + b"\r\n", ["a@example.net", "b@example.net"], on_loss=on_loss)
    except CannotCarry as error:
        assert "" not in error.reasons  # noqa: PT017
        return
    for request in found:
        assert {"From", "To", "Headers", "Metadata", "MessageStream"} <= set(json.loads(request.body().whole()))


def test_many_requests_share_their_content() -> None:
    """A large message to many hidden recipients is held once."""
    first, second = requests(mail(""), ["b@example.net", "c@example.net"])
    assert first.content is second.content
    assert [len(request.body().whole()) for request in (first, second)] == [request.body().size for request in (first, second)]


def test_the_token_is_in_no_repr() -> None:
    """Settings can be printed."""
    assert TOKEN not in repr(SETTINGS)


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail(path: Path) -> None:
    """Every message maps with its attachments byte for byte as the standard library decodes them, or is refused with a reason."""
    data = stored(path.read_bytes())
    try:
        (body,) = bodies(data, ["a@example.net"], on_loss="warn")
    except CannotCarry:
        return
    theirs = [part.get_payload(decode=True) for part in message_from_bytes(data).walk() if not part.is_multipart()]
    decoded = {content.rstrip(b"\r\n") for content in theirs if isinstance(content, bytes)}
    for file in body.get("Attachments", []):
        content = base64.b64decode(file["Content"], validate=True)
        whole = file["ContentType"].startswith("message/")  # the standard library goes into these
        assert (content in data if whole else content.rstrip(b"\r\n") in decoded) or path.name in READ_BETTER


# Attachments that the standard library does not find: a folded boundary, a missing semicolon (docs/decisions/003-mime.md),
# or an encoded message that it does not decode.
READ_BETTER = {
    "testin--multi-badnames.eml",
    "testin--multi-clen.eml",
    "testin--multi-simple.eml",
    "testmsgs--multi-clen.eml",
    "malformed--017.eml",
    "thirdparty--012.eml",
    "mails--issue274.eml",
}
