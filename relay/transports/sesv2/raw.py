"""A message as it is: what leaves is the stored message with its edits.

The header stays what the app wrote, and `Destination` is the envelope: all recipients stand in ToAddresses, because SES takes
no header from it and its events list the recipients flat. ReplyToAddresses is never given, and FromEmailAddress only where
asked for: they replace header fields. Nor is FeedbackForwardingEmailAddress: SES refuses one that is not verified, and an
envelope's reverse-path often is not. Changed beyond the edits are only parts with 8-bit text or lines over 998 octets (never
signed ones), header lines over 998 octets, which are folded, domains in address fields, which become A-labels, and a field that
SES wants once, which goes once.

Everything that SES is known to refuse is found before sending, and then CannotCarry names each reason. Pure.
Amazon SES API v2 reference and developer guide 2026-11: SendEmail, RawMessage, Destination, "Amazon SES header fields",
"Service quotas".
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

from relay import edits, fidelity, header, mime, reencoding
from relay.directives import Directives
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.mailboxes import Mailbox
from relay.model import Edit, Facts
from relay.reencoding import Stretch
from relay.transports import refused, singles
from relay.transports.bodies import Body, Encoded
from relay.transports.sesv2.addresses import MAILBOX, sendable, takes, written
from relay.transports.sesv2.options import Options
from relay.transports.sesv2.payload import REFUSAL, About, Payload, grouped, members, payloads

_OPENING = b'{"Content":{"Raw":{"Data":"'
_CLOSING = b'"}},'


class Source(NamedTuple):
    """A stored message, whose header block is `block`, on its way out."""

    message: bytes
    block: bytes
    facts: Facts
    changes: Sequence[Edit]


class Terms(NamedTuple):
    """What the configuration says of carrying a message: octets at most, after base64; whether FromEmailAddress is wanted with a
    message that goes as it is; and what becomes of one that loses something."""

    max_size: int
    from_member: bool = False
    on_loss: Literal["refuse", "warn"] = "refuse"


def requests(
    source: Source, recipients: Sequence[str], asked: Directives, options: Options, terms: Terms, *, apart: bool, why: str = ""
) -> tuple[Payload, ...]:
    """The requests that carry the message to `recipients`, each of whom is in exactly one. Raises CannotCarry."""
    draft = _Draft(source, terms)
    draft.reasons += (*asked.refused, *options.reasons)
    forms = {recipient: sendable(recipient) for recipient in recipients}
    if not any(forms.values()):
        draft.reasons.append(REFUSAL)
    if draft.reasons:
        raise CannotCarry(draft.reasons, status="5.3.4" if draft.too_big else "5.6.3")
    alone = apart or options.apart
    ends = [
        (group, members({**draft.author, "Destination": {"ToAddresses": [forms[one] for one in group]}, **options.members}))
        for group in grouped(recipients, together=lambda one: not alone and MAILBOX.fullmatch(forms[one]) is not None)
    ]
    losses = (*(Loss("cosmetic", what) for what in asked.ignored), *draft.losses, *options.losses)
    front = Body((_OPENING, Encoded(draft.head, *draft.body), _CLOSING))
    return payloads(front, ends, About(tuple(draft.senders), options.uses, losses, why), takes)


class _Draft:
    """Header block and rest as they leave, and every reason against them."""

    def __init__(self, source: Source, terms: Terms) -> None:
        self.reasons: list[str] = []
        self.losses: list[Loss] = []
        self.too_big = False
        self.senders: list[str] = []
        self.author: dict[str, str] = {}
        message, block = source.message, source.block
        head, self.body = self._seven_bit(source) or (block, (memoryview(message)[len(block) :],))
        once = singles.reduced(reencoding.folded(reencoding.with_a_labels(edits.apply(head, source.changes))))
        self.head = once.block
        self.reasons += once.reasons
        self.losses += [Loss("cosmetic", what) for what in once.losses]
        self.reasons += refused.by_lines("ses", self.head)
        self._read_addresses(terms)
        self._look_at_files(message)
        size = Encoded(self.head, *self.body).size
        if size > terms.max_size:
            self.too_big = True
            self.reasons.append(f"the message has {size:,} octets after base64; Amazon SES takes {terms.max_size:,}")

    def _seven_bit(self, source: Source) -> tuple[bytes, tuple[Stretch, ...]] | None:
        """Header block and rest with 7-bit text and lines of at most 998 octets as far as they may be touched; SES breaks 8-bit
        text when it tracks, and takes no lines over 1,000 octets. None where the message goes as it is."""
        long = source.facts.longest_line > header.MAX_LINE
        for eight_bit in (True, False):
            if not (long or (eight_bit and source.facts.eight_bit)):
                break
            try:
                return reencoding.seven_bit(source.message, source.block, source.changes, eight_bit=eight_bit)
            except mime.MimeError as error:
                if not eight_bit:
                    self.reasons.append(f"Amazon SES takes no lines over {header.MAX_LINE} octets, and {error}")
        return None

    def _read_addresses(self, terms: Terms) -> None:
        """Who sends, and what SES would stumble over."""
        authors = fidelity.mailboxes_in(self.head, "from")
        self.senders += [box.address for box in (*authors, *fidelity.mailboxes_in(self.head, "sender"))]
        self.reasons += refused.by_header("ses", self.head)
        if authors and terms.from_member:
            self._name_author(authors, terms)

    def _name_author(self, authors: Sequence[Mailbox], terms: Terms) -> None:
        """FromEmailAddress, which takes the place of the From field and is one mailbox."""
        self.author = {"FromEmailAddress": written(authors[0])}
        if len(authors) > 1:
            loss = Loss("hard", "more than one From address")
            self.losses.append(loss)
            if terms.on_loss == "refuse":
                self.reasons.append(loss.what)

    def _look_at_files(self, message: bytes) -> None:
        """Refuse the types of file that SES refuses; in a message beyond what we take apart it looks itself."""
        with contextlib.suppress(mime.MimeError):
            self.reasons += refused.blocked("ses", (part.filename for part in mime.parse(message).walk()))
