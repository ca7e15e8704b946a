"""Addresses: a strict grammar over bytes, and how two addresses compare.

This is the only place that takes an address apart, so that the address a rule was applied to, the one that is stored
and the one that goes on the wire cannot differ. The grammar is RFC 5321 §4.1.2 (Mailbox, quoted local parts and address
literals included) with its length limits (§4.5.3.1). Refused although some servers take them: source routes, comments,
encoded words (`=?…?=`), control characters, non-ASCII local parts. Taken although the grammar does not have them:
underscores in domain labels (host names have them), and a path without its angle brackets (old mailers).
A domain in UTF-8 (RFC 6531) becomes its A-labels at once (UTS 46, RFC 5891): what is returned is always ASCII.

Fails with AddressError only, whose text is fit for a reply. Pure.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

_MAX_LOCAL = 64  # octets, RFC 5321 §4.5.3.1.1
_MAX_DOMAIN = 255  # octets, RFC 5321 §4.5.3.1.2
_MAX_ADDRESS = 254  # octets: a path of 256 (RFC 5321 §4.5.3.1.3) without its angle brackets

# Octets above 127 pass here and are judged afterwards, so that they can be told from plain mistakes.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+"
_QUOTED = r'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"'
_LABEL = r"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_\x80-\xff-]*[A-Za-z0-9_\x80-\xff])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_MAILBOX = rf"(?P<local>{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@(?P<domain>{_DOMAIN}|\[[0-9A-Za-z:.]+\])"

_PATH = re.compile(rf" *(<)?{_MAILBOX}(?(1)>)(?= |\Z)".encode())
_NULL = re.compile(rb" *<>(?= |\Z)")
_POSTMASTER = re.compile(rb" *(?:<postmaster>|postmaster)(?= |\Z)", re.IGNORECASE)
_WHOLE = re.compile(_MAILBOX.encode())
_WHOLE_DOMAIN = re.compile(_DOMAIN)
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_ENCODED_WORD = re.compile(rb"=\?.*\?=", re.DOTALL)
_SOURCE_ROUTE = re.compile(rb" *<@[^>]*:")
_PAIR = re.compile(r"\\(.)")
_OTHER_DOTS = re.compile("[\u3002\uff0e\uff61]")  # UTS 46 makes dots of them; where a domain is cut must not depend on it


class AddressError(ValueError):
    """An address that is refused. The text fits into a reply after the enhanced code; `kind` is `syntax` or `utf8`."""

    def __init__(self, text: str, kind: str = "syntax") -> None:
        self.kind = kind
        super().__init__(text)


def parse_path(raw: bytes, *, smtputf8: bool, null: bool) -> tuple[str, bytes]:
    """(address, parameters) of what follows `FROM:` (`null` True: `<>` gives "") or `TO:` (`null` False: `<postmaster>`
    gives "postmaster"). Parameters start with a space or are empty. Non-ASCII needs `smtputf8`, and then only in the domain."""
    role = "sender" if null else "recipient"
    if match := _PATH.match(raw):
        return _mailbox(match["local"], match["domain"], role, smtputf8), raw[match.end() :]
    if match := (_NULL if null else _POSTMASTER).match(raw):
        return "" if null else "postmaster", raw[match.end() :]
    if _SOURCE_ROUTE.match(raw):
        raise AddressError(f"bad {role} address: source routes are not accepted")
    raise AddressError(f"bad {role} address syntax")


def valid(address: str) -> bool:
    """Whether `address` is one that `parse_path` could have returned: an ASCII mailbox with a domain."""
    if not address.isascii():
        return False
    match = _WHOLE.fullmatch(address.encode())
    if match is None:
        return False
    try:
        _mailbox(match["local"], match["domain"], "", smtputf8=False)
    except AddressError:
        return False
    return True


def split(address: str) -> tuple[str, str]:
    """(local part, domain); the domain is "" for a bare `postmaster`. Quotes stay on a quoted local part."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (domain, "")


def key(address: str) -> str:
    """The form in which addresses compare: no case, domain as A-labels, needless quotes gone. Never raises."""
    local, domain = split(address)
    if local.startswith('"') and local.endswith('"') and len(local) > 1:
        local = _unquoted(local)
    if not domain.isascii():
        try:
            domain = domain_ascii(domain)
        except AddressError:
            domain = domain.casefold()
    return f"{local.casefold()}@{domain.lower()}" if domain else local.casefold()


def same(a: str, b: str) -> bool:
    """Whether two addresses mean the same mailbox, as far as one can tell from outside."""
    return a == b or key(a) == key(b)


def domain_ascii(domain: str) -> str:
    """The domain (or address literal) with A-labels, in lower case. Raises AddressError."""
    if domain.startswith("["):
        _check_literal(domain, "bad domain syntax")
        return domain.lower()
    if not domain.isascii():
        domain = _to_a_labels(domain)
    _check_domain(domain, "bad domain syntax")
    return domain.lower()


def _mailbox(local: bytes, domain: bytes, role: str, smtputf8: bool) -> str:
    syntax = f"bad {role} address syntax"
    if not (smtputf8 or (local.isascii() and domain.isascii())):
        raise AddressError(f"bad {role} address: not ASCII, and SMTPUTF8 was not given", "utf8")
    if not local.isascii():
        raise AddressError(f"bad {role} address: local part is not ASCII; no provider can take it", "utf8")
    if len(local) > _MAX_LOCAL:
        raise AddressError(f"bad {role} address: local part longer than {_MAX_LOCAL} octets")
    if _ENCODED_WORD.search(local):
        raise AddressError(f"bad {role} address: encoded words are not accepted")
    if domain.startswith(b"["):
        name = domain.decode("ascii")
        _check_literal(name, syntax)
    elif domain.isascii():
        name = domain.decode("ascii")
        _check_domain(name, syntax)
    else:
        name = _to_a_labels(_utf8(domain, syntax))
        _check_domain(name, syntax)
    address = f"{local.decode('ascii')}@{name}"
    if len(address) > _MAX_ADDRESS:
        raise AddressError(f"bad {role} address: longer than {_MAX_ADDRESS} octets")
    return address


def _utf8(raw: bytes, syntax: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError(f"{syntax}: not UTF-8") from None


def _to_a_labels(domain: str) -> str:
    if _OTHER_DOTS.search(domain):
        raise AddressError("bad domain: not an internationalised domain name")
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise AddressError("bad domain: not an internationalised domain name") from None


def _check_domain(domain: str, syntax: str) -> None:
    """`domain` is ASCII."""
    if len(domain) > _MAX_DOMAIN or not _WHOLE_DOMAIN.fullmatch(domain):
        raise AddressError(syntax)
    if len(domain) > 63 and max(map(len, domain.split("."))) > 63:
        raise AddressError(syntax)


def _check_literal(literal: str, syntax: str) -> None:
    """`[IPv4]` or `[IPv6:…]` (RFC 5321 §4.1.3); no other tag is registered."""
    inner = literal[1:-1]
    try:
        if not (literal.endswith("]") and literal.isascii()):
            raise AddressError(syntax)
        if inner[:5].lower() == "ipv6:":
            IPv6Address(inner[5:])
        else:
            IPv4Address(inner)
    except AddressValueError:
        raise AddressError(syntax) from None


def _unquoted(local: str) -> str:
    """A quoted local part in one canonical form: bare if it can be (RFC 5321 §4.1.2 says both mean the same)."""
    content = _PAIR.sub(r"\1", local[1:-1])
    if _DOT_STRING.fullmatch(content):
        return content
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'
