"""Records to rows and back. Pure.

Decoding trusts nothing: a row that does not make a valid record raises CorruptEntry with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relay.errors import CorruptEntry
from relay.model import Client, Edit, EditKind, Entry, Envelope, Facts, Notify, Recipient, RecipientState, State, Verdict
from relay.spool import ids
from relay.spool.base import Step

GONE, IN_ROW, IN_FILE = 0, 1, 2  # entry.body

ENTRY = "id, arrived, finished, sender, message_id, size, eight_bit, longest_line, body, bounce, via, client, parameters, edits, header"
RECIPIENT = (
    "entry, address, n, notify, orcpt, state, attempts, next_attempt, due, waits, provider, route, since, "
    "verdict, status, reply, remote, remote_id, maybe_relayed, told, via"
)
OLD_RECIPIENT = RECIPIENT.removesuffix("via") + "'' AS via"  # in a file older than database.LEDGER
STEP = "entry, time, address, provider, route, attempt, verdict, status, reply, remote, remote_id, state"

OPEN_STATES = "('queued', 'held')"
UNTOLD = "(NOT r.told AND (r.state = 'failed' OR (r.state = 'relayed' AND instr(r.notify, 'SUCCESS'))))"  # a notice is due
WARNED = "(r.notify = '' OR instr(r.notify, 'DELAY'))"  # as far as NOTIFY goes
LATE = "r.told = 0 AND r.state = 'queued' AND (r.attempts > 0 OR r.waits IS NOT NULL)"  # as the index recipient_late has it

_states = {state.value: state for state in State}
_verdicts: Mapping[str, Verdict | None] = {"": None} | {verdict.value: verdict for verdict in Verdict}
_kinds = {kind.value: kind for kind in EditKind}
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def entry_row(entry: Entry, body: int) -> tuple[Any, ...]:
    """The row of table entry."""
    client, envelope, facts = entry.client, entry.envelope, entry.facts
    return (
        int(entry.queue_id, 16),
        entry.arrived,
        None,
        envelope.reverse_path,
        entry.message_id,
        facts.size,
        facts.eight_bit,
        facts.longest_line,
        body,
        entry.bounce,
        via(entry.via) if entry.via else "[]",
        _dumps((client.listener, client.address, client.port, client.name, client.helo, client.protocol, client.username, client.tls)),
        _dumps((envelope.ret, envelope.envid, envelope.smtputf8)),
        _dumps([(edit.kind, edit.text) for edit in entry.edits]),
        entry.header,
    )


def recipient_rows(entry: Entry) -> list[tuple[Any, ...]]:
    """The rows of table recipient for an entry just accepted: every recipient is due at once."""
    number, arrived = int(entry.queue_id, 16), entry.arrived
    due = (State.QUEUED.value, 0, arrived, arrived, None, "")
    unsaid = (0.0, "", "", "", "", "", 0, 0, "")
    return [
        (number, one.recipient.address, n, ",".join(sorted(one.recipient.notify)), one.recipient.orcpt, *due, one.route, *unsaid)
        for n, one in enumerate(entry.recipients)
    ]


def entry(row: Sequence[Any], recipients: Sequence[Sequence[Any]], leased: float | None = None) -> Entry:
    """The record of one entry. `recipients` in any order. Raises CorruptEntry.

    With `leased` (the present moment) it is the entry for a claim: a recipient that another claim holds shows the end of
    its lease as next attempt, and one whose time has come waits for nothing any more.
    """
    queue_id = ids.text(row[0])
    try:
        via = tuple(json.loads(row[10]))
        states = tuple(_recipient(r, leased, via) for r in sorted(recipients, key=_position))
        ret, envid, smtputf8 = json.loads(row[12])
        return Entry(
            queue_id=queue_id,
            arrived=row[1],
            client=Client(*json.loads(row[11])),
            envelope=Envelope(row[3], tuple(state.recipient for state in states), ret, envid, smtputf8),
            facts=Facts(row[5], bool(row[6]), row[7]),
            header=row[14],
            message_id=row[4],
            edits=tuple(Edit(_kinds[kind], text) for kind, text in json.loads(row[13])),
            recipients=states,
            via=via,
            bounce=bool(row[9]),
            finished=row[2],
        )
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise CorruptEntry(queue_id, f"its rows cannot be read: {type(error).__name__}: {error}") from error


def _position(row: Sequence[Any]) -> Any:
    return row[2]


def via(providers: Sequence[str]) -> str:
    """The value of column via."""
    return _dumps(list(providers))


def _recipient(row: Sequence[Any], leased: float | None, entry_via: tuple[str, ...]) -> RecipientState:
    next_attempt, due, waits = row[7:10]
    if leased is not None and due is not None:
        if due > leased:
            next_attempt = due
        else:
            waits = None
    notify = frozenset(Notify(word) for word in row[3].split(",")) if row[3] else frozenset()
    return RecipientState(
        recipient=Recipient(row[1], notify, row[4]),
        state=_states[row[5]],
        attempts=row[6],
        next_attempt=next_attempt,
        provider=row[10],
        route=row[11],
        since=row[12],
        verdict=_verdicts[row[13]],
        status=row[14],
        reply=row[15],
        remote=row[16],
        remote_id=row[17],
        maybe_relayed=bool(row[18]),
        waits=waits or "",
        told=bool(row[19]),
        via=tuple(json.loads(row[20])) if row[20] else entry_via,
    )


def step(row: Sequence[Any]) -> Step:
    """The record of one line of history."""
    number, time, address, provider, route, attempt, verdict, status, reply, remote, remote_id, state = row
    return Step(
        time=time,
        queue_id=ids.text(number),
        recipient=address,
        provider=provider,
        route=route,
        attempt=attempt,
        verdict=verdict,
        status=status,
        reply=reply,
        remote=remote,
        remote_id=remote_id,
        state=_states[state],
    )


def clean(text: str) -> str:
    """Text that can be stored: half a surrogate pair in what a peer said must not cost us the outcome."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
