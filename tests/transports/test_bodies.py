"""Bodies of requests in pieces: equal to what the standard library makes in one."""

from __future__ import annotations

import base64
import binascii
import json
import quopri
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import mime
from relay.transports.bodies import Body, Encoded, File, Source, encode, joined, members
from tests import messages

LARGE = bytes(range(256)) * 1000  # several pieces


class Word:
    """A source of its own: `text`, octet by octet."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.size = len(text)

    def pieces(self) -> Iterator[bytes]:
        """One octet each."""
        return (self.text[at : at + 1] for at in range(len(self.text)))


def whole(source: Source) -> bytes:
    """All its octets, which are as many as it says, each time they are asked for."""
    found = b"".join(source.pieces())
    assert (len(found), found) == (source.size, b"".join(source.pieces()))
    assert max(map(len, source.pieces()), default=0) <= 64 * 1024
    return found


def part(encoding: str, content: bytes) -> mime.Part:
    """A file in this transfer encoding."""
    return mime.parse(b"Content-Type: application/zip\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (encoding.encode(), content))


# --- base64 ---


@given(st.lists(st.binary(max_size=10), max_size=6))
def test_encoded(stretches: list[bytes]) -> None:
    """Several stretches are encoded as if they were one, wherever they are cut."""
    assert base64.b64encode(b"".join(stretches)) == whole(Encoded(*stretches))
    assert base64.b64encode(b"".join(stretches)) == whole(Encoded(*[memoryview(one) for one in stretches]))


@pytest.mark.parametrize("size", [48 * 1024 - 1, 48 * 1024, 48 * 1024 + 1, 100_000])
def test_encoded_in_pieces(size: int) -> None:
    """Around the size of a piece nothing is lost or padded in the middle."""
    assert base64.b64encode(LARGE[:size] + LARGE[: size + 1]) == whole(Encoded(LARGE[:size], LARGE[: size + 1]))


def quoted(content: bytes) -> bytes:
    """Quoted-printable with CRLF."""
    return quopri.encodestring(content).replace(b"\n", b"\r\n")


def uuencoded(content: bytes) -> bytes:
    """A uuencoded file."""
    lines = (binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45))
    return b"begin 644 x\r\n" + b"".join(lines).replace(b"\n", b"\r\n") + b"`\r\nend\r\n"


def lines(content: bytes, width: int) -> bytes:
    """Base64 in lines of this width."""
    encoded = base64.b64encode(content)
    return b"".join(encoded[at : at + width] + b"\r\n" for at in range(0, len(encoded), width))


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("base64", lines(LARGE, 76)),
        ("base64", lines(LARGE, 61)),
        ("base64", lines(LARGE, 76).replace(b"\r\n", b" \t\r\n")),
        ("base64", base64.b64encode(LARGE)),  # one line
        ("base64", lines(LARGE, 76)[:-9]),  # cut
        ("base64", lines(LARGE, 76) + b"more\r\n"),  # behind the padding
        ("base64", b"!" + lines(LARGE, 76)),
        ("base64", b""),
        ("base64", b"\r\n"),
        ("base64", b"===="),
        ("base64", b"A==="),
        ("base64", b"AA=A"),
        ("base64", b"AAA=AAA="),
        ("base64", b"A" * (48 * 1024) + b"=="),
        ("base64", b"A" * (48 * 1024 - 2) + b"=" + b"\r\n="),  # padding on both sides of a piece's end
        ("base64", b"A" * (48 * 1024 - 3) + b"=" + b"\r\n" + b"="),
        ("quoted-printable", quoted(LARGE)),
        ("quoted-printable", b"=\r\n" * 40_000 + b"x"),
        ("quoted-printable", b"=41" * 50_000),  # no line end
        ("quoted-printable", b"x" * (48 * 1024 - 1) + b"\r\ny=3D"),
        ("quoted-printable", b"x" * (48 * 1024 - 2) + b"\r\ny=3D"),
        ("uuencode", uuencoded(LARGE)),
        ("uuencode", b"no file"),
        ("8bit", LARGE),
        ("", b"hello"),
        ("x-own", LARGE),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else value,
)
def test_files(encoding: str, content: bytes) -> None:
    """Clean, dirty and cut base64, quoted-printable, uuencode and plain octets: the file is what Part.decoded reads."""
    one = part(encoding, content)
    assert one.decoded() == base64.b64decode(whole(File(one)), validate=True)
    assert one.decoded() == b"".join(map(bytes, one.octets()))


@given(
    st.sampled_from(["base64", "quoted-printable", "uuencode", "8bit"]), st.lists(st.sampled_from([*b"AB=+/- \t\r\n!\xff", 0])).map(bytes)
)
def test_any_file(encoding: str, content: bytes) -> None:
    """Whatever stands in a part, its file is what Part.decoded reads, and is base64."""
    one = part(encoding, content)
    assert one.decoded() == base64.b64decode(whole(File(one)), validate=True)
    assert one.decoded() == b"".join(map(bytes, one.octets()))


@given(
    st.lists(st.sampled_from([b"=3D", b"=\r\n", b"= \r\n", b"\r\n", b"x" * 1000, b"=", b"=\r", b" \r\n", b"\n"]), min_size=40, max_size=200)
)
def test_quoted_printable_in_pieces(words: list[bytes]) -> None:
    """Read in pieces, quoted-printable gives what it gives when it is read at once."""
    one = part("quoted-printable", b"".join(words))
    assert one.decoded() == b"".join(map(bytes, one.octets()))


def test_clean_base64_is_not_decoded() -> None:
    """The base64 of the message is what is sent, without its line ends."""
    assert lines(LARGE, 61).replace(b"\r\n", b"") == whole(File(part("base64", lines(LARGE, 61))))
    assert b"QQ==" == whole(File(part("base64", b"QQ==\r\n")))
    assert b"QR==" == whole(File(part("base64", b"QR==\r\n")))  # not what an encoder writes, and as every decoder reads it


@pytest.mark.parametrize("sample", messages.ours(), ids=lambda sample: sample.name)
def test_files_of_samples(sample: messages.Sample) -> None:
    """Over all samples: each part as a file is its decoded octets."""
    for one in mime.parse(sample.data).walk():
        assert one.decoded() == base64.b64decode(whole(File(one)), validate=True)


# --- JSON ---

TEXTS = st.one_of(st.text(), st.sampled_from(["\ufdd0", "\ufdd00", "\ufdd01", '"', "\\", "\0", "\u2028", "\ud800", "é", "😀"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
    lambda inside: st.one_of(st.lists(inside, max_size=4), st.dictionaries(TEXTS, inside, max_size=4)),
)


def plainly(value: object) -> bytes:
    """What json makes of it, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


