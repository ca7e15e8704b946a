"""Re-encoding on the way out: a stored message with 7-bit text, and lines and addresses that every server takes.

What no recipient may see is out before anything is read as MIME: below a line that is no field, in a header block that is
torn, it would become text. Only the leaf parts that need it change, and no other byte. Pure; fails with MimeError where the message
may not be touched.
RFC 2045 §6, RFC 5322 §2.1.1 (998 octets), §2.2.3 (folding), §3.4 (address lists), RFC 5890 §2.3.2.1 (A-labels).
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Iterator, Sequence

from relay import address, edits, header, mailboxes, mime
from relay.mime import Part
from relay.model import Edit

_PIECE = 48 * 1024  # octets of a part that is read in pieces
_BASE64_BLOCK = 57 * 1024  # octets; 1024 whole lines
_BASE64_LINE = 76
_HIGH = bytes(range(128, 256))
_QP_OVERHEAD = 6  # base64 costs a third; quoted-printable two octets for each 8-bit one
_ADDRESS_LISTS = frozenset({"from", "sender", "to", "cc", "reply-to"})
_QUOTED = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"|\\.|[()]|,', re.S)
_DOMAIN = re.compile(r"(?<=@)[^\s<>(),:;@\"]+")
_SEALED = frozenset(
    {
        "multipart/signed",
        "multipart/encrypted",
        "application/pkcs7-mime",
        "application/x-pkcs7-mime",
        "application/pgp",
        "application/pgp-encrypted",
    }
)


Stretch = bytes | bytearray | memoryview
"""Octets that follow others: what is not changed is a view of the stored message."""


def seven_bit(message: bytes, block: bytes, changes: Sequence[Edit], *, eight_bit: bool) -> tuple[bytes, tuple[Stretch, ...]] | None:
    """Header block (its edits still to be applied) and rest of a message whose stored block is `block`, re-encoded as
    `to_seven_bit` has it; None when nothing changes. A large message is not copied. Raises MimeError."""
    root = mime.parse_with(edits.strip(block, changes), message, len(block))
    if root.data is not message:  # a torn block
        head, at = header.split(converted := to_seven_bit(root.data, eight_bit=eight_bit))
        ended = message.startswith(b"\r\n", len(block))  # where no empty line was, the edits bring one
        return None if converted is root.data else (head, (memoryview(converted)[len(head) if ended else at :],))
    found = list(_to_encode(root, eight_bit))
    if not found:
        return None
    gap = message[len(block) : root.body]  # the empty line, where there is one
    if found == [root]:
        encoding, content = _encoded(root)
        return _new_header(root, encoding, outermost=True), (gap, content)
    return root.header, tuple(_stretches(message, len(block), found))


def to_seven_bit(data: bytes, *, eight_bit: bool = True) -> bytes:
    """The message with every leaf part that has lines over 998 octets, or 8-bit octets, in quoted-printable or base64.

    `eight_bit` False leaves parts with 8-bit octets alone where their lines are short. Decoded content stays the same, and
    so does every byte outside these parts: raw 8-bit header fields, preambles and epilogues too; with no such part `data`
    itself comes back. Raises MimeError when such a part must not be touched (signed, encrypted, message/partial, an unknown
    transfer encoding) or the message is beyond a cap.
    """
    root = mime.parse(data)
    found = list(_to_encode(root, eight_bit))
    return b"".join(_stretches(data, 0, found, outermost=root)) if found else data


def _stretches(data: bytes, done: int, parts: Sequence[Part], outermost: Part | None = None) -> Iterator[Stretch]:
    """The octets from `done` on with these parts encoded anew."""
    view = memoryview(data)
    for part in parts:
        encoding, content = _encoded(part)
        yield from (view[done : part.start], _new_header(part, encoding, part is outermost), b"\r\n", content)
        done = part.end
    yield view[done:]


def _to_encode(part: Part, eight_bit: bool) -> Iterator[Part]:
    """The leaf parts that need re-encoding, in order."""
    if part.parts:
        for child in part.parts:
            for found in _to_encode(child, eight_bit):
                if part.content_type in ("multipart/signed", "multipart/encrypted"):
                    raise mime.MimeError(f"{part.content_type} with 8-bit text or long lines cannot be re-encoded")
                yield found
        return
    if not (eight_bit and not part.ascii) and not _has_long_line(part):
        return
    if part.maintype == "multipart" or part.content_type in ("message/partial", "message/external-body"):
        raise mime.MimeError(f"{part.content_type} with 8-bit text or long lines cannot be re-encoded")
    if part.encoding.startswith("x-"):
        raise mime.MimeError(f"transfer encoding {part.encoding[:40]} is not known")
    yield part


def _has_long_line(part: Part) -> bool:
    """Looks at every thousandth octet or so: jumps to the last line end within reach of a permitted line."""
    position = part.body
    while part.end - position > header.MAX_LINE:
        end = part.data.rfind(b"\n", position, min(position + header.MAX_LINE + 2, part.end))
        if end < 0:
            return True
        position = end + 1
    return False


def _encoded(part: Part) -> tuple[bytes, bytes | bytearray]:
    """The transfer encoding that suits the part's content, and the content in it."""
    content = part.decoded()
    lines = content.count(b"\r\n")
    text_lines = content.count(b"\n") == lines and content.count(b"\r") == lines
    if part.maintype in ("text", "message") and text_lines and _eight_bit(content) * _QP_OVERHEAD <= len(content):
        return b"quoted-printable", _to_quoted_printable(content)
    ends_line = part.end == len(part.data) or part.data.endswith(b"\n", part.body, part.end)
    return b"base64", _to_base64(content, ends_line)


