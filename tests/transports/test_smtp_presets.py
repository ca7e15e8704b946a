"""Providers' doors as the SMTP transport speaks to them: logins, control fields, senders, previews, whole rows of replies."""

from __future__ import annotations

import asyncio
import base64
import smtplib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given
from hypothesis import strategies as st

from relay import edits, header
from relay.errors import CannotCarry
from relay.model import Client, Edit, EditKind, Facts, Job, Notify, Outcome, Recipient, Verdict
from relay.transports import presets, refused
from relay.transports.presets import Preset
from relay.transports.smtp import Smtp, SmtpSettings, by_preset
from tests import messages
from tests.jobs import job
from tests.servers import Act, Answer, SmtpServer, ca_file, server_tls

ID = "687E7641C64007"
SES = presets.ses("eu-central-1", "AKIDEXAMPLE", "some+secret+key")
POSTMARK = presets.postmark("news", "canary-token")
MAILTRAP = presets.mailtrap("transactional", "canary-token")
PAUBOX = presets.paubox("canary-key")
ALL = {"ses": SES, "postmark": POSTMARK, "mailtrap": MAILTRAP, "paubox": PAUBOX}


@asynccontextmanager
async def door(preset: Preset, server: SmtpServer, directory: Path, **more: Any) -> AsyncIterator[Smtp]:
    """A transport for a provider's door, which stands at `server`."""
    server.starttls = server_tls()
    server.users = {preset.username: preset.password}
    async with server:
        given: dict[str, Any] = {"bounce_from": "bounce@example.com", "timeout": 5.0, **more}
        settings = by_preset(
            preset, provider="p", hostname="relay.test", host="localhost", port=server.port, ca_file=ca_file(directory), **given
        )
        transport = Smtp(replace(settings, dot_timeout=5.0))
        try:
            yield transport
        finally:
            await transport.aclose()


async def send(transport: Smtp, one: Job) -> dict[str, Outcome]:
    """Prepare and attempt; returns recipient -> outcome."""
    found: dict[str, Outcome] = {}
    for part in await transport.prepare(one):
        found |= {address: outcome for (_, address), outcome in (await transport.attempt([part])).items()}
    return found


async def only(transport: Smtp, one: Job | None = None) -> Outcome:
    """The outcome for a job with one recipient."""
    [outcome] = (await send(transport, one or job())).values()
    return outcome


def controlled(fields: bytes = b"", listener: str = "", **more: Any) -> Job:
    """A job whose message came with these control fields, with the edits that the listener decides."""
    data = b"From: App <app@example.com>\r\nMessage-ID: <1@x>\r\nDate: x\r\n" + fields + b"\r\nhi\r\n"
    one = job(data=data, **more)
    client = Client("local", "127.0.0.1")
    changes = edits.decide(one.message.header, queue_id=ID, hostname="h", client=client, envelope=one.envelope, arrived=0.0)
    return replace(one, edits=changes, listener=listener)


# Settings.


def test_settings_of_a_preset() -> None:
    """Host and port are the preset's unless the configuration names others; TLS follows the port; connections are capped."""
    made = by_preset(MAILTRAP, provider="p", hostname="h", concurrency=50)
    assert ("live.smtp.mailtrap.io", 587, "starttls", 10, 100) == (made.host, made.port, made.tls, made.concurrency, made.max_messages)
    assert ("mailtrap", True, True, "api") == (made.dialect, made.needs_sender, made.seven_bit, made.username)
    other = by_preset(SES, provider="p", hostname="h", host="proxy.example.net", port=465, concurrency=50)
    assert ("proxy.example.net", 465, "implicit", 50, 50) == (other.host, other.port, other.tls, other.concurrency, other.max_recipients)
    assert by_preset(SES, provider="p", hostname="h", concurrency=3).concurrency == 3
    assert SES.password not in repr(other)


# Logins.


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "PLAIN", "LOGIN"])
@pytest.mark.parametrize("name", ALL)
async def test_each_door_takes_its_login(tmp_path: Path, name: str, mechanisms: str) -> None:
    """Under STARTTLS each provider's name and secret log in, by whichever mechanism is offered."""
    server = SmtpServer(mechanisms=mechanisms)
    async with door(ALL[name], server, tmp_path) as transport:
        assert (await only(transport)).verdict is Verdict.OK
    assert [(True, ALL[name].username)] == [(mail.encrypted, mail.username) for mail in server.mails]


