"""Bodies of requests in pieces: JSON in which a file stands as base64 that is made only while it is sent.

A message is in memory once, however large: an attachment that came as base64 is sent without its line ends and is neither
decoded nor encoded, another one is encoded piece by piece. A body can be read more than once (to sign it, then to send
it). Pure; raises nothing but what json raises for a value that is no JSON.
RFC 4648 §4 (base64), RFC 2045 §6.8 (base64 in mail), RFC 8259 (JSON).
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from relay.mime import Part

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SPACE = b"\r\n \t"
_PIECE = 48 * 1024  # octets in one piece before base64; divisible by 3


class Source(Protocol):
    """Octets that are made when they are needed, the same each time."""

    @property
    def size(self) -> int:
        """How many there are."""

    def pieces(self) -> Iterator[bytes]:
        """All of them, in order."""


class Encoded:
    """Octets in base64 without line ends: of several stretches as if they were one."""

    def __init__(self, *stretches: bytes | bytearray | memoryview) -> None:
        self._stretches = stretches
        self.size = _encoded_size(sum(map(len, stretches)))

    def pieces(self) -> Iterator[bytes]:
        """In pieces of at most 64 KiB."""
        return _base64(self._stretches)


class File:
    """The content of a part in base64 without line ends, as Part.decoded reads it. Whole base64 is not decoded, only stripped of
    white space, and quoted-printable is read as it is sent; what else must be decoded is held in memory."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._decoded: bytes | None = None
        stripped = _whole_base64(part) if part.encoding == "base64" else None
        self._stripped = stripped is not None
        if stripped is None and part.encoding not in ("", "quoted-printable"):
            self._decoded = part.decoded()
        self.size = _encoded_size(sum(map(len, self._octets()))) if stripped is None else stripped

    def pieces(self) -> Iterator[bytes]:
        """In pieces of at most 64 KiB."""
        return _stripped(self._part) if self._stripped else _base64(self._octets())

    def _octets(self) -> Iterable[bytes | memoryview]:
        if self._decoded is not None:
            return (self._decoded,)
        return self._part.octets()


def _encoded_size(octets: int) -> int:
    return (octets + 2) // 3 * 4


def _base64(stretches: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    left = b""
    for stretch in stretches:
        for start in range(0, len(stretch), _PIECE):
            piece = left + stretch[start : start + _PIECE]
            whole = len(piece) - len(piece) % 3
            yield binascii.b2a_base64(piece[:whole], newline=False)
            left = piece[whole:]
    yield binascii.b2a_base64(left, newline=False)


def _stripped(part: Part) -> Iterator[bytes]:
    for start in range(part.body, part.end, _PIECE):
        yield part.data[start : min(start + _PIECE, part.end)].translate(None, _SPACE)


def _whole_base64(part: Part) -> int | None:
    """How many octets of base64 a part has without white space; None where these are not whole base64."""
    size = padding = 0
    for piece in _stripped(part):
        other = piece.translate(None, _ALPHABET)
        if other.strip(b"=") or not piece.endswith(other) or (padding and piece != other):
            return None
        padding += len(other)
        size += len(piece)
    return size if size % 4 == 0 and padding <= 2 else None


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A request's body; `parts` follow each other."""

    parts: tuple[bytes | Source, ...]

    @property
    def size(self) -> int:
        """Octets in all."""
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)

    def pieces(self) -> Iterator[bytes]:
        """All octets, in order; not larger pieces than memory has already."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.pieces()

    def whole(self) -> bytes:
        """All octets in one piece: for previews and small bodies."""
        return b"".join(self.pieces())


def joined(*parts: bytes | Source | Body) -> Body:
    """Several stretches as one body."""
    found: list[bytes | Source] = []
    for part in parts:
        found += part.parts if isinstance(part, Body) else (part,)
    return Body(tuple(found))


def encode(value: object) -> Body:
    """A value as JSON in UTF-8, in which a Source may stand in the place of a string (its octets need no escape)."""
    found: list[bytes | Source] = []
    texts: list[bytes] = []
    for piece in _tokens(value):
        if isinstance(piece, bytes):
            texts.append(piece)
        else:
            found += (b"".join(texts), piece)
            texts = []
    return Body((*found, b"".join(texts)))


def _tokens(value: object) -> Iterator[bytes | Source]:
    """JSON in pieces: what holds no source in one. No mark stands in for a source, for a message could hold that as well."""
    try:
        yield _json(value)
        return
    except TypeError:  # there is a source in it
        pass
    if isinstance(value, dict):
        yield b"{"
        for number, (name, member) in enumerate(value.items()):
            yield (b"," if number else b"") + _json(name) + b":"
            yield from _tokens(member)
        yield b"}"
    elif isinstance(value, list | tuple):
        yield b"["
        for number, member in enumerate(value):
            yield b"," if number else b""
            yield from _tokens(member)
        yield b"]"
    else:
        yield b'"'
        yield cast(Source, value)
        yield b'"'


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def members(value: object) -> Body:
    """The members of an object as they stand in its JSON, with its closing brace and without the opening one."""
    first, *rest = encode(value).parts
    assert isinstance(first, bytes)  # the opening brace at least
    return Body((first[1:], *rest))
