"""Messages of ours, one for each thing that mail can be: `ALL`, by name in `BY_NAME`.

Those whose octets are easier to see in a program are built here, the others lie in tests/data/messages as they would be stored.
`ours()` reads both. Each is a whole message with CRLF line ends, and the envelope it comes with.
"""

from __future__ import annotations

import base64
import binascii
import quopri
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILES = Path(__file__).parent / "data" / "messages"
APP, ANN, BOB, CAT = "app@example.com", "ann@example.net", "bob@example.net", "cat@example.org"

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
BINARY = bytes(range(256)) * 12 + b"\r\n.\r\n--b1\r\n\n\r\0end"
ICS = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:7@example.com\nDTSTART:20261201T090000Z\n"
    "SUMMARY:Visite médicale\nEND:VEVENT\nEND:VCALENDAR\n"
)


@dataclass(frozen=True)
class Sample:
    """A message with its envelope; `note` says what is special about it."""

    name: str
    note: str
    data: bytes = field(repr=False)
    recipients: tuple[str, ...] = (ANN,)
    reverse_path: str = APP


def crlf(content: str | bytes, charset: str = "utf-8") -> bytes:
    """Octets with CRLF for each LF; text in `charset`."""
    octets = content.encode(charset) if isinstance(content, str) else content
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def entity(fields: str, content: str | bytes, charset: str = "utf-8") -> bytes:
    """A part: its MIME fields, an empty line, its content. Text gets CRLF, octets stay as they are."""
    head = crlf(fields) + b"\r\n" if fields else b""
    return head + b"\r\n" + (crlf(content, charset) if isinstance(content, str) else content)


def base64_part(fields: str, content: bytes, width: int = 76) -> bytes:
    """A part in base64, in lines of `width`."""
    whole = base64.b64encode(content)
    lines = b"".join(whole[at : at + width] + b"\r\n" for at in range(0, len(whole), width))
    return entity(f"{fields}\nContent-Transfer-Encoding: base64", lines)


def multipart(kind: str, *parts: bytes, boundary: str = "b1") -> bytes:
    """A multipart of these parts; `kind` may be followed by parameters."""
    inside = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    return entity(f'Content-Type: multipart/{kind}; boundary="{boundary}"', inside + b"--%b--\r\n" % boundary.encode())


def mail(name: str, fields: str, content: bytes, *, without: Sequence[str] = ()) -> bytes:
    """A message: what every app sets, `fields` over it, and the MIME fields with the content."""
    usual = {
        "From": f"From: Example App <{APP}>",
        "To": f"To: Ann Example <{ANN}>",
        "Subject": f"Subject: Sample {name}",
        "Date": "Date: Fri, 20 Nov 2026 10:00:00 +0000",
        "Message-ID": f"Message-ID: <{name}@example.com>",
        "MIME-Version": "MIME-Version: 1.0",
    }
    given = {line.partition(":")[0] for line in fields.split("\n") if line[:1].strip()}
    kept = [line for field_name, line in usual.items() if field_name not in given and field_name not in without]
    return crlf("".join(f"{line}\n" for line in (*kept, *([fields] if fields else ())))) + content


TEXT = entity("Content-Type: text/plain; charset=utf-8", "Hello Ann,\n.a dot begins this line\nGrüße €\n")
HTML = entity("Content-Type: text/html; charset=utf-8", "<p>Hello <b>Ann</b>, Grüße €</p>\n")
ASCII = entity("Content-Type: text/plain; charset=us-ascii", "Hello Ann,\nthe invoice is attached.\n")
CID_HTML = entity("Content-Type: text/html; charset=utf-8", '<p>Hello <img src="cid:logo%40example.com" alt="logo"></p>\n')
LOGO = base64_part(
    'Content-Type: image/png; name="logo.png"\nContent-ID: <logo@example.com>\nContent-Disposition: inline; filename="logo.png"', PNG
)
INVOICE = base64_part('Content-Type: application/pdf; name="invoice.pdf"\nContent-Disposition: attachment; filename="invoice.pdf"', PDF)


