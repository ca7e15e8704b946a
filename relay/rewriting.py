"""Senders rewritten, and mail redirected: the edits for it, on top of those that were decided when the message came in.

`Rewriting` puts addresses that a provider takes in the place of those it does not, such as `root@` of a host: the reverse-path,
and the From and Sender fields where an address in them fits a rule. `redirected` addresses a message to one mailbox, so that no
field shows a recipient that any server or API could deliver to; what stood there before is kept, in fields that nothing obeys:
`X-Original-From`, `-Sender`, `-Return-Path` (the reverse-path), `-To`, `-Cc`, `-Resent-To`, `-Resent-Cc` and `-Recipient` (the
envelope's recipients). `guarded` takes away, and does not keep, fields that are orders to deliver to others than the envelope names.

Promises: the stored message does not change; the display name stays; a field of ours is ASCII, holds no line end but its folds, and
no line over 998 octets; a message that nothing is to change of keeps its edits. Pure; never raises, whatever the block holds.
RFC 5322 §3.4 and §3.6.2, RFC 2047.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.header import Header

from relay import address, charsets, header, mailboxes
from relay.mailboxes import Mailbox
from relay.model import Edit, EditKind
from relay.routing import matches

_SENDERS = ("From", "Sender")
_SHOWN = ("To", "Cc", "Resent-To", "Resent-Cc")
_HIDDEN = ("bcc", "resent-bcc")  # gone already, unless somebody else decided the edits
_ORDERS = frozenset({"apparently-to", "x-mc-bccaddress", "x-msys-api", "x-smtpapi"})
"""Fields that name recipients beyond the envelope's to those who obey them: old mail servers; Mandrill, SparkPost and SendGrid, which may
be behind a smarthost (their SMTP documentation, 2026-11)."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_LONG = re.compile(r"\S{200}(?=\S)")
_LINE = 76  # characters of a folded line, where its words let it be so short
_MOST = 16 * 1024  # characters of a field that is kept; what is more is counted, not kept
_MAX_KEPT = 100  # recipients that are kept


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Rules of a glob and the address that takes the place of what fits it; the first that fits counts. The globs read an address as
    it stands and as addresses compare (relay/address.py), and `root` alone in a field as `root@`."""

    rules: tuple[tuple[str, str], ...] = ()

    def reverse_path(self, path: str) -> str:
        """The reverse-path to send with; the null one (`""`) stays."""
        return self._instead(path) or path

    def edits(self, block: bytes, edits: Sequence[Edit], reverse_path: str = "") -> tuple[Edit, ...]:
        """The edits with which a message leaves that came with header block `block` and gets `edits`: these, and what From and Sender
        become. `reverse_path` is the one it came with, kept in a field where it is rewritten. Several From fields become one."""
        if not self.rules:
            return tuple(edits)
        gone: list[str] = []
        fields = ""
        for name in _SENDERS:
            values = list(_texts(block, name.lower()))
            if (written := self._rewritten(values)) is not None:
                gone.append(name.lower())
                fields += _folded(name, written) + _kept(f"X-Original-{name}", values)
        if self.reverse_path(reverse_path) != reverse_path:
            fields += _kept("X-Original-Return-Path", [f"<{reverse_path}>"])
        return _changed(edits, gone, fields)

    def _instead(self, found: str) -> str:
        """What takes the place of an address, or ""."""
        if not found:
            return ""
        forms = {found, address.key(found)} if "@" in found else {f"{address.key(found)}@"}
        return next((to for glob, to in self.rules if any(matches(glob, form) for form in forms)), "")

    def _rewritten(self, values: Iterable[str]) -> list[str] | None:
        """The words that a field becomes; None where nothing in it fits a rule. An address that no server could read is left out."""
        boxes = [box for value in values for box in mailboxes.parse(value, local=True)]
        instead = [self._instead(box.address) for box in boxes]
        if not any(instead):
            return None
        found: dict[str, list[str]] = {}
        for box, to in zip(boxes, instead, strict=True):
            if one := to or _readable(box.address):
                found.setdefault(address.key(one), _written(box, one))
        *others, last = found.values()
        return [word for words in others for word in (*words[:-1], f"{words[-1]},")] + last


def guarded(block: bytes, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The edits with which a message leaves where a staging guard says who may get it: `edits`, and every field taken away by which a
    mail server or a provider delivers to others than the envelope names."""
    found = _ORDERS & {name for name, _ in header.fields(block)}
    return (*edits, *(Edit(EditKind.REMOVE, name) for name in sorted(found)))


