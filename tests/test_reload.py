"""The daemon's configuration changed while it runs, in one process: what is refused, what follows, and what a mistake of ours costs."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from relay import config, log, reload, users
from relay.certificates import ServerTls
from relay.config import Config
from relay.delivery import Delivery
from relay.errors import SpoolError, Unavailable
from relay.listener import ListenerSettings
from relay.metrics import Metrics
from relay.reload import Reloader
from relay.spool.base import Spool
from relay.spool.sqlite import SqliteSpool
from relay.users import Users
from tests.fakes import FakeTransport, RecordingEvents
from tests.test_daemon import Running

OLD, NEW = "the-old-password", "the-new-password"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """What `log.setup` changes is put back."""
    root, relay = logging.getLogger(), logging.getLogger(log.LOGGER)
    handlers, level = root.handlers[:], relay.level
    yield
    root.handlers[:] = handlers
    relay.setLevel(level)


class Reloading(Running):
    """A daemon that reads `directory`/relay.yaml again."""

    def __init__(self, directory: Path, **values: str) -> None:
        self.directory = directory
        self.asked = asyncio.Event()  # for a reload
        super().__init__(self.write(**values))
        self._source = directory / "relay.yaml"

    def write(self, *, listen: str = "127.0.0.1:0", providers: str = "{capture: {}}", spool: str = "spool", more: str = "") -> Config:
        """Replace the file; returns what it says."""
        path = self.directory / "relay.yaml"
        path.write_text(
            f'listen: [{{name: local, address: "{listen}"}}]\nproviders: {providers}\n'
            f'queue: {{spool: "{self.directory}/{spool}", min_free: 1MB}}\nadmin: {{listen: ["unix:{self.directory}/admin.sock"]}}\n{more}'
        )
        path.chmod(0o600)
        return config.load(path, environ=os.environ)

    async def _reload(self, spool: Spool, reloader: Reloader) -> Sequence[str]:
        self.asked.set()
        return await super()._reload(spool, reloader)

    async def hang_up(self, event: str, count: int = 1) -> str:
        """Send SIGHUP; the text of the `count`th such event."""
        os.kill(os.getpid(), signal.SIGHUP)
        line = (await self.journal.wait(event, count))[-1]
        return str(line.get("text") or line.get("problems") or line)


@asynccontextmanager
async def started(running: Reloading) -> AsyncIterator[Reloading]:
    """From ready to the end."""
    task = asyncio.create_task(running.run())
    try:
        await running.journal.wait("ready")
        yield running
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_a_signal_before_ready_is_answered_after_it(tmp_path: Path) -> None:
    """However many came."""
    running = Reloading(tmp_path)
    running._hangup.set()
    async with started(running):
        await running.journal.wait("reloaded")
    assert ["ready", "reloaded"] == [str(line["event"]) for line in running.journal.lines if line["event"] in ("ready", "reloaded")]


JSON = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def ask(directory: Path) -> str:
    """Ask for a reload at the admin socket; the answer."""
    reader, writer = await asyncio.open_unix_connection(directory / "admin.sock")
    writer.write(b"POST /api/v1/reload HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n" + JSON)
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_a_reload_asked_for_during_the_start_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the listeners would start by the old file after it."""
    running, start, reached, go = Reloading(tmp_path), Delivery.start, asyncio.Event(), asyncio.Event()

    async def slow(self: Delivery) -> None:
        reached.set()
        await go.wait()
        await start(self)

    monkeypatch.setattr(Delivery, "start", slow)
    running.write(listen=f"unix:{tmp_path}/smtp.sock")

    async def early() -> str:
        await reached.wait()
        answer = asyncio.create_task(ask(tmp_path))
        await running.asked.wait()
        go.set()
        return await answer

    admin = asyncio.create_task(early())
    async with started(running):
        assert "200 OK" in await admin
        reader, writer = await asyncio.open_unix_connection(tmp_path / "smtp.sock")
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()
    assert ["ready", "reloaded"] == [str(line["event"]) for line in running.journal.lines if line["event"] in ("ready", "reloaded")]