@given(VALUES)
def test_encode_without_sources(value: object) -> None:
    """What holds no source is what json makes of it."""
    body = encode(value)
    assert (1, plainly(value)) == (len(body.parts), body.whole())


@given(st.lists(st.tuples(TEXTS, st.one_of(TEXTS, st.just(None))), max_size=5))
def test_encode_with_sources(pairs: list[tuple[str, str | None]]) -> None:
    """A source takes its own place, whatever the texts beside it hold."""
    with_sources = [{text: Word(b"QUJD") if other is None else other, "x": [text, Word(b"")]} for text, other in pairs]
    with_texts = [{text: "QUJD" if other is None else other, "x": [text, ""]} for text, other in pairs]
    body = encode(with_sources)
    assert plainly(with_texts) == body.whole()
    assert len(body.whole()) == body.size


def test_text_that_looks_like_a_mark_costs_nothing() -> None:
    """A text of noncharacters in great number, beside a source, is written as any other."""
    text = "".join(f"\ufdd0{number}" for number in range(100_000))
    assert plainly([text, "QQ=="]) == encode([text, Word(b"QQ==")]).whole()


def test_deep_values() -> None:
    """What an app nests deep, as the variables of a template, is written as json writes it, beside a source too."""
    value: object = "x"
    for _ in range(300):
        value = [{"a": value}]
    assert plainly({"model": value, "file": "QQ=="}) == encode({"model": value, "file": Word(b"QQ==")}).whole()


def test_members() -> None:
    """The members of an object follow others in the same object."""
    assert b'{"a":1,"b":"QQ==","c":"d"}' == joined(b'{"a":1,', members({"b": Word(b"QQ=="), "c": "d"})).whole()
    assert b"{}" == joined(b"{", members({})).whole()


def test_joined() -> None:
    """Stretches, sources and bodies follow each other; the sizes add up."""
    body = joined(b"a", Word(b"bc"), Body((b"d", Word(b"e"))), b"")
    assert (b"abcde", 5) == (body.whole(), body.size)
    assert [b"a", b"b", b"c", b"d", b"e", b""] == list(body.pieces())
    assert (b"", 0) == (Body(()).whole(), Body(()).size)
