"""Mailtrap as others speak to it: django-anymail's backend and Mailtrap's own client for Python, both independent of us.

anymail (15.2) builds requests from what the standard library reads in the same messages; `DIFFERENT` is the whole list of what it does
otherwise, with the reason. Before they are compared:

- line ends of texts are LF, parameters of a content type have no needless quotes, the default disposition is written down;
- values of fields are compared decoded, and without spaces at their ends;
- our queue id, and Message-ID (which Mailtrap's own client for Ruby does not send), are left out.

Mailtrap's client (2.11) knows the schema: each request of ours is read into its classes and written by them again. Its limits: a base
with a sender and a subject is required for a batch, which the API's description does not ask for.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import mailtrap  # type: ignore[import-untyped] # it has no types
import pytest
from mailtrap.http import HttpClient  # type: ignore[import-untyped] # its way to the wire, turned to a local server

from relay import header
from relay.errors import CannotCarry
from relay.transports.base import Batching
from relay.transports.mailtrap import read
from relay.transports.mailtrap.reply import Asker
from tests.django_mail import Anymail, Refused
from tests.jobs import job
from tests.messages import BY_NAME, Sample, ours
from tests.servers import HttpServer, Response
from tests.transports.test_mailtrap import SANDBOX, TAKEN, TOKEN, UUID, account, loaded, mail, requests
from tests.transports.test_mailtrap_replies import SENT, answered

SAMPLES = {sample.name: sample for sample in ours()}
# What anymail takes as attributes in the place of control headers.
WELCOME = {"tags": ["welcome"], "metadata": {"customer": "42"}}
ATTRIBUTES: Mapping[str, dict[str, Any]] = {
    "ses-controls": WELCOME,
    "postmark-controls": {**WELCOME, "metadata": {"Customer": "42"}},
    "mailtrap-controls": {**WELCOME, "metadata": {"customer": "42", "plan": "größer"}},
    "relay-controls": {**WELCOME, "metadata": {"Customer": "42"}},
    "invoice": {"tags": ["invoice"], "metadata": {"Order": "4711"}},
}

CHARSET = "the standard library takes the declared charset at its word"
META = "the HTML says which charset it is in, and is in UTF-8 now"
NAMELESS = "a file without a name gets one that fits its type"
EMPTY = "Mailtrap takes no empty body, so it becomes a space"
SUBJECT = "Mailtrap takes no empty Subject"
HIDDEN = "nobody is shown to whom the header did not show him: bcc, which the client can say only beside an empty list"
PATH = "no path stands in a name"
NO_CHARSET = "what names no charset gets none"
DIFFERENT: Mapping[str, Mapping[str, str]] = {
    "windows-1252": {"text": CHARSET},
    "shift-jis": {"text": CHARSET},
    "gb2312": {"text": CHARSET},
    "wrong-charset": {"text": CHARSET},
    "no-charset": {"text": CHARSET},
    "latin1": {"text": "its charset is windows-1252 in truth, and flowed lines are joined"},
    "flowed": {"text": "flowed lines are joined"},
    "html-charset": {"html": META},
    "invoice": {"html": META},
    "several-html": {"file 1 filename": NAMELESS},
    "apple-inline": {"file 1 filename": NAMELESS},
    "amp": {"file 0 filename": NAMELESS, "file 0 type": NO_CHARSET},
    "attached-message": {"file 0 filename": NAMELESS},
    "pgp-encrypted": {"file 0 filename": NAMELESS, "text": EMPTY},
    "calendar": {"file 0 filename": NAMELESS},
    "invite": {"file 0 filename": NAMELESS},
    "no-name": {"file 0 filename": NAMELESS},
    "report": {
        "file 0 filename": NAMELESS,
        "file 0 content": "the standard library ends a delivery report with an empty line, where we keep its octets",
        "file 1 filename": NAMELESS,
        "file 1 type": NO_CHARSET,
    },
    "blocked-js": {"file 0 type": NO_CHARSET},
    "scanner": {"file 0 filename": PATH, "file 1 filename": NAMELESS, "text": EMPTY},
    "empty-body": {"text": EMPTY},
    "only-file": {"text": EMPTY},
    "smime-encrypted": {"text": EMPTY},
    "group": {"to": HIDDEN, "bcc": HIDDEN},
    "hidden": {"to": HIDDEN, "bcc": HIDDEN},
    "duplicate-headers": {"header Keywords": "a list may stand in several fields, which are joined"},
    "empty-subject": {"subject": SUBJECT},
    "no-subject": {"subject": SUBJECT},
    "name-raw": {"file 0 filename": PATH},
    "name-bidi": {"file 0 filename": "no character that turns the direction of writing stands in a name"},
    "empty-file": {"files": "Mailtrap takes no empty file"},
    "forward": {"files": "a text behind a forwarded message is no body, and stands behind it", "text": "the same"},
    "plain": {"header X-Empty": "an empty field says nothing"},
}
THEY_REFUSE = {
    "unknown-charset": "it knows no such charset",
    "several-from": "it takes one From address, we the first where losses are only warned of",
    "blocked": "the same",
    "php": "it reads Reply-To strictly, where we leave out what is no address",
}
WE_REFUSE = {"template-controls": "templates of Mailtrap have a UUID", "template": "the same"}


@pytest.fixture(scope="module")
def anymail() -> Iterator[Anymail]:
    with Anymail() as it:
        yield it


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """A request as it is compared: one entry for each thing that may differ."""
    found = {name: value for name, value in body.items() if name not in ("headers", "attachments", "custom_variables")}
    for name in ("text", "html"):
        if name in found:
            found[name] = found[name].replace("\r\n", "\n")
    if "subject" in found:
        found["subject"] = " ".join(found["subject"].split())
    for name in ("from", "to", "cc", "bcc", "reply_to"):
        boxes = found.get(name, [])
        for box in boxes if isinstance(boxes, list) else [boxes]:
            if "name" in box:
                box["name"] = " ".join(box["name"].split())
    for name, value in body.get("headers", {}).items():
        if name.lower() != "message-id":
            found[f"header {name}"] = header.text(value.encode())
    files = body.get("attachments", [])
    found["files"] = len(files)
    for number, file in enumerate(files):
        plain = {**file, "disposition": file.get("disposition", "attachment"), "type": file["type"].replace('"', "")}
        found |= {f"file {number} {name}": value for name, value in plain.items()}
    variables = {name: value for name, value in body.get("custom_variables", {}).items() if name != "relay-id"}
    return {**found, **({"variables": variables} if variables else {})}


@pytest.mark.parametrize("name", SAMPLES)
def test_as_anymail_builds_it(anymail: Anymail, name: str) -> None:
    """Each message becomes what anymail makes of it, but for the differences that are listed."""
    sample = SAMPLES[name]
    try:
        built = [loaded(request) for request in requests(sample.data, sample.recipients, on_loss="warn")]
    except CannotCarry:
        assert name in WE_REFUSE
        return
    try:
        theirs = normal(json.loads(anymail.sent("mailtrap", sample.data, sample.recipients, **ATTRIBUTES.get(name, {})).body))
    except (*Refused, LookupError):
        assert name in THEY_REFUSE
        return
    mine = normal(built[0])
    known = DIFFERENT.get(name, {})
    if known.get("files"):  # then the files cannot be compared one by one
        mine, theirs = ({what: value for what, value in one.items() if not what.startswith("file ")} for one in (mine, theirs))
    assert set(known) == {what for what in {*mine, *theirs} if mine.get(what) != theirs.get(what)}
    if known.get("to"):
        assert theirs["to"] == [box for body in built for box in body["bcc"]]


def test_a_template_as_anymail_asks_for_it(anymail: Anymail) -> None:
    """Subject and bodies are left out by both, variables and files go along."""
    data = mail(f'X-Relay-Template: {UUID}\nX-Relay-Template-Model: {{"n": "1", "Ü": "x"}}\n')
    (request,) = requests(data, ["b@example.net"])
    their = anymail.sent("mailtrap", data, ["b@example.net"], subject="", body="", template_id=UUID, merge_global_data={"n": "1", "Ü": "x"})
    assert normal(json.loads(their.body)) == normal(loaded(request))


def test_a_sandbox_as_anymail_finds_it(anymail: Anymail) -> None:
    """The path has the sandbox's number in both."""
    sample = BY_NAME["plain"]
    their = anymail.sent("mailtrap", sample.data, sample.recipients, options={"sandbox_id": "4015"})
    (request,) = requests(sample.data, sample.recipients, **SANDBOX)
    assert (their.path, normal(json.loads(their.body))) == (request.path, normal(loaded(request)))


