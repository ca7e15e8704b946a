"""`python -m bench.batches`: 10,000 queued mails to a Mailtrap-shaped API that takes 150 requests in 10 seconds, in batches and
beside it one request for each mail.

The spool is filled before relay starts, so that everything is due at once. `--sink FILE` uses another program as the API, with
the options `--port`, `--shape` and `--limit`, which counts at GET /count. Only loopback is used; what is started is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import systems
from relay.model import Client, Envelope, Facts, Recipient
from relay.spool.sqlite import SqliteSpool

LIMIT = "150/10"
_PROVIDER = '{{{{type: mailtrap, mode: api, token: "0000-bench", base_url: "http://127.0.0.1:{port}", batch: {{{{max: {most}}}}}}}}}'


@dataclass(frozen=True)
class Result:
    """What came of one run; `mails` are those the sink took within `seconds`."""

    mails: int
    requests: int
    seconds: float


async def fill(spool: Path, count: int) -> None:
    """Put small mails into a spool, due now, each to one recipient."""
    where = SqliteSpool(spool, clock=time.time)
    await where.open()
    try:
        for start in range(0, count, 500):
            await asyncio.gather(*(_commit(where, number) for number in range(start, min(start + 500, count))))
    finally:
        await where.close()


async def _commit(spool: SqliteSpool, number: int) -> None:
    head = f"From: App <app@example.com>\r\nTo: u{number}@example.net\r\nSubject: Invoice {number}\r\nMessage-ID: <{number}@app>\r\n"
    data = f"{head}\r\nDear customer {number},\r\nyour invoice is ready.\r\n".encode()
    now = time.time()
    incoming = spool.incoming(now)
    incoming.write(data)
    await incoming.commit(
        arrived=now,
        client=Client("local", "127.0.0.1", 4000, "localhost", "app"),
        envelope=Envelope("app@example.com", (Recipient(f"u{number}@example.net"),)),
        facts=Facts(len(data), False, 80),
        header=head.encode(),
        message_id=f"<{number}@app>",
        edits=(),
    )


@contextlib.contextmanager
def sink(program: Path | None) -> Iterator[int]:
    """The API, with its limit; yields its port."""
    if program is None:
        command = [sys.executable, "-m", "bench.rest_sink", "--shape", "mailtrap", "--limit", LIMIT]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline())
            finally:
                process.terminate()
        return
    port = systems.free_port()
    command = [sys.executable, str(program), "--port", str(port), "--shape", "mailtrap", "--limit", LIMIT]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait(port)
            yield port
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _count(port)
            return


def _count(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=5) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def run(directory: Path, program: Path | None, *, mails: int, most: int, patience: float) -> Result:
    """Deliver `mails` in requests of at most `most`, for at most `patience` seconds from the start of relay."""
    asyncio.run(fill(directory / "relay" / "spool", mails))
    with sink(program) as port:
        started = time.monotonic()
        with systems.relay(directory / "relay", _PROVIDER.format(port=port, most=most).format()):
            while (found := _count(port))["messages"] < mails and time.monotonic() < started + patience:
                time.sleep(0.05)
            seconds = time.monotonic() - started
    return Result(found["messages"], found["requests"], seconds)


def main() -> int:
    """Print both runs, one beside the other."""
    parser = argparse.ArgumentParser(prog="bench.batches", description=f"queued mails to an API that takes {LIMIT} s requests")
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for each run (default 30)")
    parser.add_argument("--sink", type=Path, help="another program as the API")
    args = parser.parse_args()
    print(f"{args.mails:,} queued mails, {LIMIT} s requests taken")
    print("| | mails delivered | requests | seconds | mails per request |\n| --- | --- | --- | --- | --- |")
    for what, most in (("batches", 500), ("one request per mail", 1)):
        with tempfile.TemporaryDirectory(prefix="relay-batches-") as name:
            found = run(Path(name), args.sink, mails=args.mails, most=most, patience=args.patience)
        print(f"| {what} | {found.mails:,} | {found.requests:,} | {found.seconds:.1f} | {found.mails / max(found.requests, 1):.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
