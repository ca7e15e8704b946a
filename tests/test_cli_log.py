"""`relay log`: the story of a message, and the log as it is written."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from relay.cli import exits
from relay.model import Outcome, State, Verdict
from relay.spool.base import Recorded
from tests.commands import Printed, Relay, configuration
from tests.served import MAIL, NOW, SENT, Provider

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


async def test_the_story_of_a_message(relay: Relay) -> None:
    """From whom, to whom, each attempt with provider, reply and remote id, the end."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", SENT)
    maybe = Recorded(Outcome(Verdict.UNKNOWN, "4.4.2", "no answer", "mx[192.0.2.1]:25"), State.QUEUED, NOW + 60, since=NOW)
    await relay.served.attempt(entry, "b@example.net", maybe)
    printed = await relay("log", "one@web1")
    assert [
        f"{entry.queue_id}  accepted 2026-11-20 17:57:01 from localhost[127.0.0.1], listener local",
        f"  from <app@example.com>, {len(MAIL)} B, message-id <one@web1>",
        "  to <a@example.net>: relayed",
        "    2026-11-20 17:57:01  sent      route default, provider ses, mx.example.net[192.0.2.1]:25",
        "        250 ok (dsn 2.0.0, remote id remote-1)",
        "  to <b@example.net>: queued, next attempt 2026-11-20 17:58:01, may have been delivered already",
        "    2026-11-20 17:57:01  deferred  route default, provider ses, mx[192.0.2.1]:25",
        "        no answer: may have been delivered already (dsn 4.4.2)",
    ] == printed.out.splitlines()
    assert printed.out == (await relay("queue", "show", entry.queue_id[:9])).out
    assert "        may have been delivered already" in (await relay("queue")).out.splitlines()
    [found] = await relay.json("log", entry.queue_id)
    assert [found] == await relay.json("queue", "show", entry.queue_id)


async def test_who_waits_for_a_paused_provider(relay: Relay) -> None:
    """List and story say for whom, why and until when; the reason is the provider's where the recipient has none."""
    relay.served.providers = [Provider("postmark", "paused", "401 10 BadToken: no", "", NOW, NOW + 60, 1, 0)]
    entry = await relay.served.store("a@example.net")
    await relay.served.spool.claim(NOW, 10, 60)
    await relay.served.spool.wait(entry.queue_id, ["a@example.net"], "postmark", NOW + 5 * 86400, "postmark", "default")
    why = "waits for postmark: 401 10 BadToken: no; expires 2026-11-25 17:57:01"
    assert ["    to <a@example.net>", f"        {why}"] == (await relay("queue")).out.splitlines()[2:]
    assert f"  to <a@example.net>: queued, {why}" in (await relay("log", entry.queue_id)).out.splitlines()
    [found] = await relay.json("queue")
    assert [None] == [recipient["next_attempt"] for recipient in found["recipients"]]


async def test_more_than_one_message_found(relay: Relay) -> None:
    """Newest first, an empty line between; a very common term says that there is more."""
    ids = [(await relay.served.store("a@example.net")).queue_id for _ in range(21)]
    printed = await relay("log", "a@example.net")
    assert ids[:0:-1] == [line[:14] for line in printed.out.splitlines() if line.startswith("687E")]
    assert "there are more" in printed.err
    assert "" in printed.out.splitlines()


async def test_nothing_found(relay: Relay) -> None:
    """66, and what a term can be."""
    printed = await relay("log", "nobody@example.net")
    assert exits.NO_INPUT == printed.code
    assert "nothing is known about nobody@example.net" in printed.err


LINES = (
    '{"event": "queued", "queue_id": "687E", "line": "Nov 20 relay/qmgr: 687E: from=<a@example.com>"}',
    '{"event": "sent", "to": "Bob@example.net", "line": "Nov 20 relay/smtp: 687E: sent"}',
)


async def tailed(relay: Relay, *arguments: str) -> Printed:
    """What `relay log tail` prints of LINES before the daemon ends."""
    following = asyncio.create_task(relay("log", "tail", *arguments))
    async with asyncio.timeout(10):
        while not relay.served.log.listening:
            await relay.served.ask("GET", "/healthz")
    for line in LINES:
        relay.served.log.put(line)
    await relay.served.admin.stop()
    return await following


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["Nov 20 relay/qmgr: 687E: from=<a@example.com>", "Nov 20 relay/smtp: 687E: sent"]),
        (("bob@",), ["Nov 20 relay/smtp: 687E: sent"]),
        (("A@EXAMPLE",), ["Nov 20 relay/qmgr: 687E: from=<a@example.com>"]),
        (("--json",), ['{"event": "queued", "queue_id": "687E"}', '{"event": "sent", "to": "Bob@example.net"}']),
        (("nothing",), []),
    ],
)
async def test_the_log_as_it_is_written(relay: Relay, arguments: tuple[str, ...], expected: list[str]) -> None:
    """Text lines, or their facts; only those that hold the term. The end of the daemon is an end in order."""
    printed = await tailed(relay, *arguments)
    assert (0, "relay: the daemon has ended\n") == (printed.code, printed.err)
    assert expected == printed.out.splitlines()


async def test_a_daemon_that_is_killed_ends_the_log(relay: Relay, tmp_path: Path) -> None:
    """What was said until then is printed, and nothing of it is a bug."""

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + b'{"line": "one"}\n\r\n5\r\n{"l')
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(dies, "127.0.0.1", 0)
    async with server:
        other = Relay(relay.served, configuration(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), relay.captured)
        printed = await other("log", "tail")
    assert (0, "one\n", "relay: the daemon has ended\n") == (printed.code, printed.out, printed.err)


async def test_following_the_log_ends_with_ctrl_c(relay: Relay) -> None:
    """Exit code 0 and no word."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "log", "tail", "-c", str(relay.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        while not relay.served.log.listening:
            await relay.served.ask("GET", "/healthz")
        relay.served.log.put(LINES[0])
        assert process.stdout is not None
        assert b"Nov 20 relay/qmgr: 687E: from=<a@example.com>\n" == await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (b"", b"") == await process.communicate()
    assert 0 == process.returncode
