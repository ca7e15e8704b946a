"""Replies of Postmark: a table of them, what follows in delivery, and texts from nowhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import State, Verdict
from relay.transports.http import Answer, Http
from relay.transports.postmark import Payload, Postmark, PostmarkSettings, read
from tests.servers import HttpServer, Response
from tests.test_delivery import BOB, CAROL, Stage
from tests.transports.test_postmark import DATA, mail, requests

SENT = requests(
    mail("From: a@example.com\nTo: Ann <ann@example.net>, Two@Example.NET\nCc: cc@example.org\nX-Relay-Template: welcome\n"),
    ["ann@example.net", "Two@Example.NET", "cc@example.org", "bcc@example.com"],
)[0]
ALONE = requests(mail("To: ann@example.net\n"), ["ann@example.net"])[0]
JSON = st.fixed_dictionaries(
    {},
    optional={
        "ErrorCode": st.one_of(st.none(), st.sampled_from([0, 10, 300, 406, 422, 1101, True, "0", 1.5])),
        "Message": st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["Invalid 'To' address: ann@example.net", "Message OK"])),
        "MessageID": st.one_of(st.none(), st.text(max_size=20), st.integers()),
    },
)
REPLIES = json.loads((DATA / "replies" / "postmark.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["when"])
def test_replies(row: dict[str, Any]) -> None:
    """Each reply has one outcome for each recipient, by the pair of HTTP status and ErrorCode."""
    raw = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
    answer = Answer(row["http"], row.get("headers", {}), raw.encode(), "api.postmarkapp.com[192.0.2.1]:443", 0.5, 0.25)
    request = ALONE if row.get("alone") else SENT
    outcomes = read(answer, request, token_length=17)
    assert list(request.addressed.recipients) == list(outcomes)
    default = row["outcome"]
    assert {recipient: row.get("but", {}).get(recipient, default) for recipient in outcomes} == {
        recipient: f"{outcome.verdict} {outcome.status}" for recipient, outcome in outcomes.items()
    }
    first = outcomes["ann@example.net"]
    shown = {"reply": first.reply, "identity": first.identity, "mend": first.mend, "retry_after": first.retry_after, "id": first.remote_id}
    assert {name: row[name] for name in shown if name in row} == {name: value for name, value in shown.items() if name in row}
    assert (bool(first.mend), first.connect_s, first.send_s) == (first.verdict in (Verdict.PAUSE, Verdict.CONFIG), 0.5, 0.25)
    assert not first.own


def verdicts_of(body: bytes, request: Payload, status: int = 200) -> dict[str, Verdict]:
    """What a reply means for each recipient."""
    outcomes = read(Answer(status, {}, body, "host[192.0.2.1]:443", 0.0, 0.0), request, token_length=1)
    return {recipient: outcome.verdict for recipient, outcome in outcomes.items()}


@pytest.mark.parametrize(
    ("inactive", "named"),
    [
        ("o'brien@x.example", {"o'brien@x.example"}),
        ("'o'brien@x.example'", {"o'brien@x.example"}),
        ("'brien@x.example', ann@x.example.", {"brien@x.example", "Ann@x.example"}),
        ("<ann@x.example>; joann@x.example", {"Ann@x.example"}),
        ("ann@x.example.net, -ann@x.example, ann@x.example-z", set()),
        ("ann@x.example, ann@x.example. Inactive recipients are", {"Ann@x.example"}),
    ],
)
def test_who_is_named(inactive: str, named: set[str]) -> None:
    """An apostrophe belongs to the address or quotes it; part of another address is nobody's."""
    (request,) = requests(
        mail("To: o'brien@x.example, brien@x.example, Ann@x.example\n"), ["o'brien@x.example", "brien@x.example", "Ann@x.example"]
    )
    said = {"ErrorCode": 0, "Message": f"Message OK, but will not deliver to these inactive addresses: {inactive}"}
    found = verdicts_of(json.dumps(said).encode(), request)
    assert named == {recipient for recipient, verdict in found.items() if verdict is Verdict.PERM_RCPT}
    assert {Verdict.OK, Verdict.PERM_RCPT} >= set(found.values())


