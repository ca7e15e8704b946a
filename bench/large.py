"""`python -m bench.large`: what one mail with a large attachment costs, by each REST API and by SMTP.

For each provider a daemon of its own takes the mail on loopback and hands it to a sink that answers as the provider does.
Printed is, beside its goal: how much memory all processes of the daemon take more at most, as a multiple of the message; how
long its event loop stood still at most; and the CPU that 10 MB of message cost, coming in and going out. A coroutine beside
the daemon measures the loop, so relay itself is as it is. On a busy machine a loop waits for its turn as well: the CPU that
the daemon used meanwhile is told beside it. Needs Linux; by SMTP also Debian's package postfix, for its smtp-sink.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import shutil
import smtplib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.systems import System, free_port, wait_for_greeting
from relay import config
from relay.daemon import Daemon

GOALS = {"memory": 2.0, "block": 50.0, "cpu": 200.0}  # times the message; ms; ms for 10 MB
_BEAT = 0.002  # seconds
_WORTH_TELLING = 0.005  # seconds; a gap between two beats that is shorter is not written down
_SAMPLE = 0.004  # seconds between two looks at the memory
_PATIENCE = 120.0

YAML = """\
version: 1
hostname: relay.bench.example
listen: [{{name: bench, address: "127.0.0.1:{port}", max_size: 200MB}}]
admin: {{listen: ["unix:{directory}/admin.sock"]}}
queue: {{spool: "{directory}/spool", min_free: 1MB}}
providers: {{bench: {{{provider}}}}}
"""
_HERE = 'base_url: "http://127.0.0.1:{port}", limits: {{size: 200MB}}'
_AWS = "type: ses, region: eu-west-1, access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
# What is measured -> (shape of the sink, "" for SMTP; the provider's configuration).
PROVIDERS: Mapping[str, tuple[str, str]] = {
    "smtp": ("", "type: smtp, host: 127.0.0.1, port: {port}, tls: none"),
    "ses, raw": ("ses", f"{_AWS}, {_HERE}"),
    "ses, simple": ("ses", f"{_AWS}, content_mode: simple, {_HERE}"),
    "postmark": ("postmark", f"type: postmark, token: 00000000-0000-4000-8000-000000000000, {_HERE}"),
    "mailtrap": ("mailtrap", f"type: mailtrap, token: 00000000000000000000000000000000, {_HERE}"),
    "paubox": ("paubox", f"type: paubox, username: bench, api_key: 00000000000000000000, {_HERE}"),
    "lowcodeapi": ("lowcodeapi", f"type: lowcodeapi, token: 00000000000000000000, {_HERE}"),
}


@dataclass(frozen=True)
class Found:
    """One measurement: memory as a multiple of the message (PSS as seen, RSS as the kernel kept it), the longest time that the
    loop stood still and the CPU that was used meanwhile (ms), and CPU in and out (ms for 10 MB of message)."""

    pss: float
    rss: float
    block: float
    block_cpu: float
    cpu_in: float
    cpu_out: float


def message(size: int) -> bytes:
    """A mail with a text as 8bit, as many applications write it, and an attachment of `size` octets in base64."""
    head = (
        f"From: {load.SENDER}\nTo: {load.RECIPIENT}\nSubject: large\n"
        "Date: Fri, 20 Nov 2026 10:00:00 +0000\nMessage-ID: <large@bench.example>\n"
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=large\n\n--large\nContent-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n\nGrüße, siehe Anhang.\n"
        '--large\nContent-Type: application/pdf; name="large.pdf"\nContent-Disposition: attachment; filename="large.pdf"\n'
        "Content-Transfer-Encoding: base64\n\n"
    )
    return (head.encode() + base64.encodebytes(os.urandom(size)) + b"--large--\n").replace(b"\n", b"\r\n")


SMALL = f"From: {load.SENDER}\r\nTo: {load.RECIPIENT}\r\nSubject: small\r\n\r\nwarms up\r\n".encode()


# --- the daemon, with a heart ---


async def _run_with_heart(path: Path, beats: Path) -> None:
    daemon = Daemon(config.load(path, environ=os.environ), source=path)
    heart = asyncio.create_task(_beat(beats))
    try:
        await daemon.run()
    finally:
        heart.cancel()


async def _beat(path: Path) -> None:
    """Write down when the loop came late: at what time, how late, and the CPU used meanwhile (seconds)."""
    with path.open("w", buffering=1) as out:
        while True:
            before, used = time.monotonic(), time.process_time()
            await asyncio.sleep(_BEAT)
            late = time.monotonic() - before - _BEAT
            if late > _WORTH_TELLING:
                out.write(f"{before} {late} {time.process_time() - used}\n")


@contextmanager
def _daemon(directory: Path, provider: str) -> Iterator[System]:
    """A daemon with this provider; `beats` in the directory tells of its loop."""
    port = free_port()
    path = directory / "relay.yaml"
    path.write_text(YAML.format(directory=directory, port=port, provider=provider))
    path.chmod(0o600)
    with (directory / "mail.log").open("wb") as log:
        command = [sys.executable, "-m", "bench.large", "--serve", str(path), str(directory / "beats")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for_greeting(port)
        yield System("relay", port, process.pid)
    except TimeoutError as trouble:
        raise RuntimeError(f"{trouble}\n{(directory / 'mail.log').read_text()[-4000:]}") from trouble
    finally:
        process.terminate()
        process.wait(60)


# --- the measurement ---


class _Watch:
    """Looks at the memory of a system again and again, in a thread of its own."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._over = threading.Event()
        self.before = self.peak = system.pss()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(_SAMPLE):
            self.peak = max(self.peak, self._system.pss())

    def growth(self) -> float:
        """MiB more than at the start, at most; ends the watch."""
        self._over.set()
        self._thread.join()
        return self.peak - self.before


