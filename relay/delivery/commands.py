"""What an admin tells delivery to do: give up mail, and leave a provider alone until told otherwise.

Promises: an admin's pause is kept in the spool before it is in force, and outlives restarts and reloads; what is given up
has failed in the spool, chunk by chunk, before anything follows from that; then its senders are told as of any failure. Of what a
crash leaves in between they are told at the next start, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from relay.delivery.closing import OURSELVES, Closing
from relay.delivery.lanes import Lane
from relay.delivery.telling import NO_REASON, Telling
from relay.log import Events
from relay.model import Outcome, Verdict
from relay.pauses import Standing
from relay.spool.base import Changed, Filter, Spool

_KEY = "paused "


class Commands:
    """Carries out an admin's words."""

    def __init__(
        self,
        *,
        spool: Spool,
        standing: Standing,
        closing: Closing,
        telling: Telling,
        lanes: Callable[[], Mapping[str, Lane]],
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._standing = standing
        self._closing = closing
        self._telling = telling
        self._lanes = lanes
        self._events = events
        self._clock = clock

    def load(self, kept: Mapping[str, str]) -> None:
        """Put in force what was kept before this start."""
        for key, why in kept.items():
            if key.startswith(_KEY):
                self._standing.pause(key.removeprefix(_KEY), _paused(why), self._clock())

    async def pause(self, provider: str, why: str) -> None:
        """Leave a provider alone, through restarts too, until `resume`. Its mail goes to the next provider of its route, or waits:
        also what stands in its line. Who says it again may give another reason; the pause is the same."""
        known = next((one for one in self._standing.all() if one.key == provider and one.by_admin), None)
        if known and why in ("", known.outcome.reply):
            return
        await self._spool.keep(_KEY + provider, why or "-")
        change = self._standing.pause(provider, _paused(why), self._clock())
        if known:
            change.pause.since = known.since
        if lane := self._lanes().get(provider):
            lane.gate.shut()  # who stands there chooses again, and does not wait for the attempts under way
        await self._telling.change(change)

    async def resume(self, provider: str) -> None:
        """Use a provider again, whatever paused it; the next message decides whether it is well."""
        await self._spool.keep(_KEY + provider, "")
        for change in self._standing.resume(provider):
            await self._telling.change(change)

    async def bounce(self, what: Filter, why: str) -> AsyncIterator[Sequence[Changed]]:
        """Give up the recipients that a filter means and nobody is about to attempt; yields what each chunk changed."""
        text = f"given up by an admin{f': {why}' if why else ''}"
        outcome = Outcome(Verdict.PERM_MSG, "5.0.0", text, OURSELVES, own=True)
        async for chunk in self._spool.each("bounce", what, self._clock(), outcome=outcome):
            for one in chunk:
                self._events.bounced_by_admin(one.queue_id, one.recipients, why)
            await self._given_up({one.queue_id: one.addresses for one in chunk}, outcome)
            yield chunk

    async def _given_up(self, addresses: Mapping[str, Sequence[str]], outcome: Outcome) -> None:
        entries = await self._closing.insist(lambda: self._spool.entries([*addresses]))
        await asyncio.gather(*(self._closing.given_up(entry, addresses[entry.queue_id], outcome) for entry in entries))


def _paused(why: str) -> Outcome:
    """An admin's pause as a finding; `why` may be empty."""
    text = why if why not in ("", "-") else NO_REASON
    return Outcome(Verdict.PAUSE, "4.3.5", text, OURSELVES, own=True, mend="it stays so until: relay provider resume")
