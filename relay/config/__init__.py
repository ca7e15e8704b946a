"""The configuration: relay.yaml, read once, checked as a whole, then frozen.

Promise: either a Config in which every name, time, size and address is good, or a ConfigError that holds every mistake
found, in the order of the file, each with file:line:column, key, the line, a caret and the mend. Nothing else is ever
raised for what a file says. No secret is part of any mistake, and none shows in the repr of a Config or in `show`.

The keys: relay.yaml.example and docs/config.md.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from relay import sockets
from relay.config import build, cases, checks, kinds, marks, references, surroundings
from relay.config.limits import BatchConfig, PauboxBatchConfig
from relay.config.model import (
    AdminConfig,
    BounceConfig,
    ListenConfig,
    LogConfig,
    QueueConfig,
    SendersConfig,
)
from relay.config.modes import Door, doors_of, no_delivery, why_no_smtp
from relay.config.problems import Report, did_you_mean
from relay.config.providers import (
    PROVIDERS,
    CaptureProvider,
    LowCodeProvider,
    MailtrapProvider,
    PauboxProvider,
    PostmarkProvider,
    ProviderConfig,
    SesProvider,
    SmtpProvider,
)
from relay.config.rules import CaseConfig, MatchConfig, RouteConfig
from relay.config.schema import schema
from relay.config.whole import Config, show
from relay.errors import ConfigError

__all__ = [
    "AdminConfig",
    "BatchConfig",
    "BounceConfig",
    "CaptureProvider",
    "CaseConfig",
    "Config",
    "Door",
    "ListenConfig",
    "LogConfig",
    "LowCodeProvider",
    "MailtrapProvider",
    "MatchConfig",
    "PauboxBatchConfig",
    "PauboxProvider",
    "PostmarkProvider",
    "ProviderConfig",
    "QueueConfig",
    "RouteConfig",
    "SendersConfig",
    "SesProvider",
    "SmtpProvider",
    "bare",
    "dev",
    "doors_of",
    "load",
    "no_delivery",
    "schema",
    "show",
    "why_no_smtp",
]

_BARE: Mapping[str, Mapping[str, str]] = {
    "smtp": {"host": "mail.example.net"},
    "ses": {"region": "us-east-1", "access_key_id": "AKIA0000000000000000", "secret_access_key": kinds.SECRET},
    "postmark": {"token": kinds.SECRET},
    "mailtrap": {"token": kinds.SECRET},
    "paubox": {"api_key": kinds.SECRET, "username": "clinic"},
    "lowcodeapi": {"token": kinds.SECRET},
    "capture": {},
}
_ENOENT_EXIT, _EACCES_EXIT = 66, 77


def load(
    path: Path, *, environ: Mapping[str, str], inside_service: bool = True, for_sending: bool = True, tests_at: float | None = None
) -> Config:
    """Read and check a file.

    `inside_service` False is for checking by hand: a `${cred:…}` that only the service can see is then a warning, and
    the Config must not be used to send. `for_sending` False is for commands that show what would be sent: secrets that
    cannot be had are stand-ins without a word, and certificates, users, the spool's directory and who may read the file are
    not looked at. With `tests_at` (Unix seconds) the file's own tests are run for that time, and each that fails is a mistake.
    """
    now = time.time()
    report = Report(str(path))
    raw = marks.read(_read(path, report, for_sending=for_sending), report)
    if raw is None and report.problems:
        raise ConfigError(report.problems)
    resolved = references.resolve(raw, report, environ, inside_service=inside_service, for_sending=for_sending)
    draft = build.build(resolved, report)
    checks.check(draft, report)
    if for_sending:
        surroundings.check(draft, report, now)
    if report.problems:
        raise ConfigError(report.problems)
    checks.warn(draft, report, now)
    providers = {name: part.value for name, part in draft.providers.items() if part}
    hostname = draft.top.value.hostname or sockets.hostname()
    checks.warn_of_hostname(hostname, draft, report)
    routes = tuple(part.value for part in draft.routes) or (RouteConfig(name="default", via=tuple(providers)),)
    found = Config(
        listen=tuple(part.value for part in draft.listen),
        providers={name: _complete(name, provider, draft.queue.value.spool) for name, provider in providers.items()},
        routes=routes,
        senders=draft.senders.value,
        queue=draft.queue.value,
        bounce=_bounce(draft.bounce.value, hostname),
        admin=draft.admin.value,
        log=draft.log.value,
        tests=tuple(part.value for part in draft.tests),
        hostname=hostname,
        version=draft.top.value.version,
        warnings=report.warnings,
    )
    for failed in cases.run(found, tests_at) if tests_at is not None else ():
        report.add(("tests", failed.index, failed.key), failed.text, "\n".join(failed.why))
    if report.problems:
        raise ConfigError(report.problems)
    return found


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
        senders=SendersConfig(),
        bounce=_bounce(BounceConfig(), hostname),
        admin=AdminConfig(listen=(socket_address, "127.0.0.1:8025")),
        log=LogConfig(),
        hostname=hostname,
    )


def bare(type_: str) -> Config:
    """One provider of this type with nothing but stand-ins, for showing what would be sent without any file.

    Raises ConfigError (exit code 64) for a type that is not known.
    """
    if type_ not in PROVIDERS:
        mend = did_you_mean(type_, PROVIDERS) or f"known: {', '.join(PROVIDERS)}"
        raise ConfigError([f'unknown provider type "{type_}"\n     = {mend}'], os.EX_USAGE)
    provider = PROVIDERS[type_].model_validate(_BARE[type_])
    hostname = sockets.hostname()
    queue = QueueConfig()
    return Config(
        listen=(ListenConfig(name="local", address="127.0.0.1:25"),),
        providers={type_: _complete(type_, provider, queue.spool)},
        routes=(RouteConfig(name="default", via=(type_,)),),
        senders=SendersConfig(),
        queue=queue,
        bounce=_bounce(BounceConfig(), hostname),
        admin=AdminConfig(),
        log=LogConfig(),
        hostname=hostname,
    )


def _read(path: Path, report: Report, *, for_sending: bool) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(marks.LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"], _ENOENT_EXIT) from None
    except PermissionError:
        raise ConfigError([f"{path}: permission denied"], _EACCES_EXIT) from None
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    if for_sending and references.readable_by_others(mode):
        text = f"others can read or change this file (mode {stat.S_IMODE(mode):04o})"
        report.add_at(None, text, f"chmod 640 {path}")
    return data


def _complete(name: str, provider: ProviderConfig, spool: Path) -> ProviderConfig:
    if isinstance(provider, CaptureProvider) and provider.directory is None:
        return provider.model_copy(update={"directory": spool / "capture" / name})
    return provider


def _bounce(bounce: BounceConfig, hostname: str) -> BounceConfig:
    return bounce if bounce.sender else bounce.model_copy(update={"sender": f"mailer-daemon@{hostname}"})
