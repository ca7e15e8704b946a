"""Messages as requests of Postmark's API.

Everything the API is known to refuse is found before sending, and then CannotCarry names each reason, so that another
provider of the route may carry the message. Pure.
Postmark docs 2026-11: developer/api/email-api, developer/api/templates-api; limits and blocked attachment types: support
article 1056 and the page on attachments; metadata: support article 1125.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from relay import address, directives, edits, fidelity, header, mailboxes, mime
from relay.directives import Directives
from relay.errors import CannotCarry
from relay.fidelity import Addressed, Loss, Rebuilt
from relay.model import Edit

MAX_RECIPIENTS = 50  # To, Cc and Bcc together
MAX_REQUEST = 10 * 1024 * 1024  # octets, after base64
MAX_BODY = 5 * 1024 * 1024  # octets of HtmlBody, and of TextBody
MAX_FROM = 255  # UTF-16 code units, as in Subject and Tag
MAX_SUBJECT = 2000
MAX_TAG = 1000
MAX_METADATA = 10
MAX_METADATA_KEY = 20
MAX_METADATA_VALUE = 80
QUEUE_ID = "relay-id"  # the metadata key of our queue id

# As one line, so that it can be compared with the provider's own list.
_FORBIDDEN = "vbs exe bin bat chm com cpl crt hlp hta inf ins isp jse lnk mdb pcd pif reg scr sct shs vbe vba wsf wsh wsl msc msi msp mst"
FORBIDDEN_ENDINGS = frozenset(_FORBIDDEN.split())
# Fields that the API has parameters for, refuses in Headers, or sets itself; and trace and signature fields, which the
# rebuilt message makes wrong.
_NOT_SENT = frozenset(
    {"from", "reply-to", "sender", "to", "cc", "bcc", "subject", "date", "tag", "attachment", "track-opens", "track-links"}
    | {"message-stream", "postmark-template-alias", "return-path", "received", "delivered-to", "mime-version"}
    | {"dkim-signature", "domainkey-signature", "authentication-results", "resent-bcc", "from "}
)
_NOT_SENT_PREFIXES = ("content-", "arc-", "x-google-", *edits.CONTROL_PREFIXES)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What the API takes as a mailbox (Postmark support article 1180): no quoted local part, no address literal.
_MAILBOX = re.compile(r"[a-z0-9.!#$%&'`*+\-/=^_{|}~]+@(?:\.?[a-z0-9-])+", re.I)
_REFUSAL = "Postmark takes no recipient address of this form"


@dataclass(frozen=True, slots=True)
class PostmarkSettings:
    """A configured Postmark account. `controls` says which dialects each listener obeys: one not named
    obeys none, and mail from no listener all."""

    provider: str
    token: str = field(repr=False)
    base_url: str = "https://api.postmarkapp.com"
    stream: str = "outbound"
    on_loss: Literal["refuse", "warn"] = "refuse"
    timeout: float = 60.0
    concurrency: int = 20
    track_opens: bool | None = None
    track_links: str = ""
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payload:
    """One request. `content` is the JSON object without the recipients, shared by all requests of a message. One with a
    `refusal`, which says why Postmark takes no such recipient, is never sent."""

    path: str
    addressed: Addressed
    content: bytes = field(repr=False)
    domain: str
    stream: str
    template: str
    losses: tuple[Loss, ...] = ()
    refusal: str = ""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope addresses that it is for."""
        return self.addressed.recipients

    @property
    def identities(self) -> tuple[str, ...]:
        """What the request uses of the account that may be misconfigured."""
        template = (f"template={self.template}",) if self.template else ()
        return (f"domain={self.domain}", f"stream={self.stream}", *template)

    @property
    def size(self) -> int:
        """Octets of the body."""
        return len(self._opening()) + len(self.content) - 1

    def body(self) -> bytes:
        """The request's JSON, put together when it is sent so that many requests do not hold many copies."""
        return self._opening() + self.content[1:]

    def _opening(self) -> bytes:
        lists = {"To": self.addressed.to, "Cc": self.addressed.cc, "Bcc": self.addressed.bcc}
        fields = {
            name: ", ".join(mailboxes.write(box.name, _sendable(box.address)) for box in boxes) for name, boxes in lists.items() if boxes
        }
        return _json(fields)[:-1] + b","


