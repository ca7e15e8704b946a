"""One call that changes many recipients: chunk by chunk, with a line in the log for each entry, and only while somebody waits.

Promises: what a chunk changed is logged before the next one begins, whatever becomes of who asked; whoever goes away stops
the work between two chunks; the daemon's end stops it there, too. Fails with the spool's trouble as `error`; what was done by
then stays done, and is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from relay.errors import SpoolError
from relay.spool.base import Changed
from relay.views import Json

HEARTBEAT = 10.0  # seconds without news after which the last is told again, so that nobody takes us for dead
_LINES = 100  # of the log in one go; everything else has a turn between


class Bulk:
    """The work of one call. `of` is how many recipients it will come to, as far as could be told at its begin."""

    def __init__(self, chunks: AsyncIterator[Sequence[Changed]], of: int, log: Callable[[Changed], None]) -> None:
        """`log` is told of each entry of which recipients were changed."""
        self._chunks = chunks
        self._log = log
        self._stopping = False
        self._news = asyncio.Event()
        self.of = of
        self.recipients = 0
        self.entries = 0
        self.pinned = 0
        self.over = False
        self.stopped = False
        self.error: Exception | None = None

    def stop(self) -> None:
        """Stop before the next chunk."""
        self._stopping = True

    async def run(self) -> None:
        """Do it. Raises nothing, see `error`; cut off, it has stopped somewhere in a chunk."""
        try:
            async for chunk in self._chunks:
                await self._note(chunk)
                if self._stopping:
                    self.stopped = True
                    break
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        except Exception as error:  # told by who asked; the chunks before it are done
            self.error = error
        finally:
            self.over = True
            self._news.set()

    async def _note(self, chunk: Sequence[Changed]) -> None:
        for number, changed in enumerate(chunk, 1):
            self.pinned += changed.pinned
            if changed.recipients:
                self.recipients += changed.recipients
                self.entries += 1
                self._log(changed)
            if number % _LINES == 0:
                await asyncio.sleep(0)
        self._news.set()

    async def news(self) -> None:
        """Until there is something new to tell, or the heartbeat is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                await self._news.wait()
        self._news.clear()

    def shown(self) -> Json:
        """How far it is: recipients and entries changed, and how many recipients stay because they may have been delivered."""
        return {"recipients": self.recipients, "entries": self.entries, "pinned": self.pinned}

    async def lines(self) -> AsyncIterator[bytes]:
        """How far it is as JSON, a line after each chunk, with `of`; the last line has `done`, or `error` where it failed."""
        try:
            while not self.over:
                yield _line({"of": self.of, **self.shown()})
                await self.news()
            yield _line(self.last())
        finally:
            self.stop()

    def last(self) -> Json:
        """How it ended. `busy` are those that were left because an attempt was under way."""
        if self.error is not None:
            trouble = str(self.error) if isinstance(self.error, SpoolError) else "internal error; the log has it"
            return {"of": self.of, **self.shown(), "error": trouble}
        busy = 0 if self.stopped else max(self.of - self.recipients - self.pinned, 0)
        return {"of": self.of, **self.shown(), "busy": busy, "done": not self.stopped}


def _line(found: Json) -> bytes:
    return json.dumps(found).encode() + b"\n"