class Peer:
    """aiosmtpd with a login, as a second opinion on PLAIN and LOGIN."""

    def __init__(self, users: Mapping[str, str], excluded: list[str]) -> None:
        self.users = {name.encode(): password.encode() for name, password in users.items()}
        self.excluded = excluded
        self.mechanisms: list[str] = []
        self.senders: list[str] = []

    def authenticate(self, server: object, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword) -> AuthResult:
        """aiosmtpd's authenticator."""
        self.mechanisms.append(mechanism)
        return AuthResult(success=self.users.get(data.login) == data.password, handled=False, auth_data=data)

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook."""
        self.senders.append(envelope.mail_from or "")
        return "250 Ok 0102017f4a6e-000000"

    def protocol(self) -> SMTP:
        """One connection."""
        return SMTP(
            self,
            hostname="peer.test",
            tls_context=server_tls(),
            require_starttls=True,
            auth_required=True,
            authenticator=self.authenticate,
            auth_exclude_mechanism=self.excluded,
            enable_SMTPUTF8=False,
        )


@pytest.mark.parametrize(("excluded", "mechanism"), [(["LOGIN"], "PLAIN"), (["PLAIN"], "LOGIN")])
@pytest.mark.parametrize("name", ALL)
async def test_login_at_an_independent_server(tmp_path: Path, name: str, excluded: list[str], mechanism: str) -> None:
    """aiosmtpd accepts each provider's login by PLAIN and by LOGIN, after STARTTLS, and refuses another secret."""
    preset = ALL[name]
    peer = Peer({preset.username: preset.password}, excluded)
    server = await asyncio.get_running_loop().create_server(peer.protocol, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = by_preset(
            preset, provider="p", hostname="relay.test", host="localhost", port=port, ca_file=ca_file(tmp_path), timeout=5.0
        )
        transport, wrong = Smtp(settings), Smtp(replace(settings, password="wrong"))
        outcome = await only(transport)
        assert (outcome.verdict, outcome.remote_id) == (Verdict.OK, "0102017f4a6e-000000")
        assert (await only(wrong)).verdict is Verdict.PAUSE
        await transport.aclose()
        await wrong.aclose()
    assert ([mechanism] * 2, ["app@example.com"]) == (peer.mechanisms, peer.senders)


CHALLENGE = "<1896.697170952@postoffice.reston.mci.net>"  # RFC 2195 §2, with the answer below


def cram(username: str, password: str, challenge: str = CHALLENGE) -> SmtpServer:
    """A server that offers CRAM-MD5 alone, and knows the answer as Python's own smtplib computes it."""
    reference = smtplib.SMTP()
    reference.user, reference.password = username, password
    expected = base64.b64encode(reference.auth_cram_md5(challenge.encode()).encode())

    def verify(line: bytes) -> Answer:
        return "235 2.7.0 welcome" if line == expected else f"535 5.7.8 not {line.decode()}"

    asked = f"334 {base64.b64encode(challenge.encode()).decode()}"
    return SmtpServer({"auth": asked, "unknown": verify}, users={username: password}, mechanisms="CRAM-MD5", auth_in_clear=True)


@asynccontextmanager
async def smarthost(server: SmtpServer, **more: Any) -> AsyncIterator[Smtp]:
    """A transport that logs in at a server on this host, in clear."""
    async with server:
        transport = Smtp(SmtpSettings("p", server.host, server.port, "relay.test", tls="none", timeout=5.0, dot_timeout=5.0, **more))
        try:
            yield transport
        finally:
            await transport.aclose()


@pytest.mark.parametrize("login", ["auto", "cram-md5"])
async def test_cram_md5(login: Any) -> None:
    """Where nothing else is offered, or it is asked for, the challenge is answered as RFC 2195 and smtplib have it."""
    server = cram("tim", "tanstaaftanstaaf")
    async with smarthost(server, username="tim", password="tanstaaftanstaaf", login=login) as transport:
        assert (await only(transport)).verdict is Verdict.OK
    assert base64.b64encode(b"tim b913a602c7eda7a495b4e6e7334d3890") in server.lines


async def test_cram_md5_refused() -> None:
    """A refusal that quotes the answer says nothing by which the password could be guessed."""
    server = cram("tim", "right")
    async with smarthost(server, username="tim", password="wrong") as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "535 5.7.8 not [password]")


async def test_cram_md5_where_md5_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host whose OpenSSL refuses MD5 (FIPS) the reason says so."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("[digital envelope routines] unsupported")

    server = cram("tim", "x")
    monkeypatch.setattr("aiosmtplib.auth.hmac.new", refuse)
    async with smarthost(server, username="tim", password="x") as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "this host's OpenSSL refuses MD5, which AUTH CRAM-MD5 takes (auth)")


async def test_cram_md5_with_a_challenge_that_is_none() -> None:
    """A challenge that is not base64 is a garbled reply, and pauses the provider."""
    server = SmtpServer({"auth": "334 abc"}, users={"tim": "x"}, mechanisms="CRAM-MD5", auth_in_clear=True)
    async with smarthost(server, username="tim", password="x") as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "garbled reply (auth)")


@pytest.mark.parametrize(
    ("offered", "login", "used"), [("CRAM-MD5 LOGIN PLAIN", "auto", b"PLAIN"), ("CRAM-MD5 LOGIN PLAIN", "login", b"LOGIN")]
)
async def test_order_of_mechanisms(offered: str, login: Any, used: bytes) -> None:
    """PLAIN comes before LOGIN and CRAM-MD5 whatever the server's order, unless the configuration asks for one."""
    server = SmtpServer(users={"relay": "x"}, mechanisms=offered, auth_in_clear=True)
    async with smarthost(server, username="relay", password="x", login=login) as transport:
        assert (await only(transport)).verdict is Verdict.OK
    assert [used] == [line.split(b" ")[1] for line in server.lines if line.startswith(b"AUTH")]


async def test_mechanism_asked_for_is_not_offered() -> None:
    """One mechanism asked for and not offered is said so; no other is tried."""
    server = SmtpServer(users={"relay": "x"}, mechanisms="PLAIN LOGIN", auth_in_clear=True)
    async with smarthost(server, username="relay", password="x", login="cram-md5") as transport:
        outcome = await only(transport)
    assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "AUTH CRAM-MD5 is not offered")
    assert not any(line.startswith(b"AUTH") for line in server.lines)


# Control fields.


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("ses", b"X-SES-MESSAGE-TAGS: a=1\r\nX-PM-Tag: t\r\n", b"X-SES-MESSAGE-TAGS: a=1, category=t, relay-id=%b\r\n"),
        (
            "postmark",
            b"X-PM-Tag: t\r\nX-SES-Tenant: x\r\n",
            b"X-PM-Message-Stream: news\r\nX-PM-Tag: t\r\nX-PM-KeepID: true\r\nX-PM-Metadata-relay-id: %b\r\n",
        ),
        ("mailtrap", b"X-MT-Category: c\r\n", b'X-MT-Category: c\r\nX-MT-Custom-Variables: {"relay-id":"%b"}\r\n'),
        ("paubox", b"X-PM-Tag: t\r\nX-Relay-Id: mine\r\n", b"X-Relay-Id: %b\r\n"),
    ],
)
async def test_own_control_fields_go_out(tmp_path: Path, name: str, fields: bytes, expected: bytes) -> None:
    """The provider's own fields and ours stand on top of the message; those of others, and Bcc, do not leave."""
    server = SmtpServer()
    one = controlled(fields + b"Bcc: hidden@example.net\r\n")
    async with door(ALL[name], server, tmp_path) as transport:
        assert (await only(transport, one)).verdict is Verdict.OK
    rest = b"From: App <app@example.com>\r\nMessage-ID: <1@x>\r\nDate: x\r\n\r\nhi\r\n"
    assert expected % ID.encode() + one.edits[0].text.encode() + rest == server.mails[0].message
    assert b"SIZE=%d" % len(server.mails[0].message) in server.mails[0].mail


