"""What must hold between the keys of one provider: whole pairs of keys, logins in clear, doors that are not there.

Runs on a draft: keys already reported are not judged again. No text quotes a key or a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import SecretStr

from relay.config import aws
from relay.config.build import Part
from relay.config.problems import Loc, Report, did_you_mean
from relay.config.providers import MailtrapProvider, PauboxProvider, PostmarkProvider, ProviderConfig, SesProvider, SmtpProvider
from relay.transports import net

_ACCESS_KEY_ID = re.compile(r"\w{16,128}", re.ASCII)  # AWS IAM API reference, AccessKey (2026-11)
_SHELL = re.compile(r"\$[A-Z_][A-Z0-9_]*|%[A-Z_][A-Z0-9_]*%|\{\{\S*\}\}")
_LENGTH_OF_SECRET = 40
_LENGTH_OF_SMTP_PASSWORD = 44  # the base64 of a version octet and an HMAC-SHA256; the version makes it begin with B
_CONNECTIONS_OF_MAILTRAP = 10  # of one account (docs.mailtrap.io, sending limits, 2026-11)

# Ports of each provider's SMTP door, from its documentation (2026-11).
_PORTS: Mapping[str, tuple[int, ...]] = {
    "ses": (25, 587, 2587, 465, 2465),
    "postmark": (25, 587, 2525),
    "mailtrap": (25, 587, 2525, 465),
    "paubox": (25, 587, 465),
}
_OF_ONE_MODE = {
    "api": ("base_url", "on_loss", "track_opens", "track_links"),
    "smtp": ("host", "port", "ca_file", "smtp_password", "smtp_access_key", "smtp_secret_key"),
}


class _Keys:
    """The keys of one provider, and where to say what is wrong with them."""

    def __init__(self, part: Part[ProviderConfig], report: Report) -> None:
        self._part = part
        self._report = report

    def given(self, *keys: str) -> bool:
        """Whether all of these stand in the file, if with a mistake."""
        return all(key in self._part.bad or getattr(self._part.value, key) is not None for key in keys)

    def good(self, *keys: str) -> bool:
        """Whether none of these has a mistake."""
        return not self._part.bad & set(keys)

    def add(self, key: str, text: str, mend: str = "", *, at_key: bool = False) -> None:
        self._report.add((*self._part.loc, key), text, mend, at_key=at_key)


def check(part: Part[ProviderConfig], report: Report) -> None:
    """All mistakes of one provider."""
    keys, provider = _Keys(part, report), part.value
    if isinstance(provider, SmtpProvider):
        _smarthost(keys, provider)
    elif isinstance(provider, SesProvider):
        _ses(keys, provider)
    elif isinstance(provider, PostmarkProvider):
        _postmark(keys, provider)
    elif isinstance(provider, MailtrapProvider):
        _mailtrap(keys, provider)


def warn(loc: Loc, provider: ProviderConfig, report: Report) -> None:
    """What is allowed and may surprise."""
    if isinstance(provider, SmtpProvider):
        _warn_of_smarthost(loc, provider, report)
    if isinstance(provider, SesProvider):
        _warn_of_ses(loc, provider, report)
    if isinstance(provider, PostmarkProvider) and provider.mode == "smtp" and provider.token and provider.smtp_access_key:
        report.warn((*loc, "token"), "not used: smtp_access_key logs in")
    if isinstance(provider, MailtrapProvider) and provider.limits.concurrency > _CONNECTIONS_OF_MAILTRAP:
        report.warn(
            (*loc, "limits", "concurrency"), f"Mailtrap takes {_CONNECTIONS_OF_MAILTRAP} connections of an account, and relay opens no more"
        )
    if isinstance(provider, SesProvider | PostmarkProvider):
        for key in _OF_ONE_MODE["smtp" if provider.mode == "api" else "api"]:
            if key in (fields := type(provider).model_fields) and getattr(provider, key) != fields[key].default:
                report.warn((*loc, key), f"not used with mode: {provider.mode}")
    _warn_of_port(loc, provider, report)
    for key, value in provider:
        if isinstance(value, SecretStr) and _SHELL.fullmatch(value.get_secret_value()):
            report.warn(
                (*loc, key), "looks like a variable of a shell or a template, and is taken as the secret itself", "${env:NAME} is its value"
            )


def _smarthost(keys: _Keys, provider: SmtpProvider) -> None:
    if provider.username is not None and not keys.given("password"):
        keys.add("username", "a username needs a password", 'add password: "${cred:smarthost}"', at_key=True)
    if provider.password is not None and not keys.given("username"):
        keys.add("password", "a password needs a username", "add username: relay", at_key=True)
    logs_in = provider.username is not None or provider.password is not None
    if logs_in and provider.tls == "none" and keys.good("tls", "host") and not net.is_loopback(provider.host):
        keys.add("tls", f"the password would go to {provider.host} in clear", "tls: starttls or tls: implicit")


def _warn_of_smarthost(loc: Loc, provider: SmtpProvider, report: Report) -> None:
    if (provider.port, provider.tls) == (465, "starttls"):
        report.warn((*loc, "port"), "465 is implicit TLS", "tls: implicit")
    if provider.tls == "none" and not net.is_loopback(provider.host):
        report.warn((*loc, "tls"), "mail goes to this smarthost in clear")
    if provider.login != "auto" and provider.username is None:
        report.warn((*loc, "login"), "not used: without a username relay does not log in")


def _ses(keys: _Keys, ses: SesProvider) -> None:
    if ses.access_key_id is not None and not _ACCESS_KEY_ID.fullmatch(ses.access_key_id):
        pasted = len(ses.access_key_id) == _LENGTH_OF_SECRET
        form = "it has 20 letters and digits and begins with AKIA or ASIA"
        keys.add("access_key_id", "is not an access key ID", "this looks like the secret_access_key" if pasted else form)
    _whole_keys_of_ses(keys)
    if not keys.good("mode"):
        return
    if ses.mode == "smtp":
        _smtp_of_ses(keys, ses)
    elif keys.given("smtp_password") and not keys.given("secret_access_key"):
        keys.add(
            "smtp_password",
            "requests to the API cannot be signed with an SMTP password",
            "set mode: smtp, or add secret_access_key",
            at_key=True,
        )


def _whole_keys_of_ses(keys: _Keys) -> None:
    """Keys belong together; one of them alone does nothing."""
    if not keys.given("access_key_id"):
        for key in ("secret_access_key", "smtp_password"):
            if keys.given(key):
                keys.add(key, "needs the access_key_id it belongs to", 'add access_key_id: "${env:AWS_ACCESS_KEY_ID}"', at_key=True)
    elif not keys.given("secret_access_key") and not keys.given("smtp_password"):
        keys.add("access_key_id", "needs its secret", 'add secret_access_key: "${env:AWS_SECRET_ACCESS_KEY}"', at_key=True)
    if keys.given("session_token") and not keys.given("access_key_id", "secret_access_key"):
        keys.add("session_token", "needs the access_key_id and secret_access_key it was given with", at_key=True)
    if keys.given("profile", "access_key_id"):
        keys.add("profile", "profile and access_key_id exclude each other", "remove one of them", at_key=True)


def _smtp_of_ses(keys: _Keys, ses: SesProvider) -> None:
    """Amazon SES developer guide, "Obtaining SES SMTP credentials" (2026-11): a user's own keys, never temporary ones."""
    if keys.given("session_token"):
        keys.add("session_token", "SES takes no temporary keys by SMTP", "use the keys of an IAM user, or mode: api", at_key=True)
    elif ses.access_key_id is not None and ses.access_key_id.startswith("ASIA"):
        keys.add("access_key_id", "SES takes no temporary keys by SMTP, and those that begin with ASIA are", "use the keys of an IAM user")
    if not keys.given("access_key_id") and not keys.given("secret_access_key") and not keys.given("smtp_password"):
        text = "SES by SMTP needs keys that stand here: access_key_id, with secret_access_key or smtp_password"
        keys.add("mode", text, 'add access_key_id: "${env:AWS_ACCESS_KEY_ID}" and its secret, or set mode: api')


