"""Bounces: the message that tells a sender what could not be delivered, to whom and why.

Built either as a report (multipart/report, RFC 6522 and RFC 3464: a readable part, a part for programs, the header
block of the original) or as plain text with the header block of the original, for a provider that carries no reports.
The header block is returned as it left, with the edits applied, so that neither Bcc nor control headers show.
RET=FULL is answered with the header block too (RFC 3461 §4.3 leaves the choice to us): the body may be gone by then.

Promise: whatever a remote, a client or a header block said, the result is 7-bit, has CRLF line ends and no line longer
than 998 octets, and nothing of it becomes a header field or a MIME boundary of the bounce.
Pure: time, ids and names are arguments. Never raises.
"""

from __future__ import annotations

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from relay import edits, header
from relay.model import Entry, Notify, Outcome, Recipient

_MAX_LINE = 998  # RFC 5322 §2.1.1
_MAX_TEXT = 900  # of a reply or an address, so that with its field name it stays below _MAX_LINE
_MAX_SUBJECT = 200
_MAX_HEADER = 64 * 1024  # of the original's header block
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_ADDR_TYPE = re.compile(r"[A-Za-z0-9-]{1,40}")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 §3, QCHAR
_SMTP_REPLY = re.compile(r"[245][0-9][0-9](?![0-9])")
_EXPIRED = "4.4.7"  # RFC 3463 §3.5: delivery time expired


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient that was given up, and the last word on it.

    `reasons` are whole phrases, one for each provider that cannot carry the message. `expired` means that `outcome` was
    a deferral and time ran out; `maybe_relayed` that the remote may have taken the message all the same.
    """

    recipient: Recipient
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    expired: bool = False
    maybe_relayed: bool = False


def wanted(entry: Entry, recipient: Recipient) -> bool:
    """Whether the sender is to hear that this recipient failed: never for a null reverse-path or a bounce of ours."""
    if not entry.envelope.reverse_path or entry.bounce:
        return False
    return not recipient.notify or Notify.FAILURE in recipient.notify


def bounce(
    *,
    entry: Entry,
    failures: Sequence[Failure],
    sender: str,
    hostname: str,
    bounce_id: str,
    now: float,
    report: bool,
) -> bytes:
    """The bounce about these recipients of `entry`, a whole message with CRLF line ends.

    `bounce_id` is the queue id of the bounce itself. `report` False builds plain text instead of multipart/report.
    """
    readable = _readable(entry, failures, hostname, now)
    original = _cut(edits.apply(entry.header, entry.edits))
    head = _head(entry, sender, hostname, bounce_id, now)
    if not report:
        text = f"{readable}\r\nThe header of your message:\r\n\r\n{_lines(original.decode('utf-8', 'replace'))}"
        return head + _part("text/plain", text.encode())
    parts = (
        _part("text/plain", readable.encode(), "Notification"),
        _part("message/delivery-status", _status(entry, failures, hostname, now).encode("ascii"), "Delivery report"),
        _part("text/rfc822-headers", original, "Header of the undelivered message"),
    )
    boundary = _boundary(parts, bounce_id)
    content_type = f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n'
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return head + content_type.encode() + b"\r\nThis is a report in MIME format.\r\n\r\n" + body + delimiter + b"--\r\n"


def _head(entry: Entry, sender: str, hostname: str, bounce_id: str, now: float) -> bytes:
    """The bounce's own header fields, all but those of its content. `Auto-Submitted` keeps auto-responders quiet (RFC 3834)."""
    head = (
        f"From: Mail Delivery System {_mailbox(sender, 'Mail Delivery System')}\r\n"
        f"To: {_mailbox(entry.envelope.reverse_path, 'Sender')}\r\n"
        "Subject: Undelivered mail returned to sender\r\n"
        f"Date: {_date(now)}\r\n"
        f"Message-ID: <{bounce_id}@{_ascii(hostname)}>\r\n"
    )
    if _MESSAGE_ID.fullmatch(entry.message_id):
        head += f"In-Reply-To: {entry.message_id}\r\nReferences: {entry.message_id}\r\n"
    return (head + "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n").encode("ascii")


