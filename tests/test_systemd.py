"""The service manager's protocols against sockets of our own, and the units against systemd's tools."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay import systemd
from relay.errors import Unavailable
from relay.systemd import Notifier

UNITS = Path(__file__).parent.parent / "systemd"
PID = 4711
EXPOSURE = 1.5  # systemd-analyze security: 0 is safest, 10 is no protection at all

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here (package systemd)")
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or not (shutil.which("systemd-sysusers") and shutil.which("systemd-tmpfiles")),
    reason="wants root, systemd-sysusers and systemd-tmpfiles (package systemd)",
)


class NotifySocket:
    """The manager's end."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(10)

    def told(self) -> list[str]:
        """The lines of the next message."""
        return self._socket.recv(65536).decode().split("\n")

    def nothing_told(self) -> bool:
        """Whether no message waits."""
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        """Close it; the name of a path stays."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    """A notify socket of either kind."""
    result = NotifySocket(str(tmp_path / "notify") if request.param == "path" else f"@relay-test-{os.getpid()}")
    yield result
    result.close()


def test_each_state_is_one_message(manager: NotifySocket) -> None:
    """The assignments of sd_notify(3), as the manager reads them."""
    notifier = Notifier(manager.environ)
    assert notifier.active
    notifier.ready("accepting mail")
    assert ["READY=1", "STATUS=accepting mail"] == manager.told()
    notifier.status("3 waiting")
    assert ["STATUS=3 waiting"] == manager.told()
    notifier.watchdog()
    assert ["WATCHDOG=1"] == manager.told()
    notifier.stopping()
    assert ["STOPPING=1", "STATUS=shutting down"] == manager.told()


def test_a_reload_tells_the_time_of_the_monotonic_clock(manager: NotifySocket) -> None:
    """Microseconds of CLOCK_MONOTONIC, as newer managers demand."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier(manager.environ).reloading()
    state, when = manager.told()
    assert "RELOADING=1" == state
    assert before <= int(when.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\nWATCHDOG=trigger\r\n", "STATUS=one WATCHDOG=trigger"),
        ("\udcff", "STATUS=?"),
        ("é" * 5000, "STATUS=" + "é" * 500),
        ("", "STATUS="),
    ],
)
def test_a_status_is_one_line_of_bounded_size(text: str, line: str, manager: NotifySocket) -> None:
    """No text of ours can become another assignment, or a message that the manager drops."""
    Notifier(manager.environ).status(text)
    assert [line] == manager.told()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "relative", "/nowhere/notify", "@nobody-is-here", "/" + "x" * 200])
def test_a_notify_socket_that_is_missing_or_broken_is_no_trouble(address: str | None) -> None:
    """Nothing is raised, whatever $NOTIFY_SOCKET says."""
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    assert bool(address and address[0] in "/@") == notifier.active
    notifier.reloading()
    notifier.ready("")
    notifier.stopping()


