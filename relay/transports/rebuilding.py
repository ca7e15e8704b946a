"""A message as requests of a JSON API that rebuilds mail: what all such APIs have in common.

A provider subclasses `Draft` and says what its API calls things; `Draft` reads the message once and gathers losses and
reasons against it. Everything that the API is known to refuse is found before sending, and then CannotCarry names each
reason, so that another provider of the route may carry the message. Pure.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from relay import address, directives, edits, fidelity, header, mime
from relay.directives import Directives
from relay.errors import CannotCarry
from relay.fidelity import Addressed, Attachment, Loss
from relay.mailboxes import Mailbox
from relay.model import Edit
from relay.transports.bodies import Body, joined, members

# Fields that every such API sets itself or has parameters for; and trace and signature fields, which the rebuilt message
# makes wrong.
NOT_SENT = frozenset(
    {"from", "reply-to", "sender", "to", "cc", "bcc", "subject", "date", "return-path", "received", "delivered-to", "mime-version"}
    | {"dkim-signature", "domainkey-signature", "authentication-results", "resent-bcc", "from ", " ", ""}
)
_NOT_SENT_PREFIXES = ("content-", "arc-", "x-google-", *edits.CONTROL_PREFIXES)
A_FEW = 5  # recipients whom no field shows; where more have a request each, SMTP, which carries 50 and more at once, is better
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Payload:
    """One request. `content` is its JSON object without the recipients and without the opening brace, shared by all requests of
    a message; `opening` comes before it and names the recipients, `closing` after it. `uses` names what of the account may be
    misconfigured ({"domain": "example.com"}). Requests of one `kind` may go in one batch. One with a `refusal`, which says why
    the provider takes no such recipient, is never sent. `by_smtp` says why the provider's SMTP door would carry the message better."""

    path: str
    addressed: Addressed
    opening: bytes = field(repr=False)
    content: Body = field(repr=False)
    closing: bytes = field(default=b"", repr=False)
    uses: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    losses: tuple[Loss, ...] = ()
    refusal: str = ""
    by_smtp: str = ""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope addresses that it is for."""
        return self.addressed.recipients

    @property
    def identities(self) -> tuple[str, ...]:
        """What the request uses of the account that may be misconfigured."""
        return tuple(f"{kind}={name}" for kind, name in self.uses.items() if name)

    def body(self) -> Body:
        """The request's JSON."""
        return joined(self.opening, self.content, self.closing)


