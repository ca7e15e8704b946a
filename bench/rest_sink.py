"""`python -m bench.rest_sink --shape ses`: a provider's REST API on loopback that takes every message and counts it.

Answers as SES (SendEmail, API v2) or Postmark (POST /email) would. The first line on standard output is the port, then
comes the count after each message, as smtp-sink writes it. A process of its own, so that its CPU is nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
from collections.abc import Callable, Mapping

_ANSWERS: Mapping[str, Callable[[bytes, int], object]] = {
    "ses": lambda body, number: {"MessageId": f"{number:016x}-bench"},
    "postmark": lambda body, number: {
        "To": json.loads(body)["To"],
        "SubmittedAt": "2026-01-01T00:00:00Z",
        "MessageID": f"{number:08x}-0000-4000-8000-000000000000",
        "ErrorCode": 0,
        "Message": "OK",
    },
}


class Api(asyncio.Protocol):
    """One connection. Requests have a Content-Length, as all of relay's do."""

    def __init__(self, shape: str, numbers: itertools.count[int]) -> None:
        self._answer = _ANSWERS[shape]
        self._numbers = numbers
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
            self._take(bytes(self._buffer[end:whole]))
            del self._buffer[:whole]

    def _take(self, body: bytes) -> None:
        number = next(self._numbers)
        text = json.dumps(self._answer(body, number)).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        os.write(1, b"mesg=%d\r" % number)


async def _serve(shape: str) -> None:
    numbers = itertools.count(1)
    server = await asyncio.get_running_loop().create_server(lambda: Api(shape, numbers), "127.0.0.1", 0, backlog=1024)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.rest_sink")
    parser.add_argument("--shape", choices=_ANSWERS, required=True)
    asyncio.run(_serve(parser.parse_args().shape))
