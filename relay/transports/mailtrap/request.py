"""Messages as requests of Mailtrap's API.

Everything the API is known to refuse is found before sending, and then CannotCarry names each reason, so that another
provider of the route may carry the message. Pure.
Mailtrap docs 2026-11: the OpenAPI descriptions of transactional, bulk and sandbox sending (fields, their lengths, batches),
"Sending limits" (10 MB), "Custom variables" (1,000 octets of JSON), "Bulk stream". Fields that cannot be set by `headers`: no list is
published; these are the ones that Mailtrap's Ruby client (2.x) leaves out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from email.header import Header
from typing import Literal

from relay import directives, mailboxes
from relay.fidelity import Addressed
from relay.mailboxes import Mailbox
from relay.model import Edit
from relay.transports.base import ALONE, Batching
from relay.transports.bodies import Body, File, joined
from relay.transports.rebuilding import Draft, Payload, sendable, small_json

Stream = Literal["transactional", "bulk", "sandbox"]

HOSTS: Mapping[Stream, str] = {
    "transactional": "https://send.api.mailtrap.io",
    "bulk": "https://bulk.api.mailtrap.io",
    "sandbox": "https://sandbox.api.mailtrap.io",
}
MAX_RECIPIENTS = 1000  # in each of to, cc and bcc
MAX_REQUEST = 10_000_000  # octets, after base64
MAX_CATEGORY = 255  # characters
MAX_VARIABLES = 1000  # octets of JSON; more are ignored as a whole
MAX_SHARING = 20
"""Recipients of a message in a batch: its answer holds an id for each, and may not outgrow what we read of one."""
NO_SUBJECT = "(no subject)"
QUEUE_ID = "relay-id"  # the custom variable of our queue id

_RESERVED = frozenset(
    {"from", "to", "cc", "bcc", "subject", "category", "customvariables", "contenttype", "replyto"}
    | {"contenttransferencoding", "date", "messageid", "mimeversion"}
)  # without their hyphens, as the Ruby client compares them
# What stands between the values of fields that may be joined to one (RFC 5322 §3.6.4, §3.6.5, RFC 2369 §2, RFC 8098 §2.1).
_JOINTS: Mapping[str, str] = {
    **dict.fromkeys(("references", "in-reply-to"), " "),
    **dict.fromkeys(("keywords", "disposition-notification-to", "list-help", "list-unsubscribe", "list-subscribe", "list-post"), ", "),
    **dict.fromkeys(("list-owner", "list-archive", "mail-followup-to", "mail-reply-to"), ", "),
}
# No quoted local part and no address literal: what a JSON schema calls an email address differs there from library to library.
_MAILBOX = re.compile(r"[a-z0-9.!#$%&'`*+\-/=^_{|}~?]+@(?:\.?[a-z0-9-])+", re.I)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


@dataclass(frozen=True, slots=True)
class MailtrapSettings:
    """A configured Mailtrap account. `stream` is for mail that names none; mail of a sandbox stays there whatever it names.
    `base_url` takes the place of every stream's own host. `controls` says which dialects each listener obeys: one not named
    obeys none, and mail from no listener all."""

    provider: str
    token: str = field(repr=False)
    stream: Stream = "transactional"
    sandbox_id: str = ""
    base_url: str = ""
    on_loss: Literal["refuse", "warn"] = "refuse"
    timeout: float = 60.0
    concurrency: int = 10
    batching: Batching = ALONE
    max_size: int = MAX_REQUEST
    streams: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def doors(self) -> Mapping[str, str]:
        """The base URL of each stream that may be used: of the sandbox alone, or of both others."""
        streams: tuple[Stream, ...] = ("sandbox",) if self.stream == "sandbox" else ("transactional", "bulk")
        return {stream: self.base_url or HOSTS[stream] for stream in streams}

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URLs, each once, that of the settings' own stream first."""
        return tuple(dict.fromkeys((self.doors[self.stream], *self.doors.values())))

    @property
    def path(self) -> str:
        """Where a message is sent."""
        return f"/api/send/{self.sandbox_id}" if self.stream == "sandbox" else "/api/send"


