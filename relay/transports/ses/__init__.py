"""Amazon SES by its API v2: one request for up to 50 recipients, the message as it is stored, or by a template.

`payload` builds the requests (request.py, and transports/sesv2/), `sign` proves who asks (sigv4.py) and `read` judges the
answer; all are pure. `Ses` only puts them on the wire, by what all REST providers share (transports/rest.py). SES has no
idempotency key; our queue id goes along as message tag `relay-id`. A request that is refused for the time of its signature
is signed once more by the remote's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from relay.budgets import Quota
from relay.fidelity import Loss
from relay.model import Job, Outcome, Verdict
from relay.transports.base import Check, Preview
from relay.transports.bodies import Body
from relay.transports.http import Answer, Http
from relay.transports.rest import Rest, Shown, outgoing
from relay.transports.ses.credentials import NoKeys, credentials
from relay.transports.ses.reply import asker, keys_refused, read, skewed
from relay.transports.ses.request import PATH, Payload, SesSettings, payload
from relay.transports.ses.sigv4 import Keys, sign
from relay.transports.sesv2 import account
from relay.transports.sesv2.reply import Asker

_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}
_NOTHING = sha256(b"").hexdigest()
_LOGIN = "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"


class Ses(Rest[Payload]):
    """An Amazon SES account in one region, spoken to by its API. `clock` gives Unix seconds.

    Raises ConfigError where its keys are to come from elsewhere and what that needs is not installed.
    """

    carries_reports = True

    def __init__(self, settings: SesSettings, http: Http, clock: Callable[[], float] = time.time) -> None:
        super().__init__(settings, http, unreachable=_unreachable(settings))
        self._settings = settings
        self._clock = clock
        self._credentials = credentials(settings)
        self._behind = 0.0  # seconds that our clock is behind the remote's, as far as that was told

    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[Payload]:
        """By `payload`."""
        return payload(message, facts=job.message.facts, settings=self._settings, **outgoing(job, apart=apart))

    async def send(self, request: Payload) -> Mapping[str, Outcome]:
        """Signed by `sign`, judged by `read`. Without keys nothing is sent, and the provider pauses."""
        try:
            keys = await self._credentials.keys()
        except NoKeys as error:
            return dict.fromkeys(request.recipients, Outcome(Verdict.PAUSE, "4.7.8", error.text, "relay", own=True, mend=error.mend))
        behind, answer = await self._ask("POST", PATH, request.digest, request.body(), keys)
        outcomes = read(answer, request, asker(self._settings.region, keys, self._credentials.source, behind))
        if keys_refused(outcomes):
            self._credentials.forget()
        return outcomes

    async def look(self) -> Sequence[Check]:
        """Keys, account and quota (GetAccount)."""
        try:
            keys = await self._credentials.keys()
        except NoKeys as error:
            return [Check("login", False, error.text, error.mend)]
        return account.checks(*await self._account(keys), self._settings.url)

    async def allowed(self) -> Quota | str:
        """The account's quota (GetAccount), which keys may be allowed to ask for, and need not."""
        try:
            keys = await self._credentials.keys()
        except NoKeys as error:
            return error.text
        return account.quota(*await self._account(keys))

    def show(self, request: Payload) -> Shown:
        """The signature is made by curl."""
        settings = self._settings
        token = () if settings.access_key_id and not settings.session_token else ("-H", "X-Amz-Security-Token: $AWS_SESSION_TOKEN")
        return Shown(
            url=settings.url.rstrip("/") + PATH,
            headers={**_HEADERS, "Authorization": "[secret]"},
            login=("--aws-sigv4", f"aws:amz:{settings.region}:ses", "--user", _LOGIN, *token),
        )

    def _preview(self, job: Job, request: Payload, unsent: tuple[Loss, ...]) -> Preview:
        return replace(super()._preview(job, request, unsent), why=request.why)

    async def _account(self, keys: Keys) -> tuple[Answer, Asker]:
        """What GetAccount says, and to whom."""
        behind, answer = await self._ask("GET", account.PATH, _NOTHING, None, keys)
        return answer, asker(self._settings.region, keys, self._credentials.source, behind)

    async def _ask(self, method: str, path: str, digest: str, body: Body | None, keys: Keys) -> tuple[float | None, Answer]:
        """The answer, and how far our clock is behind where the request was refused for the time of its signature. Such a
        request was not taken, and goes out once more by the remote's clock if that makes a difference."""
        used = self._behind
        answer = await self._signed(method, path, digest, body, keys, used)
        if not skewed(answer) or (date := answer.date()) is None:
            return None, answer
        behind = round(date - self._clock())
        if behind == round(used):
            return behind, answer
        self._behind = behind
        return behind, await self._signed(method, path, digest, body, keys, behind)

    async def _signed(self, method: str, path: str, digest: str, body: Body | None, keys: Keys, behind: float) -> Answer:
        host, target = self._http.target(path)
        now = self._clock() + behind
        headers = sign(method, host, target, _HEADERS, digest, keys=keys, region=self._settings.region, now=now)
        return await (self._http.get(path, headers) if body is None else self._http.post(path, headers, body))


def _unreachable(settings: SesSettings) -> str:
    if settings.base_url:
        return f"check the network and base_url ({settings.base_url})"
    return f"check the network, and region ({settings.region}): its endpoint would be {settings.url}"


__all__ = ["Payload", "Ses", "SesSettings", "payload", "read"]
