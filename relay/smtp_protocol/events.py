"""What a conversation may use up, and what it says to the listener."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from relay.model import Envelope, Facts


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything a client can use up. Postfix's defaults where it has one (postconf(5), 3.9)."""

    max_connections: int = 1000  # also kept below the process's limit of open files
    max_connections_per_client: int = 50  # smtpd_client_connection_count_limit; loopback and unix are exempt, as there
    max_recipients: int = 1000  # smtpd_recipient_limit; as many again may be refused before refusals count as errors
    max_errors: int = 20  # smtpd_hard_error_limit: refused commands since the last accepted message
    max_junk: int = 100  # smtpd_junk_command_limit: NOOP, VRFY, HELP, RSET, EHLO since the last accepted message
    max_command: int = 4096  # octets of a command line with its CRLF
    max_line: int = 65536  # octets of a line in DATA without its CRLF
    max_header: int = 1024 * 1024  # octets of a header block
    max_received: int = 50  # hopcount_limit: Received fields
    bytes_in_flight: int = 256 * 1024 * 1024  # octets of messages being received, all clients together
    command_timeout: float = 300.0  # seconds, smtpd_timeout: a command, or a pause in DATA
    min_data_rate: int = 500  # octets per second, smtpd_min_data_rate
    linger: float = 5.0  # seconds a client has to read our last reply
    max_auth: int = 12288  # octets of an AUTH command or response with its CRLF (RFC 4954 §4)
    max_logins: int = 3  # failed logins in one session
    max_logins_per_client: int = 20  # failed logins from one address within `login_window`; loopback and unix are exempt
    login_window: float = 600.0  # seconds
    login_delay: float = 1.0  # seconds: the nth failure of a session is answered after n times as long
    handshake_timeout: float = 30.0  # seconds a TLS handshake may take


TlsMode = Literal["off", "optional", "required", "implicit"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a client must do before it may hand in mail, and what it may do in clear.

    `tls` off: never; optional: STARTTLS is offered; required: and needed; implicit: the connection is encrypted from its first
    octet on. `logins`: every transaction needs a login. `local`: the client is on this host, so it may log in in clear.
    """

    tls: TlsMode = "off"
    logins: bool = False
    local: bool = False


class Mail(NamedTuple):
    """Asks: may a transaction begin? Answered "" (yes) or with the refusal. `size` is what SIZE= said, or 0."""

    reverse_path: str
    size: int


class Data(NamedTuple):
    """Asks: can the message be taken in now? Answered "" (yes) or with the refusal."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Credentials:
    """Asks: is this login right? Answered "" (yes) or with the refusal. The password is in no repr and no other event."""

    mechanism: str  # PLAIN | LOGIN
    username: str
    password: str = field(repr=False)


class StartTls(NamedTuple):
    """Asks: can TLS begin? After the answer "" and its 220, whatever is received must have come through TLS."""


class Chunk(NamedTuple):
    """Octets of the message: line ends are CRLF, dots unstuffed."""

    data: bytes


class Dropped(NamedTuple):
    """The message will be refused; what was taken in can be forgotten now, although the client still sends."""


class End(NamedTuple):
    """The message is complete. Answered with the reply that says what became of it."""

    facts: Facts


class Refused(NamedTuple):
    """For the log: `stage` was answered with the refusal `reply`. Recipients are those of the refused command."""

    stage: str
    reply: str
    reverse_path: str | None
    recipients: tuple[str, ...]


class Close(NamedTuple):
    """Send what there is and close. `why` is for the log, "" where the log has it already or need not have it."""

    why: str


Event = bytes | StartTls | Credentials | Mail | Data | Chunk | Dropped | End | Refused | Close
