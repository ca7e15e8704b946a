"""What all REST transports share, by the smallest provider there can be. The rest of it is in the tests of each provider."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from relay import verdicts
from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.transports.base import LATER, Batching, Check, Share, Transport, unanswered
from relay.transports.bodies import Body
from relay.transports.http import Answer, Http, HttpTrouble
from relay.transports.rest import Rest, Shown, unreachable
from tests.jobs import HELLO, job
from tests.servers import HttpServer, Request, Response, server_tls


@dataclass(frozen=True)
class Settings:
    """The least that a provider's settings hold."""

    provider: str = "small"
    concurrency: int = 2
    batching: Batching = field(default_factory=lambda: Batching(500, 1000))


@dataclass(frozen=True)
class Letter:
    """A request to some recipients."""

    recipients: tuple[str, ...]
    losses: tuple[Loss, ...] = ()
    refusal: str = ""
    identities: tuple[str, ...] = ("domain=example.com",)
    kind: str = "letter"

    def body(self) -> Body:
        """The recipients."""
        return Body((",".join(self.recipients).encode(),))


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
        return self._read(await self._http.post("/send", {}, request.body()), request)

    async def send_together(self, requests: Sequence[Letter]) -> Sequence[Mapping[str, Outcome]] | None:
        answer = await self._http.post("/batch", {}, b";".join(request.body().whole() for request in requests))
        return None if answer.status == 422 else [self._read(answer, request) for request in requests]

    async def look(self) -> Sequence[Check]:
        answer = await self._http.get("/me", {})
        return [Check("login", answer.status == 200, str(answer.status))]

    @staticmethod
    def _read(answer: Answer, request: Letter) -> Mapping[str, Outcome]:
        taken = answer.status == 200
        verdict = Verdict.OK if taken else verdicts.http(answer.status, documented=True)
        outcome = Outcome(verdict, verdicts.status(verdict), str(answer.status), answer.remote)
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


@pytest.mark.parametrize(("octets", "here"), [(0, True), (64 * 1024, False)])
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


def small(server: HttpServer) -> Small:
    """The transport for a local server."""
    return Small(Http(base_url=server.url, timeout=5, concurrency=1))


async def prepared(transport: Small, *addresses: str) -> list[Job]:
    """A prepared job for each address, each of a message of its own."""
    jobs = [replace(job(address), queue_id=f"{number:014X}") for number, address in enumerate(addresses)]
    return [one for each in jobs for one in await transport.prepare(each)]


LETTERS = tuple(f"{name}@example.net" for name in "abcdefgh")


async def test_a_batch_is_one_request() -> None:
    """Jobs that are attempted together leave in one request, and each recipient has an outcome."""
    async with HttpServer([Response(200, b"{}")]) as server:
        transport = small(server)
        outcomes = await transport.attempt(await prepared(transport, *LETTERS))
        await transport.aclose()
    assert [b";".join(address.encode() for address in LETTERS)] == [request.body for request in server.requests]
    assert {(f"{number:014X}", address) for number, address in enumerate(LETTERS)} == outcomes.keys()


async def test_what_a_job_takes_of_a_batch() -> None:
    """Its kind and its octets; a request that is refused, or of no kind, goes alone."""
    transport = Small(Http(base_url="https://api.example.com", timeout=5, concurrency=1))
    (one,) = await prepared(transport, "a@example.net")
    assert Share("letter", len("a@example.net") + 1) == transport.share(one)
    assert None is transport.share(replace(one, plan=Letter(("a@example.net",), refusal="no such form")))
    assert None is transport.share(replace(one, plan=Letter(("a@example.net",), kind="")))


async def test_the_message_to_blame_for_a_refused_batch_is_found() -> None:
    """A batch that is refused as a whole is halved: the bad message is refused alone, every other one is relayed."""

    def answer(request: Request) -> Response:
        bad = b"e@example.net" in request.body
        return Response(422 if request.path == "/batch" else 413, b"{}") if bad else Response(200, b"{}")

    async with HttpServer(answer) as server:
        transport = small(server)
        outcomes = await transport.attempt(await prepared(transport, *LETTERS))
        await transport.aclose()
    assert {"e@example.net": Verdict.PERM_MSG} | dict.fromkeys({*LETTERS} - {"e@example.net"}, Verdict.OK) == {
        address: outcome.verdict for (_, address), outcome in outcomes.items()
    }
    assert ["/batch"] * 5 + ["/send"] * 2 == sorted(request.path for request in server.requests)


async def test_what_stops_one_half_stops_the_other() -> None:
    """While a refused batch is halved, a finding about the provider ends it: the rest is not sent and shares the finding."""
    async with HttpServer([Response(422, b"{}"), Response(401, b"{}")]) as server:
        transport = small(server)
        outcomes = await transport.attempt(await prepared(transport, *LETTERS))
        await transport.aclose()
    assert (2, {Verdict.PAUSE}) == (len(server.requests), {outcome.verdict for outcome in outcomes.values()})


