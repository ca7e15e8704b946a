"""Replies of Mailtrap: a table of them, batches, what follows in delivery, and texts from nowhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Outcome, State, Verdict
from relay.transports import net
from relay.transports.base import Batching
from relay.transports.http import Answer, Http
from relay.transports.mailtrap import Mailtrap, Payload, read, read_together
from relay.transports.mailtrap.reply import Asker, after, greeted
from tests.servers import HttpServer, Request, Response
from tests.test_delivery import BOB, CAROL, Stage
from tests.transports.test_mailtrap import DATA, SANDBOX, SETTINGS, TAKEN, mail, requests

REMOTE = "send.api.mailtrap.io[192.0.2.1]:443"
URL = "https://send.api.mailtrap.io"
FOUR = "From: a@example.com\nTo: Ann <ann@example.net>, Two@Example.NET\nCc: cc@example.org\n"
SENT: Mapping[str, Payload] = {
    "several": requests(mail(FOUR), ["ann@example.net", "Two@Example.NET", "cc@example.org", "bcc@example.com"])[0],
    "alone": requests(mail("To: ann@example.net\n"), ["ann@example.net"])[0],
    "bulk": requests(mail("To: ann@example.net\nX-Relay-Stream: bulk\n"), ["ann@example.net"])[0],
    "sandbox": requests(mail("To: ann@example.net, b@example.net\n"), ["ann@example.net", "b@example.net"], **SANDBOX)[0],
}
REPLIES = json.loads((DATA / "replies" / "mailtrap.json").read_text(encoding="utf-8"))
UNAUTHORIZED = {"success": False, "errors": ["Unauthorized"]}
INVALID = {"success": False, "errors": ["'subject' is required"]}


def answered(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of the API; a text stands for itself."""
    raw = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, headers or {}, raw.encode(), REMOTE, 0.5, 0.25)


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["when"])
def test_replies(row: dict[str, Any]) -> None:
    """Each reply has one outcome for each recipient, by its status and by what its text says of account, domain or rate."""
    request = SENT[row.get("to", "several")]
    stream = "sandbox" if row.get("to") == "sandbox" else "transactional"
    asker = Asker(stream, 17, frozenset(row.get("refused", ())))
    outcomes = read(answered(row["http"], row["body"], row.get("headers")), request, asker)
    assert list(request.recipients) == list(outcomes)
    assert {recipient: row.get("but", {}).get(recipient, row["outcome"]) for recipient in outcomes} == {
        recipient: f"{outcome.verdict} {outcome.status}" for recipient, outcome in outcomes.items()
    }
    first = outcomes["ann@example.net"]
    ids = [outcome.remote_id for outcome in outcomes.values()]
    shown = {"reply": first.reply, "identity": first.identity, "mend": first.mend, "retry_after": first.retry_after, "ids": ids}
    assert {name: row[name] for name in shown if name in row} == {name: value for name, value in shown.items() if name in row}
    assert (bool(first.mend), first.connect_s, first.send_s) == (first.verdict in (Verdict.PAUSE, Verdict.CONFIG), 0.5, 0.25)
    assert (False, True) == (first.own, "{" not in first.mend)
    if first.identity:
        assert first.identity in request.identities


LEAF = st.one_of(
    st.none(), st.text(max_size=20), st.integers(), st.sampled_from(["Unauthorized", "'to' address is invalid", "{x}", "rate limit"])
)
SHALLOW = st.one_of(LEAF, st.lists(LEAF, max_size=3), st.dictionaries(st.text(max_size=8), LEAF, max_size=3))
ERRORS = st.one_of(SHALLOW, st.lists(SHALLOW, max_size=3), st.dictionaries(st.text(max_size=8), SHALLOW, max_size=3))
RESULT = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "success": st.one_of(st.none(), st.booleans(), st.text(max_size=3)),
            "message_ids": st.one_of(st.none(), st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=5)),
            "errors": ERRORS,
            "error": ERRORS,
        },
    ),
)
STATUS = st.one_of(st.integers(100, 599), st.sampled_from([200, 400, 401, 403, 413, 422, 429, 500]))


