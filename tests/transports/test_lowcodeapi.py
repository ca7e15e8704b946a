"""LowCodeAPI: golden requests, replies and what follows, and a token that nobody sees though it stands in the URL."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import edits, header
from relay.directives import DIALECTS
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.log import NOISY
from relay.model import Client, Envelope, Outcome, Recipient, Verdict
from relay.transports import net
from relay.transports.base import ALONE, Check
from relay.transports.bodies import Body
from relay.transports.http import Answer, Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings, Payload, payload, read
from relay.transports.lowcodeapi.reply import checks
from tests.jobs import MemoryMessage, job
from tests.messages import BY_NAME, FILES
from tests.servers import Act, HttpServer, Response
from tests.sesv2_model import faults
from tests.transports.test_ses import SIGNED, mail
from tests.transports.test_ses_probe import HEALTHY

DATA = Path(__file__).parent.parent / "data"
REPLIES = json.loads((DATA / "replies" / "lowcodeapi.json").read_text(encoding="utf-8"))
TOKEN = "at_canary-00000000"
SETTINGS = LowCodeSettings("lca", TOKEN, controls={"local": DIALECTS})
REMOTE = "api.lowcodeapi.com[192.0.2.1]:443"
TAKEN = Response(200, b'{"message":"Request completed","provider":"awsses","result":{"MessageId":"010f0190-abc"}}')
PATH = "/v2/email/outbound-emails"

# Golden cases: message, recipients, settings.
CASES: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "auto-simple": ("nested", ["ann@example.net"], {}),
    "auto-raw": ("one-of-them", BY_NAME["one-of-them"].recipients, {}),
    "auto-signed": ("smime-signed", ["ann@example.net"], {}),
    "raw-odd-names": ("odd-names", BY_NAME["odd-names"].recipients, {"content_mode": "raw"}),
    "simple-warned": ("calendar", ["ann@example.net"], {"content_mode": "simple", "on_loss": "warn"}),
    "template": ("template", ["customer@example.net"], {}),
    "controls": ("ses-controls", ["ann@example.net"], {}),
}


def requests(data: bytes, recipients: Sequence[str] = ("b@example.net",), **settings: Any) -> tuple[Payload, ...]:
    """The requests for a message accepted from the listener `local` for these recipients."""
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
        data,
        block=message.header,
        facts=message.facts,
        queue_id="687E7641C64007",
        recipients=recipients,
        changes=changes,
        settings=dataclasses.replace(SETTINGS, **settings),
        listener="local",
    )


def content(request: Payload) -> Any:
    """The request's JSON, a whole message in it as lines."""
    found = json.loads(request.body().whole())
    if raw := found["Content"].get("Raw"):
        text = base64.b64decode(raw["Data"], validate=True).decode("utf-8", "replace")
        raw["Data"] = [line for line in text.split("\r\n") if not line.startswith(("Received:", "\t"))]  # ours holds local time
    return found


def built(name: str) -> Any:
    """A golden case as it comes out."""
    message, recipients, settings = CASES[name]
    data = BY_NAME[message].data if message in BY_NAME else (FILES / f"{message}.eml").read_bytes()
    found = requests(data, recipients, **settings)
    return [
        {
            "recipients": list(request.recipients),
            "identities": list(request.identities),
            "losses": [f"{loss.grade}: {loss.what}" for loss in request.losses],
            "why": request.why,
            "body": content(request),
        }
        for request in found
    ]


# --- requests ---


@pytest.mark.parametrize("name", CASES)
def test_golden_payloads(name: str) -> None:
    """Each message becomes exactly the requests in its file."""
    assert json.loads((DATA / "payloads" / "lowcodeapi" / f"{name}.json").read_text(encoding="utf-8")) == built(name)


@pytest.mark.parametrize("name", BY_NAME)
def test_sender_and_recipients_are_always_given(name: str) -> None:
    """In each form, and the model of Amazon's API has nothing against any of them."""
    sample = BY_NAME[name]
    for mode in ("auto", "raw", "simple"):
        try:
            found = requests(sample.data, sample.recipients, content_mode=mode)
        except CannotCarry:
            continue
        for request in found[:2]:
            body = json.loads(request.body().whole())
            assert body["FromEmailAddress"].endswith(">") or "@" in body["FromEmailAddress"]
            assert body["Destination"]["ToAddresses"]
            assert [] == faults(request.body().whole())


