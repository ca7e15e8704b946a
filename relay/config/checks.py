"""What must hold between keys and between sections of the configuration.

Runs on a draft, so that a mistake in one place does not hide those in others: keys already reported are not judged
again. Everything found goes to the report. One listener is judged in relay/config/doors.py, one provider in
relay/config/accounts.py and relay/config/surprises.py, routes in relay/config/routes.py and relay/config/detours.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay import routing
from relay.config import accounts, covering, detours, doors, routes, surprises
from relay.config.build import Draft, Part
from relay.config.problems import Loc, Report
from relay.config.providers import ProviderConfig
from relay.transports import net


def check(draft: Draft, report: Report) -> None:
    """All checks."""
    _listeners(draft, report)
    for part in filter(None, draft.providers.values()):
        accounts.check(part, report)
        _loop(part, draft, report)
    _shared_budgets(draft, report)
    _queue(draft, report)
    routes.check(draft, report)
    _bounce(draft, report)


def warn(draft: Draft, report: Report, now: float) -> None:
    """What is allowed and may surprise; asked for only when there are no mistakes. `now` is in Unix seconds."""
    for listener in draft.listen:
        doors.warn(listener, report)
    for provider in filter(None, draft.providers.values()):
        surprises.warn(provider.loc, provider.value, report)
    detours.warn(draft, report, now)
    _warn_of_senders(draft, report)
    bounce, expire = draft.bounce.value, draft.queue.value.expire
    if "delay_warning" in bounce.model_fields_set and bounce.delay_warning >= expire:
        report.warn(("bounce", "delay_warning"), "not before queue.expire: nobody will be told of a delay")


def _warn_of_senders(draft: Draft, report: Report) -> None:
    senders = draft.senders.value
    if senders.users and not any(listener.value.auth for listener in draft.listen):
        report.warn(("senders", "users"), "not used: no listener has users who log in", "add auth: to a listener")
    earlier: list[str] = []
    for glob, instead in senders.rewrite.items():
        if wider := next((other for other in earlier if covering.glob_covers(other, glob)), ""):
            report.warn(("senders", "rewrite", glob), f'never used: "{wider}" above it takes all that it would', "move it up")
        earlier.append(glob)
        if senders.allow and not any(routing.matches(allowed, instead) for allowed in senders.allow):
            report.warn(
                ("senders", "rewrite", glob), f"{instead} is none of senders.allow: mail leaves with a sender that apps may not use"
            )


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
    for part in draft.listen:
        doors.check(part, report)
    _repeated(
        (((*part.loc, "name"), part.value.name) for part in draft.listen if "name" not in part.bad),
        report,
        "is the name of another listener",
    )
    listening = [((*part.loc, "address"), part.value.address) for part in draft.listen if "address" not in part.bad]
    if "listen" not in draft.admin.bad:
        listening += [(("admin", "listen", index), address) for index, address in enumerate(draft.admin.value.listen)]
    taken = [(loc, address) for loc, address in listening if not address.endswith(":0")]
    _repeated(iter(taken), report, "is listened on twice")
    everywhere = {address for _, address in taken if doors.is_wildcard(address)}
    for loc, address in taken:
        wider = doors.wildcard_of(address)
        if wider in everywhere and address != wider:
            report.add(loc, f'"{address}" is listened on by "{wider}" already', "remove it")


def _loop(part: Part[ProviderConfig], draft: Draft, report: Report) -> None:
    """A provider that leads back to one of relay's own listeners."""
    host, port = getattr(part.value, "host", None), getattr(part.value, "port", 0)
    if host is None or part.bad & {"host", "port", "tls"}:
        return
    hosts = ("127.0.0.1", "[::1]") if host.lower() == "localhost" else (f"[{host}]" if ":" in host else host,)
    ours = {part.value.address: part.value.name for part in draft.listen if "address" not in part.bad}
    addresses = [f"{host}:{port}" for host in hosts]
    if net.is_loopback(host):
        addresses += [doors.wildcard_of(address) for address in addresses]
    name = next((ours[address] for address in addresses if address in ours), None)
    if name is not None:
        report.add(
            (*part.loc, "host"),
            f'this is relay itself: its listener "{name}" is there',
            "name the smarthost, or let relay listen elsewhere",
        )


def _shared_budgets(draft: Draft, report: Report) -> None:
    """Who spends another provider's budget: one that is there, and has a budget of its own."""
    for part in filter(None, draft.providers.values()):
        limits = getattr(part.value, "limits", None)
        if limits is None or limits.shared_with is None or "limits" in part.bad:
            continue
        loc, name = (*part.loc, "limits", "shared_with"), limits.shared_with
        if name not in draft.providers:
            routes.no_such_provider(name, loc, draft, report)
            continue
        other = draft.providers[name]
        theirs = getattr(other.value, "limits", None) if other else limits
        if name == part.loc[-1]:
            report.add(loc, "it is the provider itself", "name the other provider of the account, or remove it")
        elif theirs is None:
            report.add(loc, f'"{name}" has no budget: its mail is kept on this host', "name the other provider of the account")
        elif theirs is not limits and theirs.shared_with is not None:
            report.add(loc, f'"{name}" itself spends the budget of "{theirs.shared_with}"', f"write shared_with: {theirs.shared_with}")
        for key in sorted(limits.model_fields_set & {"rate", "daily", "monthly", "count"}):
            report.add((*part.loc, "limits", key), f'the budget is that of "{name}" (shared_with)', "remove it", at_key=True)


def _queue(draft: Draft, report: Report) -> None:
    queue, bad = draft.queue.value, draft.queue.bad
    if not bad & {"retry", "expire"} and queue.expire < queue.retry[0]:
        report.add(("queue", "expire"), "a message would expire before its first retry", "make it longer than the first item of retry")
    if not bad & {"keep_bodies", "keep_history"} and queue.keep_bodies > queue.keep_history:
        report.add(("queue", "keep_bodies"), "longer than keep_history: without its history a kept text cannot be found")


def _bounce(draft: Draft, report: Report) -> None:
    bounce, bad = draft.bounce.value, draft.bounce.bad
    if bounce.to == "postmaster" and bounce.postmaster is None and not bad & {"to", "postmaster"}:
        report.add(("bounce", "to"), "no postmaster is named", "add postmaster: postmaster@example.com")
    if bounce.alerts and bounce.postmaster is None and not bad & {"alerts", "postmaster"}:
        report.add(("bounce", "alerts"), "no postmaster is named", "add postmaster: postmaster@example.com")
    if bounce.via is not None and bounce.via not in draft.providers and "via" not in bad:
        routes.no_such_provider(bounce.via, ("bounce", "via"), draft, report)
