"""MIME as byte ranges: where each part of a message begins and ends, what it is, what it holds.

Nothing is re-serialised: of 880 real messages only 255 survive parse and serialisation unchanged. A `Part` points into the
stored bytes, so an attachment is what was sent.

Hostile input costs linear time: boundaries are found by search, parameters by one regular expression, and the caps
below bound the rest. The only exception is MimeError, which names the cap.
Line ends are expected to be CRLF, as messages are stored; anything else parses as well, but less well.
RFC 2045, 2046, 2047, 2183, 2231, 3676; broken mail is read as the standard library reads it, except where
docs/decisions/003-mime.md says otherwise.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from relay import header
from relay.charsets import decode
from relay.errors import RelayError

MAX_DEPTH = 100  # Postfix mime_nesting_limit
MAX_PARTS = 1000
MAX_HEADER = 256 * 1024  # octets of one header block
MAX_FIELDS = 1000  # in one header block
MAX_PARAMETERS = 100  # of one field
MAX_BOUNDARY = 1000  # octets; RFC 2046 allows 70, mailers have used more
MAX_SCAN = 1 << 30  # octets searched for boundaries in one message, nested multiparts counted again
_LINE_WINDOW = 64 * 1024  # the longest line that the listener takes
_MAX_UU_LINES = 500_000  # 22 MB in lines of the usual length
_FALSE_HIT = 1000  # what a line that only begins like a delimiter costs, in octets of MAX_SCAN

_FIELDS = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "content-id", "content-location"})
# A `;` may be missing: mailers have done that. Possessive, or a long value would be tried in every length.
_TYPE = re.compile(r"([^\s/;(]++/[^\s/;(]++)\s*+(?=[;(]|$|[\w-]++\s*+=)")
_PARAMETER = re.compile(r';([^=;"]*)(?:=\s*(?:"([^"\\]*+(?:\\.[^"\\]*+)*)"[^;]*|([^;]*)))?', re.S)
_EXTENDED = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*?)")
_UNSAFE_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")
_MAX_NAME = 255
_META = re.compile(rb"<meta\b[^>]*?charset\s*=\s*[\"']?([\w.:-]+)", re.I)
_META_WITHIN = 1024  # octets, as browsers have it (WHATWG HTML §13.2.3.2)
_PIECE = 48 * 1024  # octets of a part that is read in pieces
_UU_BEGIN = re.compile(rb"begin [0-7]{3,4} [^\n]*\n")
_UU_END = re.compile(rb"end[ \t\r]*$", re.M)


class MimeError(RelayError):
    """The message is beyond a cap, or cannot be re-encoded; the text is a phrase fit for a bounce."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of a message, as a range of its bytes: header block `data[start:body]`, content `data[body:end]`.

    `content_type` is lower case; `encoding` is the transfer encoding, "" for none (7bit, 8bit, binary). `disposition` is
    lower case or "". `filename` is decoded and holds no path, control or bidi characters; `named` says that it came from
    Content-Disposition. `parts` are the children of a multipart, or the one message in a message/rfc822.
    """

    data: bytes = field(repr=False)
    start: int
    body: int
    end: int
    header: bytes = field(repr=False)
    content_type: str
    parameters: Mapping[str, str]
    encoding: str
    disposition: str
    filename: str
    named: bool
    content_id: str
    content_location: str
    parts: tuple[Part, ...]

    @property
    def maintype(self) -> str:
        """What stands before the slash of the content type."""
        return self.content_type.partition("/")[0]

    @property
    def charset(self) -> str:
        """The declared charset in lower case, or ""."""
        return (self.parameters.get("charset", "").lower().split() or [""])[0]

    def walk(self) -> Iterator[Part]:
        """This part and all below it, in order."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def raw(self) -> bytes:
        """The content as it stands, in its transfer encoding."""
        return self.data[self.body : self.end]

    @property
    def ascii(self) -> bool:
        """Whether the content as it stands has no 8-bit octets."""
        return all(self.data[start : min(start + _PIECE, self.end)].isascii() for start in range(self.body, self.end, _PIECE))

    def decoded(self) -> bytes:
        """The content without its transfer encoding; what is broken is read as far as the standard library reads it."""
        if self.encoding == "base64":
            return _from_base64(self.raw().translate(None, b"\r\n"))
        if self.encoding == "quoted-printable":
            return binascii.a2b_qp(self.raw())
        if self.encoding == "uuencode":
            return _from_uuencode(self.raw())
        return self.raw()

    def octets(self) -> Iterator[bytes | memoryview]:
        """What `decoded` gives, in pieces, so that a large part needs no memory of its own: where it has no transfer encoding, or
        quoted-printable. Another encoding gives one piece."""
        if self.encoding not in ("", "quoted-printable"):
            yield self.decoded()
            return
        start = self.body
        while start < self.end:
            end = min(start + _PIECE, self.end)
            if not self.encoding:
                yield memoryview(self.data)[start:end]
            else:  # whole lines: nothing of quoted-printable goes beyond its line
                end = self.data.find(b"\n", end - 1, self.end) + 1 or self.end
                yield binascii.a2b_qp(self.data[start:end])
            start = end

    def text(self) -> str:
        """The content as text with LF line ends, by its declared charset; format=flowed is unfolded (RFC 3676). HTML that has a
        charset only in itself is read by that, where it is not UTF-8."""
        octets = self.decoded()
        within = _META.search(octets[:_META_WITHIN]) if self.content_type == "text/html" and not self.charset else None
        text = decode(octets, self.charset, within[1].decode() if within else "").removeprefix("\ufeff").replace("\r\n", "\n")
        if self.content_type == "text/plain" and self.parameters.get("format", "").lower() == "flowed":
            return _unflow(text, self.parameters.get("delsp", "").lower() == "yes")
        return text


