"""The words: what every room means by envelope, entry, job and outcome.

Frozen records with their invariants and no behaviour beyond them. Nothing here does I/O, reads a clock or knows
a provider. A record that would break its own rule cannot be built: it raises ValueError, which is our bug and
never the client's fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Notify(StrEnum):
    """When a recipient's sender wants a DSN (RFC 3461 §4.1)."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT TO: the address as given (its domain case kept too), and its DSN parameters (RFC 3461).

    `notify` is empty where the client gave none; `orcpt` is `addr-type;address` with the xtext decoded.
    """

    address: str
    notify: frozenset[Notify] = frozenset()
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path, recipients and MAIL parameters. `reverse_path` is `""` for the null path `<>`."""

    reverse_path: str
    recipients: tuple[Recipient, ...]
    ret: str = ""  # "" | "FULL" | "HDRS" (RFC 3461 §4.3)
    envid: str = ""  # xtext decoded (RFC 3461 §4.4)
    smtputf8: bool = False  # the client gave SMTPUTF8 (RFC 6531)

    def __post_init__(self) -> None:
        if not self.recipients:
            raise ValueError("an envelope has at least one recipient")
        if len({recipient.address for recipient in self.recipients}) != len(self.recipients):
            raise ValueError("recipients are told apart by their address: no duplicates")


@dataclass(frozen=True, slots=True)
class Client:
    """The legacy app as the listener saw it. `address` is an IP, or `unix` for a unix socket.

    `protocol` is the word of RFC 3848: SMTP | ESMTP | ESMTPA | ESMTPS | ESMTPSA, or LOCAL for what relay made itself. `username`
    is the identity of who logged in (relay/users/). `tls` is "" in clear, else version and cipher: `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    """

    listener: str
    address: str
    port: int = 0
    name: str = "unknown"
    helo: str = ""
    protocol: str = "ESMTP"
    username: str = ""
    tls: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was learned about a message while it came in, so that nobody has to read it again to know.

    `size` counts the stored octets (line ends CRLF, dots unstuffed). `longest_line` counts octets without CRLF.
    """

    size: int
    eight_bit: bool
    longest_line: int


class EditKind(StrEnum):
    """A change applied to the header block on the way out."""

    PREPEND = "prepend"  # `text` goes above the header block
    APPEND = "append"  # `text` goes at the end of the header block
    REMOVE = "remove"  # every field named `text` (lower case) goes


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit, decided once when the message is accepted and stored with it.

    For PREPEND and APPEND `text` is one or more whole header fields, each line ended by CRLF; for REMOVE it is a
    field name in lower case.
    """

    kind: EditKind
    text: str


class Message(Protocol):
    """The stored bytes of one message: header block, then body. Written once, never changed."""

    @property
    def header(self) -> bytes:
        """The header block with its last CRLF, without the empty line that ends it."""

    @property
    def facts(self) -> Facts:
        """Size and shape of the whole message."""

    async def read(self) -> bytes:
        """The whole message, exactly as stored. For a large one prefer `chunks`."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The whole message in pieces of at most 256 KiB, so that memory stays flat."""


class State(StrEnum):
    """Where one recipient of an entry stands."""

    QUEUED = "queued"  # waits for its next attempt (or for a paused provider)
    HELD = "held"  # waits for an admin
    RELAYED = "relayed"  # a provider took it
    FAILED = "failed"  # given up; a bounce was due
    DELETED = "deleted"  # an admin took it out


FINAL = frozenset({State.RELAYED, State.FAILED, State.DELETED})


class Verdict(StrEnum):
    """The class of an outcome. What follows from each: relay/verdicts.py and docs/verdicts.md."""

    OK = "OK"
    PERM_RCPT = "PERM-RCPT"
    PERM_MSG = "PERM-MSG"
    RETRY = "RETRY"
    THROTTLE = "THROTTLE"
    PAUSE = "PAUSE"
    CONFIG = "CONFIG"
    UNKNOWN = "UNKNOWN"


class Kind(StrEnum):
    """What an outcome means for its recipient. Log words: sent, deferred, bounced."""

    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"


