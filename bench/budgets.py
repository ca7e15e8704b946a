"""`python -m bench.budgets`: what two providers' budgets (14/s and 150/10s) let go, measured where it arrives.

Each provider has a burst of queued mail on one route and a trickle on another; half-way through the daemon is killed (kill -9) and
started again. Printed for each provider: the most arrivals in any window of its budget, the share of the budget that was used while
the daemon ran, and how long the trickle was in the queue. Exit code 1 where a goal is missed. Only loopback is used; what is started
is stopped.

`python -m bench.budgets sink` is the SMTP server that notes arrivals: its port first, then a line for each message: the time at
which its last octet came, the reverse-path, and the time it was handed in, in seconds of this host's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import systems
from relay.model import Client, Envelope, Facts, Recipient
from relay.spool.sqlite import SqliteSpool

BUDGETS = {"a": (14, 1.0), "b": (150, 10.0)}
"""Messages in so many seconds, by provider."""
LEAST = 0.95  # of the budget
LONGEST = 1.0  # seconds in the queue, 99 of 100
_PAUSE = 0.5  # seconds between two mails of a trickle
_NEAR = 1.5  # seconds around a restart whose mails are told apart
_YAML = """\
version: 1
listen: [{{name: bench, address: "127.0.0.1:{port}"}}]
providers:
  a: {{type: smtp, host: 127.0.0.1, port: {a}, tls: none, limits: {{rate: 14/s}}}}
  b: {{type: smtp, host: 127.0.0.1, port: {b}, tls: none, limits: {{rate: 150/10s}}}}
routes:
  - {{name: bulk-a, match: {{from: bulk-a@example.com}}, via: a}}
  - {{name: bulk-b, match: {{from: bulk-b@example.com}}, via: b}}
  - {{name: trickle-a, match: {{from: trickle-a@example.com}}, via: a}}
  - {{name: trickle-b, via: b}}
queue: {{spool: {directory}/spool, min_free: 1MB}}
admin: {{listen: ["unix:{directory}/admin.sock"]}}
"""


@dataclass(frozen=True)
class Arrival:
    """One message at a sink; times are of this host's monotonic clock, `sent` 0 where it was in the queue from the start."""

    at: float
    sender: str
    sent: float


@dataclass
class Found:
    """What was measured of one provider. `near` are waits of mail that was handed in around the restart."""

    most: int
    share: float
    waits: list[float] = field(default_factory=list)
    near: list[float] = field(default_factory=list)


def most_in(times: Sequence[float], seconds: float) -> int:
    """The most arrivals in any window of so many seconds, its end left out."""
    ordered, most, first = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def high(waits: Sequence[float], share: float = 0.99) -> float:
    """What so many of them do not exceed; not a number where there are none."""
    return sorted(waits)[math.ceil(share * len(waits)) - 1] if waits else math.nan


def found(arrivals: Sequence[Arrival], budget: tuple[int, float], runs: Sequence[tuple[float, float]]) -> Found:
    """What arrived, beside the budget; `runs` are the times in which the daemon ran."""
    count, seconds = budget
    inside = sum(1 for one in arrivals if any(begin <= one.at < end for begin, end in runs))
    result = Found(most_in([one.at for one in arrivals], seconds), inside / (count / seconds * sum(end - begin for begin, end in runs)))
    edges = [runs[0][1], runs[-1][0]] if len(runs) > 1 else []
    for one in arrivals:
        if one.sent:
            near = edges and edges[0] - _NEAR <= one.sent <= edges[1] + _NEAR
            (result.near if near else result.waits).append(one.at - one.sent)
    return result


