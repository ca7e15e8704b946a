"""What became of recipients, as the tables hold it: pure, and nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.model import Outcome, State, Verdict
from relay.spool import rows
from relay.spool.base import Recorded
from relay.spool.operations import Record

_OPEN = frozenset({State.QUEUED, State.HELD})


def written(number: int, attempt: int, outcomes: Mapping[str, Recorded], provider: str, route: str, now: float) -> Record:
    """The writing down of one attempt's outcomes, by address, for the entry of this number. `attempt` is 0 where there was none."""
    replaces = 2 if attempt else 1 if provider else 0
    updates: list[tuple[Any, ...]] = []
    steps: list[tuple[Any, ...]] = []
    for address, recorded in outcomes.items():
        outcome, state = recorded.outcome, recorded.state
        words = said(outcome)
        updates.append(
            (
                *(state.value, state.value, due(recorded), recorded.next_attempt, recorded.waits or None, recorded.since),
                *(int(attempt > 0), state in _OPEN, recorded.told),
                *(replaces, provider, replaces, route, *words),
                *(outcome.verdict is Verdict.UNKNOWN, state is not State.RELAYED, state is State.RELAYED, number, address),
            )
        )
        steps.append((number, now, address, provider, route, attempt, *words, state.value))
    return Record(number, attempt, updates, steps)


def due(recorded: Recorded) -> float | None:
    """When the recipient falls due again, in Unix seconds; None where it does not."""
    return recorded.next_attempt if recorded.state is State.QUEUED else None


def said(outcome: Outcome) -> tuple[str, str, str, str, str]:
    """Verdict, status, reply, remote and remote id, fit to be stored."""
    return (
        outcome.verdict.value,
        outcome.status,
        rows.clean(outcome.reply),
        rows.clean(outcome.remote),
        rows.clean(outcome.remote_id),
    )
