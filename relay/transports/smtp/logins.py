"""What the login by SMTP is called where a person has to find it: the keys of the configuration, and variables of a shell.

A provider's door has the same login as its API, in keys of its own (relay/transports/presets.py makes a name and a password of
them); only a smarthost has `username` and `password`. Pure; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.transports.smtp.settings import SmtpSettings

_KEYS: Mapping[str, str] = {
    "ses": "access_key_id, region and secret_access_key (or smtp_password)",
    "postmark": "token (or smtp_access_key and smtp_secret_key)",
    "mailtrap": "token (for a sandbox username and password)",
    "paubox": "api_key",
}
_SMARTHOST = "username and password"
_LITERAL = {"mailtrap": ("api", "$MAILTRAP_TOKEN"), "paubox": ("apikey", "$PAUBOX_API_KEY")}  # the same for everybody


def keys(dialect: str) -> str:
    """The keys of a provider of this dialect that make its login; "" is a smarthost."""
    return _KEYS.get(dialect, _SMARTHOST)


def user(settings: SmtpSettings) -> str:
    """`name:password` as curl's --user takes it, with a shell variable in place of every secret; "" where nobody logs in."""
    if not settings.username:
        return ""
    name, secret = _LITERAL.get(settings.dialect, ("", ""))
    if name and name == settings.username:
        return f"{name}:{secret}"
    match settings.dialect:
        case "mailtrap":  # a sandbox
            return "$MAILTRAP_USERNAME:$MAILTRAP_PASSWORD"
        case "postmark":  # an SMTP token, which is bound to a stream, or the server token as both
            return "$POSTMARK_SMTP_ACCESS_KEY:$POSTMARK_SMTP_SECRET_KEY" if settings.stream else "$POSTMARK_TOKEN:$POSTMARK_TOKEN"
        case "ses":
            return "$AWS_ACCESS_KEY_ID:$SES_SMTP_PASSWORD"
    return "$SMTP_USERNAME:$SMTP_PASSWORD"
