"""Amazon SES as others imitate it: what we send is taken, and what they stored is what we sent.

moto (in this process, on loopback) wants a credential scope and a verified sender, and refuses more than 50 recipients. Its
limits: it checks no signature; a raw message that is not UTF-8 is an error 500; of a raw request it lists (and counts) the
recipients of Destination and those of the header's To; it knows neither tags nor configuration sets there; what it says of
an unverified sender is not what Amazon says.

aws-ses-v2-local (npm) is an implementation of its own, with a schema of the request. Its limits: no signature, no
verification, no limit on recipients; of a raw message it reads the header only, so Destination counts for nothing; at most
25 MB; it takes `From  :`, with spaces before the colon, for no From. It runs where RELAY_SES_LOCAL names its program:

    npm i aws-ses-v2-local && RELAY_SES_LOCAL=$PWD/node_modules/aws-ses-v2-local/dist/cli.js make test
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from relay.errors import CannotCarry
from relay.model import Outcome, Verdict
from relay.transports.http import Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.ses import Ses, SesSettings
from tests.jobs import job
from tests.servers import HttpServer, Request, Response
from tests.test_mime import corpus, stored

LOCAL = os.environ.get("RELAY_SES_LOCAL", "")
SPACED = {"rfc2822--example13.eml"}  # `From  : …`
TEMPLATED = {"template.eml"}  # it has no such template
SETTINGS = SesSettings("ses", "us-east-1", "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
MAIL = (
    b"From: App <app@example.com>\r\nTo: Ann <ann@example.net>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-SES-Message-Tags: a=b\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello \r\n'
    b"--b\r\nContent-Type: application/octet-stream; name=x.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n3q2+7w==\r\n--b--\r\n"
)


async def attempt(url: str, *recipients: str, data: bytes = MAIL, sender: str = "app@example.com", **settings: Any) -> dict[str, Outcome]:
    """One message by the transport; outcome by recipient."""
    ses = Ses(dataclasses.replace(SETTINGS, base_url=url, **settings), Http(base_url=url, timeout=20, concurrency=2))
    return await carried(ses, *recipients, data=data, sender=sender)


async def carried(ses: Ses | LowCode, *recipients: str, data: bytes = MAIL, sender: str = "app@example.com") -> dict[str, Outcome]:
    """One message by a transport; outcome by recipient."""
    found: dict[str, Outcome] = {}
    for one in await ses.prepare(job(*recipients, data=data, sender=sender)):
        found |= {recipient: outcome for (_, recipient), outcome in (await ses.attempt([one])).items()}
    await ses.aclose()
    return found


# --- moto ---


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a moto server."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def verified(moto: str) -> str:
    """The URL of an empty moto server where example.com is verified."""
    with httpx.Client(trust_env=False) as client:
        client.post(f"{moto}/moto-api/reset")
        scope = {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260102/us-east-1/ses/aws4_request, SignedHeaders=host, Signature=0"}
        answer = client.post(f"{moto}/v2/email/identities", headers=scope, json={"EmailIdentity": "example.com"})
        assert 200 == answer.status_code
    return moto


def kept(moto: str) -> list[dict[str, object]]:
    """What moto stored."""
    with httpx.Client(trust_env=False) as client:
        found: dict[str, list[dict[str, object]]] = client.get(f"{moto}/moto-api/data.json").json()["ses"]
    return [message for messages in (found.get("RawMessage", []), found.get("Message", [])) for message in messages]


async def test_moto_takes_and_stores_what_was_sent(verified: str) -> None:
    """The message is stored octet for octet, with the recipients of the envelope, and its id comes back."""
    outcomes = await attempt(verified, "b@example.net", "c@example.org")
    assert {Verdict.OK} == {outcome.verdict for outcome in outcomes.values()}
    assert outcomes["b@example.net"].remote_id
    (message,) = kept(verified)
    text = next(value for value in message.values() if isinstance(value, str) and "multipart/mixed" in value)
    assert MAIL.decode() == text
    assert {"b@example.net", "c@example.org"} <= set(re.findall(r"[\w.]+@[\w.]+", json.dumps({**message, "raw_data": "", "body": ""})))


async def test_moto_refuses_a_sender_that_is_not_verified(verified: str) -> None:
    """Its MessageRejected is read in the shape that both have."""
    outcome = (await attempt(verified, "b@example.net", data=MAIL.replace(b"app@example.com", b"app@other.example")))["b@example.net"]
    said = "400 MessageRejected: Did not have authority to send from email app@other.example"
    assert (Verdict.PERM_MSG, said) == (outcome.verdict, outcome.reply.partition(" (request ")[0])


async def test_moto_takes_our_fifty(verified: str) -> None:
    """Requests of fifty recipients are within its limit."""
    data = MAIL.replace(b"To: Ann <ann@example.net>\r\n", b"")
    outcomes = await attempt(verified, *(f"r{number}@example.net" for number in range(120)), data=data)
    assert {Verdict.OK} == {outcome.verdict for outcome in outcomes.values()}
    assert 3 == len(kept(verified))


async def test_moto_takes_a_message_taken_apart(verified: str) -> None:
    """Sender, recipients, subject and text are stored; of files, fields and tags it knows nothing."""
    outcomes = await attempt(verified, "ann@example.net", "c@example.org", content_mode="simple")
    assert {Verdict.OK} == {outcome.verdict for outcome in outcomes.values()}
    (message,) = kept(verified)
    assert ("App <app@example.com>", "Grüße", "hello ") == (message["source"], message["subject"], str(message["body"]).rstrip("\n"))
    assert {"ToAddresses": ["Ann <ann@example.net>"], "BccAddresses": ["c@example.org"]} == message["destinations"]


# --- aws-ses-v2-local ---


@asynccontextmanager
async def local() -> AsyncIterator[str]:
    """The URL of a running aws-ses-v2-local."""
    probe = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", LOCAL, "--host", "127.0.0.1", "--port", str(port), stdout=pipe)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while b"running at" not in (await process.stdout.readline()):
                pass
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.skipif(not LOCAL, reason="RELAY_SES_LOCAL is not set: aws-ses-v2-local is not asked")
async def test_local_takes_and_stores_what_was_sent() -> None:
    """Sender, subject, text and attachment are read out of the message as they were."""
    async with local() as url, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        assert Verdict.OK is (await attempt(url, "ann@example.net"))["ann@example.net"].verdict
        (found,) = (await client.get(f"{url}/store")).json()["emails"]
        assert ("App <app@example.com>", "Grüße", "hello ") == (found["from"].replace('"', ""), found["subject"], found["body"]["text"])
        (file,) = found["attachments"]
        assert "3q2+7w==" == file["content"]


def passed_on(url: str) -> Callable[[Request], Response]:
    """A server in the place of LowCodeAPI that passes requests on to `url`, signed by its keys, and wraps the answers."""

    def answer(request: Request) -> Response:
        path, _, query = request.path.partition("?")
        assert "api_token=at_fake-0000" == query
        with httpx.Client(trust_env=False, timeout=60) as client:
            fields = {"Authorization": "AWS4-HMAC-SHA256 Credential=A", "Content-Type": "application/json"}
            found = client.post(url + path, content=request.body, headers=fields)
        name = "result" if found.is_success else "error"
        envelope = {"message": "Request completed", "provider": "awsses", name: found.json()}
        return Response(found.status_code, json.dumps(envelope).encode())

    return answer


@pytest.mark.skipif(not LOCAL, reason="RELAY_SES_LOCAL is not set: aws-ses-v2-local is not asked")
async def test_local_takes_a_message_taken_apart() -> None:
    """Sender, recipients, reply address, subject, text and attachment are those of the message, by SES and by LowCodeAPI."""
    data = b"Reply-To: help@example.com\r\nX-Two: 2\r\n" + MAIL
    async with local() as url, httpx.AsyncClient(trust_env=False, timeout=60) as client, HttpServer(passed_on(url)) as front:
        assert Verdict.OK is (await attempt(url, "ann@example.net", data=data, content_mode="simple"))["ann@example.net"].verdict
        lowcode = LowCode(LowCodeSettings("lca", "at_fake-0000", front.url), Http(base_url=front.url, timeout=20, concurrency=1))
        assert Verdict.OK is (await carried(lowcode, "ann@example.net", data=data))["ann@example.net"].verdict
        stored_mails = (await client.get(f"{url}/store")).json()["emails"]
    assert 2 == len(stored_mails)
    for found in stored_mails:
        assert ("App <app@example.com>", "Grüße") == (found["from"].replace('"', ""), found["subject"])
        assert ("hello", ["help@example.com"]) == (found["body"]["text"].strip(), found["replyTo"])
        assert ["Ann <ann@example.net>"] == found["destination"]["to"]
        (file,) = found["attachments"]
        assert ("3q2+7w==", "x.dat") == (file["content"], file["filename"])


@pytest.mark.skipif(not LOCAL, reason="RELAY_SES_LOCAL is not set: aws-ses-v2-local is not asked")
async def test_local_fills_in_an_inline_template() -> None:
    """What the app gives as data stands in the mail that it stores."""
    data = (
        b"From: app@example.com\r\nTo: ann@example.net\r\nSubject: Order {{order}}\r\nX-Relay-Template: inline\r\n"
        b'X-Relay-Template-Model: {"name": "Ann", "order": 7}\r\n\r\nDear {{name}}\r\n'
    )
    async with local() as url, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        assert Verdict.OK is (await attempt(url, "ann@example.net", data=data))["ann@example.net"].verdict
        (found,) = (await client.get(f"{url}/store")).json()["emails"]
    assert ("Order 7", "Dear Ann") == (found["subject"], found["body"]["text"].strip())


@pytest.mark.skipif(not LOCAL, reason="RELAY_SES_LOCAL is not set: aws-ses-v2-local is not asked")
@pytest.mark.parametrize("mode", ["raw", "simple"])
async def test_local_takes_real_mail(mode: str) -> None:
    """Whatever of the corpus we send, a schema of the API that others wrote has nothing against it."""
    refused = set()
    async with local() as url:
        for path in corpus():
            try:
                outcomes = await attempt(url, "ann@example.net", data=stored(path.read_bytes()), content_mode=mode)
            except CannotCarry:
                continue
            refused |= {path.name for outcome in outcomes.values() if outcome.verdict is not Verdict.OK}
    assert SPACED | TEMPLATED >= refused
