"""SendEmail with messages that are taken apart: golden requests, limits, which form a message takes, templates."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import directives
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.mailboxes import Mailbox
from relay.transports.http import Http
from relay.transports.ses import Payload, Ses
from relay.transports.sesv2 import addresses
from relay.transports.sesv2.options import Account
from relay.transports.sesv2.raw import Source, Terms
from relay.transports.sesv2.request import payload as sesv2_payload
from tests.jobs import MemoryMessage, job
from tests.messages import BY_NAME, FILES
from tests.sesv2_model import faults
from tests.transports.test_ses import BLOCKED, OURS, QUEUE_ID, SETTINGS, SIGNED, mail, requests

GOLDEN = Path(__file__).parent.parent / "data" / "payloads" / "ses"

# Golden cases: message, recipients, settings; `simple` unless they say otherwise.
CASES: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "simple-invoice": (
        "invoice",
        ["ann@example.net", "bob@example.org", "cc@example.net", "hidden@example.net"],
        {"streams": {"billing": "bills"}},
    ),
    "simple-nested": ("nested", ["ann@example.net"], {"tenant": "clinic"}),
    "simple-thread": ("thread", ["ann@example.net"], {}),
    "simple-idn": ("idn", BY_NAME["idn"].recipients, {}),
    "simple-odd-names": ("odd-names", BY_NAME["odd-names"].recipients, {}),
    "simple-undisclosed": ("latin1", ["one@example.net", "two@example.net"], {}),
    "simple-empty-body": ("empty-body", ["ann@example.net"], {}),
    "simple-not-ascii": ("non-ascii-field", ["ann@example.net"], {}),
    "template": ("template", ["customer@example.net"], {"content_mode": "raw"}),
    "controls": ("ses-controls", ["ann@example.net"], {}),
}


def data_of(name: str) -> bytes:
    """A message by its name, of ours or in tests/data."""
    return BY_NAME[name].data if name in BY_NAME else (FILES / f"{name}.eml").read_bytes()


def content(request: Payload) -> Any:
    """The request's JSON."""
    return json.loads(request.body().whole())


def built(name: str) -> Any:
    """A golden case as it comes out."""
    message, recipients, settings = CASES[name]
    found = requests(data_of(message), recipients, **{"content_mode": "simple", **settings})
    return [
        {
            "recipients": list(request.recipients),
            "identities": list(request.identities),
            "losses": [f"{loss.grade}: {loss.what}" for loss in request.losses],
            "body": content(request),
        }
        for request in found
    ]


@pytest.mark.parametrize("name", CASES)
def test_golden_payloads(name: str) -> None:
    """Each message becomes exactly the requests in its file, and Amazon's model has nothing against them."""
    assert json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8")) == built(name)
    message, recipients, settings = CASES[name]
    for request in requests(data_of(message), recipients, **{"content_mode": "simple", **settings}):
        assert [] == faults(request.body().whole())
        assert sha256(request.body().whole()).hexdigest() == request.digest


def one(fields: str, body: str = "text\n", **settings: Any) -> Payload:
    """The only request for a message to b@example.net, taken apart if it can be."""
    (request,) = requests(mail(f"To: b@example.net\n{fields}", body), **{"content_mode": "simple", **settings})
    return request


# --- which form ---


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (mail("To: b@example.net\n" + SIGNED.format(text="x")), "the signature of multipart/signed would break"),
        (mail("To: b@example.net\n" + "".join(f"X-{number}: x\n" for number in range(16))), "of 16 further header fields only 15 go along"),
        (
            mail(f"To: b@example.net\nX-Long: {'x ' * 498}\n"),
            "the field X-Long is left out: its name and value are longer than Amazon SES takes",
        ),
        (
            mail(f"To: b@example.net\nX-{'a' * 125}: x\n"),
            f"the field X-{'a' * 38} is left out: its name and value are longer than Amazon SES takes",
        ),
        (mail("From: a@example.com, c@example.com\nTo: b@example.net\n"), "more than one From address"),
        (BY_NAME["long-content-id"].data, "the Content-ID of a.png has 102 characters; Amazon SES takes 78"),
        (BY_NAME["calendar"].data, "a calendar entry (text/calendar) would become a file that cannot be answered"),
    ],
    ids=["signed", "many fields", "long value", "long name", "two authors", "long Content-ID", "calendar"],
)
def test_what_does_not_fit_goes_as_it_is(data: bytes, why: str) -> None:
    """Where something would be lost that changes the mail, it goes raw, loses nothing, and says what was in the way."""
    (request,) = requests(data, ["b@example.net"], content_mode="simple")
    assert (["Raw"], why, ()) == (list(content(request)["Content"]), request.why, request.losses)


