"""Providers of different kinds: one takes over from another, one takes another's place under load, and which of them can be used."""

from __future__ import annotations

import asyncio
import json
import signal
import smtplib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped] # no types in it
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # no types in it
from botocore.credentials import Credentials  # type: ignore[import-untyped] # no types in it

from tests import apis
from tests.apis import Account
from tests.e2e.processes import Host, Printed, host, send
from tests.messages import BY_NAME
from tests.servers import Act, HttpAnswer, HttpServer, Request, Response, SmtpServer, ca_file, server_tls

pytestmark = pytest.mark.e2e

SECRET, KEY_ID = "not-a-real-secret-0000", "AKIAFAKEFAKEFAKE0000"


@dataclass(frozen=True)
class Provider:
    """How it is configured, and the servers in its place. One with a login has an SMTP door."""

    settings: str
    account: Callable[[], Account]
    login: tuple[str, str] | None = None

    def section(self, url: str, port: int, ca: str, secret: str = SECRET) -> str:
        """Its section, with an API at `url`."""
        path = "/v1/{username}" if "username: clinic" in self.settings else ""
        door = f", host: localhost, port: {port}, ca_file: {ca}" if self.login else ""
        return f'{{{self.settings.replace("SECRET", secret)}, base_url: "{url}{path}"{door}}}'


PROVIDERS: Mapping[str, Provider] = {
    "ses": Provider(f"type: ses, region: eu-west-1, access_key_id: {KEY_ID}, secret_access_key: SECRET", lambda: SignedSes(SECRET)),
    "mailtrap": Provider("type: mailtrap, token: SECRET", lambda: apis.Mailtrap(SECRET), ("api", SECRET)),
    "postmark": Provider("type: postmark, token: SECRET", lambda: apis.Postmark(SECRET), (SECRET, SECRET)),
    "paubox": Provider("type: paubox, api_key: SECRET, username: clinic", lambda: apis.Paubox(SECRET), ("apikey", SECRET)),
    "lowcodeapi": Provider("type: lowcodeapi, token: at_SECRET", lambda: apis.LowCode(f"at_{SECRET}")),
}


class SignedSes(apis.Ses):
    """Amazon SES that looks at the signature of questions, by botocore."""

    def knows(self, request: Request) -> bool:
        """Whether the signature is one of this secret."""
        names = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        signed = AWSRequest(request.method, f"http://{request.headers['host']}{request.path}", data=request.body)
        for name in names:
            signed.headers[name] = request.headers[name]
        signed.context["timestamp"] = request.headers["x-amz-date"]
        signer = SigV4Auth(Credentials(KEY_ID, self.secret), "ses", "eu-west-1")
        canonical = signer.canonical_request(signed)
        return signer.signature(signer.string_to_sign(signed, canonical), signed) in request.headers["authorization"]

    def stranger(self) -> Response:
        """403, as Amazon says it."""
        text = b'{"message":"The request signature we calculated does not match the signature you provided."}'
        return Response(403, text, {"x-amzn-ErrorType": "SignatureDoesNotMatch"})


VIA = "routes: [{name: default, via: [mailtrap, postmark]}]\n"
UNAUTHORIZED = Response(401, b'{"success":false,"errors":["Unauthorized"]}')
NO_PLAN = Response(429, b'{"success":false,"errors":["Monthly limit of your plan is reached"]}')
TOO_MANY = Response(429, b'{"success":false,"errors":["Too many requests"]}', {"Retry-After": "1"})


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


def pair(mailtrap: HttpServer, postmark: HttpServer) -> str:
    """Two providers of different kinds."""
    first = f'{{token: {SECRET}, base_url: "{mailtrap.url}", limits: {{concurrency: 2}}}}'
    return f'{{mailtrap: {first}, postmark: {{token: {SECRET}, base_url: "{postmark.url}"}}}}'


def mail(number: int, domain: str = "example.com") -> bytes:
    """A small mail."""
    return f"From: App <app@{domain}>\r\nTo: r{number}@example.net\r\nSubject: mail {number}\r\n\r\nText {number}.\r\n".encode()


def once(*accounts: Account) -> Mapping[str, int]:
    """How often each recipient was taken by any of them."""
    return Counter(to for account in accounts for taken in account.taken for to in taken.recipients)