def attached(fields: str, content: bytes = PDF) -> bytes:
    """A text with one file in base64 below these fields."""
    return multipart("mixed", ASCII, base64_part(fields, content))


def in_charset(label: str, text: str, charset: str) -> bytes:
    """A plain text labelled `label` and encoded in `charset`, in base64 where its octets are no lines of text."""
    octets = crlf(text).decode().encode(charset)
    return base64_part(f"Content-Type: text/plain; charset={label}", octets)


def _charsets() -> list[Sample]:
    german, russian, japanese, chinese = (
        "Grüße aus Köln, 5 € · “quoted”\n",
        "Счёт готов\n",
        "請求書①を添付します\n",
        "发票已附上，金额为𠮷元\n",
    )
    raw = "Content-Transfer-Encoding: 8bit"
    texts = {
        "utf-8": ("UTF-8 as 8bit", TEXT),
        "latin-1": ("Latin-1 in quoted-printable", _quoted("iso-8859-1", "Grüße aus Köln\n", "iso-8859-1")),
        "windows-1252": ("windows-1252 that calls itself iso-8859-1", _quoted("iso-8859-1", german, "cp1252")),
        "koi8-r": ("KOI8-R", in_charset("koi8-r", russian, "koi8-r")),
        "shift-jis": ("Shift-JIS with a character of cp932", in_charset("Shift_JIS", japanese, "cp932")),
        "iso-2022-jp": ("ISO-2022-JP as 7bit", entity("Content-Type: text/plain; charset=iso-2022-jp", "請求書\n", "iso-2022-jp")),
        "gb18030": ("GB18030 with a character beyond the BMP", in_charset("gb18030", chinese, "gb18030")),
        "gb2312": ("GBK that calls itself gb2312", in_charset("gb2312", "發票已附上\n", "gb18030")),
        "utf-7": ("UTF-7", entity("Content-Type: text/plain; charset=utf-7", "Grüße <b>€</b>\n", "utf-7")),
        "wrong-charset": ("UTF-8 that calls itself us-ascii", entity(f"Content-Type: text/plain; charset=us-ascii\n{raw}", german)),
        "unknown-charset": ("a charset that nobody knows", entity(f"Content-Type: text/plain; charset=x-unknown\n{raw}", german)),
        "broken-charset": ("octets that its charset does not have", entity("Content-Type: text/plain; charset=utf-8", b"Gr\xfc\xdfe\r\n")),
        "no-charset": ("8-bit text without a word about its charset", entity("", b"Gr\xfc\xdfe aus K\xf6ln\r\n")),
        "html-charset": (
            "HTML in Latin-1 that says so itself",
            _quoted("iso-8859-1", '<html><head><meta charset="iso-8859-1"></head><body>Grüße</body></html>\n', "iso-8859-1", "html"),
        ),
    }
    return [Sample(name, note, mail(name, "", content)) for name, (note, content) in texts.items()]


def _quoted(label: str, text: str, charset: str, kind: str = "plain") -> bytes:
    content = crlf(quopri.encodestring(text.encode(charset)))
    return entity(f"Content-Type: text/{kind}; charset={label}\nContent-Transfer-Encoding: quoted-printable", content)


