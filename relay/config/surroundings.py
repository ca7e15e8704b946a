"""What the configuration names outside of itself, looked at where mail is to be sent: certificates, users, the spool's
directory, and what must be installed.

Everything found goes to the report, at the key that names it.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
import sys
from pathlib import Path

from relay import certificates, routing, users
from relay.config.build import Draft, Part
from relay.config.model import ListenConfig
from relay.config.problems import Loc, Report, did_you_mean
from relay.config.providers import SesProvider


def check(draft: Draft, report: Report, now: float) -> None:
    """All of it. `now` is in Unix seconds."""
    known: set[str] = set()
    for listener in draft.listen:
        _certificate(listener, report, now)
        known |= _users(listener, report)
    if known:
        _nobody(known, draft, report)
    for provider in filter(None, draft.providers.values()):
        if isinstance(provider.value, SesProvider):
            _aws(provider.loc, provider.bad, provider.value, report)
        if (file := getattr(provider.value, "ca_file", None)) and (why := _not_trusted(file)):
            report.add((*provider.loc, "ca_file"), *why)
    spool = draft.queue.value.spool
    if "spool" not in draft.queue.bad and (file := _in_the_way(spool)):
        report.add(("queue", "spool"), f"{file} is not a directory", "name a directory; relay makes one that is not there")


def _certificate(part: Part[ListenConfig], report: Report, now: float) -> None:
    listener = part.value
    if listener.cert is None or listener.key is None or listener.tls == "off":
        return
    errors, warnings = certificates.problems(listener.cert, listener.key, now)
    for text in errors:
        report.add((*part.loc, "cert"), text)
    for text in warnings:
        report.warn((*part.loc, "cert"), text)


def _users(part: Part[ListenConfig], report: Report) -> frozenset[str]:
    """All that logins at a listener are known by."""
    if part.value.auth is None:
        return frozenset()
    try:
        return users.Users(part.value.auth).identities
    except users.UsersError as error:
        report.add((*part.loc, "auth"), str(error))
        return frozenset()


def _nobody(known: set[str], draft: Draft, report: Report) -> None:
    """Users that are named and are in no file. A file may get them later: a warning."""
    for name in draft.senders.value.users:
        if name not in known:
            mend = did_you_mean(name, known) or f"relay passwd {name}"
            report.warn(("senders", "users", name), "not used: no listener has a user of this name", mend)
    for part in draft.routes:
        for index, glob in enumerate(part.value.match.user):
            if not any(routing.matches(glob, name) for name in known):
                report.warn((*part.loc, "match", "user", index), f'"{glob}" fits no user of any listener', did_you_mean(glob, known))


def _aws(loc: Loc, bad: frozenset[str], provider: SesProvider, report: Report) -> None:
    """Keys that are not in the file come by way of botocore."""
    given = {"access_key_id", "secret_access_key"} & (provider.model_fields_set | bad)
    if provider.mode != "smtp" and not given and importlib.util.find_spec("botocore") is None:
        report.add(
            (*loc, "access_key_id"),
            "without keys here they are looked for with botocore, which is not installed",
            f"{sys.executable} -m pip install botocore, or give access_key_id and secret_access_key",
        )


def _not_trusted(file: Path) -> tuple[str, str] | None:
    """Why a file of certificates cannot be loaded, and the mend."""
    try:
        if file.exists() and not file.is_file():  # a FIFO would be waited for
            return f"{file} is not a regular file", "name a file of certificates in PEM form"
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        return f"{file} holds no certificates that can be loaded", 'name a file in PEM form: "-----BEGIN CERTIFICATE-----"'
    except OSError as error:
        return f"cannot read {file}: {error.strerror}", "correct the path, or remove ca_file to trust the system's authorities"
    return None


def _in_the_way(directory: Path) -> Path | None:
    """What is there under the name of a directory, or of one above it, and is none."""
    return next((path for path in (directory, *directory.parents) if os.path.exists(path) and not os.path.isdir(path)), None)
