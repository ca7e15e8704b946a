"""Two providers, one of them in trouble: what moves on, what waits, what stays, and that nothing is lost or doubled unannounced."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apis import postmark_messages, postmark_takes
from tests.e2e.processes import Host, host, send
from tests.faults import harness
from tests.servers import Act, Answer, HttpServer, Request, Response, SmtpServer

pytestmark = pytest.mark.e2e

MAIL = b"From: app@example.com\r\nTo: a@example.net\r\nSubject: hello\r\n\r\nThe text.\r\n"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


def pair(first: int, second: int) -> str:
    """Two smarthosts on these ports."""
    return (
        "{"
        + ", ".join(
            f"{name}: {{type: smtp, host: 127.0.0.1, port: {port}, tls: none}}" for name, port in (("first", first), ("second", second))
        )
        + "}"
    )


VIA = "routes: [{name: default, via: [first, second]}]\n"


async def test_a_wrong_token_pauses_loudly_and_bounces_nothing(here: Host) -> None:
    """401 from the API: one line, everything waits; with the right token and a restart everything goes out once."""

    def answer(request: Request) -> Response:
        if request.headers["x-postmark-server-token"] != "right-fake-token":
            return Response(401, json.dumps({"ErrorCode": 10, "Message": "Bad or missing API token."}).encode())
        return postmark_takes(request)

    async with HttpServer(answer) as server:
        here.configure(f'{{postmark: {{token: "wrong-fake-token", base_url: "{server.url}", limits: {{concurrency: 1}}}}}}')
        daemon = await here.serve()
        port = await daemon.port()
        for number in range(10):
            await send(port, MAIL, [f"r{number}@example.net"])
        line = await daemon.line("provider postmark paused: .*")
        assert "token" in line[0]
        [status] = (await here.relay("status", "--json")).objects
        assert ["paused"] == [provider["state"] for provider in status["providers"]]
        await daemon.end()
        assert 1 == sum("paused" in line for line in daemon.lines)
        assert not [line for line in daemon.lines if "status=bounced" in line or "fake-token" in line]
        server.requests.clear()
        here.configure(f'{{postmark: {{token: "right-fake-token", base_url: "{server.url}"}}}}')
        daemon = await here.serve()
        await daemon.drained(10)
        sent = Counter(message["To"] for request in server.requests for message in postmark_messages(request))
    assert {f"r{number}@example.net": 1 for number in range(10)} == sent


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_provider_that_ends_under_load_loses_nothing(here: Host, tmp_path: Path, how: signal.Signals) -> None:
    """The second takes over. Stopped in good order, nothing is doubled; killed, only what it had taken and not answered: that
    stays with it until it is back, and the log says so."""
    books, first_file, second_file = harness.Books(), tmp_path / "first", tmp_path / "second"
    async with harness.sink(second_file, 0.002) as second:
        async with harness.sink(first_file, 0.02, how=how) as first:
            here.configure(pair(first, second), VIA)
            text = here.config.read_text().replace("min_free: 1MB,", "min_free: 1MB, retry: [1s],")
            here.config.write_text(text)
            daemon = await here.serve()
            names = [f"m{number}" for number in range(harness.CLIENTS * 15)]
            loading = asyncio.create_task(harness.load(await daemon.port(), books, random.Random(1), names))
            await daemon.line("relay/first.*status=sent")
        await loading
        assert len(names) == len(books.acked)
        await daemon.line("provider first paused")
        async with harness.sink(first_file, 0.0, first):
            assert 0 == (await here.relay("queue", "retry")).code
            async with asyncio.timeout(20):
                while (await here.relay("queue", "list", "--json")).objects:
                    await here.relay("queue", "retry")
    books.read_sink(first_file, second_file)
    books.read_log("\n".join(daemon.lines))
    print(how.name, books.summary(1))
    assert (set(), set(), 0) == (books.lost, books.unexplained, books.damaged)
    if how is signal.SIGTERM:
        assert set() == books.doubled
    assert len(second_file.read_text().splitlines()) > 0
    assert not [line for line in daemon.lines if "status=bounced" in line]


async def test_a_refusal_is_bounced_and_not_failed_over(here: Host) -> None:
    """550 from the first provider goes back to the sender; the second sees only what is not refused."""

    def rcpt(line: bytes) -> Answer:
        return "550 5.1.1 no such user" if b"nobody" in line else "250 ok"

    async with SmtpServer({"rcpt": rcpt}) as first, SmtpServer() as second:
        here.configure(pair(first.port, second.port), VIA)
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["nobody@example.net"])
        await daemon.line("status=sent")
        [bounce] = first.mails
        assert [] == second.mails
    assert (b"<>", [b"<app@example.com>"]) == (bounce.mail.split(b" ")[0], bounce.rcpts)
    assert b"550 5.1.1 no such user" in bounce.message


async def test_a_connection_cut_after_the_dot_stays_with_its_provider(here: Host) -> None:
    """Nobody else sends it: the first provider gets it again, and the log says that it may come twice."""
    answers: list[Answer] = [Act.CUT, "250 2.0.0 taken"]
    async with SmtpServer({"dot": lambda line: answers.pop(0)}) as first, SmtpServer() as second:
        here.configure(pair(first.port, second.port), VIA)
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await daemon.line("status=deferred .*may be delivered twice")
        assert 0 == (await here.relay("queue", "retry")).code
        await daemon.line("status=sent")
        assert (2, []) == (len(first.mails), second.mails)


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
async def test_a_connection_cut_before_the_dot_is_tried_again_by_the_schedule(here: Host, stage: str) -> None:
    """Surely not taken: deferred, without a word about twice."""
    async with SmtpServer() as first, SmtpServer() as second:
        first.script[stage] = Act.CUT
        here.configure(pair(first.port, second.port), VIA)
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await daemon.line("status=deferred")
        del first.script[stage]
        await here.relay("queue", "retry")
        await daemon.line("status=sent")
        assert ([1], []) == ([len([mail for mail in first.mails if mail.accepted])], second.mails)
        assert not [line for line in daemon.lines if "twice" in line]
