"""The client's half of an SMTP transaction, pure: what to say, how to stuff it, and how to read what comes back.

Addresses go out exactly as they are stored, with nothing parsed again on the way; parameters are made from typed
values only, and only those the server offered. Message octets keep their places: dots are stuffed and nothing else; a
bare CR or LF, which a stored message cannot hold, raises ValueError rather than reach a wire (outbound smuggling).
RFC 5321, 1870 (SIZE), 2920 (PIPELINING), 3461 (DSN), 6152 (8BITMIME), 6531 (SMTPUTF8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay import address
from relay.model import Envelope, Notify, Recipient

MAX_REPLY = 64 * 1024  # octets of one reply with all its lines

Extensions = Mapping[str, str]
"""EHLO keyword in lower case -> its parameters."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?")
_UTF8_ADDRESS = re.compile(r"[^\x00-\x20\x7f-\xa0\u2028\u2029<>]+@[^\x00-\x20\x7f-\xa0\u2028\u2029<>@]+")
_XTEXT = re.compile(r"[^!-*,-<>-~]")
_NOTIFY = tuple(Notify)
_ENHANCED = re.compile(r"^[245]\.\d{1,3}\.\d{1,3}\s+")
_REMOTE_ID = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"queued as:? <?([\w.@+=/-]+)",  # Postfix, Mailpit and many others
        r"\bInternalId=(\d+)",  # Exchange
        r"\bid=([\w.-]+)",  # Exim
        r"^OK +\d+ (\S+) - gsmtp",  # Gmail
        r"^([\w-]{8,}) Message accepted",  # Sendmail
        r"^ok (\d+ qp \d+)$",  # qmail
        r"^Ok:? ([\w.@-]{8,})$",  # Amazon SES
    )
)


class Garbled(Exception):
    """The server sent something that is no SMTP reply; its text is what came, uncleaned."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its code and the text of all its lines, joined by spaces, uncleaned."""

    code: int
    text: str


class Replies:
    """Octets in, replies out, however the octets are cut. Bare LF ends a line too."""

    def __init__(self) -> None:
        self._rest = b""
        self._texts: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are complete now. Raises Garbled; then nothing more can be read from this server."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._size += len(data)
        if self._size > MAX_REPLY and len(self._rest) + sum(map(len, self._texts)) > MAX_REPLY:
            raise Garbled("reply too long")
        found = []
        for line in lines:
            match = _LINE.fullmatch(line.removesuffix(b"\r"))
            if not match:
                raise Garbled(line.decode("utf-8", "replace"))
            self._texts.append((match[3] or b"").decode("utf-8", "replace").strip())
            if match[2] != b"-":
                found.append(Reply(int(match[1]), " ".join(self._texts)))
                self._texts.clear()
                self._size = len(self._rest)
        return found


class Stuffer:
    """The octets of a message, chunk by chunk, as they go out after DATA (RFC 5321 §4.5.2)."""

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF comes with the next chunk
        self._line_start = True

    def feed(self, chunk: bytes) -> bytes:
        """The chunk with leading dots doubled. Raises ValueError on a bare CR or LF."""
        data = self._held + chunk if self._held else chunk
        self._held = b""
        if data.endswith(b"\r"):
            self._held, data = b"\r", data[:-1]
        if not data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
            raise ValueError("a stored message holds a bare CR or LF")
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        if self._line_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        if data:
            self._line_start = data.endswith(b"\n")
        return stuffed

    def end(self) -> bytes:
        """What ends the message: a CRLF where its last line lacks one, and the lone dot."""
        if self._held:
            raise ValueError("a stored message holds a bare CR or LF")
        return b".\r\n" if self._line_start else b"\r\n.\r\n"


def needs_smtputf8(envelope: Envelope, recipients: Iterable[Recipient], header: bytes) -> bool:
    """Whether the transaction cannot go without SMTPUTF8: a non-ASCII address, or UTF-8 headers declared as such."""
    addresses = envelope.reverse_path.isascii() and all(recipient.address.isascii() for recipient in recipients)
    return not addresses or (envelope.smtputf8 and not header.isascii())


def size_limit(extensions: Extensions) -> int:
    """The announced largest message in octets; 0 where none was announced (RFC 1870 §4)."""
    limit = extensions.get("size", "")
    return int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 19 else 0


def mail(envelope: Envelope, extensions: Extensions, *, size: int, eight_bit: bool, utf8: bool) -> bytes:
    """The MAIL command. Parameters the server did not offer are left out."""
    line = f"MAIL FROM:<{_checked(envelope.reverse_path)}>"
    if "size" in extensions:
        line += f" SIZE={size}"
    if eight_bit and "8bitmime" in extensions:
        line += " BODY=8BITMIME"
    if utf8:
        line += " SMTPUTF8"
    if "dsn" in extensions:
        line += f" RET={envelope.ret}" if envelope.ret in ("FULL", "HDRS") else ""
        line += f" ENVID={_xtext(envelope.envid)}" if envelope.envid and envelope.envid.isascii() else ""
    return line.encode() + b"\r\n"


def rcpt(recipient: Recipient, extensions: Extensions) -> bytes:
    """The RCPT command of one recipient, with its DSN parameters where the server offered DSN."""
    line = f"RCPT TO:<{_checked(recipient.address)}>"
    if "dsn" in extensions:
        line += f" NOTIFY={','.join(word for word in _NOTIFY if word in recipient.notify)}" if recipient.notify else ""
        kind, _, original = recipient.orcpt.partition(";")
        line += f" ORCPT={_xtext(kind)};{_xtext(original)}" if original and recipient.orcpt.isascii() else ""
    return line.encode() + b"\r\n"


def remote_id(text: str) -> str:
    """The id by which the server knows the message, from its reply to the final dot; "" where it gave none we know."""
    text = _ENHANCED.sub("", text)
    return next((match[1] for pattern in _REMOTE_ID if (match := pattern.search(text))), "")


def _checked(stored: str) -> str:
    """The address as stored. It was checked when it was accepted; a second look keeps our own bugs off the wire."""
    if (
        stored
        and stored.casefold() != "postmaster"
        and not (address.valid(stored) if stored.isascii() else _UTF8_ADDRESS.fullmatch(stored))
    ):
        raise ValueError("an address that is not valid must not reach a wire")
    return stored


def _xtext(text: str) -> str:
    """RFC 3461 §4: printable ASCII without + and =; the rest as +HH."""
    return _XTEXT.sub(lambda match: f"+{ord(match[0]):02X}", text)
