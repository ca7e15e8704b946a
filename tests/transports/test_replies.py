"""Misleading replies of known providers, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Verdict
from relay.transports import replies
from relay.transports.conversation import Lost
from relay.transports.esmtp import Reply
from relay.transports.smtp.judging import About, blotted, judged

ABOUT = About(("app@example.com", "list@bounce.example.com"), ("a@example.net", "b@example.net", "colleague@example.com"), "shop", "clinic")
REMOTE = "smtp.example.net[192.0.2.1]:587"
VERIFY = "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: "
# Dialect, stage, reply -> verdict, enhanced status, identity; as the documentation of the providers has them.
ROWS = [
    ("ses", "mail", "421 Too many concurrent SMTP connections", Verdict.THROTTLE, "4.7.28", ""),
    ("ses", "greeting", "421 Too many concurrent SMTP connections", Verdict.THROTTLE, "4.7.28", ""),
    ("ses", "dot", "451 Temporary service failure", Verdict.RETRY, "4.3.0", ""),
    ("ses", "dot", "451 Timeout waiting for data from client", Verdict.RETRY, "4.3.0", ""),
    ("ses", "dot", "454 Throttling failure: Maximum sending rate exceeded", Verdict.THROTTLE, "4.7.28", ""),
    ("ses", "dot", "454 Throttling failure: Maximum SigV2 SMTP sending rate exceeded", Verdict.THROTTLE, "4.7.28", ""),
    ("ses", "dot", "454 Throttling failure: Daily message quota exceeded", Verdict.PAUSE, "4.7.28", ""),
    ("ses", "auth", "454 Temporary authentication failure", Verdict.PAUSE, "4.3.0", ""),
    ("ses", "dot", "454 Temporary service failure", Verdict.RETRY, "4.3.0", ""),
    ("ses", "mail", "501 Invalid MAIL FROM address provided", Verdict.PERM_MSG, "5.6.0", ""),
    ("ses", "mail", "530 Authentication required", Verdict.PAUSE, "4.3.5", ""),
    ("ses", "auth", "535 Authentication Credentials Invalid", Verdict.PAUSE, "4.7.8", ""),
    ("ses", "auth", "535 Account not subscribed to SES", Verdict.PAUSE, "4.7.1", ""),
    ("ses", "dot", "552 Message is too long.", Verdict.PERM_MSG, "5.3.4", ""),
    ("ses", "mail", "553 <x> Invalid email address", Verdict.PERM_MSG, "5.6.0", ""),
    ("ses", "rcpt", "553 <x> address unknown", Verdict.PERM_RCPT, "5.1.1", ""),
    (
        "ses",
        "dot",
        "554 Access denied: User arn:aws:iam::1:user/x is not authorized to perform ses:SendRawEmail",
        Verdict.PAUSE,
        "4.7.1",
        "",
    ),
    ("ses", "dot", VERIFY + "app@example.com", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("ses", "dot", VERIFY + "App <app@Example.com>, example.com", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("ses", "dot", VERIFY + "arn:aws:ses:eu-west-1:1:identity/bounce.example.com.", Verdict.CONFIG, "4.7.1", "domain=bounce.example.com"),
    ("ses", "dot", VERIFY + "someone@elsewhere.test, app@example.com", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("ses", "dot", VERIFY + "stranger@elsewhere.test", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("ses", "dot", VERIFY + "a@example.net, colleague@example.com", Verdict.PERM_RCPT, "5.7.1", ""),
    ("ses", "dot", VERIFY + "colleague@example.com", Verdict.RETRY, "4.1.3", ""),
    ("ses", "dot", VERIFY + "a@example.net", Verdict.PERM_RCPT, "5.7.1", ""),
    ("ses", "dot", VERIFY + "b@example.net", Verdict.RETRY, "4.1.3", ""),
    ("ses", "dot", "554 Message rejected: Email address is not verified.", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("ses", "dot", "554 Message rejected: Sending suspended for this account. For more information…", Verdict.PAUSE, "4.7.0", ""),
    ("ses", "dot", "554 Message rejected: Sending paused for this account", Verdict.PAUSE, "4.7.0", ""),
    ("ses", "dot", "554 Sending paused for tenant clinic", Verdict.CONFIG, "4.7.0", "tenant=clinic"),
    ("ses", "dot", "554 Message rejected: Sending is paused for this tenant", Verdict.CONFIG, "4.7.0", "tenant=clinic"),
    (
        "ses",
        "dot",
        "554 Message rejected: Identity example.com is not associated with tenant clinic",
        Verdict.CONFIG,
        "4.7.1",
        "tenant=clinic",
    ),
    (
        "ses",
        "dot",
        "554 Transaction failed: Resource arn:aws:ses:eu-west-1:1:configuration-set/shop not associated with tenant clinic",
        Verdict.CONFIG,
        "4.7.1",
        "tenant=clinic",
    ),
    ("ses", "dot", "554 Message rejected: Sending is disabled for this account", Verdict.PAUSE, "4.7.0", ""),
    ("ses", "dot", "554 Sending paused for configuration set shop", Verdict.CONFIG, "4.7.0", "configuration_set=shop"),
    ("ses", "dot", "554 Transaction failed: Configuration set <shop> does not exist", Verdict.CONFIG, "4.3.5", "configuration_set=shop"),
    ("ses", "dot", "554 Message rejected: Subject: Sending paused for this account", Verdict.PERM_MSG, "5.6.0", ""),
    ("ses", "dot", "250 Ok 0102017f-Sending paused for this account", Verdict.OK, "2.0.0", ""),
    ("mailtrap", "auth", "535 5.7.8 Too many connections per account", Verdict.THROTTLE, "4.7.28", ""),
    ("mailtrap", "auth", "535 5.7.0 Monthly messages limit reached", Verdict.PAUSE, "4.7.28", ""),
    ("mailtrap", "auth", "535 5.7.0 Invalid login or password", Verdict.PAUSE, "4.7.8", ""),
    ("mailtrap", "mail", "550 5.7.1 Sending from domain is not allowed", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("mailtrap", "dot", "550 5.7.1 Sending from domain example.com is not allowed", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("mailtrap", "dot", "554 5.7.1 'From' header does not match the sender's domain", Verdict.CONFIG, "4.7.1", "domain=example.com"),
    ("mailtrap", "dot", "550 5.7.0 Requested action not taken: too many emails per second", Verdict.THROTTLE, "4.7.28", ""),
    ("mailtrap", "rcpt", "550 5.1.1 no such user", Verdict.PERM_RCPT, "5.1.1", ""),
    ("postmark", "auth", "535 5.7.8 Error: authentication failed", Verdict.PAUSE, "4.7.8", ""),
    ("paubox", "auth", "535 5.7.8 Error: authentication failed", Verdict.PAUSE, "4.7.8", ""),
    ("", "dot", VERIFY + "app@example.com", Verdict.PERM_MSG, "5.6.0", ""),
    ("", "dot", "550 5.7.0 too many emails per second", Verdict.PERM_MSG, "5.7.0", ""),
]


@pytest.mark.parametrize(
    ("dialect", "stage", "reply", "verdict", "status", "identity"), ROWS, ids=[f"{row[0]} {row[2][:50]}" for row in ROWS]
)
def test_rows(dialect: str, stage: str, reply: str, verdict: Verdict, status: str, identity: str) -> None:
    """Each documented reply has its verdict, status and identity, and a mend wherever an admin has something to do."""
    code, _, text = reply.partition(" ")
    found = judged(dialect, stage, Reply(int(code), text), "a@example.net", ABOUT, REMOTE)
    assert (verdict, status, identity) == (found.verdict, found.status, found.identity)
    assert (found.reply, found.remote, found.own) == (reply, REMOTE, False)
    assert bool(found.mend) is (verdict in (Verdict.PAUSE, Verdict.CONFIG))
    assert "{" not in found.mend


def test_identity_that_the_message_does_not_name() -> None:
    """A configuration set that is the domain's own is the domain's; without any sender's domain the message waits like others."""
    refusal = Reply(554, "Transaction failed: Configuration set <shop> does not exist")
    found = judged("ses", "dot", refusal, "a@example.net", replace(ABOUT, configuration_set=""), REMOTE)
    assert (found.identity, found.verdict) == ("domain=example.com", Verdict.CONFIG)
    assert "(the identity's default)" in found.mend
    found = judged("ses", "dot", refusal, "a@example.net", About(("postmaster", "x@[nonsense]"), ("a@example.net",)), REMOTE)
    assert (found.identity, found.verdict, found.mend) == ("", Verdict.RETRY, "")


