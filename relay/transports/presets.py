"""The SMTP doors of the providers that relay knows: where they are, how one logs in, what they take, which fields they read.

A preset is what stands in a provider's documentation and need not stand in the configuration. The control fields that leave by
such a door are made in relay/transports/stamps.py. Pure; nothing here raises.
Sources, 2026-11: Amazon SES developer guide ("Connecting to the SMTP endpoint", "Obtaining SES SMTP credentials", "Service
quotas", "Specifying a configuration set"); Mailtrap docs ("SMTP integration", "Sending limits", "Custom variables"); Postmark
support articles 811 and 1125 and "Send email with SMTP"; Paubox email API docs ("SMTP").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

SES_USUAL = ("amazonaws.com", "api.aws")
SES_PARTITIONS: Mapping[str, tuple[str, str]] = {
    "cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "eusc-": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "us-iso-": ("c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob-": ("sc2s.sgov.gov", "api.aws.scloud"),
    "eu-isoe-": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "us-isof-": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
}
"""How a region of AWS begins -> the suffix of its endpoints, and of those that are reached by IPv6 too; SES_USUAL for all others.
botocore 1.44, partitions, 2026-11."""
_MEGABYTE = 1024 * 1024
_MAILTRAP_PORTS = (587, 25, 2525, 465)  # its pages do not agree about 465
_BROADCASTS = frozenset({"broadcast", "broadcasts"})


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider's SMTP door. `max_recipients` bounds one transaction, `max_messages` one connection, `connections` how many
    may be open at once (0: nobody says), `max_size` the message in octets where the server itself does not refuse (0: it does).
    `ports` are those where it listens.

    `dialect` names the control fields it reads, `defaults` those that mail without its own gets. `stream` is the one that the
    door leads to; "" where a field says it, or it does not matter. `needs_sender`: the null reverse-path is refused, or nobody
    says that it is taken. `seven_bit`: 8-bit text is re-encoded where it may be, because the provider rewrites bodies and
    spoils it.
    """

    host: str
    username: str = field(repr=False)  # a token, with Postmark
    password: str = field(repr=False)
    dialect: str
    ports: tuple[int, ...]
    port: int = 587
    defaults: tuple[tuple[str, str], ...] = ()
    stream: str = ""
    needs_sender: bool = True
    seven_bit: bool = True
    max_recipients: int = 100
    max_messages: int = 100
    connections: int = 0
    max_size: int = 0


def ses(
    region: str,
    access_key_id: str,
    secret_access_key: str = "",
    smtp_password: str = "",
    *,
    configuration_set: str = "",
    identity_arn: str = "",
    tenant: str = "",
) -> Preset:
    """Amazon SES in one region. The password is `smtp_password`, else the one derived from `secret_access_key`."""
    defaults = (
        ("X-SES-CONFIGURATION-SET", configuration_set),
        ("X-SES-SOURCE-ARN", identity_arn),
        ("X-SES-FROM-ARN", identity_arn),
        ("X-SES-TENANT", tenant),  # as client libraries send it; no page of Amazon's names it (2026-11)
    )
    return Preset(
        host=f"email-smtp.{region}.{ses_suffixes(region)[0]}",
        username=access_key_id.strip(),
        password=smtp_password.strip() or ses_smtp_password(secret_access_key.strip(), region),
        dialect="ses",
        ports=(25, 587, 2587, 465, 2465),
        defaults=tuple((name, value) for name, value in defaults if value),
        max_recipients=50,
        max_size=40 * _MEGABYTE,
    )


def ses_suffixes(region: str) -> tuple[str, str]:
    """What the names of a region's servers end with: by IPv4, and by IPv6 too."""
    return next((suffixes for start, suffixes in SES_PARTITIONS.items() if region.startswith(start)), SES_USUAL)


def mailtrap(stream: str, token: str = "", username: str = "", password: str = "") -> Preset:
    """Mailtrap: `stream` transactional or bulk with the API token, sandbox with a login of its own."""
    host = {"bulk": "bulk.smtp.mailtrap.io", "sandbox": "sandbox.smtp.mailtrap.io"}.get(stream, "live.smtp.mailtrap.io")
    if stream == "sandbox":
        return Preset(host, username.strip(), password.strip(), "mailtrap", _MAILTRAP_PORTS, connections=10)
    return Preset(host, "api", token.strip(), "mailtrap", _MAILTRAP_PORTS, connections=10, stream=stream)


def postmark(
    stream: str,
    token: str = "",
    access_key: str = "",
    secret_key: str = "",
    *,
    track_opens: bool | None = None,
    track_links: str = "",
) -> Preset:
    """Postmark: an SMTP token, which is bound to its stream, or the server token as both names with the stream in a field.

    Broadcast streams have a host of their own. A stream's kind is not in its name: only Postmark's own names for the default
    one are known here, others need `host` in the configuration.
    """
    host = "smtp-broadcasts.postmarkapp.com" if stream in _BROADCASTS else "smtp.postmarkapp.com"
    bound = bool(access_key)
    defaults = (
        ("X-PM-Message-Stream", "" if bound else stream),
        ("X-PM-TrackOpens", "" if track_opens is None else str(track_opens).lower()),
        ("X-PM-TrackLinks", track_links),
    )
    return Preset(
        host=host,
        username=(access_key or token).strip(),
        password=(secret_key if bound else token).strip(),
        dialect="postmark",
        ports=(587, 25, 2525),
        defaults=tuple((name, value) for name, value in defaults if value),
        stream=stream if bound else "",
        max_recipients=50,
        max_size=10 * _MEGABYTE,  # its server announces 20, takes more than 10, and drops it with an event
    )


def paubox(api_key: str) -> Preset:
    """Paubox: the literal `apikey` and the API key. White space around or in a pasted key is left out."""
    return Preset("smtp.paubox.com", "apikey", "".join(api_key.split()), "paubox", (587, 25, 465))


def ses_smtp_password(secret: str, region: str) -> str:
    """The SMTP password that belongs to an IAM secret access key in one region (version 4; 44 characters).

    Source: Amazon SES developer guide, "Obtaining Amazon SES SMTP credentials by converting existing AWS credentials" (2026-11).
    """
    key = f"AWS4{secret}".encode()
    for word in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        key = hmac.digest(key, word.encode(), hashlib.sha256)
    return base64.b64encode(b"\x04" + key).decode()
