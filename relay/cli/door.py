"""The way to the daemon: its admin API by a unix socket or loopback, or its spool, read-only, while it is down.

Both ways answer the same calls alike. A change needs the daemon: exactly one process writes the spool.
Standard library only while the daemon runs, so that a command starts fast.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.cli.exits import BUG, NO_INPUT, OF_STATUS, PERMISSION, TRY_LATER, UNAVAILABLE, Stop

CONFIG_FILE = Path("/etc/relay/relay.yaml")
USUAL_ADMIN = "unix:/run/relay/admin.sock"  # admin.listen where a configuration says nothing
PAGE = 500  # entries asked for at once
TIMEOUT = 60.0  # seconds for one answer

_LINES = {"Accept": "application/x-ndjson"}

Json = dict[str, object]


@dataclass(frozen=True)
class Answer:
    """What the API said. `body` is whole."""

    status: int
    body: bytes


class Refused(Stop):
    """The API's answer is an error. `problems` are the mistakes of a configuration, each with its place."""

    def __init__(self, code: int, text: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(code, text)


class Door(Protocol):
    """One way to have a call answered."""

    def call(self, method: str, path: str, query: Mapping[str, str], body: bytes | None) -> Answer:
        """The answer, whatever its status."""


class Admin:
    """The calls, for the verbs: answers as values, errors as Stop."""

    def __init__(self, door: Door, note: str = "", start: str = "") -> None:
        """`note` says that the daemon is down, and is printed before the first answer; "" while it runs. `start` is typed
        to start it."""
        self._door = door
        self._start = start
        self._note = note
        self._running = not note

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """A JSON object."""
        return self._object(self._call("GET", path, query or {}, None))

    def get_bytes(self, path: str) -> bytes:
        """An answer that is not JSON."""
        return self._call("GET", path, {}, None).body

    def post(self, path: str, values: Json) -> Json:
        """Change something. Only the daemon can."""
        self._live("; only the daemon can do that")
        return self._object(self._call("POST", path, {}, json.dumps(values).encode()))

    def change(self, path: str, values: Json) -> Iterator[Json]:
        """Change something that may take long: how far it is, again and again; at the end with `done`, or `error`. Whoever stops
        reading stops the daemon's work. Only the daemon can; one that goes away in the middle says neither."""
        live = self._live("; only the daemon can do that")
        return map(self._line, live.follow("POST", path, json.dumps(values).encode()))

    def follow(self, path: str) -> Iterator[Json]:
        """JSON objects as they come, until the daemon ends. Only from a running one."""
        return map(self._line, filter(bytes.strip, self._live("").follow("GET", path)))

    def _live(self, why: str) -> Live:
        if not self._running or not isinstance(self._door, Live):
            raise Stop(UNAVAILABLE, f"{self._note}{why}. Start it: {self._start}")
        return self._door

    def _line(self, line: bytes) -> Json:
        return self._object(Answer(200, line))

    def entries(self, query: Mapping[str, str]) -> Iterator[Json]:
        """Every entry of the queue that the filter in `query` means, page by page."""
        after = ""
        while True:
            page = self.get("/api/v1/queue", {**query, "limit": str(PAGE), **({"after": after} if after else {})})
            found = page["entries"]
            assert isinstance(found, list)
            yield from found
            after = str(page["next"])
            if not after:
                return

    def _call(self, method: str, path: str, query: Mapping[str, str], body: bytes | None) -> Answer:
        answer = self._door.call(method, path, query, body)
        if self._note:
            print(f"relay: {self._note}; this is what its spool holds", file=sys.stderr)
            self._note = ""
        if answer.status >= 300:
            raise _refused(answer)
        return answer

    @staticmethod
    def _object(answer: Answer) -> Json:
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Stop(BUG, "the answer is not a JSON object; is that address the admin API of relay?")
        return found


def _refused(answer: Answer) -> Refused:
    try:
        found = json.loads(answer.body)
        text, problems = str(found["error"]), [str(problem) for problem in found.get("problems", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        text, problems = f"the daemon answered {answer.status}", []
    return Refused(OF_STATUS.get(answer.status, BUG), text, problems)


class Live:
    """The admin API of a running daemon, at an address of `admin.listen`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def reachable(self) -> bool:
        """Whether a daemon listens there. Raises Stop when it does and we may not talk to it."""
        connection = self._connection()
        try:
            connection.connect()
        except PermissionError as error:
            text = f"you may not use {self.address}: it is for its owner and group. Try sudo, or: sudo usermod -aG relay $USER"
            raise Stop(PERMISSION, text) from error
        except OSError:
            return False
        connection.close()
        return True

    def call(self, method: str, path: str, query: Mapping[str, str], body: bytes | None) -> Answer:
        """One request on a connection of its own."""
        connection = self._connection()
        try:
            target = path + ("?" + urllib.parse.urlencode(query) if query else "")
            connection.request(method, target, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Stop(TRY_LATER, f"the daemon at {self.address} broke off: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def follow(self, method: str, path: str, body: bytes | None = None) -> Iterator[bytes]:
        """The lines of an answer, as they come. A daemon that goes away in the middle is an end like any other."""
        connection = self._connection()
        try:
            connection.request(method, path, body, _LINES if body is None else {**_LINES, "Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise _refused(Answer(answer.status, answer.read()))
            while line := answer.readline():
                yield line
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return _UnixConnection(self.address.removeprefix("unix:"))
        host, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(host.removeprefix("[").removesuffix("]"), int(port), timeout=TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


class Stopped:
    """The same calls over the spool directory of a daemon that is down. Reads only."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool

    def call(self, method: str, path: str, query: Mapping[str, str], body: bytes | None) -> Answer:
        """The answer, made in this process."""
        import asyncio

        from relay.cli.offline import answer

        status, content = asyncio.run(answer(self._spool, method, path, query))
        return Answer(status, content)


@dataclass(frozen=True)
class Where:
    """What a configuration says about reaching the daemon: the admin addresses, the spool directory, what starts it."""

    listen: Sequence[str]
    spool: Path
    start: str


def development_directory(environ: Mapping[str, str]) -> Path:
    """Where `relay serve --dev` keeps everything unless told otherwise (XDG base directories)."""
    state = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return Path(state) / "relay-dev"


def config_file(given: str | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file: `-c`, else $RELAY_CONFIG, else /etc/relay/relay.yaml where it exists, else None."""
    named = given or environ.get("RELAY_CONFIG")
    if named:
        if not Path(named).exists():
            raise Stop(NO_INPUT, f"{named}: no such file")
        return Path(named)
    return CONFIG_FILE if CONFIG_FILE.exists() else None


def admin(where: Where) -> Admin:
    """The running daemon, or its spool when it does not run."""
    for address in where.listen:
        live = Live(address)
        if live.reachable():
            return Admin(live)
    tried = " or ".join(where.listen)
    if not _there(where.spool / "spool.db"):
        raise Stop(
            UNAVAILABLE,
            f"cannot reach {tried}, and there is no spool in {where.spool}. Start the daemon: {where.start}",
        )
    return Admin(Stopped(where.spool), f"the daemon is not running (cannot reach {tried})", where.start)


def _there(file: Path) -> bool:
    try:
        return file.exists()
    except PermissionError as error:
        raise Stop(PERMISSION, f"you may not look into {file.parent}, the spool of a daemon that is not running. Try sudo") from error