async def test_fields_that_amazon_ses_takes_once(tmp_path: Path) -> None:
    """Of a field that SES takes once the first goes along, and the preview says so; other providers get all of them."""
    one = controlled(b"Subject: a\r\nSubject: b\r\nX-Twice: a\r\nX-Twice: b\r\nReferences: <1@x>\r\n <2@x>\r\nReferences: <3@x>\r\n")
    server = SmtpServer()
    async with door(SES, server, tmp_path) as transport:
        [preview] = await transport.preview(one)
        assert (await only(transport, one)).verdict is Verdict.OK
    [mail] = server.mails
    assert [1, 2, 1] == [mail.message.count(field) for field in (b"Subject:", b"X-Twice:", b"References:")]
    assert b"References: <1@x>\r\n <2@x>\r\n" in mail.message
    assert b"SIZE=%d" % len(mail.message) in mail.mail
    assert mail.message == preview.body
    assert ["of 2 Subject fields only the first goes along", "of 2 References fields only the first goes along"] == [
        loss.what for loss in preview.losses
    ]
    server = SmtpServer()
    async with door(MAILTRAP, server, tmp_path) as transport:
        assert (await only(transport, one)).verdict is Verdict.OK
    assert 2 == server.mails[0].message.count(b"Subject:")


@pytest.mark.parametrize("name", ["From", "Sender"])
async def test_two_who_speak(tmp_path: Path, name: str) -> None:
    """Two From or two Sender fields are not for us to choose from: another provider of the route may carry the message."""
    server = SmtpServer()
    async with door(SES, server, tmp_path) as transport:
        with pytest.raises(CannotCarry, match=f"there are 2 {name} fields") as caught:
            await transport.prepare(job(data=f"From: a@x.test\r\n{name}: b@x.test\r\nSender: c@x.test\r\n\r\n".encode()))
    assert ("5.6.3", 0) == (caught.value.status, server.connections)


async def test_controls_of_a_listener(tmp_path: Path) -> None:
    """A listener's app controls only in the dialects that the listener obeys."""
    server = SmtpServer()
    async with door(SES, server, tmp_path, controls={"local": ("ses",), "lan": ("postmark",)}) as transport:
        for listener in ("local", "lan", "other", ""):
            assert (await only(transport, controlled(b"X-SES-Tenant: t\r\n", listener))).verdict is Verdict.OK
    assert [True, False, False, True] == [b"X-SES-Tenant: t\r\n" in mail.message for mail in server.mails]


async def test_smarthost_gets_no_control_fields() -> None:
    """What is no known provider reads no control fields, and gets none."""
    server = SmtpServer()
    async with smarthost(server) as transport:
        assert (await only(transport, controlled(b"X-SES-Tenant: t\r\nX-PM-Tag: t\r\n"))).verdict is Verdict.OK
    assert b"X-" not in server.mails[0].message


# Senders, sizes, recipients, notifications.


@pytest.mark.parametrize("name", ALL)
async def test_null_reverse_path(tmp_path: Path, name: str) -> None:
    """A bounce goes with bounce.from, because a provider takes no null reverse-path; and it asks for no bounce of its own."""
    server = SmtpServer(extensions=("8BITMIME", "DSN"))
    async with door(ALL[name], server, tmp_path) as transport:
        assert (await only(transport, job(sender=""))).verdict is Verdict.OK
    assert (b"<bounce@example.com>", [b"<a@example.net> NOTIFY=NEVER"]) == (server.mails[0].mail, server.mails[0].rcpts)


async def test_null_reverse_path_without_bounce_from(tmp_path: Path) -> None:
    """Without bounce.from the author stands in; without an author too the message cannot be carried."""
    server = SmtpServer()
    async with door(SES, server, tmp_path, bounce_from="") as transport:
        assert (await only(transport, job(sender=""))).verdict is Verdict.OK
        with pytest.raises(CannotCarry, match="the server takes no null reverse-path") as caught:
            await transport.prepare(job(sender="", data=b"From: nobody\r\n\r\n"))
    assert server.mails[0].mail.startswith(b"<app@example.com>")
    assert caught.value.status == "5.1.7"


async def test_smarthost_keeps_the_null_reverse_path() -> None:
    """A smarthost gets the reverse-path as it is."""
    server = SmtpServer()
    async with smarthost(server, bounce_from="bounce@example.com") as transport:
        assert (await only(transport, job(sender=""))).verdict is Verdict.OK
    assert server.mails[0].mail.startswith(b"<> ")


async def test_too_large_for_the_provider(tmp_path: Path) -> None:
    """What a provider is known to drop is not carried, so that the next provider of the route may have it."""
    server = SmtpServer()
    async with door(replace(POSTMARK, max_size=50), server, tmp_path) as transport:
        with pytest.raises(CannotCarry, match=r"the message has \d+ octets; the server takes 50") as caught:
            await transport.prepare(job())
    assert (caught.value.status, server.connections) == ("5.3.4", 0)


async def test_fifty_recipients(tmp_path: Path) -> None:
    """SES and Postmark get fifty recipients in one transaction."""
    server = SmtpServer()
    async with door(SES, server, tmp_path) as transport:
        assert len(await send(transport, job(*(f"r{number}@example.net" for number in range(120))))) == 120
    assert [50, 50, 20] == [len(mail.rcpts) for mail in server.mails]


async def test_a_contact_list_has_a_transaction_for_each_recipient(tmp_path: Path) -> None:
    """Amazon SES puts a contact's own link to unsubscribe into such a message."""
    server = SmtpServer()
    async with door(SES, server, tmp_path, controls={"local": ("ses",)}) as transport:
        for listener in ("local", "deaf"):
            data = b"From: app@example.com\r\nX-SES-List-Management-Options: news\r\n\r\n"
            assert len(await send(transport, replace(job("a@x.test", "b@x.test", data=data), listener=listener))) == 2
    assert [[b"<a@x.test>"], [b"<b@x.test>"], [b"<a@x.test>", b"<b@x.test>"]] == [mail.rcpts for mail in server.mails]


