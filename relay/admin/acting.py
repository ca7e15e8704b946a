"""The calls that act: on what waits, on providers, a test message, reload. Without the daemon none of them works.

What touches many recipients goes chunk by chunk (relay/admin/bulk.py) and its answer may take long. Who accepts
application/x-ndjson gets a line after each chunk; either way it stops between two chunks when who asked has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from relay import address, edits, header
from relay.admin import shown
from relay.admin.bulk import Bulk
from relay.admin.requests import did_you_mean, filter_of, flag, json_object, of_daemon, sentence
from relay.admin.words import Context, Problem, ProviderView, Reader
from relay.errors import SpoolError
from relay.log import Events
from relay.model import Client, Entry, Envelope, Facts, Recipient
from relay.spool.base import Changed, Filter, Spool
from relay.views import Json

NDJSON = "application/x-ndjson"
PATIENCE = 5.0  # seconds that a change may take to come to the end of its chunk when the daemon stops


@dataclass(frozen=True)
class _Plan:
    """How a verb is done to what a filter means, how the log is told of an entry, what follows in the end, and what to know before."""

    chunks: Callable[[Filter], AsyncIterator[Sequence[Changed]]]
    log: Callable[[Changed], None]
    after: Callable[[], None] = lambda: None
    warns: Mapping[str, object] = field(default_factory=dict)


class Acting:
    """POST."""

    def __init__(self, context: Context, reader: Reader, spool: Spool | None, events: Events) -> None:
        """`spool` is None while the daemon is down."""
        self._context = context
        self._reader = reader
        self._spool = spool
        self._events = events
        self._under_way: dict[asyncio.Task[None], Bulk] = {}

    async def retry(self, request: Request) -> Response:
        """Make recipients due now."""
        return await self._act(request, "retry")

    async def hold(self, request: Request) -> Response:
        """Leave recipients alone until they are released."""
        return await self._act(request, "hold")

    async def release(self, request: Request) -> Response:
        """Send held recipients on their way again."""
        return await self._act(request, "release")

    async def reroute(self, request: Request) -> Response:
        """Fix the providers of recipients, whatever their routes say."""
        return await self._act(request, "reroute")

    async def bounce(self, request: Request) -> Response:
        """Give recipients up; their senders are told."""
        return await self._act(request, "bounce")

    async def delete(self, request: Request) -> Response:
        """Take recipients out of the queue; nobody is told."""
        return await self._act(request, "delete")

    async def pause(self, request: Request) -> Response:
        """Leave a provider alone until it is resumed."""
        pause, name = of_daemon(self._context.pause), request.path_params["name"]
        body = await json_object(request)
        why = sentence(body, "why")
        _nothing_else(body, "why")
        before = await self._known(name, 404)
        await pause(name, why)
        return JSONResponse({"changed": not before.by_admin, "provider": shown.provider(await self._known(name, 404))})

    async def resume(self, request: Request) -> Response:
        """Use a provider again, whoever paused it and why: nothing is held against it any more."""
        resume, name = of_daemon(self._context.resume), request.path_params["name"]
        _nothing_else(await json_object(request))
        before = await self._known(name, 404)
        if before.state != "up":
            await resume(name)
        return JSONResponse({"changed": before.state != "up", "provider": shown.provider(await self._known(name, 404))})

    def end(self) -> None:
        """Stop what is under way after its next chunk."""
        for bulk in self._under_way.values():
            bulk.stop()

    async def ended(self) -> None:
        """Until nothing is under way any more. What waits for a spool that cannot write is cut off, as a crash would do it."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=PATIENCE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def reload(self, request: Request) -> Response:
        """Read the configuration again; where it has mistakes the old one stays in force."""
        reload = of_daemon(self._context.reload)
        _nothing_else(await json_object(request))
        if problems := await reload():
            count = f"{len(problems)} mistake{'' if len(problems) == 1 else 's'}"
            raise Problem(422, f"reload refused, the old configuration stays: {count}", problems)
        return JSONResponse({"reloaded": self._context.reloaded()})

    async def test(self, request: Request) -> Response:
        """Store a test message."""
        spool, body = of_daemon(self._spool), await json_object(request)
        to, sender, via = (str(body.pop(key, default)) for key, default in (("to", ""), ("from", self._context.test_sender()), ("via", "")))
        _nothing_else(body, "to", "from", "via")
        for what, given in (("to", to), ("from", sender)):
            if not address.valid(given) or not address.split(given)[0].isascii():
                raise Problem(400, f"{what}: {given!r} is not an address mail can be sent {what}")
        if via:
            await self._known(via, 400)
        if why := self._context.refusing():
            raise Problem(503, f"relay accepts no mail now: {why}")
        entry = await self._send_test(spool, to, sender, via)
        return JSONResponse({"queue_id": entry.queue_id})

    async def _act(self, request: Request, verb: str) -> Response:
        """Do `verb` to the recipients a filter means, or with `dry_run` only count them."""
        spool, body = of_daemon(self._spool), await json_object(request)
        dry_run = flag(body, "dry_run")
        plan = await self._planned(spool, verb, body)
        what = await filter_of(self._reader, body, self._context.clock())
        if what.state == "finished":
            raise Problem(400, "finished entries cannot be changed")
        if what.state == "corrupt" and verb not in ("retry", "delete"):
            raise Problem(400, "what was set aside as corrupt can only be retried, after a repair, or deleted")
        if verb in ("reroute", "bounce", "delete") and what.older is None and what.state != "corrupt":
            what = replace(what, older=0.0)  # nothing that comes meanwhile: nobody agreed to it
        if verb == "bounce" and not (what.queue_id or what.sender):
            what = replace(what, notices=False)  # said again, it would give up the bounces that it made
        of = await _eligible(spool, verb, what)
        if dry_run:
            return JSONResponse({"recipients": of, **plan.warns})
        return await self._carried_out(request, Bulk(plan.chunks(what), of, plan.log), plan.after)

    async def _planned(self, spool: Spool, verb: str, body: Json) -> _Plan:
        """How `verb` is done and logged; what it alone takes along is taken out of `body`."""
        events = self._events
        if verb == "bounce":
            why, bounce = sentence(body, "why"), of_daemon(self._context.bounce)
            return _Plan(lambda what: bounce(what, why), lambda one: None)  # it writes its own lines
        if verb == "reroute":
            sure, via = flag(body, "even_if_maybe_sent"), await self._via(body)
            return _Plan(
                lambda what: spool.each("reroute", what, what.now, via, sure),
                lambda one: events.rerouted(one.queue_id, one.recipients, via),
                warns={"sandboxes": [name for name in via if name in self._context.sandboxes()]},
            )
        if verb == "hold":
            return _Plan(lambda what: spool.each("hold", what, what.now), lambda one: events.put_on_hold(one.queue_id, one.recipients))
        if verb == "release":
            return _Plan(lambda what: spool.each("release", what, what.now), lambda one: events.released(one.queue_id, one.recipients))
        if verb == "retry":  # in the end a paused provider is probed, or these recipients would only wait again
            return _Plan(lambda what: spool.each("retry", what, what.now), lambda one: None, self._context.hurry)
        return _Plan(lambda what: spool.each("delete", what, what.now), self._log_deleted)

    def _log_deleted(self, changed: Changed) -> None:
        """No accepted message goes without a line that names it; one that waits for its bounce is not removed yet."""
        self._events.deleted(changed.queue_id, changed.recipients)
        if changed.ended:
            self._events.removed(changed.queue_id)

    async def _via(self, body: Json) -> tuple[str, ...]:
        """The providers to fix, each configured; nothing to give back what was fixed."""
        via = body.pop("via", None)
        if not isinstance(via, list) or not all(isinstance(name, str) for name in via):
            raise Problem(400, "via wants a list of names of providers, the first to be tried first; [] lets the routes choose again")
        for name in via:
            await self._known(name, 400)
        if len(set(via)) < len(via):
            raise Problem(400, f"via names a provider twice: {', '.join(via)}")
        return tuple(via)

    async def _known(self, name: str, status: int) -> ProviderView:
        """The provider of this name."""
        found = {provider.name: provider for provider in await self._context.providers()}
        if name not in found:
            raise Problem(status, f'no provider is named "{name}"{did_you_mean(name, [*found])}; configured: {", ".join(found)}')
        return found[name]

    async def _carried_out(self, request: Request, bulk: Bulk, after: Callable[[], None]) -> Response:
        """The answer to a bulk call: how far it is, line by line, where the request accepts that; else how it ended."""
        task = asyncio.create_task(self._run(bulk, after))
        self._under_way[task] = bulk
        task.add_done_callback(self._under_way.pop)
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(bulk.lines(), media_type=NDJSON)
        while not bulk.over:
            await bulk.news()
            if await request.is_disconnected():
                bulk.stop()
        if bulk.error is not None:
            raise Problem(503 if isinstance(bulk.error, SpoolError) else 500, f"{bulk.last()['error']}; {_so_far(bulk)}")
        return JSONResponse(bulk.last())

    async def _run(self, bulk: Bulk, after: Callable[[], None]) -> None:
        await bulk.run()
        after()
        if bulk.error is not None and not isinstance(bulk.error, SpoolError):
            self._events.bug("admin: a change to the queue", bulk.error)

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


async def _eligible(spool: Spool, verb: str, what: Filter) -> int:
    """How many recipients `verb` would change, those under way among them."""
    if verb in ("hold", "retry") and what.state in ("", "hold"):
        held = await spool.count(replace(what, state="hold"))
        return 0 if what.state else await spool.count(what) - held
    if verb == "release":
        return await spool.count(replace(what, state="hold")) if what.state in ("", "hold") else 0
    return await spool.count(what)


def _so_far(bulk: Bulk) -> str:
    count = bulk.recipients
    return f"{count} recipient{' was' if count == 1 else 's were'} changed before"


def _nothing_else(body: Json, *known: str) -> None:
    if body:
        raise Problem(400, f"unknown key {min(body)}; {'known: ' + ', '.join(known) if known else 'this call takes none'}")
