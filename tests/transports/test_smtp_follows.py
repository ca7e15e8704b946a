"""Replies of providers' SMTP doors, from a scripted server through delivery: class, log line, and a bounce or a pause."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from relay.model import State, Verdict
from relay.transports import presets
from relay.transports.smtp import Smtp, by_preset
from tests.servers import Act, Answer, SmtpServer, ca_file, server_tls
from tests.test_delivery import BOB, SENDER, Stage

DOORS = {
    "ses": presets.ses("eu-west-1", "AKIDEXAMPLE", "some+secret+key", configuration_set="shop"),
    "mailtrap": presets.mailtrap("transactional", "canary-token"),
    "postmark": presets.postmark("outbound", "canary-token"),
    "paubox": presets.paubox("canary-key"),
}
VERIFY = "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: "
THROTTLED, PAUSED = "provider door throttled", "provider door paused"
DOMAIN, SET = "provider door paused for domain=example.com", "provider door paused for configuration_set=shop"


@dataclass(frozen=True)
class Follows:
    """What a reply at a stage leads to: class, enhanced status, and how the pause is logged; without a pause `bounced` or retried."""

    door: str
    stage: str
    reply: str
    verdict: Verdict
    status: str
    paused: str = ""
    bounced: bool = False

    def __str__(self) -> str:
        return f"{self.door} {self.stage} {self.reply[:60]}"


ROWS = [
    Follows("ses", "greeting", "421 Too many concurrent SMTP connections", Verdict.THROTTLE, "4.7.28", THROTTLED),
    Follows("ses", "mail", "421 Too many concurrent SMTP connections", Verdict.THROTTLE, "4.7.28", THROTTLED),
    Follows("ses", "dot", "451 Temporary service failure", Verdict.RETRY, "4.3.0"),
    Follows("ses", "dot", "451 4.4.2 Timeout waiting for data from client", Verdict.RETRY, "4.4.2"),
    Follows("ses", "dot", "454 Throttling failure: Maximum sending rate exceeded", Verdict.THROTTLE, "4.7.28", THROTTLED),
    Follows("ses", "mail", "454 Throttling failure: Maximum sending rate exceeded", Verdict.THROTTLE, "4.7.28", THROTTLED),
    Follows("ses", "dot", "454 Throttling failure: Daily message quota exceeded", Verdict.PAUSE, "4.7.28", PAUSED),
    Follows("ses", "auth", "454 Temporary authentication failure", Verdict.PAUSE, "4.3.0", PAUSED),
    Follows("ses", "dot", "454 Temporary service failure", Verdict.RETRY, "4.3.0"),
    Follows("ses", "mail", "501 Invalid MAIL FROM address provided", Verdict.PERM_MSG, "5.6.0", bounced=True),
    Follows("ses", "mail", "530 Authentication required", Verdict.PAUSE, "4.3.5", PAUSED),
    Follows("ses", "auth", "535 Authentication Credentials Invalid", Verdict.PAUSE, "4.7.8", PAUSED),
    Follows("ses", "auth", "535 Account not subscribed to SES", Verdict.PAUSE, "4.7.1", PAUSED),
    Follows("ses", "dot", "552 Message is too long.", Verdict.PERM_MSG, "5.3.4", bounced=True),
    Follows("ses", "mail", f"553 <{SENDER}> Invalid email address", Verdict.PERM_MSG, "5.6.0", bounced=True),
    Follows("ses", "rcpt", f"553 <{BOB}> address unknown", Verdict.PERM_RCPT, "5.1.1", bounced=True),
    Follows("ses", "dot", "554 Access denied: User arn:aws:iam::1:user/x is not authorized", Verdict.PAUSE, "4.7.1", PAUSED),
    Follows("ses", "dot", VERIFY + SENDER, Verdict.CONFIG, "4.7.1", DOMAIN),
    Follows("ses", "dot", VERIFY + BOB, Verdict.PERM_RCPT, "5.7.1", bounced=True),
    Follows("ses", "dot", "554 Message rejected: Sending suspended for this account.", Verdict.PAUSE, "4.7.0", PAUSED),
    Follows("ses", "dot", "554 Configuration set shop does not exist", Verdict.CONFIG, "4.3.5", SET),
    Follows("mailtrap", "auth", "535 5.7.8 Too many connections per account", Verdict.THROTTLE, "4.7.28", THROTTLED),
    Follows("mailtrap", "auth", "535 5.7.0 Monthly messages limit reached", Verdict.PAUSE, "4.7.28", PAUSED),
    Follows("mailtrap", "auth", "535 5.7.0 Invalid login or password", Verdict.PAUSE, "4.7.8", PAUSED),
    Follows("mailtrap", "mail", "550 5.7.1 Sending from domain is not allowed", Verdict.CONFIG, "4.7.1", DOMAIN),
    Follows("mailtrap", "dot", "550 5.7.1 'From' header does not match the sender's domain", Verdict.CONFIG, "4.7.1", DOMAIN),
    Follows("mailtrap", "dot", "550 5.7.0 Requested action not taken: too many emails per second", Verdict.THROTTLE, "4.7.28", THROTTLED),
    Follows("mailtrap", "rcpt", "550 5.1.1 no such user", Verdict.PERM_RCPT, "5.1.1", bounced=True),
    Follows("postmark", "auth", "535 5.7.8 Error: authentication failed", Verdict.PAUSE, "4.7.8", PAUSED),
    Follows("paubox", "auth", "535 5.7.8 Error: authentication failed", Verdict.PAUSE, "4.7.8", PAUSED),
]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


def once(answer: Answer) -> Callable[[bytes], Answer]:
    """This answer the first time, and then a good one: a bounce goes through."""
    left = [answer]
    return lambda line: left.pop() if left else "250 Ok"


async def run(stage: Stage, directory: Path, door: str, script: dict[str, Answer | Callable[[bytes], Answer]], *, bounced: bool) -> str:
    """One message to a door with a script; its queue id. At the end the message has been attempted, and its bounce told."""
    preset = DOORS[door]
    server = SmtpServer(script, users={preset.username: preset.password}, starttls=server_tls())
    async with server:
        settings = by_preset(
            preset,
            provider="door",
            hostname="relay.test",
            host="localhost",
            port=server.port,
            ca_file=ca_file(directory),
            timeout=5.0,
            bounce_from="mailer-daemon@example.com",
        )
        smtp = Smtp(replace(settings, dot_timeout=5.0))
        stage.transports["door"] = smtp  # type: ignore[assignment]
        stage.route("door")
        async with stage.running():
            queue_id = await stage.submit(BOB)
            await stage.events.wait("attempt", queue_id=queue_id)
            if bounced:
                await stage.events.wait("bounced_to", queue_id=queue_id)
        await smtp.aclose()
    return queue_id


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_what_follows(stage: Stage, tmp_path: Path, row: Follows) -> None:
    """A reply gives its class, its log line, and a bounce or a pause, never both; nothing that is the account's ever bounces."""
    queue_id = await run(stage, tmp_path, row.door, {row.stage: once(row.reply)}, bounced=row.bounced)
    text = "\n".join(stage.events.texts)
    assert f"dsn={row.status}, status={'bounced' if row.bounced else 'deferred'} ({row.reply}" in text
    state = await stage.state(queue_id, BOB)
    assert (State.FAILED if row.bounced else State.QUEUED, row.verdict) == (state.state, state.verdict)
    assert row.bounced is bool(await stage.bounces())
    pauses = [line for line in stage.events.lines if line["event"] in ("paused", "throttled", "identity_paused")]
    assert bool(row.paused) is bool(pauses)
    assert row.paused in text
    assert "canary" not in text


@pytest.mark.parametrize(
    ("where", "verdict", "status"),
    [("mail", Verdict.RETRY, "4.4.2"), ("data", Verdict.RETRY, "4.4.2"), ("dot", Verdict.UNKNOWN, "4.4.2")],
)
async def test_cut(stage: Stage, tmp_path: Path, where: str, verdict: Verdict, status: str) -> None:
    """Only a connection cut after the final dot leaves the outcome unknown; it bounces and pauses nothing."""
    queue_id = await run(stage, tmp_path, "ses", {where: Act.CUT}, bounced=False)
    state = await stage.state(queue_id, BOB)
    assert (State.QUEUED, verdict, status, verdict is Verdict.UNKNOWN) == (state.state, state.verdict, state.status, state.maybe_relayed)
    assert [] == await stage.bounces()
    assert [] == [line for line in stage.events.lines if line["event"] in ("paused", "throttled", "identity_paused")]
