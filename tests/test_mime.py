"""MIME as byte ranges: against tables, against the standard library over real mail, and against anything at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import charsets, header, mime, reencoding
from relay.mime import MimeError, Part

MESSAGES = Path(__file__).parent / "data" / "messages"
CORPUS = os.environ.get("RELAY_CORPUS")
BROKEN_LINES = re.compile(rb"\r\n|\r|\n")


def stored(data: bytes) -> bytes:
    """A message as the listener stores it: every line ends in CRLF."""
    data = BROKEN_LINES.sub(b"\r\n", data)
    return data if data.endswith(b"\r\n") else data + b"\r\n"


def corpus() -> list[Path]:
    """The messages of the corpus, and always our own."""
    found = sorted(MESSAGES.glob("*.eml"))
    if CORPUS:
        skipped = {"_vectors", "_expected"}
        found += [path for path in sorted(Path(CORPUS).rglob("*")) if path.suffix in (".eml", ".mbox") and not skipped & set(path.parts)]
    return found


@pytest.mark.skipif(not CORPUS, reason="RELAY_CORPUS is not set: only the messages in tests/data are read")
def test_the_corpus_is_read() -> None:
    """The tests over real mail do not pass for want of mail."""
    assert len(corpus()) > 300


def leaves(part: Part) -> Iterator[Part]:
    """The parts without children, in order."""
    return (found for found in part.walk() if not found.parts)


def one(text: str, body: bytes = b"x\r\n") -> Part:
    """A message of one part with the given header."""
    return mime.parse(text.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n" + body)


def mixed(*parts: str, close: str = "\r\n--b--\r\n") -> Part:
    """A multipart/mixed with boundary `b`."""
    inside = "".join(f"\r\n--b\r\n{part}" for part in parts)
    return mime.parse(f"Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble{inside}{close}".encode())


# --- structure ---


def test_parts_are_ranges_of_the_message() -> None:
    """Header and content of each part are cut out of the message byte for byte."""
    message = mixed("Content-Type: text/plain\r\n\r\none", "Content-Type: image/png\r\n\r\ntwo\r\n")
    assert [("Content-Type: text/plain\r\n", b"one"), ("Content-Type: image/png\r\n", b"two\r\n")] == [
        (part.header.decode(), part.raw()) for part in message.parts
    ]
    assert all(part.data[part.start : part.body].startswith(part.header) for part in message.walk())


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (["\r\nonly"], [b"only"]),
        (["Content-Type: text/plain"], [b""]),  # the line end of its last field belongs to the delimiter
        (["--b\r\n\r\nx"], [b"x"]),  # two delimiters in a row
        (["\r\n--bb\r\nx"], [b"--bb\r\nx"]),  # begins like a delimiter
        (["\r\nx\r\n--b \t\r\n\r\ny"], [b"x", b"y"]),  # white space after it (RFC 2046 §5.1.1)
    ],
)
def test_delimiters(inside: list[str], expected: list[bytes]) -> None:
    """Only whole delimiter lines divide a multipart."""
    assert expected == [part.raw() for part in mixed(*inside).parts]


def test_a_missing_closing_delimiter() -> None:
    """Without a closing line the last part goes to the end of the message."""
    assert [b"one", b"two\r\n"] == [part.raw() for part in mixed("\r\none", "\r\ntwo\r\n", close="").parts]


def test_an_outer_delimiter_ends_the_inner_multipart() -> None:
    """A delimiter of an outer multipart counts wherever it stands (RFC 2046 §5.1.2)."""
    message = mixed("Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\ninner", "\r\nouter")
    assert [b"inner", b"outer"] == [part.raw() for part in leaves(message)]


def test_a_multipart_without_boundary_has_no_parts() -> None:
    """Without a boundary, or when it is nowhere in the body, the parts cannot be told apart."""
    assert () == one("Content-Type: multipart/mixed\n").parts
    assert () == one("Content-Type: multipart/mixed; boundary=b\n").parts


def test_messages_in_messages() -> None:
    """A message/rfc822 holds one message, in a multipart/digest also by default; an encoded one is a file like any other."""
    inner = "Subject: in\r\n\r\nbody"
    assert ["message/rfc822", "text/plain"] == [
        part.content_type for part in mixed(f"Content-Type: message/rfc822\r\n\r\n{inner}").parts[0].walk()
    ]
    digest = mime.parse(f"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n{inner}\r\n--b--\r\n".encode())
    assert b"body" == digest.parts[0].parts[0].raw()
    assert () == mixed("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogaW4=").parts[0].parts
    assert () == one("Content-Type: message/rfc822\n").parts[0].parts
    assert () == mime.parse(b"Content-Type: message/rfc822\r\nno empty line, no field\r\n").parts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/HTML; charset=x", "text/html"),
        ("application/pdf name=x.pdf", "application/pdf"),  # no semicolon
        ("text/plain (comment)", "text/plain"),
        ("garbage", "text/plain"),
        ("image", "text/plain"),
        ("a/b/c", "text/plain"),
        ("multipart/mixed  Content-Type: text/html", "text/plain"),
    ],
)
def test_content_types(value: str, expected: str) -> None:
    """A type that cannot be read is text/plain (RFC 2045 §5.2)."""
    assert expected == one(f"Content-Type: {value}\n").content_type


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=a b.txt", "a b.txt"),
        ('attachment; filename="a\\"b;c.txt" junk; x=y', 'a"b;c.txt'),
        ('attachment; filename="open', '"open'),
        ("attachment; filename*=UTF-8''%e2%82%ac%20rates.txt; filename=plain.txt", "€ rates.txt"),
        ("attachment; filename*0*=iso-8859-1'en'%A3; filename*1=\" a\"; filename*2*=%20b", "£ a b"),
        ("attachment; filename*1=b.txt; filename*0=a", "ab.txt"),
        ("attachment; filename*=nonsense", "nonsense"),
        ("attachment; filename*=bogus'x'%e9", "é"),
        ('attachment; filename="=?utf-8?b?w7xiZXI=?= =?utf-8?q?.pdf?="', "über.pdf"),
        ("attachment; filename=a.txt; FILENAME=b.txt", "a.txt"),
        ("attachment; flag; =x; filename = a.txt", "a.txt"),
        ('attachment; filename="über.txt"', "über.txt"),
        ("attachment; filename*x=1; filename**=2; *=3", ""),
    ],
)
def test_file_names(value: str, expected: str) -> None:
    """RFC 2231, encoded words where they are not allowed, raw UTF-8, and broken quoting."""
    part = one(f"Content-Disposition: {value}\n")
    assert ("attachment", expected, bool(expected)) == (part.disposition, part.filename, part.named)


def test_raw_latin1_file_names() -> None:
    """Raw octets that are not UTF-8 are read as windows-1252."""
    assert "für.txt" == one('Content-Type: text/plain; name="f\udcfcr.txt"\n').filename


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\TEMP\\a.png", "a.png"),
        ("dir/", "dir"),
        ("in\u202egnp.exe", "ingnp.exe"),
        ("a\r\nb\0c\u2028d", "abcd"),
        ("..", ""),
        (" . ", ""),
        ("\ud800x", "x"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
        ("x" * 300, "x" * 255),
        ("a." + "x" * 300, "a." + "x" * 253),
    ],
)
def test_safe_names(name: str, expected: str) -> None:
    """A file name holds no path, control or bidi character and keeps its ending when cut."""
    assert expected == mime.safe_name(name)


def test_other_fields() -> None:
    """Content-ID without brackets, Content-Location, disposition and charset are told."""
    part = one(
        "Content-ID: <a@b>\nContent-Location: http://x/a.png\nContent-Disposition: INLINE\nContent-Type: text/plain; charset=UTF-8 \n"
    )
    assert ("a@b", "http://x/a.png", "inline", "utf-8", "text") == (
        part.content_id,
        part.content_location,
        part.disposition,
        part.charset,
        part.maintype,
    )


# --- content ---


@pytest.mark.parametrize(
    ("encoding", "raw", "expected"),
    [
        ("base64", b"aGVs\r\nbG8=\r\n", b"hello"),
        ("BASE64 ", b"aGVsbG8\r\n", b"hello"),  # padding missing
        ('"base64"', b"aGV*sbG8=", b"hello"),  # what is not base64 is skipped
        ("base64", b"aGVs bG8", b"hello"),
        ("base64", b"A", b"A"),  # cannot be decoded at all
        ("quoted-printable; x", b"a=3D=\r\nb", b"a=b"),
        ("8-bit", b"a=3D", b"a=3D"),
        ("x-uuencode", b"x\r\nbegin 644 f\r\n%:&5L;&\\\r\n`\r\nend\r\nrest", b"hello"),
        ("uuencode", b"begin 644 f\r\n%:&5L;&\\   \r\n", b"hello"),  # more than the length says, and no end
        ("uuencode", b"begin 644 f\r\n\xff\xff\r\nend\r\n", b"begin 644 f\r\n\xff\xff\r\nend\r\n"),
        ("uuencode", b"none", b"none"),
        ("uuencode", b"my begin 644 f\r\nbegin 64 f\r\n", b"my begin 644 f\r\nbegin 64 f\r\n"),
        ("uuencode", b"begin 644 f\r\n%:&5L;&\\\r\n\r\nfriends\r\nend \r\n", b"begin 644 f\r\n%:&5L;&\\\r\n\r\nfriends\r\nend \r\n"),
        ("uuencode", b"begin 644 f\r\n%:&5L;&\\\r\n\r\nend \r\nending\r\n", b"hello"),
        ("uuencode", b"begin 644 f\r\n%:&5L;&\\", b"hello"),  # no line end
        ("x-own", b"a=3D", b"a=3D"),
    ],
)
def test_decoded(encoding: str, raw: bytes, expected: bytes) -> None:
    """Content is decoded as the standard library does it, broken content too."""
    assert expected == one(f"Content-Transfer-Encoding: {encoding}\n", raw).decoded()


@pytest.mark.parametrize(
    ("raw", "charset", "expected"),
    [
        ("é€".encode(), "utf-8", "é€"),
        (b"\xe9\x80", "iso-8859-1", "é€"),
        (b"\xe9", "us-ascii", "é"),
        ("é".encode(), "", "é"),
        (b"\xb0\xa1", "ks_c_5601-1987", "가"),
        (b"\x81\x30\x81\x30", "gb2312", "\x80"),
        (b"\x87\x40", "Shift_JIS", "①"),
        (b"\xcf\xf0", "koi8-u", "оП"),
        (b"\xe9", "no-such-charset", "é"),
        (b"xn--a-", "punycode", "xn--a-"),
        (b"\\x41", "unicode_escape", "\\x41"),
        (b"abc", "base64", "abc"),
        (b"\xff", "utf-8", "\ufffd"),
        ("Grüße €".encode("utf-7"), "UTF-7", "Grüße €"),
        ("Grüße €".encode("utf-7"), "unicode-1-1-utf-7", "Grüße €"),
        ("发票，点数".encode(), "gb2312", "发票，点数"),  # not what it says, and UTF-8
        ("é".encode(), "iso-8859-1", "Ã©"),  # may be what it says
        (b"+2AA-x", "utf-7", "\ufffdx"),  # half a character
        ("𠮷".encode("gb18030"), "GB18030", "𠮷"),
        ("請求書".encode("iso-2022-jp"), "iso-2022-jp", "請求書"),
        ("x".encode("utf-16"), "utf-16", "x"),
    ],
)
def test_charsets(raw: bytes, charset: str, expected: str) -> None:
    """Declared charsets with the aliases that mail needs; codecs that are no charsets are not used."""
    assert expected == mime.decode(raw, charset)


@given(st.sampled_from(sorted(charsets._CODECS)), st.binary(max_size=30))
def test_any_octets_in_any_charset(charset: str, raw: bytes) -> None:
    """Whatever the octets are, text comes out that UTF-8 can hold."""
    mime.decode(raw, charset).encode()
    mime.decode(raw, "", charset).encode()


@pytest.mark.parametrize(
    ("parameters", "raw", "expected"),
    [
        ("", "\ufeffa \r\nb\r\n", "a \nb\n"),
        ("format=flowed", "one \r\ntwo\r\n three\r\n-- \r\nme \r\n", "one two\nthree\n-- \nme \n"),
        ("format=flowed; delsp=yes", "one \r\ntwo\r\n", "onetwo\n"),
        ("Format=Flowed", ">> a \r\n>> b\r\n> c \r\nd\r\n>\r\n", ">> a b\n> c \nd\n> \n"),
        ("format=flowed", "open ", "open "),
        ("format=flowed", "a \r\n-- \r\nb\r\n", "a \n-- \nb\n"),
    ],
)
def test_text(parameters: str, raw: str, expected: str) -> None:
    """Text has LF line ends and no byte order mark; flowed paragraphs are joined (RFC 3676)."""
    assert expected == one(f"Content-Type: text/plain; charset=utf-8; {parameters}\n", raw.encode()).text()


# --- limits ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n--b\r\n\r\nx" * 1001, "more than 1000 MIME parts"),
        (b"Content-Type: message/rfc822\r\n\r\n" * 102, "nested deeper than 100"),
        (b"X: " + b"y" * 300_000 + b"\r\n\r\n", "header larger than 256 KiB"),
        (b"X: " + b"y" * 500_000, "header larger than 256 KiB"),
        (b"X: y\r\n" * 1001 + b"\r\n", "more than 1000 fields"),
        (b"Content-Type: a/b" + b"; x=y" * 101 + b"\r\n\r\n", "more than 100 parameters"),
        (b"Content-Type: multipart/mixed; boundary=" + b"b" * 1001 + b"\r\n\r\n", "boundary longer than 1000"),
    ],
)
def test_caps(data: bytes, reason: str) -> None:
    """What is beyond a cap is refused with its name."""
    with pytest.raises(MimeError, match=reason):
        mime.parse(data)


def test_the_search_for_boundaries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that begin like a delimiter cost; too many of them are refused."""
    monkeypatch.setattr(mime, "MAX_SCAN", 10_000)
    with pytest.raises(MimeError, match="cost too much"):
        mime.parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n--bb" * 20)


