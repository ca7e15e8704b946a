"""One provider by two ways, `mode: auto`: its REST API for what that carries whole, its SMTP door for the rest, and for what that
carries better (`prefers`: one transaction for many recipients, in place of a request each) if it carries that at all.

Promises: which way a recipient goes follows from the message, its envelope and the settings alone, so that mail which may have
been taken is tried again the same way; what neither way can carry is CannotCarry with the reasons of both. The API is the
provider's main way: its trouble is the provider's. Trouble of the SMTP door concerns only what goes by it: a PAUSE there
becomes a CONFIG of the identity `mode=smtp`, which nothing that goes by the API uses, and a THROTTLE a RETRY, unless its
words are about the account and so about both ways. Two more things keep the one from holding up the other: what goes by SMTP
has at most half of the attempts under way, and who waits LINE seconds for its turn there makes room and is tried later; and a
message by SMTP that is to decide whether a pause of the API is over asks the API first, because its own success would say nothing.

Knows its two transports by the contract in base.py only, and of the API that it is a Rest (`refuses`, `prefers`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from relay.budgets import Quota
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.model import Job, Outcome, Recipient, Verdict
from relay.transports import net
from relay.transports.base import Batching, Check, Outcomes, Preview, Share, Transport

LINE = 10.0
"""Seconds that a message waits, in its attempt, for its turn at the SMTP door."""
IDENTITY = "mode=smtp"
"""What everything that goes by the SMTP door uses of the account, and nothing that goes by the API."""

# A throttle in these words would meet the API too: Mailtrap's "too many emails per second" (docs 2026-11, sending limits). One
# about connections would not ("Too many connections per account", same page), nor would one that does not say.
_ACCOUNT = re.compile(r"\b(?:e?mails?|messages?|recipients?|quota|sending rate)\b", re.IGNORECASE)
_CONNECTION = re.compile(r"\bconnections?\b", re.IGNORECASE)


class Api(Transport, Protocol):
    """What a Rest is beside a Transport."""

    def refuses(self, job: Job) -> str:
        """Why the API takes no such recipient as the prepared job's; "" where it does."""

    def prefers(self, job: Job) -> str:
        """Why SMTP would carry the prepared job's message better; "" where it would not."""


@dataclass(frozen=True, slots=True)
class _ByApi:
    """The plan of a job that goes by the API, with the job as that prepared it."""

    job: Job


@dataclass(frozen=True, slots=True)
class _BySmtp:
    """The plan of a job that goes by the SMTP door, with the job as that prepared it; `why` the API does not carry it."""

    job: Job
    why: str


@dataclass(frozen=True, slots=True)
class _Neither:
    """The plan of a job whose recipients neither way takes; it is never sent."""

    refusal: CannotCarry


@dataclass(frozen=True, slots=True)
class _Split:
    """A job by the ways it goes. `parts` are what the API prepared."""

    parts: Sequence[Job] = ()
    smtp: Sequence[Job] = ()
    why: str = ""  # the API does not carry what goes by SMTP
    rest: Job | None = None  # the part of the job that neither carries
    refusal: CannotCarry | None = None


