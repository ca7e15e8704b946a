"""Replies of Paubox: a table of them, what follows in delivery, what is kept of their text, and texts from nowhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
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
    assert login(answer, key_length=1, url="x").ok is not True or status // 100 == 2 or status == 404


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
