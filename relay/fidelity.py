"""Fidelity: a message taken apart for a JSON API, and what is lost on that way.

Such an API rebuilds the message from one text, one HTML and a flat list of attachments, and delivers to the addresses it
shows. `rebuild` and `address` say what to hand over; every difference a recipient could notice is a Loss. A hard loss
changes what the mail means or does (a broken signature, an invitation that cannot be answered): such mail is refused, or
goes another way. A cosmetic loss does not. Attachments are the parts as sent, never re-serialised.
Pure; raises nothing but what reading a part raises (MimeError is raised earlier, by mime.parse).
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from relay import address as addresses
from relay import header, mailboxes
from relay.mailboxes import Mailbox
from relay.mime import Part

_HARD = {
    "multipart/signed": "the signature of multipart/signed would break",
    "multipart/encrypted": "multipart/encrypted cannot be rebuilt",
    "multipart/report": "multipart/report (a delivery report or the like) loses its structure",
    "message/partial": "message/partial (a piece of a message) cannot be rebuilt",
    "message/external-body": "message/external-body cannot be rebuilt",
    "application/pkcs7-mime": "S/MIME (application/pkcs7-mime) cannot be rebuilt",
    "application/x-pkcs7-mime": "S/MIME (application/x-pkcs7-mime) cannot be rebuilt",
    "application/pgp": "PGP (application/pgp) cannot be rebuilt",
    "application/pgp-encrypted": "PGP (application/pgp-encrypted) cannot be rebuilt",
}
_CALENDAR = "a calendar entry (text/calendar) would become a file that cannot be answered"
_PLAIN_MULTIPARTS = frozenset({"multipart/mixed", "multipart/alternative", "multipart/related", *_HARD})
_BODIES = frozenset({"text/plain", "text/html"})
_CID = re.compile(r"cid:([^\"'\s<>)]+)", re.I)
_URL = re.compile(r"(?:src|href|background)\s*=\s*[\"']?([^\"'\s<>]+)|\burl\(\s*[\"']?([^\"'\s<>)]+)", re.I)
_INLINE_PGP = re.compile(r"^-----BEGIN PGP SIGNED MESSAGE-----[ \t]*$", re.M)
_META = re.compile(r"(<meta\b[^>]*?charset\s*=\s*[\"']?)[\w.:-]+", re.I)
_MAX_BLANK = 1000  # octets; a part that is longer is not looked at to find out whether it is blank
_META_WITHIN = 4096  # characters; browsers look for it in the first 1024 octets
_SAFE_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_TOKEN = re.compile(r"[\w.:+-]+", re.A)
_UNICODE = frozenset({"", "utf-8", "utf8", "us-ascii"})
_ENDINGS = {
    "text/plain": "txt",
    "text/html": "html",
    "text/csv": "csv",
    "text/calendar": "ics",
    "text/x-vcard": "vcf",
    "text/vcard": "vcf",
    "text/xml": "xml",
    "application/xml": "xml",
    "application/json": "json",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/ms-tnef": "dat",
    "application/pgp-signature": "asc",
    "application/pkcs7-signature": "p7s",
    "application/x-pkcs7-signature": "p7s",
    "application/pkcs7-mime": "p7m",
    "application/x-pkcs7-mime": "p7m",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/tiff": "tif",
    "image/svg+xml": "svg",
    "message/rfc822": "eml",
    "message/global": "eml",
    "message/delivery-status": "txt",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """What a conversion cannot carry; `what` is a phrase fit for a bounce."""

    grade: Literal["hard", "cosmetic"]
    what: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that goes as a file. `content_id` is not empty where the HTML shows it inline."""

    part: Part
    name: str
    content_type: str
    content_id: str


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A message as a JSON API takes it; `text` and `html` are None where the message has none."""

    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    losses: tuple[Loss, ...]


def rebuild(message: Part) -> Rebuilt:
    """Take a message apart: the first text shown is the body (text and HTML of one multipart/alternative), the rest are files."""
    builder = _Builder()
    builder.visit(message, alternative=False)
    if not message.parts and message.filename.lower().endswith(".p7m"):  # whatever it calls itself (RFC 8551 §3.2.1)
        builder.lose("hard", _HARD["application/pkcs7-mime"])
    html = builder.html
    written = {markup.unescape(cid) for cid in _CID.findall(html or "")}
    shown = written | {unquote(cid) for cid in written}  # RFC 2392 §2: percent-encoded there; some mailers have it so in the field too
    linked = {markup.unescape(url) for urls in _URL.findall(html or "") for url in urls if url}
    attachments = []
    for part in builder.files:
        content_id = part.content_id if part.content_id in shown else ""
        shown.discard(content_id)
        if not content_id and part.content_location and part.content_location in linked:
            builder.lose("hard", "a picture or file that the HTML refers to by Content-Location")
        attachments.append(Attachment(part, part.filename or _name(part), _type(part), content_id))
    return Rebuilt(builder.text, html, tuple(attachments), tuple(dict.fromkeys(builder.losses)))


@dataclass
class _Builder:
    """Walks the tree of parts and puts each leaf where it belongs."""

    text: str | None = None
    html: str | None = None
    files: list[Part] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    blank: bool = True  # nothing to see in the body so far: the next text is the body

    def lose(self, grade: Literal["hard", "cosmetic"], what: str) -> None:
        self.losses.append(Loss(grade, what))

    def say(self, text: str, *, html: bool = False) -> None:
        """Put a text into the body."""
        if html:
            self.html = text
        else:
            self.text = text
        self.blank = self.blank and not html and not text.strip()

    def visit(self, part: Part, *, alternative: bool) -> None:
        """`alternative`: below a multipart/alternative that is the body, where a text and an HTML stand for each other."""
        if part.content_type in _HARD:
            self.lose("hard", _HARD[part.content_type])
        if part.maintype != "multipart":
            self._leaf(part, alternative)
        elif not part.parts:
            self._undivided(part)
        elif part.content_type == "multipart/alternative":
            self._alternative(part)
        elif part.content_type == "multipart/related":
            self._related(part, alternative)
        else:
            if part.content_type not in _PLAIN_MULTIPARTS:
                self.lose("cosmetic", f"{part.content_type} becomes separate attachments")
            pair = part.parts[:2] if self._is_pair(part) else ()
            for child in part.parts:
                self.visit(child, alternative=alternative or child in pair)

    def _is_pair(self, part: Part) -> bool:
        """Whether a multipart begins with a text and its HTML side by side, as scripts build it that mean an alternative."""
        first = part.parts[:2]
        if not self.blank or [child.content_type for child in first] != ["text/plain", "text/html"]:
            return False
        if any(child.disposition or child.filename for child in first):
            return False
        self.text = None
        self.lose("cosmetic", f"a text and an HTML side by side in {part.content_type} stand for each other")
        return True

    def _alternative(self, part: Part) -> None:
        is_body = self.blank
        self.text = None if is_body else self.text
        for child in part.parts:
            if child.content_type == "text/calendar":
                self.lose("hard", _CALENDAR)
            elif child.content_type == "text/x-amp-html":
                self.lose("hard", "the AMP form (text/x-amp-html)")
            elif child.content_type not in _BODIES and child.maintype != "multipart":
                self.lose("cosmetic", f"the {child.content_type} form of a multipart/alternative becomes an attachment")
            self.visit(child, alternative=is_body)
        if is_body and [child.content_type for child in part.parts if child.content_type in _BODIES][:2] == ["text/html", "text/plain"]:
            self.lose("cosmetic", "the text, which is the preferred form because it stands behind the HTML, goes before it")

    def _related(self, part: Part, alternative: bool) -> None:
        start = part.parameters.get("start", "").strip("<> ")
        root = next((child for child in part.parts if start and child.content_id == start), part.parts[0])
        self.visit(root, alternative=alternative)
        for child in part.parts:
            if child is not root:
                self.visit(child, alternative=False)

    def _leaf(self, part: Part, alternative: bool) -> None:
        if part.content_type == "text/calendar" and "method" in part.parameters and part.disposition != "attachment":
            self.lose("hard", _CALENDAR)
        is_body = self._is_body(part, alternative)
        if part.encoding.startswith("x-"):
            grade: Literal["hard", "cosmetic"] = "cosmetic" if is_body else "hard"  # a file would be another file
            self.lose(grade, f"transfer encoding {part.encoding[:40]} is not known; the part goes as it is")
        if not is_body:
            self._file(part)
            return
        if part.charset not in _UNICODE:
            self.lose("cosmetic", f"text in {part.charset[:40]} becomes UTF-8")
        text = part.text()
        if "\0" in text:
            self.lose("cosmetic", "NUL characters in the text are left out")
            text = text.replace("\0", "")
        if _INLINE_PGP.search(text):
            self.lose("hard", "the PGP signature of a text that is signed within itself may break")
        if not alternative:
            self.text = None  # a blank one
        if part.content_type == "text/html":
            self.say(_META.sub(r"\1utf-8", text[:_META_WITHIN]) + text[_META_WITHIN:], html=True)
        else:
            self.say(text)

    def _file(self, part: Part) -> None:
        is_text = part.content_type in _BODIES and part.disposition != "attachment" and not part.filename
        if is_text and part.end - part.body < _MAX_BLANK and not part.decoded().strip():
            return  # nothing to see: mailers end a multipart so
        if is_text and not part.disposition:
            self.lose("cosmetic", f"a further {part.content_type} part becomes an attachment")
        self.files.append(part)

    def _undivided(self, part: Part) -> None:
        """A multipart without a boundary, or whose boundary is nowhere: shown as text, as mail readers do."""
        if self.blank:
            self.lose("cosmetic", f"{part.content_type} whose parts cannot be told apart goes as text")
            self.say(part.text().replace("\0", ""))
        else:
            self.lose("cosmetic", f"{part.content_type} whose parts cannot be told apart goes as an attachment")
            self.files.append(part)

    def _is_body(self, part: Part, alternative: bool) -> bool:
        if part.content_type not in _BODIES or part.disposition == "attachment":
            return False
        if alternative:
            return (self.html if part.content_type == "text/html" else self.text) is None
        return not part.named and self.blank


def _name(part: Part) -> str:
    """A name for a part that has none. Its ending is one that no provider blocks (`bin` some do)."""
    if part.content_type == "text/calendar":
        return "invite.ics"
    stem = {"text": "part", "message": "message"}.get(part.maintype, "attachment")
    return f"{stem}.{_ENDINGS.get(part.content_type, 'dat')}"


def _type(part: Part) -> str:
    """The content type for the API, with the parameters that say how to read the content."""
    if not _SAFE_TYPE.fullmatch(part.content_type) or part.maintype == "multipart":
        return "application/octet-stream"
    kept = [name for name in ("charset", "method") if part.maintype == "text" and _TOKEN.fullmatch(part.parameters.get(name, ""))]
    return "; ".join([part.content_type, *(f"{name}={part.parameters[name]}" for name in kept)])


@dataclass(frozen=True, slots=True)
class Addressed:
    """The recipients of one request: mailboxes whose `address` is the envelope's and whose `name` is decoded."""

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope addresses, each once."""
        return tuple(box.address for box in (*self.to, *self.cc, *self.bcc))


def address(
    block: bytes, recipients: Sequence[str], *, limit: int, alone: Callable[[str], bool], bcc_alone: bool = False
) -> tuple[Addressed, ...]:
    """The requests that reach each recipient exactly once, where the addresses a request shows are those it delivers to.

    Shown in To and Cc is who stands there in the header and is a recipient; the others are Bcc. Nobody is shown to whom
    the header did not show him: with no To or Cc left, and for those over `limit`, each recipient has a request of his own,
    and so has one for whom `alone` is true. A request without a To would be refused, so Cc takes its place; where `bcc_alone`
    says that Bcc suffices, those whom the header does not show share such requests.
    """
    left: dict[str, list[str]] = {}
    for recipient in recipients:
        if not alone(recipient):
            left.setdefault(addresses.key(recipient), []).append(recipient)
    to = _shown(block, "to", left)
    cc = _shown(block, "cc", left)
    shown = [*to, *cc]
    names = {box.address: box for box in shown}
    hidden = [Mailbox("", recipient) for recipient in recipients if recipient not in names and not alone(recipient)]
    together: list[Addressed] = []
    if shown:
        shown = shown[:limit]
        room = limit - len(shown)
        to, cc = shown[: len(to)], shown[len(to) :]
        together = [Addressed(tuple(to or cc), tuple(cc if to else ()), tuple(hidden[:room]))]
        hidden = hidden[room:]
    if bcc_alone and len(hidden) > 1:
        together += [Addressed((), bcc=tuple(hidden[start : start + limit])) for start in range(0, len(hidden), limit)]
    done = {recipient for request in together for recipient in request.recipients}
    singly = [Addressed((names.get(recipient, Mailbox("", recipient)),)) for recipient in recipients if recipient not in done]
    return (*together, *singly)


def _shown(block: bytes, name: str, left: Mapping[str, list[str]]) -> list[Mailbox]:
    """The recipients that the field shows, in its order; each is taken out of `left`."""
    found = []
    for box in mailboxes_in(block, name):
        candidates = left.get(addresses.key(box.address), [])
        if candidates:
            recipient = box.address if box.address in candidates else candidates[0]
            candidates.remove(recipient)
            found.append(Mailbox(box.name, recipient))
    return found


def mailboxes_in(block: bytes, name: str) -> list[Mailbox]:
    """The mailboxes in every field called `name` (lower case) of a header block, their display names decoded."""
    found = []
    for value in header.values(block, name):
        for box in mailboxes.parse(value.decode("utf-8", "replace")):
            found.append(Mailbox(header.text(box.name.encode("utf-8", "replace")), box.address))
    return found
