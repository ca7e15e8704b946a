"""`relay status`, `test` and `reload`, against a daemon, over TCP, and against one that is down."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import time
from pathlib import Path

import pytest

from relay.budgets import Usage
from relay.cli import door, exits, offline
from relay.cli.main import main
from relay.cli.verbs import trial
from relay.config import AdminConfig
from relay.errors import SpoolError
from relay.model import Outcome, State, Verdict
from relay.spool.base import Recorded
from tests.commands import Relay, configuration, write
from tests.served import DEFERRED, NOW, SENT, Provider, Ramp, Shadow

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


async def test_status_in_words(relay: Relay) -> None:
    """Accepting, listeners, providers with their trouble, the queue."""
    relay.served.providers = [
        Provider("ses", "paused", "535 5.7.8 no", "check username and password", NOW - 5, NOW + 60, 2, 1),
        Provider("b", "up", "", "", 0, 0, 0, 0),
    ]
    await relay.served.store("a@example.net", "b@example.net")
    printed = await relay("status")
    assert (0, "") == (printed.code, printed.err)
    lines = [line.partition(", up ")[0] for line in printed.out.splitlines()]
    assert "relay 0.1.0 on relay.example.com, pid 812" == lines[0]
    assert "accepting mail: yes" == lines[1]
    assert "local     127.0.0.1:1025" in lines
    assert "ses       paused          1        2" in lines
    assert ["    535 5.7.8 no", "    to mend it: check username and password"] == lines[lines.index("    535 5.7.8 no") :][:2]
    assert "2           active  -" in lines
    assert lines[-1].startswith("1 in the queue; oldest: active ")


async def test_status_tells_budgets_ramps_and_shadows(relay: Relay) -> None:
    """An admin's pause with its end, a first finding, what is spent, shares and steps back, what shadows showed."""
    relay.served.providers = [
        Provider("ses", "paused", "moving to b", since=time.time() - 720, by_admin=True, waiting=2),
        Provider("b", suspect="401 no", usage=[Usage("14/s", 3, 14, None, "recipients"), Usage("daily", 200, 200, NOW, "messages")]),
    ]
    relay.served.ramps = [Ramp("default", {"ses": 0.5, "b": 0.5}), Ramp("late", {"b": 1.0}, NOW, 90_000.0)]
    relay.served.shadows = [Shadow("default", "mailtrap", 1_234)]
    lines = (await relay("status")).out.splitlines()
    at = lines.index("ses       paused          0        2")
    assert [
        "    for 12m, until it is resumed",
        "    paused by an admin: moving to b",
        "    to end it: relay provider resume ses",
        "b         up              0        0",
        "    suspect: one message met: 401 no; one more pauses it",
        "    budget 14/s: 3 of 14 recipients",
        "    budget daily: 200 of 200 messages, used up until 2026-11-20 17:57:01",
        "",
        "ramp of route default: ses 50 %, b 50 %",
        "ramp of route late: b 100 %; ends 2026-11-20 17:57:01",
        "    stepped back, 1d behind its dates",
        "",
        "shadow mailtrap of route default: 1,234 as they are, 0 with losses, 0 refused, 0 failed",
        "",
        "the queue is empty",
    ] == lines[at + 1 :]


async def test_a_probe_time_that_is_over(relay: Relay) -> None:
    """With nobody waiting the next message is the probe; with somebody it goes any moment."""
    relay.served.providers = [
        Provider("ses", "paused", "535 no", "", NOW - 60, 1000.0, 0, 0),
        Provider("b", "paused", "535 no", "", NOW - 60, 1000.0, 1, 0),
    ]
    lines = (await relay("status")).out.splitlines()
    assert ["the next message tries it", "next try 1970-01-01 00:16:40"] == [
        line.partition(", ")[2] for line in lines if line.startswith("    for ")
    ]


