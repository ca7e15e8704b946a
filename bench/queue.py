"""`python -m bench.queue`: hold, release, reroute, retry and delete a queue of 100,000 recipients, while 20 clients hand in mail.

The spool is filled before relay starts: one entry for each recipient, deferred for an hour. Its providers take connections and
never say a word, so that whatever is due stands in line or waits. Each command goes through the admin socket, as `relay queue`
does; printed is how many recipients it changed, how long it took, and how long the clients waited meanwhile, from connecting to
the 250 of each message; and first, to compare with, the same for some seconds without a command. The clients send one message
after the other, each by a connection of its own, as fast as relay takes them (`--pause` lets them wait in between). Only loopback
is used; what is started is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import batches, load, systems
from relay.spool.base import Filter
from relay.spool.sqlite import SqliteSpool

GOALS = {"seconds": 15.0, "p99": 100.0}  # of one command; ms, of the clients meanwhile
SENDER = "app@example.com"  # of what is in the queue
VERBS: Sequence[tuple[str, Mapping[str, object]]] = (
    ("hold", {}),
    ("release", {}),
    ("reroute", {"via": ["other"]}),
    ("retry", {}),
    ("delete", {}),
)
_SILENT = "{{type: smtp, host: 127.0.0.1, port: {port}, tls: none}}"
_HOUR = 3600.0
_IDLE = 5.0  # seconds without a command, to compare with
_QUIET = 180.0  # seconds at most for delivery to find its place for all that a command made due
_NEW = (
    "From: New <new@bench.example>\r\nTo: user@bench.example\r\nSubject: new\r\nMessage-ID: <new@bench.example>\r\n\r\n"
    + "A line of some words, and then another.\r\n" * 90
)


@dataclass(frozen=True)
class Found:
    """What one command came to. `answers` are ms from connecting to 250, of each message that came in meanwhile."""

    verb: str
    recipients: int
    busy: int
    seconds: float
    answers: Sequence[float]

    def row(self, expected: int) -> str:
        """A line of the table."""
        counts = "right" if self.recipients + self.busy == expected else f"WRONG, not {expected:,}"
        slow = [] if self.seconds <= GOALS["seconds"] else ["seconds"]
        slow += [] if percentile(self.answers, 0.99) <= GOALS["p99"] else ["p99"]
        busy = f" + {self.busy:,} under way" if self.busy else ""
        figures = " | ".join(f"{percentile(self.answers, share):.0f}" for share in (0.5, 0.99, 1.0))
        return (
            f"| {self.verb} | {self.recipients:,}{busy} | {counts} | {self.seconds:.1f} | {len(self.answers):,} | {figures} | "
            f"{'missed: ' + ', '.join(slow) if slow else 'ok'} |"
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Clients:
    """SMTP clients in a thread of their own, until they are stopped."""

    def __init__(self, port: int, count: int, pause: float) -> None:
        self._port = port
        self._count = count
        self._pause = pause
        self._over = threading.Event()
        self._answers: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, start: float, end: float) -> list[float]:
        """ms that those messages took of which a part lay between the two times."""
        return [(done - begun) * 1000 for begun, done in list(self._answers) if done >= start and begun <= end]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._client())

    async def _client(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            await self._hand_in()
            self._answers.append((begun, time.monotonic()))
            await asyncio.sleep(self._pause)

    async def _hand_in(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await _heard(reader, b"220")
            for line, code in (
                ("EHLO bench.example\r\n", b"250"),
                ("MAIL FROM:<new@bench.example>\r\n", b"250"),
                ("RCPT TO:<user@bench.example>\r\n", b"250"),
                ("DATA\r\n", b"354"),
                (f"{_NEW}.\r\n", b"250"),
            ):
                writer.write(line.encode())
                await _heard(reader, code)
            writer.write(b"QUIT\r\n")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _heard(reader: asyncio.StreamReader, code: bytes) -> None:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    if not line.startswith(code):
        raise RuntimeError(f"the relay said {line!r} instead of {code!r}")


class _Admin(http.client.HTTPConnection):
    """The admin socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=600)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, call: str, body: Mapping[str, object] | None = None) -> Any:
    """One call of the admin API."""
    with contextlib.closing(_Admin(path)) as connection:
        connection.request(method, f"/api/v1/{call}", json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"{call}: {answer.status} {found}")
    return found


