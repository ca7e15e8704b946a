"""Requests of the admin API as values, and refusals as answers: bodies, numbers, ids and filters, each with its mistake named."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from relay.admin.words import Problem, Reader
from relay.spool.base import Filter
from relay.views import Json

MAX_BODY = 64 * 1024  # octets of a request
MAX_SENTENCE = 300  # characters that an admin may give as a reason

T = TypeVar("T")

FILTERS = ("id", "provider", "route", "from", "to", "state", "older")
STATES = ("active", "deferred", "hold", "corrupt", "finished")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """` (did you mean "x"?)` for a near miss, else ""."""
    near = difflib.get_close_matches(word, known, 1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def of_daemon(what: T | None) -> T:
    """What only a running daemon has. Raises Problem while it is down."""
    if what is None:
        raise Problem(503, "the daemon is not running")
    return what


def error_response(status: int, text: str, problems: Sequence[str] = ()) -> Response:
    """The answer to a call that could not be done."""
    return JSONResponse({"error": text, "problems": list(problems)} if problems else {"error": text}, status)


async def json_object(request: Request) -> Json:
    """The request's body. Raises Problem where it is too long, broke off, or is not a JSON object of Unicode text."""
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


def flag(body: Json, key: str) -> bool:
    """Take a yes or no out of a body; no where it is not there. Raises Problem."""
    value = body.pop(key, False)
    if not isinstance(value, bool):
        raise Problem(400, f"{key} wants true or false")
    return value


def sentence(body: Json, key: str) -> str:
    """Take a reason out of a body, in one printable line; "" where there is none. Raises Problem."""
    value = body.pop(key, "")
    if not isinstance(value, str) or len(value) > MAX_SENTENCE or not value.isprintable():
        raise Problem(400, f"{key} wants one line of text of at most {MAX_SENTENCE} characters")
    return value.strip()


def number(text: str, name: str, *, least: int, most: int | None = None) -> int:
    """A whole number of a query. Raises Problem."""
    if not text.isdecimal() or not text.isascii() or len(text) > 12 or int(text) < least or (most is not None and int(text) > most):
        raise Problem(400, f"{name} wants a whole number from {least}" + (f" to {most}" if most is not None else ""))
    return int(text)


async def resolved(reader: Reader, prefix: str) -> str:
    """The one queue id that begins with `prefix`. Raises Problem where there is none, or more than one."""
    found = await reader.resolve(prefix.upper())
    if not found:
        raise Problem(404, f"no entry has an id that begins with {prefix}")
    if len(found) > 1 and prefix.upper() not in found:
        raise Problem(409, f"{prefix} is not unique: {', '.join(found)}")
    return found[0] if len(found) == 1 else prefix.upper()


async def filter_of(reader: Reader, given: Mapping[str, object], now: float) -> Filter:
    """The filter in a query or a JSON object; an id must be unique. Raises Problem."""
    for key, value in given.items():
        if key not in FILTERS:
            raise Problem(400, f'unknown filter "{key}"{did_you_mean(key, FILTERS)}; known: {", ".join(FILTERS)}')
        if not isinstance(value, str) or not value:
            raise Problem(400, f"filter {key} wants a text that is not empty")
    texts = {key: str(value) for key, value in given.items()}
    if "state" in texts and texts["state"] not in STATES:
        raise Problem(400, f'unknown state "{texts["state"]}"{did_you_mean(texts["state"], STATES)}; known: {", ".join(STATES)}')
    return Filter(
        queue_id=await resolved(reader, texts["id"]) if "id" in texts else "",
        provider=texts.get("provider", ""),
        route=texts.get("route", ""),
        sender=texts.get("from", ""),
        recipient=texts.get("to", ""),
        state=texts.get("state", ""),
        older=float(number(texts["older"], "older (seconds)", least=0)) if "older" in texts else None,
        now=now,
    )
