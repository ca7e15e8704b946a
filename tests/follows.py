"""What follows from a provider's answer: from a scripted local server through the real transport and the real delivery.

A `Case` is an answer and all that must come of it: the class, the log line, who is paused and what `status` says of it, whether the
sender hears of it, and who gets the mail next. `follow` plays one. The documented errors of the providers are rows of
tests/data/rows (their form: README.md there), which `rows` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from relay.delivery.status import ProviderStatus
from relay.directives import DIALECTS
from relay.model import Client, Envelope, Facts, Recipient, State, Verdict
from relay.transports import presets
from relay.transports.base import Transport
from relay.transports.http import Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp, by_preset
from tests.fakes import FakeTransport
from tests.servers import Answer, HttpAnswer, HttpServer, Response, SmtpServer, ca_file, server_tls
from tests.test_delivery import BOB, CAROL, SENDER, Stage

FOLDER = Path(__file__).parent / "data" / "rows"
PATIENCE = 16 * 60.0  # seconds: more than a route's patience with one provider
HOUR = 3600.0

TAKEN: Mapping[str, bytes] = {
    "ses": b'{"MessageId":"010f0190-abc"}',
    "lowcodeapi": b'{"message":"Request completed","provider":"awsses","result":{"MessageId":"010f0190-abc"}}',
    "postmark": b'{"ErrorCode":0,"Message":"OK","MessageID":"b7bc2f4a-fake"}',
    "mailtrap": b'{"success":true,"message_ids":["0c7fd939-fake"]}',
    "paubox": b'{"sourceTrackingId":"6e1cf9a4-fake","data":"Service OK"}',
}
APIS = tuple(TAKEN)
DOORS = {
    "ses by SMTP": presets.ses("eu-west-1", "AKIDEXAMPLE", "canary+secret", configuration_set="shop"),
    "mailtrap by SMTP": presets.mailtrap("transactional", "canary-token"),
    "postmark by SMTP": presets.postmark("outbound", "canary-token"),
    "paubox by SMTP": presets.paubox("canary-key"),
}
# What a recipient's class lets happen next: nobody is tried again after a bounce, and only some classes let another provider try.
_NEXT = {"RETRY": "another, after patience", "THROTTLE": "the same", "UNKNOWN": "the same", "PAUSE": "another", "CONFIG": "another"}


@dataclass(frozen=True)
class Case:
    """An answer of `door` and what follows. `outcome` is class and enhanced status; `says` is how the reply begins in the log; `about`
    is "provider", an identity, or "" where nobody is paused; `mend` is how the advice begins (a space: in any way). `others` is the
    outcome of a second recipient of the same request. The answer is given `times` times, at `stage` of an SMTP transaction, and then
    a good one."""

    door: str
    when: str
    answer: HttpAnswer
    outcome: str
    says: str
    about: str = ""
    mend: str = ""
    others: str = ""
    seconds: float = 0.0  # that a pause, or the next attempt, waits at the least
    stage: str = ""
    times: int = 1
    fields: str = ""  # of the message
    body: bytes = b"hello\r\n"
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 5.0

    def __str__(self) -> str:
        return f"{self.door}: {self.when}"

    @property
    def verdict(self) -> Verdict:
        """The class."""
        return Verdict(self.outcome.split()[0])

    @property
    def messages(self) -> int:
        """How many must meet the answer before all that follows from it has followed."""
        return 2 if self.verdict in (Verdict.PAUSE, Verdict.CONFIG) else 1

    @property
    def bounced(self) -> bool:
        """Whether the sender hears of it."""
        return self.verdict in (Verdict.PERM_MSG, Verdict.PERM_RCPT)


@dataclass(frozen=True)
class Row:
    """A documented error: where it stands, the classes that its documentation allows, and why it has another one here."""

    door: str
    name: str
    classes: tuple[str, ...]
    why: str
    cases: tuple[Case, ...]


def rows(name: str) -> list[Row]:
    """The rows of a file, with their cases."""
    whole = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return [_row(whole["door"], row) for row in whole["rows"]]


def _row(door: str, row: Mapping[str, Any]) -> Row:
    door = row.get("door", door)
    cases = [_case(door, row["row"], number, dict(one)) for number, one in enumerate(row["cases"], start=1)]
    return Row(door, row["row"], tuple(row["class"].split(" or ")), row.get("why", ""), tuple(cases))


def _case(door: str, name: str, number: int, one: dict[str, Any]) -> Case:
    when = name if number == 1 else f"{name} ({number})"
    if "stage" in one:
        return Case(door, when, answer=one.pop("reply"), **one)
    body, headers = one.pop("body", ""), one.pop("headers", {})
    raw = body if isinstance(body, str) else json.dumps(body)
    if code := one.pop("code", ""):
        headers = {"x-amzn-ErrorType": code, **headers}
    return Case(door, when, Response(one.pop("http"), raw.encode(), headers), **one)


# --- playing one ---


async def follow(stage: Stage, directory: Path, case: Case) -> list[Any]:
    """Have a message meet the answer, with another provider second in its route, and look at everything that follows; returns the
    requests that the provider got."""
    async with AsyncExitStack() as stack:
        server = _server(case)
        await stack.enter_async_context(server)
        transport = _transport(case, server, directory)
        stack.push_async_callback(transport.aclose)
        stage.transports["door"] = cast(FakeTransport, transport)  # a real one in the place of a fake
        spare = stage.provider("spare", carries_reports=False)
        stage.route("door", "spare")
        spare.gate.clear()
        await _play(stage, case, spare)
    assert "canary" not in "\n".join([*stage.events.texts, repr(stage.events.lines)])
    assert [] == stage.events.found("bug")
    return list(server.requests if isinstance(server, HttpServer) else server.mails)


async def _play(stage: Stage, case: Case, spare: FakeTransport) -> None:
    async with stage.running() as delivery:
        queue_id = await submit(stage, case)
        for recipient, outcome in [(BOB, case.outcome), *([(CAROL, case.others)] if case.others else [])]:
            (line,) = await stage.events.wait("attempt", queue_id=queue_id, recipient=recipient)
            await _recorded(stage, queue_id, recipient, outcome, line)
        text = "\n".join(stage.events.texts)
        assert f"dsn={case.outcome.split()[1]}, status={'bounced' if case.bounced else 'deferred'} ({case.says}" in text, text
        second = await submit(stage, case) if case.messages == 2 else queue_id
        await stage.events.wait("attempt", queue_id=second)
        await _paused(stage, case)
        await _next(stage, case, queue_id, spare)
        spare.gate.set()
        await stage.events.wait("removed", queue_id=queue_id)
        await stage.events.wait("removed", queue_id=second)
        if case.about:
            await _over(stage, case)
        assert ["up", "up"] == [one.state for one in await delivery.providers()]
    told = [state.recipient.address for entry, _ in await stage.bounces() for state in entry.recipients]
    assert told == ([SENDER] if case.bounced else []), told


async def _recorded(stage: Stage, queue_id: str, recipient: str, outcome: str, line: Mapping[str, object]) -> None:
    """What is stored of a recipient after the attempt, and what its log line says."""
    verdict, status = outcome.split()
    final = verdict in ("PERM-MSG", "PERM-RCPT")
    found = (line["dsn"], line["status"], line["maybe_relayed"])
    assert (status, "bounced" if final else "deferred", verdict == "UNKNOWN") == found, line
    state = await stage.state(queue_id, recipient)
    assert (verdict, status) == (state.verdict and state.verdict.value, state.status)
    assert (State.FAILED if final else State.QUEUED, verdict == "UNKNOWN") == (state.state, state.maybe_relayed)


async def _paused(stage: Stage, case: Case) -> None:
    """Who is left alone, said once, and how `status` explains it."""
    quiet = case.verdict is Verdict.THROTTLE
    event = "throttled" if quiet else "paused" if case.about == "provider" else "identity_paused"
    if case.about:
        await stage.events.wait(event)
    said = [one for one in stage.events.lines if one["event"] in ("paused", "throttled", "identity_paused")]
    standing = await _standing(stage)
    if not case.about:
        assert ([], "up", "", "") == (said, standing.state, standing.reason, standing.mend)
        return
    identity = "" if case.about == "provider" else case.about
    assert [(event, "door", identity)] == [(one["event"], one["provider"], one.get("identity", "")) for one in said]
    assert ("throttled" if quiet else "paused" if case.about == "provider" else "partly") == standing.state
    assert standing.reason.startswith(f"{identity}: {case.says}" if identity else case.says), standing.reason
    assert standing.mend.startswith(case.mend.strip()), standing.mend
    assert bool(case.mend) is bool(standing.mend) is not quiet
    assert standing.until - stage.clock() >= case.seconds


async def _standing(stage: Stage) -> ProviderStatus:
    return next(one for one in await stage.delivery.providers() if one.name == "door")


async def _next(stage: Stage, case: Case, queue_id: str, spare: FakeTransport) -> None:
    """Who gets the mail now: nobody, the same provider, or another."""
    if case.bounced:
        await stage.events.wait("bounced_to", queue_id=queue_id)
        if case.others:  # tried again by the same provider, without the one that was refused
            stage.pass_time(61)
            await stage.events.wait("removed", queue_id=queue_id)
        assert [] == spare.seen, "\n".join(stage.events.texts)
        return
    what = _NEXT[case.verdict.value]
    if what != "another":
        state = await stage.state(queue_id, BOB)
        if not case.about:
            assert state.next_attempt - stage.clock() >= max(case.seconds, 30.0)
        stage.pass_time(max(PATIENCE, case.seconds + 1))
    if what == "the same":
        await stage.events.wait("removed", queue_id=queue_id)
        assert [] == spare.seen, "\n".join(stage.events.texts)
    else:
        await spare.reached(case.messages)
        assert [(BOB, *([CAROL] if case.others else []))] * case.messages == spare.seen


async def _over(stage: Stage, case: Case) -> None:
    """The pause ends with the next message that the provider takes."""
    stage.pass_time(HOUR + 600)
    if case.verdict is not Verdict.THROTTLE:
        await stage.events.wait("removed", queue_id=await submit(stage, case))
    await stage.events.wait("resumed")


async def submit(stage: Stage, case: Case, sender: str = SENDER) -> str:
    """Store a message as the listener does; its queue id."""
    head = f"From: {sender}\r\nSubject: hello\r\nMessage-ID: <1@app>\r\n{case.fields}".encode()
    incoming = stage.real.incoming(stage.clock())
    for start in range(0, len(case.body), 1 << 16):
        incoming.write((b"" if start else head + b"\r\n") + case.body[start : start + (1 << 16)])
        await incoming.drain()
    entry = await incoming.commit(
        arrived=stage.clock(),
        client=Client("local", "127.0.0.1", 4000, "localhost", "web1"),
        envelope=Envelope(sender, tuple(map(Recipient, (BOB, CAROL) if case.others else (BOB,)))),
        facts=Facts(len(head) + 2 + len(case.body), False, 78),
        header=head,
        message_id="<1@app>",
        edits=(),
    )
    return entry.queue_id


# --- servers and transports ---


def _server(case: Case) -> HttpServer | SmtpServer:
    """A server that gives the answer so many times, and then a good one."""
    if case.door in DOORS:
        preset, left = DOORS[case.door], [case.answer] * (case.times + case.messages - 1)

        def scripted(line: bytes) -> Answer:
            return cast(Answer, left.pop()) if left else GOOD.get(case.stage, "250 Ok")

        script: dict[str, Any] = {case.stage: case.answer if case.stage == "body" else scripted}
        if case.stage == "auth":  # a script there is all that AUTH says
            script["auth"] = lambda line: cast(Answer, left.pop()) if left else "235 2.7.0 welcome"
        return SmtpServer(script, users={preset.username: preset.password}, starttls=server_tls())
    return HttpServer([*[case.answer] * (case.times + case.messages - 1), Response(200, TAKEN[case.door])])


GOOD = {
    "ehlo": "250-test.example\r\n250-STARTTLS\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
    "greeting": "220 test.example ESMTP",
    "data": "354 go ahead",
    "starttls": "220 go ahead",
}


def _transport(case: Case, server: HttpServer | SmtpServer, directory: Path) -> Transport:
    """The provider as configured, but for where it is."""
    if isinstance(server, SmtpServer):
        settings = by_preset(
            DOORS[case.door],
            provider="door",
            hostname="relay.test",
            host="localhost",
            port=server.port,
            ca_file=ca_file(directory),
            timeout=case.timeout,
            bounce_from="mailer-daemon@example.com",
        )
        return Smtp(replace(settings, dot_timeout=case.timeout))
    return api(case.door, server.url, case.timeout, case.settings)


def api(name: str, url: str, seconds: float = 5.0, settings: Mapping[str, Any] | None = None) -> Transport:
    """A transport `door` that speaks the API of this provider to a server at `url`; every listener's wishes are obeyed."""
    http = Http(base_url=f"{url}/awsses" if name == "lowcodeapi" else url, timeout=seconds, concurrency=2)
    more: dict[str, Any] = {"base_url": url, "timeout": seconds, "controls": {"local": DIALECTS}, **(settings or {})}
    match name:
        case "postmark":
            return Postmark(PostmarkSettings("door", "canary-0123456789", **more), http)
        case "mailtrap":
            chosen = MailtrapSettings("door", "canary-0123456789", **more)
            return Mailtrap(chosen, {stream: Http(base_url=each, timeout=seconds, concurrency=2) for stream, each in chosen.doors.items()})
        case "paubox":
            return Paubox(PauboxSettings("door", "canary-0000", "clinic", **more), http)
        case "lowcodeapi":
            return LowCode(LowCodeSettings("door", "at_canary-00000000", **{**more, "base_url": f"{url}/awsses"}), http)
        case _:
            more = {"configuration_set": "transactional", **more}
            return Ses(SesSettings("door", "eu-west-1", "AKIDEXAMPLE", "canary" + "x" * 34, **more), http)
