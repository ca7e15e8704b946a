"""Every documented error of every provider: what it leads to, from a local server through delivery to log, queue and bounce."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from botocore.session import Session  # type: ignore[import-untyped] # it has no types

from relay.log import NOISY
from relay.model import Outcome, Verdict
from relay.transports.base import Batching
from relay.transports.postmark import reply as postmark
from relay.transports.sesv2.reply import CODES
from tests.fakes import FakeTransport
from tests.follows import FOLDER, TAKEN, Case, Row, api, follow, rows, submit
from tests.jobs import job
from tests.servers import HttpServer, Request, Response
from tests.test_delivery import Stage

ROWS = {path.stem: rows(path.stem) for path in sorted(FOLDER.glob("*.json"))}
CASES = {name: [case for row in found for case in row.cases] for name, found in ROWS.items()}
MADE_HERE = {"TemplateAccessDenied", "IdentityAccessDenied", "TenantSendingPaused", "TenantLacksResource"}  # codes that are no answer's


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


@pytest.mark.parametrize("case", [case for found in CASES.values() for case in found], ids=str)
async def test_what_follows(stage: Stage, tmp_path: Path, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """A documented error gives its class, its log line, its standing and mend, a bounce or a pause, and the next to try; no log, at its
    loudest, holds a secret."""
    caplog.set_level(logging.DEBUG)
    for name in NOISY:
        caplog.set_level(logging.WARNING, name)
    requests = await follow(stage, tmp_path, case)
    assert "canary" not in caplog.text
    if case.door == "lowcodeapi":  # the one that has its token in the URL; no answer leads to another
        paths = {cast(Request, request).path for request in requests}
        assert {"/awsses/v2/email/outbound-emails?api_token=at_canary-00000000"} == paths


@pytest.mark.parametrize("row", [row for found in ROWS.values() for row in found], ids=lambda row: f"{row.door}: {row.name}")
def test_the_class_is_the_documented_one(row: Row) -> None:
    """Or the row says why it is another."""
    assert row.cases
    assert row.why or {case.verdict.value for case in row.cases} <= set(row.classes)


def refused(case: Case) -> Response:
    """The answer of a case of an API."""
    return cast(Response, case.answer)


def test_every_code_of_amazon_is_met() -> None:
    """Each error that Amazon's model has for SendEmail, and each in the table of its replies, is the answer of a case."""
    met = set()
    for case in CASES["ses"]:
        body = json.loads(refused(case).body)
        code = refused(case).headers.get("x-amzn-ErrorType") or body.get("__type") or body.get("code") or ""
        met.add(code.partition(":")[0].rpartition("#")[2].removesuffix("Exception"))
    model = Session().get_service_model("sesv2").operation_model("SendEmail")
    assert {shape.name.removesuffix("Exception") for shape in model.error_shapes} <= met
    assert CODES - MADE_HERE <= met


def test_every_code_of_postmark_is_met() -> None:
    """Each pair of HTTP status and ErrorCode in the table of its replies is the answer of a case."""
    bodies = [(refused(case).status, refused(case).body) for case in CASES["postmark"]]
    met = {(status, json.loads(body).get("ErrorCode")) for status, body in bodies if body.startswith(b"{")}
    assert postmark.CODES <= met


@pytest.mark.parametrize("door", CASES)
def test_every_class_is_met(door: str) -> None:
    """By each provider; and what is the account's or the rate's pauses somebody, what is the message's nobody."""
    found = {case.verdict for case in CASES[door]}
    assert {Verdict.PERM_MSG, Verdict.PERM_RCPT, Verdict.RETRY, Verdict.THROTTLE, Verdict.PAUSE, Verdict.CONFIG} <= found
    assert all(bool(case.about) is (case.verdict in (Verdict.PAUSE, Verdict.CONFIG, Verdict.THROTTLE)) for case in CASES[door])


# --- the same in a batch ---


