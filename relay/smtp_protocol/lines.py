"""What a line must be before anybody asks what it means: SMTP, clean, and a command that there is."""

from __future__ import annotations

import re
from collections.abc import Container

from relay.smtp_protocol.transaction import Refusal

PROXY_HEADERS = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")  # how the PROXY protocol begins, version 1 and 2
PROXIED = "554 5.5.0 a PROXY header, and this peer is not in the listener's proxy list"
_HTTP = frozenset({b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"})
_NOT_OFFERED = frozenset({b"BDAT", b"BURL", b"ETRN", b"EXPN", b"SAML", b"SEND", b"SOML", b"TURN"})
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def screen(verb: bytes, text: bytes, known: Container[bytes]) -> None:
    """Raise Refusal unless `text`, a whole line that begins with `verb` (upper case), is a command out of `known`."""
    if verb in _HTTP or b":" in verb or (verb and not verb[:1].isalpha()):
        raise Refusal("421 4.7.0 this is an SMTP server; closing the connection")
    if _CONTROL.search(text):
        raise Refusal("501 5.5.2 control character in a command")
    if not text.isascii() and not _is_utf8(text):
        raise Refusal("501 5.5.2 command is neither ASCII nor UTF-8")
    if verb not in known:
        raise _unknown(verb)


def _unknown(verb: bytes) -> Refusal:
    if verb == b"PROXY":
        return Refusal(PROXIED)
    if verb in _NOT_OFFERED:
        return Refusal("502 5.5.1 command not implemented")
    return Refusal("500 5.5.1 unknown command" if verb.isalnum() else "500 5.5.2 bad syntax")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
