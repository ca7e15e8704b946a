"""The SMTP doors of the providers that relay knows: where they are, how one logs in, what they take, which fields they read.

A preset is what stands in a provider's documentation and need not stand in the configuration. `stamp` makes the control
fields that leave with a message: the app's own of that provider's dialect, which no other provider gets to see, and our queue
id, which comes back in the provider's events. Other dialects are not translated here. Pure; nothing here raises.
Sources, 2026-11: Amazon SES developer guide ("Connecting to the SMTP endpoint", "Obtaining SES SMTP credentials", "Service
quotas", "Specifying a configuration set"); Mailtrap docs ("SMTP integration", "Sending limits", "Custom variables"); Postmark
support articles 811 and 1125 and "Send email with SMTP"; Paubox email API docs ("SMTP").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Never

from relay import header

QUEUE_ID = "relay-id"
"""The name under which our queue id goes to a provider: message tag, metadata key or custom variable."""

_MEGABYTE = 1024 * 1024
MAX_VARIABLES = 1000  # octets of X-MT-Custom-Variables; a longer one is ignored as a whole
MAX_METADATA = 10  # keys that Postmark takes
_FOLD = 900  # octets from which on a field of ours is folded
_BROADCASTS = frozenset({"broadcast", "broadcasts"})

# The prefix of each dialect's fields. The provider takes its own out before delivery; `relay` is read by nobody else.
PREFIXES = {"ses": "x-ses-", "postmark": "x-pm-", "mailtrap": "x-mt-", "relay": "x-relay-"}
# Spellings in use that Postmark does not read.
_RESPELT = {"x-pm-track-opens": "X-PM-TrackOpens", "x-pm-track-links": "X-PM-TrackLinks"}


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider's SMTP door. `max_recipients` bounds one transaction, `max_messages` one connection, `connections` how many
    may be open at once (0: nobody says), `max_size` the message in octets where the server itself does not refuse (0: it does).

    `dialect` names the control fields it reads, `defaults` those that mail without its own gets. `needs_sender`: the null
    reverse-path is refused, or nobody says that it is taken. `seven_bit`: 8-bit text is re-encoded where it may be, because
    the provider rewrites bodies and spoils it.
    """

    host: str
    username: str = field(repr=False)  # a token, with Postmark
    password: str = field(repr=False)
    dialect: str
    port: int = 587
    defaults: tuple[tuple[str, str], ...] = ()
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
) -> Preset:
    """Amazon SES in one region. The password is `smtp_password`, else the one derived from `secret_access_key`."""
    suffix = ".cn" if region.startswith("cn-") else ""
    defaults = (
        ("X-SES-CONFIGURATION-SET", configuration_set),
        ("X-SES-SOURCE-ARN", identity_arn),
        ("X-SES-FROM-ARN", identity_arn),
    )
    return Preset(
        host=f"email-smtp.{region}.amazonaws.com{suffix}",
        username=access_key_id.strip(),
        password=smtp_password.strip() or ses_smtp_password(secret_access_key.strip(), region),
        dialect="ses",
        defaults=tuple((name, value) for name, value in defaults if value),
        max_recipients=50,
        max_size=40 * _MEGABYTE,
    )


def mailtrap(stream: str, token: str = "", username: str = "", password: str = "") -> Preset:
    """Mailtrap: `stream` transactional or bulk with the API token, sandbox with a login of its own."""
    host = {"bulk": "bulk.smtp.mailtrap.io", "sandbox": "sandbox.smtp.mailtrap.io"}.get(stream, "live.smtp.mailtrap.io")
    if stream == "sandbox":
        return Preset(host, username.strip(), password.strip(), "mailtrap", connections=10)
    return Preset(host, "api", token.strip(), "mailtrap", connections=10)


def postmark(stream: str, token: str = "", access_key: str = "", secret_key: str = "") -> Preset:
    """Postmark: an SMTP token, which is bound to its stream, or the server token as both names with the stream in a field.

    Broadcast streams have a host of their own. A stream's kind is not in its name: only Postmark's own names for the default
    one are known here, others need `host` in the configuration.
    """
    host = "smtp-broadcasts.postmarkapp.com" if stream in _BROADCASTS else "smtp.postmarkapp.com"
    bound = bool(access_key)
    return Preset(
        host=host,
        username=(access_key or token).strip(),
        password=(secret_key if bound else token).strip(),
        dialect="postmark",
        defaults=() if bound or not stream else (("X-PM-Message-Stream", stream),),
        max_recipients=50,
        max_size=10 * _MEGABYTE,  # its server announces 20, takes more than 10, and drops it with an event
    )


def paubox(api_key: str) -> Preset:
    """Paubox: the literal `apikey` and the API key. White space around or in a pasted key is left out."""
    return Preset("smtp.paubox.com", "apikey", "".join(api_key.split()), "paubox")


def ses_smtp_password(secret: str, region: str) -> str:
    """The SMTP password that belongs to an IAM secret access key in one region (version 4; 44 characters).

    Source: Amazon SES developer guide, "Obtaining Amazon SES SMTP credentials by converting existing AWS credentials" (2026-11).
    """
    key = f"AWS4{secret}".encode()
    for word in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        key = hmac.digest(key, word.encode(), hashlib.sha256)
    return base64.b64encode(b"\x04" + key).decode()


