"""Replies of Paubox: a table of them, what follows in delivery, what is kept of their text, and texts from nowhere."""

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
from relay.transports import net
from relay.transports.http import Answer, Http
from relay.transports.paubox import Paubox, PauboxSettings, read, read_together
from relay.transports.paubox.reply import login
from relay.transports.paubox.words import shown
from tests.servers import HttpServer, Response
from tests.test_delivery import BOB, CAROL, Stage
from tests.transports.test_paubox import mail, requests

REPLIES = json.loads((Path(__file__).parent.parent / "data" / "replies" / "paubox.json").read_text(encoding="utf-8"))
REMOTE = "api.paubox.net[192.0.2.1]:443"
FIELDS = "From: app@example.com\nTo: ann@example.net, Two@Example.NET\nReply-To: help@other.example\nSubject: Rash on the left arm\n"
SENT = requests(mail(FIELDS), ["ann@example.net", "Two@Example.NET", "bcc@example.org"])[0]
ALONE = requests(mail("From: app@example.com\nTo: ann@example.net\n"), ["ann@example.net"])[0]
TEMPLATED = requests(mail(f"X-Relay-Template: welcome\n{FIELDS}"), ["ann@example.net", "Two@Example.NET"])[0]


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["when"])
def test_replies(row: dict[str, Any]) -> None:
    """Each reply has one outcome for every recipient, by its status, and by its words where the status says too little."""
    raw = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
    answer = Answer(row["http"], row.get("headers", {}), raw.encode(), REMOTE, 0.5, 0.25)
    request = ALONE if row.get("alone") else TEMPLATED if row.get("template") else SENT
    outcomes = read(answer, request, key_length=17)
    assert list(request.recipients) == list(outcomes)
    assert {row["outcome"]} == {f"{outcome.verdict} {outcome.status}" for outcome in outcomes.values()}
    first = outcomes["ann@example.net"]
    said = {"reply": first.reply, "identity": first.identity, "mend": first.mend, "retry_after": first.retry_after, "id": first.remote_id}
    assert {name: row[name] for name in said if name in row} == {name: value for name, value in said.items() if name in row}
    assert (bool(first.mend), first.connect_s, first.send_s) == (first.verdict in (Verdict.PAUSE, Verdict.CONFIG), 0.5, 0.25)
    assert not first.own
    assert "{" not in first.mend
    if first.identity:
        assert first.identity in request.identities


SOMETHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.text(max_size=20) | st.integers() | st.booleans() | st.sampled_from(["Service OK", "from is not verified", "recipient"]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "title", "details", "errors", "X-Relay-Id", "sourceTrackingId", "data"]), inside, max_size=3
        )
    ),
    max_leaves=6,
)
JSON = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("errors", "error", "message", "messages", "sourceTrackingId", "customHeaders", "data"), SOMETHING)
)


