"""The daemon and the command as processes of their own, as an admin runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import smtplib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE = 15.0  # seconds until something awaited counts as never happening


@dataclass
class Printed:
    """What a command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()

    @property
    def objects(self) -> list[Any]:
        """Standard output as JSON, one value for each line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Daemon:
    """One `python -m relay serve …`. `lines` are what it wrote, both streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = asyncio.Event()
        self._ended = False
        self._readers = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr) if stream]

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.lines.append(line.decode().rstrip("\n"))
            self._news.set()
        self._ended = True
        self._news.set()

    async def line(self, pattern: str) -> re.Match[str]:
        """The first line that `pattern` is found in, waited for."""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    for line in self.lines:
                        if found := re.search(pattern, line):
                            return found
                    assert not self._ended, "\n".join(["the daemon ended:", *self.lines])
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError("\n".join([f"no line with {pattern!r}:", *self.lines])) from None

    async def lines_with(self, pattern: str, count: int) -> None:
        """Until so many lines have `pattern` in them."""
        try:
            async with asyncio.timeout(DEADLINE):
                while sum(re.search(pattern, line) is not None for line in self.lines) < count:
                    assert not self._ended, "\n".join(["the daemon ended:", *self.lines])
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError("\n".join([f"not {count} lines with {pattern!r}:", *self.lines])) from None

    async def drained(self, recipients: int) -> None:
        """Until so many recipients were sent to and every message that came in is finished."""
        try:
            async with asyncio.timeout(DEADLINE):
                while self._count("status=sent") < recipients or self._count(": removed") < self._count(": client="):
                    assert not self._ended, "\n".join(["the daemon ended:", *self.lines])
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError("\n".join([f"not all of {recipients} recipients were sent to:", *self.lines])) from None

    def _count(self, text: str) -> int:
        return sum(text in line for line in self.lines)

    async def port(self) -> int:
        """The port of its first listener, once it is ready."""
        return int((await self.line(r"ready: mail at \w+ 127\.0\.0\.1:(\d+)"))[1])

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        """The exit code of a daemon that ends by itself."""
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*self._readers)
            return await self.process.wait()


class Host:
    """A host with one configuration: starts daemons and runs commands on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "relay.yaml"
        self.capture = directory / "spool" / "capture" / "capture"
        self.daemons: list[Daemon] = []
        self._environment = {"HOME": str(directory), "PATH": os.environ["PATH"], "TZ": "UTC", "PYTHONWARNINGS": "error"}

    def configure(self, providers: str, more: str = "", *, port: int = 0) -> None:
        """Write the configuration; `providers` is the YAML of that section in one line."""
        self.config.write_text(
            f'listen: [{{name: local, address: "127.0.0.1:{port}"}}]\n'
            f"providers: {providers}\n"
            f'queue: {{spool: "{self.directory}/spool", min_free: 1MB, keep_bodies: 1h}}\n'
            f'admin: {{listen: "unix:{self.directory}/admin.sock"}}\n{more}'
        )
        self.config.chmod(0o600)

    async def serve(self, *arguments: str) -> Daemon:
        """Start a daemon; it may still fail."""
        daemon = Daemon(await self._run("-m", "relay", "serve", *(arguments or ("-c", str(self.config)))))
        self.daemons.append(daemon)
        return daemon

    async def relay(self, *arguments: str) -> Printed:
        """Run a command to its end."""
        return await self._whole(await self._run("-m", "relay", *arguments, "-c", str(self.config)))

    async def drained(self) -> None:
        """Until nothing is left in the queue."""
        async with asyncio.timeout(DEADLINE):
            while (await self.relay("status", "--json")).objects[0]["queue"]["entries"]:
                pass

    async def python(self, line: str) -> Printed:
        """Run a command line that begins with a Python interpreter, as it was printed for people to copy."""
        _, *arguments = shlex.split(line)
        return await self._whole(await self._run(*arguments))

    async def _whole(self, process: asyncio.subprocess.Process) -> Printed:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Printed(process.returncode, out, err.decode())

    async def _run(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )

    async def close(self) -> None:
        """End every daemon that still runs."""
        for daemon in self.daemons:
            if daemon.process.returncode is None:
                await daemon.end(signal.SIGKILL)


@contextlib.asynccontextmanager
async def host(directory: Path) -> AsyncIterator[Host]:
    """A host whose daemons end with the test."""
    result = Host(directory)
    try:
        yield result
    finally:
        await result.close()


async def send(port: int, message: bytes, recipients: list[str], sender: str = "app@example.com") -> None:
    """Hand in a message as a legacy app does, by smtplib."""

    def run() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            assert {} == client.sendmail(sender, recipients, message)

    await asyncio.to_thread(run)
