"""Whom a request reaches, whom it shows and what leaves with it, for any header and any envelope, by every provider and each of its ways.

Requests are read back without relay's own code: addresses by the standard library, SendEmail by Amazon's model of it, commands by
what they say. A header is built from people, so that it is known whom it shows.
"""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.headerregistry import HeaderRegistry
from typing import Any, NamedTuple, NoReturn, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import edits, header
from relay.errors import CannotCarry
from relay.model import Client, Envelope, Job, Recipient
from relay.transports import presets
from relay.transports.base import Transport
from relay.transports.http import Http
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp
from relay.transports.smtp.message import BEST, Plan, transaction, whole
from relay.transports.smtp.settings import SmtpSettings, by_preset
from tests import sesv2_model
from tests.jobs import MemoryMessage

EXAMPLES = 50  # for each way; 600 were tried
URL = "http://127.0.0.1:9"  # nothing is sent
QUEUE_ID = "687E7641C64007"
STREAMS = {"news": "newsletters", "bulk": "broadcasts"}
ALL = ("relay", "postmark", "ses", "mailtrap")
CONTROLS = {"open": ALL}  # the listener `closed` obeys none
PREFIXES = {"ses": "x-ses-", "postmark": "x-pm-", "mailtrap": "x-mt-", "paubox": "x-relay-id", "": "\0"}


# --- what a request says, read back ---


@dataclass
class Said:
    """One request or transaction: whom it reaches, whom it shows, and every name and value that stands in a header or a field."""

    reaches: list[str]
    shows: list[str]
    values: list[str]
    names: list[str] = field(default_factory=list)  # of header fields


def addresses(text: str) -> list[tuple[str, str]]:
    """(name, address) of each mailbox in a list, by the standard library; what it finds wrong with the list fails the test."""
    found = cast(Any, HeaderRegistry()("To", text))
    assert not found.defects, (text, found.defects)
    assert not any(group.display_name for group in found.groups), text
    return [(one.display_name, one.addr_spec) for one in found.addresses]


def constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def strings(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from (name, *strings(one))
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name not in names}


def by_postmark(body: dict[str, Any]) -> Said:
    """And holds it against Postmark's limits."""
    lists = {name: [address for _, address in addresses(body[name])] for name in ("To", "Cc", "Bcc") if name in body}
    assert lists["To"]
    assert sum(map(len, lists.values())) <= 50
    assert len(addresses(body["From"])) == 1
    assert len(body["From"]) <= 255
    assert len(body.get("Subject", "")) <= 2000
    assert len(body.get("Tag", "")) <= 1000
    assert len(body["Metadata"]) <= 10
    assert all(len(name) <= 20 and len(value) <= 80 for name, value in body["Metadata"].items())
    assert body.keys() & {"TextBody", "HtmlBody", "TemplateId", "TemplateAlias"}
    assert not (body.keys() & {"TemplateId", "TemplateAlias"} and body.keys() & {"TextBody", "HtmlBody", "Subject"})
    names = [one["Name"] for one in body.get("Headers", ())]
    texts = list(strings(without(body, "TextBody", "HtmlBody", "TemplateModel")))
    return Said([one for several in lists.values() for one in several], [*lists["To"], *lists.get("Cc", ())], texts, names)


def by_mailtrap(body: dict[str, Any]) -> Said:
    """And holds it against Mailtrap's limits."""
    lists = {name: [one["email"] for one in body[name]] for name in ("to", "cc", "bcc") if name in body}
    assert all(1 <= len(one) <= 1000 for one in lists.values())
    assert len(lists.keys() & {"to", "cc", "bcc"}) == len(lists) > 0
    for name in ("to", "cc", "bcc"):
        for one in body.get(name, ()):
            assert one.keys() <= {"email", "name"}
            assert addresses(one["email"]) == [("", one["email"])]
    assert len(body.get("category", "")) <= 255
    assert all(isinstance(value, str) for value in body.get("custom_variables", {}).values())
    assert len(json.dumps(body.get("custom_variables", {}))) <= 1000 + 200  # spaces that are not sent
    if "template_uuid" in body:
        assert not body.keys() & {"subject", "text", "html", "category"}
    else:
        assert body["subject"]
        assert body.get("text") or body.get("html")
    headers: dict[str, str] = body.get("headers", {})
    assert len({name.lower() for name in headers}) == len(headers)
    if "Reply-To" in headers:
        assert addresses(headers["Reply-To"])
    names = [name for name in headers if name != "Reply-To"]
    texts = list(strings(without(body, "text", "html", "template_variables")))
    return Said([one for several in lists.values() for one in several], [*lists.get("to", ()), *lists.get("cc", ())], texts, names)


