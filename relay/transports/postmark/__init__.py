"""Postmark by its REST API: one request for each message, or for each recipient that no header shows.

`payload` builds the requests (request.py) and `read` judges the answer (reply.py); both are pure. `Postmark` only puts
them on the wire, by what all REST providers share (transports/rest.py). Postmark has no idempotency key; our queue id goes
along as metadata `relay-id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from relay.model import Job, Outcome
from relay.transports.http import Http
from relay.transports.postmark.reply import read
from relay.transports.postmark.request import Payload, PostmarkSettings, payload
from relay.transports.rest import Rest, Shown

_TOKEN = "X-Postmark-Server-Token"


class Postmark(Rest[Payload]):
    """A Postmark account spoken to by its API."""

    carries_reports = False

    def __init__(self, settings: PostmarkSettings, http: Http) -> None:
        super().__init__(settings, http, unreachable=f"check the network and base_url ({settings.base_url})")
        self._settings = settings
        self._headers = {
            _TOKEN: settings.token,
            "Accept": "application/json",
            "Content-Type": "application/json",
        }

    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[Payload]:
        """By `payload`."""
        return payload(
            message,
            block=job.message.header,
            queue_id=job.queue_id,
            recipients=[recipient.address for recipient in job.recipients],
            changes=job.edits,
            settings=self._settings,
            listener=job.listener,
            apart=apart,
        )

    async def send(self, request: Payload) -> Mapping[str, Outcome]:
        """Judged by `read`."""
        answer = await self._http.post(request.path, self._headers, request.body())
        token = self._settings.token.encode()
        answer = replace(answer, body=answer.body.replace(token, b"[token]"))  # whoever answers might quote what it was sent
        return read(answer, request, token_length=len(token))

    def show(self, request: Payload) -> Shown:
        """The server token is the only secret."""
        url = self._settings.base_url.rstrip("/") + request.path
        return Shown(url, {**self._headers, _TOKEN: "[secret]"}, ("-H", f"{_TOKEN}: $POSTMARK_TOKEN"))


__all__ = ["Payload", "Postmark", "PostmarkSettings", "payload", "read"]
