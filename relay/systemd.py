"""The service manager: tell it how we are, and take the listening sockets it holds for us.

Promises: telling never raises and never waits longer than `_PATIENCE`, whatever became of the notify socket; relay runs
the same without a service manager. Inherited sockets are close-on-exec, and their names stay: whoever made them removes
them. Fails with Unavailable when a socket was passed that nobody could accept a client from; the text says which.

Protocols: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3), as of systemd 252. No library is needed for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from relay import sockets
from relay.errors import Unavailable

_PATIENCE = 1.0  # seconds; the manager reads at once unless it is in trouble itself, and a READY=1 must not be lost
_FIRST = 3  # SD_LISTEN_FDS_START
_STATUS = 1000  # octets of a status; the manager drops the whole of a datagram of more than 4096
_NAMELESS = {"unknown", "stored", "connection"}  # what sd_listen_fds_with_names(3) calls sockets without a name of their own


class Notifier:
    """Tells the manager named by $NOTIFY_SOCKET, a path or an abstract address (`@…`). `active` is False where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = os.fsencode(environ.get("NOTIFY_SOCKET", ""))
        self._address = b"\0" + name[1:] if name.startswith(b"@") else name
        self.active = name.startswith((b"/", b"@"))

    def ready(self, status: str) -> None:
        """Start is over, or a reload is, whatever came of it."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload begins; `ready` must follow. The time ties the two to the SIGHUP that asked for them."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """We are alive. To be said at least every `watchdog_seconds`."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1", _status("shutting down"))

    def _send(self, *assignments: str) -> None:
        if not self.active:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)


def _status(text: str) -> str:
    """STATUS= with one line of `text`; a second line would be another assignment."""
    line = " ".join(text.split())
    return "STATUS=" + line.encode("utf-8", "replace")[:_STATUS].decode("utf-8", "ignore")


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """How long we may be silent before we are killed; None when nobody watches this process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    micros = environ.get("WATCHDOG_USEC", "")
    return int(micros) / 1e6 if _is_number(micros) and int(micros) else None


async def keep_alive(notifier: Notifier, seconds: float, answering: Callable[[], Awaitable[object]]) -> None:
    """Feed the watchdog twice in `seconds` for as long as the event loop turns and `answering` returns.

    An error is an answer: a full disk is no better after a restart. Only silence ends the service. Runs until cancelled.
    """
    while True:
        with contextlib.suppress(Exception):
            await answering()
        notifier.watchdog()
        await asyncio.sleep(seconds / 2)


def inherited(environ: Mapping[str, str], pid: int) -> dict[str, socket.socket]:
    """The listening sockets passed to this process, each by its address (`127.0.0.1:25`, `unix:/path`) and by its name
    (FileDescriptorName=) where no other socket has that name. Non-blocking; {} when none were passed to `pid`.

    Raises Unavailable for a descriptor that is no listening TCP or unix stream socket.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    count = environ.get("LISTEN_FDS", "")
    if not _is_number(count):
        raise Unavailable(f"LISTEN_FDS={count}: the service manager passes sockets, but does not say how many")
    names = environ["LISTEN_FDNAMES"].split(":") if "LISTEN_FDNAMES" in environ else ["unknown"] * int(count)
    if len(names) != int(count):
        raise Unavailable(f"the service manager passes {count} sockets with {len(names)} names; LISTEN_FDNAMES wants one for each")
    found: dict[str, socket.socket] = {}
    for fd, name in enumerate(names, _FIRST):
        sock = _adopt(fd, name)
        found[sockets.show(sock)] = sock
        if names.count(name) == 1 and name not in _NAMELESS:
            found[name] = sock
    return found


def unclaimed(passed: Mapping[str, socket.socket], listeners: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each passed socket that no listener (name, address) takes: its clients would wait in vain."""
    taken = {id(passed[key]) for listener in listeners for key in listener if key in passed}
    left = {id(sock): sock for sock in passed.values() if id(sock) not in taken}
    return [
        f"the service manager passes a socket on {sockets.show(sock)}, which no listener has: its clients wait in vain. "
        f"Add a listener with this address, or disable the socket unit."
        for sock in left.values()
    ]


def _adopt(fd: int, name: str) -> socket.socket:
    """The socket of descriptor `fd`."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise Unavailable(f"{_passed(fd, name)} is no socket: {error.strerror}") from None
    sock.set_inheritable(False)
    sock.setblocking(False)
    stream = sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if not stream or not isinstance(sock.getsockname(), tuple | str):
        sock.close()
        raise Unavailable(f"{_passed(fd, name)} is of another kind: relay takes TCP and unix stream sockets that have an address")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise Unavailable(f"{_passed(fd, name)} does not listen: write Accept=no in the socket unit")
    return sock


def _passed(fd: int, name: str) -> str:
    return f"descriptor {fd} ({name}), passed by the service manager,"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