def payload(
    message: bytes,
    *,
    block: bytes,
    queue_id: str,
    recipients: Sequence[str],
    changes: Sequence[Edit],
    settings: PostmarkSettings,
    listener: str = "",
    apart: bool = False,
) -> tuple[Payload, ...]:
    """The requests that carry a stored message, whose header block is `block`, to `recipients`, each of whom is in exactly one;
    with `apart` each has one of his own.

    The header is taken as it leaves (`changes` applied), directives from the header as it came. Raises CannotCarry.
    """
    asked = directives.read(block, settings.controls.get(listener, ()) if listener else directives.DIALECTS)
    shown = edits.strip(block, changes) + message[len(block) :]  # a torn block ends sooner as MIME: nothing hidden may follow
    try:
        rebuilt = fidelity.rebuild(mime.parse(shown))
    except mime.MimeError as error:
        raise CannotCarry([str(error)]) from error
    draft = _Draft(edits.apply(header.split(shown)[0], changes), asked, rebuilt, settings, queue_id)
    return draft.payloads(
        fidelity.address(draft.block, recipients, limit=MAX_RECIPIENTS, alone=lambda recipient: apart or not _takes(recipient))
    )


def _sendable(recipient: str) -> str:
    """The address with its domain as A-labels, where it has such a form."""
    if recipient.isascii():
        return recipient
    local, domain = address.split(recipient)
    try:
        return f"{local}@{address.domain_ascii(domain)}"
    except address.AddressError:
        return recipient


def _takes(recipient: str) -> bool:
    return _MAILBOX.fullmatch(_sendable(recipient)) is not None


