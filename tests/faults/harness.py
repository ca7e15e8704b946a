"""What every fault test does: a daemon that is killed under load, and the books that are balanced afterwards.

Each message has an id of its own and is submitted exactly once. A client notes an id when it has read the whole 250;
the sink notes every message whose final dot arrived. At the end every noted id must be in the sink, and one that is
there twice must stand in the log as "may be delivered twice". The letter that an id begins with says what becomes of the
message: `s` asks for a notice of success, `f` is refused and bounced, all others are plain. Notices are counted like messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CLIENTS = 20
MESSAGES = 15  # by each client in one round
_TWICE = re.compile(r"\b([0-9A-F]{14}): .*may be delivered twice")
_RCPT = {"f": b"RCPT TO:<nobody@sink.example>", "s": b"RCPT TO:<user@sink.example> NOTIFY=SUCCESS,FAILURE"}
_CONFIG = """\
version: 1
listen: [{{name: faults, address: "127.0.0.1:{port}"}}]
providers: {{sink: {provider}}}
queue: {{spool: {spool}, retry: [1s], min_free: 1MB}}
admin: {{listen: ["unix:{directory}/admin.sock"]}}
"""


@dataclass(frozen=True)
class Provider:
    """What the mail goes to: the module of its sink, the seconds at most until that answers, and how relay is told of it."""

    module: str
    delay: float
    config: str  # with {port}


PROVIDERS: Mapping[str, Provider] = {
    "smtp": Provider("tests.faults.sink", 0.02, "{{type: smtp, host: 127.0.0.1, port: {port}, tls: none}}"),
    # A request holds many messages: fewer of them, each for longer.
    "mailtrap": Provider("tests.faults.mailtrap", 0.3, '{{type: mailtrap, token: not-a-real-token, base_url: "http://127.0.0.1:{port}"}}'),
}
SMTP = PROVIDERS["smtp"]


@dataclass
class Books:
    """What clients were promised, and what arrived."""

    acked: dict[str, str] = field(default_factory=dict)  # id -> queue id
    arrived: Counter[str] = field(default_factory=Counter)
    queue_ids: dict[str, set[str]] = field(default_factory=dict)  # id -> queue ids it arrived with
    announced: set[str] = field(default_factory=set)  # queue ids of which the log says: may be delivered twice
    damaged: int = 0

    def read_sink(self, *files: Path) -> None:
        """Take over what the sinks wrote so far."""
        self.arrived.clear()
        self.damaged = 0
        for line in (line for file in files if file.exists() for line in file.read_text().splitlines()):
            name, queue_id, state = line.split()
            self.arrived[name] += 1
            self.queue_ids.setdefault(name, set()).add(queue_id)
            self.damaged += state != "ok"

    def read_log(self, text: str) -> None:
        """Take over which doubles the daemon announced."""
        self.announced = set(_TWICE.findall(text))

    @property
    def lost(self) -> set[str]:
        """Promised and never arrived."""
        return self.acked.keys() - self.arrived.keys()

    @property
    def doubled(self) -> set[str]:
        """Arrived more than once."""
        return {name for name, count in self.arrived.items() if count > 1}

    @property
    def unexplained(self) -> set[str]:
        """Doubles that the log does not announce."""
        return {name for name in self.doubled if len(self.queue_ids[name]) > 1 or not self.queue_ids[name] <= self.announced}

    def summary(self, rounds: int) -> str:
        """One line of figures."""
        return (
            f"rounds={rounds} acked={len(self.acked)} lost={len(self.lost)} arrived={len(self.arrived)} damaged={self.damaged} "
            f"doubled={len(self.doubled)} explained={len(self.doubled - self.unexplained)} announced={len(self.announced)}"
        )


class Daemon:
    """`relay serve` in a process group of its own. `module` is `relay`, or a control that runs it with a defect."""

    def __init__(self, directory: Path, sink: int, module: str = "relay", spool: Path | None = None, provider: Provider = SMTP) -> None:
        self.module = module
        self.port = _free_port()
        self.log = directory / "daemon.log"
        self._config = directory / "relay.yaml"
        config = {"port": self.port, "provider": provider.config.format(port=sink), "spool": spool or directory / "spool"}
        self._config.write_text(_CONFIG.format(**config, directory=directory))
        self._config.chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may take a moment until it answers (see `ready`)."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", self.module, "serve", "-c", str(self._config)]
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    async def ready(self) -> None:
        """Return when it greets; RuntimeError with its log when it ended instead."""
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self._process.returncode}:\n{self.log.read_text()[-2000:]}")
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                greeting = await reader.readline()
                writer.close()
                if greeting.startswith(b"220"):
                    return
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it stands; returns when each of its threads has come to rest, system calls under way included."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.iterdir()):
            time.sleep(0.001)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def idle(self) -> bool:
        """Whether the queue is empty, by the command line."""
        command = [sys.executable, "-m", "relay", "queue", "list", "--json", "-c", str(self._config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode == 0 and not done.stdout.strip()

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(60)
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def sink(
    file: Path, delay: float, port: int = 0, how: signal.Signals = signal.SIGKILL, module: str = SMTP.module
) -> AsyncIterator[int]:
    """The sink process, ended by `how`; yields its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(file), str(delay), str(port), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.send_signal(how)
        async with asyncio.timeout(20):
            await process.wait()


