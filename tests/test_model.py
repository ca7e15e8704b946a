"""The records: what cannot be built, and what is derived."""

from dataclasses import replace

import pytest

from relay.model import Client, Entry, Envelope, Facts, Kind, Outcome, Recipient, RecipientState, Scope, State, Verdict

BOB, CAROL = Recipient("bob@example.net"), Recipient("carol@example.net")
RETRY = Outcome(Verdict.RETRY, "4.3.0", "451 later", "mx.example.net:25")


@pytest.mark.parametrize(
    ("recipients", "why"),
    [((), "at least one recipient"), ((BOB, CAROL, BOB), "no duplicates")],
)
def test_an_envelope_has_recipients_told_apart_by_address(recipients: tuple[Recipient, ...], why: str) -> None:
    """None, or one twice, cannot be an envelope."""
    with pytest.raises(ValueError, match=why):
        Envelope("app@example.com", recipients)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "5.3.0"}, "does not agree"),
        ({"status": "4.3"}, "does not agree"),
        ({"verdict": Verdict.OK}, "does not agree"),
        ({"reply": ""}, "who answered and what"),
        ({"remote": ""}, "who answered and what"),
        ({"verdict": Verdict.CONFIG}, "names the identity"),
    ],
)
def test_an_outcome_that_contradicts_itself_cannot_be_built(change: dict[str, object], why: str) -> None:
    """Status, kind and texts agree, or the record does not exist."""
    with pytest.raises(ValueError, match=why):
        replace(RETRY, **change)  # type: ignore[arg-type]


def test_kind_and_scope_follow_from_the_verdict() -> None:
    """They are looked up, never stored beside it."""
    assert (Kind.DEFERRED, Scope.MESSAGE, False) == (RETRY.kind, RETRY.scope, RETRY.maybe_relayed)
    assert replace(RETRY, verdict=Verdict.UNKNOWN).maybe_relayed


def test_open_recipients_are_those_that_are_not_final() -> None:
    """Queued and held ones."""
    states = tuple(RecipientState(Recipient(f"{state}@example.net"), state) for state in State)
    entry = Entry("687E7641C64007", 0.0, Client("l", "unix"), Envelope("", (BOB,)), Facts(1, False, 1), b"", "", (), states)
    assert [State.QUEUED, State.HELD] == [state.state for state in entry.open]
