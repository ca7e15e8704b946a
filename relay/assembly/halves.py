"""From the configuration to the settings of the two halves, and to the labels of their metrics.

Promise: nothing is read but what `certificates` and `users` name. Fails with CertificateError or UsersError for files that a listener
names and that cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from relay.budgets import Allowance
from relay.certificates import ServerTls
from relay.config import Config, ListenConfig
from relay.delivery import DeliverySettings
from relay.listener import ListenerSettings
from relay.users import Users


class MetricLabels(TypedDict):
    """What Metrics.configured is told."""

    listeners: Sequence[str]
    providers: Sequence[str]
    routes: Sequence[tuple[str, str]]
    shadows: Sequence[tuple[str, str]]


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
        alerts=config.bounce.alerts,
        rewriting=config.rewriting(),
        controls=config.controls(),
        sandboxes=config.sandboxes(),
    )


def allowances(config: Config) -> dict[str, Allowance]:
    """What each provider may be sent, by the provider's name."""
    return {name: config.allowance(name) for name in config.providers}


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
        sender_users=config.senders.users,
    )


def metric_labels(config: Config) -> MetricLabels:
    """The labels that metrics begin with."""
    return {
        "listeners": [item.name for item in config.listen],
        "providers": list(config.providers),
        "routes": [(route.name, provider) for route in config.route_table() for provider in route.providers],
        "shadows": [(route.name, route.shadow) for route in config.route_table() if route.shadow],
    }
