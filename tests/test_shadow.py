"""Shadows: what a second provider would make of a route's mail, and that nothing of it leaves by accident."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.delivery import shadow
from relay.delivery.shadow import AT_ONCE, LARGE, LINE, REST, Shadows
from relay.errors import SpoolError
from relay.metrics import Metrics
from relay.model import Edit, EditKind, Job, Verdict
from relay.routing import Route
from relay.transports.base import Transport
from relay.transports.http import Http
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.smtp import Smtp, SmtpSettings
from tests import apis
from tests.e2e.processes import host, send
from tests.fakes import FakeTransport, RecordingEvents, always
from tests.jobs import HELLO, MemoryMessage, job
from tests.messages import ALL, ANN
from tests.servers import HttpServer, SmtpServer
from tests.spools import Clock
from tests.test_metrics import page

SECRET = "not-a-real-token"
ROUTE = Route("default", ("first",), shadow="second")
SIGNED = next(sample.data for sample in ALL if b"multipart/signed" in sample.data)


class Trial:
    """Shadows of one route, with everything that can be seen of them."""

    def __init__(self, second: Transport | None, sandboxes: Sequence[str] = ()) -> None:
        self.transports: dict[str, Transport | None] = {"second": second}
        self.events = RecordingEvents()
        self.metrics = Metrics()
        self.clock = Clock()
        self.shadows = Shadows(
            transport_of=self.transports.get,
            routes=[ROUTE],
            sandboxes=sandboxes,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
        )

    async def run(self, one: Job, route: Route = ROUTE) -> bool:
        """Try one job to its end; whether there was anything to try."""
        task = self.shadows.begin(one, route)
        await self.shadows.end(task)
        return task is not None

    @property
    def counted(self) -> dict[str, int]:
        """Result -> messages, as status and the metrics say it."""
        [total] = self.shadows.totals
        found = {result: getattr(total, result) for result in ("carried", "lossy", "refused", "failed")}
        metrics = page(self.metrics)
        names = {result: f'relay_shadow_messages_total{{provider="second",result="{result}",route="default"}}' for result in found}
        assert found == {result: metrics.get(name, 0) for result, name in names.items()}
        return {result: count for result, count in found.items() if count}


@asynccontextmanager
async def mailtrap(server: HttpServer, **settings: object) -> AsyncIterator[Mailtrap]:
    """The real transport to a local server."""
    known = MailtrapSettings("second", SECRET, base_url=server.url, **settings)  # type: ignore[arg-type]
    http = Http(base_url=server.url, timeout=5.0, concurrency=2)
    transport = Mailtrap(known, {stream: http for stream in known.doors})
    try:
        yield transport
    finally:
        await transport.aclose()


async def test_nothing_leaves_to_an_api() -> None:
    """All messages of ours are built, and the provider's server sees no connection."""
    async with HttpServer() as server, mailtrap(server) as transport:
        trial = Trial(transport)
        for number, sample in enumerate(ALL):
            assert await trial.run(job(*sample.recipients, data=sample.data, sender=sample.reverse_path, queue_id=f"{number:014X}"))
        assert (0, []) == (server.connections, server.requests)
    assert len(ALL) == sum(trial.counted.values())
    assert {"carried", "lossy", "refused"} == trial.counted.keys()
    told = trial.events.found("shadowed")
    assert trial.counted["refused"] == sum(bool(line["refused"]) for line in told)
    assert trial.counted["lossy"] == sum(bool(line["losses"]) and not line["refused"] for line in told)
    assert len(trial.events.lines) == len(told)


async def test_nothing_leaves_by_smtp() -> None:
    """Nor is a mail server connected to."""
    async with SmtpServer() as server:
        transport = Smtp(SmtpSettings("second", server.host, server.port, "relay.test", tls="none"))
        trial = Trial(transport)
        assert await trial.run(job())
        await transport.aclose()
        assert 0 == server.connections
    assert {"carried": 1} == trial.counted


async def test_what_is_refused_and_what_is_lost() -> None:
    """One line each, an example for status, and none for what is carried."""
    async with HttpServer() as server:
        async with mailtrap(server) as strict:
            trial = Trial(strict)
            await trial.run(job(data=SIGNED, queue_id="A"))
        async with mailtrap(server, on_loss="warn") as lax:
            trial.transports["second"] = lax
            await trial.run(job(data=SIGNED, queue_id="B"))
            await trial.run(job(queue_id="C"))
        assert 0 == server.connections
    assert {"refused": 1, "lossy": 1, "carried": 1} == trial.counted
    refused, lossy = trial.events.found("shadowed")
    assert ("A", "second", "default", []) == (refused["queue_id"], refused["provider"], refused["route"], refused["losses"])
    assert "the signature of multipart/signed would break" in str(refused["refused"])
    assert ("B", []) == (lossy["queue_id"], lossy["refused"])
    assert "the signature of multipart/signed would break" in str(lossy["losses"])
    assert trial.shadows.totals[0].example.startswith("B: the signature of multipart/signed would break")


