"""Header blocks: where they end, which fields they hold, what a field says."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import header
from relay.edits import CONTROL_PREFIXES, REMOVED

lines = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"", b" folded", b"\tfolded", b"Subject: x", b"From: a@b", b"From : a@b", b"From a@b Mon", b">From a", b"X-A:", b":", b" "]
    ),
)
messages = st.lists(lines, max_size=8).map(b"\r\n".join)


@pytest.mark.parametrize(
    ("data", "block", "body"),
    [
        (b"", b"", b""),
        (b"\r\nbody", b"", b"body"),
        (b"A: 1\r\n\r\nbody", b"A: 1\r\n", b"body"),
        (b"A: 1\r\n 2\r\n\t3\r\n\r\n", b"A: 1\r\n 2\r\n\t3\r\n", b""),
        (b"A: 1\r\n \r\n b\r\n\r\nbody", b"A: 1\r\n \r\n b\r\n", b"body"),
        (b"A: 1\r\nno field here\r\nB: 2\r\n\r\n", b"A: 1\r\n", b"no field here\r\nB: 2\r\n\r\n"),
        (b"A : 1\r\n\r\nbody", b"A : 1\r\n", b"body"),
        (b"A: 1", b"", b"A: 1"),
        (b" A: 1\r\n\r\nbody", b"", b" A: 1\r\n\r\nbody"),
        (b"From a@b Mon Jan 1\r\nA: 1\r\n\r\nbody", b"From a@b Mon Jan 1\r\nA: 1\r\n", b"body"),
        (b">From a@b Mon Jan 1\r\n\r\nbody", b">From a@b Mon Jan 1\r\n", b"body"),
        (b"A\xe9: 1\r\n\r\n", b"", b"A\xe9: 1\r\n\r\n"),
        (b"A: \xff\x00\r\n\r\nbody", b"A: \xff\x00\r\n", b"body"),
    ],
)
def test_split_finds_where_the_body_starts(data: bytes, block: bytes, body: bytes) -> None:
    """The block ends at the empty line, or before the first line that is no field."""
    found, offset = header.split(data)
    assert (block, body) == (found, data[offset:])


def test_fields_keep_order_and_bytes() -> None:
    """Names are lower case; a field is returned as it stands, folds and white space included."""
    block = b"From x\r\nTO:  a\r\nx-b :1\r\n 2\r\nTo: c\r\n"
    expected = [("from ", b"From x\r\n"), ("to", b"TO:  a\r\n"), ("x-b", b"x-b :1\r\n 2\r\n"), ("to", b"To: c\r\n")]
    assert expected == list(header.fields(block))


def test_from_with_a_space_before_the_colon_is_a_field() -> None:
    """`From : a@b` (RFC 5322 §4.5.2) is not taken for the first line of an mbox."""
    assert list(header.fields(b"From : a@b\r\n")) == [("from", b"From : a@b\r\n")]


def test_a_line_that_is_no_field_has_no_name() -> None:
    """It never yields half of itself as a field, and every octet of the block is there."""
    assert [("a", b"A: 1\r\n"), ("", b"no name: 2\r\n"), ("b", b"B: 3\r\n")] == list(header.fields(b"A: 1\r\nno name: 2\r\nB: 3\r\n"))
    assert [("", b"no end")] == list(header.fields(b"no end"))


def test_white_space_before_the_header_hides_nothing() -> None:
    """Some programs begin with a line of blanks; the fields below it count."""
    message = b"  \r\n\t\r\nA: 1\r\n\r\nhi\r\n"
    assert (b"  \r\n\t\r\nA: 1\r\n", len(message) - 4) == header.split(message)
    assert [(" ", b"  \r\n\t\r\n"), ("a", b"A: 1\r\n")] == list(header.fields(header.split(message)[0]))


@pytest.mark.parametrize(
    ("message", "block"),
    [
        (b"A: 1\r\n\r\nBcc: in the text\r\n", b"A: 1\r\n"),
        (b"A: 1\r\ntorn\r\nB: 2\r\n\r\nhi\r\n", b"A: 1\r\n"),
        (b"A: 1\r\ntorn\r\nBCC : x@y\r\nB: 2\r\n\r\nhi\r\n", b"A: 1\r\ntorn\r\nBCC : x@y\r\nB: 2\r\n"),
        (b"A: 1\r\ntorn\r\nX-PM-Tag: x\r\n", b"A: 1\r\ntorn\r\nX-PM-Tag: x\r\n"),
        (b"torn\r\n\r\nBcc: in the text\r\n", b""),
        (b" folded\r\nBcc: x\r\n\r\nhi\r\n", b" folded\r\nBcc: x\r\n"),
        (b"", b""),
    ],
)
def test_a_torn_block_goes_on_where_a_hidden_field_stands(message: bytes, block: bytes) -> None:
    """Otherwise the Bcc of a mail with a raw line end in its subject would be read by everybody."""
    found, body = header.cut(message)
    assert (block, b"") == (found, message[len(found) : body].strip())


@pytest.mark.parametrize("name", [*sorted(REMOVED - {"from ", " "}), *(f"{prefix}any" for prefix in CONTROL_PREFIXES)])
def test_every_field_that_is_taken_away_is_looked_for(name: str) -> None:
    """What the edits hide and what a torn block is searched for are the same."""
    message = f"A: 1\r\ntorn\r\n{name.title()}: x\r\n\r\nhi\r\n".encode()
    assert message.index(b"\r\n\r\n") + 2 == len(header.cut(message)[0])


def test_values_are_unfolded() -> None:
    """A fold goes, the white space that made it stays; white space around the value goes."""
    block = b"To: a,\r\n\tb \r\nSubject: x\r\nto:c\r\n"
    assert header.values(block, "to") == [b"a,\tb", b"c"]
    assert header.first(block, "to") == b"a,\tb"
    assert header.first(block, "cc") == b""


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"plain", "plain"),
        (b"", ""),
        ("grüße".encode(), "grüße"),
        (b"\xff!", "\N{REPLACEMENT CHARACTER}!"),
        (b"=?utf-8?q?gr=C3=BC=C3=9Fe_x?= tail", "grüße x tail"),
        (b"=?UTF-8?B?5pel?= \t =?utf-8?b?5pys?= x", "日本 x"),
        (b"=?utf-8?q?=E6=97?= =?utf-8?q?=A5?=", "日"),
        (b"=?utf-8?q?a?= =?iso-8859-1?q?=FC?=", "aü"),
        (b"=?utf-8*de?q?a?=", "a"),
        (b"=?us-ascii?q?with space?=", "with space"),
        (b"a =?x-unknown?q?=C3=BC?= b", "a ü b"),
        (b"=?idna?q?a?=", "a"),
        (b"=?unicode_escape?q?=5Cu0041?=", "\\u0041"),
        (b"=?hex?q?61?=", "61"),
        (b"=?utf-8?b?a?=", "a"),
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
        (b"=?utf-8?q?=E2=80=A8x?=", "x"),
        (b"=?utf-7?q?a+2AA-b?=", "a b"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"\\u0041 =?utf-8?q?b?=", "\\u0041 b"),
        ("日 =?utf-8?q?b?=".encode(), "日 b"),
        (b"a\x00\x1b[1mb", "a [1mb"),
    ],
)
def test_text_is_what_people_read(raw: bytes, expected: str) -> None:
    """Encoded words are decoded, whatever is broken in them; control characters never come through."""
    assert expected == header.text(raw)


@pytest.mark.parametrize("piece", [b"=?a?q?", b"=?", b"=?a?q?x?= ", b"=?idna?q?x.", b"=?utf-8?b?AAAA"])
def test_text_takes_linear_time(piece: bytes) -> None:
    """A hostile megabyte costs no more than the first 64 KiB of it do; what was quadratic took seconds of CPU time."""
    before = time.process_time()
    header.text(piece * (1024 * 1024 // len(piece)))
    assert time.process_time() - before < 2


@given(messages)
def test_split_cuts_without_loss(data: bytes) -> None:
    """Block and body are what came in, with at most the empty line between them; the block is whole fields."""
    block, offset = header.split(data)
    assert data in (block + data[offset:], block + b"\r\n" + data[offset:])
    assert block == b"".join(field for _, field in header.fields(block))


@given(messages)
def test_fields_of_any_bytes(data: bytes) -> None:
    """Whatever comes, names are printable lower-case ASCII and values hold no fold."""
    for name, field in header.fields(data):
        assert name.isascii()
        assert name == name.lower()
        assert b"\r\n" not in header.value(field)


@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(
            st.sampled_from(["=?", "?=", "?q?", "?B?", "utf-8", "utf-7", "utf-16", "*en", "=0D=0A", "+2AA-", "AA==", " ", "é", "\\u0041"])
        ).map(lambda pieces: "".join(pieces).encode()),
    )
)
def test_text_of_any_bytes(raw: bytes) -> None:
    """Never raises; the result is one line that can be written anywhere."""
    text = header.text(raw)
    text.encode()
    assert text.splitlines() in ([], [text])
    assert not {char for char in text if ord(char) < 32}


def test_every_message_of_the_corpus() -> None:
    """Real and broken mail: nothing is lost at the cut, and every field's value can be read."""
    if not (corpus := os.environ.get("RELAY_CORPUS")):
        pytest.skip("RELAY_CORPUS names no directory of messages")
    for path in (path for path in Path(corpus).rglob("*") if path.is_file()):
        data = re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())
        block, offset = header.split(data)
        assert data in (block + data[offset:], block + b"\r\n" + data[offset:]), path
        assert block == b"".join(field for _, field in header.fields(block)), path
        for _, field in header.fields(block):
            header.text(header.value(field)).encode()