def in_a_batch(door: str) -> list[Case]:
    """The refusals of one message that may stand among the results of a batch."""
    status = {"postmark": 422, "mailtrap": 400, "paubox": 200}[door]
    plain = [case for case in CASES[door] if not (case.fields or case.others or case.settings)]
    shaped = b'{"success"' if door == "mailtrap" else b"{"  # its results say so; one that does not may have been taken
    return [case for case in plain if refused(case).status == status and refused(case).body.startswith(shaped)]


def together(door: str, *results: bytes) -> bytes:
    """The answer to a batch."""
    listed = b"[" + b",".join(results) + b"]"
    return {"postmark": listed, "mailtrap": b'{"success":true,"responses":' + listed + b"}", "paubox": b'{"messages":' + listed + b"}"}[
        door
    ]


@pytest.mark.parametrize("case", [case for door in ("postmark", "mailtrap", "paubox") for case in in_a_batch(door)], ids=str)
async def test_a_result_of_a_batch(case: Case) -> None:
    """A refusal among the results of a batch, by HTTP status 200, means what it means alone, and nothing for its neighbours."""
    body = together(case.door, TAKEN[case.door], refused(case).body, TAKEN[case.door])
    async with HttpServer([Response(200, body)]) as server:
        transport = api(case.door, server.url, settings={"batching": Batching(10, 10_000_000, 0.2)})
        jobs = [replace(job("a@example.net"), queue_id=f"{number:014X}") for number in range(3)]
        prepared = [part for one in jobs for part in await transport.prepare(one)]
        outcomes = await transport.attempt(prepared)
        await transport.aclose()
    found: list[Outcome] = [outcomes[one.queue_id, "a@example.net"] for one in jobs]
    assert ["OK 2.0.0", case.outcome, "OK 2.0.0"] == [f"{outcome.verdict} {outcome.status}" for outcome in found]
    assert "canary" not in repr(outcomes)


# --- what several answers mean together ---


async def test_two_domains_that_mailtrap_refuses_alike(stage: Stage) -> None:
    """401 for two mails pauses their From domain, the same for another domain the provider; what Mailtrap takes again ends both."""
    unauthorized = Response(401, b'{"success":false,"errors":["Unauthorized"]}')
    async with HttpServer([*[unauthorized] * 4, Response(200, TAKEN["mailtrap"])]) as server:
        transport = api("mailtrap", server.url)
        stage.transports["door"] = cast(FakeTransport, transport)  # a real one in the place of a fake
        stage.route("door")
        case = Case("mailtrap", "", unauthorized, "", "")
        async with stage.running() as delivery:
            ids = [await submit(stage, case), await submit(stage, case)]
            await stage.events.wait("identity_paused", identity="domain=example.com")
            ids += [await submit(stage, case, sender="app@other.example"), await submit(stage, case, sender="app@other.example")]
            await stage.events.wait("paused")
            (standing,) = await delivery.providers()
            assert ("paused", "401 Unauthorized: Unauthorized") == (standing.state, standing.reason)
            assert standing.mend.startswith("check the token (17 characters)")
            stage.pass_time(3700)
            for queue_id in ids:
                await stage.events.wait("removed", queue_id=queue_id)
            assert ["up"] == [one.state for one in await delivery.providers()]
        await transport.aclose()
    assert [] == await stage.bounces()


async def test_a_clock_that_is_wrong(stage: Stage) -> None:
    """A request that Amazon refuses for its time goes out once more by Amazon's clock, and is sent."""
    late = Response(403, b'{"message":"x"}', {"x-amzn-ErrorType": "RequestTimeTooSkewed", "Date": "Fri, 20 Nov 2020 10:00:00 GMT"})
    async with HttpServer([late, Response(200, TAKEN["ses"])]) as server:
        transport = api("ses", server.url)
        stage.transports["door"] = cast(FakeTransport, transport)  # a real one in the place of a fake
        stage.route("door")
        async with stage.running():
            queue_id = await submit(stage, Case("ses", "", late, "", ""))
            (line,) = await stage.events.wait("attempt", queue_id=queue_id)
        await transport.aclose()
    assert ("sent", 2) == (line["status"], len(server.requests))
