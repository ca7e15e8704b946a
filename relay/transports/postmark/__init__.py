"""Postmark by its REST API: one request for each message, or for each recipient that no header shows.

`payload` builds the requests (request.py) and `read` judges the answer (reply.py); both are pure. `Postmark` only puts
them on the wire. Postmark has no idempotency key; our queue id goes along as metadata `relay-id`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import replace

from relay import verdicts
from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Outcomes, Preview
from relay.transports.http import Http, HttpTrouble
from relay.transports.postmark.reply import nobody_named, read
from relay.transports.postmark.request import Payload, PostmarkSettings, payload

_IN_THREAD = 256 * 1024  # octets; a message above this is taken apart beside the event loop
_TOKEN = "X-Postmark-Server-Token"
_APART = 1000  # messages remembered; one that is forgotten, or a restart, costs a further request


class Postmark:
    """A Postmark account spoken to by its API."""

    max_batch = 1
    carries_reports = False

    def __init__(self, settings: PostmarkSettings, http: Http) -> None:
        self._settings = settings
        self._http = http
        self._apart: dict[str, None] = {}  # in order
        self._headers = {
            _TOKEN: settings.token,
            "Accept": "application/json",
            "Content-Type": "application/json",
        }

    @property
    def provider(self) -> str:
        """The provider's configured name."""
        return self._settings.provider

    @property
    def concurrency(self) -> int:
        """How many requests may be under way at once."""
        return self._settings.concurrency

    async def prepare(self, job: Job) -> Sequence[Job]:
        """One job for each request. A large message is taken apart in a thread."""
        message = await job.message.read()
        build = functools.partial(
            payload,
            message,
            block=job.message.header,
            queue_id=job.queue_id,
            recipients=[recipient.address for recipient in job.recipients],
            changes=job.edits,
            settings=self._settings,
            listener=job.listener,
            apart=job.queue_id in self._apart,
        )
        requests = await asyncio.to_thread(build) if len(message) > _IN_THREAD else build()
        known = {recipient.address: recipient for recipient in job.recipients}
        return [
            replace(job, recipients=tuple(known[address] for address in request.addressed.recipients), plan=request) for request in requests
        ]

    async def preview(self, job: Job) -> Sequence[Preview]:
        """The requests for the job. A recipient that Postmark does not take is in none of them, which counts as a hard loss."""
        requests = [one.plan for one in await self.prepare(job) if isinstance(one.plan, Payload)]
        unsent = tuple(
            Loss("hard", f"{recipient} gets nothing: {request.refusal}")
            for request in requests
            for recipient in request.addressed.recipients
            if request.refusal
        )
        return [
            Preview(
                method="POST",
                url=self._settings.base_url.rstrip("/") + request.path,
                headers={**self._headers, _TOKEN: "[secret]"},
                body=request.body(),
                reverse_path=job.envelope.reverse_path,
                recipients=request.addressed.recipients,
                losses=request.losses + unsent,
                login=("-H", f"{_TOKEN}: $POSTMARK_TOKEN"),
            )
            for request in requests
            if not request.refusal
        ]

    def identity(self, job: Job) -> Sequence[str]:
        """The sender's domain, the message stream and the template."""
        assert isinstance(job.plan, Payload)
        return job.plan.identities

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """One request for each job."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job in jobs:
            assert isinstance(job.plan, Payload)
            found = _unsent(job.plan) if job.plan.refusal else await self._post(job.plan)
            if len(found) > 1 and nobody_named(found):
                self._keep_apart(job.queue_id)
            outcomes |= {(job.queue_id, recipient): outcome for recipient, outcome in found.items()}
        return outcomes

    def _keep_apart(self, queue_id: str) -> None:
        """From now on a request for each recipient: one of them is refused, and nobody says which."""
        self._apart[queue_id] = None
        if len(self._apart) > _APART:
            del self._apart[next(iter(self._apart))]

    async def _post(self, request: Payload) -> dict[str, Outcome]:
        try:
            answer = await self._http.post(request.path, self._headers, request.body())
        except HttpTrouble as trouble:
            verdict = verdicts.http_lost(trouble.stage)
            mend = f"check the network and base_url ({self._settings.base_url})" if verdict is Verdict.PAUSE else ""
            outcome = Outcome(verdict, verdicts.status(verdict), trouble.text, trouble.remote, own=True, mend=mend)
            return dict.fromkeys(request.addressed.recipients, outcome)
        token = self._settings.token.encode()
        answer = replace(answer, body=answer.body.replace(token, b"[token]"))  # whoever answers might quote what it was sent
        return read(answer, request, token_length=len(token))

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()


def _unsent(request: Payload) -> dict[str, Outcome]:
    outcome = Outcome(Verdict.PERM_MSG, "5.1.3", request.refusal, "relay", own=True)
    return dict.fromkeys(request.addressed.recipients, outcome)


__all__ = ["Payload", "Postmark", "PostmarkSettings", "payload", "read"]
