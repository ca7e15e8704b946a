"""Notices: the messages that tell a sender what became of a mail: failed (the bounce), delayed, or relayed as asked.

Built either as a report (multipart/report, RFC 6522 and RFC 3464: a readable part, a part for programs, the header
block of the original) or as plain text with the header block of the original, for a provider that carries no reports.
The original is returned as it left, with the edits applied, so that neither Bcc nor control headers show.

RET=FULL (RFC 3461 §4.3) is honoured where a recipient failed and the message is still there, has at most 64 KiB
(`MAX_WHOLE`) and can be written in 7 bits; else the header block comes back, which the RFC leaves to us. A notice of
ours that failed comes back whole by the same rule, whatever its RET: the postmaster needs what it says.

Promise: whatever a remote, a client or a header block said, the result is 7-bit, has CRLF line ends and no line longer
than 998 octets, and nothing of it becomes a header field or a MIME boundary of the notice.
Pure: time, ids and names are arguments. Never raises.
"""

from __future__ import annotations

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum

from relay import edits, header, mime, reencoding
from relay.model import Entry, Notify, Outcome, Recipient

MAX_WHOLE = 64 * 1024
"""Octets up to which a message is returned whole."""
SENDER_NAME = "Mail Delivery System"
_MAX_TEXT = 900  # of a reply or an address, so that with its field name it stays below header.MAX_LINE
_MAX_SUBJECT = 200
_MAX_HEADER = 64 * 1024  # of the original's header block
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_ADDR_TYPE = re.compile(r"[A-Za-z0-9-]{1,40}")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 §3, QCHAR
_SMTP_REPLY = re.compile(r"[245][0-9][0-9](?![0-9])")
_SMTP_REMOTE = re.compile(r".*:(?!443$)[0-9]+", re.DOTALL)  # host[ip]:port; no mail server answers on 443: there, an API spoke
_EXPIRED = "4.4.7"  # RFC 3463 §3.5: delivery time expired