class Scope(StrEnum):
    """What else an outcome concerns beside this one recipient."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    IDENTITY = "identity"
    PROVIDER = "provider"


_MEANING: Mapping[Verdict, tuple[Kind, Scope]] = {
    Verdict.OK: (Kind.RELAYED, Scope.RECIPIENT),
    Verdict.PERM_RCPT: (Kind.FAILED, Scope.RECIPIENT),
    Verdict.PERM_MSG: (Kind.FAILED, Scope.MESSAGE),
    Verdict.RETRY: (Kind.DEFERRED, Scope.MESSAGE),
    Verdict.THROTTLE: (Kind.DEFERRED, Scope.PROVIDER),
    Verdict.PAUSE: (Kind.DEFERRED, Scope.PROVIDER),
    Verdict.CONFIG: (Kind.DEFERRED, Scope.IDENTITY),
    Verdict.UNKNOWN: (Kind.DEFERRED, Scope.MESSAGE),
}
_STATUS_CLASS = {Kind.RELAYED: "2", Kind.DEFERRED: "4", Kind.FAILED: "5"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient in one attempt. A value, never an exception, never a string to parse.

    `status` is an enhanced status code (RFC 3463) whose class agrees with the kind. `reply` is what the remote
    said, or our own finding, in one printable line. `remote` names who said it: `host[ip]:port`, or `relay` for a
    finding of our own (`own` is then True, and a DSN says `X-Relay` instead of `smtp` for Diagnostic-Code).
    `retry_after` is in seconds, where the remote gave one. `identity` says what is misconfigured when the scope is
    IDENTITY (`domain=example.com`, `stream=broadcasts`). `connect_s` and `send_s` are seconds for the log.
    `mend` is one sentence for the admin on PAUSE and CONFIG. `notifies` says of a relayed recipient that the remote took over
    its DSN parameters (RFC 3461 §5.2.1), so that a notification of success is the remote's to send.
    """

    verdict: Verdict
    status: str
    reply: str
    remote: str
    own: bool = False
    remote_id: str = ""
    retry_after: float | None = None
    identity: str = ""
    mend: str = ""
    connect_s: float = 0.0
    send_s: float = 0.0
    notifies: bool = False

    def __post_init__(self) -> None:
        if self.status[:1] != _STATUS_CLASS[self.kind] or self.status.count(".") != 2:
            raise ValueError(f"status {self.status!r} does not agree with verdict {self.verdict}")
        if not self.reply or not self.remote:
            raise ValueError("an outcome says who answered and what")
        if self.verdict is Verdict.CONFIG and not self.identity:
            raise ValueError("a CONFIG outcome names the identity it concerns")

    @property
    def kind(self) -> Kind:
        """Relayed, deferred or failed."""
        return _MEANING[self.verdict][0]

    @property
    def scope(self) -> Scope:
        """What the outcome concerns."""
        return _MEANING[self.verdict][1]

    @property
    def maybe_relayed(self) -> bool:
        """True when the remote may have taken the message although we have no answer."""
        return self.verdict is Verdict.UNKNOWN


_IN_LINE = " line "


def line_key(provider: str, route: str) -> str:
    """What a recipient waits for (`RecipientState.waits`) while a provider has no room for more mail of its route."""
    return f"{provider}{_IN_LINE}{route}"


def line_of(waits: str) -> str:
    """The provider for whose room a recipient waits; "" where it waits for something else."""
    provider, found, _ = waits.partition(_IN_LINE)
    return provider if found else ""


@dataclass(frozen=True, slots=True)
class RecipientState:
    """One recipient of an entry as the spool knows it. Times are Unix seconds.

    `provider` is the provider last attempted (the one it is pinned to when `maybe_relayed`), `since` the time that
    provider first deferred it. `waits` is not empty while the recipient waits for a paused provider or identity.
    `told` says that a FAILED or RELAYED recipient needs no (further) notice, and of an open one that its sender was warned
    of the delay. `via` holds the providers fixed for it (by an admin; else those of its entry), in order; empty: its route chooses.
    """

    recipient: Recipient
    state: State
    attempts: int = 0
    next_attempt: float = 0.0
    provider: str = ""
    route: str = ""
    since: float = 0.0
    verdict: Verdict | None = None
    status: str = ""
    reply: str = ""
    remote: str = ""
    remote_id: str = ""
    maybe_relayed: bool = False
    waits: str = ""
    told: bool = False
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An accepted message with the state of its recipients: what the spool keeps, without the body.

    `via` is empty unless the providers were fixed when it was accepted (a test message, a bounce), instead of the routes' choice;
    each recipient's `via` says what holds now.
    `bounce` marks a message that relay made itself; it never causes a bounce.
    """

    queue_id: str
    arrived: float
    client: Client
    envelope: Envelope
    facts: Facts
    header: bytes
    message_id: str
    edits: tuple[Edit, ...]
    recipients: tuple[RecipientState, ...]
    via: tuple[str, ...] = ()
    bounce: bool = False
    finished: float | None = None

    @property
    def open(self) -> tuple[RecipientState, ...]:
        """The recipients that are not final yet."""
        return tuple(r for r in self.recipients if r.state not in FINAL)


@dataclass(frozen=True, slots=True)
class Job:
    """An entry's recipients for one attempt: one SMTP transaction or one API request.

    `listener` names the one that accepted the message: it decides which control headers are obeyed.
    `plan` belongs to the transport that prepared the job (a payload, say); nobody else looks inside.
    """

    queue_id: str
    envelope: Envelope
    recipients: tuple[Recipient, ...]
    edits: tuple[Edit, ...]
    message: Message
    arrived: float = 0.0
    bounce: bool = False
    listener: str = ""
    plan: object = field(default=None, compare=False)
