"""Control: relay with the defect that nothing is synced (PRAGMA synchronous=OFF, fsync does nothing). It survives
kill -9, because the kernel still has its writes, and must lose mail in a power cut.

`python -m tests.faults.no_sync serve -c FILE`
"""

from __future__ import annotations

import functools
import os
import re
import sqlite3
from typing import Any

from relay.__main__ import main

_SYNCHRONOUS = re.compile(r"(PRAGMA\s+synchronous\s*=\s*)\w+", re.IGNORECASE)


class NoSync(sqlite3.Connection):
    """A connection on which every wish to sync is turned off."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """The statement, with any `synchronous` set to OFF."""
        return super().execute(_SYNCHRONOUS.sub(r"\1OFF", sql), *parameters)


def break_it() -> None:
    """Put the defect in."""
    sqlite3.connect = functools.partial(sqlite3.connect, factory=NoSync)  # type: ignore[assignment] # the defect
    os.fsync = os.fdatasync = lambda fd: None


if __name__ == "__main__":
    break_it()
    main()
