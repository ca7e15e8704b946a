"""What one listener is told: where it listens, what a client needs, and who may send as whom."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from relay import routing
from relay.smtp_protocol import TlsMode

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class Certificate(Protocol):
    """A certificate with its key that may be replaced at any time; `context` is asked for at each handshake."""

    @property
    def context(self) -> ssl.SSLContext:
        """The server's side of TLS, for new connections."""


class Authenticator(Protocol):
    """Who may log in."""

    async def verify(self, name: str, password: str) -> bool:
        """Whether this is the password of `name`."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One address to listen on: `127.0.0.1:1025`, `[::1]:25` or `unix:/path`. `max_size` is in octets, as SIZE announces it.

    `tls` other than off needs a `certificate`. With `users` every mail needs a login, which only clients of this host may make
    in clear. `allow` are the only networks that may send (empty: all), `proxy` the peers that must begin with a PROXY header.
    `senders` are globs on the reverse-path (empty: all); the null one always passes. A unix socket asks for no address.
    """

    name: str
    address: str
    max_size: int = 40_000_000
    tls: TlsMode = "off"
    certificate: Certificate | None = None
    users: Authenticator | None = None
    allow: tuple[Network, ...] = ()
    proxy: tuple[Network, ...] = ()
    senders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.tls != "off" and self.certificate is None:
            raise ValueError(f"listener {self.name}: TLS needs a certificate")


def proxied(settings: ListenerSettings, peer: Address | None) -> bool:
    """Whether the connection from `peer` (None for a unix socket) must begin with a PROXY header."""
    return peer is not None and any(peer in network for network in settings.proxy)


def refusal(settings: ListenerSettings, client: Address | None, reverse_path: str) -> str:
    """The reply that keeps this client from sending as `reverse_path`, or ""."""
    if client is not None and settings.allow and not any(client in network for network in settings.allow):
        return f"550 5.7.1 {client} is not in the networks that may send here"
    if reverse_path and settings.senders and not any(routing.matches(glob, reverse_path) for glob in settings.senders):
        return "550 5.7.1 this sender address is not among those that may be used here"
    return ""
