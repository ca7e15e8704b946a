"""The provider of the fault tests as a REST API: Mailtrap's, one message in a request or many, in a process of its own that
outlives the daemon.

It writes the lines that sink.py writes, one for each message of a request that arrived whole, before it answers, and refuses the
recipient nobody by itself. What it rebuilds from the JSON is compared with the digest, whatever line ends the text has.
Run as `python -m tests.faults.mailtrap FILE DELAY [PORT]`; it prints its port.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import sys
from typing import Any

_ID = re.compile(r"^X-Fault-Id: (\S+)\r?$", re.MULTILINE)
_LIMIT = 64 * 1024 * 1024
_LINES = re.compile(r"\r\n|\n")


def line_about(message: dict[str, Any]) -> bytes:
    """What the file says about a message."""
    headers, text = message.get("headers", {}), message.get("text", "")
    queue_id = message.get("custom_variables", {}).get("relay-id", "-")
    if headers.get("Auto-Submitted") == "auto-replied" and (about := _ID.search(text)):
        return f"notice:{about[1]} {queue_id} ok\n".encode()
    digest = hashlib.sha256(_LINES.sub("\r\n", text).encode()).hexdigest()
    return f"{headers.get('X-Fault-Id', '-')} {queue_id} {'ok' if digest == headers.get('X-Fault-Digest') else 'bad'}\n".encode()


def result(message: dict[str, Any], file: int) -> dict[str, Any]:
    """Take one message; its part of the answer."""
    boxes = [box["email"] for name in ("to", "cc", "bcc") for box in message.get(name, ())]
    if "nobody@sink.example" in boxes:
        return {"success": False, "errors": ["'to' address is invalid"]}
    os.write(file, line_about(message))
    return {"success": True, "message_ids": [os.urandom(16).hex() for _ in boxes]}


def answer(path: str, body: bytes, file: int) -> bytes:
    """The whole answer to a request."""
    found = json.loads(body)
    if path == "/api/batch":
        status, said = 200, {"success": True, "responses": [result(message, file) for message in found["requests"]]}
    else:
        said = result(found, file)
        status = 200 if said["success"] else 400
    text = json.dumps(said).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, file: int, delay: float) -> None:
    """One connection."""
    try:
        while True:
            first, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            lengths = [field.partition(":")[2] for field in fields if field.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0]))
            text = answer(first.split()[1], body, file)
            if delay:
                await asyncio.sleep(random.uniform(0, delay))  # the gap in which a kill leaves the outcome unknown
            writer.write(text)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass  # the daemon was killed
    finally:
        writer.close()


async def main() -> None:
    """Serve until killed."""
    file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    delay, port = float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    server = await asyncio.start_server(lambda reader, writer: serve(reader, writer, file, delay), "127.0.0.1", port, limit=_LIMIT)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
