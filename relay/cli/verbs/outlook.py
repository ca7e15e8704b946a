"""What the rules make of a message: where each recipient's mail goes and why, and what each provider would do with it.

Everything is told as plain values, ready for JSON. The running daemon's status (`Live`) is taken where there is one; without it
ramps are where their dates say. Nothing is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from relay import assembly, ramps, routing, views
from relay.cli import previews
from relay.cli.verbs import mail
from relay.cli.verbs.convert import asked
from relay.config import Config
from relay.errors import CannotCarry
from relay.model import Edit, Entry, Job, Recipient, RecipientState
from relay.rewriting import redirected

Json = dict[str, object]

_ROUNDED = 2.0  # seconds: what the daemon tells is in whole ones


@dataclass(frozen=True)
class Live:
    """What the running daemon says: providers by name, ramps by route."""

    providers: Mapping[str, Mapping[str, Any]]
    ramps: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def of(status: Mapping[str, Any]) -> Live:
        """From the answer to GET /api/v1/status."""
        return Live(
            {str(item["name"]): item for item in status["providers"]},
            {str(item["route"]): item for item in status.get("ramps", ())},
        )


@dataclass(frozen=True)
class Way:
    """Where the mail of one recipient goes: by which providers, and to whom `instead`; `shadow` is the provider it is built for, too."""

    recipient: Recipient
    order: tuple[str, ...]
    instead: Recipient | None
    shadow: str
    shown: Json


def edits(made: Iterable[Edit]) -> list[Json]:
    """Edits as they are shown."""
    return [{"kind": edit.kind.value, "text": edit.text} for edit in made]


def rewritten(settings: Config, made: Entry) -> Json:
    """What senders.rewrite makes of the reverse-path (None where it stays), and the edits it adds."""
    path, rewriting = made.envelope.reverse_path, settings.rewriting()
    other = rewriting.reverse_path(path)
    added = [edit for edit in rewriting.edits(made.header, made.edits, path) if edit not in made.edits]
    return {"reverse_path": other if other != path else None, "edits": edits(added)}


# Where it goes.


def ways(settings: Config, made: Entry, live: Live | None, now: float) -> list[Way]:
    """The way of each recipient."""
    routes, controls = settings.route_table(), settings.controls()
    states = {}
    for route in routes:
        if live and route.ramp and route.name in live.ramps and (state := _state(live.ramps[route.name], route.ramp)):
            states[route.name] = state
    return [
        _way(settings, made, state, routing.explain(routes, made, state.recipient.address, controls), states, live, now)
        for state in made.recipients
    ]


def _state(told: Mapping[str, Any], ramp: ramps.Ramp) -> ramps.State | None:
    """Where the daemon says that a ramp stands; None where its ramp has other dates, because it has not read the file yet."""
    held, until = (datetime.fromisoformat(told[key]).timestamp() if told[key] else 0.0 for key in ("held_until", "until"))
    behind = float(told["behind"])
    return ramps.State(behind, held) if abs(until - behind - ramp.start - ramp.over) < _ROUNDED else None


def _way(
    settings: Config,
    made: Entry,
    state: RecipientState,
    tried: Sequence[routing.Tried],
    states: Mapping[str, ramps.State],
    live: Live | None,
    now: float,
) -> Way:
    """One recipient's. The route taken is the last one looked at, because the last of a configuration takes everything."""
    route = routing.settled(tried[-1].route, states, now)
    choice = routing.choice(route, made, state, now)
    recipient = state.recipient
    shown: Json = {
        "address": recipient.address,
        "route": route.name,
        "via": list(choice.order),
        "tried": [{"route": one.route.name, "against": list(one.against)} for one in tried],
        "order": [{"provider": name, "why": _why(route, name, choice.order)} for name in choice.order],
        "split": _split(route, choice.order, choice.share),
        "ramp": _ramp(route, states, live, now),
        "patience": route.patience,
        "priority": route.priority,
        "overflow": "spill" if route.spills else "wait",
        "guard": _guard(route, recipient.address, choice),
        "shadow": {"provider": route.shadow, "sends": route.shadow in settings.sandboxes()} if route.shadow else None,
    }
    instead = Recipient(choice.redirect) if choice.redirect else None
    return Way(recipient, choice.order, instead, route.shadow if choice.order else "", shown)


def _why(route: routing.Route, name: str, order: Sequence[str]) -> str:
    """via, split, ramp, fallback or capture: what brings a provider into a recipient's order."""
    if name not in route.via:
        return "capture"
    if route.split is None:
        return "fallback" if name in route.fallback else "via"
    return ("ramp" if route.ramp else "split") if name == order[0] else "fallback"


def _split(route: routing.Route, order: Sequence[str], chosen: str) -> Json | None:
    if route.split is None:
        return None
    total = sum(weight for _, weight in route.split.weights)
    shares = {name: weight / total for name, weight in route.split.weights}
    return {"sticky": route.split.sticky, "chosen": order[0] if chosen else None, "shares": shares}


