"""A configured LowCodeAPI account, and messages as its requests: those of SendEmail (transports/sesv2/), passed on to Amazon.

FromEmailAddress and Destination are always given, because LowCodeAPI's page calls them required, also with a message that goes as
it is: there FromEmailAddress takes the place of the From field, so it says the display name too. That page describes taken
apart messages only; that others are passed on is what the server's source shows. Pure.
LowCodeAPI docs 2026-11, "AWS SES Integration"; repository samal/lowcodeapi, 2026-11.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay import directives
from relay.model import Edit, Facts
from relay.transports.base import ALONE, Batching
from relay.transports.sesv2 import request
from relay.transports.sesv2.options import Account
from relay.transports.sesv2.payload import PATH, Payload
from relay.transports.sesv2.raw import Source, Terms

MAX_MESSAGE = 40 * 1024 * 1024  # octets after base64, as at Amazon SES; LowCodeAPI itself takes JSON of 100 MB

_FORMS: Mapping[str, request.Form] = {"auto": "lossless", "simple": "simple", "raw": "raw"}


@dataclass(frozen=True, slots=True)
class LowCodeSettings:
    """A configured LowCodeAPI account. `content_mode` auto takes a message apart where nothing is lost; `simple` always, and then
    `on_loss` says what becomes of one that loses something; `raw` never. `configuration_set`, `identity_arn` and `tenant` are those
    of the account at Amazon, for mail that names none; `streams` maps what apps ask for in others' words to configuration sets.
    `max_size` counts octets after base64. `controls` says which dialects each listener obeys: one not named obeys none, and mail
    from no listener all."""

    provider: str
    token: str = field(repr=False)
    base_url: str = "https://api.lowcodeapi.com/awsses"
    content_mode: Literal["auto", "simple", "raw"] = "auto"
    on_loss: Literal["refuse", "warn"] = "refuse"
    configuration_set: str = ""
    identity_arn: str = ""
    tenant: str = ""
    streams: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    concurrency: int = 1  # no limit is documented
    max_size: int = MAX_MESSAGE
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def batching(self) -> Batching:
        """A request carries one message."""
        return ALONE


def payload(
    message: bytes,
    *,
    block: bytes,
    facts: Facts,
    queue_id: str,
    recipients: Sequence[str],
    changes: Sequence[Edit],
    settings: LowCodeSettings,
    listener: str = "",
    apart: bool = False,
) -> tuple[Payload, ...]:
    """The requests that carry a stored message, whose header block is `block`, to `recipients`, each of whom is in exactly one;
    with `apart` each has one of his own. Raises CannotCarry.
    """
    return request.payload(
        Source(message, block, facts, changes),
        recipients,
        asked=directives.read(block, directives.obeyed(settings.controls, listener), own="ses"),
        account=Account(settings.configuration_set, settings.identity_arn, settings.tenant, settings.streams),
        queue_id=queue_id,
        form=_FORMS[settings.content_mode],
        terms=Terms(settings.max_size, from_member=True, on_loss=settings.on_loss),
        apart=apart,
    )


__all__ = ["MAX_MESSAGE", "PATH", "LowCodeSettings", "Payload", "payload"]
