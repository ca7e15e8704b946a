"""Attempts: one transaction or request of one job, or of several that share it.

Promises: each job is begun in the spool before the first byte, one that cannot be begun does not go; what an attempt says
about the provider is known before its slot is free; every recipient has exactly one outcome whatever the transport does. An
exception that escapes a transport is our bug: it is logged with its traceback, and the outcomes are unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from relay import pauses
from relay.delivery.closing import OURSELVES
from relay.delivery.gate import Pass
from relay.delivery.lanes import Group, Lane, Made, Rider
from relay.errors import CannotCarry, CorruptEntry, SpoolError
from relay.log import Events
from relay.model import Job, Outcome, Verdict
from relay.spool.base import Begun, Spool
from relay.transports.base import Transport

REFUSALS = 10_000
"""Findings kept in memory that a provider, once asked, turned out not to be able to carry a message."""

Refusals = frozenset[tuple[str, CannotCarry]]
"""Providers, by name, that turned out not to be able to carry something."""


class Attempts:
    """Makes attempts, and remembers which provider turned out not to be able to carry what. `may_not_begin` says whether a drain or
    a reload came before an attempt."""

    def __init__(
        self,
        *,
        spool: Spool,
        standing: pauses.Standing,
        may_not_begin: Callable[[Group, Lane], bool],
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._standing = standing
        self._may_not_begin = may_not_begin
        self._events = events
        self._clock = clock
        self._refusals: dict[tuple[str, str, str], CannotCarry] = {}

    async def alone(self, rider: Rider, name: str, lane: Lane, turn: Pass, *, first: bool) -> Made | None:
        """One job's transaction or request, the `first` of its message or a further one; None when it may not be made now. Raises
        SpoolError."""
        (made,) = await self.make([rider], name, lane, turn, first=first)
        if isinstance(made, BaseException):
            raise made
        return made

    async def make(
        self, riders: Sequence[Rider], name: str, lane: Lane, turn: Pass, *, first: bool = True
    ) -> Sequence[Made | BaseException | None]:
        """One transaction or request: begun for each rider, made, and known to the pauses. What came of it for each: None when it
        may not be made now (paused meanwhile, or draining), the error where it could not be begun. What leaves is counted of what
        `turn` took of the provider's budget, and stored together with what is begun; a message is counted with its `first` request."""
        found: dict[Rider, Made | BaseException | None] = dict.fromkeys(riders)
        leaves: dict[Rider, pauses.Pass] = {}
        count = 0
        try:
            for rider in riders:
                identities = (*lane.transport.identity(rider.job), pauses.of_message(rider.job.queue_id))
                leave = None if self._may_not_begin(rider.group, lane) else self._standing.admit(name, self._clock(), identities)
                if leave is not None:
                    leaves[rider] = leave
            count = len(leaves)
            lane.active += count
            for rider, answer in zip(leaves, await self._begin_all(list(leaves), name, lane, turn, first), strict=True):
                found[rider] = answer
            going = [rider for rider in leaves if found[rider] is None]
            for rider in leaves.keys() - set(going):
                self._standing.abandon(leaves.pop(rider))
            lane.gate.leaves(turn)
            answers = await self._ask(lane.transport, going) if going else []
            late = max((outcome.connect_s for outcomes, _ in answers for outcome in outcomes.values()), default=0.0)
            if late:  # it left when the connection was open
                lane.gate.leaves(turn, late)
            # Known before the slot is free, so that the next in line does not run into the same wall.
            for rider, (outcomes, corrupt) in zip(going, answers, strict=True):
                silent = any(outcome.verdict is Verdict.UNKNOWN for outcome in outcomes.values())
                message = going[0].job.queue_id if silent else rider.job.queue_id  # a request that nobody answered is one finding
                found[rider] = self._known(rider, leaves.pop(rider), outcomes, corrupt, name, lane, message)
            heard = [outcome for outcomes, _ in answers for outcome in outcomes.values()]
            self._slow_down(name, lane, turn, heard)
            if heard and all(outcome.own and outcome.verdict is Verdict.PAUSE for outcome in heard):
                lane.gate.unsent(turn)  # nobody was reached: a provider that is down is found out at once, whatever its budget
        except BaseException:
            for leave in leaves.values():
                self._standing.abandon(leave)
            raise
        finally:
            lane.active -= count
        return list(found.values())

    async def _begin_all(self, riders: Sequence[Rider], name: str, lane: Lane, turn: Pass, first: bool) -> list[BaseException | None]:
        """None for each that is begun, else why not. What is spent goes into the same commit: both are asked for at once. A spool
        that cannot write says so by the former; what is not noted as spent is only forgotten by a restart."""
        if not riders:
            return []
        recipients = sum(len(rider.addresses) for rider in riders)
        spent = lane.gate.begun(turn, lane.budget.amount(requests=1, messages=len(riders) if first else 0, recipients=recipients))
        if len(riders) == 1 and not spent:  # one alone needs no task of its own
            try:
                await self._begin(riders[0], name)
            except SpoolError as error:
                return [error]
            return [None]
        work = [self._begin(rider, name) for rider in riders]
        store = [self._spool.spend(spent)] if spent else []
        found: list[BaseException | None] = list(await asyncio.gather(*work, *store, return_exceptions=True))
        return found[: len(riders)]

    async def _begin(self, rider: Rider, name: str) -> None:
        group, job, addresses = rider.group, rider.job, rider.addresses
        number = await self._spool.begin(job.queue_id, addresses, name, group.route.name, self._clock())
        group.begun = Begun(number, job.queue_id, name, group.route.name, addresses, self._clock())

    def _known(
        self,
        rider: Rider,
        leave: pauses.Pass,
        outcomes: Mapping[str, Outcome],
        corrupt: CorruptEntry | None,
        name: str,
        lane: Lane,
        message: str,
    ) -> Made:
        """What an attempt that was made means for the provider, before it is recorded for the message."""
        changes: Sequence[pauses.Change] = ()
        if lane.retired:  # it says nothing about the provider as it is configured now
            self._standing.abandon(leave)
        else:
            changes = self._standing.settle(leave, outcomes.values(), self._clock(), message)
            if any(change.paused and not change.pause.identity for change in changes):
                lane.gate.shut()  # who stands there chooses again
        refusal = _cannot_carry(outcomes.values())
        if refusal:
            self._remember(rider.job.queue_id, tuple(outcomes), name, refusal)
            outcomes = {address: _for_the_next(outcome) for address, outcome in outcomes.items()}
        assert rider.group.begun is not None
        return Made(rider.group.begun, outcomes, changes, refusal is not None, corrupt)

    def _slow_down(self, name: str, lane: Lane, turn: Pass, outcomes: Iterable[Outcome]) -> None:
        """Where the provider refused a request because it is too fast, its budget learns from it."""
        refusal = next((outcome for outcome in outcomes if outcome.verdict is Verdict.THROTTLE and not outcome.own), None)
        if refusal is None or lane.retired:
            return
        now = self._clock()
        pause = self._standing.blocked(name, now)
        refused = turn.take.begun if turn.take else 1
        lane.budget.throttled(now, refusal.retry_after, resumes=pause.until if pause and pause.quiet else now, refused=refused)

    def _remember(self, queue_id: str, addresses: Sequence[str], name: str, refusal: CannotCarry) -> None:
        """What was found out by asking need not be asked again: the next claim passes this provider by."""
        self._refusals.update({(queue_id, address, name): refusal for address in addresses})
        while len(self._refusals) > REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    def keep(self, providers: Collection[str]) -> None:
        """Forget what other providers turned out not to be able to carry."""
        self._refusals = {key: refusal for key, refusal in self._refusals.items() if key[2] in providers}

    def refused(self, queue_id: str, address: str, order: Iterable[str]) -> Refusals:
        """The providers of this order that turned out, once asked, not to be able to carry the message to this recipient."""
        if not self._refusals:
            return frozenset()
        found = ((name, self._refusals.get((queue_id, address, name))) for name in order)
        return frozenset((name, refusal) for name, refusal in found if refusal)

    async def _ask(self, transport: Transport, riders: Sequence[Rider]) -> list[tuple[Mapping[str, Outcome], CorruptEntry | None]]:
        """For each rider the outcome of each recipient, whatever the transport does, and what it could not read of the message."""
        jobs = [rider.job for rider in riders]
        corrupt: CorruptEntry | None = None
        try:
            answers = await transport.attempt(jobs)
        except SpoolError as error:  # a message could not be read: none was handed over
            unread = Outcome(Verdict.RETRY, "4.3.0", str(error), OURSELVES, own=True)
            answers = {(job.queue_id, recipient.address): unread for job in jobs for recipient in job.recipients}
            if isinstance(error, CorruptEntry):
                corrupt = CorruptEntry(jobs[0].queue_id, error.why)
        except Exception as error:
            self._events.bug(f"{_ids(jobs)}: transport of {transport.provider}", error)
            answers = {}
        expected = {(job.queue_id, recipient.address) for job in jobs for recipient in job.recipients}
        if answers.keys() != expected:
            if answers:
                wrong = KeyError(*sorted(answers.keys() ^ expected))
                self._events.bug(f"{_ids(jobs)}: {transport.provider} gave outcomes for other recipients", wrong)
            silent = Outcome(Verdict.UNKNOWN, "4.3.0", "internal error during the attempt", OURSELVES, own=True)
            answers = {one: answers.get(one, silent) for one in expected}
        return [(_about_the_job(rider, answers, transport), corrupt if len(riders) == 1 else None) for rider in riders]


