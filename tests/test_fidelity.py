"""A message taken apart for a JSON API, and its recipients put where the header shows them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import address as addresses
from relay import mime
from relay.fidelity import Addressed, Loss, Rebuilt, address, mailboxes_in, rebuild
from relay.mailboxes import Mailbox
from tests import messages


def rebuilt(text: str) -> Rebuilt:
    """What a message of these lines comes to."""
    return rebuild(mime.parse(text.replace("\n", "\r\n").encode()))


def multipart(kind: str, *parts: str, boundary: str = "b") -> str:
    """A multipart of these parts."""
    return (
        f"Content-Type: multipart/{kind}; boundary={boundary}\n\n"
        + "".join(f"--{boundary}\n{part}\n" for part in parts)
        + f"--{boundary}--\n"
    )


TEXT = "Content-Type: text/plain\n\ntext"
HTML = "Content-Type: text/html\n\n<b>html</b>"
PDF = "Content-Type: application/pdf; name=a.pdf\n\npdf"
PNG = "Content-Type: image/png\nContent-ID: <logo>\n\npng"


def shape(found: Rebuilt) -> tuple[str | None, str | None, list[str]]:
    """Text, HTML and the names of the files."""
    return found.text, found.html, [file.name for file in found.attachments]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (TEXT, ("text", None, [])),
        (HTML, (None, "<b>html</b>", [])),
        (PDF, (None, None, ["a.pdf"])),
        ("Subject: x\n\nno type", ("no type", None, [])),
        (multipart("alternative", TEXT, HTML), ("text", "<b>html</b>", [])),
        (multipart("mixed", TEXT, PDF, TEXT), ("text", None, ["a.pdf", "part.txt"])),
        (multipart("mixed", TEXT, HTML, PDF), ("text", "<b>html</b>", ["a.pdf"])),
        (multipart("mixed", HTML, TEXT), (None, "<b>html</b>", ["part.txt"])),
        (multipart("mixed", TEXT, PDF, HTML), ("text", None, ["a.pdf", "part.html"])),
        (multipart("mixed", TEXT, HTML.replace("html\n", "html; name=a.html\n")), ("text", None, ["a.html"])),
        (multipart("mixed", TEXT, multipart("mixed", TEXT, HTML, boundary="c")), ("text", None, ["part.txt", "part.html"])),
        (multipart("mixed", PDF, HTML), (None, "<b>html</b>", ["a.pdf"])),
        (multipart("mixed", TEXT, multipart("alternative", TEXT, HTML, boundary="c")), ("text", None, ["part.txt", "part.html"])),
        (multipart("alternative", TEXT, multipart("related", HTML, PNG, boundary="c")), ("text", "<b>html</b>", ["attachment.png"])),
        (
            multipart("alternative", TEXT, multipart("mixed", HTML, PDF, HTML, boundary="c")),
            ("text", "<b>html</b>", ["a.pdf", "part.html"]),
        ),
        (multipart("related", multipart("alternative", TEXT, HTML, boundary="c"), PNG), ("text", "<b>html</b>", ["attachment.png"])),
        (multipart('related; start="<r>"', PNG, HTML.replace("\n\n", "\nContent-ID: <r>\n\n")), (None, "<b>html</b>", ["attachment.png"])),
        (multipart("mixed", TEXT.replace("\n\n", "\nContent-Disposition: attachment\n\n")), (None, None, ["part.txt"])),
        (multipart("mixed", TEXT.replace("\n\n", "\nContent-Disposition: inline; filename=a.txt\n\n"), TEXT), ("text", None, ["a.txt"])),
        (
            multipart("alternative", TEXT.replace("\n\n", "\nContent-Disposition: inline; filename=a.txt\n\n"), HTML),
            ("text", "<b>html</b>", []),
        ),
        (multipart("mixed", TEXT, PDF, "Content-Type: text/plain\n\n \n", "Content-Type: text/html\n\n"), ("text", None, ["a.pdf"])),
        (multipart("mixed", "Content-Type: text/plain\n\n\n", PDF, TEXT), ("text", None, ["a.pdf"])),  # nothing stands before it
        (multipart("mixed", "\n", PDF, HTML, TEXT), (None, "<b>html</b>", ["a.pdf", "part.txt"])),
        (multipart("mixed", "\n", multipart("alternative", TEXT, HTML, boundary="c")), ("text", "<b>html</b>", [])),
        (multipart("mixed", "\n", multipart("mixed", TEXT, HTML, boundary="c")), ("text", "<b>html</b>", [])),
        (multipart("mixed", "\n", multipart("related", HTML, PNG, boundary="c")), (None, "<b>html</b>", ["attachment.png"])),
        (multipart("mixed", "\n ", PDF), (" ", None, ["a.pdf"])),
        (multipart("alternative", "\n", HTML), ("", "<b>html</b>", [])),
        (multipart("mixed", TEXT, "Content-Type: text/plain; name=b.txt\n\n"), ("text", None, ["b.txt"])),
        (multipart("mixed", TEXT, "Content-Disposition: attachment\n\n"), ("text", None, ["part.txt"])),
        (multipart("mixed", "Content-Type: message/rfc822\n\n" + TEXT), (None, None, ["message.eml"])),
        (multipart("mixed", "Content-Type: application/x-own\n\n"), (None, None, ["attachment.dat"])),
        ("Content-Type: multipart/mixed\n\nno boundary", ("no boundary", None, [])),
        (multipart("mixed", TEXT, "Content-Type: multipart/mixed\n\nno boundary"), ("text", None, ["attachment.dat"])),
    ],
)
def test_rebuild(message: str, expected: tuple[str | None, str | None, list[str]]) -> None:
    """The first text shown is the body, text and HTML of one alternative stand for each other, the rest are files."""
    assert expected == shape(rebuilt(message))


@pytest.mark.parametrize(
    ("message", "loss"),
    [
        (multipart("signed", TEXT, "Content-Type: application/pgp-signature\n\n"), ("hard", "signature of multipart/signed")),
        (multipart("encrypted", "Content-Type: application/pgp-encrypted\n\n"), ("hard", "multipart/encrypted")),
        (multipart("report", TEXT), ("hard", "multipart/report")),
        (multipart("mixed", multipart("report", TEXT, boundary="c")), ("hard", "multipart/report")),
        ("Content-Type: application/pkcs7-mime\n\nx", ("hard", "S/MIME")),
        ("Content-Type: message/partial\n\nx", ("hard", "message/partial")),
        ("Content-Type: message/external-body\n\nx", ("hard", "message/external-body")),
        (multipart("alternative", TEXT, "Content-Type: text/calendar\n\nx"), ("hard", "calendar")),
        ("Content-Type: text/calendar; method=REQUEST\n\nx", ("hard", "calendar")),
        (multipart("alternative", TEXT, "Content-Type: text/x-amp-html\n\nx", HTML), ("hard", "AMP")),
        (multipart("alternative", TEXT, "Content-Type: text/enriched\n\nx"), ("cosmetic", "text/enriched form")),
        (
            multipart(
                "related",
                HTML.replace("html</b>", "<img src='a&amp;b.png'></b>"),
                "Content-Type: image/png\nContent-Location: a&b.png\n\nx",
            ),
            ("hard", "Content-Location"),
        ),
        (
            multipart(
                "related", HTML.replace("html</b>", "<p style='x: url( a.png )'>"), "Content-Type: image/png\nContent-Location: a.png\n\nx"
            ),
            ("hard", "Content-Location"),
        ),
        (multipart("mixed", "Content-Type: text/calendar; method=REPLY\nContent-Disposition: inline\n\nx"), ("hard", "calendar")),
        ("Content-Type: application/octet-stream; name=smime.P7M\n\nx", ("hard", "S/MIME")),
        ("Subject: x\n\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx", ("hard", "signed within itself")),
        (multipart("alternative", HTML, TEXT), ("cosmetic", "the text, which is the preferred form")),
        (multipart("digest", TEXT), ("cosmetic", "multipart/digest becomes separate")),
        (multipart("mixed", TEXT, HTML), ("cosmetic", "a text and an HTML side by side")),
        (multipart("mixed", TEXT, PDF, HTML), ("cosmetic", "a further text/html part")),
        ("Content-Type: multipart/mixed\n\nx", ("cosmetic", "cannot be told apart goes as text")),
        (multipart("mixed", TEXT, "Content-Type: multipart/mixed\n\nx"), ("cosmetic", "cannot be told apart goes as an attachment")),
        ("Content-Type: text/plain; charset=iso-8859-1\n\nx", ("cosmetic", "text in iso-8859-1")),
        ("Subject: x\n\na\0b", ("cosmetic", "NUL")),
        ("Content-Transfer-Encoding: x-own\n\nx", ("cosmetic", "x-own")),
        (multipart("mixed", TEXT, "Content-Type: application/zip\nContent-Transfer-Encoding: x-own\n\nx"), ("hard", "x-own")),
    ],
)
def test_losses(message: str, loss: tuple[str, str]) -> None:
    """Each thing that a JSON API cannot carry is named once, with its grade."""
    (found,) = rebuilt(message).losses[:1]
    assert (loss[0], True) == (found.grade, loss[1] in found.what)


@pytest.mark.parametrize(
    "message",
    [
        multipart("mixed", TEXT, "Content-Type: message/rfc822\n\n" + multipart("signed", TEXT, boundary="c")),
        multipart("mixed", TEXT, "Content-Type: text/calendar; method=REQUEST; name=a.ics\nContent-Disposition: attachment\n\nx"),
        multipart("mixed", TEXT, "Content-Type: application/pgp-keys\n\nx", "Content-Type: application/ms-tnef\n\nx"),
        multipart("related", HTML, "Content-Location: unused.png\n\nx", PNG),
        multipart("mixed", TEXT, "Content-Type: text/calendar\n\nx", "Content-Type: application/octet-stream; name=smime.p7m\n\nx"),
        "Subject: x\n\n> -----BEGIN PGP SIGNED MESSAGE-----\n-----BEGIN PGP MESSAGE-----\nx",
    ],
)
def test_no_losses(message: str) -> None:
    """What is inside an attached message, and files that are only files, lose nothing."""
    assert [] == [loss for loss in rebuilt(message).losses if loss.grade == "hard"]


def test_the_hard_samples() -> None:
    """Signed, encrypted, calendar, report and what else cannot be rebuilt: each has a hard loss, or two authors; no other has."""
    lost = {sample.name for sample in messages.ALL if any(loss.grade == "hard" for loss in rebuild(mime.parse(sample.data)).losses)}
    assert messages.HARD - {"several-from"} == lost


def test_nul_characters_are_left_out() -> None:
    """JSON could carry them, mail readers cannot."""
    assert ("ab", (Loss("cosmetic", "NUL characters in the text are left out"),)) == (rebuilt("\na\0b").text, rebuilt("\na\0b").losses)


@pytest.mark.parametrize(
    ("src", "expected"),
    [("cid:logo", "logo"), ("CID:lo%67o", "logo"), ("cid:other", ""), ("logo", "")],
)
def test_inline_images(src: str, expected: str) -> None:
    """A part is inline where the HTML refers to its Content-ID, anywhere in the message; otherwise it is a file."""
    html = f"Content-Type: text/html\n\n<img src='{src}'>"
    for message in (multipart("related", html, PNG), multipart("mixed", html, PNG, PNG)):
        found = rebuilt(message)
        assert [expected, ""][: len(found.attachments)] == [file.content_id for file in found.attachments]


@pytest.mark.parametrize(
    ("content_id", "src", "expected"),
    [
        ("<a%40b>", "cid:a%40b", "a%40b"),  # encoded in the field too
        ("<a@b>", "cid:a%40b", "a@b"),
        ("<a&b>", "cid:a&amp;b", "a&b"),
        ("a@b", "cid:a@b", "a@b"),  # without brackets
        ("<A@b>", "cid:a@b", ""),
        ("<>", "cid:", ""),
    ],
)
def test_content_ids(content_id: str, src: str, expected: str) -> None:
    """A Content-ID is compared without its brackets, a reference without percent-encoding and entities (RFC 2392)."""
    html = f'Content-Type: text/html\n\n<p style="background: url({src})">'
    (file,) = rebuilt(multipart("related", html, f"Content-Type: image/png\nContent-ID: {content_id}\n\nx")).attachments
    assert expected == file.content_id


@pytest.mark.parametrize(
    ("head", "raw", "expected"),
    [
        ("text/html", b'<meta charset="windows-1251"><p>\xcf\xf0', '<meta charset="utf-8"><p>Пр'),
        ("text/html", b'<meta charset="windows-1251"><p>\xd0\x9f', '<meta charset="utf-8"><p>П'),  # it is UTF-8
        ("text/html", b'<meta charset="utf-8"><p>\xe9', '<meta charset="utf-8"><p>é'),  # it is not
        ("text/html", b'<meta charset="nonsense"><p>\xe9', '<meta charset="utf-8"><p>é'),
        ("text/html; charset=koi8-r", b'<meta charset="windows-1251"><p>\xcf', '<meta charset="utf-8"><p>о'),
        ("text/html", b"<p>\xe9", "<p>é"),
        ("text/html", b"<p>" * 400 + b'<meta charset="windows-1251">\xe9', "<p>" * 400 + '<meta charset="utf-8">é'),  # too late
    ],
)
def test_html_that_names_its_charset_itself(head: str, raw: bytes, expected: str) -> None:
    """Where only the HTML says its charset, it is believed unless it is UTF-8 all the same; what leaves says UTF-8."""
    assert expected == rebuild(mime.parse(f"Content-Type: {head}\r\n\r\n".encode() + raw)).html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (
            '<META http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>',
            '<META http-equiv="Content-Type" content="text/html; charset=utf-8"><p>',
        ),
        ("<meta charset=latin1>", "<meta charset=utf-8>"),
        ("<p>charset=latin1", "<p>charset=latin1"),
        ("<p>" * 2000 + "<meta charset=latin1>", "<p>" * 2000 + "<meta charset=latin1>"),
    ],
)
def test_the_charset_inside_html(html: str, expected: str) -> None:
    """HTML that leaves as UTF-8 says so itself."""
    assert expected == rebuilt(f"Content-Type: text/html\n\n{html}").html


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/csv; charset=ISO-8859-2; header=present", "text/csv; charset=ISO-8859-2"),
        ('text/csv; charset="a b"', "text/csv"),
        ("text/calendar; charset=utf-8; method=CANCEL", "text/calendar; charset=utf-8; method=CANCEL"),
        ("application/pdf; charset=x", "application/pdf"),
        ("Image/X{y}", "application/octet-stream"),
        ("multipart/mixed", "application/octet-stream"),
    ],
)
def test_content_types_of_attachments(content_type: str, expected: str) -> None:
    """The type keeps the parameters that say how to read the content, and nothing that is no token."""
    (file,) = rebuilt(multipart("mixed", TEXT, f"Content-Type: {content_type}\nContent-Disposition: attachment\n\nx")).attachments
    assert expected == file.content_type


# --- recipients ---


def addressed(
    fields: str, recipients: Sequence[str], limit: int = 50, alone: str = "", *, bcc_alone: bool = False
) -> list[list[list[str]]]:
    """The To, Cc and Bcc of each request."""
    block = fields.replace("\n", "\r\n").encode()
    found = address(block, recipients, limit=limit, alone=lambda recipient: recipient == alone, bcc_alone=bcc_alone)
    return [[[box.address for box in boxes] for boxes in (request.to, request.cc, request.bcc)] for request in found]


@pytest.mark.parametrize(
    ("fields", "recipients", "expected"),
    [
        ("To: a@x, b@x\nCc: c@x\n", ["c@x", "b@x", "a@x", "d@x"], [[["a@x", "b@x"], ["c@x"], ["d@x"]]]),
        ("To: a@x, b@x\n", ["b@x"], [[["b@x"], [], []]]),  # one transaction for each recipient
        ("To: other@x\n", ["a@x", "b@x"], [[["a@x"], [], []], [["b@x"], [], []]]),
        ("To: undisclosed-recipients:;\n", ["a@x"], [[["a@x"], [], []]]),
        ("", ["a@x", "b@x"], [[["a@x"], [], []], [["b@x"], [], []]]),
        ("Cc: c@x, d@x\n", ["c@x", "d@x", "h@x"], [[["c@x", "d@x"], [], ["h@x"]]]),
        ("To: a@x\nTo: b@x\nCc: a@x\n", ["a@x", "b@x"], [[["a@x", "b@x"], [], []]]),
        ("To: A@X.EXAMPLE\n", ["a@x.example", "b@y.example"], [[["a@x.example"], [], ["b@y.example"]]]),
        ("To: a@x, A@x\n", ["A@x", "a@x"], [[["a@x", "A@x"], [], []]]),
        ("To: a@MÜLLER.example\n", ["a@xn--mller-kva.example"], [[["a@xn--mller-kva.example"], [], []]]),
        ("To: a@XN--MLLER-KVA.example\n", ["a@xn--mller-kva.example"], [[["a@xn--mller-kva.example"], [], []]]),
        ("To: Team: A <a@x>, b@x;, c@x\n", ["b@x", "c@x", "a@x"], [[["a@x", "b@x", "c@x"], [], []]]),
        ("To: undisclosed-recipients:;\nCc: c@x\n", ["a@x", "c@x"], [[["c@x"], [], ["a@x"]]]),
        ("To: a@x, a@x\nCc: a@x\n", ["a@x"], [[["a@x"], [], []]]),
        ("Bcc: a@x\nTo: b@x\n", ["a@x", "b@x"], [[["b@x"], [], ["a@x"]]]),
    ],
)
def test_address(fields: str, recipients: list[str], expected: list[list[list[str]]]) -> None:
    """Visible are those who are both in the header and recipients; the hidden ones stay hidden."""
    assert expected == addressed(fields, recipients)


def test_over_the_limit() -> None:
    """The first request carries the visible ones, and hidden ones while there is room; everybody else goes alone."""
    assert [[["a@x"], ["b@x"], ["c@x"]], [["d@x"], [], []]] == addressed("To: a@x\nCc: b@x\n", ["a@x", "b@x", "c@x", "d@x"], limit=3)
    assert [[["a@x", "b@x"], [], []], [["c@x"], [], []], [["d@x"], [], []]] == addressed(
        "To: a@x, b@x, c@x\nCc: d@x\n", ["a@x", "b@x", "c@x", "d@x"], limit=2
    )


@pytest.mark.parametrize(
    ("fields", "recipients", "expected"),
    [
        ("", ["a@x", "b@x"], [[[], [], ["a@x", "b@x"]]]),
        ("", ["a@x"], [[["a@x"], [], []]]),
        ("To: a@x\n", ["a@x", "b@x"], [[["a@x"], [], ["b@x"]]]),
        ("To: other@x\n", ["a@x", "b@x", "c@x", "d@x"], [[[], [], ["a@x", "b@x", "c@x"]], [[], [], ["d@x"]]]),
        ("Cc: a@x\n", ["b@x", "c@x", "d@x", "e@x", "a@x"], [[["a@x"], [], ["b@x", "c@x"]], [[], [], ["d@x", "e@x"]]]),
        ("", ["a@x", "odd@x", "b@x"], [[[], [], ["a@x", "b@x"]], [["odd@x"], [], []]]),
        ("To: a@x, b@x, c@x, d@x\n", ["a@x", "b@x", "c@x", "d@x"], [[["a@x", "b@x", "c@x"], [], []], [["d@x"], [], []]]),
    ],
)
def test_where_bcc_suffices(fields: str, recipients: list[str], expected: list[list[list[str]]]) -> None:
    """Those whom no field shows share requests, of three here; who is alone is in To."""
    assert expected == addressed(fields, recipients, 3, "odd@x", bcc_alone=True)


def test_alone() -> None:
    """A recipient whose address may be refused does not share a request."""
    assert [[["a@x"], [], ["c@x"]], [["odd@x"], [], []]] == addressed("To: odd@x, a@x\n", ["odd@x", "a@x", "c@x"], alone="odd@x")


def test_names_are_decoded() -> None:
    """Encoded words in display names, also where a line end is hidden in them; raw UTF-8 too."""
    fields = 'To: =?utf-8?q?J=C3=B6rg=0D=0A?= <a@x>, "Käthe" <b@x>\r\n'.encode()
    assert [Mailbox("Jörg", "a@x"), Mailbox("Käthe", "b@x")] == mailboxes_in(fields, "to")
    assert (Addressed((Mailbox("Jörg", "a@x"),)),) == address(fields, ["a@x"], limit=50, alone=lambda _: False)


ADDRESSES = [f"{local}@{domain}" for local in ("a", "A", "b", "c") for domain in ("x.example", "X.example", "y.example")]


@given(
    st.lists(st.sampled_from(ADDRESSES), max_size=8),
    st.lists(st.sampled_from(ADDRESSES), max_size=8),
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=12, unique=True),
    st.integers(1, 6),
    st.booleans(),
)
def test_each_recipient_exactly_once(to: list[str], cc: list[str], recipients: list[str], limit: int, bcc_alone: bool) -> None:
    """No recipient is lost, doubled, invented or shown to whom the header did not show him; no request is over the limit."""
    block = f"To: {', '.join(to)}\r\nCc: {', '.join(cc)}\r\n".encode()
    found = address(block, recipients, limit=limit, alone=lambda recipient: recipient.startswith("c"), bcc_alone=bcc_alone)
    assert sorted(recipients) == sorted(recipient for request in found for recipient in request.recipients)
    visible = {addresses.key(one) for one in (*to, *cc)}
    for request in found:
        assert 1 <= len(request.recipients) <= limit
        assert request.to or (bcc_alone and not request.cc)
        others = {addresses.key(box.address) for box in (*request.to, *request.cc)}
        assert len(request.recipients) == 1 or others <= visible


def test_many_parts_behind_a_blank_text() -> None:
    """Whether there is something to see is asked once for each text, however many parts follow."""
    blank = "Content-Type: text/plain\n\n" + " " * 2_000_000
    assert 900 == len(rebuilt(multipart("mixed", blank, *[PDF] * 900)).attachments)


@pytest.mark.parametrize(
    "pattern",
    [
        "src",
        "src ",
        "href=",
        "<meta ",
        "<meta charset",
        "cid:",
        "cid:a ",
        "background  ",
        "url(",
        "url( ",
        "-----BEGIN PGP SIGNED MESSAGE----- ",
        "&#",
        "%",
        " ",
    ],
)
def test_hostile_html_takes_no_longer_than_its_length(pattern: str) -> None:
    """Whatever an HTML is made of, looking for pictures and its charset in it goes through it once."""
    rebuilt("Content-Type: text/html\n\n" + pattern * (500_000 // len(pattern)))
