"""The way to one provider, and who is on it: the records that the carrier and its batches share. No behaviour beyond them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relay import pauses, routing
from relay.budgets import Budget
from relay.delivery.gate import Gate
from relay.errors import CannotCarry, CorruptEntry
from relay.model import Entry, Job, Outcome, RecipientState
from relay.spool.base import Begun
from relay.transports.base import Transport

LANE = 250
"""Groups of one route that may stand in line for one provider; more wait in the spool, so that a slow provider never fills the
window, and mail of one route never stands before that of another."""
CALLED = 0.0
"""The time at which who waited for room in a line is due: before everybody else."""


@dataclass(slots=True)
class Line:
    """Those of one route who stand before a provider."""

    line: int = 0  # groups in line or under way
    crowded: bool = False  # some wait in the spool for room in the line
    called: int = 0  # recipients called from there who have not come yet
    calling: bool = False  # a call is under way

    @property
    def idle(self) -> bool:
        """Whether nobody stands in it, and nobody is waited for."""
        return not (self.line or self.crowded or self.called or self.calling)


@dataclass(slots=True, eq=False)
class Lane:
    """The way to one provider: its transport, its gate with what is left of its budget, and who is on it."""

    transport: Transport
    gate: Gate
    budget: Budget
    room: int  # groups of one route that may be in line or under way
    lines: dict[str, Line] = field(default_factory=dict)  # by route; one that is idle may be missing
    active: int = 0  # jobs under way
    retired: bool = False  # a reload took its provider away or changed it; who holds a slot ends what it began

    @property
    def line(self) -> int:
        """Groups in line or under way, of all routes."""
        return sum(one.line for one in self.lines.values())

    def line_of(self, route: str) -> Line:
        """The line of one route."""
        return self.lines.setdefault(route, Line())


def room_for(transport: Transport) -> int:
    """Groups of one route in line for a transport. One batch gathers while another is under way."""
    return max(LANE, 2 * transport.batching.jobs)


@dataclass(slots=True, eq=False)
class Group:
    """Recipients of one entry that go the same way; the owner of their leases while it is under way."""

    entry: Entry
    route: routing.Route
    order: tuple[str, ...]
    states: list[RecipientState]
    pinned: bool  # maybe relayed by the only provider of the order
    refused: frozenset[tuple[str, CannotCarry]] = frozenset()  # providers that turned out not to be able to carry it
    refused_by_guard: str = ""  # why its route's staging guard lets it go nowhere
    redirect: str = ""  # the address that gets the mail in the recipients' place
    table: int = 0  # which of the carrier's tables of routes chose the order
    begun: Begun | None = None  # an attempt whose outcome is not recorded yet
    shadow: asyncio.Task[None] | None = None  # builds the message for a second provider meanwhile
    later: list[Callable[[], Awaitable[None]]] = field(default_factory=list)  # to be done when it holds no place any more

    @property
    def addresses(self) -> tuple[str, ...]:
        """The recipients' addresses."""
        return tuple(state.recipient.address for state in self.states)

    @property
    def heads(self) -> int:
        """How many recipients a provider sees."""
        return 1 if self.redirect else len(self.states)

    @property
    def called(self) -> bool:
        """Whether the group was called from the spool because there is room in the line."""
        return all(state.next_attempt == CALLED for state in self.states)

    @property
    def weight(self) -> int:
        """Its route's share of a busy provider."""
        return routing.WEIGHTS[self.route.priority]


@dataclass(slots=True)
class Search:
    """What was found while looking for a provider for a group."""

    blocked: pauses.Pause | None = None  # what to wait for: the first pause that was met; of quiet ones that which ends first
    full: str = ""  # a provider in whose line there was no room, where the route goes on to the next one
    refusals: list[tuple[str, CannotCarry]] = field(default_factory=list)

    def meet(self, pause: pauses.Pause) -> None:
        """A pause is in the way. A quiet one is sure to end, at a time that is known."""
        if self.blocked is None or (pause.quiet and (not self.blocked.quiet or pause.until < self.blocked.until)):
            self.blocked = pause


@dataclass(slots=True)
class Made:
    """An attempt that was made: what came of it, and what changed for the provider."""

    begun: Begun
    outcomes: Mapping[str, Outcome]
    changes: Sequence[pauses.Change]
    refused: bool
    corrupt: CorruptEntry | None


@dataclass(slots=True, eq=False)
class Rider:
    """A group with one prepared job of its own."""

    group: Group
    job: Job

    @property
    def addresses(self) -> tuple[str, ...]:
        """The recipients whose attempt it is, whoever gets the mail in their place."""
        return self.group.addresses if self.group.redirect else tuple(recipient.address for recipient in self.job.recipients)

    def outcomes(self, found: Mapping[tuple[str, str], Outcome]) -> dict[str, Outcome]:
        """What became of each of them, out of a transport's answer for the job."""
        if self.group.redirect:
            (stand_in,) = self.job.recipients
            return dict.fromkeys(self.addresses, found[self.job.queue_id, stand_in.address])
        return {address: found[self.job.queue_id, address] for address in self.addresses}
