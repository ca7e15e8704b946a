"""Sockets to listen on: TCP addresses and unix paths, and who holds them when we cannot have them; and this host's name.

`bind` gives a bound socket. A unix socket does not listen yet, so that it has its final mode before anybody can connect; a
TCP socket listens, so that the port is surely ours, and nobody is accepted yet.
A stale unix socket, one nobody listens on, is replaced; one in use is not.
Fails with Unavailable: 69 when somebody else holds the address (with the holder's pid and command where /proc tells),
77 when we may not have it. Linux: the holder is read from /proc; elsewhere it stays unnamed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from relay import address as addresses
from relay.errors import Unavailable

UNIX = "unix:"
_LISTENING = "0A"  # the state column of /proc/net/tcp


def is_unix(address: str) -> bool:
    """Whether `address` is `unix:/path` rather than `host:port`."""
    return address.startswith(UNIX)


def parse(address: str) -> tuple[str, int]:
    """(IP address, port) of `127.0.0.1:25` or `[::1]:25`. Raises ValueError."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def show(sock: socket.socket) -> str:
    """The address a bound socket really has, in the form `bind` takes."""
    name = sock.getsockname()
    if isinstance(name, str):
        return UNIX + name
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hostname() -> str:
    """The system's name for this host; a name server is asked only where that name has no domain. `localhost` where the
    system has no name, or none that can stand in a mail address."""
    name = socket.gethostname().rstrip(".")
    if "." not in name:
        full = socket.getfqdn(name).rstrip(".")
        if not full.lower().startswith("localhost"):  # what /etc/hosts says of many hosts
            name = full
    return name if name.isascii() and addresses.valid(f"mailer-daemon@{name}") else "localhost"


def bind(address: str, *, mode: int = 0o660) -> socket.socket:
    """A socket bound to `address`, not listening yet. `mode` is the file mode of a unix socket."""
    return _bind_unix(Path(address.removeprefix(UNIX)), mode) if is_unix(address) else _bind_tcp(address)


def remove(path: str) -> None:
    """Remove the name of a unix socket; closing alone leaves it behind."""
    Path(path).unlink(missing_ok=True)


def _bind_tcp(address: str) -> socket.socket:
    host, port = parse(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only on a socket that knows it is TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # Another listener shows only at listen(): the port must be ours before we say so.
        sock.listen()
    except OSError as error:
        sock.close()
        raise _refused(address, port, error) from error
    sock.setblocking(False)
    return sock


def _refused(address: str, port: int, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        if holder.startswith(f"pid {os.getpid()} "):  # at a reload: 127.0.0.1:25 cannot become 0.0.0.0:25 while it is open
            return Unavailable(
                f"cannot listen on {address}: {holder} has it, which is relay itself. Restart relay to move or widen a listener.", 69
            )
        return Unavailable(f"cannot listen on {address}: {holder or 'another program'} has it. Stop that one, or choose another port.", 69)
    if error.errno == errno.EACCES:
        return Unavailable(
            f"cannot listen on {address}: permission denied. Ports below 1024 are for root or a process with "
            f"CAP_NET_BIND_SERVICE: choose a port from 1024 up, 127.0.0.1:2525 say.",
            77,
        )
    return Unavailable(f"cannot listen on {address}: {error.strerror}. Is it an address of this host?", 69)


def _bind_unix(path: Path, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755 if mode & 0o006 else 0o700, parents=True, exist_ok=True)
        _clear(path)
        sock.bind(str(path))
        path.chmod(mode)
    except OSError as error:
        sock.close()
        code = 77 if isinstance(error, PermissionError) else 69
        raise Unavailable(f"cannot listen on {UNIX}{path}: {error.strerror or error}", code) from error
    except Unavailable:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _clear(path: Path) -> None:
    """Remove a socket file that nobody listens on."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Unavailable(f"cannot listen on {UNIX}{path}: something that is not a socket has that name. Move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # somebody listens, and accepts nothing at the moment
    raise Unavailable(f"cannot listen on {UNIX}{path}: another process listens there. Is relay running already?")


def holder_of(port: int) -> str:
    """Who listens on a TCP port of this host: `pid 712 (exim4 -bd)`, or "" when /proc does not tell us."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    if not inodes:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _holds(process, inodes):
            return f"pid {process.name} ({_command(process)})"
    return ""


def _listening(port: int) -> list[str]:
    inodes = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, lines):
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.append(columns[9])
    return inodes


def _command(process: Path) -> str:
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return "unknown"
    text = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() else "?" for char in text[:100]) or "unknown"


def _holds(process: Path, inodes: set[str]) -> bool:
    """Whether an open file of `process` is one of `inodes`; False for a process that is not ours to look into."""
    try:
        return any(os.readlink(file) in inodes for file in (process / "fd").iterdir())
    except OSError:
        return False