# The part for people


def _readable(entry: Entry, failures: Sequence[Failure], hostname: str, now: float) -> str:
    subject = _clean(header.text(header.first(entry.header, "subject")))[:_MAX_SUBJECT]
    whom = "this recipient" if len(failures) == 1 else f"these {len(failures)} recipients"
    lines = [
        f"This is the mail relay at {_clean(hostname)}.",
        "",
        f"Your message could not be delivered to {whom}:",
        "",
        *(f"  <{_clean(failure.recipient.address)[:_MAX_TEXT]}>" for failure in failures),
        "",
        *([f"Subject:     {subject}"] if subject else []),
        f"Accepted:    {_date(entry.arrived)}",
        f"Queue id:    {entry.queue_id}",
    ]
    for failure in failures:
        lines += ["", f"<{_clean(failure.recipient.address)[:_MAX_TEXT]}>", *_explain(entry, failure, hostname, now)]
    lines += ["", "Nothing is reported here about other recipients of the message.", ""]
    return "\r\n".join(lines)


def _explain(entry: Entry, failure: Failure, hostname: str, now: float) -> list[str]:
    """What happened to one recipient, in plain words, with what the remote said and what would mend it."""
    outcome = failure.outcome
    said = _wrap("    ", outcome.reply)
    if failure.reasons:
        lines = ["  The message cannot be carried by any provider that it may take:"]
        lines += [line for reason in failure.reasons for line in _wrap("    - ", reason)]
    elif failure.expired:
        lines = [f"  Not delivered within {_duration(now - entry.arrived)}{_attempts(entry, failure)}."]
        lines += ["  It will not be tried again.", *_wrap("  ", f"The last result{_at(outcome)} was:"), *said]
    elif outcome.own:
        lines = ["  The message was not sent. The relay found:", *said]
    else:
        lines = [*_wrap("  ", f"Refused for good by {outcome.remote}, which said:"), *said]
    if failure.maybe_relayed:
        lines += [
            "  The connection was lost after the message had been sent,",
            "  so it may have been delivered. Ask the recipient before you send it again.",
        ]
    if outcome.mend:
        lines += _wrap("  ", f"For the administrator of {hostname}: {outcome.mend}")
    return lines


