"""Jobs made of plain values, for tests that have no spool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from relay import edits, header
from relay.model import Client, Edit, Envelope, Facts, Job, Recipient

HELLO = b"From: <app@example.com>\r\nTo: <a@example.net>\r\nSubject: hello\r\n\r\n.leading dot\r\nbye\r\n"


@dataclass(frozen=True)
class MemoryMessage:
    """A stored message that was never stored. `header` and `facts` are worked out from the octets."""

    data: bytes
    header: bytes = field(init=False)
    facts: Facts = field(init=False)

    def __post_init__(self) -> None:
        longest = max(map(len, self.data.split(b"\r\n")))
        object.__setattr__(self, "header", header.cut(self.data)[0])
        object.__setattr__(self, "facts", Facts(len(self.data), not self.data.isascii(), longest))

    async def read(self) -> bytes:
        """The octets."""
        return self.data

    async def chunks(self) -> AsyncIterator[bytes]:
        """The octets, 256 KiB at a time."""
        for start in range(0, len(self.data), 256 * 1024):
            yield self.data[start : start + 256 * 1024]


def job(
    *recipients: str | Recipient,
    data: bytes = HELLO,
    sender: str = "app@example.com",
    edits: Sequence[Edit] = (),
    queue_id: str = "687E7641C64007",
    **envelope: object,
) -> Job:
    """A job to `recipients` (default: a@example.net); `envelope` holds further fields of Envelope."""
    to = tuple(Recipient(one) if isinstance(one, str) else one for one in recipients or ("a@example.net",))
    return Job(queue_id, Envelope(sender, to, **envelope), to, tuple(edits), MemoryMessage(data))  # type: ignore[arg-type]


class Accepted(TypedDict):
    """A message as a payload function is told of it, beside its octets and the settings."""

    block: bytes
    queue_id: str
    recipients: Sequence[str]
    changes: Sequence[Edit]
    listener: str


def accepted(data: bytes, recipients: Sequence[str], queue_id: str) -> Accepted:
    """A message that the listener `local` accepted for these recipients at a fixed time, with the edits it gets."""
    block, body = header.cut(data)
    changes = edits.decide(
        block,
        queue_id=queue_id,
        hostname="relay.example.com",
        client=Client("local", "127.0.0.1", name="localhost", helo="app"),
        envelope=Envelope("app@example.com", tuple(map(Recipient, recipients))),
        arrived=1_795_197_421.0,
        ended=body > len(block),
    )
    return Accepted(block=block, queue_id=queue_id, recipients=recipients, changes=changes, listener="local")
