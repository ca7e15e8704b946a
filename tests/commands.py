"""Running the command against a served spool, for the tests of the command line."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.cli.main import main
from tests.served import Served


@dataclass
class Printed:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Relay:
    """The command against a served spool: `await relay("queue", "list")`."""

    def __init__(self, served: Served, config: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.served = served
        self.config = config
        self.captured = capsysbinary

    async def __call__(self, *arguments: str) -> Printed:
        self.captured.readouterr()
        code = await asyncio.to_thread(main, [*arguments, "-c", str(self.config)])
        out, err = self.captured.readouterr()
        return Printed(code, out.decode(), err.decode())

    async def json(self, *arguments: str) -> list[Any]:
        """The objects printed, one for each line."""
        printed = await self(*arguments, "--json")
        assert (0, "") == (printed.code, printed.err)
        return [json.loads(line) for line in printed.out.splitlines()]


def configuration(directory: Path, admin: str) -> Path:
    """A configuration file that leads to the served spool."""
    path = directory / "relay.yaml"
    path.write_text(f'providers: {{capture: {{}}}}\nqueue: {{spool: "{directory}/spool"}}\nadmin: {{listen: "{admin}"}}\n')
    path.chmod(0o640)
    return path


def write(path: Path, text: str) -> str:
    """A configuration file only its owner reads."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)