def test_the_sender_keeps_its_name() -> None:
    """FromEmailAddress takes the place of the From field, also where the message goes as it is."""
    (request,) = requests(mail("From: Jörg <j@example.com>\nTo: b@example.net\n"), content_mode="raw")
    assert "=?utf-8?B?SsO2cmc=?= <j@example.com>" == content(request)["FromEmailAddress"]


def test_what_auto_takes_apart() -> None:
    """Only a message that loses nothing; another goes as it is and says why; where that cannot be, a small loss is taken."""
    lossless = requests(mail("To: b@example.net\nX-PM-Message-Stream: other\n"))[0]
    assert (["Simple"], "") == (list(content(lossless)["Content"]), lossless.why)
    assert ["the stream 'other' is not one of this provider: see streams"] == [loss.what for loss in lossless.losses]
    cosmetic = requests(mail("To: b@example.net\nSender: c@example.com\n"))[0]
    assert (["Raw"], "the Sender field is left out", ()) == (list(content(cosmetic)["Content"]), cosmetic.why, cosmetic.losses)
    only = requests(mail("To: b@example.net\nCc: jörg@example.com\n"))[0]
    shown = Loss("cosmetic", "To and Cc show only the recipients of each request")
    assert (["Simple"], (shown,)) == (list(content(only)["Content"]), only.losses)


@pytest.mark.parametrize(
    ("data", "settings", "reason"),
    [
        (
            mail("To: b@example.net\n" + SIGNED.format(text="x")),
            {"content_mode": "simple"},
            "the signature of multipart/signed would break",
        ),
        (mail("From: a@example.com, c@example.com\nTo: b@example.net\n"), {}, "more than one From address"),
        (mail("From: a@example.com, c@example.com\nTo: b@example.net\n"), {"content_mode": "raw"}, "more than one From address"),
        (mail("To: b@example.net\nSubject: x\n", "x" * 2000), {"max_size": 1000}, "octets after base64; Amazon SES takes 1,000"),
    ],
    ids=["signed", "two authors", "two authors, raw", "size"],
)
def test_cannot_carry(data: bytes, settings: dict[str, Any], reason: str) -> None:
    """What would be lost, or refused, is found before sending."""
    with pytest.raises(CannotCarry, match=reason):
        requests(data, **settings)


def test_what_the_configuration_says_of_the_account() -> None:
    """Configuration set, identity and tenant go with mail that names none, and streams of other providers become sets."""
    arn = "arn:aws:ses:eu-west-1:123456789012:identity/example.com"
    settings: dict[str, Any] = {
        "configuration_set": "shop",
        "identity_arn": arn,
        "tenant": "clinic",
        "streams": {"broadcasts": "newsletters"},
    }
    (plain,) = requests(BY_NAME["alternative"].data, **settings)
    expected = {"ConfigurationSetName": "shop", "FromEmailAddressIdentityArn": arn, "TenantName": "clinic"}
    assert expected.items() <= content(plain).items()
    assert ("domain=example.com", "configuration_set=shop", "tenant=clinic") == plain.identities
    (asked,) = requests(b"X-PM-Message-Stream: broadcasts\r\n" + BY_NAME["alternative"].data, **settings)
    assert ("newsletters", ()) == (content(asked)["ConfigurationSetName"], asked.losses)


def test_a_loss_may_be_taken() -> None:
    """With on_loss: warn it goes without."""
    (request,) = requests(mail("From: a@example.com, c@example.com\nTo: b@example.net\n"), content_mode="raw", on_loss="warn")
    assert ("a@example.com", (Loss("hard", "more than one From address"),)) == (content(request)["FromEmailAddress"], request.losses)
    (request,) = requests(mail("To: b@example.net\n" + SIGNED.format(text="x")), content_mode="simple", on_loss="warn")
    assert "Simple" in content(request)["Content"]


# --- replies ---