async def hand_in(port: int, numbers: Sequence[int], *domains: str) -> None:
    """Many mails at once, from several domains in turn."""
    await asyncio.gather(*(send(port, mail(n, domains[n % len(domains)]), [f"r{n}@example.net"]) for n in numbers))


def keep_sending(number: int, port: int, enough: threading.Event) -> list[str]:
    """Mail after mail over one connection until told to stop; who they were for."""
    accepted: list[str] = []
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        while not enough.is_set():
            name = number * 100_000 + len(accepted)
            client.sendmail("app@example.com", [f"r{name}@example.net"], mail(name))
            accepted.append(f"r{name}@example.net")
    return accepted


@pytest.mark.parametrize("answer", [UNAUTHORIZED, NO_PLAN, Response(403, b"<html>Forbidden</html>")], ids=["401", "plan", "firewall"])
async def test_a_batch_that_is_refused_moves_to_the_next_provider(here: Host, answer: Response) -> None:
    """Whatever is wrong with the first one's account or pace: all mail goes once by the second, of another kind, and none bounces."""
    first, second = apis.Mailtrap(SECRET), apis.Postmark(SECRET)
    first.says = lambda request: answer
    async with HttpServer(first) as mailtrap, HttpServer(second) as postmark:
        here.configure(pair(mailtrap, postmark), VIA)
        daemon = await here.serve()
        await hand_in(await daemon.port(), range(40), "example.com", "shop.example.org")
        await daemon.drained(40)
        [status] = (await here.relay("status", "--json")).objects
    [reason] = [one["reason"] for one in status["providers"] if one["state"] in ("paused", "partly")]
    print(f"mailtrap: {reason}: {first.posts} requests; then postmark: {second.posts} requests")
    assert reason.startswith(f"{answer.status}")
    assert {f"r{number}@example.net": 1 for number in range(40)} == once(first, second)
    assert [] == first.taken
    assert first.posts <= 6
    assert not [line for line in daemon.lines if "status=bounced" in line or SECRET in line]


async def test_a_batch_that_comes_too_fast_waits_for_its_provider(here: Host) -> None:
    """429 without a word about the plan: the first provider gets all of it after the time that it asked for, and the second none."""
    first, second = apis.Mailtrap(SECRET), apis.Postmark(SECRET)
    refused: list[Request] = []

    def too_fast(request: Request) -> HttpAnswer | None:
        refused.append(request)
        return TOO_MANY if len(refused) == 1 else None

    first.says = too_fast
    async with HttpServer(first) as mailtrap, HttpServer(second) as postmark:
        here.configure(pair(mailtrap, postmark), VIA)
        daemon = await here.serve()
        await hand_in(await daemon.port(), range(40), "example.com")
        await daemon.line("provider mailtrap throttled")
        await daemon.drained(40)
    assert {f"r{number}@example.net": 1 for number in range(40)} == once(first)
    assert ([], True) == (second.taken, first.posts <= 8)


async def test_a_batch_without_an_answer_stays_with_its_provider(here: Host) -> None:
    """It may have been taken: nobody else gets it, the log names each mail, and the same provider gets it again."""
    first, second = apis.Mailtrap(SECRET), apis.Postmark(SECRET)
    lost: list[int] = []
    mended = False

    def cut(request: Request) -> HttpAnswer | None:
        if mended:
            return None
        lost.append(len(json.loads(request.body).get("requests", [0])))
        return Act.CUT

    first.says = cut
    async with HttpServer(first) as mailtrap, HttpServer(second) as postmark:
        here.configure(pair(mailtrap, postmark), VIA)
        daemon = await here.serve()
        await hand_in(await daemon.port(), range(20), "example.com")
        await daemon.lines_with("status=", 20)
        assert [20] * 2 == [sum(lost), sum("may be delivered twice" in line for line in daemon.lines)]
        mended = True
        assert 0 == (await here.relay("queue", "retry")).code
        await daemon.drained(20)
    assert {f"r{number}@example.net": 1 for number in range(20)} == once(first)
    assert [] == second.taken