def _structures() -> list[Sample]:
    inline = 'Content-Type: image/png; name="{0}.png"\nContent-Disposition: inline; filename="{0}.png"'
    further = entity("Content-Type: text/html; charset=utf-8", "<p>a second one</p>\n")
    nested = multipart("alternative", TEXT, multipart("related", CID_HTML, LOGO, boundary="b3"), boundary="b2")
    long_id = "x" * 90 + "@example.com"
    found = {
        "plain": ("one text, no MIME", entity("", "Hello Ann,\n\nthe invoice is attached.\n-- \nThe app\n")),
        "html": ("HTML alone", HTML),
        "alternative": ("text and HTML", multipart("alternative", TEXT, HTML)),
        "related": ("HTML with a picture", multipart('related; type="text/html"', CID_HTML, LOGO)),
        "nested": ("a picture in related in alternative in mixed, and a file", multipart("mixed", nested, INVOICE)),
        "long-content-id": (
            "a Content-ID of more than 78 characters",
            multipart(
                "related",
                entity("Content-Type: text/html", f'<img src="cid:{long_id}">\n'),
                base64_part(f"Content-Type: image/png; name=a.png\nContent-ID: <{long_id}>", PNG),
            ),
        ),
        "content-location": (
            "a picture that the HTML refers to by Content-Location",
            multipart(
                "related",
                entity("Content-Type: text/html", '<img src="images/a.png">\n'),
                base64_part("Content-Type: image/png; name=a.png\nContent-Location: images/a.png", PNG),
            ),
        ),
        "several-html": ("two HTML parts", multipart("mixed", HTML, INVOICE, further)),
        "apple-inline": (
            "pictures between texts, inline and without Content-ID, as Apple Mail writes them",
            multipart("mixed", TEXT, base64_part(inline.format("one"), PNG), ASCII, base64_part(inline.format("two"), PNG)),
        ),
        "amp": ("an AMP form", multipart("alternative", TEXT, entity("Content-Type: text/x-amp-html", "<html ⚡4email></html>\n"), HTML)),
        "attached-message": (
            "a message in a message, with 8-bit octets",
            multipart(
                "mixed",
                TEXT,
                entity("Content-Type: message/rfc822", mail("inner", "", multipart("alternative", TEXT, HTML, boundary="b2"))),
            ),
        ),
        "flowed": (
            "format=flowed with delsp",
            entity(
                "Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes",
                "Diese Zeile geht wei \nter.\n> zitiert \n> weiter\n-- \nApp\n",
            ),
        ),
        "empty-body": ("no body at all", entity("Content-Type: text/plain; charset=us-ascii", "")),
        "only-file": ("a file and no text", INVOICE),
        "long-lines": ("lines of 3,000 octets", entity("Content-Type: text/html; charset=utf-8", f"<p>{'langes Wort ü ' * 200}</p>\n")),
    }
    return [Sample(name, note, mail(name, "", content)) for name, (note, content) in found.items()]


def _hard() -> list[Sample]:
    signed = entity("Content-Type: text/plain; charset=us-ascii", "I owe you 10 euros.\n")
    armor = "-----BEGIN PGP {0}-----\n\nbm90IGEgc2lnbmF0dXJl\n-----END PGP {0}-----\n"
    calendar = entity('Content-Type: text/calendar; method=REQUEST; charset="utf-8"', ICS)
    report = (
        "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; gone@example.net\nAction: failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\n"
    )
    found = {
        "smime-signed": (
            "S/MIME, signed",
            multipart(
                'signed; protocol="application/pkcs7-signature"; micalg=sha-256',
                signed,
                base64_part(
                    "Content-Type: application/pkcs7-signature; name=smime.p7s\nContent-Disposition: attachment; filename=smime.p7s", BINARY
                ),
            ),
        ),
        "pgp-signed": (
            "PGP, signed",
            multipart(
                'signed; protocol="application/pgp-signature"; micalg=pgp-sha256',
                signed,
                entity("Content-Type: application/pgp-signature; name=signature.asc", armor.format("SIGNATURE")),
            ),
        ),
        "pgp-encrypted": (
            "PGP, encrypted",
            multipart(
                'encrypted; protocol="application/pgp-encrypted"',
                entity("Content-Type: application/pgp-encrypted", "Version: 1\n"),
                entity("Content-Type: application/octet-stream; name=encrypted.asc", armor.format("MESSAGE")),
            ),
        ),
        "smime-encrypted": (
            "S/MIME, encrypted",
            base64_part(
                "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n"
                "Content-Disposition: attachment; filename=smime.p7m",
                BINARY,
            ),
        ),
        "calendar": ("an invitation that can be answered", multipart("alternative", TEXT, HTML, calendar)),
        "report": (
            "a delivery report",
            multipart(
                "report; report-type=delivery-status",
                ASCII,
                entity("Content-Type: message/delivery-status", report),
                entity("Content-Type: text/rfc822-headers", "From: app@example.com\nSubject: gone\n"),
            ),
        ),
    }
    samples = [Sample(name, note, mail(name, "", content)) for name, (note, content) in found.items() if name != "report"]
    reported = mail("report", "From: MAILER-DAEMON@example.com\nAuto-Submitted: auto-replied", found["report"][1])
    two = "From: Ann <ann@example.com>, Bob <bob@example.com>\nSender: Office <office@example.com>"
    return [
        *samples,
        Sample("report", found["report"][0], reported, reverse_path=""),
        Sample("several-from", "two authors and a Sender", mail("several-from", two, TEXT)),
    ]


