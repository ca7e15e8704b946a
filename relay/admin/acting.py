"""The calls that act: retry, hold, release, delete, a test message, reload. Without the daemon none of them works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from relay import address, edits, header
from relay.admin.requests import did_you_mean, filter_of, json_object
from relay.admin.words import Context, Problem, Reader
from relay.log import Events
from relay.model import Client, Entry, Envelope, Facts, Recipient
from relay.spool.base import Filter, Spool

PAGE = 500  # entries deleted at once


class Acting:
    """POST."""

    def __init__(self, context: Context, reader: Reader, spool: Spool | None, events: Events) -> None:
        """`spool` is None while the daemon is down."""
        self._context = context
        self._reader = reader
        self._spool = spool
        self._events = events

    async def retry(self, request: Request) -> Response:
        """Make recipients due now."""
        return await self._act(request, self._retry_now)

    async def hold(self, request: Request) -> Response:
        """Leave recipients alone until they are released."""
        return await self._act(request, self._hold_and_log)

    async def release(self, request: Request) -> Response:
        """Send held recipients on their way again."""
        return await self._act(request, self._release_and_log)

    async def delete(self, request: Request) -> Response:
        """Take recipients out of the queue."""
        return await self._act(request, self._delete_and_log)

    async def reload(self, request: Request) -> Response:
        """Read the configuration again; where it has mistakes the old one stays in force."""
        if self._context.reload is None:
            raise Problem(503, "the daemon is not running")
        if body := await json_object(request):
            raise Problem(400, f"unknown key {min(body)}; a reload takes none")
        if problems := await self._context.reload():
            count = f"{len(problems)} mistake{'' if len(problems) == 1 else 's'}"
            raise Problem(422, f"reload refused, the old configuration stays: {count}", problems)
        return JSONResponse({"reloaded": self._context.reloaded()})

    async def test(self, request: Request) -> Response:
        """Store a test message."""
        spool, body = self._writable(), await json_object(request)
        to, sender, via = (str(body.pop(key, default)) for key, default in (("to", ""), ("from", self._context.test_sender()), ("via", "")))
        if body:
            raise Problem(400, f"unknown key {min(body)}; known: to, from, via")
        for what, given in (("to", to), ("from", sender)):
            if not address.valid(given) or not address.split(given)[0].isascii():
                raise Problem(400, f"{what}: {given!r} is not an address mail can be sent {what}")
        names = [provider.name for provider in await self._context.providers()]
        if via and via not in names:
            raise Problem(400, f'no provider is named "{via}"{did_you_mean(via, names)}; configured: {", ".join(names)}')
        if why := self._context.refusing():
            raise Problem(503, f"relay accepts no mail now: {why}")
        entry = await self._send_test(spool, to, sender, via)
        return JSONResponse({"queue_id": entry.queue_id})

    def _writable(self) -> Spool:
        if self._spool is None:
            raise Problem(503, "the daemon is not running")
        return self._spool

    async def _act(self, request: Request, verb: Callable[[Spool, Filter], Awaitable[int]]) -> Response:
        """Do `verb` to the recipients a filter means, or with `dry_run` only count them."""
        spool, body = self._writable(), await json_object(request)
        dry_run = body.pop("dry_run", False)
        what = await filter_of(self._reader, body, self._context.clock())
        if what.state == "finished":
            raise Problem(400, "finished entries cannot be changed")
        return JSONResponse({"recipients": await (spool.count(what) if dry_run else verb(spool, what))})

    async def _retry_now(self, spool: Spool, what: Filter) -> int:
        """Due now; and a paused provider is probed now, or these recipients would only wait again."""
        count = await spool.retry(what, what.now)
        self._context.hurry()
        return count

    async def _hold_and_log(self, spool: Spool, what: Filter) -> int:
        return await self._each(what, spool.hold, self._events.put_on_hold)

    async def _release_and_log(self, spool: Spool, what: Filter) -> int:
        return await self._each(what, spool.release, self._events.released)

    async def _each(self, what: Filter, act: Callable[[Filter, float], Awaitable[int]], log: Callable[[str, int], None]) -> int:
        """Do it entry by entry, so that each has a line in the log; returns how many recipients."""
        count, after = 0, ""
        while found := await self._reader.find(what, PAGE, after):
            after = found[-1].queue_id
            done = await asyncio.gather(*(act(replace(what, queue_id=entry.queue_id), what.now) for entry in found))
            for entry, number in zip(found, done, strict=True):
                if number:
                    log(entry.queue_id, number)
            count += sum(done)
        return count

    async def _delete_and_log(self, spool: Spool, what: Filter) -> int:
        """Delete entry by entry, so that no accepted message goes without a line that names it. Corrupt ones go unread."""
        count, after = 0, ""
        if what.state == "corrupt":
            return await spool.delete(what, what.now)
        while found := await self._reader.find(what, PAGE, after):
            after = found[-1].queue_id
            gone = await asyncio.gather(*(spool.delete(replace(what, queue_id=entry.queue_id), what.now) for entry in found))
            for entry, number in zip(found, gone, strict=True):
                if number:
                    self._events.deleted(entry.queue_id, number)
                if number == len(entry.open) and await self._ended(entry.queue_id):
                    self._events.removed(entry.queue_id)
            count += sum(gone)
        return count

    async def _ended(self, queue_id: str) -> bool:
        """Whether an entry is finished; one that waits for its bounce is not."""
        entry = await self._reader.entry(queue_id)
        return entry is not None and entry.finished is not None

    async def _send_test(self, spool: Spool, to: str, sender: str, via: str) -> Entry:
        context, now = self._context, self._context.clock()
        client = Client(listener="admin", address="unix", name="localhost", helo=context.hostname, protocol="LOCAL")
        envelope = Envelope(sender, (Recipient(to),), smtputf8=not (to + sender).isascii())
        incoming = spool.incoming(now)
        message_id = f"<{incoming.queue_id}@{context.hostname}>"
        text = (
            f"From: {sender}\r\nTo: {to}\r\nSubject: Test from relay on {context.hostname}\r\nMessage-ID: {message_id}\r\n"
            "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
            f"This is a test message. It was made by `relay test` on {context.hostname}; its queue id is {incoming.queue_id}.\r\n"
        )
        data = text.encode()
        block = header.split(data)[0]
        incoming.write(data)
        entry = await incoming.commit(
            arrived=now,
            client=client,
            envelope=envelope,
            facts=Facts(len(data), not data.isascii(), max(map(len, data.split(b"\r\n")))),
            header=block,
            message_id=message_id,
            edits=edits.decide(block, queue_id=incoming.queue_id, hostname=context.hostname, client=client, envelope=envelope, arrived=now),
            via=(via,) if via else (),
        )
        self._events.accepted(entry.queue_id, client)
        self._events.message_id(entry.queue_id, message_id)
        self._events.queued(entry.queue_id, sender, len(data), 1)
        return entry