def test_a_manager_that_does_not_read_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: the message is lost, we go on."""
    manager = NotifySocket(str(tmp_path / "notify"))
    monkeypatch.setattr(systemd, "_PATIENCE", 0.001)
    notifier = Notifier(manager.environ)
    for _ in range(1000):
        notifier.watchdog()
    assert ["WATCHDOG=1"] == manager.told()
    manager.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "4711"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_is_named(environ: dict[str, str], seconds: float | None) -> None:
    """sd_watchdog_enabled(3)."""
    assert seconds == systemd.watchdog_seconds(environ, PID)


async def test_alive_is_said_only_after_an_answer(tmp_path: Path) -> None:
    """An error is an answer; while none comes nothing is said."""
    manager = NotifySocket(str(tmp_path / "notify"))
    asked, answers = asyncio.Event(), [asyncio.get_running_loop().create_future() for _ in range(3)]
    waiting = iter(answers)

    async def answering() -> None:
        asked.set()
        await next(waiting)

    task = asyncio.create_task(systemd.keep_alive(Notifier(manager.environ), 0.001, answering))
    for answer in answers[:2]:
        async with asyncio.timeout(10):
            await asked.wait()
        assert manager.nothing_told()
        asked.clear()
        if answer is answers[0]:
            answer.set_result(None)
        else:
            answer.set_exception(OSError("the disk"))
        async with asyncio.timeout(10):
            await asked.wait()
        assert ["WATCHDOG=1"] == manager.told()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    manager.close()


Passed = Callable[..., dict[str, str]]


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Passed]:
    """Passes sockets to this process: as descriptors in a row, with the environment that describes them."""
    copies: list[int] = []

    def pass_(*passed: socket.socket | int, names: str | None = None) -> dict[str, str]:
        first = 900
        for place, sock in enumerate(passed, first):
            copies.append(os.dup2(sock if isinstance(sock, int) else sock.fileno(), place))
        monkeypatch.setattr(systemd, "_FIRST", first)
        environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(passed))}
        return environ if names is None else environ | {"LISTEN_FDNAMES": names}

    yield pass_
    for fd in copies:
        try:
            os.close(fd)
        except OSError:
            continue  # its socket was closed


def tcp(host: str = "127.0.0.1") -> socket.socket:
    """A listening socket."""
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def close(*some: socket.socket) -> None:
    """Close them all."""
    for sock in some:
        sock.close()


def test_sockets_are_found_by_address_and_by_name(passing: Passed, tmp_path: Path) -> None:
    """IPv4, IPv6 and unix; ready for an event loop, and not for a child."""
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(tmp_path / "smtp.sock"))
    unix.listen()
    four, six = tcp(), tcp("::1")
    found = systemd.inherited(passing(four, six, unix, names="local:local6:app"), PID)
    addresses = [f"127.0.0.1:{four.getsockname()[1]}", f"[::1]:{six.getsockname()[1]}", f"unix:{tmp_path}/smtp.sock"]
    assert [*addresses, "app", "local", "local6"] == sorted(found, key=lambda key: (":" not in key, key))
    assert [found[address] for address in addresses] == [found["local"], found["local6"], found["app"]]
    for sock in (found["local"], found["local6"], found["app"]):
        assert not sock.get_inheritable()
        assert not sock.getblocking()
    close(four, six, unix, found["local"], found["local6"], found["app"])


@pytest.mark.parametrize("names", [None, "local:local", "unknown:unknown"])
def test_a_name_that_does_not_tell_sockets_apart_is_no_key(passing: Passed, names: str | None) -> None:
    """Two sockets of one unit, or of a manager that gives no names, go by their addresses."""
    one, two = tcp(), tcp()
    found = systemd.inherited(passing(one, two, names=names), PID)
    assert {f"127.0.0.1:{sock.getsockname()[1]}" for sock in (one, two)} == found.keys()
    close(one, two, *found.values())


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "", "LISTEN_FDS": "x"}]
)
def test_what_was_passed_to_another_process_is_not_ours(environ: dict[str, str]) -> None:
    """A missing or wrong LISTEN_PID: nothing is touched."""
    assert {} == systemd.inherited(environ, PID)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "LISTEN_FDS=: the service manager passes sockets, but does not say how many"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS=-1: the service manager passes sockets, but does not say how many"),
        (
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"},
            "the service manager passes 2 sockets with 1 names; LISTEN_FDNAMES wants one for each",
        ),
    ],
)
def test_a_count_that_makes_no_sense_is_refused(more: dict[str, str], text: str) -> None:
    """Rather than guessing which descriptors are sockets."""
    with pytest.raises(Unavailable) as refused:
        systemd.inherited({"LISTEN_PID": str(PID), **more}, PID)
    assert text == str(refused.value)


def test_a_descriptor_nobody_could_accept_from_is_refused(passing: Passed, tmp_path: Path) -> None:
    """Datagrams, a connected or only bound socket, a nameless unix socket, a file: the text names the descriptor and the mend."""
    datagram, bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    bound.bind(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    abstract.bind(f"\0relay-test-{os.getpid()}")
    abstract.listen()
    file = os.open(tmp_path, os.O_RDONLY)
    kind = "is of another kind: relay takes TCP and unix stream sockets that have an address"
    for passed, text in [
        (datagram, kind),
        (abstract, kind),
        (bound, "does not listen: write Accept=no in the socket unit"),
        (file, "is no socket: Socket operation on non-socket"),
    ]:
        with pytest.raises(Unavailable) as refused:
            systemd.inherited(passing(passed, names="local"), PID)
        assert f"descriptor 900 (local), passed by the service manager, {text}" == str(refused.value)
    close(datagram, bound, abstract)
    os.close(file)


def test_a_socket_without_a_listener_is_named(passing: Passed) -> None:
    """Its clients would wait for ever; those that a listener takes by name or address are in order."""
    some = [tcp() for _ in range(3)]
    found = systemd.inherited(passing(*some, names="one:two:three"), PID)
    addresses = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in some]
    assert [
        f"the service manager passes a socket on {addresses[2]}, which no listener has: its clients wait in vain. "
        "Add a listener with this address, or disable the socket unit."
    ] == systemd.unclaimed(found, [("one", "127.0.0.1:1"), ("other", addresses[1]), ("more", "127.0.0.1:2")])
    close(*some, *found.values())


def run(*command: str | Path) -> str:
    """Everything a command of systemd prints."""
    environ = {"PATH": os.environ["PATH"], "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with a program that exists on every host in the place of /opt/relay/bin/relay."""
    copies = []
    for unit in (UNITS / "relay.service", UNITS / "relay.socket"):
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace("/opt/relay/bin/relay", "/bin/true"))
    return copies


