"""Exit codes (sysexits.h) and the one exception that ends a command with a sentence for the user."""

from __future__ import annotations

from relay.errors import ConfigError, RelayError, SpoolBusy, SpoolError, Unavailable

OK = 0
USAGE = 64
DATA = 65
NO_INPUT = 66
UNAVAILABLE = 69
BUG = 70
OUTPUT = 74
TRY_LATER = 75
PERMISSION = 77
CONFIG = 78
INTERRUPTED = 128 + 2  # SIGINT, as a shell says it

OF_STATUS = {400: USAGE, 403: PERMISSION, 404: NO_INPUT, 409: USAGE, 410: NO_INPUT, 413: USAGE, 422: DATA, 503: TRY_LATER}
"""The exit code for an HTTP status of the admin API; any other error is a bug."""


class Stop(Exception):
    """End the command: the exit code, and what to say on standard error ("" for nothing)."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code = code
        super().__init__(text)


def of(error: RelayError) -> int:
    """The exit code for an error of ours that ended a command."""
    if isinstance(error, ConfigError | Unavailable):
        return error.exit_code
    if isinstance(error, SpoolBusy):
        return UNAVAILABLE
    if isinstance(error, SpoolError):
        return PERMISSION if isinstance(error.__cause__, PermissionError) else TRY_LATER
    return BUG