def payload(
    message: bytes,
    *,
    block: bytes,
    queue_id: str,
    recipients: Sequence[str],
    changes: Sequence[Edit],
    settings: MailtrapSettings,
    listener: str = "",
    apart: bool = False,
    everybody: Sequence[str] = (),
) -> tuple[Payload, ...]:
    """The requests that carry a stored message, whose header block is `block`, to `recipients`, each of whom is in exactly one;
    with `apart` each has one of his own. `everybody` are all whom the message was accepted for.

    The header is taken as it leaves (`changes` applied), directives from the header as it came. Raises CannotCarry.
    """
    asked = directives.read(block, directives.obeyed(settings.controls, listener), own="mailtrap")
    draft = _Draft(message, block, changes, asked, on_loss=settings.on_loss, max_size=settings.max_size)
    draft.weigh(everybody or recipients, limit=MAX_RECIPIENTS)
    return draft.requests(draft.addressed(recipients, limit=MAX_RECIPIENTS, apart=apart), settings, queue_id)


def together(requests: Sequence[Payload]) -> tuple[str, Body]:
    """Path and body of one request for several messages. They share nothing that `base` could hold: each is whole by itself."""
    parts: list[bytes | Body] = [b'{"base":{},"requests":[']
    for number, request in enumerate(requests):
        parts += [b",", request.body()] if number else [request.body()]
    return requests[0].path.replace("/send", "/batch", 1), joined(*parts, b"]}")


