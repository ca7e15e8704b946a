"""Histories of entries: what one turn of the event loop asks for is read at once.

Promise: whoever asks gets the history as it is after the turn in which it was asked for. A reading that fails fails for all who
share it, and for nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from relay.spool import database
from relay.spool.base import Step

Found = Mapping[str, Sequence[Step]]


class Histories:
    """Gathers what is asked. `read` begins to read the histories of these queue ids; RuntimeError says that the spool is closed."""

    def __init__(self, read: Callable[[Sequence[str]], asyncio.Future[Found]]) -> None:
        self._read = read
        self._asked: tuple[dict[str, None], asyncio.Future[Found]] | None = None

    async def of(self, queue_id: str) -> Sequence[Step]:
        """Every outcome of an entry, in order of time. Raises SpoolError."""
        if self._asked is None:
            self._asked = ({}, asyncio.get_running_loop().create_future())
            asyncio.get_running_loop().call_soon(self._begin)
        wanted, found = self._asked
        wanted[queue_id] = None
        return (await asyncio.shield(found))[queue_id]

    def _begin(self) -> None:
        assert self._asked is not None
        (wanted, found), self._asked = self._asked, None

        def read(reading: asyncio.Future[Found]) -> None:
            if reading.cancelled():
                found.cancel()
            elif error := reading.exception():
                found.set_exception(error)
            else:
                found.set_result(reading.result())

        try:
            reading = self._read([*wanted])
        except RuntimeError as error:
            found.set_exception(database.spool_error(error))
        else:
            reading.add_done_callback(read)
