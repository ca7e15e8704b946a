"""A program that takes one message through the whole spool and kills itself before its n-th touch of the disk.

`python -m tests.spool_killed DIRECTORY large|small`: for each n in turn a child works in DIRECTORY/n and writes what the
spool acknowledged to DIRECTORY/n.acks, one line for each; the last child lives to the end. Touches are SQL statements,
and the os calls that write, sync or remove files.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from relay.model import State
from relay.spool import database
from relay.spool.base import Filter, Recorded
from tests.spools import BODY, NOW, Clock, accept, attempt, open_sqlite, outcome


class Countdown:
    """Kills the process at its end."""

    def __init__(self, touches: int) -> None:
        self.left = touches
        self.armed = False

    def touch(self) -> None:
        if self.armed:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def wrap(countdown: Countdown, function: Callable[..., Any]) -> Callable[..., Any]:
    def touching(*arguments: Any, **keywords: Any) -> Any:
        countdown.touch()
        return function(*arguments, **keywords)

    return touching


def arm(countdown: Countdown) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
            countdown.touch()
            return super().execute(sql, values)

        def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
            countdown.touch()
            return super().executemany(sql, rows)

    connect = sqlite3.connect
    database.sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Connection)  # type: ignore[attr-defined]
    for name in ("open", "write", "fsync", "fdatasync", "close", "unlink"):
        setattr(os, name, wrap(countdown, getattr(os, name)))


async def work(directory: Path, acks: int, countdown: Countdown, body: bytes) -> None:
    write = os.write
    arm(countdown)

    def say(*words: object) -> None:
        write(acks, (" ".join(map(str, words)) + "\n").encode())

    spool = await open_sqlite(directory, Clock())
    first = await accept(spool, "first@example.net")
    say("accepted", first.queue_id)
    countdown.armed = True
    second = await accept(spool, "a@example.net", "b@example.net", body=body, now=NOW + 1)
    say("accepted", second.queue_id)
    await spool.claim(NOW + 1, 10, 60)
    number, _ = await asyncio.gather(
        spool.begin(second.queue_id, ["a@example.net", "b@example.net"], "p", "r", NOW + 2), spool.spend([("p daily", NOW + 2, 2)])
    )
    say("begun", number)
    await spool.keep("paused q", "why")
    say("kept", "why")
    relayed = Recorded(outcome(), State.RELAYED)
    await spool.record(second.queue_id, number, dict.fromkeys(("a@example.net", "b@example.net"), relayed), "p", "r", NOW + 3)
    say("recorded", number)
    await spool.finish(second.queue_id, NOW + 4, keep_body=False)
    say("finished", second.queue_id)
    await attempt(spool, first.queue_id, {"first@example.net": relayed}, now=NOW + 5)
    say("last", first.queue_id)
    third = await accept(spool, "c@example.net", "d@example.net", now=NOW + 6)
    say("accepted", third.queue_id)
    await spool.reroute(Filter(recipient="c@*"), ("q",), NOW + 6, even_if_maybe_sent=False)
    say("rerouted", third.queue_id)
    await spool.delete(Filter(queue_id=third.queue_id), NOW + 7)
    say("deleted", third.queue_id)
    countdown.armed = False
    await spool.close()
    say("closed")


def child(directory: Path, touches: int, body: bytes) -> int:
    """Fork, work, and return the child's wait status."""
    pid = os.fork()
    if pid == 0:
        acks = os.open(f"{directory}.acks", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            asyncio.run(work(directory, acks, Countdown(touches), body))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def main() -> None:
    root, body = Path(sys.argv[1]), BODY + (b"x" * 78 + b"\r\n") * (8000 if sys.argv[2] == "large" else 1)
    for touches in range(1, 400):
        (root / str(touches)).mkdir()
        status = child(root / str(touches), touches, body)
        if status != signal.SIGKILL:
            sys.exit(status and 1)


if __name__ == "__main__":
    main()
