"""Postmark's batches: what goes together, and what an answer means for each message in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Job, Outcome, Verdict
from relay.transports.base import ALONE, Batching
from relay.transports.http import MAX_ANSWER, Answer, Http
from relay.transports.postmark import Postmark, read, read_together
from relay.transports.postmark.request import together
from tests.jobs import job
from tests.servers import Act, HttpAnswer, HttpServer, Request, Response
from tests.test_delivery import BOB, CAROL, Stage
from tests.transports.test_postmark import SETTINGS, TOKEN, mail, requests

SENT = [requests(mail(f"To: {name}@example.net\n"), [f"{name}@example.net"])[0] for name in "abc"]
BATCHING = Batching(500, 50 * 1024 * 1024, 0.2)  # as Postmark allows it
TAKEN = {"To": "x", "SubmittedAt": "2026-11-20T12:00:00Z", "MessageID": "m1", "ErrorCode": 0, "Message": "OK"}
MAIL = mail("To: a@example.net\n")
TEMPLATE = mail("To: a@example.net\nX-Relay-Template: welcome\n")


def read_as(body: object, status: int = 200) -> list[str] | None:
    """The outcome of each of SENT, as one line."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read_together(Answer(status, {}, raw, "host[192.0.2.1]:443", 0.5, 0.25), SENT, token_length=17)
    if found is None:
        return None
    assert [list(request.recipients) for request in SENT] == [list(outcomes) for outcomes in found]
    return [f"{outcome.verdict} {outcome.status}" for outcomes in found for outcome in outcomes.values()]


def refused(code: int, text: str = "no") -> dict[str, object]:
    """A refused message in a batch: nothing but these two."""
    return {"ErrorCode": code, "Message": text}


def test_a_batch_is_an_array() -> None:
    """Messages stand in a bare array, those with templates below Messages; both as they would go alone."""
    path, body = together(SENT)
    assert ("/email/batch", [json.loads(one.body().whole()) for one in SENT]) == (path, json.loads(body.whole()))
    assert body.size == len(body.whole())
    templates = [requests(TEMPLATE, ["a@example.net"])[0]] * 2
    path, body = together(templates)
    alone = json.loads(templates[0].body().whole())
    assert ("/email/batchWithTemplates", {"Messages": [alone, alone]}) == (path, json.loads(body.whole()))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([TAKEN, TAKEN, TAKEN], ["OK 2.0.0", "OK 2.0.0", "OK 2.0.0"]),
        ([TAKEN, refused(300), TAKEN], ["OK 2.0.0", "PERM-MSG 5.6.0", "OK 2.0.0"]),
        ([refused(406), refused(400), refused(405)], ["PERM-RCPT 5.2.1", "CONFIG 4.7.1", "PAUSE 4.7.0"]),
        ([refused(10), refused(429), refused(101)], ["PAUSE 4.7.8", "THROTTLE 4.7.28", "UNKNOWN 4.4.2"]),
        ([refused(300, "Invalid 'To' address: 'a@example.net'."), TAKEN, refused(9999)], ["PERM-RCPT 5.1.3", "OK 2.0.0", "RETRY 4.3.0"]),
        ([TAKEN, TAKEN], ["OK 2.0.0", "OK 2.0.0", "UNKNOWN 4.4.2"]),
        ([], ["UNKNOWN 4.4.2"] * 3),
        ([TAKEN, refused(300), TAKEN, TAKEN, TAKEN], ["OK 2.0.0", "PERM-MSG 5.6.0", "OK 2.0.0"]),
        ([TAKEN, None, "OK"], ["OK 2.0.0", "UNKNOWN 4.4.2", "UNKNOWN 4.4.2"]),
        (TAKEN, ["UNKNOWN 4.4.2"] * 3),
        (refused(300), ["UNKNOWN 4.4.2"] * 3),
        (refused(405), ["PAUSE 4.7.0"] * 3),
        (b"<html>welcome", ["UNKNOWN 4.4.2"] * 3),
        (b'[{"ErrorCode":0,"Message":"OK","MessageID":"1"},', ["UNKNOWN 4.4.2"] * 3),
        (b"", ["UNKNOWN 4.4.2"] * 3),
    ],
)
def test_each_message_has_its_answer(body: object, expected: list[str]) -> None:
    """In order, a refused one judged as if it had gone alone; one without an answer may have been taken."""
    assert expected == read_as(body)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (422, refused(410), None),
        (422, refused(300), None),
        (422, refused(402), None),
        (422, refused(400), None),
        (422, refused(406, "Found inactive addresses: a@example.net."), None),
        (422, refused(9999), None),
        (422, b"{}", None),
        (413, b"<html>", None),
        (400, b"", None),
        (422, refused(10), ["PAUSE 4.7.8"] * 3),
        (422, refused(405), ["PAUSE 4.7.0"] * 3),
        (422, refused(412), ["PAUSE 4.7.0"] * 3),
        (422, refused(413), ["PAUSE 4.7.0"] * 3),
        (422, refused(422), ["PAUSE 4.7.0"] * 3),
        (422, refused(1480), ["PAUSE 4.7.1"] * 3),
        (422, refused(101), ["UNKNOWN 4.4.2"] * 3),
        (401, refused(10), ["PAUSE 4.7.8"] * 3),
        (403, b"<html>", ["PAUSE 4.3.5"] * 3),
        (404, b"<html>", ["RETRY 4.3.0"] * 3),
        (415, b"", ["RETRY 4.3.0"] * 3),
        (429, refused(429), ["THROTTLE 4.7.28"] * 3),
        (500, refused(101), ["UNKNOWN 4.4.2"] * 3),
        (502, b"<html>", ["UNKNOWN 4.4.2"] * 3),
        (503, refused(100), ["RETRY 4.3.2"] * 3),
        (503, b"<html>", ["UNKNOWN 4.4.2"] * 3),
    ],
)
def test_a_whole_batch_is_refused(status: int, body: object, expected: list[str] | None) -> None:
    """For what stands in it: to be tried in parts (None). For the account, the token or the server: the same for all."""
    assert expected == read_as(body, status)


