"""The PROXY protocol: what a proxy in front of us says about its client, before the client's own octets. Pure.

Version 1 (a line of text) and version 2 (binary) of https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. What
version 2 adds behind the addresses (TLVs) is skipped. Fails with ProxyError, whose text is for the log; nothing is guessed.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16  # octets of a version 2 header before its addresses
_LONGEST_LINE = 107  # octets of a version 1 header with its CRLF (§2.1)
_LONGEST = 4096  # octets of a version 2 header; the addresses take 36 at most, what is usually added some hundred
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and its command
_TCP4, _TCP6 = 0x11, 0x21


class ProxyError(Exception):
    """This is no PROXY header."""


class Proxied(NamedTuple):
    """A whole header. `source` is the client's (address, port), or None when the proxy speaks for itself or does not know.

    `size` is in octets; what follows them is the client's.
    """

    source: tuple[str, int] | None
    size: int


def read(data: bytes) -> Proxied | None:
    """The header at the start of `data`; None while it is not all there. Raises ProxyError."""
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if data.startswith(b"PROXY "):
        return _line(data)
    if _SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise ProxyError("no PROXY header")


def _line(data: bytes) -> Proxied | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise ProxyError("a PROXY header without end")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Proxied(None, end + 2)
    match = _LINE.fullmatch(line)
    if not match:
        raise ProxyError("a malformed PROXY header")
    family = IPv4Address if match[1] == b"4" else IPv6Address
    try:
        source, _ = str(family(match[2].decode())), family(match[3].decode())
    except ValueError:
        raise ProxyError("a PROXY header with a bad address") from None
    if max(int(match[4]), int(match[5])) > 65535:
        raise ProxyError("a PROXY header with a bad port")
    return Proxied((source, int(match[4])), end + 2)


def _binary(data: bytes) -> Proxied | None:
    if len(data) < _FIXED:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(_SIGNATURE))
    size = _FIXED + length
    if command not in (_LOCAL, _PROXY) or size > _LONGEST:
        raise ProxyError("a PROXY header of a kind that is not known")
    if len(data) < size:
        return None
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return Proxied(None, size)
    width = 4 if family == _TCP4 else 16
    if length < 2 * width + 4:
        raise ProxyError("a PROXY header that is too short for its addresses")
    octets = data[_FIXED : _FIXED + width]
    (port,) = struct.unpack_from("!H", data, _FIXED + 2 * width)
    return Proxied((str(IPv4Address(octets) if width == 4 else IPv6Address(octets)), port), size)
