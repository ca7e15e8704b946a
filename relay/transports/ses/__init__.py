"""Amazon SES by its API v2: one request for up to 50 recipients, the message as it is stored.

`payload` builds the requests (request.py), `sign` proves who asks (sigv4.py) and `read` judges the answer (reply.py); all
three are pure. `Ses` only puts them on the wire. SES has no idempotency key; our queue id goes along as message tag
`relay-id`. A request that is refused for the time of its signature is signed once more by the remote's clock.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from relay import verdicts
from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Outcomes, Preview
from relay.transports.http import Answer, Http, HttpTrouble
from relay.transports.ses.credentials import NoKeys, credentials
from relay.transports.ses.reply import Asker, keys_refused, nobody_named, read, skewed
from relay.transports.ses.request import PATH, Payload, SesSettings, payload
from relay.transports.ses.sigv4 import Keys, sign

_IN_THREAD = 256 * 1024  # octets; a message above this is encoded beside the event loop

_APART = 1000  # messages remembered; one that is forgotten, or a restart, costs a further request
_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}
_LOGIN = "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"


class Ses:
    """An Amazon SES account in one region, spoken to by its API. `clock` gives Unix seconds.

    Raises ConfigError where its keys are to come from elsewhere and what that needs is not installed.
    """

    max_batch = 1
    carries_reports = True

    def __init__(self, settings: SesSettings, http: Http, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._credentials = credentials(settings)
        self._apart: dict[str, None] = {}  # in order
        self._behind = 0.0  # seconds that our clock is behind the remote's, as far as that was told

    @property
    def provider(self) -> str:
        """The provider's configured name."""
        return self._settings.provider

    @property
    def concurrency(self) -> int:
        """How many requests may be under way at once."""
        return self._settings.concurrency

    async def prepare(self, job: Job) -> Sequence[Job]:
        """One job for each request. A large message is encoded in a thread."""
        known = {recipient.address: recipient for recipient in job.recipients}
        return [
            replace(job, recipients=tuple(known[one] for one in request.recipients), plan=request) for request in await self._build(job)
        ]

    async def preview(self, job: Job) -> Sequence[Preview]:
        """The requests for the job. A recipient that SES does not take is in none of them, which counts as a hard loss."""
        requests = await self._build(job)
        unsent = tuple(
            Loss("hard", f"{recipient} gets nothing: {request.refusal}")
            for request in requests
            if request.refusal
            for recipient in request.recipients
        )
        token = (
            () if self._settings.access_key_id and not self._settings.session_token else ("-H", "X-Amz-Security-Token: $AWS_SESSION_TOKEN")
        )
        return [
            Preview(
                method="POST",
                url=self._settings.url.rstrip("/") + PATH,
                headers={**_HEADERS, "Authorization": "[secret]"},
                body=request.body(),
                reverse_path=job.envelope.reverse_path,
                recipients=request.recipients,
                losses=(*request.losses, *unsent),
                login=("--aws-sigv4", f"aws:amz:{self._settings.region}:ses", "--user", _LOGIN, *token),
            )
            for request in requests
            if not request.refusal
        ]

    def identity(self, job: Job) -> Sequence[str]:
        """The senders' domains, the configuration set, the contact list and the tenant."""
        assert isinstance(job.plan, Payload)
        return job.plan.identities

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """One request for each job."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job in jobs:
            assert isinstance(job.plan, Payload)
            found = _unsent(job.plan) if job.plan.refusal else await self._send(job.plan)
            if len(found) > 1 and nobody_named(found):
                self._keep_apart(job.queue_id)
            outcomes |= {(job.queue_id, recipient): outcome for recipient, outcome in found.items()}
        return outcomes

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    async def _build(self, job: Job) -> Sequence[Payload]:
        message = await job.message.read()
        build = functools.partial(
            payload,
            message,
            block=job.message.header,
            facts=job.message.facts,
            queue_id=job.queue_id,
            recipients=[recipient.address for recipient in job.recipients],
            changes=job.edits,
            settings=self._settings,
            listener=job.listener,
            apart=job.queue_id in self._apart,
        )
        return await asyncio.to_thread(build) if len(message) > _IN_THREAD else build()

    def _keep_apart(self, queue_id: str) -> None:
        """From now on a request for each recipient: one of them is refused, and nobody says which."""
        self._apart[queue_id] = None
        if len(self._apart) > _APART:
            del self._apart[next(iter(self._apart))]

    async def _send(self, request: Payload) -> dict[str, Outcome]:
        try:
            keys = await self._credentials.keys()
            behind, answer = await self._post(request, keys)
        except NoKeys as error:
            return _ours(request, Verdict.PAUSE, "4.7.8", error.text, "relay", error.mend)
        except HttpTrouble as trouble:
            verdict = verdicts.http_lost(trouble.stage)
            return _ours(request, verdict, verdicts.status(verdict), trouble.text, trouble.remote, self._mend(verdict))
        asker = Asker(self._settings.region, keys, self._credentials.source, behind)
        outcomes = read(answer, request, asker)
        if keys_refused(outcomes):
            self._credentials.forget()
        return outcomes

    async def _post(self, request: Payload, keys: Keys) -> tuple[float | None, Answer]:
        """The answer, and how far our clock is behind where the request was refused for the time of its signature. Such a
        request was not taken, and goes out once more by the remote's clock if that makes a difference."""
        used = self._behind
        answer = await self._signed(request, keys, used)
        if not skewed(answer) or (date := answer.date()) is None:
            return None, answer
        behind = round(date - self._clock())
        if behind == round(used):
            return behind, answer
        self._behind = behind
        return behind, await self._signed(request, keys, behind)

    async def _signed(self, request: Payload, keys: Keys, behind: float) -> Answer:
        host, path = self._http.target(PATH)
        now = self._clock() + behind
        headers = sign("POST", host, path, _HEADERS, request.digest, keys=keys, region=self._settings.region, now=now)
        return await self._http.post(PATH, headers, request.parts)

    def _mend(self, verdict: Verdict) -> str:
        if verdict is not Verdict.PAUSE:
            return ""
        if self._settings.base_url:
            return f"check the network and base_url ({self._settings.base_url})"
        return f"check the network, and region ({self._settings.region}): its endpoint would be {self._settings.url}"


def _unsent(request: Payload) -> dict[str, Outcome]:
    return _ours(request, Verdict.PERM_MSG, "5.1.3", request.refusal, "relay", "")


def _ours(request: Payload, verdict: Verdict, status: str, text: str, remote: str, mend: str) -> dict[str, Outcome]:
    """A finding of our own, for every recipient."""
    return dict.fromkeys(request.recipients, Outcome(verdict, status, text, remote, own=True, mend=mend))


__all__ = ["Payload", "Ses", "SesSettings", "payload", "read"]