def test_nobody_is_told_of_the_others() -> None:
    """Where an answer cannot be told apart, nothing of it is repeated: it names the recipients of other messages."""
    answer = Answer(200, {}, json.dumps([{**TAKEN, "To": "a@example.net"}]).encode()[:-5], "host[192.0.2.1]:443", 0.0, 0.0)
    found = read_together(answer, SENT, token_length=1)
    assert found is not None
    assert {"200: no answer for this message among those for its batch"} == {one.reply for each in found for one in each.values()}


ITEMS = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.fixed_dictionaries({"ErrorCode": st.sampled_from([0, 10, 101, 300, 406, 9999]), "Message": st.text(max_size=9)}),
)


@given(
    st.integers(100, 599),
    st.one_of(st.binary(max_size=20), st.one_of(ITEMS, st.lists(ITEMS, max_size=5)).map(lambda value: json.dumps(value).encode())),
)
def test_any_answer(status: int, body: bytes) -> None:
    """Whatever is answered, each message has its outcomes, or it is sure that none was taken."""
    answer = Answer(status, {}, body, "host[192.0.2.1]:443", 0.0, 0.0)
    found = read_together(answer, SENT, token_length=1)
    if found is None:
        assert status in (400, 413, 422)
        return
    assert [list(request.recipients) for request in SENT] == [list(outcomes) for outcomes in found]
    for outcomes in found:
        for outcome in outcomes.values():
            assert bool(outcome.mend) is (outcome.verdict in (Verdict.PAUSE, Verdict.CONFIG))
            assert status // 100 == 2 or outcome.verdict is not Verdict.OK


