"""From a configured provider to its transport: what each kind is told, and the transport itself.

Promises: building connects nowhere; settings that are equal mean that nothing changed for a provider, so a reload may keep its
transport. Fails with ConfigError where a library that a provider needs is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from relay.config import (
    BatchConfig,
    CaptureProvider,
    Config,
    LowCodeProvider,
    MailtrapProvider,
    PauboxBatchConfig,
    PauboxProvider,
    PostmarkProvider,
    ProviderConfig,
    SesProvider,
    SmtpProvider,
    doors_of,
)
from relay.transports import presets
from relay.transports.auto import Auto
from relay.transports.base import ALONE, Batching, Transport
from relay.transports.capture import Capture, CaptureSettings
from relay.transports.http import Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.presets import Preset
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp, SmtpSettings, by_preset

_BATCH = 50_000_000  # octets of one request with several messages (Postmark docs, Mailtrap docs, 2026-11)

ApiSettings = SesSettings | PostmarkSettings | MailtrapSettings | PauboxSettings | LowCodeSettings
WithSmtp = SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider


@dataclass(frozen=True, slots=True)
class AutoSettings:
    """One provider by both of its doors."""

    api: ApiSettings
    smtp: SmtpSettings


TransportSettings = SmtpSettings | ApiSettings | AutoSettings | CaptureSettings


def make(settings: TransportSettings) -> Transport:
    """A transport, not connected yet. Raises ConfigError where SES needs botocore and it is not installed."""
    match settings:
        case SmtpSettings():
            return Smtp(settings)
        case AutoSettings():
            return Auto(_api(settings.api), Smtp(settings.smtp))
        case CaptureSettings():
            return Capture(settings)
        case _:
            return _api(settings)


def _api(settings: ApiSettings) -> Ses | Postmark | Mailtrap | Paubox | LowCode:
    match settings:
        case SesSettings():
            return Ses(settings, _http(settings, settings.url))
        case PostmarkSettings():
            return Postmark(settings, _http(settings, settings.base_url))
        case MailtrapSettings():
            by_url = {url: _http(settings, url) for url in settings.urls}
            return Mailtrap(settings, {stream: by_url[url] for stream, url in settings.doors.items()})
        case PauboxSettings():
            return Paubox(settings, _http(settings, settings.url))
        case LowCodeSettings():
            return LowCode(settings, _http(settings, settings.base_url))


def _http(settings: ApiSettings, base_url: str) -> Http:
    return Http(base_url=base_url, timeout=settings.timeout, concurrency=settings.concurrency)


def transport_settings(name: str, provider: ProviderConfig, config: Config) -> TransportSettings:
    """What the transport of a provider is told. With both doors its API refuses what it cannot carry whole: that goes by SMTP."""
    match provider:
        case SmtpProvider():
            return _smarthost(name, provider, config)
        case CaptureProvider():
            return CaptureSettings(provider=name, directory=provider.directory)
        case LowCodeProvider():
            return _lowcode(name, provider, config)
    doors = doors_of(provider)
    if doors == ("smtp",):
        return _by_preset(name, provider, config)
    api = _api_settings(name, provider, config)
    return AutoSettings(replace(api, on_loss="refuse"), _by_preset(name, provider, config)) if "smtp" in doors else api


def _api_settings(name: str, provider: WithSmtp, config: Config) -> ApiSettings:
    match provider:
        case SesProvider():
            return _ses(name, provider, config)
        case PostmarkProvider():
            return _postmark(name, provider, config)
        case MailtrapProvider():
            return _mailtrap(name, provider, config)
        case PauboxProvider():
            return _paubox(name, provider, config)


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
        controls=config.controls(),
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
        content_mode=provider.content_mode,
        on_loss=provider.on_loss,
        tenant=provider.tenant or "",
        fips=provider.fips,
        dual_stack=provider.dual_stack,
        streams=provider.streams,
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        max_size=provider.limits.size,
        controls=config.controls(),
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
        streams=provider.streams,
        batching=_batching(provider.batch, _BATCH),
        max_size=provider.limits.size,
        controls=config.controls(),
    )


def _mailtrap(name: str, provider: MailtrapProvider, config: Config) -> MailtrapSettings:
    return MailtrapSettings(
        provider=name,
        token=_secret(provider.token),
        stream=provider.stream,
        sandbox_id=provider.sandbox_id or "",
        base_url=provider.base_url or "",
        on_loss=provider.on_loss,
        streams=provider.streams,
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        batching=_batching(provider.batch, _BATCH),
        max_size=provider.limits.size,
        controls=config.controls(),
    )


def _paubox(name: str, provider: PauboxProvider, config: Config) -> PauboxSettings:
    return PauboxSettings(
        provider=name,
        api_key=provider.api_key.get_secret_value(),
        username=provider.username or "",
        base_url=provider.base_url,
        auth_scheme=provider.auth_scheme,
        on_loss=provider.on_loss,
        allow_non_tls=provider.allow_non_tls,
        force_secure_notification=provider.force_secure_notification,
        track_opens=provider.track_opens,
        track_links=provider.track_links,
        html=provider.html,
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        batching=_batching(provider.batch, provider.limits.size),
        max_size=provider.limits.size,
        controls=config.controls(),
    )


def _lowcode(name: str, provider: LowCodeProvider, config: Config) -> LowCodeSettings:
    return LowCodeSettings(
        provider=name,
        token=provider.token.get_secret_value(),
        base_url=provider.base_url,
        content_mode=provider.content_mode,
        on_loss=provider.on_loss,
        configuration_set=provider.configuration_set or "",
        identity_arn=provider.identity_arn or "",
        tenant=provider.tenant or "",
        streams=provider.streams,
        timeout=provider.timeout,
        concurrency=provider.limits.concurrency,
        max_size=provider.limits.size,
        controls=config.controls(),
    )


def _batching(batch: BatchConfig | PauboxBatchConfig, octets: int) -> Batching:
    return Batching(batch.max, octets, batch.wait) if batch.max > 1 else ALONE


def _by_preset(name: str, provider: WithSmtp, config: Config) -> SmtpSettings:
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
        controls=config.controls(),
        streams={} if isinstance(provider, PauboxProvider) else provider.streams,
        max_size=provider.limits.size,
    )


def preset(provider: WithSmtp) -> Preset:
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
                tenant=provider.tenant or "",
            )
        case PostmarkProvider():
            keys = (_secret(provider.smtp_access_key), _secret(provider.smtp_secret_key))
            return presets.postmark(
                provider.stream,
                _secret(provider.token),
                *keys,
                track_opens=provider.track_opens,
                track_links=provider.track_links or "",
            )
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


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


def _secret(value: _Secret | None) -> str:
    return value.get_secret_value() if value else ""


def _path(value: Path | None) -> str | None:
    return str(value) if value else None