async def test_the_edits_of_the_job_are_applied() -> None:
    """What the second provider would get is what the first one gets: here a field that only the edits bring."""
    seen: list[Job] = []

    class Looking(FakeTransport):
        async def prepare(self, job: Job) -> Sequence[Job]:
            seen.append(job)
            return await super().prepare(job)

    edit = Edit(EditKind.PREPEND, "X-Redirected: yes\r\n")
    await Trial(Looking("second")).run(replace(job(edits=[edit]), plan="somebody else's"))
    assert [((edit,), None)] == [(one.edits, one.plan) for one in seen]


async def test_a_sandbox_is_sent_to() -> None:
    """Once, with the outcome in log and counts only."""
    account = apis.Mailtrap(SECRET)
    async with HttpServer(account) as server, mailtrap(server, stream="sandbox", sandbox_id="1") as transport:
        trial = Trial(transport, ["second"])
        assert await trial.run(job(queue_id="A"))
        assert not await trial.run(job(queue_id="A"))
        assert ["A"] == [taken.queue_id for taken in account.taken]
        account.says = lambda request: account.refused(400, "no such sandbox")
        await trial.run(job(queue_id="B"))
    assert {"carried": 1, "failed": 1} == trial.counted
    took, refused = trial.events.found("shadow_answered")
    assert ("A", True) == (took["queue_id"], took["ok"])
    assert ("B", False) == (refused["queue_id"], refused["ok"])
    assert "no such sandbox" in str(refused["reply"])
    assert "no such sandbox" in trial.shadows.totals[0].example
    assert ["shadow_answered"] * 2 == [line["event"] for line in trial.events.lines]


async def test_a_sandbox_that_is_down_is_asked_once_for_a_message() -> None:
    """Several requests of one message end with the first that shows that nothing gets through."""
    second = FakeTransport("second", always(Verdict.PAUSE), split=True)
    trial = Trial(second, ["second"])
    await trial.run(job("a@example.net", "b@example.net"))
    assert 1 == len(second.attempts)
    assert {"failed": 1} == trial.counted


async def test_each_recipient_once() -> None:
    """Retries of the first provider do not repeat the shadow; a recipient that is new to it is tried alone."""
    second = FakeTransport("second")
    trial = Trial(second, ["second"])
    assert await trial.run(job("a@example.net", "b@example.net"))
    assert not await trial.run(job("b@example.net"))
    assert await trial.run(job("b@example.net", "c@example.net"))
    assert await trial.run(job("b@example.net", queue_id="another"))
    assert [["a@example.net", "b@example.net"], ["c@example.net"], ["b@example.net"]] == [
        [one.address for one in attempted.recipients] for attempted in second.attempts
    ]


async def test_what_was_tried_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten."""
    monkeypatch.setattr(shadow, "REMEMBERED", 2)
    trial = Trial(FakeTransport("second"))
    assert [True] * 3 == [await trial.run(job(queue_id=name)) for name in "ABC"]
    assert [False, False, True] == [await trial.run(job(queue_id=name)) for name in "CBA"]


async def test_no_shadow() -> None:
    """A route without one, and one whose provider a reload took away."""
    trial = Trial(None)
    assert not await trial.run(job())
    assert not await trial.run(job(), replace(ROUTE, shadow=""))
    assert {} == trial.counted


async def test_so_many_at_once_and_the_rest_in_turn() -> None:
    """Those beyond wait; those beyond the line are dropped, and the log says how many."""
    second = FakeTransport("second")
    second.gate.clear()
    trial = Trial(second, ["second"])
    tasks = [trial.shadows.begin(job(queue_id=str(number)), ROUTE) for number in range(LINE + 3)]
    assert [None] * 3 == tasks[LINE:]
    await second.reached(AT_ONCE)
    assert AT_ONCE == second.busy
    second.gate.set()
    for task in tasks:
        await trial.shadows.end(task)
    assert AT_ONCE == second.busiest
    assert {"carried": LINE} == trial.counted
    assert [1] == [line["count"] for line in trial.events.found("shadows_dropped")]  # the others when a minute is over
    trial.clock.now += REST
    assert await trial.run(job(queue_id=str(LINE)))  # was not tried, so it may be


async def test_large_messages_go_one_by_one() -> None:
    """So that memory stays flat."""
    second = FakeTransport("second")
    second.gate.clear()
    trial = Trial(second, ["second"])
    large = MemoryMessage(b"Subject: x\r\n\r\n" + b"y" * LARGE)
    tasks = [trial.shadows.begin(replace(job(queue_id=str(number)), message=large), ROUTE) for number in range(3)]
    await second.reached(1)
    second.gate.set()
    for task in tasks:
        await trial.shadows.end(task)
    assert (1, {"carried": 3}) == (second.busiest, trial.counted)


async def test_a_shadow_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time; then it is left alone for a while, so that mail does not wait for it again and again."""
    monkeypatch.setattr(shadow, "WAIT", 0.01)
    second = FakeTransport("second")
    second.gate.clear()
    trial = Trial(second, ["second"])
    waits, task = (trial.shadows.begin(job(queue_id=name), ROUTE) for name in "AB")
    assert waits is not None
    await second.reached(2)
    await trial.shadows.end(task)
    assert [1] == [line["count"] for line in trial.events.found("shadows_dropped")]
    assert not await trial.run(job(queue_id="C"))
    second.gate.set()
    await trial.shadows.end(waits)
    trial.clock.now += REST
    assert await trial.run(job(queue_id="C"))
    assert {"carried": 2} == trial.counted
    assert not await trial.run(job(queue_id="B"))  # the sandbox may have it


