"""Postmark: what a probe finds out about the token, the server and the stream, without sending mail."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.transports import net
from relay.transports.base import Check
from relay.transports.http import Answer, Http
from relay.transports.postmark import Postmark, PostmarkSettings, account
from tests.servers import Act, HttpServer, Request, Response

TOKEN = "canary-0123456789"
SETTINGS = PostmarkSettings("postmark", TOKEN)
# As in Postmark docs 2026-11 (developer/api/server-api, developer/api/message-streams-api), shortened.
SERVER = {
    "ID": 1,
    "Name": "Production",
    "ApiTokens": [TOKEN, "canary-another-token"],
    "SmtpApiActivated": True,
    "DeliveryType": "Live",
    "TrackOpens": False,
    "TrackLinks": "None",
}
STREAM = {"ID": "outbound", "ServerID": 1, "Name": "Default", "MessageStreamType": "Transactional", "ArchivedAt": None}
GOOD = [("login", True, "server Production"), ("delivery", True, "Live"), ("tracking", True, "of the server: opens no, links None")]
STREAM_GOOD = ("stream", True, "outbound: Transactional")


def said(status: int, body: object) -> Response:
    """An answer in JSON, or as it stands."""
    return Response(status, body if isinstance(body, bytes) else json.dumps(body).encode())


async def probed(server: Response | Act, of_stream: Response | None = None, **settings: Any) -> tuple[list[Request], Sequence[Check]]:
    """The requests that a probe makes, and its checks without the first, which is of the connection."""
    async with HttpServer(lambda request: server if request.path == "/server" else of_stream or said(200, STREAM)) as it:
        transport = Postmark(dataclasses.replace(SETTINGS, **settings), Http(base_url=it.url, timeout=5, concurrency=1))
        first, *checks = await transport.probe()
        await transport.aclose()
    assert "canary" not in repr((first, checks))
    if not isinstance(server, Act):
        assert Check("connect", True, f"127.0.0.1[127.0.0.1]:{it.port}") == first
    return it.requests, [first, *checks] if isinstance(server, Act) else checks


def shown(checks: Sequence[Check]) -> list[tuple[str, bool | None, str]]:
    """What was found, without the mends."""
    return [(check.what, check.ok, check.text) for check in checks]


async def test_a_server_that_can_be_used() -> None:
    """Server and stream are asked for with the token; no mail is sent."""
    requests, checks = await probed(said(200, SERVER))
    assert [*GOOD, STREAM_GOOD] == shown(checks)
    assert {""} == {check.mend for check in checks}
    assert [("GET", "/server", TOKEN), ("GET", "/message-streams/outbound", TOKEN)] == [
        (request.method, request.path, request.headers["x-postmark-server-token"]) for request in requests
    ]


@pytest.mark.parametrize(
    ("status", "body", "ok", "text", "mend"),
    [
        (401, {"ErrorCode": 10, "Message": "Bad or missing"}, False, "401 10 BadToken: Bad or missing", "check the token (17 characters)"),
        (422, {"ErrorCode": 1480, "Message": "x"}, False, "422 1480 AddressNotAllowed: x", "allowed addresses"),
        (403, b"<html>Forbidden", False, "403: not an answer of Postmark: <html>Forbidden", "security layer"),
        (429, {"ErrorCode": 429, "Message": "x"}, None, "429 429 RateLimit: x", "try again later: it asks"),
        (422, {"ErrorCode": 400, "Message": "x"}, None, "422 400 SenderNotFound: x", ""),
        (500, b"oops", None, "500: not an answer of Postmark: oops", "try again later: the provider, or"),
        (200, b"<html>log in", False, "200: not what Postmark answers to this question", "no answer of the API"),
        (404, b"<html>", False, "404: not an answer of Postmark: <html>", "check base_url (https://api.postmarkapp.com)"),
        (200, b'[{"ApiTokens":["canary-another-token"]', False, "200: not what Postmark answers to this question", "no answer of the API"),
        (200, {"ErrorCode": 10, "Message": "x"}, False, "200: not what Postmark answers to this question", "no answer of the API"),
    ],
)
async def test_a_server_that_cannot_be_asked(status: int, body: object, ok: bool | None, text: str, mend: str) -> None:
    """A token that is refused fails, and so does a page of something else; trouble that passes does not. Then no stream is asked for."""
    requests, (check,) = await probed(said(status, body))
    assert ("login", ok, text) == (check.what, check.ok, check.text)
    assert (mend in check.mend, bool(mend)) == (True, bool(check.mend))
    assert 1 == len(requests)


async def test_nobody_answers() -> None:
    """A connection that breaks is the only finding."""
    _, (check,) = await probed(Act.CUT)
    assert ("connect", False) == (check.what, check.ok)
    assert "check the network and base_url" in check.mend


async def test_the_test_token() -> None:
    """POSTMARK_API_TEST is taken for what it is, whatever is answered to it."""
    for answer in (said(200, SERVER), said(401, {"ErrorCode": 10, "Message": "x"})):
        _, (check,) = await probed(answer, token="POSTMARK_API_TEST")
        assert ("login", None) == (check.what, check.ok)
        assert "delivers nothing" in check.text


async def test_what_an_admin_may_want_to_know() -> None:
    """A sandbox delivers nothing, and a server that tracks opens does so whatever the settings say; mail can be sent all the same."""
    _, checks = await probed(
        said(200, {**SERVER, "DeliveryType": "Sandbox", "TrackOpens": True, "TrackLinks": "HtmlOnly"}), track_opens=False
    )
    assert [
        ("login", True, "server Production"),
        ("delivery", None, "Sandbox: Postmark delivers nothing of it"),
        ("tracking", None, "of the server: opens yes, links HtmlOnly"),
        STREAM_GOOD,
    ] == shown(checks)
    assert [False, True, True, False] == [bool(check.mend) for check in checks]
    _, checks = await probed(said(200, {"Name": "a\r\nb\x1b[31m"}))
    assert [("login", True, "server a b [31m"), STREAM_GOOD] == shown(checks)


@pytest.mark.parametrize(
    ("answer", "ok", "text", "mend"),
    [
        (said(200, {**STREAM, "MessageStreamType": "Broadcasts"}), True, "a/b: Broadcasts", ""),
        (
            said(200, {**STREAM, "MessageStreamType": "Inbound"}),
            False,
            "a/b: Inbound, which sends nothing",
            "set stream: to a transactional",
        ),
        (said(200, {**STREAM, "ArchivedAt": "2026-01-01"}), False, "a/b: Transactional, archived", "restore the stream a/b"),
        (said(422, {"ErrorCode": 1226, "Message": "x"}), False, "422 1226 StreamNotFound: x", "create the message stream a/b"),
        (said(404, {"ErrorCode": 1226, "Message": "x"}), False, "404 1226 StreamNotFound: x", "create the message stream a/b"),
        (said(404, b""), False, "404: not an answer of Postmark:", "no answer of the API"),
        (said(500, b""), None, "500: not an answer of Postmark:", "try again later: "),
    ],
)
async def test_the_stream(answer: Response, ok: bool | None, text: str, mend: str) -> None:
    """The stream of the settings has to be there, and one that sends."""
    requests, checks = await probed(said(200, SERVER), answer, stream="a/b")
    assert ("stream", ok, text) == shown(checks)[-1]
    assert (mend in checks[-1].mend, bool(mend)) == (True, bool(checks[-1].mend))
    assert "/message-streams/a%2Fb" == requests[-1].path


FIELDS = st.sampled_from(["Name", "DeliveryType", "TrackOpens", "TrackLinks", "MessageStreamType", "ArchivedAt", "ErrorCode", "Message"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner)
)


@given(st.integers(100, 599), st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer(status: int, body: bytes) -> None:
    """Whatever is answered, it becomes checks of one printable line each."""
    answer = Answer(status, {}, body, "host[192.0.2.1]:443", 0.0, 0.0)
    for check in (*account.server(answer, SETTINGS), account.stream(answer, SETTINGS)):
        assert net.one_line(check.text, 2000) == check.text
        assert "" != check.what
