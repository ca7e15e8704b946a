"""What is allowed in one provider's keys and may surprise: keys that its mode does not use, figures beyond the provider's own,
what looks like another kind of secret, what may leave in clear.

Asked for only where there are no mistakes. No text quotes a key or a password.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from pydantic import SecretStr

from relay.budgets import Rate
from relay.config import amounts, aws, kinds, modes
from relay.config.limits import Limits
from relay.config.problems import Loc, Report, did_you_mean
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
from relay.transports import net, presets

_SHELL = re.compile(r"\$[A-Z_][A-Z0-9_]*|%[A-Z_][A-Z0-9_]*%|\{\{\S*\}\}")
_LENGTH_OF_SMTP_PASSWORD = 44  # the base64 of a version octet and an HMAC-SHA256; the version makes it begin with B
_CONNECTIONS_OF_MAILTRAP = 10  # of one account (docs.mailtrap.io, sending limits, 2026-11)

# Ports of each provider's SMTP door.
_PORTS: Mapping[str, tuple[int, ...]] = {
    "ses": presets.ses("us-east-1", "").ports,
    "postmark": presets.postmark("").ports,
    "mailtrap": presets.mailtrap("transactional").ports,
    "paubox": presets.paubox("").ports,
}
# Octets of the largest request that a provider documents, and the words for it.
_MIB = 1024 * 1024
_LARGEST: Mapping[str, tuple[int, str]] = {
    "ses": (40 * _MIB, "Amazon SES takes 40 MB after base64 (developer guide, service quotas, 2026-11)"),
    "lowcodeapi": (40 * _MIB, "Amazon SES behind it takes 40 MB after base64 (developer guide, service quotas, 2026-11)"),
    "postmark": (10 * _MIB, "Postmark takes 10 MB after base64 (email API, 2026-11)"),
    "mailtrap": (30 * _MIB, "Mailtrap takes 10 MB, and 30 MB on request (docs, sending limits, 2026-11)"),
    "paubox": (50 * _MIB, "Paubox takes 50 MB (docs, attachments, 2026-11)"),
}
# Keys that have no effect where a door is not used.
_OF_API: Mapping[str, tuple[str, ...]] = {
    "ses": ("content_mode", "base_url", "fips", "dual_stack", "on_loss"),
    "postmark": ("base_url", "on_loss", "batch"),
    "mailtrap": ("sandbox_id", "base_url", "on_loss", "batch"),
    "paubox": (
        *("username", "base_url", "auth_scheme", "allow_non_tls", "force_secure_notification"),
        *("track_opens", "track_links", "html", "on_loss", "batch"),
    ),
}
_OF_SMTP: Mapping[str, tuple[str, ...]] = {
    "ses": ("host", "port", "ca_file", "smtp_password"),
    "postmark": ("host", "port", "ca_file", "smtp_access_key", "smtp_secret_key"),
    "mailtrap": ("host", "port", "ca_file", "username", "password"),
    "paubox": ("host", "port", "ca_file"),
}


def largest(provider: ProviderConfig) -> int | None:
    """Octets of the largest message that a provider is handed and, as far as it says, takes; None where nobody knows."""
    if isinstance(provider, SmtpProvider | CaptureProvider):
        return None
    return min(provider.limits.size, _LARGEST[provider.type][0])


def warn(loc: Loc, provider: ProviderConfig, report: Report) -> None:
    """Everything that may surprise in one provider."""
    for key, text, *mend in _found(provider):
        report.warn((*loc, *(int(part) if part.isdigit() else part for part in key.split("."))), text, *mend)
    for key, value in provider:
        if isinstance(value, SecretStr) and _SHELL.fullmatch(value.get_secret_value()):
            text = "looks like a variable of a shell or a template, and is taken as the secret itself"
            report.warn((*loc, key), text, "${env:NAME} is its value")


Found = tuple[str, str] | tuple[str, str, str]
"""A key (`limits.size`), what is worth knowing, and perhaps the mend."""


def _found(provider: ProviderConfig) -> Iterator[Found]:
    match provider:
        case SmtpProvider():
            yield from _smarthost(provider)
        case SesProvider():
            yield from _ses(provider)
        case PostmarkProvider():
            yield from _postmark(provider)
        case MailtrapProvider():
            yield from _mailtrap(provider)
        case PauboxProvider():
            yield from _paubox(provider)
        case LowCodeProvider():
            yield from _lowcode(provider)
    if not isinstance(provider, CaptureProvider):
        yield from _budgets(provider.limits)
    if not isinstance(provider, SmtpProvider | CaptureProvider):
        yield from _not_used(provider)
        yield from _too_large(provider)
        yield from _port(provider)


def _budgets(limits: Limits) -> Iterator[Found]:
    """Limits that are never reached, because another one holds first."""
    rates = limits.rate if isinstance(limits.rate, tuple) else ()
    for index, rate in enumerate(rates):
        if any(other.seconds == rate.seconds for other in rates[:index]):
            yield f"limits.rate.{index}", "another rate has the same window; the smaller one holds", "keep one of them"
        elif other := next((other for other in rates if _holds_first(other, rate)), None):
            written, first = amounts.written_rate(rate), amounts.written_rate(other)
            yield f"limits.rate.{index}", f"{written} is never reached: {first} holds first", "remove it, or look which figure is right"
    if isinstance(limits.daily, int) and isinstance(limits.monthly, int) and limits.daily > limits.monthly:
        yield "limits.daily", f"{limits.daily} a day are never reached: monthly is {limits.monthly}"
    if limits.count != "recipients" and "auto" in (limits.rate, limits.daily):
        key = "rate" if limits.rate == "auto" else "daily"
        text = f"auto asks for what Amazon SES counts in recipients, and count is {limits.count}: mail to many would pass it"
        yield f"limits.{key}", text, "remove count, or give the figures"


def _holds_first(other: Rate, rate: Rate) -> bool:
    """Whether one rate keeps another from ever being reached."""
    if other.seconds < rate.seconds:  # so many of the shorter windows, the last of them begun, fit into the longer one
        return other.count * math.ceil(rate.seconds / other.seconds) < rate.count
    return other.seconds > rate.seconds and other.count < rate.count


def _smarthost(smtp: SmtpProvider) -> Iterator[Found]:
    if (smtp.port, smtp.tls) == (465, "starttls"):
        yield "port", "465 is implicit TLS", "tls: implicit"
    if smtp.tls == "none" and not net.is_loopback(smtp.host):
        yield "tls", "mail goes to this smarthost in clear"
    if smtp.login != "auto" and smtp.username is None:
        yield "login", "not used: without a username relay does not log in"


def _ses(ses: SesProvider) -> Iterator[Found]:
    if ses.region not in aws.REGIONS:
        yield "region", f'"{ses.region}" is not a region of SES that relay knows of', did_you_mean(ses.region, aws.REGIONS)
    secret = ses.secret_access_key.get_secret_value() if ses.secret_access_key else ""
    if len(secret) == _LENGTH_OF_SMTP_PASSWORD and secret.startswith("B"):
        instead = "put it under smtp_password" if ses.mode == "smtp" else "with mode: smtp it is smtp_password"
        yield "secret_access_key", "this looks like an SMTP password", f"give the secret access key of IAM; {instead}"
    if ses.mode != "smtp" and (ses.access_key_id or "").startswith("ASIA") and ses.session_token is None:
        yield "access_key_id", "begins with ASIA: a temporary key, which needs its session_token"


def _postmark(postmark: PostmarkProvider) -> Iterator[Found]:
    if postmark.mode == "smtp" and postmark.token and postmark.smtp_access_key:
        yield "token", "not used: smtp_access_key logs in"
    yield from _on_loss_of_auto(postmark)


def _mailtrap(mailtrap: MailtrapProvider) -> Iterator[Found]:
    if mailtrap.mode == "smtp" and mailtrap.limits.concurrency > _CONNECTIONS_OF_MAILTRAP:
        text = f"Mailtrap takes {_CONNECTIONS_OF_MAILTRAP} connections of an account, and relay opens no more"
        yield "limits.concurrency", text
    if mailtrap.mode == "smtp" and mailtrap.stream == "sandbox" and mailtrap.token:
        yield "token", "not used: username and password log in to a sandbox by SMTP"
    if mailtrap.stream != "sandbox" and mailtrap.sandbox_id is not None and mailtrap.mode != "smtp":
        yield "sandbox_id", f"not used: the stream is {mailtrap.stream}", "set stream: sandbox"
    if mailtrap.stream == "sandbox" and mailtrap.streams:
        yield "streams", "not used: everything goes to the sandbox"
    yield from _on_loss_of_auto(mailtrap)


def _paubox(paubox: PauboxProvider) -> Iterator[Found]:
    if paubox.mode != "smtp":
        if paubox.allow_non_tls:
            yield "allow_non_tls", "Paubox may deliver in clear: patient data could be read on the way"
        if paubox.batch.max > 1:
            yield "batch.max", "Paubox does not document what becomes of a batch in which one message is refused", "batch: {max: 1}"
        for key in ("track_opens", "track_links"):
            if getattr(paubox, key) is False:
                text = "false sends nothing: Paubox can be told to track, never not to; the account's own setting holds"
                yield key, text, "remove it, and switch tracking off in the account"
        if paubox.username is not None and "{username}" not in paubox.base_url:
            yield "username", "not used: base_url has no {username}"
    yield from _on_loss_of_auto(paubox)


def _lowcode(lowcode: LowCodeProvider) -> Iterator[Found]:
    if not lowcode.token.get_secret_value().startswith(("at_", kinds.SECRET)):  # what `relay config show` prints is taken as it is
        yield "token", "does not begin with at_, as tokens of LowCodeAPI do"


def _on_loss_of_auto(provider: PostmarkProvider | MailtrapProvider | PauboxProvider) -> Iterator[Found]:
    if provider.on_loss == "warn" and modes.doors_of(provider) == ("api", "smtp"):
        yield "on_loss", "not used with mode: auto: what the API cannot carry goes by SMTP", "set mode: api to send the rest by the API"


def _not_used(provider: SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider | LowCodeProvider) -> Iterator[Found]:
    """Keys of a door that is not used."""
    doors, fields = modes.doors_of(provider), type(provider).model_fields
    why = f", which is the API alone here: {told}" if (told := modes.why_no_smtp(provider)) else ""
    for door, keys in (("api", _OF_API), ("smtp", _OF_SMTP)):
        for key in keys.get(provider.type, ()) if door not in doors else ():
            if getattr(provider, key) != fields[key].default:
                yield key, f"not used with mode: {provider.mode}{why}"


def _too_large(provider: SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider | LowCodeProvider) -> Iterator[Found]:
    most, words = _LARGEST[provider.type]
    if provider.limits.size > most:
        yield "limits.size", f"more than is documented: {words}"


def _port(provider: SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider | LowCodeProvider) -> Iterator[Found]:
    """A door that the provider does not document; where another host is named, anything goes."""
    if isinstance(provider, LowCodeProvider) or "smtp" not in modes.doors_of(provider) or provider.host is not None:
        return
    known = sorted(_PORTS[provider.type])
    if provider.port not in known:
        yield "port", f"this provider takes mail on {', '.join(map(str, known))}, as far as relay knows"
