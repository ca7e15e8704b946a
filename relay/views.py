"""Entries as an admin sees them: plain values ready for JSON, the same in the API, the command line and the docs.

Times are RFC 3339 in UTC; a time that does not exist is None. Pure: the time of looking is an argument. Never raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from relay.model import Entry, RecipientState, State, line_of

Json = dict[str, object]

_QUEUES = ("active", "deferred", "hold")  # the most telling first: what an entry is called that is in several


def when(time: float | None) -> str | None:
    """A Unix time as `2026-11-20T17:57:01.250Z`; None for None, for 0, which the spool uses for "never", and for the infinite."""
    if not time or not math.isfinite(time):
        return None
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def queue_of(recipient: RecipientState, now: float) -> str:
    """active: may be attempted now; deferred: waits for its time, for a paused provider or for its turn at a busy one;
    hold: waits for an admin; finished: final."""
    if recipient.state is State.HELD:
        return "hold"
    if recipient.state is not State.QUEUED:
        return "finished"
    return "deferred" if recipient.waits or recipient.next_attempt > now else "active"


def queue_name(entry: Entry, now: float) -> str:
    """The queue an entry is shown under."""
    found = {queue_of(recipient, now) for recipient in entry.recipients}
    return next((name for name in _QUEUES if name in found), "finished")


def recipient(state: RecipientState, pauses: Mapping[str, str]) -> Json:
    """One recipient for a list. `pauses` says why a provider is not up, by its name.

    `delay_reason` is empty for one that waits for nothing but its first attempt, or is final. Who `waits` for a paused
    provider or its turn has no next attempt that could be named: it goes when the provider does, at the latest it `expires`.
    """
    waits = state.waits if state.state is State.QUEUED else ""
    return {
        "address": state.recipient.address,
        "state": state.state.value,
        "provider": state.provider,
        "route": state.route,
        "attempts": state.attempts,
        "next_attempt": when(state.next_attempt) if state.state is State.QUEUED and not waits else None,
        "waits": waits,
        "expires": when(state.next_attempt) if waits else None,
        "delay_reason": _delay_reason(state, pauses),
        "maybe_relayed": state.maybe_relayed,
        "via": list(state.via),
    }


def _delay_reason(state: RecipientState, pauses: Mapping[str, str]) -> str:
    if state.state not in (State.QUEUED, State.HELD):
        return ""
    last = f"; last reply: {state.reply}" if state.reply else ""
    if provider := line_of(state.waits):
        return f"waits for its turn at {provider}{last}"
    if not state.waits:
        return state.reply
    whom, _, alone = state.waits.partition(" message=")
    whom += ", this message alone" if alone else ""
    if reason := _pause_reason(state.waits, pauses):
        return f"waits for {whom}: {reason}" + (last if state.reply != reason else "")
    return f"waits for {whom}" + (f": {state.reply}" if state.reply else "")


def _pause_reason(waits: str, pauses: Mapping[str, str]) -> str:
    """Why `waits` (a provider, or `provider identity`) is paused; the reason of an identity's pause begins with it."""
    provider, _, identity = waits.partition(" ")
    reason = pauses.get(provider, "")
    if not identity:
        return reason
    return reason.removeprefix(f"{identity}: ") if reason.startswith(f"{identity}: ") else ""


def entry(found: Entry, now: float, pauses: Mapping[str, str]) -> Json:
    """One entry for a list; `pauses` as for `recipient`."""
    return {
        "queue_id": found.queue_id,
        "queue_name": queue_name(found, now),
        "arrival_time": when(found.arrived),
        "message_size": found.facts.size,
        "sender": found.envelope.reverse_path,
        "recipients": [recipient(state, pauses) for state in found.recipients],
    }


def details(found: Entry, now: float, pauses: Mapping[str, str]) -> Json:
    """One entry with all that is known about it beside its history."""
    shown = entry(found, now, pauses)
    shown["recipients"] = [
        {
            **recipient(state, pauses),
            "status": state.status,
            "reply": state.reply,
            "remote": state.remote,
            "remote_id": state.remote_id,
            "notify": sorted(state.recipient.notify),
            "orcpt": state.recipient.orcpt,
        }
        for state in found.recipients
    ]
    client = found.client
    return {
        **shown,
        "finished_time": when(found.finished),
        "message_id": found.message_id,
        "client": {
            "listener": client.listener,
            "address": client.address,
            "name": client.name,
            "helo": client.helo,
            "protocol": client.protocol,
            "username": client.username,
        },
        "envid": found.envelope.envid,
        "ret": found.envelope.ret,
        "via": list(found.via),
        "bounce": found.bounce,
        "edits": [{"kind": edit.kind.value, "text": edit.text} for edit in found.edits],
    }
