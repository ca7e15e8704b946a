"""Kill the daemon under load, again and again, and balance the books.

    python -m tests.faults.kill_loop --rounds 200                      0 lost; every double announced in the log
    python -m tests.faults.kill_loop --rounds 200 --provider mailtrap  the same by REST, many messages in a request
    python -m tests.faults.kill_loop --rounds 5 --control reply_early  must lose mail
    python -m tests.faults.kill_loop --rounds 5 --power-cut            0 lost (root; see disk.py)
    python -m tests.faults.kill_loop --rounds 5 --power-cut --control no_sync   must lose mail

Ends with 0 when the books are as they must be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.disk import Disk
from tests.faults.harness import CLIENTS, MESSAGES, PROVIDERS, SMTP, Books, Daemon, Provider, drained, load, sink

SLOW_SINK_DELAY = 0.2  # with a power cut, so that most of the mail still lies in the spool
EVERY = 5  # each fifth kill comes while the daemon is still starting


async def kill_rounds(directory: Path, rounds: int, seed: int, module: str = "relay", provider: Provider = SMTP) -> Books:
    """`kill -9` at a random moment of each round, then a last start that drains."""
    chance, books, taken = random.Random(seed), Books(), directory / "taken"
    async with sink(taken, provider.delay, module=provider.module) as port:
        daemon = Daemon(directory, port, module, provider=provider)
        for number in range(rounds):
            _progress(number, rounds, books)
            daemon.start()
            if number % EVERY == EVERY - 1:
                await asyncio.sleep(chance.uniform(0, 1.0))
                daemon.kill()
                continue
            await daemon.ready()
            clients = asyncio.create_task(load(daemon.port, books, chance, _names(number)))
            await asyncio.sleep(chance.uniform(0.02, 0.6))
            daemon.kill()
            await clients
        daemon.module = "relay"
        await _balance(daemon, books, taken)
    return books


async def power_cut_rounds(directory: Path, rounds: int, seed: int, module: str = "relay", provider: Provider = SMTP) -> Books:
    """Cut the power of the spool's disk at a random moment of each round, then a last start that drains."""
    chance, books, taken = random.Random(seed), Books(), directory / "taken"
    disk = Disk(directory)
    try:
        async with sink(taken, max(provider.delay, SLOW_SINK_DELAY), module=provider.module) as port:
            daemon = Daemon(directory, port, module, disk.mount / "spool", provider)
            for number in range(rounds):
                _progress(number, rounds, books)
                daemon.start()
                await daemon.ready()
                clients = asyncio.create_task(load(daemon.port, books, chance, _names(number)))
                await asyncio.sleep(chance.uniform(0.1, 0.6))
                daemon.freeze()
                disk.photograph()
                daemon.kill()
                await clients
                disk.power_up()
            daemon.module = "relay"
            await _balance(daemon, books, taken)
    finally:
        disk.close()
    return books


async def _balance(daemon: Daemon, books: Books, taken: Path) -> None:
    daemon.start()
    try:
        await daemon.ready()
        await drained(daemon, books, taken)
    finally:
        daemon.stop()
    books.read_sink(taken)
    books.read_log(daemon.log.read_text(errors="replace"))


def _names(number: int) -> list[str]:
    """Most of it plain mail; some asks for a notice of success, some will be refused (see harness)."""
    return [f"{'sfmmm'[index // CLIENTS % 5]}{number}.{index}" for index in range(CLIENTS * MESSAGES)]


def _progress(number: int, rounds: int, books: Books) -> None:
    if number % 20 == 0:
        print(f"round {number + 1} of {rounds}: {len(books.acked)} acked so far", flush=True)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="kill_loop", description="kill -9 or power cuts under load; is everything still there?")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--provider", choices=PROVIDERS, default="smtp", help="what the mail goes to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", choices=["reply_early", "no_sync"], help="run with this defect; it must lose mail")
    parser.add_argument("--power-cut", action="store_true", help="cut the power of the spool's disk instead of killing (root)")
    parser.add_argument("--keep", type=Path, help="work in this directory and keep it")
    args = parser.parse_args()
    module = f"tests.faults.{args.control}" if args.control else "relay"
    rounds = power_cut_rounds if args.power_cut else kill_rounds
    with contextlib.ExitStack() as stack:
        directory = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-faults-")))
        directory.mkdir(exist_ok=True)
        books = asyncio.run(rounds(directory, args.rounds, args.seed, module, PROVIDERS[args.provider]))
    print(books.summary(args.rounds))
    if args.control:
        return 0 if books.lost else 1
    return 1 if books.lost or books.unexplained or books.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
