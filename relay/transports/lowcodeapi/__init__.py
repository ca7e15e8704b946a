"""Amazon SES by way of LowCodeAPI: SendEmail's requests, passed on with AWS keys that LowCodeAPI holds.

`payload` builds the requests (request.py, and transports/sesv2/) and `read` judges the answer (reply.py); both are pure. The
login is a token in the URL, so no URL with a path is in any log, error or preview. LowCodeAPI's page advises a second URL where
the first gives an error: that is not done, because a mail that met an error may have been sent. No redirect is followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from relay.budgets import Quota
from relay.fidelity import Loss
from relay.model import Job, Outcome
from relay.transports.base import Check, Preview
from relay.transports.http import Answer, Http
from relay.transports.lowcodeapi.reply import checks, quota, read
from relay.transports.lowcodeapi.request import PATH, LowCodeSettings, Payload, payload
from relay.transports.rest import Rest, Shown, outgoing
from relay.transports.sesv2 import account

_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


class LowCode(Rest[Payload]):
    """A LowCodeAPI account that passes mail on to Amazon SES."""

    carries_reports = False  # where a message is always taken apart; as it is it goes otherwise

    def __init__(self, settings: LowCodeSettings, http: Http) -> None:
        super().__init__(settings, http, unreachable=f"check the network and base_url ({settings.base_url})")
        self._settings = settings
        self._login = f"?api_token={quote(settings.token, safe='')}"
        self.carries_reports = settings.content_mode != "simple"

    def build(self, message: bytes, job: Job, *, apart: bool) -> Sequence[Payload]:
        """By `payload`."""
        return payload(message, facts=job.message.facts, settings=self._settings, **outgoing(job, apart=apart))

    async def send(self, request: Payload) -> Mapping[str, Outcome]:
        """Judged by `read`."""
        answer = await self._http.post(PATH + self._login, _HEADERS, request.body())
        return read(answer, request, self._settings.token)

    async def look(self) -> Sequence[Check]:
        """The account of Amazon SES behind the token (GetAccount, passed on)."""
        return checks(await self._account(), self._settings.token, self._settings.base_url)

    async def allowed(self) -> Quota | str:
        """The quota of the account of Amazon SES behind the token."""
        return quota(await self._account(), self._settings.token)

    async def _account(self) -> Answer:
        return await self._http.get(account.PATH + self._login, _HEADERS)

    def show(self, request: Payload) -> Shown:
        """The token is in the URL: curl is given that with a shell variable."""
        url = f"{self._settings.base_url.rstrip('/')}{PATH}?api_token="
        return Shown(f"{url}[secret]", _HEADERS, ("--url", f"{url}$LOWCODEAPI_TOKEN"))

    def _preview(self, job: Job, request: Payload, unsent: tuple[Loss, ...]) -> Preview:
        return replace(super()._preview(job, request, unsent), why=request.why)


__all__ = ["LowCode", "LowCodeSettings", "Payload", "payload", "read"]
