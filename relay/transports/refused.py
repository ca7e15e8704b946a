"""What Amazon SES and Postmark refuse whichever way it comes: types of file, forms of address, lengths.

By SMTP Postmark takes everything and drops it with an event, so this is looked at before anything is sent. No provider's server
offers SMTPUTF8, so none has a form for a local part beyond ASCII. Pure; nothing here raises.
Amazon SES developer guide 2026-11 ("Unsupported attachment types"); Postmark docs 2026-11 (developer/api/email-api, support
articles 1056 on attachments and 1180 on addresses, "Send email with SMTP" on SMTPApiError).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping

from relay import address, header, mailboxes, mime

# In lines, so that they can be compared with the providers' own lists.
_SES = (
    "ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad maf mag mam "
    "maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst ops pcd pif plg prf prg "
    "reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros vss vst vsw vxd ws wsc wsf wsh xnk"
)
_POSTMARK = "vbs exe bin bat chm com cpl crt hlp hta inf ins isp jse lnk mdb pcd pif reg scr sct shs vbe vba wsf wsh wsl msc msi msp mst"
BLOCKED: Mapping[str, frozenset[str]] = {"ses": frozenset(_SES.split()), "postmark": frozenset(_POSTMARK.split())}
"""Endings of file names, by dialect."""
WHO: Mapping[str, str] = {"ses": "Amazon SES", "postmark": "Postmark", "mailtrap": "Mailtrap", "paubox": "Paubox"}
"""The providers' names, by dialect."""

POSTMARK_BODY = 5 * 1024 * 1024  # octets of the text, and of the HTML
POSTMARK_FROM = 255  # UTF-16 code units, as in the Subject
POSTMARK_SUBJECT = 2000
# No quoted local part, no address literal.
POSTMARK_MAILBOX = re.compile(r"[a-z0-9.!#$%&'`*+\-/=^_{|}~]+@(?:\.?[a-z0-9-])+", re.I)


def blocked(dialect: str, names: Iterable[str]) -> tuple[str, ...]:
    """A reason for each file name that the provider blocks."""
    endings = ((name, name.rstrip(". ").rpartition(".")[2].lower()) for name in dict.fromkeys(names) if "." in name)
    known = BLOCKED.get(dialect, frozenset())
    return tuple(f"{WHO[dialect]} takes no attachment of type .{ending} ({name})" for name, ending in endings if ending in known)


def refusal(dialect: str) -> str:
    """Why the provider gets no recipient whom it does not take."""
    return f"{WHO.get(dialect, 'the server')} takes no recipient address of this form"


def takes(dialect: str, mailbox: str) -> bool:
    """Whether the provider has a form for the address: none has one for a local part that is not ASCII. Of another server only it
    knows."""
    local, domain = address.split(mailbox)
    try:
        sendable = f"{local}@{address.domain_ascii(domain)}"
    except address.AddressError:
        return dialect not in WHO
    if dialect == "postmark":
        return POSTMARK_MAILBOX.fullmatch(sendable) is not None
    return local.isascii() or dialect not in WHO


def by_header(dialect: str, block: bytes) -> tuple[str, ...]:
    """The reasons that a header block gives, as it leaves."""
    return {"ses": _by_ses, "postmark": _by_postmark}.get(dialect, _by_nobody)(block)


def _by_nobody(block: bytes) -> tuple[str, ...]:
    return ()


def _by_ses(block: bytes) -> tuple[str, ...]:
    """It reads the address fields, and has no SMTPUTF8."""
    found = [] if _addresses(block, "from") else ["there is no From address"]
    for name in ("from", "sender"):
        if not all(map(address.valid, _addresses(block, name))):
            found.append(f"the {name.title()} address is not one that Amazon SES takes")
    for name in ("to", "cc", "reply-to"):
        if not all(map(str.isascii, _addresses(block, name))):
            found.append(f"the {name.title()} field has an address that is not ASCII")
    return tuple(found)


def _addresses(block: bytes, name: str) -> list[str]:
    return [box.address for value in header.values(block, name) for box in mailboxes.parse(value.decode("utf-8", "replace"))]


def _by_postmark(block: bytes) -> tuple[str, ...]:
    authors = _addresses(block, "from")
    found = []
    if len(authors) != 1:
        found.append("there is no From address" if not authors else "there is more than one From address, and Postmark keeps one")
    elif not takes("postmark", authors[0]):
        found.append("the From address is not one that Postmark takes")
    for name, limit in (("From", POSTMARK_FROM), ("Subject", POSTMARK_SUBJECT)):
        units = len(header.text(header.first(block, name.lower())).encode("utf-16-le", "replace")) // 2
        if units > limit:
            found.append(f"the {name} field has {units} characters; Postmark takes {limit}")
    return tuple(found)


def by_lines(dialect: str, block: bytes) -> tuple[str, ...]:
    """The reason that a folded header block gives where a line of it is too long still: Amazon SES has a limit there."""
    longest = max(map(len, block.split(b"\r\n")))
    if dialect != "ses" or longest <= header.MAX_LINE:
        return ()
    return (f"a header line of {longest:,} octets cannot be folded; Amazon SES takes {header.MAX_LINE}",)


def by_content(dialect: str, message: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The reasons that a message's parts give, and those that are about size; none in a message beyond what we take apart."""
    with contextlib.suppress(mime.MimeError):
        parts = list(mime.parse(message).walk())
        large = _large(parts) if dialect == "postmark" else ()
        return blocked(dialect, (part.filename for part in parts)), large
    return (), ()


def _large(parts: Iterable[mime.Part]) -> tuple[str, ...]:
    """The bodies over Postmark's limit."""
    texts = (part for part in parts if part.content_type in ("text/plain", "text/html") and not part.filename)
    sizes = ((part.content_type, len(part.decoded())) for part in texts if part.end - part.body > POSTMARK_BODY)
    return tuple(f"the {kind} body has {size:,} octets; Postmark takes {POSTMARK_BODY:,}" for kind, size in sizes if size > POSTMARK_BODY)
