"""Finding the way: an entry's recipients in groups, each of which takes one way together.

Promises: recipients go together only where route, providers and their order, guard and pin are the same for all of them; a group
is never more than the budgets of its providers can ever let go at once. Pure: whatever is known is an argument. What cannot be
decided about one entry is raised after the groups that were decided before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from relay import routing
from relay.delivery.attempts import Refusals
from relay.delivery.lanes import Group, Lane
from relay.model import Entry, RecipientState

_NO_ROUTE = routing.Route("", ())


def groups(
    entry: Entry,
    states: Sequence[RecipientState],
    now: float,
    *,
    route_of: Callable[[RecipientState], routing.Route | None],
    refused_by: Callable[[str, str, Sequence[str]], Refusals],
    lanes: Mapping[str, Lane],
    table: int,
) -> Iterator[Group]:
    """Split recipients of an entry by the way they go. `refused_by` gives the providers of an order that turned out not to be able
    to carry the message to an address; `table` is the carrier's, of the routes that `route_of` chooses from."""
    ways: dict[tuple[object, ...], Group] = {}
    for state in states:
        route = route_of(state) or _NO_ROUTE
        choice = routing.choice(route, entry, state, now)
        refused = refused_by(entry.queue_id, state.recipient.address, choice.order)
        way = (route.name, choice.order, choice.redirect, choice.refused, state.maybe_relayed, refused)
        group = ways.get(way)
        if group is None or group.heads >= _most(choice.order, lanes):
            if group is not None:
                yield group
            group = ways[way] = Group(
                entry,
                route,
                choice.order,
                [],
                state.maybe_relayed,
                refused,
                refused_by_guard=choice.refused,
                redirect=choice.redirect,
                table=table,
            )
        group.states.append(state)
    yield from ways.values()


def _most(order: Sequence[str], lanes: Mapping[str, Lane]) -> float:
    """How many recipients of a message may go to these providers at once: what is more never fits their budgets."""
    budgets = (lanes[name].budget for name in order if name in lanes)
    counted = (budget.most for budget in budgets if budget.allowance.count == "recipients")
    return min((most for most in counted if most is not None), default=math.inf)
