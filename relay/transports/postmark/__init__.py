"""Postmark by its REST API: one request for each message, or for each recipient that no header shows; several in a batch.

`payload` builds the requests (request.py), `read` and `read_together` judge the answers (reply.py), and account.py says what a
token is good for; all are pure. `Postmark` only puts them on the wire, by what all REST providers share (transports/rest.py).
Postmark has no idempotency key; our queue id goes along as metadata `relay-id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from relay.model import Job, Outcome
from relay.transports.base import Check
from relay.transports.http import Answer, Http
from relay.transports.postmark import account
from relay.transports.postmark.reply import read, read_together
from relay.transports.postmark.request import PostmarkSettings, payload, together
from relay.transports.rebuilding import Payload, small_json
from relay.transports.rest import Rest, Shown, everybody, outgoing

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
        return payload(message, settings=self._settings, everybody=everybody(job), **outgoing(job, apart=apart))

    async def send(self, request: Payload) -> Mapping[str, Outcome]:
        """Judged by `read`."""
        answer = self._without_token(await self._http.post(request.path, self._headers, request.body()))
        return read(answer, request, token_length=len(self._settings.token))

    async def send_together(self, requests: Sequence[Payload]) -> Sequence[Mapping[str, Outcome]] | None:
        """To the path for several, with templates or without. Judged by `read_together`."""
        path, body = together(requests)
        answer = self._without_token(await self._http.post(path, self._headers, body))
        return read_together(answer, requests, token_length=len(self._settings.token))

    def prefers(self, job: Job) -> str:
        """As the request has it."""
        return self._request(job).by_smtp

    async def look(self) -> Sequence[Check]:
        """The server that the token belongs to, and the stream of the settings. Judged by account.py."""
        checks = account.server(await self._ask("/server"), self._settings)
        if checks[0].ok:
            stream = quote(self._settings.stream, safe="")
            checks.append(account.stream(await self._ask(f"/message-streams/{stream}"), self._settings))
        return checks

    async def _ask(self, path: str) -> Answer:
        return self._without_token(await self._http.get(path, self._headers))

    def _without_token(self, answer: Answer) -> Answer:
        """Whoever answers might quote what it was sent, as it is or as JSON has it."""
        body = answer.body
        for form in (small_json(self._settings.token)[1:-1], self._settings.token.encode()):
            body = body.replace(form, b"[token]")
        return replace(answer, body=body)

    def show(self, request: Payload) -> Shown:
        """The server token is the only secret."""
        url = self._settings.base_url.rstrip("/") + request.path
        return Shown(url, {**self._headers, _TOKEN: "[secret]"}, ("-H", f"{_TOKEN}: $POSTMARK_TOKEN"))


__all__ = ["Payload", "Postmark", "PostmarkSettings", "payload", "read", "read_together"]