async def test_messages_of_one_connection(tmp_path: Path) -> None:
    """After a connection's number of messages a new one is opened."""
    server = SmtpServer()
    async with door(replace(MAILTRAP, max_messages=2), server, tmp_path) as transport:
        for _ in range(5):
            await only(transport)
    assert (5, 3) == (len(server.mails), server.connections)


async def test_eight_bit_text_is_encoded(tmp_path: Path) -> None:
    """Providers that rewrite bodies get 7 bits where that is possible, and a signed message as it is."""
    text = b"From: a@example.com\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\xc3\xa9\r\n"
    signed = b"From: a@example.com\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" + text + b"--b\r\n\r\nx\r\n--b--\r\n"
    server = SmtpServer()
    async with door(SES, server, tmp_path) as transport:
        for data in (text, signed):
            assert (await only(transport, job(data=data))).verdict is Verdict.OK
    assert [True, False] == [mail.message.isascii() for mail in server.mails]
    assert [False, True] == [b"BODY=8BITMIME" in mail.mail for mail in server.mails]


async def test_eight_bit_control_field(tmp_path: Path) -> None:
    """A control field with 8-bit octets goes as 8 bits to a server that takes these, and is left out for one that does not."""
    one = controlled("X-PM-Tag: größe\r\n".encode())
    for extensions, there in ((("8BITMIME",), True), ((), False)):
        server = SmtpServer(extensions=extensions)
        async with door(POSTMARK, server, tmp_path) as transport:
            assert (await only(transport, one)).verdict is Verdict.OK
        [mail] = server.mails
        assert (there, there) == (b"X-PM-Tag" in mail.message, b"BODY=8BITMIME" in mail.mail)


@pytest.mark.parametrize(("extensions", "expected"), [(("DSN",), [True, False, False]), ((), [False, False, False])])
async def test_who_notifies(extensions: tuple[str, ...], expected: list[bool]) -> None:
    """Of a recipient that asked for notifications a server with DSN takes them over, once it took the message for him."""
    server = SmtpServer({"rcpt": lambda line: "550 5.1.1 no" if b"c@x" in line else "250 ok"}, extensions=extensions)
    asked = frozenset({Notify.SUCCESS})
    async with smarthost(server) as transport:
        found = await send(transport, job(Recipient("a@x.test", asked), Recipient("b@x.test"), Recipient("c@x.test", asked)))
    assert expected == [outcome.notifies for outcome in found.values()]


async def test_nobody_notifies_who_is_not_asked_to(tmp_path: Path) -> None:
    """Where a null reverse-path was replaced, NOTIFY=NEVER went out whatever the recipient asked for, so the server owes nothing."""
    server = SmtpServer(extensions=("DSN",))
    async with door(MAILTRAP, server, tmp_path) as transport:
        assert not (await only(transport, job(Recipient("a@x.test", frozenset({Notify.SUCCESS})), sender=""))).notifies
    assert [b"<a@x.test> NOTIFY=NEVER"] == server.mails[0].rcpts


# Verdicts with identities.


async def test_identities(tmp_path: Path) -> None:
    """A job names the domains of author and reverse-path, and the configuration set; a smarthost's names none."""
    async with door(SES, SmtpServer(), tmp_path) as transport:
        [one] = await transport.prepare(controlled(b"X-SES-Configuration-Set: shop\r\n", sender="b@Bounce.Example.COM"))
        assert ("domain=example.com", "domain=bounce.example.com", "configuration_set=shop") == tuple(transport.identity(one))
        [one] = await transport.prepare(job(sender="a@example.com"))
        assert ("domain=example.com",) == tuple(transport.identity(one))
        [one] = await transport.prepare(controlled(b"X-SES-Tenant: clinic\r\n"))
        assert ("domain=example.com", "tenant=clinic") == tuple(transport.identity(one))
    async with door(MAILTRAP, SmtpServer(), tmp_path) as transport:
        [one] = await transport.prepare(job(sender="postmaster", data=b"From: x@[nonsense]\r\n\r\n"))
        assert () == transport.identity(one)
    async with smarthost(SmtpServer()) as transport:
        [one] = await transport.prepare(job())
        assert () == transport.identity(one)


async def test_unverified_sender(tmp_path: Path) -> None:
    """An unverified sender is a finding about a domain that the job names, with the mend."""
    text = "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: "
    async with door(SES, SmtpServer({"dot": text + "app@example.com"}), tmp_path) as transport:
        [one] = await transport.prepare(job())
        [outcome] = (await transport.attempt([one])).values()
        assert (Verdict.CONFIG, "domain=example.com") == (outcome.verdict, outcome.identity)
        assert outcome.identity in transport.identity(one)
    assert outcome.mend.startswith("verify example.com")


async def test_recipients_of_an_account_in_the_sandbox(tmp_path: Path) -> None:
    """A recipient that is not verified is refused; the others are tried again without him."""
    text = "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: B@x.test"
    async with door(SES, SmtpServer({"dot": text}), tmp_path) as transport:
        found = await send(transport, job("a@x.test", "b@x.test"))
    assert [Verdict.RETRY, Verdict.PERM_RCPT] == [outcome.verdict for outcome in found.values()]


async def test_a_colleague_of_an_account_in_the_sandbox(tmp_path: Path) -> None:
    """A recipient at the sender's own domain who is not verified is refused as any other: the sender's mail is not paused for him."""
    text = "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: "
    async with door(SES, SmtpServer({"dot": text + "bob@example.com"}), tmp_path) as transport:
        assert Verdict.PERM_RCPT is (await only(transport, job("bob@example.com"))).verdict
        found = await only(transport, job("bob@example.com", sender="bob@example.com"))
        assert (Verdict.CONFIG, "domain=example.com") == (found.verdict, found.identity)


