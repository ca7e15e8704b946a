"""Replies of Amazon SES to requests signed with keys of ours: the table of transports/sesv2/reply.py, and what to do about keys. Pure."""

from __future__ import annotations

from relay.transports.ses.sigv4 import Keys
from relay.transports.sesv2.reply import Asker, keys_refused, read, skewed

_KEYS = "check access_key_id ({key} characters) and secret_access_key ({secret} characters) of this provider"
_FOUND_KEYS = "the keys come from {source}: look whether they are still valid there"
_SMTP_PASSWORD = "secret_access_key looks like an SMTP password of SES, which signs nothing here: put the secret access key there"
_EXPIRED = "session_token has expired: put new keys there, or leave the keys out and name a profile or role that renews them"


def asker(region: str, keys: Keys, source: str = "", behind: float | None = None) -> Asker:
    """Who asks with these keys; `source` says where keys came from that do not stand in the configuration."""
    login = _KEYS.format(key=len(keys.access_key_id), secret=len(keys.secret_access_key))
    if _is_smtp_password(keys.secret_access_key):
        login = _SMTP_PASSWORD
    found = _FOUND_KEYS.format(source=source) if source else ""
    secrets = {keys.secret_access_key: "[secret]", keys.session_token: "[token]"}
    return Asker(region, found or login, found or (_EXPIRED if login != _SMTP_PASSWORD else login), secrets, behind)


def _is_smtp_password(secret: str) -> bool:
    """Whether this can only be a password for the SMTP interface of SES: 44 characters, the first a B (a secret has 40)."""
    return len(secret) == 44 and secret.startswith("B")


__all__ = ["Asker", "asker", "keys_refused", "read", "skewed"]
