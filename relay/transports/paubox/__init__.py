"""Paubox by its REST API: one request for each message, for several where batches are configured, or for each recipient that no
header shows.

`payload` builds the requests (request.py) and `read` judges the answer (reply.py); both are pure. `Paubox` only puts them on
the wire, by what all REST providers share (transports/rest.py). Paubox has no idempotency key; our queue id goes along as the field
`X-Relay-Id`, which comes back in replies and webhooks and which recipients can see.

Mail by Paubox may be about patients: what a message says stands in no outcome, and so in no log line (reply.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from relay.model import Job, Outcome
from relay.transports.base import Check
from relay.transports.http import Answer, Http
from relay.transports.paubox.reply import login, read, read_together
from relay.transports.paubox.request import BULK, Letter, PauboxSettings, bulk, payload
from relay.transports.rest import Rest, Shown, everybody, outgoing

_SCHEMES = {"token": "Token token=", "bearer": "Bearer "}


class Paubox(Rest[Letter]):
    """A Paubox account spoken to by its API."""

    carries_reports = False

    def __init__(self, settings: PauboxSettings, http: Http) -> None:
        """`http` posts to `settings.url`."""
        super().__init__(settings, http, unreachable=f"check the network and base_url ({settings.url})")
        self._settings = settings
        self._key = "".join(settings.api_key.split())  # a pasted key may have white space around it, and line ends in it

    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[Letter]:
        """By `payload`."""
        return payload(message, settings=self._settings, everybody=everybody(job), notice=job.bounce, **outgoing(job, apart=apart))

    async def send(self, request: Letter) -> Mapping[str, Outcome]:
        """Judged by `read`."""
        answer = await self._http.post(request.path, self._headers(self._key), request.body())
        return read(self._without_key(answer), request, key_length=len(self._key))

    async def send_together(self, requests: Sequence[Letter]) -> Sequence[Mapping[str, Outcome]] | None:
        """Judged by `read_together`."""
        answer = await self._http.post(BULK, self._headers(self._key), bulk(requests))
        return read_together(self._without_key(answer), requests, key_length=len(self._key))

    def prefers(self, job: Job) -> str:
        """As the request has it."""
        return self._request(job).by_smtp

    async def look(self) -> Sequence[Check]:
        """Whether the key is accepted: asked for the receipt of a message that nobody sent. Where it is not, the other way to say
        it is tried, because Paubox's own pages disagree which is the right one."""
        path = f"/message_receipt?sourceTrackingId={uuid.uuid4()}"
        scheme = self._settings.auth_scheme
        found = await self._login(path)
        if found.ok is False:
            other: Literal["token", "bearer"] = "bearer" if scheme == "token" else "token"
            second = await self._login(path, other)
            if second.ok:
                found = replace(found, text=f"{found.text}; as {other} it is accepted", mend=f"set auth_scheme: {other}")
        return [found]

    async def _login(self, path: str, scheme: str = "") -> Check:
        answer = await self._http.get(path, self._headers(self._key, scheme))
        return login(answer, key_length=len(self._key), url=self._settings.url)

    def show(self, request: Letter) -> Shown:
        """The API key is the only secret."""
        scheme = _SCHEMES[self._settings.auth_scheme]
        return Shown(self._settings.url + request.path, self._headers("[secret]"), ("-H", f"Authorization: {scheme}$PAUBOX_API_KEY"))

    def _headers(self, key: str, scheme: str = "") -> dict[str, str]:
        return {
            "Authorization": _SCHEMES[scheme or self._settings.auth_scheme] + key,
            "Accept": "application/json",
            "Content-Type": "application/json",
        }

    def _without_key(self, answer: Answer) -> Answer:
        """Whoever answers might quote what it was sent."""
        key = self._key
        headers = {name: value.replace(key, "[key]") for name, value in answer.headers.items()} if key else answer.headers
        return replace(answer, body=answer.body.replace(key.encode(), b"[key]") if key else answer.body, headers=headers)


__all__ = ["Letter", "Paubox", "PauboxSettings", "bulk", "payload", "read", "read_together"]