def _addresses() -> list[Sample]:
    many = tuple(f"user{number:03}@example.net" for number in range(300))
    listed = ",\n ".join(many)
    odd = (
        'From: "Example, App (\\"the\\" one)" <app@example.com>\n'
        f'To: =?utf-8?q?J=C3=B6rg?= =?utf-8?q?_M=C3=BCller?= <{ANN}>, "Doe, J. \\\\ \\"Bob\\"" <{BOB}>\n'
        f"Cc: =?utf-8?b?8J+YgCBDYXQ=?= <{CAT}>"
    )
    return [
        Sample("sender", "a Sender beside the author", mail("sender", f"Sender: Office <office@example.com>\nFrom: Ann <{APP}>", TEXT)),
        Sample("group", "a group of nobody in To", mail("group", "To: undisclosed-recipients:;", TEXT), (ANN, BOB)),
        Sample("team", "a group of two in To", mail("team", f"To: Team: Ann <{ANN}>, {BOB};", TEXT), (ANN, BOB)),
        Sample("cc-only", "nobody in To", mail("cc-only", f"Cc: {ANN}, Bob <{BOB}>", TEXT, without=["To"]), (ANN, BOB)),
        Sample("hidden", "neither To nor Cc", mail("hidden", f"Bcc: {CAT}", TEXT, without=["To"]), (ANN, BOB)),
        Sample("one-shown", "three recipients, of whom the header shows one", mail("one-shown", "", TEXT), (ANN, BOB, CAT)),
        Sample(
            "one-of-them",
            "one recipient of the three that the header shows",
            mail("one-of-them", f"To: {ANN}, {BOB}\nCc: {CAT}", TEXT),
            (BOB,),
        ),
        Sample("three-hundred", "300 recipients, all shown", mail("three-hundred", f"To: {listed}", TEXT), many),
        Sample(
            "reply-to-several",
            "two addresses for answers",
            mail("reply-to-several", "Reply-To: Help <help@example.com>,\n Sales <sales@example.com>", TEXT),
        ),
        Sample("reply-to", "one address for answers", mail("reply-to", 'Reply-To: "Help, Desk" <help@example.com>', TEXT)),
        Sample(
            "idn",
            "domains that are not ASCII, by either form",
            mail("idn", "To: Ann <ann@müller.example>, bob@XN--MLLER-KVA.example", TEXT),
            ("ann@xn--mller-kva.example", "bob@xn--mller-kva.example"),
        ),
        Sample("odd-names", "quotes, a comma, an emoji and encoded words in names", mail("odd-names", odd, TEXT), (ANN, BOB, CAT)),
        Sample(
            "null-sender",
            "the null reverse-path on a plain text",
            mail("null-sender", "Auto-Submitted: auto-replied", TEXT),
            reverse_path="",
        ),
    ]