# --- Mailtrap's own client ---

_RENAMED = {"from": "sender"}


def by_client(body: Mapping[str, Any], whole: type[Any]) -> Any:
    """A request of ours in the classes of Mailtrap's client."""
    fields = {_RENAMED.get(name, name): value for name, value in body.items()}
    for name in ("sender", "reply_to"):
        if name in fields:
            fields[name] = mailtrap.Address(**fields[name])
    for name in ("to", "cc", "bcc"):
        if name in fields:
            fields[name] = [mailtrap.Address(**box) for box in fields[name]]
    if "attachments" in fields:
        fields["attachments"] = [_file(file) for file in fields["attachments"]]
    return whole(**fields)


def _file(file: Mapping[str, str]) -> mailtrap.Attachment:
    return mailtrap.Attachment(
        content=file["content"].encode(),
        filename=file["filename"],
        mimetype=file["type"],
        disposition=mailtrap.Disposition(file["disposition"]),
        content_id=file.get("content_id"),
    )


@pytest.mark.parametrize("sample", [sample for name, sample in SAMPLES.items() if name not in WE_REFUSE], ids=lambda sample: sample.name)
def test_as_the_client_writes_it(sample: Sample) -> None:
    """Mailtrap's client reads each request, and writes the same; so it does with those of a batch."""
    for request in requests(sample.data, sample.recipients, on_loss="warn"):
        body = loaded(request)
        if "to" not in body:  # it wants the list, the OpenAPI description one of three
            body["to"] = []
        assert body == json.loads(json.dumps(by_client(body, mailtrap.Mail).api_data))
        assert body == json.loads(json.dumps(by_client(body, mailtrap.BatchEmailRequest).api_data))