async def test_a_sender_field_that_is_not_verified(tmp_path: Path) -> None:
    """SES checks the Sender field too: the finding is about its domain, which the job names."""
    text = "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: "
    data = b"From: app@example.com\r\nSender: list@lists.example\r\n\r\n"
    async with door(SES, SmtpServer({"dot": text + "list@lists.example"}), tmp_path) as transport:
        [one] = await transport.prepare(job(data=data))
        [outcome] = (await transport.attempt([one])).values()
    assert (Verdict.CONFIG, "domain=lists.example") == (outcome.verdict, outcome.identity)
    assert ("domain=example.com", "domain=lists.example") == tuple(transport.identity(one))


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [("535 5.7.8 Too many connections per account", Verdict.THROTTLE), ("535 5.7.0 Monthly messages limit reached", Verdict.PAUSE)],
)
async def test_misleading_code_at_login(tmp_path: Path, reply: str, verdict: Verdict) -> None:
    """A code that means a wrong password elsewhere is judged by its text where the provider uses it for limits."""
    async with door(MAILTRAP, SmtpServer({"auth": reply}), tmp_path) as transport:
        outcome = await only(transport)
    assert (verdict, reply) == (outcome.verdict, outcome.reply)
    assert ("plan" in outcome.mend) is (verdict is Verdict.PAUSE)


@pytest.mark.parametrize("name", ALL)
async def test_secrets_in_replies(tmp_path: Path, name: str) -> None:
    """A server that quotes the login at any stage does not get the secret into an outcome."""
    preset = ALL[name]
    plain = base64.b64encode(f"\0{preset.username}\0{preset.password}".encode()).decode()
    for stage, verdict in (("auth", Verdict.PAUSE), ("mail", Verdict.PERM_MSG), ("dot", Verdict.PERM_MSG)):
        script = {stage: f"5{'35' if stage == 'auth' else '50'} 5.7.1 {plain} {preset.password}"}
        async with door(preset, SmtpServer(script), tmp_path) as transport:
            outcome = await only(transport)
        assert (verdict, "[password] [password]") == (outcome.verdict, outcome.reply.partition("5.7.1 ")[2])


async def test_cut_at_each_stage(tmp_path: Path) -> None:
    """A door that is cut is judged as any other: surely not taken before the dot, unknown after it."""
    for stage, verdict in (("mail", Verdict.RETRY), ("dot", Verdict.UNKNOWN)):
        async with door(SES, SmtpServer({stage: Act.CUT}), tmp_path) as transport:
            assert (await only(transport)).verdict is verdict


# Previews.


async def test_preview(tmp_path: Path) -> None:
    """The preview shows what the server gets, octet for octet, and connects nowhere."""
    server = SmtpServer()
    one = controlled(b"X-SES-MESSAGE-TAGS: a=1\r\n", sender="")
    async with door(SES, server, tmp_path) as transport:
        [preview] = await transport.preview(one)
        assert server.connections == 0
        assert (await only(transport, one)).verdict is Verdict.OK
    assert ("SMTP", f"smtp://localhost:{server.port}", {}) == (preview.method, preview.url, preview.headers)
    assert ("bounce@example.com", ("a@example.net",)) == (preview.reverse_path, preview.recipients)
    assert server.mails[0].message == preview.body
    assert ("--ssl-reqd", "--user", "$AWS_ACCESS_KEY_ID:$SES_SMTP_PASSWORD") == preview.login


async def test_preview_of_many_and_large() -> None:
    """One preview for each transaction; a large message is shown whole; without a login none is shown."""
    settings = SmtpSettings("p", "mail.example.net", 465, "relay.test", tls="implicit", max_recipients=2)
    data = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + b"z\r\n" * 100_000
    found = await Smtp(settings).preview(job("a@x.test", "b@x.test", "c@x.test", data=data))
    assert [("a@x.test", "b@x.test"), ("c@x.test",)] == [preview.recipients for preview in found]
    assert [data, data] == [preview.body for preview in found]
    assert ("smtps://mail.example.net:465", ()) == (found[0].url, found[0].login)


async def test_preview_of_what_cannot_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no server of this kind could take is refused with its reason."""
    settings = SmtpSettings("p", "mail.example.net", 25, "relay.test", tls="none")
    monkeypatch.setattr("relay.transports.smtp.BEST", {"8bitmime": ""})
    with pytest.raises(CannotCarry, match="the message needs SMTPUTF8") as caught:
        await Smtp(settings).preview(job("é@example.net"))
    assert caught.value.status == "5.6.7"


async def test_the_preview_names_what_cannot_be_said() -> None:
    """What an app asks for in another vendor's words and this door has none for is named, where the listener obeys them."""
    data = b"From: app@example.com\r\nX-PM-Tag: order\r\nX-PM-TrackOpens: true\r\nX-SES-CONFIGURATION-SET: mail\r\n\r\nhello\r\n"
    ses = Smtp(by_preset(SES, provider="ses", hostname="relay.test"))
    [shown] = await ses.preview(job(data=data))
    assert [("cosmetic", "open tracking true is left out")] == [(loss.grade, loss.what) for loss in shown.losses]
    assert b"X-SES-CONFIGURATION-SET: mail\r\nX-SES-MESSAGE-TAGS: category=order, relay-id=" in shown.body
    [ignored] = await ses.preview(replace(job(data=data), listener="lan"))
    assert () == ignored.losses
    smarthost = Smtp(SmtpSettings("p", "mail.example.net", 25, "relay.test", tls="none"))
    [shown] = await smarthost.preview(job(data=data))
    assert ["the tag 'order' is left out", "open tracking true is left out", "the configuration set 'mail' is left out"] == [
        loss.what for loss in shown.losses
    ]


async def test_streams_of_the_configuration(tmp_path: Path) -> None:
    """A stream asked for by another provider's name goes by the name that the configuration gives it here."""
    server = SmtpServer()
    async with door(SES, server, tmp_path, streams={"news": "bulk-set"}) as transport:
        [one] = await transport.prepare(controlled(b"X-PM-Message-Stream: News\r\n"))
        assert ("domain=example.com", "configuration_set=bulk-set") == tuple(transport.identity(one))
        assert [Verdict.OK] == [outcome.verdict for outcome in (await transport.attempt([one])).values()]
    assert b"X-SES-CONFIGURATION-SET: bulk-set\r\n" in server.mails[0].message


