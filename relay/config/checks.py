"""What must hold between keys and between sections of the configuration.

Runs on a draft, so that a mistake in one place does not hide those in others: keys already reported are not judged
again. Everything found goes to the report.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from relay.config.build import Draft, Part
from relay.config.model import CaptureProvider, MatchConfig, RouteConfig, SmtpProvider
from relay.config.problems import Loc, Report, did_you_mean
from relay.transports import net


def check(draft: Draft, report: Report) -> None:
    """All checks."""
    _listeners(draft, report)
    for part in draft.providers.values():
        if part and isinstance(part.value, SmtpProvider):
            _login(part.loc, part.bad, part.value, report)
            _loop(part.loc, part.bad, part.value, draft, report)
    _queue(draft, report)
    _routes(draft, report)


def warn(draft: Draft, report: Report) -> None:
    """What is allowed and may surprise; asked for only when there are no mistakes."""
    used = {name for route in draft.routes for name in route.value.via} or set(draft.providers)
    for name, part in draft.providers.items():
        if name not in used:
            report.warn(("providers", name), "no route uses this provider")
        if part and isinstance(part.value, SmtpProvider) and (part.value.port, part.value.tls) == (465, "starttls"):
            report.warn((*part.loc, "port"), "465 is implicit TLS", "tls: implicit")
        if part and isinstance(part.value, SmtpProvider) and part.value.tls == "none" and not net.is_loopback(part.value.host):
            report.warn((*part.loc, "tls"), "mail goes to this smarthost in clear")
    for loc, via in [(route.loc, route.value.via) for route in draft.routes] or [(("providers",), tuple(draft.providers))]:
        for name in via:
            part = draft.providers[name]
            if part and isinstance(part.value, CaptureProvider):
                report.warn(loc, f'"{name}" is of type capture: what goes there does not leave this host')


def warn_of_hostname(hostname: str, draft: Draft, report: Report) -> None:
    """A name without a domain is known to nobody outside; other mail hosts may refuse what bears it."""
    if "." not in hostname:
        leave = "" if draft.bounce.value.sender else f"; bounces leave as mailer-daemon@{hostname}"
        report.warn(("hostname",), f"the name of this host has no domain: {hostname}{leave}", "set hostname: relay.example.com")


def _repeated(items: Iterator[tuple[Loc, str]], report: Report, text: str) -> None:
    seen: dict[str, Loc] = {}
    for loc, word in items:
        if word in seen:
            first = report.places.get(seen[word])
            report.add(loc, f'"{word}" {text}', f"first on line {first.value.line + 1}" if first else "")
        else:
            seen[word] = loc


def _listeners(draft: Draft, report: Report) -> None:
    _repeated(
        (((*part.loc, "name"), part.value.name) for part in draft.listen if "name" not in part.bad),
        report,
        "is the name of another listener",
    )
    listening = [((*part.loc, "address"), part.value.address) for part in draft.listen if "address" not in part.bad]
    if "listen" not in draft.admin.bad:
        listening += [(("admin", "listen", index), address) for index, address in enumerate(draft.admin.value.listen)]
    taken = ((loc, address) for loc, address in listening if not address.endswith(":0"))
    _repeated(taken, report, "is listened on twice")


def _login(loc: Loc, bad: frozenset[str], provider: SmtpProvider, report: Report) -> None:
    if provider.username is not None and provider.password is None and "password" not in bad:
        report.add((*loc, "username"), "a username needs a password", 'add password: "${cred:smarthost}"', at_key=True)
    if provider.password is not None and provider.username is None and "username" not in bad:
        report.add((*loc, "password"), "a password needs a username", "add username: relay", at_key=True)
    given = provider.username is not None or provider.password is not None
    if given and provider.tls == "none" and not bad & {"tls", "host"} and not net.is_loopback(provider.host):
        report.add((*loc, "tls"), f"the password would go to {provider.host} in clear", "tls: starttls or tls: implicit")


def _loop(loc: Loc, bad: frozenset[str], provider: SmtpProvider, draft: Draft, report: Report) -> None:
    """A provider that leads back to one of relay's own listeners."""
    hosts = ("127.0.0.1", "[::1]") if provider.host.lower() == "localhost" else (provider.host, f"[{provider.host}]")
    ours = {part.value.address: part.value.name for part in draft.listen if "address" not in part.bad}
    name = next((ours[address] for host in hosts if (address := f"{host}:{provider.port}") in ours), None)
    if name is not None and not bad & {"host", "port", "tls"}:
        report.add(
            (*loc, "host"), f'this is relay itself: its listener "{name}" is there', "name the smarthost, or let relay listen elsewhere"
        )


