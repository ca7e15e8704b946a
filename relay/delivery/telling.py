"""What is said of attempts and of providers: to the log, the metrics, the postmaster. Loud and once.

Nothing here decides; whoever waited for a provider that is back is woken here, because the log says how many they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

from relay import pauses, verdicts
from relay.delivery import alerts
from relay.delivery.alerts import Alerts
from relay.delivery.closing import EXPIRED, Closing
from relay.delivery.lanes import Group, Lane
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Entry, Kind, State
from relay.spool.base import Recorded, Spool

NO_REASON = "paused by an admin"
"""What an admin's pause says who gave no reason."""


class Telling:
    """Tells. `lanes` are looked at when there is something to tell; `passed_by` says whether a provider turned out not to be able
    to carry a recipient's mail; `line_up` sends those on their way who waited for a key (None: for anything)."""

    def __init__(
        self,
        *,
        spool: Spool,
        closing: Closing,
        standing: pauses.Standing,
        lanes: Callable[[], Mapping[str, Lane]],
        passed_by: Callable[[str, str, str], bool],
        alerts: Alerts,
        line_up: Callable[[str | None], Awaitable[None]],
        due_at: Callable[[float], None],
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._closing = closing
        self._standing = standing
        self._lanes = lanes
        self._passed_by = passed_by
        self._alerts = alerts
        self._line_up = line_up
        self._due_at = due_at
        self._events = events
        self._metrics = metrics
        self._clock = clock

    def attempt(self, group: Group, name: str, address: str, one: Recorded, began: float, now: float) -> None:
        """What became of one recipient in an attempt."""
        entry, outcome = group.entry, one.outcome
        next_attempt: float | None = None
        next_provider = name
        if one.state is State.QUEUED:
            next_attempt = one.next_attempt
            alone = pauses.of_message(entry.queue_id)
            pause = self._standing.blocked(name, now, (outcome.identity, alone) if outcome.identity else (alone,))
            passed_by = self._passed_by(entry.queue_id, address, name)
            if passed_by or verdicts.CONSEQUENCES[outcome.verdict].fail_over is verdicts.FailOver.AT_ONCE:
                others = (other for other in group.order if other != name and not self._standing.blocked(other, now))
                next_provider = next(others, name)
            if next_provider == name and pause is not None:
                next_attempt = pause.until
        waited = max(began - max(entry.arrived, 0.0), 0.0)
        self._events.attempt(
            entry.queue_id,
            address,
            outcome,
            provider=name,
            route=group.route.name,
            delay=max(now - entry.arrived, 0.0),
            delays=(0.0, waited, outcome.connect_s, outcome.send_s),
            next_attempt=next_attempt,
            next_provider=next_provider,
            held=one.state is State.HELD,
            redirected=group.redirect,
        )
        word = "expired" if outcome.status == EXPIRED else verdicts.CONSEQUENCES[outcome.verdict].log
        self._metrics.recipient(name, group.route.name, word)
        if outcome.kind is Kind.RELAYED:
            self._metrics.duration(name, max(now - began, 0.0))

    async def change(self, change: pauses.Change, cause: Entry | None = None) -> None:
        """A provider, an identity or one message alone is not used any more, or is back; `cause` is the entry that met it."""
        pause = change.pause
        if change.paused and not any(pause is one for one in self._standing.all()):
            return  # it ended, or a reload forgot it, while the outcome was recorded
        waiting = await self._waiting(pause)
        if change.paused:
            self._due_at(pause.until)
            await self._began(pause, waiting, cause)
            return
        await self._ended(pause, waiting, cause)
        if pause.message:
            await self._closing.insist(lambda: self._spool.wake(pause.key, self._clock()))
            return
        # What waits for another paused provider may go by this one now; what waits for a throttled one never left it.
        await self._closing.insist(lambda: self._line_up(pause.key if pause.quiet else None))

    async def _waiting(self, pause: pauses.Pause) -> int:
        lane = self._lanes().get(pause.provider)
        return (max(lane.line - lane.active, 0) if lane else 0) + await self._closing.insist(lambda: self._spool.waiting(pause.key))

    async def _began(self, pause: pauses.Pause, waiting: int, cause: Entry | None) -> None:
        outcome, name = pause.outcome, pause.provider
        if pause.message:
            self._events.suspected(name, outcome.identity, pause.message, outcome.reply)
        elif pause.quiet and pause.firm:
            self._events.exhausted(name, outcome.reply, pause.until, waiting)
            await self._alerts.changed(alerts.exhausted(name, outcome.reply, pause.until, waiting), cause)
        elif pause.quiet:
            self._events.throttled(name, outcome.reply, pause.until - self._clock())
        elif pause.identity:
            self._events.identity_paused(name, pause.identity, outcome.reply, waiting, outcome.mend)
            await self._alerts.changed(alerts.paused(name, pause.identity, outcome.reply, outcome.mend, pause.since, waiting), cause)
        elif pause.by_admin:
            self._metrics.provider_up(name, False)
            self._metrics.paused_by_admin(name, True)
            self._events.paused_by_admin(name, outcome.reply.removeprefix(NO_REASON), waiting)
        else:
            self._metrics.provider_up(name, False)
            self._events.paused(name, outcome.reply, waiting, outcome.mend, pause.until)
            await self._alerts.changed(alerts.paused(name, pause.identity, outcome.reply, outcome.mend, pause.since, waiting), cause)

    async def _ended(self, pause: pauses.Pause, waiting: int, cause: Entry | None) -> None:
        if pause.message:
            return
        if not pause.identity and pause.provider in self._lanes() and not pause.quiet:
            self._metrics.provider_up(pause.provider, True)
        if pause.quiet and pause.firm:
            self._events.replenished(pause.provider)
        elif pause.by_admin:
            if pause.provider in self._lanes():
                self._metrics.paused_by_admin(pause.provider, False)
            self._events.resumed_by_admin(pause.provider, waiting)
        else:
            self._events.resumed(pause.key, waiting)
            if not pause.quiet:
                await self._alerts.changed(alerts.resumed(pause.provider, pause.identity, pause.since, waiting), cause)

    def standing_of(self, names: Collection[str]) -> None:
        """Set the gauges of these providers anew, after a start or a reload."""
        paused = {pause.key: pause for pause in self._standing.all() if not pause.quiet}
        for name in names:
            self._metrics.provider_up(name, name not in paused)
            self._metrics.paused_by_admin(name, name in paused and paused[name].by_admin)
