"""Plays the dialogues of tests/data/dialogs (their form: README.md there)."""

from __future__ import annotations

import asyncio
import codecs
import ssl
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from relay.smtp_protocol import Policy

USER, PASSWORD = "app", "not-a-real-password"
FOLDER = Path(__file__).parent / "data" / "dialogs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.smtp"))


@dataclass(frozen=True)
class Step:
    """`send` these octets, or expect a line like `expect`, or begin TLS; with none of them, expect the end."""

    send: bytes = b""
    expect: str = ""
    tls: bool = False


@dataclass(frozen=True)
class Dialog:
    """A file: the limits and the listener it asks for, and its steps. The client is on this host."""

    limits: dict[str, int]
    policy: Policy
    steps: list[Step]


def read(name: str) -> Dialog:
    """The dialogue called `name`."""
    limits: dict[str, int] = {}
    policy = Policy(local=True)
    steps: list[Step] = []
    for line in (FOLDER / f"{name}.smtp").read_text(encoding="utf-8").splitlines():
        mark, text = line[:2], line[3:]
        if mark in ("C:", "C!"):
            octets = f"{text}\r\n".encode() if mark == "C:" else codecs.escape_decode(text.encode())[0]
            if steps and steps[-1].send:
                octets = steps.pop().send + octets
            steps.append(Step(send=octets))
        elif mark == "S:":
            steps.append(Step(expect=text))
        elif mark == "E:":
            steps.append(Step())
        elif mark == "T:":
            steps.append(Step(tls=True))
        elif mark == "P:":
            tls, *words = text.split()
            assert tls in ("off", "optional", "required"), f"{name}: {line!r}"
            policy = Policy(tls, logins="logins" in words, local=True)  # type: ignore[arg-type] # as just asserted
        elif mark == "L:":
            limits = {key: int(value) for key, value in (word.split("=") for word in text.split())}
        else:
            assert line.startswith("#") or not line, f"{name}: {line!r} is neither a step nor a comment"
    return Dialog(limits, policy, steps)


async def play(steps: list[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trust: ssl.SSLContext) -> None:
    """Play the client against a real server; fails with the step that went wrong."""
    for number, step in enumerate(steps, 1):
        if step.send:
            writer.write(step.send)
            continue
        if step.tls:
            await writer.start_tls(trust, server_hostname="localhost")
            continue
        line = (await asyncio.wait_for(reader.readline(), 10)).decode().removesuffix("\r\n")
        assert fnmatchcase(line, step.expect), f"step {number}: {line!r} is not like {step.expect!r}"
    writer.close()
