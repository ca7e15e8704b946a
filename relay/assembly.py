"""From the configuration to the parts that do the work: transports, listeners' settings, delivery's settings.

The only room that knows both the configuration's records and the concrete transports. Building a part connects nowhere
and reads nothing but what `certificates` and `users` name. The daemon builds all of them; `relay convert` and `relay
explain` build the transports they ask.
Fails with CertificateError or UsersError for files that a listener names and that cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

from relay.certificates import ServerTls
from relay.config import (
    CaptureProvider,
    Config,
    ListenConfig,
    MailtrapProvider,
    PauboxProvider,
    PostmarkProvider,
    ProviderConfig,
    SesProvider,
    SmtpProvider,
)
from relay.delivery import DeliverySettings
from relay.listener import ListenerSettings
from relay.transports import presets
from relay.transports.base import Transport
from relay.transports.capture import Capture, CaptureSettings
from relay.transports.http import Http
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.presets import Preset
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp, SmtpSettings, by_preset
from relay.users import Users

TransportSettings = SmtpSettings | SesSettings | PostmarkSettings | CaptureSettings


class MetricLabels(TypedDict):
    """What Metrics.configured is told."""

    listeners: Sequence[str]
    providers: Sequence[str]
    routes: Sequence[tuple[str, str]]


def make(settings: TransportSettings) -> Transport:
    """A transport, not connected yet. Raises ConfigError where SES needs botocore and it is not installed."""
    match settings:
        case SmtpSettings():
            return Smtp(settings)
        case SesSettings():
            return Ses(settings, Http(base_url=settings.url, timeout=settings.timeout, concurrency=settings.concurrency))
        case PostmarkSettings():
            return Postmark(settings, Http(base_url=settings.base_url, timeout=settings.timeout, concurrency=settings.concurrency))
        case CaptureSettings():
            return Capture(settings)


def transport_settings(name: str, provider: ProviderConfig, config: Config) -> TransportSettings:
    """What the transport of a provider is told."""
    match provider:
        case SmtpProvider():
            return _smarthost(name, provider, config)
        case SesProvider() if provider.mode == "api":
            return _ses(name, provider, config)
        case PostmarkProvider() if provider.mode == "api":
            return _postmark(name, provider, config)
        case CaptureProvider():
            return CaptureSettings(provider=name, directory=provider.directory)
        case _:
            return _by_preset(name, provider, config)


def _smarthost(name: str, provider: SmtpProvider, config: Config) -> SmtpSettings:
    return SmtpSettings(
        provider=name,
        host=provider.host,
        port=provider.port,
        hostname=config.hostname,
        tls=provider.tls,
        username=provider.username or "",
        password=_secret(provider.password),
        login=provider.login,
        ca_file=_path(provider.ca_file),
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        controls=_controls(config),
    )


def _ses(name: str, provider: SesProvider, config: Config) -> SesSettings:
    return SesSettings(
        provider=name,
        region=provider.region,
        access_key_id=provider.access_key_id or "",
        secret_access_key=_secret(provider.secret_access_key),
        session_token=_secret(provider.session_token),
        profile=provider.profile or "",
        base_url=provider.base_url or "",
        configuration_set=provider.configuration_set or "",
        identity_arn=provider.identity_arn or "",
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        controls=_controls(config),
    )


def _postmark(name: str, provider: PostmarkProvider, config: Config) -> PostmarkSettings:
    return PostmarkSettings(
        provider=name,
        token=_secret(provider.token),
        base_url=provider.base_url,
        stream=provider.stream,
        on_loss=provider.on_loss,
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        track_opens=provider.track_opens,
        track_links=provider.track_links or "",
        controls=_controls(config),
    )


def _by_preset(name: str, provider: SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider, config: Config) -> SmtpSettings:
    return by_preset(
        preset(provider),
        provider=name,
        hostname=config.hostname,
        host=provider.host,
        port=provider.port,
        ca_file=_path(provider.ca_file),
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        bounce_from=config.bounce.sender,
        controls=_controls(config),
    )


def preset(provider: SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider) -> Preset:
    """The SMTP door of a provider, with its login."""
    match provider:
        case SesProvider():
            return presets.ses(
                provider.region,
                provider.access_key_id or "",
                _secret(provider.secret_access_key),
                _secret(provider.smtp_password),
                configuration_set=provider.configuration_set or "",
                identity_arn=provider.identity_arn or "",
            )
        case PostmarkProvider():
            keys = (_secret(provider.smtp_access_key), _secret(provider.smtp_secret_key))
            return presets.postmark(provider.stream, _secret(provider.token), *keys)
        case MailtrapProvider():
            return presets.mailtrap(provider.stream, _secret(provider.token), provider.username or "", _secret(provider.password))
        case PauboxProvider():
            return presets.paubox(_secret(provider.api_key))


def all_transport_settings(config: Config) -> dict[str, TransportSettings]:
    """What each provider's transport is told, by the provider's name. Equal settings mean that nothing changed for it."""
    return {name: transport_settings(name, provider, config) for name, provider in config.providers.items()}


def transport_for(name: str, provider: ProviderConfig, config: Config) -> Transport:
    """The transport of a configured provider."""
    return make(transport_settings(name, provider, config))


def delivery_settings(config: Config) -> DeliverySettings:
    """What delivery is told."""
    held = [name for name, provider in config.providers.items() if getattr(provider, "unknown_outcome", "retry") == "hold"]
    return DeliverySettings(
        retry=config.queue.retry,
        expire=config.queue.expire,
        bounce_from=config.bounce.sender,
        hostname=config.hostname,
        keep_bodies=config.queue.keep_bodies > 0,
        hold_unknown=frozenset(held),
        bounce_to=config.bounce.to,
        postmaster=config.bounce.postmaster or "",
        bounce_via=config.bounce.via or "",
        delay_warning=config.bounce.delay_warning,
    )


def listener_settings(config: Config, before: Sequence[ListenerSettings] = ()) -> tuple[ListenerSettings, ...]:
    """What each listener is told, with its certificate and users loaded. Raises CertificateError or UsersError.

    One users file is one Users, so that all its listeners share what it remembers and how much it works at once; it is the
    one in use `before`, where there is one: that looks at its file by itself.
    """
    known = {item.users.path: item.users for item in before if isinstance(item.users, Users)}
    loaded = {path: Users(path) for path in dict.fromkeys(item.auth for item in config.listen) if path}
    return tuple(_listener(item, config, {**loaded, **known}) for item in config.listen)


def _listener(item: ListenConfig, config: Config, users: Mapping[Path, Users]) -> ListenerSettings:
    return ListenerSettings(
        name=item.name,
        address=item.address,
        max_size=item.max_size,
        tls=item.tls,
        certificate=ServerTls(item.cert, item.key) if item.cert and item.key else None,
        users=users[item.auth] if item.auth else None,
        allow=item.allow,
        proxy=item.proxy,
        senders=config.senders.allow,
    )


def metric_labels(config: Config) -> MetricLabels:
    """The labels that metrics begin with."""
    return {
        "listeners": [item.name for item in config.listen],
        "providers": list(config.providers),
        "routes": [(route.name, provider) for route in config.route_table() for provider in route.via],
    }


def _controls(config: Config) -> Mapping[str, tuple[str, ...]]:
    return {item.name: item.controls for item in config.listen}


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


def _secret(value: _Secret | None) -> str:
    return value.get_secret_value() if value else ""


def _path(value: Path | None) -> str | None:
    return str(value) if value else None