@pytest.mark.parametrize("code", [10, 101, 300, 400, 402, 405, 406, 410, 411, 412, 413, 422, 1101, 1120, 1226, 1235, 1480, 9999])
def test_an_item_is_judged_as_it_would_be_alone(code: int) -> None:
    """The same refusal has the same meaning by either way."""
    text = "Found inactive addresses: a@example.net. Inactive recipients are"
    status = {10: 401, 101: 500}.get(code, 422)
    alone = read(Answer(status, {}, json.dumps(refused(code, text)).encode(), "host[192.0.2.1]:443", 0.0, 0.0), SENT[0], token_length=17)
    answer = Answer(200, {}, json.dumps([refused(code, text)]).encode(), "host[192.0.2.1]:443", 0.0, 0.0)
    found = read_together(answer, SENT[:1], token_length=17)
    assert found is not None

    def but_http(outcomes: dict[str, Outcome]) -> list[Outcome]:
        return [dataclasses.replace(one, reply=one.reply.partition(" ")[2]) for one in outcomes.values()]

    assert but_http(alone) == but_http(found[0])


# --- the class ---


async def prepared(transport: Postmark, *given: tuple[str, bytes]) -> list[Job]:
    """One job for each (queue id, message), all to a@example.net."""
    return [one for queue_id, data in given for one in await transport.prepare(job(queue_id=queue_id, data=data))]


async def attempt(
    script: Callable[[Request], HttpAnswer] | Sequence[HttpAnswer], *given: tuple[str, bytes]
) -> tuple[list[Request], dict[str, str]]:
    """The requests that one attempt makes, and the verdict for each queue id."""
    async with HttpServer(script) as server:
        settings = dataclasses.replace(SETTINGS, batching=BATCHING)
        transport = Postmark(settings, Http(base_url=server.url, timeout=5, concurrency=2))
        outcomes = await transport.attempt(await prepared(transport, *given))
        await transport.aclose()
    assert {(queue_id, "a@example.net") for queue_id, _ in given} == set(outcomes)
    return server.requests, {queue_id: str(outcome.verdict) for (queue_id, _), outcome in outcomes.items()}


async def test_several_messages_go_in_one_request() -> None:
    """With the token and the type that a single one has, and each learns its own id."""
    answers = [{**TAKEN, "MessageID": name} for name in "xyz"]
    made, verdicts = await attempt([Response(200, json.dumps(answers).encode())], *((name, MAIL) for name in "ABC"))
    assert [("POST", "/email/batch", TOKEN, "application/json")] == [
        (one.method, one.path, one.headers["x-postmark-server-token"], one.headers["content-type"]) for one in made
    ]
    assert ["A", "B", "C"] == [one["Metadata"]["relay-id"] for one in json.loads(made[0].body)]
    assert {"A": "OK", "B": "OK", "C": "OK"} == verdicts


async def test_a_bad_message_is_found_by_halves() -> None:
    """A batch that is refused as a whole is halved until the message that is to blame stands alone; each is sent once."""
    bad = mail("To: a@example.net\nX-Bad: yes\n")
    taken: list[str] = []

    def answer(request: Request) -> Response:
        body = json.loads(request.body)
        messages = body if isinstance(body, list) else [body]
        if b"X-Bad" in request.body:
            return Response(422, json.dumps(refused(300, "Invalid header")).encode())
        taken.extend(one["Metadata"]["relay-id"] for one in messages)
        return Response(200, json.dumps([TAKEN] * len(messages) if isinstance(body, list) else TAKEN).encode())

    made, verdicts = await attempt(answer, *((name, bad if name == "C" else MAIL) for name in "ABCDEFGH"))
    assert {name: "PERM-MSG" if name == "C" else "OK" for name in "ABCDEFGH"} == verdicts
    assert sorted("ABDEFGH") == sorted(taken)
    assert 7 == len(made)


async def test_a_token_that_is_refused_costs_one_request() -> None:
    """The others would be refused alike: nothing is halved."""
    made, verdicts = await attempt([Response(422, json.dumps(refused(10)).encode())], *((name, MAIL) for name in "ABCD"))
    assert (1, {"PAUSE"}) == (len(made), set(verdicts.values()))


