"""What all REST transports share, by the smallest provider there can be. The rest of it is in the tests of each provider."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Transport
from relay.transports.http import Http
from relay.transports.rest import Rest, Shown
from tests.jobs import HELLO, job
from tests.servers import HttpServer, Response


@dataclass(frozen=True)
class Settings:
    """The least that a provider's settings hold."""

    provider: str = "small"
    concurrency: int = 2


@dataclass(frozen=True)
class Letter:
    """A request to some recipients."""

    recipients: tuple[str, ...]
    losses: tuple[Loss, ...] = ()
    refusal: str = ""
    identities: tuple[str, ...] = ("domain=example.com",)

    def body(self) -> bytes:
        """The recipients."""
        return ",".join(self.recipients).encode()


class Small(Rest[Letter]):
    """One request for all recipients; any answer but 200 refuses it for now."""

    carries_reports = False

    def __init__(self, http: Http) -> None:
        super().__init__(Settings(), http, unreachable="plug it in")
        self.built_apart: list[bool] = []
        self.built_by: list[threading.Thread] = []

    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[Letter]:
        self.built_apart.append(apart)
        self.built_by.append(threading.current_thread())
        return [Letter(tuple(recipient.address for recipient in job.recipients))]

    async def send(self, request: Letter) -> Mapping[str, Outcome]:
        answer = await self._http.post("/send", {}, request.body())
        taken = answer.status == 200
        verdict, status = (Verdict.OK, "2.0.0") if taken else (Verdict.RETRY, "4.3.0")
        outcome = Outcome(verdict, status, str(answer.status), answer.remote)
        return dict.fromkeys(request.recipients, outcome)

    def show(self, request: Letter) -> Shown:
        return Shown("https://api.example.com/send", {"Authorization": "[secret]"}, ("-H", "Authorization: $TOKEN"))


async def test_three_methods_make_a_transport() -> None:
    """Build, send and show are all that a provider says: the same request is prepared, shown and sent."""
    async with HttpServer([Response(200, b"{}")]) as server:
        small = Small(Http(base_url=server.url, timeout=5, concurrency=1))
        transport: Transport = small
        (prepared,) = await transport.prepare(job("a@example.net", "b@example.net"))
        (shown,) = await transport.preview(job("a@example.net", "b@example.net"))
        outcomes = await transport.attempt([prepared])
        await transport.aclose()
    assert [b"a@example.net,b@example.net"] == [shown.body] == [request.body for request in server.requests]
    assert ["domain=example.com"] == list(transport.identity(prepared))
    assert {Verdict.OK} == {outcome.verdict for outcome in outcomes.values()}


@pytest.mark.parametrize(("octets", "here"), [(0, True), (256 * 1024, False)])
async def test_a_large_message_is_built_beside_the_event_loop(octets: int, here: bool) -> None:
    """Nothing else waits for it."""
    small = Small(Http(base_url="https://api.example.com", timeout=5, concurrency=1))
    await small.prepare(job(data=HELLO + b"z" * octets))
    assert [here] == [thread is threading.current_thread() for thread in small.built_by]


async def test_a_provider_that_names_whom_it_refuses() -> None:
    """Its messages are never sent apart, whatever it answers."""
    async with HttpServer([Response(503, b"{}")]) as server:
        small = Small(Http(base_url=server.url, timeout=5, concurrency=1))
        for _ in range(2):
            outcomes = await small.attempt(await small.prepare(job("a@example.net", "b@example.net")))
            assert {Verdict.RETRY} == {outcome.verdict for outcome in outcomes.values()}
        await small.aclose()
    assert [False, False] == small.built_apart
