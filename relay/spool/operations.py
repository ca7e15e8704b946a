"""What the writer thread can be asked to do: plain records, prepared in the event loop so that the writer only writes.

The order of the kinds in `Operation` is the order in which the writer carries out a batch. Claims come last: what they
return is as everything else that shares their transaction left it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.model import Entry
from relay.spool.base import Changed, Filter, Verb


@dataclass(slots=True)
class Accept:
    """Store a new entry; `body` is what follows its header block, None when the message lies in a file. `told` are parameters
    of changes.TOLD. -> None"""

    entry: Entry
    row: tuple[Any, ...]
    recipients: list[tuple[Any, ...]]
    body: bytes | None
    told: list[tuple[int, str, bool]]


@dataclass(slots=True)
class Claim:
    """-> list[Entry]"""

    now: float
    limit: int
    until: float


@dataclass(slots=True)
class Begin:
    """`rows` are (address, entry, provider, route, started). -> the attempt's number"""

    rows: list[tuple[str, int, str, str, float]]


@dataclass(slots=True)
class Record:
    """`updates` are parameters of changes.RECORD, `steps` rows of table step. -> whether no recipient is open"""

    entry: int
    attempt: int
    updates: list[tuple[Any, ...]]
    steps: list[tuple[Any, ...]]


@dataclass(slots=True)
class Spend:
    """`rows` are (budget, slot, amount). -> None"""

    rows: Sequence[tuple[str, float, int]]


@dataclass(slots=True)
class ForgetSpent:
    """-> None"""

    before: Mapping[str, float]


@dataclass(slots=True)
class Keep:
    """The value "" removes the key. -> None"""

    key: str
    value: str


@dataclass(slots=True)
class Finish:
    """-> bool: whether this ended the entry"""

    entry: int
    now: float
    keep_body: bool


@dataclass(slots=True)
class Reschedule:
    """Renew, postpone, wait or tell: `sql` with one tuple of parameters for each recipient. -> None"""

    sql: str
    rows: list[tuple[Any, ...]]
    entry: int


@dataclass(slots=True)
class Alter:
    """Change one chunk of the recipients a filter means: about `limit` of them, never a part of an entry, found among the next
    `window` entries after `after`. -> Chunk"""

    verb: Verb
    what: Filter
    now: float
    after: int
    limit: int
    window: int
    via: Sequence[str] = ()
    even_if_maybe_sent: bool = False
    said: tuple[str, str, str, str, str] = ("", "", "", "", "")  # verdict, status, reply, remote, remote_id


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of which entries, and the entry to go on after (None: there is nothing after this)."""

    changed: Sequence[Changed]
    next: int | None


@dataclass(slots=True)
class Wake:
    """About `limit` recipients, never a part of an entry. -> how many were made due; fewer than `limit`: none is left"""

    key: str | None
    now: float
    limit: int
    newest: bool = False


@dataclass(slots=True)
class LineUp:
    """About `limit` recipients that wait for keys from `low` to `high`, all of them of `provider`. -> how many were lined up; fewer
    than `limit`: none is left"""

    provider: str
    low: str
    high: str
    limit: int


@dataclass(slots=True)
class SetAside:
    """-> None"""

    entry: int
    why: str
    now: float


@dataclass(slots=True)
class Purge:
    """One chunk of entries with ids lower than `below`. -> (entries forgotten, bodies forgotten)"""

    finished_before: float
    bodies_before: float
    limit: int
    below: int


@dataclass(slots=True)
class Shrink:
    """Give free pages back to the file system while more than `spare` of them lie idle. -> how many were"""

    spare: int
    limit: int


@dataclass(slots=True)
class Reserve:
    """Move the mark below which queue ids may be given out. -> None"""

    mark: int


@dataclass(slots=True)
class Trial:
    """A real write, to see whether the disk takes one. -> None"""


Operation = (Accept | Begin | Spend | Record | Finish | Reschedule | Alter | Wake | SetAside | Purge | Shrink | Reserve) | (
    LineUp | Trial | Keep | ForgetSpent | Claim
)