def by_paubox(body: dict[str, Any]) -> Said:
    """And holds it against Paubox's limits."""
    message = body["data"]["message"]
    lists = {name: [addresses(one) for one in message[name]] for name in ("recipients", "cc", "bcc") if name in message}
    assert all(len(one) == 1 for several in lists.values() for one in several)
    reached = {name: [one[0][1] for one in several] for name, several in lists.items()}
    assert reached["recipients"]
    assert sum(map(len, reached.values())) <= 100
    assert message["allowNonTLS"] is False
    assert message["forceSecureNotification"] is False
    headers: dict[str, str] = message["headers"]
    assert len({name.lower() for name in headers}) == len(headers)
    assert headers["subject"].strip()
    assert len(addresses(headers["from"])) == 1
    known = {"subject", "from", "reply-to", "List-Unsubscribe", "List-Unsubscribe-Post"}
    assert all(name in known or name.lower().startswith("x-") for name in headers)
    assert QUEUE_ID == headers["X-Relay-Id"]
    names = [name for name in headers if name not in ("subject", "from", "reply-to", "X-Relay-Id")]
    texts = list(strings({**body["data"], "template_values": "", "message": without(message, "content")}))
    return Said([one for several in reached.values() for one in several], [*reached["recipients"], *reached.get("cc", ())], texts, names)


def by_ses(body: dict[str, Any]) -> Said:
    """And holds it against Amazon's own model."""
    assert [] == sesv2_model.faults(json.dumps(body).encode())
    lists = {name: [addresses(one) for one in several] for name, several in body["Destination"].items()}
    assert all(len(one) == 1 for several in lists.values() for one in several)
    reached = {name: [one[0][1] for one in several] for name, several in lists.items()}
    assert sum(map(len, reached.values())) <= 50
    assert {"EmailTags"} <= body.keys()
    if "Raw" in body["Content"]:
        raw = base64.b64decode(body["Content"]["Raw"]["Data"], validate=True)
        said = by_message(raw)
        assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
        return replace(
            said,
            reaches=[one for several in reached.values() for one in several],
            values=[*said.values, *strings(without(body, "Content"))],
        )
    content = next(iter(body["Content"].values()))
    names = [one["Name"] for one in content.get("Headers", ())]
    texts = list(strings({**body, "Content": without(content, "Body", "TemplateContent", "TemplateData")}))
    shows = [*reached.get("ToAddresses", ()), *reached.get("CcAddresses", ())]
    return Said([one for several in reached.values() for one in several], shows, texts, names)


def by_message(octets: bytes) -> Said:
    """A message that leaves as it is: as a reader of mail sees its header."""
    message = email.message_from_bytes(octets, policy=email.policy.compat32)
    return Said([], [], [], [name.lower() for name in message])


# --- the providers ---


def http() -> Http:
    """A door that is never opened."""
    return Http(base_url=URL, timeout=1.0, concurrency=1)


def preset(dialect: str, found: presets.Preset) -> SmtpSettings:
    streams = {} if dialect == "paubox" else {"news": "bulk"} if dialect == "mailtrap" else STREAMS
    made = by_preset(found, provider="one", hostname="relay.test", bounce_from="bounces@example.com", streams=streams, controls=CONTROLS)
    assert made.dialect == dialect
    return made


class Way(NamedTuple):
    """A way to a provider: its transport, how a request of it is read, and which control fields it may carry."""

    transport: Callable[[], Transport]
    read: Callable[[dict[str, Any]], Said] | None = None
    dialect: str = ""


def ses(**more: Any) -> Ses:
    return Ses(SesSettings("one", "eu-west-1", "AKIDEXAMPLE", "fake", base_url=URL, streams=STREAMS, controls=CONTROLS, **more), http())


