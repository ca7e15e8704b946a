"""APIs of providers as local servers play them: who may ask, what a request holds, and a whole acceptance of it.

`Account` is one account at one provider, in the place of a script of tests.servers.HttpServer. It takes what the provider documents
(2026-11), refuses what is beyond its documented limits and who has not its secret, and keeps what it took. Of what it was sent it
reads only what the provider reads.
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.utils import getaddresses
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers import HttpAnswer, Request, Response

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Taken:
    """A message as an API took it. `raw` is the whole message where it came as it is; `template` is what names one, with its values
    under `values`. `queue_id` is the one that relay sent along, `path` where it was sent."""

    recipients: tuple[str, ...]
    queue_id: str
    path: str
    subject: str = ""
    text: str = ""
    html: str = ""
    files: tuple[bytes, ...] = ()
    raw: bytes = b""
    template: Json = field(default_factory=dict)


class Account(ABC):
    """An account whose login is `secret`. `says` answers requests for a while in place of it; None leaves them to it."""

    most: int
    """Messages in one request."""
    most_recipients: int
    """Recipients of one message."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.posts = 0
        self.taken: list[Taken] = []
        self.says: Callable[[Request], HttpAnswer | None] = lambda request: None

    def __call__(self, request: Request) -> HttpAnswer:
        """The answer to one request."""
        self.posts += request.method == "POST"
        if (said := self.says(request)) is not None:
            return said
        if not self.knows(request):
            return self.stranger()
        if request.method == "GET":
            return _json(200, self.told(request))
        mails = self.mails(request)
        if not mails:
            return self.refused(400, "nothing is in it")
        found = [self.read(request, mail) for mail in mails]
        if len(found) > self.most or any(len(one.recipients) > self.most_recipients for one in found):
            return self.refused(413 if len(found) > self.most else 400, "more than is taken at once")
        self.taken += found
        return _json(200, self.accepted(request, found))

    @abstractmethod
    def knows(self, request: Request) -> bool:
        """Whether whoever asks has the secret."""

    @abstractmethod
    def stranger(self) -> Response:
        """What the others hear."""

    @abstractmethod
    def told(self, request: Request) -> object:
        """The answer to a question."""

    @abstractmethod
    def mails(self, request: Request) -> Sequence[Json]:
        """The messages of a request, be it one or a batch."""

    @abstractmethod
    def read(self, request: Request, mail: Json) -> Taken:
        """One of them."""

    @abstractmethod
    def accepted(self, request: Request, found: Sequence[Taken]) -> object:
        """The acceptance of all."""

    @abstractmethod
    def refused(self, status: int, text: str) -> Response:
        """The refusal of all."""


class Postmark(Account):
    """Postmark, with one live server."""

    most, most_recipients = 500, 50

    def knows(self, request: Request) -> bool:
        """By the server token."""
        return request.headers.get("x-postmark-server-token") == self.secret

    def stranger(self) -> Response:
        """Error 10."""
        return _json(401, {"ErrorCode": 10, "Message": "Request does not contain a valid Server token."})

    def told(self, request: Request) -> object:
        """The server, or a stream."""
        if request.path.startswith("/message-streams/"):
            return {"ID": request.path.rpartition("/")[2], "MessageStreamType": "Transactional", "ArchivedAt": None}
        return {"ID": 1, "Name": "shop", "DeliveryType": "Live", "TrackOpens": False, "TrackLinks": "None"}

    def mails(self, request: Request) -> Sequence[Json]:
        """One, a list, or a list of those with templates."""
        return postmark_messages(request)

    def read(self, request: Request, mail: Json) -> Taken:
        """Its fields."""
        return Taken(
            addresses(mail.get(name, "") for name in ("To", "Cc", "Bcc")),
            mail["Metadata"]["relay-id"],
            request.path,
            mail.get("Subject", ""),
            mail.get("TextBody", ""),
            mail.get("HtmlBody", ""),
            tuple(octets(file["Content"]) for file in mail.get("Attachments", ())),
            template=_template(mail, "TemplateModel", "TemplateId", "TemplateAlias"),
        )

    def accepted(self, request: Request, found: Sequence[Taken]) -> object:
        """One object, or a list."""
        return _postmark_accepted(request, len(found))

    def refused(self, status: int, text: str) -> Response:
        """Error 300."""
        return _json(422, {"ErrorCode": 300, "Message": text})


