"""`relay provider list` and `test`: what is configured of each provider, and whether it could be used now. No mail is sent."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relay import assembly
from relay.cli import absent, door, exits, providers
from relay.cli.exits import Stop
from relay.cli.verbs import common, mail
from relay.cli.verbs.common import Options
from relay.config import Config, ProviderConfig
from relay.transports import auto
from relay.transports.base import ALONE, LATER, Check
from relay.transports.capture import CaptureSettings
from relay.transports.smtp import SmtpSettings
from relay.transports.smtp.probing import NO_LOGIN, NO_TLS

LIMIT = 60.0
"""Seconds that the test of all providers takes at most."""
_NO_ADDRESS = re.compile(r"(?<=\w)\[unknown\](?=:[0-9])")  # of a host whose address nobody learnt
_BLOTTED = 8  # characters; a shorter secret could be a part of any word

Json = dict[str, object]


def listing(options: Options) -> int:
    """Print every configured provider, or those that are named."""
    settings = _configuration(options, "list")
    names = _chosen(options, settings)
    status = _status(settings)
    shown = [_provider(settings, name, settings.providers[name], status) for name in names]
    if common.as_json(options):
        for item in shown:
            common.print_json(item)
    else:
        common.lines(providers.listing(shown, time.time(), common.paint()))
    return exits.OK


def test(options: Options) -> int:
    """Ask each provider, or those that are named, whether it could be used: 69 where one could not, 75 where one took too long or
    could not tell now."""
    settings = _configuration(options, "test")
    names = _chosen(options, settings)
    missing = absent.secrets(settings, names, _file(options), os.environ)
    found, late = asyncio.run(_asked(settings, names, missing))
    secrets = [secret for secret in settings.secrets() if len(secret) >= _BLOTTED]
    shown = [_check(name, check, secrets) for name in names for check in found[name]]
    if common.as_json(options):
        for item in shown:
            common.print_json(item)
    else:
        common.lines(providers.checks(shown))
    if any(item["ok"] is False for item in shown):
        return exits.UNAVAILABLE
    return exits.TRY_LATER if late or any(str(item["mend"]).startswith(LATER) for item in shown) else exits.OK


def _configuration(options: Options, verb: str) -> Config:
    """The configuration that is meant; secrets that cannot be had are stand-ins."""
    settings = mail.configuration(options)
    if settings is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name one: relay provider {verb} -c FILE")
    return settings


def _chosen(options: Options, settings: Config) -> list[str]:
    """The providers that were named, or all. Raises Stop for one that there is not."""
    names = list(dict.fromkeys(options.names)) or list(settings.providers)
    for name in names:
        if name not in settings.providers:
            raise Stop(exits.USAGE, _unknown(name, settings.providers))
    return names


def _file(options: Options) -> Path | None:
    """The file that the configuration was read from; None for the development set-up."""
    return None if common.development(options) else door.config_file(getattr(options, "config", None), os.environ)


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    mend = f'did you mean "{near[0]}"?' if near else f"configured: {', '.join(known)}"
    return f'no provider is named "{name}"; {mend}'


# What is configured.


_NEW: Json = {"state": "new", "reason": "the daemon does not know it yet: relay reload", "mend": "", "since": None, "until": None}
_NEW |= {"waiting": 0, "active": 0, "by_admin": False, "suspect": "", "usage": []}


def _provider(settings: Config, name: str, provider: ProviderConfig, status: Any) -> Json:
    """What is shown of one provider; what only a daemon knows (`status`) is None where none can be asked."""
    its = None if status is None else next((one for one in status["providers"] if one["name"] == name), _NEW)
    return {
        "name": name,
        "type": provider.type,
        "mode": getattr(provider, "mode", provider.type),
        "no_smtp": assembly.why_no_smtp(provider),
        "no_delivery": assembly.no_delivery(provider),
        "ways": _ways(assembly.transport_settings(name, provider, settings)),
        "on_loss": getattr(provider, "on_loss", None),
        "unknown_outcome": getattr(provider, "unknown_outcome", None),
        "routes": [route.name for route in settings.route_table() if name in route.via],
        "bounces": settings.bounce.via == name,
        **{key: its and its[key] for key in _NEW},
        "ramps": status and [ramp for ramp in status["ramps"] if name in ramp["shares"]],
        "shadows": status and [shadow for shadow in status["shadows"] if shadow["provider"] == name],
    }


def _ways(settings: assembly.TransportSettings | assembly.AutoSettings) -> list[Json]:
    """How a provider is spoken to: by its API, by SMTP, or by both."""
    if isinstance(settings, assembly.AutoSettings):
        connections = auto.connections(settings.api.concurrency, settings.smtp.concurrency)
        return [*_ways(settings.api), *_ways(replace(settings.smtp, concurrency=connections))]
    batching = getattr(settings, "batching", ALONE)
    by, urls, tls = _where(settings)
    return [
        {
            "by": by,
            "urls": urls,
            "tls": tls,
            "concurrency": settings.concurrency,
            "size": getattr(settings, "max_size", 0),
            "batch": {"max": batching.jobs, "wait": batching.wait},
        }
    ]


def _where(settings: assembly.TransportSettings) -> tuple[str, list[str], str]:
    """(api, smtp or capture; where that is; https, starttls, implicit or none)"""
    match settings:
        case CaptureSettings():
            return "capture", [str(settings.directory)], "none"
        case SmtpSettings():
            return "smtp", [f"{settings.host}:{settings.port}"], settings.tls
        case _:
            urls = _urls(settings)
            return "api", urls, "https" if all(url.startswith("https:") for url in urls) else "none"


def _urls(settings: object) -> list[str]:
    """Where the requests of an API go: its settings say `urls` where these are several, `url` where it is made of others."""
    found = next(found for name in ("urls", "url", "base_url") if (found := getattr(settings, name, None)))
    return [found] if isinstance(found, str) else list(found)


def _status(settings: Config) -> Json | None:
    """What the running daemon says of itself; None where none runs, or it may not be asked."""
    for address in settings.admin.listen:
        live = door.Live(address)
        try:
            if live.reachable():
                return door.Admin(live).get("/api/v1/status")
        except Stop as stop:
            print(f"relay: how the providers fare is not known: {stop}", file=sys.stderr)
            return None
    print(
        f"relay: the daemon is not running (cannot reach {' or '.join(settings.admin.listen)}): how the providers fare is not known",
        file=sys.stderr,
    )
    return None


# Whether they could be used.


async def _asked(
    settings: Config, names: Sequence[str], missing: Mapping[str, Sequence[Check]]
) -> tuple[Mapping[str, Sequence[Check]], bool]:
    """What was found of each provider, all asked at once, and whether one took too long. One whose secrets are `missing` is not."""
    tasks = {name: asyncio.create_task(_probed(settings, name, missing.get(name, ()))) for name in names}
    _, late = await asyncio.wait(tasks.values(), timeout=LIMIT)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    too_long = [Check("time", None, f"not done within {LIMIT:.0f} s")]
    return {name: too_long if task in late else task.result() for name, task in tasks.items()}, bool(late)


async def _probed(settings: Config, name: str, missing: Sequence[Check]) -> Sequence[Check]:
    if missing:
        return missing
    transport = assembly.transport_for(name, settings.providers[name], settings)
    try:
        return await transport.probe()
    finally:
        await transport.aclose()


def _check(name: str, check: Check, secrets: Sequence[str]) -> Json:
    return {
        "provider": name,
        "check": check.what,
        "ok": check.ok,
        "configured": check.text not in (NO_LOGIN, NO_TLS),
        "text": _blotted(_tidy(check.text), secrets),
        "mend": _blotted(check.mend, secrets),
    }


def _tidy(text: str) -> str:
    """Without a placeholder for what is not known, and without a colon that nothing follows."""
    return _NO_ADDRESS.sub("", text).removesuffix(":")


def _blotted(text: str, secrets: Sequence[str]) -> str:
    """Without a secret, whoever quoted it."""
    for secret in secrets:
        text = text.replace(secret, "[secret]")
    return text
