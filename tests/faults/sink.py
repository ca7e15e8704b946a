"""The provider of the fault tests: an SMTP server in a process of its own that outlives the daemon.

It writes one line `id queue-id ok|bad` to a file for every message whose final dot arrived, before it answers 250, so that
what a killed daemon never heard about is counted too. `bad` means that the body is not the one its digest names. A notice
about a message is written as `notice:id`. It refuses the recipient nobody.
Run as `python -m tests.faults.sink FILE DELAY [PORT]`; it prints its port. SIGTERM stops it in good order: it begins no message
any more and answers those that are under way; SIGKILL leaves them without an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import sys

_ID = re.compile(rb"^X-Fault-Id: (\S+)\r$", re.MULTILINE)
_DIGEST = re.compile(rb"^X-Fault-Digest: (\S+)\r$", re.MULTILINE)
_NOTICE_ID = re.compile(rb"^Message-ID: <([0-9A-F]{14})@", re.MULTILINE)
_QUEUE_ID = re.compile(rb"\AReceived: .*?\bid ([0-9A-F]{14})", re.DOTALL)
_LIMIT = 64 * 1024 * 1024


class Taking:
    """How many messages are being taken, and whether no more are to be begun."""

    def __init__(self) -> None:
        self.count = 0
        self.stopping = False
        self.none = asyncio.Event()
        self.none.set()

    def begin(self) -> None:
        """One more."""
        self.count += 1
        self.none.clear()

    def end(self) -> None:
        """One less: it was answered, or its connection is gone."""
        self.count -= 1
        if not self.count:
            self.none.set()


def line_about(message: bytes) -> bytes:
    """What the file says about a message."""
    header, _, body = message.partition(b"\r\n\r\n")
    if b"\nAuto-Submitted: auto-replied\r" in header and (about := _ID.search(body)) and (own := _NOTICE_ID.search(header)):
        return b"notice:%s %s ok\n" % (about[1], own[1])
    found = [pattern.search(header + b"\r") for pattern in (_ID, _QUEUE_ID, _DIGEST)]
    name, queue_id, digest = (match[1] if match else b"-" for match in found)
    return b"%s %s %s\n" % (name, queue_id, b"ok" if hashlib.sha256(body).hexdigest().encode() == digest else b"bad")


async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, file: int, delay: float) -> None:
    """One message, from 354 to 250."""
    writer.write(b"354 go\r\n")
    await writer.drain()
    data = await reader.readuntil(b"\r\n.\r\n")
    os.write(file, line_about(data[:-3].replace(b"\r\n..", b"\r\n.")))
    if delay:
        await asyncio.sleep(random.uniform(0, delay))  # the gap in which a kill leaves the outcome unknown
    writer.write(b"250 2.0.0 taken\r\n")
    await writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, file: int, delay: float, taking: Taking) -> None:
    """One connection."""
    writer.write(b"220 sink ESMTP\r\n")
    refused = False
    try:
        while line := await reader.readline():
            verb = line[:4].upper().strip()
            if verb == b"EHLO":
                writer.write(b"250-sink\r\n250-PIPELINING\r\n250-SIZE 0\r\n250 8BITMIME\r\n")
            elif verb == b"DATA" and taking.stopping:
                writer.write(b"421 4.3.2 stopping\r\n")
                return
            elif verb == b"RCPT" and (refused := b"<nobody@" in line):
                writer.write(b"550 5.1.1 no such user\r\n")
            elif verb == b"DATA" and refused:
                writer.write(b"554 5.5.1 no valid recipients\r\n")
            elif verb == b"DATA":
                taking.begin()
                try:
                    await take(reader, writer, file, delay)
                finally:
                    taking.end()
            else:
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
    except (OSError, asyncio.IncompleteReadError):
        pass  # the daemon was killed
    finally:
        writer.close()


async def main() -> None:
    """Serve until stopped or killed."""
    taking, stop = Taking(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    delay = float(sys.argv[2])
    port = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    server = await asyncio.start_server(lambda reader, writer: serve(reader, writer, file, delay, taking), "127.0.0.1", port, limit=_LIMIT)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()
    taking.stopping = True
    await taking.none.wait()
    os._exit(0)  # idle connections are cut, as a server does that ends


if __name__ == "__main__":
    asyncio.run(main())
