"""The daemon under a service manager: a small stand-in for systemd with its notify socket, its watchdog and its sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from relay import sockets
from tests.e2e.processes import DEADLINE, Daemon, Host, host, send

pytestmark = pytest.mark.e2e

MAIL = b"From: app@example.com\r\nTo: a@example.net\r\nSubject: hello\r\nMessage-ID: <%s@web1>\r\n\r\nThe text.\r\n"
WATCHDOG = 1.0  # seconds, as WatchdogSec=
STALL, FREEZE = signal.SIGRTMIN, signal.SIGRTMIN + 1  # what they do is in MISHAPS

# Between fork and exec, as systemd does it: the sockets become descriptors 3, 4, …, and LISTEN_PID names this process.
EXEC = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split()]
os.closerange(3, 100)
for place, fd in enumerate(high):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), WATCHDOG_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""

# What can befall a daemon, brought about by a signal: its event loop turns no more, or its disk answers no more.
MISHAPS = f"""
import os, signal, sqlite3, threading

answering = threading.Event()
answering.set()


def gated(function):
    def wait_and_call(*arguments, **more):
        answering.wait()
        return function(*arguments, **more)
    return wait_and_call


class Connection(sqlite3.Connection):
    execute = gated(sqlite3.Connection.execute)
    executemany = gated(sqlite3.Connection.executemany)


connect = sqlite3.connect
sqlite3.connect = lambda *arguments, **more: connect(*arguments, factory=Connection, **more)
os.statvfs = gated(os.statvfs)
signal.signal({STALL}, lambda *_: threading.Event().wait())
signal.signal({FREEZE}, lambda *_: answering.clear())
"""


class Manager:
    """systemd, as far as one service sees it. `states` are the states it was told of, in order."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self._socket.setblocking(False)
        self.states: list[str] = []

    async def start(self, host: Host, passed: Mapping[str, socket.socket] | None = None) -> Daemon:
        """Start the service with these sockets, by name."""
        fds = [sock.fileno() for sock in (passed or {}).values()]
        (self._directory / "sitecustomize.py").write_text(MISHAPS)
        environment = {
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "PYTHONPATH": str(self._directory),
            "NOTIFY_SOCKET": self._path,
            "WATCHDOG_USEC": str(int(WATCHDOG * 1e6)),
            "LISTEN_FDNAMES": ":".join(passed or {}),
        }
        if not fds:
            del environment["LISTEN_FDNAMES"]
        service = (sys.executable, "-m", "relay", "serve", "-c", str(host.config))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", EXEC, " ".join(map(str, fds)), *service),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            pass_fds=fds,
        )
        daemon = Daemon(process)
        host.daemons.append(daemon)
        return daemon

    async def told(self) -> dict[str, str]:
        """The next message of the service."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        message = dict(line.split("=", 1) for line in data.decode().splitlines())
        self.states += message.keys() & {"READY", "RELOADING", "STOPPING"}
        return message

    async def until(self, key: str) -> dict[str, str]:
        """The first message with this key from now on."""
        async with asyncio.timeout(DEADLINE):
            while key not in (message := await self.told()):
                pass
        return message

    async def watchdog_bites(self) -> None:
        """Return once the service was silent for so long that systemd would kill it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    async with asyncio.timeout(WATCHDOG):
                        await self.until("WATCHDOG")
                except TimeoutError:
                    return

    def close(self) -> None:
        """Close the notify socket."""
        self._socket.close()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host that captures its mail."""
    async with host(tmp_path) as result:
        result.configure("{capture: {}}")
        yield result


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    """A service manager."""
    with contextlib.closing(Manager(tmp_path)) as result:
        yield result


async def test_the_manager_hears_of_start_reload_and_end_in_order(here: Host, manager: Manager) -> None:
    """READY, then RELOADING with the time of the monotonic clock and READY for each SIGHUP, good file or bad; at last STOPPING."""
    daemon = await manager.start(here)
    ready = await manager.until("READY")
    assert "1" == ready["READY"]
    assert ready["STATUS"]
    good = here.config.read_text()
    for text in (good, good + "\nno_such_key: 1\n"):
        here.config.write_text(text)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.process.send_signal(signal.SIGHUP)
        reloading = await manager.until("RELOADING")
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert "1" == (await manager.until("READY"))["READY"]
    daemon.process.send_signal(signal.SIGTERM)
    await manager.until("STOPPING")
    assert 0 == await daemon.wait()
    assert ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"] == manager.states


async def test_the_watchdog_is_fed_while_all_is_well(here: Host, manager: Manager) -> None:
    """WATCHDOG comes again and again, with mail or without."""
    daemon = await manager.start(here)
    await manager.until("READY")
    port = await daemon.port()
    for number in range(3):
        assert {"WATCHDOG": "1"} == await manager.until("WATCHDOG")
        await send(port, MAIL % b"%d" % number, ["a@example.net"])


async def test_a_loop_that_stalls_is_seen_by_the_watchdog(here: Host, manager: Manager) -> None:
    """The process lives and its threads run, but the event loop turns no more: silence."""
    daemon = await manager.start(here)
    await manager.until("READY")
    await manager.until("WATCHDOG")
    daemon.process.send_signal(STALL)
    await manager.watchdog_bites()


async def test_a_spool_that_answers_no_more_is_seen_by_the_watchdog(here: Host, manager: Manager) -> None:
    """The event loop turns, a client is greeted, but the disk hangs: silence."""
    daemon = await manager.start(here)
    await manager.until("READY")
    await manager.until("WATCHDOG")
    port = await daemon.port()
    daemon.process.send_signal(FREEZE)
    await manager.watchdog_bites()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert b"220 " == (await reader.readline())[:4]
    writer.close()
    await writer.wait_closed()


class Load:
    """Apps that hand in one mail after the other, each in a connection of its own. Whom relay asks to come again later, comes
    again at once, with the same mail. A connection that is refused or ends without a word is an error."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = False
        self._taken = asyncio.Condition()
        self.acknowledged: list[str] = []

    async def app(self, name: str) -> None:
        """One app, until `end`."""
        number = 0
        while not self._ended:
            async with asyncio.timeout(DEADLINE):
                taken = await self._hand_in(f"{name}.{number}")
            if taken:
                async with self._taken:
                    self.acknowledged.append(f"{name}.{number}")
                    self._taken.notify_all()
                number += 1

    async def _hand_in(self, mark: str) -> bool:
        """False when relay said 421: shutting down."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            mail = MAIL % mark.encode() + b".\r\n"
            for command in (b"", b"HELO x\r\n", b"MAIL FROM:<app@example.com>\r\n", b"RCPT TO:<a@example.net>\r\n", b"DATA\r\n", mail):
                writer.write(command)
                reply = await reader.readline()
                if reply.startswith(b"421 "):
                    return False
                assert reply[:1] in (b"2", b"3"), (command, reply)
            return True
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def more(self, count: int) -> None:
        """Until so many more mails were acknowledged."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(DEADLINE), self._taken:
            await self._taken.wait_for(lambda: len(self.acknowledged) >= goal)

    def end(self) -> None:
        """Let every app finish the mail it has in hand."""
        self._ended = True


