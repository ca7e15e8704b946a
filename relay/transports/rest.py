"""What the transports that speak a REST API have in common: everything but the requests and the replies themselves.

A provider subclasses `Rest` and writes three things: `build` (a message as requests; pure), `send` (one request to the wire,
its answer judged) and `show` (the same request for a preview, without secrets). `Rest` does the rest of the contract in
base.py: a large message is built beside the event loop, each request becomes a job, a refused recipient is never sent and
shows as a hard loss, and no answer is an outcome by how far the request came (verdicts.http_lost). `send` may raise
HttpTrouble, and nothing else for what the network or remote did.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

from relay import verdicts
from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Outcomes, Preview
from relay.transports.http import Http, HttpTrouble

_APART = 1000  # messages remembered to be sent apart; one that is forgotten, or a restart, costs a further request
_IN_THREAD = 256 * 1024  # octets; a message above this is built beside the event loop


class Request(Protocol):
    """One request of a provider's own making. One with a `refusal`, which says why the provider takes no such recipient, is
    never sent."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope addresses that it is for."""

    @property
    def identities(self) -> tuple[str, ...]:
        """What it uses of the account that may be misconfigured, in the form of Outcome.identity."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What of the message it cannot carry."""

    @property
    def refusal(self) -> str:
        """Empty for one that is sent."""

    def body(self) -> bytes:
        """Its JSON."""


class Shown(NamedTuple):
    """A request's URL, header fields and options of curl that log in, as in Preview: `[secret]` in place of every secret."""

    url: str
    headers: Mapping[str, str]
    login: tuple[str, ...]


class Settings(Protocol):
    """What every provider's settings have."""

    @property
    def provider(self) -> str:
        """The configured name."""

    @property
    def concurrency(self) -> int:
        """How many requests may be under way at once."""


R = TypeVar("R", bound=Request)


class Rest(ABC, Generic[R]):
    """A Transport that makes requests `R`. `unreachable` is the mend where the provider cannot be reached."""

    max_batch = 1
    carries_reports: bool

    def __init__(self, settings: Settings, http: Http, *, unreachable: str) -> None:
        self.provider = settings.provider
        self.concurrency = settings.concurrency
        self._http = http
        self._unreachable = unreachable
        self._apart: dict[str, None] = {}  # in order

    @abstractmethod
    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[R]:
        """The requests that carry the stored `message`; each recipient of the job is in exactly one, and with `apart` has one of
        his own. Pure: runs in a thread. Raises CannotCarry with every reason found."""

    @abstractmethod
    async def send(self, request: R) -> Mapping[str, Outcome]:
        """POST the request, and judge the answer: exactly one outcome for each address. Raises HttpTrouble.

        Those tried again because the request was refused for others have the status verdicts.OTHERS_REFUSED."""

    @abstractmethod
    def show(self, request: R) -> Shown:
        """What `send` would send beside the body."""

    async def prepare(self, job: Job) -> Sequence[Job]:
        """One job for each request. A large message is built in a thread."""
        message = await job.message.read()
        build = functools.partial(self.build, message, job, apart=job.queue_id in self._apart)
        requests = await asyncio.to_thread(build) if len(message) > _IN_THREAD else build()
        known = {recipient.address: recipient for recipient in job.recipients}
        return [replace(job, recipients=tuple(known[one] for one in request.recipients), plan=request) for request in requests]

    async def preview(self, job: Job) -> Sequence[Preview]:
        """The requests for the job. A recipient that the provider does not take is in none of them, which counts as a hard loss."""
        requests = [self._request(one) for one in await self.prepare(job)]
        unsent = tuple(
            Loss("hard", f"{address} gets nothing: {request.refusal}")
            for request in requests
            if request.refusal
            for address in request.recipients
        )
        return [self._preview(job, request, unsent) for request in requests if not request.refusal]

    def identity(self, job: Job) -> Sequence[str]:
        """What the job's request uses of the account that may be misconfigured."""
        return self._request(job).identities

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """One request for each job."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job in jobs:
            found = await self._carry(self._request(job))
            if len(found) > 1 and {outcome.status for outcome in found.values()} == {verdicts.OTHERS_REFUSED}:
                self._keep_apart(job.queue_id)
            outcomes |= {(job.queue_id, address): outcome for address, outcome in found.items()}
        return outcomes

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    def _preview(self, job: Job, request: R, unsent: tuple[Loss, ...]) -> Preview:
        shown = self.show(request)
        return Preview(
            method="POST",
            url=shown.url,
            headers=shown.headers,
            body=request.body(),
            reverse_path=job.envelope.reverse_path,
            recipients=request.recipients,
            losses=request.losses + unsent,
            login=shown.login,
        )

    async def _carry(self, request: R) -> Mapping[str, Outcome]:
        if request.refusal:
            return dict.fromkeys(request.recipients, Outcome(Verdict.PERM_MSG, "5.1.3", request.refusal, "relay", own=True))
        try:
            return await self.send(request)
        except HttpTrouble as trouble:
            verdict = verdicts.http_lost(trouble.stage)
            mend = self._unreachable if verdict is Verdict.PAUSE else ""
            outcome = Outcome(verdict, verdicts.status(verdict), trouble.text, trouble.remote, own=True, mend=mend)
            return dict.fromkeys(request.recipients, outcome)

    def _keep_apart(self, queue_id: str) -> None:
        self._apart[queue_id] = None
        if len(self._apart) > _APART:
            del self._apart[next(iter(self._apart))]

    @staticmethod
    def _request(job: Job) -> R:
        return cast(R, job.plan)  # `prepare` put it there