def lowcode(mode: Any) -> LowCode:
    return LowCode(LowCodeSettings("one", "fake", base_url=URL, content_mode=mode, controls=CONTROLS), http())


def mailtrap(**more: Any) -> Mailtrap:
    settings = MailtrapSettings("one", "fake", base_url=URL, streams={"news": "bulk"}, controls=CONTROLS, **more)
    return Mailtrap(settings, {"transactional": http(), "bulk": http(), "sandbox": http()})


WAYS: Mapping[str, Way] = {
    "postmark": Way(
        lambda: Postmark(PostmarkSettings("one", "0000-fake", base_url=URL, streams=STREAMS, controls=CONTROLS), http()), by_postmark
    ),
    "postmark, losses taken": Way(
        lambda: Postmark(PostmarkSettings("one", "0000-fake", base_url=URL, on_loss="warn", controls=CONTROLS), http()), by_postmark
    ),
    "mailtrap": Way(mailtrap, by_mailtrap),
    "mailtrap, losses taken": Way(lambda: mailtrap(on_loss="warn"), by_mailtrap),
    "mailtrap sandbox": Way(lambda: mailtrap(stream="sandbox", sandbox_id="7"), by_mailtrap),
    "paubox": Way(lambda: Paubox(PauboxSettings("one", "fake", "clinic", base_url=URL, controls=CONTROLS), http()), by_paubox),
    "paubox, losses taken": Way(
        lambda: Paubox(
            PauboxSettings("one", "fake", "clinic", base_url=URL, on_loss="warn", html="plain", track_opens=True, controls=CONTROLS), http()
        ),
        by_paubox,
    ),
    "ses raw": Way(ses, by_ses),
    "ses simple": Way(lambda: ses(content_mode="simple", on_loss="warn"), by_ses),
    "lowcodeapi": Way(lambda: lowcode("auto"), by_ses),
    "lowcodeapi simple": Way(lambda: lowcode("simple"), by_ses),
    "lowcodeapi raw": Way(lambda: lowcode("raw"), by_ses),
    "ses by SMTP": Way(lambda: Smtp(preset("ses", presets.ses("eu-west-1", "AKIDEXAMPLE", "fake"))), None, "ses"),
    "mailtrap by SMTP": Way(lambda: Smtp(preset("mailtrap", presets.mailtrap("transactional", "fake"))), None, "mailtrap"),
    "postmark by SMTP": Way(lambda: Smtp(preset("postmark", presets.postmark("outbound", "0000-fake"))), None, "postmark"),
    "paubox by SMTP": Way(lambda: Smtp(preset("paubox", presets.paubox("fake"))), None, "paubox"),
    "smarthost": Way(lambda: Smtp(SmtpSettings("one", "127.0.0.1", 25, "relay.test", tls="none", controls=CONTROLS))),
}
TRANSPORTS = {name: way.transport() for name, way in WAYS.items()}
_RCPT = re.compile(rb"RCPT TO:<([^\r\n]*)>\r\n")


async def said(name: str, job: Job) -> list[tuple[Job, Said | None]]:
    """What leaves for a job by one way, request for request; None for one that is never sent."""
    way, transport = WAYS[name], TRANSPORTS[name]
    found: list[tuple[Job, Said | None]] = []
    for part in await transport.prepare(job):
        plan = cast(Any, part.plan)
        if plan.refusal:
            found.append((part, None))
        elif way.read:
            octets = plan.body().whole()
            assert plan.body().size == len(octets)
            found.append((part, way.read(json.loads(octets.decode("utf-8"), parse_constant=constant))))
        else:
            assert isinstance(plan, Plan)
            what = await transaction(part, plan, cast(Smtp, transport)._settings, BEST)
            matches = [_RCPT.fullmatch(command) for command in what.rcpts]
            message = await whole(what)
            said = by_message(message)
            found.append((part, replace(said, reaches=[match[1].decode() for match in matches if match])))
    return found


# --- any header, any envelope ---


@dataclass(frozen=True)
class Mail:
    """A message, its envelope, and the addresses that To and Cc show."""

    data: bytes
    recipients: tuple[str, ...]
    shown: frozenset[str]
    reverse_path: str
    listener: str


