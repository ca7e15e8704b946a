"""What an admin tells delivery to do: give up mail, and leave a provider alone until told otherwise.

Promises: an admin's pause is kept in the spool before it is in force, and outlives restarts and reloads; what is given up is held
first, so that no attempt begins meanwhile, and its senders are told as of any failure. A crash in between leaves it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from relay.delivery.closing import OURSELVES, Closing
from relay.delivery.telling import Telling
from relay.log import Events
from relay.model import Outcome, State, Verdict
from relay.pauses import Standing
from relay.spool.base import Changed, Filter, Spool

_KEY = "paused "
_PAGE = 200  # entries given up at once, so that they share syncs


class Commands:
    """Carries out an admin's words."""

    def __init__(
        self,
        *,
        spool: Spool,
        standing: Standing,
        closing: Closing,
        telling: Telling,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._standing = standing
        self._closing = closing
        self._telling = telling
        self._events = events
        self._clock = clock

    def load(self, kept: Mapping[str, str]) -> None:
        """Put in force what was kept before this start."""
        for key, why in kept.items():
            if key.startswith(_KEY):
                self._standing.pause(key.removeprefix(_KEY), _paused(why), self._clock())

    async def pause(self, provider: str, why: str) -> None:
        """Leave a provider alone, through restarts too, until `resume`. Its mail goes to the next provider of its route, or waits."""
        await self._spool.keep(_KEY + provider, why or "-")
        await self._telling.change(self._standing.pause(provider, _paused(why), self._clock()))

    async def resume(self, provider: str) -> None:
        """Use a provider again, whatever paused it; the next message decides whether it is well."""
        await self._spool.keep(_KEY + provider, "")
        for change in self._standing.resume(provider):
            await self._telling.change(change)

    async def bounce(self, what: Filter, why: str) -> AsyncIterator[Sequence[Changed]]:
        """Give up the recipients that a filter means and nobody is about to attempt; yields what each chunk changed."""
        after = ""
        while found := await self._spool.find(what, _PAGE, after):
            after = found[-1].queue_id
            yield await asyncio.gather(*(self._give_up(replace(what, queue_id=entry.queue_id), why) for entry in found))

    async def _give_up(self, what: Filter, why: str) -> Changed:
        meant = set(await self._spool.meant(what))
        await self._spool.hold(what, self._clock())
        entry = await self._spool.entry(what.queue_id)
        states = [one for one in entry.recipients if one.recipient.address in meant and one.state is State.HELD] if entry else []
        if not entry or not states:
            return Changed(what.queue_id, 0)
        text = f"given up by an admin{f': {why}' if why else ''}"
        self._events.bounced_by_admin(what.queue_id, len(states), why)
        await self._closing.give_up(entry, states, Outcome(Verdict.PERM_MSG, "5.0.0", text, OURSELVES, own=True))
        now = await self._spool.entry(what.queue_id)
        return Changed(what.queue_id, len(states), ended=now is not None and now.finished is not None)


def _paused(why: str) -> Outcome:
    """An admin's pause as a finding; `why` may be empty."""
    text = why if why not in ("", "-") else "paused by an admin"
    return Outcome(Verdict.PAUSE, "4.3.5", text, OURSELVES, own=True, mend="it stays so until: relay provider resume")