def test_an_international_domain_is_found() -> None:
    """Postmark names A-labels, the outcome the address of the envelope."""
    (request,) = requests(mail("To: b@bücher.example\n"), ["b@bücher.example"])
    said = b'{"ErrorCode":0,"Message":"Message OK, but will not deliver to these inactive addresses: b@xn--bcher-kva.example."}'
    assert {"b@bücher.example": Verdict.PERM_RCPT} == verdicts_of(said, request)


@pytest.mark.parametrize("text", ["a" * 40_000, "a@" * 20_000, "'" * 40_000, "o'" * 20_000])
def test_a_long_reply_is_read_in_time(text: str) -> None:
    """However a reply is written, looking for recipients in it takes no longer than its length warrants."""
    (request,) = requests(mail("To: o'brien@x.example\n"), ["o'brien@x.example"])
    said = json.dumps({"ErrorCode": 406, "Message": f"Found inactive addresses: {text}"}).encode()
    for _ in range(20):
        assert {"o'brien@x.example": Verdict.PERM_RCPT} == verdicts_of(said, request, 422)


@given(
    st.text(max_size=40) | st.sampled_from(["Mon, 20 Nov 2026 10:00:00 +99999999999999999", "Mon, 20 Nov 9999 23:59:59 -2359"]), st.text()
)
def test_any_retry_after(after: str, date: str) -> None:
    """An absurd date is none."""
    for now in (date, "Mon, 20 Nov 2026 10:00:00 GMT"):
        outcomes = read(Answer(429, {"retry-after": after, "date": now}, b"", "host[192.0.2.1]:443", 0.0, 0.0), ALONE, token_length=1)
        assert Verdict.THROTTLE is outcomes["ann@example.net"].verdict