def redirected(block: bytes, edits: Sequence[Edit], to: str, originals: Sequence[str]) -> tuple[Edit, ...]:
    """The edits with which a message leaves to `to` alone: `edits`, and To, Cc and the Resent- fields taken away. `originals` are the
    recipients for whom it is redirected."""
    fields = _folded("To", to.split())
    for name in _SHOWN:
        if values := list(_texts(block, name.lower())):
            fields += _kept(f"X-Original-{name}", values)
    if originals:
        more = [f"and {len(originals) - _MAX_KEPT} more"] if len(originals) > _MAX_KEPT else []
        fields += _kept("X-Original-Recipient", [*originals[:_MAX_KEPT], *more])
    return _changed(edits, [*map(str.lower, _SHOWN), *_HIDDEN], fields)


def _changed(edits: Sequence[Edit], gone: Sequence[str], fields: str) -> tuple[Edit, ...]:
    """On top, because an APPEND may have ended the header block already."""
    if not fields:
        return tuple(edits)
    return (*edits, *(Edit(EditKind.REMOVE, name) for name in gone), Edit(EditKind.PREPEND, fields))


def _texts(block: bytes, name: str) -> Iterator[str]:
    """The values of every field called `name` (lower case) as text, encoded words and all; 8-bit octets as what they seem to be."""
    return (_CONTROL.sub(" ", charsets.decode(value, "")).strip() for value in header.values(block, name))


def _readable(found: str) -> str:
    """An address that no rule is about, with its domain as A-labels; "" where a strict reader would not take it for one."""
    local, domain = address.split(found)
    try:
        mended = f"{local}@{address.domain_ascii(domain)}"
    except address.AddressError:
        return ""
    return mended if address.valid(mended) else ""


def _written(box: Mailbox, to: str) -> list[str]:
    """The words of a mailbox in ASCII. Its name is in encoded words where it is not, or would be read as encoded, or would be a quoted
    string that needs folding, which some readers take for its end."""
    name = " ".join(header.text(box.name.encode("utf-8", "replace")).split())
    if not name:
        return [to]
    quoted = mailboxes.write(name, to).removesuffix(f" <{to}>")
    if not name.isascii() or "=?" in name or (quoted != name and len(quoted) > _LINE):
        return [*_encoded(name).split(), f"<{to}>"]
    return [*([quoted] if quoted != name else _LONG.sub(r"\g<0> ", name).split()), f"<{to}>"]


def _encoded(text: str) -> str:
    return Header(text, "utf-8").encode(linesep="").replace("\n", "")


def _kept(name: str, values: Sequence[str]) -> str:
    """A field that tells what stood elsewhere."""
    text = ", ".join(values)
    if len(text) > _MOST:
        text = f"{text[:_MOST]} ... ({len(text) - _MOST} characters more)"
    if not text.isascii():
        text = _encoded(header.text(text.encode("utf-8", "replace")))
    return _folded(name, _LONG.sub(r"\g<0> ", text).split()) if text else ""


def _folded(name: str, words: Sequence[str]) -> str:
    """A field of these words."""
    lines, line = [], f"{name}:"
    for word in words:
        if len(line) + len(word) >= _LINE and line != f"{name}:":
            lines.append(line)
            line = f" {word}"
        else:
            line += f" {word}"
    return "".join(f"{one}\r\n" for one in (*lines, line))