SENT = Payload(("ann@example.net", "two@example.net"), Body((b"{}",)), "", ("app@example.com",), {"configuration_set": "news"})


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["when"])
def test_replies(row: dict[str, Any]) -> None:
    """Each reply has one outcome for each recipient, whatever envelope it comes in, and repeats no token."""
    raw = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
    outcomes = read(Answer(row["http"], row.get("headers", {}), raw.encode(), REMOTE, 0.5, 0.25), SENT, TOKEN)
    assert list(SENT.recipients) == list(outcomes)
    assert {recipient: row.get("but", {}).get(recipient, row["outcome"]) for recipient in outcomes} == {
        recipient: f"{outcome.verdict} {outcome.status}" for recipient, outcome in outcomes.items()
    }
    first = outcomes["ann@example.net"]
    shown = {"reply": first.reply, "identity": first.identity, "mend": first.mend, "retry_after": first.retry_after, "id": first.remote_id}
    assert {name: row[name] for name in shown if name in row} == {name: value for name, value in shown.items() if name in row}
    assert (bool(first.mend), first.connect_s, first.send_s) == (first.verdict in (Verdict.PAUSE, Verdict.CONFIG), 0.5, 0.25)
    assert "canary" not in repr(outcomes)


TEXT = st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["MessageRejected: x", "{}", '{"message": 1}', TOKEN]))
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "message": TEXT,
        "error": st.one_of(TEXT, st.dictionaries(st.sampled_from(["message", "code", "__type", "name"]), TEXT)),
        "headers": st.one_of(TEXT, st.dictionaries(st.sampled_from(["x-amzn-errortype", "X-Amzn-RequestId"]), TEXT)),
        "result": st.one_of(TEXT, st.dictionaries(st.just("MessageId"), TEXT)),
        "data": TEXT,
        "MessageId": TEXT,
    },
)


@given(st.integers(100, 599), st.one_of(st.binary(max_size=60), ENVELOPES.map(lambda value: json.dumps(value).encode())))
def test_any_reply(status: int, body: bytes) -> None:
    """Whatever is answered, each recipient has one outcome, and only a 2xx with an id means that the mail was taken."""
    answer = Answer(status, {}, body, REMOTE, 0.0, 0.0)
    outcomes = read(answer, SENT, TOKEN)
    assert list(SENT.recipients) == list(outcomes)
    for outcome in outcomes.values():
        assert net.one_line(outcome.reply, 2000) == outcome.reply
        assert bool(outcome.mend) is (outcome.verdict in (Verdict.PAUSE, Verdict.CONFIG))
        assert outcome.verdict is not Verdict.OK or status // 100 == 2
    assert "canary" not in repr(outcomes) + repr(checks(answer, TOKEN, "x"))


def told(caplog: pytest.LogCaptureFixture) -> None:
    """Everything that a log may hold at its loudest: libraries are kept to warnings (relay/log/handler.py)."""
    caplog.set_level(logging.DEBUG)
    for name in NOISY:
        caplog.set_level(logging.WARNING, name)


# --- the class ---


def transport(server: HttpServer, *, seconds: float = 5.0, **settings: Any) -> LowCode:
    """A transport that speaks to `server`."""
    chosen = dataclasses.replace(SETTINGS, base_url=f"{server.url}/awsses/", timeout=seconds, **settings)
    return LowCode(chosen, Http(base_url=chosen.base_url, timeout=seconds, concurrency=1))


async def attempt(lowcode: LowCode, *recipients: str) -> dict[str, Outcome]:
    """Prepare and attempt a job; outcome by recipient."""
    found: dict[str, Outcome] = {}
    for one in await lowcode.prepare(job(*recipients)):
        found |= {recipient: outcome for (_, recipient), outcome in (await lowcode.attempt([one])).items()}
    await lowcode.aclose()
    return found


async def test_sent() -> None:
    """The token stands in the query, percent-encoded, and nowhere else; the remote id comes back."""
    odd = "at_canary/+&=#?ü %"
    async with HttpServer([TAKEN]) as server:
        outcomes = await attempt(transport(server, token=odd), "a@example.net")
    (request,) = server.requests
    assert ("POST", f"/awsses{PATH}?api_token={quote(odd, safe='')}") == (request.method, request.path)
    assert "canary" not in repr(request.headers) + request.body.decode()
    assert ("<app@example.com>", "application/json") == (
        f"<{json.loads(request.body)['FromEmailAddress']}>",
        request.headers["content-type"],
    )
    outcome = outcomes["a@example.net"]
    assert (Verdict.OK, "010f0190-abc") == (outcome.verdict, outcome.remote_id)


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ([Act.HANG], Verdict.UNKNOWN),
        ([Act.CUT], Verdict.UNKNOWN),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"], Verdict.UNKNOWN),
        ([b"%&/\r\n\r\n"], Verdict.UNKNOWN),
        ([Response(200, b"x" * 1_100_000)], Verdict.UNKNOWN),
    ],
    ids=["silent", "cut", "half an answer", "garbage", "too large"],
)
async def test_no_answer(script: list[Any], verdict: Verdict, caplog: pytest.LogCaptureFixture) -> None:
    """Without an answer the message may have been taken; it is not sent again here, and no text tells the URL."""
    told(caplog)
    async with HttpServer(script) as server:
        outcomes = await attempt(transport(server, seconds=0.3))
    assert (1, {verdict}) == (len(server.requests), {outcome.verdict for outcome in outcomes.values()})
    assert "canary" not in repr(outcomes) + caplog.text