async def test_one_bad_mail_of_a_batch_is_bounced_alone(here: Host) -> None:
    """Mailtrap refuses a whole batch for one of its mails: every other one is relayed by it, and none by another."""
    first, second = apis.Mailtrap(SECRET), apis.Postmark(SECRET)
    first.says = lambda request: (
        Response(400, b'{"success":false,"errors":["\'subject\' is refused here"]}') if b'"mail 13"' in request.body else None
    )
    async with HttpServer(first) as mailtrap, HttpServer(second) as postmark:
        here.configure(pair(mailtrap, postmark), VIA)
        daemon = await here.serve()
        await hand_in(await daemon.port(), range(40), "example.com")
        await daemon.line("status=bounced")
        await daemon.drained(40)  # 39, and the bounce
    assert {**{f"r{number}@example.net": 1 for number in range(40) if number != 13}, "app@example.com": 1} == once(first)
    [bounce] = [taken for taken in first.taken if taken.recipients == ("app@example.com",)]
    assert "'subject' is refused here" in " ".join(bounce.text.split())
    assert [] == second.taken


async def test_ses_becomes_mailtrap_under_load(here: Host) -> None:
    """`via: ses` becomes `via: mailtrap` by one line and a reload while clients send: no client notices, each mail is taken once."""
    first, second = apis.Ses(KEY_ID), apis.Mailtrap(SECRET)
    async with HttpServer(first) as ses, HttpServer(second) as mailtrap:
        providers = (
            f'{{ses: {{region: eu-west-1, access_key_id: {KEY_ID}, secret_access_key: {SECRET}, base_url: "{ses.url}"}}, '
            f'mailtrap: {{token: {SECRET}, base_url: "{mailtrap.url}"}}}}'
        )
        here.configure(providers, "routes: [{name: default, via: ses}]\n")
        daemon = await here.serve()
        port = await daemon.port()
        enough = threading.Event()
        clients = asyncio.gather(*(asyncio.to_thread(keep_sending, number, port, enough) for number in range(4)))
        await daemon.lines_with("relay/ses.*status=sent", 100)
        here.configure(providers, "routes: [{name: default, via: mailtrap}]\n")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.line("reloaded: ")
        await daemon.lines_with("relay/mailtrap.*status=sent", 100)
        enough.set()
        accepted = [to for names in await clients for to in names]
        await daemon.drained(len(accepted))
    print(len(accepted), "mails:", len(first.taken), "by ses,", len(second.taken), "by mailtrap in", second.posts, "requests")
    assert dict.fromkeys(accepted, 1) == once(first, second)
    assert min(len(first.taken), len(second.taken)) >= 100
    assert not [line for line in daemon.lines if "status=bounced" in line or "twice" in line]


async def test_a_token_that_is_mended_by_a_reload(here: Host) -> None:
    """A wrong token pauses and bounces nothing; `relay reload` with the right one sends everything that waited, each once."""
    account = apis.Mailtrap(SECRET)
    async with HttpServer(account) as mailtrap:
        here.configure(f'{{mailtrap: {{token: another-fake-secret-1, base_url: "{mailtrap.url}"}}}}')
        daemon = await here.serve()
        await hand_in(await daemon.port(), range(20), "example.com", "shop.example.org")
        paused = await daemon.line("provider mailtrap paused: ")
        assert "token (21 characters)" in paused.string
        assert [] == account.taken
        here.configure(f'{{mailtrap: {{token: {SECRET}, base_url: "{mailtrap.url}"}}}}')
        assert 0 == (await here.relay("reload")).code
        await daemon.drained(20)
    assert {f"r{number}@example.net": 1 for number in range(20)} == once(account)
    assert not [line for line in daemon.lines if "status=bounced" in line or SECRET in line]


async def test_trouble_at_one_door_of_a_provider(here: Host) -> None:
    """Mailtrap's SMTP door refuses the login: signed mail goes by Postmark's, octet for octet, and all other mail by Mailtrap's API."""
    first, second = apis.Mailtrap(SECRET), apis.Postmark(SECRET)
    ca = ca_file(here.directory)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(HttpServer(account)) for account in (first, second)]
        wrong, right = (SmtpServer(users={name: secret}, starttls=server_tls()) for name, secret in (("api", "other"), (SECRET, SECRET)))
        doors = [await stack.enter_async_context(door) for door in (wrong, right)]
        found = zip(("mailtrap", "postmark"), servers, doors, strict=True)
        sections = [f"{kind}: {PROVIDERS[kind].section(api.url, door.port, ca)}" for kind, api, door in found]
        here.configure(f"{{{', '.join(sections)}}}", VIA)
        daemon = await here.serve()
        port = await daemon.port()
        for number in range(10):
            await send(port, BY_NAME["smime-signed"].data if number % 2 else mail(number), [f"r{number}@example.net"])
        await daemon.drained(10)
    assert {f"r{number}@example.net": 1 for number in range(0, 10, 2)} == once(first, second)
    assert 5 == len(first.taken)
    assert ([], {b"<r%d@example.net>" % number: 1 for number in range(1, 10, 2)}) == (
        wrong.mails,
        Counter(rcpt for one in right.mails for rcpt in one.rcpts),
    )
    body = BY_NAME["smime-signed"].data.partition(b"\r\n\r\n")[2]
    assert all(one.message.endswith(b"\r\n\r\n" + body) for one in right.mails)
    assert 1 == sum("mode=smtp" in line and "paused" in line for line in daemon.lines)