async def test_those_in_line_do_not_go_to_one_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for a turn meanwhile is dropped."""
    monkeypatch.setattr(shadow, "WAIT", 0.01)
    second = FakeTransport("second")
    second.gate.clear()
    trial = Trial(second, ["second"])
    tasks = [trial.shadows.begin(job(queue_id=str(number)), ROUTE) for number in range(AT_ONCE + 1)]
    await second.reached(AT_ONCE)
    await trial.shadows.end(tasks[0])
    second.gate.set()
    for task in tasks[1:]:
        await trial.shadows.end(task)
    assert {"carried": AT_ONCE - 1} == trial.counted
    assert AT_ONCE == len(second.attempts)


async def test_a_message_that_goes_no_further_is_tried_with_its_next_attempt() -> None:
    """Cancelled before anything of it left, it leaves its place to others and may be begun again."""
    trial = Trial(FakeTransport("second"))
    for _ in range(LINE + 1):
        task = trial.shadows.begin(job(), ROUTE)
        assert task is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await trial.run(job())
    assert ({"carried": 1}, []) == (trial.counted, trial.events.lines)


async def test_an_error_of_ours_stays_with_the_shadow() -> None:
    """It is told and counted; one of a transport that a reload closed meanwhile is not; nor a message that cannot be read."""

    def script(job: Job, address: str) -> Exception:
        if job.queue_id == "B":
            trial.transports["second"] = FakeTransport("second", lambda job, address: SpoolError("gone"))
        return ValueError("no")

    trial = Trial(FakeTransport("second", script), ["second"])
    await trial.run(job(queue_id="A"))
    assert ["A: the shadow second"] == [line["text"] for line in trial.events.found("bug")]
    assert ({"failed": 1}, "A: ValueError") == (trial.counted, trial.shadows.totals[0].example)
    await trial.run(job(queue_id="B"))
    await trial.run(job(queue_id="C"))
    assert {"failed": 1} == trial.counted
    assert 1 == len(trial.events.lines)


async def test_counts_stay_as_long_as_the_route_has_that_shadow() -> None:
    """A reload that changes nothing of it keeps them; what is under way meanwhile harms nobody."""
    trial = Trial(FakeTransport("second"))
    await trial.run(job(queue_id="A"))
    trial.shadows.configure([ROUTE, Route("other", ("first",), shadow="third"), Route("none", ("first",))], [])
    assert [("default", "second", 1), ("other", "third", 0)] == [(one.route, one.provider, one.carried) for one in trial.shadows.totals]
    task = trial.shadows.begin(job(queue_id="B"), ROUTE)
    trial.shadows.configure([], [])
    await trial.shadows.end(task)
    assert () == trial.shadows.totals


async def test_a_reload_decides_who_is_a_sandbox() -> None:
    """One that is no sandbox any more gets nothing."""
    second = FakeTransport("second")
    trial = Trial(second, ["second"])
    trial.shadows.configure([ROUTE], [])
    await trial.run(job())
    assert [] == second.attempts


async def test_a_provider_that_a_reload_makes_a_sandbox_was_none_before() -> None:
    """What had begun with the one that delivers to people is not sent to it, though its name is that of a sandbox now."""
    people, sandbox = FakeTransport("second"), FakeTransport("second")
    trial = Trial(people)
    task = trial.shadows.begin(job(), ROUTE)
    trial.transports["second"] = sandbox
    trial.shadows.configure([ROUTE], ["second"])
    await trial.shadows.end(task)
    assert ([], []) == (people.attempts, sandbox.attempts)


@pytest.mark.e2e
async def test_a_daemon_tries_its_mail_with_the_shadow(tmp_path: Path) -> None:
    """Delivered by the first provider, built for the second, which hears nothing; status has the totals."""
    async with SmtpServer() as first, HttpServer() as second, host(tmp_path) as here:
        pair = (
            f"{{first: {{type: smtp, host: 127.0.0.1, port: {first.port}, tls: none}}, "
            f'second: {{type: mailtrap, mode: api, token: {SECRET}, base_url: "{second.url}"}}}}'
        )
        here.configure(pair, "routes: [{name: default, via: first, shadow: second}]\n")
        daemon = await here.serve()
        port = await daemon.port()
        for data in (HELLO, SIGNED):
            await send(port, data, [ANN])
        await daemon.drained(2)
        [status] = (await here.relay("status", "--json")).objects
    [total] = status["shadows"]
    assert ("default", "second", 1) == (total["route"], total["provider"], total["refused"])
    assert 2 == total["carried"] + total["lossy"] + total["refused"]
    assert (2, 0) == (len(first.mails), second.connections)
    assert 1 <= sum("second would refuse it: " in line for line in daemon.lines)