class Mailtrap(Account):
    """Mailtrap."""

    most, most_recipients = 500, 3000

    def knows(self, request: Request) -> bool:
        """By the API token."""
        return request.headers.get("authorization") == f"Bearer {self.secret}"

    def stranger(self) -> Response:
        """401."""
        return _json(401, {"success": False, "errors": ["Unauthorized"]})

    def told(self, request: Request) -> object:
        """Nothing is asked."""
        raise AssertionError(f"{request.path}: Mailtrap has no such question")

    def mails(self, request: Request) -> Sequence[Json]:
        """One, or those of a batch with what they have in common."""
        body = json.loads(request.body)
        if "/batch" in request.path:
            return [{**body.get("base", {}), **one} for one in body["requests"]]
        return [body] if body else []

    def read(self, request: Request, mail: Json) -> Taken:
        """Its fields. Subject and a body are required, but of a template."""
        template = _template(mail, "template_variables", "template_uuid")
        assert template or (mail["subject"] and (mail.get("text") or mail.get("html")))
        return Taken(
            tuple(box["email"] for name in ("to", "cc", "bcc") for box in mail.get(name, ())),
            mail["custom_variables"]["relay-id"],
            request.path,
            mail.get("subject", ""),
            mail.get("text", ""),
            mail.get("html", ""),
            tuple(octets(file["content"]) for file in mail.get("attachments", ())),
            template=template,
        )

    def accepted(self, request: Request, found: Sequence[Taken]) -> object:
        """An id for each recipient."""
        results = [{"success": True, "message_ids": [f"fake-{one.queue_id}-{to}" for to in one.recipients]} for one in found]
        return {"success": True, "responses": results} if "/batch" in request.path else results[0]

    def refused(self, status: int, text: str) -> Response:
        """A list of texts."""
        return _json(status, {"success": False, "errors": [text]})


class Paubox(Account):
    """Paubox. Its API is at /v1/clinic."""

    most, most_recipients = 50, 100

    def knows(self, request: Request) -> bool:
        """By the API key, said as `token`."""
        return request.headers.get("authorization") == f"Token token={self.secret}" and request.path.startswith("/v1/clinic/")

    def stranger(self) -> Response:
        """401."""
        return self.refused(401, "Unauthorized")

    def told(self, request: Request) -> object:
        """The receipt of a message that nobody sent."""
        return {"sourceTrackingId": parse_qs(urlsplit(request.path).query)["sourceTrackingId"][0], "data": None}

    def mails(self, request: Request) -> Sequence[Json]:
        """One, those of a bulk, or one with a template; with what stands beside it."""
        data = json.loads(request.body)["data"]
        beside = {name: value for name, value in data.items() if name not in ("message", "messages")}
        return [{**beside, **one} for one in data.get("messages") or [data["message"]]]

    def read(self, request: Request, mail: Json) -> Taken:
        """Its fields, the HTML in base64."""
        fields, content = mail["headers"], mail.get("content", {})
        assert mail["allowNonTLS"] is False
        return Taken(
            addresses(one for name in ("recipients", "cc", "bcc") for one in mail.get(name, ())),
            fields["X-Relay-Id"],
            request.path,
            fields["subject"],
            content.get("text/plain", ""),
            octets(content.get("text/html", "")).decode(),
            tuple(octets(file["content"]) for file in mail.get("attachments", ())),
            template=_template({**mail, "values": json.loads(mail.get("template_values", "null"))}, "values", "template_name"),
        )

    def accepted(self, request: Request, found: Sequence[Taken]) -> object:
        """An object for each."""
        names = [one.queue_id for one in found]
        taken = [{"sourceTrackingId": f"fake-{name}", "customHeaders": {"X-Relay-Id": name}, "data": "Service OK"} for name in names]
        return {"messages": taken} if "/bulk" in request.path else taken[0]

    def refused(self, status: int, text: str) -> Response:
        """A list of objects."""
        return _json(status, {"errors": [{"code": status, "title": text, "details": text}]})


