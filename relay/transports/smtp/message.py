"""What one transaction says: the plan made before anything is sent, and the commands and octets for a server once its extensions
are known.

A message leaves byte for byte as it is stored, apart from its edits, from re-encoding where the server cannot take 8 bits or
long lines (those of the header are folded), from domains in address fields, which become A-labels where the server reads them or
the message could not go otherwise, and from the control fields of the server's dialect.
RFC 5321, 6152 (8BITMIME), 6531 (SMTPUTF8), 1870 (SIZE).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from relay import address, directives, edits, header, mailboxes, mime, reencoding
from relay.errors import CannotCarry
from relay.model import Job, Message, Notify, Recipient, Verdict
from relay.reencoding import Stretch
from relay.transports import esmtp, refused, singles, stamps
from relay.transports.conversation import SMALL, Refused, Transaction, Trouble
from relay.transports.smtp.judging import domains
from relay.transports.smtp.settings import SmtpSettings

BEST: Mapping[str, str] = {"8bitmime": "", "smtputf8": ""}
"""The extensions that a preview supposes of a server that nobody knows."""
OF_PROVIDERS: Mapping[str, str] = {"8bitmime": ""}
"""Those that it supposes of a provider's: none of them offers SMTPUTF8 (EHLO replies as seen, 2026-11)."""

_PIECE = 64 * 1024
_THREAD = 256 * 1024  # a message from this size on is re-encoded in a thread


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a transaction before the server is asked. `senders` are the addresses of From, Sender and reverse-path, in
    this order; `losses` are fields that the server takes once and that stand there more than once, and what of the control fields
    it cannot be told. `stamped` are those that it gets where it takes 8 bits. `sealed`: the message is signed or encrypted, and is not
    to be rewritten. `apart`: a transaction for each recipient, because the server puts one contact's own link into the message. A
    plan with a `refusal`, which says why the provider takes no such recipient, is never sent."""

    reverse_path: str
    substituted: bool = False  # the reverse-path is null, and the server needs a sender
    senders: tuple[str, ...] = ()
    configuration_set: str = ""
    tenant: str = ""
    losses: tuple[str, ...] = ()
    stamped: bytes = b""
    sealed: bool = False
    apart: bool = False
    refusal: str = ""

    @property
    def identities(self) -> tuple[str, ...]:
        """What the transaction uses of the account that may be misconfigured."""
        named = {"configuration_set": self.configuration_set, "tenant": self.tenant}
        return (*(f"domain={domain}" for domain in domains(self.senders)), *(f"{kind}={name}" for kind, name in named.items() if name))


def plan(job: Job, settings: SmtpSettings, *, sealed: bool = False) -> Plan:
    """Sender and identities of the job's transactions; `sealed` is what `look_inside` found. Raises CannotCarry with every reason
    found."""
    reasons: list[tuple[str, str]] = []
    size = job.message.facts.size
    if settings.max_size and size > settings.max_size:
        reasons.append((f"the message has {size} octets; the server takes {settings.max_size}", "5.3.4"))
    reverse_path, substituted = job.envelope.reverse_path, False
    leaving = edits.apply(job.message.header, job.edits)
    authors = _named(leaving, "from") if settings.dialect or not reverse_path else []
    if not reverse_path and settings.needs_sender:
        reverse_path, substituted = settings.bounce_from or "".join(authors[:1]), True
        if not reverse_path:
            reasons.append(("the server takes no null reverse-path, and neither bounce.from nor a From field names another", "5.1.7"))
    once = _as_taken(leaving, settings)
    stamped = _stamped(job, settings, eight_bit=True, sealed=sealed)
    by_header = (*refused.by_header(settings.dialect, once.block), *refused.by_lines(settings.dialect, once.block))
    reasons += [(reason, "5.6.3") for reason in (*once.reasons, *stamped.reasons, *by_header)]
    if settings.dialect and esmtp.needs_smtputf8(replace(job.envelope, reverse_path=reencoding.a_labels(reverse_path)), (), _plain(job)):
        reasons.append((f"the message needs SMTPUTF8, which {refused.WHO[settings.dialect]} does not offer", "5.6.7"))
    if reasons:
        raise CannotCarry([reason for reason, _ in reasons], reasons[0][1])
    losses = (*once.losses, *stamped.losses)
    if not settings.dialect:
        return Plan(reverse_path, substituted, losses=losses)
    return Plan(
        reverse_path,
        substituted,
        senders=tuple(dict.fromkeys([*authors, *_named(leaving, "sender"), reverse_path])),
        configuration_set=stamped.configuration_set,
        tenant=stamped.tenant,
        losses=losses,
        stamped=stamped.fields,
        sealed=sealed,
        apart=stamped.contact_list,
    )


async def look_inside(job: Job, settings: SmtpSettings) -> bool:
    """Whether the message is signed or encrypted, as far as the provider has a switch for what would spoil that. Raises CannotCarry
    for what the provider is known to refuse, or to drop, of a message's parts. Only a message that may hold such a part is read."""
    if settings.dialect not in refused.BLOCKED:
        return False
    if settings.dialect == "ses" and job.message.facts.longest_line > header.MAX_LINE:
        try:
            await _converted(job, seven=False)
        except mime.MimeError as error:
            raise CannotCarry([f"Amazon SES takes no lines over {header.MAX_LINE} octets, and {error}"]) from error
    with contextlib.suppress(mime.MimeError):
        single = mime.parse(job.message.header)
        if single.maintype == "text" and not single.filename and job.message.facts.size <= refused.POSTMARK_BODY:
            return False
    data = await job.message.read()
    look = functools.partial(_looked, job, settings, data)
    (blocked, large), sealed = await asyncio.to_thread(look) if len(data) > _THREAD else look()
    if blocked or large:
        raise CannotCarry([*blocked, *large], "5.6.3" if blocked else "5.3.4")
    return sealed