@given(
    st.integers(100, 599),
    st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())),
    st.dictionaries(st.sampled_from(["x-request-id", "content-type", "retry-after", "date"]), st.text(max_size=30)),
)
def test_any_reply(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Whatever is answered, each recipient has one outcome in one line, and only a 2xx means that the mail was taken."""
    answer = Answer(status, headers, body, REMOTE, 0.0, 0.0)
    found = [(request, read(answer, request, key_length=1)) for request in (SENT, ALONE, TEMPLATED)]
    found += zip((SENT, ALONE), read_together(answer, (SENT, ALONE), key_length=1) or [], strict=False)
    for request, outcomes in found:
        assert list(request.recipients) == list(outcomes)
        for outcome in outcomes.values():
            assert net.one_line(outcome.reply, 2000) == outcome.reply
            assert bool(outcome.mend) is (outcome.verdict in (Verdict.PAUSE, Verdict.CONFIG))
            assert outcome.verdict is not Verdict.OK or status // 100 == 2
    assert login(answer, key_length=1).ok is not True or status // 100 == 2 or status == 404


@pytest.mark.parametrize("text", [" " * 40_000, *(one * 4000 for one in ('"', "<", "'", "suspend", "account ", "api ", "from:", "quota"))])
def test_a_long_reply_is_read_in_time(text: str) -> None:
    """However a reply is written, reading it takes no longer than its length warrants."""
    for body in ({"errors": text}, {"errors": [[text] * 20] * 20}):
        for _ in range(5):
            read(Answer(400, {}, json.dumps(body).encode(), REMOTE, 0, 0), SENT, key_length=1)


def test_a_reply_as_deep_as_it_is_long() -> None:
    """Is none."""
    answer = Answer(400, {}, b"[" * 100_000, REMOTE, 0, 0)
    assert {Verdict.RETRY} == {outcome.verdict for outcome in read(answer, SENT, key_length=1).values()}


# --- what is kept of a text ---

PATIENT = "Rash on the left arm, Ann Example <ann@example.net>, born 1984-02-29, MRN 0012345, HIV+"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"code": 1, "title": f"Invalid {PATIENT}", "details": f"subject '{PATIENT}' is invalid"}]},
        {"errors": PATIENT},
        {"errors": {PATIENT: [PATIENT]}},
        {"message": f"recipient {PATIENT} is not verified"},
        PATIENT,
    ],
)
def test_nothing_of_a_message_is_kept(status: int, body: object) -> None:
    """An error that quotes the message is shortened to the words in which an API speaks."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else str(body).encode()
    headers = {"content-type": f"text/{PATIENT}", "x-request-id": PATIENT}
    for outcomes in (read(Answer(status, headers, raw, REMOTE, 0, 0), ALONE, key_length=1).values(),):
        for outcome in outcomes:
            said = f"{outcome.reply} {outcome.mend} {outcome.identity} {outcome.remote_id}".lower()
            assert [] == [word for word in ("rash", "left", "arm", "ann", "1984", "02-29", "mrn", "0012345", "hiv") if word in said.split()]
            assert not {"1984", "0012345", "hiv"} & set(said.replace("-", " ").replace("+", " ").split())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("data.message.headers.subject is required", "data.message.headers.subject is required"),
        ("The from domain clinic.example is not verified.", "The from domain […] is not verified."),
        ("Subject: Biopsy result, 3 of 7: (invalid)", "Subject: […] of […] (invalid)"),
        ("text/html or text/plain", "text/html or text/plain"),
        ("… — ! can't be empty", "[…] ! can't be empty"),
    ],
)
def test_words_that_are_kept(text: str, kept: str) -> None:
    """What an API says of itself stays; names, numbers and whatever is not known go."""
    assert kept == shown(text)


@given(st.text())
def test_any_text(text: str) -> None:
    """No digit stays, but in the name of an encoding."""
    assert not any(one.isdigit() for one in shown(text).lower().replace("base64", ""))


# --- what follows ---


@dataclass(frozen=True)
class Follows:
    """What an error of the API leads to: the class, what the log says of the recipient, who is paused, and what `status` says."""

    http: int
    body: object
    verdict: Verdict
    line: str
    paused: str = ""  # how the pause is logged
    standing: tuple[str, str] = ("up", "")  # of the provider: its state, and how its mend begins
    bounced: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def answer(self) -> Response:
        """As the server gives it."""
        return Response(self.http, self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode(), self.headers)


def error(code: int, title: str, details: str) -> dict[str, object]:
    """The envelope of Paubox's OpenAPI document."""
    return {"errors": [{"code": code, "title": title, "details": details}]}


