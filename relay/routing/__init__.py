"""Which providers a recipient's mail may use, in which order, and whether it may go there at all. Pure.

Routes are tried in order and the first whose match holds is taken; a match is empty (holds for all) or names conditions that must
all hold. `applicable` looks at the mail once, `choose` at each recipient. `choice` then says what that means for one recipient
now: a split's provider by a hash that moves nobody without need (weighted rendezvous), a maybe-relayed recipient with its provider,
a provider that keeps deferring left after the route's patience, and a staging guard that lets nothing past it.
`explain` tells an admin how a route came about.

Whatever a header holds, nothing here raises. A split without a weight raises ValueError when it is made, and `choice` does for a ramp
that was not `settled`: both are our mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple

from relay import address, ramps
from relay.model import Entry, RecipientState
from relay.ramps import Ramp, Sticky, Weights
from relay.routing.matching import DIRECTIVES, Mail, Match, any_of, conditions, matches, reduced
from relay.verdicts import CONSEQUENCES, FailOver

__all__ = [
    "DIRECTIVES",
    "PATIENCE",
    "WEIGHTS",
    "Choice",
    "Guard",
    "Match",
    "Priority",
    "Route",
    "Split",
    "Sticky",
    "Tried",
    "applicable",
    "begun",
    "choice",
    "choose",
    "explain",
    "matches",
    "only",
    "pick",
    "settled",
]

Priority = Literal["high", "normal", "low"]

PATIENCE = 900.0
"""Seconds a message stays with a provider that keeps deferring it, unless its route says otherwise."""

WEIGHTS: Mapping[Priority, int] = {"high": 16, "normal": 4, "low": 1}
"""How the shares of a busy provider stand to each other, by the priority of the routes that want it."""

_NO_CONTROLS: Mapping[str, Collection[str]] = {}


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of providers, by weights that stand to each other as the shares do. Raises ValueError where they sum to nothing."""

    weights: Weights
    sticky: Sticky = "recipient"

    def __post_init__(self) -> None:
        if not all(0 <= weight < math.inf for _, weight in self.weights) or not any(weight for _, weight in self.weights):
            raise ValueError("weights are numbers, not below 0 and not all 0")


@dataclass(frozen=True, slots=True)
class Guard:
    """A staging guard: only recipients that fit `allow` (globs) get mail.

    The others' mail goes to the address `redirect`, or to the provider `capture`, which delivers to nobody; or nowhere.
    """

    allow: tuple[str, ...] = ()
    redirect: str = ""
    capture: str = ""

    def lets(self, recipient: str) -> bool:
        """Whether mail may go to this recipient."""
        return any_of(self.allow, (recipient,))


@dataclass(frozen=True, slots=True)
class Route:
    """A rule and its providers. `via` are all that it may use, in order: those of the split or ramp, then `fallback`.

    With a split one of its providers is chosen, and `fallback` follows; a ramp becomes a split when it is `settled`. `patience` is in
    seconds. `shadow` is a provider for which every message is built beside. `spills`: what a provider's budget does not let go now
    goes to the next provider.
    """

    name: str
    via: tuple[str, ...]
    match: Match = field(default_factory=Match)
    patience: float = PATIENCE
    split: Split | None = None
    ramp: Ramp | None = None
    fallback: tuple[str, ...] = ()
    guard: Guard | None = None
    shadow: str = ""
    priority: Priority = "normal"
    spills: bool = False

    @property
    def providers(self) -> tuple[str, ...]:
        """Every provider that mail of this route may go to: `via`, and the one that captures."""
        capture = self.guard.capture if self.guard else ""
        return (*self.via, capture) if capture and capture not in self.via else self.via


def applicable(routes: Sequence[Route], entry: Entry, controls: Mapping[str, Collection[str]] = _NO_CONTROLS) -> tuple[Route, ...]:
    """The routes that recipients of this entry may take, in order: looked up once for a mail, however many they are. What is left to
    ask of their matches is whether they take a recipient. `controls` are the dialects of control headers that each listener obeys.
    Providers fixed for a recipient are not looked at: see `only`.
    """
    found: list[Route] = []
    mail: Mail | None = None
    for route in routes:
        match = route.match
        if not match.empty:
            mail = mail or Mail(entry, controls)
            left = reduced(match, mail)
            if left is None:
                continue
            if left is not match:
                route = replace(route, match=left)
        found.append(route)
        if route.match.for_all:
            break
    return tuple(found)


def choose(routes: Sequence[Route], recipient: str) -> Route | None:
    """The first of the `applicable` routes that takes this recipient, or None where none does."""
    return next((route for route in routes if route.match.takes(recipient)), None)


def begun(routes: Iterable[Route], state: RecipientState, today: Route | None) -> Route | None:
    """The route of a maybe-relayed recipient, which would take the route `today`: the one that it was attempted by, where there still
    is one of that name, so that its guard holds. Where that lets the recipient through, and today's guard does not, it is today's.
    For everybody else it is today's."""
    if not (state.maybe_relayed and state.route):
        return today
    before = next((route for route in routes if route.name == state.route), None)
    if before is None:
        return today
    recipient = state.recipient.address
    stops = today is not None and today.guard is not None and not today.guard.lets(recipient)
    return today if stops and (before.guard is None or before.guard.lets(recipient)) else before