class _Draft:
    """Builds the content field by field and gathers every reason against it."""

    def __init__(self, block: bytes, asked: Directives, rebuilt: Rebuilt, settings: PostmarkSettings, queue_id: str) -> None:
        self.block = block
        self._asked = asked
        self._rebuilt = rebuilt
        self._settings = settings
        self._queue_id = queue_id
        self._reasons = list(asked.refused)
        self._too_big = False
        self._losses = [*rebuilt.losses, *(Loss("cosmetic", what) for what in asked.ignored)]
        self._domain = ""

    def payloads(self, addressed: Sequence[Addressed]) -> tuple[Payload, ...]:
        """The requests; raises CannotCarry with all reasons, a hard loss among them unless settings take it."""
        refusals = ["" if all(map(_takes, request.recipients)) else _REFUSAL for request in addressed]
        if all(refusals):
            self._reasons.append(_REFUSAL)
        shown = {address.key(box.address) for name in ("to", "cc") for box in fidelity.mailboxes_in(self.block, name)}
        if len(addressed) > 1 or shown - {address.key(recipient) for recipient in addressed[0].recipients}:
            self._losses.append(Loss("cosmetic", "To and Cc show only the recipients of each request"))
        content = self._fields()
        if self._settings.on_loss == "refuse":
            self._reasons += [loss.what for loss in self._losses if loss.grade == "hard"]
        if not self._reasons:
            encoded = _json(content)
            path = "/email/withTemplate" if self._asked.template else "/email"
            stream = str(content["MessageStream"])
            losses = tuple(self._losses)
            requests = tuple(
                Payload(path, request, encoded, self._domain, stream, self._asked.template, losses, refusal)
                for request, refusal in zip(addressed, refusals, strict=True)
            )
            largest = max(request.size for request in requests)
            if largest <= MAX_REQUEST:
                return requests
            self._refuse_size(f"the request has {largest:,} octets after base64; Postmark takes {MAX_REQUEST:,}")
        raise CannotCarry(self._reasons, status="5.3.4" if self._too_big else "5.6.3")

    def _fields(self) -> dict[str, object]:
        asked, settings = self._asked, self._settings
        track_opens = settings.track_opens if asked.track_opens is None else asked.track_opens
        fields: dict[str, object] = {
            "From": self._from(),
            "ReplyTo": self._reply_to(),
            "Tag": self._limited("tag", asked.tag, MAX_TAG),
            "Headers": self._headers(),
            "TrackOpens": track_opens,
            "TrackLinks": asked.track_links or settings.track_links,
            "Metadata": self._metadata(),
            "MessageStream": asked.stream or settings.stream,
            "Attachments": self._attachments(),
            **(self._template() if asked.template else self._bodies()),
        }
        return {name: value for name, value in fields.items() if value is not None and value != "" and value != []}

    def _limited(self, what: str, text: str, limit: int) -> str:
        units = len(text.encode("utf-16-le", "surrogatepass")) // 2
        if units > limit:
            self._reasons.append(f"the {what} has {units} characters; Postmark takes {limit}")
        return text

    def _from(self) -> str:
        boxes = fidelity.mailboxes_in(self.block, "from")
        if not boxes:
            self._reasons.append("there is no From address")
            return ""
        if len(boxes) > 1:
            self._losses.append(Loss("hard", "more than one From address"))
        written = self._written(boxes[0], "From")
        if written is None:
            self._reasons.append("the From address is not one that Postmark takes")
            return ""
        self._domain = written.address.rpartition("@")[2]
        return self._limited("From field", mailboxes.write(written.name, written.address), MAX_FROM)

    def _reply_to(self) -> str:
        boxes = [self._written(box, "Reply-To") for box in fidelity.mailboxes_in(self.block, "reply-to")]
        if None in boxes or (not boxes and header.first(self.block, "reply-to")):
            self._losses.append(Loss("cosmetic", "a Reply-To address that Postmark does not take is left out"))
        return ", ".join(mailboxes.write(box.name, box.address) for box in boxes if box)

    def _written(self, box: mailboxes.Mailbox, name: str) -> mailboxes.Mailbox | None:
        """The mailbox with its domain as A-labels, or None when the API would refuse it."""
        local, domain = address.split(box.address)
        if not local.isascii():
            self._reasons.append(f"the {name} address has a local part that is not ASCII")
            return box
        try:
            mended = f"{local}@{address.domain_ascii(domain)}"
        except address.AddressError:
            return None
        return replace(box, address=mended) if _MAILBOX.fullmatch(mended) else None

    def _headers(self) -> list[dict[str, str]]:
        """Every other field, in order and as it stands (its encoded words too), duplicates kept. Date is set by Postmark;
        Message-ID given here is kept."""
        kept = []
        for name, whole in header.fields(self.block):
            value = _CONTROL.sub(" ", mime.decode(header.value(whole), "")).strip()
            if name == "sender":
                self._losses.append(Loss("cosmetic", "the Sender field is left out"))
            if value and name not in _NOT_SENT and not name.startswith(_NOT_SENT_PREFIXES):
                kept.append({"Name": whole.partition(b":")[0].decode("ascii").strip(), "Value": value})
        return kept

    def _metadata(self) -> dict[str, str]:
        """The app's own keys first: the queue id joins them where there is room and never takes one's place."""
        kept: dict[str, str] = {}
        for key, value in self._asked.metadata.items():
            if len(key) > MAX_METADATA_KEY or len(kept) == MAX_METADATA:
                self._losses.append(Loss("cosmetic", f"metadata {key[:40]!r} is left out"))
                continue
            if len(value) > MAX_METADATA_VALUE:
                self._losses.append(Loss("cosmetic", f"the value of metadata {key!r} is cut to {MAX_METADATA_VALUE} characters"))
            kept[key] = value[:MAX_METADATA_VALUE]
        if len(kept) < MAX_METADATA and QUEUE_ID not in {key.lower() for key in kept}:
            kept[QUEUE_ID] = self._queue_id
        return kept

    def _attachments(self) -> list[dict[str, str]]:
        found = []
        for file in self._rebuilt.attachments:
            ending = file.name.rstrip(". ").rpartition(".")[2].lower()
            if ending in FORBIDDEN_ENDINGS:
                self._reasons.append(f"Postmark takes no attachment of type .{ending} ({file.name})")
            one = {"Name": file.name, "Content": file.part.base64().decode("ascii"), "ContentType": file.content_type}
            if file.content_id:
                one["ContentID"] = f"cid:{file.content_id}"
            found.append(one)
        return found

    def _template(self) -> dict[str, object]:
        """Subject and bodies come from the template."""
        name = self._asked.template
        key: dict[str, object] = (
            {"TemplateId": int(name)} if name.isascii() and name.isdigit() and len(name) < 19 else {"TemplateAlias": name}
        )
        return {**key, "TemplateModel": dict(self._asked.template_model or {}), "InlineCss": self._asked.inline_css}

    def _bodies(self) -> dict[str, object]:
        """A message needs a body: an empty one becomes a space."""
        text, html = self._rebuilt.text, self._rebuilt.html
        for name, body in (("text", text or ""), ("HTML", html or "")):
            size = len(body.encode("utf-8", "replace"))
            if size > MAX_BODY:
                self._refuse_size(f"the {name} body has {size:,} octets; Postmark takes {MAX_BODY:,}")
        subject = self._limited("Subject", header.text(header.first(self.block, "subject")), MAX_SUBJECT)
        return {"Subject": subject, "HtmlBody": html or "", "TextBody": text or ("" if html else " ")}

    def _refuse_size(self, reason: str) -> None:
        self._too_big = True
        self._reasons.append(reason)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
