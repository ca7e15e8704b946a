"""Mailtrap by its REST API: transactional, bulk and sandbox; one request for each message, several in a batch.

`payload` builds the requests (request.py), `read` and `read_together` judge the answers (reply.py); all are pure. `Mailtrap` only puts
them on the wire, by what all REST providers share (transports/rest.py). Each stream has its own host, a door. Mailtrap has no
idempotency key; our queue id goes along as custom variable `relay-id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from relay.model import Job, Outcome
from relay.transports.base import Check
from relay.transports.bodies import Body
from relay.transports.http import Answer, Http, HttpTrouble
from relay.transports.mailtrap.reply import Asker, after, greeted, read, read_together
from relay.transports.mailtrap.request import MailtrapSettings, payload, together
from relay.transports.rebuilding import Payload, small_json
from relay.transports.rest import Rest, Shown, everybody, outgoing, unreachable


class Mailtrap(Rest[Payload]):
    """A Mailtrap account spoken to by its API. `doors` has one for each stream of `settings.doors`; a sandbox has no other."""

    carries_reports = False

    def __init__(self, settings: MailtrapSettings, doors: Mapping[str, Http]) -> None:
        where = " and ".join(settings.urls)
        super().__init__(settings, doors[settings.stream], unreachable=f"check the network and base_url ({where})")
        self._settings = settings
        self._doors = {stream: doors[stream] for stream in settings.doors}
        self._headers = {
            "Authorization": f"Bearer {settings.token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        self._refused: frozenset[str] = frozenset()  # From domains that were answered 401

    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[Payload]:
        """By `payload`."""
        return payload(message, settings=self._settings, everybody=everybody(job), **outgoing(job, apart=apart))

    async def send(self, request: Payload) -> Mapping[str, Outcome]:
        """Judged by `read`."""
        answer = await self._post(request.uses["stream"], request.path, request.body())
        outcomes = read(answer, request, self._asker())
        self._refused = after(self._refused, [(request, outcomes)], self._settings.stream)
        return outcomes

    async def send_together(self, requests: Sequence[Payload]) -> Sequence[Mapping[str, Outcome]] | None:
        """To the path for several. Judged by `read_together`."""
        path, body = together(requests)
        answer = await self._post(requests[0].uses["stream"], path, body)
        found = read_together(answer, requests, self._asker())
        if found is not None:
            self._refused = after(self._refused, zip(requests, found, strict=True), self._settings.stream)
        return found

    def prefers(self, job: Job) -> str:
        """As the request has it."""
        return self._request(job).by_smtp

    async def look(self) -> Sequence[Check]:
        """What each stream that the configuration names says to an empty request, which is no mail. Judged by `greeted`."""
        first = self._settings.stream
        checks = [await self._greet(first)]
        for stream in self._doors.keys() - {first}:
            if stream in self._settings.streams.values():
                checks.append(await self._greet_further(stream))
        return checks

    async def _greet(self, stream: str) -> Check:
        answer = await self._post(stream, self._settings.path, Body((b"{}",)))
        return greeted(answer, stream, len(self._settings.token), self._settings.doors[stream])

    async def _greet_further(self, stream: str) -> Check:
        """One that cannot be reached says nothing against the first."""
        try:
            return await self._greet(stream)
        except HttpTrouble as trouble:
            return Check(f"connect, stream {stream}", False, trouble.text, unreachable(trouble, self._unreachable))

    def show(self, request: Payload) -> Shown:
        """The API token is the only secret."""
        url = self._settings.doors[request.uses["stream"]].rstrip("/") + request.path
        return Shown(url, {**self._headers, "Authorization": "Bearer [secret]"}, ("-H", "Authorization: Bearer $MAILTRAP_TOKEN"))

    async def aclose(self) -> None:
        """Close the idle connections of every door."""
        for door in self._doors.values():
            await door.aclose()

    async def _post(self, stream: str, path: str, body: Body) -> Answer:
        answer = await self._doors[stream].post(path, self._headers, body)
        text = answer.body
        for form in (small_json(self._settings.token)[1:-1], self._settings.token.encode()):  # whoever answers might quote it
            text = text.replace(form, b"[token]")
        return replace(answer, body=text)

    def _asker(self) -> Asker:
        return Asker(self._settings.stream, len(self._settings.token), self._refused)


__all__ = ["Mailtrap", "MailtrapSettings", "Payload", "payload", "read", "read_together", "together"]
