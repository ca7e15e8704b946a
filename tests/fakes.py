"""Fakes shared by the tests: a transport with a script, a log that can be waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from relay.budgets import Quota
from relay.errors import CannotCarry
from relay.log import Events
from relay.model import Client, Edit, Entry, Envelope, Facts, Job, Outcome, RecipientState, State, Verdict
from relay.spool.base import Health
from relay.transports.base import ALONE, Batching, Check, Preview, Share
from relay.verdicts import status

Answer = Outcome | BaseException
Script = Callable[[Job, str], Answer]


def outcome(verdict: Verdict, reply: str = "", **more: Any) -> Outcome:
    """An outcome of this verdict as a remote would give it."""
    identity = "domain=example.com" if verdict is Verdict.CONFIG else ""
    return Outcome(
        verdict, status(verdict), reply or f"{verdict} said the remote", "mx.example.net[192.0.2.1]:25", identity=identity, **more
    )


def always(verdict: Verdict, **more: Any) -> Script:
    """A script that gives every recipient an outcome of this verdict."""
    return lambda job, address: outcome(verdict, **more)


class FakeTransport:
    """A transport that answers by a script and remembers its attempts.

    With `batching` every job has the `share` given, or one of kind "same". `declines` are recipients that it takes to be refused,
    as an API does. `checks` is what a probe finds, `allows` what its account says of its quota, or why it does not.
    """

    def __init__(
        self,
        provider: str,
        script: Script | None = None,
        *,
        refuses: str = "",
        identities: Sequence[str] = (),
        concurrency: int = 5,
        carries_reports: bool = True,
        journal: list[str] | None = None,
        split: bool = False,
        batching: Batching = ALONE,
        share: Callable[[Job], Share | None] | None = None,
        declines: Mapping[str, str] | None = None,
        checks: Sequence[Check] = (Check("connect", True, "there"),),
        allows: Quota | str = "",
    ) -> None:
        self.provider = provider
        self.split = split  # one job for each recipient
        self.prepared = 0
        self.script = script or always(Verdict.OK)
        self.refusal = refuses
        self.identities = identities
        self.concurrency = concurrency
        self.carries_reports = carries_reports
        self.batching = batching
        self.shares = share or (lambda job: None if batching.jobs == 1 else Share("same", job.message.facts.size))
        self.declines = declines or {}
        self.checks = checks
        self.allows = allows
        self.quota_unread = ""
        self.attempts: list[Job] = []
        self.batches: list[list[str]] = []  # the queue ids of each attempt
        self.journal = journal if journal is not None else []
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Event()
        self.busy = 0
        self.busiest = 0
        self.closed = False
        self.probed = 0

    async def prepare(self, job: Job) -> Sequence[Job]:
        self.prepared += 1
        if self.refusal:
            raise CannotCarry([self.refusal])
        apart = [one for one in job.recipients if self.split or one.address in self.declines]
        together = tuple(one for one in job.recipients if one not in apart)
        alone = [replace(job, recipients=(one,)) for one in apart]
        return [replace(job, recipients=together), *alone] if together else alone

    async def preview(self, job: Job) -> Sequence[Preview]:
        return [
            Preview(
                "POST",
                f"https://{self.provider}.example.net/",
                {},
                b"{}",
                one.envelope.reverse_path,
                tuple(recipient.address for recipient in one.recipients),
            )
            for one in await self.prepare(job)
        ]

    def identity(self, job: Job) -> Sequence[str]:
        return self.identities

    def share(self, job: Job) -> Share | None:
        return self.shares(job)

    def refuses(self, job: Job) -> str:
        """What an API has beside."""
        return self.declines.get(job.recipients[0].address, "")

    def prefers(self, job: Job) -> str:
        """What an API has beside."""
        return ""

    async def attempt(self, jobs: Sequence[Job]) -> Mapping[tuple[str, str], Outcome]:
        self.attempts += jobs
        self.batches.append([job.queue_id for job in jobs])
        self.journal.append(f"attempt {self.provider}")
        self._news.set()
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self.gate.wait()
        finally:
            self.busy -= 1
        answers = {}
        for job in jobs:
            for recipient in job.recipients:
                answer = self.script(job, recipient.address)
                if isinstance(answer, BaseException):
                    raise answer
                answers[job.queue_id, recipient.address] = answer
        return answers

    async def probe(self) -> Sequence[Check]:
        self.probed += 1
        return self.checks

    async def quota(self) -> Quota | None:
        self.quota_unread = self.allows if isinstance(self.allows, str) else ""
        return None if isinstance(self.allows, str) else self.allows

    async def aclose(self) -> None:
        """Nothing is open; that it was called is remembered."""
        self.closed = True

    async def reached(self, count: int) -> None:
        """Until so many attempts have begun."""
        async with asyncio.timeout(10):
            while len(self.attempts) < count:
                self._news.clear()
                await self._news.wait()

    @property
    def seen(self) -> list[tuple[str, ...]]:
        """The recipients of each attempt so far."""
        return [tuple(recipient.address for recipient in job.recipients) for job in self.attempts]


class RecordingEvents(Events):
    """The log as fields, with a way to wait for an event instead of for a time."""

    def __init__(self, journal: list[str] | None = None) -> None:
        super().__init__(logging.getLogger("relay.test"))
        self._logger.setLevel(logging.INFO)
        self.lines: list[dict[str, object]] = []
        self.texts: list[str] = []
        self.journal = journal if journal is not None else []
        self._news = asyncio.Event()

    def _write(self, level: int, program: str, text: str, fields: dict[str, object]) -> None:
        self.lines.append(fields)
        self.texts.append(text)
        self.journal.append(f"log {fields['event']}")
        self._news.set()

    def found(self, event: str, **facts: object) -> list[dict[str, object]]:
        """The lines of this event that hold these facts."""
        return [line for line in self.lines if line["event"] == event and facts.items() <= line.items()]

    async def wait(self, event: str, count: int = 1, **facts: object) -> list[dict[str, object]]:
        """The first `count` such lines, waited for up to ten seconds."""
        async with asyncio.timeout(10):
            while len(self.found(event, **facts)) < count:
                self._news.clear()
                await self._news.wait()
        return self.found(event, **facts)[:count]


class MemorySpool:
    """The part of a spool that a listener uses: keeps what was committed, and fails or waits when told.

    `health_` is what `health` answers; `failure` is raised by `commit`, `refusal` by `incoming`; while `gate` is clear,
    commits wait.
    """

    def __init__(self) -> None:
        self.health_ = Health(ok=True, full=False, why="", free=10**12)
        self.failure: BaseException | None = None
        self.refusal: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.drain_gate = asyncio.Event()
        self.drain_gate.set()
        self.committing = 0
        self.open = 0
        self.entries: list[Entry] = []
        self.messages: dict[str, bytes] = {}
        self._number = 0
        self._news = asyncio.Event()

    def health(self) -> Health:
        return self.health_

    def incoming(self, now: float) -> MemoryIncoming:
        if self.refusal:
            raise self.refusal
        self._number += 1
        self.open += 1
        return MemoryIncoming(self, f"{self._number:014X}")

    def changed(self) -> None:
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, up to ten seconds, until a commit or an abort makes `condition` true."""
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()


