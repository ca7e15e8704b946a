"""Django's mail with django-anymail's backends: how others turn a message into requests for Postmark, Mailtrap and Amazon SES.

`Anymail` is a local server in the place of all three. `Anymail.sent` reads a message with the standard library, builds the
EmailMultiAlternatives that an app would have built, has a backend send it there, and returns the request. What Django cannot
say is left out: a header field that stands several times is passed once, control headers not at all (`attributes` takes what
anymail has in their place: tags, metadata, template_id, merge_global_data, track_opens, esp_extra; where a template is refused for
them, `subject=""` and `body=""`).

    with Anymail() as anymail:
        request = anymail.sent("postmark", data, ["a@example.net"], tags=["welcome"])
        assert "/email" == request.path

Raises what Django and anymail raise for a message that they do not take: Refused, and UnicodeError or LookupError for charsets.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from email import encoders, message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.mime.base import MIMEBase
from email.utils import quote
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, cast
from unittest.mock import patch
from urllib.parse import unquote

import idna
from anymail.exceptions import AnymailError  # type: ignore[import-untyped] # it has no types
from django.conf import settings  # type: ignore[import-untyped] # it has no types
from django.core.mail import BadHeaderError, EmailMultiAlternatives, get_connection  # type: ignore[import-untyped] # it has no types

from tests.servers import Request

Esp = Literal["postmark", "mailtrap", "amazon_ses"]
Refused = (AnymailError, BadHeaderError)
TOKEN = "canary-anymail"

# Django has one configuration for a process; everything that differs is given to a backend as it is opened.
if not settings.configured:
    settings.configure(USE_I18N=False, DEFAULT_CHARSET="utf-8")

# What an app gives by parameters of the message, what a mail system adds on the way, and what asks a vendor for something.
_NOT_PASSED = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "mime-version", "sender", "return-path", "received", "delivered-to"}
    | {"dkim-signature", "domainkey-signature", "authentication-results", "resent-bcc"}
)
_NOT_PASSED_PREFIXES = ("content-", "arc-", "x-google-", "x-pm-", "x-ses-", "x-mt-", "x-relay-")


class _Handler(BaseHTTPRequestHandler):
    """Takes every request down and answers as the provider would."""

    def __init__(self, taken: list[Request], *given: Any) -> None:
        self.taken = taken
        super().__init__(*given)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append(Request("POST", self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        text = json.dumps(_answer(self.path, json.loads(body))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


def _answer(path: str, body: Any) -> object:
    """That it was taken, in the words of the provider whose path it is."""
    if path.startswith("/email"):
        messages = body if isinstance(body, list) else body.get("Messages", [body])
        taken = [{"To": one.get("To", ""), "MessageID": "1", "ErrorCode": 0, "Message": "OK"} for one in messages]
        return taken if "batch" in path else taken[0]
    if path.startswith("/api/"):
        requests = body.get("requests", [body])
        sandbox = path.rpartition("/")[2].isdigit()
        every = [sum(len(one.get(name, [])) for name in ("to", "cc", "bcc")) for one in requests]
        found = [{"success": True, "message_ids": [str(number) for number in range(1 if sandbox else count)]} for count in every]
        return {"success": True, "responses": found} if "requests" in body else found[0]
    return {"MessageId": "1", "BulkEmailEntryResults": [{"Status": "SUCCESS", "MessageId": "1"}] * len(body.get("BulkEmailEntries", []))}


def no_proxy() -> AbstractContextManager[object]:
    """What an environment says of proxies does not hold for local servers."""
    return patch.dict(os.environ, {"NO_PROXY": "127.0.0.1"})


class Anymail:
    """A server in the place of Postmark, Mailtrap and Amazon SES, and anymail's backends beside it; a context manager. `taken` are
    the requests of whoever else speaks to it."""

    def __init__(self) -> None:
        self.taken: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self.taken))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def sent(
        self, esp: Esp, data: bytes, recipients: Sequence[str], *, options: dict[str, Any] | None = None, **attributes: Any
    ) -> Request:
        """The request by which anymail sends the message to these recipients of the envelope. `options` are further settings of
        the backend (`message_stream`, `sandbox_id`, `configuration_set_name`); `attributes` are set on the message."""
        message = as_django(data, recipients)
        for name, value in attributes.items():
            setattr(message, name, value)
        with no_proxy():
            message.connection = get_connection(f"anymail.backends.{esp}.EmailBackend", **self._settings(esp), **(options or {}))
            message.send()
        return self.taken.pop()

    def _settings(self, esp: Esp) -> dict[str, Any]:
        if esp == "postmark":
            return {"server_token": TOKEN, "api_url": self.url}
        if esp == "mailtrap":
            return {"api_token": TOKEN, "api_url": f"{self.url}/api/"}
        keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": TOKEN, "region_name": "eu-west-1"}
        return {"client_params": {"endpoint_url": self.url, **keys}}


def as_django(data: bytes, recipients: Sequence[str]) -> Any:
    """The message as a Django app would have built it: visible are the recipients that its To and Cc show, the others are Bcc; a
    Cc without a To takes its place, and where the header shows nobody, all are To."""
    parsed = message_from_bytes(data, policy=policy.default)
    text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    markup = html.get_content() if html else ""
    to, cc, bcc = _addressed(parsed, recipients)
    message = EmailMultiAlternatives(
        subject=_text(str(parsed["subject"] or "")),
        body=text.get_content() if text else markup,
        from_email=", ".join(map(_written, _addresses(parsed, "from"))),
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=list(map(_written, _addresses(parsed, "reply-to"))),
        headers=_headers(parsed),
        attachments=[_file(part, markup) for part in _leaves(parsed) if part not in (text, html)],
    )
    if html and text:
        message.attach_alternative(markup, "text/html")
    elif html:
        message.content_subtype = "html"
    return message


def _headers(parsed: EmailMessage) -> dict[str, str]:
    """Every other field, decoded; of several the first."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in parsed.items():
        if name.lower() not in _NOT_PASSED and not name.lower().startswith(_NOT_PASSED_PREFIXES):
            found.setdefault(name.lower(), (name, _text(str(value))))
    return dict(found.values())


