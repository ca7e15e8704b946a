"""A message on its way from a client into the spool: its octets, its header block, the last checks, the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay import edits, header
from relay.errors import SpoolError, SpoolFull
from relay.listener.shared import Shared
from relay.model import Client, Envelope, Facts

FULL = "452 4.3.1 insufficient system storage; try again later"
TROUBLE = "451 4.3.0 the message could not be stored; try again later"
BUG = "451 4.3.0 internal error; try again later"

_DRAIN = 1024 * 1024  # octets written to the spool between two waits for it


class Intake:
    """One message. Ends with either `commit` or `abort`, each called once. Opening it may raise SpoolError."""

    def __init__(self, shared: Shared, envelope: Envelope) -> None:
        self._shared = shared
        self.envelope = envelope
        self._incoming = shared.spool.incoming(shared.clock())
        self._head = b""
        self._head_whole = False
        self._counted = 0  # our share of shared.in_flight
        self._undrained = 0
        self._drainer: asyncio.Task[None] | None = None
        self.queue_id = self._incoming.queue_id

    @property
    def draining(self) -> bool:
        """Whether the spool has more than it can write; nothing more should be read from the client."""
        return self._drainer is not None

    def write(self, data: bytes, drained: Callable[[], None]) -> bool:
        """Take octets; False when all clients together hold too much. `drained` is called when `draining` ends."""
        self._incoming.write(data)
        if not self._head_whole:
            self._keep_head(data)
        self._counted += len(data)
        self._undrained += len(data)
        self._shared.in_flight += len(data)
        if self._undrained > _DRAIN and not self._drainer:
            self._undrained = 0
            self._drainer = self._shared.spawn(self._drain(drained))
        return self._shared.in_flight <= self._shared.limits.bytes_in_flight

    def check(self) -> str:
        """The refusal that the header block earns, or ""."""
        block, _ = header.cut(self._head)
        limits = self._shared.limits
        if len(block) > limits.max_header:
            return f"552 5.3.4 message header exceeds {limits.max_header} octets"
        if sum(name == "received" for name, _ in header.fields(block)) > limits.max_received:
            return "554 5.4.6 mail loop: too many Received fields"  # RFC 5321 §6.3
        return ""

    async def commit(self, client: Client, facts: Facts) -> str:
        """Have it stored; returns the reply for the client. Never raises."""
        shared, queue_id = self._shared, self.queue_id
        try:
            message_id = await self._commit(client, facts)
        except SpoolFull:
            return FULL
        except SpoolError as error:
            shared.events.warning(f"{queue_id}: not stored: {error}", "smtpd")
            return TROUBLE
        except Exception as error:
            shared.events.bug(f"{queue_id}: not stored", error, "smtpd")
            return BUG
        finally:
            self._uncount()
        shared.events.accepted(queue_id, client)
        shared.events.message_id(queue_id, message_id)
        shared.events.queued(queue_id, self.envelope.reverse_path, facts.size, len(self.envelope.recipients))
        shared.metrics.received(client.listener)
        return f"250 2.0.0 Ok: queued as {queue_id}"

    async def abort(self) -> None:
        """Forget it. Never raises."""
        self._uncount()
        if self._drainer:
            await asyncio.wait([self._drainer])
        try:
            await self._incoming.abort()
        except SpoolError as error:
            self._shared.events.warning(f"{self.queue_id}: a refused message could not be cleared away: {error}", "smtpd")

    def _keep_head(self, data: bytes) -> None:
        """Keep the start of the message until it surely holds the header block: to the first empty line, or one whole line
        beyond the longest block allowed."""
        limits = self._shared.limits
        looked_at = max(0, len(self._head) - 3)
        self._head = self._head + data if self._head else data
        enough = limits.max_header + limits.max_line + 4
        self._head_whole = self._head.find(b"\r\n\r\n", looked_at) >= 0 or len(self._head) > enough

    async def _drain(self, drained: Callable[[], None]) -> None:
        try:
            await self._incoming.drain()
        except SpoolError:
            pass  # `commit` will say so
        finally:
            self._drainer = None
            drained()

    async def _commit(self, client: Client, facts: Facts) -> str:
        shared, queue_id, arrived = self._shared, self.queue_id, self._shared.clock()
        block, body = header.cut(self._head)
        message_id = header.text(header.first(block, "message-id")) or f"<{queue_id}@{shared.hostname}>"
        changes = edits.decide(
            block,
            queue_id=queue_id,
            hostname=shared.hostname,
            client=client,
            envelope=self.envelope,
            arrived=arrived,
            ended=body > len(block),
        )
        if self._drainer:
            await asyncio.wait([self._drainer])
        await self._incoming.commit(
            arrived=arrived,
            client=client,
            envelope=self.envelope,
            facts=facts,
            header=block,
            message_id=message_id,
            edits=changes,
        )
        return message_id

    def _uncount(self) -> None:
        self._shared.in_flight -= self._counted
        self._counted = 0