@given(st.integers(100, 599), st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_reply(status: int, body: bytes) -> None:
    """Whatever is answered, each recipient has one outcome, and only a 2xx that says so means that the mail was taken."""
    outcomes = read(Answer(status, {"retry-after": "x"}, body, "host[192.0.2.1]:443", 0.0, 0.0), SENT, token_length=1)
    assert list(SENT.addressed.recipients) == list(outcomes)
    if any(outcome.verdict is Verdict.OK for outcome in outcomes.values()):
        assert status // 100 == 2 or b"Message OK" in body


# --- what follows ---


@dataclass(frozen=True)
class Follows:
    """What an error of the API leads to: the class, what the log says of the recipient, what the provider's status says of itself
    and of the mend, and whether the sender hears of it."""

    http: int
    code: int | None  # None: not an answer of Postmark's
    text: str
    verdict: Verdict
    line: str
    state: str = "up"
    mend: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def bounced(self) -> bool:
        """Whether the sender hears of it."""
        return self.verdict in (Verdict.PERM_MSG, Verdict.PERM_RCPT)

    def answer(self) -> Response:
        """As the server gives it: the code in the body and, for most, in a header too."""
        if self.code is None:
            return Response(self.http, self.text.encode(), {"Content-Type": "text/html", **self.headers})
        body = json.dumps({"ErrorCode": self.code, "Message": self.text}).encode()
        return Response(self.http, body, {"X-PM-ApiErrorCode": str(self.code), **self.headers})


def bounced(code: int, text: str, line: str, verdict: Verdict = Verdict.PERM_MSG) -> Follows:
    """A refusal that is final: HTTP 422."""
    return Follows(422, code, text, verdict, f"status=bounced (422 {code} {line}")


def paused(code: int, name: str, status: str, mend: str, http: int = 422) -> Follows:
    """A refusal that concerns the account or the token."""
    return Follows(http, code, "no", Verdict.PAUSE, f"dsn={status}, status=deferred ({http} {code} {name}: no", "paused", mend)


def configured(code: int, name: str, status: str, mend: str) -> Follows:
    """A refusal that concerns what the mail uses of the account."""
    return Follows(422, code, "no", Verdict.CONFIG, f"dsn={status}, status=deferred (422 {code} {name}: no", "paused", mend)


def later(http: int, code: int | None, text: str, line: str, verdict: Verdict = Verdict.RETRY) -> Follows:
    """A refusal that pauses nothing and bounces nobody."""
    return Follows(http, code, text, verdict, line)


ERRORS = {
    "bad token": paused(10, "BadToken", "4.7.8", "check the token (17 characters)", 401),
    "maintenance": later(503, 100, "Maintenance", "dsn=4.3.2, status=deferred (503 100 Maintenance: Maintenance"),
    "internal error": later(500, 101, "x", "may be delivered twice", Verdict.UNKNOWN),
    "invalid request": bounced(300, "Invalid 'From' address: 'x'.", "InvalidRequest: Invalid 'From' address: 'x'."),
    "invalid recipient": bounced(300, f"Invalid 'To' address: '{BOB}'.", "InvalidRequest: Invalid 'To' address", Verdict.PERM_RCPT),
    "recipient not parsed": bounced(300, "Error parsing 'To': Illegal email domain", "InvalidRequest: Error parsing", Verdict.PERM_RCPT),
    "no signature": configured(400, "SenderNotFound", "4.7.1", "add example.com as a domain"),
    "signature not confirmed": configured(401, "SenderNotConfirmed", "4.7.1", "confirm the sender signature or domain example.com"),
    "bad JSON": later(422, 402, "x", "dsn=4.3.0, status=deferred (422 402 InvalidJson: x"),
    "bad field": later(422, 403, "x", "dsn=4.3.0, status=deferred (422 403 InvalidField: x"),
    "out of credits": paused(405, "NotAllowedToSend", "4.7.0", "look at its billing page"),
    "inactive": bounced(406, f"Found inactive addresses: {BOB}. Inactive recipients are", "InactiveRecipient: Found", Verdict.PERM_RCPT),
    "JSON required": later(422, 409, "x", "dsn=4.3.0, status=deferred (422 409 JsonRequired: x"),
    "too many": later(422, 410, "x", "dsn=4.3.0, status=deferred (422 410 TooManyMessages: x"),
    "attachment": bounced(411, "type not allowed", "ForbiddenAttachment: type not allowed"),
    "account pending": paused(412, "AccountPending", "4.7.0", "ask for approval"),
    "account may not send": paused(413, "AccountMayNotSend", "4.7.0", "ask its support"),
    "invalid server": paused(422, "InvalidServer", "4.7.0", "look at it in Postmark"),
    "too fast": Follows(
        429, 429, "x", Verdict.THROTTLE, "dsn=4.7.28, status=deferred (429 429 RateLimit: x", "throttled", headers={"Retry-After": "7"}
    ),
    "too fast, in no words of Postmark": Follows(
        429, None, "<html>", Verdict.THROTTLE, "dsn=4.7.28, status=deferred (429: not", "throttled"
    ),
    "template unknown, and none was asked for": later(422, 1101, "x", "dsn=4.3.0, status=deferred (422 1101 TemplateNotFound: x"),
    "no template data": bounced(1109, "x", "NoTemplateData: x"),
    "template data missing": bounced(1120, "x", "TemplateDataMissing: x"),
    "template model reserved": bounced(1122, "x", "TemplateModelReserved: x"),
    "template mixed": bounced(1123, "x", "TemplateMixed: x"),
    "stream not found": configured(1226, "StreamNotFound", "4.3.5", "create the message stream outbound in Postmark"),
    "stream unknown": configured(1235, "StreamNotFound", "4.3.5", "create the message stream outbound in Postmark"),
    "stream cannot send": configured(1236, "StreamCannotSend", "4.3.5", "outbound cannot send"),
    "address not allowed": paused(1480, "AddressNotAllowed", "4.7.1", "allowed addresses"),
    "a code of tomorrow": later(422, 9999, "x", "dsn=4.3.0, status=deferred (422 9999: x"),
    "too large": Follows(413, None, "", Verdict.PERM_MSG, "dsn=5.6.0, status=bounced (413: not an answer of Postmark"),
    "no such path": later(404, None, "<html>", "dsn=4.3.0, status=deferred (404: not an answer of Postmark: <html>"),
    "wrong content type": later(415, None, "", "dsn=4.3.0, status=deferred (415: not an answer of Postmark"),
    "security layer": Follows(
        403, None, "<html>403 Forbidden", Verdict.PAUSE, "dsn=4.3.5, status=deferred (403: not an answer", "paused", "a security layer"
    ),
    "error page": later(502, None, "<html>", "may be delivered twice", Verdict.UNKNOWN),
    "captive portal": later(200, None, "<html>please log in", "may be delivered twice", Verdict.UNKNOWN),
    "cut": later(200, None, '{"ErrorCode":0,"Mess', "may be delivered twice", Verdict.UNKNOWN),
    "empty": later(200, None, "", "may be delivered twice", Verdict.UNKNOWN),
    "too much": later(200, None, "x" * (1024 * 1024 + 1), "answer larger than 1048576 octets", Verdict.UNKNOWN),
}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


@pytest.mark.parametrize("what", ERRORS)
async def test_what_follows(stage: Stage, what: str) -> None:
    """An error of the API gives its class, its log line, and a bounce or a pause that the provider's status explains, never both."""
    error = ERRORS[what]

    def answer(request: object) -> Response:
        if server.requests:
            return Response(200, b'{"ErrorCode":0,"Message":"OK","MessageID":"the bounce"}')
        return error.answer()

    async with HttpServer(answer) as server:
        postmark = Postmark(PostmarkSettings("postmark", "canary-0123456789"), Http(base_url=server.url, timeout=5, concurrency=2))
        stage.transports["postmark"] = postmark  # type: ignore[assignment]
        stage.route("postmark")
        async with stage.running():
            queue_id = await stage.submit(BOB)
            (line,) = await stage.events.wait("attempt", queue_id=queue_id)
            if error.bounced:
                await stage.events.wait("bounced_to", queue_id=queue_id)
            (status,) = await stage.delivery.providers()
        await postmark.aclose()
    assert error.line in "\n".join(stage.events.texts)
    assert ("bounced" if error.bounced else "deferred") == line["status"]
    assert error.bounced is bool(await stage.bounces())
    state = await stage.state(queue_id, BOB)
    assert (State.FAILED if error.bounced else State.QUEUED, error.verdict) == (state.state, state.verdict)
    assert (error.state, bool(error.mend)) == (status.state, bool(status.mend))
    assert error.mend in status.mend
    assert "canary" not in repr((stage.events.texts, status))


async def test_the_others_go_without_who_is_refused(stage: Stage) -> None:
    """Where Postmark takes a mail for one of two recipients, the other bounces and the mail is not sent again."""
    text = f"Message OK, but will not deliver to these inactive addresses: {BOB}. Inactive recipients are ones that"
    said = {"ErrorCode": 0, "Message": text, "MessageID": "1"}
    async with HttpServer(lambda _: Response(200, json.dumps(said).encode())) as server:
        postmark = Postmark(PostmarkSettings("postmark", "canary-0123456789"), Http(base_url=server.url, timeout=5, concurrency=2))
        stage.transports["postmark"] = postmark  # type: ignore[assignment]
        stage.route("postmark")
        async with stage.running():
            queue_id = await stage.submit(BOB, CAROL)
            await stage.events.wait("bounced_to", queue_id=queue_id)
            await stage.events.wait("removed", queue_id=queue_id)
        await postmark.aclose()
    assert [State.FAILED, State.RELAYED] == [(await stage.state(queue_id, address)).state for address in (BOB, CAROL)]
