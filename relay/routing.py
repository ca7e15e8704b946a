"""Which providers a recipient's mail may use, and in which order. Pure.

Routes are tried in order and the first whose match holds is taken; a match is empty (holds for all) or names
conditions that must all hold. `order` then says which provider of `via` comes first for this recipient now: a
maybe-relayed recipient stays with its provider, and a provider that keeps deferring is left after the route's patience.
`explain` tells an admin how a choice came about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from relay import header
from relay.model import Entry, RecipientState
from relay.verdicts import CONSEQUENCES, FailOver

PATIENCE = 900.0
"""Seconds a message stays with a provider that keeps deferring it, unless its route says otherwise."""


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.IGNORECASE)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the glob (`*`, `?`, `[…]`), without regard to case."""
    return _glob(pattern).match(text) is not None


@dataclass(frozen=True, slots=True)
class Match:
    """The conditions of a route; all given ones must hold, and a tuple means any of its members.

    `from_` and `to` are globs on addresses (`<>` is the null reverse-path), `client` are networks, `listener` are
    listener names, `header` maps a field name in lower case to globs on its decoded text, `larger` is in octets.
    """

    from_: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    client: tuple[IPv4Network | IPv6Network, ...] = ()
    listener: tuple[str, ...] = ()
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    larger: int | None = None

    @property
    def empty(self) -> bool:
        """Whether the match holds for every mail."""
        return not (self.from_ or self.to or self.client or self.listener or self.header or self.larger is not None)

    def holds_for_mail(self, entry: Entry) -> bool:
        """Whether every condition holds that looks at the mail and not at the recipient."""
        sender = entry.envelope.reverse_path or "<>"
        return (
            _any_glob(self.from_, sender)
            and (not self.client or _in_networks(self.client, entry.client.address))
            and (not self.listener or entry.client.listener in self.listener)
            and (self.larger is None or entry.facts.size > self.larger)
            and all(_any_header(entry.header, name, globs) for name, globs in self.header.items())
        )


def _any_glob(globs: tuple[str, ...], text: str) -> bool:
    return not globs or any(matches(pattern, text) for pattern in globs)


def _in_networks(networks: tuple[IPv4Network | IPv6Network, ...], address: str) -> bool:
    found = _ip(address)
    return found is not None and any(found in network for network in networks)


def _ip(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _any_header(block: bytes, name: str, globs: tuple[str, ...]) -> bool:
    return any(matches(pattern, header.text(value)) for value in header.values(block, name) for pattern in globs)


@dataclass(frozen=True, slots=True)
class Route:
    """A rule and its providers, in order. `patience` is in seconds."""

    name: str
    via: tuple[str, ...]
    match: Match = field(default_factory=Match)
    patience: float = PATIENCE


def applicable(routes: Sequence[Route], entry: Entry) -> tuple[Route, ...]:
    """The routes that recipients of this entry may take, in order: looked up once for a mail, however many they are.

    An entry's own `via` takes the place of every route's.
    """
    found: list[Route] = []
    for route in routes:
        if route.match.empty or route.match.holds_for_mail(entry):
            found.append(route)
            if not route.match.to:
                break
    if entry.via:
        return tuple(replace(route, via=entry.via) for route in found) or (Route("", entry.via),)
    return tuple(found)


def choose(routes: Sequence[Route], recipient: str) -> Route | None:
    """The first of the `applicable` routes that takes this recipient, or None where none does."""
    return next((route for route in routes if _any_glob(route.match.to, recipient)), None)


@dataclass(frozen=True, slots=True)
class Tried:
    """A route that was looked at for a recipient. `against` says why it does not take it; empty for the one that does."""

    route: Route
    against: tuple[str, ...]


def explain(routes: Sequence[Route], entry: Entry, recipient: str) -> tuple[Tried, ...]:
    """Every route that is looked at for this recipient, in order: as far as the one that `choose` takes, or all where none
    does. A fixed `via` of the entry does not count."""
    found: list[Tried] = []
    for route in routes:
        found.append(Tried(route, tuple(_against(route.match, entry, recipient))))
        if not found[-1].against:
            break
    return tuple(found)


def _against(match: Match, entry: Entry, recipient: str) -> Iterator[str]:
    """Each condition that does not hold, and what was found instead."""
    sender = entry.envelope.reverse_path or "<>"
    if not _any_glob(match.from_, sender):
        yield f"from: {sender} is not {_or(match.from_)}"
    if match.client and not _in_networks(match.client, entry.client.address):
        yield f"client: {entry.client.address} is not in {_or(map(str, match.client))}"
    if match.listener and entry.client.listener not in match.listener:
        yield f"listener: {entry.client.listener} is not {_or(match.listener)}"
    for name, globs in match.header.items():
        if not _any_header(entry.header, name, globs):
            values = [header.text(value) for value in header.values(entry.header, name)]
            yield f"header: {name} is {_or(map(repr, values))}, not {_or(globs)}" if values else f"header: there is no {name}"
    if match.larger is not None and entry.facts.size <= match.larger:
        yield f"larger: {entry.facts.size:,} octets are not more than {match.larger:,}"
    if not _any_glob(match.to, recipient):
        yield f"to: {recipient} is not {_or(match.to)}"


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)


def order(route: Route, state: RecipientState, now: float) -> tuple[str, ...]:
    """The providers this recipient may use now, the preferred one first. Only the pinned one when it is maybe-relayed."""
    if state.maybe_relayed:
        return (state.provider,)
    via = route.via
    if state.provider not in via or state.verdict is None:
        return via
    if CONSEQUENCES[state.verdict].fail_over is not FailOver.PATIENCE:
        return via
    place = via.index(state.provider)
    if now - state.since < route.patience:
        return (state.provider, *via[:place], *via[place + 1 :])
    return (*via[place + 1 :], *via[: place + 1])
