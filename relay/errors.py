"""The exceptions. What a remote did is an Outcome (relay/model.py), never an exception.

RelayError
├── ConfigError          start or reload refused; exit 78 (66, 77: no file). Holds every mistake found, not only the first.
├── SpoolError           the spool cannot do it now; the client hears 451 4.3.0 and we keep running
│   ├── SpoolFull        no room; the client hears 452 4.3.1
│   ├── SpoolBusy        another daemon holds this spool; start refused, exit 69
│   └── CorruptEntry     an entry cannot be read; it is set aside and reported, never deleted
├── CannotCarry          this provider cannot carry this message; the next provider of the route may
├── Unavailable          a port, socket or service we need is not to be had; exit 69 or 77
├── CertificateError     a TLS certificate or key cannot be used (relay/certificates.py)
└── UsersError           a users file cannot be used (relay/users/)
"""

from __future__ import annotations

from collections.abc import Sequence


class RelayError(Exception):
    """Base of all our exceptions; its text is one sentence fit for an admin."""


class ConfigError(RelayError):
    """The configuration cannot be used. `problems` holds the rendered mistakes, in file order; `exit_code` is the
    sysexits code (78, or 66 and 77 when the file is missing or must not be read)."""

    def __init__(self, problems: Sequence[str], exit_code: int = 78) -> None:
        self.problems = tuple(problems)
        self.exit_code = exit_code
        super().__init__("\n\n".join(self.problems))


class SpoolError(RelayError):
    """The spool could not do what was asked; nothing was stored."""


class SpoolFull(SpoolError):
    """The spool has no room; nothing was stored."""


class SpoolBusy(SpoolError):
    """Another process holds this spool."""


class CorruptEntry(SpoolError):
    """An entry that cannot be read. It stays in the spool, set aside."""

    def __init__(self, queue_id: str, why: str) -> None:
        self.queue_id = queue_id
        self.why = why
        super().__init__(f"{queue_id}: {why}")


class CannotCarry(RelayError):
    """This provider cannot carry this message to these recipients: our own verdict, before any attempt.

    `reasons` are whole phrases for the bounce ("multipart/signed cannot be rebuilt by the Postmark API").
    `status` is the enhanced status code a DSN gives when no provider of the route can carry the message.
    """

    def __init__(self, reasons: Sequence[str], status: str = "5.6.3") -> None:
        self.reasons = tuple(reasons)
        self.status = status
        super().__init__("; ".join(self.reasons))


class Unavailable(RelayError):
    """Something outside that we need is not to be had. `exit_code` is the sysexits code for it (69 or 77)."""

    def __init__(self, text: str, exit_code: int = 69) -> None:
        self.exit_code = exit_code
        super().__init__(text)