async def emptied(here: Host) -> list[str]:
    """The marks of all captured mails, once the queue is empty."""
    async with asyncio.timeout(DEADLINE):
        while (await here.relay("queue", "--json")).objects:
            pass
    mails = [path.read_bytes() for path in here.capture.glob("**/*.eml")]
    return sorted(mail.split(b"Message-ID: <")[1].split(b"@")[0].decode() for mail in mails)


async def test_a_restart_under_load_refuses_no_connection_and_loses_nothing(here: Host, manager: Manager) -> None:
    """systemd holds the socket: who connects between two processes waits, and is served by the next one."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as held:
        port = held.getsockname()[1]
        here.configure("{capture: {}}", port=port)
        load = Load(port)
        daemon = await manager.start(here, {"local": held})
        async with asyncio.TaskGroup() as apps:
            for name in ("one", "two", "three"):
                apps.create_task(load.app(name))
            for _ in range(3):
                await load.more(20)
                assert 0 == await daemon.end()
                daemon = await manager.start(here, {"local": held})
            await load.more(20)
            load.end()
        assert sorted(load.acknowledged) == await emptied(here)


async def test_a_unix_socket_of_the_manager_keeps_its_name(here: Host, manager: Manager, tmp_path: Path) -> None:
    """It is used as it was passed, whatever address the listener of that name has, and is still there after the end."""
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        held.bind(str(path))
        held.listen()
        here.config.write_text(here.config.read_text().replace('"127.0.0.1:0"', f'"unix:{path}"'))
        daemon = await manager.start(here, {"local": held})
        await daemon.line(f"ready: mail at local {sockets.UNIX}{path};")
        reader, writer = await asyncio.open_unix_connection(path)
        assert b"220 " == (await reader.readline())[:4]
        writer.close()
        await writer.wait_closed()
        assert 0 == await daemon.end()
        assert path.is_socket()


async def test_a_socket_nobody_could_talk_to_ends_the_start(here: Host, manager: Manager) -> None:
    """ListenDatagram= in the unit: exit code 69, and the log names the descriptor."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        daemon = await manager.start(here, {"local": held})
        assert 69 == await daemon.wait()
    [line] = [line for line in daemon.lines if "descriptor 3 (local)" in line]
    assert "relay takes TCP and unix stream sockets" in line
    assert [] == manager.states