def _queue(draft: Draft, report: Report) -> None:
    queue, bad = draft.queue.value, draft.queue.bad
    if "spool" not in bad and (file := _in_the_way(queue.spool)):
        report.add(("queue", "spool"), f"{file} is not a directory", "name a directory; relay makes one that is not there")
    if not bad & {"retry", "expire"} and queue.expire < queue.retry[0]:
        report.add(("queue", "expire"), "a message would expire before its first retry", "make it longer than the first item of retry")
    if not bad & {"keep_bodies", "keep_history"} and queue.keep_bodies > queue.keep_history:
        report.add(("queue", "keep_bodies"), "longer than keep_history: without its history a kept text cannot be found")


def _in_the_way(directory: Path) -> Path | None:
    """What is there under the name of a directory, or of one above it, and is none."""
    return next((path for path in (directory, *directory.parents) if os.path.exists(path) and not os.path.isdir(path)), None)


def _routes(draft: Draft, report: Report) -> None:
    if not draft.routes:
        if len(draft.providers) > 1 and ("routes",) not in report.silenced:
            first = next(iter(draft.providers))
            mend = f"add routes: [{{name: default, via: {first}}}]"
            report.add(("providers",), "several providers and no routes: which one carries the mail?", mend, at_key=True)
        return
    _repeated(
        (((*part.loc, "name"), part.value.name) for part in draft.routes if "name" not in part.bad),
        report,
        "is the name of another route",
    )
    listeners = [part.value.name for part in draft.listen]
    for part in draft.routes:
        _route(part, draft, listeners, report)
    _reachable(draft.routes, report)


def _route(part: Part[RouteConfig], draft: Draft, listeners: list[str], report: Report) -> None:
    if "via" not in part.bad:
        for index, name in enumerate(part.value.via):
            if name not in draft.providers:
                known = f"known: {', '.join(draft.providers)}" if draft.providers else ""
                report.add((*part.loc, "via", index), f'no provider is named "{name}"', did_you_mean(name, draft.providers) or known)
            if name in part.value.via[:index]:
                report.add((*part.loc, "via", index), f'"{name}" is named twice')
    if "match" not in part.bad and not any("name" in listener.bad for listener in draft.listen):
        for index, name in enumerate(part.value.match.listener):
            if name not in listeners:
                mend = did_you_mean(name, listeners) or f"known: {', '.join(listeners)}"
                report.add((*part.loc, "match", "listener", index), f'no listener is named "{name}"', mend)


def _reachable(routes: tuple[Part[RouteConfig], ...], report: Report) -> None:
    everything = MatchConfig()
    seen: list[MatchConfig] = []
    for index, part in enumerate(routes):
        match = part.value.match
        if "match" in part.bad:
            continue
        if match == everything and index < len(routes) - 1:
            report.add(part.loc, "this route matches everything, so the routes after it never run", "move it to the end")
        elif match != everything and match in seen:
            report.add((*part.loc, "match"), "an earlier route has the same match, so this one never runs", at_key=True)
        seen.append(match)
    last = routes[-1]
    if "match" not in last.bad and last.value.match != everything and everything not in seen:
        text = "no route takes the rest: mail that matches no route could go nowhere"
        report.add(last.loc, text, f"add a last route without match: - {{name: default, via: {last.value.via[0]}}}")