def _send(port: int, path: Path) -> None:
    """Hand in a message, by a process of its own: this one watches."""
    subprocess.run([sys.executable, "-m", "bench.large", "--send", str(port), str(path)], check=True, timeout=_PATIENCE)


def measure(directory: Path, name: str, path: Path) -> Found:
    """One mail of the message in `path` through a fresh daemon."""
    shape, provider = PROVIDERS[name]
    sinks: AbstractContextManager[load.Sink] = load.rest_sink(shape) if shape else load.smtp_sink()
    small = directory / "small.eml"
    small.write_bytes(SMALL)
    with sinks as sink, tempfile.TemporaryDirectory(dir=directory) as place:
        with _daemon(Path(place), provider.format(port=sink.port)) as system:
            _send(system.port, small)
            sink.wait(1)
            time.sleep(0.5)  # what a first mail leaves behind is over
            rss, cpu, started = system.rss(), system.cpu(), time.monotonic()
            system.reset_peak()
            watch = _Watch(system)
            _send(system.port, path)
            taken = system.cpu()
            sink.wait(2)
            time.sleep(0.3)  # the outcome is recorded
            growth, peak, done, ended = watch.growth(), system.rss("VmHWM"), system.cpu(), time.monotonic()
        beats = [tuple(map(float, line.split())) for line in (Path(place) / "beats").read_text().splitlines()]
    _, late, used = max((beat for beat in beats if started < beat[0] < ended), key=lambda beat: beat[1], default=(0.0, 0.0, 0.0))
    octets = path.stat().st_size
    times, tens = octets / 2**20, octets / 1e7
    return Found(growth / times, (peak - rss) / times, late * 1000, used * 1000, (taken - cpu) * 1000 / tens, (done - taken) * 1000 / tens)


def row(name: str, rounds: list[Found]) -> str:
    """A line of the table: the median, of the block the shortest too, for it is the one that other load made least of."""
    middle = {key: statistics.median(getattr(one, key) for one in rounds) for key in Found.__dataclass_fields__}
    least = min(rounds, key=lambda one: one.block)
    cpu = middle["cpu_in"] + middle["cpu_out"]
    missed = [
        *(["memory"] if middle["pss"] > GOALS["memory"] else []),
        *(["block"] if least.block > GOALS["block"] else []),
        *(["CPU"] if cpu > GOALS["cpu"] else []),
    ]
    return (
        f"{name:<12} {middle['pss']:6.2f} {middle['rss']:6.2f}   {least.block:6.0f} ({least.block_cpu:3.0f}) {middle['block']:6.0f}"
        f"   {middle['cpu_in']:6.0f} {middle['cpu_out']:6.0f} {cpu:6.0f}   {'missed: ' + ', '.join(missed) if missed else 'ok'}"
    )


def main() -> int:
    """Measure what was asked for; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench.large", description="what one mail with a large attachment costs")
    parser.add_argument("--rounds", type=int, default=3, help="daemons for each provider (default 3)")
    parser.add_argument("--size", type=float, default=25.0, help="MiB of the attachment (default 25)")
    parser.add_argument("--directory", type=Path, help="where spools go (default: a temporary directory)")
    parser.add_argument("--only", choices=PROVIDERS, action="append", help="measure this; may be repeated")
    parser.add_argument("--serve", nargs=2, type=Path, metavar=("CONFIG", "BEATS"), help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=2, metavar=("PORT", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(_run_with_heart(*args.serve))
        return 0
    if args.send:
        with smtplib.SMTP("127.0.0.1", int(args.send[0]), local_hostname="bench.example") as client:
            client.sendmail(load.SENDER, [load.RECIPIENT], Path(args.send[1]).read_bytes())
        return 0
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    names = [name for name in args.only or PROVIDERS if PROVIDERS[name][0] or shutil.which("smtp-sink")]
    print("             memory, x message   loop stood still, ms   CPU, ms for 10 MB of message")
    print("               PSS    RSS    least (CPU) median       in    out    sum   goals: 2.0, 50 ms, 200 ms", flush=True)
    lines = []
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=args.directory) as place, contextlib.suppress(KeyboardInterrupt):
        directory = Path(place)
        directory.chmod(0o755)
        path = directory / "large.eml"
        path.write_bytes(message(int(args.size * 2**20)))
        for name in names:
            lines.append(row(name, [measure(directory, name, path) for _ in range(args.rounds)]))
            print(lines[-1], flush=True)
    return 1 if any("missed" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