async def test_a_reload_asked_for_during_a_start_that_fails_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks holds up no end."""
    start, reached, go = Delivery.start, asyncio.Event(), asyncio.Event()

    async def slow(self: Delivery) -> None:
        reached.set()
        await go.wait()
        await start(self)

    monkeypatch.setattr(Delivery, "start", slow)
    with socket.create_server(("127.0.0.1", 0)) as other:
        running = Reloading(tmp_path, listen=f"127.0.0.1:{other.getsockname()[1]}")
        task = asyncio.create_task(running.run())
        await reached.wait()
        answer = asyncio.create_task(ask(tmp_path))
        await running.asked.wait()
        go.set()
        with pytest.raises(Unavailable):
            await task
    assert "relay is shutting down" in await answer


async def test_a_reload_asked_for_during_the_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is begun that could not be ended."""
    running, drain, reached, go = Reloading(tmp_path), Delivery.drain, asyncio.Event(), asyncio.Event()

    async def slow(self: Delivery, grace: float) -> None:
        reached.set()
        await go.wait()
        await drain(self, grace)

    monkeypatch.setattr(Delivery, "drain", slow)

    async def late() -> str:
        await reached.wait()
        try:
            return await ask(tmp_path)
        finally:
            go.set()

    answer = asyncio.create_task(late())
    async with started(running):
        pass
    assert "relay is shutting down: the next start reads the file" in await answer


async def test_what_only_a_restart_changes_is_refused(tmp_path: Path) -> None:
    """All of it is named, and the rest of the file changes nothing."""
    running = Reloading(tmp_path)
    async with started(running):
        running.write(spool="elsewhere", providers="{other: {type: capture}}", more="hostname: new.example.com\n")
        told = await running.hang_up("reload_refused")
        assert "hostname changed, which takes a restart" in told
        assert "queue.spool changed" in told
        running.write()
        assert "nothing changed" in await running.hang_up("reloaded")


async def test_an_address_that_is_taken_changes_nothing(tmp_path: Path) -> None:
    """The old listener goes on, and the next file is taken."""
    running = Reloading(tmp_path)
    async with started(running):
        port = await running.port()
        with socket.create_server(("127.0.0.1", 0)) as other:
            running.write(listen=f"127.0.0.1:{other.getsockname()[1]}", providers="{other: {type: capture}}")
            assert "cannot listen" in await running.hang_up("reload_refused")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()
        running.write(providers="{other: {type: capture}}")
        assert "provider other added, provider capture gone" in await running.hang_up("reloaded")


async def test_a_mistake_of_ours_costs_no_later_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, to the caller as well, and the configuration in force stays."""
    running = Reloading(tmp_path)
    async with started(running):
        with monkeypatch.context() as patched:
            patched.setattr(config, "load", lambda *_, **__: 1 // 0)
            await running.hang_up("bug")
        assert "nothing changed" in await running.hang_up("reloaded")


async def test_a_file_that_cannot_be_read_to_its_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail goes on meanwhile, the next file is taken, and nobody waits for the first one at the end."""
    monkeypatch.setattr(reload, "READ", 0.05)
    running, never = Reloading(tmp_path), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(config, "load", lambda *_, **__: never.wait())
        async with started(running):
            assert "could not be read within 0.05 s" in await running.hang_up("reload_refused")
            patched.undo()
            monkeypatch.setattr(reload, "READ", 30.0)
            assert "nothing changed" in await running.hang_up("reloaded")
    never.set()


async def test_neither_new_nor_old_secrets_reach_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What began with the old credentials may still be told of."""
    running = Reloading(tmp_path, providers=smarthost(OLD))
    async with started(running):
        running.write(providers=smarthost(NEW))
        assert "provider smarthost changed" in await running.hang_up("reloaded")
        log.Events().warning(f"535 no such passwords: {OLD}, {NEW}")
    assert "535 no such passwords: [secret], [secret]" in capsys.readouterr().err


def smarthost(password: str) -> str:
    """A provider with a login."""
    return f"{{smarthost: {{type: smtp, host: mail.example.net, username: relay, password: {password}}}}}"


async def test_a_spool_in_trouble_does_not_hold_up_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new configuration is in force; that what waits is not looked at at once is told."""
    running = Reloading(tmp_path)
    async with started(running):

        async def line_up(self: SqliteSpool, key: str | None) -> Sequence[str]:
            raise SpoolError("disk I/O error")

        running.write(providers="{other: {type: capture}}")
        with monkeypatch.context() as patched:
            patched.setattr(SqliteSpool, "line_up", line_up)
            assert "provider other added" in await running.hang_up("reloaded")
        assert any("after the reload: what waits" in text for text in running.journal.texts)