@needs_analyze
def test_systemd_has_nothing_to_say_about_the_units(units: list[Path]) -> None:
    """An unknown key is only a line, with exit code 0: any output is a mistake."""
    assert "" == run("systemd-analyze", "verify", "--man=no", *units)


@needs_analyze
def test_the_service_is_well_protected(units: list[Path]) -> None:
    """The exposure level stays low."""
    last = run("systemd-analyze", "security", "--offline=true", "--no-pager", units[0]).strip().splitlines()[-1]
    assert "Overall exposure level for relay.service" in last
    assert float(last.split(":")[1].split()[0]) <= EXPOSURE, last


@needs_root
def test_account_and_directories_are_made(tmp_path: Path) -> None:
    """sysusers and tmpfiles, on an empty root: who owns what, and who may look in. A second run changes nothing."""
    (tmp_path / "etc" / "relay").mkdir(parents=True)
    (tmp_path / "etc" / "relay" / "relay.yaml").touch(mode=0o644)
    for _ in range(2):
        run("systemd-sysusers", f"--root={tmp_path}", UNITS / "relay.sysusers.conf")
        assert "" == run("systemd-tmpfiles", f"--root={tmp_path}", "--create", UNITS / "relay.tmpfiles.conf")
        [account] = [line.split(":") for line in (tmp_path / "etc" / "passwd").read_text().splitlines() if line.startswith("relay:")]
        assert ["/var/lib/relay", "/usr/sbin/nologin"] == account[5:]
        relay, group = int(account[2]), int(account[3])
        found = {path: (tmp_path / path).stat() for path in ("run/relay", "etc/relay", "etc/relay/relay.yaml", "etc/relay/credentials")}
        assert {
            "run/relay": (0o40755, relay, group),
            "etc/relay": (0o40750, 0, group),
            "etc/relay/relay.yaml": (0o100640, 0, group),
            "etc/relay/credentials": (0o40700, 0, 0),
        } == {path: (stat.st_mode, stat.st_uid, stat.st_gid) for path, stat in found.items()}
