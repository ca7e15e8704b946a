"""The log as it goes by: JSON lines for whoever listens, none of them able to hold anything up.

A subscriber has room for a bounded number of lines. One that reads too slowly loses lines, and finds one line that says how
many in their place. While nobody listens, nothing is formatted and nothing is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from relay.log.formatters import TailFormatter, missing

ROOM = 1000  # lines kept for one subscriber
SLOW = "they came faster than they were read"


class Tail:
    """Hands every log line to every subscriber: the JSON object of docs/log.schema.json, with the text line as `line`."""

    def __init__(self, room: int = ROOM) -> None:
        self.formatter: logging.Formatter = TailFormatter(host="localhost")
        self._room = room
        self._subscribers: tuple[Subscription, ...] = ()

    @property
    def listening(self) -> bool:
        """Whether anybody listens."""
        return bool(self._subscribers)

    def subscribe(self) -> Subscription:
        """The lines from now on. To be closed; called in the event loop that reads them."""
        new = Subscription(self, self._room)
        self._subscribers += (new,)
        return new

    def put(self, line: str) -> None:
        """Hand out one line; from any thread."""
        for subscription in self._subscribers:
            subscription.put(line)

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscriber."""
        self._subscribers = tuple(each for each in self._subscribers if each is not subscription)


class Subscription(AsyncIterator[str]):
    """One subscriber's lines; a context manager that unsubscribes at its end. A wait for the next line may be cancelled
    without losing one."""

    def __init__(self, tail: Tail, room: int) -> None:
        self._tail = tail
        self._lines: deque[str] = deque()
        self._room = room
        self._missed = 0
        self._lock = threading.Lock()  # lines come from any thread
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def put(self, line: str) -> None:
        """Keep a line, or count it as missed where there is no room."""
        with self._lock:
            if len(self._lines) >= self._room:
                self._missed += 1
                return
            self._tell_missed()
            self._lines.append(line)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever read
            self._loop.call_soon_threadsafe(self._news.set)

    def close(self) -> None:
        """Unsubscribe; whoever waits for the next line finds the end after those that are kept."""
        self._closed = True
        self._tail.leave(self)
        self._news.set()

    async def __anext__(self) -> str:
        while True:
            with self._lock:
                if not self._lines:
                    self._tell_missed()
                if self._lines:
                    return self._lines.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    def _tell_missed(self) -> None:
        """Where lines are missing, a line that says so goes into their place, beyond the room for the others."""
        if self._missed:
            self._lines.append(self._tail.formatter.format(missing(self._missed, SLOW)))
            self._missed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