class _Draft(Draft):
    """A message as Mailtrap's fields."""

    name = "Mailtrap"
    mailbox = _MAILBOX
    own_fields = frozenset({"message-id"})  # Mailtrap makes its own
    bcc_alone = True  # "at least one of" to, cc and bcc

    def opening(self, addressed: Addressed) -> bytes:
        """The three lists of addresses."""
        lists = {"to": addressed.to, "cc": addressed.cc, "bcc": addressed.bcc}
        fields = {name: [_written(box.name, sendable(box.address)) for box in boxes] for name, boxes in lists.items() if boxes}
        return small_json(fields)[:-1] + b","

    def requests(self, addressed: Sequence[Addressed], settings: MailtrapSettings, queue_id: str) -> tuple[Payload, ...]:
        """The requests; raises CannotCarry with all reasons."""
        stream = self._stream(settings)
        author = self.author()
        answers = self.reply_to()
        headers = self._headers(answers)
        template = self.asked.template
        fields: dict[str, object] = {
            "from": _written(author.name, author.address),
            "reply_to": _written(answers[0].name, answers[0].address) if len(answers) == 1 else None,
            "custom_variables": self._variables(queue_id) or None,
            "headers": headers or None,
            "attachments": self._attachments(),
            **(self._template() if template else self._content()),
        }
        self.leave_out("tag", "metadata", "stream", "configuration_set")
        alone = template or max(len(request.recipients) for request in addressed) > MAX_SHARING
        kind = "" if alone else f"{stream} {self.domain}"
        # What only the other stream refuses must not stop this domain's mail by the usual one.
        domain = self.domain if stream == settings.stream else f"{self.domain}/{stream}"
        uses = {"domain": domain, "stream": stream, "template": template}
        return self.payloads(addressed, fields, path=settings.path, uses=uses, kind=kind)

    def _stream(self, settings: MailtrapSettings) -> str:
        """By which stream the message goes; a sandbox has no other."""
        if settings.stream == "sandbox":
            return settings.stream
        found = directives.stream(self.asked, settings.streams, "mailtrap")
        if found.loss:
            self.lose(found.loss)
        return found.name or settings.stream

    def _headers(self, answers: Sequence[Mailbox]) -> dict[str, str]:
        """One value for each name. Values go as they stand: Mailtrap encodes what is not ASCII, and leaves encoded words alone."""
        spelt: dict[str, str] = {}
        values: dict[str, list[str]] = {}
        for name, given, value in self.fields():
            if name.replace("-", "") in _RESERVED:
                self.lose(f"the {given} field is left out: Mailtrap has a parameter for that name")
                continue
            spelt.setdefault(name, given)
            values.setdefault(name, []).append(value)
        found = {spelt[name]: self._one(spelt[name], list(dict.fromkeys(several))) for name, several in values.items()}
        if len(answers) > 1:
            found["Reply-To"] = ", ".join(mailboxes.write(_words(box.name), box.address) for box in answers)
        return found

    def _one(self, name: str, values: Sequence[str]) -> str:
        joint = _JOINTS.get(name.lower())
        if joint:
            return joint.join(values)
        if len(values) > 1:
            self.lose(f"of {len(values)} fields called {name} only the first is kept")
        return values[0]

    def _variables(self, queue_id: str) -> dict[str, str]:
        """The app's own first: the queue id joins them where there is room and never takes one's place."""
        kept: dict[str, str] = {}
        for key, value in (self.asked.metadata if self.asked.template else self.asked.besides_tag).items():
            if _fit({**kept, key: value}):
                kept[key] = value
            else:
                self.lose(f"metadata {key[:40]!r} is left out: Mailtrap takes {MAX_VARIABLES:,} octets in all")
        if QUEUE_ID not in {key.lower() for key in kept} and _fit({**kept, QUEUE_ID: queue_id}):
            kept[QUEUE_ID] = queue_id
        return kept

    def _attachments(self) -> list[dict[str, object]]:
        found = []
        for file in self.files():
            content = File(file.part)
            if not content.size:
                self.lose(f"the file {file.name} is left out: Mailtrap takes none that is empty", "hard")
                continue
            if not file.name.isascii():
                self.lose(f"the name of the file {file.name} may arrive garbled")
            one: dict[str, object] = {"filename": file.name, "type": file.content_type, "content": content}
            shown = {"disposition": "inline", "content_id": file.content_id} if file.content_id else {"disposition": "attachment"}
            found.append({**one, **shown})
        return found

    def _template(self) -> dict[str, object]:
        """Subject, bodies and category come from the template."""
        if not _UUID.fullmatch(self.asked.template):
            self.refuse(f"{self.asked.template[:40]!r} is not the UUID of a Mailtrap template")
        if self.asked.tag:
            self.lose(f"the tag {self.asked.tag[:40]!r} is left out: the template has its own category")
        if self.asked.inline_css:
            self.lose("Mailtrap does not put style sheets into the elements of a template")
        return {"template_uuid": self.asked.template, "template_variables": dict(self.asked.template_model or {})}

    def _content(self) -> dict[str, object]:
        """Subject and a body are required: an empty one becomes a few words, or a space."""
        text, html = self.rebuilt.text, self.rebuilt.html
        subject = self.subject()
        if not subject:
            self.lose(f"the Subject is empty: {NO_SUBJECT} takes its place")
        if len(self.asked.tag) > MAX_CATEGORY:
            self.lose(f"the tag is cut to {MAX_CATEGORY} characters")
        return {
            "subject": subject or NO_SUBJECT,
            "text": text or ("" if html else " "),
            "html": html or "",
            "category": self.asked.tag[:MAX_CATEGORY],
        }


def _written(name: str, address: str) -> dict[str, str]:
    return {"email": address, **({"name": name} if name else {})}


def _words(name: str) -> str:
    """A display name for a field of our own making: a value with other than ASCII would be encoded as a whole, addresses and all."""
    return (
        name if name.isascii() and "=?" not in name else Header(name, "utf-8", header_name="Reply-To").encode(linesep="").replace("\n", "")
    )


def _fit(variables: Mapping[str, str]) -> bool:
    return len(json.dumps(variables, separators=(",", ":"))) <= MAX_VARIABLES
