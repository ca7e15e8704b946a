"""The calls that look: status, queue, stories, metrics, and the log as it is written. They change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from relay import views
from relay.admin import shown
from relay.admin.requests import filter_of, number, of_daemon, resolved
from relay.admin.words import Context, Problem, Reader
from relay.errors import CorruptEntry, SpoolError
from relay.log import Subscription
from relay.metrics import Metrics
from relay.model import Entry
from relay.spool.base import Spool
from relay.views import Json

MAX_PAGE = 1000  # entries in one answer
MAX_STORIES = 20  # entries that one search tells about
MOST_FOLLOWING = 20  # at a time; each is a connection that stays, and the admin wants some too
HEARTBEAT = 15.0  # seconds of a quiet log after which an empty line shows that the connection lives


class Looking:
    """GET."""

    def __init__(self, context: Context, reader: Reader, spool: Spool | None, metrics: Metrics | None) -> None:
        """`spool` is None while the daemon is down, `metrics` where they are off."""
        self._context = context
        self._reader = reader
        self._spool = spool
        self._metrics = metrics
        self._ending = asyncio.Event()
        self._following = 0

    def end(self) -> None:
        """End the answers that would go on for ever."""
        self._ending.set()

    async def healthz(self, request: Request) -> Response:
        """For monitors: 200, or 503 with the reason."""
        why = self._context.refusing()
        return PlainTextResponse(f"not accepting mail: {why}\n" if why else "ok\n", 503 if why else 200)

    async def render_metrics(self, request: Request) -> Response:
        """For Prometheus."""
        if self._metrics is None:
            raise Problem(404, "metrics are off: set admin.metrics to true")
        self._metrics.set_queue(await self._reader.counts(), self._context.clock())
        page, content_type = self._metrics.render()
        return Response(page, headers={"content-type": content_type})

    async def status(self, request: Request) -> Response:
        """What `relay status` shows."""
        context, counts, why = self._context, await self._reader.counts(), self._context.refusing()
        told: Json = {
            "version": context.version,
            "running": self._spool is not None,
            "pid": context.pid,
            "started_time": views.when(context.started),
            "hostname": context.hostname,
            "accepting": not why,
            "reason": why,
            "listeners": [{"name": name, "address": where} for name, where in context.listeners()],
            "providers": [shown.provider(provider) for provider in await context.providers()],
            "ramps": [shown.ramp(ramp) for ramp in context.ramps()],
            "shadows": [shown.shadow(shadow) for shadow in context.shadows()],
            "queue": {
                "entries": counts.entries,
                "corrupt": counts.corrupt,
                "recipients": [{"state": s, "provider": p, "count": n} for (s, p), n in sorted(counts.recipients.items())],
                "oldest": {state: views.when(time) for state, time in sorted(counts.oldest.items())},
            },
            "spool": {"path": context.spool_path, "free": self._spool.health().free if self._spool else None},
        }
        return JSONResponse(told)

    async def queue(self, request: Request) -> Response:
        """A page of entries."""
        query = dict(request.query_params)
        limit = number(query.pop("limit", "100"), "limit", least=1, most=MAX_PAGE)
        after = query.pop("after", "")
        if query.get("state") == "corrupt":
            listed = [shown.corrupt(queue_id, why) for queue_id, why in await self._reader.corrupt()]
            return JSONResponse({"entries": listed, "next": ""})
        what = await filter_of(self._reader, query, self._context.clock())
        found = await self._reader.find(what, limit, after)
        # A page may be short without being the last: entries that cannot be read are left out of it.
        more = found[-1].queue_id if found else ""
        pauses = await self._pauses()
        entries = [views.entry(entry, what.now, pauses) for entry in found]
        return JSONResponse({"entries": entries, "next": more})

    async def entry(self, request: Request) -> Response:
        """One entry."""
        return JSONResponse(views.details(await self._look_up(request), self._context.clock(), await self._pauses()))

    async def raw(self, request: Request) -> Response:
        """A message as it is stored."""
        entry = await self._look_up(request)
        try:
            message = await self._reader.message(entry.queue_id)
        except CorruptEntry:
            raise
        except SpoolError as error:
            if entry.finished is None:
                raise
            raise Problem(
                410, f"the body of {entry.queue_id} is gone: it went when the entry was finished; see queue.keep_bodies"
            ) from error
        headers = {"content-disposition": f'attachment; filename="{entry.queue_id}.eml"', "content-length": str(message.facts.size)}
        return StreamingResponse(message.chunks(), media_type="message/rfc822", headers=headers)

    async def headers(self, request: Request) -> Response:
        """Its header block."""
        entry = await self._look_up(request)
        return Response(entry.header, headers={"content-type": "text/plain; charset=utf-8"})

    async def timeline(self, request: Request) -> Response:
        """Every attempt."""
        entry = await self._look_up(request)
        return JSONResponse({"queue_id": entry.queue_id, "steps": await self._steps(entry.queue_id)})

    async def log(self, request: Request) -> Response:
        """The stories of what a term finds."""
        term = request.query_params.get("term", "").strip()
        if not term:
            raise Problem(400, "say what to look for: log?term=a queue id, Message-ID, address or remote id")
        found = await self._reader.search(term, MAX_STORIES + 1)
        stories, pauses = [], await self._pauses()
        for queue_id in found[:MAX_STORIES]:
            try:
                entry = await self._reader.entry(queue_id)
            except CorruptEntry:
                if len(found) == 1:
                    raise
                continue  # one that cannot be read must not hide the others
            if entry is not None:
                stories.append({**views.details(entry, self._context.clock(), pauses), "steps": await self._steps(queue_id)})
        return JSONResponse({"stories": stories, "more": len(found) > MAX_STORIES})

    async def tail(self, request: Request) -> Response:
        """The log from now on: one JSON object for each line, and an empty line now and then while nothing happens."""
        tail = of_daemon(self._context.tail)
        if self._following >= MOST_FOLLOWING:
            raise Problem(503, f"the log is followed by {self._following} already, which is the most; end one of them")
        return StreamingResponse(self._lines(tail), media_type="application/x-ndjson")

    async def _lines(self, subscribe: Callable[[], Subscription]) -> AsyncIterator[bytes]:
        """The log as octets until the daemon stops; an empty line at once, so that who follows knows that it does."""
        lines = subscribe()
        self._following += 1
        ending = asyncio.create_task(self._ending.wait())
        ending.add_done_callback(lambda _: lines.close())
        following = asyncio.create_task(_next(lines))
        try:
            yield b"\n"
            while True:
                if not (await asyncio.wait({following}, timeout=HEARTBEAT))[0]:
                    yield b"\n"
                elif (line := following.result()) is not None:
                    yield line.encode("utf-8", "replace") + b"\n"
                    following = asyncio.create_task(_next(lines))
                else:
                    return
        finally:
            self._following -= 1
            lines.close()
            ending.cancel()
            following.cancel()
            await asyncio.wait({ending, following})

    async def _pauses(self) -> dict[str, str]:
        """Why each provider that is not up is not."""
        found = {provider.name: shown.why_not(provider) for provider in await self._context.providers()}
        return {name: why for name, why in found.items() if why}

    async def _steps(self, queue_id: str) -> list[Json]:
        return [{**asdict(step), "time": views.when(step.time), "state": step.state.value} for step in await self._reader.history(queue_id)]

    async def _look_up(self, request: Request) -> Entry:
        queue_id = await resolved(self._reader, request.path_params["id"])
        entry = await self._reader.entry(queue_id)
        if entry is None:
            raise Problem(404, f"no entry has the id {queue_id}")
        return entry


async def _next(lines: Subscription) -> str | None:
    """The next line; None after the last."""
    return await anext(lines, None)
