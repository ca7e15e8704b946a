"""The contract of a transport: how a configured provider is spoken to.

A transport carries jobs to one provider and says what became of each recipient. It never raises for anything the
remote did: refusals, time-outs, cut connections and garbage are Outcomes. An exception that escapes is our bug;
`delivery` then defers the recipients and logs the traceback. SpoolError (CorruptEntry too) may escape `prepare` and
`attempt` when a stored message cannot be read: nothing was handed over then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.fidelity import Loss
from relay.model import Job, Outcome

Outcomes = Mapping[tuple[str, str], Outcome]
"""(queue id, recipient address) -> outcome; exactly one for each recipient of each job."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One request or transaction as it would leave, with `[secret]` in place of every secret.

    `method` is POST, SMTP or CAPTURE. `body` is the request's octets (JSON), or the edited message. `login` are the options
    of curl that log in, with shell variables in place of secrets: `("-H", "X-Postmark-Server-Token: $POSTMARK_TOKEN")`.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    reverse_path: str
    recipients: tuple[str, ...]
    losses: tuple[Loss, ...] = ()
    login: tuple[str, ...] = ()


class Transport(Protocol):
    """One configured provider, spoken to in one way."""

    @property
    def provider(self) -> str:
        """The provider's configured name."""

    @property
    def max_batch(self) -> int:
        """How many jobs one `attempt` may take; 1 for most."""

    @property
    def concurrency(self) -> int:
        """How many attempts may be under way at once."""

    @property
    def carries_reports(self) -> bool:
        """Whether multipart/report leaves as it is; if not, our bounces are built as plain text."""

    async def prepare(self, job: Job) -> Sequence[Job]:
        """Decide whether this provider can carry the job, and split it into one job for each transaction or request.

        Sends nothing. The jobs returned hold each recipient of `job` exactly once.
        Raises CannotCarry with every reason found.
        """

    async def preview(self, job: Job) -> Sequence[Preview]:
        """What `prepare` and `attempt` would send for the job, without sending or connecting.

        Raises CannotCarry with every reason found. What only the remote can say (its extensions) is taken at its best.
        """

    def identity(self, job: Job) -> Sequence[str]:
        """The identities a prepared job would use (`domain=example.com`, `stream=outbound`), in the form of Outcome.identity."""

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """Hand over prepared jobs; returns exactly one outcome for each recipient of each job."""

    async def aclose(self) -> None:
        """Close idle connections. Attempts under way have ended before this is called."""
