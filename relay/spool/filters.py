"""Filters in SQL: which recipients a Filter means. Pure.

The conditions go over `e` (entry) and `r` (recipient). Every value is a parameter; nothing from outside is ever part of
the statement. Patterns are SQLite's GLOB over lower-case text; a text equal to the pattern matches too, so that an
address literal such as `user@[192.0.2.1]` means itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay.spool import ids, rows
from relay.spool.base import Filter

FROM = "entry e CROSS JOIN recipient r ON r.entry = e.id"  # in this order: what is finished is not looked at for what is open
SANE = "e.id NOT IN (SELECT entry FROM corrupt)"
OPEN = f"e.finished IS NULL AND r.state IN {rows.OPEN_STATES}"
NULL_PATH = "<>"  # how people write the empty sender
NOT_YET = "(r.waits IS NOT NULL OR r.next_attempt > ?)"


@dataclass(frozen=True, slots=True)
class Where:
    """A condition and its parameters."""

    text: str
    values: tuple[Any, ...]


def where(what: Filter, now: float) -> Where:
    """The condition for `what`; `now` decides what is active and what is deferred."""
    conditions, values = _state(what.state, now)
    if what.queue_id:
        low, high = ids.prefix_range(what.queue_id) or (1, 0)
        conditions.append("e.id BETWEEN ? AND ?")
        values += [low, high]
    if not what.notices:
        conditions.append("NOT e.bounce")
    if what.sender == NULL_PATH:
        conditions.append("e.sender = ''")
    for column, pattern in (
        ("e.sender", "" if what.sender == NULL_PATH else what.sender),
        ("r.address", what.recipient),
        ("r.provider", what.provider),
        ("r.route", what.route),
    ):
        if pattern:
            conditions.append(f"(lower({column}) = lower(?) OR lower({column}) GLOB lower(?))")
            values += [pattern, pattern]
    if what.older is not None:
        conditions.append("e.arrived <= ?")
        values.append((what.now or now) - what.older)
    return Where(" AND ".join(conditions), tuple(values))


def _state(state: str, now: float) -> tuple[list[str], list[Any]]:
    if state == "":
        return [OPEN, SANE], []
    if state == "active":
        return [OPEN, SANE, "r.state = 'queued'", f"NOT {NOT_YET}"], [now]
    if state == "deferred":
        return [OPEN, SANE, "r.state = 'queued'", NOT_YET], [now]
    if state == "hold":
        return [OPEN, SANE, "r.state = 'held'"], []
    if state == "finished":
        return ["e.finished IS NOT NULL", SANE], []
    if state == "corrupt":
        return ["e.id IN (SELECT entry FROM corrupt)"], []
    return ["0"], []
