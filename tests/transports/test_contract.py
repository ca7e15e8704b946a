"""The contract of a transport, run over every transport against real local servers.

Each trouble is staged for each transport that can meet it; what must come out is the same for all: exactly one outcome
for each recipient, of the right class, printable, without a secret, and never an exception.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from relay.model import Outcome, Verdict
from relay.transports.auto import Auto
from relay.transports.base import ALONE, Transport
from relay.transports.capture import Capture, CaptureSettings
from relay.transports.http import Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp, SmtpSettings
from tests.jobs import HELLO, job
from tests.servers import Act, HttpServer, Response, SmtpServer, Trickle

SECRET = "canary-5ecret-0123456789"
TO = ("a@example.net", "b@example.net", "c@example.net")
MORE = (b"z" * 70 + b"\r\n") * 60_000
SIGNED = b"From: <app@example.com>\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n"
ACCEPTED = b'{"To":"x","MessageID":"b7bc2f4a-0000","ErrorCode":0,"Message":"OK"}'
SES_ACCEPTED = b'{"MessageId":"010f0190-abc"}'
QUICK = 0.25  # seconds: the deadline where a silence is staged


def refusal(status: int, code: int, retry_after: str = "") -> Response:
    """A refusal in Postmark's documented shape."""
    body = b'{"ErrorCode":%d,"Message":"said the server"}' % code
    return Response(status, body, {"Retry-After": retry_after} if retry_after else {})


def aws_refusal(status: int, code: str, retry_after: str = "") -> Response:
    """A refusal in the shape of AWS."""
    extra = {"Retry-After": retry_after} if retry_after else {}
    return Response(status, b'{"message":"said the server"}', {"x-amzn-ErrorType": code, **extra})


