"""The load: smtp-source and a counting sink (smtp-sink, or bench/rest_sink.py) for throughput; a client and a sink of our own
for latency."""

from __future__ import annotations

import contextlib
import os
import re
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.systems import System, free_port, wait_for_greeting

SENDER, RECIPIENT = "app@bench.example", "user@bench.example"
_PATIENCE = 180.0


@dataclass(frozen=True)
class Run:
    """What one run came to: messages a second, and CPU seconds of the system for 1,000 messages."""

    rate: float
    cpu: float


class Sink:
    """A process that counts the messages it takes; `port` is where it takes them."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.taken = 0
        self._when = 0.0
        self._changed = threading.Condition()
        self._process = process
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()
        self._follower.join()
        if self._process.stdout:
            self._process.stdout.close()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        tail = b""
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            tail = (tail + chunk)[-4096:]
            if counts := re.findall(rb"mesg=(\d+)\r", tail):
                with self._changed:
                    self.taken, self._when = int(counts[-1]), time.perf_counter()
                    self._changed.notify_all()

    def wait(self, count: int) -> float:
        """The time at which the counter reached `count`; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.taken >= count, _PATIENCE):
                raise TimeoutError(f"the sink has {self.taken} of {count} messages after {_PATIENCE:g} s")
            return self._when


@contextmanager
def smtp_sink() -> Iterator[Sink]:
    """A running smtp-sink."""
    port = free_port()
    as_user = ["-u", "nobody"] if os.getuid() == 0 else []
    command = ["smtp-sink", *as_user, "-c", "-m", "2000", f"127.0.0.1:{port}", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    sink = Sink(port, process)
    try:
        wait_for_greeting(port)
        yield sink
    finally:
        sink.close()


@contextmanager
def rest_sink(shape: str) -> Iterator[Sink]:
    """A running REST API of this shape."""
    process = subprocess.Popen([sys.executable, "-m", "bench.rest_sink", "--shape", shape], stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    sink = Sink(int(process.stdout.readline()), process)
    try:
        yield sink
    finally:
        sink.close()


def throughput(system: System, sink: Sink, count: int, size: int, connections: int) -> Run:
    """From the first connection to the last message in the sink. One connection for each message, at most `connections` at once."""
    before, cpu, start = sink.taken, system.cpu(), time.perf_counter()
    _send(system, count, size, connections)
    seconds = sink.wait(before + count) - start
    return Run(count / seconds, (system.cpu() - cpu) * 1000 / count)


def intake(system: System, count: int, size: int, connections: int) -> Run:
    """From the first connection to the last 250."""
    cpu, start = system.cpu(), time.perf_counter()
    _send(system, count, size, connections)
    seconds = time.perf_counter() - start
    return Run(count / seconds, (system.cpu() - cpu) * 1000 / count)


def _send(system: System, count: int, size: int, connections: int) -> None:
    options = ["-s", str(connections), "-m", str(count), "-l", str(size), "-f", SENDER, "-t", RECIPIENT]
    subprocess.run(["smtp-source", *options, f"127.0.0.1:{system.port}"], check=True, timeout=_PATIENCE)


class StampingSink:
    """A small SMTP server that notes when it had the whole of each message. One thread for each connection."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._server.getsockname()[1]
        self._arrived: dict[bytes, float] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = {b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n", b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 sink ESMTP\r\n")
            for line in lines:
                connection.sendall(replies.get(line[:4].upper(), b"250 ok\r\n"))
                if line[:4].upper() == b"DATA":
                    self._take(iter(lines.readline, b".\r\n"))
                    connection.sendall(b"250 ok\r\n")

    def _take(self, message: Iterator[bytes]) -> None:
        marks = [line.split()[1] for line in message if line.startswith(b"X-Bench-Mark: ")]
        with self._changed:
            self._arrived.update(dict.fromkeys(marks, time.perf_counter()))
            self._changed.notify_all()

    def wait(self, mark: str) -> float:
        """When the message with this mark was complete; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: mark.encode() in self._arrived, _PATIENCE):
                raise TimeoutError(f"message {mark} never arrived")
            return self._arrived[mark.encode()]

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()


class SilentSink:
    """A server that takes connections, which is the kernel's work, and never says a word."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._server.getsockname()[1]

    def close(self) -> None:
        """End every connection."""
        self._server.close()


def latency(system: System, sink: StampingSink, mark: str, size: int) -> tuple[float, float]:
    """(ms from connect to 250, ms from connect to the whole message in the sink) for one message."""
    body = "x" * 70 + "\r\n"
    message = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: bench\r\nX-Bench-Mark: {mark}\r\n\r\n{body * (size // len(body))}"
    start = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", system.port, local_hostname="bench.example") as client:
        client.sendmail(SENDER, [RECIPIENT], message)
        accepted = time.perf_counter()
    return (accepted - start) * 1000, (sink.wait(mark) - start) * 1000