def _wrap(indent: str, text: str) -> list[str]:
    """Outside text as indented lines of at most 72 characters, where its words allow it."""
    text = _clean(text)[:_MAX_TEXT]
    hanging = " " * len(indent)
    return textwrap.wrap(text, 72, initial_indent=indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


def _at(outcome: Outcome) -> str:
    return "" if outcome.own else f", at {outcome.remote},"


def _attempts(entry: Entry, failure: Failure) -> str:
    count = next((state.attempts for state in entry.recipients if state.recipient.address == failure.recipient.address), 0)
    return f" ({count} attempt{'s' if count > 1 else ''})" if count else ""


def _duration(seconds: float) -> str:
    """A length of time in its two largest units: `5 days`, `1 hour 30 minutes`."""
    rest, words = max(int(seconds), 0), []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(words[:2]) or "0 seconds"


# The part for programs


def _status(entry: Entry, failures: Sequence[Failure], hostname: str, now: float) -> str:
    """The fields of message/delivery-status: one block for the message, one for each recipient (RFC 3464 §2)."""
    block = [f"Reporting-MTA: dns; {_ascii(hostname)}", f"X-Relay-Queue-Id: {entry.queue_id}"]
    if entry.envelope.envid:
        block.insert(0, f"Original-Envelope-Id: {_ascii(entry.envelope.envid)}")
    block.append(f"Arrival-Date: {_date(entry.arrived)}")
    blocks = [block, *(_recipient_status(failure, now) for failure in failures)]
    return "\r\n\r\n".join("\r\n".join(block) for block in blocks) + "\r\n"


def _recipient_status(failure: Failure, now: float) -> list[str]:
    outcome = failure.outcome
    block = [f"Original-Recipient: {orcpt}"] if (orcpt := _orcpt(failure.recipient.orcpt)) else []
    block += [
        f"Final-Recipient: rfc822; {_ascii(failure.recipient.address)}",
        "Action: failed",
        f"Status: {_EXPIRED if failure.expired else _ascii(outcome.status)}",
    ]
    if not outcome.own:
        block.append(f"Remote-MTA: dns; {_ascii(outcome.remote.partition('[')[0]) or 'unknown'}")
    diagnostic = f"Diagnostic-Code: {_diagnostic_type(outcome)}; {_ascii(outcome.reply)[:_MAX_TEXT]}"
    block += textwrap.wrap(diagnostic, 76, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    if not (failure.expired or outcome.own):
        block.append(f"Last-Attempt-Date: {_date(now)}")
    return block


def _diagnostic_type(outcome: Outcome) -> str:
    """`smtp` only for what a mail server really said. No mail server answers on 443: there, an API spoke."""
    if outcome.own or outcome.remote.endswith(":443") or not _SMTP_REPLY.match(outcome.reply):
        return "X-Relay"
    return "smtp"


def _orcpt(orcpt: str) -> str:
    kind, _, rest = orcpt.partition(";")
    if not rest or not _ADDR_TYPE.fullmatch(kind):
        return ""
    return f"{kind}; {_xtext(rest) if kind.lower() == 'utf-8' else _ascii(rest)}"


def _xtext(text: str) -> str:
    """The escaped form of a UTF-8 address (RFC 6533 §3)."""
    return _NOT_XTEXT.sub(lambda match: f"\\x{{{ord(match.group()):02X}}}", text)[:_MAX_TEXT]


# What keeps hostile text inside its place


def _clean(text: str) -> str:
    """Printable text in one line: control, format and surrogate characters become spaces."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _ascii(text: str) -> str:
    """Printable ASCII of bounded length, fit for a header field."""
    return _clean(text).encode("ascii", "replace").decode("ascii")[:_MAX_TEXT].strip()


def _lines(text: str) -> str:
    """`_clean` for each line of a text with CRLF line ends; tabs become spaces."""
    return "\r\n".join(_clean(line) for line in text.split("\r\n"))


def _mailbox(address: str, group: str) -> str:
    """`<address>`, or an empty group (RFC 6854) should it be none that fits into a header field."""
    plain = address.isascii() and address.isprintable() and len(address) <= _MAX_TEXT
    return f"<{address}>" if plain else f"{group}:;"


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


def _cut(block: bytes) -> bytes:
    """At most 64 KiB of a header block, whole lines."""
    if len(block) <= _MAX_HEADER:
        return block
    return block[: block.rfind(b"\n", 0, _MAX_HEADER) + 1]


def _part(content_type: str, body: bytes, description: str = "") -> bytes:
    """A body part: its header fields, an empty line and `body`, re-encoded only when it is not clean 7-bit text."""
    charset = "" if not content_type.endswith("plain") else "; charset=us-ascii" if body.isascii() else "; charset=utf-8"
    head = f"Content-Type: {content_type}{charset}\r\n"
    if description:
        head = f"Content-Description: {description}\r\n{head}"
    encoding = "7bit"
    if not _is_clean(body):
        encoding, body = "quoted-printable", _quoted_printable(body)
    return f"{head}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def _is_clean(body: bytes) -> bool:
    lines = body.split(b"\r\n")
    stray = any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    return body.isascii() and not stray and max(map(len, lines)) <= _MAX_LINE


def _quoted_printable(body: bytes) -> bytes:
    """RFC 2045 §6.7, line by line, so that only CRLF stays a line end."""
    return b"\r\n".join(b2a_qp(line, istext=False).replace(b"\n", b"\r\n") for line in body.split(b"\r\n"))


def _boundary(parts: Sequence[bytes], bounce_id: str) -> str:
    """A boundary that occurs in no part. Queue ids can be guessed, so it is checked and not only chosen."""
    boundary, count = f"=_{bounce_id}", 0
    while any(boundary.encode() in part for part in parts):
        count += 1
        boundary = f"=_{bounce_id}.{count}"
    return boundary
