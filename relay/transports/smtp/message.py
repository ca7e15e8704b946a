"""What one transaction says: the plan made before anything is sent, and the commands and octets for a server once its extensions
are known.

A message leaves byte for byte as it is stored, apart from its edits, from re-encoding where the server cannot take 8 bits or
long lines, and from the control fields of the server's dialect. RFC 5321, 6152 (8BITMIME), 6531 (SMTPUTF8), 1870 (SIZE).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from relay import address, edits, header, mailboxes, mime
from relay.errors import CannotCarry
from relay.model import Edit, Job, Message, Notify, Verdict
from relay.transports import esmtp, presets
from relay.transports.conversation import SMALL, Refused, Transaction, Trouble
from relay.transports.smtp.settings import SmtpSettings

BEST: Mapping[str, str] = {"8bitmime": "", "smtputf8": ""}
"""The extensions that a preview supposes."""

_MAX_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1
_THREAD = 256 * 1024  # a message from this size on is re-encoded in a thread


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a transaction before the server is asked. `domains` are the sender's, that of From first."""

    reverse_path: str
    substituted: bool = False  # the reverse-path is null, and the server needs a sender
    domains: tuple[str, ...] = ()
    configuration_set: str = ""

    @property
    def identities(self) -> tuple[str, ...]:
        """What the transaction uses of the account that may be misconfigured."""
        named = (f"configuration_set={self.configuration_set}",) if self.configuration_set else ()
        return (*(f"domain={domain}" for domain in self.domains), *named)


def plan(job: Job, settings: SmtpSettings) -> Plan:
    """Sender and identities of the job's transactions. Raises CannotCarry with every reason found."""
    reasons: list[tuple[str, str]] = []
    size = job.message.facts.size
    if settings.max_size and size > settings.max_size:
        reasons.append((f"the message has {size} octets; the server takes {settings.max_size}", "5.3.4"))
    reverse_path, substituted = job.envelope.reverse_path, False
    author = _author(job) if settings.dialect or not reverse_path else ""
    if not reverse_path and settings.needs_sender:
        reverse_path, substituted = settings.bounce_from or author, True
        if not reverse_path:
            reasons.append(("the server takes no null reverse-path, and neither bounce.from nor a From field names another", "5.1.7"))
    if reasons:
        raise CannotCarry([reason for reason, _ in reasons], reasons[0][1])
    if not settings.dialect:
        return Plan(reverse_path, substituted)
    domains = dict.fromkeys(domain for box in (author, reverse_path) if (domain := _domain(box)))
    return Plan(reverse_path, substituted, tuple(domains), presets.configuration_set(_stamped(job, settings, eight_bit=True)))


def _author(job: Job) -> str:
    """The first address of From; "" where it names none that could stand in an envelope."""
    value = header.first(job.message.header, "from").decode("utf-8", "replace")
    return next((box.address for box in mailboxes.parse(value) if address.valid(box.address)), "")


def _domain(box: str) -> str:
    try:
        return address.domain_ascii(address.split(box)[1])
    except address.AddressError:
        return ""


def _stamped(job: Job, settings: SmtpSettings, *, eight_bit: bool) -> bytes:
    controls = settings.controls.get(job.listener, ()) if job.listener else None
    return presets.stamp(
        settings.dialect,
        job.message.header,
        job.queue_id,
        obeyed=presets.obeys(settings.dialect, controls),
        defaults=settings.defaults,
        eight_bit=eight_bit,
    )


async def transaction(job: Job, planned: Plan, settings: SmtpSettings, extensions: esmtp.Extensions) -> Transaction:
    """What to say to a server with these extensions. Raises Trouble with Refused when they do not suffice."""
    message, facts = job.message, job.message.facts
    envelope = replace(job.envelope, reverse_path=planned.reverse_path) if planned.substituted else job.envelope
    utf8 = esmtp.needs_smtputf8(envelope, job.recipients, message.header)
    if utf8 and "smtputf8" not in extensions:
        raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.6.7", "the message needs SMTPUTF8, which the server does not offer"))
    block, eight_bit = message.header, facts.eight_bit
    length = facts.size - len(block)
    body: AsyncIterator[bytes] | bytes | None = None
    must = eight_bit and "8bitmime" not in extensions
    seven = must or (eight_bit and settings.seven_bit)
    if (seven or facts.longest_line > _MAX_LINE) and (converted := await _seven_bit(job, seven, must)):
        block, body = converted
        eight_bit = eight_bit and not (block.isascii() and body.isascii())
        length = len(body)
    stamped = _stamped(job, settings, eight_bit="8bitmime" in extensions)
    eight_bit = eight_bit or not stamped.isascii()
    block = stamped + edits.apply(block, job.edits)
    size = len(block) + length
    limit = esmtp.size_limit(extensions)
    if limit and size > limit:
        raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.3.4", f"the message has {size} octets; the server takes {limit}"))
    if body is None:
        skip = len(message.header)
        body = (await message.read())[skip:] if size <= SMALL else _after(message, skip)
    mail = esmtp.mail(envelope, extensions, size=size, eight_bit=eight_bit, utf8=utf8)
    # Mail with a null reverse-path asks for no notification, and must not begin to because it gets a sender (RFC 3461 §4.1).
    told = [replace(one, notify=frozenset({Notify.NEVER})) for one in job.recipients] if planned.substituted else job.recipients
    rcpts = [esmtp.rcpt(recipient, extensions) for recipient in told]
    return Transaction(mail, rcpts, block, body, size)


async def whole(what: Transaction) -> bytes:
    """The message of a transaction in one piece."""
    body = what.body if isinstance(what.body, bytes) else b"".join([piece async for piece in what.body])
    return what.header + body


async def _seven_bit(job: Job, seven: bool, must: bool) -> tuple[bytes, bytes] | None:
    """Header block and rest of the message with lines of 998 octets, and 7 bits where these are wanted (`seven`); None when it
    goes as it is: there is nothing to do, or it may not be touched. Raises Trouble where it `must`."""
    data = await job.message.read()
    try:
        convert = functools.partial(_convert, data, job.message.header, job.edits, seven)
        return await asyncio.to_thread(convert) if len(data) > _THREAD else convert()
    except mime.MimeError as error:
        if must:
            raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.6.3", f"8BITMIME is not offered, and {error}")) from error
        return None


def _convert(data: bytes, stored: bytes, changes: Sequence[Edit], seven: bool) -> tuple[bytes, bytes] | None:
    """Header block and rest, re-encoded; None when nothing changes. What no recipient may see is out before that: in a torn
    header block it would become text."""
    shown = edits.strip(stored, changes) + data[len(stored) :]
    converted = mime.to_seven_bit(shown, eight_bit=seven)
    if converted is shown:
        return None
    block, body = header.split(converted)
    ended = data.startswith(b"\r\n", len(stored))
    return block, converted[len(block) if ended else body :]  # where no empty line was, the edits bring one


async def _after(message: Message, skip: int) -> AsyncIterator[bytes]:
    """The message's octets after the first `skip`."""
    async for chunk in message.chunks():
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))