async def test_a_preview_says_why() -> None:
    """Whoever looks sees the request that would leave, and what kept the message from being taken apart."""
    settings = dataclasses.replace(SETTINGS, content_mode="simple")
    ses = Ses(settings, Http(base_url=settings.url, timeout=5, concurrency=1))
    (preview,) = await ses.preview(job(data=mail("To: a@example.net\n" + SIGNED.format(text="x"))))
    assert ("the signature of multipart/signed would break", "POST") == (preview.why, preview.method)
    (preview,) = await ses.preview(job(data=mail("To: a@example.net\n")))
    assert ("", ["Simple"]) == (preview.why, list(json.loads(preview.body)["Content"]))
    (prepared,) = await ses.prepare(job(data=mail("To: a@example.net\n")))
    assert None is ses.share(prepared)
    assert "" == one("").kind


def test_fifteen_fields_of_the_longest_kind_fit() -> None:
    """The limits themselves are within them."""
    fields = "".join(f"X-{number:02}: {'x' * 900}\n {'x' * 90}\n" for number in range(15))
    request = one(fields)
    assert [996] * 15 == [len(field["Name"]) + len(field["Value"]) + 1 for field in content(request)["Content"]["Simple"]["Headers"]]
    assert [] == faults(request.body().whole())


def test_a_long_content_type_does_not_fit() -> None:
    """A file whose type is longer than SES takes goes as it is."""
    kind = f"application/{'x' * 70}"
    request = one(f"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: {kind}; name=a.dat\n\nx\n--b--\n")
    assert "the content type of a.dat has 82 characters; Amazon SES takes 78" == request.why


def test_what_neither_form_carries_is_refused() -> None:
    """The reasons are those of the message as it is."""
    with pytest.raises(CannotCarry, match=r"no attachment of type \.exe \(a\.exe\)") as caught:
        requests(mail(BLOCKED.format(name="a.exe")), content_mode="simple")
    assert 1 == len(caught.value.reasons)


def test_hidden_recipients_have_requests_of_their_own() -> None:
    """What a request shows is where it goes, so nobody is shown to whom the header does not show him; all share the message."""
    found = requests(mail("To: list@example.net\n"), ["b@example.net", "c@example.net"], content_mode="simple")
    assert [{"ToAddresses": ["b@example.net"]}, {"ToAddresses": ["c@example.net"]}] == [
        content(request)["Destination"] for request in found
    ]
    assert found[0].body().parts[0] is found[1].body().parts[0]
    assert [Loss("cosmetic", "To and Cc show only the recipients of each request")] == list(found[0].losses)


def test_odd_addresses_do_not_spoil_the_others() -> None:
    """What SES may refuse has a request of its own, and what it surely refuses is never sent."""
    to = ["b@example.net", '"a b"@example.net', "jörg@example.net", "d@bücher.example"]
    found = requests(mail(f"To: {', '.join(to)}\n", "x"), to, content_mode="simple")
    assert [("b@example.net", "d@bücher.example"), ('"a b"@example.net',), ("jörg@example.net",)] == [one.recipients for one in found]
    assert [False, False, True] == [bool(request.refusal) for request in found]
    assert {"ToAddresses": ["b@example.net", "d@xn--bcher-kva.example"]} == content(found[0])["Destination"]
    with pytest.raises(CannotCarry, match="no recipient address of this form"):
        requests(mail("To: postmaster\n"), ["postmaster"], content_mode="simple")


def test_a_request_that_is_too_large() -> None:
    """The limit is one of the configuration, and counts base64."""
    body = "x" * 70 + "\n"
    with pytest.raises(CannotCarry, match=r"the message has 1\d{5} octets after base64|after base64; Amazon SES takes 100,000") as caught:
        requests(mail("To: b@example.net\n", body * 2000), content_mode="simple", max_size=100_000)
    assert "5.3.4" == caught.value.status


# --- fields ---


