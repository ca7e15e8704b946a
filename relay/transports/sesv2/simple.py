"""A message taken apart: the forms `Simple`, where SES puts the mail together, and `Template`, where it writes it too.

`Draft` in transports/rebuilding.py reads the message; here it gets the names and limits of SES. Visible in To and Cc, and so
delivered to, are the recipients that the header shows. What the forms have no place for is a hard loss, so that the message
goes as it is where it may (request.py). Texts are always marked as UTF-8, because the default is ASCII, and files as base64,
because the default is 7 bits.

A template's name, its ARN or the word `inline` is what the app gives; `inline` makes a template of the message's own subject
and bodies, in which SES replaces `{{names}}` only. SendBulkEmail is not used: it takes templates only, so it is no way for
mail that is written. Pure.
Amazon SES API v2 reference 2026-11 (Message, Template, MessageHeader, Attachment); developer guide 2026-11, "Header fields in
Amazon SES", "Attachments"; lengths and patterns as in botocore 1.44.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from relay import fidelity, header
from relay.directives import Directives
from relay.fidelity import Addressed
from relay.mailboxes import Mailbox
from relay.transports import refused, singles
from relay.transports.bodies import Body, File
from relay.transports.rebuilding import Draft, small_json
from relay.transports.sesv2 import addresses
from relay.transports.sesv2.options import Options
from relay.transports.sesv2.payload import MAX_RECIPIENTS, PATH, About, Payload, payloads
from relay.transports.sesv2.raw import Source, Terms

INLINE = "inline"
MAX_HEADERS = 15
MAX_HEADER_NAME = 126
MAX_HEADER_VALUE = 995
MAX_HEADER_LINE = 996  # name and value together
MAX_TYPE = 78  # of a file's content type, and of its Content-ID
MAX_DATA = 262_144  # characters of TemplateData
_NAME = re.compile(r"[!-9;-@A-~]+")
_ARN = re.compile(r"arn:aws[a-z-]*:ses:[!-~]+")


def requests(
    source: Source, recipients: Sequence[str], asked: Directives, options: Options, terms: Terms, *, apart: bool
) -> tuple[Payload, ...]:
    """The requests that carry the message to `recipients`, each of whom is in exactly one; by the template that is asked for, if one
    is. Raises CannotCarry."""
    draft = _Draft(source.message, source.block, source.changes, asked, on_loss=terms.on_loss, max_size=terms.max_size)
    return draft.requests(draft.addressed(recipients, limit=MAX_RECIPIENTS, apart=apart or options.apart), options)


class _Draft(Draft):
    """A message as SES's fields."""

    name = "Amazon SES"
    mailbox = addresses.MAILBOX
    blocked = refused.BLOCKED["ses"]
    own_fields = frozenset({"message-id"})  # SES writes its own, in every form

    @classmethod
    def takes(cls, recipient: str) -> bool:
        """Whether SES has a form for the address; one of an odd form it may refuse all the same."""
        return addresses.takes(recipient)

    def addressed(self, recipients: Sequence[str], *, limit: int, apart: bool) -> tuple[Addressed, ...]:
        """Who is in which request; one whom SES may refuse has a request of his own."""

        def alone(recipient: str) -> bool:
            return apart or not self.mailbox.fullmatch(addresses.sendable(recipient))

        return fidelity.address(self.block, recipients, limit=limit, alone=alone)

    def opening(self, addressed: Addressed) -> bytes:
        """The recipients, first."""
        lists = {"ToAddresses": addressed.to, "CcAddresses": addressed.cc, "BccAddresses": addressed.bcc}
        written = {
            name: [addresses.written(Mailbox(box.name, addresses.sendable(box.address))) for box in boxes]
            for name, boxes in lists.items()
            if boxes
        }
        return small_json({"Destination": written})[:-1] + b","

    def requests(self, addressed: Sequence[Addressed], options: Options) -> tuple[Payload, ...]:
        """The requests; raises CannotCarry with all reasons."""
        self.reasons += options.reasons
        self.losses += options.losses
        author = self.author()
        fields = {
            "FromEmailAddress": addresses.written(author),
            "ReplyToAddresses": [addresses.written(box) for box in self.reply_to()],
            **options.members,
            "Content": {"Template": self._template()} if self.asked.template else {"Simple": self._simple()},
        }
        found = self.payloads(addressed, fields, path=PATH, uses={})
        # Each begins with its recipients; turned round, they share all that comes before.
        *first, last = found[0].content.parts
        assert isinstance(last, bytes)  # it ends with the closing brace at least
        front = Body((b"{", *first, last[:-1] + b","))
        ends = [(one.recipients, one.opening[1:-1] + b"}") for one in found]
        template = self.asked.template
        uses = {"template": template, **options.uses} if template else options.uses
        return payloads(front, ends, About((author.address,), uses, found[0].losses), self.takes)

    def _simple(self) -> dict[str, object]:
        return {"Subject": _text(self._subject()), "Body": self._bodies(), **self._parts()}

    def _subject(self) -> str:
        """A space where there is none: whether SES takes an empty one nobody says, and one imitation of it does not."""
        return self.subject() or " "

    def _bodies(self) -> dict[str, object]:
        """A message needs a body: an empty one becomes a space."""
        text, html = self.rebuilt.text, self.rebuilt.html
        if not text and not html:
            return {"Text": _text(" ")}
        return {name: _text(body) for name, body in (("Text", text), ("Html", html)) if body}

    def _template(self) -> dict[str, object]:
        """Subject and bodies come from the template; the data are JSON in a string."""
        name = self.asked.template
        data = small_json(dict(self.asked.template_model or {})).decode()
        if len(data) > MAX_DATA:
            self.refuse(f"the template's data have {len(data):,} characters; Amazon SES takes {MAX_DATA:,}", size=True)
        if name.lower() == INLINE:
            text, html = self.rebuilt.text, self.rebuilt.html
            own = {"Subject": self._subject(), "Text": text or ("" if html else " "), "Html": html or ""}
            chosen: dict[str, object] = {"TemplateContent": {part: content for part, content in own.items() if content}}
        elif name.startswith("arn:"):
            if not _ARN.fullmatch(name):
                self.refuse(f"{name[:40]!r} is not the ARN of a template")
            chosen = {"TemplateArn": name}
        else:
            chosen = {"TemplateName": name}
        return {**chosen, "TemplateData": data, **self._parts()}

    def _parts(self) -> dict[str, object]:
        """Header fields and files."""
        found = {"Headers": self._headers(), "Attachments": [self._file(file) for file in self.files()]}
        return {name: value for name, value in found.items() if value}

    def _headers(self) -> list[dict[str, str]]:
        """What fits, in order; of a field that SES takes only once the first."""
        once = singles.reduced(self.block)
        for what in once.losses:
            self.lose(what)
        self.block = once.block
        found = []
        for _, name, value in self.fields():
            plain = value if value.isascii() else addresses.encoded(header.text(value.encode("utf-8", "replace")))
            if not self._fits(name, plain):
                self.lose(f"the field {name[:40]} is left out: its name and value are longer than {self.name} takes", "hard")
            else:
                found.append({"Name": name, "Value": plain})
        if len(found) > MAX_HEADERS:
            self.lose(f"of {len(found)} further header fields only {MAX_HEADERS} go along", "hard")
        return found[:MAX_HEADERS]

    @staticmethod
    def _fits(name: str, value: str) -> bool:
        return (
            len(name) <= MAX_HEADER_NAME
            and _NAME.fullmatch(name) is not None
            and len(value) <= MAX_HEADER_VALUE
            and len(name) + len(value) <= MAX_HEADER_LINE
        )

    def _file(self, file: fidelity.Attachment) -> dict[str, object]:
        disposition: Literal["INLINE", "ATTACHMENT"] = "INLINE" if file.content_id else "ATTACHMENT"
        found: dict[str, object] = {
            "FileName": file.name,
            "ContentDisposition": disposition,
            "ContentType": file.content_type,
            "ContentTransferEncoding": "BASE64",
            "RawContent": File(file.part),
        }
        if file.content_id:
            found["ContentId"] = file.content_id
        for what, value in (("Content-ID", file.content_id), ("content type", file.content_type)):
            if len(value) > MAX_TYPE:
                self.lose(f"the {what} of {file.name} has {len(value)} characters; {self.name} takes {MAX_TYPE}", "hard")
        if len(file.content_id) > MAX_TYPE:
            del found["ContentId"]
        if len(file.content_type) > MAX_TYPE:
            found["ContentType"] = file.content_type.partition(";")[0][:MAX_TYPE]
        return found


def _text(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}
