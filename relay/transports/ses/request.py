"""A configured Amazon SES account, and messages as its requests (transports/sesv2/). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay import directives
from relay.model import Edit, Facts
from relay.transports.base import ALONE, Batching
from relay.transports.ses.endpoints import endpoint
from relay.transports.sesv2 import request
from relay.transports.sesv2.options import Account
from relay.transports.sesv2.payload import PATH, Payload
from relay.transports.sesv2.raw import Source, Terms

MAX_MESSAGE = 40 * 1024 * 1024  # octets after base64; the API counts in units of 1024, as its errors on size show


@dataclass(frozen=True, slots=True)
class SesSettings:
    """A configured Amazon SES account. Without `access_key_id` the keys are found as the AWS tools find them (`profile`,
    environment, container, instance). With `content_mode` simple a message is taken apart where that changes nothing that
    matters, and goes as it is otherwise; `on_loss` is about templates, which have no other form. `max_size` counts octets after
    base64. `streams` maps what apps ask for in others' words to configuration sets. `controls` says which dialects each listener
    obeys: one not named obeys none, and mail from no listener all."""

    provider: str
    region: str
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    profile: str = ""
    base_url: str = ""
    configuration_set: str = ""
    identity_arn: str = ""
    content_mode: Literal["raw", "simple"] = "raw"
    on_loss: Literal["refuse", "warn"] = "refuse"
    tenant: str = ""
    fips: bool = False
    dual_stack: bool = False
    timeout: float = 60.0
    concurrency: int = 20
    max_size: int = MAX_MESSAGE
    streams: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL: `base_url`, or the region's public endpoint."""
        return self.base_url or endpoint(self.region, fips=self.fips, dual_stack=self.dual_stack)

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
    settings: SesSettings,
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
        form="raw" if settings.content_mode == "raw" else "simple or raw",
        terms=Terms(settings.max_size, on_loss=settings.on_loss),
        apart=apart,
    )


__all__ = ["MAX_MESSAGE", "PATH", "Payload", "SesSettings", "payload"]