def _looked(job: Job, settings: SmtpSettings, data: bytes) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], bool]:
    sealed = settings.dialect == "postmark" and reencoding.sealed(data, job.message.header, job.edits)
    return refused.by_content(settings.dialect, data), sealed


def sorted_out(recipients: Sequence[Recipient], settings: SmtpSettings) -> tuple[tuple[Recipient, ...], tuple[Recipient, ...]]:
    """Those whose addresses the provider has a form for, and the others, for whom it would drop the whole message. Raises
    CannotCarry where there are only others."""
    taken = tuple(one for one in recipients if refused.takes(settings.dialect, one.address))
    if not taken:
        raise CannotCarry([refused.refusal(settings.dialect)], "5.1.3")
    return taken, tuple(one for one in recipients if one not in taken)


def _as_taken(block: bytes, settings: SmtpSettings, *, a_labels: bool = False) -> singles.Reduced:
    """The header block as the server takes it. Amazon SES reads the addresses in it, has no SMTPUTF8, and refuses a message where
    some fields stand twice."""
    if settings.dialect == "ses":
        return singles.reduced(reencoding.folded(reencoding.with_a_labels(block)))
    return singles.Reduced(reencoding.folded(reencoding.with_a_labels(block) if a_labels else block))


def _plain(job: Job) -> bytes:
    """The header as it leaves for a server without SMTPUTF8."""
    return reencoding.with_a_labels(edits.strip(job.message.header, job.edits))


def _named(block: bytes, name: str) -> list[str]:
    """The addresses of a field that could stand in an envelope."""
    value = header.first(block, name).decode("utf-8", "replace")
    return [box.address for box in mailboxes.parse(value) if address.valid(box.address)]


def _stamped(job: Job, settings: SmtpSettings, *, eight_bit: bool, sealed: bool) -> stamps.Stamped:
    return stamps.stamp(
        settings.dialect,
        job.message.header,
        job.queue_id,
        obeyed=directives.obeyed(settings.controls, job.listener),
        defaults=settings.defaults,
        streams=settings.streams,
        stream=settings.stream,
        eight_bit=eight_bit,
        sealed=sealed,
    )


