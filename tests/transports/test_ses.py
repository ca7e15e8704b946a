"""Amazon SES: what becomes a request, what is refused before sending, and the class against a real local server."""

from __future__ import annotations

import base64
import dataclasses
import json
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session  # type: ignore[import-untyped]
from botocore.validate import ParamValidator  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from relay import directives, edits, header, mime, reencoding
from relay.errors import CannotCarry
from relay.model import Client, Edit, EditKind, Envelope, Facts, Outcome, Recipient, Verdict
from relay.transports import refused, singles
from relay.transports.base import ALONE
from relay.transports.http import Http
from relay.transports.ses import Payload, Ses, SesSettings, payload
from relay.transports.ses.request import MAX_MESSAGE
from relay.transports.ses.sigv4 import Keys, sign
from tests.jobs import MemoryMessage, job
from tests.messages import BY_NAME
from tests.servers import Act, HttpServer, Request, Response
from tests.test_mime import MESSAGE_LIKE, corpus, stored

SECRET = "canary/5ecret+0123456789ABCDEFGHIJKLMNOP"
SETTINGS = SesSettings("ses", "eu-west-1", "AKIDEXAMPLE", SECRET, controls={"local": directives.DIALECTS})
QUEUE_ID = "687E7641C64007"
OURS = {"Name": "relay-id", "Value": QUEUE_ID}
TAKEN = Response(200, b'{"MessageId":"010f0190-abc"}')


def decided(data: bytes, recipients: Sequence[str] = ("b@example.net",)) -> tuple[Edit, ...]:
    """The edits of a message that the listener took."""
    block, body = header.cut(data)
    return edits.decide(
        block,
        queue_id=QUEUE_ID,
        hostname="relay.example.com",
        client=Client("local", "127.0.0.1", name="localhost", helo="app"),
        envelope=Envelope("app@example.com", tuple(map(Recipient, recipients))),
        arrived=1_795_197_421.0,
        ended=body > len(block),
    )


def requests(
    data: bytes, recipients: Sequence[str] = ("b@example.net",), *, apart: bool = False, listener: str = "local", **settings: Any
) -> tuple[Payload, ...]:
    """The requests for a message accepted from the listener `local` for these recipients."""
    message = MemoryMessage(data)
    return payload(
        data,
        block=message.header,
        facts=message.facts,
        queue_id=QUEUE_ID,
        recipients=recipients,
        changes=decided(data, recipients),
        settings=dataclasses.replace(SETTINGS, **settings),
        listener=listener,
        apart=apart,
    )


def raw(request: Payload) -> bytes:
    """The message in a request."""
    return base64.b64decode(json.loads(request.body().whole())["Content"]["Raw"]["Data"], validate=True)


def options(data: bytes, **settings: Any) -> dict[str, Any]:
    """What a request says beside the message and the recipients."""
    (request,) = requests(data, **settings)
    found: dict[str, Any] = json.loads(request.body().whole())
    return {name: value for name, value in found.items() if name not in ("Content", "Destination")}


def losses(data: bytes, **settings: Any) -> list[str]:
    """What gets lost."""
    (request,) = requests(data, **settings)
    assert {"cosmetic"} >= {loss.grade for loss in request.losses}
    return [loss.what for loss in request.losses]


def mail(fields: str, body: str = "text\n") -> bytes:
    """A message with CRLF line ends; a From is added where there is none."""
    head = fields if "From:" in fields else f"From: a@example.com\n{fields}"
    return f"{head}\n{body}".replace("\n", "\r\n").encode()


# --- requests ---


def test_a_whole_request() -> None:
    """The message leaves as stored, with its edits; the recipients are those of the envelope; nothing replaces a header field."""
    data = mail("To: Ann <ann@example.net>\nReply-To: r@example.org\nBcc: c@example.net\nX-SES-Message-Tags: a=b\n")
    (request,) = requests(data, ["b@example.net", "c@example.net"], configuration_set="transactional", identity_arn="arn:aws:ses:x")
    assert {
        "Content": {"Raw": {"Data": json.loads(request.body().whole())["Content"]["Raw"]["Data"]}},
        "Destination": {"ToAddresses": ["b@example.net", "c@example.net"]},
        "EmailTags": [{"Name": "a", "Value": "b"}, OURS],
        "ConfigurationSetName": "transactional",
        "FromEmailAddressIdentityArn": "arn:aws:ses:x",
    } == json.loads(request.body().whole())
    trace = edits.apply(b"", decided(data, ["b@example.net", "c@example.net"])).partition(b"Date:")
    assert trace[0] + b"From: a@example.com\r\nTo: Ann <ann@example.net>\r\nReply-To: r@example.org\r\n" + b"".join(
        trace[1:]
    ) + b"\r\ntext\r\n" == raw(request)
    assert ("domain=example.com", "configuration_set=transactional") == request.identities
    assert () == request.losses


