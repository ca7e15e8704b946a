"""What must hold between the keys of one provider: whole pairs of keys, what each mode needs, logins in clear.

Runs on a draft: keys already reported are not judged again. No text quotes a key or a password. What is allowed and may
surprise is in relay/config/surprises.py.
"""

from __future__ import annotations

import re

from relay.config.build import Part
from relay.config.modes import TEST_TOKEN
from relay.config.problems import Report
from relay.config.providers import MailtrapProvider, PauboxProvider, PostmarkProvider, ProviderConfig, SesProvider, SmtpProvider
from relay.transports import net

_ACCESS_KEY_ID = re.compile(r"\w{16,128}", re.ASCII)  # AWS IAM API reference, AccessKey (2026-11)
_LENGTH_OF_SECRET = 40


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
    elif isinstance(provider, PauboxProvider):
        _paubox(keys, provider)


def _smarthost(keys: _Keys, provider: SmtpProvider) -> None:
    if provider.username is not None and not keys.given("password"):
        keys.add("username", "a username needs a password", 'add password: "${cred:smarthost}"', at_key=True)
    if provider.password is not None and not keys.given("username"):
        keys.add("password", "a password needs a username", "add username: relay", at_key=True)
    logs_in = provider.username is not None or provider.password is not None
    if logs_in and provider.tls == "none" and keys.good("tls", "host") and not net.is_loopback(provider.host):
        keys.add("tls", f"the password would go to {provider.host} in clear", "tls: starttls or tls: implicit")


def _ses(keys: _Keys, ses: SesProvider) -> None:
    if ses.access_key_id is not None and not _ACCESS_KEY_ID.fullmatch(ses.access_key_id):
        pasted = len(ses.access_key_id) == _LENGTH_OF_SECRET
        form = "it has 20 letters and digits and begins with AKIA or ASIA"
        keys.add("access_key_id", "is not an access key ID", "this looks like the secret_access_key" if pasted else form)
    _whole_keys_of_ses(keys)
    for key in ("fips", "dual_stack"):
        if getattr(ses, key) and keys.given("base_url"):
            keys.add(key, f"{key} and base_url exclude each other", "remove one of them", at_key=True)
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


def _postmark(keys: _Keys, postmark: PostmarkProvider) -> None:
    pair = ("smtp_access_key", "smtp_secret_key")
    for one, other in (pair, pair[::-1]):
        if keys.given(one) and not keys.given(other):
            keys.add(one, f"needs the {other} of the same SMTP token", f'add {other}: "${{cred:postmark}}"', at_key=True)
    if not keys.good("mode"):
        return
    by_pair = keys.given(pair[0]) or keys.given(pair[1])
    if postmark.mode != "smtp" and not keys.given("token"):
        keys.add("token", "missing", 'add token: "${env:POSTMARK_TOKEN}"' + (", or set mode: smtp" if by_pair else ""), at_key=True)
    elif postmark.mode == "smtp" and not by_pair and not keys.given("token"):
        keys.add("token", "missing", 'add token: "${env:POSTMARK_TOKEN}", or smtp_access_key and smtp_secret_key', at_key=True)
    elif postmark.mode == "smtp" and not by_pair and postmark.token and postmark.token.get_secret_value() == TEST_TOKEN:
        keys.add("token", f"{TEST_TOKEN} is for the API; it is no login for SMTP", "set mode: api, or give the server's token", at_key=True)


def _mailtrap(keys: _Keys, mailtrap: MailtrapProvider) -> None:
    if not keys.good("stream", "mode"):
        return
    sandbox, by_api = mailtrap.stream == "sandbox", mailtrap.mode != "smtp"
    if (by_api or not sandbox) and not keys.given("token"):
        or_else = ", or set mode: smtp" if sandbox else ""
        keys.add("token", "missing", 'add token: "${env:MAILTRAP_TOKEN}"' + or_else, at_key=True)
    if not sandbox:
        for key in filter(keys.given, ("username", "password")):
            text = f"is for the sandbox; the stream {mailtrap.stream} takes the token"
            keys.add(key, text, "remove it, or set stream: sandbox", at_key=True)
        return
    if by_api and not keys.given("sandbox_id"):
        mend = "add sandbox_id: the number in the URL of the sandbox's page, or set mode: smtp"
        keys.add("sandbox_id", "missing: the API of a sandbox wants its number", mend, at_key=True)
    if by_api and not keys.given("username") and not keys.given("password"):
        return
    for key, mend in (("username", "add username: the one of the sandbox"), ("password", 'add password: "${cred:mailtrap}"')):
        if not keys.given(key):
            keys.add(key, "missing: a sandbox has an SMTP login of its own", mend, at_key=True)


def _paubox(keys: _Keys, paubox: PauboxProvider) -> None:
    if keys.good("mode", "base_url") and paubox.mode != "smtp" and "{username}" in paubox.base_url and not keys.given("username"):
        mend = "add username: the one in the URL of your API endpoint, or set mode: smtp"
        keys.add("username", "missing: it is part of the URL of the API", mend, at_key=True)
