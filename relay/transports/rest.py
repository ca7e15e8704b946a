"""What the transports that speak a REST API have in common: everything but the requests and the replies themselves.

A provider subclasses `Rest` and writes: `build` (a message as requests; pure), `send` (one request to the wire, its answer
judged), `show` (the same request for a preview, without secrets), `look` (a question that sends no mail), and where it takes
several messages in one request `send_together`. `Rest` does the rest of the contract in base.py: a large message is built
beside the event loop, each request becomes a job, a refused recipient is never sent and shows as a hard loss, and no answer
is an outcome by how far the request came (verdicts.http_lost). `send`, `send_together`, `look` and
`allowed` may raise HttpTrouble, and nothing else for what the network or remote did.

A batch that is refused as a whole for what stands in it is halved until the message that is to blame stands alone: one bad
message among 500 costs about 18 requests more, and every other one is relayed.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Generic, NamedTuple, Protocol, TypedDict, TypeVar, cast

from relay import verdicts
from relay.budgets import Quota
from relay.fidelity import Loss
from relay.model import Edit, Job, Outcome, Scope, Verdict
from relay.transports.base import Batching, Check, Outcomes, Preview, Share
from relay.transports.bodies import Body
from relay.transports.http import Http, HttpTrouble

_APART = 1000  # messages remembered to be sent apart; one that is forgotten, or a restart, costs a further request
_IN_THREAD = 64 * 1024  # octets; a message above this is built beside the event loop, which it would hold up for 7 ms and more


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

    @property
    def kind(self) -> str:
        """Requests of one kind may go in one batch; "" goes alone."""

    def body(self) -> Body:
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

    @property
    def batching(self) -> Batching:
        """How many messages a request may carry."""


def unreachable(trouble: HttpTrouble, otherwise: str) -> str:
    """What to do where there was no connection: a refused certificate is no fault of the network. `otherwise` is the mend of the rest.

    By the words of OpenSSL 3.0 to 3.5 (X509_verify_cert_error_string)."""
    host, said = trouble.remote.partition("[")[0], trouble.text
    if "certificate not accepted" not in said:
        return otherwise
    if "mismatch" in said:
        return f"the certificate is another host's than {host}: check base_url, and whether a proxy stands in between"
    if "expired" in said or "not yet valid" in said:
        return f"the certificate of {host} is not valid at this time: check this host's clock (timedatectl); else it is theirs to renew"
    return (
        f"the certificate of {host} is not of an authority that this system trusts: where a proxy stands in between, put its authority "
        "into the system's certificates (update-ca-certificates) and restart relay; ca_file is for SMTP only"
    )


R = TypeVar("R", bound=Request)


class Outgoing(TypedDict):
    """What a provider's payload function is told of a job beside the message itself."""

    block: bytes
    queue_id: str
    recipients: Sequence[str]
    changes: Sequence[Edit]
    listener: str
    apart: bool


def outgoing(job: Job, *, apart: bool) -> Outgoing:
    """The job as arguments of a payload function; with `apart` each recipient has a request of his own."""
    return Outgoing(
        block=job.message.header,
        queue_id=job.queue_id,
        recipients=[recipient.address for recipient in job.recipients],
        changes=job.edits,
        listener=job.listener,
        apart=apart,
    )


def everybody(job: Job) -> Sequence[str]:
    """All recipients of the envelope, those of other jobs too."""
    return [recipient.address for recipient in job.envelope.recipients]


