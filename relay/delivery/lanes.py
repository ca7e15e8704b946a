"""The way to one provider, and who is on it: the records that the carrier and its batches share. No behaviour beyond them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from relay import pauses, routing
from relay.errors import CannotCarry, CorruptEntry
from relay.model import Entry, Job, Outcome, RecipientState
from relay.spool.base import Begun
from relay.transports.base import Transport

LANE = 250
"""Groups that may stand in line for one provider; more wait in the spool, so that a slow provider never fills the window."""
CALLED = 0.0
"""The time at which who waited for room in a line is due: before everybody else."""


@dataclass(slots=True, eq=False)
class Lane:
    """The way to one provider: its transport, and who is on it."""

    transport: Transport
    slots: asyncio.Semaphore
    room: int  # groups that may be in line or under way
    line: int = 0  # groups in line or under way
    active: int = 0  # jobs under way
    crowded: bool = False  # some wait in the spool for room in the line
    called: int = 0  # recipients called from there who have not come yet
    calling: bool = False  # a call is under way
    retired: bool = False  # a reload took its provider away or changed it; who holds a slot ends what it began


def lane_for(transport: Transport) -> Lane:
    """The empty lane of a transport. One batch gathers while another is under way."""
    return Lane(transport, asyncio.Semaphore(transport.concurrency), room=max(LANE, 2 * transport.batching.jobs))


@dataclass(slots=True, eq=False)
class Group:
    """Recipients of one entry that go the same way; the owner of their leases while it is under way."""

    entry: Entry
    route: routing.Route
    order: tuple[str, ...]
    states: list[RecipientState]
    pinned: bool  # maybe relayed by the only provider of the order
    refused: frozenset[tuple[str, CannotCarry]] = frozenset()  # providers that turned out not to be able to carry it
    table: int = 0  # which of the carrier's tables of routes chose the order
    begun: Begun | None = None  # an attempt whose outcome is not recorded yet

    @property
    def addresses(self) -> tuple[str, ...]:
        """The recipients' addresses."""
        return tuple(state.recipient.address for state in self.states)

    @property
    def called(self) -> bool:
        """Whether the group was called from the spool because there is room in the line."""
        return all(state.next_attempt == CALLED for state in self.states)


@dataclass(slots=True)
class Search:
    """What was found while looking for a provider for a group."""

    blocked: pauses.Pause | None = None
    refusals: list[tuple[str, CannotCarry]] = field(default_factory=list)


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
