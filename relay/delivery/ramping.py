"""The ramps of the routes: where each stands, what its newcomers answer, and the step back, kept in the spool.

Promises: a step back is stored before it is told, and survives a restart and a reload; mail goes by the shares of the moment. What
relay found itself says nothing about a newcomer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from relay import ramps, routing
from relay.delivery import alerts
from relay.delivery.alerts import Alerts
from relay.delivery.notices import Insist
from relay.log import Events
from relay.model import Entry, Kind, Outcome
from relay.spool.base import Spool

_KEY = "ramp "
_WORDS: Mapping[Kind, Literal["relayed", "deferred", "failed"]] = {
    Kind.RELAYED: "relayed",
    Kind.DEFERRED: "deferred",
    Kind.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class RampStatus:
    """A ramp as `relay status` shows it: the share (0 to 1) of each provider now, when it ends as things are, by how many seconds it
    is behind its dates, until when it rests after a step back, and why it stepped back last (since the start of this daemon)."""

    route: str
    shares: Mapping[str, float]
    until: float
    behind: float
    held_until: float
    why: str


class Ramping:
    """The ramps in force. `clock` gives Unix seconds."""

    def __init__(self, *, spool: Spool, insist: Insist, alerts: Alerts, events: Events, clock: Callable[[], float]) -> None:
        self._spool = spool
        self._insist = insist
        self._alerts = alerts
        self._events = events
        self._clock = clock
        self._states: dict[str, ramps.State] = {}
        self._watches: dict[str, ramps.Watch] = {}
        self._routes: dict[str, routing.Route] = {}
        self._why: dict[str, str] = {}

    def configure(self, routes: Sequence[routing.Route]) -> None:
        """Watch the ramps of these routes; one that did not change goes on as it is."""
        self._routes = {route.name: route for route in routes if route.ramp}
        before, self._watches = self._watches, {}
        for name, route in self._routes.items():
            known = before.get(name)
            assert route.ramp is not None
            same = known is not None and known.ramp == route.ramp
            self._watches[name] = known if known and same else ramps.Watch(route.ramp, self._states.get(name, ramps.State()))

    def load(self, kept: Mapping[str, str]) -> None:
        """Take up where the ramps stood when this daemon, or the one before, kept it."""
        self._states = {key.removeprefix(_KEY): ramps.of(text) for key, text in kept.items() if key.startswith(_KEY)}
        self._watches.clear()
        self.configure(tuple(self._routes.values()))

    def settled(self, route: routing.Route) -> routing.Route:
        """The route with its shares of the moment."""
        return routing.settled(route, self._states, self._clock()) if route.ramp else route

    def status(self) -> Sequence[RampStatus]:
        """Where every ramp stands."""
        found = []
        shares = self.shares()
        for name, route in self._routes.items():
            assert route.ramp is not None
            ramp, state = route.ramp, self._states.get(name, ramps.State())
            if state.begin not in (None, ramp.start):  # it was said of a ramp with other dates
                state = ramps.State()
            mine = {provider: share for (owner, provider), share in shares.items() if owner == name}
            end = ramp.start + ramp.over + state.behind
            found.append(RampStatus(name, mine, end, state.behind, state.held_until, self._why.get(name, "")))
        return found

    def shares(self) -> Mapping[tuple[str, str], float]:
        """The share (0 to 1) of every provider of a ramp at this moment, by route and provider."""
        found: dict[tuple[str, str], float] = {}
        for name, route in self._routes.items():
            if split := self.settled(route).split:
                total = sum(weight for _, weight in split.weights)
                found |= {(name, provider): weight / total for provider, weight in split.weights}
        return found

    async def note(self, route: routing.Route, provider: str, outcomes: Iterable[Outcome], now: float, cause: Entry) -> None:
        """Take down what a provider answered for recipients of one message, `cause`; step back where that is one too many."""
        watch = self._watches.get(route.name)
        if watch is None:
            return
        answers = [_WORDS[outcome.kind] for outcome in outcomes if not outcome.own]
        for word in dict.fromkeys(answers):
            if back := watch.note(provider, word, now, answers.count(word) / len(answers)):
                self._states[route.name] = back.state
                self._why[route.name] = back.why
                await self._insist(lambda: self._spool.keep(_KEY + route.name, back.state.text()))
                self._events.stepped_back(route.name, back.why, back.before, back.after)
                await self._alerts.changed(alerts.stepped_back(route.name, back.why, back.before, back.after), cause)
                return
