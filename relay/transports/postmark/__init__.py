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
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Outcomes
from relay.transports.http import Http, HttpTrouble
from relay.transports.postmark.reply import read
from relay.transports.postmark.request import Payload, PostmarkSettings, payload

_IN_THREAD = 256 * 1024  # octets; a message above this is taken apart beside the event loop


class Postmark:
    """A Postmark account spoken to by its API."""

    max_batch = 1
    carries_reports = False

    def __init__(self, settings: PostmarkSettings, http: Http) -> None:
        self._settings = settings
        self._http = http
        self._headers = {
            "X-Postmark-Server-Token": settings.token,
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
            queue_id=job.queue_id,
            recipients=[recipient.address for recipient in job.recipients],
            changes=job.edits,
            settings=self._settings,
            listener=job.listener,
        )
        requests = await asyncio.to_thread(build) if len(message) > _IN_THREAD else build()
        known = {recipient.address: recipient for recipient in job.recipients}
        return [
            replace(job, recipients=tuple(known[address] for address in request.addressed.recipients), plan=request) for request in requests
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
            found = await self._post(job.plan)
            outcomes |= {(job.queue_id, recipient): outcome for recipient, outcome in found.items()}
        return outcomes

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


__all__ = ["Payload", "Postmark", "PostmarkSettings", "payload", "read"]
