"""Replies of Amazon SES: a table of them, what follows in delivery, and texts from nowhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directives import DIALECTS
from relay.model import Client, Envelope, Facts, Outcome, Recipient, State, Verdict
from relay.transports import net
from relay.transports.bodies import Body
from relay.transports.http import Answer, Http
from relay.transports.ses import Payload, Ses, SesSettings, read
from relay.transports.ses.reply import asker, skewed
from relay.transports.ses.sigv4 import Keys
from tests.servers import HttpServer, Response
from tests.test_delivery import BOB, CAROL, Stage

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


# --- what follows ---


@dataclass(frozen=True)
class Follows:
    """What an error of the API leads to: the class, what the log says of the recipient, and who is paused."""

    http: int
    code: str
    text: str
    verdict: Verdict
    line: str
    paused: str = ""  # how the pause is logged
    bounced: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""  # an answer that is not the API's
    fields: bytes = b""  # of the message

    @property
    def state(self) -> str:
        """What `relay status` says of the provider."""
        return {Verdict.PAUSE: "paused", Verdict.CONFIG: "paused", Verdict.THROTTLE: "throttled"}.get(self.verdict, "up")

    @property
    def event(self) -> str:
        """The pause that is logged."""
        return {Verdict.PAUSE: "paused", Verdict.THROTTLE: "throttled", Verdict.CONFIG: "identity_paused"}.get(self.verdict, "")

    def answer(self) -> Response:
        """As the server gives it: the code in a header, with what AWS puts behind it."""
        body = self.raw or json.dumps({"message": self.text}).encode()
        code = {"x-amzn-ErrorType": f"{self.code}:http://internal.amazon.com/coral/com.amazon.coral.service/"} if self.code else {}
        return Response(self.http, body, {**code, **self.headers})


ERRORS = {
    "rate": Follows(
        429,
        "TooManyRequestsException",
        "Maximum sending rate exceeded.",
        Verdict.THROTTLE,
        "dsn=4.7.28, status=deferred (429 TooManyRequests: Maximum sending rate exceeded.",
        paused="provider ses throttled for 7 s: 429 TooManyRequests",
        headers={"Retry-After": "7"},
    ),
    "daily quota": Follows(
        400,
        "ThrottlingException",
        "Daily message quota exceeded.",
        Verdict.PAUSE,
        "dsn=4.7.28, status=deferred (400 Throttling: Daily message quota exceeded.",
        paused="provider ses paused: 400 Throttling: Daily message quota exceeded.",
    ),
    "suspended": Follows(
        400,
        "AccountSuspendedException",
        "Account suspended",
        Verdict.PAUSE,
        "dsn=4.7.0, status=deferred (400 AccountSuspended: Account suspended",
        paused="provider ses paused: 400 AccountSuspended",
    ),
    "sending paused": Follows(
        400,
        "SendingPausedException",
        "Sending is paused",
        Verdict.PAUSE,
        "dsn=4.7.0, status=deferred (400 SendingPaused: Sending is paused",
        paused="provider ses paused: 400 SendingPaused",
    ),
    "wrong secret": Follows(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (403 SignatureDoesNotMatch: The request signature",
        paused="provider ses paused: 403 SignatureDoesNotMatch",
    ),
    "wrong key": Follows(
        403,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (403 UnrecognizedClient: The security token",
        paused="check access_key_id (11 characters)",
    ),
    "not allowed": Follows(
        403,
        "AccessDeniedException",
        "User is not authorized to perform ses:SendRawEmail",
        Verdict.PAUSE,
        "dsn=4.7.1, status=deferred (403 AccessDenied: User is not authorized",
        paused="allow ses:SendEmail and ses:SendRawEmail",
    ),
    "token expired": Follows(
        403,
        "ExpiredTokenException",
        "expired",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (403 ExpiredToken: expired",
        paused="session_token has expired",
    ),
    "sender not verified": Follows(
        400,
        "MessageRejected",
        "Email address is not verified. The following identities failed the check in region EU-WEST-1: app@example.com",
        Verdict.CONFIG,
        "dsn=4.7.1, status=deferred (400 MessageRejected: Email address is not verified.",
        paused="domain=example.com",
    ),
    "no configuration set": Follows(
        404,
        "NotFoundException",
        "Configuration set <transactional> does not exist.",
        Verdict.CONFIG,
        "dsn=4.3.5, status=deferred (404 NotFound: Configuration set <transactional>",
        paused="configuration_set=transactional",
    ),
    "MAIL FROM": Follows(
        400,
        "MailFromDomainNotVerifiedException",
        "x",
        Verdict.CONFIG,
        "dsn=4.7.1, status=deferred (400 MailFromDomainNotVerified: x",
        paused="domain=example.com",
    ),
    "message rejected": Follows(
        400,
        "MessageRejected",
        "Unknown encoding",
        Verdict.PERM_MSG,
        "dsn=5.6.0, status=bounced (400 MessageRejected: Unknown encoding",
        bounced=True,
    ),
    "bad request": Follows(
        400,
        "BadRequestException",
        "Duplicate header 'X'.",
        Verdict.PERM_MSG,
        "dsn=5.6.0, status=bounced (400 BadRequest: Duplicate header 'X'.",
        bounced=True,
    ),
    "sandbox": Follows(
        400,
        "MessageRejected",
        f"Email address is not verified. The following identities failed the check in region EU-WEST-1: {BOB}",
        Verdict.PERM_RCPT,
        "dsn=5.7.1, status=bounced (400 MessageRejected: Email address is not verified.",
        bounced=True,
    ),
    "rate by status 400": Follows(
        400,
        "ThrottlingException",
        "Maximum sending rate exceeded.",
        Verdict.THROTTLE,
        "dsn=4.7.28, status=deferred (400 Throttling: Maximum sending rate exceeded.",
        paused="provider ses throttled",
    ),
    "daily quota by status 429": Follows(
        429,
        "TooManyRequestsException",
        "Daily message quota exceeded.",
        Verdict.PAUSE,
        "dsn=4.7.28, status=deferred (429 TooManyRequests: Daily message quota exceeded.",
        paused="provider ses paused: 429 TooManyRequests: Daily message quota exceeded.",
    ),
    "daily quota by a text alone": Follows(
        400,
        "",
        "Daily message quota exceeded.",
        Verdict.PAUSE,
        "dsn=4.7.28, status=deferred (400: not an answer of Amazon SES: Daily message quota exceeded.",
        paused="provider ses paused",
    ),
    "limit": Follows(
        400,
        "LimitExceededException",
        "x",
        Verdict.PAUSE,
        "dsn=4.7.28, status=deferred (400 LimitExceeded: x",
        paused="provider ses paused",
    ),
    "suspended, and the message is blamed": Follows(
        400,
        "MessageRejected",
        "Sending suspended for this account. For more information, please check the inbox.",
        Verdict.PAUSE,
        "dsn=4.7.0, status=deferred (400 MessageRejected: Sending suspended for this account.",
        paused="Amazon has suspended sending for this account",
    ),
    "paused, and the request is blamed": Follows(
        400,
        "BadRequestException",
        "Sending paused for this account. For more information, please check the inbox.",
        Verdict.PAUSE,
        "dsn=4.7.0, status=deferred (400 BadRequest: Sending paused for this account.",
        paused="sending is paused for the account in eu-west-1",
    ),
    "not allowed, and the request is blamed": Follows(
        400,
        "BadRequestException",
        "Access denied",
        Verdict.PAUSE,
        "dsn=4.7.1, status=deferred (400 BadRequest: Access denied",
        paused="provider ses paused: 400 BadRequest",
    ),
    "set paused, and the message is blamed": Follows(
        400,
        "MessageRejected",
        "Sending paused for configuration set transactional",
        Verdict.CONFIG,
        "dsn=4.7.0, status=deferred (400 MessageRejected: Sending paused",
        paused="configuration_set=transactional",
    ),
    "wrong key, older name": Follows(
        403,
        "InvalidClientTokenId",
        "x",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (403 InvalidClientTokenId: x",
        paused="provider ses paused",
    ),
    "no signature": Follows(
        403,
        "MissingAuthenticationToken",
        "x",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (403 MissingAuthenticationToken: x",
        paused="provider ses paused",
    ),
    "half a signature": Follows(
        400,
        "IncompleteSignature",
        "x",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (400 IncompleteSignature: x",
        paused="provider ses paused",
    ),
    "clock": Follows(
        400,
        "RequestExpired",
        "x",
        Verdict.PAUSE,
        "dsn=4.7.8, status=deferred (400 RequestExpired: x",
        paused="check this host's clock",
    ),
    "captive portal": Follows(200, "", "", Verdict.UNKNOWN, "may be delivered twice", raw=b"<html>please log in</html>"),
    "redirect": Follows(
        307,
        "",
        "",
        Verdict.RETRY,
        "status=deferred (307: not an answer",
        headers={"Location": "http://127.0.0.1:1/"},
        raw=b"<html>",
    ),
    "error page": Follows(502, "", "", Verdict.UNKNOWN, "may be delivered twice", raw=b"<html>"),
    "service error": Follows(500, "InternalServiceErrorException", "x", Verdict.UNKNOWN, "may be delivered twice"),
    "unavailable": Follows(503, "ServiceUnavailableException", "x", Verdict.RETRY, "dsn=4.3.0, status=deferred (503 ServiceUnavailable: x"),
    "no template": Follows(
        404,
        "NotFoundException",
        "Template welcome does not exist",
        Verdict.CONFIG,
        "dsn=4.3.5, status=deferred (404 NotFound: Template welcome",
        paused="template=welcome",
        fields=b"X-Relay-Template: welcome\r\n",
    ),
    "no data for a template": Follows(
        400,
        "MissingRenderingAttributeException",
        "Attribute 'name' is not present",
        Verdict.PERM_MSG,
        "dsn=5.6.0, status=bounced (400 MissingRenderingAttribute: Attribute 'name'",
        bounced=True,
        fields=b"X-Relay-Template: welcome\r\n",
    ),
    "no contact list": Follows(
        404,
        "NotFoundException",
        "List with name: news doesn't exist.",
        Verdict.CONFIG,
        "dsn=4.3.5, status=deferred (404 NotFound: List with name: news",
        paused="contact_list=news",
        fields=b"X-SES-List-Management-Options: news\r\n",
    ),
    "no tenant": Follows(
        404,
        "NotFoundException",
        "Tenant clinic does not exist",
        Verdict.CONFIG,
        "dsn=4.3.5, status=deferred (404 NotFound: Tenant clinic",
        paused="tenant=clinic",
        fields=b"X-SES-Tenant: clinic\r\n",
    ),
    "tenant paused": Follows(
        400,
        "SendingPausedException",
        "Sending is paused for tenant clinic",
        Verdict.CONFIG,
        "dsn=4.7.0, status=deferred (400 SendingPaused: Sending is paused for tenant clinic",
        paused="tenant=clinic",
        fields=b"X-SES-Tenant: clinic\r\n",
    ),
    "not the tenant's": Follows(
        400,
        "BadRequestException",
        "Identity example.com is not associated with tenant clinic",
        Verdict.CONFIG,
        "dsn=4.7.1, status=deferred (400 BadRequest: Identity example.com",
        paused="tenant=clinic",
        fields=b"X-SES-Tenant: clinic\r\n",
    ),
    "busy": Follows(
        500, "ConcurrentModificationException", "x", Verdict.RETRY, "dsn=4.3.0, status=deferred (500 ConcurrentModification: x"
    ),
}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


async def submitted(stage: Stage, fields: bytes, *recipients: str) -> str:
    """Store a message with these fields as the listener does; its queue id."""
    head = b"From: app@example.com\r\nMessage-ID: <1@app>\r\n" + fields
    incoming = stage.real.incoming(stage.clock())
    incoming.write(head + b"\r\nhello\r\n")
    entry = await incoming.commit(
        arrived=stage.clock(),
        client=Client("local", "127.0.0.1", 4000, "localhost", "web1"),
        envelope=Envelope("app@example.com", tuple(map(Recipient, recipients))),
        facts=Facts(len(head) + 9, False, 60),
        header=head,
        message_id="<1@app>",
        edits=(),
    )
    return entry.queue_id


async def follow(stage: Stage, transport: Any, error: Follows) -> None:
    """Have a message meet the error, and look at everything that follows."""
    stage.transports["ses"] = transport
    stage.route("ses")
    async with stage.running() as delivery:
        queue_id = await submitted(stage, error.fields, BOB)
        (line,) = await stage.events.wait("attempt", queue_id=queue_id)
        if error.bounced:
            await stage.events.wait("bounced_to", queue_id=queue_id)
        if error.event:
            await stage.events.wait(error.event)
        (provider,) = await delivery.providers()
        assert error.state == provider.state
        assert ("=" in provider.reason.partition(":")[0]) is (error.verdict is Verdict.CONFIG)
    await transport.aclose()
    text = "\n".join(stage.events.texts)
    assert error.line in text
    assert ("bounced" if error.bounced else "deferred") == line["status"]
    assert error.bounced is bool(await stage.bounces())
    state = await stage.state(queue_id, BOB)
    assert (State.FAILED if error.bounced else State.QUEUED, error.verdict) == (state.state, state.verdict)
    pauses = [line for line in stage.events.lines if line["event"] in ("paused", "throttled", "identity_paused")]
    assert bool(error.paused) is bool(pauses)
    assert error.paused in text


@pytest.mark.parametrize("what", ERRORS)
async def test_what_follows(stage: Stage, what: str) -> None:
    """An error of the API gives its class, its log line, and a bounce or a pause, never both."""
    error = ERRORS[what]

    def answer(request: object) -> Response:
        if server.requests:
            return Response(200, b'{"MessageId":"the bounce"}')
        return error.answer()

    async with HttpServer(answer) as server:
        settings = SesSettings("ses", "eu-west-1", "AKIDEXAMPLE", "x" * 40, base_url=server.url, configuration_set="transactional")
        settings = replace(settings, controls={"local": DIALECTS})
        await follow(stage, Ses(settings, Http(base_url=server.url, timeout=5, concurrency=2)), error)


async def test_the_others_go_without_who_is_refused(stage: Stage) -> None:
    """Where a sandbox refuses one of two recipients nobody got the mail: he bounces, the other is tried again alone."""

    def answer(request: object) -> Response:
        if BOB.encode() in request.body:  # type: ignore[attr-defined]
            text = f"Email address is not verified. The following identities failed the check in region EU-WEST-1: {BOB}"
            return Response(400, json.dumps({"message": text}).encode(), {"x-amzn-ErrorType": "MessageRejected"})
        return Response(200, b'{"MessageId":"1"}')

    async with HttpServer(answer) as server:
        ses = Ses(
            SesSettings("ses", "eu-west-1", "AKIDEXAMPLE", "x" * 40, base_url=server.url),
            Http(base_url=server.url, timeout=5, concurrency=2),
        )
        stage.transports["ses"] = ses  # type: ignore[assignment]
        stage.route("ses")
        async with stage.running():
            queue_id = await stage.submit(BOB, CAROL)
            await stage.events.wait("attempt", 2, queue_id=queue_id)
            stage.pass_time(61)
            await stage.events.wait("bounced_to", queue_id=queue_id)
            await stage.events.wait("removed", queue_id=queue_id)
        await ses.aclose()
    assert [State.FAILED, State.RELAYED] == [(await stage.state(queue_id, address)).state for address in (BOB, CAROL)]


def test_a_success_by_another_clock() -> None:
    """A mail that was taken only by the remote's clock says so in the log."""
    outcome: Outcome = read(Answer(200, {}, b'{"MessageId":"1"}', REMOTE, 0, 0), ALONE, asker("eu-west-1", KEYS, behind=-90.0))[
        "ann@example.net"
    ]
    assert "200 MessageId=1 (signed again by Amazon's clock: this host's is 90 s ahead of it)" == outcome.reply
