"""What must hold between keys and between sections of the configuration.

Runs on a draft, so that a mistake in one place does not hide those in others: keys already reported are not judged
again. Everything found goes to the report. One listener is judged in relay/config/doors.py, one provider in
relay/config/accounts.py and relay/config/surprises.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.config import accounts, doors, modes, surprises
from relay.config.build import Draft, Part
from relay.config.model import MatchConfig, RouteConfig
from relay.config.problems import Loc, Report, did_you_mean
from relay.config.providers import ProviderConfig
from relay.transports import net


def check(draft: Draft, report: Report) -> None:
    """All checks."""
    _listeners(draft, report)
    for part in filter(None, draft.providers.values()):
        accounts.check(part, report)
        _loop(part, draft, report)
    _queue(draft, report)
    _routes(draft, report)
    _bounce(draft, report)


def warn(draft: Draft, report: Report) -> None:
    """What is allowed and may surprise; asked for only when there are no mistakes."""
    for listener in draft.listen:
        doors.warn(listener, report)
    bounce_via = draft.bounce.value.via
    used = {name for route in draft.routes for name in route.value.via} or set(draft.providers)
    for name in draft.providers:
        if name not in used and name != bounce_via:
            report.warn(("providers", name), "no route uses this provider")
    for provider in filter(None, draft.providers.values()):
        surprises.warn(provider.loc, provider.value, report)
    carriers = [(route.loc, route.value.via) for route in draft.routes] or [(("providers",), tuple(draft.providers))]
    if bounce_via:
        carriers.append((("bounce", "via"), (bounce_via,)))
    for loc, via in carriers:
        _warn_of_no_delivery(loc, via, draft, report)
    _warn_of_another_door(draft, report)
    bounce, expire = draft.bounce.value, draft.queue.value.expire
    if "delay_warning" in bounce.model_fields_set and bounce.delay_warning >= expire:
        report.warn(("bounce", "delay_warning"), "not before queue.expire: nobody will be told of a delay")


def _warn_of_no_delivery(loc: Loc, via: tuple[str, ...], draft: Draft, report: Report) -> None:
    """Providers that take mail and deliver it to nobody: where the only one is, somebody tries something out; beside others that
    deliver, mail would be lost as if it had been sent, or trials would reach people."""
    nowhere = {name: why for name in via if (part := draft.providers[name]) and (why := modes.no_delivery(part.value))}
    for index, name in enumerate(via):
        if name not in nowhere:
            continue
        before, behind = (next((other for other in others if other not in nowhere), "") for others in (via[:index], via[index + 1 :]))
        text = f'"{name}" {nowhere[name]}'
        if before:
            text += f'; it stands behind "{before}": the first failover would put real mail there, and nobody would be told'
        elif behind:
            text += f'; "{behind}" behind it delivers: the first failover would send it to real people'
        report.warn(loc, text, "give it a route of its own" if before or behind else "")


def _warn_of_another_door(draft: Draft, report: Report) -> None:
    """A bounce carries the original's header, or all of it: what a route keeps from other providers leaves by one of them."""
    via = draft.bounce.value.via
    around = [route.value.name for route in draft.routes if via not in route.value.via]
    if via and around:
        report.warn(
            ("bounce", "via"), f'"{via}" is not in the via of {", ".join(around)}: bounces of their mail, with its header, leave by it'
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
    if bounce.via is not None and bounce.via not in draft.providers and "via" not in bad:
        _no_such_provider(bounce.via, ("bounce", "via"), draft, report)


def _no_such_provider(name: str, loc: Loc, draft: Draft, report: Report) -> None:
    if ("providers",) in report.silenced:
        return
    known = f"known: {', '.join(draft.providers)}" if draft.providers else ""
    report.add(loc, f'no provider is named "{name}"', did_you_mean(name, draft.providers) or known)


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
                _no_such_provider(name, (*part.loc, "via", index), draft, report)
            if name in part.value.via[:index]:
                report.add((*part.loc, "via", index), f'"{name}" is named twice')
    known = ("listen",) not in report.silenced and not any("name" in listener.bad for listener in draft.listen)
    if "match" not in part.bad and known:
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