def consistent(status: int, request: Payload, outcomes: Mapping[str, Outcome]) -> None:
    """What holds of every judgement."""
    assert list(request.recipients) == list(outcomes)
    for outcome in outcomes.values():
        assert net.one_line(outcome.reply, 2000) == outcome.reply
        assert bool(outcome.mend) is (outcome.verdict in (Verdict.PAUSE, Verdict.CONFIG))
        assert outcome.verdict is not Verdict.OK or status // 100 == 2
        assert not outcome.identity or outcome.identity in request.identities


@given(STATUS, st.one_of(st.binary(max_size=60), RESULT.map(lambda value: json.dumps(value).encode())))
def test_any_reply(status: int, body: bytes) -> None:
    """Whatever is answered, each recipient has one outcome, and only a 2xx means that the mail was taken."""
    answer = Answer(status, {"retry-after": "x"}, body, REMOTE, 0.0, 0.0)
    for name, request in SENT.items():
        consistent(status, request, read(answer, request, Asker(token_length=1, refused=frozenset(("x.example",)))))
        assert greeted(answer, "sandbox" if name == "sandbox" else "bulk", 1, URL).text


@given(
    STATUS,
    st.one_of(
        st.binary(max_size=60),
        st.tuples(RESULT, st.lists(RESULT, max_size=4)).map(lambda pair: json.dumps({**(pair[0] or {}), "responses": pair[1]}).encode()),
    ),
)
def test_any_reply_to_a_batch(status: int, body: bytes) -> None:
    """Each recipient of each message has one outcome, or the batch is taken apart; never where something may have been taken."""
    batch = [SENT["several"], SENT["alone"]]
    found = read_together(Answer(status, {}, body, REMOTE, 0.0, 0.0), batch, Asker())
    if found is None:
        assert status in (400, 413, 422) or (status // 100 == 2 and json.loads(body)["success"] is False)
        return
    for request, outcomes in zip(batch, found, strict=True):
        consistent(status, request, outcomes)


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [" " * 500_000]},
        {"errors": ["the " * 100_000]},
        {"errors": ["'" * 100_001] * 5},
        {"errors": ["to " + "x" * 500_000]},
        {"errors": ["monthly " * 60_000]},
        {"errors": [["sending from domain " + "a." * 100] * 100] * 50},
        "[" * 500_000,
        '{"errors":' * 50_000,
        {"message_ids": ["x"] * 100_000},
    ],
)
def test_a_long_reply_is_read_in_time(body: object) -> None:
    """However a reply is written, reading it takes no longer than its length warrants."""
    for _ in range(5):
        read(answered(400, body), SENT["several"], Asker())


# --- batches ---

BATCH = [SENT["alone"], SENT["several"], SENT["alone"]]


def told(answer: Answer, asker: Asker | None = None) -> list[str] | None:
    """What each message of a batch hears, if it hears the same for all its recipients."""
    found = read_together(answer, BATCH, asker or Asker())
    if found is None:
        return None
    assert [list(request.recipients) for request in BATCH] == [list(outcomes) for outcomes in found]
    heard = [{f"{outcome.verdict} {outcome.status}" for outcome in outcomes.values()} for outcomes in found]
    return [" | ".join(sorted(one)) for one in heard]


def of_batch(*results: object) -> dict[str, object]:
    """A batch that was taken as such, with these results."""
    return {"success": True, "responses": list(results)}


ONE, FOUR_IDS = {"success": True, "message_ids": ["1"]}, {"success": True, "message_ids": ["1", "2", "3", "4"]}


