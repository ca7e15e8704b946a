"""Messages as requests of Paubox's API.

What Paubox takes is little: one Reply-To, custom fields whose names begin with X-, List-Unsubscribe, and files that are not shown
inside the HTML. A thread, an inline picture and a second Reply-To are hard losses, because without them the mail does something else
for its reader; by SMTP Paubox takes them all. Options that touch on confidentiality (`allow_non_tls`, `force_secure_notification`)
come from the settings only, never from a message.

Everything the API is known to refuse is found before sending, and then CannotCarry names each reason, so that another provider of
the route may carry the message. Pure.
Paubox docs 2026-11: email-api "Send a message", "Send bulk messages", "Limits and overage rates", "Attachments", "Errors"; its
OpenAPI document and client libraries (paubox-python3 1.0.1, paubox-node 1.5.0, paubox-go 1.0.0) of 2026-08.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal
from urllib.parse import quote

from relay import directives, mailboxes
from relay.fidelity import Addressed
from relay.mailboxes import Mailbox
from relay.model import Edit
from relay.transports.base import ALONE, Batching
from relay.transports.bodies import Body, Encoded, File, joined
from relay.transports.rebuilding import Draft, Payload, sendable, small_json

MAX_RECIPIENTS = 100  # recipients, cc and bcc together ("Limits and overage rates")
MAX_REQUEST = 50_000_000  # octets, after base64; no limit of a request is documented, only that of the files
MAX_FILES = 50_000_000  # octets of all files, before base64 ("Attachments", 2026-08)
OLD_MAX_FILES = 10_000_000  # the page on limits still says this
MAX_BATCH = 50  # messages in one request; recommended
QUEUE_ID = "X-Relay-Id"
"""The field of our queue id: it comes back in replies and webhooks, and recipients can see it."""

MESSAGES = "/messages"
TEMPLATED = "/templated_messages"
BULK = "/bulk_messages"
_SINGLE = b'{"data":{"message":'  # before the message, where nothing is said beside it
_LISTED = {"list-unsubscribe": "List-Unsubscribe", "list-unsubscribe-post": "List-Unsubscribe-Post"}  # taken by name
_THREAD = frozenset({"in-reply-to", "references"})
_NO_ANSWER = ("X-Auto-Response-Suppress", "All")  # what Auto-Submitted says, in a field that goes along (MS-OXCMAIL)
# Which addresses Paubox takes is not documented: no quoted local part and no address literal, which few take.
_MAILBOX = re.compile(r"[a-z0-9.!#$%&'`*+\-/=?^_{|}~]+@(?:\.?[a-z0-9-])+", re.I)


@dataclass(frozen=True, slots=True)
class PauboxSettings:
    """A configured Paubox account. `controls` says which dialects each listener obeys: one not named obeys none, and mail
    from no listener all. `track_opens` and `track_links` can only switch on; with False or None the account's own setting holds."""

    provider: str
    api_key: str = field(repr=False)
    username: str = ""
    base_url: str = "https://api.paubox.net/v1/{username}"
    auth_scheme: Literal["token", "bearer"] = "token"
    on_loss: Literal["refuse", "warn"] = "refuse"
    timeout: float = 60.0
    concurrency: int = 10
    allow_non_tls: bool = False
    force_secure_notification: bool = False
    track_opens: bool | None = None
    track_links: bool | None = None
    html: Literal["base64", "plain"] = "base64"
    batching: Batching = ALONE
    max_size: int = MAX_REQUEST
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the API is: `base_url` with the user's name in its place."""
        return self.base_url.replace("{username}", quote(self.username, safe="")).rstrip("/")


@dataclass(frozen=True, slots=True)
class Letter(Payload):
    """One request. `queue_id` is ours, which comes back in the reply."""

    queue_id: str = ""


def payload(
    message: bytes,
    *,
    block: bytes,
    queue_id: str,
    recipients: Sequence[str],
    changes: Sequence[Edit],
    settings: PauboxSettings,
    listener: str = "",
    apart: bool = False,
    everybody: Sequence[str] = (),
    notice: bool = False,
) -> tuple[Letter, ...]:
    """The requests that carry a stored message, whose header block is `block`, to `recipients`, each of whom is in exactly one;
    with `apart` each has one of his own. `everybody` are all whom the message was accepted for. `notice` marks a bounce of ours, which
    has to arrive even outside its thread.

    The header is taken as it leaves (`changes` applied), directives from the header as it came. Raises CannotCarry.
    """
    asked = directives.read(block, directives.obeyed(settings.controls, listener))
    draft = _Draft(message, block, changes, asked, on_loss=settings.on_loss, max_size=settings.max_size)
    draft.weigh(everybody or recipients, limit=MAX_RECIPIENTS)
    return draft.requests(draft.addressed(recipients, limit=MAX_RECIPIENTS, apart=apart), settings, queue_id, notice=notice)


def bulk(requests: Sequence[Letter]) -> Body:
    """Requests of the kind that may go together, as one."""
    found: list[bytes | Body] = [b'{"data":{"messages":[']
    for number, request in enumerate(requests):
        found += [b"," if number else b"", request.opening.removeprefix(_SINGLE), request.content]
    return joined(*found, b"]}}")


