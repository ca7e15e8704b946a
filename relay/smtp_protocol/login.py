"""The exchange behind AUTH: from base64 to a name and a password. PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login-00)."""

from __future__ import annotations

import base64
import binascii

from relay.smtp_protocol.events import Credentials
from relay.smtp_protocol.transaction import Refusal

MECHANISMS = ("PLAIN", "LOGIN")
_NAME = base64.b64encode(b"Username:").decode()
_PASSWORD = base64.b64encode(b"Password:").decode()


class Exchange:
    """One AUTH command: `take` what the client sends until it gives the credentials. Raises Refusal, which ends it."""

    def __init__(self, mechanism: bytes) -> None:
        self._mechanism = mechanism.decode().upper()
        self._name: str | None = None
        if self._mechanism not in MECHANISMS:
            raise Refusal("504 5.5.4 unknown mechanism: PLAIN and LOGIN are offered")

    def take(self, response: bytes | None) -> str | Credentials:
        """The next challenge in base64, or what was learned. `response` is a line as sent, None where AUTH stood alone."""
        if response is None:
            return "" if self._mechanism == "PLAIN" else _NAME
        text = _decode(response)
        if self._mechanism == "PLAIN":
            return _plain(text)
        if self._name is None:
            self._name = text
            return _PASSWORD
        return Credentials(self._mechanism, self._name, text)


def _plain(text: str) -> Credentials:
    actor, *rest = text.split("\0")
    if len(rest) != 2:
        raise Refusal("501 5.5.2 AUTH PLAIN wants two NULs: [name] NUL name NUL password")
    name, password = rest
    if actor not in ("", name):
        raise Refusal("535 5.7.8 nobody may act for somebody else here")
    return Credentials("PLAIN", name, password)


def _decode(response: bytes) -> str:
    """A response or an initial one, where `=` stands for nothing (RFC 4954 §4)."""
    if response == b"*":
        raise Refusal("501 5.7.0 authentication cancelled")
    try:
        return base64.b64decode(b"" if response == b"=" else response, validate=True).decode()
    except binascii.Error:
        raise Refusal("501 5.5.2 not base64") from None
    except UnicodeDecodeError:
        raise Refusal("501 5.5.2 name and password must be UTF-8") from None
