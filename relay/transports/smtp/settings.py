"""What the SMTP transport is told, for a smarthost or for a provider's door."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay.transports import net
from relay.transports.presets import Preset

Login = Literal["auto", "plain", "login", "cram-md5"]

_IMPLICIT = frozenset({465, 2465})


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach the server. Times are seconds: `timeout` for opening a connection, for each reply and for each pause in
    sending, `dot_timeout` for the reply to the final dot, `idle` until a kept connection is closed. `max_recipients` bounds
    one transaction, `max_messages` one connection, `max_size` the octets of a message (0: the server says).

    `login` is the one mechanism to log in by, or `auto`: PLAIN, LOGIN or CRAM-MD5, the first that is offered. `dialect`,
    `defaults`, `stream`, `needs_sender` and `seven_bit` are those of a Preset. `bounce_from` takes the place of a null
    reverse-path where the server needs a sender. `controls` says which dialects each listener obeys: one not named obeys none.
    `streams` says what the streams and configuration sets of other providers are here.
    """

    provider: str
    host: str
    port: int
    hostname: str  # what we call ourselves in EHLO
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str = field(default="", repr=False)  # for some providers it is a token
    password: str = field(default="", repr=False)
    login: Login = "auto"
    ca_file: str | None = None
    timeout: float = 60.0
    dot_timeout: float = 600.0  # RFC 5321 §4.5.3.2.6
    concurrency: int = 10
    max_recipients: int = 100
    max_messages: int = 100
    max_size: int = 0
    idle: float = 10.0
    dialect: str = ""
    defaults: tuple[tuple[str, str], ...] = ()
    stream: str = ""
    needs_sender: bool = False
    seven_bit: bool = False
    bounce_from: str = ""
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)
    streams: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tls == "none" and self.username and not net.is_loopback(self.host):
            raise ValueError("credentials without TLS may only go to this host itself")


def by_preset(
    preset: Preset,
    *,
    provider: str,
    hostname: str,
    host: str | None = None,
    port: int | None = None,
    ca_file: str | None = None,
    timeout: float = 60.0,
    concurrency: int = 10,
    bounce_from: str = "",
    controls: Mapping[str, Collection[str]] | None = None,
    streams: Mapping[str, str] | None = None,
    max_size: int = 0,
) -> SmtpSettings:
    """The settings for a provider's door; `host` and `port` are for those who must go another way. Never without TLS: implicit on
    465 and 2465, by STARTTLS on all other ports. No more connections than the provider takes. `max_size` is the preset's where
    it is 0."""
    port = preset.port if port is None else port
    return SmtpSettings(
        provider=provider,
        host=host or preset.host,
        port=port,
        hostname=hostname,
        tls="implicit" if port in _IMPLICIT else "starttls",
        username=preset.username,
        password=preset.password,
        ca_file=ca_file,
        timeout=timeout,
        concurrency=min(concurrency, preset.connections or concurrency),
        max_recipients=preset.max_recipients,
        max_messages=preset.max_messages,
        max_size=max_size or preset.max_size,
        dialect=preset.dialect,
        defaults=preset.defaults,
        stream=preset.stream,
        needs_sender=preset.needs_sender,
        seven_bit=preset.seven_bit,
        bounce_from=bounce_from,
        controls=controls or {},
        streams=streams or {},
    )