async def test_transports_that_do_not_close_hold_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are left alone; the others are closed all the same."""
    monkeypatch.setattr(reload, "CLOSE", 0.01)

    class Silent(FakeTransport):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    class Broken(FakeTransport):
        async def aclose(self) -> None:
            raise OSError("broken")

    transports = [Silent("a"), Broken("b"), FakeTransport("c")]
    monkeypatch.setattr("relay.assembly.make", lambda settings: transports.pop(0))
    last = transports[-1]
    async with started(Reloading(tmp_path, providers="{a: {type: capture}, b: {type: capture}, c: {type: capture}}", more=ROUTES)):
        pass
    assert last.closed


ROUTES = "routes: [{name: default, via: [a, b, c]}]\n"


def issue(path: Path, authority: trustme.CA, days: int) -> None:
    """A certificate with its key that ends so many days from now."""
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    path.write_bytes(authority.issue_cert("localhost", not_after=until).private_key_and_cert_chain_pem.bytes())
    path.chmod(0o600)
    os.utime(path, ns=(days, days))  # another time than before, however fast this test is


def bare(directory: Path, *listen: ListenerSettings) -> tuple[Reloader, RecordingEvents]:
    """A reloader with these listeners and without a file, and its log."""
    nothing, events = cast(Any, None), RecordingEvents()
    settings = config.dev(directory)
    told: dict[str, Any] = {"listeners": nothing, "delivery": nothing, "transports": {}, "metrics": Metrics(), "relog": nothing}
    return Reloader(settings, None, listen=listen, events=events, **told), events


async def test_without_a_file_there_is_nothing_to_read_again(tmp_path: Path) -> None:
    """As in the development set-up."""
    reloader, events = bare(tmp_path)
    assert (reload.NO_FILE,) == tuple(await reloader.reload())
    assert 1 == len(events.found("reload_refused"))


def test_certificates_and_users_are_read_again_without_a_signal(tmp_path: Path) -> None:
    """What is wrong with a changed one is told once, and the old one stays; one that ends soon is told of once a day."""
    authority, pem, names, day = trustme.CA(), tmp_path / "tls.pem", tmp_path / "users", 86400.0
    issue(pem, authority, 10)
    users.set_password(names, "app1", "not-a-real-password")
    item = ListenerSettings("lan", "127.0.0.1:0", tls="required", certificate=ServerTls(pem, pem), users=Users(names))
    reloader, events = bare(tmp_path, item)
    now = time.time()
    for moment in (now, now + 5, now + day + 1, now + 11 * day):
        reloader.refresh(moment)
    assert ["expires", "expires", "expired"] == [word for text in events.texts for word in text.split() if word.startswith("expire")]
    events.texts.clear()
    issue(pem, authority, 100)
    names.write_text("nonsense\n")
    reloader.refresh(now)
    reloader.refresh(now + 2 * day)
    assert ["reloaded: certificate of listener lan"] == events.texts[:1]
    assert ["users of listener lan changed and cannot be used, the old one stays"] == [text.split(": ")[1] for text in events.texts[1:]]


def test_what_changed_is_told_in_a_line(tmp_path: Path) -> None:
    """Also when only the order of the routes did."""
    one, two = "{name: one, via: capture, match: {from: a@example.com}}", "{name: two, via: capture, match: {from: b@example.com}}"
    rest = "{name: rest, via: capture}"
    old = Reloading(tmp_path, more=f"routes: [{one}, {two}, {rest}]\n")._settings
    assert "order of routes" == reload.changes(old, Reloading(tmp_path, more=f"routes: [{two}, {one}, {rest}]\n")._settings)
    other = Reloading(tmp_path, more=f"routes: [{one}, {rest}]\nlog: {{mask: full}}\n")._settings
    assert "route two gone, log" == reload.changes(old, other)
