"""The configuration: relay.yaml, read once, checked as a whole, then frozen.

Promise: either a Config in which every name, time, size and address is good, or a ConfigError that holds every mistake
found, in the order of the file, each with file:line:column, key, the line, a caret and the mend. Nothing else is ever
raised for what a file says. No secret is part of any mistake, and none shows in the repr of a Config.

The keys: relay.yaml.example and docs/config.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from relay import routing, sockets
from relay.config import build, checks, marks, references
from relay.config.model import (
    AdminConfig,
    BounceConfig,
    CaptureProvider,
    ListenConfig,
    LogConfig,
    MatchConfig,
    PostmarkProvider,
    ProviderConfig,
    QueueConfig,
    RouteConfig,
    SmtpProvider,
)
from relay.config.problems import Report
from relay.errors import ConfigError

__all__ = [
    "AdminConfig",
    "BounceConfig",
    "CaptureProvider",
    "Config",
    "ListenConfig",
    "LogConfig",
    "MatchConfig",
    "PostmarkProvider",
    "ProviderConfig",
    "QueueConfig",
    "RouteConfig",
    "SmtpProvider",
    "dev",
    "load",
]

_ENOENT_EXIT, _EACCES_EXIT = 66, 77
_LARGEST = 1024 * 1024 + 1


@dataclass(frozen=True, slots=True)
class Config:
    """Everything configured. Times are seconds, sizes octets. `warnings` are one line each, without secrets."""

    listen: tuple[ListenConfig, ...]
    providers: Mapping[str, ProviderConfig]
    routes: tuple[RouteConfig, ...]
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
        """Every secret in use, to be blotted out of the log."""
        found = (value for provider in self.providers.values() for value in dict(provider).values())
        return tuple(value.get_secret_value() for value in found if isinstance(value, SecretStr))


def load(path: Path, *, environ: Mapping[str, str], inside_service: bool = True) -> Config:
    """Read and check a file.

    `inside_service` False is for checking by hand: a `${cred:…}` that only the service can see is then a warning, and
    the Config must not be used to send.
    """
    report = Report(str(path))
    raw = marks.read(_read(path, report), report)
    if raw is None and report.problems:
        raise ConfigError(report.problems)
    draft = build.build(references.resolve(raw, report, environ, inside_service=inside_service), report)
    checks.check(draft, report)
    if report.problems:
        raise ConfigError(report.problems)
    checks.warn(draft, report)
    providers = {name: part.value for name, part in draft.providers.items() if part}
    hostname = draft.top.value.hostname or sockets.hostname()
    checks.warn_of_hostname(hostname, draft, report)
    routes = tuple(part.value for part in draft.routes) or (RouteConfig(name="default", via=tuple(providers)),)
    return Config(
        listen=tuple(part.value for part in draft.listen),
        providers={name: _complete(name, provider, draft.queue.value.spool) for name, provider in providers.items()},
        routes=routes,
        queue=draft.queue.value,
        bounce=draft.bounce.value if draft.bounce.value.sender else _bounce(hostname),
        admin=draft.admin.value,
        log=draft.log.value,
        hostname=hostname,
        version=draft.top.value.version,
        warnings=report.warnings,
    )


def dev(directory: Path) -> Config:
    """The configuration of a first run: SMTP and admin on this host's loopback, all mail captured in `directory`."""
    directory = directory.absolute()
    socket_address = f"unix:{directory / 'admin.sock'}"
    hostname = sockets.hostname()
    if len(socket_address.encode()) > 107 + len("unix:"):
        raise ConfigError([f"{directory}: the path is too long for a unix socket\n     = name a shorter directory"])
    return Config(
        listen=(ListenConfig(name="local", address="127.0.0.1:1025"),),
        providers={"capture": CaptureProvider(directory=directory / "capture")},
        routes=(RouteConfig(name="default", via=("capture",)),),
        queue=QueueConfig.model_validate({"spool": str(directory / "spool"), "keep_bodies": "7d", "min_free": "10MB"}),
        bounce=_bounce(hostname),
        admin=AdminConfig(listen=(socket_address, "127.0.0.1:8025")),
        log=LogConfig(),
        hostname=hostname,
    )


def _read(path: Path, report: Report) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST)
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"], _ENOENT_EXIT) from None
    except PermissionError:
        raise ConfigError([f"{path}: permission denied"], _EACCES_EXIT) from None
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    if references.readable_by_others(mode):
        text = f"others can read or change this file (mode {stat.S_IMODE(mode):04o})"
        report.add_at(None, text, f"chmod 640 {path}")
    return data


def _complete(name: str, provider: ProviderConfig, spool: Path) -> ProviderConfig:
    if isinstance(provider, CaptureProvider) and provider.directory is None:
        return provider.model_copy(update={"directory": spool / "capture" / name})
    return provider


def _bounce(hostname: str) -> BounceConfig:
    return BounceConfig.model_validate({"from": f"mailer-daemon@{hostname}"})


def _match(match: MatchConfig) -> routing.Match:
    return routing.Match(
        from_=match.from_,
        to=match.to,
        client=match.client,
        listener=match.listener,
        header=match.header,
        larger=match.larger,
    )
