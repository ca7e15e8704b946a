"""What a provider's account says of its quota, and why it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.budgets import Quota
from relay.transports import net
from relay.transports.auto import Auto
from relay.transports.base import Transport
from relay.transports.capture import Capture, CaptureSettings
from relay.transports.http import Answer, Http
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.ses.reply import asker
from relay.transports.ses.sigv4 import Keys
from relay.transports.sesv2 import account
from relay.transports.smtp import Smtp, SmtpSettings
from tests.fakes import FakeTransport
from tests.servers import Act, HttpServer, Response
from tests.transports import test_lowcodeapi
from tests.transports.test_ses import SECRET, late, transport
from tests.transports.test_ses_probe import HEALTHY, refused

KNOWN = Quota(14.0, 50_000, 1200)
DENIED = "User: arn:aws:iam::1:user/relay is not authorized to perform: ses:GetAccount on resource: *"


def said(**quota: Any) -> Response:
    """An account with this quota."""
    return Response(200, json.dumps({**HEALTHY, "SendQuota": {**HEALTHY["SendQuota"], **quota}}).encode())


async def asked(*answers: Any, **settings: Any) -> tuple[Quota | None, str, HttpServer]:
    """What SES says of its quota, and why not."""
    async with HttpServer(list(answers)) as server:
        ses = transport(server, now=1_795_197_421.0, **settings)
        found = await ses.quota()
        await ses.aclose()
    return found, ses.quota_unread, server


async def test_an_account_tells() -> None:
    """By the signed question of the probe, which sends no mail."""
    found, why, server = await asked(said())
    assert (KNOWN, "") == (found, why)
    assert [("GET", "/v2/email/account", b"")] == [(one.method, one.path, one.body) for one in server.requests]
    assert SECRET not in repr(server.requests[0].headers)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ({"Max24HourSend": -1}, Quota(14.0, None, 1200)),
        ({"Max24HourSend": 200, "MaxSendRate": 1, "SentLast24Hours": 199.2}, Quota(1.0, 200, 200)),
        ({"MaxSendRate": 0.5}, Quota(0.5, 50_000, 1200)),
        ({"MaxSendRate": 0}, Quota(None, 50_000, 1200)),
    ],
    ids=["no limit", "sandbox", "slow", "no rate"],
)
async def test_quotas(quota: dict[str, Any], expected: Quota) -> None:
    """-1 is no limit; what was sent in part is sent."""
    assert expected == (await asked(said(**quota)))[0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            refused(403, "AccessDeniedException", DENIED),
            "the keys may send but not look at the account: to see it here, allow ses:GetAccount",
        ),
        (refused(403, "SignatureDoesNotMatch", f"x {SECRET}"), "403 SignatureDoesNotMatch: x [secret]"),
        (refused(429, "TooManyRequestsException", "x"), "429 TooManyRequests: x"),
        (Response(200, b"<html>"), "the answer to GetAccount names no quota"),
        (said(MaxSendRate="14"), "the answer to GetAccount names no quota"),
        (said(Max24HourSend=True), "the answer to GetAccount names no quota"),
        (said(SentLast24Hours=1e300), "the answer to GetAccount names no quota"),
        (Act.CUT, ""),
    ],
    ids=["denied", "wrong secret", "busy", "a page", "text", "truth", "huge", "cut"],
)
async def test_an_account_that_does_not_tell(answer: Any, why: str) -> None:
    """None, and one line for the log without a secret; never an exception."""
    found, told, _ = await asked(answer)
    assert None is found
    assert told.startswith(why)
    assert net.one_line(told, 2000) == told != ""
    assert SECRET not in told


async def test_a_reason_is_forgotten_when_it_tells() -> None:
    """What could not be read once can be read later."""
    async with HttpServer([refused(403, "AccessDeniedException", DENIED), said()]) as server:
        ses = transport(server)
        assert (None, True) == (await ses.quota(), bool(ses.quota_unread))
        assert (KNOWN, False) == (await ses.quota(), bool(ses.quota_unread))
        await ses.aclose()


async def test_a_clock_that_is_wrong() -> None:
    """The question is asked once more by the remote's clock."""
    found, _, server = await asked(late(), said())
    assert (2, KNOWN) == (len(server.requests), found)


async def test_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys nothing is asked."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found, why, server = await asked(access_key_id="", profile="nobody")
    assert (None, []) == (found, server.requests)
    assert why.startswith("no AWS keys from profile nobody")


@pytest.mark.parametrize("envelope", ["result", "data", ""])
async def test_the_account_behind_lowcodeapi(envelope: str) -> None:
    """In whatever envelope; a refusal names no token."""
    body = {envelope: HEALTHY} if envelope else HEALTHY
    refusal = Response(401, f'{{"message":"what is {test_lowcodeapi.TOKEN}?"}}'.encode())
    async with HttpServer([Response(200, json.dumps(body).encode()), refusal]) as server:
        lowcode = test_lowcodeapi.transport(server)
        assert (KNOWN, "") == (await lowcode.quota(), lowcode.quota_unread)
        assert (None, "401: what is [token]?") == (await lowcode.quota(), lowcode.quota_unread)
        await lowcode.aclose()


async def test_who_cannot_be_asked(tmp_path: Any) -> None:
    """Other providers, and SMTP, have no such question: nothing is sent, and there is nothing to tell."""
    async with HttpServer() as server:
        http = Http(base_url=server.url, timeout=5, concurrency=1)
        others: list[Transport] = [
            Postmark(PostmarkSettings("pm", "00000000-fake", base_url=server.url), http),
            Mailtrap(MailtrapSettings("mt", "fake", base_url=server.url), {"transactional": http, "bulk": http}),
            Paubox(PauboxSettings("pb", "fake", "fake", base_url=server.url), http),
            Smtp(SmtpSettings("smarthost", "127.0.0.1", server.port, hostname="relay.example.com")),
            Capture(CaptureSettings("capture", tmp_path)),
        ]
        assert [(None, "")] * 5 == [(await one.quota(), one.quota_unread) for one in others]
        await http.aclose()
    assert [] == server.requests


async def test_two_ways_are_one_account() -> None:
    """The API is asked for both."""
    both = Auto(FakeTransport("a", allows=KNOWN), FakeTransport("a"))
    assert (KNOWN, "") == (await both.quota(), both.quota_unread)
    both = Auto(FakeTransport("a", allows="may not look"), FakeTransport("a"))
    assert (None, "may not look") == (await both.quota(), both.quota_unread)


@given(
    st.integers(100, 599),
    st.binary(max_size=50)
    | st.dictionaries(
        st.just("SendQuota"),
        st.none() | st.dictionaries(st.sampled_from(list(HEALTHY["SendQuota"])), st.none() | st.floats() | st.integers() | st.text()),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_any_answer(status: int, body: bytes) -> None:
    """Whatever is answered, it is a quota that can be counted with, or a line that says why not."""
    found = account.quota(Answer(status, {}, body, "x", 0, 0), asker("eu-west-1", Keys("A", "B")))
    if isinstance(found, str):
        assert net.one_line(found, 2000) == found != ""
    else:
        assert (True, True, True) == (found.rate is None or found.rate > 0, found.daily is None or found.daily >= 0, found.used >= 0)