class Action(StrEnum):
    """What became of a recipient (RFC 3464 §2.3.3). Never `delivered`: what the next system does with a mail, it alone knows."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Report:
    """One recipient, what became of it, and the last word on it.

    `reasons` are whole phrases, one for each provider that cannot carry the message. `expired` means that `outcome` was
    a deferral and time ran out; `maybe_relayed` that the remote may have taken the message all the same. `waits_for` says
    in words what a delayed recipient waits for, or an expired one waited for; it is the outcome's reply where no attempt
    was made. `attempted` is when the last attempt was recorded (Unix seconds).
    """

    recipient: Recipient
    outcome: Outcome
    action: Action = Action.FAILED
    reasons: tuple[str, ...] = ()
    expired: bool = False
    maybe_relayed: bool = False
    waits_for: str = ""
    attempted: float | None = None


def wanted(entry: Entry, recipient: Recipient, what: Notify = Notify.FAILURE) -> bool:
    """Whether the sender is to hear of this: never for a null reverse-path, a bounce of ours or one that came back in.

    Who gave no NOTIFY hears of failures and delays (RFC 3461 §4.1 leaves that to us), and of a success only who asked.
    """
    if not entry.envelope.reverse_path or entry.bounce:
        return False
    asked = what in recipient.notify if recipient.notify else what is not Notify.SUCCESS
    return asked and not _is_notice(entry.header)


def _is_notice(block: bytes) -> bool:
    """Whether a message with this header block is a notice of a mail system, which must never cause another one (RFC 3834 §2).

    Ours lose their null reverse-path where an API wants a sender, and may come back in by a forwarder with any.
    """
    if not header.first(block, "auto-submitted").lower().startswith(b"auto-replied"):
        return False
    report = b"delivery-status" in header.first(block, "content-type").lower()
    return report or header.text(header.first(block, "from")).startswith(SENDER_NAME)


def returns_whole(entry: Entry, reports: Sequence[Report]) -> bool:
    """Whether the notice returns the whole message, where that is still there."""
    asked = entry.envelope.ret == "FULL" or entry.bounce
    return asked and entry.facts.size <= MAX_WHOLE and any(report.action is Action.FAILED for report in reports)


def notice(
    *,
    entry: Entry,
    reports: Sequence[Report],
    to: str,
    sender: str,
    hostname: str,
    notice_id: str,
    now: float,
    retry_until: float = 0.0,
    whole: bytes = b"",
    report: bool = True,
) -> bytes:
    """The notice about these recipients of `entry`, a whole message with CRLF line ends.

    `to` is the reverse-path, or a postmaster. `notice_id` is the queue id of the notice itself. Delayed recipients are
    tried until `retry_until`. `whole` is the message as stored, where it is to be returned. `report` False builds plain text
    instead of multipart/report.
    """
    actions = [action for action in Action if any(one.action is action for one in reports)]
    readable = _readable(entry, reports, actions, to, hostname, now, retry_until)
    original = _cut(edits.apply(entry.header, entry.edits))
    message = _seven_bit(edits.apply(entry.header, entry.edits) + whole[len(entry.header) :]) if whole else b""
    head = _head(entry, actions[0], to, sender, hostname, notice_id, now)
    if not report:
        what = "The whole message" if message else "The header of the message"
        text = f"{readable}\r\n{what}:\r\n\r\n{_lines((message or original).decode('utf-8', 'replace'))}"
        return head + _part("text/plain", text.encode())
    verb = "undelivered message" if Action.FAILED in actions else "message"
    parts = (
        _part("text/plain", readable.encode(), "Notification"),
        _part("message/delivery-status", _status(entry, reports, hostname, retry_until).encode("ascii"), "Delivery report"),
        _part("message/rfc822", message, verb.capitalize()) if message else _part("text/rfc822-headers", original, f"Header of the {verb}"),
    )
    boundary = _boundary(parts, notice_id)
    content_type = f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n'
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return head + content_type.encode() + b"\r\nThis is a report in MIME format.\r\n\r\n" + body + delimiter + b"--\r\n"


_SUBJECTS = {
    Action.FAILED: "Undelivered mail returned to sender",
    Action.DELAYED: "Delayed mail (still being retried)",
    Action.RELAYED: "Mail relayed (delivery report)",
}


def _head(entry: Entry, action: Action, to: str, sender: str, hostname: str, notice_id: str, now: float) -> bytes:
    """The notice's own header fields, all but those of its content. `Auto-Submitted` keeps auto-responders quiet (RFC 3834)."""
    subject = _SUBJECTS[action]
    if entry.bounce:
        subject = "Postmaster notice: undeliverable bounce"
    elif to != entry.envelope.reverse_path:
        subject = f"Postmaster notice: {subject.removesuffix(' returned to sender').lower()}"
    head = (
        f"From: {SENDER_NAME} {_mailbox(sender, SENDER_NAME)}\r\n"
        f"To: {_mailbox(to, 'Sender')}\r\n"
        f"Subject: {subject}\r\n"
        f"Date: {_date(now)}\r\n"
        f"Message-ID: <{notice_id}@{_ascii(hostname)}>\r\n"
    )
    if _MESSAGE_ID.fullmatch(entry.message_id):
        head += f"In-Reply-To: {entry.message_id}\r\nReferences: {entry.message_id}\r\n"
    return (head + "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n").encode("ascii")


# The part for people


def _readable(
    entry: Entry, reports: Sequence[Report], actions: Sequence[Action], to: str, hostname: str, now: float, retry_until: float
) -> str:
    subject = _clean(header.text(header.first(entry.header, "subject")))[:_MAX_SUBJECT]
    lines = [f"This is the mail relay at {_clean(hostname)}.", ""]
    for action in actions:
        mine = [report for report in reports if report.action is action]
        lines += [*_say(_whose(entry, to), action, len(mine)), "", *(f"  {_angle(report)}" for report in mine), ""]
        if action is Action.DELAYED:
            lines += [f"It is being tried until {_date(retry_until)}.", "No action is required on your part.", ""]
        elif action is Action.RELAYED:
            lines += ["That system sends no notices of success: nothing more will be reported", "unless it refuses the message later.", ""]
    if entry.bounce:
        lines += [*_wrap("", _BOUNCE_MEND), ""]
    lines += [
        *([f"Subject:     {subject}"] if subject else []),
        f"Accepted:    {_date(entry.arrived)}",
        f"Queue id:    {entry.queue_id}",
    ]
    for report in reports:  # the colon as qmail writes it, which programs that read bounces of plain text look for
        lines += ["", _angle(report) + (":" if report.action is Action.FAILED else ""), *_explain(entry, report, hostname, now)]
    lines += ["", "Nothing is reported here about other recipients of the message.", ""]
    return "\r\n".join(lines)


