"""Replies of Amazon SES: a table of them, what follows in delivery, and texts from nowhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Outcome, Verdict
from relay.transports import net
from relay.transports.bodies import Body
from relay.transports.http import Answer
from relay.transports.ses import Payload, read
from relay.transports.ses.reply import asker, skewed
from relay.transports.ses.sigv4 import Keys

REPLIES = json.loads((Path(__file__).parent.parent / "data" / "replies" / "ses.json").read_text(encoding="utf-8"))
REMOTE = "email.eu-west-1.amazonaws.com[192.0.2.1]:443"
SENT = Payload(
    ("ann@example.net", "Two@Example.NET", "cc@example.org"),
    Body((b"{}",)),
    "",
    ("app@example.com", "list@other.example"),
    {"configuration_set": "transactional", "contact_list": "news", "tenant": "tenant-1"},
)
TEMPLATED = replace(SENT, uses={"template": "welcome", **SENT.uses})
ALONE = Payload(("ann@example.net",), Body((b"{}",)), "", ("app@example.com",))
KEYS = Keys("AKIDEXAMPLE", "x" * 40, "canary-token")


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["when"])
def test_replies(row: dict[str, Any]) -> None:
    """Each reply has one outcome for each recipient, by the error's code, and by its text where the code says too little."""
    raw = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
    answer = Answer(row["http"], row.get("headers", {}), raw.encode(), REMOTE, 0.5, 0.25)
    request = ALONE if row.get("alone") else TEMPLATED if row.get("templated") else SENT
    keys = replace(KEYS, secret_access_key=row.get("secret", KEYS.secret_access_key))
    outcomes = read(answer, request, asker("eu-west-1", keys, row.get("source", ""), row.get("behind")))
    assert list(request.recipients) == list(outcomes)
    assert {recipient: row.get("but", {}).get(recipient, row["outcome"]) for recipient in outcomes} == {
        recipient: f"{outcome.verdict} {outcome.status}" for recipient, outcome in outcomes.items()
    }
    first = outcomes["ann@example.net"]
    shown = {"reply": first.reply, "identity": first.identity, "mend": first.mend, "retry_after": first.retry_after, "id": first.remote_id}
    assert {name: row[name] for name in shown if name in row} == {name: value for name, value in shown.items() if name in row}
    assert (bool(first.mend), first.connect_s, first.send_s) == (first.verdict in (Verdict.PAUSE, Verdict.CONFIG), 0.5, 0.25)
    assert not first.own
    assert "{" not in first.mend
    if first.identity:
        assert first.identity in request.identities
    assert "canary" not in repr(outcomes)


JSON = st.fixed_dictionaries(
    {},
    optional={
        "__type": st.one_of(
            st.none(), st.text(max_size=20), st.sampled_from(["a#MessageRejected", "Throttling", "NotFoundException", "RequestExpired"])
        ),
        "message": st.one_of(
            st.none(),
            st.text(max_size=20),
            st.sampled_from(
                ["Email address is not verified. The following identities failed the check in region X: ,,<,@, ann@example.net", "{x}"]
            ),
        ),
        "MessageId": st.one_of(st.none(), st.text(max_size=20), st.integers()),
    },
)


@given(
    st.integers(100, 599),
    st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())),
    st.dictionaries(st.sampled_from(["x-amzn-errortype", "x-amzn-requestid", "retry-after", "date"]), st.text(max_size=30)),
)
def test_any_reply(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Whatever is answered, each recipient has one outcome, and only a 2xx with an id means that the mail was taken."""
    answer = Answer(status, headers, body, REMOTE, 0.0, 0.0)
    for request in (SENT, ALONE):
        outcomes = read(answer, request, asker("eu-west-1", KEYS))
        assert list(request.recipients) == list(outcomes)
        for outcome in outcomes.values():
            assert net.one_line(outcome.reply, 2000) == outcome.reply
            assert bool(outcome.mend) is (outcome.verdict in (Verdict.PAUSE, Verdict.CONFIG))
            if outcome.verdict is Verdict.OK:
                assert status // 100 == 2
    skewed(answer)


@pytest.mark.parametrize(
    "text", [" " * 40_000, "a@" * 20_000, "failed the check in region x:" + "<a," * 13_000, "The Canonical String for this" * 2000]
)
def test_a_long_reply_is_read_in_time(text: str) -> None:
    """However a reply is written, reading it takes no longer than its length warrants."""
    for begin in ("", "Email address is not verified. The following identities failed the check in region x: "):
        body = json.dumps({"message": begin + text}).encode()
        for _ in range(20):
            read(Answer(400, {"x-amzn-errortype": "MessageRejected"}, body, REMOTE, 0, 0), SENT, asker("eu-west-1", KEYS))


def test_a_success_by_another_clock() -> None:
    """A mail that was taken only by the remote's clock says so in the log."""
    outcome: Outcome = read(Answer(200, {}, b'{"MessageId":"1"}', REMOTE, 0, 0), ALONE, asker("eu-west-1", KEYS, behind=-90.0))[
        "ann@example.net"
    ]
    assert "200 MessageId=1 (signed again by Amazon's clock: this host's is 90 s ahead of it)" == outcome.reply