def test_fields_beside_those_of_the_api() -> None:
    """What SES forbids or has members for is no header field; of a field that may stand once the first goes along."""
    fields = "Message-ID: <1@x>\nReceived: x\nReturn-Path: <a@x>\nReferences: <0@x>\nIn-Reply-To: <0@x>\nAuto-Submitted: auto-generated\n"
    request = one(fields + "List-Id: one\nlist-id: two\nX-PM-Tag: x\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nX-Two: 1\nX-Two: 2\n")
    assert [
        ("References", "<0@x>"),
        ("In-Reply-To", "<0@x>"),
        ("Auto-Submitted", "auto-generated"),
        ("List-Id", "one"),
        ("X-Two", "1"),
        ("X-Two", "2"),
    ] == [(field["Name"], field["Value"]) for field in content(request)["Content"]["Simple"]["Headers"]]
    assert [Loss("cosmetic", "of 2 List-Id fields only the first goes along")] == list(request.losses)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("", "a@example.net"),
        ("Ann", "Ann <a@example.net>"),
        ("Ann, A.", '"Ann, A." <a@example.net>'),
        ("Jörg", "=?utf-8?B?SsO2cmc=?= <a@example.net>"),
        ("=?x", "=?utf-8?B?PT94?= <a@example.net>"),
    ],
)
def test_mailboxes(name: str, written: str) -> None:
    """Names stand as they are, quoted, or encoded."""
    assert written == addresses.written(Mailbox(name, "a@example.net"))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200))
def test_encoded_words_say_what_they_should(text: str) -> None:
    """The standard library reads the same name out of the words, each of which is short enough."""
    words = addresses.encoded(text)
    assert all(len(word) <= 75 for word in words.split(" "))
    assert text == str(make_header(decode_header(words)))


def test_files_are_what_was_sent() -> None:
    """A file's octets come out of the request; one that the HTML shows is inline."""
    (request,) = requests(data_of("nested"), ["ann@example.net"], content_mode="simple")
    parsed = message_from_bytes(data_of("nested"), policy=policy.default)
    sent = {part.get_filename(): part.get_payload(decode=True) for part in parsed.walk() if part.get_filename()}
    files = content(request)["Content"]["Simple"]["Attachments"]
    assert sent == {file["FileName"]: base64.b64decode(file["RawContent"]) for file in files}
    assert [("INLINE", "logo@example.com", "BASE64"), ("ATTACHMENT", None, "BASE64")] == [
        (file["ContentDisposition"], file.get("ContentId"), file["ContentTransferEncoding"]) for file in files
    ]


def test_no_subject() -> None:
    """A subject that is empty or missing is a space."""
    for fields in ("", "Subject:\n"):
        assert {"Data": " ", "Charset": "UTF-8"} == content(one(fields))["Content"]["Simple"]["Subject"]


# --- templates ---


def template(fields: str, body: str = "text\n", **settings: Any) -> Any:
    """What a request says of its template."""
    return content(one(fields, body, **{"content_mode": "raw", **settings}))["Content"]["Template"]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("welcome", {"TemplateName": "welcome"}),
        ("arn:aws:ses:eu-west-1:1:template/welcome", {"TemplateArn": "arn:aws:ses:eu-west-1:1:template/welcome"}),
        ("inline", {"TemplateContent": {"Subject": "Hello {{name}}", "Text": "Dear {{name}}\n"}}),
    ],
)
def test_templates(name: str, chosen: dict[str, object]) -> None:
    """A name, an ARN, or the message itself; the data are JSON in a string, with what is not ASCII as it is."""
    fields = f'Subject: Hello {{{{name}}}}\nX-Relay-Template: {name}\nX-Relay-Template-Model: {{"name": "Jörg"}}\n'
    assert {**chosen, "TemplateData": '{"name":"Jörg"}'} == template(fields, "Dear {{name}}\n")


def test_an_inline_template_without_text() -> None:
    """It has what the message has, and a space where that is no subject or no text."""
    assert {"Subject": " ", "Text": " "} == template("X-Relay-Template: inline\n", "")["TemplateContent"]
    html = template("X-Relay-Template: inline\nContent-Type: text/html\n", "<p>{{a}}</p>\n")
    assert {"Subject": " ", "Html": "<p>{{a}}</p>\n"} == html["TemplateContent"]
    assert "{}" == html["TemplateData"]


def test_a_template_has_header_fields_and_files() -> None:
    """They go along as with a message that is taken apart, and the template is what may be missing."""
    data = data_of("nested")
    (request,) = requests(b"X-Relay-Template: welcome\r\nX-Two: 2\r\n" + data, ["ann@example.net"])
    found = content(request)["Content"]["Template"]
    assert ([{"Name": "X-Two", "Value": "2"}], 2) == (found["Headers"], len(found["Attachments"]))
    assert ("domain=example.com", "template=welcome") == request.identities
    assert ("domain=example.com", "template=inline") == one("X-Relay-Template: inline\n").identities


