"""The spool's contract: accepted messages that are not finished yet, and the history of those that are.

Promise: when `commit` returns, a crash or power cut does not lose the message. When `begin` or `record` returns, what
it said is durable too. A message is written once and never changed; small rows say what became of each recipient.
The spool knows no routes, no providers' manners and no clock: every time is an argument (Unix seconds).

Fails with SpoolFull (the client hears 452) or SpoolError (451); then nothing was stored and a later call may succeed
without a restart. An entry that cannot be read is set aside as corrupt and reported; it is never deleted.
The states, and what a crash leaves in each: docs/spool.md. One contract test suite runs over every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from relay.model import Client, Edit, Entry, Envelope, Facts, Message, Outcome, State


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that was begun and has no outcome yet. `attempt` is its number in the spool."""

    attempt: int
    queue_id: str
    provider: str
    route: str
    recipients: tuple[str, ...]
    started: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """What to store for one recipient after an attempt (or a decision of our own without one).

    `state` is the recipient's state from now on, `next_attempt` its next time when still QUEUED, `waits` the key of
    the pause it waits for, `since` the time the provider first deferred it. `told` says that a FAILED recipient, or a
    RELAYED one with NOTIFY=SUCCESS, needs no notice; otherwise one is due until a commit marks it told. Of one that
    stays open it says nothing: that its sender was warned of the delay is kept.
    """

    outcome: Outcome
    state: State
    next_attempt: float = 0.0
    waits: str = ""
    since: float = 0.0
    told: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an entry's history: an outcome for one recipient in one attempt (attempt 0: no attempt was made)."""

    time: float
    queue_id: str
    recipient: str
    provider: str
    route: str
    attempt: int
    verdict: str
    status: str
    reply: str
    remote: str
    remote_id: str
    state: State


@dataclass(frozen=True, slots=True)
class Filter:
    """Which recipients are meant; every given key must hold. Patterns are globs, compared without case.

    `queue_id` is a whole id or a unique prefix; `older` is seconds since arrival at `now`; the sender `<>` is the null path.
    `provider` and `route` are those last attempted, or waited for: a recipient that was never on its way has neither.
    """

    queue_id: str = ""
    provider: str = ""
    route: str = ""
    sender: str = ""
    recipient: str = ""
    state: str = ""  # active | deferred | hold | corrupt | finished, or "" for all that is not finished
    older: float | None = None
    now: float = 0.0
    notices: bool = True  # notices of ours among them


Verb = Literal["hold", "release", "retry", "reroute", "bounce", "delete"]


@dataclass(frozen=True, slots=True)
class Changed:
    """What `each` did to one entry: to how many recipients, whether that ended the entry, how many it left alone because a
    provider may have taken them (reroute), and the addresses of those whose senders are to be told (bounce)."""

    queue_id: str
    recipients: int
    ended: bool = False
    pinned: int = 0
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """The queue in numbers. Keys of `recipients` are (state, provider), with state active|deferred|hold; `oldest` is the
    arrival of the oldest open entry by the same state words."""

    entries: int
    recipients: Mapping[tuple[str, str], int]
    oldest: Mapping[str, float]
    corrupt: int


@dataclass(frozen=True, slots=True)
class Health:
    """`ok` False means: accept nothing. `why` is one sentence. `free` is free octets on the spool's file system."""

    ok: bool
    full: bool
    why: str
    free: int


class Incoming(Protocol):
    """A message on its way in. Small ones stay in memory, large ones stream to a synced file."""

    @property
    def queue_id(self) -> str:
        """The id this message will have; never used again even if it is aborted."""

    @property
    def size(self) -> int:
        """Octets written so far."""

    def write(self, chunk: bytes) -> None:
        """Take normalised octets. Cheap; never raises (a disk error comes out of `commit`)."""

    async def drain(self) -> None:
        """Wait until a reasonable amount is no longer pending, so that memory stays flat."""

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
        via: Sequence[str] = (),
        bounce: bool = False,
        route: str = "",
        answers: str = "",
        told: Sequence[str] = (),
        warns: bool = False,
    ) -> Entry:
        """Make the message durable and due at once. Only after this returns may the client hear 250.

        A bounce names the `route` it is to leave by, which its recipients keep; the entry it `answers`; and the recipients
        it has `told` the sender about: they are marked told in the same transaction, so that a crash neither loses nor
        repeats a bounce. One that only `warns` of a delay marks those that are still open: of what became of the others the
        sender is still to be told.
        """

    async def abort(self) -> None:
        """Forget it; nothing of it stays."""


