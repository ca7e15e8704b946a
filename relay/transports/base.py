"""The contract of a transport: how a configured provider is spoken to.

A transport carries jobs to one provider and says what became of each recipient. It never raises for anything the
remote did: refusals, time-outs, cut connections and garbage are Outcomes. An exception that escapes is our bug;
`delivery` then defers the recipients and logs the traceback. SpoolError (CorruptEntry too) may escape `prepare` and
`attempt` when a stored message cannot be read: nothing was handed over then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relay.budgets import Quota
from relay.fidelity import Loss
from relay.model import Job, Outcome

Outcomes = Mapping[tuple[str, str], Outcome]
"""(queue id, recipient address) -> outcome; exactly one for each recipient of each job."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One request or transaction as it would leave, with `[secret]` in place of every secret.

    `method` is POST, SMTP or CAPTURE. `body` is the request's octets (JSON), or the edited message. `login` are the options
    of curl that log in, with shell variables in place of secrets: `("-H", "X-Postmark-Server-Token: $POSTMARK_TOKEN")`. `why` is
    not empty where the provider's first choice (its API, or a message taken apart) cannot carry it: what speaks against that.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    reverse_path: str
    recipients: tuple[str, ...]
    losses: tuple[Loss, ...] = ()
    login: tuple[str, ...] = ()
    why: str = ""


class Batching(NamedTuple):
    """How a transport puts several jobs into one request: at most `jobs` of them and `octets` together. Nobody waits longer than
    `wait` seconds for others. `jobs` is 1 where each has a request of its own."""

    jobs: int = 1
    octets: int = 0
    wait: float = 0.0


ALONE = Batching()


class Share(NamedTuple):
    """What a prepared job takes of a batch: jobs of one `kind` may go together; `octets` is its part of the request."""

    kind: str
    octets: int


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a probe looked at: `ok` is None where it could not be told. `text` is what was found, in one line without
    secrets; `mend` one sentence for the admin where it is not as it should be."""

    what: str
    ok: bool | None
    text: str
    mend: str = ""


LATER = "try again later"
"""What a mend begins with where nothing could be told now, and only asking again helps."""


def unanswered(what: str, said: str, status: int, url: str, *, own: bool) -> Check:
    """The check of a question that was answered with something else: by HTTP status and whether it is an answer of the provider's
    `own`. What passes by itself tells nothing; a page of another server in the provider's place fails."""
    if status in (408, 429) or status >= 500:
        trouble = "it asks to be asked less often" if status == 429 else "the provider, or what stands before it, has trouble now"
        return Check(what, None, said, f"{LATER}: {trouble}")
    if own:
        return Check(what, None, said)
    return Check(what, False, said, f"this is no answer of the API: check base_url ({url}), and what stands in between")


class Transport(Protocol):
    """One configured provider, spoken to in one way."""

    @property
    def provider(self) -> str:
        """The provider's configured name."""

    @property
    def batching(self) -> Batching:
        """How many jobs one `attempt` may take; ALONE for most."""

    @property
    def concurrency(self) -> int:
        """How many attempts may be under way at once."""

    @property
    def carries_reports(self) -> bool:
        """Whether multipart/report leaves as it is; if not, our bounces are built as plain text."""

    @property
    def quota_unread(self) -> str:
        """Why the last `quota` was None although the account can be asked, in one line without secrets; else empty."""

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

    def share(self, job: Job) -> Share | None:
        """What a prepared job takes of a batch; None where it goes alone. Jobs of one kind may be attempted together."""

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """Hand over prepared jobs, several only within `batching` and of one kind; returns exactly one outcome for each recipient
        of each job."""

    async def probe(self) -> Sequence[Check]:
        """Ask the provider whether it could be used now: connection, certificate, login, account. Sends no mail; never raises for
        what the remote did."""

    async def quota(self) -> Quota | None:
        """What the account allows, counted in recipients; None where it cannot be asked, or did not say (`quota_unread`). Sends no
        mail; never raises for what the remote did."""

    async def aclose(self) -> None:
        """Close idle connections. Attempts under way have ended before this is called."""