def _addresses(parsed: EmailMessage, name: str) -> list[Address]:
    return [address for field in parsed.get_all(name, []) for address in field.addresses if address.addr_spec]


def _written(address: Address, recipient: str = "") -> str:
    """As an app writes it; `recipient` is how the envelope spells it."""
    spelt = recipient or _text(address.addr_spec)
    return f'"{quote(_text(address.display_name))}" <{spelt}>' if address.display_name else spelt


def _text(value: str) -> str:
    """What an app would have given as text: raw octets of a header are UTF-8 to it."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _addressed(parsed: EmailMessage, recipients: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    left = list(recipients)
    shown: dict[str, list[str]] = {"to": [], "cc": []}
    for name, found in shown.items():
        for address in _addresses(parsed, name):
            recipient = next((one for one in left if _same(one, _text(address.addr_spec))), None)
            if recipient:
                left.remove(recipient)
                found.append(_written(address, recipient))
    if shown["to"]:
        return shown["to"], shown["cc"], left
    return (shown["cc"], [], left) if shown["cc"] else (left, [], [])


def _same(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox: domains in any case and form, local parts as most hosts read them, in any case."""
    (local, _, domain), (its_local, _, its_domain) = one.rpartition("@"), other.rpartition("@")
    return local.lower() == its_local.lower() and _ascii(domain) == _ascii(its_domain)


def _ascii(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode().lower()
    except idna.IDNAError:
        return domain.lower()


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold content; a message inside is one."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for child in part.iter_parts():
            yield from _leaves(cast(EmailMessage, child))
    else:
        yield part


def _file(part: EmailMessage, html: str) -> MIMEBase | tuple[str, bytes, str]:
    """A part as Django takes it: inline where the HTML shows it by its Content-ID."""
    kind = part.get_content_type()
    name = part.get_filename("")
    if part.get_content_maintype() == "message" and part.is_multipart():
        inner = cast(list[EmailMessage], part.get_payload())
        return (name, b"".join(one.as_bytes(policy=policy.SMTP) for one in inner), kind)
    file = MIMEBase(*kind.split("/", 1))
    for parameter in ("charset", "method"):
        if value := part.get_param(parameter):
            file.set_param(parameter, str(value))
    file.set_payload(part.get_payload(decode=True))
    encoders.encode_base64(file)
    content_id = str(part.get("content-id", "")).strip("<> ")
    inline = bool(content_id) and f"cid:{content_id}" in unquote(html)
    file.add_header("Content-Disposition", "inline" if inline else "attachment", **({"filename": ("utf-8", "", name)} if name else {}))
    if inline:
        file.add_header("Content-ID", f"<{content_id}>")
    return file