def test_uuencoded_content_of_tiny_lines_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line costs, so content of too many lines is taken as it stands."""
    monkeypatch.setattr(mime, "_MAX_UU_LINES", 2)
    raw = b"begin 644 f\r\n!\r\n!\r\nend\r\n"
    assert raw == one("Content-Transfer-Encoding: uuencode\n", raw).decoded()


def test_a_body_without_line_ends_is_no_header() -> None:
    """A body of one endless line costs nothing and is not mistaken for a header."""
    assert 500_000 == len(one("Subject: x\n", b"y" * 500_000).raw())


# --- the standard library as oracle ---

# Real messages that we read in another way than the standard library for a reason of their own.
OUR_WAY = {
    "data--msg_42.eml": "a multipart that is only a closing delimiter holds text that is not hidden",
    "mbox--content-length.mbox-15.eml": "a leading >From line is an mbox line too",
    "rfc2822--example13.eml": "white space before the colon of a field (RFC 5322 §4.5)",
    "malformed--019.eml": "white space before the colon of a field (RFC 5322 §4.5)",
    "thirdparty--003.eml": "white space after the transfer encoding is no part of it",
}


def reason(data: bytes, ours: list[Part], theirs: list[Message]) -> str:
    """Why the two readings may differ, by the rules of docs/decisions/003-mime.md; "" when they must not."""
    if any(part.content_type.startswith("message/") for part in ours):
        return "a message/* that is not a plain message/rfc822 is a file and is not gone into"
    if data[:1] in (b" ", b"\t"):
        return "a first line of white space is no field, so there is no header"
    if any("\n" in (part.get_boundary() or "") for part in theirs):
        return "a folded boundary is unfolded"
    if any(re.search(r"\s", part.get_content_type()) for part in theirs):
        return "a semicolon may be missing after the type"
    return ""


def described(part: Part) -> tuple[str, bytes, str]:
    """What the standard library says about a part too. Line ends at the end are left out: it drops one where a multipart is unfinished."""
    return part.content_type, part.decoded().rstrip(b"\r\n"), part.filename


def described_by_them(part: Message, raw_name: str) -> tuple[str, bytes, str]:
    """The same from the standard library, which neither decodes encoded words in file names nor removes paths."""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    name = part.get_filename() or ""
    if "\ufffd" in name:  # raw 8-bit octets, of which it only says that they are there
        name = raw_name
    return part.get_content_type(), content.rstrip(b"\r\n"), mime.safe_name(header.text(name.replace("\r\n", "").encode()))


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail_is_read_as_the_standard_library_reads_it(path: Path) -> None:
    """Type, decoded content and file name of every leaf agree; each difference has a reason."""
    data = stored(path.read_bytes())
    ours = list(leaves(mime.parse(data)))
    theirs = [part for part in message_from_bytes(data).walk() if not part.is_multipart()]
    if path.name in OUR_WAY or (reason(data, ours, theirs)):
        return
    assert len(theirs) == len(ours)
    assert [described_by_them(part, our.filename) for part, our in zip(theirs, ours, strict=True)] == [described(part) for part in ours]


# --- re-encoding ---


def seven_bit(part: Part) -> bool:
    """Whether a part can cross a hop without 8BITMIME."""
    return part.raw().isascii() and max(map(len, part.raw().split(b"\r\n"))) <= 998


def outside(message: Part) -> bytes:
    """What re-encoding must not touch: all but the leaf parts that need it."""
    pieces, done = [], 0
    for part in leaves(message):
        if not seven_bit(part):
            pieces.append(message.data[done : part.start])
            done = part.end
    return b"|".join([*pieces, message.data[done:]])


@pytest.mark.parametrize(
    ("header_lines", "body", "expected"),
    [
        (
            "Subject: x\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\nX: y\nContent-Transfer-Encoding: again\n",
            "grün, und dann noch mehr Text\r\n--b\r\n".encode(),
            b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\nX: y\r\n\r\n"
            b"gr=C3=BCn, und dann noch mehr Text\r\n=2D-b\r\n",
        ),
        (
            "",
            b"--" + b"y" * 998 + b"\xe9",
            b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=2D-"
            + b"y" * 73
            + b"=\r\n"
            + (b"y" * 75 + b"=\r\n") * 12
            + b"y" * 25
            + b"=E9",
        ),
        (
            "Content-Type: image/png\nMIME-Version: 1.0\n",
            b"\x89PNG\r\n",
            b"Content-Type: image/png\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0K\r\n",
        ),
        (
            "Content-Type: image/png\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n",
            b"eHh4" * 250,
            b"Content-Type: image/png\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + (b"eHh4" * 19 + b"\r\n") * 13
            + b"eHh4" * 3
            + b"\r\n",
        ),
    ],
)
def test_to_seven_bit(header_lines: str, body: bytes, expected: bytes) -> None:
    """Text with few 8-bit octets becomes quoted-printable, the rest base64; the field is set in its place."""
    data = header_lines.replace("\n", "\r\n").encode() + b"\r\n" + body
    assert expected == reencoding.to_seven_bit(data)


@pytest.mark.parametrize("size", [57 * 1024 - 2, 57 * 1024, 57 * 1024 + 2, 200_000])
def test_base64_of_more_than_a_block(size: int) -> None:
    """However large a part is, its base64 has lines of 76 octets but for the last one."""
    body = "é".encode() * (size // 2)
    encoded = mime.parse(reencoding.to_seven_bit(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body))
    *lines, last, end = encoded.raw().split(b"\r\n")
    assert {76} == set(map(len, lines))
    assert (True, b"") == (0 < len(last) <= 76, end)
    assert body == encoded.decoded()


def test_only_the_leaves_that_need_it_change() -> None:
    """The other parts, the preamble and the epilogue stay byte for byte."""
    plain = "Content-Type: text/plain\r\n\r\nplain"
    before = mixed(plain, "Content-Type: text/plain; charset=utf-8\r\n\r\nüüüü", plain)
    after = mime.parse(reencoding.to_seven_bit(before.data))
    assert outside(before) == before.data.replace(before.parts[1].data[before.parts[1].start : before.parts[1].end], b"|")
    assert (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nw7zDvMO8w7w="
        == (after.data[after.parts[1].start : after.parts[1].end])
    )


def test_clean_mail_stays_the_same_object() -> None:
    """A message that needs nothing is returned as it is."""
    data = mixed("\r\nx").data
    assert reencoding.to_seven_bit(data) is data


def test_an_attached_message_is_re_encoded_inside() -> None:
    """A message/rfc822 must not be encoded itself (RFC 2046 §5.2.1), so its own leaves are."""
    after = mime.parse(reencoding.to_seven_bit(mixed("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nein schöner Tag").data))
    assert ["", "", "quoted-printable"] == [part.encoding for part in after.walk()]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("Content-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nü\r\n--c--", "multipart/signed"),
        ("Content-Type: multipart/encrypted; boundary=c\r\n\r\n--c\r\n\r\nü\r\n--c--", "multipart/encrypted"),
        ("Content-Type: multipart/mixed\r\n\r\nü", "multipart/mixed"),
        ("Content-Type: message/partial\r\n\r\nü", "message/partial"),
        ("Content-Type: message/external-body\r\n\r\nü", "message/external-body"),
        ("Content-Transfer-Encoding: x-own\r\n\r\nü", "x-own"),
    ],
)
def test_what_must_not_be_touched(head: str, reason: str) -> None:
    """A part that would change its meaning when re-encoded is refused with its type."""
    with pytest.raises(MimeError, match=reason):
        reencoding.to_seven_bit(mixed(head).data)


@pytest.mark.parametrize("head", ["multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--", "message/partial\r\n\r\nx"])
def test_a_signed_part_that_is_clean_does_not_matter(head: str) -> None:
    """Beside a clean signed part another part can be re-encoded."""
    before = mixed(f"Content-Type: {head}", "\r\nü")
    assert outside(before).split(b"|")[0] in reencoding.to_seven_bit(before.data)


@pytest.mark.parametrize("length", [997, 998, 999, 1000])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\nx\r\n"])
def test_line_lengths(length: int, end: bytes) -> None:
    """998 octets without CRLF are the limit (RFC 5322 §2.1.1)."""
    data = b"\r\n" + b"short\r\n" * 300 + b"x" * length + end
    assert (length > 998) == (reencoding.to_seven_bit(data) is not data)


def check_re_encoding(data: bytes) -> None:
    """The promises of `to_seven_bit` for one message."""
    try:
        after = mime.parse(reencoding.to_seven_bit(data))
        before = mime.parse(data)
    except MimeError:
        return
    assert [(part.content_type, part.filename) for part in before.walk()] == [(part.content_type, part.filename) for part in after.walk()]
    assert [part.decoded() for part in leaves(before)] == [part.decoded() for part in leaves(after)]
    assert all(seven_bit(part) for part in leaves(after))
    assert all(piece in after.data for piece in outside(before).split(b"|"))


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail_re_encoded(path: Path) -> None:
    """Over real mail: same parts, same content, seven bits, and the rest byte for byte."""
    check_re_encoding(stored(path.read_bytes()))


# --- anything at all ---

TYPES = ["text/plain", "text/html; charset=iso-8859-1", "image/png", "multipart/mixed; boundary=b", "multipart/alternative; boundary=c"]
TYPES += ["multipart/signed; boundary=b", "message/rfc822", "multipart/digest; boundary=c", "text/plain; format=flowed; delsp=yes"]
LINES = st.one_of(
    st.sampled_from(
        [b"", b"--b", b"--b--", b"--c", b"--c--", b"--bb", b" ", b"-- ", b".", b"From x", b"begin 644 f", b"end", b"\xe9" * 30]
    ),
    st.sampled_from([f"Content-Type: {name}".encode() for name in TYPES]),
    st.sampled_from(["base64", "quoted-printable", "8bit", "x-uuencode"]).map(lambda name: f"Content-Transfer-Encoding: {name}".encode()),
    st.binary(max_size=40).map(lambda line: BROKEN_LINES.sub(b"", line)),
    st.integers(990, 1003).map(lambda length: b"y " * (length // 2)),
)
MESSAGE_LIKE = st.lists(LINES, max_size=30).map(b"\r\n".join)


@given(MESSAGE_LIKE)
@example(b"\xe9 x: \r\n")
@example(b"Content-Type: message/rfc822\r\n\xe9")
def test_re_encoding_anything(data: bytes) -> None:
    """Whatever lines a message is made of, decoded content and structure survive re-encoding."""
    check_re_encoding(data + b"\r\n")


@given(st.one_of(MESSAGE_LIKE, st.binary(max_size=200)))
def test_parsing_anything(data: bytes) -> None:
    """Parsing and decoding end in parts or in MimeError, never in another exception; parts lie inside their parents."""
    try:
        message = mime.parse(data)
    except MimeError:
        return
    for part in message.walk():
        assert part.start <= part.body <= part.end <= len(data)
        assert all(part.body <= child.start and child.end <= part.end for child in part.parts)
        assert isinstance(part.text(), str)
        assert part.decoded() == b"".join(map(bytes, part.octets()))


# --- a header block given apart ---


def told(part: Part) -> list[tuple[object, ...]]:
    """All that the parts of a message say, but for where in its octets they stand."""
    return [
        (*described(one), one.header, one.raw(), dict(one.parameters), one.encoding, one.disposition, one.named, one.content_id)
        for one in part.walk()
    ]


def check_given_apart(head: bytes, data: bytes, at: int) -> None:
    """`parse_with` is `parse` of the same octets in one piece, its refusals too, where `head` is the header block of that."""
    if header.split(head + data[at:])[0] != head and header.split(head + b"\r\n")[0] == head:
        return
    expected: object
    found: object
    try:
        expected = told(mime.parse(head + data[at:]))
    except MimeError as error:
        expected = str(error)
    try:
        found = told(mime.parse_with(head, data, at))
    except MimeError as error:
        found = str(error)
    assert expected == found


@given(MESSAGE_LIKE, st.integers(0, 4), st.booleans())
@example(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ny", 4, False)
@example(b"Content-Type: message/rfc822\r\nno field", 4, False)
@example(b"Subject: x\r\ntorn\r\nBcc: y\r\nContent-Type: text/html\r\n\r\nz", 4, True)
def test_a_header_given_apart(data: bytes, kept: int, torn: bool) -> None:
    """Read with its header block apart, or with what is left of that, a message has the same parts."""
    block, _ = (header.cut if torn else header.split)(data)
    head = b"".join([whole for _, whole in header.fields(block)][:kept])
    check_given_apart(head, data, len(block))


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail_with_its_header_apart(path: Path) -> None:
    """Over real mail: the same parts, of the message as it is and of one from whose header something was taken."""
    data = stored(path.read_bytes())
    block, _ = header.cut(data)
    check_given_apart(block, data, len(block))
    check_given_apart(b"X: y\r\n" + block, data, len(block))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"X: " + b"y" * 300_000 + b"\r\n", "header larger than 256 KiB"),
        (b"X: y\r\n" * 1001, "more than 1000 fields"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n", "more than 1000 MIME parts"),
    ],
)
def test_caps_with_the_header_apart(head: bytes, reason: str) -> None:
    """The caps are the same."""
    data = b"\r\n" + b"\r\n--b\r\n\r\nx" * 1000
    check_given_apart(head, data, 0)
    with pytest.raises(MimeError, match=reason):
        mime.parse_with(head, data, 0)


@given(st.text(max_size=60), st.sampled_from(["text/plain", "text/plain; name=", "attachment; filename*0*=", "a; b*=", 'x; y="']))
def test_parsing_any_parameters(text: str, start: str) -> None:
    """Parameters are read without an exception, and file names are always safe."""
    part = mime.parse(f"Content-Type: {start}{text}\r\nContent-Disposition: {start}{text}\r\n\r\n".encode("utf-8", "surrogatepass"))
    assert part.filename == mime.safe_name(part.filename)
    assert not set(part.filename) & set("/\\\r\n\0\u202e")


@pytest.mark.parametrize("character", [*"ab/-;=*'\"\\(< ", "\t", "; ", "a=", 'a="', "*0*=", '\\"', "a/"])
@pytest.mark.parametrize("before", ["", "a/", "a/b ", "a/b -", "a/b;", "a/b; x=", 'a/b; x="', "multipart/mixed; boundary="])
def test_hostile_values_take_no_longer_than_their_length(before: str, character: str) -> None:
    """A value as long as a line may be is read at once, whatever it is made of."""
    many = character * (65_000 // len(character))
    for after in ("", "/", '"', "=", "\x01"):
        value = f"{before}{many}{after}".encode()
        with contextlib.suppress(MimeError):
            mime.parse(b"Content-Type: %b\r\nContent-Disposition: %b\r\nContent-Transfer-Encoding: %b\r\n\r\nx" % ((value,) * 3))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html", "text/html"),
        ("TEXT/HTML ;a=b", "text/html"),
        ("text/html charset=utf-8", "text/html"),
        ("text/html(comment); a=b", "text/html"),
        ("text/html (comment)", "text/html"),
        ("text/html charset", "text/plain"),
        ("text/html/", "text/plain"),
        ("text", "text/plain"),
    ],
)
def test_content_types_with_less_or_more_than_they_need(value: str, expected: str) -> None:
    """A comment or a missing semicolon does no harm; what is no type is text."""
    assert expected == mime.parse(f"Content-Type: {value}\r\n\r\nx".encode()).content_type


def test_long_lines_only() -> None:
    """Where 8-bit text may stay, only parts with long lines are re-encoded."""
    short = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngrüße"
    both = mixed(short, f"Content-Type: text/html\r\n\r\n{'é' * 600}")
    after = mime.parse(reencoding.to_seven_bit(both.data, eight_bit=False))
    assert ["", "base64"] == [part.encoding for part in after.parts]
    assert [part.decoded() for part in both.parts] == [part.decoded() for part in after.parts]
    alone = mixed(short).data
    assert reencoding.to_seven_bit(alone, eight_bit=False) is alone
