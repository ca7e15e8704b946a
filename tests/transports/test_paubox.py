"""Paubox: golden requests, and the class against a real local server. Its replies are in test_paubox_replies.py."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import directives
from relay.errors import CannotCarry
from relay.model import Job, Outcome, Verdict
from relay.transports.base import ALONE, Batching, Check, Share, Transport
from relay.transports.http import Http
from relay.transports.paubox import Letter, Paubox, PauboxSettings, bulk, payload
from tests.jobs import accepted, job
from tests.messages import BY_NAME, FILES
from tests.servers import Act, HttpServer, Request, Response
from tests.test_mime import MESSAGE_LIKE

DATA = Path(__file__).parent.parent / "data"
KEY = "canary-0123456789"
QUEUE_ID = "687E7641C64007"
SETTINGS = PauboxSettings("paubox", KEY, username="clinic", controls={"local": directives.DIALECTS})
TAKEN = b'{"sourceTrackingId":"3d38ab13-0af8-4028-bd45-52e882e0d584","customHeaders":{"X-Relay-Id":"687E7641C64007"},"data":"Service OK"}'
REAL_SHARE: Mapping[str, Any] = {"batching": Batching(50, 1_000_000, 0.2)}

# Golden cases: message, recipients, settings.
CASES: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "plain": ("plain.eml", ["ops@example.net"], {}),
    "alternative": ("alternative", ["ann@example.net"], {}),
    "html-plain": ("alternative", ["ann@example.net"], {"html": "plain"}),
    "invoice-refused": ("invoice.eml", ["ann@example.net"], {}),
    "invoice-warned": (
        "invoice.eml",
        ["ann@example.net", "bob@example.org", "cc@example.net", "hidden@example.net"],
        {"on_loss": "warn"},
    ),
    "undisclosed": ("latin1.eml", ["one@example.net", "two@example.net"], {}),
    "php": ("php.eml", ["info@example.net"], {}),
    "scanner": ("scanner.eml", ["desk@example.net"], {}),
    "template": ("template.eml", ["customer@example.net"], {"track_opens": True}),
    "switches": ("plain", ["ann@example.net"], {"allow_non_tls": True, "force_secure_notification": True, "track_links": True}),
    "odd-names": ("odd-names", ["ann@example.net", "bob@example.net", "cat@example.org"], {}),
    "list": ("list", ["ann@example.net"], {}),
    "duplicate-headers": ("duplicate-headers", ["ann@example.net"], {}),
    "thread-refused": ("thread", ["ann@example.net"], {}),
    "thread-warned": ("thread", ["ann@example.net"], {"on_loss": "warn"}),
    "postmark-controls": ("postmark-controls", ["ann@example.net"], {}),
    "relay-controls": ("relay-controls", ["ann@example.net"], {"track_opens": True}),
    "controls-not-obeyed": ("postmark-controls", ["ann@example.net"], {"controls": {"local": ()}}),
    "related-refused": ("related", ["ann@example.net"], {}),
    "signed-refused": ("signed.eml", ["b@example.net"], {}),
    "report-refused": ("report", ["ann@example.net"], {}),
}


def requests(data: bytes, recipients: Sequence[str], *, notice: bool = False, **settings: Any) -> tuple[Letter, ...]:
    """The requests for a message accepted from the listener `local` for these recipients."""
    told = accepted(data, recipients, QUEUE_ID)
    return payload(data, settings=dataclasses.replace(SETTINGS, **settings), **told, notice=notice)


def bodies(data: bytes, recipients: Sequence[str], **settings: Any) -> list[dict[str, Any]]:
    """The `data` of each request."""
    return [json.loads(request.body().whole())["data"] for request in requests(data, recipients, **settings)]


def message(data: bytes, **settings: Any) -> dict[str, Any]:
    """The one message of a request to one recipient."""
    (body,) = bodies(data, ["b@example.net"], **settings)
    found: dict[str, Any] = body["message"]
    return found


def losses(data: bytes, **settings: Any) -> list[str]:
    """What a request to one recipient loses."""
    (request,) = requests(data, ["b@example.net"], **{"on_loss": "warn", **settings})
    return [f"{loss.grade}: {loss.what}" for loss in request.losses]


def mail(fields: str, body: str = "text\n") -> bytes:
    """A message with CRLF line ends; a From and a Subject are added where there is none."""
    head = fields if "From:" in fields else f"From: a@example.com\n{fields}"
    head = head if "Subject:" in head else f"{head}Subject: s\n"
    return f"{head}\n{body}".replace("\n", "\r\n").encode()


def built(name: str) -> dict[str, Any]:
    """What a golden case comes to, in the form of its file."""
    source, recipients, settings = CASES[name]
    data = (FILES / source).read_bytes() if source.endswith(".eml") else BY_NAME[source].data
    try:
        found = requests(data, recipients, **settings)
    except CannotCarry as error:
        return {"cannot carry": list(error.reasons), "status": error.status}
    return {
        "requests": [{"path": request.path, "body": json.loads(request.body().whole())} for request in found],
        "identities": list(found[0].identities),
        "kind": found[0].kind,
        "losses": [[loss.grade, loss.what] for loss in found[0].losses],
    }


@pytest.mark.parametrize("name", CASES)
def test_golden_payloads(name: str) -> None:
    """Each message becomes exactly the requests in its file, or is refused for the reasons there."""
    assert json.loads((DATA / "payloads" / "paubox" / f"{name}.json").read_text(encoding="utf-8")) == built(name)


def test_every_recipient_is_in_one_request() -> None:
    """Up to 100 share a request with those the header shows; everybody else has his own."""
    hidden = [f"hidden{number}@example.net" for number in range(110)]
    found = requests(mail("To: to@example.net\nCc: cc@example.net\n"), [*hidden, "cc@example.net", "to@example.net"])
    assert [100, *[1] * 12] == [len(request.recipients) for request in found]
    assert sorted([*hidden, "cc@example.net", "to@example.net"]) == sorted(one for request in found for one in request.recipients)
    first, *rest = (json.loads(request.body().whole())["data"]["message"] for request in found)
    assert (["to@example.net"], ["cc@example.net"], 98) == (first["recipients"], first["cc"], len(first["bcc"]))
    assert all(not {"cc", "bcc"} & set(one) for one in rest)


def test_addresses_of_an_odd_form_do_not_spoil_the_others() -> None:
    """A quoted local part has a request of its own, which is not sent; alone it is refused at once."""
    odd = '"a b"@example.net'
    found = requests(mail(f"To: {odd}, b@example.net\n"), [odd, "b@example.net", "b@[192.0.2.1]", "jörg@example.net"])
    refusal = "Paubox takes no recipient address of this form"
    assert {("b@example.net",): "", (odd,): refusal, ("b@[192.0.2.1]",): refusal, ("jörg@example.net",): refusal} == {
        request.recipients: request.refusal for request in found
    }
    with pytest.raises(CannotCarry, match="no recipient address of this form"):
        requests(mail(""), [odd])


@pytest.mark.parametrize(
    ("data", "settings", "reason", "status"),
    [
        (mail("From: nobody\n"), {}, "there is no From address", "5.6.3"),
        (mail("From: jörg@example.com\n"), {}, "From address has a local part that is not ASCII", "5.6.3"),
        (mail("Reply-To: jörg@example.com\n"), {}, "Reply-To address has a local part that is not ASCII", "5.6.3"),
        (mail("From: a@example.com, b@example.com\n"), {}, "more than one From address", "5.6.3"),
        (mail("Reply-To: a@example.com, b@example.com\n"), {}, "of several Reply-To addresses only the first", "5.6.3"),
        (mail("In-Reply-To: <1@example.com>\n"), {}, "outside its thread", "5.6.3"),
        (mail("References: <1@example.com>\n"), {}, "outside its thread", "5.6.3"),
        (mail("X-Relay-Template: t\nX-Relay-Template-Model: [1]\n"), {}, "x-relay-template-model is not a JSON object", "5.6.3"),
        (mail("", "x" * 2000), {"max_size": 1000}, "octets after base64; Paubox takes 1,000", "5.3.4"),
        (mail("X: y\n" * 1001), {}, "more than 1000 fields", "5.6.3"),
    ],
)
def test_cannot_carry(data: bytes, settings: dict[str, Any], reason: str, status: str) -> None:
    """What Paubox would refuse, or change for its reader, is found before sending, and named."""
    with pytest.raises(CannotCarry, match=reason) as caught:
        requests(data, ["b@example.net"], **settings)
    assert status == caught.value.status


@pytest.mark.parametrize(("octets", "noted"), [(9_999_999, False), (10_000_002, True)])
def test_attachments_over_the_older_limit_are_noted(octets: int, noted: bool) -> None:
    """Two of Paubox's pages disagree: what is over the smaller limit goes, and says so."""
    found = losses(mail("Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n", "A" * (octets // 3 * 4)))
    what = f"cosmetic: attachments of {octets:,} octets are more than the 10,000,000 that Paubox's page on limits allows"
    assert noted is (what in found)


def test_attachments_over_the_limit_are_refused() -> None:
    """Even where the configuration allows larger requests."""
    data = mail("Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n", "A" * 66_666_672)
    with pytest.raises(CannotCarry, match="the attachments have 50,000,004 octets; Paubox takes 50,000,000") as caught:
        requests(data, ["b@example.net"], max_size=100_000_000)
    assert "5.3.4" == caught.value.status


def test_a_contact_list_is_missed() -> None:
    """Without it who unsubscribed would get the mail: a hard loss."""
    data = mail("To: b@example.net\nX-SES-List-Management-Options: friends; topic=news\n")
    with pytest.raises(CannotCarry, match="the contact list 'friends; topic=news' of Amazon SES is left out"):
        requests(data, ["b@example.net"])
    (request,) = requests(data, ["b@example.net"], on_loss="warn")
    assert ["hard"] == [loss.grade for loss in request.losses]


def test_when_smtp_is_the_better_way() -> None:
    """For more than 100 that are shown, more than a few that are not, and a notice of ours."""
    many = [f"user{number}@example.net" for number in range(101)]
    for to, recipients, why in (
        (", ".join(many), many, "To and Cc show 101 addresses, and Paubox takes 100 in a request"),
        ("list@example.org", many[:6], "6 recipients whom no field shows would have a request each"),
        ("list@example.org", many[:5], ""),
    ):
        assert {why} == {request.by_smtp for request in requests(mail(f"To: {to}\n"), recipients)}
    (request,) = requests(mail("To: b@example.net\n"), ["b@example.net"], notice=True)
    assert "a notice keeps Auto-Submitted and its thread by SMTP only" == request.by_smtp


def test_nobody_answers_a_notice_by_himself() -> None:
    """Auto-Submitted cannot go along; of those that may, one says the same, and the mail's own stands."""
    for own, expected in (("", "All"), ("x-auto-response-suppress: OOF\n", "OOF")):
        (request,) = requests(mail(f"To: b@example.net\nAuto-Submitted: auto-replied\n{own}"), ["b@example.net"], notice=True)
        headers = json.loads(request.body().whole())["data"]["message"]["headers"]
        assert [expected] == [value for name, value in headers.items() if name.lower() == "x-auto-response-suppress"]
    assert "X-Auto-Response-Suppress" not in message(mail("To: b@example.net\n"))["headers"]


def test_a_notice_of_ours_goes_without_its_thread() -> None:
    """That a mail was not delivered has to be told; an app's own mail of that kind is refused."""
    data = mail("In-Reply-To: <1@example.com>\nReferences: <1@example.com>\nAuto-Submitted: auto-replied\n")
    (request,) = requests(data, ["b@example.net"], notice=True)
    assert ["cosmetic"] == [loss.grade for loss in request.losses if "thread" in loss.what]
    with pytest.raises(CannotCarry):
        requests(data, ["b@example.net"])


def test_what_the_api_has_no_place_for() -> None:
    """Only X- fields and List-Unsubscribe go along, one value each; the rest is named, but for the Message-ID of every mail."""
    data = mail(
        "To: b@example.net\nList-Id: <l.example.com>\nx-one: 1\nX-ONE: 2\nX-Two: 3\nlist-unsubscribe: <https://example.com/u>\n"
        "Importance: high\nMessage-ID: <1@a>\n"
    )
    assert {"subject", "from", "x-one", "X-Two", "List-Unsubscribe", "X-Relay-Id"} == set(message(data)["headers"])
    assert [
        "cosmetic: the field List-Id is left out",
        "cosmetic: of several fields X-ONE only the first is kept",
        "cosmetic: the field Importance is left out",
    ] == losses(data)


def test_no_header_can_be_injected() -> None:
    """An encoded line end stays inside its value, a control header is never passed on, and no field replaces another."""
    data = mail(
        "X-Note: =?utf-8?q?a=0d=0aBcc:_evil=40example.com?=\nFrom: =?utf-8?q?x=0aTo=3A_y?= <a@example.com>\n"
        "X-Odd: a\n\tb\x1b\x00c\nX-Relay-Id: theirs\n"
    )
    headers = message(data)["headers"]
    assert '"x To: y" <a@example.com>' == headers["from"]
    assert "=?utf-8?q?a=0d=0aBcc:_evil=40example.com?=" == headers["X-Note"]
    assert ("a b c", QUEUE_ID) == (headers["X-Odd"], headers["X-Relay-Id"])


def test_confidentiality_is_never_a_message_s_choice() -> None:
    """Headers named like the API's options change nothing of them."""
    found = message(mail("X-Relay-Allow-Non-TLS: true\nallowNonTLS: true\nX-Paubox-forceSecureNotification: false\n"))
    assert (False, False) == (found["allowNonTLS"], found["forceSecureNotification"])


@pytest.mark.parametrize(
    ("fields", "settings", "beside"),
    [
        ("", {}, {}),
        ("", {"track_opens": False, "track_links": False}, {}),
        ("", {"track_opens": True, "track_links": True}, {"override_open_tracking": True, "override_link_tracking": True}),
        ("X-PM-TrackOpens: true\nX-PM-TrackLinks: TextOnly\n", {}, {"override_open_tracking": True, "override_link_tracking": True}),
        ("X-PM-TrackOpens: false\nX-PM-TrackLinks: None\n", {"track_opens": True, "track_links": True}, {}),
    ],
)
def test_tracking_can_only_be_switched_on(fields: str, settings: dict[str, Any], beside: dict[str, Any]) -> None:
    """A message's word is stronger than the settings'; what would switch tracking off is not said."""
    (body,) = bodies(mail(fields), ["b@example.net"], **settings)
    assert beside == {name: value for name, value in body.items() if name != "message"}
    assert ("false" in fields) is ("cosmetic: open tracking false is left out" in losses(mail(fields), **settings))


def test_a_template_takes_the_place_of_the_body() -> None:
    """Its values are a JSON text; files go along; what only counts for the HTML is no loss."""
    data = BY_NAME["related"].data.replace(b"Subject:", b"X-Relay-Template: t\r\nSubject:", 1)
    (body,) = bodies(data, ["ann@example.net"], track_opens=True)
    assert ({"template_name": "t", "template_values": "{}"}, False) == (
        {name: value for name, value in body.items() if name != "message"},
        "content" in body["message"],
    )
    assert 1 == len(body["message"]["attachments"])


def test_bodies_and_subjects_that_would_be_refused() -> None:
    """An empty text becomes a space, an empty Subject (no subject)."""
    found = message(mail("Subject: \n", ""))
    assert ({"text/plain": " "}, "(no subject)") == (found["content"], found["headers"]["subject"])


@given(MESSAGE_LIKE, st.sampled_from(["refuse", "warn"]), st.sampled_from(["base64", "plain"]))
def test_anything_maps_or_is_refused(data: bytes, on_loss: str, html: str) -> None:
    """Whatever a message is made of, it becomes requests in the documented shape or is refused with a reason."""
    try:
        found = requests(b"From: a@example.com\r\n" + data + b"\r\n", ["a@example.net", "b@example.net"], on_loss=on_loss, html=html)
    except CannotCarry as error:
        assert "" not in error.reasons  # noqa: PT017 (several ways lead here)
        return
    for request in found:
        one = json.loads(request.body().whole())["data"]["message"]
        assert {"recipients", "headers", "allowNonTLS", "forceSecureNotification"} <= set(one)
        assert all(name.lower() in WELL_KNOWN or name.lower().startswith("x-") for name in one["headers"])
        assert all(isinstance(value, str) and value for value in one["headers"].values())
    whole = json.loads(bulk(found).whole())["data"]["messages"]
    if all(request.kind for request in found):
        assert [json.loads(request.body().whole())["data"]["message"] for request in found] == whole


WELL_KNOWN = {"subject", "from", "reply-to", "list-unsubscribe", "list-unsubscribe-post"}


def test_many_requests_share_their_content() -> None:
    """A large message to many hidden recipients is held once."""
    first, second = requests(mail(""), ["b@example.net", "c@example.net"])
    assert first.content is second.content
    assert [len(request.body().whole()) for request in (first, second)] == [request.body().size for request in (first, second)]


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://api.paubox.net/v1/clinic"),
        ({"username": "a/b?c"}, "https://api.paubox.net/v1/a%2Fb%3Fc"),
        ({"base_url": "https://api.paubox.com/v1/email/"}, "https://api.paubox.com/v1/email"),
        ({"base_url": "https://api.paubox.com/v1", "username": ""}, "https://api.paubox.com/v1"),
    ],
)
def test_where_the_api_is(settings: dict[str, Any], url: str) -> None:
    """Every address that Paubox's own documents give can be said."""
    assert url == dataclasses.replace(SETTINGS, **settings).url


def test_the_key_is_in_no_repr() -> None:
    """Settings can be printed."""
    assert KEY not in repr(SETTINGS)


# --- the class ---


def transport(server: HttpServer, seconds: float = 5.0, **settings: Any) -> Paubox:
    """Paubox, spoken to at a local server."""
    own = dataclasses.replace(SETTINGS, base_url=server.url + "/v1/{username}", **settings)
    return Paubox(own, Http(base_url=own.url, timeout=seconds, concurrency=2))


async def attempt(server: HttpServer, given: Job, *, seconds: float = 5.0, **settings: Any) -> dict[str, Outcome]:
    """Prepare and attempt one job; the outcome of each recipient."""
    paubox: Transport = transport(server, seconds, **settings)
    outcomes: dict[str, Outcome] = {}
    for prepared in await paubox.prepare(given):
        outcomes |= {address: outcome for (_, address), outcome in (await paubox.attempt([prepared])).items()}
    await paubox.aclose()
    return outcomes


@pytest.mark.parametrize(
    ("settings", "login"),
    [
        ({}, f"Token token={KEY}"),
        ({"auth_scheme": "bearer"}, f"Bearer {KEY}"),
        ({"api_key": f" {KEY[:5]}\n{KEY[5:]}\r\n"}, f"Token token={KEY}"),
    ],
)
async def test_one_request_for_each_job(settings: dict[str, Any], login: str) -> None:
    """The request has Paubox's path and one of its two logins; white space in a pasted key is left out."""
    async with HttpServer([Response(200, TAKEN)]) as server:
        outcomes = await attempt(server, job("a@example.net", "b@example.net"), **settings)
    (request,) = server.requests
    assert ("POST", "/v1/clinic/messages", login) == (request.method, request.path, request.headers["authorization"])
    assert ("application/json", "application/json") == (request.headers["accept"], request.headers["content-type"])
    sent = json.loads(request.body)["data"]["message"]
    assert (["a@example.net"], ["b@example.net"]) == (sent["recipients"], sent["bcc"])
    assert {"a@example.net", "b@example.net"} == set(outcomes)
    outcome = outcomes["a@example.net"]
    assert ("3d38ab13-0af8-4028-bd45-52e882e0d584", f"127.0.0.1[127.0.0.1]:{server.port}") == (outcome.remote_id, outcome.remote)
    assert "200 sourceTrackingId=3d38ab13-0af8-4028-bd45-52e882e0d584" == outcome.reply


async def test_a_template_has_its_own_path() -> None:
    """And goes alone, whatever is said of batches."""
    async with HttpServer([Response(200, TAKEN)]) as server:
        paubox = transport(server, **REAL_SHARE)
        (prepared,) = await paubox.prepare(job(data=mail("To: a@example.net\nX-Relay-Template: welcome\n")))
        assert (None, ["domain=example.com", "template=welcome"]) == (paubox.share(prepared), list(paubox.identity(prepared)))
        await paubox.attempt([prepared])
        await paubox.aclose()
    assert ["/v1/clinic/templated_messages"] == [request.path for request in server.requests]


async def test_a_notice_is_told_apart_by_its_job() -> None:
    """The bounce of a mail that had a Message-ID refers to it."""
    given = job(data=mail("To: a@example.net\nIn-Reply-To: <1@example.com>\n"))
    async with HttpServer([Response(200, TAKEN)]) as server:
        with pytest.raises(CannotCarry, match="thread"):
            await attempt(server, given)
        assert [Verdict.OK] == [one.verdict for one in (await attempt(server, dataclasses.replace(given, bounce=True))).values()]


async def test_of_a_notice_smtp_is_the_better_way() -> None:
    """The transport says so of a bounce of ours, and of no other mail."""
    paubox = Paubox(SETTINGS, Http(base_url="https://api.paubox.net", timeout=5, concurrency=2))
    given = job(data=mail("To: a@example.net\n"))
    for bounce in (True, False):
        (prepared,) = await paubox.prepare(dataclasses.replace(given, bounce=bounce))
        assert bounce is bool(paubox.prefers(prepared))


def test_what_the_transport_says_of_itself() -> None:
    """One message in a request unless batches are configured, no reports, the configured name and concurrency."""
    http = Http(base_url="https://api.paubox.net", timeout=5, concurrency=2)
    one = Paubox(SETTINGS, http)
    assert ("paubox", 10, ALONE, False) == (one.provider, one.concurrency, one.batching, one.carries_reports)
    assert Batching(50, 1_000_000, 0.2) == Paubox(dataclasses.replace(SETTINGS, **REAL_SHARE), http).batching


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (Act.CUT, "UNKNOWN 4.4.2"),
        (Act.RESET, "UNKNOWN 4.4.2"),
        (b"garbage\r\n\r\n", "UNKNOWN 4.4.2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "UNKNOWN 4.4.2"),
        (Response(200, b" " * (1024 * 1024 + 1)), "UNKNOWN 4.4.2"),
        (Act.EARLY, "RETRY 4.3.0"),
    ],
)
async def test_no_complete_answer(act: Act | bytes | Response, expected: str) -> None:
    """A cut after the request was handed over leaves it unknown whether the message was taken; before that it was not."""
    async with HttpServer([act]) as server:
        size = 8_000_000 if act is Act.EARLY else 10
        outcomes = await attempt(server, job(data=mail("Content-Type: application/x\n", "x" * (size // 2))))
    outcome = outcomes["a@example.net"]
    assert (expected, True) == (f"{outcome.verdict} {outcome.status}", outcome.own)


async def test_nobody_listens() -> None:
    """A provider that cannot be reached is paused and says what to look at."""
    async with HttpServer() as server:
        pass
    outcome = (await attempt(server, job()))["a@example.net"]
    assert (Verdict.PAUSE, f"check the network and base_url ({server.url}/v1/clinic)") == (outcome.verdict, outcome.mend)


async def test_a_key_that_is_quoted_back_is_not_repeated() -> None:
    """Whoever answers might quote the key; log and bounce never show it."""
    said = json.dumps({"errors": [{"code": 401, "title": "no", "details": f"key {KEY}"}], "sourceTrackingId": KEY}).encode()
    async with HttpServer([Response(401, said, {"X-Request-Id": KEY})]) as server:
        outcome = (await attempt(server, job()))["a@example.net"]
    assert KEY not in repr(outcome)
    assert f"check api_key ({len(KEY)} characters), username and auth_scheme" == outcome.mend


async def test_a_preview_is_what_would_be_sent() -> None:
    """Each request as `attempt` sends it, without the key; who is in none of them is named as a hard loss."""
    given = job("b@example.net", '"a b"@example.net', data=mail("To: b@example.net\n"))
    async with HttpServer([Response(200, TAKEN)]) as server:
        outcomes = await attempt(server, given)
        [shown] = await transport(server).preview(given)
    assert (Verdict.PERM_MSG, "5.1.3", True) == (lambda one: (one.verdict, one.status, one.own))(outcomes['"a b"@example.net'])
    [request] = server.requests
    assert (request.method, server.url + request.path, request.body) == (shown.method, shown.url, shown.body)
    assert "Token token=[secret]" == shown.headers["Authorization"]
    assert ("-H", "Authorization: Token token=$PAUBOX_API_KEY") == shown.login
    assert ("hard", '"a b"@example.net gets nothing: Paubox takes no recipient address of this form') in [
        (loss.grade, loss.what) for loss in shown.losses
    ]
    assert KEY not in repr(shown)
    async with HttpServer() as server:
        assert ("-H", "Authorization: Bearer $PAUBOX_API_KEY") == (await transport(server, auth_scheme="bearer").preview(given))[0].login


# --- batches ---


def answers(*items: object) -> Response:
    """A bulk answer."""
    return Response(200, json.dumps({"messages": items}).encode())


def item(queue_id: str, number: int) -> dict[str, Any]:
    """What is said of a message that was taken."""
    return {"sourceTrackingId": f"id-{number}", "customHeaders": {"x-relay-id": queue_id}, "data": "Service OK"}


async def together(server: HttpServer, *queue_ids: str) -> dict[str, str]:
    """Attempt one message for each queue id in one batch; queue id -> what came out."""
    paubox = transport(server, **REAL_SHARE)
    jobs = [job(data=mail(f"To: a@example.net\nX-N: {queue_id}\n"), queue_id=queue_id) for queue_id in queue_ids]
    prepared = [one for each in jobs for one in await paubox.prepare(each)]
    kinds = {paubox.share(one) for one in prepared}
    assert {"/messages"} == {share.kind for share in kinds if share}
    outcomes = await paubox.attempt(prepared)
    await paubox.aclose()
    return {queue_id: f"{one.verdict} {one.remote_id}".strip() for (queue_id, _), one in outcomes.items()}


async def test_a_batch_is_one_request() -> None:
    """Each message as it would be alone, in order, and the answers in the same order."""
    async with HttpServer([answers(item("A", 1), item("B", 2), item("C", 3))]) as server:
        assert {"A": "OK id-1", "B": "OK id-2", "C": "OK id-3"} == await together(server, "A", "B", "C")
    (request,) = server.requests
    assert "/v1/clinic/bulk_messages" == request.path
    assert ["A", "B", "C"] == [one["headers"]["X-N"] for one in json.loads(request.body)["data"]["messages"]]
    alone = [json.loads(one.body().whole())["data"]["message"] for one in requests(mail("To: a@example.net\nX-N: A\n"), ["a@example.net"])]
    assert [{**one, "headers": {**one["headers"], "X-Relay-Id": "A"}} for one in alone] == json.loads(request.body)["data"]["messages"][:1]


async def test_a_share_of_a_batch() -> None:
    """What a message takes of it is its size; without batches, and with tracking of its own, it goes alone."""
    async with HttpServer() as server:
        given = job(data=mail("To: a@example.net\n"))
        (prepared,) = await transport(server).prepare(given)
        assert Share("/messages", prepared.plan.body().size + 1) == transport(server, **REAL_SHARE).share(prepared)  # type: ignore[attr-defined] # its own plan
        assert None is transport(server).share(prepared)
        (tracked,) = await transport(server, track_opens=True).prepare(given)
        assert None is transport(server, **REAL_SHARE).share(tracked)


REFUSED = {"errors": [{"code": 400, "title": "Bad Request", "details": "Subject is too long"}]}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([item("A", 1), REFUSED, item("C", 3)], {"A": "OK id-1", "B": "PERM-MSG", "C": "OK id-3"}),
        ([item("A", 1), {}, "?"], {"A": "OK id-1", "B": "UNKNOWN", "C": "UNKNOWN"}),
        ([item("A", 1), item("C", 3)], {"A": "OK id-1", "B": "UNKNOWN", "C": "OK id-3"}),
        ([{"sourceTrackingId": "id-1", "data": "Service OK"}], {"A": "UNKNOWN", "B": "UNKNOWN", "C": "UNKNOWN"}),
        ([], {"A": "UNKNOWN", "B": "UNKNOWN", "C": "UNKNOWN"}),
        ([item("A", 1), item("A", 2), item("B", 3), item("C", 4)], {"A": "UNKNOWN", "B": "OK id-3", "C": "OK id-4"}),
    ],
)
async def test_answers_that_do_not_say_it_all(said: list[object], expected: dict[str, str]) -> None:
    """A list of another length is read by the queue ids that came back, never by its order: a message is not taken for sent
    because another was."""
    async with HttpServer([answers(*said)]) as server:
        assert expected == await together(server, "A", "B", "C")


async def test_one_bad_message_does_not_stop_a_batch() -> None:
    """A batch that is refused as a whole is halved until the message that is to blame stands alone."""

    def answer(request: Request) -> Response:
        if b'"X-N":"C"' in request.body:
            return Response(400, json.dumps(REFUSED).encode())
        many = json.loads(request.body)["data"].get("messages")
        return answers(*(item(one["headers"]["X-N"], 1) for one in many)) if many else Response(200, TAKEN)

    async with HttpServer(answer) as server:
        found = await together(server, "A", "B", "C", "D")
    assert {"A": "OK id-1", "B": "OK id-1", "C": "PERM-MSG", "D": "OK 3d38ab13-0af8-4028-bd45-52e882e0d584"} == found


@pytest.mark.parametrize(
    ("response", "expected", "count"),
    [
        (Response(401, b'{"errors":"Unauthorized"}'), "PAUSE", 1),
        (Response(429, b'{"errors":"slow down"}'), "THROTTLE", 1),
        (Response(503, b'{"message":"later"}'), "RETRY", 1),
        (Response(502, b"<html>"), "UNKNOWN", 1),
        (Response(200, TAKEN), "UNKNOWN", 1),
        (Response(200, b'{"errors":[{"code":503}]}'), "RETRY", 1),
        (Response(400, b'{"errors":"The api key is wrong"}'), "PAUSE", 2),
        (Act.CUT, "UNKNOWN", 1),
    ],
)
async def test_a_batch_that_fails_as_a_whole(response: Response | Act, expected: str, count: int) -> None:
    """Everybody has the outcome; only what may be one message's fault is looked for, and not further than to a finding about
    the provider."""
    async with HttpServer([response]) as server:
        assert {"A": expected, "B": expected} == await together(server, "A", "B")
    assert count == len(server.requests)


# --- the probe ---

ACCEPTED = Check("login", True, "the API key is accepted (404 for a message that does not exist)")
NOT_FOUND = {"errors": [{"code": 404, "title": "Message was not found", "details": "Message with this tracking id was not found"}]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            Response(404, json.dumps({**NOT_FOUND, "sourceTrackingId": "x"}).encode()),
            ACCEPTED,
        ),
        (
            Response(404, json.dumps(NOT_FOUND).encode()),
            ACCEPTED,
        ),
        (
            Response(401, b'{"errors":"Unauthorized"}'),
            Check("login", False, "401: Unauthorized", f"check api_key ({len(KEY)} characters), username and auth_scheme"),
        ),
        (
            Response(403, b"<html>", {"Content-Type": "text/html"}),
            Check(
                "login",
                False,
                "403: not an answer of Paubox (text/html, 6 octets)",
                "a security layer in front of the API refused the request; if it goes on, tell Paubox support when it began",
            ),
        ),
        (
            Response(404, b'{"message":"no Route matched"}'),
            Check("login", False, "404: no […]", "the API is not at this address: check base_url and username"),
        ),
        (
            Response(500, b'{"message":"Internal Server Error"}'),
            Check(
                "login",
                None,
                "500: Internal Server Error",
                "try again later: the provider, or what stands before it, has trouble now",
            ),
        ),
    ],
)
async def test_a_probe_sends_no_mail(answer: Response, expected: Check) -> None:
    """It asks for a receipt that does not exist, and tells by the refusal whether the key is accepted."""
    async with HttpServer([answer]) as server:
        paubox = transport(server)
        assert [Check("connect", True, f"127.0.0.1[127.0.0.1]:{server.port}"), expected] == list(await paubox.probe())
        await paubox.aclose()
    assert {"GET"} == {request.method for request in server.requests}
    assert all(request.path.startswith("/v1/clinic/message_receipt?sourceTrackingId=") for request in server.requests)


