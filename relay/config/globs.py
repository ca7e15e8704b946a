"""Patterns of texts and of mail addresses, and how each is read: `*`, `?`, `[…]`.

A pattern that no address without quotation marks fits is a mistake: a route would take nothing by it, and a staging guard let nobody
through. Reading one fails with `values.mistake(text, mend)`.
"""

from __future__ import annotations

import re
from typing import Any

from relay import address
from relay.config import values

_SET = re.compile(r"\[!?\]?[^\]]*\]")
_SEVERAL = re.compile(r"[\s,;]+")


def glob(value: Any) -> str:
    """A pattern: `*`, `?`, `[…]`."""
    written = values.text(value)
    if "[" in written and "]" not in written[written.index("[") + 2 :]:
        raise values.mistake(f'"{written}" has a [ that is not closed', "a plain [ is written [[]")
    return written


def address_glob(value: Any) -> str:
    """A pattern for a mail address; `<>` is the null reverse-path."""
    if value == "":
        raise values.mistake("is empty", 'the null reverse-path is written "<>"')
    written = glob(value)
    if written == "<>" or written.lower() == "postmaster":
        return written
    if mend := _mend(written):
        raise values.mistake(f'"{written}" never matches an address', mend)
    return _with_a_labels(written)


def _with_a_labels(written: str) -> str:
    """Domains are compared with A-labels (`xn--…`), as they are stored."""
    local, at, domain = written.rpartition("@")
    if not at or domain.isascii():
        return written
    labels = domain.split(".")
    try:
        return f"{local}@{'.'.join(label if label.isascii() else address.domain_ascii(label) for label in labels)}"
    except address.AddressError:
        raise values.mistake(f'"{written}" never matches an address: its domain is no name', "write the label whole, or as xn--…") from None


def mailbox_glob(value: Any) -> str:
    """A pattern for an address that there is: a recipient, or who is in From."""
    if value == "<>":
        raise values.mistake("the null reverse-path is no mailbox", 'it stands in from: "<>"')
    return address_glob(value)


def sender_glob(value: Any) -> str:
    """A pattern for the sender that is rewritten, who may have been given without a domain. The null reverse-path never is."""
    if value == "<>":
        raise values.mistake("the null reverse-path is never rewritten", "remove it: nobody is to answer such mail")
    return address_glob(value)


def _mend(written: str) -> str:
    """What to write in place of a pattern that fits no address; "" for one that may fit some."""
    plain = _SET.sub("x", written)
    if '"' in plain:  # a quoted local part may hold anything
        return ""
    if re.search(r"[<>]", plain):
        return "write the address alone"
    parts = [part for part in _SEVERAL.split(written) if part] if _SEVERAL.search(plain) else []
    if len(parts) > 1 and all("@" in part for part in parts):
        return f"write a list: [{', '.join(_quoted(part) for part in parts)}]"
    if parts:
        return f"did you mean {_quoted(parts[0])}?" if len(parts) == 1 else "write the address alone"
    if "\\" in plain or plain.startswith(".") or plain.endswith("$"):
        return f"this is a glob, no regular expression: did you mean {_quoted(_of_expression(written))}?"
    if plain.startswith("@"):
        return f'did you mean "*{written}"?'
    if "@" in plain or plain != written or re.search(r"[*?]", plain):
        return ""
    if written.lower() == "mailer-daemon":
        return 'the null reverse-path is written "<>"'
    return f'did you mean "*@{written}"?' if "." in written else f'did you mean "{written}@*"?'


def _of_expression(written: str) -> str:
    """A regular expression as a glob, as far as that goes."""
    found = re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)\.[*+]", "*", written.removeprefix("^").removesuffix("$")))
    return f"*{found}" if found.startswith((".", "@")) else found


def _quoted(glob: str) -> str:
    return f'"{glob}"'