async def test_nobody_listens() -> None:
    """A provider that cannot be reached is paused."""
    async with HttpServer() as server:
        pass
    outcome = (await attempt(transport(server)))["a@example.net"]
    assert (Verdict.PAUSE, f"check the network and base_url ({server.url}/awsses/)") == (outcome.verdict, outcome.mend)
    assert "canary" not in repr(outcome)


async def test_preview() -> None:
    """The request as it would leave, `[secret]` for the token, and a shell variable where curl is given the URL."""
    lowcode = LowCode(SETTINGS, Http(base_url=SETTINGS.base_url, timeout=5, concurrency=1))
    (preview,) = await lowcode.preview(job("a@example.net", data=mail("To: a@example.net\nSender: c@example.com\n")))
    url = f"https://api.lowcodeapi.com/awsses{PATH}?api_token="
    assert ("POST", f"{url}[secret]", ("--url", f"{url}$LOWCODEAPI_TOKEN")) == (preview.method, preview.url, preview.login)
    assert ("the Sender field is left out", ()) == (preview.why, preview.losses)
    assert "canary" not in repr(preview) + repr(SETTINGS) + repr(lowcode.__dict__["_settings"])


def test_what_it_says_of_itself() -> None:
    """One request at a time; reports go as they are unless every message is taken apart."""
    lowcode = LowCode(SETTINGS, Http(base_url=SETTINGS.base_url, timeout=5, concurrency=1))
    assert ("lca", ALONE, 1, True) == (lowcode.provider, lowcode.batching, lowcode.concurrency, lowcode.carries_reports)
    strict = dataclasses.replace(SETTINGS, content_mode="simple")
    assert not LowCode(strict, Http(base_url=SETTINGS.base_url, timeout=5, concurrency=1)).carries_reports


# --- the probe ---


async def probed(answer: Response) -> list[Check]:
    """What a probe finds beside that there is a server."""
    async with HttpServer([answer]) as server:
        lowcode = transport(server)
        _, *found = await lowcode.probe()
        await lowcode.aclose()
    assert [("GET", f"/awsses/v2/email/account?api_token={TOKEN}", b"")] == [(one.method, one.path, one.body) for one in server.requests]
    assert "canary" not in repr(found)
    return found


@pytest.mark.parametrize("envelope", ["result", "data", ""])
async def test_a_healthy_account(envelope: str) -> None:
    """The account behind the token is told as that of Amazon SES, in whatever envelope."""
    body = {envelope: HEALTHY} if envelope else HEALTHY
    found = await probed(Response(200, json.dumps(body).encode()))
    assert [("login", True), ("account", True), ("quota", True)] == [(check.what, check.ok) for check in found]


@pytest.mark.parametrize(
    ("answer", "ok", "mend"),
    [
        (Response(401, f'{{"message":"what is {TOKEN}?"}}'.encode()), False, "check token (18 characters)"),
        (Response(403, b'{"message":"none"}'), False, "connect Amazon SES at LowCodeAPI"),
        (
            Response(403, b'{"error":{"message":"x"},"headers":{"x-amzn-errortype":"SignatureDoesNotMatch"}}'),
            False,
            "Amazon refuses the AWS keys that LowCodeAPI holds",
        ),
        (Response(404, b"<html>"), False, "this is no answer of the API: check base_url (http://127.0.0.1:"),
        (Response(302, b"", {"Location": "/awsses"}), False, "this is no answer of the API"),
        (Response(500, b"{}"), None, "try again later: the provider, or what stands before it, has trouble now"),
    ],
    ids=["token", "no keys", "keys", "no such path", "redirect", "error"],
)
async def test_probes_that_fail(answer: Response, ok: bool | None, mend: str) -> None:
    """A refused login is one, and so is a page of something else; trouble that passes is not."""
    (login,) = await probed(answer)
    assert ("login", ok) == (login.what, login.ok)
    assert login.mend.startswith(mend)
