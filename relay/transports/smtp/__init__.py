"""SMTP to one configured server: a smarthost, or a provider's SMTP door.

Promises: certificates are checked and AUTH never leaves in clear beyond this host (opening.py); connections are kept and used
again; every recipient gets exactly one outcome (judging.py). Fails only with Outcomes: until the final dot is handed over the
message is surely not taken; after it, without a reply, nobody knows (UNKNOWN). Where the message cannot be read, SpoolError
comes out, and the connection is cut before the dot. A kept connection that is dead before it answered MAIL is replaced once,
silently.

aiosmtplib connects, greets, starts TLS and logs in. From MAIL on relay/transports/conversation.py speaks, because the
library parses addresses again, does not keep the stage, has no PIPELINING and sends a message as one buffer
(docs/decisions/004-outbound.md). RFC 5321, 3207 (STARTTLS), 4954 (AUTH).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from relay.budgets import Quota
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.model import Job, Kind, Outcome, Recipient, Verdict
from relay.transports import esmtp, net, refused
from relay.transports.base import ALONE, Check, Outcomes, Preview, Share
from relay.transports.conversation import CLOSING, Connection, Finding, Found, Refused, Trouble
from relay.transports.smtp import logins, opening, probing
from relay.transports.smtp.judging import About, blotted, judged, outcome
from relay.transports.smtp.message import BEST, OF_PROVIDERS, Plan, look_inside, plan, sorted_out, transaction, whole
from relay.transports.smtp.opening import trouble
from relay.transports.smtp.settings import SmtpSettings, by_preset

_MAX_AGE = 300.0  # seconds one connection is used at most; providers ask to reconnect regularly
_CLOSE_TIMEOUT = 2.0


class _Stale(Exception):
    """A kept connection that was dead before it answered MAIL."""


class Smtp:
    """The transport. At most `concurrency` connections are kept between attempts."""

    batching = ALONE
    carries_reports = True
    quota_unread = ""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._closing: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def provider(self) -> str:
        """The provider's configured name."""
        return self._settings.provider

    @property
    def concurrency(self) -> int:
        """How many attempts may be under way at once."""
        return self._settings.concurrency

    async def prepare(self, job: Job) -> Sequence[Job]:
        """Split into transactions of at most `max_recipients`. What the server can take is known only once it is asked, apart
        from what its preset knows."""
        planned = plan(job, self._settings)
        if await look_inside(job, self._settings):
            planned = plan(job, self._settings, sealed=True)
        size = 1 if planned.apart else self._settings.max_recipients
        taken, others = sorted_out(job.recipients, self._settings)
        refusal = replace(planned, refusal=refused.refusal(self._settings.dialect))
        return [
            *(replace(job, recipients=taken[at : at + size], plan=planned) for at in range(0, len(taken), size)),
            *([replace(job, recipients=others, plan=refusal)] if others else []),
        ]

    async def preview(self, job: Job) -> Sequence[Preview]:
        """The transactions for the job, with a server that takes 8 bits, and UTF-8 where nobody knows better."""
        settings = self._settings
        extensions = OF_PROVIDERS if settings.dialect else BEST
        scheme = "smtps" if settings.tls == "implicit" else "smtp"
        login = ("--user", user) if (user := logins.user(settings)) else ()
        found = []
        prepared = await self.prepare(job)
        unsent = tuple(
            Loss("hard", f"{one.address} gets nothing: {refusal}")
            for part in prepared
            if (refusal := _plan_of(part).refusal)
            for one in part.recipients
        )
        for part in prepared:
            planned = _plan_of(part)
            if planned.refusal:
                continue
            try:
                what = await transaction(part, planned, settings, extensions)
            except Trouble as error:
                raise _cannot_carry(error) from error
            found.append(
                Preview(
                    method="SMTP",
                    url=f"{scheme}://{settings.host}:{settings.port}",
                    headers={},
                    body=await whole(what),
                    reverse_path=planned.reverse_path,
                    recipients=tuple(recipient.address for recipient in part.recipients),
                    losses=(*(Loss("cosmetic", loss) for loss in planned.losses), *unsent),
                    login=(*(("--ssl-reqd",) if settings.tls == "starttls" else ()), *login),
                )
            )
        return found

    def identity(self, job: Job) -> Sequence[str]:
        """The sender's domains and the configuration set, for a dialect whose replies tell a bad identity from a bad account."""
        return _plan_of(job).identities

    def share(self, job: Job) -> Share | None:
        """None: each job has a transaction of its own."""
        return None

    async def probe(self) -> Sequence[Check]:
        """Connection, certificate, login and extensions, on a connection of its own; MAIL is not said."""
        return await probing.probe(self._settings)

    async def quota(self) -> Quota | None:
        """By SMTP nobody can ask."""
        return None

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """One transaction for each job."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job in jobs:
            outcomes.update(await self._attempt(job))
        return outcomes

    async def aclose(self) -> None:
        """Take leave on every idle connection; wait a moment, then cut what is left."""
        if self._sweeper:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._quit(self._idle.pop())
        if closing := {connection.closed: connection for connection in self._closing}:
            _, late = await asyncio.wait(closing, timeout=_CLOSE_TIMEOUT)
            for future in late:
                closing[future].abort("")

    async def _attempt(self, job: Job) -> dict[tuple[str, str], Outcome]:
        started = opened = time.monotonic()
        remote = net.remote(self._settings.host, None, self._settings.port)
        found: Found | None = None
        dsn = False
        if refusal := _plan_of(job).refusal:
            told = outcome("rcpt", Refused(Verdict.PERM_RCPT, "5.1.3", refusal), "relay")
            return {(job.queue_id, recipient.address): told for recipient in job.recipients}
        try:
            if connection := self._reuse():
                remote, dsn = connection.remote, "dsn" in connection.extensions
                with contextlib.suppress(_Stale):
                    found = await self._use(connection, job)
            if found is None:
                connection = await opening.connection(self._settings)
                remote, opened, dsn = connection.remote, time.monotonic(), "dsn" in connection.extensions
                found = await self._use(connection, job)
        except Trouble as error:
            found = [(error.stage, error.finding)] * len(job.recipients)
        times = (opened - started, time.monotonic() - opened)
        outcomes = {}
        for recipient, (stage, finding) in zip(job.recipients, found, strict=True):
            one = self._outcome(job, recipient, stage, finding, remote, times)
            if dsn and recipient.notify and one.kind is Kind.RELAYED and not _plan_of(job).substituted:
                one = replace(one, notifies=True)
            outcomes[job.queue_id, recipient.address] = one
        return outcomes

    def _outcome(self, job: Job, recipient: Recipient, stage: str, finding: Finding, remote: str, times: tuple[float, float]) -> Outcome:
        settings, planned = self._settings, _plan_of(job)
        told = blotted(finding, settings.username, settings.password)
        about = About(planned.senders, [one.address for one in job.recipients], planned.configuration_set, planned.tenant)
        return judged(settings.dialect, stage, told, recipient.address, about, remote, *times)

    # The pool.

    def _reuse(self) -> Connection | None:
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.released < self._settings.idle and now - connection.opened < _MAX_AGE:
                return connection
            self._quit(connection)
        return None

    def _keep(self, connection: Connection) -> None:
        connection.end()
        if not connection.usable or connection.messages >= self._settings.max_messages or len(self._idle) >= self.concurrency:
            self._quit(connection)
            return
        self._idle.append(connection)
        if not self._sweeper:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle too long; the oldest stand first."""
        limit = time.monotonic() - self._settings.idle
        while self._idle and self._idle[0].released <= limit:
            self._quit(self._idle.pop(0))
        again = asyncio.get_running_loop().call_later(self._settings.idle, self._sweep) if self._idle else None
        self._sweeper = again

    def _quit(self, connection: Connection) -> None:
        if not connection.closed.done():
            self._closing.add(connection)
            connection.closed.add_done_callback(lambda _: self._closing.discard(connection))
            connection.quit()

    # One transaction.

    async def _use(self, connection: Connection, job: Job) -> Found:
        """One transaction on an open connection. Raises Trouble, or _Stale when the connection had been dead before."""
        fresh = connection.messages == 0
        connection.begin()
        try:
            found = await connection.transact(await transaction(job, _plan_of(job), self._settings, connection.extensions))
        except Trouble as error:
            if isinstance(error.finding, Refused):
                self._keep(connection)
                raise
            connection.abort("")
            raise error if fresh else _Stale from error
        except BaseException:
            connection.abort("")
            raise
        self._keep(connection)
        stage, finding = found[0]
        if not fresh and stage == "mail" and isinstance(finding, esmtp.Reply) and finding.code == CLOSING:
            raise _Stale
        return found


def _cannot_carry(error: Trouble) -> CannotCarry:
    assert isinstance(error.finding, Refused)  # nothing else is found before a server is asked
    return CannotCarry([error.finding.text], error.finding.status)


def _plan_of(job: Job) -> Plan:
    assert isinstance(job.plan, Plan)
    return job.plan


__all__ = ["Smtp", "SmtpSettings", "by_preset", "outcome", "trouble"]
