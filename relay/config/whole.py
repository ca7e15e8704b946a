"""The whole configuration as one frozen record, and as text again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml
from pydantic import SecretStr

from relay import ramps, rewriting, routing
from relay.budgets import Allowance
from relay.config import modes
from relay.config.model import AdminConfig, BounceConfig, ListenConfig, LogConfig, QueueConfig, SendersConfig
from relay.config.providers import CaptureProvider, ProviderConfig, SesProvider
from relay.config.rules import CaseConfig, MatchConfig, NotConfig, RampConfig, RouteConfig
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
    tests: tuple[CaseConfig, ...] = ()
    version: int = 1
    warnings: tuple[str, ...] = ()

    def route_table(self) -> tuple[routing.Route, ...]:
        """The routes as the routing room wants them."""
        return tuple(_route(route) for route in self.routes)

    def allowance(self, name: str) -> Allowance:
        """What a provider may be given in a time. Raises KeyError for a name that is not configured."""
        provider = self.providers[name]
        if isinstance(provider, CaptureProvider):
            return Allowance()
        limits = provider.limits
        if limits.shared_with:
            return replace(self.allowance(limits.shared_with), shared_with=limits.shared_with)
        return Allowance(
            rates=limits.rate if isinstance(limits.rate, tuple) else (),
            daily=limits.daily if isinstance(limits.daily, int) else None,
            monthly=limits.monthly if isinstance(limits.monthly, int) else None,
            count=limits.count,
            ask_rate=limits.rate == "auto",
            ask_daily=limits.daily == "auto",
        )

    def rewriting(self) -> rewriting.Rewriting:
        """Which senders are replaced on the way out."""
        return rewriting.Rewriting(tuple(self.senders.rewrite.items()))

    def sandboxes(self) -> frozenset[str]:
        """The providers that deliver to nobody, as far as the configuration tells."""
        return frozenset(name for name, provider in self.providers.items() if modes.no_delivery(provider))

    def controls(self) -> Mapping[str, tuple[str, ...]]:
        """Listener -> the dialects of control headers that it obeys."""
        return {listener.name: listener.controls for listener in self.listen}

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
        **({"tests": [_plain(case) for case in config.tests]} if config.tests else {}),
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


def _route(route: RouteConfig) -> routing.Route:
    chosen = (*route.via, *route.split, *(route.ramp.shares if route.ramp else ()))
    guarded = route.allow_recipients or route.redirect or route.capture
    return routing.Route(
        name=route.name,
        via=tuple(dict.fromkeys((*chosen, *route.fallback))),
        match=match_of(route.match),
        patience=route.patience,
        split=routing.Split(tuple(route.split.items()), route.sticky) if route.split else None,
        ramp=_ramp(route.ramp, route) if route.ramp else None,
        fallback=route.fallback,
        guard=routing.Guard(route.allow_recipients, route.redirect or "", route.capture or "") if guarded else None,
        shadow=route.shadow or "",
        priority=route.priority,
        spills=route.overflow == "spill",
    )


def _ramp(ramp: RampConfig, route: RouteConfig) -> ramps.Ramp:
    step_back = ramp.step_back
    return ramps.Ramp(
        start=ramp.from_,
        over=ramp.over,
        shares=tuple((name, first, last) for name, (first, last) in ramp.shares.items()),
        step_back=None if step_back == "off" else ramps.StepBack(step_back.refused, step_back.deferred, step_back.least, step_back.by),
        sticky=route.sticky,
    )


def match_of(match: NotConfig) -> routing.Match:
    """The conditions as the routing room wants them."""
    negated = match.not_ if isinstance(match, MatchConfig) else None
    return routing.Match(
        from_=match.from_,
        header_from=match.header_from,
        to=match.to,
        client=match.client,
        user=match.user,
        listener=match.listener,
        header=match.header,
        directive=match.directive,
        larger=match.larger,
        smaller=match.smaller,
        not_=match_of(negated) if negated else None,
    )
