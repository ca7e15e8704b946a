"""Replies of Postmark: a table of them, what follows in delivery, and texts from nowhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
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


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


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
