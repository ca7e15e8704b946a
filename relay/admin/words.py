"""What the admin calls are told by the daemon, what they read from, and how they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.budgets import Usage
from relay.log import Subscription
from relay.model import Entry
from relay.model import Message as StoredMessage
from relay.spool.base import Changed, Counts, Filter, Step


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

    @property
    def by_admin(self) -> bool:
        """Whether an admin paused it; then only an admin resumes it, and `reason` is what the admin said, or empty."""

    @property
    def suspect(self) -> str:
        """What one message met that a second one would pause the provider for; "" for nothing."""

    @property
    def usage(self) -> Sequence[Usage]:
        """How much of each of its budgets is spent."""


class RampView(Protocol):
    """What is shown of a route whose shares change by dates."""

    @property
    def route(self) -> str:
        """The route's name."""

    @property
    def shares(self) -> Mapping[str, float]:
        """What part of its mail each provider gets now, 0..1."""

    @property
    def until(self) -> float:
        """When the ramp ends, as things are: a step back delays it. Unix seconds."""

    @property
    def behind(self) -> float:
        """Seconds that it lags behind its dates."""

    @property
    def held_until(self) -> float:
        """Until when it rests after a step back. Unix seconds, 0 for never."""

    @property
    def why(self) -> str:
        """Why it last stepped back; "" where it did not."""


class ShadowView(Protocol):
    """What building a route's messages for a second provider has shown so far, in messages."""

    @property
    def route(self) -> str:
        """The route's name."""

    @property
    def provider(self) -> str:
        """The second provider."""

    @property
    def carried(self) -> int:
        """It would carry them as they are."""

    @property
    def lossy(self) -> int:
        """It would carry them, and lose something."""

    @property
    def refused(self) -> int:
        """It would not take them."""

    @property
    def failed(self) -> int:
        """Its sandbox was sent them and did not take them."""

    @property
    def example(self) -> str:
        """The last loss or refusal; "" where there was none."""


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
    `reloaded` says what it changed. `tail` begins to follow the log. `pause` (provider, why) and `resume` (provider) are for names
    that `providers` knows. `bounce` (which, why) gives up recipients and has their senders told; like Spool.each it yields after
    each chunk what was changed. `sandboxes` are the providers that deliver to nobody. Where `bounce`, `pause`, `resume`, `reload`
    or `tail` is None there is no daemon to do it.
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
    pause: Callable[[str, str], Awaitable[None]] | None = None
    resume: Callable[[str], Awaitable[None]] | None = None
    bounce: Callable[[Filter, str], AsyncIterator[Sequence[Changed]]] | None = None
    sandboxes: Callable[[], Collection[str]] = tuple
    ramps: Callable[[], Sequence[RampView]] = tuple
    shadows: Callable[[], Sequence[ShadowView]] = tuple


class Problem(Exception):
    """A request that cannot be answered as wished: the HTTP status and one sentence for the admin. `problems` holds the
    mistakes of a configuration, each with its place."""

    def __init__(self, status: int, text: str, problems: Sequence[str] = ()) -> None:
        self.status = status
        self.problems = tuple(problems)
        super().__init__(text)
