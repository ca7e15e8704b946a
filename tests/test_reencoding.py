"""What is changed so that every server takes a message: long header lines, and the parts of a torn message."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import edits, header, mailboxes, mime, reencoding
from relay.model import Edit, EditKind
from tests import messages

MANY = ", ".join(f"somebody.{number}@example.net" for number in range(100)).encode()


def test_a_long_field_is_folded() -> None:
    """A list of recipients on one line is folded before white space, and says the same."""
    block = b"Subject: x\r\nTo: " + MANY + b"\r\nX: y\r\n"
    found = reencoding.folded(block)
    assert 998 >= max(map(len, found.split(b"\r\n")))
    assert ["subject", "to", "x"] == [name for name, _ in header.fields(found)]
    assert MANY == header.first(found, "to")


@pytest.mark.parametrize(
    "line",
    [
        b"Subject: short",
        b"X-Token:" + b"x" * 2000,
        b"X-Token: " + b"x" * 989,
        b"X-Token: a " + b"x" * 1000 + b" b",
        b"X-Token :" + b"x" * 990,
        b"X: y" + b" " * 2000,
        b"X: y\r\n" + b" " * 1200 + b"z",
        b" " * 2000,
    ],
    ids=[
        "short",
        "no white space",
        "just short enough",
        "white space in the wrong place",
        "white space before the colon",
        "white space at its end",
        "white space at its beginning",
        "white space alone",
    ],
)
def test_what_stays(line: bytes) -> None:
    """A line that need not or cannot be folded stays: a line of white space alone would end the header for some."""
    assert line + b"\r\n" == reencoding.folded(line + b"\r\n")


NARROW = ",".join(f"somebody.{number}@example.net" for number in range(130))


@pytest.mark.parametrize("name", ["From", "Sender", "To", "Cc", "Reply-To"])
def test_a_list_without_white_space_is_folded(name: str) -> None:
    """Some programs write addresses with nothing behind the commas: there a space is added, and they are the same addresses."""
    found = reencoding.folded(f"{name}: {NARROW}\r\nX-Narrow: {NARROW}\r\n".encode())
    lines = found.split(b"\r\n")
    assert 998 >= max(map(len, lines[:-2]))
    assert f"X-Narrow: {NARROW}".encode() == lines[-2]
    assert NARROW == header.first(found, name.lower()).decode().replace(", ", ",")
    assert lines[0].startswith(f"{name}: somebody.0@example.net,".encode())


def test_commas_that_part_nothing() -> None:
    """Commas in quotes and comments are no places to fold."""
    quoted = b'To: "' + b"a," * 300 + b'"<a@example.net>,(' + b"b," * 150 + b"(c,)" + b"d," * 40 + b")b@example.net," + b"c" * 500 + b"@x"
    first, second, rest = reencoding.folded(quoted + b"\r\n").split(b"\r\n")
    assert (b"<a@example.net>,", b"@x", b"") == (first[-16:], second[-2:], rest)
    stays = b'To: "' + b"a," * 600 + b'"<a@example.net>\r\n'
    assert stays == reencoding.folded(stays)


@given(
    st.lists(st.sampled_from(["a@example.net", ",", '"b, c"', "(d, (e))", "<f@example.org>", "x" * 200, "\\", '"', "(", " "]), max_size=60)
)
def test_folding_keeps_the_addresses(pieces: list[str]) -> None:
    """Whatever stands in a list of addresses, folding it leaves the addresses that are read there."""
    block = f"To: {''.join(pieces)}\r\n".encode()
    before, after = (mailboxes.parse(header.first(one, "to").decode()) for one in (block, reencoding.folded(block)))
    assert before == after


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smime-signed", True),
        ("smime-encrypted", True),
        ("pgp-encrypted", True),
        ("alternative", False),
        ("empty-body", False),
    ],
)
def test_what_is_sealed(name: str, expected: bool) -> None:
    """Signed and encrypted mail is known by its parts."""
    data = messages.BY_NAME[name].data
    assert expected is reencoding.sealed(data, header.cut(data)[0], ())


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (b"application/octet-stream; name=smime.P7M", b"x", True),
        (b"application/x-pkcs7-mime", b"x", True),
        (b"multipart/mixed; boundary=b", b"--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--", True),
        (b"multipart/mixed; boundary=b", b"--b\r\n\r\nmultipart/signed\r\n" * 1001 + b"--b--", False),
        (b"multipart/signed; boundary=b", b"--b\r\n\r\nx\r\n" * 1001 + b"--b--", True),
    ],
)
def test_what_is_sealed_inside(content_type: bytes, body: bytes, expected: bool) -> None:
    """A part that is signed counts too; of a message beyond a cap only the outermost part does."""
    block = b"Content-Type: " + content_type + b"\r\n"
    assert expected is reencoding.sealed(block + b"\r\n" + body + b"\r\n", block, ())


@given(st.lists(st.tuples(st.sampled_from([b" ", b"\t", b"x", b"\r\n ", b",", "é".encode()]), st.integers(1, 1200)), max_size=12))
def test_folding_changes_no_value(runs: list[tuple[bytes, int]]) -> None:
    """Whatever stands in a field, folding leaves its value as it is, and gets no line that is white space alone."""
    block = b"X: " + b"".join(text * min(count, 20 if text == b"\r\n " else count) for text, count in runs) + b"\r\n"
    found = reencoding.folded(block)
    assert block.replace(b"\r\n", b"") == found.replace(b"\r\n", b"")
    blank = [line.isspace() for line in found.split(b"\r\n")]
    assert [line.isspace() for line in block.split(b"\r\n")].count(True) == blank.count(True)


def test_nothing_hidden_becomes_text() -> None:
    """Below a line that is no field a hidden field is out before the rest is encoded."""
    block = b"Subject: a\r\ntorn\r\nBcc: hidden@example.net\r\n"
    found = reencoding.seven_bit(block + b"\r\n\xe9\r\n", block, [Edit(EditKind.REMOVE, "bcc")], eight_bit=True)
    assert found is not None
    head, rest = found
    assert b"hidden" not in head + b"".join(rest)


def test_nothing_to_do() -> None:
    """A message of 7 bits with short lines has nothing to change."""
    assert reencoding.seven_bit(b"Subject: a\r\n\r\nb\r\n", b"Subject: a\r\n", (), eight_bit=True) is None


@pytest.mark.parametrize("sample", messages.ours(), ids=lambda sample: sample.name)
@pytest.mark.parametrize("eight_bit", [True, False])
def test_the_stretches_are_the_message_re_encoded(sample: messages.Sample, eight_bit: bool) -> None:
    """Header block and stretches together are what `to_seven_bit` makes of the message without what no recipient may see."""
    block, body = header.cut(sample.data)
    hidden = [Edit(EditKind.REMOVE, "bcc")]
    shown = edits.strip(block, hidden) + sample.data[len(block) :]
    try:
        whole = reencoding.to_seven_bit(shown, eight_bit=eight_bit)
    except mime.MimeError as error:
        with pytest.raises(mime.MimeError, match=re.escape(str(error))):
            reencoding.seven_bit(sample.data, block, hidden, eight_bit=eight_bit)
        return
    found = reencoding.seven_bit(sample.data, block, hidden, eight_bit=eight_bit)
    if whole is shown:
        assert found is None
    else:
        assert found is not None
        head, rest = found
        gap = b"" if body > len(block) else b"\r\n"  # where there was no empty line, the edits bring one
        assert whole == head + gap + b"".join(rest)