def _cannot_carry(outcomes: Iterable[Outcome]) -> CannotCarry | None:
    """The refusal in outcomes that are all a transport's own finding about the message, made before anything was sent."""
    found = list(outcomes)
    if all(outcome.own and outcome.verdict is Verdict.PERM_MSG for outcome in found):
        return CannotCarry([found[0].reply], found[0].status)
    return None


def _for_the_next(outcome: Outcome) -> Outcome:
    """A finding of our own is no refusal by a remote: the next provider of the route may carry it."""
    return replace(outcome, verdict=Verdict.RETRY, status="4" + outcome.status[1:])


def _about_the_job(rider: Rider, answers: Mapping[tuple[str, str], Outcome], transport: Transport) -> dict[str, Outcome]:
    """Its recipients' outcomes. A finding about an identity that the job does not use could never be waited for: it is a deferral
    like others."""
    found = rider.outcomes(answers)
    if any(outcome.verdict is Verdict.CONFIG for outcome in found.values()):
        identities = transport.identity(rider.job)
        for address, outcome in found.items():
            if outcome.verdict is Verdict.CONFIG and outcome.identity not in identities:
                found[address] = replace(outcome, verdict=Verdict.RETRY, identity="")
    return found


def _ids(jobs: Sequence[Job]) -> str:
    """Their queue ids, for the log; of many the first ones."""
    return ", ".join(job.queue_id for job in jobs[:5]) + (f" and {len(jobs) - 5} more" if len(jobs) > 5 else "")