_BOUNCE_MEND = (
    "So the sender was not told, and nobody else is. If an application sends with an address that takes no mail, give it one that "
    "does, or let notices go to the postmaster (bounce.to)."
)


def _whose(entry: Entry, to: str) -> str:
    """The message, as whoever reads the notice knows it."""
    if entry.bounce:
        return "A notice of this relay"
    if to == entry.envelope.reverse_path:
        return "Your message"
    return f"The message from <{_clean(entry.envelope.reverse_path)[:_MAX_TEXT]}>"


def _say(whose: str, action: Action, count: int) -> list[str]:
    whom = "this recipient" if count == 1 else f"these {count} recipients"
    if action is Action.FAILED:
        return [f"{whose} could not be delivered to {whom}:"]
    if action is Action.DELAYED:
        return [f"{whose} has not yet been delivered to {whom}:"]
    return [f"{whose} was handed over to the next mail system for {whom}:"]


def _angle(report: Report) -> str:
    return f"<{_clean(report.recipient.address)[:_MAX_TEXT]}>"


_ADVICE: Mapping[str, str] = {  # what a sender can do, by the status that a remote gave (RFC 3463 §3)
    "5.1.1": "There is no such mailbox: check the address.",
    "5.1.2": "Check the part of the address behind the @.",
    "5.1.3": "Check how the address is written.",
    "5.1.6": "The recipient has moved: ask for the new address.",
    "5.2.1": "The mailbox takes no mail: ask the recipient for another address.",
    "5.2.2": "The mailbox is full: the recipient has to make room first.",
    "5.2.3": "The message is too large for this mailbox: send less, or a link.",
    "5.3.4": "The message is too large: send less, or a link.",
    "5.4.6": "The mail goes in a circle: the recipient's administrator has to mend that.",
    "5.7.1": "The other side does not take this message from you: ask the recipient or its administrator why.",
}


def _explain(entry: Entry, report: Report, hostname: str, now: float) -> list[str]:
    """What happened to one recipient, in plain words, with what the remote said and what would mend it."""
    outcome = report.outcome
    said = _wrap("    ", outcome.reply)
    if report.action is Action.RELAYED:
        return [*_wrap("  ", f"Taken over by {outcome.remote}, which said:"), *said]
    if report.reasons:
        lines = ["  The message cannot be carried by any provider that it may take:"]
        lines += [line for reason in report.reasons for line in _wrap("    - ", reason)]
    elif report.expired or report.action is Action.DELAYED:
        ending = "It will not be tried again." if report.expired else "It is still being tried."
        lines = [f"  Not delivered within {_duration(now - entry.arrived)}{_attempts(entry, report)}.", f"  {ending}"]
        if report.waits_for:
            lines += _wrap("  ", f"It {'waited' if report.expired else 'waits'} for {report.waits_for}")
        if report.waits_for != outcome.reply:
            lines += [*_wrap("  ", f"The last result{_at(outcome)} was:"), *said]
    elif outcome.own:
        lines = ["  The message was not sent. The relay found:", *said]
    else:
        lines = [*_wrap("  ", f"Refused for good by {outcome.remote}, which said:"), *said]
        lines += _wrap("  ", _ADVICE.get(outcome.status, ""))
    if report.maybe_relayed:
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


def _attempts(entry: Entry, report: Report) -> str:
    count = next((state.attempts for state in entry.recipients if state.recipient.address == report.recipient.address), 0)
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