async def test_a_daemon_is_found_while_its_file_has_mistakes(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the file does not hide the queue; without a daemon at the usual address the slip is told."""
    write(relay.config, "providers: [\n")
    assert exits.CONFIG == (await relay("status")).code
    monkeypatch.setattr(door, "USUAL_ADMIN", f"unix:{relay.served.unix}")
    printed = await relay("status")
    assert (exits.OK, f"relay: {relay.config} has mistakes (relay check {relay.config}); asking the daemon at") == (
        printed.code,
        printed.err.partition(" unix:")[0],
    )
    assert "accepting mail: yes" in printed.out.splitlines()


async def test_status_as_json_is_one_object(relay: Relay) -> None:
    """The API's own answer."""
    relay.served.refusing = "only 5 MB free"
    [found] = await relay.json("status")
    assert (False, "only 5 MB free") == (found["accepting"], found["reason"])
    assert "accepting mail: no (only 5 MB free)" in (await relay("status")).out


async def test_a_test_message_is_sent_off(relay: Relay) -> None:
    """Without --wait it says how to look; a refusal is told."""
    printed = await relay("test", "me@example.net", "--from", "app@example.com")
    assert printed.out.startswith("accepted  687E")
    assert "what becomes of it: relay log 687E" in printed.out
    printed = await relay("test", "nobody")
    assert (exits.USAGE, "relay: to: 'nobody' is not an address mail can be sent to\n") == (printed.code, printed.err)
    relay.served.refusing = "only 5 MB free"
    assert exits.TRY_LATER == (await relay("test", "me@example.net")).code


@pytest.mark.parametrize(
    ("recorded", "code", "said"),
    [
        (SENT, exits.OK, "sent      ses  "),
        (
            Recorded(Outcome(Verdict.PERM_RCPT, "5.1.1", "550 unknown", "mx[192.0.2.1]:25"), State.FAILED),
            exits.UNAVAILABLE,
            "bounced   ses  ",
        ),
        (DEFERRED, exits.TRY_LATER, "deferred  ses  "),
    ],
)
async def test_a_test_message_is_waited_for(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, recorded: Recorded, code: int, said: str
) -> None:
    """Each outcome is printed as it comes; the last one decides the exit code."""
    monkeypatch.setattr(trial, "POLL", 0.01)
    monkeypatch.setattr(trial, "WAIT", 0.3 if code == exits.TRY_LATER else 10.0)
    relay.served.now = NOW

    async def deliver() -> None:
        due = asyncio.Event()
        relay.served.spool.on_due(due.set)
        await due.wait()
        [entry] = await relay.served.spool.claim(NOW, 10, 60)
        number = await relay.served.spool.begin(entry.queue_id, ["me@example.net"], "ses", "default", NOW)
        await relay.served.spool.record(entry.queue_id, number, {"me@example.net": recorded}, "ses", "default", NOW)

    delivery = asyncio.create_task(deliver())
    printed = await relay("test", "me@example.net", "--wait")
    await delivery
    assert code == printed.code
    assert said in printed.out


async def set_aside(relay: Relay, waits: str) -> None:
    """The next message is not tried: it waits for this."""
    due = asyncio.Event()
    relay.served.spool.on_due(due.set)
    await due.wait()
    [entry] = await relay.served.spool.claim(NOW, 10, 60)
    await relay.served.spool.wait(entry.queue_id, ["me@example.net"], waits, NOW + 86400, "postmark", "default")


@pytest.mark.parametrize(
    ("waits", "reason", "mend", "said"),
    [
        ("postmark", "401 10 BadToken: no", "check the token", ["paused: 401 10 BadToken: no", "to mend it: check the token"]),
        ("postmark", "401 10 BadToken: no", "", ["paused: 401 10 BadToken: no"]),
        (
            "postmark domain=example.com",
            "domain=example.com: 400 no",
            "verify it",
            ["domain=example.com paused: 400 no", "to mend it: verify it"],
        ),
        ("postmark domain=example.com", "stream=x: 400 no", "look at the stream", ["domain=example.com paused"]),
    ],
)
async def test_a_test_message_that_waits_for_a_paused_provider(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, waits: str, reason: str, mend: str, said: list[str]
) -> None:
    """It ends at once, with the reason of the pause and the mend, if that is of this pause: nothing would change by waiting."""
    monkeypatch.setattr(trial, "POLL", 0.01)
    relay.served.providers = [Provider("postmark", "paused", reason, mend, NOW, NOW + 60, 1, 0)]
    delivery = asyncio.create_task(set_aside(relay, waits))
    printed = await relay("test", "me@example.net", "--wait")
    await delivery
    assert exits.TRY_LATER == printed.code
    assert said == [re.sub(r"^waits +postmark +[0-9.]+ s ", "", line).strip() for line in printed.out.splitlines()[1:]]
    assert printed.err.startswith(f"relay: not sent: {waits} is paused; the message waits in the queue until that is over: relay log 687E")


@pytest.mark.parametrize("waits", ["postmark", "postmark line default"])
async def test_a_test_message_that_waits_a_little(relay: Relay, monkeypatch: pytest.MonkeyPatch, waits: str) -> None:
    """A provider that is slowed down or busy goes on by itself: it is said once, and patience has its time."""
    monkeypatch.setattr(trial, "POLL", 0.01)
    monkeypatch.setattr(trial, "WAIT", 0.3)
    relay.served.providers = [Provider("postmark", "throttled", "429 slow down", "", NOW, NOW + 60, 1, 0)]
    delivery = asyncio.create_task(set_aside(relay, waits))
    printed = await relay("test", "me@example.net", "--wait")
    await delivery
    assert (exits.TRY_LATER, 2) == (printed.code, len(printed.out.splitlines()))
    assert re.search(r"^waits +postmark +[0-9.]+ s +waits for (postmark: 429 slow down|its turn at postmark)$", printed.out, re.MULTILINE)
    assert "not sent after" in printed.err


async def test_a_test_message_that_is_held(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but an admin sends it on: the commands are named."""
    monkeypatch.setattr(trial, "POLL", 0.01)
    held = Recorded(Outcome(Verdict.UNKNOWN, "4.4.2", "no answer", "mx[192.0.2.1]:25"), State.HELD)

    async def deliver() -> None:
        due = asyncio.Event()
        relay.served.spool.on_due(due.set)
        await due.wait()
        [entry] = await relay.served.spool.claim(NOW, 10, 60)
        number = await relay.served.spool.begin(entry.queue_id, ["me@example.net"], "ses", "default", NOW)
        await relay.served.spool.record(entry.queue_id, number, {"me@example.net": held}, "ses", "default", NOW)

    delivery = asyncio.create_task(deliver())
    printed = await relay("test", "me@example.net", "--wait")
    await delivery
    assert exits.TRY_LATER == printed.code
    assert "not sent: it is held: relay queue show 687E" in printed.err


async def test_a_reload_says_what_changed(relay: Relay) -> None:
    """0 and what changed; 78 and every mistake where the old configuration stays."""
    printed = await relay("reload")
    assert (0, "reloaded: provider ses changed\n", "") == (printed.code, printed.out, printed.err)
    relay.served.problems = ("relay.yaml:1:1: one", "relay.yaml:2:1: two")
    printed = await relay("reload")
    assert (exits.CONFIG, "") == (printed.code, printed.out)
    assert "relay.yaml:1:1: one\n\nrelay.yaml:2:1: two\nrelay: reload refused, the old configuration stays: 2 mistakes\n" == printed.err


async def test_a_daemon_that_is_down_reloads_nothing(relay: Relay) -> None:
    """69 and how to start it; one without a configuration says so."""
    await relay.served.admin.stop()
    printed = await relay("reload")
    assert exits.UNAVAILABLE == printed.code
    assert "only the daemon can do that. Start it: relay serve -c" in printed.err
    assert exits.UNAVAILABLE == (await relay("log", "tail")).code


async def test_a_daemon_on_tcp_and_one_that_answers_nonsense(relay: Relay, tmp_path: Path) -> None:
    """`admin.listen` may be a port; what is not our API is told from an error of ours."""
    over_tcp = Relay(relay.served, configuration(tmp_path, f"127.0.0.1:{relay.served.port}"), relay.captured)
    assert 0 == (await over_tcp("status")).code

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line:
            await reader.readuntil(b"\r\n\r\n")
            answers = {
                b"status": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                b"log": b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
            }
            writer.write(next((answer for word, answer in answers.items() if word in line), b"garbage\r\n"))
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        other = Relay(relay.served, configuration(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), relay.captured)
        printed = await other("status")
        assert exits.BUG == printed.code
        assert "is that address the admin API of relay?" in printed.err
        printed = await other("log", "x")
        assert (exits.BUG, "relay: the daemon answered 502\n") == (printed.code, printed.err)
        printed = await other("log", "tail")
        assert (exits.BUG, "relay: the daemon answered 502\n") == (printed.code, printed.err)
        printed = await other("queue")
        assert exits.TRY_LATER == printed.code
        assert "broke off" in printed.err


async def test_a_stopped_daemons_spool_can_be_read(relay: Relay) -> None:
    """The same answers as from the daemon, with a note; what changes something is refused."""
    entry = await relay.served.store("a@example.net")
    await relay.served.attempt(entry, "a@example.net", dataclasses.replace(DEFERRED, next_attempt=NOW + 1e9))
    alive = {verb: await relay(*verb.split()) for verb in ("queue --json", f"log {entry.queue_id}", f"queue show {entry.queue_id} --raw")}
    await relay.served.admin.stop()
    for verb, before in alive.items():
        printed = await relay(*verb.split())
        assert (0, before.out) == (printed.code, printed.out)
        assert 1 == printed.err.count("the daemon is not running")
    printed = await relay("status")
    assert (exits.UNAVAILABLE, "accepting mail: no") == (printed.code, printed.out.splitlines()[0])
    assert 1 == (printed.out + printed.err).count("the daemon is not running")
    assert exits.UNAVAILABLE == (await relay("status", "--json")).code
    assert "nothing in the queue" in (await relay("queue", "--state", "corrupt")).out
    printed = await relay("queue", "delete", "--all", "--yes")
    assert exits.UNAVAILABLE == printed.code
    assert f"only the daemon can do that. Start it: relay serve -c {relay.config}\n" in printed.err


async def test_without_the_daemon_the_api_changes_nothing(relay: Relay, tmp_path: Path) -> None:
    """Even asked directly: exactly one process writes the spool."""
    status, body = await offline.answer(tmp_path / "spool", "POST", "/api/v1/queue/retry", {})
    assert (503, {"error": "the daemon is not running"}) == (status, json.loads(body))
    for method, path in (("POST", "/api/v1/reload"), ("GET", "/api/v1/log/tail")):
        status, body = await offline.answer(tmp_path / "spool", method, path, {})
        assert 503 == status
        assert "the daemon is not running" in json.loads(body)["error"]


async def test_a_spool_beside_which_nothing_can_be_written(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """77 and what to do: reading makes a file, which a read-only mount does not let happen (here its answers are played)."""

    def refuses(directory: Path) -> None:
        raise SpoolError("the spool cannot be used: unable to open database file (SQLITE_CANTOPEN)")

    await relay.served.admin.stop()
    monkeypatch.setattr(offline, "Reader", refuses)
    assert exits.TRY_LATER == (await relay("status")).code
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    printed = await relay("status")
    assert exits.PERMISSION == printed.code
    assert "use sudo, or copy the directory to where you may write and name the copy in queue.spool" in printed.err


def test_a_spool_one_may_not_look_into(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """77: the daemon is down and its spool is for its owner."""

    def refuses(self: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(door, "config_file", lambda *_: None)
    monkeypatch.setattr(Path, "exists", refuses)
    assert exits.PERMISSION == main(["status"])
    assert "Try sudo" in capsys.readouterr().err


def test_the_usual_address_is_the_configuration_s_default() -> None:
    """The command line names it without loading the configuration's models."""
    assert (door.USUAL_ADMIN,) == AdminConfig().listen
