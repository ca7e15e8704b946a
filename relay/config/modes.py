"""Which doors of a provider are used, its REST API, its SMTP door, or with `mode: auto` both; and whether what goes there is
delivered at all. Pure.

`mode: auto` hands to SMTP what the API cannot carry. It does so only where the SMTP door is surely that of the same account,
and where nothing that the file asks for would be forgotten there; otherwise it is the API alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from relay.config.providers import (
    CaptureProvider,
    LowCodeProvider,
    MailtrapProvider,
    PauboxProvider,
    PostmarkProvider,
    ProviderConfig,
    SesProvider,
    SmtpProvider,
)

Door = Literal["api", "smtp"]

TEST_TOKEN = "POSTMARK_API_TEST"
"""In place of Postmark's token: requests are checked and nothing is sent (Postmark docs 2026-11). It is no login for SMTP."""

_SMTP_OF_SANDBOX = "sandbox.smtp.mailtrap.io"  # Mailtrap docs 2026-11

# The provider's own domains: an API in one of them is that of the account which logs in by SMTP.
_HOMES: Mapping[str, tuple[str, ...]] = {
    "postmark": ("postmarkapp.com",),
    "mailtrap": ("mailtrap.io",),
    "paubox": ("paubox.net", "paubox.com"),
}


def doors_of(provider: ProviderConfig) -> tuple[Door, ...]:
    """The doors in use, the first choice first; none of a provider that keeps mail."""
    if isinstance(provider, CaptureProvider):
        return ()
    if isinstance(provider, SmtpProvider):
        return ("smtp",)
    if provider.mode != "auto":
        return (provider.mode,)
    return ("api",) if why_no_smtp(provider) else ("api", "smtp")


def why_no_smtp(provider: ProviderConfig) -> str:
    """Why a provider with `mode: auto` is spoken to by its API only, as a phrase; "" where SMTP is used too, and for other
    modes."""
    if isinstance(provider, SmtpProvider | CaptureProvider | LowCodeProvider) or provider.mode != "auto":
        return ""
    if isinstance(provider, SesProvider):
        return "Amazon SES takes messages as they are by its API"
    if provider.host is None and not _at_home(provider.base_url, provider.type):
        return "base_url leads elsewhere, and no host says where SMTP would go"
    match provider:
        case PostmarkProvider():
            if provider.token and provider.token.get_secret_value() == TEST_TOKEN:
                return f"{TEST_TOKEN} sends nothing, and SMTP would"
        case MailtrapProvider():
            if provider.stream == "sandbox" and not (provider.username and provider.password):
                return "the sandbox's SMTP login (username and password) is not given"
        case PauboxProvider():
            if provider.force_secure_notification:
                return "force_secure_notification cannot be asked for by SMTP"
    return ""


def no_delivery(provider: ProviderConfig) -> str:
    """Why what a provider takes is delivered to nobody, as a phrase that its name may stand before; "" where it is delivered, as
    far as the configuration tells."""
    match provider:
        case CaptureProvider():
            return "is of type capture: what goes there does not leave this host"
        case MailtrapProvider(stream="sandbox"):
            return "is a sandbox of Mailtrap: what goes there is delivered to nobody"
        case SmtpProvider() if provider.host.lower() == _SMTP_OF_SANDBOX:
            return "is a sandbox of Mailtrap: what goes there is delivered to nobody"
        case PostmarkProvider() if provider.mode != "smtp" and provider.token and provider.token.get_secret_value() == TEST_TOKEN:
            return f"has the token {TEST_TOKEN}: what goes there is checked, and delivered to nobody"
    return ""


def _at_home(base_url: str | None, kind: str) -> bool:
    """Whether an API is where its provider has it, and not a proxy or a test server."""
    host = (urlsplit(base_url).hostname or "") if base_url else ""
    return not base_url or any(host == home or host.endswith(f".{home}") for home in _HOMES[kind])