PLAIN = ("ann@example.net", "bob@example.net", "cat@example.org", "dan+tag@example.net", "o'hara@example.org", "eve.x@sub.example.com")
ODD = (
    '"a b"@example.com',
    '"a,b"@example.com',
    '"<x>"@example.com',
    "x@[192.0.2.1]",
    "x@[IPv6:2001:db8::1]",
    "who@under_score.example",
    "who@localhost",
    "a?b@example.net",
    "`id`@example.net",
    "Ann@example.net",
    "ANN@EXAMPLE.NET",
    "x@xn--mller-kva.example",
    "postmaster",
    "=x=@example.net",
)
MANY = tuple(f"user{number}@example.net" for number in range(130))
NAMES = (
    "",
    "Ann",
    "Doe, Ann",
    "J\u00f6rg \U0001f600",
    'the "one"',
    "back\\slash",
    "hidden@example.net",
    "x <hidden@example.net>, y",
    "a;b:c",
    "(hidden@example.net)",
    "=?utf-8?q?x=2C_hidden=40example=2Enet?=",
    "=?utf-8?b?PGhpZGRlbkBleGFtcGxlLm5ldD4sIA==?=",
    "a\r\nBcc: hidden@example.net",
    "nul\0nel\x85ls\u2028",
    "right \u202eto left",
    "A" * 300,
)


def worded(text: str) -> str:
    """As an encoded word."""
    return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