class Rest(ABC, Generic[R]):
    """A Transport that makes requests `R`. `unreachable` is the mend where the provider cannot be reached."""

    carries_reports: bool
    quota_unread = ""

    def __init__(self, settings: Settings, http: Http, *, unreachable: str) -> None:
        self.provider = settings.provider
        self.concurrency = settings.concurrency
        self.batching = settings.batching
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

    async def send_together(self, requests: Sequence[R]) -> Sequence[Mapping[str, Outcome]] | None:
        """POST requests of one kind as one, and judge the answer: what `send` returns for each, in order; None where the whole was
        refused for what stands in it (400, 413, 422), so that nothing was taken. Raises HttpTrouble."""
        return None  # a provider without such requests: each goes by itself

    @abstractmethod
    async def look(self) -> Sequence[Check]:
        """Ask a question that only a valid login answers; sends no mail. Raises HttpTrouble."""

    async def allowed(self) -> Quota | str:
        """What the account allows, by a question that sends no mail; or in one line why it does not say ("" where nobody can ask).
        Raises HttpTrouble."""
        return ""

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

    def refuses(self, job: Job) -> str:
        """Why the API takes no such recipient as the prepared job's; "" where it does."""
        return self._request(job).refusal

    def prefers(self, job: Job) -> str:
        """Why the provider's SMTP door, where there is one, would carry the prepared job's message better; "" where it would not."""
        return ""

    def share(self, job: Job) -> Share | None:
        """What the job's request takes of a batch."""
        request = self._request(job)
        if self.batching.jobs == 1 or not request.kind or request.refusal:
            return None
        return Share(request.kind, request.body().size + 1)

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """One request for all jobs, or for the only one."""
        found = await self._carry([self._request(job) for job in jobs])
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job, answers in zip(jobs, found, strict=True):
            if len(answers) > 1 and {outcome.status for outcome in answers.values()} == {verdicts.OTHERS_REFUSED}:
                self._keep_apart(job.queue_id)
            outcomes |= {(job.queue_id, address): outcome for address, outcome in answers.items()}
        return outcomes

    async def probe(self) -> Sequence[Check]:
        """By `look`."""
        try:
            found = await self.look()
            peer = self._http.peer
            return [Check("connect", True if peer != self._http.remote else None, peer), *found]
        except HttpTrouble as trouble:
            return [Check("connect", False, trouble.text, unreachable(trouble, self._unreachable))]

    async def quota(self) -> Quota | None:
        """By `allowed`."""
        try:
            found = await self.allowed()
        except HttpTrouble as trouble:
            found = trouble.text
        self.quota_unread = found if isinstance(found, str) else ""
        return None if isinstance(found, str) else found

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    def _preview(self, job: Job, request: R, unsent: tuple[Loss, ...]) -> Preview:
        shown = self.show(request)
        return Preview(
            method="POST",
            url=shown.url,
            headers=shown.headers,
            body=request.body().whole(),
            reverse_path=job.envelope.reverse_path,
            recipients=request.recipients,
            losses=request.losses + unsent,
            login=shown.login,
        )

    async def _carry(self, requests: Sequence[R]) -> list[Mapping[str, Outcome]]:
        """The outcomes of each request, in order."""
        if len(requests) == 1:
            return [await self._carry_one(requests[0])]
        try:
            together = await self.send_together(requests)
        except HttpTrouble as trouble:
            return [self._lost(request, trouble) for request in requests]
        return list(together) if together is not None else await self._halved(requests)

    async def _halved(self, requests: Sequence[R]) -> list[Mapping[str, Outcome]]:
        """One half after the other; where the first met what stops every request, the second is not sent and shares its fate."""
        half = len(requests) // 2
        found = await self._carry(requests[:half])
        stop = next((one for answers in found for one in answers.values() if one.scope is Scope.PROVIDER), None)
        if stop:
            return [*found, *(dict.fromkeys(request.recipients, stop) for request in requests[half:])]
        return [*found, *await self._carry(requests[half:])]

    async def _carry_one(self, request: R) -> Mapping[str, Outcome]:
        if request.refusal:
            return dict.fromkeys(request.recipients, Outcome(Verdict.PERM_MSG, "5.1.3", request.refusal, "relay", own=True))
        try:
            return await self.send(request)
        except HttpTrouble as trouble:
            return self._lost(request, trouble)

    def _lost(self, request: R, trouble: HttpTrouble) -> Mapping[str, Outcome]:
        verdict = verdicts.http_lost(trouble.stage)
        mend = unreachable(trouble, self._unreachable) if verdict is Verdict.PAUSE else ""
        outcome = Outcome(verdict, verdicts.status(verdict), trouble.text, trouble.remote, own=True, mend=mend)
        return dict.fromkeys(request.recipients, outcome)

    def _keep_apart(self, queue_id: str) -> None:
        self._apart[queue_id] = None
        if len(self._apart) > _APART:
            del self._apart[next(iter(self._apart))]

    @staticmethod
    def _request(job: Job) -> R:
        return cast(R, job.plan)  # `prepare` put it there
