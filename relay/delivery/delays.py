"""Looking for mail whose senders are to be warned of its delay, every minute, beside everything else: after an outage it may be many.

Promise: one look at a time. How it fails: a look that the spool cuts short is made again at the next one; a mistake of ours is logged,
and ends nothing else.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from relay.errors import SpoolError
from relay.log import Events

LOOK = 60.0
"""Seconds between two looks; the first comes so long after the start."""


class Delays:
    """Looks when it is time. `warn` warns the senders of what arrived before a time. A `delay` is in seconds, and 0 where nobody is
    to be warned."""

    def __init__(self, warn: Callable[[float], Awaitable[None]], events: Events) -> None:
        self._warn = warn
        self._events = events
        self._next_look = math.inf
        self._looking: asyncio.Task[None] | None = None

    def begin(self, now: float, delay: float) -> None:
        """The first look is not at once."""
        self._next_look = now + min(delay or LOOK, LOOK)

    def clock_stepped(self, now: float) -> None:
        """The time of the next look means nothing any more."""
        self._next_look = now + LOOK

    def next_look(self, now: float, delay: float) -> float:
        """When it is time for a look, in Unix seconds: a second from `now` at the soonest."""
        return max(self._next_look, now + 1.0) if delay else math.inf

    def look(self, now: float, delay: float) -> None:
        """Look if it is time, in a task of its own."""
        if delay and now >= self._next_look and (self._looking is None or self._looking.done()):
            self._next_look = now + min(delay, LOOK)
            self._looking = asyncio.create_task(self._guarded(now - delay))

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """The look that is under way, if any, or the last one."""
        return [self._looking] if self._looking else []

    async def _guarded(self, arrived_before: float) -> None:
        try:
            await self._warn(arrived_before)
        except SpoolError:  # the loop is in the same trouble and tells it; the next look finds them
            return
        except Exception as error:
            self._events.bug("warnings of delay", error)
