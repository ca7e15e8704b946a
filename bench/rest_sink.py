"""`python -m bench.rest_sink --shape ses`: a provider's REST API on loopback that takes every message and counts it.

Answers as SES and LowCodeAPI (SendEmail, API v2), Postmark, Mailtrap or Paubox would, batches included; with `--limit 150/10` it
refuses what is more than so many requests in so many seconds. The first line on standard output is the port, then comes the
count of messages after each request, as smtp-sink writes it; GET /count says how many requests there were. A process of its
own, so that its CPU is nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Numbers = Iterator[int]


def _ses(body: bytes, numbers: Numbers) -> tuple[object, int]:
    return {"MessageId": f"{next(numbers):016x}-bench"}, 1


def _postmark(body: bytes, numbers: Numbers) -> tuple[object, int]:
    found = json.loads(body)
    messages = found if isinstance(found, list) else found.get("Messages", [found])
    taken = [
        {
            "To": message.get("To", ""),
            "SubmittedAt": "2026-01-01T00:00:00Z",
            "MessageID": f"{next(numbers):08x}-0000-4000-8000-000000000000",
            "ErrorCode": 0,
            "Message": "OK",
        }
        for message in messages
    ]
    return taken if messages is found or "Messages" in found else taken[0], len(taken)


def _mailtrap(body: bytes, numbers: Numbers) -> tuple[object, int]:
    found = json.loads(body)

    def taken(message: Mapping[str, Sequence[object]]) -> dict[str, object]:
        count = sum(len(message.get(name, ())) for name in ("to", "cc", "bcc"))
        return {"success": True, "message_ids": [f"{next(numbers):08x}-0000-4000-8000-000000000000" for _ in range(count)]}

    if "requests" in found:
        return {"success": True, "responses": [taken(message) for message in found["requests"]]}, len(found["requests"])
    return taken(found), 1


def _paubox(body: bytes, numbers: Numbers) -> tuple[object, int]:
    data = json.loads(body)["data"]
    taken = [{"sourceTrackingId": f"{next(numbers):08x}", "data": "Service OK"} for _ in data.get("messages", [data])]
    return {"messages": taken} if "messages" in data else taken[0], len(taken)


_ANSWERS: Mapping[str, Callable[[bytes, Numbers], tuple[object, int]]] = {
    "ses": _ses,
    "lowcodeapi": _ses,
    "postmark": _postmark,
    "mailtrap": _mailtrap,
    "paubox": _paubox,
}


@dataclass
class Book:
    """What was asked and taken. `limit` is requests in so many seconds."""

    shape: str
    limit: tuple[int, float] | None
    requests: int = 0
    messages: int = 0
    refused: int = 0
    numbers: Numbers = field(default_factory=lambda: itertools.count(1))
    window: deque[float] = field(default_factory=deque)

    def answer(self, method: bytes, body: bytes) -> tuple[int, object]:
        """HTTP status and JSON."""
        if method == b"GET":
            return 200, {"requests": self.requests, "messages": self.messages, "refused": self.refused}
        self.requests += 1
        now = time.monotonic()
        while self.limit and self.window and self.window[0] <= now - self.limit[1]:
            self.window.popleft()
        if self.limit and len(self.window) >= self.limit[0]:
            self.refused += 1
            return 429, {"success": False, "errors": ["Too many requests"]}
        self.window.append(now)
        found, count = _ANSWERS[self.shape](body, self.numbers)
        self.messages += count
        os.write(1, b"mesg=%d\r" % self.messages)
        return 200, found


class Api(asyncio.Protocol):
    """One connection. Requests have a Content-Length, as all of relay's do."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            length = bytes(self._buffer[:end]).lower().partition(b"\r\ncontent-length:")[2].split(b"\r", 1)[0]
            whole = end + int(length or b"0")
            if len(self._buffer) < whole:
                return
            self._take(bytes(self._buffer[:end]).partition(b" ")[0], bytes(self._buffer[end:whole]))
            del self._buffer[:whole]

    def _take(self, method: bytes, body: bytes) -> None:
        status, found = self._book.answer(method, body)
        text = json.dumps(found).encode()
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(text))
        self._transport.write(head + text)


async def _serve(book: Book) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Api(book), "127.0.0.1", 0, backlog=1024)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    await server.serve_forever()


def per(text: str) -> tuple[int, float]:
    """`150/10` as requests and seconds."""
    count, _, seconds = text.partition("/")
    return int(count), float(seconds or 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.rest_sink")
    parser.add_argument("--shape", choices=_ANSWERS, required=True)
    parser.add_argument("--limit", type=per, help="requests in seconds, as 150/10")
    args = parser.parse_args()
    asyncio.run(_serve(Book(args.shape, args.limit)))
