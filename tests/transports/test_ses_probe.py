"""What a probe of Amazon SES finds: keys, account and quota, with what to do about each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.transports import net
from relay.transports.base import Check
from relay.transports.http import Answer
from relay.transports.ses.reply import asker
from relay.transports.ses.sigv4 import Keys, sign
from relay.transports.sesv2 import account
from tests.servers import Act, HttpServer, Response
from tests.transports.test_ses import SECRET, late, transport

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HEALTHY: dict[str, Any] = {
    "SendingEnabled": True,
    "ProductionAccessEnabled": True,
    "EnforcementStatus": "HEALTHY",
    "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 1200.0},
}
LOGIN = Check("login", True, "accepted")
QUOTA = Check("quota", True, "1,200 of 50,000 recipients in 24 hours; 14 a second")


def refused(status: int, code: str, text: str) -> Response:
    """A refusal in the shape of AWS."""
    return Response(status, json.dumps({"message": text}).encode(), {"x-amzn-errortype": code})


async def probed(answer: Any, **settings: Any) -> tuple[list[Check], HttpServer]:
    """What a probe finds beside that there is a server."""
    async with HttpServer([answer] if not isinstance(answer, list) else answer) as server:
        ses = transport(server, now=1_795_197_421.0, **settings)
        first, *found = await ses.probe()
        await ses.aclose()
    assert ("connect", True) == (first.what, first.ok)
    return found, server


async def test_a_healthy_account() -> None:
    """The question is signed, and sends no mail."""
    found, server = await probed(Response(200, json.dumps(HEALTHY).encode()))
    assert [LOGIN, Check("account", True, "sending is enabled, production access, enforcement status HEALTHY"), QUOTA] == found
    (request,) = server.requests
    assert ("GET", "/v2/email/account", b"") == (request.method, request.path, request.body)
    fields = {"Accept": "application/json", "Content-Type": "application/json"}
    host = f"127.0.0.1:{server.port}"
    keys = Keys("AKIDEXAMPLE", SECRET)
    signed = sign("GET", host, request.path, fields, EMPTY, keys=keys, region="eu-west-1", now=1_795_197_421.0)
    assert signed["Authorization"] == request.headers["authorization"]


ENABLED = "sending is enabled, production access, enforcement status"
ACCOUNTS: dict[str, tuple[dict[str, Any], Check, Check]] = {
    "sandbox": (
        {"ProductionAccessEnabled": False},
        Check(
            "account",
            True,
            "sending is enabled, in the sandbox, enforcement status HEALTHY",
            "in the sandbox mail goes to verified addresses only: ask for production access (SES console, Account dashboard)",
        ),
        QUOTA,
    ),
    "paused": (
        {"SendingEnabled": False},
        Check(
            "account",
            False,
            "sending is paused, production access, enforcement status HEALTHY",
            "resume sending for the account in eu-west-1, after a look at its reputation (SES console, Account dashboard)",
        ),
        QUOTA,
    ),
    "probation": (
        {"EnforcementStatus": "PROBATION"},
        Check(
            "account",
            True,
            f"{ENABLED} PROBATION",
            "Amazon watches the account and may end its sending: look at its reputation (SES console, Account dashboard)",
        ),
        QUOTA,
    ),
    "shut down": (
        {"EnforcementStatus": "SHUTDOWN"},
        Check(
            "account",
            False,
            f"{ENABLED} SHUTDOWN",
            "Amazon has ended sending for this account: look at the SES console and the account's mail from Amazon",
        ),
        QUOTA,
    ),
    "used up": (
        {"SendQuota": {"Max24HourSend": 200.0, "MaxSendRate": 1.0, "SentLast24Hours": 200.0}},
        Check("account", True, f"{ENABLED} HEALTHY"),
        Check(
            "quota",
            False,
            "200 of 200 recipients in 24 hours; 1 a second",
            "wait, or ask Amazon for a larger quota (SES console, Account dashboard)",
        ),
    ),
    "no limit": (
        {"SendQuota": {"Max24HourSend": -1, "MaxSendRate": 500, "SentLast24Hours": 7}},
        Check("account", True, f"{ENABLED} HEALTHY"),
        Check("quota", True, "7 recipients in 24 hours, no limit; 500 a second"),
    ),
    "little is told": (
        {"SendQuota": {"Max24HourSend": "x"}, "EnforcementStatus": None, "ProductionAccessEnabled": None},
        Check("account", True, "sending is enabled, production access"),
        Check("quota", None, "not told"),
    ),
}


@pytest.mark.parametrize("what", ACCOUNTS)
async def test_accounts(what: str) -> None:
    """Each state of an account is told, with what to do where it is not as it should be."""
    changed, told, quota = ACCOUNTS[what]
    found, _ = await probed(Response(200, json.dumps({**HEALTHY, **changed}).encode()))
    assert [LOGIN, told, quota] == found


NOT_TOLD = Check(
    "account",
    None,
    "cannot be told: the keys may send but not look at the account",
    "to see it here, allow ses:GetAccount to the owner of the key; sending needs no more than it has",
)
NO_ANSWER = "this is no answer of the API: check base_url (URL), and what stands in between"
REFUSALS: dict[str, tuple[Response, list[Check]]] = {
    "sending only": (
        refused(
            403, "AccessDeniedException", "User: arn:aws:iam::1:user/relay is not authorized to perform: ses:GetAccount on resource: *"
        ),
        [LOGIN, NOT_TOLD],
    ),
    "denied without a word": (
        refused(403, "AccessDeniedException", "Access denied"),
        [Check("login", None, "403 AccessDenied: Access denied"), Check("account", None, "cannot be told", NOT_TOLD.mend)],
    ),
    "wrong secret": (
        refused(403, "SignatureDoesNotMatch", "x"),
        [
            Check(
                "login",
                False,
                "403 SignatureDoesNotMatch: x",
                "check access_key_id (11 characters) and secret_access_key (40 characters) of this provider",
            )
        ],
    ),
    "quoted": (
        refused(403, "UnrecognizedClientException", f"what is {SECRET}?"),
        [
            Check(
                "login",
                False,
                "403 UnrecognizedClient: what is [secret]?",
                "check access_key_id (11 characters) and secret_access_key (40 characters) of this provider",
            )
        ],
    ),
    "busy": (
        refused(429, "TooManyRequestsException", "x"),
        [Check("login", None, "429 TooManyRequests: x", "try again later: it asks to be asked less often")],
    ),
    "not built": (Response(404, b"<html>"), [Check("login", False, "404: not an answer of Amazon SES: <html>", NO_ANSWER)]),
    "a page": (
        Response(200, b"<html>please log in"),
        [Check("login", False, "200: not an answer of Amazon SES: <html>please log in", NO_ANSWER)],
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_refusals(what: str) -> None:
    """Keys that may only send are not taken for wrong ones, and what says nothing about keys is not held against them."""
    answer, expected = REFUSALS[what]
    found, server = await probed(answer)
    assert [replace(check, mend=check.mend.replace("URL", server.url)) for check in expected] == found


async def test_a_clock_that_is_wrong() -> None:
    """The question is asked once more by the remote's clock."""
    found, server = await probed([late(), Response(200, json.dumps(HEALTHY).encode())])
    assert (2, LOGIN) == (len(server.requests), found[0])
    found, _ = await probed(late(seconds=-3600))
    assert [(False, "this host's clock is 3600 s ahead of Amazon's: put it right (timedatectl set-ntp true)")] == [
        (check.ok, check.mend) for check in found
    ]