@pytest.mark.parametrize(
    ("fields", "reason", "status"),
    [
        ("X-Relay-Template-Model: [1]\n", "x-relay-template-model is not a JSON object", "5.6.3"),
        (BLOCKED.format(name="a.exe"), r"no attachment of type \.exe", "5.6.3"),
        (SIGNED.format(text="x"), "the signature of multipart/signed would break", "5.6.3"),
    ],
    ids=["no data", "file", "signed"],
)
def test_templates_that_cannot_go(fields: str, reason: str, status: str) -> None:
    """There is no other form for them."""
    with pytest.raises(CannotCarry, match=reason) as caught:
        one(f"X-Relay-Template: welcome\n{fields}")
    assert status == caught.value.status


def test_a_template_that_is_no_arn() -> None:
    """What begins like an ARN is one."""
    with pytest.raises(CannotCarry, match="'arn:of no kind' is not the ARN of a template"):
        one("X-Relay-Template: arn:of no kind\n")


@pytest.mark.parametrize(("length", "fits"), [(262_136, True), (262_137, False)])
def test_data_at_the_limit(length: int, fits: bool) -> None:
    """Data from elsewhere than a header, which is shorter, may have as many characters as SES takes."""
    message = MemoryMessage(mail("To: b@example.net\n"))
    asked = directives.Directives(template="a", template_model={"a": "x" * length})
    source = Source(message.data, message.header, message.facts, ())

    def build() -> tuple[Payload, ...]:
        terms = Terms(40 << 20)
        return sesv2_payload(source, ["b@example.net"], asked=asked, account=Account(), queue_id=QUEUE_ID, form="raw", terms=terms)

    if fits:
        assert 262_144 == len(content(build()[0])["Content"]["Template"]["TemplateData"])
    else:
        with pytest.raises(CannotCarry, match="the template's data have 262,145 characters; Amazon SES takes 262,144"):
            build()


def test_a_loss_may_be_taken() -> None:
    """With on_loss: warn a template goes with what it loses."""
    request = one("X-Relay-Template: welcome\n" + SIGNED.format(text="x"), on_loss="warn")
    assert Loss("hard", "the signature of multipart/signed would break") in request.losses


# --- options ---


def test_streams_are_configuration_sets() -> None:
    """What an app asks for in another's words is what the configuration maps it to; what nothing maps is a loss."""
    streams = {"Broadcast": "newsletters"}
    assert "newsletters" == content(one("X-PM-Message-Stream: broadcast\n", streams=streams))["ConfigurationSetName"]
    other = one("X-PM-Message-Stream: other\n", streams=streams, configuration_set="usual")
    assert "usual" == content(other)["ConfigurationSetName"]
    assert ["the stream 'other' is not one of this provider: see streams"] == [loss.what for loss in other.losses]
    assert "own" == content(one("X-SES-Configuration-Set: own\nX-PM-Message-Stream: broadcast\n", streams=streams))["ConfigurationSetName"]


@pytest.mark.parametrize("mode", ["raw", "simple"])
def test_a_tenant(mode: str) -> None:
    """The app's wins over the configuration's, in each form."""
    assert "clinic" == content(one("", tenant="clinic", content_mode=mode))["TenantName"]
    request = one("X-SES-Tenant: other\n", tenant="clinic", content_mode=mode)
    assert ("other", True) == (content(request)["TenantName"], "tenant=other" in request.identities)


def test_options_are_the_same_in_each_form() -> None:
    """How the content goes changes nothing else."""
    fields = (
        "X-SES-Message-Tags: a=b\nX-SES-List-Management-Options: news; topic=weekly\nX-Relay-Track-Opens: no\nX-SES-Source-ARN: arn:aws:x\n"
    )
    own = ("Content", "Destination", "FromEmailAddress")
    raw, simple = (
        {name: value for name, value in content(one(fields, content_mode=mode)).items() if name not in own} for mode in ("raw", "simple")
    )
    assert raw == simple
    assert [{"Name": "a", "Value": "b"}, OURS] == raw["EmailTags"]
    assert ["EmailTags", "FromEmailAddressIdentityArn", "ListManagementOptions", "ConfigurationOverrides"] == list(raw)


def test_what_is_left_out() -> None:
    """A control header that nobody knows, and what SES cannot do, are cosmetic losses."""
    assert ["the control header x-ses-surprise is left out: relay does not know it", "inline CSS is left out"] == [
        loss.what for loss in one("X-SES-Surprise: x\nX-Relay-Inline-CSS: yes\n").losses
    ]


def test_all_dialects_are_understood() -> None:
    """What one vendor calls a category, another a tag, is a message tag of SES."""
    for field in ("X-MT-Category: welcome", "X-PM-Tag: welcome", "X-Relay-Tag: welcome"):
        assert [{"Name": "category", "Value": "welcome"}, OURS] == content(one(f"{field}\n"))["EmailTags"]
    assert 4 == len(directives.DIALECTS)