@pytest.mark.parametrize("name", [*ALL, "smarthost"])
async def test_a_template_does_not_go_by_smtp(name: str) -> None:
    """No server knows the app's templates: another transport of the route may."""
    settings = (
        by_preset(ALL[name], provider="p", hostname="h") if name in ALL else SmtpSettings("p", "mail.example.net", 25, "h", tls="none")
    )
    with pytest.raises(CannotCarry, match="a template is asked for, and by SMTP the message goes as it is") as caught:
        await Smtp(settings).prepare(job(data=b"From: app@example.com\r\nX-Relay-Template: welcome\r\n\r\n"))
    assert "5.6.3" == caught.value.status


# What is looked at before anything is sent: Postmark takes all by SMTP, and tells of a refusal by an event only.


def with_file(name: str, **header: str) -> bytes:
    """A message with a file of this name."""
    fields = "".join(f"{key}: {value}\r\n" for key, value in {"From": "app@example.com", **header}.items())
    part = f"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename={name}\r\n\r\nx\r\n"
    return f"{fields}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{part}--b--\r\n".encode()


@pytest.mark.parametrize(
    ("preset", "name", "reason"),
    [
        (POSTMARK, "Report.EXE", "Postmark takes no attachment of type .exe (Report.EXE)"),
        (POSTMARK, "page.hta.", "Postmark takes no attachment of type .hta (page.hta.)"),
        (SES, "macro.xnk", "Amazon SES takes no attachment of type .xnk (macro.xnk)"),
        (POSTMARK, "program.ps1", ""),
        (SES, "exe", ""),
        (MAILTRAP, "x.exe", ""),
        (PAUBOX, "x.exe", ""),
    ],
)
async def test_files_that_a_provider_blocks(preset: Preset, name: str, reason: str) -> None:
    """A file of a blocked type is found here: one server would refuse it, the other drop the mail without a word."""
    transport = Smtp(by_preset(preset, provider="p", hostname="h"))
    data = with_file(name)
    if reason:
        with pytest.raises(CannotCarry) as caught:
            await transport.prepare(job(data=data))
        assert ((reason,), "5.6.3") == (caught.value.reasons, caught.value.status)
    else:
        assert 1 == len(await transport.prepare(job(data=data)))


async def test_a_message_that_is_one_file() -> None:
    """A message without parts can be a file too; plain text is not even read."""
    transport = Smtp(by_preset(POSTMARK, provider="p", hostname="h"))
    alone = b"From: app@example.com\r\nContent-Type: text/plain; name=run.bat\r\n\r\nx\r\n"
    with pytest.raises(CannotCarry, match=r"no attachment of type \.bat"):
        await transport.prepare(job(data=alone))
    unread = replace(job(), message=Unread(job().message.header, Facts(1000, eight_bit=False, longest_line=70)))
    assert 1 == len(await transport.prepare(unread))
    assert 1 == len(await Smtp(by_preset(MAILTRAP, provider="p", hostname="h")).prepare(unread))


@dataclass(frozen=True)
class Unread:
    """A stored message of which only the header may be looked at."""

    header: bytes
    facts: Facts

    async def read(self) -> bytes:
        """The octets, which nobody needs."""
        raise AssertionError("read")

    def chunks(self) -> AsyncIterator[bytes]:
        """The octets, which nobody needs."""
        raise AssertionError("read")


async def test_long_lines_that_amazon_ses_refuses(tmp_path: Path) -> None:
    """It takes no lines over 998 octets: they are re-encoded, beside a signed part too, and where they are signed another
    provider of the route may carry the message."""
    eight_bit = "--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\n\u00e9\r\n--c\r\n\r\nx\r\n--c--\r\n".encode()
    top = b"From: app@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    beside = top + eight_bit + b"--b\r\n\r\n" + b"z" * 2000 + b"\r\n--b--\r\n"
    signed = b"From: app@example.com\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + b"z" * 2000 + b"\r\n--b--\r\n"
    server = SmtpServer()
    async with door(SES, server, tmp_path) as transport:
        assert (await only(transport, job(data=beside))).verdict is Verdict.OK
        with pytest.raises(CannotCarry, match="Amazon SES takes no lines over 998 octets, and ") as caught:
            await transport.prepare(job(data=signed))
    assert "5.6.3" == caught.value.status
    assert eight_bit in server.mails[0].message
    assert max(map(len, server.mails[0].message.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"Subject: x\r\n\r\n", "there is no From address"),
        (b"From: a@example.com, b@example.com\r\n\r\n", "there is more than one From address, and Postmark keeps one"),
        (b"From: a@example.com\r\nFrom: b@example.com\r\n\r\n", "there is more than one From address, and Postmark keeps one"),
        (b'From: "a b"@example.com\r\n\r\n', "the From address is not one that Postmark takes"),
        (b"From: " + b"x" * 240 + b" <a@example.com>\r\n\r\n", "the From field has 256 characters; Postmark takes 255"),
        (b"From: a@example.com\r\nSubject: " + b"long " * 400 + b"s\r\n\r\n", "the Subject field has 2001 characters; Postmark takes 2000"),
    ],
)
async def test_headers_that_postmark_drops(data: bytes, reason: str) -> None:
    """What its API refuses, Postmark's SMTP takes and drops; the others get such mail and say themselves what they take."""
    with pytest.raises(CannotCarry) as caught:
        await Smtp(by_preset(POSTMARK, provider="p", hostname="h")).prepare(job(data=data))
    assert ((reason,), "5.6.3") == (caught.value.reasons, caught.value.status)
    assert 1 == len(await Smtp(by_preset(MAILTRAP, provider="p", hostname="h")).prepare(job(data=data)))