def test_a_template_as_the_client_writes_it() -> None:
    """It has a class of its own for them, which takes neither subject nor category."""
    (request,) = requests(mail(f"X-Relay-Template: {UUID}\nX-PM-Metadata-k: v\n"), ["b@example.net"])
    body = loaded(request)
    assert body == by_client(body, mailtrap.MailFromTemplate).api_data


@pytest.mark.parametrize(
    ("settings", "client"),
    [({}, {}), ({"stream": "bulk"}, {"bulk": True}), (SANDBOX, {"sandbox": True, "inbox_id": SANDBOX["sandbox_id"]})],
)
async def test_on_the_wire(settings: dict[str, Any], client: dict[str, Any]) -> None:
    """Path, login and content type are the client's, for one message and for a batch; its host is that of our door."""
    hosts = []
    batching = Batching(500, 50_000_000, 0.2)
    several = Response(200, b'{"success":true,"responses":[{"success":true},{"success":true}]}')
    async with HttpServer([TAKEN, several, TAKEN, several]) as server, account(server, **settings, batching=batching) as transport:
        prepared = [(await transport.prepare(job("b@example.net", data=BY_NAME["plain"].data)))[0] for _ in range(2)]
        await transport.attempt(prepared[:1])
        await transport.attempt(prepared)

        def url(self: Any, path: str) -> str:
            hosts.append(f"https://{self._host}")
            return server.url + path

        def send() -> None:
            one = by_client(json.loads(server.requests[0].body), mailtrap.Mail)
            others = [by_client(body, mailtrap.BatchEmailRequest) for body in json.loads(server.requests[1].body)["requests"]]
            base = mailtrap.BatchMail(sender=one.sender, subject=one.subject)
            with patch.object(HttpClient, "_url", url), patch.dict(os.environ, {"NO_PROXY": "127.0.0.1"}):
                sender = mailtrap.MailtrapClient(TOKEN, **client)
                sender.sending_api.send(one)
                sender.sending_api.batch_send(mailtrap.BatchSendEmailParams(base=base, requests=others))

        await asyncio.to_thread(send)
    one, batch, their_one, their_batch = server.requests
    for mine, theirs in ((one, their_one), (batch, their_batch)):
        names = ("authorization", "content-type")
        assert (theirs.path, [theirs.headers[name] for name in names]) == (mine.path, [mine.headers[name] for name in names])
    assert json.loads(their_one.body) == json.loads(one.body)
    assert json.loads(their_batch.body)["requests"] == json.loads(batch.body)["requests"]
    (request,) = requests(BY_NAME["plain"].data, ["b@example.net"], **settings)
    real = {
        "transactional": "https://send.api.mailtrap.io",
        "bulk": "https://bulk.api.mailtrap.io",
        "sandbox": "https://sandbox.api.mailtrap.io",
    }
    assert [real[request.uses["stream"]]] * 2 == hosts


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "errors": ["'from' is required", "'subject' is required"]},
        {"errors": {"subject": ["is too long", "is odd"], "base": "x"}},
        {"errors": "one"},
        {"error": "one"},
    ],
)
def test_errors_as_the_client_reads_them(body: dict[str, Any]) -> None:
    """Each of the shapes comes to the same texts."""
    told = read(answered(400, body), SENT["alone"], Asker())["ann@example.net"].reply
    assert f"400 InvalidRequest: {'; '.join(HttpClient._extract_errors(body))}" == told
