"""What delivery is told by the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay.rewriting import Rewriting


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Times in seconds. `bounce_from` is the From address of notices; `docs/bounces.md` has what the other `bounce_` keys do."""

    retry: tuple[float, ...]
    expire: float
    bounce_from: str
    hostname: str
    keep_bodies: bool = False
    hold_unknown: frozenset[str] = frozenset()  # providers whose unknown outcomes wait for an admin
    lease: float = 600.0  # how long a claim lasts; prolonged while an attempt is under way
    bounce_to: Literal["sender", "postmaster"] = "sender"
    bounce_via: str = ""  # the provider that carries all notices; "" is the route of those they are about
    postmaster: str = ""  # "" is nobody
    delay_warning: float = 0.0  # after which the sender of a message that still waits is warned; 0 is never
    alerts: bool = False  # whether the postmaster gets a mail when a provider is paused, and when it is back
    rewriting: Rewriting = field(default_factory=Rewriting)
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)  # by listener, the dialects of control headers it obeys
    sandboxes: frozenset[str] = frozenset()  # providers that deliver to nobody
