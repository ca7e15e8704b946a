"""Two providers and one daemon under load: the first provider gets into trouble and out of it, and the books are balanced.

    python -m tests.faults.failover                          every trouble, by SMTP and two APIs; probes come when they come
    python -m tests.faults.failover --hurry                  the same with `relay queue retry` after the trouble
    python -m tests.faults.failover --by smtp --only killed --seed 7
    python -m tests.faults.failover --only killed --process  the first provider is a process, ended by SIGKILL
    python -m tests.faults.failover --only killed --batches  many messages in a request

Each message has an id of its own and is handed in once. Both providers note every message that reached them whole and that they
did not refuse. Printed for each trouble: mails handed in, taken by each provider, taken twice, seconds from the first failure to
the first mail taken by the second provider, seconds from the end of the trouble until the first provider takes mail again, and
the log's lines on the change. Ends with 0 when the books are as they must be: nothing is lost; nothing is taken by both providers;
what is taken twice was taken by the same provider, which did not answer the first time, and was announced; what may not move
did not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.e2e.processes import Daemon, Host, host
from tests.faults.troubles import KINDS, SMALL, TROUBLES, ByApi, ByProcess, BySmtp, Noted, Side, Trouble

PATIENCE = "1s"
LIMIT = 90.0  # seconds until something awaited counts as never happening
CLIENTS = 10
_CHANGE = re.compile(r"provider a\b.*(paused|resumed|throttled|suspected)")
_TWICE = re.compile(r"\b([0-9A-F]{14}): .*may be delivered twice")


@dataclass
class Result:
    """The books of one run."""

    trouble: Trouble
    kind: str
    acked: set[str] = field(default_factory=set)
    noted: list[Noted] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    announced: set[str] = field(default_factory=set)
    switch: list[float] = field(default_factory=list)  # seconds
    back: list[float] = field(default_factory=list)  # seconds
    left: int = 0  # entries in the queue at the end

    def by(self, provider: str) -> set[str]:
        """What one provider took."""
        return {one.name for one in self.noted if one.provider == provider}

    @property
    def doubled(self) -> dict[str, list[Noted]]:
        """What was taken more than once."""
        found: dict[str, list[Noted]] = {}
        for one in self.noted:
            found.setdefault(one.name, []).append(one)
        return {name: times for name, times in found.items() if len(times) > 1}

    @property
    def across(self) -> set[str]:
        """What both providers took."""
        return self.by("a") & self.by("b")

    @property
    def unexplained(self) -> set[str]:
        """Taken more than once in a way that must not be."""
        return {
            name
            for name, times in self.doubled.items()
            if len({one.provider for one in times}) > 1
            or len({one.queue_id for one in times}) > 1
            or times[0].queue_id not in self.announced
        }

    @property
    def problems(self) -> list[str]:
        """What is not as it must be."""
        moves, by_b = self.trouble.moves[self.kind], self.by("b")
        found = {
            f"{len(self.acked - self.by('a') - by_b)} mails lost": bool(self.acked - self.by("a") - by_b),
            f"{len(self.unexplained)} mails doubled: {sorted(self.unexplained)[:5]}": bool(self.unexplained),
            f"{len(self.across)} mails doubled across providers": bool(self.across),
            f"{len(self.doubled)} mails doubled though each was answered": bool(self.doubled and not self.trouble.doubles),
            f"{self.left} mails still in the queue": bool(self.left),
            "nothing went to the second provider": moves is True and not by_b,
            f"{len(by_b)} mails went to the second provider that must stay": moves is False and bool(by_b),
            "the trouble of one message moved others": bool(self.trouble.poison and by_b - {self.trouble.poison}),
            "the first provider is not used again": not any(name.startswith("after") for name in self.by("a")),
            "the trouble of one message paused the provider": bool(self.trouble.poison and any("paused" in line for line in self.lines)),
        }
        return [what for what, wrong in found.items() if wrong]

    def __str__(self) -> str:
        """Figures, then the lines on the change."""
        switch, back = (", ".join(f"{seconds:.2f}" for seconds in times) or "-" for times in (self.switch, self.back))
        head = (
            f"{self.trouble.name} ({self.kind}): mails={len(self.acked)} by_a={len(self.by('a'))} by_b={len(self.by('b'))} "
            f"lost={len(self.acked - self.by('a') - self.by('b'))} across={len(self.across)} doubled={len(self.doubled)} "
            f"announced={len(self.doubled.keys() - self.unexplained)} switch_s={switch} back_s={back} "
            f"{'; '.join(self.problems) or 'ok'}"
        )
        return "\n".join([head, *(f"    {line}" for line in self.lines)])


class Run:
    """One trouble, from a sound provider to a sound provider."""

    def __init__(self, trouble: Trouble, kind: str, here: Host, daemon: Daemon, sides: Sequence[Side], hurry: bool, seed: int) -> None:
        self.result = Result(trouble, kind, noted=sides[0].noted)
        self._trouble = trouble
        self._here = here
        self._daemon = daemon
        self._a, self._b = sides
        self._hurry = hurry
        self._chance = random.Random(seed)

    async def go(self, kills: int) -> Result:
        """Mail before, during and after the trouble; then everything is waited for."""
        port = await self._daemon.port()
        await self._load(port, "before", 20, SMALL)
        await self._until(lambda: len(self.result.by("a")) == 20)
        for number in range(kills if self._trouble.kills else 1):
            during = f"during{number or ''}"
            load = asyncio.create_task(self._load(port, during, self._trouble.count, self._trouble.size))
            if self._trouble.kills:
                taken = self._chance.randrange(1, self._trouble.count // 3)
                await self._until(partial(self._has_taken, during, taken))
            await self._a.fall(self._trouble)
            await load
            await self._suffered(port, during)
            self._switched()
            await self._a.mend()
            await self._back(port, f"after{number or ''}", time.monotonic())
        await self._drained()
        text = "\n".join(self._daemon.lines)
        self.result.announced = set(_TWICE.findall(text))
        self.result.lines = [line for line in self._daemon.lines if _CHANGE.search(line)]
        return self.result

    def _has_taken(self, prefix: str, count: int) -> bool:
        """Whether the first provider took so many whose ids begin so."""
        return count <= sum(name.startswith(prefix) for name in self.result.by("a"))

    async def _suffered(self, port: int, during: str) -> None:
        """Until the trouble has shown: mail has moved, or, where it may not, has failed more than once. A provider that is killed may
        have got all there was, in one request that it did not answer: then there is new mail now and then."""
        for number in itertools.count() if self._trouble.kills else ():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._until(lambda: any(one.when > self._a.first_failure for one in self.result.noted if one.provider == "b"))
                return
            assert number < LIMIT, "nothing goes to the second provider"
            await self._load(port, f"{during}-more-{number}", 1, SMALL)
        if self._trouble.moves[self.result.kind] and not self._trouble.poison:
            await self._until(lambda: any(one.when > self._a.first_failure for one in self.result.noted if one.provider == "b"))
        elif self._trouble.poison:
            moved = self._trouble.moves[self.result.kind]
            await self._until(lambda: self._trouble.poison in self.result.by("b") if moved else self._a.failures > 1)
        else:
            await self._until(lambda: self._a.failures >= (self._trouble.count if self._trouble.takes else 3))

    def _switched(self) -> None:
        times = [one.when for one in self.result.noted if one.provider == "b" and one.when > self._a.first_failure]
        self.result.switch += [min(times) - self._a.first_failure] if times else []

    async def _back(self, port: int, name: str, since: float) -> None:
        """New mail now and then, until the first provider takes some of it."""
        for number in itertools.count():
            if self._hurry:
                await self._here.relay("queue", "retry")
            await self._load(port, f"{name}-{number}", 1, SMALL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._until(partial(self._has_taken, name, 1))
                break
            assert time.monotonic() < since + LIMIT, "\n".join(["the first provider is not used again:", *self._daemon.lines[-20:]])
        self.result.back.append(min(one.when for one in self.result.noted if one.provider == "a" and one.name.startswith(name)) - since)

    async def _drained(self) -> None:
        """Until nothing is in the queue, or for as long as that may take."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            status = (await self._here.relay("status", "--json")).objects[0]
            self.result.left = status["queue"]["entries"]
            if not self.result.left:
                return
            if self._hurry:
                await self._here.relay("queue", "retry")

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Until this holds, looked at after each event at a provider."""
        async with asyncio.timeout(LIMIT):
            while not holds():
                for side in (self._a, self._b):
                    side.news.clear()
                waits = [asyncio.create_task(side.news.wait()) for side in (self._a, self._b)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()

    async def _load(self, port: int, prefix: str, count: int, size: int) -> None:
        """All clients at once, each with its share of the messages."""
        names = [f"{prefix}-{number}" if count > 1 else prefix for number in range(count)]
        await asyncio.gather(*(_client(port, names[number::CLIENTS], size, self.result.acked) for number in range(CLIENTS)))


async def _client(port: int, names: Sequence[str], size: int, acked: set[str]) -> None:
    """One connection that hands in these messages."""
    if not names:
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(line: bytes) -> bytes:
        writer.write(line)
        await writer.drain()
        while (said := await reader.readline())[3:4] == b"-":
            pass
        return said

    assert (await ask(b"")).startswith(b"220 ")
    await ask(b"EHLO client.example\r\n")
    for name in names:
        head = (
            f"From: app@client.example\r\nTo: user@sink.example\r\nSubject: {name}\r\n"
            f"Message-ID: <{name}@client.example>\r\nX-Fault-Id: {name}\r\n\r\n"
        )
        for line in (b"MAIL FROM:<app@client.example>\r\n", b"RCPT TO:<user@sink.example>\r\n", b"DATA\r\n"):
            await ask(line)
        said = await ask(head.encode() + (b"x" * 70 + b"\r\n") * (size // 72) + b".\r\n")
        assert said.startswith(b"250 "), said
        acked.add(name)
    writer.close()


@contextlib.asynccontextmanager
async def _sides(kind: str, gap: bool, batches: bool, file: Path | None) -> AsyncIterator[tuple[Side, Side]]:
    """Two providers of a kind, that note in one list; the first in a process of its own where there is a file for its notes."""
    noted: list[Noted] = []
    gaps = {"a": gap, "b": False}
    sides: list[Side] = [
        BySmtp(name, noted, gaps[name]) if kind == "smtp" else ByApi(name, noted, gaps[name], kind, batches) for name in gaps
    ]
    if file:
        sides[0] = ByProcess("a", noted, gap, kind, batches, file)
    async with contextlib.AsyncExitStack() as stack:
        for side in sides:
            await side.begin()
            stack.push_async_callback(side.end)
        yield sides[0], sides[1]


async def run(
    directory: Path,
    trouble: Trouble,
    kind: str,
    *,
    hurry: bool = False,
    seed: int = 1,
    kills: int = 3,
    batches: bool = False,
    process: bool = False,
) -> Result:
    """One trouble of one kind of provider, with a daemon of its own in an empty directory."""
    file = directory / "taken" if process else None
    async with _sides(kind, trouble.gap, batches, file) as (a, b), host(directory) as here:
        here.configure(f"{{a: {a.config}, b: {b.config}}}", f"routes: [{{name: default, via: [a, b], patience: {PATIENCE}}}]\n")
        here.config.write_text(here.config.read_text().replace("min_free: 1MB,", "min_free: 1MB, retry: [1s],"))
        daemon = await here.serve()
        try:
            return await Run(trouble, kind, here, daemon, (a, b), hurry, seed).go(kills)
        except (TimeoutError, AssertionError) as error:
            raise AssertionError("\n".join([f"{trouble.name} ({kind}): {error}", *daemon.lines[-40:]])) from error


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TROUBLES, action="append")
    parser.add_argument("--by", choices=KINDS, action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--hurry", action="store_true", help="relay queue retry after the trouble, instead of waiting for a probe")
    parser.add_argument("--batches", action="store_true", help="many messages in a request, where the API takes them")
    parser.add_argument("--process", action="store_true", help="the first provider is a process (killed; smtp, mailtrap)")
    options = parser.parse_args()
    wrong = 0
    kinds = options.by or (("smtp", "mailtrap") if options.process else KINDS)
    troubles = options.only or [name for name, trouble in TROUBLES.items() if trouble.kills or not options.process]
    for name, kind in itertools.product(troubles, kinds):
        with tempfile.TemporaryDirectory() as directory:
            how = {"batches": options.batches, "process": options.process, "hurry": options.hurry}
            result = asyncio.run(run(Path(directory), TROUBLES[name], kind, seed=options.seed, kills=options.kills, **how))
        print(result, flush=True)
        wrong += bool(result.problems)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
