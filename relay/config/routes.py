"""What must hold in a route, between routes, and between a route and the providers it names.

Runs on a draft: keys already reported are not judged again. What is allowed and may surprise is in relay/config/detours.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.config import covering, kinds, modes, surprises
from relay.config.build import Draft, Part
from relay.config.problems import Loc, Report, did_you_mean
from relay.config.rules import CaseConfig, MatchConfig, NotConfig, RouteConfig

WAYS = ("via", "split", "ramp")
DEFAULT = "default"
"""The name of the only route where none is configured."""


def check(draft: Draft, report: Report) -> None:
    """All mistakes of the routes, and of the tests that name them."""
    if draft.routes:
        _names(draft, report)
        for part in draft.routes:
            _Checks(part, draft, report).all()
        _reachable(draft.routes, report)
    elif len(draft.providers) > 1 and ("routes",) not in report.silenced:
        first = next(iter(draft.providers))
        mend = f"add routes: [{{name: default, via: {first}}}]"
        report.add(("providers",), "several providers and no routes: which one carries the mail?", mend, at_key=True)
    for case in draft.tests:
        _case(case, draft, report)


def no_such_provider(name: str, loc: Loc, draft: Draft, report: Report, *, at_key: bool = False) -> None:
    """Tell of a name that no provider has."""
    if ("providers",) in report.silenced:
        return
    known = f"known: {', '.join(draft.providers)}" if draft.providers else ""
    report.add(loc, f'no provider is named "{name}"', did_you_mean(name, draft.providers) or known, at_key=at_key)


def chosen(route: RouteConfig) -> tuple[str, ...]:
    """The providers that a route may choose first: of a split or ramp only those that ever have a share."""
    shares = {name: weight > 0 for name, weight in route.split.items()}
    if route.ramp:
        shares = {name: any(pair) for name, pair in route.ramp.shares.items()}
    return (*route.via, *(name for name, some in shares.items() if some))


def providers_of(route: RouteConfig) -> tuple[str, ...]:
    """All providers that deliver mail of a route, or bring it back from one that did not."""
    return tuple(dict.fromkeys((*chosen(route), *route.fallback)))


def _names(draft: Draft, report: Report) -> None:
    seen: dict[str, Loc] = {}
    for part in draft.routes:
        loc = (*part.loc, "name")
        if "name" in part.bad:
            continue
        if part.value.name in seen:
            report.add(loc, f'"{part.value.name}" is the name of another route', f"first on line {_line(seen[part.value.name], report)}")
        else:
            seen[part.value.name] = loc


def _line(loc: Loc, report: Report) -> int:
    """The line that a value stands on, or what it would stand in."""
    marks = report.places.get(loc)
    if marks is None:
        return _line(loc[:-1], report) if loc else 1
    return marks.value.line + 1


class _Checks:
    """The mistakes of one route."""

    def __init__(self, part: Part[RouteConfig], draft: Draft, report: Report) -> None:
        self._route, self._bad, self._loc = part.value, part.bad, part.loc
        self._draft = draft
        self._report = report

    def all(self) -> None:
        self._one_way()
        self._providers()
        self._fallback()
        self._shares()
        self._nobody()
        self._guard()
        self._shadow()
        if "match" not in self._bad:
            self._match(self._route.match, (*self._loc, "match"))
            if covering.impossible(self._route.match):
                self._add(("match", "not"), "leaves nothing of what the other conditions take: this route never runs")
            self._sizes()

    def _add(self, keys: Loc, text: str, mend: str = "", *, at_key: bool = False) -> None:
        self._report.add((*self._loc, *keys), text, mend, at_key=at_key)

    def _one_way(self) -> None:
        """Exactly one of via, split and ramp says which providers a route has."""
        given = [key for key in WAYS if key in self._bad or key in self._route.model_fields_set]
        for second in given[1:]:
            self._add((second,), f"{given[0]} and {second} exclude each other", f"keep one of {', '.join(given)}", at_key=True)
        if len(given) == 1 and not self._bad & set(given) and not getattr(self._route, given[0]):
            self._add((given[0],), "names no provider", "write split: {ses: 80, mailtrap: 20}, say", at_key=True)
        if not given:
            first = next(iter(self._draft.providers), "postmark")
            self._add(("via",), "missing: a route needs via, split or ramp", f"add via: {first}", at_key=True)

    def _providers(self) -> None:
        known = self._draft.providers
        for keys, name in self._named():
            if name not in known:
                no_such_provider(name, (*self._loc, *keys), self._draft, self._report, at_key=keys[0] in {"split", "ramp"})

    def _named(self) -> Iterator[tuple[Loc, str]]:
        """Every provider that the route names, and where."""
        route = self._route
        for key in ("via", "fallback"):
            yield from (((key, index), name) for index, name in enumerate(getattr(route, key)))
        yield from ((("split", name), name) for name in route.split)
        yield from ((("ramp", name), name) for name in (route.ramp.shares if route.ramp else ()))
        yield from (((key,), name) for key in ("capture", "shadow") if (name := getattr(route, key)) is not None)

    def _fallback(self) -> None:
        """Nothing comes a second time."""
        seen: list[str] = []
        for key in ("via", "fallback"):
            for index, name in enumerate(getattr(self._route, key)):
                if name in seen:
                    self._add((key, index), f'"{name}" is named twice')
                seen.append(name)
        first = chosen(self._route)
        if not self._route.via and len(first) == 1 and first[0] in self._route.fallback:
            text = f'"{first[0]}" is the only one that is chosen here: falling back from it to itself leads nowhere'
            self._add(("fallback", self._route.fallback.index(first[0])), text, "name another provider, or remove it")

    def _shares(self) -> None:
        split, ramp = self._route.split, self._route.ramp
        if split and not any(split.values()):
            self._add(
                ("split",), "all weights are 0: no provider would ever be chosen", "give one of them a weight, such as 100", at_key=True
            )
        if ramp is None:
            return
        if not ramp.shares:
            self._add(("ramp",), "names no provider", "add one for each: ses: 100..0", at_key=True)
        for at, word in ((0, "beginning"), (1, "end")):
            if ramp.shares and not any(pair[at] for pair in ramp.shares.values()):
                self._add(
                    ("ramp",), f"all shares are 0 at the {word}: no provider would be chosen then", "write 100..0 and 0..100", at_key=True
                )

    def _nobody(self) -> None:
        """A share of the mail that is delivered to nobody beside others that are delivered: it would be lost as if it had been sent."""
        route, key = self._route, "split" if self._route.split else "ramp"
        if route.via or self._bad & {"split", "ramp"}:
            return
        parts = {name: part for name in chosen(route) if (part := self._draft.providers.get(name))}
        nowhere = {name: why for name, part in parts.items() if not part.bad and (why := modes.no_delivery(part.value))}
        if other := next((name for name in parts if name not in nowhere), ""):
            for name, why in nowhere.items():
                text = f'"{name}" {why}; its share of the mail would be lost, where "{other}" delivers'
                mend = f"to see how {name} would take the mail: shadow: {name}"
                self._add((key, name), text, mend, at_key=True)

    def _guard(self) -> None:
        route = self._route
        if {"redirect", "capture"} <= self._given("redirect", "capture"):
            self._add(("capture",), "redirect and capture exclude each other", "keep one of them", at_key=True)
        part = self._draft.providers.get(route.capture or "")
        unknown = part is None or part.bad or any(gone[: len(part.loc)] == part.loc for gone in self._report.silenced)
        if part and not unknown and not modes.no_delivery(part.value):
            mend = "name a provider that delivers to nobody: of type capture, or a sandbox"
            self._add(("capture",), f'"{route.capture}" delivers what it gets: the guard would let mail out', mend)

    def _given(self, *keys: str) -> set[str]:
        return {key for key in keys if key in self._bad or getattr(self._route, key) is not None}

    def _shadow(self) -> None:
        route = self._route
        if route.shadow is not None and route.shadow in (*route.via, *route.split, *providers_of(route), route.capture):
            self._add(("shadow",), f'"{route.shadow}" carries mail of this route already', "name another provider, or remove it")

    def _match(self, match: NotConfig, loc: Loc) -> None:
        if match.smaller is not None and match.smaller <= 1:
            self._report.add((*loc, "smaller"), "no message is so small")
        names = [part.value.name for part in self._draft.listen]
        known = ("listen",) not in self._report.silenced and not any("name" in part.bad for part in self._draft.listen)
        for index, name in enumerate(match.listener if known else ()):
            if name not in names:
                mend = did_you_mean(name, names) or f"known: {', '.join(names)}"
                self._report.add((*loc, "listener", index), f'no listener is named "{name}"', mend)
        if match.larger is not None and match.smaller is not None and match.smaller <= match.larger + 1:
            least, most = kinds.written_size(match.larger), kinds.written_size(match.smaller)
            self._report.add((*loc, "smaller"), f"no message is larger than {least} and smaller than {most}")
        if isinstance(match, MatchConfig) and match.not_ is not None:
            self._match(match.not_, (*loc, "not"))

    def _sizes(self) -> None:
        """Providers that can carry nothing of what a route takes."""
        larger, route = self._route.match.larger, self._route
        if larger is None or self._bad & {*WAYS, "fallback"}:
            return
        parts = {name: self._draft.providers.get(name) for name in providers_of(route)}
        if any(part is None or part.bad & {"limits", "type"} for part in parts.values()):
            return
        most = {name: surprises.largest(part.value) for name, part in parts.items() if part}
        small = {name: size for name, size in most.items() if size is not None and size <= larger}
        mend = "raise its limits.size where the account takes more, or name a provider that carries larger mail"
        for name, size in small.items():
            text = f'"{name}" carries nothing of this route: it takes {kinds.written_size(size)} at most, and all mail here is larger than '
            if name in route.split or (route.ramp and name in route.ramp.shares):
                key = "split" if route.split else "ramp"
                self._add((key, name), text + kinds.written_size(larger), mend, at_key=True)
            elif len(small) == len(most):
                self._add(("via",), text + kinds.written_size(larger), mend, at_key=True)


def _reachable(routes: tuple[Part[RouteConfig], ...], report: Report) -> None:
    seen: list[Part[RouteConfig]] = []
    for index, part in enumerate(routes):
        match = part.value.match
        if "match" in part.bad:
            continue
        if covering.empty(match) and index < len(routes) - 1:
            report.add(part.loc, "this route matches everything, so the routes after it never run", "move it to the end")
        elif match != MatchConfig():
            _behind_a_wider_one(part, seen, report)
        seen.append(part)
    last, everything = routes[-1], any(covering.empty(part.value.match) for part in seen)
    if "match" not in last.bad and not everything:
        text = "no route takes the rest: mail that matches no route could go nowhere"
        first = next(iter(chosen(last.value)), "postmark")
        report.add(last.loc, text, f"add a last route without match: - {{name: default, via: {first}}}")


def _behind_a_wider_one(part: Part[RouteConfig], before: list[Part[RouteConfig]], report: Report) -> None:
    wider = next((one for one in before if covering.covers(one.value.match, part.value.match)), None)
    if wider is None or covering.empty(wider.value.match):  # of that one all routes after it are told already
        return
    if wider.value.match == part.value.match:
        report.add((*part.loc, "match"), "an earlier route has the same match, so this one never runs", at_key=True)
        return
    text = f'route "{wider.value.name}" on line {_line(wider.loc, report)} takes all that this one would, so this one never runs'
    report.add((*part.loc, "match"), text, "move it above that route", at_key=True)


def _case(part: Part[CaseConfig], draft: Draft, report: Report) -> None:
    case, loc, bad = part.value, part.loc, part.bad
    if case.header_from is not None and "from" in case.header:
        report.add((*loc, "header_from"), "From is given twice: here and in header", "keep one of them", at_key=True)
    if case.expect is None and case.route is None and not bad & {"expect", "route"}:
        first = next(iter(draft.providers), "postmark")
        report.add(loc, "says nothing that is expected", f"add expect: {first}, or route:")
    if case.expect is not None and case.expect not in draft.providers:
        no_such_provider(case.expect, (*loc, "expect"), draft, report)
    routes = [route.value.name for route in draft.routes] or [DEFAULT]
    known = ("routes",) not in report.silenced and not any("name" in route.bad for route in draft.routes)
    if case.route is not None and known and case.route not in routes:
        mend = did_you_mean(case.route, routes) or f"known: {', '.join(routes)}"
        report.add((*loc, "route"), f'no route is named "{case.route}"', mend)
    listeners = [listener.value.name for listener in draft.listen]
    known = ("listen",) not in report.silenced and not any("name" in listener.bad for listener in draft.listen)
    if case.listener is not None and known and case.listener not in listeners:
        mend = did_you_mean(case.listener, listeners) or f"known: {', '.join(listeners)}"
        report.add((*loc, "listener"), f'no listener is named "{case.listener}"', mend)