class MemoryIncoming:
    """A message on its way into a MemorySpool."""

    def __init__(self, spool: MemorySpool, queue_id: str) -> None:
        self.queue_id = queue_id
        self._spool = spool
        self._chunks: list[bytes] = []

    @property
    def size(self) -> int:
        return sum(map(len, self._chunks))

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    async def drain(self) -> None:
        await self._spool.drain_gate.wait()

    async def commit(
        self,
        *,
        arrived: float,
        client: Client,
        envelope: Envelope,
        facts: Facts,
        header: bytes,
        message_id: str,
        edits: Sequence[Edit],
        via: Sequence[str] = (),
        bounce: bool = False,
        answers: str = "",
        told: Sequence[str] = (),
    ) -> Entry:
        self._spool.committing += 1
        self._spool.changed()
        await self._spool.gate.wait()
        self._spool.committing -= 1
        self._spool.open -= 1
        self._spool.changed()
        if self._spool.failure:
            raise self._spool.failure
        states = tuple(RecipientState(recipient, State.QUEUED) for recipient in envelope.recipients)
        entry = Entry(self.queue_id, arrived, client, envelope, facts, header, message_id, tuple(edits), states)
        self._spool.entries.append(entry)
        self._spool.messages[self.queue_id] = b"".join(self._chunks)
        return entry

    async def abort(self) -> None:
        self._spool.open -= 1
        self._spool.changed()