class Draft(ABC):
    """A message on its way to become requests. Reads the header as it leaves (`changes` applied to the stored `block`) and takes
    the rest apart. Raises CannotCarry at once where the message is beyond what we take apart."""

    name: ClassVar[str]  # of the provider, in texts
    mailbox: ClassVar[re.Pattern[str]]  # what its API takes as an address, with the domain as A-labels
    blocked: ClassVar[frozenset[str]] = frozenset()  # endings of files that it refuses
    own_fields: ClassVar[frozenset[str]] = frozenset()  # fields, beyond NOT_SENT, that are not handed over as they are
    bcc_alone: ClassVar[bool] = False  # whether a request may have neither To nor Cc

    def __init__(
        self, message: bytes, block: bytes, changes: Sequence[Edit], asked: Directives, *, on_loss: Literal["refuse", "warn"], max_size: int
    ) -> None:
        try:
            self.rebuilt = fidelity.rebuild(mime.parse_with(edits.strip(block, changes), message, len(block)))
        except mime.MimeError as error:
            raise CannotCarry([str(error)]) from error
        self.block = edits.apply(header.split(edits.strip(block, changes))[0], changes)
        self.asked = asked
        self.reasons = list(asked.refused)
        self.losses = [*self.rebuilt.losses, *(Loss("cosmetic", what) for what in asked.ignored)]
        self.domain = ""  # of the From address
        self.by_smtp = ""  # why the provider's SMTP door would carry the message better
        self._shown = {address.key(box.address) for name in ("to", "cc") for box in fidelity.mailboxes_in(self.block, name)}
        self._strict = on_loss == "refuse"
        self._max_size = max_size
        self._too_big = False

    @abstractmethod
    def opening(self, addressed: Addressed) -> bytes:
        """The request's JSON as far as the last recipient and the comma behind."""

    def lose(self, what: str, grade: Literal["hard", "cosmetic"] = "cosmetic") -> None:
        """A difference that a recipient could notice."""
        self.losses.append(Loss(grade, what))

    def refuse(self, reason: str, *, size: bool = False) -> None:
        """A reason why the provider cannot carry the message; `size` decides the status."""
        self.reasons.append(reason)
        self._too_big = self._too_big or size

    def limited(self, what: str, text: str, limit: int) -> str:
        """The text, refused above `limit` UTF-16 code units."""
        units = len(text.encode("utf-16-le", "surrogatepass")) // 2
        if units > limit:
            self.refuse(f"the {what} has {units} characters; {self.name} takes {limit}")
        return text

    @classmethod
    def takes(cls, recipient: str) -> bool:
        """Whether the API takes this address."""
        return cls.mailbox.fullmatch(sendable(recipient)) is not None

    def addressed(self, recipients: Sequence[str], *, limit: int, apart: bool) -> tuple[Addressed, ...]:
        """Who is in which request; one whom the API does not take has a request of his own."""
        return fidelity.address(
            self.block, recipients, limit=limit, alone=lambda one: apart or not self.takes(one), bcc_alone=self.bcc_alone
        )

    def weigh(self, everybody: Sequence[str], *, limit: int) -> None:
        """Find what speaks against many requests for one message. Counts by the header and all whom the message was accepted for, so
        that it goes the same way again whoever is left."""
        self.by_smtp = self.by_smtp or self._scattered(everybody, limit)

    def _scattered(self, everybody: Sequence[str], limit: int) -> str:
        if len(self._shown) > limit:
            return f"To and Cc show {len(self._shown)} addresses, and {self.name} takes {limit} in a request"
        taken = [address.key(one) for one in everybody if self.takes(one)]
        hidden = sum(one not in self._shown for one in taken)
        singly = max(0, len(taken) - limit) if len(taken) > hidden else hidden
        if self.bcc_alone or singly <= A_FEW:
            return ""
        return f"{singly} recipients whom no field shows would have a request each"

    def leave_out(self, *taken: str) -> None:
        """Losses for what is asked for and is not among the directives `taken`."""
        for what in directives.left_out(self.asked, *taken):
            self.lose(what)
        if unlisted := directives.unlisted(self.asked):
            self.lose(unlisted, "hard")

    def author(self) -> Mailbox:
        """The one From address; several are a hard loss."""
        boxes = fidelity.mailboxes_in(self.block, "from")
        if not boxes:
            self.refuse("there is no From address")
            return Mailbox("", "")
        if len(boxes) > 1:
            self.lose("more than one From address", "hard")
        written = self.written(boxes[0], "From")
        if written is None:
            self.refuse(f"the From address is not one that {self.name} takes")
            return Mailbox("", "")
        self.domain = written.address.rpartition("@")[2].lower()
        return written

    def reply_to(self) -> list[Mailbox]:
        """The Reply-To addresses that the API takes."""
        boxes = [self.written(box, "Reply-To") for box in fidelity.mailboxes_in(self.block, "reply-to")]
        if None in boxes or (not boxes and header.first(self.block, "reply-to")):
            self.lose(f"a Reply-To address that {self.name} does not take is left out")
        return [box for box in boxes if box]

    def written(self, box: Mailbox, name: str) -> Mailbox | None:
        """The mailbox with its domain as A-labels, or None when the API would refuse it."""
        local, domain = address.split(box.address)
        if not local.isascii():
            self.refuse(f"the {name} address has a local part that is not ASCII")
            return box
        try:
            mended = f"{local}@{address.domain_ascii(domain)}"
        except address.AddressError:
            return None
        return replace(box, address=mended) if self.mailbox.fullmatch(mended) else None

    def fields(self) -> Iterator[tuple[str, str, str]]:
        """(name in lower case, name, value) of every other field, in order and as it stands (its encoded words too)."""
        for name, whole in header.fields(self.block):
            value = _CONTROL.sub(" ", mime.decode(header.value(whole), "")).strip()
            if name == "sender":
                self.lose("the Sender field is left out")
            if value and name not in NOT_SENT and name not in self.own_fields and not name.startswith(_NOT_SENT_PREFIXES):
                yield name, whole.partition(b":")[0].decode("ascii").strip(), value

    def subject(self) -> str:
        """The Subject, decoded."""
        return header.text(header.first(self.block, "subject"))

    def files(self) -> Iterator[Attachment]:
        """The files, in order; refused are those of a type that the provider blocks."""
        for file in self.rebuilt.attachments:
            ending = file.name.rstrip(". ").rpartition(".")[2].lower()
            if ending in self.blocked:
                self.refuse(f"{self.name} takes no attachment of type .{ending} ({file.name})")
            yield file

    def payloads(
        self,
        addressed: Sequence[Addressed],
        fields: Mapping[str, object],
        *,
        path: str,
        uses: Mapping[str, str],
        kind: str = "",
        closing: bytes = b"",
    ) -> tuple[Payload, ...]:
        """The requests: `fields` for every one, empty ones left out. Raises CannotCarry with all reasons, a hard loss among them
        unless settings take it."""
        refusal = f"{self.name} takes no recipient address of this form"
        refusals = ["" if all(map(self.takes, request.recipients)) else refusal for request in addressed]
        if all(refusals):
            self.refuse(refusal)
        several = len(addressed) > 1 and bool(self._shown or not self.bcc_alone)
        if several or self._shown - {address.key(recipient) for recipient in addressed[0].recipients}:
            self.lose("To and Cc show only the recipients of each request")
        if self._strict:
            self.reasons += [loss.what for loss in self.losses if loss.grade == "hard"]
        if not self.reasons:
            content = members({name: value for name, value in fields.items() if value is not None and value != "" and value != []})
            losses = tuple(dict.fromkeys(self.losses))
            requests = tuple(
                Payload(path, request, self.opening(request), content, closing, uses, kind, losses, refused, self.by_smtp)
                for request, refused in zip(addressed, refusals, strict=True)
            )
            largest = max(request.body().size for request in requests)
            if largest <= self._max_size:
                return requests
            self.refuse(f"the request has {largest:,} octets after base64; {self.name} takes {self._max_size:,}", size=True)
        raise CannotCarry(self.reasons, status="5.3.4" if self._too_big else "5.6.3")


def sendable(recipient: str) -> str:
    """The address with its domain as A-labels, where it has such a form."""
    if recipient.isascii():
        return recipient
    local, domain = address.split(recipient)
    try:
        return f"{local}@{address.domain_ascii(domain)}"
    except address.AddressError:
        return recipient


def small_json(value: object) -> bytes:
    """A value as JSON, of a size that may be in memory."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
