"""What is allowed in routes and may surprise: mail that leaves by another door than its route names, or waits or vanishes where
nobody expects it, and keys that do nothing.

Asked for only where there are no mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from relay import address, ramps, routing
from relay.config import amounts, covering, kinds, modes, routes, surprises
from relay.config.build import Draft, Part
from relay.config.model import ListenConfig
from relay.config.problems import Loc, Report
from relay.config.providers import CaptureProvider, LowCodeProvider, PauboxProvider, ProviderConfig
from relay.config.rules import MatchConfig, NotConfig, RampConfig, RouteConfig

_LONG_AHEAD = 366 * 86400.0  # seconds
_WILD = re.compile(r"[*?]|\[!?\]?[^\]]*\]")


def warn(draft: Draft, report: Report, now: float) -> None:
    """All of it. `now` is in Unix seconds."""
    providers = {name: part.value for name, part in draft.providers.items() if part}
    for part in draft.routes:
        for found in (_shares(part.value, now), _guard(part.value), _shadow(part.value, providers), _not_used(part.value)):
            for keys, text, *mend in found:
                report.warn((*part.loc, *keys), text, *mend)
        _match(part, draft, report)
        _patients(part, providers, report)
        _too_small(part, draft, providers, report)
        _carries_nothing(part, providers, report)
    _no_delivery(draft, providers, report)
    _bounces(draft, report)
    _used(draft, report)
    _larger_than_all(draft, providers, report)


Found = tuple[Loc, str] | tuple[Loc, str, str]
"""Where in a route, what is worth knowing, and perhaps the mend."""


def _shares(route: RouteConfig, now: float) -> Iterator[Found]:
    some = [name for name, weight in route.split.items() if weight]
    if route.split and len(some) == 1:
        text = f'"{some[0]}" is the only provider of this split that has a weight: it gets all mail'
        yield ("split",), text, f"write via: {some[0]}"
    if route.ramp:
        yield from _ramp(route.ramp, now)


def _ramp(ramp: RampConfig, now: float) -> Iterator[Found]:
    at_last = {name: last for name, (_, last) in ramp.shares.items() if last}
    written = f"via: {next(iter(at_last))}" if len(at_last) == 1 else f"split: {_flow(at_last)}"
    made = ramps.Ramp(ramp.from_, ramp.over, tuple((name, *pair) for name, pair in ramp.shares.items()))
    if not made.newcomers:
        yield ("ramp",), "no share changes on this ramp", f"write {written}"
    elif now >= ramp.from_ + ramp.over:
        text = f"this ramp was over on {amounts.written_moment(ramp.from_ + ramp.over)}"
        yield ("ramp",), text, f"write {written}, unless it stepped back and still goes on"
    elif ramp.from_ > now + _LONG_AHEAD:
        yield ("ramp", "from"), f"this ramp begins on {amounts.written_moment(ramp.from_)} only", "look at the year"


def _flow(shares: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {amounts.written_number(share)}" for name, share in shares.items()) + "}"


def _guard(route: RouteConfig) -> Iterator[Found]:
    redirect, allowed = route.redirect, route.allow_recipients
    if any(covering.glob_covers(glob, "*@*") for glob in allowed):
        yield ("allow_recipients",), "lets mail out to everybody: this guards nothing", "name the recipients of your own"
        return
    for index, glob in enumerate(allowed):
        if beyond := _beyond(glob):
            yield ("allow_recipients", index), f'"{glob}" lets mail out to {beyond}, too', "write whole domains: *@example.com"
    if redirect and allowed and not any(covering.glob_covers(glob, redirect) for glob in allowed):
        text = f"{redirect} is none of allow_recipients itself, and gets the mail of all others"
        yield ("redirect",), text, "look whether it is the address you mean"


def _beyond(glob: str) -> str:
    """Somebody elsewhere to whom a glob lets mail out, because it leaves the end of the domain, or the @, to a wildcard; "" where it
    does not, or where no example is found."""
    *_, tail = _WILD.split(glob)
    if "@" in tail or tail == glob or (tail.startswith(".") and tail.count(".") > 1):
        return ""
    begin = _WILD.sub("u", glob[: len(glob) - len(tail)].rstrip("*"))
    guesses = (f"u@not{tail}", f"u@other{tail}") if tail else (f"{begin}@example.net", f"{begin}example.net", f"{begin}.example.net")
    found = (one for one in guesses if routing.matches(glob, one) and address.valid(one))
    return next(found, "others than one might think")


def _shadow(route: RouteConfig, providers: Mapping[str, ProviderConfig]) -> Iterator[Found]:
    if route.shadow is None:
        return
    name, provider = route.shadow, providers[route.shadow]
    own = [other for other in routes.providers_of(route) if isinstance(providers[other], PauboxProvider)]
    why = modes.no_delivery(provider)
    if not why or isinstance(provider, CaptureProvider):
        return  # messages are only built for it, or stay on this host
    if own:
        text = (
            f'"{name}" {why}; but every message of this route leaves for it, whole: what {own[0]} keeps of patients is then kept there too'
        )
        yield ("shadow",), text, "name a provider that delivers: then messages are only built for it"
    else:
        yield ("shadow",), f'"{name}" {why}; every message of this route leaves for it too, whole'


def _not_used(route: RouteConfig) -> Iterator[Found]:
    if route.patience != routing.PATIENCE and not (route.via[1:] or route.fallback):
        yield ("patience",), "not used: there is no other provider to try after it", "add fallback: …"
    if route.sticky != "recipient" and not (route.split or route.ramp):
        yield ("sticky",), "not used: nothing is split here"
    if route.overflow == "spill" and len(routes.providers_of(route)) < 2:
        yield ("overflow",), "there is no other provider here to spill over to", "add fallback: …"
    elif route.overflow == "spill" and not route.via and not route.fallback:
        shown = "split" if route.split else "ramp"
        yield ("overflow",), f"a {shown} spills over to its fallback, and there is none", "add fallback: …"


def _match(part: Part[RouteConfig], draft: Draft, report: Report) -> None:
    match = part.value.match
    _conditions(match, (*part.loc, "match"), match, draft, report)
    if match.not_ is not None:
        _conditions(match.not_, (*part.loc, "match", "not"), match, draft, report)


def _conditions(match: NotConfig, loc: Loc, whole: MatchConfig, draft: Draft, report: Report) -> None:
    """Conditions that no listener lets come true."""
    listeners = [listener.value for listener in draft.listen if not whole.listener or listener.value.name in whole.listener]
    where = f"listener {', '.join(listener.name for listener in listeners)}" if whole.listener else "any listener"
    if match.directive and not any(listener.controls for listener in listeners):
        report.warn(
            (*loc, "directive"), f"never holds: no control headers are obeyed at {where}", "name the dialects: controls: [relay], say"
        )
    if match.user and not any(listener.auth for listener in listeners):
        report.warn((*loc, "user"), f"never holds: nobody logs in at {where}", "add auth: to the listener")
    largest = max((listener.max_size for listener in listeners), default=0)
    if match.larger is not None and match.larger >= largest:
        report.warn((*loc, "larger"), f"never holds: no larger message than {kinds.written_size(largest)} is taken at {where} (max_size)")


def _patients(part: Part[RouteConfig], providers: Mapping[str, ProviderConfig], report: Report) -> None:
    """Mail that goes to Paubox because it is of patients, and by a failover to those who never promised to keep it."""
    own = routes.providers_of(part.value)
    paubox = next((name for name in own if isinstance(providers[name], PauboxProvider)), "")
    if not paubox:
        return
    for name in own:
        if isinstance(providers[name], LowCodeProvider):
            text = f'"{paubox}" and "{name}" in one route: mail of patients would go through LowCodeAPI too'
            report.warn(part.loc, text, "give each a route of its own")
    capture = part.value.capture
    if capture and not isinstance(providers[capture], CaptureProvider):
        text = f'"{capture}" keeps what it gets: mail of this route, which is for "{paubox}", is then kept there'
        report.warn((*part.loc, "capture"), text, "name a provider of type capture")


def _too_small(part: Part[RouteConfig], draft: Draft, providers: Mapping[str, ProviderConfig], report: Report) -> None:
    """Shares of mail that their provider cannot carry, where nobody else is asked to."""
    route = part.value
    if not (route.split or route.ramp):
        return
    taken = max(listener.value.max_size for listener in draft.listen)
    most = taken if route.match.smaller is None else min(taken, route.match.smaller)
    behind = [surprises.largest(providers[name]) for name in route.fallback]
    if any(size is None or size >= most for size in behind):
        return
    for name in routes.chosen(route):
        size = surprises.largest(providers[name])
        if size is not None and size < most:
            carried, taken_here = kinds.written_size(size), kinds.written_size(most)
            text = f'"{name}" carries {carried} at most, and messages here may have {taken_here}: larger ones come back'
            key = "split" if route.split else "ramp"
            report.warn((*part.loc, key, name), text, "add a fallback that carries them, or a route for them: match: {larger: …}")


def _carries_nothing(part: Part[RouteConfig], providers: Mapping[str, ProviderConfig], report: Report) -> None:
    """Providers that are to step in, and never can: they take nothing as large as all that the route takes."""
    route, larger = part.value, part.value.match.larger
    for key, names in (("via", route.via), ("fallback", route.fallback)) if larger is not None else ():
        for index, name in enumerate(names):
            size = surprises.largest(providers[name])
            if size is not None and larger is not None and size <= larger:
                taken, least = kinds.written_size(size), kinds.written_size(larger)
                text = f'"{name}" carries nothing of this route: it takes {taken} at most, and all mail here is larger than {least}'
                report.warn((*part.loc, key, index), text, "name a provider that carries larger mail, or remove it")


def _no_delivery(draft: Draft, providers: Mapping[str, ProviderConfig], report: Report) -> None:
    """Providers that take mail and deliver it to nobody: where the only one is, somebody tries something out; beside others that
    deliver, mail would be lost as if it had been sent, or trials would reach people."""
    carriers = [(route.loc, routes.providers_of(route.value)) for route in draft.routes] or [(("providers",), tuple(draft.providers))]
    if via := draft.bounce.value.via:
        carriers.append((("bounce", "via"), (via,)))
    for loc, names in carriers:
        nowhere = {name: why for name in names if (why := modes.no_delivery(providers[name]))}
        for index, name in enumerate(names):
            if name not in nowhere:
                continue
            before, behind = (
                next((other for other in others if other not in nowhere), "") for others in (names[:index], names[index + 1 :])
            )
            text = f'"{name}" {nowhere[name]}'
            if before:
                text += f'; it stands behind "{before}": the first failover would put real mail there, and nobody would be told'
            elif behind:
                text += f'; "{behind}" behind it delivers: the first failover would send it to real people'
            report.warn(loc, text, "give it a route of its own" if before or behind else "")


def _bounces(draft: Draft, report: Report) -> None:
    """A bounce carries the original's header, or all of it: what a route keeps from other providers leaves by one of them."""
    via = draft.bounce.value.via
    around = [route.value.name for route in draft.routes if via not in (*routes.providers_of(route.value), route.value.capture)]
    if via and around:
        named = f'"{via}" is no provider of {", ".join(around)}'
        report.warn(("bounce", "via"), f"{named}: bounces of their mail, with its header, leave by it")


def _used(draft: Draft, report: Report) -> None:
    used = {name for route in draft.routes for name in (*_named(route.value), route.value.capture, route.value.shadow)} or set(
        draft.providers
    )
    for name in draft.providers:
        if name not in used and name != draft.bounce.value.via:
            report.warn(("providers", name), "no route uses this provider")


def _named(route: RouteConfig) -> tuple[str, ...]:
    return (*route.via, *route.split, *(route.ramp.shares if route.ramp else ()), *route.fallback)


def _larger_than_all(draft: Draft, providers: Mapping[str, ProviderConfig], report: Report) -> None:
    """A listener that was told to take what no provider carries."""
    sizes = [surprises.largest(provider) for provider in providers.values()]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return
    most = max(known)
    usual = ListenConfig.model_fields["max_size"].default
    for part in draft.listen:
        if kinds.written_size(part.value.max_size) != usual and part.value.max_size > most:
            text = f"no provider carries more than {kinds.written_size(most)}: what is larger is taken, and comes back to its sender"
            report.warn((*part.loc, "max_size"), text, f"write max_size: {kinds.written_size(most)}, and clients are told at once")