def _status(entry: Entry, reports: Sequence[Report], hostname: str, retry_until: float) -> str:
    """The fields of message/delivery-status: one block for the message, one for each recipient (RFC 3464 §2)."""
    block = [f"Reporting-MTA: dns; {_ascii(hostname)}", f"X-Relay-Queue-Id: {entry.queue_id}"]
    if entry.envelope.envid:
        block.insert(0, f"Original-Envelope-Id: {_ascii(entry.envelope.envid)}")
    block.append(f"Arrival-Date: {_date(entry.arrived)}")
    blocks = [block, *(_recipient_status(report, retry_until) for report in reports)]
    return "\r\n\r\n".join("\r\n".join(block) for block in blocks) + "\r\n"


def _recipient_status(report: Report, retry_until: float) -> list[str]:
    outcome = report.outcome
    block = [f"Original-Recipient: {orcpt}"] if (orcpt := _orcpt(report.recipient.orcpt)) else []
    block += [
        f"Final-Recipient: {_typed(report.recipient.address)}",
        f"Action: {report.action}",
        f"Status: {_EXPIRED if report.expired else _ascii(outcome.status)}",
    ]
    if _SMTP_REMOTE.fullmatch(outcome.remote) and not outcome.own:
        block.append(f"Remote-MTA: dns; {_ascii(outcome.remote.partition('[')[0]) or 'unknown'}")
    if report.action is not Action.RELAYED:  # RFC 3464 §2.3.6
        diagnostic = f"Diagnostic-Code: {_diagnostic_type(outcome)}; {_ascii(outcome.reply)[:_MAX_TEXT]}"
        block += textwrap.wrap(diagnostic, 76, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    if report.attempted is not None:
        block.append(f"Last-Attempt-Date: {_date(report.attempted)}")
    if report.action is Action.DELAYED:
        block.append(f"Will-Retry-Until: {_date(retry_until)}")
    return block


def _diagnostic_type(outcome: Outcome) -> str:
    """`smtp` only for what a mail server really said."""
    said = not outcome.own and _SMTP_REMOTE.fullmatch(outcome.remote) and _SMTP_REPLY.match(outcome.reply)
    return "smtp" if said else "X-Relay"


def _typed(address: str) -> str:
    """An address with its type: one that is not ASCII is of the type utf-8, in the escaped form (RFC 6533 §3)."""
    return f"rfc822; {_ascii(address)}" if address.isascii() else f"utf-8; {_xtext(address)}"


def _orcpt(orcpt: str) -> str:
    kind, _, rest = orcpt.partition(";")
    if not rest or not _ADDR_TYPE.fullmatch(kind):
        return ""
    return f"{kind}; {_xtext(rest) if kind.lower() == 'utf-8' else _ascii(rest)}"


def _xtext(text: str) -> str:
    """The escaped form of a UTF-8 address (RFC 6533 §3)."""
    return _NOT_XTEXT.sub(lambda match: f"\\x{{{ord(match.group()):02X}}}", text)[:_MAX_TEXT]


def _seven_bit(message: bytes) -> bytes:
    """The message as it may stand in a message/rfc822 part, which takes no encoding of its own; b"" where it cannot be made so."""
    if not _is_clean(message):
        try:
            message = reencoding.to_seven_bit(message)
        except mime.MimeError:
            return b""
    return message if _is_clean(message) else b""


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
    return body.isascii() and not stray and max(map(len, lines)) <= header.MAX_LINE


def _quoted_printable(body: bytes) -> bytes:
    """RFC 2045 §6.7, line by line, so that only CRLF stays a line end."""
    return b"\r\n".join(b2a_qp(line, istext=False).replace(b"\n", b"\r\n") for line in body.split(b"\r\n"))


def _boundary(parts: Sequence[bytes], notice_id: str) -> str:
    """A boundary that occurs in no part. Queue ids can be guessed, so it is checked and not only chosen."""
    boundary, count = f"=_{notice_id}", 0
    while any(boundary.encode() in part for part in parts):
        count += 1
        boundary = f"=_{notice_id}.{count}"
    return boundary