def test_results_come_in_order() -> None:
    """Each message of a batch has the result at its place, judged as its own reply would be."""
    assert ["OK 2.0.0", "PERM-MSG 5.6.0", "OK 2.0.0"] == told(answered(200, of_batch(ONE, INVALID, ONE)))
    assert ["PERM-RCPT 5.1.3", "OK 2.0.0", "UNKNOWN 4.4.2"] == told(
        answered(200, of_batch({"success": False, "errors": ["'to' address is invalid"]}, FOUR_IDS, None))
    )
    assert ["CONFIG 4.7.8", "CONFIG 4.7.1", "THROTTLE 4.7.28"] == told(
        answered(
            200,
            of_batch(
                UNAUTHORIZED,
                {"success": False, "errors": ["Sending from domain is not allowed"]},
                {"success": False, "errors": ["Rate limit exceeded"]},
            ),
        )
    )
    found = read_together(answered(200, of_batch(ONE, FOUR_IDS, {"success": True, "message_ids": ["9"]})), BATCH, Asker())
    assert found
    assert [["1"], ["1", "2", "3", "4"], ["9"]] == [[outcome.remote_id for outcome in outcomes.values()] for outcomes in found]


@pytest.mark.parametrize(
    "body",
    [
        of_batch(ONE, FOUR_IDS),
        of_batch(ONE, FOUR_IDS, ONE, ONE),
        of_batch(),
        {"success": True},
        "<html>",
        {"success": True, "responses": 7},
    ],
)
def test_results_that_are_no_list_of_all(body: object) -> None:
    """Nobody knows which result belongs to which message: each of them may have been taken."""
    assert ["UNKNOWN 4.4.2"] * 3 == told(answered(200, body))


def test_how_many_results_there_were() -> None:
    """The log says what was amiss."""
    found = read_together(answered(200, of_batch(ONE)), BATCH, Asker())
    assert found
    assert "200: 1 results for 3 messages" == found[0]["ann@example.net"].reply


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, INVALID),
        (400, {"errors": ["empty field: 'requests'"]}),
        (400, "<html>"),
        (413, ""),
        (422, {"errors": ["hm"]}),
        (200, {"success": False, "errors": ["hm"]}),
        (200, {"success": False, "responses": [], "errors": ["hm"]}),
    ],
)
def test_a_batch_refused_for_what_stands_in_it(status: int, body: object) -> None:
    """Nothing of it was taken, and one message may be to blame."""
    assert told(answered(status, body)) is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, UNAUTHORIZED, "CONFIG 4.7.8"),
        (403, {"errors": ["Account is banned"]}, "PAUSE 4.7.0"),
        (429, {"errors": ["Rate limit exceeded"]}, "THROTTLE 4.7.28"),
        (400, {"errors": ["Monthly limit reached"]}, "PAUSE 4.7.28"),
        (200, {"success": False, "errors": ["Unauthorized"]}, "CONFIG 4.7.8"),
        (500, {"errors": ["Internal server error"]}, "RETRY 4.3.0"),
        (502, "<html>", "UNKNOWN 4.4.2"),
    ],
)
def test_a_batch_refused_for_who_sends_it(status: int, body: object, expected: str) -> None:
    """Every message hears what the whole was told, and nobody is tried alone."""
    assert [expected] * 3 == told(answered(status, body))


def test_what_is_remembered_of_domains() -> None:
    """A domain that hears 401 is remembered until a mail is taken; other trouble, and the other stream, change nothing."""

    def heard(known: frozenset[str], status: int, body: object, name: str = "alone", domain: str = "example.com") -> frozenset[str]:
        request = replace(SENT[name], uses={**SENT[name].uses, "domain": domain})
        return after(known, [(request, read(answered(status, body), request, Asker()))], "transactional")

    nobody: frozenset[str] = frozenset()
    one = heard(nobody, 401, UNAUTHORIZED)
    two = heard(one, 401, UNAUTHORIZED, domain="other.example")
    assert (frozenset({"example.com"}), frozenset({"example.com", "other.example"})) == (one, two)
    assert two == heard(two, 401, UNAUTHORIZED, domain="third.example")
    assert two == heard(two, 500, "") == heard(two, 400, INVALID) == heard(two, 200, ONE, "bulk")
    assert nobody == heard(two, 200, ONE) == heard(nobody, 401, UNAUTHORIZED, "bulk")


# --- the probe ---


