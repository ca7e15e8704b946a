"""Re-encoding on the way out: a stored message with 7-bit text and lines that every server takes.

What no recipient may see is out before anything is read as MIME: below a line that is no field, in a header block that is
torn, it would become text. Pure; fails with MimeError where the message may not be touched (relay/mime.py).
RFC 5322 §2.1.1 (998 octets), §2.2.3 (folding).
"""

from __future__ import annotations

from collections.abc import Sequence

from relay import edits, header, mime
from relay.model import Edit


def seven_bit(message: bytes, block: bytes, changes: Sequence[Edit], *, eight_bit: bool) -> tuple[bytes, memoryview] | None:
    """Header block (its edits still to be applied) and rest of a message whose stored block is `block`, re-encoded as
    `mime.to_seven_bit` has it; None when nothing changes. Raises MimeError."""
    shown = b"".join((edits.strip(block, changes), memoryview(message)[len(block) :]))
    converted = mime.to_seven_bit(shown, eight_bit=eight_bit)
    if converted is shown:
        return None
    head, body = header.split(converted)
    ended = message.startswith(b"\r\n", len(block))  # where no empty line was, the edits bring one
    return head, memoryview(converted)[len(head) if ended else body :]


def folded(block: bytes) -> bytes:
    """The header block with lines over 998 octets folded before white space, which changes no value; the same octets where there is
    none. A line without white space in the right places stays as it is."""
    lines = block.split(b"\r\n")
    if all(len(line) <= header.MAX_LINE for line in lines):
        return block
    return b"\r\n".join(piece for line in lines for piece in _fold(line))


def _fold(line: bytes) -> list[bytes]:
    """The line in pieces that are short enough; in one piece where that cannot be."""
    pieces = []
    rest = line
    while len(rest) > header.MAX_LINE:
        at = max(rest.rfind(white, 0, header.MAX_LINE + 1) for white in (b" ", b"\t"))
        front = rest[: max(at, 0)]
        named = b":" in front or rest[:1].isspace()  # white space may stand before the colon
        if not (named and front.strip() and rest[at:].strip()):  # no piece may be white space alone (RFC 5322 §3.2.2)
            return [line]
        pieces.append(front)
        rest = rest[at:]
    return [*pieces, rest]