def _ramp(route: routing.Route, states: Mapping[str, ramps.State], live: Live | None, now: float) -> Json | None:
    """Where a ramp stands today."""
    if (ramp := route.ramp) is None:
        return None
    state, told = states.get(route.name, ramps.State()), live.ramps.get(route.name) if live and route.name in states else None
    end = ramp.start + ramp.over + state.behind
    return {
        "from": views.when(ramp.start),
        "over": ramp.over,
        "until": str(told["until"]) if told and told["until"] else views.when(end),
        "done": ramps.progress(ramp, state, now) / ramp.over,
        "begun": now >= ramp.start,
        "behind": state.behind,
        "held_until": views.when(state.held_until) if state.held_until > now else None,
        "reason": str(told["reason"]) if told else "",
        "newcomers": list(ramp.newcomers),
    }


def _guard(route: routing.Route, address: str, choice: routing.Choice) -> Json | None:
    if (guard := route.guard) is None:
        return None
    return {
        "allow": list(guard.allow),
        "lets": guard.lets(address),
        "redirect": choice.redirect,
        "capture": guard.capture if not guard.lets(address) and not choice.redirect else "",
        "refused": choice.refused,
    }


# What the providers would do.


def providers(settings: Config, found: mail.FileMessage, made: Entry, taken: Sequence[Way], live: Live | None) -> list[Json]:
    """Each provider that some recipient's mail may come to, in the order in which they are met; then those that are only shadows."""
    named = dict.fromkeys(name for way in taken for name in way.order)
    shadows = dict.fromkeys(way.shadow for way in taken if way.shadow)
    shown = [_provider(settings, name, found, made, [way for way in taken if name in way.order], live) for name in named]
    for name in shadows:
        below = _provider(settings, name, found, made, [way for way in taken if way.shadow == name], live)
        shown.append({**below, "shadow": True})
    return shown


def _provider(settings: Config, name: str, found: mail.FileMessage, made: Entry, taken: Sequence[Way], live: Live | None) -> Json:
    """What a provider would do with the mail of these recipients, and how it stands."""
    shown: Json = {
        "name": name,
        "type": settings.providers[name].type,
        "shadow": False,
        "requests": 0,
        "losses": [],
        "cannot": [],
        "budget": _budget(settings, name),
        "standing": _standing(live.providers.get(name)) if live else None,
    }
    jobs = [(assembly.transport_for(name, settings.providers[name], settings), job) for job in _jobs(settings, found, made, taken)]
    try:
        requests = [one for transport, job in jobs for one in asyncio.run(asked(transport, job))]
    except CannotCarry as error:
        return {**shown, "cannot": list(error.reasons)}
    losses = dict.fromkeys((loss.grade, loss.what) for one in requests for loss in one.losses)
    told: Json = {"requests": len(requests), "losses": [{"grade": grade, "what": what} for grade, what in losses]}
    if why := dict.fromkeys(previews.way(one) for one in requests if one.why):
        told |= {"by_smtp": sum(bool(one.why) and one.method == "SMTP" for one in requests), "why": list(why)}
    return {**shown, **told}


def _jobs(settings: Config, found: mail.FileMessage, made: Entry, taken: Sequence[Way]) -> list[Job]:
    """What a transport would be handed: one job for those who get their mail, and one for each address that gets others'."""
    rewriting, path = settings.rewriting(), made.envelope.reverse_path
    envelope = replace(made.envelope, reverse_path=rewriting.reverse_path(path))
    changes = rewriting.edits(made.header, made.edits, path)
    jobs = []
    for instead in dict.fromkeys(way.instead for way in taken):
        theirs = [way.recipient for way in taken if way.instead == instead]
        others = redirected(made.header, changes, instead.address, [one.address for one in theirs]) if instead else changes
        jobs.append(replace(mail.job(found, made, [instead] if instead else theirs), envelope=envelope, edits=others))
    return jobs


def _budget(settings: Config, name: str) -> Json:
    """What it may be given in a time; `asked` are the limits of which the account is asked."""
    allowance = settings.allowance(name)
    asked_of_account = [what for what, ask in (("rate", allowance.ask_rate), ("daily", allowance.ask_daily)) if ask]
    return {
        "count": allowance.count,
        "rates": [str(rate) for rate in allowance.rates],
        "daily": allowance.daily,
        "monthly": allowance.monthly,
        "asked": asked_of_account,
    }


def _standing(item: Mapping[str, Any] | None) -> Json:
    """How a provider fares; one that the daemon does not know is new."""
    if item is None:
        return {"state": "new", "reason": "the daemon does not know it yet: relay reload", "usage": []}
    keys = ("state", "reason", "since", "until", "waiting", "by_admin", "suspect", "usage")
    return {key: item[key] for key in keys if key in item}