@pytest.mark.parametrize(("scheme", "other"), [("token", "bearer"), ("bearer", "token")])
async def test_a_probe_finds_the_right_scheme(scheme: str, other: str) -> None:
    """Where the key is accepted the other way, the mend says which."""

    def answer(request: Request) -> Response:
        right = request.headers["authorization"].lower().startswith(other)
        return Response(404, json.dumps(NOT_FOUND).encode()) if right else Response(401, b'{"errors":"Unauthorized"}')

    async with HttpServer(answer) as server:
        paubox = transport(server, auth_scheme=scheme)
        (_, check) = await paubox.probe()
        await paubox.aclose()
    assert Check("login", False, f"401: Unauthorized; as {other} it is accepted", f"set auth_scheme: {other}") == check


async def test_a_probe_of_nobody() -> None:
    """That nobody is there is a finding, not an exception."""
    async with HttpServer() as server:
        pass
    (check,) = await transport(server).probe()
    assert ("connect", False, True) == (check.what, check.ok, "base_url" in check.mend)


def test_html_is_base64_of_utf_8() -> None:
    """Whatever charset it came in."""
    html = base64.b64decode(message(BY_NAME["html-charset"].data)["content"]["text/html"]).decode()
    assert '<html><head><meta charset="utf-8"></head><body>Grüße</body></html>\n' == html
