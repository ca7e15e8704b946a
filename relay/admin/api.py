"""The admin calls: JSON under /api/v1, health and metrics, over a spool.

Everything an admin may see or do goes through here. The daemon serves these calls (relay/admin/server.py), and the
command line runs them in its own process over a stopped daemon's spool, so that both answer alike.
A GET changes nothing. Stored mail leaves as an attachment that no browser renders.

An answer that is not 2xx is `{"error": "one sentence"}`: 400 bad request, 404 no such entry, 409 ambiguous id, 410 body
gone, 422 corrupt entry, 503 the spool or the daemon cannot do it now.
"""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from relay import address, edits, header, views
from relay.errors import CorruptEntry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.model import Client, Entry, Envelope, Facts, Recipient
from relay.model import Message as StoredMessage
from relay.spool.base import Counts, Filter, Spool, Step
from relay.views import Json

MAX_BODY = 64 * 1024  # octets of a request
MAX_PAGE = 1000  # entries in one answer
PAGE = 500  # entries deleted at once
MAX_STORIES = 20  # entries that one search tells about

FILTERS = ("id", "provider", "route", "from", "to", "state", "older")
STATES = ("active", "deferred", "hold", "corrupt", "finished")


class ProviderView(Protocol):
    """What is shown of a configured provider. Times are Unix seconds, 0 for none."""

    @property
    def name(self) -> str:
        """The configured name."""

    @property
    def state(self) -> str:
        """up, paused or throttled."""

    @property
    def reason(self) -> str:
        """Why it is not up."""

    @property
    def since(self) -> float:
        """When that began."""

    @property
    def until(self) -> float:
        """When it is tried again."""

    @property
    def waiting(self) -> int:
        """Recipients that wait for it."""

    @property
    def active(self) -> int:
        """Attempts under way."""


class Reader(Protocol):
    """The part of a spool that only looks: enough to answer every GET."""

    async def entry(self, queue_id: str) -> Entry | None:
        """See relay.spool.base.Spool; so for all of these."""

    async def message(self, queue_id: str) -> StoredMessage: ...

    async def find(self, what: Filter, limit: int, after: str = "") -> Sequence[Entry]: ...

    async def resolve(self, prefix: str) -> Sequence[str]: ...

    async def search(self, term: str, limit: int) -> Sequence[str]: ...

    async def history(self, queue_id: str) -> Sequence[Step]: ...

    async def counts(self) -> Counts: ...

    async def corrupt(self) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True)
class Context:
    """What the API tells beside the spool's contents. The callables are asked at each request.

    `refusing` says why no mail is accepted, "" while it is. `test_sender` is the reverse-path of test messages.
    """

    version: str
    hostname: str
    spool_path: str
    clock: Callable[[], float]
    refusing: Callable[[], str]
    providers: Callable[[], Awaitable[Sequence[ProviderView]]]
    listeners: Callable[[], Sequence[tuple[str, str]]] = tuple
    hurry: Callable[[], None] = lambda: None  # probe paused providers at once
    test_sender: str = ""
    pid: int = 0
    started: float = 0.0


