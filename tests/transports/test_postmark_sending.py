"""Postmark: the transport against a real local server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import pytest

from relay.errors import CannotCarry
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Batching
from relay.transports.http import Http
from relay.transports.postmark import Postmark
from tests.jobs import job
from tests.servers import Act, HttpServer, Request, Response
from tests.transports.test_postmark import QUEUE_ID, SETTINGS, TOKEN, mail


async def attempt(server: HttpServer, given: Job, *, seconds: float = 5.0) -> Mapping[tuple[str, str], Outcome]:
    """Prepare and attempt one job; returns its outcomes."""
    transport = Postmark(SETTINGS, Http(base_url=server.url, timeout=seconds, concurrency=2))
    outcomes: dict[tuple[str, str], Outcome] = {}
    for prepared in await transport.prepare(given):
        outcomes |= await transport.attempt([prepared])
    await transport.aclose()
    return outcomes


async def test_one_request_for_each_job() -> None:
    """The request has Postmark's headers and path; its outcome names the remote id and who answered."""
    async with HttpServer(lambda _: Response(200, b'{"ErrorCode":0,"Message":"OK","MessageID":"b7bc2f4a"}')) as server:
        outcomes = await attempt(server, job("a@example.net", "b@example.net"))
    request = server.requests[0]
    assert ("POST", "/email", TOKEN) == (request.method, request.path, request.headers["x-postmark-server-token"])
    assert ("application/json", "application/json") == (request.headers["accept"], request.headers["content-type"])
    body = json.loads(request.body)
    assert ("a@example.net", "b@example.net") == (body["To"], body["Bcc"])
    assert {(QUEUE_ID, "a@example.net"), (QUEUE_ID, "b@example.net")} == set(outcomes)
    outcome = outcomes[QUEUE_ID, "a@example.net"]
    assert ("b7bc2f4a", "200 MessageID=b7bc2f4a", f"127.0.0.1[127.0.0.1]:{server.port}") == (
        outcome.remote_id,
        outcome.reply,
        outcome.remote,
    )


async def test_prepared_jobs_hold_each_recipient_once() -> None:
    """Hidden recipients have a request each; a large message is taken apart in a thread."""
    async with HttpServer(lambda _: Response(200, b'{"ErrorCode":0,"Message":"OK"}')) as server:
        transport = Postmark(SETTINGS, Http(base_url=server.url, timeout=5, concurrency=2))
        prepared = await transport.prepare(job("x@example.net", "y@example.net", data=mail("", "text\n" * 60_000)))
        assert [("x@example.net",), ("y@example.net",)] == [tuple(r.address for r in one.recipients) for one in prepared]
        assert ("domain=example.com", "stream=outbound") == transport.identity(prepared[0])
        assert 2 == sum([len(await transport.attempt([one])) for one in prepared])
        await transport.aclose()
    assert ["x@example.net", "y@example.net"] == [json.loads(request.body)["To"] for request in server.requests]


async def test_cannot_carry_comes_out_of_prepare() -> None:
    """What cannot be carried is said before an attempt."""
    async with HttpServer() as server:
        with pytest.raises(CannotCarry):
            await attempt(server, job(data=b"Subject: no From\r\n\r\n"))
    assert [] == server.requests


def test_what_the_transport_says_of_itself() -> None:
    """No reports; the configured name, concurrency and batches."""
    batching = Batching(500, 1000, 0.2)
    transport = Postmark(
        dataclasses.replace(SETTINGS, batching=batching), Http(base_url="https://api.postmarkapp.com", timeout=5, concurrency=2)
    )
    assert ("postmark", 20, batching, False) == (transport.provider, transport.concurrency, transport.batching, transport.carries_reports)


