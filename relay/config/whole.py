"""The whole configuration as one frozen record, and as text again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import SecretStr

from relay import routing
from relay.config.model import (
    AdminConfig,
    BounceConfig,
    ListenConfig,
    LogConfig,
    MatchConfig,
    QueueConfig,
    RouteConfig,
    SendersConfig,
)
from relay.config.providers import ProviderConfig, SesProvider
from relay.config.section import Section
from relay.transports import presets

_WIDTH = 140  # columns


@dataclass(frozen=True, slots=True)
class Config:
    """Everything configured. Times are seconds, sizes octets. `warnings` are one line each, without secrets."""

    listen: tuple[ListenConfig, ...]
    providers: Mapping[str, ProviderConfig]
    routes: tuple[RouteConfig, ...]
    senders: SendersConfig
    queue: QueueConfig
    bounce: BounceConfig
    admin: AdminConfig
    log: LogConfig
    hostname: str
    version: int = 1
    warnings: tuple[str, ...] = ()

    def route_table(self) -> tuple[routing.Route, ...]:
        """The routes as the routing room wants them."""
        return tuple(routing.Route(route.name, route.via, _match(route.match), route.patience) for route in self.routes)

    def secrets(self) -> tuple[str, ...]:
        """Every secret in use, those made from others among them, to be blotted out of the log."""
        sections = (self.listen, self.providers, self.routes, self.senders, self.queue, self.bounce, self.admin, self.log)
        made = (_made_of(provider) for provider in self.providers.values())
        return tuple(dict.fromkeys([*(secret.get_secret_value() for secret in _secrets_in(sections)), *filter(None, made)]))


def show(config: Config) -> str:
    """The configuration as it is in force, as YAML: every default filled in, every secret as "[secret]".

    What `load` reads from it is the same configuration, but for the secrets.
    """
    whole = {
        "version": config.version,
        "hostname": config.hostname,
        "listen": [_plain(listener) for listener in config.listen],
        "providers": {name: _plain(provider) for name, provider in config.providers.items()},
        "routes": [_plain(route) for route in config.routes],
        **{name: plain for name in ("senders", "queue", "bounce", "admin", "log") if (plain := _plain(getattr(config, name)))},
    }
    return yaml.dump(whole, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


class _Dumper(yaml.SafeDumper):
    """Writes a thing named twice twice, for aliases are not read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _plain(section: Section) -> dict[str, Any]:
    """A section as the file would have it. What was left out and has no written form is left out again."""
    return _without_nothing(section.model_dump(mode="json", by_alias=True, exclude_none=True))


def _without_nothing(written: dict[str, Any]) -> dict[str, Any]:
    found = {key: _without_nothing(value) if isinstance(value, dict) else value for key, value in written.items()}
    return {key: value for key, value in found.items() if value != {} and (value != [] or key == "controls")}


def _secrets_in(value: Any) -> Iterator[SecretStr]:
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, Section):
        yield from _secrets_in(dict(value))
    elif isinstance(value, Mapping):
        yield from _secrets_in(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets_in(item)


def _made_of(provider: ProviderConfig) -> str:
    """The password that a provider's secret is turned into; "" where there is none."""
    if isinstance(provider, SesProvider) and provider.mode == "smtp" and provider.secret_access_key:
        return presets.ses_smtp_password(provider.secret_access_key.get_secret_value(), provider.region)
    return ""


def _match(match: MatchConfig) -> routing.Match:
    return routing.Match(
        from_=match.from_,
        to=match.to,
        client=match.client,
        listener=match.listener,
        header=match.header,
        larger=match.larger,
    )