@pytest.mark.parametrize("length", range(200, 208))
def test_pieces_of_base64_fit_together(length: int) -> None:
    """Whatever the length of header and body, the pieces are one text in base64, and the digest is that of the whole."""
    for body in ("", "x", "xy", "x\r\n" * 50_000):
        data = mail(f"Subject: {'s' * length}\n", "") + body.encode()
        (request,) = requests(data)
        assert raw(request).endswith(b"\r\n\r\n" + body.encode())
        assert sha256(request.body().whole()).hexdigest() == request.digest


def test_a_large_message_is_held_once_only() -> None:
    """Beside the message as stored there are only pieces of its base64, for however many requests."""
    data = mail("Bcc: c@example.net\nX-SES-Configuration-Set: a\n", ("x" * 70 + "\n") * 60_000)
    message = MemoryMessage(data)
    recipients = [f"r{number}@example.net" for number in range(500)]
    changes = decided(data, recipients)
    tracemalloc.start()
    found = payload(
        data,
        block=message.header,
        facts=message.facts,
        queue_id=QUEUE_ID,
        recipients=recipients,
        changes=changes,
        settings=SETTINGS,
    )
    octets = sum(len(piece) for piece in found[0].body().pieces())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 10 == len(found)
    assert octets > len(data)
    assert peak < len(data) / 4


def test_fifty_recipients_to_a_request() -> None:
    """More are spread over requests that share the message; every recipient is in exactly one."""
    to = [f"r{number}@example.net" for number in range(101)]
    found = requests(mail("To: list@example.net\n"), to)
    assert [50, 50, 1] == [len(request.recipients) for request in found]
    assert to == [address for request in found for address in json.loads(request.body().whole())["Destination"]["ToAddresses"]]
    assert all(one is other for one, other in zip(found[0].body().parts[:-1], found[1].body().parts[:-1], strict=True))
    assert [sha256(request.body().whole()).hexdigest() for request in found] == [request.digest for request in found]


def test_odd_addresses_do_not_spoil_the_others() -> None:
    """What SES may refuse has a request of its own, and what it surely refuses is never sent."""
    to = ["b@example.net", '"a b"@example.net', "c@[192.0.2.1]", "postmaster", "jörg@example.net", "d@bücher.example", "e@example.net"]
    found = requests(mail(""), to)
    assert [("b@example.net", "d@bücher.example", "e@example.net"), *((one,) for one in to[1:5])] == [
        request.recipients for request in found
    ]
    refusal = "Amazon SES takes no recipient address of this form"
    assert ["", "", "", refusal, refusal] == [request.refusal for request in found]
    assert ["b@example.net", "d@xn--bcher-kva.example", "e@example.net"] == json.loads(found[0].body().whole())["Destination"][
        "ToAddresses"
    ]
    assert [1, 1] == [len(request.recipients) for request in requests(mail(""), ["b@example.net", "c@example.net"], apart=True)]
    with pytest.raises(CannotCarry, match="no recipient address of this form"):
        requests(mail(""), ["postmaster", "jörg@example.net"])