def _eight_bit(content: bytes) -> int:
    """How many octets have eight bits."""
    pieces = (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))
    return sum(len(piece) - len(piece.translate(None, _HIGH)) for piece in pieces)


def _new_header(part: Part, encoding: bytes, outermost: bool) -> bytes:
    """The part's header block with the transfer encoding set, in its place where it has one."""
    line = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    pieces = []
    names = set()
    for name, whole in header.fields(part.header):
        if name != "content-transfer-encoding":
            pieces.append(whole)
        elif name not in names:
            pieces.append(line)
        names.add(name)
    if outermost and "mime-version" not in names:
        pieces.append(b"MIME-Version: 1.0\r\n")
    if "content-transfer-encoding" not in names:
        pieces.append(line)
    return b"".join(pieces)


def _to_quoted_printable(content: bytes) -> bytes:
    encoded = binascii.b2a_qp(content)
    if b"\n" not in content:
        encoded = encoded.replace(b"\n", b"\r\n")  # it breaks lines as the text does, and here it saw none
    if encoded.startswith(b"--"):
        encoded = b"=2D-" + encoded[2:]
    return encoded.replace(b"\n--", b"\n=2D-")  # a new line must never look like a delimiter


def _to_base64(content: bytes, ends_line: bool) -> bytearray:
    """In blocks, each put in its place: joining the lines of a large message takes two times its size for them alone."""
    octets = (len(content) + 2) // 3 * 4
    found = bytearray(octets + -(-octets // _BASE64_LINE) * 2)
    position = 0
    for start in range(0, len(content), _BASE64_BLOCK):
        plain = binascii.b2a_base64(content[start : start + _BASE64_BLOCK], newline=False)
        lines = b"".join(plain[at : at + _BASE64_LINE] + b"\r\n" for at in range(0, len(plain), _BASE64_LINE))
        found[position : position + len(lines)] = lines
        position += len(lines)
    if not ends_line:
        del found[-2:]
    return found


def sealed(message: bytes, block: bytes, changes: Sequence[Edit]) -> bool:
    """Whether the message, whose stored block is `block`, or a part of it is signed or encrypted: who rewrites its texts breaks it.
    Of a message beyond a cap only the outermost part is looked at."""
    shown = edits.strip(block, changes)
    found = False
    with contextlib.suppress(mime.MimeError):
        root = mime.parse(shown)
        found = root.content_type in _SEALED or root.filename.lower().endswith(".p7m")  # whatever it calls itself (RFC 8551 §3.2.1)
        if not found and root.maintype == "multipart":
            found = any(part.content_type in _SEALED for part in mime.parse_with(shown, message, len(block)).walk())
    return found


def folded(block: bytes) -> bytes:
    """The header block with lines over 998 octets folded before white space, which changes no value, or in a list of addresses
    behind a comma, which adds a space there; the same octets where there is none. A line that has neither in the right places
    stays as it is."""
    if all(len(line) <= header.MAX_LINE for line in block.split(b"\r\n")):
        return block
    return b"".join(_folded(whole, listed=name in _ADDRESS_LISTS) for name, whole in header.fields(block))


def _folded(whole: bytes, *, listed: bool) -> bytes:
    """One field; `listed` where its value is a list of addresses."""
    commas = _separators(whole) if listed else whole.replace(b",", b" ")
    pairs = zip(whole.split(b"\r\n"), commas.split(b"\r\n"), strict=True)
    return b"\r\n".join(piece for line, marked in pairs for piece in _fold(line, marked))


def _separators(whole: bytes) -> bytes:
    """The field with no commas but those that part addresses: outside quotes and comments. Of the same length."""
    depth = 0

    def masked(match: re.Match[bytes]) -> bytes:
        nonlocal depth
        found = match[0]
        if found in (b"(", b")"):
            depth = max(0, depth + (1 if found == b"(" else -1))
        return found if found == b"," and not depth else found.replace(b",", b"x")

    return _QUOTED.sub(masked, whole)


def _fold(line: bytes, marked: bytes) -> list[bytes]:
    """The line in pieces that are short enough; in one piece where that cannot be. In `marked` a comma is a place to fold."""
    pieces = []
    rest = line
    while len(rest) > header.MAX_LINE:
        white = max(rest.rfind(space, 0, header.MAX_LINE + 1) for space in (b" ", b"\t"))
        comma = marked.rfind(b",", 0, header.MAX_LINE)
        at = max(white, comma + 1)
        front = rest[: max(at, 0)]
        named = b":" in front or rest[:1].isspace()  # white space may stand before the colon
        if not (named and front.strip() and rest[at:].strip()):  # no piece may be white space alone (RFC 5322 §3.2.2)
            return [line]
        added = b"" if white == at else b" "
        pieces.append(front)
        rest, marked = added + rest[at:], added + marked[at:]
    return [*pieces, rest]


def with_a_labels(block: bytes) -> bytes:
    """A header block in whose address fields domains are A-labels, where their addresses have local parts in ASCII; the same octets
    where all are. Both forms are the same mailbox (RFC 5890 §2.3.2.1)."""
    if block.isascii():
        return block
    return b"".join(_field_with_a_labels(whole) if name in _ADDRESS_LISTS else whole for name, whole in header.fields(block))


def _field_with_a_labels(whole: bytes) -> bytes:
    if whole.isascii():
        return whole
    found: dict[str, str] = {}
    for box in mailboxes.parse(header.value(whole).decode("utf-8", "replace")):
        local, domain = address.split(box.address)
        if not domain.isascii() and local.isascii() and (plain := a_labels(box.address)).isascii():
            found[domain] = plain.rpartition("@")[2]
    text = whole.decode("utf-8", "surrogateescape")
    return _DOMAIN.sub(lambda match: found.get(match[0], match[0]), text).encode("utf-8", "surrogateescape")


def a_labels(one: str) -> str:
    """The address with its domain as A-labels; as it is where that cannot be."""
    if one.isascii():
        return one
    local, domain = address.split(one)
    try:
        return f"{local}@{address.domain_ascii(domain)}"
    except address.AddressError:
        return one