def parse(data: bytes) -> Part:
    """The message as a tree of parts. Raises MimeError when it is beyond a cap."""
    return _Reader(data).part(0, len(data), len(data), "text/plain", 0)


def parse_with(head: bytes, data: bytes, at: int) -> Part:
    """As `parse` of `head` and of what `data` has from `at` on, without a copy of that, where `head` is a whole header block
    (the outermost part's `header`; its `start` is no place in `data`). Raises MimeError when it is beyond a cap.
    """
    if header.split(head + b"\r\n")[0] != head:  # torn: what follows the tear is body
        return parse(head + data[at:])
    if len(head) > MAX_HEADER:
        raise _large_header()
    ended = data.startswith(b"\r\n", at)
    reader = _Reader(data)
    reader.count(0)
    return reader.below(head, at, at + 2 * ended, len(data), "text/plain", 0)


def _large_header() -> MimeError:
    return MimeError(f"a header larger than {MAX_HEADER // 1024} KiB")


class _Reader:
    """Reads one message; counts what it may cost."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = 0
        self._scanned = 0

    def part(self, start: int, end: int, limit: int, default: str, depth: int) -> Part:
        """The part whose content ends at `end`. Its header may use the octets up to `limit` too: a line end that belongs
        to the delimiter that follows may also end the last field."""
        self.count(depth)
        block, offset = self._header(start, limit)
        return self.below(block, start + len(block), min(start + offset, end), end, default, depth, start=start)

    def count(self, depth: int) -> None:
        """One part more, this deep."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MimeError(f"more than {MAX_PARTS} MIME parts")
        if depth > MAX_DEPTH:
            raise MimeError(f"MIME parts nested deeper than {MAX_DEPTH}")

    def below(self, block: bytes, head_end: int, body: int, end: int, default: str, depth: int, *, start: int = 0) -> Part:
        """The part with the header block `block`, which ends at `head_end`, and the content from `body` to `end`."""
        found = _wanted(block)
        content_type, parameters = _content_type(found.get("content-type"), default)
        disposition, attributes = _parse_parameters(_plain(found.get("content-disposition", b"")))
        encoding = _encoding(found.get("content-transfer-encoding", b""))
        filename = attributes.get("filename", "")
        return Part(
            data=self._data,
            start=start,
            body=body,
            end=end,
            header=block,
            content_type=content_type,
            parameters=parameters,
            encoding=encoding,
            disposition=disposition.lower(),
            filename=safe_name(filename or parameters.get("name", "")),
            named=bool(filename),
            content_id=header.text(found.get("content-id", b"")).strip("<> "),
            content_location=header.text(found.get("content-location", b"")),
            parts=self._multipart(parameters, content_type, body, end, depth + 1)
            if content_type.startswith("multipart/")
            else self._message(content_type, encoding, head_end, body, end, depth + 1),
        )

    def _header(self, start: int, limit: int) -> tuple[bytes, int]:
        window = self._data[start : min(limit, start + MAX_HEADER + _LINE_WINDOW)]
        block, offset = header.split(window)
        cut = start + len(window) < limit and offset == len(block) and b"\n" not in window[offset:]
        if cut or len(block) > MAX_HEADER:
            raise _large_header()
        return block, offset

    def _multipart(self, parameters: Mapping[str, str], content_type: str, body: int, end: int, depth: int) -> tuple[Part, ...]:
        boundary = parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
        if len(boundary) > MAX_BOUNDARY:
            raise MimeError(f"a MIME boundary longer than {MAX_BOUNDARY} octets")
        default = "message/rfc822" if content_type == "multipart/digest" else "text/plain"
        return tuple(self._between(boundary, body, end, default, depth)) if boundary else ()

    def _message(self, content_type: str, encoding: str, header_end: int, body: int, end: int, depth: int) -> tuple[Part, ...]:
        """The message in a message/rfc822. Encoded, or without the empty line before it, it is a file like any other: its
        own header could not be told from the one around it."""
        if content_type not in ("message/rfc822", "message/global") or encoding or body == header_end:
            return ()
        return (self.part(body, end, end, "text/plain", depth),)

    def _between(self, boundary: bytes, body: int, end: int, default: str, depth: int) -> Iterator[Part]:
        """The parts between the delimiter lines. Without a closing line the last part goes to the end; two delimiters in
        a row hold no part between them."""
        opened: int | None = None
        for hit, after, closes in self._delimiters(boundary, body, end):
            if opened is not None and hit >= opened:
                stop = hit - 1 if hit > opened and self._data[hit - 1 : hit] == b"\r" else hit
                yield self.part(opened, stop, hit + 1, default, depth)
            if closes:
                return
            opened = after
        if opened is not None:
            yield self.part(opened, end, end, default, depth)

    def _delimiters(self, boundary: bytes, body: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """(offset of the LF before it, offset after its line, whether it closes) of each delimiter line."""
        needle = b"\n--" + boundary
        position = body - 1
        while True:
            hit = self._data.find(needle, position, end)
            self._scanned += (hit if hit >= 0 else end) - position
            if hit < 0:
                return
            after = self._data.find(b"\n", hit + 1, end) + 1 or end
            rest = self._data[hit + len(needle) : after].rstrip(b" \t\r\n")
            if rest in (b"", b"--"):
                position = after - 1
                yield hit, after, rest == b"--"
            else:
                position = hit + 1
                self._scanned += _FALSE_HIT
            if self._scanned > MAX_SCAN:
                raise MimeError("MIME boundaries that cost too much to follow")


def _wanted(block: bytes) -> dict[str, bytes]:
    """The values of the MIME fields, the first one of each."""
    found: dict[str, bytes] = {}
    for count, (name, whole) in enumerate(header.fields(block), 1):
        if count > MAX_FIELDS:
            raise MimeError(f"more than {MAX_FIELDS} fields in one header")
        if name in _FIELDS and name not in found:
            found[name] = header.value(whole)
    return found


def _plain(raw: bytes) -> str:
    """A field value as text. Raw 8-bit octets have no declared charset: UTF-8 where it fits, else windows-1252."""
    return raw.decode("ascii") if raw.isascii() else decode(raw, "")


def _content_type(raw: bytes | None, default: str) -> tuple[str, Mapping[str, str]]:
    if raw is None:
        return default, {}
    value = _plain(raw)
    found = _TYPE.match(value)
    if found is None:
        return "text/plain", _parse_parameters(value)[1]
    return found[1].lower(), _parse_parameters(";" + value[found.end() :])[1]


_KNOWN_ENCODINGS = {
    "base64": "base64",
    "quoted-printable": "quoted-printable",
    **dict.fromkeys(("x-uuencode", "uuencode", "uue", "x-uue"), "uuencode"),
}


def _encoding(raw: bytes) -> str:
    """The transfer encoding. A misspelt 7bit or 8bit is none; only a name that begins with x- is kept as it is."""
    name = (re.split(r"[;(\s]", _plain(raw).lower().strip('"'), maxsplit=1))[0]
    return _KNOWN_ENCODINGS.get(name, name if name.startswith("x-") else "")


def _parse_parameters(value: str) -> tuple[str, Mapping[str, str]]:
    """The value before the first `;`, and the parameters with names in lower case; of two with one name the first."""
    main, semicolon, rest = value.partition(";")
    plain: dict[str, str] = {}
    extended: dict[str, list[tuple[int, str, bool]]] = {}
    for count, match in enumerate(_PARAMETER.finditer(semicolon + rest), 1):
        if count > MAX_PARAMETERS:
            raise MimeError(f"more than {MAX_PARAMETERS} parameters in one field")
        name, quoted, token = match[1].strip().lower(), match[2], match[3]
        text = quoted.replace("\\\\", "\\").replace('\\"', '"') if quoted is not None else (token or "").strip()
        star = _EXTENDED.fullmatch(name)
        if star and "*" in name:
            extended.setdefault(star[1], []).append((int(star[2] or 0), text, bool(star[3])))
        elif name:
            plain.setdefault(name, header.text(text.encode("utf-8", "replace")) if "=?" in text else text)
    plain.update((name, _join_extended(pieces)) for name, pieces in extended.items())
    return main.strip(), plain


def _join_extended(pieces: list[tuple[int, str, bool]]) -> str:
    """RFC 2231: continuations in order, percent-decoded where marked, in the charset that the first piece names."""
    pieces.sort(key=lambda piece: piece[0])
    charset = ""
    first = pieces[0]
    if first[2] and first[1].count("'") >= 2:
        charset, _, text = first[1].split("'", 2)
        pieces[0] = (first[0], text, True)
    raw = b"".join(unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace") for _, text, encoded in pieces)
    return decode(raw, charset)


def safe_name(name: str) -> str:
    """A file name without path, control, bidi and invisible characters, at most 255 characters (its ending kept), or ""."""
    name = re.split(r"[/\\]", _UNSAFE_IN_NAMES.sub("", name).rstrip("/\\"))[-1].strip()
    if len(name) > _MAX_NAME:
        stem, dot, ending = name.rpartition(".")
        name = stem[: _MAX_NAME - len(ending) - 1] + dot + ending if stem and len(ending) < 20 else name[:_MAX_NAME]
    return "" if name.strip(". ") == "" else name


def _from_base64(raw: bytes) -> bytes:
    """As the standard library does: strict with the padding mended, else without what is not base64, else as it is."""
    for padding, strict in ((b"==="[: -len(raw) % 4], True), (b"", False), (b"==", False)):
        with contextlib.suppress(binascii.Error):
            return binascii.a2b_base64(raw + padding, strict_mode=strict)
    return raw


def _from_uuencode(raw: bytes) -> bytes:
    """The first uuencoded file in `raw`; all of `raw` where there is none or it is broken."""
    begin = _find_line(_UU_BEGIN, b"begin ", raw, 0)
    if begin is None or raw.count(b"\n") > _MAX_UU_LINES:
        return raw
    end = _find_line(_UU_END, b"end", raw, begin.end())
    position, stop = begin.end(), end.start() if end else len(raw)
    found = bytearray()
    try:
        while position < stop:
            after = raw.find(b"\n", position, stop) + 1 or stop + 1
            line = raw[position : after - 1].rstrip(b"\r")
            found += _uu_line(line) if line.strip() else b""
            position = after
    except binascii.Error:
        return raw
    return bytes(found)


def _find_line(pattern: re.Pattern[bytes], start: bytes, raw: bytes, position: int) -> re.Match[bytes] | None:
    """The first line from `position` on that begins with `start` and fits. An expression alone would look at every octet, and for
    the time that takes nothing else runs."""
    while (hit := raw.find(start, position)) >= 0:
        if (hit == 0 or raw[hit - 1] == 0x0A) and (match := pattern.match(raw, hit)):
            return match
        position = hit + 1
    return None


def _uu_line(line: bytes) -> bytes:
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:  # some encoders write more than the length says
        return binascii.a2b_uu(line[: (((line[0] - 32) & 63) * 4 + 5) // 3])


def _unflow(text: str, delsp: bool) -> str:
    """Paragraphs in place of flowed lines (RFC 3676 §4): joined where a line ends in a space and the quote depth stays."""
    lines: list[str] = []
    paragraph: list[str] = []
    depth = 0
    last = "\n" if text.endswith("\n") else ""
    for line in text.removesuffix("\n").split("\n"):
        content = line.lstrip(">")
        quotes = len(line) - len(content)
        content = content[1:] if content.startswith(" ") else content
        if paragraph and (quotes != depth or content == "-- "):
            lines.append(_quoted(depth, paragraph))
            paragraph = []
        depth = quotes
        flows = content.endswith(" ") and content != "-- "
        paragraph.append(content[:-1] if flows and delsp else content)
        if not flows:
            lines.append(_quoted(depth, paragraph))
            paragraph = []
    return "\n".join([*lines, _quoted(depth, paragraph)] if paragraph else lines) + last


def _quoted(depth: int, pieces: list[str]) -> str:
    return (">" * depth + " " if depth else "") + "".join(pieces)


__all__ = ["MimeError", "Part", "decode", "parse", "parse_with", "safe_name"]
