"""Messages as requests of Postmark's API.

Everything the API is known to refuse is found before sending, and then CannotCarry names each reason, so that another
provider of the route may carry the message. Pure.
Postmark docs 2026-11: developer/api/email-api, developer/api/templates-api; limits: support article 1056; metadata: support
article 1125. A batch, with templates too, holds at most 500 messages and 50 MB.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay import directives, mailboxes
from relay.fidelity import Addressed
from relay.model import Edit
from relay.transports.base import ALONE, Batching
from relay.transports.bodies import Body, File, joined
from relay.transports.rebuilding import Draft, Payload, sendable, small_json
from relay.transports.refused import BLOCKED, POSTMARK_BODY, POSTMARK_FROM, POSTMARK_MAILBOX, POSTMARK_SUBJECT
from relay.transports.stamps import MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE, MAX_POSTMARK_TAG, QUEUE_ID

MAX_RECIPIENTS = 50  # To, Cc and Bcc together
MAX_REQUEST = 10 * 1024 * 1024  # octets, after base64

_EMAIL = "/email"
_TEMPLATE = "/email/withTemplate"
# Octets of recipients with which a message may be in a batch. The answer repeats them, and names those who get nothing: one that
# is larger than we read (http.MAX_ANSWER) would leave it unknown what became of 500 messages.
_MAX_ANSWERED = 500
_TOGETHER = {_EMAIL: ("/email/batch", b"[", b"]"), _TEMPLATE: ("/email/batchWithTemplates", b'{"Messages":[', b"]}")}
# What Postmark's own libraries do not hand over, beyond the fields that no such API takes.
_OWN_FIELDS = frozenset({"tag", "attachment", "track-opens", "track-links", "message-stream", "postmark-template-alias"})
_TAKEN = ("tag", "metadata", "stream", "configuration_set", "track_opens", "track_links", "template")


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
    batching: Batching = ALONE
    max_size: int = MAX_REQUEST
    streams: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)


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
    everybody: Sequence[str] = (),
) -> tuple[Payload, ...]:
    """The requests that carry a stored message, whose header block is `block`, to `recipients`, each of whom is in exactly one;
    with `apart` each has one of his own. `everybody` are all whom the message was accepted for.

    The header is taken as it leaves (`changes` applied), directives from the header as it came. Raises CannotCarry.
    """
    asked = directives.read(block, directives.obeyed(settings.controls, listener), own="postmark")
    draft = _Draft(message, block, changes, asked, on_loss=settings.on_loss, max_size=settings.max_size)
    draft.weigh(everybody or recipients, limit=MAX_RECIPIENTS)
    return draft.requests(draft.addressed(recipients, limit=MAX_RECIPIENTS, apart=apart), settings, queue_id)


def together(requests: Sequence[Payload]) -> tuple[str, Body]:
    """The path and the body of one request that carries several of one kind, in order."""
    path, opening, closing = _TOGETHER[requests[0].path]
    first, *rest = (request.body() for request in requests)
    return path, joined(opening, first, *(part for body in rest for part in (b",", body)), closing)


class _Draft(Draft):
    """A message as Postmark's fields."""

    name = "Postmark"
    mailbox = POSTMARK_MAILBOX
    blocked = BLOCKED["postmark"]
    own_fields = _OWN_FIELDS

    def opening(self, addressed: Addressed) -> bytes:
        """The three lists of addresses, each as one text."""
        lists = {"To": addressed.to, "Cc": addressed.cc, "Bcc": addressed.bcc}
        fields = {
            name: ", ".join(mailboxes.write_text(box.name, sendable(box.address)) for box in boxes)
            for name, boxes in lists.items()
            if boxes
        }
        return small_json(fields)[:-1] + b","

    def requests(self, addressed: Sequence[Addressed], settings: PostmarkSettings, queue_id: str) -> tuple[Payload, ...]:
        """The requests; raises CannotCarry with all reasons."""
        asked = self.asked
        stream = self._stream(settings)
        self.leave_out(*_TAKEN)
        fields: dict[str, object] = {
            "From": self._from(),
            "ReplyTo": ", ".join(mailboxes.write_text(box.name, box.address) for box in self.reply_to()),
            "Tag": self._tag(),
            "Headers": [{"Name": name, "Value": value} for _, name, value in self.fields()],
            "TrackOpens": settings.track_opens if asked.track_opens is None else asked.track_opens,
            "TrackLinks": asked.track_links or settings.track_links,
            "Metadata": self._metadata(queue_id),
            "MessageStream": stream,
            "Attachments": self._attachments(),
            **(self._template() if asked.template else self._bodies()),
        }
        path = _TEMPLATE if asked.template else _EMAIL
        uses = {"domain": self.domain, "stream": stream, "template": asked.template}
        # That messages of several streams may go in one batch is not documented (2026-11).
        kind = "" if any(len(self.opening(one)) > _MAX_ANSWERED for one in addressed) else f"{path} {stream}"
        return self.payloads(addressed, fields, path=path, uses=uses, kind=kind)

    def _stream(self, settings: PostmarkSettings) -> str:
        """The message stream: what the mail asks for, else the one of the settings."""
        found = directives.stream(self.asked, settings.streams, "postmark")
        if found.loss:
            self.lose(found.loss)
        return found.name or settings.stream

    def _from(self) -> str:
        box = self.author()
        return self.limited("From field", mailboxes.write_text(box.name, box.address), POSTMARK_FROM) if box.address else ""

    def _tag(self) -> str:
        """The tag only counts mail: one that is too long is cut."""
        tag = self.asked.tag
        whole = tag.encode("utf-16-le", "replace")
        if len(whole) <= 2 * MAX_POSTMARK_TAG:
            return tag
        self.lose(f"the tag is cut to {MAX_POSTMARK_TAG} characters")
        return whole[: 2 * MAX_POSTMARK_TAG].decode("utf-16-le", "ignore")

    def _metadata(self, queue_id: str) -> dict[str, str]:
        """The app's own keys first: the queue id joins them where there is room and never takes one's place."""
        kept: dict[str, str] = {}
        for key, value in self.asked.besides_tag.items():
            if len(key) > MAX_METADATA_KEY or len(kept) == MAX_METADATA:
                self.lose(f"metadata {key[:40]!r} is left out: Postmark takes {MAX_METADATA} keys of {MAX_METADATA_KEY} characters")
                continue
            if len(value) > MAX_METADATA_VALUE:
                self.lose(f"the value of metadata {key!r} is cut to {MAX_METADATA_VALUE} characters")
            kept[key] = value[:MAX_METADATA_VALUE]
        if len(kept) < MAX_METADATA and QUEUE_ID not in {key.lower() for key in kept}:
            kept[QUEUE_ID] = queue_id
        return kept

    def _attachments(self) -> list[dict[str, object]]:
        found = []
        for file in self.files():
            one: dict[str, object] = {"Name": file.name, "Content": File(file.part), "ContentType": file.content_type}
            if file.content_id:
                one["ContentID"] = f"cid:{file.content_id}"
            found.append(one)
        return found

    def _template(self) -> dict[str, object]:
        """Subject and bodies come from the template. A number is its id, which would win over an alias; aliases begin with a letter."""
        name = self.asked.template
        key: dict[str, object] = (
            {"TemplateId": int(name)} if name.isascii() and name.isdigit() and len(name) < 19 else {"TemplateAlias": name}
        )
        return {**key, "TemplateModel": dict(self.asked.template_model or {}), "InlineCss": self.asked.inline_css}

    def _bodies(self) -> dict[str, object]:
        """A message needs a body: an empty one becomes a space."""
        text, html = self.rebuilt.text, self.rebuilt.html
        for name, body in (("text", text or ""), ("HTML", html or "")):
            size = len(body.encode("utf-8", "replace"))
            if size > POSTMARK_BODY:
                self.refuse(f"the {name} body has {size:,} octets; Postmark takes {POSTMARK_BODY:,}", size=True)
        subject = self.limited("Subject", self.subject(), POSTMARK_SUBJECT)
        return {"Subject": subject, "HtmlBody": html or "", "TextBody": text or ("" if html else " ")}
