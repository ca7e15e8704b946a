"""One group's way: to the first provider that may be used and can carry it, the attempt, and its consequences.

Promises: a slot of the provider is held while jobs are built and attempted, so that what lies in memory is bounded; an
attempt is begun in the spool before its first byte, and recorded before anything follows from it; a maybe-relayed
recipient is given to nobody but its provider; what a full line cannot take waits in the spool and goes first later; nothing
leaves that a provider's budget does not let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from relay import pauses
from relay.budgets import Allowance
from relay.delivery.alerts import Alerts, is_alert
from relay.delivery.attempts import Attempts
from relay.delivery.closing import OURSELVES, Closing
from relay.delivery.fleet import Fleet
from relay.delivery.gate import GateShut, Pass
from relay.delivery.jobs import job_of
from relay.delivery.lanes import Group, Lane, Made, Rider, Search
from relay.delivery.lines import Lines
from relay.delivery.ramping import Ramping
from relay.delivery.seats import Seat, Turn
from relay.delivery.settings import DeliverySettings
from relay.delivery.shadow import Shadows
from relay.delivery.telling import Telling
from relay.delivery.waits import Waits
from relay.errors import CannotCarry
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Job, Outcome, State, Verdict, line_key
from relay.spool.base import Spool
from relay.transports.base import Transport

_MORE = "it waits for that; to send more now, raise the provider's limits, or let the route spill (overflow: spill), then: relay reload"


class Carrier:
    """Takes groups on their way. `due_at` is told of times at which something falls due, `free` of leases that have ended."""

    def __init__(
        self,
        *,
        spool: Spool,
        closing: Closing,
        ramping: Ramping,
        alerts: Alerts,
        shadows: Shadows,
        settings: DeliverySettings,
        random: Callable[[], float],
        due_at: Callable[[float], None],
        free: Callable[[Group, Iterable[str]], None],
        events: Events,
        metrics: Metrics,
        clock: Callable[[], float],
        steady: Callable[[], float] | None,
    ) -> None:
        self.standing = pauses.Standing(random)
        self.recording: set[int] = set()  # attempts whose outcome is known and being recorded
        self.stopping = False
        self.table = 0  # counts the tables of routes: what an earlier one chose, and is not begun, is chosen again
        self._spool = spool
        self._closing = closing
        self._ramping = ramping
        self._shadows = shadows
        self._settings = settings
        self._due_at = due_at
        self._free = free
        self._events = events
        self._clock = clock
        self.fleet = Fleet(self._prepared, self._attempt_together, events, clock, steady)
        self.attempts = Attempts(spool=spool, standing=self.standing, may_not_begin=self._may_not_begin, events=events, clock=clock)
        self.lines = Lines(spool=spool, lanes=lambda: self.lanes, insist=closing.insist, due_at=due_at, clock=clock)
        self.waits = Waits(
            spool=spool, closing=closing, standing=self.standing, lines=self.lines, settings=settings, free=free, clock=clock
        )
        self.telling = Telling(
            spool=spool,
            closing=closing,
            standing=self.standing,
            lanes=lambda: self.lanes,
            passed_by=lambda queue_id, address, name: bool(self.attempts.refused(queue_id, address, (name,))),
            alerts=alerts,
            line_up=self.lines.line_up,
            due_at=due_at,
            events=events,
            metrics=metrics,
            clock=clock,
        )

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The way to each configured provider."""
        return self.fleet.lanes

    def configure(
        self, transports: Mapping[str, Transport], allowances: Mapping[str, Allowance], settings: DeliverySettings, *, rerouted: bool
    ) -> Sequence[pauses.Pause]:
        """Use other transports from now on; returns the pauses that are known no longer.

        Who stands in the line of a provider that changed chooses again, and with `rerouted` who stands in any. What was known of
        a changed provider (its pause, what it cannot carry) is known no longer.
        """
        self._settings = settings
        self.waits.configure(settings)
        self.table += rerouted
        before = set(self.lanes)
        kept = self.fleet.configure(transports, allowances)
        if rerouted:
            self.fleet.shut()
        self.attempts.keep(kept)
        return [pause for name in before - kept for pause in self.standing.forget(name)]

    def stop(self) -> None:
        """Begin nothing new from now on."""
        self.stopping = True
        self.fleet.hurry()
        self.fleet.shut()

    async def mind_the_quotas(self) -> None:
        """Budgets may be others: who waits for one that was used up goes on where it has room now. Raises SpoolError."""
        for name, lane in list(self.lanes.items()):
            if lane.budget.exhausted(self._clock()) is None:
                for change in self.standing.replenished(name):
                    await self.telling.change(change)

    async def carry(self, group: Group) -> None:
        """Take the first provider of the order that may be used and can carry the group; wait, hold or fail where none is."""
        try:
            try:
                await self._carry(group)
            except Exception:
                await self._do_later(group)  # of what was recorded the sender is told, whatever became of the rest
                raise
            await self._do_later(group)
        finally:
            if group.shadow:
                group.shadow.cancel()

    async def _do_later(self, group: Group) -> None:
        for work in group.later:
            await work()

    async def _carry(self, group: Group) -> None:
        entry = group.entry
        if group.refused_by_guard:
            outcome = Outcome(Verdict.PERM_MSG, "5.7.1", group.refused_by_guard, OURSELVES, own=True)
            await self._closing.fail(entry, group.route, dict.fromkeys(group.addresses, outcome))
            return
        if why := self._nobody(group):
            await self._closing.hold(entry, group.states, why)
            return
        search = Search()
        for name in group.order:
            before = len(search.refusals)
            if await self._try_provider(group, name, search):
                return
            if group.table != self.table:
                await self.waits.choose_again(group, group.addresses)
                return
            if len(search.refusals) > before and name != group.order[-1]:
                self._events.passed_over(entry.queue_id, name, str(search.refusals[-1][1]))
        if search.full:
            await self.waits.wait(group, line_key(search.full, group.route.name), self._clock())
        elif search.blocked:
            await self.waits.wait(group, search.blocked.key, search.blocked.since)
        elif group.pinned:
            why = "; ".join(str(refusal) for _, refusal in search.refusals)
            await self._closing.hold(
                entry, group.states, f"may have been delivered by {group.order[0]}, which cannot carry it any more: {why}"
            )
        else:
            await self._refuse(group, search.refusals)

    def _nobody(self, group: Group) -> str:
        """Why there is nobody to ask, which is a matter of set-up and never of the message; "" where there is somebody."""
        if not group.order:
            return "no route matches: add a last route without match"
        if any(name in self.lanes for name in group.order):
            return ""
        if group.pinned:
            name = group.order[0]
            return (
                f"may have been delivered by {name}, which is not configured any more: configure {name} again, or: relay queue reroute "
                f"{group.entry.queue_id} --via PROVIDER --even-if-maybe-sent; then: relay queue release {group.entry.queue_id}"
            )
        return f"none of its providers is configured any more: {', '.join(group.order)}"

    async def _try_provider(self, group: Group, name: str, search: Search) -> bool:
        """Whether the group found its place with this provider: attempted, or waiting for it."""
        lane = self.lanes.get(name)
        if lane is None:
            search.refusals.append((name, CannotCarry([f"no provider named {name} is configured"], "5.3.5")))
            return False
        if known := dict(group.refused).get(name):
            search.refusals.append((name, known))
            return False
        await self._mind_the_quota(name, lane)
        pause = self.standing.blocked(name, self._clock(), (pauses.of_message(group.entry.queue_id),))
        if pause is None:
            await self._cut(group, lane)
            return await self._join(group, name, lane, search)
        search.meet(pause)
        if not pause.quiet:
            return False
        if _spills(group):
            if name != group.order[-1]:
                self._events.spilled(group.entry.queue_id, name, group.order[group.order.index(name) + 1], pause.outcome.reply)
            return False
        await self.waits.wait(group, pause.key, pause.since)  # throttled: what is meant for it waits, it never fails over
        return True

    async def _cut(self, group: Group, lane: Lane) -> None:
        """Of recipients that are more than a budget lets go at once, now or ever, some go, and the others choose again."""
        most = lane.budget.most
        if lane.budget.allowance.count != "recipients" or most is None or group.redirect:
            return
        now, fit = self._clock(), min(len(group.states), most)
        while fit > 1 and lane.budget.exhausted(now, fit):
            fit = (fit + 1) // 2
        if rest := group.addresses[fit:]:
            group.states = group.states[:fit]
            await self.waits.choose_again(group, rest)

    async def _mind_the_quota(self, name: str, lane: Lane) -> None:
        """A quota that is used up is waited for as a throttled provider is, in the spool."""
        now = self._clock()
        if (used_up := lane.budget.exhausted(now)) is None:
            return
        until, what = used_up
        change = self.standing.exhausted(name, Outcome(Verdict.THROTTLE, "4.7.28", what, OURSELVES, own=True, mend=_MORE), now, until)
        if change:
            lane.gate.shut()
            await self.telling.change(change)

    async def _join(self, group: Group, name: str, lane: Lane, search: Search) -> bool:
        """Stand in the provider's line. A full line is waited for in the spool, and who waits there goes first."""
        if not self.lines.enter(lane, group):
            if _spills(group) and name != group.order[-1]:
                search.full = search.full or name
                self._events.spilled(group.entry.queue_id, name, group.order[group.order.index(name) + 1], "its line is full")
                return False
            await self.waits.wait(group, line_key(name, group.route.name), self._clock())
            return True
        try:
            return await self._take(group, name, lane, search)
        finally:
            await self.lines.leave(name, lane, group, call=not self.stopping)
            self.fleet.close_unused(lane)

    async def _take(self, group: Group, name: str, lane: Lane, search: Search) -> bool:
        """In a batch, or alone."""
        batches = self.fleet.batches(lane)
        heard: Made | Turn | None
        if self.stopping:
            heard = Turn.AGAIN
        elif batches and batches.may_ride(group):
            heard = await batches.ride(group, search)
            if isinstance(heard, Made):
                await self._settle(group, name, heard)
                return True
        else:
            heard = Turn.ALONE
        if heard is Turn.ALONE:
            heard = await self._take_alone(group, name, lane, search)
        if heard is Turn.AGAIN:
            await self.waits.choose_again(group, group.addresses)
        return heard is not Turn.PASSED

    async def _take_alone(self, group: Group, name: str, lane: Lane, search: Search) -> Turn | None:
        """With a slot of the provider: build the jobs, and attempt them one after the other. None when each was seen to."""
        made: Made | None = None
        turn: Pass | None = None
        left = set(group.addresses)
        try:
            amount = lane.budget.amount(requests=1, messages=1, recipients=group.heads)
            turn = await lane.gate.enter(group.route.name, group.weight, amount)
            parts = await self._prepared(name, lane, Seat(group, search, 0.0))
            if isinstance(parts, Turn):
                return parts
            for number, part in enumerate(parts, start=1):
                rider = Rider(group, part)
                if number > 1 and (more := lane.budget.amount(requests=1, messages=0, recipients=0)):
                    turn = await self._another(group, lane, turn, more)
                made = await self.attempts.alone(rider, name, lane, turn, first=number == 1)
                left.difference_update(rider.addresses)
                if made is None:
                    await self.waits.choose_again(group, rider.addresses)
                elif number < len(parts):
                    await self._settle(group, name, made)
        except GateShut:
            if len(left) == len(group.states):
                return Turn.AGAIN
            await self.waits.choose_again(group, tuple(left))  # the others have their outcomes
            return None
        finally:
            if turn:
                lane.gate.leave(turn)
        if made:
            await self._settle(group, name, made)
        return None

    async def _another(self, group: Group, lane: Lane, turn: Pass, amount: int) -> Pass:
        """The turn of one more request: others may be before it."""
        lane.gate.leave(turn)
        return await lane.gate.enter(group.route.name, group.weight, amount)

    async def _attempt_together(self, name: str, lane: Lane, riders: Sequence[Rider], turn: Pass) -> Sequence[Made | BaseException | None]:
        """One attempt. Its outcomes are known from here on, though each is recorded by its own group: a drain that loses its patience
        in between does not take them for attempts under way."""
        found = await self.attempts.make(riders, name, lane, turn)
        self.recording.update(one.begun.attempt for one in found if isinstance(one, Made))
        return found

    async def _prepared(self, name: str, lane: Lane, seat: Seat) -> Sequence[Job] | Turn:
        """What the group would send by this provider; or PASSED with the reason in `search`, or AGAIN where it may not begin."""
        group, search = seat.group, seat.search
        if self._may_not_begin(group, lane) or self.standing.blocked(name, self._clock()):
            return Turn.AGAIN
        job = job_of(group, self._settings.rewriting, await self._spool.message(group.entry.queue_id))
        try:
            parts = await lane.transport.prepare(job)
        except CannotCarry as refusal:
            search.refusals.append((name, refusal))
            return Turn.PASSED
        pause = self.standing.blocked(name, self._clock(), lane.transport.identity(parts[0]))
        if pause is not None and pause.identity:
            search.blocked = search.blocked or pause
            return Turn.PASSED
        if group.shadow is None:
            group.shadow = self._shadows.begin(job, group.route)
        return parts

    def _may_not_begin(self, group: Group, lane: Lane) -> bool:
        """Whether a drain or a reload came before the attempt."""
        return self.stopping or lane.retired or group.table != self.table

    async def _settle(self, group: Group, name: str, made: Made) -> None:
        """Record first; then log, count, tell, bounce and finish."""
        entry, now, begun = group.entry, self._clock(), made.begun
        recorded = self._closing.judge(entry, group.states, name, made.outcomes, now, at_once=made.refused)
        self.recording.add(begun.attempt)
        try:
            record = partial(self._spool.record, entry.queue_id, begun.attempt, recorded, name, group.route.name, now)
            closed = await self._closing.insist(record)
        finally:
            self.recording.discard(begun.attempt)
        group.begun = None
        self._free(group, recorded)
        for address, one in recorded.items():
            self.telling.attempt(group, name, address, one, begun.started, now)
            if one.state is State.QUEUED:
                self._due_at(one.next_attempt)
        for change in made.changes:
            await self.telling.change(change, entry)
        await self._ramping.note(group.route, name, made.outcomes.values(), now, entry)

        async def close() -> None:
            await self._shadows.end(group.shadow)  # the body goes when the entry is finished
            await self._closing.close(entry, group.route, recorded, closed, last=made.outcomes)

        if group.shadow:
            group.later.append(close)
        else:
            await close()
        if made.corrupt:
            raise made.corrupt

    async def _refuse(self, group: Group, refusals: Sequence[tuple[str, CannotCarry]]) -> None:
        """No provider of the route can carry it: it fails, and the bounce names each reason."""
        text = "no provider of the route can carry this message: " + "; ".join(f"{name}: {refusal}" for name, refusal in refusals)
        status = refusals[0][1].status if refusals else "5.3.5"
        outcome = Outcome(Verdict.PERM_MSG, status, text, OURSELVES, own=True)
        reasons = [f"{name}: {reason}" for name, refusal in refusals for reason in refusal.reasons]
        await self._closing.fail(group.entry, group.route, dict.fromkeys(group.addresses, outcome), reasons)


def _spills(group: Group) -> bool:
    """Whether it does not wait for a provider that has no room. An alert never does: it tells of that very provider, maybe."""
    return group.route.spills or is_alert(group.entry)
