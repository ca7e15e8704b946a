"""How entries look to an admin."""

from __future__ import annotations

import math

import pytest

from relay import views
from relay.model import Client, Edit, EditKind, Entry, Envelope, Facts, Notify, Recipient, RecipientState, State

NOW = 1_795_197_421.25


def state(address: str, what: State = State.QUEUED, **more: object) -> RecipientState:
    """One recipient."""
    return RecipientState(Recipient(address), what, **more)  # type: ignore[arg-type] # any field


def entry(*states: RecipientState, **more: object) -> Entry:
    """An entry with these recipients."""
    fields: dict[str, object] = {
        "queue_id": "687E7641C64007",
        "arrived": NOW,
        "client": Client("local", "127.0.0.1"),
        "envelope": Envelope("", tuple(found.recipient for found in states)),
        "facts": Facts(100, False, 78),
        "header": b"",
        "message_id": "",
        "edits": (),
        "recipients": states,
        **more,
    }
    return Entry(**fields)  # type: ignore[arg-type] # any field


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([state("a", next_attempt=NOW)], "active"),
        ([state("a", next_attempt=NOW + 1)], "deferred"),
        ([state("a", waits="ses")], "deferred"),
        ([state("a", State.HELD)], "hold"),
        ([state("a", State.RELAYED)], "finished"),
        ([state("a", State.HELD), state("b", next_attempt=NOW + 1), state("c", State.FAILED)], "deferred"),
        ([state("a", next_attempt=NOW + 1), state("b")], "active"),
    ],
)
def test_an_entry_is_shown_under_its_most_lively_queue(states: list[RecipientState], expected: str) -> None:
    """active before deferred before hold; finished only when every recipient is."""
    assert expected == views.queue_name(entry(*states), NOW)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (state("a"), ""),
        (state("a", reply="450 busy"), "450 busy"),
        (state("a", waits="ses"), "waits for ses"),
        (state("a", waits="postmark"), "waits for postmark: 401 10 BadToken"),
        (state("a", waits="mx stream=news"), "waits for mx stream=news: 422 no"),
        (state("a", waits="mx domain=example.com"), "waits for mx domain=example.com"),
        (state("a", waits="ses", reply="535 no"), "waits for ses: 535 no"),
        (state("a", waits="ses line default"), "waits for its turn at ses"),
        (state("a", waits="ses line a line", reply="450 busy"), "waits for its turn at ses; last reply: 450 busy"),
        (state("a", waits="postmark stream=line", reply="422 no"), "waits for postmark stream=line: 422 no"),
        (state("a", waits="postmark", reply="401 10 BadToken"), "waits for postmark: 401 10 BadToken"),
        (state("a", waits="postmark", reply="450 busy"), "waits for postmark: 401 10 BadToken; last reply: 450 busy"),
        (state("a", waits="ses message=687E", reply="403 no"), "waits for ses, this message alone: 403 no"),
        (state("a", State.HELD, reply="no answer"), "no answer"),
        (state("a", State.RELAYED, reply="250 ok"), ""),
    ],
)
def test_the_delay_reason_says_what_a_recipient_waits_for(found: RecipientState, expected: str) -> None:
    """The last reply, the pause, or the turn it waits for; nothing for one that is final or was not tried."""
    assert expected == views.recipient(found, {"postmark": "401 10 BadToken", "mx": "stream=news: 422 no"})["delay_reason"]


def test_a_time_that_does_not_exist_is_none() -> None:
    """The spool writes 0 for never; a final recipient has no next attempt."""
    assert [None, None, None, "1970-01-01T00:00:01.500Z"] == [views.when(time) for time in (0, None, math.inf, 1.5)]
    assert None is views.recipient(state("a", State.RELAYED, next_attempt=NOW), {})["next_attempt"]


@pytest.mark.parametrize("waits", ["ses", "ses line default", "ses stream=news"])
def test_who_waits_for_a_provider_has_an_expiry_and_no_next_attempt(waits: str) -> None:
    """The time the spool keeps for it is when relay gives up."""
    shown = views.recipient(state("a", waits=waits, next_attempt=NOW), {})
    assert (None, waits, "2026-11-20T17:57:01.250Z") == (shown["next_attempt"], shown["waits"], shown["expires"])
    shown = views.recipient(state("a", next_attempt=NOW), {})
    assert ("2026-11-20T17:57:01.250Z", "", None) == (shown["next_attempt"], shown["waits"], shown["expires"])


def test_details_hold_everything_but_the_message() -> None:
    """Client, parameters, edits and what the remote said."""
    recipient = RecipientState(
        Recipient("a@example.net", frozenset({Notify.NEVER}), "rfc822;a@example.net"),
        State.RELAYED,
        1,
        provider="ses",
        status="2.0.0",
        reply="250 ok",
        remote="mx[192.0.2.1]:25",
        remote_id="r1",
    )
    shown = views.details(entry(recipient, edits=(Edit(EditKind.REMOVE, "bcc"),), via=("ses",), bounce=True, finished=NOW), NOW, {})
    assert [{"kind": "remove", "text": "bcc"}] == shown["edits"]
    assert (["ses"], True, "2026-11-20T17:57:01.250Z") == (shown["via"], shown["bounce"], shown["finished_time"])
    assert isinstance(shown["recipients"], list)
    assert (["NEVER"], "rfc822;a@example.net", "r1") == tuple(shown["recipients"][0][key] for key in ("notify", "orcpt", "remote_id"))