ERRORS = {
    "subject missing": Follows(
        400,
        error(400, "Bad Request", "subject is required"),
        Verdict.PERM_MSG,
        "dsn=5.6.0, status=bounced (400: Bad Request subject is required)",
        bounced=True,
    ),
    "bad base64": Follows(
        400,
        {"errors": "attachment content is not valid base64"},
        Verdict.PERM_MSG,
        "dsn=5.6.0, status=bounced (400: attachment content is not valid base64)",
        bounced=True,
    ),
    "bad recipient": Follows(
        400,
        {"message": f"recipient {BOB} is invalid"},
        Verdict.PERM_RCPT,
        "dsn=5.1.3, status=bounced (400: recipient […] is invalid)",
        bounced=True,
    ),
    "sender not verified": Follows(
        400,
        {"errors": "from is not a verified domain"},
        Verdict.CONFIG,
        "dsn=4.7.1, status=deferred (400: from is not a verified domain",
        paused="domain=example.com",
        standing=("paused", "verify the domain example.com in Paubox"),
    ),
    "sender not verified, 422": Follows(
        422,
        error(422, "Unprocessable Entity", "unverified from domain"),
        Verdict.CONFIG,
        "dsn=4.7.1, status=deferred (422: Unprocessable Entity unverified from domain",
        paused="domain=example.com",
        standing=("paused", "verify the domain example.com in Paubox"),
    ),
    "wrong key": Follows(
        401,
        error(1001, "Unauthorized", "Invalid API key"),
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (401 1001: Unauthorized Invalid API key",
        paused="provider paubox paused: 401 1001: Unauthorized",
        standing=("paused", "check api_key (11 characters), username and auth_scheme"),
    ),
    "forbidden": Follows(
        403,
        {"message": "Forbidden"},
        Verdict.PAUSE,
        "dsn=4.7.1, status=deferred (403: Forbidden",
        paused="provider paubox paused: 403: Forbidden",
        standing=("paused", "the API key may not send"),
    ),
    "forbidden sender": Follows(
        403,
        {"errors": "from domain not authorized"},
        Verdict.CONFIG,
        "dsn=4.7.1, status=deferred (403: from domain not authorized",
        paused="domain=example.com",
        standing=("paused", "verify the domain"),
    ),
    "account suspended": Follows(
        403,
        {"errors": "Your account is suspended"},
        Verdict.PAUSE,
        "dsn=4.7.0, status=deferred (403: Your account is suspended",
        paused="provider paubox paused",
        standing=("paused", "Paubox does not let the account send"),
    ),
    "firewall": Follows(
        403,
        b"<html>Attention Required!</html>",
        Verdict.PAUSE,
        "dsn=4.7.1, status=deferred (403: not an answer of Paubox (text/html, 32 octets)",
        paused="provider paubox paused",
        standing=("paused", "a security layer in front"),
        headers={"Content-Type": "text/html"},
    ),
    "wrong address": Follows(
        404,
        error(404, "Not Found", "x"),
        Verdict.PAUSE,
        "dsn=4.3.5, status=deferred (404: Not Found […]",
        paused="provider paubox paused: 404",
        standing=("paused", "the API is not at this address"),
    ),
    "too large": Follows(413, b"<html>", Verdict.PERM_MSG, "dsn=5.3.4, status=bounced (413: not an answer", bounced=True),
    "rate": Follows(
        429,
        {"errors": "Rate limit exceeded"},
        Verdict.THROTTLE,
        "dsn=4.7.28, status=deferred (429: Rate limit exceeded",
        paused="provider paubox throttled for 7 s: 429: Rate limit exceeded",
        standing=("throttled", ""),
        headers={"Retry-After": "7"},
    ),
    "internal error": Follows(500, {"message": "Internal Server Error"}, Verdict.UNKNOWN, "may be delivered twice"),
    "bad gateway": Follows(502, b"<html>", Verdict.UNKNOWN, "may be delivered twice"),
    "unavailable": Follows(503, {"message": "Service Unavailable"}, Verdict.RETRY, "dsn=4.3.0, status=deferred (503: Service Unavailable"),
    "gateway timeout": Follows(504, {"message": "Gateway Timeout"}, Verdict.UNKNOWN, "may be delivered twice"),
    "captive portal": Follows(200, b"<html>please log in</html>", Verdict.UNKNOWN, "may be delivered twice"),
    "empty": Follows(200, b"", Verdict.UNKNOWN, "may be delivered twice"),
    "garbage": Follows(400, b"%&/", Verdict.RETRY, "dsn=4.3.0, status=deferred (400: not an answer"),
    "redirect": Follows(307, b"", Verdict.RETRY, "status=deferred (307: not an answer", headers={"Location": "http://127.0.0.1:1/"}),
}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


def paubox(server: HttpServer) -> Paubox:
    """As configured for the stage."""
    settings = PauboxSettings("paubox", "canary-0000", base_url=server.url)
    return Paubox(settings, Http(base_url=settings.url, timeout=5, concurrency=2))


@pytest.mark.parametrize("what", ERRORS)
async def test_what_follows(stage: Stage, what: str) -> None:
    """An error of the API gives its class, its log line, its standing, and a bounce or a pause, never both."""
    expected = ERRORS[what]

    def answer(request: object) -> Response:
        return Response(200, b'{"sourceTrackingId":"the-bounce","data":"Service OK"}') if server.requests else expected.answer()

    async with HttpServer(answer) as server:
        it = paubox(server)
        stage.transports["paubox"] = it  # type: ignore[assignment] # a real one in the place of the fake
        stage.route("paubox")
        async with stage.running() as delivery:
            queue_id = await stage.submit(BOB)
            (line,) = await stage.events.wait("attempt", queue_id=queue_id)
            if expected.bounced:
                await stage.events.wait("bounced_to", queue_id=queue_id)
            (standing,) = await delivery.providers()
        await it.aclose()
    text = "\n".join(stage.events.texts)
    assert expected.line in text
    assert ("bounced" if expected.bounced else "deferred") == line["status"]
    assert expected.bounced is bool(await stage.bounces())
    state = await stage.state(queue_id, BOB)
    assert (State.FAILED if expected.bounced else State.QUEUED, expected.verdict) == (state.state, state.verdict)
    pauses = [line for line in stage.events.lines if line["event"] in ("paused", "throttled", "identity_paused")]
    assert bool(expected.paused) is bool(pauses)
    assert expected.paused in text
    assert (expected.standing[0], True) == (standing.state, standing.mend.startswith(expected.standing[1]))
    assert "canary" not in text


async def test_a_bounce_goes_by_paubox(stage: Stage) -> None:
    """Our own notice refers to the mail it is about, which Paubox cannot carry, and goes all the same."""

    def answer(request: object) -> Response:
        refused = Response(400, b'{"errors":"subject is required"}')
        return Response(200, b'{"sourceTrackingId":"1","data":"Service OK"}') if server.requests else refused

    async with HttpServer(answer) as server:
        it = paubox(server)
        stage.transports["paubox"] = it  # type: ignore[assignment] # a real one in the place of the fake
        stage.route("paubox")
        async with stage.running():
            await stage.submit(BOB)
            await stage.events.wait("attempt", 2)
        await it.aclose()
    notice = json.loads(server.requests[1].body)["data"]["message"]
    assert ["app@example.com"] == notice["recipients"]
    assert "Undelivered mail returned to sender" == notice["headers"]["subject"]


async def test_the_others_go_without_who_is_refused(stage: Stage) -> None:
    """Where one of two recipients is refused nobody got the mail: both are tried again alone, and he alone bounces."""

    def answer(request: object) -> Response:
        if BOB.encode() in request.body:  # type: ignore[attr-defined] # a Request
            return Response(400, b'{"errors":"recipients: an address is invalid"}')
        return Response(200, b'{"sourceTrackingId":"1","data":"Service OK"}')

    async with HttpServer(answer) as server:
        it = paubox(server)
        stage.transports["paubox"] = it  # type: ignore[assignment] # a real one in the place of the fake
        stage.route("paubox")
        async with stage.running():
            queue_id = await stage.submit(BOB, CAROL)
            await stage.events.wait("attempt", 2, queue_id=queue_id)
            stage.pass_time(61)
            await stage.events.wait("bounced_to", queue_id=queue_id)
            await stage.events.wait("removed", queue_id=queue_id)
        await it.aclose()
    assert [State.FAILED, State.RELAYED] == [(await stage.state(queue_id, address)).state for address in (BOB, CAROL)]