class Auto:
    """A Transport over the API and the SMTP transport of one provider. Both have its name."""

    def __init__(self, api: Api, smtp: Transport) -> None:
        self.api = api
        self.smtp = smtp
        self._turns = asyncio.Semaphore(connections(api.concurrency, smtp.concurrency))
        self._down: Outcome | None = None  # why the API could not be used when it was last asked

    @property
    def provider(self) -> str:
        """The provider's configured name."""
        return self.api.provider

    @property
    def batching(self) -> Batching:
        """The API's; what goes by SMTP goes alone."""
        return self.api.batching

    @property
    def concurrency(self) -> int:
        """The API's. What goes by SMTP has at most half of it (`connections`)."""
        return self.api.concurrency

    @property
    def carries_reports(self) -> bool:
        """A report that the API would rebuild goes by SMTP."""
        return self.api.carries_reports or self.smtp.carries_reports

    @property
    def quota_unread(self) -> str:
        """The API's."""
        return self.api.quota_unread

    async def prepare(self, job: Job) -> Sequence[Job]:
        """What the API carries first, so that it need not wait for a pause of the SMTP door."""
        split = await self._split(job)
        found = [replace(part, plan=_ByApi(part)) for part in split.parts]
        found += [replace(part, plan=_BySmtp(part, split.why)) for part in split.smtp]
        if split.rest is not None and split.refusal is not None:
            found.append(replace(split.rest, plan=_Neither(split.refusal)))
        return found

    async def preview(self, job: Job) -> Sequence[Preview]:
        """What would leave by each way; `why` is told of what goes by SMTP."""
        split = await self._split(job)
        found: list[Preview] = []
        if by_api := _recipients(split.parts):
            found += await self.api.preview(_for(job, by_api))
        if by_smtp := _recipients(split.smtp):
            found += [replace(one, why=split.why) for one in await self.smtp.preview(_for(job, by_smtp))]
        if split.rest is None or split.refusal is None:
            return found
        unsent = tuple(Loss("hard", f"{one.address} gets nothing: {split.refusal}") for one in split.rest.recipients)
        return [replace(one, losses=one.losses + unsent) for one in found]

    def identity(self, job: Job) -> Sequence[str]:
        """Those of the way that the job goes; by SMTP that way itself is one."""
        plan = job.plan
        if isinstance(plan, _ByApi):
            return self.api.identity(plan.job)
        return (IDENTITY, *self.smtp.identity(plan.job)) if isinstance(plan, _BySmtp) else ()

    def share(self, job: Job) -> Share | None:
        """The API's; what goes by SMTP goes alone."""
        return self.api.share(job.plan.job) if isinstance(job.plan, _ByApi) else None

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """Each by its way; those by the API together."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        if by_api := [job.plan.job for job in jobs if isinstance(job.plan, _ByApi)]:
            outcomes |= await self._by_api(by_api)
        for job in jobs:
            if isinstance(job.plan, _BySmtp):
                outcomes |= await self._by_smtp(job.plan)
            elif isinstance(job.plan, _Neither):
                refusal = job.plan.refusal
                outcomes |= _alike(job, Outcome(Verdict.PERM_MSG, refusal.status, net.one_line(str(refusal)), "relay", own=True))
        return outcomes

    async def probe(self) -> Sequence[Check]:
        """Both ways, each check with the name of its way."""
        api, smtp = await asyncio.gather(self.api.probe(), self.smtp.probe())
        return [*(replace(one, what=f"API {one.what}") for one in api), *(replace(one, what=f"SMTP {one.what}") for one in smtp)]

    async def quota(self) -> Quota | None:
        """The API's: it is the account's, whichever way a message goes."""
        return await self.api.quota()

    async def aclose(self) -> None:
        """Close both, whatever one of them makes of it."""
        try:
            await self.api.aclose()
        finally:
            await self.smtp.aclose()

    # Which way.

    async def _split(self, job: Job) -> _Split:
        """Raises CannotCarry with the reasons of both where neither carries any of it."""
        try:
            parts = await self.api.prepare(job)
        except CannotCarry as by_api:
            try:
                return _Split(smtp=await self.smtp.prepare(job), why=str(by_api))
            except CannotCarry as by_smtp:
                raise _neither(by_api.reasons, by_smtp.reasons, by_api.status) from by_smtp
        if why := next(filter(None, map(self.api.prefers, parts)), ""):
            with contextlib.suppress(CannotCarry):
                return _Split(smtp=await self.smtp.prepare(job), why=why)
        reasons = {recipient: why for part in parts if (why := self.api.refuses(part)) for recipient in part.recipients}
        if not reasons:
            return _Split(parts)
        taken = [part for part in parts if not self.api.refuses(part)]
        others = _for(job, reasons)
        whys = list(dict.fromkeys(reasons.values()))
        try:
            return _Split(taken, await self.smtp.prepare(others), "; ".join(whys))
        except CannotCarry as by_smtp:
            refusal = _neither(whys, by_smtp.reasons, "5.1.3")
            if not taken:
                raise refusal from by_smtp
            return _Split(taken, rest=others, refusal=refusal)

    # By the API.

    async def _by_api(self, jobs: Sequence[Job]) -> Outcomes:
        outcomes = await self.api.attempt(jobs)
        self._down = next((one for one in outcomes.values() if one.verdict is Verdict.PAUSE), None)
        return outcomes

    # By SMTP.

    async def _by_smtp(self, plan: _BySmtp) -> Outcomes:
        if self._down and (down := await self._still_down(self._down)):
            return _alike(plan.job, down)
        try:
            async with asyncio.timeout(LINE):
                await self._turns.acquire()
        except TimeoutError:
            text = "all connections by SMTP are busy with other messages"
            return _alike(plan.job, Outcome(Verdict.RETRY, "4.3.2", text, "relay", own=True))
        try:
            outcomes = await self.smtp.attempt([plan.job])
        finally:
            self._turns.release()
        return {key: _of_one_way(outcome, plan.why) for key, outcome in outcomes.items()}

    async def _still_down(self, down: Outcome) -> Outcome | None:
        """A paused provider is left alone but for one message that decides whether it is still down: when that one goes by SMTP, the
        API is asked in its place."""
        failed = next((check for check in await self.api.probe() if check.ok is False), None)
        if failed is None:
            self._down = None
            return None
        return replace(down, reply=net.one_line(f"{failed.what}: {failed.text}"), own=True, remote_id="", mend=failed.mend or down.mend)


def connections(api: int, smtp: int) -> int:
    """How many attempts by SMTP may be under way at once, of the concurrency of both ways: no more than the door allows, and not so
    many that a door that hangs would leave the API no room."""
    return min(smtp, max(api // 2, 1))


def _of_one_way(outcome: Outcome, why: str) -> Outcome:
    """An outcome by SMTP as it concerns the provider."""
    if outcome.verdict is Verdict.PAUSE:
        return replace(outcome, verdict=Verdict.CONFIG, identity=IDENTITY)
    if outcome.verdict is Verdict.THROTTLE and (_CONNECTION.search(outcome.reply) or not _ACCOUNT.search(outcome.reply)):
        return replace(outcome, verdict=Verdict.RETRY)
    if outcome.verdict is Verdict.PERM_MSG and outcome.own:  # found once the server said what it takes
        return replace(outcome, reply=net.one_line(str(_neither([why], [outcome.reply], outcome.status))))
    return outcome


def _neither(by_api: Sequence[str], by_smtp: Sequence[str], status: str) -> CannotCarry:
    """What speaks against both ways is said once."""
    both = [reason for reason in by_api if reason in by_smtp]
    api = [f"by API: {reason}" for reason in by_api if reason not in both]
    smtp = [f"by SMTP: {reason}" for reason in by_smtp if reason not in both]
    return CannotCarry([*both, *api, *smtp], status)


def _recipients(parts: Iterable[Job]) -> list[Recipient]:
    return [recipient for part in parts for recipient in part.recipients]


def _for(job: Job, recipients: Iterable[Recipient]) -> Job:
    """The part of the job that is for these, in its own order."""
    wanted = set(recipients)
    return replace(job, recipients=tuple(recipient for recipient in job.recipients if recipient in wanted))


def _alike(job: Job, outcome: Outcome) -> Outcomes:
    return {(job.queue_id, recipient.address): outcome for recipient in job.recipients}