def quoted(text: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", re.sub(r"[\x00-\x1f\x7f]", " ", text))
    return f'"{escaped}"'


FORMS: Sequence[Callable[[str, str], str]] = (
    lambda name, address: address,
    lambda name, address: f"<{address}>",
    lambda name, address: f"{worded(name)} <{address}>",
    lambda name, address: f"{quoted(name)} <{address}>",
    lambda name, address: f"{quoted(name)}<{address}>",
    lambda name, address: f"{address} (hidden@example.net)",
    lambda name, address: f"(a comment, (nested) with a comma) <{address}>",
    lambda name, address: f"{quoted(name)}\r\n\t<{address}>",
    lambda name, address: f"g{worded(name)[2:6]}: <{address}>;",
    lambda name, address: f'"hidden@example.net" {worded(name)} <{address}>',
)
people = st.tuples(st.sampled_from(NAMES), st.sampled_from(PLAIN + ODD), st.sampled_from(FORMS))


@st.composite
def address_field(draw: st.DrawFn, name: str) -> tuple[str, list[str]]:
    """A field with a list of people, and their addresses."""
    listed = draw(st.lists(people, max_size=4))
    if draw(st.integers(0, 30)) == 0:
        listed = [("", address, FORMS[0]) for address in MANY]
    joint = draw(st.sampled_from([", ", ",", ",\r\n ", ",, ", " , "]))
    text = joint.join(form(person, address) for person, address, form in listed)
    spelt = draw(st.sampled_from([name, name.upper(), name.lower(), f"{name} "]))
    return f"{spelt}: {text or draw(st.sampled_from(['undisclosed-recipients:;', '', ';', 'nobody']))}\r\n", [box[1] for box in listed]


VALUES = st.one_of(
    st.sampled_from(
        [
            "x",
            "true",
            "no",
            "HtmlOnly",
            "news",
            "bulk",
            "transactional",
            "../x",
            "a b",
            "a\tb",
            "category=a, k=v",
            "k=\u00fc",
            "list; topic=t",
            "contactListName=l; topicName=t",
            "arn:aws:ses:eu-west-1:1:identity/example.com",
            "11111111-2222-3333-4444-555555555555",
            "7",
            "inline",
            '{"a": "b\\r\\nBcc: x", "\\u0000": "\\ud800"}',
            '{"a": 1e999}',
            '{"a": 1.5, "b": [1, {"c": null}], "d": true}',
            '{"' + "k" * 300 + '": "' + "v" * 900 + '"}',
            '{"a":' * 995 + "1" + "}" * 995,
            "[" * 990 + "]" * 990,
            "=?utf-8?q?a=0D=0ABcc:_hidden=40example.net?=",
            "=?utf-8?b?AA==?=",
            "x" * 300,
            "\U0001f600" * 130,
            "x" * 1100,
        ]
    ),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=90),
)
CONTROL_NAMES = st.one_of(
    st.sampled_from(
        [
            *(
                f"X-Relay-{name}"
                for name in ("Tag", "Stream", "Track-Opens", "Track-Links", "Configuration-Set", "Id", "Other", "Metadata-")
            ),
            *("X-PM-Tag", "X-PM-Message-Stream", "X-PM-TrackOpens", "X-PM-Track-Links", "X-PM-KeepID", "X-PM-Other"),
            *(
                "X-SES-Configuration-Set",
                "X-SES-Message-Tags",
                "X-SES-Source-ARN",
                "X-SES-List-Management-Options",
                "X-SES-Tenant",
                "X-SES-X",
            ),
            *("X-MT-Category", "X-MT-Custom-Variables", "X-MT-Other"),
            *("X-Relay-Template", "X-Relay-Template-Model", "X-Relay-Inline-Css"),
        ]
    ),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["X-Relay-Metadata-", "X-PM-Metadata-", "x-pm-metadata-"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=30),
        ),
    ),
)
FURTHER = st.sampled_from(
    [
        "Subject: =?utf-8?q?hello=0D=0ABcc:_hidden=40example.net?=",
        "Subject: hello",
        "Subject: " + "long " * 450,
        "Reply-To: ann@example.net, =?utf-8?q?=22=3Chidden=40example.net=3E?= <bob@example.net>",
        "Reply-To: \u00e4@example.net",
        "Sender: office@example.com",
        "Return-Path: <hidden@example.net>",
        "Resent-Bcc: hidden@example.net",
        "bCC\t: hidden@example.net",
        "In-Reply-To: <1@example.com>",
        "References: <1@example.com> <2@example.com>",
        "List-Unsubscribe: <https://example.com/u>",
        "List-Unsubscribe: =?utf-8?q?=3Chttps://example.com/u=0D=0ABcc:_x=3E?=",
        "X-Own: =?utf-8?q?a=0D=0ABcc:_hidden=40example.net?=",
        "X-Own: " + "\u00fc" * 400,
        'X-"}],"Bcc":[{"email":"hidden@example.net"}: x',
        "X-Long-" + "n" * 200 + ": x",
        "Message-ID: <1@example.com>",
        "Date: Fri, 20 Nov 2026 10:00:00 +0000",
        "MIME-Version: 1.0",
        "From : two@example.com",
        "no field at all",
        "X-Mailer: \x00\x0b\x7f",
    ]
)
FILE_NAMES = st.sampled_from(
    [
        "a.pdf",
        "../../etc/passwd",
        "=?utf-8?q?a=0D=0ABcc:_x.pdf?=",
        "a%0D%0Ab.pdf",
        'a\\"; x=\\"b.pdf',
        "\u202efdp.exe",
        "n" * 400 + ".pdf",
        "a.exe. ",
        "\u00fc" * 200 + ".pdf",
        "",
    ]
)
TYPES = st.sampled_from(
    [
        "application/pdf",
        "image/png",
        'text/csv; charset="utf-8; x=y"',
        "text/plain; charset==?utf-8?q?a=0D=0Ab?=",
        "a/" + "b" * 100,
        "message/rfc822",
        'text/calendar; method="REQUEST\x0b"',
        "x/=?utf-8?q?a=0D=0Ab?=",
    ]
)
CIDS = st.sampled_from(["logo@example.com", "a\x0bb@x", "=?utf-8?q?a=0D=0Ab?=", "c" * 100, '"><x'])


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """The MIME fields of a message, and its content."""
    kind = draw(st.sampled_from(["plain", "html", "mixed", "none", "8bit"]))
    if kind in ("plain", "html"):
        return f"Content-Type: text/{kind}; charset=utf-8\r\n\r\n{draw(st.sampled_from(['hello', '', ' ']))} \x00\r\n"
    if kind == "none":
        return draw(st.sampled_from(["", "\r\n", "\r\nhello\r\n"]))
    if kind == "8bit":
        return "Content-Type: text/plain; charset=utf-8\r\n\r\n\u00fc" + "long " * draw(st.sampled_from([1, 300])) + "\r\n"
    cid = draw(CIDS)
    file = (
        f'Content-Type: {draw(TYPES)}\r\nContent-ID: <{cid}>\r\nContent-Disposition: attachment; filename="{draw(FILE_NAMES)}"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n"
    )
    text = f'Content-Type: text/html\r\n\r\n<img src="cid:{cid}">\r\n'
    return f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{text}--b\r\n{file}--b--\r\n"


