"""PROXY headers: both versions, whole and in pieces, and whatever else comes instead."""

from __future__ import annotations

import asyncio
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from aiosmtpd.proxy_protocol import get_proxy
from hypothesis import given
from hypothesis import strategies as st

from relay.listener import proxy
from relay.listener.proxy import Proxied, ProxyError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
PORTS = st.integers(0, 65535)


def line(source: IPv4Address | IPv6Address, port: int) -> bytes:
    """Version 1."""
    other = "192.0.2.1" if source.version == 4 else "2001:db8::1"
    return f"PROXY TCP{source.version} {source} {other} {port} 25\r\n".encode()


def binary(source: IPv4Address | IPv6Address, port: int, more: bytes = b"", command: int = 0x21, transport: int = 1) -> bytes:
    """Version 2 with `more` behind the addresses."""
    family = (0x10 if source.version == 4 else 0x20) | transport
    addresses = source.packed + bytes(len(source.packed)) + struct.pack("!HH", port, 25)
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) + len(more)) + addresses + more


@given(ADDRESSES, PORTS, st.binary(max_size=100), st.binary(max_size=30), st.booleans(), st.integers(0, 400))
def test_a_header_is_read_whole_or_not_yet(
    source: IPv4Address | IPv6Address, port: int, more: bytes, rest: bytes, old: bool, cut: int
) -> None:
    """Any address, any additions; a part of it waits for more; what follows is left alone."""
    header = line(source, port) if old else binary(source, port, more)
    assert Proxied((str(source), port), len(header)) == proxy.read(header + rest)
    assert None is proxy.read(header[: cut % len(header)])


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(SIGNATURE.__add__), st.binary(max_size=120).map(b"PROXY ".__add__)))
def test_any_octets_are_a_header_or_none_or_wait(data: bytes) -> None:
    """Nothing else is raised; an address is one; what waits is bounded."""
    try:
        found = proxy.read(data)
    except ProxyError:
        return
    if found:
        assert 0 < found.size <= len(data)
        if found.source:
            ip_address(found.source[0])
    else:
        assert len(data) < 4096


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::1 1 2\r\n",
        SIGNATURE + b"\x20\x00\x00\x00",
        binary(ip_address("192.0.2.1"), 1, command=0x20),
        binary(ip_address("192.0.2.1"), 1, transport=2),
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
    ],
)
def test_a_proxy_that_speaks_for_itself_or_does_not_know(header: bytes) -> None:
    """LOCAL, UNKNOWN, datagrams and unix sockets name no client of ours."""
    assert Proxied(None, len(header)) == proxy.read(header)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"EHLO x\r\n", "no PROXY header"),
        (b"\x16\x03\x01", "no PROXY header"),
        (b"PROXY " + b"x" * 101, "without end"),
        (b"PROXY TCP4 192.0.2.1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 01 2\r\n", "malformed"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.1 1 2\r\n", "malformed"),
        (b"PROXY UNKNOWNS\r\n", "malformed"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "bad address"),
        (b"PROXY TCP6 ::1 192.0.2.1 1 2\r\n", "bad address"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n", "bad address"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 65536 2\r\n", "bad port"),
        (SIGNATURE + b"\x11\x11\x00\x0c", "of a kind that is not known"),
        (SIGNATURE + b"\x22\x11\x00\x0c", "of a kind that is not known"),
        (SIGNATURE + b"\x21\x11\xff\xff", "of a kind that is not known"),
        (SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "too short"),
    ],
)
def test_what_is_no_header_is_said(data: bytes, why: str) -> None:
    """The text is for the log."""
    with pytest.raises(ProxyError, match=why):
        proxy.read(data)


@given(ADDRESSES, PORTS, st.booleans())
async def test_aiosmtpd_reads_the_same(source: IPv4Address | IPv6Address, port: int, old: bool) -> None:
    """Somebody else's parser finds the same client."""
    header = line(source, port) if old else binary(source, port)
    reader = asyncio.StreamReader()
    reader.feed_data(header)
    theirs = await get_proxy(reader)
    assert theirs.valid
    ours = proxy.read(header)
    assert ours is not None
    assert (str(theirs.src_addr), theirs.src_port) == ours.source
