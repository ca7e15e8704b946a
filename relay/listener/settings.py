"""What one listener is told: where it listens, what a client needs, and who may send as whom."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
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

    async def verify(self, name: str, password: str) -> str | None:
        """The identity of who has this name and password: by it the user is known to the log, to routes and to `sender_users`. Names may
        be secrets of a provider's; an identity never is. None where nobody has them."""

    def identity(self, name: str) -> str:
        """What the log may say of a login by `name` that fails."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One address to listen on: `127.0.0.1:1025`, `[::1]:25` or `unix:/path`. `max_size` is in octets, as SIZE announces it.

    `tls` other than off needs a `certificate`. With `users` every mail needs a login, which only clients of this host may make
    in clear. `allow` are the only networks that may send (empty: all), `proxy` the peers that must begin with a PROXY header.
    `senders` are globs on the reverse-path (empty: all), `sender_users` those of who has logged in, by identity: who stands there
    may only use what fits both. The null reverse-path always passes. A unix socket asks for no address.
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
    sender_users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tls != "off" and self.certificate is None:
            raise ValueError(f"listener {self.name}: TLS needs a certificate")


def proxied(settings: ListenerSettings, peer: Address | None) -> bool:
    """Whether the connection from `peer` (None for a unix socket) must begin with a PROXY header."""
    return peer is not None and any(peer in network for network in settings.proxy)


def refusal(settings: ListenerSettings, client: Address | None, user: str, reverse_path: str) -> str:
    """The reply that keeps this client from sending as `reverse_path`, or "". `user` is the identity that it logged in with, or ""."""
    if client is not None and settings.allow and not any(client in network for network in settings.allow):
        return f"550 5.7.1 {client} is not in the networks that may send here"
    if reverse_path and settings.senders and not _any(settings.senders, reverse_path):
        return "550 5.7.1 this sender address is not among those that may be used here"
    if reverse_path and user in settings.sender_users and not _any(settings.sender_users[user], reverse_path):
        who = user if user.isascii() else "this user"
        return f"550 5.7.1 {who} may not send as this address: correct it in the client, or add it to senders.users"
    return ""


def _any(globs: tuple[str, ...], reverse_path: str) -> bool:
    return any(routing.matches(glob, reverse_path) for glob in globs)
