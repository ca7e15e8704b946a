"""Header blocks as bytes: where they end, which fields they hold, what a field says.

A header block is cut out of the message before anything looks inside (parsing a whole 10 MB message for three fields
costs thousands of times more). Nothing here raises on any input: what is not a field is not returned, and a text that
cannot be decoded is shown with replacement characters. RFC 5322 §2.2, RFC 2047.
"""

from __future__ import annotations

import codecs
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp
from collections.abc import Iterator
from itertools import groupby

MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5322 §2.1.1)."""

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")
_MBOX = re.compile(rb">?From (?![ \t]*:)[^\n]*\n")  # `From : a@b` is a field (RFC 5322 §4.5.2)
_BLANK = re.compile(rb"(?:[ \t]+\r?\n)+")
_HIDDEN = re.compile(rb"^(?:(?:resent-)?bcc|return-path|delivered-to|x-(?:ses|mt|pm|relay)-[!-9;-~]*)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]+")
_WORD = re.compile(r"=\?([!-)+-<>@-~]+)(?:\*[^?]*)?\?([BbQq])\?([^?]*)\?=")  # charset, RFC 2231 language, encoding, text
_WORDS = re.compile(rf"{_WORD.pattern}(?:\s*{_WORD.pattern})*")
_NOT_CHARSETS = frozenset({"unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"})
_MAX_DECODED = 64 * 1024


def split(data: bytes) -> tuple[bytes, int]:
    """(header block, offset of the body) of a message, or of the first part of one, with CRLF line ends.

    The block ends at the first empty line, or before the first line that is neither a field nor its continuation
    (the body then starts there: such mail exists). A leading mbox `From ` line and leading lines of white space belong to the
    block.
    """
    position = 0
    for lead in (_MBOX, _BLANK):
        if match := lead.match(data, position):
            position = match.end()
    while match := _FIELD.match(data, position):
        position = match.end()
    if data.startswith(b"\r\n", position):
        return data[:position], position + 2
    return data[:position], position


def cut(message: bytes) -> tuple[bytes, int]:
    """`split` for a whole message that is to leave: no field that no recipient may see stays behind in the body.

    A line that is no field (a subject with a raw line end, say) tears a block in two. Where a Bcc or a control header stands
    in the second half, the block goes on to the first empty line.
    """
    block, body = split(message)
    if body > len(block):
        return block, body
    end = message.find(b"\r\n\r\n", max(body - 2, 0))
    end = end + 2 if end >= 0 else len(message)
    if not _HIDDEN.search(message, body, end):
        return block, body
    return message[:end], min(end + 2, len(message))


def fields(block: bytes) -> Iterator[tuple[str, bytes]]:
    """(name in lower case, the whole field as it stands) of each field, in order, and all octets of the block.

    A leading mbox line is named `from `, leading lines of white space are named ` `; a line that is no field, in a block from
    `cut`, is named "".
    """
    position = 0
    for name, lead in (("from ", _MBOX), (" ", _BLANK)):
        if match := lead.match(block, position):
            yield name, match.group()
            position = match.end()
    while position < len(block):
        match = _FIELD.match(block, position)
        end = match.end() if match else (block.find(b"\n", position) + 1 or len(block))
        yield match.group(1).decode("ascii").lower() if match else "", block[position:end]
        position = end


def value(field: bytes) -> bytes:
    """The field's value: unfolded, without the white space around it."""
    return field.partition(b":")[2].replace(b"\r\n", b"").strip()


def values(block: bytes, name: str) -> list[bytes]:
    """The unfolded values of every field called `name` (lower case)."""
    return [value(field) for found, field in fields(block) if found == name]


def first(block: bytes, name: str) -> bytes:
    """The unfolded value of the first field called `name` (lower case), or b""."""
    return next((value(field) for found, field in fields(block) if found == name), b"")


def text(raw: bytes) -> str:
    """An unfolded value for people and for matching: encoded words decoded, control characters (an encoded CR LF too)
    turned into spaces. Never raises."""
    raw = raw[:_MAX_DECODED]
    plain = _WORDS.sub(_decode_words, raw.decode("utf-8", "replace"))
    return _CONTROL.sub(" ", plain).strip()


def _decode_words(words: re.Match[str]) -> str:
    """Encoded words that follow each other, as one text: white space between them goes, and neighbours in one charset are
    decoded together, because mailers cut characters in two (RFC 2047 §6.2)."""
    found = [(charset.lower(), _octets(encoding, encoded)) for charset, encoding, encoded in _WORD.findall(words.group())]
    return "".join(_decode(b"".join(octets for _, octets in same), charset) for charset, same in groupby(found, lambda word: word[0]))


def _octets(encoding: str, encoded: str) -> bytes:
    if encoding in "Qq":
        return a2b_qp(encoded.encode(), header=True)
    try:
        return a2b_base64(encoded.encode() + b"==")
    except Base64Error:
        return encoded.encode()


def _decode(octets: bytes, charset: str) -> str:
    try:
        name = codecs.lookup(charset).name
        return octets.decode("utf-8" if name.replace("_", "-") in _NOT_CHARSETS else name, "replace")
    except (LookupError, ValueError):
        return octets.decode("utf-8", "replace")