# The sink.


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 sink ESMTP\r\n")
    sender = ""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go\r\n")
                message = await reader.readuntil(b"\r\n.\r\n")
                sent = message.partition(b"X-Sent: ")[2].partition(b"\r\n")[0].decode() or "0"
                print(f"{time.monotonic():.6f} {sender} {sent}", flush=True)
                writer.write(b"250 2.0.0 taken\r\n")
            elif verb == b"EHLO":
                writer.write(b"250-sink\r\n250 PIPELINING\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                if verb == b"MAIL":
                    sender = line.decode().partition("<")[2].partition(">")[0]
                writer.write(b"250 2.0.0 ok\r\n")
    writer.close()


async def _sink() -> None:
    server = await asyncio.start_server(_session, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def sink(file: Path) -> Iterator[int]:
    """A sink that writes to `file`; yields its port."""
    with file.open("wb") as out, subprocess.Popen([sys.executable, "-m", "bench.budgets", "sink"], stdout=out) as process:
        try:
            while not (first := file.read_text()).endswith("\n"):
                time.sleep(0.02)
            yield int(first)
        finally:
            process.terminate()


def arrived(file: Path) -> list[Arrival]:
    """What a sink wrote."""
    lines = [line.split(" ") for line in file.read_text().splitlines()[1:]]
    return [Arrival(float(at), sender, float(sent)) for at, sender, sent in lines]


# Those who hand in mail.


async def _fill(spool: Path, count: int) -> None:
    where = SqliteSpool(spool, clock=time.time)
    await where.open()
    try:
        for start in range(0, count, 250):
            numbers = range(start, min(start + 250, count))
            await asyncio.gather(*(_commit(where, name, number) for number in numbers for name in BUDGETS))
    finally:
        await where.close()


async def _commit(spool: SqliteSpool, name: str, number: int) -> None:
    head = f"From: bulk-{name}@example.com\r\nTo: u{number}@example.net\r\nMessage-ID: <{number}.{name}@app>\r\n".encode()
    now = time.time()
    incoming = spool.incoming(now)
    incoming.write(head + b"\r\nnews\r\n")
    await incoming.commit(
        arrived=now,
        client=Client("bench", "127.0.0.1", 4000, "localhost", "app"),
        envelope=Envelope(f"bulk-{name}@example.com", (Recipient(f"u{number}@example.net"),)),
        facts=Facts(len(head) + 8, False, 80),
        header=head,
        message_id=f"<{number}.{name}@app>",
        edits=(),
    )


def _trickle(port: int, name: str, over: threading.Event) -> None:
    """One mail after the other; while the daemon is down, none."""
    while not over.wait(_PAUSE):
        with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            head = f"From: trickle-{name}@example.com\r\nTo: a@example.net\r\nX-Sent: {time.monotonic():.6f}\r\n"
            client.sendmail(f"trickle-{name}@example.com", ["a@example.net"], f"{head}\r\nreset your password\r\n")


# The run.


def _start(config: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "relay", "serve", "-c", config], stdout=out, stderr=out)
    try:
        systems.wait_for_greeting(port)
    except TimeoutError as trouble:
        process.kill()
        raise RuntimeError(f"relay did not start:\n{log.read_text()}") from trouble
    return process


def run(directory: Path, *, seconds: float, burst: int) -> dict[str, Found]:
    """Deliver for so long, with kill -9 and a restart half-way."""
    asyncio.run(_fill(directory / "spool", burst))
    port, config, over = systems.free_port(), directory / "relay.yaml", threading.Event()
    files = {name: directory / f"sink-{name}" for name in BUDGETS}
    runs: list[tuple[float, float]] = []
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(sink(file)) for name, file in files.items()}
        config.write_text(_YAML.format(directory=directory, port=port, **ports))
        config.chmod(0o600)
        clients = [threading.Thread(target=_trickle, args=(port, name, over)) for name in BUDGETS]
        process = None
        try:
            for half in range(2):
                process = _start(config, port, directory / "mail.log")
                began = time.monotonic()
                for client in clients if not half else ():
                    client.start()
                time.sleep(seconds / 2)
                runs.append((began, time.monotonic()))
                process.send_signal(signal.SIGKILL)
                process.wait()
        finally:
            over.set()
            if process and process.poll() is None:
                process.kill()
                process.wait()
            for client in clients:
                if client.ident:
                    client.join()
        time.sleep(0.2)  # what was on its way to a sink
    return {name: found(arrived(file), BUDGETS[name], runs) for name, file in files.items()}


def main() -> int:
    """Print what was measured; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.budgets", description="budgets, measured at the providers")
    parser.add_argument("what", nargs="?", choices=["sink"], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long mail is delivered (default 60)")
    parser.add_argument("--burst", type=int, default=10_000, help="queued mails for each provider (default 10,000)")
    args = parser.parse_args()
    if args.what:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_sink())
        return 0
    os.environ["PYTHONUNBUFFERED"] = "1"
    with tempfile.TemporaryDirectory(prefix="relay-budgets-") as name:
        measured = run(Path(name), seconds=args.seconds, burst=args.burst)
    print(
        "| provider | budget | most in any window | of the budget used | trickle, p99 in queue | most | around the restart, most | mails |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    missed = False
    for name, one in measured.items():
        count, seconds = BUDGETS[name]
        p99, most, near = high(one.waits), max(one.waits, default=math.nan), max(one.near, default=math.nan)
        waits = f"{p99:.2f} s | {most:.2f} s | {near:.2f} s | {len(one.waits)}"
        print(f"| {name} | {count}/{seconds:g}s | {one.most} | {one.share:.1%} | {waits} |")
        missed = missed or one.most > count or one.share < LEAST or not p99 <= LONGEST
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