class Spool(Protocol):
    """What every spool does. All methods may raise SpoolError."""

    def incoming(self, now: float) -> Incoming:
        """A fresh queue id (14 upper-case hex digits, rising, never reused) and a place for the message's octets."""

    def on_due(self, wake: Callable[[], None]) -> None:
        """Call `wake` (in the event loop) whenever something may have become due at once."""

    async def claim(self, now: float, limit: int, lease: float) -> Sequence[Entry]:
        """Entries with recipients due at `now`, at most `limit` entries: the oldest due first, and where there are more than that, up
        to a quarter of the newest, so that new mail never stands behind all that an admin or the end of an outage made due.

        Every open, due recipient of such an entry is leased until `now + lease`: no second claim returns it before
        then unless `record`, `postpone` or `wait` ends the lease. The Entry holds all recipients;
        the leased ones are those QUEUED with `next_attempt <= now`.
        """

    async def renew(self, queue_id: str, recipients: Sequence[str], until: float) -> None:
        """Prolong a lease while a long attempt is under way."""

    async def next_due(self) -> float | None:
        """When the next recipient falls due, or None when nothing is queued."""

    async def begin(self, queue_id: str, recipients: Sequence[str], provider: str, route: str, now: float) -> int:
        """Store and sync that an attempt starts; returns its number. Only then may the first byte go out."""

    async def record(self, queue_id: str, attempt: int, outcomes: Mapping[str, Recorded], provider: str, route: str, now: float) -> bool:
        """Store and sync what became of recipients (attempt 0: a decision without an attempt). True when none is open.

        The attempt is closed for all of its recipients, also for those without an outcome here; `outcomes` may be empty. A
        recipient held by an admin in the meantime stays HELD where it would be QUEUED; a deleted one only becomes RELAYED.
        """

    async def postpone(self, queue_id: str, recipients: Sequence[str], until: float) -> None:
        """End a lease without an attempt: due again at `until`."""

    async def wait(self, queue_id: str, recipients: Sequence[str], key: str, until: float, provider: str = "", route: str = "") -> None:
        """End a lease: the recipients wait for `key` (a paused provider or identity), at the longest to `until`.

        `provider` and `route` are noted for recipients that were never attempted, so that they are found by them.
        """

    async def wake(self, key: str | None, now: float, limit: int | None = None, *, newest: bool = False) -> int:
        """Make waiting recipients due now, oldest first (with None those of all keys, one key after the other); returns how many.

        At most `limit`, rounded up so that no entry is cut: those of one mail that wait for a key are woken together. `newest`
        takes the newest first instead.
        """

    async def line_up(self, key: str | None) -> Sequence[str]:
        """Whoever waits for `key` (with None: for anything else) waits for the turn of its route from now on, under `line_key` of the
        provider it waited for; returns the keys of all lines in which anybody waits then.

        What waits for one key has one order, by age; so a few of a route with little mail would be woken behind all of another's.
        """

    async def waiting(self, key: str) -> int:
        """How many recipients wait for `key`."""

    async def finish(self, queue_id: str, now: float, keep_body: bool) -> bool:
        """End an entry none of whose recipients is open or waits for a notice: it becomes history, its body goes unless
        `keep_body`. True when this call ended it; False when it is not to be ended yet, or was before."""

    async def unfinished(self) -> Sequence[Begun]:
        """Attempts begun before this start that have no outcome: it is UNKNOWN for those of their recipients that are still open."""

    async def unclosed(self) -> Sequence[str]:
        """Ids of entries with no open recipient that were not finished before a crash."""

    async def untold(self) -> Sequence[str]:
        """Ids of entries with a FAILED recipient, or a RELAYED one with NOTIFY=SUCCESS, that is not told: a notice is due
        (after a crash, at the next start)."""

    async def told(self, queue_id: str, recipients: Sequence[str]) -> None:
        """No notice is due for these final recipients any more."""

    async def late(self, arrived_before: float, limit: int, after: str = "") -> Sequence[str]:
        """Ids, after the id `after`, of entries that arrived before and have a QUEUED recipient that was deferred or waits,
        whose sender was not warned. Null reverse-paths, bounces and recipients whose NOTIFY has no DELAY are left out: they
        would be looked at again and again."""

    async def entry(self, queue_id: str) -> Entry | None:
        """One entry, open or in the history. Raises CorruptEntry for one set aside."""

    async def entries(self, queue_ids: Sequence[str]) -> Sequence[Entry]:
        """These entries; without those that cannot be read, of which `entry` tells why."""

    async def message(self, queue_id: str) -> Message:
        """The stored octets. Raises CorruptEntry when they cannot be read, SpoolError when they are gone."""

    async def find(self, what: Filter, limit: int, after: str = "") -> Sequence[Entry]:
        """Entries with a matching recipient, by queue id, after the id `after`."""

    async def resolve(self, prefix: str) -> Sequence[str]:
        """Queue ids that begin with `prefix` (at most 10), open or in the history."""

    async def search(self, term: str, limit: int) -> Sequence[str]:
        """Ids of entries by queue id prefix, or by Message-ID, recipient, sender or remote id with or without their brackets;
        newest first."""

    async def history(self, queue_id: str) -> Sequence[Step]:
        """Every outcome of an entry, in order of time."""

    def each(
        self,
        verb: Verb,
        what: Filter,
        now: float,
        via: Sequence[str] = (),
        even_if_maybe_sent: bool = False,
        outcome: Outcome | None = None,
    ) -> AsyncIterator[Sequence[Changed]]:
        """Do `verb` to the recipients a filter means, in chunks of whole entries; yields what each chunk changed, once it is durable.

        Chunks are short, and what else is asked of the spool goes in between. Entries accepted meanwhile may be met or not. Who
        stops asking stops the work after the chunk that was yielded. The verbs are described at the methods of their names; bounce
        records those that are not leased as FAILED with `outcome`, a notice of each being due, and finishes nothing.
        """

    async def hold(self, what: Filter, now: float) -> int:
        """Hold matching queued recipients that are not leased; returns how many. This and the next four go by `each`."""

    async def release(self, what: Filter, now: float) -> int:
        """Release matching held recipients, due now; returns how many."""

    async def retry(self, what: Filter, now: float) -> int:
        """Make matching queued recipients that are not leased due now; returns how many.

        Corrupt entries are named by their state: `retry` puts them back into the queue whole, `delete` ends those that have
        no open recipient left, and leaves the others set aside.
        """

    async def reroute(self, what: Filter, via: Sequence[str], now: float, even_if_maybe_sent: bool) -> int:
        """Fix the providers of matching open recipients, whatever their route, and make them due now; returns how many.

        Others of the same entry keep their way. A leased one goes by the new way when its lease has ended without an end of its
        own. Maybe-relayed recipients stay pinned unless told. An empty `via` takes back what was fixed before.
        """

    async def delete(self, what: Filter, now: float) -> int:
        """Delete matching recipients that are not leased, without a bounce. Entries left without an open one are finished, unless
        the bounce of another recipient is due; returns how many recipients."""

    async def count(self, what: Filter) -> int:
        """How many recipients a filter means."""

    async def corrupt(self) -> Sequence[tuple[str, str]]:
        """(queue id, why) of the entries set aside."""

    async def set_aside(self, queue_id: str, why: str, now: float) -> None:
        """Move an entry that cannot be handled to corrupt; it is kept as it is."""

    async def spend(self, rows: Sequence[tuple[str, float, int]]) -> None:
        """Add (budget, slot, amount) to the ledger: what was taken of a budget, to be counted at the time `slot`. Durable on return.

        Asked for in the same turn of the event loop as `begin` it shares its sync: `gather(begin(...), spend(...))`.
        """

    async def spent(self) -> Sequence[tuple[str, float, int]]:
        """The ledger: (budget, slot, amount), in the order of budgets and slots."""

    async def forget_spent(self, before: Mapping[str, float]) -> None:
        """Forget what was spent of each of these budgets at slots before the time given for it."""

    async def keep(self, key: str, value: str) -> None:
        """Keep a value that outlives the process, in place of the one before; "" removes it. Durable on return."""

    async def kept(self) -> Mapping[str, str]:
        """Every value that is kept, by its key."""

    async def purge(self, finished_before: float, bodies_before: float) -> int:
        """Forget history older than `finished_before` and kept bodies older than `bodies_before`; returns entries gone."""

    async def counts(self) -> Counts:
        """The queue in numbers."""

    def health(self) -> Health:
        """Whether mail can be accepted now. Cheap: no disk access."""

    async def probe(self, min_free: int) -> Health:
        """Look at the disk (free space, a test write after an error) and refresh `health`."""

    async def close(self) -> None:
        """Finish what is under way and close. No call may follow."""