def _fields() -> list[Sample]:
    custom = "\n".join(f"X-Custom-{number:02}: value {number}" for number in range(20))
    subject = "=?utf-8?b?{0}?="
    long_subject = "\n ".join(subject.format(base64.b64encode(f"Teil {number} – äöü ".encode()).decode()) for number in range(12))
    lists = (
        "List-Id: News <news.example.com>\nList-Unsubscribe: <https://example.com/u?id=1>, <mailto:u@example.com>\n"
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\nList-Archive: <https://example.com/a>\nPrecedence: bulk"
    )
    thread = "In-Reply-To: <first@example.com>\nReferences: <zero@example.com>\n <first@example.com>"
    found = {
        "custom-headers": ("20 fields of its own", custom),
        "duplicate-headers": (
            "fields that stand twice",
            "X-Note: one\nX-Note: two\nComments: first\nComments: second\nKeywords: a\nKeywords: b",
        ),
        "long-subject": ("a Subject of twelve encoded words", f"Subject: {long_subject}"),
        "empty-subject": ("an empty Subject", "Subject: "),
        "thread": ("an answer in a thread", thread),
        "list": ("the fields of a mailing list", lists),
        "priority": ("the fields that ask for attention", "Importance: high\nX-Priority: 1 (Highest)\nX-MSMail-Priority: High"),
        "non-ascii-field": ("fields with 8-bit and encoded text", "X-Ort: Köln\nX-Name: =?utf-8?q?J=C3=B6rg?="),
        "trace": (
            "trace and signature fields",
            "Received: from a.example by b.example; Fri, 20 Nov 2026 09:00:00 +0000\nReturn-Path: <x@example.com>\n"
            "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from; bh=AA==; b=AA==\n"
            "Authentication-Results: b.example; none\nDelivered-To: x@example.com",
        ),
        "ses-controls": (
            "what an app asks of Amazon SES",
            "X-SES-CONFIGURATION-SET: news\nX-SES-MESSAGE-TAGS: category=welcome, customer=42\n"
            "X-SES-LIST-MANAGEMENT-OPTIONS: friends; topic=news\nList-Unsubscribe: <https://example.com/u?id=1>",
        ),
        "postmark-controls": (
            "what an app asks of Postmark",
            "X-PM-Tag: welcome\nX-PM-Metadata-Customer: 42\nX-PM-Message-Stream: broadcasts\n"
            "X-PM-TrackOpens: true\nX-PM-TrackLinks: HtmlOnly\nX-PM-KeepID: true",
        ),
        "mailtrap-controls": (
            "what an app asks of Mailtrap",
            'X-MT-Category: welcome\nX-MT-Custom-Variables: {"customer": "42", "plan": "größer"}',
        ),
        "relay-controls": (
            "what an app asks in our own words",
            "X-Relay-Tag: welcome\nX-Relay-Metadata-Customer: 42\nX-Relay-Stream: outbound\n"
            "X-Relay-Track-Opens: no\nX-Relay-Track-Links: None",
        ),
        "template-controls": (
            "a template with its variables",
            'X-Relay-Template: order-shipped\nX-Relay-Template-Model: {"order": {"id": 7, "items": ["A", "Ü"]}, "total": 9.5}',
        ),
    }
    none = Sample("no-subject", "no Subject, Date or Message-ID", mail("no-subject", "", TEXT, without=["Subject", "Date", "Message-ID"]))
    return [*(Sample(name, note, mail(name, fields, multipart("alternative", TEXT, HTML))) for name, (note, fields) in found.items()), none]