BLOCKED = 'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment; filename="{name}"\n\nx\n--b--\n'
SIGNED = "Content-Type: multipart/signed; boundary=b\n\n--b\n\n{text}\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("To: Müller <ann@müller.example>, x@mü.example,y@müller.example.org", "<ann@xn--mller-kva.example>, x@xn--m-eha.example,y@xn--"),
        ("Reply-To: x@bücher.example", "Reply-To: x@xn--bcher-kva.example\r\n"),
        ("From: app@BÜCHER.example\nCc: ann@example.net,\n\tz@bücher.example", "example.net,\r\n\tz@xn--bcher-kva.example\r\n"),
    ],
)
def test_domains_in_address_fields_are_a_labels(field: str, expected: str) -> None:
    """SES reads these fields and has no SMTPUTF8: a domain beyond ASCII is written in its other form, and names stay."""
    (request,) = requests(mail(f"{field}\nSubject: Grüße an x@müller.example\n"))
    assert expected in raw(request).decode()
    assert "Subject: Grüße an x@müller.example\r\n" in raw(request).decode()


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (b"Subject: x\r\n\r\nx\r\n", "there is no From address", "5.6.3"),
        (mail("From: nobody\n"), "there is no From address", "5.6.3"),
        (mail("From: jörg@example.com\n"), "the From address is not one that Amazon SES takes", "5.6.3"),
        (mail("To: Jörg <jörg@example.com>\n"), "the To field has an address that is not ASCII", "5.6.3"),
        (mail("Reply-To: jörg@bücher.example\n"), "the Reply-To field has an address that is not ASCII", "5.6.3"),
        (mail("Sender: <x@y@z>\n"), "the Sender address is not one that Amazon SES takes", "5.6.3"),
        (mail("From: a@example.com\nFrom: a@example.com\n"), "there are 2 From fields", "5.6.3"),
        (mail("Sender: a@example.com\nSender: b@example.com\n"), "there are 2 Sender fields", "5.6.3"),
        (mail("X-Relay-Template: t\nX-Relay-Template-Model: [1]\n"), "x-relay-template-model is not a JSON object", "5.6.3"),
        (mail("X-SES-Configuration-Set: a b\n"), "'a b' is not the name of a configuration set", "5.6.3"),
        (mail(f"X-SES-Tenant: {'t' * 65}\n"), "is not the name of a tenant", "5.6.3"),
        (mail("X-SES-Source-ARN: example.com\n"), "'example.com' is not the ARN of an identity", "5.6.3"),
        (mail("X-SES-List-Management-Options: a b; c\n"), "list management 'a b; c' is not `list; topic=name`", "5.6.3"),
        (mail(BLOCKED.format(name="Rechnung.PDF.exe")), r"takes no attachment of type \.exe \(Rechnung\.PDF\.exe\)", "5.6.3"),
        (mail(BLOCKED.format(name="a.js. ")), r"takes no attachment of type \.js \(a\.js\.\)", "5.6.3"),
        (
            mail(SIGNED.format(text="x" * 999)),
            "no lines over 998 octets, and multipart/signed with 8-bit text or long lines cannot",
            "5.6.3",
        ),
        (mail(f"X-Long: {'x' * 999}\n"), "a header line of 1,007 octets cannot be folded; Amazon SES takes 998", "5.6.3"),
        (mail("", "x" * 1001 + "\n" + "\n" * 20_000_000), "octets after base64; Amazon SES takes 41,943,040", "5.3.4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cannot_carry(data: bytes, reason: str, status: str) -> None:
    """What SES would refuse is found before sending, and named."""
    with pytest.raises(CannotCarry, match=reason) as caught:
        requests(data)
    assert status == caught.value.status


def test_all_reasons_are_named() -> None:
    """A bounce tells everything at once."""
    with pytest.raises(CannotCarry) as caught:
        requests(
            mail("From: x\nSender: a@example.com\nSender: a@example.com\nX-SES-Tenant: a b\n" + BLOCKED.format(name="a.vbs")),
            ["postmaster"],
        )
    assert (
        "there are 2 Sender fields",
        "there is no From address",
        "Amazon SES takes no attachment of type .vbs (a.vbs)",
        "'a b' is not the name of a tenant",
        "Amazon SES takes no recipient address of this form",
    ) == caught.value.reasons


def test_the_largest_message() -> None:
    """The limit counts base64, with the edits."""
    fields = mail("", "")
    added = len(edits.apply(b"", decided(fields)))
    body = "x" * 70 + "\n"
    data = mail("", body * ((MAX_MESSAGE // 4 * 3 - len(fields) - added) // 72))
    (request,) = requests(data)
    encoded = next(part.size for part in request.body().parts if not isinstance(part, bytes))
    assert MAX_MESSAGE - 100 < encoded <= MAX_MESSAGE
    with pytest.raises(CannotCarry, match="after base64"):
        requests(data + b"x" * 72)


def test_a_name_without_ending_is_no_type() -> None:
    """A file called `com` is not a program."""
    assert requests(mail(BLOCKED.format(name="com")))
    assert {"exe", "ps2xml", "xnk"} <= refused.BLOCKED["ses"]


def test_fields_that_may_stand_once() -> None:
    """Of several the first goes along, in its place, and the rest is a cosmetic loss; other fields may stand often."""
    fields = [
        "DKIM-Signature: one\n two",
        "Received: x",
        "List-Unsubscribe: <https://a.example>",
        "Received: y",
        "dkim-signature: other",
        "List-Unsubscribe: <https://b.example>",
        "DKIM-Signature: third",
        "X-Two: 1",
        "X-Two: 2",
    ]
    (request,) = requests(mail("\n".join(fields) + "\nTo: x@example.net\nTo: y@example.net\n"))
    kept = [fields[number] for number in (0, 1, 2, 3, 7, 8)]
    assert "\n".join(["From: a@example.com", *kept, "To: x@example.net", "To: y@example.net"]).replace("\n", "\r\n").encode() in raw(
        request
    )
    assert [
        "of 3 Dkim-Signature fields only the first goes along",
        "of 2 List-Unsubscribe fields only the first goes along",
    ] == [loss.what for loss in request.losses]
    assert 60 == len(singles.FIELDS)


def test_what_is_encoded_anew() -> None:
    """8-bit text and long lines leave in 7 bits; a signed part never changes, and its 8-bit text goes as it is."""
    (request,) = requests(mail("To: Jörg <joerg@example.net>\nContent-Type: text/plain; charset=utf-8\n", "viele grüße aus der ferne\n"))
    assert b"Content-Transfer-Encoding: quoted-printable\r\n" in raw(request)
    assert raw(request).endswith(b"\r\n\r\nviele gr=C3=BC=C3=9Fe aus der ferne\r\n")
    (request,) = requests(mail("", "x" * 2000 + "\n"))
    assert max(map(len, raw(request).split(b"\r\n"))) <= 998
    signed = mail(SIGNED.format(text="grüße"))
    (request,) = requests(signed)
    assert raw(request).endswith(signed[signed.index(b"\r\n\r\n--b") :])


TORN = mail("From: a@example.com\nTo: b@example.net\nSubject: first line\nof two\nBcc: secret@z.example\nX-PM-Tag: t\n", "grüße\n")


def test_a_torn_header_block_hides_what_it_hid() -> None:
    """What no recipient may see does not become text below a line that is no field; directives there are still obeyed."""
    (request,) = requests(TORN)
    assert b"secret" not in raw(request)
    assert b"X-PM" not in raw(request)
    assert {"Name": "category", "Value": "t"} in json.loads(request.body().whole())["EmailTags"]


def test_a_message_beyond_what_is_taken_apart() -> None:
    """With a thousand fields more than we look at, a message still goes as it is: SES looks itself."""
    assert raw(requests(mail("X: y\n" * 1001))[0]).count(b"X: y\r\n") == 1001


# --- control headers ---


def test_the_dialect_of_ses() -> None:
    """Configuration set, tags, sending authorization, list management and tenant are members of the request, and leave the header."""
    data = mail(
        "X-SES-CONFIGURATION-SET: marketing\nX-SES-MESSAGE-TAGS: campaign=winter, customer=12_3\nX-SES-FROM-ARN: arn:aws:ses:from\n"
        "X-SES-SOURCE-ARN: arn:aws:ses:source\nX-SES-LIST-MANAGEMENT-OPTIONS: news; topic=weekly\nX-SES-TENANT: tenant-1\n"
    )
    (request,) = requests(data, configuration_set="transactional", identity_arn="arn:aws:ses:ours")
    assert {
        "ConfigurationSetName": "marketing",
        "EmailTags": [{"Name": "campaign", "Value": "winter"}, {"Name": "customer", "Value": "12_3"}, OURS],
        "FromEmailAddressIdentityArn": "arn:aws:ses:from",
        "ListManagementOptions": {"ContactListName": "news", "TopicName": "weekly"},
        "TenantName": "tenant-1",
    } == options(data)
    assert b"X-SES" not in raw(request).upper()
    assert ("domain=example.com", "configuration_set=marketing", "contact_list=news", "tenant=tenant-1") == request.identities


def test_a_contact_list_has_a_request_for_each_recipient() -> None:
    """The unsubscribe link in the mail is one contact's own."""
    found = requests(mail("X-SES-List-Management-Options: news\n"), ["b@example.net", "c@example.net"])
    assert [("b@example.net",), ("c@example.net",)] == [request.recipients for request in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("news", {"ContactListName": "news"}),
        ("news; topic=weekly", {"ContactListName": "news", "TopicName": "weekly"}),
        ("contactListName=news; topicName=weekly", {"ContactListName": "news", "TopicName": "weekly"}),
        ("contactListName=news;", {"ContactListName": "news"}),
    ],
)
def test_both_spellings_of_list_management(text: str, expected: dict[str, str]) -> None:
    """As SES reads it, and as some client libraries write it."""
    assert expected == options(mail(f"X-SES-List-Management-Options: {text}\n"))["ListManagementOptions"]


@pytest.mark.parametrize(
    ("fields", "tags", "lost"),
    [
        ("X-SES-Message-Tags: a=b\n", [("a", "b")], []),
        ("X-SES-Message-Tags: relay-id=mine\n", [("relay-id", "mine")], []),
        ("X-SES-Message-Tags: Relay-ID=mine\n", [("Relay-ID", "mine")], []),
        ("X-SES-Message-Tags: a\n", [], ["x-ses-message-tags: 'a' is not name=value"]),
        ("X-SES-Message-Tags: a b=c@d\n", [("a_b", "c_d")], ["message tag 'a b' is written with letters, digits, _ and - only"]),
        ("X-SES-Message-Tags: a=, b=c\n", [("b", "c")], ["message tag 'a' is left out"]),
        (
            "X-SES-Message-Tags: a b=1, a_b=2\n",
            [("a_b", "1")],
            ["message tag 'a b' is written with letters, digits, _ and - only", "message tag 'a_b' is left out"],
        ),
        (f"X-SES-Message-Tags: a={'x' * 257}\n", [("a", "x" * 256)], ["message tag 'a' is cut to 256 characters"]),
        ("X-SES-Message-Tags: category=mine\nX-Relay-Tag: ours\n", [("category", "ours")], ["message tag 'category' is left out"]),
        ("X-PM-Tag: welcome\nX-PM-Metadata-Order: 7\n", [("category", "welcome"), ("Order", "7")], []),
        ("X-SES-Message-Tags: tag=theirs\nX-PM-Tag: other\n", [("tag", "theirs")], []),
    ],
)
def test_message_tags(fields: str, tags: list[tuple[str, str]], lost: list[str]) -> None:
    """The app's own tags win over ours; what is no tag of SES is a cosmetic loss."""
    given = [{"Name": name, "Value": value} for name, value in tags]
    ours = [] if any(name.lower() == "relay-id" for name, _ in tags) else [OURS]
    assert [*given, *ours] == options(mail(fields))["EmailTags"]
    assert lost == losses(mail(fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("X-Relay-Track-Opens: yes\n", {"OpenTrackingEnabled": "ENABLED"}),
        (
            "X-Relay-Track-Opens: no\nX-Relay-Track-Links: HtmlOnly\n",
            {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "ENABLED"},
        ),
        ("X-PM-TrackLinks: None\n", {"ClickTrackingEnabled": "DISABLED"}),
    ],
)
def test_tracking(fields: str, expected: dict[str, str]) -> None:
    """What the app asks for overrides the configuration set."""
    assert {"Tracking": expected} == options(mail(fields))["ConfigurationOverrides"]


@pytest.mark.parametrize("name", ["smime-signed", "pgp-signed", "smime-encrypted", "pgp-encrypted"])
@pytest.mark.parametrize("asked", ["X-Relay-Track-Opens: yes\r\n", "X-Relay-Track-Links: HtmlOnly\r\n", "X-Relay-Track-Opens: no\r\n", ""])
def test_what_is_signed_is_not_tracked(name: str, asked: str) -> None:
    """Tracking rewrites HTML, which breaks a signature: it is off whatever app and configuration set say, and the app hears of it."""
    data = asked.encode() + BY_NAME[name].data
    assert {"Tracking": {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "DISABLED"}} == options(data)["ConfigurationOverrides"]
    wished = asked not in ("", "X-Relay-Track-Opens: no\r\n")
    assert (["tracking is left out: it would break what is signed or encrypted"] if wished else []) == losses(data)


def test_a_line_without_a_name() -> None:
    """In a torn header SES would refuse it for its empty name; with what continues it, it is left out."""
    data = mail("X-One: 1\n: odd\n more\nBcc: hidden@example.net\nX-Two: 2\n")
    (request,) = requests(data)
    assert b"X-One: 1\r\n" in raw(request)
    assert b"X-Two: 2\r\n" in raw(request)
    assert not any(gone in raw(request) for gone in (b"odd", b"more", b"hidden"))
    assert ["a line of the header without a name is left out"] == [loss.what for loss in request.losses]


def test_our_own_dialect() -> None:
    """The configuration set by our own header wins over the vendor's."""
    data = mail("X-SES-Configuration-Set: theirs\nX-Relay-Configuration-Set: ours\n")
    assert "ours" == options(data)["ConfigurationSetName"]


@pytest.mark.parametrize(("listener", "obeyed"), [("local", True), ("gone", False), ("", True)])
def test_dialects_of_a_listener(listener: str, obeyed: bool) -> None:
    """A listener obeys the dialects its `controls` name; mail that came by none is our own."""
    found = options(mail("X-SES-Tenant: t\n"), listener=listener)
    assert obeyed is ("TenantName" in found)
    only_postmark = options(mail("X-SES-Tenant: t\nX-PM-Tag: x\n"), controls={"local": ("postmark",)})
    assert {"EmailTags": [{"Name": "category", "Value": "x"}, OURS]} == only_postmark


# --- any message ---


def members(request: Payload) -> dict[str, Any]:
    """The request as botocore's validator takes it: octets where JSON has base64."""
    found: dict[str, Any] = json.loads(request.body().whole())
    found["Content"]["Raw"]["Data"] = raw(request)
    return found


SHAPE = Session().get_service_model("sesv2").operation_model("SendEmail").input_shape


def check(data: bytes, request: Payload) -> None:
    """Hold a request against the API's model, and its message against the stored one: equal outside the edits."""
    report = ParamValidator().validate(members(request), SHAPE)
    assert not report.has_errors(), report.generate_report()
    message = MemoryMessage(data)
    facts = message.facts
    hidden = edits.strip(message.header, decided(data)) + data[len(message.header) :]
    if facts.eight_bit or facts.longest_line > 998:
        try:
            hidden = reencoding.to_seven_bit(hidden)
        except mime.MimeError:
            assert facts.longest_line <= 998
    torn = hidden.startswith(message.header) and not header.split(hidden)[0].startswith(message.header)
    head = message.header if torn else header.split(hidden)[0]
    rest, head = hidden[len(head) :], reencoding.with_a_labels(head)
    left = [whole for _, whole in header.fields(head)]
    sent = raw(request)
    gone = sum("fields only the first goes along" in loss.what for loss in request.losses)
    for whole in left:
        assert whole in sent or gone
    assert sent.endswith(rest.removeprefix(b"\r\n"))
    added = len(edits.apply(b"", decided(data)))
    assert gone or len(sent) == len(head) + len(rest) + added


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail(path: Path) -> None:
    """Every message becomes a request that the API's model takes, octet for octet the stored one outside the edits, or is
    refused with a named reason."""
    data = stored(path.read_bytes())
    try:
        (request,) = requests(data)
    except CannotCarry as error:
        assert all(any(known in reason for known in KNOWN_REASONS) for reason in error.reasons), error.reasons  # noqa: PT017
        return
    if "Raw" in json.loads(request.body().whole())["Content"]:
        check(data, request)


KNOWN_REASONS = (
    "has an address that is not ASCII",
    "there is no From address",
    "From fields",
    "Sender fields",
    "address is not one that Amazon SES takes",
    "takes no attachment of type",
    "takes no lines over 998 octets, and ",
    "octets cannot be folded",
)


@given(MESSAGE_LIKE)
def test_anything_maps_or_is_refused(data: bytes) -> None:
    """Whatever a message is made of, it becomes a request as the API's model wants it, or is refused with a reason."""
    data = b"From: a@example.com\r\n" + data + b"\r\n"
    try:
        (request,) = requests(data)
    except CannotCarry as error:
        assert "" not in error.reasons  # noqa: PT017
        return
    report = ParamValidator().validate(members(request), SHAPE)
    assert not report.has_errors(), report.generate_report()


# --- the class ---


def transport(server: HttpServer, *, seconds: float = 5.0, now: float | None = None, **settings: Any) -> Ses:
    """A transport that speaks to `server`."""
    chosen = dataclasses.replace(SETTINGS, base_url=server.url, timeout=seconds, **settings)
    http = Http(base_url=chosen.url, timeout=seconds, concurrency=2)
    return Ses(chosen, http) if now is None else Ses(chosen, http, lambda: now)


async def attempt(ses: Ses, *recipients: str, data: bytes = mail("To: a@example.net\n"), queue_id: str = QUEUE_ID) -> dict[str, Outcome]:
    """Prepare and attempt a job; outcome by recipient."""
    found: dict[str, Outcome] = {}
    for one in await ses.prepare(job(*recipients, data=data, queue_id=queue_id)):
        found |= {recipient: outcome for (_, recipient), outcome in (await ses.attempt([one])).items()}
    await ses.aclose()
    return found


async def test_sent() -> None:
    """A request arrives as built, with a signature that covers it; the remote id comes back."""
    async with HttpServer([TAKEN]) as server:
        ses = transport(server, now=1_795_197_421.0, session_token="canary-token")
        outcomes = await attempt(ses, "a@example.net")
    (request,) = server.requests
    assert ("POST", "/v2/email/outbound-emails") == (request.method, request.path)
    (expected,) = payload(
        mail("To: a@example.net\n"),
        block=header.cut(mail("To: a@example.net\n"))[0],
        facts=Facts(1, False, 1),
        queue_id=QUEUE_ID,
        recipients=["a@example.net"],
        changes=(),
        settings=SETTINGS,
    )
    assert expected.body().whole() == request.body
    signed = sign(
        "POST",
        f"127.0.0.1:{server.port}",
        request.path,
        {"Accept": "application/json", "Content-Type": "application/json"},
        sha256(request.body).hexdigest(),
        keys=Keys("AKIDEXAMPLE", SECRET, "canary-token"),
        region="eu-west-1",
        now=1_795_197_421.0,
    )
    assert signed == {name: request.headers[name.lower()] for name in signed}
    outcome = outcomes["a@example.net"]
    assert (Verdict.OK, "2.0.0", "200 MessageId=010f0190-abc", "010f0190-abc") == (
        outcome.verdict,
        outcome.status,
        outcome.reply,
        outcome.remote_id,
    )


async def test_a_path_below_the_base_url_is_signed() -> None:
    """Behind a proxy with a path of its own the signature covers the path as sent."""
    async with HttpServer([TAKEN]) as server:
        chosen = dataclasses.replace(SETTINGS, base_url=f"{server.url}/aws/ses/")
        ses = Ses(chosen, Http(base_url=chosen.url, timeout=5, concurrency=1), lambda: 0.0)
        await attempt(ses)
    (request,) = server.requests
    assert "/aws/ses/v2/email/outbound-emails" == request.path
    fields = {"Accept": "application/json", "Content-Type": "application/json"}
    digest = sha256(request.body).hexdigest()
    keys = Keys("AKIDEXAMPLE", SECRET)
    signed = sign("POST", f"127.0.0.1:{server.port}", request.path, fields, digest, keys=keys, region="eu-west-1", now=0.0)
    assert signed["Authorization"] == request.headers["authorization"]


async def test_a_large_message() -> None:
    """A message of several megabytes is encoded in a thread and arrives whole."""
    data = mail("To: a@example.net\n", ("x" * 70 + "\n") * 60_000)
    async with HttpServer([TAKEN]) as server:
        assert Verdict.OK is (await attempt(transport(server), data=data))["a@example.net"].verdict
    assert data == base64.b64decode(json.loads(server.requests[0].body)["Content"]["Raw"]["Data"])


def late(text: str = "Signature expired: 20261120T000000Z is now earlier than 20261120T000500Z", seconds: float = 412.4) -> Response:
    """A refusal for the time of the signature, from a clock that is `seconds` ahead of 1,795,197,421."""
    date = format_datetime(datetime.fromtimestamp(1_795_197_421 + seconds, UTC), usegmt=True)
    return Response(403, json.dumps({"message": text}).encode(), {"x-amzn-ErrorType": "InvalidSignatureException:", "Date": date})


async def test_a_clock_that_is_wrong() -> None:
    """A request refused for the time of its signature is signed once more by the remote's clock, and so are all after it."""
    async with HttpServer([late(), TAKEN]) as server:
        ses = transport(server, now=1_795_197_421.0)
        outcomes = await attempt(ses)
        later = await attempt(ses)
    assert ["20261120T", "20261120T", "20261120T"] == [request.headers["x-amz-date"][:9] for request in server.requests]
    first, second, third = (int(request.headers["x-amz-date"][9:15]) for request in server.requests)
    assert (second, third) != (first, first)
    assert second == third
    reply = "200 MessageId=010f0190-abc (signed again by Amazon's clock: this host's is 412 s behind it)"
    assert (Verdict.OK, reply) == (outcomes["a@example.net"].verdict, outcomes["a@example.net"].reply)
    assert "200 MessageId=010f0190-abc" == later["a@example.net"].reply


@pytest.mark.parametrize(
    ("answer", "count", "mend"),
    [
        (late(), 2, "this host's clock is 412 s behind Amazon's: put it right (timedatectl set-ntp true)"),
        (
            late("Signature not yet current: 1 is still later than 2", -7200),
            2,
            "this host's clock is 7200 s ahead of Amazon's: put it right (timedatectl set-ntp true)",
        ),
        (late(seconds=0), 1, "Amazon does not take the time of the signature: check this host's clock (timedatectl)"),
        (
            Response(400, b'{"__type":"RequestExpired"}'),
            1,
            "Amazon does not take the time of the signature: check this host's clock (timedatectl)",
        ),
    ],
    ids=["behind", "ahead", "right", "no date"],
)
async def test_a_clock_that_stays_wrong(answer: Response, count: int, mend: str) -> None:
    """Refused again, the provider is paused, and the mend tells the difference in seconds."""
    async with HttpServer([answer]) as server:
        outcome = (await attempt(transport(server, now=1_795_197_421.0)))["a@example.net"]
    assert (count, Verdict.PAUSE, mend) == (len(server.requests), outcome.verdict, outcome.mend)


@pytest.mark.parametrize(
    ("script", "verdict"), [([Act.HANG], Verdict.UNKNOWN), ([Act.CUT], Verdict.UNKNOWN), ([Response(502, b"<html>")], Verdict.UNKNOWN)]
)
async def test_no_answer(script: list[Any], verdict: Verdict) -> None:
    """Without an answer after the body was sent, the message may have been taken."""
    async with HttpServer(script) as server:
        assert verdict is (await attempt(transport(server, seconds=0.2)))["a@example.net"].verdict


async def test_nobody_listens() -> None:
    """A provider that cannot be reached is paused and says what to look at: base_url, or the region that made the name."""
    async with HttpServer() as server:
        pass
    outcome = (await attempt(transport(server)))["a@example.net"]
    assert (Verdict.PAUSE, f"check the network and base_url ({server.url})") == (outcome.verdict, outcome.mend)
    by_region = Ses(dataclasses.replace(SETTINGS, region="xx-west-9"), Http(base_url=server.url, timeout=5, concurrency=1))
    outcome = (await attempt(by_region))["a@example.net"]
    assert "check the network, and region (xx-west-9): its endpoint would be https://email.xx-west-9.amazonaws.com" == outcome.mend


async def test_who_is_refused_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a reply refuses one of several recipients and names nobody, the next attempt has a request for each."""
    monkeypatch.setattr("relay.transports.rest._APART", 1)

    def answer(request: Request) -> Response:
        if b"bad.example" in request.body:
            return Response(400, b'{"message":"Invalid domain name"}', {"x-amzn-errortype": "BadRequestException"})
        return TAKEN

    async with HttpServer(answer) as server:
        ses = transport(server)

        async def once(queue_id: str) -> list[Verdict]:
            return [outcome.verdict for outcome in (await attempt(ses, "a@example.net", "b@bad.example", queue_id=queue_id)).values()]

        together = [Verdict.RETRY, Verdict.RETRY]
        assert together == await once("A")
        assert [Verdict.OK, Verdict.PERM_MSG] == await once("A")
        assert together == await once("B")
        assert together == await once("A"), "only so many are remembered"


async def test_an_address_that_ses_does_not_take_is_never_sent() -> None:
    """Its finding is our own, so that another provider may be asked for it; the others go."""
    async with HttpServer([TAKEN]) as server:
        outcomes = await attempt(transport(server), "b@example.net", "postmaster")
    assert 1 == len(server.requests)
    outcome = outcomes["postmaster"]
    assert (Verdict.PERM_MSG, "5.1.3", True, "relay") == (outcome.verdict, outcome.status, outcome.own, outcome.remote)


async def test_preview() -> None:
    """The requests as they would leave, without a secret, and how curl would sign them."""
    edited = [Edit(EditKind.PREPEND, "Received: x\r\n")]
    data = mail("To: a@example.net\nDate: x\nDate: y\n")
    ses = Ses(SETTINGS, Http(base_url=SETTINGS.url, timeout=5, concurrency=1))
    (preview,) = await ses.preview(job("a@example.net", "postmaster", data=data, edits=edited))
    assert ("POST", "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails") == (preview.method, preview.url)
    assert {"Accept": "application/json", "Content-Type": "application/json", "Authorization": "[secret]"} == preview.headers
    assert b"Received: x\r\nFrom:" in base64.b64decode(json.loads(preview.body)["Content"]["Raw"]["Data"])
    assert ("app@example.com", ("a@example.net",)) == (preview.reverse_path, preview.recipients)
    assert [
        ("cosmetic", "of 2 Date fields only the first goes along"),
        ("hard", "postmaster gets nothing: Amazon SES takes no recipient address of this form"),
    ] == [(loss.grade, loss.what) for loss in preview.losses]
    user = "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"
    assert ("--aws-sigv4", "aws:amz:eu-west-1:ses", "--user", user) == preview.login
    token = Ses(dataclasses.replace(SETTINGS, session_token="x"), Http(base_url=SETTINGS.url, timeout=5, concurrency=1))
    (preview,) = await token.preview(job(data=data))
    assert ("-H", "X-Amz-Security-Token: $AWS_SESSION_TOKEN") == preview.login[-2:]
    assert SECRET not in repr(preview)


def test_what_it_says_of_itself() -> None:
    """Endpoint by region, name, batch size and concurrency."""
    ses = Ses(SETTINGS, Http(base_url=SETTINGS.url, timeout=5, concurrency=1))
    assert ("ses", ALONE, 20, True) == (ses.provider, ses.batching, ses.concurrency, ses.carries_reports)
    assert "https://email.cn-north-1.amazonaws.com.cn" == SesSettings("ses", "cn-north-1").url
    assert SECRET not in repr(SETTINGS)


@given(
    st.lists(
        st.sampled_from(["a@example.net", "b@bücher.example", "postmaster", '"q q"@x.example', "c@[192.0.2.1]"]), unique=True, min_size=1
    )
)
def test_each_recipient_once(recipients: list[str]) -> None:
    """However recipients are mixed, each is in exactly one request."""
    try:
        found = requests(mail(""), recipients)
    except CannotCarry:
        assert ["postmaster"] == recipients
        return
    assert sorted(recipients) == sorted(recipient for request in found for recipient in request.recipients)