async def test_a_batch_without_an_answer() -> None:
    """A batch that was sent and not answered may have been taken: all of it stays with its provider."""
    async with HttpServer([b""]) as server:
        transport = small(server)
        outcomes = await transport.attempt(await prepared(transport, *LETTERS))
        await transport.aclose()
    assert {Verdict.UNKNOWN} == {outcome.verdict for outcome in outcomes.values()}


async def test_a_probe_asks_a_question() -> None:
    """It says whether the provider is reached, and what it answers."""
    async with HttpServer([Response(401, b"{}")]) as server:
        transport = small(server)
        found = await transport.probe()
        await transport.aclose()
    assert [("connect", True), ("login", False)] == [(check.what, check.ok) for check in found]
    assert f"127.0.0.1[127.0.0.1]:{server.port}" == found[0].text
    gone = await transport.probe()
    await transport.aclose()
    assert [("connect", False, "plug it in")] == [(check.what, check.ok, check.mend) for check in gone]


async def test_a_probe_that_asks_nothing() -> None:
    """Where nobody was asked, for want of keys, say, nothing is told about the connection."""

    class Without(Small):
        async def look(self) -> Sequence[Check]:
            return [Check("login", False, "no keys", "get some")]

    found = await Without(Http(base_url="https://api.example.com", timeout=5, concurrency=1)).probe()
    assert [("connect", None, "api.example.com[unknown]:443"), ("login", False, "no keys")] == [
        (check.what, check.ok, check.text) for check in found
    ]


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("unable to get local issuer certificate", "is not of an authority that this system trusts"),
        ("self-signed certificate in certificate chain", "is not of an authority that this system trusts"),
        ("Hostname mismatch, certificate is not valid for 'api.example.com'.", "another host's than api.example.com: check base_url"),
        ("IP address mismatch, certificate is not valid for '192.0.2.1'.", "another host's than api.example.com: check base_url"),
        ("certificate has expired", "is not valid at this time: check this host's clock"),
        ("certificate is not yet valid", "is not valid at this time: check this host's clock"),
    ],
)
def test_a_refused_certificate_is_not_the_network(said: str, mend: str) -> None:
    """What is wrong with it, and what to do."""
    trouble = HttpTrouble("tls", f"cannot connect: certificate not accepted: {said}", "api.example.com[unknown]:443")
    found = unreachable(trouble, "plug it in")
    assert mend in found
    assert "network" not in found
    assert "plug it in" == unreachable(HttpTrouble("tls", "cannot connect: TLS failed: wrong version number", "x"), "plug it in")


async def test_a_certificate_of_an_unknown_authority() -> None:
    """A probe and the pause name it alike."""
    async with HttpServer(tls=server_tls()) as server:
        transport = small(server)
        (check,) = await transport.probe()
        (outcome,) = (await transport.attempt(await prepared(transport, "a@example.net"))).values()
        await transport.aclose()
    assert ("connect", False) == (check.what, check.ok)
    assert "the certificate of 127.0.0.1 is not of an authority that this system trusts" in check.mend
    assert (Verdict.PAUSE, check.mend) == (outcome.verdict, outcome.mend)


@pytest.mark.parametrize(
    ("status", "own", "ok", "mend"),
    [
        (200, False, False, "this is no answer of the API: check base_url (https://api.example.com), and what stands in between"),
        (404, False, False, "this is no answer of the API: check base_url (https://api.example.com), and what stands in between"),
        (422, True, None, ""),
        *(
            (status, own, None, f"{LATER}: the provider, or what stands before it, has trouble now")
            for status in (408, 500, 503)
            for own in (0, 1)
        ),
        (429, False, None, f"{LATER}: it asks to be asked less often"),
    ],
)
def test_a_question_without_its_answer(status: int, own: bool, ok: bool | None, mend: str) -> None:
    """Something else in the provider's place fails; trouble that passes tells nothing."""
    assert Check("login", ok, "x", mend) == unanswered("login", "x", status, "https://api.example.com", own=own)


class Single(Small):
    """A provider that has no request for several messages."""

    send_together = Rest.send_together


async def test_a_provider_without_such_requests() -> None:
    """Jobs that are attempted together all the same go one by one."""
    async with HttpServer([Response(200, b"{}")]) as server:
        transport = Single(Http(base_url=server.url, timeout=5, concurrency=1))
        outcomes = await transport.attempt(await prepared(transport, *LETTERS))
        await transport.aclose()
    assert (["/send"] * 8, {Verdict.OK}) == ([one.path for one in server.requests], {outcome.verdict for outcome in outcomes.values()})