def obeys(dialect: str, controls: Collection[str] | None) -> bool:
    """Whether the app's own fields of this dialect count: `controls` are the dialects its listener obeys, None for mail that
    came from no listener."""
    return controls is None or dialect in controls


def stamp(
    dialect: str, block: bytes, queue_id: str, *, obeyed: bool, defaults: Sequence[tuple[str, str]] = (), eight_bit: bool = True
) -> bytes:
    """The control fields to put on top of a message with header block `block`, each ended by CRLF; b"" where the dialect has none.

    `obeyed`: the app's own fields of the dialect are passed on, as they came; ours never take the place of one of them. Fields
    with lines that no server takes, or with 8-bit octets where these may not leave (`eight_bit`), are left out.
    """
    if dialect == "paubox":
        return f"X-Relay-Id: {queue_id}\r\n".encode()
    prefix = PREFIXES.get(dialect)
    if prefix is None:
        return b""
    own = [(name, whole) for name, whole in header.fields(block) if name.startswith(prefix)] if obeyed else []
    own = [(name, whole) for name, whole in own if _fits(whole) and (eight_bit or whole.isascii())]
    given = {name for name, _ in own}
    added = [(name.lower(), f"{name}: {value}\r\n".encode()) for name, value in defaults if name.lower() not in given]
    if dialect == "ses":
        own = _with_tag(own, queue_id)
    elif dialect == "mailtrap":
        own = _with_variable(own, queue_id)
    else:
        own = _with_metadata(own, queue_id)
    return b"".join(whole for _, whole in [*added, *own])


def configuration_set(fields: bytes) -> str:
    """The configuration set of Amazon SES that stamped fields name; "" where they name none."""
    return header.text(header.first(fields, "x-ses-configuration-set"))


def contact_list(fields: bytes) -> bool:
    """Whether stamped fields ask Amazon SES to manage subscriptions by a contact list."""
    return bool(header.first(fields, "x-ses-list-management-options"))


_Fields = list[tuple[str, bytes]]


def _with_tag(own: _Fields, queue_id: str) -> _Fields:
    """Amazon SES: `name=value, name=value` in one field, the queue id as one more tag."""
    name = "x-ses-message-tags"
    values = b",".join(header.value(whole) for found, whole in own if found == name).decode("utf-8", "surrogateescape")
    tags = [tag.strip() for tag in values.split(",") if tag.strip()]
    if QUEUE_ID in {tag.partition("=")[0].strip().lower() for tag in tags}:
        return own
    return _merged(own, name, _field("X-SES-MESSAGE-TAGS", [*tags, f"{QUEUE_ID}={queue_id}"], ", "))


def _with_variable(own: _Fields, queue_id: str) -> _Fields:
    """Mailtrap: one JSON object, the queue id as one more of its values. What is no such object is left to Mailtrap."""
    name = "x-mt-custom-variables"
    found = [header.value(whole) for field_name, whole in own if field_name == name]
    try:
        variables = json.loads(found[0], parse_constant=_no_constant) if found else {}
        if len(found) > 1 or not isinstance(variables, dict) or QUEUE_ID in variables:
            return own
        text = json.dumps({**variables, QUEUE_ID: queue_id}, separators=("\n", ":"), allow_nan=False)  # 1e999 is read as infinity
    except (ValueError, RecursionError):
        return own
    pieces = text.split("\n")  # JSON text holds no line end
    if len(", ".join(pieces)) > MAX_VARIABLES:
        return own
    return _merged(own, name, _field("X-MT-Custom-Variables", pieces, ","))


def _with_metadata(own: _Fields, queue_id: str) -> _Fields:
    """Postmark: a field for each key; the Message-ID is kept unless the app says otherwise."""
    given = {name for name, _ in own}
    respelt = [
        (name, _RESPELT[name].encode() + whole[whole.index(b":") :] if name in _RESPELT else whole)
        for name, whole in own
        if _RESPELT.get(name, "").lower() not in given
    ]
    keys = {name for name in given if name.startswith("x-pm-metadata-")}
    if "x-pm-keepid" not in given:
        respelt.append(("x-pm-keepid", b"X-PM-KeepID: true\r\n"))
    if len(keys) < MAX_METADATA and f"x-pm-metadata-{QUEUE_ID}" not in keys:
        respelt.append((f"x-pm-metadata-{QUEUE_ID}", f"X-PM-Metadata-{QUEUE_ID}: {queue_id}\r\n".encode()))
    return respelt


def _merged(own: _Fields, name: str, field_: bytes) -> _Fields:
    """`field_` in place of all fields called `name`; as it was where it would have a line that is too long."""
    if not _fits(field_):
        return own
    return [(found, whole) for found, whole in own if found != name] + [(name, field_)]


def _field(name: str, pieces: Sequence[str], joint: str) -> bytes:
    """A field of pieces on one line, or, where that is long, with one on each line."""
    line = f"{name}: {joint.join(pieces)}\r\n".encode("utf-8", "surrogateescape")
    if len(line) <= _FOLD:
        return line
    folded = f"{joint.rstrip()}\r\n ".join(pieces)
    return f"{name}: {folded}\r\n".encode("utf-8", "surrogateescape")


def _fits(whole: bytes) -> bool:
    return all(len(line) <= header.MAX_LINE for line in whole.split(b"\r\n"))


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