@given(
    st.sampled_from(["ses", "mailtrap", "postmark", "", "x"]),
    st.sampled_from(["auth", "mail", "rcpt", "dot"]),
    st.integers(200, 599),
    st.text(st.characters(codec="ascii")),
)
def test_any_reply(dialect: str, stage: str, code: int, text: str) -> None:
    """Any reply has an outcome; what is no refusal is never judged by a table."""
    if code < 400:
        assert replies.judge(dialect, stage, code, text) is None
    assert judged(dialect, stage, Reply(code, text), "a@example.net", ABOUT, REMOTE).reply.isprintable()


SECRET = "canary/+1"
SENT = [
    "canary/+1",
    "Y2FuYXJ5LysxCg",  # with a line end
    "Y2FuYXJ5LysxAAA=",
    "Y2FuYXJ5Lysx",
    "AHJlbGF5AGNhbmFyeS8rMQ==",  # NUL relay NUL password
    "AHJlbGF5AGNhbmFyeS8rMQ",
    "cmVsYXkAcmVsYXkAY2FuYXJ5Lysx",  # relay NUL relay NUL password
    "63616e6172792f2b31",
    "63616E6172792F2B31",
    "canary%2F%2B1",
    "relay 0123456789abcdef0123456789abcdef",
    "cmVsYXkgMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",  # the same
]


@pytest.mark.parametrize("sent", SENT)
def test_secrets_are_blotted_out(sent: str) -> None:
    """However a server quotes what it was sent, the password is not in the text, and the rest is."""
    found = blotted(Reply(535, f"5.7.8 not {sent}, no"), "relay", SECRET)
    assert found == Reply(535, "5.7.8 not [password], no")
    assert blotted(Lost(f"unexpected reply: {sent}"), "relay", SECRET) == Lost("unexpected reply: [password]")


def test_texts_without_secrets_stay() -> None:
    """Words that look like base64 stay, and so does everything where nobody logged in."""
    plain = Reply(250, "Ok 0102017f4a6e queued as ABCDEFGH abcde")
    assert blotted(plain, "relay", SECRET) is plain
    assert blotted(plain, "", "") is plain


def test_token_that_is_both_names() -> None:
    """A token that is user name and password at once is blotted out in both places."""
    found = blotted(Reply(535, "no AHRva2VuAHRva2Vu for token"), "token", "token")
    assert found == Reply(535, "no [password] for [password]")