async def fill(spool: Path, count: int) -> None:
    """A queue of `count` mails to one recipient each, deferred for an hour."""
    await batches.fill(spool, count)
    where = SqliteSpool(spool, clock=time.time)
    await where.open()
    try:
        now = time.time()
        while claimed := await where.claim(now, 500, _HOUR):
            await asyncio.gather(
                *(where.postpone(one.queue_id, [state.recipient.address for state in one.open], now + _HOUR) for one in claimed)
            )
        assert count == await where.count(Filter(state="deferred"))
    finally:
        await where.close()


@contextlib.contextmanager
def relay(directory: Path) -> Iterator[systems.System]:
    """relay with two providers that never say a word, and the spool that is in the directory."""
    first, second = load.SilentSink(), load.SilentSink()
    port = systems.free_port()
    path = directory / "relay.yaml"
    path.write_text(
        "version: 1\n"
        f'listen: [{{name: bench, address: "127.0.0.1:{port}"}}]\n'
        f"providers: {{first: {_SILENT.format(port=first.port)}, other: {_SILENT.format(port=second.port)}}}\n"
        "routes: [{name: default, via: first}]\n"
        f"queue: {{spool: {directory}/spool}}\n"
        f'admin: {{listen: ["unix:{directory}/admin.sock"]}}\n'
    )
    path.chmod(0o600)
    with (directory / "mail.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "relay", "serve", "-c", path], stdout=log, stderr=log)
    try:
        systems.wait_for_greeting(port)
        yield systems.System("relay", port, process.pid)
    except TimeoutError as trouble:
        raise RuntimeError(f"{trouble}\n{(directory / 'mail.log').read_text()[-4000:]}") from trouble
    finally:
        first.close()
        second.close()
        process.terminate()
        process.wait(60)


def settle(path: Path) -> None:
    """Wait until everything that is due stands in line or waits, so that the next command finds a queue at rest."""
    deadline, before = time.monotonic() + _QUIET, -1
    while time.monotonic() < deadline:
        active = ask(path, "POST", "queue/retry", {"from": SENDER, "state": "active", "dry_run": True})["recipients"]
        if active == before:
            return
        before = active
        time.sleep(1.0)


def run(directory: Path, recipients: int, clients: int, pause: float) -> list[Found]:
    """First nothing, to compare with, then all five commands, one after the other."""
    asyncio.run(fill(directory / "spool", recipients))
    admin = directory / "admin.sock"
    results = []
    with relay(directory) as system, Clients(system.port, clients, pause) as busy:
        time.sleep(2.0)
        start = time.monotonic()
        time.sleep(_IDLE)
        results.append(Found("(nothing)", recipients, 0, time.monotonic() - start, busy.between(start, time.monotonic())))
        print(results[-1].row(recipients), flush=True)
        for verb, more in VERBS:
            settle(admin)
            start = time.monotonic()
            answer = ask(admin, "POST", f"queue/{verb}", {"from": SENDER, **more})
            end = time.monotonic()
            time.sleep(0.5)  # what was on its way when the command ended counts
            results.append(Found(verb, answer["recipients"], answer.get("busy", 0), end - start, busy.between(start, end)))
            print(results[-1].row(recipients), flush=True)
    return results


def main() -> int:
    """Print a table; 1 where a goal was missed or a count is wrong."""
    parser = argparse.ArgumentParser(prog="bench.queue", description="what an admin does to a long queue, while mail comes in")
    parser.add_argument("--recipients", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that a client waits between two messages (default 0)")
    args = parser.parse_args()
    print("| command | recipients | count | seconds | messages accepted | p50 ms | p99 ms | max ms | goals |\n|" + " --- |" * 9)
    with tempfile.TemporaryDirectory(prefix="relay-queue-") as name:
        found = run(Path(name), args.recipients, args.clients, args.pause)
    return int(any(not one.row(args.recipients).endswith("ok |") or "WRONG" in one.row(args.recipients) for one in found))


if __name__ == "__main__":
    sys.exit(main())