# What is staged -> (how at an SMTP server, how at a Postmark server, what must come out). None: cannot happen there.
STAGED: Mapping[str, tuple[Any, Any, set[Verdict]]] = {
    "taken": ({}, [Response(200, ACCEPTED)], {Verdict.OK}),
    "slow, but in time": ({"dot": Trickle(b"250 ok\r\n", 0.001)}, [Trickle(Response(200, ACCEPTED).encode(), 0.0002)], {Verdict.OK}),
    "credentials refused": ({"auth": "535 5.7.8 no"}, [refusal(401, 10)], {Verdict.PAUSE}),
    "account refused": ({"mail": "530 5.7.0 no"}, [refusal(422, 405)], {Verdict.PAUSE}),
    "too fast": ({"mail": "421 4.7.0 too many messages"}, [refusal(429, 429, retry_after="30")], {Verdict.THROTTLE}),
    "message refused": ({"dot": "554 5.6.0 no"}, [refusal(422, 300)], {Verdict.PERM_MSG}),
    "temporary trouble": ({"dot": "451 4.3.0 later"}, [refusal(503, 100)], {Verdict.RETRY}),
    "silent from the start": ({"greeting": Act.HANG}, None, {Verdict.PAUSE}),
    "silent after the message": ({"dot": Act.HANG}, [Act.HANG], {Verdict.UNKNOWN}),
    "cut after the message": ({"dot": Act.CUT}, [Act.CUT], {Verdict.UNKNOWN}),
    "reset after the message": ({"dot": Act.RESET}, [Act.RESET], {Verdict.UNKNOWN}),
    "garbage after the message": ({"dot": b"%&/\r\n"}, [b"%&/\r\n\r\n"], {Verdict.UNKNOWN}),
    "half an answer": ({"dot": b"250-2.0"}, [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"], {Verdict.UNKNOWN}),
    "taken in words nobody reads": (None, [Response(200, b"<html>welcome</html>")], {Verdict.UNKNOWN}),
    "an error page": (None, [Response(502, b"<html>bad gateway</html>")], {Verdict.UNKNOWN}),
    "cut in the message": ({"body": Act.RESET}, [Act.EARLY], {Verdict.RETRY}),
    "cut before the message": ({"mail": Act.CUT}, None, {Verdict.RETRY}),
    "nobody listens": (Act.CUT, Act.CUT, {Verdict.PAUSE}),
}
# The same at a server in the place of Amazon SES, where it is not what it is at Postmark's.
SES: Mapping[str, Any] = {
    **{what: postmark for what, (_, postmark, _) in STAGED.items()},
    "taken": [Response(200, SES_ACCEPTED)],
    "slow, but in time": [Trickle(Response(200, SES_ACCEPTED).encode(), 0.0002)],
    "credentials refused": [aws_refusal(403, "SignatureDoesNotMatch")],
    "account refused": [aws_refusal(400, "AccountSuspendedException")],
    "too fast": [aws_refusal(429, "TooManyRequestsException", retry_after="30")],
    "message refused": [aws_refusal(400, "BadRequestException")],
    "temporary trouble": [aws_refusal(503, "ServiceUnavailableException")],
}


def on_the_wire(accepted: bytes) -> Mapping[str, Any]:
    """What can happen at any HTTP server. What each provider's refusals mean is in the tests of its own."""
    found = {what: script for what, script in SES.items() if what not in REFUSALS}
    taken = Response(200, accepted)
    return {**found, **dict.fromkeys(REFUSALS), "taken": [taken], "slow, but in time": [Trickle(taken.encode(), 0.0002)]}


REFUSALS = ("credentials refused", "account refused", "too fast", "message refused", "temporary trouble")
SCRIPTS: Mapping[str, Mapping[str, Any]] = {
    "smtp": {what: smtp for what, (smtp, _, _) in STAGED.items()},
    "postmark": {what: postmark for what, (_, postmark, _) in STAGED.items()},
    "ses": SES,
    "mailtrap": on_the_wire(b'{"success":true,"message_ids":["1","2","3"]}'),
    "paubox": on_the_wire(b'{"sourceTrackingId":"6e1cf9a4-7bde-4834-8200-ed424b50c8a7","data":"Service OK"}'),
    "lowcodeapi": on_the_wire(SES_ACCEPTED),
    "auto": {what: postmark for what, (_, postmark, _) in STAGED.items()},
    "auto by smtp": {what: smtp for what, (smtp, _, _) in STAGED.items()},
}
BY_SMTP = {"smtp", "auto by smtp"}
# By the SMTP door of a provider that is spoken to by its API too, what is about the door alone has the door's scope.
ABOUT_THE_DOOR = {Verdict.PAUSE: Verdict.CONFIG}
PROVEN_NOT_TAKEN = {"credentials refused", "account refused", "too fast", "cut in the message", "cut before the message", "nobody listens"}
CASES = [
    pytest.param(kind, what, id=f"{kind}: {what}") for what in STAGED for kind, scripts in SCRIPTS.items() if scripts[what] is not None
]


def deadline(what: str) -> float:
    """Seconds; short only where nothing else ends the wait."""
    return QUICK if "silent" in what or what == "half an answer" else 10.0


@asynccontextmanager
async def smtp(script: Any, seconds: float) -> AsyncIterator[tuple[Transport, SmtpServer]]:
    """An SMTP transport and its server."""
    async with AsyncExitStack() as stack:
        server = SmtpServer(script if isinstance(script, dict) else {}, users={"relay": SECRET}, auth_in_clear=True)
        await stack.enter_async_context(server)
        settings = SmtpSettings("one", server.host, server.port, "relay.test", tls="none", username="relay", password=SECRET)
        transport = Smtp(replace(settings, timeout=seconds, dot_timeout=seconds))
        stack.push_async_callback(transport.aclose)
        if script is Act.CUT:
            await server.__aexit__()
            server = await stack.enter_async_context(SmtpServer())
        yield transport, server


def api(kind: str, url: str, seconds: float) -> Transport:
    """A transport of this provider, with a server at `url` in its place."""
    http = Http(base_url=url, timeout=seconds, concurrency=2)
    match kind:
        case "postmark":
            return Postmark(PostmarkSettings("one", SECRET, base_url=url, timeout=seconds), http)
        case "ses":
            return Ses(SesSettings("one", "eu-west-1", "AKIDEXAMPLE", SECRET, base_url=url, timeout=seconds), http)
        case "mailtrap":
            mailtrap = MailtrapSettings("one", SECRET, base_url=url, timeout=seconds)
            return Mailtrap(mailtrap, {"transactional": http, "bulk": http})
        case "paubox":
            return Paubox(PauboxSettings("one", SECRET, "clinic", base_url=url, timeout=seconds), http)
        case _:
            return LowCode(LowCodeSettings("one", SECRET, base_url=url, timeout=seconds), http)


@asynccontextmanager
async def rest(kind: str, script: Any, seconds: float) -> AsyncIterator[tuple[Transport, HttpServer]]:
    """A transport that speaks an API, and a server in its provider's place."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(HttpServer(script if isinstance(script, list) else ()))
        transport = api(kind, server.url, seconds)
        stack.push_async_callback(transport.aclose)
        if script is Act.CUT:
            await server.__aexit__()
            server = await stack.enter_async_context(HttpServer())
        yield transport, server


APIS = ("postmark", "ses", "mailtrap", "paubox", "lowcodeapi")


@asynccontextmanager
async def auto(script: Any, seconds: float) -> AsyncIterator[tuple[Transport, SmtpServer | HttpServer]]:
    """Both ways of a provider, with the script for its API."""
    async with rest("postmark", script, seconds) as (first, server), smtp({}, seconds) as (door, _):
        yield Auto(cast(Postmark, first), door), server


@asynccontextmanager
async def auto_by_smtp(script: Any, seconds: float) -> AsyncIterator[tuple[Transport, SmtpServer | HttpServer]]:
    """Both ways of a provider, with the script for its SMTP door."""
    async with rest("postmark", [Response(200, ACCEPTED)], seconds) as (first, _), smtp(script, seconds) as (door, server):
        yield Auto(cast(Postmark, first), door), server


STAGES: Mapping[str, Callable[[Any, float], AbstractAsyncContextManager[tuple[Transport, SmtpServer | HttpServer]]]] = {
    "smtp": smtp,
    **{kind: functools.partial(rest, kind) for kind in APIS},
    "auto": auto,
    "auto by smtp": auto_by_smtp,
}


def mail(kind: str, what: str) -> bytes:
    """What is sent: large where it is to be cut in the middle, signed where the API shall not carry it."""
    data = SIGNED if kind == "auto by smtp" else HELLO
    return data + (MORE if what == "cut in the message" else b"")


async def carry(transport: Transport, *recipients: str, data: bytes = HELLO) -> dict[str, Outcome]:
    """Prepare and attempt one job, and hold the results against what every transport promises."""
    whole = job(*recipients, data=data)
    jobs = await transport.prepare(whole)
    assert sorted(recipient.address for one in jobs for recipient in one.recipients) == sorted(recipients)
    found: dict[str, Outcome] = {}
    for one in jobs:
        assert all("=" in name for name in transport.identity(one))
        outcomes = await transport.attempt([one])
        assert set(outcomes) == {(one.queue_id, recipient.address) for recipient in one.recipients}
        found |= {address: outcome for (_, address), outcome in outcomes.items()}
    for outcome in found.values():
        assert SECRET not in repr(outcome)
        assert outcome.reply.isprintable()
        assert outcome.remote.isprintable()
        assert outcome.connect_s >= 0
        assert outcome.send_s >= 0
        assert bool(outcome.mend) is (outcome.verdict in (Verdict.PAUSE, Verdict.CONFIG))
    return found


@pytest.mark.parametrize(("kind", "what"), CASES)
async def test_every_trouble_is_an_outcome(kind: str, what: str) -> None:
    """Each staged trouble gives every recipient one outcome of the right class, and raises nothing."""
    verdicts = STAGED[what][2]
    async with STAGES[kind](SCRIPTS[kind][what], deadline(what)) as (transport, _):
        outcomes = await carry(transport, *TO, data=mail(kind, what))
    expected = {ABOUT_THE_DOOR.get(verdict, verdict) for verdict in verdicts} if kind == "auto by smtp" else verdicts
    assert {outcome.verdict for outcome in outcomes.values()} == expected
    if what in PROVEN_NOT_TAKEN:
        assert not any(outcome.maybe_relayed for outcome in outcomes.values())
    if kind not in BY_SMTP and what == "too fast":
        assert {outcome.retry_after for outcome in outcomes.values()} == {30.0}


@pytest.mark.parametrize("kind", SCRIPTS)
async def test_trouble_leaves_no_trace(kind: str) -> None:
    """After each of the troubles the same transport carries the next message as if nothing had been."""
    for what, script in SCRIPTS[kind].items():
        if script is None or script is Act.CUT or "silent" in what or what == "half an answer":
            continue
        async with STAGES[kind](script, 10.0) as (transport, server):
            await carry(transport, *TO, data=mail(kind, what))
            server.script = {} if isinstance(server, SmtpServer) else SCRIPTS[kind]["taken"]
            assert {outcome.verdict for outcome in (await carry(transport, *TO, data=mail(kind, ""))).values()} == {Verdict.OK}, what


@pytest.mark.parametrize(("kind", "what"), CASES)
async def test_a_probe_sends_no_mail_and_raises_nothing(kind: str, what: str) -> None:
    """Whatever the provider does, a probe is a list of checks in printable lines without a secret, with a mend where one failed."""
    async with STAGES[kind](SCRIPTS[kind][what], deadline(what)) as (transport, server):
        checks = await transport.probe()
    assert checks
    for check in checks:
        assert SECRET not in repr(check)
        assert check.what.isprintable()
        assert check.text.isprintable()
        assert check.mend or check.ok is not False
    if what in ("nobody listens", "credentials refused", "silent from the start"):
        assert any(check.ok is False for check in checks)
    if isinstance(server, SmtpServer):
        assert not any(line.upper().startswith(b"MAIL") for line in server.lines)
    else:
        assert {(request.method, request.body) for request in server.requests} <= {("GET", b""), ("POST", b"{}"), ("POST", b"")}


async def test_each_recipient_once() -> None:
    """Taken by an SMTP server or an API, the message reaches each recipient exactly once."""
    async with smtp({}, 10.0) as (transport, server):
        await carry(transport, *TO)
    assert isinstance(server, SmtpServer)
    assert [mail.rcpts for mail in server.mails] == [[f"<{address}>".encode() for address in TO]]

    for kind in APIS:
        async with rest(kind, SCRIPTS[kind]["taken"], 10.0) as (transport, sink):
            await carry(transport, *TO)
        text = b"".join(request.body for request in sink.requests)
        assert [text.count(address.encode()) for address in TO] == [1, 1, 1], kind


async def test_capture(tmp_path: Path) -> None:
    """Capture keeps the same promises: one outcome each when it can write, and when it cannot."""
    assert {outcome.verdict for outcome in (await carry(Capture(CaptureSettings("one", tmp_path)), *TO)).values()} == {Verdict.OK}
    (tmp_path / "file").write_bytes(b"")
    outcomes = await carry(Capture(CaptureSettings("one", tmp_path / "file")), *TO)
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.PAUSE}


async def test_what_every_transport_says_of_itself(tmp_path: Path) -> None:
    """Name, batch size, concurrency and reports are told; closing twice does no harm."""
    async with AsyncExitStack() as stack:
        transports = [(await stack.enter_async_context(STAGES[kind](SCRIPTS[kind]["taken"], 1.0)))[0] for kind in STAGES]
        for transport in (*transports, Capture(CaptureSettings("one", tmp_path))):
            assert (transport.provider, transport.batching) == ("one", ALONE)
            assert transport.concurrency >= 1
            assert isinstance(transport.carries_reports, bool)
            await transport.aclose()
            await transport.aclose()
