"""Keeps mail instead of sending it: the provider of a first run and of staging. Nothing leaves the host.

Each job becomes two files in one directory: `<queue id>.eml`, the message as it would have left, and `<queue id>.json`,
its envelope and the fields one looks for; a further attempt for other recipients gets `<queue id>-2`. Both are synced
before the outcome, the .json last: a name without it is an attempt that a crash cut short. Fails with a PAUSE outcome
when the directory cannot be written, and with SpoolError when the message cannot be read; then nothing of it stays.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay import edits, header
from relay.budgets import Quota
from relay.model import Job, Outcome, Verdict
from relay.transports import net
from relay.transports.base import ALONE, Check, Outcomes, Preview, Share

_SHOWN = ("from", "to", "cc", "subject", "date", "message-id")


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Where captured mail goes; the directory is made when it is missing."""

    provider: str
    directory: Path
    concurrency: int = 4


class Capture:
    """The transport that keeps."""

    batching = ALONE
    carries_reports = True
    quota_unread = ""

    def __init__(self, settings: CaptureSettings) -> None:
        self._settings = settings

    @property
    def provider(self) -> str:
        """The provider's configured name."""
        return self._settings.provider

    @property
    def concurrency(self) -> int:
        """How many attempts may be under way at once."""
        return self._settings.concurrency

    async def prepare(self, job: Job) -> Sequence[Job]:
        """Anything can be captured, in one piece."""
        return [job]

    async def preview(self, job: Job) -> Sequence[Preview]:
        """The file that the job would become."""
        return [
            Preview(
                method="CAPTURE",
                url=(self._settings.directory.absolute() / f"{job.queue_id}.eml").as_uri(),
                headers={},
                body=edits.apply(job.message.header, job.edits) + (await job.message.read())[len(job.message.header) :],
                reverse_path=job.envelope.reverse_path,
                recipients=tuple(recipient.address for recipient in job.recipients),
            )
        ]

    def identity(self, job: Job) -> Sequence[str]:
        """None."""
        return ()

    def share(self, job: Job) -> Share | None:
        """Each message is captured by itself."""
        return None

    async def attempt(self, jobs: Sequence[Job]) -> Outcomes:
        """Store each job's message and envelope."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        for job in jobs:
            data = await job.message.read()
            outcome = await asyncio.to_thread(self._capture, job, data)
            outcomes.update({(job.queue_id, recipient.address): outcome for recipient in job.recipients})
        return outcomes

    async def probe(self) -> Sequence[Check]:
        """Whether the directory can be written to, or made. Makes nothing."""
        return [await asyncio.to_thread(_check, self._settings.directory)]

    async def quota(self) -> Quota | None:
        """There is none."""
        return None

    async def aclose(self) -> None:
        """Nothing is open between attempts."""

    def _capture(self, job: Job, data: bytes) -> Outcome:
        directory = self._settings.directory
        remote = net.one_line(f"capture[{directory}]")
        try:
            name = _store(directory, job, data)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else "cannot write"
            return Outcome(Verdict.PAUSE, "4.3.1", f"cannot capture: {why}", remote, own=True, mend=_mend(directory))
        return Outcome(Verdict.OK, "2.0.0", f"250 2.0.0 captured as {name}", remote, remote_id=name)


def _mend(directory: Path) -> str:
    return net.one_line(f"make room in {directory}, or give relay the right to write there")


def _check(directory: Path) -> Check:
    """By the user who asks, who need not be the service's."""
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Check("directory", True, net.one_line(f"{directory} {'can be written to' if there == directory else 'will be made'}"))
    why = "cannot be written to" if there.is_dir() else "is no directory"
    return Check("directory", False, net.one_line(f"{there} {why}"), _mend(directory))


def _store(directory: Path, job: Job, data: bytes) -> str:
    """Write and sync both files; returns the name of the .eml."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    block = edits.apply(job.message.header, job.edits)
    base, number = job.queue_id, 1
    while True:
        try:
            eml = _create(directory / f"{base}.eml")
            break
        except FileExistsError:
            number += 1
            base = f"{job.queue_id}-{number}"
    try:
        _write(eml, block, memoryview(data)[len(job.message.header) :])
        about = json.dumps(_about(job, block), ensure_ascii=False, indent=2) + "\n"
        _write(_create(directory / f"{base}.json"), about.encode("utf-8", "replace"))
        _sync(directory)
    except OSError:
        for suffix in ("json", "eml"):
            (directory / f"{base}.{suffix}").unlink(missing_ok=True)
        raise
    return f"{base}.eml"


def _about(job: Job, block: bytes) -> dict[str, object]:
    envelope = job.envelope
    return {
        "queue_id": job.queue_id,
        "arrived": job.arrived,
        "reverse_path": envelope.reverse_path,
        "recipients": [recipient.address for recipient in job.recipients],
        "smtputf8": envelope.smtputf8,
        "ret": envelope.ret,
        "envid": envelope.envid,
        "bounce": job.bounce,
        "size": len(block) + job.message.facts.size - len(job.message.header),
        "headers": {name: header.text(raw) for name in _SHOWN if (raw := header.first(block, name))},
    }


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write(descriptor: int, *pieces: bytes | memoryview) -> None:
    with open(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
