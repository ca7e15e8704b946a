"""Queue ids are reserved in the spool ahead of their use, so that a crash makes none come twice.

Promise: nobody waits for it in good times. How it fails: a reservation that cannot be written is asked for again with the next
message or the next look at the disk; until then ids are taken from what is reserved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from relay.spool.ids import QueueIds
from relay.spool.operations import Reserve


class Reserving:
    """Keeps `ids` reserved. `submit` hands an operation to the writer."""

    def __init__(self, ids: QueueIds, submit: Callable[[Reserve], asyncio.Future[Any]]) -> None:
        self._ids = ids
        self._submit = submit
        self._under_way = False

    def look(self, now: float) -> None:
        """Reserve more, where what is reserved will be used up soon."""
        if self._under_way or not (mark := self._ids.wanted(now)):
            return

        def reserved(future: asyncio.Future[None]) -> None:
            self._under_way = False
            if not future.cancelled() and future.exception() is None:
                self._ids.mark = mark

        self._under_way = True
        self._submit(Reserve(mark)).add_done_callback(reserved)
