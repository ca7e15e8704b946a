"""What the admin calls are told by the daemon, what they read from, and how they refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.log import Subscription
from relay.model import Entry
from relay.model import Message as StoredMessage
from relay.spool.base import Counts, Filter, Step


class ProviderView(Protocol):
    """What is shown of a configured provider. Times are Unix seconds, 0 for none."""

    @property
    def name(self) -> str:
        """The configured name."""

    @property
    def state(self) -> str:
        """up, paused, partly (paused for one identity) or throttled."""

    @property
    def reason(self) -> str:
        """Why it is not up."""

    @property
    def mend(self) -> str:
        """What an admin can do about that; "" where there is nothing to do."""

    @property
    def since(self) -> float:
        """When that began."""

    @property
    def until(self) -> float:
        """When it is tried again."""

    @property
    def waiting(self) -> int:
        """Recipients that wait for it."""

    @property
    def active(self) -> int:
        """Attempts under way."""


class Reader(Protocol):
    """The part of a spool that only looks: enough to answer every GET."""

    async def entry(self, queue_id: str) -> Entry | None:
        """See relay.spool.base.Spool; so for all of these."""

    async def message(self, queue_id: str) -> StoredMessage: ...

    async def find(self, what: Filter, limit: int, after: str = "") -> Sequence[Entry]: ...

    async def resolve(self, prefix: str) -> Sequence[str]: ...

    async def search(self, term: str, limit: int) -> Sequence[str]: ...

    async def history(self, queue_id: str) -> Sequence[Step]: ...

    async def counts(self) -> Counts: ...

    async def corrupt(self) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True)
class Context:
    """What the API tells beside the spool's contents. The callables are asked at each request.

    `refusing` says why no mail is accepted, "" while it is. `test_sender` gives the reverse-path of test messages. `reload`
    reads the configuration again and returns every mistake (as ConfigError.problems), nothing when it is in force; then
    `reloaded` says what it changed. `tail` begins to follow the log.
    """

    version: str
    hostname: str
    spool_path: str
    clock: Callable[[], float]
    refusing: Callable[[], str]
    providers: Callable[[], Awaitable[Sequence[ProviderView]]]
    listeners: Callable[[], Sequence[tuple[str, str]]] = tuple
    hurry: Callable[[], None] = lambda: None  # probe paused providers at once
    test_sender: Callable[[], str] = lambda: ""
    pid: int = 0
    started: float = 0.0
    reload: Callable[[], Awaitable[Sequence[str]]] | None = None
    reloaded: Callable[[], str] = lambda: ""
    tail: Callable[[], Subscription] | None = None


class Problem(Exception):
    """A request that cannot be answered as wished: the HTTP status and one sentence for the admin. `problems` holds the
    mistakes of a configuration, each with its place."""

    def __init__(self, status: int, text: str, problems: Sequence[str] = ()) -> None:
        self.status = status
        self.problems = tuple(problems)
        super().__init__(text)