def only(route: Route, via: Sequence[str]) -> Route:
    """The same route by these providers alone, because an admin or a bounce fixed them. The guard stays; split, ramp, fallback and
    shadow, which would bring others in, go."""
    return replace(route, via=tuple(via), split=None, ramp=None, fallback=(), shadow="")


def settled(route: Route, states: Mapping[str, ramps.State], now: float) -> Route:
    """The route with a ramp's weights of the moment as its split. `states` are where ramps stand, by the name of the route."""
    if route.ramp is None:
        return route
    weights = ramps.at(route.ramp, states.get(route.name, ramps.State()), now)
    return replace(route, split=Split(weights, route.ramp.sticky))


class Choice(NamedTuple):
    """The providers that a recipient may use now, the preferred one first.

    `redirect` is the address that gets the mail in the recipient's place. `refused` says, fit for a bounce, why the guard lets it go
    nowhere; then `order` is empty. `share` says of a split in one phrase what was chosen, and among which shares.
    """

    order: tuple[str, ...]
    redirect: str = ""
    refused: str = ""
    share: str = ""


def choice(route: Route, entry: Entry, state: RecipientState, now: float) -> Choice:
    """What is to become of a recipient that takes this route, which is `settled` (ValueError where it is not). Where providers are fixed
    for the recipient, the route is cut to them before (`only`)."""
    guard = route.guard
    if guard is not None and not guard.lets(state.recipient.address):
        return _guarded(route, guard, entry, state, now)
    if state.maybe_relayed:
        return Choice((state.provider,))
    return _unpinned(route, entry, state, now)


def _guarded(route: Route, guard: Guard, entry: Entry, state: RecipientState, now: float) -> Choice:
    """Where mail goes that the guard does not let go to its recipient. A maybe-relayed one stays with its provider: a redirect is kept to
    there, and a capture only where it was captured before. Else it goes nowhere, for its provider delivers to people."""
    if guard.redirect:
        found = Choice((state.provider,)) if state.maybe_relayed else _unpinned(route, entry, state, now)
        return found._replace(redirect=guard.redirect)
    where = f"the staging guard of route {route.name} does not let mail go to {state.recipient.address}"
    if state.maybe_relayed and state.provider != guard.capture:
        return Choice((), refused=f"may have been delivered by {state.provider} before, and {where}")
    if guard.capture:
        return Choice((guard.capture,))
    return Choice((), refused=f"{where}: it is none of allow_recipients")


def _unpinned(route: Route, entry: Entry, state: RecipientState, now: float) -> Choice:
    split = route.split
    if split is None:
        if route.ramp is not None:
            raise ValueError(f"the ramp of route {route.name} is not settled")
        return Choice(_patient(route.via, route.patience, state, now))
    chosen = pick(split, _sticks_to(split.sticky, entry, state))
    found = (chosen, *(name for name in route.fallback if name != chosen))
    return Choice(_patient(found, route.patience, state, now), share=_share(chosen, split.sticky, split.weights))


def _patient(via: tuple[str, ...], patience: float, state: RecipientState, now: float) -> tuple[str, ...]:
    """The providers in order, after what the last one attempted has said."""
    if state.verdict is None or state.provider not in via:
        return via
    if CONSEQUENCES[state.verdict].fail_over is not FailOver.PATIENCE:
        return via
    place = via.index(state.provider)
    if now - state.since < patience:
        return (state.provider, *via[:place], *via[place + 1 :])
    return (*via[place + 1 :], *via[: place + 1])


# Splits.


def _sticks_to(sticky: Sticky, entry: Entry, state: RecipientState) -> str:
    """What a share is made of; addresses in the form in which they compare, so that writing one otherwise moves nobody."""
    if sticky == "recipient":
        return address.key(state.recipient.address)
    return entry.queue_id if sticky == "message" else address.key(entry.envelope.reverse_path)


def pick(split: Split, key: str) -> str:
    """The provider of a key, by weighted rendezvous: each provider draws a number from the key and its own name, divided by its weight,
    and the smallest wins. So another weight moves only those keys that must move, and a provider with weight 0 has none. The hash is
    the same on every host and in every version.
    """
    found, best = "", math.inf
    octets = b"\0" + key.encode("utf-8", "surrogateescape")
    for name, weight in split.weights:
        if weight:
            drawn = int.from_bytes(blake2b(name.encode() + octets, digest_size=8).digest())
            score = -math.log((drawn + 0.5) / 2**64) / weight
            if score < best or not found:
                found, best = name, score
    return found


@lru_cache(maxsize=1024)
def _share(chosen: str, sticky: Sticky, weights: Weights) -> str:
    return f"{chosen} by {sticky}: {ramps.shares(weights)}"


# Explaining a choice.


@dataclass(frozen=True, slots=True)
class Tried:
    """A route that was looked at for a recipient. `against` says why it does not take it; empty for the one that does."""

    route: Route
    against: tuple[str, ...]


def explain(
    routes: Sequence[Route], entry: Entry, recipient: str, controls: Mapping[str, Collection[str]] = _NO_CONTROLS
) -> tuple[Tried, ...]:
    """Every route that is looked at for this recipient, in order: as far as the one that `choose` takes, or all where none
    does. Fixed providers are not looked at."""
    found: list[Tried] = []
    mail = Mail(entry, controls)
    for route in routes:
        found.append(Tried(route, tuple(said.otherwise for said in conditions(route.match, mail, recipient) if not said.holds)))
        if not found[-1].against:
            break
    return tuple(found)
