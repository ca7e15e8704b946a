"""Sockets to listen on, and what is said when they are not to be had."""

from __future__ import annotations

import errno
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relay import sockets
from relay.errors import Unavailable


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_a_bound_port_is_shown_as_it_was_asked_for(address: str) -> None:
    """Port 0 becomes the real one; the socket knows that it is TCP, so that asyncio sets TCP_NODELAY."""
    with sockets.bind(address) as sock:
        host, port = sockets.parse(sockets.show(sock))
        assert (sockets.parse(address)[0], True, socket.IPPROTO_TCP) == (host, port > 0, sock.proto)
        assert sockets.show(sock).startswith(address.removesuffix("0"))


def test_a_taken_port_names_its_holder() -> None:
    """Pid and command, from /proc."""
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(Unavailable, match=rf"pid {holder.pid} \(.*python.*\) has it\. Stop that one") as caught:
            sockets.bind(f"127.0.0.1:{port}")
        holder.communicate()
    assert 69 == caught.value.exit_code


def test_a_port_of_our_own_is_named_as_such() -> None:
    """A reload that would move a listener within its port needs a restart."""
    with sockets.bind("127.0.0.1:0") as sock, pytest.raises(Unavailable, match=r"has it, which is relay itself\. Restart relay") as caught:
        sockets.bind(sockets.show(sock).replace("127.0.0.1", "0.0.0.0"))
    assert 69 == caught.value.exit_code


def test_a_port_nobody_listens_on_has_no_holder() -> None:
    """The answer is empty, not a guess."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert "" == sockets.holder_of(sock.getsockname()[1])


def test_an_address_of_another_host() -> None:
    """69, and the question that finds the mistake."""
    with pytest.raises(Unavailable, match="Is it an address of this host"):
        sockets.bind("192.0.2.1:0")


def test_a_privileged_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """77, and a port that works."""

    class Privileged(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Privileged)
    with pytest.raises(Unavailable, match=r"cannot listen on 127\.0\.0\.1:25: permission denied.*2525") as caught:
        sockets.bind("127.0.0.1:25")
    assert 77 == caught.value.exit_code


@pytest.mark.parametrize(("mode", "directory"), [(0o660, 0o700), (0o666, 0o755)])
def test_a_unix_socket_has_its_mode_and_a_directory_to_match(tmp_path: Path, mode: int, directory: int) -> None:
    """Who may use the socket may reach it; nobody else may look into the directory."""
    path = tmp_path / "new" / "s"
    with sockets.bind(f"unix:{path}", mode=mode) as sock:
        assert (mode, directory) == (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode))
        assert f"unix:{path}" == sockets.show(sock)
    sockets.remove(str(path))
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """After a crash the name is still there; nobody listens."""
    path = tmp_path / "s"
    sockets.bind(f"unix:{path}").close()
    assert path.exists()
    with sockets.bind(f"unix:{path}") as sock:
        sock.listen()
        with pytest.raises(Unavailable, match="another process listens there"):
            sockets.bind(f"unix:{path}")


def test_who_listens_and_does_not_accept_is_not_waited_for(tmp_path: Path) -> None:
    """The queue of the other one is full."""
    path = tmp_path / "s"
    with sockets.bind(f"unix:{path}") as sock, socket.socket(socket.AF_UNIX) as waiting:
        sock.listen(0)
        waiting.connect(str(path))
        with pytest.raises(Unavailable, match="another process listens there"):
            sockets.bind(f"unix:{path}")


@pytest.mark.parametrize("made", ["file", "directory", "below a file"])
def test_what_is_not_a_socket_is_left_alone(tmp_path: Path, made: str) -> None:
    """Nothing is removed that relay did not make."""
    path = tmp_path / "s"
    if made == "directory":
        path.mkdir()
    else:
        path.write_text("precious")
    with pytest.raises(Unavailable, match="cannot listen on unix:"):
        sockets.bind(f"unix:{path / 'x' if made == 'below a file' else path}")
    assert path.exists()


@pytest.mark.parametrize(
    ("system", "looked_up", "expected"),
    [
        ("mx.example.com", "never asked", "mx.example.com"),
        ("mx.example.com.", "never asked", "mx.example.com"),
        ("vm", "vm.example.com", "vm.example.com"),
        ("vm", "vm", "vm"),
        ("vm", "localhost", "vm"),
        ("vm", "localhost.localdomain", "vm"),
        ("localhost", "localhost.localdomain", "localhost"),
        ("bad name.example", "never asked", "localhost"),
        ("", "", "localhost"),
    ],
)
def test_the_name_of_this_host(system: str, looked_up: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own, with its domain where that is known; never localhost because /etc/hosts says so."""
    monkeypatch.setattr("socket.gethostname", lambda: system)
    monkeypatch.setattr("socket.getfqdn", lambda name: looked_up)
    assert expected == sockets.hostname()