class Ses(Account):
    """Amazon SES, whose `secret` is the id of an access key: who has it is believed the rest (its signature is tested elsewhere)."""

    most, most_recipients = 1, 50

    def knows(self, request: Request) -> bool:
        """By the scope of the signature."""
        return f"Credential={self.secret}/" in request.headers.get("authorization", "")

    def stranger(self) -> Response:
        """403."""
        text = b'{"message":"The security token included in the request is invalid."}'
        return Response(403, text, {"x-amzn-ErrorType": "UnrecognizedClientException"})

    def told(self, request: Request) -> object:
        """GetAccount."""
        assert urlsplit(request.path).path.endswith("/v2/email/account")
        quota = {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 812.0}
        return {"SendingEnabled": True, "ProductionAccessEnabled": True, "EnforcementStatus": "HEALTHY", "SendQuota": quota}

    def mails(self, request: Request) -> Sequence[Json]:
        """One."""
        assert urlsplit(request.path).path.endswith("/v2/email/outbound-emails")
        return [json.loads(request.body)]

    def read(self, request: Request, mail: Json) -> Taken:
        """SendEmail: recipients are those of Destination; none are taken out of a raw message."""
        content = mail["Content"]
        simple = content.get("Simple", {})
        body = {name: part["Data"] for name, part in simple.get("Body", {}).items()}
        files = {**simple, **content.get("Template", {})}.get("Attachments", ())
        asked = content.get("Template", {})
        template = _template({**asked, "values": json.loads(asked.get("TemplateData", "null"))}, "values", "TemplateName", "TemplateArn")
        return Taken(
            addresses(one for name in ("ToAddresses", "CcAddresses", "BccAddresses") for one in mail["Destination"].get(name, ())),
            next(tag["Value"] for tag in mail["EmailTags"] if tag["Name"] == "relay-id"),
            urlsplit(request.path).path,
            simple.get("Subject", {}).get("Data", ""),
            body.get("Text", ""),
            body.get("Html", ""),
            tuple(octets(file["RawContent"]) for file in files),
            octets(content.get("Raw", {}).get("Data", "")),
            template,
        )

    def accepted(self, request: Request, found: Sequence[Taken]) -> object:
        """An id."""
        return {"MessageId": f"fake-{found[0].queue_id}"}

    def refused(self, status: int, text: str) -> Response:
        """400 in the shape of AWS."""
        return Response(400, json.dumps({"message": text}).encode(), {"x-amzn-ErrorType": "BadRequestException"})


class LowCode(Ses):
    """LowCodeAPI, whose token is in the URL; what Amazon says is in an envelope."""

    def knows(self, request: Request) -> bool:
        """By the token."""
        return parse_qs(urlsplit(request.path).query) == {"api_token": [self.secret]}

    def stranger(self) -> Response:
        """401."""
        return _json(401, {"message": "Unauthorized: invalid api_token"})

    def told(self, request: Request) -> object:
        """GetAccount, wrapped."""
        return {"message": "Request completed", "provider": "awsses", "result": super().told(request)}

    def accepted(self, request: Request, found: Sequence[Taken]) -> object:
        """An id, wrapped."""
        return {"message": "Request completed", "provider": "awsses", "result": super().accepted(request, found)}


def postmark_messages(request: Request) -> list[dict[str, Any]]:
    """The messages of a request to Postmark, be it one or a batch."""
    body = json.loads(request.body)
    found: list[dict[str, Any]] = body if isinstance(body, list) else body.get("Messages", [body])
    return found


def postmark_takes(request: Request) -> Response:
    """Postmark's acceptance of all messages of a request."""
    return _json(200, _postmark_accepted(request, len(postmark_messages(request))))


def addresses(fields: Iterable[str]) -> tuple[str, ...]:
    """The bare addresses of address fields, read by the standard library."""
    return tuple(address for _, address in getaddresses([field for field in fields if field]) if address)


def octets(content: str) -> bytes:
    """Base64 as a strict reader takes it."""
    return base64.b64decode(content, validate=True)


def received_as(raw: bytes) -> str:
    """The queue id in the topmost Received of a message that came as it is."""
    trace = str(message_from_bytes(raw)["Received"])
    return " ".join(trace.split()).partition(" id ")[2].partition(" ")[0].rstrip(";")


def _postmark_accepted(request: Request, count: int) -> object:
    taken = [{"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a-fake", "To": "x"} for _ in range(count)]
    return taken if "atch" in request.path else taken[0]


def _template(mail: Json, values: str, *names: str) -> Json:
    """What names a template, and its values; nothing where none is named."""
    named = {name: mail[name] for name in names if name in mail}
    return {**named, "values": mail[values]} if named else {}


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode())
