"""The daemon in one process: what it builds, that it stops in order, what it keeps an eye on."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import config, daemon, log
from relay.cli import door
from relay.config import Config
from relay.delivery import Delivery, SpoolTrouble
from relay.errors import SpoolError, Unavailable
from relay.listener import Listeners
from relay.spool.base import Health
from relay.transports.capture import Capture
from tests.e2e.processes import send
from tests.fakes import RecordingEvents

MAIL = b"From: app@example.com\r\nTo: a@example.net\r\nSubject: hello\r\nMessage-ID: <one@web1>\r\n\r\nThe text.\r\n"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """What `log.setup` changes is put back."""
    root, relay = logging.getLogger(), logging.getLogger(log.LOGGER)
    handlers, level = root.handlers[:], relay.level
    yield
    root.handlers[:] = handlers
    relay.setLevel(level)


def configuration(directory: Path, providers: str = "{capture: {}}", more: str = "") -> Config:
    """A configuration on free ports."""
    path = directory / "relay.yaml"
    path.write_text(
        f'listen: [{{name: local, address: "127.0.0.1:0"}}]\nproviders: {providers}\n'
        f'queue: {{spool: "{directory}/spool", min_free: 1MB}}\nadmin: {{listen: ["unix:{directory}/admin.sock"]}}\n{more}'
    )
    path.chmod(0o600)
    return config.load(path, environ={"PASSWORD": "not-a-real-password"})


class Running(daemon.Daemon):
    """A daemon whose log can be waited for."""

    def __init__(self, settings: Config, development: daemon.Development | None = None) -> None:
        super().__init__(settings, development=development)
        self.journal = self._events = RecordingEvents()

    async def port(self) -> int:
        """The port of its listener, once it is ready."""
        [ready] = await self.journal.wait("ready")
        return int(str(ready["text"]).split("127.0.0.1:")[1].split(";")[0])


@pytest.fixture
async def run() -> AsyncIterator[Callable[[Running], asyncio.Task[None]]]:
    """Starts daemons; ends those that still run."""
    tasks: list[asyncio.Task[None]] = []

    def start(running: Running) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(running.run()))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_mail_goes_through_and_a_signal_stops_in_order(tmp_path: Path, run: Callable[[Running], asyncio.Task[None]]) -> None:
    """starting, ready, a message, stopping, stopped; the socket is gone, the spool can be taken again."""
    for _ in range(2):
        running = Running(configuration(tmp_path))
        task = run(running)
        await send(await running.port(), MAIL, ["a@example.net"])
        await running.journal.wait("removed")
        os.kill(os.getpid(), signal.SIGTERM)
        await task
        assert f"relay 0.1.0, 1 provider, spool {tmp_path}/spool" == running.journal.lines[0]["text"]
        told = [str(line["event"]) for line in running.journal.lines]
        assert ["starting", "ready", "stopping", "stopped"] == [
            word for word in told if word in ("starting", "ready", "stopping", "stopped")
        ]
    assert not os.path.lexists(tmp_path / "admin.sock")  # noqa: ASYNC240 # a test


async def test_a_second_signal_ends_at_once(tmp_path: Path, run: Callable[[Running], asyncio.Task[None]]) -> None:
    """The task is cancelled wherever it is."""
    running = Running(configuration(tmp_path))
    task = run(running)
    port = await running.port()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b"EHLO x\r\n")
    await reader.readuntil(b"250 ")
    writer.write(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    await reader.readuntil(b"354 ")
    writer.write(b"half a line")
    os.kill(os.getpid(), signal.SIGINT)
    await running.journal.wait("stopping")
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(asyncio.CancelledError):
        await task
    writer.close()
    await writer.wait_closed()


async def test_a_second_signal_waits_for_no_transport(
    tmp_path: Path, run: Callable[[Running], asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport that never closes holds up the orderly end only."""

    async def never(self: Capture) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Capture, "aclose", never)
    running = Running(configuration(tmp_path))
    task = run(running)
    await running.port()
    os.kill(os.getpid(), signal.SIGTERM)
    await running.journal.wait("stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_signal_ends_a_start_that_hangs(
    tmp_path: Path, run: Callable[[Running], asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No `ready` is said, nothing stays open, and mail is not announced as accepted meanwhile."""
    reached = asyncio.Event()

    async def hang(self: Delivery) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Delivery, "start", hang)
    running = Running(configuration(tmp_path))
    task = run(running)
    await reached.wait()
    health = await asyncio.to_thread(door.Live(f"unix:{tmp_path}/admin.sock").call, "GET", "/healthz", {}, None)
    assert (503, b"not accepting mail: relay is starting\n") == (health.status, health.body)
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert ["starting", "stopped"] == [line["event"] for line in running.journal.lines if line["event"] in ("starting", "ready", "stopped")]
    monkeypatch.undo()
    again = Running(configuration(tmp_path))
    run(again)
    await again.port()


async def test_what_cannot_start_leaves_nothing_open(tmp_path: Path, run: Callable[[Running], asyncio.Task[None]]) -> None:
    """A taken port ends the start; spool and socket are free again."""
    settings = configuration(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings.listen[0].model_copy(update={"address": f"127.0.0.1:{other.getsockname()[1]}"})
        with pytest.raises(Unavailable, match="cannot listen"):
            await Running(dataclasses.replace(settings, listen=(taken,))).run()
    running = Running(settings)
    run(running)
    await running.port()


async def test_both_halves_end_at_the_same_time(
    tmp_path: Path, run: Callable[[Running], asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions and attempts share the grace period: neither waits until the other is done."""
    drains, graces = asyncio.Event(), []

    async def stop(self: Listeners, grace: float) -> None:
        graces.append(grace)
        await asyncio.wait_for(drains.wait(), 10)
        await really_stop(self, grace)

    async def drain(self: Delivery, grace: float) -> None:
        graces.append(grace)
        drains.set()
        await really_drain(self, grace)

    really_stop, really_drain = Listeners.stop, Delivery.drain
    monkeypatch.setattr(Listeners, "stop", stop)
    monkeypatch.setattr(Delivery, "drain", drain)
    running = Running(configuration(tmp_path))
    task = run(running)
    await running.port()
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert [daemon.GRACE, daemon.GRACE] == graces


async def test_a_bug_in_one_half_does_not_cut_the_other(
    tmp_path: Path, run: Callable[[Running], asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the drain goes on to its end."""
    drained = asyncio.Event()

    async def stop(self: Listeners, grace: float) -> None:
        await really_stop(self, 0)
        raise ZeroDivisionError

    async def drain(self: Delivery, grace: float) -> None:
        await asyncio.sleep(0)
        await really_drain(self, grace)
        drained.set()

    really_stop, really_drain = Listeners.stop, Delivery.drain
    monkeypatch.setattr(Listeners, "stop", stop)
    monkeypatch.setattr(Delivery, "drain", drain)
    running = Running(configuration(tmp_path))
    task = run(running)
    await running.port()
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert drained.is_set()
    assert ["shutting down"] == [line["text"] for line in running.journal.found("bug")]


class TroubledSpool:
    """The two calls of housekeeping, with a script of what the disk says."""

    def __init__(self, *looks: Health | Exception) -> None:
        self.looks = list(looks)
        self.purged: list[tuple[float, float]] = []
        self.done = asyncio.Event()

    async def probe(self, min_free: int) -> Health:
        """The next look; the last one is the end."""
        look = self.looks.pop(0)
        if not self.looks:
            self.done.set()
        if isinstance(look, Exception):
            raise look
        return look

    async def purge(self, finished_before: float, bodies_before: float) -> int:
        """Remembered."""
        self.purged.append((finished_before, bodies_before))
        return 0


class NoReloader:
    """The configuration in force, and no files to look at."""

    def __init__(self, settings: Config) -> None:
        self.config = settings

    def refresh(self, now: float) -> None:
        """Nothing changed."""


class NoDelivery:
    def __init__(self, trouble: SpoolTrouble) -> None:
        self.trouble = trouble

    def measure(self) -> None:
        """Nothing to measure."""


async def test_trouble_of_the_disk_is_said_once_and_its_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, still full, well again; an error or a bug in housekeeping does not end it."""
    monkeypatch.setattr(daemon, "PROBE", 0.0)
    running = Running(configuration(tmp_path))
    full, well = Health(False, True, "only 5 MB free", 5), Health(True, False, "", 500)
    spool: Any = TroubledSpool(full, full, SpoolError("locked"), ZeroDivisionError(), well, Health(False, False, "", 0))
    delivery = NoDelivery(SpoolTrouble(running.journal))
    house = running._keep_house(spool, NoReloader(running._settings), delivery)  # type: ignore[arg-type] # what housekeeping asks of them
    chores = asyncio.create_task(house)
    await spool.done.wait()
    await running.journal.wait("spool_trouble", 2)
    chores.cancel()
    assert ["spool_trouble", "warning", "bug", "spool_recovered", "spool_trouble"] == [line["event"] for line in running.journal.lines]
    [(finished, bodies)] = spool.purged
    assert running._settings.queue.keep_history - running._settings.queue.keep_bodies == pytest.approx(bodies - finished)


def test_configured_runs_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 after an orderly end, 143 after a second signal."""
    configuration(tmp_path)

    async def ends(self: daemon.Daemon) -> None:
        return None

    async def cut(self: daemon.Daemon) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(daemon.Daemon, "run", ends)
    assert 0 == daemon.configured(tmp_path / "relay.yaml")
    monkeypatch.setattr(daemon.Daemon, "run", cut)
    assert 143 == daemon.configured(tmp_path / "relay.yaml")
    assert 143 == daemon.development(tmp_path / "dev", "relay")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="Name another"):
        daemon.development(tmp_path / "file" / "dev", "relay")


async def test_the_first_run_says_how_to_go_on(
    tmp_path: Path, run: Callable[[Running], asyncio.Task[None]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Four lines on standard output: where, ready, a mail to send, how to see it."""
    running = Running(configuration(tmp_path), daemon.Development(tmp_path, "relay --dev"))
    run(running)
    port = await running.port()
    lines = capsys.readouterr().out.splitlines()
    assert f"dev: SMTP 127.0.0.1:{port}, " in lines[0]
    assert ["ready", "see it:       relay --dev log you@example.com"] == [lines[1], lines[3]]