async def transaction(job: Job, planned: Plan, settings: SmtpSettings, extensions: esmtp.Extensions) -> Transaction:
    """What to say to a server with these extensions. Raises Trouble with Refused when they do not suffice."""
    message, facts = job.message, job.message.facts
    envelope = replace(job.envelope, reverse_path=planned.reverse_path) if planned.substituted else job.envelope
    recipients = job.recipients
    utf8 = esmtp.needs_smtputf8(envelope, recipients, edits.strip(message.header, job.edits))
    if a_labels := utf8 and "smtputf8" not in extensions:
        envelope = replace(envelope, reverse_path=reencoding.a_labels(envelope.reverse_path))
        recipients = tuple(replace(one, address=reencoding.a_labels(one.address)) for one in recipients)
        utf8 = esmtp.needs_smtputf8(envelope, recipients, _plain(job))
    if utf8 and "smtputf8" not in extensions:
        raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.6.7", "the message needs SMTPUTF8, which the server does not offer"))
    block, eight_bit = message.header, facts.eight_bit
    length = facts.size - len(block)
    body: AsyncIterator[bytes] | bytes | None = None
    must = eight_bit and "8bitmime" not in extensions
    seven = must or (eight_bit and settings.seven_bit)
    if (seven or facts.longest_line > header.MAX_LINE) and (converted := await _seven_bit(job, seven, must)):
        block, stretches = converted
        length = sum(map(len, stretches))
        eight_bit = eight_bit and not (block.isascii() and all(piece.isascii() for piece in _pieces(stretches)))
        body = b"".join(stretches) if length <= SMALL else _in_pieces(stretches)
    stamped = planned.stamped
    if "8bitmime" not in extensions and not stamped.isascii():
        stamped = _stamped(job, settings, eight_bit=False, sealed=planned.sealed).fields
    eight_bit = eight_bit or not stamped.isascii()
    block = stamped + _as_taken(edits.apply(block, job.edits), settings, a_labels=a_labels).block
    size = len(block) + length
    limit = min(filter(None, (esmtp.size_limit(extensions), settings.max_size)), default=0)
    if limit and size > limit:
        raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.3.4", f"the message has {size} octets; the server takes {limit}"))
    if body is None:
        skip = len(message.header)
        body = (await message.read())[skip:] if size <= SMALL else _after(message, skip)
    mail = esmtp.mail(envelope, extensions, size=size, eight_bit=eight_bit, utf8=utf8)
    # Mail with a null reverse-path asks for no notification, and must not begin to because it gets a sender (RFC 3461 §4.1).
    told = [replace(one, notify=frozenset({Notify.NEVER})) for one in recipients] if planned.substituted else recipients
    rcpts = [esmtp.rcpt(recipient, extensions) for recipient in told]
    return Transaction(mail, rcpts, block, body, size)


async def whole(what: Transaction) -> bytes:
    """The message of a transaction in one piece."""
    body = what.body if isinstance(what.body, bytes) else b"".join([piece async for piece in what.body])
    return what.header + body


async def _seven_bit(job: Job, seven: bool, must: bool) -> tuple[bytes, tuple[Stretch, ...]] | None:
    """Header block and rest of the message with lines of 998 octets, and 7 bits where these are wanted (`seven`); None when it
    goes as it is: there is nothing to do, or it may not be touched. Raises Trouble where it `must`."""
    for wanted in (True, False) if seven else (False,):
        if not wanted and job.message.facts.longest_line <= header.MAX_LINE:
            break
        try:
            return await _converted(job, wanted)
        except mime.MimeError as error:
            if must:
                raise Trouble("mail", Refused(Verdict.PERM_MSG, "5.6.3", f"8BITMIME is not offered, and {error}")) from error
    return None


async def _converted(job: Job, seven: bool) -> tuple[bytes, tuple[Stretch, ...]] | None:
    """As `_seven_bit`. Raises MimeError where the message may not be touched."""
    data = await job.message.read()
    convert = functools.partial(reencoding.seven_bit, data, job.message.header, job.edits, eight_bit=seven)
    return await asyncio.to_thread(convert) if len(data) > _THREAD else convert()


def _pieces(stretches: Sequence[Stretch]) -> Iterator[bytes]:
    for stretch in stretches:
        for start in range(0, len(stretch), _PIECE):
            yield bytes(stretch[start : start + _PIECE])


async def _in_pieces(stretches: Sequence[Stretch]) -> AsyncIterator[bytes]:
    for piece in _pieces(stretches):
        yield piece


async def _after(message: Message, skip: int) -> AsyncIterator[bytes]:
    """The message's octets after the first `skip`."""
    async for chunk in message.chunks():
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))