@pytest.mark.parametrize(
    ("status", "body", "stream", "expected"),
    [
        (400, {"errors": ["'from' is required"]}, "transactional", (True, "accepted", "")),
        (401, UNAUTHORIZED, "bulk", (False, "401 Unauthorized: Unauthorized", "check the token (17 characters): it may have expired")),
        (401, UNAUTHORIZED, "sandbox", (False, "401 Unauthorized: Unauthorized", "check the token (17 characters), and sandbox_id")),
        (403, {"errors": ["Forbidden"]}, "transactional", (False, "403 Forbidden: Forbidden", "check the token (17 characters)")),
        (403, {"errors": ["Account is banned"]}, "bulk", (False, "403 AccountBlocked: Account is banned", "Mailtrap does not let")),
        (
            429,
            {"errors": ["Rate limit exceeded"]},
            "bulk",
            (None, "429 RateLimit: Rate limit exceeded", "try again later: it asks to be asked less often"),
        ),
        (404, "<html>", "bulk", (False, "404: not an answer of Mailtrap: <html>", f"this is no answer of the API: check base_url ({URL})")),
        (200, "<html>", "bulk", (False, "200: not an answer of Mailtrap: <html>", f"this is no answer of the API: check base_url ({URL})")),
        (503, "oops", "bulk", (None, "503: not an answer of Mailtrap: oops", "try again later: the provider, or what stands before it")),
        (500, {"errors": ["Internal error"]}, "bulk", (None, "500 InternalError: Internal error", "try again later: ")),
        (200, {"success": True, "message_ids": []}, "bulk", (None, "200: no reason given", "")),
    ],
)
def test_what_a_probe_finds(status: int, body: object, stream: str, expected: tuple[bool | None, str, str]) -> None:
    """A token is accepted where only the content of an empty request is refused."""
    check = greeted(answered(status, body), stream, 17, URL)
    assert (f"login, stream {stream}", *expected[:2]) == (check.what, check.ok, check.text)
    assert (True, bool(expected[2])) == (check.mend.startswith(expected[2]), bool(check.mend))


# --- what follows ---


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


def transport(server: HttpServer, **settings: Any) -> Mailtrap:
    """A transport whose doors all lead to the server."""
    chosen = replace(SETTINGS, base_url=server.url, **settings)
    return Mailtrap(chosen, {stream: Http(base_url=url, timeout=5, concurrency=2) for stream, url in chosen.doors.items()})


async def test_one_bad_message_of_a_batch(stage: Stage) -> None:
    """It bounces, the others of its request are relayed, each with its own id, and nothing is sent twice."""

    def answer(request: Request) -> Response:
        bodies = json.loads(request.body).get("requests", [])
        bad = [BOB in json.dumps(body) for body in bodies]
        results = [INVALID if one else {"success": True, "message_ids": [f"id-{number}"]} for number, one in enumerate(bad)]
        return Response(200, json.dumps(of_batch(*results)).encode()) if bodies else TAKEN

    async with HttpServer(answer) as server:
        mailtrap = transport(server, batching=Batching(3, 50_000_000, 30.0))
        stage.transports["mailtrap"] = mailtrap  # type: ignore[assignment] # the real one in the place of a fake
        stage.route("mailtrap")
        async with stage.running():
            ids = [await stage.submit(address) for address in (CAROL, BOB, "dave@example.net")]
            await stage.events.wait("bounced_to", queue_id=ids[1])
            for queue_id in (ids[0], ids[2]):
                await stage.events.wait("removed", queue_id=queue_id)
        await mailtrap.aclose()
    states = [await stage.state(queue_id, address) for queue_id, address in zip(ids, (CAROL, BOB, "dave@example.net"), strict=True)]
    assert [(State.RELAYED, True), (State.FAILED, False), (State.RELAYED, True)] == [(one.state, bool(one.remote_id)) for one in states]
    sent = [body["custom_variables"]["relay-id"] for request in server.requests for body in _bodies(request)]
    assert sorted(ids) == sorted(one for one in sent if one in ids)


def _bodies(request: Request) -> list[dict[str, Any]]:
    """The messages of a request."""
    whole = json.loads(request.body)
    found: list[dict[str, Any]] = whole.get("requests", [whole])
    return found