async def test_a_message_beyond_what_is_taken_apart() -> None:
    """Where there are more parts than are looked at the provider looks itself."""
    data = b"From: a@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 1001 + b"--b--\r\n"
    assert 1 == len(await Smtp(by_preset(POSTMARK, provider="p", hostname="h")).prepare(job(data=data)))


@pytest.mark.parametrize(("size", "fits"), [(5 * 1024 * 1024, True), (5 * 1024 * 1024 + 1, False)])
async def test_a_body_too_large_for_postmark(size: int, fits: bool) -> None:
    """Text and HTML have a limit of their own, by the decoded octets; files do not."""
    text = b"x" * 76 + b"=\r\n"
    count, rest = divmod(size, 76)
    top = b"From: a@example.com\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    transport = Smtp(by_preset(POSTMARK, provider="p", hostname="h"))
    if fits:
        assert 1 == len(await transport.prepare(job(data=top + text * count + b"x" * rest)))
        return
    with pytest.raises(CannotCarry, match="the text/html body has 5,242,881 octets; Postmark takes 5,242,880") as caught:
        await transport.prepare(job(data=top + text * count + b"x" * rest))
    assert "5.3.4" == caught.value.status


async def test_recipients_that_postmark_has_no_form_for(tmp_path: Path) -> None:
    """One such address would lose the mail for all: its owner is refused, the others get theirs, and the preview says so."""
    server = SmtpServer()
    one = job("a@example.net", '"b c"@example.net', "d@[192.0.2.1]", "e@example.net")
    async with door(POSTMARK, server, tmp_path) as transport:
        found = await send(transport, one)
        [preview] = await transport.preview(one)
        with pytest.raises(CannotCarry, match="Postmark takes no recipient address of this form") as caught:
            await transport.prepare(job('"b c"@example.net'))
    assert "5.1.3" == caught.value.status
    assert [Verdict.OK, Verdict.OK, Verdict.PERM_RCPT, Verdict.PERM_RCPT] == [outcome.verdict for outcome in found.values()]
    refused = found['"b c"@example.net']
    assert ("5.1.3", "relay", True) == (refused.status, refused.remote, refused.own)
    assert [[b"<a@example.net>", b"<e@example.net>"]] == [mail.rcpts for mail in server.mails]
    assert [("hard", '"b c"@example.net gets nothing: Postmark takes no recipient address of this form')] == [
        (loss.grade, loss.what) for loss in preview.losses[:1]
    ]
    assert ("a@example.net", "e@example.net") == preview.recipients


@pytest.mark.parametrize(
    ("preset", "address", "expected"),
    [
        (SES, "\u00fc@example.net", False),
        (SES, '"a b"@example.net', True),
        (SES, "a@ex\u00e4mple.net", True),
        (POSTMARK, "\u00fc@example.net", False),
        (POSTMARK, "a@ex\u00e4mple.net", True),
        (POSTMARK, "a@-\u00e4-.net", False),
        (MAILTRAP, "\u00fc@example.net", False),
        (PAUBOX, "\u00fc@example.net", False),
        (PAUBOX, '"a b"@example.net', True),
        (MAILTRAP, "a@-\u00e4-.net", False),
    ],
)
def test_forms_of_address(preset: Preset, address: str, expected: bool) -> None:
    """Where nobody says what a provider takes, its server is asked; what needs SMTPUTF8 no provider takes."""
    assert expected is refused.takes(preset.dialect, address)
    assert refused.takes("", address)


NEEDS_UTF8 = "From: J\u00f6rg <app@b\u00fccher.example>\r\nTo: ann@m\u00fcller.example\r\n{more}\r\nhi\r\n"


@pytest.mark.parametrize("name", ALL)
async def test_domains_beyond_ascii(tmp_path: Path, name: str) -> None:
    """No provider offers SMTPUTF8: a mail that was handed in with it goes with A-labels, where nothing else is in need of it."""
    server = SmtpServer()
    data = NEEDS_UTF8.format(more="").replace("J\u00f6rg", "App").encode()
    one = job("ann@m\u00fcller.example", data=data, sender="app@b\u00fccher.example", smtputf8=True)
    async with door(ALL[name], server, tmp_path) as transport:
        [preview] = await transport.preview(one)
        assert (await only(transport, one)).verdict is Verdict.OK
    [mail] = server.mails
    assert [b"<ann@xn--mller-kva.example>"] == mail.rcpts
    assert mail.mail.startswith(b"<app@xn--bcher-kva.example>")
    assert b"From: App <app@xn--bcher-kva.example>\r\nTo: ann@xn--mller-kva.example\r\n" in mail.message
    assert preview.body == mail.message


async def test_domains_in_address_fields_for_amazon_ses(tmp_path: Path) -> None:
    """It reads the address fields, so their domains go as A-labels though the mail asks for no SMTPUTF8; others get it as it is."""
    data = NEEDS_UTF8.format(more="Subject: Gr\u00fc\u00dfe\r\n").encode()
    for preset, written in ((SES, "<app@xn--bcher-kva.example>\r\nTo: ann@xn--mller-kva.example\r\n"), (MAILTRAP, data.decode())):
        server = SmtpServer()
        async with door(preset, server, tmp_path) as transport:
            assert (await only(transport, job(data=data))).verdict is Verdict.OK
        assert written in server.mails[0].message.decode()
        assert "Subject: Gr\u00fc\u00dfe" in server.mails[0].message.decode()


async def test_a_list_without_white_space(tmp_path: Path) -> None:
    """No line leaves that is longer than 998 octets where an address list can be folded behind its commas."""
    names = ",".join(f"somebody.{number}@example.net" for number in range(130))
    server = SmtpServer()
    async with door(SES, server, tmp_path) as transport:
        assert (await only(transport, job(data=f"From: a@example.com\r\nTo: {names}\r\n\r\nhi\r\n".encode()))).verdict is Verdict.OK
    assert 998 >= max(map(len, server.mails[0].message.split(b"\r\n")))
    assert names == header.first(server.mails[0].message, "to").decode().replace(", ", ",")