async def load(port: int, books: Books, chance: random.Random, names: Sequence[str]) -> None:
    """All clients at once, each with its share of the ids; ends when they are through or cut off."""
    shares = [names[number::CLIENTS] for number in range(CLIENTS)]
    await asyncio.gather(*(_client(port, books, random.Random(chance.random()), share) for share in shares))


async def _client(port: int, books: Books, chance: random.Random, names: Sequence[str]) -> None:
    with contextlib.suppress(OSError, EOFError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await _reply(reader)
            await _command(reader, writer, b"EHLO client.example")
            for name in names:
                for line in (b"MAIL FROM:<app@client.example>", _RCPT.get(name[0], b"RCPT TO:<user@sink.example>"), b"DATA"):
                    await _command(reader, writer, line)
                reply = await _command(reader, writer, _message(name, chance) + b".")
                if reply.startswith(b"250 "):
                    books.acked.update(dict.fromkeys(_due(name), reply.split()[-1].decode()))
        finally:
            writer.transport.abort()


def _due(name: str) -> list[str]:
    """What must arrive because this message was promised."""
    return {"f": [f"notice:{name}"], "s": [name, f"notice:{name}"]}.get(name[0], [name])


def _message(name: str, chance: random.Random) -> bytes:
    """A message of 1 to 60 KB, and now and then one of 2 MB, which a spool may keep elsewhere."""
    line = b"." + name.encode() + b" " * 40 + b"\r\n"
    body = line * (chance.randrange(20, 1000) if chance.random() > 0.01 else 36_000)
    head = f"From: app@client.example\r\nTo: user@sink.example\r\nSubject: {name}\r\nX-Fault-Id: {name}\r\n"
    stuffed = body.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1)
    return f"{head}X-Fault-Digest: {hashlib.sha256(body).hexdigest()}\r\n\r\n".encode() + stuffed


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
    writer.write(line + b"\r\n")
    await writer.drain()
    return await _reply(reader)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """The last line of a reply; EOFError when the connection ended before it was whole."""
    while True:
        line = await reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        if line[3:4] != b"-":
            return line


async def drained(daemon: Daemon, books: Books, file: Path, patience: float = 30.0) -> None:
    """Return when the queue is empty, or nothing new arrived for `patience` seconds."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < patience and not daemon.idle():
        books.read_sink(file)
        if sum(books.arrived.values()) != last:
            last, since = sum(books.arrived.values()), time.monotonic()
        await asyncio.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
