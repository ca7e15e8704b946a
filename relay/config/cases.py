"""Running the tests of a configuration: which route each mail would take, and which provider would be tried first. Pure.

Nothing is delivered and nobody is asked: pauses, budgets and steps back of a ramp are left out, a ramp stands where its dates have
it. A listener's refusal is told where the configuration alone decides it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from relay import routing
from relay.config.model import ListenConfig
from relay.config.rules import CaseConfig
from relay.config.whole import Config
from relay.model import Client, Entry, Envelope, Facts, Recipient, RecipientState, State

_QUEUE_ID = "0" * 14


@dataclass(frozen=True, slots=True)
class Failed:
    """A test that failed: its place in the list, the key that was not met, what came instead, and why, line by line."""

    index: int
    key: str
    text: str
    why: tuple[str, ...]


def run(config: Config, now: float) -> Iterator[Failed]:
    """The tests that fail at this time (Unix seconds), in order; of several recipients the first that fails."""
    routes = tuple(routing.settled(route, {}, now) for route in config.route_table())
    for index, case in enumerate(config.tests):
        listener = next(one for one in config.listen if case.listener in (None, one.name))
        entry = _entry(case, listener, config, now)
        refusal = _refusal(case, listener, config)
        key = "expect" if case.expect is not None else "route"
        if refusal:
            yield Failed(index, key, f"listener {listener.name} would not take it: {refusal}", ())
            continue
        found = (_of_recipient(case, entry, state, routes, config, now) for state in entry.recipients)
        if failed := next(filter(None, found), None):
            yield replace(failed, index=index)


def _entry(case: CaseConfig, listener: ListenConfig, config: Config, now: float) -> Entry:
    """The mail as it would be stored."""
    path = "" if case.from_ == "<>" else case.from_
    fields = {"from": case.header_from or path, "to": ", ".join(case.to), **case.header}
    header = "".join(f"{name}: {text}\r\n" for name, text in fields.items() if text).encode("utf-8", "replace")
    address = case.client or ("unix" if listener.address.startswith("unix:") else "127.0.0.1")
    client = Client(listener.name, address, name="localhost", helo=config.hostname, username=case.user or "")
    recipients = tuple(map(Recipient, dict.fromkeys(case.to)))
    states = tuple(RecipientState(recipient, State.QUEUED) for recipient in recipients)
    return Entry(_QUEUE_ID, now, client, Envelope(path, recipients), Facts(case.size, not header.isascii(), 0), header, "", (), states)


def _refusal(case: CaseConfig, listener: ListenConfig, config: Config) -> str:
    """Why the listener refuses the mail, or ""."""
    senders, named = config.senders, case.from_ != "<>"
    if named and senders.allow and not _any(senders.allow, case.from_):
        return f"{case.from_} is none of senders.allow"
    if named and case.user in senders.users and not _any(senders.users[case.user or ""], case.from_):
        return f"{case.from_} is none of the senders.users of {case.user}"
    if case.user is not None and not listener.auth:
        return f"nobody can log in there, {case.user} neither: it has no auth"
    if case.client not in (None, "unix") and listener.allow and not any(ip_address(case.client) in network for network in listener.allow):
        return f"{case.client} is in none of the networks of allow"
    if case.size > listener.max_size:
        return f"{case.size:,} octets are more than its max_size, {listener.max_size:,}"
    return ""


def _any(globs: Sequence[str], address: str) -> bool:
    return any(routing.matches(glob, address) for glob in globs)


def _of_recipient(
    case: CaseConfig, entry: Entry, state: RecipientState, routes: Sequence[routing.Route], config: Config, now: float
) -> Failed | None:
    recipient, controls = state.recipient.address, config.controls()
    route = routing.choose(routing.applicable(routes, entry, controls), recipient)
    tried = routing.explain(routes, entry, recipient, controls)
    why = [f"not {one.route.name}: {' and '.join(one.against)}" for one in tried if one.against]
    if route is None:
        return Failed(0, "route" if case.route else "expect", f"no route takes it for {recipient}", tuple(why))
    choice = routing.choice(route, entry, state, now)
    why.append(f"{route.name} takes it" + (f"; {choice.share}" if choice.share else ""))
    if choice.redirect:
        why.append(f"its staging guard sends it to {choice.redirect} instead")
    elif route.guard and route.guard.capture in choice.order:
        why.append(f"its staging guard keeps it from {recipient}")
    if case.route is not None and case.route != route.name:
        return Failed(0, "route", f"expected route {case.route}; for {recipient} it is {route.name}", tuple(why))
    if case.expect is None:
        return None
    if not choice.order:
        return Failed(0, "expect", f"expected {case.expect}; nobody gets it: {choice.refused}", tuple(why))
    if _by_message(route, choice):
        text = f"cannot be told: route {route.name} splits by message, so that each mail goes its own way"
        return Failed(0, "expect", text, (f"expect the route alone: route: {route.name}",))
    if choice.order[0] != case.expect:
        return Failed(0, "expect", f"expected {case.expect}; for {recipient} it is {choice.order[0]}, by route {route.name}", tuple(why))
    return None


def _by_message(route: routing.Route, choice: routing.Choice) -> bool:
    """Whether another mail to the same recipient might go another way."""
    split = route.split
    return split is not None and bool(choice.share) and split.sticky == "message" and sum(weight > 0 for _, weight in split.weights) > 1
