"""Addresses and texts as Amazon SES takes them: local parts in ASCII, domains as A-labels, the rest in encoded words. Pure.

Amazon SES API v2 reference 2026-11, Destination and MessageHeader; RFC 2047.
"""

from __future__ import annotations

import binascii
import re

from relay import address, mailboxes
from relay.mailboxes import Mailbox

MAILBOX = re.compile(r"[a-z0-9.!#$%&'*+\-/=?^_`{|}~]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.I)
"""What surely is an address to SES. A recipient of another form has a request of his own, because a refusal concerns the whole."""
_PRINTABLE = re.compile(r"[ -~]*")
_WORD = 45  # octets; in base64 an encoded word of 72 characters, of the 75 that are allowed


def sendable(recipient: str) -> str:
    """The address with its domain as A-labels, or "" where SES has no form for it."""
    local, domain = address.split(recipient)
    try:
        return f"{local}@{address.domain_ascii(domain)}" if local.isascii() else ""
    except address.AddressError:
        return ""


def takes(recipient: str) -> bool:
    """Whether SES has a form for the address."""
    return bool(sendable(recipient))


def written(box: Mailbox) -> str:
    """A mailbox whose address is one that SES takes; a name that is not ASCII, or would be read as encoded, in encoded words."""
    if _PRINTABLE.fullmatch(box.name) and "=?" not in box.name:
        return mailboxes.write(box.name, box.address)
    return f"{encoded(box.name)} <{box.address}>"


def encoded(text: str) -> str:
    """A text as encoded words, which part between characters (RFC 2047 §5)."""
    words, word = [], b""
    for char in text:
        octets = char.encode("utf-8", "replace")
        if len(word) + len(octets) > _WORD:
            words.append(word)
            word = b""
        word += octets
    return " ".join(f"=?utf-8?B?{binascii.b2a_base64(one, newline=False).decode()}?=" for one in (*words, word))
