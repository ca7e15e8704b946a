"""Entries as an admin sees them: plain values ready for JSON, the same in the API, the command line and the docs.

Times are RFC 3339 in UTC; a time that does not exist is None. Pure: the time of looking is an argument. Never raises.
"""

from __future__ import annotations

from datetime import UTC, datetime

from relay.model import Entry, RecipientState, State

Json = dict[str, object]

_LINE = " line"  # ends the key of who waits for room in a provider's line, not for the end of a pause
_QUEUES = ("active", "deferred", "hold")  # the most telling first: what an entry is called that is in several


def when(time: float | None) -> str | None:
    """A Unix time as `2026-11-20T17:57:01.250Z`; None for None and for 0, which the spool uses for "never"."""
    if not time:
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


def recipient(state: RecipientState) -> Json:
    """One recipient for a list. `delay_reason` is empty for one that was not tried yet or is final."""
    return {
        "address": state.recipient.address,
        "state": state.state.value,
        "provider": state.provider,
        "route": state.route,
        "attempts": state.attempts,
        "next_attempt": when(state.next_attempt) if state.state is State.QUEUED else None,
        "delay_reason": _delay_reason(state),
        "maybe_relayed": state.maybe_relayed,
    }


def _delay_reason(state: RecipientState) -> str:
    if state.state not in (State.QUEUED, State.HELD):
        return ""
    if state.waits.endswith(_LINE):
        return f"waits for its turn at {state.waits.removesuffix(_LINE)}" + (f"; last reply: {state.reply}" if state.reply else "")
    if state.waits:
        return f"{state.waits} is paused" + (f": {state.reply}" if state.reply else "")
    return state.reply


def entry(found: Entry, now: float) -> Json:
    """One entry for a list."""
    return {
        "queue_id": found.queue_id,
        "queue_name": queue_name(found, now),
        "arrival_time": when(found.arrived),
        "message_size": found.facts.size,
        "sender": found.envelope.reverse_path,
        "recipients": [recipient(state) for state in found.recipients],
    }


def details(found: Entry, now: float) -> Json:
    """One entry with all that is known about it beside its history."""
    shown = entry(found, now)
    shown["recipients"] = [
        {
            **recipient(state),
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
