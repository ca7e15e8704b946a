"""The loop of the sending half: takes due entries from the spool, splits them by the way they go, and sees them through.

Promises, each held by a test: an attempt is begun in the spool before its first byte goes out; its outcome is recorded
before anything else follows from it; a bounce is stored before the original is finished; a maybe-relayed recipient
stays with its provider; a credential, quota or account problem pauses the provider and bounces nothing.
Delivery knows the transports' contract but no transport, and meets the listener only at the spool.

How it fails: what a remote does is an outcome. A spool that cannot write is asked again until it can: an outcome that
is not recorded yet is never forgotten while the process lives. An exception that escapes a transport is our bug: the
recipients are deferred as maybe-relayed, the traceback is logged, everything else goes on.
The table of what follows from an outcome: docs/verdicts.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from relay import routing
from relay.budgets import Allowance
from relay.delivery import status, ways
from relay.delivery.alerts import Alerts, told_by
from relay.delivery.carry import Carrier
from relay.delivery.closing import SPOOL_RETRY, Closing
from relay.delivery.commands import Commands
from relay.delivery.delays import Delays
from relay.delivery.lanes import LANE, Group
from relay.delivery.quotas import Quotas
from relay.delivery.ramping import Ramping, RampStatus
from relay.delivery.settings import DeliverySettings
from relay.delivery.shadow import Shadowed, Shadows
from relay.delivery.trouble import SpoolTrouble
from relay.errors import CorruptEntry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Entry, State
from relay.spool.base import Filter, Spool
from relay.transports.base import Transport

WINDOW = 2500
"""Groups of recipients (an entry's, with one route) under way in memory at once, where no provider takes batches."""
CLAIM = 50
"""Entries taken from the spool at once."""
_STEP = 60.0  # seconds by which a clock may go back unnoticed
_RECORDING = 5.0  # seconds that a known outcome may take to be recorded after the grace period of a drain


class Delivery:
    """The sending half of one daemon."""

    def __init__(
        self,
        *,
        spool: Spool,
        transports: Mapping[str, Transport],
        routes: Sequence[routing.Route],
        settings: DeliverySettings,
        allowances: Mapping[str, Allowance] = MappingProxyType({}),
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
        random: Callable[[], float],
        steady: Callable[[], float] | None = None,
    ) -> None:
        """`allowances` say what each provider may be sent, where something limits it; `clock` gives Unix seconds, `random` numbers
        in [0, 1), `steady` seconds that nobody sets: where it is given, a clock that is set moves no budget."""
        self.trouble = SpoolTrouble(events)
        self._spool = spool
        self._transports = dict(transports)
        self._routes = tuple(routes)
        self._settings = settings
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._closing = Closing(
            spool=spool,
            routes=routes,
            settings=settings,
            carries_reports=self._carries_reports,
            waits_for=lambda key: self._carrier.waits.waits_for(key),
            settled=lambda route: self._ramping.settled(route),
            trouble=self.trouble,
            events=events,
            metrics=metrics,
            clock=clock,
            random=random,
        )
        self._alerts = Alerts(spool=spool, settings=told_by(settings), routes=routes, events=events, clock=clock)
        self._ramping = Ramping(spool=spool, insist=self._closing.insist, alerts=self._alerts, events=events, clock=clock)
        self._ramping.configure(routes)
        self._shadows = Shadows(
            transport_of=lambda name: self._transports.get(name),
            routes=routes,
            sandboxes=settings.sandboxes,
            events=events,
            metrics=metrics,
            clock=clock,
        )
        self._send_by(transports, allowances, random, steady)
        self._delays = Delays(self._closing.warn, events)
        self._wake = asyncio.Event()
        self._asleep_until = math.inf
        self._offset = -math.inf  # of the clock, against time that only runs forward
        self._tasks: dict[asyncio.Task[None], Group] = {}
        self._under_way: dict[tuple[str, str], Group] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._full = False  # as many are under way as may be
        self._stopping = False

    def _send_by(
        self,
        transports: Mapping[str, Transport],
        allowances: Mapping[str, Allowance],
        random: Callable[[], float],
        steady: Callable[[], float] | None,
    ) -> None:
        """Build the parts that send, and those that tell them what an admin or an account says."""
        self._carrier = Carrier(
            spool=self._spool,
            closing=self._closing,
            ramping=self._ramping,
            alerts=self._alerts,
            shadows=self._shadows,
            settings=self._settings,
            random=random,
            due_at=self._due_at,
            free=self._free,
            events=self._events,
            metrics=self._metrics,
            clock=self._clock,
            steady=steady,
        )
        self._carrier.configure(transports, allowances, self._settings, rerouted=False)
        self._commands = Commands(
            spool=self._spool,
            standing=self._carrier.standing,
            closing=self._closing,
            telling=self._carrier.telling,
            lanes=lambda: self._carrier.lanes,
            events=self._events,
            clock=self._clock,
        )
        self._quotas = Quotas(
            spool=self._spool,
            lanes=lambda: self._carrier.lanes,
            budgets=lambda: self._carrier.fleet.budgets,
            allowed=self._carrier.mind_the_quotas,
            events=self._events,
            clock=self._clock,
        )
        self.pause, self.resume, self.bounce = self._commands.pause, self._commands.resume, self._commands.bounce

    # Life.

    async def start(self) -> None:
        """Settle what a crash left behind, then deliver until `drain`."""
        self._spool.on_due(self._wake.set)
        self._delays.begin(self._clock(), self._settings.delay_warning)
        kept = await self._spool.kept()
        self._ramping.load(kept)
        self._commands.load(kept)
        await self._quotas.load(kept)
        await self._closing.recover()
        await self._carrier.lines.line_up(None)
        self._carrier.telling.standing_of(self._transports)
        self._loops = [asyncio.create_task(work()) for work in (self._run, self._keep_leases, self._quotas.run)]

    def wake(self) -> None:
        """Look for due entries now: for whoever moves the clock that was given."""
        self._wake.set()

    def hurry(self) -> None:
        """Probe every paused provider with the next message that waits, now."""
        self._carrier.standing.hurry(self._clock())
        self._wake.set()

    async def configure(
        self,
        transports: Mapping[str, Transport],
        routes: Sequence[routing.Route],
        settings: DeliverySettings,
        allowances: Mapping[str, Allowance] = MappingProxyType({}),
    ) -> None:
        """Go on with another configuration; a provider that did not change keeps its transport object.

        Attempts under way end as they began. Everything that waits chooses again, and paused providers are probed: a reload
        is how an admin says that something was mended. Raises SpoolError when the spool cannot be asked; the configuration
        is in force all the same, and what waits is looked at when its time comes.
        """
        rerouted = (tuple(routes), settings.bounce_via) != (self._routes, self._settings.bounce_via)
        self._transports = dict(transports)
        self._routes = tuple(routes)
        self._settings = settings
        self._closing.configure(routes, settings)
        self._alerts.configure(told_by(settings), routes)
        self._ramping.configure(routes)
        self._shadows.configure(routes, settings.sandboxes)
        forgotten = self._carrier.configure(transports, allowances, settings, rerouted=rerouted)
        self._quotas.look()
        self._carrier.telling.standing_of(self._transports)
        self.hurry()
        await self._carrier.mind_the_quotas()
        for pause in forgotten:
            if not pause.quiet:  # it was told when it began
                self._events.resumed(pause.key, await self._spool.waiting(pause.key))
        await self._carrier.lines.line_up(None)

    async def drain(self, grace: float) -> None:
        """Begin nothing new; let attempts under way end within `grace` seconds.

        Then attempts are cut off (UNKNOWN at the next start), but an outcome that is known gets a little longer to be recorded.
        """
        self._stopping = True
        self._carrier.stop()
        self._wake.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        recording = {task for task, group in self._tasks.items() if group.begun and group.begun.attempt in self._carrier.recording}
        warning = self._delays.tasks
        for task in (*(self._tasks.keys() - recording), *self._loops, *warning):
            task.cancel()
        await self._carrier.fleet.cut_off()
        if recording:
            await asyncio.wait(recording, timeout=_RECORDING)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._loops, *warning, return_exceptions=True)
        await self._alerts.close()
        await self._carrier.fleet.closed()

    async def providers(self) -> list[status.ProviderStatus]:
        """Every provider with its standing."""
        return await status.of_providers(self._carrier.lanes, self._carrier.standing, self._spool, self._clock())

    def ramps(self) -> Sequence[RampStatus]:
        """Where the ramp of each route stands."""
        return self._ramping.status()

    def shadows(self) -> Sequence[Shadowed]:
        """What the shadow of each route has shown."""
        return self._shadows.totals

    def measure(self) -> None:
        """Show in the metrics what changes with time: what is used of budgets, and the shares of ramps."""
        self._metrics.set_budgets(status.used(self._carrier.lanes, self._clock()))
        self._metrics.set_ramps(self._ramping.shares())

    # The loop.

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._asleep_until = math.inf  # until the loop has looked, every new time wakes it
            try:
                timeout = await self._turn()
                self.trouble.end(self)
            except SpoolError as error:
                self.trouble.begin(self, str(error))
                timeout = SPOOL_RETRY[-1]
            except Exception as error:  # the loop must outlive our own mistakes
                self._events.bug("delivery", error)
                timeout = SPOOL_RETRY[-1]
            if timeout > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()

    async def _turn(self) -> float:
        """Send on its way what is due; returns for how long nothing is, in seconds."""
        now = self._clock()
        await self._mind_the_clock(now)
        self._delays.look(now, self._settings.delay_warning)
        for pause in self._carrier.standing.calls(now):  # a pause that has run out is decided by one waiting message, each time another
            await self._spool.wake(pause.key, now, 1, newest=pause.failures % 2 == 0)
        room = self._window - len(self._tasks)
        self._full = room <= 0
        claimed = await self._spool.claim(now, min(room, CLAIM), self._settings.lease) if room > 0 else ()
        self._carrier.fleet.more_is_due(bool(claimed))
        for entry in claimed:
            await self._send_on_its_way(entry, now)
        if claimed:
            return 0.0
        await self._carrier.lines.call_for_empty(all_due_came=room > 0)
        return await self._idle_time(room)

    async def _send_on_its_way(self, entry: Entry, now: float) -> None:
        """A mistake of ours about one entry must not hold up those that were claimed with it."""
        try:
            self._dispatch(entry, now)
        except Exception as error:
            self._events.bug(f"{entry.queue_id}: routing", error)
            leased = [state.recipient.address for state in entry.open if state.state is State.QUEUED and state.next_attempt <= now]
            left = [address for address in leased if (entry.queue_id, address) not in self._under_way]
            await self._spool.postpone(entry.queue_id, left, now + self._settings.retry[0])

    @property
    def _window(self) -> int:
        """Groups that may be under way: more where a provider's lines are longer or more, for slow ones must leave room for the others."""
        return WINDOW + sum(lane.room * max(len(lane.lines), 1) - LANE for lane in self._carrier.lanes.values())

    async def _mind_the_clock(self, now: float) -> None:
        """A clock that stepped back would leave what is queued waiting for the old time."""
        offset = now - asyncio.get_running_loop().time()
        back, self._offset = self._offset - offset, offset
        if back > _STEP:
            self._events.warning(f"the clock stepped back {back:.0f} s: everything queued is tried now", "qmgr")
            self._delays.clock_stepped(now)
            await self._spool.retry(Filter(now=now), now)

    async def _idle_time(self, room: int) -> float:
        """Seconds until something falls due (a minute at the longest; a commit or a finished task wakes earlier)."""
        now = self._clock()
        times = [now + 60.0, self._delays.next_look(now, self._settings.delay_warning)]
        if room > 0 and (due := await self._spool.next_due()) is not None:
            times.append(due)
        if (call := self._carrier.standing.next_call()) is not None:
            times.append(call)
        self._asleep_until = min(times)
        return max(self._asleep_until - now, 0.01)

    def _due_at(self, when: float) -> None:
        """Something falls due then: wake the loop in time."""
        if when < self._asleep_until:
            self._wake.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease / 3)
            by_entry: dict[str, list[str]] = {}
            for queue_id, address in self._under_way:
                by_entry.setdefault(queue_id, []).append(address)
            for queue_id, addresses in by_entry.items():
                with contextlib.suppress(SpoolError):  # a lease lasts through two missed renewals
                    await self._spool.renew(queue_id, addresses, self._clock() + self._settings.lease)

    # Groups under way.

    def _dispatch(self, entry: Entry, now: float) -> None:
        """Send an entry's recipients that were claimed at `now` on their ways."""
        states = [s for s in entry.open if s.state is State.QUEUED and s.next_attempt <= now]
        states = [s for s in states if (entry.queue_id, s.recipient.address) not in self._under_way]
        route_of, carrier = self._closing.ways(entry), self._carrier
        refused_by = carrier.attempts.refused
        for group in ways.groups(entry, states, now, route_of=route_of, refused_by=refused_by, lanes=carrier.lanes, table=carrier.table):
            self._spawn(group)

    def _spawn(self, group: Group) -> None:
        for address in group.addresses:
            self._under_way[group.entry.queue_id, address] = group
        task = asyncio.create_task(self._guarded(group))
        self._tasks[task] = group

        def done(_: asyncio.Task[None]) -> None:
            del self._tasks[task]
            self._free(group, group.addresses)
            if (self._full and len(self._tasks) <= self._window - CLAIM) or (self._stopping and not self._tasks):
                self._full = False
                self._wake.set()

        task.add_done_callback(done)

    def _free(self, group: Group, addresses: Iterable[str]) -> None:
        """No longer under way here. Called as soon as the spool has ended the lease, so that the next claim may have them."""
        for address in addresses:
            if self._under_way.get((group.entry.queue_id, address)) is group:
                del self._under_way[group.entry.queue_id, address]

    async def _guarded(self, group: Group) -> None:
        try:
            await self._carrier.carry(group)
        except CorruptEntry as error:
            await self._closing.set_aside(CorruptEntry(group.entry.queue_id, error.why))
        except SpoolError as error:
            self.trouble.begin(group, str(error))
            await self._give_back(group, SPOOL_RETRY[-1])
            self.trouble.end(group)
        except Exception as error:
            self._events.bug(f"{group.entry.queue_id}: delivery", error)
            if group.begun:
                await self._closing.cut_off(group.begun, "internal error during the attempt")
                self._free(group, group.begun.recipients)
            await self._give_back(group, self._settings.retry[0])

    async def _give_back(self, group: Group, seconds: float) -> None:
        """End the leases that the group still has; its recipients are due again in `seconds`."""
        queue_id = group.entry.queue_id
        left = [address for address in group.addresses if self._under_way.get((queue_id, address)) is group]
        if left:
            when = self._clock() + seconds
            await self._closing.insist(lambda: self._spool.postpone(queue_id, left, when))
            self._free(group, left)
            self._due_at(when)

    def _carries_reports(self, provider: str) -> bool | None:
        transport = self._transports.get(provider)
        return transport.carries_reports if transport else None