async def test_a_smarthost_without_smtputf8() -> None:
    """To any server without SMTPUTF8 domains go as A-labels, in envelope and header; to one that has it all goes as it is."""
    data = NEEDS_UTF8.format(more="").replace("J\u00f6rg", "App").encode()
    for extensions, there in ((("8BITMIME",), b"To: ann@xn--mller-kva.example\r\n"), (("8BITMIME", "SMTPUTF8"), data)):
        server = SmtpServer(extensions=extensions)
        async with smarthost(server) as transport:
            assert (await only(transport, job("ann@m\u00fcller.example", data=data, smtputf8=True))).verdict is Verdict.OK
        assert there in server.mails[0].message


@pytest.mark.parametrize(("name", "who"), [("ses", "Amazon SES"), ("postmark", "Postmark"), ("mailtrap", "Mailtrap"), ("paubox", "Paubox")])
@pytest.mark.parametrize("sender", ["j\u00f6rg@example.com", "app@example.com"])
async def test_what_needs_smtputf8_goes_another_way(name: str, who: str, sender: str) -> None:
    """What no provider's server takes is known before one is asked, so that the next provider of the route may carry it, and a
    preview says so."""
    transport = Smtp(by_preset(ALL[name], provider="p", hostname="h"))
    one = job(data=NEEDS_UTF8.format(more="").encode(), sender=sender, smtputf8=True)
    for look in (transport.prepare, transport.preview):
        with pytest.raises(CannotCarry) as caught:
            await look(one)
        assert ((f"the message needs SMTPUTF8, which {who} does not offer",), "5.6.7") == (caught.value.reasons, caught.value.status)


@pytest.mark.parametrize("name", ALL)
async def test_one_recipient_who_needs_smtputf8(tmp_path: Path, name: str) -> None:
    """He is refused by himself, and the others get theirs."""
    server = SmtpServer()
    async with door(ALL[name], server, tmp_path) as transport:
        found = await send(transport, job("a@example.net", "j\u00f6rg@example.net"))
    assert [Verdict.OK, Verdict.PERM_RCPT] == [outcome.verdict for outcome in found.values()]
    assert [[b"<a@example.net>"]] == [mail.rcpts for mail in server.mails]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"Subject: x\r\n\r\n", "there is no From address"),
        ("From: j\u00f6rg@example.com\r\n\r\n".encode(), "the From address is not one that Amazon SES takes"),
        ("From: a@example.com\r\nTo: j\u00f6rg@example.com\r\n\r\n".encode(), "the To field has an address that is not ASCII"),
        (
            b"From: a@example.com\r\nX-Long: " + b"x" * 999 + b"\r\n\r\n",
            "a header line of 1,007 octets cannot be folded; Amazon SES takes 998",
        ),
    ],
)
async def test_headers_that_amazon_ses_refuses(data: bytes, reason: str) -> None:
    """What its API would not take is not sent by SMTP either: another provider of the route may carry it."""
    with pytest.raises(CannotCarry) as caught:
        await Smtp(by_preset(SES, provider="p", hostname="h")).prepare(job(data=data))
    assert ((reason,), "5.6.3") == (caught.value.reasons, caught.value.status)
    assert 1 == len(await Smtp(by_preset(MAILTRAP, provider="p", hostname="h")).prepare(job(data=data)))


@pytest.mark.parametrize("name", ["smime-signed", "pgp-encrypted", "alternative"])
@pytest.mark.parametrize("extensions", [("8BITMIME",), ()])
async def test_signed_mail_is_not_tracked(tmp_path: Path, name: str, extensions: tuple[str, ...]) -> None:
    """Postmark rewrites what it tracks: over configuration and app, what is signed or encrypted is not tracked."""
    preset = presets.postmark("news", "canary-token", track_opens=True, track_links="HtmlAndText")
    data = "X-PM-TrackOpens: true\r\nX-PM-Tag: gr\u00f6\u00dfe\r\n".encode() + messages.BY_NAME[name].data
    server = SmtpServer(extensions=extensions)
    async with door(preset, server, tmp_path) as transport:
        hidden = [Edit(EditKind.REMOVE, "x-pm-trackopens"), Edit(EditKind.REMOVE, "x-pm-tag")]
        [preview] = await transport.preview(job(data=data, edits=hidden))
        assert (await only(transport, job(data=data, edits=hidden))).verdict is Verdict.OK
    [mail] = server.mails
    sealed = name != "alternative"
    assert [not sealed, not sealed] == [field in mail.message for field in (b"TrackOpens: true", b"TrackLinks: HtmlAndText")]
    assert [sealed, sealed] == [field in mail.message for field in (b"X-PM-TrackOpens: false\r\n", b"X-PM-TrackLinks: None\r\n")]
    lost = ["tracking is left out: it would break what is signed or encrypted"] if sealed else []
    assert lost == [loss.what for loss in preview.losses]


async def test_a_size_that_grows_in_sending(tmp_path: Path) -> None:
    """Postmark announces twice what it keeps: the limit holds for the message as it leaves, too."""
    text = b"From: a@example.com\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "\u00e9".encode() * 300 + b"\r\n"
    server = SmtpServer(extensions=("8BITMIME", "SIZE 20480000"))
    async with door(replace(POSTMARK, max_size=800), server, tmp_path) as transport:
        outcome = await only(transport, job(data=text))
    assert (Verdict.PERM_MSG, "5.3.4") == (outcome.verdict, outcome.status)
    assert "the server takes 800" in outcome.reply
    assert [] == server.mails


def test_the_largest_message_of_the_configuration() -> None:
    """The configuration's size takes the place of the preset's."""
    assert 10 * 1024 * 1024 == by_preset(POSTMARK, provider="p", hostname="h").max_size
    assert 30_000_000 == by_preset(MAILTRAP, provider="p", hostname="h", max_size=30_000_000).max_size


@given(st.sampled_from(["postmark", "ses", "mailtrap", ""]), st.binary(max_size=300))
def test_whatever_comes_is_looked_at(dialect: str, octets: bytes) -> None:
    """Looking for what a provider drops raises for no message."""
    refused.by_header(dialect, octets)
    refused.by_content(dialect, b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + octets)
    refused.takes(dialect, octets.decode("latin-1"))