async def test_a_certificate_of_nobody_is_not_talked_to(here: Host, tmp_path: Path) -> None:
    """Each provider is paused: nothing is sent, neither by SMTP nor in clear, and nothing bounces. An authority that the environment
    names, or that the SMTP door is trusted by, does not count."""
    authority = ca_file(tmp_path)
    here._environment.update(SSL_CERT_FILE=authority, REQUESTS_CA_BUNDLE=authority, CURL_CA_BUNDLE=authority)
    async with HttpServer(tls=server_tls()) as api, SmtpServer() as door:
        url = f"https://localhost:{api.port}"
        sections = (f"{kind}: {one.section(url, door.port, authority)}" for kind, one in PROVIDERS.items())
        routes = (f"{{name: {kind}, match: {{to: '*@{kind}.example.net'}}, via: {kind}}}" for kind in PROVIDERS)
        here.configure(f"{{{', '.join(sections)}}}", f"routes: [{', '.join(routes)}, {{name: default, via: ses}}]\n")
        daemon = await here.serve()
        port = await daemon.port()
        for kind in PROVIDERS:
            await send(port, mail(1), [f"ann@{kind}.example.net"])
            assert "certificate not accepted" in (await daemon.line(f"provider {kind} (?:suspected|paused): ")).string
        listed = (await here.relay("queue", "list", "--json")).objects
        asked = await here.relay("provider", "test")
        assert 0 == await daemon.end()
    assert ([], [], 0) == (api.requests, [line for line in door.lines if b"MAIL" in line.upper()], len(door.mails))
    assert {(kind, "queued") for kind in PROVIDERS} == {
        (one["waits"].split()[0], one["state"]) for entry in listed for one in entry["recipients"]
    }
    assert not [one for one in daemon.lines if "status=bounced" in one]
    assert (69, 5) == (asked.code, asked.text.count("certificate not accepted"))


# --- relay provider test ---


async def asked(here: Host, secret: str) -> tuple[Printed, list[Account | SmtpServer]]:
    """What the command prints of all providers whose secrets the configuration says to be `secret`, and who was asked."""
    async with AsyncExitStack() as stack:
        sections, servers = [], list[Account | SmtpServer]()
        for kind, one in PROVIDERS.items():
            account = one.account()
            api = await stack.enter_async_context(HttpServer(account))
            door = await stack.enter_async_context(SmtpServer(users=dict([one.login or ("", "")]), starttls=server_tls()))
            servers += [account, door]
            sections.append(f"{kind}: {one.section(api.url, door.port, ca_file(here.directory), secret)}")
        here.configure(f"{{{', '.join(sections)}}}", "routes: [{name: default, via: ses}]\n")
        return await here.relay("provider", "test"), servers


async def test_whether_they_could_be_used(here: Host) -> None:
    """With the right secrets all is well by all ways, with others each login fails and says what to do; no mail, no secret."""
    good, servers = await asked(here, SECRET)
    bad, others = await asked(here, "another-fake-secret-1")
    print(good.text, bad.text, sep="\n")
    assert (0, 69) == (good.code, bad.code)
    assert [] == [line for line in good.text.splitlines() if "FAILED" in line or "to mend it" in line]
    failed = [line.split()[1:3] for line in bad.text.splitlines() if line.startswith("  FAILED")]
    assert [*PROVIDERS] == [line for line in bad.text.splitlines() if not line.startswith(" ")]
    assert (len(PROVIDERS) + 3, len(PROVIDERS) + 3) == (len(failed), bad.text.count("to mend it: "))  # three by SMTP too
    assert not [text for text in (good.text, bad.text) if SECRET in text or "another-fake-secret" in text]
    assert [] == [one for server in (*servers, *others) for one in (server.mails if isinstance(server, SmtpServer) else server.taken)]