@st.composite
def mails(draw: st.DrawFn) -> Mail:
    """Any mail."""
    author = draw(
        st.sampled_from(['"App, the" <app@example.com>', "app@example.com", f"{worded(draw(st.sampled_from(NAMES)))} <app@example.com>"])
    )
    found = [f"From: {author}\r\n"]
    shown: set[str] = set()
    for name in draw(st.lists(st.sampled_from(["To", "Cc", "Bcc"]), max_size=4)):
        text, there = draw(address_field(name))
        found.append(text)
        shown |= set(there) if name != "Bcc" else set()
    pairs = draw(st.lists(st.tuples(CONTROL_NAMES, VALUES), max_size=6))
    if draw(st.integers(0, 3)):  # a template makes every other thing of a mail another
        pairs = [(name, value) for name, value in pairs if "template" not in name.lower()]
    found += [f"{name}: {value}\r\n" for name, value in pairs]
    found += [f"{line}\r\n" for line in draw(st.lists(FURTHER, max_size=4))]
    found = [found[0], *draw(st.permutations(found[1:]))]
    octets = ("".join(found) + draw(bodies())).encode()
    envelope = draw(st.lists(st.sampled_from(PLAIN + ODD), min_size=1, max_size=8, unique=True))
    if draw(st.integers(0, 30)) == 0:
        envelope += MANY
    return Mail(
        octets,
        tuple(envelope),
        frozenset(shown),
        draw(st.sampled_from(["app@example.com", ""])),
        draw(st.sampled_from(["", "open", "closed"])),
    )


def accepted(mail: Mail) -> Job:
    """The mail as delivery has it."""
    recipients = tuple(map(Recipient, mail.recipients))
    envelope = Envelope(mail.reverse_path, recipients)
    client = Client(listener=mail.listener, address="127.0.0.1", helo="app")
    block, body = header.cut(mail.data)
    changes = edits.decide(
        block, queue_id=QUEUE_ID, hostname="relay.test", client=client, envelope=envelope, arrived=0.0, ended=body > len(block)
    )
    return Job(QUEUE_ID, envelope, recipients, changes, MemoryMessage(mail.data), listener=mail.listener)


CONTROLLED = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
HIDDEN = re.compile(r"(?:resent-)?bcc|return-path|x-(?:ses|mt|pm|relay)-.*", re.I)


def folded(address: str) -> str:
    """With the domain in lower case."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}" if at else address


def check(name: str, mail: Mail) -> bool:
    """What must hold of a mail by one way; whether it was carried."""
    way = WAYS[name]
    try:
        found = asyncio.run(said(name, accepted(mail)))
    except CannotCarry as error:
        reasons = error.reasons
        assert reasons
        assert all(reasons)
        return False
    assert sorted(mail.recipients) == sorted(one.address for part, _ in found for one in part.recipients)
    shown = {address.lower() for address in mail.shown}
    for part, request in found:
        if request is None:
            continue
        assert sorted(folded(one.address) for one in part.recipients) == sorted(map(folded, request.reaches))
        if len(request.reaches) > 1:
            assert {address.lower() for address in request.shows} <= shown
        assert [] == [text for text in request.values if CONTROLLED.search(text)]
        assert [] == [
            one for one in request.names if HIDDEN.fullmatch(one) and not (way.dialect and one.lower().startswith(PREFIXES[way.dialect]))
        ]
    return True


@pytest.mark.parametrize("name", WAYS)
@settings(deadline=None, max_examples=EXAMPLES)
@given(mail=mails())
def test_any_mail(name: str, mail: Mail) -> None:
    """Each recipient is reached once, nobody hidden is shown, no control field leaves, and what is said is within all limits."""
    check(name, mail)
