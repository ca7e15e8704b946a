"""Waiting in the spool, without an attempt: for a pause to end, for a turn in a line, or to choose again at once.

Promises: nobody waits for what is over already; nobody waits longer than the entry's time, but a provider whose trouble began
after that time still gets a fair chance; and a lease that the spool has ended is free here. The spool is asked until it can write
down a wait; a choosing again that it cannot write down raises SpoolError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from relay.delivery.closing import OURSELVES, Closing
from relay.delivery.lanes import Group
from relay.delivery.lines import Lines
from relay.delivery.settings import DeliverySettings
from relay.model import Outcome, Verdict, line_of
from relay.pauses import Standing
from relay.spool.base import Spool

LATE = 3600.0
"""Seconds that an entry waits for a provider whose trouble began after the entry's time was over."""


class Waits:
    """Lets groups wait. `free` is told of leases that have ended."""

    def __init__(
        self,
        *,
        spool: Spool,
        closing: Closing,
        standing: Standing,
        lines: Lines,
        settings: DeliverySettings,
        free: Callable[[Group, Iterable[str]], None],
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._closing = closing
        self._standing = standing
        self._lines = lines
        self._settings = settings
        self._free = free
        self._clock = clock

    def configure(self, settings: DeliverySettings) -> None:
        """Go by other times from now on."""
        self._settings = settings

    async def choose_again(self, group: Group, addresses: Sequence[str]) -> None:
        """Due at once. Raises SpoolError."""
        await self._spool.postpone(group.entry.queue_id, addresses, self._clock())
        self._free(group, addresses)

    async def wait(self, group: Group, key: str, began: float) -> None:
        """Wait in the spool for what `began` to be in the way then, at the longest until the entry's time is over.

        An entry whose time ran out while nobody looked (a long stop, a clock that stepped) still gets a fair chance.
        """
        until = expires = group.entry.arrived + self._settings.expire
        if began >= expires:
            until = began + LATE
        if self._clock() >= until:
            await self._closing.expire(group.entry, group.states, key)
            return
        provider, queue_id = group.order[0], group.entry.queue_id
        await self._closing.insist(lambda: self._spool.wait(queue_id, group.addresses, key, until, provider, group.route.name))
        self._free(group, group.addresses)
        if line_of(key):
            self._lines.await_turn(key)  # the last one of the line may have left, or been called, while we wrote
        elif not any(pause.key == key for pause in self._standing.all()):
            # The pause ended while we wrote: nobody else would wake these.
            await self._closing.insist(lambda: self._lines.line_up(key))

    def waits_for(self, key: str) -> Outcome:
        """What recipients with this key wait for, as a finding of our own in words fit for a notice."""
        for pause in self._standing.all():
            if pause.key == key:
                why = pause.outcome
                return Outcome(Verdict.RETRY, why.status, f"provider {key}: {why.reply}", OURSELVES, own=True, mend=why.mend)
        return Outcome(Verdict.RETRY, "4.3.2", f"its turn with provider {line_of(key) or key}", OURSELVES, own=True)