def _files() -> list[Sample]:
    disposition = "Content-Type: application/octet-stream\nContent-Disposition: attachment; "
    uu = b"".join(binascii.b2a_uu(BINARY[at : at + 45]).rstrip(b"\n") + b"\r\n" for at in range(0, len(BINARY), 45))
    encoded = base64.b64encode(BINARY)
    dirty = b"\r\n".join(encoded[at : at + 61] + b" \t" for at in range(0, len(encoded), 61)).replace(b"AB", b"A!B", 1)
    qp = b"".join(b"=%02X" % octet + (b"=\r\n" if at % 20 == 19 else b"") for at, octet in enumerate(BINARY))
    octets = 'Content-Type: application/octet-stream; name="data.bin.dat"\nContent-Transfer-Encoding: '
    found = {
        "name-2231": (
            "a name by RFC 2231",
            attached(f"{disposition}filename*0*=UTF-8''%e2%82%ac%20;\n filename*1*=rates%20%C3%BC.; filename*2=\"pdf\""),
        ),
        "name-2047": ("a name in encoded words", attached(f'{disposition}filename="=?utf-8?b?w7xiZXI=?=\n =?utf-8?q?_uns.pdf?="')),
        "name-raw": ("a name in raw UTF-8, with a path", attached(f'{disposition}filename="C:\\\\temp\\\\Übersicht.pdf"')),
        "name-bidi": ("a name that hides its ending", attached(f"{disposition}filename*=UTF-8''invoice%E2%80%AEfdp.txt")),
        "no-name": ("a file without a name", attached("Content-Type: application/pdf\nContent-Disposition: attachment")),
        "blocked-exe": ("a program", attached(f"{disposition}filename=setup.exe", b"MZ\x90\x00")),
        "blocked-js": (
            "a script",
            attached("Content-Type: text/javascript; name=run.js\nContent-Disposition: attachment; filename=run.js", b"alert(1)\n"),
        ),
        "calendar-file": (
            "a calendar entry that is only a file",
            multipart(
                "mixed",
                ASCII,
                entity(
                    "Content-Type: text/calendar; charset=utf-8; name=visit.ics\nContent-Disposition: attachment; filename=visit.ics", ICS
                ),
            ),
        ),
        "csv": (
            "a table in Latin-1",
            multipart(
                "mixed",
                ASCII,
                entity("Content-Type: text/csv; charset=iso-8859-1; header=present; name=t.csv", b"Ort;Gr\xf6\xdfe\r\nK\xf6ln;1\r\n"),
            ),
        ),
        "odd-base64": (
            "base64 in lines of 61",
            multipart("mixed", ASCII, base64_part('Content-Type: application/zip; name="a.zip"', BINARY, 61)),
        ),
        "dirty-base64": ("base64 with white space and other characters in it", multipart("mixed", ASCII, entity(octets + "base64", dirty))),
        "cut-base64": ("base64 that ends too early", multipart("mixed", ASCII, entity(octets + "base64", encoded[:-3] + b"\r\n"))),
        "quoted-file": ("a binary file in quoted-printable", multipart("mixed", ASCII, entity(octets + "quoted-printable", qp))),
        "uuencode": (
            "a uuencoded file",
            multipart("mixed", ASCII, entity(octets + "x-uuencode", b"begin 644 data\r\n" + uu + b"`\r\nend\r\n")),
        ),
        "empty-file": (
            "a file of no octets",
            attached("Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=empty.dat", b""),
        ),
    }
    return [Sample(name, note, mail(name, "", content)) for name, (note, content) in found.items()]


ALL: tuple[Sample, ...] = (*_charsets(), *_structures(), *_hard(), *_addresses(), *_fields(), *_files())
BY_NAME = {sample.name: sample for sample in ALL}
HARD = frozenset(sample.name for sample in _hard()) | {"amp", "content-location"}
"""What no JSON API can carry without changing what it means."""


def ours() -> list[Sample]:
    """All samples, and the messages in tests/data/messages."""
    return [*ALL, *(Sample(path.stem, "a file", path.read_bytes()) for path in sorted(FILES.glob("*.eml")))]
