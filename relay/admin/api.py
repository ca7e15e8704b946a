"""The admin calls: JSON under /api/v1, health and metrics, over a spool.

Everything an admin may see or do goes through here. The daemon serves these calls (relay/admin/server.py), and the
command line runs them in its own process over a stopped daemon's spool, so that both answer alike.
A GET changes nothing (looking.py), a POST does (acting.py). Stored mail leaves as an attachment that no browser renders.

An answer that is not 2xx is `{"error": "one sentence"}`: 400 bad request, 403 another site's page, 404 no such entry, provider or call,
405 not this way, 409 ambiguous id, 410 body gone, 413 too large, 415 no JSON, 422 corrupt entry or a configuration with
mistakes (then with `problems`), 500 a bug that the log has, 503 the spool or the daemon cannot do it now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relay.admin.acting import Acting
from relay.admin.looking import Looking
from relay.admin.requests import error_response
from relay.admin.words import Context, Problem, Reader
from relay.errors import CorruptEntry, SpoolError
from relay.log import Events
from relay.metrics import Metrics
from relay.spool.base import Spool

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The calls, over a spool. Without `spool` (the daemon is down) only those that look work."""

    def __init__(self, context: Context, reader: Reader, *, spool: Spool | None, events: Events, metrics: Metrics | None = None) -> None:
        self._version = context.version
        self._events = events
        self._looking = looking = Looking(context, reader, spool, metrics)
        self._acting = acting = Acting(context, reader, spool, events)
        self.app = Starlette(
            routes=[
                self._route("GET", "/", self._calls),
                self._route("GET", "/healthz", looking.healthz),
                self._route("GET", "/metrics", looking.render_metrics),
                self._route("GET", "/api/v1/status", looking.status),
                self._route("GET", "/api/v1/queue", looking.queue),
                self._route("POST", "/api/v1/queue/retry", acting.retry),
                self._route("POST", "/api/v1/queue/hold", acting.hold),
                self._route("POST", "/api/v1/queue/release", acting.release),
                self._route("POST", "/api/v1/queue/reroute", acting.reroute),
                self._route("POST", "/api/v1/queue/bounce", acting.bounce),
                self._route("POST", "/api/v1/queue/delete", acting.delete),
                self._route("GET", "/api/v1/queue/{id}", looking.entry),
                self._route("GET", "/api/v1/queue/{id}/raw", looking.raw),
                self._route("GET", "/api/v1/queue/{id}/headers", looking.headers),
                self._route("GET", "/api/v1/queue/{id}/timeline", looking.timeline),
                self._route("GET", "/api/v1/log", looking.log),
                self._route("GET", "/api/v1/log/tail", looking.tail),
                self._route("POST", "/api/v1/providers/{name}/pause", acting.pause),
                self._route("POST", "/api/v1/providers/{name}/resume", acting.resume),
                self._route("POST", "/api/v1/test", acting.test),
                self._route("POST", "/api/v1/reload", acting.reload),
            ],
            exception_handlers={HTTPException: _http_exception},
        )

    def end(self) -> None:
        """End the answers that would go on for ever or for long: the daemon stops."""
        self._looking.end()
        self._acting.end()

    async def ended(self) -> None:
        """Until no change is under way any more: the spool may close then."""
        await self._acting.ended()

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as problem:
                return error_response(problem.status, str(problem), problem.problems)
            except CorruptEntry as error:
                return error_response(422, f"{error.queue_id} is set aside as corrupt: {error.why}")
            except SpoolError as error:
                return error_response(503, str(error))
            except Exception as error:
                self._events.bug(f"admin: {method} {path}", error)
                return error_response(500, "internal error; the log has it")

        return Route(path, answer, methods=[method])

    async def _calls(self, request: Request) -> Response:
        routes = [route for route in self.app.routes if isinstance(route, Route) and route.path != "/"]
        calls = [f"{'POST' if 'POST' in (route.methods or ()) else 'GET'} {route.path}" for route in routes]
        return JSONResponse({"relay": self._version, "calls": calls})


async def _http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(status, f"{request.method} {request.url.path}: {'no such call' if status == 404 else 'not this way'}")