@pytest.mark.parametrize(
    ("act", "expected"),
    [(Act.CUT, "UNKNOWN 4.4.2"), (Act.RESET, "UNKNOWN 4.4.2"), (b"garbage\r\n\r\n", "UNKNOWN 4.4.2"), (Act.EARLY, "RETRY 4.3.0")],
)
async def test_no_complete_answer(act: Act | bytes, expected: str) -> None:
    """A cut after the request was handed over leaves it unknown whether the message was taken; before that it was not."""
    async with HttpServer([act]) as server:
        size = 8_000_000 if act is Act.EARLY else 10
        outcomes = await attempt(server, job(data=mail("Content-Type: application/x\n", "x" * (size // 2))))
    outcome = outcomes[QUEUE_ID, "a@example.net"]
    assert (expected, True) == (f"{outcome.verdict} {outcome.status}", outcome.own)


async def test_a_silent_server() -> None:
    """No answer in time: the message may have been taken."""
    async with HttpServer([Act.HANG]) as server:
        outcomes = await attempt(server, job(), seconds=0.2)
    assert Verdict.UNKNOWN is outcomes[QUEUE_ID, "a@example.net"].verdict


async def test_nobody_listens() -> None:
    """A provider that cannot be reached is paused and says what to look at."""
    async with HttpServer() as server:
        pass
    outcome = (await attempt(server, job()))[QUEUE_ID, "a@example.net"]
    assert (Verdict.PAUSE, "check the network and base_url (https://api.postmarkapp.com)") == (outcome.verdict, outcome.mend)


async def test_a_token_that_is_quoted_back_is_not_repeated() -> None:
    """Whoever answers might quote the token; log and bounce never show it."""
    said = json.dumps({"ErrorCode": 10, "Message": f"no server has the token {TOKEN}"}).encode()
    async with HttpServer([Response(401, said)]) as server:
        outcome = (await attempt(server, job()))[QUEUE_ID, "a@example.net"]
    assert "401 10 BadToken: no server has the token [token]" == outcome.reply
    assert f"({len(TOKEN)} characters)" in outcome.mend
    assert TOKEN not in repr(outcome)


async def test_a_token_that_is_quoted_back_in_json_is_not_repeated() -> None:
    """A token of which JSON writes a character in another way is known in that way too."""
    odd = 'canary"\\0123456789'
    async with HttpServer([Response(401, json.dumps({"ErrorCode": 10, "Message": f"no server has the token {odd}"}).encode())]) as server:
        transport = Postmark(dataclasses.replace(SETTINGS, token=odd), Http(base_url=server.url, timeout=5, concurrency=1))
        (outcome,) = (await transport.attempt(await transport.prepare(job()))).values()
        await transport.aclose()
    assert "401 10 BadToken: no server has the token [token]" == outcome.reply


async def test_an_address_that_postmark_does_not_take_is_never_sent() -> None:
    """Its finding is our own, so that another provider may be asked for it; the others go."""
    odd = '"a b"@example.net'
    async with HttpServer(lambda _: Response(200, b'{"ErrorCode":0,"Message":"OK"}')) as server:
        outcomes = await attempt(server, job(odd, "b@example.net", "postmaster", data=mail("To: b@example.net\n")))
    assert ["b@example.net"] == [json.loads(request.body)["To"] for request in server.requests]
    assert Verdict.OK is outcomes[QUEUE_ID, "b@example.net"].verdict
    for address in (odd, "postmaster"):
        outcome = outcomes[QUEUE_ID, address]
        assert (Verdict.PERM_MSG, "5.1.3", True, "relay") == (outcome.verdict, outcome.status, outcome.own, outcome.remote)


async def test_a_preview_is_what_would_be_sent() -> None:
    """Each request as `attempt` sends it, without the token; who is in none of them is named as a hard loss."""
    given = job("b@example.net", '"a b"@example.net', data=mail("To: b@example.net\n"))
    async with HttpServer(lambda _: Response(200, b'{"ErrorCode":0,"Message":"OK"}')) as server:
        await attempt(server, given)
        transport = Postmark(dataclasses.replace(SETTINGS, base_url=server.url), Http(base_url=server.url, timeout=5, concurrency=2))
        [shown] = await transport.preview(given)
    [request] = server.requests
    assert (request.method, server.url + request.path, request.body) == (shown.method, shown.url, shown.body)
    assert "[secret]" == shown.headers["X-Postmark-Server-Token"]
    assert {name: value for name, value in shown.headers.items() if value != "[secret]"}.items() <= {
        name.title(): value for name, value in request.headers.items()
    }.items()
    assert (("b@example.net",), "app@example.com") == (shown.recipients, shown.reverse_path)
    assert ("-H", "X-Postmark-Server-Token: $POSTMARK_TOKEN") == shown.login
    assert '"a b"@example.net gets nothing: Postmark takes no recipient address of this form' in [
        loss.what for loss in shown.losses if loss.grade == "hard"
    ]
    assert TOKEN not in repr(shown)


async def test_who_is_refused_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a reply refuses one of several recipients and names nobody, the next attempt has a request for each."""
    monkeypatch.setattr("relay.transports.rest._APART", 1)
    to = ("a@example.net", "b@bad.example")

    def answer(request: Request) -> Response:
        if b"bad.example" in request.body:
            return Response(422, b'{"ErrorCode":300,"Message":"Error parsing \'To\': Illegal email domain in address"}')
        return Response(200, b'{"ErrorCode":0,"Message":"OK"}')

    async with HttpServer(answer) as server:
        transport = Postmark(SETTINGS, Http(base_url=server.url, timeout=5, concurrency=2))

        async def once(queue_id: str) -> list[tuple[int, Verdict]]:
            prepared = await transport.prepare(job(*to, data=mail(f"To: {', '.join(to)}\n"), queue_id=queue_id))
            return [(len(one.recipients), outcome.verdict) for one in prepared for outcome in (await transport.attempt([one])).values()]

        together = [(2, Verdict.RETRY), (2, Verdict.RETRY)]
        assert together == await once("A")
        assert [(1, Verdict.OK), (1, Verdict.PERM_RCPT)] == await once("A")
        assert together == await once("B")
        assert together == await once("A"), "only so many are remembered"
        await transport.aclose()