@pytest.mark.parametrize(("act", "expected"), [(Act.CUT, "UNKNOWN"), (Act.RESET, "UNKNOWN"), (Act.EARLY, "RETRY")])
async def test_no_answer_to_a_batch(act: Act, expected: str) -> None:
    """Each message may have been taken, or surely none."""
    data = mail("To: a@example.net\nContent-Type: application/x\n", "x" * 4_000_000) if act is Act.EARLY else MAIL
    _, verdicts = await attempt([act], ("A", data), ("B", data))
    assert {"A": expected, "B": expected} == verdicts


async def test_what_may_go_together() -> None:
    """Mail by one stream, and templates among themselves; the share is what it takes of the request, comma included."""
    transport = Postmark(
        dataclasses.replace(SETTINGS, batching=BATCHING),
        Http(base_url="http://127.0.0.1:9", timeout=5, concurrency=2),
    )
    other = mail("To: a@example.net\nX-PM-Message-Stream: news\n")
    jobs = await prepared(transport, ("A", MAIL), ("B", other), ("C", TEMPLATE))
    shares = [transport.share(one) for one in jobs]
    assert ["/email outbound", "/email news", "/email/withTemplate outbound"] == [share.kind for share in shares if share]
    plans: list[Any] = [one.plan for one in jobs]
    assert [plan.body().size + 1 for plan in plans] == [share.octets for share in shares if share]
    alone = Postmark(dataclasses.replace(SETTINGS, batching=ALONE), Http(base_url="http://127.0.0.1:9", timeout=5, concurrency=2))
    assert [None] == [alone.share(one) for one in await prepared(alone, ("A", MAIL))]


def test_many_recipients_go_alone() -> None:
    """An answer to a batch repeats its recipients: those of 500 messages have to fit in an answer that we read."""
    few, many = ([f"{name}{number}@example.net" for number in range(count)] for name, count in (("few", 20), ("many", 30)))
    assert ["/email outbound", ""] == [requests(mail(f"To: {', '.join(to)}\n"), to)[0].kind for to in (few, many)]
    body = requests(mail(f"To: {', '.join(few)}\n"), few)[0].body().whole()
    shown = json.loads(body)["To"]
    item = {**TAKEN, "To": shown, "Message": f"Message OK, but will not deliver to these inactive addresses: {shown}. {'x' * 150}"}
    assert len(json.dumps([item] * 500)) < MAX_ANSWER


async def test_in_delivery_each_has_its_own_fate(tmp_path: Path) -> None:
    """Of messages in one batch one is refused: its sender hears of it, the others are sent, each with its own id."""
    stage = Stage(tmp_path / "spool")
    await stage.open()

    def answer(request: Request) -> Response:
        body = json.loads(request.body)
        if isinstance(body, dict):  # the bounce
            return Response(200, json.dumps(TAKEN).encode())
        taken = [{**TAKEN, "MessageID": one["Metadata"]["relay-id"]} for one in body]
        return Response(
            200, json.dumps([refused(300) if one["To"] == BOB else mine for one, mine in zip(body, taken, strict=True)]).encode()
        )

    async with HttpServer(answer) as server:
        postmark = Postmark(dataclasses.replace(SETTINGS, batching=BATCHING), Http(base_url=server.url, timeout=5, concurrency=2))
        stage.transports["postmark"] = postmark  # type: ignore[assignment]
        stage.route("postmark")
        queue_ids = [await stage.submit(to) for to in (CAROL, BOB, CAROL)]
        async with stage.running():
            for queue_id in queue_ids:
                await stage.events.wait("removed", queue_id=queue_id)
        await postmark.aclose()
    await stage.real.close()
    assert "/email/batch" == server.requests[0].path
    lines = "\n".join(stage.events.texts)
    fates = (
        f"status=sent (200 MessageID={queue_ids[0]})",
        "status=bounced (200 300 InvalidRequest: no)",
        f"status=sent (200 MessageID={queue_ids[2]})",
    )
    for queue_id, expected in zip(queue_ids, fates, strict=True):
        assert expected in next(line for line in lines.splitlines() if line.startswith(f"{queue_id}: to="))