def _warn_of_ses(loc: Loc, ses: SesProvider, report: Report) -> None:
    if ses.region not in aws.REGIONS:
        report.warn((*loc, "region"), f'"{ses.region}" is not a region of SES that relay knows of', did_you_mean(ses.region, aws.REGIONS))
    secret = ses.secret_access_key.get_secret_value() if ses.secret_access_key else ""
    if len(secret) == _LENGTH_OF_SMTP_PASSWORD and secret.startswith("B"):
        instead = "with mode: smtp it is smtp_password" if ses.mode == "api" else "put it under smtp_password"
        mend = f"give the secret access key of IAM; {instead}"
        report.warn((*loc, "secret_access_key"), "this looks like an SMTP password", mend)
    if ses.mode == "api" and (ses.access_key_id or "").startswith("ASIA") and ses.session_token is None:
        report.warn((*loc, "access_key_id"), "begins with ASIA: a temporary key, which needs its session_token")


def _postmark(keys: _Keys, postmark: PostmarkProvider) -> None:
    pair = ("smtp_access_key", "smtp_secret_key")
    for one, other in (pair, pair[::-1]):
        if keys.given(one) and not keys.given(other):
            keys.add(one, f"needs the {other} of the same SMTP token", f'add {other}: "${{cred:postmark}}"', at_key=True)
    if keys.given("token") or not keys.good("mode"):
        return
    by_pair = keys.given(pair[0]) or keys.given(pair[1])
    if postmark.mode == "api":
        keys.add("token", "missing", 'add token: "${env:POSTMARK_TOKEN}"' + (", or set mode: smtp" if by_pair else ""), at_key=True)
    elif not by_pair:
        keys.add("token", "missing", 'add token: "${env:POSTMARK_TOKEN}", or smtp_access_key and smtp_secret_key', at_key=True)


def _mailtrap(keys: _Keys, mailtrap: MailtrapProvider) -> None:
    if not keys.good("stream"):
        return
    if mailtrap.stream != "sandbox":
        if not keys.given("token"):
            keys.add("token", "missing", 'add token: "${env:MAILTRAP_TOKEN}"', at_key=True)
        for key in ("username", "password"):
            if keys.given(key):
                keys.add(
                    key,
                    f"is for the sandbox; the stream {mailtrap.stream} takes the token",
                    "remove it, or set stream: sandbox",
                    at_key=True,
                )
        return
    for key, mend in (("username", "add username: the one of the sandbox"), ("password", 'add password: "${cred:mailtrap}"')):
        if not keys.given(key):
            keys.add(key, "missing: a sandbox has a login of its own", mend, at_key=True)
    if keys.given("token"):
        keys.add("token", "a sandbox takes username and password, no token", "remove it", at_key=True)


def _warn_of_port(loc: Loc, provider: ProviderConfig, report: Report) -> None:
    """A door that the provider does not document; where another host is named, anything goes."""
    own_host = "host" not in getattr(provider, "model_fields_set", ())
    by_smtp = getattr(provider, "mode", "") == "smtp"
    known = _PORTS.get(provider.type, ())
    if not isinstance(provider, SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider) or not by_smtp or not own_host:
        return
    if provider.port not in known:
        report.warn((*loc, "port"), f"this provider takes mail on {', '.join(map(str, known))}, as far as relay knows")