async def test_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys nothing is asked."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with HttpServer() as server:
        ses = transport(server, access_key_id="", profile="nobody")
        *_, login = await ses.probe()
    assert ("login", False, []) == (login.what, login.ok, server.requests)
    assert "aws sts get-caller-identity" in login.mend


async def test_nobody_answers() -> None:
    """What cannot be reached is told with what to look at."""
    async with HttpServer([Act.CUT]) as server:
        (check,) = await transport(server).probe()
    assert ("connect", False, f"check the network and base_url ({server.url})") == (check.what, check.ok, check.mend)


@given(
    st.integers(100, 599),
    st.one_of(
        st.binary(max_size=50),
        st.dictionaries(
            st.sampled_from([*HEALTHY, "message"]),
            st.none()
            | st.text()
            | st.booleans()
            | st.dictionaries(st.sampled_from(list(HEALTHY["SendQuota"])), st.none() | st.floats(allow_nan=False)),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_answer(status: int, body: bytes) -> None:
    """Whatever is answered, there are checks in one line, and only a 2xx says that keys are good."""
    found = account.checks(Answer(status, {}, body, "x", 0, 0), asker("eu-west-1", Keys("A", "B")), "x")
    assert all(net.one_line(check.text, 2000) == check.text and "{" not in check.mend for check in found)
    assert "login" == found[0].what
    if found[0].ok:
        assert status // 100 == 2
