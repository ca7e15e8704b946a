"""The matrix of docs/providers.md: what of a mail each provider carries, by REST and by SMTP, asked of the transports themselves.

`python -m tests.matrix` prints it, `python -m tests.matrix --write` puts it where it belongs. Nothing is sent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay import config
from tests.messages import ANN, BY_NAME
from tests.tables import Became, accepted, became, cell, configured, letter

DOCUMENT = Path(__file__).parent.parent / "docs" / "providers.md"
BEGIN, END = "<!-- matrix: made by python -m tests.matrix --write -->", "<!-- end of matrix -->"
UUID = "6c2b2d1e-0f0c-4a1f-9d7e-3c8a0a1b2c3d"


@dataclass(frozen=True)
class Column:
    """One way to one provider. `instead` is what a message goes by that this way does not carry."""

    title: str
    provider: str
    mode: str
    keys: Mapping[str, object] = field(default_factory=dict)
    instead: str = ""


COLUMNS = (
    Column("SES raw", "ses", "api"),
    Column("SES simple", "ses", "api", {"content_mode": "simple"}, "raw"),
    Column("SES SMTP", "ses", "smtp"),
    Column("Mailtrap API", "mailtrap", "auto", instead="SMTP"),
    Column("Mailtrap SMTP", "mailtrap", "smtp"),
    Column("Postmark API", "postmark", "auto", instead="SMTP"),
    Column("Postmark SMTP", "postmark", "smtp"),
    Column("Paubox API", "paubox", "auto", instead="SMTP"),
    Column("Paubox SMTP", "paubox", "smtp"),
    Column("LowCodeAPI", "lowcodeapi", "api", instead="raw"),
)


@dataclass(frozen=True)
class Row:
    """A thing that a mail can hold or ask for."""

    what: str
    data: bytes
    recipients: Sequence[str] = (ANN,)
    reverse_path: str = "app@example.com"


def _sample(what: str, name: str) -> Row:
    sample = BY_NAME[name]
    return Row(what, sample.data, sample.recipients, sample.reverse_path)


def _asked(what: str, *fields: str) -> Row:
    return Row(what, letter("".join(f"{one}\r\n" for one in fields)))


GROUPS: Mapping[str, Sequence[Row]] = {
    "What a mail holds": (
        _sample("text and HTML", "alternative"),
        _sample("text in another charset than UTF-8", "latin-1"),
        _sample("no body", "empty-body"),
        _sample("lines of 3,000 octets", "long-lines"),
        _sample("a picture shown inside the HTML", "related"),
        _sample("a picture by Content-Location", "content-location"),
        _sample("a Content-ID of 102 characters", "long-content-id"),
        _sample("a second HTML part", "several-html"),
        _sample("AMP", "amp"),
        _sample("a file", "only-file"),
        _sample("a file whose name is not ASCII", "name-2231"),
        _sample("a file without a name", "no-name"),
        _sample("a file of no octets", "empty-file"),
        _sample("a message as a file", "attached-message"),
        _sample("a file of type `.exe`", "blocked-exe"),
        _sample("a file of type `.js`", "blocked-js"),
        _sample("an invitation", "calendar"),
        _sample("S/MIME or PGP, signed", "smime-signed"),
        _sample("S/MIME or PGP, encrypted", "smime-encrypted"),
        _sample("a delivery report", "report"),
    ),
    "Addresses": (
        _sample("more than one From address", "several-from"),
        _sample("a Sender", "sender"),
        _sample("several Reply-To addresses", "reply-to-several"),
        _sample("two recipients whom no field shows", "hidden"),
        _sample("To and Cc show others than the recipient", "one-of-them"),
        _sample("300 recipients", "three-hundred"),
        _sample("a domain beyond ASCII in To", "idn"),
        _sample("the null reverse-path", "null-sender"),
    ),
    "Header fields": (
        _sample("In-Reply-To, References", "thread"),
        _sample("List-Unsubscribe and other List- fields", "list"),
        _sample("20 fields of its own (X-…)", "custom-headers"),
        _sample("fields that stand twice", "duplicate-headers"),
        _sample("Importance, X-Priority", "priority"),
        _sample("an empty Subject", "empty-subject"),
        _sample("8-bit text in a field", "non-ascii-field"),
    ),
    "What a mail asks for": (
        _asked("a tag", "X-Relay-Tag: welcome"),
        _asked("metadata", "X-Relay-Metadata-customer: 4711"),
        _asked("a stream, named in `streams`", "X-PM-Message-Stream: broadcasts"),
        _asked("a configuration set, named in `streams`", "X-SES-Configuration-Set: newsletters"),
        _asked("open tracking on", "X-Relay-Track-Opens: yes"),
        _asked("open tracking off", "X-Relay-Track-Opens: no"),
        _asked("link tracking on", "X-Relay-Track-Links: yes"),
        _asked("link tracking off", "X-Relay-Track-Links: no"),
        _asked("a template", f"X-Relay-Template: {UUID}", 'X-Relay-Template-Model: {"name": "Ann"}'),
        _asked("an identity of another account", "X-SES-Source-ARN: arn:aws:ses:eu-west-1:123456789012:identity/example.com"),
        _asked("a contact list", "X-SES-List-Management-Options: friends; topic=news"),
        _asked("a tenant", "X-SES-Tenant: clinic"),
    ),
}


def mark(column: Column, found: Became) -> str:
    """One cell: whole, with a cosmetic loss, by another way, or not at all; and how many requests where it takes several."""
    if found.refused:
        return "**no**"
    first = found.requests[0]
    number = f", {len(found.requests)}×" if len(found.requests) > 1 else ""
    if first.why:
        return column.instead + number
    return ("less" if found.losses else "yes") + number


def told(column: Column, found: Became) -> Iterator[str]:
    """What is lost, or why it goes another way or not at all."""
    if found.refused:
        yield from found.refused
    elif found.requests[0].why:
        yield found.requests[0].why
    else:
        yield from found.losses


def marks(settings: config.Config, row: Row) -> tuple[list[str], list[str]]:
    """The cells of a row, and every different thing that is told about it."""
    what = accepted(row.data, row.recipients, row.reverse_path)
    cells, notes = [], dict[str, None]()
    for column in COLUMNS:
        found = became(settings, column.provider, column.mode, what, **column.keys)
        cells.append(mark(column, found))
        notes |= dict.fromkeys(told(column, found))
    return cells, list(notes)


def matrix(directory: Path) -> str:
    """The whole of it: a table for each group, and below it what the marks stand for."""
    settings = configured(directory)
    lines: list[str] = []
    for title, rows in GROUPS.items():
        lines += [f"### {title}", "", f"| | {' | '.join(column.title for column in COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        notes = []
        for row in rows:
            cells, found = marks(settings, row)
            lines.append(f"| {row.what} | {' | '.join(cells)} |")
            notes += [f"| {row.what} | {cell(found, code=False)} |"] if found else []
        lines += ["", "| where it is not `yes` | what is lost, or why |", "|---|---|", *notes, ""]
    return "\n".join(lines).strip()


def placed(text: str, made: str) -> str:
    """The document with the matrix. Raises ValueError where a marker is missing."""
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{DOCUMENT} lacks a marker: {BEGIN if not found else END}")
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}"


def main() -> int:
    """Print the matrix, or write it into the document."""
    parser = argparse.ArgumentParser(prog="tests.matrix", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        made = matrix(Path(directory))
    if options.write:
        DOCUMENT.write_text(placed(DOCUMENT.read_text(), made))
    else:
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