class _Draft(Draft):
    """A message as Paubox's fields."""

    name = "Paubox"
    mailbox = _MAILBOX
    own_fields = frozenset({"message-id"})  # Paubox makes its own
    _before = _SINGLE

    def opening(self, addressed: Addressed) -> bytes:
        """What stands beside the message, and the three lists of addresses."""
        lists = {"recipients": addressed.to, "cc": addressed.cc, "bcc": addressed.bcc}
        written = {name: [mailboxes.write_text(box.name, sendable(box.address)) for box in boxes] for name, boxes in lists.items() if boxes}
        return self._before + small_json(written)[:-1] + b","

    def requests(self, addressed: Sequence[Addressed], settings: PauboxSettings, queue_id: str, *, notice: bool) -> tuple[Letter, ...]:
        """The requests; raises CannotCarry with all reasons."""
        if notice:
            self.by_smtp = "a notice keeps Auto-Submitted and its thread by SMTP only"
        template = self.asked.template
        beside = self._template() if template else self._tracking(settings)
        if beside:
            self._before = b'{"data":' + small_json(beside)[:-1] + b',"message":'
        headers, answers_to = self._headers(queue_id, notice=notice)
        message: dict[str, object] = {
            "headers": headers,
            "content": None if template else self._content(settings),
            "attachments": self._attachments(shown=not template),
            "allowNonTLS": settings.allow_non_tls,
            "forceSecureNotification": settings.force_secure_notification,
        }
        uses = {"domain": self.domain, "reply_to": answers_to, "template": template}
        path, kind = (TEMPLATED, "") if template else (MESSAGES, "" if beside else MESSAGES)
        built = self.payloads(addressed, message, path=path, uses=uses, kind=kind, closing=b"}}")
        return tuple(Letter(**{one.name: getattr(request, one.name) for one in fields(request)}, queue_id=queue_id) for request in built)

    def _template(self) -> dict[str, object]:
        """Beside a templated message; the values are a JSON text, and tracking has no place."""
        self.leave_out()
        values = json.dumps(dict(self.asked.template_model or {}), ensure_ascii=False, separators=(",", ":"))
        return {"template_name": self.asked.template, "template_values": values}

    def _tracking(self, settings: PauboxSettings) -> dict[str, object]:
        """Tracking can be switched on for a message, and not off."""
        asked = self.asked
        opens = settings.track_opens if asked.track_opens is None else asked.track_opens
        links = settings.track_links if not asked.track_links else asked.track_links != "None"
        taken = [name for name, wanted in (("track_opens", opens), ("track_links", links)) if wanted]
        self.leave_out(*taken)
        return {name: True for name, wanted in (("override_open_tracking", opens), ("override_link_tracking", links)) if wanted}

    def _headers(self, queue_id: str, *, notice: bool) -> tuple[dict[str, str], str]:
        """The object of header fields, which keeps one value for each name; and the Reply-To's domain where it is not the From's."""
        author = self.author()
        found = {"subject": self._subject(), "from": mailboxes.write_text(author.name, author.address)}
        answers_to = self._answers_to()
        if answers_to:
            found["reply-to"] = mailboxes.write_text(answers_to.name, answers_to.address)
        known = set()
        thread = False
        for name, spelt, value in self.fields():
            thread = thread or name in _THREAD
            if name in _THREAD:
                continue
            if name not in _LISTED and not name.startswith("x-"):
                self.lose(f"the field {spelt} is left out")
            elif name in known:
                self.lose(f"of several fields {spelt} only the first is kept")
            else:
                found[_LISTED.get(name, spelt)] = value
                known.add(name)
        if thread:
            self.lose(
                "In-Reply-To and References are left out, so that an answer stands outside its thread", "cosmetic" if notice else "hard"
            )
        if notice and _NO_ANSWER[0].lower() not in known:
            found[_NO_ANSWER[0]] = _NO_ANSWER[1]
        found[QUEUE_ID] = queue_id
        domain = answers_to.address.rpartition("@")[2].lower() if answers_to else ""
        return found, domain if domain != self.domain else ""

    def _answers_to(self) -> Mailbox | None:
        """The first Reply-To: whoever stands behind it would miss the answers."""
        boxes = self.reply_to()
        if len(boxes) > 1:
            self.lose("of several Reply-To addresses only the first gets the answers", "hard")
        return boxes[0] if boxes else None

    def _subject(self) -> str:
        """An empty one would be refused."""
        subject = self.subject()
        if not subject.strip():
            self.lose("the empty Subject becomes (no subject)")
            return "(no subject)"
        return subject

    def _content(self, settings: PauboxSettings) -> dict[str, object]:
        """HTML in base64, as the client libraries send it, and the text as it is; a message needs a body, so an empty one becomes
        a space."""
        text, html = self.rebuilt.text, self.rebuilt.html
        content: dict[str, object] = {}
        if text or not html:
            content["text/plain"] = text or " "
        if html:
            content["text/html"] = html if settings.html == "plain" else Encoded(html.encode("utf-8", "replace"))
        return content

    def _attachments(self, *, shown: bool) -> list[dict[str, object]]:
        """The files; `shown` where the HTML that shows some of them goes along."""
        found: list[dict[str, object]] = []
        octets = 0
        for file in self.files():
            if file.content_id and shown:
                self.lose("a picture or file shown inside the HTML becomes an attachment", "hard")
            content = File(file.part)
            octets += content.size // 4 * 3
            found.append({"fileName": file.name, "contentType": file.content_type, "content": content})
        if octets > MAX_FILES:
            self.refuse(f"the attachments have {octets:,} octets; Paubox takes {MAX_FILES:,}", size=True)
        elif octets > OLD_MAX_FILES:
            self.lose(f"attachments of {octets:,} octets are more than the {OLD_MAX_FILES:,} that Paubox's page on limits allows")
        return found