class Problem(Exception):
    """A request that cannot be answered as wished: the HTTP status and one sentence for the admin."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The calls, over a spool. Without `spool` (the daemon is down) only those that look work."""

    def __init__(self, context: Context, reader: Reader, *, spool: Spool | None, events: Events, metrics: Metrics | None = None) -> None:
        self._context = context
        self._reader = reader
        self._spool = spool
        self._events = events
        self._metrics = metrics
        self.app = Starlette(
            routes=[
                self._route("GET", "/", self._calls),
                self._route("GET", "/healthz", self._healthz),
                self._route("GET", "/metrics", self._render_metrics),
                self._route("GET", "/api/v1/status", self._status),
                self._route("GET", "/api/v1/queue", self._queue),
                self._route("POST", "/api/v1/queue/retry", self._retry),
                self._route("POST", "/api/v1/queue/delete", self._delete),
                self._route("GET", "/api/v1/queue/{id}", self._entry),
                self._route("GET", "/api/v1/queue/{id}/raw", self._raw),
                self._route("GET", "/api/v1/queue/{id}/headers", self._headers),
                self._route("GET", "/api/v1/queue/{id}/timeline", self._timeline),
                self._route("GET", "/api/v1/log", self._log),
                self._route("POST", "/api/v1/test", self._test),
            ],
            exception_handlers={HTTPException: _http_exception},
        )

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as problem:
                return error_response(problem.status, str(problem))
            except CorruptEntry as error:
                return error_response(422, f"{error.queue_id} is set aside as corrupt: {error.why}")
            except SpoolError as error:
                return error_response(503, str(error))
            except Exception as error:
                self._events.bug(f"admin: {method} {path}", error)
                return error_response(500, "internal error; the log has it")

        return Route(path, answer, methods=[method])

    # Looking.

    async def _calls(self, request: Request) -> Response:
        routes = [route for route in self.app.routes if isinstance(route, Route) and route.path != "/"]
        calls = [f"{'POST' if 'POST' in (route.methods or ()) else 'GET'} {route.path}" for route in routes]
        return JSONResponse({"relay": self._context.version, "calls": calls})

    async def _healthz(self, request: Request) -> Response:
        why = self._context.refusing()
        return PlainTextResponse(f"not accepting mail: {why}\n" if why else "ok\n", 503 if why else 200)

    async def _render_metrics(self, request: Request) -> Response:
        if self._metrics is None:
            raise Problem(404, "metrics are off: set admin.metrics to true")
        self._metrics.set_queue(await self._reader.counts(), self._context.clock())
        page, content_type = self._metrics.render()
        return Response(page, headers={"content-type": content_type})

    async def _status(self, request: Request) -> Response:
        context, counts, why = self._context, await self._reader.counts(), self._context.refusing()
        shown: Json = {
            "version": context.version,
            "running": self._spool is not None,
            "pid": context.pid,
            "started_time": views.when(context.started),
            "hostname": context.hostname,
            "accepting": not why,
            "reason": why,
            "listeners": [{"name": name, "address": where} for name, where in context.listeners()],
            "providers": [_provider(provider) for provider in await context.providers()],
            "queue": {
                "entries": counts.entries,
                "corrupt": counts.corrupt,
                "recipients": [{"state": s, "provider": p, "count": n} for (s, p), n in sorted(counts.recipients.items())],
                "oldest": {state: views.when(time) for state, time in sorted(counts.oldest.items())},
            },
            "spool": {"path": context.spool_path, "free": self._spool.health().free if self._spool else None},
        }
        return JSONResponse(shown)

    async def _queue(self, request: Request) -> Response:
        query = dict(request.query_params)
        limit = _number(query.pop("limit", "100"), "limit", least=1, most=MAX_PAGE)
        after = query.pop("after", "")
        if query.get("state") == "corrupt":
            listed = [_corrupt(queue_id, why) for queue_id, why in await self._reader.corrupt()]
            return JSONResponse({"entries": listed, "next": ""})
        what = await self._filter(query)
        found = await self._reader.find(what, limit, after)
        # A page may be short without being the last: entries that cannot be read are left out of it.
        more = found[-1].queue_id if found else ""
        pauses = await self._pauses()
        entries = [views.entry(entry, what.now, pauses) for entry in found]
        return JSONResponse({"entries": entries, "next": more})

    async def _entry(self, request: Request) -> Response:
        return JSONResponse(views.details(await self._look_up(request), self._context.clock(), await self._pauses()))

    async def _raw(self, request: Request) -> Response:
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

    async def _headers(self, request: Request) -> Response:
        entry = await self._look_up(request)
        return Response(entry.header, headers={"content-type": "text/plain; charset=utf-8"})

    async def _timeline(self, request: Request) -> Response:
        entry = await self._look_up(request)
        return JSONResponse({"queue_id": entry.queue_id, "steps": await self._steps(entry.queue_id)})

    async def _log(self, request: Request) -> Response:
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

    async def _pauses(self) -> dict[str, str]:
        """Why each provider that is not up is not."""
        return {provider.name: provider.reason for provider in await self._context.providers() if provider.reason}

    async def _steps(self, queue_id: str) -> list[Json]:
        return [{**asdict(step), "time": views.when(step.time), "state": step.state.value} for step in await self._reader.history(queue_id)]

    async def _look_up(self, request: Request) -> Entry:
        queue_id = await self._resolve(request.path_params["id"])
        entry = await self._reader.entry(queue_id)
        if entry is None:
            raise Problem(404, f"no entry has the id {queue_id}")
        return entry

    async def _resolve(self, prefix: str) -> str:
        """The one queue id that begins with `prefix`."""
        found = await self._reader.resolve(prefix.upper())
        if not found:
            raise Problem(404, f"no entry has an id that begins with {prefix}")
        if len(found) > 1 and prefix.upper() not in found:
            raise Problem(409, f"{prefix} is not unique: {', '.join(found)}")
        return found[0] if len(found) == 1 else prefix.upper()

    async def _filter(self, given: Mapping[str, object]) -> Filter:
        """The filter in a query or a JSON object; an id must be unique."""
        for key, value in given.items():
            if key not in FILTERS:
                raise Problem(400, f'unknown filter "{key}"{did_you_mean(key, FILTERS)}; known: {", ".join(FILTERS)}')
            if not isinstance(value, str) or not value:
                raise Problem(400, f"filter {key} wants a text that is not empty")
        texts = {key: str(value) for key, value in given.items()}
        if "state" in texts and texts["state"] not in STATES:
            raise Problem(400, f'unknown state "{texts["state"]}"{did_you_mean(texts["state"], STATES)}; known: {", ".join(STATES)}')
        return Filter(
            queue_id=await self._resolve(texts["id"]) if "id" in texts else "",
            provider=texts.get("provider", ""),
            route=texts.get("route", ""),
            sender=texts.get("from", ""),
            recipient=texts.get("to", ""),
            state=texts.get("state", ""),
            older=float(_number(texts["older"], "older (seconds)", least=0)) if "older" in texts else None,
            now=self._context.clock(),
        )

    # Acting.

    def _writable(self) -> Spool:
        if self._spool is None:
            raise Problem(503, "the daemon is not running")
        return self._spool

    async def _retry(self, request: Request) -> Response:
        return await self._act(request, self._retry_now)

    async def _retry_now(self, spool: Spool, what: Filter) -> int:
        """Due now; and a paused provider is probed now, or these recipients would only wait again."""
        count = await spool.retry(what, what.now)
        self._context.hurry()
        return count

    async def _delete(self, request: Request) -> Response:
        return await self._act(request, self._delete_and_log)

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

    async def _act(self, request: Request, verb: Callable[[Spool, Filter], Awaitable[int]]) -> Response:
        """Do `verb` to the recipients a filter means, or with `dry_run` only count them."""
        spool, body = self._writable(), await _json(request)
        dry_run = body.pop("dry_run", False)
        what = await self._filter(body)
        if what.state == "finished":
            raise Problem(400, "finished entries cannot be changed")
        return JSONResponse({"recipients": await (spool.count(what) if dry_run else verb(spool, what))})

    async def _test(self, request: Request) -> Response:
        spool, body = self._writable(), await _json(request)
        to, sender, via = (str(body.pop(key, default)) for key, default in (("to", ""), ("from", self._context.test_sender), ("via", "")))
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


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """` (did you mean "x"?)` for a near miss, else ""."""
    near = difflib.get_close_matches(word, known, 1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def error_response(status: int, text: str) -> Response:
    """The answer to a call that could not be done."""
    return JSONResponse({"error": text}, status)


async def _http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(status, f"{request.method} {request.url.path}: {'no such call' if status == 404 else 'not this way'}")


async def _json(request: Request) -> Json:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Problem(413, f"a request has at most {MAX_BODY} octets")
    except ClientDisconnect as error:
        raise Problem(400, "the request broke off") from error
    try:
        found = json.loads(body)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # JSON can write halves of characters: "\ud800"
        raise Problem(400, "the request is not Unicode text: it holds half of a surrogate pair") from error
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the request is not JSON") from error
    if not isinstance(found, dict):
        raise Problem(400, "the request is not a JSON object")
    return found


def _number(text: str, name: str, *, least: int, most: int | None = None) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 12 or int(text) < least or (most is not None and int(text) > most):
        raise Problem(400, f"{name} wants a whole number from {least}" + (f" to {most}" if most is not None else ""))
    return int(text)


def _provider(provider: ProviderView) -> Json:
    return {
        "name": provider.name,
        "state": provider.state,
        "reason": provider.reason,
        "since": views.when(provider.since),
        "until": views.when(provider.until),
        "waiting": provider.waiting,
        "active": provider.active,
    }


def _corrupt(queue_id: str, why: str) -> Json:
    shown: Json = {"queue_id": queue_id, "queue_name": "corrupt", "arrival_time": None, "message_size": None, "sender": None}
    return {**shown, "recipients": [], "reason": why}
