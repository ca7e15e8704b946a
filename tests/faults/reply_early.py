"""Control: relay with the defect that it says 250 before the message is on disk. Must lose mail when killed.

`python -m tests.faults.reply_early serve -c FILE`
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from relay.__main__ import main
from relay.model import Client, Edit, Entry, Envelope, Facts, RecipientState, State
from relay.spool.base import Incoming
from relay.spool.sqlite import SqliteSpool

DELAY = 0.05  # seconds between the reply and the commit
_later: set[asyncio.Task[Any]] = set()


class Early:
    """An Incoming whose commit returns at once and does the work later."""

    def __init__(self, inner: Incoming) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(
        self,
        *,
        arrived: float,
        client: Client,
        envelope: Envelope,
        facts: Facts,
        header: bytes,
        message_id: str,
        edits: Sequence[Edit],
        **rest: Any,
    ) -> Entry:
        """The entry as it will be, if all goes well."""
        known: dict[str, Any] = {"arrived": arrived, "client": client, "envelope": envelope, "facts": facts, "header": header}
        known |= {"message_id": message_id, "edits": tuple(edits)}
        task = asyncio.create_task(self._commit_later(known | rest))
        _later.add(task)
        task.add_done_callback(_later.discard)
        states = tuple(RecipientState(recipient, State.QUEUED) for recipient in envelope.recipients)
        return Entry(queue_id=self._inner.queue_id, recipients=states, **known)

    async def _commit_later(self, arguments: dict[str, Any]) -> None:
        await asyncio.sleep(DELAY)
        await self._inner.commit(**arguments)


def break_it() -> None:
    """Put the defect in."""
    incoming = SqliteSpool.incoming
    SqliteSpool.incoming = lambda self, now: Early(incoming(self, now))  # type: ignore[method-assign, assignment, return-value] # the defect


if __name__ == "__main__":
    break_it()
    main()
